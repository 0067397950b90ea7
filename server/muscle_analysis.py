"""From masks of held-out people to the numbers of a paper: overlap, agreement of sizes, correlations with the body.

Whoever holds people's rows runs it: a coordinator on its own central cohort, a researcher on synthetic people. What
comes out is written as one tidy table and two figures.

    seen = [look(person, muscle, found, drawn, mm_per_pixel) for ...]        # one for each muscle of each image
    analysis = analyse(seen, people, rng)
    write_analysis(analysis, folder, synthetic=True, calibrated=True)
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sarco_models.agreement import agreement
from sarco_models.correlation import Correlation, Expected, Paired, correlate
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate
from sarco_models.muscle import MuscleMeasures, measure
from sarco_models.overlap import Mask, Overlap, Spacing, overlap, participant_mean
from sarco_models.scores import Scores, aggregate_by_participant
from server.muscle_figures import AgreementPanel, CorrelationPanel, draw_muscle_figures
from server.paper.published_muscles import CORRELATIONS, MUSCLES, printed_for
from server.whole_files import write_text

Side = Literal["found", "drawn"]

TABLE = "muscles.csv"
SIZES = {"thickness_mm": ("thickness", "mm"), "csa_cm2": ("area", "cm²")}
AGREED = {**SIZES, "echo_intensity": ("echo intensity", "grey levels")}
"""What found and drawn masks are held against each other by; echo intensity is in no figure, nor correlated."""

OVERLAPS = ("dice", "iou", "hd95_mm", "assd_mm")
GIVEN = ("age_years", "male")
"""Columns of a person that correlations are also given for, where they are known."""

COLUMNS = (
    "about", "muscle", "measure", "with", "statistic", "value", "low", "high", "p", "participants", "images", "paper",
    "remark",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One muscle of one image of a held-out participant, found and drawn.

    Attributes:
        participant_id: whose.
        muscle: name in the study.
        overlap: of the two masks.
        found: sizes in the found mask; None where it is empty or the spacing unknown.
        drawn: sizes in the drawn mask; None likewise.
    """

    participant_id: str
    muscle: str
    overlap: Overlap
    found: MuscleMeasures | None
    drawn: MuscleMeasures | None


@dataclass(frozen=True)
class Pairing:
    """A muscle's size and a column of the people that it is held against."""

    muscle: str
    measure: str
    outcome: str
    title: str
    expected: Expected


PAIRINGS = tuple(Pairing(c.muscle, size, c.outcome, c.title, c.expected) for size in SIZES for c in CORRELATIONS)
"""What the paper correlates, by thickness first and then by area: it does not say which it means."""


@dataclass(frozen=True)
class MuscleAnalysis:
    """Everything that is said of the muscles.

    Attributes:
        rows: of the table, by column.
        agreements: one for each muscle and size.
        correlations: one for each pairing.
        absent: what cannot be said, and why.
    """

    rows: tuple[dict[str, Any], ...]
    agreements: tuple[AgreementPanel, ...]
    correlations: tuple[CorrelationPanel, ...]
    absent: tuple[str, ...]


def look(participant_id: str, muscle: str, found: Mask, drawn: Mask, mm_per_pixel: Spacing | None) -> Seen:
    """Measure both masks of one muscle in one image.

    Raises:
        MaskError: the masks have different sizes.
        MissingSpacing: the spacing is not of millimetres; an unknown one leaves sizes and distances absent.
    """
    sizes = [measure(mask, None, mm_per_pixel) if mm_per_pixel and mask.any() else None for mask in (found, drawn)]
    return Seen(participant_id, muscle, overlap(found, drawn, mm_per_pixel), sizes[0], sizes[1])


def analyse(
    seen: Sequence[Seen],
    people: Mapping[str, Mapping[str, float]],
    rng: np.random.Generator,
    pairings: Sequence[Pairing] = PAIRINGS,
) -> MuscleAnalysis:
    """Overlap and agreement of every muscle, and the correlations of found sizes, and of drawn ones to compare.

    Args:
        seen: of held-out participants only.
        people: columns of participants.csv by participant; NaN = absent.
        rng: randomness is an argument.
        pairings: what is correlated.
    """
    book = _Book([], [], [], [])
    for muscle in dict.fromkeys(one.muscle for one in seen):
        these = [one for one in seen if one.muscle == muscle]
        _overlaps(book, muscle, these, rng)
        for size in AGREED:
            _agreement(book, muscle, size, these)
    sides: tuple[Side, ...] = ("found", "drawn")
    for side in sides:
        for pairing in pairings:
            _correlation(book, pairing, [one for one in seen if one.muscle == pairing.muscle], people, rng, side=side)
    return MuscleAnalysis(tuple(book.rows), tuple(book.agreements), tuple(book.correlations), tuple(book.absent))


def without_points(analysis: MuscleAnalysis) -> MuscleAnalysis:
    """The same, whose figures show nobody: only coefficients and limits."""
    nobody: Scores = np.empty(0)
    return replace(
        analysis,
        agreements=tuple(replace(panel, a=nobody, b=nobody) for panel in analysis.agreements),
        correlations=tuple(replace(panel, x=nobody, y=nobody) for panel in analysis.correlations),
    )


def write_analysis(
    analysis: MuscleAnalysis, folder: Path, *, synthetic: bool, calibrated: bool = False
) -> dict[str, Path]:
    """Write the table and the figures, each whole.

    Args:
        analysis: is written.
        folder: is made; people are drawn as points, so that it stays where their data may lie.
        synthetic: the people are; it is said in every row and figure.
        calibrated: the synthetic people were made with the paper's correlations.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, ("data", *COLUMNS), lineterminator="\n")
    writer.writeheader()
    data = "SYNTHETIC" if synthetic else "real"
    writer.writerows({"data": data, **row} for row in analysis.rows)
    write_text(folder / TABLE, text.getvalue())
    thickness = [panel for panel in analysis.correlations if panel.measure.startswith("Thickness")]
    figures = draw_muscle_figures(
        folder,
        correlations=thickness,
        agreements=analysis.agreements,
        synthetic=synthetic,
        calibrated=calibrated,
    )
    return {"table": folder / TABLE, **figures}


# --- the parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Book:
    """What has been said so far."""

    rows: list[dict[str, Any]]
    agreements: list[AgreementPanel]
    correlations: list[CorrelationPanel]
    absent: list[str]

    def add(self, about: str, muscle: str, what: str, statistic: str, of: Estimate | float, **more: object) -> None:
        values = {"value": of.value, "low": of.low, "high": of.high} if isinstance(of, Estimate) else {"value": of}
        written = {key: f"{value:.6g}" for key, value in values.items()}
        row = {"about": about, "muscle": muscle, "measure": what, "statistic": statistic, **written, **more}
        self.rows.append(row)


def _overlaps(book: _Book, muscle: str, seen: Sequence[Seen], rng: np.random.Generator) -> None:
    ids = [one.participant_id for one in seen]
    counts = {"participants": len(set(ids)), "images": len(seen)}
    for what in OVERLAPS:
        values = [getattr(one.overlap, what) for one in seen]
        known = [person for person, value in zip(ids, values, strict=True) if value is not None]
        try:
            mean = participant_mean(values, ids, rng)
        except UndefinedMetric as error:
            book.absent.append(f"{title_of(muscle)}, {what}: {error}")
            continue
        book.add("overlap", muscle, what, "mean", mean, participants=len(set(known)), images=len(known))
    for word in ("missed", "invented"):
        book.add("overlap", muscle, word, "images", float(sum(getattr(one.overlap, word) for one in seen)), **counts)


def _agreement(book: _Book, muscle: str, size: str, seen: Sequence[Seen]) -> None:
    name, unit = AGREED[size]
    known = [one for one in seen if _size(one, "found", size) is not None and _size(one, "drawn", size) is not None]
    a, b = (np.array([_size(one, side, size) for one in known], dtype=np.float64) for side in ("found", "drawn"))
    if size == "echo_intensity" and not known:
        return
    try:
        found = agreement(a, b, [one.participant_id for one in known])
    except UndefinedMetric as error:
        book.absent.append(f"{title_of(muscle)}, {name} found against drawn: {error}")
        return
    limits = found.limits
    counts = {"participants": limits.participants, "images": limits.measurements}
    book.add("agreement", muscle, size, "bias", limits.bias, **counts)
    book.add("agreement", muscle, size, "lower limit", limits.lower, **counts)
    book.add("agreement", muscle, size, "upper limit", limits.upper, **counts)
    book.add("agreement", muscle, size, "ICC(2,1)", found.icc, **counts)
    for word, trend in (("proportional bias", limits.proportional), ("spreading", limits.spreading)):
        book.add("agreement", muscle, size, word, trend.slope, p=f"{trend.p:.3g}", **counts)
    if size in SIZES:
        book.agreements.append(AgreementPanel(title_of(muscle), name, unit, found, a, b))


def _size(one: Seen, side: Side, size: str) -> float | None:
    found = getattr(one, side)
    return None if found is None else getattr(found, size)


def _correlation(  # noqa: PLR0913 - a pair, of whom, and from which masks
    book: _Book,
    pairing: Pairing,
    seen: Sequence[Seen],
    people: Mapping[str, Mapping[str, float]],
    rng: np.random.Generator,
    *,
    side: Side = "found",
) -> None:
    seen = [one for one in seen if _size(one, side, pairing.measure) is not None]
    paired = _paired(pairing, seen, people, side)
    try:
        found = correlate(paired, rng, pairing.expected)
    except UndefinedMetric as error:
        if side == "found":
            sizes = SIZES[pairing.measure][0]
            book.absent.append(f"{title_of(pairing.muscle)}, {sizes} and {pairing.outcome}: {error}")
        return
    printed = printed_for(pairing.muscle, pairing.outcome)
    if printed and printed.measure not in (None, pairing.measure):
        printed = None  # it is of the other measure
    theirs = f"{printed.r.value:.4f} (P < {printed.p.value:g})" if printed else ""
    remark = f"{found.verdict}; {found.left_out} participants left out"

    def add(statistic: str, of: Estimate | float, p: float | None) -> None:
        more = {"p": f"{p:.3g}" if p is not None else "", "with": pairing.outcome, "images": len(seen)}
        more |= {"participants": found.pearson.n, "paper": theirs, "remark": remark}
        about = "correlation" if side == "found" else "correlation, drawn"
        book.add(about, pairing.muscle, pairing.measure, statistic, of, **more)

    add("Pearson", found.pearson.r, found.pearson.p)
    add("Spearman", found.spearman.r, found.spearman.p)
    if found.partial:
        add(_given(found.partial), found.partial.r, found.partial.p)
    add("Pearson, participant bootstrap", found.resampled, None)
    add("Pearson, permutation P", found.pearson.r.value, found.permutation_p)
    if side == "drawn":
        return
    known = paired.complete
    name, unit = SIZES[pairing.measure]
    words = (title_of(pairing.muscle), f"{name.capitalize()}, {unit}", pairing.title)
    book.correlations.append(CorrelationPanel(*words, found, printed, known.x, known.y))


def _paired(
    pairing: Pairing, seen: Sequence[Seen], people: Mapping[str, Mapping[str, float]], side: Side = "found"
) -> Paired:
    """Everybody's mean size over images, and the person's columns."""
    sizes = np.array([_size(one, side, pairing.measure) for one in seen], dtype=np.float64)
    ids, mean = aggregate_by_participant(sizes, [one.participant_id for one in seen])

    def column(name: str) -> Scores:
        return np.array([people.get(person, {}).get(name, np.nan) for person in ids], dtype=np.float64)

    given = {name: column(name) for name in GIVEN}
    return Paired(ids, mean, column(pairing.outcome), {n: v for n, v in given.items() if np.isfinite(v).any()})


def _given(partial: Correlation) -> str:
    return f"Pearson given {' and '.join(partial.given)}"


def title_of(muscle: str) -> str:
    """A muscle in words."""
    return MUSCLES.get(muscle, muscle.replace("_", " ").capitalize())
