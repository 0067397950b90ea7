"""A hospital's unit becomes the study's by a factor that a chemist can check, or is refused with the units known."""

import re
from pathlib import Path

import numpy as np
import pytest

from sarco_models.config import load_study
from sarco_models.errors import ConfigError
from sarco_models.units import Conversion, canonical, conversion, name_and_unit, units_of

FEATURES = load_study(Path(__file__).parents[2] / "configs/study.toml").features
WEIGHTS = {"C": 12.011, "H": 1.008, "O": 15.999, "N": 14.007, "I": 126.904}  # IUPAC, abridged

# (quantity, source, target, a value, what a laboratory's manual says it is)
MANUALS = [
    ("total_cholesterol", "mg/dL", "mmol/L", 200, 5.17),
    ("hdl_mmol_per_l", "mg/dL", "mmol/L", 40, 1.03),
    ("ldl_mmol_per_l", "mg/dL", "mmol/L", 130, 3.36),
    ("triglycerides_mmol_per_l", "mg/dL", "mmol/L", 150, 1.69),
    ("triglycerides_mmol_per_l", "g/L", "mmol/L", 1.5, 1.69),
    ("glucose", "mg/dL", "mmol/L", 126, 6.99),
    ("creatinine", "mg/dL", "umol/L", 1, 88.4),
    ("uric_acid", "mg/dL", "umol/L", 7, 416),
    ("bilirubin", "mg/dL", "umol/L", 1, 17.1),
    ("calcium", "mg/dL", "mmol/L", 10, 2.495),
    ("albumin_g_per_l", "g/dL", "g/L", 4.1, 41),
    ("haemoglobin_g_per_l", "g/dL", "g/L", 13.2, 132),
    ("haemoglobin_g_per_l", "mmol/L", "g/L", 8.2, 132.1),
    ("hemoglobin", "g/dL", "mmol/L", 1, 0.6206),
    ("vitd_25oh_ng_per_ml", "nmol/L", "ng/mL", 50, 20.0),
    ("osteocalcin_ng_per_ml", "ug/L", "ng/mL", 12, 12),
    ("ft3_pmol_per_l", "pg/mL", "pmol/L", 3.1, 4.76),
    ("ft3_pmol_per_l", "pg/dL", "pmol/L", 310, 4.76),
    ("ft4_pmol_per_l", "ng/dL", "pmol/L", 1.2, 15.45),
    ("tt3_nmol_per_l", "ng/dL", "nmol/L", 100, 1.536),
    ("tt3_nmol_per_l", "ng/mL", "nmol/L", 1, 1.536),
    ("tt4_nmol_per_l", "ug/dL", "nmol/L", 7.6, 97.8),
    ("tsh_miu_per_l", "μIU/mL", "mIU/L", 1.7, 1.7),
    ("tsh_miu_per_l", "mU/L", "mIU/L", 1.7, 1.7),
    ("height_m", "cm", "m", 164, 1.64),
    ("height_m", "in", "m", 65, 1.651),
    ("height_m", "ft", "m", 6, 1.8288),
    ("calf_circumference_cm", "mm", "cm", 350, 35),
    ("weight_kg", "lb", "kg", 150, 68.04),
    ("weight_kg", "斤", "kg", 130, 65),
    ("age_years", "months", "years", 840, 70),
]


@pytest.mark.parametrize(("quantity", "source", "target", "value", "expected"), MANUALS)
def test_a_conversion_gives_what_a_laboratorys_manual_says(
    quantity: str, source: str, target: str, value: float, expected: float
) -> None:
    assert conversion(quantity, source, target)(value) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(
    ("quantity", "formula", "printed"),
    [
        ("cholesterol", "C27H46O", 0.02586),
        ("triglycerides", "C57H104O6", 0.01129),
        ("glucose", "C6H12O6", 0.05551),
        ("creatinine", "C4H7N3O", 0.0884),
        ("urea", "CH4N2O", 0.1665),
        ("uric_acid", "C5H4N4O3", 0.05948),
        ("bilirubin", "C33H36N4O6", 0.0171),
        ("testosterone", "C19H28O2", 0.03467),
        ("cortisol", "C21H30O5", 0.02759),
        ("vitd_25oh", "C27H44O2", 0.02496),
        ("ft3", "C15H12I3NO4", 0.01536),
        ("tt4", "C15H11I4NO4", 0.01287),
    ],
)
def test_molar_masses_are_those_of_the_formulas_and_give_the_printed_factors(
    quantity: str, formula: str, printed: float
) -> None:
    """mg/dL -> mmol/L is 10 / molar mass; printed: AMA Manual of Style, rounded to four digits there."""
    mass = sum(WEIGHTS[element] * int(count or 1) for element, count in re.findall(r"([A-Z])(\d*)", formula))
    factor = conversion(quantity, "mg/dL", "mmol/L").factor
    assert factor == pytest.approx(10 / mass, rel=1e-4)
    assert factor == pytest.approx(printed, rel=1e-3)


def test_hba1c_follows_the_master_equation_in_both_directions() -> None:
    """Hoelzel et al. (2004): 48 mmol/mol is 6.5 %, 53 is 7.0 %."""
    to_percent = conversion("hba1c_percent", "mmol/mol", "%")
    assert to_percent == Conversion(0.0915, 2.15)
    assert [round(to_percent(v), 1) for v in (42, 48, 53, 64, 75)] == [6.0, 6.5, 7.0, 8.0, 9.0]
    back = conversion("hba1c", "NGSP %", "mmol/mol")
    assert back(to_percent(61.3)) == pytest.approx(61.3)


@pytest.mark.parametrize("feature", [f for f in FEATURES if f.kind == "continuous"], ids=lambda f: f.name)
def test_every_feature_of_the_study_knows_its_own_unit_and_converts_all_usual_ones(feature: object) -> None:
    usual = units_of(feature.name)  # type: ignore[attr-defined]
    assert canonical(feature.unit) in usual  # type: ignore[attr-defined]
    for unit in usual:
        there = conversion(feature.name, unit, feature.unit)  # type: ignore[attr-defined]
        back = conversion(feature.name, feature.unit, unit)  # type: ignore[attr-defined]
        assert back(there(7.0)) == pytest.approx(7.0)


def test_units_that_hospitals_report_are_known_for_every_laboratory_value() -> None:
    reported = {
        "total_cholesterol": "mg/dL", "triglycerides": "mg/dL", "hdl": "mg/dL", "ldl": "mg/dL", "hba1c": "mmol/mol",
        "albumin": "g/dL", "haemoglobin": "g/dL", "vitd_25oh": "nmol/L", "osteocalcin": "ug/L", "ft3": "pg/mL",
        "ft4": "ng/dL", "tt3": "ng/dL", "tt4": "ug/dL", "tsh": "uIU/mL",
    }  # fmt: skip
    assert all(unit in units_of(quantity) for quantity, unit in reported.items())
    assert len(reported) == sum(f.group == "lab" for f in FEATURES)


def test_an_array_is_converted_and_a_missing_value_stays_missing() -> None:
    converted = conversion("albumin", "g/dL", "g/L")(np.array([4.0, np.nan]))
    np.testing.assert_allclose(converted, [40, np.nan])


@pytest.mark.parametrize(
    ("spellings", "unit"),
    [
        (["μmol/L", "µmol/L", "umol/l", "μmol·L⁻¹", "umol L-1", "UMOL/L", "微摩尔/升", "umol_per_l"], "umol/L"),
        (["mmol/L", "mmol per liter", "mmol/litre", "mmol.L-1", "毫摩尔/升", "毫摩/升", "ｍｍｏｌ／Ｌ"], "mmol/L"),
        (["g/dL", "g/100 mL", "g%", "gm/dl", "克/分升", "g_per_dl"], "g/dL"),
        (["ug/L", "μg/L", "mcg/L", "微克/升"], "ug/L"),
        (["uIU/mL", "μIU/ml", "μU/mL", "微国际单位/毫升"], "uIU/mL"),
        (["mIU/L", "mU/L", "miu_per_l"], "mIU/L"),
        (["kg/m2", "kg/m²", "kg/㎡", "kg·m-2", "kg m^-2", "千克/平方米"], "kg/m2"),
        (["%", "％", "percent", "Prozent", "% (NGSP)"], "%"),
        (["mmol/mol", "mmol/mol Hb", "IFCC", "mmol_per_mol"], "mmol/mol"),
        (["cm", "厘米", "公分", "centimeters"], "cm"),
        (["kg", "公斤", "千克", "KG"], "kg"),
        (["years", "岁", "歳", "세", "Jahre", "ans", "años", "yıl", "лет", "lat", "jaar", "anni", "anos"], "years"),
        (["lb", "lbs", "磅"], "lb"),
        (["in", '"', "inches"], "in"),
    ],
)
def test_many_spellings_are_one_unit(spellings: list[str], unit: str) -> None:
    assert {canonical(spelling) for spelling in spellings} == {unit}


@pytest.mark.parametrize("text", ["", "points", "台斤", "g/L/h", "mmol", "Smith", "mol/kg"])
def test_an_unknown_unit_has_no_canonical_spelling(text: str) -> None:
    assert canonical(text) == ""


def test_a_columns_name_is_split_at_its_unit() -> None:
    assert name_and_unit("albumin_g_per_dl") == ("albumin", "g/dL")
    assert name_and_unit("Vitd_25oh_nmol_per_l") == ("vitd_25oh", "nmol/L")
    assert name_and_unit("l3_smi_cm2_per_m2") == ("l3_smi", "cm2/m2")
    assert name_and_unit("calf_circumference_cm") == ("calf_circumference", "cm")
    assert name_and_unit("male") == ("male", "")


@pytest.mark.parametrize(
    ("quantity", "source", "target", "said"),
    [
        ("albumin_g_per_l", "mmol/L", "g/L", "known for it: g/L, g/dL"),
        ("osteocalcin_ng_per_ml", "nmol/L", "ng/mL", "known for it: ng/mL, ug/L"),
        ("height_m", "kg", "m", "kg cannot become m; known for it: m, cm, mm, in, ft"),
        ("hba1c_percent", "mmol/L", "%", "known for it: %, mmol/mol"),
        ("fat_percent", "mmol/mol", "%", "mmol/mol cannot become %"),
        ("ferritin_of_somebody_ng_per_ml", "nmol/L", "ng/mL", "nmol/L cannot become ng/mL; known for it: g/L"),
        ("weight_kg", "stone_of_smith", "kg", "the unit is not known"),
        ("bun", "mmol/L", "mg/dL", "mmol/L cannot become mg/dL"),
    ],
)
def test_units_of_different_kinds_are_refused_with_the_known_ones(
    quantity: str, source: str, target: str, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        conversion(quantity, source, target)
    assert said in str(error.value)
    assert "smith" not in str(error.value)


def test_a_quantity_that_is_not_in_the_table_converts_within_its_kind() -> None:
    assert conversion("lipoprotein_a_mg_per_l", "mg/dL", "mg/L").factor == 10
    assert conversion("questionnaire", "points", "Points") == Conversion(1.0)
    assert units_of("questionnaire") == ()
