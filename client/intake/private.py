"""What stays with the person who runs ingest: a folder beside the site's data that only its owner can read.

``mapping.toml`` says what the hospital's files mean. ``key.csv`` says who P0001 is: with it the data are of named
persons, without it nobody can be found again. ``places.csv`` lists what was left out, by its path in the source.
``secret`` makes new identifiers, and ``journal.jsonl`` remembers what was copied, so that the next run goes on from it.
"""

import csv
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from sarco_models.errors import ConfigError

KEY_FILE = "key.csv"
PLACES_FILE = "places.csv"

_SECRET_BYTES = 32
_KEY_COLUMNS = ("id", "participant_id")


def private_folder(data: Path) -> Path:
    """The folder that belongs to a site's data."""
    return data.with_name(f"{data.name}-private")


def open_private(folder: Path) -> bytes:
    """Make the folder readable for its owner alone, and return the site's secret, new where there was none."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "secret"
    if not path.exists():
        write_private(path, secrets.token_hex(_SECRET_BYTES))
    try:
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise ConfigError(f"{path}: cannot be read: put the file back, or choose another folder for the data") from None


def keyed(secret: bytes, *parts: str) -> bytes:
    """32 bytes that are equal for equal parts, and say nothing to whoever does not have the secret."""
    return hmac.new(secret, "\0".join(parts).encode("utf-8", "surrogateescape"), hashlib.sha256).digest()


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, and for the owner alone; names of files may hold bytes that are no UTF-8."""
    partial = path.with_name(f"{path.name}.part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> bool:
    """A CSV file for the owner alone; True when it was not there as it is now."""
    text = csv_text(header, rows)
    if path.exists() and path.read_text(encoding="utf-8", errors="surrogateescape") == text:
        return False
    write_private(path, text)
    return True


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated values, one line each."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


# ---- pseudonyms ------------------------------------------------------------------------------------------------------


def pseudonyms(folder: Path, ids: Iterable[str], secret: bytes) -> dict[str, str]:
    """P0001, P0002, ... for each id; whoever has a number keeps it, also when the person is gone for a while.

    New people are numbered in an order that only the secret knows, so that a number says nothing about a person's place
    in the table, which may be the order of admission.

    Args:
        folder: of :func:`open_private`; ``key.csv`` there is read, and written when somebody is new.
        ids: as the table writes them.
        secret: of this site.
    """
    path = folder / KEY_FILE
    known = _read_key(path) if path.exists() else {}
    new = sorted(set(ids) - set(known), key=lambda id_: keyed(secret, "person", id_))
    first = 1 + max((int(number[1:]) for number in known.values()), default=0)
    known |= {id_: f"P{first + k:04d}" for k, id_ in enumerate(new)}
    if new:
        by_number = sorted(known, key=lambda id_: int(known[id_][1:]))
        write_private(path, csv_text(_KEY_COLUMNS, ((id_, known[id_]) for id_ in by_number)))
    return known


def _read_key(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            key = {row["id"]: row["participant_id"] for row in csv.DictReader(file)}
    except (OSError, KeyError, UnicodeDecodeError):
        key = {"": ""}
    if not all(number[:1] == "P" and number[1:].isdecimal() for number in key.values()):
        raise ConfigError(f"{path}: is no key of this program: put the file back; without it nobody is found again")
    if len(set(key.values())) != len(key):
        raise ConfigError(f"{path}: two ids have one number: put the file back as it was")
    return key
