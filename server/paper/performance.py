"""Tables 2 and 3: the six models in cross-validation, of everybody and of those without a missing value."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sarco_models.intervals import SMALL_SAMPLE
from sarco_models.metrics import holm
from server.paper.contradictions import notes_on
from server.paper.entries import (
    Entry,
    PaperTable,
    Part,
    fold_mean,
    folds_text,
    inside_text,
    limits_text,
    ours_text,
    over_seeds,
    p_range,
    paper_text,
    people_text,
    scaled,
    seeds_text,
    warnings_of,
)
from server.paper.finished import NOT_RUN, Finished
from server.paper.ordering import auc_of, order_sentence
from server.paper.published import (
    CHOSEN,
    COMBINATIONS,
    COMPLETE_CASES,
    CROSS_VALIDATION,
    FOUND,
    METRICS,
    NUMBERING,
    P_AGAINST_ALL,
    Analysis,
    Printed,
)
from server.results import OverSeeds
from server.tables import ABSENT, Cell, Table, TableRow, number

OUT_OF_FOLD = "participants, out-of-fold scores pooled over folds"
PAIRED = "same participants, out-of-fold scores pooled over folds; interval: DeLong, paired"
TEST = "DeLong, paired, two-sided, not adjusted"
HOLM = "the same, three comparisons as one family (Holm)"
COLUMNS = ("Measure", "Paper", "Ours", "95 % interval", "Difference", "Paper inside", "SD of seeds")
ALL = COMBINATIONS[-1]


def table_2(run: Finished | None) -> PaperTable:
    """Cross-validation of six models at A."""
    return _analysis("table2", f"Table 2 ({NUMBERING}). {CROSS_VALIDATION.title}", CROSS_VALIDATION, run, "paper")


def table_3(run: Finished | None) -> PaperTable:
    """The same on complete cases."""
    title = f"Table 3 ({NUMBERING}). {COMPLETE_CASES.title}"
    return _analysis("table3", title, COMPLETE_CASES, run, "complete_cases")


def _analysis(key: str, title: str, paper: Analysis, run: Finished | None, protocol: str) -> PaperTable:
    notes = notes_on(paper.notes)
    if run is None:
        return PaperTable(key, title, (NOT_RUN[protocol],), notes=notes)
    ours = next((f for c in COMBINATIONS if (f := auc_of(run, run.arm(c)))), None)
    whom = people_text(ours.n, ours.n_positive) if ours else "no candidate has results"
    sources = (
        f"Paper: {people_text(paper.people.participants, paper.people.positives)}. Ours: {whom}, "
        f"{seeds_text(run.results)}, {run.results.meta.protocol.folds or '?'} folds.",
        order_sentence(run, paper),
    )
    parts = (_models(paper, run), _comparisons(paper, run, P_AGAINST_ALL if protocol == "paper" else {}))
    return PaperTable(key, title, sources, warnings_of(run.results), parts, notes)


# --- six models -------------------------------------------------------------------------------------------------------


def _models(paper: Analysis, run: Finished) -> Part:
    entries: list[Entry] = []
    rows: list[TableRow] = []
    for combination in COMBINATIONS:
        network = run.network(combination)
        paper_network = "paper: ConvNeXt, " if network and combination is CHOSEN else ""
        rows.append(TableRow(divider=combination.title + (f" ({paper_network}ours: {network})" if network else "")))
        found = list(_model_entries(combination.key, combination.title, paper, run))
        rows += [performance_row(entry, (folds_text(entry),)) for entry in found]
        entries += found
    note = (
        "Every number counts participants. Ours: out-of-fold scores of all folds pooled (primary), mean over seeds, "
        "with the mean of the seeds' 95 % limits; folds: mean ± SD over folds (secondary: folds are not independent). "
        "AUC: DeLong. Shares: Wilson, exact below 40. F1: bootstrap of participants. Paper inside: its value lies "
        "within our interval (its own sampling error is not counted). A dash: not printed, or not in the run."
    )
    return Part(Table("Six models.", (*COLUMNS, "Folds, mean ± SD"), tuple(rows)), tuple(entries), note)


def _model_entries(model: str, title: str, paper: Analysis, run: Finished) -> Iterator[Entry]:
    arm = run.arm(next(c for c in COMBINATIONS if c.key == model))
    for metric, printed in with_both_f1(paper.models[model]).items():
        ours = run.results.over_seeds(arm, metric, run.site) if arm else None
        entry = performance_entry(title, metric, printed, ours, OUT_OF_FOLD)
        yield replace(entry, folds=fold_mean(run.results, arm, metric, run.site) if arm else None)
        if metric == "sensitivity" and ours and paper is CROSS_VALIDATION:
            yield from _found(model, title, ours)


def _found(model: str, title: str, sensitivity: OverSeeds) -> Iterator[Entry]:
    """How many of 101 with sarcopenia were found; the paper prints it of two models. Other numbers do not compare."""
    people = CROSS_VALIDATION.people.positives
    if model in FOUND and people is not None and sensitivity.n_positive == people:
        definition = "participants with sarcopenia, out-of-fold; sensitivity x 101"
        ours = scaled(sensitivity, people)
        yield Entry(title, "Found", definition, f"of {people} with sarcopenia", FOUND[model], ours, digits=0)


def with_both_f1(printed: Mapping[str, Printed]) -> dict[str, Printed | None]:
    """The printed numbers by metric, None for the F1 that the paper did not use."""
    return {metric: printed.get(metric) for metric in METRICS}


def performance_entry(
    group: str, metric: str, printed: Printed | None, ours: OverSeeds | None, definition: str
) -> Entry:
    """One metric of one model at one place, with words on its interval and on whom it is of."""
    measure, interval, brief = METRICS.get(metric, metric), "", ""
    if metric in ("f1_macro", "f1_positive"):
        interval = "interval: bootstrap of participants"
        brief = "mean of both classes" if metric == "f1_macro" else "sarcopenia only"
    elif metric == "auc":
        interval, brief = "interval: DeLong, logit scale", f"n = {ours.n}" if ours and ours.n else ""
    elif metric != "threshold":
        interval, brief = _share_words(metric, ours)
    return Entry(group, measure, "; ".join(w for w in (definition, interval) if w), brief, paper=printed, ours=ours)


def _share_words(metric: str, ours: OverSeeds | None) -> tuple[str, str]:
    """How a share's interval is made, and of whom the share is."""
    if ours is None or ours.n is None or ours.n_positive is None:
        return "interval: Wilson, exact below 40", ""
    of = {"sensitivity": (ours.n_positive, " with sarcopenia"), "specificity": (ours.n - ours.n_positive, " without")}
    count, words = of.get(metric, (ours.n, ""))
    method = "Clopper-Pearson" if count < SMALL_SAMPLE else "Wilson"
    return f"interval: {method}", f"of {count}{words}"


def performance_row(entry: Entry, last: tuple[str, ...] = (), after_paper: tuple[str, ...] = ()) -> TableRow:
    """The cells of an entry, by :data:`COLUMNS`."""
    ours = entry.ours
    limits = limits_text(ours.low, ours.high, entry.digits) if ours else ABSENT
    difference = number(entry.difference, entry.digits, signed=True)
    spread = number(ours.sd if ours else None, entry.digits)
    texts = (paper_text(entry), *after_paper, ours_text(entry), limits, difference, inside_text(entry), spread, *last)
    below = (entry.brief,) if entry.brief else ()
    return TableRow((Cell(entry.measure, below), *(Cell(text) for text in texts)), lead=entry.measure == "AUC")


# --- against each other -----------------------------------------------------------------------------------------------


def _comparisons(paper: Analysis, run: Finished, printed: Mapping[str, Printed]) -> Part:
    """All three kinds of data against ultrasound alone and against two: one family for Holm in each seed."""
    first = run.arm(ALL)
    others = {c.key: run.arm(c) for c in COMBINATIONS if c.key in P_AGAINST_ALL}
    raw = {key: run.p_values(first, arm) if first and arm else {} for key, arm in others.items()}
    adjusted = adjusted_p(raw)
    entries: list[Entry] = []
    rows = []
    for key, arm in others.items():
        name = f"All data against {next(c.title for c in COMBINATIONS if c.key == key).lower()}"
        found = run.difference(first, arm) if first and arm else None
        theirs = _printed_difference(paper, key)
        difference = Entry(name, "Difference in AUC", PAIRED, paper=theirs, ours=found)
        p = Entry(name, "P", TEST, paper=printed.get(key), ours=over_seeds(_named(raw[key])), p_value=True)
        p_holm = Entry(name, "P (Holm)", HOLM, ours=over_seeds(_named(adjusted[key])), p_value=True)
        entries += [difference, p, p_holm]
        limits = limits_text(found.low, found.high, 3, signed=True) if found else ABSENT
        gaps = (number(value, 3, signed=True) for value in (theirs.value, found.mean if found else None))
        p_values = paper_text(p), p_range(raw[key].values()), p_range(adjusted[key].values())
        rows.append(TableRow(tuple(Cell(text) for text in (name, *gaps, limits, *p_values))))
    head = ("Difference in AUC", "Paper", "Ours", "95 % interval", "P, paper", "P, ours", "P, ours (Holm)")
    note = (
        "The paper's differences are those of its printed AUCs. P: DeLong's paired test; ours lowest to highest of the "
        "seeds, Holm within each seed. The paper adjusts for nothing."
    )
    return Part(Table("All three kinds of data against fewer.", head, tuple(rows)), tuple(entries), note)


def _printed_difference(paper: Analysis, key: str) -> Printed:
    gap = paper.models[ALL.key]["auc"].value - paper.models[key]["auc"].value
    return Printed(round(gap, 3), f"difference of two printed AUCs, n = {paper.people.participants}")


def _named(values: Mapping[int, float]) -> dict[str, float]:
    return {str(seed): value for seed, value in values.items()}


def adjusted_p(raw: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, float]]:
    """Holm's adjustment within each seed, of the comparisons that the seed has."""
    adjusted: dict[str, dict[int, float]] = {key: {} for key in raw}
    for seed in sorted({seed for values in raw.values() for seed in values}):
        tested = [key for key in raw if seed in raw[key]]
        for key, value in zip(tested, holm([raw[key][seed] for key in tested]), strict=True):
            adjusted[key][seed] = value
    return adjusted
