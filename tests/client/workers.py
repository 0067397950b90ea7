"""A real worker process for tests: started on a hospital's site.toml, gone at the end."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.worker_desk import Desk
from client.worker_line import Line
from client.worker_service import Service
from sarco_models import wire
from sarco_models.wire import Reply, Request

ROOT = Path(__file__).parents[2]
START_S = 60.0


@dataclass
class Running:
    """A worker, its socket and its log."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path

    def ask(self, request: Request, seconds: float = 60.0) -> Reply:
        return self.ask_with_head(request, seconds)[0]

    def ask_with_head(self, request: Request, seconds: float = 60.0) -> tuple[Reply, str]:
        return wire.reply_from_bytes(Line(self.socket).ask(wire.to_buffers(request), seconds))

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_until_serving(self) -> None:
        until = time.monotonic() + START_S
        while not Line(self.socket).healthy(0.5):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)


def command(site_toml: Path, socket: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "client.worker", str(site_toml), "--socket", str(socket), *words]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def start(site_toml: Path, socket: Path, *words: str, **settings: Any) -> Running:
    """Start a worker, and do not wait for it."""
    log = site_toml.with_name("worker.log")
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as output:
        process = subprocess.Popen(  # noqa: S603 - our own words
            command(site_toml, socket, *words), env=environment(), cwd="/", stdout=output, stderr=output, **settings
        )
    return Running(process, socket, log)


def end(worker: Running) -> int:
    if worker.process.poll() is None:
        worker.process.terminate()
    try:
        return worker.process.wait(20)
    except subprocess.TimeoutExpired:
        worker.process.kill()
        return worker.process.wait()


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; pytest's own are too long for that."""
    folder = Path(tempfile.mkdtemp(prefix="sarco-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(site_toml: Path, *words: str, **settings: Any) -> Iterator[Running]:
    """A worker that serves."""
    with short_folder() as folder:
        worker = start(site_toml, folder / "worker.sock", *words, **settings)
        try:
            worker.wait_until_serving()
            yield worker
        finally:
            end(worker)


@contextlib.contextmanager
def inside(site_toml: Path) -> Iterator[tuple[Desk, Service, Path]]:
    """The same desk and service in a thread of this process: no time is spent on starting Python."""
    with short_folder() as folder, contextlib.ExitStack() as locks:
        desk = Desk(site_toml, locks, lambda *_: None)
        service = Service(folder / "worker.sock", limit=desk.limit, status=desk.status)
        service.serve()
        worker = threading.Thread(target=lambda: service.work(lambda asked: desk.work(asked, service)), daemon=True)
        worker.start()
        try:
            yield desk, service, folder / "worker.sock"
        finally:
            service.stop()
            worker.join(10)
            service.close(0.2)
