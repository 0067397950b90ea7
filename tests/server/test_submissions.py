"""Runs handed to Flower: what died goes on, what has ended is left, and nobody works twice on one directory."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from sarco_models.config import load_study
from sarco_models.errors import ConfigError, RunError
from server import submissions
from server.control import Control, FlowerRun
from server.live import Live, alone
from server.submissions import DEATHS, complete_rounds, find, look_after, prepare, read, run_log, stop, submit
from tests.server.a_home import a_home, study_file
from tests.sites import tables_study


@dataclass
class StandIn:
    """The SuperLink: what was submitted, and what it still takes for alive."""

    known: list[FlowerRun] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def submit(self, folder: Path) -> str:
        number = str(len(self.known) + 1)
        self.known.append(FlowerRun(number, str(folder.resolve()), "running", "", "", "fab"))
        return number

    def runs(self) -> tuple[FlowerRun, ...]:
        return tuple(reversed(self.known))

    def alive(self, folder: Path) -> FlowerRun | None:
        return next((r for r in self.runs() if r.alive and r.folder == str(folder.resolve())), None)

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)
        self.end(run_id, "stopped")

    def log(self, run_id: str) -> str:
        return f"\x1b[92mINFO\x1b[0m: said by {run_id}\n"

    def end(self, run_id: str, ending: str, details: str = "") -> None:
        self.known = [
            FlowerRun(r.run_id, r.folder, "finished", ending, details, "fab") if r.run_id == run_id else r
            for r in self.known
        ]


class World:
    """A home with one prepared run, and a SuperLink."""

    def __init__(self, folder: Path) -> None:
        self.home = a_home(folder)
        self.folder = self.home.runs_folder / "one"
        (self.folder / "rounds").mkdir(parents=True)
        (self.folder / "run.json").write_text("{}")
        self.flower = StandIn()
        self.said: list[str] = []

    @property
    def control(self) -> Control:
        return cast(Control, self.flower)

    def submit(self) -> None:
        submit(self.home, self.control, self.folder)

    def look(self) -> None:
        look_after(self.home, self.control, self.said.append)

    def work(self, *, rounds: int = 0, failure: str | None = None) -> None:
        """A ServerApp comes, completes rounds, and goes: with its word, or (failure None) without."""
        with alone(self.folder):
            live = Live(self.folder, rounds=3, needed=2)
            live.phase("round", round_=1, seconds=60)
            for number in range(rounds + 1):
                (self.folder / "rounds" / f"{number:04d}.json").write_text("{}")
            if failure is not None:
                live.ended(failure)

    @property
    def mark(self) -> submissions.Submission:
        found = read(self.folder)
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_run_whose_process_dies_without_a_word_goes_on(world: World) -> None:
    world.submit()
    world.work(rounds=1)
    world.look()
    assert len(world.flower.known) == 2, "submitted again"
    assert world.flower.stopped == ["1"], "Flower still took the first one for alive"
    assert (world.mark.wanted, world.mark.run_id, world.mark.deaths, world.mark.rounds) == (True, "2", 1, 1)
    assert world.said == ["run one died after round 1: it goes on (1 of 5)"]


def test_what_every_process_of_a_run_said_is_kept(world: World) -> None:
    world.submit()
    world.work(rounds=1)
    world.look()
    assert run_log(world.control, world.folder).splitlines() == [
        "---- run 1 at Flower ----", "INFO: said by 1", "INFO: said by 2",
    ]  # fmt: skip
    world.work(rounds=3, failure="")
    world.look()
    lines = run_log(world.control, world.folder).splitlines()
    assert [line for line in lines if line.startswith("INFO")] == ["INFO: said by 1", "INFO: said by 2"]


def test_a_run_that_is_done_is_left(world: World) -> None:
    world.submit()
    world.work(rounds=3, failure="")
    world.look()
    world.look()
    assert len(world.flower.known) == 1
    assert (world.mark.wanted, world.mark.why) == (False, "done")
    assert world.said == ["run one: done"]


def test_a_run_that_says_why_it_failed_is_not_repeated(world: World) -> None:
    world.submit()
    world.work(failure="too few sites")
    world.look()
    assert len(world.flower.known) == 1
    assert world.mark.why == "too few sites"


def test_a_run_that_fails_before_it_has_a_word_is_known_from_flower(world: World) -> None:
    world.submit()
    world.flower.end("1", "failed", "ServerApp failed with exception: study.json was changed")
    world.look()
    assert (world.mark.wanted, world.mark.why) == (False, "study.json was changed")


def test_a_run_that_has_not_come_yet_is_given_time(world: World) -> None:
    world.submit()
    world.look()
    assert len(world.flower.known) == 1
    assert world.mark.wanted


def test_a_run_at_work_is_left_alone(world: World) -> None:
    world.submit()
    with alone(world.folder):
        world.look()
        with pytest.raises(RunError, match="works on this run"):
            world.submit()
    assert len(world.flower.known) == 1


def test_a_superlink_that_forgot_the_run_is_told_again(world: World) -> None:
    world.submit()
    world.flower.known.clear()
    world.look()
    assert len(world.flower.known) == 1
    assert world.mark.deaths == 1


def test_what_dies_again_and_again_is_given_up(world: World) -> None:
    world.submit()
    for _ in range(DEATHS):
        world.work()
        world.look()
    assert len(world.flower.known) == DEATHS + 1
    world.work()
    world.look()
    assert not world.mark.wanted
    assert "died 5 times" in world.mark.why
    world.submit()
    assert world.mark.deaths == 0, "resume begins to count anew"


def test_a_complete_round_lets_the_count_of_deaths_begin_anew(world: World) -> None:
    world.submit()
    for rounds in range(1, DEATHS + 3):
        world.work(rounds=rounds)
        world.look()
    assert world.mark.wanted
    assert world.mark.deaths == 1


def test_the_word_of_an_earlier_submission_does_not_count(world: World) -> None:
    world.submit()
    world.work(failure="too few sites")
    world.look()
    time.sleep(0.01)
    world.submit()
    world.look()
    assert world.mark.wanted


def test_a_stopped_run_is_not_gone_on_with_until_it_is_resumed(world: World) -> None:
    world.submit()
    assert stop(world.control, world.folder)
    world.look()
    assert len(world.flower.known) == 1
    assert world.mark.why == submissions.STOPPED
    assert not stop(world.control, world.folder), "there is nothing to stop"
    world.submit()
    assert world.mark.wanted


def test_a_stop_while_it_is_looked_after_counts(world: World) -> None:
    world.submit()
    world.work()
    stops = threading.Thread(target=stop, args=(world.control, world.folder))
    log = world.flower.log

    def slow(run_id: str) -> str:  # a log takes seconds
        if not stops.is_alive() and not stops.ident:
            stops.start()
            stops.join(timeout=0.3)
        return log(run_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.flower, "log", slow)
        world.look()
        stops.join()
    assert (world.mark.wanted, world.mark.why) == (False, submissions.STOPPED)
    world.look()
    assert not world.mark.wanted
    assert not any(run.alive for run in world.flower.runs())


def test_what_does_not_end_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.submissions._STOP_S", 0.2)
    world.submit()
    with alone(world.folder), pytest.raises(RunError, match=f"process {os.getpid()} works on it still"):
        stop(world.control, world.folder)
    assert not world.mark.wanted
    assert "said by 1" in run_log(world.control, world.folder)


def test_what_ended_with_the_up_before_is_no_death(world: World) -> None:
    world.submit()
    for _ in range(DEATHS + 2):
        world.work()
        look_after(world.home, world.control, world.said.append, since=time.time())
    assert (world.mark.wanted, world.mark.deaths) == (True, 0)
    assert world.said[-1] == "run one goes on after round 0"
    world.work()
    world.look()
    assert world.mark.deaths == 1


def test_one_run_at_a_time(world: World) -> None:
    world.submit()
    other = world.home.runs_folder / "two"
    (other / "rounds").mkdir(parents=True)
    (other / "run.json").write_text("{}")
    with pytest.raises(RunError, match="run one is at work"):
        submit(world.home, world.control, other)


def test_a_complete_run_is_not_begun_again(world: World) -> None:
    world.submit()
    world.work(rounds=3, failure="")
    with pytest.raises(RunError, match="the run is complete"):
        world.submit()


def test_runs_are_found_by_name_and_the_last_one_without(world: World) -> None:
    (world.home.runs_folder / "older").mkdir()
    (world.home.runs_folder / "older" / "run.json").write_text("{}")
    world.submit()
    assert find(world.home).name == "one"
    assert find(world.home, "older").name == "older"
    with pytest.raises(RunError, match="one, older"):
        find(world.home, "absent")


def test_a_damaged_mark_is_no_mark(world: World) -> None:
    (world.folder / submissions.FILE).write_text('{"wanted": true}')
    assert read(world.folder) is None
    world.look()
    assert world.flower.known == []


@pytest.mark.slow  # two processes
def test_who_makes_a_run_and_follows_it_holds_no_torch(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    words = (
        "import sys; from pathlib import Path; from server import following; from server.home import Home;"
        "from server.submissions import prepare;"
        f"home = Home.open(Path({str(home.folder)!r})); folder = prepare(home, home.study);"
        "print(folder); print([m for m in ('torch', 'timm', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    folder, loaded = done.stdout.splitlines()
    assert (Path(folder) / "start.safetensors").is_file()
    assert loaded == "[]"


def test_preparing_makes_the_next_run_of_the_study(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    study = load_study(study_file(tmp_path))
    first, second = prepare(home, study), prepare(home, study)
    assert [first.name, second.name] == ["tiny-1", "tiny-2"]
    assert prepare(home, study, "tiny-1") == first, "the same run again"
    assert complete_rounds(first) == 0
    text = (first / "coordinator.toml").read_text()
    assert json.dumps(str(home.folder / "cache")) in text, "a cache for all runs"


def test_a_study_that_the_hospitals_were_not_given_is_refused(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    changed: dict[str, Any] = {"federation": {"rounds": 3}}
    with pytest.raises(ConfigError, match="sarco-coordinator kits"):
        prepare(home, tables_study(**changed))
    before = (home.folder / "coordinator.toml").read_text()
    for name in ("../elsewhere", "..", ".", ".hidden", "a b", "a\n"):
        with pytest.raises(ConfigError, match="name of a folder"):
            prepare(home, home.study, name)
    assert (home.folder / "coordinator.toml").read_text() == before


def test_a_study_is_run_to_its_end_once(tmp_path: Path) -> None:
    """Hospitals evaluate one model of a study: a second run of it would train all rounds and then fail."""
    home = a_home(tmp_path)
    done = home.runs_folder / "done"
    done.mkdir(parents=True)
    (done / "run.json").write_text(json.dumps({"study": home.study.digest}))
    assert prepare(home, home.study, "second").name == "second"
    (done / "model.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"run to its end already: .*done"):
        prepare(home, home.study, "third")
    (done / "run.json").write_text(json.dumps({"study": "0" * 64}))
    assert prepare(home, home.study, "third").name == "third"
