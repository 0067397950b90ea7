"""Damaged files for readers, and a process that watches what a reader does with them.

A reader may open a mutant or refuse it with findings. It may not crash, raise anything else, take longer than
``MAX_SECONDS`` or more memory than ``MAX_BYTES``. Equal seeds give equal mutants.

    outcome = watched(read_any_image, image_samples, count=2000, seed=1)
    assert not outcome.faults
"""

import gzip
import json
import multiprocessing
import struct
import tempfile
import time
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from sarco_models.drawn import read_drawn
from sarco_models.errors import DataError
from sarco_models.images import Frame, frame_count, read_image
from sarco_models.masks import mask_labels, read_mask
from sarco_models.segmentation import SegmentationConfig

MAX_SECONDS = 5.0
MAX_BYTES = 2**30
ROWS, COLUMNS = 96, 128

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Sample:
    """A file's name, whose suffix some readers go by, and its bytes."""

    name: str
    content: bytes


@dataclass
class Outcome:
    """What a reader made of many files.

    Attributes:
        opened: files that were read.
        refused: files by the rule of their first finding.
        faults: one line for each file that should have been read or refused and was not.
        seconds: of the processor, for the slowest file.
        peak_bytes: of memory, above what the process took before the first file.
    """

    opened: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_bytes: int = 0


# ---- mutations -------------------------------------------------------------------------------------------------------

Mutation = Callable[[bytearray, np.random.Generator], None]
HUGE = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def _place(content: bytearray, rng: np.random.Generator) -> int:
    """Anywhere, and half of the time in the header."""
    reach = min(len(content), 2000) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(1, reach)))


def cut_short(content: bytearray, rng: np.random.Generator) -> None:
    del content[_place(content, rng) :]


def flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 9))):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))


def scramble(content: bytearray, rng: np.random.Generator) -> None:
    start, length = _place(content, rng), int(rng.integers(1, 65))
    content[start : start + length] = rng.bytes(len(content[start : start + length]))


def blank(content: bytearray, rng: np.random.Generator) -> None:
    start, length = _place(content, rng), int(rng.integers(1, 400))
    content[start : start + length] = bytes([int(rng.choice([0, 255]))]) * len(content[start : start + length])


def write_number(content: bytearray, rng: np.random.Generator) -> None:
    """A size, count or offset becomes a limit of its type, in either byte order."""
    width, order = int(rng.choice([1, 2, 4])), str(rng.choice(["little", "big"]))
    start = _place(content, rng)
    number = int(rng.choice(HUGE)) & ((1 << 8 * width) - 1)
    content[start : start + width] = number.to_bytes(width, order)[: len(content[start : start + width])]  # type: ignore[arg-type]


def write_digits(content: bytearray, rng: np.random.Generator) -> None:
    """A number in a text becomes another one."""
    digits = [k for k, c in enumerate(content[:4000]) if 48 <= c <= 57]
    if digits:
        start = digits[int(rng.integers(len(digits)))]
        content[start : start + 1] = str(rng.choice(["-1", "1e308", "99999999", "0", "nan", "1" * 40])).encode()


def swap(content: bytearray, rng: np.random.Generator) -> None:
    """Two stretches change places: tags, lengths, chunks, rows."""
    length = int(rng.choice([1, 2, 4, 8, 16, 64]))
    a, b = sorted(_place(content, rng) // 2 * 2 for _ in range(2))
    if b - a >= length and b + length <= len(content):
        content[a : a + length], content[b : b + length] = content[b : b + length], content[a : a + length]


def repeat(content: bytearray, rng: np.random.Generator) -> None:
    start, length = _place(content, rng), int(rng.integers(1, 600))
    content[start:start] = content[start : start + length] * int(rng.integers(1, 40))


def remove(content: bytearray, rng: np.random.Generator) -> None:
    start = _place(content, rng)
    del content[start : start + int(rng.integers(1, 300))]


MUTATIONS: tuple[Mutation, ...] = (
    cut_short, flip_bits, scramble, blank, write_number, write_number, write_digits, swap, repeat, remove
)  # fmt: skip


def mutants(samples: Sequence[Sample], count: int, seed: int) -> Iterator[Sample]:
    """Each a sample with one to three mutations; one in twenty continues as another sample."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        sample = samples[int(rng.integers(len(samples)))]
        content = bytearray(sample.content)
        for _ in range(int(rng.integers(1, 4))):
            if content:
                MUTATIONS[int(rng.integers(len(MUTATIONS)))](content, rng)
        if rng.random() < 0.05:
            other = samples[int(rng.integers(len(samples)))].content
            content[int(rng.integers(len(content) + 1)) :] = other[int(rng.integers(len(other))) :]
        yield Sample(sample.name, bytes(content))


# ---- images ----------------------------------------------------------------------------------------------------------


def _tissue() -> NDArray[np.uint8]:
    rng = np.random.default_rng(17)
    smooth = np.kron(rng.uniform(20, 200, (ROWS // 8, COLUMNS // 8)), np.ones((8, 8)))
    return (smooth * rng.uniform(0.7, 1.2, smooth.shape)).clip(0, 255).astype(np.uint8)


def _dicom(values: NDArray[np.generic], photometric: str = "MONOCHROME2", frames: int = 1) -> Dataset:
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 8, 10
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = COLUMNS - 9, ROWS - 3
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.SOPClassUID = uid.UltrasoundMultiFrameImageStorage if frames > 1 else uid.UltrasoundImageStorage
    image.SOPInstanceUID, image.PatientName = "1.2.3", "SYN^PATIENT"
    image.Manufacturer, image.ManufacturerModelName, image.TransducerData = "SYN", "U1", "L1"
    image.SequenceOfUltrasoundRegions = [region]
    image.Rows, image.Columns = values.shape[:2]
    image.SamplesPerPixel, image.PhotometricInterpretation = (3 if values.ndim == 3 else 1), photometric
    image.BitsAllocated = image.BitsStored = 8 * values.dtype.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
    if values.ndim == 3:
        image.PlanarConfiguration = 0
    if frames > 1:
        image.NumberOfFrames = frames
    image.PixelData = values.tobytes() * frames
    return image


def _saved(image: Dataset) -> bytes:
    syntax, stream = image.file_meta.TransferSyntaxUID, BytesIO()
    pydicom.dcmwrite(stream, image, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return stream.getvalue()


def _with_palette(values: NDArray[np.uint8]) -> Dataset:
    image = _dicom(values, "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", (np.arange(256, dtype="<u2") * 257).tobytes())
    return image


def _encapsulated(image: Dataset, codestream: bytes, syntax: uid.UID, frames: int = 1) -> Dataset:
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([codestream] * frames)
    image["PixelData"].is_undefined_length = True
    return image


def _picture(values: NDArray[np.generic], kind: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


def dicom_samples() -> list[Sample]:
    """DICOM of every syntax and colour space that is read."""
    grey = _tissue()
    rgb = np.stack([grey] * 3, axis=-1)
    made = {"native": _dicom(grey), "cine": _dicom(grey, frames=3), "rgb": _dicom(rgb, "RGB")}
    made["deep"] = _dicom(grey.astype(np.uint16) * 257)
    made["palette"] = _with_palette(grey)
    made["ybr422"] = _dicom(rgb, "YBR_FULL_422")
    pairs = grey.reshape(-1, 2)
    made["ybr422"].PixelData = np.concatenate([pairs, np.full_like(pairs, 128)], axis=1).tobytes()
    made["bare"] = _dicom(grey)
    del made["bare"].SequenceOfUltrasoundRegions
    for name, syntax in (("implicit", uid.ImplicitVRLittleEndian), ("big", uid.ExplicitVRBigEndian)):
        made[name] = _dicom(grey)
        made[name].file_meta.TransferSyntaxUID = syntax
    for name, syntax in (("rle", uid.RLELossless), ("jls", uid.JPEGLSLossless), ("j2k", uid.JPEG2000Lossless)):
        for suffix, values in (("", grey), ("rgb", rgb)):
            made[name + suffix] = _dicom(values, "RGB" if suffix else "MONOCHROME2")
            made[name + suffix].compress(syntax)
    made["jpeg"] = _encapsulated(_dicom(grey), _picture(grey, "JPEG"), uid.JPEGBaseline8Bit)
    made["jpegcine"] = _encapsulated(_dicom(rgb, "YBR_FULL_422", 2), _picture(rgb, "JPEG"), uid.JPEGBaseline8Bit, 2)
    samples = [Sample(f"{name}.dcm", _saved(image)) for name, image in made.items()]
    lossless = next(Path(pydicom.__file__).parent.rglob("SC_rgb_jpeg_gdcm.dcm"))  # nothing here writes it
    return [*samples, Sample("jpeglossless.dcm", lossless.read_bytes())]


def picture_samples() -> list[Sample]:
    """JPEG, PNG, TIFF and BMP of many kinds, as whole pictures and as screens around one."""
    grey = _tissue()
    rgb = np.stack([grey, grey, grey // 2], axis=-1)
    screen = np.zeros((200, 240), dtype=np.uint8)
    screen[40:136, 50:178] = grey
    deep, palette = grey.astype(np.uint16) * 257, np.asarray(Image.fromarray(rgb).quantize(64).convert("RGB"))
    files = {
        "grey.jpg": _picture(grey, "JPEG"),
        "rgb.jpg": _picture(rgb, "JPEG"),
        "progressive.jpg": _picture(rgb, "JPEG", progressive=True),
        "screen.jpg": _picture(screen, "JPEG"),
        "grey.png": _picture(grey, "PNG"),
        "rgb.png": _picture(rgb, "PNG"),
        "deep.png": _picture(deep, "PNG"),
        "screen.png": _picture(screen, "PNG"),
        "grey.bmp": _picture(grey, "BMP"),
        "rgb.bmp": _picture(palette, "BMP"),
        "deep.tif": _picture(deep, "TIFF"),
        "stack.tif": _picture(grey, "TIFF", save_all=True, append_images=[Image.fromarray(255 - grey)]),
    }
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_deflate", "jpeg"):
        files[f"{compression}.tif"] = _picture(rgb, "TIFF", compression=compression)
    return [Sample(name, content) for name, content in files.items()]


def image_samples() -> list[Sample]:
    """Every kind of image file."""
    return dicom_samples() + picture_samples()


def _png(width: int, height: int, colour: int, rows: int) -> bytes:
    """A PNG that claims a size and carries ``rows`` rows of zeros, a thousand times smaller."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + width * channels)) for _ in range(rows)) + packer.flush()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _resized_jpeg(content: bytes, rows: int, columns: int) -> bytes:
    """A JPEG whose frame header claims another size (T.81 B.2.2)."""
    start = next(k for k in range(len(content)) if content[k] == 0xFF and content[k + 1] in (0xC0, 0xC2))
    return content[: start + 5] + struct.pack(">HH", rows, columns) + content[start + 9 :]


def image_bombs() -> list[Sample]:
    """Small files that claim, or unpack to, as much as a header can say; and the largest that are still read."""
    return _picture_bombs() + _claiming_dicom() + _unpacking_dicom()


def _picture_bombs() -> list[Sample]:
    grey = _tissue()
    rgb = np.stack([grey] * 3, axis=-1)
    bombs = [
        Sample("whole.png", _png(6000, 6000, 6, 6000)),
        Sample("grey.png", _png(6000, 6000, 0, 6000)),
        Sample("over.png", _png(6001, 6000, 0, 6000)),
        Sample("wide.png", _png(2**31 - 1, 1, 2, 0)),
        Sample("tall.png", _png(1, 2**31 - 1, 2, 0)),
        Sample("square.png", _png(2**30, 2**30, 6, 0)),
    ]
    for kind, options in (("plain", {}), ("progressive", {"progressive": True})):
        jpeg = _picture(rgb, "JPEG", **options)
        bombs += [
            Sample(f"{kind}{n}.jpg", _resized_jpeg(jpeg, n, m)) for n, m in ((6000, 6000), (65500, 65500), (65500, 1))
        ]
    progressive = _resized_jpeg(_picture(grey, "JPEG", progressive=True), 6000, 6000)
    scan = progressive.rindex(b"\xff\xda")
    bombs.append(Sample("scans.jpg", progressive[:scan] + progressive[scan:-2] * 3000 + b"\xff\xd9"))
    zeros = np.zeros((6000, 6000), dtype=np.uint8)
    for compression in ("tiff_deflate", "packbits"):
        bombs.append(Sample(f"{compression}.tif", _picture(zeros, "TIFF", compression=compression)))
    return bombs


def _claiming_dicom() -> list[Sample]:
    grey = _tissue()
    rgb, bombs = np.stack([grey] * 3, axis=-1), []
    for name, values, photometric in (("grey", grey, "MONOCHROME2"), ("rgb", rgb, "RGB")):
        for rows, columns in ((6000, 6000), (65535, 65535), (65535, 1)):
            for syntax in (None, uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless):
                image = _dicom(values, photometric)
                if syntax:
                    image.compress(syntax)
                image.Rows, image.Columns = rows, columns
                bombs.append(Sample(f"{name}{rows}{syntax or 'native'}.dcm", _saved(image)))
    cine = _dicom(grey)
    cine.NumberOfFrames = 2**31 - 1
    return [*bombs, Sample("cine.dcm", _saved(cine))]


def _unpacking_dicom() -> list[Sample]:
    bombs = []
    deep = np.zeros((6000, 6000), dtype=np.uint16)
    deep[::7] = 4000
    zeros = np.zeros((6000, 6000, 3), dtype=np.uint8)
    for name, values in (("deep", deep), ("deeprgb", np.stack([deep] * 3, axis=-1)), ("rgb", zeros)):
        for syntax in (uid.JPEGLSLossless, uid.JPEG2000Lossless):
            image = _dicom(values, "RGB" if values.ndim == 3 else "MONOCHROME2")
            del image.SequenceOfUltrasoundRegions
            if name == "deep":
                image.WindowCenter, image.WindowWidth = 2000, 4000
            image.compress(syntax)
            bombs.append(Sample(f"{name}6000{syntax}.dcm", _saved(image)))
    return bombs


def read_any_image(path: Path) -> object:
    """As a check reads images: the first frame of a cine, and the colour."""
    first = 0 if frame_count(path) > 1 else None
    return read_image(path, frame_index=first, colour=True)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _muscle() -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    return (((rows - 50) / 30) ** 2 + ((columns - 60) / 45) ** 2 < 1).astype(np.uint8)


def _volume(mask: NDArray[np.generic], suffix: str, *, packed: bool = False) -> bytes:
    image = sitk.GetImageFromArray(mask[None])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"mask{suffix}"
        sitk.WriteImage(image, str(path), useCompression=packed)
        return path.read_bytes()


def _labelme(shapes: list[dict[str, object]], height: int = ROWS, width: int = COLUMNS) -> bytes:
    page = {"version": "5.5.0", "shapes": shapes, "imagePath": "a.png", "imageData": None}
    return json.dumps(page | {"imageHeight": height, "imageWidth": width}).encode()


def _in_text(mask: NDArray[np.uint8]) -> str:
    """A PNG in base64, as LabelMe's AI tool keeps it."""
    return b64encode(_picture(mask * 255, "PNG")).decode()


def _shape(points: list[list[float]], kind: str = "polygon", label: str = "rectus_femoris") -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def mask_samples() -> list[Sample]:
    """Every kind of mask file."""
    mask = _muscle()
    files = {
        "mask.nii": _volume(mask.astype(np.uint16), ".nii"),
        "mask.nii.gz": _volume(mask.astype(np.uint16), ".nii.gz", packed=True),
        "float.nii": _volume(mask.astype(np.float32), ".nii"),
        "mask.nrrd": _volume(mask, ".nrrd"),
        "packed.nrrd": _volume(mask, ".nrrd", packed=True),
        "mask.mha": _volume(mask, ".mha"),
        "packed.mha": _volume(mask, ".mha", packed=True),
        "mask.gipl": _volume(mask.astype(np.uint16), ".gipl"),
        "grey.png": _picture(mask * 255, "PNG"),
        "index.png": _picture(mask, "PNG"),
        "colour.png": _picture(np.stack([mask * 255, mask * 0, mask * 0], axis=-1), "PNG"),
        "polygon.json": _labelme([_shape([[20, 30], [100, 28], [90, 70], [30, 75]])]),
        "rectangle.json": _labelme([_shape([[20, 30], [100, 70]], "rectangle")]),
        "circle.json": _labelme([_shape([[60, 50], [80, 60]], "circle"), _shape([[1, 1], [2, 2]], "line")]),
        "ai.json": _labelme([_shape([[20, 30], [99, 69]], "mask") | {"mask": _in_text(mask[30:70, 20:100])}]),
    }
    return [Sample(name, content) for name, content in files.items()]


def labelme_bombs() -> list[Sample]:
    """Outlines that would take hours or all memory to fill."""
    zigzag = [[float(k % 2) * 6000, 6000.0 * (k % 3 == 0)] for k in range(200_000)]
    square: list[list[float]] = [[0, 0], [6000, 0], [6000, 6000], [0, 6000]]
    return [
        Sample("zigzag.json", _labelme([_shape(zigzag)], 6000, 6000)),
        Sample("many.json", _labelme([_shape(square)] * 20_000, 6000, 6000)),
        Sample("circles.json", _labelme([_shape([[3000, 3000], [1, 1]], "circle")] * 20_000, 6000, 6000)),
        Sample("wide.json", _labelme([_shape([[0, 0], [1e308, 0], [1e308, 1e308]])], 1, 2**40)),
        Sample("deep.json", b'{"shapes": ' + b"[" * 200_000),
        Sample("labels.json", _labelme([_shape([[0, 0], [9, 0], [9, 9]], label=f"l{k}") for k in range(20_000)])),
    ]


def crossing_bombs() -> list[Sample]:
    """Outlines whose crossings would take hours to count."""
    bow: list[list[float]] = [[0, 0], [90, 70], [90, 0], [0, 70]]
    walk = [[float(k % 97), float(k % 89)] for k in range(2900)]
    return [
        Sample("bows.json", _labelme([_shape(bow)] * 4000, ROWS, COLUMNS)),
        Sample("walk.json", _labelme([_shape(walk)] * 30, ROWS, COLUMNS)),
    ]


def mask_bombs() -> list[Sample]:
    """Small masks that claim, or unpack to, far more than any frame has."""
    mask = _muscle()
    nifti = bytearray(_volume(mask.astype(np.uint16), ".nii"))
    nifti[40:48] = struct.pack("<4h", 3, 6000, 6000, 1)
    double = bytearray(_volume(mask.astype(np.float64), ".nii"))
    double[40:48] = struct.pack("<4h", 3, 6000, 6000, 1)
    zeros = zlib.compress(bytes(2**22), 9)
    endless = b"".join(gzip.compress(bytes(2**26), 9) for _ in range(40))  # 2.7 GB
    head = _volume(mask, ".nrrd", packed=True).split(b"\n\n")[0].replace(b"128 96 1", b"6000 6000 1") + b"\n\n"
    return [
        *labelme_bombs(),
        Sample("claims.nii", bytes(nifti)),
        Sample("packed.nii.gz", gzip.compress(bytes(nifti[:352]) + bytes(72_000_000), 9)),
        Sample("double.nii.gz", gzip.compress(bytes(double[:352]) + bytes(288_000_000), 9)),
        Sample("endless.nii.gz", gzip.compress(bytes(nifti[:352])) + endless),
        Sample("endless.nrrd", head + endless),
        Sample("huge.mha", _volume(mask, ".mha").replace(b"DimSize = 128 96 1", b"DimSize = 99999 99999 1")),
        Sample("zeros.mha", _volume(mask, ".mha", packed=True) + zeros),
        Sample("whole.png", _png(6000, 6000, 6, 6000)),
        Sample("index.png", _png(6000, 6000, 0, 6000)),
        Sample("over.png", _png(60000, 60000, 0, 100)),
    ]


def read_any_mask(path: Path) -> object:
    """As a check reads masks: the labels, and the first of them on a frame of the samples' size."""
    frame = Frame(np.zeros((ROWS, COLUMNS), dtype=np.uint8), None, "", (0, 0), (ROWS, COLUMNS))
    labels = mask_labels(path)
    return read_mask(path, frame, label=labels[0] if labels else None)


def read_any_drawn(path: Path) -> object:
    """As a study of muscles reads masks: all labels at once, one of which may be the row's muscle."""
    frame = Frame(np.zeros((ROWS, COLUMNS), dtype=np.uint8), None, "", (0, 0), (ROWS, COLUMNS))
    muscles = [{"name": "rectus_femoris", "labels": ["1"]}, {"name": "other", "labels": ["2", "#00ff00"]}]
    segmentation = SegmentationConfig.model_validate_json(json.dumps({"muscles": muscles}))
    return read_drawn(path, frame, segmentation, muscle="rectus femoris", label="", annotated=())


# ---- watching --------------------------------------------------------------------------------------------------------


def tried(read: Read, sample: Sample, folder: Path) -> str:
    """ "" when the file was opened, the rule when it was refused; any other exception is a fault and passes."""
    path = folder / sample.name
    path.write_bytes(sample.content)
    try:
        read(path)
    except DataError as refusal:
        if not refusal.findings or any(f.severity != "error" or not f.remedy for f in refusal.findings):
            raise AssertionError("a refusal without a finding, or without a way out") from None
        return refusal.findings[0].rule
    finally:
        path.unlink()
    return ""


def _work(connection: Connection, read: Read, files: Sequence[Sample]) -> None:
    """In a process of its own: one message per file; the memory is that of the process so far, in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        connection.send(("ready", 0.0, _peak_bytes()))
        for sample in files:
            start = time.process_time()
            try:
                verdict = tried(read, sample, Path(folder)) or "opened"
            except BaseException as fault:
                verdict = f"fault: {type(fault).__name__}: {fault}"[:300]
            connection.send((verdict, time.process_time() - start, _peak_bytes()))


def _peak_bytes() -> int:
    """Of this program's memory; getrusage would count the process that started it as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def watched(read: Read, files: Sequence[Sample], patience: float = 60.0) -> Outcome:
    """Read the files in a process of its own, and go on in another one after a crash or a hang.

    A file's seconds are those of the processor, whatever else the machine does; ``patience`` is by the clock.
    """
    outcome = Outcome()
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < len(files):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, read, files[done:]), daemon=True)
        process.start()
        theirs.close()
        try:
            before = ours.recv()[2]
            while done < len(files):
                if not ours.poll(patience):
                    raise TimeoutError
                verdict, seconds, peak = ours.recv()
                _note(outcome, files[done].name, verdict, seconds, peak - before)
                done += 1
        except (EOFError, ConnectionError, TimeoutError) as fault:
            what = "hangs" if isinstance(fault, TimeoutError) else "crashes the process"
            outcome.faults.append(f"{files[done].name} (number {done}): {what}")
            done += 1
        finally:
            process.kill()
            process.join()
            ours.close()
    return outcome


def _note(outcome: Outcome, name: str, verdict: str, seconds: float, peak: int) -> None:
    outcome.seconds = max(outcome.seconds, seconds)
    if peak > MAX_BYTES >= outcome.peak_bytes:  # the peak never falls: only the first file above the limit is named
        outcome.faults.append(f"{name}: {peak / 2**20:.0f} MiB")
    outcome.peak_bytes = max(outcome.peak_bytes, peak)
    if seconds > MAX_SECONDS:
        outcome.faults.append(f"{name}: {seconds:.1f} s")
    if verdict.startswith("fault"):
        outcome.faults.append(f"{name}: {verdict}")
    elif verdict == "opened":
        outcome.opened += 1
    else:
        outcome.refused[verdict] += 1
