"""What a run says of the present, and that its directory belongs to one process."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sarco_models.errors import RunError
from server import live
from server.live import Live, alone, held_by, read_live


def test_a_run_says_what_it_does_and_how_long_it_may_take(tmp_path: Path) -> None:
    told = Live(tmp_path, rounds=20, needed=2)
    assert read_live(tmp_path) is None
    before = time.time()
    told.phase("round", round_=3, attempt=2, seconds=60)
    found = read_live(tmp_path)
    assert found is not None
    assert before <= found["started"] <= found["time"] <= time.time()
    assert found["deadline"] == pytest.approx(found["started"] + 60)
    assert {k: found[k] for k in ("phase", "round", "rounds", "attempt", "needed", "sites", "failure", "pid")} == {
        "phase": "round", "round": 3, "rounds": 20, "attempt": 2, "needed": 2, "sites": {}, "failure": "",
        "pid": os.getpid(),
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["live.json"]


def test_sites_are_told_of_and_a_new_phase_begins_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_EVERY_S", 0.0)
    told = Live(tmp_path)
    told.phase("round", round_=1)
    told.site("north", "asked")
    time.sleep(0.02)
    told.site("north", "refused", "no budget is left")
    found = read_live(tmp_path)
    assert found is not None
    assert found["sites"]["north"] | {"seconds": 0} == {"state": "refused", "why": "no budget is left", "seconds": 0}
    assert found["sites"]["north"]["seconds"] >= 0.02
    told.phase("round", round_=2)
    assert (read_live(tmp_path) or {})["sites"] == {}


def test_many_changes_at_once_are_one_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Live(tmp_path)
    told.phase("round", round_=1)
    for k in range(500):
        told.site(f"site{k % 9}", "asked")
    assert (read_live(tmp_path) or {})["sites"] == {}
    monkeypatch.setattr(live, "_EVERY_S", 0.0)
    told.flush()
    assert len((read_live(tmp_path) or {})["sites"]) == 9


def test_the_end_is_told_with_its_reason(tmp_path: Path) -> None:
    told = Live(tmp_path, rounds=2)
    told.phase("round", round_=2, seconds=5)
    told.ended("round 2: 1 site answered")
    found = read_live(tmp_path) or {}
    assert (found["phase"], found["failure"], found["deadline"], found["round"]) == (
        "failed", "round 2: 1 site answered", None, 2
    )  # fmt: skip
    told.ended()
    assert (read_live(tmp_path) or {})["phase"] == "done"


def test_a_disk_that_takes_nothing_does_not_stop_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Live(tmp_path / "gone").phase("round", round_=1)
    assert "live.json cannot be written (No such file or directory); the run goes on" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"round": 1}', "\xff"])
def test_a_damaged_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "live.json").write_bytes(text.encode("latin-1"))
    assert read_live(tmp_path) is None


def test_a_run_directory_belongs_to_one_process(tmp_path: Path) -> None:
    assert held_by(tmp_path) is None
    with alone(tmp_path):
        assert held_by(tmp_path) == os.getpid()
        with pytest.raises(RunError, match=rf"process {os.getpid()} works on this run already"), alone(tmp_path):
            pass
    assert held_by(tmp_path) is None
    with alone(tmp_path):
        pass


def test_who_only_looks_does_not_keep_a_run_from_beginning(tmp_path: Path) -> None:
    """To see whether a run is held is to hold it for a moment."""
    (tmp_path / live.LOCK).touch()
    looking = os.open(tmp_path / live.LOCK, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    looked = threading.Timer(0.15, os.close, [looking])
    looked.start()
    with alone(tmp_path):
        assert held_by(tmp_path) == os.getpid()
    looked.join()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, time\nfrom server.live import alone\n"
        "with alone(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            assert held_by(tmp_path) == other.pid
            with pytest.raises(RunError, match=f"process {other.pid} works"), alone(tmp_path):
                pass
        finally:
            other.kill()
    with alone(tmp_path):
        assert held_by(tmp_path) == os.getpid()


def test_a_directory_that_is_not_there_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written: No such file or directory"), alone(tmp_path / "gone"):
        pass


def test_what_is_written_is_json_of_finite_numbers(tmp_path: Path) -> None:
    Live(tmp_path).phase("waiting", seconds=None)
    assert json.loads((tmp_path / "live.json").read_text())["deadline"] is None
