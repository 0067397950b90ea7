"""Programs that run beside each other for weeks: started in order, started again when they end, stopped together.

What is promised: a program that ends is started again, later each time; one that cannot succeed is not, and the reason
is handed up; nothing outlives its supervisor, also where that is killed; one supervisor at a time; logs stay small; and
a small file says at any moment what runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sarco_models.errors import ProcessError
from sarco_models.one_process import MARK, PATIENCE_S, OneProcess, Pace, Told
from sarco_models.one_process import Program as Program
from sarco_models.one_process import printable as printable

_TICK_S = 0.1
_TRIES = 5


def quiet_environment(home: Path, **more: str) -> dict[str, str]:
    """The least environment that Flower's programs need: no secret of ours, nothing that calls home, no code of home's.

    Args:
        home: their own folder, for what they keep.
        more: variables to add.
    """
    kept = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "PYTHONPATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= _proxies()
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # no module out of the working folder, where what the coordinator ships may write
        "PYTHONNOUSERSITE": "1",  # nor out of HOME
    }
    return environment | more


def _proxies() -> dict[str, str]:
    """The proxies that this process was given; never for this machine itself."""
    names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")
    found = {name: os.environ[name] for name in names if os.environ.get(name)}
    none = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = [host for host in none.split(",") if host]
    direct = ",".join([*hosts, *(host for host in ("127.0.0.1", "localhost") if host not in hosts)])
    return found | {"NO_PROXY": direct, "no_proxy": direct}


def program(name: str) -> str:
    """Path of a command that was installed beside this Python.

    Raises:
        ProcessError: there is none.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise ProcessError(f"{path}: there is no such command: install this project again into {path.parent.parent}")
    return str(path)


class Supervisor:
    """Keeps programs running. ``start``, ``watch`` and ``stop`` belong to one thread: the programs die with it."""

    def __init__(
        self,
        programs: Sequence[Program],
        state_file: Path,
        *,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``programs`` in the order in which they are started; each waits for those before it to be ready."""
        self._state_file = state_file
        self._running = [OneProcess(each, pace or Pace(), clock, str(state_file)) for each in programs]
        self._lock: int | None = None
        self._written = ""

    def start(self) -> None:
        """Take the state file, end what a killed supervisor has left, and start the first program.

        Raises:
            ProcessError: another supervisor has the state file, or it cannot be written.
        """
        try:
            self._state_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _locked(self._state_file)
            end_orphans(self._state_file)
            self._advance(lambda _text: None)
        except ProcessError:
            self._release()
            raise
        except OSError as error:
            self._release()
            raise ProcessError(
                f"{self._state_file}: {error.strerror}: it must lie in a folder that this account may write to, on a "
                "disk that has room"
            ) from None

    def watch(self, stop: threading.Event, told: Told) -> str:
        """Keep everything running until ``stop`` is set or a program cannot be helped.

        Args:
            stop: set it from a signal handler or from another thread.
            told: hears in one sentence what has ended and what was started again.

        Returns:
            Why it gave up; empty after ``stop``.
        """
        while not stop.wait(_TICK_S):
            why = self._advance(told)
            if why:
                return why
        return ""

    def stop(self, told: Told | None = None, hurry: threading.Event | None = None) -> None:
        """End every program, the last first: asked, and after its patience killed, with all that it has started.

        One that was never started, or refused, does nothing: the programs are another's.

        Args:
            told: hears in one sentence of a program that takes a while to end.
            hurry: set it, from a signal handler, to kill what has not ended yet.
        """
        if self._lock is None:
            return
        for each in reversed(self._running):
            each.end(told, hurry)
        self._note()
        self._release()

    @property
    def ready(self) -> bool:
        """Whether every program runs and answers."""
        return all(each.ready for each in self._running)

    def _advance(self, told: Told) -> str:
        for each in self._running:
            why = each.advance(told)
            if why:
                self._note()
                return why
            if not each.was_ready:
                break
        self._note()
        return ""

    def _note(self) -> None:
        """Write what runs, where it has changed; a full disk does not stop what runs."""
        text = json.dumps({each.program.name: each.facts() for each in self._running}, indent=1)
        if text != self._written:
            partial = self._state_file.with_name(self._state_file.name + ".partial")
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
                with os.fdopen(_opened(partial, os.O_WRONLY | os.O_EXCL), "w", encoding="utf-8") as file:
                    file.write(text + "\n")
                partial.replace(self._state_file)
                self._written = text

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def states(state_file: Path) -> dict[str, dict[str, Any]]:
    """What a supervisor has written: for each program ``pid, state, ready, restarts, since, said``.

    Whether it still holds, :func:`supervisor_of` says.
    """
    try:
        found = json.loads(state_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def supervisor_of(state_file: Path) -> int:
    """Number of the process that supervises with this state file; 0: none does."""
    try:
        descriptor = os.open(_lock_file(state_file), os.O_RDONLY)
    except OSError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return int(os.read(descriptor, 20) or b"0")
    else:
        return 0
    finally:
        os.close(descriptor)


def end_orphans(state_file: Path) -> None:
    """Kill what a supervisor with this state file has started and left behind; they carry its mark."""
    for pid in list(_marked(f"{MARK}={state_file}".encode())):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE_S
    while any(_marked(f"{MARK}={state_file}".encode())) and time.monotonic() < until:
        time.sleep(0.02)


def _marked(mark: bytes) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def _lock_file(state_file: Path) -> Path:
    return state_file.with_name(state_file.name + ".lock")


def _opened(path: Path, flags: int) -> int:
    """A file for whose folder it is alone, also where root supervises."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        os.fchown(descriptor, path.parent.stat().st_uid, -1)
    return descriptor


def _locked(state_file: Path) -> int:
    descriptor = _opened(_lock_file(state_file), os.O_RDWR)
    for _ in range(_TRIES):  # who only asks whether there is a supervisor holds it for a moment
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        time.sleep(_TICK_S)
    else:
        owner = os.read(descriptor, 20).decode() or "unknown"
        os.close(descriptor)
        raise ProcessError(
            f"{state_file}: process {owner} supervises these programs already: stop it first, or leave it running"
        ) from None
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor
