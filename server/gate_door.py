"""One connection at the gate: its requests are judged, passed on to the SuperLink, and their answers given back.

What passes is ``POST`` on one of the fleet's twelve routes, spelt exactly so, from an enrolled hospital. Everything
else ends here. What a hospital is told keeps its software alive: of the SuperLink's failures it sees 502, 503 and 504
alone, which Flower tries again; one 500 would end its loop, and a 429 in the middle of an upload would lose the update.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse

from server.gate_access import Access, Denied, Pass
from server.gate_guests import Guest
from server.gate_http import Head, Incoming, Paces, TooSlow, Unreadable, answer, answer_head
from server.gate_upstream import Away, Late, SuperLink
from server.refusals import Refusals

FLEET = "/v1/fleet/"
ACTIVATE = f"{FLEET}activate-node"
FLEET_ROUTES = frozenset(
    FLEET + name
    for name in (
        "register-node", "activate-node", "deactivate-node", "unregister-node", "send-node-heartbeat",
        "pull-messages", "push-messages", "get-run", "get-fab", "push-object", "pull-object",
        "confirm-message-received",
    )
)  # fmt: skip
"""All that the fleet's API of Flower 1.41 has (flwr/superlink/routers/fleet/router.py); every one is POST."""

RETRY_AFTER_S = 2
_JSON = "application/json"
_TRIED_AGAIN = {502, 503, 504}
_WINDOW = 256 * 1024
_MOST_ERROR = 64 * 1024
_LINGER_S = 2.0
_SILENT_S = 90.0
_CODES = {"no-key": 9001, "unknown-key": 9002, "revoked": 9003, "clock": 9004, "signature": 9005, "certificate": 9006}
"""Numbers beside Flower's own (below 3000): Flower's client shows number and text when it cannot begin."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Door:
    """What every connection shares; ``seen`` is when each hospital's last request came."""

    access: Access
    refusals: Refusals
    superlink: SuperLink
    paces: Paces
    most_bytes: int
    seen: dict[str, float] = field(default_factory=dict)

    def saw(self, site: str, address: str) -> None:
        """Say once that a hospital has come, or come back: it asks every 3 s, and beats every 20 s while it works."""
        now = time.monotonic()
        if now - self.seen.get(site, -_SILENT_S) >= _SILENT_S:
            log.info("%s is here, from %s", site, address)
        self.seen[site] = now

    def refuse(self, address: str, code: str, *, site: str = "", detail: str = "") -> None:
        """Write down that somebody was turned away; in the log once an hour, however often it happens."""
        news = self.refusals.add(address, code, site=site, detail=detail)
        if news:
            log.warning("refused: %s: %s: %s", news.who, news.reason, news.fix)


class Connection:
    """The requests of one connection, one after the other."""

    def __init__(self, door: Door, tls: ssl.SSLSocket, guest: Guest) -> None:
        """``tls`` has shaken hands; ``guest`` learns what becomes of it."""
        self._door, self._tls, self._guest, self._address = door, tls, guest, guest.address
        self._incoming = Incoming(tls, door.paces)
        self._certificate = tls.getpeercert(binary_form=True)

    def serve(self) -> None:
        """Answer until the connection ends."""
        while self._one():
            pass

    def _one(self) -> bool:
        """One request; whether another may follow."""
        self._guest.busy = False
        try:
            head = self._incoming.head()
            self._guest.busy = True
            return head is not None and self._answered(head)
        except Unreadable as error:
            if self._door.access.knock(self._address):
                self._door.refuse(self._address, "request", detail=str(error))
            return self._say(error.status, str(error))
        except TooSlow:
            self._door.refuse(self._address, "slow")
            return self._say(HTTPStatus.REQUEST_TIMEOUT, "the request came slower than the limit")

    def _answered(self, head: Head) -> bool:
        if head.method != "POST" or head.target not in FLEET_ROUTES:
            return self._elsewhere(head)
        if head.length is None:
            return self._say(HTTPStatus.LENGTH_REQUIRED, "the length of the body must be told: content-length")
        found = self._door.access.admit(head.headers, self._address, self._certificate)
        if isinstance(found, Denied):
            return self._denied(head, found)
        if head.length > self._door.most_bytes:
            return self._too_large(head.length, found)
        if not self._door.access.carry(found.site, head.length):
            return self._too_much(head.length, found)
        return self._passed_on(head, head.length, found)

    def _passed_on(self, head: Head, length: int, passed: Pass) -> bool:
        if head.waits:
            self._tls.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._incoming.expect(length)
        self._guest.site = passed.site
        self._door.saw(passed.site, self._address)
        try:
            with self._door.superlink.answer_to(head.target, head.headers, length, self._incoming.window) as response:
                if response.status >= 400:
                    return self._failed(head, response, passed)
                return self._relay(response, stays=head.stays)
        except Away as error:
            log.warning("%s: %s: %s", passed.site, head.target.removeprefix(FLEET), error)
            status = HTTPStatus.GATEWAY_TIMEOUT if isinstance(error, Late) else HTTPStatus.SERVICE_UNAVAILABLE
            # the whole body is read first, so that the answer is heard
            whole = self._rest_read()
            return self._say(status, f"{error}: try again", stays=head.stays and whole)
        except TooSlow:
            self._door.refuse(self._address, "slow", site=passed.site)
            return self._say(HTTPStatus.SERVICE_UNAVAILABLE, "the request came slower than the limit: try again")
        except EOFError as error:
            self._door.refuse(self._address, "slow", site=passed.site, detail=str(error))
            return False

    def _rest_read(self) -> bool:
        try:
            while self._incoming.left:
                self._incoming.window()
        except (TooSlow, EOFError):
            return False
        return True

    def _relay(self, response: HTTPResponse, *, stays: bool) -> bool:
        """Give an answer back, window by window; one that breaks off ends the connection, so that nobody takes it."""
        length = response.length
        headers = {"content-type": response.getheader("content-type") or "application/octet-stream"}
        headers |= {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
        buffer = memoryview(bytearray(min(length or _WINDOW, _WINDOW)))
        begin, sent = answer_head(response.status, headers, stays=stays), 0
        self._tls.settimeout(self._door.paces.stall_s)
        while more := _read(response, buffer):
            if length is None:
                self._tls.sendall(begin + b"%x\r\n%b\r\n" % (more, bytes(buffer[:more])))
            else:
                # a small answer goes out in one piece
                self._tls.sendall(begin + bytes(buffer[:more]) if begin else buffer[:more])
            begin, sent = b"", sent + more
        if length is None:
            self._tls.sendall(begin + b"0\r\n\r\n")
        elif begin:
            self._tls.sendall(begin)
        if length is not None and sent < length:
            log.warning("the SuperLink's answer broke off")
            return False
        return stays

    def _failed(self, head: Head, response: HTTPResponse, passed: Pass) -> bool:
        """Give back that the SuperLink refused or failed, in a form that a hospital's software survives."""
        status = response.status
        body = response.read(_MOST_ERROR)
        if status >= 500:
            log.warning("%s: %s: the SuperLink answered %d", passed.site, head.target.removeprefix(FLEET), status)
            status = status if status in _TRIED_AGAIN else HTTPStatus.SERVICE_UNAVAILABLE
            return self._say(status, "the SuperLink failed: try again", stays=head.stays)
        if head.target == ACTIVATE and status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PRECONDITION_FAILED):
            code = "online" if status == HTTPStatus.PRECONDITION_FAILED else "superlink"
            self._door.refuse(self._address, code, site=passed.site)
            told = (
                f"{passed.site} is online already, or its last session ended less than a minute ago: it may come in "
                "when that minute is over; if it stays so, the same key runs on two machines"
            )
            return self._say(HTTPStatus.PRECONDITION_FAILED, told, number=2004, stays=head.stays)
        if status == HTTPStatus.UNAUTHORIZED:
            self._door.refuse(self._address, "superlink", site=passed.site)
        kind = response.getheader("content-type") or _JSON
        self._tls.sendall(answer(status, body, kind=kind, stays=head.stays))
        return head.stays

    def _denied(self, head: Head, found: Denied) -> bool:
        self._door.refuse(self._address, found.code, site=found.site, detail=found.detail)
        number = _CODES.get(found.code)
        # Flower's client answers 401 by ending itself without a word; when it begins, 412 makes it show the text
        begins = number is not None and head.target == ACTIVATE
        status = HTTPStatus.PRECONDITION_FAILED if begins else found.status
        self._incoming.expect(min(head.length or 0, self._door.most_bytes))
        return self._say(status, found.told, number=number)

    def _too_large(self, length: int, passed: Pass) -> bool:
        most = self._door.most_bytes
        detail = f"{length / 2**20:.1f} MB, and the limit is {most / 2**20:.0f} MB"
        self._door.refuse(self._address, "size", site=passed.site, detail=detail)
        self._incoming.expect(length)
        return self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has {detail} (max_body_mb)")

    def _too_much(self, length: int, passed: Pass) -> bool:
        """Flower tries again after 503, so an update is late and not lost."""
        self._door.refuse(self._address, "volume", site=passed.site)
        self._incoming.expect(length)
        return self._say(HTTPStatus.SERVICE_UNAVAILABLE, "more bytes in an hour than the limit (max_mb_per_hour): wait")

    def _elsewhere(self, head: Head) -> bool:
        """The whole rest of the world: never passed on, whatever it is."""
        if not self._door.access.knock(self._address):
            return self._say(HTTPStatus.TOO_MANY_REQUESTS, "too many requests: wait")
        if head.target != "/":
            self._door.refuse(self._address, "route", detail=f"{head.method} {head.target}")
        self._incoming.expect(min(head.length or 0, self._door.most_bytes))
        return self._say(HTTPStatus.NOT_FOUND, "this is the gate of a SARCO-FL coordinator; only SuperNodes pass")

    def _say(self, status: int, text: str, *, number: int | None = None, stays: bool = False) -> bool:
        """Answer with a text. Where the connection ends, what still comes is read: a reset would eat the answer."""
        content: dict[str, object] = {"detail": text}
        if number is not None:
            content["code"] = number
        body = json.dumps(content).encode()
        again = RETRY_AFTER_S if status in (*_TRIED_AGAIN, HTTPStatus.TOO_MANY_REQUESTS) else None
        self._tls.settimeout(self._door.paces.stall_s)
        self._tls.sendall(answer(status, body, kind=_JSON, retry_after_s=again, stays=stays))
        if not stays:
            with contextlib.suppress(OSError):
                self._tls.shutdown(socket.SHUT_WR)
                self._incoming.skip(4 * self._door.most_bytes, _LINGER_S)
        return stays


def _read(response: HTTPResponse, buffer: memoryview) -> int:
    try:
        return response.readinto(buffer)
    except (HTTPException, OSError) as error:
        log.warning("the SuperLink's answer broke off")
        raise ConnectionError(type(error).__name__) from None
