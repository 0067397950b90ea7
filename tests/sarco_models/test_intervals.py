"""Intervals against their closed forms, scipy's, and the share of cohorts in which they hold the truth."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import beta, norm
from scipy.stats import bootstrap as scipy_bootstrap

from sarco_models.decisions import figures_of_merit
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import (
    Estimate,
    bca_estimate,
    bootstrap,
    clopper_pearson,
    draws,
    everybody_alike,
    logit_interval,
    percentile_estimate,
    proportion,
    two_sided_p,
    wilson,
)
from sarco_models.metrics import area_under_roc, auc, auc_interval, average_precision
from sarco_models.scores import Scores
from tests.people import Sample, binormal, true_probabilities


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def sample(rng: np.random.Generator) -> Sample:
    """A hundred people, probabilities rounded so that many are tied."""
    scores, labels = binormal(35, 65, 0.8, rng)
    return np.round(expit(scores - 1.0), 2), labels


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "n"), [(15, 19), (48, 68), (0, 12), (12, 12), (1, 400)])
def test_wilson_and_clopper_pearson_are_their_formulas(successes: int, n: int) -> None:
    p, z = successes / n, norm.ppf(0.975)
    center, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    score = wilson(successes, n)
    assert (score.low, score.high) == pytest.approx([(center + s * half) / (1 + z**2 / n) for s in (-1, 1)])
    exact = clopper_pearson(successes, n)
    assert exact.low == pytest.approx(beta.ppf(0.025, successes, n - successes + 1) if successes else 0.0)
    assert exact.high == pytest.approx(beta.ppf(0.975, successes + 1, n - successes) if successes < n else 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(15, 19, 0.544, 0.939), (48, 68, 0.589, 0.801)],
    ids=["proof of concept, exact", "external, Wilson"],
)
def test_the_papers_sensitivities_have_these_intervals(successes: int, n: int, low: float, high: float) -> None:
    interval = proportion(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-4)


def test_below_forty_people_a_share_gets_its_exact_interval() -> None:
    assert proportion(30, 39) == clopper_pearson(30, 39)
    assert proportion(30, 40) == wilson(30, 40)
    with pytest.raises(UndefinedMetric, match="no participants"):
        proportion(0, 0)


def test_a_logit_interval_is_symmetric_on_the_logit_scale() -> None:
    found = logit_interval(0.8, 0.04**2)
    assert logit(found.high) - logit(0.8) == pytest.approx(logit(0.8) - logit(found.low))
    assert logit(found.high) - logit(0.8) == pytest.approx(norm.ppf(0.975) * 0.04 / 0.16)


# --- resampling -------------------------------------------------------------------------------------------------------


def test_bootstrap_keeps_its_strata_and_repeats_with_its_seed(sample: Sample) -> None:
    probability, labels = sample
    statistics = {
        "auprc": average_precision(probability, labels),
        "prevalence": lambda weights: weights @ labels / weights.sum(axis=1),
    }
    first, second = (bootstrap(statistics, labels, np.random.default_rng(3), repeats=200) for _ in range(2))
    assert first == second
    assert first["auprc"].low < first["auprc"].value < first["auprc"].high
    assert first["prevalence"].low == pytest.approx(first["prevalence"].high)
    varying = bootstrap(statistics, everybody_alike(labels), np.random.default_rng(3), repeats=200)["prevalence"]
    assert varying.high - varying.low == pytest.approx(2 * 1.96 * np.sqrt(0.35 * 0.65 / 100), rel=0.2)


def test_bootstrap_interval_of_a_mean_has_the_width_of_theory(rng: np.random.Generator) -> None:
    values = rng.normal(size=400)
    mean = {"mean": lambda weights: weights @ values / 400}
    for method in ("percentile", "bca"):
        interval = bootstrap(mean, np.ones(400), rng, method=method)["mean"]
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_the_bca_interval_is_scipys_for_the_same_draws(rng: np.random.Generator) -> None:
    scores, labels = binormal(12, 20, 0.8, rng)

    def area(positive: Scores, negative: Scores, axis: int = -1) -> Scores:
        won = (positive[..., :, None] > negative[..., None, :]).mean(axis=(-1, -2))
        return np.asarray(won)

    reference = scipy_bootstrap(
        (scores[labels], scores[~labels]), area, n_resamples=400, method="BCa", rng=rng, vectorized=True
    )
    left_out = np.array([auc(np.delete(scores, i), np.delete(labels, i)) for i in range(32)])
    ours = bca_estimate(auc(scores, labels), reference.bootstrap_distribution, left_out, labels)
    interval = reference.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_the_jackknife_behind_bca_leaves_out_each_participant_once(sample: Sample, rng: np.random.Generator) -> None:
    probability, labels = sample
    seen: list[Scores] = []

    def watched(weights: Scores) -> Scores:
        seen.append(weights)
        return area_under_roc(probability, labels)(weights)

    found = bootstrap({"auc": watched}, labels, rng, repeats=100, method="bca")["auc"]
    assert np.array_equal(seen[-1], 1.0 - np.eye(100))
    assert found.low < found.value < found.high


def test_the_bootstrap_agrees_with_delong(rng: np.random.Generator) -> None:
    scores, labels = binormal(101, 256, 0.827, rng)
    delong = auc_interval(scores, labels)
    for method in ("percentile", "bca"):
        drawn = bootstrap({"auc": area_under_roc(scores, labels)}, labels, rng, method=method)["auc"]
        assert drawn.value == pytest.approx(delong.value)
        assert (drawn.low, drawn.high) == pytest.approx((delong.low, delong.high), abs=0.01)


def test_draws_on_one_side_of_the_estimate_have_no_bca_interval() -> None:
    with pytest.raises(UndefinedMetric, match="one side of the estimate"):
        bca_estimate(1.0, np.array([0.5, 0.6, 0.7]), np.zeros(4), np.zeros(4))
    assert bca_estimate(0.5, np.full(9, 0.5), np.zeros(4), np.zeros(4)) == Estimate(0.5, 0.5, 0.5)


def test_a_value_that_some_resamples_lack_is_absent_but_for_one_in_a_hundred() -> None:
    drawn = np.linspace(0.0, 1.0, 1000)
    drawn[:10] = np.nan
    assert percentile_estimate(0.5, drawn).high == pytest.approx(0.975, abs=0.01)
    drawn[10] = np.nan
    with pytest.raises(UndefinedMetric, match="11 of 1000 resamples"):
        percentile_estimate(0.5, drawn)


def test_a_percentile_interval_holds_its_estimate() -> None:
    assert percentile_estimate(0.01, np.linspace(0.02, 0.1, 100)).low == 0.01


def test_the_p_of_draws_is_the_share_beyond_zero_twice(rng: np.random.Generator) -> None:
    assert two_sided_p(np.ones(1999)) == pytest.approx(2 / 2000)
    assert two_sided_p(np.zeros(10)) == 1.0
    assert two_sided_p(rng.normal(1.0, 1.0, size=100_000)) == pytest.approx(2 * norm.sf(1.0), rel=0.02)


def test_many_people_are_resampled_in_batches(rng: np.random.Generator) -> None:
    n = 60_000
    mean = draws({"size": lambda weights: weights.sum(axis=1)}, np.arange(n) % 3, rng, repeats=100)["size"]
    assert mean.tolist() == [n] * 100


@pytest.mark.slow
def test_f1_needs_a_bootstrap_in_which_the_number_of_patients_varies(rng: np.random.Generator) -> None:
    """Measured in benchmarks/inference.py; here at a threshold that calls most people."""
    people, labels = true_probabilities(150_000, 450_000, 0.8, rng)
    truth = float(figures_of_merit(people, labels, 0.15)["f1_positive"](np.ones((1, labels.size)))[0])
    held = {"alike": 0, "labels": 0}
    for _ in range(300):
        chosen = rng.choice(labels.size, 82, replace=False)
        statistic = {"f1": figures_of_merit(people[chosen], labels[chosen], 0.15)["f1_positive"]}
        for name, strata in (("alike", everybody_alike(labels[chosen])), ("labels", labels[chosen])):
            found = bootstrap(statistic, strata, rng, repeats=500)["f1"]
            held[name] += found.low <= truth <= found.high
    assert held["alike"] >= 0.92 * 300
    assert held["labels"] < 0.85 * 300
