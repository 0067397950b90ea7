"""Still ultrasound frames from the files that hospitals have; identifiers stop here.

Nothing leaves this module but the grey pixels of the two-dimensional tissue region, their size in millimetres, and
facts such as the scanner's name. Whatever a scanner burns in around that region (names, dates, rulers, logos) is cut
off unread.

DICOM (``dicom``); JPEG, PNG, TIFF and BMP (``pictures``). A file is judged by its content, never by its suffix. Where
the tissue lies is said by the file, by the hospital (``hints``), or seen in the pixels (``screens``). Every failure is
an ``UnreadableImage``.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image, UnidentifiedImageError

from sarco_models import dicom, pictures
from sarco_models.errors import Finding, UnreadableImage
from sarco_models.frames import MAX_PIXELS, Box, Facts, Frame, too_large
from sarco_models.hints import Calibration, Hints, Template, read_calibrations

__all__ = [
    "MAX_PIXELS",
    "Box",
    "Calibration",
    "Facts",
    "Frame",
    "Template",
    "frame_count",
    "read_calibrations",
    "read_image",
]

Read = TypeVar("Read")


def read_image(
    path: Path,
    calibration: Calibration | None = None,
    frame_index: int | None = None,
    *,
    templates: tuple[Template, ...] = (),
    colour: bool = False,
) -> Frame:
    """Tissue pixels, spacing, device and facts of one frame.

    Args:
        path: DICOM, JPEG, PNG, TIFF or BMP file.
        calibration: used where the file itself names no region, no spacing or no device.
        frame_index: which frame of a cine or stack, from 0; a file of several frames is refused without it.
        templates: of the hospital's devices, used where neither file nor calibration speaks.
        colour: fill ``facts.colour_share``; the pixels are the same, and a JPEG takes longer.

    Raises:
        UnreadableImage: with one finding that names the file, never a value of its header that could name a person.
    """
    hints = Hints(path, calibration, templates)

    def read(file: BinaryIO) -> Frame:
        reader = dicom.read_dicom if dicom.is_dicom(file) else pictures.read_picture
        return reader(file, hints, frame_index, colour=colour)

    return _reading(path, read)


def frame_count(path: Path) -> int:
    """Number of frames in an image file; nothing is decoded.

    Raises:
        UnreadableImage: see :func:`read_image`.
    """

    def count(file: BinaryIO) -> int:
        return dicom.count_frames(file) if dicom.is_dicom(file) else pictures.count_frames(file)

    return _reading(path, count)


def _reading(path: Path, read: Callable[[BinaryIO], Read]) -> Read:
    """What ``read`` makes of the file; every failure becomes one finding that quotes nothing of the file."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values
            return read(file)
    except UnreadableImage as fault:
        raise UnreadableImage(replace(f, file=path.name) for f in fault.findings) from None
    except Exception as fault:  # decoders raise anything on damaged bytes; their texts may quote the header
        raise UnreadableImage([_explained(fault, path.name)]) from None


def _explained(fault: Exception, name: str) -> Finding:
    """A finding for whatever the operating system or a decoder raised."""
    if isinstance(fault, Image.DecompressionBombError):
        return replace(too_large("a header claiming more than 10^8 pixels").findings[0], file=name)
    if isinstance(fault, UnidentifiedImageError):
        seen, expected = "unknown content", "DICOM, JPEG, PNG, TIFF or BMP, whatever the suffix"
        return Finding("error", "format", name, seen, expected, "export the frame again in one of these formats")
    if isinstance(fault, OSError) and fault.errno is not None:
        seen = fault.strerror or "not readable"
        return Finding("error", "file", name, seen, "a readable file", "correct the path in images.csv")
    seen = f"decoding stopped ({type(fault).__name__})"
    return Finding("error", "decode", name, seen, "a complete image file", "copy or export it again: it is damaged")
