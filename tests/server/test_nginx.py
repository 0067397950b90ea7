"""configs/nginx.conf.example, run by a real nginx: the same requests as at the gate, and the same answers.

It is skipped where there is no nginx (Debian: apt-get install nginx-light).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.certificates import client_certificate, make_authority
from server.gate_door import FLEET_ROUTES
from tests.server.gate_rig import (
    ELSEWHERE,
    LENGTHS,
    METHODS,
    PULL,
    PUSH,
    SMUGGLED,
    Hospital,
    Rig,
    StandIn,
    answered,
    everything,
    make_home,
)
from tests.server.nginx_rig import NGINX, started_nginx

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="there is no nginx: apt-get install nginx-light"),
]

# nginx makes something harmless of these and passes that on: no second request comes of them
HARMLESS = {"two keys", "two keys in other letters", "letters beyond ASCII", "too many", "a folded line"}


class Listening:
    """Where nginx listens, in the place of a gate."""

    def __init__(self, port: int) -> None:
        self.port = port


class Nginx:
    """nginx, a stand-in for the SuperLink behind it, and a hospital."""

    def __init__(self, folder: Path, *, requests_per_second: int = 10_000, more: str = "") -> None:
        self.hospital = Hospital("hospital_a")
        self.upstream = StandIn(make_home(folder, self.hospital))
        home = make_home(folder, self.hospital, superlink_port=self.upstream.server_address[1])
        self.process, port = started_nginx(home, requests_per_second=requests_per_second, more=more)
        self.rig = Rig(home, Listening(port), self.upstream, self.hospital)  # type: ignore[arg-type]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.upstream.end()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"))
    yield made
    made.end()


@pytest.fixture
def rig(nginx: Nginx) -> Rig:
    nginx.upstream.seen.clear()
    nginx.upstream.plan = None
    return nginx.rig


def test_every_fleet_route_passes_with_body_and_signature(rig: Rig) -> None:
    for route in sorted(FLEET_ROUTES):
        headers = rig.hospital.headers() | {"flwr-package-version": "1.41.0"}
        answer = rig.post(route, b"request", headers | {"cookie": "a=b", "flwr-task-token": "t"})
        assert (answer.status, answer.body) == (200, b"request"), route
        seen = rig.upstream.seen[-1]
        assert (seen.path, seen.body) == (route, b"request")
        assert {name: seen.headers[name] for name in headers} == headers
        assert not {"cookie", "flwr-task-token", "user-agent"} & set(seen.headers)


def test_a_large_body_goes_and_comes_back_unchanged(rig: Rig) -> None:
    body = os.urandom(5 * 2**20 + 17)
    assert rig.post(PUSH, body).body == body


@pytest.mark.parametrize("target", ELSEWHERE)
def test_everything_else_ends_here(rig: Rig, target: str) -> None:
    said = rig.send(rig.request(target, more="connection: close\r\n"))
    assert said.split(b" ")[1] in (b"404", b"400")
    assert not rig.upstream.seen


@pytest.mark.parametrize("method", METHODS)
def test_every_other_method_ends_here(rig: Rig, method: str) -> None:
    said = rig.send(rig.request(PULL, method=method, more="connection: close\r\n"))
    assert said.split(b" ")[1] in (b"404", b"400", b"405")
    assert not rig.upstream.seen


@pytest.mark.parametrize("how", SMUGGLED)
def test_no_second_request_is_smuggled(rig: Rig, how: str) -> None:
    body = b"0\r\n\r\nPOST /v1/control/start-run HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    said = rig.send(rig.request(PULL, more=SMUGGLED[how] + "connection: close\r\n", body=body))
    if how in HARMLESS:
        assert [seen.body for seen in rig.upstream.seen] in ([], [body])
    else:
        assert said.split(b" ")[1] in (b"400", b"411", b"431", b"501")
        assert not rig.upstream.seen


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_that_is_none_is_refused(rig: Rig, length: str) -> None:
    request = rig.request(PULL).replace(b"content-length: 0", f"content-length: {length}".encode())
    assert rig.send(request).split(b" ")[1] in (b"400", b"413")
    assert not rig.upstream.seen


@pytest.mark.parametrize("absent", ["flwr-public-key", "flwr-timestamp", "flwr-signature"])
def test_who_does_not_sign_is_refused(rig: Rig, absent: str) -> None:
    headers = rig.hospital.headers()
    del headers[absent]
    assert rig.post(PULL, b"", headers).status == 401
    assert not rig.upstream.seen


@pytest.mark.parametrize(("size", "status"), [(16 << 20, 200), ((16 << 20) + 1, 413), (10**14, 413)])
def test_the_limit_of_a_body_is_a_number_that_is_told(rig: Rig, size: int, status: int) -> None:
    request = rig.request(PUSH).replace(b"content-length: 0", b"content-length: %d" % size)
    with rig.raw() as tls:
        tls.sendall(request)
        if status == 200:
            tls.sendall(bytes(size))
        said = tls.recv(4096)
        while status != 200 and (more := tls.recv(4096)):
            said += more
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert (b"the limit of a body is 16 MB" in said) == (status == 413)


@pytest.mark.parametrize("theirs", [500, 501, 502, 503, 504])
def test_what_would_end_a_supernode_becomes_what_it_tries_again(rig: Rig, theirs: int) -> None:
    rig.upstream.plan = lambda _: (theirs, b"Traceback: /secret/path", {})
    answer = rig.post(PUSH, bytes(10_000))
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert b"secret" not in answer.body
    assert "date" in answer.headers


@pytest.mark.parametrize("status", [400, 401, 403, 412])
def test_what_flower_refuses_comes_back_as_flower_says_it(rig: Rig, status: int) -> None:
    rig.upstream.plan = lambda _: (status, b'{"code": 2007}', {"content-type": "application/json"})
    answer = rig.post(PUSH, b"x")
    assert (answer.status, answer.body) == (status, b'{"code": 2007}')


def test_a_head_that_trickles_in_and_a_body_that_stops_are_ended(rig: Rig) -> None:
    with rig.raw() as tls:
        tls.sendall(b"POST ")
        assert everything(tls)[9:12] in (b"", b"408")
    request = rig.request(PUSH).replace(b"content-length: 0", b"content-length: 1000000")
    with rig.raw() as tls:
        tls.sendall(request + bytes(1000))
        assert everything(tls)[9:12] in (b"", b"408")
    assert not rig.upstream.seen


def test_who_asks_too_often_is_told_what_flower_tries_again(tmp_path: Path) -> None:
    made = Nginx(tmp_path, requests_per_second=1)
    try:
        with made.rig.raw() as tls:
            tls.sendall(made.rig.request(PULL) * 210)
            said = b""
            while said.count(b"HTTP/1.1 200") < 201:
                said += tls.recv(65536)
        # 200 pass at once; the 50 after them wait for their turn, and more are not kept waiting
        waiting = [made.rig.raw() for _ in range(60)]
        for tls in waiting:
            tls.sendall(made.rig.request(PULL))
        said = next(tls.recv(4096) for tls in reversed(waiting))
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 2" in said
        for tls in waiting:
            tls.close()
    finally:
        made.end()


def test_a_superlink_that_is_away_is_503(tmp_path: Path) -> None:
    made = Nginx(tmp_path)
    try:
        made.upstream.end()
        answer = made.rig.post(PUSH, bytes(5 << 20))
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    finally:
        made.process.terminate()
        made.process.wait(10)


def test_a_superlink_of_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    made = Nginx(tmp_path / "home")
    try:
        other = make_home(tmp_path / "other")
        made.upstream.context.load_cert_chain(other.loopback_certificate, other.loopback_key)
        assert made.rig.post(PULL).status == 503
        assert not made.upstream.seen
    finally:
        made.end()


def test_client_certificates_can_be_asked_for(tmp_path: Path) -> None:
    ask = f"ssl_client_certificate {tmp_path}/ca.pem; ssl_verify_client on;"
    made = Nginx(tmp_path, more=ask)
    try:
        assert made.rig.post(PULL).status == 400
        (tmp_path / "c.pem").write_text(
            client_certificate(make_authority(tmp_path), made.hospital.ssh_line, "hospital_a")
        )
        (tmp_path / "c.key").write_bytes(made.hospital.pem)
        client = made.rig.client()
        client._context.load_cert_chain(tmp_path / "c.pem", tmp_path / "c.key")  # type: ignore[attr-defined]
        client.request("POST", PULL, b"", made.hospital.headers())
        assert answered(client).status == 200
    finally:
        made.end()
