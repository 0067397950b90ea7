"""Probabilities that mean what they say, and the summary that leaves out what has no value."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from sarco_models.calibration import (
    brier,
    brier_scaled,
    calibration,
    calibration_bins,
    correct_prior,
    recalibrate,
    summarize,
)
from sarco_models.errors import UndefinedMetric
from tests.people import Sample, binormal, true_probabilities


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
    everybody = np.ones((1, 100))
    assert brier_scaled(np.full(100, labels.mean()), labels)(everybody) == pytest.approx(0.0)
    assert brier_scaled(labels.astype(float), labels)(everybody) == 1.0
    knowing_nothing = sk.brier_score_loss(labels, np.full(100, 0.35))
    skill = 1 - sk.brier_score_loss(labels, probability) / knowing_nothing
    assert brier_scaled(probability, labels)(everybody) == pytest.approx(skill)
    assert np.isnan(brier_scaled(probability, labels)((~labels)[None, :].astype(float)))


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


def test_down_sampling_to_parity_costs_calibration_and_the_prior_gives_it_back(rng: np.random.Generator) -> None:
    """SCIENCE 4.4: E/O 1.59 and Brier .193 become 1.02 and .161, as without down-sampling (.160)."""
    found: dict[str, list[tuple[float, float]]] = {"parity": [], "corrected": [], "all": []}
    for _ in range(20):
        logits, labels = binormal(283, 717, 0.81, rng)
        people, test = np.arange(1000) % 2 == 0, np.arange(1000) % 2 == 1
        kept = np.concatenate(
            [np.flatnonzero(people & labels), rng.permutation(np.flatnonzero(people & ~labels))[:142]]
        )
        models = {name: LogisticRegression(C=np.inf).fit(logits[at][:, None], labels[at])
                  for name, at in (("parity", kept), ("all", people))}  # fmt: skip
        of = {name: model.predict_proba(logits[test][:, None])[:, 1] for name, model in models.items()}
        of["corrected"] = expit(correct_prior(logit(of["parity"]), 0.283))
        for name, probability in of.items():
            score = float(brier(probability, labels[test])(np.ones((1, 500)))[0])
            found[name].append((calibration(probability, labels[test]).expected_over_observed.value, score))
    ratio, score = ({name: np.mean(pairs, axis=0)[k] for name, pairs in found.items()} for k in (0, 1))
    assert ratio["parity"] == pytest.approx(1.5, abs=0.12)
    assert (ratio["corrected"], ratio["all"]) == pytest.approx((1.0, 1.0), abs=0.05)
    assert score["parity"] > score["all"] + 0.02
    assert score["corrected"] == pytest.approx(score["all"], abs=0.002)


def test_wald_intervals_of_slope_and_intercept_have_the_width_of_the_bootstrap(rng: np.random.Generator) -> None:
    probability, labels = true_probabilities(101, 256, 0.8, rng)
    fit = calibration(probability, labels)
    refits = []
    for _ in range(150):
        again = rng.integers(357, size=357)
        refits.append(calibration(probability[again], labels[again]))
    assert fit.slope is not None
    for estimate, values in (
        (fit.intercept, [f.intercept.value for f in refits]),
        (fit.slope, [f.slope.value for f in refits if f.slope]),
        (fit.expected_over_observed, [f.expected_over_observed.value for f in refits]),
    ):
        assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * np.std(values), rel=0.25)


def test_recalibration_is_logistic_regression_and_makes_probabilities_true(rng: np.random.Generator) -> None:
    logits, labels = binormal(3000, 7000, 0.8, rng)
    rule = recalibrate(logits, labels)
    reference = LogisticRegression(C=np.inf).fit(logits[:, None], labels)
    assert (rule.slope, rule.intercept) == pytest.approx((reference.coef_[0, 0], reference.intercept_[0]), abs=5e-3)
    fit = calibration(rule(logits), labels)
    assert fit.slope is not None
    assert (fit.intercept.value, fit.slope.value) == pytest.approx((0.0, 1.0), abs=5e-3)


def test_recalibration_of_people_who_are_separated_stays_finite(rng: np.random.Generator) -> None:
    rule = recalibrate(np.arange(20.0), np.arange(20) >= 12)
    assert 0.0 < rule(np.array([0.0]))[0] < 0.2
    assert 0.8 < rule(np.array([19.0]))[0] < 1.0
    for logits, labels in ((np.zeros(6), np.arange(6) < 3), (np.arange(6.0), np.zeros(6, dtype=bool))):
        with pytest.raises(UndefinedMetric, match="both classes and different logits"):
            recalibrate(logits, labels)


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


def test_the_summary_holds_every_number_of_section_4_2_with_its_interval(sample: Sample) -> None:
    found = summarize(*sample, 0.4, np.random.default_rng(1))
    assert set(found) == {
        "auc", "auprc", "sensitivity", "specificity", "accuracy", "ppv", "npv", "f1_positive", "f1_macro",
        "balanced_accuracy", "mcc", "brier", "brier_scaled", "calibration_intercept", "calibration_slope",
        "expected_over_observed", "ici",
    }  # fmt: skip
    assert all(e.low <= e.value <= e.high for e in found.values())
    assert found == summarize(*sample, 0.4, np.random.default_rng(1))


def test_the_summary_leaves_out_what_one_class_cannot_say(sample: Sample, rng: np.random.Generator) -> None:
    probability, labels = sample
    negatives_only = summarize(probability[~labels], labels[~labels], 0.4, rng)
    assert set(negatives_only) >= {"specificity", "accuracy", "brier"}
    assert not {"auc", "sensitivity", "f1_macro", "calibration_slope"} & set(negatives_only)


def test_three_patients_have_no_interval_for_what_a_resample_may_lack(rng: np.random.Generator) -> None:
    probability, labels = true_probabilities(3, 30, 0.9, rng)
    found = summarize(probability, labels, 0.1, rng)
    assert "auc" in found
    assert "auprc" not in found  # 5 % of the resamples hold no patient
