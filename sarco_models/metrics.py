"""How well a score ranks participants. The participant is the unit: one score per person, never one per image.

Here and in ``decisions`` and ``calibration``: ``scores`` (n,) any number that grows with the suspicion of disease;
``probability`` (n,) in [0, 1]; ``labels`` (n,) bool, True = sarcopenia. Intervals are 95 %, two-sided. A statistic
without a value on these participants raises ``UndefinedMetric``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import binomtest, chi2, norm, rankdata
from scipy.stats import t as student

from sarco_models.errors import UndefinedMetric

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]
Weights = NDArray[np.float64]

Z = float(norm.ppf(0.975))
SMALL_SAMPLE = 40  # below it a proportion gets its exact interval (SCIENCE 4.2)
BOOTSTRAP_CELLS = 4_000_000  # weights held at once, 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two scores of the same participants: difference of the AUCs (first minus second) and two-sided p."""

    difference: Estimate
    p: float


# --- one score for each participant -----------------------------------------------------------------------------------


def require_one_score_each(participant_ids: Iterable[str]) -> None:
    """Refuse repeated participants: images counted as people make intervals too narrow by 1.7 to 2.6 (SCIENCE 4.3).

    Raises:
        UndefinedMetric: a participant occurs more than once; the message counts them and names nobody.
    """
    ids = list(participant_ids)
    people = len(set(ids))
    if people < len(ids):
        raise UndefinedMetric(
            f"{len(ids)} scores for {people} participants: a statistic takes one score per participant; "
            "average the images' logits with aggregate_by_participant first"
        )


def aggregate_by_participant(logits: Scores, participant_ids: Sequence[str]) -> tuple[list[str], Scores]:
    """Mean of each participant's image logits with equal weights, so that the number of images cannot vote.

    Returns:
        The participants in order of first appearance, and their logits.
    """
    people = list(dict.fromkeys(participant_ids))
    position = {person: index for index, person in enumerate(people)}
    owner = np.array([position[person] for person in participant_ids], dtype=np.intp)
    total = np.bincount(owner, weights=logits, minlength=len(people))
    return people, total / np.bincount(owner, minlength=len(people))


# --- area under the ROC curve -----------------------------------------------------------------------------------------


def _classes(scores: Scores, labels: Labels) -> tuple[Scores, Scores]:
    positive, negative = scores[labels], scores[~labels]
    if positive.size == 0 or negative.size == 0:
        raise UndefinedMetric(
            f"{positive.size} participants with and {negative.size} without sarcopenia: "
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
    area, variance = float(above.mean()), _variance(above, below)
    if area in (0.0, 1.0):
        pairs = min(above.size, below.size)
        return proportion(round(area * pairs), pairs, exact=True)
    half = Z * np.sqrt(variance) / (area * (1.0 - area))
    return Estimate(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))


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


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for one family of tests, in the order given. Holm (1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def proportion(successes: int, n: int, *, exact: bool | None = None) -> Estimate:
    """A share with its Wilson interval, or the exact one of Clopper & Pearson when n < 40 (or ``exact``)."""
    if n == 0:
        raise UndefinedMetric("a proportion of no participants has no value; report it as absent")
    use_exact = n < SMALL_SAMPLE if exact is None else exact
    interval = binomtest(int(successes), int(n)).proportion_ci(0.95, method="exact" if use_exact else "wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high))


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


# --- intervals by resampling participants -----------------------------------------------------------------------------


WeightedStatistic = Callable[[Weights], Scores]
"""(draws, n) how often each participant counts -> (draws,) values; ones give the estimate itself."""


def bootstrap(
    statistics: Mapping[str, WeightedStatistic], labels: Labels, rng: np.random.Generator, *, repeats: int = 2000
) -> dict[str, Estimate]:
    """Percentile intervals from participants drawn with replacement within each class, the same draws for all.

    Args:
        statistics: by name.
        labels: the classes to draw within.
        rng: randomness is an argument.
        repeats: number of draws.
    """
    at_once = max(1, BOOTSTRAP_CELLS // max(labels.size, 1))
    drawn: dict[str, list[Scores]] = {name: [] for name in statistics}
    for start in range(0, repeats, at_once):
        weights = _resample(labels, min(at_once, repeats - start), rng)
        for name, statistic in statistics.items():
            drawn[name].append(statistic(weights))
    everybody = np.ones((1, labels.size))
    limits = {name: np.quantile(np.concatenate(values), [0.025, 0.975]) for name, values in drawn.items()}
    return {name: Estimate(float(of(everybody)[0]), *map(float, limits[name])) for name, of in statistics.items()}


def _resample(labels: Labels, draws: int, rng: np.random.Generator) -> Weights:
    weights = np.zeros((draws, labels.size))
    for members in (np.flatnonzero(labels), np.flatnonzero(~labels)):
        size = members.size
        if size:
            drawn = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
            weights[:, members] = np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size)
    return weights


def average_precision(scores: Scores, labels: Labels) -> WeightedStatistic:
    """Area under the precision-recall curve as average precision; a useless score reaches the prevalence."""
    _classes(scores, labels)
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)

    def of(weights: Weights) -> Scores:
        hits = np.cumsum(weights[:, order] * labels[order], axis=1)[:, last_of_tie]
        called = np.cumsum(weights[:, order], axis=1)[:, last_of_tie]
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        area: Scores = (precision * np.diff(hits, axis=1, prepend=0.0)).sum(axis=1) / hits[:, -1]
        return area

    return of


# --- between sites ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PooledAuc:
    """One AUC over several sites, and how much the sites differ.

    Attributes:
        fixed: every site measures the same AUC.
        random: sites differ; DerSimonian & Laird (1986) weights, Hartung-Knapp interval.
        prediction: where the AUC of a further site would fall (Higgins et al. 2009); None below three sites.
        q: Cochran's Q with ``sites - 1`` degrees of freedom; with three sites it can hardly detect anything.
        p: of Q.
        i2: share of the variation that is not sampling, in [0, 1].
        tau2: variance between sites, logit scale.
    """

    fixed: Estimate
    random: Estimate
    prediction: Estimate | None
    q: float
    p: float
    i2: float
    tau2: float


def pool_sites(aucs: Sequence[Estimate], *, guarded: bool = True) -> PooledAuc:
    """Meta-analysis of sites' AUCs on the logit scale; standard errors are read back from the intervals.

    Args:
        aucs: one for each site, of different participants.
        guarded: keep the Hartung-Knapp factor at 1 or above, since few sites that agree by chance would otherwise
            get an interval of next to no width (Roever et al. 2015).

    Raises:
        UndefinedMetric: fewer than two sites, or an AUC of exactly 0 or 1.
    """
    if len(aucs) < 2 or any(site.value in (0.0, 1.0) for site in aucs):
        raise UndefinedMetric(f"{len(aucs)} sites: pooling needs two or more, each with an AUC strictly inside 0 to 1")
    y = logit(np.array([site.value for site in aucs]))
    variance = ((logit([site.high for site in aucs]) - logit([site.low for site in aucs])) / (2.0 * Z)) ** 2
    df = len(aucs) - 1
    w = 1.0 / variance
    mean = float((w * y).sum() / w.sum())
    q = float((w * (y - mean) ** 2).sum())
    tau2 = max(0.0, (q - df) / float(w.sum() - (w**2).sum() / w.sum()))
    v = 1.0 / (variance + tau2)
    center = float((v * y).sum() / v.sum())
    factor = max(float((v * (y - center) ** 2).sum() / df), 1.0 if guarded else 0.0)
    knapp = float(np.sqrt(factor / v.sum()))
    spread = float(np.sqrt(tau2 + 1.0 / v.sum()))
    return PooledAuc(
        fixed=_from_logit(mean, Z / float(np.sqrt(w.sum()))),
        random=_from_logit(center, float(student.ppf(0.975, df)) * knapp),
        prediction=_from_logit(center, float(student.ppf(0.975, df - 1)) * spread) if df > 1 else None,
        q=q,
        p=float(chi2.sf(q, df)),
        i2=max(0.0, 1.0 - df / q) if q > 0.0 else 0.0,
        tau2=tau2,
    )


def _from_logit(center: float, half: float) -> Estimate:
    return Estimate(float(expit(center)), float(expit(center - half)), float(expit(center + half)))
