"""Figures of a comparison that finds muscles: Dice of each muscle and arm, differences between arms, learning."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.arms import ArmName
from server.drawing import LEAD, MUTED, PALE, WIDTH, LineStyle, legend_below, style_of, to_draw
from server.figures import Painter, learning_figure
from server.muscle_run import MuscleRun
from server.paper.published_muscles import DICE, REFERENCE
from server.results import OverSeeds, Results

MOST_ARMS = 8
AIM = 0.01
"""Federated within so much of pooled: what the project asks of itself."""
MARKERS = {"federated": "o", "pooled": "s", "local": "D"}
UNTRAINED = "hollow: no drawing of this muscle to learn from"
_BAND = "#e9ecef"


def dice_figure(results: Results) -> Figure | None:
    """One line for each muscle and arm; shaded: the range that the paper printed."""
    run = MuscleRun(results)
    arms = to_draw(results, run.arms, MOST_ARMS)
    if not any(run.dice(arm, muscle, run.home) for arm in arms for muscle in run.titles):
        return None
    groups = [*run.titles, *([""] if len(run.titles) > 1 else [])]
    height = 0.19 * len(arms) * len(groups) + 0.22 * len(groups) + 1.5
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(DICE[0].value, DICE[1].value, color=_BAND, zorder=0, label=f"{REFERENCE}: lowest to highest muscle")
    least, ticks, y = _least(run, arms), [], 0.0
    for muscle in groups:
        top = y
        for arm in arms:
            _dice_of(axes, run, (arm, muscle), y, least)
            y -= 1.0
        ticks.append(((top + y + 1) / 2, run.titles.get(muscle, "Mean over muscles")))
        y -= 1.1
    for arm in arms:
        style = style_of(arm, results)
        axes.plot([], [], _marker(arm), color=style.colour, markersize=5, label=results.arm_name(arm))
    axes.set(ylim=(y + 0.6, 1.0), yticks=[at for at, _ in ticks], yticklabels=[name for _, name in ticks])
    axes.tick_params(axis="y", length=0, labelsize=8.5, labelcolor="#1f2328")
    axes.set(xlabel="Dice, mean over participants with its 95 % interval", xlim=(least, 1.0))
    if any(run.untrained(arm, muscle) for arm in arms for muscle in run.titles):
        axes.plot([], [], "<", color=MUTED, markerfacecolor="white", markersize=5, label=UNTRAINED)
    legend_below(figure)
    return figure


def _dice_of(axes: Axes, run: MuscleRun, which: tuple[str, str], y: float, least: float) -> None:
    """One arm and muscle; hollow, and at the edge where it is worse, where the arm has never seen the muscle drawn."""
    arm, muscle = which
    found, style = run.dice(arm, muscle, run.home), style_of(arm, run.results)
    if found is None:
        return
    beyond, unseen = found.mean < least, bool(muscle) and run.untrained(arm, muscle)
    if not (beyond or unseen):
        _interval(axes, found, y, style, _marker(arm))
        return
    place = least + 0.008 * (1 - least) if beyond else found.mean
    face = "white" if unseen else style.colour
    axes.plot([place], [y], "<" if beyond else _marker(arm), color=style.colour, markerfacecolor=face, markersize=5)


def difference_figure(results: Results) -> Figure | None:
    """The lead minus pooled training, closely; and minus every hospital alone."""
    run = MuscleRun(results)
    others = to_draw(results, run.others(), MOST_ARMS)
    pooled = [arm for arm in others if ArmName.parse(arm).kind == "pooled"]
    panels = [arms for arms in (pooled, [arm for arm in others if arm not in pooled]) if arms]
    panels = [
        arms
        for arms in panels
        if any(run.difference(run.lead, arm, m, site=run.home) for arm in arms for m in run.titles)
    ]
    if not panels:
        return None
    groups = [*run.titles, *([""] if len(run.titles) > 1 else [])]
    most = max(len(arms) for arms in panels)
    figure = Figure(figsize=(WIDTH, (0.2 * most + 0.3) * len(groups) + 1.4), layout="constrained")
    for k, (axes, arms) in enumerate(zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True)):
        axes.axvline(0.0, color=MUTED, linewidth=0.8, zorder=0)
        if arms is pooled or arms == pooled:
            axes.axvspan(-AIM, AIM, color=_BAND, zorder=0, label="within .01 of pooled: the aim")
        _differences(axes, run, arms, groups)
        if k:
            axes.set_yticklabels([])
        words = _together(arms) or results.arm_name(arms[0])
        axes.set_title(f"{results.arm_name(run.lead)} minus {words}")
        axes.set_xlabel("Difference of Dice, 95 % interval")
        axes.locator_params(axis="x", nbins=5)
    legend_below(figure)
    return figure


def _together(arms: Sequence[str]) -> str:
    """What several arms are called together; empty for one."""
    alone = all(ArmName.parse(arm).kind == "local" for arm in arms)
    return "" if len(arms) == 1 else "each hospital alone" if alone else "the other ways of training"


def _differences(axes: Axes, run: MuscleRun, arms: Sequence[str], groups: Sequence[str]) -> None:
    step = 1.0 / (len(arms) + 1)
    for row, muscle in enumerate(groups):
        for k, arm in enumerate(arms):
            found = run.difference(run.lead, arm, muscle, site=run.home)
            style = style_of(arm, run.results)
            _interval(axes, found, -row - (k - (len(arms) - 1) / 2) * step, style, _marker(arm))
    for arm in arms:
        style = style_of(arm, run.results)
        axes.plot([], [], _marker(arm), color=style.colour, markersize=5, label=f"minus {run.results.arm_name(arm)}")
    axes.set(ylim=(-len(groups) + 0.4, 0.6), yticks=[-float(k) for k in range(len(groups))])
    axes.set_yticklabels([run.titles.get(muscle, "Mean over muscles") for muscle in groups])
    axes.tick_params(axis="y", length=0, labelcolor="#1f2328")
    for row in range(1, len(groups)):
        axes.axhline(0.5 - row, color=PALE, linewidth=0.6, zorder=0)


def curves_figure(results: Results) -> Figure | None:
    """Dice and loss by round."""
    return learning_figure(results, "dice", "Dice")


def _interval(axes: Axes, found: OverSeeds | None, y: float, style: LineStyle, marker: str) -> None:
    if found is None:
        return
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [y, y], color=style.colour, linewidth=1.7)
    axes.plot([found.mean], [y], marker, color=style.colour, markersize=5.5 if style.colour == LEAD else 4.5)


def _marker(arm: str) -> str:
    return MARKERS.get(ArmName.parse(arm).kind, "^")


def _least(run: MuscleRun, arms: Sequence[str]) -> float:
    taught = [(arm, muscle) for arm in arms for muscle in run.titles if not run.untrained(arm, muscle)]
    known = [found for arm, muscle in taught if (found := run.dice(arm, muscle, run.home))]
    ends = [found.mean if found.low is None else found.low for found in known]
    return max(0.0, min([0.75, *ends]) - 0.03)


PAINTERS: dict[str, Painter] = {"dice": dice_figure, "differences": difference_figure, "learning": curves_figure}
