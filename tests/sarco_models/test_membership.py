"""Membership inference: nothing found where there is nothing, the optimum where it is known, the limits of privacy."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from sarco_models.errors import UndefinedMetric
from sarco_models.membership import (
    FEW_SHADOWS,
    Leakage,
    area,
    bound,
    confidence,
    counted,
    gaussian_bound,
    likelihood_ratio,
    measure,
    members_found,
    offline_ratio,
    usable_fpr,
)
from sarco_models.metrics import auc

Array = NDArray[np.float64]


def shadow_models(
    rng: np.random.Generator, models: int, gain: Array, spread: float = 1.0
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Confidences that are Gaussian around a level of each person's own, ``gain`` higher where the person was inside.

    Returns:
        Of the attacked model; of the shadow models; who was inside these; who was inside the attacked one.
    """
    people = len(gain)
    level = rng.normal(0, 2, people)
    inside = rng.permuted(np.arange(models)[:, None] < np.full(people, models // 2), axis=0)
    shadows = level + gain * inside + spread * rng.normal(size=(models, people))
    member = rng.random(people) < 0.5
    return level + gain * member + spread * rng.normal(size=people), shadows, inside, member


# --- measuring --------------------------------------------------------------------------------------------------------


def test_without_a_difference_the_interval_of_the_auc_holds_one_half_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    held = [found.low <= 0.5 <= found.high for found in (_null(rng).auc for _ in range(600))]
    assert 0.93 < np.mean(held) < 0.975


def _null(rng: np.random.Generator) -> Leakage:
    return measure(rng.normal(size=40), rng.normal(size=25))


@pytest.mark.parametrize("others", [5, 20, 99, 150, 199, 450])
def test_a_useless_attack_finds_as_many_members_as_the_false_positives_that_it_reports(others: int) -> None:
    rng = np.random.default_rng(others)
    draws = 1500
    found = [members_found(rng.normal(size=200), rng.normal(size=others))[0] / 200 for _ in range(draws)]
    expected = usable_fpr(others)
    assert abs(np.mean(found) - expected) < 4 * np.std(found) / np.sqrt(draws)


def test_one_percent_is_reached_from_99_others_on_and_never_passed_there() -> None:
    assert usable_fpr(99) == 0.01
    assert usable_fpr(20) == pytest.approx(1 / 21)
    assert usable_fpr(98) == pytest.approx(1 / 99)
    assert all(0.005 < usable_fpr(n) <= 0.01 for n in range(99, 3000))


def test_members_found_are_those_above_the_threshold_and_a_tie_is_not_above() -> None:
    others = np.array([0.0, 1.0, 2.0])
    assert members_found(np.array([2.0, 2.0, 3.0, -1.0]), others) == (1, 0.25)
    assert members_found(np.array([2.0, 1.5, 3.0, -1.0]), others, fpr=0.5) == (3, 0.5)


def test_perfect_separation_is_found_and_told_as_such() -> None:
    found = measure(np.arange(10.0, 40.0), np.arange(0.0, 10.0))
    assert (found.auc.value, found.tpr.value, found.balanced_accuracy) == (1.0, 1.0, 1.0)
    assert found.auc.low < 1.0
    assert found.tpr.low == pytest.approx(0.025 ** (1 / 30))


def test_balanced_accuracy_is_the_best_over_all_thresholds() -> None:
    rng = np.random.default_rng(3)
    members, others = rng.normal(0.7, 1, 60), rng.normal(0, 1, 45)
    tried = [0.5 * ((members >= t).mean() + (others < t).mean()) for t in np.r_[members, others]]
    assert measure(members, others).balanced_accuracy == pytest.approx(max(tried))


def test_an_attack_on_too_few_people_or_without_numbers_has_no_value() -> None:
    with pytest.raises(UndefinedMetric, match="1 members and 9 others"):
        measure(np.zeros(1), np.arange(9.0))
    with pytest.raises(UndefinedMetric, match="1 of 5 scores"):
        measure(np.array([1.0, np.nan, 2.0]), np.array([0.0, 3.0]))


def test_confidence_falls_as_the_loss_rises_whatever_the_label() -> None:
    logits, labels = np.array([3.0, -3.0, 0.5, -40.0]), np.array([True, True, False, False])
    loss = -np.log(np.where(labels, expit(logits), expit(-logits)))
    assert np.allclose(np.log1p(np.exp(-confidence(logits, labels))), loss)
    assert confidence(logits, labels)[3] == 40.0  # a probability has long been rounded to 1 there


def test_intervals_from_counts_cover_the_truth_where_scores_are_exponential() -> None:
    rng = np.random.default_rng(7)
    truth = 2 / 3  # of two exponentials whose means are as 2 to 1
    held = []
    for _ in range(400):
        members, others = rng.exponential(2, 50), rng.exponential(1, 40)
        shown, share = counted(area(members, others), 7, 50, 40)
        held.append(shown.low <= truth <= shown.high)
    assert 0.92 < np.mean(held) < 0.98
    assert share.low == pytest.approx(0.05819, abs=1e-5)
    assert share.high == pytest.approx(0.26739, abs=1e-5)


def test_the_interval_from_counts_is_delongs_within_a_fifth() -> None:
    rng = np.random.default_rng(5)
    members, others = rng.normal(0.5, 1, 80), rng.normal(0, 1, 60)
    exact = measure(members, others).auc
    shown, _ = counted(exact.value, 3, 80, 60)
    assert (shown.high - shown.low) / (exact.high - exact.low) == pytest.approx(1, abs=0.2)


# --- the likelihood-ratio attack --------------------------------------------------------------------------------------


def test_lira_finds_what_the_neyman_pearson_test_finds_where_the_likelihoods_are_known() -> None:
    rng = np.random.default_rng(11)
    gain = np.full(4000, 1.5)
    target, shadows, inside, member = shadow_models(rng, 256, gain)
    scores = likelihood_ratio(target, shadows, inside)
    optimum = norm.cdf(1.5 / np.sqrt(2))
    assert auc(scores, member) == pytest.approx(optimum, abs=0.015)


def test_lira_weighs_people_by_how_much_they_are_remembered() -> None:
    """A common threshold on the true log ratio is the best test of people who differ; LiRA comes close to it."""
    rng = np.random.default_rng(12)
    gain = rng.choice([0.0, 3.0], 4000)
    people = len(gain)
    level = rng.normal(0, 2, people)
    inside = rng.random((256, people)) < 0.5
    shadows = level + gain * inside + rng.normal(size=inside.shape)
    member = rng.random(people) < 0.5
    target = level + gain * member + rng.normal(size=people)
    best = gain * (target - level) - gain**2 / 2
    found = auc(likelihood_ratio(target, shadows, inside), member)
    assert found == pytest.approx(auc(best, member), abs=0.015)
    assert found > auc(target, member) + 0.1  # the loss threshold is blind to whom it looks at


def test_lira_of_known_means_and_spread_is_the_log_ratio_itself() -> None:
    spread = np.array([-1.0, 1.0]) * np.sqrt(0.5)  # the standard deviation of these two is 1
    shadows = np.concatenate([4 + spread, 1 + spread])[:, None].repeat(3, axis=1)
    inside = np.array([True, True, False, False])[:, None].repeat(3, axis=1)
    target = np.array([0.0, 2.5, 9.0])
    exact = 0.5 * ((target - 1) ** 2 - (target - 4) ** 2)
    assert np.allclose(likelihood_ratio(target, shadows, inside, "person"), exact, atol=1e-12)
    assert np.allclose(offline_ratio(target, shadows, inside, "person"), -norm.logsf(target, 1, 1), atol=1e-12)


def test_few_shadow_models_share_one_variance_and_gain_by_it() -> None:
    rng = np.random.default_rng(13)
    target, shadows, inside, member = shadow_models(rng, 12, np.full(3000, 1.5))
    shared = likelihood_ratio(target, shadows, inside)
    assert np.array_equal(shared, likelihood_ratio(target, shadows, inside, "global"))
    assert auc(shared, member) > auc(likelihood_ratio(target, shadows, inside, "person"), member)
    many = shadow_models(rng, 4 * FEW_SHADOWS, np.full(50, 1.5))
    assert np.array_equal(likelihood_ratio(*many[:3]), likelihood_ratio(*many[:3], "person"))


def test_where_nobody_is_remembered_neither_form_of_lira_finds_anybody() -> None:
    rng = np.random.default_rng(14)
    target, shadows, inside, member = shadow_models(rng, 64, np.zeros(4000))
    for attack in (likelihood_ratio, offline_ratio):
        assert auc(attack(target, shadows, inside), member) == pytest.approx(0.5, abs=0.03)


def test_offline_lira_finds_members_from_models_without_them_and_is_no_better_than_online() -> None:
    rng = np.random.default_rng(15)
    target, shadows, inside, member = shadow_models(rng, 128, rng.choice([0.5, 2.5], 4000))
    online, offline = (auc(a(target, shadows, inside), member) for a in (likelihood_ratio, offline_ratio))
    assert 0.7 < offline < online
    blind = np.where(inside, np.nan, shadows)
    assert np.array_equal(offline_ratio(target, blind, inside), offline_ratio(target, shadows, inside))


def test_lira_needs_two_models_on_each_side_of_everybody() -> None:
    inside = np.array([[True, True], [True, False], [False, False], [False, False]])
    with pytest.raises(UndefinedMetric, match="1 shadow models on one side"):
        likelihood_ratio(np.zeros(2), np.zeros((4, 2)), inside)


# --- what differential privacy allows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_the_bound_is_the_area_under_the_two_inequalities(epsilon: float, delta: float) -> None:
    def curve(fpr: float) -> float:
        return float(min(1.0, np.exp(epsilon) * fpr + delta, 1 - np.exp(-epsilon) * (1 - delta - fpr)))

    meet = (1 - delta) / (1 + np.exp(epsilon))
    exact = quad(curve, 0, 1, points=[meet, 1 - delta], epsabs=1e-12)[0]
    found = bound(epsilon, delta)
    assert found.auc == pytest.approx(exact, abs=1e-9)
    assert found.tpr == pytest.approx(curve(0.01), abs=1e-12)


def test_the_bound_is_known_at_its_ends() -> None:
    assert bound(0.0, 0.0).auc == 0.5
    assert bound(0.0, 0.0).tpr == pytest.approx(0.01)
    assert bound(1.0, 0.0).auc == pytest.approx(np.e / (1 + np.e))
    assert (bound(np.inf, 0.0).auc, bound(np.inf, 0.0).tpr) == (1.0, 1.0)
    assert (gaussian_bound(np.inf, 1e-5).auc, gaussian_bound(np.inf, 1e-5).tpr) == (1.0, 1.0)


def test_randomized_response_reaches_the_bound_so_that_it_cannot_be_tightened() -> None:
    """A bit told truly with probability e^eps / (1 + e^eps) is exactly eps-private; the bit itself is the attack."""
    epsilon = 1.2
    truth = np.exp(epsilon) / (1 + np.exp(epsilon))
    assert bound(epsilon, 0.0, fpr=1 - truth).tpr == pytest.approx(truth)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 8.0])
def test_a_gaussian_mechanism_stays_below_its_own_curve_and_that_below_the_general_one(epsilon: float) -> None:
    delta = 1e-5
    gaussian, general = gaussian_bound(epsilon, delta), bound(epsilon, delta)
    assert gaussian.auc < general.auc
    assert gaussian.tpr < general.tpr
    # The optimal attack on it: the noised number itself, one sensitivity apart, at the noise that gives this epsilon.
    mu = np.sqrt(2) * norm.ppf(gaussian.auc)
    spent = norm.cdf(-epsilon / mu + mu / 2) - np.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2)
    assert spent == pytest.approx(delta, rel=1e-6)
    rng = np.random.default_rng(21)
    found = measure(mu + rng.normal(size=20_000), rng.normal(size=20_000))
    assert found.auc.low < gaussian.auc < found.auc.high
    assert found.tpr.value == pytest.approx(gaussian.tpr, abs=0.03)


def test_the_curve_of_composed_gaussian_steps_is_that_of_opacus_accountant() -> None:
    """Thirty steps on everybody: mu = sqrt(steps) / noise; the accountant's epsilon leads back to it."""
    accountants = pytest.importorskip("dp_accounting")
    noise, steps, delta = 8.2, 30, 1e-5
    event = accountants.SelfComposedDpEvent(accountants.GaussianDpEvent(noise), steps)
    accountant = accountants.pld.PLDAccountant()
    epsilon = accountant.compose(event).get_epsilon(delta)
    assert gaussian_bound(epsilon, delta).auc == pytest.approx(norm.cdf(np.sqrt(steps) / noise / np.sqrt(2)), abs=1e-3)
