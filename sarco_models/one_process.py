"""One program that is kept running: started, looked at, started again after a while, ended with all that it began."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco_models.errors import ProcessError

Told = Callable[[str], None]

MARK = "SARCO_SUPERVISED"
"""In the environment of everything that a supervisor starts: its state file. So its orphans can be found."""

PATIENCE_S = 10.0
"""How long a program that was asked to end may take, where it does not say otherwise."""

TELL_AFTER_S = 3.0
"""How long a program may take to end before somebody is told what is waited for."""

_LOG_BYTES = 10_000_000
_TAIL_BYTES = 8_000
_READY_EVERY_S = 0.3
_COMMANDS = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*(?:[@-~]|$)"  # colours, the cursor
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"  # titles, the clipboard
    r"|\x1b[ -/]*[0-~]?"
)

_LAUNCH = """
import ctypes, os, signal, sys
parent, account, *command = sys.argv[1:]
try:
    if account:
        user, group, *more = map(int, account.split(":"))
        os.setgroups(more)
        os.setgid(group)
        os.setuid(user)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(1)
    os.execvpe(command[0], command, os.environ)
except OSError as error:
    as_ = f", as account {account}" if account else ""
    print(f"{command[0]}: {error.strerror}{as_}", file=sys.stderr)
    os._exit(127)
"""
"""The kernel kills the program when its supervisor dies (PR_SET_PDEATHSIG). The program asks for it itself, after it
has become another user, which would clear it. No code of ours runs between fork and exec of a process with threads."""


def printable(text: str) -> str:
    """A text that others have written, for a terminal: lines, and nothing that a terminal would take for a command."""
    lines = _COMMANDS.sub("", text.replace("\t", " ")).splitlines()
    return "\n".join("".join(letter for letter in line if letter.isprintable()) for line in lines)


def _always_hopeful(_code: int, _said: str) -> str:
    return ""


@dataclass(frozen=True)
class Program:
    """What to keep running.

    Attributes:
        name: for people.
        command: the program and its arguments.
        env: the whole of its environment.
        log: file that its output is added to; rights 600.
        cwd: its working folder.
        user: account that it runs as, or its number; empty: as this process. Another one needs root.
        groups: numbers of groups that it belongs to besides the account's own; only with ``user``.
        ready: whether it answers by now; what comes after it is started then. None: as soon as it runs.
        hopeless: exit code and the last lines of the log -> why starting it again cannot help; empty: it may.
        patience_s: seconds that it may take to end when it is asked; then it is killed.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    user: str = ""
    groups: tuple[int, ...] = ()
    ready: Callable[[], bool] | None = None
    hopeless: Callable[[int, str], str] = _always_hopeful
    patience_s: float = PATIENCE_S


@dataclass(frozen=True)
class Pace:
    """How patient a supervisor is, in seconds.

    Attributes:
        first_s: before a program is started again the first time; doubled each time.
        longest_s: at most.
        healthy_s: a program that ran this long begins with ``first_s`` again.
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    healthy_s: float = 300.0


@dataclass
class OneProcess:
    """One program, and where it is.

    Attributes:
        program: what is kept running.
        pace: how patiently.
        clock: seconds.
        mark: state file of its supervisor, told to everything that is started.
        process: while it runs.
        restarts: how often it was started again.
        said: the last lines it wrote before it ended.
        was_ready: whether it has answered once since the supervisor began.
        ready: whether it has answered since it was started last.
        state: ``waiting``, ``running`` or ``ended``.
        since: when that began, UTC.
    """

    program: Program
    pace: Pace
    clock: Callable[[], float]
    mark: str
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    said: str = ""
    was_ready: bool = False
    ready: bool = False
    state: str = "waiting"
    since: str = ""
    _wait_s: float = 0.0
    _begun: float = 0.0
    _due: float = 0.0
    _looked: float = 0.0
    _log_start: int = 0

    def advance(self, told: Told) -> str:
        """Start it if it is time, see whether it has ended or is ready; returns why it is hopeless."""
        if self.process is None:
            if self.clock() >= self._due:
                self._try_to_start(told)
            return ""
        code = self._ended()
        if code is None:
            self._look()
            return ""
        self.said = self._tail()
        why = self.program.hopeless(code, self.said)
        self._become("ended" if why else "waiting")
        if code < 0:
            self.said = ""  # a signal comes from outside: what it wrote last has nothing to do with it
        if not why:
            self._later(f"ended ({_ending(code)})", told)
        return why

    def _try_to_start(self, told: Told) -> None:
        """No room for its log, no memory for a process: it may be better in a while."""
        try:
            self._start()
        except OSError as error:
            self.said = f"{error.filename or self.program.log}: {error.strerror}"
            self._later("cannot be started", told)

    def _start(self) -> None:
        self.program.log.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(self.program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            account = _account(self.program)
            self._log_start = os.fstat(log).st_size
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), account, *self.program.command],
                env={**self.program.env, MARK: self.mark},
                cwd=self.program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
        finally:
            os.close(log)
        self._begun = self.clock()
        self._become("running")

    def _ended(self) -> int | None:
        """The exit code; what it has started ends with it. Its number is given free only after that."""
        process = self.process
        if process is None:
            return None
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        _kill_group(process.pid)
        self.process = None
        return process.wait()

    def _look(self) -> None:
        now = self.clock()
        if not self.ready and now - self._looked >= _READY_EVERY_S:
            self._looked = now
            try:
                self.ready = self.program.ready is None or self.program.ready()
            except OSError:
                self.ready = False
            self.was_ready = self.was_ready or self.ready
        with contextlib.suppress(OSError):
            if self.program.log.stat().st_size > _LOG_BYTES:
                self._rotate()

    def _rotate(self) -> None:
        """Its end is copied, and it is emptied, for the program holds the file open, and adds to wherever the end is.

        The end alone: what the program has started holds it open, too, and a hole can be made of any length.
        """
        older = self.program.log.with_name(self.program.log.name + ".1")
        older.unlink(missing_ok=True)
        copy = os.open(older, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(copy, "wb") as to, self.program.log.open("rb") as log:
            log.seek(max(os.fstat(log.fileno()).st_size - _LOG_BYTES, 0))
            to.write(log.read(_LOG_BYTES))
        os.truncate(self.program.log, 0)
        self._log_start = 0

    def _later(self, what: str, told: Told) -> None:
        healthy = self.clock() - self._begun >= self.pace.healthy_s
        self._wait_s = self.pace.first_s if healthy or not self._wait_s else min(2 * self._wait_s, self.pace.longest_s)
        self._due = self.clock() + self._wait_s
        self.restarts += 1
        last = f": {self.said.splitlines()[-1].strip()}" if self.said.strip() else ""
        told(f"{self.program.name} {what}{last}; started again in {self._wait_s:g} s")

    def _tail(self) -> str:
        """The last lines that it has written since it was started."""
        try:
            with self.program.log.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(min(self._log_start, size), size - _TAIL_BYTES))
                return printable(file.read(_TAIL_BYTES).decode("utf-8", "replace")).rstrip()
        except OSError:
            return ""

    def end(self, told: Told | None = None, hurry: threading.Event | None = None) -> None:
        """Ask it to end, wait for as long as it may take, and kill it with all that it has started.

        Args:
            told: hears that it takes a while.
            hurry: where this is set it is killed at once.
        """
        process = self.process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            self._await_end(told, hurry or threading.Event())
            if self.process is not None:
                _kill_group(process.pid)
                process.wait()
                self.process = None
        self._become("ended")

    def _await_end(self, told: Told | None, hurry: threading.Event) -> None:
        began, patience = time.monotonic(), self.program.patience_s
        while self._ended() is None and time.monotonic() < began + patience and not hurry.is_set():
            if told and patience > PATIENCE_S and time.monotonic() >= began + TELL_AFTER_S:
                told(
                    f"{self.program.name} has not ended yet: it may take up to {patience / 60:.0f} min to finish its "
                    "work; ask again to cut it short"
                )
                told = None
            time.sleep(0.02)

    def _become(self, state: str) -> None:
        self.state, self.ready = state, False
        self.since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def facts(self) -> dict[str, Any]:
        """Its entry in the state file."""
        lines = self.said.splitlines()
        return {
            "pid": self.process.pid if self.process else 0,
            "state": self.state,
            "ready": self.ready,
            "restarts": self.restarts,
            "since": self.since,
            "said": lines[-1].strip()[:500] if lines else "",
        }


def _account(program: Program) -> str:
    """Numbers of an account and of its groups, for the launcher; empty: stay who we are."""
    user = program.user
    if not user:
        return ""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise ProcessError(f"there is no account {user}: make it with useradd --system {user}") from None
    return ":".join(map(str, (entry.pw_uid, entry.pw_gid, *program.groups)))


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
