"""A coordinator and three hospitals as real processes with TLS and keys, killed one by one in the middle of rounds.

One run of many rounds goes on through all of it. Every round needs all three hospitals and is repeated until they are
there: so nothing may be lost, and after each kill the global model must be, bit for bit, that of the same study run in
one process without interruption.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deployment.federation import Federation, federation
from tests.deployment.run_under_way import RunUnderWay
from tests.deployment.started import alive
from tests.deployment.studies import NAMES, all_needed, in_one_process

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three() -> Iterator[Federation]:
    with federation(all_needed(), NAMES) as made:
        yield made


@pytest.fixture(scope="module")
def run(three: Federation) -> RunUnderWay:
    run = three.start_run()
    run.wait_round(1)
    return run


@pytest.fixture(scope="module")
def reference(three: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    return in_one_process(three, tmp_path_factory.mktemp("reference") / "run")


@contextmanager
def held_open(run: RunUnderWay) -> Iterator[int]:
    """A round whose last answer does not come before the end of the block: gamma's worker stands still."""
    with run.federation.frozen("gamma.worker"):
        yield run.wait_asked("gamma")


def same(run: RunUnderWay, reference: dict[int, bytes]) -> None:
    round_, model = run.parameters()
    assert model == reference[round_]
    assert sorted(run.record(round_)["sites"]) == sorted(NAMES)


def test_real_processes_make_the_model_that_one_process_makes(run: RunUnderWay, reference: dict[int, bytes]) -> None:
    run.wait_more(2)
    same(run, reference)


@pytest.mark.parametrize(
    "role", ["gate", "superlink", "superexec", "serverapp", "alpha.worker", "alpha.superexec", "alpha.supernode"]
)
def test_a_process_killed_in_the_middle_of_a_round_costs_nothing(
    three: Federation, run: RunUnderWay, reference: dict[int, bytes], role: str
) -> None:
    with held_open(run) as round_:
        killed = three.kill(role)
        three.wait(lambda: not alive(killed), 5, f"the death of {role}")
    run.wait_more(round_ + 1 - run.rounds, 300)
    assert three.pid(role) != killed
    same(run, reference)


def test_a_worker_killed_at_its_work_is_waited_for(
    three: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    """The one that the round waits for; its relay waits with the message, and asks the next one."""
    with held_open(run) as round_:
        three.kill("gamma.worker")
    run.wait_more(round_ + 1 - run.rounds)
    same(run, reference)


def test_a_hospital_that_dies_whole_comes_back_when_it_joins_again(
    three: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    beta = three.hospitals["beta"]
    with held_open(run) as round_:
        beta.joined.process.send_signal(signal.SIGKILL)
        three.wait(lambda: not [p for p in beta.processes() if alive(p)], 10, "everything of beta is gone")
    beta.join()
    run.wait_more(round_ + 1 - run.rounds, 300)
    same(run, reference)


def test_a_coordinator_that_dies_whole_goes_on_when_it_is_up_again(
    three: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    assert three.started
    with held_open(run) as round_:
        three.started.process.send_signal(signal.SIGKILL)
        three.wait(lambda: not three.coordinator_processes(), 10, "everything of the coordinator is gone")
    three.up()
    run.wait_more(round_ + 1 - run.rounds, 300)
    same(run, reference)
