"""The line to a hospital's worker: gRPC over a Unix socket, bytes there and bytes back.

Large messages are cut: 114 MB there and back take .22 s and no copy beyond the pieces (as one gRPC message .39 s and
twice the memory, measured on 2 cores); and neither side sends more than the other has room for. No torch and no
Flower: a relay, the doctor and the supervisor import this.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

from sarco_models.errors import ProtocolError
from sarco_models.framing import Buffer

SERVICE = "sarco.Worker"
ANSWER, STATUS = f"/{SERVICE}/Answer", f"/{SERVICE}/Status"

TAKEN = b""
"""The first piece of every answer, at once: the worker is there."""

PIECE = 1 << 20
"""Bytes in one piece of a message; gRPC refuses one of more than four times that."""

OPTIONS = (
    ("grpc.max_receive_message_length", 4 * PIECE),
    ("grpc.max_send_message_length", 4 * PIECE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),  # a socket of this machine is nobody else's business
)
_LENGTH = 8
_LAST_S = 1.0
_RETRY_S = 0.3
_FULL = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


class WorkerAway(Exception):
    """Nobody answers at the socket, or the line was cut twice."""


class WorkerLate(Exception):
    """The worker was reached and did not answer in time."""


class _Busy(Exception):
    """The worker takes nothing now."""


class _Cut(Exception):
    """The line was cut while the worker was at work."""


def pieces(message: Iterable[Buffer]) -> Iterator[bytes]:
    """A message as it goes over the line: its length first, then pieces of at most :data:`PIECE` bytes."""
    views = [memoryview(part).cast("B") for part in message]
    yield sum(len(view) for view in views).to_bytes(_LENGTH, "little")
    for view in views:
        for start in range(0, len(view), PIECE):
            yield bytes(view[start : start + PIECE])


def gathered(stream: Iterator[bytes], limit: int) -> memoryview:
    """The whole message, read-only.

    Raises:
        ProtocolError: it is longer than ``limit`` bytes, or not as long as it says.
    """
    first = next(stream, b"")
    size = int.from_bytes(first, "little")
    if len(first) != _LENGTH or size > limit:
        raise ProtocolError(f"a message of {size} bytes; at most {limit} are taken")
    whole, at = bytearray(size), 0
    for piece in stream:
        if at + len(piece) > size:
            raise ProtocolError(f"more than the {size} bytes that were announced")
        whole[at : at + len(piece)] = piece
        at += len(piece)
    if at != size:
        raise ProtocolError(f"{at} of {size} bytes: the line was cut")
    return memoryview(whole).toreadonly()


class Line:
    """The line to one worker."""

    def __init__(self, socket: Path, *, limit: int = 1 << 33) -> None:
        """``socket`` need not be there yet; of an answer at most ``limit`` bytes are taken."""
        self._target, self._limit = f"unix:{socket}", limit

    def ask(self, message: list[Buffer], seconds: float) -> memoryview:
        """Ask, and wait for the answer; a worker that is being started again meanwhile is waited for.

        A line that is cut while the worker is at work is used once more: to be asked twice changes nothing
        (:func:`client.tasks.handle`).

        Raises:
            WorkerAway: not reached within ``seconds``, or cut twice.
            WorkerLate: reached, and no answer within ``seconds``.
            ProtocolError: what came is no message.
        """
        if seconds <= 0:
            raise WorkerLate
        until, cuts = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            try:
                return self._asked(message, until)
            except _Cut:
                cuts += 1
                if cuts > 1:
                    break
            except _Busy:
                pass  # nothing was begun: it is full, or about to end and to be started again
            time.sleep(_RETRY_S)
        raise WorkerAway

    def _asked(self, message: list[Buffer], until: float) -> memoryview:
        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            left = max(until - time.monotonic(), 0.0)
            answer = channel.stream_stream(ANSWER)(pieces(message), timeout=left, wait_for_ready=True)
            try:
                next(answer, TAKEN)
            except grpc.RpcError as error:  # not in time: nobody is there, or whoever is there stands still
                raise (_Busy if error.code() in _FULL else WorkerAway)() from None
            try:
                return gathered(answer, self._limit)
            except grpc.RpcError as error:
                late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                raise (WorkerLate if late else _Cut)() from None

    def status(self, seconds: float = _LAST_S) -> dict[str, Any]:
        """What the worker says of itself.

        Returns:
            ``name, study, phase ("idle" or "working"), task, round, since, done_rounds, version, code``.

        Raises:
            WorkerAway: nobody answers.
        """
        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            try:
                told: dict[str, Any] = json.loads(channel.unary_unary(STATUS)(b"", timeout=seconds))
            except (grpc.RpcError, ValueError):
                raise WorkerAway from None
        return told

    def healthy(self, seconds: float = _LAST_S) -> bool:
        """Whether gRPC's own health service says that the worker serves."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            try:
                asked = health_pb2.HealthCheckRequest(service=SERVICE)
                found = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=seconds)
            except grpc.RpcError:
                return False
        return bool(found.status == health_pb2.HealthCheckResponse.SERVING)
