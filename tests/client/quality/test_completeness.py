"""Gaps, constants and copies: told where they would harm a model, left alone where they are how hospitals work."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.quality.columns import written
from client.quality.completeness import completeness_findings
from sarco_models.errors import Finding
from tests.client.quality.cohorts import STUDY, clean, examined, rules

ALBUMIN, CALF, TSH = "albumin_g_per_l", "calf_circumference_cm", "tsh_miu_per_l"
FEATURES = [f.name for f in STUDY.features]


def found(folder: Path, table: pd.DataFrame) -> list[Finding]:
    read = examined(folder, table)
    return list(completeness_findings(read, STUDY, written(read, STUDY)))


def complete(scale: str = "small") -> pd.DataFrame:
    """Sichuan's people: nothing is missing there."""
    return clean("sichuan", scale)


def new(folder: Path, table: pd.DataFrame, name: str) -> Finding:
    """The one finding of a column in an otherwise complete table."""
    (finding,) = [f for f in found(folder, table) if f.field == name]
    return finding


@pytest.mark.parametrize("center", ["shanghai", "sichuan", "zhongshan"])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_cohort_has_at_most_a_person_with_many_gaps(tmp_path: Path, center: str, seed: int) -> None:
    """The synthetic hospitals leave out whole panels (SCIENCE 2.1, step 8); that is a note."""
    findings = found(tmp_path, clean(center, "small", seed))
    assert {f.rule for f in findings} <= {"missing", "missing-block", "missing-in-person"}
    assert sum(f.severity == "warning" for f in findings) <= 1
    assert not any(f.severity == "error" for f in findings)


@pytest.mark.parametrize(("share", "severity"), [(0.1, None), (0.25, "note"), (0.6, "warning")])
def test_a_feature_is_told_by_the_share_of_people_without_it(
    tmp_path: Path, share: float, severity: str | None
) -> None:
    table = complete()
    n = round(share * len(table))
    table.loc[: n - 1, ALBUMIN] = np.nan
    findings = found(tmp_path, table)
    assert [(f.severity, f.rule, f.field) for f in findings] == ([(severity, "missing", ALBUMIN)] if severity else [])
    if severity:
        assert findings[0].seen == f"missing in {n} of 36 people ({n / 36:.0%})"


def test_a_column_without_any_value_is_told_once_and_an_absent_one_not_again(tmp_path: Path) -> None:
    """That a column is absent the schema says already."""
    table = complete()
    table[ALBUMIN] = np.nan
    assert rules(found(tmp_path, table)) == {("warning", "empty-column", ALBUMIN): 1}
    assert found(tmp_path, table.drop(columns=ALBUMIN)) == []


def test_a_person_without_most_features_is_listed(tmp_path: Path) -> None:
    table = complete()
    table.loc[4, FEATURES[:12]] = np.nan
    table.loc[6, FEATURES[:10]] = np.nan
    (finding,) = [f for f in found(tmp_path, table) if f.rule == "missing-in-person"]
    assert (finding.severity, finding.row) == ("warning", 6)
    assert finding.seen == "55% of 22 features missing"


def test_what_nobody_here_has_is_not_held_against_a_person(tmp_path: Path) -> None:
    """A hospital without a laboratory has people, not gaps."""
    table = complete()
    table[FEATURES[8:]] = np.nan
    assert {f.rule for f in found(tmp_path, table)} == {"empty-column"}


def test_a_panel_that_is_missing_as_a_whole_is_one_note(tmp_path: Path) -> None:
    table = complete()
    table.loc[:3, [TSH, "ft3_pmol_per_l", "ft4_pmol_per_l"]] = np.nan
    (finding,) = found(tmp_path, table)
    assert (finding.severity, finding.rule) == ("note", "missing-block")
    assert finding.seen == "missing together with ft4_pmol_per_l, tsh_miu_per_l in 4 people"


@pytest.mark.parametrize(("name", "value"), [(ALBUMIN, 40.0), ("diabetes", 1)])
def test_a_column_with_one_value_for_all_is_told(tmp_path: Path, name: str, value: float) -> None:
    table = complete()
    table[name] = value
    finding = new(tmp_path, table, name)
    assert (finding.severity, finding.rule, finding.seen) == ("warning", "constant", f"{value:g} in all 36 people")


def test_a_column_copied_over_another_is_told(tmp_path: Path) -> None:
    table = complete()
    table["tt4_nmol_per_l"] = table["ft4_pmol_per_l"]
    finding = new(tmp_path, table, "tt4_nmol_per_l")
    assert (finding.severity, finding.rule, finding.seen) == ("warning", "copied-column", "the same as ft4_pmol_per_l")


def test_a_copy_in_another_unit_is_a_copy(tmp_path: Path) -> None:
    table = complete()
    table["ft4_pmol_per_l"] = (table["tt4_nmol_per_l"] / 7.7).round(4)
    assert new(tmp_path, table, "tt4_nmol_per_l").rule == "copied-column"


def test_two_rare_diagnoses_that_agree_by_chance_are_no_copies_and_common_ones_are(tmp_path: Path) -> None:
    table = complete()
    table["diabetes"] = table["osteoporosis"] = [1] * 3 + [0] * 33
    assert found(tmp_path, table) == []
    table["diabetes"] = table["osteoporosis"] = [1] * 15 + [0] * 21
    assert rules(found(tmp_path, table)) == {("warning", "copied-column", "osteoporosis"): 1}


@pytest.mark.parametrize("part", ["asmi_kg_per_m2", "grip_kg"])
def test_a_part_of_the_label_under_another_name_is_an_error(tmp_path: Path, part: str) -> None:
    """The deny-list knows names; this is the same column renamed (SCIENCE 1.6, I18)."""
    table = complete()
    table[CALF] = table[part] * 0.5 + 20
    finding = new(tmp_path, table, CALF)
    assert (finding.severity, finding.rule) == ("error", "label-part")
    assert finding.seen == f"a copy of {part}, which defines the label"


def test_readings_rounded_to_fives_are_a_note(tmp_path: Path) -> None:
    table = complete("full")
    table["weight_kg"] = (table["weight_kg"] / 5).round() * 5
    finding = new(tmp_path, table, "weight_kg")
    assert (finding.severity, finding.rule, finding.seen) == ("note", "rounded", "100% of the values end in 0 or 5")


def test_an_empty_table_has_no_gaps(tmp_path: Path) -> None:
    assert found(tmp_path, complete().head(0)) == []
