"""Where a model computes: on the processor, or on a GPU where there is one.

A site and a coordinator choose for themselves, in files of their own; no study says it. On the processor the same seed
gives the same bits. On a GPU it gives the same people, batches, augmentations and hidden modalities, but dropout draws
from the GPU's own generator, and sums are made in no fixed order: two runs agree at first to rounding, and training
carries the rest on. What leaves a model (packed parameters, logits, kept features) is always the processor's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from sarco_models.errors import ConfigError

if TYPE_CHECKING:  # who only reads a site.toml does not wait for torch
    import torch
    from torch import nn

Device = Literal["auto", "cpu", "cuda"]
"""auto: a GPU where there is one."""


def choose(device: Device) -> torch.device:
    """The device of this name.

    Raises:
        ConfigError: a GPU is asked for, and torch finds none.
    """
    import torch

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ConfigError(
            'device = "cuda": torch finds no GPU here: write "auto" or "cpu", or install a driver and a torch that is '
            f"built for it (this is torch {torch.__version__})"
        )
    return torch.device("cuda" if there and device != "cpu" else "cpu")


def device_of(module: nn.Module) -> torch.device:
    """Where a network computes: where its first parameter is."""
    return next(module.parameters()).device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random draws of torch, here and on ``device``, follow from ``seed``; the caller's are left as they were."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
