"""A web application that is given each request's body in one piece.

Flower's servers stand behind several layers of Starlette's middleware, and each of them starts and ends a group of
tasks for every 64 KB that come in. Of 5 MB that is most of what a request costs; in one piece it costs next to nothing.
Flower reads every body into memory before it looks at it: no more is held here than there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Words = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Words]]
Send = Callable[[Words], Awaitable[None]]
Application = Callable[[Words, Receive, Send], Awaitable[None]]


def with_whole_bodies(app: Application) -> Application:
    """The same ASGI application; of an HTTP request it receives one piece, then whatever comes after the body."""

    async def whole(scope: Words, receive: Receive, send: Send) -> None:
        await app(scope, _in_one_piece(receive) if scope["type"] == "http" else receive, send)

    return whole


def _in_one_piece(receive: Receive) -> Receive:
    given = False

    async def receive_whole() -> Words:
        nonlocal given
        if given:
            return await receive()
        given = True
        pieces: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message  # whoever sent it has gone: a part of a body is none
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                return {"type": "http.request", "body": b"".join(pieces), "more_body": False}

    return receive_whole
