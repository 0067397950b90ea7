"""What a model computes goes to its device, and what leaves it comes back; on any device alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import client.tasks
from client.workspace import Site
from sarco_models.cohort import Split, open_cohort, split
from sarco_models.composites import Composites, modality_columns
from sarco_models.config import StudyConfig
from sarco_models.devices import choose, device_of, seeded
from sarco_models.errors import ConfigError
from sarco_models.fusion import fixed_tensors
from sarco_models.parameters import Parameters, all_tensors, trained_tensors
from sarco_models.saliency import grad_cam
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader, Training, adamw, fit, participant_loss, predict
from sarco_models.wire import Evaluate, Evaluated, Ready, Setup, Train, Trained
from server.evaluation import Central
from server.runs import CoordinatorConfig, Run, start_model
from simulation.harness import affordable, permitting
from tests.other_device import other_device
from tests.sites import image_site, image_study, tables_study

CPU = torch.device("cpu")
EFFICIENTNET = {"backbone": "efficientnet_b0", "trainable": "last_stage", "norm": "local"}
STUDIES = {
    "tables": tables_study(model={"modality_dropout": 0.3, "tabular": "per_group"}),
    "all layers": image_study(model={"modality_dropout": 0.3}),
    "last stage": image_study(model={"trainable": "last_stage"}),
    "own norms": image_study(model=EFFICIENTNET, image={"size": 64}),
}


KINDS = [pytest.param(kind, marks=pytest.mark.slow if kind == "own norms" else ()) for kind in STUDIES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people with one or two images, the last without one."""
    return image_site(tmp_path_factory.mktemp("devices") / "site", n=12, without=1)


@pytest.fixture
def parts(folder: Path, tmp_path: Path) -> Callable[[StudyConfig], Split]:
    """The site's split; with a cache of its own, so that nothing is read that another device has kept."""

    def of(study: StudyConfig, cache: str = "cache") -> Split:
        return split(open_cohort(folder, study, tmp_path / cache), study.split, 1)

    return of


def reader_of(people: Split, study: StudyConfig, device: torch.device) -> Reader:
    moments = Moments.of(people.train, design_columns(study.features), extremes=True)
    return Reader.of(start_model(study).to(device), agreed_scaling(study, moments), study)


# ---- which device ----------------------------------------------------------------------------------------------------


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("auto") == choose("cuda") == torch.device("cuda")
    assert choose("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose("auto") == choose("cpu") == CPU


def test_a_gpu_that_is_not_there_is_refused_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ConfigError, match='device = "cuda": torch finds no GPU here: write "auto" or "cpu", or install'
    ):
        choose("cuda")


def test_a_seed_leaves_the_callers_draws_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, CPU):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with seeded(1, CPU):
        assert torch.equal(torch.rand(3), first)


# ---- the whole way ---------------------------------------------------------------------------------------------------


def test_the_two_devices_of_these_tests_do_not_mix() -> None:
    """What the tests below rest on."""
    with other_device() as there:
        layer = torch.nn.Linear(3, 2).to(there)
        with pytest.raises(RuntimeError, match="two devices"):
            layer(torch.zeros(1, 3))
        with pytest.raises(RuntimeError, match="two devices"):
            torch.zeros(3, device=there) + torch.zeros(3)
        with pytest.raises(RuntimeError, match="numpy"):
            layer.weight.detach().numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_training_and_scores_are_the_same_wherever_they_are_computed(parts: Callable[..., Split], kind: str) -> None:
    """Same people, batches, augmentation, dropout: only where the sums are made is another."""
    study = STUDIES[kind]

    def trained(device: torch.device, cache: str) -> tuple[Parameters, np.ndarray, list[float]]:  # type: ignore[type-arg]
        people = parts(study, cache)
        reader = reader_of(people, study, device)
        net = reader.model.net
        batches = reader.batches(people.train, np.random.default_rng(0))
        losses = fit(Training(net, adamw(net, study.training), batches, participant_loss, lambda _: 1.0), seed=1)
        assert {device_of(part) for part in (net, reader.model.frozen) if part and all_tensors(part)} == {device}
        return Parameters.pack(trained_tensors(net)), predict(net, reader, people.test), losses

    here = trained(CPU, "here")
    with other_device() as device:
        there = trained(device, "there")
    assert here[0].manifest == there[0].manifest
    np.testing.assert_array_equal(here[0].vector, there[0].vector)
    np.testing.assert_array_equal(here[1], there[1])
    assert here[2] == there[2]


@pytest.mark.parametrize("kind", ["tables", "last stage"])
def test_composites_are_scored_where_the_network_is(parts: Callable[..., Split], kind: str) -> None:
    study = STUDIES[kind]

    def scored(device: torch.device) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        people = parts(study)
        made = Composites.of(reader_of(people, study, device), [people.train, people.test], modality_columns(study))
        order = np.arange(len(made))
        whose = {part: np.roll(order, k) for k, part in enumerate(made.columns)}
        return made.logits(whose), np.concatenate([made.has(part) for part in made.columns])

    here = scored(CPU)
    with other_device() as device:
        there = scored(device)
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_array_equal(here[1], there[1])


def test_maps_are_drawn_where_the_network_is(parts: Callable[..., Split]) -> None:
    study = STUDIES["last stage"]
    pixels = parts(study).cohort.pixels[np.arange(3)]
    here = grad_cam(start_model(study), pixels, stride=16)
    with other_device() as device:
        there = grad_cam(start_model(study).to(device), pixels, stride=16)
    np.testing.assert_array_equal(here, there)


# ---- a hospital and a coordinator ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_hospital_answers_alike_from_any_device(parts: Callable[..., Split], tmp_path: Path, kind: str) -> None:
    """Setup, a round and the final evaluation, as the coordinator asks for them."""
    study = STUDIES[kind]
    start = start_model(study)
    policy = permitting(study).model_copy(update={"min_cell": 1})

    def answers(device: torch.device, name: str) -> tuple[Trained, Evaluated]:
        people = parts(study, name)
        state, budget = tmp_path / f"state-{name}", affordable(study)
        site = Site("one", study, study.label.rule, policy, people, state, device=device, budget=budget)
        moments = Moments.of(people.train, design_columns(study.features), extremes=False)
        setup = Setup(study.digest, Parameters.pack(fixed_tensors(start)), moments)
        assert isinstance(client.tasks.handle(site, setup), Ready)
        begin = Parameters.pack(trained_tensors(start.net))
        trained = client.tasks.handle(site, Train(study.digest, setup.digest, 1, begin))
        assert isinstance(trained, Trained)
        assert device_of(site.model.net) == device
        last = Evaluate(study.digest, setup.digest, study.federation.rounds, 0.3, trained.parameters)
        evaluated = client.tasks.handle(site, last)
        assert isinstance(evaluated, Evaluated)
        return trained, evaluated

    here = answers(CPU, "here")
    with other_device() as device:
        there = answers(device, "there")
    np.testing.assert_array_equal(here[0].parameters.vector, there[0].parameters.vector)
    assert here[0].metrics == there[0].metrics
    assert here[1].metrics == there[1].metrics
    np.testing.assert_array_equal(here[1].histogram.positives, there[1].histogram.positives)


@pytest.mark.parametrize("kind", ["tables", "last stage"])
def test_a_coordinator_scores_alike_on_any_device(
    folder: Path, parts: Callable[..., Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    study = STUDIES[kind]
    scaling = reader_of(parts(study), study, CPU).scaling

    def metrics(name: str, device: torch.device) -> dict[str, float]:
        run = Run.create(tmp_path / name, study, CoordinatorConfig(central=str(folder), cache="cache"))
        central = Central.open(run)
        assert central is not None
        central.agree(scaling)
        assert device_of(run.model.net) == device
        return central.metrics(run.parameters_after(0))

    here = metrics("here", CPU)
    with other_device() as device:
        monkeypatch.setattr("server.runs.choose", lambda name: device)
        there = metrics("there", device)
    assert here == there
