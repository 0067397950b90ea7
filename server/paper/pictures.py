"""All AUCs at a glance and Figures 3 to 6 of the paper with ours in them; styled like :mod:`server.figures`.

Ours is blue, the paper's a vermilion cross, told apart by shape as well as by colour. Which figure of the paper shows
what is inferred; the captions say so.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.drawing import INK, MUTED, PALE, STYLE, WARNING, WIDTH
from server.paper.finished import SELECTED, Finished
from server.paper.heat_maps import picture_of
from server.paper.published import COMBINATIONS, COMPLETE_CASES, CROSS_VALIDATION, Printed
from server.paper.roc_panels import CROSS, OURS, THEIRS, figure_3, figure_4, with_limits
from server.paper.shares import CLASSES, TITLES, Share, modality_shares
from server.results import OverSeeds, Results
from server.tables import number

Runs = Mapping[str, Finished]


def draw_figures(runs: Runs, folder: Path) -> dict[str, Path]:
    """Draw what the runs have numbers for, as figure3.png ... figure6.png and overview.png; the rest is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    painters: dict[str, Callable[[Runs], Figure | None]] = {
        "overview": overview,
        "figure3": figure_3,
        "figure4": figure_4,
        "figure5": figure_5,
    }
    drawn: dict[str, Path] = {}
    synthetic = any(run.results.meta.synthetic for run in runs.values())
    with mpl.rc_context(STYLE):
        for name, paint in painters.items():
            figure = paint(runs)
            path = folder / f"{name}.png"
            path.unlink(missing_ok=True)  # of an earlier run that had more
            if figure is None:
                continue
            if synthetic:
                figure.suptitle("SYNTHETIC DATA", x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
            figure.savefig(path, dpi=200, facecolor="white")
            figure.clear()
            drawn[name] = path
    return drawn | _figure_6(runs, folder / "figure6.png")


def _figure_6(runs: Runs, path: Path) -> dict[str, Path]:
    """The run's own picture of its heat maps, as it was drawn."""
    path.unlink(missing_ok=True)
    picture = picture_of(runs["paper"]) if "paper" in runs else None
    if picture is None:
        return {}
    shutil.copyfile(picture, path)
    return {"figure6": path}


# --- all AUCs ---------------------------------------------------------------------------------------------------------


def overview(runs: Runs) -> Figure | None:
    """Every printed AUC as a cross, ours as a dot with its interval."""
    groups = {title: lines for title, lines in _auc_groups(runs) if any(ours for _, _, ours in lines)}
    if not groups:
        return None
    count = sum(len(lines) + 1 for lines in groups.values())
    height = 0.24 * count + 1.0
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.27, 0.45 / height, 0.46, 1.0 - 0.85 / height))
    y = 0.0
    for title, lines in groups.items():
        _line_text(axes, y, (title, "", ""), weight="bold")
        y -= 1.0
        for name, printed, ours in lines:
            _auc_line(axes, y, (name, printed, ours))
            y -= 1.0
    lows = [ours.low for lines in groups.values() for _, _, ours in lines if ours and ours.low is not None]
    for x, words, colour in ((1.04, "ours (95 %)", OURS), (1.36, "paper", THEIRS)):
        axes.text(x, 0.0, words, transform=axes.get_yaxis_transform(), va="center", color=colour, clip_on=False)
    axes.axvline(0.5, color=PALE, linewidth=1.0, zorder=0)
    axes.set(xlabel="AUC", yticks=[], ylim=(y + 0.4, 0.7), xlim=(min([0.48, *lows]) - 0.01, 1.0))
    axes.spines["left"].set_visible(False)
    return figure


AucLine = tuple[str, Printed, OverSeeds | None]


def _auc_groups(runs: Runs) -> Iterator[tuple[str, list[AucLine]]]:
    for key, paper in (("paper", CROSS_VALIDATION), ("complete_cases", COMPLETE_CASES)):
        if run := runs.get(key):
            title = "Cross-validation at A" if key == "paper" else "Complete cases"
            lines = [
                (c.title, paper.models[c.key]["auc"], _auc(run.results, run.arm(c), run.site)) for c in COMBINATIONS
            ]
            yield title, lines
    if run := runs.get("paper"):
        yield (
            "Frozen model elsewhere",
            [
                (v.title.partition(" (")[0], v.performance["auc"], _auc(run.chosen, SELECTED, site))
                for v, site in run.elsewhere()
            ],
        )


def _auc(results: Results, arm: str | None, site: str | None) -> OverSeeds | None:
    return results.over_seeds(arm, "auc", site) if arm and site else None


def _auc_line(axes: Axes, y: float, line: AucLine) -> None:
    name, printed, ours = line
    if ours and ours.low is not None and ours.high is not None:
        axes.plot([ours.low, ours.high], [y, y], color=OURS, linewidth=1.4)
    if ours:
        axes.plot([ours.mean], [y], "o", color=OURS, markersize=5)
    # Above the line, so that neither hides the other where they agree.
    axes.plot([printed.value], [y + 0.38], **(CROSS | {"markersize": 7}), zorder=5)
    _line_text(
        axes, y, ("   " + name, with_limits(ours) if ours else "not run", f"{printed.value:.3f}"), weight="normal"
    )


def _line_text(axes: Axes, y: float, texts: tuple[str, str, str], *, weight: str) -> None:
    for x, text, colour in zip((-0.56, 1.04, 1.36), texts, (INK, MUTED, MUTED), strict=True):
        axes.text(
            x, y, text, transform=axes.get_yaxis_transform(), va="center", color=colour, weight=weight, clip_on=False
        )


# --- which data a decision rests on -----------------------------------------------------------------------------------


def figure_5(runs: Runs) -> Figure | None:
    """Shares of the three kinds of data, by class; one row of panels for each analysis."""
    found = {
        key: shares for key in ("paper", "complete_cases") if key in runs and (shares := modality_shares(runs[key]))
    }
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, 0.7 + 1.75 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), len(CLASSES), squeeze=False, sharex=True, sharey=True)
    for panels, (key, of_run) in zip(grid, found.items(), strict=True):
        for axes, (of, words) in zip(panels, CLASSES.items(), strict=True):
            _share_panel(axes, [share for share in of_run if share.of == of])
            axes.set_title(words + (", complete cases" if key == "complete_cases" else ""))
    figure.supxlabel(
        "Share of the contributions (mean absolute Shapley value); dot: ours with 95 % interval, cross: paper",
        fontsize=8,
    )
    return figure


def _share_panel(axes: Axes, shares: list[Share]) -> None:
    for y, share in enumerate(reversed(shares)):
        if share.ours:
            low, high = share.ours.low, share.ours.high
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=OURS, linewidth=1.6)
            axes.plot([share.ours.mean], [y], "o", color=OURS, markersize=5.5)
        if share.paper:
            axes.plot([share.paper.value], [y + 0.24], **(CROSS | {"markersize": 7}), zorder=5)
        values = share.ours.mean if share.ours else None, share.paper.value if share.paper else None
        for x, value, colour in zip((1.03, 1.18), values, (OURS, THEIRS), strict=True):
            axes.text(x, y, number(value, 3), va="center", fontsize=7.5, color=colour, clip_on=False)
    names = [TITLES.get(share.modality, share.modality) for share in reversed(shares)]
    axes.set(xlim=(0, 1), ylim=(-0.6, len(shares) - 0.4), yticks=range(len(shares)), yticklabels=names)
