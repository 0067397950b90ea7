"""What has been looked at already, on disk, so that an interrupted check goes on where it stopped.

One SQLite file in the cache folder: it holds thumbnails and preprocessed pixels of people, and so stays where the data
are. An entry's key names everything that the look depends on, so that a changed file or study is looked at again.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from client.quality.images import Look
from client.quality.records import ImageRecord, MaskMeasures
from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from sarco_models.image_cache import make_cache
from sarco_models.images import Facts
from sarco_models.mask_origins import FINDING_VERSION, Origin
from sarco_models.preprocess import PREPROCESSING_VERSION
from sarco_models.targets import Target, target_words
from sarco_models.views import View

Pixels = NDArray[np.uint8]

CHECKS_VERSION = 4
"""Raise it when the same image would be judged otherwise, so that no stale judgement is read."""

_TABLE = "CREATE TABLE IF NOT EXISTS looks (key TEXT PRIMARY KEY, record TEXT, grey BLOB, thumbnail BLOB, view BLOB)"


class Journal:
    """Image records by key; a context manager that closes the file."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; one that is no journal is begun anew."""
        make_cache(path.parent)
        try:
            self._connection = _opened(path)
        except sqlite3.DatabaseError:
            path.unlink()
            self._connection = _opened(path)

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; what was put is kept."""
        self._connection.close()

    def get(self, key: str, look: Look) -> ImageRecord | None:
        """The record of this look, None when it has to be made."""
        row = self._connection.execute("SELECT record, grey, thumbnail, view FROM looks WHERE key = ?", (key,))
        found = row.fetchone()
        return _decoded(look, *found) if found else None

    def put(self, entries: Iterable[tuple[str, ImageRecord]]) -> None:
        """Keep these records, all or none."""
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?)",
                [(key, *_encoded(record)) for key, record in entries],
            )

    def forget_all_but(self, keys: Iterable[str]) -> None:
        """Drop what was seen of images that are there no more: their pixels are not kept longer than they."""
        with self._connection:
            self._connection.execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY)")
            self._connection.executemany("INSERT OR IGNORE INTO wanted VALUES (?)", ((key,) for key in keys))
            self._connection.execute("DELETE FROM looks WHERE key NOT IN (SELECT key FROM wanted)")
            self._connection.execute("DROP TABLE wanted")


def _opened(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with suppress(PermissionError):  # of another account: that one's to close
        path.chmod(0o600)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")  # outlives a killed process; a power cut may cost the last looks
    connection.execute("PRAGMA secure_delete = ON")  # what is dropped were pixels of people
    connection.execute(_TABLE)
    return connection


def key_of(look: Look) -> str:
    """Digest of everything that the look depends on; files by name, size and time of last change."""
    digest = hashlib.blake2b(digest_size=20)
    digest.update(f"{CHECKS_VERSION}|{PREPROCESSING_VERSION}|{look.study.image.model_dump_json()}".encode())
    digest.update((f"|{FINDING_VERSION}" if look.study.image.auto else target_words(look.study)).encode())
    digest.update(f"|{look.row}|{look.calibration}|{look.templates}|".encode() + look.salt)
    for name in (look.row.image, look.row.mask):
        path = look.folder / name
        if name and path.is_file():
            stat = path.stat()
            digest.update(f"|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


def _encoded(record: ImageRecord) -> tuple[str, bytes, bytes, bytes | None]:
    plain = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _APART}
    plain["findings"] = [asdict(finding) for finding in record.findings]
    plain["facts"] = asdict(record.facts) if record.facts else None
    plain["measures"] = asdict(record.measures) if record.measures else None
    plain["phash"] = f"{record.phash:x}"  # 64 bits are more than JSON's numbers promise
    plain["drawn"] = [asdict(measures) for measures in record.drawn]
    plain["target"] = _of_target(record.target)
    plain["origin"] = asdict(record.origin) if record.origin else None
    view = None if record.view is None else np.ascontiguousarray(record.view).tobytes()
    if view and record.target:
        view += np.ascontiguousarray(record.target.classes).tobytes()
    return json.dumps(plain), record.grey.astype("<i8").tobytes(), record.thumbnail, view


_APART = ("row", "grey", "thumbnail", "view", "target")


def _of_target(target: Target | None) -> dict[str, Any] | None:
    """All of a target but its classes."""
    if target is None:
        return None
    return {
        "annotated": sorted(target.annotated),
        "present": sorted(target.present),
        "view": target.view.numbers().tolist(),
        "muscle": target.muscle,
        "findings": [asdict(finding) for finding in target.findings],
    }


def _target(plain: Mapping[str, Any] | None, classes: Pixels, study: StudyConfig) -> Target | None:
    if plain is None:
        return None
    view = View.of_numbers(plain["view"], study.image.size)
    annotated, present = frozenset(plain["annotated"]), frozenset(plain["present"])
    told = tuple(Finding(**finding) for finding in plain["findings"])
    return Target(classes, annotated, present, view, plain["muscle"], told)


def _decoded(look: Look, text: str, grey: bytes, thumbnail: bytes, view: bytes | None) -> ImageRecord:
    plain: Mapping[str, Any] = json.loads(text)
    side = look.study.image.size
    squares = np.frombuffer(view or b"", dtype=np.uint8).reshape(-1, side, side)  # pixels, and classes if there are any
    return ImageRecord(
        **{
            **plain,
            "row": look.row,
            "findings": tuple(Finding(**finding) for finding in plain["findings"]),
            "facts": Facts(**plain["facts"]) if plain["facts"] else None,
            "measures": MaskMeasures(**plain["measures"]) if plain["measures"] else None,
            "phash": int(plain["phash"], 16),
            "shape": tuple(plain["shape"]),
            "stored_shape": tuple(plain["stored_shape"]),
            "mm_per_pixel": tuple(plain["mm_per_pixel"]) if plain["mm_per_pixel"] else None,
            "text": tuple(tuple(box) for box in plain["text"]),
            "grey": np.frombuffer(grey, dtype="<i8").astype(np.int64),
            "thumbnail": thumbnail,
            "view": None if view is None else squares[0],
            "target": _target(plain["target"], squares[-1], look.study) if view else None,
            "drawn": tuple(MaskMeasures(**measures) for measures in plain["drawn"]),
            "annotated": tuple(plain["annotated"]),
            "origin": Origin.from_json(plain["origin"]) if plain["origin"] else None,
        }
    )
