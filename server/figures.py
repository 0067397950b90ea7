"""The figures of a report, drawn with matplotlib's object-oriented API only; what a run has no data for is absent."""

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import roc_curve
from sarco_models.scores import Scores
from server.answers import answers_figure
from server.arms import CENTRAL, arm_name, place_name
from server.drawing import LEAD, PALE, STYLE, WARNING, WIDTH, legend_below, line, style_of, to_draw, with_interval
from server.forest import forest_figure
from server.probabilities import calibration_figure, decision_figure
from server.results import Results, ScoreSet

__all__ = ["arm_name", "draw", "draw_all", "learning_figure", "place_name", "roc_figure"]

MOST_LINES = 8
MOST_PANELS = 6
Painter = Callable[[Results], Figure | None]
PAINTERS: dict[str, Painter] = {}


def draw_all(results: Results, folder: Path) -> dict[str, Path]:
    """Draw what the run has data for; what cannot be drawn is absent."""
    return draw(results, folder, PAINTERS)


def draw(results: Results, folder: Path, painters: dict[str, Painter]) -> dict[str, Path]:
    """Draw these figures in the report's style, marked where the people are synthetic, as NAME.png.

    Returns:
        The files by name; a figure that a painter has no data for is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
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


# --- ROC --------------------------------------------------------------------------------------------------------------


def roc_figure(results: Results) -> Figure | None:
    """Mean sensitivity over seeds at each specificity."""
    grid = np.linspace(0.0, 1.0, 401)
    # A score that says the same of everybody is the diagonal itself.
    useful = [arm for arm in results.compared if arm != "control:prevalence"]
    curves = {
        arm: _sensitivities(results.score_sets(arm, results.home), grid) for arm in to_draw(results, useful, MOST_LINES)
    }
    drawn = {arm: curve for arm, curve in curves.items() if curve.size}
    if not drawn:
        return None
    figure = Figure(figsize=(WIDTH, 4.7), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    for arm, curve in reversed(drawn.items()):
        auc = results.over_seeds(arm, "auc", results.home)
        label = _wrapped(results.arm_name(arm)) + (f"  {with_interval(auc)}" if auc else "")
        line(axes, grid, curve.mean(axis=0), style_of(arm, results), label)
        if arm == results.lead and len(curve) > 1:
            axes.fill_between(grid, curve.min(axis=0), curve.max(axis=0), color=LEAD, alpha=0.15, linewidth=0)
    _frozen_point(axes, results)
    axes.set(xlabel="1 − specificity (false alarms)", ylabel="Sensitivity (people found)", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal", anchor="W")
    handles, labels = axes.get_legend_handles_labels()
    title = "AUC (95 % interval)"
    legend = axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.03, 0.5), title=title)
    legend.set_alignment("left")
    return figure


def _wrapped(name: str, most: int = 34) -> str:
    """A long name in two lines."""
    if len(name) <= most or ", " not in name:
        return name
    first, _, rest = name.partition(", ")
    return f"{first},\n{rest}"


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
    found, spared = (results.over_seeds(results.lead, m, results.home) for m in ("sensitivity", "specificity"))
    if found and spared:
        face = {"color": "white", "markeredgecolor": LEAD, "markeredgewidth": 1.8}
        axes.plot([1 - spared.mean], [found.mean], "o", markersize=8, zorder=5, **face)  # type: ignore[arg-type]


# --- learning curves --------------------------------------------------------------------------------------------------


def learning_figure(results: Results, score: str = "auc", words: str = "AUC") -> Figure | None:
    """AUC (or another score) and loss by round; one column for each hospital and one for the central test people."""
    arms = list(dict.fromkeys(row.arm for row in results.rows if row.round is not None))
    arms = to_draw(results, [arm for arm in results.arms if arm in arms] or arms, MOST_LINES)
    places = [site for site in [*results.sites, CENTRAL] if any(_curves(results, arms, score, site))]
    if not places:
        return None
    shown = places if len(places) <= MOST_PANELS else [*places[: MOST_PANELS - 1], places[-1]]
    figure = Figure(figsize=(max(WIDTH, 1.0 + 2.2 * len(shown)), 4.6), layout="constrained")
    panels = figure.subplots(2, len(shown), squeeze=False, sharex=True, sharey="row")
    for column, site in enumerate(shown):
        for row, metric in enumerate((score, "loss")):
            for arm, x, y, spread in _curves(results, arms, metric, site):
                style = style_of(arm, results)
                line(panels[row, column], x, y, style, results.arm_name(arm))
                panels[row, column].fill_between(x, *spread, color=style.colour, alpha=0.13, linewidth=0)
        panels[0, column].set_title(place_name(site))
        panels[1, column].set_xlabel("Round")
        panels[1, column].xaxis.get_major_locator().set_params(integer=True)
    panels[0, 0].set_ylabel(words)
    panels[1, 0].set_ylabel("Loss")
    legend_below(figure)
    return figure


def _curves(
    results: Results, arms: list[str], metric: str, site: str
) -> Iterator[tuple[str, Scores, Scores, tuple[Scores, Scores]]]:
    for arm in arms:
        points = results.curve(arm, metric, site).items()
        if points:
            x = np.array([at for at, _ in points], dtype=np.float64)
            mean, least, most = (np.array([getattr(p, key) for _, p in points]) for key in ("mean", "least", "most"))
            yield arm, x, mean, (least, most)


PAINTERS |= {
    "roc": roc_figure,
    "calibration": calibration_figure,
    "decision": decision_figure,
    "learning": learning_figure,
    "forest": forest_figure,
    "answers": answers_figure,
}
