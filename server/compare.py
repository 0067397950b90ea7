"""``sarco-lab compare``: two runs beside each other, in a terminal, as compare.html and as compare.csv."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from sarco_models.errors import RunError
from server import muscle_compare
from server.arms import place_name
from server.measured import FILE as MEASURED
from server.muscle_compare import MuscleComparison, compared_muscles
from server.muscle_run import finds_muscles
from server.page import HEAD, MACROS, render
from server.report import write_csv, write_text
from server.results import Results, read_results
from server.run_differences import ArmDifference, Comparison, compared
from server.tables import ABSENT, METRICS, Cell, Table, TableRow, number, p_range, texts

MOST_SETTINGS = 12
MOST_NAMED = 6
MOST_LETTERS = 60
HTML = (
    MACROS
    + HEAD
    + """
{% for line in warnings %}<p class="missing loud"><b>Read this first.</b> {{ line }}</p>{% endfor %}
<section class="finding">{% for line in words %}<p>{{ line }}</p>{% endfor %}</section>
<h2>AUC, arm by arm</h2>{{ grid(aucs) }}<p class="note">{{ note }}</p>
{{ folded("Hospital by hospital, not adjusted", hospitals) }}
<h2>What differs between the runs</h2>{{ grid(settings) }}
<h2>All numbers</h2>{{ folded("Every number of every shared arm", metrics) }}
</main></body></html>
"""
)
NOTE = (
    "Second run minus first: above 0 the second is better. Same people: paired DeLong test. Other people: the two "
    "AUCs' DeLong variances added up. Holm's adjustment covers the trained arms of this table, for each pair of seeds; "
    "where there are several, the mean difference, the mean of the limits, and the lowest and highest P are shown. No "
    "difference found is not proof of equality: look at the interval."
)


MUSCLES_HTML = (
    MACROS
    + HEAD
    + """
{% for line in warnings %}<p class="missing loud"><b>Read this first.</b> {{ line }}</p>{% endfor %}
<section class="finding">{% for line in words %}<p>{{ line }}</p>{% endfor %}</section>
<h2>Dice, arm by arm and muscle by muscle</h2>{{ grid(dice) }}<p class="note">{{ note }}</p>
<h2>What differs between the runs</h2>{{ grid(settings) }}
</main></body></html>
"""
)


def compare_runs(first: Path, second: Path, out: Path | None = None) -> Comparison | MuscleComparison:
    """Compare two run folders, arm by arm under the same name.

    Args:
        first: folder with results.json, and scores.csv for paired tests.
        second: another one.
        out: folder for compare.html and compare.csv; None writes nothing.

    Raises:
        RunError: a folder is no run, both are the same one, or one finds muscles and the other does not.
    """
    if first.resolve() == second.resolve():
        raise RunError(f"{first}: this is the same run twice: name two different folders")
    runs, names = (_read(first), _read(second)), _names(first.resolve(), second.resolve())
    muscles = [finds_muscles(run) for run in runs]
    if muscles[0] != muscles[1]:
        which, other = (first, second) if muscles[0] else (second, first)
        raise RunError(f"{which} finds muscles and {other} a diagnosis: no number is in both; name two of one kind")
    if muscles[0]:
        of_muscles = compared_muscles((first, second), runs, names)
        if out is not None:
            _write_muscles(of_muscles, out)
        return of_muscles
    found = compared(*runs, names)
    if out is not None:
        write_comparison(found, out)
    return found


def _read(folder: Path) -> Results:
    if (folder / MEASURED).exists() and not (folder / "results.json").exists():
        raise RunError(
            f"{folder}: is the run directory of a federation: it holds what hospitals told and no person's scores, so "
            "that there is nothing to compare people by; `sarco-lab report` writes its page"
        )
    return read_results(folder)


def _write_muscles(found: MuscleComparison, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "compare.csv", list(muscle_compare.lines(found)))
    page = render(
        MUSCLES_HTML,
        title=f"{found.names[0]} and {found.names[1]}",
        synthetic=found.synthetic,
        subtitle=f"{found.first.results.meta.title}  ·  {found.second.results.meta.title}",
        warnings=found.warnings,
        words=muscle_compare.words(found),
        note=muscle_compare.NOTE,
        dice=muscle_compare.table(found),
        settings=muscle_compare.settings_table(found),
    )
    write_text(out / "compare.html", page)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """As short as they can be told apart."""
    return (first.name, second.name) if first.name != second.name else (str(first), str(second))


def write_comparison(found: Comparison, out: Path) -> Path:
    """Write compare.html and compare.csv; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "compare.csv", list(_lines(found)))
    page = render(
        HTML,
        title=f"{found.names[0]} and {found.names[1]}",
        synthetic="mixed" if found.mixed else found.synthetic,
        subtitle=f"{found.first.meta.title}  ·  {found.second.meta.title}",
        warnings=found.warnings,
        words=words(found),
        note=NOTE,
        aucs=_auc_table(found, found.aucs, "AUC where all ways of training meet."),
        hospitals=_auc_table(found, found.hospitals, "AUC on each hospital's held-out people."),
        settings=_settings_table(found),
        metrics=_metrics_table(found),
    )
    return write_text(out / "compare.html", page)


def words(found: Comparison) -> list[str]:
    """What is compared with what, in sentences."""
    if not found.shared:
        return [f"The two runs share no way of training: {_named(found, found.only_first)} in the first, "
                f"{_named(found, found.only_second)} in the second. Nothing can be compared."]  # fmt: skip
    apart = [arm for arm in found.aucs if all((d.p_holm or 0.0) < 0.05 for d in arm.by_seeds.values() if d.p_holm)]
    tested = [arm for arm in found.aucs if any(d.p_holm is not None for d in arm.by_seeds.values())]
    apart = [arm for arm in apart if arm in tested]
    lines = [
        f"{len(found.shared)} ways of training are in both runs, compared over {len(found.seeds)} "
        f"{'pair' if len(found.seeds) == 1 else 'pairs'} of seeds; {len(found.settings)} settings differ."
    ]
    if tested:
        named = "; ".join(f"{found.arm_name(a.arm)} {number(a.mean.value, 3, signed=True)}" for a in apart)
        lines.append(
            f"AUC differs in every pair of seeds (P after Holm < 0.05) for {len(apart)} of {len(tested)}: {named}."
            if apart
            else f"For none of {len(tested)} does the AUC differ by more than chance in every pair of seeds."
        )
    for which, arms in (("first", found.only_first), ("second", found.only_second)):
        if arms:
            lines.append(f"Only in the {which} run: {_named(found, arms)}.")
    return lines


def _named(found: Comparison, arms: tuple[str, ...]) -> str:
    shown = [found.arm_name(arm) for arm in arms[:MOST_NAMED]]
    more = [f"{len(arms) - MOST_NAMED} more"] * (len(arms) > MOST_NAMED)
    return "; ".join([*shown, *more]) or "nothing"


# --- tables -----------------------------------------------------------------------------------------------------------


def _auc_table(found: Comparison, differences: tuple[ArmDifference, ...], caption: str) -> Table:
    rows: list[TableRow] = []
    for arm in differences:
        if len({d.site for d in differences}) > 1 and not any(r.divider == place_name(arm.site) for r in rows):
            rows.append(TableRow(divider=place_name(arm.site)))
        mean = arm.mean
        limits = f"{number(mean.low, 3, signed=True)} to {number(mean.high, 3, signed=True)}"
        spread = (f"SD {number(arm.sd, 3)}",) if arm.sd is not None else ()
        p, adjusted = _p_values(arm)
        numbers = Cell(number(arm.first, 3)), Cell(number(arm.second, 3))
        apart = Cell(number(mean.value, 3, signed=True), (limits, *spread))
        rows.append(TableRow((Cell(found.arm_name(arm.arm)), *numbers, apart, *texts(p, adjusted, arm.how))))
    head = ("Way of training", found.names[0], found.names[1], "Difference", "P", "P (Holm)", "How")
    return Table(caption, head, tuple(rows), text=(6,))


def _p_values(arm: ArmDifference) -> tuple[str, str]:
    every = list(arm.by_seeds.values())
    return p_range(d.p for d in every), p_range(d.p_holm for d in every if d.p_holm is not None)


def _settings_table(found: Comparison) -> Table:
    rows = tuple(TableRow(texts(key, *values)) for key, values in found.settings.items())
    return Table("Settings and facts that differ.", ("Setting", *found.names), rows, text=(0, 1, 2))


def _metrics_table(found: Comparison) -> Table:
    rows: list[TableRow] = []
    for m in found.metrics:
        name, digits = METRICS[m.metric]
        heading = found.arm_name(m.arm)
        if not any(row.divider == heading for row in rows):
            rows.append(TableRow(divider=heading))
        apart = number(m.second - m.first, digits, signed=True)
        rows.append(TableRow(texts(name, number(m.first, digits), number(m.second, digits), apart)))
    caption = "Means over each run's seeds, where all ways of training meet; no test."
    return Table(caption, ("Number", *found.names, "Difference"), tuple(rows))


def _lines(found: Comparison) -> Iterator[list[object]]:
    head = ("arm", "site", "metric", "first_seed", "second_seed", "first", "second", "difference", "ci_low", "ci_high")
    yield [*head, "p", "p_holm", "how"]
    for arm in (*found.aucs, *found.hospitals):
        for (one, other), d in arm.by_seeds.items():
            sides = [_of_seed(run, arm, seed) for run, seed in ((found.first, one), (found.second, other))]
            numbers = (d.value.value, d.value.low, d.value.high, d.p, d.p_holm, d.how)
            yield [arm.arm, arm.site, "auc", one, other, *sides, *numbers]
    for m in found.metrics:
        means = (m.first, m.second, m.second - m.first)
        yield [m.arm, found.first.home, m.metric, "", "", *means, "", "", "", "", "means over seeds"]


def _of_seed(run: Results, arm: ArmDifference, seed: int) -> float | None:
    return next((row.value for row in run.final(arm.arm, "auc", arm.site) if row.seed == seed), None)


# --- terminal ---------------------------------------------------------------------------------------------------------


def terminal(found: Comparison | MuscleComparison) -> RenderableType:
    """The same for a terminal: warnings, AUCs (of muscles Dice), and the first of the settings that differ."""
    if isinstance(found, MuscleComparison):
        return muscle_compare.muscle_terminal(found)
    parts: list[RenderableType] = [Text(f"READ THIS FIRST  {line}", style="bold red") for line in found.warnings]
    marks = [("SYNTHETIC " if run.meta.synthetic else "") + name for run, name in _sides(found)]
    parts.append(Text(f"{marks[0]} (first) and {marks[1]} (second)", style="bold"))
    parts += [Text(line) for line in words(found)]
    if found.aucs:
        parts.append(_auc_grid(found))
    parts += [
        Text(f"  {key}: {_shortened(one)} -> {_shortened(other)}")
        for key, (one, other) in list(found.settings.items())[:MOST_SETTINGS]
    ]
    more = len(found.settings) - MOST_SETTINGS
    if more > 0:
        parts.append(Text(f"  and {more} more settings, see compare.html"))
    return Group(*parts)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 3] + "..."


def _sides(found: Comparison) -> list[tuple[Results, str]]:
    return [(found.first, found.names[0]), (found.second, found.names[1])]


def _auc_grid(found: Comparison) -> Grid:
    """Numbers are never cut; a long name folds. How it was tested is said once where it is always the same."""
    ways = {arm.how for arm in found.aucs}
    title = "AUC, second minus first" + (f"; {ways.pop()}" if len(ways) == 1 else "")
    grid = Grid(box=None, padding=(0, 1), title=title, title_justify="left")
    rows = [_auc_cells(arm) for arm in found.aucs]
    grid.add_column("arm", overflow="fold")
    for position, heading in enumerate(("first", "second", "difference (95 % interval)", "P Holm"), start=1):
        width = max(len(heading) if position != 3 else 0, *(len(row[position]) for row in rows))
        grid.add_column(heading, justify="right", min_width=width)
    if ways:
        grid.add_column("how", overflow="fold")
    for arm, cells in zip(found.aucs, rows, strict=True):
        grid.add_row(*cells, *([arm.how] if ways else []))
    return grid


def _auc_cells(arm: ArmDifference) -> tuple[str, str, str, str, str]:
    mean = arm.mean
    apart = f"{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})"
    adjusted = _p_values(arm)[1]
    return arm.arm, f"{arm.first:.3f}", f"{arm.second:.3f}", apart, "-" if adjusted == ABSENT else adjusted
