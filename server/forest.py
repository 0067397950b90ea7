"""The forest plot: every hospital by itself, and the hospitals pooled with fixed and with random effects."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sarco_models.metrics import Estimate, PooledAuc, pool_sites
from server.arms import ArmName, place_name
from server.drawing import LEAD, MUTED, PALE, WIDTH, style_of, with_interval
from server.results import OverSeeds, Results

SITES_TO_POOL = 3
SITES_TO_FORETELL = 5  # below it a prediction interval spans nearly everything and only puzzles
MOST_SITES = 30
ROW_INCHES = 0.27
MARKERS = {"without": "o"}
FILLED = ("federated", "pooled", "local", "cv")


def pooled_over_sites(results: Results, arm: str = "") -> PooledAuc | None:
    """The arm (the run's lead) pooled over hospitals' own held-out people; None with fewer than three usable ones."""
    found = [results.over_seeds(arm or results.lead, "auc", site) for site in results.sites]
    usable = [Estimate(f.mean, f.low, f.high) for f in found if f and f.low is not None and f.high is not None]
    inside = [e for e in usable if 0.0 < e.low < e.high < 1.0]
    # With two hospitals the Hartung-Knapp interval has one degree of freedom: it says 0 to 1, which only puzzles.
    return pool_sites(inside) if len(inside) >= SITES_TO_POOL else None


def forest_arms(results: Results, site: str) -> list[str]:
    """The arms that a hospital is shown with: the lead, pooled, its own, tuned by it, and trained without it."""
    lead = results.lead
    variant = ArmName.parse(lead).variant
    suffix = f"@{variant}" if variant else ""
    wanted = [lead, *(f"{kind}{suffix}" for kind in ("pooled", f"local:{site}", f"tuned:{site}", f"without:{site}"))]
    return [arm for arm in wanted if results.over_seeds(arm, "auc", site)]


def forest_figure(results: Results) -> Figure | None:
    """Several ways of training on each hospital's held-out people, and the lead pooled over the hospitals."""
    lines = [
        (site, arm, found)
        for site in results.sites[:MOST_SITES]
        for arm in forest_arms(results, site)
        if (found := results.over_seeds(arm, "auc", site)) is not None
    ]
    if not lines:
        return None
    # Hospitals that were trained on and scored out of fold are no sample of other hospitals: nothing to pool.
    pooled = None if results.cross_validated else pooled_over_sites(results)
    foretold = bool(pooled and pooled.prediction and pooled.sites >= SITES_TO_FORETELL)
    extra = (3.6 + foretold) if pooled else 0.4
    rows = len(lines) + len({site for site, _, _ in lines}) + extra
    height = ROW_INCHES * rows + 0.95
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.29, 0.5 / height, 0.49, 1.0 - 0.85 / height))
    bottom = _forest_lines(axes, lines, results)
    if pooled:
        _pooled(axes, pooled, bottom, foretold=foretold)
    axes.axvline(0.5, color=PALE, linewidth=1.0, zorder=0)
    low = min([f.low for _, _, f in lines if f.low is not None], default=0.5)
    axes.set(xlabel="AUC", yticks=[], xlim=(min(0.45, low - 0.02), 1.0), ylim=(bottom - extra + 0.4, 0.8))
    axes.spines["left"].set_visible(False)
    return figure


def _forest_lines(axes: Axes, lines: list[tuple[str, str, OverSeeds]], results: Results) -> float:
    y, previous, usual = 0.0, "", None
    for site, arm, found in lines:
        if site != previous:
            people = f"{found.n_positive} of {found.n} positive" if found.n is not None else ""
            row_text(axes, y, place_name(site), people, bold=True)
            y, previous, usual = y - 1.0, site, found.n
        style = style_of(arm, results)
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [y, y], color=style.colour, linewidth=1.4)
        kind = ArmName.parse(arm).kind
        face = style.colour if kind in FILLED else "white"
        size = 3.5 + min(5.0, (found.n or 0) ** 0.5 / 3)
        axes.plot([found.mean], [y], MARKERS.get(kind, "s"), color=style.colour, markersize=size, markerfacecolor=face)
        others = f" (n = {found.n})" if found.n != usual else ""
        row_text(axes, y, "   " + results.arm_name(arm) + others, with_interval(found), bold=False)
        y -= 1.0
    return y


def _pooled(axes: Axes, pooled: PooledAuc, y: float, *, foretold: bool) -> None:
    middle = y - 0.4
    diamond(axes, middle, pooled.random, filled=True)
    row_text(axes, middle, "All hospitals, random effects", _words(pooled.random), bold=True)
    diamond(axes, middle - 1.0, pooled.fixed, filled=False)
    row_text(axes, middle - 1.0, "   fixed effect", _words(pooled.fixed), bold=False)
    if foretold and pooled.prediction:
        further, at = pooled.prediction, middle - 2.0
        axes.plot([further.low, further.high], [at, at], color=LEAD, linewidth=1.0, linestyle=(0, (2, 1.5)))
        row_text(axes, at, "   A further hospital", f"{further.low:.2f} to {further.high:.2f}", bold=False)
    low, high = (f"{100 * limit:.0f}" for limit in pooled.i2_limits)
    words = f"   I² {100 * pooled.i2:.0f} % ({low} to {high} %), Q {pooled.q:.2f}, P {pooled.p:.2f}"
    row_text(axes, middle - 2.0 - foretold, words, "", bold=False)


def diamond(axes: Axes, y: float, estimate: Estimate, *, filled: bool) -> None:
    """A pooled value; its corners are the limits."""
    x = [estimate.low, estimate.value, estimate.high, estimate.value]
    axes.fill(x, [y, y + 0.33, y, y - 0.33], facecolor=LEAD if filled else "white", edgecolor=LEAD, linewidth=1.0)


def _words(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def row_text(axes: Axes, y: float, left: str, right: str, *, bold: bool) -> None:
    """Words on both sides of a line of a forest plot."""
    frame, weight = axes.get_yaxis_transform(), "bold" if bold else "normal"
    axes.text(-0.58, y, left, transform=frame, va="center", weight=weight, clip_on=False)
    axes.text(1.03, y, right, transform=frame, va="center", color=MUTED, clip_on=False)
