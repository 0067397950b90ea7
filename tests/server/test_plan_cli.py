"""A coordinator plans with enrolled hospitals: asked once, read as often as wanted, written whole or not at all."""

import time
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sarco_models.config import load_study
from server import operating_cli, submissions
from server.cli import app
from server.control import Control
from server.founding import found
from server.home import Home
from server.live import Live, alone
from server.overview import work
from server.plan_file import FILE
from server.planning import plan_record
from server.runs import Run, write_json
from tests.server.a_home import free_port
from tests.server.test_planning import DRAFT, described


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Of a study without a plan, as hospitals approve it."""
    (tmp_path / "draft.toml").write_text(DRAFT, encoding="utf-8")
    found(tmp_path / "home", f"localhost:{free_port()}", tmp_path / "draft.toml")
    return Home.open(tmp_path / "home")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run directories that were handed to Flower; two hospitals answer at once."""
    folders: list[Path] = []

    def begin(home: Home, folder: Path, *, shown: bool) -> None:
        assert shown, "the plan is shown by the command itself"
        folders.append(folder)
        told = [described("alpha", 30), described("beta", 25, seed=1)]
        write_json(folder / FILE, plan_record(Run.open(folder).study, told, {}))

    monkeypatch.setattr(operating_cli, "require_up", lambda at: None)
    monkeypatch.setattr(operating_cli, "begin", begin)
    return folders


def plan(home: Home, *more: str) -> tuple[int, str]:
    place = home.folder.parent
    call = ["plan", str(place / "draft.toml"), "--out", str(place / "planned.toml"), "--home", str(home.folder), *more]
    done = CliRunner().invoke(app, call)
    return done.exit_code, done.output.replace("\n", " ")


def test_the_study_with_its_plan_is_written_and_what_follows_is_said(home: Home, asked: list[Path]) -> None:
    code, said = plan(home)
    assert code == 0, said
    written = load_study(home.folder.parent / "planned.toml")
    assert not written.unplanned
    assert f"study {written.digest[:12]}" in said
    assert "sarco-coordinator kits" in said
    assert "beta" in said
    assert [folder.name for folder in asked] == ["tiny_muscles-1"]


def test_the_same_command_reads_what_was_planned_and_asks_nobody_again(home: Home, asked: list[Path]) -> None:
    assert plan(home)[0] == plan(home)[0] == 0
    assert len(asked) == 1
    other = str(home.folder.parent / "planned-again.toml")
    assert plan(home, "--name", "again", "--out", other)[0] == 0, "a person who wants to ask again says so"
    assert [folder.name for folder in asked] == ["tiny_muscles-1", "again"]


def test_a_plan_that_is_not_there_yet_is_said_and_nothing_is_written(
    home: Home, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operating_cli, "begin", lambda at, folder, shown: None)  # left with Ctrl-C
    code, said = plan(home)
    assert code == 1
    assert "has no plan yet: give the same command again" in said
    assert not (home.folder.parent / "planned.toml").exists()


def test_hospitals_that_have_another_study_are_not_asked(home: Home, asked: list[Path]) -> None:
    (home.folder.parent / "draft.toml").write_text(DRAFT.replace("A tiny study", "Another"), encoding="utf-8")
    code, said = plan(home)
    assert code == 1
    assert "the hospitals' kits carry" in said
    assert not asked


def test_a_run_of_a_study_is_found_by_its_digest(home: Home, asked: list[Path]) -> None:
    study = load_study(home.folder.parent / "draft.toml")
    assert not submissions.run_of(home, study)
    plan(home)
    assert submissions.run_of(home, study) == "tiny_muscles-1"


def test_a_run_at_work_is_followed_and_not_begun_again(
    home: Home, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = operating_cli.begin

    def left(at: Home, folder: Path, *, shown: bool) -> None:
        write_json(folder / submissions.FILE, asdict(submissions.Submission(True, "7", time.time(), "", 0)))

    monkeypatch.setattr(operating_cli, "begin", left)
    assert plan(home)[0] == 1
    monkeypatch.setattr(operating_cli, "begin", lambda *_, **__: pytest.fail("begun again"))
    monkeypatch.setattr(operating_cli, "follow_run", begun)
    code, said = plan(home)
    assert code == 0, said
    assert "run tiny_muscles-1 is at work: this follows it" in said


@pytest.mark.parametrize("place", ["planned.toml", "absent/planned.toml"])
def test_where_the_study_cannot_be_written_nobody_is_asked(home: Home, asked: list[Path], place: str) -> None:
    (home.folder.parent / "planned.toml").write_text("somebody's own", encoding="utf-8")
    code, said = plan(home, "--out", str(home.folder.parent / place))
    assert code == 1
    assert "--out" in said
    assert "name" in said, "the way out"
    assert not asked


def test_what_a_run_that_plans_is_called(home: Home, asked: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    plan(home)
    done = work(asked[0], up=True)
    assert done.plans
    assert done.words == "the hospitals have agreed on a plan; nothing was trained"
    monkeypatch.setattr(Control, "nodes", lambda _: ())
    said = CliRunner().invoke(app, ["status", str(home.folder)]).output
    assert "tiny_muscles-1: never begun; the hospitals have agreed on a plan" in said
    assert "rounds complete" not in said, "it has none"
    (asked[0] / FILE).unlink()
    with alone(asked[0]):
        live = Live(asked[0], rounds=2, needed=2)
        live.phase("plan", seconds=60)
        assert "asks the hospitals for the sums that the network is planned from" in work(asked[0], up=True).words


def test_a_plan_is_no_model_and_is_not_released(home: Home, asked: list[Path]) -> None:
    plan(home)
    done = CliRunner().invoke(app, ["release", str(asked[0]), "--out", str(home.folder.parent / "out")])
    assert done.exit_code == 1
    assert "has planned a network and trained nothing" in " ".join(done.output.split())
    assert not (home.folder.parent / "out").exists()
