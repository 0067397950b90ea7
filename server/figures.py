"""The figures of a report: matplotlib's object-oriented API only, colours of Okabe & Ito (2008), a line style for each.

Every line is told apart by its dashes as well as by its colour, so that a greyscale print loses nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sarco_models.calibration import calibration_bins
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import Estimate, PooledAuc, Scores, pool_sites, roc_curve
from server.results import CENTRAL, OverSeeds, Results, ScoreSet

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, MUTED, PALE, WARNING = "#1f2328", "#6b7178", "#d9dce0", "#b3261e"
SITE_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
SITE_DASHES: tuple[tuple[float, ...], ...] = ((6, 2), (2, 1.5), (6, 2, 1.5, 2), (8, 2, 2, 2, 2, 2), (1, 1))
MOST_PANELS = 6
SITES_TO_POOL = 3
SITES_TO_FORETELL = 5  # below it a prediction interval spans nearly everything and only puzzles
STYLE: dict["RcKeyType", Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class LineStyle:
    """How an arm is drawn, in every figure alike."""

    colour: str
    dashes: tuple[float, ...]  # empty = solid
    width: float = 1.6


def place_name(site: str) -> str:
    """A site's name for people."""
    return "Central test" if site == CENTRAL else site.replace("_", " ").title()


def arm_name(arm: str) -> str:
    """An arm's name for people."""
    base, _, model = arm.partition(" [")
    kind, _, which = base.partition(":")
    controls = {"prevalence": "Prevalence only", "image_count": "Number of images only", "age": "Age only"}
    controls["clinical_logistic"] = "Clinical features, logistic"
    names = {"federated": "Federated", "pooled": "Pooled", "local": f"{place_name(which)} alone"}
    names["control"] = controls.get(which, which.replace("_", " ").capitalize())
    return names.get(kind, base) + (f" ({model.rstrip(']')})" if model else "")


def draw_all(results: Results, folder: Path) -> dict[str, Path]:
    """Draw what the run has data for; what cannot be drawn is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    painters: dict[str, Callable[[Results], Figure | None]] = {
        "roc": roc_figure,
        "calibration": calibration_figure,
        "learning": learning_figure,
        "forest": forest_figure,
    }
    drawings = {}
    with mpl.rc_context(STYLE):
        for name, paint in painters.items():
            figure = paint(results)
            if figure is None:
                continue
            if results.meta.synthetic:
                figure.suptitle("SYNTHETIC DATA", x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
            drawings[name] = folder / f"{name}.png"
            figure.savefig(drawings[name], dpi=200, facecolor="white")
            figure.clear()
    return drawings


def style_of(arm: str, results: Results) -> LineStyle:
    """Federated blue, pooled black, each hospital its own colour and dashes, controls grey and dotted."""
    kind, _, site = arm.partition(":")
    if kind == "federated":
        return LineStyle("#0072B2", (), 2.4)
    if kind == "pooled":
        return LineStyle("#000000", (3, 1.5))
    if kind == "local" and site in results.sites[: len(SITE_COLOURS)]:
        index = results.sites.index(site)
        return LineStyle(SITE_COLOURS[index], SITE_DASHES[index])
    return LineStyle("#9aa0a6", (1, 1.2), 1.1)


def _line(axes: Axes, x: Scores, y: Scores, style: LineStyle, label: str | None = None) -> None:
    (line,) = axes.plot(x, y, color=style.colour, linewidth=style.width, label=label)
    if style.dashes:
        line.set_dashes(style.dashes)


def _with_interval(value: OverSeeds) -> str:
    if value.low is None or value.high is None or value.low == value.high:
        return f"{value.mean:.2f}"
    return f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})".replace("-", "−")


# --- ROC --------------------------------------------------------------------------------------------------------------


def roc_figure(results: Results) -> Figure | None:
    """Mean sensitivity over seeds at each specificity."""
    grid = np.linspace(0.0, 1.0, 401)
    curves = {arm: _sensitivities(results.score_sets(arm), grid) for arm in results.arms}
    drawn = {arm: curve for arm, curve in curves.items() if curve.size}
    if not drawn:
        return None
    figure = Figure(figsize=(8.6, 4.7), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    for arm, curve in reversed(drawn.items()):
        auc = results.over_seeds(arm, "auc")
        label = arm_name(arm) + (f"  {_with_interval(auc)}" if auc else "")
        _line(axes, grid, curve.mean(axis=0), style_of(arm, results), label)
        if arm == "federated" and len(curve) > 1:
            axes.fill_between(grid, curve.min(axis=0), curve.max(axis=0), color="#0072B2", alpha=0.15, linewidth=0)
    _frozen_point(axes, results)
    axes.set(xlabel="1 − specificity (false alarms)", ylabel="Sensitivity (people found)", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal", anchor="W")
    handles, labels = axes.get_legend_handles_labels()
    title = "AUC (95 % interval)"
    legend = axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.03, 0.5), title=title)
    legend.set_alignment("left")
    return figure


def _sensitivities(sets: list[ScoreSet], grid: Scores) -> Scores:
    curves = []
    for held in sets:
        try:
            roc = roc_curve(held.probability, held.labels)
        except UndefinedMetric:
            continue
        curves.append(np.interp(grid, 1.0 - roc.specificity, roc.sensitivity))
    return np.array(curves)


def _frozen_point(axes: Axes, results: Results) -> None:
    sensitivity = results.over_seeds("federated", "sensitivity")
    specificity = results.over_seeds("federated", "specificity")
    if sensitivity and specificity:
        face = {"color": "white", "markeredgecolor": "#0072B2", "markeredgewidth": 1.8}
        axes.plot([1 - specificity.mean], [sensitivity.mean], "o", markersize=8, zorder=5, **face)  # type: ignore[arg-type]


# --- calibration ------------------------------------------------------------------------------------------------------


def calibration_figure(results: Results) -> Figure | None:
    """One panel for each trained arm: observed share against predicted probability, and how many people are where."""
    arms = [arm for arm in results.arms if not arm.startswith("control") and results.score_sets(arm)][:MOST_PANELS]
    if not arms:
        return None
    columns = min(3, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(1.2 + 2.5 * columns, 0.4 + 3.0 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, arm in zip(panels, arms, strict=False):
        _calibration_panel(axes, arm, results)
    for axes in panels[len(arms) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(arms) - columns) : len(arms)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("Predicted probability of sarcopenia", fontsize=8.5)
    figure.supylabel("Share that has sarcopenia", fontsize=8.5)
    return figure


def _calibration_panel(axes: Axes, arm: str, results: Results) -> None:
    sets, style = results.score_sets(arm), style_of(arm, results)
    bins = [calibration_bins(held.probability, held.labels) for held in sets]
    predicted = np.array([[b.predicted for b in of_seed] for of_seed in bins]).mean(axis=0)
    observed = np.array([[(b.observed.value, b.observed.low, b.observed.high) for b in s] for s in bins]).mean(axis=0)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    axes.vlines(predicted, observed[:, 1], observed[:, 2], color=style.colour, linewidth=1.0, alpha=0.7)
    _line(axes, predicted, observed[:, 0], style)
    axes.plot(predicted, observed[:, 0], "o", color=style.colour, markersize=3.5)
    everybody = np.concatenate([held.probability for held in sets])
    heights, edges = np.histogram(everybody, bins=40, range=(0, 1))
    axes.bar(edges[:-1], 0.13 * heights / heights.max(), width=1 / 40, align="edge", color=PALE, zorder=0)
    axes.set(title=arm_name(arm), xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.text(
        0.03, 0.97, _calibration_words(arm, results), transform=axes.transAxes, va="top", fontsize=7.5, color=MUTED
    )


def _calibration_words(arm: str, results: Results) -> str:
    parts = {"slope": "calibration_slope", "intercept": "calibration_intercept"}
    found = {word: results.over_seeds(arm, metric) for word, metric in parts.items()}
    return "\n".join(f"{word} {_with_interval(value)}" for word, value in found.items() if value)


# --- learning curves --------------------------------------------------------------------------------------------------


def learning_figure(results: Results) -> Figure | None:
    """AUC and loss by round; one column for each hospital and one for the central test people."""
    places = [site for site in [*results.sites, CENTRAL] if any(_curves(results, "auc", site))]
    if not places:
        return None
    shown = places if len(places) <= MOST_PANELS else [*places[: MOST_PANELS - 1], places[-1]]
    figure = Figure(figsize=(1.0 + 2.2 * len(shown), 4.6), layout="constrained")
    panels = figure.subplots(2, len(shown), squeeze=False, sharex=True, sharey="row")
    for column, site in enumerate(shown):
        for row, metric in enumerate(("auc", "loss")):
            for arm, x, y, spread in _curves(results, metric, site):
                _line(panels[row, column], x, y, style_of(arm, results), arm_name(arm))
                colour = style_of(arm, results).colour
                panels[row, column].fill_between(x, spread[0], spread[1], color=colour, alpha=0.13, linewidth=0)
        panels[0, column].set_title(place_name(site))
        panels[1, column].set_xlabel("Round")
        panels[1, column].xaxis.get_major_locator().set_params(integer=True)
    panels[0, 0].set_ylabel("AUC")
    panels[1, 0].set_ylabel("Loss")
    entries = {
        label: handle
        for axes in panels.ravel()
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(5, len(entries)))
    return figure


def _curves(results: Results, metric: str, site: str) -> Iterator[tuple[str, Scores, Scores, Scores]]:
    for arm in dict.fromkeys(row.arm for row in results.rows if row.round is not None):
        points = results.curve(arm, metric, site)
        if points:
            x = np.array(list(points), dtype=np.float64)
            mean = np.array([p.mean for p in points.values()])
            yield arm, x, mean, np.array([[p.least for p in points.values()], [p.most for p in points.values()]])


# --- forest plot ------------------------------------------------------------------------------------------------------


def pooled_over_sites(results: Results, arm: str = "federated") -> PooledAuc | None:
    """Random effects over the hospitals' own held-out people; None with fewer than three usable hospitals."""
    found = [results.over_seeds(arm, "auc", site) for site in results.sites]
    usable = [Estimate(f.mean, f.low, f.high) for f in found if f and f.low is not None and f.high is not None]
    inside = [e for e in usable if 0.0 < e.low < e.high < 1.0]
    # With two hospitals the Hartung-Knapp interval has one degree of freedom: it says 0 to 1, which only puzzles.
    return pool_sites(inside) if len(inside) >= SITES_TO_POOL else None


def forest_figure(results: Results) -> Figure | None:
    """Federated, pooled and own model on each hospital's held-out people, and the federated model pooled over them."""
    lines = [
        (site, arm, found)
        for site in results.sites[:30]
        for arm in ("federated", "pooled", f"local:{site}")
        if (found := results.over_seeds(arm, "auc", site)) is not None
    ]
    if not lines:
        return None
    pooled = pooled_over_sites(results)
    height = 0.27 * (len(lines) + len({site for site, _, _ in lines}) + (3 if pooled else 1)) + 0.8
    figure = Figure(figsize=(8.6, height))
    axes = figure.add_axes((0.22, 0.5 / height, 0.56, 1.0 - 0.8 / height))
    bottom = _forest_lines(axes, lines, results)
    if pooled:
        _forest_diamond(axes, pooled, bottom, enough=len(results.sites) >= SITES_TO_FORETELL)
    axes.axvline(0.5, color=PALE, linewidth=1.0, zorder=0)
    low = min([f.low for _, _, f in lines if f.low is not None], default=0.5)
    axes.set(xlabel="AUC", yticks=[], xlim=(min(0.45, low - 0.02), 1.0), ylim=(bottom - (2.0 if pooled else 0.4), 0.8))
    axes.spines["left"].set_visible(False)
    return figure


def _forest_lines(axes: Axes, lines: list[tuple[str, str, OverSeeds]], results: Results) -> float:
    y, previous = 0.0, ""
    for site, arm, found in lines:
        if site != previous:
            people = f"{found.n_positive} of {found.n} positive" if found.n is not None else ""
            _forest_text(axes, y, place_name(site), people, bold=True)
            y, previous = y - 1.0, site
        style = style_of(arm, results)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [y, y], color=style.colour, linewidth=1.4)
        axes.plot([found.mean], [y], "s", color=style.colour, markersize=3.5 + min(5.0, (found.n or 0) ** 0.5 / 3))
        _forest_text(axes, y, "   " + arm_name(arm), _with_interval(found), bold=False)
        y -= 1.0
    return y


def _forest_diamond(axes: Axes, pooled: PooledAuc, y: float, *, enough: bool) -> None:
    middle = y - 0.4
    estimate = pooled.random
    corners = (
        [estimate.low, estimate.value, estimate.high, estimate.value],
        [middle, middle + 0.35, middle, middle - 0.35],
    )
    axes.fill(*corners, color="#0072B2")
    text = f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"
    _forest_text(axes, middle, "Federated, all hospitals", text, bold=True)
    if pooled.prediction and enough:
        further = pooled.prediction
        axes.plot(
            [further.low, further.high], [middle - 1.0] * 2, color="#0072B2", linewidth=1.0, linestyle=(0, (2, 1.5))
        )
        _forest_text(
            axes, middle - 1.0, "   A further hospital", f"{further.low:.2f} to {further.high:.2f}", bold=False
        )


def _forest_text(axes: Axes, y: float, left: str, right: str, *, bold: bool) -> None:
    frame, weight = axes.get_yaxis_transform(), "bold" if bold else "normal"
    axes.text(-0.38, y, left, transform=frame, va="center", weight=weight, clip_on=False)
    axes.text(1.03, y, right, transform=frame, va="center", color=MUTED, clip_on=False)
