"""The smooth calibration curve, against statsmodels' lowess and truths that are known because we made them."""

import numpy as np
import pytest
from scipy.special import expit, logit

from sarco_models.calibration_curve import (
    SPAN,
    calibration_curve,
    ici_by_chance,
    integrated_calibration_index,
    local_regression,
)
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Scores
from tests.people import LADDER


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_the_curve_of_the_ladder_is_the_lowess_of_statsmodels() -> None:
    probability, labels = LADDER
    found = local_regression(probability, labels.astype(float), probability[[0, 15, 30, 45, 59]])
    assert found == pytest.approx([0.230115, 0.356126, 0.480359, 0.653353, 0.880289], abs=1e-6)


def test_each_point_is_a_weighted_straight_line_through_its_neighbours(rng: np.random.Generator) -> None:
    x, y = rng.random(80), rng.random(80)
    for at in (0.1, 0.5, 0.93):
        distance = np.abs(x - at)
        reach = np.sort(distance)[int(SPAN * 80) - 1]
        weight = np.where(distance < reach, (1 - (distance / reach) ** 3) ** 3, 0.0)
        line = np.polynomial.Polynomial.fit(x, y, 1, w=np.sqrt(weight))
        assert local_regression(x, y, np.array([at]))[0] == pytest.approx(line(at))


def test_a_straight_line_is_kept_and_ties_are_averaged() -> None:
    x = np.linspace(0.1, 0.9, 50)
    assert local_regression(x, 0.2 + 0.5 * x, x) == pytest.approx(0.2 + 0.5 * x)
    tied, y = np.repeat([0.2, 0.8], 20), np.tile([0.0, 1.0, 1.0, 1.0], 10)
    assert local_regression(tied, y, np.array([0.2, 0.8]), span=0.3) == pytest.approx([0.75, 0.75])


def cohort(n: int, slope: float, rng: np.random.Generator) -> tuple[Scores, Scores, np.ndarray]:
    """Predicted and true probability, and labels that follow the true one."""
    probability = expit(rng.normal(-1.0, 1.2, n))
    truth = expit(slope * logit(probability) + 0.4 * (slope != 1.0))
    return probability, truth, rng.random(n) < truth


def test_the_index_finds_a_known_distance_and_true_probabilities_near_none(rng: np.random.Generator) -> None:
    for slope in (1.0, 0.6):
        probability, truth, labels = cohort(6_000, slope, rng)
        curve = calibration_curve(probability, labels, rng, repeats=5)
        assert curve.ici.value == pytest.approx(np.abs(truth - probability).mean(), abs=0.02)
        inside = (curve.predicted > 0.05) & (curve.predicted < 0.85)
        expected = np.interp(curve.predicted, np.sort(probability), np.sort(truth))
        assert curve.observed[inside] == pytest.approx(expected[inside], abs=0.05)


def test_the_band_holds_the_truth_and_the_interval_its_estimate(rng: np.random.Generator) -> None:
    held = []
    for _ in range(20):
        probability, truth, labels = cohort(300, 0.6, rng)
        curve = calibration_curve(probability, labels, rng, repeats=300)
        expected = np.interp(curve.predicted, np.sort(probability), np.sort(truth))
        held.append(np.mean((curve.low <= expected) & (expected <= curve.high)))
        assert curve.ici.low <= curve.ici.value <= curve.ici.high
        assert ((curve.low <= curve.observed + 0.02) & (curve.observed - 0.02 <= curve.high)).all()
    assert np.mean(held) > 0.85


def test_chance_alone_gives_the_index_that_it_is_said_to_give(rng: np.random.Generator) -> None:
    for n in (82, 357):
        found, said = [], []
        for _ in range(40):
            probability, _, labels = cohort(n, 1.0, rng)
            found.append(integrated_calibration_index(probability, labels)(np.ones((1, n)))[0])
            said.append(ici_by_chance(probability, rng))
        assert np.mean(said) == pytest.approx(np.mean(found), rel=0.15)
    assert np.mean(said) < 0.035  # at 357 participants; at 82 about .055


def test_a_curve_on_a_grid_has_the_index_of_the_curve_at_everybody(rng: np.random.Generator) -> None:
    probability, _, labels = cohort(1000, 0.6, rng)
    exact = np.abs(local_regression(probability, labels.astype(float), probability) - probability).mean()
    assert integrated_calibration_index(probability, labels)(np.ones((1, 1000)))[0] == pytest.approx(exact, abs=1e-4)


def test_few_different_probabilities_or_one_class_have_no_curve(rng: np.random.Generator) -> None:
    with pytest.raises(UndefinedMetric, match="4 different probabilities"):
        calibration_curve(np.tile([0.1, 0.2, 0.3, 0.4], 5), np.arange(20) < 8, rng)
    with pytest.raises(UndefinedMetric, match="same label"):
        calibration_curve(np.linspace(0, 1, 20), np.zeros(20, dtype=bool), rng)
