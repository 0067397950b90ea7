"""A reply that is stuck on its way holds up neither the others nor the deadline, and is not taken for lost."""

import threading
import time
from collections.abc import Iterable

import httpx
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.supercore.run import Run
from flwr.superlink.grid import http_grid

from server import fetching
from server.fetching import Fetching, replies_of
from simulation.grid import as_coordinator


def reply(id_: str, code: int = 0) -> Message:
    asked = Message(RecordDict(), 1, "train")
    asked.metadata.__dict__["_message_id"] = id_
    return Message(Error(code, "") if code else RecordDict(), reply_to=asked)


class Link:
    """As Flower's SuperLink: a reply that was handed over is unknown; ``stuck`` ones come when they are let go."""

    def __init__(self, *ready: str, stuck: Iterable[str] = ()) -> None:
        self.ready, self.stuck, self.gone = set(ready), set(stuck), set[str]()
        self.let_go, self.fails = threading.Event(), False
        self.calls: list[set[str]] = []

    def pull(self, ids: list[str]) -> list[Message]:
        self.calls.append(set(ids))
        claimed = [i for i in ids if i in self.ready and i not in self.gone]
        unknown = [i for i in ids if i in self.gone]
        self.gone |= set(claimed)
        if self.stuck & set(claimed):
            assert self.let_go.wait(10)
            if self.fails:
                return [reply(i, 3 if i in self.stuck else 0) for i in claimed]
        return [reply(i) for i in claimed] + [reply(i, 3) for i in unknown]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    as_coordinator()
    monkeypatch.setattr(fetching, "PATIENCE_S", 0.1)


def ids(messages: list[Message]) -> list[tuple[str, int]]:
    return sorted((m.metadata.reply_to_message_id, m.error.code if m.has_error() else 0) for m in messages)


def taken(fetching_: Fetching, waiting: set[str], seconds: float = 3) -> list[tuple[str, int]]:
    """Take until nothing is waited for."""
    found: list[tuple[str, int]] = []
    end = time.monotonic() + seconds
    while waiting and time.monotonic() < end:
        came = ids(fetching_.take(waiting, 0.1))
        waiting -= {id_ for id_, _ in came}
        found += came
    return sorted(found)


def test_what_is_there_comes_at_once() -> None:
    link = Link("a", "b")
    began = time.monotonic()
    assert ids(Fetching(link.pull).take({"a", "b", "c"}, 60)) == [("a", 0), ("b", 0)]
    assert time.monotonic() - began < 5
    assert len(link.calls) == 1


def test_what_is_not_there_is_asked_for_in_one_call_after_the_other() -> None:
    link = Link()
    fetch = Fetching(link.pull)
    assert fetch.take({"a"}, 60) == []
    link.ready.add("a")
    assert ids(fetch.take({"a"}, 60)) == [("a", 0)]
    assert len(link.calls) == 2


def test_others_come_while_one_is_stuck_and_it_is_not_taken_for_lost() -> None:
    link = Link("a", stuck="a")
    fetch, waiting = Fetching(link.pull), {"a", "b"}
    assert fetch.take(waiting, 0.1) == []
    link.ready.add("b")
    assert taken(fetch, {"a", "b"}, 0.6) == [("b", 0)]
    link.let_go.set()
    assert taken(fetch, {"a"}) == [("a", 0)]
    assert len(link.calls) < 9  # what is known to be on its way is not asked for again


def test_what_is_stuck_and_then_lost_is_lost() -> None:
    link = Link("a", "b", stuck="a")
    link.fails = True
    fetch = Fetching(link.pull)
    assert fetch.take({"a", "b"}, 0.1) == []
    link.let_go.set()
    assert taken(fetch, {"a", "b"}) == [("a", 3), ("b", 0)]


def test_what_nobody_fetches_and_flower_does_not_know_is_lost() -> None:
    link = Link("a")
    link.gone.add("a")
    assert ids(Fetching(link.pull).take({"a"}, 1)) == [("a", 3)]


def test_no_look_takes_longer_than_its_deadline() -> None:
    link = Link("a", stuck="a")
    fetch = Fetching(link.pull)
    began = time.monotonic()
    for _ in range(3):
        assert fetch.take({"a"}, 0.0) == []
    assert time.monotonic() - began < 0.9
    link.let_go.set()


def test_what_a_call_raises_is_raised_where_its_replies_are_taken() -> None:
    def broken(ids: list[str]) -> list[Message]:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        Fetching(broken).take({"a"}, 1)


def test_a_reply_that_flower_cannot_read_is_its_senders_fault_alone() -> None:
    """Flower has confirmed all of a call when it meets what is no message: those beside it are lost, but only once."""
    link = Link("a", "bad", "c")

    def pull(ids: list[str]) -> list[Message]:
        came = link.pull(ids)
        if any(m.metadata.reply_to_message_id == "bad" and not m.has_error() for m in came):
            raise AttributeError("'ConfigRecord' object has no attribute 'metadata'")
        return came

    fetch = Fetching(pull)
    assert taken(fetch, {"a", "bad", "c"}) == [("a", 3), ("bad", 3), ("c", 3)]
    link.gone.clear()  # all three are sent again, since they were lost
    assert taken(fetch, {"a", "bad", "c"}) == [("a", 0), ("bad", 2), ("c", 0)]


def fault(status: int) -> httpx.HTTPStatusError:
    asked = httpx.Request("POST", "http://127.0.0.1")
    return httpx.HTTPStatusError(f"status {status}", request=asked, response=httpx.Response(status, request=asked))


def test_a_fault_of_the_superlink_is_waited_out_and_many_in_a_row_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.0)
    link, faults = Link("a"), [fault(500)] * (fetching._FAULTS - 1)

    def pull(ids: list[str]) -> list[Message]:
        if faults:
            raise faults.pop()
        return link.pull(ids)

    fetch = Fetching(pull)
    assert taken(fetch, {"a"}) == [("a", 0)]
    faults += [fault(500)] * fetching._FAULTS
    with pytest.raises(httpx.HTTPStatusError, match="status 500"):
        taken(fetch, {"b"})
    faults[:] = [fault(403)]
    with pytest.raises(httpx.HTTPStatusError, match="status 403"):
        Fetching(pull).take({"b"}, 1)


def test_a_fault_between_two_replies_loses_neither() -> None:
    link = Link("a", "b")
    broken = [AttributeError("none"), None, fault(500)]

    def pull(ids: list[str]) -> list[Message]:
        error = broken.pop(0) if broken else None
        if error:
            raise error
        return link.pull(ids)

    assert taken(Fetching(pull), {"a", "b"}) == [("a", 0), ("b", 0)]


def test_replies_that_never_come_whole_do_not_keep_others_from_being_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that keeps one half-uploaded in every turn would use up all calls that may be under way at once."""
    monkeypatch.setattr(fetching, "PATIENCE_S", 0.02)
    monkeypatch.setattr(fetching, "_LEAST_S", 0.02)
    monkeypatch.setattr(fetching, "_MOST_CALLS", 3)
    bad = [f"bad{turn}" for turn in range(5)]
    link = Link(*bad, stuck=bad)
    fetch = Fetching(link.pull)
    for turn, stuck in enumerate(bad):
        assert fetch.take({stuck, f"good{turn}"}, 0.02) == []
        link.ready.add(f"good{turn}")
        assert taken(fetch, {stuck, f"good{turn}"}, 0.1) == [(f"good{turn}", 0)]
    link.let_go.set()


def test_a_piece_that_never_comes_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_grid, "pull_objects", vars(http_grid)["pull_objects"])
    fetching.look_sooner(0.05)

    looks: list[str] = []

    def piece(name: str) -> bytes:
        looks.append(name)
        assert len(looks) < 5, "still looking"
        raise ObjectUnavailableError(name)

    with pytest.raises(ObjectPullError, match="timeout"):
        http_grid.pull_objects(["a"], pull_object_fn=piece)


def test_a_piece_that_is_not_there_yet_is_looked_for_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's own function, as its grid calls it, with pieces that are there at the fourth look."""
    monkeypatch.setattr(http_grid, "pull_objects", vars(http_grid)["pull_objects"])
    fetching.look_sooner(60)
    looks: dict[str, int] = {}

    def piece(name: str) -> bytes:
        looks[name] = looks.get(name, 0) + 1
        if looks[name] < 4:
            raise ObjectUnavailableError(name)
        return name.encode()

    began = time.monotonic()
    assert http_grid.pull_objects(["a", "b"], pull_object_fn=piece) == {"a": b"a", "b": b"b"}
    assert time.monotonic() - began < 3  # .1 + .2 + .4, give or take; Flower's own pauses are 1 + 2 + 4
    assert looks == {"a": 4, "b": 4}


class HalfThere:
    """Flower's client of a SuperLink that hands over every reply at once, and lacks the pieces of some."""

    def __init__(self, replies: dict[str, Message], lacking: set[str]) -> None:
        self.trees, self.pieces, self.confirmed = [], dict[str, bytes](), list[str]()
        self.lacking = {piece for asked in lacking for piece in pieces_of(replies[asked])}
        self.heads = []
        for message in replies.values():
            vars(message.metadata)["_message_id"] = message.object_id
            self.heads.append(message_to_proto(remove_content_from_message(message)))
            self.trees.append(get_object_tree(message))
            self.pieces |= pieces_of(message)

    def PullMessages(self, request: object) -> PullAppMessagesResponse:
        heads, trees, self.heads, self.trees = self.heads, self.trees, [], []
        return PullAppMessagesResponse(messages_list=heads, message_object_trees=trees)

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse:
        there = request.object_id not in self.lacking
        content = self.pieces[request.object_id] if there else b""
        return PullObjectResponse(object_found=True, object_available=there, object_content=content)

    def ConfirmMessageReceived(self, request: ConfirmMessageReceivedRequest) -> ConfirmMessageReceivedResponse:
        self.confirmed.append(request.message_object_id)
        return ConfirmMessageReceivedResponse()


def pieces_of(message: Message) -> dict[str, bytes]:
    return {name: piece.deflate() for name, piece in get_all_nested_objects(message).items()}


def test_a_reply_whose_pieces_never_come_holds_up_none_that_was_announced_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hospital that leaves while it sends: Flower's grid would give the others' replies at the deadline only."""
    monkeypatch.setattr(http_grid, "pull_objects", vars(http_grid)["pull_objects"])
    monkeypatch.setattr(fetching, "PATIENCE_S", 2.0)
    fetching.look_sooner(60)
    replies = {asked: reply(asked) for asked in ("a", "b", "c")}
    for k, message in enumerate(replies.values()):
        message.content = RecordDict({"it": ConfigRecord({"k": k})})
    grid = http_grid.HttpGrid(token="t")
    grid.set_run(Run.create_empty(1))
    link = HalfThere(replies, {"a"})
    grid._client = link  # type: ignore[assignment]
    fetch = Fetching(replies_of(grid))
    began = time.monotonic()
    assert taken(fetch, {"a", "b", "c"}, 0.5) == [("b", 0), ("c", 0)]
    assert time.monotonic() - began < 5
    assert sorted(link.confirmed) == sorted(replies[asked].object_id for asked in "bc")
    link.lacking.clear()
    assert taken(fetch, {"a"}) == [("a", 0)], "its pieces have come after all"
