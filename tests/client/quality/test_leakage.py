"""A feature made from the label, and a test done in one class only, are found; honest predictors are not accused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.quality.leakage import leakage_findings
from sarco_models.errors import Finding
from sarco_models.schema import design_columns
from tests.client.quality.cohorts import STUDY, clean, examined

ALBUMIN = "albumin_g_per_l"


def found(folder: Path, table: pd.DataFrame) -> list[Finding]:
    read = examined(folder, table)
    names = [c.name for c in design_columns(STUDY.features)]
    return list(leakage_findings(dict(zip(names, read.values.T, strict=True)), read.labels))


@pytest.mark.parametrize("center", ["shanghai", "sichuan", "zhongshan"])
@pytest.mark.parametrize("scale", ["tiny", "small", "full"])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_cohort_leaks_nothing(tmp_path: Path, center: str, scale: str, seed: int) -> None:
    assert found(tmp_path, clean(center, scale, seed)) == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_column_made_from_the_label_is_an_error_whichever_way_it_points(tmp_path: Path, sign: int) -> None:
    table = clean()
    noise = np.random.default_rng(1).normal(0, 0.5, len(table))
    table[ALBUMIN] = (40 + sign * (4 * table["sarcopenia"] - 2) + noise).round(1)
    (finding,) = found(tmp_path, table)
    assert (finding.severity, finding.rule, finding.field) == ("error", "leakage", ALBUMIN)
    assert finding.seen.startswith("separates the classes with an AUC of ")


def test_a_diagnosis_that_is_the_label_is_found(tmp_path: Path) -> None:
    table = clean()
    table["osteoporosis"] = table["sarcopenia"]
    assert [(f.rule, f.field) for f in found(tmp_path, table)] == [("leakage", "osteoporosis")]


def test_a_strong_predictor_is_no_leak(tmp_path: Path) -> None:
    """Twice as strong as the best in Chen et al.'s Table 1 (age, .723)."""
    table = clean()
    table[ALBUMIN] = (40 - 3 * table["sarcopenia"] + np.random.default_rng(1).normal(0, 1.8, len(table))).round(1)
    assert found(tmp_path, table) == []


def test_separation_of_few_people_is_only_a_warning_and_of_very_few_nothing(tmp_path: Path) -> None:
    """Eight people of a class are separated by one of twenty features now and then."""
    for positive, expected in ((9, ["warning"]), (7, [])):
        table = pd.concat([clean().query("sarcopenia == 0"), clean().query("sarcopenia == 1").head(positive)])
        table[ALBUMIN] = 45.0 - 10 * table["sarcopenia"] + np.arange(len(table)) / 100
        assert [f.severity for f in found(tmp_path, table)] == expected


def test_a_test_that_only_one_class_had_gives_the_label_away(tmp_path: Path) -> None:
    """Vitamin D ordered for the frail: after mean imputation its absence is as good as the label."""
    table = clean("sichuan", "full")
    healthy = np.flatnonzero(table["sarcopenia"] == 0)
    table.loc[healthy[: round(0.8 * len(healthy))], ["vitd_25oh_ng_per_ml", "osteocalcin_ng_per_ml"]] = np.nan
    (finding,) = found(tmp_path, table)
    assert (finding.severity, finding.rule, finding.field) == ("warning", "missing-by-class", "vitd_25oh_ng_per_ml")
    assert finding.seen.startswith("missing in 0% of the positive and 81% of the negative people")
    assert "osteocalcin_ng_per_ml" in finding.seen


def test_people_without_a_label_are_not_asked() -> None:
    values = np.r_[np.zeros(30), np.ones(30), np.full(200, 0.5)]
    labels = np.r_[np.zeros(30), np.ones(30), np.full(200, -1)].astype(np.int8)
    (finding,) = leakage_findings({"x": values}, labels)
    assert finding.severity == "error"
    assert list(leakage_findings({"x": values[:30]}, labels[:30])) == []
