"""The two tables of a site, read against the study: every fault found in one pass, each with its row and its remedy.

``participants.csv`` has one row per person: ``participant_id``, the label, and one column per feature of the study; an
empty cell is a missing value. ``images.csv`` has one row per image. Columns that define the label are known, so that
they may stand in the file, and are never read (SCIENCE 1.6, I18).
"""

import csv
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import Feature, StudyConfig
from sarco_models.errors import DataError, Finding

PARTICIPANTS_FILE = "participants.csv"
IMAGES_FILE = "images.csv"
IMAGE_COLUMNS = ("image", "participant_id", "muscle", "side", "mask", "exam_date")
_REQUIRED_IMAGE_COLUMNS = ("image", "participant_id")
_FIRST_ROW = 2  # as a spreadsheet counts: the header is row 1


@dataclass(frozen=True)
class Column:
    """One number that a model sees: a continuous or binary feature, or one category of a categorical feature (0/1)."""

    name: str
    group: str
    low: float
    high: float
    zero_one: bool


def design_columns(features: Iterable[Feature]) -> tuple[Column, ...]:
    """Columns of the model's table, in the order of the study: one per feature, one per category (0/1)."""
    columns: list[Column] = []
    for f in features:
        if f.kind == "categorical":
            columns += [Column(f"{f.name}={c}", f.group, 0.0, 1.0, True) for c in f.categories]
        else:
            columns.append(Column(f.name, f.group, f.low, f.high, f.kind == "binary"))
    return tuple(columns)


@dataclass(frozen=True, eq=False)
class ParticipantTable:
    """The rows of participants.csv.

    Attributes:
        ids: participant identifiers; they never leave the site.
        rows: line of each participant, as a spreadsheet counts.
        labels: (participants,) 1 = positive, 0 = negative.
        values: (participants, columns) in the study's units, NaN where missing; see :func:`design_columns`.
        findings: warnings and notes; errors are raised instead.
    """

    ids: tuple[str, ...]
    rows: tuple[int, ...]
    labels: NDArray[np.int8]
    values: NDArray[np.float64]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ImageRow:
    """One row of images.csv; paths are relative to the site's folder, ``mask`` is empty when there is none."""

    row: int
    image: str
    participant_id: str
    mask: str


def read_participants(path: Path, study: StudyConfig) -> ParticipantTable:
    """Read participants.csv against the study.

    Raises:
        DataError: holds every error of the file: absent column, duplicate id, value that is no number or outside the
            plausible range, label other than 0 or 1.
    """
    header, rows, findings = _read_csv(path)
    findings += _check_header(path.name, header, study)
    ids: list[str] = []
    labels: list[int] = []
    values: list[list[float]] = []
    first_row: dict[str, int] = {}
    for number, row in rows:
        participant_id = row.get("participant_id", "").strip()
        findings += _check_id(path.name, number, participant_id, first_row)
        label, faults = _read_label(path.name, number, row.get(study.label.column, ""), study.label.column)
        cells, more = _read_cells(path.name, number, row, study.features)
        findings += faults + more
        ids.append(participant_id)
        labels.append(label)
        values.append(cells)
    if not rows:
        findings.append(Finding("error", "empty", path.name, "no rows", "one row per participant", "fill the table"))
    # An absent column is one fault, not one in every row.
    _raise_errors(f for f in findings if f.row is None or f.field in ("", *header))
    table = np.array(values, dtype=np.float64).reshape(len(ids), -1)
    lines = tuple(number for number, _ in rows)
    return ParticipantTable(tuple(ids), lines, np.array(labels, dtype=np.int8), table, tuple(findings))


def read_images(path: Path, participant_ids: Sequence[str]) -> tuple[tuple[ImageRow, ...], tuple[Finding, ...]]:
    """Read images.csv; rows of people who are not in participants.csv are left out and listed.

    Raises:
        DataError: an absent column, an empty cell that is needed, or an image that is listed twice.
    """
    header, rows, findings = _read_csv(path)
    findings += [
        Finding("error", "column", path.name, "absent", f"a column {c}", "add the column", field=c)
        for c in _REQUIRED_IMAGE_COLUMNS
        if c not in header
    ]
    _raise_errors(findings)
    known, seen = set(participant_ids), dict[str, int]()
    images: list[ImageRow] = []
    for number, row in rows:
        entry = ImageRow(number, row["image"].strip(), row["participant_id"].strip(), row.get("mask", "").strip())
        faults = _check_image_row(path.name, entry, known, seen)
        findings += faults
        if not faults:
            images.append(entry)
    _raise_errors(findings)
    return tuple(images), tuple(findings)


def people_without_images(participants: ParticipantTable, images: Iterable[ImageRow]) -> tuple[Finding, ...]:
    """Notes on the people of participants.csv whom images.csv does not name."""
    named = {image.participant_id for image in images}
    seen, remedy = f"no row in {IMAGES_FILE}", "add the person's images; until then the model does without"
    return tuple(
        Finding("note", "one-table-only", PARTICIPANTS_FILE, seen, "at least one image", remedy, row, "participant_id")
        for participant_id, row in zip(participants.ids, participants.rows, strict=True)
        if participant_id not in named
    )


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[Finding]]:
    """Header, rows with their numbers (blank rows count and are left out), and the rows with too many cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
        header = [h.strip() for h in header]
        if len(header) == 1 and ";" in header[0]:
            raise csv.Error("cells divided by semicolons")
        filled = [(number, cells) for number, cells in enumerate(lines, start=_FIRST_ROW) if any(map(str.strip, cells))]
        rows = [(number, dict(zip_longest(header, cells[: len(header)], fillvalue=""))) for number, cells in filled]
        remedy = "quote a cell that holds a comma, and write decimals with a point"
        too_long = [
            Finding(
                "error", "cells", path.name, f"{len(cells)} cells", f"{len(header)} as in the header", remedy, number
            )
            for number, cells in filled
            if any(map(str.strip, cells[len(header) :]))
        ]
        return header, rows, too_long
    except FileNotFoundError:
        fault = Finding(
            "error", "absent", path.name, "no such file", f"a table at {path}", "write it, or name another folder"
        )
    except OSError as error:
        seen = error.strerror or "not readable"
        fault = Finding("error", "absent", path.name, seen, f"a table at {path}", "write it, or name another folder")
    except UnicodeDecodeError:
        fault = Finding("error", "encoding", path.name, "not UTF-8", "UTF-8 text", "save it as 'CSV UTF-8'")
    except csv.Error as error:
        fault = Finding("error", "csv", path.name, str(error), "comma-separated values", "save it again as CSV")
    raise DataError([fault])


def _renaming(column: str, feature: str) -> str:
    same_unit = column.rpartition("_")[2] == feature.rpartition("_")[2]
    return f"rename it to {feature}" + ("" if same_unit else ", and convert its values if its unit is another")


def _check_header(file: str, header: Sequence[str], study: StudyConfig) -> list[Finding]:
    """Absent and unknown columns. A feature that is absent altogether counts as missing for everybody."""
    features = [f.name for f in study.features]
    known = {"participant_id", study.label.column, *study.label.reference_columns, *features}
    findings = [
        Finding("error", "column", file, "absent", f"a column {c}", "add the column", field=c)
        for c in ("participant_id", study.label.column)
        if c not in header
    ]
    absent = [f for f in features if f not in header]
    for column in [h for h in header if h not in known]:
        near = difflib.get_close_matches(column, absent, n=1, cutoff=0.8)
        if near:
            findings.append(
                Finding(
                    "error",
                    "column",
                    file,
                    f"unknown column {column}",
                    near[0],
                    _renaming(column, near[0]),
                    field=column,
                )
            )
            absent.remove(near[0])
        else:
            findings.append(
                Finding(
                    "warning", "column", file, "unknown column", "a column of the study", "it is not read", field=column
                )
            )
    findings += [
        Finding(
            "warning", "column", file, "absent", "a column of the study", "counts as missing for everybody", field=c
        )
        for c in absent
    ]
    findings += [
        Finding("error", "column", file, "given twice", "each column once", "remove one of them", field=c)
        for c in sorted({h for h in header if header.count(h) > 1})
    ]
    return findings


def _check_id(file: str, row: int, participant_id: str, first_row: dict[str, int]) -> list[Finding]:
    if not participant_id:
        return [Finding("error", "id", file, "empty", "an identifier", "fill it in", row=row, field="participant_id")]
    if participant_id in first_row:
        seen = f"the same id as row {first_row[participant_id]}"
        remedy = "one row per person: merge the rows or correct the id"
        return [
            Finding("error", "duplicate-id", file, seen, "an id of its own", remedy, row=row, field="participant_id")
        ]
    first_row[participant_id] = row
    return []


def _read_label(file: str, row: int, cell: str, column: str) -> tuple[int, list[Finding]]:
    text = cell.strip()
    if text in ("0", "1", "0.0", "1.0"):
        return int(float(text)), []
    remedy = "correct it, or remove the participant"
    return 0, [Finding("error", "label", file, repr(text), "0 or 1", remedy, row=row, field=column)]


def _read_cells(
    file: str, row: int, cells: dict[str, str], features: Iterable[Feature]
) -> tuple[list[float], list[Finding]]:
    values: list[float] = []
    findings: list[Finding] = []
    for feature in features:
        read, fault = _read_cell(cells.get(feature.name, "").strip(), feature)
        values += read
        if fault:
            expected, remedy = fault
            seen = repr(cells[feature.name].strip())
            findings.append(Finding("error", "range", file, seen, expected, remedy, row=row, field=feature.name))
    return values, findings


def _read_cell(text: str, feature: Feature) -> tuple[list[float], tuple[str, str] | None]:
    """Values of one cell (one, or one per category), and what was expected and the remedy when it is wrong."""
    missing = [math.nan] * (len(feature.categories) or 1)
    if not text:
        return missing, None
    if feature.kind == "categorical":
        if text in feature.categories:
            return [float(text == c) for c in feature.categories], None
        return missing, (f"one of {', '.join(feature.categories)}", _CORRECT)
    value, fault = _read_number(text, feature)
    return [value], fault


_CORRECT = "correct it, or leave the cell empty"


def _read_number(text: str, feature: Feature) -> tuple[float, tuple[str, str] | None]:
    try:
        value = float(text)
    except ValueError:
        return math.nan, ("a number with a decimal point", _CORRECT)
    if feature.kind == "binary" and value not in (0.0, 1.0):
        return math.nan, ("0 or 1", _CORRECT)
    if not feature.low <= value <= feature.high:
        limits = f"{feature.low:g} to {feature.high:g} {feature.unit}".rstrip()
        return math.nan, (limits, "convert the column to this unit, correct the value, or leave the cell empty")
    return value, None


def _check_image_row(file: str, entry: ImageRow, known: set[str], seen: dict[str, int]) -> list[Finding]:
    if not entry.image:
        return [Finding("error", "path", file, "empty", "a relative path", "fill it in", row=entry.row, field="image")]
    if entry.image in seen:
        same = f"the same image as row {seen[entry.image]}"
        return [
            Finding(
                "error", "duplicate-image", file, same, "each image once", "remove one", row=entry.row, field="image"
            )
        ]
    seen[entry.image] = entry.row
    if entry.participant_id not in known:
        remedy = f"the image is left out: add the person to {PARTICIPANTS_FILE} or correct the id"
        place = "an id that is not in the other table"
        return [
            Finding(
                "warning",
                "one-table-only",
                file,
                place,
                f"an id of {PARTICIPANTS_FILE}",
                remedy,
                entry.row,
                "participant_id",
            )
        ]
    return []


def _raise_errors(findings: Iterable[Finding]) -> None:
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise DataError(errors)
