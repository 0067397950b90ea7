"""Whom the gate turned away, why, and what to do about it: in words, for the coordinator's screen.

``refusals.jsonl`` holds at most 500 lines and is written whole, so that it can neither fill a disk nor be found half
written. What happens again is counted on its line. Lines of strangers go first: somebody who knocks at the door all day
cannot push a hospital's trouble off the list.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sarco_models.errors import ConfigError
from server.whole_files import write_text

if TYPE_CHECKING:
    from server.home import Home

MOST_LINES = 500
AGAIN_S = 3600.0
_WRITE_EVERY_S = 1.0
_MOST_DETAIL = 160

REASONS: dict[str, tuple[str, str]] = {
    "no-key": (
        "came without a node key",
        "if it is a hospital: start it with sarco-site join; if not, nothing: the gate keeps it out",
    ),
    "unknown-key": (
        "its key is not enrolled",
        "if you know whose it is: sarco-coordinator enrol SITE.pub --name NAME --home HOME; if not, nothing",
    ),
    "revoked": (
        "was revoked",
        "nothing, if that is meant; else it makes new keys and you enrol their .pub: a revoked key stays revoked",
    ),
    "clock": (
        "its clock is wrong",
        "ask the hospital to let NTP set its clock (timedatectl set-ntp true); at most 5 s ahead and 300 s behind pass",
    ),
    "signature": (
        "signed with another key than the one that it shows",
        "ask the hospital to run sarco-site doctor: keys/node.pem and keys/node.pub must be a pair",
    ),
    "certificate": (
        "showed the certificate of another key",
        "send the hospital its own kit again (kits/NAME.kit); two hospitals may have each other's",
    ),
    "tls": (
        "could not agree on a secure connection",
        "if it is a hospital: send it its kit again, it may hold the certificate of an older authority",
    ),
    "no-certificate": (
        "showed no client certificate of this coordinator",
        "send the hospital its kit again, or write client_certificates = false in coordinator.toml [gate]",
    ),
    "online": (
        "its key is online already, or its last session ended less than a minute ago",
        "wait a minute; if it stays so, the same key runs on two machines: ask the hospital which one is right",
    ),
    "superlink": (
        "was refused by the SuperLink",
        "enrol it again: sarco-coordinator enrol SITE.pub --name NAME --home HOME; see logs/superlink.log",
    ),
    "rate": (
        "asks too often",
        "nothing, if it ends by itself; else raise requests_per_second in coordinator.toml [gate]",
    ),
    "crowded": ("too many connections at once", "nothing, if it ends by itself; else look who it is in logs/gate.log"),
    "size": (
        "sent more than the limit",
        "raise max_body_mb in coordinator.toml [gate] if the hospital's pieces are meant to be so large",
    ),
    "volume": (
        "sent more in an hour than the limit",
        "raise max_mb_per_hour in coordinator.toml [gate] if the study's updates are so large; else ask the hospital",
    ),
    "route": (
        "asked for what is not served outside",
        "nothing: the gate kept it out; if the address is a hospital's, ask what runs there",
    ),
    "request": (
        "sent what is no request of a SuperNode",
        "nothing: the gate kept it out; if the address is a hospital's, a proxy there may change its requests",
    ),
    "slow": (
        "sent its request slower than the limit, or stopped in the middle",
        "if it is a hospital: look at its line and at the proxies between; its software tries again by itself",
    ),
}
"""Code of a refusal -> what it says of who was refused, and what the coordinator can do."""


@dataclass(frozen=True)
class Refusal:
    """One line of the list.

    Attributes:
        time: of the first time, ISO 8601.
        last: of the last time.
        address: where it came from.
        site: the hospital's name where its key is known, else empty.
        code: one of ``REASONS``.
        reason: why, in words, with the value and the limit where there are any.
        fix: what to do.
        count: how often.
    """

    time: str
    last: str
    address: str
    site: str
    code: str
    reason: str
    fix: str
    count: int = 1

    @property
    def who(self) -> str:
        """The hospital's name where it is known, and the address."""
        return f"{self.site} ({self.address})" if self.site else self.address

    def __str__(self) -> str:
        """One line: who, why, how often, what to do."""
        often = f" ({self.count} times, last {self.last})" if self.count > 1 else f" ({self.time})"
        return f"{self.who}: {self.reason}{often}: {self.fix}"


class Refusals:
    """The list as the gate writes it. Safe to use from several threads; ``flush`` writes what is new."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Go on with the list that is at ``path``; a damaged one is begun anew."""
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._changed = False
        self._written = 0.0
        self._lines = {(line.address, line.site, line.code, line.time): line for line in _read(path)}

    def add(self, address: str, code: str, *, site: str = "", detail: str = "") -> Refusal | None:
        """Note that somebody was turned away.

        Args:
            address: where it came from.
            code: one of ``REASONS``.
            site: the hospital's name, where its key is known.
            detail: values and limits; what does not print is taken out of it.

        Returns:
            Its line where it is news; None where the same has happened there within the last hour.
        """
        reason, fix = REASONS[code]
        detail = "".join(letter if letter.isprintable() else "?" for letter in detail)[:_MOST_DETAIL]
        now = self._clock()
        said = f"{reason}: {detail}" if detail else reason
        with self._lock:
            self._changed = True
            for key, line in reversed(self._lines.items()):
                if key[:3] == (address, site, code) and now - _seconds(line.last) < AGAIN_S:
                    self._lines[key] = replace(line, last=_iso(now), reason=said, count=line.count + 1)
                    return None
            line = Refusal(_iso(now), _iso(now), address, site, code, said, fix)
            self._lines[(address, site, code, line.time)] = line
            self._forget()
        return line

    def flush(self, *, now: bool = True) -> None:
        """Write the list; with ``now=False`` not more often than once a second.

        Raises:
            OSError: it cannot be written; it is kept, and the next call tries again.
        """
        with self._lock:
            if not self._changed or (not now and time.monotonic() - self._written < _WRITE_EVERY_S):
                return
            self._changed, self._written = False, time.monotonic()
            text = "".join(json.dumps(asdict(line)) + "\n" for line in self._lines.values())
        try:
            write_text(self._path, text)
            self._path.chmod(0o600)
        except OSError:
            self._changed = True
            raise

    def _forget(self) -> None:
        while len(self._lines) > MOST_LINES:
            strangers = (key for key, line in self._lines.items() if not line.site)
            del self._lines[next(strangers, next(iter(self._lines)))]


def read_refusals(home: Home, last: int = 20) -> tuple[Refusal, ...]:
    """The last refusals of a home, the newest at the end; lines that cannot be read are left out."""
    lines = sorted(_read(home.refusals), key=lambda line: _seconds(line.last))
    return tuple(lines[-last:]) if last else ()


def _read(path: Path) -> list[Refusal]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return []
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}: it must be a file of the coordinator's own account") from None
    found = []
    for line in text.splitlines()[-MOST_LINES:]:
        try:
            refusal = Refusal(**json.loads(line))
            _seconds(refusal.last)
        except (ValueError, TypeError):
            continue
        found.append(refusal)
    return found


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
