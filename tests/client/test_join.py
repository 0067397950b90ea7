"""sarco-site join with its real three programs, against a coordinator that says what a test wants it to say."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.audit import verify
from client.contact import SAYS, End
from client.site_folder import SiteFolder
from sarco_models.processes import states, supervisor_of
from tests.client.federated import a_folder, kit_file
from tests.client.stand_in_coordinator import Says, StandIn, stand_in

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
Answer = tuple[int, bytes, dict[str, str]]


def site(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "client.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)  # noqa: S603


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@contextmanager
def joined(place: Path, coordinator: StandIn, *words: str) -> Iterator[tuple[SiteFolder, "subprocess.Popen[str]"]]:
    folder = a_folder(place)
    kit = kit_file(place, folder, address=coordinator.address, client_certificate=None)
    assert site("approve", kit, "--site", folder.site_file, "--yes").returncode == 0
    command = [sys.executable, "-m", "client.cli", "join", str(folder.path), *words]
    process = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        yield folder, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait(until: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    begun = time.monotonic()
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begun < LIMIT_S
        time.sleep(0.1)


def pid_of(folder: SiteFolder, name: str) -> int:
    return int(states(folder.state_file).get(name, {}).get("pid", 0))


def test_joining_serving_surviving_and_leaving(tmp_path: Path) -> None:
    """Each program is killed once: it comes back, and the hospital with it."""
    with stand_in(tmp_path / "authority") as coordinator, joined(tmp_path, coordinator) as (folder, process):
        wait(lambda: coordinator.asked.count("pull-messages") >= 2, process)
        wait(lambda: "connected, waiting for work" in site("status", folder.path).stdout, process)
        twice = site("join", folder.path)
        assert (twice.returncode, "has joined already" in twice.stderr) == (1, True), twice
        for name in ("worker", "superexec", "supernode"):
            wait(lambda name=name: pid_of(folder, name), process)
            before = pid_of(folder, name)
            assert before, "kill(0) would end this test run"
            os.kill(before, signal.SIGKILL)
            wait(lambda name=name, before=before: pid_of(folder, name) not in (0, before), process)
        asked = len(coordinator.asked)
        wait(lambda: "pull-messages" in coordinator.asked[asked:], process)
        assert coordinator.asked.count("activate-node") == 2
        left = site("leave", folder.path)
        assert left.returncode == 0, left.stderr
        assert "has left: its processes have ended, and the coordinator knows" in left.stdout
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert coordinator.asked[-1] == "deactivate-node"
    assert "supernode ended (SIGKILL); started again in 1 s" in output
    assert supervisor_of(folder.state_file) == 0
    assert [e.kind for e in verify(folder.audit).entries] == ["approval", "joined", "left"]
    assert not folder.socket.exists()


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ((412, b'{"detail": "alpha was revoked on Monday", "code": 2004}', {}), End.REVOKED),
        ((401, b"Invalid SuperNode authentication", {}), End.UNAUTHORIZED),
    ],
)
def test_a_refused_hospital_does_not_exit_with_0(
    tmp_path: Path, answer: tuple[int, bytes, dict[str, str]], end: End
) -> None:
    says: Says = lambda path, _times: answer if path == "activate-node" else None  # noqa: E731
    with (
        stand_in(tmp_path / "authority", says) as coordinator,
        joined(tmp_path, coordinator, "--quiet") as (folder, process),
    ):
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert f"error: {SAYS[end]}" in said
    assert "What to do: " in said
    assert "it ended" in site("status", folder.path).stdout


def test_data_that_cannot_be_used_end_it_with_the_reason(tmp_path: Path) -> None:
    with stand_in(tmp_path / "authority") as coordinator:
        folder = a_folder(tmp_path)
        (folder.data / "participants.csv").write_text("nothing,of,use\n1,2,3\n")
        with joined(tmp_path, coordinator, "--quiet") as (_folder, process):
            _, said = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1
    assert "the data cannot be used" in said
    assert "activate-node" not in coordinator.asked, "who cannot work does not connect"
