"""Beside the supervisor: what Flower does not know it is told, and what fails costs the rest nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sarco_models.errors import RunError
from server.control import Control, Node
from server.departures import read_departures
from server.enrolment import enrol
from server.home import Home
from server.watching import watch
from tests.server.a_home import a_home, a_pub


class Flower:
    """What is asked of a SuperLink that may be away."""

    def __init__(self) -> None:
        self.away = False
        self.synchronized = 0
        self.looked = 0
        self.said: list[str] = []

    def synchronize(self, *_: object) -> tuple[str, ...]:
        if self.away:
            raise RunError("the SuperLink is away")
        self.synchronized += 1
        return ()

    def look_after(self, *_: object, since: float) -> None:
        assert time.time() - 60 < since <= time.time()
        self.looked += 1


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = a_home(tmp_path)
    enrol(home, [a_pub(tmp_path, "alpha")])
    return home


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> Flower:
    flower = Flower()
    monkeypatch.setattr("server.watching._LOOK_S", 0.01)
    monkeypatch.setattr("server.watching.synchronize", flower.synchronize)
    monkeypatch.setattr("server.watching.submissions.look_after", flower.look_after)
    return flower


@contextmanager
def watched(home: Home, flower: Flower) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=watch, args=(home, stop, flower.said.append, lambda: None))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_who_is_enrolled_while_the_superlink_is_away_is_told_to_it_later(
    home: Home, flower: Flower, tmp_path: Path
) -> None:
    with watched(home, flower):
        until(lambda: flower.synchronized == 1)
        flower.away = True
        enrol(home, [a_pub(tmp_path, "beta")])
        looked = flower.looked
        until(lambda: flower.looked > looked + 20)
        assert flower.said == ["the SuperLink is away"], "runs are looked after all the same, and it is said once"
        assert flower.synchronized == 1
        flower.away = False
        until(lambda: flower.synchronized == 2)
        looked = flower.looked
        until(lambda: flower.looked > looked + 20)
        assert flower.synchronized == 2, "it knows now"


def test_who_leaves_by_itself_is_noted(home: Home, flower: Flower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.watching._WHO_S", 0.0)
    here = Node("alpha", 1, True, "", lease=1795176040.0)
    gone = replace(here, online=False, lease=1795176000.0, ended="2026-11-20T12:00:00+00:00")
    looks = iter([here, here])
    monkeypatch.setattr(Control, "nodes", lambda _self: (next(looks, gone),))
    with watched(home, flower):
        until(lambda: read_departures(home.folder) == {"alpha": gone.ended})


def test_a_superlink_that_lost_its_database_is_told_again(
    home: Home, flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.watching._AGAIN_S", 0.05)
    with watched(home, flower):
        until(lambda: flower.synchronized >= 3)


def test_a_list_of_hospitals_that_is_gone_shuts_nobody_out(home: Home, flower: Flower) -> None:
    home.sites_file.unlink()
    with watched(home, flower):
        until(lambda: flower.looked > 5)
    assert flower.synchronized == 0
