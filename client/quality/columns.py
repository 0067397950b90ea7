"""The number columns of participants.csv as the site wrote them, before anything was left out for being out of range.

Checks of units, outliers and copies look at what stands in the file; the table of the study has it only where it is
plausible. A few words that several checks say in the same way live here too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, Finding, Severity
from sarco_models.schema import PARTICIPANTS_FILE, ParticipantTable
from sarco_models.sheets import censored, missing, number
from sarco_models.units import Conversion, conversion, name_and_unit, units_of

Values = NDArray[np.float64]

LARGEST = 1e9
"""No measurement is larger: a longer number is an identifier or a slip, and is no value here."""

MOST_LISTED = 10
"""Rows of one column that a check lists; the rest are counted."""


@dataclass(frozen=True, eq=False)
class Written:
    """A number column as it stands in the file.

    Attributes:
        name: of the column.
        unit: that the study expects, "" when it has none.
        low: smallest plausible value; -inf when nobody says one.
        high: largest plausible value; inf when nobody says one.
        values: (participants,) NaN where there is no number.
        feature: False for a column that defines the label.
    """

    name: str
    unit: str
    low: float
    high: float
    values: Values
    feature: bool

    @property
    def present(self) -> Values:
        """The numbers that are there."""
        return self.values[~np.isnan(self.values)]

    @property
    def plausible(self) -> NDArray[np.bool_]:
        """(participants,) whether there is a number inside the study's range."""
        return (self.values >= self.low) & (self.values <= self.high)

    @property
    def step(self) -> float:
        """The last decimal that the column uses: 0.1 when values are written as 66.5; 0 when nothing is there."""
        present = self.present
        for decimals in range(7):
            if np.allclose(present, np.round(present, decimals), rtol=0, atol=1e-9):
                return 10.0**-decimals if present.size else 0.0
        return 1e-7


def written(table: ParticipantTable, study: StudyConfig) -> tuple[Written, ...]:
    """Continuous features in the study's order, then the label's own columns where they hold numbers."""
    columns = [
        Written(f.name, f.unit, f.low, f.high, numbers(table, f.name), True)
        for f in study.features
        if f.kind == "continuous" and f.name in table.sheet.header
    ]
    for name in study.label.reference_columns:
        if name in table.sheet.header:
            column = Written(name, name_and_unit(name)[1], -np.inf, np.inf, numbers(table, name), False)
            columns += [column] if column.present.size else []
    return tuple(columns)


def numbers(table: ParticipantTable, column: str) -> Values:
    """(participants,) what a column says, NaN where it holds no number."""
    cells = texts(table, column)
    decimal = table.sheet.decimal_of(column)
    return np.array([_number(cell, decimal) for cell in cells], dtype=np.float64)


def texts(table: ParticipantTable, column: str) -> tuple[str, ...]:
    """(participants,) cells of a column; "" where there is no value."""
    rows = dict(table.sheet.rows)
    cells = [rows.get(row, {}).get(column, "") for row in table.rows]
    return tuple("" if missing(cell) else cell for cell in cells)


def _number(cell: str, decimal: str) -> float:
    if not cell or censored(cell):
        return np.nan
    try:
        value = number(cell, decimal)
    except ValueError:
        return np.nan
    return value if abs(value) < LARGEST else np.nan


def in_unit(column: Written, unit: str) -> Values | None:
    """The plausible values above 0 of a column in another unit; None when nobody knows how to convert it."""
    kept = np.where(column.plausible & (column.values > 0), column.values, np.nan)
    try:
        return conversion(column.name, column.unit, unit)(kept)
    except ConfigError:
        return None


def other_units(column: Written) -> dict[str, Conversion]:
    """Units that the values may be in instead, and the way to the column's own; of units that are equal, the first."""
    ways: dict[Conversion, str] = {}
    for unit in units_of(column.name):
        try:
            way = conversion(column.name, unit, column.unit)
        except ConfigError:
            continue
        if way != Conversion(1.0):
            ways.setdefault(way, unit)
    return {unit: way for way, unit in ways.items()}


def finding(severity: Severity, rule: str, field: str, words: tuple[str, str, str], row: int | None = None) -> Finding:
    """A finding in participants.csv; ``words`` are what was seen, what was expected and the remedy."""
    return Finding(severity, rule, PARTICIPANTS_FILE, *words, row=row, field=field)


def in_table(table: ParticipantTable, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings under the name that the table's file really has: it may be a workbook."""
    name = table.sheet.name
    return tuple(replace(f, file=name) if f.file == PARTICIPANTS_FILE else f for f in findings)


def listed(findings: Sequence[Finding], most: int = MOST_LISTED) -> list[Finding]:
    """The first of many findings of one kind, and one more that counts the rest."""
    if len(findings) <= most + 1:
        return list(findings)
    expected = findings[0].expected if len({f.expected for f in findings}) == 1 else "as in the rows above"
    rest = replace(findings[0], row=None, seen=f"the same in {len(findings) - most} more rows", expected=expected)
    return [*findings[:most], rest]


def row_list(rows: Iterable[int], most: int = MOST_LISTED) -> str:
    """``row 4`` or ``rows 4, 7, 9 and 12 more``."""
    numbers = list(rows)
    shown = ", ".join(str(row) for row in numbers[:most])
    rest = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"row{'s' if len(numbers) > 1 else ''} {shown}{rest}"


def people(count: int) -> str:
    """``1 person`` or ``12 people``."""
    return f"{count} {'person' if count == 1 else 'people'}"
