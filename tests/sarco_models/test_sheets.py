"""A table of a hospital is read as it stands, what had to be assumed is said, and nothing of its texts."""

import io
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from sarco_models import sheets
from sarco_models.errors import DataError, Finding
from sarco_models.sheets import Sheet, find_table, number, read_sheet
from tests.sarco_models.workbooks_of_others import XLS, XLSB


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> Sheet:
    return read_sheet(write(tmp_path / "t.csv", text, encoding))


def fault(path: Path) -> Finding:
    with pytest.raises(DataError) as error:
        read_sheet(path)
    (finding,) = error.value.findings
    assert finding.severity == "error"
    assert finding.seen
    assert finding.expected
    assert finding.remedy
    return finding


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_rows_keep_the_numbers_of_the_spreadsheet_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    sheet = read(tmp_path, 'id,remark\n\n1,"two\nlines"\n,\n 2 , x \n\n')
    assert sheet.header == ("id", "remark")
    assert sheet.rows == ((3, {"id": "1", "remark": "two\nlines"}), (5, {"id": "2", "remark": "x"}))
    assert sheet.findings == ()
    assert (sheet.delimiter, sheet.encoding, sheet.decimal, sheet.header_row) == (",", "utf-8", ".", 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_the_same_table_in_any_delimiter_and_encoding_is_the_same_table(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    lines = [["编号", "性别", "体重"], ["P1", "男", "66.5"], ["P2", "女", "70"]]
    sheet = read(tmp_path, "\r\n".join(delimiter.join(line) for line in lines), encoding)
    assert [sheet.header, *(tuple(cells.values()) for _, cells in sheet.rows)] == [tuple(line) for line in lines]


def test_an_assumed_encoding_is_a_note(tmp_path: Path) -> None:
    (finding,) = read(tmp_path, "id;Größe\nP1;1,65\n", "cp1252").findings
    assert (finding.severity, finding.rule) == ("note", "encoding")


def test_a_workbook_and_a_text_file_with_the_same_cells_are_the_same_table(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["id", "weight"], ["P1", 66.5], ["P2", 70]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    sheet = read_sheet(tmp_path / "t.xlsx")
    text = read(tmp_path, "id,weight\nP1,66.5\nP2,70\n")
    assert (sheet.header, sheet.rows) == (text.header, text.rows)
    assert (sheet.delimiter, sheet.encoding, sheet.decimal) == ("", "", ".")


def test_the_header_is_found_below_a_title_and_said(tmp_path: Path) -> None:
    sheet = read(tmp_path, "Ward 3,,\n,,\nid,a,b\n1,2,3\n4,5,6\n")
    assert (sheet.header, sheet.header_row, sheet.rows[0][0]) == (("id", "a", "b"), 3, 4)
    (finding,) = sheet.findings
    assert (finding.severity, finding.seen) == ("note", "the header in row 3")


def test_every_column_has_a_name_of_its_own(tmp_path: Path) -> None:
    sheet = read(tmp_path, "id,a,a,,a,,\n1,2,3,4,5,,\n")
    assert sheet.header == ("id", "a", "a (2)", "column D", "a (3)")
    assert sheet.rows[0][1]["a (3)"] == "5"
    assert [(f.field, f.seen) for f in sheet.findings] == [
        ("column C", "the same name as column B"), ("column D", "no name"), ("column E", "the same name as column B"),
    ]  # fmt: skip
    assert sheet.letter_of("column D") == "D"


def test_a_name_over_two_lines_is_one_name(tmp_path: Path) -> None:
    assert read(tmp_path, '"albumin\n (g/L)",id\n1,2\n').header == ("albumin (g/L)", "id")


def test_rows_with_too_many_or_too_few_cells_are_told(tmp_path: Path) -> None:
    sheet = read(tmp_path, "id,a,b\n1,2,3\n1,2,3,4\n1,2,3,,\n1\n")
    assert [(f.severity, f.rule, f.row) for f in sheet.findings] == [("error", "cells", 3), ("warning", "cells", 5)]
    assert sheet.rows[-1][1] == {"id": "1", "a": "", "b": ""}


# ---- numbers ---------------------------------------------------------------------------------------------------------


def values(sheet: Sheet, column: str) -> list[float]:
    return [number(cells[column], sheet.decimal_of(column)) for _, cells in sheet.rows]


def test_a_european_table_has_a_decimal_comma_also_where_three_decimals_stand(tmp_path: Path) -> None:
    sheet = read(tmp_path, "id;weight;tsh\nP1;66,5;1,234\nP2;70,2;2,501\n")
    assert (sheet.decimal, values(sheet, "weight"), values(sheet, "tsh")) == (",", [66.5, 70.2], [1.234, 2.501])
    assert sheet.findings == ()


def test_a_number_that_could_be_read_two_ways_is_a_warning_and_no_number(tmp_path: Path) -> None:
    sheet = read(tmp_path, "id;tsh\nP1;1,234\nP2;2,501\n")
    (finding,) = sheet.findings
    assert (finding.severity, finding.rule, finding.row, finding.field) == ("warning", "decimal", 2, "column B")
    with pytest.raises(ValueError, match="two ways"):
        values(sheet, "tsh")


def test_each_column_has_its_own_decimal_sign_where_a_table_was_put_together_from_two(tmp_path: Path) -> None:
    sheet = read(tmp_path, "id;a;b\nP1;66,5;1.65\nP2;1,234;1.234\n")
    assert (values(sheet, "a"), values(sheet, "b")) == ([66.5, 1.234], [1.65, 1.234])
    assert sheet.findings == ()


def test_a_text_with_a_comma_in_a_workbook_does_not_change_its_numbers(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["id", "tsh"], ["P1", 1.234], ["P2", "2,5"], ["P3", "3,456"]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    sheet = read_sheet(tmp_path / "t.xlsx")
    assert [number(sheet.rows[k][1]["tsh"], sheet.decimal_of("tsh")) for k in (0, 1)] == [1.234, 2.5]
    assert [(f.rule, f.row) for f in sheet.findings] == [("decimal", 4)]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "empty"),
        (b"\n ,\n", "empty"),
        (b"1,2\n3,4\n", "header"),
        (b'id,a\n1,"b\n', "csv"),
        (b"id,a\n1,\0\n", "encoding"),
        (b"\x89PNG\r\n\x1a\n\0\0", "encoding"),
        (b"<html><table><tr><td>id</td></tr></table></html>", "format"),
        (b'\xef\xbb\xbf<?xml version="1.0"?><Workbook/>', "format"),
        (b"PK\x03\x04", "workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "workbook"),
    ],
)
def test_what_is_no_table_is_refused_with_a_remedy(tmp_path: Path, content: bytes, rule: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert fault(path).rule == rule


def test_a_file_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    assert str(tmp_path) in fault(tmp_path / "t.csv").expected
    (tmp_path / "t.csv").mkdir()
    assert fault(tmp_path / "t.csv").rule == "absent"


def test_limits_are_told_with_the_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.csv", "id,a\n" + "1,2\n" * 50)
    for name, limit in (("MAX_ROWS", 49), ("MAX_COLUMNS", 1), ("MAX_CELLS", 99)):
        with monkeypatch.context() as patch:
            patch.setattr(sheets, name, limit)
            assert fault(path).seen == "50 rows of 2 columns"
    monkeypatch.setattr(sheets, "MAX_BYTES", 100)
    assert fault(path).rule == "size"


def test_the_workbook_beside_stands_in_for_a_csv_that_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "participants.csv"
    assert find_table(path) == path
    (tmp_path / "participants.xlsx").write_bytes(b"")
    assert find_table(path) == tmp_path / "participants.xlsx"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"participants.csv and participants.xlsx; expected one table"):
        find_table(path)


# ---- any bytes -------------------------------------------------------------------------------------------------------


DEBRIS = [b'"', b"\0", b",,,,", b"\r", b"\xff\xfe", "男".encode(), b"1,234", b";" * 9, b"\n\n", b"<c "]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four damages: cut, flipped, doubled, overwritten with what tables are made of."""
    array = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at, length = int(rng.integers(len(array) + 1)), int(rng.integers(1, 40))
        kind = rng.integers(5)
        if kind == 0:
            del array[at:]
        elif kind == 1:
            for k in range(at, min(at + length, len(array))):
                array[k] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            array[at:at] = array[at : at + length] * int(rng.integers(1, 50))
        elif kind == 3:
            array[at : at + length] = DEBRIS[rng.integers(len(DEBRIS))]
        else:
            array[at : at + length] = rng.bytes(length)
    return bytes(array)


def survives(path: Path) -> bool:
    """Whether the file is read; a table has columns of their own names and rows in order, and all else is refused."""
    try:
        sheet = read_sheet(path)
    except DataError:
        return False
    assert len(set(sheet.header)) == len(sheet.header)
    assert all(set(cells) == set(sheet.header) for _, cells in sheet.rows)
    assert [row for row, _ in sheet.rows] == sorted({row for row, _ in sheet.rows})
    return True


def test_damaged_text_files_are_a_table_or_a_finding(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(1), tmp_path / "t.csv"
    text = "编号;weight;remark\n" + "".join(f"P{k};{50 + k / 7:.1f};男, ok\n" for k in range(20))
    seeds = [text.encode(e) for e in ("utf-8", "utf-16", "gb18030")] + [text.replace(".", ",").encode()]
    outcomes = set()
    for _ in range(250):
        path.write_bytes(mutated(seeds[rng.integers(len(seeds))], rng))
        outcomes.add(survives(path))
    assert outcomes == {True, False}


def workbook_seeds(tmp_path: Path) -> list[bytes]:
    book = openpyxl.Workbook()
    for row in (["id", "weight"], *([f"P{k}", 50 + k / 7] for k in range(20))):
        book.active.append(row)
    book.active.merge_cells("A2:A4")
    book.save(tmp_path / "seed.xlsx")
    return [(tmp_path / "seed.xlsx").read_bytes(), XLS, XLSB]


def inside(data: bytes, rng: np.random.Generator) -> bytes:
    """A workbook whose zip is sound and whose first sheet is damaged."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist():
            part = source.read(name)
            archive.writestr(name, mutated(part, rng) if name.startswith("xl/worksheets/sheet1") else part)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [4, pytest.param(80, marks=pytest.mark.slow)])
def test_damaged_workbooks_are_a_table_or_a_finding(tmp_path: Path, count: int) -> None:
    """Of the zip, of the older container, and of the sheet inside a sound zip."""
    rng, path = np.random.default_rng(2), tmp_path / "t.xlsx"
    seeds = workbook_seeds(tmp_path)
    for k in range(count):
        seed = seeds[rng.integers(len(seeds))]
        path.write_bytes(inside(seed, rng) if k % 2 and seed != XLS else mutated(seed, rng))
        survives(path)
