"""What is said of a run at work, and of a home: names, rounds, time left, and what to do."""

import json
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sarco_models.errors import RunError
from server import enrolment, following, submissions
from server.control import Control, Node
from server.enrolment import enrol, revoke
from server.failures import in_words
from server.following import duration, follow, phase_in_words, presence_in_words
from server.home import Home
from server.live import Live, alone
from server.overview import hospitals, look, work
from server.refusals import Refusals
from server.submissions import Submission
from server.whole_files import write_json
from tests.server.a_home import a_home, a_pub


def test_lengths_of_time_are_said_as_people_do() -> None:
    said = [duration(seconds) for seconds in (-3, 0.4, 99, 101, 5999, 12_000, 200_000)]
    assert said == ["0 s", "0 s", "99 s", "2 min", "1 h 40 min", "3 h 20 min", "2 d 7 h"]


def test_a_phase_says_the_round_who_has_answered_and_the_time_left() -> None:
    sites = {"alpha": {"state": "answered"}, "beta": {"state": "asked"}}
    live = {"phase": "round", "round": 3, "rounds": 20, "attempt": 2, "deadline": 1100.0, "sites": sites}
    assert phase_in_words(live, now=1000.0) == (
        "trains round 3 of 20, attempt 2; 1 of 2 hospitals answered so far; 2 min left"
    )
    assert "deadline has passed" in phase_in_words(live, now=1200.0)
    assert phase_in_words(None) == "is being started"


def a_run(home: Home, name: str = "one") -> Path:
    folder = home.runs_folder / name
    (folder / "rounds").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


def marked(folder: Path, **changes: Any) -> None:
    mark = Submission(**{"wanted": True, "run_id": "1", "time": 1.0, "bundle": "", "rounds": 0, **changes})
    write_json(folder / submissions.FILE, asdict(mark))


def record(folder: Path, number: int, **failures: str) -> None:
    facts = {"round": number, "sites": {"alpha": {}, "beta": {}}, "central": {"auc": 0.8125, "loss": 0.5}}
    facts |= {"failures": failures, "bytes_down": 2_500_000, "bytes_up": 900, "seconds": 4.25}
    (folder / "rounds" / f"{number:04d}.json").write_text(json.dumps(facts))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    found = a_home(tmp_path)
    monkeypatch.setattr(following, "supervisor_of", lambda _: 1)
    monkeypatch.setattr(Control, "nodes", lambda _self: (Node("alpha", 1, True, "now"),))
    monkeypatch.setattr(enrolment, "_tell_flower", lambda _: False)
    return found


def test_following_tells_each_round_and_each_failure_by_name(home: Home) -> None:
    folder, said = a_run(home), []
    record(folder, 0)
    record(folder, 1, gamma="no answer before the deadline")
    marked(folder, wanted=False, why="done", rounds=1)
    assert follow(home, folder, said.append, threading.Event()) is True
    assert said == [
        "round 1: 2 hospitals (alpha, beta), central loss 0.500, central AUC 0.812, 2.5 MB down, 900 bytes up, 4.2 s",
        f"  gamma: {in_words('no answer before the deadline')}",
    ]


def test_a_run_that_failed_says_why(home: Home) -> None:
    folder, said = a_run(home), []
    marked(folder, wanted=False, why="too few hospitals")
    assert follow(home, folder, said.append, threading.Event()) is False
    assert said == ["the run has not been completed: too few hospitals"]


def test_while_a_run_waits_it_is_said_who_is_missing(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta")])
    folder, said, stop = a_run(home), [], threading.Event()
    marked(folder)
    Live(folder, rounds=2, needed=2).phase("waiting", seconds=600)

    def told(sentence: str) -> None:
        said.append(sentence)
        if len(said) == 2:
            stop.set()

    assert follow(home, folder, told, stop) is None
    assert said == [
        "the run waits for hospitals; 10 min left; it needs 2",
        "online: 1 of 2 enrolled (alpha); not online: beta",
    ]


def test_following_ends_when_nothing_looks_after_the_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_run(home)
    marked(folder)
    monkeypatch.setattr(following, "supervisor_of", lambda _: 0)
    with pytest.raises(RunError, match="sarco-coordinator up"):
        follow(home, folder, lambda _: None, threading.Event())


def test_without_hospitals_it_is_said_how_to_enrol_one(home: Home) -> None:
    assert "sarco-coordinator enrol" in presence_in_words(home, ())


def test_hospitals_are_shown_as_the_coordinator_sees_them(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, name) for name in ("alpha", "beta", "gamma")])
    revoke(home, "gamma")
    nodes = (Node("alpha", 1, True, "12:00"), Node("beta", 2, False, ""))
    assert [(h.name, h.state) for h in hospitals(home, nodes)] == [
        ("alpha", "online"), ("beta", "never"), ("gamma", "revoked"),
    ]  # fmt: skip
    assert [h.state for h in hospitals(home, None)] == ["unknown", "unknown", "revoked"]
    enrol(home, [a_pub(tmp_path / "new", "gamma")])
    assert [h.state for h in hospitals(home, (*nodes, Node("gamma", 3, False, "11:00")))][2] == "offline"


def test_who_was_shut_out_and_who_left_is_said_with_the_day(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, name) for name in ("alpha", "beta")])
    revoke(home, "beta")
    when = "2026-11-20T12:00:00+00:00"
    nodes = (Node("alpha", 1, False, when, left=when),)
    first, second = hospitals(home, nodes)
    assert (first.state, first.words) == ("left", "left on 2026-11-20 at 12:00 UTC")
    assert second.words == f"revoked on {home.sites()[1].revoked[:10]} by the coordinator"
    assert presence_in_words(home, nodes) == (
        "online: 0 of 1 enrolled; not online: alpha (left on 2026-11-20 at 12:00 UTC)"
    )


def test_a_superlink_that_fails_is_said_with_the_phase() -> None:
    live = {"phase": "setup", "sites": {}, "trouble": "the SuperLink does not answer"}
    assert phase_in_words(live).endswith("scaling; the SuperLink does not answer")


def test_the_state_of_a_run(home: Home) -> None:
    folder = a_run(home)
    assert work(folder, up=True).state == "never begun"
    marked(folder)
    assert work(folder, up=True).state == "starting"
    assert work(folder, up=False).state == "waits for up"
    with alone(folder):
        live = Live(folder, rounds=2, needed=1)
        live.phase("round", round_=1, seconds=60)
        time.sleep(0.25)  # it writes at most every .2 s
        live.site("alpha", "asked")
        found = work(folder, up=True)
        assert (found.state, found.sites["alpha"]["state"]) == ("at work", "asked")
        assert found.words.startswith("trains round 1 of 2; 0 of 1 hospital answered so far")
        live.ended("too few")
    assert (work(folder, up=True).state, work(folder, up=True).words) == ("failed", "too few")
    marked(folder, wanted=False, why="done")
    assert work(folder, up=True).state == "complete"
    marked(folder, wanted=False, why=submissions.STOPPED)
    assert work(folder, up=True).state == "stopped"


def test_one_look_at_a_home_that_is_down(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "alpha")])
    refusals = Refusals(home.refusals, time.time)
    refusals.add("10.0.0.1", "unknown-key")
    refusals.flush()
    marked(a_run(home))
    found = look(home)
    assert (found.up, found.processes, found.hospitals[0].state) == (0, {}, "unknown")
    assert [refusal.address for refusal in found.refusals] == ["10.0.0.1"]
    assert found.runs[0].state == "waits for up"
    assert json.loads(json.dumps(found.to_dict()))["runs"][0]["name"] == "one"
