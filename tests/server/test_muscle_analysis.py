"""From masks to the table of a paper: what is put in comes out, people count once, what cannot be said is named."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.errors import MissingSpacing
from server.muscle_analysis import COLUMNS, PAIRINGS, MuscleAnalysis, Seen, analyse, look, title_of, write_analysis

MM = (0.2, 0.2)
MUSCLE = "triceps_brachii"
EMPTY: NDArray[np.bool_] = np.zeros((150, 200), dtype=np.bool_)


def ellipse(thickness: float, width: float = 30.0, down: float = 0.0) -> NDArray[np.bool_]:
    y, x = ((np.arange(n) + 0.5) * 0.2 for n in EMPTY.shape)
    return np.asarray((2 * (x[None] - 20) / width) ** 2 + (2 * (y[:, None] - 15 - down) / thickness) ** 2 < 1)


def cohort(people: int = 24, seed: int = 0, bias: float = 0.4) -> tuple[list[Seen], dict[str, dict[str, float]]]:
    """Muscle mass follows the thickness; found masks are thicker by ``bias`` mm."""
    rng = np.random.default_rng(seed)
    seen, persons = [], {}
    for k in range(people):
        size = rng.normal(14, 2.5)
        mass = 26 + 1.2 * (size - 14) + rng.normal(0, 2)
        persons[f"p{k}"] = {"muscle_mass_kg": mass, "age_years": rng.uniform(20, 85), "male": float(k % 2)}
        for _ in range(rng.integers(1, 4)):
            drawn = size + rng.normal(0, 0.3)
            seen.append(look(f"p{k}", MUSCLE, ellipse(drawn + bias + rng.normal(0, 0.2)), ellipse(drawn), MM))
    return seen, persons


@pytest.fixture(scope="module")
def analysis() -> MuscleAnalysis:
    seen, people = cohort()
    return analyse(seen, people, np.random.default_rng(0))


def row(analysis: MuscleAnalysis, about: str, measure: str, statistic: str) -> dict[str, str]:
    (found,) = (r for r in analysis.rows if (r["about"], r["measure"], r["statistic"]) == (about, measure, statistic))
    return found


def test_the_bias_that_was_put_in_comes_out(analysis: MuscleAnalysis) -> None:
    bias = row(analysis, "agreement", "thickness_mm", "bias")
    assert float(bias["low"]) < 0.4 < float(bias["high"])
    assert float(bias["value"]) == pytest.approx(0.4, abs=0.1)
    assert float(row(analysis, "agreement", "thickness_mm", "ICC(2,1)")["value"]) > 0.9
    area = row(analysis, "agreement", "csa_cm2", "bias")
    assert float(area["value"]) == pytest.approx(np.pi * 30 * 0.4 / 400, abs=0.03)


def test_the_correlation_is_of_people_with_the_papers_beside(analysis: MuscleAnalysis) -> None:
    found = row(analysis, "correlation", "thickness_mm", "Pearson")
    assert (found["participants"], found["with"]) == (24, "muscle_mass_kg")
    assert (found["paper"], found["remark"]) == ("0.7849 (P < 0.001)", "as expected; 0 participants left out")
    assert 0.6 < float(found["value"]) < 0.95
    given = row(analysis, "correlation", "thickness_mm", "Pearson given age_years and male")
    assert 0.5 < float(given["value"]) < 0.95
    assert float(row(analysis, "correlation", "csa_cm2", "Spearman")["value"]) > 0.5


def test_overlap_is_a_mean_over_people(analysis: MuscleAnalysis) -> None:
    seen, _ = cohort()
    by_person = [[s.overlap.dice or 0 for s in seen if s.participant_id == f"p{k}"] for k in range(24)]
    dice = row(analysis, "overlap", "dice", "mean")
    assert float(dice["value"]) == pytest.approx(np.mean([np.mean(values) for values in by_person]), abs=1e-6)
    assert (dice["participants"], dice["images"]) == (24, len(seen))


def test_pairs_without_images_are_named_and_not_made_up(analysis: MuscleAnalysis) -> None:
    assert {panel.muscle for panel in analysis.correlations} == {"Triceps"}
    assert "Rectus femoris, thickness and fat_free_mass_kg: 0 participants: a correlation" in "\n".join(analysis.absent)
    assert len(analysis.absent) == len(PAIRINGS) - 2


def test_a_muscle_that_was_missed_is_counted_and_has_no_size() -> None:
    seen, people = cohort()
    seen += [look("p0", MUSCLE, EMPTY, ellipse(14), MM), look("p1", MUSCLE, ellipse(14), EMPTY, MM)]
    missed, invented = seen[-2:]
    assert (missed.found, invented.drawn) == (None, None)
    found = analyse(seen, people, np.random.default_rng(0))
    assert row(found, "overlap", "missed", "images")["value"] == "1"
    assert row(found, "overlap", "invented", "images")["value"] == "1"
    assert row(found, "overlap", "hd95_mm", "mean")["images"] == len(seen) - 2
    assert row(found, "overlap", "dice", "mean")["images"] == len(seen)


def test_without_spacing_overlap_remains_and_sizes_are_absent() -> None:
    seen = [look(f"p{k}", MUSCLE, ellipse(14), ellipse(13 + k / 10), None) for k in range(8)]
    found = analyse(seen, {}, np.random.default_rng(0))
    assert row(found, "overlap", "dice", "mean")["participants"] == 8
    assert not found.agreements
    assert not found.correlations
    assert any("Triceps, thickness found against drawn: 0 participants" in text for text in found.absent)
    assert any("Triceps, hd95_mm" in text for text in found.absent)
    with pytest.raises(MissingSpacing):
        look("p0", MUSCLE, ellipse(14), ellipse(13), (20.0, 20.0))


def test_people_of_whom_nothing_is_known_are_left_out_and_counted() -> None:
    seen, people = cohort()
    people["p3"]["muscle_mass_kg"] = np.nan
    del people["p5"]
    found = analyse(seen, people, np.random.default_rng(0))
    pearson = row(found, "correlation", "thickness_mm", "Pearson")
    assert (pearson["participants"], pearson["remark"]) == (22, "as expected; 2 participants left out")


def test_a_wrong_sign_is_told() -> None:
    seen, people = cohort()
    for person in people.values():
        person["muscle_mass_kg"] *= -1
    found = analyse(seen, people, np.random.default_rng(0))
    assert row(found, "correlation", "thickness_mm", "Pearson")["remark"].startswith("against what is expected")


def test_the_table_says_what_it_is_of_and_figures_lie_beside(analysis: MuscleAnalysis, tmp_path: Path) -> None:
    written = write_analysis(analysis, tmp_path / "new", synthetic=True, calibrated=True)
    assert set(written) == {"table", "correlations", "agreement"}
    with written["table"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ("data", *COLUMNS)
    assert {r["data"] for r in rows} == {"SYNTHETIC"}
    assert len(rows) == len(analysis.rows)
    assert not any("nan" in r.values() for r in rows)
    assert not list(tmp_path.rglob("*.partial"))


def test_muscles_have_names_for_people() -> None:
    assert title_of("peroneus_longus_brevis") == "Peroneus longus + brevis"
    assert title_of("vastus_lateralis") == "Vastus lateralis"
