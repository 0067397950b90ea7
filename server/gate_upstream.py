"""The gate's side towards the SuperLink: warm connections, bodies passed on window by window, failures told apart.

A request goes out with a head that is written anew: the target is one of the fleet's own, the headers are those that
Flower reads, and the length is the one that was counted. Nothing that a stranger wrote reaches the SuperLink's parser.
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path

PASSED_ON = (
    "content-type",
    "accept",
    "flwr-public-key",
    "flwr-timestamp",
    "flwr-signature",
    "flwr-package-name",
    "flwr-package-version",
    "flwr-component-name",
)
"""Headers of a SuperNode that the SuperLink reads."""

CONNECT_S = 5.0
ANSWER_S = 60.0
_FRESH_S = 3.0
"""The SuperLink's server ends a connection that was idle for 5 s."""
_MOST_IDLE = 64

Window = Callable[[], memoryview]


class Away(Exception):
    """The SuperLink did not answer; the text says how."""


class Late(Away):
    """The SuperLink took the request and did not answer in time."""


class SuperLink:
    """Requests to the SuperLink on this machine, over TLS that our own authority vouches for."""

    def __init__(self, host: str, port: int, authority: Path, *, answer_s: float = ANSWER_S) -> None:
        """Nothing is opened yet.

        Args:
            host: of the SuperLink.
            port: of the SuperLink.
            authority: certificate that signed the SuperLink's.
            answer_s: how long an answer may take.
        """
        self._host, self._port, self._answer_s = host, port, answer_s
        self._context = ssl.create_default_context(cafile=str(authority))
        self._context.verify_flags |= ssl.VERIFY_X509_STRICT
        self._lock = threading.Lock()
        self._idle: list[tuple[HTTPSConnection, float]] = []

    @contextmanager
    def answer_to(self, target: str, headers: Mapping[str, str], length: int, window: Window) -> Iterator[HTTPResponse]:
        """Send a request and hand out its answer, to be read inside the ``with``.

        Args:
            target: path of a fleet route.
            headers: as they came; what Flower does not read is left out.
            length: bytes of the body.
            window: gives the body, part by part; what it raises goes through, and the request is broken off.

        Raises:
            Away: there is no answer; the body may have been read in part.
        """
        first = window()
        warm = self._warm()
        try:
            connection, response = self._sent(warm, target, headers, length, first, window)
        except Away:
            # the server may have ended a warm connection at this very moment; what is still at hand goes out again
            if warm is None or len(first) < length:
                raise
            connection, response = self._sent(None, target, headers, length, first, window)
        done = False
        try:
            yield response
            done = response.isclosed() and not response.will_close
        finally:
            self._give_back(connection) if done else connection.close()

    def close(self) -> None:
        """End all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _sent(  # noqa: PLR0913, PLR0917 - the parts of one request
        self,
        warm: HTTPSConnection | None,
        target: str,
        headers: Mapping[str, str],
        length: int,
        first: memoryview,
        window: Window,
    ) -> tuple[HTTPSConnection, HTTPResponse]:
        connection = warm or self._opened()
        try:
            with _told_apart():
                connection.putrequest("POST", target, skip_accept_encoding=True)
                for name in PASSED_ON:
                    if name in headers:
                        connection.putheader(name, headers[name])
                connection.putheader("content-length", str(length))
                connection.endheaders(bytes(first) if len(first) == length else None)
            left = length - len(first)
            if left:
                with _told_apart():
                    connection.send(first)
            while left:
                part = window()
                left -= len(part)
                with _told_apart():
                    connection.send(part)
            with _told_apart():
                return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _opened(self) -> HTTPSConnection:
        connection = HTTPSConnection(self._host, self._port, timeout=CONNECT_S, context=self._context)
        with _told_apart():
            connection.connect()
        connection.sock.settimeout(self._answer_s)
        return connection

    def _warm(self) -> HTTPSConnection | None:
        """An idle connection that is still open, the one that was used last."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if time.monotonic() - since < _FRESH_S and not _readable(connection):
                return connection
            connection.close()

    def _give_back(self, connection: HTTPSConnection) -> None:
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()


def _readable(connection: HTTPSConnection) -> bool:
    """An idle connection has nothing to read but its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _told_apart() -> Iterator[None]:
    """What goes wrong towards the SuperLink is no fault of the hospital's connection."""
    try:
        yield
    except TimeoutError:
        raise Late("the SuperLink did not answer in time") from None
    except (OSError, HTTPException) as error:
        raise Away(f"the SuperLink is away ({type(error).__name__})") from None
