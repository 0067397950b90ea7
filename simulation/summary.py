"""The comparison in a terminal: one line an arm, intervals always beside the point estimates."""

from collections.abc import Callable, Iterator

from rich.table import Table

from server.arms import CENTRAL, ArmName
from server.muscle_run import MuscleRun, finds_muscles
from server.results import OverSeeds, Results

_NUMBERS = {"sensitivity": "sens.", "specificity": "spec.", "f1_macro": "F1 macro", "brier": "Brier"}


def summary(results: Results) -> Table:
    """AUC with its interval where all arms meet, and the numbers at the frozen threshold; means over seeds.

    Arms that belong to one hospital stand beneath, with the AUC of its own held-out people. Of arms that find muscles
    there is the Dice of each muscle instead.
    """
    if finds_muscles(results):
        return _of_muscles(MuscleRun(results))
    table = Table(title=_title(results), title_justify="left", box=None, padding=(0, 1))
    table.add_column("arm", no_wrap=True, min_width=25)
    for heading in ("AUC (95 % interval)", *_NUMBERS.values()):
        table.add_column(heading, justify="right", no_wrap=True, min_width=max(5, len(heading)))
    for arm in results.arms:
        cells = [_cell(results, arm, metric, results.home) for metric in ("auc", *_NUMBERS)]
        if any(cell != "-" for cell in cells):
            table.add_row(_short(results, arm), *cells, style="bold" if arm == results.lead else None)
    for arm, site in _elsewhere(results, lambda arm, site: results.over_seeds(arm, "auc", site)):
        table.add_row(
            f"{_short(results, arm)} at {site}", *(_cell(results, arm, metric, site) for metric in ("auc", *_NUMBERS))
        )
    return table


def _of_muscles(run: MuscleRun) -> Table:
    """Dice of each muscle, a line an arm; beneath, arms that belong to one hospital, with its own held-out people."""
    results = run.results
    people = next((found.n for arm in run.arms if (found := run.dice(arm, "", run.home))), None)
    where = "central test cohort" if run.home == CENTRAL else "all who were held out"
    title = ("SYNTHETIC " if results.meta.synthetic else "") + f"{where}, {people} people, Dice"
    seeds = f", mean of {len(results.seeds)} seeds" if len(results.seeds) > 1 else ""
    table = Table(title=title + seeds, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    for heading in (*(["mean over muscles"] if len(run.titles) > 1 else []), *run.titles.values()):
        table.add_column(heading.lower(), justify="right", min_width=_longest(heading))
    arms = [(arm, run.home) for arm in run.arms if run.dice(arm, "", run.home)]
    elsewhere = _elsewhere(results, lambda arm, site: run.dice(arm, "", site))
    for arm, site in [*arms, *elsewhere]:
        name = arm.replace(":", ":\n").replace("@", "\n@") + (f"\nat {site}" if (arm, site) in elsewhere else "")
        mean = run.dice(arm, "", site)
        means = [f"{_number(mean)}\n{_limits(mean)}"] if len(run.titles) > 1 else []
        each = [(run.dice(arm, muscle, site), run.untrained(arm, muscle)) for muscle in run.titles]
        cells = [_number(found) + " *"[bool(found and untaught)] for found, untaught in each]
        table.add_row(name, *means, *cells, style="bold" if arm == run.lead else None)
    if any(run.untrained(arm, muscle) for arm in run.arms for muscle in run.titles):
        table.caption, table.caption_justify = "*: nobody whom this arm learned from had the muscle drawn", "left"
    return table


def _longest(heading: str) -> int:
    """Columns of a terminal that its longest word needs, and a Dice with its star."""
    return max(6, *map(len, heading.split()))


def planned_words(results: Results) -> Iterator[str]:
    """Of each network that the hospitals of the run have planned: what it is, and what to look at twice."""
    of_muscles = results.tables.get("muscles")
    plans = of_muscles.get("plans", {}) if isinstance(of_muscles, dict) else {}
    for variant, by_seed in plans.items():
        for seed, about in by_seed.items():
            plan = about["plan"]
            whose = f"{variant or 'the study'}, seed {seed}, planned by the sums of {len(about['sites'])} hospitals"
            side, features = plan["patch"][0], plan["features"]
            yield (
                f"{whose}: {side} x {side} pixels of {plan['mm_per_pixel']:g} mm, {len(features)} stages of "
                f"{features[0]} to {features[-1]} features"
            )
            yield from (f"  {warning}" for warning in about["warnings"])


def _limits(found: OverSeeds | None) -> str:
    if found is None or found.low is None or found.high is None:
        return "-"
    return f"{found.low:.3f}-{found.high:.3f}".replace("0.", ".")


def _number(found: OverSeeds | None) -> str:
    return "-" if found is None else f"{found.mean:.3f}"


def _interval(found: OverSeeds | None) -> str:
    if found is None or found.low is None or found.high is None:
        return _number(found)
    return f"{found.mean:.3f} ({found.low:.3f}-{found.high:.3f})"


def _short(results: Results, arm: str) -> str:
    """The arm's own name; in a cross-validation, whose hospital is in the title, the candidate's."""
    return ArmName.parse(arm).variant or arm if results.cross_validated else arm


def _title(results: Results) -> str:
    found = next((f for arm in results.compared if (f := results.over_seeds(arm, "auc", results.home))), None)
    people = f", {found.n} people, {found.n_positive} with {results.condition}" if found and found.n else ""
    where = "central test cohort" if results.home == CENTRAL else f"out of fold at {results.home}"
    seeds = f", mean of {len(results.seeds)} seeds" if len(results.seeds) > 1 else ""
    return ("SYNTHETIC " if results.meta.synthetic else "") + where + people + seeds


def _elsewhere(results: Results, scored: Callable[[str, str], OverSeeds | None]) -> list[tuple[str, str]]:
    """Personal arms at their hospitals, arms without a hospital at it, and the chosen candidate at the others."""
    shown = []
    for arm in results.arms:
        parts = ArmName.parse(arm)
        left_out = parts.kind in ("without", "pooled_without")
        wanted = results.personal(arm) or left_out or (results.cross_validated and arm == results.lead)
        sites = [parts.site] if left_out else [site for site in results.sites if site != results.home]
        shown += [(arm, site) for site in sites if wanted and scored(arm, site)]
    return shown


def _cell(results: Results, arm: str, metric: str, site: str) -> str:
    found = results.over_seeds(arm, metric, site)
    if found is None:
        return "-"
    return _interval(found) if metric == "auc" else _number(found)
