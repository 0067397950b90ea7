"""Fits the network of sarco_models.burned_in, and writes its table into that module.

    python benchmarks/burned_in_fit.py [--frames 5000] [--epochs 16] [--workers 2] [--out sarco_models/burned_in.py]

SYNTHETIC frames only: per number one with text (faces and words of lettering.SEEN and SEEN_CHINESE) and one without,
seeds (SEED, number, 0 or 1). What is learned from is what the module's own first step hands over. Prints the share of
text that is found at given shares of false alarms, over places of frames that were not learned from, before and after
rounding to eight bits.
"""

import argparse
import base64
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarco_models import burned_in
from sarco_models.burned_in import CELL, NOISE, PATCH, STRIDES, find_places, patches, pyramid
from sarco_models.workers import pool
from simulation.lettering import SEEN_CHINESE, Line, Written, write
from simulation.overlays import callipers, doppler, exported, rough, ruler, shadow, tissue

SEED, VALIDATION_SEED = 1000, 1001
PER_LEVEL = 60  # places of one frame and level that are learned from: rough tissue has hundreds
READABLE_PX = (4, 22)  # capitals at a level, in its pixels; a place on other text is not learned from
SHORT = "ABCDEFGHKLMNPRSTUVXYZ0123456789abdefghkmnr"
CHANNELS = (8, 16, 16)

Examples = tuple[NDArray[np.uint8], NDArray[np.bool_]]
Rng = np.random.Generator


# ---- examples --------------------------------------------------------------------------------------------------------


def frame(seed: int, number: int, with_text: bool) -> Written:
    rng = np.random.default_rng([seed, number, int(with_text)])
    pixels = rough(rng) if rng.random() < (0.4 if with_text else 0.65) else tissue(rng)
    if rng.random() < 0.1:
        pixels = shadow(rng, pixels)
    if rng.random() < (0.1 if with_text else 0.25):
        pixels = doppler(rng, pixels)
    if rng.random() < (0.1 if with_text else 0.25):
        pixels = callipers(rng, pixels)
    if rng.random() < 0.1:
        pixels = ruler(rng, pixels)
    written = exported(rng, *(_with_text(rng, pixels) if with_text else Written(pixels, ())))
    return written if rng.random() < 0.7 else written._replace(pixels=np.invert(written.pixels))


def _with_text(rng: Rng, pixels: NDArray[np.uint8]) -> Written:
    kind = rng.random()
    if kind < 0.15:
        return write(rng, pixels, SEEN_CHINESE)
    if kind < 0.4:
        return write(rng, pixels, text="".join(rng.choice(list(SHORT), int(rng.integers(2, 5)))))
    return write(rng, pixels, contrast=(25, 50) if kind < 0.55 else (30, 256))


def examples(seed: int, number: int) -> Examples:
    """Patches (n, *PATCH) and whether they are text, of two frames."""
    seen, labels = [], []
    for with_text in (False, True):
        written = frame(seed, number, with_text)
        for level, image in enumerate(pyramid(written.pixels)):
            cells = find_places(image).cells
            if len(cells) > PER_LEVEL:
                cells = np.random.default_rng(number).choice(cells, PER_LEVEL, replace=False)
            label = np.array([_label(cell, level, written.lines) for cell in cells.tolist()], dtype=int)
            seen.append(patches(image, cells[label >= 0]))
            labels.append(label[label >= 0] > 0)
    return np.concatenate(seen), np.concatenate(labels)


def _label(cell: list[int], level: int, lines: tuple[Line, ...]) -> int:
    """1 = on a line, 0 = no line in the patch, -1 = not to be learned from."""
    y, x = (CELL * v for v in cell)
    near = 0
    for line in lines:
        x0, y0, x1, y1 = (v / 2**level for v in line.box)
        if x0 - 2 <= x <= x1 + 2 and y0 - 1 <= y <= y1 + 1:
            return 1 if READABLE_PX[0] <= line.cap_px / 2**level <= READABLE_PX[1] else -1
        if (
            abs(x - (x0 + x1) / 2) < (x1 - x0 + PATCH[1]) / 2 + 4
            and abs(y - (y0 + y1) / 2) < (y1 - y0 + PATCH[0]) / 2 + 4
        ):
            near = -1
    return near


def gathered(seed: int, count: int, workers: int) -> Examples:
    with pool(workers) as running:
        parts = list(running.map(partial(examples, seed), range(count), chunksize=20))
    return np.concatenate([seen for seen, _ in parts]), np.concatenate([labels for _, labels in parts])


# ---- network ---------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """What ``burned_in.logits`` computes."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = CHANNELS
        sizes = zip((1, a, b), CHANNELS, (5, 3, 3), STRIDES, strict=True)
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, s) for i, o, k, s in sizes)
        self.sum = nn.Linear(2 * c, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        return self.sum(torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))[:, 0]


def normalised(seen: NDArray[np.uint8]) -> torch.Tensor:
    x = torch.from_numpy(seen).float()
    return ((x - x.mean((1, 2), keepdim=True)) / (x.std((1, 2), correction=0, keepdim=True) + NOISE))[:, None]


def fitted(seen: NDArray[np.uint8], labels: NDArray[np.bool_], epochs: int, batch: int = 256) -> Network:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums in one order: the same table on every run of one machine
    network, steps = Network(), len(labels) // batch
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    target = torch.from_numpy(labels.astype(np.float32))
    for epoch in range(epochs):
        order, total = torch.randperm(len(labels)), 0.0
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            sign = torch.where(torch.rand(batch, 1, 1, 1) < 0.3, -1.0, 1.0)
            x = normalised(seen[chosen.numpy()]) * sign * torch.empty(batch, 1, 1, 1).uniform_(0.7, 1.2)
            loss = nn.functional.binary_cross_entropy_with_logits(network(x), target[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.4f}", flush=True)
    return network


# ---- table -----------------------------------------------------------------------------------------------------------


Table = list[tuple[float, NDArray[np.int8]]]


def rounded(network: Network) -> Table:
    """Each tensor as a scale and whole numbers of eight bits."""
    tensors = [p.detach().numpy() for p in network.parameters()]
    scales = [float(f"{np.abs(t).max() / 127:.4g}") for t in tensors]
    return [(s, np.rint(t / s).clip(-127, 127).astype(np.int8)) for s, t in zip(scales, tensors, strict=True)]


def source(table: Table) -> str:
    """The last lines of the module: _SCALES and _TABLE."""
    scales = ", ".join(f"{scale:g}" for scale, _ in table)
    text = base64.b64encode(b"".join(whole.tobytes() for _, whole in table)).decode("ascii")
    rows = "\n".join(f'    "{text[i : i + 110]}"' for i in range(0, len(text), 110))
    return f"_SCALES = ({scales})\n_TABLE = (\n{rows}\n)\n"


def report(name: str, scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> None:
    limits = np.quantile(scores[~labels], (0.99, 0.997, 0.999))
    found = ", ".join(f"{(scores[labels] > limit).mean():.3f} above {limit:.2f}" for limit in limits)
    print(f"{name}: of {labels.sum()} places of text, at 1, .3 and .1 % of {(~labels).sum()} others: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(burned_in.__file__))
    asked = parser.parse_args()
    before, _ = asked.out.read_text(encoding="utf-8").split("_SCALES = ")  # the table ends the module
    seen, labels = gathered(SEED, asked.frames, asked.workers)
    print(f"SYNTHETIC: {len(labels)} places of {2 * asked.frames} frames, {labels.mean():.1%} of them text", flush=True)
    network = fitted(seen, labels, asked.epochs)
    others, truth = gathered(VALIDATION_SEED, max(1, asked.frames // 20), asked.workers)
    with torch.no_grad():
        scores = np.concatenate(
            [network(normalised(others[i : i + 4096])).numpy() for i in range(0, len(others), 4096)]
        )
    report("as fitted", scores, truth)
    table = rounded(network)
    report("as written", burned_in.logits(others, burned_in.weights(table)), truth)
    asked.out.write_text(before + source(table), encoding="utf-8")


if __name__ == "__main__":
    main()
