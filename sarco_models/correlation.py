"""Correlations of a muscle's size with body composition and performance: one value of each for every participant.

Only participants whose images trained no network may be correlated: on the others the network has seen the answer that
its masks are compared with, and a correlation over all 94 people of Zhang et al. is not that of their 19 test people
(SCIENCE I32). Functions of arrays cannot see who trained; the caller hands over held-out people, and :class:`Paired`
refuses somebody who comes twice. Intervals are 95 %, two-sided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import atanh, ceil, factorial, sqrt, tanh
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata, t

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate, WeightedStatistic, Z, bootstrap
from sarco_models.scores import Scores, Weights, require_one_score_each

Kind = Literal["pearson", "spearman"]
Expected = Literal["rises", "falls"]
"""What the second quantity does where there is more muscle: mass rises, the time for five chair stands falls."""

Verdict = Literal["as expected", "against what is expected", "not clear"]

FEWEST = 4
"""Participants below whom Fisher's interval has no width that means anything; one more for each covariate."""

MOST_ORDERS = 40_320
"""Orders that are tried one by one: all those of eight participants. With more, as many are drawn as asked for."""


@dataclass(frozen=True)
class Correlation:
    """How closely two quantities go together.

    Attributes:
        kind: ``pearson`` of the values, ``spearman`` of their ranks.
        r: with Fisher's interval.
        p: of "no correlation", two-sided, by Student's t.
        n: participants.
        given: names of the covariates that are held constant.
    """

    kind: Kind
    r: Estimate
    p: float
    n: int
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Correlated:
    """All that is said of one pair of quantities.

    Attributes:
        pearson: of the values.
        spearman: of the ranks: does not mind a bent line or one far point.
        partial: Pearson, given the covariates; None without covariates.
        resampled: Pearson with the participant bootstrap's interval, which asks for no normal values.
        permutation_p: of "no correlation", from the orders in which the values could have come.
        verdict: whether the sign is the one that is expected; ``not clear`` where Pearson's interval holds 0.
        left_out: participants without one of the values or covariates.
    """

    pearson: Correlation
    spearman: Correlation
    partial: Correlation | None
    resampled: Estimate
    permutation_p: float
    verdict: Verdict
    left_out: int


@dataclass(frozen=True, eq=False)
class Paired:
    """Two quantities and covariates of the same participants, one value each; NaN = absent.

    Raises:
        UndefinedMetric: a participant comes twice, or the lengths differ.
    """

    ids: Sequence[str] = field(repr=False)
    x: Scores = field(repr=False)
    y: Scores = field(repr=False)
    covariates: Mapping[str, Scores] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check what a correlation relies on."""
        require_one_score_each(self.ids)
        lengths = {len(self.ids), *(len(values) for values in (self.x, self.y, *self.covariates.values()))}
        if len(lengths) > 1:
            raise UndefinedMetric(f"{sorted(lengths)} values do not make pairs: give one of each for every participant")

    @property
    def complete(self) -> "Paired":
        """The participants of whom everything is known."""
        known = np.isfinite(np.stack([self.x, self.y, *self.covariates.values()]))
        kept = np.asarray(known.all(axis=0))
        ids = [person for person, keep in zip(self.ids, kept, strict=True) if keep]
        return Paired(ids, self.x[kept], self.y[kept], {k: v[kept] for k, v in self.covariates.items()})


def correlate(paired: Paired, rng: np.random.Generator, expected: Expected = "rises") -> Correlated:
    """Everything about one pair, on the participants of whom all is known.

    Args:
        paired: such as thickness and fat-free mass, given age and sex; held-out participants only.
        rng: randomness is an argument.
        expected: the sign that the field expects (SCIENCE I33).

    Raises:
        UndefinedMetric: too few participants, or a quantity that does not vary.
    """
    known = paired.complete
    plain = pearson(known.x, known.y)
    return Correlated(
        pearson=plain,
        spearman=spearman(known.x, known.y),
        partial=partial(known.x, known.y, known.covariates) if known.covariates else None,
        resampled=bootstrap_correlation(known.x, known.y, rng),
        permutation_p=permutation_p(known.x, known.y, rng),
        verdict=direction(plain.r, expected),
        left_out=len(paired.ids) - len(known.ids),
    )


def direction(r: Estimate, expected: Expected) -> Verdict:
    """Whether a correlation has the expected sign; a wrong one is a finding, never a reason to turn it round."""
    if r.low <= 0.0 <= r.high:
        return "not clear"
    return "as expected" if (r.value > 0.0) == (expected == "rises") else "against what is expected"


# --- coefficients -----------------------------------------------------------------------------------------------------


def pearson(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Pearson's r with Fisher's (1921) interval: tanh(atanh r +- 1.96 / sqrt(n - 3)).

    Raises:
        UndefinedMetric: fewer than four participants, a value that is not finite, or a quantity that does not vary.
    """
    return _correlation("pearson", *_checked(x, y), ())


def spearman(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Pearson's r of midranks; the variance on Fisher's scale is (1 + r^2 / 2) / (n - 3). Bonett and Wright (2000).

    Raises:
        UndefinedMetric: as :func:`pearson`.
    """
    first, second = _checked(x, y)
    return _correlation("spearman", rankdata(first), rankdata(second), ())


def partial(x: ArrayLike, y: ArrayLike, covariates: Mapping[str, ArrayLike], kind: Kind = "pearson") -> Correlation:
    """The correlation of what straight lines in the covariates leave of both; each costs one of n. Fisher (1924).

    Args:
        x: (n,) one quantity.
        y: (n,) the other.
        covariates: (n,) each, by name; sex as 0 and 1.
        kind: ``spearman`` ranks everything first, the covariates too.

    Raises:
        UndefinedMetric: as :func:`pearson`, or the covariates leave nothing of a quantity.
    """
    first, second = _checked(x, y, len(covariates))
    others = [np.asarray(values, dtype=np.float64) for values in covariates.values()]
    if kind == "spearman":
        first, second, *others = (rankdata(values) for values in (first, second, *others))
    lines = np.stack([np.ones(first.size), *others], axis=1)
    both = np.stack([first, second], axis=1)
    left = both - lines @ np.linalg.lstsq(lines, both, rcond=None)[0]
    if (left.std(axis=0) <= 1e-9 * both.std(axis=0)).any():
        raise UndefinedMetric(f"{', '.join(covariates)} leave nothing of a quantity: drop the one that defines it")
    return _correlation(kind, left[:, 0], left[:, 1], tuple(covariates))


def _correlation(kind: Kind, x: Scores, y: Scores, given: tuple[str, ...]) -> Correlation:
    r = _coefficient(x, y)
    n = x.size - len(given)
    if abs(r) >= 1.0:
        return Correlation(kind, Estimate(r, r, r), 0.0, x.size, given)
    spread = sqrt((1.0 + (r * r / 2 if kind == "spearman" else 0.0)) / (n - 3))
    statistic = abs(r) * sqrt((n - 2) / (1.0 - r * r))
    interval = Estimate(r, tanh(atanh(r) - Z * spread), tanh(atanh(r) + Z * spread))
    return Correlation(kind, interval, float(2 * t.sf(statistic, n - 2)), x.size, given)


def _coefficient(x: Scores, y: Scores) -> float:
    a, b = x - x.mean(), y - y.mean()
    r = float(a @ b / sqrt(float(a @ a) * float(b @ b)))
    return float(np.sign(r)) if abs(r) > 1.0 - 1e-14 else r


def _checked(x: ArrayLike, y: ArrayLike, covariates: int = 0) -> tuple[Scores, Scores]:
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise UndefinedMetric(f"{first.size} and {second.size} values do not make pairs")
    if first.size < FEWEST + covariates:
        raise UndefinedMetric(
            f"{first.size} participants: a correlation with {covariates} covariates needs {FEWEST + covariates}; "
            "report it as absent"
        )
    if not np.isfinite([first, second]).all():
        raise UndefinedMetric("a value is absent or not finite: leave the participant out, and say how many are")
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        raise UndefinedMetric(
            "a quantity is the same in all participants: no correlation is defined; report it as absent"
        )
    return first, second


# --- without a normal distribution ------------------------------------------------------------------------------------


def permutation_p(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, *, kind: Kind = "pearson", draws: int = 9999
) -> float:
    """P of a correlation as far from 0 as this one, had the values of y come in any other order.

    Exact with up to eight participants: all their orders are tried. With more, ``draws`` orders are drawn, and the one
    that was seen counts among them (Davison and Hinkley 1997, 4.3), so that P is never below 1 / (draws + 1).

    Raises:
        UndefinedMetric: as :func:`pearson`.
    """
    first, second = _checked(x, y)
    if kind == "spearman":
        first, second = rankdata(first), rankdata(second)
    away = first - first.mean()
    seen = abs(float(away @ second)) * (1.0 - 1e-12)
    if factorial(first.size) <= MOST_ORDERS:
        orders = second[np.array(list(permutations(range(first.size))))]
        return float(np.mean(np.abs(orders @ away) >= seen))
    shuffled = rng.permuted(np.broadcast_to(second, (draws, second.size)), axis=1)
    return float((1 + np.sum(np.abs(shuffled @ away) >= seen)) / (draws + 1))


def bootstrap_correlation(
    x: ArrayLike, y: ArrayLike, rng: np.random.Generator, *, kind: Kind = "pearson", repeats: int = 2000
) -> Estimate:
    """The coefficient with its interval from participants drawn with replacement, percentile.

    Of few participants it is too narrow: of 19 with normal values it holds the truth in 92 of 100 cohorts, Fisher's in
    95 (benchmarks/muscle_measures.py). It is a check on Fisher's where values are far from normal, not in its place.

    Raises:
        UndefinedMetric: as :func:`pearson`, or too few participants differ for most draws to have a value.
    """
    first, second = _checked(x, y)
    statistic = _weighted(first, second, kind)
    return bootstrap({"r": statistic}, np.zeros(first.size), rng, repeats=repeats)["r"]


def _weighted(x: Scores, y: Scores, kind: Kind) -> WeightedStatistic:
    sides = [_Ranks(values) if kind == "spearman" else _Values(values) for values in (x, y)]

    def statistic(weights: Weights) -> Scores:
        a, b = (side.of(weights) for side in sides)
        total = weights.sum(axis=1, keepdims=True)
        a, b = (v - (weights * v).sum(axis=1, keepdims=True) / total for v in (a, b))
        products = [(weights * u * v).sum(axis=1) for u, v in ((a, b), (a, a), (b, b))]
        squares = products[1] * products[2]
        defined = squares > 0.0
        return np.where(defined, products[0] / np.sqrt(np.where(defined, squares, 1.0)), np.nan)

    return statistic


class _Values:
    """The values themselves, whoever was drawn."""

    def __init__(self, values: Scores) -> None:
        self._values = (values - values.mean()) / values.std()

    def of(self, weights: Weights) -> Scores:
        """(draws, n)."""
        return np.broadcast_to(self._values, weights.shape)


class _Ranks:
    """Midranks among those who were drawn, each as often as drawn."""

    def __init__(self, values: Scores) -> None:
        _, self._group = np.unique(values, return_inverse=True)
        self._member = np.eye(int(self._group.max()) + 1)[self._group]

    def of(self, weights: Weights) -> Scores:
        """(draws, n)."""
        sizes = weights @ self._member
        ranks: Scores = (np.cumsum(sizes, axis=1) - sizes / 2)[:, self._group]
        return ranks


# --- how many participants --------------------------------------------------------------------------------------------


def participants_needed(r: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Participants in whom a true correlation is found "significant" with this power, two-sided, by Fisher's z.

    Raises:
        UndefinedMetric: r is 0 or beyond 1.
    """
    _require_between(r)
    wanted = float(norm.ppf(1 - alpha / 2) + norm.ppf(power))
    return ceil((wanted / atanh(abs(r))) ** 2 + 3)


def participants_behind(r: float, p: float) -> int:
    """The fewest participants in whom an r that was seen has a P below ``p``: what a printed pair gives away (I32).

    Raises:
        UndefinedMetric: r is 0 or beyond 1, or p is not between 0 and 1.
    """
    _require_between(r)
    if not 0.0 < p < 1.0:
        raise UndefinedMetric(f"P = {p:g} is not between 0 and 1")
    n = 3
    while 2 * t.sf(abs(r) * sqrt((n - 2) / (1.0 - r * r)), n - 2) >= p:
        n += 1
    return n


def _require_between(r: float) -> None:
    if not 0.0 < abs(r) < 1.0:
        raise UndefinedMetric(f"r = {r:g}: a number of participants follows from an r between 0 and 1 only")
