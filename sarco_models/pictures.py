"""JPEG, PNG, TIFF and BMP: frames that say nothing of themselves but their pixels."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sarco_models.colour import colour_share
from sarco_models.frames import EXPORT, Facts, Format, Frame, check_scans, check_size, frame_number, refusal
from sarco_models.hints import Compressed, Hints, Own
from sarco_models.sides import Inside

_FORMATS: dict[str, Format] = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "TIFF": "TIFF", "BMP": "BMP", "DIB": "BMP"}
_ORIENTATION = 0x0112
_ADOBE_RGB = 0  # transform 0 of Adobe's marker: three channels that are no YCbCr (T.872 6.5.3)


def read_picture(file: BinaryIO, hints: Hints, frame_index: int | None, *, colour: bool) -> Frame:
    """One frame, cut to its tissue region; printing resolution (dpi) is never taken for a spacing."""
    with _opened(file) as picture:
        count = getattr(picture, "n_frames", 1)
        number = frame_number(count, frame_index)
        if number:
            picture.seek(number)
        columns, rows = picture.size
        check_size(rows, columns)
        if picture.getexif().get(_ORIENTATION, 1) > 1:
            remedy = "export it upright, without an EXIF orientation"
            raise refusal("orientation", "a picture stored turned or mirrored", "pixels as displayed", remedy)
        kind = _FORMATS[picture.format or ""]
        jpeg = kind == "JPEG" or picture.info.get("compression") == "jpeg"
        if picture.info.get("progressive"):
            at = file.tell()
            file.seek(0)
            check_scans(file.read())
            file.seek(at)
        _draft(picture, colour=colour)
        compressed: Compressed = "blocks" if jpeg else ""
        place = hints.place(Own(), (rows, columns), whole=lambda: _grey(picture), compressed=compressed)
        box, inside = place.picture.box, place.picture.inside
        tissue = picture.crop(box)
        pixels = place.picture.cut(_grey(tissue))
        facts = Facts(
            kind,
            frames=count,
            region_from=place.region_from,
            spacing_from=place.spacing_from,
            lossy=jpeg,
            colour_share=_colour_share(tissue, inside) if colour else 0.0,
        )
    return Frame(pixels, place.mm_per_pixel, place.device, (box[1], box[0]), (rows, columns), facts)


def count_frames(file: BinaryIO) -> int:
    """Number of frames in the file; none is decoded."""
    with _opened(file) as picture:
        return int(getattr(picture, "n_frames", 1))


def _opened(file: BinaryIO) -> Image.Image:
    return Image.open(file, formats=("JPEG", "PNG", "TIFF", "BMP"))


def _draft(picture: Image.Image, *, colour: bool) -> None:
    """Decode JPEG to luma alone, or to luma and chroma: the luma is the same to the bit, and no RGB is computed."""
    if not colour:
        picture.draft("L", None)
    elif picture.info.get("adobe_transform") != _ADOBE_RGB:
        picture.draft("YCbCr", None)


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    """(height, width) luma."""
    if picture.mode == "YCbCr":
        return np.asarray(picture)[..., 0]
    if picture.mode.startswith("I;16"):
        return _high_byte(np.asarray(picture))
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK"):
        raise refusal("colour", f"pixels of kind {picture.mode}", "8- or 16-bit grey, or 8-bit colour", EXPORT)
    return np.asarray(picture.convert("L"))


def _high_byte(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0 to 65535 spread over 0 to 255, rounded."""
    grey = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), 256):  # by some rows at a time, for a large picture's memory
        grey[start : start + 256] = (values[start : start + 256].astype(np.uint32) * 255 + 32767) // 65535
    return grey


def _colour_share(picture: Image.Image, inside: Inside | None) -> float:
    if picture.mode == "YCbCr":
        return colour_share(np.asarray(picture), "YCbCr", inside)
    if picture.mode in ("1", "L", "LA") or picture.mode.startswith("I;16"):
        return 0.0
    return colour_share(np.asarray(picture.convert("RGB")), "RGB", inside)
