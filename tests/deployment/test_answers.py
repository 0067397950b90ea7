"""A hospital that lies, one that is frozen: its reply is refused or missed by name, and rounds count with the rest."""

from collections.abc import Iterator

import numpy as np
import pytest

from server.runs import Run
from tests.deployment.federation import Federation, federation
from tests.deployment.hurt import LIES, hurt
from tests.deployment.run_under_way import RunUnderWay
from tests.deployment.studies import NAMES, two_enough

pytestmark = pytest.mark.slow

SAID = {
    "nan": "not finite",
    "infinite": "not finite",
    "huge norm": "median",
    "wrong name": "another model",
    "wrong shape": "another model",
    "stale round": "round",
    "other site": "name of alpha",
    "zero weight": "weight of 0",
    "missing metric": "metric",
    "unknown metric": "luck",
    "metric is not finite": "not finite",
}
TOLD = dict(enumerate(LIES, start=1))
"""Round -> the lie that gamma tells in it."""


@pytest.fixture(scope="module")
def two() -> Iterator[Federation]:
    """Gamma lies; in the last round it does not."""
    with federation(two_enough(len(LIES) + 1, deadline_s=15), NAMES, join=("alpha", "beta")) as made:
        made.hospitals["gamma"].join(hurt(made.base / "hurt", lies=TOLD))
        made.wait_joined("gamma")
        yield made


@pytest.fixture(scope="module")
def told(two: Federation) -> RunUnderWay:
    return two.start_run().wait_done(240)


@pytest.mark.parametrize(("round_", "lie"), TOLD.items())
def test_a_lie_is_refused_by_name_and_the_round_counts_with_the_rest(told: RunUnderWay, round_: int, lie: str) -> None:
    record = told.record(round_)
    assert SAID[lie] in record["failures"]["gamma"]
    assert sorted(record["sites"]) == ["alpha", "beta"]


def test_who_tells_the_truth_again_counts_again(told: RunUnderWay) -> None:
    record = told.record(len(LIES) + 1)
    assert sorted(record["sites"]) == sorted(NAMES)
    assert not record["failures"]
    assert np.isfinite(Run.open(told.folder).final.vector).all()


def test_a_frozen_hospital_is_missed_and_rejoins(two: Federation) -> None:
    """Everything of gamma, which is honest now, stands still for longer than a round."""
    hurt(two.base / "hurt")
    two.forget_models()
    run = two.start_run()
    run.wait_round(1)
    with two.frozen("gamma.worker", "gamma.supernode", "gamma.superexec"):
        asked = run.wait_asked("gamma")
        run.wait_round(asked + 1)
        went_on = run.rounds
    run.wait_round(went_on + 3)
    took_part = {k: "gamma" in run.record(k)["sites"] for k in range(1, run.rounds + 1)}
    assert took_part[asked - 1]
    assert not took_part[asked]
    assert not took_part[asked + 1]
    assert took_part[went_on + 3]
    assert "gamma" in run.record(asked)["failures"]
