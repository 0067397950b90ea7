"""Values that cannot stand in one row are found in that row, and rounding is no contradiction."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.quality.columns import written
from client.quality.combinations import combination_findings
from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from tests.client.quality.cohorts import STUDY, clean, examined

LDL, HDL, TC = "ldl_mmol_per_l", "hdl_mmol_per_l", "total_cholesterol_mmol_per_l"


def found(folder: Path, table: pd.DataFrame, study: StudyConfig = STUDY) -> list[Finding]:
    read = examined(folder, table, study)
    return list(combination_findings(written(read, study), read.rows))


def changed(row: int, **values: float) -> pd.DataFrame:
    table = clean()
    for name, value in values.items():
        table.loc[row - 2, name] = value
    return table


@pytest.mark.parametrize("center", ["shanghai", "sichuan", "zhongshan"])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_cohort_contradicts_itself_nowhere(tmp_path: Path, center: str, seed: int) -> None:
    """Friedewald's rule is a rule of thumb: of 1000 people one or two are further from it than is asked about."""
    told = found(tmp_path, clean(center, "full", seed))
    assert {(f.severity, f.rule) for f in told} <= {("note", "friedewald")}
    assert all(f.seen.startswith("in 1 of") for f in told)


def test_a_column_in_another_order_contradicts_the_others(tmp_path: Path) -> None:
    """A sheet sorted by total cholesterol alone: LDL exceeds it in many; ten are told, and how many more there are."""
    table = clean(scale="full")
    table[TC] = table[TC].sort_values().to_numpy()
    above = (table[LDL] > table[TC]).sum()
    findings = [f for f in found(tmp_path, table) if f.rule == "part-above-whole"]
    assert above > 10
    assert sum(f.row is not None for f in findings) == 10
    assert {f.severity for f in findings} == {"warning"}


IMPOSSIBLE = {
    "height of another person": ({"height_m": 1.85}, "bmi", "bmi_kg_per_m2"),
    "two digits of the weight exchanged": ({"weight_kg": 95.6}, "bmi", "bmi_kg_per_m2"),
    "LDL above total cholesterol": ({LDL: 5.2, TC: 5.1}, "part-above-whole", LDL),
    "HDL above total cholesterol": ({HDL: 2.4, TC: 2.3, LDL: 1.0}, "part-above-whole", HDL),
    "free T3 as high as total T3": ({"tt3_nmol_per_l": 0.15, "ft3_pmol_per_l": 9.0}, "free-hormone", "ft3_pmol_per_l"),
    "no free T4": ({"tt4_nmol_per_l": 300.0, "ft4_pmol_per_l": 2.0}, "free-hormone", "ft4_pmol_per_l"),
    "calf of a giant": ({"calf_circumference_cm": 59.0}, "calf-height", "calf_circumference_cm"),
}


@pytest.mark.parametrize(("values", "rule", "field"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_combination_is_told_with_its_row(
    tmp_path: Path, values: dict[str, float], rule: str, field: str
) -> None:
    told = [f for f in found(tmp_path, changed(9, **values)) if f.rule != "friedewald"]
    assert [(f.severity, f.rule, f.field, f.row) for f in told] == [("warning", rule, field, 9)]


def test_a_bmi_is_as_exact_as_what_it_was_computed_from(tmp_path: Path) -> None:
    """Weight to the kilogram, height to the centimetre, BMI to one decimal, rounded from what was measured."""
    rng = np.random.default_rng(5)
    table = clean(scale="full")
    height, weight = rng.normal(1.62, 0.09, len(table)).clip(1.4, 1.9), rng.normal(62, 9, len(table)).clip(35, 110)
    table["height_m"], table["weight_kg"] = height.round(2), weight.round(0)
    table["bmi_kg_per_m2"] = (weight / height**2).round(1)
    assert found(tmp_path, table) == []
    table.loc[3, "bmi_kg_per_m2"] = (weight / height**2).round(1)[3] + 1.5
    assert [(f.rule, f.row) for f in found(tmp_path, table)] == [("bmi", 5)]


@pytest.mark.parametrize(("name", "factor", "unit"), [("weight_kg", 1 / 0.45359237, "lb"), ("weight_kg", 2.0, "jin")])
def test_a_unit_that_explains_all_contradictions_is_named_once(
    tmp_path: Path, name: str, factor: float, unit: str
) -> None:
    table = clean()
    table.loc[:29, name] = (table.loc[:29, name] * factor).round(1)
    (finding,) = found(tmp_path, table)
    assert (finding.rule, finding.row) == ("bmi", None)
    assert "in 30 people" in finding.seen
    assert finding.remedy == f"{name} looks like {unit} in these rows: convert it to kg"


def test_friedewalds_estimate_is_a_note_and_not_made_where_it_does_not_hold(tmp_path: Path) -> None:
    table = changed(9, **{TC: 8.5})
    (finding,) = found(tmp_path, table)
    assert (finding.severity, finding.rule, finding.field) == ("note", "friedewald", LDL)
    assert finding.seen.endswith("mmol/L away: row 9")
    table.loc[7, "triglycerides_mmol_per_l"] = 4.6
    assert found(tmp_path, table) == []


def test_a_value_outside_its_range_is_not_told_a_second_time(tmp_path: Path) -> None:
    assert found(tmp_path, changed(9, height_m=164.0, ldl_mmol_per_l=120.0)) == []


def in_other_units() -> tuple[StudyConfig, pd.DataFrame]:
    """The same people in a study that wants centimetres and mg/dL."""
    tree: dict[str, Any] = STUDY.model_dump(mode="json")
    names = {
        "height_m": ("height_cm", "cm", 100.0),
        LDL: ("ldl_mg_per_dl", "mg/dL", 38.67),
        TC: ("cholesterol", "mg/dL", 38.67),
    }
    table = clean()
    for feature in tree["features"]:
        if feature["name"] in names:
            old, (new, unit, factor) = feature["name"], names[feature["name"]]
            low, high = feature["low"] * factor, feature["high"] * factor
            feature.update(name=new, unit=unit, low=low, high=high)
            table[new] = (table.pop(old) * factor).round(1)
    return StudyConfig.model_validate(tree, strict=False), table


def test_the_checks_run_in_whatever_units_the_study_has(tmp_path: Path) -> None:
    study, table = in_other_units()
    assert found(tmp_path, table, study) == []
    table.loc[7, "height_cm"], table.loc[8, "ldl_mg_per_dl"] = 190.0, 400.0
    assert {(f.rule, f.row) for f in found(tmp_path, table, study) if f.row} == {("bmi", 9), ("part-above-whole", 10)}


def test_a_study_without_these_features_has_no_such_checks(tmp_path: Path) -> None:
    kept = [f for f in STUDY.features if f.name in ("age_years", "male", LDL)]
    study = STUDY.model_copy(update={"features": tuple(kept)})
    assert found(tmp_path, changed(9, ldl_mmol_per_l=9.0), study) == []
