"""Who may see the dashboard, and what it answers: GET only, on this machine only, with the token that was printed.

A page of another site in the same browser can do nothing with it: the host must be this machine's (against DNS names
that are pointed at it), the cookie goes with requests of this page only, and nothing may be framed, embedded or read
from elsewhere. There is nothing to change either: every method but GET is refused. The names of runs are looked up in a
list, never made into a path.

The cookie is kept by host, not by port, as all cookies are: another web server on 127.0.0.1 that the same browser
visits can read it. It opens a page that may only be read, until the dashboard ends.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server.dashboard import pieces
from server.dashboard.files import HomeFiles
from server.dashboard.roster import Roster, of_flower
from server.dashboard.state import Picture, Watcher

HERE = frozenset({"127.0.0.1", "localhost"})
ASSETS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
LOCKED = (
    "This page opens with the address that the dashboard printed when it was started (it holds ?token=...). "
    "Copy the whole of it, or start the dashboard again: sarco-coordinator dashboard HOME\n"
)
FRESH_S = 0.5
"""A picture serves all who look within so much time."""


def new_token() -> str:
    """256 bits from the system, for an address."""
    return secrets.token_urlsafe(32)


def make_app(folder: Path, token: str, roster: Roster | None = None) -> Starlette:
    """The dashboard of a home or of a run directory.

    Args:
        folder: of either.
        token: what a browser must show once.
        roster: who is connected; None: asked of the home's SuperLink.
    """
    home = HomeFiles(folder)
    desk = Desk(Watcher(home, roster or Roster(of_flower(folder) if home.is_home else None)))

    async def page(request: Request) -> Response:
        picture = await run_in_threadpool(desk.picture, _run(request))
        reply = Response(pieces.page(picture), media_type="text/html; charset=utf-8")
        if "token" in request.query_params:
            reply.set_cookie(cookie_name(token), token, httponly=True, samesite="strict", path="/")
        return reply

    async def parts(request: Request) -> Response:
        picture = await run_in_threadpool(desk.picture, _run(request))
        return _tagged(request, await run_in_threadpool(pieces.as_json, picture))

    async def state(request: Request) -> Response:
        picture = await run_in_threadpool(desk.picture, _run(request))
        return _tagged(request, json.dumps(picture.to_dict(), allow_nan=False))

    def asset(name: str) -> Callable[[Request], Awaitable[Response]]:
        content = (pieces.FOLDER / name).read_bytes()

        async def serve(_: Request) -> Response:
            return Response(content, media_type=ASSETS[name])

        return serve

    routes = [Route("/", page), Route("/pieces.json", parts), Route("/state.json", state)]
    routes += [Route(f"/{name}", asset(name)) for name in ASSETS]
    app = Starlette(routes=routes)
    app.add_middleware(Door, token=token)
    app.state.desk = desk
    return app


class Desk:
    """Pictures for everybody who looks: one at a time is made, and one that is fresh serves all."""

    def __init__(self, watcher: Watcher) -> None:
        """Nothing is made yet."""
        self._watcher, self._lock = watcher, threading.Lock()
        self._made: dict[str, tuple[float, Picture]] = {}

    def picture(self, run: str) -> Picture:
        """The picture with this run, at most :data:`FRESH_S` old."""
        with self._lock:
            made, picture = self._made.get(run, (0.0, None))
            if picture is None or time.monotonic() - made > FRESH_S:
                picture = self._watcher.look(run)
                self._made = {run: (time.monotonic(), picture)}
            return picture

    def close(self) -> None:
        """Stop what is computed aside."""
        self._watcher.close()


class Door:
    """Everything a request must have before it is looked at, and every reply must carry."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """``token`` opens it."""
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a web socket: there is none
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)

        async def dressed(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                mine = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
                mine[b"x-now"] = f"{time.time():.3f}".encode()
                kept = [pair for pair in message.get("headers", []) if pair[0] not in mine]  # type: ignore[attr-defined]
                message = {**message, "headers": [*kept, *mine.items()]}
            await send(message)

        await (self._refusal(request) or self._app)(scope, receive, dressed)  # type: ignore[arg-type]

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if host.lower() not in HERE:
            return PlainTextResponse("This page is served to this machine only: open it as 127.0.0.1.\n", 421)
        if request.method != "GET":
            return PlainTextResponse("Nothing can be changed here: GET only.\n", 405, {"Allow": "GET"})
        asked_by = (request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode"))
        if asked_by[0] == "cross-site" and asked_by[1] != "navigate":
            return PlainTextResponse("Other pages have no business here.\n", 403)
        shown = (request.query_params.get("token", ""), request.cookies.get(cookie_name(self._token), ""))
        # Both are compared, whatever the first says, in a time that tells nothing.
        if not any([secrets.compare_digest(each.encode(), self._token.encode()) for each in shown]):
            return PlainTextResponse(LOCKED, 401)
        return None


def cookie_name(token: str) -> str:
    """Of one dashboard: two on one machine do not take each other's cookie away."""
    return "sarco_" + hashlib.sha256(token.encode()).hexdigest()[:8]


def _run(request: Request) -> str:
    return request.query_params.get("run", "")[:200]


def _tagged(request: Request, text: str) -> Response:
    """JSON with the hash of its content; nothing but the hash where the browser has it already."""
    tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    headers: Mapping[str, str] = {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(text, media_type="application/json", headers=headers)
