"""Is somebody here also in another hospital's data? Answered by comparing fingerprints, if the hospitals agree to.

What may be fingerprinted, and why. Hospitals that compare must share a salt, and whoever holds the salt can fingerprint
any guess. A salted hash therefore hides only what cannot be guessed. The pixels of an ultrasound frame cannot: their
speckle alone is tens of thousands of random bits, so that somebody who does not have the image learns nothing. A name,
a birth date, a telephone or identity number can, and no hash is slow enough: at 50 ms for each guess, all birth dates
with all initials (2e7) take one machine of 16 cores a day. Such keys are refused.

So the default is pixels alone. They find frames that two hospitals hold (a transferred person, a shared teaching file,
an archive that was merged), not one person who was scanned anew in each. For that a hospital may keep a linkage.csv of
keys that mean nothing by themselves: random tokens of a trust centre, the same in both hospitals. A hash of an identity
number looks like such a token and is none; no program can tell them apart, so the hospital must know where its keys
come from.

What a comparison does tell: each side learns which of its own rows the other has, too. That is its purpose, and it is
the reason to ask the ethics committee first. Fingerprints are padded with random ones to a power of two, so that a file
says the number of images only within a factor of two. Give the salt to the hospitals and not to the coordinator, who
only passes the files on.
"""

import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client.quality.columns import row_list
from client.quality.records import ImageRecord
from sarco_models.errors import ConfigError, DataError, Finding
from sarco_models.schema import IMAGES_FILE
from sarco_models.sheets import read_sheet

LINKAGE_FILE = "linkage.csv"
FORMAT = "sarco-fingerprints-1"
SALT_BYTES = 16  # fewest; 32 from secrets.token_bytes are a good choice
FEWEST_PRINTS = 256  # a file never holds fewer
PRINT_BYTES = 16  # 128 bits: chance equals among a million fingerprints of each of a hundred hospitals: 1e-23
TOKEN = re.compile(r"[0-9A-Za-z+/_=-]{22,}")
TOKEN_BITS = 100.0  # least possible information of a key, by its characters
BLANK_BITS = 2.0  # entropy of the grey levels below which a frame is a blank and may be guessed
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


@dataclass(frozen=True)
class Fingerprints:
    """What one hospital may show another.

    Attributes:
        study: digest of the study.
        salt_id: tells whether two hospitals used the same salt, and nothing else of it.
        images: print -> rows in images.csv of the images that have these pixels; here only, never written.
        people: print -> rows in linkage.csv; here only, never written.
    """

    study: str
    salt_id: str
    images: Mapping[str, tuple[int, ...]]
    people: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shown:
    """Another hospital's fingerprints: its images and people, and decoys that nobody has."""

    images: frozenset[str]
    people: frozenset[str]


def fingerprints(records: Iterable[ImageRecord], study: str, salt: bytes, linkage: Path | None = None) -> Fingerprints:
    """Fingerprints of this hospital's images, and of its linkage keys where it keeps some.

    Args:
        records: of the images; blank frames and those that could not be read are left out.
        study: digest of the study, so that the files of two studies cannot be joined.
        salt: secret of the hospitals that compare, at least 16 random bytes.
        linkage: table with the columns participant_id and key; None = pixels only.

    Raises:
        ConfigError: the salt is short.
        DataError: a key of the linkage table could be guessed, or is no key.
    """
    key = _key(salt, study)
    images: dict[str, tuple[int, ...]] = {}
    for record in records:
        if record.content and not _is_blank(record):
            mark = _print(key, "image", record.content)
            images[mark] = (*images.get(mark, ()), record.row.row)
    people: dict[str, tuple[int, ...]] = {}
    for row, token in _tokens(linkage) if linkage else ():
        mark = _print(key, "person", _slow(token, key))
        people[mark] = (*people.get(mark, ()), row)
    return Fingerprints(study, _print(key, "salt", ""), images, people)


def write_fingerprints(path: Path, own: Fingerprints, private: bytes) -> None:
    """Write what another hospital may read: prints without rows, padded with decoys, in order of their value.

    Args:
        path: of the file, for the other hospitals.
        own: of this hospital.
        private: this hospital's own secret, which never leaves it. The decoys follow from it alone: were they drawn
            anew for every file, two files of one hospital would show which prints are true.
    """
    content = {
        "format": FORMAT,
        "study": own.study,
        "salt_id": own.salt_id,
        "images": _padded(own.images, private, "image"),
        "people": _padded(own.people, private, "person") if own.people else [],
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105 - one call, atomic on every platform


def read_fingerprints(path: Path, own: Fingerprints) -> Shown:
    """Read another hospital's file.

    Raises:
        DataError: it is no such file, or was made for another study or with another salt.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise _unusable("not readable as JSON", f"a file of {FORMAT}", "ask for the file again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _unusable("another format", FORMAT, "ask for a file of sarco-site")
    if content.get("study") != own.study:
        raise _unusable("another study", "the study of this site", "compare within one study only")
    if content.get("salt_id") != own.salt_id:
        raise _unusable("another salt", "the salt that the hospitals agreed upon", "agree upon one salt, write again")
    return Shown(_prints(content, "images"), _prints(content, "people"))


def overlap_findings(own: Fingerprints, others: Sequence[Shown]) -> tuple[Finding, ...]:
    """Rows of this hospital that others have, too; the others are counted in the order given, never named.

    Args:
        own: of this hospital.
        others: as read from their files.
    """
    findings: list[Finding] = []
    for number, other in enumerate(others, start=1):
        images = sorted(row for mark in own.images.keys() & other.images for row in own.images[mark])
        people = sorted(row for mark in own.people.keys() & other.people for row in own.people[mark])
        for rows, file, what in ((images, IMAGES_FILE, "image"), (people, LINKAGE_FILE, "key")):
            if rows:
                seen = f"{len(rows)} {what}{'s' * (len(rows) > 1)} that hospital {number} has, too: {row_list(rows)}"
                remedy = "agree which hospital keeps these people: one person must not stand in two"
                findings.append(Finding("warning", "overlap", file, seen, f"{what}s of this hospital alone", remedy))
    return tuple(findings)


# --- prints -----------------------------------------------------------------------------------------------------------


def _key(salt: bytes, study: str) -> bytes:
    """The salt, stretched and bound to the study."""
    if len(salt) < SALT_BYTES:
        raise ConfigError(f"the salt has {len(salt)} bytes; take {SALT_BYTES} or more from secrets.token_bytes")
    return hashlib.scrypt(salt, salt=study.encode(), dklen=32, **_SCRYPT)


def _print(key: bytes, kind: str, value: str) -> str:
    return hmac.new(key, f"{kind}|{value}".encode(), hashlib.sha256).digest()[:PRINT_BYTES].hex()


def _slow(token: str, key: bytes) -> str:
    """A second line behind the refusal of guessable keys: some 50 ms for each guess."""
    return hashlib.scrypt(token.encode(), salt=key, dklen=32, **_SCRYPT).hex()


def _padded(true: Iterable[str], private: bytes, kind: str) -> list[str]:
    """True prints and decoys, up to the next power of two, sorted."""
    marks = set(true)
    size = max(FEWEST_PRINTS, 1 << (len(marks) - 1).bit_length())
    decoys = (_print(private, f"decoy {kind}", str(k)) for k in range(size))
    return sorted([*marks, *(next(decoys) for _ in range(size - len(marks)))])


def _prints(content: Mapping[str, Any], name: str) -> frozenset[str]:
    marks = content.get(name)
    form = re.compile(rf"[0-9a-f]{{{2 * PRINT_BYTES}}}")
    if not isinstance(marks, list) or not all(isinstance(m, str) and form.fullmatch(m) for m in marks):
        raise _unusable(f"{name} that are no fingerprints", FORMAT, "ask for the file again")
    return frozenset(marks)


def _unusable(seen: str, expected: str, remedy: str) -> DataError:
    return DataError([Finding("error", "fingerprints", "another hospital's file", seen, expected, remedy)])


def _is_blank(record: ImageRecord) -> bool:
    """Few grey levels: an empty frame, which is the same in every hospital and tells of nobody."""
    share = record.grey[record.grey > 0] / max(int(record.grey.sum()), 1)
    return float(-(share * np.log2(share)).sum()) < BLANK_BITS


# --- linkage keys -----------------------------------------------------------------------------------------------------


def _tokens(path: Path) -> list[tuple[int, str]]:
    """Row and key of each line of the linkage table; every key must be beyond guessing."""
    sheet = read_sheet(path)
    if "key" not in sheet.header:
        words = ("absent", "a column key", "name the column of the trust centre's tokens key")
        raise DataError([Finding("error", "column", LINKAGE_FILE, *words, field="key")])
    found = [(row, cells["key"]) for row, cells in sheet.rows if cells["key"]]
    faults = [_guessable(row, key) for row, key in found if not _is_token(key)]
    if faults:
        raise DataError(faults)
    return found


def _is_token(key: str) -> bool:
    """Whether a key can be a random token: no identity number is as long, no name has its characters."""
    alphabet = 10 if key.isdecimal() else 16 if re.fullmatch(r"[0-9a-fA-F-]+", key) else 64
    length = len(key.replace("-", ""))
    mixed = any(c.isdigit() for c in key)
    return bool(TOKEN.fullmatch(key)) and mixed and length * np.log2(alphabet) >= TOKEN_BITS


def _guessable(row: int, key: str) -> Finding:
    seen = f"a key of {len(key)} characters"
    expected = "a random token, such as 32 hexadecimal digits"
    remedy = (
        "use tokens of a trust centre; what could be guessed (name, date, number) can be guessed from its hash, too"
    )
    return Finding("error", "guessable-key", LINKAGE_FILE, seen, expected, remedy, row=row, field="key")
