"""The figures of a segmentation study say ours and the paper's, with intervals, and show people only where they may."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from sarco_models.agreement import agreement
from sarco_models.correlation import Expected, Paired, correlate
from server.muscle_figures import (
    AgreementPanel,
    CorrelationPanel,
    agreement_figure,
    correlation_figure,
    draw_muscle_figures,
    signed,
)
from server.paper.published_muscles import CORRELATIONS, PrintedCorrelation, printed_for

NOBODY = np.empty(0)


def correlation_panel(
    printed: PrintedCorrelation | None = CORRELATIONS[0], sign: float = 1.0, expected: Expected = "rises"
) -> CorrelationPanel:
    rng = np.random.default_rng(0)
    x = rng.normal(14, 3, 19)
    y = 45 + sign * (x - 14) + rng.normal(0, 2, 19)
    found = correlate(Paired([str(k) for k in range(19)], x, y), rng, expected)
    return CorrelationPanel("Rectus femoris", "Thickness, mm", "Total fat-free mass, kg", found, printed, x, y)


def agreement_panel(images: int = 4) -> AgreementPanel:
    rng = np.random.default_rng(1)
    ids = [str(k) for k in np.repeat(np.arange(19), images)]
    b = np.repeat(rng.normal(14, 3, 19), images)
    a = b + 0.2 + rng.normal(0, 0.5, b.size)
    return AgreementPanel("Rectus femoris", "thickness", "mm", agreement(a, b, ids), a, b)


def words(figure: Figure | None) -> str:
    assert figure is not None
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    titles = [axes.get_title(loc=place) for axes in figure.axes for place in ("left", "center")]
    supertitle = figure.get_suptitle() + figure.get_supxlabel()
    return "\n".join([*texts, *titles, supertitle])


def points(figure: Figure | None) -> int:
    assert figure is not None
    return max(len(line.get_xdata()) for axes in figure.axes for line in axes.lines)  # type: ignore[arg-type]


def test_ours_stands_beside_what_is_printed() -> None:
    panel = correlation_panel()
    text = words(correlation_figure([panel]))
    r = panel.found.pearson.r
    assert f"ours r = {r.value:.2f} ({r.low:.2f} to {r.high:.2f}), n = 19" in text
    assert "paper r = 0.4223, P < 0.001" in text
    assert "it gives no interval" in text


def test_the_grey_bars_are_the_printed_r_for_94_and_for_19_people() -> None:
    figure = correlation_figure([correlation_panel()])
    assert figure is not None
    bars = [line.get_xdata() for line in figure.axes[-1].lines if line.get_color() == "#b9bec4"]
    assert [tuple(np.round(np.asarray(bar, dtype=float), 2)) for bar in bars] == [(-0.04, 0.74), (0.24, 0.58)]


def test_a_muscle_that_the_paper_has_no_number_of_stands_alone() -> None:
    text = words(correlation_figure([correlation_panel(None)]))
    assert "ours r" in text
    assert "paper r" not in text


def test_a_sign_against_what_is_expected_is_marked() -> None:
    falling = correlation_panel(sign=-1.0)
    assert falling.found.verdict == "against what is expected"
    assert "n = 19  (!)" in words(correlation_figure([falling]))
    assert "n = 19  (!)" not in words(correlation_figure([correlation_panel(sign=-1.0, expected="falls")]))
    assert f"ours r = {signed(falling.found.pearson.r.value)}" in words(correlation_figure([falling]))


def test_a_printed_sign_against_what_is_expected_is_marked_too() -> None:
    """More peroneus with slower chair stands (SCIENCE I33)."""
    assert "paper r = 0.7480, P < 0.001  (!)" in words(correlation_figure([correlation_panel(CORRELATIONS[3])]))
    assert "P < 0.001  (!)" not in words(correlation_figure([correlation_panel()]))


def test_without_people_the_coefficients_remain() -> None:
    shown = correlation_panel()
    hidden = replace(shown, x=NOBODY, y=NOBODY)
    assert points(correlation_figure([shown])) == 19
    assert points(correlation_figure([hidden])) <= 2
    assert "Thickness, mm – Total fat-free mass, kg" in words(correlation_figure([hidden]))
    pair = agreement_panel()
    assert points(agreement_figure([pair])) == 76
    assert points(agreement_figure([replace(pair, a=NOBODY, b=NOBODY)])) <= 2


def test_limits_are_printed_with_their_intervals() -> None:
    panel = agreement_panel()
    text = words(agreement_figure([panel]))
    for estimate in (panel.found.limits.bias, panel.found.limits.lower, panel.found.limits.upper):
        assert f"{signed(estimate.value)}\n({signed(estimate.low)} to {signed(estimate.high)})" in text
    icc = panel.found.icc
    assert f"ICC {icc.value:.3f} ({icc.low:.3f} to {icc.high:.3f})" in text


def test_no_difference_lies_beyond_the_figure() -> None:
    panel = agreement_panel()
    panel.a[5] += 9.0
    figure = agreement_figure([panel])
    assert figure is not None
    assert figure.axes[0].get_ylim()[1] > 9.0


@pytest.mark.parametrize(("value", "text"), [(-0.5, "−0.50"), (-0.001, "0.00"), (0.0, "0.00"), (12.5, "12.50")])
def test_numbers_have_a_true_minus_and_no_minus_nought(value: float, text: str) -> None:
    assert signed(value) == text


def test_synthetic_people_are_said_to_be_synthetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (said.append(words(self)), path.touch()))
    panels = {"correlations": [correlation_panel()], "agreements": [agreement_panel()]}
    draw_muscle_figures(tmp_path, **panels, synthetic=True, calibrated=True)  # type: ignore[arg-type]
    assert "SYNTHETIC DATA: the synthetic people were made with the paper's correlations" in said[0]
    assert "SYNTHETIC DATA" in said[1]
    said.clear()
    draw_muscle_figures(tmp_path, **panels, synthetic=False)  # type: ignore[arg-type]
    assert not any("SYNTHETIC" in each for each in said)


def test_files_are_written_and_those_of_an_earlier_run_removed(tmp_path: Path) -> None:
    drawn = draw_muscle_figures(tmp_path, correlations=[correlation_panel()], synthetic=True)
    assert list(drawn) == ["correlations"]
    assert drawn["correlations"].read_bytes().startswith(b"\x89PNG")
    assert draw_muscle_figures(tmp_path, synthetic=True) == {}
    assert not list(tmp_path.iterdir())
    assert correlation_figure([]) is None
    assert agreement_figure([]) is None


# --- what is printed --------------------------------------------------------------------------------------------------


def test_the_printed_correlations_are_those_of_the_abstract() -> None:
    """SCIENCE 1.5."""
    assert {c.muscle: (c.outcome, c.r.value, c.p.value, c.p.below) for c in CORRELATIONS} == {
        "rectus_femoris": ("fat_free_mass_kg", 0.4223, 0.001, True),
        "triceps_brachii": ("muscle_mass_kg", 0.7849, 0.001, True),
        "biceps_brachii": ("muscle_mass_kg", 0.8212, 0.001, True),
        "peroneus_longus_brevis": ("sit_to_stand_s", 0.7480, 0.001, True),
    }
    assert [c.expected for c in CORRELATIONS] == ["rises", "rises", "rises", "falls"]
    assert [c.measure for c in CORRELATIONS] == ["thickness_mm", None, None, None]


def test_every_printed_number_has_its_source_and_its_notes() -> None:
    from server.paper.published_muscles import DICE, GROUPS, MUSCLES, NOTES, PEOPLE

    assert sum(GROUPS.values()) == PEOPLE
    assert [d.value for d in DICE] == [0.826, 0.920]
    for correlation in CORRELATIONS:
        assert correlation.muscle in MUSCLES
        assert correlation.r.source.startswith("abstract: ")
        assert set(correlation.notes) <= set(NOTES)
    assert printed_for("rectus_femoris", "fat_free_mass_kg") is CORRELATIONS[0]
    assert printed_for("rectus_abdominis", "fat_free_mass_kg") is None


def test_the_synthetic_people_are_named_as_the_printed_ones() -> None:
    from server.paper.published_muscles import MUSCLES
    from simulation.anatomy import MUSCLES as ANATOMY

    assert set(MUSCLES) <= set(ANATOMY)
