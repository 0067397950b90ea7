"""Norms in a federation of image sites: frozen, replaced, or each hospital's own; nothing of a batch norm travels.

What each hospital keeps is tested on batch norms (FedBN: Li et al. 2021) and on layer norms (FedBN-style).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

import client.inside
import client.scoring
import client.tasks
import client.training_round
from client.workspace import Site, norms_file
from sarco_models import wire
from sarco_models.cohort import TrainingPeople, everyone, open_cohort
from sarco_models.metrics import auc
from sarco_models.parameters import Manifest, Parameters, local_tensors, trained_tensors
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Batch, Reader, participant_loss
from sarco_models.wire import Assess, Assessed, Ready, Refused, Setup, Train, Trained
from server.evaluation import released_probabilities
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, own_norms, prepare, run_arm
from tests.sites import image_site, image_study

Make = Callable[..., Arm]
OWN: dict[str, dict[str, Any]] = {"batch norms": {}, "layer norms": {"backbone": "convnext_atto", "weights": "phantom"}}
BOTH = pytest.mark.parametrize("kept", OWN)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites, of 24 and 30 people with an image each, a central cohort, and weights with statistics of noise."""
    folder = tmp_path_factory.mktemp("hospitals")
    for name, people, seed in (("alpha", 24, 1), ("beta", 30, 2), ("central", 9, 3)):
        image_site(folder / name, people, seed, images=1, without=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = timm.create_model("efficientnet_b0", num_classes=0, in_chans=1)
        model.train()(torch.randn(8, 1, 64, 64))
    save_file(model.state_dict(), folder / "b0.safetensors")
    return folder


@pytest.fixture
def arm(hospitals: Path, tmp_path: Path) -> Make:
    def make(norm: str, sites: tuple[str, ...] = ("alpha", "beta"), folder: str = "run", **model: Any) -> Arm:
        network = {
            "backbone": "efficientnet_b0", "norm": norm, "trainable": "last_stage",
            "weights": str(hospitals / "b0.safetensors"), **model,
        }  # fmt: skip
        study = image_study(
            image={"size": 64},
            model=network,
            training={"batch_participants": 4, "images_per_participant": 1, "learning_rate": 0.002},
            federation={"rounds": 2, "min_sites": len(sites)},
        )
        folders = tuple(SiteFolder(name, hospitals / name, "invented2026") for name in sites)
        return Arm("federated", study, folders, hospitals / "central", hospitals / "cache", tmp_path / folder)

    return make


def final(arm: Arm) -> np.ndarray:
    return Parameters.load(arm.folder / "model.safetensors", Run.open(arm.folder).manifest).vector


def norms_of(arm: Arm, name: str, round_: int = 2) -> np.ndarray:
    """A site's own batch norms after a round."""
    run = Run.open(arm.folder)
    path = norms_file(arm.folder / "sites" / name / "state", run.records()[0]["setup"], round_)
    return Parameters.load(path, Manifest.of(local_tensors(run.model.net))).vector


# ---- one site --------------------------------------------------------------------------------------------------------


def plain_loop(site: Site, run: Run) -> None:
    """Central training written out in plain PyTorch, with nothing of the federation but the batches."""
    cfg, net = site.study.training, site.model.net
    moments = Moments.of(site.split.train, design_columns(site.study.features), extremes=False)
    run.frozen.load_into(client.workspace.fixed_tensors(site.model))
    run.parameters_after(0).load_into(trained_tensors(net))
    reader = Reader.of(site.model, agreed_scaling(site.study, moments), site.study)
    for round_ in (1, 2):
        seed = client.training_round.seed_of(site, round_)
        batches: list[Batch] = list(reader.batches(site.split.train, np.random.default_rng([seed, 1])))
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=cfg.learning_rate, weight_decay=cfg.weight_decay)
        net.train()
        torch.manual_seed(seed)
        for step, batch in enumerate(batches):
            done = round_ - 1 + (step + 1) / len(batches)
            share = done - 1 - 1 / len(batches)
            optimizer.param_groups[0]["lr"] = cfg.learning_rate * (
                done if done <= 1 else 0.5 * (1 + np.cos(np.pi * share))
            )
            optimizer.zero_grad()
            participant_loss(net, batch).backward()  # to the last bit: Adam makes large steps of small differences
            optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "kept"),
    [("frozen", "batch norms"), ("group", "batch norms"), ("local", "batch norms"), ("local", "layer norms")],
)
def test_one_site_fedavg_equals_central_training_whatever_the_norms(arm: Make, norm: str, kept: str) -> None:
    one = arm(norm, ("alpha",), trainable="all" if norm == "group" else "last_stage", **OWN[kept])
    run_arm(one)
    run, site = Run.open(one.folder), open_sites(one)[0]
    plain_loop(site, run)
    np.testing.assert_allclose(final(one), Parameters.pack(trained_tensors(site.model.net)).vector, rtol=0, atol=1e-6)
    assert np.abs(final(one) - run.parameters_after(0).vector).max() > 1e-3
    if norm == "local":
        own = Parameters.pack(local_tensors(site.model.net)).vector
        np.testing.assert_allclose(norms_of(one, "alpha"), own, rtol=0, atol=1e-6)


# ---- norms that stay -------------------------------------------------------------------------------------------------


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[Trained]:
    """What sites sent after training."""
    seen: list[Trained] = []

    def spy(site: Site, request: wire.Request) -> wire.Reply:
        reply = client.tasks.handle(site, request)
        if isinstance(reply, Trained):
            seen.append(reply)
        return reply

    monkeypatch.setattr(client.inside, "handle", spy)
    return seen


@pytest.mark.slow
@BOTH
def test_local_norms_never_leave_their_hospital(arm: Make, replies: list[Trained], kept: str) -> None:
    """FedBN (Li et al. 2021): two hospitals' norms differ after a round, and no message holds a tensor of them."""
    federated = arm("local", **OWN[kept])
    run_arm(federated)
    run = Run.open(federated.folder)
    local = set(local_tensors(run.model.net))
    assert len(replies) == 4
    assert not [name for reply in replies for name in reply.parameters.manifest.names if name in local]
    numbers = sum(p.numel() for p in trained_tensors(run.model.net).values())
    assert all(len(reply.parameters.vector) == numbers for reply in replies)
    start = norms_of(federated, "alpha", 0)
    assert np.array_equal(start, norms_of(federated, "beta", 0))
    for round_ in (1, 2):
        alpha, beta = (norms_of(federated, name, round_) for name in ("alpha", "beta"))
        assert not np.allclose(alpha, beta, atol=1e-4)
        assert not np.allclose(alpha, start, atol=1e-4)


@pytest.mark.slow
def test_results_say_whose_norms_they_belong_to(arm: Make) -> None:
    federated = arm("local")
    run_arm(federated)
    run = Run.open(federated.folder)
    whose = {"sites": "own", "central": "start"}
    assert [record["norms"] for record in run.records()] == [whose] * 3
    assert run.released is not None
    assert run.released["norms"] == whose
    shared = arm("group", folder="shared")
    assert Run.create(shared.folder, shared.study).norms == {}


@pytest.mark.slow
@BOTH
def test_a_hospitals_people_are_scored_with_its_own_norms(arm: Make, hospitals: Path, kept: str) -> None:
    federated = arm("local", **OWN[kept])
    run_arm(federated)
    run = Run.open(federated.folder)
    central = everyone(open_cohort(hospitals / "central", federated.study, federated.cache))
    people = {**federated.held_out(), "central": central}
    for name, other in (("alpha", "beta"), ("beta", "alpha"), ("central", "")):
        files = [own_norms(federated, run, n) for n in (name, other)]
        own, others = (released_probabilities(run, people[name], file) for file in files)
        assert np.array_equal(own, released_probabilities(run, people[name], files[0]))  # nothing is left of the other
        assert np.array_equal(own, others) == (name == "central")  # the coordinator has the starting ones only


@pytest.mark.slow
@BOTH
def test_a_hospital_assesses_the_released_model_with_its_own_norms(arm: Make, kept: str) -> None:
    federated = arm("local", **OWN[kept])
    run_arm(federated)
    run = Run.open(federated.folder)
    about, setup = run.released or {}, run.records()[0]["setup"]
    request = Assess(run.study.digest, setup, 2, about["prevalence"], about["threshold"] or 0.5, run.final)
    for site in open_sites(federated):
        site.policy = site.policy.model_copy(update={"min_cell": 1})  # 7 people to test on
        reply = client.tasks.handle(site, request)
        assert isinstance(reply, Assessed)
        people, norms = site.split.test, own_norms(federated, run, site.name)
        probability = released_probabilities(run, people, norms)
        assert reply.evaluation.auc == pytest.approx(auc(probability, people.labels == 1), abs=1e-12)
        assert reply.evaluation.found is not None
        assert reply.evaluation.found.right == (probability[people.labels == 1] >= request.threshold).sum()


@pytest.mark.slow
def test_where_one_hospital_trained_its_norms_are_the_models(arm: Make) -> None:
    alone = arm("local", ("alpha",))
    run_arm(alone)
    run = Run.open(alone.folder)
    state = alone.folder / "sites" / "alpha" / "state"
    for name in ("alpha", "beta", "central"):
        assert own_norms(alone, run, name) == norms_file(state, run.records()[0]["setup"], 2)


@pytest.mark.slow
@BOTH
def test_an_interrupted_run_ends_with_the_same_model_and_the_same_norms(arm: Make, kept: str) -> None:
    """A round that is repeated begins with the norms that it began with, not with those that it left."""
    whole, broken = (arm("local", folder=name, **OWN[kept]) for name in ("whole", "broken"))
    run_arm(whole)
    write = Run.record

    def dies_before_round_one_is_recorded(run: Run, round_: int, *rest: Any) -> None:
        if round_ == 1:
            raise KeyboardInterrupt
        write(run, round_, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "record", dies_before_round_one_is_recorded)
        with pytest.raises(KeyboardInterrupt):
            run_arm(broken)
    assert len(Run.open(broken.folder).records()) == 1
    assert list((broken.folder / "sites" / "alpha" / "state").glob("norms-*-2.safetensors"))  # round 2 was trained
    run_arm(broken)
    assert np.array_equal(final(whole), final(broken))
    assert np.array_equal(norms_of(whole, "beta"), norms_of(broken, "beta"))


# ---- what a hospital keeps -------------------------------------------------------------------------------------------


@pytest.fixture
def site(arm: Make) -> tuple[Site, Setup, Parameters]:
    """A hospital that was sent its setup, with norms of the last stage."""
    one = arm("local", ("alpha",))
    run = prepare(one)
    opened = open_sites(one)[0]
    moments = Moments.of(opened.split.train, design_columns(opened.study.features), extremes=False)
    setup = Setup(run.study.digest, run.frozen, moments)
    assert isinstance(client.tasks.handle(opened, setup), Ready)
    return opened, setup, run.parameters_after(0)


def after(site: Site, request: Train, value: float) -> None:
    """As if a round had left all of its batch norms at this value."""
    site.receive(request)
    for tensor in site.norms.values():
        tensor.detach().fill_(value)
    site.keep_norms(request)


def begins_with(site: Site, request: Train) -> set[float]:
    site.receive(request)
    return {float(v) for t in site.norms.values() for v in t.detach().unique()}


def test_a_round_begins_with_the_norms_of_the_last_one_that_the_hospital_took_part_in(
    site: tuple[Site, Setup, Parameters],
) -> None:
    opened, setup, start = site
    request = Train(setup.study, setup.digest, 1, start)
    first = begins_with(opened, request)
    for round_ in (1, 2, 5):
        after(opened, replace(request, round=round_), float(round_))
    assert begins_with(opened, replace(request, round=9)) == {5.0}
    assert begins_with(opened, replace(request, round=5)) == {2.0}
    assert begins_with(opened, replace(request, round=2)) == {1.0}
    assert begins_with(opened, request) == first
    after(opened, replace(request, round=2), 7.0)  # the coordinator begins again there: what came later is of no run
    assert begins_with(opened, replace(request, round=9)) == {7.0}


def test_only_the_last_norms_are_kept_and_the_first(site: tuple[Site, Setup, Parameters]) -> None:
    opened, setup, start = site
    for round_ in range(1, 8):
        after(opened, Train(setup.study, setup.digest, round_, start), 1.0)
    names = sorted(path.name.rpartition("-")[2] for path in opened.state.glob("norms-*"))
    assert names == [f"{k}.safetensors" for k in (0, 4, 5, 6, 7)]


def test_norms_of_a_setup_that_is_gone_go_with_it(site: tuple[Site, Setup, Parameters]) -> None:
    opened, setup, _ = site
    for k in (1, 2):
        other = replace(setup, moments=replace(setup.moments, count=setup.moments.count + k))
        opened.keep(other)
    kept = {path.name.split("-")[1] for path in opened.state.glob("norms-*")}
    assert len(kept) == 2
    assert setup.digest not in kept


def test_a_new_process_finds_the_norms_of_the_last_one(site: tuple[Site, Setup, Parameters], arm: Make) -> None:
    opened, setup, start = site
    request = Train(setup.study, setup.digest, 1, start)
    after(opened, request, 3.0)
    fresh = open_sites(arm("local", ("alpha",)))[0]
    assert fresh.reader(setup.digest) is not None
    assert begins_with(fresh, replace(request, round=2)) == {3.0}


def test_a_site_of_another_model_refuses_the_setup(site: tuple[Site, Setup, Parameters]) -> None:
    opened, setup, _ = site
    wrong = replace(setup, frozen=Parameters.pack({"net.branches.image.0.weight": torch.zeros(2)}))
    assert isinstance(client.tasks.handle(opened, wrong), Refused)


def test_training_people_alone_move_a_hospitals_norms(site: tuple[Site, Setup, Parameters]) -> None:
    """Held-out people are scored with the norms, and leave nothing in them."""
    opened, setup, start = site
    opened.receive(Train(setup.study, setup.digest, 1, start))
    before = Parameters.pack(opened.norms).digest
    reader = opened.reader(setup.digest)
    assert reader is not None
    client.scoring.validation_metrics(opened, reader)
    assert Parameters.pack(opened.norms).digest == before
    assert not isinstance(opened.split.validation, TrainingPeople)
