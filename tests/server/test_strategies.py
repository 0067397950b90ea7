"""Our averages are Flower's, bit for bit; and any other strategy of Flower works on the same replies."""

import json

import numpy as np
import pytest
from flwr.serverapp.strategy import FedAvg, FedMedian, Strategy
from flwr.supercore.task_identity import TaskIdentity

from sarco_models.config import StudyConfig
from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import Trained
from server.strategies import aggregate, build_strategy

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


def study(strategy: str, mu: float = 0.0) -> StudyConfig:
    tree = {"name": "s", "title": "s", "label": {"column": "y", "rule": "r"}, "model": {"modalities": ["image"]}}
    return StudyConfig.model_validate_json(
        json.dumps({**tree, "federation": {"strategy": strategy, "proximal_mu": mu}})
    )


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
