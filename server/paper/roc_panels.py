"""ROC curves of our models with the points that the paper printed: what stands for its Figures 3 and 4."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import roc_curve
from sarco_models.scores import Scores
from server.drawing import LEAD, MUTED, PALE
from server.paper.finished import SELECTED, Finished
from server.paper.published import COMBINATIONS, COMPLETE_CASES, CROSS_VALIDATION, Printed
from server.results import OverSeeds, Results

OURS, THEIRS = LEAD, "#D55E00"
GRID = np.linspace(0.0, 1.0, 401)
CROSS: dict[str, Any] = {
    "color": THEIRS, "marker": "X", "markersize": 8.5, "markeredgecolor": "white", "markeredgewidth": 0.8,
    "linestyle": "none",
}  # fmt: skip
DOT: dict[str, Any] = {
    "color": "white", "marker": "o", "markersize": 6.5, "markeredgecolor": OURS, "markeredgewidth": 1.6,
    "linestyle": "none",
}  # fmt: skip


@dataclass(frozen=True)
class RocPanel:
    """One model at one place: its printed point and AUC, and which of our arms stands beside it."""

    title: str
    where: str
    printed: Mapping[str, Printed]
    results: Results
    arm: str | None
    site: str


def figure_3(runs: Mapping[str, Finished]) -> Figure | None:
    """ROC of the six models in cross-validation."""
    run = runs.get("paper")
    return _roc_figure(_six(run)) if run else None


def figure_4(runs: Mapping[str, Finished]) -> Figure | None:
    """ROC of the six models on complete cases, then of the chosen one at B and C."""
    run, complete = runs.get("paper"), runs.get("complete_cases")
    panels = _six(complete) if complete else []
    for validation, site in run.elsewhere() if run else ():
        if run and site:
            panels.append(
                RocPanel(
                    validation.title.partition(" (")[0],
                    "frozen model",
                    validation.performance,
                    run.chosen,
                    SELECTED,
                    site,
                )
            )
    return _roc_figure(panels) if panels else None


def _six(run: Finished) -> list[RocPanel]:
    paper = COMPLETE_CASES if run.protocol == "complete_cases" else CROSS_VALIDATION
    where = "complete cases" if run.protocol == "complete_cases" else "cross-validation"
    return [RocPanel(c.title, where, paper.models[c.key], run.results, run.arm(c), run.site) for c in COMBINATIONS]


def _roc_figure(panels: Sequence[RocPanel]) -> Figure:
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(0.6 + 2.75 * columns, 0.8 + 2.85 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _roc_panel(axes, panel)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("1 − specificity (false alarms)", fontsize=8.5)
    figure.supylabel("Sensitivity (people found)", fontsize=8.5)
    handles = [
        Line2D([], [], color=OURS, label="ours, mean of seeds (band: range)"),
        Line2D([], [], **DOT, label="ours at the threshold"),
        Line2D([], [], **CROSS, label="printed by the paper"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(columns, 3))
    return figure


def _roc_panel(axes: Axes, panel: RocPanel) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    curves = _curves(panel)
    if curves.size:
        axes.plot(GRID, curves.mean(axis=0), color=OURS)
    if len(curves) > 1:
        axes.fill_between(GRID, curves.min(axis=0), curves.max(axis=0), color=OURS, alpha=0.15, linewidth=0)
    found, spared = _ours(panel, "sensitivity"), _ours(panel, "specificity")
    if found and spared:
        axes.plot([1 - spared.mean], [found.mean], **DOT, zorder=4)
    printed = {metric: cell.value for metric, cell in panel.printed.items()}
    axes.plot([1 - printed["specificity"]], [printed["sensitivity"]], **CROSS, zorder=5)
    axes.set(title=panel.title, xlim=(0, 1), ylim=(0, 1.01), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_aspect("equal")
    auc = _ours(panel, "auc")
    people = f"{panel.where}, n = {auc.n}" if auc and auc.n else panel.where
    lines = {
        people: MUTED,
        f"ours  AUC {with_limits(auc)}" if auc else "ours: not run": OURS,
        f"paper  AUC {printed['auc']:.3f}": THEIRS,
        f"sens. {printed['sensitivity']:.3f}, spec. {printed['specificity']:.3f}": THEIRS,
    }
    for place, (words, colour) in enumerate(lines.items()):
        axes.text(0.99, 0.24 - 0.07 * place, words, transform=axes.transAxes, ha="right", fontsize=7.2, color=colour)


def _ours(panel: RocPanel, metric: str) -> OverSeeds | None:
    return panel.results.over_seeds(panel.arm, metric, panel.site) if panel.arm else None


def _curves(panel: RocPanel) -> Scores:
    """(seeds, grid) sensitivity; empty where the run kept no scores."""
    curves = []
    for held in panel.results.score_sets(panel.arm, panel.site) if panel.arm else ():
        try:
            roc = roc_curve(held.probability, held.labels)
        except UndefinedMetric:
            continue
        curves.append(np.interp(GRID, 1.0 - roc.specificity, roc.sensitivity))
    return np.array(curves)


def with_limits(value: OverSeeds) -> str:
    """Such as "0.812 (0.76 to 0.85)"."""
    if value.low is None or value.high is None or value.low == value.high:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} ({value.low:.2f} to {value.high:.2f})"
