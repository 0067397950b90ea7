"""The paper's numbers are those of the list in the project's science notes, and say what they contradict."""

import pytest

from sarco_models.comparisons import compare_counts
from sarco_models.intervals import clopper_pearson, wilson
from server.paper.contradictions import NOTES, notes_on
from server.paper.published import (
    COMBINATIONS,
    COMPLETE_CASES,
    CROSS_VALIDATION,
    EXTERNAL,
    FOUND,
    IMAGE_SHARE,
    NETWORK_AUC,
    NETWORK_P,
    P_AGAINST_ALL,
    PROOF_OF_CONCEPT,
    TABLE_1,
    Analysis,
    Count,
    Printed,
    Quartiles,
)

# Spelled out again, so that a slip of the pen in the module is found: sensitivity, specificity, accuracy, AUC, F1.
N357 = {
    "image": (0.733, 0.782, 0.770, 0.827, 0.738),
    "clinical": (0.687, 0.748, 0.730, 0.784, 0.691),
    "lab": (0.508, 0.741, 0.672, 0.646, 0.610),
    "image_clinical": (0.689, 0.791, 0.761, 0.826, 0.721),
    "image_lab": (0.722, 0.794, 0.773, 0.832, 0.737),
    "all": (0.754, 0.799, 0.788, 0.845, 0.754),
}
N271 = {
    "image": (0.808, 0.793, 0.797, 0.851, 0.698),
    "clinical": (0.712, 0.776, 0.758, 0.787, 0.630),
    "lab": (0.506, 0.754, 0.682, 0.666, 0.480),
    "image_clinical": (0.739, 0.821, 0.797, 0.866, 0.679),
    "image_lab": (0.739, 0.798, 0.781, 0.854, 0.662),
    "all": (0.808, 0.832, 0.825, 0.883, 0.728),
}


def row(cells: dict[str, Printed], f1: str) -> tuple[float, ...]:
    return tuple(cells[metric].value for metric in ("sensitivity", "specificity", "accuracy", "auc", f1))


@pytest.mark.parametrize(("analysis", "expected"), [(CROSS_VALIDATION, N357), (COMPLETE_CASES, N271)])
def test_the_performances_are_those_that_the_paper_prints(
    analysis: Analysis, expected: dict[str, tuple[float, ...]]
) -> None:
    assert {model: row(dict(cells), analysis.f1) for model, cells in analysis.models.items()} == expected
    assert list(expected) == [combination.key for combination in COMBINATIONS]


def test_the_validations_are_those_that_the_paper_prints() -> None:
    assert row(dict(EXTERNAL.performance), "f1_positive") == (0.705, 0.794, 0.753, 0.801, 0.727)
    assert row(dict(PROOF_OF_CONCEPT.performance), "f1_positive") == (0.789, 0.825, 0.817, 0.757, 0.666)
    assert {key: cell.value for key, cell in P_AGAINST_ALL.items()} == {
        "image": 0.02,
        "image_clinical": 0.03,
        "image_lab": 0.04,
    }
    shares = {key: [cell.value for cell in of.values()] for key, of in IMAGE_SHARE.items()}
    assert shares == {"paper": [0.787, 0.823], "complete_cases": [0.810, 0.795]}
    assert {name: cell.value if cell else None for name, cell in NETWORK_AUC.items()} == {
        "convnext": 0.827,
        "swin": 0.835,
        "efficientnet": None,
    }
    assert (NETWORK_P.value, FOUND["all"].value, FOUND["image"].value) == (0.10, 77, 74)


def test_table_1_is_the_one_that_the_paper_prints() -> None:
    rows = TABLE_1
    assert len(rows) == 12 + 14, "clinical rows, the four that define the label among them, and laboratory rows"
    assert rows["age_years"].positive == Quartiles(72.00, 66.00, 80.50)
    assert rows["calf_circumference_cm"].negative == Quartiles(35.00, 22.48, 26.90), "the misprint, as printed"
    assert rows["vitd_25oh_ng_per_ml"].positive == Quartiles(21.10, 27.37, 29.63), "the misprint, as printed"
    assert rows["diabetes"].negative == Count(208, 256)
    assert rows["tsh_miu_per_l"].p == Printed(0.03, "Table 1: TSH, mIU/L, P")
    assert rows["albumin_g_per_l"].p.below
    assert not rows["weight_kg"].p.below


def test_every_number_names_its_cell_once() -> None:
    cells = [c for a in (CROSS_VALIDATION, COMPLETE_CASES) for of in a.models.values() for c in of.values()]
    cells += [*EXTERNAL.performance.values(), *PROOF_OF_CONCEPT.performance.values(), *P_AGAINST_ALL.values()]
    cells += [row.p for row in TABLE_1.values()]
    assert len({cell.source for cell in cells}) == len(cells) == 60 + 10 + 3 + 26


# --- what contradicts itself ------------------------------------------------------------------------------------------


def f1_of(cells: dict[str, Printed], positives: int, negatives: int) -> tuple[float, float]:
    """(positive, macro) F1 that printed sensitivity and specificity imply."""
    found, spared = cells["sensitivity"].value * positives, cells["specificity"].value * negatives
    positive = 2 * found / (2 * found + (positives - found) + (negatives - spared))
    negative = 2 * spared / (2 * spared + (positives - found) + (negatives - spared))
    return positive, (positive + negative) / 2


@pytest.mark.parametrize("model", N357)
def test_the_printed_f1_of_357_people_fits_the_macro_definition_only(model: str) -> None:
    cells = dict(CROSS_VALIDATION.models[model])
    positive, macro = f1_of(cells, 101, 256)
    assert macro == pytest.approx(cells["f1_macro"].value, abs=0.01)
    assert abs(positive - cells["f1_macro"].value) > 0.05


def test_the_printed_f1_of_the_other_hospitals_fits_the_positive_definition_only() -> None:
    for validation in (EXTERNAL, PROOF_OF_CONCEPT):
        cells = dict(validation.performance)
        positive, macro = f1_of(cells, validation.people.positives or 0, validation.people.negatives or 0)
        assert positive == pytest.approx(cells["f1_positive"].value, abs=0.01)
        assert abs(macro - cells["f1_positive"].value) > 0.02


def test_the_counts_nearest_to_the_external_numbers_have_these_intervals() -> None:
    found = wilson(48, 68)
    assert (round(found.low, 3), round(found.high, 3)) == (0.589, 0.801)
    exact = clopper_pearson(15, 19)
    assert (round(exact.low, 3), round(exact.high, 3)) == (0.544, 0.939)
    assert round(61 / 77, 3) == 0.792 != EXTERNAL.performance["specificity"].value, "I13"


def test_the_printed_point_of_c_needs_a_higher_auc_than_is_printed() -> None:
    cells = PROOF_OF_CONCEPT.performance
    least_of_concave = (cells["sensitivity"].value + cells["specificity"].value) / 2
    assert round(least_of_concave, 3) == 0.807 > cells["auc"].value, "I14"


def test_the_printed_p_of_diabetes_is_pearsons() -> None:
    import numpy as np

    test, p = compare_counts(np.array([[72, 208], [29, 48]]), np.random.default_rng(1))
    assert (test, round(p, 2)) == ("chi_square", TABLE_1["diabetes"].p.value)


def test_every_sign_that_is_used_has_a_note() -> None:
    used = {sign for row in TABLE_1.values() for sign in row.notes}
    used |= {sign for of in (CROSS_VALIDATION, COMPLETE_CASES, EXTERNAL, PROOF_OF_CONCEPT) for sign in of.notes}
    assert used == set(NOTES)
    assert [note.partition(":")[0] for note in notes_on(("I14", "I2", "I14"))] == ["I2", "I14"]
    assert all(len(note) < 280 for note in NOTES.values()), "a footnote is short"
