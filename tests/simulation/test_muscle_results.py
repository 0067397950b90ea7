"""The numbers of a comparison of muscles: of people and not of images, paired, and nothing but what the scores say."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco_models.segmentation_scores import MEASURES
from server.muscle_scores import IMAGES_FILE, PEOPLE_FILE, MusclePeople, mean_of, read_muscle_people, with_everybody
from simulation.arms import Arm, SiteFolder
from simulation.muscle_results import _pairs, analysed, analysis_tables, difference_rows, final_rows, seen_in
from tests.muscle_sites import muscle_study
from tests.server.example_muscles import DRAWN, MUSCLES, muscle_run

KEY = ("federated", 1, "central")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_run(tmp_path_factory.mktemp("muscles") / "run")


def people(n: int = 12, muscles: int = 2, seed: int = 3) -> MusclePeople:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.7, 0.95, (n, muscles, len(MEASURES)))
    return MusclePeople(tuple(f"p{k}" for k in range(n)), tuple(f"m{k}" for k in range(muscles)), values)


def by_metric(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in rows}


def test_the_same_arm_twice_differs_by_exactly_nothing() -> None:
    mine = people()
    rows = difference_rows(KEY, "pooled", (mine, mine.aligned(mine.ids[::-1])), "image")
    assert {row["metric"] for row in rows} >= {"dice_difference:pooled", "dice:m1_difference:pooled"}
    assert {(row["value"], row["ci_low"], row["ci_high"]) for row in rows} == {(0.0, 0.0, 0.0)}


def test_a_difference_is_of_the_same_people_only() -> None:
    mine = people()
    other = replace(mine, ids=tuple([*mine.ids[:4], *(f"q{k}" for k in range(8))]), values=mine.values - 0.1)
    row = by_metric(difference_rows(KEY, "pooled", (mine, other), "image"))["dice_difference:pooled"]
    assert row["n"] == 4
    assert row["value"] == pytest.approx(0.1)


def test_the_report_asks_for_every_difference_by_the_order_of_the_variants(tmp_path: Path) -> None:
    """The study itself minus each variant, federated minus the others of its variant, and nothing of other people."""
    names = ("federated", "local:north", "federated@a", "pooled@a", "federated@b", "federated@far")
    places = {name: tmp_path / ("others" if "far" in name else "people") / "north" for name in names}
    arms = [
        Arm(name, muscle_study(), (SiteFolder("north", place, ""),), None, tmp_path, tmp_path)
        for name, place in places.items()
    ]
    held = {(name, 1, "north"): people() for name in names}
    assert {(key[0], second) for key, second in _pairs(arms, held)} == {
        ("federated", "local:north"), ("federated", "federated@a"), ("federated", "federated@b"),
        ("federated@a", "pooled@a"), ("federated@a", "federated@b"),
    }  # fmt: skip


def test_the_mean_over_muscles_weighs_muscles_alike_and_the_interval_people() -> None:
    mine = people()
    mine.values[3:, 1] = np.nan  # drawn of three people only
    dice = mine.of("dice")
    row = by_metric(final_rows(KEY, mine, "image"))["dice"]
    assert row["value"] == pytest.approx((dice[:, 0].mean() + dice[:3, 1].mean()) / 2)
    assert by_metric(final_rows(KEY, mine, "image"))["dice:m1"]["n"] == 3


def test_errors_of_sizes_have_no_mean_over_muscles() -> None:
    found = by_metric(final_rows(KEY, people(), "image"))
    assert "thickness_error_mm" not in found
    assert "thickness_error_mm:m0" in found


def test_one_person_has_a_mean_and_no_interval() -> None:
    row = final_rows(KEY, people(1, 1), "image")[0]
    assert row["ci_low"] is None
    assert row["ci_high"] is None
    assert row["n"] == 1


def test_the_interval_of_a_mean_covers_it() -> None:
    """Of 60 cohorts of 25 people, each resampled: about 95 of 100, less what 25 people cost."""
    rng, inside = np.random.default_rng(4), 0
    for _ in range(60):
        estimate, _ = mean_of(rng.normal(0.9, 0.05, (25, 1)), rng)
        inside += estimate.low <= 0.9 <= estimate.high
    assert inside >= 51


def test_twice_as_many_images_of_everybody_are_not_more_people(folder: Path) -> None:
    images = seen_in(folder / IMAGES_FILE)[KEY]
    once, twice = (analysed(found, {}, 1) for found in (images, [*images, *images]))
    rows = [
        {(r["muscle"], r["measure"]): r for r in analysis.rows if r["statistic"] == "ICC(2,1)"}
        for analysis in (once, twice)
    ]
    assert len(rows[0]) == 3 * len(MUSCLES)
    for key, row in rows[0].items():
        assert rows[1][key]["participants"] == row["participants"]
        ends = [[float(found[key][end]) for end in ("value", "low", "high")] for found in rows]
        assert ends[0] == pytest.approx(ends[1], abs=1e-9)


def test_what_is_not_one_whole_muscle_says_nothing_of_sizes(folder: Path, tmp_path: Path) -> None:
    """A view of two muscles with an absurd thickness changes Dice's company, and no agreement."""
    lines = list(csv.reader((folder / IMAGES_FILE).read_text().splitlines()))
    head = lines[0]
    absurd = list(next(line for line in lines if line[0] == "federated" and line[2] == "central"))
    absurd[head.index("whole")], absurd[head.index("thickness_mm_found")] = "0", "400"
    with (tmp_path / IMAGES_FILE).open("w", newline="") as file:
        csv.writer(file).writerows([*lines, absurd])
    before, after = (analysed(seen_in(path / IMAGES_FILE)[KEY], {}, 1) for path in (folder, tmp_path))
    agreement = [[r for r in found.rows if r["about"] == "agreement"] for found in (before, after)]
    assert agreement[0] == agreement[1]


def test_correlations_of_found_and_of_drawn_sizes_stand_beside_the_papers(folder: Path) -> None:
    columns = {f"central/P{k:03d}": {"fat_free_mass_kg": 40.0 + (k * 7) % 12} for k in range(12)}
    rows = analysed(seen_in(folder / IMAGES_FILE)[KEY], columns, 1).rows
    said = {(r["about"], r["statistic"]) for r in rows if r.get("with") == "fat_free_mass_kg"}
    assert {("correlation", "Pearson"), ("correlation, drawn", "Pearson")} <= said
    paper = {r["measure"]: r["paper"] for r in rows if r["about"] == "correlation"}
    assert paper.pop("thickness_mm") == "0.4223 (P < 0.001)"
    assert set(paper.values()) <= {""}, "the paper prints it of the thickness alone"
    table = analysis_tables({KEY: analysed(seen_in(folder / IMAGES_FILE)[KEY], columns, 1)})
    assert all(isinstance(r["value"], float) for r in table["federated"]["1"]["central"]["rows"])


def test_everybody_together_keeps_people_of_two_hospitals_apart(folder: Path) -> None:
    found = read_muscle_people(folder / PEOPLE_FILE, MUSCLES)
    everybody = with_everybody(found)["federated", 1, "all"]
    assert (
        len(set(everybody.ids))
        == len(everybody.ids)
        == sum(len(held.ids) for k, held in found.items() if k[0] == KEY[0])
    )
    drawn = found["federated", 1, "hospital_a"].of("dice")
    assert [bool(np.isfinite(drawn[:, m]).all()) for m in range(len(MUSCLES))] == [
        m in DRAWN["hospital_a"] for m in MUSCLES
    ]


def test_tampered_scores_change_the_result(folder: Path, tmp_path: Path) -> None:
    lines = list(csv.reader((folder / PEOPLE_FILE).read_text().splitlines()))
    at = lines[0].index("dice")
    line = next(line for line in lines if line[:3] == ["federated", "1", "central"])
    line[at] = str(float(line[at]) / 2)
    with (tmp_path / PEOPLE_FILE).open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    one, other = (read_muscle_people(path / PEOPLE_FILE, MUSCLES)[KEY] for path in (folder, tmp_path))
    assert final_rows(KEY, one, "")[0]["value"] > final_rows(KEY, other, "")[0]["value"]
