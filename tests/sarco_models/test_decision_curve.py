"""Net benefit, against dcurves, its closed forms, and the width that theory gives its band."""

import numpy as np
import pytest

from sarco_models.decision_curve import THRESHOLDS, decision_curve, net_benefit
from sarco_models.errors import UndefinedMetric
from tests.people import LADDER, true_probabilities


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_net_benefit_of_the_ladder_is_that_of_dcurves(rng: np.random.Generator) -> None:
    thresholds = np.array([0.10, 0.25, 0.40, 0.50, 0.60])
    curve = decision_curve(*LADDER, rng, thresholds=thresholds, repeats=50)
    assert curve.net_benefit == pytest.approx([0.418519, 0.327778, 0.211111, 0.133333, 0.108333], abs=1e-6)
    assert curve.treat_all == pytest.approx([0.444444, 0.333333, 0.166667, 0.0, -0.25], abs=1e-6)


def test_a_perfect_score_gains_the_prevalence_and_calling_everybody_nothing_at_the_prevalence(
    rng: np.random.Generator,
) -> None:
    labels = np.arange(40) < 10
    curve = decision_curve(labels.astype(float), labels, rng, thresholds=np.array([0.1, 0.25, 0.5]), repeats=50)
    assert curve.net_benefit == pytest.approx(0.25)
    assert curve.treat_all[1] == pytest.approx(0.0)
    assert curve.needed_to_scan == pytest.approx([1 / (0.25 - curve.treat_all[0]), 4.0, 4.0])


def test_a_score_that_calls_everybody_gains_nothing_by_scanning(rng: np.random.Generator) -> None:
    curve = decision_curve(np.ones(40), np.arange(40) < 10, rng, repeats=50)
    assert curve.net_benefit == pytest.approx(curve.treat_all)
    assert np.isinf(curve.needed_to_scan).all()


def test_a_declared_prevalence_equal_to_the_observed_one_changes_the_band_but_not_the_curve(
    rng: np.random.Generator,
) -> None:
    people = true_probabilities(60, 140, 0.8, rng)
    observed = decision_curve(*people, rng)
    declared = decision_curve(*people, rng, prevalence=0.3)
    assert declared.net_benefit == pytest.approx(observed.net_benefit)
    assert (declared.high - declared.low).mean() < (observed.high - observed.low).mean()
    elsewhere = decision_curve(*people, rng, prevalence=0.1, repeats=50)
    assert elsewhere.treat_all == pytest.approx(0.1 - 0.9 * THRESHOLDS / (1 - THRESHOLDS))


def test_the_band_is_as_wide_as_theory_says(rng: np.random.Generator) -> None:
    probability, labels = true_probabilities(300, 700, 0.8, rng)
    curve = decision_curve(probability, labels, rng, thresholds=np.array([0.3]))
    called = probability >= 0.3
    gain = (called & labels) - 0.3 / 0.7 * (called & ~labels)
    assert curve.high - curve.low == pytest.approx(2 * 1.96 * gain.std() / np.sqrt(1000), rel=0.1)


def test_net_benefit_counts_a_participant_as_often_as_the_resample_does() -> None:
    probability, labels = LADDER
    twice = np.concatenate([probability, probability[:7]]), np.concatenate([labels, labels[:7]])
    weights = np.ones((1, 60))
    weights[0, :7] = 2
    assert net_benefit(*LADDER, 0.3)(weights) == pytest.approx(net_benefit(*twice, 0.3)(np.ones((1, 67))))


def test_one_class_or_a_threshold_of_one_has_no_decision_curve(rng: np.random.Generator) -> None:
    with pytest.raises(UndefinedMetric, match="same label"):
        decision_curve(np.full(5, 0.2), np.zeros(5, dtype=bool), rng)
    with pytest.raises(UndefinedMetric, match="strictly"):
        decision_curve(*LADDER, rng, thresholds=np.array([0.5, 1.0]))
