"""Ranking statistics, each against an identity, an independent implementation or a published number."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import mannwhitneyu, norm
from sklearn import metrics as sk

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import (
    Estimate,
    Labels,
    ParticipantScores,
    area_under_roc,
    auc,
    auc_estimate,
    auc_interval,
    average_precision,
    compare_aucs,
    compare_family,
    delong_variance,
    holm,
    roc_curve,
)
from tests.people import LADDER, Sample, binormal, named


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


def test_a_coordinator_makes_the_sites_own_interval_of_what_the_site_returns(sample: Sample) -> None:
    assert auc_estimate(auc(*sample), delong_variance(*sample), pairs=35) == auc_interval(*sample)
    apart = np.arange(20.0), np.arange(20) >= 12
    assert auc_estimate(1.0, delong_variance(*apart), pairs=8) == auc_interval(*apart)


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


def test_the_delong_test_of_the_ladder_is_that_of_mlstatkit() -> None:
    probability, labels = LADDER
    k = np.arange(60)
    found = compare_aucs(probability, ((k * 31) % 60 + k) / 120, labels)
    assert (auc(*LADDER), found.difference.value) == pytest.approx((0.706667, 0.056667), abs=1e-6)
    assert found.p == pytest.approx(0.229479, abs=1e-6)
    half = (found.difference.high - found.difference.low) / 2
    assert (half / norm.ppf(0.975)) ** 2 == pytest.approx(0.0022236270753512146)


def test_a_family_is_tested_on_the_same_people_and_adjusted_once(rng: np.random.Generator) -> None:
    ours = named(binormal(40, 80, 0.85, rng))
    others = {name: ours.mapped(lambda s, of=noise: s + rng.normal(0, of, 120)) for name, noise in (("a", 1), ("b", 3))}
    late = np.arange(120) >= 60
    others["b"] = ParticipantScores.joined([others["b"].only(late), others["b"].only(~late)])
    found = compare_family(ours, others)
    assert list(found) == ["a", "b"]
    assert found["a"].p == compare_aucs(ours.scores, others["a"].scores, ours.labels).p
    assert found["b"].p == compare_aucs(ours.scores, ours.same_people(others["b"]).scores, ours.labels).p
    assert [c.p_holm for c in found.values()] == holm([c.p for c in found.values()])
    with pytest.raises(UndefinedMetric, match="same people"):
        compare_family(ours, {"fewer": ours.only(np.arange(120) > 0)})


def test_holm_multiplies_by_the_number_of_tests_still_open() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # statsmodels


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


# --- ready to be resampled --------------------------------------------------------------------------------------------


def test_weighted_auc_and_average_precision_agree_with_scikit_learn_with_ties(
    sample: Sample, rng: np.random.Generator
) -> None:
    probability, labels = sample
    weights = rng.integers(0, 4, size=(5, 100)).astype(float)
    weights[0] = 1.0
    for ours, theirs in (
        (area_under_roc(probability, labels), sk.roc_auc_score),
        (average_precision(probability, labels), sk.average_precision_score),
    ):
        expected = [theirs(labels, probability, sample_weight=w) for w in weights]
        assert ours(weights) == pytest.approx(expected, abs=1e-12)


def test_a_resample_of_one_class_has_no_auc(sample: Sample) -> None:
    probability, labels = sample
    one_class = (~labels)[None, :].astype(float)
    assert np.isnan(area_under_roc(probability, labels)(one_class))
    assert np.isnan(average_precision(probability, labels)(one_class))
