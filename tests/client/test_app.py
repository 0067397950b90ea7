"""The relay: what it imports, what it carries, and what of a failure it lets through."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import client.app
from client.app import app, seconds_left
from client.worker_line import Line, pieces
from client.workspace import Site
from sarco_models import wire
from sarco_models.wire import Code, Describe, Described, Ready, Refused, Trained
from simulation.grid import as_coordinator
from tests.client.hospitals import hospital, requests
from tests.client.workers import environment, inside

HEAVY = ("torch", "pandas", "scipy", "sklearn", "cv2", "timm", "opacus", "albumentations", "matplotlib", "pydantic")


def test_the_relay_imports_nothing_heavy() -> None:
    """Flower starts a process for every message: torch alone would cost each of them seconds."""
    code = f"import sys, client.app, client.worker_line; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", code], env=environment(), cwd="/", capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return hospital(tmp_path)


@pytest.fixture
def socket(site: Site, tmp_path: Path) -> Iterator[Path]:
    with inside(tmp_path / "site.toml") as (_, _service, path):
        yield path


def message(content: RecordDict, kind: str = "query.describe", ttl: float = 30.0) -> Message:
    as_coordinator()
    made = Message(content, 1, kind, ttl=ttl)
    made.metadata.__dict__["_message_id"] = "message-1"
    return made


def sent(asked: Message, socket: Path | str) -> Message:
    """As Flower's own process hands a message to the app and takes what it returns."""
    context = Context(run_id=1, node_id=1, node_config={"worker": str(socket)}, state=RecordDict(), run_config={})
    TaskIdentity.node_id = 1
    try:
        return app(asked, context)
    finally:
        TaskIdentity.node_id = 0


def test_requests_of_every_kind_are_carried_there_and_back(site: Site, socket: Path) -> None:
    kinds = []
    for request in requests(site).values():
        reply = sent(message(wire.encode(request), wire.MESSAGE_TYPES[type(request)]), socket)
        kinds.append(type(wire.decode(reply.content)).__name__)
        assert wire.head_of(reply.content)
    assert kinds == ["Described", "Ready", "Trained", "Evaluated", "Assessed", "Probed", "Refused", "Refused"]


def test_what_is_no_request_reaches_the_audit_log(site: Site, socket: Path, tmp_path: Path) -> None:
    reply = sent(message(RecordDict({"fields": ConfigRecord({"kind": "Everything"})})), socket)
    assert wire.decode(reply.content) == Refused("alpha", Code.BAD_REQUEST)
    assert '"unreadable"' in (tmp_path / "state/audit.jsonl").read_text()


def test_a_worker_that_is_not_there_is_said_with_a_code(tmp_path: Path) -> None:
    began = time.monotonic()
    reply = sent(message(wire.encode(Describe("0" * 64)), ttl=1.0), "/nowhere/worker.sock")
    assert wire.decode(reply.content) == Refused("", Code.WORKER_DOWN)
    assert 0.5 < time.monotonic() - began < 5


def test_a_message_that_comes_too_late_is_not_carried(socket: Path) -> None:
    asked = message(wire.encode(Describe("0" * 64)), ttl=0.1)
    time.sleep(0.15)
    assert wire.decode(sent(asked, socket).content) == Refused("", Code.TOO_LATE)


def test_the_way_back_is_left_out_of_the_workers_time() -> None:
    assert 96 < seconds_left(message(RecordDict(), ttl=100.0)) <= 98
    assert 9 < seconds_left(message(RecordDict(), ttl=10.0)) <= 9.5


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"RuntimeError: cannot open /data/P001.dcm", id="a text"),
        pytest.param(wire.to_bytes(Describe("secret" * 10)), id="a request"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_reply_is_not_passed_on(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(Line, "ask", lambda *_: memoryview(answer))
    reply = sent(message(wire.encode(Describe("0" * 64))), "/run/worker.sock")
    assert wire.decode(reply.content) == Refused("", Code.INTERNAL)
    assert "secret" not in repr(reply.content)


def test_no_text_of_an_exception_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("/data/P001.dcm")

    monkeypatch.setattr(Line, "ask", fails)
    reply = sent(message(wire.encode(Describe("0" * 64))), "/run/worker.sock")
    assert not reply.has_error()
    assert wire.decode(reply.content) == Refused("", Code.INTERNAL)


def test_without_a_worker_the_site_answers_inside(site: Site, tmp_path: Path) -> None:
    asked = message(wire.encode(Describe(site.study.digest)))
    node = {"site-config": str(tmp_path / "site.toml")}
    context = Context(run_id=1, node_id=1, node_config=node, state=RecordDict(), run_config={})
    TaskIdentity.node_id = 1
    try:
        reply, head = client.app.answer_here(asked, context)
    finally:
        TaskIdentity.node_id = 0
    assert isinstance(reply, Described)
    assert head
    absent = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})
    assert client.app.answer_here(asked, absent) == (Refused("", Code.INTERNAL), "")


def test_a_line_that_is_cut_is_used_once_more(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cuts it: the worker that is started again answers the same."""
    asked = requests(site)
    with inside(tmp_path / "site.toml") as (_, service, path):
        assert isinstance(wire.reply_from_bytes(Line(path).ask(wire.to_buffers(asked["Setup"]), 20))[0], Ready)
        work, calls = service._worked, []

        def cut(call: Any) -> Any:
            calls.append(1)
            answer = work(call)
            if len(calls) == 1:
                call.context.abort(grpc.StatusCode.UNAVAILABLE, "")
            return answer

        monkeypatch.setattr(service, "_worked", cut)
        reply = wire.reply_from_bytes(Line(path).ask(wire.to_buffers(asked["Train"]), 20))[0]
    assert isinstance(reply, Trained)
    assert len(calls) == 2


def test_pieces_begin_with_the_length() -> None:
    assert next(iter(pieces([b"abc", b""]))) == (3).to_bytes(8, "little")
