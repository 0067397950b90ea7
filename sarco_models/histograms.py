"""Scores as counts in bins: what a site can send so that a coordinator draws its curves without anybody's score.

A ROC curve drawn from bins is exact at every border of a bin; only pairs of a positive and a negative within one bin
are undecided, so that the participants' own AUC lies in a range that the counts tell (:func:`auc_range`).

Small counts are not left out, which would bend the curve and lose people, but merged with their neighbours until every
count is 0 or at least ``min_cell``. The borders of the merged bins travel with them, so that the curve stays exact at
those borders and the range stays a guarantee. At the paper's three sites together and 200 bins the AUC from bins is
off by .0001 unmerged, by .001 (at most .005) with a smallest count of 3, by .004 with 5 and by .03 with 10, nearly
always downward; leaving small counts out would lose a whole class (benchmarks/inference.py).

Merging hides individuals in a crowd; it is not differential privacy: two histograms that differ by one person still
show that person's run of bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sarco_models.disclosure import small
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Labels, Scores

if TYPE_CHECKING:  # what travels must be known without SciPy
    from sarco_models.metrics import RocCurve

Counts = NDArray[np.int64]


def _borders(num_bins: int) -> Scores:
    """(bins + 1,) borders; a probability is in the bin whose lower border it reaches, 1 in the last."""
    return np.arange(num_bins + 1, dtype=np.float64) / num_bins


@dataclass(frozen=True)
class ScoreHistogram:
    """How many participants of each class fall into equal bins of the probability; it adds up across sites.

    The coordinator draws the ROC curve and freezes a threshold from the sum without seeing anybody's score. A count of
    one in a fine histogram still describes one person: :class:`MergedHistogram` is what may leave a careful site.

    Attributes:
        positives: (bins,) counts of participants with sarcopenia.
        negatives: (bins,) counts of participants without.
    """

    positives: Counts
    negatives: Counts

    @classmethod
    def of(cls, probability: Scores, labels: Labels, *, num_bins: int = 100) -> Self:
        """Count one site's participants.

        Raises:
            UndefinedMetric: a score is no probability.
        """
        if probability.size and not (probability.min() >= 0.0 and probability.max() <= 1.0):
            raise UndefinedMetric(
                f"scores from {probability.min():.3g} to {probability.max():.3g}; a histogram takes probabilities"
            )
        # By the borders themselves, so that "bin b or above" and "probability >= border b" are the same people.
        inside = np.searchsorted(_borders(num_bins)[1:-1], probability, side="right")
        return cls(
            positives=np.bincount(inside[labels], minlength=num_bins).astype(np.int64),
            negatives=np.bincount(inside[~labels], minlength=num_bins).astype(np.int64),
        )

    def __add__(self, other: Self) -> Self:
        """Both sites' participants together."""
        if self.positives.size != other.positives.size:
            raise UndefinedMetric(
                f"histograms of {self.positives.size} and {other.positives.size} bins do not add up: "
                "every site must use the study's number of bins"
            )
        return type(self)(self.positives + other.positives, self.negatives + other.negatives)

    def participants(self) -> tuple[Scores, Labels]:
        """Everybody at the middle of their bin: scores and labels for every statistic of arrays."""
        one_by_one = np.arange(1, self.positives.size + 1, dtype=np.int64)
        return binned_participants([MergedHistogram(one_by_one, self.positives, self.negatives)])


@dataclass(frozen=True, eq=False)
class MergedHistogram:
    """A histogram whose neighbouring bins are merged until every count is 0 or at least ``min_cell``.

    Attributes:
        ends: (runs,) the bin after the last one of each run of merged bins; the last is the number of bins.
        positives: (runs,) counts of participants with sarcopenia.
        negatives: (runs,) counts of participants without.
    """

    ends: Counts
    positives: Counts
    negatives: Counts

    @classmethod
    def of(cls, histogram: ScoreHistogram, min_cell: int, *, parts: Sequence[Counts] = ()) -> Self:
        """Merge as little as possible: of all ways, the one that leaves the fewest pairs within one run.

        Args:
            histogram: of one site's participants.
            min_cell: the smallest count that may be shown; 1 merges nothing.
            parts: (bins,) counts of groups of these participants whose number is shown as well, such as the positives
                below the threshold. No run may hold 1 to ``min_cell - 1`` of them, or that number and the curve
                together would tell who is near the threshold.

        Raises:
            UndefinedMetric: a class or part has people but fewer than ``min_cell``: even one bin for all shows them.
        """
        groups = np.stack([histogram.positives, histogram.negatives, *parts])
        if small(groups.sum(axis=1), min_cell).any():
            raise UndefinedMetric(
                f"a class has fewer than {min_cell} participants, the smallest count that may be shown: "
                "no histogram of them leaves the site; report it as absent"
            )
        ends = _best_ends(groups, min_cell)
        starts = np.concatenate([[0], ends[:-1]])
        return cls(ends, np.add.reduceat(histogram.positives, starts), np.add.reduceat(histogram.negatives, starts))

    @property
    def num_bins(self) -> int:
        """Bins before merging."""
        return int(self.ends[-1])

    @property
    def well_formed(self) -> bool:
        """Whether the runs follow each other and no count is negative; what came from elsewhere may be otherwise."""
        same = self.ends.size == self.positives.size == self.negatives.size > 0
        return (
            same
            and bool((np.diff(self.ends, prepend=0) > 0).all())
            and int(min(self.positives.min(), self.negatives.min())) >= 0
        )

    @property
    def starts(self) -> Counts:
        """(runs,) the first bin of each run."""
        return np.concatenate([[0], self.ends[:-1]]).astype(np.int64)


def _best_ends(groups: Counts, min_cell: int) -> Counts:
    """Dynamic programming over the last run: fewest pairs within runs, and among equals the most runs.

    ``groups`` (groups, bins) holds positives, negatives, then the parts.
    """
    num_bins = groups.shape[1]
    before = np.concatenate([np.zeros((len(groups), 1), dtype=np.int64), np.cumsum(groups, axis=1)], axis=1)
    never = np.iinfo(np.int64).max // 2
    cost = np.full(num_bins + 1, never, dtype=np.int64)
    cost[0], start = 0, np.zeros(num_bins + 1, dtype=np.int64)
    for end in range(1, num_bins + 1):
        inside = before[:, end : end + 1] - before[:, :end]
        pairs = inside[0] * inside[1]
        hides = small(inside, min_cell).any(axis=0)
        total = np.where(hides, never, cost[:end] + pairs * (num_bins + 1) - 1)
        start[end] = np.argmin(total)
        cost[end] = min(int(total[start[end]]), never)
    ends = [num_bins]
    while start[ends[-1]] > 0:
        ends.append(int(start[ends[-1]]))
    return np.array(ends[::-1], dtype=np.int64)


# --- at the coordinator -----------------------------------------------------------------------------------------------


def binned_participants(histograms: Sequence[MergedHistogram]) -> tuple[Scores, Labels]:
    """Everybody of all sites, spread evenly over the middles of their run's bins: for every statistic of arrays.

    Positives come first. Thresholds belong to :func:`binned_roc`: others may cut through a run.
    """
    _same_bins(histograms)
    positives = np.concatenate([_spread(h, h.positives) for h in histograms])
    negatives = np.concatenate([_spread(h, h.negatives) for h in histograms])
    return np.concatenate([positives, negatives]), np.arange(positives.size + negatives.size) < positives.size


def _spread(histogram: MergedHistogram, counts: Counts) -> Scores:
    run = np.repeat(np.arange(counts.size), counts)
    place = np.arange(run.size) - (np.cumsum(counts) - counts)[run]
    width = (histogram.ends - histogram.starts)[run]
    inside = np.floor((place + 0.5) / counts[run] * width)
    return np.asarray((histogram.starts[run] + inside + 0.5) / histogram.num_bins, dtype=np.float64)


def binned_roc(histograms: Sequence[MergedHistogram]) -> RocCurve:
    """Operating points at the borders of the sites' runs.

    With one site every point is exactly what its threshold does to the participants. With several, a site whose run
    spans the border counts by that run's even spread.
    """
    scores, labels = binned_participants(histograms)
    positive, negative = np.sort(scores[labels]), np.sort(scores[~labels])
    if positive.size == 0 or negative.size == 0:
        raise UndefinedMetric(
            f"{positive.size} participants with and {negative.size} without the condition: no ROC curve"
        )
    from sarco_models.metrics import RocCurve

    borders = np.unique(np.concatenate([h.starts for h in histograms]))[::-1] / histograms[0].num_bins
    return RocCurve(
        thresholds=np.concatenate([[np.inf], borders]),
        sensitivity=np.concatenate([[0.0], 1.0 - np.searchsorted(positive, borders) / positive.size]),
        specificity=np.concatenate([[1.0], np.searchsorted(negative, borders) / negative.size]),
    )


def distinct_points(roc: RocCurve) -> RocCurve:
    """The curve with one threshold, midway, for all neighbouring borders that make the same calls."""
    points = np.stack([roc.sensitivity, roc.specificity])
    differs = (np.diff(points, axis=1) != 0).any(axis=0)
    first, last = np.concatenate([[True], differs]), np.concatenate([differs, [True]])
    midway = (roc.thresholds[first] + roc.thresholds[last]) / 2.0
    return replace(roc, thresholds=midway, sensitivity=roc.sensitivity[first], specificity=roc.specificity[first])


@dataclass(frozen=True)
class AucRange:
    """An AUC from bins, and the range in which the participants' own AUC lies for certain (no matter of chance)."""

    value: float
    low: float
    high: float


def auc_range(histograms: Sequence[MergedHistogram]) -> AucRange:
    """Area under the binned ROC curve of all participants of all sites, and its certain range.

    ``low`` puts every positive at the bottom and every negative at the top of its run, ``high`` the other way round.
    """
    roc = binned_roc(histograms)
    area = float(np.trapezoid(roc.sensitivity, 1.0 - roc.specificity))
    return AucRange(area, low=_extreme(histograms, best=False), high=_extreme(histograms, best=True))


def _extreme(histograms: Sequence[MergedHistogram], *, best: bool) -> float:
    positives, negatives = (np.zeros(histograms[0].num_bins) for _ in range(2))
    for h in histograms:
        np.add.at(positives, h.ends - 1 if best else h.starts, h.positives)
        np.add.at(negatives, h.starts if best else h.ends - 1, h.negatives)
    beaten = np.cumsum(negatives) - (0.0 if best else negatives)
    return float((positives * beaten).sum() / (positives.sum() * negatives.sum()))


def _same_bins(histograms: Sequence[MergedHistogram]) -> None:
    sizes = sorted({h.num_bins for h in histograms})
    if len(sizes) != 1:
        raise UndefinedMetric(f"histograms of {sizes} bins: every site must use the study's number of bins")
