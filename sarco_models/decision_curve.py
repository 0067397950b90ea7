"""Whether calling people by a score does more good than calling everybody or nobody. Vickers & Elkin (2006).

At a threshold probability t a false alarm is worth t / (1 - t) of a positive who is found: whoever would look further
into 1 of 5 suspects has t = .2. Net benefit counts positives found per participant, less false alarms at that price.
"""

from dataclasses import dataclass

import numpy as np

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import REPEATS, WeightedStatistic, bootstrap, everybody_alike
from sarco_models.scores import Labels, Scores, Weights

THRESHOLDS: Scores = np.linspace(0.10, 0.60, 51)
"""SCIENCE 4.2: below .1 nobody would leave a suspect alone, above .6 nobody would wait so long."""


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit over threshold probabilities; every array is (thresholds,). Calling nobody has a net benefit of 0.

    Attributes:
        thresholds: in (0, 1).
        net_benefit: of calling those whose probability reaches the threshold.
        low: lower 95 % limit of it.
        high: upper 95 % limit of it.
        treat_all: net benefit of calling everybody.
        needed_to_scan: people to scan for one more positive found, at no more false alarms, than the better of calling
            everybody and nobody (the test trade-off of Baker et al. 2009); infinite where scanning gains nothing.
        prevalence: of the people that the curve speaks about.
    """

    thresholds: Scores
    net_benefit: Scores
    low: Scores
    high: Scores
    treat_all: Scores
    needed_to_scan: Scores
    prevalence: float


def net_benefit(
    probability: Scores, labels: Labels, threshold: float, *, prevalence: float | None = None
) -> WeightedStatistic:
    """Net benefit per participant at one threshold, ready for ``intervals.bootstrap``.

    Args:
        probability: (n,) in [0, 1].
        labels: (n,).
        threshold: in (0, 1), both who is called and what a false alarm costs.
        prevalence: of the people that the number shall speak about, when classes were not sampled as they come.
    """
    odds = threshold / (1.0 - threshold)
    called = probability >= threshold
    found, alarms = (called & labels).astype(np.float64), (called & ~labels).astype(np.float64)

    def of(weights: Weights) -> Scores:
        n = weights.sum(axis=1)
        if prevalence is None:
            return np.asarray((weights @ found - odds * (weights @ alarms)) / n, dtype=np.float64)
        positives = weights @ labels
        sensitivity, false_alarm_rate = weights @ found / positives, weights @ alarms / (n - positives)
        return np.asarray(sensitivity * prevalence - odds * false_alarm_rate * (1.0 - prevalence), dtype=np.float64)

    return of


def decision_curve(  # noqa: PLR0913 - three of them are options
    probability: Scores,
    labels: Labels,
    rng: np.random.Generator,
    *,
    thresholds: Scores = THRESHOLDS,
    prevalence: float | None = None,
    repeats: int = REPEATS,
) -> DecisionCurve:
    """Net benefit with a bootstrap band (pointwise), against calling everybody and nobody.

    Without a declared prevalence that of these participants is used, and people are drawn whatever their class, since
    the prevalence is then uncertain too; with one, within their class.

    Raises:
        UndefinedMetric: one class only, or a threshold that is not strictly between 0 and 1.
    """
    if labels.all() or not labels.any():
        raise UndefinedMetric(f"all {labels.size} participants have the same label: no decision curve")
    if thresholds.min() <= 0.0 or thresholds.max() >= 1.0:
        raise UndefinedMetric(f"thresholds {thresholds.min():g} to {thresholds.max():g}; expected strictly in 0 to 1")
    statistics = {
        f"{position}": net_benefit(probability, labels, float(t), prevalence=prevalence)
        for position, t in enumerate(thresholds)
    }
    strata = everybody_alike(labels) if prevalence is None else labels
    band = list(bootstrap(statistics, strata, rng, repeats=repeats).values())
    of_people = float(labels.mean()) if prevalence is None else prevalence
    treat_all = of_people - (1.0 - of_people) * thresholds / (1.0 - thresholds)
    value = np.array([estimate.value for estimate in band])
    gain = value - np.maximum(treat_all, 0.0)
    return DecisionCurve(
        thresholds=thresholds,
        net_benefit=value,
        low=np.array([estimate.low for estimate in band]),
        high=np.array([estimate.high for estimate in band]),
        treat_all=treat_all,
        needed_to_scan=np.divide(1.0, gain, out=np.full(gain.size, np.inf), where=gain > 1e-12),
        prevalence=of_people,
    )
