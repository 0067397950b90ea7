"""The same apps on Flower's own engine give the same numbers as in one process."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, RunError
from server.measured import read_measured
from server.muscle_scores import IMAGES_FILE, PEOPLE_FILE
from server.runs import Run
from simulation import flower
from simulation.flower import checkout, run_arm_on_flower
from simulation.harness import Arm, SiteFolder, read_scores, run_arm
from tests.muscle_sites import muscle_site, muscle_study

SITES = ("east", "north", "west")
STUDY = {
    "name": "tables",
    "title": "Tables only",
    "label": {"column": "outcome", "rule": "declared"},
    "features": [
        {"name": "strength", "group": "clinical", "low": -5, "high": 5},
        {"name": "albumin", "group": "lab", "low": -5, "high": 5},
        {"name": "unit", "group": "lab", "kind": "categorical", "categories": ["x", "y", "z"]},
    ],
    "model": {"modalities": ["clinical", "lab"]},
    "federation": {"rounds": 3, "min_sites": 3, "round_deadline_s": 300},
    "training": {"local_epochs": 2, "learning_rate": 0.01},
}


@pytest.fixture
def arm(tmp_path: Path) -> Arm:
    rng = np.random.default_rng(0)
    for name in (*SITES, "central"):
        write_participants(tmp_path / name, rng)
    sites = tuple(SiteFolder(name, tmp_path / name, "declared") for name in SITES)
    study = StudyConfig.model_validate_json(json.dumps(STUDY))
    return Arm("federated", study, sites, tmp_path / "central", tmp_path / "cache", tmp_path / "run")


def write_participants(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir()
    with (folder / "participants.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["participant_id", "outcome", "strength", "albumin", "unit"])
        for number in range(60):
            outcome = int(rng.random() < 0.4)
            albumin = "" if rng.random() < 0.1 else round(rng.normal(-outcome / 2), 3)
            rows.writerow([f"p{number}", outcome, round(rng.normal(outcome), 3), albumin, "xyz"[rng.integers(3)]])


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes whose Flower lives in a folder; none where there is no /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(f"FLWR_HOME={folder}") in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text(encoding="utf-8").replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_both_engines_learn_the_same_model(arm: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    # Another checkout where we stand and on the path must not be run by Ray in place of the app that was packed.
    (tmp_path / "stale" / "client").mkdir(parents=True)
    (tmp_path / "stale" / "client" / "__init__.py").write_text("raise RuntimeError('stale code')", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "stale")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stale"))
    here = replace(arm, folder=tmp_path / "in-process")
    expected, found = run_arm(here), run_arm_on_flower(arm)
    assert processes_of(tmp_path) == []
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    one, two = Run.open(here.folder), Run.open(arm.folder)
    assert len(one.records()) == len(two.records()) == arm.study.federation.rounds + 1
    for before, after in zip(one.records(), two.records(), strict=True):
        assert after["failures"] == before["failures"] == {}
        assert after["central"] == pytest.approx(before["central"], abs=1e-6)
        assert set(after["sites"]) == set(before["sites"]) == set(SITES)
        for name in SITES:
            assert after["sites"][name] == pytest.approx(before["sites"][name], abs=1e-6)
    people = [{site: found.participants for site, found in (run.assessments or {}).items()} for run in (one, two)]
    assert people[0] == people[1] != {}
    last = arm.study.federation.rounds
    np.testing.assert_allclose(two.parameters_after(last).vector, one.parameters_after(last).vector, rtol=0, atol=1e-6)
    for mine, other in zip(read_scores(here), read_scores(arm), strict=True):
        assert (mine.site, mine.people.ids) == (other.site, other.people.ids)
        np.testing.assert_array_equal(other.people.labels, mine.people.labels)
        np.testing.assert_allclose(other.people.scores, mine.people.scores, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_both_engines_find_the_same_muscles_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    places = [muscle_site(tmp_path / name, 16, seed=k) for k, name in enumerate(("east", "north"))]
    central = muscle_site(tmp_path / "central", 4, seed=9)
    sites = tuple(SiteFolder(place.name, place, "none") for place in places)
    study = muscle_study(federation={"rounds": 1, "min_participants": 2, "min_sites": 2, "round_deadline_s": 300})
    arm = Arm("federated", study, sites, central, tmp_path / "cache", tmp_path / "flower")
    here = replace(arm, folder=tmp_path / "in-process")
    run_arm(here)
    run_arm_on_flower(arm)
    assert processes_of(tmp_path) == []
    one, two = Run.open(here.folder), Run.open(arm.folder)
    assert set(one.records()[1]["sites"]) == {"east", "north"}
    np.testing.assert_array_equal(two.final.vector, one.final.vector)
    assert not np.array_equal(two.final.vector, two.parameters_after(0).vector), "something was learned"
    assert [record["central"] for record in two.records()] == [record["central"] for record in one.records()]
    assert read_measured(two.folder) == read_measured(one.folder) != {}
    for name in (PEOPLE_FILE, IMAGES_FILE):
        assert (arm.folder / name).read_text() == (here.folder / name).read_text()


def test_a_network_without_a_plan_is_not_sent_to_flower(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "superlink", None)
    unplanned = replace(arm, study=muscle_study(segmentation={"network": "nnunet"}))
    with pytest.raises(ConfigError, match="nothing can be trained yet"):
        run_arm_on_flower(unplanned)


@pytest.mark.slow
def test_a_run_that_fails_says_why_and_leaves_no_process(arm: Arm, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    # Hospitals whose labels follow another rule than the study's cannot be opened: nobody answers.
    arm = replace(arm, sites=tuple(replace(site, label_rule="another") for site in arm.sites))
    with pytest.raises(RunError, match=r"(?s)min_sites = 3.*internal"):
        run_arm_on_flower(arm)
    assert processes_of(tmp_path) == []
    assert "another" in (arm.folder / "flower" / flower.RUN_LOG).read_text(encoding="utf-8")
    assert not (arm.folder / "arm.json").exists()


def test_an_arm_of_one_hospital_needs_no_flower(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flower, "superlink", None)
    federation = arm.study.federation.model_copy(update={"min_sites": 1, "rounds": 1})
    local = replace(arm, name="local:north", study=arm.study.model_copy(update={"federation": federation}))
    assert run_arm_on_flower(local)["trained_on"] == ["north"]


def test_a_package_without_its_checkout_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "simulation" / "flower.py"
    monkeypatch.setattr(flower, "__file__", str(installed))
    with pytest.raises(RunError, match=r"run from a checkout"):
        checkout()
