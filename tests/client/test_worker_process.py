"""The worker as a process: how it starts, what it refuses to start with, and how it ends."""

import contextlib
import os
import signal
import socket as sockets
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import client.tasks
import client.worker
from client.audit import FILE
from client.worker import Exit, exit_of, main
from client.worker_line import Line, WorkerAway, WorkerLate
from client.workspace import open_site
from sarco_models import wire
from sarco_models.chain import read
from sarco_models.errors import ChainBroken, ConfigError, DataError
from sarco_models.processes import Program, Supervisor
from sarco_models.wire import Describe, Described, Reply, Train, Trained
from tests.client.hospitals import PRIVACY, answer, hospital, requests, write_site_toml
from tests.client.workers import command, end, environment, running, short_folder, start
from tests.sites import tables_study

Opened = Callable[[], tuple[int, str]]

as_root = pytest.mark.skipif(os.getuid() != 0, reason="changes owners and accounts")


@pytest.mark.slow
@as_root
def test_the_socket_is_for_its_group_alone_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    with short_folder() as folder:
        place = folder / "run" / "worker.sock"
        place.parent.mkdir()
        with sockets.socket(sockets.AF_UNIX) as killed:  # a worker that was killed leaves its socket
            killed.bind(str(place))
        worker = start(tmp_path / "site.toml", place, "--socket-group", "65534")
        try:
            worker.wait_until_serving()
            found, above = place.stat(), place.parent.stat()
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 65534)
            assert (stat.S_IMODE(above.st_mode), above.st_gid) == (0o710, 65534)
            second = start(tmp_path / "site.toml", place)
            assert second.process.wait(60) == Exit.TAKEN
            third = start(tmp_path / "site.toml", folder / "run" / "other.sock")
            assert third.process.wait(60) == Exit.TAKEN, "one worker at a hospital's state"
            assert "a worker of this hospital is running already" in worker.said()
            assert isinstance(worker.ask(Describe(site.study.digest)), Described), "the first one serves on"
        finally:
            assert end(worker) == Exit.ENDED
        assert not place.exists()


@pytest.mark.slow
def test_killed_in_the_middle_of_a_round_it_is_asked_again_when_it_is_back(tmp_path: Path) -> None:
    """The relay waits for the worker that a supervisor starts again, and gets the very same update."""
    study = tables_study(federation={"min_sites": 3}, training={"local_steps": 3000})
    site = hospital(tmp_path, study)
    asked = requests(site)
    with running(tmp_path / "site.toml") as worker:
        worker.ask(asked["Setup"])
        whole = worker.ask(asked["Train"])
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(worker.ask(asked["Train"], 120)))
        thread.start()
        until_working(worker.socket)
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        again = start(tmp_path / "site.toml", worker.socket)
        try:
            thread.join(120)
        finally:
            assert end(again) == Exit.ENDED
    assert isinstance(whole, Trained)
    assert isinstance(replies[0], Trained)
    assert replies[0].parameters.digest == whole.parameters.digest


@pytest.mark.slow
def test_asked_to_end_in_the_middle_of_a_round_it_ends_soon(tmp_path: Path) -> None:
    site = hospital(tmp_path, tables_study(federation={"min_sites": 3}, training={"local_steps": 100_000}))
    asked = requests(site)
    with running(tmp_path / "site.toml") as worker:
        worker.ask(asked["Setup"])
        thread = threading.Thread(target=asked_in_vain, args=(worker.socket, asked["Train"]))
        thread.start()
        until_working(worker.socket)
        began = time.monotonic()
        assert end(worker) == Exit.ENDED
        assert time.monotonic() - began < 8
        thread.join(60)


@pytest.mark.slow
def test_ended_in_the_middle_of_a_round_that_was_paid_for_it_finishes_and_is_not_paid_again(tmp_path: Path) -> None:
    """As `leave` and Ctrl-C end it: by its supervisor, which waits for as long as it is told."""
    steps = {"local_steps": 1500, "balance_classes": False}
    site = hospital(tmp_path, tables_study(**{**PRIVACY, "federation": {"min_sites": 3}, "training": steps}))
    asked = requests(site)
    with short_folder() as folder:
        socket = folder / "worker.sock"
        words = command(tmp_path / "site.toml", socket)
        worker = Program(
            "worker", tuple(words), environment(), tmp_path / "logs/worker.log", Path("/"), patience_s=120,
            ready=lambda: Line(socket).healthy(0.2),
        )  # fmt: skip
        supervisor = Supervisor([worker], folder / "state.json")
        supervisor.start()
        try:
            while not supervisor.ready:
                supervisor._advance(lambda _text: None)
                time.sleep(0.05)
            Line(socket).ask(wire.to_buffers(asked["Setup"]), 60)
            thread = threading.Thread(target=asked_in_passing, args=(socket, asked["Train"]))
            thread.start()
            until = time.monotonic() + 60
            while not spends(tmp_path) and time.monotonic() < until:
                time.sleep(0.02)
            assert not list((tmp_path / "state").glob("kept-train-*.bin")), "too fast: give it more steps"
        finally:
            supervisor.stop()
        thread.join(60)
    assert len(list((tmp_path / "state").glob("kept-train-*.bin"))) == 1
    assert isinstance(answer(open_site(tmp_path / "site.toml"), asked["Train"]), Trained)
    assert spends(tmp_path) == 1


def spends(folder: Path) -> int:
    return sum(entry.kind == "spend" for entry in read(folder / "state" / FILE))


def asked_in_passing(socket: Path, request: Train) -> None:
    """Whoever still waits gets the answer; most likely the relay has gone."""
    with contextlib.suppress(WorkerAway, WorkerLate):
        Line(socket).ask(wire.to_buffers(request), 20)


def asked_in_vain(socket: Path, request: Train) -> None:
    with pytest.raises((WorkerAway, WorkerLate)):
        Line(socket).ask(wire.to_buffers(request), 20)


def until_working(socket: Path) -> None:
    until = time.monotonic() + 30
    while Line(socket).status()["phase"] != "working":
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Opened:
    """The exit code of a worker that is started on ``tmp_path``, and what it says; in this process."""
    monkeypatch.setattr(client.worker, "_hide_memory", lambda: None)

    def code_and_words() -> tuple[int, str]:
        caplog.clear()
        with short_folder() as short:
            code = main([str(tmp_path / "site.toml"), "--socket", str(short / "w.sock")])
            assert not (short / "w.sock").exists()
        return code, caplog.text

    return code_and_words


def test_a_site_that_cannot_be_opened_ends_with_a_code_that_says_why(tmp_path: Path, opened: Opened) -> None:
    """Said to whoever reads the log, without a name of a file of the data or a value."""
    site = hospital(tmp_path)
    client.tasks.handle(site, Describe(site.study.digest))
    log, table = tmp_path / "state/audit.jsonl", tmp_path / "data/participants.csv"
    whole, rows = log.read_text(), table.read_text()
    log.write_text(whole.replace('"allowed"', '"refused"'))
    code, said = opened()
    assert (code, "audit.jsonl, line 2: was edited" in said) == (Exit.TAMPERED, True), said
    log.write_text(whole)
    table.write_text(rows.replace("P003,", "P002,").replace("P004,0,", "P004,7.25,"))
    code, said = opened()
    assert (code, "faults in the data" in said, "check-data" in said) == (Exit.DATA, True, True), said
    assert not any(word in said for word in ("P002", "P004", "7.25", "Traceback"))
    table.write_text(rows)
    write_site_toml(tmp_path, site.study, min_cell=-1)
    code, said = opened()
    assert (code, "policy.min_cell" in said) == (Exit.CONFIG, True), said


def test_of_an_error_that_nobody_foresaw_the_log_gets_the_kind_and_the_place(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line of a log is shown, and written where it is shown from."""

    def fails(*_: object) -> None:
        raise ValueError("row 17: birth_date 1931-02-03")

    monkeypatch.setattr("client.worker_desk.Desk", fails)
    code, said = opened()
    assert (code, "the worker failed: ValueError in test_worker_process.py, line" in said) == (Exit.FAILED, True), said
    assert "1931" not in said
    assert "Traceback" not in said


def test_a_path_that_is_too_long_and_a_group_that_is_none_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([str(tmp_path / "site.toml"), "--socket", "/tmp/" + "x" * 120]) == Exit.CONFIG  # noqa: S108
    assert "at most 107" in caplog.text
    words = [str(tmp_path / "site.toml"), "--socket", "/tmp/w.sock", "--socket-group", "no-such-group"]  # noqa: S108
    assert main(words) == Exit.CONFIG
    assert "no-such-group: there is no such group" in caplog.text


def test_each_kind_of_fault_has_a_code_of_its_own() -> None:
    assert exit_of(DataError([])) is Exit.DATA
    assert exit_of(ChainBroken("x")) is Exit.TAMPERED
    assert exit_of(ConfigError("x")) is Exit.CONFIG
    assert len(set(Exit)) == len(Exit)


@pytest.mark.slow
def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys\n"
        "from client.worker import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [command(Path(), Path())[0], "-c", code], env=environment(), cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.slow
def test_a_site_toml_that_names_other_data_ends_it_to_be_started_again(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    with running(tmp_path / "site.toml") as worker:
        write_site_toml(tmp_path, site.study, name="beta")
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(worker.ask(Describe(site.study.digest), 100)))
        thread.start()
        assert worker.process.wait(30) == Exit.AGAIN
        again = start(tmp_path / "site.toml", worker.socket)
        thread.join(100)
        end(again)
    assert isinstance(replies[0], Described)
    assert replies[0].site == "beta"
    assert replace(replies[0], site="alpha").training == len(site.split.train)
