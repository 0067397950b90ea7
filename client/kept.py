"""Answers that spent privacy, kept: asked the very same again, the very same leaves again and nothing more is spent.

A coordinator that was killed asks again; so does one that wants to average the noise away. Both get what they had.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from client.once import settle
from sarco_models.errors import ProtocolError
from sarco_models.messages import Reply, Request, Train
from sarco_models.payload import digest_of
from sarco_models.wire import from_bytes, to_bytes

R = TypeVar("R", bound=Reply)
_ROUNDS = 3
"""Rounds whose update is kept: a coordinator that was killed repeats two at most."""


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

    def put(self, request: Request, reply: Reply) -> None:
        """Keep an answer, whole and durable, before it leaves."""
        self._state.mkdir(parents=True, exist_ok=True)
        path = self._file(request)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            file.write(to_bytes(reply))
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        settle(self._state)
        if isinstance(request, Train):
            trained = sorted(
                self._state.glob(f"kept-train-{request.study[:16]}-*.bin"), key=lambda kept: kept.stat().st_mtime_ns
            )
            for older in trained[:-_ROUNDS]:
                older.unlink(missing_ok=True)

    def _file(self, request: Request) -> Path:
        """Masks are made anew for each attempt; the update under them is that of the request without them."""
        asked = replace(request, masking=None) if isinstance(request, Train) else request
        name = type(request).__name__.lower()
        return self._state / f"kept-{name}-{request.study[:16]}-{digest_of(asked)[:32]}-{self._people[:16]}.bin"
