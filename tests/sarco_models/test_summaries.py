"""Three sites agree on the pooled means without sharing a row, and nobody who is held out has a say."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.cohort import Cohort, People, TrainingPeople, everyone, split
from sarco_models.config import SplitConfig
from sarco_models.errors import ProtocolError
from sarco_models.schema import Column, design_columns
from sarco_models.summaries import Moments, Scaling, TableScaling, agreed_scaling
from tests.sites import opened, tables_site, tables_study

COLUMNS = (
    Column("age_years", "clinical", 18.0, 110.0, False),
    Column("tsh_miu_per_l", "lab", 0.005, 100.0, False),
    Column("male", "clinical", 0.0, 1.0, True),
)
SCALINGS: tuple[Scaling, ...] = ("standard", "clinical_range", "minmax")
RESOLUTION = np.array([c.high - c.low for c in COLUMNS]) / 2**20


def people(table: NDArray[np.float64]) -> TrainingPeople:
    n = len(table)
    labels, nothing = np.zeros(n, np.int8), np.zeros(0, np.int64)
    cohort = Cohort(("a",) * n, tuple(map(str, range(n))), labels, table, nothing, (), (), ())
    return TrainingPeople(cohort, np.arange(n))


def table_of(n: int, seed: int = 1, missing: float = 0.2) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    table = np.stack(
        [rng.uniform(18, 110, n), rng.lognormal(0.5, 0.8, n).clip(0.005, 100), rng.integers(0, 2, n)], axis=1
    )
    table[rng.random(table.shape) < missing] = np.nan
    return table


def moments(table: NDArray[np.float64], *, extremes: bool = True) -> Moments:
    return Moments.of(people(table), COLUMNS, extremes=extremes)


def equal(a: Moments, b: Moments) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Moments))


# ---- sums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_merged_moments_are_the_pooled_moments_bit_for_bit(seed: int) -> None:
    """Any partition into sites, empty ones too, merged in any order."""
    rng = np.random.default_rng(seed)
    table = table_of(97, seed)
    parts = np.split(rng.permutation(table), np.sort(rng.integers(0, 98, rng.integers(1, 6))))
    sites = [moments(part) for part in parts]
    left = sites[0]
    for site in sites[1:]:
        left = left + site
    right = sites[-1]
    for site in sites[-2::-1]:
        right = site + right
    assert equal(left, moments(table))
    assert equal(right, left)


def test_mean_and_deviation_are_numpys_to_the_resolution() -> None:
    table = table_of(500)
    agreed = moments(table)
    assert (np.abs(agreed.mean(COLUMNS) - np.nanmean(table, axis=0)) <= RESOLUTION).all()
    assert (np.abs(agreed.standard_deviation(COLUMNS) - np.nanstd(table, axis=0)) <= RESOLUTION).all()
    np.testing.assert_array_equal(agreed.count, (~np.isnan(table)).sum(axis=0))


def test_sums_of_a_million_people_do_not_overflow() -> None:
    table = np.tile([[110.0, 100.0, 1.0]], (1000, 1))
    thousand = moments(table)
    million = replace(thousand, **{f: getattr(thousand, f) * 1000 for f in ("count", "total", "squares")})
    np.testing.assert_allclose(million.mean(COLUMNS), [110, 100, 1])


@pytest.mark.parametrize("value", [[110.0, 100.0, 1.0], [61.7, 2.31, 0.0]])
def test_a_column_without_spread_has_a_deviation_of_exactly_zero(value: list[float]) -> None:
    """Also of many people: a deviation of rounding errors alone would blow a scaled value up."""
    thousand = moments(np.tile([value], (1000, 1)))
    many = replace(thousand, **{f: getattr(thousand, f) * 997 for f in ("count", "total", "squares")})
    np.testing.assert_array_equal(many.standard_deviation(COLUMNS), 0)


def test_a_column_that_nobody_has_is_in_the_middle_of_its_range() -> None:
    table = table_of(20)
    table[:, 1] = np.nan
    agreed = moments(table)
    assert agreed.count[1] == 0
    assert agreed.mean(COLUMNS)[1] == pytest.approx((0.005 + 100) / 2)
    assert agreed.standard_deviation(COLUMNS)[1] == 0
    assert equal(agreed + moments(table[:0]), agreed)


def test_a_site_that_lacks_a_column_adds_nothing_to_it() -> None:
    """Centre C has no laboratory values: A's and B's means stand."""
    a, c = table_of(30, 1), table_of(20, 2)
    c[:, 1] = np.nan
    assert (moments(a) + moments(c)).mean(COLUMNS)[1] == moments(a).mean(COLUMNS)[1]


def test_smallest_and_largest_values_are_sent_only_when_they_are_asked_for() -> None:
    """They are values of single persons."""
    one, other = moments(table_of(20, 1), extremes=False), moments(table_of(20, 2), extremes=False)
    np.testing.assert_array_equal(one.smallest, other.smallest)
    np.testing.assert_array_equal(one.largest, other.largest)
    assert (one.smallest > one.largest).all()


def test_moments_of_another_study_are_refused() -> None:
    with pytest.raises(ProtocolError, match=r"moments of 2 columns; expected 3"):
        moments(table_of(5)) + Moments.of(people(table_of(5)[:, :2]), COLUMNS[:2], extremes=True)


# ---- nothing is fitted on people who are held out --------------------------------------------------------------------


def test_moments_of_people_who_are_held_out_are_refused_while_running(tables_folder: Path) -> None:
    study = tables_study()
    parts = split(opened(tables_folder, study), SplitConfig(), 1)
    columns = design_columns(study.features)
    for held_out in (parts.test, parts.validation, everyone(parts.cohort), People(parts.cohort, np.arange(3))):
        with pytest.raises(TypeError, match="TrainingPeople only"):
            Moments.of(held_out, columns, extremes=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_other_values_of_held_out_people_change_nothing_that_is_agreed(tables_folder: Path, scaling: str) -> None:
    """SCIENCE section 5, pitfall 3: perturb the test rows, and demand identical parameters."""
    study = tables_study(tabular={"scaling": scaling})
    parts = split(opened(tables_folder, study), SplitConfig(), 1)
    columns = design_columns(study.features)
    before = agreed_scaling(study, Moments.of(parts.train, columns, extremes=True))
    held_out = np.concatenate([parts.validation.members, parts.test.members])
    parts.cohort.table[held_out] = [c.high for c in columns]
    after = agreed_scaling(study, Moments.of(parts.train, columns, extremes=True))
    for name in ("fill", "low", "high"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


# ---- scaling ---------------------------------------------------------------------------------------------------------


def test_the_clinical_range_becomes_zero_to_one() -> None:
    """Fixed by the study: the same number means the same at every hospital, whoever takes part."""
    scaling = TableScaling.agreed(moments(table_of(20)), COLUMNS, "clinical_range")
    np.testing.assert_allclose(scaling(np.array([[18, 0.005, 0], [110, 100, 1]])), [[0, 0, 0], [1, 1, 1]], atol=1e-7)
    other = TableScaling.agreed(moments(table_of(20, 2)), COLUMNS, "clinical_range")
    np.testing.assert_array_equal(scaling(table_of(9, 3, 0)), other(table_of(9, 3, 0)))


def test_standard_scaling_gives_mean_zero_and_deviation_one() -> None:
    """Of the training participants of all sites; a 0/1 column stays 0/1."""
    parts = [table_of(30, seed) for seed in range(3)]
    agreed = moments(parts[0]) + moments(parts[1]) + moments(parts[2])
    whole = np.concatenate(parts)
    scaled = np.where(np.isnan(whole), np.nan, TableScaling.agreed(agreed, COLUMNS, "standard")(whole))
    np.testing.assert_allclose(np.nanmean(scaled[:, :2], axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(scaled[:, :2], axis=0), 1, atol=1e-5)
    assert set(scaled[~np.isnan(scaled[:, 2]), 2]) == {0, 1}


def test_min_max_puts_the_training_values_of_all_sites_into_zero_to_one() -> None:
    parts = [table_of(30, seed) for seed in range(3)]
    scaling = TableScaling.agreed(moments(parts[0]) + moments(parts[1]) + moments(parts[2]), COLUMNS, "minmax")
    whole = np.concatenate(parts)
    scaled = scaling(whole)[~np.isnan(whole).any(axis=1)]
    assert (scaled >= -1e-4).all()
    assert (scaled <= 1 + 1e-4).all()
    np.testing.assert_allclose(scaling.low, np.nanmin(whole, axis=0), atol=RESOLUTION.max())
    np.testing.assert_allclose(scaling.high, np.nanmax(whole, axis=0), atol=RESOLUTION.max())


@pytest.mark.parametrize("name", ["standard", "minmax"])
def test_a_constant_or_absent_column_falls_back_on_the_range(name: Scaling) -> None:
    table = table_of(10, missing=0)
    table[:, 0], table[:, 1] = 60.0, np.nan
    scaling = TableScaling.agreed(moments(table), COLUMNS, name)
    np.testing.assert_array_equal(scaling.low[:2], [18, 0.005])
    np.testing.assert_array_equal(scaling.high[:2], [110, 100])


def test_a_missing_cell_becomes_the_agreed_mean() -> None:
    """Mean imputation over all sites, never per class (SCIENCE section 5, pitfall 4: no interface sees the label)."""
    agreed = moments(table_of(50))
    for name in SCALINGS:
        scaling = TableScaling.agreed(agreed, COLUMNS, name)
        np.testing.assert_array_equal(scaling(np.full((1, 3), np.nan)), scaling(agreed.mean(COLUMNS)[None]))


def test_a_scaled_table_is_complete_and_finite_when_everything_is_missing() -> None:
    nobody = moments(np.full((5, 3), np.nan))
    for name in SCALINGS:
        scaled = TableScaling.agreed(nobody, COLUMNS, name)(np.full((2, 3), np.nan))
        np.testing.assert_allclose(scaled, 0.5, atol=1e-6)
        assert scaled.dtype == np.float32


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_scaling_of_three_sites_is_that_of_their_pooled_rows(tmp_path: Path, scaling: str) -> None:
    study = tables_study(tabular={"scaling": scaling})
    columns = design_columns(study.features)
    tables = [opened(tables_site(tmp_path / f"s{k}", 10 + k, k), study).table for k in range(3)]
    merged = Moments.of(people(tables[0]), columns, extremes=True)
    for table in tables[1:]:
        merged = merged + Moments.of(people(table), columns, extremes=True)
    pooled = Moments.of(people(np.concatenate(tables)), columns, extremes=True)
    one, other = agreed_scaling(study, merged), agreed_scaling(study, pooled)
    np.testing.assert_array_equal(one(tables[0]), other(tables[0]))
