"""The tables of the people show what the run holds, hide what it hides, and know no feature by name."""

from pathlib import Path

import pytest

from server.people_tables import baseline, subgroups, variable_name
from server.results import Meta, Results, read_results


def test_the_hospitals_stand_side_by_side(variants: Path) -> None:
    table = baseline(read_results(variants))
    assert table.head[:4] == ("", "Shanghai, with", "Shanghai, without", "P")
    assert len(table.head) == 1 + 3 * 3
    assert all(len(row.cells) == len(table.head) for row in table.rows)
    names = [row.cells[0].main for row in table.rows]
    assert names == ["Age years", "Diabetes", "Tsh miu per l", "Device: A", "Device: B"]


def test_hidden_counts_and_absent_rows_are_told_apart() -> None:
    share = {"count": None, "known": 4}
    row = {"variable": "x", "level": "yes", "positive": share, "negative": {"count": 6, "known": 12}}
    tables = {"baseline": {"1": {"a": [row | {"missing": [0, 2], "test": None, "p": None}], "b": []}}}
    cells = baseline(Results(Meta(), (), {}, tables)).rows[0].cells
    assert [cell.main for cell in cells] == ["X", "hidden", "6 (50 %)", ""]
    assert cells[2].below == ("2 missing",)


def test_a_kind_of_people_with_too_few_has_no_number(variants: Path) -> None:
    results = read_results(variants)
    found: dict[str, object] = {"variable": "sex", "unknown": 0, "reference": "", "interactions": {}}
    men = {"level": "men", "participants": None, "events": None, "auc": None}
    women = {"level": "women", "participants": 90, "events": 30, "auc": {"value": 0.8, "low": 0.7, "high": 0.9}}
    of_sex, of_device = found | {"levels": [men, women]}, found | {"variable": "device", "levels": [men]}
    tables = {"subgroups": {"federated": {"1": [of_sex, of_device]}}}
    table = subgroups(Results(results.meta, results.rows, {}, tables))
    assert [cell.main for cell in table.rows[1].cells] == ["men", "hidden", "hidden", "too few", "–", "–"]
    assert len(table.rows) == 3
    assert "Too few people of every kind: Device." in table.caption


def test_subgroups_name_their_reference_and_adjust_the_others(variants: Path) -> None:
    rows = [row for row in subgroups(read_results(variants)).rows if row.cells]
    assert sum(row.cells[4].main == "reference" for row in rows) == 3
    tested = [row for row in rows if row.cells[4].main[0] in "+−0"]
    assert len(tested) == len(rows) - 3
    assert all(row.cells[5].main != "–" and " to " in row.cells[4].below[0] for row in tested)


@pytest.mark.parametrize(
    ("name", "unit", "said"),
    [
        ("bmi_kg_per_m2", "kg/m2", "BMI, kg/m2"),
        ("hba1c_percent", "%", "HbA1c, %"),
        ("age_years", "years", "Age, years"),
        ("muscle_depth", "", "Muscle depth"),
        ("tsh_miu_per_l", "mIU/L", "TSH, mIU/L"),
    ],
)
def test_features_of_any_study_get_a_name_and_their_unit(name: str, unit: str, said: str) -> None:
    meta = Meta(study={"features": [{"name": name, "unit": unit}]})
    assert variable_name(Results(meta, ()), name) == said
