"""The proposal says what can be told and asks for the rest; a corrected file is law, a wrong one refused by field."""

from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl
import pytest

from client.intake.people import People, convert
from client.intake.proposal import Asked, propose
from client.intake.survey import survey
from client.mapping import MASK_FILES, Mapping, check_headers, load_mapping
from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError, DataError
from sarco_models.sheets import read_sheet
from tests.exports import HEADER, make_export, write_sheet
from tests.sites import study as tiny_study

Columns = dict[str, Sequence[str]]
"""Header -> cells."""

Proposing = Callable[[Columns], tuple[Mapping, str]]
Converting = Callable[[Columns, str], People]


@pytest.fixture(scope="module")
def study() -> StudyConfig:
    return load_study(Path(__file__).parents[2] / "configs" / "study.toml")


@pytest.fixture
def proposed(tmp_path: Path, study: StudyConfig) -> Proposing:
    """The mapping that is proposed for a table, and its text."""

    def propose_for(columns: Columns) -> tuple[Mapping, str]:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        write_sheet(source / "t.csv", list(columns), list(zip(*columns.values(), strict=True)), "utf-8")
        text = propose(source, survey(source, MASK_FILES), study, Asked())
        (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
        return load_mapping(tmp_path / "mapping.toml", study), text

    return propose_for


def ids(count: int) -> list[str]:
    return [f"K{k:03d}" for k in range(count)]


def section(text: str, name: str) -> str:
    """The lines of ``[columns.name]``."""
    return text.split(f"[columns.{name}]")[1].split("\n[")[0]


# ---- the proposal ----------------------------------------------------------------------------------------------------


def test_an_export_in_chinese_is_understood(tmp_path: Path, study: StudyConfig) -> None:
    export = make_export(tmp_path / "source")
    text = propose(export.folder, survey(export.folder, MASK_FILES), study, Asked())
    (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
    mapping = load_mapping(tmp_path / "mapping.toml", study)
    assert mapping.table.file == "数据/患者信息.csv"
    assert mapping.participants.column == "住院号"
    assert mapping.participants.pseudonyms
    assert mapping.images.id == ("*/{id}_*/**", "**/{id}_*")
    assert mapping.images.calibration == "calibration.csv"
    found = {name: rules.column for name, rules in mapping.columns.items() if rules.column}
    assert set(found.values()) < set(HEADER)
    assert found["albumin_g_per_l"] == "白蛋白(g/dL)"
    assert {f.name for f in study.features} - set(found) == {"age_years", "bmi_kg_per_m2"}


def test_a_workbook_is_understood_too(tmp_path: Path, study: StudyConfig) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Patienten-ID", "Geschlecht", "Albumin (g/dl)"])  # type: ignore[union-attr]
    for k in range(6):
        book.active.append([f"K{k}", "w" if k % 2 else "m", 4.1])  # type: ignore[union-attr]
    (tmp_path / "source").mkdir()
    book.save(tmp_path / "source" / "Tabelle.xlsx")
    text = propose(tmp_path / "source", survey(tmp_path / "source"), study, Asked())
    (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
    mapping = load_mapping(tmp_path / "mapping.toml", study)
    assert (mapping.table.file, mapping.participants.column) == ("Tabelle.xlsx", "Patienten-ID")
    assert mapping.columns["albumin_g_per_l"].unit == "g/dL"


def test_a_workbook_of_several_sheets_asks_for_the_name_of_one(tmp_path: Path, study: StudyConfig) -> None:
    """Even beside a small table that can be read: it is not taken for the one that is meant."""
    source = tmp_path / "source"
    source.mkdir()
    write_sheet(source / "stock.csv", ["id", "gel"], [["1", "2"]])
    book = openpyxl.Workbook()
    for sheet in (book.active, book.create_sheet("Labor")):
        for row in (
            ["Patienten-ID", "Alter", "Geschlecht", "Gewicht kg"],
            ["7", "70", "m", "80"],
            ["8", "71", "w", "60"],
        ):
            sheet.append(row)  # type: ignore[union-attr]
    book.save(source / "Tabelle.xlsx")
    with pytest.raises(DataError, match="sheet"):
        propose(source, survey(source), study, Asked())
    text = propose(source, survey(source), study, Asked(sheet="Labor", table=Path("Tabelle.xlsx")))
    assert 'sheet = "Labor"' in text
    assert 'column = "Gewicht kg"' in text


def test_of_two_tables_that_could_be_meant_none_is_taken(tmp_path: Path, study: StudyConfig) -> None:
    for name in ("2023.csv", "2024.csv"):
        write_sheet(tmp_path / name, ["id", "age", "sex"], [["1", "70", "m"]])
    with pytest.raises(DataError, match="2 tables"):
        propose(tmp_path, survey(tmp_path), study, Asked())
    assert 'file = "2024.csv"' in propose(tmp_path, survey(tmp_path), study, Asked(table=Path("2024.csv")))


def test_a_unit_in_the_header_counts_where_the_numbers_agree(
    proposed: Proposing,
) -> None:
    mapping, _ = proposed({"id": ids(6), "ALB g/dL": ["4.1"] * 6, "Hb (g/dL)": ["132"] * 6})
    assert mapping.columns["albumin_g_per_l"].unit == "g/dL"
    assert mapping.columns["haemoglobin_g_per_l"].unit == "", "132 g/dL are no haemoglobin: a person looks"


def test_a_unit_that_is_not_written_is_suggested_and_never_used(
    proposed: Proposing,
) -> None:
    """Height can only be centimetres, and still somebody has to say it; FT3 could be two things."""
    mapping, text = proposed({"id": ids(6), "身高": ["165"] * 6, "FT3": ["4.8"] * 6, "年龄": ["70"] * 6})
    assert mapping.columns["height_m"].unit == ""
    assert '# unit = "cm"  # the median 165 would be 1.65 m' in section(text, "height_m")
    assert mapping.columns["ft3_pmol_per_l"].unit == ""
    assert {'# unit = "pmol/L"', '# unit = "pg/mL"'} <= {
        line.split("  #")[0] for line in section(text, "ft3_pmol_per_l").splitlines()
    }
    assert mapping.columns["age_years"].unit == "years", "no other unit fits, and nothing is converted"


def test_two_columns_of_one_name_are_both_left_to_a_person(
    proposed: Proposing,
) -> None:
    mapping, text = proposed({"id": ids(3), "ALB": ["40"] * 3, "白蛋白": ["41"] * 3, "术前血红蛋白": ["130"] * 3})
    assert mapping.columns["albumin_g_per_l"].column == ""
    assert '# column = "ALB"\n# column = "白蛋白"' in section(text, "albumin_g_per_l")
    assert mapping.columns["haemoglobin_g_per_l"].column == ""
    assert '# column = "术前血红蛋白"' in section(text, "haemoglobin_g_per_l")


def test_words_that_are_not_understood_are_asked_for(proposed: Proposing) -> None:
    columns = {
        "id": ids(4),
        "性别": ["1", "2", "1", "2"],
        "糖尿病": ["T2DM", "是", "否", "否"],
        "肌少症": ["1", "0", "0", "1"],
    }
    _, text = proposed(columns)
    assert '# words = { "1" = "1 or 0", "2" = "1 or 0" }' in section(text, "male"), "codes of the sex are never guessed"
    assert '# words = { "T2DM" = "1 or 0" }' in section(text, "diabetes")
    assert "words" not in section(text, "sarcopenia")


def test_zero_and_one_are_a_sex_only_under_its_name(proposed: Proposing) -> None:
    mapping, _ = proposed({"id": ids(4), "male": ["0", "1", "1", "0"]})
    assert mapping.columns["male"].words == {"0": 0, "1": 1}
    mapping, _ = proposed({"id": ids(4), "sex": ["0", "1", "1", "0"]})
    assert mapping.columns["male"].words == {}


def test_the_order_of_day_and_month_is_taken_from_dates_that_tell(
    proposed: Proposing,
) -> None:
    first, _ = proposed({"id": ids(2), "出生日期": ["25/3/1950", "4/5/1951"]})
    unknown, _ = proposed({"id": ids(2), "出生日期": ["5/3/1950", "4/5/1951"]})
    assert (first.table.dates, unknown.table.dates) == ("day first", "")


@pytest.mark.parametrize(
    "header",
    ['Alb "fresh" (g/dL)', "Alb\\n (g/dL)", "Alb # (g/dL)", "Alb\x7f (g/dL)", "Alb 'x' = 1 (g/dL)", "ALB 🩸 (g/dL)"],
)
def test_any_header_survives_the_file(proposed: Proposing, header: str, tmp_path: Path) -> None:
    mapping, text = proposed({"id": ids(6), header: ["4.1"] * 6})
    sheet = read_sheet(tmp_path / "source" / "t.csv")
    assert header in sheet.header
    line = next(line for line in text.splitlines() if "g/dL" in line and "column =" in line).removeprefix("# ")
    (tmp_path / "again.toml").write_text(f"[columns.albumin_g_per_l]\n{line}\n", encoding="utf-8")
    again = load_mapping(tmp_path / "again.toml", load_study(Path(__file__).parents[2] / "configs" / "study.toml"))
    assert again.columns["albumin_g_per_l"].column == header
    assert mapping.columns["albumin_g_per_l"].column in ("", header)


def test_a_list_of_images_is_found_by_its_headers(tmp_path: Path, study: StudyConfig) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_sheet(source / "people.csv", ["id", "age", "sex"], [["1", "70", "m"]])
    write_sheet(source / "frames.csv", ["Dateiname", "Pat-ID", "Seite"], [["a.png", "1", "links"]])
    text = propose(source, survey(source), study, Asked())
    (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
    images = load_mapping(tmp_path / "mapping.toml", study).images
    assert (images.id, images.list_file) == (("list",), "frames.csv")
    assert (images.list_columns.image, images.list_columns.id, images.list_columns.side) == (
        "Dateiname",
        "Pat-ID",
        "Seite",
    )


def test_leading_zeros_that_a_spreadsheet_lost_are_forgiven_only_where_needed(
    tmp_path: Path, study: StudyConfig
) -> None:
    source = tmp_path / "source"
    for name in ("0012", "0013"):
        (source / name).mkdir(parents=True)
        (source / name / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for table, loose in ((["12", "13"], True), (["0012", "0013"], False)):
        write_sheet(source / "t.csv", ["id", "age"], [[id_, "70"] for id_ in table])
        text = propose(source, survey(source), study, Asked())
        (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
        mapping = load_mapping(tmp_path / "mapping.toml", study)
        assert (mapping.participants.loose, mapping.images.id) == (loose, ("{id}/**",))


def test_of_two_id_columns_the_one_counts_that_the_images_know(tmp_path: Path, study: StudyConfig) -> None:
    source = tmp_path / "source"
    (source / "A7").mkdir(parents=True)
    (source / "A7" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_sheet(source / "t.csv", ["住院号", "编号", "age"], [["Z1", "A7", "70"]])
    text = propose(source, survey(source), study, Asked())
    (tmp_path / "mapping.toml").write_text(text, encoding="utf-8")
    assert load_mapping(tmp_path / "mapping.toml", study).participants.column == "编号"


# ---- a corrected file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tabel]", "did you mean table"),
        ("[columns.albumin]", "columns.albumin: unknown column; did you mean albumin_g_per_l"),
        ('[columns.albumin_g_per_l]\nunits = "g"', "did you mean unit"),
        ('[columns.albumin_g_per_l]\nunit = "pmol/L"', "columns.albumin_g_per_l.unit"),
        ('[columns.diabetes]\nunit = "g"', "has no unit in the study"),
        ('[columns.bmi_kg_per_m2]\ncolumn = "BMI"\nderive = "bmi"', "exclude each other"),
        ('[columns.age_years]\nderive = "age"', "two columns"),
        ('[images]\nid = ["{patient}/**"]', "known in braces"),
        ('[images]\nid = ["*/*"]', "neither"),
        ('[images]\nid = ["list"]', "needs list_file"),
        ('[images]\nframes = "last"', "images.frames"),
        ('[images]\nexam_date = "year"', "images.exam_date"),
        ('[masks]\nnames = ["{image}_mask"]', "known in braces"),
        ("[masks]\nlabels = { a = 0 }", "masks.labels.a"),
    ],
)
def test_a_wrong_mapping_is_refused_by_field(tmp_path: Path, study: StudyConfig, text: str, complaint: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mapping\.toml") as refused:
        load_mapping(path, study)
    assert complaint in str(refused.value)


def test_a_column_that_is_not_there_is_named_by_field_and_not_quoted(tmp_path: Path, study: StudyConfig) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text('[columns.albumin_g_per_l]\ncolumn = "Frau Meier"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"columns\.albumin_g_per_l\.column") as refused:
        check_headers(load_mapping(path, study), ["ALB"], path)
    assert "Meier" not in str(refused.value)


# ---- applying it -----------------------------------------------------------------------------------------------------


@pytest.fixture
def converted(tmp_path: Path) -> Converting:
    """A table read through a mapping into the tiny study."""

    def convert_with(columns: Columns, text: str) -> People:
        write_sheet(tmp_path / "t.csv", list(columns), list(zip(*columns.values(), strict=True)))
        (tmp_path / "m.toml").write_text(f'[participants]\ncolumn = "id"\n{text}', encoding="utf-8")
        study = tiny_study()
        return convert(read_sheet(tmp_path / "t.csv"), load_mapping(tmp_path / "m.toml", study), study)

    return convert_with


def cells(people: People, column: str) -> list[str]:
    return [row[people.columns.index(column)] for row in people.rows.values()]


def test_numbers_units_and_words_become_the_studys(converted: Converting) -> None:
    people = converted(
        {"id": ids(3), "Alb": ["4,1", "3.9 ", "未查"], "rauchen": ["nie", "Früher", "now"], "sex": ["男", "F", "NA"]},
        '[columns.albumin_g_per_l]\ncolumn = "Alb"\nunit = "g/dL"\n'
        '[columns.smoking]\ncolumn = "rauchen"\nwords = { "nie" = "never", "früher" = "former" }\n'
        '[columns.male]\ncolumn = "sex"\n',
    )
    assert cells(people, "albumin_g_per_l") == ["41", "39", ""]
    assert cells(people, "smoking") == ["never", "former", "now"]
    assert cells(people, "male") == ["1", "0", ""]


def test_what_cannot_be_read_is_empty_and_listed_and_never_quoted(converted: Converting) -> None:
    people = converted(
        {"id": ids(4), "Alb": ["40", "see Dr Meier", "<1", "41 ?"]},
        '[columns.albumin_g_per_l]\ncolumn = "Alb"\nunit = "g/L"\n',
    )
    assert cells(people, "albumin_g_per_l") == ["40", "", "", ""]
    listed = {(f.row, f.rule) for f in people.findings if f.field == "albumin_g_per_l"}
    assert listed == {(3, "value"), (4, "limit-of-detection"), (5, "value")}
    assert "Meier" not in "".join(map(str, people.findings))


def test_a_limit_of_detection_becomes_what_the_mapping_says(converted: Converting) -> None:
    people = converted(
        {"id": ids(2), "Alb": ["40", "<10"]},
        '[columns.albumin_g_per_l]\ncolumn = "Alb"\nunit = "g/L"\nwords = { "<10" = "5" }\n',
    )
    assert cells(people, "albumin_g_per_l") == ["40", "5"]


def test_a_column_of_which_nothing_can_be_read_is_one_finding(converted: Converting) -> None:
    people = converted({"id": ids(9), "sex": ["1", "2", "1"] * 3}, '[columns.male]\ncolumn = "sex"\n')
    assert [f.rule for f in people.findings if f.field == "male"] == ["values"]
    people = converted(
        {"id": ids(3), "sex": ["1", "2", "1"]}, '[columns.male]\ncolumn = "sex"\nwords = { "1" = 1, "2" = 0 }\n'
    )
    assert cells(people, "male") == ["1", "0", "1"]


def test_without_a_unit_a_column_is_left_out(converted: Converting) -> None:
    people = converted({"id": ids(2), "Alb": ["40", "41"]}, '[columns.albumin_g_per_l]\ncolumn = "Alb"\n')
    assert "albumin_g_per_l" not in people.columns
    assert [f.rule for f in people.findings if f.field == "albumin_g_per_l"] == ["unit"]


def test_one_row_per_person(converted: Converting) -> None:
    people = converted(
        {"id": ["A", "B", "A", ""], "frail": ["1", "0", "0", "1"]}, '[columns.frail]\ncolumn = "frail"\n'
    )
    assert people.rows.keys() == {"A", "B"}
    assert cells(people, "frail") == ["1", "0"], "the first row counts"
    assert [(f.rule, f.row, f.severity) for f in people.findings if f.field == "participant_id"] == [
        ("duplicate-id", 4, "error"), ("id", 5, "warning"),
    ]  # fmt: skip


def test_no_text_of_the_table_is_ever_copied(converted: Converting) -> None:
    text = (
        '[columns.smoking]\ncolumn = "note"\n[columns.frail]\ncolumn = "note"\n[columns.age_years]\ncolumn = "note"\n'
    )
    people = converted({"id": ids(2), "note": ["Frau Meier", "never"]}, f'{text}unit = "years"\n')
    assert {cell for row in people.rows.values() for cell in row} <= {"", "never"}
