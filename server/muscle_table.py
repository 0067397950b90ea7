"""How well the muscles of test participants were found, over all hospitals of a run: rows for a screen and for a card.

The hospitals' means are joined weighted by their participants, as if all had been measured together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sarco_models.config import StudyConfig

HEADINGS = ("", "people", "Dice", "HD95 mm", "thickness mm", "area cm2")
_SHOWN = {"dice": 3, "hd95_mm": 1, "thickness_error_mm": 1, "area_error_cm2": 2}
_SIGNED = ("thickness_error_mm", "area_error_cm2")
ALL = "all together"

SENTENCES = (
    "Mean (standard deviation) over test participants; thickness and area: found minus drawn.",
    "-: could not be measured: no millimetres, or another muscle drawn beside it.",
    "A hospital that drew a muscle of too few test participants tells nothing of it.",
)


@dataclass(frozen=True)
class Joined:
    """One measure of one muscle, of participants together: how many, mean and standard deviation."""

    n: int
    mean: float
    sd: float


def joined(told: Sequence[Mapping[str, float]], stem: str) -> Joined | None:
    """A measure over hospitals, as if their participants had been measured together; None where nobody tells it.

    Args:
        told: by each hospital.
        stem: ``MUSCLE.MEASURE``.
    """
    own = [(t[f"{stem}.n"], t[f"{stem}.mean"], t[f"{stem}.sd"]) for t in told if f"{stem}.mean" in t]
    if not own:
        return None
    count = sum(n for n, _, _ in own)
    mean = sum(n * m for n, m, _ in own) / count
    squares = sum((n - 1) * sd**2 + n * (m - mean) ** 2 for n, m, sd in own)
    return Joined(int(count), mean, math.sqrt(squares / max(count - 1, 1)))


def lines(measured: Mapping[str, Mapping[str, float]], study: StudyConfig) -> list[str]:
    """A table for people: each muscle, and below it its hospitals, and all together where they are several.

    Args:
        measured: by hospital, as :func:`server.measured.read_measured` gives it.
        study: that was run.

    Returns:
        Lines of at most 80 characters; none where nobody has measured anything.
    """
    parts = [(title, list(rows)) for title, rows in _muscles(measured, study)]
    every = [HEADINGS, *(row for _, rows in parts for row in rows)]
    widths = [max(len(row[k]) for row in every) for k in range(len(HEADINGS))]

    def line(row: Sequence[str]) -> str:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        return "  ".join(["  " + first.strip().ljust(widths[0]), *others]).rstrip()

    return [line(HEADINGS), *(text for title, rows in parts for text in (title, *map(line, rows)))] if parts else []


def _muscles(
    measured: Mapping[str, Mapping[str, float]], study: StudyConfig
) -> Iterator[tuple[str, Iterator[tuple[str, ...]]]]:
    """Title and rows of each muscle that somebody tells of."""
    for muscle in study.segmentation.muscles if study.segmentation else ():
        telling = {site: told for site, told in sorted(measured.items()) if f"{muscle.name}.dice.n" in told}
        together = {ALL: list(telling.values())} if len(telling) > 1 else {}
        groups = {**{site: [told] for site, told in telling.items()}, **together}
        if groups:
            yield muscle.title, (_row(name, muscle.name, told) for name, told in groups.items())


def untold(measured: Mapping[str, Mapping[str, float]], study: StudyConfig) -> list[str]:
    """Titles of the muscles that no hospital tells anything of."""
    muscles = study.segmentation.muscles if study.segmentation else ()
    return [m.title for m in muscles if not any(f"{m.name}.dice.n" in told for told in measured.values())]


def _row(name: str, muscle: str, told: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    found = {measure: joined(told, f"{muscle}.{measure}") for measure in _SHOWN}
    dice = found["dice"]
    return (name, str(dice.n if dice else 0), *(_words(found[m], m) for m in _SHOWN))


def _words(found: Joined | None, measure: str) -> str:
    if found is None:
        return "-"
    digits, sign = _SHOWN[measure], "+" if measure in _SIGNED else ""
    return f"{found.mean:{sign}.{digits}f} ({found.sd:.{digits}f})"
