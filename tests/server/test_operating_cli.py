"""run, resume, stop, status and logs as the coordinator reads them; the SuperLink is a stand-in."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server import enrolment, submissions
from server.cli import app
from server.control import Control, FlowerRun, Node
from server.enrolment import enrol
from server.home import Home
from server.live import Live, alone
from tests.server.a_home import a_home, a_pub, study_file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that is up, two hospitals enrolled, one online."""
    found = a_home(tmp_path)
    monkeypatch.setattr(enrolment, "_tell_flower", lambda _: True)
    enrol(found, [a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta")])
    for place in ("sarco_models.processes", "server.following", "server.overview"):
        monkeypatch.setattr(f"{place}.supervisor_of", lambda _: 4711)
    submitted: list[Path] = []

    def submit(_: Control, folder: Path) -> str:
        submitted.append(folder)
        return str(len(submitted))

    def runs(_: Control) -> tuple[FlowerRun, ...]:
        return tuple(FlowerRun(str(k + 1), str(f), "running", "", "", "") for k, f in enumerate(submitted))

    monkeypatch.setattr(Control, "submit", submit)
    monkeypatch.setattr(Control, "runs", runs)
    monkeypatch.setattr(Control, "stop", lambda _, run_id: submitted.clear())
    monkeypatch.setattr(Control, "nodes", lambda _: (Node("alpha", 1, True, "12:00"),))
    monkeypatch.setattr(Control, "log", lambda _, run_id: f"\x1b[92mINFO\x1b[0m: run {run_id}\n")
    return found


def command(*words: object) -> tuple[int, str]:
    told = CliRunner().invoke(app, [str(word) for word in words])
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


def begin(home: Home, tmp_path: Path) -> str:
    code, said = command("run", study_file(tmp_path), "--home", home.folder, "--detach", "--name", "one")
    assert code == 0, said
    return said


def works(home: Home, *, failure: str | None) -> None:
    folder = home.runs_folder / "one"
    with alone(folder):
        live = Live(folder, rounds=2, needed=2)
        live.phase("describe", seconds=60)
        if failure is not None:
            live.ended(failure)


def test_a_run_is_begun_once(home: Home, tmp_path: Path) -> None:
    said = begin(home, tmp_path)
    assert f"run one: study {home.study.digest[:12]}, 2 rounds, at least 1 hospital\n" in said
    assert "only" not in said, "as many hospitals are enrolled as the study needs"
    code, said = command("run", study_file(tmp_path), "--home", home.folder, "--name", "two")
    assert (code, "run one is at work" in said) == (1, True), said


def test_who_is_missing_is_said_before_the_wait(home: Home, tmp_path: Path) -> None:
    (home.sites_file).unlink()
    assert "only 0 hospitals enrolled" in begin(home, tmp_path)


def test_a_run_that_goes_on_by_itself_is_not_submitted_again(home: Home, tmp_path: Path) -> None:
    begin(home, tmp_path)
    code, said = command("resume", "--home", home.folder, "--detach")
    assert (code, said) == (0, "run one is at work, or goes on by itself, after round 0\n")


def test_following_a_run_that_fails_ends_with_1_and_the_way_out(home: Home, tmp_path: Path) -> None:
    begin(home, tmp_path)
    works(home, failure="too few hospitals answered")
    with Control(home) as control:
        submissions.look_after(home, control, lambda _: None)
    code, said = command("resume", "--home", home.folder, "--detach")
    assert code == 0, said
    assert said.startswith("run one goes on after round 0")
    works(home, failure="too few again")
    with Control(home) as control:
        submissions.look_after(home, control, lambda _: None)
    code, said = command("status", home.folder)
    assert (code, "run one: failed; too few again; 0 rounds complete" in said) == (0, True), said


def test_a_stopped_run_is_shown_so_and_its_log_is_kept(home: Home, tmp_path: Path) -> None:
    begin(home, tmp_path)
    assert command("stop", "--home", home.folder) == (0, "run one is stopped after round 0\n")
    assert command("stop", "--home", home.folder) == (0, "run one was not at work; after round 0\n")
    code, said = command("status", home.folder)
    assert (code, "run one: stopped; 0 rounds complete" in said) == (0, True), said
    code, said = command("logs", "one", "--home", home.folder)
    assert (code, said) == (0, "---- run 1 at Flower ----\nINFO: run 1\n")


def test_status_says_who_is_there_and_what_everybody_does(home: Home, tmp_path: Path) -> None:
    begin(home, tmp_path)
    folder = home.runs_folder / "one"
    with alone(folder):
        live = Live(folder, rounds=2, needed=2)
        live.site("alpha", "asked")
        live.phase("describe", seconds=60)
        code, said = command("status", home.folder)
    assert code == 0, said
    assert "run one: at work; asks the hospitals how many participants they have" in said
    rows = [line.split() for line in said.splitlines()]
    assert ["alpha", "online", "12:00"] in rows
    assert ["beta", "never"] in rows
    code, said = command("status", home.folder, "--json")
    assert code == 0
    assert '"name": "alpha"' in said
