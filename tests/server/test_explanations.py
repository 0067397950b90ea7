"""What a report says of explanations: means over seeds, verdicts in words, and no picture of a real person."""

from pathlib import Path
from typing import Any

import pytest

from sarco_models.saliency_checks import ADVICE
from server.explanations import TITLE, Section, section, shares_figure
from server.results import Meta, Results
from server.tables import Table


def about(value: float, width: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def layer(*, passed: bool, empty: int = 0) -> dict[str, Any]:
    asked = "leaves the blanked background below 0.05 of its energy"
    verdict = "With cells of 16.0 mm the maps pass all 1 checks." if passed else "With cells of 16.0 mm the maps fail."
    check = {"asked": asked, "passed": passed, **about(0.01 if passed else 0.9, 0.01)}
    return {"empty": empty, "checks": {"background": check}, "failed": [] if passed else ["background"]} | {
        "verdict": verdict
    }


def found(image: float, *, usual_passes: bool = False) -> dict[str, Any]:
    """One seed of one arm, in which the image's share is as given."""
    share = {"image": about(image), "clinical": about(0.9 - image), "lab": about(0.1)}
    auc = {name: {**about(0.7), "difference": about(0.1), "p": 0.02, "p_holm": 0.04} for name in share}
    return {
        "shares": {"sarcopenia": share, "non_sarcopenia": share, "all": share},
        "drop_one_auc": auc,
        "alone_auc": auc,
        "full_auc": about(0.8),
        "features": {f"feature_{k}": about(k / 10, 0.01) for k in range(12)},
        "n": 99,
        "n_positive": 33,
        "n_features_explained": 40,
        "background": 64,
        "scale": "logit",
        "note": "A share is not importance for the AUC.",
        "folds": 1,
        "images": {"n": 48, "layers": {"32": layer(passed=usual_passes), "8": layer(passed=True, empty=22)}},
    }


def results(*, synthetic: bool = True, **arms: dict[str, Any]) -> Results:
    tables = {"explanation": {name.replace("_at_", ":"): seeds for name, seeds in arms.items()}} if arms else {}
    return Results(Meta(synthetic=synthetic), (), {}, tables)


@pytest.fixture
def run() -> Results:
    return results(federated={"1": found(0.5), "2": found(0.6)}, cv_at_alpha={"1": {**found(0.4), "folds": 5}})


def shown(run: Results, folder: Path | None = None) -> Section:
    made = section(run, folder)
    assert made is not None
    return made


def line(table: Table, first: str, after: str = "") -> list[str]:
    """The cells of the first line that begins so, beneath the divider that begins with ``after``."""
    rows = iter(table.rows)
    if after:
        next(r for r in rows if r.divider.startswith(after))
    cells = next(r.cells for r in rows if r.cells and r.cells[0].main == first)
    return ["; ".join((c.main, *c.below)) for c in cells[1:]]


def test_a_run_without_explanations_has_no_such_section() -> None:
    assert section(results()) is None
    assert shares_figure(results()) is None


def test_shares_are_means_over_seeds_with_their_intervals(run: Results) -> None:
    table = shown(run).tables[0]
    assert line(table, "Ultrasound")[0] == "0.550; 0.450 to 0.650; SD 0.071"
    assert line(table, "Ultrasound", "Cross-validation at Alpha")[0] == "0.400; 0.300 to 0.500"
    assert line(table, "Ultrasound")[3:] == ["–", "–"]  # nobody was called anything
    assert table.rows[0].divider == "Federated: 99 participants, 33 positive"


def test_what_is_lost_without_a_kind_of_data_stands_beside_its_share(run: Results) -> None:
    made = shown(run)
    assert made.title == TITLE
    cells = line(made.tables[1], "Laboratory")
    assert cells[1].startswith("0.700")
    assert cells[2].startswith("+0.100")
    assert cells[3] == "0.040"
    assert line(made.tables[1], "Everything")[0].startswith("0.800")
    assert "A share is not importance for the AUC." in made.paragraphs


def test_the_ten_largest_features_are_shown_and_that_they_are_of_a_subset(run: Results) -> None:
    made = shown(run)
    names = [row.cells[0].main for row in made.tables[2].rows if row.cells][:10]
    assert names == [f"feature_{k}" for k in range(11, 1, -1)]
    assert any("random subset of 40 people" in paragraph for paragraph in made.paragraphs)


def test_a_map_that_fails_is_said_to_fail(run: Results) -> None:
    made = shown(run)
    checks = made.tables[3]
    assert checks.head == ("Asked", "Usual layer", "Finer layer, 1/8")
    asked = "A map leaves the blanked background below 0.05 of its energy"
    assert [cell.split("; ")[-1] for cell in line(checks, asked)] == ["yes in 0 of 2 seeds", "yes in 2 of 2 seeds"]
    assert line(checks, asked, "Cross-validation")[0] == "0.90; 0.89 to 0.91; no"
    assert line(checks, "Maps that are empty") == ["0", "22"]
    words = " ".join(made.paragraphs)
    assert "Usual layer: With cells of 16.0 mm the maps fail." in words
    assert ADVICE in words


def test_a_model_without_images_has_no_heat_maps_and_one_class_has_no_auc() -> None:
    bare = {**found(0.5), "full_auc": None, "drop_one_auc": {}, "alone_auc": {}}
    del bare["images"]
    made = shown(results(federated={"1": bare}))
    assert len(made.tables) == 2
    assert not any("Grad-CAM" in paragraph for paragraph in made.paragraphs)


def test_only_a_cross_validation_speaks_of_folds(run: Results) -> None:
    assert any("cross-validation" in paragraph for paragraph in shown(run).paragraphs)
    alone = shown(results(federated={"1": found(0.5)}))
    assert not any("cross-validation" in paragraph for paragraph in alone.paragraphs)


def test_an_arm_may_have_heat_maps_alone() -> None:
    made = shown(results(federated={"1": {"images": found(0.5)["images"]}}))
    assert [table.head[0] for table in made.tables] == ["Asked"]
    assert not made.figures
    assert made.paragraphs[0].startswith("Grad-CAM, Federated (one seed)")


@pytest.mark.parametrize("synthetic", [True, False])
def test_heat_maps_of_real_people_are_not_shown_even_where_a_file_lies_there(
    tmp_path: Path, *, synthetic: bool
) -> None:
    (tmp_path / "explanation").mkdir()
    seeds = {str(k): found(0.5) for k in (1, 2)}
    for k, seed in seeds.items():
        seed["images"] |= {"picture": f"gradcam_federated-{k}.png"}
        (tmp_path / "explanation" / f"gradcam_federated-{k}.png").write_bytes(b"")
    figures = shown(results(synthetic=synthetic, federated=seeds), tmp_path).figures
    bars, *pictures = figures.values()
    assert isinstance(bars, bytes)
    assert bars[:4] == b"\x89PNG"
    assert pictures == ([tmp_path / "explanation" / "gradcam_federated-1.png"] if synthetic else [])
