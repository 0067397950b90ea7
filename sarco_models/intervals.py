"""Intervals: of a share, of a number between 0 and 1 with a known variance, and of anything by resampling participants.

All are 95 % and two-sided.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binomtest, norm

from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Labels, Scores, Weights

Z = float(norm.ppf(0.975))
SMALL_SAMPLE = 40  # below it a proportion gets its exact interval (SCIENCE 4.2)
REPEATS = 2000
BOOTSTRAP_CELLS = 4_000_000  # weights held at once, 32 MB
MOST_UNDEFINED = 0.01
"""Share of resamples that may have no value (all people of one class, as a rule) and are left out."""

BootstrapMethod = Literal["percentile", "bca"]
Strata = NDArray[Any]
"""(n,) the group of each participant, of any type; people are drawn within their group.

Labels keep the number of positives as it is, :func:`everybody_alike` lets it vary as it does from cohort to cohort. For
an AUC that is the same. Whatever depends on the prevalence (F1, MCC, AUPRC, Brier, calibration) needs the second,
unless the classes were recruited to fixed numbers: with 82 participants, called with sensitivity .85 and specificity
.48, the 95 % interval of F1 holds the truth in 94 % of cohorts with the second and in 71 % with the first, that of the
Brier score in 93 % and 75 % (benchmarks/inference.py).
"""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


# --- closed forms -----------------------------------------------------------------------------------------------------


def wilson(successes: int, n: int) -> Estimate:
    """A share with its score interval. Wilson (1927)."""
    return _share(successes, n, "wilson")


def clopper_pearson(successes: int, n: int) -> Estimate:
    """A share with its exact interval: never too narrow, at the cost of width. Clopper & Pearson (1934)."""
    return _share(successes, n, "exact")


def proportion(successes: int, n: int, *, exact: bool | None = None) -> Estimate:
    """A share with its Wilson interval, or the exact one when n < 40 (or ``exact``; SCIENCE 4.2)."""
    use_exact = n < SMALL_SAMPLE if exact is None else exact
    return clopper_pearson(successes, n) if use_exact else wilson(successes, n)


def _share(successes: int, n: int, method: Literal["exact", "wilson"]) -> Estimate:
    if n == 0:
        raise UndefinedMetric("a proportion of no participants has no value; report it as absent")
    interval = binomtest(int(successes), int(n)).proportion_ci(0.95, method=method)
    return Estimate(successes / n, float(interval.low), float(interval.high))


def logit_interval(value: float, variance: float) -> Estimate:
    """A number strictly between 0 and 1, its variance carried to the logit scale (delta method) and back."""
    half = Z * np.sqrt(variance) / (value * (1.0 - value))
    return Estimate(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


# --- resampling participants ------------------------------------------------------------------------------------------


WeightedStatistic = Callable[[Weights], Scores]
"""(draws, n) how often each participant counts -> (draws,) values; ones give the estimate itself."""


def bootstrap(
    statistics: Mapping[str, WeightedStatistic],
    strata: Strata,
    rng: np.random.Generator,
    *,
    repeats: int = REPEATS,
    method: BootstrapMethod = "percentile",
) -> dict[str, Estimate]:
    """Intervals from participants drawn with replacement within each stratum, the same draws for all statistics.

    Args:
        statistics: by name.
        strata: the groups to draw within; see :data:`Strata`.
        rng: randomness is an argument.
        repeats: number of draws.
        method: ``percentile``, or ``bca``, which corrects bias and skewness; see :func:`bca_estimate`.

    Raises:
        UndefinedMetric: a statistic without a value in more than 1 % of the draws, or without a BCa interval.
    """
    drawn = draws(statistics, strata, rng, repeats=repeats)
    everybody = np.ones((1, strata.size))
    values = {name: float(of(everybody)[0]) for name, of in statistics.items()}
    if method == "percentile":
        return {name: percentile_estimate(values[name], drawn[name]) for name in statistics}
    left_out = _jackknife(statistics, strata.size)
    return {name: bca_estimate(values[name], drawn[name], left_out[name], strata) for name in statistics}


def draws(
    statistics: Mapping[str, WeightedStatistic], strata: Strata, rng: np.random.Generator, *, repeats: int = REPEATS
) -> dict[str, Scores]:
    """Each statistic's (repeats, ...) values in participants drawn with replacement within each stratum."""
    return _collect(statistics, _resamples(strata, repeats, rng))


def everybody_alike(labels: Labels) -> Strata:
    """Strata that are drawn from as one group."""
    return np.zeros(labels.size)


def percentile_estimate(value: float, drawn: Scores) -> Estimate:
    """The middle 95 % of the (repeats,) draws. Efron (1979).

    The interval is widened to hold the estimate. Resampling a distance, which is never negative, can miss it: so it
    does with the calibration index of 3 of 100 cohorts whose probabilities are true.

    Raises:
        UndefinedMetric: more than 1 % of the draws have no value.
    """
    low, high = np.quantile(_defined(drawn), [0.025, 0.975])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def _defined(drawn: Scores) -> Scores:
    absent = np.isnan(drawn)
    if absent.mean() > MOST_UNDEFINED:
        raise UndefinedMetric(
            f"no value in {int(absent.sum())} of {drawn.size} resamples of these participants (limit "
            f"{100 * MOST_UNDEFINED:g} %): too few people of one class; report the interval as absent"
        )
    return drawn[~absent]


def bca_estimate(value: float, drawn: Scores, left_out: Scores, strata: Strata) -> Estimate:
    """Bias-corrected and accelerated interval. Efron (1987); several strata as in Davison & Hinkley (1997), 5.3.

    Args:
        value: the estimate itself.
        drawn: (repeats,) the statistic in resampled participants.
        left_out: (n,) the statistic without each participant in turn.
        strata: (n,) the group of each participant.

    Raises:
        UndefinedMetric: all draws lie on one side of the estimate, so that their bias cannot be told; or more than
            1 % of the draws, or somebody left out, have no value.
    """
    drawn = _defined(drawn)
    if np.isnan(left_out).any():
        raise UndefinedMetric("without one participant there is no value: no BCa interval; report it as absent")
    if np.ptp(drawn) == 0.0:
        return Estimate(value, value, value)
    below = float((np.sum(drawn < value) + np.sum(drawn <= value)) / (2 * drawn.size))
    if below in (0.0, 1.0):
        raise UndefinedMetric(
            f"all {drawn.size} bootstrap draws lie on one side of the estimate {value:.3g}: "
            "no BCa interval; use the percentile interval"
        )
    bias = norm.ppf(below)
    tails = bias + norm.ppf([0.025, 0.975])
    shares = np.asarray(norm.cdf(bias + tails / (1.0 - _acceleration(left_out, strata) * tails)))
    low, high = np.quantile(drawn, shares)
    return Estimate(value, float(low), float(high))


def _acceleration(left_out: Scores, strata: Strata) -> float:
    third = second = 0.0
    for group in np.unique(strata):
        values = left_out[strata == group]
        influence = (values.size - 1) * (values.mean() - values)
        third += float((influence**3).sum()) / values.size**3
        second += float((influence**2).sum()) / values.size**2
    return third / (6.0 * second**1.5) if second > 0.0 else 0.0


def _collect(statistics: Mapping[str, WeightedStatistic], batches: Iterator[Weights]) -> dict[str, Scores]:
    parts: dict[str, list[Scores]] = {name: [] for name in statistics}
    for weights in batches:
        for name, statistic in statistics.items():
            parts[name].append(statistic(weights))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _resamples(strata: Strata, repeats: int, rng: np.random.Generator) -> Iterator[Weights]:
    at_once = max(1, BOOTSTRAP_CELLS // max(strata.size, 1))
    # Descending, so that of labels the positives are drawn first.
    groups = [np.flatnonzero(strata == group) for group in np.unique(strata)[::-1]]
    for start in range(0, repeats, at_once):
        yield _resample(groups, (min(at_once, repeats - start), strata.size), rng)


def _resample(groups: list[NDArray[np.intp]], shape: tuple[int, int], rng: np.random.Generator) -> Weights:
    weights = np.zeros(shape)
    for members in groups:
        size = members.size
        drawn = rng.integers(size, size=(shape[0], size)) + size * np.arange(shape[0])[:, None]
        weights[:, members] = np.bincount(drawn.ravel(), minlength=shape[0] * size).reshape(shape[0], size)
    return weights


def _jackknife(statistics: Mapping[str, WeightedStatistic], n: int) -> dict[str, Scores]:
    at_once = max(1, BOOTSTRAP_CELLS // max(n, 1))
    batches = (1.0 - np.eye(min(at_once, n - start), n, k=start) for start in range(0, n, at_once))
    return _collect(statistics, batches)


def two_sided_p(drawn: Scores) -> float:
    """P of "the true value is 0" from the draws of a statistic; never below 2 / (draws + 1).

    Davison & Hinkley (1997), 4.2: the draws themselves count the estimate as one of them.
    """
    side = min(int(np.sum(drawn <= 0.0)), int(np.sum(drawn >= 0.0)))
    return float(min(1.0, 2.0 * (side + 1) / (drawn.size + 1)))
