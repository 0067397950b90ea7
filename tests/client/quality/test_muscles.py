"""sarco-site check-data on a study of muscles: every bad mask is found, in words, and nothing half-written is left."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from client.cli import app
from client.quality.check import Options, check_site
from client.quality.page import page
from client.quality.records import QualityReport
from client.quality.summary import counted
from sarco_models import drawn as drawing
from sarco_models.cohort import open_cohort
from tests.muscle_sites import (
    STUDY,
    arm_of,
    label_map,
    muscle_site,
    muscle_study,
    polygon,
    thigh_of,
    write_labelme,
    write_labels,
)
from tests.sites import read_csv, write_rows

HERE = Options(workers=0)
THIGH = polygon(thigh_of(3))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_site(tmp_path_factory.mktemp("muscles") / "alpha", 10)


@pytest.fixture
def site(untouched: Path, tmp_path: Path) -> Path:
    """A site that a test may change."""
    return Path(shutil.copytree(untouched, tmp_path / "alpha"))


def change(folder: Path, number: int, **cells: str) -> None:
    rows = read_csv(folder / "images.csv")
    rows[number] |= cells
    write_rows(folder / "images.csv", rows)


def checked(folder: Path, **changes: Any) -> QualityReport:
    return check_site(folder, muscle_study(**changes), folder.with_name("cache"), HERE)


def write_study(path: Path, **changes: Any) -> Path:
    """The tiny study as a file that the command reads."""
    tree = {**STUDY, **changes}
    lines = [f"{k} = {json.dumps(v)}" for k, v in tree.items() if not isinstance(v, dict)]
    for name, section in tree.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{k} = {_toml(v)}" for k, v in section.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def run(folder: Path, tmp_path: Path, **changes: Any) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit status, output and findings of the real command."""
    study, found = write_study(tmp_path / "study.toml", **changes), tmp_path / "found.json"
    arguments = ["check-data", str(folder), "--study", str(study), "--json", str(found), "--workers", "0"]
    result = CliRunner().invoke(
        app, [*arguments, "--cache", str(tmp_path / "cache"), "--report", str(tmp_path / "r.html")]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output, json.loads(found.read_text())["findings"]


# ---- what a hospital sees --------------------------------------------------------------------------------------------


def test_a_clean_hospital_may_join_and_sees_what_it_has_drawn(untouched: Path) -> None:
    report = checked(untouched)
    assert report.verdict == "may join", [str(f) for f in report.findings if f.severity == "error"]
    assert [(m.title, m.drawn, m.looked_for, m.people) for m in report.muscles] == [
        ("biceps brachii", 10, 20, 10), ("triceps", 10, 20, 10), ("rectus femoris", 10, 20, 10),
    ]  # fmt: skip
    assert report.usable == (10, 0)
    assert counted(report) == "10 participants (10 usable), 20 of 20 images usable"
    told = [f for f in report.findings if f.rule == "muscle-coverage"]
    assert {f.severity for f in told} == {"note"}
    assert told[0].seen == "biceps brachii: drawn on 10 of 20 images on which it was looked for, of 10 people"
    assert [r.drawn[0].label for r in report.records[:2]] == ["biceps", "rectus_femoris"]
    assert "labels" not in report.checked
    assert "leakage" not in report.checked


def test_the_page_shows_every_muscle_and_no_class_of_people(untouched: Path) -> None:
    text = page(checked(untouched))
    assert '<h2 id="muscles">Muscles</h2>' in text
    for muscle in ("biceps brachii", "triceps", "rectus femoris"):
        assert f'<th scope="row">{muscle}</th>' in text
    for word in ("positive", "negative", "M000", "label rule"):
        assert word not in text.partition("<body>")[2].partition("<script>")[0]
    assert "muscles, with all outlines" in text


def test_every_muscle_is_outlined_in_its_own_colour(untouched: Path) -> None:
    record = checked(untouched).records[0]
    import cv2

    picture = cv2.imdecode(np.frombuffer(record.thumbnail, np.uint8), cv2.IMREAD_COLOR).astype(int)
    orange = (picture[..., 2] - picture[..., 0]) > 60
    blue = (picture[..., 0] - picture[..., 2]) > 60
    assert orange[:32].sum() > 20 > orange[40:].sum()
    assert blue[40:].sum() > 20 > blue[:32].sum()


def test_what_was_not_looked_for_is_not_counted_as_absent(site: Path) -> None:
    for k in range(0, 20, 2):
        change(site, k, annotated="biceps;triceps")
        change(site, k + 1, annotated="RF")
    assert [(m.drawn, m.looked_for) for m in checked(site).muscles] == [(10, 10)] * 3
    for k in range(1, 20, 2):
        change(site, k, mask="", annotated="")
    report = checked(site)
    assert [(m.drawn, m.looked_for) for m in report.muscles] == [(10, 10), (10, 10), (0, 0)]
    assert "rectus femoris: nowhere drawn" in {f.seen for f in report.findings}
    assert report.verdict == "may join"


# ---- bad input, through the command ----------------------------------------------------------------------------------

BAD: dict[str, Any] = {
    "open-outline": ({"RF": [[[10, 10], [50, 40]]]}, "polygon", "label RF, shape 1: a polygon of 2 points"),
    "open-outline line": ({"RF": [THIGH]}, "linestrip", "label RF, shape 1: a linestrip, which bounds no area"),
    "crossed-outline": ({"RF": [[[10, 10], [60, 40], [60, 10], [10, 40]]]}, "polygon", "crosses itself once"),
    "unknown-label": ({"femur": [THIGH], "skin": [polygon((8, 40, 3, 9))]}, "polygon", "unknown to the study"),
    "another-muscle": ({"triceps": [THIGH]}, "polygon", "an image of rectus_femoris, on which triceps is drawn"),
    "overlapping-muscles": ({"RF": [THIGH], "BB": [polygon((40, 40, 12, 25))]}, "polygon", "overlap by"),
    "empty-mask": ({}, "polygon", "no pixel of a muscle inside"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_mask_leaves_its_image_out_and_says_why(site: Path, tmp_path: Path, case: str) -> None:
    outlines, kind, words = BAD[case]
    write_labelme(site / "masks/003_thigh.json", outlines, kind=kind)
    status, output, findings = run(site, tmp_path)
    rule = case.split()[0]
    (finding,) = [f for f in findings if f["rule"] == rule]
    assert (finding["severity"], finding["row"]) == ("warning", 9)
    assert words in finding["seen"]
    assert finding["remedy"].endswith("the image is left out until then")
    assert finding["file"] == "masks/003_thigh.json"
    assert status == 0
    assert "10 participants (10 usable), 19 of 20 images usable" in output
    assert len(open_cohort(site, muscle_study(), tmp_path / "cache").targets) == 19


def test_masks_of_another_size_and_images_without_spacing(site: Path, tmp_path: Path) -> None:
    write_labels(site / "masks/000_arm.nii.gz", label_map(arm_of(0))[:40])
    rows = read_csv(site / "calibration.csv")
    write_rows(site / "calibration.csv", rows[2:])
    status, _, findings = run(site, tmp_path)
    told = {f["rule"]: f for f in findings}
    assert told["mask-size"]["row"] == 2
    assert told["no-spacing"]["severity"] == "warning"
    assert status == 0
    # Without a window in millimetres the same images are trained on; sizes are not told of them.
    (tmp_path / "second").mkdir()
    _, output, findings = run(site, tmp_path / "second", image=STUDY["image"] | {"framing": "letterbox"})
    assert next(f for f in findings if f["rule"] == "no-spacing")["severity"] == "note"
    assert "19 of 20 images usable" in output


def test_muscles_that_share_a_border_are_used_and_told(site: Path, tmp_path: Path) -> None:
    upper, lower = [[10, 15], [70, 15], [70, 33], [10, 33]], [[10, 32], [70, 32], [70, 52], [10, 52]]
    write_labelme(site / "masks/003_thigh.json", {"RF": [upper], "triceps": [lower]})
    _, output, findings = run(site, tmp_path)
    (note,) = [f for f in findings if f["rule"] == "overlap-thin"]
    assert note["severity"] == "note"
    assert "20 of 20 images usable" in output


def test_muscles_that_the_window_cuts_off_are_told(site: Path, tmp_path: Path) -> None:
    """The window is 70 pixels wide around the middle of 80: of this outline, columns 2 to 62, a part lies outside."""
    write_labelme(site / "masks/003_thigh.json", {"RF": [[[2, 20], [62, 20], [62, 45], [2, 45]]]})
    status, _, findings = run(site, tmp_path)
    (warning,) = [f for f in findings if f["rule"] == "beyond-view"]
    assert (warning["row"], warning["severity"]) == (9, "warning")
    assert warning["seen"] == "5% of what is drawn lies beyond the 35 mm that the network sees"
    assert status == 0


def test_a_hospital_without_any_muscle_of_the_study_cannot_join(site: Path, tmp_path: Path) -> None:
    for k in range(20):
        change(site, k, mask="")
    status, output, findings = run(site, tmp_path)
    assert status == 1
    assert {"muscle-coverage", "people-drawn"} <= {f["rule"] for f in findings if f["severity"] == "error"}
    assert "no muscle of the study is drawn" in output


def test_labels_that_may_name_a_person_are_not_shown(site: Path, tmp_path: Path) -> None:
    write_labelme(site / "masks/003_thigh.json", {"Wang Xiaoming": [THIGH], "RF": [polygon((10, 10, 4, 5))]})
    change(site, 0, annotated="biceps;Dr. Mueller")
    change(site, 2, muscle="Mueller's muscle", mask_label="1")
    _, output, findings = run(site, tmp_path)
    assert "label of 13 characters, unknown to the study" in next(
        f["seen"] for f in findings if f["rule"] == "unknown-label"
    )
    assert "of 11 characters" in next(f["seen"] for f in findings if f["rule"] == "annotated")
    for text in (output, json.dumps(findings), (tmp_path / "r.html").read_text()):
        assert "Xiaoming" not in text
        assert "Mueller" not in text


def test_one_class_asks_for_the_muscle_of_every_row(site: Path, tmp_path: Path) -> None:
    change(site, 0, muscle="")
    _, output, findings = run(site, tmp_path, segmentation=STUDY["segmentation"] | {"classes": "one"})
    (finding,) = [f for f in findings if f["rule"] == "muscle-unknown"]
    assert (finding["row"], finding["column"], finding["severity"]) == (2, "muscle", "warning")
    assert "19 of 20 images usable" in output


# ---- journal and cache -----------------------------------------------------------------------------------------------


def test_a_check_warms_the_cache_of_training_with_the_same_targets(
    site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    change(site, 0, annotated="biceps;triceps")
    write_labelme(site / "masks/003_thigh.json", {"RF": [THIGH], "femur": [polygon((58, 40, 3, 9))]})
    study = muscle_study()
    fresh = open_cohort(site, study, tmp_path / "fresh")
    checked(site)
    monkeypatch.setattr(drawing, "open_labels", _never)
    warm = open_cohort(site, study, site.with_name("cache"))
    everybody = np.arange(20)
    np.testing.assert_array_equal(warm.pixels[everybody], fresh.pixels[everybody])
    np.testing.assert_array_equal(warm.targets[everybody], fresh.targets[everybody])
    np.testing.assert_array_equal(warm.annotated[everybody], fresh.annotated[everybody])
    assert list(warm.views) == list(fresh.views)
    assert {(f.rule, f.row) for f in warm.findings} == {(f.rule, f.row) for f in fresh.findings}


def _never(*_: object) -> None:
    raise AssertionError("a mask was read again")


def test_a_second_check_reads_no_mask_again_and_finds_the_same(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labelme(site / "masks/003_thigh.json", {"RF": [[[10, 10], [60, 40], [60, 10], [10, 40]]]})
    first = checked(site)
    monkeypatch.setattr(drawing, "open_labels", _never)
    shutil.rmtree(next(p for p in site.with_name("cache").iterdir() if p.is_dir()))
    second = checked(site)
    assert second.findings == first.findings
    assert second.muscles == first.muscles
    assert page(second) == page(first)
    monkeypatch.undo()
    write_labelme(site / "masks/003_thigh.json", {"RF": [THIGH]})
    assert "crossed-outline" not in {f.rule for f in checked(site).findings}
    assert "crossed-outline" in {f.rule for f in first.findings}


def test_a_picture_given_for_a_mask_is_refused(site: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (64, 80)).astype(np.uint8)
    Image.fromarray(picture).save(site / "masks/picture.png")
    change(site, 0, mask="masks/picture.png")
    _, _, findings = run(site, tmp_path)
    assert next(f for f in findings if f["rule"] == "not-a-mask")["row"] == 2
