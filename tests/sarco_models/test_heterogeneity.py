"""Pooling over sites, against the published analysis of the BCG trials by metafor and the numbers of SCIENCE 4.5."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from sarco_models.errors import UndefinedMetric
from sarco_models.heterogeneity import Method, pool, pool_sites
from sarco_models.intervals import Estimate

# Colditz et al. (1994): tuberculosis yes and no in the vaccinated, yes and no in the others; metafor's dat.bcg.
BCG = np.array([
    [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619], [33, 5036, 47, 5761],
    [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892], [29, 7470, 45, 7232],
    [17, 1699, 65, 1600], [186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825],
], dtype=np.float64)  # fmt: skip


def log_risk_ratios() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def log_odds_ratios() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a * d / (b * c)), 1 / a + 1 / b + 1 / c + 1 / d


def test_reml_pools_the_bcg_trials_as_metafor_published() -> None:
    found = pool(*log_risk_ratios(), method="reml")
    assert found.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert found.i2 == pytest.approx(0.9222, abs=5e-5)
    assert found.random.value == pytest.approx(-0.7145, abs=5e-5)
    assert (found.q, found.df) == (pytest.approx(152.2330, abs=5e-5), 12)
    assert found.tau2_limits == pytest.approx((0.1197, 1.1115), abs=5e-5)  # Q-profile
    assert found.i2_limits == pytest.approx((0.8192, 0.9768), abs=5e-5)
    assert found.caution == ""


def test_dersimonian_laird_and_hartung_knapp_pool_the_bcg_trials_as_statsmodels_does() -> None:
    found = pool(*log_risk_ratios(), guarded=False)
    assert (found.tau2, found.i2) == pytest.approx((0.30876026, 0.92117347))
    assert (found.fixed.value, found.fixed.low, found.fixed.high) == pytest.approx(
        (-0.43028516, -0.50966126, -0.35090907), abs=1e-8
    )
    assert (found.random.value, found.random.low, found.random.high) == pytest.approx(
        (-0.71411722, -1.10782135, -0.32041309), abs=1e-8
    )


def test_the_limits_of_tau2_are_those_of_van_houwelingens_example() -> None:
    found = pool(*log_odds_ratios(), method="reml")
    assert found.tau2_limits == pytest.approx((0.1302, 1.1812), abs=1e-4)


def test_reml_is_where_the_restricted_likelihood_is_highest() -> None:
    values, variances = log_risk_ratios()

    def likelihood(tau2: float) -> float:
        w = 1 / (variances + tau2)
        mean = (w * values).sum() / w.sum()
        return float(0.5 * np.log(w).sum() - 0.5 * np.log(w.sum()) - 0.5 * (w * (values - mean) ** 2).sum())

    best = pool(values, variances, method="reml").tau2
    assert all(likelihood(best) >= likelihood(best + step) for step in (-1e-3, 1e-3, 0.1, -0.1))


def hanley_mcneil(area: float, num_positive: int, num_negative: int) -> Estimate:
    """The interval a reader can give to an AUC that was printed without one. Hanley & McNeil (1982), logit scale."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (num_positive - 1) * (q1 - area**2) + (num_negative - 1) * (q2 - area**2)
    half = norm.ppf(0.975) * np.sqrt(variance / (num_positive * num_negative)) / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))


@pytest.mark.parametrize("method", ["dersimonian_laird", "reml"])
def test_the_papers_three_aucs_do_not_differ_more_than_chance_and_three_sites_say_little(method: Method) -> None:
    sites = [hanley_mcneil(0.827, 101, 256), hanley_mcneil(0.801, 68, 77), hanley_mcneil(0.757, 19, 63)]
    pooled = pool_sites(sites, method=method, guarded=False)
    assert pooled.q == pytest.approx(1.12, abs=0.02)
    assert pooled.p == pytest.approx(0.57, abs=0.01)
    assert (pooled.i2, pooled.tau2) == (0.0, 0.0)
    assert pooled.random.value == pytest.approx(0.810, abs=2e-3)
    assert (pooled.random.low, pooled.random.high) == pytest.approx((0.733, 0.869), abs=1e-3)
    assert pooled.i2_limits[1] > 0.9  # I2 of 0 % may as well be one of 90 %
    assert "2 degrees of freedom" in pooled.caution
    assert "does not mean that the sites agree" in pooled.caution


def test_equal_sites_pool_to_themselves_and_more_precisely() -> None:
    site = Estimate(0.8, float(expit(logit(0.8) - 0.4)), float(expit(logit(0.8) + 0.4)))
    pooled = pool_sites([site, site, site, site])
    assert pooled.fixed.value == pytest.approx(0.8)
    assert logit(pooled.fixed.high) - logit(0.8) == pytest.approx(0.2)
    assert pooled.i2 == 0.0
    assert pooled.q == pytest.approx(0.0)
    assert pooled.random.high > pooled.fixed.high  # guarded: agreement by chance is no precision
    assert pool_sites([site] * 4, guarded=False).random.high == pytest.approx(0.8)


def test_sites_that_truly_differ_are_seen_to_differ() -> None:
    pooled = pool_sites([Estimate(0.6, 0.58, 0.62), Estimate(0.8, 0.79, 0.81), Estimate(0.9, 0.89, 0.91)])
    assert pooled.p < 1e-6
    assert pooled.i2 > 0.95
    assert pooled.prediction is not None
    assert pooled.prediction.low < 0.6
    assert pooled.prediction.high > 0.9


def test_the_prediction_interval_is_that_of_higgins() -> None:
    values, variances = log_risk_ratios()
    found = pool(values, variances, method="reml")
    error = 1 / np.sqrt((1 / (variances + found.tau2)).sum())
    half = 2.200985 * np.sqrt(found.tau2 + error**2)  # t with 11 degrees of freedom
    assert found.prediction is not None
    assert found.prediction.high - found.prediction.value == pytest.approx(half, rel=1e-6)


def test_one_site_cannot_be_pooled_and_two_predict_nothing() -> None:
    with pytest.raises(UndefinedMetric, match="two or more"):
        pool_sites([Estimate(0.8, 0.7, 0.9)])
    assert pool_sites([Estimate(0.8, 0.7, 0.87), Estimate(0.82, 0.7, 0.9)]).prediction is None


@pytest.mark.parametrize("odd", [Estimate(1.0, 0.6, 1.0), Estimate(0.5, 0.5, 0.5)], ids=["perfect", "constant"])
def test_a_site_without_a_standard_error_is_refused(odd: Estimate) -> None:
    with pytest.raises(UndefinedMetric, match="strictly inside"):
        pool_sites([Estimate(0.8, 0.7, 0.87), odd])


@pytest.mark.slow
def test_with_three_sites_hartung_knapp_covers_the_mean_and_the_plain_interval_does_not() -> None:
    rng = np.random.default_rng(3)
    variances, tau2, held, plain = np.array([0.02, 0.03, 0.08]), 0.1, 0, 0
    for _ in range(2000):
        found = pool(rng.normal(0.0, np.sqrt(variances + tau2)), variances, method="reml")
        held += found.random.low <= 0.0 <= found.random.high
        plain += found.fixed.low <= 0.0 <= found.fixed.high
    assert held / 2000 >= 0.945
    assert plain / 2000 < 0.8
