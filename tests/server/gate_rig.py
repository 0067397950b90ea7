"""A gate to knock at: a home with enrolled hospitals, a stand-in for the SuperLink, and hospitals that sign."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from server.certificates import LOOPBACK, issue, make_authority
from server.gate import Gate
from server.gate_http import Paces
from server.home import Enrolled, GateConfig, Home, HomeConfig

QUICK = Paces(handshake_s=0.5, idle_s=2.0, head_s=0.5, stall_s=0.5)
"""For tests of slow clients alone: on a busy machine everybody is slow."""

PULL, PUSH, ACTIVATE = "/v1/fleet/pull-messages", "/v1/fleet/push-object", "/v1/fleet/activate-node"

ELSEWHERE = (
    "/", "/docs", "/openapi.json", "/health", "/v1/health", "/v1/control/start-run", "/v1/control/register-node",
    "/v1/runtime/acquire-task", "/v1/fleet", "/v1/fleet/", "/v1/fleet/unknown", "/V1/FLEET/PULL-MESSAGES",
    f"{PULL}/", f"{PULL}?a=b", f"{PULL};a=b", f"{PULL}#a", f"{PULL}%20", f"{PULL}%00",
    f"{PULL}/../../control/start-run",
    "/v1/fleet/../control/start-run", "/v1/fleet/%2e%2e/control/start-run", "/v1/fleet/..%2fcontrol/start-run",
    "/v1/fleet/%2e%2e%2fcontrol%2fstart-run", "/v1/fleet/..;/control/start-run", "/v1/fleet\\..\\control\\start-run",
    "/v1/fleet/%252e%252e/control/start-run", "//v1/fleet/pull-messages", "/v1//fleet/pull-messages",
    "/./v1/fleet/pull-messages", "/v1/fleet/%70ull-messages", "/v1/fleet/pull%2Dmessages", "v1/fleet/pull-messages",
    "/v1/control/start-run?/v1/fleet/pull-messages", "/v1/control/start-run#/v1/fleet/pull-messages",
    f"https://127.0.0.1{PULL}", "https://127.0.0.1/v1/control/start-run", "http://169.254.169.254/", "*",
    "127.0.0.1:443", f"@127.0.0.1{PULL}", "/%EF%BC%8Fv1/fleet/pull-messages", "/v1/control/start%2Drun",
)  # fmt: skip
"""Targets that are not the fleet's, and disguises of targets that are."""

METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PRI", "PROPFIND")
LENGTHS = ("-1", "+5", "0x5", "5,5", "five", " ", "5 5", "9" * 20, "\u0665")

SMUGGLED = {
    "two lengths": "content-length: 9\r\n",
    "chunks beside a length": "transfer-encoding: chunked\r\n",
    "hidden chunks": "transfer-encoding : chunked\r\n",
    "chunks by tab": "transfer-encoding:\tchunked\r\n",
    "a folded line": "x-a: b\r\n c: d\r\n",
    "a bare line feed": "x-a: b\ntransfer-encoding: chunked\r\n",
    "a bare carriage return": "x-a: b\rtransfer-encoding: chunked\r\n",
    "a null byte": "x-a: b\0c\r\n",
    "a header without a name": ": b\r\n",
    "two hosts": "host: y\r\n",
    "two keys": "flwr-public-key: eA==\r\n",
    "two keys in other letters": "FLWR-Public-Key: eA==\r\n",
    "letters beyond ASCII": "x-a: \xe4\r\n",
    "too many": "".join(f"x-{k}: a\r\n" for k in range(70)),
    "too long": f"x-a: {'a' * 20_000}\r\n",
}
"""Headers beside a content-length, by which a second request could be hidden in a body."""


@dataclass
class Hospital:
    """A node key, and requests signed with it."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))

    @property
    def ssh_line(self) -> str:
        return self.key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    @property
    def pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def headers(self, ahead_s: float = 0.0) -> dict[str, str]:
        """As Flower's SuperNode signs, with a clock that is ``ahead_s`` ahead."""
        stamp = (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()
        signature = self.key.sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))
        return {
            "content-type": "application/protobuf",
            "accept": "application/protobuf",
            "flwr-public-key": base64.b64encode(self.public).decode(),
            "flwr-timestamp": stamp,
            "flwr-signature": base64.b64encode(signature).decode(),
        }

    def enrolled(self, revoked: str = "") -> Enrolled:
        return Enrolled(self.name, self.ssh_line, "", "2026-11-20T00:00:00+00:00", revoked)


@dataclass
class Seen:
    """A request as the stand-in saw it."""

    path: str
    headers: dict[str, str]
    body: bytes


class StandIn(ThreadingHTTPServer):
    """Answers as it is told: ``plan`` gives status, body and headers for a path; without a plan it echoes the body."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, home: Home, port: int = 0) -> None:
        self.seen: list[Seen] = []
        self.plan: Callable[[Seen], tuple[int, bytes, dict[str, str]]] | None = None
        self.connections: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(home.loopback_certificate, home.loopback_key)
        self.context = context
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def get_request(self) -> tuple[socket.socket, object]:
        raw, address = super().get_request()
        raw.settimeout(10)
        tls = self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        self.connections.append(tls)
        return tls, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A broken connection is what some tests are about."""

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with_shutdown(connection)


def with_shutdown(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def _any(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # as Flower's server: what is not whole was never there
            self.close_connection = True
            return
        seen = Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.server.seen.append(seen)
        status, content, headers = self.server.plan(seen) if self.server.plan else (200, body, {})
        if status == 0:  # the server dies in the middle
            with_shutdown(self.connection)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "transfer-encoding" not in headers and "content-length" not in headers:
            self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_PATCH = _any

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Rig:
    """A gate with its home and the stand-in behind it."""

    home: Home
    gate: Gate
    upstream: StandIn
    hospital: Hospital

    def client(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.home.ca))
        return HTTPSConnection("127.0.0.1", self.gate.port, context=context, timeout=10)

    def post(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """One request of the hospital on a connection of its own."""
        client = self.client()
        try:
            client.request("POST", path, body, self.hospital.headers() if headers is None else headers)
            return answered(client)
        finally:
            client.close()

    def raw(self) -> ssl.SSLSocket:
        """A connection to write any bytes to."""
        context = ssl.create_default_context(cafile=str(self.home.ca))
        raw = socket.create_connection(("127.0.0.1", self.gate.port), timeout=10)
        try:
            return context.wrap_socket(raw, server_hostname="127.0.0.1")
        except OSError:
            raw.close()
            raise

    def send(self, content: bytes) -> bytes:
        """All that comes back for these bytes until the gate closes."""
        with self.raw() as tls:
            tls.sendall(content)
            return everything(tls)

    def request(self, target: str, *, method: str = "POST", more: str = "", body: bytes = b"") -> bytes:
        """A hospital's request with this target, letter by letter."""
        headers = self.hospital.headers() | {"host": "x", "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {target} HTTP/1.1\r\n{lines}{more}\r\n".encode() + body

    def refused(self) -> list[dict[str, object]]:
        """What refusals.jsonl says now."""
        self.gate._refusals.flush()
        if not self.home.refusals.exists():
            return []
        return [json.loads(line) for line in self.home.refusals.read_text().splitlines()]


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]


def answered(client: HTTPConnection) -> Answer:
    response = client.getresponse()
    found = Answer(response.status, response.read(), {k.lower(): v for k, v in response.getheaders()})
    client.close()
    return found


def everything(tls: ssl.SSLSocket) -> bytes:
    found = b""
    try:
        while more := tls.recv(65536):
            found += more
    except (ConnectionError, ssl.SSLError):
        pass
    return found


def make_home(folder: Path, *hospitals: Hospital, superlink_port: int = 9, **gate: object) -> Home:
    authority = make_authority(folder)
    issue(authority, folder / "server", LOOPBACK)
    issue(authority, folder / "loopback", LOOPBACK)
    config = HomeConfig(
        address="127.0.0.1:8443",
        superlink_port=superlink_port,
        gate=GateConfig(host="127.0.0.1", **{"requests_per_second": 1000.0, **gate}),  # type: ignore[arg-type]
    )
    home = Home(folder, config)
    home.write_sites(tuple(hospital.enrolled() for hospital in hospitals))
    return home


@contextmanager
def open_gate(folder: Path, *, paces: Paces | None = None, **gate: object) -> Iterator[Rig]:
    """A gate, a stand-in and one hospital; ended in the end."""
    hospital = Hospital("hospital_a")
    upstream = StandIn(make_home(folder, hospital))
    home = make_home(folder, hospital, superlink_port=upstream.server_address[1], **gate)
    rig = Rig(home, Gate(home, paces=paces), upstream, hospital)
    rig.gate.start(0)
    try:
        yield rig
    finally:
        rig.gate.stop(grace_s=0.2)
        upstream.end()


def until(true: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
