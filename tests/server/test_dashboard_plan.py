"""The page of a run that plans a network: the plan, why, and whose sums; no round, no curve, no model."""

import json
from pathlib import Path

import pytest

from server.dashboard.pieces import pieces, window_title
from server.plan_file import FILE
from server.planning import plan_record
from server.runs import Run, write_json
from tests.muscle_sites import muscle_study
from tests.server.example_home import look_at
from tests.server.test_planning import described

DRAFT = muscle_study(segmentation={"network": "nnunet"})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has planned with two hospitals; a third refused."""
    made = Run.create(tmp_path / "run", DRAFT)
    told = [described("alpha", 30), described("beta", 25, seed=1)]
    write_json(made.folder / FILE, plan_record(DRAFT, told, {"gamma": "refused: task_not_allowed"}))
    live(made.folder, "done")
    return made.folder


def live(folder: Path, phase: str, **more: object) -> None:
    (folder / "live.json").write_text(json.dumps({"phase": phase, "round": 0, "rounds": 2, **more}))


def test_the_page_shows_the_plan_and_nothing_of_rounds(run: Path) -> None:
    picture = look_at(run)
    shown = pieces(picture)
    assert window_title(picture).startswith("Planned: nothing was trained")
    for words in ("128 x 128 pixels", "tissue regions are", ">alpha</th><td>35</td><td>30</td><td>40</td>"):
        assert words in shown["outcome"], words
    assert "gamma is not in it" in shown["outcome"]
    assert "rounds complete" not in shown["progress"]
    assert "<progress" not in shown["progress"]
    assert not shown["learning"]
    assert "without noise" in shown["privacy"]
    assert "own update" not in shown["privacy"]
    assert picture.to_dict()["run"]["plan"]["made"]


def test_what_hospitals_do_while_they_are_asked(run: Path) -> None:
    (run / FILE).unlink()
    told = {
        "alpha": {"state": "answered", "why": "", "seconds": 1},
        "beta": {"state": "asked", "why": "", "seconds": 0},
    }
    live(run, "plan", sites=told, needed=2)
    picture = look_at(run)
    assert picture.run is not None
    assert picture.run.progress.headline == "Hospitals tell the sums that the network is planned from"
    assert picture.run.plan is not None
    assert not picture.run.plan.made
    shown = pieces(picture)
    assert "has told its sums" in shown["hospitals"]
    assert "measures its images" in shown["hospitals"]
    assert not shown["outcome"]


def test_a_run_that_failed_before_its_plan_says_so(run: Path) -> None:
    (run / FILE).unlink()
    live(run, "failed", failure="plan: 1 sites answered usably, min_sites = 2")
    assert "Stopped before there was a plan" in pieces(look_at(run))["progress"]


@pytest.mark.parametrize(
    "damaged", ["{", "[]", '{"why": 3, "sites": [], "warnings": {}}', '{"why": [1], "sites": {"a": 1}}']
)
def test_a_damaged_plan_costs_its_own_lines(run: Path, damaged: str) -> None:
    (run / FILE).write_text(damaged)
    picture = look_at(run)
    assert picture.run is not None
    assert picture.run.plan is not None
    assert picture.run.plan.numbers == ()
    assert pieces(picture)["progress"]


def test_a_study_with_its_plan_has_rounds_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "study.json").write_text(muscle_study().model_dump_json())
    (tmp_path / "run" / "run.json").write_text("{}")
    picture = look_at(tmp_path / "run")
    assert picture.run is not None
    assert picture.run.plan is None
    assert pieces(picture)["learning"]
