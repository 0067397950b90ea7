"""Our averages are Flower's, bit for bit; and any other strategy of Flower works on the same replies."""

import json
import typing
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedTrimmedAvg, FedYogi, Krum, Strategy
from flwr.supercore.task_identity import TaskIdentity

from sarco_models.config import FederationConfig, StudyConfig
from sarco_models.errors import ProtocolError, QuorumLost, RunError
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
    federation = {"strategy": strategy, "proximal_mu": mu, "min_sites": 7, **server}
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


# ---- the momentum of Hsu et al. (2019) -------------------------------------------------------------------------------

MOMENTUM = {"server_momentum": BETA1, "average_learning_rate": 0.7}


def velocities(rounds: list[list[Trained]], start: np.ndarray) -> list[np.ndarray]:
    """Hsu et al. (2019), section 4.3, in float64: v = beta v + D, w = w - lr v; D is the model less the average."""
    x, v, after = start.astype(np.float64), 0.0, []
    for replies in rounds:
        weights = np.array([r.participants for r in replies]) / sum(r.participants for r in replies)
        mean = sum(w * r.parameters.vector.astype(np.float64) for w, r in zip(weights, replies, strict=True))
        v = BETA1 * v + (x - mean)
        x = x - 0.7 * v
        after.append(x)
    return after


def test_momentum_is_the_papers(replies: list[Trained], start: Parameters) -> None:
    rounds = later_rounds(replies)
    ours = steps(build_strategy(study("fedavgm", **MOMENTUM)), rounds, start)
    for got, expected in zip(ours, velocities(rounds, start.vector), strict=True):
        assert got.vector.dtype == np.float32
        np.testing.assert_allclose(got.vector, expected, rtol=0, atol=2e-6)


def test_momentum_is_flowers_bit_for_bit(replies: list[Trained], start: Parameters) -> None:
    rounds = later_rounds(replies, 3)
    flowers: Any = FedAvgM(
        weighted_by_key="num-participants", server_momentum=BETA1, server_learning_rate=0.7, fraction_train=0.0
    )
    flowers.configure_train(1, ArrayRecord({"packed": wire_array(start)}), ConfigRecord(), None)
    ours, current = build_strategy(study("fedavgm", **MOMENTUM)), start
    for round_, answered in enumerate(rounds, start=1):
        expected = aggregate(flowers, round_, answered)
        current = aggregate(ours, round_, answered, current)
        assert np.array_equal(current.vector, expected.vector)


def test_without_momentum_and_at_full_step_it_is_the_average(replies: list[Trained], start: Parameters) -> None:
    plain = aggregate(build_strategy(study("fedavg")), 1, replies, start)
    strategy = build_strategy(study("fedavgm", server_momentum=0.0))
    assert np.array_equal(aggregate(strategy, 1, replies, start).vector, plain.vector)
    assert state_of(strategy) == {}


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_restored_momentum_goes_on_to_the_last_bit(
    killed_after: int, replies: list[Trained], start: Parameters
) -> None:
    rounds = later_rounds(replies)
    whole = steps(build_strategy(study("fedavgm", **MOMENTUM)), rounds, start)
    first = build_strategy(study("fedavgm", **MOMENTUM))
    broken = steps(first, rounds[:killed_after], start)
    kept = state_of(first)
    assert {name: (v.dtype, v.shape) for name, v in kept.items()} == {"velocity": (np.dtype(np.float32), (NUMBERS,))}
    before = kept["velocity"].copy()
    fresh = build_strategy(study("fedavgm", **MOMENTUM))
    restore(fresh, kept)
    end = steps(fresh, rounds[killed_after:], broken[-1], killed_after + 1)[-1]
    assert np.array_equal(end.vector, whole[-1].vector)
    assert np.array_equal(kept["velocity"], before)  # it may be on its way to the disk
    forgetful = steps(build_strategy(study("fedavgm", **MOMENTUM)), rounds[killed_after:], broken[-1], killed_after + 1)
    assert not np.allclose(forgetful[-1].vector, whole[-1].vector, atol=1e-4)


def test_a_momentum_does_not_take_the_state_of_adam() -> None:
    with pytest.raises(RunError, match="a strategy's state of m, v; expected velocity"):
        restore(build_strategy(study("fedavgm")), {"m": np.zeros(3, np.float32), "v": np.zeros(3, np.float32)})


# ---- strategies that withstand a site --------------------------------------------------------------------------------


def answers(vectors: np.ndarray, people: list[int] | None = None) -> list[Trained]:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    manifest = Manifest(("w",), ((vectors.shape[1],),))
    return [
        Trained(f"site{k}", 1, (people or [20] * len(vectors))[k], Parameters(manifest, v.astype(np.float32)), {})
        for k, v in enumerate(vectors)
    ]


@pytest.fixture
def seven() -> list[Trained]:
    return answers(np.random.default_rng(3).normal(size=(7, 300_001)))


def matrix(replies: list[Trained]) -> np.ndarray:
    return np.stack([r.parameters.vector for r in replies])


def test_the_median_is_that_of_every_number(seven: list[Trained]) -> None:
    """Yin et al. (2018), definition 1; of an even number of sites the mean of the middle two."""
    for sites in (7, 6):
        got = aggregate(build_strategy(study("median")), 1, seven[:sites]).vector
        middle = np.sort(matrix(seven[:sites]), axis=0)[[(sites - 1) // 2, sites // 2]].mean(axis=0)
        assert got.dtype == np.float32
        assert np.array_equal(got, middle)


@pytest.mark.parametrize(("share", "cut"), [(0.15, 1), (0.2, 1), (0.29, 2), (0.45, 3), (1 / 7, 1)])
def test_the_trimmed_mean_leaves_out_the_ends_of_every_number(share: float, cut: int, seven: list[Trained]) -> None:
    """Yin et al. (2018), definition 2."""
    got = aggregate(build_strategy(study("trimmed_mean", trim_share=share)), 1, seven).vector
    expected = np.sort(matrix(seven), axis=0)[cut : 7 - cut].astype(np.float64).mean(axis=0)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_blocks_are_flowers_bit_for_bit(seven: list[Trained]) -> None:
    key = "num-participants"
    pairs: list[tuple[Any, Strategy]] = [
        (FedMedian(weighted_by_key=key), build_strategy(study("median"))),
        (FedTrimmedAvg(weighted_by_key=key, beta=0.2), build_strategy(study("trimmed_mean"))),
    ]
    for flowers, ours in pairs:
        assert np.array_equal(aggregate(ours, 1, seven).vector, aggregate(flowers, 1, seven).vector)


def blanchards(vectors: np.ndarray, malicious: int) -> int:
    """Krum, Blanchard et al. (2017), section 4, written out in float64."""
    exact = vectors.astype(np.float64)
    scores = []
    for i in range(len(exact)):
        others = sorted(float(((exact[i] - exact[j]) ** 2).sum()) for j in range(len(exact)) if j != i)
        scores.append(sum(others[: len(exact) - malicious - 2]))
    return int(np.argmin(scores))


@pytest.mark.parametrize("malicious", [1, 2])
def test_krum_chooses_one_sites_parameters(malicious: int) -> None:
    for seed in range(20):
        vectors = np.random.default_rng(seed).normal(size=(7, 50)).astype(np.float32)
        got = aggregate(build_strategy(study("krum", malicious_sites=malicious)), 1, answers(vectors)).vector
        assert np.array_equal(got, vectors[blanchards(vectors, malicious)])


def test_krum_tells_models_apart_that_nearly_agree() -> None:
    """As models do that were trained from the same one: Flower's distances are rounding there."""
    right, flowers = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        spread = np.array([[1e-5], [2e-5], [3e-5], [4e-5], [5e-5], [6e-5], [7e-5]])
        vectors = (rng.normal(size=(1, 20_000)) + spread * rng.normal(size=(7, 20_000))).astype(np.float32)
        best = vectors[blanchards(vectors, 2)]
        theirs = Krum(weighted_by_key="num-participants", num_malicious_nodes=2)
        ours = build_strategy(study("krum", malicious_sites=2))
        right += np.array_equal(aggregate(ours, 1, answers(vectors)).vector, best)
        flowers += np.array_equal(aggregate(theirs, 1, answers(vectors)).vector, best)
    assert right == 20
    assert flowers < 15


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum"])
def test_a_robust_strategy_stays_among_the_honest_whatever_one_site_sends_and_claims(name: str) -> None:
    rng = np.random.default_rng(5)
    honest = rng.normal(size=(6, 1000))
    for bad in (1e30 * np.ones(1000), -50 * honest.mean(axis=0), np.zeros(1000), honest[0] + 1e-3):
        vectors = np.vstack([honest, bad])
        got = aggregate(build_strategy(study(name)), 1, answers(vectors, [20] * 6 + [10**6])).vector
        middle = honest.mean(axis=0)
        assert np.linalg.norm(got - middle) <= 1.001 * np.linalg.norm(honest - middle, axis=1).max()
    mean = aggregate(build_strategy(study("fedavg")), 1, answers(np.vstack([honest, 50 * np.ones(1000)]))).vector
    assert (mean > honest.max(axis=0)).any()


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum", "fedavgm"])
def test_order_of_arrival_and_replies_do_not_change(name: str, seven: list[Trained]) -> None:
    start = Parameters(seven[0].parameters.manifest, np.zeros(300_001, np.float32))
    before = matrix(seven)
    forward = aggregate(build_strategy(study(name)), 1, seven, start)
    backward = aggregate(build_strategy(study(name)), 1, seven[::-1], start)
    assert np.array_equal(forward.vector, backward.vector)
    assert np.array_equal(before, matrix(seven))


# ---- what Flower gets wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", typing.get_args(FederationConfig.model_fields["strategy"].annotation))
def test_every_strategy_answers_in_float32_round_after_round(name: str, seven: list[Trained]) -> None:
    current = Parameters(seven[0].parameters.manifest, np.zeros(300_001, np.float32))
    strategy = build_strategy(study(name))
    for round_ in (1, 2, 3):
        current = aggregate(strategy, round_, seven, current)
        assert current.vector.dtype == np.float32
    assert all(v.dtype == np.float32 for v in state_of(strategy).values())


@pytest.mark.parametrize("name", ["fedavg", "median", "krum"])
def test_weights_that_are_all_zero_end_in_an_error_of_ours(name: str, seven: list[Trained]) -> None:
    nobody = answers(matrix(seven), [0] * 7)
    with pytest.raises(QuorumLost, match="round 4: the strategy made no model of 7 replies"):
        aggregate(build_strategy(study(name)), 4, nobody)


def test_an_average_beyond_float32_is_no_model() -> None:
    far = answers(np.full((2, 10), 3.3e38), [1, 1])
    near = Parameters(far[0].parameters.manifest, np.full(10, -3.3e38, np.float32))
    with np.errstate(over="ignore"), pytest.raises(QuorumLost, match="round 2: the joined model is not finite"):
        aggregate(build_strategy(study("fedavgm", average_learning_rate=2.0)), 2, far, near)


def test_integers_cannot_be_packed_and_so_are_never_averaged() -> None:
    with pytest.raises(ProtocolError, match="parameters are int64"):
        Parameters(Manifest(("num_batches_tracked",), ((2,),)), np.array([5, 6]))  # type: ignore[arg-type]
