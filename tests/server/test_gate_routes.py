"""A real SuperLink behind the gate: every route that it has is tried, and of all of them the fleet's alone are reached.

The SuperLink is started by the coordinator's own command, and its access log says what reached it (of routine requests
those alone that it refused, which is what these are).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.node_pb2 import Node

from client.admission import ask, judged
from client.contact import End
from sarco_models.processes import program, quiet_environment
from server.certificates import client_certificate, make_authority
from server.control import Control
from server.gate import Gate
from server.gate_door import FLEET_ROUTES
from server.gate_http import Paces
from server.home import Home
from server.operating import programs
from tests.server.gate_rig import Hospital, Rig, make_home, until
from tests.server.nginx_rig import NGINX, started_nginx

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "PROPFIND")
NOT_IN_THE_LIST = ("/docs", "/openapi.json", "/redoc", "/docs/oauth2-redirect", "/health", "/", "/metrics", "/v1")


@dataclass
class SuperLink:
    """The process, and what it says."""

    home: Home
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        made = programs(self.home)[0]
        made.cwd.mkdir(parents=True, exist_ok=True)
        self.process = _child(list(made.command), dict(made.env), self.log, made.cwd)
        until(self.answers, 90)

    def answers(self) -> bool:
        with Control(self.home, timeout_s=3.0) as control:
            return control.answers()

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def reached(self) -> list[str]:
        """Requests in its access log."""
        return [line for line in self.log.read_text().splitlines() if "HTTP/1.1" in line]


def _child(command: list[str], env: dict[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None)
    more = {"env": env, "cwd": cwd, "start_new_session": True}
    with log.open("ab") as file:
        # it dies with the test
        return subprocess.Popen(command, stdout=file, stderr=file, preexec_fn=lambda: libc.prctl(1, 9), **more)  # noqa: S603


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class Real(Rig):
    """As the rig, with the real thing behind it."""

    superlink: SuperLink


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    folder = tmp_path_factory.mktemp("home")
    hospital = Hospital("hospital_a")
    home = make_home(folder, hospital, superlink_port=_free_port())
    home.superexec_secret.parent.mkdir(parents=True)
    home.superexec_secret.write_text("s" * 64)
    home.superexec_secret.chmod(0o600)
    home.logs.mkdir()
    superlink = SuperLink(home, home.logs / "superlink.log")
    try:
        superlink.start()
        with Control(home) as control:
            control.register(hospital.ssh_line, hospital.name)
        with pytest.MonkeyPatch.context() as patch:  # a quick machine sends more than the gate takes from one address
            patch.setattr("server.gate.NEW_CONNECTIONS_PER_SECOND", 1e6)
            gate = Gate(home, paces=Paces())
        gate.start(0)
        yield Real(home, gate, None, hospital, superlink)  # type: ignore[arg-type]
        gate.stop(1.0)
    finally:
        superlink.kill()


@pytest.fixture(scope="module")
def routes(real: Real) -> dict[str, set[str]]:
    """Path -> methods, from the SuperLink's own list."""
    listed = json.loads(_direct(real, "GET", "/openapi.json")[1])
    return {path: {method.upper() for method in methods} for path, methods in listed["paths"].items()}


def _direct(real: Real, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Past the gate, as only this machine can."""
    client = HTTPSConnection("127.0.0.1", real.home.config.superlink_port, context=real.client()._context, timeout=20)  # type: ignore[attr-defined]
    try:
        client.request(method, path, body, real.hospital.headers())
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def test_the_gate_knows_exactly_the_fleet_routes_that_flower_has(routes: dict[str, set[str]]) -> None:
    fleet = {path: methods for path, methods in routes.items() if path.startswith("/v1/fleet")}
    assert set(fleet) == FLEET_ROUTES
    assert set().union(*fleet.values()) == {"POST"}
    assert {path.split("/")[2] for path in routes if path.startswith("/v1/")} >= {"fleet", "control", "runtime"}


def test_nothing_else_is_reached_by_any_method(real: Real, routes: dict[str, set[str]]) -> None:
    others = sorted({path for path in routes if path not in FLEET_ROUTES} | set(NOT_IN_THE_LIST))
    assert len(others) > 60
    before = len(real.superlink.reached())
    for path in others:
        for method in METHODS if path in NOT_IN_THE_LIST or path.endswith("start-run") else ("POST", "GET"):
            said = real.send(real.request(path, method=method, more="connection: close\r\n"))
            assert said.startswith(b"HTTP/1.1 404 "), (method, path, said[:80])
    for path in sorted(FLEET_ROUTES):
        for method in METHODS:
            if method != "POST":
                said = real.send(real.request(path, method=method, more="connection: close\r\n"))
                assert said.startswith(b"HTTP/1.1 404 "), (method, path, said[:80])
    time.sleep(0.3)
    assert real.superlink.reached()[before:] == []


def test_disguises_of_the_control_api_are_not_reached(real: Real) -> None:
    before = len(real.superlink.reached())
    for path in (
        "/v1/fleet/../control/start-run", "/v1/fleet/%2e%2e/control/start-run", "/v1/fleet/..%2fcontrol%2fstart-run",
        "//v1/control/start-run", "/v1/control//start-run", "/v1/fleet/pull-messages/../../control/start-run",
        "/v1/fleet/pull-messages;/../../control/start-run", "/v1/fleet/pull-messages%00/../../control/start-run",
        f"https://127.0.0.1:{real.home.config.superlink_port}/v1/control/start-run",
        "/v1/fleet/pull-messages?x=/v1/control/start-run", "/v1/control/start-run?/v1/fleet/pull-messages",
    ):  # fmt: skip
        assert real.send(real.request(path)).startswith(b"HTTP/1.1 404 "), path
    body = b"0\r\n\r\nPOST /v1/control/list-runs HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    for more in ("transfer-encoding: chunked\r\n", "content-length: 0\r\n", "x: y\n transfer-encoding: chunked\r\n"):
        real.send(real.request("/v1/fleet/pull-messages", more=more, body=body))
    time.sleep(0.3)
    assert real.superlink.reached()[before:] == []


@pytest.mark.parametrize("route", sorted(FLEET_ROUTES - {"/v1/fleet/activate-node"}))
def test_every_fleet_route_reaches_the_superlink_and_its_answer_comes_back(real: Real, route: str) -> None:
    """An empty message is what the SuperLink refuses in its own way; the gate changes nothing of that."""
    before = len(real.superlink.reached())
    through = real.post(route)
    until(lambda: len(real.superlink.reached()) == before + 1)
    assert f"POST {route} HTTP/1.1" in real.superlink.reached()[-1]
    assert (through.status, through.body) == _direct(real, "POST", route)
    assert through.status != 404


def test_a_hospital_begins_asks_and_beats_through_the_gate(real: Real) -> None:
    node = _activated(real)
    assert real.post("/v1/fleet/pull-messages", PullMessagesRequest(node=node).SerializeToString()).status == 200
    beat = SendNodeHeartbeatRequest(node=node, heartbeat_interval=30).SerializeToString()
    answer = real.post("/v1/fleet/send-node-heartbeat", beat)
    assert SendNodeHeartbeatResponse.FromString(answer.body).success
    with Control(real.home) as control:
        assert [(found.name, found.online) for found in control.nodes()] == [("hospital_a", True)]
    second = real.post("/v1/fleet/activate-node", _activation(real.hospital))
    assert (second.status, b"runs on two machines" in second.body) == (412, True)
    _deactivated(real, node)


def test_nobody_registers_from_outside(real: Real) -> None:
    body = RegisterNodeFleetRequest(public_key=real.hospital.public).SerializeToString()
    assert real.post("/v1/fleet/register-node", body).status == 412


def test_a_superlink_that_was_killed_is_503_and_then_knows_the_hospital_again(real: Real) -> None:
    node = _activated(real)
    real.superlink.kill()
    ask = PullMessagesRequest(node=node).SerializeToString()
    away = real.post("/v1/fleet/pull-messages", ask)
    assert (away.status, away.headers["retry-after"]) == (503, "2")
    real.superlink.start()
    assert real.post("/v1/fleet/pull-messages", ask).status == 200
    _deactivated(real, node)


def _activation(hospital: Hospital) -> bytes:
    return ActivateNodeRequest(public_key=hospital.public, heartbeat_interval=30).SerializeToString()


def _activated(real: Real) -> Node:
    answer = real.post("/v1/fleet/activate-node", _activation(real.hospital))
    assert answer.status == 200, answer.body
    return Node(node_id=ActivateNodeResponse.FromString(answer.body).node_id)


def _deactivated(real: Real, node: Node) -> None:
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest

    body = DeactivateNodeRequest(node_id=node.node_id).SerializeToString()
    assert real.post("/v1/fleet/deactivate-node", body).status == 200


# ---- a hospital that asks whether it is let in -----------------------------------------------------------------------


def test_a_hospital_learns_whether_it_is_let_in_and_nobody_is_connected_by_it(real: Real, tmp_path: Path) -> None:
    def told(hospital: Hospital, port: int = 0) -> str:
        secret = hospital.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        (tmp_path / "node.key").write_bytes(secret)
        context = ssl.create_default_context(cafile=str(real.home.ca))
        line = HTTPSConnection("127.0.0.1", port or real.gate.port, context=context, timeout=20)
        try:
            return judged(*ask(line, tmp_path / "node.key"))[1]
        finally:
            line.close()

    superlink = int(real.home.superlink.rpartition(":")[2])
    stranger, new = Hospital("hospital_b"), Hospital("hospital_c")
    assert told(real.hospital).endswith("knows this hospital's key and lets it in")
    assert told(real.hospital, superlink).endswith("lets it in"), "as behind nginx"
    assert told(stranger).startswith("the coordinator does not know this hospital's key (it says: this node key")
    assert "it was revoked, or another key is enrolled" in told(stranger, superlink)
    with Control(real.home) as control:
        assert not any(node.online for node in control.nodes())
    sites = real.home.sites()
    try:
        real.home.write_sites((*sites, new.enrolled()))
        assert told(new).endswith("does not know its key yet")
        real.home.write_sites((real.hospital.enrolled("2026-11-20T12:00:00+00:00"),))
        assert told(real.hospital).startswith("the coordinator has revoked this hospital's key")
    finally:
        real.home.write_sites(sites)
    node = _activated(real)
    assert told(real.hospital).endswith("lets it in"), "a connection is not disturbed"
    with Control(real.home) as control:
        assert [node.online for node in control.nodes()] == [True]
    _deactivated(real, node)


# ---- Flower's own SuperNode ------------------------------------------------------------------------------------------


def _supernode(
    real: Real, folder: Path, hospital: Hospital, *, ca: Path | None = None, port: int = 0
) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    secret = hospital.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "node.pem").write_bytes(secret)
    (folder / "node.pem").chmod(0o600)
    command = [program("flower-supernode"), "--superlink", f"127.0.0.1:{port or real.gate.port}"]
    command += ["--root-certificates", str(ca or real.home.ca), "--isolation", "process"]
    command += ["--auth-supernode-private-key", str(folder / "node.pem")]
    command += ["--host", "127.0.0.1", "--port", str(_free_port())]
    return _child(command, quiet_environment(folder), folder / "log", folder)


def _comes_back_with_the_superlink(real: Real, said: Path) -> None:
    """It says so only if it asked while the SuperLink was away, and it asks every few seconds."""
    real.superlink.kill()
    until(lambda: "retrying" in said.read_text(), 60)
    real.superlink.start()
    until(lambda: "Connection successful" in said.read_text(), 60)


def test_flowers_own_supernode_comes_online_and_outlives_a_killed_superlink(real: Real, tmp_path: Path) -> None:
    node = _supernode(real, tmp_path / "node", real.hospital)
    try:
        with Control(real.home) as control:
            until(lambda: control.nodes()[0].online, 60)
        _comes_back_with_the_superlink(real, tmp_path / "node" / "log")
        assert node.poll() is None
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(30)


@pytest.mark.parametrize("who", ["stranger", "revoked", "another authority"])
def test_flowers_own_supernode_shows_why_it_may_not_come_in(real: Real, tmp_path: Path, who: str) -> None:
    hospital = Hospital("hospital_x")
    if who == "revoked":
        real.home.write_sites((real.hospital.enrolled(), replace(hospital.enrolled(), revoked="2026-11-20T10:00:00")))
    ca = make_home(tmp_path / "other").ca if who == "another authority" else None
    node = _supernode(real, tmp_path / "node", hospital, ca=ca)
    assert node.wait(60) not in (0, None)
    said = (tmp_path / "node" / "log").read_text()
    words = {
        "stranger": "[code: 9002]",
        "revoked": "hospital_x was revoked on 2026",
        "another authority": "certificate",
    }
    assert words[who] in said, said
    codes = [line["code"] for line in real.refused()]
    assert {"stranger": "unknown-key", "revoked": "revoked", "another authority": "tls"}[who] in codes


@pytest.mark.skipif(NGINX is None, reason="there is no nginx: apt-get install nginx-light")
def test_flowers_own_supernode_comes_online_through_nginx(real: Real, tmp_path: Path) -> None:
    nginx, port = started_nginx(real.home)
    node = _supernode(real, tmp_path / "node", real.hospital, port=port)
    try:
        with Control(real.home) as control:
            until(lambda: control.nodes()[0].online, 60)
        _comes_back_with_the_superlink(real, tmp_path / "node" / "log")
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(30)
        nginx.terminate()
        nginx.wait(10)


# ---- the hospital's own launcher, where client certificates are asked for --------------------------------------------


@pytest.fixture(scope="module")
def certified(real: Real) -> Iterator[Real]:
    """A second gate before the same SuperLink, which asks for certificates."""
    asks = real.home.config.gate.model_copy(update={"client_certificates": True})
    home = Home(real.home.folder, real.home.config.model_copy(update={"gate": asks}))
    gate = Gate(home)
    gate.start(0)
    yield replace(real, home=home, gate=gate)
    gate.stop(1.0)


def _launched(certified: Real, folder: Path, *shown: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    secret = certified.hospital.key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (folder / "node.pem").write_bytes(secret)
    (folder / "node.pem").chmod(0o600)
    command = [sys.executable, "-m", "client.supernode", "--contact", str(folder / "contact.json"), *shown, "--"]
    command += ["--superlink", f"127.0.0.1:{certified.gate.port}", "--root-certificates", str(certified.home.ca)]
    command += ["--isolation", "process", "--auth-supernode-private-key", str(folder / "node.pem")]
    command += ["--host", "127.0.0.1", "--port", str(_free_port())]
    return _child(command, quiet_environment(folder, PYTHONPATH=str(ROOT)), folder / "log", folder)


def test_a_hospital_with_the_certificate_of_its_kit_comes_online(certified: Real, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    hospital = certified.hospital
    certificate.write_text(client_certificate(make_authority(certified.home.folder), hospital.ssh_line, hospital.name))
    shown = ("--client-certificate", str(certificate), "--node-key", str(tmp_path / "node.pem"))
    node = _launched(certified, tmp_path, *shown)
    try:
        with Control(certified.home) as control:
            until(lambda: control.nodes()[0].online, 60)
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(30)


def test_a_hospital_without_it_is_told_so(certified: Real, tmp_path: Path) -> None:
    assert _launched(certified, tmp_path).wait(60) == End.NO_CERTIFICATE
    assert certified.refused()[-1]["code"] == "no-certificate"
