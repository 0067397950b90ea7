"""The comparison in a terminal: one line an arm, intervals always beside the point estimates."""

from rich.table import Table

from server.arms import CENTRAL, ArmName
from server.results import Results

_NUMBERS = {"sensitivity": "sens.", "specificity": "spec.", "f1_macro": "F1 macro", "brier": "Brier"}


def summary(results: Results) -> Table:
    """AUC with its interval where all arms meet, and the numbers at the frozen threshold; means over seeds.

    Arms that belong to one hospital stand beneath, with the AUC of its own held-out people.
    """
    table = Table(title=_title(results), title_justify="left", box=None, padding=(0, 1))
    table.add_column("arm", no_wrap=True, min_width=25)
    for heading in ("AUC (95 % interval)", *_NUMBERS.values()):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(5, len(heading)))
    for arm in results.arms:
        cells = [_cell(results, arm, metric, results.home) for metric in ("auc", *_NUMBERS)]
        if any(cell != "-" for cell in cells):
            table.add_row(_short(results, arm), *cells, style="bold" if arm == results.lead else None)
    for arm, site in _elsewhere(results):
        table.add_row(
            f"{_short(results, arm)} at {site}", *(_cell(results, arm, metric, site) for metric in ("auc", *_NUMBERS))
        )
    return table


def _short(results: Results, arm: str) -> str:
    """The arm's own name; in a cross-validation, whose hospital is in the title, the candidate's."""
    return ArmName.parse(arm).variant or arm if results.cross_validated else arm


def _title(results: Results) -> str:
    found = next((f for arm in results.compared if (f := results.over_seeds(arm, "auc", results.home))), None)
    people = f", {found.n} people, {found.n_positive} with {results.condition}" if found and found.n else ""
    where = "central test cohort" if results.home == CENTRAL else f"out of fold at {results.home}"
    seeds = f", mean of {len(results.seeds)} seeds" if len(results.seeds) > 1 else ""
    return ("SYNTHETIC " if results.meta.synthetic else "") + where + people + seeds


def _elsewhere(results: Results) -> list[tuple[str, str]]:
    """Personal arms at their hospitals, arms without a hospital at it, and the chosen candidate at the others."""
    shown = []
    for arm in results.arms:
        parts = ArmName.parse(arm)
        left_out = parts.kind in ("without", "pooled_without")
        wanted = results.personal(arm) or left_out or (results.cross_validated and arm == results.lead)
        sites = [parts.site] if left_out else [site for site in results.sites if site != results.home]
        shown += [(arm, site) for site in sites if wanted and results.over_seeds(arm, "auc", site)]
    return shown


def _cell(results: Results, arm: str, metric: str, site: str) -> str:
    found = results.over_seeds(arm, metric, site)
    if found is None:
        return "-"
    if metric != "auc" or found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.3f}-{found.high:.3f})"
