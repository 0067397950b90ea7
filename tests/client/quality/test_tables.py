"""Labels are compared with the rule that is said to have made them; the whole of a clean table is quiet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.quality.tables import label_agreement, table_findings
from sarco_models.errors import Finding
from tests.client.quality.cohorts import RULE, STUDY, clean, examined


def found(folder: Path, table: pd.DataFrame, rule: str | None = None) -> list[Finding]:
    return [f for f in table_findings(examined(folder, table), STUDY, rule) if f.field == "sarcopenia"]


def agreement(folder: Path, table: pd.DataFrame) -> dict[str, tuple[int, int]]:
    return label_agreement(examined(folder, table), STUDY)


# ---- the whole table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("center", ["shanghai", "sichuan", "zhongshan"])
@pytest.mark.parametrize("scale", ["tiny", "small"])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_hospital_has_no_error_and_at_most_one_warning(
    tmp_path: Path, center: str, scale: str, seed: int
) -> None:
    findings = table_findings(examined(tmp_path, clean(center, scale, seed)), STUDY, RULE[center])
    assert not [f for f in findings if f.severity == "error"]
    assert len([f for f in findings if f.severity == "warning"]) <= 1, [str(f) for f in findings]


def test_nothing_of_the_synthetic_hospitals_is_impossible(tmp_path: Path) -> None:
    for center, rule in RULE.items():
        findings = table_findings(examined(tmp_path, clean(center)), STUDY, rule)
        assert {f.rule for f in findings if f.severity != "note"} <= {"missing-in-person"}


def test_no_finding_shows_an_identifier_or_the_text_of_a_cell(tmp_path: Path) -> None:
    table = clean()
    table["asmi_device"] = "Wang Wei"
    table["tsh_miu_per_l"] = table["tsh_miu_per_l"].astype(object)
    table.loc[3, "tsh_miu_per_l"] = "see Dr. Li"
    table.loc[3, ["grip_kg", "weight_kg"]] = [60.0, 180.0]
    told = "\n".join(str(f) for f in table_findings(examined(tmp_path, table), STUDY))
    assert told
    assert not any(word in told for word in ("Wang", "Li", "P0003"))


# ---- labels against their rule ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("center", "n"), [("shanghai", 89), ("sichuan", 36), ("zhongshan", 21)])
def test_labels_that_follow_the_stated_rule_are_counted_in_one_note(tmp_path: Path, center: str, n: int) -> None:
    (finding,) = found(tmp_path, clean(center), RULE[center])
    assert (finding.severity, finding.rule, finding.remedy) == ("note", "label-rule", "nothing to do")
    assert finding.seen.startswith(f"{n} of {n} people have the label that ")
    assert agreement(tmp_path, clean(center))[RULE[center]] == (n, n)


def test_a_label_against_its_parts_is_listed_with_its_row(tmp_path: Path) -> None:
    table = clean()
    sick = int(np.flatnonzero(table["sarcopenia"] == 1)[0])
    table.loc[sick, "sarcopenia"] = 0
    note, wrong = found(tmp_path, table)
    assert note.seen.startswith("88 of 89 people")
    assert (wrong.severity, wrong.rule, wrong.row) == ("warning", "label-mismatch", sick + 2)
    assert (wrong.seen, wrong.expected) == ("0", "1, which AWGS 2019 gives")


def test_people_whose_parts_are_missing_are_counted_and_not_accused(tmp_path: Path) -> None:
    table = clean()
    table.loc[:19, ["asmi_kg_per_m2", "grip_kg"]] = np.nan
    (finding,) = found(tmp_path, table)
    assert "cannot be checked, parts are missing" in finding.seen
    agreeing, compared = agreement(tmp_path, table)["awgs2019"]
    assert agreeing == compared < 89


def test_a_rule_that_fits_better_than_the_stated_one_is_named(tmp_path: Path) -> None:
    """A hospital that went over to AWGS 2025 and forgot to say so."""
    table = clean(scale="full")
    decided = _by_awgs2025(table)
    share = (decided == table["sarcopenia"]).mean()
    table["sarcopenia"] = decided
    warning = next(f for f in found(tmp_path, table) if f.rule == "label-rule" and f.severity == "warning")
    assert warning.seen == f"labels agree with awgs2025 for 100%, with the stated awgs2019 for {share:.0%}"
    assert not [f for f in found(tmp_path, table, "awgs2025") if f.severity == "warning"]


def test_where_nobody_has_said_the_rule_it_is_asked_for_and_the_one_that_fits_is_named(tmp_path: Path) -> None:
    (told,) = [f for f in found(tmp_path, clean(), "not_said_yet") if f.rule == "label-rule"]
    assert told.severity == "warning"
    assert told.seen == "nobody has said how the labels were made; they agree with awgs2019 for 100%"
    assert told.remedy.startswith('write label_rule = "awgs2019" into site.toml if that is how')
    nothing = clean().drop(columns=["asmi_kg_per_m2", "grip_kg"])
    (told,) = [f for f in found(tmp_path, nothing, "not_said_yet") if f.rule == "label-rule"]
    assert told.seen == "nobody has said how the labels were made"


def _by_awgs2025(table: pd.DataFrame) -> "pd.Series[int]":
    """Written out once more: mass by device below 65 and from 65, and grip."""
    man, old, dxa = table["male"] == 1, table["age_years"] >= 65, table["asmi_device"] == "DXA"
    men = np.select([old, dxa], [7.0, 7.2], 7.6)
    women = np.select([dxa & old, dxa], [5.4, 5.5], 5.7)
    grip = np.select([man & old, man, old], [28.0, 34.0, 18.0], 20.0)
    low_mass = table["asmi_kg_per_m2"] < np.where(man, men, women)
    return (low_mass & (table["grip_kg"] < grip)).astype(int)


def test_exchanged_labels_are_an_error(tmp_path: Path) -> None:
    table = clean()
    table["sarcopenia"] = 1 - table["sarcopenia"]
    (finding, *_) = found(tmp_path, table)
    assert (finding.severity, finding.rule) == ("error", "label-inverted")
    assert finding.seen == "89 of 89 people have the opposite of what AWGS 2019 says"


def test_a_stated_rule_without_its_columns_is_told_beside_the_rule_that_fits(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, clean(), "ct_l3_smi")
    assert finding.severity == "note"
    assert (
        finding.seen
        == "labels agree with awgs2019 for 100%; the stated ct_l3_smi cannot be checked, its columns are not here"
    )


def test_a_table_without_any_part_of_a_rule_is_not_judged(tmp_path: Path) -> None:
    table = clean()[["sarcopenia", *(f.name for f in STUDY.features)]]
    assert found(tmp_path, table) == []
    assert agreement(tmp_path, table) == {}


def test_a_test_that_a_site_does_not_use_is_not_waited_for(tmp_path: Path) -> None:
    """An empty chair-stand column is no reason to leave everybody undecided."""
    table = clean()
    table["chair_stand_s"] = np.nan
    without = agreement(tmp_path, table.drop(columns="chair_stand_s"))["awgs2019"]
    assert agreement(tmp_path, table)["awgs2019"] == without
    assert without[1] == 89
