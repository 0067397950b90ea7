"""A still ultrasound frame that has left its file: grey tissue pixels, their size, and facts without a name."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import Finding, UnreadableImage

MAX_PIXELS = 36_000_000
"""Largest frame that is decoded, in pixels: four 4K screens. More is a damaged header or a decompression bomb."""

EXPORT = "export it as an ordinary 8-bit ultrasound image"
"""The remedy for pixels of a kind that no ultrasound scanner needs."""

_MAX_SCANS = 100  # encoders make ten

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in stored pixels; x1 and y1 are exclusive."""

Format = Literal["DICOM", "JPEG", "PNG", "TIFF", "BMP"]
RegionFrom = Literal["file", "calibration", "template", "found", "whole"]
SpacingFrom = Literal["file", "calibration", "template", ""]


@dataclass(frozen=True)
class Facts:
    """What a file says of itself and how it was read; nothing in it names a person.

    Attributes:
        format: what the content is, whatever the suffix.
        kind: DICOM's name of the kind of object, "" for pictures.
        transducer: as stored, "" when unknown.
        frames: in the file.
        burned_in: DICOM's BurnedInAnnotation, YES or NO; "" when it is not said.
        region_from: who said where the tissue is; ``whole`` = nobody, and nothing lies around it.
        spacing_from: who said the millimetres per pixel, "" = nobody.
        lossy: the pixels have been through lossy compression, as far as the file says.
        colour_share: share of the tissue region that is coloured, 0 to 1; 0 when it was not asked for.
    """

    format: Format
    kind: str = ""
    transducer: str = ""
    frames: int = 1
    burned_in: str = ""
    region_from: RegionFrom = "whole"
    spacing_from: SpacingFrom = ""
    lossy: bool = False
    colour_share: float = 0.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One still frame, cut to its tissue region.

    Attributes:
        pixels: (height, width) grey, 0 = black.
        mm_per_pixel: millimetres per pixel along (row, column); None = unknown, never assumed.
        device: manufacturer and model as stored, else as the hospital names it, "" when unknown.
        origin: (row, column) of the region's first pixel in the stored frame.
        stored_shape: rows and columns of the stored frame.
        facts: what the file says of itself.
    """

    pixels: NDArray[np.uint8]
    mm_per_pixel: tuple[float, float] | None
    device: str
    origin: tuple[int, int]
    stored_shape: tuple[int, int]
    facts: Facts = Facts("PNG")


def refusal(rule: str, seen: str, expected: str, remedy: str) -> UnreadableImage:
    """An error whose file name :func:`sarco_models.images.read_image` fills in."""
    return UnreadableImage([Finding("error", rule, "", seen=seen, expected=expected, remedy=remedy)])


def too_large(seen: str) -> UnreadableImage:
    """An error for more pixels than any scanner's frame has."""
    limit = f"at most {MAX_PIXELS:,} pixels"
    return refusal("too-large", seen, limit, "export a single frame at the scanner's own size")


def check_size(rows: int, columns: int) -> None:
    """Refuse what has no pixels, or more than :data:`MAX_PIXELS`, before anything is decoded."""
    if rows < 1 or columns < 1:
        raise refusal("no-pixels", f"{rows} rows and {columns} columns", "at least one pixel", "export it again")
    if rows * columns > MAX_PIXELS:
        raise too_large(f"{rows} rows and {columns} columns")


def check_scans(codestream: bytes) -> None:
    """Refuse a progressive JPEG that repeats its scans of the whole picture for hours (T.81 G.1.1)."""
    scans = codestream.count(b"\xff\xda")
    if scans > _MAX_SCANS:
        raise refusal("decode", f"{scans} scans of the same pixels", f"at most {_MAX_SCANS}", EXPORT)


def frame_number(count: int, wanted: int | None) -> int:
    """Index of the frame to read; several frames need a choice, for a still is what the study is about."""
    if wanted is None and count > 1:
        remedy = f"export a still, or choose a frame from 0 to {count - 1} in the column frame of images.csv"
        raise refusal("several-frames", f"{count} frames", "one still frame, or a frame index", remedy)
    number = wanted or 0
    if not 0 <= number < count:
        raise refusal("frame-index", f"frame index {number}", f"0 to {count - 1}", "correct the frame index")
    return number


def fits(box: Box, shape: tuple[int, int]) -> bool:
    """Whether a box lies inside a frame; one pixel too many is forgiven: some scanners count the maxima exclusively."""
    (x0, y0, x1, y1), (rows, columns) = box, shape
    across, down = 0 <= x0 < min(x1, columns), 0 <= y0 < min(y1, rows)
    return across and down and x1 <= columns + 1 and y1 <= rows + 1


def words(texts: Iterable[object]) -> str:
    """Header texts as one line, without what is absent."""
    return " ".join(" ".join(str(text or "") for text in texts).split())
