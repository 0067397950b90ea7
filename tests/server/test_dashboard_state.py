"""The picture of a run: what the files say, no more and no less, whatever is missing."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from server import submissions
from server.dashboard.pieces import pieces
from server.dashboard.roster import Seen
from server.dashboard.state import Picture
from tests.server.example_home import (
    FAILURES,
    ROUNDS,
    SITES,
    finish,
    grow,
    look_at,
    write,
    write_home,
    write_live,
    write_processes,
    write_round,
)

Look = Callable[[Path], Picture]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """In round 9 of 20, not private."""
    return write_home(tmp_path / "home", rounds=8, private=False)


@pytest.fixture
def run(home: Path) -> Path:
    return home / "runs" / "muscle"


def dead_pid() -> int:
    """Number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_round_under_way_is_told_with_its_deadline_and_its_answers(home: Path, run: Path) -> None:
    view = look_at(home).run
    assert view is not None
    live = json.loads((run / "live.json").read_text())
    progress = view.progress
    assert (progress.headline, progress.round, progress.done, progress.rounds) == ("Round 9 of 20", 9, 8, ROUNDS)
    assert (progress.answered, progress.asked, progress.needed) == (1, 3, 2)
    assert progress.deadline == live["deadline"]
    assert progress.running is True


def test_a_round_that_waits_for_hospitals_says_so(home: Path, run: Path) -> None:
    write_live(run, "waiting", 9, dict.fromkeys(SITES, "away"), attempt=2)
    picture = look_at(home)
    assert picture.run is not None
    assert picture.run.progress.headline == "Round 9 of 20: waiting for hospitals"
    assert {h.online for h in picture.hospitals if not h.revoked} == {False}


def test_the_end_is_foreseen_from_the_last_rounds(home: Path, run: Path) -> None:
    for round_ in range(1, 9):
        record = json.loads((run / "rounds" / f"{round_:04d}.json").read_text())
        write(run / "rounds" / f"{round_:04d}.json", record | {"seconds": 1000.0 if round_ < 4 else 50.0})
    view = look_at(home).run
    assert view is not None
    assert view.progress.started is not None
    assert view.progress.ends == pytest.approx(view.progress.started + 50 * 12)


def test_a_hospitals_numbers_in_a_round_are_those_of_the_model_before(home: Path, run: Path) -> None:
    """The answer to round k evaluates what came down; the loss in training is of round k itself."""
    record = json.loads((run / "rounds" / "0005.json").read_text())
    view = look_at(home).run
    assert view is not None
    curves = {(metric, curve.name): dict(curve.points) for metric, found in view.curves.items() for curve in found}
    assert curves["auc", "shanghai"][4] == record["sites"]["shanghai"]["auc"]
    assert curves["train_loss", "shanghai"][5] == record["sites"]["shanghai"]["train_loss"]
    assert curves["auc", "central"][5] == record["central"]["auc"]
    assert max(curves["auc", "shanghai"]) == 7
    finish(run)
    view = look_at(home).run
    assert view is not None
    closed = next(curve for curve in view.curves["auc"] if curve.name == "shanghai")
    assert closed.points[-1][0] == ROUNDS


def test_who_took_part_is_what_the_records_say(home: Path) -> None:
    view = look_at(home).run
    assert view is not None
    parts = {part.name: part for part in view.parts}
    assert list(parts) == sorted(SITES)
    assert [cell.state for cell in parts["shanghai"].cells] == ["answered"] * 9
    assert [cell.state for cell in parts["sichuan"].cells][5:] == ["failed", "refused", "answered", "asked"]
    assert [cell.state for cell in parts["zhongshan"].cells][2:4] == ["away", "away"]
    missed = {name: sum(name in failures for failures in FAILURES.values()) for name in SITES}
    assert {name: part.answered for name, part in parts.items()} == {name: 8 - n for name, n in missed.items()}


def test_bytes_are_those_of_the_records(home: Path, run: Path) -> None:
    view = look_at(home).run
    assert view is not None
    records = [json.loads(path.read_text()) for path in sorted((run / "rounds").glob("*.json"))]
    assert [(m.down, m.up) for m in view.traffic] == [(r["bytes_down"], r["bytes_up"]) for r in records]


def test_flower_knows_better_than_the_run_who_is_online(home: Path) -> None:
    now = time.time()
    seen = {"shanghai": Seen(True, now), "sichuan": Seen(False, now - 600)}
    found = {h.name: h for h in look_at(home, seen).hospitals}
    assert found["shanghai"].online is True
    assert (found["sichuan"].online, found["sichuan"].last_seen, found["sichuan"].doing) == (
        False, now - 600, "is waited for",
    )  # fmt: skip
    assert found["zhongshan"].online is False  # enrolled, and never seen
    assert found["nanjing"].revoked


def test_without_flower_the_run_tells_who_is_online(home: Path, run: Path) -> None:
    write_live(run, "round", 9, {"shanghai": "answered", "sichuan": "away"})
    found = {h.name: h.online for h in look_at(home).hospitals}
    assert found == {"shanghai": True, "sichuan": False, "zhongshan": None, "nanjing": None}


def test_a_run_whose_process_is_gone_says_so(home: Path, run: Path) -> None:
    write_live(run, "round", 9, dict.fromkeys(SITES, "asked"), pid=dead_pid())
    picture = look_at(home)
    assert picture.run is not None
    assert (picture.run.progress.phase, picture.run.progress.headline) == (
        "interrupted", "Interrupted, after round 8 of 20",
    )  # fmt: skip
    assert picture.run.progress.deadline is None
    assert all(not hospital.doing for hospital in picture.hospitals)
    (trouble,) = [t for t in picture.troubles if t.weight == "stop"]
    assert "resume" in trouble.remedy


@pytest.mark.parametrize(("up", "weight", "words"), [(True, "site", "by itself"), (False, "stop", "up HOME")])
def test_a_run_that_is_wanted_goes_on_by_itself(home: Path, run: Path, up: bool, weight: str, words: str) -> None:
    """server/submissions.py: what died and is wanted is submitted again by ``up``."""
    write_live(run, "round", 9, {}, pid=dead_pid())
    write(run / "submitted.json", {"wanted": True, "deaths": 1})
    if not up:
        write_processes(home, **{name: {"pid": dead_pid()} for name in ("superlink", "superexec", "gate")})
    (trouble,) = [t for t in look_at(home).troubles if t.who == "the run"]
    assert trouble.weight == weight
    assert words in trouble.remedy


@pytest.mark.parametrize("phase", ["failed", "round"])
def test_a_run_that_the_coordinator_stopped_is_no_accident(home: Path, run: Path, phase: str) -> None:
    write_live(run, phase, 9, {}, failure="the run broke off: SystemExit" * (phase == "failed"), pid=dead_pid())
    write(run / "submitted.json", {"wanted": False, "why": submissions.STOPPED})
    (trouble,) = [t for t in look_at(home).troubles if t.who == "the run"]
    assert "was stopped by the coordinator" in trouble.what
    assert "resume" in trouble.remedy


@pytest.mark.parametrize(("wanted", "words"), [(True, "Is being started"), (False, "Not at work, after round 8 of 20")])
def test_a_run_that_says_nothing_yet(home: Path, run: Path, wanted: bool, words: str) -> None:
    (run / "live.json").unlink()
    write(run / "submitted.json", {"wanted": wanted})
    view = look_at(home).run
    assert view is not None
    assert view.progress.headline == words


def test_a_number_that_another_process_has_inherited_is_not_the_run(home: Path, run: Path) -> None:
    write_live(run, "round", 9, {}, time=1000.0, pid=os.getpid())
    view = look_at(home).run
    assert view is not None
    assert view.progress.phase == "interrupted"


def test_a_run_that_stopped_says_why_without_a_path(home: Path, run: Path) -> None:
    failure = "round 9: 1 sites answered usably, min_sites = 2 (see /srv/fl/home/runs/muscle/live.json)"
    write_live(run, "failed", 9, {}, failure=failure, deadline=None)
    picture = look_at(home)
    trouble = picture.troubles[0]
    assert (trouble.weight, trouble.what) == ("stop", "Too few hospitals answered.")
    assert "/srv" not in json.dumps(picture.to_dict())


def test_a_process_that_is_gone_is_named(home: Path) -> None:
    write_processes(home, gate={"pid": dead_pid()}, superexec={"state": "waiting", "restarts": 4, "said": "x"})
    picture = look_at(home)
    assert {p.name: p.state for p in picture.processes} == {
        "superlink": "running", "superexec": "waiting", "gate": "gone",
    }  # fmt: skip
    assert [t.who for t in picture.troubles if t.weight == "stop"] == ["gate"]
    assert "ended 4 times" in next(t.what for t in picture.troubles if t.who == "superexec")


def test_a_coordinator_that_is_not_up_is_one_trouble(home: Path) -> None:
    write_processes(home, **{name: {"state": "ended"} for name in ("superlink", "superexec", "gate")})
    stops = [t for t in look_at(home).troubles if t.weight == "stop"]
    assert [t.who for t in stops] == ["the coordinator"]
    assert stops[0].remedy == "sarco-coordinator up HOME"


def test_the_trouble_of_the_last_round_is_open_until_the_next_is_complete(home: Path, run: Path) -> None:
    write_round(run, 9, {"sichuan": "refused: data_fault"})
    write_live(run, "round", 10, dict.fromkeys(SITES, "asked"))
    weights = {t.written: t.weight for t in look_at(home).troubles}
    assert weights["refused: data_fault"] == "site"
    grow(run, 10)
    weights = {t.written: t.weight for t in look_at(home).troubles}
    assert weights["refused: data_fault"] == "note"


def test_what_went_wrong_in_attempts_that_fell_short_is_told_as_over(home: Path, run: Path) -> None:
    path = run / "rounds" / "0008.json"
    short = [{"sites": ["sichuan"], "failures": {"shanghai": "Flower error 5"}}, {"sites": 3, "failures": None}, "x"]
    write(path, {**json.loads(path.read_text()), "attempts": short})
    (trouble,) = [t for t in look_at(home).troubles if t.who == "shanghai"]
    assert (trouble.weight, trouble.when) == ("note", "round 8")


def test_the_same_refusals_of_the_gate_are_one_line(home: Path) -> None:
    entry = json.dumps({"time": "2026-11-20T08:00:00+00:00", "address": "203.0.113.9", "site": "", "reason": "no",
                        "fix": "yes"})  # fmt: skip
    (home / "refusals.jsonl").write_text(f"{entry}\n{entry}\nno json\n[1]\n", encoding="utf-8")
    (refusal,) = look_at(home).refusals
    assert (refusal.who, refusal.times) == ("203.0.113.9", 2)


def test_epsilon_is_shown_for_private_studies_only(home: Path) -> None:
    assert all(h.spent is None for h in look_at(home).hospitals)


def test_rounds_that_may_have_cost_something_are_counted(tmp_path: Path) -> None:
    """Late and unusable answers count, and so does the round under way; who was away or refused was not charged."""
    home = write_home(tmp_path / "home", rounds=8)
    write_round(home / "runs" / "muscle", 8, {"shanghai": "refused: task_not_allowed"})
    spent = {h.name: h.spent.rounds for h in look_at(home).hospitals if h.spent}
    assert spent == {"shanghai": 8, "sichuan": 9, "zhongshan": 8}


@pytest.mark.parametrize("leaks", [True, False])
def test_the_page_and_the_command_have_one_gate(home: Path, run: Path, leaks: bool) -> None:
    finish(run, leaks=leaks)
    view = look_at(home).run
    assert view is not None
    assert view.outcome is not None
    verdict = view.outcome.verdict
    assert verdict is not None
    assert verdict.passed is not leaks
    assert bool(verdict.faults) is leaks
    assessed = {a.site: a for a in view.outcome.assessed}
    assert (assessed["shanghai"].sensitivity, assessed["shanghai"].specificity) == (0.75, 0.75)
    assert assessed["sichuan"].auc is None
    assert assessed["zhongshan"].why_not


def test_an_empty_home_has_no_run_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text("", encoding="utf-8")
    picture = look_at(tmp_path)
    assert picture.run is None
    assert picture.hospitals == picture.processes == ()
    assert [t.remedy for t in picture.troubles] == ["sarco-coordinator up HOME"]


def test_whatever_file_is_absent_or_damaged_the_rest_is_shown(home: Path, run: Path) -> None:
    finish(run)
    files = [p for p in sorted(home.rglob("*")) if p.is_file() and p.suffix in (".json", ".toml", ".jsonl")]
    assert len(files) > 30
    chosen = [p for p in files if p.parent.name != "rounds"] + [
        run / "rounds" / "0000.json",
        run / "rounds" / "0007.json",
    ]
    for path in chosen:
        kept = path.read_bytes()
        for content in (None, b"{", b'{"sites": [1], "phase": 3, "rounds": "many", "live": null}'):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            json.dumps(look_at(home).to_dict(), allow_nan=False)
            path.write_bytes(kept)


def test_numbers_that_no_program_wrote_do_no_harm(home: Path, run: Path) -> None:
    huge = {"phase": "round", "round": 1e300, "rounds": -5, "started": 1e300, "deadline": "soon", "sites": {"x": 7},
            "pid": 10**30, "time": -1e300, "needed": None, "attempt": True}  # fmt: skip
    write(run / "live.json", huge)
    json.dumps(look_at(home).to_dict(), allow_nan=False)


def test_a_superlink_that_fails_a_run_at_work_is_a_trouble(home: Path, run: Path) -> None:
    words = "the SuperLink does not say who is connected (HTTP 500); it is asked again and again"
    write_live(run, "round", 9, {}, trouble=words)
    assert words in [trouble.what for trouble in look_at(home).troubles]
    write_live(run, "round", 9, {}, trouble=words, pid=dead_pid())
    assert words not in [trouble.what for trouble in look_at(home).troubles], "nobody asks any more"


def test_who_left_is_not_only_offline(home: Path) -> None:
    found = {h.name: h for h in look_at(home, {"sichuan": Seen(False, 60.0, left=True)}).hospitals}
    assert (found["sichuan"].left, found["shanghai"].left) == (True, False)
    assert "left <time" in pieces(look_at(home, {"sichuan": Seen(False, 60.0, left=True)}))["hospitals"]
    assert "revoked on 2026-10-02" in pieces(look_at(home))["hospitals"]


def test_the_picture_keeps_its_form(home: Path) -> None:
    """Whoever reads /state.json relies on these names; VERSION grows when one changes its meaning."""
    found = look_at(home).to_dict()
    assert set(found) == {
        "version", "home", "address", "runs", "run", "hospitals", "troubles", "refusals", "processes", "asked_flower",
        "unreadable",
    }  # fmt: skip
    assert set(found["run"]) == {
        "name", "title", "digest", "strategy", "synthetic", "progress", "curves", "parts", "traffic", "privacy",
        "outcome", "plan",
    }  # fmt: skip
    assert set(found["hospitals"][0]) == {
        "name", "online", "last_seen", "doing", "state", "why", "participants", "training", "revoked", "spent",
        "left",
    }  # fmt: skip
    assert found["version"] == 1


def test_runs_are_listed_and_chosen_by_name(home: Path, run: Path) -> None:
    shutil.copytree(run, home / "runs" / "second")
    assert {line.name for line in look_at(home).runs} == {"muscle", "second"}
    for name in ("muscle", "second"):
        view = look_at(home, run=name).run
        assert view is not None
        assert view.name == name
