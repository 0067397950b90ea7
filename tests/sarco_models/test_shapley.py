"""Shapley's axioms, against the definition by orders of joining; shares and losses against numbers known beforehand."""

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import auc
from sarco_models.shapley import (
    by_class,
    each_alone,
    ensemble,
    magnitudes,
    shapley,
    shares,
    shares_by_group,
    without_each,
)

Array = NDArray[np.float64]


def by_orders(worth: Array) -> Array:
    """The definition: what each player adds to those before it, in the mean over all orders."""
    players = len(worth).bit_length() - 1
    added = np.zeros((players, *worth.shape[1:]))
    orders = list(permutations(range(players)))
    for order in orders:
        before = 0
        for player in order:
            added[player] += worth[before | 1 << player] - worth[before]
            before |= 1 << player
    return added / len(orders)


# ---- the axioms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_contributions_are_the_mean_over_all_orders_of_joining(players: int) -> None:
    worth = np.random.default_rng(players).normal(size=(2**players, 4))
    np.testing.assert_allclose(shapley(worth), by_orders(worth), atol=1e-12)


def test_contributions_add_up_to_what_all_achieve_over_none() -> None:
    worth = np.random.default_rng(0).normal(size=(8, 1000))
    assert np.abs(shapley(worth).sum(axis=0) - (worth[7] - worth[0])).max() < 1e-14


def test_players_who_change_every_coalition_alike_get_the_same() -> None:
    worth = np.random.default_rng(1).normal(size=8)
    worth[[0b010, 0b110]] = worth[[0b001, 0b101]]  # the first and the second can stand in for each other
    contributions = shapley(worth)
    assert contributions[0] == pytest.approx(contributions[1])
    assert contributions[0] != pytest.approx(contributions[2])


def test_a_player_who_changes_no_coalition_gets_nothing() -> None:
    worth = np.random.default_rng(2).normal(size=8)
    worth[0b100:] = worth[:0b100]
    contributions = shapley(worth)
    assert contributions[2] == 0
    assert (contributions[:2] != 0).all()


def test_contributions_to_a_sum_of_games_are_the_sum() -> None:
    first, second = np.random.default_rng(3).normal(size=(2, 8, 5))
    np.testing.assert_allclose(shapley(2 * first - second), 2 * shapley(first) - shapley(second), atol=1e-12)
    np.testing.assert_allclose(shapley(ensemble([first, second])), shapley((first + second) / 2), atol=1e-12)


def test_one_left_glove_and_two_right_ones() -> None:
    """Shapley's market of gloves: a pair is worth 1; the owner of the rare glove gets 2/3."""
    worth = np.array([float(coalition & 1 and coalition & 6 > 0) for coalition in range(8)])
    np.testing.assert_allclose(shapley(worth), [2 / 3, 1 / 6, 1 / 6])


def test_a_number_of_coalitions_that_no_players_have_is_refused() -> None:
    with pytest.raises(ValueError, match="6 coalitions"):
        shapley(np.zeros(6))


# ---- shares ----------------------------------------------------------------------------------------------------------

PLAYERS = ("image", "clinical", "lab")


def test_a_share_is_the_mean_size_of_a_contribution_whatever_its_sign() -> None:
    contributions = np.array([[3.0, -3.0, 3.0, -3.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    found = shares(contributions, PLAYERS, np.random.default_rng(0), repeats=100)
    assert {name: share.value for name, share in found.items()} == {"image": 0.75, "clinical": 0.25, "lab": 0.0}
    assert {(share.low, share.high) for share in found.values()} == {(0.75, 0.75), (0.25, 0.25), (0.0, 0.0)}
    sizes = magnitudes(contributions, PLAYERS, np.random.default_rng(0), repeats=100)
    assert [size.value for size in sizes.values()] == [3.0, 1.0, 0.0]


def test_shares_of_all_players_sum_to_one_and_do_not_depend_on_the_scale() -> None:
    contributions = np.random.default_rng(4).normal(size=(3, 50))
    one, other = (shares(k * contributions, PLAYERS, np.random.default_rng(0), repeats=50) for k in (1, 100))
    assert sum(share.value for share in one.values()) == pytest.approx(1)
    for name in PLAYERS:
        assert one[name].value == pytest.approx(other[name].value)
        assert one[name].low == pytest.approx(other[name].low)


def test_intervals_are_of_participants() -> None:
    """The share of a player whose contribution is normal, beside one of constant size: known spread of its mean."""
    rng = np.random.default_rng(5)
    contributions = np.stack([rng.normal(size=400), np.ones(400)])
    found = magnitudes(contributions, ("a", "b"), rng)["a"]
    expected = 1.96 * np.abs(contributions[0]).std() / 20
    assert found.high - found.low == pytest.approx(2 * expected, rel=0.1)


def test_each_group_has_shares_of_its_own_and_an_empty_one_has_none() -> None:
    labels = np.array([True, True, False, False, False])
    contributions = np.array([[1.0, 1.0, 3.0, 3.0, 3.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    found = shares_by_group(contributions, ("image", "lab"), by_class(labels), np.random.default_rng(0))
    assert {group: share["image"].value for group, share in found.items()} == {
        "sarcopenia": 0.5, "non_sarcopenia": 0.75, "all": pytest.approx(11 / 16),
    }  # fmt: skip
    healthy = shares_by_group(contributions, ("image", "lab"), by_class(labels & False), np.random.default_rng(0))
    assert set(healthy) == {"non_sarcopenia", "all"}


def test_shares_of_nothing_have_no_value() -> None:
    for contributions in (np.zeros((3, 10)), np.zeros((3, 0))):
        with pytest.raises(UndefinedMetric):
            shares(contributions, PLAYERS, np.random.default_rng(0))


# ---- the AUC without a player ----------------------------------------------------------------------------------------


def test_the_loss_is_the_auc_with_everything_minus_the_auc_without_the_player() -> None:
    rng = np.random.default_rng(6)
    labels = rng.random(200) < 0.4
    image, noise = rng.normal(size=200) + 2 * labels, rng.normal(size=200)
    worth = np.stack([np.zeros(200), image, noise, image + noise])
    found = without_each(worth, ("image", "noise"), [f"p{i}" for i in range(200)], labels)
    assert found["image"].auc.value == pytest.approx(auc(noise, labels))
    assert found["image"].loss.difference.value == pytest.approx(auc(image + noise, labels) - auc(noise, labels))
    assert found["image"].loss.difference.low > 0
    assert found["noise"].loss.difference.value < 0  # a share of about one third, and a harm: why both are shown
    assert shares(shapley(worth), ("image", "noise"), rng)["noise"].value > 0.3
    assert found["noise"].loss.p_holm == found["noise"].loss.p  # the larger of two P values stays as it is


def test_a_player_who_adds_nothing_loses_nothing() -> None:
    rng = np.random.default_rng(7)
    labels = rng.random(50) < 0.5
    image = rng.normal(size=50) + labels
    worth = np.stack([0 * image, image, 0 * image, image])
    loss = without_each(worth, ("image", "lab"), [f"p{i}" for i in range(50)], labels)["lab"].loss
    assert (loss.difference.value, loss.p) == (0.0, 1.0)


def test_alone_a_player_has_what_its_own_scores_are_worth() -> None:
    rng = np.random.default_rng(8)
    labels = rng.random(60) < 0.5
    image, lab = rng.normal(size=60) + labels, rng.normal(size=60) + 0.3 * labels
    worth = np.stack([0 * image, image, lab, image + lab])
    found = each_alone(worth, ("image", "lab"), [f"p{i}" for i in range(60)], labels)
    assert {name: f.auc.value for name, f in found.items()} == {"image": auc(image, labels), "lab": auc(lab, labels)}
    assert found["lab"].loss.difference.value == pytest.approx(auc(image + lab, labels) - auc(lab, labels))
    assert found["lab"].loss.p_holm is not None


def test_one_person_twice_is_refused() -> None:
    with pytest.raises(UndefinedMetric, match="2 scores for 1 participants"):
        without_each(np.zeros((4, 2)), ("image", "lab"), ["p", "p"], np.array([True, False]))
