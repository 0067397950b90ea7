"""The real ServerApp loop and ClientApp on a grid in this process: truths of federated learning, and its failures."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from pydantic import ValidationError

import client.inside
import client.sums
import client.tasks
import client.training_round
from client.workspace import Site
from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost, RunError
from sarco_models.fusion import FusionNet
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Batch, Reader, Training
from sarco_models.wire import Code, Evaluate, Refused, Train, Trained
from server import runs
from server.runs import Run
from simulation.grid import InProcessGrid
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm, train_in_process

STUDY: dict[str, Any] = {
    "name": "falls",
    "title": "Falls within a year, from a questionnaire and a gait test of our own",
    "label": {"column": "fell", "rule": "self_report"},
    "features": [
        {"name": "fear_score", "group": "questionnaire", "low": 0, "high": 40},
        {"name": "lives_alone", "group": "questionnaire", "kind": "binary"},
        {"name": "step_length_cm", "group": "walking", "unit": "cm", "low": 10, "high": 120},
        {"name": "aid", "group": "walking", "kind": "categorical", "categories": ["none", "stick", "frame"]},
    ],
    "model": {"modalities": ["questionnaire", "walking"], "hidden_units": 16},
    "training": {"local_epochs": 2, "learning_rate": 0.01, "batch_participants": 8},
    "federation": {"rounds": 3, "min_sites": 4, "round_deadline_s": 60},
}


def study(**changes: dict[str, Any]) -> StudyConfig:
    tree = {key: {**value, **changes.get(key, {})} if key in changes else value for key, value in STUDY.items()}
    return StudyConfig.model_validate_json(json.dumps(tree))


def write_site(folder: Path, people: int, seed: int) -> SiteFolder:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "participants.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["participant_id", "fell", "fear_score", "lives_alone", "step_length_cm", "aid"])
        for i in range(people):
            fell = int(i % 5 < 2)
            fear = "" if rng.random() < 0.1 else round(float(np.clip(rng.normal(15 + 8 * fell, 5), 0, 40)), 2)
            step = round(float(np.clip(rng.normal(65 - 10 * fell, 9), 10, 120)), 2)
            rows.writerow([f"p{i}", fell, fear, int(rng.random() < 0.4), step, rng.choice(["none", "stick", "frame"])])
    return SiteFolder(folder.name, folder, "self_report")


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Arm]:
    """An arm on ``sites`` hospitals of 40 people each."""

    def make(name: str = "federated", sites: int = 4, folder: str = "run", **changes: dict[str, Any]) -> Arm:
        data = tmp_path / "data"
        hospitals = []
        for k in range(sites):
            place = data / f"site{k}"
            hospitals.append(
                write_site(place, 40, seed=k) if not place.exists() else SiteFolder(place.name, place, "self_report")
            )
        central = data / "central"
        if not central.exists():
            write_site(central, 60, seed=99)
        needed = {"federation": {"min_sites": sites if name == "federated" else 1, **changes.pop("federation", {})}}
        return Arm(name, study(**needed, **changes), tuple(hospitals), central, tmp_path / "cache", tmp_path / folder)

    return make


def final(arm: Arm) -> np.ndarray:
    run = Run.open(arm.folder)
    return Parameters.load(arm.folder / "model.safetensors", run.manifest).vector


def test_four_sites_with_a_schema_of_their_own_train_a_tables_only_study(arm: Callable[..., Arm]) -> None:
    federated = arm(training={"learning_rate": 0.03})
    about = run_arm(federated)
    run = Run.open(federated.folder)
    assert about["trained_on"] == ["site0", "site1", "site2", "site3"]
    assert about["participants"] == 4 * 24  # 60 % of 40 at every site
    assert [r["round"] for r in run.records()] == [0, 1, 2, 3]
    assert all(set(r["sites"]) == {"site0", "site1", "site2", "site3"} for r in run.records())
    losses = [r["central"]["loss"] for r in run.records()]
    assert losses[-1] < losses[0]
    assert run.records()[-1]["central"]["auc"] > 0.8


def test_describe_agrees_on_the_pooled_mean(arm: Callable[..., Arm]) -> None:
    """What the sites agree on equals what pooled rows would give, bit for bit."""
    federated = arm()
    run_arm(federated)
    scaling = Run.open(federated.folder).released["scaling"]  # type: ignore[index]
    pooled = open_sites(replace(federated, name="pooled"))[0]
    moments = Moments.of(pooled.split.train, design_columns(pooled.study.features), extremes=False)
    assert scaling["fill"] == agreed_scaling(federated.study, moments).fill.tolist()


def plain_loop(site: Site, start: Parameters, moments: Moments) -> np.ndarray:
    """Central training written out in plain PyTorch, with nothing of the federation but the batches."""
    cfg, net = site.study.training, site.model.net
    reader = Reader.of(site.model, agreed_scaling(site.study, moments), site.study)
    start.load_into(trained_tensors(net))
    for round_ in range(1, site.study.federation.rounds + 1):
        seed = client.training_round.seed_of(site, round_)
        rng = np.random.default_rng([seed, 1])
        batches: list[Batch] = [b for _ in range(cfg.local_epochs) for b in reader.batches(site.split.train, rng)]
        optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.learning_rate, weight_decay=cfg.weight_decay)
        net.train()
        torch.manual_seed(seed)
        for step, batch in enumerate(batches):
            done = round_ - 1 + (step + 1) / len(batches)
            share = (done - 1 - 1 / len(batches)) / (site.study.federation.rounds - 1)
            factor = done if done <= 1 else 0.5 * (1 + math.cos(math.pi * share))
            optimizer.param_groups[0]["lr"] = cfg.learning_rate * factor
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(net(batch.inputs), batch.labels).backward()
            optimizer.step()
    return Parameters.pack(trained_tensors(net)).vector


def test_one_site_fedavg_equals_central_training(arm: Callable[..., Arm]) -> None:
    one = arm(sites=1)
    run_arm(one)
    run = Run.open(one.folder)
    site = open_sites(one)[0]
    moments = Moments.of(site.split.train, design_columns(site.study.features), extremes=False)
    expected = plain_loop(site, run.parameters_after(0), moments)
    np.testing.assert_allclose(final(one), expected, rtol=0, atol=1e-6)


def test_a_round_is_the_average_weighted_by_participants(arm: Callable[..., Arm], tmp_path: Path) -> None:
    write_site(tmp_path / "data" / "site0", 90, seed=0)
    federated = arm(sites=2, federation={"rounds": 1})
    run = prepare(federated)
    replies: list[Trained] = []
    sites = open_sites(federated)

    def spy(site: Site, request: wire.Request) -> wire.Reply:
        reply = client.tasks.handle(site, request)
        if isinstance(reply, Trained):
            replies.append(reply)
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.inside, "handle", spy)
        train_in_process(run, sites)
    weights = np.array([r.participants for r in replies], dtype=np.float64)
    assert weights.tolist() == [54, 24]
    expected = sum(
        w * r.parameters.vector.astype(np.float64) for w, r in zip(weights / weights.sum(), replies, strict=True)
    )
    np.testing.assert_allclose(final(federated), expected, atol=1e-6)


def test_pooled_arm_holds_everybody_on_the_side_of_the_split_where_they_are(arm: Callable[..., Arm]) -> None:
    federated = arm()
    prepare(federated)
    sites = open_sites(federated)
    prepare(pooled := arm("pooled", folder="pooled"))
    together = open_sites(pooled)[0].split
    for part in ("train", "validation", "test"):
        apart = {(s.name, i) for s in sites for i in getattr(s.split, part).ids}
        people = getattr(together, part)
        assert {(people.cohort.sites[m], people.cohort.ids[m]) for m in people.members} == apart


def test_same_seed_same_model_other_seed_other_model(arm: Callable[..., Arm]) -> None:
    first, again, other = arm(folder="a"), arm(folder="b"), arm(folder="c", training={"seed": 2})
    for each in (first, again, other):
        run_arm(each)
    assert np.array_equal(final(first), final(again))
    assert not np.array_equal(final(first), final(other))


def killed(arm: Arm, *, round_: int, half_way: bool = False) -> None:
    """Run until a round is recorded, or with ``half_way`` until its model is written and its record is not."""
    write, write_json = Run.record, runs.write_json

    def dies(run: Run, this: int, *rest: Any) -> None:
        write(run, this, *rest)
        if this == round_:
            raise KeyboardInterrupt

    def dies_before_the_record(path: Path, content: Any) -> None:
        if path.name == f"{round_:04d}.json":
            raise KeyboardInterrupt
        write_json(path, content)

    with pytest.MonkeyPatch.context() as patch:
        if half_way:
            patch.setattr(runs, "write_json", dies_before_the_record)
        else:
            patch.setattr(Run, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            run_arm(arm)
    assert not (arm.folder / "model.json").exists()
    assert len(Run.open(arm.folder).records()) - 1 == round_ - half_way


def test_an_interrupted_run_ends_with_the_same_model(arm: Callable[..., Arm]) -> None:
    whole, broken = arm(folder="whole"), arm(folder="broken")
    run_arm(whole)
    killed(broken, round_=2)
    (broken.folder / "rounds" / "0003.npy.4743.partial").write_bytes(b"half")  # as kill -9 leaves it
    run_arm(broken)
    assert np.array_equal(final(whole), final(broken))
    assert not list(broken.folder.glob("**/*.partial"))


@pytest.mark.parametrize("strategy", ["fedadam", "fedyogi"])
def test_an_adaptive_run_that_is_killed_in_any_round_goes_on_to_the_last_bit(
    arm: Callable[..., Arm], strategy: str
) -> None:
    federation = {"strategy": strategy, "rounds": 4, "min_sites": 2}
    whole = arm(sites=2, folder="whole", federation=federation)
    run_arm(whole)
    for round_ in (1, 2, 3, 4):
        for half_way in (False, True):
            broken = arm(sites=2, folder=f"broken{round_}{half_way}", federation=federation)
            killed(broken, round_=round_, half_way=half_way)
            run_arm(broken)
            assert np.array_equal(final(whole), final(broken)), (round_, half_way)
    assert sorted(path.name for path in (whole.folder / "rounds").glob("*.np*")) == [
        "0003.npy", "0003.state.npz", "0004.npy", "0004.state.npz"
    ]  # fmt: skip


def test_an_adaptive_run_does_not_go_on_without_what_it_remembered(arm: Callable[..., Arm]) -> None:
    broken = arm(sites=2, federation={"strategy": "fedadam", "min_sites": 2})
    killed(broken, round_=2)
    (broken.folder / "rounds" / "0002.state.npz").unlink()
    with pytest.raises(RunError, match=r"what fedadam remembered after round 2 cannot be read.*start another run"):
        run_arm(broken)


@pytest.mark.parametrize(
    ("federation", "words"),
    [
        ({"server_learning_rate": 0.1}, 'server_learning_rate = 0.1 needs strategy = "fedadam" or "fedyogi".*"fedavg"'),
        ({"server_momentum": 0.8, "strategy": "fedprox"}, 'server_momentum = 0.8 needs strategy.*"fedprox": remove it'),
        ({"proximal_mu": 0.1, "strategy": "fedadam"}, 'proximal_mu = 0.1 needs strategy = "fedprox".*"fedadam"'),
    ],
)
def test_a_setting_that_the_strategy_does_not_read_is_refused(federation: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        study(federation=federation)


Change = Callable[[Trained], wire.Reply]


def poisoned(vector: np.ndarray) -> np.ndarray:
    changed = vector.copy()
    changed[7] = np.nan
    return changed


FAULTS: dict[str, tuple[Change, str]] = {
    "nan": (
        lambda r: replace(r, parameters=Parameters(r.parameters.manifest, poisoned(r.parameters.vector))),
        "not finite",
    ),
    "round": (lambda r: replace(r, round=r.round - 1), "answers for round"),
    "weight": (lambda r: replace(r, participants=10**6), "weight of 1000000"),
    "name": (lambda r: replace(r, site="site3"), "in the name of site3"),
    "metric": (lambda r: replace(r, metrics={"loss": math.inf}), "metric loss is not finite"),
    "refusal": (lambda r: Refused(r.site, Code.TASK_NOT_ALLOWED), "refused: task_not_allowed"),
    "kind": (lambda r: wire.Ready(r.site, "x"), "answered Ready instead of Trained"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_sites_fault_costs_its_own_contribution_only(arm: Callable[..., Arm], fault: str) -> None:
    change, reason = FAULTS[fault]
    federated = arm(federation={"rounds": 2, "min_sites": 3})

    def sabotaged(site: Site, request: wire.Request) -> wire.Reply:
        reply = client.tasks.handle(site, request)
        return change(reply) if isinstance(reply, Trained) and site.name == "site1" else reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.inside, "handle", sabotaged)
        run_arm(federated)
    for record in Run.open(federated.folder).records()[1:]:
        assert set(record["sites"]) == {"site0", "site2", "site3"}
        assert reason in record["failures"]["site1"]
    assert np.isfinite(final(federated)).all()


def test_losing_the_quorum_stops_the_run_and_says_how_to_go_on(arm: Callable[..., Arm]) -> None:
    federated = arm()

    def silent(site: Site, request: wire.Request) -> wire.Reply:
        if isinstance(request, Train) and request.round == 2 and site.name == "site1":
            return Refused(site.name, Code.INTERNAL)
        return client.tasks.handle(site, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.inside, "handle", silent)
        with pytest.raises(QuorumLost, match=r"round 2: 3 sites .*site1: refused: internal"):
            run_arm(federated)
    run_arm(federated)  # the site is mended: the same call goes on from round 1
    assert len(Run.open(federated.folder).records()) == 4


def test_a_site_refuses_a_study_that_it_has_not_approved(arm: Callable[..., Arm]) -> None:
    federated = arm()
    prepare(federated)
    site = open_sites(federated)[0]
    before = Parameters.pack(trained_tensors(site.model.net)).vector
    request = Train("0" * 64, "setup", 1, Parameters.pack(trained_tensors(site.model.net)))
    assert client.tasks.handle(site, request) == Refused("site0", Code.STUDY_NOT_APPROVED)
    assert np.array_equal(before, Parameters.pack(trained_tensors(site.model.net)).vector)
    assert [path.name for path in site.state.iterdir()] == ["audit.jsonl"]


def test_an_exception_at_a_site_leaves_as_a_code_without_its_text(arm: Callable[..., Arm]) -> None:
    federated = arm()
    run = prepare(federated)
    secret = "cannot open PATIENT_JOHN_DOE.dcm"

    def breaks(site: Site) -> wire.Reply:
        raise OSError(secret)

    seen: list[Message] = []

    class ListeningGrid(InProcessGrid):
        def pull_messages(self, message_ids: Any) -> Any:
            seen.extend(found := list(super().pull_messages(message_ids)))
            return found

    sites = open_sites(federated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.tasks, "describe", breaks)
        patch.setattr("simulation.harness.InProcessGrid", ListeningGrid)
        with pytest.raises(QuorumLost) as raised:
            train_in_process(run, sites)
    assert seen
    assert all(not m.has_error() and secret not in repr(m.content) for m in seen)
    assert secret not in str(raised.value)
    assert "refused: internal" in str(raised.value)


@pytest.mark.parametrize(
    ("people", "code"), [("few", "too_few_participants"), ("one class", "one_class_only")], ids=["few", "one-class"]
)
def test_a_site_with_too_few_people_or_one_class_takes_no_part(arm: Callable[..., Arm], people: str, code: str) -> None:
    federated = arm(federation={"min_sites": 3, "rounds": 1})
    table = federated.sites[2].data / "participants.csv"
    lines = table.read_text().splitlines()
    kept = lines[:12] if people == "few" else [lines[0], *(line for line in lines[1:] if line.split(",")[1] == "0")]
    table.write_text("\n".join(kept) + "\n")
    run_arm(federated)
    run = Run.open(federated.folder)
    assert set(run.records()[1]["sites"]) == {"site0", "site1", "site3"}
    assert code in json.dumps(run.records()[0]["failures"])


def test_a_site_asks_again_for_a_setup_that_it_does_not_have(arm: Callable[..., Arm]) -> None:
    federated = arm()
    run = prepare(federated)
    site = open_sites(federated)[0]
    request = Evaluate(run.study.digest, "never sent", 3, 0.4, run.parameters_after(0))
    assert client.tasks.handle(site, request) == Refused("site0", Code.SETUP_NEEDED)


def test_a_site_in_a_new_process_still_knows_its_setup(arm: Callable[..., Arm]) -> None:
    federated = arm()
    run_arm(federated)
    about = json.loads((federated.folder / "model.json").read_text())
    fresh = open_sites(federated)[0]
    digest = next(fresh.state.glob("setup-*.npz")).stem.removeprefix("setup-")
    reader = fresh.reader(digest)
    assert reader is not None
    assert reader.scaling.fill.tolist() == about["scaling"]["fill"]


def test_fedprox_stays_closer_to_the_global_model_than_fedavg(arm: Callable[..., Arm]) -> None:
    runs = {}
    for name, changes in (("fedavg", {}), ("fedprox", {"strategy": "fedprox", "proximal_mu": 10.0})):
        each = arm(folder=name, federation={"rounds": 1, **changes})
        run_arm(each)
        start = Run.open(each.folder).parameters_after(0).vector
        runs[name] = float(np.linalg.norm(final(each) - start))
    assert runs["fedprox"] < runs["fedavg"]


def test_a_run_directory_of_another_study_is_refused(arm: Callable[..., Arm]) -> None:
    prepare(arm())
    with pytest.raises(RunError, match="holds a run of study"):
        prepare(arm(federation={"rounds": 7}))


def test_a_study_file_changed_after_the_start_is_noticed(arm: Callable[..., Arm]) -> None:
    folder = prepare(arm()).folder
    text = (folder / "study.json").read_text()
    (folder / "study.json").write_text(text.replace('"learning_rate": 0.01', '"learning_rate": 0.02'))
    with pytest.raises(RunError, match="was changed after the run began"):
        Run.open(folder)


def test_only_what_trains_travels_every_round(arm: Callable[..., Arm]) -> None:
    federated = arm()
    run_arm(federated)
    run = Run.open(federated.folder)
    net: FusionNet = run.model.net
    numbers = sum(p.numel() for p in net.parameters())
    record = run.records()[1]
    assert numbers * 4 * 4 <= record["bytes_up"] < numbers * 4 * 4 + 10_000
    assert numbers * 4 * 4 <= record["bytes_down"] < numbers * 4 * 4 + 10_000


@pytest.mark.parametrize("kind", ["Setup", "Train", "Evaluate"])
def test_a_hospital_with_too_few_people_answers_nothing_at_all(arm: Callable[..., Arm], kind: str) -> None:
    """Policy guards every request, not only the first: a coordinator may skip the describe round."""
    federated = arm()
    run = prepare(federated)
    site = open_sites(federated)[0]
    site = replace(site, policy=site.policy.model_copy(update={"min_training_participants": 50}))
    start = run.parameters_after(0)
    moments = Moments.of(site.split.train, design_columns(site.study.features), extremes=False)
    setup = wire.Setup(run.study.digest, run.frozen, moments)
    request: wire.Request = {
        "Setup": setup,
        "Train": Train(run.study.digest, setup.digest, 1, start),
        "Evaluate": Evaluate(run.study.digest, setup.digest, 3, 0.4, start),
    }[kind]
    assert client.tasks.handle(site, request) == Refused("site0", Code.TOO_FEW_PARTICIPANTS)
    assert [path.name for path in site.state.iterdir()] == ["audit.jsonl"]


def test_evaluation_is_answered_after_the_last_round_only(arm: Callable[..., Arm]) -> None:
    federated = arm()
    run = prepare(federated)
    site = open_sites(federated)[0]
    for request in (
        Evaluate(run.study.digest, "s", 2, 0.4, run.parameters_after(0)),
        Train(run.study.digest, "s", 4, run.parameters_after(0)),
    ):
        assert client.tasks.handle(site, request) == Refused("site0", Code.BAD_REQUEST)


def test_sums_over_fewer_people_than_the_smallest_cell_stay_in_the_hospital(arm: Callable[..., Arm]) -> None:
    federated = arm()
    prepare(federated)
    site = open_sites(federated)[0]
    people = site.split.train
    people.cohort.table[people.members[2:], 0] = np.nan  # two people are left with a value
    described = client.sums.describe(site, wire.Describe(site.study.digest))
    assert described.moments.count[0] == 0
    assert described.moments.total[0] == 0
    assert described.moments.count[2] == len(people)


def test_sums_of_columns_that_the_model_does_not_use_stay_in_the_hospital(arm: Callable[..., Arm]) -> None:
    federated = arm(model={"modalities": ["walking"]})
    prepare(federated)
    site = open_sites(federated)[0]
    counts = client.sums.describe(site, wire.Describe(site.study.digest)).moments.count
    used = [c.group == "walking" for c in design_columns(site.study.features)]
    assert (counts > 0).tolist() == used


DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "contradicting counts": ({"training": 0}, "contradict"),
    "a name twice": ({"site": "site0"}, "same name"),
    "another study": ({"moments": Moments(*(np.zeros(2, dtype=np.int64) for _ in range(5)))}, "sums are not of"),
    "too many people": (
        {"moments": Moments(*(np.full(6, 999, dtype=np.int64) for _ in range(5)))},
        "count more people",
    ),
}


@pytest.mark.parametrize("fault", DESCRIPTIONS)
def test_a_site_that_describes_itself_wrongly_takes_no_part(arm: Callable[..., Arm], fault: str) -> None:
    changes, reason = DESCRIPTIONS[fault]
    federated = arm(federation={"min_sites": 2, "rounds": 1})

    def wrong(site: Site, request: wire.Request) -> wire.Reply:
        reply = client.tasks.handle(site, request)
        return replace(reply, **changes) if isinstance(reply, wire.Described) and site.name == "site1" else reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.inside, "handle", wrong)
        run_arm(federated)
    records = Run.open(federated.folder).records()
    assert "site1" not in records[1]["sites"]
    assert reason in json.dumps(records[0]["failures"])


def test_a_run_does_not_go_on_with_other_people_than_it_began_with(arm: Callable[..., Arm]) -> None:
    federated = arm()
    killed(federated, round_=1)
    table = federated.sites[0].data / "participants.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-4]))
    with pytest.raises(QuorumLost, match="site0: comes back with other people or tables than it began with"):
        run_arm(federated)


def test_a_finished_arm_is_not_taken_for_that_of_another_study_or_of_other_data(arm: Callable[..., Arm]) -> None:
    federated = arm(federation={"rounds": 1})
    run_arm(federated)
    with pytest.raises(RunError, match="another study or on other data"):
        run_arm(arm(federation={"rounds": 2}))
    table = federated.sites[0].data / "participants.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunError, match="another study or on other data"):
        run_arm(federated)


def test_as_many_steps_as_two_epochs_are_two_epochs(arm: Callable[..., Arm]) -> None:
    """24 training people a site in batches of 8 are three steps an epoch, drawn with the same random numbers."""
    changes = {"batch_participants": 8, "balance_classes": False}
    epochs = arm(folder="epochs", training={**changes, "local_epochs": 2})
    steps = arm(folder="steps", training={**changes, "local_steps": 6})
    for each in (epochs, steps):
        run_arm(each)
    assert np.array_equal(final(epochs), final(steps))


def test_local_steps_are_the_same_for_a_small_and_a_large_site(
    arm: Callable[..., Arm], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[int, list[int]] = {}
    whole = client.training_round.fit

    def counted(training: Training, seed: int) -> list[float]:
        losses = whole(training, seed)
        taken.setdefault(len(losses), []).append(seed)
        return losses

    federated = arm(sites=2, training={"local_steps": 5, "batch_participants": 4})
    shutil.rmtree(federated.sites[0].data)
    write_site(federated.sites[0].data, 120, seed=5)
    monkeypatch.setattr(client.training_round, "fit", counted)
    run_arm(federated)
    assert list(taken) == [5]
    assert len(taken[5]) == 2 * federated.study.federation.rounds
