"""What training of muscles makes small: Dice and cross-entropy, for every participant alone, with partial labels.

Dice is over all rows of a participant together, which is nnU-Net's batch Dice in 2-D (Isensee et al. 2021) with one
person for the batch: the loss of a person depends on nobody else, as privacy asks, and a muscle that is on one of the
images and wrongly found on another costs both.

A muscle that nobody looked for on an image may be there all the same. Its probability is added to that of the
background there (marginal loss: Fang and Yan 2020; Shi et al. 2021), so that what is not drawn is neither learned as a
muscle nor as its absence. Pixels that are OUTSIDE of the frame count nowhere.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import interpolate, log_softmax, one_hot

from sarco_models.segmentation import BACKGROUND, OUTSIDE


def segmentation_loss(
    logits: Tensor | Sequence[Tensor], targets: Tensor, annotated: Tensor, owner: Tensor, participants: int
) -> Tensor:
    """1 - Dice + cross-entropy of each participant.

    Args:
        logits: (rows, classes, height, width); with deep supervision several of them, finest first, of which each
            weighs half of the one before (Isensee et al. 2021); the weights add up to 1.
        targets: (rows, size, size) classes, OUTSIDE where nothing counts. Coarser logits are compared with the class at
            the middle of each of their pixels.
        annotated: (rows, classes - 1) bool, muscles that were looked for. A target of another muscle is background.
        owner: (rows,) participant of each row, 0 to ``participants - 1``.
        participants: how many there are.

    Returns:
        (participants,) of which each depends on the rows of that participant alone; 0 for one without rows.

    Raises:
        ValueError: levels are not in their order, or the numbers of classes and muscles do not fit.
    """
    levels = [logits] if isinstance(logits, Tensor) else list(logits)
    if any(coarse.shape[-1] > fine.shape[-1] for fine, coarse in pairwise(levels)):
        raise ValueError(f"logits of sides {[level.shape[-1] for level in levels]}; the finest come first")
    if any(level.shape[1] != annotated.shape[1] + 1 for level in levels):
        raise ValueError(
            f"logits of {levels[0].shape[1]} classes and {annotated.shape[1]} muscles: one class is background"
        )
    weights = [0.5**k for k in range(len(levels))]
    losses = [_dice_and_cross_entropy(level, _at(targets, level), annotated, owner, participants) for level in levels]
    return torch.stack([w / sum(weights) * loss for w, loss in zip(weights, losses, strict=True)]).sum(0)


def merged(logits: Tensor, annotated: Tensor) -> Tensor:
    """Log probabilities after what was not annotated has joined the background, (rows, classes, height, width).

    Args:
        logits: (rows, classes, height, width).
        annotated: (rows, classes - 1) bool.

    Returns:
        Minus infinity for the classes that have joined it.
    """
    if bool(annotated.all()):
        return log_softmax(logits, dim=1)
    apart = torch.cat([annotated.new_zeros(len(annotated), 1), annotated], dim=1)[:, :, None, None]
    together = logits.masked_fill(apart, -torch.inf).logsumexp(dim=1, keepdim=True)
    kept = logits[:, 1:].masked_fill(~apart[:, 1:], -torch.inf)
    return log_softmax(torch.cat([together, kept], dim=1), dim=1)


def _at(targets: Tensor, logits: Tensor) -> Tensor:
    """Targets at the resolution of these logits."""
    shape = logits.shape[2:]
    if targets.shape[1:] == shape:
        return targets
    # Exact: numbers up to 255 in single precision, taken and not mixed.
    return interpolate(targets[:, None].float(), size=shape, mode="nearest-exact")[:, 0].long()


def _dice_and_cross_entropy(
    logits: Tensor, targets: Tensor, annotated: Tensor, owner: Tensor, participants: int
) -> Tensor:
    inside = targets != OUTSIDE
    known = torch.cat([annotated.new_ones(len(annotated), 1), annotated], dim=1)
    drawn = targets.masked_fill(~inside, BACKGROUND)
    looked_for = known.gather(1, drawn.flatten(1)).view_as(drawn)
    drawn = drawn.masked_fill(~looked_for, BACKGROUND)
    half = logits.dtype in (torch.float16, torch.bfloat16)  # too coarse for sums over so many pixels
    logs = merged(logits.float() if half else logits, annotated)
    wrong = -logs.gather(1, drawn[:, None])[:, 0] * inside
    entropy = wrong.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    counts = torch.bincount(owner, minlength=participants).clamp(min=1)

    def each(rows: Tensor) -> Tensor:
        """Sums over the rows of each participant."""
        return rows.new_zeros(participants, *rows.shape[1:]).index_add(0, owner, rows)

    truth = one_hot(drawn, logits.shape[1])[..., 1:].movedim(-1, 1) * inside[:, None]
    found = logs[:, 1:].exp() * inside[:, None]
    overlap, area = each((found * truth).sum((2, 3))), each(truth.sum((2, 3)))
    dice = 2 * overlap / (each(found.sum((2, 3))) + area).clamp(min=1)
    # What a participant does not have, cross-entropy teaches; its Dice would be 0 however little of it is found.
    there = area > 0
    missed = ((1 - dice) * there).sum(1) / there.sum(1).clamp(min=1)
    return each(entropy) / counts + missed
