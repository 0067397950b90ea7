"""Figures of what a predicted probability is worth: calibration, and the decisions that are taken by it."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sarco_models.calibration import calibration_bins
from sarco_models.calibration_curve import calibration_curve
from sarco_models.decision_curve import THRESHOLDS, decision_curve
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Scores
from server.arms import ArmName
from server.drawing import INK, MUTED, PALE, WIDTH, line, style_of, to_draw, with_interval
from server.results import Results, ScoreSet

MOST_PANELS, COLUMNS = 6, 3
MOST_DECISIONS = 5
DRAWS = 500
"""Of the bands: their borders move by less than a line's width with more."""

FEWEST_DRAWS = 2
GRID: Scores = np.linspace(0.0, 1.0, 201)


def _trained(results: Results, most: int) -> list[str]:
    arms = [a for a in results.compared if not ArmName.parse(a).control and results.score_sets(a, results.home)]
    return to_draw(results, arms, most)


# --- calibration ------------------------------------------------------------------------------------------------------


def calibration_figure(results: Results) -> Figure | None:
    """One panel for each trained arm: observed share against predicted probability, and how many people are where."""
    arms = _trained(results, MOST_PANELS)
    if not arms:
        return None
    rows = -(-len(arms) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 0.4 + 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        _calibration_panel(axes, arm, results)
    for axes in panels[len(arms) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(arms) - COLUMNS) : len(arms)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel(f"Predicted probability of {results.condition}", fontsize=8.5)
    figure.supylabel(f"Share that has {results.condition}", fontsize=8.5)
    return figure


def _calibration_panel(axes: Axes, arm: str, results: Results) -> None:
    sets, style = results.score_sets(arm, results.home), style_of(arm, results)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    smooth = smooth_calibration(sets)
    if smooth is not None:
        at, observed, low, high = smooth
        axes.fill_between(at, low, high, color=style.colour, alpha=0.15, linewidth=0)
        axes.plot(at, observed, color=style.colour, linewidth=1.8)
    calibration_points(axes, sets, style.colour)
    everybody = np.concatenate([held.probability for held in sets])
    heights, edges = np.histogram(everybody, bins=40, range=(0, 1))
    axes.bar(edges[:-1], 0.13 * heights / max(heights.max(), 1), width=1 / 40, align="edge", color=PALE, zorder=0)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_title(results.arm_name(arm), fontsize=8.5 if len(results.arm_name(arm)) < 26 else 7)
    axes.set_aspect("equal")
    words = _calibration_words(arm, results)
    paper = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0}
    axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize=7.5, color=MUTED, bbox=paper)


def calibration_points(axes: Axes, sets: list[ScoreSet], colour: str) -> None:
    """Ten groups of equal size with their intervals, means over seeds."""
    bins = [calibration_bins(held.probability, held.labels) for held in sets]
    groups = min(len(of_seed) for of_seed in bins)
    predicted = np.array([[b.predicted for b in of_seed[:groups]] for of_seed in bins]).mean(axis=0)
    observed = np.array(
        [[(b.observed.value, b.observed.low, b.observed.high) for b in of_seed[:groups]] for of_seed in bins]
    ).mean(axis=0)
    axes.vlines(predicted, observed[:, 1], observed[:, 2], color=colour, linewidth=0.9, alpha=0.55)
    axes.plot(predicted, observed[:, 0], "o", color=colour, markersize=3.2)


def smooth_calibration(sets: list[ScoreSet]) -> tuple[Scores, Scores, Scores, Scores] | None:
    """Smooth curve and 95 % band (:func:`sarco_models.calibration_curve.calibration_curve`), means over seeds.

    Returns:
        Predicted, observed, low, high, (points,) each, where every seed has people: a mean over fewer at its ends would
        jump. None where no seed has a curve.
    """
    found: list[NDArray[np.float64]] = []
    for held in sets:
        try:
            curve = calibration_curve(held.probability, held.labels, np.random.default_rng(held.seed), repeats=DRAWS)
        except UndefinedMetric:
            continue
        lines = (curve.observed, curve.low, curve.high)
        found.append(np.stack([np.interp(GRID, curve.predicted, y, left=np.nan, right=np.nan) for y in lines]))
    if not found:
        return None
    curves = np.stack(found)
    shown = np.isfinite(curves[:, 0]).all(axis=0)
    if not shown.any():
        return None
    observed, low, high = curves[:, :, shown].mean(axis=0)
    return GRID[shown], observed, low, high


def _calibration_words(arm: str, results: Results) -> str:
    parts = {"slope": "calibration_slope", "intercept": "calibration_intercept", "ICI": "ici"}
    found = {word: results.over_seeds(arm, metric, results.home) for word, metric in parts.items()}
    return "\n".join(f"{word} {with_interval(value)}" for word, value in found.items() if value)


# --- decisions --------------------------------------------------------------------------------------------------------


def decision_figure(results: Results) -> Figure | None:
    """Net benefit over threshold probabilities, of the arms and of looking further into everybody or nobody."""
    found = {arm: curves for arm in _trained(results, MOST_DECISIONS) if (curves := _net_benefits(results, arm))}
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
    axes = figure.add_subplot()
    first = found.get(results.lead) or next(iter(found.values()))
    axes.axhline(0.0, color=INK, linewidth=0.9, label="Nobody")
    axes.plot(THRESHOLDS, first.everybody, color=MUTED, linewidth=0.9, label="Everybody")
    for arm, curves in reversed(found.items()):
        style = style_of(arm, results)
        line(axes, THRESHOLDS, curves.value, style, results.arm_name(arm))
        if arm == results.lead:
            axes.fill_between(THRESHOLDS, curves.low, curves.high, color=style.colour, alpha=0.15, linewidth=0)
    top = max(float(c.high.max() if arm == results.lead else c.value.max()) for arm, c in found.items())
    axes.set(
        xlabel="Threshold probability: who is at or above it is looked into further",
        ylabel="Net benefit per person",
        xlim=(THRESHOLDS[0], THRESHOLDS[-1]),
        ylim=(-0.12 * top - 0.01, 1.05 * top + 0.01),
    )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@dataclass(frozen=True, eq=False)
class _NetBenefit:
    """Means over seeds, (thresholds,) each: of the model, its band, and of calling everybody."""

    value: Scores
    low: Scores
    high: Scores
    everybody: Scores


def _net_benefits(results: Results, arm: str) -> _NetBenefit | None:
    found = []
    for held in results.score_sets(arm, results.home):
        rng = np.random.default_rng(held.seed)
        # Only the lead's band is drawn.
        repeats = DRAWS if arm == results.lead else FEWEST_DRAWS
        try:
            curve = decision_curve(held.probability, held.labels, rng, repeats=repeats)
        except UndefinedMetric:
            continue
        found.append(np.stack([curve.net_benefit, curve.low, curve.high, curve.treat_all]))
    return _NetBenefit(*np.stack(found).mean(axis=0)) if found else None
