"""Table 1: who the participants of A are, as printed and as in our run."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from server.paper.contradictions import notes_on
from server.paper.entries import Entry, PaperTable, Part, over_seeds, p_range, paper_text, seeds_text, warnings_of
from server.paper.finished import NOT_RUN, Finished
from server.paper.published import REFERENCE, TABLE_1, Characteristic, Count, Printed, Quartiles
from server.results import OverSeeds, Results
from server.tables import ABSENT, Cell, Table, TableRow, number

TITLE = "Table 1. Participants at A, without and with sarcopenia"
CLASSES = {"negative": "without sarcopenia", "positive": "with sarcopenia"}
TESTS = {
    "t": "Welch's t",
    "mann_whitney": "Mann-Whitney",
    "chi_square": "Pearson's chi-square",
    "fisher": "Fisher's exact",
}
LEVELS = ("yes", "male", "men", "1", "true")
"""Of a yes or no: the words of what the paper counts."""

PERCENT = "%"
KINDS = {"median": ("median", "q1", "q3"), "mean": ("mean", "sd"), "count": (PERCENT,)}
"""How a summary is told by its leading number, and the numbers that it has."""

JsonRow = Mapping[str, Any]


def table_1(run: Finished | None) -> PaperTable:
    """Baseline characteristics by class."""
    notes = notes_on(sign for row in TABLE_1.values() for sign in row.notes)
    if run is None:
        return PaperTable("table1", TITLE, (NOT_RUN["paper"],), notes=notes)
    seeds = _rows_by_seed(run.results, run.site)
    if not seeds:
        sources = (f"Not run: the run holds no baseline table of {run.site}.",)
        return PaperTable("table1", TITLE, sources, warnings_of(run.results), notes=notes)
    facts = run.results.meta.sites.get(run.site)
    ours = "not recorded"
    if facts and facts.participants is not None and facts.positives is not None:
        ours = f"{facts.participants - facts.positives} without, {facts.positives} with sarcopenia"
    sources = (f"Paper: 256 without, 101 with sarcopenia. Ours: {ours}, {seeds_text(run.results)}.",)
    return PaperTable("table1", TITLE, sources, warnings_of(run.results), (_part(seeds),), notes)


def _rows_by_seed(results: Results, site: str) -> dict[str, dict[str, JsonRow]]:
    """The row of each characteristic, by seed and column."""
    found = results.tables.get("baseline") or {}
    return {seed: _pick(rows) for seed, of in found.items() if (rows := of.get(site))}


def _pick(rows: Sequence[JsonRow]) -> dict[str, JsonRow]:
    picked: dict[str, JsonRow] = {}
    for row in rows:
        name = row.get("variable", "")
        if name not in picked or str(row.get("level", "")).lower() in LEVELS:
            # P stands at a variable's first line only.
            first = picked.get(name, row)
            picked[name] = {**row, "p": first.get("p"), "test": first.get("test")}
    return picked


def _part(seeds: Mapping[str, Mapping[str, JsonRow]]) -> Part:
    entries: list[Entry] = []
    rows = []
    for column, row in TABLE_1.items():
        ours = {seed: found[column] for seed, found in seeds.items() if column in found}
        cells: list[Cell] = [Cell(row.title)]
        for key, words in CLASSES.items():
            group = _of_class(ours, key)
            found = list(_entries(row, key, words, group))
            cells += [Cell(_printed_text(row, key)), _ours_cell(found, group)]
            entries += found
        p, tests = _p_entry(row, ours)
        entries.append(p)
        cells += [Cell(text) for text in (paper_text(p), p_range(_p_values(ours).values()), tests)]
        rows.append(TableRow(tuple(cells)))
    head = (
        "Characteristic",
        "Without, paper",
        "Without, ours",
        "With, paper",
        "With, ours",
        "P, paper",
        "P, ours",
        "Test, ours",
    )
    note = (
        "Median (first to third quartile), mean (SD) where said, or number (%). Ours: mean over seeds of each seed's "
        "number; beneath it the difference from the paper, of medians (or mean minus median) or percentage points. P: "
        "lowest to highest of the seeds. A dash: not in the run. ASMI, grip, walking speed and chair stands define the "
        f"label and never enter a model. Paper: {REFERENCE}."
    )
    return Part(Table("Characteristics.", head, tuple(rows), text=(7,)), tuple(entries), note)


# --- one characteristic -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    """Our summaries of one class: those seeds that have the commonest kind.

    Attributes:
        kind: of :data:`KINDS`; empty without any summary.
        values: the kind's numbers over seeds.
        words: how many seeds have another kind.
    """

    kind: str
    values: Mapping[str, OverSeeds]
    words: str


def _of_class(ours: Mapping[str, JsonRow], key: str) -> _Group:
    """The class's summaries; a mean and a median are never averaged together."""
    found = {seed: summary for seed, row in ours.items() if (summary := _numbers(row.get(key)))}
    kinds = Counter(_kind(summary) for summary in found.values())
    if not kinds:
        return _Group("", {}, "")
    kind = max(kinds, key=lambda each: (kinds[each], each == "median"))
    of_kind = {seed: summary for seed, summary in found.items() if _kind(summary) == kind}
    values = {
        name: each
        for name in KINDS[kind]
        if (each := over_seeds({seed: numbers[name] for seed, numbers in of_kind.items()}))
    }
    words = f"{len(of_kind)} of {len(found)} seeds" if len(of_kind) < len(found) else ""
    return _Group(kind, values, words)


def _numbers(summary: JsonRow | None) -> dict[str, float] | None:
    """A summary's numbers; a share as percent; None when it is hidden or absent."""
    if not summary:
        return None
    if "count" in summary:
        count, known = summary["count"], summary["known"]
        return None if count is None or not known else {PERCENT: 100.0 * count / known}
    names = KINDS["mean"] if "mean" in summary else KINDS["median"]
    return {name: float(summary[name]) for name in names} if all(summary.get(n) is not None for n in names) else None


def _kind(numbers: Mapping[str, float]) -> str:
    return "count" if PERCENT in numbers else "mean" if "mean" in numbers else "median"


def _entries(row: Characteristic, key: str, words: str, group: _Group) -> Iterator[Entry]:
    """Each number of the class; our mean stands beside the paper's median, and says so."""
    printed: Quartiles | Count = getattr(row, key)
    source = f"{row.source}, {words}"
    if isinstance(printed, Count):
        share = Printed(100 * printed.count / printed.of, f"{source} ({printed.count} of {printed.of})")
        definition = "participants with a value, percent"
        yield Entry(row.title, f"{words}, %", definition, paper=share, ours=group.values.get(PERCENT), digits=1)
        return
    digits = _digits(printed.median)
    parts = {"median": printed.median, "q1": printed.q1, "q3": printed.q3}
    for name, value in parts.items():
        ours, definition = group.values.get(name), "participants with a value"
        if group.kind == "mean" and name == "median":
            ours, definition = (
                group.values.get("mean"),
                "participants with a value; ours is the mean, the paper's the median",
            )
        paper = Printed(value, f"{source}, {name}")
        yield Entry(row.title, f"{words}, {name}", definition, paper=paper, ours=ours, digits=digits)
    if group.kind == "mean":
        yield Entry(row.title, f"{words}, SD", "participants with a value", ours=group.values.get("sd"), digits=digits)


def _digits(value: float) -> int:
    return 2 if value < 100 else 1


def _printed_text(row: Characteristic, key: str) -> str:
    printed: Quartiles | Count = getattr(row, key)
    if isinstance(printed, Count):
        percent = math.floor(1000 * printed.count / printed.of + 0.5) / 10  # 81.25 is printed as 81.3
        return f"{printed.count} ({percent:.1f} %)"
    digits = _digits(printed.median)
    return f"{printed.median:.{digits}f} ({printed.q1:.{digits}f} to {printed.q3:.{digits}f})"


def _ours_cell(entries: Sequence[Entry], group: _Group) -> Cell:
    lead = entries[0]
    if lead.ours is None:
        return Cell(ABSENT)
    value = number(lead.ours.mean, lead.digits)
    if group.kind == "count":
        shown = f"{value} %"
    elif group.kind == "mean":
        shown = f"{value} (SD {number(group.values['sd'].mean, lead.digits)})"
    else:
        ends = (number(group.values[name].mean, lead.digits) for name in ("q1", "q3"))
        shown = f"{value} ({' to '.join(ends)})"
    difference = number(lead.difference, lead.digits, signed=True)
    return Cell(shown, tuple(line for line in (difference, group.words) if line))


# --- P values ---------------------------------------------------------------------------------------------------------


def _p_values(ours: Mapping[str, JsonRow]) -> dict[str, float]:
    return {seed: float(row["p"]) for seed, row in ours.items() if row.get("p") is not None}


def _p_entry(row: Characteristic, ours: Mapping[str, JsonRow]) -> tuple[Entry, str]:
    used = dict.fromkeys(TESTS.get(str(test), str(test)) for found in ours.values() if (test := found.get("test")))
    tests = " or ".join(used) or ABSENT
    definition = f"two-sided; ours: {tests}; the paper: t, rank-sum or chi-square"
    entry = Entry(row.title, "P", definition, paper=row.p, ours=over_seeds(_p_values(ours)), p_value=True)
    return replace(entry, digits=2 if row.p.value >= 0.01 else 3), tests
