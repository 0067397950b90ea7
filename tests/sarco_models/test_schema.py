"""A hospital's two tables are read as written, or every fault is told at once with row, field, value and remedy."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from sarco_models.config import Feature
from sarco_models.errors import DataError, Finding, MaskError, MissingSpacing, UnreadableImage
from sarco_models.schema import (
    ImageRow,
    design_columns,
    examine_participants,
    people_without_images,
    read_participants,
)
from tests.sarco_models.test_sheets import mutated
from tests.sites import COLUMNS, read_csv, tables_site, tables_study, write_csv, write_rows

STUDY = tables_study()


def people(path: Path, *changes: Mapping[str, str], rows: int = 3) -> Path:
    """participants.csv of people without a fault; each of ``changes`` is laid over one person."""
    person = {
        "participant_id": "", "frail": "1", "walk_speed_m_per_s": "1.1", "age_years": "70", "male": "1",
        "smoking": "now", "weight_kg": "66.5", "albumin_g_per_l": "41", "hba1c_percent": "6.1",
    }  # fmt: skip
    table = [person | {"participant_id": f"P{i}"} for i in range(rows)]
    for row, change in zip(table, changes, strict=False):
        row.update(change)
    return write_rows(path / "participants.csv", table)


def faults(path: Path) -> tuple[Finding, ...]:
    with pytest.raises(DataError) as error:
        read_participants(path, STUDY)
    assert all(f.file == path.name and f.seen and f.expected and f.remedy for f in error.value.findings)
    assert str(error.value) == "\n".join(str(f) for f in error.value.findings)
    return error.value.findings


def fault(path: Path) -> Finding:
    (finding,) = faults(path)
    return finding


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_values_are_read_in_the_studys_order_and_units_whatever_the_files_order(tmp_path: Path) -> None:
    path = tables_site(tmp_path / "a", 6) / "participants.csv"
    table = read_participants(path, STUDY)
    turned = [dict(reversed(row.items())) for row in read_csv(path)]
    again = read_participants(write_rows(tmp_path / "participants.csv", turned), STUDY)
    assert again.ids == table.ids == tuple(f"P{i:03d}" for i in range(6))
    np.testing.assert_array_equal(again.values, table.values)
    np.testing.assert_array_equal(table.labels, [1, 0, 0, 1, 0, 0])
    ages = [float(row["age_years"] or "nan") for row in read_csv(path)]
    np.testing.assert_array_equal(table.values[:, 0], ages)


def test_an_empty_cell_is_missing_and_zero_is_a_value(tmp_path: Path) -> None:
    table = read_participants(people(tmp_path, {"weight_kg": " ", "male": "0"}), STUDY)
    columns = [c.name for c in design_columns(STUDY.features)]
    assert np.isnan(table.values[0, columns.index("weight_kg")])
    assert table.values[0, columns.index("male")] == 0
    assert not np.isnan(table.values[1:]).any()


def test_a_binary_feature_is_one_column_and_a_categorical_one_has_one_for_each_category(tmp_path: Path) -> None:
    """SCIENCE 1.6, I17: one 0/1 column per binary feature, so that 8 clinical features stay 8."""
    columns = design_columns(STUDY.features)
    names = [c.name for c in columns]
    assert names[1:5] == ["male", "smoking=never", "smoking=former", "smoking=now"]
    assert all((c.low, c.high, c.group, c.zero_one) == (0, 1, "clinical", True) for c in columns[1:5])
    assert not any(c.zero_one for c in (columns[0], *columns[5:]))
    table = read_participants(people(tmp_path, {"smoking": "former"}, {"smoking": ""}), STUDY)
    np.testing.assert_array_equal(table.values[:, 2:5], [[0, 1, 0], [np.nan] * 3, [0, 0, 1]])


def test_reference_columns_are_known_and_never_read(tmp_path: Path) -> None:
    """What defined the label may stand in the file; whatever stands there, nothing of it is read."""
    plain = read_participants(people(tmp_path), STUDY)
    other = read_participants(people(tmp_path, {"walk_speed_m_per_s": "not measured"}), STUDY)
    assert plain.findings == other.findings == ()
    np.testing.assert_array_equal(plain.values, other.values)
    assert plain.values.shape[1] == len(design_columns(STUDY.features)) == 8


def test_a_byte_order_mark_spaces_and_blank_rows_of_a_spreadsheet_change_nothing(tmp_path: Path) -> None:
    path = people(tmp_path)
    plain = read_participants(path, STUDY)
    header, first, *rest = path.read_text().splitlines()
    text = "\r\n".join(["\ufeff" + header.replace(",", " , "), first.replace(",", ", "), "", "," * 8, *rest])
    path.write_text(text, encoding="utf-8")
    other = read_participants(path, STUDY)
    assert (other.ids, other.findings) == (plain.ids, ())
    np.testing.assert_array_equal(other.values, plain.values)
    assert (plain.rows, other.rows) == ((2, 3, 4), (2, 5, 6))


def test_a_quoted_line_break_is_one_row(tmp_path: Path) -> None:
    path = people(tmp_path, {"walk_speed_m_per_s": "not\nmeasured"}, {"age_years": "7"})
    assert fault(path).row == 3


WORDS = {
    "a decimal comma": ({"weight_kg": "66,5"}, "weight_kg", 66.5),
    "full-width digits": ({"weight_kg": "６６．５"}, "weight_kg", 66.5),
    "a thousand": ({"weight_kg": "0.1e3"}, "weight_kg", 100),
    "not examined": ({"weight_kg": "未查"}, "weight_kg", np.nan),
    "none in a number's column": ({"weight_kg": "无"}, "weight_kg", np.nan),
    "NaN": ({"weight_kg": "nan"}, "weight_kg", np.nan),
    "a letter for the sex": ({"male": "f"}, "male", 0),
    "a word for the sex": ({"male": "男"}, "male", 1),
    "a category in capitals": ({"smoking": "NOW"}, "smoking=now", 1),
    "a category that is missing": ({"smoking": "-"}, "smoking=now", np.nan),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_and_numbers_of_many_hospitals_are_understood(tmp_path: Path, name: str) -> None:
    change, column, value = WORDS[name]
    table = read_participants(people(tmp_path, {}, change), STUDY)
    columns = [c.name for c in design_columns(STUDY.features)]
    np.testing.assert_equal(table.values[1, columns.index(column)], value)
    assert not np.isnan(table.values[[0, 2]]).any()


def test_the_whole_column_says_what_a_letter_for_the_sex_means(tmp_path: Path) -> None:
    """M is mujer beside H; by itself it is a man."""
    table = read_participants(people(tmp_path, {"male": "H"}, {"male": "M"}, {"male": "0"}), STUDY)
    np.testing.assert_array_equal(table.values[:, 1], [1, 0, 0])


@pytest.mark.parametrize(("yes", "no"), [("yes", "no"), ("是", "否"), ("oui", "non"), ("1.0", "0"), ("有", "无")])
def test_a_label_may_be_a_word(tmp_path: Path, yes: str, no: str) -> None:
    table = read_participants(people(tmp_path, {"frail": yes}, {"frail": no}), STUDY)
    np.testing.assert_array_equal(table.labels, [1, 0, 1])


def test_reference_columns_stay_within_reach_of_the_checks(tmp_path: Path) -> None:
    table = read_participants(people(tmp_path, {"walk_speed_m_per_s": "0.7"}), STUDY)
    assert [cells["walk_speed_m_per_s"] for _, cells in table.sheet.rows] == ["0.7", "1.1", "1.1"]


def test_examining_goes_on_after_errors(tmp_path: Path) -> None:
    path = people(tmp_path, {"age_years": "7", "frail": "x"}, {"participant_id": "P0"}, {"weight_kg": "heavy"})
    table = examine_participants(path, STUDY)
    assert [(f.severity, f.row, f.field) for f in table.findings] == [
        ("error", 2, "frail"), ("error", 2, "age_years"), ("error", 3, "participant_id"), ("error", 4, "weight_kg"),
    ]  # fmt: skip
    np.testing.assert_array_equal(table.labels, [-1, 1, 1])
    assert np.isnan(table.values).sum() == 2
    assert table.ids == ("P0", "P0", "P2")


def test_examining_goes_on_without_labels_and_ends_without_ids(tmp_path: Path) -> None:
    rows = read_csv(people(tmp_path))
    path = write_rows(tmp_path / "participants.csv", [{k: v for k, v in row.items() if k != "frail"} for row in rows])
    table = examine_participants(path, STUDY)
    assert [(f.severity, f.field) for f in table.findings] == [("error", "frail")]
    np.testing.assert_array_equal(table.labels, [-1, -1, -1])
    write_rows(path, [{k: v for k, v in row.items() if k != "participant_id"} for row in rows])
    with pytest.raises(DataError, match="participant_id"):
        examine_participants(path, STUDY)


def test_damaged_tables_are_a_table_or_findings(tmp_path: Path) -> None:
    """Any bytes: rows, ids, labels and values stay together, or the file is refused."""
    rng, path = np.random.default_rng(3), people(tmp_path, rows=8)
    good, outcomes = path.read_bytes(), set()
    for _ in range(100):
        path.write_bytes(mutated(good, rng))
        try:
            table = examine_participants(path, STUDY)
        except DataError:
            outcomes.add("refused")
            continue
        outcomes.add("read")
        assert len(table.ids) == len(table.rows) == len(table.labels) == len(table.values)
    assert outcomes == {"read", "refused"}


def test_no_finding_holds_a_text_of_the_table(tmp_path: Path) -> None:
    """A name, a telephone number and an identity card, each in every column."""
    for secret in ("Zhang San", "13912345678", "310101194703123456", "1947-03-12", "张三"):
        row = dict.fromkeys(read_csv(people(tmp_path))[0], secret)
        path = write_rows(tmp_path / "participants.csv", [row | {f"of {secret}": secret}, row])
        findings = examine_participants(path, STUDY).findings
        assert len(findings) > 10
        assert not any(secret in str(f) for f in findings)


# ---- one fault each --------------------------------------------------------------------------------------------------

CELLS = {
    "age in months": ({"age_years": "840"}, "range", "'840'", "18 to 110 years", "convert the column to this unit"),
    "albumin in g/dL": ({"albumin_g_per_l": "4.1"}, "range", "'4.1'", "10 to 60 g/L", "convert the column"),
    "a code for missing": ({"weight_kg": "999"}, "range", "'999'", "25 to 200 kg", "if this stands for a missing"),
    "two ways to read": ({"weight_kg": "1,234"}, "decimal", "'1,234', which", "a number", "without separators"),
    "a limit": ({"albumin_g_per_l": "<15"}, "censored", "'<15'", "a number", "leave the cell empty"),
    "a word": ({"weight_kg": "heavy"}, "range", "text of 5 characters", "a number", "leave the cell empty"),
    "a unit in the cell": ({"weight_kg": "66 kg"}, "range", "text of 5 characters", "a number", "leave the cell empty"),
    "a date": ({"weight_kg": "2024-06-05"}, "range", "a date", "a number", "Excel makes days of numbers"),
    "infinite": ({"weight_kg": "inf"}, "range", "text of 3 characters", "a number", "leave the cell empty"),
    "sex as 1 and 2": ({"male": "2"}, "range", "'2'", "0 or 1", "leave the cell empty"),
    "sex as another word": ({"male": "d"}, "range", "text of 1 character", "0 or 1", "leave the cell empty"),
    "unknown category": ({"smoking": "pipe"}, "range", "text of 4", "one of never, former, now", "leave the cell"),
    "label as a name": ({"frail": "Smith"}, "label", "text of 5 characters", "0 or 1", "remove the participant"),
    "label as 2": ({"frail": "2"}, "label", "'2'", "0 or 1", "remove the participant"),
    "no label": ({"frail": ""}, "label", "empty", "0 or 1", "remove the participant"),
    "unknown label": ({"frail": "NA"}, "label", "'NA'", "0 or 1", "remove the participant"),
    "empty id": ({"participant_id": " "}, "id", "empty", "an identifier", "fill it in"),
    "no id": ({"participant_id": "n/a"}, "id", "empty", "an identifier", "fill it in"),
    "id given twice": ({"participant_id": "P0"}, "duplicate-id", "row 2", "an id of its own", "merge the rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_a_wrong_cell_is_named_with_row_field_value_limit_and_remedy(tmp_path: Path, name: str) -> None:
    change, rule, seen, expected, remedy = CELLS[name]
    finding = fault(people(tmp_path, {}, change))
    assert (finding.rule, finding.row, finding.field) == (rule, 3, next(iter(change)))
    assert seen in finding.seen
    assert expected in finding.expected
    assert remedy in finding.remedy
    assert str(finding).startswith(f"participants.csv, row 3, field {finding.field}: ")


def test_a_value_on_the_limit_is_inside(tmp_path: Path) -> None:
    table = read_participants(people(tmp_path, {"age_years": "18"}, {"age_years": "110"}, {"frail": "0.0"}), STUDY)
    np.testing.assert_array_equal(table.values[:, 0], [18, 110, 70])
    np.testing.assert_array_equal(table.labels, [1, 1, 0])


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = people(
        tmp_path, {"age_years": "7", "male": "x"}, {"participant_id": "P0", "frail": "2"}, {"hba1c_percent": "43"}
    )
    places = {(f.row, f.field) for f in faults(path)}
    assert places == {(2, "age_years"), (2, "male"), (3, "participant_id"), (3, "frail"), (4, "hba1c_percent")}


# ---- columns ---------------------------------------------------------------------------------------------------------


def renamed(path: Path, old: str, new: str) -> Path:
    people(path)
    rows = [
        {new if k == old else k: v for k, v in row.items() if k != old or new}
        for row in read_csv(path / "participants.csv")
    ]
    return write_rows(path / "participants.csv", rows)


def test_a_misspelt_column_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    finding = fault(renamed(tmp_path, "weight_kg", "wieght_kg"))
    assert (finding.rule, finding.row, finding.field) == ("column", None, "column G")
    assert finding.seen == "a name close to weight_kg"
    assert finding.remedy == "rename it to weight_kg"


@pytest.mark.parametrize(
    ("feature", "column", "seen"),
    [
        ("albumin_g_per_l", "albumin_g_per_dl", "albumin in g/dL"),
        ("hba1c_percent", "hba1c_mmol_per_mol", "hba1c in mmol/mol"),
        ("weight_kg", "weight_lb", "weight in lb"),
        ("age_years", "age_months", "age in months"),
    ],
)
def test_a_column_in_another_unit_is_named_with_the_command_that_converts_it(
    tmp_path: Path, feature: str, column: str, seen: str
) -> None:
    finding = fault(renamed(tmp_path, feature, column))
    assert (finding.rule, finding.field, finding.seen) == ("unit", column, seen)
    assert "sarco-site ingest" in finding.remedy


def test_an_unknown_column_is_listed_and_not_read(tmp_path: Path) -> None:
    path = people(tmp_path)
    write_rows(path, [row | {"postcode": "200233"} for row in read_csv(path)])
    table = read_participants(path, STUDY)
    (finding,) = table.findings
    assert (finding.severity, finding.field, finding.remedy) == ("warning", "column J", "it is not read")
    assert "postcode" not in str(finding)
    assert table.values.shape[1] == 8


def test_an_absent_feature_is_missing_for_everybody_and_said(tmp_path: Path) -> None:
    """Centre C has no laboratory values: that is a finding, not an error."""
    rows = [{k: v for k, v in row.items() if k != "hba1c_percent"} for row in read_csv(people(tmp_path))]
    table = read_participants(write_rows(tmp_path / "participants.csv", rows), STUDY)
    (finding,) = table.findings
    assert (finding.severity, finding.field) == ("warning", "hba1c_percent")
    assert "missing for everybody" in finding.remedy
    assert np.isnan(table.values[:, -1]).all()


@pytest.mark.parametrize("column", ["participant_id", "frail"])
def test_an_absent_column_that_is_needed_is_one_fault_not_one_in_every_row(tmp_path: Path, column: str) -> None:
    rows = [{k: v for k, v in row.items() if k != column} for row in read_csv(people(tmp_path))]
    finding = fault(write_rows(tmp_path / "participants.csv", rows))
    assert (finding.rule, finding.seen, finding.field) == ("column", "absent", column)
    assert finding.remedy == "add the column"


def test_a_column_given_twice_is_refused(tmp_path: Path) -> None:
    path = people(tmp_path)
    path.write_text(
        "\n".join(line + ",70" if i else line + ",age_years" for i, line in enumerate(path.read_text().split()))
    )
    finding = fault(path)
    assert (finding.seen, finding.field, finding.remedy) == ("given twice", "age_years", "remove one of them")
    assert examine_participants(path, STUDY).findings == (finding,)


def test_a_comma_that_was_not_quoted_is_found_and_not_read_shifted(tmp_path: Path) -> None:
    """66,5 without quotes is two cells: everything behind it would be read as another feature."""
    path = people(tmp_path)
    path.write_text(path.read_text().replace("66.5", "66,5", 1))
    findings = faults(path)
    assert [f.rule for f in findings] == ["cells"]
    assert (findings[0].row, findings[0].seen, findings[0].expected) == (2, "10 cells", "9 as in the header")
    assert "quote a cell that holds a comma" in findings[0].remedy
    assert np.isnan(examine_participants(path, STUDY).values[0]).all()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_table_from_a_european_excel_just_works(tmp_path: Path) -> None:
    path = people(tmp_path)
    plain = read_participants(path, STUDY)
    path.write_bytes(path.read_text().replace(",", ";").replace(".", ",").encode("utf-16"))
    table = read_participants(path, STUDY)
    np.testing.assert_array_equal(table.values, plain.values)
    assert (table.findings, table.sheet.decimal, table.sheet.delimiter) == ((), ",", ";")


def test_a_workbook_stands_in_for_the_text_file_unless_both_are_there(tmp_path: Path) -> None:
    path = people(tmp_path)
    plain = read_participants(path, STUDY)
    book = openpyxl.Workbook()
    for row in (read_csv(path)[0], *(row.values() for row in read_csv(path))):
        book.active.append([float(cell) if cell[:1].isdigit() else cell for cell in row])
    book.save(path.with_suffix(".xlsx"))
    assert "participants.csv and participants.xlsx" in fault(path).seen
    path.unlink()
    table = read_participants(path, STUDY)
    assert (table.ids, table.findings, table.sheet.name) == (plain.ids, (), "participants.xlsx")
    np.testing.assert_array_equal(table.values, plain.values)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        pytest.param(b'participant_id,frail\n"P1,1\nP2,0\n', "csv", id="open quote"),
        pytest.param(b"participant_id,frail\nP1,\0\n", "encoding", id="zero byte"),
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"P1,1,70\nP2,0,61\n", "header", id="no header"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    path = tmp_path / "participants.csv"
    path.write_bytes(content)
    assert fault(path).rule == rule


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    finding = fault(write_csv(tmp_path / "participants.csv", COLUMNS, []))
    assert (finding.rule, finding.seen, finding.remedy) == ("empty", "no rows", "fill the table")


def test_a_file_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    finding = fault(tmp_path / "participants.csv")
    assert (finding.rule, str(tmp_path) in finding.expected) == ("absent", True)
    (tmp_path / "participants.csv").mkdir()
    assert fault(tmp_path / "participants.csv").rule == "absent"


# ---- people and images -----------------------------------------------------------------------------------------------


def test_a_person_without_any_image_is_listed_with_the_row_in_the_other_table(tmp_path: Path) -> None:
    table = read_participants(people(tmp_path), STUDY)
    rows = [ImageRow(2, "a.png", "P0", ""), ImageRow(3, "b.png", "P2", "")]
    (finding,) = people_without_images(table, rows)
    assert (finding.severity, finding.rule, finding.file) == ("note", "one-table-only", "participants.csv")
    assert (finding.row, finding.field, finding.seen) == (3, "participant_id", "no row in images.csv")


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DataError, UnreadableImage, MissingSpacing, MaskError])
def test_an_error_that_crosses_processes_keeps_its_kind_and_findings(kind: type[DataError]) -> None:
    error = kind([Finding("error", "r", "f.csv", "1", "2", "mend it", row=3, field="x"), Finding("note", *"abcde")])
    again: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is kind
    assert (again.findings, str(again)) == (error.findings, str(error))


def test_a_finding_names_only_the_places_it_has() -> None:
    assert str(Finding("error", "r", "a.csv", "no rows", "rows", "fill it")) == "a.csv: no rows; expected rows; fill it"


def test_a_column_keeps_its_features_limits() -> None:
    (column,) = design_columns([Feature(name="height_m", group="clinical", unit="m", low=1.2, high=2.2)])
    assert (column.name, column.group, column.low, column.high) == ("height_m", "clinical", 1.2, 2.2)
