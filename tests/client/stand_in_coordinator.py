"""A coordinator's door that speaks Flower's fleet protocol over TLS and says what a test wants it to say."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flwr.proto.fleet_pb2 import ActivateNodeResponse, PullMessagesResponse  # type: ignore[attr-defined]
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse  # type: ignore[attr-defined]

from server.certificates import issue, make_authority

ANSWERS = {
    "activate-node": lambda: ActivateNodeResponse(node_id=7).SerializeToString(),
    "pull-messages": lambda: PullMessagesResponse().SerializeToString(),
    "send-node-heartbeat": lambda: SendNodeHeartbeatResponse(success=True).SerializeToString(),
}

Says = Callable[[str, int], tuple[int, bytes, dict[str, str]] | None]


@dataclass
class StandIn:
    """What was asked, and what is answered.

    Attributes:
        port: on 127.0.0.1.
        ca: path of the authority's certificate.
        says: path's last part and how often it was asked before -> status, body, headers; None: as a SuperLink would.
        asked: the paths' last parts, in order.
    """

    port: int
    ca: Path
    says: Says = lambda _path, _times: None
    asked: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def stand_in(
    folder: Path, says: Says | None = None, names: tuple[str, ...] = ("127.0.0.1",), *, asks: bool = False
) -> Iterator[StandIn]:
    """Serve until the block ends; the authority is made in ``folder``, or taken from there.

    ``asks`` every client for a certificate of that authority.
    """
    authority = make_authority(folder)
    certificate = issue(authority, folder / "server", names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if asks:
        context.load_verify_locations(authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    server = _Quiet(("127.0.0.1", 0), _Door)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    found = StandIn(server.server_address[1], authority.certificate)
    if says is not None:
        found.says = says
    server.stand_in = found
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    stand_in: StandIn

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is what is tested."""


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Quiet

    def do_POST(self) -> None:
        """Read the request and answer as the test says."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        path, stand_in = self.path.rpartition("/")[2], self.server.stand_in
        stand_in.asked.append(path)
        told = stand_in.says(path, stand_in.asked.count(path) - 1)
        if told is None:
            told = (200, ANSWERS.get(path, lambda: b"")(), {})
        status, body, headers = told
        if status == 0:  # cut the connection in the middle
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {
            "content-type": "application/protobuf",
            "content-length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Anything else is not here."""
        self.do_POST()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """A test may pretend another hour."""
        told = self.server.stand_in.says("date", 0)
        return told[1].decode() if told else super().date_time_string(timestamp)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
