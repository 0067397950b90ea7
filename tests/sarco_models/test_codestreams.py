"""A codestream is decoded only where it is what the header says, and complete enough for its decoder."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.encaps import get_frame

from sarco_models.codestreams import Shape, check_codestream
from sarco_models.errors import UnreadableImage

GREY = np.random.default_rng(1).integers(0, 256, (40, 60), dtype=np.uint8)


def jpeg(values: np.ndarray, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(values).save(stream, "JPEG", **options)
    return stream.getvalue()


def compressed(values: np.ndarray, syntax: uid.UID) -> bytes:
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.set_pixel_data(values, "RGB" if values.ndim == 3 else "MONOCHROME2", 8 * values.itemsize)
    image.SOPClassUID, image.SOPInstanceUID = uid.UltrasoundImageStorage, "1.2.3"
    image.compress(syntax)
    return get_frame(image.PixelData, 0, number_of_frames=1)


def lossless() -> bytes:
    path = next(Path(pydicom.__file__).parent.rglob("SC_rgb_jpeg_gdcm.dcm"))
    return get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)


def rule(codestream: bytes, expected: Shape, *, strict: bool = True) -> str:
    try:
        check_codestream(codestream, expected, strict=strict)
    except UnreadableImage as refusal:
        return refusal.findings[0].rule
    return ""


@pytest.mark.parametrize(
    ("codestream", "shape"),
    [
        (lambda: jpeg(GREY), Shape(40, 60, 1, 8)),
        (lambda: jpeg(np.stack([GREY] * 3, axis=-1), subsampling=0), Shape(40, 60, 3, 8)),
        (lambda: compressed(GREY, uid.JPEGLSLossless), Shape(40, 60, 1, 8)),
        (lambda: compressed(GREY.astype(np.uint16) * 257, uid.JPEGLSLossless), Shape(40, 60, 1, 16)),
        (lambda: compressed(np.stack([GREY] * 3, axis=-1), uid.JPEG2000Lossless), Shape(40, 60, 3, 8)),
        (lossless, Shape(100, 100, 3, 8)),
    ],
)
def test_what_the_header_says_is_let_through_and_nothing_else(codestream: object, shape: Shape) -> None:
    content = codestream()  # type: ignore[operator]
    strict = not content.startswith(b"\xff\x4f")  # a decoder of JPEG 2000 looks for itself
    assert rule(content, shape, strict=strict) == ""
    assert rule(content, shape._replace(rows=shape.rows + 1)) == "size"
    assert rule(content, shape._replace(samples=4 - shape.samples)) == "bits"
    assert rule(content, shape._replace(bits=24 - shape.bits)) == "bits"


def changed(content: bytes, marker: int, offset: int, new: bytes) -> bytes:
    at = content.index(bytes([0xFF, marker])) + offset
    return content[:at] + new + content[at + len(new) :]


FAULTS = {
    "an unknown colour transform": lambda c: changed(c, 0xEE, 15, b"\x08"),
    "no Huffman table": lambda c: changed(c, 0xC4, 1, b"\xfe"),
    "a table of more codes than it holds": lambda c: changed(c, 0xC4, 5, b"\xff"),
    "a scan of other components": lambda c: changed(c, 0xDA, 5, b"\x07"),
    "a scan of more components": lambda c: changed(c, 0xDA, 4, b"\x09"),
    "a table that was never defined": lambda c: changed(c, 0xDA, 6, b"\x30"),
    "sampled components": lambda c: changed(c, 0xC3, 11, b"\x22"),
    "two frames": lambda c: c.replace(b"\xff\xc4", c[c.index(b"\xff\xc3") : c.index(b"\xff\xc4")] + b"\xff\xc4", 1),
    "another start within the scan": lambda c: c[:-200] + b"\xff\xd8" + c[-198:],
    "no scan": lambda c: c[: c.index(b"\xff\xda")],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_take_gdcm_down_are_refused(fault: str) -> None:
    good = lossless()
    bad = FAULTS[fault](good)
    assert bad != good
    assert rule(bad, Shape(100, 100, 3, 8)) == "decode"


def test_endless_scans_are_refused() -> None:
    content = jpeg(np.stack([GREY] * 3, axis=-1), progressive=True)
    scan = content.rindex(b"\xff\xda")
    assert rule(content, Shape(40, 60, 3, 8), strict=False) == ""
    assert rule(content[:-2] + content[scan:-2] * 200, Shape(40, 60, 3, 8), strict=False) == "decode"
