"""images.csv: one row per image, read so that no path leaves the site's folder and no image counts twice.

Columns ``image`` and ``participant_id`` are needed; ``mask``, ``mask_label``, ``frame`` (of a cine), ``muscle``,
``side``, ``exam_date`` and ``annotated`` may be there. No finding holds a path, an identifier or a text of a cell.
"""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sarco_models import words
from sarco_models.cells import described
from sarco_models.errors import DataError, Finding
from sarco_models.numerals import number
from sarco_models.sheets import Sheet, find_table, read_sheet

PARTICIPANTS_FILE = "participants.csv"
IMAGES_FILE = "images.csv"
IMAGE_COLUMNS = ("image", "participant_id", "muscle", "side", "mask", "exam_date", "frame", "mask_label")
ANNOTATED = "annotated"
"""Column of a study of muscles: those that were looked for on the image, separated by semicolons."""

_KNOWN = (*IMAGE_COLUMNS, ANNOTATED)
_REQUIRED = IMAGE_COLUMNS[:2]
_MOST_FRAMES = 100_000
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_ABSOLUTE = re.compile(r"/|~|[A-Za-z]:")
_SWAPPABLE = re.compile(r"\d{1,2}[-/]\d{1,2}[-/]\d{4}")


@dataclass(frozen=True)
class ImageRow:
    """One row of images.csv; paths are relative to the site's folder, with slashes.

    Attributes:
        row: as a spreadsheet counts.
        image: path.
        participant_id: it never leaves the site.
        mask: path; "" when there is none.
        frame: of a cine, counted from 0; None = the file is a still.
        muscle: as the site wrote it.
        side: "left", "right" or "".
        exam_date: ISO 8601, or "".
        mask_label: which label of the mask is the muscle; "" where it has only one.
        annotated: muscles that were looked for on the image, as the site wrote them; empty = not said.
    """

    row: int
    image: str
    participant_id: str
    mask: str
    frame: int | None = None
    muscle: str = ""
    side: str = ""
    exam_date: str = ""
    mask_label: str = ""
    annotated: tuple[str, ...] = ()


def read_images(path: Path, participant_ids: Sequence[str]) -> tuple[tuple[ImageRow, ...], tuple[Finding, ...]]:
    """Read images.csv; rows of people who are not in participants.csv are left out and listed.

    Raises:
        DataError: an absent column, an empty cell that is needed, an image that is listed twice, a path that leaves the
            folder, a side or a date that is none.
    """
    rows, findings = examine_images(path, participant_ids)
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise DataError(errors)
    known = set(participant_ids)
    return tuple(row for row in rows if row.participant_id in known), findings


def examine_images(path: Path, participant_ids: Sequence[str]) -> tuple[tuple[ImageRow, ...], tuple[Finding, ...]]:
    """Read images.csv and go on after errors: every row with a usable path is kept, of unknown people too.

    Raises:
        DataError: nothing can be read: no file, no table, no column ``image`` or ``participant_id``.
    """
    sheet = read_sheet(find_table(path))
    absent = [c for c in _REQUIRED if c not in sheet.header]
    if absent:
        raise DataError(
            Finding("error", "column", sheet.name, "absent", f"a column {c}", "add the column", field=c) for c in absent
        )
    findings = [*sheet.findings, *_of_header(sheet)]
    day_first = words.day_first(cells.get("exam_date", "") for _, cells in sheet.rows)
    known, seen = set(participant_ids), dict[str, dict[int | None, ImageRow]]()
    rows: list[ImageRow] = []
    for line, cells in sheet.rows:
        reading = _Reading(sheet, line, cells)
        row = reading.row(day_first)
        if row.image and reading.is_new(row, seen):
            rows.append(row)
            reading.check_person(row, known)
        findings += reading.findings
    return tuple(rows), tuple(findings)


def _of_header(sheet: Sheet) -> list[Finding]:
    findings = [
        Finding(
            "note", "column", sheet.name, "unknown column", "a column of images.csv", "it is not read",
            field=f"column {sheet.letter_of(name)}",
        )
        for name in sheet.header
        if name not in _KNOWN
    ]  # fmt: skip
    if any("\\" in cells.get(c, "") for _, cells in sheet.rows for c in ("image", "mask")):
        seen, remedy = "backslashes in paths, read as slashes", "nothing needs to be done"
        findings.append(Finding("note", "path", sheet.name, seen, "slashes", remedy))
    return findings


class _Reading:
    """One row of the file; what is wrong with it gathers in ``findings``."""

    def __init__(self, sheet: Sheet, line: int, cells: dict[str, str]) -> None:
        self.findings: list[Finding] = []
        self._sheet, self._line, self._cells = sheet, line, cells

    def row(self, day_first: bool | None) -> ImageRow:
        """The row; what cannot be read is empty."""
        image = self._path("image")
        if not self._text("image"):
            self._error("path", "image", "empty", "a relative path", "fill it in")
        return ImageRow(
            self._line,
            image,
            self._cells["participant_id"],
            self._path("mask"),
            frame=self._frame(),
            muscle=self._text("muscle"),
            side=self._side(),
            exam_date=self._date(day_first),
            mask_label=self._text("mask_label"),
            annotated=tuple(word for text in self._text(ANNOTATED).split(";") if (word := text.strip())),
        )

    def is_new(self, row: ImageRow, seen: dict[str, dict[int | None, ImageRow]]) -> bool:
        """Whether the image was not listed before: the same frame twice, or one file for two people."""
        others = seen.setdefault(row.image, {})
        same = others.get(row.frame)
        of_another = next((r for r in others.values() if r.participant_id != row.participant_id), None)
        first = same or of_another
        if first is None:
            others[row.frame] = row
            return True
        person = " of another person" if first.participant_id != row.participant_id else ""
        self._error(
            "duplicate-image", "image", f"the same image as row {first.row}{person}", "each image once", "remove one"
        )
        return False

    def check_person(self, row: ImageRow, known: set[str]) -> None:
        """An image without a person, or of one who is in no other table."""
        if not self._text("participant_id"):
            self._error("id", "participant_id", "empty", "an identifier", "fill it in, or remove the row")
        elif row.participant_id not in known:
            seen, expected = "an id that is not in the other table", f"an id of {PARTICIPANTS_FILE}"
            remedy = f"the image is left out: add the person to {PARTICIPANTS_FILE} or correct the id"
            finding = ("one-table-only", self._sheet.name, seen, expected, remedy, self._line, "participant_id")
            self.findings.append(Finding("warning", *finding))

    def _text(self, column: str) -> str:
        text = self._cells.get(column, "")
        return "" if words.missing(text) else text

    def _path(self, column: str) -> str:
        """A path inside the site's folder, with slashes; "" when there is none, or a wrong one."""
        text = self._text(column).replace("\\", "/")
        path = PurePosixPath(text)
        if _ADDRESS.match(text):
            seen = "a web address"
        elif _ABSOLUTE.match(text):
            seen = "an absolute path"
        elif ".." in path.parts:
            seen = "a path that leaves the folder"
        elif not text.isprintable():
            seen = "a path with control characters"
        else:
            return str(path) if text else ""
        remedy = "copy the file into the site's folder, and write where it lies there"
        self._error("path", column, seen, "a path inside the site's folder, such as images/001.dcm", remedy)
        return ""

    def _frame(self) -> int | None:
        text = self._text("frame")
        if not text:
            return None
        try:
            frame = number(text, self._sheet.decimal_of("frame"))
        except ValueError:
            frame = -1.0
        if frame.is_integer() and 0 <= frame < _MOST_FRAMES:
            return int(frame)
        remedy = "count the cine's frames from 0, or leave the cell empty for a still"
        self._error("frame", "frame", described(text), "a whole number from 0", remedy)
        return None

    def _side(self) -> str:
        text = self._cells.get("side", "")
        side = words.side(text)
        if side is None:
            self._error("side", "side", described(text), "left, right or empty", "correct it, or leave the cell empty")
        return side or ""

    def _date(self, day_first: bool | None) -> str:
        text = self._text("exam_date")
        day = words.date(text, day_first=day_first)
        if not text or (day and day <= datetime.date.today()):
            return day.isoformat() if day else ""
        seen = "a date in the future" if day else described(text)
        if not day and _SWAPPABLE.fullmatch(text):
            seen = "a date whose day and month could be either way round"
        self._error("date", "exam_date", seen, "a day such as 2024-03-05", "write it as year-month-day")
        return ""

    def _error(self, rule: str, field: str, seen: str, expected: str, remedy: str) -> None:
        self.findings.append(Finding("error", rule, self._sheet.name, seen, expected, remedy, self._line, field))
