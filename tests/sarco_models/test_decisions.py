"""Thresholds and the calls they make: the best of all, the same from histograms, equal to scikit-learn's numbers."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics as sk

from sarco_models.decisions import (
    ScoreHistogram,
    choose_threshold,
    confusion,
    figures_of_merit,
    proportions,
)
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import Labels, Scores, auc, bootstrap, proportion, roc_curve

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


# --- threshold --------------------------------------------------------------------------------------------------------


def test_youden_is_the_best_of_all_thresholds_and_nobodys_own_score(sample: Sample) -> None:
    scores, labels = sample
    threshold = choose_threshold(roc_curve(scores, labels))

    def youden(at: float) -> float:
        return float((scores[labels] >= at).mean() + (scores[~labels] < at).mean() - 1)

    assert youden(threshold) == pytest.approx(max(youden(at) for at in scores))
    assert threshold not in scores


def test_a_wanted_sensitivity_is_reached_at_the_highest_threshold_that_does(sample: Sample) -> None:
    scores, labels = sample
    roc = roc_curve(scores, labels)
    threshold = choose_threshold(roc, "sensitivity", min_sensitivity=0.9)
    assert (scores[labels] >= threshold).mean() >= 0.9
    assert all((scores[labels] >= higher).mean() < 0.9 for higher in roc.thresholds if higher > threshold)


def test_a_constant_score_has_no_threshold() -> None:
    with pytest.raises(UndefinedMetric, match="same score"):
        choose_threshold(roc_curve(np.full(6, 0.3), np.arange(6) < 3))


def test_merged_histograms_are_the_histogram_of_the_pooled_people(sample: Sample) -> None:
    probability, labels = sample
    merged = ScoreHistogram.of(probability[:40], labels[:40]) + ScoreHistogram.of(probability[40:], labels[40:])
    pooled = ScoreHistogram.of(probability, labels)
    assert np.array_equal(merged.positives, pooled.positives)
    assert np.array_equal(merged.negatives, pooled.negatives)
    assert pooled.participants()[1].sum() == labels.sum()


def test_histogram_auc_is_the_auc_up_to_half_the_pairs_that_share_a_bin(rng: np.random.Generator) -> None:
    for num_bins, tolerance in ((20, 0.01), (100, 0.002)):
        for _ in range(20):
            scores, labels = binormal(100, 200, 0.82, rng)
            probability = expit(scores - 1)
            histogram = ScoreHistogram.of(probability, labels, num_bins=num_bins)
            bound = (histogram.positives * histogram.negatives).sum() / (100 * 200) / 2
            error = abs(auc(*histogram.participants()) - auc(probability, labels))
            assert error <= min(bound, tolerance)


def test_a_threshold_frozen_from_the_histogram_divides_the_real_scores_alike(rng: np.random.Generator) -> None:
    scores, labels = binormal(60, 140, 0.8, rng)
    probability = expit(scores - 1)
    binned = ScoreHistogram.of(probability, labels).participants()
    threshold = choose_threshold(roc_curve(*binned))
    exact, coarse = confusion(probability, labels, threshold), confusion(*binned, threshold)
    assert exact == coarse


def test_histograms_of_different_bins_do_not_add(sample: Sample) -> None:
    with pytest.raises(UndefinedMetric, match="20 and 50 bins"):
        ScoreHistogram.of(*sample, num_bins=20) + ScoreHistogram.of(*sample, num_bins=50)


def test_a_probability_of_one_falls_into_the_last_bin() -> None:
    histogram = ScoreHistogram.of(np.array([0.0, 1.0]), np.array([False, True]), num_bins=10)
    assert histogram.positives[-1] == histogram.negatives[0] == 1


# --- at a threshold ---------------------------------------------------------------------------------------------------


def test_calls_and_figures_of_merit_agree_with_scikit_learn(sample: Sample, rng: np.random.Generator) -> None:
    probability, labels = sample
    called = probability >= 0.4
    merit = bootstrap(figures_of_merit(probability, labels, 0.4), labels, rng, repeats=50)
    shares = proportions(confusion(probability, labels, 0.4))
    assert merit["f1_positive"].value == pytest.approx(sk.f1_score(labels, called))
    assert merit["f1_macro"].value == pytest.approx(sk.f1_score(labels, called, average="macro"))
    assert merit["mcc"].value == pytest.approx(sk.matthews_corrcoef(labels, called))
    assert merit["balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(labels, called))
    assert shares["sensitivity"].value == pytest.approx(sk.recall_score(labels, called))
    assert shares["ppv"].value == pytest.approx(sk.precision_score(labels, called))
    assert shares["accuracy"].value == pytest.approx(sk.accuracy_score(labels, called))


def test_tables_of_two_sites_add_up_to_the_table_of_all(sample: Sample) -> None:
    p, y = sample
    assert confusion(p[:40], y[:40], 0.4) + confusion(p[40:], y[40:], 0.4) == confusion(p, y, 0.4)


def test_a_share_of_nobody_is_left_out() -> None:
    shares = proportions(confusion(np.zeros(4), np.arange(4) < 2, 0.5))
    assert "ppv" not in shares
    assert shares["sensitivity"].value == 0.0
    with pytest.raises(UndefinedMetric):
        proportion(0, 0)
