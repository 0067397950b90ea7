"""Answers that spent privacy, kept: asked the very same again, the very same leaves again and nothing more is spent.

A coordinator that was killed asks again; so does one that wants to average the noise away. Both get what they had.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from client.once import settle
from client.policy import Refusal
from sarco_models.errors import ProtocolError
from sarco_models.messages import Code, Reply, Request, Train
from sarco_models.payload import digest_of
from sarco_models.wire import from_bytes, to_bytes

R = TypeVar("R", bound=Reply)
_ROUNDS = 3
"""Rounds whose update is kept: a coordinator that was killed repeats two at most."""

SMALL = 1 << 20
"""Bytes that sums, metrics and the names of parameters have at most; so have the lines that a charge writes."""


class Kept:
    """The answers of one hospital to requests about the same people, in its state folder."""

    def __init__(self, state: Path, people: str) -> None:
        """``people`` is the fingerprint of whom the answers are about; other people, other answers."""
        self._state, self._people = state, people

    def get(self, request: Request, kind: type[R]) -> R | None:
        """What was answered; None where nothing was, or where the file was damaged and must be made, and paid, anew."""
        try:
            return from_bytes(self._file(request).read_bytes(), kind)
        except (FileNotFoundError, ProtocolError):
            return None

    @contextmanager
    def room(self, request: Request, answer: int = SMALL, beside: int = 0) -> Iterator[Callable[[], None]]:
        """Disk space that is taken before an answer is paid for: paid, and not kept, it would be paid for again.

        Args:
            request: to be charged and answered within the block; :meth:`put` uses the space.
            answer: bytes of the answer, at most.
            beside: bytes that the state folder gets before the answer is put.

        Yields:
            What gives the space of ``beside`` back, to be called right before that is written.

        Raises:
            Refusal: there is no room; nothing was paid.
        """
        self._state.mkdir(parents=True, exist_ok=True)
        partial, size = self._partial(request), answer + beside + SMALL
        try:
            try:
                _take(partial, size)
                os.truncate(partial, answer + beside)  # the charge writes a little itself
            except OSError as error:
                raise Refusal(
                    Code.INTERNAL,
                    f"{self._state}: {error.strerror}: no room for an answer of {size / 1e6:.1f} MB; nothing was "
                    "charged: make room, or move the folder",
                ) from None
            yield lambda: os.truncate(partial, answer)
        finally:
            partial.unlink(missing_ok=True)

    def put(self, request: Request, reply: Reply) -> None:
        """Keep an answer, whole and durable, before it leaves."""
        self._state.mkdir(parents=True, exist_ok=True)
        path, partial = self._file(request), self._partial(request)
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(to_bytes(reply))
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        settle(self._state)
        if isinstance(request, Train):
            trained = sorted(
                self._state.glob(f"kept-train-{request.study[:16]}-*.bin"), key=lambda kept: kept.stat().st_mtime_ns
            )
            for older in trained[:-_ROUNDS]:
                older.unlink(missing_ok=True)

    def _partial(self, request: Request) -> Path:
        return self._file(request).with_suffix(f".{os.getpid()}.partial")

    def _file(self, request: Request) -> Path:
        """Masks are made anew for each attempt; the update under them is that of the request without them."""
        asked = replace(request, masking=None) if isinstance(request, Train) else request
        name = type(request).__name__.lower()
        return self._state / f"kept-{name}-{request.study[:16]}-{digest_of(asked)[:32]}-{self._people[:16]}.bin"


def _take(path: Path, size: int) -> None:
    """A file of this many bytes, all of which the disk has."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)
