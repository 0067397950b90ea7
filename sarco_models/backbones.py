"""Image networks of timm, cut where training begins, and where their starting weights come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sarco_models.errors import ConfigError, WeightsError

Trainable = Literal["head", "last_stage", "all"]

PHANTOM_WEIGHTS = Path(__file__).parent / "weights"
"""Backbones trained on rendered phantoms by ``sarco-lab pretrain``; one file per backbone, half precision."""


@dataclass(frozen=True)
class Backbone:
    """An image network in two parts.

    Attributes:
        frozen: (images, 1, size, size) in [0, 1] -> what the trained part reads; never trained: its output may be kept.
        trained: output of ``frozen`` -> (images, width) features.
        width: number of features.
    """

    frozen: nn.Module
    trained: nn.Module
    width: int


class _Normalize(nn.Module):
    """Grey values in [0, 1] to the range that the networks were made for."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5) / 0.25


def build_backbone(name: str, trainable: Trainable, weights: str = "none") -> Backbone:
    """Make a ConvNeXt of timm (Liu et al. 2022; V2: Woo et al. 2023) for grey images, cut at the first trained layer.

    Args:
        name: timm's name, such as ``convnext_atto`` or ``convnext_tiny``.
        trainable: ``all``: everything after the normalisation; ``last_stage``: the last of four stages and the final
            norm; ``head``: nothing of the backbone.
        weights: ``none`` (random), ``timm`` (ImageNet, downloaded by timm), ``phantom`` (shipped) or a safetensors
            file.

    Raises:
        ConfigError: no such network.
        WeightsError: the weights are absent or do not fit.
    """
    model = _make(name, pretrained=weights == "timm")
    if weights not in ("none", "timm"):
        path = PHANTOM_WEIGHTS / f"{name}.safetensors" if weights == "phantom" else Path(weights)
        _load(model, path, name)
    stages: list[nn.Module] = list(model.stages)  # type: ignore[arg-type]
    whole: list[Any] = [model.stem, *stages, model.norm_pre, model.head]
    first_trained = {"all": 0, "last_stage": len(stages), "head": len(whole)}[trainable]
    frozen = nn.Sequential(_Normalize(), *whole[:first_trained]).eval().requires_grad_(False)
    return Backbone(frozen, nn.Sequential(*whole[first_trained:]), int(model.num_features))  # type: ignore[arg-type]


def _make(name: str, *, pretrained: bool) -> nn.Module:
    if not name.startswith("convnext") or not timm.is_model(name):
        known = ", ".join(m for m in timm.list_models("convnext*") if m.count("_") == 1)
        raise ConfigError(f"model.backbone = {name!r}: timm has no such ConvNeXt; for example: {known}")
    try:
        model: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=1)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"timm could not fetch weights for {name}: {reason}; the coordinator needs the internet for weights = "
            '"timm": use a safetensors file or "phantom" instead'
        ) from None
    return model


def _load(model: nn.Module, path: Path, name: str) -> None:
    """Load weights of the backbone; a classifier's own last layer is left out."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights; make them with `sarco-lab pretrain --out {path}`") from None
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from None
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state))
    if missing:
        raise WeightsError(f"{path}: {len(missing)} tensors of {name} are absent, the first is {missing[0]}")
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise WeightsError(f"{path}: {key} is {tuple(state[key].shape)}; {name} needs {tuple(tensor.shape)}")
    model.load_state_dict({key: state[key].to(torch.float32) for key in expected})
