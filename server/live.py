"""What a run does at this moment, for whoever looks on: ``live.json``; and who holds the run directory.

The file is written whole at each change, at most every fifth of a second, and is never read to go on with a run: the
records are what counts. So it is not synced to the disk, and a disk that does not take it costs the run nothing.

    {"phase": "waiting | plan | describe | setup | round | evaluate | assess | probe | done | failed",
     "round": 3, "rounds": 20, "attempt": 1, "started": unix seconds, "deadline": unix seconds or null, "needed": 2,
     "sites": {name: {"state": "asked | answered | refused | failed | away", "why": "", "seconds": 1.5}},
     "trouble": "of the coordinator's own side", "failure": "", "pid": 4711, "time": unix seconds of this writing}

A run directory belongs to one process at a time: :func:`alone` holds ``run.lock`` as long as it works.
"""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sarco_models.errors import RunError

log = logging.getLogger(__name__)

FILE = "live.json"
LOCK = "run.lock"
_EVERY_S = 0.2
"""Between two writings, unless the phase changes."""
_TRIES, _BETWEEN_S = 5, 0.1
"""To hold a run directory: whoever only looks (:func:`held_by`) holds it for a moment, too."""


class Live:
    """The present state of one run; what is told is on the disk soon after."""

    def __init__(self, folder: Path, *, rounds: int = 0, needed: int = 0) -> None:
        """Nothing is written before the first phase.

        Args:
            folder: of the run.
            rounds: of the study.
            needed: sites that must answer.
        """
        self._path = folder / FILE
        self._state: dict[str, Any] = {"rounds": rounds, "needed": needed, "sites": {}}
        self._asked: dict[str, float] = {}
        self._written = 0.0
        self._stale = False

    def phase(self, name: str, *, round_: int = 0, attempt: int = 1, seconds: float | None = None) -> None:
        """Something else begins: all sites start anew.

        Args:
            name: one of those of the module's docstring.
            round_: 0 before the first.
            attempt: at this, from 1.
            seconds: until its deadline; None where there is none.
        """
        now = time.time()
        deadline = now + seconds if seconds is not None else None
        self._state |= {"phase": name, "round": round_, "attempt": attempt, "started": now, "deadline": deadline}
        self._state |= {"sites": {}, "failure": ""}
        self._asked = {}
        self._write()

    def site(self, name: str, state: str, why: str = "") -> None:
        """What became of one site; it was first asked when it was first called ``asked``."""
        now = time.time()
        asked = self._asked.setdefault(name, now)
        self._state["sites"][name] = {"state": state, "why": why, "seconds": round(now - asked, 3)}
        self._stale = True
        self.flush()

    def trouble(self, words: str) -> None:
        """What the coordinator's own side lacks at this moment; empty: nothing."""
        self._state["trouble"] = words
        if "phase" in self._state:
            self._write()

    def drop(self, name: str) -> None:
        """A site is known under a better name now."""
        self._state["sites"].pop(name, None)

    def flush(self, *, at_once: bool = False) -> None:
        """Write what has not been written, once it is time."""
        if self._stale and (at_once or time.monotonic() - self._written >= _EVERY_S):
            self._write()

    def ended(self, failure: str = "") -> None:
        """The run is done; or it has failed, and why."""
        self._state |= {"phase": "failed" if failure else "done", "failure": failure, "deadline": None, "trouble": ""}
        self._write()

    def _write(self) -> None:
        self._written, self._stale = time.monotonic(), False
        text = json.dumps({**self._state, "pid": os.getpid(), "time": time.time()}, indent=1)
        partial = self._path.with_name(f"{FILE}.{os.getpid()}.partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written (%s); the run goes on", FILE, error.strerror)


def read_live(folder: Path) -> dict[str, Any] | None:
    """What a run said last of itself; None where it never said anything, or the file is damaged.

    Whether it still does is told by :func:`held_by`.
    """
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "phase" in found else None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a run directory; the lock dies with the process, however that dies.

    Raises:
        RunError: another process works on this run, or the directory cannot be written.
    """
    try:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written: {error.strerror}: mend that and run the same command again"
        ) from None
    try:
        _lock(file, folder)
        os.ftruncate(file, 0)
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, without its holder's number
            os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _lock(file: int, folder: Path) -> None:
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_BETWEEN_S)
    pid = os.pread(file, 20, 0).decode() or "unknown"
    raise RunError(
        f"{folder}: process {pid} works on this run already: wait for it, or stop it and run the same command again"
    )


def held_by(folder: Path) -> int | None:
    """Number of the process that works on a run: 0 where it is not known; None while nobody does."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(file, 20, 0).decode()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(file)
    return None
