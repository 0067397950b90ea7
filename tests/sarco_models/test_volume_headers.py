"""A mask's header may ask for nothing that a mask does not need: no other file, no absurd number."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from sarco_models.errors import MaskError
from sarco_models.images import Frame
from sarco_models.masks import mask_labels, read_mask
from sarco_models.volume_headers import itk_reader

SIZE = (20, 30)


def volume(folder: Path, suffix: str) -> Path:
    mask = np.zeros((1, *SIZE), dtype=np.uint16)
    mask[0, 5:15, 5:25] = 1
    path = folder / f"mask.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(mask), str(path))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(MaskError) as error:
        mask_labels(path)
    (finding,) = error.value.findings
    assert (finding.rule, finding.file) == ("mask-file", path.name)
    return finding.seen


@pytest.mark.parametrize(
    ("suffix", "reader"),
    [("nii", "Nifti"), ("nii.gz", "Nifti"), ("nrrd", "Nrrd"), ("mha", "Meta"), ("gipl", "Gipl")],
)
def test_the_content_says_which_reader(tmp_path: Path, suffix: str, reader: str) -> None:
    assert itk_reader(volume(tmp_path, suffix)) == f"{reader}ImageIO"


@pytest.mark.parametrize(
    ("suffix", "old", "new"),
    [
        ("mha", b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd"),
        ("mha", b"ElementDataFile = LOCAL", b"ElementDataFile = LIST\n/etc/passwd"),
        ("nrrd", b"encoding: ", b"data file: /etc/passwd\nencoding: "),
        ("nrrd", b"encoding: ", b"DATAFILE: LIST\nencoding: "),
    ],
)
def test_pixels_in_another_file_are_not_fetched(tmp_path: Path, suffix: str, old: bytes, new: bytes) -> None:
    path = volume(tmp_path, suffix)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert refusal(path) == "pixels in another file"


@pytest.mark.parametrize(
    ("suffix", "old", "new"),
    [
        ("mha", b"NDims = 3", b"NDims = 1" + 39 * b"1"),
        ("mha", b"NDims = 3", b"NDims = 9"),
        ("mha", b"1 0 0 0 1", b"1 0 1e308 0 1"),
        ("mha", b"ElementSpacing = 1", b"ElementSpacing = nan"),
        ("mha", b"DimSize = 30", b"DimSize = 99999999999"),
        ("nrrd", b"dimension: 3", b"dimension: 33"),
        ("nrrd", b"(1,0,0)", b"(1,0,-1e308)"),
        ("nrrd", b"sizes: 30", b"sizes: 99999999999"),
    ],
)
def test_absurd_numbers_reach_no_decoder(tmp_path: Path, suffix: str, old: bytes, new: bytes) -> None:
    """ITK loops for ever on some of these, and takes the process down on others."""
    path = volume(tmp_path, suffix)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    assert refusal(path).startswith("a header with")


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("place", [80, 108, 268, 284])  # a voxel's size, the pixels' offset, both orientations
def test_absurd_numbers_in_nifti(tmp_path: Path, suffix: str, number: float, place: int) -> None:
    path = volume(tmp_path, suffix)
    content = bytearray(gzip.decompress(path.read_bytes()) if suffix == "nii.gz" else path.read_bytes())
    content[place : place + 4] = struct.pack("<f", number)
    path.write_bytes(gzip.compress(content) if suffix == "nii.gz" else content)
    assert refusal(path).startswith("a header with a number")


def test_a_header_without_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.nrrd"
    path.write_bytes(b"NRRD0004\n" + b"# a comment\n" * 60_000)
    assert refusal(path) == "a header without an end"


@pytest.mark.parametrize("suffix", ["tif", "vtk", "jpg", "bmp"])
def test_other_formats_that_itk_knows_are_no_masks(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mask.{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones(SIZE, dtype=np.uint8)), str(path))
    assert refusal(path) == "no header of these formats"


def test_a_slicer_header_with_many_fields_of_its_own_is_read(tmp_path: Path) -> None:
    path = volume(tmp_path, "nrrd")
    own = b"".join(b"Segment%d_ID:=Segment_20201231123456789\n" % k for k in range(40))
    path.write_bytes(path.read_bytes().replace(b"encoding: ", own + b"encoding: ", 1))
    frame = Frame(np.zeros(SIZE, dtype=np.uint8), None, "", (0, 0), SIZE)
    assert read_mask(path, frame).sum() == 200
