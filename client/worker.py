"""The hospital's own worker: the one long-lived process that can read the data, the policy, the ledger and the keys.

    python -m client.worker SITE.toml --socket PATH [--socket-group GROUP]

It runs the code that the hospital installed and approved, and never code that came over the network: that stands at
the other end of a Unix socket (:mod:`client.app`), as another account, and can do no more than ask. The site is opened
once, with torch, the model and the cache warm; requests are answered one after another by :func:`client.tasks.handle`.
Asked to end (SIGTERM), it gives up what nobody has paid for, finishes what was charged, and leaves the rest unanswered:
the relay asks again when it is back. Exit codes are :class:`Exit`; health says SERVING once the data are open.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from client.alone import Taken, hold
from sarco_models.errors import ChainBroken, ConfigError, DataError, SarcoError

if TYPE_CHECKING:  # --help does not wait for torch
    from client.worker_desk import Desk
    from client.worker_service import Service

log = logging.getLogger("client.worker")

MAX_SOCKET_PATH = 107
"""Bytes that Linux allows in the path of a socket."""

_PR_SET_DUMPABLE = 4


class Exit(IntEnum):
    """How a worker ends; for 2 to 5 it is of no use to start it again before somebody has mended the cause."""

    ENDED = 0
    FAILED = 1
    """An error that nobody foresaw: its kind and place are in the log; start it again."""
    CONFIG = 2
    DATA = 3
    TAKEN = 4
    TAMPERED = 5
    AGAIN = 75
    """site.toml names other data or another study now: start it again."""


def main(words: list[str] | None = None) -> int:
    """Run until SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="client.worker", description="Answer for one hospital on a Unix socket.")
    parser.add_argument("site", type=Path, help="site.toml")
    parser.add_argument("--socket", type=Path, required=True, help=f"path of at most {MAX_SOCKET_PATH} bytes")
    parser.add_argument("--socket-group", default="", help="group of the relay's account; it may then use the socket")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    _hide_memory()
    try:
        return int(run(given.site.absolute(), given.socket.absolute(), given.socket_group))
    except SarcoError as error:
        log.error("%s", _words(error, given.site))
        return int(exit_of(error))
    except Exception as error:  # its text may hold a value of the data, and the last line of the log is shown
        from client.answering import place_of

        log.error("the worker failed: %s", place_of(error))
        return int(Exit.FAILED)


def run(site_toml: Path, socket: Path, group: str = "") -> Exit:
    """Open the site and serve it until SIGTERM or SIGINT.

    Raises:
        ConfigError: site.toml, the study, the socket's path or its group is wrong.
        DataError: the data cannot be used.
        ChainBroken: the audit log or the ledger was changed.
        Taken: another worker is there.
    """
    _fitting(socket)
    gid = _group(group)
    with _alone(socket, gid) as hold:
        log.info("opening %s", site_toml)
        started = time.monotonic()
        from client.worker_desk import Desk

        desk = Desk(site_toml, hold, _progress)
        with _bound(socket, desk, gid) as service:
            log.info("serving %s after %.1f s", desk.name, time.monotonic() - started)
            return _until_stopped(service, desk)


def exit_of(error: SarcoError) -> Exit:
    """The exit code that tells a supervisor whether to start the worker again."""
    kinds = {DataError: Exit.DATA, ChainBroken: Exit.TAMPERED, Taken: Exit.TAKEN}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), Exit.CONFIG)


def _words(error: SarcoError, site_toml: Path) -> str:
    """A log names no file of the data and no value of them; check-data does, on the screen of whoever asks."""
    if not isinstance(error, DataError):
        return str(error)
    rules = ", ".join(sorted({f.rule for f in error.findings}))
    return (
        f"{len(error.findings)} faults in the data ({rules}): sarco-site check-data DATA --site {site_toml} lists them "
        "with their places"
    )


def _until_stopped(service: Service, desk: Desk) -> Exit:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.serve()
    service.work(lambda asked: desk.work(asked, service))
    log.info("ended")
    return Exit.AGAIN if desk.outdated else Exit.ENDED


def _progress(done: int, total: int) -> None:
    if done == total or done % 500 == 0:
        log.info("images: %d of %d", done, total)


def _fitting(socket: Path) -> None:
    size = len(os.fsencode(socket))
    if size > MAX_SOCKET_PATH:
        raise ConfigError(
            f"--socket {socket}: {size} bytes, and the path of a socket has at most {MAX_SOCKET_PATH}: put the "
            "hospital's folder at a shorter path"
        )


def _group(name: str) -> int | None:
    if not name:
        return None
    import grp

    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"--socket-group {name}: there is no such group: make it with groupadd --system") from None


@contextlib.contextmanager
def _alone(socket: Path, gid: int | None) -> Iterator[contextlib.ExitStack]:
    """The socket's folder, and this worker alone at its path; gives what other locks are kept with."""
    with contextlib.ExitStack() as locks:
        try:
            socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if gid is not None:  # whoever relays may go through the folder, and not look around in it
                os.chown(socket.parent, -1, gid)
                socket.parent.chmod(0o710)
            hold(locks, socket.with_name(socket.name + ".lock"))
            socket.unlink(missing_ok=True)  # left by a worker that was killed: its lock is free
        except OSError as error:
            raise ConfigError(
                f"{socket.parent}: {error.strerror}: the socket's folder must belong to the account that runs the "
                "worker, and that account must be root or a member of --socket-group"
            ) from None
        yield locks


@contextlib.contextmanager
def _bound(socket: Path, desk: Desk, gid: int | None) -> Iterator[Service]:
    """The service, at a socket that its group alone may use besides this account."""
    from client.worker_service import Service

    before = os.umask(0o177)
    try:
        service = Service(socket, limit=desk.limit, status=desk.status)
    except RuntimeError:
        raise ConfigError(f"--socket {socket}: no socket can be made here: name a folder of a local disk") from None
    finally:
        os.umask(before)
    try:
        if gid is not None:
            os.chown(socket, -1, gid)
            socket.chmod(0o660)
        yield service
    finally:
        service.close()
        socket.unlink(missing_ok=True)


def _hide_memory() -> None:
    """No core dumps, and no other process of this account may look into this one's memory, environment or files."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
