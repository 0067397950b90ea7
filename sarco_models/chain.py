"""A log that cannot be changed unnoticed: lines of JSON, each with the hash of the one before.

An edited, dropped, moved, copied or inserted line is found and named. A tail that was cut off, or a log that was
written anew from some line on, is found by whoever has kept a later head: a head is the number of entries and the last
hash, and stands for all that is before it.

Lines are only ever added. A line that a crash has torn stays where it is, and the next line says so. One process writes
at a time, under a lock on the file; others catch up. What is written are names, counts and hashes, never a measured
value: numbers with a fraction are refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sarco_models.errors import ChainBroken

Fact = str | int | Sequence[str]

START = "0" * 64
"""What the first line follows."""

TORN = "torn"
"""Kind of the line that tells of a torn one before it."""

_OWN = ("n", "time", "kind", "prev", "hash")


@dataclass(frozen=True)
class Entry:
    """One line, checked.

    Attributes:
        n: its number, from 1.
        time: UTC, ISO 8601.
        kind: what sort of line.
        facts: everything else that it says.
        hash: of the whole line, and so of all lines before it.
    """

    n: int
    time: str
    kind: str
    facts: Mapping[str, Any]
    hash: str

    @property
    def head(self) -> str:
        """The chain's head when this was its last entry."""
        return f"{self.n}:{self.hash}"


@dataclass
class _Place:
    """Where reading or writing stands: after a good line.

    Attributes:
        entries, last: number and hash of that line.
        size: bytes up to its end.
        lines: lines of text up to it, torn ones among them.
        torn: what follows and is no line.
        unended: the good line lacks its line break.
    """

    entries: int = 0
    last: str = START
    size: int = 0
    lines: int = 0
    torn: bytes = b""
    unended: bool = False


class Chain:
    """A log on disk. Opening it checks every line that is there."""

    def __init__(self, path: Path) -> None:
        """Read ``path``, which need not exist yet.

        Raises:
            ChainBroken: it was tampered with; the message names the line.
        """
        self.path = path
        self._place = _Place()
        self._mutex = threading.Lock()
        if path.exists():
            for _entry in _read_on(path, self._place, path.read_bytes()):
                pass

    @property
    def entries(self) -> int:
        """Lines so far."""
        return self._place.entries

    @property
    def head(self) -> str:
        """``entries:hash`` of the last line; empty while there is none."""
        return f"{self.entries}:{self._place.last}" if self.entries else ""

    def append(self, kind: str, facts: Mapping[str, Fact], *, durable: bool = True) -> str:
        """Add a line; returns the new head.

        Args:
            kind: what sort of line.
            facts: names, counts and hashes.
            durable: on return the line, and all before it, survive a power cut. Otherwise they survive the death of
                this process, and the next durable line takes them along.

        Raises:
            OSError: the disk is full, or the file cannot be written.
            ChainBroken: the file was cut or edited since it was read.
            TypeError: a fact is a measured value.
        """
        for name, fact in facts.items():
            _check_fact(name, fact)
        with self._mutex, self._locked() as file:
            self._catch_up(file)
            self._write(file, kind, facts)
            if durable:
                os.fsync(file)
            return self.head

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, locked against other processes."""
        new = not self.path.exists()
        if new:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if new:
                _keep_name(self.path)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)  # this gives the lock back, too

    def _catch_up(self, file: int) -> None:
        """Read what other processes have added, and tell of a line that a crash has torn."""
        place, size = self._place, os.fstat(file).st_size
        if size < place.size:
            raise ChainBroken(f"{self.path}: was cut from {place.size} to {size} bytes while it was in use")
        for _entry in _read_on(self.path, place, os.pread(file, size - place.size, place.size)):
            pass
        if place.torn:
            torn = place.torn
            self._write(file, TORN, {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()})

    def _write(self, file: int, kind: str, facts: Mapping[str, Fact]) -> None:
        place, time = self._place, datetime.now(UTC).isoformat(timespec="milliseconds")
        content = {"n": place.entries + 1, "time": time, "kind": kind, **facts, "prev": place.last}
        digest = _hash(content)
        line = _canonical({**content, "hash": digest}).encode() + b"\n"
        if place.torn or place.unended:
            line = b"\n" + line
        left = memoryview(line)
        while left:  # a disk that is nearly full takes a part, and the next call says that it is full
            left = left[os.write(file, left) :]
        lines = place.lines + 1 + (place.torn.count(b"\n") + 1 if place.torn else 0)
        self._place = _Place(place.entries + 1, digest, place.size + len(place.torn) + len(line), lines)


def read(path: Path) -> list[Entry]:
    """Every entry of a log, checked.

    Raises:
        ChainBroken: the log is absent, or was edited, cut or reordered; the message names the line.
    """
    try:
        return list(_read_on(path, _Place(), path.read_bytes()))
    except OSError as error:
        raise ChainBroken(f"{path}: cannot be read: {error.strerror}") from None


def check_heads(path: Path, found: Sequence[Entry], heads: Iterable[str]) -> None:
    """Hold the entries of the log at ``path`` against heads of it that somebody else has kept.

    Raises:
        ChainBroken: one of them is not in the log: it was cut, or written anew from some line on.
    """
    for head in heads:
        number, _, digest = head.partition(":")
        n = int(number) if number.isdigit() else 0
        if n > len(found):
            raise ChainBroken(
                f"{path}: ends with entry {len(found)}, and entry {n} was seen elsewhere: its end was cut off, or it "
                "was restored from an older copy"
            )
        if n < 1 or found[n - 1].hash != digest:
            here = found[n - 1].hash[:12] if n else "absent"
            raise ChainBroken(
                f"{path}: the hash of entry {n} is {here} here and {digest[:12]} elsewhere: one of the two was "
                "rewritten"
            )


def _read_on(path: Path, place: _Place, content: bytes) -> Iterator[Entry]:
    """Entries of what follows ``place`` in the file; ``place`` moves along."""
    if place.unended and content.startswith(b"\n"):
        content, place.unended, place.size = content[1:], False, place.size + 1
    pieces = content.split(b"\n")
    torn: list[bytes] = []
    number = place.lines
    for k, raw in enumerate(pieces, 1):
        number += 1
        entry = _parsed(raw)
        if entry is None:
            torn.append(raw)
            continue
        _check(entry, place, torn, raw, where=f"{path}, line {number}")
        place.unended = k == len(pieces)
        place.size += sum(len(t) + 1 for t in torn) + len(raw) + (not place.unended)
        place.entries, place.last, place.lines, torn = entry["n"], entry["hash"], number, []
        yield _entry(entry)
    place.torn = b"\n".join(torn)


def _check(entry: dict[str, Any], place: _Place, torn: Sequence[bytes], raw: bytes, *, where: str) -> None:
    """Raise ChainBroken unless this entry is as it was written, and follows."""
    said = {key: value for key, value in entry.items() if key != "hash"}
    if _hash(said) != entry["hash"] or _canonical(entry).encode() != raw:
        raise ChainBroken(f"{where}: was edited: its hash is not that of its content")
    expected = place.entries + 1
    if entry["n"] > expected:
        raise ChainBroken(f"{where}: is entry {entry['n']} where {expected} was expected: a line was dropped or moved")
    if entry["n"] < expected:
        raise ChainBroken(
            f"{where}: is entry {entry['n']} where {expected} was expected: a line was copied, moved or inserted"
        )
    if entry["prev"] != place.last:
        raise ChainBroken(f"{where}: does not follow from the line before it: that line was replaced or inserted")
    if torn and not _tells_of(entry, b"\n".join(torn)):
        raise ChainBroken(f"{where}: the line before it cannot be read, and no crash was recorded: it was edited")


def _tells_of(entry: Mapping[str, Any], torn: bytes) -> bool:
    digest = hashlib.sha256(torn).hexdigest()
    return entry["kind"] == TORN and (entry.get("bytes"), entry.get("sha256")) == (len(torn), digest)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """A line's content, written as this module writes it; None if it is something else."""
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(content, dict) and set(_OWN) <= set(content)
    right = whole and isinstance(content["n"], int) and all(isinstance(content[key], str) for key in _OWN[1:])
    return content if right else None


def _entry(content: Mapping[str, Any]) -> Entry:
    facts = {key: value for key, value in content.items() if key not in _OWN}
    return Entry(content["n"], content["time"], content["kind"], facts, content["hash"])


def _check_fact(name: str, fact: Fact) -> None:
    whole = [fact] if isinstance(fact, str | int) else list(fact) if isinstance(fact, list | tuple) else None
    if name in _OWN or whole is None or (not isinstance(fact, int) and not all(isinstance(w, str) for w in whole)):
        raise TypeError(f"{name} = {type(fact).__name__}: a log holds texts and counts, and no measured values")


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _keep_name(path: Path) -> None:
    """Let the file's name survive a power cut, as its content does."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
