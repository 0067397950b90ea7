"""One person's influence is what the noise is made for; noised sums are sums that people can have."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sarco_models import private_statistics
from sarco_models.cohort import Cohort, TrainingPeople
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import ScoreHistogram
from sarco_models.private_statistics import (
    PrivateDescription,
    description_sensitivity,
    noise,
    private_description,
    private_histogram,
)
from sarco_models.schema import Column
from sarco_models.summaries import Moments, TableScaling

COLUMNS = (
    Column("age_years", "clinical", 18.0, 110.0, False),
    Column("tsh_miu_per_l", "lab", 0.005, 100.0, False),
    Column("male", "clinical", 0.0, 1.0, True),
    Column("albumin_g_per_l", "lab", 10.0, 60.0, False),
)
ALL = np.ones(4, dtype=np.bool_)
SOME = np.array([True, False, True, True])


def people(table: NDArray[np.float64], labels: NDArray[np.int8] | None = None) -> TrainingPeople:
    n = len(table)
    labels = (np.arange(n) % 3 == 0).astype(np.int8) if labels is None else labels
    cohort = Cohort(("a",) * n, tuple(map(str, range(n))), labels, table, np.zeros(0, np.int64), (), (), ())
    return TrainingPeople(cohort, np.arange(n))


def table_of(n: int, seed: int = 1, missing: float = 0.1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    table = np.stack(
        [rng.uniform(18, 110, n), rng.uniform(0.005, 100, n), rng.integers(0, 2, n), rng.uniform(10, 60, n)], axis=1
    )
    table[rng.random(table.shape) < missing] = np.nan
    return table


def described(who: TrainingPeople, sigma: float, seed: int = 1, used: NDArray[np.bool_] = ALL) -> PrivateDescription:
    return private_description(who, COLUMNS, used, noise_multiplier=sigma, rng=np.random.default_rng(seed))


# --- what one participant can change ----------------------------------------------------------------------------------


def released(who: TrainingPeople, used: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch) -> NDArray[np.float64]:
    """The vector as it is just before the noise."""
    seen: list[NDArray[np.float64]] = []
    monkeypatch.setattr(private_statistics, "noise", lambda exact, *_: seen.append(exact) or exact)
    described(who, 1.0, used=used)
    kept = np.concatenate([used, used, used & [not c.zero_one for c in COLUMNS], [True]])
    return seen[0][kept]


def worst_people() -> Iterator[list[float]]:
    for age in (-1e9, 18.0, 64.0, 110.0, 1e9, np.nan):
        for male in (0.0, 1.0, np.nan, 7.0):
            yield [age, age, male, np.nan if math.isnan(male) else age]


def test_nobody_changes_the_sums_of_many_columns_by_more_than_the_sensitivity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the number of positives weighs more than 1; each of these people reaches the limit in another way."""
    columns, table = COLUMNS * 6, np.tile(table_of(20), 6)
    used = np.ones(len(columns), dtype=np.bool_)
    seen: list[NDArray[np.float64]] = []
    monkeypatch.setattr(private_statistics, "noise", lambda exact, *_: seen.append(exact) or exact)
    asked = np.concatenate([used, used, [not c.zero_one for c in columns], [True]])
    for person in (np.full(24, np.nan), np.tile([110.0, 100.0, 1.0, 60.0], 6), np.tile([18.0, 0.005, 0.0, np.nan], 6)):
        for who in (
            people(table),
            people(np.vstack([table, person]), np.append(people(table).labels, 1).astype(np.int8)),
        ):
            private_description(who, columns, used, noise_multiplier=1.0, rng=np.random.default_rng(1))
        change = float(np.linalg.norm((seen[-1] - seen[-2])[asked]))
        assert change == pytest.approx(description_sensitivity(columns, used), rel=1e-5)
        assert change <= description_sensitivity(columns, used) * (1 + 1e-12)


@pytest.mark.parametrize("used", [ALL, SOME], ids=["all", "some"])
def test_nobody_changes_the_released_sums_by_more_than_the_sensitivity(
    used: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without one person, whose values may be anything, missing too; and the worst of them reaches it."""
    table, limit = table_of(20), description_sensitivity(COLUMNS, used)
    changes = []
    for person in worst_people():
        for label in (0, 1):
            labels = np.append(people(table).labels, label).astype(np.int8)
            with_ = released(people(np.vstack([table, person]), labels), used, monkeypatch)
            without = released(people(table), used, monkeypatch)
            changes.append(float(np.linalg.norm(with_ - without)))
    assert max(changes) == pytest.approx(limit, rel=1e-5)
    assert max(changes) <= limit * (1 + 1e-12)


def test_the_sensitivity_is_the_one_that_was_derived() -> None:
    assert description_sensitivity(COLUMNS, ALL) == pytest.approx(math.sqrt(5 / 16 * 3 + 1 / 4 + 1))
    assert description_sensitivity(COLUMNS, SOME) == pytest.approx(math.sqrt(5 / 16 * 2 + 1 / 4 + 1))
    assert description_sensitivity(COLUMNS, ALL & False) == 1.0, "the number of positives"
    many = COLUMNS[:1] * 32
    assert description_sensitivity(many, np.ones(32, dtype=np.bool_)) == pytest.approx(math.sqrt(1.5 * 10))


def test_one_participant_changes_one_count_of_a_histogram_by_one() -> None:
    score, label = np.linspace(0, 1, 31), np.arange(31) % 2 == 0
    full = ScoreHistogram.of(score, label, num_bins=20)
    for k in range(31):
        fewer = ScoreHistogram.of(np.delete(score, k), np.delete(label, k), num_bins=20)
        change = np.concatenate([full.positives - fewer.positives, full.negatives - fewer.negatives])
        assert np.linalg.norm(change) == 1.0


def test_the_noise_is_gaussian_and_as_large_as_it_must_be() -> None:
    drawn = noise(np.full(4000, 7.0), 2.5, 3.0, np.random.default_rng(5))
    assert stats.kstest((drawn - 7.0) / 7.5, "norm").pvalue > 0.01


@pytest.mark.parametrize("used", [ALL, SOME], ids=["all", "some"])
def test_what_is_released_carries_that_noise(used: NDArray[np.bool_]) -> None:
    """Measured on the answer itself, where nothing is clipped: of 4000 people, and of the number of positives."""
    who, sigma = people(table_of(4000)), 6.0
    exact = described(who, 0.0, used=used)
    answers = [described(who, sigma, seed=seed, used=used) for seed in range(400)]
    scale = sigma * description_sensitivity(COLUMNS, used)
    positives = np.array([a.positives - exact.positives for a in answers]) / scale
    missing = np.array([exact.moments.count[0] - a.moments.count[0] for a in answers]) / scale * math.sqrt(5) / 4
    for drawn in (positives, missing):
        jittered = drawn + np.random.default_rng(1).uniform(-0.5, 0.5, 400) / scale  # counts are whole numbers
        assert stats.kstest(jittered, "norm").pvalue > 0.01
    means = np.array([a.moments.total[0] / a.moments.count[0] for a in answers])
    assert np.std(means) / 2**20 == pytest.approx(scale / exact.moments.count[0], rel=0.15), "of the mean, in ranges"


def test_noise_has_no_direction() -> None:
    who = people(table_of(3000))
    exact = described(who, 0.0).moments.mean(COLUMNS)
    means = np.array([described(who, 5.0, seed=seed).moments.mean(COLUMNS) for seed in range(300)])
    standard_error = means.std(axis=0) / math.sqrt(300)
    assert (np.abs(means.mean(axis=0) - exact) < 4 * standard_error).all()


# --- what people can have ---------------------------------------------------------------------------------------------


def test_without_noise_the_sums_are_the_exact_ones() -> None:
    who = people(table_of(500))
    found, exact = described(who, 0.0), Moments.of(who, COLUMNS, extremes=False)
    assert np.array_equal(found.moments.count, exact.count)
    assert np.array_equal(found.moments.total, exact.total)
    np.testing.assert_allclose(found.moments.squares, exact.squares, rtol=1e-12)
    assert found.positives == int((who.labels == 1).sum())


def test_values_outside_the_plausible_range_count_as_its_border() -> None:
    table = table_of(50, missing=0.0)
    wild, tame = table.copy(), table.copy()
    wild[0, 0], tame[0, 0] = 1e6, 110.0
    a, b = described(people(wild), 0.0).moments, described(people(tame), 0.0).moments
    assert np.array_equal(a.total, b.total)
    assert np.array_equal(a.squares, b.squares)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("n", [3, 24, 200])
def test_noised_sums_are_sums_that_people_can_have(n: int, seed: int) -> None:
    found = described(people(table_of(n)), 40.0, seed=seed)
    m = found.moments
    assert ((m.count >= 0) & (m.count <= n)).all()
    assert ((m.total >= 0) & (m.total <= m.count * 2**20)).all()
    assert (m.squares <= m.total * 2**20).all()
    assert (m.standard_deviation(COLUMNS) >= 0).all(), "a negative variance would be a NaN and a warning"
    assert (m.mean(COLUMNS) <= [c.high for c in COLUMNS]).all()
    assert 0 < found.positives < n


@pytest.mark.parametrize(("n", "sigma"), [(60, 16.0), (300, 16.0), (300, 6.0), (3000, 2.0)])
def test_no_noise_makes_a_scale_explode(n: int, sigma: float) -> None:
    """A variance that noise has made 0, or nearly so, would turn a value into thousands of standard deviations."""
    table = table_of(n)
    table[:, 1] = 2.0 + np.random.default_rng(1).normal(size=n) * 0.5  # a narrow column of a wide range
    for seed in range(40):
        found = described(people(table), sigma, seed=seed).moments
        for scaling in ("standard", "clinical_range"):
            scaled = TableScaling.agreed(found, COLUMNS, scaling)(table)
            assert np.abs(scaled).max() < 40


def test_a_rare_finding_stays_rare() -> None:
    table = table_of(4000, missing=0.0)
    table[:, 2] = np.arange(4000) < 60
    means = [described(people(table), 3.0, seed=seed).moments.mean(COLUMNS)[2] for seed in range(100)]
    assert np.mean(means) == pytest.approx(0.015, abs=0.001)


def test_a_column_of_zeros_and_ones_needs_no_squares() -> None:
    m = described(people(table_of(100)), 10.0).moments
    assert m.squares[2] == m.total[2] * 2**20


def test_columns_that_the_model_does_not_see_say_nothing() -> None:
    """Whatever stands in them, the answer is the same."""
    table = table_of(60)
    other = table.copy()
    other[:, 1] = 3.0
    a, b = (described(people(t), 5.0, used=SOME).moments for t in (table, other))
    assert a.count[1] == a.total[1] == a.squares[1] == 0
    assert np.array_equal(a.total, b.total)


# --- histograms -------------------------------------------------------------------------------------------------------


def scores(n: int, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3 == 0
    return 1 / (1 + np.exp(-rng.normal(size=n) - 1.2 * labels)), labels


def histogram_of(n: int, bins: int = 200) -> ScoreHistogram:
    return ScoreHistogram.of(*scores(n), num_bins=bins)


def private(h: ScoreHistogram, sigma: float, seed: int = 1, min_cell: int = 1, positives: int = -1):  # type: ignore[no-untyped-def]
    positives = int(h.positives.sum()) if positives < 0 else positives
    rng = np.random.default_rng(seed)
    return private_histogram(h, positives, noise_multiplier=sigma, min_cell=min_cell, rng=rng)


def test_without_noise_the_histogram_is_the_exact_one() -> None:
    exact = histogram_of(90)
    found = private(exact, 0.0)
    starts = found.starts
    assert np.array_equal(found.positives, np.add.reduceat(exact.positives, starts))
    assert np.array_equal(found.negatives, np.add.reduceat(exact.negatives, starts))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("n", "sigma", "min_cell"), [(30, 20.0, 3), (400, 6.0, 5), (4000, 2.0, 1)])
def test_a_noised_histogram_is_one_of_the_people_that_were_described(
    n: int, sigma: float, min_cell: int, seed: int
) -> None:
    """So that a coordinator's checks hold as they are: runs in order, counts of 0 or ``min_cell``, the same sums."""
    found = private(histogram_of(n), sigma, seed, min_cell, positives=n // 2)
    assert found.well_formed
    assert found.num_bins == 200
    assert (int(found.positives.sum()), int(found.negatives.sum())) == (n // 2, n - n // 2)
    counts = np.concatenate([found.positives, found.negatives])
    assert ((counts == 0) | (counts >= min_cell)).all()


def test_a_class_of_too_few_people_is_not_shown() -> None:
    with pytest.raises(UndefinedMetric, match="fewer than 5"):
        private(histogram_of(60), 3.0, min_cell=5, positives=2)


def test_empty_bins_do_not_fill_with_people() -> None:
    """What is negative set to 0 would put a fifth of the noise into every empty run."""
    score, label = np.r_[np.full(300, 0.05), np.full(300, 0.95)], np.r_[np.zeros(300, bool), np.ones(300, bool)]
    exact = ScoreHistogram.of(score, label, num_bins=100)
    wrong = []
    for seed in range(50):
        found = private(exact, 5.0, seed)
        middle = (found.starts >= 20) & (found.ends <= 80)
        wrong.append(found.positives[middle].sum() + found.negatives[middle].sum())
    assert np.mean(wrong) < 0.1 * 600


def test_the_noise_of_every_count_is_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[NDArray[np.float64]] = []

    def watched(exact: NDArray[np.float64], sensitivity: float, sigma: float, rng: np.random.Generator):  # type: ignore[no-untyped-def]
        drawn.append((noise(exact, sensitivity, sigma, rng) - exact).ravel() / sigma)
        return exact + drawn[-1].reshape(exact.shape) * sigma

    monkeypatch.setattr(private_statistics, "noise", watched)
    for seed in range(60):
        private(histogram_of(600), 4.0, seed)
    assert stats.kstest(np.concatenate(drawn), "norm").pvalue > 0.01


def test_the_threshold_of_a_large_hospital_survives_the_noise() -> None:
    """Sensitivity and specificity at every border of the noised curve, of 3000 people and a noise of 6."""
    from sarco_models.histograms import binned_roc

    probability, labels = scores(3000)
    roc = binned_roc([private(histogram_of(3000), 6.0)])
    for threshold, found in zip(roc.thresholds[1:], roc.sensitivity[1:], strict=True):
        assert abs(np.mean(probability[labels] >= threshold) - found) < 0.05
