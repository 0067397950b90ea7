"""Where hospitals are that are not connected: shut out by the coordinator, gone by their own will, or only away.

``sites.json`` says who was revoked. Flower keeps no word of who left by itself: in its database a SuperNode that said
good-bye looks like one whose lease ran out. So ``up`` looks every few seconds, and whose connection ended before its
lease did has left; ``departures.json`` keeps that until the hospital is back. A run reads both: it waits for nobody who
was revoked, and says of everybody else who is not there what is known.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sarco_models.errors import ConfigError
from server.failures import AWAY, left, revoked
from server.home import Home
from server.whole_files import write_json

log = logging.getLogger(__name__)

FILE = "departures.json"
_EXACTLY_S = 1.0
"""A connection that ends so little before its lease was not ended by anybody."""


@dataclass(frozen=True)
class Connection:
    """How a hospital's SuperNode stands with Flower.

    Attributes:
        name: as enrolled.
        online: whether it is connected.
        lease: until when it counts as connected without another heartbeat, unix seconds.
        ended: when its last connection ended, as Flower writes it; empty where none has.
    """

    name: str
    online: bool
    lease: float
    ended: str


def read_departures(home: Path) -> dict[str, str]:
    """Hospitals that have left by themselves and are not back -> when, as Flower wrote it; empty: nothing is known."""
    try:
        found = json.loads((home / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(when) for name, when in found.items()} if isinstance(found, dict) else {}


class Departures:
    """Finds out who has left, from one look at Flower's list to the next."""

    def __init__(self, home: Home) -> None:
        """Nobody was seen yet."""
        self._home = home
        self._leases: dict[str, float] = {}

    def look(self, connections: Iterable[Connection]) -> None:
        """Note who has left since the last look, and forget who is back; at least once in a lease."""
        known = read_departures(self._home.folder)
        found: dict[str, str] = {}
        for connection in connections:
            if connection.online:
                self._leases[connection.name] = connection.lease
            elif connection.ended and (known.get(connection.name) == connection.ended or self._early(connection)):
                found[connection.name] = connection.ended
        if found != known:
            write_json(self._home.folder / FILE, found)

    def _early(self, connection: Connection) -> bool:
        """Whether it ended before the lease that was seen; a later heartbeat only makes that longer."""
        return seconds_of(connection.ended) < self._leases.get(connection.name, 0.0) - _EXACTLY_S


def seconds_of(when: str) -> float:
    """Unix seconds of an hour as Flower writes it; infinite where it is none."""
    try:
        return datetime.fromisoformat(when).timestamp()
    except ValueError:
        return float("inf")


@dataclass
class Absences:
    """Why hospitals are not there, for a run at work; follows the files of the home as they change.

    Attributes:
        home: that the run belongs to; None where it belongs to none, as in a simulation: then nothing is known.
    """

    home: Home | None = None
    _seen: tuple[int, int] = (0, 0)
    _revoked: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of_run(folder: Path) -> Absences:
        """For the run in this directory of a home's ``runs``."""
        place = folder.resolve().parent.parent
        try:
            home = Home.open(place) if (place / "sites.json").is_file() else None
        except ConfigError:
            home = None
        return Absences(home if home is not None and home.runs_folder == folder.resolve().parent else None)

    def revoked(self) -> Mapping[str, str]:
        """Hospitals that may not connect any more -> the reason for the records; who was enrolled again is not one."""
        if self.home is not None and (stamp := _stamp(self.home.sites_file)) != self._seen:
            self._seen = stamp
            try:
                self._revoked = shut_out(self.home)
            except ConfigError as error:
                log.error("%s; the run goes on with the list that it has", error)
        return self._revoked

    def why(self, name: str) -> str:
        """The reason for the records that a hospital is not there."""
        shut = self.revoked().get(name)
        if shut or self.home is None:
            return shut or AWAY
        when = read_departures(self.home.folder).get(name)
        return left(when) if when else AWAY


def shut_out(home: Home) -> dict[str, str]:
    """Revoked hospitals that were not enrolled again -> the reason for the records.

    Raises:
        ConfigError: sites.json is damaged.
    """
    newest = {site.name: site for site in sorted(home.sites(), key=lambda site: site.enrolled)}
    return {name: revoked(site.revoked) for name, site in newest.items() if site.revoked}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return (0, 0)
    return (about.st_mtime_ns, about.st_ino)
