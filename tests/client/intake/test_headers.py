"""A header is recognised in eleven languages, with its unit; what could be two things is nobody's."""

from pathlib import Path

import pytest

from client.intake.headers import fold, match, names_of, parse, synonyms
from client.mapping import study_columns
from sarco_models.config import StudyConfig, load_study

LANGUAGES = ("en", "zh", "de", "fr", "es", "it", "pt", "nl", "ja", "ko", "ru")


@pytest.fixture(scope="module")
def study() -> StudyConfig:
    return load_study(Path(__file__).parents[3] / "configs" / "study.toml")


def test_every_column_of_the_study_has_names_in_every_language(study: StudyConfig) -> None:
    for column in ("participant_id", *study_columns(study)):
        fields = [field for field in synonyms() if field in column]
        assert fields, column
        assert set(synonyms()[max(fields, key=len)]) == set(LANGUAGES), column


def test_a_name_belongs_to_one_field() -> None:
    owner: dict[str, str] = {}
    for field, languages in synonyms().items():
        for name in (name for names in languages.values() for name in names):
            assert owner.setdefault(fold(name), field) == field, name


@pytest.mark.parametrize("written", ["{}", "{} (g/dL)", " {} ：", "{}【mmol/L】"])
def test_every_name_is_recognised_alone_and_with_a_unit(study: StudyConfig, written: str) -> None:
    columns = ("participant_id", *study_columns(study))
    for column in columns:
        field = max((field for field in synonyms() if column.startswith(field)), key=len, default="")
        headers = [written.format(name) for names in synonyms()[field].values() for name in names]
        assert [h.text for h in match(columns, headers)[column].sure] == headers, column


@pytest.mark.parametrize(
    ("header", "name", "unit"),
    [
        ("Alb (g/dL)", "alb", "g/dL"),
        ("白蛋白 g/L", "白蛋白", "g/L"),
        ("白蛋白g/L", "白蛋白", "g/L"),
        ("白蛋白（ALB）g/L", "白蛋白", "g/L"),
        ("HbA1c[%]", "hba1c", "%"),
        ("Körpergröße in cm", "korpergrosse", "cm"),
        ("ALB_g_dl", "alb", "g/dL"),
        ("albumin_g_per_l", "albumin", "g/L"),
        ("体重/kg", "体重", "kg"),
        ("年龄（岁）", "年龄", "years"),
        ("TSH (µIU/mL)", "tsh", "uIU/mL"),
        ("25(OH)D (nmol/L)", "25ohd", "nmol/L"),
        ("性别(1男2女)", "性别", ""),
        ("HDL-C", "hdlc", ""),
        ("", "", ""),
    ],
)
def test_a_unit_is_told_from_a_name(header: str, name: str, unit: str) -> None:
    parsed = parse(header)
    assert parsed.unit == unit
    assert name in parsed.names or not name


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("术前白蛋白", "albumin_g_per_l"),
        ("albumine_baseline", "albumin_g_per_l"),
        ("Albumim", "albumin_g_per_l"),
        ("TC/HDL", "hdl_mmol_per_l"),
        ("grip left hand", "grip_kg"),
    ],
)
def test_what_only_resembles_a_name_is_a_candidate(study: StudyConfig, header: str, column: str) -> None:
    found = match(study_columns(study), [header])
    assert not any(other.sure for other in found.values())
    assert [h.text for h in found[column].candidates] == [header]


@pytest.mark.parametrize("header", ["姓名", "备注", "Telefon", "T3", "glucose", "OPS", "index", "血糖 mmol/L"])
def test_other_columns_are_nobodys(study: StudyConfig, header: str) -> None:
    assert not any(found.sure for found in match(("participant_id", *study_columns(study)), [header]).values())


def test_glycated_haemoglobin_is_no_haemoglobin(study: StudyConfig) -> None:
    found = match(study_columns(study), ["糖化血红蛋白", "血红蛋白"])
    assert [h.text for h in found["haemoglobin_g_per_l"].sure] == ["血红蛋白"]
    assert not found["haemoglobin_g_per_l"].candidates
    assert [h.text for h in found["hba1c_percent"].sure] == ["糖化血红蛋白"]


def test_a_column_of_another_study_is_known_by_its_own_name() -> None:
    assert fold("crp") in names_of("crp_mg_per_l")
    assert "hemoglobin" in names_of("hemoglobin_g_per_dl")
    assert fold("血红蛋白") in names_of("hemoglobin_g_per_dl"), "another spelling of the same field"
