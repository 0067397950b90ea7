"""Tables as hospitals have them: CSV of any delimiter, encoding and decimal sign, Excel, OpenDocument; texts only.

:func:`read_sheet` changes nothing but outer spaces, and says what it had to assume. Whoever needs a number asks
:func:`number`, which refuses what could be read in two ways: "1,234" is a thousand and more, or little more than one.
Nothing of a cell or a header ever stands in a finding: columns are called A, B, C as in a spreadsheet.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median_low

from sarco_models.delimited import NotText, decode, split
from sarco_models.errors import DataError, Finding
from sarco_models.numerals import censored, decimal_signs, number, two_ways
from sarco_models.words import missing
from sarco_models.workbooks import SAVE_AGAIN, Refused, Remark, letter, read_workbook

__all__ = ["WORKBOOKS", "Sheet", "censored", "find_table", "letter", "missing", "number", "read_sheet"]

MAX_BYTES = 200_000_000
MAX_ROWS, MAX_COLUMNS, MAX_CELLS = 1_000_000, 2_000, 10_000_000
WORKBOOKS = (".xlsx", ".xls", ".xlsb", ".ods")
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_HEADER_SEARCH = 50  # rows
_HEADER_SHARE = 0.6  # of the cells that a usual row fills: a title above the table fills fewer

_Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True, eq=False)
class Sheet:
    """One table as it was found: texts, with their places.

    Attributes:
        name: of the file.
        header: column names, unique: a name that is given twice becomes "name (2)", an empty one "column K".
        rows: (row number as a spreadsheet counts, column -> stripped cell text); blank rows are left out.
        findings: of the file alone; what makes the table unreadable is raised instead.
        delimiter: of a text file, "" for a workbook.
        encoding: of a text file, "" for a workbook.
        decimal: what stands before decimals, "." or ",", where a number could be read both ways.
        header_row: row of the header.
        decimals: columns whose ``decimal`` is another than the file's; "" = it cannot be told.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]
    findings: tuple[Finding, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    header_row: int = 1
    decimals: Mapping[str, str] = field(default_factory=dict)

    def decimal_of(self, column: str) -> str:
        """What stands before decimals in this column; give it to :func:`number`."""
        return self.decimals.get(column, self.decimal)

    def letter_of(self, column: str) -> str:
        """The column's name as a spreadsheet shows it."""
        return letter(self.header.index(column))


def find_table(path: Path) -> Path:
    """The path itself or, where there is no such file, the workbook of the same name beside it.

    Raises:
        DataError: there are several, and nobody can say which counts.
    """
    beside = [path.with_suffix(suffix) for suffix in WORKBOOKS if path.suffix not in WORKBOOKS]
    found = [p for p in (path, *beside) if p.is_file()]
    if len(found) > 1:
        seen = " and ".join(p.name for p in found)
        raise DataError([Finding("error", "absent", path.name, seen, "one table", "keep the one that counts")])
    return found[0] if found else path


def read_sheet(path: Path, *, sheet: str | None = None) -> Sheet:
    """Read a table from a text file or a workbook; the contents say which it is, not the name.

    Args:
        path: CSV (comma, semicolon, tab, pipe), .xlsx, .xls, .xlsb or .ods; at most 200 MB, 1,000,000 rows, 2,000
            columns and 10,000,000 cells (a workbook 5,000,000).
        sheet: name of the workbook's sheet; None takes the only visible one that holds anything, or of several the one
            that is named like the file.

    Raises:
        DataError: nothing can be read: no file, no table, no header, too large, several sheets.
    """
    try:
        rows, findings, delimiter, encoding = _workbook_or_text(path, sheet)
    except FileNotFoundError:
        raise _unreadable(path, "absent", "no such file", f"a table at {path}", _NAME_ANOTHER) from None
    except OSError as error:
        seen = error.strerror or "not readable"
        raise _unreadable(path, "absent", seen, f"a table at {path}", _NAME_ANOTHER) from None
    except csv.Error:
        seen = "a quote that is never closed, or stands in the middle of a cell"
        raise _unreadable(path, "csv", seen, "rows of cells", "save the table again as CSV, or as .xlsx") from None
    except NotText as error:
        raise _unreadable(path, "encoding", str(error), "text, or an Excel file", "save it as 'CSV UTF-8'") from None
    except Refused as error:
        raise DataError([_finding(path, error.remark)]) from None
    return _sheet(path, rows, findings, delimiter, encoding)


_NAME_ANOTHER = "write it, or name another file"


# --- from a file to rows ----------------------------------------------------------------------------------------------


def _workbook_or_text(path: Path, sheet: str | None) -> tuple[_Rows, list[Finding], str, str]:
    """Rows that are not blank, findings, delimiter and encoding."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise _unreadable(path, "size", f"{size / 1e6:.0f} MB", f"at most {MAX_BYTES / 1e6:.0f} MB", _SMALLER)
    data = path.read_bytes()
    if data.startswith((_ZIP, _OLE)):
        rows, remarks = read_workbook(path, sheet)
        return rows, [_finding(path, remark) for remark in remarks], "", ""
    text, encoding, certain = decode(data)
    text = text.replace("\ufeff", "").replace("\u200b", "")
    if _MARKUP.match(text):
        raise _unreadable(path, "format", "a web page or XML", "a table", SAVE_AGAIN)
    lines, delimiter = split(text, MAX_CELLS)
    rows = [(k, list(map(str.strip, cells))) for k, cells in enumerate(lines, start=1) if any(map(str.strip, cells))]
    seen, remedy = f"not UTF-8; read as {encoding.upper()}", "look whether words are right, or save it as 'CSV UTF-8'"
    assumed = [] if certain else [Finding("note", "encoding", path.name, seen, "UTF-8", remedy)]
    return rows, assumed, delimiter, encoding


_MARKUP = re.compile(r"\s*<(?:!doctype|html|table|\?xml|meta|div|style)", re.IGNORECASE)
_SMALLER = "leave out what the study does not ask for"


def _finding(path: Path, remark: Remark) -> Finding:
    return Finding(
        remark.severity, remark.rule, path.name, remark.seen, remark.expected, remark.remedy, remark.row, remark.field
    )


def _unreadable(path: Path, *words: str) -> DataError:
    rule, seen, expected, remedy = words
    return DataError([Finding("error", rule, path.name, seen, expected, remedy)])


def _sheet(path: Path, rows: _Rows, findings: list[Finding], delimiter: str, encoding: str) -> Sheet:
    if not rows:
        raise _unreadable(path, "empty", "no cell is filled", "a header and one row for each entry", "fill the table")
    start = _header(rows)
    (header_row, names), body = rows[start], rows[start + 1 :]
    width = max(len(names), *(len(cells) for _, cells in body[:1]), 1) if not delimiter else len(names)
    _check_size(path, len(body), width)
    if sum(_is_number(name) for name in names) > 0.5 * sum(map(bool, names)):
        remedy = "put a row with the names of the columns above the values"
        raise _unreadable(path, "header", f"row {header_row} holds mostly numbers", "names of columns", remedy)
    if start:
        seen, remedy = f"the header in row {header_row}", "look whether anything above it is needed; it is not read"
        findings.append(Finding("note", "header", path.name, seen, "the header in the first row", remedy))
    while width > 1 and not any(cells[width - 1] for _, cells in [(0, names), *body] if len(cells) >= width):
        width -= 1
    header, more = _names(path.name, (names + [""] * width)[:width], body)
    findings += more + _ragged(path.name, width, body)
    blank = [""] * width
    entries = tuple((k, dict(zip(header, (cells + blank)[:width], strict=True))) for k, cells in body)
    decimal, decimals, more = _decimals(path.name, header, body, workbook=not delimiter)
    findings += more
    return Sheet(path.name, header, entries, tuple(findings), delimiter, encoding, decimal, header_row, decimals)


def _check_size(path: Path, height: int, width: int) -> None:
    if height > MAX_ROWS or width > MAX_COLUMNS or height * width > MAX_CELLS:
        seen = f"{height} rows of {width} columns"
        limit = f"at most {MAX_ROWS} rows, {MAX_COLUMNS} columns and {MAX_CELLS} cells"
        raise _unreadable(path, "size", seen, limit, _SMALLER)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(number(text))
    except ValueError:
        return False


def _header(rows: _Rows) -> int:
    """Position of the header: the first row that fills about as many cells as a usual row of the table."""
    counts = [sum(map(bool, cells)) for _, cells in islice(rows, _HEADER_SEARCH)]
    usual = median_low(counts)
    return next(k for k, count in enumerate(counts) if count >= _HEADER_SHARE * usual)


def _names(file: str, names: Sequence[str], body: _Rows) -> tuple[tuple[str, ...], list[Finding]]:
    """A name of its own for every column."""
    header: dict[str, int] = {}
    copies: Counter[str] = Counter()
    findings: list[Finding] = []
    for index, text in enumerate(names):
        place = f"column {letter(index)}"
        first = name = " ".join(text.split()) or place
        if not text and any(cells[index] for _, cells in body if len(cells) > index):
            remedy = "name the column, if the study asks for it; it is not read"
            findings.append(Finding("warning", "header", file, "no name", "a name", remedy, field=place))
        while name in header:
            copies[first] += 1
            name = f"{first} ({copies[first] + 1})"
        if name != first:
            seen, remedy = f"the same name as column {letter(header[first])}", "rename or remove one of them"
            findings.append(Finding("warning", "column", file, seen, "each column once", remedy, field=place))
        header[name] = index
    return tuple(header), findings


def _ragged(file: str, width: int, body: _Rows) -> list[Finding]:
    """Rows of a text file that have more or fewer cells than the header."""
    expected = f"{width} as in the header"
    remedy = "quote a cell that holds a comma, and write decimals with a point"
    findings = [
        Finding("error", "cells", file, f"{len(cells)} cells", expected, remedy, k)
        for k, cells in body
        if any(cells[width:])
    ]
    short = [k for k, cells in body if len(cells) < width]
    if short:
        seen = f"fewer cells in {len(short)} row{'s' if len(short) > 1 else ''}, here the first"
        remedy = "look whether the row was cut off; what is absent counts as missing"
        findings.append(Finding("warning", "cells", file, seen, expected, remedy, short[0]))
    return findings


def _decimals(
    file: str, header: Sequence[str], body: _Rows, *, workbook: bool
) -> tuple[str, dict[str, str], list[Finding]]:
    """The file's decimal sign, the columns that have another, and warnings on cells that could be read two ways.

    In a workbook numbers are numbers; only texts could be doubted, and a comma in one of them proves nothing.
    """
    columns = {name: [cells[k] if len(cells) > k else "" for _, cells in body] for k, name in enumerate(header)}
    decimal, others = (".", {}) if workbook else decimal_signs(columns)
    findings = []
    for index, (name, cells) in enumerate(columns.items()):
        sign = others.get(name, decimal)
        doubted = two_ways(cells, sign) if sign != "." or any("," in cell for cell in cells) else []
        if doubted:
            amount = "1 number" if len(doubted) == 1 else f"{len(doubted)} numbers"
            seen = f"{amount} such as 1,234 or 1.234 that could be read two ways"
            remedy = "write them without separators for thousands, and all decimals with the same sign"
            row = body[doubted[0]][0]
            place = f"column {letter(index)}"
            findings.append(Finding("warning", "decimal", file, seen, "numbers read one way", remedy, row, place))
    return decimal, others, findings
