"""Beside the supervisor of ``up``: what Flower must be told, and what must be done again.

Promised: Flower's list of hospitals becomes that of sites.json within half a minute, also where the SuperLink was away
when somebody was enrolled, or has lost its database; who leaves by itself is noted; a run that died goes on; the
database is packed when nothing runs. What fails is tried again, and costs the rest nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sarco_models.errors import RunError, SarcoError
from server import submissions
from server.control import Control
from server.departures import Connection, Departures
from server.enrolment import synchronize
from server.home import Home

Told = Callable[[str], None]

_LOOK_S, _WHO_S, _AGAIN_S, _PACK_S = 2.0, 5.0, 30.0, 60.0
_PATIENT_LOOKS = 15


def watch(home: Home, stop: threading.Event, told: Told, tidy: Callable[[], None]) -> None:
    """Look after hospitals, runs that died and the size of the database, until ``stop`` is set.

    Args:
        home: of the coordinator.
        stop: ends it.
        told: hears what happens, in sentences.
        tidy: packs the database; called while nothing runs.
    """
    since, departures = time.time(), Departures(home)
    with Control(home, timeout_s=10.0) as control:
        duties = (
            _Duty(partial(_know_hospitals, home, control, told), _AGAIN_S, lambda: _stamp(home.sites_file)),
            _Duty(partial(_note_who_left, departures, control), _WHO_S),
            _Duty(partial(submissions.look_after, home, control, told, since=since)),
            _Duty(partial(_when_idle, control, tidy), _PACK_S, done=time.monotonic()),
        )
        while not stop.wait(_LOOK_S):
            for duty in duties:
                if not duty.attempt(told):
                    control.close()


@dataclass
class _Duty:
    """Something that is done again and again; where it fails, it is tried at each look, and the others go on.

    Attributes:
        do: it.
        every_s: so long after it was done well it is due again.
        stamp: it is due at once where this has changed.
        done: when it was done well last.
        seen: the stamp of that time.
        failed: how often since.
    """

    do: Callable[[], None]
    every_s: float = 0.0
    stamp: Callable[[], object] = lambda: None
    done: float = -math.inf
    seen: object = None
    failed: int = 0

    def attempt(self, told: Told) -> bool:
        """Do it if it is due; False where it failed."""
        stamp = self.stamp()
        if stamp == self.seen and time.monotonic() - self.done < self.every_s:
            return True
        try:
            self.do()
        except (SarcoError, OSError) as error:
            self.failed += 1
            if self.failed == _PATIENT_LOOKS:  # a SuperLink that is being started again is no news
                told(str(error))
            return False
        self.done, self.seen, self.failed = time.monotonic(), stamp, 0
        return True


def _know_hospitals(home: Home, control: Control, told: Told) -> None:
    """Flower may have been away when one was enrolled or revoked, and its database may have been lost."""
    if home.sites_file.is_file():  # what Flower is told to refuse, it refuses for ever
        for sentence in synchronize(home, control):
            told(sentence)


def _note_who_left(departures: Departures, control: Control) -> None:
    """Flower forgets how a connection ended; this is looked at more often than a lease lasts."""
    try:
        nodes = control.nodes()
    except RunError:  # another duty says it
        return
    departures.look(Connection(node.name, node.online, node.lease, node.ended) for node in nodes)


def _when_idle(control: Control, tidy: Callable[[], None]) -> None:
    if not any(run.alive for run in control.runs()):
        tidy()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return (0, 0)
    return (about.st_mtime_ns, about.st_ino)
