"""How well a network finds the muscles of people who are held out: what a hospital may tell of it, in means.

The participant is the unit: a measure of a person is the mean over those of the person's images that show the muscle or
on which it was found. Pixels are those of the network's square, whose millimetres are known where the frame's are.

Sizes, and errors of sizes, are of images on which one muscle is drawn, in one piece: of two muscles side by side
neither mid-belly need be in the picture. Where only one of two muscles that are seen was drawn, no mask tells of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sarco_models.agreement import FEWEST, PairSums
from sarco_models.cohort import People
from sarco_models.muscle import measure
from sarco_models.overlap import Mask, Spacing, overlap
from sarco_models.segmentation import BACKGROUND, OUTSIDE
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

SIZES = {"thickness_mm": 500.0, "csa_cm2": 2500.0, "echo_intensity": 255.0}
"""Sizes of a muscle, in found and in drawn masks, with the largest that there can be. Only the first two are told."""

TOLD_SIZES = ("thickness_mm", "csa_cm2")
PAIR_PARTS = ("n", "a", "b", "aa", "bb", "ab")
"""Of :class:`sarco_models.agreement.PairSums`, a being found and b drawn: what is told of a size."""

_PIECE = 0.1
"""Share of the largest piece's area from which on another piece is another muscle's, and no slip of the hand."""


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Each image of the people, in the order of the cohort.

    Attributes:
        images: (images,) positions in the cohort.
        owner: (images,) position of each one's participant among the people.
        values: (images, muscles, measures) as in :class:`Scored`.
        sizes: (images, muscles, 2, sizes) in the found and in the drawn mask; NaN where there is none, or not one whole
            muscle drawn.
        seen: (images, muscles, 2) whether anything was found, and drawn.
    """

    images: NDArray[np.int64]
    owner: NDArray[np.int64]
    values: NDArray[np.float64]
    sizes: NDArray[np.float64]
    seen: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scored:
    """People who were held out, with their muscles found.

    Attributes:
        muscles: names, in the study's order.
        values: (participants, muscles, measures) in the order of :data:`MEASURES`; NaN where there is nothing to say:
            the muscle was not looked for, or neither drawn nor found, or a length without millimetres.
        losses: (participants,).
        by_image: what the values are means of; None where only means are at hand.
    """

    muscles: tuple[str, ...]
    values: NDArray[np.float64]
    losses: NDArray[np.float64]
    by_image: ImageScores | None = field(default=None, repr=False)

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
    rows: list[_Row] = []
    losses = []
    with torch.no_grad():
        for batch in each(reader.whole(people)):
            logits = asked_of(net, batch)
            loss = segmentation_loss(logits, batch.targets, batch.annotated, batch.owner, batch.participants)
            losses.append(loss.double().cpu().numpy())
            found = merged(logits, batch.annotated).argmax(1)
            rows += _rows(found, batch, sizes=sizes)
    by_image = _by_image(reader, people, rows)
    each_loss = np.concatenate(losses) if losses else np.zeros(0)
    return Scored(reader.segmentation.names, _means(by_image, len(people)), each_loss, by_image)


def asked_of(net: nn.Module, batch: SegmentationBatch, *, mirrored: bool = False) -> Tensor:
    """(rows, classes, size, size) logits of what a batch is asked for, by a network that does not train.

    Args:
        net: the study's network.
        batch: of people who were held out.
        mirrored: look at the images mirrored, and turn the answer back.
    """
    images = batch.images.flip(-1) if mirrored else batch.images
    logits: Tensor = net(images, batch.asked)
    return logits.flip(-1) if mirrored else logits


def without_sizes(scored: Scored, images: NDArray[np.bool_]) -> Scored:
    """The same, with nothing said of sizes on these images, such as views of two muscles that no mask tells of.

    Args:
        scored: with every image.
        images: (images,) which ones.
    """
    if scored.by_image is None:
        return scored
    values, sizes = scored.by_image.values.copy(), scored.by_image.sizes.copy()
    for error in ("thickness_error_mm", "area_error_cm2"):
        values[images, :, list(MEASURES).index(error)] = np.nan
    sizes[images] = np.nan
    by_image = replace(scored.by_image, values=values, sizes=sizes)
    return replace(scored, values=_means(by_image, len(scored.values)), by_image=by_image)


def told(scored: Scored, min_cell: int, *, sums: bool = True) -> dict[str, float]:
    """What of these people is told; of fewer than ``min_cell`` participants nothing is.

    Args:
        scored: test or validation participants.
        min_cell: the hospital's smallest number.
        sums: also those of sizes, found and drawn, from which a federation's own agreement follows.

    Returns:
        ``MUSCLE.MEASURE.n``, ``.mean`` and ``.sd`` over participants, and ``MUSCLE.SIZE.PART`` for the parts of
        :data:`PAIR_PARTS`, where sizes were measured.
    """
    found: dict[str, float] = {}
    for m, muscle in enumerate(scored.muscles):
        for k, name in enumerate(MEASURES):
            values = scored.values[:, m, k]
            values = values[np.isfinite(values)]
            if len(values) >= max(min_cell, 1):
                spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                parts = {"n": float(len(values)), "mean": float(values.mean()), "sd": spread}
                found |= {f"{muscle}.{name}.{part}": value for part, value in parts.items()}
        for size in TOLD_SIZES if sums else ():
            both = pairs(scored, m, size)
            if both and both.n >= min_cell:
                found |= {f"{muscle}.{size}.{part}": float(value) for part, value in asdict(both).items()}
    return found


def pairs(scored: Scored, muscle: int, size: str) -> PairSums | None:
    """Sums of a muscle's size, found and drawn, over participants' means; None below three participants.

    Args:
        scored: with every image.
        muscle: position in the study's names.
        size: of :data:`SIZES`.
    """
    if scored.by_image is None:
        return None
    both = scored.by_image.sizes[:, muscle, :, list(SIZES).index(size)]
    known = np.isfinite(both).all(axis=1)
    owner = scored.by_image.owner[known]
    if len(set(owner.tolist())) < FEWEST:
        return None
    return PairSums.of(both[known, 0], both[known, 1], [str(person) for person in owner])


def in_a_round(scored: Scored) -> dict[str, float]:
    """What is told after each round: the loss, and the mean Dice over muscles of the mean over participants."""
    found = {"loss": float(scored.losses.mean())} if len(scored.losses) else {}
    by_muscle = _mean(scored.dice)
    if np.isfinite(by_muscle).any():
        found["dice"] = float(np.nanmean(by_muscle))
    return found


def _means(by_image: ImageScores, people: int) -> NDArray[np.float64]:
    """(participants, muscles, measures), each person's images counting alike."""
    each = [_mean(by_image.values[by_image.owner == person]) for person in range(people)]
    return np.array(each, dtype=np.float64).reshape(people, *by_image.values.shape[1:])


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the first axis, of the numbers there are; NaN where there are none."""
    there = np.isfinite(values)
    counts = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True, eq=False)
class _Row:
    """One image: (classes - 1, measures), (classes - 1, 2, sizes) and (classes - 1, 2)."""

    values: NDArray[np.float64]
    sizes: NDArray[np.float64]
    seen: NDArray[np.bool_]


def _by_image(reader: SegmentationReader, people: People, rows: Sequence[_Row]) -> ImageScores:
    """The classes of every image put where the study has its muscles."""
    images, names = people.images[: len(rows)], reader.segmentation.names
    values = np.full((len(rows), len(names), len(MEASURES)), np.nan)
    sizes = np.full((len(rows), len(names), 2, len(SIZES)), np.nan)
    seen = np.zeros((len(rows), len(names), 2), dtype=np.bool_)
    for k, (image, row) in enumerate(zip(images, rows, strict=True)):
        muscles = reader.muscles_of(people, int(image))
        values[k, muscles], sizes[k, muscles], seen[k, muscles] = row.values, row.sizes, row.seen
    owner = np.searchsorted(people.members, people.cohort.owner[images])
    return ImageScores(images, owner.astype(np.int64), values, sizes, seen)


def _rows(found: torch.Tensor, batch: SegmentationBatch, *, sizes: bool) -> Iterator[_Row]:
    """Each image of a batch."""
    found_, drawn = found.cpu().numpy(), batch.targets.cpu().numpy()
    looked_for = batch.annotated.cpu().numpy()
    pixels = (batch.images[:, 0] * 255).round().byte().cpu().numpy()
    for k in range(len(found_)):
        inside = drawn[k] != OUTSIDE
        spacing = batch.mm_per_pixel[k] if sizes else None
        picture = _Picture(pixels[k], spacing, whole=one_whole_muscle(drawn[k]))
        each = [
            _one((found_[k] == c) & inside, (drawn[k] == c) & inside, picture) if asked else _NOTHING
            for c, asked in enumerate(looked_for[k], start=1)
        ]
        yield _Row(*(np.array([getattr(one, part) for one in each]) for part in ("values", "sizes", "seen")))


def one_whole_muscle(drawn: NDArray[np.integer]) -> bool:
    """Whether a single muscle is drawn, and in one piece.

    Args:
        drawn: (height, width) classes.
    """
    classes = np.setdiff1d(np.unique(drawn), (BACKGROUND, OUTSIDE))
    if len(classes) != 1:
        return False
    _, _, stats, _ = cv2.connectedComponentsWithStats((drawn == classes[0]).astype(np.uint8), connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])
    return bool(len(areas) == 1 or areas[-2] < _PIECE * areas[-1])


@dataclass(frozen=True, eq=False)
class _Picture:
    """What is measured on: grey levels, and their millimetres."""

    pixels: NDArray[np.uint8]
    spacing: Spacing | None
    whole: bool


_NO_SIZES = np.full((2, len(SIZES)), np.nan)
_NOTHING = _Row(np.full(len(MEASURES), np.nan), _NO_SIZES, np.zeros(2, dtype=np.bool_))


def _one(found: Mask, drawn: Mask, picture: _Picture) -> _Row:
    """All measures of one muscle in one image."""
    agreed = overlap(found, drawn, picture.spacing)
    sizes = _NO_SIZES
    if picture.whole and picture.spacing and drawn.any():
        sizes = np.array([_sizes(mask, picture.pixels, picture.spacing) for mask in (found, drawn)])
    thickness, area, _ = sizes[0] - sizes[1]
    every = (agreed.dice, agreed.iou, agreed.hd95_mm, agreed.assd_mm, thickness, area)
    values = np.array([np.nan if value is None else value for value in every])
    return _Row(values, sizes, np.array([found.any(), drawn.any()]))


def _sizes(mask: Mask, pixels: NDArray[np.uint8], spacing: Spacing) -> Sequence[float]:
    """In the order of :data:`SIZES`; NaN of an empty mask."""
    if not mask.any():
        return [np.nan] * len(SIZES)
    found = measure(mask, pixels, spacing)
    return [np.nan if (value := getattr(found, size)) is None else value for size in SIZES]
