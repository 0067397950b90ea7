"""The line fails as it is told to, and passes everything else on unchanged."""

import gc
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.deployment.faulty_line import FaultyLine


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-path", self.path)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def line() -> Iterator[FaultyLine]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with FaultyLine(("127.0.0.1", server.server_port)).open() as line:
            yield line
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def http(line: FaultyLine) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{line.port}", timeout=5, trust_env=False) as client:
        yield client


def test_what_is_not_to_fail_passes_unchanged(line: FaultyLine, http: httpx.Client) -> None:
    body = bytes(range(256)) * 8192
    for path in ("/v1/fleet/push-object", "/v1/fleet/pull-messages?x=1"):
        answer = http.post(path, content=body)
        assert (answer.status_code, answer.content, answer.headers["x-path"]) == (200, body, path)
    assert [seen.sent for seen in line.seen] == [len(body)] * 2


@pytest.mark.parametrize("status", [429, 500, 502])
def test_it_answers_as_often_as_it_was_told_and_only_there(line: FaultyLine, http: httpx.Client, status: int) -> None:
    fault = line.will("answer", "pull", status=status, times=2)
    assert [http.post(f"/{name}").status_code for name in ("push", "pull", "pull", "pull")] == [
        200,
        status,
        status,
        200,
    ]
    assert fault.hits == 2


def test_a_limit_refuses_the_longer_bodies_only(line: FaultyLine, http: httpx.Client) -> None:
    line.will("limit", amount=1000, times=9)
    assert http.post("/a", content=b"x" * 1001).status_code == 413
    assert http.post("/a", content=b"x" * 1000).status_code == 200


def test_a_cut_line_ends_in_the_middle_of_an_upload(line: FaultyLine, http: httpx.Client) -> None:
    line.will("cut", amount=100_000)
    with pytest.raises(httpx.TransportError):
        http.post("/a", content=b"x" * 1_000_000)
    assert http.post("/a", content=b"x" * 1_000_000).status_code == 200
    assert [seen.status for seen in line.seen] == [0, 200]


def test_a_dropped_request_is_never_answered(line: FaultyLine, http: httpx.Client) -> None:
    line.will("drop")
    with pytest.raises(httpx.ReadTimeout):
        http.post("/a", content=b"x", timeout=0.2)
    time.sleep(0.1)  # the line learns that the client went
    gc.collect()  # what waits for ever and is held by nothing would be collected here, unclosed
    assert http.post("/a", content=b"x").status_code == 200


def test_an_absent_coordinator_is_a_502(line: FaultyLine, http: httpx.Client) -> None:
    line.upstream = ("127.0.0.1", 1)
    assert http.post("/a").status_code == 502
