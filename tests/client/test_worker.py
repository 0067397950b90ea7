"""What the worker does with what comes over its socket, honest or not; in this process, over a real socket."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

import client.tasks
import client.training_round
import client.worker_service
from client.audit import FILE
from client.site_today import LIVING
from client.wanted import TooLate, Wanted
from client.worker_desk import Desk
from client.worker_line import ANSWER, OPTIONS, PIECE, STATUS, Line, WorkerAway, WorkerLate, gathered, pieces
from client.worker_service import WAITING, Service
from client.workspace import Site, SiteConfig
from sarco_models import wire
from sarco_models.chain import Entry, read
from sarco_models.errors import ProtocolError
from sarco_models.wire import Code, Describe, Described, Refused, Reply, Request, Trained
from tests.client.hospitals import PRIVACY, SECURE, hospital, requests, write_site_toml
from tests.client.test_approval import dated_back
from tests.client.workers import inside
from tests.messages import same
from tests.sites import tables_study

Worker = tuple[Desk, Service, Path]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return hospital(tmp_path)


@pytest.fixture
def worker(site: Site, tmp_path: Path) -> Iterator[Worker]:
    with inside(tmp_path / "site.toml") as found:
        yield found


def ask(worker: Worker, request: Request, seconds: float = 20.0) -> Reply:
    return wire.reply_from_bytes(Line(worker[2]).ask(wire.to_buffers(request), seconds))[0]


def log_of(tmp_path: Path) -> list[Entry]:
    return read(tmp_path / "state" / FILE)


def trained_before(worker: Worker, site: Site) -> dict[str, Request]:
    asked = requests(site)
    ask(worker, asked["Describe"])
    ask(worker, asked["Setup"])
    return asked


# ---- honest requests -------------------------------------------------------------------------------------------------


def test_through_the_socket_comes_what_the_site_itself_answers(worker: Worker, site: Site, tmp_path: Path) -> None:
    for request in requests(site).values():
        assert same(ask(worker, request), client.tasks.handle(site, request)), type(request).__name__


def test_the_head_of_the_audit_log_comes_beside(worker: Worker, site: Site, tmp_path: Path) -> None:
    _, head = wire.reply_from_bytes(Line(worker[2]).ask(wire.to_buffers(Describe(site.study.digest)), 20))
    assert head == log_of(tmp_path)[-1].head


@pytest.mark.parametrize("changes", [{}, PRIVACY, SECURE], ids=["plain", "private", "masked"])
def test_to_be_asked_twice_changes_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    """A line that was cut is used again: the answer is the same, and what was paid for is paid once."""
    site = hospital(tmp_path, tables_study(**{"federation": {"min_sites": 3}, **changes}))
    for request in requests(site).values():
        first = client.tasks.handle(site, request)
        spent, entries = spends(tmp_path), site.audit.entries
        assert same(client.tasks.handle(site, request), first), type(request).__name__
        assert site.audit.entries >= entries + 3, "each asking is written down"
        if changes is PRIVACY:
            assert spends(tmp_path) == spent


def test_status_is_told_while_it_trains(worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go = trained_before(worker, site), threading.Event()
    train = client.tasks.train
    monkeypatch.setattr(client.tasks, "train", lambda *a: (go.wait(10), train(*a))[1])
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(ask(worker, asked["Train"])))
    thread.start()
    until = time.monotonic() + 5
    while (told := Line(worker[2]).status())["phase"] != "working" and time.monotonic() < until:
        time.sleep(0.01)
    assert (told["task"], told["round"], told["done_rounds"]) == ("Train", 1, 0)
    assert Line(worker[2]).healthy()
    go.set()
    thread.join()
    assert isinstance(replies[0], Trained)
    told = Line(worker[2]).status()
    assert (told["phase"], told["name"], told["study"], told["done_rounds"]) == ("idle", "alpha", site.study.digest, 1)
    assert set(told) == {"name", "study", "phase", "task", "round", "since", "done_rounds", "version", "code"}


def test_health_is_said_only_while_it_serves(site: Site, tmp_path: Path) -> None:
    with inside(tmp_path / "site.toml") as (_, _service, socket):
        assert Line(socket).healthy()
    assert not Line(socket).healthy(0.2)
    with pytest.raises(WorkerAway):
        Line(socket).status(0.2)


def test_rounds_done_are_known_to_the_next_worker(worker: Worker, site: Site, tmp_path: Path) -> None:
    asked = trained_before(worker, site)
    ask(worker, asked["Train"])
    ask(worker, replace(asked["Train"], round=2))  # type: ignore[type-var]
    worker[1].stop()
    locks: Any = type("Locks", (), {"callback": lambda *_: None})()
    (tmp_path / "state" / "worker.lock").unlink()
    assert Desk(tmp_path / "site.toml", locks, lambda *_: None).status()["done_rounds"] == 2


# ---- what is no request ----------------------------------------------------------------------------------------------


def raw(worker: Worker, method: str, *message: bytes) -> bytes:
    with grpc.insecure_channel(f"unix:{worker[2]}", options=OPTIONS) as channel:
        return b"".join(channel.stream_stream(method)(iter(message), timeout=10))


def garbage() -> dict[str, list[bytes]]:
    head = json.dumps({"fields": {"kind": "Describe", "study": "\ud800"}, "metrics": None, "arrays": []}).encode()
    deep = b'{"fields": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    huge = wire.to_bytes(wire.Keys("0" * 64, "0" * 64, 10**30, 1))
    reply = wire.to_bytes(Refused("alpha", Code.INTERNAL))
    return {
        "nothing": [],
        "no length": [b"\x01"],
        "an empty message": list(pieces([])),
        "noise": list(pieces([bytes(range(256)) * 100])),
        "half a message": [*pieces([b"x" * 100])][:1],
        "more than was announced": [(5).to_bytes(8, "little"), b"123456"],
        "a petabyte": [(10**15).to_bytes(8, "little"), b"x"],
        "a text that is none": list(pieces([len(head).to_bytes(8, "little") + head])),
        "deep nesting": list(pieces([len(deep).to_bytes(8, "little") + deep])),
        "a number that no machine holds": list(pieces([huge])),
        "a reply": list(pieces([reply])),
    }


@pytest.mark.parametrize("what", garbage())
def test_what_is_no_request_gets_a_code_and_is_written_down(worker: Worker, tmp_path: Path, what: str) -> None:
    answer = raw(worker, ANSWER, *garbage()[what])
    assert wire.from_bytes(memoryview(answer)[8:]) == Refused("alpha", Code.BAD_REQUEST)
    assert [e.facts["task"] for e in log_of(tmp_path)] == ["unreadable", "unreadable"]
    assert isinstance(ask(worker, Describe(worker[0].status()["study"])), Described)


@pytest.mark.parametrize("method", ["/sarco.Worker/Train", "/sarco.Worker/../Answer", "/other.Service/Answer", "/x"])
def test_an_unknown_method_gets_no_text_and_is_written_down(worker: Worker, tmp_path: Path, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        raw(worker, method, b"x")
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "")
    assert log_of(tmp_path)[0].facts["task"] == "unreadable"


def test_a_piece_that_is_too_large_is_not_taken_in(worker: Worker, tmp_path: Path) -> None:
    with grpc.insecure_channel(f"unix:{worker[2]}", options=[("grpc.max_send_message_length", -1)]) as channel:
        size = 8 * PIECE
        with pytest.raises(grpc.RpcError) as raised:
            list(channel.stream_stream(ANSWER)(iter([size.to_bytes(8, "little"), bytes(size)]), timeout=10))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert isinstance(ask(worker, Describe(worker[0].status()["study"])), Described)


def test_a_message_larger_than_the_study_can_have_is_refused_before_it_is_read(worker: Worker, tmp_path: Path) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        yield (1 << 40).to_bytes(8, "little")
        while len(sent) < 10_000:
            sent.append(1)
            yield bytes(PIECE)

    with grpc.insecure_channel(f"unix:{worker[2]}", options=OPTIONS) as channel:
        answer = b"".join(channel.stream_stream(ANSWER)(endless(), timeout=20))
    assert wire.from_bytes(memoryview(answer)[8:]) == Refused("alpha", Code.BAD_REQUEST)
    assert len(sent) < 100, "flow control holds the rest back at the sender"


def test_of_many_callers_few_are_let_in(worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(client.tasks, "describe", lambda *_: (go.wait(10), Refused("alpha", Code.INTERNAL))[1])
    found: list[object] = []

    def call() -> None:
        try:
            found.append(raw(worker, ANSWER, *pieces(wire.to_buffers(Describe(site.study.digest)))))
        except grpc.RpcError as error:
            found.append(error.code())

    threads = [threading.Thread(target=call) for _ in range(WAITING + 4)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 5
    while len(found) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert found == [grpc.StatusCode.UNAVAILABLE] * 4
    assert Line(worker[2]).healthy()
    go.set()
    for thread in threads:
        thread.join()
    assert sum(isinstance(f, bytes) for f in found) == WAITING


@pytest.mark.slow
def test_who_calls_without_end_does_not_fill_the_disk(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.worker_service, "BURST", 3)
    monkeypatch.setattr(client.worker_service, "PER_SECOND", 2.0)
    with inside(tmp_path / "site.toml") as worker:
        for _ in range(3):
            raw(worker, ANSWER, *pieces([b"noise"]))
        until, taken = time.monotonic() + 1, 0
        while time.monotonic() < until:
            with contextlib.suppress(grpc.RpcError):
                raw(worker, ANSWER, *pieces([b"noise"]))
                taken += 1
        assert taken <= 12, "two in a second, however fast somebody calls"
        assert len(log_of(tmp_path)) == 2 * (3 + taken)
        assert isinstance(ask(worker, Describe(site.study.digest)), Described), "an honest one waits for its turn"


def test_a_message_must_be_as_long_as_it_says() -> None:
    for message, words in (
        ([b"12345678" * 2], "at most 10 are taken"),
        ([(4).to_bytes(8, "little"), b"12345"], "more than the 4 bytes"),
        ([(4).to_bytes(8, "little"), b"1"], "the line was cut"),
    ):
        with pytest.raises(ProtocolError, match=words):
            gathered(iter(message), 10)
    large = np.random.default_rng(0).bytes(3 * PIECE + 17)
    assert gathered(pieces([large[:100], memoryview(large)[100:]]), len(large)) == large


# ---- work that nobody waits for --------------------------------------------------------------------------------------


def test_work_is_given_up_between_batches_unless_it_is_paid() -> None:
    over = False
    wanted = Wanted(lambda: over)
    batches = wanted.each(range(5))
    assert next(batches) == 0
    over = True
    with pytest.raises(TooLate):
        next(batches)
    wanted.paid = True
    assert list(wanted.each(range(3))) == [0, 1, 2]
    with pytest.raises(TooLate):
        wanted.check_sending()


def slow_batches(monkeypatch: pytest.MonkeyPatch, seen: list[int], pause_s: float = 0.1) -> None:
    """Training of a hundred steps, each of which takes a while."""
    fit = client.training_round.fit

    def slowly(training: Any, seed: int) -> list[float]:
        def each() -> Iterator[Any]:
            for batch in training.batches:
                seen.append(1)
                time.sleep(pause_s)
                yield batch

        return fit(replace(training, batches=each()), seed)

    monkeypatch.setattr(client.training_round, "fit", slowly)


def decisions(tmp_path: Path) -> list[Any]:
    return [e.facts["code"] for e in log_of(tmp_path) if e.facts.get("decision") == "refused"]


@pytest.mark.slow
def test_a_round_that_is_over_is_given_up_and_the_next_one_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospital(tmp_path, tables_study(federation={"min_sites": 3}, training={"local_steps": 100}))
    with inside(tmp_path / "site.toml") as worker:
        asked, seen = trained_before(worker, site), list[int]()
        with monkeypatch.context() as patch:
            slow_batches(patch, seen)
            with pytest.raises(WorkerLate):
                ask(worker, asked["Train"], 1.0)
            time.sleep(0.3)
        assert 1 < len(seen) < 20
        assert isinstance(ask(worker, asked["Train"]), Trained)
    assert decisions(tmp_path) == ["too_late"]


@pytest.mark.slow
def test_a_caller_that_has_gone_costs_no_further_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = hospital(tmp_path, tables_study(federation={"min_sites": 3}, training={"local_steps": 100}))
    with inside(tmp_path / "site.toml") as worker:
        asked, seen = trained_before(worker, site), list[int]()
        with monkeypatch.context() as patch:
            slow_batches(patch, seen)
            with grpc.insecure_channel(f"unix:{worker[2]}", options=OPTIONS) as channel:
                call = channel.stream_stream(ANSWER)(pieces(wire.to_buffers(asked["Train"])), timeout=60)
                next(call)
                while not seen:
                    time.sleep(0.01)
                call.cancel()
            time.sleep(0.4)
        assert len(seen) < 20
        assert isinstance(ask(worker, asked["Train"]), Trained)
    assert decisions(tmp_path) == ["too_late"]


@pytest.mark.slow
def test_a_private_round_that_was_charged_is_finished_and_paid_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tables_study(
        **{**PRIVACY, "federation": {"min_sites": 3}, "training": {"local_steps": 15, "balance_classes": False}}
    )
    site = hospital(tmp_path, study.model_copy())
    with inside(tmp_path / "site.toml") as worker:
        asked, seen = trained_before(worker, site), list[int]()
        with monkeypatch.context() as patch:
            slow_batches(patch, seen)
            with pytest.raises(WorkerLate):
                ask(worker, asked["Train"], 1.0)
            before = spends(tmp_path)
            reply = ask(worker, asked["Train"])
        assert len(seen) == 15, "finished, and not trained again"
        assert isinstance(reply, Trained)
        assert spends(tmp_path) == before
    assert decisions(tmp_path) == ["too_late"]


def spends(tmp_path: Path) -> int:
    return sum(e.kind == "spend" for e in log_of(tmp_path))


def test_nothing_is_charged_for_a_request_whose_life_is_over(worker: Worker, site: Site, tmp_path: Path) -> None:
    trained_before(worker, site)
    before = spends(tmp_path)
    reply = client.tasks.handle(site, requests(site)["Train"], Wanted(lambda: True))
    assert reply == Refused("alpha", Code.TOO_LATE)
    assert spends(tmp_path) == before
    assert decisions(tmp_path) == ["too_late"]


def test_nothing_is_charged_for_a_round_that_ended_while_the_model_was_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = hospital(tmp_path, tables_study(**{"federation": {"min_sites": 3}, **PRIVACY}))
    asked, over = requests(site), [False]
    client.tasks.handle(site, asked["Setup"])
    metrics = client.training_round.validation_metrics

    def slow(*about: Any) -> dict[str, float]:
        found = metrics(*about)
        over[0] = True
        return found

    monkeypatch.setattr(client.training_round, "validation_metrics", slow)
    assert client.tasks.handle(site, asked["Train"], Wanted(lambda: over[0])) == Refused("alpha", Code.TOO_LATE)
    assert spends(tmp_path) == 0
    over[0] = False
    monkeypatch.undo()
    assert isinstance(client.tasks.handle(site, asked["Train"]), Trained)
    assert spends(tmp_path) == 1


def test_asked_to_end_it_gives_up_and_leaves_the_question_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = hospital(tmp_path, tables_study(federation={"min_sites": 3}, training={"local_steps": 100}))
    with inside(tmp_path / "site.toml") as worker:
        asked, seen = trained_before(worker, site), list[int]()
        slow_batches(monkeypatch, seen)
        found: list[grpc.StatusCode] = []

        def call() -> None:
            try:
                raw(worker, ANSWER, *pieces(wire.to_buffers(asked["Train"])))
            except grpc.RpcError as error:
                found.append(error.code())

        thread = threading.Thread(target=call)
        thread.start()
        while not seen:
            time.sleep(0.01)
        worker[1].stop()
        thread.join(10)
    assert found == [grpc.StatusCode.UNAVAILABLE], "so that the relay asks again when the worker is back"
    assert len(seen) < 20


# ---- the line --------------------------------------------------------------------------------------------------------


def test_nobody_at_the_socket_and_a_life_that_is_over_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WorkerAway):
        Line(tmp_path / "none.sock").ask([b"x"], 0.3)
    with pytest.raises(WorkerLate):
        Line(tmp_path / "none.sock").ask([b"x"], -1)


@pytest.mark.slow
def test_a_full_worker_is_waited_for_and_who_has_left_the_queue_is_not_worked_for(
    worker: Worker, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, describe = threading.Event(), client.tasks.describe
    monkeypatch.setattr(client.tasks, "describe", lambda *a: (go.wait(20), describe(*a))[1])
    message = wire.to_buffers(Describe(site.study.digest))
    first = threading.Thread(target=raw, args=(worker, ANSWER, *pieces(message)))
    first.start()
    until_busy(worker)
    for _ in range(2 * WAITING):  # more than there is room for, one after another: each gives its place back
        with pytest.raises(WorkerLate):
            Line(worker[2]).ask(message, 0.3)
        time.sleep(0.4)
    with grpc.insecure_channel(f"unix:{worker[2]}", options=OPTIONS) as channel:
        calls = [channel.stream_stream(ANSWER)(pieces(message), timeout=30) for _ in range(WAITING - 1)]
        for call in calls:
            next(call)
        replies: list[Reply] = []
        waiting = threading.Thread(target=lambda: replies.append(ask(worker, Describe(site.study.digest), 30)))
        waiting.start()
        time.sleep(0.5)
        assert len([e for e in log_of(tmp_path) if e.kind == "request"]) == 1
        go.set()
        assert all(b"".join(call) for call in calls)
        waiting.join(30)
    first.join(30)
    assert isinstance(replies[0], Described)
    assert len([e for e in log_of(tmp_path) if e.kind == "request"]) == 1 + (WAITING - 1) + 1


@pytest.mark.parametrize("method", [ANSWER, "/sarco.Worker/Shell"])
def test_junk_is_written_down_also_where_its_sender_does_not_wait(
    worker: Worker, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    go, describe = threading.Event(), client.tasks.describe
    monkeypatch.setattr(client.tasks, "describe", lambda *a: (go.wait(20), describe(*a))[1])
    first = threading.Thread(target=raw, args=(worker, ANSWER, *pieces(wire.to_buffers(Describe(site.study.digest)))))
    first.start()
    until_busy(worker)
    for _ in range(2 * WAITING):  # and it keeps nobody else's place
        with grpc.insecure_channel(f"unix:{worker[2]}", options=OPTIONS) as channel:
            call = channel.stream_stream(method)(iter([b"junk"]), timeout=30)
            until = time.monotonic() + 5
            while not worker[1]._waiting and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.1)
            call.cancel()
        time.sleep(0.4)
    go.set()
    first.join(30)
    assert isinstance(ask(worker, Describe(site.study.digest)), Described)
    unreadable = [e for e in log_of(tmp_path) if e.kind == "request" and e.facts["task"] == "unreadable"]
    assert len(unreadable) == 2 * WAITING


def until_busy(worker: Worker) -> None:
    until = time.monotonic() + 20
    while Line(worker[2]).status()["phase"] != "working":
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_line_that_is_cut_twice_is_given_up(worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def cut(asked: Any, _service: Any) -> None:
        calls.append(asked)

    monkeypatch.setattr(worker[0], "work", cut)
    with pytest.raises(WorkerAway):
        Line(worker[2]).ask(wire.to_buffers(Describe(site.study.digest)), 20)
    assert len(calls) == 2, "a request that ends every worker is not carried a third time"


def test_status_takes_no_request(worker: Worker) -> None:
    with grpc.insecure_channel(f"unix:{worker[2]}") as channel:
        told = json.loads(channel.unary_unary(STATUS)(b"anything", timeout=5))
    assert told["name"] == "alpha"


# ---- site.toml changes while the worker lives ------------------------------------------------------------------------


def test_the_policy_of_today_holds(worker: Worker, site: Site, tmp_path: Path) -> None:
    describe = Describe(site.study.digest)
    assert isinstance(ask(worker, describe), Described)
    write_site_toml(tmp_path, site.study, tasks=["Setup"])
    assert ask(worker, describe) == Refused("alpha", Code.TASK_NOT_ALLOWED)
    (tmp_path / "site.toml").write_text("name = ")
    refused = ask(worker, describe)
    assert isinstance(refused, Refused)
    assert refused.code is Code.INTERNAL, "what cannot be read allows nothing"
    write_site_toml(tmp_path, site.study)
    assert isinstance(ask(worker, describe), Described)


def test_a_policy_that_was_dated_back_holds_all_the_same(worker: Worker, site: Site, tmp_path: Path) -> None:
    describe = Describe(site.study.digest)
    assert isinstance(ask(worker, describe), Described)
    dated_back(tmp_path / "site.toml", '"Describe"', '"Evaluate"')
    assert ask(worker, describe) == Refused("alpha", Code.TASK_NOT_ALLOWED)


def test_other_data_end_the_worker_so_that_it_is_started_again(worker: Worker, site: Site, tmp_path: Path) -> None:
    write_site_toml(tmp_path, site.study, name="beta")
    with pytest.raises(grpc.RpcError) as raised:
        raw(worker, ANSWER, *pieces(wire.to_buffers(Describe(site.study.digest))))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert worker[0].outdated


def test_living_keys_are_keys_of_site_toml() -> None:
    assert set(LIVING) < set(SiteConfig.model_fields)


def test_who_sends_nothing_holds_no_place_for_ever(worker: Worker, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.worker_service, "_TRANSFER_S", 0.2)
    still = threading.Event()

    def nothing() -> Iterator[bytes]:
        yield (1000).to_bytes(8, "little")
        still.wait(20)

    with grpc.insecure_channel(f"unix:{worker[2]}", options=OPTIONS) as channel:
        calls = [channel.stream_stream(ANSWER)(nothing()) for _ in range(WAITING)]
        for call in calls:
            next(call)
        assert isinstance(ask(worker, Describe(site.study.digest)), Described)
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}
        still.set()
