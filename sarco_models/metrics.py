"""How well a score ranks participants. The participant is the unit: one score per person, never one per image.

Here and in ``decisions`` and ``calibration``: ``scores`` (n,) any number that grows with the suspicion of disease;
``probability`` (n,) in [0, 1]; ``labels`` (n,) bool, True = sarcopenia. Intervals are 95 %, two-sided. A statistic
without a value on these participants raises ``UndefinedMetric``. Whose score is whose is checked where scores come in:
``scores.ParticipantScores``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm, rankdata

from sarco_models.errors import UndefinedMetric
from sarco_models.heterogeneity import PooledAuc, pool_sites
from sarco_models.intervals import (
    Estimate,
    WeightedStatistic,
    Z,
    bootstrap,
    clopper_pearson,
    logit_interval,
    proportion,
)
from sarco_models.scores import (
    Labels,
    ParticipantScores,
    Scores,
    Weights,
    aggregate_by_participant,
    require_one_score_each,
)

# What other modules define and most users of this one need beside it.
__all__ = [
    "Comparison",
    "Estimate",
    "Labels",
    "ParticipantScores",
    "PooledAuc",
    "RocCurve",
    "Scores",
    "WeightedStatistic",
    "Weights",
    "Z",
    "aggregate_by_participant",
    "area_under_roc",
    "auc",
    "auc_estimate",
    "auc_interval",
    "average_precision",
    "bootstrap",
    "compare_aucs",
    "compare_family",
    "delong_variance",
    "holm",
    "pool_sites",
    "proportion",
    "require_one_score_each",
    "roc_curve",
]


@dataclass(frozen=True)
class Comparison:
    """Two AUCs: their difference (first minus second) and two-sided p.

    Attributes:
        difference: with its interval, on the plain scale.
        p: of "no difference".
        p_holm: adjusted for the family of tests that this one belongs to; None when it belongs to none.
    """

    difference: Estimate
    p: float
    p_holm: float | None = None


# --- area under the ROC curve -----------------------------------------------------------------------------------------


def _classes(scores: Scores, labels: Labels) -> tuple[Scores, Scores]:
    positive, negative = scores[labels], scores[~labels]
    if positive.size == 0 or negative.size == 0:
        raise UndefinedMetric(
            f"{positive.size} participants with and {negative.size} without the condition: "
            "this statistic needs both classes; report it as absent"
        )
    return positive, negative


def _placements(scores: Scores, labels: Labels) -> tuple[Scores, Scores]:
    """Share of the other class that each positive (then each negative) is ordered correctly against."""
    positive, negative = _classes(scores, labels)
    ranks = rankdata(scores)
    above = (ranks[labels] - rankdata(positive)) / negative.size
    below = 1.0 - (ranks[~labels] - rankdata(negative)) / positive.size
    return above, below


def _variance(above: Scores, below: Scores) -> float:
    if min(above.size, below.size) < 2:
        raise UndefinedMetric(
            f"{above.size} positive and {below.size} negative participants: a variance needs two of each class"
        )
    return float(above.var(ddof=1) / above.size + below.var(ddof=1) / below.size)


def auc(scores: Scores, labels: Labels) -> float:
    """Probability that a positive outranks a negative; ties count one half (Mann-Whitney)."""
    return float(_placements(scores, labels)[0].mean())


def delong_variance(scores: Scores, labels: Labels) -> float:
    """Variance of the AUC. DeLong et al. (1988); O(n log n) form of Sun & Xu (2014)."""
    return _variance(*_placements(scores, labels))


def auc_interval(scores: Scores, labels: Labels) -> Estimate:
    """AUC with DeLong interval on the logit scale (coverage 95.5 % at 19 / 63 participants, SCIENCE 4.2).

    With perfect separation the DeLong variance is zero and says nothing. Then the min(m, n) disjoint pairs of one
    positive and one negative are independent trials that all succeeded, and their exact binomial limit is used.
    """
    above, below = _placements(scores, labels)
    return auc_estimate(float(above.mean()), _variance(above, below), pairs=min(above.size, below.size))


def auc_estimate(area: float, variance: float, *, pairs: int) -> Estimate:
    """As :func:`auc_interval`, of what a site returns: AUC, DeLong variance, and the size of its smaller class."""
    if area in (0.0, 1.0):
        return clopper_pearson(round(area * pairs), pairs)
    return logit_interval(area, variance)


def compare_aucs(first: Scores, second: Scores, labels: Labels) -> Comparison:
    """Paired DeLong test of two scores of the same participants, interval on the plain scale.

    Raises:
        UndefinedMetric: one class only, or a difference without variance (two scores that both never err).
    """
    above_1, below_1 = _placements(first, labels)
    above_2, below_2 = _placements(second, labels)
    difference = float(above_1.mean() - above_2.mean())
    error = float(np.sqrt(_variance(above_1 - above_2, below_1 - below_2)))
    if error < 1e-12 and abs(difference) > 1e-12:
        raise UndefinedMetric("the two AUCs differ without any variance: DeLong's test has no value; use more people")
    p = 1.0 if error < 1e-12 else float(2.0 * norm.sf(abs(difference) / error))
    return Comparison(Estimate(difference, difference - Z * error, difference + Z * error), p)


def compare_family(first: ParticipantScores, others: Mapping[str, ParticipantScores]) -> dict[str, Comparison]:
    """Paired DeLong of one score against each of the others, adjusted as one family (Holm 1979).

    Args:
        first: the score that the study asks about.
        others: by name; the same participants, in any order. Name the family before the test, not after it.

    Raises:
        UndefinedMetric: somebody has only one of two scores, or see :func:`compare_aucs`.
    """
    found = {
        name: compare_aucs(first.scores, first.same_people(other).scores, first.labels)
        for name, other in others.items()
    }
    adjusted = holm([comparison.p for comparison in found.values()])
    return {name: replace(found[name], p_holm=p) for name, p in zip(found, adjusted, strict=True)}


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for one family of tests, in the order given. Holm (1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


# --- curves -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RocCurve:
    """Operating points from "nobody is positive" to "everybody is", one per distinct score.

    Thresholds lie midway between neighbouring scores, so that none of them is a participant's own score; the first
    is infinite and the last is the lowest score.
    """

    thresholds: Scores
    sensitivity: Scores
    specificity: Scores


def roc_curve(scores: Scores, labels: Labels) -> RocCurve:
    """All operating points of a score."""
    positive, negative = _classes(scores, labels)
    distinct = np.unique(scores)[::-1]
    found = 1.0 - np.searchsorted(np.sort(positive), distinct, side="left") / positive.size
    spared = np.searchsorted(np.sort(negative), distinct, side="left") / negative.size
    midway = (distinct[:-1] + distinct[1:]) / 2.0
    return RocCurve(
        thresholds=np.concatenate([[np.inf], midway, distinct[-1:]]),
        sensitivity=np.concatenate([[0.0], found]),
        specificity=np.concatenate([[1.0], spared]),
    )


# --- ready to be resampled --------------------------------------------------------------------------------------------


def area_under_roc(scores: Scores, labels: Labels) -> WeightedStatistic:
    """The AUC for ``intervals.bootstrap``: a check of DeLong's interval, and the difference between subgroups."""
    _classes(scores, labels)
    order, last_of_tie = _descending(scores)

    def of(weights: Weights) -> Scores:
        hits = np.cumsum(weights[:, order] * labels[order], axis=1)[:, last_of_tie]
        alarms = np.cumsum(weights[:, order] * ~labels[order], axis=1)[:, last_of_tie]
        earlier = np.concatenate([np.zeros((len(hits), 1)), hits[:, :-1]], axis=1)
        pairs = (np.diff(alarms, axis=1, prepend=0.0) * (earlier + hits) / 2.0).sum(axis=1)
        return _where_possible(pairs, hits[:, -1] * alarms[:, -1])

    return of


def average_precision(scores: Scores, labels: Labels) -> WeightedStatistic:
    """Area under the precision-recall curve as average precision; a useless score reaches the prevalence."""
    _classes(scores, labels)
    order, last_of_tie = _descending(scores)

    def of(weights: Weights) -> Scores:
        hits = np.cumsum(weights[:, order] * labels[order], axis=1)[:, last_of_tie]
        called = np.cumsum(weights[:, order], axis=1)[:, last_of_tie]
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        return _where_possible((precision * np.diff(hits, axis=1, prepend=0.0)).sum(axis=1), hits[:, -1])

    return of


def _descending(scores: Scores) -> tuple[np.typing.NDArray[np.intp], Labels]:
    """Order of descending scores, and in that order where a group of equal scores ends."""
    order = np.argsort(-scores, kind="stable")
    return order, np.append(np.diff(scores[order]) != 0, True)


def _where_possible(above: Scores, below: Scores) -> Scores:
    """The quotient; NaN in a resample that has only one class."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
