"""A study that finds muscles, run by the real apps: the same tasks, wire, policy, privacy and masks as a diagnosis."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import simulation.harness
from client.policy import Refusal, check
from sarco_models.accounting import epsilon
from sarco_models.aims import SEGMENTATION, aim_of
from sarco_models.config import StudyConfig
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.per_participant import gradients_of, trained_parameters
from sarco_models.segmentation_reader import SegmentationReader
from sarco_models.segmentation_scores import MEASURES, Scored, score, told
from sarco_models.training import Training, build_optimizer, fit, warmup_cosine
from sarco_models.wire import Assess, Measure, Measured
from server.measured import measured_fault, read_measured
from server.members import Member
from server.runs import Run
from simulation.harness import MUSCLE_SCORES, Arm, SiteFolder, open_sites, prepare, run_arm
from tests.muscle_sites import muscle_site, muscle_study
from tests.test_private_federation import rows

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "statistics": "withheld"},
    "training": {"local_steps": 1, "optimizer": "sgd", "learning_rate": 0.05},
    "federation": {"rounds": 1, "min_participants": 2},
}


@pytest.fixture(autouse=True)
def noise_that_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation.harness, "says_synthetic", lambda folder: True)


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Arm]:
    """Hospitals of 16 people that drew arms and thighs; the second draws thighs only."""

    def make(study: StudyConfig, sites: int = 2, folder: str = "run") -> Arm:
        places = [tmp_path / "data" / f"site{k}" for k in range(sites)]
        for k, place in enumerate(places):
            if not place.exists():
                muscle_site(place, 16, seed=k)
        named = tuple(SiteFolder(place.name, place, "none") for place in places)
        return Arm("federated", study, named, places[0], tmp_path / "cache", tmp_path / folder)

    return make


def study_of(**changes: Any) -> StudyConfig:
    return muscle_study(**{"federation": {"rounds": 1, "min_participants": 2}, **changes})


@pytest.mark.slow
def test_a_run_trains_measures_and_scores_muscles(arm: Callable[..., Arm]) -> None:
    federated = arm(study_of())
    run_arm(federated)
    run = Run.open(federated.folder)
    (record,) = run.records()[1:]
    assert set(record["sites"]) == {"site0", "site1"}
    assert set(record["central"]) == {"loss", "dice"}
    assert run.released is not None
    assert run.released["threshold"] is None
    assert run.assessments == {}
    measured = read_measured(run.folder)
    assert set(measured) == {"site0", "site1"}, run.assessing
    assert measured["site0"]["participants"] == 3  # 16 - 11 - 2
    assert {name.split(".")[0] for name in measured["site0"] if "." in name} <= {"biceps", "triceps", "rectus_femoris"}
    with (federated.folder / MUSCLE_SCORES).open() as file:
        rows = list(csv.DictReader(file))
    own = [float(row["dice"]) for row in rows if (row["site"], row["muscle"]) == ("site0", "biceps") and row["dice"]]
    assert measured["site0"]["biceps.dice.mean"] == pytest.approx(np.mean(own))


@pytest.mark.slow
def test_one_site_with_fedavg_is_central_training(arm: Callable[..., Arm]) -> None:
    federated = arm(study_of(), sites=1)
    run_arm(federated)
    run = Run.open(federated.folder)
    (site,) = open_sites(federated)
    model = site.model
    run.parameters_after(0).load_into(trained_tensors(model.net))
    reader = SegmentationReader.of(model, federated.study)
    cfg = federated.study.training
    from client.training_round import seed_of

    steps = -(-len(site.split.train) // cfg.batch_participants)
    rng = np.random.default_rng([seed_of(site, 1), 1])
    plain = Training(
        net=model.net,
        optimizer=build_optimizer(model.net, cfg),
        batches=reader.batches(site.split.train, rng),
        loss=SEGMENTATION.loss,
        rates=warmup_cosine(round_=1, rounds=1, warmup_rounds=cfg.warmup_rounds, steps=steps),
    )
    fit(plain, seed=seed_of(site, 1))
    np.testing.assert_array_equal(Parameters.pack(trained_tensors(model.net)).vector, run.final.vector)


def test_a_persons_gradient_is_that_of_the_person_alone(arm: Callable[..., Arm]) -> None:
    federated = arm(study_of(), sites=1)
    prepare(federated)
    (site,) = open_sites(federated)
    net = site.model.net.double()
    reader = SegmentationReader.of(site.model, federated.study)
    batch = reader.drawn(site.split.train, np.random.default_rng(1), 1)(np.array([0, 5, 7]))
    batch = type(batch)(batch.images.double(), batch.targets, batch.annotated, batch.owner, batch.participants)
    parameters = trained_parameters(net)
    singles = list(gradients_of(net, SEGMENTATION.loss)(batch))
    assert len(singles) == batch.participants

    def alone(person: int) -> tuple[Tensor, ...]:
        rows = batch.owner == person
        zeros = torch.zeros(int(rows.sum()), dtype=torch.long)
        bag = type(batch)(batch.images[rows], batch.targets[rows], batch.annotated[rows], zeros, 1)
        return torch.autograd.grad(SEGMENTATION.loss(net, bag), parameters, allow_unused=True, materialize_grads=True)

    each = [alone(person) for person in range(batch.participants)]
    together = torch.autograd.grad(SEGMENTATION.loss(net, batch), parameters, allow_unused=True, materialize_grads=True)
    for k, whole in enumerate(together):
        torch.testing.assert_close(torch.stack([one[k] for one in each]).mean(0), whole, rtol=1e-9, atol=1e-12)
    for one, single in zip(each, singles, strict=True):
        length = torch.stack([g.square().sum() for g in one]).sum().sqrt()
        torch.testing.assert_close(single.norms()[0], length, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_private_study_of_muscles_spends_what_it_says(arm: Callable[..., Arm]) -> None:
    federated = arm(study_of(**PRIVATE))
    run_arm(federated)
    found = rows(federated, "site0")
    assert [(task, round_) for task, round_, _ in found] == [("Train", 1)]
    assert 0 < epsilon([spend for *_, spend in found], 1e-3) <= 8.0
    record = Run.open(federated.folder).records()[1]
    assert "train_loss" not in record["sites"]["site0"]


@pytest.mark.slow
def test_masked_sums_of_muscle_updates_are_the_plain_average(arm: Callable[..., Arm]) -> None:
    plain = arm(study_of(federation={"rounds": 1, "min_participants": 2, "min_sites": 3}), 3, "plain")
    masked = arm(
        study_of(federation={"rounds": 1, "min_participants": 2, "min_sites": 3, "secure_aggregation": True}),
        3,
        "masked",
    )
    run_arm(plain)
    run_arm(masked)
    a, b = Run.open(plain.folder).final.vector, Run.open(masked.folder).final.vector
    assert np.abs(a - b).max() < 1e-5
    assert not np.array_equal(a, Run.open(plain.folder).parameters_after(0).vector)


def test_nobody_is_assessed_at_a_threshold(arm: Callable[..., Arm]) -> None:
    federated = arm(study_of(), sites=1)
    prepare(federated)
    (site,) = open_sites(federated)
    about = (federated.study.digest, "0" * 64, 1)
    check(Measure(*about, Parameters.pack(site.tensors)), site.policy, site.study)
    policy = site.policy.model_copy(update={"tasks": (*site.policy.tasks, "Assess")})
    with pytest.raises(Refusal, match="finds muscles"):
        check(Assess(*about, 0.5, 0.5, Parameters.pack(site.tensors)), policy, site.study)
    closed = site.policy.model_copy(update={"statistics": ("sums",)})
    with pytest.raises(Refusal, match="assessment"):
        check(Measure(*about, Parameters.pack(site.tensors)), closed, site.study)


def scored(n: int = 4) -> Scored:
    values = np.full((n, 2, len(MEASURES)), np.nan)
    values[:, 0] = np.linspace(0.1, 0.9, n)[:, None]
    values[0, 1] = 0.5
    return Scored(("biceps", "triceps"), values, np.ones(n))


def test_what_few_people_show_is_not_told() -> None:
    found = told(scored(), min_cell=3)
    assert {name.split(".")[0] for name in found} == {"biceps"}
    assert found["biceps.dice.n"] == 4
    assert found["biceps.dice.mean"] == pytest.approx(0.5)
    assert found["biceps.dice.sd"] == pytest.approx(np.std(np.linspace(0.1, 0.9, 4), ddof=1))


MEMBER = Member("north", participants=20, training=14, training_positive=0, images=40, digest="")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"biceps.dice.mean": 1.2}, "not from 0 to 1"),
        ({"biceps.dice.n": 9.0}, "no such numbers"),
        ({"biceps.dice.sd": -1.0}, "no such numbers"),
        ({"biceps.dice.mean": float("nan")}, "no such numbers"),
        ({"biceps.age.mean": 70.0}, "none of the study's"),
        ({"deltoid.dice.mean": 0.5}, "none of the study's"),
        ({"biceps.dice.median": 0.5}, "none of the study's"),
    ],
)
def test_impossible_measures_are_refused_in_words(change: dict[str, float], said: str) -> None:
    metrics = {"biceps.dice.n": 4.0, "biceps.dice.mean": 0.8, "biceps.dice.sd": 0.1, **change}
    fault = measured_fault(Measured("north", 4, metrics), MEMBER, muscle_study())
    assert said in fault if said else fault == ""
    assert measured_fault(Measured("south", 4, metrics), MEMBER, muscle_study()).startswith("answers in the name of")
    assert "described itself" in measured_fault(Measured("north", 7, metrics), MEMBER, muscle_study())


def test_a_study_has_one_aim() -> None:
    assert aim_of(muscle_study()) is SEGMENTATION
    assert json.loads(muscle_study().model_dump_json())["segmentation"]["classes"] == "muscles"


def test_a_network_that_finds_everything_has_a_dice_of_one(arm: Callable[..., Arm]) -> None:
    federated = arm(study_of(), sites=1)
    prepare(federated)
    (site,) = open_sites(federated)
    reader = SegmentationReader.of(site.model, federated.study)
    truth = [batch.targets for batch in reader.whole(site.split.test)]

    class Knows(torch.nn.Module):
        """Answers with the targets."""

        def __init__(self) -> None:
            super().__init__()
            self.batches = iter(truth)

        def forward(self, images: Tensor, _asked: Tensor | None) -> Tensor:
            """The right class everywhere."""
            right = next(self.batches).where(images[:, 0] >= 0, 0)
            return torch.nn.functional.one_hot(right.clamp(max=3), 4).movedim(-1, 1) * 50.0

    found = score(Knows(), reader, site.split.test)
    assert np.nanmin(found.dice) == 1
    exact = told(found, 1)
    for muscle in ("biceps", "triceps", "rectus_femoris"):
        assert exact[f"{muscle}.hd95_mm.mean"] == 0
    assert exact["rectus_femoris.thickness_error_mm.mean"] == 0
    assert exact["rectus_femoris.area_error_cm2.sd"] == 0
    assert "biceps.thickness_error_mm.n" not in exact  # of two muscles on one image neither is measured
