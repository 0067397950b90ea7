"""How far two ways of measuring the same thing agree: found against drawn masks, one reader against another.

Bland and Altman's limits answer "how wrong may one measurement be, in its own unit"; the intraclass correlation "how
much of what differs between people is more than the measuring". A correlation answers neither. A participant with
several images is one participant: bias and limits take account of it, and the intraclass correlation is of
participants' means. Intervals are 95 %, two-sided, and rest on normal differences.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2, f, t

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate, Z
from sarco_models.scores import Scores, aggregate_by_participant

FEWEST = 3
"""Participants below whom limits of agreement and a trend say nothing."""


@dataclass(frozen=True)
class Trend:
    """A straight line through a Bland-Altman plot, participants' means.

    Attributes:
        slope: per unit of the mean of both measurements.
        p: of "no slope", two-sided.
    """

    slope: Estimate
    p: float


@dataclass(frozen=True)
class BlandAltman:
    """Differences, first minus second, in the unit of what was measured.

    Attributes:
        bias: mean over participants.
        lower: limit below which 2.5 % of the differences of single measurements lie.
        upper: limit above which 2.5 % lie.
        sd: of the differences of single measurements.
        within_sd: the part of ``sd`` between measurements of one participant; None with one measurement each.
        proportional: of the difference: does the bias grow with the size (Bland and Altman 1999, section 3.2)?
        spreading: of the difference's absolute residual: do the limits widen with the size?
        measurements: pairs.
        participants: people.
    """

    bias: Estimate
    lower: Estimate
    upper: Estimate
    sd: float
    within_sd: float | None
    proportional: Trend
    spreading: Trend
    measurements: int
    participants: int


@dataclass(frozen=True)
class Agreement:
    """Both answers; ``icc`` is of participants' means."""

    limits: BlandAltman
    icc: Estimate


def agreement(a: ArrayLike, b: ArrayLike, ids: Sequence[str] | None = None) -> Agreement:
    """Limits of agreement, and ICC(2,1) of participants' means; see :func:`bland_altman` and :func:`icc_2_1`.

    Raises:
        UndefinedMetric: fewer than three participants, or nothing that differs.
    """
    first, second, people = _pairs(a, b, ids)
    means = [aggregate_by_participant(values, people)[1] for values in (first, second)]
    return Agreement(bland_altman(first, second, people), icc_2_1(np.stack(means, axis=1)))


# --- Bland and Altman -------------------------------------------------------------------------------------------------


def bland_altman(a: ArrayLike, b: ArrayLike, ids: Sequence[str] | None = None) -> BlandAltman:
    """Bias and 95 % limits of agreement with their intervals. Bland and Altman (1999; 2007 for several images each).

    With several measurements of a participant, each of another image and so of another true value, the variance of a
    single difference is that between participants plus that within (Bland and Altman 2007). The limits' intervals are
    Zou's (2013), which join those of bias and variance; for many participants with one image each they become Bland and
    Altman's bias +- 1.96 sd +- t sd sqrt(1/n + 1.96^2 / (2 (n - 1))). Of 19 participants with one to seven images
    each they hold the true limit in 95 of 100 cohorts; with images counted as people, in 74.

    Args:
        a: (measurements,) such as the thickness in found masks.
        b: (measurements,) of the same images, such as that in drawn masks.
        ids: the participant of each image; None = all different.

    Raises:
        UndefinedMetric: fewer than three participants, a value that is not finite, or lengths that differ.
    """
    first, second, people = _pairs(a, b, ids)
    difference = first - second
    persons, mean = aggregate_by_participant(difference, people)
    middle = aggregate_by_participant((first + second) / 2, people)[1]
    n = len(persons)
    counts = np.array([people.count(person) for person in persons], dtype=np.float64)
    position = {person: k for k, person in enumerate(persons)}
    inside = difference - mean[[position[person] for person in people]]
    variance = _Variance(
        float(mean.var(ddof=1)), n - 1, float((inside**2).sum()), difference.size - n, float((1 / counts).mean())
    )
    half = float(t.ppf(0.975, n - 1)) * float(np.sqrt(variance.between_means / n))
    bias = Estimate(float(mean.mean()), float(mean.mean()) - half, float(mean.mean()) + half)
    proportional, residual = _trend(middle, mean)
    return BlandAltman(
        bias=bias,
        lower=_limit(bias, variance, -Z),
        upper=_limit(bias, variance, Z),
        sd=variance.total**0.5,
        within_sd=variance.within**0.5 if variance.within_df else None,
        proportional=proportional,
        spreading=_trend(middle, np.abs(residual))[0],
        measurements=difference.size,
        participants=n,
    )


@dataclass(frozen=True)
class _Variance:
    """Of a single difference, from that of participants' means and from the sum of squares within participants."""

    between_means: float
    between_df: int
    within_squares: float
    within_df: int
    mean_inverse_count: float

    @property
    def within(self) -> float:
        return self.within_squares / self.within_df if self.within_df else 0.0

    @property
    def total(self) -> float:
        return self.between_means + (1.0 - self.mean_inverse_count) * self.within

    def limit(self, tail: float) -> float:
        """One end of its interval: tail .025 the upper, .975 the lower. Zou (2013), equation 8."""
        off = (self.between_means * (self.between_df / float(chi2.ppf(tail, self.between_df)) - 1.0)) ** 2
        if self.within_df:
            share = (1.0 - self.mean_inverse_count) * self.within
            off += (share * (self.within_df / float(chi2.ppf(tail, self.within_df)) - 1.0)) ** 2
        return max(0.0, self.total + (1.0 if tail < 0.5 else -1.0) * float(np.sqrt(off)))


def _limit(bias: Estimate, variance: _Variance, z: float) -> Estimate:
    """Bias + z sd, with its interval. Zou (2013), equations 5 and 6."""
    sd, narrow, wide = (float(np.sqrt(v)) for v in (variance.total, variance.limit(0.975), variance.limit(0.025)))
    outer, inner = z * (wide - sd), z * (sd - narrow)
    below, above = (inner, outer) if z > 0 else (outer, inner)
    value = bias.value + z * sd
    low = value - float(np.hypot(bias.value - bias.low, below))
    return Estimate(value, low, value + float(np.hypot(bias.high - bias.value, above)))


def _trend(x: Scores, y: Scores) -> tuple[Trend, Scores]:
    """The line of least squares, and what is left of y."""
    away = x - x.mean()
    spread, df = float(away @ away), x.size - 2
    if spread == 0.0:
        raise UndefinedMetric("all measurements are of one size: there is no trend over sizes; report it as absent")
    slope = float(away @ y) / spread
    residual = y - y.mean() - slope * away
    error = float(np.sqrt(residual @ residual / df / spread))
    half = float(t.ppf(0.975, df)) * error
    p = float(2 * t.sf(abs(slope) / error, df)) if error > 0.0 else float(slope == 0.0)
    return Trend(Estimate(slope, slope - half, slope + half), p), residual


# --- intraclass correlation -------------------------------------------------------------------------------------------


def icc_2_1(table: ArrayLike) -> Estimate:
    """Absolute agreement of single measurements, raters and subjects at random: ICC(2,1) of Shrout and Fleiss (1979).

    The interval is that of McGraw and Wong (1996), ICC(A,1) in their table 7.

    Args:
        table: (subjects, raters) one measurement each; a subject is a participant.

    Raises:
        UndefinedMetric: fewer than two subjects or raters, a value that is not finite, or no subject that differs.
    """
    x = np.asarray(table, dtype=np.float64)
    if x.ndim != 2 or min(x.shape) < 2:
        raise UndefinedMetric(f"ICC(2,1) needs two subjects and two raters; got a table of {x.shape}")
    _require_finite(x)
    n, k = x.shape
    rows, columns = x.mean(axis=1), x.mean(axis=0)
    msr = k * float(rows.var(ddof=1))
    msc = n * float(columns.var(ddof=1))
    mse = float(((x - rows[:, None] - columns + x.mean()) ** 2).sum()) / ((n - 1) * (k - 1))
    return _icc((msr, msc, mse), n, k)


def _icc(squares: tuple[float, float, float], n: int, k: int) -> Estimate:
    """From the mean squares of subjects, raters and the rest."""
    msr, msc, mse = squares
    below = msr + (k - 1) * mse + k * (msc - mse) / n
    if below <= 0.0:
        raise UndefinedMetric("all subjects measure the same: ICC(2,1) is not defined; report it as absent")
    return _icc_interval((msr - mse) / below, squares, n, k)


def _icc_interval(value: float, squares: tuple[float, float, float], n: int, k: int) -> Estimate:
    msr, msc, mse = squares
    if value >= 1.0:
        return Estimate(1.0, 1.0, 1.0)
    ratio = k * value / (n * (1 - value))
    a, b = ratio, 1 + ratio * (n - 1)
    df = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    over, under = float(f.ppf(0.975, n - 1, df)), float(f.ppf(0.975, df, n - 1))
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - over * mse) / (over * rest + n * msr)
    high = n * (under * msr - mse) / (rest + n * under * msr)
    return Estimate(value, float(max(low, -1.0)), float(min(high, 1.0)))


# --- from sums that hospitals can add ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairSums:
    """What both answers need of participants' means: sums of a, b, their squares and products. Sums of sites add up.

    Of few participants sums tell of persons: whoever sends them keeps to the study's smallest number.
    """

    n: int
    a: float
    b: float
    aa: float
    bb: float
    ab: float

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike, ids: Sequence[str] | None = None) -> "PairSums":
        """Of measurements, averaged by participant first; see :func:`bland_altman`.

        Raises:
            UndefinedMetric: fewer than three participants, a value that is not finite, or lengths that differ.
        """
        first, second, people = _pairs(a, b, ids)
        x, y = (aggregate_by_participant(values, people)[1] for values in (first, second))
        return cls(x.size, float(x.sum()), float(y.sum()), float(x @ x), float(y @ y), float(x @ y))

    def __add__(self, other: "PairSums") -> "PairSums":
        """Of both sites' participants."""
        mine, theirs = astuple(self), astuple(other)
        return PairSums(*(one + more for one, more in zip(mine, theirs, strict=True)))

    def limits(self) -> tuple[Estimate, Estimate, Estimate]:
        """Bias, lower and upper limit of participants' means, as :func:`bland_altman` of one measurement each."""
        n, mean = self.n, (self.a - self.b) / self.n
        variance = _Variance(self._variance(-1.0), n - 1, 0.0, 0, 1.0)
        half = float(t.ppf(0.975, n - 1)) * float(np.sqrt(variance.total / n))
        bias = Estimate(mean, mean - half, mean + half)
        return bias, _limit(bias, variance, -Z), _limit(bias, variance, Z)

    def icc(self) -> Estimate:
        """ICC(2,1), as :func:`icc_2_1`.

        Raises:
            UndefinedMetric: nothing differs.
        """
        between_raters = (self.a - self.b) ** 2 / self.n / 2
        return _icc((self._variance(1.0) / 2, between_raters, self._variance(-1.0) / 2), self.n, 2)

    def _variance(self, sign: float) -> float:
        """Of a + sign b; sums of squares lose digits, and none may fall below 0."""
        squares = self.aa + self.bb + 2 * sign * self.ab
        return max(0.0, squares - (self.a + sign * self.b) ** 2 / self.n) / (self.n - 1)


# --- what is compared -------------------------------------------------------------------------------------------------


def _pairs(a: ArrayLike, b: ArrayLike, ids: Sequence[str] | None) -> tuple[Scores, Scores, list[str]]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    people = [str(k) for k in range(first.size)] if ids is None else list(ids)
    if first.ndim != 1 or not first.size == second.size == len(people):
        raise UndefinedMetric(f"{first.size} and {second.size} measurements of {len(people)} images do not make pairs")
    _require_finite(np.stack([first, second]))
    if len(set(people)) < FEWEST:
        raise UndefinedMetric(
            f"{len(set(people))} participants: agreement needs {FEWEST} at least; report it as absent"
        )
    return first, second, people


def _require_finite(values: Scores) -> None:
    absent = int((~np.isfinite(values)).sum())
    if absent:
        raise UndefinedMetric(f"{absent} measurements are absent or not finite: leave these images out, and count them")
