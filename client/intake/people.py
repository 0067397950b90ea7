"""participants.csv from a hospital's own table: its columns, units and words become the study's, as the mapping says.

A cell that cannot be converted is listed with its row and column, and left empty; nothing is guessed, rounded or
corrected. What is written is a number, 0 or 1, or a word that the study knows: no text of the table is ever copied.
"""

import datetime
import math
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Readonly
from dataclasses import dataclass

from client.intake.path_words import id_key
from client.mapping import ColumnRules, Mapping, study_columns
from sarco_models.cells import described, word_reader
from sarco_models.config import Feature, StudyConfig
from sarco_models.errors import Finding, Severity
from sarco_models.label_rules import DXA, device_code
from sarco_models.numerals import censored, number
from sarco_models.sheets import Sheet
from sarco_models.units import conversion, name_and_unit
from sarco_models.words import date, missing, plain

TABLE = "the table of participants"
"""What findings call it: its file's name may name a person."""

SEXES = ("male", "female")
"""Columns of a study that hold the sex."""

_LEFT_EMPTY = "correct the cell, or explain it in the mapping; until then it counts as missing"
_MOST_LISTED = 50  # cells of one column; the others are counted

Read = Callable[[str], str]
Row = Readonly[str, str]


@dataclass(frozen=True)
class People:
    """A table as the study has it.

    Attributes:
        columns: of the study, in its order, without participant_id.
        rows: id as the hospital writes it -> cells.
        lines: id -> row of the table, as a spreadsheet counts.
        findings: what could not be read, by row and column.
    """

    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    lines: dict[str, int]
    findings: tuple[Finding, ...]


class _Unread(Exception):
    """What was expected of a cell that cannot be read."""


def convert(sheet: Sheet, mapping: Mapping, study: StudyConfig) -> People:
    """Read the table through the mapping; the mapping's columns are there (``check_headers``)."""
    persons, findings = _persons(sheet, mapping)
    findings += _not_given(mapping, study)
    columns: dict[str, list[str]] = {}
    for name in study_columns(study):
        rules = mapping.columns.get(name, ColumnRules())
        if not (rules.column or rules.derive):
            continue
        if _needs_unit(name, rules, study):
            remedy = f"say its unit in the mapping under [columns.{name}]; until then the column is left out"
            findings.append(
                Finding("warning", "unit", TABLE, "no unit", "the unit of these numbers", remedy, field=name)
            )
            continue
        cells, faults = _column(name, rules, sheet, mapping, study)
        findings += faults
        columns[name] = [cells[row] for row in persons.values()]
    rows = zip(*columns.values(), strict=True) if columns else ((),) * len(persons)
    cells_of = dict(zip(persons, map(tuple, rows), strict=True))
    lines = {id_: sheet.rows[position][0] for id_, position in persons.items()}
    return People(tuple(columns), cells_of, lines, tuple(findings))


def _persons(sheet: Sheet, mapping: Mapping) -> tuple[dict[str, int], list[Finding]]:
    """Id -> position of its row; rows without an id, or with one that was there before, are left out."""
    rules = mapping.participants
    first: dict[str, int] = {}
    persons: dict[str, int] = {}
    findings = []
    for position, (row, cells) in enumerate(sheet.rows):
        id_ = cells[rules.column]
        key = id_key(id_, loose=rules.loose)
        if missing(id_):
            remedy = "fill it in; the row is left out"
            findings.append(Finding("warning", "id", TABLE, "no id", "an id", remedy, row, "participant_id"))
        elif key in first:
            seen, remedy = f"the same id as row {first[key]}", "one row per person: merge them; this row is left out"
            findings.append(
                Finding("error", "duplicate-id", TABLE, seen, "an id of its own", remedy, row, "participant_id")
            )
        else:
            first[key], persons[id_] = row, position
    return persons, findings


def _not_given(mapping: Mapping, study: StudyConfig) -> list[Finding]:
    """Columns of the study that the mapping leaves out; what defines the label may be absent."""
    given = {name for name, rules in mapping.columns.items() if rules.column or rules.derive}
    findings = []
    for name in study_columns(study):
        if name in given or name in study.label.reference_columns:
            continue
        is_label = name == study.label.column
        remedy = f"name its column in the mapping under [columns.{name}]" + ("" if is_label else ", if you have it")
        severity: Severity = "error" if is_label else "warning"
        seen, expected = "no column in the mapping", "a column of the table"
        findings.append(Finding(severity, "column", TABLE, seen, expected, remedy, field=name))
    return findings


def _needs_unit(name: str, rules: ColumnRules, study: StudyConfig) -> bool:
    return bool(rules.column and study_columns(study)[name] and not rules.unit)


# ---- one column ------------------------------------------------------------------------------------------------------


def _column(
    name: str, rules: ColumnRules, sheet: Sheet, mapping: Mapping, study: StudyConfig
) -> tuple[list[str], list[Finding]]:
    """Cells as the study has them, one for each row of the sheet."""
    cells: list[str] = []
    faults: list[_Fault] = []
    if rules.derive == "bmi":
        return _bmi(sheet, mapping, study), []
    if rules.derive == "age":
        return _ages(name, rules, sheet, mapping)
    read = _reader(name, rules, sheet, mapping, study)
    for row, texts in sheet.rows:
        text = texts[rules.column]
        try:
            cells.append(read(text))
        except _Unread as unread:
            cells.append("")
            faults.append((row, text, str(unread)))
    return cells, list(_listed(name, faults, any(cells)))


_Fault = tuple[int, str, str]
"""Row, text of the cell, what was expected."""


def _listed(name: str, faults: list[_Fault], any_read: bool) -> Iterator[Finding]:
    """Each unread cell, or one line for a column of which nothing could be read."""
    if len(faults) > 1 and not any_read:
        row, text, expected = faults[0]
        seen = f"{len(faults)} cells that cannot be read, the first {described(text)}"
        remedy = f"explain them in the mapping under [columns.{name}], or name another column"
        yield Finding("warning", "values", TABLE, seen, expected, remedy, row, name)
        return
    for row, text, expected in faults[:_MOST_LISTED]:
        rule = "limit-of-detection" if censored(text) else "value"
        yield Finding("warning", rule, TABLE, described(text), expected, _LEFT_EMPTY, row, name)
    if len(faults) > _MOST_LISTED:
        row, _, expected = faults[_MOST_LISTED]
        seen = f"{len(faults) - _MOST_LISTED} more such cells, here the first"
        yield Finding("warning", "value", TABLE, seen, expected, _LEFT_EMPTY, row, name)


def _reader(name: str, rules: ColumnRules, sheet: Sheet, mapping: Mapping, study: StudyConfig) -> Read:
    """What reads one cell of this column; "" = missing."""
    words = {plain(text): str(meaning) for text, meaning in rules.words.items()}
    absent = frozenset(map(plain, mapping.table.missing))
    read = _by_kind(name, rules, sheet, study)
    final = ("", "0", "1") if is_binary(name, study) else ("",)

    def cell(text: str) -> str:
        meaning = words.get(plain(text))
        if meaning is not None:
            return meaning if meaning in final else read(meaning)
        return "" if plain(text) in absent else read(text)

    return cell


def is_binary(name: str, study: StudyConfig) -> bool:
    """Whether a column of the study holds 0 and 1."""
    return name == study.label.column or any(f.name == name and f.kind == "binary" for f in study.features)


def _by_kind(name: str, rules: ColumnRules, sheet: Sheet, study: StudyConfig) -> Read:
    feature = next((f for f in study.features if f.name == name), None)
    unit = study_columns(study)[name]
    if is_binary(name, study):
        return _binary(name, rules, sheet)
    if feature and feature.kind == "categorical":
        return _categorical(feature)
    if not feature and not unit:
        return _reference_word
    return _continuous(name, rules, sheet, unit)


def _binary(name: str, rules: ColumnRules, sheet: Sheet) -> Read:
    """0 and 1 are words like all others, but not for the sex, where each hospital has its own: the mapping explains."""
    meaning = word_reader(name, [cells[rules.column] for _, cells in sheet.rows])

    def read(text: str) -> str:
        value = meaning(text)
        if value is None and not missing(text):
            raise _Unread("a word for male or female" if name in SEXES else "yes or no")
        return "" if value is None else str(value)

    return read


def _categorical(feature: Feature) -> Read:
    known = {plain(category): category for category in feature.categories}

    def read(text: str) -> str:
        if missing(text):
            return ""
        if plain(text) not in known:
            raise _Unread(f"one of {', '.join(feature.categories)}")
        return known[plain(text)]

    return read


def _reference_word(text: str) -> str:
    """What defines the label and has no unit: a number, or the word for a device; any other text stays behind."""
    if missing(text):
        return ""
    device = device_code(text)
    if not math.isnan(device):
        return "DXA" if device == DXA else "BIA"
    return _written(_number(text, "."))


def _continuous(name: str, rules: ColumnRules, sheet: Sheet, unit: str) -> Read:
    decimal = sheet.decimal_of(rules.column)
    to_study = conversion(name, rules.unit, unit) if unit else None

    def read(text: str) -> str:
        if missing(text):
            return ""
        value = _number(text, decimal)
        return _written(to_study(value) if to_study else value)

    return read


def _number(text: str, decimal: str) -> float:
    try:
        return number(text, decimal)
    except ValueError:
        raise _Unread("a number") from None


def _written(value: float) -> str:
    """Ten digits: more than any instrument has, and none of those that a conversion in binary adds."""
    return f"{value:.10g}"


# ---- computed columns ------------------------------------------------------------------------------------------------


def _ages(name: str, rules: ColumnRules, sheet: Sheet, mapping: Mapping) -> tuple[list[str], list[Finding]]:
    """Completed years between two dates."""
    first = {"day first": True, "month first": False}.get(mapping.table.dates)
    ages: list[str] = []
    faults: list[_Fault] = []
    for row, cells in sheet.rows:
        texts = [cells[column] for column in rules.dates]
        days = [date(text, day_first=first) for text in texts]
        faults += [(row, t, "a date") for t, day in zip(texts, days, strict=True) if day is None and not missing(t)]
        ages.append(_age(*days))
    return ages, list(_listed(name, faults, any(ages)))


def _age(birth: datetime.date | None, exam: datetime.date | None) -> str:
    if birth is None or exam is None or exam < birth:
        return ""
    return str(exam.year - birth.year - ((exam.month, exam.day) < (birth.month, birth.day)))


def _bmi(sheet: Sheet, mapping: Mapping, study: StudyConfig) -> list[str]:
    heights, weights = (
        _measure(part, unit, sheet, mapping, study) for part, unit in (("height", "m"), ("weight", "kg"))
    )
    return [_written(w / h**2) if h and w else "" for h, w in zip(heights, weights, strict=True)]


def _measure(part: str, unit: str, sheet: Sheet, mapping: Mapping, study: StudyConfig) -> Iterable[float | None]:
    """Values of height or weight in this unit; None where there is none."""
    name = measured(part, study)
    rules = mapping.columns.get(name, ColumnRules())
    if not rules.column or not rules.unit:
        return [None] * len(sheet.rows)
    cells, _ = _column(name, rules, sheet, mapping, study)
    turned = conversion(part, study_columns(study)[name], unit)
    return [turned(float(cell)) if cell else None for cell in cells]


def measured(part: str, study: StudyConfig) -> str:
    """The study's column of height or weight, "" where it has none."""
    return next((name for name in study_columns(study) if name_and_unit(name)[0] == part), "")
