"""Lines that fail between hospitals and coordinator: everything is asked for again, and nothing is lost.

Each hospital reaches the gate through a line of its own. One run goes on through all of it; every round needs all three
hospitals, so the global model must be, bit for bit, that of the uninterrupted run in one process.
"""

from collections.abc import Iterator

import pytest

from tests.deployment.federation import Federation, federation
from tests.deployment.run_under_way import RunUnderWay
from tests.deployment.studies import NAMES, in_one_process, wide

pytestmark = pytest.mark.slow

EACH_MESSAGE = ("pull-messages", "pull-object", "confirm-message", "push-messages", "push-object")
MB = 1_000_000


@pytest.fixture(scope="module")
def lined() -> Iterator[Federation]:
    with federation(wide(), NAMES, lined=NAMES) as made:
        yield made


@pytest.fixture(scope="module")
def run(lined: Federation) -> RunUnderWay:
    run = lined.start_run()
    run.wait_round(1)
    return run


@pytest.fixture(scope="module")
def reference(lined: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    return in_one_process(lined, tmp_path_factory.mktemp("reference") / "run")


@pytest.fixture(autouse=True)
def healed(lined: Federation) -> Iterator[None]:
    yield
    for hospital in lined.hospitals.values():
        hospital.line.heal()


def nothing_was_lost(run: RunUnderWay, reference: dict[int, bytes]) -> None:
    """Two more rounds are complete, with the right model; everybody is still asking for work."""
    before = {name: hospital.line.passed("pull-messages") for name, hospital in run.federation.hospitals.items()}
    run.wait_more(2)
    round_, model = run.parameters()
    assert model == reference[round_]
    assert sorted(run.record(round_)["sites"]) == sorted(NAMES)
    for name, hospital in run.federation.hospitals.items():
        assert hospital.line.passed("pull-messages") > before[name]


@pytest.mark.parametrize("path", [*EACH_MESSAGE, "send-node-heartbeat"])
def test_an_error_of_the_line_is_asked_again(
    lined: Federation, run: RunUnderWay, reference: dict[int, bytes], path: str
) -> None:
    """One hospital meets 500, one 502, one 429, each twice."""
    faults = [
        lined.hospitals[name].line.will("answer", path, status=status, times=2)
        for name, status in zip(NAMES, (500, 502, 429), strict=True)
    ]
    lined.wait(lambda: all(fault.hits for fault in faults), 90, f"the errors at {path} strike")
    nothing_was_lost(run, reference)


def test_a_proxy_that_takes_1_mb_loses_no_update(
    lined: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    """The update is of 1.7 MB. Refused once, it travels in smaller pieces from then on."""
    fault = lined.hospitals["alpha"].line.will("limit", amount=MB, times=10**6)
    lined.wait(lambda: fault.hits, 90, "the proxy refuses")
    nothing_was_lost(run, reference)
    refused = fault.hits
    nothing_was_lost(run, reference)
    assert fault.hits == refused


def test_an_upload_that_is_cut_in_the_middle_is_sent_again(
    lined: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    fault = lined.hospitals["beta"].line.will("cut", "push-object", amount=200_000, times=2)
    lined.wait(lambda: fault.hits == 2, 90, "the line is cut twice")
    nothing_was_lost(run, reference)


@pytest.mark.parametrize("path", ["pull-messages", "push-messages"])
def test_an_answer_that_never_comes_is_asked_for_again(
    lined: Federation, run: RunUnderWay, reference: dict[int, bytes], path: str
) -> None:
    fault = lined.hospitals["gamma"].line.will("drop", path)
    lined.wait(lambda: fault.hits == 1, 60, "the line falls silent")
    nothing_was_lost(run, reference)


def test_a_slow_line_delays_and_loses_nothing(lined: Federation, run: RunUnderWay, reference: dict[int, bytes]) -> None:
    fault = lined.hospitals["alpha"].line.will("delay", "push-object", amount=3, times=4)
    lined.wait(lambda: fault.hits, 60, "the line is slow")
    nothing_was_lost(run, reference)
