"""Table 4: the model that was chosen at A, frozen, in the two other hospitals, and how it was chosen."""

from collections.abc import Iterator
from dataclasses import replace

from sarco_models.intervals import Estimate, proportion
from server.arms import NESTED
from server.paper.contradictions import notes_on
from server.paper.entries import (
    Entry,
    PaperTable,
    Part,
    limits_text,
    over_seeds,
    people_text,
    seeds_text,
    warnings_of,
)
from server.paper.finished import NOT_RUN, SELECTED, Finished
from server.paper.performance import COLUMNS, performance_entry, performance_row, with_both_f1
from server.paper.published import CHOSEN, METRICS, NUMBERING, VALIDATIONS, Group, Printed, Validation
from server.results import OverSeeds, Results
from server.tables import ABSENT, Cell, Table, TableRow, number

TITLE = f"Table 4 ({NUMBERING}). The frozen model in two other hospitals"
FROZEN = "participants, frozen ensemble at the threshold frozen on out-of-fold scores of A"
FURTHER = {"positive_rate": "Called positive", "threshold": "Frozen threshold"}


def table_4(run: Finished | None) -> PaperTable:
    """External validation and proof of concept."""
    notes = notes_on(sign for validation in VALIDATIONS for sign in (*validation.notes, "I25"))
    if run is None:
        return PaperTable("table4", TITLE, (NOT_RUN["paper"],), notes=notes)
    parts = (_validations(run), _selection(run))
    return PaperTable("table4", TITLE, tuple(_sources(run)), warnings_of(run.results), parts, notes)


def _sources(run: Finished) -> Iterator[str]:
    named = [f"{run.title(name)} ({count} of {run.selections().total()})" for name, count in run.selections().items()]
    yield f"The paper froze ultrasound alone (SARCO). Selected in our seeds: {', '.join(named) or 'not recorded'}."
    for validation, site in run.elsewhere():
        found = run.chosen.over_seeds(SELECTED, "auc", site) if site else None
        ours = people_text(found.n, found.n_positive) if found else "not run"
        whom = people_text(validation.people.participants, validation.people.positives)
        yield f"{validation.title}: paper {whom}; ours {ours}, {seeds_text(run.results)}."


# --- two other hospitals ----------------------------------------------------------------------------------------------


def _validations(run: Finished) -> Part:
    entries: list[Entry] = []
    rows: list[TableRow] = []
    for validation, site in run.elsewhere():
        for title, arm in _models(run):
            found = list(_entries(validation, site, title, arm, run.chosen))
            rows.append(TableRow(divider=found[0].group))
            rows += [performance_row(entry, after_paper=(_paper_limits(entry),)) for entry in found]
            entries += found
    head = (*COLUMNS[:2], "Its interval", *COLUMNS[2:])
    note = (
        "Participants, at the threshold frozen on out-of-fold participants of A. Ours: mean over seeds, with the mean "
        "of the seeds' 95 % limits (AUC: DeLong; shares: Wilson, exact below 40; F1: bootstrap of participants). The "
        "paper prints no intervals: those of its shares are ours, from the nearest counts. A dash: not printed, or not "
        "in the run."
    )
    return Part(Table("B and C.", head, tuple(rows)), tuple(entries), note)


def _models(run: Finished) -> Iterator[tuple[str, str]]:
    """What was selected, and where that is not what the paper froze, ultrasound alone as well."""
    names = " or ".join(run.title(name) for name in run.selections()) or "not recorded"
    yield f"selected: {names}", SELECTED
    own = run.arm(CHOSEN)
    if own and {f"cv:{run.site}@{name}" for name in run.selections()} != {own}:
        yield f"{CHOSEN.title} alone, what the paper froze", own


def _entries(validation: Validation, site: str | None, title: str, arm: str, results: Results) -> Iterator[Entry]:
    group = f"{validation.title}; {title}"
    for metric, printed in (with_both_f1(validation.performance) | dict.fromkeys(FURTHER)).items():
        ours = results.over_seeds(arm, metric, site) if site else None
        entry = performance_entry(group, metric, printed, ours, FROZEN)
        yield replace(
            entry,
            measure=FURTHER.get(metric, entry.measure),
            interval_of_paper=_interval_of(metric, printed, validation.people),
        )


def _interval_of(metric: str, printed: Printed | None, people: Group) -> Estimate | None:
    """The interval of a printed share, from the count that is nearest to it."""
    of = {"sensitivity": people.positives, "specificity": people.negatives, "accuracy": people.participants}
    count = of.get(metric)
    return None if printed is None or count is None else proportion(round(printed.value * count), count)


def _paper_limits(entry: Entry) -> str:
    found = entry.interval_of_paper
    return limits_text(found.low, found.high, entry.digits) if found else ABSENT


# --- how it was chosen ------------------------------------------------------------------------------------------------


def _selection(run: Finished) -> Part:
    """Seed by seed: who was selected, its value that it was selected by, and the nested estimate beside it."""
    protocol = run.results.meta.protocol
    metric = protocol.selection.metric if protocol.selection else "auc"
    entries: list[Entry] = []
    rows = []
    for seed, name in protocol.selected.items():
        of_seed = replace(run.results, rows=tuple(row for row in run.results.rows if row.seed == int(seed)))
        found = of_seed.over_seeds(f"cv:{run.site}@{name}", metric, run.site)
        nested = of_seed.over_seeds(f"cv:{run.site}@{NESTED}", metric, run.site)
        values = _optimism(f"Seed {seed}: {run.title(name)}", metric, found, nested)
        rows.append(TableRow((Cell(seed), Cell(run.title(name)), *map(_estimate, values))))
        entries += values
    measure = METRICS.get(metric, metric)
    head = ("Seed", "Selected", f"{measure}, selected by", f"{measure}, nested", "Optimism")
    rule = protocol.selection.rule if protocol.selection else ""
    note = (
        f"Rule, fixed before the run: {rule or 'not recorded'}. Nested: the candidate is chosen anew in each fold on "
        "inner validation people, so nobody who is scored took part in the choice; optimism is the first number minus "
        "the second."
    )
    return Part(Table("How the model was chosen.", head, tuple(rows), text=(1,)), tuple(entries), note)


def _optimism(group: str, metric: str, found: OverSeeds | None, nested: OverSeeds | None) -> tuple[Entry, ...]:
    measure = METRICS.get(metric, metric)
    gap = over_seeds({"gap": found.mean - nested.mean}) if found and nested else None
    return (
        Entry(group, f"{measure}, selected by", "participants, out-of-fold, not nested", ours=found),
        Entry(group, f"{measure}, nested", "participants, out-of-fold, chosen anew in each fold", ours=nested),
        Entry(group, "Optimism", "not nested minus nested", ours=gap),
    )


def _estimate(entry: Entry) -> Cell:
    if entry.ours is None:
        return Cell(ABSENT)
    limits = limits_text(entry.ours.low, entry.ours.high, entry.digits)
    shown = number(entry.ours.mean, entry.digits, signed=entry.measure == "Optimism")
    return Cell(shown, () if limits == ABSENT else (limits,))
