"""The mathematics of aggregation: Flower's own strategy classes, called on replies that have been checked."""

from collections.abc import Sequence

import numpy as np
from flwr.app import Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedProx, Strategy

from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost
from sarco_models.parameters import Parameters
from sarco_models.wire import Trained, array_record, vector_of

_WEIGHT, _PACKED = "num-participants", "packed"


def build_strategy(study: StudyConfig) -> Strategy:
    """The study's strategy; sites weigh by their training participants, never by images (SCIENCE, pitfall 15)."""
    cfg = study.federation
    if cfg.strategy == "fedprox":
        # The proximal term is added at the sites, from the study file; the average is FedAvg's.
        return FedProx(proximal_mu=cfg.proximal_mu, weighted_by_key=_WEIGHT)
    return FedAvg(weighted_by_key=_WEIGHT)


def aggregate(strategy: Strategy, round_: int, replies: Sequence[Trained]) -> Parameters:
    """Join the sites' parameters.

    Args:
        strategy: any Flower strategy; it sees one packed array per site and its weight.
        round_: counted from 1.
        replies: checked; taken in the order of the sites' names, so that every engine adds in the same order.
    """
    ordered = sorted(replies, key=lambda reply: reply.site)
    arrays, _metrics = strategy.aggregate_train(round_, [_message(reply) for reply in ordered])
    if arrays is None:
        raise QuorumLost(f"round {round_}: the strategy made no model of {len(ordered)} replies")
    # Some strategies answer in float64 (FLOWER 1.1); the wire carries float32.
    vector = np.asarray(vector_of(arrays[_PACKED]), dtype=np.float32)
    return Parameters(ordered[0].parameters.manifest, vector)


def _message(reply: Trained) -> Message:
    content = RecordDict(
        {
            "arrays": array_record({_PACKED: reply.parameters.vector}),
            "metrics": MetricRecord({_WEIGHT: reply.participants}),
        }
    )
    return Message(content, 0, MessageType.TRAIN)
