"""A hospital that leaves, and one that is shut out in the middle of its work: both sides say so, and nobody waits."""

import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.deployment.federation import Federation, federation
from tests.deployment.run_under_way import RunUnderWay
from tests.deployment.studies import NAMES, all_needed

pytestmark = pytest.mark.slow

AT_ONCE_S = 30.0
"""On a machine that does much else; the round's deadline is a minute, and the wait for hospitals ten."""


@pytest.fixture(scope="module")
def three() -> Iterator[Federation]:
    with federation(all_needed(), NAMES) as made:
        yield made


@pytest.fixture(scope="module")
def run(three: Federation) -> RunUnderWay:
    run = three.start_run()
    run.wait_round(1)
    return run


def status(made: Federation) -> str:
    return " ".join(made.coordinator("status", made.home).out.split())


def test_a_hospital_that_left_is_said_to_have_left_and_may_come_back(three: Federation, run: RunUnderWay) -> None:
    beta = three.hospitals["beta"]
    three.site("leave", beta.folder).well()
    left = datetime.now(UTC)
    three.wait(lambda: "beta left on " in status(three), AT_ONCE_S, "the coordinator knows that beta has left")
    (seen,) = re.findall(r"beta left on \S+ at \S+ UTC (\S+)", status(three))
    assert abs((left - datetime.fromisoformat(seen)).total_seconds()) < 20, "not a lease earlier"
    three.wait(lambda: "left on" in str(run.live.get("sites")), AT_ONCE_S, f"the run says it: {run.live}")
    beta.join()
    run.wait_more(1)
    assert "beta online" in status(three)


def test_a_run_that_lacks_a_revoked_hospital_ends_at_once_and_the_hospital_is_told(
    three: Federation, run: RunUnderWay
) -> None:
    gamma = three.hospitals["gamma"]
    worker = three.signal("gamma.worker", signal.SIGSTOP)
    run.wait_asked("gamma")
    three.coordinator("revoke", "gamma", "--home", three.home).well()
    began = time.monotonic()
    three.wait(lambda: not run.command.running, AT_ONCE_S, f"the end of the run: {run.live}")
    assert time.monotonic() - began < AT_ONCE_S
    assert worker
    today = datetime.now(UTC).date().isoformat()
    words = " ".join(run.command.words.split())
    assert f"gamma was revoked on {today} by the coordinator; alpha, beta may still take part" in words
    assert f"gamma revoked on {today} by the coordinator" in status(three)
    doctor = three.site("doctor", gamma.folder)
    assert doctor.status == 1
    assert "the coordinator has revoked this hospital's key (it says: gamma was revoked on" in doctor.out
    other = three.site("doctor", three.hospitals["alpha"].folder)
    assert "the coordinator knows this hospital's key and lets it in" in other.out
