"""What messages carry, as files beside the SuperLink's database: a folder of pieces, each named by its hash.

Flower keeps the pieces of messages, 5 MB each, in SQLite, which writes each of them twice and keeps the room for ever.
Here the database knows what there is, and the bytes lie in files. A file is whole or absent: it is renamed before the
database says that it is there, and is removed after the database has forgotten it. It is not synced: a power cut may
cost pieces, as it may cost the last words of Flower's own database. So at each start every file is held against its
name, and what is not whole is taken anew when it is sent again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.supercore.inflatable.inflatable_utils import validate_object_content
from flwr.supercore.object_store.object_store import NoObjectInStoreError
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.state.schema.objectstore_models import StoredObject
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

LEAST_BYTES = 1 << 16
"""Smaller pieces stay in the database."""

SWEEP_S = 2.0
_NAME = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


def folder_of(database: str | Path) -> Path:
    """Where the pieces of a database lie: ``superlink.sqlite`` has ``superlink.objects`` beside it."""
    return Path(database).with_suffix(".objects")


class ObjectFiles(SqlObjectStore):
    """Flower's store of what messages carry, with large pieces in files. Safe to use from several threads."""

    def __init__(self, database_path: str, verify: bool = True) -> None:
        """As Flower makes it."""
        super().__init__(database_path, verify)
        self._folder = folder_of(database_path)
        # between a look into the database and a removal no file of that name may come
        self._names = threading.Lock()

    def initialize(self, *given: Any, **more: Any) -> list[str]:
        """Open the database, hold the files against it, and begin to remove what it has forgotten."""
        tables: list[str] = super().initialize(*given, **more)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._check_all()
        threading.Thread(target=self._sweep_for_ever, name="object-files", daemon=True).start()
        return tables

    def put(self, object_id: str, object_content: bytes) -> None:
        """Keep a piece that was announced.

        Raises:
            ValueError, UnexpectedObjectContentError: it is not what its name says, or nothing that Flower sends.
            NoObjectInStoreError: it was not announced, or is not wanted any more.
        """
        if len(object_content) < LEAST_BYTES:
            super().put(object_id, object_content)
            return
        if get_object_id(object_content) != object_id:
            raise ValueError(f"Object ID {object_id} does not match content hash")
        validate_object_content(content=object_content)
        self._write(object_id, object_content)
        with self.session() as session:
            kept = session.scalar(
                update(StoredObject)
                .where(StoredObject.object_id == object_id, StoredObject.is_available == 0)
                .values(content=b"", is_available=1)
                .returning(StoredObject.object_id)
            )
        if kept is None and object_id not in self:
            raise NoObjectInStoreError(f"Object with ID '{object_id}' was not pre-registered.")

    def get(self, object_id: str) -> bytes | None:
        """A piece; empty where it has not come yet, None where nobody has announced it."""
        with self.session() as session:
            row = session.execute(
                select(StoredObject.content, StoredObject.is_available).where(StoredObject.object_id == object_id)
            ).first()
        if row is None:
            return None
        content, available = bytes(row[0] or b""), bool(row[1])
        if content or not available:
            return content
        try:
            return (self._folder / object_id).read_bytes()
        except FileNotFoundError:
            log.error("a piece of a message was removed from %s: it is taken again when it is sent again", self._folder)
            self._forget({object_id})
            return b""

    def sweep(self) -> None:
        """Remove the files that the database has forgotten."""
        with self._names:
            there = {path.name for path in self._files()}
            if there:
                for name in there - self._known():
                    (self._folder / name).unlink(missing_ok=True)

    def _write(self, object_id: str, content: bytes) -> None:
        path = self._folder / object_id
        if path.exists():
            return
        partial = self._folder / f"{object_id}.{threading.get_ident()}.partial"
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
                view = memoryview(content)
                while view:
                    view = view[file.write(view) or 0 :]
            with self._names:
                partial.rename(path)
        except OSError:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def _known(self) -> set[str]:
        with self.session() as session:
            return {str(name) for name in session.scalars(select(StoredObject.object_id))}

    def _forget(self, names: set[str]) -> None:
        """They have not come, after all."""
        with self.session() as session:
            for name in names:
                session.execute(update(StoredObject).where(StoredObject.object_id == name).values(is_available=0))

    def _files(self) -> Iterator[Path]:
        return (path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _check_all(self) -> None:
        with self.session() as session:
            kept = select(StoredObject.object_id).where(StoredObject.is_available == 1, StoredObject.content == b"")
            expected = {str(name) for name in session.scalars(kept)}
        whole = {path.name for path in self._files() if path.name in expected and _hash_of(path) == path.name}
        for path in list(self._folder.iterdir()):
            if path.name not in whole:
                path.unlink()
        if lost := expected - whole:
            log.warning("%d pieces of messages are not whole: they are taken again when they are sent again", len(lost))
            self._forget(lost)

    def _sweep_for_ever(self) -> None:
        wait = threading.Event()
        while not wait.wait(SWEEP_S):
            try:
                self.sweep()
            except (OSError, SQLAlchemyError) as error:
                log.warning("pieces of messages cannot be removed now: %s", type(error).__name__)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
