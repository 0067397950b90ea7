"""What ingest asks a DICOM header: whose it is, to find the person; what is of the person, to strike it out.

Values of this module are compared and thrown away. Only the day (shortened), the side, the scanner and the transducer
are ever written, and none of the three texts that shares a word with the person's data.
"""

import datetime
import logging
import re
import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.multival import MultiValue

from sarco_models.dicom import is_dicom
from sarco_models.words import date

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote header values

_ID = 0x00100020
_MANUFACTURER, _MODEL, _TRANSDUCER = 0x00080070, 0x00081090, 0x00185010
_DEPTH = 0x00185050
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_DATES = (0x00080020, 0x00080022, 0x00080021, 0x00080023)  # study, acquisition, series, content
_SIDES = (0x00200062, 0x00200060)  # of the image, of the body part
_OF_PERSONS = (
    0x00080050, 0x00080090, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00100010, _ID, 0x00100021, 0x00101000,
    0x00101001, 0x00101005, 0x00101040, 0x00101060, 0x00102154, 0x00181000, 0x00200010, 0x00321032, 0x00380010,
)  # fmt: skip
"""Accession number; physicians and operators; names, ids, address, telephone; serial number of the machine."""

_MAX_TEXT = 64  # VR LO


@dataclass(frozen=True)
class HeaderFacts:
    """A DICOM header as ingest uses it.

    Attributes:
        person: id of the person, as stored.
        day: of the exam; None where it is not said.
        side: "left", "right" or "".
        study: UID.
        series: UID.
        manufacturer: "" where it is not said, or holds a word of the person's data.
        model: likewise.
        transducer: likewise.
        depth_mm: of the scan field; None where it is not said.
        names_device: the file says which machine made it, whether or not that was withheld.
        withheld: texts that were emptied for such a word.
    """

    person: str = ""
    day: datetime.date | None = None
    side: str = ""
    study: str = ""
    series: str = ""
    manufacturer: str = ""
    model: str = ""
    transducer: str = ""
    depth_mm: float | None = None
    names_device: bool = False
    withheld: int = 0


def read_header(path: Path) -> HeaderFacts | None:
    """The header of a DICOM file; None for any other file, and for a damaged header."""
    tags: list[int] = [*_OF_PERSONS, *_DATES, *_SIDES, _MANUFACTURER, _MODEL, _TRANSDUCER, _DEPTH, _STUDY, _SERIES]
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values
            if not is_dicom(file):
                return None
            return _facts(dcmread(file, force=True, stop_before_pixels=True, specific_tags=tags))
    except Exception:  # pydicom raises anything on damaged bytes; the pixels are judged elsewhere
        return None


def _facts(header: Dataset) -> HeaderFacts:
    forbidden = _words(_text(header, tag) for tag in _OF_PERSONS)
    stored = [_text(header, tag) for tag in (_MANUFACTURER, _MODEL, _TRANSDUCER)]
    kept = [text if _is_clean(text, forbidden) else "" for text in stored]
    days = (date(_text(header, tag)) for tag in _DATES)
    sides = ({"L": "left", "R": "right"}.get(_text(header, tag), "") for tag in _SIDES)
    return HeaderFacts(
        person=_text(header, _ID).strip(),
        day=next((day for day in days if day), None),
        side=next((side for side in sides if side), ""),
        study=_text(header, _STUDY),
        series=_text(header, _SERIES),
        manufacturer=kept[0],
        model=kept[1],
        transducer=kept[2],
        depth_mm=_number(_text(header, _DEPTH)),
        names_device=any(stored[:2]),
        withheld=sum(was != now for was, now in zip(stored, kept, strict=True)),
    )


def _text(header: Dataset, tag: int) -> str:
    """One line; "" where the element is absent."""
    value = header[tag].value if tag in header else None
    texts = value if isinstance(value, MultiValue) else [value]
    plain = " ".join("" if text is None else str(text) for text in texts)
    return " ".join(plain.replace("\\", " ").split())[:_MAX_TEXT]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _words(texts: Iterable[str]) -> frozenset[str]:
    """Words of two or more characters, three of Latin letters and digits: "U1" is nobody's name."""
    found = {word for text in texts for word in re.split(r"[\W_]+", _plain(text))}
    return frozenset(word for word in found if len(word) > (2 if word.isascii() else 1))


def _is_clean(text: str, forbidden: frozenset[str]) -> bool:
    """Words are compared whole, so that Sam may use a Samsung; languages without blanks are searched."""
    own = _words([text])
    return not own & forbidden and not any(not word.isascii() and word in _plain(text) for word in forbidden)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
