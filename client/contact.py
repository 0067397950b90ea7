"""What became of a hospital's connection to the coordinator: a code for programs, one plain sentence for people.

The SuperNode's launcher (:mod:`client.supernode`) tells every answer and every failure to a :class:`Contact`, which
knows why it ended, whether its main loop still lives, and writes a small file that ``join`` and ``status`` show.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

FAST_S, SLOW_S = 4.0, 290.0
"""How far a hospital's clock may be before and behind the coordinator's: what is signed outside of it is refused."""

LEASE_S = 60.0
"""How long a coordinator holds the place of a site that was killed; until then the same key is refused."""

SILENT_S = 180.0
"""A main loop that neither waits for the hospital's own work nor reaches the coordinator for so long hangs."""

HEARD_S = 90.0
"""A heart that beats reaches the coordinator every 22 seconds."""

ADMISSION_FAILED = "2004"
"""Flower's number for: no such key, or a node with this key is connected."""

_TOLD_EVERY_S = 10.0
_ALERTS = ("ALERT_CERTIFICATE_REQUIRED", "ALERT_UNKNOWN_CA", "ALERT_BAD_CERTIFICATE")
_MOST_DETAIL = 200
_MOST_BYTES = 10_000
_CUT_S = 0.5


class End(IntEnum):
    """Why the SuperNode has ended: its exit code."""

    STOPPED = 0
    LOST = 20
    FROZEN = 21
    NOT_ADMITTED = 22
    NOT_ENROLLED = 23
    REVOKED = 24
    WRONG_AUTHORITY = 25
    EXPIRED = 26
    WRONG_NAME = 27
    CLOCK = 28
    UNAUTHORIZED = 29
    PROXY_LIMIT = 30
    WILL_NOT_START = 31
    TWICE = 32
    NO_CERTIFICATE = 33


SAYS: dict[End, str] = {
    End.STOPPED: "stopped when it was asked to",
    End.LOST: "the connection to the coordinator was lost",
    End.FROZEN: "the connection hung although the coordinator could be reached",
    End.NOT_ADMITTED: "the coordinator does not admit this hospital's key: it is not enrolled, or the same hospital is "
    "connected from elsewhere, or was until less than a minute ago",
    End.NOT_ENROLLED: "the coordinator does not know this hospital's key",
    End.REVOKED: "the coordinator has revoked this hospital's key",
    End.WRONG_AUTHORITY: "who answers at the coordinator's address has a certificate that is not of the authority in "
    "your kit",
    End.EXPIRED: "the coordinator's certificate has expired, or is not valid yet by this machine's clock",
    End.WRONG_NAME: "the coordinator's certificate is for another name than the address in your kit",
    End.CLOCK: "this machine's clock differs too much from the coordinator's",
    End.UNAUTHORIZED: "the coordinator does not accept this hospital's signature",
    End.PROXY_LIMIT: "a proxy on the way refuses pieces of this size",
    End.WILL_NOT_START: "Flower's SuperNode did not start",
    End.TWICE: "this hospital is connected already, or was until less than a minute ago",
    End.NO_CERTIFICATE: "the coordinator asks for the certificate of this hospital's kit",
}

REMEDIES: dict[End, str] = {
    End.PROXY_LIMIT: "let your network's people allow bodies of 1 MB to the coordinator; updates go in such pieces by "
    "themselves after the first refusal",
    End.NOT_ADMITTED: "ask the coordinator whether this hospital is enrolled (sarco-coordinator status), and look "
    "whether another machine of yours has joined with the same folder",
    End.NOT_ENROLLED: "send your NAME.pub to the coordinator, who runs sarco-coordinator enrol, and compare the "
    "fingerprint over the telephone",
    End.REVOKED: "talk to the coordinator; to come back, make a new folder as "
    "docs/how-to/join-as-a-hospital.md says (Coming back), and send its NAME.pub",
    End.WRONG_AUTHORITY: "compare the kit's fingerprint with the coordinator over the telephone; approve the kit anew "
    "if it was replaced; if it was not, somebody stands between you: do not join",
    End.EXPIRED: "look at this machine's clock; if it is right, the coordinator renews the certificate",
    End.WRONG_NAME: "the coordinator makes its certificate for the address that hospitals use, or sends a new kit",
    End.CLOCK: "switch on time synchronisation (timedatectl set-ntp true) and join again",
    End.UNAUTHORIZED: "use the folder whose NAME.pub was enrolled; look at this machine's clock (sarco-site doctor)",
    End.TWICE: "look whether another machine of yours has joined with this folder or with a copy of it, and end one",
    End.NO_CERTIFICATE: "ask the coordinator for your kit again, and approve it",
    End.WILL_NOT_START: "read the last lines of logs/supernode.log; sarco-site doctor looks at the usual causes",
}


def tls_end(error: BaseException) -> End | None:
    """Which fault of a certificate an exception comes from, through all its causes; None: of none."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and str(getattr(cause, "reason", "")).endswith(_ALERTS):
            return End.NO_CERTIFICATE
        if isinstance(cause, ssl.SSLCertVerificationError):
            return {9: End.EXPIRED, 10: End.EXPIRED, 62: End.WRONG_NAME, 64: End.WRONG_NAME}.get(
                cause.verify_code, End.WRONG_AUTHORITY
            )
    return None


def cut(error: BaseException) -> bool:
    """Whether TLS was cut in the middle: that is the network's doing, and no fault of a certificate."""
    return tls_end(error) is None and any(isinstance(cause, ssl.SSLError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def refusal(status: int, body: str, skew_s: float | None) -> End | None:
    """What an answer's status means for a site; None: nothing that concerns its admission.

    Args:
        status: of HTTP.
        body: the answer's text, of the SuperLink or of the gate.
        skew_s: this machine's clock minus the coordinator's, seconds; None: unknown.
    """
    text = body.lower()
    if status in (401, 403, 412):
        known = [end for words, end in _GATE_SAYS.items() if words in text]
        if known:
            return known[0]
    if status == 412:
        return End.NOT_ADMITTED if ADMISSION_FAILED in body else End.UNAUTHORIZED
    if status == 401:
        return End.UNAUTHORIZED if skew_s is None or -SLOW_S <= skew_s <= FAST_S else End.CLOCK
    return End.PROXY_LIMIT if status == 413 else None


_GATE_SAYS = {
    "revoked": End.REVOKED,
    "not enrolled": End.NOT_ENROLLED,
    "online already": End.TWICE,
    "clock of this machine": End.CLOCK,
    "client certificate": End.NO_CERTIFICATE,
}


def detail(body: str) -> str:
    """What the other side says of a refusal in its own words: one line that cannot steer a terminal."""
    try:
        found = json.loads(body)
        body = str(found.get("detail") or found.get("message") or "")
    except (ValueError, AttributeError):
        pass
    return plain(body)[:_MOST_DETAIL].strip()


def plain(text: str) -> str:
    """Text of others as one line that cannot steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def skew(date: str, now: datetime) -> float | None:
    """Seconds that our clock is ahead of an answer's Date header, which is cut to whole ones; None: it says nothing."""
    try:
        return (now - parsedate_to_datetime(date)).total_seconds() - _CUT_S
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Answer:
    """An answer of the coordinator: the last part of its path, its status, its text where it refuses, its Date."""

    path: str
    status: int
    body: str = ""
    date: str = ""


_DOING = {
    "pull-messages": "waiting",
    "get-run": "receiving",
    "get-fab": "receiving",
    "pull-object": "receiving",
    "confirm-message-received": "receiving",
    "push-messages": "sending",
    "push-object": "sending",
}


class Contact:
    """What is known of one connection; threads of the SuperNode tell it."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """``file`` is written whole, when something has changed and every ten seconds."""
        self._file, self._clock, self._lock = file, clock, threading.Lock()
        self._main = self._heart = self._told = clock()
        self._facts: dict[str, Any] = {"phase": "connecting", "doing": "", "skew_s": None, "said": "", "code": None}
        self._since = _now()
        self.last: End | None = None
        self.ending: End | None = None
        self.connected = False
        self.write()

    def heard(self, answer: Answer) -> None:
        """An answer came, whatever it says."""
        seconds = skew(answer.date, datetime.now(UTC))
        end = refusal(answer.status, answer.body, seconds)
        with self._lock:
            self.last = end
            if answer.status == 200:
                self._succeeded(answer.path)
            if seconds is not None:
                self._facts["skew_s"] = round(seconds, 1)
        if end is not None:
            words = detail(answer.body)
            self.become("refused", f"{SAYS[end]} (it says: {words})" if words else SAYS[end], end)
        elif answer.status == 200:
            self.become("connected", "", doing=_DOING.get(answer.path, ""))
        else:
            self.become("away", f"the coordinator answers HTTP {answer.status}; it is asked again")

    def failed(self, error: BaseException) -> None:
        """No answer came."""
        self.last = tls_end(error)
        if self.last is None:
            self.become("away", "the coordinator cannot be reached; it is tried again and again")
        else:
            self.become("refused", SAYS[self.last], self.last)

    def ended(self, end: End) -> None:
        """The connection has ended; what the coordinator said of it stays."""
        said = self.said if self._facts["code"] == end and self.said else SAYS[end]
        self.become("ended" if end is End.STOPPED else "refused", said, end)

    @property
    def said(self) -> str:
        """Why there is no connection, in one sentence; empty where there is one."""
        return str(self._facts["said"])

    def working(self) -> None:
        """The main loop lives, and waits for the hospital's own work."""
        with self._lock:
            self._main = self._clock()
        self.become(self._facts["phase"], self._facts["said"], doing="working")

    def _succeeded(self, path: str) -> None:
        now = self._clock()
        if path == "send-node-heartbeat":
            self._heart = now
            return
        self._main = now
        if path == "activate-node":
            self.connected, self._heart = True, now

    def hangs(self) -> str:
        """Why the connection must be made anew; empty where it is well or cannot be helped from here."""
        now = self._clock()
        if not self.connected:
            return ""
        if now - self._main > SILENT_S and now - self._heart < LEASE_S:
            return f"no message could be fetched for {now - self._main:.0f} s while the coordinator answers"
        if now - self._heart > HEARD_S and now - self._main < LEASE_S:
            return f"no heartbeat for {now - self._heart:.0f} s while the coordinator answers"
        return ""

    def become(self, phase: str, said: str, code: End | None = None, doing: str = "") -> None:
        """Note where the connection stands; the file is written where that is new, or old enough."""
        with self._lock:
            new = {"phase": phase, "said": said, "code": code, "doing": doing or self._facts["doing"]}
            changed = any(self._facts[key] != value for key, value in new.items())
            if phase != self._facts["phase"]:
                self._since = _now()
            self._facts |= new
            due = self._clock() - self._told >= _TOLD_EVERY_S
        if changed or due:
            self.write()

    def write(self) -> None:
        """Write the file; a full disk does not end a connection."""
        with self._lock, contextlib.suppress(OSError):
            self._told = self._clock()
            partial = self._file.with_name(self._file.name + ".partial")
            partial.write_text(json.dumps({**self._facts, "since": self._since, "time": _now()}), encoding="utf-8")
            partial.replace(self._file)


def read_contact(file: Path) -> dict[str, Any]:
    """What a Contact has written; empty where there is none, or something else.

    Written by the relay's account: show it, trust it not. ``said`` is one line, and ``skew_s`` a number or absent.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError, OverflowError):
        descriptor = os.open(
            file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        )  # no link out of there, no pipe to wait at
        with os.fdopen(descriptor, "rb") as content:
            found = json.loads(content.read(_MOST_BYTES))
        if isinstance(found, dict):
            plainly = {
                key: value for key, value in found.items() if value is None or isinstance(value, str | int | float)
            }
            skew_s, said = plainly.get("skew_s"), plainly.get("said")
            known = isinstance(skew_s, int | float) and not isinstance(skew_s, bool) and math.isfinite(skew_s)
            return plainly | {"said": plain(str(said or "")), "skew_s": skew_s if known else None}
    return {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
