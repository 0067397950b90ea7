"""Table 1: the paper's own P values, scipy's tests, and a rule that is kept."""

import numpy as np
import pytest
from scipy.stats import fisher_exact, hypergeom, mannwhitneyu, ttest_ind

from sarco_models.comparisons import (
    Counted,
    MeanSd,
    Measured,
    MedianIqr,
    Share,
    baseline_table,
    compare_counts,
    compare_measured,
    looks_normal,
)
from sarco_models.errors import UndefinedMetric


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def yes_no(positives: tuple[int, int], negatives: tuple[int, int]) -> tuple[tuple[str, ...], np.ndarray]:
    """(yes, all) of those with and without sarcopenia."""
    words = [("yes",) * yes + ("no",) * (n - yes) for yes, n in (positives, negatives)]
    return words[0] + words[1], np.arange(positives[1] + negatives[1]) < positives[1]


# --- counted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("with_", "without", "p"),
    [(53, 117, 0.2485), (72, 208, 0.0393), (41, 79, 0.0795)],
    ids=["male", "diabetes, printed .04", "osteoporosis, printed .08"],
)
def test_the_papers_shares_by_one_test_throughout(rng: np.random.Generator, with_: int, without: int, p: float) -> None:
    """The paper prints .30 for men, which is Yates' correction; the other two are uncorrected (SCIENCE I27)."""
    test, found = compare_counts(np.array([[with_, without], [101 - with_, 256 - without]]), rng)
    assert (test, found) == ("chi_square", pytest.approx(p, abs=5e-5))


def test_the_lady_tasting_tea_is_fishers(rng: np.random.Generator) -> None:
    """Fisher (1935): three of four cups right; two-sided P 34 / 70."""
    assert compare_counts(np.array([[3, 1], [1, 3]]), rng) == ("fisher", pytest.approx(34 / 70))


def test_an_expected_count_below_five_takes_fishers_test(rng: np.random.Generator) -> None:
    table = np.array([[2, 8], [30, 60]])
    chances = hypergeom(100, 10, 32).pmf(np.arange(11))
    assert compare_counts(table, rng) == ("fisher", pytest.approx(chances[chances <= chances[2] * 1.0000001].sum()))


def test_several_levels_follow_cochrans_rule(rng: np.random.Generator) -> None:
    assert compare_counts(np.array([[20, 40], [30, 30], [6, 14]]), rng)[0] == "chi_square"
    few = np.array([[3, 9], [4, 30], [6, 60], [1, 11]])
    test, p = compare_counts(few, rng)
    exact = np.mean([fisher_exact(few).pvalue for _ in range(5)])
    assert (test, p) == ("fisher", pytest.approx(exact, abs=0.01))
    assert compare_counts(few, np.random.default_rng(1)) == compare_counts(few, np.random.default_rng(1))


def test_a_level_that_nobody_has_does_not_count(rng: np.random.Generator) -> None:
    table = np.array([[20, 40], [0, 0], [30, 30]])
    assert compare_counts(table, rng) == compare_counts(table[[0, 2]], rng)
    with pytest.raises(UndefinedMetric, match="1 levels"):
        compare_counts(np.array([[20, 40], [0, 0]]), rng)


# --- measured ---------------------------------------------------------------------------------------------------------


def test_two_normal_groups_get_welchs_t_and_mean_with_sd(rng: np.random.Generator) -> None:
    values = np.concatenate([rng.normal(0.0, 1.0, 40), rng.normal(0.8, 3.0, 60)])
    labels = np.arange(100) < 40
    (row,) = baseline_table([Measured("albumin_g_per_l", values)], labels, rng)
    reference = ttest_ind(values[labels], values[~labels], equal_var=False)
    assert (row.test, row.p) == ("t", pytest.approx(reference.pvalue))
    assert row.positive == MeanSd(values[labels].mean(), values[labels].std(ddof=1))


def test_one_skewed_group_is_enough_for_mann_whitney_and_medians(rng: np.random.Generator) -> None:
    values = np.concatenate([rng.normal(2.0, 1.0, 40), np.exp(rng.normal(0.0, 1.0, 60))])
    values[[3, 50]] = np.nan
    labels = np.arange(100) < 40
    (row,) = baseline_table([Measured("triglycerides", values)], labels, rng)
    known = ~np.isnan(values)
    reference = mannwhitneyu(values[labels & known], values[~labels & known])
    assert (row.test, row.p) == ("mann_whitney", pytest.approx(reference.pvalue))
    q1, median, q3 = np.quantile(values[~labels & known], [0.25, 0.5, 0.75])
    assert row.negative == MedianIqr(median, q1, q3)
    assert row.missing == (1, 1)


def test_equal_few_and_very_many_values_are_handled(rng: np.random.Generator) -> None:
    assert not looks_normal(np.ones(30))
    assert not looks_normal(np.array([1.0, 2.0]))
    assert looks_normal(rng.normal(size=20_000))
    assert not looks_normal(np.exp(rng.normal(size=20_000)))
    assert compare_measured(np.ones(9), np.ones(12)) == ("mann_whitney", 1.0)
    with pytest.raises(UndefinedMetric, match="0 and 3 values"):
        compare_measured(np.zeros(0), np.zeros(3))


def test_under_no_difference_a_table_is_significant_one_time_in_twenty(rng: np.random.Generator) -> None:
    labels = np.arange(120) < 40
    skewed = [Measured(f"v{k}", np.exp(rng.normal(size=120))) for k in range(400)]
    p = np.array([row.p for row in baseline_table(skewed, labels, rng)])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.025)


# --- the table --------------------------------------------------------------------------------------------------------


def test_a_counted_variable_shows_the_wanted_levels_and_tests_all(rng: np.random.Generator) -> None:
    words, labels = yes_no((72, 101), (208, 256))
    words = ("", *words[1:])
    (row,) = baseline_table([Counted("diabetes", words, ("yes",))], labels, rng)
    assert (row.variable, row.level, row.missing) == ("diabetes", "yes", (1, 0))
    assert (row.positive, row.negative) == (Share(71, 100), Share(208, 256))
    both = baseline_table([Counted("diabetes", words, ("no", "yes"))], labels, rng)
    assert [r.p for r in both] == [row.p, None]


def test_a_small_count_is_hidden_with_what_would_give_it_away(rng: np.random.Generator) -> None:
    words, labels = yes_no((2, 40), (30, 60))
    (row,) = baseline_table([Counted("statin", words, ("yes",))], labels, rng, min_cell=5)
    assert (row.positive, row.negative) == (Share(None, 40), Share(30, 60))
    assert (row.test, row.p) == (None, None)
    few = np.where(np.arange(100) < 97, np.nan, 1.0)
    (hidden,) = baseline_table([Measured("ft4", few)], labels, rng, min_cell=5)
    assert (hidden.positive, hidden.negative, hidden.p) == (None, None, None)


def test_a_table_of_one_class_or_of_other_people_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(UndefinedMetric, match="same label"):
        baseline_table([], np.ones(4, dtype=bool), rng)
    with pytest.raises(UndefinedMetric, match="age_years: 3 values for 4 participants"):
        baseline_table([Measured("age_years", np.zeros(3))], np.arange(4) < 2, rng)
