"""A copy reads like its source, frame by frame and label by label; what a person should see first is not copied."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread

from client.intake.copying import PART, Job, Outcome, chosen_frames, copy, mask_values
from sarco_models.errors import MaskError, UnreadableImage
from sarco_models.images import Calibration, Frame, read_image
from sarco_models.masks import mask_labels, read_mask
from tests.exports import MM, REGION, screen, write_labelme, write_named_dicom, write_nifti


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A DICOM still and its NIfTI mask, to copy into ``tmp_path / data``."""
    frame, mask = screen(np.random.default_rng(1))
    return Job(
        source=write_named_dicom(tmp_path / "IM1", frame, "77", "A^B", "20240101"),
        mask=write_nifti(tmp_path / "IM1.nii.gz", mask),
        folder=tmp_path / "data",
        name="P0001_01",
        person="P0001",
        path="x/IM1",
        secret=b"s" * 32,
    )


def rules(outcome: Outcome) -> list[tuple[str, str]]:
    return [(f.severity, f.rule) for f in outcome.findings]


def read_copy(job: Job, outcome: Outcome, index: int = 0) -> Frame:
    made = outcome.copies[index]
    return read_image(job.folder / f"{made.image}{PART}", made.calibration)


# ---- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pydicoms_own_files_are_copied_to_the_bit_or_refused(job: Job) -> None:
    """Palettes, planes, YBR, 16 bits, JPEG, JPEG-LS, JPEG 2000, RLE; whatever read_image reads of them."""
    read = 0
    for number, path in enumerate(sorted(Path(pydicom.data.__file__).with_name("test_files").rglob("*.dcm"))):
        whole = replace(
            job, source=path, mask=None, frames="first", checked=True, name=f"P0001_{number}",
            calibration=Calibration(None, (0.1, 0.1)),
        )  # fmt: skip
        outcome = copy(whole)
        try:
            before = read_image(path, whole.calibration, 0)
        except UnreadableImage:
            assert (outcome.copies, len(outcome.findings)) == ((), 1), path.name
            continue
        after = read_copy(whole, outcome)
        np.testing.assert_array_equal(after.pixels, before.pixels)
        assert after.mm_per_pixel == before.mm_per_pixel
        assert (after.origin, after.stored_shape) == (before.origin, before.stored_shape)
        assert after.facts.lossy == before.facts.lossy
        read += 1
    assert read >= 5


@pytest.mark.parametrize(
    ("choice", "count", "frames"),
    [("first", 9, [0]), ("middle", 9, [4]), ("middle", 1, [0]), ("each", 3, [0, 1, 2]), (2, 9, [2]), (2, 1, [0])],
)
def test_frames_of_a_cine(choice: str | int, count: int, frames: list[int]) -> None:
    assert list(chosen_frames(choice, count)) == frames  # type: ignore[arg-type]


@pytest.fixture
def cine(job: Job, tmp_path: Path) -> tuple[Job, list[NDArray[np.uint8]]]:
    """A TIFF of three frames, with a mask."""
    frames = [screen(np.random.default_rng(k))[0] for k in range(3)]
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(tmp_path / "cine.tif", save_all=True, append_images=pictures[1:])
    return replace(job, source=tmp_path / "cine.tif", calibration=Calibration(REGION, (MM, MM))), frames


def test_the_chosen_frame_is_copied_and_its_mask_is_questioned(cine: tuple[Job, list[NDArray[np.uint8]]]) -> None:
    job, frames = cine
    x0, y0, x1, y1 = REGION
    outcome = copy(replace(job, frames="middle"))
    np.testing.assert_array_equal(read_copy(job, outcome).pixels, frames[1][y0:y1, x0:x1])
    assert rules(outcome) == [("note", "cine")]
    assert rules(copy(replace(job, frames=2))) == [], "somebody said which"
    assert rules(copy(replace(job, frames=7))) == [("warning", "frame-index")]


def test_of_a_cine_each_frame_is_a_still_without_the_one_mask(cine: tuple[Job, list[NDArray[np.uint8]]]) -> None:
    job, frames = cine
    x0, y0, x1, y1 = REGION
    outcome = copy(replace(job, frames="each"))
    assert [c.image for c in outcome.copies] == [f"images/P0001_01_f{k:03d}.png" for k in range(3)]
    for k, frame in enumerate(frames):
        np.testing.assert_array_equal(read_copy(job, outcome, k).pixels, frame[y0:y1, x0:x1])
    assert {c.mask for c in outcome.copies} == {""}
    assert rules(outcome) == [("warning", "mask-of-cine")]


# ---- what a person should see first ----------------------------------------------------------------------------------


def test_a_name_inside_the_tissue_region_is_found_and_not_copied(job: Job, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    large = Image.fromarray(rng.rayleigh(22, (400, 500)).clip(0, 200).astype(np.uint8))
    font = ImageFont.load_default(22)
    ImageDraw.Draw(large).text((60, 40), "WANG XIAOMING 1953-05-17", fill=255, font=font)
    large.save(tmp_path / "x.png")
    named = replace(job, source=tmp_path / "x.png", mask=None, calibration=Calibration((0, 0, 500, 400), None))
    outcome = copy(named)
    assert outcome.copies == ()
    assert rules(outcome) == [("warning", "burned-in-text")]
    assert not list(job.folder.rglob("*.png*"))
    assert len(copy(replace(named, checked=True)).copies) == 1


def test_colour_is_refused_unless_the_hospital_keeps_it_as_grey(job: Job, tmp_path: Path) -> None:
    frame, _ = screen(np.random.default_rng(1))
    colour = np.repeat(frame[..., None], 3, axis=2)
    colour[40:70, 40:80] = (220, 40, 20)
    source = write_named_dicom(tmp_path / "doppler", colour, "77", "A^B", "20240101")
    doppler = replace(job, source=source, mask=None, keep_text=True)  # sharp edges may look like strokes
    assert ("warning", "colour") in rules(copy(doppler))
    kept = copy(replace(doppler, keep_colour=True))
    assert ("note", "colour") in rules(kept)
    np.testing.assert_array_equal(read_copy(doppler, kept).pixels, read_image(source).pixels)


# ---- masks -----------------------------------------------------------------------------------------------------------


def two_labels() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    _, mask = screen(np.random.default_rng(1))
    left = mask.copy()
    left[:, 64:] = False
    return left, mask & ~left


def test_label_values_are_kept(job: Job) -> None:
    left, right = two_labels()
    write_nifti(job.mask, left * 3 + right * 300)  # type: ignore[arg-type]
    outcome = copy(job)
    assert rules(outcome) == [("warning", "several-labels")]
    path = job.folder / f"{outcome.copies[0].mask}{PART}"
    assert mask_labels(path) == ("3", "300")
    x0, y0, x1, y1 = REGION
    frame = read_copy(job, outcome)
    np.testing.assert_array_equal(read_mask(path, frame, label=300), right[y0:y1, x0:x1])


def test_the_wanted_label_is_copied_alone(job: Job) -> None:
    left, right = two_labels()
    write_nifti(job.mask, left * 3 + right * 4)  # type: ignore[arg-type]
    outcome = copy(replace(job, label="4"))
    assert rules(outcome) == []
    x0, y0, x1, y1 = REGION
    copied = read_mask(job.folder / f"{outcome.copies[0].mask}{PART}", read_copy(job, outcome))
    np.testing.assert_array_equal(copied, right[y0:y1, x0:x1])


def test_names_of_labels_need_numbers_and_are_not_copied(job: Job, tmp_path: Path) -> None:
    left, right = two_labels()
    source = write_labelme(tmp_path / "two.json", left, "IM1", "", "")
    page = json.loads(source.read_text())
    other = write_labelme(tmp_path / "other.json", right, "IM1", "", "")
    page["shapes"] += json.loads(other.read_text())["shapes"]
    page["shapes"][0]["label"], page["shapes"][1]["label"] = "Frau Meiers Muskel", "fat"
    source.write_text(json.dumps(page))
    named = replace(job, mask=source)
    outcome = copy(named)
    assert rules(outcome) == [("warning", "label")]
    assert outcome.copies[0].mask == "", "the image is copied all the same"
    assert "Meier" not in str(outcome)
    numbered = copy(replace(named, labels={"Frau Meiers Muskel": 1, "fat": 2}))
    assert mask_labels(job.folder / f"{numbered.copies[0].mask}{PART}") == ("1", "2")
    one = copy(replace(named, label="fat"))
    assert mask_labels(job.folder / f"{one.copies[0].mask}{PART}") == ("1",)


def test_labels_that_overlap_have_no_picture(job: Job, tmp_path: Path) -> None:
    left, _ = two_labels()
    source = write_labelme(tmp_path / "two.json", left, "IM1", "", "")
    page = json.loads(source.read_text())
    page["shapes"] += [page["shapes"][0] | {"label": "again"}]
    source.write_text(json.dumps(page))
    with pytest.raises(MaskError, match="pixels in two labels"):
        mask_values(source, read_image(job.source), "", {"rectus_femoris": 1, "again": 2})


def test_a_mask_that_does_not_fit_is_left_out_with_its_reason(job: Job) -> None:
    write_nifti(job.mask, np.ones((10, 10), dtype=np.bool_))  # type: ignore[arg-type]
    outcome = copy(job)
    assert rules(outcome) == [("warning", "mask-size")]
    assert (outcome.copies[0].mask, outcome.findings[0].file) == ("", "")


# ---- headers ---------------------------------------------------------------------------------------------------------


def test_a_header_that_is_damaged_lends_nothing(job: Job) -> None:
    data = dcmread(job.source)
    data.ManufacturerModelName = "A B's machine"
    data.save_as(job.source)
    outcome = copy(job)
    made = dcmread(job.folder / f"{outcome.copies[0].image}{PART}")
    assert made.ManufacturerModelName == "A B's machine", "words of one letter are nobody's"
    data.OperatorsName = "Machine^Anna"
    data.save_as(job.source)
    made = dcmread(job.folder / f"{copy(job).copies[0].image}{PART}")
    assert made.ManufacturerModelName == ""


def test_a_spacing_survives_the_change_of_unit_but_for_its_last_bit(job: Job) -> None:
    """DICOM's deltas are centimetres; not every number is ten times another."""
    data = dcmread(job.source)
    data.SequenceOfUltrasoundRegions[0].PhysicalUnitsXDirection = 0
    data.save_as(job.source)
    for mm in np.random.default_rng(2).uniform(0.02, 0.4, 50):
        spaced = replace(job, mask=None, checked=True, calibration=Calibration(None, (float(mm), float(mm / 2))))
        assert read_copy(spaced, copy(spaced)).mm_per_pixel == pytest.approx((mm, mm / 2), rel=3e-16)
