"""A de-identified DICOM still: the tissue region of one frame under a header that is written from a short list.

PS3.15 E.1: basic profile (113100) with clean pixel data (113101). No element is taken over from the source but the
scanner's and transducer's names, the depth of its field and whether it was compressed. New UIDs are the same each time,
equal where the source's were equal, and cannot be traced back without this site's secret.
"""

import uuid
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from client.intake.dicom_header import HeaderFacts
from client.intake.private import keyed
from sarco_models.images import Frame

_UTF8 = "ISO_IR 192"
_CENTIMETRES, _NO_UNIT = 3, 0  # PS3.3 C.8.5.5.1.15
_METHOD = "Header by whitelist; pixels outside the tissue region black"
_ID, _NAME, _BIRTH_DATE, _SEX = 0x00100020, 0x00100010, 0x00100030, 0x00100040
_IDENTITY_REMOVED = 0x00120062
_EMPTY = {  # type 2: present, without a value (PS3.3 C.7.1.1, C.7.2.1, C.7.3.1)
    0x00080020: "DA", 0x00080030: "TM", 0x00080050: "SH", 0x00080090: "PN", 0x00200010: "SH", _BIRTH_DATE: "DA",
    _SEX: "CS", 0x00200060: "CS",
}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """Who a copy is of.

    Attributes:
        person: what the copy calls the person.
        origin: path below the source folder, and the frame: what makes the image another than all others.
        secret: of this site; only keyed digests of the origin are used.
    """

    person: str
    origin: tuple[str, int]
    secret: bytes


def stored(frame: Frame) -> NDArray[np.uint8]:
    """The stored frame, black outside the tissue region."""
    whole = np.zeros(frame.stored_shape, dtype=np.uint8)
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    whole[top : top + height, left : left + width] = frame.pixels
    return whole


def dicom_bytes(frame: Frame, header: HeaderFacts, identity: Identity, *, burned_in: bool) -> bytes:
    """An uncompressed 8-bit grey still with the tissue region, its spacing and its device, and a new identity."""
    captured = "Secondary Capture" in frame.facts.kind
    data = Dataset()
    data.SpecificCharacterSet = _UTF8
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.SOPClassUID = uid.SecondaryCaptureImageStorage if captured else uid.UltrasoundImageStorage
    data.SOPInstanceUID = _new_uid(identity.secret, "image", identity.origin[0], str(identity.origin[1]))
    data.StudyInstanceUID = _new_uid(identity.secret, "study", header.study or identity.person)
    data.SeriesInstanceUID = _new_uid(identity.secret, "series", header.series or identity.person)
    for tag, kind in _EMPTY.items():
        data.add_new(tag, kind, "")
    data.add_new(_ID, "LO", identity.person)
    data.add_new(_NAME, "PN", identity.person)
    data.SeriesNumber, data.InstanceNumber = None, identity.origin[1] + 1
    data.Modality = "US"
    if captured:
        data.ConversionType = "WSD"
    device = (header.manufacturer, header.model) if header.names_device else ("", frame.device)
    data.Manufacturer, data.ManufacturerModelName = device
    data.TransducerData = header.transducer
    if header.depth_mm is not None:
        data.DepthOfScanField = round(header.depth_mm)
    data.LossyImageCompression = "01" if frame.facts.lossy else "00"
    data.SequenceOfUltrasoundRegions = [_region(frame)]
    _deidentified(data, burned_in=burned_in)
    _pixels(data, stored(frame))
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _deidentified(data: Dataset, *, burned_in: bool) -> None:
    """PS3.15 E.1: the basic profile (113100) and the option of clean pixel data (113101)."""
    data.BurnedInAnnotation = "YES" if burned_in else "NO"
    data.add_new(_IDENTITY_REMOVED, "CS", "YES")
    data.DeidentificationMethod = _METHOD
    codes = {"113100": "Basic Application Confidentiality Profile", "113101": "Clean Pixel Data Option"}
    sequence = []
    for value, meaning in codes.items():
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        sequence.append(code)
    data.DeidentificationMethodCodeSequence = sequence


def _region(frame: Frame) -> Dataset:
    """The tissue region (PS3.3 C.8.5.5), its maxima inclusive; without a spacing its deltas have no unit."""
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionFlags = 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = left, top
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = left + width - 1, top + height - 1
    known = frame.mm_per_pixel is not None
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = _CENTIMETRES if known else _NO_UNIT
    row, column = frame.mm_per_pixel or (10.0, 10.0)
    region.PhysicalDeltaX, region.PhysicalDeltaY = _tenth(column), _tenth(row)
    return region


def _tenth(mm: float) -> float:
    """The centimetres that a reader, multiplying by 10, takes for exactly these millimetres, if there are any."""
    near = (mm / 10, np.nextafter(mm / 10, 0.0), np.nextafter(mm / 10, np.inf))
    return float(next((cm for cm in near if cm * 10 == mm), mm / 10))


def _pixels(data: Dataset, pixels: NDArray[np.uint8]) -> None:
    """PS3.3 C.7.6.3."""
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    raw = pixels.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    data["PixelData"].VR = "OB"


def _new_uid(secret: bytes, *parts: str) -> str:
    """The same UID for the same thing at this site, and no way back (PS3.5 B.2: derived from a UUID)."""
    return f"2.25.{uuid.UUID(bytes=keyed(secret, *parts)[:16], version=4).int}"
