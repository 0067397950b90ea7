"""Our averages are Flower's, bit for bit; and any other strategy of Flower works on the same replies."""

import json
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedYogi, Strategy
from flwr.supercore.task_identity import TaskIdentity

from sarco_models.config import StudyConfig
from sarco_models.errors import RunError
from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import Trained, array_record
from server.strategies import aggregate, build_strategy, restore, state_of

NUMBERS = 700_001  # more than two blocks, and no multiple of one


@pytest.fixture
def replies() -> list[Trained]:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    rng = np.random.default_rng(0)
    manifest = Manifest(("w",), ((NUMBERS,),))
    vectors = [rng.normal(size=NUMBERS).astype(np.float32) for _ in range(3)]
    people = (53, 22, 12)
    return [
        Trained(f"site{k}", 1, n, Parameters(manifest, v), {})
        for k, (n, v) in enumerate(zip(people, vectors, strict=True))
    ]


def study(strategy: str, mu: float = 0.0, **server: float) -> StudyConfig:
    tree = {"name": "s", "title": "s", "label": {"column": "y", "rule": "r"}, "model": {"modalities": ["image"]}}
    federation = {"strategy": strategy, "proximal_mu": mu, **server}
    return StudyConfig.model_validate_json(json.dumps({**tree, "federation": federation}))


@pytest.mark.parametrize(("name", "mu"), [("fedavg", 0.0), ("fedprox", 0.1)])
def test_in_place_average_is_flowers_bit_for_bit(replies: list[Trained], name: str, mu: float) -> None:
    flowers = aggregate(FedAvg(weighted_by_key="num-participants"), 1, replies)
    assert np.array_equal(aggregate(build_strategy(study(name, mu)), 1, replies).vector, flowers.vector)


def test_order_of_arrival_does_not_matter(replies: list[Trained]) -> None:
    strategy: Strategy = build_strategy(study("fedavg"))
    assert np.array_equal(aggregate(strategy, 1, replies).vector, aggregate(strategy, 1, replies[::-1]).vector)


def test_any_strategy_of_flower_works_on_the_same_replies(replies: list[Trained]) -> None:
    median = aggregate(FedMedian(weighted_by_key="num-participants"), 1, replies).vector
    assert np.array_equal(median, np.median([r.parameters.vector for r in replies], axis=0).astype(np.float32))


def test_replies_are_left_as_they_were(replies: list[Trained]) -> None:
    before = [r.parameters.vector.copy() for r in replies]
    aggregate(build_strategy(study("fedavg")), 1, replies)
    assert all(np.array_equal(a, r.parameters.vector) for a, r in zip(before, replies, strict=True))


# ---- the adaptive strategies of Reddi et al. (2021) ------------------------------------------------------------------

ETA, BETA1, BETA2, TAU = 0.03, 0.8, 0.95, 0.01
SERVER = {
    "server_learning_rate": ETA, "server_momentum": BETA1, "server_second_momentum": BETA2, "server_adaptivity": TAU
}  # fmt: skip
ADAPTIVE = pytest.mark.parametrize("name", ["fedadam", "fedyogi"])


def paper(name: str, rounds: list[list[Trained]], start: np.ndarray) -> list[np.ndarray]:
    """Algorithm 2 of Reddi et al. (2021) in float64, with Flower's three departures (server/strategies.py)."""
    x, m, v, after = start.astype(np.float64), 0.0, 0.0, []
    for t, replies in enumerate(rounds, start=1):
        weights = np.array([r.participants for r in replies]) / sum(r.participants for r in replies)
        change = sum(w * (r.parameters.vector.astype(np.float64) - x) for w, r in zip(weights, replies, strict=True))
        m = BETA1 * m + (1 - BETA1) * change
        if name == "fedadam":
            v = BETA2 * v + (1 - BETA2) * change**2
        else:
            v = v - (1 - BETA2) * change**2 * np.sign(v - change**2)
        corrected = np.sqrt(1 - BETA2 ** (t + 1)) / (1 - BETA1 ** (t + 1)) if name == "fedadam" else 1.0
        x = x + ETA * corrected * m / (np.sqrt(v) + TAU)
        after.append(x)
    return after


def later_rounds(replies: list[Trained], count: int = 4) -> list[list[Trained]]:
    """As if the sites went on training: other vectors in each round."""
    return [
        [
            Trained(r.site, 1, r.participants, Parameters(r.parameters.manifest, np.roll(r.parameters.vector, k)), {})
            for r in replies
        ]
        for k in range(count)
    ]


def steps(strategy: Strategy, rounds: list[list[Trained]], current: Parameters, first: int = 1) -> list[Parameters]:
    after = []
    for round_, replies in enumerate(rounds, start=first):
        current = aggregate(strategy, round_, replies, current)
        after.append(current)
    return after


@pytest.fixture
def start(replies: list[Trained]) -> Parameters:
    vector = np.random.default_rng(9).normal(size=NUMBERS).astype(np.float32)
    return Parameters(replies[0].parameters.manifest, vector)


@ADAPTIVE
def test_adaptive_rounds_are_the_papers_equations(name: str, replies: list[Trained], start: Parameters) -> None:
    rounds = later_rounds(replies)
    ours = steps(build_strategy(study(name, **SERVER)), rounds, start)
    for got, expected in zip(ours, paper(name, rounds, start.vector), strict=True):
        assert got.vector.dtype == np.float32
        # rounding of float32 is multiplied where v and D^2 nearly agree: Yogi's sign turns there
        assert np.quantile(np.abs(got.vector - expected), 0.999) < 1e-6
        np.testing.assert_allclose(got.vector, expected, rtol=0, atol=ETA / 5)


@ADAPTIVE
def test_adaptive_strategies_are_flowers_bit_for_bit(name: str, replies: list[Trained], start: Parameters) -> None:
    """Flower's own class, told the model as Flower tells it, on the same replies."""
    rounds = later_rounds(replies, 3)
    flowers: Any = {"fedadam": FedAdam, "fedyogi": FedYogi}[name](
        weighted_by_key="num-participants", eta=ETA, beta_1=BETA1, beta_2=BETA2, tau=TAU, fraction_train=0.0
    )
    ours, current = build_strategy(study(name, **SERVER)), start
    for round_, answered in enumerate(rounds, start=1):
        flowers.configure_train(round_, ArrayRecord({"packed": wire_array(current)}), ConfigRecord(), None)
        expected = aggregate(flowers, round_, answered)
        current = aggregate(ours, round_, answered, current)
        assert np.array_equal(current.vector, expected.vector)


def wire_array(parameters: Parameters) -> Any:
    return array_record({"packed": parameters.vector})["packed"]


@ADAPTIVE
@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_restored_strategy_goes_on_to_the_last_bit(
    name: str, killed_after: int, replies: list[Trained], start: Parameters
) -> None:
    rounds = later_rounds(replies)
    whole = steps(build_strategy(study(name, **SERVER)), rounds, start)
    first = build_strategy(study(name, **SERVER))
    broken = steps(first, rounds[:killed_after], start)
    fresh = build_strategy(study(name, **SERVER))
    restore(fresh, state_of(first))
    end = steps(fresh, rounds[killed_after:], broken[-1], killed_after + 1)[-1]
    assert np.array_equal(end.vector, whole[-1].vector)
    forgetful = build_strategy(study(name, **SERVER))
    lost = steps(forgetful, rounds[killed_after:], broken[-1], killed_after + 1)[-1]
    assert not np.allclose(lost.vector, whole[-1].vector, atol=1e-4)


@ADAPTIVE
def test_the_state_is_float32_and_lives_beside_the_model(name: str, replies: list[Trained], start: Parameters) -> None:
    strategy = build_strategy(study(name))
    assert state_of(strategy) == {}
    steps(strategy, [replies], start)
    kept = state_of(strategy)
    float32 = np.dtype(np.float32)
    assert {part: (v.dtype, v.shape) for part, v in kept.items()} == {k: (float32, (NUMBERS,)) for k in "mv"}
    before = kept["m"].copy()
    steps(strategy, [replies], start, 2)
    assert np.array_equal(kept["m"], before)  # it may be on its way to the disk


def test_a_state_is_not_taken_by_a_strategy_that_has_none() -> None:
    with pytest.raises(RunError, match="its strategy has none"):
        restore(build_strategy(study("fedavg")), {"m": np.zeros(3, np.float32)})
    with pytest.raises(RunError, match=r"expected m and v"):
        restore(build_strategy(study("fedadam")), {"m": np.zeros(3, np.float32)})
