"""One number over several sites, and how much the sites differ: meta-analysis with fixed and with random effects.

A handful of hospitals says little about their differences: with three, Cochran's Q has two degrees of freedom, and an
I2 of 0 % is what sites that truly differ often show. Therefore every estimate of heterogeneity comes with its limits,
and :attr:`Pooled.caution` says so in words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import chi2
from scipy.stats import t as student

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate, Z
from sarco_models.scores import Scores

Method = Literal["dersimonian_laird", "reml"]
FEW_SITES = 10
"""Below it Q has little power and tau2 is hardly known (Higgins & Thompson 2002; von Hippel 2015)."""


@dataclass(frozen=True)
class Pooled:
    """One value over several sites, and how much the sites differ.

    Attributes:
        fixed: every site measures the same value.
        random: sites differ; inverse-variance weights with tau2, Hartung-Knapp interval.
        prediction: where the value of a further site would fall (Higgins et al. 2009); None below three sites.
        q: Cochran's Q with ``df`` degrees of freedom.
        p: of Q.
        i2: share of the variation that is not sampling, in [0, 1]. Higgins & Thompson (2002).
        tau2: variance between sites, on the scale where the values were pooled (logit for an AUC).
        i2_limits: 95 % limits of i2, from those of tau2.
        tau2_limits: 95 % limits of tau2 by Q-profile. Viechtbauer (2007).
        sites: how many.
    """

    fixed: Estimate
    random: Estimate
    prediction: Estimate | None
    q: float
    p: float
    i2: float
    tau2: float
    i2_limits: tuple[float, float]
    tau2_limits: tuple[float, float]
    sites: int

    @property
    def df(self) -> int:
        """Degrees of freedom of Q."""
        return self.sites - 1

    @property
    def caution(self) -> str:
        """What must stand beside these numbers; empty with ten sites or more."""
        if self.sites >= FEW_SITES:
            return ""
        low, high = (f"{100 * limit:.0f} %" for limit in self.i2_limits)
        return (
            f"{self.sites} sites leave {self.df} degree{'s' if self.df > 1 else ''} of freedom: that Q is not "
            f"significant does not mean that the sites agree (I2 is between {low} and {high})"
        )


PooledAuc = Pooled
"""A :class:`Pooled` whose values are AUCs, pooled on the logit scale."""


def pool_sites(aucs: Sequence[Estimate], *, method: Method = "dersimonian_laird", guarded: bool = True) -> PooledAuc:
    """Meta-analysis of sites' AUCs on the logit scale; standard errors are read back from the intervals.

    Args:
        aucs: one for each site, of different participants.
        method: how tau2 is estimated.
        guarded: see :func:`pool`.

    Raises:
        UndefinedMetric: fewer than two sites, an AUC of exactly 0 or 1, or an interval without width.
    """
    if len(aucs) < 2 or not all(0.0 < site.low < site.high < 1.0 for site in aucs):
        raise UndefinedMetric(
            f"{len(aucs)} sites: pooling needs two or more, each with an AUC and limits strictly inside 0 to 1 that "
            "differ; leave out a site that separates perfectly or scores everybody alike, and say so"
        )
    low, high = (logit(np.array(limits)) for limits in zip(*((a.low, a.high) for a in aucs), strict=True))
    pooled = pool(
        logit(np.array([site.value for site in aucs])), ((high - low) / (2.0 * Z)) ** 2, method=method, guarded=guarded
    )
    return replace(
        pooled,
        fixed=_expit(pooled.fixed),
        random=_expit(pooled.random),
        prediction=_expit(pooled.prediction) if pooled.prediction else None,
    )


def _expit(on_logit_scale: Estimate) -> Estimate:
    limits = (on_logit_scale.value, on_logit_scale.low, on_logit_scale.high)
    return Estimate(*(float(expit(limit)) for limit in limits))


def pool(values: Scores, variances: Scores, *, method: Method = "dersimonian_laird", guarded: bool = True) -> Pooled:
    """Meta-analysis of values that are normal around their site's truth.

    Args:
        values: (sites,) on a scale without borders: logit, log, difference.
        variances: (sites,) of each value, above 0.
        method: how tau2 is estimated: DerSimonian & Laird (1986), or restricted maximum likelihood.
        guarded: keep the Hartung-Knapp factor at 1 or above, since few sites that agree by chance would otherwise
            get an interval of next to no width (Roever et al. 2015).

    Raises:
        UndefinedMetric: fewer than two sites, or a variance that is not above 0.
    """
    if len(values) < 2 or not (variances > 0.0).all():
        raise UndefinedMetric(f"{len(values)} sites: pooling needs two or more, each with a variance above 0")
    df = len(values) - 1
    q = _q(values, variances, 0.0)
    tau2 = _dersimonian_laird(values, variances) if method == "dersimonian_laird" else _reml(values, variances)
    limits = _q_profile(values, variances)
    typical = _typical_variance(variances)
    mean, error = _weighted(values, variances)
    center, random_error = _weighted(values, variances + tau2)
    factor = max(_q(values, variances, tau2) / df, 1.0 if guarded else 0.0)
    knapp = float(student.ppf(0.975, df) * np.sqrt(factor) * random_error)
    spread = np.sqrt(tau2 + random_error**2)
    return Pooled(
        fixed=_around(mean, Z * error),
        random=_around(center, knapp),
        prediction=_around(center, float(student.ppf(0.975, df - 1) * spread)) if df > 1 else None,
        q=q,
        p=float(chi2.sf(q, df)),
        i2=tau2 / (tau2 + typical),
        tau2=tau2,
        i2_limits=(limits[0] / (limits[0] + typical), limits[1] / (limits[1] + typical)),
        tau2_limits=limits,
        sites=len(values),
    )


def _around(center: float, half: float) -> Estimate:
    return Estimate(center, center - half, center + half)


def _weighted(values: Scores, variances: Scores) -> tuple[float, float]:
    """Inverse-variance mean and its standard error."""
    weights = 1.0 / variances
    return float((weights * values).sum() / weights.sum()), float(np.sqrt(1.0 / weights.sum()))


def _q(values: Scores, variances: Scores, tau2: float) -> float:
    """Weighted squared deviations from the mean; falls as tau2 grows."""
    mean, _ = _weighted(values, variances + tau2)
    return float(((values - mean) ** 2 / (variances + tau2)).sum())


def _typical_variance(variances: Scores) -> float:
    """Within-site variance that I2 compares tau2 with. Higgins & Thompson (2002), equation 9."""
    w = 1.0 / variances
    return float((w.size - 1) * w.sum() / (w.sum() ** 2 - (w**2).sum()))


def _dersimonian_laird(values: Scores, variances: Scores) -> float:
    w = 1.0 / variances
    excess = _q(values, variances, 0.0) - (w.size - 1)
    return max(0.0, excess / float(w.sum() - (w**2).sum() / w.sum()))


def _reml(values: Scores, variances: Scores) -> float:
    """Where the restricted likelihood is flat; 0 when it falls from the start. Viechtbauer (2005)."""

    def rising(tau2: float) -> float:
        w = 1.0 / (variances + tau2)
        mean, _ = _weighted(values, variances + tau2)
        return float((w**2 * (values - mean) ** 2).sum() - w.sum() + (w**2).sum() / w.sum())

    return _root(rising, values)


def _q_profile(values: Scores, variances: Scores) -> tuple[float, float]:
    def where_q_is(expected: float) -> float:
        return _root(lambda tau2: _q(values, variances, tau2) - expected, values)

    df = len(values) - 1
    return where_q_is(float(chi2.ppf(0.975, df))), where_q_is(float(chi2.ppf(0.025, df)))


def _root(falling: Callable[[float], float], values: Scores) -> float:
    """Where a function that falls through zero does so; 0 when it starts below."""
    if falling(0.0) <= 0.0:
        return 0.0
    far = float(np.var(values)) + 1e-12
    while falling(far) > 0.0:
        far *= 2.0
    return float(brentq(falling, 0.0, far, xtol=1e-12))
