"""Thresholds and the calls they make: the best of all, never tested on those who chose it, equal to scikit-learn's."""

from functools import partial

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sk

from sarco_models.decisions import (
    FrozenThreshold,
    balanced_accuracy,
    choose_threshold,
    confusion,
    figures_of_merit,
    proportions,
)
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import bootstrap
from sarco_models.metrics import roc_curve
from tests.people import Sample, binormal, named, true_probabilities


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


@pytest.mark.parametrize("cost_ratio", [0.5, 1.0, 4.0])
def test_the_cost_rule_has_the_smallest_expected_cost_of_all_thresholds(sample: Sample, cost_ratio: float) -> None:
    scores, labels = sample
    threshold = choose_threshold(roc_curve(scores, labels), "cost", cost_ratio=cost_ratio, prevalence=0.2)

    def cost(at: float) -> float:
        missed, alarmed = (scores[labels] < at).mean(), (scores[~labels] >= at).mean()
        return float(0.2 * cost_ratio * missed + 0.8 * alarmed)

    assert cost(threshold) == pytest.approx(min(cost(at) for at in np.unique(scores)[1:]))


def test_among_true_probabilities_the_cost_rule_finds_the_threshold_of_theory(rng: np.random.Generator) -> None:
    probability, labels = true_probabilities(30_000, 70_000, 0.8, rng)
    for cost_ratio in (1.0, 4.0):
        threshold = choose_threshold(roc_curve(probability, labels), "cost", cost_ratio=cost_ratio, prevalence=0.3)
        assert threshold == pytest.approx(1 / (1 + cost_ratio), abs=0.03)


def test_equal_costs_of_equal_classes_are_youdens_rule(sample: Sample) -> None:
    roc = roc_curve(*sample)
    assert choose_threshold(roc, "cost", cost_ratio=1.0, prevalence=0.5) == choose_threshold(roc, "youden")
    with pytest.raises(UndefinedMetric, match="needs the prevalence"):
        choose_threshold(roc, "cost")


def test_a_frozen_threshold_refuses_the_people_that_it_was_chosen_on(sample: Sample) -> None:
    people = named(sample)
    training, test = (people.only(np.arange(100) % 2 == part) for part in (0, 1))
    frozen = FrozenThreshold.on(training)
    assert frozen.value == choose_threshold(roc_curve(training.scores, training.labels))
    assert frozen.calls(test) == confusion(test.scores, test.labels, frozen.value)
    with pytest.raises(UndefinedMetric, match="50 of 100 participants helped") as refused:
        frozen.calls(people)
    assert "p1" not in str(refused.value) + repr(frozen)
    by_cost = FrozenThreshold.on(training, partial(choose_threshold, rule="cost", cost_ratio=9.0, prevalence=0.3))
    assert by_cost.value < frozen.value


@pytest.mark.slow
def test_a_threshold_chosen_on_the_test_people_flatters_itself_as_much_as_measured(rng: np.random.Generator) -> None:
    """SCIENCE I14: at 19 / 63 and AUC .757 the same-data Youden index is .471, the true one .378."""
    flattered, honest = [], []
    for _ in range(1500):
        chosen, fresh = binormal(19, 63, 0.757, rng), binormal(2000, 2000, 0.757, rng)
        threshold = choose_threshold(roc_curve(*chosen))
        for found, (scores, labels) in ((flattered, chosen), (honest, fresh)):
            found.append(2 * float(balanced_accuracy(confusion(scores, labels, threshold))) - 1)
    assert np.mean(flattered) == pytest.approx(0.471, abs=0.015)
    assert np.mean(honest) < 0.38


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
