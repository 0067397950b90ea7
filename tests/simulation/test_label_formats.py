"""Masks with several muscles, read back by the programs' own rules."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from sarco_models.images import Frame
from sarco_models.mask_files import colour_of
from sarco_models.masks import mask_labels, read_mask
from simulation.label_formats import NUMBERS, SUFFIX, Format, itksnap_descriptions, label_in, mask_bytes

SIZE = (40, 60)


def box(top: int, left: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[top : top + 12, left : left + 20] = True
    return mask


BICEPS, TRICEPS = box(5, 4), box(20, 33)


def written(tmp_path: Path, kind: Format, drawn: list[tuple[str, NDArray[np.bool_]]]) -> Path:
    path = tmp_path / f"mask{SUFFIX[kind]}"
    path.write_bytes(mask_bytes(kind, drawn, SIZE, "../images/1.dcm"))
    return path


@pytest.mark.parametrize("kind", SUFFIX)
def test_two_muscles_are_read_back_by_their_labels(tmp_path: Path, kind: Format) -> None:
    path = written(tmp_path, kind, [("biceps_brachii", BICEPS), ("triceps_brachii", TRICEPS)])
    frame = Frame(np.zeros(SIZE, np.uint8), None, "", (0, 0), SIZE)
    assert set(mask_labels(path)) == {label_in(kind, "biceps_brachii"), label_in(kind, "triceps_brachii")}
    for muscle, mask in (("biceps_brachii", BICEPS), ("triceps_brachii", TRICEPS)):
        read = read_mask(path, frame, label=label_in(kind, muscle))
        assert (read ^ mask).sum() <= (0.03 * mask.sum() if kind == "labelme" else 0)


@pytest.mark.parametrize("kind", SUFFIX)
def test_two_pieces_are_one_muscle(tmp_path: Path, kind: Format) -> None:
    path = written(tmp_path, kind, [("rectus_abdominis", BICEPS), ("rectus_abdominis", TRICEPS)])
    assert mask_labels(path) == (label_in(kind, "rectus_abdominis"),)
    if kind == "labelme":
        shapes = json.loads(path.read_text())["shapes"]
        assert [s["group_id"] for s in shapes] == [3, 3]


@pytest.mark.parametrize("kind", SUFFIX)
def test_nothing_drawn_is_a_mask_without_labels(tmp_path: Path, kind: Format) -> None:
    path = written(tmp_path, kind, [("biceps_brachii", np.zeros(SIZE, bool))])
    assert mask_labels(path) == ()


def test_labelme_has_the_fields_of_version_5(tmp_path: Path) -> None:
    page = json.loads(written(tmp_path, "labelme", [("biceps_brachii", BICEPS)]).read_text())
    assert page["imageData"] is None
    assert (page["version"], page["imagePath"], page["flags"]) == ("5.5.0", "../images/1.dcm", {"checked": True})
    assert (page["imageHeight"], page["imageWidth"]) == SIZE
    (shape,) = page["shapes"]
    assert set(shape) == {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}
    assert (shape["label"], shape["shape_type"], shape["group_id"]) == ("biceps", "polygon", None)


def test_itksnaps_label_map_is_one_slice_of_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "itksnap", [("biceps_brachii", BICEPS), ("rectus_femoris", TRICEPS)])
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert values.shape == (1, *SIZE)
    assert np.array_equal(values[0], BICEPS * 1 + TRICEPS * 4)


def test_itksnaps_descriptions_name_every_number() -> None:
    lines = [line for line in itksnap_descriptions().decode().splitlines() if not line.startswith("#")]
    rows = [(line.split('"')[0].split(), line.split('"')[1]) for line in lines]
    assert [int(cells[0]) for cells, _ in rows] == [0, *NUMBERS.values()]
    assert [len(cells) for cells, _ in rows] == [7] * 6
    assert rows[0][1] == "Clear Label"
    assert rows[NUMBERS["rectus_femoris"]][1] == "Rectus femoris"


def test_the_palette_shows_every_muscle_in_its_own_colour(tmp_path: Path) -> None:
    content = mask_bytes("palette", [("triceps_brachii", BICEPS)], SIZE, "")
    picture = Image.open(BytesIO(content))
    assert picture.mode == "P"
    assert picture.convert("RGB").getpixel((5, 6)) == colour_of(2)
    assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
