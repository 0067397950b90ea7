"""A line between a hospital and the coordinator that fails as lines do: errors, limits, cuts, delays, silence.

It ends the hospital's TLS with a certificate of the coordinator's authority, reads each HTTP request whole, and passes
it on or does what it was told to. It runs in a thread of its own: a test tells it what to do and reads what passed.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import h11

Kind = Literal["answer", "limit", "cut", "delay", "drop"]
_CHUNK = 65536


@dataclass
class Fault:
    """What happens to the next ``times`` requests whose path holds ``path``.

    answer: the line answers with ``status`` by itself; limit: a body over ``amount`` bytes is read and answered with
    413, as nginx does; cut: the connection is closed after ``amount`` bytes of the body; delay: the request is passed
    on after ``amount`` seconds; drop: it is never answered.
    """

    kind: Kind
    path: str = ""
    status: int = 500
    amount: float = 0
    times: int = 1
    hits: int = 0

    def takes(self, path: str, length: int) -> bool:
        """Whether this request is one of them."""
        if self.hits >= self.times or self.path not in path:
            return False
        return self.kind not in ("limit", "cut") or length > self.amount


@dataclass(frozen=True)
class Seen:
    """A request that came, and what became of it: a status, or 0 where nothing was answered."""

    method: str
    path: str
    sent: int
    status: int


@dataclass
class FaultyLine:
    """The line; ``port`` once it is open."""

    upstream: tuple[str, int]
    server_tls: ssl.SSLContext | None = None
    upstream_tls: ssl.SSLContext | None = None
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    broken: bool = False
    _never: asyncio.Event = field(init=False, repr=False)  # held: a loop keeps what waits by weak references only

    def will(self, kind: Kind, path: str = "", *, status: int = 500, amount: float = 0, times: int = 1) -> Fault:
        """Fail so from now on; the fault counts how often it struck."""
        fault = Fault(kind, path, status, amount, times)
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Pass everything on again."""
        self.faults.clear()
        self.broken = False

    def passed(self, path: str) -> int:
        """Requests with this in their path that were answered with success."""
        return sum(path in seen.path and 200 <= seen.status < 300 for seen in list(self.seen))

    @contextmanager
    def open(self, port: int = 0) -> Iterator[FaultyLine]:
        """Listen on a free port of the loopback, or on ``port``, until the end of the block."""
        loop, ready = asyncio.new_event_loop(), threading.Event()
        stop, self._never = asyncio.Event(), asyncio.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._client, "127.0.0.1", port, ssl=self.server_tls)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            async with server:
                await stop.wait()
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="faulty line", daemon=True)
        thread.start()
        if not ready.wait(10):
            raise RuntimeError(f"the line could not listen on port {port}")
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            loop.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, ssl.SSLError, h11.ProtocolError):
                await self._requests(reader, writer)
        finally:
            await _closed(writer)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            head = await _next(connection, reader)
            if not isinstance(head, h11.Request):
                return
            method, path = head.method.decode(), head.target.decode()
            declared = int(dict(head.headers).get(b"content-length", b"0"))
            fault = self._fault(path, declared)
            cut_at = fault.amount if fault and fault.kind == "cut" else None
            body = await _body(connection, reader, cut_at)
            status, going = 0, False
            if body is not None:
                status, headers, content = await self._outcome(fault, head, body)
            self.seen.append(Seen(method, path, declared, status))
            if body is not None:
                going = await _say(connection, writer, status, headers, content)
            if not going:
                return
            connection.start_next_cycle()

    def _fault(self, path: str, length: int) -> Fault | None:
        found = next((fault for fault in self.faults if fault.takes(path, length)), None)
        if found:
            found.hits += 1
        return found

    async def _outcome(
        self, fault: Fault | None, head: h11.Request, body: bytes
    ) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        if fault and fault.kind == "drop":
            await self._never.wait()
        if fault and fault.kind == "delay":
            await asyncio.sleep(fault.amount)
        if fault and fault.kind in ("answer", "limit"):
            status = 413 if fault.kind == "limit" else fault.status
            words = f"the line says {status}\n".encode()
            return status, [(b"content-length", b"%d" % len(words)), (b"content-type", b"text/plain")], words
        try:
            return await self._passed_on(head, body)
        except (OSError, ssl.SSLError, h11.ProtocolError):
            return 502, [(b"content-length", b"0")], b""

    async def _passed_on(self, head: h11.Request, body: bytes) -> tuple[int, Sequence[tuple[bytes, bytes]], bytes]:
        """One connection for each request: slow, and nothing can be left over in it."""
        reader, writer = await asyncio.open_connection(*self.upstream, ssl=self.upstream_tls)
        try:
            connection = h11.Connection(h11.CLIENT)
            dropped = (b"transfer-encoding", b"content-length", b"connection")
            headers = [(k, v) for k, v in head.headers if k not in dropped]
            headers += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
            writer.write(connection.send(h11.Request(method=head.method, target=head.target, headers=headers)) or b"")
            writer.write(connection.send(h11.Data(data=body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            answer = await _next(connection, reader)
            if not isinstance(answer, h11.Response):
                raise ConnectionResetError("no answer from upstream")
            content = await _body(connection, reader, None) or b""
            kept = [(k, v) for k, v in answer.headers if k not in dropped]
            return answer.status_code, [*kept, (b"content-length", b"%d" % len(content))], content
        finally:
            await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        connection.receive_data(await reader.read(_CHUNK))


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, cut_at: float | None) -> bytes | None:
    """The whole body; None where the line cuts it."""
    parts: list[bytes] = []
    length = 0
    while True:
        event = await _next(connection, reader)
        if isinstance(event, h11.EndOfMessage):
            return b"".join(parts)
        if not isinstance(event, h11.Data):
            return None
        parts.append(bytes(event.data))
        length += len(event.data)
        if cut_at is not None and length > cut_at:
            return None


async def _say(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    content: bytes,
) -> bool:
    """Answer; whether the connection can carry another request."""
    writer.write(connection.send(h11.Response(status_code=status, headers=list(headers))) or b"")
    writer.write(connection.send(h11.Data(data=content)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    return bool(connection.our_state is h11.DONE and connection.their_state is h11.DONE)
