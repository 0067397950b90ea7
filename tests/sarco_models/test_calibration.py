"""Probabilities that mean what they say, and the summary that leaves out what has no value."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from sarco_models.calibration import brier, brier_scaled, calibration, calibration_bins, correct_prior, summarize
from sarco_models.metrics import Labels, Scores

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


# --- calibration ------------------------------------------------------------------------------------------------------


def test_brier_agrees_with_scikit_learn_and_knowing_nothing_scales_to_zero(
    sample: Sample,
) -> None:
    probability, labels = sample
    assert brier(probability, labels)(np.ones((1, 100)))[0] == pytest.approx(sk.brier_score_loss(labels, probability))
    assert brier_scaled(np.full(100, labels.mean()), labels) == pytest.approx(0.0)
    assert brier_scaled(labels.astype(float), labels) == 1.0


def test_slope_agrees_with_unpenalised_logistic_regression(rng: np.random.Generator) -> None:
    logits = rng.normal(size=400)
    labels = rng.random(400) < expit(0.5 * logits + 0.3)
    fit = calibration(expit(logits), labels)
    reference = LogisticRegression(C=np.inf).fit(logits[:, None], labels)
    assert fit.slope is not None
    assert fit.slope.value == pytest.approx(reference.coef_[0, 0], abs=1e-3)


def test_probabilities_that_are_true_have_intercept_0_slope_1_and_ratio_1(rng: np.random.Generator) -> None:
    probability = expit(rng.normal(size=20_000) - 1)
    fit = calibration(probability, rng.random(20_000) < probability)
    assert fit.slope is not None
    for estimate, ideal in ((fit.intercept, 0.0), (fit.slope, 1.0), (fit.expected_over_observed, 1.0)):
        assert estimate.low < ideal < estimate.high


def test_prior_correction_undoes_training_at_parity(rng: np.random.Generator) -> None:
    logits, labels = binormal(2_830, 7_170, 0.8, rng)
    separation = np.sqrt(2) * norm.ppf(0.8)
    at_parity = separation * (logits - separation / 2)  # the true log odds when the classes are equally frequent
    before, after = (calibration(expit(x), labels) for x in (at_parity, correct_prior(at_parity, 0.283)))
    assert correct_prior(np.zeros(1), 0.283)[0] == pytest.approx(-0.93, abs=5e-3)
    assert before.expected_over_observed.value > 1.3
    assert after.expected_over_observed.low < 1.0 < after.expected_over_observed.high
    assert np.allclose(correct_prior(at_parity, 0.4, trained_at=0.4), at_parity)


def test_a_score_that_separates_or_is_constant_has_no_slope() -> None:
    labels = np.arange(20) < 8
    assert calibration(np.where(labels, 0.9, 0.1) + np.arange(20) / 1000, labels).slope is None
    assert calibration(np.full(20, 0.4), labels).slope is None
    assert calibration(np.full(20, 0.4), labels).intercept.value == pytest.approx(0.0, abs=1e-9)


def test_probabilities_of_zero_and_one_do_not_break_calibration() -> None:
    labels = np.array([True, False, True, False, True, False])
    fit = calibration(np.array([1.0, 0.0, 0.0, 1.0, 0.8, 0.3]), labels)
    assert np.isfinite(fit.intercept.value)


def test_calibration_bins_hold_everybody_once_in_order(sample: Sample) -> None:
    bins = calibration_bins(*sample, num_bins=7)
    assert sum(b.count for b in bins) == 100
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)


# --- all of it --------------------------------------------------------------------------------------------------------


def test_the_summary_leaves_out_what_one_class_cannot_say(sample: Sample, rng: np.random.Generator) -> None:
    probability, labels = sample
    full = summarize(probability, labels, 0.4, rng)
    assert {"auc", "auprc", "f1_macro", "brier", "calibration_slope", "sensitivity"} <= set(full)
    assert all(e.low <= e.value <= e.high for e in full.values())
    negatives_only = summarize(probability[~labels], labels[~labels], 0.4, rng)
    assert set(negatives_only) >= {"specificity", "accuracy", "brier"}
    assert not {"auc", "sensitivity", "f1_macro", "calibration_slope"} & set(negatives_only)
