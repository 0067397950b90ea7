"""Still ultrasound frames from the files that hospitals have; identifiers stop here.

Nothing leaves this module but the grey pixels of the two-dimensional tissue region, their size in millimetres and the
scanner's name. Whatever a scanner burns in around that region (names, dates, rulers, logos) is cut off unread.

DICOM (PS3.3): US Image, US Multi-frame and Secondary Capture, native or compressed. JPEG, PNG, TIFF and BMP through
Pillow. A file is judged by its content, never by its suffix. Every failure is an ``UnreadableImage``.
"""

import csv
import logging
import math
import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options

from sarco_models.errors import DataError, Finding, UnreadableImage

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values, which may be a person's

MAX_PIXELS = 36_000_000
"""Largest frame that is decoded, in pixels: four 4K screens. More is a damaged header or a decompression bomb."""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in stored pixels; x1 and y1 are exclusive."""


@dataclass(frozen=True)
class Calibration:
    """What the hospital says about frames that do not say it themselves; the file's own word comes first.

    Attributes:
        region: tissue region as x0, y0, x1, y1 in stored pixels, x1 and y1 exclusive; None = the whole frame.
        mm_per_pixel: millimetres per pixel along (row, column); None = unknown.
    """

    region: Box | None
    mm_per_pixel: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Frame:
    """One still frame, cut to its tissue region.

    Attributes:
        pixels: (height, width) grey, 0 = black.
        mm_per_pixel: millimetres per pixel along (row, column); None = unknown, never assumed.
        device: manufacturer and model as stored, "" when unknown.
        origin: (row, column) of the region's first pixel in the stored frame.
        stored_shape: rows and columns of the stored frame.
    """

    pixels: NDArray[np.uint8]
    mm_per_pixel: tuple[float, float] | None
    device: str
    origin: tuple[int, int]
    stored_shape: tuple[int, int]


def read_image(path: Path, calibration: Calibration | None = None, frame_index: int | None = None) -> Frame:
    """Tissue pixels, spacing and device of one frame.

    Args:
        path: DICOM, JPEG, PNG, TIFF or BMP file.
        calibration: used where the file itself names no region or no spacing.
        frame_index: which frame of a cine or stack, from 0; a file of several frames is refused without it.

    Raises:
        UnreadableImage: with one finding that names the file, never a value of its header that could name a person.
    """
    calibration = calibration or Calibration(region=None, mm_per_pixel=None)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values too
            if _is_dicom(file):
                return _read_dicom(file, calibration, frame_index)
            return _read_picture(file, calibration, frame_index)
    except UnreadableImage as refusal:
        raise UnreadableImage(replace(f, file=path.name) for f in refusal.findings) from None
    except Exception as fault:  # decoders raise anything on damaged bytes; their texts may quote the header
        raise UnreadableImage([_explained(fault, path.name)]) from None


def _refusal(rule: str, seen: str, expected: str, remedy: str) -> UnreadableImage:
    """An error whose file name ``read_image`` fills in."""
    return UnreadableImage([Finding("error", rule, "", seen=seen, expected=expected, remedy=remedy)])


def _explained(fault: Exception, name: str) -> Finding:
    """A finding for whatever the operating system or a decoder raised."""
    if isinstance(fault, Image.DecompressionBombError):
        return replace(_too_large("a header claiming more than 10^8 pixels").findings[0], file=name)
    if isinstance(fault, UnidentifiedImageError):
        seen, expected = "unknown content", "DICOM, JPEG, PNG, TIFF or BMP, whatever the suffix"
        return Finding("error", "format", name, seen, expected, "export the frame again in one of these formats")
    if isinstance(fault, OSError) and fault.errno is not None:
        seen = fault.strerror or "not readable"
        return Finding("error", "file", name, seen, "a readable file", "correct the path in images.csv")
    seen = f"decoding stopped ({type(fault).__name__})"
    return Finding("error", "decode", name, seen, "a complete image file", "copy or export it again: it is damaged")


def _too_large(seen: str) -> UnreadableImage:
    limit = f"at most {MAX_PIXELS:,} pixels"
    return _refusal("too-large", seen, limit, "export a single frame at the scanner's own size")


def _check_size(rows: int, columns: int) -> None:
    if rows < 1 or columns < 1:
        raise _refusal("no-pixels", f"{rows} rows and {columns} columns", "at least one pixel", "export it again")
    if rows * columns > MAX_PIXELS:
        raise _too_large(f"{rows} rows and {columns} columns")


def _frame_number(count: int, wanted: int | None) -> int:
    """Index of the frame to read; several frames need a choice, for a still is what the study is about."""
    if wanted is None and count > 1:
        remedy = f"export a still, or choose a frame from 0 to {count - 1}"
        raise _refusal("several-frames", f"{count} frames", "one still frame, or a frame index", remedy)
    number = wanted or 0
    if not 0 <= number < count:
        raise _refusal("frame-index", f"frame index {number}", f"0 to {count - 1}", "correct the frame index")
    return number


def _checked_box(box: Box | None, shape: tuple[int, int]) -> Box:
    """The region inside the frame; one pixel too many is forgiven, for some scanners count the maxima exclusively."""
    rows, columns = shape
    if box is None:
        return 0, 0, columns, rows
    if not _fits(box, shape):
        seen = "region x {0} to {2}, y {1} to {3}".format(*box)
        remedy = "export the frame as the scanner made it, or give its region and spacing in calibration.csv"
        raise _refusal("region", seen, f"a region inside {columns} x {rows} pixels", remedy)
    x0, y0, x1, y1 = box
    return x0, y0, min(x1, columns), min(y1, rows)


def _fits(box: Box, shape: tuple[int, int]) -> bool:
    (x0, y0, x1, y1), (rows, columns) = box, shape
    across, down = 0 <= x0 < min(x1, columns), 0 <= y0 < min(y1, rows)
    return across and down and x1 <= columns + 1 and y1 <= rows + 1


def _spacing(stated: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """First possible of the stated (row, column) spacings in mm; None when nothing was stated."""
    given = [mm for mm in stated if mm is not None]
    for mm in given:
        if all(math.isfinite(side) and side > 0 for side in mm):
            return mm
    if given:
        remedy = "give mm_per_pixel_row and mm_per_pixel_column in calibration.csv"
        raise _refusal("spacing", f"{given[0]} mm per pixel", "positive, finite spacings", remedy)
    return None


# ---- DICOM -----------------------------------------------------------------------------------------------------------

_SOP_CLASSES = {
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.UID("1.2.840.10008.5.1.4.1.1.6"),  # ultrasound image, retired, still on older scanners
    uid.UID("1.2.840.10008.5.1.4.1.1.3"),  # ultrasound multi-frame, retired
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
}
_COLOURS = {"MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR"}
_CENTIMETRES = 3  # PS3.3 C.8.5.5.1.15, the only unit of length
_TWO_D = 1  # RegionSpatialFormat, PS3.3 C.8.5.5.1.1
_TISSUE = 1  # RegionDataType, PS3.3 C.8.5.5.1.2

_HEADER_TAGS: list[int] = [
    0x00080016, 0x00080070, 0x00081090,  # SOP class, manufacturer, model: no other text is ever parsed
    0x00186011,  # ultrasound regions
    0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280030,  # image pixel, PixelSpacing
    0x00280100, 0x00280101, 0x00280103,  # bits allocated and stored, sign
    0x00281050, 0x00281051, 0x00281052, 0x00281053,  # window, rescale
    0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203,  # palette
    0x00281221, 0x00281222, 0x00281223,  # segmented palette
    0x7FE00001, 0x7FE00002,  # extended offsets of frames
]  # fmt: skip

_DECODERS: dict[str, tuple[str, str]] = {
    uid.JPEGBaseline8Bit: ("pillow", "pillow"),
    uid.JPEGExtended12Bit: ("pillow", "pillow"),
    uid.JPEGLossless: ("gdcm", "python-gdcm"),
    uid.JPEGLosslessSV1: ("gdcm", "python-gdcm"),
    uid.JPEGLSLossless: ("pyjpegls", "pyjpegls"),
    uid.JPEGLSNearLossless: ("pyjpegls", "pyjpegls"),
    uid.JPEG2000Lossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.JPEG2000: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLosslessRPCL: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2K: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.RLELossless: ("pydicom", "pydicom"),
}
"""pydicom's plugin and its package, permissively licensed ones only; GDCM only where nothing else can."""


def _is_dicom(file: BinaryIO) -> bool:
    """PS3.10 7.1: DICM after the preamble; or a bare data set that opens with group 0002 or 0008."""
    head = file.read(4096)
    file.seek(0)
    if head[128:132] == b"DICM" and uid.DeflatedExplicitVRLittleEndian.encode() in head:
        remedy = "convert it, for instance with dcmconv +te"  # pydicom inflates it whole: a small file fills the memory
        raise _refusal("deflated", "a deflated data set", "a native or compressed frame", remedy)
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def _read_dicom(file: BinaryIO, calibration: Calibration, frame_index: int | None) -> Frame:
    header = dcmread(file, force=True, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    _check_header(header)
    shape = (int(header.Rows), int(header.Columns))
    region = _tissue_region(header, calibration, shape)
    stated = _region_box(region) if region is not None else calibration.region
    x0, y0, x1, y1 = _checked_box(stated, shape)
    mm_per_pixel = _spacing([*_header_spacings(header, region), calibration.mm_per_pixel])
    number = _frame_number(int(header.get("NumberOfFrames") or 1), frame_index)
    values, colour = _decode(file, header, number)
    grey = _grey(values[y0:y1, x0:x1], header, colour)
    return Frame(np.array(grey, dtype=np.uint8, order="C"), mm_per_pixel, _device(header), (y0, x0), shape)


def _check_header(header: Dataset) -> None:
    """Refuse what is not a still two-dimensional frame of plain pixels (PS3.3 A.6, A.7, A.8, C.7.6.3)."""
    if header.get("SOPClassUID") not in _SOP_CLASSES:
        known = isinstance(header.get("SOPClassUID"), uid.UID) and header.SOPClassUID.type == "SOP Class"
        seen = header.SOPClassUID.name if known else "no known kind of DICOM image"
        expected = "Ultrasound Image, Ultrasound Multi-frame Image or Secondary Capture"
        raise _refusal("not-ultrasound", seen, expected, "take this file out of images.csv")
    _check_size(int(header.get("Rows") or 0), int(header.get("Columns") or 0))
    colour = str(header.get("PhotometricInterpretation"))
    if colour not in _COLOURS:
        raise _refusal("colour", "an unsupported PhotometricInterpretation", "grey, RGB, YBR or palette", _EXPORT)
    bits, stored = int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)
    if bits not in (8, 16) or not 1 <= stored <= bits:
        raise _refusal("bits", f"{stored} of {bits} bits per sample", "8 or 16 bits allocated", _EXPORT)
    if header.get("PixelRepresentation"):
        raise _refusal("signed", "signed pixel values", "unsigned grey levels (PS3.3 C.8.5.6.1)", _EXPORT)


_EXPORT = "export it as an ordinary 8-bit ultrasound image"


def _tissue_region(header: Dataset, calibration: Calibration, shape: tuple[int, int]) -> Dataset | None:
    """The largest two-dimensional tissue region (PS3.3 C.8.5.5); None when the file lists no regions.

    Regions outside the frame are those of another frame (it was resized or cropped later, as in two of pydicom's own
    test files): neither place nor deltas are believed once the hospital has given a region.
    """
    regions = header.get("SequenceOfUltrasoundRegions") or []
    tissue = [r for r in regions if (r.get("RegionSpatialFormat"), r.get("RegionDataType")) == (_TWO_D, _TISSUE)]
    if regions and not tissue and calibration.region is None:
        kinds = ", ".join(f"format {r.get('RegionSpatialFormat')} type {r.get('RegionDataType')}" for r in regions)
        remedy = "choose a B-mode frame, or give its region in calibration.csv"
        raise _refusal("no-tissue-region", f"regions of {kinds}", "a 2-D tissue region (format 1, type 1)", remedy)
    region = max(tissue, key=_area, default=None)
    if region is not None and calibration.region is not None and not _fits(_region_box(region), shape):
        return None
    return region


def _region_box(region: Dataset) -> Box:
    """PS3.3 C.8.5.5.1.12: minima and maxima are pixels of the region, so the maxima are inclusive."""
    x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
    return x0, y0, int(region.RegionLocationMaxX1) + 1, int(region.RegionLocationMaxY1) + 1


def _area(region: Dataset) -> int:
    x0, y0, x1, y1 = _region_box(region)
    return (x1 - x0) * (y1 - y0)


def _header_spacings(header: Dataset, region: Dataset | None) -> list[tuple[float, float] | None]:
    """(row, column) mm per pixel from the region's deltas in cm (PS3.3 C.8.5.5.1.17), then PixelSpacing (10.7.1)."""
    spacings: list[tuple[float, float] | None] = []
    if region is not None and _CENTIMETRES == region.get("PhysicalUnitsXDirection") == region.get(
        "PhysicalUnitsYDirection"
    ):
        spacings.append((10 * float(region.PhysicalDeltaY), 10 * float(region.PhysicalDeltaX)))
    if header.get("PixelSpacing"):
        row, column = header.PixelSpacing
        spacings.append((float(row), float(column)))
    return spacings


def _device(header: Dataset) -> str:
    words = f"{header.get('Manufacturer') or ''} {header.get('ManufacturerModelName') or ''}"
    return " ".join(words.split())


def _decode(file: BinaryIO, header: Dataset, number: int) -> tuple[NDArray[Any], str]:
    """Values of one frame, (rows, columns) or (rows, columns, 3), and the colour space they came out in."""
    syntax = _transfer_syntax(header)
    options = as_pixel_options(header, transfer_syntax_uid=syntax, pixel_keyword="PixelData")
    options["pixel_vr"] = _seek_pixels(file)
    plugin = ""
    if syntax.is_encapsulated:
        plugin = _plugin(syntax, header.BitsStored)
        if syntax != uid.RLELossless:
            _check_codestream(get_frame(file, number, number_of_frames=options["number_of_frames"]), header)
    values, found = get_decoder(syntax).as_array(file, index=number, raw=True, decoding_plugin=plugin, **options)
    return values, str(found["photometric_interpretation"])


def _transfer_syntax(header: Dataset) -> uid.UID:
    """As stated in group 0002; a bare data set is native, in the byte order that pydicom found (PS3.5 A)."""
    stated = header.file_meta.get("TransferSyntaxUID")
    if stated is not None:
        return uid.UID(stated)
    implicit, little = header.original_encoding
    explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    return uid.ImplicitVRLittleEndian if implicit else explicit


def _seek_pixels(file: BinaryIO) -> str:
    """Move from the Pixel Data tag to its value; returns the VR (PS3.5 7.1.2).

    Told from the bytes: some files are implicit where their transfer syntax says explicit.
    """
    element = file.read(12)
    if element[:4] not in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"):
        raise _refusal("no-pixels", "no pixel data", "an image", "export the frame again with its pixels")
    if element[4:6] in (b"OB", b"OW", b"UN"):
        return element[4:6].decode("ascii")
    file.seek(-4, 1)
    return "OW"


def _plugin(syntax: uid.UID, bits_stored: int) -> str:
    """The preferred decoder, or "" for whatever else is installed."""
    if syntax not in _DECODERS:
        raise _refusal("no-decoder", syntax.name, "JPEG, JPEG-LS, JPEG 2000, RLE or uncompressed pixels", _EXPORT)
    if syntax == uid.JPEGExtended12Bit and bits_stored > 8:
        raise _refusal("no-decoder", "JPEG of 12 bits per sample", "8 bits, or lossless compression", _EXPORT)
    plugin, package = _DECODERS[syntax]
    installed = get_decoder(syntax).available_plugins
    if not installed:
        raise _refusal("no-decoder", syntax.name, "a compression that is installed here", f"pip install {package}")
    return plugin if plugin in installed else ""


def _check_codestream(codestream: bytes, header: Dataset) -> None:
    """A codestream that claims another size than its header would be decoded into memory nobody counted."""
    rows, columns = _codestream_shape(codestream)
    if (rows, columns) != (header.Rows, header.Columns):
        seen = f"compressed pixels of {rows} rows and {columns} columns"
        raise _refusal("size", seen, f"{header.Rows} rows and {header.Columns} columns as in the header", _EXPORT)


def _codestream_shape(codestream: bytes) -> tuple[int, int]:
    """Rows and columns from SIZ (JPEG 2000, ITU-T T.800 A.5.1) or SOF (JPEG, T.81 B.2.2; JPEG-LS, T.87 C.2.2)."""
    siz = re.search(rb"\xff\x4f\xff\x51.{4}(.{16})", codestream[:512], re.DOTALL)
    if siz:
        right, bottom, left, top = struct.unpack(">4I", siz[1])
        return bottom - top, right - left
    at = 2
    while codestream[:2] == b"\xff\xd8" and codestream[at : at + 1] == b"\xff" and at + 9 <= len(codestream):
        if codestream[at + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7):
            rows, columns = struct.unpack_from(">HH", codestream, at + 5)
            return rows, columns
        at += 1 if codestream[at + 1] == 0xFF else 2 + int.from_bytes(codestream[at + 2 : at + 4])
    raise _refusal("decode", "compressed pixels without a header", "a complete frame", "copy or export it again")


def _grey(values: NDArray[Any], header: Dataset, colour: str) -> NDArray[np.uint8]:
    """(height, width) grey of the region, whatever its colour space (PS3.3 C.7.6.3.1.2)."""
    if colour.startswith("YBR"):
        return _eight_bits(values[..., 0], header.BitsStored)  # Y is luma: .299 R + .587 G + .114 B
    if colour == "PALETTE COLOR":
        values = apply_color_lut(values, header)
        return _luma(_eight_bits(values, 8 * values.dtype.itemsize))
    if colour == "RGB":
        return _luma(_eight_bits(values, header.BitsStored))
    grey = _windowed(values, header) if header.BitsStored > 8 else _eight_bits(values, header.BitsStored)
    return np.invert(grey) if colour == "MONOCHROME1" else grey


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R BT.601 luma; exactly the grey level where the three channels are equal."""
    grey: NDArray[np.uint8] = np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    return grey


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Stored range 0 to 2^bits - 1 spread over 0 to 255, rounded; 8 bits pass unchanged."""
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    top = (1 << bits) - 1
    scaled = ((values.astype(np.uint32) & top) * 255 + top // 2) // top
    return scaled.astype(np.uint8)


def _windowed(values: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """More than 8 bits as the scanner meant them shown: its linear window (PS3.3 C.11.2.1.2), else the full range."""
    centre, width = (np.atleast_1d(header.get(f"Window{k}") or np.nan)[0] for k in ("Center", "Width"))
    if not (math.isfinite(centre) and width > 1):
        return _eight_bits(values, header.BitsStored)
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    shown = (values * slope + intercept - (float(centre) - 0.5)) / (float(width) - 1) + 0.5
    levels: NDArray[np.uint8] = np.rint(255 * shown.clip(0, 1)).astype(np.uint8)
    return levels


# ---- JPEG, PNG, TIFF, BMP --------------------------------------------------------------------------------------------


def _read_picture(file: BinaryIO, calibration: Calibration, frame_index: int | None) -> Frame:
    """Whole picture or the calibration's region; printing resolution (dpi) is never taken for a spacing."""
    with Image.open(file, formats=("JPEG", "PNG", "TIFF", "BMP")) as picture:
        number = _frame_number(getattr(picture, "n_frames", 1), frame_index)
        if number:
            picture.seek(number)
        columns, rows = picture.size
        _check_size(rows, columns)
        if picture.getexif().get(0x0112, 1) > 1:
            remedy = "export it upright, without an EXIF orientation"
            raise _refusal("orientation", "a picture stored turned or mirrored", "pixels as displayed", remedy)
        box = _checked_box(calibration.region, (rows, columns))
        picture.draft("L", None)  # JPEG: decode the luma only
        grey = _picture_grey(picture.crop(box))
    mm_per_pixel = _spacing([calibration.mm_per_pixel])
    return Frame(np.array(grey, dtype=np.uint8, order="C"), mm_per_pixel, "", (box[1], box[0]), (rows, columns))


def _picture_grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        return _eight_bits(np.asarray(picture), 16)
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "CMYK"):
        raise _refusal("colour", f"pixels of kind {picture.mode}", "8- or 16-bit grey, or 8-bit colour", _EXPORT)
    return np.asarray(picture.convert("L"))


# ---- calibration.csv -------------------------------------------------------------------------------------------------

_REGION = ("x0", "y0", "x1", "y1")
_SPACING = ("mm_per_pixel_row", "mm_per_pixel_column")


def read_calibrations(path: Path) -> dict[str, Calibration]:
    """Rows of calibration.csv (image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column) by image; empty = not said.

    Raises:
        DataError: with every faulty row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        remedy = "save the table as CSV in UTF-8"
        raise DataError([Finding("error", "file", path.name, "not readable", "a UTF-8 text file", remedy)]) from None
    return _calibrations(text, path.name)


def _calibrations(text: str, name: str) -> dict[str, Calibration]:
    lines = text.splitlines()
    delimiter = ";" if lines and ";" in lines[0] else ","
    rows = csv.DictReader(lines, delimiter=delimiter)
    missing = [c for c in ("image", *_REGION, *_SPACING) if c not in (rows.fieldnames or [])]
    if missing:
        seen = f"no column {', '.join(missing)}"
        raise DataError([Finding("error", "column", name, seen, "all seven columns", "add it; its cells may be empty")])
    calibrations: dict[str, Calibration] = {}
    findings = []
    for line, row in enumerate(rows, start=2):
        image = (row["image"] or "").strip()
        try:
            if not image or image in calibrations:
                raise _Cell("image", image, "a file name, once")
            calibrations[image] = _calibration(row)
        except _Cell as cell:
            field, seen, expected = cell.args
            remedy = "correct the cell, or empty all cells of this kind"
            findings.append(Finding("error", "calibration", name, seen or "empty", expected, remedy, line, field))
    if findings:
        raise DataError(findings)
    return calibrations


class _Cell(Exception):
    """Field, text and expectation of a faulty cell; never leaves this module."""


def _calibration(row: dict[str, str]) -> Calibration:
    region = _cells(row, _REGION, "whole numbers with x0 < x1 and y0 < y1, or four empty cells")
    spacing = _cells(row, _SPACING, "positive millimetres, or two empty cells")
    if spacing and min(spacing) <= 0:
        raise _Cell("mm_per_pixel_row", f"{spacing[0]:g}, {spacing[1]:g}", "positive millimetres")
    return Calibration(_whole_box(region) if region else None, (spacing[0], spacing[1]) if spacing else None)


def _whole_box(region: list[float]) -> Box:
    x0, y0, x1, y1 = region
    if not (all(v.is_integer() for v in region) and 0 <= x0 < x1 and 0 <= y0 < y1):
        raise _Cell("x0", ", ".join(f"{v:g}" for v in region), "whole numbers with x0 < x1 and y0 < y1")
    return int(x0), int(y0), int(x1), int(y1)


def _cells(row: dict[str, str], fields: tuple[str, ...], expected: str) -> list[float]:
    """Finite numbers of these cells (decimal comma or point); [] when all are empty."""
    texts = [(row[field] or "").strip() for field in fields]
    values = []
    for field, text in zip(fields, texts, strict=True):
        try:
            values.append(float(text.replace(",", ".")))
        except ValueError:
            values.append(math.nan)
        if any(texts) and not math.isfinite(values[-1]):
            raise _Cell(field, text, expected)
    return values if any(texts) else []
