"""Who is charged: sets of participants that are recognised again without anybody's identifier being stored.

A token is an HMAC of the identifier under a secret of this hospital (``state/ledger.key``, for the owner alone). Equal
identifiers have equal tokens, in every study and after every restart; without the secret a token says nothing. A set is
known by the hash of its tokens.

An identifier is all that a ledger can know a person by. Who comes back under another one looks like a new person: what
is done then is in :mod:`client.charges`. An identifier that is given to somebody else cannot be noticed, but that the
tables are another file is said; pseudonyms that ``sarco-site ingest`` makes never mean two people.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from client.intake.private import keyed, write_private
from sarco_models.errors import ChainBroken
from sarco_models.sheets import find_table

if TYPE_CHECKING:  # a ledger is read without anything that decodes images
    from sarco_models.cohort import Split

Token = bytes
_TOKEN_BYTES = 16


@dataclass(frozen=True)
class PersonSet:
    """The participants that something is done with, and the tables that they stand in.

    Attributes:
        ids: who is charged.
        listed: everybody in the tables, those charged among them.
        tables: digest of the tables' content; empty where nobody has looked.
    """

    ids: frozenset[str]
    listed: frozenset[str]
    tables: str = ""

    @staticmethod
    def of(ids: Iterable[str], listed: Iterable[str] = (), tables: str = "") -> PersonSet:
        """A set of identifiers; ``listed`` may leave out those who are charged."""
        charged = frozenset(ids)
        return PersonSet(charged, charged | frozenset(listed), tables)

    @staticmethod
    def of_training(split: Split, tables: str = "") -> PersonSet:
        """The training participants of a split; hospitals that are pooled may both have a participant 7."""
        cohort = split.cohort
        names = [f"{site}\0{name}" if len(set(cohort.sites)) > 1 else name
                 for site, name in zip(cohort.sites, cohort.ids, strict=True)]  # fmt: skip
        return PersonSet.of([names[m] for m in split.train.members], names, tables)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a set, and the hash that they are known by.

    Attributes:
        members: one for each participant.
        fingerprint: SHA-256 over the sorted tokens, 64 hexadecimal digits.
    """

    members: frozenset[Token]
    fingerprint: str

    @staticmethod
    def of(members: Iterable[Token]) -> Tokens:
        """The set of these tokens."""
        found = frozenset(members)
        return Tokens(found, hashlib.sha256(b"".join(sorted(found))).hexdigest())


@dataclass(frozen=True)
class Key:
    """The secret that tokens are made with."""

    secret: bytes

    @property
    def fingerprint(self) -> str:
        """Tells whether a ledger was written under this key; the ledger's first row holds it."""
        return keyed(self.secret, "ledger", "fingerprint").hex()

    def tokens(self, ids: frozenset[str]) -> Tokens:
        """Tokens of these participants; the same set is asked for in every round, and is remembered."""
        return _tokens(self.secret, ids)

    @staticmethod
    def make(path: Path) -> Key:
        """A new key, written for the owner alone."""
        write_private(path, secrets.token_hex(32))
        return Key.read(path)

    @staticmethod
    def read(path: Path) -> Key:
        """The key in a file.

        Raises:
            ChainBroken: there is none, or it is no key.
        """
        try:
            secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            secret = b""
        if len(secret) != 32:
            raise ChainBroken(
                f"{path}: absent or damaged; without it the ledger recognises nobody: restore it from a backup, "
                "together with the ledger"
            )
        return Key(secret)


@lru_cache(maxsize=8)
def _tokens(secret: bytes, ids: frozenset[str]) -> Tokens:
    return Tokens.of(keyed(secret, "participant", name)[:_TOKEN_BYTES] for name in ids)


def tables_digest(path: Path) -> str:
    """Digest of a table's bytes, or of the workbook's that stands in its place; empty where there is none."""
    try:
        return hashlib.sha256(find_table(path).read_bytes()).hexdigest()
    except OSError:
        return ""
