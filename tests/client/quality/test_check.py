"""One pass finds every planted fault, changes nothing, names nobody, goes on after an interruption, warms the cache."""

import csv
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from typer.testing import CliRunner

from client.cli import app
from client.quality import check
from client.quality.check import Options, check_site
from client.quality.images import Look
from client.quality.journal import Journal
from client.quality.page import page
from client.quality.records import ImageRecord, QualityReport
from client.quality.summary import as_json, headline
from sarco_models import image_cache
from sarco_models.cohort import open_cohort
from sarco_models.config import StudyConfig, load_study
from simulation.synthetic import make_cohort
from tests.sites import read_csv, write_rows

STUDY = load_study(Path(__file__).parents[3] / "configs/study.toml")
HERE = Options(workers=0)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny synthetic Shanghai: 24 people, 48 DICOM frames with NIfTI masks. Copy it before you change it."""
    out = tmp_path_factory.mktemp("hospitals") / "cohort"
    return make_cohort(out, scale="tiny", seed=5, width_px=224, workers=1)["shanghai"]


@pytest.fixture
def site(hospital: Path, tmp_path: Path) -> Path:
    """A copy of the hospital with 8 people, so that a check is quick."""
    folder = tmp_path / "site"
    shutil.copytree(hospital, folder)
    people = read_csv(folder / "participants.csv")
    kept = [p for p in people if p["sarcopenia"] == "1"][:4] + [p for p in people if p["sarcopenia"] == "0"][:4]
    write_rows(folder / "participants.csv", kept)
    ids = {p["participant_id"] for p in kept}
    write_rows(folder / "images.csv", [r for r in read_csv(folder / "images.csv") if r["participant_id"] in ids])
    return folder


@pytest.fixture
def small_study() -> StudyConfig:
    """The study, content with few people."""
    federation = STUDY.federation.model_copy(update={"min_participants": 2})
    return STUDY.model_copy(update={"federation": federation})


def found(report: QualityReport) -> set[tuple[str, str]]:
    return {(f.severity, f.rule) for f in report.findings}


def digests(folder: Path) -> dict[str, str]:
    files = (f for f in sorted(folder.rglob("*")) if f.is_file() and ".sarco-cache" not in f.parts)
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


# ---- every fault in one pass -----------------------------------------------------------------------------------------


def change_image(folder: Path, number: int, change: Callable[[Path], None]) -> None:
    change(folder / read_csv(folder / "images.csv")[number]["image"])


def size(folder: Path, row: dict[str, str]) -> tuple[int, ...]:
    header = dcmread(folder / row["image"], stop_before_pixels=True)
    return header.Rows, header.Columns


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])


def blacken(path: Path) -> None:
    data = dcmread(path)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(path)


def write_name(path: Path) -> None:
    """A name and a date across the tissue."""
    data = dcmread(path)
    image = Image.fromarray(data.pixel_array)
    ImageDraw.Draw(image).text((60, 90), "MUELLER, ANNA 1944-03-02", fill=255, font=ImageFont.load_default(14))
    data.PixelData = np.asarray(image).tobytes()
    data.save_as(path)


def test_every_planted_fault_is_found_in_one_pass(site: Path, small_study: StudyConfig, tmp_path: Path) -> None:
    change_image(site, 0, cut)
    change_image(site, 1, blacken)
    change_image(site, 2, write_name)
    images = read_csv(site / "images.csv")
    shutil.copy(site / images[4]["image"], site / images[8]["image"])  # one frame, two people
    images[6]["image"] = "images/gone.dcm"
    images[7]["mask"] = next(row["mask"] for row in images if size(site, row) != size(site, images[7]))
    write_rows(site / "images.csv", images)
    people = read_csv(site / "participants.csv")
    for person in people:
        person["albumin_g_per_l"] = f"{float(person['albumin_g_per_l'] or 40) / 10:.2f}"  # g/dL
    people[0]["bmi_kg_per_m2"] = "55"
    people[1]["hba1c_percent"] = "see letter"
    people[2]["sarcopenia"] = ""
    people[3]["participant_id"] = people[4]["participant_id"]
    write_rows(site / "participants.csv", people)

    report = check_site(site, small_study, tmp_path / "cache", HERE)

    rules = {rule for _, rule in found(report)}
    wanted = {
        "decode", "empty-image", "burned-in-text", "duplicate-image", "file", "mask-size", "units",
        "bmi", "range", "label", "duplicate-id",
    }  # fmt: skip
    assert wanted <= rules, f"not found: {sorted(wanted - rules)}; found {sorted(rules)}"
    assert report.verdict == "errors"
    assert headline(report).startswith("Not yet")


def test_a_clean_hospital_may_join(hospital: Path, tmp_path: Path) -> None:
    report = check_site(hospital, STUDY, tmp_path / "cache", HERE)
    assert report.verdict == "may join"
    assert {rule for severity, rule in found(report) if severity == "warning"} <= {"cohort-size"}
    assert report.synthetic
    assert sum(report.usable) == report.participants == 24
    assert all(record.usable for record in report.records)


def test_without_a_table_nothing_can_be_checked(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    assert check_site(tmp_path / "site", STUDY, tmp_path / "cache", HERE).verdict == "cannot check"
    assert check_site(tmp_path / "nowhere", STUDY, tmp_path / "cache", HERE).verdict == "cannot check"


# ---- what it leaves alone, and what it leaves behind -----------------------------------------------------------------


def test_nothing_of_the_data_is_changed(site: Path, small_study: StudyConfig) -> None:
    before = digests(site)
    check_site(site, small_study, site / ".sarco-cache", HERE)
    assert digests(site) == before


def test_no_identifier_is_on_the_page_or_in_the_json(site: Path, small_study: StudyConfig, tmp_path: Path) -> None:
    change_image(site, 0, cut)
    report = check_site(site, small_study, tmp_path / "cache", HERE)
    texts = [page(report), json.dumps(as_json(report), ensure_ascii=False)]
    secret = {row[key] for row in read_csv(site / "images.csv") for key in ("participant_id", "image", "mask")}
    secret |= {Path(name).stem for name in secret} | {"SYN^PATIENT"}
    assert not [s for s in secret for text in texts if s in text]


def test_an_interrupted_check_goes_on_where_it_stopped(
    site: Path, small_study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def counting(look: Look) -> ImageRecord:
        if len(looked) == 5:
            raise KeyboardInterrupt
        looked.append(look.row.row)
        return examine(look)

    examine = check.examine
    monkeypatch.setattr(check, "examine", counting)
    with pytest.raises(KeyboardInterrupt):
        check_site(site, small_study, tmp_path / "cache", HERE)
    first = looked.copy()
    looked.clear()
    monkeypatch.setattr(check, "examine", lambda look: looked.append(look.row.row) or examine(look))
    resumed = check_site(site, small_study, tmp_path / "cache", HERE)
    assert not set(first) & set(looked)
    assert len(first) + len(looked) == len(resumed.records)
    whole = check_site(site, small_study, tmp_path / "other", HERE)
    assert as_json(resumed) == as_json(whole)
    assert page(resumed) == page(whole)


def test_only_a_changed_file_is_looked_at_again(
    site: Path, small_study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_site(site, small_study, tmp_path / "cache", HERE)
    change_image(site, 3, blacken)
    looked: list[int] = []
    examine = check.examine
    monkeypatch.setattr(check, "examine", lambda look: looked.append(look.row.row) or examine(look))
    again = check_site(site, small_study, tmp_path / "cache", HERE)
    assert len(looked) == 1
    assert ("error", "empty-image") in found(again)


def test_what_was_looked_at_is_for_this_account_alone(tmp_path: Path) -> None:
    usual = os.umask(0o022)
    try:
        with Journal(tmp_path / "cache" / "looks.sqlite"):
            files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "cache").iterdir()}
        (tmp_path / "cache" / "looks.sqlite").chmod(0o644)  # of an earlier release
        with Journal(tmp_path / "cache" / "looks.sqlite"):
            pass
        check._salt(tmp_path / "other")
    finally:
        os.umask(usual)
    assert "looks.sqlite" in files
    assert set(files.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "cache" / "looks.sqlite").stat().st_mode) == 0o600
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("cache", "other")} == {0o700}


def test_a_damaged_journal_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "looks.sqlite").write_bytes(b"no database" * 400)
    with Journal(tmp_path / "looks.sqlite") as journal:
        journal.put([])
    assert (tmp_path / "looks.sqlite").read_bytes().startswith(b"SQLite format 3\x00")  # what was there is gone


def test_training_finds_its_pixels_ready_and_the_same(
    site: Path, small_study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_image(site, 0, cut)
    check_site(site, small_study, tmp_path / "cache", HERE)
    decoded = open_cohort(site, small_study, tmp_path / "own", name="a")
    monkeypatch.setattr(image_cache, "read_image", lambda *_a, **_k: pytest.fail("decoded again"))
    ready = open_cohort(site, small_study, tmp_path / "cache", name="a")
    everything = np.arange(len(decoded.owner))
    np.testing.assert_array_equal(ready.pixels[everything], decoded.pixels[everything])
    np.testing.assert_array_equal(ready.owner, decoded.owner)
    assert ready.devices == decoded.devices
    assert len(ready.owner) == len(read_csv(site / "images.csv")) - 1


@pytest.mark.slow
def test_workers_change_nothing_but_the_time(site: Path, small_study: StudyConfig, tmp_path: Path) -> None:
    change_image(site, 0, cut)
    told: list[tuple[int, int]] = []
    one = check_site(site, small_study, tmp_path / "one", HERE)
    two = check_site(site, small_study, tmp_path / "two", Options(workers=2), lambda *now: told.append(now))
    assert page(one) == page(two)
    assert told[-1] == (len(one.records), len(one.records))


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_page_and_json_and_says_whether_the_site_may_join(site: Path, tmp_path: Path) -> None:
    files = [tmp_path / "report.html", tmp_path / "report.json"]
    told = CliRunner().invoke(
        app, ["check-data", str(site), "--report", str(files[0]), "--json", str(files[1]), "--workers", "0"]
    )
    assert told.exit_code == 1, told.output  # eight people are too few for the study
    written = json.loads(files[1].read_text(encoding="utf-8"))
    assert set(written) >= {"verdict", "findings", "summary"}
    keys = {"severity", "rule", "file", "row", "column", "seen", "expected", "remedy"}
    assert all(set(finding) == keys for finding in written["findings"])
    assert written["verdict"] == "errors"
    assert "SYNTHETIC" in files[0].read_text(encoding="utf-8")
    assert "Not yet: 1 error must be mended" in told.output


@pytest.mark.parametrize(("argument", "words"), [("nowhere", "no such folder"), ("empty", "no such file")])
def test_the_command_ends_with_2_when_it_cannot_check(tmp_path: Path, argument: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    told = CliRunner().invoke(app, ["check-data", str(tmp_path / argument), "--workers", "0"])
    assert told.exit_code == 2
    assert words in told.output


def test_a_wrong_study_file_is_named(site: Path, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text("name = 3", encoding="utf-8")
    told = CliRunner().invoke(app, ["check-data", str(site), "--study", str(tmp_path / "study.toml")])
    assert told.exit_code == 2
    assert "study.toml" in told.stderr


def test_site_toml_gives_the_cache_and_the_label_rule(site: Path, tmp_path: Path) -> None:
    text = f'name = "a"\ndata = "{site}"\nstudy = "study.toml"\ncache = "kept"\nlabel_rule = "ewgsop2"\n'
    (tmp_path / "site.toml").write_text(text, encoding="utf-8")
    out = tmp_path / "r.json"
    CliRunner().invoke(
        app, ["check-data", str(site), "--site", str(tmp_path / "site.toml"), "--json", str(out), "--workers", "0"]
    )
    assert (tmp_path / "kept" / "looks.sqlite").is_file()
    assert not (site / ".sarco-cache").exists()
    assert any("EWGSOP2" in f["seen"] + f["expected"] + f["remedy"] for f in json.loads(out.read_text())["findings"])


def test_rows_in_findings_are_the_spreadsheets(site: Path, small_study: StudyConfig, tmp_path: Path) -> None:
    change_image(site, 3, cut)
    report = check_site(site, small_study, tmp_path / "cache", HERE)
    with (site / "images.csv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file))
    (fault,) = [f for f in report.findings if f.rule == "decode"]
    assert fault.row is not None
    assert lines[fault.row - 1][0] == read_csv(site / "images.csv")[3]["image"]
