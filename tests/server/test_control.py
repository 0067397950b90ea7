"""The adapter to Flower's Control API: its words for ours, and every fault a sentence."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.proto import control_pb2 as pb

from sarco_models.errors import RunError
from server.bundle import bundle, bundle_digest
from server.control import Control
from server.home import Home
from tests.server.a_home import a_home, node_key

Answering = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return a_home(tmp_path)


def control(home: Home, monkeypatch: pytest.MonkeyPatch, answering: Answering) -> Control:
    client = httpx.Client(transport=httpx.MockTransport(answering), base_url="https://superlink")
    monkeypatch.setattr(Control, "_connected", lambda _self: client)
    return Control(home)


def message(answer: Any) -> httpx.Response:
    return httpx.Response(200, content=answer.SerializeToString())


def test_nodes_are_told_in_our_words(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = pb.ListNodesResponse()
    for name, status, seen in (("gamma", "registered", ""), ("beta", "unregistered", "x"), ("alpha", "online", "x")):
        answer.nodes_info.add(
            name=name, status=status, last_activated_at=seen, online_until=1060.0, heartbeat_interval=30.0, node_id=7
        )
    nodes = control(home, monkeypatch, lambda _: message(answer)).nodes()
    assert [(node.name, node.online, node.last_seen) for node in nodes] == [
        ("alpha", True, "1970-01-01T00:16:40+00:00"),
        ("gamma", False, ""),
    ]


@pytest.mark.parametrize(("known", "seen"), [(True, "12:00:00"), (False, "11:59:50")])
def test_who_left_was_last_seen_when_it_left(
    home: Home, monkeypatch: pytest.MonkeyPatch, *, known: bool, seen: str
) -> None:
    """Flower cuts the lease to that moment; a lease that ran out looks the same, and its last heartbeat was earlier."""
    ended = "2026-11-20T12:00:00+00:00"
    answer = pb.ListNodesResponse()
    answer.nodes_info.add(
        name="alpha", status="offline", last_activated_at="2026-11-20T11:59:50+00:00", last_deactivated_at=ended,
        online_until=1795176000.0, heartbeat_interval=30.0, node_id=7,
    )  # fmt: skip
    if known:
        (home.folder / "departures.json").write_text(json.dumps({"alpha": ended}))
    (node,) = control(home, monkeypatch, lambda _: message(answer)).nodes()
    assert node.last_seen == f"2026-11-20T{seen}+00:00"
    assert node.left == (ended if known else "")
    assert (node.ended, node.lease) == (ended, 1795176000.0)


def test_a_run_is_submitted_with_its_directory_and_without_code(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def answering(request: httpx.Request) -> httpx.Response:
        asked.append(pb.StartRunRequest.FromString(request.content))
        return message(pb.StartRunResponse(run_id=2**63 + 1))

    assert control(home, monkeypatch, answering).submit(tmp_path / "run") == str(2**63 + 1)
    assert asked[0].override_config["run-dir"].string == str(tmp_path / "run")
    assert (asked[0].fab.content, asked[0].fab.hash_str) == (bundle(), bundle_digest())


def test_the_run_of_a_directory_is_the_living_one(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = pb.ListRunsResponse()
    for number, status in ((1, "finished"), (2, "running")):
        run = answer.run_dict[number]
        run.run_id, run.pending_at, run.status.status = number, f"2026-01-0{number}", status
        run.override_config["run-dir"].string = str(tmp_path)
    asked = control(home, monkeypatch, lambda _: message(answer))
    assert [run.run_id for run in asked.runs()] == ["2", "1"]
    found = asked.alive(tmp_path)
    assert found is not None
    assert found.run_id == "2"
    assert asked.alive(tmp_path / "other") is None


@pytest.mark.parametrize(
    "body", ['{"message": "Run is already finished."}', '"{\\"message\\": \\"Run is already finished.\\"}"']
)
def test_a_refusal_is_said_in_flowers_words(home: Home, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    asked = control(home, monkeypatch, lambda _: httpx.Response(412, text=body))
    with pytest.raises(RunError, match="refused stop-run: Run is already finished"):
        asked.stop("1")


def test_a_refusal_without_words_is_a_number(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="HTTP 500"):
        control(home, monkeypatch, lambda _: httpx.Response(500, text="<html>")).nodes()


def test_a_superlink_that_is_away_is_said_with_the_way_out(home: Home) -> None:
    with Control(home, timeout_s=2.0) as asked:
        assert not asked.answers()
        with pytest.raises(RunError, match="sarco-coordinator up"):
            asked.register(node_key(), "alpha")


def test_a_log_is_put_together_from_pieces_that_are_cut_anywhere(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    framed = b""
    for words in ("round 1\n", "round 2\n"):
        part = pb.StreamLogsResponse(log_output=words).SerializeToString()
        framed += len(part).to_bytes(4, "big") + part

    def answering(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(framed[k : k + 3] for k in range(0, len(framed), 3)))

    assert control(home, monkeypatch, answering).log("1") == "round 1\nround 2\n"


def test_the_log_of_a_run_that_never_is_quiet_ends(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.control._LISTEN_S", 0.1)
    part = pb.StreamLogsResponse(log_output="round\n").SerializeToString()

    def talking() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.02)
            yield len(part).to_bytes(4, "big") + part

    said = control(home, monkeypatch, lambda _: httpx.Response(200, content=talking())).log("1")
    assert 1 <= said.count("round\n") < 50
