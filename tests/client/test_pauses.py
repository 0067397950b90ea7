"""How long Flower's main loop pauses: eager while a run is at work, frugal when nothing is."""

from pathlib import Path

import pytest

from client import supernode
from client.contact import Contact
from client.supernode import Pauses


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made, on a clock that only they move."""
    made: list[float] = []
    now = [1000.0]

    def sleep(seconds: float) -> None:
        made.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(supernode.time, "sleep", sleep)
    monkeypatch.setattr(supernode.time, "monotonic", lambda: now[0])
    return made


def test_after_a_message_the_next_is_looked_for_often_and_later_seldom(tmp_path: Path, slept: list[float]) -> None:
    pauses = Pauses(Contact(tmp_path / "contact.json"))
    while sum(slept) < 600:
        pauses.sleep(3)
    assert slept[0] == 0.2
    assert slept == sorted(slept)
    assert slept[-1] == 3
    assert sum(pause for pause in slept if pause < 0.21) > 9, "ten seconds of five looks a second"
    pauses.sleep(0.5)
    pauses.sleep(3)
    assert slept[-1] == 0.2, "a message came"


def test_an_answer_is_sent_soon_and_a_long_training_costs_nothing(tmp_path: Path, slept: list[float]) -> None:
    pauses = Pauses(Contact(tmp_path / "contact.json"))
    while sum(slept) < 600:
        pauses.sleep(0.5)
    assert slept[0] == 0.05
    assert slept[-1] == 0.2
    assert len(slept) < 4000
    assert not Contact(tmp_path / "other.json").hangs()
