"""Image networks of timm, cut where training begins, and where their starting weights come from.

Statistics of private images never travel: a batch norm that is frozen, or replaced by a group norm, has none of the
images that it is trained on; one that lives on (``norm = "local"``) is a part of the model that stays at its site.

A ConvNeXt and a Swin have layer norms, which know no batch and keep no statistics. With ``norm = "local"`` their affine
parts stay as well, where they train: FedBN-style, for Li et al. (2021) is about batch norms, whose statistics are half
of the method. What else is called a norm travels: the global response norm of ConvNeXt V2 (Woo et al. 2023) makes
channels compete inside a block, begins as the identity and does not centre or scale what the next layer reads.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.norm import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from torch import Tensor, nn
from torch.nn.functional import batch_norm, grid_sample
from torch.nn.modules.batchnorm import _BatchNorm

from sarco_models.architectures import (
    STRIDE,
    Family,
    Norm,
    Trainable,
    architecture,
    check_image_size,
    check_norm,
    check_weights,
)
from sarco_models.errors import ConfigError, WeightsError
from sarco_models.parameters import keep_at_site

PHANTOM_WEIGHTS = Path(__file__).parent / "weights"
"""Backbones trained on rendered phantoms by ``sarco-lab pretrain``; one file per backbone, half precision."""

GROUP_CHANNELS = 8
"""Channels of one group of a group norm: every width of an EfficientNet is a multiple of it (Tan and Le 2019)."""


@dataclass(frozen=True)
class Backbone:
    """An image network in two parts.

    Attributes:
        frozen: (images, 1, size, size) in [0, 1] -> what the trained part reads; never trained: its output may be kept.
        trained: output of ``frozen`` -> (images, width) features.
        width: number of features.
        names: timm's name of every layer after the normalisation, those of ``frozen`` first.
    """

    frozen: nn.Sequential
    trained: nn.Sequential
    width: int
    names: tuple[str, ...]

    def weights(self) -> dict[str, Tensor]:
        """All weights under timm's names, as a weights file holds them; batch norms must live (``norm = "local"``)."""
        layers = zip(self.names, [*self.frozen[1:], *self.trained], strict=True)
        return {f"{name}.{key}": value for name, layer in layers for key, value in layer.state_dict().items()}


class _Normalize(nn.Module):
    """Grey values in [0, 1] to the range that the networks were made for."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5) / 0.25


class _FixedNorm(nn.Module):
    """A batch norm whose statistics and affine part are constants, and its activation.

    All four are parameters that are never trained, so that they travel by name with the other frozen layers.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias = (_constant(t) for t in (norm.weight, norm.bias))
        self.mean, self.variance = (_constant(t) for t in (norm.running_mean, norm.running_var))
        self.eps = norm.eps
        self.act: nn.Module = getattr(norm, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.eps))
        return activated


def _constant(tensor: Tensor | None) -> nn.Parameter:
    if tensor is None:
        raise ConfigError("a batch norm without statistics cannot be frozen: take another backbone")
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)


def build_backbone(
    name: str, trainable: Trainable, weights: str = "none", *, norm: Norm = "none", image_size: int = 224
) -> Backbone:
    """Make a ConvNeXt, EfficientNet or Swin for grey images, cut at the first trained layer.

    Args:
        name: see :data:`sarco_models.architectures.ARCHITECTURES`.
        trainable: ``all``: everything after the normalisation; ``last_stage``: what works at the last resolution, a
            32nd of the image's; ``head``: nothing of the backbone.
        weights: ``none`` (random), ``timm`` (ImageNet, downloaded by timm), ``phantom`` (shipped) or a safetensors
            file under timm's names, of this project or as published for colour images.
        norm: what becomes of the batch norms that train, and whether layer norms that train stay at their site; those
            of the frozen part are always constants.
        image_size: pixels along the image's side. The windows of a Swin are an eighth of the first grid, at any size:
            they see the same part of the scene, and tile every stage without padding.

    Raises:
        ConfigError: no such network, or it does not fit the other arguments.
        WeightsError: the weights are absent or do not fit.
    """
    try:
        check_weights(name, weights)
        check_image_size(name, image_size, norm)
        # A site builds without weights, since the coordinator sends them: what is frozen then is no matter.
        check_norm(name, norm, trainable, "sent" if weights == "none" else weights)
    except ValueError as error:
        raise ConfigError(f"model.backbone = {name!r}: {error}") from None
    model = _make(name, image_size)
    if weights == "timm":
        _load(model, _downloaded(name), f"timm's weights of {name}")
    elif weights != "none":
        path = PHANTOM_WEIGHTS / f"{name}.safetensors" if weights == "phantom" else Path(weights)
        _load(model, _read(path), str(path))
    layers, last_stage = _LAYERS[architecture(name).family](model)
    first_trained = {"all": 0, "last_stage": last_stage, "head": len(layers)}[trainable]
    modules = [module for _, module in layers]
    frozen = nn.Sequential(_Normalize(), *(with_norms(m, "frozen") for m in modules[:first_trained]))
    trained = nn.Sequential(*(with_norms(m, norm) for m in modules[first_trained:]))
    for module in (*frozen.modules(), *trained.modules()):
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # what is kept of a frozen part would be overwritten
    return Backbone(
        frozen.eval().requires_grad_(False),
        trained,
        int(model.num_features),  # type: ignore[arg-type]
        tuple(name for name, _ in layers),
    )


# ---- layers in their order, and the first of the last stage ----------------------------------------------------------

_Layers = tuple[list[tuple[str, nn.Module]], int]


def _convnext(model: Any) -> _Layers:
    layers = [("stem", model.stem), *_numbered("stages", model.stages)]
    return [*layers, ("norm_pre", model.norm_pre), ("head", model.head)], len(layers) - 1


def _efficientnet(model: Any) -> _Layers:
    """The last stage is two rows of Tan and Le's table 1 in most: what works at 1/32, as in the other families."""
    before = next(i for i in reversed(model.feature_info) if i["reduction"] < STRIDE)["module"]
    layers = [("conv_stem", model.conv_stem), ("bn1", model.bn1), *_numbered("blocks", model.blocks)]
    last_stage = [name for name, _ in layers].index(before) + 1
    end = [("conv_head", model.conv_head), ("bn2", model.bn2), ("global_pool", model.global_pool)]
    return [*layers, *end], last_stage


def _swin(model: Any) -> _Layers:
    layers = [("patch_embed", model.patch_embed), *_numbered("layers", model.layers)]
    return [*layers, ("norm", model.norm), ("head", model.head)], len(layers) - 1


def _numbered(name: str, stages: nn.Sequential) -> list[tuple[str, nn.Module]]:
    return [(f"{name}.{k}", stage) for k, stage in enumerate(stages)]


_LAYERS: dict[Family, Callable[[Any], _Layers]] = {"convnext": _convnext, "efficientnet": _efficientnet, "swin": _swin}


# ---- norms -----------------------------------------------------------------------------------------------------------


_LAYER_NORMS = (nn.LayerNorm, RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d)
"""Of ConvNeXt and Swin in timm; its own LayerNorm2d is an ``nn.LayerNorm``."""


def with_norms(layer: nn.Module, norm: Norm) -> nn.Module:
    """The layer with every batch norm in it frozen, replaced by a group norm, or as it is; layer norms told to stay."""
    if isinstance(layer, _LAYER_NORMS) and norm == "local":
        keep_at_site(layer)
    if isinstance(layer, _BatchNorm):
        return _FixedNorm(layer) if norm == "frozen" else _group_norm(layer) if norm == "group" else layer
    for name, child in list(layer.named_children()):
        setattr(layer, name, with_norms(child, norm))
    return layer


def _group_norm(norm: _BatchNorm) -> nn.Module:
    """A group norm (Wu and He 2018) that begins with the batch norm's affine part, and its activation."""
    group = nn.GroupNorm(norm.num_features // GROUP_CHANNELS, norm.num_features, norm.eps)
    group.load_state_dict({"weight": norm.weight, "bias": norm.bias})
    return nn.Sequential(group, getattr(norm, "act", nn.Identity()))


# ---- weights ---------------------------------------------------------------------------------------------------------


def _make(name: str, image_size: int) -> nn.Module:
    found = architecture(name)
    options: dict[str, Any] = {"num_classes": 0, "in_chans": 1, **found.options}
    if found.family == "swin":
        # An eighth of the grid of 4-pixel patches, as in timm's 7 of 56; no layers dropped at random, as elsewhere.
        options |= {"img_size": image_size, "window_size": image_size // STRIDE, "drop_path_rate": 0.0}
    model: nn.Module = timm.create_model(found.timm_name, **options)
    return model


def _downloaded(name: str) -> dict[str, Tensor]:
    """What timm has for this network, at the size that it was made for."""
    _, dot, tag = name.partition(".")
    try:
        made = architecture(name).timm_name + dot + tag
        state: dict[str, Tensor] = timm.create_model(made, pretrained=True, num_classes=0, in_chans=1).state_dict()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"timm could not fetch weights for {name}: {reason}; the coordinator needs the internet for weights = "
            '"timm": use a safetensors file or "phantom" instead'
        ) from None
    return state


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights; make them with `sarco-lab pretrain --out {path}`") from None
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from None
    return state


def _load(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load weights of the backbone; a classifier's own last layer is left out."""
    expected = {key: t for key, t in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(state))
    if missing:
        raise WeightsError(
            f"{source}: {len(missing)} of the network's tensors are absent, the first is {missing[0]}: name the "
            "weights of this backbone"
        )
    fitted = {key: _fitted(state[key].to(torch.float32), key, t.shape) for key, t in expected.items()}
    for key, tensor in expected.items():
        if fitted[key].shape != tensor.shape:
            raise WeightsError(
                f"{source}: {key} is {tuple(state[key].shape)}; the network needs {tuple(tensor.shape)}: name the "
                "weights of this backbone"
            )
    model.load_state_dict(fitted, strict=False)


_FIRST = ("stem.0.weight", "conv_stem.weight", "patch_embed.proj.weight")


def _fitted(tensor: Tensor, key: str, shape: torch.Size) -> Tensor:
    """Weights for colour images, summed over the colours, which are equal in a grey one; windows of another size."""
    if key in _FIRST and tensor.dim() == 4 and tensor.shape[1] == 3:
        return tensor.sum(dim=1, keepdim=True)
    if key.endswith("bias_table") and tensor.dim() == 2 and tensor.shape[1] == shape[1]:
        return _resampled(tensor, shape[0])
    return tensor


def _resampled(table: Tensor, rows: int) -> Tensor:
    """(offsets, heads) biases of a Swin's windows, for windows of another number of patches on the same scene.

    A step from patch to patch is so much longer in the scene as the windows have fewer of them.
    """
    old, new = ((math.isqrt(n) + 1) // 2 for n in (len(table), rows))
    if old == new or (2 * old - 1) ** 2 != len(table):
        return table
    step = torch.arange(1 - new, new) * (old / new) / (old - 1)  # -1 and 1 are the outermost offsets of the old windows
    grid = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1)[None]
    image = table.T.reshape(1, -1, 2 * old - 1, 2 * old - 1)
    return grid_sample(image, grid, padding_mode="border", align_corners=True).reshape(table.shape[1], -1).T
