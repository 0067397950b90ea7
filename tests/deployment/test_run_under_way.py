"""Waiting for a run: one that gave up is not taken for one that goes on by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.deployment import run_under_way
from tests.deployment.run_under_way import RunUnderWay


def a_run(folder: Path, *, wanted: bool) -> RunUnderWay:
    """Its command has ended, after round 0."""

    def wait(true: Callable[[], bool], *_: object) -> None:
        assert true()

    federation = SimpleNamespace(home=folder, base=folder, wait=wait)
    run = RunUnderWay(cast(Any, federation), "one", cast(Any, SimpleNamespace(running=False, log=folder / "log")))
    (run.folder / "rounds").mkdir(parents=True)
    (run.folder / "rounds" / "0000.json").write_text("{}")
    (run.folder / "submitted.json").write_text(json.dumps({"wanted": wanted, "why": "" if wanted else "too few"}))
    return run


@pytest.fixture
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that were started; each completes a round."""
    started: list[str] = []

    def start(base: Path, _log: Path, words: list[str]) -> SimpleNamespace:
        (base / "runs" / "one" / "rounds" / "0001.json").write_text("{}")
        started.append(" ".join(words))
        return SimpleNamespace(running=True)

    monkeypatch.setattr(run_under_way, "Started", start)
    return started


def test_a_run_that_gave_up_does_not_go_on_by_itself(tmp_path: Path, resumed: list[str]) -> None:
    run = a_run(tmp_path, wanted=False)
    with pytest.raises(AssertionError, match="one does not go on by itself: too few"):
        run.wait_more()
    assert not resumed
    run.wait_more(by_itself=False)
    assert "resume one" in resumed[0]


def test_a_run_whose_command_ended_is_followed_again(tmp_path: Path, resumed: list[str]) -> None:
    a_run(tmp_path, wanted=True).wait_more()
    assert "resume one" in resumed[0]
