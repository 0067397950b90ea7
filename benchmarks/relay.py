"""What the wall between a Flower app and a hospital's worker costs: `PYTHONPATH=. python benchmarks/relay.py`.

Three figures: a warm round of a tiny study of tables, answered in this process and through the worker's socket; 114 MB
there and back over the same line (ConvNeXt-Tiny in float32); and what a process of Flower's pays to import the relay.
"""

import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import client.tasks
from client.worker_line import Line
from client.worker_service import Asked, Service
from sarco_models import wire
from sarco_models.framing import Buffer
from sarco_models.parameters import Manifest, Parameters
from tests.client.hospitals import hospital, requests
from tests.client.workers import environment, running, short_folder

NUMBERS = 28_589_128
REPEATS = 40


def timed(do: Callable[[], object], repeats: int) -> list[float]:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
    return seconds


def said(seconds: list[float], unit: float = 1e3) -> str:
    return f"median {unit * statistics.median(seconds):7.2f}, least {unit * min(seconds):7.2f}"


def one_round() -> None:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        site, _ = hospital(Path(first)), hospital(Path(second))
        asked = requests(site)
        for kind in ("Setup", "Train"):
            client.tasks.handle(site, asked[kind])
        here = timed(lambda: client.tasks.handle(site, asked["Train"]), REPEATS)
        print(f"round in this process, ms:      {said(here)}")
        with running(Path(second) / "site.toml") as worker:
            for kind in ("Setup", "Train"):
                worker.ask(asked[kind])
            print(f"round through the socket, ms:   {said(timed(lambda: worker.ask(asked['Train']), REPEATS))}")
            print(f"status, ms:                     {said(timed(Line(worker.socket).status, REPEATS))}")


def echo(socket: Path) -> None:
    """A worker that answers with the parameters that it was sent."""
    service = Service(socket, limit=1 << 30, status=dict)
    service.serve()

    def work(asked: Asked) -> list[Buffer]:
        assert asked.message is not None
        request = wire.from_bytes(asked.message, wire.Train)
        return wire.to_buffers(wire.Trained("alpha", 1, 5, request.parameters, {}), f"1:{'0' * 64}")

    service.work(work)


def whole_model() -> None:
    vector = np.random.default_rng(0).standard_normal(NUMBERS).astype(np.float32)
    request = wire.Train("0" * 64, "0" * 64, 1, Parameters(Manifest(("w",), ((NUMBERS,),)), vector))
    with short_folder() as folder:
        process = multiprocessing.get_context("spawn").Process(target=echo, args=(folder / "w.sock",), daemon=True)
        process.start()
        line = Line(folder / "w.sock")
        while not line.healthy():
            time.sleep(0.1)
        seconds = timed(lambda: wire.reply_from_bytes(line.ask(wire.to_buffers(request), 60)), 8)
        process.kill()
    print(f"{4 * NUMBERS / 1e6:.0f} MB there and back, s:       {said(seconds, 1.0)}")


def start_up() -> None:
    flower = "import flwr.supernode.runtime.run_clientapp"
    for words, code in (("Flower alone", flower), ("Flower and the relay", f"{flower}, client.app")):
        command = [sys.executable, "-c", code]
        seconds = timed(partial(subprocess.run, command, env=environment(), check=True), 5)
        print(f"process that imports {words + ', s:':24}{said(seconds, 1.0)}")


if __name__ == "__main__":
    one_round()
    whole_model()
    start_up()
