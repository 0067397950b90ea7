"""Agreement is what the papers print of their examples, holds the truth as often as it says, and counts people."""

import math

import numpy as np
import pytest
from scipy.stats import linregress, t

from sarco_models.agreement import BlandAltman, PairSums, agreement, bland_altman, icc_2_1
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate

RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Shrout and Fleiss (1979), table 2: six targets, four judges."""

WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak expiratory flow by two meters, l/min. Bland and Altman (1986), table 1."""


def clusters(rng: np.random.Generator, people: int = 19, between: float = 1.0, within: float = 0.7):
    """Measurements with known differences: (a, b, ids)."""
    counts = rng.integers(1, 8, people)
    ids = [str(k) for k in np.repeat(np.arange(people), counts)]
    difference = np.repeat(rng.normal(0, between, people), counts) + rng.normal(0, within, counts.sum())
    base = rng.normal(14, 3, counts.sum())
    return base + difference, base, ids


# --- Bland and Altman -------------------------------------------------------------------------------------------------


def test_peak_flow_meters_differ_as_printed() -> None:
    """Mean difference -2.1 l/min, its interval -22.0 to 17.8, standard deviation 38.8 l/min."""
    found = bland_altman(WRIGHT, MINI)
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.06)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert (found.lower.value, found.upper.value) == pytest.approx(
        (-2.12 - 1.96 * 38.77, -2.12 + 1.96 * 38.77), abs=0.1
    )
    assert (found.measurements, found.participants, found.within_sd) == (17, 17, None)


def test_with_many_people_the_limits_intervals_are_bland_and_altmans() -> None:
    rng = np.random.default_rng(0)
    base, off = rng.normal(14, 3, 2000), rng.normal(0.3, 0.8, 2000)
    found = bland_altman(base + off, base)
    half = t.ppf(0.975, 1999) * off.std(ddof=1) * math.sqrt(1 / 2000 + 1.96**2 / (2 * 1999))
    for limit in (found.lower, found.upper):
        assert limit.high - limit.low == pytest.approx(2 * half, rel=0.01)


def test_with_few_people_the_limits_reach_further_out_than_in() -> None:
    """A variance of few is known worse above than below (chi-square), so the outer limit is further away."""
    found = bland_altman(WRIGHT, MINI)
    assert found.upper.high - found.upper.value > found.upper.value - found.upper.low
    assert found.lower.value - found.lower.low > found.lower.high - found.lower.value
    assert found.upper.high - found.upper.value == pytest.approx(found.lower.value - found.lower.low)


def test_who_comes_first_only_turns_the_sign() -> None:
    one, two = bland_altman(WRIGHT, MINI), bland_altman(MINI, WRIGHT)
    assert one.bias.value == -two.bias.value
    assert (one.lower.value, one.lower.low) == pytest.approx((-two.upper.value, -two.upper.high))


def test_one_image_each_is_the_plain_case() -> None:
    assert bland_altman(WRIGHT, MINI, [f"p{k}" for k in range(17)]) == bland_altman(WRIGHT, MINI)


def test_with_equal_counts_the_variance_is_that_of_the_analysis_of_variance() -> None:
    """Bland and Altman (2007): between = (MSB - MSW) / m, and the total is between plus within."""
    rng = np.random.default_rng(3)
    people, each = 12, 5
    table = rng.normal(0, 1.0, (people, 1)) + rng.normal(0, 0.6, (people, each))
    base = rng.normal(14, 3, table.size)
    found = bland_altman(base + table.ravel(), base, [str(k) for k in np.repeat(np.arange(people), each)])
    msw = table.var(axis=1, ddof=1).mean()
    msb = each * table.mean(axis=1).var(ddof=1)
    assert found.sd**2 == pytest.approx((msb - msw) / each + msw)
    assert found.within_sd == pytest.approx(math.sqrt(msw))
    assert found.bias.value == pytest.approx(table.mean())


def test_somebody_with_many_images_does_not_decide_the_bias() -> None:
    a = [11.0, 12.0, 13.0, *[19.0] * 20]
    b = [10.0, 11.5, 12.0, *[14.0] * 20]
    found = bland_altman(a, b, ["a", "b", "c", *["d"] * 20])
    assert found.bias.value == pytest.approx((1.0 + 0.5 + 1.0 + 5.0) / 4)
    assert (found.measurements, found.participants) == (23, 4)


@pytest.mark.slow
def test_limits_hold_the_truth_as_often_as_they_say() -> None:
    rng, held, naive = np.random.default_rng(1), [], []
    truth = 1.96 * math.sqrt(1.0 + 0.7**2)
    for _ in range(1500):
        a, b, ids = clusters(rng)
        found, counted = bland_altman(a, b, ids), bland_altman(a, b)
        held.append([f.low <= v <= f.high for f, v in ((found.bias, 0), (found.lower, -truth), (found.upper, truth))])
        naive.append(counted.upper.low <= truth <= counted.upper.high)
    assert np.mean(held, axis=0) == pytest.approx([0.95] * 3, abs=0.02)
    assert np.mean(naive) < 0.80, "images counted as people"


def test_the_trend_is_the_line_of_least_squares() -> None:
    rng = np.random.default_rng(4)
    size = rng.uniform(8, 20, 40)
    a, b = 1.1 * size + rng.normal(0, 0.3, 40), size
    found, expected = bland_altman(a, b).proportional, linregress((a + b) / 2, a - b)
    assert (found.slope.value, found.p) == (pytest.approx(expected.slope), pytest.approx(expected.pvalue))
    assert found.slope.low == pytest.approx(expected.slope - t.ppf(0.975, 38) * expected.stderr)
    assert found.slope.low > 0.05


def test_limits_that_widen_with_the_size_are_told() -> None:
    rng = np.random.default_rng(5)
    size = rng.uniform(5, 25, 120)
    widening = bland_altman(size + 0.1 * size * rng.standard_normal(120), size)
    even = bland_altman(size + rng.standard_normal(120), size)
    assert widening.spreading.p < 0.001 < even.spreading.p
    assert widening.spreading.slope.value == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.35)


def test_a_constant_difference_has_no_width() -> None:
    size = np.array([10.0, 12.0, 15.0, 19.0])
    found: BlandAltman = bland_altman(size + 0.5, size)
    for estimate in (found.bias, found.lower, found.upper):
        assert (estimate.low, estimate.value, estimate.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.proportional.slope.value == pytest.approx(0.0)


# --- intraclass correlation -------------------------------------------------------------------------------------------


def test_six_targets_and_four_judges_agree_as_printed() -> None:
    """ICC(2,1) = .29 (Shrout and Fleiss 1979); ICC(A,1) = .290, .019 to .761 (McGraw and Wong 1996)."""
    found = icc_2_1(RATINGS)
    assert (found.value, found.low, found.high) == pytest.approx((0.290, 0.019, 0.761), abs=0.0005)


def test_a_constant_bias_of_one_rater_costs_absolute_agreement() -> None:
    x = np.random.default_rng(0).normal(14, 3, 30)
    noise = np.random.default_rng(1).normal(0, 0.3, 30)
    even, biased = icc_2_1(np.stack([x, x + noise], axis=1)), icc_2_1(np.stack([x, x + noise + 3], axis=1))
    assert even.value > 0.98
    assert biased.value < 0.75


def test_equal_ratings_agree_fully_and_chance_does_not() -> None:
    x = np.random.default_rng(0).normal(14, 3, (40, 1))
    perfect = icc_2_1(np.hstack([x, x]))
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 1.0, 1.0)
    chance = icc_2_1(np.random.default_rng(2).normal(14, 3, (40, 2)))
    assert chance.low < 0 < chance.high


@pytest.mark.slow
def test_the_intraclass_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(2), []
    for _ in range(2000):
        table = rng.normal(0, math.sqrt(0.9), (19, 1)) + rng.normal(0, math.sqrt(0.1), (19, 2))
        found = icc_2_1(table)
        held.append(found.low <= 0.9 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


# --- sums -------------------------------------------------------------------------------------------------------------


def test_hospitals_sums_give_what_the_pooled_people_give() -> None:
    rng = np.random.default_rng(8)
    sites = [clusters(rng, people) for people in (5, 12, 30)]
    together = sum((PairSums.of(*site) for site in sites[1:]), PairSums.of(*sites[0]))
    means = [
        [np.mean(np.array(side)[np.array(ids) == person]) for side in (a, b)]
        for a, b, ids in sites
        for person in dict.fromkeys(ids)
    ]
    pooled = bland_altman(*np.array(means).T)
    assert together.n == 47
    for found, expected in zip(
        (*together.limits(), together.icc()), (pooled.bias, pooled.lower, pooled.upper, icc_2_1(means)), strict=True
    ):
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_sums_of_equal_measurements_agree_fully() -> None:
    same = PairSums.of(WRIGHT, WRIGHT)
    assert same.icc() == Estimate(1.0, 1.0, 1.0)
    assert all(e == Estimate(0.0, 0.0, 0.0) for e in same.limits())
    with pytest.raises(UndefinedMetric, match="measure the same"):
        PairSums.of([5, 5, 5], [5, 5, 5]).icc()


def test_sums_are_of_three_people_at_least() -> None:
    with pytest.raises(UndefinedMetric, match="2 participants"):
        PairSums.of([1.0, 2.0, 3.0], [1.0, 2.0, 3.5], ["a", "a", "b"])


# --- both, and what is refused ----------------------------------------------------------------------------------------


def test_both_answers_are_of_the_same_people() -> None:
    a, b, ids = clusters(np.random.default_rng(6))
    found = agreement(a, b, ids)
    persons = sorted(set(ids), key=int)
    means = [[np.mean([v for v, i in zip(side, ids, strict=True) if i == p]) for side in (a, b)] for p in persons]
    assert found.icc == icc_2_1(means)
    assert found.limits == bland_altman(a, b, ids)


def test_what_is_absent_is_left_out_by_the_caller_and_not_here() -> None:
    with pytest.raises(UndefinedMetric, match="1 measurements are absent or not finite"):
        bland_altman([1.0, 2.0, math.nan], [1.0, 2.0, 3.0])
    with pytest.raises(UndefinedMetric, match="2 measurements are absent"):
        icc_2_1([[1.0, math.inf], [math.nan, 2.0]])


@pytest.mark.parametrize(
    ("a", "b", "ids", "words"),
    [
        ([1, 2, 3], [1, 2], None, "3 and 2 measurements of 3 images do not make pairs"),
        ([1, 2, 3], [1, 2, 3], ["a", "b"], "3 and 3 measurements of 2 images"),
        ([1, 2, 3], [1, 2, 3], ["a", "b", "b"], "2 participants: agreement needs 3"),
        ([], [], None, "0 participants"),
        ([5, 5, 5], [5, 5, 5], None, "of one size"),
    ],
)
def test_too_little_has_no_agreement(a: list[float], b: list[float], ids: list[str] | None, words: str) -> None:
    with pytest.raises(UndefinedMetric, match=words):
        bland_altman(a, b, ids)


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [[1.0], [2.0]], [1.0, 2.0], [[3.0, 3.0], [3.0, 3.0]]])
def test_too_little_has_no_intraclass_correlation(table: object) -> None:
    with pytest.raises(UndefinedMetric, match=r"two raters|measure the same"):
        icc_2_1(table)  # type: ignore[arg-type]
