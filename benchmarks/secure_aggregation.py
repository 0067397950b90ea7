"""What secure aggregation costs a round: convnext_tiny's 28.6 million numbers, three and ten sites, in one process.

    python benchmarks/secure_aggregation.py [--sites 3 10] [--rounds 5]

Prints seconds, bytes and memory of a round with and without secure aggregation, by turns in one run, and the seconds
of one site's part. The messages, checks, keys, masks, files and sums are the product's; there is no training: sites
send random updates, which they keep on the disk as the real ones do. Data are SYNTHETIC: random numbers.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import timm
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import server.federation
import server.secure_sum
from client.identity import make_identity, public_of
from client.kept import Kept
from client.masked import keys, masked, reveal
from client.policy import Policy
from client.workspace import Site
from sarco_models import masking, wire
from sarco_models.config import StudyConfig
from sarco_models.parameters import Manifest, Parameters, all_tensors
from sarco_models.summaries import Moments
from sarco_models.wire import Described, Keys, Reveal, Train, Trained
from server.federation import Federation
from server.rounds import Round
from server.runs import CoordinatorConfig, Run
from server.secure_sum import secure_round
from server.strategies import aggregate, build_strategy
from simulation.grid import InProcessGrid

WARM_UP = 1
STUDY = StudyConfig.model_validate_json(
    '{"name": "b", "title": "b", "label": {"column": "y", "rule": "r"}, "model": {"modalities": ["image"]},'
    ' "federation": {"secure_aggregation": true, "min_sites": 3, "rounds": 1000}}'
)
SETUP = "b" * 64
Seconds = dict[str, list[tuple[float, float]]]


class Hospital:
    """A site that sends a random update instead of training."""

    def __init__(self, folder: Path, number: int, change: np.ndarray) -> None:
        self.name, self.people, self.change = f"site{number}", 100 + number, change
        self.after: Parameters | None = None
        self.site = cast(
            Site,
            SimpleNamespace(
                name=self.name, state=folder / self.name, policy=Policy(), study=STUDY, peers={},
                identity=make_identity(folder / self.name), split=SimpleNamespace(train=range(self.people)),
            ),
        )  # fmt: skip

    def trained(self, request: Train) -> Trained:
        """The update is made once; making random numbers is no part of a round."""
        if self.after is None:
            shifted = np.roll(self.change, self.people)  # of each site another
            self.after = Parameters(request.parameters.manifest, request.parameters.vector + shifted)
        return Trained(self.name, request.round, self.people, self.after, {"loss": 0.5})

    def answer(self, request: Any, seconds: Seconds) -> Any:
        if isinstance(request, Keys):
            return keys(self.site, request)
        if isinstance(request, Reveal):
            return reveal(self.site, request)
        if request.masking is None:
            return self.trained(request)
        update = self.trained(request)
        with timed(seconds, "site: keep the update"):
            Kept(self.site.state, "people").put(request, update)
        with timed(seconds, "site: check keys, mask"):
            return masked(self.site, request, lambda site, request: update)


@contextmanager
def timed(seconds: Seconds, name: str) -> Iterator[None]:
    """Adds seconds by the clock, and of the processor: on a shared machine the second are the steadier ones."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    seconds[name].append((time.perf_counter() - clock, time.process_time() - processor))


def app_of(hospitals: list[Hospital], seconds: Seconds) -> ClientApp:
    app = ClientApp()

    def respond(message: Message, context: Context) -> Message:
        hospital = hospitals[int(context.node_config["partition-id"])]
        return wire.answer(hospital.answer(wire.decode(message.content), seconds), message)

    app.train()(respond)
    for action in ("keys", "reveal"):
        app.query(action)(respond)
    return app


def plain_round(federation: Federation, request: Train) -> Any:
    """The same round without masks."""
    work = Round(federation, request)
    return work._in_plain_sight(), work.told, work.failures


def timed_sums(seconds: Seconds) -> None:
    """Measure the coordinator's arithmetic as well."""
    sum_of, moved = masking.sum_of, masking.moved

    def timed_sum(*given: Any) -> Any:
        with timed(seconds, "coordinator: sum"):
            return sum_of(*given)

    def timed_move(*given: Any) -> Any:
        with timed(seconds, "coordinator: decode"):
            return moved(*given)

    server.secure_sum.sum_of, server.secure_sum.moved = timed_sum, timed_move


def peak() -> float:
    """Greatest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int, rounds: int, start: Parameters, folder: Path) -> None:
    rng = np.random.default_rng(1)
    change = (1e-3 * rng.standard_normal(len(start.vector), dtype=np.float32)).astype(np.float32)
    hospitals = [Hospital(folder, k, change) for k in range(count)]
    for hospital in hospitals:
        hospital.site.peers = {h.name: public_of(h.site.identity) for h in hospitals}
    run = Run(folder, STUDY)
    run.__dict__.update(manifest=start.manifest, coordinator=CoordinatorConfig())
    nothing = np.zeros(1, dtype=np.int64)
    moments = Moments(nothing, nothing, nothing, nothing, nothing)
    sites = {k + 1: Described(h.name, "r", 300, h.people, 40, 0, moments) for k, h in enumerate(hospitals)}
    seconds: Seconds = defaultdict(list)
    timed_sums(seconds)
    federation = Federation(InProcessGrid(app_of(hospitals, seconds), count), run)
    federation.membership.see((node, "", "") for node in sites)
    federation.admit(sites)
    federation.membership.ready = set(federation.members)
    strategy, traffic, memory = build_strategy(STUDY), {}, {}
    for round_ in range(1, rounds + WARM_UP + 1):
        request = Train(STUDY.digest, SETUP, round_, start)
        for name, ask in (("plain round", plain_round), ("secure round", secure_round)):
            with timed(seconds, name):
                good, told, failures = ask(federation, request)
                assert len(told) == count, failures
                model = aggregate(strategy, round_, good, start)
            traffic[name] = federation.taken()
            memory.setdefault(name, peak())
            if name == "plain round":
                reference = model.vector
        assert np.abs(model.vector - reference).max() < 1e-6
        del good
    show(count, seconds, traffic, memory)


def show(count: int, seconds: Seconds, traffic: dict[str, dict[str, int]], memory: dict[str, float]) -> None:
    print(f"\n{count} sites")
    middle = {}
    for name, values in seconds.items():
        clock, processor = zip(*values[WARM_UP * (count if name.startswith("site") else 1) :], strict=True)
        middle[name] = statistics.median(clock), statistics.median(processor)
        spread = f"min {min(clock):.3f}, max {max(clock):.3f}, n {len(clock)}"
        print(f"  {name:24} median {middle[name][0]:7.3f} s ({spread}); processor {middle[name][1]:6.3f} s")
    more = [b - a for a, b in zip(middle["plain round"], middle["secure round"], strict=True)]
    print(f"  secure - plain, a site          {more[0] / count:7.3f} s; processor {more[1] / count:6.3f} s")
    for way in ("bytes_down", "bytes_up"):
        a, b = (traffic[name][way] for name in ("plain round", "secure round"))
        print(f"  {way:10} plain {a:13,}, secure {b:13,}, ratio {b / a:.6f}, a site {(b - a) / count:+,.0f}")
    print("  greatest memory of the process: " + ", then ".join(f"{m:,.0f} MB after a {n}" for n, m in memory.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tensors = all_tensors(timm.create_model("convnext_tiny", pretrained=False))
    start = Parameters.pack(tensors)
    print(f"{len(start.vector) / 1e6:.1f} million numbers in {len(Manifest.of(tensors).names)} tensors")
    # no audit logs here: their heads are another benchmark's
    server.federation.note = lambda *_: ""
    for count in arguments.sites:
        with tempfile.TemporaryDirectory() as folder:
            measure(count, arguments.rounds, start, Path(folder))


if __name__ == "__main__":
    main()
