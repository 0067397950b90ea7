"""What was found is read back where it was found, and no correction is ever written over."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from sarco_models.errors import ConfigError
from sarco_models.images import Frame
from sarco_models.mask_files import (
    LEAST_DICE,
    Pictured,
    colour_of,
    label_descriptions,
    on_stored_frame,
    outlines,
    spacing_for_itk,
    write_labelme,
    write_nifti,
    write_png,
)
from sarco_models.masks import mask_labels, read_mask
from sarco_models.outline_faults import outline_faults
from sarco_models.outline_tracing import loops

STORED, ORIGIN, REGION = (120, 160), (20, 30), (70, 110)
SPACING = (0.1, 0.2)
NAMES = ("rectus_femoris", "vastus")
PICTURE = Pictured("../images/a.png", {"accepted": True})


@pytest.fixture
def frame() -> Frame:
    return Frame(np.zeros(REGION, np.uint8), SPACING, "", ORIGIN, STORED)


@pytest.fixture
def classes() -> NDArray[np.uint8]:
    """Two muscles on the region, the second with a hole and a fragment."""
    found = np.zeros(REGION, np.uint8)
    found[ellipse(REGION, (20, 50), (12, 40))] = 1
    found[ellipse(REGION, (50, 60), (15, 35))] = 2
    found[ellipse(REGION, (50, 60), (4, 7))] = 0
    found[40:44, 3:9] = 2
    return found


def ellipse(shape: tuple[int, int], centre: tuple[float, float], half: tuple[float, float]) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside: NDArray[np.bool_] = ((rows - centre[0]) / half[0]) ** 2 + ((columns - centre[1]) / half[1]) ** 2 < 1
    return inside


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def blob(rng: np.random.Generator, shape: tuple[int, int] = (60, 90)) -> NDArray[np.bool_]:
    """Pieces of any form, with holes, some touching by a corner or the border."""
    import cv2

    smooth = cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), float(rng.uniform(0.5, 6)))
    return np.asarray(smooth > rng.normal() * smooth.std() / 2)


# ---- NIfTI and PNG ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "png"])
def test_a_label_map_is_read_back_to_the_pixel(
    tmp_path: Path, frame: Frame, classes: NDArray[np.uint8], suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    stored = on_stored_frame(classes, frame)
    if suffix == "png":
        write_png(path, stored)
    else:
        write_nifti(path, stored, SPACING)
    assert mask_labels(path) == ("1", "2")
    for number in (1, 2):
        np.testing.assert_array_equal(read_mask(path, frame, label=number), classes == number)


def test_a_nifti_has_the_geometry_that_itk_gives_the_picture(tmp_path: Path, classes: NDArray[np.uint8]) -> None:
    """ITK-SNAP lays a segmentation on an image of the same size, spacing, origin and axes."""
    Image.fromarray(classes).save(tmp_path / "picture.png")
    write_nifti(tmp_path / "mask.nii.gz", classes)
    picture, mask = sitk.ReadImage(str(tmp_path / "picture.png")), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert mask.GetSize()[:2] == picture.GetSize()
    assert mask.GetSpacing()[:2] == picture.GetSpacing()
    assert mask.GetOrigin()[:2] == picture.GetOrigin()
    assert mask.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert mask.GetPixelIDValue() == sitk.sitkUInt8


def test_spacing_is_written_and_a_mask_of_other_millimetres_is_refused_on_the_frame(
    tmp_path: Path, frame: Frame, classes: NDArray[np.uint8]
) -> None:
    write_nifti(tmp_path / "a.nii.gz", classes, SPACING)
    np.testing.assert_allclose(sitk.ReadImage(str(tmp_path / "a.nii.gz")).GetSpacing(), (SPACING[1], SPACING[0], 1))
    write_nifti(tmp_path / "b.nii.gz", classes, (0.15, 0.2))
    with pytest.raises(Exception, match="as in the image"):
        read_mask(tmp_path / "b.nii.gz", frame, label=1)


def test_a_spacing_is_written_only_where_itk_sees_it_too(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros(REGION, np.uint8))
    image.SetSpacing((0.2, 0.1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    Image.fromarray(np.zeros(REGION, np.uint8)).save(tmp_path / "b.png")
    Image.fromarray(np.zeros(REGION, np.uint8)).save(tmp_path / "c.tif", dpi=(72, 72))
    (tmp_path / "d.png").write_bytes(b"no picture")
    assert spacing_for_itk(tmp_path / "a.mha", SPACING) == SPACING
    for name in ("b.png", "c.tif", "d.png"):
        assert spacing_for_itk(tmp_path / name, SPACING) is None


def test_equal_maps_make_equal_files(tmp_path: Path, classes: NDArray[np.uint8]) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", classes, SPACING)
        write_png(tmp_path / f"{name}.png", classes)
        write_labelme(tmp_path / f"{name}.json", classes, NAMES, PICTURE)
    for suffix in ("nii.gz", "png", "json"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_a_png_shows_each_muscle_in_its_colour(tmp_path: Path, classes: NDArray[np.uint8]) -> None:
    write_png(tmp_path / "a.png", classes)
    with Image.open(tmp_path / "a.png") as picture:
        shown = np.asarray(picture.convert("RGB"))
    assert {tuple(c) for c in shown.reshape(-1, 3).tolist()} == {(0, 0, 0), colour_of(1), colour_of(2)}


def test_itk_snap_is_told_names_and_colours() -> None:
    lines = label_descriptions(NAMES).splitlines()
    assert lines[1].split()[:4] == ["1", *map(str, colour_of(1))]
    assert lines[2].endswith('"vastus"')


# ---- LabelMe ---------------------------------------------------------------------------------------------------------


def test_outlines_in_labelme_are_read_back_within_half_a_pixel(
    tmp_path: Path, frame: Frame, classes: NDArray[np.uint8]
) -> None:
    write_labelme(tmp_path / "a.json", on_stored_frame(classes, frame), NAMES, PICTURE)
    assert mask_labels(tmp_path / "a.json") == NAMES
    for number, name in enumerate(NAMES, start=1):
        assert dice(read_mask(tmp_path / "a.json", frame, label=name), classes == number) > 0.995


def test_a_labelme_file_is_what_labelme_opens(tmp_path: Path, classes: NDArray[np.uint8]) -> None:
    """Keys and types of labelme 5.5 (label_file.py): fewer, and it says that the file is invalid."""
    write_labelme(tmp_path / "a.json", classes, NAMES, PICTURE)
    page = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert list(page) == ["version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"]
    assert page["imagePath"] == "../images/a.png"
    assert page["flags"] == {"accepted": True}
    assert (page["imageHeight"], page["imageWidth"]) == REGION
    assert {s["shape_type"] for s in page["shapes"]} == {"polygon"}
    assert [s["label"] for s in page["shapes"]] == ["rectus_femoris", "vastus", "vastus"]
    assert [s["group_id"] for s in page["shapes"]] == [1, 2, 2], "pieces of one muscle belong together"


def test_an_outline_has_no_more_points_than_a_person_moves() -> None:
    (outline,) = outlines(ellipse((400, 900), (200, 450), (100, 300)))
    assert len(outline) < 90


@pytest.mark.parametrize("seed", range(8))
def test_any_mask_comes_back_from_its_outlines(seed: int) -> None:
    from sarco_models.labelme import inside_polygon

    mask = blob(np.random.default_rng(seed))
    back = np.zeros_like(mask)
    for outline in outlines(mask):
        piece = inside_polygon(outline, (mask.shape[0], mask.shape[1]))
        assert not (back & piece).any() or dice(back | piece, mask) > 0.9
        back |= piece
    assert dice(back, mask) >= LEAST_DICE - 0.001


@pytest.mark.parametrize("seed", range(4))
def test_an_outline_of_ours_is_one_that_a_study_takes(tmp_path: Path, seed: int) -> None:
    """A slit to a hole touches itself; it is no outline that crosses itself."""
    write_labelme(tmp_path / "a.json", blob(np.random.default_rng(seed)).astype(np.uint8), NAMES, PICTURE)
    assert not [f for f in outline_faults(tmp_path / "a.json", lambda _: True) if f.severity == "error"]


def test_the_unsimplified_loop_holds_the_centres_of_exactly_its_pixels() -> None:
    from sarco_models.labelme import inside_polygon

    mask = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0]], dtype=bool)
    outer, holes = loops(mask)
    assert len(holes) == 1
    filled = inside_polygon(outer, (4, 4)) ^ inside_polygon(holes[0], (4, 4))
    np.testing.assert_array_equal(filled, mask)


def test_a_single_pixel_has_an_outline() -> None:
    mask = np.zeros((5, 7), dtype=bool)
    mask[2, 3] = True
    (outline,) = outlines(mask)
    np.testing.assert_allclose(outline.mean(axis=0), (3.5, 2.5))


def test_nothing_found_is_no_outline_and_a_file_all_the_same(tmp_path: Path) -> None:
    empty = np.zeros(REGION, np.uint8)
    assert outlines(empty == 1) == []
    write_labelme(tmp_path / "a.json", empty, NAMES, PICTURE)
    assert mask_labels(tmp_path / "a.json") == ()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_exists_is_left_alone_unless_it_is_said(tmp_path: Path, classes: NDArray[np.uint8]) -> None:
    path = tmp_path / "a.png"
    path.write_text("a radiologist's correction")
    with pytest.raises(ConfigError, match="--overwrite"):
        write_png(path, classes)
    assert path.read_text() == "a radiologist's correction"
    write_png(path, classes, overwrite=True)
    assert mask_labels(path) == ("1", "2")


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_png(tmp_path / "a.png", np.zeros(REGION, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_itk_s_failure_is_told_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("sitk::ERROR: ...")

    monkeypatch.setattr(sitk, "WriteImage", broken)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_nifti(tmp_path / "a.nii.gz", np.zeros(REGION, np.uint8))


def test_a_nifti_has_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.nii"):
        write_nifti(tmp_path / "a.png", np.zeros(REGION, np.uint8))
