"""Ranking statistics, each against an identity, an independent implementation or a published number."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import mannwhitneyu, norm
from sklearn import metrics as sk

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import (
    Estimate,
    Labels,
    Scores,
    aggregate_by_participant,
    auc,
    auc_interval,
    average_precision,
    bootstrap,
    compare_aucs,
    delong_variance,
    holm,
    pool_sites,
    proportion,
    require_one_score_each,
    roc_curve,
)

Sample = tuple[Scores, Labels]


def binormal(num_positive: int, num_negative: int, area: float, rng: np.random.Generator) -> Sample:
    """Scores whose true AUC is ``area``."""
    labels = np.arange(num_positive + num_negative) < num_positive
    return rng.normal(size=labels.size) + labels * np.sqrt(2.0) * norm.ppf(area), labels


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def sample(rng: np.random.Generator) -> Sample:
    """A hundred people, probabilities rounded so that many are tied."""
    scores, labels = binormal(35, 65, 0.8, rng)
    return np.round(expit(scores - 1.0), 2), labels


# --- ranking ----------------------------------------------------------------------------------------------------------


def test_auc_is_mann_whitney_with_ties_counted_half(sample: Sample) -> None:
    scores, labels = sample
    u = mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert auc(scores, labels) == pytest.approx(u / (35 * 65), abs=1e-12)


def test_delong_variance_is_the_variance_of_all_pairs_kernels(sample: Sample) -> None:
    scores, labels = sample
    positive, negative = scores[labels][:, None], scores[~labels][None, :]
    kernel = (positive > negative) + 0.5 * (positive == negative)
    brute = kernel.mean(axis=1).var(ddof=1) / 35 + kernel.mean(axis=0).var(ddof=1) / 65
    assert delong_variance(scores, labels) == pytest.approx(brute, abs=1e-14)


def test_auc_does_not_change_under_a_monotone_map_and_flips_with_the_sign(sample: Sample) -> None:
    scores, labels = sample
    assert auc(np.exp(3 * scores), labels) == auc(scores, labels)
    assert auc(-scores, labels) == pytest.approx(1.0 - auc(scores, labels))


def test_the_interval_stays_inside_zero_to_one_and_brackets_the_auc(rng: np.random.Generator) -> None:
    interval = auc_interval(*binormal(9, 9, 0.8, rng))
    assert 0.0 < interval.low < interval.value < interval.high <= 1.0


def test_perfect_separation_of_few_people_is_not_certainty() -> None:
    labels = np.array([False] * 20 + [True] * 5)
    interval = auc_interval(np.arange(25.0), labels)
    assert interval.value == interval.high == 1.0
    assert interval.low == pytest.approx(0.025 ** (1 / 5))  # five independent pairs, all in order
    assert auc_interval(-np.arange(25.0), labels).high == pytest.approx(1.0 - 0.025 ** (1 / 5))


def test_a_constant_score_is_a_coin_for_certain() -> None:
    assert auc_interval(np.zeros(10), np.arange(10) < 4) == Estimate(0.5, 0.5, 0.5)


@pytest.mark.parametrize("labels", [np.zeros(5, dtype=bool), np.ones(5, dtype=bool)])
def test_one_class_has_no_auc(labels: Labels) -> None:
    for statistic in (auc, auc_interval, roc_curve, delong_variance):
        with pytest.raises(UndefinedMetric, match="both classes"):
            statistic(np.arange(5.0), labels)


def test_one_positive_has_an_auc_but_no_variance() -> None:
    labels = np.arange(5) < 1
    assert auc(np.arange(5.0), labels) == 0.0
    with pytest.raises(UndefinedMetric, match="two of each class"):
        auc_interval(np.arange(5.0), labels)


@pytest.mark.slow
def test_logit_interval_covers_the_truth_19_times_in_20(rng: np.random.Generator) -> None:
    intervals = [auc_interval(*binormal(19, 63, 0.757, rng)) for _ in range(4000)]
    coverage = np.mean([i.low <= 0.757 <= i.high for i in intervals])
    assert 0.945 <= coverage <= 0.965  # SCIENCE 4.2 measured 95.5 %


# --- two scores of the same people ------------------------------------------------------------------------------------


def test_a_score_does_not_differ_from_itself(sample: Sample) -> None:
    scores, labels = sample
    same = compare_aucs(scores, 2 * scores + 1, labels)
    assert (same.difference, same.p) == (Estimate(0.0, 0.0, 0.0), 1.0)


def test_paired_variance_is_the_sum_minus_twice_the_covariance(rng: np.random.Generator) -> None:
    first, labels = binormal(30, 70, 0.8, rng)
    second = first + rng.normal(size=100)
    kernels = [(s[labels][:, None] > s[~labels][None, :]).astype(float) for s in (first, second)]
    rows, columns = [np.cov([k.mean(axis=axis) for k in kernels]) for axis in (1, 0)]
    total = rows / 30 + columns / 70
    result = compare_aucs(first, second, labels)
    half = (result.difference.high - result.difference.low) / 2
    assert (half / norm.ppf(0.975)) ** 2 == pytest.approx(total[0, 0] + total[1, 1] - 2 * total[0, 1])
    assert result.p == pytest.approx(compare_aucs(second, first, labels).p)


@pytest.mark.slow
def test_delong_test_errs_one_time_in_20_when_two_scores_are_equally_good(rng: np.random.Generator) -> None:
    p_values = []
    for _ in range(2000):
        first, labels = binormal(40, 80, 0.8, rng)
        second, _ = binormal(40, 80, 0.8, rng)
        p_values.append(compare_aucs(first, second, labels).p)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_a_difference_without_variance_is_absent_not_certain() -> None:
    with pytest.raises(UndefinedMetric, match="without any variance"):
        compare_aucs(np.arange(10.0), np.zeros(10), np.arange(10) >= 6)


def test_holm_multiplies_by_the_number_of_tests_still_open() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


# --- people, not images -----------------------------------------------------------------------------------------------


def test_two_scores_for_one_participant_are_refused_without_naming_anybody() -> None:
    with pytest.raises(UndefinedMetric, match="3 scores for 2 participants") as refused:
        require_one_score_each(["SH-0001", "SH-0002", "SH-0001"])
    assert "SH-" not in str(refused.value)
    require_one_score_each(["SH-0001", "SH-0002"])


def test_a_participant_scores_the_mean_of_the_images_whatever_their_number() -> None:
    people, logits = aggregate_by_participant(np.array([1.0, 5.0, 3.0, 3.0]), ["a", "b", "a", "b"])
    assert people == ["a", "b"]
    assert logits.tolist() == [2.0, 4.0]


# --- threshold and ROC ------------------------------------------------------------------------------------------------


def test_the_area_under_the_curve_is_the_auc(sample: Sample) -> None:
    roc = roc_curve(*sample)
    assert np.trapezoid(roc.sensitivity, 1 - roc.specificity) == pytest.approx(auc(*sample))


def test_every_operating_point_is_what_its_threshold_does(sample: Sample) -> None:
    scores, labels = sample
    roc = roc_curve(scores, labels)
    for threshold, sensitivity, specificity in zip(roc.thresholds, roc.sensitivity, roc.specificity, strict=True):
        assert (scores[labels] >= threshold).mean() == pytest.approx(sensitivity)
        assert (scores[~labels] < threshold).mean() == pytest.approx(specificity)


# --- resampling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(15, 19, 0.544, 0.939), (48, 68, 0.589, 0.801)],
    ids=["proof of concept, exact", "external, Wilson"],
)
def test_the_papers_sensitivities_have_these_intervals(successes: int, n: int, low: float, high: float) -> None:
    interval = proportion(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-4)


def test_average_precision_agrees_with_scikit_learn_with_ties(sample: Sample) -> None:
    probability, labels = sample
    everybody = np.ones((1, 100))
    area = average_precision(probability, labels)(everybody)[0]
    assert area == pytest.approx(sk.average_precision_score(labels, probability))


def test_bootstrap_keeps_the_classes_and_repeats_with_its_seed(sample: Sample) -> None:
    probability, labels = sample
    statistics = {
        "auprc": average_precision(probability, labels),
        "prevalence": lambda weights: weights @ labels / weights.sum(axis=1),
    }
    first, second = (bootstrap(statistics, labels, np.random.default_rng(3), repeats=200) for _ in range(2))
    assert first == second
    assert first["auprc"].low < first["auprc"].value < first["auprc"].high
    assert first["prevalence"].low == pytest.approx(first["prevalence"].high)


def test_bootstrap_interval_of_a_mean_has_the_width_of_theory(rng: np.random.Generator) -> None:
    labels = np.arange(400) < 400
    values = rng.normal(size=400)
    interval = bootstrap({"mean": lambda weights: weights @ values / 400}, labels, rng)["mean"]
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


# --- between sites ----------------------------------------------------------------------------------------------------


def hanley_mcneil(area: float, num_positive: int, num_negative: int) -> Estimate:
    """The interval a reader can give to an AUC that was printed without one. Hanley & McNeil (1982), logit scale."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (num_positive - 1) * (q1 - area**2) + (num_negative - 1) * (q2 - area**2)
    half = norm.ppf(0.975) * np.sqrt(variance / (num_positive * num_negative)) / (area * (1 - area))
    return Estimate(area, float(expit(logit(area) - half)), float(expit(logit(area) + half)))


def test_the_papers_three_aucs_do_not_differ_more_than_chance() -> None:
    sites = [hanley_mcneil(0.827, 101, 256), hanley_mcneil(0.801, 68, 77), hanley_mcneil(0.757, 19, 63)]
    pooled = pool_sites(sites, guarded=False)
    assert pooled.q == pytest.approx(1.12, abs=0.02)
    assert pooled.p == pytest.approx(0.57, abs=0.01)
    assert (pooled.i2, pooled.tau2) == (0.0, 0.0)
    assert pooled.random.value == pytest.approx(0.810, abs=2e-3)
    assert (pooled.random.low, pooled.random.high) == pytest.approx((0.733, 0.869), abs=1e-3)


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


def test_one_site_cannot_be_pooled_and_two_predict_nothing() -> None:
    with pytest.raises(UndefinedMetric, match="two or more"):
        pool_sites([Estimate(0.8, 0.7, 0.9)])
    assert pool_sites([Estimate(0.8, 0.7, 0.87), Estimate(0.82, 0.7, 0.9)]).prediction is None
