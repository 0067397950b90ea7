"""Programs that a test starts: they die with it, their words are kept, and nothing of them is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"sarco-site": "client.cli", "sarco-coordinator": "server.cli"}
# The kernel kills the command when the test dies, however it dies; its own children are its supervisor's business.
_DIES_WITH_US = "import ctypes, signal; ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
_SWITCHES = {
    "OMP_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "PYTHONPATH": str(ROOT),
    "COLUMNS": "160",
}


class NotYet(AssertionError):
    """What was waited for did not come in time."""


def wait_until(happened: Callable[[], object], seconds: float, what: str, seen: Callable[[], str] = str) -> None:
    """Look every 50 ms until it has happened; ``seen`` says what there is instead.

    Raises:
        NotYet: it has not, in so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise NotYet(f"not in {seconds:g} s: {what}\n{seen()}")
        time.sleep(0.05)


def arguments(command: str, *words: str | Path) -> list[str]:
    """How a command of ours is run from a checkout that is not installed."""
    code = f"{_DIES_WITH_US}import sys; sys.argv[0] = {command!r}; from {COMMANDS[command]} import app; app()"
    return [sys.executable, "-c", code, *map(str, words)]


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a hospital's or coordinator's shell would have, and nothing of the test's own."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **_SWITCHES, **(more or {})}


@dataclass
class Said:
    """A command that has ended."""

    command: str
    status: int
    out: str

    def well(self) -> Said:
        """Itself, where it ended with 0."""
        assert self.status == 0, f"{self.command}: exit status {self.status}\n{self.out}"
        return self


def say(
    folder: Path, command: str, *words: str | Path, timeout: float = 120, env: Mapping[str, str] | None = None
) -> Said:
    """Run a command to its end."""
    done = subprocess.run(  # noqa: S603 - our own commands
        arguments(command, *words),
        cwd=folder,
        env=environment(folder, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Said(" ".join(map(str, (command, *words))), done.returncode, done.stdout)


class Started:
    """A command that goes on, in a process group of its own, writing to ``log``."""

    everything: ClassVar[list[Started]] = []

    def __init__(self, folder: Path, log: Path, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                cwd=folder,
                env=environment(folder, env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.everything.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def words(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def ended(self, seconds: float) -> int:
        """Its exit status, once it has ended."""
        wait_until(lambda: not self.running, seconds, f"the end of {self.log.stem}", lambda: self.words)
        return int(self.process.returncode)

    def stop(self, seconds: float = 20) -> int:
        """Ask it to end; kill it where it does not."""
        if self.running:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
        return int(self.process.returncode)

    def kill(self) -> None:
        """SIGKILL to it and whatever is in its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


def processes_of(folder: Path) -> Iterator[tuple[int, str]]:
    """Processes, but this one, that were given this folder on their command line or in their environment."""
    name = os.fsencode(folder)
    for place in Path("/proc").iterdir():
        if not place.name.isdigit() or int(place.name) == os.getpid():
            continue
        with suppress(OSError):
            line = (place / "cmdline").read_bytes()
            if name in line or name in (place / "environ").read_bytes():
                yield int(place.name), line.replace(b"\0", b" ").decode(errors="replace").strip()


def end_all(folder: Path) -> list[str]:
    """Kill every process of a folder, so that none is left; returns what they were."""
    found: list[str] = []
    for started in [one for one in Started.everything if folder in one.log.parents]:
        started.kill()
        Started.everything.remove(started)
    for _ in range(20):
        left = [(pid, line) for pid, line in processes_of(folder) if alive(pid)]
        if not left:
            break
        for pid, line in left:
            found.append(line)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Processes whose parent this is."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                if int((place / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(place.name))
    return found
