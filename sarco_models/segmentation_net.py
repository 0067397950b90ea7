"""A network that segments, whatever its kind: what never changes, whose output may be kept, and what trains."""

import torch
from torch import Tensor, nn

Kept = tuple[Tensor, ...]
"""What the frozen part of a network gives for some images; every tensor is (rows, ...)."""


def of_asked(logits: Tensor | list[Tensor], asked: Tensor | None) -> Tensor | list[Tensor]:
    """Logits of the background and of the muscle that each image is asked for.

    What another map says of an image is neither used nor learned from: a second muscle in the picture, which nobody was
    asked for, costs nothing.

    Args:
        logits: (rows, 1 + muscles, height, width), or several of them.
        asked: (rows,) position of a muscle in the study's names; None = all are, and the logits stay as they are.

    Returns:
        (rows, 2, height, width), or as many of them as came.
    """
    if asked is None:
        return logits
    if isinstance(logits, list):
        return [of_one for level in logits if isinstance(of_one := of_asked(level, asked), Tensor)]
    both = torch.stack([torch.zeros_like(asked), asked + 1], dim=1)[:, :, None, None]
    return logits.gather(1, both.expand(-1, -1, *logits.shape[2:]))


class SegmentationNet(nn.Module):
    """Images to logits, in two parts.

    ``net(images)`` is ``net.trained(net.frozen(images))``. The frozen part never changes, whatever it is trained with,
    so that what it gives for an image may be kept, in half precision if need be, and the trained part alone be run:
    with ``trainable = "head"`` the maps of the whole encoder, 1.1 MB for an image of 224 pixels and convnext_atto. As
    many augmented views of an image are kept as the study's ``augmentation.cached_views`` says, each with its target.
    """

    def __init__(self, frozen: nn.Module, trained: nn.Module, size: int) -> None:
        """Put the two parts together.

        Args:
            frozen: (rows, 1, size, size) in [0, 1] -> Kept; never trained.
            trained: Kept -> (rows, outputs, size, size) logits; in training of an nnU-Net a list of them, finest first.
            size: pixels along the image's side.
        """
        super().__init__()
        self.frozen, self.trained, self.size = frozen.eval().requires_grad_(False), trained, size

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """(rows, 1, size, size) in [0, 1] -> logits of the trained part."""
        if images.shape[1:] != (1, self.size, self.size):
            raise ValueError(
                f"images of shape {tuple(images.shape[1:])}; this network reads (1, {self.size}, {self.size})"
            )
        logits: Tensor | list[Tensor] = self.trained(self.frozen(images))
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
