"""What one step with participant-level differential privacy costs beside the plain step, and beside Opacus' two ways.

    python benchmarks/private_step.py                    # under two minutes on two cores
    python benchmarks/private_step.py --modes ours --workloads convnext convnext8 head table16 table256 table2048

Same network, same batch, same optimizer, everything after the batch was read: gradients, clipping, noise, step. Time is
that of the processor on one thread, so that other work on the machine counts less. The four ways take turns, so that
ratios are of neighbours in time; memory is what three steps add to the peak of a process of its own.

Opacus clips every image by itself, which is less than what is promised here, and its hooks are wrong for ConvNeXt
(STYLE 7.2): it is measured for its cost only. Its networks have no learned vector for an absent modality, for which it
has no rule.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn

from sarco_models.clipping import ParticipantOptimizer
from sarco_models.config import IMAGE, StudyConfig
from sarco_models.fusion import Inputs, Model, build_model
from sarco_models.privacy import _private_step
from sarco_models.reader import Batch
from sarco_models.secret import Secret
from sarco_models.training import Training, build_optimizer, participant_loss, plain_step

MODES = ("plain", "ours", "hooks", "ghost")
WORKLOADS = {
    "convnext": "convnext_atto, all layers, 128 px, 16 participants of 1 to 4 images",
    "convnext8": "convnext_atto, all layers, 128 px, 8 participants of 4 images in 2 views",
    "last_stage": "convnext_atto, last stage on kept features, 128 px, 16 participants of 1 to 4 images",
    "head": "linear head on kept features of convnext_atto, 256 participants of 1 to 4 images",
    "table16": "table MLP, 24 columns, 128 units, 16 participants",
    "table256": "table MLP, 24 columns, 128 units, 256 participants",
    "table2048": "table MLP, 24 columns, 128 units, 2048 participants",
}
CLIP, NOISE = 1.0, 1.0
COLUMNS = 24


def study(**model: object) -> StudyConfig:
    features = [{"name": f"f{k}", "group": "clinical"} for k in range(COLUMNS)]
    tree = {
        "name": "b", "title": "b", "label": {"column": "y", "rule": "r"}, "features": features,
        "image": {"size": 128}, "model": {"backbone": "convnext_atto", "dropout": 0.1, **model},
        "training": {"learning_rate": 1e-4},
    }  # fmt: skip
    return StudyConfig.model_validate_json(json.dumps(tree))


def workload(name: str) -> tuple[StudyConfig, Model, Batch]:
    torch.manual_seed(0)
    if name.startswith("table"):
        config, people = study(modalities=["clinical"]), int(name.removeprefix("table"))
        there = torch.ones(people, dtype=torch.bool)
        inputs = Inputs(None, {"table": torch.randn(people, COLUMNS)}, {"table": there})
        return config, build_model(config), Batch(inputs, torch.arange(people), (torch.rand(people) < 0.3).float())
    config = study(modalities=[IMAGE], trainable=name if name in ("head", "last_stage") else "all")
    model, people = build_model(config), {"head": 256, "convnext8": 8}.get(name, 16)
    rows = torch.full((people,), 8) if name == "convnext8" else torch.arange(people) % 4 + 1
    owner = torch.repeat_interleave(torch.arange(people), rows)
    assert model.frozen is not None
    with torch.no_grad():
        image = torch.cat([model.frozen(torch.rand(8, 1, 128, 128)) for _ in range(-(-len(owner) // 8))])[: len(owner)]
    inputs = Inputs(image, {}, {IMAGE: torch.ones(len(owner), dtype=torch.bool)})
    return config, model, Batch(inputs, owner, (torch.rand(people) < 0.3).float())


class OneInput(nn.Module):
    """The same layers as the project's network for one modality, in the form that Opacus takes."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        (self.branch,) = model.net.branches.values()
        self.output = model.net.output

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.output(self.branch(x))[:, 0]
        return out


def step(name: str, mode: str) -> tuple[Callable[[], object], int]:
    """One step of a workload, and the rows that it reads."""
    config, model, batch = workload(name)
    rows = len(batch.owner)
    net = model.net.train()
    optimizer = build_optimizer(net, config.training)
    settings = {"noise_multiplier": NOISE, "max_grad_norm": CLIP, "expected_batch_size": len(batch.labels)}
    training = Training(net, optimizer, [], participant_loss, lambda _: 1.0)
    if mode == "plain":
        return lambda: plain_step(training, batch), rows
    if mode == "ours":
        secret = Secret()
        noisy = ParticipantOptimizer(optimizer, generator=secret.torch(), secure_mode=True, **settings)
        private_step = _private_step(training, secret)
        private = Training(net, noisy, [], participant_loss, lambda _: 1.0)
        return lambda: private_step(private, batch), rows
    return _opacus(OneInput(copy.deepcopy(model)), batch, mode, settings, config), rows


def _opacus(
    net: nn.Module, batch: Batch, mode: str, settings: dict[str, float], config: StudyConfig
) -> Callable[[], object]:
    x = batch.inputs.image if batch.inputs.image is not None else batch.inputs.tables["table"]
    y = batch.labels[batch.owner]
    settings = {**settings, "expected_batch_size": len(y)}
    adamw = torch.optim.AdamW(net.parameters(), lr=config.training.learning_rate)
    if mode == "hooks":
        hooked = GradSampleModule(net)
        noisy = DPOptimizer(adamw, **settings)
        loss = nn.BCEWithLogitsLoss()
    else:
        hooked = GradSampleModuleFastGradientClipping(net, max_grad_norm=CLIP, use_ghost_clipping=True)
        noisy = DPOptimizerFastGradientClipping(adamw, **settings)
        loss = DPLossFastGradientClipping(hooked, noisy, nn.BCEWithLogitsLoss())

    def run() -> None:
        noisy.zero_grad()
        loss(hooked(x), y).backward()
        noisy.step()

    return run


def memory(name: str, mode: str) -> float:
    """MiB that three steps add to what a process has with the network and the batch, at their peak."""
    run, _ = step(name, mode)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: importing took more
    before = _status("VmRSS")
    for _ in range(3):
        run()
    return _status("VmHWM") - before


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def in_a_process(name: str, mode: str) -> float:
    words = [sys.executable, __file__, "--memory-of", name, mode]
    told = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603 - this file
    return float(told.stdout)


def measure(name: str, repeats: int, modes: list[str]) -> None:
    runs = {mode: step(name, mode) for mode in modes}
    for run, _ in runs.values():
        run()
    inner = max(1, round(0.05 / _seconds(runs["plain"][0])))  # small steps are timed several at a time
    times: dict[str, list[float]] = {mode: [] for mode in modes}
    for _ in range(repeats):
        for mode, (run, _) in runs.items():
            times[mode].append(_seconds(run, inner))
    print(f"\n{WORKLOADS[name]}: {runs['plain'][1]} rows, {repeats} rounds of turns")
    for mode in modes:
        ratios = [a / b for a, b in zip(times[mode], times["plain"], strict=True)]
        rate = runs[mode][1] / statistics.median(times[mode])
        print(
            f"  {mode:6} {rate:10.0f} rows/s   {1000 * statistics.median(times[mode]):8.2f} ms   "
            f"{statistics.median(ratios):5.2f} x plain ({min(ratios):.2f} to {max(ratios):.2f})   "
            f"{in_a_process(name, mode):6.0f} MiB"
        )


def _seconds(run: Callable[[], object], times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - start) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["convnext", "table256"])
    parser.add_argument("--modes", nargs="+", choices=MODES[1:], default=MODES[1:], help="beside the plain step")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    torch.set_num_threads(1)
    if given.memory_of:
        print(memory(*given.memory_of))
        return
    print(f"torch {torch.__version__}, one thread; random images and tables of nobody; noise multiplier {NOISE:g}")
    for name in given.workloads:
        repeats = given.repeats if "layers" in WORKLOADS[name] else 4 * given.repeats
        measure(name, repeats, ["plain", *given.modes])


if __name__ == "__main__":
    main()
