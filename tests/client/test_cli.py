"""sarco-site as a person runs it: an export becomes a site's folder, and the folder is checked."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from tests.exports import make_export
from tests.sites import read_csv, write_rows


def run(*arguments: object) -> tuple[int, str]:
    told = CliRunner().invoke(app, [str(a) for a in arguments])
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


def test_an_export_becomes_a_folder_that_is_then_checked(tmp_path: Path) -> None:
    make_export(tmp_path / "export")
    code, said = run("ingest", tmp_path / "export", tmp_path / "site", "--workers", 0)
    assert code == 0
    assert "people, " in said
    assert "proposed now: read it, correct it, run again" in said.replace("\n", " ")
    code, said = run("check-data", tmp_path / "site", "--workers", 0)
    assert code == 1  # six people are too few for the study
    assert "cohort-size" in said
    assert "SYNTHETIC" in said


def test_a_source_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    code, said = run("ingest", tmp_path / "nowhere", tmp_path / "site")
    assert code == 1
    assert "error:" in said


def test_hospitals_compare_their_people_when_they_agree(tmp_path: Path, image_folder: Path) -> None:
    """One image lies in both hospitals: the second is told its row."""
    for name in ("one", "two"):
        shutil.copytree(image_folder, tmp_path / name)
    rows = read_csv(tmp_path / "two" / "images.csv")
    write_rows(tmp_path / "two" / "images.csv", rows[:3])
    (tmp_path / "salt").write_bytes(bytes(range(32)))
    salt = ("--salt", tmp_path / "salt", "--workers", 0)
    run("check-data", tmp_path / "one", *salt, "--fingerprints", tmp_path / "one.json")
    out = tmp_path / "two.out.json"
    run("check-data", tmp_path / "two", *salt, "--other", tmp_path / "one.json", "--json", out)
    (finding,) = [f for f in json.loads(out.read_text())["findings"] if f["rule"] == "overlap"]
    assert finding["seen"].startswith("3 images that hospital 1 has, too: rows 2, 3, 4")


@pytest.mark.parametrize("option", ["--other", "--fingerprints"])
def test_comparing_needs_the_salt(tmp_path: Path, image_folder: Path, option: str) -> None:
    code, said = run("check-data", image_folder, "--cache", tmp_path, option, tmp_path / "x.json")
    assert code == 2
    assert "need --salt" in said
