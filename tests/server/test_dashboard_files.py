"""What lies in a home is read without harm: a damaged file costs its own numbers, and no path is ever shown."""

import json
from pathlib import Path

import pytest

from server.dashboard.files import TAIL_BYTES, Files, HomeFiles, Record, RunFiles, moment, number, said
from tests.server.example_home import refusal, write, write_home, write_round, write_run


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("/srv/runs/muscle/rounds/0003.npy: cannot be read", "…/0003.npy: cannot be read"),
        ("study.toml is at /home/anna/studies/study.toml, look", "study.toml is at …/study.toml, look"),
        (r"C:\Users\anna\study.toml is wrong", "…/study.toml is wrong"),
        ("asked for /v1/control/start-run", "asked for /v1/control/start-run"),
        ("at https://fl.example.org:8443/v1/fleet", "at https://fl.example.org:8443/v1/fleet"),
        ("3/4 of the hospitals and and/or", "3/4 of the hospitals and and/or"),
        ("two\nlines and\x1b[31m colour \u202eturned", "two lines and [31m colour  turned"),
        (None, ""),
    ],
)
def test_a_text_of_a_record_shows_no_folder_and_no_control_character(written: object, shown: str) -> None:
    assert said(written) == shown


def test_a_text_has_an_end() -> None:
    assert len(said("x" * 10_000)) == 600


def test_a_moment_is_a_number_or_an_iso_time() -> None:
    assert moment("1970-01-01T00:01:00+00:00") == moment("1970-01-01T00:01:00") == moment(60) == 60.0
    assert moment("yesterday") is moment(None) is moment("") is moment(float("inf")) is None


def test_a_number_is_finite_and_no_truth_value() -> None:
    assert number(3) == 3.0
    assert number(True) is number("3") is number(float("nan")) is number(10**400) is None


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    files = Files(tmp_path)
    write(tmp_path / "a.json", {"k": 1})
    first = files.json("a.json")
    assert files.json("a.json") is first
    write(tmp_path / "a.json", {"k": 2})
    assert files.json("a.json") == {"k": 2}
    (tmp_path / "a.json").unlink()
    assert files.json("a.json") is None


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000, b""])
def test_a_damaged_file_is_named_until_it_is_mended(tmp_path: Path, content: bytes) -> None:
    files = Files(tmp_path)
    (tmp_path / "a.json").write_bytes(content)
    assert files.json("a.json") is None
    assert files.faults == {"a.json": "it is damaged"}
    write(tmp_path / "a.json", [1])
    assert files.json("a.json") == [1]
    assert not files.faults


def test_a_folder_in_the_place_of_a_file_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    files = Files(tmp_path)
    assert files.json("a.json") is None
    assert files.faults == {"a.json": "it cannot be opened"}


def test_only_the_end_of_a_long_list_is_read(tmp_path: Path) -> None:
    line = json.dumps(refusal("198.51.100.1", "", "x" * 100, "nothing")) + "\n"
    (tmp_path / "refusals.jsonl").write_text(line * (TAIL_BYTES // len(line) * 3) + "half a li", encoding="utf-8")
    found = Files(tmp_path).lines("refusals.jsonl")
    assert 0 < len(found) <= TAIL_BYTES // len(line)
    assert all(entry["address"] == "198.51.100.1" for entry in found)


def test_a_record_keeps_what_makes_sense() -> None:
    record = Record.of(3, {"sites": {"a": {"loss": float("nan"), "auc": 0.7, "note": "x"}, "b": 5}, "central": None,
                           "failures": {"c": "see /data/hospital/x.csv"}, "bytes_up": "many"}, 0.0)  # fmt: skip
    assert record.sites == {"a": {"auc": 0.7}, "b": {}}
    assert record.central == {}
    assert record.failures == {"c": "see …/x.csv"}
    assert record.up is None
    assert Record.of(3, ["no", "object"], 0.0).sites == {}


def test_records_end_at_the_first_that_is_absent(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=3)
    write_round(run, 5)
    files = RunFiles(run)
    assert [record.round for record in files.records()] == [0, 1, 2, 3]
    write_round(run, 4)
    assert [record.round for record in files.records()] == [0, 1, 2, 3, 4, 5]


def test_a_damaged_record_is_taken_once_it_is_whole(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=2)
    (run / "rounds" / "0002.json").write_text("{", encoding="utf-8")
    files = RunFiles(run)
    assert len(files.records()) == 2
    assert "rounds/0002.json" in files.faults
    write_round(run, 2)
    assert len(files.records()) == 3
    assert not files.faults


def test_another_run_in_the_same_folder_is_another_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=4)
    files = RunFiles(run)
    assert len(files.records()) == 5
    for path in (run / "rounds").glob("000[2-4].json"):
        path.unlink()
    write(run / "run.json", {"study": "another", "seed": 2})
    assert len(files.records()) == 2


def test_a_study_of_another_version_costs_the_study_only(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=1)
    write(run / "study.json", {"name": "of the future"})
    files = RunFiles(run)
    assert files.study is None
    assert files.faults == {"study.json": "it is not a study that this version knows"}
    assert len(files.records()) == 2


@pytest.mark.parametrize("synthetic", [True, False])
def test_people_are_synthetic_where_a_folder_within_reach_says_so(tmp_path: Path, synthetic: bool) -> None:
    run = write_run(tmp_path / "runs" / "run", rounds=0, synthetic=synthetic)
    assert RunFiles(run).synthetic is synthetic


def test_nobody_knows_whether_people_are_synthetic_where_no_folder_is_within_reach(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=0)
    (run / "coordinator.toml").write_text('central = ""\n', encoding="utf-8")
    assert RunFiles(run).synthetic is None


def test_hospitals_of_a_simulation_are_asked_before_the_central_cohort(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", rounds=0, synthetic=False)
    site = run / "sites" / "alpha"
    (site / "data").mkdir(parents=True)
    (site / "site.toml").write_text('data = "data"\n', encoding="utf-8")
    write(site / "data" / "manifest.json", {"synthetic": True})
    assert RunFiles(run).synthetic is True


@pytest.mark.parametrize("name", ["..", "../runs/muscle", "/etc", "muscle/rounds", "muscle/", ".", "", "secrets"])
def test_only_a_run_of_the_list_is_opened(tmp_path: Path, name: str) -> None:
    home = HomeFiles(write_home(tmp_path / "home", rounds=0))
    assert home.run(name) is None
    assert home.run("muscle") is not None


def test_the_run_that_was_written_to_last_stands_in_front(tmp_path: Path) -> None:
    home = write_home(tmp_path / "home", rounds=0)
    write_run(home / "runs" / "older", rounds=0)
    write(home / "runs" / "muscle" / "live.json", {"phase": "round"})
    import os

    os.utime(home / "runs" / "older" / "live.json", (1, 1))
    os.utime(home / "runs" / "older" / "run.json", (1, 1))
    assert [run.name for run in HomeFiles(home).runs] == ["muscle", "older"]


def test_a_run_directory_alone_is_a_list_of_one(tmp_path: Path) -> None:
    files = HomeFiles(write_run(tmp_path / "run", rounds=1))
    assert [run.name for run in files.runs] == ["run"]
    assert not files.is_home
