"""Correlations are SciPy's, their intervals hold the truth, and a printed r and P tell how many people they are of."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import pearsonr, rankdata, spearmanr

from sarco_models.correlation import (
    Kind,
    Paired,
    _weighted,
    bootstrap_correlation,
    correlate,
    direction,
    partial,
    participants_behind,
    participants_needed,
    pearson,
    permutation_p,
    spearman,
)
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate

Values = NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("pearson", "spearman")


def pair(n: int, rho: float, seed: int = 0) -> tuple[Values, Values]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return x, rho * x + math.sqrt(1 - rho * rho) * rng.standard_normal(n)


def exactly(r: float, n: int) -> tuple[Values, Values]:
    """Two quantities whose r is this one to the last digit."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, n))
    x = (x - x.mean()) / x.std()
    noise = noise - noise.mean()
    noise -= (noise @ x) / (x @ x) * x
    return x, r * x + math.sqrt(1 - r * r) * noise / noise.std()


# --- coefficients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 19, 94])
@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4])
def test_pearson_is_scipys(n: int, rho: float) -> None:
    x, y = pair(n, rho)
    found, expected = pearson(x, y), pearsonr(x, y)
    interval = expected.confidence_interval(0.95)
    assert (found.r.value, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    assert (found.r.low, found.r.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("n", [5, 19, 94])
def test_spearman_is_scipys_with_ties_too(n: int) -> None:
    x, y = pair(n, 0.5)
    x = np.round(x * 2)
    found, expected = spearman(x, y), spearmanr(x, y)
    assert (found.r.value, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))


@pytest.mark.parametrize(("n", "low", "high"), [(94, 0.24, 0.58), (19, -0.04, 0.74)])
def test_the_printed_r_of_the_rectus_femoris_has_these_intervals(n: int, low: float, high: float) -> None:
    """SCIENCE I32."""
    found = pearson(*exactly(0.4223, n))
    assert (found.r.value, found.r.low, found.r.high) == pytest.approx((0.4223, low, high), abs=0.005)
    if n == 19:
        assert found.p == pytest.approx(0.072, abs=0.0005)


def test_ranks_are_known_less_well_than_values() -> None:
    """Bonett and Wright (2000): the variance grows by r^2 / 2."""
    x = np.arange(50.0)
    y = x.copy()
    y[::5] = y[::5][::-1]
    values, ranks = pearson(rankdata(x), rankdata(y)), spearman(x, y)
    assert ranks.r.value == values.r.value
    width = [math.atanh(e.r.high) - math.atanh(e.r.low) for e in (ranks, values)]
    assert width[0] / width[1] == pytest.approx(math.sqrt(1 + ranks.r.value**2 / 2))


def test_ranks_do_not_mind_a_bent_line() -> None:
    x = np.linspace(0.1, 4, 30)
    assert spearman(x, np.exp(x)).r == Estimate(1.0, 1.0, 1.0)
    assert pearson(x, np.exp(x)).r.value < 0.9


def test_a_straight_line_correlates_fully() -> None:
    x = np.random.default_rng(0).standard_normal(12)
    assert pearson(x, 3 - 2 * x).r == Estimate(-1.0, -1.0, -1.0)
    assert pearson(x, 3 - 2 * x).p == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rho"), [("pearson", 0.4), ("pearson", 0.8), ("spearman", 0.4), ("spearman", 0.8)])
def test_intervals_hold_the_truth_as_often_as_they_say(kind: str, rho: float) -> None:
    of, truth = (pearson, rho) if kind == "pearson" else (spearman, 6 / math.pi * math.asin(rho / 2))
    held = []
    for seed in range(3000):
        found = of(*pair(19, rho, seed)).r
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


# --- given age and sex ------------------------------------------------------------------------------------------------


def test_one_covariate_is_the_textbooks_formula() -> None:
    x, y = pair(40, 0.5)
    age = 0.6 * x + np.random.default_rng(9).standard_normal(40)
    xy, xa, ya = (np.corrcoef(u, v)[0, 1] for u, v in ((x, y), (x, age), (y, age)))
    found = partial(x, y, {"age": age})
    assert found.r.value == pytest.approx((xy - xa * ya) / math.sqrt((1 - xa**2) * (1 - ya**2)))
    assert (found.n, found.given) == (40, ("age",))


def test_what_age_and_sex_explain_is_gone() -> None:
    rng = np.random.default_rng(1)
    age, male = rng.uniform(20, 90, 200), rng.integers(0, 2, 200).astype(float)
    x = -0.1 * age + 3 * male + rng.standard_normal(200)
    y = -0.3 * age + 9 * male + 2 * rng.standard_normal(200)
    assert pearson(x, y).r.low > 0.7
    given = partial(x, y, {"age_years": age, "male": male})
    assert given.r.low < 0 < given.r.high


def test_without_covariates_partial_is_plain() -> None:
    x, y = pair(30, 0.5)
    for kind, plain in zip(KINDS, (pearson(x, y), spearman(x, y)), strict=True):
        found = partial(x, y, {}, kind)
        assert (found.r.value, found.r.low, found.p) == pytest.approx((plain.r.value, plain.r.low, plain.p))


def test_each_covariate_costs_a_participant() -> None:
    x, y = exactly(0.5, 40)
    unrelated = np.random.default_rng(5).standard_normal((2, 40))
    found = partial(x, y, {"a": unrelated[0], "b": unrelated[1]})
    half = (math.atanh(found.r.high) - math.atanh(found.r.low)) / 2
    assert half == pytest.approx(1.959964 / math.sqrt(40 - 2 - 3))


def test_a_covariate_that_defines_a_quantity_is_refused() -> None:
    x, y = pair(30, 0.5)
    with pytest.raises(UndefinedMetric, match="weight leave nothing of a quantity"):
        partial(x, y, {"weight": 2 * x + 1})


# --- resampling and orders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_bootstrap_correlates_those_who_were_drawn(kind: Kind) -> None:
    """Against drawing participants one by one with the same weights, ties among them and all."""
    x, y = pair(15, 0.6)
    x = np.round(x, 1)
    weights = np.random.default_rng(0).multinomial(15, np.full(15, 1 / 15), 50).astype(float)
    found = _weighted(x, y, kind)(weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        a, b = np.repeat(x, row), np.repeat(y, row)
        if kind == "spearman":
            a, b = rankdata(a), rankdata(b)
        assert value == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_in_many_participants_the_bootstrap_and_fisher_agree() -> None:
    x, y = pair(400, 0.5)
    fisher, drawn = pearson(x, y).r, bootstrap_correlation(x, y, np.random.default_rng(0))
    assert drawn.value == pytest.approx(fisher.value)
    assert (drawn.low, drawn.high) == pytest.approx((fisher.low, fisher.high), abs=0.03)


def test_a_draw_of_one_person_has_no_correlation() -> None:
    x, y = pair(4, 0.5)
    assert np.isnan(_weighted(x, y, "pearson")(np.array([[4.0, 0, 0, 0]]))).all()


def test_of_five_participants_all_orders_are_tried() -> None:
    """A full correlation of five is one of 2 orders in 120."""
    x = np.arange(5.0)
    assert permutation_p(x, x**3, np.random.default_rng(0), kind="spearman") == pytest.approx(2 / 120)


def test_with_more_participants_orders_are_drawn() -> None:
    x, y = pair(30, 0.4)
    p = permutation_p(x, y, np.random.default_rng(0))
    assert p == pytest.approx(pearson(x, y).p, abs=0.01)
    far = permutation_p(x, x, np.random.default_rng(0), draws=999)
    assert far == pytest.approx(1 / 1000)


# --- all of it --------------------------------------------------------------------------------------------------------


def paired(n: int = 40) -> Paired:
    x, y = pair(n, 0.7)
    rng = np.random.default_rng(3)
    covariates = {"age_years": rng.uniform(20, 90, n), "male": rng.integers(0, 2, n).astype(float)}
    return Paired([f"p{k}" for k in range(n)], x, y, covariates)


def test_everything_about_a_pair_is_said_at_once() -> None:
    people = paired()
    found = correlate(people, np.random.default_rng(0))
    assert found.pearson == pearson(people.x, people.y)
    assert found.spearman == spearman(people.x, people.y)
    assert found.partial == partial(people.x, people.y, people.covariates)
    assert found.partial.given == ("age_years", "male")
    assert (found.verdict, found.left_out) == ("as expected", 0)
    assert found.permutation_p < 0.001


def test_people_of_whom_something_is_unknown_are_left_out_and_counted() -> None:
    people = paired()
    people.x[3] = np.nan
    people.covariates["age_years"][[3, 7]] = np.nan
    found = correlate(people, np.random.default_rng(0))
    keep = [k for k in range(40) if k not in (3, 7)]
    assert (found.pearson.n, found.left_out) == (38, 2)
    assert found.pearson.r.value == pytest.approx(np.corrcoef(people.x[keep], people.y[keep])[0, 1])


def test_images_are_not_people() -> None:
    x, y = pair(6, 0.5)
    with pytest.raises(UndefinedMetric, match="6 scores for 5 participants"):
        Paired(["a", "b", "c", "d", "e", "e"], x, y)
    with pytest.raises(UndefinedMetric, match="do not make pairs"):
        Paired(["a", "b", "c"], x, y)


@pytest.mark.parametrize(
    ("interval", "expected", "verdict"),
    [
        ((0.2, 0.5, 0.7), "rises", "as expected"),
        ((-0.7, -0.5, -0.2), "falls", "as expected"),
        ((0.5, 0.748, 0.9), "falls", "against what is expected"),
        ((-0.1, 0.3, 0.6), "rises", "not clear"),
        ((0.0, 0.3, 0.6), "falls", "not clear"),
    ],
)
def test_a_sign_is_held_against_what_is_expected(
    interval: tuple[float, float, float], expected: str, verdict: str
) -> None:
    """More peroneus with slower chair stands, r = +.7480, is what I33 asks about."""
    low, value, high = interval
    assert direction(Estimate(value, low, high), expected) == verdict  # type: ignore[arg-type]


# --- how many ---------------------------------------------------------------------------------------------------------


def test_the_printed_p_is_not_of_the_test_split() -> None:
    """I32: r = .4223 with P < .001 needs 58 people; a fifth of 94 is 19."""
    assert participants_behind(0.4223, 0.001) == 58
    assert pearson(*exactly(0.4223, 58)).p < 0.001 < pearson(*exactly(0.4223, 57)).p
    assert participants_behind(-0.4223, 0.001) == 58


@pytest.mark.parametrize(("r", "n"), [(0.1, 783), (0.3, 85), (0.5, 30)])
def test_the_number_needed_is_that_of_the_textbooks(r: float, n: int) -> None:
    """Hulley et al., Designing Clinical Research, appendix 6C: 783, 85 and 29 (Fisher's z asks for 29.01)."""
    assert participants_needed(r) == n
    assert participants_needed(-r) == n


@pytest.mark.slow
def test_that_many_participants_have_that_power() -> None:
    found = [pearson(*pair(participants_needed(0.4), 0.4, seed)).p < 0.05 for seed in range(3000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


# --- what has no correlation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1, 2, 3], [1, 2, 3], "3 participants: a correlation with 0 covariates needs 4"),
        ([1, 2, 3, 4], [1, 2, 3], "4 and 3 values"),
        ([1, 2, 3, math.nan], [1, 2, 3, 4], "absent or not finite"),
        ([2, 2, 2, 2], [1, 2, 3, 4], "the same in all participants"),
    ],
)
def test_too_little_has_no_correlation(x: list[float], y: list[float], words: str) -> None:
    for of in (pearson, spearman):
        with pytest.raises(UndefinedMetric, match=words):
            of(x, y)
    with pytest.raises(UndefinedMetric, match=words):
        permutation_p(x, y, np.random.default_rng(0))


def test_five_participants_are_too_few_for_two_covariates() -> None:
    x, y = pair(5, 0.5)
    with pytest.raises(UndefinedMetric, match="with 2 covariates needs 6"):
        partial(x, y, {"a": x, "b": y})


@pytest.mark.parametrize("r", [0.0, 1.0, -1.0, 1.2])
def test_some_r_ask_for_no_number(r: float) -> None:
    for ask in (participants_needed, lambda value: participants_behind(value, 0.05)):
        with pytest.raises(UndefinedMetric, match="between 0 and 1"):
            ask(r)
    with pytest.raises(UndefinedMetric, match="P = 0 is not"):
        participants_behind(0.5, 0.0)
