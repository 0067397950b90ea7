"""What one federated round costs beside training: 28.6 million floats, three sites, everything in one process.

    python benchmarks/engine_round.py [--rounds 12]

Prints milliseconds per round, split into its parts, without and with the checkpoint that makes a round resumable.
The messages, checks and aggregation are the product's; the sites only load the model and send it back.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import timm
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.parameters import Manifest, Parameters, all_tensors
from sarco_models.summaries import Moments
from sarco_models.wire import Described, Train, Trained
from server.federation import Federation
from server.rounds import Round
from server.runs import CoordinatorConfig, Run
from server.strategies import aggregate, build_strategy
from simulation.grid import InProcessGrid

SITES = 3
STUDY = StudyConfig.model_validate_json(
    '{"name": "b", "title": "b", "label": {"column": "y", "rule": "r"}, "model": {"modalities": ["image"]}}'
)


def echo_app(models: list[dict[str, torch.Tensor]]) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site = int(context.node_config["partition-id"])
        request: Train = wire.decode(message.content, Train)
        request.parameters.load_into(models[site])
        parameters = Parameters.pack(models[site])
        reply = Trained(f"site{site}", request.round, 100 + site, parameters, {"train_loss": 0.5})
        return wire.answer(reply, message, head=f"{request.round}:{'0' * 64}")  # of an audit log that nobody keeps here

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    models = [all_tensors(timm.create_model("convnext_tiny", pretrained=False)) for _ in range(SITES)]
    manifest = Manifest.of(models[0])
    print(f"{sum(manifest.sizes) / 1e6:.1f} million floats in {len(manifest.names)} tensors, {SITES} sites")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), STUDY)
        run.__dict__.update(manifest=manifest, coordinator=CoordinatorConfig())
        nothing = torch.zeros(1).long().numpy()
        moments = Moments(nothing, nothing, nothing, nothing, nothing)
        sites = {n + 1: Described(f"site{n}", "r", 200, 100 + n, 40, 0, moments) for n in range(SITES)}
        federation = Federation(InProcessGrid(echo_app(models), SITES), run)
        federation.membership.see((node, "", "") for node in sites)
        federation.admit(sites)
        federation.membership.ready = set(federation.members)
        strategy, parameters = build_strategy(STUDY), Parameters.pack(models[0])
        (run.folder / "rounds").mkdir()
        times: dict[str, list[float]] = {"ask, check": [], "aggregate": [], "round": [], "checkpoint": []}
        for round_ in range(1, rounds + 1):
            marks = [time.perf_counter()]
            work = Round(federation, Train(STUDY.digest, "s", round_, parameters))
            good = work.answers()
            assert len(good) == SITES, work.failures
            marks.append(time.perf_counter())
            parameters = aggregate(strategy, round_, good)
            marks.append(time.perf_counter())
            run.record(round_, {"failures": {}}, parameters)
            marks.append(time.perf_counter())
            for name, a, b in (
                ("ask, check", 0, 1),
                ("aggregate", 1, 2),
                ("round", 0, 2),
                ("checkpoint", 2, 3),
            ):
                times[name].append(1000 * (marks[b] - marks[a]))
    for name, values in times.items():
        steady = sorted(values[2:])
        print(f"{name:11} median {statistics.median(steady):7.1f} ms   (min {steady[0]:.1f}, max {steady[-1]:.1f})")


if __name__ == "__main__":
    main()
