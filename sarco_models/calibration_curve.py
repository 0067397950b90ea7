"""The share that truly has sarcopenia at each predicted probability, as a smooth curve, and its distance from ideal.

The curve is a local linear regression of the label on the probability over the nearest three quarters of the people
(Cleveland 1979, without his robustness steps, which would call a rare event an outlier). The integrated calibration
index is its mean distance from the diagonal (Austin & Steyerberg 2019, who use R's quadratic loess: at 82 to 357
participants that has more bias than the straight lines used here, and no less error, benchmarks/inference.py).

A distance is never negative, so that even probabilities that are exactly true score above 0 by chance: at 82
participants about .06. ``ici_by_chance`` is that value for these people, and belongs beside the index.
"""

from dataclasses import dataclass

import numpy as np

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import REPEATS, Estimate, WeightedStatistic, draws, everybody_alike, percentile_estimate
from sarco_models.scores import Labels, Scores, Weights

SPAN = 0.75
GRID = 100
FEWEST_VALUES = 5  # a curve through fewer different probabilities is no curve
SIMULATIONS = 200


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Observed against predicted; every array is (points,).

    Attributes:
        predicted: probabilities, ascending.
        observed: smoothed share with sarcopenia, in [0, 1].
        low: lower 95 % limit of it (pointwise).
        high: upper 95 % limit of it.
        ici: integrated calibration index: mean distance of the curve from the diagonal over the participants.
        ici_by_chance: its expectation if every probability were exactly true.
    """

    predicted: Scores
    observed: Scores
    low: Scores
    high: Scores
    ici: Estimate
    ici_by_chance: float


class _Smoother:
    """Local linear regression on fixed neighbourhoods, of many weightings of the same people at once."""

    def __init__(self, x: Scores, at: Scores, span: float) -> None:
        neighbours = max(2, min(x.size, int(span * x.size + 1e-7)))
        offset = x - at[:, None]
        distance = np.abs(offset)
        reach = np.partition(distance, neighbours - 1, axis=1)[:, neighbours - 1 : neighbours]
        tricube = np.clip(1.0 - (distance / np.maximum(reach, 1e-12)) ** 3, 0.0, 1.0) ** 3
        self._moments = [(tricube * offset**power).T for power in range(3)]

    def __call__(self, weights: Weights, outcomes: Scores | Labels) -> Scores:
        """(draws, n) weights, and outcomes (n,) or (draws, n) -> (draws, points) in [0, 1]."""
        s0, s1, s2 = (weights @ moment for moment in self._moments)
        weighted = weights * outcomes
        t0, t1 = (weighted @ moment for moment in self._moments[:2])
        # The slope is dropped where all neighbours have the same probability.
        determinant = s0 * s2 - s1**2
        sloped = determinant > 1e-9 * s0 * s2
        level = np.divide(t0, s0, out=np.full_like(t0, np.nan), where=s0 > 0.0)
        line = np.divide(s2 * t0 - s1 * t1, determinant, out=level, where=sloped)
        return np.asarray(np.clip(line, 0.0, 1.0), dtype=np.float64)


def local_regression(x: Scores, y: Scores, at: Scores, *, span: float = SPAN) -> Scores:
    """(points,) local linear regression of y on x. Cleveland (1979), equations 2.1 to 2.3, no robustness steps.

    Args:
        x: (n,).
        y: (n,) in [0, 1]; so are the values.
        at: (points,) where the curve is wanted.
        span: share of the people in each neighbourhood, in (0, 1].
    """
    return np.asarray(_Smoother(x, at, span)(np.ones((1, x.size)), y)[0], dtype=np.float64)


def _grid(probability: Scores) -> Scores:
    """Where the curve is computed; between these points it is drawn straight."""
    distinct = np.unique(probability)
    if distinct.size < FEWEST_VALUES:
        raise UndefinedMetric(
            f"{distinct.size} different probabilities; a calibration curve needs at least {FEWEST_VALUES}"
        )
    return distinct if distinct.size <= GRID else np.unique(np.quantile(probability, np.linspace(0.0, 1.0, GRID)))


def integrated_calibration_index(probability: Scores, labels: Labels, *, span: float = SPAN) -> WeightedStatistic:
    """Mean distance of the calibration curve from the diagonal, ready for ``intervals.bootstrap``.

    In resamples the neighbourhoods stay those of the participants themselves.

    Raises:
        UndefinedMetric: fewer than five different probabilities.
    """
    at = _grid(probability)
    smoother, between = _Smoother(probability, at, span), _interpolation(probability, at)

    def of(weights: Weights) -> Scores:
        distance = np.abs(smoother(weights, labels) @ between - probability)
        return np.asarray((weights * distance).sum(axis=1) / weights.sum(axis=1), dtype=np.float64)

    return of


def _interpolation(x: Scores, at: Scores) -> Scores:
    """(points, n) matrix that carries values at the grid to the participants."""
    return np.stack([np.interp(x, at, unit) for unit in np.eye(at.size)])


def ici_by_chance(probability: Scores, rng: np.random.Generator, *, span: float = SPAN) -> float:
    """The index to expect of these participants if every probability were exactly true, by drawing their labels."""
    at = _grid(probability)
    simulated = rng.random((SIMULATIONS, probability.size)) < probability
    curves = _Smoother(probability, at, span)(np.ones((1, probability.size)), simulated)
    return float(np.abs(curves @ _interpolation(probability, at) - probability).mean())


def calibration_curve(
    probability: Scores, labels: Labels, rng: np.random.Generator, *, span: float = SPAN, repeats: int = REPEATS
) -> CalibrationCurve:
    """The smooth calibration curve with a bootstrap band, and its distance from ideal.

    People are drawn whatever their class, because how many have sarcopenia is what calibration is about.

    Raises:
        UndefinedMetric: one class only, or fewer than five different probabilities.
    """
    if labels.all() or not labels.any():
        raise UndefinedMetric(f"all {labels.size} participants have the same label: no calibration curve")
    at = _grid(probability)
    smoother = _Smoother(probability, at, span)
    index = integrated_calibration_index(probability, labels, span=span)
    curve_and_index: dict[str, WeightedStatistic] = {"curve": lambda weights: smoother(weights, labels), "ici": index}
    drawn = draws(curve_and_index, everybody_alike(labels), rng, repeats=repeats)
    everybody = np.ones((1, labels.size))
    low, high = np.quantile(drawn["curve"], [0.025, 0.975], axis=0)
    return CalibrationCurve(
        predicted=at,
        observed=smoother(everybody, labels)[0],
        low=low,
        high=high,
        ici=percentile_estimate(float(index(everybody)[0]), drawn["ici"]),
        ici_by_chance=ici_by_chance(probability, rng, span=span),
    )
