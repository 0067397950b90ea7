"""A network that segments, whatever its kind: what never changes, whose output may be kept, and what trains."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

Kept = tuple[Tensor, ...]
"""What the frozen part of a network gives for some images; every tensor is (rows, ...)."""

_APART = 0.6
"""Standard deviation at the start between muscles; with half of it some starts never tell them apart (decision 18)."""


class Asked(nn.Module):
    """What a network sees in an image depends on the muscle that it is asked for: a factor and an offset for each map.

    Feature-wise linear modulation (Perez et al. 2018, equation 2) of the maps that a decoder reads. A network that is
    told after its decoder finds one thing in a picture of two muscles, whichever is meant, as soon as hospitals that
    list such pictures by one name are averaged with those that list them by the other (decision 18). Factors and
    offsets of a muscle that nobody asks for get no gradient at all.
    """

    def __init__(self, muscles: int, widths: Sequence[int]) -> None:
        """Begin with factors about 1 and offsets about 0 that differ between muscles.

        Args:
            muscles: that may be asked for; 0 = the network is asked for none, and maps stay as they are.
            widths: channels of each map.
        """
        super().__init__()
        self.muscles = muscles
        self.factors = nn.ParameterList(_apart(1.0, muscles, width) for width in widths if muscles)
        self.offsets = nn.ParameterList(_apart(0.0, muscles, width) for width in widths if muscles)

    def forward(self, maps: Sequence[Tensor], asked: Tensor | None) -> list[Tensor]:
        """Maps of (rows, channels, height, width), and of each row a muscle's position in the study's names."""
        if (asked is None) != (self.muscles == 0):
            given = "no muscle was" if asked is None else "a muscle was"
            raise ValueError(f"{given} asked for, and this network is asked for one of {self.muscles}")
        if asked is None:
            return list(maps)
        chosen = one_hot(asked, self.muscles).to(maps[0].dtype)
        return [
            x * (chosen @ factor)[:, :, None, None] + (chosen @ offset)[:, :, None, None]
            for x, factor, offset in zip(maps, self.factors, self.offsets, strict=True)
        ]


def _apart(about: float, muscles: int, width: int) -> nn.Parameter:
    """(muscles, width) numbers about one number, so far apart that the decoder can tell the muscles from the start."""
    return nn.Parameter(about + _APART * torch.randn(muscles, width))


class SegmentationNet(nn.Module):
    """Images to logits, in two parts.

    ``net(images, asked)`` is ``net.trained(net.frozen(images), asked)``. The frozen part never changes, whatever it is
    trained with, so that what it gives for an image may be kept, in half precision if need be, and the trained part
    alone be run: with ``trainable = "head"`` the maps of the whole encoder, 1.1 MB for an image of 224 pixels and
    convnext_atto. As many augmented views of an image are kept as the study's ``augmentation.cached_views`` says, each
    with its target.
    """

    def __init__(self, frozen: nn.Module, trained: nn.Module, size: int) -> None:
        """Put the two parts together.

        Args:
            frozen: (rows, 1, size, size) in [0, 1] -> Kept; never trained.
            trained: Kept, and of each row the muscle that is asked for or None for all -> (rows, outputs, size, size)
                logits; in training of an nnU-Net a list of them, finest first.
            size: pixels along the image's side.
        """
        super().__init__()
        self.frozen, self.trained, self.size = frozen.eval().requires_grad_(False), trained, size
        # Channels beside each other in memory: 1.0 to 1.4 times as fast on a processor, for U-Nets and nnU-Net at 96
        # and 224 pixels; on a GPU nobody has measured it.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor, asked: Tensor | None = None) -> Tensor | list[Tensor]:
        """Logits of the trained part.

        Args:
            images: (rows, 1, size, size) in [0, 1].
            asked: (rows,) position of a muscle in the study's names, where the network is asked for one; else None.
        """
        if images.shape[1:] != (1, self.size, self.size):
            raise ValueError(
                f"images of shape {tuple(images.shape[1:])}; this network reads (1, {self.size}, {self.size})"
            )
        logits: Tensor | list[Tensor] = self.trained(self.frozen(images), asked)
        return logits

    def train(self, mode: bool = True) -> "SegmentationNet":
        """Set the trained part to training; the frozen part stays as it is."""
        super().train(mode)
        self.frozen.eval()
        return self

    @property
    def freezes_layers(self) -> bool:
        """Whether the frozen part has weights, so that keeping what it gives saves work."""
        return any(True for _ in self.frozen.parameters())
