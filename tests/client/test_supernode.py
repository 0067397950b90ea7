"""Flower's SuperNode, started by our launcher, against a coordinator that says all that one can say."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from client.contact import SAYS, End, read_contact
from client.node_key import node_line
from sarco_models.processes import quiet_environment
from server.certificates import client_certificate, make_authority
from tests.client.stand_in_coordinator import Says, StandIn, stand_in

pytestmark = pytest.mark.slow

ERROR_2004 = (412, b'{"code": 2004, "message": "Failed to activate SuperNode."}', {})


def node_key(folder: Path) -> Path:
    path = folder / "node.pem"
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return path


def start(folder: Path, address: str, ca: Path, *words: str) -> "subprocess.Popen[str]":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flower = ["--superlink", address, "--root-certificates", str(ca), "--isolation", "process", "--port", str(port)]
    command = [sys.executable, "-m", "client.supernode", "--contact", str(folder / "contact.json"), *words]
    if not (folder / "node.pem").exists():
        node_key(folder)
    return subprocess.Popen(  # noqa: S603
        [*command, "--", *flower, "--auth-supernode-private-key", str(folder / "node.pem")],
        env={**quiet_environment(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, coordinator: StandIn, until: Callable[[], bool] | None = None, *words: str) -> tuple[int, str]:
    """Exit code and the last line of stderr; with ``until`` it is asked to stop then."""
    process = start(folder, coordinator.address, coordinator.ca, *words)
    try:
        if until is not None:
            limit = time.monotonic() + 90
            while not until() and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=90)[1]
    finally:
        process.kill()
        process.wait()
    return process.returncode, said.strip().splitlines()[-1]


def at(where: str, *answer: object) -> Says:
    return lambda path, _times: answer if path == where else None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("says", "end"),
    [
        (at("activate-node", *ERROR_2004), End.NOT_ADMITTED),
        (at("activate-node", 401, b"this hospital was revoked", {}), End.REVOKED),
        (at("activate-node", 403, b"its key is not enrolled", {}), End.NOT_ENROLLED),
        (at("activate-node", 401, b"Invalid SuperNode authentication", {}), End.UNAUTHORIZED),
    ],
)
def test_a_refused_hospital_ends_and_says_why(tmp_path: Path, says: Says, end: End) -> None:
    with stand_in(tmp_path / "home", says) as coordinator:
        code, said = run(tmp_path, coordinator, None, "--lease", "0")
    assert (code, SAYS[end] in said) == (end, True), said
    assert read_contact(tmp_path / "contact.json")["code"] == end


def test_the_place_of_a_supernode_that_was_killed_is_waited_for(tmp_path: Path) -> None:
    """It is held for a minute; nothing is started again meanwhile."""
    held = (412, b'{"detail": "alpha is online already", "code": 2004}', {})

    def says(path: str, times: int) -> tuple[int, bytes, dict[str, str]] | None:
        return held if path == "activate-node" and times < 2 else None

    with stand_in(tmp_path / "home", says) as coordinator:
        code, said = run(tmp_path, coordinator, lambda: "pull-messages" in coordinator.asked)
    assert (code, coordinator.asked.count("activate-node")) == (End.STOPPED, 3), said


def test_a_wrong_clock_is_named(tmp_path: Path) -> None:
    hour = format_datetime(datetime.now(UTC) - timedelta(seconds=10), usegmt=True).encode()

    def says(path: str, _times: int) -> tuple[int, bytes, dict[str, str]] | None:
        if path == "date":
            return 200, hour, {}
        return (401, b"Invalid SuperNode authentication", {}) if path == "activate-node" else None

    with stand_in(tmp_path / "home", says) as coordinator:
        code, said = run(tmp_path, coordinator)
    assert code == End.CLOCK, said
    assert "time synchronisation" in said


def test_another_authority_is_not_trusted(tmp_path: Path) -> None:
    with stand_in(tmp_path / "home") as coordinator, stand_in(tmp_path / "other") as other:
        coordinator.ca = other.ca
        code, said = run(tmp_path, coordinator)
    assert (code, coordinator.asked) == (End.WRONG_AUTHORITY, []), said


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    with stand_in(tmp_path / "home", names=("coordinator.example",)) as coordinator:
        code, said = run(tmp_path, coordinator)
    assert (code, coordinator.asked) == (End.WRONG_NAME, []), said


def test_a_door_that_asks_for_the_kits_certificate_is_shown_it(tmp_path: Path) -> None:
    line = node_line(node_key(tmp_path))
    with stand_in(tmp_path / "home", asks=True) as coordinator:
        code, said = run(tmp_path, coordinator)
        assert (code, coordinator.asked) == (End.NO_CERTIFICATE, []), said
        certificate = tmp_path / "client.pem"
        certificate.write_text(client_certificate(make_authority(tmp_path / "home"), line, "alpha"))
        shown = ("--client-certificate", str(certificate), "--node-key", str(tmp_path / "node.pem"))
        code, said = run(tmp_path, coordinator, lambda: "pull-messages" in coordinator.asked, *shown)
    assert (code, "pull-messages" in coordinator.asked) == (End.STOPPED, True), said
    assert not list(tmp_path.glob("tmp*.pem")), "the copy of the key that OpenSSL reads does not stay"


def test_later_is_no_end(tmp_path: Path) -> None:
    """HTTP 500, 429, 502 and a cut connection are asked again; Flower's own SuperNode is a zombie after the first."""
    trouble = [(500, b"", {}), (429, b"", {"retry-after": "0"}), (502, b"", {}), (0, b"", {})]

    def says(path: str, times: int) -> tuple[int, bytes, dict[str, str]] | None:
        return trouble[times] if path == "pull-messages" and times < len(trouble) else None

    with stand_in(tmp_path / "home", says) as coordinator:
        code, said = run(tmp_path, coordinator, lambda: coordinator.asked.count("pull-messages") >= 8)
    assert coordinator.asked.count("pull-messages") >= 8
    assert coordinator.asked.count("activate-node") == 1
    assert coordinator.asked[-1] == "deactivate-node"
    assert (code, SAYS[End.STOPPED] in said) == (End.STOPPED, True), said


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("2", 2.0), ("1e9", 30.0), ("-5", 0.0), ("", 0.0), ("soon", 0.0), ("nan", 0.0), ("inf", 0.0), ("-inf", 0.0)],
)
def test_whatever_is_told_of_later_is_a_time_to_sleep(told: str, seconds: float) -> None:
    from client.supernode import _retry_after

    assert _retry_after(httpx.Response(429, headers={"retry-after": told})) == seconds
    time.sleep(_retry_after(httpx.Response(429, headers={"retry-after": told})) / 1e9)


def test_the_process_ends_with_its_main_loop(tmp_path: Path) -> None:
    """An answer that cannot be mended by asking again: Flower logs it and stays, with nobody at work."""
    with stand_in(
        tmp_path / "home", lambda path, _n: (418, b"", {}) if path == "pull-messages" else None
    ) as coordinator:
        code, said = run(tmp_path, coordinator)
    assert (code, SAYS[End.LOST] in said) == (End.LOST, True), said


def test_a_proxy_that_refuses_large_pieces_is_named(tmp_path: Path) -> None:
    with stand_in(
        tmp_path / "home", lambda path, _n: (413, b"", {}) if path == "pull-messages" else None
    ) as coordinator:
        code, said = run(tmp_path, coordinator)
    assert code == End.PROXY_LIMIT, said


def test_messages_are_looked_for_often_after_one_has_come(tmp_path: Path) -> None:
    begun: list[float] = []

    def says(path: str, _times: int) -> None:
        if path == "pull-messages":
            begun.append(time.monotonic())

    with stand_in(tmp_path / "home", says) as coordinator:
        run(tmp_path, coordinator, lambda: len(begun) >= 6)
    assert begun[5] - begun[0] < 5 * 1.0, "Flower's own pause is 3 s"


def test_a_coordinator_that_is_away_is_tried_again(tmp_path: Path) -> None:
    with stand_in(tmp_path / "home") as coordinator:
        ca = coordinator.ca
    process = start(tmp_path, coordinator.address, ca)
    try:
        limit = time.monotonic() + 60
        while read_contact(tmp_path / "contact.json").get("phase") != "away" and time.monotonic() < limit:
            time.sleep(0.1)
        assert read_contact(tmp_path / "contact.json")["said"].startswith("the coordinator cannot be reached")
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("brought", "kind", "retrieved", "sends"), [
    (None, "reply", False, True), (None, "reply", True, False), (None, "", False, False), (7, "reply", False, True),
])  # fmt: skip
def test_an_answer_that_was_left_is_sent_without_waiting_for_another_message(
    monkeypatch: pytest.MonkeyPatch, brought: int | None, kind: str, retrieved: bool, sends: bool
) -> None:
    """Flower's loop goes on to send only where the pull brought something (None: nothing)."""
    from client import supernode

    message = SimpleNamespace(metadata=SimpleNamespace(reply_to_message_id=kind))
    state = SimpleNamespace(msg_store={"a": SimpleNamespace(message=message, is_retrieved=retrieved)})
    monkeypatch.setattr(supernode, "_PULL", lambda **_: brought)
    assert (supernode.pull(state=state) is not None) is sends
