"""One look says everything of an image, sees what training would see, and never stops for bad data."""

import csv
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from client.quality import images
from client.quality.images import Look, compare, examine
from sarco_models.image_cache import open_images
from sarco_models.images import Box, Calibration, read_calibrations
from sarco_models.schema import ImageRow
from simulation.synthetic import make_cohort
from tests.client.quality.looks import SALT, STUDY, look, only, phantom, put, row, rules, study, write_dicom
from tests.sites import image_site, image_study, tables_study


@pytest.fixture(autouse=True)
def text(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    """Boxes that the detector of burned-in text finds; it has tests of its own."""
    boxes: list[Box] = []
    monkeypatch.setattr(images, "find_text", lambda pixels: tuple(boxes))
    return boxes


# ---- a good image ----------------------------------------------------------------------------------------------------


def test_a_good_image_has_no_findings_and_is_measured(tmp_path: Path) -> None:
    image = phantom()
    record = examine(put(tmp_path, image))
    assert record.findings == ()
    assert record.usable
    assert record.device == "Tiny U1"
    assert record.shape == record.stored_shape == image.pixels.shape
    assert record.mm_per_pixel == pytest.approx((image.mm_per_pixel, image.mm_per_pixel))
    assert record.measures is not None
    assert record.measures.area_cm2 == pytest.approx(image.mask.sum() * image.mm_per_pixel**2 / 100)
    assert record.measures.thickness_mm == pytest.approx(image.mask.sum(axis=0).max() * image.mm_per_pixel)
    assert record.measures.echo_intensity == pytest.approx(image.echo_intensity)
    assert record.measures.pieces == 1
    assert record.grey.sum() == image.pixels.size
    assert (record.grey == np.bincount(image.pixels.ravel(), minlength=256)).all()


def test_the_view_is_what_a_training_run_reads(tmp_path: Path) -> None:
    folder, config = image_site(tmp_path / "site", n=6, images=2), image_study()
    with (folder / "images.csv").open(encoding="utf-8") as file:
        rows = [
            ImageRow(n, r["image"], r["participant_id"], r["mask"]) for n, r in enumerate(csv.DictReader(file), start=2)
        ]
    calibrations = read_calibrations(folder / "calibration.csv")
    records = [examine(Look(folder, config, r, calibrations.get(r.image), salt=SALT)) for r in rows]
    cache = open_images(folder, config, rows, tmp_path / "cache", None)
    assert [record.row.row for record in records if record.usable] == [rows[k].row for k in cache.rows]
    for record, pixels, device in zip(records, cache.pixels, cache.devices, strict=True):
        assert record.view is not None
        assert (record.view == pixels).all()
        assert record.device == device


def test_a_record_crosses_processes(tmp_path: Path) -> None:
    record = pickle.loads(pickle.dumps(examine(pickle.loads(pickle.dumps(put(tmp_path, phantom()))))))  # noqa: S301 - our own
    assert record.content
    assert record.view.shape == (STUDY.image.size, STUDY.image.size)


def test_the_thumbnail_is_small_and_shows_the_outline(tmp_path: Path) -> None:
    image = phantom()
    record = examine(put(tmp_path, image))
    picture = cv2.imdecode(np.frombuffer(record.thumbnail, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape[1] <= 192
    assert picture.shape[0] <= 256
    coloured = np.ptp(picture.astype(int), axis=2) > 60
    inside = cv2.resize(image.mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    edge = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((7, 7)))
    assert coloured.sum() > 100
    assert edge[coloured].mean() > 0.98


def test_equal_patients_have_equal_digests_only_under_the_same_salt(tmp_path: Path) -> None:
    first = put(tmp_path, phantom(), 2, PatientID="H 77 31")
    second = put(tmp_path, phantom(27), 3, participant="P0002", PatientID="h7731 ")
    third = put(tmp_path, phantom(28), 4, PatientID="H7732")
    patients = [examine(x).header_id for x in (first, second, third, replace(first, salt=b"another"))]
    assert patients[0] == patients[1] != ""
    assert len(set(patients)) == 3
    assert examine(put(tmp_path, phantom(), 5)).header_id == ""


# ---- what a look finds -----------------------------------------------------------------------------------------------


def test_text_in_the_tissue_region_is_an_error_and_black_in_the_thumbnail(tmp_path: Path, text: list[Box]) -> None:
    image = phantom()
    box = (20, 100, 180, 130)
    text += [box, (10, 10, 20, 20)]
    pixels = image.pixels.copy()
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    record = examine(put(tmp_path, replace(image, pixels=pixels), BurnedInAnnotation="NO"))
    found = only(record.findings, "burned-in-text")
    assert found.severity == "error"
    assert "2 places" in found.seen
    assert "160 x 30" in found.seen
    assert "says it has none" in found.seen
    assert record.text == tuple(text)
    grey = cv2.imdecode(np.frombuffer(record.thumbnail, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    scale = grey.shape[1] / image.pixels.shape[1]
    y, x = slice(round(102 * scale), round(128 * scale)), slice(round(22 * scale), round(60 * scale))
    assert np.median(grey[y, x]) < 12


def test_an_annotation_outside_the_region_is_a_note(tmp_path: Path) -> None:
    found = only(examine(put(tmp_path, phantom(), BurnedInAnnotation="YES")).findings, "burned-in-outside")
    assert found.severity == "note"


@pytest.mark.parametrize(("framing", "severity"), [("physical", "warning"), ("letterbox", "note"), ("paper", "note")])
def test_an_unknown_spacing_leaves_an_image_out_only_where_millimetres_are_needed(
    tmp_path: Path, framing: str, severity: str
) -> None:
    image = phantom()
    at = put(tmp_path, image)
    write_dicom(tmp_path / at.row.image, image.pixels, None, PatientIdentityRemoved="YES")
    record = examine(replace(at, study=study(framing=framing)))
    (found,) = record.findings
    assert found.severity == severity
    assert "mm per pixel" in found.seen
    assert record.left_out == (record.view is None) == (framing == "physical")
    assert record.measures is not None
    assert np.isnan(record.measures.area_cm2)


def test_an_impossible_spacing_leaves_an_image_out(tmp_path: Path) -> None:
    at = put(tmp_path, replace(phantom(), mm_per_pixel=17.0))
    record = examine(at)
    assert record.left_out
    assert only(record.findings, "spacing").severity == "warning"
    without_mask = examine(replace(at, row=row(mask="")))
    assert set(rules(without_mask.findings)) == {"spacing", "mask-missing"}, "every fault in one pass"


@pytest.mark.parametrize(("roi", "severity"), [("mask", "warning"), ("none", "note")])
def test_a_missing_mask_leaves_an_image_out_where_masks_are_needed(tmp_path: Path, roi: str, severity: str) -> None:
    at = put(tmp_path, phantom())
    record = examine(replace(at, row=row(mask=""), study=study(roi=roi)))
    found = only(record.findings, "mask-missing")
    assert found.severity == severity
    assert record.left_out == (roi == "mask")
    assert record.measures is None


def test_the_calibration_is_used(tmp_path: Path) -> None:
    image = phantom()
    Pillow.fromarray(image.pixels).save(tmp_path / "i.png")
    at = look(tmp_path, ImageRow(2, "i.png", "P0001", ""), study(roi="none"))
    at = replace(at, calibration=Calibration((10, 10, 200, 210), (0.2, 0.2), "Tiny U2"))
    record = examine(at)
    assert record.shape == (200, 190)
    assert record.stored_shape == image.pixels.shape
    assert record.mm_per_pixel == (0.2, 0.2)
    assert record.device == "Tiny U2"


def test_a_cine_needs_a_frame_and_says_which_was_taken(tmp_path: Path) -> None:
    image = phantom()
    stack = np.stack([phantom(27).pixels[: len(image.pixels)], image.pixels])[:, :220]
    write_dicom(tmp_path / "i2.dcm", stack[1], image.mm_per_pixel)
    at = put(tmp_path, replace(image, pixels=stack[1], mask=image.mask[:220]))
    write_dicom(tmp_path / "i2.dcm", stack[1], image.mm_per_pixel, NumberOfFrames=2, PixelData=stack.tobytes())
    assert only(examine(at).findings, "several-frames").severity == "warning"
    chosen = examine(replace(at, row=replace(at.row, frame=1)))
    assert chosen.usable
    assert only(chosen.findings, "cine").seen == "frame 1 of 2"


# ---- bad data --------------------------------------------------------------------------------------------------------


def _absent(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path: Path) -> None:
    path.write_text("Anna Muster, 1950-01-31")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_absent, _empty, _truncated, _text, _folder])
def test_what_cannot_be_read_is_left_out_and_named_by_its_row(tmp_path: Path, damage: Any) -> None:
    (tmp_path / "Muster_Anna").mkdir()
    name = "Muster_Anna/i2.dcm"
    at = put(tmp_path, phantom())
    (tmp_path / "i2.dcm").rename(tmp_path / name)
    damage(tmp_path / name)
    record = examine(replace(at, row=replace(at.row, image=name)))
    (found,) = record.findings
    assert (found.severity, found.file, found.row, found.field) == ("warning", "image of row 2", 2, "image")
    assert "left out" in found.remedy
    assert not record.usable
    assert record.left_out


@pytest.mark.parametrize("damage", [_absent, _empty, _truncated, _text, _folder])
def test_a_damaged_mask_leaves_the_image_out(tmp_path: Path, damage: Any) -> None:
    at = put(tmp_path, phantom())
    damage(tmp_path / "m2.png")
    record = examine(at)
    (found,) = record.findings
    assert (found.severity, found.row, found.field) == ("warning", 2, "mask")
    assert record.left_out
    assert record.content


def test_a_check_that_fails_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(pixels: Any) -> Any:
        raise ZeroDivisionError("Anna Muster")

    monkeypatch.setattr(images, "find_text", fails)
    record = examine(put(tmp_path, phantom()))
    (found,) = record.findings
    assert (found.rule, found.severity, found.row) == ("check-failed", "warning", 2)
    assert "ZeroDivisionError" in found.seen
    assert "Muster" not in str(found)
    assert record.left_out


def test_nothing_that_a_look_says_names_a_person(tmp_path: Path) -> None:
    secrets = {"PatientName": "Muster^Anna", "PatientID": "H77315501", "InstitutionName": "Klinik am See"}
    at = put(tmp_path, phantom(), PatientBirthDate="19500131", PatientIdentityRemoved="NO", **secrets)
    name = "Anna_Muster_19500131.dcm"
    (tmp_path / "i2.dcm").rename(tmp_path / name)
    record = examine(replace(at, row=replace(at.row, image=name)))
    said = repr((record.findings, record.facts, record.device, record.header_id, compare([record], STUDY)))
    assert rules(record.findings) == {"identity-header": 1}
    for secret in ("Anna", "Muster", "H7731", "7315501", "Klinik", "1950", "P0001"):
        assert secret not in said


# ---- all images ------------------------------------------------------------------------------------------------------


def test_without_images_in_the_study_nothing_is_compared(tmp_path: Path) -> None:
    record = examine(put(tmp_path, phantom()))
    assert compare([record, record], tables_study()) == ()
    assert rules(compare([record, record], STUDY)) == {"duplicate-image": 1, "devices": 1}


@pytest.mark.slow
def test_workers_start_without_torch() -> None:
    code = "import sys, client.quality.images; print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - fixed
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_synthetic_hospitals_are_clean(tmp_path: Path, seed: int) -> None:
    """Their masks and images are true, so every warning is a false alarm."""
    for folder in make_cohort(tmp_path / "all", scale="tiny", seed=seed, workers=1).values():
        place = folder / "calibration.csv"
        calibrations = read_calibrations(place) if place.exists() else {}
        with (folder / "images.csv").open(encoding="utf-8") as file:
            rows = [
                ImageRow(n, r["image"], r["participant_id"], r["mask"], muscle=r["muscle"])
                for n, r in enumerate(csv.DictReader(file), start=2)
            ]
        records = [examine(look(folder, r, calibration=calibrations.get(r.image))) for r in rows]
        findings = [*(f for record in records for f in record.findings), *compare(records, STUDY)]
        assert rules(findings, "error", "warning") == {}
        assert set(rules(findings)) <= {"burned-in-outside", "devices", "identity-header", "mask-border"}
        assert all(record.usable for record in records)
