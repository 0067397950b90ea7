"""A small image network trained on endlessly rendered phantoms, so that a study starts warm without any person's image.

The network learns to read what a sonographer would measure: thickness, width, cross-sectional area, infiltration,
fascia and echo intensity of muscles of every size and quality, drawn independently of every cohort. What ships with the
project is made by this module and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from sarco_models.architectures import ARCHITECTURES, Norm
from sarco_models.backbones import Backbone, build_backbone
from sarco_models.config import ImageConfig
from sarco_models.images import Frame
from sarco_models.preprocess import model_input
from sarco_models.workers import pool as worker_pool
from simulation.anatomy import random_subject
from simulation.devices import DEVICES
from simulation.phantom import render

TARGETS = ("thickness_mm", "width_mm", "csa_cm2", "infiltration", "fascia", "echo_intensity")
_BLOCK = 250
_HELD_OUT = 0.1


@dataclass(frozen=True)
class Pretraining:
    """How the shipped weights are made.

    Attributes:
        backbone: its name in a study. A Swin sees the first of ``sizes`` alone; its weights are resampled for others.
        image: framing of the network's input.
        sizes: pixels along the input's side; the first epochs see the smallest alone, the last ones all of them, so
            that the weights serve any size between.
        phantoms: rendered in all; a tenth of them is held out.
        epochs: passes over the others at the smallest size.
        mixed_epochs: further passes, each batch at a size drawn at random.
        batch: phantoms in a step.
        learning_rate: largest; one cycle of cosine after a short warm-up.
        seed: of phantoms and weights.
    """

    backbone: str = "convnext_atto"
    image: ImageConfig = field(default_factory=ImageConfig)
    sizes: tuple[int, ...] = (96, 160, 224)
    phantoms: int = 16_000
    epochs: int = 4
    mixed_epochs: int = 1
    batch: int = 48
    learning_rate: float = 2e-3
    seed: int = 7


def pretrain(cfg: Pretraining, out: Path, workers: int, tell: Callable[[str], None]) -> dict[str, float]:
    """Render, train and write half-precision weights of the backbone.

    Returns:
        R2 on held-out phantoms at the smallest size, by target.
    """
    known = ARCHITECTURES.get(cfg.backbone)
    if known and known.family == "swin":
        cfg = replace(cfg, sizes=cfg.sizes[:1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        # Phantoms are nobody's: here batch norms may learn their statistics.
        norm: Norm = "local" if known and known.batch_norm else "none"
        backbone = build_backbone(cfg.backbone, "all", norm=norm, image_size=cfg.sizes[0])
        tell(f"rendering {cfg.phantoms} phantoms")
        pixels, targets = render_phantoms(cfg, workers)
        held_out = int(len(targets) * _HELD_OUT)
        mean, deviation = targets[held_out:].mean(axis=0), targets[held_out:].std(axis=0)
        scaled = torch.from_numpy(((targets - mean) / deviation).astype(np.float32))
        net = nn.Sequential(backbone.frozen, backbone.trained, nn.Linear(backbone.width, len(TARGETS)))
        net = net.to(memory_format=torch.channels_last)
        _train(net, [torch.from_numpy(p[held_out:]) for p in pixels], scaled[held_out:], cfg, tell)
        settle_norms(net, torch.from_numpy(pixels[0][held_out:]))
    predicted = _predict(net, torch.from_numpy(pixels[0][:held_out]))
    error = ((predicted - scaled[:held_out]) ** 2).mean(dim=0)
    r2 = {name: float(1 - e / v) for name, e, v in zip(TARGETS, error, scaled[:held_out].var(dim=0), strict=True)}
    _save(cfg, backbone, out, r2)
    return r2


def render_phantoms(cfg: Pretraining, workers: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    """Network inputs, (phantoms, size, size) for each size, and (phantoms, targets).

    Block k depends on the seed and k alone.
    """
    blocks = range(-(-cfg.phantoms // _BLOCK))
    with worker_pool(workers) as pool:
        made = list(pool.map(_render_block, [cfg] * len(blocks), blocks))
    inputs = [np.concatenate([pixels[k] for pixels, _ in made])[: cfg.phantoms] for k in range(len(cfg.sizes))]
    return inputs, np.concatenate([targets for _, targets in made])[: cfg.phantoms]


def _render_block(cfg: Pretraining, block: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    rng = np.random.default_rng([cfg.seed, block])
    device = list(DEVICES)[block % len(DEVICES)]  # one device a block: its speckle is made once
    framings = [cfg.image.model_copy(update={"size": size}) for size in sorted(cfg.sizes)]
    inputs: list[list[NDArray[np.uint8]]] = [[] for _ in framings]
    targets = []
    for _ in range(_BLOCK):
        image = render(random_subject(rng), rng, device=device)
        frame = Frame(image.pixels, (image.mm_per_pixel, image.mm_per_pixel), device, (0, 0), image.pixels.shape)
        for made, framing in zip(inputs, framings, strict=True):
            made.append(model_input(frame, image.mask, framing))
        truth: dict[str, Any] = {**vars(image.truth), "echo_intensity": image.echo_intensity}
        targets.append([truth[name] for name in TARGETS])
    return [np.array(made) for made in inputs], np.array(targets)


def _train(
    net: nn.Module, inputs: list[torch.Tensor], targets: torch.Tensor, cfg: Pretraining, tell: Callable[[str], None]
) -> None:
    epochs = cfg.epochs + cfg.mixed_epochs
    steps = epochs * (len(targets) // cfg.batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.learning_rate, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, cfg.learning_rate, total_steps=steps + 1, pct_start=0.1)
    net.train()
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(targets))
        for start in range(0, len(order) - cfg.batch + 1, cfg.batch):
            chosen = order[start : start + cfg.batch]
            which = 0 if epoch < cfg.epochs else int(torch.randint(len(inputs), (1,)))
            total += _step(net, optimizer, _changed(inputs[which][chosen]), targets[chosen])
            rate.step()
        tell(f"epoch {epoch + 1} of {epochs}: loss {total / (len(order) // cfg.batch):.4f}")


def settle_norms(net: nn.Module, pixels: torch.Tensor) -> None:
    """Give batch norms the mean and variance of all these phantoms, after training (Wu and Johnson 2021).

    What they have gathered on the way is of the last steps, and of whatever sizes these had: a network that read width
    and area in training would read nothing with it.

    Args:
        net: reads (n, 1, size, size) in [0, 1].
        pixels: (n, size, size) grey values of the smallest size, which the frozen norms will serve.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    net.train()
    with torch.no_grad():
        for block in torch.split(pixels, 128):
            net(block[:, None].float() / 255)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor) -> float:
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = net(images)
    loss = nn.functional.smooth_l1_loss(predicted.float(), targets)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def _changed(pixels: torch.Tensor) -> torch.Tensor:
    """(n, size, size) grey values -> (n, 1, size, size) in [0, 1], mirrored at random."""
    images = pixels[:, None].float() / 255
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(mirrored, images.flip(-1), images).contiguous(memory_format=torch.channels_last)


def _predict(net: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    net.eval()
    with torch.inference_mode():
        return torch.cat([net(block[:, None].float() / 255) for block in torch.split(pixels, 128)])


def _save(cfg: Pretraining, backbone: Backbone, out: Path, r2: dict[str, float]) -> None:
    """Weights by timm's own names, half precision, with where they come from."""
    state = {name: value.to(torch.float16).contiguous() for name, value in backbone.weights().items()}
    notes = {
        "source": "SYNTHETIC ultrasound phantoms, sarco-lab pretrain",
        "backbone": cfg.backbone,
        "image": cfg.image.model_dump_json(),
        "sizes": str(cfg.sizes),
        "phantoms": str(cfg.phantoms),
        "epochs": f"{cfg.epochs} + {cfg.mixed_epochs} mixed",
        "seed": str(cfg.seed),
        **{f"r2_{name}": f"{value:.3f}" for name, value in r2.items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    save_file(state, partial, metadata=notes)
    partial.rename(out)
