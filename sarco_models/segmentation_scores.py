"""How well a network finds the muscles of people who are held out: what a hospital may tell of it, in means.

The participant is the unit: a measure of a person is the mean over those of the person's images that show the muscle or
on which it was found. Pixels are those of the network's square, whose millimetres are known where the frame's are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarco_models.cohort import People
from sarco_models.errors import UndefinedMetric
from sarco_models.muscle import measure
from sarco_models.overlap import Mask, Spacing, overlap
from sarco_models.segmentation import OUTSIDE
from sarco_models.segmentation_loss import merged, segmentation_loss
from sarco_models.segmentation_reader import SegmentationBatch, SegmentationReader
from sarco_models.training import Each

MEASURES = {
    "dice": (0.0, 1.0),
    "iou": (0.0, 1.0),
    "hd95_mm": (0.0, 500.0),
    "assd_mm": (0.0, 500.0),
    "thickness_error_mm": (-500.0, 500.0),
    "area_error_cm2": (-2500.0, 2500.0),
}
"""What is measured of each muscle, and between which numbers it lies; errors are found minus drawn."""


@dataclass(frozen=True, eq=False)
class Scored:
    """People who were held out, with their muscles found.

    Attributes:
        muscles: names, in the study's order.
        values: (participants, muscles, measures) in the order of :data:`MEASURES`; NaN where there is nothing to say:
            the muscle was not looked for, or neither drawn nor found, or a length without millimetres.
        losses: (participants,).
    """

    muscles: tuple[str, ...]
    values: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def dice(self) -> NDArray[np.float64]:
        """(participants, muscles), NaN where there is nothing to say."""
        return self.values[:, :, list(MEASURES).index("dice")]


def score(
    net: nn.Module, reader: SegmentationReader, people: People, *, each: Each = iter, sizes: bool = True
) -> Scored:
    """Find everybody's muscles and hold them against the drawn ones.

    Args:
        net: the study's network.
        reader: of the study.
        people: to be scored.
        each: hands on the batches, and may raise to give up.
        sizes: also distances, thickness and area, which take longer than the network.
    """
    net.eval()
    segmentation = reader.segmentation
    rows: list[NDArray[np.float64]] = []
    losses = []
    with torch.no_grad():
        for batch in each(reader.whole(people)):
            logits = net(batch.images)  # one resolution: deep supervision is for training alone
            loss = segmentation_loss(logits, batch.targets, batch.annotated, batch.owner, batch.participants)
            losses.append(loss.double().cpu().numpy())
            found = merged(logits, batch.annotated).argmax(1)
            rows += _rows(found, batch, sizes=sizes)
    images = people.images[: len(rows)]
    values = np.full((len(people), len(segmentation.names), len(MEASURES)), np.nan)
    owner = np.searchsorted(people.members, people.cohort.owner[images])
    of_image = np.full((len(rows), len(segmentation.names), len(MEASURES)), np.nan)
    for k, (image, row) in enumerate(zip(images, rows, strict=True)):
        of_image[k, reader.muscles_of(people, int(image))] = row
    for person in range(len(people)):
        values[person] = _mean(of_image[owner == person])
    return Scored(segmentation.names, values, np.concatenate(losses) if losses else np.zeros(0))


def told(scored: Scored, min_cell: int) -> dict[str, float]:
    """``MUSCLE.MEASURE.n``, ``.mean`` and ``.sd`` over participants; what fewer than ``min_cell`` show is absent."""
    found: dict[str, float] = {}
    for m, muscle in enumerate(scored.muscles):
        for k, name in enumerate(MEASURES):
            values = scored.values[:, m, k]
            values = values[np.isfinite(values)]
            if len(values) >= max(min_cell, 1):
                spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                parts = {"n": float(len(values)), "mean": float(values.mean()), "sd": spread}
                found |= {f"{muscle}.{name}.{part}": value for part, value in parts.items()}
    return found


def in_a_round(scored: Scored) -> dict[str, float]:
    """What is told after each round: the loss, and the mean Dice over muscles of the mean over participants."""
    found = {"loss": float(scored.losses.mean())} if len(scored.losses) else {}
    by_muscle = _mean(scored.dice)
    if np.isfinite(by_muscle).any():
        found["dice"] = float(np.nanmean(by_muscle))
    return found


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis, of the numbers there are; NaN where there are none."""
    there = np.isfinite(values)
    counts = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _rows(found: torch.Tensor, batch: SegmentationBatch, *, sizes: bool) -> Iterator[NDArray[np.float64]]:
    """(classes - 1, measures) of each image of a batch."""
    found_, drawn = found.cpu().numpy(), batch.targets.cpu().numpy()
    looked_for = batch.annotated.cpu().numpy()
    for k in range(len(found_)):
        inside = drawn[k] != OUTSIDE
        spacing = batch.mm_per_pixel[k] if sizes else None
        yield np.array(
            [
                _one((found_[k] == c) & inside, (drawn[k] == c) & inside, spacing) if asked else _NOTHING
                for c, asked in enumerate(looked_for[k], start=1)
            ]
        )


_NOTHING: Sequence[float] = (np.nan,) * len(MEASURES)


def _one(found: Mask, drawn: Mask, spacing: Spacing | None) -> Sequence[float]:
    """All measures of one muscle in one image."""
    agreed = overlap(found, drawn, spacing)
    thickness, area = _errors(found, drawn, spacing)
    every = (agreed.dice, agreed.iou, agreed.hd95_mm, agreed.assd_mm, thickness, area)
    return tuple(np.nan if value is None else value for value in every)


def _errors(found: Mask, drawn: Mask, spacing: Spacing | None) -> tuple[float | None, float | None]:
    """Thickness (mm) and area (cm2), found minus drawn."""
    if spacing is None:
        return None, None
    try:
        a, b = measure(found, None, spacing), measure(drawn, None, spacing)
    except UndefinedMetric:
        return None, None
    return a.thickness_mm - b.thickness_mm, a.csa_cm2 - b.csa_cm2
