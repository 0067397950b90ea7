"""Statistics of training participants with noise: sums over tables, the number of positives, a histogram of scores.

A participant is protected as in training: whoever reads a release cannot tell by more than its epsilon whether a
person, with all values, was there. Each release is one vector of sums. What one participant can change it by, in the L2
norm, is the sensitivity, which is derived here and set nowhere; the noise has a standard deviation of
``noise_multiplier`` times that (:func:`sarco_models.accounting.plan`). The number of training participants is not
protected: it travels with every reply as a weight.

All that follows the noise is made of noised numbers and of that number alone, so that it costs nothing
(post-processing): counts become whole numbers that a hospital can have, variances no less than 0, a histogram's counts
add up to the participants that were described. The results fit the messages that exact statistics travel in. Sums are
rounded to the fixed point of :mod:`sarco_models.summaries`; bits of a floating-point number, which could betray
(Mironov 2012), do not leave.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco_models.cohort import TrainingPeople
from sarco_models.histograms import Counts, MergedHistogram, ScoreHistogram
from sarco_models.schema import Column
from sarco_models.summaries import Moments

Vector = NDArray[np.float64]

_STEPS = 1 << 20
"""Fixed point of :class:`sarco_models.summaries.Moments`."""

_FEWEST_RUNS = 5

_PLAIN_VARIANCE = 1 / 36
"""Of values with their plausible range as three standard deviations to either side."""


@dataclass(frozen=True, eq=False)
class PrivateDescription:
    """What may be said of the training participants before a study begins.

    Attributes:
        moments: of every column; of the columns that are not used they say that nobody has a value.
        positives: participants with the condition; at least 1 and fewer than all.
    """

    moments: Moments
    positives: int


def private_description(
    people: TrainingPeople,
    columns: Sequence[Column],
    used: NDArray[np.bool_],
    *,
    noise_multiplier: float,
    rng: np.random.Generator,
) -> PrivateDescription:
    """Sums over the tables and the number of positives, as one release.

    Args:
        people: values outside a column's plausible range count as its border.
        columns: of the study.
        used: (columns,) bool; the columns that the model sees. No other is looked at.
        noise_multiplier: of :attr:`sarco_models.accounting.Plan.statistics`.
        rng: nobody else's (:class:`sarco_models.secret.Secret`).
    """
    moments = _clipped(people, columns)
    positives, n = int((people.labels == 1).sum()), len(people)
    weight = _missing_weight(columns, used)
    exact = np.concatenate([*_centred(moments, n), [positives]])
    scale = np.concatenate([weight, np.ones(2 * len(columns)), [_positive_weight(columns, used)]])
    sensitivity = description_sensitivity(columns, used)
    noised = noise(exact * scale, sensitivity, noise_multiplier, rng) / scale
    missing, total, squares = np.split(noised[:-1], 3)
    graded = np.array([not c.zero_one for c in columns], dtype=np.bool_)
    squares = np.where(graded, squares, np.inf)
    return PrivateDescription(
        moments=_consistent(missing, total, squares, n, noise_multiplier * sensitivity).of_columns(used),
        positives=int(np.clip(np.rint(noised[-1]), 1, max(n - 1, 1))),
    )


def description_sensitivity(columns: Sequence[Column], used: NDArray[np.bool_]) -> float:
    """What one participant changes the described sums by, at most, in the L2 norm.

    Let u be a value as a fraction of its column's plausible range, minus one half: -1/2 to 1/2. A participant who has
    it adds u and u**2 to the column's sums, sqrt(1/4 + 1/16) at most; one who lacks it adds 1 to the number of missing
    values, which is summed with a weight of just that much, so that both weigh the same. Of a column of zeros and ones
    u**2 is always 1/4 and is not asked for: 1/2. Squared and summed over the columns, that is::

        c = 5/16 * continuous + 1/4 * (zero or one)

    The number of positives, on which every probability rests, is summed with a weight of sqrt(c / 2), 1 at least: a
    fifth more noise on each sum, for two fifths less on that number where there are many columns. A participant
    changes the whole vector by sqrt(c + max(c / 2, 1)) at most. Sums of the plain fractions, with the counts of those
    who have them, would need sqrt(3 * columns + 1).
    """
    return math.sqrt(_of_columns(columns, used) + _positive_weight(columns, used) ** 2)


def noise(exact: Vector, sensitivity: float, noise_multiplier: float, rng: np.random.Generator) -> Vector:
    """A vector with Gaussian noise of standard deviation ``noise_multiplier * sensitivity`` in every number."""
    return np.asarray(exact + rng.normal(scale=noise_multiplier * sensitivity, size=exact.shape), dtype=np.float64)


def private_histogram(
    histogram: ScoreHistogram, positives: int, *, noise_multiplier: float, min_cell: int, rng: np.random.Generator
) -> MergedHistogram:
    """The score histogram of training participants, as one release.

    One participant changes one count of one class by 1: the sensitivity is 1. How coarse the runs of bins are follows
    from the number of participants and the noise alone: with r runs a point of the curve is off by the noise of r / 2
    counts, and is r times as fine.

    Args:
        histogram: exact.
        positives: as they were described (:attr:`PrivateDescription.positives`); both classes add up to that.
        noise_multiplier: of :attr:`sarco_models.accounting.Plan.statistics`.
        min_cell: runs are merged until no noised count is below it; see :meth:`MergedHistogram.of`.
        rng: nobody else's.

    Raises:
        UndefinedMetric: a class was described with fewer people than ``min_cell``.
    """
    n = int(histogram.positives.sum() + histogram.negatives.sum())
    ends = _run_ends(histogram.positives.size, n, noise_multiplier)
    starts = np.concatenate([[0], ends[:-1]])
    counts = [np.add.reduceat(c, starts).astype(np.float64) for c in (histogram.positives, histogram.negatives)]
    noised = noise(np.stack(counts), 1.0, noise_multiplier, rng)
    coarse = ScoreHistogram(_counts_of(noised[0], positives), _counts_of(noised[1], n - positives))
    merged = MergedHistogram.of(coarse, min_cell)
    return dataclasses.replace(merged, ends=ends[merged.ends - 1])


# --- the released vector ----------------------------------------------------------------------------------------------


def _clipped(people: TrainingPeople, columns: Sequence[Column]) -> Moments:
    low, high = (np.array([getattr(c, side) for c in columns], dtype=np.float64) for side in ("low", "high"))
    table = np.clip(people.cohort.table, low, high)
    inside = TrainingPeople(dataclasses.replace(people.cohort, table=table), people.members)
    return Moments.of(inside, columns, extremes=False)


def _centred(moments: Moments, n: int) -> tuple[Vector, Vector, Vector]:
    """Per column: how many values are missing, the sum of u, the sum of u**2."""
    total, squares = moments.total / _STEPS, moments.squares / _STEPS**2
    return (n - moments.count).astype(np.float64), total - moments.count / 2, squares - total + moments.count / 4


def _missing_weight(columns: Sequence[Column], used: NDArray[np.bool_]) -> Vector:
    """(columns,) what a participant's value in a column changes its sums by, and so the weight of a missing one."""
    present = np.array([0.5 if c.zero_one else math.sqrt(5) / 4 for c in columns], dtype=np.float64)
    return np.where(used, present, 1.0) if len(columns) else present


def _of_columns(columns: Sequence[Column], used: NDArray[np.bool_]) -> float:
    return float((_missing_weight(columns, used) ** 2)[used].sum())


def _positive_weight(columns: Sequence[Column], used: NDArray[np.bool_]) -> float:
    return math.sqrt(max(_of_columns(columns, used) / 2, 1.0))


def _consistent(missing: Vector, total: Vector, squares: Vector, n: int, spread: float) -> Moments:
    """Sums that ``n`` people can have: the mean within the range, the variance no less than 0 and no more than that.

    A variance that is lost in the noise would be anything down to 0, and values divided by its root anything up. It is
    no less than what the noise can hide, ``spread`` divided by the people, as far as that is a variance that values all
    over the range have.
    """
    count = n - np.clip(np.rint(missing), 0, n)
    people = np.maximum(count, 1)
    zero_one = np.isinf(squares)
    least = np.where(zero_one, 0.0, np.minimum(spread / people, _PLAIN_VARIANCE))
    mean = np.clip(total / people, -np.sqrt(0.25 - least), np.sqrt(0.25 - least))
    second = np.where(zero_one, 0.25, np.clip(squares / people, mean**2 + least, 0.25))
    whole = np.rint((mean + 0.5) * count * _STEPS).astype(np.int64)
    square = np.rint((second + mean + 0.25) * count * _STEPS**2).astype(np.int64)
    number = count.astype(np.int64)
    # In whole numbers once more, for rounding could have made a variance of less than nothing.
    fewest = [-(-(t**2) // max(c, 1)) for t, c in zip(whole.tolist(), number.tolist(), strict=True)]
    square = np.clip(square, np.array(fewest, dtype=np.int64), whole * _STEPS)
    nobody = np.full(len(count), _STEPS + 1, dtype=np.int64)
    return Moments(number, whole, square, nobody, nobody * 0 - 1)


def _run_ends(num_bins: int, n: int, noise_multiplier: float) -> Counts:
    """(runs,) the bin after the last one of each run."""
    wanted = num_bins if noise_multiplier == 0 else round((n / noise_multiplier) ** (2 / 3))
    runs = min(max(wanted, _FEWEST_RUNS), num_bins)
    return np.rint(np.linspace(0, num_bins, runs + 1))[1:].astype(np.int64)


def _counts_of(noised: Vector, people: int) -> Counts:
    """The whole numbers of 0 or more nearest to these that add up to ``people``.

    Euclidean projection onto the simplex (Duchi et al. 2008, figure 1), then the largest remainders. Setting what is
    negative to 0 would do it too, and add people to every empty bin.
    """
    falling = np.sort(noised)[::-1]
    excess = (np.cumsum(falling) - people) / np.arange(1, noised.size + 1)
    inside = np.flatnonzero(falling - excess > 0)
    shares = np.maximum(noised - (excess[inside[-1]] if inside.size else 0.0), 0.0) if people else noised * 0.0
    counts = np.floor(shares + 1e-9).astype(np.int64)
    rest = people - int(counts.sum())
    counts[np.argsort(counts - shares, kind="stable")[:rest]] += 1
    return counts
