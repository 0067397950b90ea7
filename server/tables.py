"""What a table of a report is, and how numbers are written in it: every number with its interval and its spread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who only writes a number does not wait for scipy
    from server.results import OverSeeds

ABSENT = "–"
RULES = {"awgs2019": "AWGS 2019", "awgs2025": "AWGS 2025", "ewgsop2": "EWGSOP2", "ct_l3_smi": "CT, L3 muscle index"}
METRICS = {
    "auc": ("AUC", 3),
    "auprc": ("AUPRC", 3),
    "sensitivity": ("Sensi­tivity", 2),
    "specificity": ("Speci­ficity", 2),
    "accuracy": ("Accuracy", 2),
    "balanced_accuracy": ("Balanced accuracy", 2),
    "f1_positive": ("F1 positive", 2),
    "f1_macro": ("F1 macro", 2),
    "mcc": ("MCC", 2),
    "brier": ("Brier", 3),
    "brier_scaled": ("Brier scaled", 2),
    "ici": ("ICI", 3),
    "calibration_intercept": ("Calibration intercept", 2),
    "calibration_slope": ("Calibration slope", 2),
    "expected_over_observed": ("Expected / observed", 2),
}
"""Heading and decimals of every number that is compared, in the order of calibration.summarize's topics."""

RANKING_AND_CALLS = tuple(METRICS)[:9]
CALIBRATION = tuple(METRICS)[9:]


@dataclass(frozen=True)
class Cell:
    """What is read first, and the smaller lines beneath it."""

    main: str
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableRow:
    """One line; ``lead`` is set apart, ``divider`` is a heading across all columns instead of cells."""

    cells: tuple[Cell, ...] = ()
    lead: bool = False
    divider: str = ""


@dataclass(frozen=True)
class Table:
    """A table as it is shown; ``text`` names the columns that hold words."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[TableRow, ...]
    text: tuple[int, ...] = ()

    def lines(self) -> list[list[str]]:
        """The table as shown, for a CSV file: what stands beneath a number follows it after a semicolon."""
        head = [name.replace("\N{SOFT HYPHEN}", "") for name in self.head]
        body = [["; ".join((c.main, *c.below)) for c in row.cells] for row in self.rows if row.cells]
        return [head, *body]


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number with a true minus sign; absent is a dash."""
    if value is None:
        return ABSENT
    rounded = round(value, digits) + 0.0  # no "−0.00"
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def interval(found: OverSeeds, digits: int, *, signed: bool = False) -> str:
    """The 95 % limits; empty when the run gave none, or when the number has no width (a constant score)."""
    if found.low is None or found.high is None or found.low == found.high:
        return ""
    return f"{number(found.low, digits, signed=signed)} to {number(found.high, digits, signed=signed)}"


def summary(found: OverSeeds | None, digits: int, *, signed: bool = False) -> Cell:
    """A number over seeds: its mean, beneath it the interval and the spread."""
    if found is None:
        return Cell(ABSENT)
    spread = f"SD {found.sd:.{digits}f}" if found.sd is not None else ""
    limits = interval(found, digits, signed=signed)
    return Cell(number(found.mean, digits, signed=signed), tuple(line for line in (limits, spread) if line))


def p_value(value: float) -> str:
    """P as people write it."""
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def p_range(values: Iterable[float]) -> str:
    """The lowest and the highest P of several seeds."""
    shown = sorted(values)
    if not shown:
        return ABSENT
    least, most = p_value(shown[0]), p_value(shown[-1])
    return least if least == most else f"{least} to {most}"


def size(num_bytes: float | None) -> str:
    """Bytes in the unit that a person would choose (powers of 1000)."""
    if num_bytes is None:
        return ABSENT
    for unit in ("bytes", "kB", "MB"):
        if abs(num_bytes) < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def count(value: float | None) -> str:
    """People or things, thousands set apart."""
    return ABSENT if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def share(part: int | None, whole: int | None) -> str:
    """So many, and of the whole so many per cent."""
    return count(part) + (f" ({100 * part / whole:.0f} %)" if part is not None and whole else "")


def texts(*values: str) -> tuple[Cell, ...]:
    """Cells of words only."""
    return tuple(Cell(value) for value in values)


def rule_name(rule: str | None) -> str:
    """A reference standard's name for people."""
    return RULES.get(rule or "", rule or ABSENT)
