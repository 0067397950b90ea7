"""Who is connected is asked of Flower now and then and never waited for; a dead process is not taken for another."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from server import control
from server.dashboard.aside import Aside
from server.dashboard.roster import ASK_EVERY_S, Roster, Seen, alive, of_flower
from server.home import Home

ONE = {"alpha": Seen(True, 1.0)}


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_slow_flower_is_not_waited_for() -> None:
    go = threading.Event()

    def ask() -> Mapping[str, Seen]:
        go.wait(10)
        return ONE

    roster = Roster(ask)
    assert roster.known() is None
    go.set()
    until(lambda: roster.known() == ONE)


def test_flower_is_asked_now_and_then_only() -> None:
    asked: list[float] = []
    now = [1000.0]

    def ask() -> Mapping[str, Seen]:
        asked.append(now[0])
        return ONE

    roster = Roster(ask, clock=lambda: now[0])
    until(lambda: roster.known() == ONE)
    for _ in range(20):
        roster.known()
    assert asked == [1000.0]
    now[0] += ASK_EVERY_S
    roster.known()
    until(lambda: len(asked) == 2)


def test_what_was_known_when_somebody_looked_an_hour_ago_is_not_shown() -> None:
    now, go = [1000.0], threading.Event()
    go.set()

    def ask() -> Mapping[str, Seen]:
        go.wait(10)
        return ONE

    roster = Roster(ask, clock=lambda: now[0])
    until(lambda: roster.known() == ONE)
    go.clear()
    now[0] += 3600.0
    assert roster.known() is None
    go.set()
    until(lambda: roster.known() == ONE)


def test_a_flower_that_fails_is_nobodys_word() -> None:
    answers = [ONE]
    now = [1000.0]
    roster = Roster(lambda: answers.pop(), clock=lambda: now[0])
    until(lambda: roster.known() == ONE)
    now[0] += ASK_EVERY_S
    until(lambda: roster.known() is None)


def test_flowers_nodes_are_hospitals_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stub:
        def __init__(self, home: Home) -> None:
            assert home.folder == tmp_path.resolve()

        def __enter__(self) -> "Stub":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def nodes(self) -> tuple[control.Node, ...]:
            seen = "1970-01-01T00:01:00+00:00"
            return (
                control.Node("alpha", 1, True, seen),
                control.Node("beta", 2, False, ""),
                control.Node("", 3, True, ""),
                control.Node("gamma", 4, False, seen, left=seen),
            )

    (tmp_path / "coordinator.toml").write_text('address = "fl.example.org:8443"\n', encoding="utf-8")
    monkeypatch.setattr(control, "Control", Stub)
    assert of_flower(tmp_path)() == {
        "alpha": Seen(True, 60.0),
        "beta": Seen(False, None),
        "gamma": Seen(False, 60.0, left=True),
    }


def test_a_home_whose_superlink_is_down_is_nobodys_word(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text('address = "fl.example.org:8443"\n', encoding="utf-8")
    asked = threading.Event()

    def ask() -> Mapping[str, Seen]:
        try:
            return of_flower(tmp_path)()
        finally:
            asked.set()

    roster = Roster(ask)
    assert roster.known() is None
    assert asked.wait(20)
    assert roster.known() is None


def test_this_process_is_there() -> None:
    assert alive(os.getpid()) is True
    assert alive(os.getpid(), time.time()) is True


def test_a_process_that_ended_is_not_there_reaped_or_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: alive(process.pid) is False)  # a zombie until it is waited for
    process.wait()
    assert alive(process.pid) is False


def test_a_number_from_before_the_process_began_is_another_process() -> None:
    assert alive(os.getpid(), 1000.0) is False


def test_what_is_no_number_of_a_process_says_nothing() -> None:
    assert [alive(each) for each in (None, 0, -1, "7", True, 1.5)] == [None] * 6


def test_a_number_is_computed_once_and_beside() -> None:
    aside, computed = Aside[int](), list[int]()

    def compute() -> int:
        computed.append(1)
        return 7

    assert aside.get("k", compute) == (False, None)
    until(lambda: aside.get("k", compute) == (True, 7))
    assert computed == [1]
    aside.close()


def test_a_number_that_cannot_be_computed_is_none() -> None:
    aside = Aside[int]()
    until(lambda: aside.get("k", lambda: 1 // 0)[0])
    assert aside.get("k", lambda: 3) == (True, None)
    aside.close()
