"""Hospitals agree on a network by sums, with the real apps: the plan of all their people, and no training."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import simulation.harness
from client import tasks
from client.policy import Refusal, check
from client.study_words import asked_for, missing, sections
from client.what_leaves import manifest_of
from client.workspace import Site
from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError, QuorumLost, RunError, UndefinedMetric
from sarco_models.fingerprint import FINGERPRINT
from sarco_models.parameters import Parameters
from sarco_models.wire import Code, Describe, Described, Refused, Setup, Train
from server.plan_file import FILE, read_plan
from server.runs import Run
from simulation.cli import app
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm, train_in_process
from simulation.planning import plan_study
from tests.muscle_sites import muscle_site, muscle_study
from tests.server.test_planning import DRAFT as TOML

NNUNET: dict[str, Any] = {"segmentation": {"network": "nnunet"}}
PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "statistics": "private"},
    "training": {"local_steps": 1, "optimizer": "sgd", "learning_rate": 0.05},
    "federation": {"rounds": 1, "min_participants": 2},
}
Arms = Callable[..., Arm]


@pytest.fixture(autouse=True)
def noise_that_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation.harness, "says_synthetic", lambda folder: True)


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """Three, of 8, 9 and 10 people."""
    for k in range(3):
        muscle_site(tmp_path / "data" / f"site{k}", 8 + k, seed=k)
    return tmp_path / "data"


@pytest.fixture
def arm(tmp_path: Path, hospitals: Path) -> Arms:
    def make(kind: str = "federated", folder: str = "run", **changes: Any) -> Arm:
        named = tuple(SiteFolder(place.name, place, "none") for place in sorted(hospitals.iterdir()))
        return Arm(kind, muscle_study(**NNUNET | changes), named, None, tmp_path / "cache", tmp_path / folder)

    return make


def planned(arm: Arm) -> dict[str, Any]:
    """What plan.json says when the arm has run."""
    run = prepare(arm)
    train_in_process(run, open_sites(arm))
    found: dict[str, Any] = json.loads((run.folder / FILE).read_text())
    return found


# ---- the plan --------------------------------------------------------------------------------------------------------


def test_three_hospitals_make_the_plan_of_all_their_people_bit_for_bit(arm: Arms) -> None:
    federated, pooled = planned(arm()), planned(arm("pooled", "pooled"))
    assert federated["sums"] == pooled["sums"]
    assert federated["plan"] == pooled["plan"]
    assert federated["study"] == pooled["study"]
    assert federated["why"] == pooled["why"]
    assert set(federated["sites"]) == {"site0", "site1", "site2"}


def test_one_hospital_makes_the_plan_of_its_own_people(arm: Arms) -> None:
    alone = arm("local:site1", "alone")
    found = planned(alone)
    table = alone.split_of("site1").train.table
    assert found["sums"]["count"] == [len(table)] * len(FINGERPRINT)
    assert found["statistics"]["grey_mean"]["mean"] == pytest.approx(table[:, 3].mean(), abs=0.01)


def test_nothing_is_trained_and_the_hospital_wrote_down_what_it_was_asked(arm: Arms) -> None:
    made = arm()
    planned(made)
    assert not list((made.folder / "rounds").glob("*"))
    assert not list(made.folder.glob("*.safetensors"))
    log = (made.folder / "sites/site0/state/audit.jsonl").read_text()
    assert '"Describe"' in log
    assert "Train" not in log
    assert "moments" in log


def test_a_plan_that_is_there_is_kept_and_nobody_is_asked_again(arm: Arms) -> None:
    made = arm()
    first = planned(made)
    run = Run.open(made.folder)
    train_in_process(run, [])
    assert json.loads((run.folder / FILE).read_text()) == first


def test_a_run_that_was_killed_before_its_plan_asks_again(arm: Arms, monkeypatch: pytest.MonkeyPatch) -> None:
    made = arm()
    run = prepare(made)
    with monkeypatch.context() as patch:
        patch.setattr("server.planning.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_in_process(run, open_sites(made))
    assert not (run.folder / FILE).exists()
    train_in_process(run, open_sites(made))
    assert read_plan(run).plan.patch == (96, 96)


def test_an_arm_is_not_trained_without_a_plan(arm: Arms) -> None:
    with pytest.raises(ConfigError, match=r"nothing can be trained yet: make the plan with .*sarco-lab plan"):
        run_arm(arm())


# ---- what a hospital allows ------------------------------------------------------------------------------------------


def with_policy(site: Site, **changes: Any) -> Site:
    return replace(site, policy=site.policy.model_copy(update=changes))


def described(site: Site) -> Any:
    return tasks.handle(site, Describe(site.study.digest))


def test_a_hospital_that_does_not_allow_it_is_left_out_and_named(arm: Arms) -> None:
    made = arm(federation={"min_sites": 2, "min_participants": 2})
    run, sites = prepare(made), None
    sites = open_sites(made)
    sites[1] = with_policy(sites[1], tasks=("Setup", "Train"))
    train_in_process(run, sites)
    found = read_plan(run)
    assert set(found.sites) == {"site0", "site2"}
    assert list(found.failures.values()) == ["refused: task_not_allowed"]


def test_too_few_hospitals_make_no_plan(arm: Arms) -> None:
    made = arm(federation={"min_sites": 3, "min_participants": 2})
    run, sites = prepare(made), open_sites(made)
    sites[1] = with_policy(sites[1], tasks=())
    with pytest.raises(QuorumLost, match="plan: 2 sites answered usably, min_sites = 3"):
        train_in_process(run, sites)
    assert not (run.folder / FILE).exists()


def test_sums_that_a_policy_keeps_are_zeros_and_the_plan_says_so(arm: Arms) -> None:
    made = arm()
    run, sites = prepare(made), open_sites(made)
    sites[0] = with_policy(sites[0], statistics=("histogram",))
    sites[1] = with_policy(sites[1], min_cell=100)
    assert described(sites[0]).moments.total.tolist() == [0] * len(FINGERPRINT)
    train_in_process(run, sites)
    found = read_plan(run)
    assert found.sites["site0"]["statistics"] == {}
    assert [w.split()[0] for w in found.warnings[:2]] == ["site0", "site1"]


def test_without_anybodys_sums_there_is_no_plan(arm: Arms) -> None:
    made = arm()
    run, sites = prepare(made), open_sites(made)
    with pytest.raises(UndefinedMetric, match="no image says its mm per pixel at any hospital"):
        train_in_process(run, [with_policy(site, statistics=()) for site in sites])
    assert not (run.folder / FILE).exists()


def test_a_study_without_a_plan_is_answered_with_sums_and_nothing_else(arm: Arms) -> None:
    made = arm()
    prepare(made)
    site = open_sites(made)[0]
    study, nothing = site.study, Parameters.pack({})
    everything = site.policy.model_copy(update={"tasks": ("Describe", "Setup", "Train")})
    check(Describe(study.digest), everything, study)
    for request in (
        Setup(study.digest, nothing, described(site).moments),
        Train(study.digest, "0" * 64, 1, nothing),
    ):
        with pytest.raises(Refusal, match="has no plan of its network yet"):
            check(request, everything, study)
        assert tasks.handle(with_policy(site, tasks=everything.tasks), request) == Refused("site0", Code.BAD_REQUEST)


def test_what_is_allowed_for_planning_is_asked_for_and_no_more(arm: Arms) -> None:
    study = arm().study
    assert asked_for(study) == ("Describe",)
    assert manifest_of(study).names == ()
    policy = simulation.harness.permitting(study)
    assert missing(study, manifest_of(study), policy) == []
    bare = policy.model_copy(update={"tasks": (), "statistics": ()})
    assert {(m.key, m.write) for m in missing(study, manifest_of(study), bare)} == {
        ("tasks", "add Describe"),
        ("statistics", "add sums"),
    }


def test_a_hospital_reads_what_it_is_asked_for_in_words(arm: Arms) -> None:
    study = arm().study
    told = {
        s.heading: " ".join(s.sentences)
        for s in sections(study, manifest_of(study), simulation.harness.permitting(study))
    }
    assert "Nothing is trained" in told["What is done here"]
    assert "at least 3 people" in told["What leaves, once"]
    assert "count, sum and sum of squares over your participants (exact)" in told["What leaves, once"]
    assert "another digest" in told["What comes after"]
    noised = muscle_study(**NNUNET | PRIVATE)
    policy = simulation.harness.permitting(noised)
    told = {s.heading: " ".join(s.sentences) for s in sections(noised, manifest_of(noised), policy)}
    assert "with noise, inside epsilon" in told["What leaves, once"]
    assert "charges it" in told["How each participant is protected"]
    kept = sections(study, manifest_of(study), policy.model_copy(update={"statistics": ()}))
    assert "Withheld by your policy: sums" in " ".join(s for section in kept for s in section.sentences)


def test_sums_under_noise_are_charged_and_drawn_once(arm: Arms) -> None:
    made = arm(**PRIVATE)
    prepare(made)
    site = open_sites(made)[2]
    first = described(site)
    assert isinstance(first, Described)
    exact = arm(folder="exact")
    prepare(exact)
    assert first.moments.total.tolist() != described(open_sites(exact)[2]).moments.total.tolist()
    assert described(site).moments.total.tolist() == first.moments.total.tolist(), "asking again draws nothing anew"
    log = (made.folder / "sites/site2/state/audit.jsonl").read_text()
    assert log.count('"Describe"') >= 2, "each question is written down"


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "draft.toml"
    rest = '[[segmentation.muscles]]\nname = "triceps"\nlabels = ["2"]\n\n[[segmentation.muscles]]\n'
    rest += 'name = "rectus_femoris"\nlabels = ["RF", "3"]\n\n[federation]\nrounds = 1\n'
    rest += "min_participants = 2\n\n[image]\n"
    path.write_text(TOML.replace("[image]\n", rest), encoding="utf-8")
    return path


def test_the_command_writes_the_study_and_tells_the_plan(draft: Path, hospitals: Path, tmp_path: Path) -> None:
    muscle_site(hospitals / "central", 9, seed=9)
    call = ["plan", str(draft), "--sites", str(hospitals), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0, shown.output
    for word in ("site0", "site2", "96 x 96 pixels", "0.4167 mm per pixel", "deep supervision", "study.toml"):
        assert word in shown.output
    assert "central" not in shown.output
    assert not load_study(tmp_path / "out/study.toml").unplanned
    again = CliRunner().invoke(app, call)
    assert again.output == shown.output
    muscle_site(hospitals / "site3", 9, seed=3)
    other = CliRunner().invoke(app, call)
    assert other.exit_code == 1
    assert "holds a plan of other hospitals" in other.output.replace("\n", " ")


def test_hospitals_that_cannot_be_found_or_planned_are_named(draft: Path, hospitals: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--sites .*nowhere: holds no hospital.*sarco-lab muscles"):
        plan_study(draft, tmp_path / "nowhere", tmp_path / "out")
    draft.write_text(draft.read_text().replace('"nnunet"', '"unet"'))
    with pytest.raises(ConfigError, match="it follows from no plan"):
        plan_study(draft, hospitals, tmp_path / "out")


def test_another_draft_needs_another_folder(draft: Path, hospitals: Path, tmp_path: Path) -> None:
    plan_study(draft, hospitals, tmp_path / "out")
    draft.write_text(draft.read_text().replace("A tiny study", "Another study"))
    with pytest.raises(RunError, match="holds a run of study"):
        plan_study(draft, hospitals, tmp_path / "out")


@pytest.mark.slow
def test_the_planned_network_trains_finds_muscles_and_its_settings_travel(
    draft: Path, hospitals: Path, tmp_path: Path
) -> None:
    """From sums to masks: plan, one round, release, and the released file opened by who has nothing else."""
    plan_study(draft, hospitals, tmp_path / "out")
    study: StudyConfig = load_study(tmp_path / "out/study.toml")
    named = tuple(SiteFolder(place.name, place, "none") for place in sorted(hospitals.iterdir()))
    run_arm(Arm("federated", study, named, None, tmp_path / "cache", tmp_path / "trained"))
    run = Run.open(tmp_path / "trained")
    assert len(run.records()) == 2
    from client.cli import app as site_app
    from sarco_models.released_segmenter import open_segmenter

    opened = open_segmenter(run.folder)
    assert opened.study.segmentation == study.segmentation
    assert opened.study.image == study.image
    found = CliRunner().invoke(
        site_app,
        ["segment", str(hospitals / "site0/images"), "--model", str(run.folder), "--out", str(tmp_path / "found"),
         "--mm-per-pixel", "0.5"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert list((tmp_path / "found").rglob("*.csv"))
