"""The gate: what passes it, what never does, and what a hospital's software is told when something is wrong."""

import os
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from client.contact import End, refusal
from sarco_models.errors import ConfigError
from server.certificates import client_certificate, days_left, issue, make_authority, read_certificate
from server.gate import Gate, _stamp, gate_hopeless, gate_ready, main
from server.gate_door import FLEET_ROUTES
from server.home import Home
from server.renewal import renew
from tests.server.gate_rig import (
    ACTIVATE,
    ELSEWHERE,
    LENGTHS,
    METHODS,
    PULL,
    PUSH,
    QUICK,
    SMUGGLED,
    Answer,
    Hospital,
    Rig,
    Seen,
    StandIn,
    answered,
    everything,
    make_home,
    open_gate,
    until,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with open_gate(tmp_path_factory.mktemp("gate")) as made:
        yield made


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gate that waits half a second."""
    with open_gate(tmp_path_factory.mktemp("hasty"), paces=QUICK) as made:
        yield made


@pytest.fixture
def rig(shared: Rig) -> Rig:
    shared.upstream.seen.clear()
    shared.upstream.plan = None
    return shared


# ---- what passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", sorted(FLEET_ROUTES))
def test_every_fleet_route_passes_with_body_and_signature(rig: Rig, route: str) -> None:
    headers = rig.hospital.headers()
    answer = rig.post(route, b"request", headers)
    assert (answer.status, answer.body) == (200, b"request")
    [seen] = rig.upstream.seen
    assert (seen.path, seen.body) == (route, b"request")
    assert {name: seen.headers[name] for name in headers} == headers


def test_only_what_flower_reads_reaches_the_superlink(rig: Rig) -> None:
    more = {"cookie": "a=b", "authorization": "Bearer x", "flwr-task-token": "t", "x-forwarded-for": "1.2.3.4"}
    more |= {"flwr-superexec-signature": "s", "flwr-package-version": "1.41.0"}
    rig.post(PULL, b"", rig.hospital.headers() | more)
    [seen] = rig.upstream.seen
    assert seen.headers["flwr-package-version"] == "1.41.0"
    assert not set(seen.headers) & (set(more) - {"flwr-package-version"})


def test_a_large_body_goes_and_comes_back_unchanged(rig: Rig) -> None:
    body = os.urandom(5 * 2**20 + 17)
    answer = rig.post(PUSH, body)
    assert answer.status == 200
    assert answer.body == body


def test_an_answer_of_unknown_length_comes_back_unchanged(rig: Rig) -> None:
    body = os.urandom(300_000)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    rig.upstream.plan = lambda _: (200, chunks, {"transfer-encoding": "chunked"})
    assert rig.post(PULL).body == body


def test_one_connection_carries_many_requests(rig: Rig) -> None:
    client = rig.client()
    for k in range(5):
        client.request("POST", PULL, b"%d" % k, rig.hospital.headers())
        response = client.getresponse()
        assert response.read() == b"%d" % k
    client.close()
    assert [seen.body for seen in rig.upstream.seen] == [b"0", b"1", b"2", b"3", b"4"]


def test_two_requests_that_come_at_once_are_answered_in_turn(rig: Rig) -> None:
    both = rig.request(PULL, body=b"one") + rig.request(PULL, body=b"two", more="connection: close\r\n")
    said = rig.send(both)
    assert said.count(b"HTTP/1.1 200") == 2
    assert [seen.body for seen in rig.upstream.seen] == [b"one", b"two"]


def test_a_body_that_waits_to_be_asked_for_is_asked_for(rig: Rig) -> None:
    head, _, body = rig.request(PULL, body=b"abc", more="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    with rig.raw() as tls:
        tls.sendall(head + b"\r\n\r\n")
        assert tls.recv(100).startswith(b"HTTP/1.1 100 ")
        tls.sendall(body)
        assert tls.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_every_answer_tells_the_time(rig: Rig) -> None:
    answers = [
        rig.post(PULL),
        rig.post("/"),
        rig.post("/docs"),
        rig.post(PULL, b"", {}),
        rig.post(PULL, bytes(17 << 20)),
    ]
    assert [answer.status for answer in answers] == [200, 404, 404, 401, 413]
    assert all(answer.headers["date"].endswith("GMT") for answer in answers)


# ---- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ELSEWHERE)
def test_everything_else_ends_at_the_gate(rig: Rig, target: str) -> None:
    assert rig.send(rig.request(target)).startswith(b"HTTP/1.1 404 ")
    assert not rig.upstream.seen


@pytest.mark.parametrize("method", METHODS)
def test_every_other_method_ends_at_the_gate(rig: Rig, method: str) -> None:
    assert rig.send(rig.request(PULL, method=method)).startswith(b"HTTP/1.1 404 ")
    assert not rig.upstream.seen


def test_an_upgrade_is_not_passed_on(rig: Rig) -> None:
    rig.send(rig.request(PULL, more="upgrade: websocket\r\nsec-websocket-key: eA==\r\nconnection: close\r\n"))
    [seen] = rig.upstream.seen
    assert "upgrade" not in seen.headers
    assert "sec-websocket-key" not in seen.headers


@pytest.mark.parametrize("how", SMUGGLED)
def test_a_request_that_two_servers_could_read_differently_is_refused(rig: Rig, how: str) -> None:
    body = b"0\r\n\r\nPOST /v1/control/start-run HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    said = rig.send(rig.request(PULL, more=SMUGGLED[how], body=body))
    assert said.split(b" ")[1] in (b"400", b"411", b"431")
    assert said.count(b"HTTP/1.1") == 1
    assert not rig.upstream.seen


@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_that_is_none_is_refused(rig: Rig, length: str) -> None:
    request = rig.request(PULL).replace(b"content-length: 0", f"content-length: {length}".encode())
    assert rig.send(request).startswith(b"HTTP/1.1 400 ")
    assert not rig.upstream.seen


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/fleet/pull-messages HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        bytes(range(11, 256)) + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(rig: Rig, content: bytes) -> None:
    assert rig.send(content).split(b" ")[1] == b"400"
    assert not rig.upstream.seen


def test_a_body_without_a_length_is_refused(rig: Rig) -> None:
    request = rig.request(PULL).replace(b"content-length: 0\r\n", b"")
    assert rig.send(request).startswith(b"HTTP/1.1 411 ")
    assert not rig.upstream.seen


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_sent_only_whole_fleet_requests_reach_the_superlink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    monkeypatch.setattr("server.gate.NEW_CONNECTIONS_PER_SECOND", 1e6)
    chance = random.Random(seed)  # noqa: S311 - a repeatable test
    with open_gate(tmp_path, paces=replace(QUICK, head_s=0.1, stall_s=0.1), requests_per_second=1e6) as rig:
        for _ in range(150):
            rig.send(_spoilt(chance, rig.request(chance.choice(sorted(FLEET_ROUTES)), body=b"abcde")))
        assert {seen.path for seen in rig.upstream.seen} <= FLEET_ROUTES
        assert set().union(*(seen.headers for seen in rig.upstream.seen)) <= {
            *rig.hospital.headers(),
            "host",
            "content-length",
        }
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


SPOILING = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"..", b"%2e", b"//", b"?", b"\xff", b"content-length: 5\r\n",
    b"transfer-encoding: chunked\r\n", b"0\r\n\r\n", b"expect: 100-continue\r\n", b"upgrade: h2c\r\n",
    b"POST /v1/control/start-run HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
)  # fmt: skip


def _spoilt(chance: random.Random, request: bytes) -> bytes:
    spoilt = bytearray(request)
    for _ in range(chance.randint(1, 3)):
        first, second = sorted(chance.randrange(len(spoilt) + 1) for _ in range(2))
        how = chance.random()
        if how < 0.6:
            spoilt[first:first] = chance.choice(SPOILING)
        elif how < 0.8:
            del spoilt[first : first + 20]
        else:
            spoilt[first:first] = spoilt[first:second][:200]
    return bytes(spoilt)


# ---- who may pass ----------------------------------------------------------------------------------------------------


def test_who_shows_no_key_is_refused_before_the_body_is_read(rig: Rig) -> None:
    answer = rig.post(PUSH, bytes(2 << 20), {})
    assert answer.status == 401
    assert b"sarco-site join" in answer.body
    assert not rig.upstream.seen


def test_a_key_that_is_not_enrolled_is_shown_as_ssh_shows_it(rig: Rig, tmp_path: Path) -> None:
    stranger = Hospital("x")
    answer = rig.post(ACTIVATE, b"", stranger.headers())
    (tmp_path / "key.pub").write_text(stranger.ssh_line)
    command = ["ssh-keygen", "-lf", str(tmp_path / "key.pub")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]  # noqa: S603 - fixed
    assert answer.status == 412
    assert b'"code": 9002' in answer.body
    assert shown in answer.body.decode()
    assert not rig.upstream.seen


@pytest.mark.parametrize(
    ("ahead_s", "passes"), [(4, True), (6, False), (-300, True), (-310, False), (10, False), (1e6, False)]
)
def test_a_clock_passes_where_flower_lets_it_pass(rig: Rig, ahead_s: float, passes: bool) -> None:
    answer = rig.post(ACTIVATE, b"", rig.hospital.headers(ahead_s))
    assert answer.status == (200 if passes else 412)
    if not passes:
        assert b"clock" in answer.body
        assert f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'}" in answer.body.decode()


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-11-20T00:00:00", "\xe4", "9999-99-99"])
def test_a_time_that_is_none_is_refused(rig: Rig, stamp: str) -> None:
    assert rig.post(PULL, b"", rig.hospital.headers() | {"flwr-timestamp": stamp}).status in (400, 401)
    assert not rig.upstream.seen


@pytest.mark.parametrize("signature", ["AAAA", "no base64!", "\t"])
def test_a_signature_of_another_is_refused(rig: Rig, signature: str) -> None:
    assert rig.post(PULL, b"", rig.hospital.headers() | {"flwr-signature": signature}).status == 401
    other = Hospital("b").headers()
    mixed = other | {"flwr-public-key": rig.hospital.headers()["flwr-public-key"]}
    assert rig.post(PULL, b"", mixed).status == 401
    assert not rig.upstream.seen


def test_at_the_beginning_words_and_later_what_ends_the_supernode(rig: Rig) -> None:
    """Flower's client shows the text of 412 when it begins; 401 makes it end, and then it begins again."""
    headers = Hospital("x").headers()
    assert rig.post(ACTIVATE, b"", headers).status == 412
    assert rig.post(PULL, b"", headers).status == 401


def test_a_revoked_key_stops_at_its_next_request_and_comes_back_when_enrolled(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        client = rig.client()
        client.request("POST", PULL, b"", rig.hospital.headers())
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"")
        rig.home.write_sites((rig.hospital.enrolled(revoked="2026-11-20"),))
        client.request("POST", PULL, b"", rig.hospital.headers())
        assert answered(client).status == 401
        told = rig.post(ACTIVATE)
        assert (told.status, b"hospital_a was revoked on 2026-11-20" in told.body) == (412, True)
        assert len(rig.upstream.seen) == 1
        rig.home.write_sites((rig.hospital.enrolled(),))
        assert rig.post(PULL).status == 200


def test_a_damaged_list_changes_nothing_until_it_is_mended(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        rig.home.sites_file.write_text("{")
        assert rig.post(PULL).status == 200
        assert rig.post(PULL, b"", Hospital("b").headers()).status == 401


def test_a_key_that_was_revoked_under_one_name_passes_under_no_other(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        old, new = rig.hospital.enrolled(revoked="2026-11-20"), rig.hospital.enrolled()
        for first, second in (("a", "z"), ("z", "a")):
            rig.home.write_sites((replace(new, name=first), replace(old, name=second)))
            assert rig.post(PULL).status == 401


@pytest.mark.parametrize("route", [ACTIVATE, PULL])
def test_what_the_gate_says_is_what_the_hospitals_software_understands(tmp_path: Path, route: str) -> None:
    with open_gate(tmp_path) as rig:
        gone = Hospital("gone")
        rig.home.write_sites((rig.hospital.enrolled(), gone.enrolled(revoked="2026-11-20")))
        headers = rig.hospital.headers()
        cases = {
            End.NOT_ENROLLED: Hospital("x").headers(),
            End.REVOKED: gone.headers(),
            End.CLOCK: rig.hospital.headers(10),
            End.UNAUTHORIZED: headers | {"flwr-signature": Hospital("x").headers()["flwr-signature"]},
        }
        for end, shown in cases.items():
            answer = rig.post(route, b"", shown)
            assert refusal(answer.status, answer.body.decode(), 0.0) is end
        rig.upstream.plan = lambda _: (412, b'{"code": 2004}', {})
        twice = rig.post(ACTIVATE)
        assert refusal(twice.status, twice.body.decode(), 0.0) is End.TWICE


# ---- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "status"), [(16 << 20, 200), ((16 << 20) + 1, 413), (10**14, 413)])
def test_the_limit_of_a_body_is_a_number_that_is_told(rig: Rig, size: int, status: int) -> None:
    request = rig.request(PUSH).replace(b"content-length: 0", b"content-length: %d" % size)
    with rig.raw() as tls:
        tls.sendall(request)
        if status == 200:
            tls.sendall(bytes(size))
        said = tls.recv(4096)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    if status != 200:
        assert b"the limit is 16 MB (max_body_mb)" in said
        assert not rig.upstream.seen


def test_a_stranger_that_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    with open_gate(tmp_path, requests_per_second=1) as rig:
        rig.gate._door.access._rates._steady = lambda: 0.0
        answers = [rig.post("/docs") for _ in range(8)]
        assert [answer.status for answer in answers].count(404) == 5
        assert answers[-1].status == 429
        assert int(answers[-1].headers["retry-after"]) > 0
        # a hospital behind the same address is counted by its key
        assert rig.post(PULL).status == 200


def test_a_hospital_that_asks_too_often_is_slowed_down_and_then_told_what_flower_tries_again(tmp_path: Path) -> None:
    with open_gate(tmp_path, requests_per_second=4) as rig:
        began = time.monotonic()
        assert {rig.post(PULL).status for _ in range(22)} == {200}
        assert time.monotonic() - began > 0.2
        rig.gate._door.access._rates._left["site hospital_a"] = (-40.0, time.monotonic())
        answer = rig.post(PULL)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")


def test_what_a_hospital_sends_in_an_hour_has_a_limit(tmp_path: Path) -> None:
    with open_gate(tmp_path, max_mb_per_hour=100) as rig:
        clock = iter([0.0] * 8 + [3600.0] * 8)
        rig.gate._door.access._volume._steady = lambda: next(clock)
        megabytes = bytes(15 << 20)
        answers = [rig.post(PUSH, megabytes) for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 6 + [503] * 2, "90 MB pass, and 105 do not"
        assert (answers[-1].headers["retry-after"], "max_mb_per_hour" in answers[-1].body.decode()) == ("2", True)
        assert rig.post(PUSH, megabytes).status == 200, "an hour later"
        assert len(rig.upstream.seen) == 7
    assert [line["code"] for line in rig.refused()] == ["volume"]


def test_a_stranger_leaves_when_a_hospital_finds_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gate.MOST_OF_ONE_ADDRESS", 3)
    with open_gate(tmp_path) as rig:
        strangers = [rig.raw() for _ in range(3)]
        clients = [rig.client() for _ in range(3)]
        for client in clients:
            client.request("POST", PULL, b"", rig.hospital.headers())
            response = client.getresponse()
            assert (response.status, response.read()) == (200, b"")
        assert [everything(stranger) for stranger in strangers] == [b"", b"", b""]
        # three hospitals' connections stay, whoever comes
        with pytest.raises((OSError, ssl.SSLError)):
            rig.raw()
        for client in clients:
            client.request("POST", PULL, b"", rig.hospital.headers())
            assert answered(client).status == 200
        for stranger in strangers:
            stranger.close()
        until(lambda: not rig.gate._guests)
        assert rig.post(PULL).status == 200
        assert [line["reason"] for line in rig.refused()] == [
            "too many connections at once: the limit is 3 connections from one address"
        ]


def test_the_number_of_all_connections_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gate.MOST_CONNECTIONS", 2)
    with open_gate(tmp_path) as rig:
        held = [rig.raw() for _ in range(4)]
        assert [everything(each) for each in held[:2]] == [b"", b""]
        until(lambda: len(rig.gate._guests) == 2)
        for each in held:
            each.close()


def test_handshakes_of_one_address_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gate.NEW_CONNECTIONS_PER_SECOND", 1.0)
    with open_gate(tmp_path) as rig:
        rig.gate._guests._arrivals._steady = lambda: 0.0
        for _ in range(5):
            rig.raw().close()
        with pytest.raises((OSError, ssl.SSLError)):
            rig.raw()
        assert "1 new connections a second" in str(rig.refused()[-1]["reason"])


# ---- slow and broken -------------------------------------------------------------------------------------------------


def test_a_head_that_trickles_in_is_ended(hasty: Rig) -> None:
    with hasty.raw() as tls:
        began = time.monotonic()
        assert _trickled(tls).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 3.0


def _trickled(tls: ssl.SSLSocket) -> bytes:
    """What comes back while a request is sent letter by letter: one thread, as OpenSSL forbids two on a connection."""
    tls.settimeout(0.05)
    for letter in b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\nx-a: and so on":
        tls.sendall(bytes([letter]))
        with suppress(TimeoutError):
            return tls.recv(65536)
    return b""


def test_a_body_that_stops_is_ended_and_never_counts(hasty: Rig) -> None:
    request = hasty.request(PUSH).replace(b"content-length: 0", b"content-length: 1000000")
    with hasty.raw() as tls:
        tls.sendall(request + bytes(500_000))
        # 503 and not 408: a hospital on a slow line tries again
        assert everything(tls).startswith(b"HTTP/1.1 503 ")
    assert not hasty.upstream.seen
    assert hasty.refused()[-1]["site"] == "hospital_a"


def test_an_upload_that_is_cut_never_counts_and_the_next_one_passes(rig: Rig) -> None:
    request = rig.request(PUSH).replace(b"content-length: 0", b"content-length: 1000000")
    with rig.raw() as tls:
        tls.sendall(request + bytes(500_000))
        tls.shutdown(socket.SHUT_RDWR)
    assert rig.post(PUSH, b"whole").status == 200
    assert [seen.body for seen in rig.upstream.seen] == [b"whole"]


def test_who_says_nothing_is_let_go(tmp_path: Path) -> None:
    with open_gate(tmp_path, paces=replace(QUICK, handshake_s=0.2, head_s=0.2)) as rig:
        with socket.create_connection(("127.0.0.1", rig.gate.port)) as silent, rig.raw() as idle:
            assert silent.recv(10) == b""
            assert everything(idle) == b""
        until(lambda: not rig.gate._guests)
        assert rig.refused() == []


def test_who_does_not_take_the_answer_is_let_go(tmp_path: Path) -> None:
    with open_gate(tmp_path, paces=QUICK) as rig:
        rig.upstream.plan = lambda _: (200, bytes(16 << 20), {})
        with rig.raw() as tls:
            tls.sendall(rig.request(PULL))
            until(lambda: bool(rig.upstream.seen))
            until(lambda: not rig.gate._guests)


# ---- the SuperLink's troubles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theirs", "ours"), [(500, 503), (501, 503), (502, 502), (503, 503), (504, 504), (599, 503)])
def test_what_would_end_a_supernode_becomes_what_it_tries_again(rig: Rig, theirs: int, ours: int) -> None:
    rig.upstream.plan = lambda _: (theirs, b"Traceback: /secret/path", {})
    client = rig.client()
    client.request("POST", PUSH, bytes(10_000), rig.hospital.headers())
    response = client.getresponse()
    assert (response.status, response.getheader("retry-after")) == (ours, "2")
    assert b"secret" not in response.read()
    rig.upstream.plan = None
    client.request("POST", PUSH, b"again", rig.hospital.headers())  # on the same connection
    assert answered(client).body == b"again"


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412])
def test_what_flower_refuses_comes_back_as_flower_says_it(rig: Rig, status: int) -> None:
    rig.upstream.plan = lambda _: (status, b'{"code": 2007}', {"content-type": "application/json", "x-a": "b"})
    answer = rig.post(PUSH, b"x")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (
        status,
        b'{"code": 2007}',
        "application/json",
    )
    assert "x-a" not in answer.headers


def test_a_key_that_is_online_already_is_told_in_words_and_keeps_flowers_number(rig: Rig) -> None:
    rig.upstream.plan = lambda _: (412, b'{"code": 2004, "detail": "Failed to activate SuperNode."}', {})
    answer = rig.post(ACTIVATE)
    assert answer.status == 412
    assert b'"code": 2004' in answer.body
    assert b"runs on two machines" in answer.body
    assert rig.refused()[-1]["code"] == "online"


def test_a_superlink_that_is_away_is_503_and_the_whole_upload_is_read_first(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        rig.upstream.end()
        client = rig.client()
        client.request("POST", PUSH, bytes(5 << 20), rig.hospital.headers())
        answer = answered(client)
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "2", "keep-alive")


def test_a_superlink_and_a_hospital_that_go_away_together_are_no_fault_of_the_gate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_gate(tmp_path, paces=QUICK) as rig:
        rig.upstream.end()
        request = rig.request(PUSH).replace(b"content-length: 0", b"content-length: 1000000")
        for stops in (True, False):
            with rig.raw() as tls:
                tls.sendall(request + bytes(500_000))
                if stops:
                    tls.shutdown(socket.SHUT_RDWR)
                else:
                    assert everything(tls).startswith(b"HTTP/1.1 503 ")
        until(lambda: not rig.gate._guests)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_superlink_that_is_started_again_is_found_again_on_the_same_connection(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        client = rig.client()
        statuses = []
        for k in range(3):
            if k == 1:
                rig.upstream.end()
            if k == 2:
                rig.upstream = StandIn(rig.home, rig.home.config.superlink_port)
            client.request("POST", PUSH, bytes(300_000), rig.hospital.headers())
            response = client.getresponse()
            response.read()
            statuses.append(response.status)
        assert statuses == [200, 503, 200]
        client.close()
        rig.upstream.end()


def test_a_warm_connection_that_has_just_ended_is_not_noticed(rig: Rig) -> None:
    """The SuperLink ends idle connections by itself; a request that was not begun goes out again on a new one."""
    assert rig.post(PULL, b"one").status == 200
    for connection in rig.upstream.connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            continue
    assert rig.post(PULL, b"two").status == 200


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(rig: Rig) -> None:
    rig.upstream.plan = lambda _: (200, bytes(1000), {"content-length": "300000", "connection": "close"})
    with rig.raw() as tls:
        tls.sendall(rig.request(PULL))
        time.sleep(0.05)
        for connection in rig.upstream.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        said = everything(tls)
    assert b"content-length: 300000" in said
    assert len(said) < 300_000


def test_a_superlink_that_dies_with_a_request_is_503(rig: Rig) -> None:
    rig.upstream.plan = lambda _: (0, b"", {})
    assert rig.post(PUSH, bytes(400_000)).status == 503


def test_a_superlink_of_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    with open_gate(tmp_path / "home") as rig:
        other = make_home(tmp_path / "other")
        rig.upstream.context.load_cert_chain(other.loopback_certificate, other.loopback_key)
        assert rig.post(PULL).status == 503
        assert not rig.upstream.seen


# ---- TLS -------------------------------------------------------------------------------------------------------------


def test_a_hospital_with_another_authority_refuses_us_and_we_say_so(tmp_path: Path) -> None:
    with open_gate(tmp_path / "home") as rig:
        context = ssl.create_default_context(cafile=str(make_authority(tmp_path / "other").certificate))
        with (
            pytest.raises(ssl.SSLCertVerificationError),
            socket.create_connection(("127.0.0.1", rig.gate.port)) as raw,
        ):
            context.wrap_socket(raw, server_hostname="127.0.0.1")
        until(lambda: bool(rig.refused()))
        [line] = rig.refused()
        assert (line["code"], "does not know our authority" in str(line["reason"])) == ("tls", True)


def test_old_tls_and_no_tls_are_refused(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        with socket.create_connection(("127.0.0.1", rig.gate.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            with suppress(ConnectionError):
                assert b"HTTP/1.1" not in plain.recv(100)
        until(lambda: bool(rig.refused()))
        assert "without TLS" in str(rig.refused()[0]["reason"])
    assert ssl.TLSVersion.TLSv1_2 <= rig.gate._context.minimum_version


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gate._TICK_S", 0.02)
    with open_gate(tmp_path) as rig:
        before = _shown(rig)
        renew(make_authority(tmp_path), rig.home.certificate)
        until(lambda: _shown(rig) != before)
        assert rig.post(PULL).status == 200


def test_a_certificate_that_ends_soon_is_renewed_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gate._TICK_S", 0.02)
    home = make_home(tmp_path)
    issue(make_authority(tmp_path), home.certificate.with_suffix(""), ["127.0.0.1"], days=10)
    gate = Gate(home)
    gate.start(0)
    try:
        until(lambda: days_left(read_certificate(home.certificate)) > 700)
        until(lambda: gate._certificate_seen == _stamp(home.certificate))
    finally:
        gate.stop(0.1)


def _shown(rig: Rig) -> bytes | None:
    with rig.raw() as tls:
        return tls.getpeercert(binary_form=True)


def test_client_certificates_must_be_of_the_same_key(tmp_path: Path) -> None:
    with open_gate(tmp_path, client_certificates=True) as rig:
        other = Hospital("hospital_b")
        rig.home.write_sites((rig.hospital.enrolled(), other.enrolled()))
        assert _with_certificate(rig, rig.hospital, rig.hospital).status == 200
        mixed = _with_certificate(rig, other, rig.hospital)
        assert mixed.status == 401
        assert refusal(mixed.status, mixed.body.decode(), 0.0) is End.NO_CERTIFICATE
        with pytest.raises((ssl.SSLError, ConnectionError)):
            rig.post(PULL)
        until(lambda: len(rig.refused()) == 2)
        assert [line["code"] for line in rig.refused()] == ["certificate", "no-certificate"]
        assert rig.refused()[0]["site"] == "hospital_a"


def _with_certificate(rig: Rig, shows: Hospital, signs: Hospital) -> Answer:
    folder = rig.home.folder
    (folder / "c.pem").write_text(client_certificate(make_authority(folder), shows.ssh_line, shows.name))
    (folder / "c.key").write_bytes(shows.pem)
    client = rig.client()
    client._context.load_cert_chain(folder / "c.pem", folder / "c.key")  # type: ignore[attr-defined]
    try:
        client.request("POST", PULL, b"", signs.headers())
        return answered(client)
    finally:
        client.close()


# ---- running it ------------------------------------------------------------------------------------------------------


def test_what_is_under_way_ends_before_the_gate_does(tmp_path: Path) -> None:
    with open_gate(tmp_path) as rig:
        go = threading.Event()

        def late(seen: Seen) -> tuple[int, bytes, dict[str, str]]:
            go.wait(5)
            return 200, seen.body, {}

        rig.upstream.plan = late
        idle, client, port = rig.raw(), rig.client(), rig.gate.port
        client.request("POST", PULL, b"under way", rig.hospital.headers())
        until(lambda: bool(rig.upstream.seen))
        ending = threading.Thread(target=rig.gate.stop)
        ending.start()
        with idle:
            assert everything(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        go.set()
        assert answered(client).body == b"under way"
        ending.join(2)
        assert not ending.is_alive()


def test_a_port_that_is_taken_is_named(shared: Rig) -> None:
    with pytest.raises(ConfigError, match=rf"\[gate\] host = 127.0.0.1, port = {shared.gate.port}: Address already"):
        Gate(shared.home).start(shared.gate.port)


@pytest.mark.parametrize("name", ["server.pem", "server.key", "ca.pem"])
def test_an_absent_certificate_is_named(tmp_path: Path, name: str) -> None:
    home = make_home(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name}: is absent: restore it"):
        Gate(home)


def test_a_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    (tmp_path / "server.key").unlink()
    issue(make_authority(tmp_path), tmp_path / "other", ["localhost"])
    (tmp_path / "other.key").rename(tmp_path / "server.key")
    with pytest.raises(ConfigError, match=r"server\.pem: cannot be used with server\.key"):
        Gate(home)


def test_a_home_that_is_none_ends_the_command_with_a_reason_that_its_supervisor_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "is not a coordinator's home" in gate_hopeless(1, f"a line\n{said}")
    assert gate_hopeless(-9, said) == ""
    assert main([]) == 2


def test_a_full_disk_is_told_once_and_the_gate_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.gate._TICK_S", 0.01)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with open_gate(tmp_path) as rig:
        monkeypatch.setattr("server.refusals.write_text", full)
        monkeypatch.setattr("server.refusals._WRITE_EVERY_S", 0.0)
        rig.post("/docs")
        until(lambda: "No space left" in caplog.text)
        time.sleep(0.1)
        assert rig.post(PULL).status == 200
        assert caplog.text.count("No space left") == 1
        monkeypatch.undo()
        assert len(rig.refused()) == 1


def test_ready_means_that_the_port_is_open(shared: Rig) -> None:
    gate = shared.home.config.gate.model_copy(update={"port": shared.gate.port})
    assert gate_ready(Home(shared.home.folder, shared.home.config.model_copy(update={"gate": gate})))()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    closed = gate.model_copy(update={"port": port})
    assert not gate_ready(Home(shared.home.folder, shared.home.config.model_copy(update={"gate": closed})))()
