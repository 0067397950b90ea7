"""The mathematics of aggregation: Flower's own strategy classes, called on replies that have been checked.

FedAdam and FedYogi (Reddi et al. 2021, algorithm 2) take the weighted mean of the sites' changes for a gradient. With D
for that mean, x for the model, and m and v for what the coordinator remembers, all by element:

    m = beta1 m + (1 - beta1) D
    v = beta2 v + (1 - beta2) D^2                    FedAdam
    v = v - (1 - beta2) D^2 sign(v - D^2)            FedYogi
    x = x + eta m / (sqrt(v) + tau)

As Flower computes them, three things are not the paper's: the sites weigh by their participants (in the paper's
algorithm equally); m and v begin at 0 (there v begins at tau^2 or more); and FedAdam's eta is multiplied by
sqrt(1 - beta2^(t+1)) / (1 - beta1^(t+1)) in round t, counted from 1. That resembles the correction of Kingma and Ba
(2015), whose exponent is t, and the paper has none: with the default betas it is .74 in the first round, .47 in the
twelfth, and rises to 1. m and v are float32; the step of FedAdam is made in float64 and rounded once.

FedAvgM (Hsu et al. 2019, section 4.3) remembers a velocity: v = beta v - D, x = x - lr v. Flower leaves v out where
beta is 0, and the whole step where the rate is 1 as well: then it is the average.

The robust strategies see each site's own parameters, and a weight does not move them: a site can claim any. With y_i
for them, sorted number by number:

    median          the middle one, or the mean of the middle two (Yin et al. 2018, definition 1)
    trimmed mean    the mean without the k smallest and the k largest, k = the share of the sites, rounded down
                    (definition 2)
    Krum            the one y_i whose sum of squared distances to its n - f - 2 nearest others is least (Blanchard et
                    al. 2017, section 4), f sites being malicious

Put right here: whatever comes out is float32 (FLOWER 1.1); Krum's distances are sums of squared differences in
float64, where Flower takes norms less products in float32, which for two models that nearly agree leaves rounding
alone, and may be negative; and each site is left out of its own nearest, where Flower drops the least distance. Median
and trimmed mean are taken block by block, without Flower's two further copies of every site's model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    Strategy,
)
from flwr.serverapp.strategy.fedopt import FedOpt
from numpy.typing import NDArray

from sarco_models.config import FederationConfig, StudyConfig
from sarco_models.errors import ConfigError, QuorumLost, RunError
from sarco_models.parameters import Parameters
from sarco_models.wire import Trained, array_record, vector_of

_WEIGHT, _PACKED, _ARRAYS, _METRICS = "num-participants", "packed", "arrays", "metrics"
_BLOCK = 1 << 18
"""Numbers added at once: 1 MB stays in the processor's cache."""


class _InPlace(FedAvg):
    """Flower's weighted average, bit for bit, without its copies: a quarter of its time on 28.6 million numbers."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the packed arrays of all replies; weights are in the metrics."""
        contents = [reply.content for reply in replies]
        weights = [float(c.metric_records[_METRICS][_WEIGHT]) for c in contents]  # type: ignore[arg-type]
        vectors = [vector_of(c.array_records[_ARRAYS][_PACKED]) for c in contents]
        if not vectors:
            return None, None
        shares = [w / sum(weights) for w in weights]
        mean = np.empty_like(vectors[0])
        term = np.empty(min(_BLOCK, len(mean)), dtype=mean.dtype)
        for start in range(0, len(mean), _BLOCK):
            here = slice(start, start + _BLOCK)
            block = mean[here]
            np.multiply(vectors[0][here], shares[0], out=block)
            for vector, share in zip(vectors[1:], shares[1:], strict=True):
                block += np.multiply(vector[here], share, out=term[: len(block)])
        return array_record({_PACKED: mean}), MetricRecord()


class _InPlaceProx(_InPlace, FedProx):
    """FedProx averages as FedAvg does; its proximal term is added at the sites, from the study file."""


class _InPlaceAdam(FedAdam, _InPlace):
    """Flower's FedAdam; the average that it begins with is ours."""


class _InPlaceYogi(FedYogi, _InPlace):
    """Flower's FedYogi; the average that it begins with is ours."""


class _InPlaceMomentum(FedAvgM, _InPlace):
    """Flower's FedAvgM; the average that it begins with is ours."""


class _Quiet(FedAvg):
    """The replies have been checked already, and Flower would write a line for every block of them."""

    def _check_and_log_replies(
        self, replies: Iterable[Message], is_train: bool, validate: bool = True
    ) -> tuple[list[Message], list[Message]]:
        return list(replies), []


class _Blockwise(_Quiet):
    """A strategy that treats every number by itself, given a block of numbers at a time."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Join the packed arrays of all replies, block by block."""
        told = [(vector_of(r.content.array_records[_ARRAYS][_PACKED]), r.content.metric_records) for r in replies]
        if not told:
            return None, None
        joined = np.empty_like(told[0][0])
        for start in range(0, len(joined), _BLOCK):
            here = slice(start, start + _BLOCK)
            pieces = [_message(vector[here], int(metrics[_METRICS][_WEIGHT])) for vector, metrics in told]  # type: ignore[arg-type]
            arrays, _ = super().aggregate_train(server_round, pieces)
            if arrays is None:
                return None, None
            joined[here] = vector_of(arrays[_PACKED])
        return array_record({_PACKED: joined}), MetricRecord()


class _BlockwiseMedian(_Blockwise, FedMedian):
    """Flower's FedMedian, a block at a time."""


class _BlockwiseTrimmed(_Blockwise, FedTrimmedAvg):
    """Flower's FedTrimmedAvg, a block at a time."""


class _ExactKrum(_Quiet, Krum):
    """Flower's Krum, which is given the site that Krum chooses: its own distances are float32's rounding."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The parameters nearest to their n - f - 2 nearest others; of equals, those that come first."""
        there = list(replies)
        vectors = [vector_of(r.content.array_records[_ARRAYS][_PACKED]) for r in there]
        nearest = max(1, len(there) - self.num_malicious_nodes - 2)
        scores = [sum(sorted(row)[:nearest]) for row in _squared_distances(vectors)]
        return super().aggregate_train(server_round, [there[int(np.argmin(scores))]] if there else [])


def _squared_distances(vectors: Sequence[NDArray[np.float32]]) -> list[list[float]]:
    """Of every vector, the squared Euclidean distances to all others."""
    found: list[list[float]] = [[] for _ in vectors]
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors[:i]):
            total = 0.0
            for start in range(0, len(a), _BLOCK):
                apart = np.subtract(a[start : start + _BLOCK], b[start : start + _BLOCK], dtype=np.float64)
                total += float(np.dot(apart, apart))
            found[i].append(total)
            found[j].append(total)
    return found


def build_strategy(study: StudyConfig) -> Strategy:
    """The study's strategy; sites weigh by their training participants, never by images (SCIENCE, pitfall 15).

    Raises:
        ConfigError: it must see single updates, and the study aggregates securely.
    """
    strategy = _strategy(study.federation)
    return sums_only(strategy) if study.federation.secure_aggregation else strategy


def sums_only(strategy: Strategy) -> Strategy:
    """The strategy, where the sites' weighted mean is all that it needs; it then gets one reply in the name of all.

    Raises:
        ConfigError: it needs single updates (robust aggregation, clipping by the coordinator), or nobody knows.
    """
    if type(strategy) not in _SUMS_ONLY:
        raise ConfigError(
            f"federation.secure_aggregation: {type(strategy).__name__} needs the sites' single updates, or may do so "
            "(medians, trimming, choosing and clipping need them), and the coordinator sees their sum alone: write "
            "strategy = fedavg, fedprox, fedavgm, fedadam or fedyogi, or secure_aggregation = false"
        )
    return strategy


def _strategy(cfg: FederationConfig) -> Strategy:
    if cfg.strategy in _ADAPTIVE:
        return _ADAPTIVE[cfg.strategy](
            weighted_by_key=_WEIGHT,
            eta=cfg.server_learning_rate,
            beta_1=cfg.server_momentum,
            beta_2=cfg.server_second_momentum,
            tau=cfg.server_adaptivity,
        )
    return _OTHERS[cfg.strategy](cfg)


_ADAPTIVE: Mapping[str, type[FedAdam | FedYogi]] = {"fedadam": _InPlaceAdam, "fedyogi": _InPlaceYogi}
_OTHERS: Mapping[str, Callable[[FederationConfig], Strategy]] = {
    "fedavg": lambda cfg: _InPlace(weighted_by_key=_WEIGHT),
    "fedprox": lambda cfg: _InPlaceProx(proximal_mu=cfg.proximal_mu, weighted_by_key=_WEIGHT),
    "fedavgm": lambda cfg: _InPlaceMomentum(
        server_learning_rate=cfg.average_learning_rate, server_momentum=cfg.server_momentum, weighted_by_key=_WEIGHT
    ),
    "median": lambda cfg: _BlockwiseMedian(weighted_by_key=_WEIGHT),
    # A hair's breadth more: 1/49 of 49 sites is .9999999999999999 of a site, and one is to be left out.
    "trimmed_mean": lambda cfg: _BlockwiseTrimmed(
        beta=min(cfg.trim_share + 1e-12, 0.5 - 1e-12), weighted_by_key=_WEIGHT
    ),
    "krum": lambda cfg: _ExactKrum(num_malicious_nodes=cfg.malicious_sites, weighted_by_key=_WEIGHT),
}

# By exact type: Flower's robust strategies are subclasses of its FedAvg.
_SUMS_ONLY = frozenset(
    {FedAvg, FedProx, FedAdam, FedYogi, FedAdagrad, FedAvgM}
    | {_InPlace, _InPlaceProx, _InPlaceAdam, _InPlaceYogi, _InPlaceMomentum}
)


def aggregate(
    strategy: Strategy, round_: int, replies: Sequence[Trained], current: Parameters | None = None
) -> Parameters:
    """Join the sites' parameters.

    Args:
        strategy: any Flower strategy; it sees one packed array per site and its weight.
        round_: counted from 1.
        replies: checked; taken in the order of the sites' names, so that every engine adds in the same order.
        current: what the sites trained from; the strategies that remember something step from there.

    Raises:
        QuorumLost: there are no replies, nobody has a weight, or the joined model is not finite.
    """
    ordered = sorted(replies, key=lambda reply: reply.site)
    # Flower sets this where it sends the model itself, in float64 from FedAdam's second round on.
    if isinstance(strategy, FedOpt) and current is not None:
        strategy.current_arrays = {_PACKED: current.vector}
    if isinstance(strategy, FedAvgM) and current is not None:
        strategy.current_arrays = array_record({_PACKED: current.vector})
    weighty = sum(reply.participants for reply in ordered) > 0
    messages = [_message(reply.parameters.vector, reply.participants) for reply in ordered]
    arrays, _metrics = strategy.aggregate_train(round_, messages) if weighty else (None, None)
    if arrays is None:
        raise QuorumLost(f"round {round_}: the strategy made no model of {len(ordered)} replies")
    # Some strategies answer in float64 (FLOWER 1.1); the wire carries float32.
    with np.errstate(over="ignore"):
        vector = np.asarray(vector_of(arrays[_PACKED]), dtype=np.float32)
    if not all(np.isfinite(vector[start : start + _BLOCK]).all() for start in range(0, len(vector), _BLOCK)):
        raise QuorumLost(
            f"round {round_}: the joined model is not finite, though every site's is: their numbers are near the "
            "greatest of float32: lower the study's learning rates, and start it anew"
        )
    return Parameters(ordered[0].parameters.manifest, vector)


def state_of(strategy: Strategy) -> dict[str, NDArray[np.float32]]:
    """What the strategy remembers from round to round, by name, each (numbers,); empty for averages.

    The arrays are never changed in place: they may be written while the next round goes on.
    """
    if isinstance(strategy, FedAvgM) and strategy.momentum_vector is not None:
        return {"velocity": strategy.momentum_vector[0]}
    if not isinstance(strategy, FedOpt) or strategy.m_t is None or strategy.v_t is None:
        return {}
    return {"m": strategy.m_t[_PACKED], "v": strategy.v_t[_PACKED]}


def restore(strategy: Strategy, state: Mapping[str, NDArray[np.float32]]) -> None:
    """Let the strategy go on from what :func:`state_of` said; an empty state is that of a run's start.

    Raises:
        RunError: it is the state of another strategy.
    """
    names = ("m", "v") if isinstance(strategy, FedOpt) else ("velocity",) if isinstance(strategy, FedAvgM) else ()
    if state and not names:
        raise RunError("the run stored a strategy's state, and its strategy has none: restore the run directory")
    if state and set(state) != set(names):
        raise RunError(
            f"a strategy's state of {', '.join(sorted(state))}; expected {' and '.join(names)}: restore the run "
            "directory"
        )
    if isinstance(strategy, FedAvgM):
        strategy.momentum_vector = [state["velocity"]] if state else None
    if not isinstance(strategy, FedOpt):
        return
    strategy.m_t = {_PACKED: state["m"]} if state else None
    strategy.v_t = {_PACKED: state["v"]} if state else None


def _message(vector: NDArray[np.float32], participants: int) -> Message:
    content = RecordDict(
        {_ARRAYS: array_record({_PACKED: vector}), _METRICS: MetricRecord({_WEIGHT: participants})},
    )
    return Message(content, 0, MessageType.TRAIN)
