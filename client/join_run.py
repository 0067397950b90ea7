"""Joining, from start to end: three programs under a supervisor, one sentence for each thing that happens."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress

from rich.console import Console
from rich.status import Status

from client.accounts import end_relay, own, owner_of, warnings
from client.alone import Taken, hold
from client.doctor import causes
from client.joined import CONNECTING, Answers, Moment, moment
from client.joining import SUPERNODE, Joining
from client.kit import Kit
from client.private_files import write_private
from client.service import active
from client.site_folder import SiteFolder
from sarco_models.chain import Chain
from sarco_models.errors import ConfigError, ProcessError
from sarco_models.processes import Supervisor, printable, supervisor_of

_LOOK_S = 0.5
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(folder: SiteFolder, kit: Kit, console: Console, *, quiet: bool) -> str:
    """Take part until somebody ends it, or it cannot go on.

    Args:
        folder: of the hospital.
        kit: that was approved.
        console: for people.
        quiet: say only what goes wrong.

    Returns:
        Why it could not go on, and what to do; empty where it was asked to end.

    Raises:
        ConfigError: the folder cannot be used as it is.
        ProcessError: it has joined already, or an account is missing.
    """
    with ExitStack() as locks:
        _alone(folder, locks)  # before anything of another's is replaced
        return _run(folder, kit, console, quiet=quiet)


def _alone(folder: SiteFolder, locks: ExitStack) -> None:
    pid, services = supervisor_of(folder.state_file), active(folder)
    if services:
        raise ProcessError(
            f"{folder.name} has joined already, as a service ({services[0]}): "
            f"systemctl stop sarco-{folder.name}.target ends it"
        )
    try:
        folder.run.mkdir(exist_ok=True, mode=0o700)
        hold(locks, folder.run / "join.lock")
        if owner_of(folder):
            own(folder)
    except OSError as error:
        raise ConfigError(f"{folder.run}: {error.strerror}: the account that joins must be able to write it") from None
    except Taken:
        raise ProcessError(
            f"{folder.name} has joined already (process {pid or 'unknown'}): sarco-site leave {folder.path} ends it"
        ) from None


def _run(folder: SiteFolder, kit: Kit, console: Console, *, quiet: bool) -> str:
    joining = Joining.prepare(folder, kit)
    supervisor = Supervisor(joining.programs(), folder.state_file)
    told = _Told(folder, console, quiet=quiet)
    for line in warnings(folder):
        told.trouble(line)
    stop, hurry = threading.Event(), threading.Event()
    before = {number: signal.signal(number, lambda *_: (hurry if stop.is_set() else stop).set()) for number in _STOPS}
    why = "it was ended by an error of its own"
    try:
        supervisor.start()
        _note(folder, kit)
        told.say(f"{folder.name} joins {kit.address} for study {kit.study.name}; Ctrl-C ends it")
        with told.watching(stop):
            why = supervisor.watch(stop, lambda text: told.trouble(shortened(text)))
        told.say("ending" if not why else "giving up")
    finally:
        stop.set()
        supervisor.stop(told.trouble, hurry)
        end_relay(folder)
        _ended(folder, why)
        for number, handler in before.items():
            signal.signal(number, handler)
    if not why:
        told.say(f"{folder.name} has left; sarco-site join {folder.path} goes on")
    return "\n".join([why, *_also(folder, kit)]) if why else ""


def _also(folder: SiteFolder, kit: Kit) -> Iterator[str]:
    """What the quick checks find beside it."""
    for check in causes(folder, kit):
        yield f"{check.level}: {check.name}: {check.value} -> {check.remedy}"


def _note(folder: SiteFolder, kit: Kit) -> None:
    """The audit log says since when the hospital takes part."""
    try:
        Chain(folder.audit).append("joined", {"study": kit.digest, "coordinator": kit.address})
    except OSError as error:
        raise ConfigError(
            f"{folder.audit}: {error.strerror}: without the audit log nothing is answered: make room, and let this "
            "account write there"
        ) from None
    if owner_of(folder):
        own(folder)


def _ended(folder: SiteFolder, why: str) -> None:
    """For ``status``: when and why the last join ended."""
    content = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), "why": why or "somebody ended it"}
    with suppress(OSError):
        write_private(folder.run / "ended.json", json.dumps(content))


class _Told:
    """Says what happens: each thing once, with its time; on a terminal what is done now is shown below."""

    def __init__(self, folder: SiteFolder, console: Console, *, quiet: bool) -> None:
        self._folder, self._console, self._quiet = folder, console, quiet

    def say(self, text: str) -> None:
        """A line with the time."""
        if not self._quiet:
            self._print(text)

    def trouble(self, text: str) -> None:
        """A line that is said also when all others are not."""
        self._print(text)

    def _print(self, text: str) -> None:
        stamp = time.strftime("%H:%M:%S")
        self._console.print(f"{stamp}  {printable(text)}", highlight=False, markup=False, soft_wrap=True)

    def watching(self, stop: threading.Event) -> AbstractContextManager[object]:
        """Look at what is done, in a thread, until ``stop``."""
        live: AbstractContextManager[object] = nullcontext()
        if self._console.is_terminal and not self._quiet:
            live = self._console.status("starting")
        threading.Thread(target=self._look, args=(live, stop), daemon=True).start()
        return live

    def _look(self, live: object, stop: threading.Event) -> None:
        last, answers = Moment(""), Answers(self._folder.audit)
        while not stop.wait(_LOOK_S):
            for line, trouble in answers.new():
                (self.trouble if trouble else self.say)(line)
            now = moment(self._folder)
            if isinstance(live, Status):
                live.update(now.sentence)
            if worth_a_line(last, now):
                (self.trouble if now.trouble else self.say)(now.sentence)
            last = last if passing(last, now) else now


def worth_a_line(last: Moment, now: Moment) -> bool:
    """Work is told of when it is done; trouble, its end, and how the connection comes about at once."""
    return not passing(last, now) and now.sentence != last.sentence


def passing(last: Moment, now: Moment) -> bool:
    """Whether it will be over in a while: work, and another try after trouble that was told of."""
    return now.at_work or (last.trouble and now.sentence == CONNECTING)


def shortened(text: str) -> str:
    """What the supervisor tells, without the SuperNode's own reason: the connection's moment says it, too."""
    return re.sub(rf"^({SUPERNODE} ended \(exit \d+\)): .*(; started again in )", r"\1\2", text, flags=re.DOTALL)
