"""The page of a study that finds muscles speaks of Dice and muscles, whatever of its files is missing or damaged."""

import json
import time
from pathlib import Path

import pytest

from server.dashboard.pieces import pieces
from server.following import _round_in_words, phase_in_words
from tests.muscle_sites import muscle_study
from tests.server.example_home import look_at

SITES = ("alpha", "beta")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two rounds that is complete and measured."""
    folder = tmp_path / "run"
    (folder / "rounds").mkdir(parents=True)
    study = muscle_study()
    (folder / "study.json").write_text(study.model_dump_json())
    written = {"run.json": {"study": study.digest}, "live.json": {"phase": "done", "round": 2, "rounds": 2}}
    for number in range(3):
        told = {"participants": 11.0, "loss": 1.0 - number / 4, "dice": 0.4 + number / 5}
        sites = {site: told if number else {"participants": 16, "training": 11} for site in SITES}
        written[f"rounds/{number:04d}.json"] = {
            "round": number, "sites": sites, "central": {"loss": 0.5, "dice": 0.7 + number / 10}, "failures": {},
            "bytes_down": 10, "bytes_up": 10, "seconds": 1.0,
        }  # fmt: skip
    told = {f"biceps.dice.{part}": v for part, v in (("n", 5.0), ("mean", 0.871), ("sd", 0.1))}
    written["model.json"] = {"threshold": None, "no_threshold": "nobody tells", "sites": {s: {} for s in SITES}}
    written["measured.json"] = {"alpha": {"participants": 5, **told}, "beta": {"participants": 5}}
    written["assessments.json"] = {}
    written["assessing.json"] = {"failures": {"beta": "refused: task_not_allowed"}}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_the_page_speaks_of_dice_and_muscles(run: Path) -> None:
    shown = pieces(look_at(run))
    assert "Dice, central test, after round 2" in shown["progress"]
    assert "0.900" in shown["progress"]
    assert "biceps brachii" in shown["outcome"]
    assert "0.871" in shown["outcome"]
    assert "No quality score was frozen: nobody tells" in shown["outcome"]
    assert "beta has not measured it" in shown["outcome"]
    assert "measured biceps brachii" in shown["hospitals"]
    assert "<b>Dice" in shown["learning"] or "Dice by round" in shown["learning"]
    for name, text in shown.items():
        for word in ("AUC", "sensitivity", "Threshold of the probability", "Prevalence"):
            assert word not in text, (name, word)


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        '{"alpha": 3}',
        '{"alpha": {"biceps.dice.mean": "high", "biceps.dice.n": null}}',
        '{"alpha": {"biceps.dice.mean": NaN}}',
        "",
    ],
)
def test_a_damaged_file_of_measures_is_left_out(run: Path, damaged: str) -> None:
    (run / "measured.json").write_text(damaged)
    picture = look_at(run)
    assert picture.run is not None
    assert picture.run.outcome is not None
    assert picture.run.outcome.muscles == ()
    assert pieces(picture)["outcome"]


def test_hospitals_measure_muscles_and_assess_nothing(run: Path) -> None:
    sites = {"alpha": {"state": "asked", "why": "", "seconds": 1}}
    live = {"phase": "assess", "round": 2, "rounds": 2, "sites": sites, "time": time.time()}
    (run / "live.json").write_text(json.dumps(live))
    picture = look_at(run)
    assert picture.run is not None
    assert picture.run.progress.headline == "Hospitals measure the muscles that the released model finds"
    assert picture.hospitals[0].doing == "measures the muscles that the released model finds"
    assert "released model" in phase_in_words(live)


def test_whoever_follows_a_run_is_told_the_dice() -> None:
    record = {"round": 1, "sites": {"alpha": {}}, "central": {"loss": 0.5, "dice": 0.8123}, "seconds": 1.0}
    assert "central Dice 0.812" in _round_in_words({**record, "bytes_down": 1, "bytes_up": 1})
