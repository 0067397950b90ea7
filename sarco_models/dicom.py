"""DICOM frames (PS3.3): US Image, US Multi-frame and Secondary Capture, native or compressed.

The pixel data and some thirty elements of the header are parsed; none of them holds a name, a date or a number of a
person, and no text leaves this module but the names of the device and of its transducer.
"""

import logging
import math
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options

from sarco_models.codestreams import Shape, check_codestream
from sarco_models.colour import colour_share
from sarco_models.frames import EXPORT, Box, Facts, Frame, check_size, fits, frame_number, refusal, words
from sarco_models.hints import Hints, Own
from sarco_models.sides import Inside

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values, which may be a person's

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
    0x00080016, 0x00080070, 0x00081090, 0x00185010,  # SOP class, manufacturer, model, transducer: no other text
    0x00186011,  # ultrasound regions
    0x00280301, 0x00282110,  # burned-in annotation, lossy compression
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
    uid.JPEGLSLossless: ("gdcm", "python-gdcm"),
    uid.JPEGLSNearLossless: ("gdcm", "python-gdcm"),
    uid.JPEG2000Lossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.JPEG2000: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLossless: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2KLosslessRPCL: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.HTJ2K: ("pylibjpeg", "pylibjpeg-openjpeg"),
    uid.RLELossless: ("pydicom", "pydicom"),
}
"""pydicom's plugin and its package, permissively licensed ones only; GDCM where nothing else can.

Nor can pyjpegls 1.5 where a JPEG-LS file is cut short: it reads on for seconds behind the end of its buffer.
"""

_JPEG_BLOCKS = {uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit}
_LOSSY = {*_JPEG_BLOCKS, uid.JPEGLSNearLossless}
"""Syntaxes that always lose something; JPEG 2000 may or may not, and the header says which."""


def is_dicom(file: BinaryIO) -> bool:
    """DICM after the preamble (PS3.10 7.1), or a bare data set that opens with group 0002 or 0008."""
    head = file.read(1 << 16)
    file.seek(0)
    if head[128:132] == b"DICM" and uid.DeflatedExplicitVRLittleEndian.encode() in head:
        remedy = "convert it, for instance with dcmconv +te"  # pydicom inflates it whole: a small file fills the memory
        raise refusal("deflated", "a deflated data set", "a native or compressed frame", remedy)
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08")


def read_dicom(file: BinaryIO, hints: Hints, frame_index: int | None, *, colour: bool) -> Frame:
    """One frame, cut to its tissue region; see :func:`sarco_models.images.read_image`."""
    header = _header(file)
    _check_header(header)
    shape, count = (int(header.Rows), int(header.Columns)), _count(header)
    number = frame_number(count, frame_index)
    region = _tissue_region(header, hints, shape)
    syntax = _transfer_syntax(header)
    lossy = header.get("LossyImageCompression") == "01" or syntax in _LOSSY
    decoded = cache(lambda: _decode(file, header, syntax, number))
    place = hints.place(
        Own(_region_box(region) if region else None, _spacings(header, region), _device(header)),
        shape,
        whole=lambda: _grey(*decoded(), header),
        compressed="blocks" if syntax in _JPEG_BLOCKS else "smoothly" if lossy else "",
    )
    x0, y0, x1, y1 = place.picture.box
    values, space = decoded()
    tissue = values[y0:y1, x0:x1]
    facts = Facts(
        "DICOM",
        kind=header.SOPClassUID.name,
        transducer=_transducer(header),
        frames=count,
        burned_in=_yes_or_no(header.get("BurnedInAnnotation")),
        region_from=place.region_from,
        spacing_from=place.spacing_from,
        lossy=lossy,
        colour_share=_colour_share(tissue, space, header, place.picture.inside) if colour else 0.0,
    )
    pixels = place.picture.cut(_grey(tissue, space, header))
    return Frame(pixels, place.mm_per_pixel, place.device, (y0, x0), shape, facts)


def count_frames(file: BinaryIO) -> int:
    """Number of frames in the file, from its header alone."""
    header = _header(file)
    _check_header(header)
    return _count(header)


def _header(file: BinaryIO) -> Dataset:
    return dcmread(file, force=True, stop_before_pixels=True, specific_tags=_HEADER_TAGS)


def _count(header: Dataset) -> int:
    return int(header.get("NumberOfFrames") or 1)


def _yes_or_no(said: object) -> str:
    """Anything else is no value of BurnedInAnnotation (PS3.3 C.7.6.1), and may be a text."""
    return str(said) if said in ("YES", "NO") else ""


def _check_header(header: Dataset) -> None:
    """Refuse what is not a still two-dimensional frame of plain pixels (PS3.3 A.6, A.7, A.8, C.7.6.3)."""
    if header.get("SOPClassUID") not in _SOP_CLASSES:
        known = isinstance(header.get("SOPClassUID"), uid.UID) and header.SOPClassUID.type == "SOP Class"
        seen = header.SOPClassUID.name if known else "no known kind of DICOM image"
        expected = "Ultrasound Image, Ultrasound Multi-frame Image or Secondary Capture"
        raise refusal("not-ultrasound", seen, expected, "take this file out of images.csv")
    check_size(int(header.get("Rows") or 0), int(header.get("Columns") or 0))
    colour = str(header.get("PhotometricInterpretation"))
    if colour not in _COLOURS:
        raise refusal("colour", "an unsupported PhotometricInterpretation", "grey, RGB, YBR or palette", EXPORT)
    bits, stored = int(header.get("BitsAllocated") or 0), int(header.get("BitsStored") or 0)
    if bits not in (8, 16) or not 1 <= stored <= bits:
        raise refusal("bits", f"{stored} of {bits} bits per sample", "8 or 16 bits allocated", EXPORT)
    if header.get("PixelRepresentation"):
        raise refusal("signed", "signed pixel values", "unsigned grey levels (PS3.3 C.8.5.6.1)", EXPORT)


def _tissue_region(header: Dataset, hints: Hints, shape: tuple[int, int]) -> Dataset | None:
    """The largest two-dimensional tissue region (PS3.3 C.8.5.5); None when the file lists no regions.

    Regions outside the frame are those of another frame (it was resized or cropped later, as in two of pydicom's own
    test files): neither place nor deltas are believed once the hospital has given a region.
    """
    regions = header.get("SequenceOfUltrasoundRegions") or []
    tissue = [r for r in regions if (r.get("RegionSpatialFormat"), r.get("RegionDataType")) == (_TWO_D, _TISSUE)]
    told = hints.has_region(shape)
    if regions and not tissue and not told:
        kinds = ", ".join(f"format {r.get('RegionSpatialFormat')} type {r.get('RegionDataType')}" for r in regions)
        remedy = "choose a B-mode frame, or give its region in calibration.csv"
        raise refusal("no-tissue-region", f"regions of {kinds}", "a 2-D tissue region (format 1, type 1)", remedy)
    region = max(tissue, key=_area, default=None)
    if region is not None and told and not fits(_region_box(region), shape):
        return None
    return region


def _region_box(region: Dataset) -> Box:
    """PS3.3 C.8.5.5.1.12: minima and maxima are pixels of the region, so the maxima are inclusive."""
    x0, y0 = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
    return x0, y0, int(region.RegionLocationMaxX1) + 1, int(region.RegionLocationMaxY1) + 1


def _area(region: Dataset) -> int:
    x0, y0, x1, y1 = _region_box(region)
    return (x1 - x0) * (y1 - y0)


def _spacings(header: Dataset, region: Dataset | None) -> list[tuple[float, float]]:
    """(row, column) mm per pixel from the region's deltas in cm (PS3.3 C.8.5.5.1.17), then PixelSpacing (10.7.1)."""
    spacings: list[tuple[float, float]] = []
    if region is not None and _CENTIMETRES == region.get("PhysicalUnitsXDirection") == region.get(
        "PhysicalUnitsYDirection"
    ):
        spacings.append((10 * float(region.PhysicalDeltaY), 10 * float(region.PhysicalDeltaX)))
    if header.get("PixelSpacing"):
        row, column = header.PixelSpacing
        spacings.append((float(row), float(column)))
    return spacings


def _device(header: Dataset) -> str:
    return words([header.get("Manufacturer"), header.get("ManufacturerModelName")])


def _transducer(header: Dataset) -> str:
    said = header.get("TransducerData") or ""  # up to three values: type, and two of the manufacturer's own
    return words([said] if isinstance(said, str) else said)


def _decode(file: BinaryIO, header: Dataset, syntax: uid.UID, number: int) -> tuple[NDArray[Any], str]:
    """Values of one frame, (rows, columns) or (rows, columns, 3), and the colour space they came out in."""
    options = as_pixel_options(header, transfer_syntax_uid=syntax, pixel_keyword="PixelData")
    options["pixel_vr"] = _seek_pixels(file)
    plugin = ""
    if syntax.is_encapsulated:
        plugin = _plugin(syntax, header.BitsStored)
        if syntax != uid.RLELossless:
            codestream = get_frame(file, number, number_of_frames=options["number_of_frames"])
            expected = Shape(header.Rows, header.Columns, header.SamplesPerPixel, header.BitsAllocated)
            check_codestream(codestream, expected, strict=plugin == "gdcm")
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
        raise refusal("no-pixels", "no pixel data", "an image", "export the frame again with its pixels")
    if element[4:6] in (b"OB", b"OW", b"UN"):
        return element[4:6].decode("ascii")
    file.seek(-4, 1)
    return "OW"


def _plugin(syntax: uid.UID, bits_stored: int) -> str:
    """The preferred decoder, or "" for whatever else is installed."""
    if syntax not in _DECODERS:
        raise refusal("no-decoder", syntax.name, "JPEG, JPEG-LS, JPEG 2000, RLE or uncompressed pixels", EXPORT)
    if syntax == uid.JPEGExtended12Bit and bits_stored > 8:
        raise refusal("no-decoder", "JPEG of 12 bits per sample", "8 bits, or lossless compression", EXPORT)
    plugin, package = _DECODERS[syntax]
    installed = get_decoder(syntax).available_plugins
    if not installed:
        raise refusal("no-decoder", syntax.name, "a compression that is installed here", f"pip install {package}")
    return plugin if plugin in installed else ""


def _grey(values: NDArray[Any], space: str, header: Dataset) -> NDArray[np.uint8]:
    """(height, width) grey of the region, whatever its colour space (PS3.3 C.7.6.3.1.2)."""
    if space.startswith("YBR"):
        return _eight_bits(values[..., 0], header.BitsStored)  # Y is luma: .299 R + .587 G + .114 B
    if space in ("RGB", "PALETTE COLOR"):
        return _luma(_rgb(values, space, header))
    grey = _windowed(values, header) if header.BitsStored > 8 else _eight_bits(values, header.BitsStored)
    return np.invert(grey) if space == "MONOCHROME1" else grey


def _rgb(values: NDArray[Any], space: str, header: Dataset) -> NDArray[np.uint8]:
    if space == "PALETTE COLOR":
        values = apply_color_lut(values, header)
        return _eight_bits(values, 8 * values.dtype.itemsize)
    return _eight_bits(values, header.BitsStored)


def _colour_share(values: NDArray[Any], space: str, header: Dataset, inside: Inside | None) -> float:
    if space.startswith("MONOCHROME"):
        return 0.0
    if space.startswith("YBR"):
        return colour_share(_eight_bits(values, header.BitsStored), "YCbCr", inside)
    return colour_share(_rgb(values, space, header), "RGB", inside)


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R BT.601 luma; exactly the grey level where the three channels are equal."""
    grey: NDArray[np.uint8] = np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).convert("L"))
    return grey


def _eight_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Stored range 0 to 2^bits - 1 spread over 0 to 255, rounded; 8 bits pass unchanged."""
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    top = (1 << bits) - 1
    levels = np.arange(max(256, top + 1)) & top
    return _shown(values, ((levels * 255 + top // 2) // top).astype(np.uint8), top)


def _windowed(values: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """More than 8 bits as the scanner meant them shown: its linear window (PS3.3 C.11.2.1.2), else the full range."""
    centre, width = (np.atleast_1d(header.get(f"Window{k}") or np.nan)[0] for k in ("Center", "Width"))
    if not (math.isfinite(centre) and width > 1):
        return _eight_bits(values, header.BitsStored)
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    levels = np.arange(1 << 16)
    shown = (levels * slope + intercept - (float(centre) - 0.5)) / (float(width) - 1) + 0.5
    return _shown(values, np.rint(255 * shown.clip(0, 1)).astype(np.uint8), 0xFFFF)


def _shown(values: NDArray[Any], table: NDArray[np.uint8], mask: int) -> NDArray[np.uint8]:
    """What the table says for each stored value; by some rows at a time, for an index takes eight bytes."""
    grey = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), 64):
        np.take(table, values[start : start + 64] & mask, out=grey[start : start + 64], mode="clip")
    return grey
