"""The file of a ledger: rows that are only added, each with the hash of the one before, and sets of people's tokens.

SQLite with a write-ahead log, synchronous at every commit. It needs a disk of this machine; a network drive will not
do.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from client.charges import BEGIN, PEOPLE, Row
from client.once import settle
from client.person_sets import Key, Token, Tokens
from sarco_models.errors import ChainBroken, SarcoError

NOTHING = Row(0, "", "")
"""What the first row follows."""

_WAIT_S = 30.0
_SCHEMA = """
CREATE TABLE rows (n, kind, at, study, round, task, people, noise_multiplier, sample_rate, steps, note, previous, hash,
    PRIMARY KEY (n)) WITHOUT ROWID;
CREATE TABLE members (people, token, PRIMARY KEY (people, token)) WITHOUT ROWID;
CREATE TRIGGER rows_follow BEFORE INSERT ON rows WHEN NEW.n != (SELECT coalesce(max(n), 0) + 1 FROM rows)
    BEGIN SELECT RAISE(ABORT, 'rows follow each other'); END;
CREATE TRIGGER rows_update BEFORE UPDATE ON rows BEGIN SELECT RAISE(ABORT, 'a ledger is only added to'); END;
CREATE TRIGGER rows_delete BEFORE DELETE ON rows BEGIN SELECT RAISE(ABORT, 'a ledger is only added to'); END;
CREATE TRIGGER members_update BEFORE UPDATE ON members BEGIN SELECT RAISE(ABORT, 'a ledger is only added to'); END;
CREATE TRIGGER members_delete BEFORE DELETE ON members BEGIN SELECT RAISE(ABORT, 'a ledger is only added to'); END;
"""


class LedgerRows:
    """The rows of one ledger. Whoever calls sees to it that one thread does so at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, new where there was none.

        The key of its people stands beside it, under the same name with the ending ``.key``.

        Raises:
            ChainBroken: it is damaged; ledger or key is missing while the other is there; they do not belong together.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock, self._readable():
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.key = _begin(path)
            self._database = _connect(path)
            first = next(self.after(), None)
        if first is None or json.loads(first.note).get("key") != self.key.fingerprint:
            raise ChainBroken(
                f"{_key_file(path)}: is not the key that {path.name} was begun with, so that nobody would be "
                "recognised: restore both from the same backup"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def writing(self, *, keep: bool = True) -> Iterator[None]:
        """One transaction, in which no other process writes: all of it durably, or nothing; without ``keep`` nothing.

        Raises:
            SarcoError: the disk does not take it, or another program holds the file.
        """
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT" if keep else "ROLLBACK")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise SarcoError(
                f"{self.path}: cannot be written ({error}); nothing was spent, nothing is trained and nothing leaves: "
                "make room on the disk, or stop the other program that holds the file"
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def after(self, last: Row = NOTHING) -> Iterator[Row]:
        """The rows after this one, each checked against the one before.

        Raises:
            ChainBroken: names the first row that was edited, or does not follow.
        """
        with self._readable():
            found = self._database.execute("SELECT * FROM rows WHERE n > ? ORDER BY n", (last.n,))
            for values in found.fetchall():
                row = Row(*values)
                self._check(row, last)
                yield row
                last = row

    def append(self, kind: str, **facts: str | float) -> Row:
        """Add a row, in the transaction that is open."""
        n, previous = self._database.execute("SELECT n, hash FROM rows ORDER BY n DESC LIMIT 1").fetchone()
        row = _sealed(Row(n + 1, kind, _now(), previous=previous, **facts))  # type: ignore[arg-type]
        _insert(self._database, row)
        return row

    def remember(self, tokens: Tokens) -> None:
        """Keep the tokens of a set, in the transaction that is open."""
        self._database.executemany(
            "INSERT OR IGNORE INTO members VALUES (?, ?)", [(tokens.fingerprint, t) for t in tokens.members]
        )

    def members_of(self, row: Row) -> dict[str, frozenset[Token]]:
        """Tokens of the sets that a row of people names, by their fingerprints; nothing for other rows.

        Raises:
            ChainBroken: they are not those that were recorded.
        """
        if row.kind != PEOPLE:
            return {}
        found = {}
        with self._readable():
            for name in (row.people, json.loads(row.note)["listed"]):
                stored = self._database.execute("SELECT token FROM members WHERE people = ?", (name,)).fetchall()
                tokens = Tokens.of(token for (token,) in stored)
                if tokens.fingerprint != name:
                    raise ChainBroken(f"{self.path}, row {row.n}: its set of people is not the one that was recorded")
                found[name] = tokens.members
        return found

    def check_guards(self) -> None:
        """Raise ChainBroken where the file lost what refuses changes, or its pages do not hold together."""
        with self._readable():
            told = self._database.execute("PRAGMA integrity_check(1)").fetchone()[0]
            found = {sql for (sql,) in self._database.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")}
            wanted = _triggers()
        if told != "ok":
            raise self._damaged(told)
        if found != wanted:
            raise ChainBroken(f"{self.path}: its guards against changes are gone: restore it from a backup")

    def _check(self, row: Row, last: Row) -> None:
        if row.n != last.n + 1:
            raise ChainBroken(f"{self.path}, row {last.n + 1}: is missing; row {row.n} comes after row {last.n}")
        if row.previous != last.hash:
            raise ChainBroken(f"{self.path}, row {row.n}: does not follow row {last.n}: one of them was replaced")
        if _sealed(row).hash != row.hash:
            raise ChainBroken(f"{self.path}, row {row.n}: was changed after it was written")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: object) -> ChainBroken:
        return ChainBroken(
            f"{self.path}: is damaged ({error}); what was spent is not known, so that nothing may be spent: restore it "
            "from a backup, together with its key"
        )


def _begin(path: Path) -> Key:
    """The key of an existing ledger, or a new ledger and its key; a crash in between is mended the next time.

    The key gets its name last: a key without a ledger means that the ledger was taken away.
    """
    key_file, new_key = _key_file(path), path.with_suffix(".key-new")
    if key_file.exists() and not path.exists():
        raise ChainBroken(
            f"{path}: is missing, while its key {key_file.name} is there; what was spent is not known: restore the "
            "ledger from a backup"
        )
    if key_file.exists():
        return Key.read(key_file)
    if not path.exists():
        partial = path.with_suffix(".begun")
        _remove(partial)
        key = Key.make(new_key)
        _create(partial, key)
        partial.replace(path)
        settle(path.parent)
    elif not new_key.exists():
        return Key.read(key_file)  # says that it is absent
    new_key.replace(key_file)
    settle(path.parent)
    return Key.read(key_file)


def _create(path: Path, key: Key) -> None:
    path.touch(mode=0o600)
    database = _connect(path, journal="DELETE")
    database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
    _insert(database, _sealed(Row(1, BEGIN, _now(), note=json.dumps({"format": 1, "key": key.fingerprint}))))
    database.close()


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _connect(path: Path, journal: str = "WAL") -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    database.execute(f"PRAGMA journal_mode = {journal}")
    database.execute("PRAGMA synchronous = FULL")
    return database


def _triggers() -> set[str]:
    """The guards as SQLite stores them."""
    database = sqlite3.connect(":memory:")
    try:
        database.executescript(_SCHEMA)
        return {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")}
    finally:
        database.close()


def _insert(database: sqlite3.Connection, row: Row) -> None:
    database.execute("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", dataclasses.astuple(row))


def _sealed(row: Row) -> Row:
    """The row with the hash of everything that it says."""
    words = json.dumps(dataclasses.astuple(row)[:-1], separators=(",", ":"))
    return replace(row, hash=hashlib.sha256(words.encode()).hexdigest())


def _key_file(path: Path) -> Path:
    return path.with_suffix(".key")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def heads_of(rows: Iterable[Row]) -> set[str]:
    """What the ledger's head was after each of these rows."""
    return {head(row) for row in rows}


def head(row: Row) -> str:
    """Number and hash of a row, ``n:hash``."""
    return f"{row.n}:{row.hash}"
