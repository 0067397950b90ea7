"""From which quality score on a found muscle is accepted: frozen on validation people, of whom no score leaves.

A hospital counts its validation participants by their mean score, those whose muscles were found well apart from the
others; a coordinator adds the counts up and takes the lowest score from which on few were found badly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarco_models.cohort import People
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import MergedHistogram, ScoreHistogram, binned_participants
from sarco_models.overlap import dice
from sarco_models.plausible import judge
from sarco_models.score_check import GOOD_DICE, ScoreCheck
from sarco_models.segmentation import OUTSIDE
from sarco_models.segmentation_reader import SegmentationBatch, SegmentationReader
from sarco_models.segmentation_scores import asked_of
from sarco_models.segmenter import Found
from sarco_models.training import Each
from sarco_models.views import View

BAD = 0.05
"""Share of the accepted participants whose muscles may be found badly."""

Floats = NDArray[np.float64]


def scored_people(
    net: nn.Module, reader: SegmentationReader, people: People, *, each: Each = iter
) -> tuple[Floats, Floats]:
    """Mean quality score and mean Dice of each participant, over the muscles that were looked for on their images.

    Frames are seen through the network's square, straight and, where the study's training mirrors, mirrored; ranges of
    shapes are not known yet.

    Args:
        net: the study's network.
        reader: of the study.
        people: who were held out.
        each: hands on the batches, and may raise to give up.

    Returns:
        (participants,) twice, without those of whom nothing was looked for.
    """
    net.eval()
    views, images = people.cohort.views, iter(people.images.tolist())
    mirrors = reader.study.augmentation.mirrors
    found: list[tuple[int, float, float]] = []
    with torch.no_grad():
        for batch in each(reader.whole(people)):
            plain = asked_of(net, batch).softmax(1).cpu().numpy()
            turned = asked_of(net, batch, mirrored=True).softmax(1).cpu().numpy() if mirrors else None
            for row in range(len(plain)):
                image = next(images)
                mirrored = None if turned is None else turned[row]
                seen = _seen(plain[row], mirrored, batch.targets[row].cpu().numpy(), views[image])
                owner = int(people.cohort.owner[image])
                found += [(owner, *pair) for pair in _pairs(seen, batch, row)]
    owners = np.array([owner for owner, _, _ in found], dtype=np.int64)
    values = np.array([pair for _, *pair in found], dtype=np.float64).reshape(-1, 2)
    means = [values[owners == owner].mean(axis=0) for owner in np.unique(owners)]
    scores, dices = np.array(means).reshape(-1, 2).T
    return scores, dices


def good_and_bad(scores: Floats, dices: Floats, *, num_bins: int, min_cell: int) -> MergedHistogram:
    """Participants by score: positives are those with a good mean Dice, negatives the others.

    Raises:
        UndefinedMetric: of one kind there are people, but fewer than ``min_cell``.
    """
    histogram = ScoreHistogram.of(np.clip(scores, 0, 1), dices >= GOOD_DICE, num_bins=num_bins)
    return MergedHistogram.of(histogram, min_cell)


def accepted_from(histograms: Sequence[MergedHistogram]) -> float:
    """The lowest score from which on at most :data:`BAD` of all hospitals' participants were found badly.

    Raises:
        UndefinedMetric: nobody was found badly, so that nothing tells good from bad; or too many at every score.
    """
    scores, good = binned_participants(histograms)
    if good.all():
        raise UndefinedMetric(f"all {good.size} validation participants told of were found well")
    people = tuple(str(k) for k in range(scores.size))
    try:
        return ScoreCheck(scores, good.astype(np.float64), people).threshold(BAD)
    except UndefinedMetric:
        words = (
            f"at every score more than {BAD:.0%} of the {good.size} validation participants told of were found badly"
        )
        raise UndefinedMetric(words) from None


_Seen = tuple[Found, NDArray[np.uint8], View]


def _seen(
    plain: NDArray[np.float32], mirrored: NDArray[np.float32] | None, drawn: NDArray[np.uint8], view: View
) -> _Seen:
    """What was found and drawn, on the part of the square that shows the frame."""
    inside = drawn != OUTSIDE
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if rows.size else (slice(0), slice(0))
    plain = plain[:, *part]
    if mirrored is None:
        return Found(plain.argmax(0).astype(np.uint8), plain, view, 1), drawn[part], view
    mirrored = mirrored[:, *part]
    one, other = plain.argmax(0), mirrored.argmax(0)
    probabilities = np.asarray((plain + mirrored) / 2, dtype=np.float32)
    agreement = tuple(dice(one == k, other == k) for k in range(1, len(plain)))
    return Found(probabilities.argmax(0).astype(np.uint8), probabilities, view, 1, agreement), drawn[part], view


def _pairs(seen: _Seen, batch: SegmentationBatch, row: int) -> Iterator[tuple[float, float]]:
    """Score and Dice of each muscle that was looked for, and is drawn or found."""
    found, drawn, view = seen
    for number, asked in enumerate(batch.annotated[row].tolist(), start=1):
        mask, truth = found.mask(number), drawn == number
        if asked and (overlap := dice(mask, truth)) is not None:
            yield judge(found, number, view.mm_per_pixel).score, overlap
