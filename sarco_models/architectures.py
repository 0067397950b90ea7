"""The image networks that a study may name, and what each asks of the study: known without importing timm.

Reading a study must not cost the seconds that torch and timm take to import, so what timm knows is written down here,
and a test compares the two.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Family = Literal["convnext", "efficientnet", "swin"]
Trainable = Literal["head", "last_stage", "all"]
Norm = Literal["none", "frozen", "group", "local"]

STRIDE = 32
"""Pixels of the image to one of the last feature map, in all three families."""


@dataclass(frozen=True)
class Architecture:
    """An image network.

    Attributes:
        family: how its layers follow each other.
        timm_name: the network of timm that it is, or is made of.
        options: what is changed of timm's network.
        timm_weights: whether timm has weights trained on ImageNet.
    """

    family: Family
    timm_name: str
    timm_weights: bool
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_norm(self) -> bool:
        """Whether it normalises by the statistics of batches; the others normalise each image by itself."""
        return self.family == "efficientnet"


_NO_TIMM_WEIGHTS = {
    "convnext_atto_rms", "convnextv2_small", "efficientnet_b6", "efficientnet_b7", "efficientnet_b8",
    "efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite3", "efficientnet_lite4", "efficientnetv2_s",
    "efficientnetv2_m", "efficientnetv2_l", "efficientnetv2_xl",
}  # fmt: skip
_SIZES: dict[Family, dict[str, str]] = {
    "convnext": {
        "convnext_{}": "zepto_rms zepto_rms_ols atto atto_ols atto_rms femto femto_ols pico pico_ols nano nano_ols "
        "tiny tiny_hnf small base large large_mlp xlarge xxlarge",
        "convnextv2_{}": "atto femto pico nano tiny small base large huge",
    },
    "efficientnet": {
        "efficientnet_{}": "b0 b1 b2 b3 b4 b5 b6 b7 b8 lite0 lite1 lite2 lite3 lite4",
        "tf_efficientnet_{}": "b0 b1 b2 b3 b4 b5 b6 b7 b8 lite0 lite1 lite2 lite3 lite4",
        "efficientnetv2_{}": "s m l xl",
        "tf_efficientnetv2_{}": "b0 b1 b2 b3 s m l xl",
    },
    "swin": {
        "swin_{}_patch4_window7_224": "tiny small base large",
        "swin_{}_patch4_window12_384": "base large",
    },
}
ARCHITECTURES: Mapping[str, Architecture] = {
    **{
        name: Architecture(family, name, name not in _NO_TIMM_WEIGHTS)
        for family, patterns in _SIZES.items()
        for pattern, sizes in patterns.items()
        for name in map(pattern.format, sizes.split())
    },
    # Ours: a Swin for a processor, with the depths and widths of convnext_atto.
    "swin_atto": Architecture(
        "swin", "swin_tiny_patch4_window7_224", timm_weights=False,
        options={"embed_dim": 40, "num_heads": (2, 4, 8, 16)},
    ),
}  # fmt: skip
"""ConvNeXt (Liu et al. 2022), ConvNeXt V2 (Woo et al. 2023), EfficientNet (Tan and Le 2019; V2: 2021; ``tf_``: with the
authors' own weights) and Swin (Liu et al. 2021), by name."""


def architecture(name: str) -> Architecture:
    """The network of this name; a name of timm may end in a tag of its weights, such as ``convnext_tiny.fb_in1k``.

    Raises:
        ValueError: there is none; the nearest names are said.
    """
    found = ARCHITECTURES.get(name.split(".")[0])
    if found is None:
        begun = [known for known in ARCHITECTURES if name and known.startswith(name)]
        near = begun or difflib.get_close_matches(name, ARCHITECTURES, n=3) or ["convnext_tiny", "efficientnet_b0"]
        raise ValueError(f"no such ConvNeXt, EfficientNet or Swin; the nearest: {', '.join(near[:3])}")
    return found


SHIPPED_WEIGHTS = ("convnext_atto", "efficientnet_lite0")
"""Networks whose weights, trained on rendered phantoms, come with this project: ``weights = "phantom"``."""


def check_weights(name: str, weights: str) -> None:
    """Raise ValueError where weights are asked for that neither timm nor this project has for the network."""
    if weights == "timm" and not architecture(name).timm_weights:
        raise ValueError(f'timm has no weights for {name}: name a safetensors file, or write "none"')
    if weights == "phantom" and name not in SHIPPED_WEIGHTS:
        raise ValueError(
            f"no weights of {name} are shipped, only of {', '.join(SHIPPED_WEIGHTS)}: make them with "
            f"`sarco-lab pretrain --backbone {name} --out FILE` and name the file, or write "
            + ('"timm"' if architecture(name).timm_weights else '"none"')
        )


def check_norm(name: str, norm: Norm, trainable: Trainable, weights: str) -> None:
    """Raise ValueError where the treatment of norms does not fit the network, what trains of it, or its start.

    Layer norms, which see one image at a time, travel as everything else does (``none``) or stay at their hospital
    (``local``): FedBN-style, since Li et al. (2021) is about batch norms.
    """
    if not architecture(name).batch_norm:
        if norm in ("frozen", "group"):
            raise ValueError(
                f"{name} has no batch norm, so there is nothing to freeze or replace: remove this key, or write "
                '"local" to keep the layer norms of each hospital there'
            )
        if norm == "local" and trainable == "head":
            raise ValueError(
                f'with trainable = "head" no layer norm of {name} is trained, so there is none to keep: remove this key'
            )
        return
    if norm == "none":
        raise ValueError(
            f"{name} normalises by batches, whose statistics are of private images: "
            'write "frozen", "group" or "local"'
        )  # fmt: skip
    if trainable == "head" and norm != "frozen":
        raise ValueError('with trainable = "head" no batch norm is trained: write "frozen"')
    if norm == "frozen" and weights == "none":
        raise ValueError(
            'weights = "none" are random and have no statistics that could be kept: write "group", or name weights'
        )


def check_image_size(name: str, size: int, norm: Norm) -> None:
    """Raise ValueError where the network cannot read images of ``size`` x ``size`` pixels."""
    swin = architecture(name).family == "swin"
    if swin and (size % STRIDE or size < 2 * STRIDE):
        fitting = max(2, round(size / STRIDE)) * STRIDE
        raise ValueError(
            f"image.size = {size}: the windows of {name} tile an image whose side is a multiple of {STRIDE}, at least "
            f"{2 * STRIDE}: write {fitting}"
        )
    batches = norm == "local" and architecture(name).batch_norm
    alone = ", and a batch norm in training needs more than the one pixel that is left" if batches else ""
    least = STRIDE + batches
    if size < least:
        raise ValueError(f"image.size = {size}: {name} halves an image five times{alone}: write at least {least}")


def check_private(name: str, norm: Norm) -> None:
    """Raise ValueError where this image network cannot be trained with differential privacy.

    The unit is the participant: what one person's images change must pass through that person's clipped gradient, and
    through nothing else. Each person's gradient comes from a pass over that person's images alone, so that a Swin,
    which folds windows into the axis of its batch, may be trained as a whole: only Opacus' hooks cannot (STYLE 7.4).
    """
    if norm == "local" and architecture(name).batch_norm:
        raise ValueError(
            'norm = "local": batch statistics mix participants and are kept without noise: write norm = "frozen" or '
            '"group"'
        )
