"""Copying many images so that it can be interrupted, repeated, and done again after some of them changed.

A journal in the private folder remembers what each source file became. A file in the site's data never changes: what
is copied anew gets a new number, so that the tables of the last run stay true until the new ones are written. Only then
are old copies removed.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from client.intake.copying import COPY_VERSION, PART, Copy, Job, Outcome, copy
from client.intake.private import write_private
from sarco_models.errors import Finding
from sarco_models.images import Calibration
from sarco_models.workers import each

Progress = Callable[[int, int], None]

JOURNAL_FILE = "journal.jsonl"
COPY_LIMIT_S = 120.0
"""A still takes milliseconds, every frame of a long cine a minute; what takes longer hangs in its decoder."""


@dataclass(frozen=True)
class Record:
    """What a source file became.

    Attributes:
        key: digest of everything the copies depend on.
        person: whose it is, as the copies say.
        number: of the image among the person's.
        outcome: the copies, and what was refused.
        sizes: path below the site's folder -> bytes.
    """

    key: str
    person: str
    number: int
    outcome: Outcome
    sizes: dict[str, int]

    @property
    def files(self) -> tuple[str, ...]:
        """Copies of the image and its mask, below the site's folder."""
        return tuple(path for c in self.outcome.copies for path in (c.image, c.mask) if path)


@dataclass(frozen=True)
class Transferred:
    """The result of one run.

    Attributes:
        records: of every image that was asked for, by path below the source.
        new: images that were not there before.
        changed: images that were copied anew.
        lost: images whose decoder ended its process or never came back.
    """

    records: dict[str, Record]
    new: int = 0
    changed: int = 0
    lost: tuple[str, ...] = ()


class Journal:
    """Records by path below the source; each is kept as soon as it is put.

    Attributes:
        records: the last of each path.
        made: copies of all records, also of those that were replaced: whatever of them is not needed can be removed.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there; a line that was cut off by an interruption counts as not written."""
        self._path = folder / JOURNAL_FILE
        self.records: dict[str, Record] = {}
        self.made: set[str] = set()
        self._numbers: set[tuple[str, int]] = set()
        self._lines = 0
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        self._lines += 1
        try:
            path, entry = json.loads(line)
            self._know(path, _record(entry))
        except (ValueError, TypeError, KeyError):
            return

    def _know(self, path: str, record: Record) -> None:
        self.records[path] = record
        self.made |= set(record.files)
        self._numbers.add((record.person, record.number))

    def free_number(self, person: str) -> int:
        """The lowest number that no image of this person has or had; it is taken now."""
        number = next(k for k in count(1) if (person, k) not in self._numbers)
        self._numbers.add((person, number))
        return number

    def put(self, path: str, record: Record) -> None:
        """Keep a record."""
        if not self._path.exists():
            write_private(self._path, "")
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{_line(path, record)}" if self._lines else _line(path, record))
        self._know(path, record)
        self._lines += 1

    def keep(self, paths: Iterable[str]) -> None:
        """Drop all other records; the file is written anew only when that changes it."""
        kept = {path: self.records[path] for path in paths if path in self.records}
        if len(kept) != self._lines:
            write_private(self._path, "\n".join(_line(path, record) for path, record in kept.items()))
        self.records, self._lines = kept, len(kept)
        self.made = {file for record in kept.values() for file in record.files}
        self._numbers = {(record.person, record.number) for record in kept.values()}


def _line(path: str, record: Record) -> str:
    return json.dumps([path, asdict(record)])


def _record(entry: dict[str, Any]) -> Record:
    said = entry["outcome"]
    copies = tuple(Copy(**{**c, "calibration": _calibration(c["calibration"])}) for c in said["copies"])
    findings = tuple(Finding(**finding) for finding in said["findings"])
    labels = tuple(tuple(names) for names in said.get("labels", ()))
    return Record(**{**entry, "outcome": Outcome(copies, findings, said["day"], said["side"], labels)})


def _calibration(said: dict[str, Any] | None) -> Calibration | None:
    if said is None:
        return None
    region, mm = said["region"], said["mm_per_pixel"]
    return Calibration(tuple(region) if region else None, tuple(mm) if mm else None, said["device"])


# ---- copying ---------------------------------------------------------------------------------------------------------


def transfer(
    jobs: Sequence[Job], journal: Journal, *, workers: int = 1, progress: Progress | None = None
) -> Transferred:
    """Copy what has not been copied yet, or not from the file as it is now.

    Args:
        jobs: in the order in which new images are numbered; their names are given here.
        journal: of the last runs; it is kept up to date.
        workers: processes; 0 = this one.
        progress: called with images done and images in all.
    """
    ready, waiting = _planned(jobs, journal)
    records = {job.path: journal.records[job.path] for job in ready}
    lost: list[str] = []
    new = changed = 0
    for position, outcome in each(copy, [job for job, _, _ in waiting], workers=workers, limit_s=COPY_LIMIT_S):
        job, key, number = waiting[position]
        before = journal.records.get(job.path)
        if outcome is None:
            lost.append(job.path)
        else:
            records[job.path] = _kept(job, Record(key, job.person, number, outcome, {}), before, journal)
            new += before is None and bool(outcome.copies)
            changed += before is not None and before.files != records[job.path].files
        if progress:
            progress(len(records) + len(lost), len(jobs))
    return Transferred({job.path: records[job.path] for job in jobs if job.path in records}, new, changed, tuple(lost))


def _planned(jobs: Sequence[Job], journal: Journal) -> tuple[list[Job], list[tuple[Job, str, int]]]:
    """Jobs that are done, and those that are not, with their key and number."""
    ready: list[Job] = []
    waiting: list[tuple[Job, str, int]] = []
    for job in jobs:
        key, before = key_of(job), journal.records.get(job.path)
        if before and before.key == key and _is_whole(before, job.folder):
            ready.append(job)
            continue
        number = before.number if before and before.key == key else journal.free_number(job.person)
        waiting.append((replace(job, name=f"{job.person}_{number:02d}"), key, number))
    return ready, waiting


def key_of(job: Job) -> str:
    """Digest of everything the copies depend on; files by size and time of last change."""
    stats = [(s.st_size, s.st_mtime_ns) for s in (path.stat() for path in job.files)]
    plain = replace(job, source=Path(), mask=job.mask and Path(job.mask.name), folder=Path(), name="", secret=b"")
    if job.muscles:
        parts = tuple((Path(path.name), muscle) for path, muscle in job.muscles.parts)
        plain = replace(plain, muscles=replace(job.muscles, parts=parts))
    return hashlib.blake2b(f"{COPY_VERSION}|{stats}|{plain}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _is_whole(record: Record, folder: Path) -> bool:
    return all((folder / path).is_file() and (folder / path).stat().st_size == n for path, n in record.sizes.items())


def _kept(job: Job, record: Record, before: Record | None, journal: Journal) -> Record:
    """Write the record down, then give the copies their names; equal copies of the same person keep what they have."""
    parts = {path: job.folder / f"{path}{PART}" for path in record.files}
    if before and before.person == record.person and _are_equal(job.folder, before, parts.values()):
        for part in parts.values():
            part.unlink()
        named = zip(record.outcome.copies, before.outcome.copies, strict=True)
        renamed = tuple(replace(new, image=old.image, mask=old.mask) for new, old in named)
        outcome = replace(record.outcome, copies=renamed)
        record = replace(record, number=before.number, outcome=outcome, sizes=before.sizes)
        journal.put(job.path, record)
        return record
    record = replace(record, sizes={path: part.stat().st_size for path, part in parts.items()})
    journal.put(job.path, record)
    for path, part in parts.items():
        part.replace(job.folder / path)
    return record


def _are_equal(folder: Path, before: Record, parts: Iterable[Path]) -> bool:
    there = [folder / path for path in before.files]
    made = list(parts)
    if not made or len(there) != len(made) or not all(path.is_file() for path in there):
        return False
    return all(old.read_bytes() == new.read_bytes() for old, new in zip(there, made, strict=True))
