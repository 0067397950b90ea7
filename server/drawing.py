"""How the figures of a report look: colours of Okabe & Ito (2008) and Tol (2021), dashes for each line, which arms.

Every line is told apart by its dashes as well as by its colour, so that a greyscale print loses nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from sarco_models.scores import Scores
from server.arms import NESTED, ArmName
from server.results import OverSeeds, Results

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, MUTED, PALE, WARNING = "#1f2328", "#6b7178", "#d9dce0", "#b3261e"
LEAD = "#0072B2"
SITE_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
VARIANT_COLOURS = ("#332288", "#CC6677", "#117733", "#AA4499", "#999933", "#44AA99", "#882255", "#88CCEE")
DASHES: tuple[tuple[float, ...], ...] = ((6, 2), (2, 1.5), (6, 2, 1.5, 2), (8, 2, 2, 2, 2, 2), (1, 1))
WIDTH = 8.6
"""Inches; the report shows every figure of this width without scaling it down on a desk's screen."""

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


def style_of(arm: str, results: Results) -> LineStyle:
    """Federated blue, pooled black, each hospital and each variant a colour of its own, controls grey and dotted."""
    parts = ArmName.parse(arm)
    if arm == results.lead:
        return LineStyle(LEAD, (), 2.4)
    if parts.control:
        return LineStyle("#9aa0a6", (1, 1.2), 1.1)
    if parts.variant:
        return _of_variant(parts, results)
    if parts.kind == "pooled":
        return LineStyle("#000000", (3, 1.5))
    if parts.site in results.sites[: len(SITE_COLOURS)]:
        index = results.sites.index(parts.site)
        dashes = DASHES[index] if parts.kind == "local" else (1, 1.5)
        return LineStyle(SITE_COLOURS[index], dashes, 1.6 if parts.kind == "local" else 1.3)
    return LineStyle("#9aa0a6", (4, 1.5), 1.3)


def _of_variant(parts: ArmName, results: Results) -> LineStyle:
    if parts.variant == NESTED:
        return LineStyle("#000000", (3, 1.5))
    known = [name for name in results.meta.titles if name != NESTED]
    index = known.index(parts.variant) if parts.variant in known else len(known)
    dashes = {"pooled": (3, 1.5), "local": (1, 1)}.get(parts.kind, ((), *DASHES)[index % (len(DASHES) + 1)])
    return LineStyle(VARIANT_COLOURS[index % len(VARIANT_COLOURS)], dashes, 1.4)


def to_draw(results: Results, arms: list[str], most: int) -> list[str]:
    """At most so many of these arms, in their order: what the run asks about first, guesses and variants' locals last.

    The others are in the tables; a figure with twenty lines shows none of them.
    """
    ranks = {"pooled": 1, "local": 1, "cv": 2, "without": 3, "federated": 2, "tuned": 3, "pooled_without": 4}

    def rank(arm: str) -> float:
        parts = ArmName.parse(arm)
        if arm == results.lead:
            return 0
        plain = parts.variant in ("", NESTED)
        return (
            6 if parts.control else ranks.get(parts.kind, 5) + (0 if plain or parts.kind in ("federated", "cv") else 3)
        )

    chosen = sorted(arms, key=rank)[:most]
    return [arm for arm in arms if arm in chosen]


def line(axes: Axes, x: Scores, y: Scores, style: LineStyle, label: str | None = None) -> None:
    """Draw one arm."""
    (drawn,) = axes.plot(x, y, color=style.colour, linewidth=style.width, label=label)
    if style.dashes:
        drawn.set_dashes(style.dashes)


def with_interval(value: OverSeeds) -> str:
    """Such as "0.81 (0.76 to 0.85)"."""
    if value.low is None or value.high is None or value.low == value.high:
        return f"{value.mean:.2f}".replace("-", "−")
    return f"{value.mean:.2f} ({value.low:.2f} to {value.high:.2f})".replace("-", "−")


_ENTRY_PT, _MARGIN_PT = 40.0, 12.0
"""Of a legend: what an entry takes beside its words, and what stays free at the sides."""


def legend_below(figure: Figure) -> None:
    """One legend for all panels, in as many columns as its words leave room for."""
    entries = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    size = float(STYLE["legend.fontsize"])
    widest = max((TextPath((0, 0), label, size=size).get_extents().width for label in entries), default=0.0)
    room = 72 * figure.get_figwidth() - _MARGIN_PT
    columns = max(1, min(len(entries), int(room / (widest + _ENTRY_PT))))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)
