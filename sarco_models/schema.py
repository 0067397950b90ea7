"""The two tables of a site, read against the study: every fault found in one pass, each with its row and its remedy.

``participants.csv`` has one row per person: ``participant_id``, the label, and one column per feature of the study; an
empty cell, or a word for it, is a missing value. ``images.csv`` has one row per image. An Excel or OpenDocument file of
the same name serves as well. Columns that define the label are known, so that they may stand in the file, and never
become values of a model (SCIENCE 1.6, I18). No finding holds an identifier or a text of a cell.
"""

import difflib
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models import words
from sarco_models.cells import Fault, read_cell, read_label, word_reader
from sarco_models.config import Feature, StudyConfig
from sarco_models.errors import ConfigError, DataError, Finding
from sarco_models.image_list import (
    IMAGE_COLUMNS,
    IMAGES_FILE,
    PARTICIPANTS_FILE,
    ImageRow,
    examine_images,
    read_images,
)
from sarco_models.sheets import Sheet, find_table, read_sheet
from sarco_models.units import conversion, name_and_unit

__all__ = [
    "IMAGES_FILE", "IMAGE_COLUMNS", "PARTICIPANTS_FILE", "Column", "ImageRow", "ParticipantTable", "design_columns",
    "examine_images", "examine_participants", "people_without_images", "read_images", "read_participants",
]  # fmt: skip


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
        labels: (participants,) 1 = positive, 0 = negative, -1 = faulty (of :func:`examine_participants` only); all 0 in
            a study that finds muscles.
        values: (participants, columns) in the study's units, NaN where missing; see :func:`design_columns`.
        findings: all of them of :func:`examine_participants`; :func:`read_participants` raises the errors.
        sheet: the file as it was found, the label's reference columns too.
    """

    ids: tuple[str, ...]
    rows: tuple[int, ...]
    labels: NDArray[np.int8]
    values: NDArray[np.float64]
    findings: tuple[Finding, ...]
    sheet: Sheet


def read_participants(path: Path, study: StudyConfig) -> ParticipantTable:
    """Read participants.csv against the study.

    Raises:
        DataError: holds every error of the file: absent column, duplicate id, value that is no number or outside the
            plausible range, label that is no 0 or 1 and no word for them.
    """
    table = examine_participants(path, study)
    _raise_errors(table.findings)
    return table


def examine_participants(path: Path, study: StudyConfig) -> ParticipantTable:
    """Read participants.csv and go on after errors: faulty cells are NaN, faulty labels -1, the findings say why.

    Raises:
        DataError: nothing can be read: no file, no table, no header, no column ``participant_id``.
    """
    sheet = read_sheet(find_table(path))
    findings = _check_header(sheet, study)
    if "participant_id" not in sheet.header:
        raise DataError(f for f in findings if f.severity == "error")
    if not sheet.rows:
        findings.append(Finding("error", "empty", sheet.name, "no rows", "one row per participant", "fill the table"))
    shifted = {f.row for f in findings if f.rule == "cells" and f.severity == "error"}
    lines = tuple(k for k, _ in sheet.rows)
    ids = tuple(cells["participant_id"] for _, cells in sheet.rows)
    findings += _check_ids(sheet.name, ids, lines)
    labels = np.zeros(len(ids), dtype=np.int8)
    if not study.segments:
        labels, faults = _read_labels(sheet, study.label.column, shifted)
        findings += faults
    blocks = [np.empty((len(ids), 0))]
    for feature in study.features:
        values, faults = _read_column(sheet, feature, shifted)
        blocks.append(values)
        findings += faults
    findings.sort(key=lambda f: f.row or 0)
    return ParticipantTable(ids, lines, labels, np.hstack(blocks), tuple(findings), sheet)


def people_without_images(participants: ParticipantTable, images: Iterable[ImageRow]) -> tuple[Finding, ...]:
    """Notes on the people of participants.csv whom images.csv does not name."""
    named = {image.participant_id for image in images}
    seen, remedy = f"no row in {IMAGES_FILE}", "add the person's images; until then the model does without"
    return tuple(
        Finding("note", "one-table-only", PARTICIPANTS_FILE, seen, "at least one image", remedy, row, "participant_id")
        for participant_id, row in zip(participants.ids, participants.rows, strict=True)
        if participant_id not in named
    )


# --- participants.csv -------------------------------------------------------------------------------------------------


def _check_header(sheet: Sheet, study: StudyConfig) -> list[Finding]:
    """The sheet's findings and absent, unknown and repeated columns; an absent feature is missing for everybody."""
    file, header, features = sheet.name, sheet.header, {f.name: f for f in study.features}
    needed = ("participant_id", *(() if study.segments else (study.label.column,)))
    known = (*needed, *study.label.reference_columns, *features)
    twice = {f"{c} (2)": c for c in known}
    places = {f"column {sheet.letter_of(h)}" for h in header if h in twice}
    findings = [f for f in sheet.findings if f.rule != "column" or f.field not in places]
    findings += [
        Finding("error", "column", file, "absent", f"a column {c}", "add the column", field=c)
        for c in needed
        if c not in header
    ]
    remedy = "remove one of them"
    findings += [
        Finding("error", "column", file, "given twice", "each column once", remedy, field=twice[h])
        for h in header
        if h in twice
    ]
    absent = {name: feature for name, feature in features.items() if name not in header}
    for column in [h for h in header if h not in known and h not in twice]:
        feature, finding = _unknown_column(sheet, column, absent)
        if study.segments and not feature:  # no network of muscles reads a table: there is nothing to be missed
            finding = replace(finding, severity="note", remedy="no network reads it")
        findings.append(finding)
        absent.pop(feature, None)
    rest = ("absent", "a column of the study", "counts as missing for everybody")
    return findings + [Finding("warning", "column", file, *rest, field=c) for c in absent]


def _unknown_column(sheet: Sheet, column: str, absent: Mapping[str, Feature]) -> tuple[str, Finding]:
    """The absent feature that a column is in another unit, or under a misspelt name ("" = none), and the finding."""
    file, (name, unit) = sheet.name, name_and_unit(column)
    for feature in absent.values():
        if unit and name == name_and_unit(feature.name)[0] and _converts(name, unit, feature.unit):
            seen, expected = f"{name} in {unit}", f"{feature.name} in {feature.unit}"
            remedy = f"let `sarco-site ingest` convert it, or convert it yourself and call it {feature.name}"
            return feature.name, Finding("error", "unit", file, seen, expected, remedy, field=column)
    place = f"column {sheet.letter_of(column)}"
    for near in difflib.get_close_matches(words.plain(column), list(absent), n=1, cutoff=0.8):
        same_unit = words.plain(column).rpartition("_")[2] == near.rpartition("_")[2]
        remedy = f"rename it to {near}" + ("" if same_unit else ", and convert its values if its unit is another")
        return near, Finding("error", "column", file, f"a name close to {near}", near, remedy, field=place)
    return "", Finding(
        "warning", "column", file, "unknown column", "a column of the study", "it is not read", field=place
    )


def _converts(quantity: str, source: str, target: str) -> bool:
    try:
        conversion(quantity, source, target)
    except ConfigError:
        return False
    return True


def _check_ids(file: str, ids: Sequence[str], lines: Sequence[int]) -> list[Finding]:
    findings, first_line = [], dict[str, int]()
    for participant_id, line in zip(ids, lines, strict=True):
        if words.missing(participant_id):
            fault = ("id", "empty", "an identifier", "fill it in")
        elif participant_id in first_line:
            seen, remedy = f"the same id as row {first_line[participant_id]}", "merge the rows or correct the id"
            fault = ("duplicate-id", seen, "an id of its own", f"one row per person: {remedy}")
        else:
            first_line[participant_id] = line
            continue
        findings.append(Finding("error", fault[0], file, *fault[1:], row=line, field="participant_id"))
    return findings


def _read_labels(sheet: Sheet, column: str, shifted: Container[int | None]) -> tuple[NDArray[np.int8], list[Finding]]:
    labels, findings = np.full(len(sheet.rows), -1, dtype=np.int8), []
    for k, (line, cells) in enumerate(sheet.rows):
        if column in cells and line not in shifted:
            labels[k], fault = read_label(cells[column], sheet.decimal_of(column))
            findings += _of_cell(sheet.name, line, column, fault)
    return labels, findings


def _read_column(
    sheet: Sheet, feature: Feature, shifted: Container[int | None]
) -> tuple[NDArray[np.float64], list[Finding]]:
    """(participants, columns of the feature); rows whose cells are shifted have no values."""
    name, empty = feature.name, [math.nan] * (len(feature.categories) or 1)
    if name not in sheet.header:
        return np.tile(empty, (len(sheet.rows), 1)), []
    cells = [cells[name] if line not in shifted else "" for line, cells in sheet.rows]
    decimal, word = sheet.decimal_of(name), word_reader(name, cells)
    read = {text: read_cell(text, feature, decimal, word) for text in set(cells)}  # values repeat
    findings = [
        finding
        for text, (line, _) in zip(cells, sheet.rows, strict=True)
        if read[text][1]
        for finding in _of_cell(sheet.name, line, name, read[text][1])
    ]
    values = np.array([read[text][0] for text in cells], dtype=np.float64)
    return values.reshape(len(cells), len(empty)), findings


def _of_cell(file: str, line: int, column: str, fault: Fault | None) -> list[Finding]:
    return [Finding("error", fault.rule, file, *fault[1:], row=line, field=column)] if fault else []


def _raise_errors(findings: Iterable[Finding]) -> None:
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise DataError(errors)
