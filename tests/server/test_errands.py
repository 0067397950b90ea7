"""What is on its way: one content for all, a busy node is left alone, and what was given up is waited for no longer."""

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message

from client.flower_app import app_of
from sarco_models.wire import Code, Describe, Refused, Reply
from server.errands import Errand, Errands
from server.failures import refused
from server.members import Node
from server.turns import Failed, Meeting, Turn
from tests.unsteady_grid import UnsteadyGrid

STUDY = "a" * 64
ASKED = Describe(STUDY)


@pytest.fixture
def grid() -> UnsteadyGrid:
    """Two hospitals that refuse everything."""
    entries = itertools.count(1)

    def answered(_message: Message, _context: Context) -> tuple[Reply, str]:
        return Refused("north", Code.INTERNAL), f"{next(entries)}:{'b' * 64}"

    return UnsteadyGrid(app_of(answered), nodes=2)


@pytest.fixture
def errands(grid: UnsteadyGrid, tmp_path: Path) -> Errands:
    return Errands(grid, tmp_path)


def ask(errands: Errands, seconds: float = 30.0) -> tuple[Turn, list[Errand]]:
    """Both hospitals in a turn of their own."""
    turn = Meeting(STUDY)
    questions = [(Node(k, name), ASKED) for k, name in ((1, "north"), (2, "south"))]
    return turn, errands.send(turn, questions, time.monotonic() + seconds)


def collected(errands: Errands, turn: Turn) -> dict[str, Any]:
    found, _ = errands.collect(turn, time.monotonic() + 1.0)
    return {sent.name: outcome for sent, outcome in found}


def never(*nodes: int) -> Callable[[int, Any], Any]:
    return lambda node, _request: "never" if node in nodes else None


def test_what_comes_is_told_with_whom_it_is_from_and_its_bytes_are_counted(errands: Errands) -> None:
    turn, sent = ask(errands)
    assert [one.name for one in sent] == ["north", "south"]
    assert errands.busy() == {1, 2}
    assert collected(errands, turn) == dict.fromkeys(("north", "south"), Failed(refused(Code.INTERNAL)))
    assert (errands.busy(), errands.waiting(turn)) == (set(), [])
    assert min(errands.traffic.values()) > 0
    assert len((errands.folder / "heads.jsonl").read_text().splitlines()) == 2, "every answer's head is kept"


def test_what_was_given_up_is_not_waited_for_and_its_node_is_free(errands: Errands, grid: UnsteadyGrid) -> None:
    grid.fate = never(1, 2)
    turn, _ = ask(errands)
    other, _ = ask(errands)
    given_up = errands.give_up(turn, lambda sent: "left" if sent.name == "north" else "")
    assert [(sent.name, why) for sent, why in given_up] == [("north", "left")]
    assert [sent.name for sent in errands.waiting(turn)] == ["south"]
    assert [sent.name for sent in errands.waiting(other)] == ["north", "south"], "of another turn nothing is given up"
    errands.give_up(other, lambda _sent: "left")
    assert errands.busy() == {2}


def test_an_answer_to_a_turn_that_is_over_is_noted_and_not_used(errands: Errands, grid: UnsteadyGrid) -> None:
    grid.fate = lambda node, _request: 0.3 if node == 1 else None
    turn, _ = ask(errands)
    assert set(collected(errands, turn)) == {"south"}
    time.sleep(0.3)
    grid.fate = never(1)
    after, _ = ask(errands)
    assert set(collected(errands, after)) == {"south"}
    assert errands.late == {"north": "answered after the deadline; its answer was not used"}


def test_what_cannot_be_sent_is_told_to_the_turn_and_is_not_on_its_way(errands: Errands, grid: UnsteadyGrid) -> None:
    grid.push_messages = lambda messages: []  # type: ignore[method-assign,assignment]
    turn, sent = ask(errands)
    assert sent == []
    assert isinstance(turn, Meeting)
    assert turn.failures == dict.fromkeys(("north", "south"), "the message could not be sent: a proxy's limit of size?")
    assert errands.busy() == set()
