"""A wrong unit, two units in one column and a slipped digit are found; a clean cohort's tails are left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.quality.columns import Written, written
from client.quality.values import OUTLIER_NOTE, Bulk, value_findings
from sarco_models.errors import Finding
from sarco_models.units import conversion
from tests.client.quality.cohorts import STUDY, clean, examined, rules


def found(folder: Path, table: pd.DataFrame) -> list[Finding]:
    read = examined(folder, table)
    return list(value_findings(written(read, STUDY), read.rows))


def in_unit(table: pd.DataFrame, name: str, unit: str, rows: slice = slice(None)) -> pd.DataFrame:
    """The column as a hospital that reports in another unit writes it."""
    target = next((f.unit for f in STUDY.features if f.name == name), "")
    back = conversion(name, target or {"grip_kg": "kg", "gait_speed_m_per_s": "m/s"}[name], unit)
    table = table.copy()
    values = table[name].to_numpy(float, copy=True)
    values[rows] = np.round(back(values[rows]), 4)
    table[name] = values
    return table


# ---- a whole column --------------------------------------------------------------------------------------------------

OUTSIDE = [
    ("height_m", "cm"), ("height_m", "in"), ("calf_circumference_cm", "in"), ("calf_circumference_cm", "mm"),
    ("total_cholesterol_mmol_per_l", "mg/dL"), ("triglycerides_mmol_per_l", "mg/dL"), ("hdl_mmol_per_l", "mg/dL"),
    ("ldl_mmol_per_l", "mg/dL"), ("hba1c_percent", "mmol/mol"), ("albumin_g_per_l", "g/dL"),
    ("haemoglobin_g_per_l", "g/dL"), ("haemoglobin_g_per_l", "mmol/L"), ("ft3_pmol_per_l", "ng/dL"),
    ("tt3_nmol_per_l", "ng/dL"), ("tt4_nmol_per_l", "ug/dL"), ("age_years", "months"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "unit"), OUTSIDE)
def test_a_column_in_another_unit_is_an_error_where_its_median_is_implausible(
    tmp_path: Path, name: str, unit: str
) -> None:
    (finding,) = found(tmp_path, in_unit(clean(), name, unit))
    assert (finding.severity, finding.rule, finding.field, finding.row) == ("error", "units", name, None)
    assert unit in finding.remedy.partition(":")[0].removeprefix("the values look like ").split(" or ")
    assert "median" in finding.seen


INSIDE = [
    ("weight_kg", "lb"), ("weight_kg", "jin"), ("vitd_25oh_ng_per_ml", "nmol/L"), ("ft3_pmol_per_l", "pg/mL"),
    ("ft4_pmol_per_l", "ng/dL"), ("tt3_nmol_per_l", "ng/mL"), ("grip_kg", "lb"), ("gait_speed_m_per_s", "cm/s"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "unit"), INSIDE)
def test_a_column_in_another_unit_is_a_warning_where_its_values_are_plausible_one_by_one(
    tmp_path: Path, name: str, unit: str
) -> None:
    """66 kg are 146 lb, and both are a weight: only the median of a cohort tells."""
    (finding,) = [f for f in found(tmp_path, in_unit(clean(), name, unit)) if f.rule == "units"]
    assert (finding.severity, finding.field) == ("warning", name)
    assert unit in finding.remedy


def test_a_label_part_far_from_its_usual_median_is_told_even_where_no_unit_explains_it(tmp_path: Path) -> None:
    """Muscle mass in kg instead of its index: the label rule would call everybody normal."""
    table = clean()
    table["asmi_kg_per_m2"] *= table["height_m"] ** 2
    (finding,) = found(tmp_path, table)
    assert (finding.severity, finding.rule, finding.field) == ("warning", "units", "asmi_kg_per_m2")
    assert finding.expected == "a median of 4 to 10 kg/m2"


def test_a_median_that_few_people_moved_out_is_no_other_unit(tmp_path: Path) -> None:
    """Twelve people with cirrhosis have a median TT3 below that of any hundred."""
    table = clean("zhongshan", "tiny")
    table["tt3_nmol_per_l"] = [0.8, 0.82, 0.85, 0.9, 0.93, 0.95, 0.98, 1.1, 1.2, 1.3, 1.4, 1.5]
    assert not [f for f in found(tmp_path, table) if f.rule == "units"]
    table["tt3_nmol_per_l"] = [0.8, 0.82, 0.85, 0.9, 0.93, 0.95, 0.98, 1.0, 1.02, 1.05, 1.07, 1.2]
    assert [f.severity for f in found(tmp_path, table) if f.rule == "units"] == ["warning"]


def test_a_study_of_children_has_other_medians(tmp_path: Path) -> None:
    table = clean()
    table["weight_kg"] = (table["weight_kg"] / 2).round(1)
    read = examined(tmp_path, table)
    columns = [c for c in written(read, STUDY) if c.name == "weight_kg"]
    assert [f.rule for f in value_findings(columns, read.rows)] == ["unusual-median"]
    assert list(value_findings([replace(columns[0], low=2.0, high=60.0)], read.rows)) == []


@pytest.mark.parametrize(("center", "scale"), [("shanghai", "full"), ("sichuan", "full"), ("zhongshan", "full")])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_cohort_has_no_wrong_unit_and_hardly_an_outlier(
    tmp_path: Path, center: str, scale: str, seed: int
) -> None:
    """Cirrhosis lowers FT3 and TT3 (Zhongshan) and is no other unit."""
    findings = found(tmp_path, clean(center, scale, seed))
    assert {f.rule for f in findings} <= {"outlier"}
    assert all(f.severity == "note" for f in findings)
    assert len(findings) <= 3  # of some 6,000 values


# ---- single values ---------------------------------------------------------------------------------------------------


def test_some_cells_in_another_unit_are_told_together_with_their_rows(tmp_path: Path) -> None:
    table = in_unit(clean(), "albumin_g_per_l", "g/dL", slice(10, 14))
    (finding,) = found(tmp_path, table)
    assert (finding.severity, finding.rule, finding.field) == ("error", "units-mixed", "albumin_g_per_l")
    assert finding.seen.startswith("4 of ")
    assert finding.seen.endswith("values look like g/dL: rows 12, 13, 14, 15")


def test_two_units_are_found_even_where_half_of_the_column_is_in_each(tmp_path: Path) -> None:
    """FT4 of 1.2 ng/dL and of 15 pmol/L are both inside the study's range of 1 to 80."""
    (finding,) = found(tmp_path, in_unit(clean(), "ft4_pmol_per_l", "ng/dL", slice(0, 40)))
    assert (finding.severity, finding.rule) == ("error", "units-mixed")
    assert "look like ng/dL" in finding.seen
    assert int(finding.seen.split()[0]) >= 30


SLIPS = {
    "weight, a digit too many": ("weight_kg", 170.5, "note"),
    "calf, decimal point lost in 35.1": ("calf_circumference_cm", 51.3, "note"),
    "albumin, 13.9 for 39.9": ("albumin_g_per_l", 13.9, "warning"),
    "TSH of 88": ("tsh_miu_per_l", 88.0, "warning"),
    "TT4 of 300": ("tt4_nmol_per_l", 300.0, "warning"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value", "severity"), SLIPS.values(), ids=SLIPS)
def test_a_slip_of_the_pen_is_listed_with_row_and_value_and_never_altered(
    tmp_path: Path, name: str, value: float, severity: str
) -> None:
    table = clean()
    table.loc[5, name] = value
    before = (examined(tmp_path, table)).values.copy()
    (finding,) = [f for f in found(tmp_path, table) if f.field == name]
    assert (finding.rule, finding.row) == ("outlier", 7)
    assert finding.seen.startswith(f"{value:g}, ")
    assert "nothing is changed" in finding.remedy
    assert finding.severity in {severity, "warning"}
    np.testing.assert_array_equal(examined(tmp_path, table).values, before)


def test_many_outliers_are_counted_and_the_first_are_listed(tmp_path: Path) -> None:
    table = clean(scale="full")
    table.loc[:24, "calf_circumference_cm"] = 57.0
    findings = [f for f in found(tmp_path, table) if f.field == "calf_circumference_cm"]
    assert sum(f.row is not None for f in findings) == 10
    assert [f.seen for f in findings if f.row is None] == ["the same in 15 more rows"]


def test_a_skewed_column_is_judged_on_the_logarithm() -> None:
    """Triglycerides have a long tail: a value at three log standard deviations is no error of anybody."""
    values = np.exp(np.random.default_rng(3).normal(0.3, 0.5, 4000))
    bulk = Bulk.of(values, 0.01)
    assert bulk is not None
    on_plain_scale = (values - np.median(values)) / (1.4826 * np.median(np.abs(values - np.median(values))))
    assert (np.abs(on_plain_scale) > OUTLIER_NOTE).sum() > 20
    assert (np.abs(bulk.z(values)) > OUTLIER_NOTE).sum() == 0


def test_two_long_tails_are_no_other_unit(tmp_path: Path) -> None:
    """16 mmol/L of triglycerides is high; as mg/dL it would be far lower than anybody's. So is 1.5 times an FT3."""
    table = clean()
    table.loc[:1, "triglycerides_mmol_per_l"] = [16.0, 18.0]
    table.loc[:2, "ft3_pmol_per_l"] = [9.5, 9.7, 9.9]
    assert {f.rule for f in found(tmp_path, table)} == {"outlier"}


def test_a_symmetric_column_is_judged_as_it_is() -> None:
    """A value near zero has a huge logarithm and need not be far away."""
    values = np.random.default_rng(3).normal(10, 3, 500).clip(0.01)
    bulk = Bulk.of(values, 0.01)
    assert bulk is not None
    assert np.abs(bulk.z(np.array([0.01]))) < 4


def test_a_column_of_mostly_equal_values_has_a_spread_and_one_of_all_equal_has_none() -> None:
    assert Bulk.of(np.full(50, 3.0), 1.0) is None
    bulk = Bulk.of(np.array([3.0] * 40 + [4.0] * 10), 1.0)
    assert bulk is not None
    assert np.abs(bulk.z(np.array([4.0]))) <= 1


def test_few_values_are_not_judged(tmp_path: Path) -> None:
    table = clean(scale="small").head(15)
    table.loc[5, "weight_kg"] = 170.5
    assert found(tmp_path, table) == []


def test_what_is_no_number_is_no_value(tmp_path: Path) -> None:
    table = clean()
    table["tsh_miu_per_l"] = table["tsh_miu_per_l"].astype(object)
    table.loc[0, "tsh_miu_per_l"], table.loc[1, "tsh_miu_per_l"] = "<0.01", "not done"
    column = next(c for c in written(examined(tmp_path, table), STUDY) if c.name == "tsh_miu_per_l")
    assert np.isnan(column.values[:2]).all()
    assert not np.isnan(column.values[2:20]).all()
    assert rules(found(tmp_path, table)) == rules(found(tmp_path, clean()))


@pytest.mark.parametrize(("values", "step"), [([66.5, 70.0], 0.1), ([70.0, 71.0], 1.0), ([1.64, 1.7], 0.01), ([], 0.0)])
def test_a_column_says_to_which_decimal_it_was_written(values: list[float], step: float) -> None:
    assert Written("x", "", 0, 1, np.array(values), True).step == pytest.approx(step)
