"""Figures of a segmentation study: correlations with the paper's beside, and limits of agreement of every measure.

Points are people, so they are drawn only where people are the drawer's own or synthetic: a coordinator draws the same
figures from coefficients alone. Ours is blue and a circle, the paper's a vermilion cross.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import atanh, sqrt, tanh
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sarco_models.agreement import Agreement
from sarco_models.correlation import Correlated
from sarco_models.intervals import Estimate, Z
from sarco_models.scores import Scores
from server.drawing import LEAD, MUTED, PALE, STYLE, WARNING, WIDTH
from server.paper.published_muscles import PEOPLE, REFERENCE, TEST_PEOPLE, PrintedCorrelation
from server.paper.roc_panels import CROSS, OURS, THEIRS

COLUMNS = 2
PANEL_INCHES = 3.2
_WORDS_HIGH = 0.13
"""Of a panel's height, two lines of words."""
CALIBRATED = "the synthetic people were made with the paper's correlations: calibration, not evidence"
_NO_POINTS: Scores = np.empty(0)


@dataclass(frozen=True, eq=False)
class CorrelationPanel:
    """One muscle's measure against one quantity, held-out participants.

    Attributes:
        muscle: in words.
        measure: with its unit, such as "Thickness, mm".
        outcome: with its unit.
        found: our correlation.
        printed: the paper's; None where it has none.
        x: (participants,) the measure; empty where people may not be shown.
        y: (participants,) the outcome.
    """

    muscle: str
    measure: str
    outcome: str
    found: Correlated
    printed: PrintedCorrelation | None = None
    x: Scores = field(default_factory=lambda: _NO_POINTS, repr=False)
    y: Scores = field(default_factory=lambda: _NO_POINTS, repr=False)


@dataclass(frozen=True, eq=False)
class AgreementPanel:
    """One measure in found and in drawn masks of the same images.

    Attributes:
        muscle: in words.
        measure: without its unit, such as "thickness".
        unit: such as "mm".
        found: limits of agreement and intraclass correlation.
        a: (images,) in found masks; empty where people may not be shown.
        b: (images,) in drawn masks.
    """

    muscle: str
    measure: str
    unit: str
    found: Agreement
    a: Scores = field(default_factory=lambda: _NO_POINTS, repr=False)
    b: Scores = field(default_factory=lambda: _NO_POINTS, repr=False)


def draw_muscle_figures(
    folder: Path,
    *,
    correlations: Sequence[CorrelationPanel] = (),
    agreements: Sequence[AgreementPanel] = (),
    synthetic: bool,
    calibrated: bool = False,
) -> dict[str, Path]:
    """Write ``correlations.png`` and ``agreement.png``; what has no panel is absent, and an older file of it removed.

    Args:
        folder: is made.
        correlations: one panel each.
        agreements: one panel each.
        synthetic: the people are; it is said in the figure.
        calibrated: the synthetic people were made with the paper's correlations; said in that figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notice = f"SYNTHETIC DATA{': ' + CALIBRATED if calibrated else ''}"
    painters: dict[str, tuple[Callable[[], Figure | None], str]] = {
        "correlations": (lambda: correlation_figure(correlations), notice),
        "agreement": (lambda: agreement_figure(agreements), "SYNTHETIC DATA"),
    }
    drawn = {}
    with mpl.rc_context(STYLE):
        for name, (paint, words) in painters.items():
            path = folder / f"{name}.png"
            path.unlink(missing_ok=True)
            figure = paint()
            if figure is None:
                continue
            if synthetic:
                figure.suptitle(words, x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
            figure.savefig(path, dpi=200, facecolor="white")
            figure.clear()
            drawn[name] = path
    return drawn


def signed(value: float, digits: int = 2) -> str:
    """A number with a true minus sign; what rounds to nothing has no sign."""
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0.0 else text).replace("-", "−")


def with_limits(estimate: Estimate, digits: int = 2) -> str:
    """Such as "0.42 (0.24 to 0.58)"."""
    value, low, high = (signed(v, digits) for v in (estimate.value, estimate.low, estimate.high))
    return f"{value} ({low} to {high})"


# --- correlations -----------------------------------------------------------------------------------------------------


def correlation_figure(panels: Sequence[CorrelationPanel]) -> Figure | None:
    """People with their line, and beneath on one scale our r with its interval and the paper's r.

    The paper gives no interval. The two grey bars are Fisher's for its r: thick for all its 94 people, thin for a fifth
    of them, which its test split would be.
    """
    if not panels:
        return None
    rows = -(-len(panels) // COLUMNS)
    heights = [PANEL_INCHES - 0.9, 0.6] if any(panel.x.size for panel in panels) else [0.6]
    figure = Figure(figsize=(WIDTH, rows * (sum(heights) + 1.0) + 0.7), layout="constrained")
    grid = figure.add_gridspec(len(heights) * rows, COLUMNS, height_ratios=heights * rows)
    for index, panel in enumerate(panels):
        row, column = divmod(index, COLUMNS)
        last = len(heights) * (row + 1) - 1
        cells = [figure.add_subplot(grid[at, column]) for at in ([last - 1, last] if panel.x.size else [last])]
        if panel.x.size:
            _cloud(cells[0], panel)
        _head(cells[0], panel)
        _coefficients(cells[-1], panel)
    _legend(figure)
    return figure


def _head(axes: Axes, panel: CorrelationPanel) -> None:
    """The muscle, and beneath it both coefficients in the colours that they are drawn in."""
    mark = "  (!)" if panel.found.verdict == "against what is expected" else ""
    lines = [(f"ours r = {with_limits(panel.found.pearson.r)}, n = {panel.found.pearson.n}{mark}", OURS)]
    if panel.printed:
        mark = "  (!)" if (panel.printed.r.value > 0) != (panel.printed.expected == "rises") else ""
        lines.append((f"paper r = {panel.printed.r.value:.4f}, P < {panel.printed.p.value:g}{mark}", THEIRS))
    of = "" if panel.x.size else f"\n{panel.measure} – {panel.outcome}"
    axes.set_title(panel.muscle + of, pad=6 + 11 * len(lines))
    for k, (words, colour) in enumerate(reversed(lines)):
        place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, 5 + 11 * k), "textcoords": "offset points"}
        axes.annotate(words, fontsize=7.5, color=colour, va="bottom", **place)  # type: ignore[arg-type]


def _cloud(axes: Axes, panel: CorrelationPanel) -> None:
    axes.plot(panel.x, panel.y, "o", color=LEAD, markersize=3.6, alpha=0.55, markeredgewidth=0)
    slope, start = np.polyfit(panel.x, panel.y, 1)
    ends = np.array([panel.x.min(), panel.x.max()])
    axes.plot(ends, start + slope * ends, color=LEAD, linewidth=1.6)
    axes.set(xlabel=panel.measure, ylabel=panel.outcome)


def _coefficients(axes: Axes, panel: CorrelationPanel) -> None:
    """Ours above, the paper's below, from -1 to 1."""
    axes.axvline(0.0, color=PALE, linewidth=1.0, zorder=0)
    r = panel.found.pearson.r
    axes.plot([r.low, r.high], [1, 1], color=OURS, linewidth=1.8)
    axes.plot([r.value], [1], "o", color=OURS, markersize=6)
    if panel.printed:
        value = panel.printed.r.value
        for people, width in ((TEST_PEOPLE, 1.0), (PEOPLE, 3.0)):
            axes.plot(_fisher(value, people), [0, 0], color="#b9bec4", linewidth=width, zorder=1)
        axes.plot([value], [0], **CROSS)
    axes.set(xlim=(-1, 1), ylim=(-0.7, 1.7), yticks=[], xlabel="r", xticks=[-1, -0.5, 0, 0.5, 1])
    axes.spines["left"].set_visible(False)


def _fisher(r: float, people: int) -> tuple[float, float]:
    half = Z / sqrt(people - 3)
    return tanh(atanh(r) - half), tanh(atanh(r) + half)


def _legend(figure: Figure) -> None:
    words = (
        f"Ours: Pearson's r of held-out people with its 95 % interval. Cross: {REFERENCE}, as printed; it gives no "
        f"interval.\nGrey: the interval of the printed r if it is of all {PEOPLE} people (thick), or of the "
        f"{TEST_PEOPLE} of a test split (thin). (!): against the expected sign."
    )
    figure.supxlabel(words, x=0.005, ha="left", fontsize=7, color=MUTED)


# --- agreement --------------------------------------------------------------------------------------------------------


def agreement_figure(panels: Sequence[AgreementPanel]) -> Figure | None:
    """Differences against means. Bland and Altman (1986); shaded: the intervals of bias and limits."""
    if not panels:
        return None
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(WIDTH, rows * PANEL_INCHES * 0.85 + 0.6), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False)
    for place, panel in zip(axes.flat, panels, strict=False):
        _bland_altman(place, panel)
    for place in axes.flat[len(panels) :]:
        place.set_axis_off()
    words = "Difference: in found minus in drawn masks of the same held-out images. Lines: bias and 95 % limits of "
    words += "agreement; shaded: their 95 % intervals.\nICC(2,1) is of participants' means."
    figure.supxlabel(words, x=0.005, ha="left", fontsize=7, color=MUTED)
    return figure


def _bland_altman(axes: Axes, panel: AgreementPanel) -> None:
    limits = panel.found.limits
    digits = 2 if limits.sd >= 0.05 else 3
    axes.axhline(0.0, color=PALE, linewidth=1.0, zorder=0)
    if panel.a.size:
        axes.plot(
            (panel.a + panel.b) / 2, panel.a - panel.b, "o", color=LEAD, markersize=3, alpha=0.5, markeredgewidth=0
        )
    seen = float(np.abs(panel.a - panel.b).max(initial=0.0))
    reach = 1.2 * max(abs(limits.lower.low), abs(limits.upper.high), seen, 1e-9)
    drawn = ((limits.upper, MUTED, "--"), (limits.bias, LEAD, "-"), (limits.lower, MUTED, "--"))
    for (estimate, colour, style), place in zip(drawn, _apart([e.value for e, _, _ in drawn], reach), strict=True):
        axes.axhspan(estimate.low, estimate.high, color=colour, alpha=0.12, linewidth=0)
        axes.axhline(estimate.value, color=colour, linewidth=1.2, linestyle=style)
        text = f"{signed(estimate.value, digits)}\n({signed(estimate.low, digits)} to {signed(estimate.high, digits)})"
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7, color=colour)
    axes.set_title(f"{panel.muscle}: {panel.measure}\nICC {with_limits(panel.found.icc, 3)}", fontsize=8.5)
    axes.set(xlabel=f"Mean of both, {panel.unit}", ylabel=f"Difference, {panel.unit}")
    if not panel.a.size:
        axes.set(xticks=[], xlabel="")
    axes.set_ylim(-reach, reach)


def _apart(values: Sequence[float], reach: float) -> tuple[float, float, float]:
    """Where the words beside three lines stand, the upper first, so that none lies upon another."""
    upper, middle, lower = values
    least = _WORDS_HIGH * 2 * reach
    return max(upper, middle + least), middle, min(lower, middle - least)
