"""What the headers of image and mask files say about people: the names of the fields, never what stands in them.

A training run reads none of them (``sarco_models.images``); a hospital still wants to know before it copies a folder
for somebody. Damaged headers say nothing here: whether the file can be read is another check.
"""

import gzip
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.ExifTags import IFD, TAGS
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from client.quality.identity import header_digest, shown_mask, shown_name, text_sign
from sarco_models.errors import Finding, Severity
from sarco_models.schema import ImageRow

_DEFERRED = 4096  # bytes; longer elements are a scanner's private raw data, and are not read
_DEEPEST = 3  # nested sequences


def _keywords(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSON = _keywords("""
    PatientName PatientID PatientBirthDate PatientBirthTime PatientBirthName PatientMotherBirthName
    OtherPatientIDs OtherPatientIDsSequence OtherPatientNames PatientAddress PatientTelephoneNumbers
    PatientTelecomInformation MedicalRecordLocator MilitaryRank ResponsiblePerson PatientPhotoSequence
    PatientInsurancePlanCodeSequence CountryOfResidence RegionOfResidence PatientReligiousPreference
""")
"""What names a person or dates a birth (PS3.15 E.1.1); other names, such as an operator's, are around the person."""

_AROUND = _keywords("""
    InstitutionName InstitutionAddress InstitutionalDepartmentName StationName DeviceSerialNumber AccessionNumber
    StudyID AdmissionID IssuerOfPatientID StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime
    StudyDescription SeriesDescription ProtocolName PatientComments ImageComments StudyComments
    AdditionalPatientHistory Occupation ReasonForStudy MedicalAlerts RequestedProcedureDescription
    PerformedProcedureStepDescription RequestAttributesSequence DerivationDescription
    AdmittingDiagnosesDescription Allergies RequestingService
""")
_UIDS = frozenset(["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"])
_TOLD = _PERSON | _AROUND | _UIDS
_NOBODY = frozenset(["anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "deidentified", "removed"])

_EXIF_TEXTS = _keywords("""
    ImageDescription Artist Copyright HostComputer DateTime DateTimeOriginal DateTimeDigitized DocumentName
    PageName UserComment XPTitle XPComment XPAuthor XPKeywords XPSubject CameraOwnerName BodySerialNumber
    ImageUniqueID GPSInfo XMLPacket IPTCNAA ImageResources
""")
_PNG_TEXTS = frozenset(
    ("Title", "Author", "Description", "Copyright", "Creation Time", "Disclaimer", "Source", "Comment")
)


@dataclass(frozen=True)
class Header:
    """Fields of an image file that say something about people.

    Attributes:
        person: names of the fields that name somebody, or say when somebody was born.
        around: names of the fields about the place, the staff, the day, and free texts.
        private: number of a manufacturer's private elements.
        removed: the file says that its identity has been removed.
        header_id: keyed digest of the patient id, "" when there is none.
    """

    person: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    private: int = 0
    removed: bool = False
    header_id: str = ""


def read_header(file: BinaryIO, participant_id: str, salt: bytes) -> Header:
    """Fields about people in a DICOM or picture file; an empty header when it cannot be parsed.

    Args:
        file: at its start.
        participant_id: the pseudonym, which may stand in the file.
        salt: see :func:`client.quality.identity.header_digest`.
    """
    head = file.read(132)
    file.seek(0)
    with warnings.catch_warnings(), suppress(Exception):  # readers raise anything on damaged bytes
        warnings.simplefilter("ignore")  # they quote header values
        if head[:8] == b"\x89PNG\r\n\x1a\n":
            return Header(around=tuple(sorted(set(_png_texts(file)))))
        if head[:2] in (b"\xff\xd8", b"II", b"MM") and head[128:132] != b"DICM":
            return Header(around=tuple(sorted(set(_picture_texts(file)))))
        if head[:2] != b"BM":
            return _dicom_header(file, participant_id, salt)
    return Header()


def header_findings(header: Header, row: ImageRow) -> tuple[Finding, ...]:
    """One finding for what an image's header holds, or none."""
    fields = [*header.person, *header.around]
    if header.private:
        fields.append(f"{header.private} private elements")
    if not fields:
        return ()
    severe = bool(header.person) and not header.removed
    remedy = "no training run reads it; sarco-site ingest writes copies without it"
    expected = "no person in the header" if severe else "as little as possible"
    seen = _listed(fields) + (" (the file says that its identity is removed)" if header.removed else "")
    severity: Severity = "warning" if severe else "note"
    return (Finding(severity, "identity-header", shown_name(row), seen, expected, remedy, row.row, "image"),)


def _listed(fields: list[str], most: int = 6) -> str:
    return ", ".join(fields[:most]) + (f" and {len(fields) - most} more" if len(fields) > most else "")


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def _dicom_header(file: BinaryIO, participant_id: str, salt: bytes) -> Header:
    data = dcmread(file, force=True, stop_before_pixels=True, defer_size=_DEFERRED)
    found = set(_fields(data, participant_id))
    header_id, removed = str(data.get("PatientID") or ""), data.get("PatientIdentityRemoved") == "YES"
    person, around = sorted(found & _PERSON), sorted(found - _PERSON - _UIDS)
    if found & _UIDS and not removed:  # whoever removed the identity has replaced them
        around.append("UIDs")
    private = sum(tag.is_private for tag in data.keys())  # noqa: SIM118 - iterating would parse every element
    trusted = removed and _is_pseudonym(header_id, participant_id)
    return Header(tuple(person), tuple(around), private, trusted, header_digest(header_id, salt))


def _fields(data: Dataset, participant_id: str, depth: int = 0) -> Iterator[str]:
    """Keywords of the elements that hold something about a person, at any depth."""
    for tag in data.keys():  # noqa: SIM118 - iterating would parse every element
        item = data.get_item(tag)
        if item is None or tag.is_private or not _filled(item.value, getattr(item, "length", 1)):
            continue
        keyword = keyword_for_tag(tag)
        if keyword in ("PatientName", "PatientID") and _is_pseudonym(str(data.get(keyword)), participant_id):
            continue
        if keyword in _TOLD or item.VR == "PN":
            yield keyword or "a name"
        elif item.VR == "SQ" and keyword != "SequenceOfUltrasoundRegions" and depth < _DEEPEST:
            for nested in data[tag].value:
                yield from _fields(nested, participant_id, depth + 1)


def _filled(value: object, length: int) -> bool:
    """An element with something in it; None = not read, because it is long."""
    if isinstance(value, bytes):
        return bool(value.strip(b" \0"))
    return length > 0 if value is None else bool(value)


def _is_pseudonym(text: str, participant_id: str) -> bool:
    plain = re.sub(r"[\W_]+", "", text).casefold()
    return plain in ("", *_NOBODY) or plain == re.sub(r"[\W_]+", "", participant_id).casefold()


# ---- pictures --------------------------------------------------------------------------------------------------------


def _picture_texts(file: BinaryIO) -> Iterator[str]:
    """JPEG and TIFF: EXIF or TIFF tags, the JPEG comment, XMP and IPTC blocks."""
    with Image.open(file, formats=("JPEG", "TIFF")) as picture:
        exif = picture.getexif()
        tags = {**exif, **exif.get_ifd(IFD.Exif)}
        yield from (TAGS[tag] for tag, value in tags.items() if TAGS.get(tag) in _EXIF_TEXTS and _has_text(value))
        yield from (name for key, name in _BLOCKS.items() if picture.info.get(key))


_BLOCKS = {"comment": "Comment", "xmp": "XMP", "photoshop": "IPTC"}


def _has_text(value: object) -> bool:
    return bool(value.strip(b" \0")) if isinstance(value, bytes) else bool(str(value).strip(" \0"))


def _png_texts(file: BinaryIO) -> Iterator[str]:
    """Keywords of a PNG's text chunks, wherever they stand; names that are none of the standard's are not shown."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        if kind == b"eXIf":
            yield "EXIF"
        start = file.tell()
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = file.read(80).partition(b"\0")[0].decode("latin-1")
            if keyword != "Software":
                yield keyword if keyword in _PNG_TEXTS else "a text"
        file.seek(start + length + 4)


# ---- masks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskHeader:
    """What a mask file says beside the mask.

    Attributes:
        texts: the free texts of its header.
        embeds: it holds a copy of the whole picture.
        image: the picture it says it was drawn on, "" when it does not say.
    """

    texts: tuple[str, ...] = field(default=(), repr=False)
    embeds: bool = False
    image: str = field(default="", repr=False)


def read_mask_header(path: Path) -> MaskHeader:
    """Free texts of a mask's header; an empty one when it cannot be parsed."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            if head == b"\x89PNG":
                return MaskHeader(tuple(_png_texts(file)))
            if head[:2] == b"\x1f\x8b":
                return MaskHeader(_volume_texts(gzip.GzipFile(fileobj=file).read(4096)))
            if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                return _labelme_header(file.read())
            return MaskHeader(_volume_texts(file.read(4096)))
    return MaskHeader()


def mask_header_findings(header: MaskHeader, row: ImageRow) -> tuple[Finding, ...]:
    """One finding for the texts and pictures that a mask file carries along, or none."""
    signs = [sign for text in header.texts if (sign := text_sign(text))]
    said = ["a copy of the whole picture"] * header.embeds + sorted(set(signs))
    if not said:
        return ()
    expected, remedy = "the mask alone", "no training run reads it; remove it before you give the folder to anybody"
    severity: Severity = "warning" if signs else "note"
    return (Finding(severity, "identity-mask", shown_mask(row), _listed(said), expected, remedy, row.row, "mask"),)


_NIFTI_TEXTS = (slice(14, 32), slice(148, 228), slice(228, 252))  # db_name, descrip, aux_file (nifti1.h)
_META_KEYS = (b"Comment", b"Name", b"PatientName", b"PatientID", b"ID", b"AcquisitionDate", b"TransmitCoil")


def _volume_texts(head: bytes) -> tuple[str, ...]:
    """Free texts of a NIfTI, NRRD or MetaImage header; a segmentation's own keys in NRRD are none."""
    if head[344:347] in (b"n+1", b"ni1"):
        found = [head[place].partition(b"\0")[0] for place in _NIFTI_TEXTS]
    elif head.startswith(b"NRRD"):
        lines = head.partition(b"\n\n")[0].splitlines()
        pairs = [line.partition(b":=") for line in lines if b":=" in line and not line.startswith(b"Segment")]
        found = [value for _, _, value in pairs] + [line[9:] for line in lines if line.startswith(b"content: ")]
    else:
        pairs = [line.partition(b" = ") for line in head.partition(b"ElementDataFile")[0].splitlines()]
        found = [value for key, _, value in pairs if key.strip() in _META_KEYS]
    return tuple(text.decode("utf-8", "replace").strip() for text in found if text.strip())


def _labelme_header(page: bytes) -> MaskHeader:
    """Found without parsing: an embedded picture may be megabytes of text."""
    source = re.search(rb'"imagePath"\s*:\s*("(?:[^"\\]|\\.)*")', page)
    image = str(json.loads(source[1])) if source else ""
    embeds = re.search(rb'"imageData"\s*:\s*"\S', page) is not None
    return MaskHeader((image.replace("\\", "/").rpartition("/")[2],), embeds, image)
