"""What a hospital's worker serves on its socket: Answer, Status and gRPC's health service.

Whoever is at the other end runs code that came over the network. So: one request at a time, few may wait; a message is
taken in pieces and never beyond the size that this study's messages can have; whatever comes is written into the audit
log; and nothing goes back but a reply of the protocol, a code, or one of gRPC's own status codes without a text.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from client.wanted import Wanted
from client.worker_line import OPTIONS, SERVICE, TAKEN, gathered, pieces
from sarco_models.errors import ProtocolError
from sarco_models.framing import Buffer

WAITING = 3
"""Requests taken in at once: one is worked on; one is asked again after a cut; one is somebody's mistake."""

BURST, PER_SECOND = 2000, 2.0
"""Calls of Answer that are taken at once, and for how long: an honest study makes a few in a round. Each call is
written down, and whoever calls without end must not fill the hospital's disk."""

_THREADS = 16  # the others answer Status and health while requests wait
_LOOK_S = 0.3
_TRANSFER_S = 120.0
_LONGEST_S = 7 * 24 * 3600.0

Work = Callable[["Asked"], "list[Buffer] | None"]


@dataclass(eq=False)
class Asked:
    """One call of Answer.

    Attributes:
        message: what came; None where it was no message.
        context: gRPC's.
        until: when its life ends, by ``time.monotonic``.
        answer: what goes back; None: nothing, the line is to be tried again.
    """

    message: memoryview | None
    context: Any
    until: float
    answer: list[Buffer] | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def over(self) -> bool:
        """Whether its life has ended, or the caller has gone."""
        return time.monotonic() >= self.until or not self.context.is_active()


class Service:
    """The gRPC server; requests are worked on by the thread that calls :meth:`work`, one after another."""

    def __init__(self, socket: Path, *, limit: int, status: Callable[[], dict[str, Any]]) -> None:
        """Bind; nothing is answered before :meth:`serve`.

        Args:
            socket: path; nothing may be there. Only this account may use it until its rights are given.
            limit: bytes of the largest message that is taken.
            status: what Status tells; it is called from other threads.
        """
        self._limit, self._status = limit, status
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()
        self._room = threading.Semaphore(WAITING)
        self._pace = _Pace(BURST, PER_SECOND)
        self._stopping = False  # no Event: a signal handler sets it, and must take no lock
        self._health = health.HealthServicer()
        self._serving(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="line"),
            options=OPTIONS,
            maximum_concurrent_rpcs=_THREADS,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        own = {
            "Answer": grpc.stream_stream_rpc_method_handler(self._answer),
            "Status": grpc.unary_unary_rpc_method_handler(self._tell),
        }
        unknown = _Everything(grpc.stream_stream_rpc_method_handler(self._refuse))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, own), unknown))
        self._server.add_insecure_port(f"unix:{socket}")

    def serve(self) -> None:
        """Take requests from now on."""
        self._server.start()
        self._serving(health_pb2.HealthCheckResponse.SERVING)

    def work(self, work: Work) -> None:
        """Work on requests in this thread until :meth:`stop`; what is waiting then is left unanswered."""
        while (asked := self._next()) is not None:
            try:
                asked.answer = work(asked)
            finally:
                asked.done.set()
                del asked  # its message may be large
        self._serving(health_pb2.HealthCheckResponse.NOT_SERVING)

    def _next(self) -> Asked | None:
        with self._changed:
            while not self._stopping:
                if self._waiting:
                    return self._waiting.popleft()
                self._changed.wait(_LOOK_S)
        return None

    def wanted(self, asked: Asked) -> Wanted:
        """Whether somebody waits for the answer, and this process is not asked to end."""
        return Wanted(asked.over, lambda: self._stopping)

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopping

    def stop(self) -> None:
        """Let :meth:`work` return; it may be called from a signal handler."""
        self._stopping = True

    def close(self, grace_s: float = 2.0) -> None:
        """Hand out the answers that are ready, cut the rest, and free the socket."""
        self._stopping = True
        self._server.stop(grace_s)
        self._server.wait_for_termination(grace_s + 1)

    def _answer(self, stream: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        left = context.time_remaining()
        until = time.monotonic() + (_LONGEST_S if left is None else min(left, _LONGEST_S))
        with self._place(context):
            yield TAKEN
            with _cancelled_after(_TRANSFER_S, context):
                message = _read(stream, self._limit)
            answer = self._worked(Asked(message, context, until))
            with _cancelled_after(_TRANSFER_S, context):
                yield from pieces(answer)

    def _refuse(self, _stream: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """A method that there is not; that it was tried is written down."""
        with self._place(context):
            self._worked(Asked(None, context, time.monotonic() + _LONGEST_S))
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
        yield b""

    def _worked(self, asked: Asked) -> list[Buffer]:
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify()
        while not asked.done.wait(_LOOK_S):
            if asked.message is None and not asked.context.is_active():
                break  # what was no message holds no room, and is written down all the same
            if self._stopping or not asked.context.is_active():
                with self._changed, contextlib.suppress(ValueError):
                    self._waiting.remove(asked)  # never looked at: whoever asked has gone, or asks again
                    break
        if asked.answer is None:
            asked.context.abort(grpc.StatusCode.UNAVAILABLE, "")
        return asked.answer or []

    def _place(self, context: grpc.ServicerContext) -> _Place:
        if self._stopping or not self._room.acquire(blocking=False):
            context.abort(grpc.StatusCode.UNAVAILABLE, "")
        if not self._pace.allows():
            self._room.release()
            context.abort(grpc.StatusCode.UNAVAILABLE, "")
        return _Place(self._room)

    def _tell(self, _asked: bytes, _context: grpc.ServicerContext) -> bytes:
        return json.dumps(self._status()).encode()

    def _serving(self, state: Any) -> None:
        for name in ("", SERVICE):
            self._health.set(name, state)


class _Place:
    """Room for one request, given back at the end."""

    def __init__(self, room: threading.Semaphore) -> None:
        self._room = room

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._room.release()


class _Pace:
    """A bucket that holds ``burst`` calls and is filled again slowly."""

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst, self._per_second = burst, per_second
        self._left, self._looked = float(burst), time.monotonic()
        self._mutex = threading.Lock()

    def allows(self) -> bool:
        """Whether one more call is taken now; it is counted."""
        with self._mutex:
            now = time.monotonic()
            self._left = min(self._left + (now - self._looked) * self._per_second, self._burst)
            self._looked = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class _Everything(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """One handler for every method that nobody else has."""

    def __init__(self, handler: grpc.RpcMethodHandler) -> None:
        self._handler = handler

    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler, whatever the method's name."""
        return self._handler


@contextlib.contextmanager
def _cancelled_after(seconds: float, context: grpc.ServicerContext) -> Iterator[None]:
    """Who neither sends nor takes anything does not hold a place for ever."""
    timer = threading.Timer(seconds, context.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _read(stream: Iterator[bytes], limit: int) -> memoryview | None:
    try:
        return gathered(stream, limit)
    except (ProtocolError, grpc.RpcError):
        return None
