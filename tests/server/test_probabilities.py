"""Curves of probabilities are those of the statistics, averaged over seeds."""

import numpy as np
import pytest

from sarco_models.calibration_curve import calibration_curve
from sarco_models.scores import ParticipantScores
from server.probabilities import decision_figure, smooth_calibration
from server.results import Meta, Results, Row, ScoreSet


def people(seed: int, n: int = 120) -> ScoreSet:
    rng = np.random.default_rng(seed)
    probability = rng.random(n)
    labels = rng.random(n) < probability
    return ScoreSet(ParticipantScores(tuple(map(str, range(n))), probability, labels), seed)


def test_one_seeds_smooth_curve_is_the_statistic_itself() -> None:
    held = people(1)
    found = smooth_calibration([held])
    curve = calibration_curve(held.probability, held.labels, np.random.default_rng(1), repeats=500)
    assert found is not None
    at, observed, low, high = found
    assert observed == pytest.approx(np.interp(at, curve.predicted, curve.observed))
    assert (low <= high).all()


def test_several_seeds_are_averaged_where_all_have_people() -> None:
    sets = [people(1), people(2)]
    found = smooth_calibration(sets)
    assert found is not None
    assert found[0].min() >= max(held.probability.min() for held in sets)
    assert found[0].max() <= min(held.probability.max() for held in sets)


def test_a_constant_score_has_no_smooth_curve() -> None:
    held = people(1)
    constant = ParticipantScores(held.people.ids, np.full(120, 0.3), held.labels)
    assert smooth_calibration([ScoreSet(constant)]) is None


def test_net_benefit_is_drawn_beside_everybody_and_nobody() -> None:
    rows = (Row(arm="federated", seed=1, metric="auc", value=0.8, n=120),)
    figure = decision_figure(Results(Meta(), rows, {("federated", 1, "central"): people(1)}))
    assert figure is not None
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["Federated", "Everybody", "Nobody"]  # type: ignore[union-attr]
