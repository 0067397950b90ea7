"""A workbook is read cell by cell as Excel shows it, and a damaged one ends a process of its own and nothing else.

.xlsx files are written by openpyxl, one .xls by xlwt and one .xlsb by pyxlsbwriter (kept as bytes), .ods by this file.
"""

import datetime
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from sarco_models.workbooks import Refused, Remark, letter, read_workbook
from tests.sarco_models.workbooks_of_others import XLS, XLSB

ODS_NAMES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
)
MANIFEST = f"""<?xml version="1.0"?><manifest:manifest {ODS_NAMES.replace("office", "manifest")}>
</manifest:manifest>"""
TABLE = [["id", "weight"], ["P1", 66.5], ["P2", 70]]


def xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def ods(path: Path, cells: str) -> Path:
    content = f"""<?xml version="1.0"?><office:document-content {ODS_NAMES} office:version="1.2"><office:body>
    <office:spreadsheet><table:table table:name="one">{cells}</table:table></office:spreadsheet></office:body>
    </office:document-content>"""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", MANIFEST)
    return path


def refused(path: Path, sheet: str | None = None) -> Remark:
    with pytest.raises(Refused) as error:
        read_workbook(path, sheet)
    assert error.value.remark.severity == "error"
    return error.value.remark


# ---- cells -----------------------------------------------------------------------------------------------------------


def test_cells_are_texts_as_excel_shows_them(tmp_path: Path) -> None:
    cells = [
        66.6,
        0.1 + 0.2,
        70,
        1e-7,
        True,
        False,
        datetime.date(2024, 3, 5),
        datetime.datetime(2024, 3, 5, 10, 2),
        " x ",
        None,
    ]
    rows, remarks = read_workbook(xlsx(tmp_path / "a.xlsx", {"one": [list("abcdefghij"), cells]}))
    assert remarks == []
    assert rows[1] == (2, ["66.6", "0.3", "70", "1e-07", "1", "0", "2024-03-05", "2024-03-05 10:02:00", "x", ""])


def test_rows_are_counted_as_the_spreadsheet_does_and_columns_from_a(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["C5"], book.active["D8"] = "id", 1
    book.save(tmp_path / "a.xlsx")
    rows, _ = read_workbook(tmp_path / "a.xlsx")
    assert rows == [(5, ["", "", "id", ""]), (8, ["", "", "", "1"])]


def test_an_error_and_a_formula_that_was_never_calculated_are_empty_and_told(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "a.xlsx", {"one": [["id", "a", "b"], ["P1", "#N/A", "=1/0"], ["P2", "#DIV/0!", 3]]})
    rows, remarks = read_workbook(path)
    assert [cells for _, cells in rows] == [["id", "a", "b"], ["P1", "", ""], ["P2", "", "3"]]
    assert [(r.rule, r.row, r.field) for r in remarks] == [("cell-error", 2, "column B"), ("cell-error", 2, "column C")]
    assert ["2 cells" in remarks[0].seen, "formula" in remarks[1].seen] == [True, True]


def test_errors_of_the_sheet_that_is_read_count_and_no_others(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "a.xlsx", {"other": [["#N/A"]], "mine": TABLE})
    assert read_workbook(path, "mine")[1] == []
    assert len(read_workbook(path, "other")[1]) == 1


def test_a_cell_merged_over_rows_counts_for_each_of_them(tmp_path: Path) -> None:
    """Hospitals merge the person's id over the rows of the person's images."""
    path = xlsx(tmp_path / "a.xlsx", {"one": [["id", "image"], ["P1", "a"], [None, "b"], ["P2", "c"]]})
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("A2:A3")
    book.save(path)
    rows, remarks = read_workbook(path)
    assert [cells[0] for _, cells in rows] == ["id", "P1", "P1", "P2"]
    assert [(r.severity, r.rule, r.row) for r in remarks] == [("note", "merged", 3)]


def test_a_number_that_excel_has_rounded_is_told(tmp_path: Path) -> None:
    """An identity card has 18 digits; as a number it loses three, and two people may become one."""
    _, remarks = read_workbook(xlsx(tmp_path / "a.xlsx", {"one": [["id"], [310101194703123456]]}))
    assert [(r.severity, r.rule, r.row, r.field) for r in remarks] == [("warning", "digits", 2, "column A")]
    assert "3101" not in str(remarks)


# ---- sheets ----------------------------------------------------------------------------------------------------------


def test_the_only_visible_sheet_that_holds_anything_is_read(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "a.xlsx", {"empty": [], "full": TABLE, "hidden": [["lists"]]})
    book = openpyxl.load_workbook(path)
    book["hidden"].sheet_state = "hidden"
    book.save(path)
    assert read_workbook(path)[0][0][1] == ["id", "weight"]
    assert read_workbook(path, "Hidden")[0] == [(1, ["lists"])]


def test_of_several_sheets_the_one_named_like_the_file_is_read_or_none(tmp_path: Path) -> None:
    sheets = {"Zhang San": [["x"]], "participants": TABLE}
    assert len(read_workbook(xlsx(tmp_path / "participants.xlsx", sheets))[0]) == 3
    remark = refused(xlsx(tmp_path / "other.xlsx", sheets))
    assert (remark.rule, remark.seen) == ("sheet", "2 sheets that hold something")
    assert "Zhang" not in str(remark)
    assert refused(tmp_path / "other.xlsx", "Li Si").seen == "no sheet of that name among 2"
    assert refused(xlsx(tmp_path / "none.xlsx", {"a": [], "b": []})).rule == "empty"


# ---- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.xls", "misnamed.xlsx"])
def test_an_xls_file_is_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(XLS)
    rows, remarks = read_workbook(tmp_path / name)
    assert remarks == []
    assert [cells for _, cells in rows] == [
        ["participant_id", "frail", "age_years", "weight_kg"],
        ["P1", "1", "70", "66.5"], ["P2", "0", "61.5", "80"], ["P3", "1", "2024-03-05", "0.3"],
    ]  # fmt: skip


def test_an_xlsb_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xlsb").write_bytes(XLSB)
    rows, _ = read_workbook(tmp_path / "a.xlsb")
    assert [cells for _, cells in rows] == [
        ["participant_id", "frail", "age_years", "weight_kg"], ["P1", "1", "70", "66.5"], ["P2", "0", "61.5", "80"],
    ]  # fmt: skip


def test_an_ods_file_is_read_without_the_million_empty_rows_at_its_end(tmp_path: Path) -> None:
    def cell(kind: str, value: str, text: str) -> str:
        return f'<table:table-cell office:value-type="{kind}" {value}><text:p>{text}</text:p></table:table-cell>'

    header = "".join(cell("string", "", name) for name in ("id", "weight", "yes", "day"))
    row = cell("string", "", "P1") + cell("float", 'office:value="66.5"', "66,5")
    row += cell("boolean", 'office:boolean-value="true"', "WAHR") + cell(
        "date", 'office:date-value="2024-03-05"', "5.3.24"
    )
    empty = '<table:table-cell table:number-columns-repeated="16384"/>'
    rows = f"<table:table-row>{header}</table:table-row><table:table-row>{row}</table:table-row>"
    rows += f'<table:table-row table:number-rows-repeated="1048574">{empty}</table:table-row>'
    assert read_workbook(ods(tmp_path / "a.ods", rows))[0] == [
        (1, ["id", "weight", "yes", "day"]),
        (2, ["P1", "66.5", "1", "2024-03-05"]),
    ]


# ---- harm ------------------------------------------------------------------------------------------------------------


def test_two_cells_at_opposite_corners_are_refused_and_this_process_lives(tmp_path: Path) -> None:
    """A dense table of 17 billion cells: calamine's allocation ends its process."""
    book = openpyxl.Workbook()
    book.active["A1"], book.active["XFD1048576"] = "id", 1
    book.save(tmp_path / "a.xlsx")
    remark = refused(tmp_path / "a.xlsx")
    assert (remark.rule, remark.seen) == ("workbook", "damaged, or too large for the memory")


def test_a_table_of_too_many_cells_is_refused_with_its_size(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active["A1"], book.active["CV60000"] = "id", 1
    book.save(tmp_path / "a.xlsx")
    assert refused(tmp_path / "a.xlsx").seen == "60000 rows of 100 columns"


def bomb(parts: Mapping[str, bytes], good: Path) -> bytes:
    """The parts of a good workbook with others in their place."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, parts.get(name, source.read(name)))
    return buffer.getvalue()


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path: Path) -> None:
    good = xlsx(tmp_path / "good.xlsx", {"one": TABLE})
    (tmp_path / "a.xlsx").write_bytes(bomb({"xl/worksheets/sheet1.xml": b" " * 50_000_000}, good))
    remark = refused(tmp_path / "a.xlsx")
    assert (remark.rule, "unpack to 50 MB" in remark.seen) == ("size", True)


def test_a_zip_directory_that_lies_is_refused(tmp_path: Path) -> None:
    good = xlsx(tmp_path / "good.xlsx", {"one": TABLE})
    data = bytearray(bomb({"xl/worksheets/sheet1.xml": b" " * 50_000_000}, good))
    small = (1000).to_bytes(4, "little")
    true = (50_000_000).to_bytes(4, "little")
    assert data.count(true) == 2  # before the part and in the directory
    (tmp_path / "a.xlsx").write_bytes(data.replace(true, small))
    assert refused(tmp_path / "a.xlsx").seen == "damaged"


def test_a_protected_workbook_says_so(tmp_path: Path) -> None:
    name = "EncryptedPackage".encode("utf-16-le")
    (tmp_path / "a.xlsx").write_bytes(XLS[:1000] + name + XLS[1000:])
    assert refused(tmp_path / "a.xlsx").seen == "protected by a password"


@pytest.mark.parametrize("data", [b"PK\x03\x04 and no more", XLS[:2000], XLSB[:-30], b""])
def test_a_truncated_workbook_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(data)
    assert refused(tmp_path / "a.xlsx").seen.startswith("damaged")


def test_columns_are_called_as_in_a_spreadsheet() -> None:
    assert [letter(k) for k in (0, 25, 26, 51, 52, 701, 702, 16383)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA", "XFD"]
