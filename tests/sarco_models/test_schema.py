"""A hospital's two tables are read as written, or every fault is told at once with row, field, value and remedy."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco_models.config import Feature
from sarco_models.errors import DataError, Finding, MaskError, MissingSpacing, UnreadableImage
from sarco_models.schema import design_columns, people_without_images, read_images, read_participants
from tests.sites import COLUMNS, read_csv, tables_site, tables_study, write_csv, write_rows

STUDY = tables_study()
IMAGE_COLUMNS = ("image", "participant_id", "mask")


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


def image_table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    return write_csv(path / "images.csv", IMAGE_COLUMNS, rows)


def image_fault(path: Path) -> Finding:
    with pytest.raises(DataError) as error:
        read_images(path, ["P0", "P1"])
    (finding,) = error.value.findings
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


# ---- one fault each --------------------------------------------------------------------------------------------------

CELLS = {
    "age in months": ({"age_years": "840"}, "range", "'840'", "18 to 110 years", "convert the column to this unit"),
    "albumin in g/dL": ({"albumin_g_per_l": "4.1"}, "range", "'4.1'", "10 to 60 g/L", "convert the column"),
    "decimal comma": ({"weight_kg": "66,5"}, "range", "'66,5'", "a number with a decimal point", "leave the cell"),
    "a word": ({"weight_kg": "heavy"}, "range", "'heavy'", "a number", "leave the cell empty"),
    "not a number": ({"weight_kg": "nan"}, "range", "'nan'", "25 to 200 kg", "leave the cell empty"),
    "infinite": ({"weight_kg": "inf"}, "range", "'inf'", "25 to 200 kg", "leave the cell empty"),
    "sex as 1 and 2": ({"male": "2"}, "range", "'2'", "0 or 1", "leave the cell empty"),
    "sex as a letter": ({"male": "m"}, "range", "'m'", "a number", "leave the cell empty"),
    "unknown category": ({"smoking": "Now"}, "range", "'Now'", "one of never, former, now", "leave the cell empty"),
    "label as a word": ({"frail": "yes"}, "label", "'yes'", "0 or 1", "remove the participant"),
    "no label": ({"frail": ""}, "label", "''", "0 or 1", "remove the participant"),
    "empty id": ({"participant_id": " "}, "id", "empty", "an identifier", "fill it in"),
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
    assert (finding.rule, finding.row, finding.field) == ("column", None, "wieght_kg")
    assert finding.seen == "unknown column wieght_kg"
    assert finding.remedy == "rename it to weight_kg"


def test_an_unknown_column_is_listed_and_not_read(tmp_path: Path) -> None:
    path = people(tmp_path)
    write_rows(path, [row | {"postcode": "200233"} for row in read_csv(path)])
    table = read_participants(path, STUDY)
    (finding,) = table.findings
    assert (finding.severity, finding.field, finding.remedy) == ("warning", "postcode", "it is not read")
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


def test_a_comma_that_was_not_quoted_is_found_and_not_read_shifted(tmp_path: Path) -> None:
    """66,5 without quotes is two cells: everything behind it would be read as another feature."""
    path = people(tmp_path)
    path.write_text(path.read_text().replace("66.5", "66,5", 1))
    findings = faults(path)
    assert findings[0].rule == "cells"
    assert (findings[0].row, findings[0].seen, findings[0].expected) == (2, "10 cells", "9 as in the header")
    assert "quote a cell that holds a comma" in findings[0].remedy


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        pytest.param("participant_id,frail\nMüller,1\n".encode("latin-1"), "encoding", id="latin-1"),
        pytest.param("participant_id,frail\nP1,1\n".encode("utf-16"), "encoding", id="utf-16"),
        pytest.param(b'participant_id,frail\n"P1,1\nP2,0\n', "csv", id="open quote"),
        pytest.param(b"participant_id;frail\nP1;1\n", "csv", id="semicolons"),
    ],
)
def test_a_file_that_is_no_csv_in_utf_8_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    path = tmp_path / "participants.csv"
    path.write_bytes(content)
    assert fault(path).rule == rule


def test_an_empty_file_and_a_header_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "participants.csv"
    path.write_text("")
    assert {f.rule for f in faults(path)} == {"column", "empty"}
    finding = fault(write_csv(path, COLUMNS, []))
    assert (finding.rule, finding.seen, finding.remedy) == ("empty", "no rows", "fill the table")


def test_a_file_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    finding = fault(tmp_path / "participants.csv")
    assert (finding.rule, str(tmp_path) in finding.expected) == ("absent", True)
    (tmp_path / "participants.csv").mkdir()
    assert fault(tmp_path / "participants.csv").rule == "absent"


# ---- images.csv ------------------------------------------------------------------------------------------------------


def test_images_are_read_with_their_row_and_an_empty_mask_is_none(tmp_path: Path) -> None:
    rows, findings = read_images(image_table(tmp_path, [("b.dcm", " P1 ", "b.png"), ("a.png", "P0", "")]), ["P0", "P1"])
    assert findings == ()
    assert [(r.row, r.image, r.participant_id, r.mask) for r in rows] == [
        (2, "b.dcm", "P1", "b.png"),
        (3, "a.png", "P0", ""),
    ]


def test_an_image_of_somebody_who_is_in_no_other_table_is_left_out_and_listed(tmp_path: Path) -> None:
    rows, findings = read_images(image_table(tmp_path, [("a.png", "P9", ""), ("b.png", "P1", "")]), ["P0", "P1"])
    assert [r.image for r in rows] == ["b.png"]
    (finding,) = findings
    assert (finding.severity, finding.rule, finding.file) == ("warning", "one-table-only", "images.csv")
    assert (finding.row, finding.field) == (2, "participant_id")
    assert "add the person to participants.csv or correct the id" in finding.remedy


def test_a_person_without_any_image_is_listed_with_the_row_in_the_other_table(tmp_path: Path) -> None:
    table = read_participants(people(tmp_path), STUDY)
    rows, _ = read_images(image_table(tmp_path, [("a.png", "P0", ""), ("b.png", "P2", "")]), table.ids)
    (finding,) = people_without_images(table, rows)
    assert (finding.severity, finding.rule, finding.file) == ("note", "one-table-only", "participants.csv")
    assert (finding.row, finding.field, finding.seen) == (3, "participant_id", "no row in images.csv")


def test_an_image_given_twice_is_refused_with_both_rows(tmp_path: Path) -> None:
    """The same image for two people would stand on both sides of a split."""
    finding = image_fault(image_table(tmp_path, [("a.png", "P0", ""), ("a.png", "P1", "")]))
    assert (finding.rule, finding.row, finding.field) == ("duplicate-image", 3, "image")
    assert finding.seen == "the same image as row 2"


def test_an_empty_image_cell_is_refused(tmp_path: Path) -> None:
    finding = image_fault(image_table(tmp_path, [("", "P0", "m.png")]))
    assert (finding.rule, finding.row, finding.field, finding.remedy) == ("path", 2, "image", "fill it in")


@pytest.mark.parametrize("column", ["image", "participant_id"])
def test_an_absent_column_of_images_is_refused(tmp_path: Path, column: str) -> None:
    columns = [c for c in IMAGE_COLUMNS if c != column]
    finding = image_fault(write_csv(tmp_path / "images.csv", columns, [("a", "b")]))
    assert (finding.rule, finding.field, finding.seen) == ("column", column, "absent")


def test_spaces_in_the_header_of_images_change_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "images.csv", [" image", "participant_id ", "mask"], [("a.png", "P0", "")])
    assert read_images(path, ["P0"])[0][0].image == "a.png"


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
