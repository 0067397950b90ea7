"""Headers of NIfTI, NRRD, MHA and GIPL files, looked at before ITK reads them.

ITK (5.4) trusts a header: an axis of length 1e308 makes it loop for ever, 10^39 dimensions take the process down, and a
text header may name any file of the disk as its pixels.
"""

import gzip
import re
import struct
from pathlib import Path

from sarco_models.errors import MaskError
from sarco_models.labelme import mask_refusal

_MAX_HEADER = 1 << 18  # bytes; 3D Slicer writes a few lines for every segment
_MAX_NUMBER = 1e9  # larger than any count of pixels or distance in millimetres
_GIPL_MAGIC = (0xEFFFE9B0, 0x2AE389B8)
_META_NUMBERS = re.compile(
    r"(NDims|TransformMatrix|Rotation|Orientation|Offset|Position|Origin|CenterOfRotation|Element(Spacing|Size|Number"
    r"OfChannels)|DimSize|HeaderSize|CompressedDataSize)\s*="
)
_NRRD_NUMBERS = re.compile(
    r"(dimension|sizes|spacings|thicknesses|space (directions|origin|dimension)|axis ?(mins|maxs)|(line|byte) ?skip)"
    r"\s*:",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan|inf)", re.IGNORECASE)


def itk_reader(path: Path) -> str:
    """Name of ITK's reader for a mask, by the file's content.

    Raises:
        MaskError: none of the four formats, or a header with which ITK cannot be trusted.
    """
    head = _head(path)
    if head.startswith(b"NRRD"):
        _check_text(re.split(rb"\r?\n\r?\n", head, maxsplit=1), _NRRD_NUMBERS, (rb"^data ?file\s*:", False))
        return "NrrdImageIO"
    if head[344:348] in (b"n+1\0", b"ni1\0") and head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):
        _check_nifti(head, "<" if head[0] else ">")
        return "NiftiImageIO"
    if len(head) >= 256 and int.from_bytes(head[252:256]) in _GIPL_MAGIC:
        return "GiplImageIO"
    if b"ElementDataFile" in head:
        parts = re.split(rb"(?<=ElementDataFile)([^\n]*\n)", head, maxsplit=1)
        _check_text([b"".join(parts[:2]), *parts[2:]], _META_NUMBERS, (rb"^ElementDataFile\s*=\s*LOCAL\s*$", True))
        return "MetaImageIO"
    seen = "no header of these formats"
    expected = "NIfTI, NRRD, MHA or GIPL with its pixels in one file, PNG or LabelMe JSON"
    raise mask_refusal("mask-file", seen, expected, "save it again in one of these formats")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        return file.read(_MAX_HEADER)


def _check_text(parts: list[bytes], numbers: re.Pattern[str], line: tuple[bytes, bool]) -> None:
    """Numbers within reason, and pixels in this file: a header has, or has not, this line."""
    if len(parts) < 2:
        raise _odd("a header without an end")
    pattern, wanted = line
    if bool(re.search(pattern, parts[0], re.MULTILINE | re.IGNORECASE)) != wanted:
        raise _odd("pixels in another file")
    for row in parts[0].decode("latin-1").splitlines():
        field = numbers.match(row)
        if field is None:
            continue
        name, text = field[1], row[field.end(1) :]
        for number in _NUMBER.findall(text):
            _check(number)
        if name in ("NDims", "dimension") and not re.search(r"^\s*[=:]\s*[2345]\s*$", text):
            raise _odd("a header with other than 2 to 5 dimensions")


def _check_nifti(head: bytes, order: str) -> None:
    """Voxel sizes, offset of the pixels, and both orientations (NIfTI-1: nifti1.h)."""
    numbers = struct.unpack_from(f"{order}4f", head, 76) + struct.unpack_from(f"{order}f", head, 108)
    for number in numbers + struct.unpack_from(f"{order}18f", head, 256):
        _check(number)


def _check(number: str | float) -> None:
    try:
        reasonable = abs(float(number)) <= _MAX_NUMBER  # False for NaN
    except ValueError:
        reasonable = False
    if not reasonable:
        raise _odd("a header with a number beyond any size or distance")


def _odd(seen: str) -> MaskError:
    expected = "a header as ITK-SNAP or 3D Slicer writes it, and the pixels in the same file"
    return mask_refusal("mask-file", seen, expected, "save it again")
