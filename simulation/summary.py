"""The comparison in a terminal: one line an arm, intervals always beside the point estimates."""

from statistics import fmean

from rich.table import Table

from server.results import CENTRAL, Results, Row


def summary(results: Results) -> Table:
    """Central AUC with its interval, and sensitivity and specificity at the frozen threshold; means over seeds."""
    rows = [r for r in results.rows if r.round is None and r.site == CENTRAL and r.value is not None]
    people = next((r for r in rows if r.metric == "auc"), None)
    kind = "SYNTHETIC " if results.meta.synthetic else ""
    seeds = len({r.seed for r in rows})
    title = f"{kind}central test cohort" + (
        f", {people.n} people, {people.n_positive} with sarcopenia" if people else ""
    )
    table = Table(
        title=title + (f", mean of {seeds} seeds" if seeds > 1 else ""), title_justify="left", box=None, padding=(0, 1)
    )
    table.add_column("arm", no_wrap=True, min_width=25)
    for heading in ("AUC (95 % interval)", "sens.", "spec.", "F1 macro", "Brier"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(5, len(heading)))
    for arm in dict.fromkeys(r.arm for r in rows):
        table.add_row(arm, *(_cell([r for r in rows if r.arm == arm], m) for m in _METRICS))
    return table


_METRICS = ("auc", "sensitivity", "specificity", "f1_macro", "brier")


def _cell(rows: list[Row], metric: str) -> str:
    values = [r.value for r in rows if r.metric == metric and r.value is not None]
    if not values:
        return "-"
    limits = [
        (r.ci_low, r.ci_high) for r in rows if r.metric == metric and r.ci_low is not None and r.ci_high is not None
    ]
    if metric != "auc" or len(limits) < len(values):
        return f"{fmean(values):.3f}"
    low, high = (fmean(side) for side in zip(*limits, strict=True))
    return f"{fmean(values):.3f} ({low:.3f}-{high:.3f})"
