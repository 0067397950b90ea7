"""Excel and OpenDocument workbooks, read by a process of their own that may end without harm.

A damaged or malicious workbook can make the reader (calamine) allocate without end, which stops the whole process and
not only the call: two cells at opposite corners are enough. So :func:`read_workbook` starts this file as a program with
a limit on memory and processor time, and takes its answer as JSON. What a zip directory promises is checked before.

This file imports nothing of the project, for the program starts anew for every table.
"""

import datetime
import json
import re
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import python_calamine as calamine

MAX_CELLS = 5_000_000
MAX_MEMORY_BYTES = 1 << 30
_MAX_UNPACKED_BYTES = 400_000_000
_MAX_RATIO = 200  # Office files shrink 5 to 30 times
_MAX_PARTS = 5_000
_PARENTS_PATIENCE = 10  # wall clock seconds for a second of processor time: the machine may be busy
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # a protected .xlsx is an older container around this part
_EXACT_DIGITS = 1e15  # Excel keeps 15 digits of a number and makes the rest zeros

SAVE_AGAIN = "open it in Excel or LibreOffice, look at it, and save it as a new .xlsx or as 'CSV UTF-8'"


class Remark(NamedTuple):
    """A finding in the making: the fields of ``errors.Finding`` without the file."""

    severity: Literal["error", "warning", "note"]
    rule: str
    seen: str
    expected: str
    remedy: str
    row: int | None = None
    field: str = ""


class Refused(Exception):
    """The workbook cannot be read; ``remark`` says why."""

    def __init__(self, *remark: Any) -> None:
        """Take the fields of a :class:`Remark`, the severity left out."""
        self.remark = Remark("error", *remark)
        super().__init__(self.remark.seen)


def read_workbook(path: Path, sheet: str | None = None) -> tuple[list[tuple[int, list[str]]], list[Remark]]:
    """Rows that are not blank (number as the spreadsheet counts, cell texts from column A on) and remarks.

    Numbers are the shortest text that Excel would show, dates ISO 8601, booleans 1 and 0, errors such as #N/A empty.

    Args:
        path: .xlsx, .xls, .xlsb or .ods; the contents count, not the name.
        sheet: name of the sheet; None takes the only visible one that holds anything, or the one named like the file.

    Raises:
        Refused: no workbook, damaged, protected, too large, or several sheets to choose from.
    """
    seconds = 4 + path.stat().st_size // 1_000_000
    command = [sys.executable, "-I", "-X", "utf8", __file__, str(path.absolute()), sheet or "", str(seconds)]
    damaged = Refused("workbook", "damaged, or too large for the memory", "a workbook", SAVE_AGAIN)
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PARENTS_PATIENCE * seconds, check=True
        )
        answer = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise damaged from None
    if "refused" in answer:
        raise Refused(*answer["refused"][1:])
    return [(number, cells) for number, cells in answer["rows"]], [Remark(*remark) for remark in answer["remarks"]]


def letter(index: int) -> str:
    """A column's name as a spreadsheet shows it: 0 is A, 26 is AA."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


# --- the program ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Read the workbook that the command line names and print the answer; the exit status is 0 for every answer."""
    path, sheet, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _limit(seconds)
    try:
        rows, remarks = _read(path.read_bytes(), sheet, path.stem)
        answer: dict[str, Any] = {"rows": rows, "remarks": remarks}
    except Refused as refused:
        answer = {"refused": refused.remark}
    sys.stdout.write(json.dumps(answer))


def _limit(seconds: int) -> None:
    try:
        import resource  # not on Windows: there the parent's patience is the only limit
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(data: bytes, name: str, stem: str) -> tuple[list[tuple[int, list[str]]], list[Remark]]:
    if _ENCRYPTED in data[: 1 << 20] or _ENCRYPTED in data[-(1 << 20) :]:
        raise Refused("workbook", "protected by a password", "an open workbook", "save it without a password")
    try:
        parts = _unpacked(data)
        book = calamine.load_workbook(BytesIO(data))
        chosen, position = _choose(book, name, stem)
        remarks = _marks(parts, position) if parts else []
        rows = list(_rows(chosen, remarks))
    except (calamine.CalamineError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError):
        raise Refused("workbook", "damaged", "a workbook", SAVE_AGAIN) from None
    return rows, remarks


def _unpacked(data: bytes) -> zipfile.ZipFile | None:
    """The zip archive of .xlsx, .xlsb and .ods after a look at its directory; None for the older .xls."""
    if not data.startswith(b"PK"):
        return None
    archive = zipfile.ZipFile(BytesIO(data))
    parts = archive.infolist()
    size = sum(part.file_size for part in parts)
    if len(parts) > _MAX_PARTS or size > max(_MAX_RATIO * len(data), 10_000_000) or size > _MAX_UNPACKED_BYTES:
        seen = f"{len(data) / 1e6:.1f} MB that unpack to {size / 1e6:.0f} MB in {len(parts)} parts"
        raise Refused("size", seen, f"at most {_MAX_UNPACKED_BYTES / 1e6:.0f} MB unpacked", SAVE_AGAIN)
    for part in parts:
        _check_promise(data, part)
    return archive


def _check_promise(data: bytes, part: zipfile.ZipInfo) -> None:
    """The directory may lie about what a part unpacks to: unpack no further than it says."""
    names = data[part.header_offset + 26 : part.header_offset + 30]
    start = part.header_offset + 30 + int.from_bytes(names[:2], "little") + int.from_bytes(names[2:], "little")
    packed = data[start : start + part.compress_size]
    if part.compress_type == zipfile.ZIP_STORED:
        honest = len(packed) == part.file_size
    else:
        unpack, size = zlib.decompressobj(-15), 0
        while packed and size <= part.file_size:
            size += len(unpack.decompress(packed, 1 << 20))
            packed = unpack.unconsumed_tail
        honest = unpack.eof and size == part.file_size
    if not honest:
        raise zipfile.BadZipFile


def _choose(book: calamine.CalamineWorkbook, name: str, stem: str) -> tuple[calamine.CalamineSheet, int]:
    """The sheet to read and its position in the workbook."""
    if name:
        for position, meta in enumerate(book.sheets_metadata):
            if meta.name.strip().casefold() == name.strip().casefold():
                return book.get_sheet_by_index(position), position
        seen = f"no sheet of that name among {len(book.sheets_metadata)}"
        raise Refused("sheet", seen, "a sheet of the workbook", "correct the sheet's name")
    filled = [
        (sheet, position)
        for position, meta in enumerate(book.sheets_metadata)
        if meta.typ is calamine.SheetTypeEnum.WorkSheet and meta.visible is calamine.SheetVisibleEnum.Visible
        for sheet in [book.get_sheet_by_index(position)]
        if any(cell not in ("", None) for row in sheet.iter_rows() for cell in row)
    ]
    if not filled:
        raise Refused("empty", "no visible sheet with a filled cell", "a table", "fill the table")
    named = [(sheet, position) for sheet, position in filled if sheet.name.strip().casefold() == stem.casefold()]
    if len(filled) > 1 and len(named) != 1:
        remedy = "say which one counts, name it like the file, or save it in a file of its own"
        raise Refused("sheet", f"{len(filled)} sheets that hold something", "one sheet", remedy)
    return (named or filled)[0]


def _rows(sheet: calamine.CalamineSheet, remarks: list[Remark]) -> Iterator[tuple[int, list[str]]]:
    """Rows with a text of their own; a cell merged over several rows counts for each of them."""
    (bottom, right), (_, left) = sheet.end or (0, 0), sheet.start or (0, 0)
    if (bottom + 1) * (right + 1) > MAX_CELLS:
        seen = f"{bottom + 1} rows of {right + 1} columns"
        raise Refused("size", seen, f"at most {MAX_CELLS} cells", "delete what lies far from the table")
    merges = _merges(sheet, right)
    spans: dict[int, tuple[int, str]] = {}
    filled, rounded = _Count(), _Count()
    for index, cells in enumerate(sheet.iter_rows()):  # from row 1, but from the first column that is used
        texts = [""] * left + [_text(cell) for cell in cells]
        if any(texts):
            _fill(texts, spans, index, filled)
            yield index + 1, texts
        spans |= {column: (bottom, texts[column]) for column, bottom in merges.get(index, ())}
        for column, cell in enumerate(cells, start=left):
            if isinstance(cell, float) and abs(cell) >= _EXACT_DIGITS:
                rounded.add(column, index)
    remarks += filled.remarks(
        "note", "merged", "the value of a cell merged over rows", "one cell for each row", _MERGED
    )
    remarks += rounded.remarks("warning", "digits", "a number of more than 15 digits", "text", _ROUNDED)


def _merges(sheet: calamine.CalamineSheet, right: int) -> dict[int, list[tuple[int, int]]]:
    """Top row -> (column, bottom row) of the cells that are merged over several rows; positions from 0."""
    begins: dict[int, list[tuple[int, int]]] = {}
    for (top, left), (bottom, _) in sheet.merged_cell_ranges or ():
        if bottom > top and left <= right:
            begins.setdefault(top, []).append((left, bottom))
    return begins


def _fill(texts: list[str], spans: dict[int, tuple[int, str]], index: int, filled: "_Count") -> None:
    for column, (bottom, text) in spans.items():
        if index <= bottom and text and not texts[column]:
            texts[column] = text
            filled.add(column, index)


_MERGED = "the value counts for every row that it spans: look whether that is meant"
_ROUNDED = "Excel has made the last digits zeros: format the column as text and enter the numbers again"
_ERROR = "it counts as missing: correct the formula, or empty the cell"
_NO_VALUE = "it counts as missing: open the file in Excel, let it calculate, and save it"


class _Count:
    """How often something was seen in each column, and where first."""

    def __init__(self) -> None:
        self.number, self.first = Counter[int](), dict[int, int]()

    def add(self, column: int, index: int) -> None:
        """One more, in the row at ``index`` (from 0)."""
        self.number[column] += 1
        self.first.setdefault(column, index)

    def remarks(self, severity: Literal["warning", "note"], rule: str, *words: str) -> list[Remark]:
        """One remark for each column; ``words`` are what was seen, what was expected, and the remedy."""
        seen, expected, remedy = words
        return [
            Remark(
                severity, rule, f"{seen}, in {_cells(n)}", expected, remedy, self.first[c] + 1, f"column {letter(c)}"
            )
            for c, n in sorted(self.number.items())
        ]


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell.replace("\ufeff", "").replace("\u200b", "").strip()
    if isinstance(cell, bool):
        return "1" if cell else "0"
    if isinstance(cell, int | float):
        whole = float(cell).is_integer() and abs(cell) < _EXACT_DIGITS
        return str(int(cell)) if whole else f"{cell:.15g}"
    if isinstance(cell, datetime.datetime):
        midnight = cell.time() == datetime.time()
        return cell.date().isoformat() if midnight else cell.isoformat(" ", "seconds")
    return cell.isoformat() if isinstance(cell, datetime.date | datetime.time) else str(cell)


# calamine gives an empty cell for an error and for a formula that was never calculated: both are found in the XML.
_SHEET = re.compile(rb"<(?:\w+:)?sheet\s[^>]*?\w+:id=[\"']([^\"']+)")
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\s[^>]*>")
_ERROR_CELL = re.compile(rb"<c\s(?=[^>]*\bt=\"e\")[^>]*\br=\"([A-Z]{1,3})(\d{1,7})\"")
_UNCALCULATED = re.compile(
    rb"<c\s[^>]*\br=\"([A-Z]{1,3})(\d{1,7})\"[^>]*><f\b[^>]*(?:/>|>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>"
)


def _marks(archive: zipfile.ZipFile, position: int) -> list[Remark]:
    """What only the XML of an .xlsx sheet says."""
    part = _sheet_part(archive, position)
    errors, uncalculated = _Count(), _Count()
    if part:
        with archive.open(part) as file:
            rest = b""
            while chunk := file.read(1 << 20):
                text = rest + chunk
                end = max(text.rfind(b"<c "), 0)
                text, rest = text[:end], text[end:][: 1 << 20]
                _count(_ERROR_CELL, text, errors)
                _count(_UNCALCULATED, text, uncalculated)
            _count(_ERROR_CELL, rest, errors)
            _count(_UNCALCULATED, rest, uncalculated)
    return [
        *errors.remarks("warning", "cell-error", "an error of the spreadsheet, such as #N/A", "a value", _ERROR),
        *uncalculated.remarks("warning", "cell-error", "a formula without a value", "a value", _NO_VALUE),
    ]


def _count(pattern: re.Pattern[bytes], text: bytes, count: _Count) -> None:
    for name, row in pattern.findall(text):
        column = 0
        for character in name:
            column = column * 26 + character - ord("A") + 1
        count.add(column - 1, int(row) - 1)


def _sheet_part(archive: zipfile.ZipFile, position: int) -> str:
    """Path of a sheet's XML inside the archive; "" where the archive is no .xlsx."""
    names = set(archive.namelist())
    if not {"xl/workbook.xml", "xl/_rels/workbook.xml.rels"} <= names:
        return ""
    sheets = _SHEET.findall(archive.read("xl/workbook.xml"))
    for relation in _RELATION.findall(archive.read("xl/_rels/workbook.xml.rels")):
        given = dict(re.findall(rb"(\w+)=\"([^\"]*)\"", relation))
        if position < len(sheets) and given.get(b"Id") == sheets[position]:
            part = given.get(b"Target", b"").decode("utf-8", "replace")
            part = part.removeprefix("/") if part.startswith("/") else f"xl/{part}"
            return part if part in names else ""
    return ""


if __name__ == "__main__":
    main()
