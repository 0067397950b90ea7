"""A network planned over real processes: approved, asked for, killed and gone on with, approved anew, trained."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sarco_models.config import StudyConfig, load_study
from sarco_models.fingerprint import FINGERPRINT, plan_of
from sarco_models.summaries import Moments
from tests.deployment.federation import Federation, federation
from tests.deployment.run_under_way import COORDINATOR, RunUnderWay
from tests.deployment.started import Started, arguments
from tests.muscle_sites import muscle_site, muscle_study

pytestmark = pytest.mark.slow

PEOPLE = 20
HERE, AWAY = ("alpha", "beta"), "gamma"
"""Who is there when the plan is made, and who is enrolled and does not come."""


def draft() -> StudyConfig:
    """No plan yet; the window of these images is 40 mm, and the network small."""
    return muscle_study(
        segmentation={"network": "nnunet"},
        split={"train": 0.5, "validation": 0.25},
        federation={"rounds": 1, "min_participants": 5, "min_sites": 2, "round_deadline_s": 120.0},
        training={"batch_participants": 6, "images_per_participant": 2, "local_steps": 1},
    )


def prepare(made: Federation) -> None:
    """Hospitals have drawn muscles; one more is enrolled, and the coordinator waits a second for it."""
    made.found_hospital(AWAY)
    made.enrol(AWAY)
    for seed, hospital in enumerate(made.hospitals[name] for name in HERE):
        for path in sorted(hospital.data.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        muscle_site(hospital.data, PEOPLE, seed)
        (hospital.data / "manifest.json").write_text('{"synthetic": true}')
    path = made.home / "coordinator.toml"
    path.write_text(path.read_text().replace("grace_s = 30.0", "grace_s = 1.0"))
    (made.base / "draft.toml").write_text(in_sections(made.study_file.read_text()))


def in_sections(text: str) -> str:
    """The study file as a person writes it, so that a plan can be written into it."""
    top, sections = "", ""
    for key, value in tomllib.loads(text).items():
        if isinstance(value, dict):
            values = "".join(f"{k} = {inline(v)}\n" for k, v in value.items())
            sections += f"\n[{key}]                    # as everybody has it\n{values}"
        else:
            top += f"{key} = {inline(value)}\n"
    return top + sections


def inline(value: object) -> str:
    """A value within one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {inline(v)}" for k, v in value.items()) + "}"
    return f"[{', '.join(map(inline, value))}]" if isinstance(value, list) else json.dumps(value)


def test_hospitals_agree_on_a_network_and_then_train_it() -> None:
    with federation(draft(), HERE, prepare=prepare) as made:
        planned = made.base / "planned.toml"
        run = a_coordinator_that_is_killed_has_the_plan_in_the_end(made, planned)
        the_plan_is_that_of_the_sums_and_says_whose_they_are(run, planned)
        hospitals_told_sums_and_nothing_else(made)
        with_the_plan_it_is_another_study_which_they_approve_and_train(made, planned)


def a_coordinator_that_is_killed_has_the_plan_in_the_end(made: Federation, planned: Path) -> RunUnderWay:
    words = arguments(COORDINATOR, "plan", made.base / "draft.toml", "--out", planned, "--home", made.home)
    run = RunUnderWay(made, "tiny_muscles-1", Started(made.base, made.base / "said" / "plan.log", words))
    with made.frozen("beta.worker"):
        made.wait(lambda: states(run) == {"alpha": "answered", "beta": "asked"}, 120, "alpha has told its sums")
        made.kill("serverapp")
    made.wait(lambda: not run.command.running, 180, f"the plan: {run.command.words}")
    assert run.command.process.returncode == 0, f"{run.command.words}\n{made.words()}"
    assert "its process died; the run goes on by itself" in run.command.words
    return run


def states(run: RunUnderWay) -> dict[str, str]:
    """Hospital -> what became of its answer, as far as it has said its name."""
    told = {site: str(about["state"]) for site, about in run.live.get("sites", {}).items()}
    return told if run.live.get("phase") == "plan" else {}


def the_plan_is_that_of_the_sums_and_says_whose_they_are(run: RunUnderWay, planned: Path) -> None:
    found = json.loads((run.folder / "plan.json").read_text())
    assert set(found["sites"]) == set(HERE), "who answered the killed coordinator as well is counted once"
    assert found["statistics"]["mm_per_pixel"]["participants"] == sum(
        told["training"] for told in found["sites"].values()
    )
    sums = Moments(**{name: np.array(values, dtype=np.int64) for name, values in found["sums"].items()})
    assert len(sums.count) == len(FINGERPRINT)
    study = load_study(planned)
    assert study.segmentation is not None
    assert study.segmentation.plan == plan_of(sums)
    assert study.digest == found["study"]
    for words in (f"not in it: {AWAY}", "study " + study.digest[:12], "sarco-coordinator kits"):
        assert words in run.command.words, run.command.words


def hospitals_told_sums_and_nothing_else(made: Federation) -> None:
    for name in HERE:
        lines = (made.hospitals[name].folder / "state" / "audit.jsonl").read_text().splitlines()
        assert {json.loads(line).get("task", "") for line in lines} == {"", "Describe"}


def with_the_plan_it_is_another_study_which_they_approve_and_train(made: Federation, planned: Path) -> None:
    made.study_file.write_text(planned.read_text())
    made.coordinator("kits", made.home, "--study", planned).well()
    for name in HERE:
        made.approve(name)
    run = made.start_run().wait_done()
    assert set(run.record(1)["sites"]) == set(HERE)
    log = (made.hospitals["alpha"].folder / "state" / "audit.jsonl").read_text()
    trained = next(json.loads(line) for line in log.splitlines() if '"Train"' in line)
    assert trained["study"] == load_study(planned).digest, "and the draft was never trained"
