"""HTTP/1.1 as a SuperNode speaks it, and not a byte more: what the gate reads and what it answers.

A request has a body of a length that is told before, and one of each header that matters. Everything else that HTTP
allows (chunks, folded lines, upgrades) is refused and never interpreted: two servers in a row that read a request
differently are how requests are smuggled past the first of them.

Every wait has an end: of silence between requests, of a head that trickles in, of a body that is slower than a modem.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.client import responses
from typing import Protocol

MAX_HEAD = 16 * 1024
MAX_HEADERS = 64
SERVER = "sarco-gate"

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,4096}) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e\t]*?)[ \t]*")
_ONCE = {"host", "content-length", "transfer-encoding", "connection", "expect", "content-type", "accept"}
_LENGTH = re.compile(r"[0-9]{1,15}")


class Wire(Protocol):
    """What is used of a socket."""

    def recv_into(self, buffer: memoryview) -> int:
        """Read what has come."""

    def settimeout(self, seconds: float | None) -> None:
        """Bound the next wait."""


class Unreadable(Exception):
    """A request that is answered with ``status`` and never passed on; the text says what is wrong with it."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        """Keep the status beside the text."""
        self.status = status
        super().__init__(text)


class TooSlow(Exception):
    """The other side sends slower than the limit."""


@dataclass(frozen=True)
class Paces:
    """How long the gate waits.

    Attributes:
        handshake_s: for TLS.
        idle_s: between two requests of one connection. Flower's client gives a connection back after 5 s.
        head_s: for a head, from its first byte; for the first one, from the handshake.
        stall_s: for the next byte of a body, and for the other side to take what it is sent.
        bytes_per_s: the least average speed of a body after the first ``stall_s``.
    """

    handshake_s: float = 10.0
    idle_s: float = 30.0
    head_s: float = 10.0
    stall_s: float = 30.0
    bytes_per_s: float = 8 * 1024


@dataclass(frozen=True)
class Head:
    """A request without its body; names of headers in small letters."""

    method: str
    target: str
    headers: dict[str, str]

    @property
    def length(self) -> int | None:
        """Bytes of the body; None where the request does not tell."""
        told = self.headers.get("content-length")
        return None if told is None else int(told)

    @property
    def stays(self) -> bool:
        """Whether the connection may carry another request."""
        return "close" not in self.headers.get("connection", "").lower()

    @property
    def waits(self) -> bool:
        """Whether the body comes only when it is asked for."""
        return self.headers.get("expect", "").lower() == "100-continue"


class Incoming:
    """Reads one connection: heads, and the bodies between them, never more than one window of them at a time."""

    def __init__(self, wire: Wire, paces: Paces, window: int = 256 * 1024) -> None:
        """``window`` is the most that is held in memory of a body."""
        self._wire, self._paces = wire, paces
        self._buffer = memoryview(bytearray(window))
        self._held = b""
        self._left = 0
        self._deadline = 0.0
        self._first = True

    @property
    def left(self) -> int:
        """Bytes of the present body that were not read yet."""
        return self._left

    def head(self) -> Head | None:
        """The next head; None when the other side has ended between two requests, or was silent for too long.

        Raises:
            Unreadable: it is no request that the gate understands.
            TooSlow: it began and did not end in time.
            OSError: the connection broke.
        """
        found = bytearray(self._held)
        self._held = b""
        deadline = time.monotonic() + (self._paces.head_s if found or self._first else self._paces.idle_s)
        self._first = False
        begun = bool(found)
        while (end := found.find(b"\r\n\r\n")) < 0:
            if len(found) > MAX_HEAD:
                raise Unreadable(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head of more than {MAX_HEAD} bytes")
            try:
                more = self._read(self._buffer, deadline)
            except TooSlow:
                if not begun:
                    return None
                raise
            if not more:
                return None
            if not begun:
                begun, deadline = True, time.monotonic() + self._paces.head_s
            found += self._buffer[:more]
        if end > MAX_HEAD:
            raise Unreadable(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a head of more than {MAX_HEAD} bytes")
        self._held = bytes(found[end + 4 :])
        return _parsed(bytes(found[:end]))

    def expect(self, length: int) -> None:
        """Begin a body of this many bytes."""
        self._left = length
        self._deadline = time.monotonic() + self._paces.stall_s + length / self._paces.bytes_per_s

    def window(self) -> memoryview:
        """The next part of the body, full but for the last one; empty at its end. Valid until the next call.

        Raises:
            TooSlow: slower than the limits.
            EOFError: the other side went away in the middle.
            OSError: the connection broke.
        """
        wanted = min(self._left, len(self._buffer))
        filled = min(wanted, len(self._held))
        self._buffer[:filled] = self._held[:filled]
        self._held = self._held[filled:]
        while filled < wanted:
            stall = time.monotonic() + self._paces.stall_s
            more = self._read(self._buffer[filled:wanted], min(self._deadline, stall))
            if not more:
                raise EOFError(f"the body ended {self._left - filled} bytes too early")
            filled += more
        self._left -= filled
        return self._buffer[:filled]

    def skip(self, at_most: int, seconds: float) -> None:
        """Read and forget what is still coming, until the other side ends: a reset connection would eat an answer."""
        deadline, skipped = time.monotonic() + seconds, 0
        while skipped < at_most:
            try:
                more = self._read(self._buffer, deadline)
            except TooSlow:
                return
            if not more:
                return
            skipped += more

    def _read(self, buffer: memoryview, deadline: float) -> int:
        """Read once, until the deadline of the clock."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TooSlow
        self._wire.settimeout(seconds)
        try:
            return self._wire.recv_into(buffer)
        except TimeoutError:
            raise TooSlow from None


def answer_head(status: int, headers: dict[str, str], *, stays: bool) -> bytes:
    """The beginning of an answer; every one carries the time, by which a hospital sees whether its clock is right."""
    lines = [f"HTTP/1.1 {status} {responses.get(status, '')}", f"date: {formatdate(usegmt=True)}", f"server: {SERVER}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"connection: {'keep-alive' if stays else 'close'}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def answer(status: int, body: bytes, *, kind: str, retry_after_s: int | None = None, stays: bool = False) -> bytes:
    """A whole answer."""
    headers = {"content-type": kind, "content-length": str(len(body))}
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    return answer_head(status, headers, stays=stays) + body


def _parsed(head: bytes) -> Head:
    first, *lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if not line:
        raise Unreadable(HTTPStatus.BAD_REQUEST, f"no request line of HTTP/1.1: {first[:60]!r}")
    if len(lines) > MAX_HEADERS:
        raise Unreadable(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for text in lines:
        header = _HEADER.fullmatch(text)
        if not header:
            raise Unreadable(HTTPStatus.BAD_REQUEST, f"a header that is none: {text[:60]!r}")
        name = header[1].decode().lower()
        if name in headers and (name in _ONCE or name.startswith("flwr-")):
            raise Unreadable(HTTPStatus.BAD_REQUEST, f"the header {name} comes twice")
        headers.setdefault(name, header[2].decode())
    return _checked(Head(line[1].decode(), line[2].decode(), headers))


def _checked(head: Head) -> Head:
    if "host" not in head.headers:
        raise Unreadable(HTTPStatus.BAD_REQUEST, "no host header")
    if "transfer-encoding" in head.headers:
        raise Unreadable(HTTPStatus.LENGTH_REQUIRED, "a body in chunks: its length must be told first")
    if not _LENGTH.fullmatch(head.headers.get("content-length", "0")):
        raise Unreadable(HTTPStatus.BAD_REQUEST, "a content-length that is no number")
    return head
