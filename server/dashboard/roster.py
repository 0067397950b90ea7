"""Who is connected, and whether a process is still there.

Flower knows which hospitals are connected, and asking costs seconds: it is asked in the background, only while somebody
looks at the page, and what it last said is shown with its age.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.dashboard.files import moment

log = logging.getLogger(__name__)

ASK_EVERY_S = 10.0
TOO_OLD_S = 30.0


@dataclass(frozen=True)
class Seen:
    """A hospital as Flower knows it.

    Attributes:
        online: whether its SuperNode is connected.
        last_seen: seconds since 1970; None where Flower does not say.
        left: whether it went by itself, and when it was last seen is when.
    """

    online: bool
    last_seen: float | None
    left: bool = False


Ask = Callable[[], Mapping[str, Seen]]


class Roster:
    """What Flower last said of who is connected. ``known`` never waits."""

    def __init__(self, ask: Ask | None, clock: Callable[[], float] = time.time) -> None:
        """``ask`` may be slow and may fail; None where there is nobody to ask."""
        self._ask, self._clock = ask, clock
        self._seen: Mapping[str, Seen] | None = None
        self._asked = 0.0
        self._busy = threading.Lock()

    def known(self) -> Mapping[str, Seen] | None:
        """By hospital; None as long as nobody has answered, or where the last answer is too old to be true."""
        now = self._clock()
        if now - self._asked > TOO_OLD_S:  # nobody has looked for a while
            self._seen = None
        if self._ask and now - self._asked >= ASK_EVERY_S and self._busy.acquire(blocking=False):
            self._asked = now
            threading.Thread(target=self._refresh, name="roster", daemon=True).start()
        return self._seen

    def _refresh(self) -> None:
        try:
            self._seen = self._ask() if self._ask else None
        except Exception as error:  # whatever the adapter raises, the page goes on without an answer
            log.info("who is connected is not known: %s", type(error).__name__)
            self._seen = None
        finally:
            self._busy.release()


def of_flower(home: Path) -> Ask:
    """Asks the SuperLink of a home, through ``server.control``."""

    def ask() -> Mapping[str, Seen]:
        from server.control import Control
        from server.home import Home

        with Control(Home.open(home)) as control:
            nodes = control.nodes()
        return {n.name: Seen(bool(n.online), moment(n.last_seen), bool(n.left)) for n in nodes if n.name}

    return ask


def alive(pid: object, since: float | None = None) -> bool | None:
    """Whether a process of this machine is there; None where that cannot be said.

    Args:
        pid: its number.
        since: when the process wrote that this is its number. One that began later has only inherited the number.
    """
    if isinstance(pid, bool) or not isinstance(pid, int) or pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    began = _began(pid)
    if began is None:
        return True
    state, seconds = began
    if state == "Z":
        return False
    return not (since is not None and seconds > since + 2.0)


def _began(pid: int) -> tuple[str, float] | None:
    """State and beginning (seconds since 1970) of a process; None outside Linux."""
    try:
        about = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        up = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return about[0], time.time() - up + int(about[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
