"""The network of nnU-Net in 2-D, as a plan says (Isensee et al. 2021); :mod:`sarco_models.fingerprint` makes the plan.

Two convolutions in each stage, strided ones down and transposed ones up, leaky ReLU of .01, He's starting weights, and
logits at every resolution but the lowest of the way up while it trains. The blocks are those of MONAI's ``DynUNet``;
its own assembly is not used, for it keeps the last batch's logits in the module and blows them up to full size. In
place of instance norms there are group norms of 8 features (Wu and He 2018), which know one image at a time as well.
"""

from itertools import pairwise

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetOutBlock, UnetUpBlock
from torch import Tensor, nn

from sarco_models.config import ImageConfig
from sarco_models.errors import ConfigError
from sarco_models.fingerprint import GROUP_OF, planned_image
from sarco_models.segmentation import PlanConfig, SegmentationConfig
from sarco_models.segmentation_net import Asked, Kept, SegmentationNet

_ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})

_TOLERANCE_MM = 0.1
"""Of the window's side: a plan's millimetres per pixel are rounded, and the study's window likewise."""


def build_nnunet(cfg: SegmentationConfig, image: ImageConfig) -> SegmentationNet:
    """Make the network of a study's plan; its weights begin at random.

    Args:
        cfg: with a plan.
        image: must show the network what was planned (:func:`sarco_models.fingerprint.planned_image`).

    Raises:
        ConfigError: there is no plan, or it fits neither the network's blocks nor the study's images.
    """
    if cfg.plan is None:
        raise ConfigError(
            'segmentation.network = "nnunet" needs the section [segmentation.plan], which hospitals agree on: make it '
            'with `sarco-lab plan` or `sarco-coordinator plan`, or write network = "unet"'
        )
    check_plan(cfg.plan, image)
    return SegmentationNet(_Grey(cfg.plan), _Stages(cfg.plan.features, cfg.outputs, cfg.to_ask_for), image.size)


def check_plan(plan: PlanConfig, image: ImageConfig) -> None:
    """Raise ConfigError where a plan fits neither the network's blocks nor the study's images."""
    rows, columns = plan.patch
    fitting = planned_image(plan, image)
    unfit = [number for number in plan.features if number % GROUP_OF or number < GROUP_OF]
    halvings = len(plan.features) - 1
    faults = {
        f"patch = {list(plan.patch)}: the network's input is a square: write two equal numbers": rows != columns,
        f"patch = {list(plan.patch)}: image.size = {image.size}: write size = {rows} in [image]": rows != image.size,
        f"features = {list(plan.features)} halve {rows} pixels {halvings} times: write patches that are multiples of "
        f"{2**halvings}, or fewer features": bool(rows % 2**halvings) or rows <= 2**halvings,
        f"features = {list(plan.features)}: group norms need multiples of {GROUP_OF}": bool(unfit),
        f"convolutions = {plan.convolutions}: the blocks have 2 in each stage: write 2": plan.convolutions != 2,
        f"mm_per_pixel = {plan.mm_per_pixel}, {rows} pixels of which are {fitting.window_mm:g} mm; image.framing = "
        f'"{image.framing}" with window_mm = {image.window_mm:g}: write framing = "physical" and window_mm = '
        f"{fitting.window_mm:g} in [image]": image.framing != "physical"
        or abs(image.window_mm - rows * plan.mm_per_pixel) > _TOLERANCE_MM,
    }
    for fault, there in faults.items():
        if there:
            raise ConfigError(f"segmentation.plan: {fault}")


class _Grey(nn.Module):
    """Grey values in [0, 1] to those of the plan: 0 in the mean of the muscles, 1 a standard deviation above it."""

    def __init__(self, plan: PlanConfig) -> None:
        super().__init__()
        self.mean, self.sd = plan.grey_mean / 255, plan.grey_sd / 255

    def forward(self, images: Tensor) -> Kept:
        return ((images - self.mean) / self.sd,)


class _Stages(nn.Module):
    """What trains: the way down, what is asked, the way up, and logits on the way up."""

    def __init__(self, features: tuple[int, ...], outputs: int, muscles: int) -> None:
        super().__init__()
        first, fine_to_deep = features[0], list(pairwise(features))
        self.begin = _block(1, first, stride=1)
        self.down = nn.ModuleList(_block(fine, deep, stride=2) for fine, deep in fine_to_deep)
        self.asked = Asked(muscles, features)
        self.up = nn.ModuleList(
            UnetUpBlock(2, deep, fine, 3, 1, 2, norm_name=_norm(fine), act_name=_ACTIVATION)
            for fine, deep in reversed(fine_to_deep)
        )
        supervised = features[: max(len(features) - 2, 1)]
        self.heads = nn.ModuleList(UnetOutBlock(2, number, outputs) for number in supervised)
        self.apply(_initialize)

    def forward(self, kept: Kept, asked: Tensor | None) -> Tensor | list[Tensor]:
        """The finest logits; in training those of all resolutions, finest first."""
        maps = [self.begin(kept[0])]
        for down in self.down:
            maps.append(down(maps[-1]))
        maps = self.asked(maps, asked)
        x, climbed = maps.pop(), []
        for up in self.up:
            x = up(x, maps.pop())
            climbed.append(x)
        levels = list(zip(self.heads, reversed(climbed), strict=False))  # the lowest has no head
        if self.training:
            return [head(level) for head, level in levels]
        head, finest = levels[0]
        logits: Tensor = head(finest)
        return logits


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    return UnetBasicBlock(2, inputs, outputs, 3, stride, norm_name=_norm(outputs), act_name=_ACTIVATION)


def _norm(features: int) -> tuple[str, dict[str, int]]:
    return "group", {"num_groups": features // GROUP_OF}


def _initialize(module: nn.Module) -> None:
    """He et al. (2015) for leaky ReLU, as nnU-Net begins."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        torch.nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            torch.nn.init.zeros_(module.bias)
