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
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, Strategy
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
            "strategy = fedavg, fedprox, fedadam or fedyogi, or secure_aggregation = false"
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
    if cfg.strategy == "fedprox":
        return _InPlaceProx(proximal_mu=cfg.proximal_mu, weighted_by_key=_WEIGHT)
    return _InPlace(weighted_by_key=_WEIGHT)


_ADAPTIVE: Mapping[str, type[FedAdam | FedYogi]] = {"fedadam": _InPlaceAdam, "fedyogi": _InPlaceYogi}

# By exact type: Flower's robust strategies are subclasses of its FedAvg.
_SUMS_ONLY = frozenset(
    {FedAvg, FedProx, FedAdam, FedYogi, FedAdagrad, FedAvgM, _InPlace, _InPlaceProx, _InPlaceAdam, _InPlaceYogi}
)


def aggregate(
    strategy: Strategy, round_: int, replies: Sequence[Trained], current: Parameters | None = None
) -> Parameters:
    """Join the sites' parameters.

    Args:
        strategy: any Flower strategy; it sees one packed array per site and its weight.
        round_: counted from 1.
        replies: checked; taken in the order of the sites' names, so that every engine adds in the same order.
        current: what the sites trained from; the adaptive strategies step from there.
    """
    ordered = sorted(replies, key=lambda reply: reply.site)
    if isinstance(strategy, FedOpt) and current is not None:
        # Flower sets this where it sends the model itself, in float64 from FedAdam's second round on.
        strategy.current_arrays = {_PACKED: current.vector}
    arrays, _metrics = strategy.aggregate_train(round_, [_message(reply) for reply in ordered])
    if arrays is None:
        raise QuorumLost(f"round {round_}: the strategy made no model of {len(ordered)} replies")
    # Some strategies answer in float64 (FLOWER 1.1); the wire carries float32.
    vector = np.asarray(vector_of(arrays[_PACKED]), dtype=np.float32)
    return Parameters(ordered[0].parameters.manifest, vector)


def state_of(strategy: Strategy) -> dict[str, NDArray[np.float32]]:
    """What the strategy remembers from round to round, by name, each (numbers,); empty for averages.

    The arrays are never changed in place: they may be written while the next round goes on.
    """
    if not isinstance(strategy, FedOpt) or strategy.m_t is None or strategy.v_t is None:
        return {}
    return {"m": strategy.m_t[_PACKED], "v": strategy.v_t[_PACKED]}


def restore(strategy: Strategy, state: Mapping[str, NDArray[np.float32]]) -> None:
    """Let the strategy go on from what :func:`state_of` said; an empty state is that of a run's start.

    Raises:
        RunError: it is the state of another strategy.
    """
    if not isinstance(strategy, FedOpt):
        if state:
            raise RunError("the run stored a strategy's state, and its strategy has none: restore the run directory")
        return
    if state and set(state) != {"m", "v"}:
        raise RunError(f"a strategy's state of {sorted(state)}; expected m and v: restore the run directory")
    strategy.m_t = {_PACKED: state["m"]} if state else None
    strategy.v_t = {_PACKED: state["v"]} if state else None


def _message(reply: Trained) -> Message:
    content = RecordDict(
        {
            _ARRAYS: array_record({_PACKED: reply.parameters.vector}),
            _METRICS: MetricRecord({_WEIGHT: reply.participants}),
        }
    )
    return Message(content, 0, MessageType.TRAIN)
