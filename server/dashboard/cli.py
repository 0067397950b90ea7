"""The command that serves the dashboard until it is interrupted."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sarco_models.errors import RunError, SarcoError

PORT = 8050
console = Console()


def dashboard(
    folder: Annotated[Path, typer.Argument(metavar="HOME", help="A coordinator's home, or one run directory.")],
    port: Annotated[int | None, typer.Option(help="On this machine; 0: any free one. As in coordinator.toml.")] = None,
) -> None:
    """Show who is online, how far a run is, what it learns and what goes wrong: a page on this machine, read-only."""
    try:
        listener = _listen(folder, port)
    except SarcoError as error:
        Console(stderr=True).print("error:", error, highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    with listener, contextlib.suppress(KeyboardInterrupt):
        _serve(folder, listener)


def _serve(folder: Path, listener: socket.socket) -> None:
    import uvicorn

    from server.dashboard.web import make_app, new_token

    token = new_token()
    number = listener.getsockname()[1]
    _say("open this address in a browser on this machine (it holds the key: do not pass it on):")
    _say(f"http://127.0.0.1:{number}/?token={token}")
    _say(f"from another machine, first: ssh -L {number}:127.0.0.1:{number} THIS-MACHINE. Ctrl+C ends it.")
    app = make_app(folder, token)
    # No access log: its lines would hold the token.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none"
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        app.state.desk.close()


def _listen(folder: Path, port: int | None) -> socket.socket:
    """A socket on the loopback, for a folder that there is something to show of.

    Raises:
        RunError: the folder is neither a home nor a run, or the port is taken.
        ConfigError: coordinator.toml is wrong.
    """
    if not any((folder / name).is_file() for name in ("coordinator.toml", "run.json")):
        raise RunError(
            f"{folder}: is neither a coordinator's home (no coordinator.toml) nor a run directory (no run.json): name "
            "one, or make a home: sarco-coordinator init"
        )
    wanted = _port_of(folder) if port is None else port
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", wanted))
        listener.listen()  # before the address is printed: a browser that is as quick as that waits
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or error
        raise RunError(
            f"port {wanted} of this machine cannot be listened at: {why}: is a dashboard running already? Name another "
            "with --port, or --port 0 for any free one"
        ) from None
    return listener


def _port_of(folder: Path) -> int:
    if (folder / "run.json").is_file():
        return PORT
    from server.home import Home

    return Home.open(folder).config.dashboard_port


def _say(sentence: str) -> None:
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)
