"""A ledger's figures: what was spent by study, by round and over time, on the participant who has spent most."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from client.charges import ACKNOWLEDGED, PEOPLE, SPEND, Charges, Row, worst
from client.ledger import BudgetConfig, Ledger
from sarco_models.accounting import Spend

_POINTS = 32
"""Charges at which the curve over time is computed; more would take minutes and could not be seen."""


@dataclass(frozen=True)
class Part:
    """Charges of one kind in a row: rounds that were charged alike, or releases of statistics."""

    task: str
    first: int
    last: int
    times: int
    spend: Spend

    @property
    def words(self) -> str:
        """Which rounds, or how many answers."""
        if not self.first:
            return f"{self.task}, {counted(self.times, 'answer')}"
        span = f"round {self.first}" if self.first == self.last else f"rounds {self.first} to {self.last}"
        repeated = self.times - (self.last - self.first + 1)
        again = f", {counted(repeated, 'of them repeated', 'of them repeated')}" if repeated > 0 else ""
        return f"{self.task}, {span}{again}"

    @property
    def facts(self) -> str:
        """What was done each time."""
        noise, rate = f"noise {self.spend.noise_multiplier:.4g}", self.spend.sample_rate
        if self.spend.noise_multiplier == 0:
            return "without protection"
        if not self.first:
            return noise
        who = "everybody in each" if rate == 1 else f"each person in one of {1 / rate:.3g}"
        return f"{counted(self.spend.steps, 'step')} a round, {noise}, {who}"


@dataclass(frozen=True)
class StudySpent:
    """What one study has spent.

    Attributes:
        study: digest.
        title: where the hospital has read it; else empty.
        began: first charge, UTC.
        ended: last charge, UTC.
        people: participants who were charged.
        epsilon: of the worst of them, for this study alone; infinite without protection.
        parts: what it was charged for.
    """

    study: str
    title: str
    began: str
    ended: str
    people: int
    epsilon: float
    parts: tuple[Part, ...]

    @property
    def when(self) -> str:
        """First and last day."""
        first, last = self.began[:10], self.ended[:10]
        return first if first == last else f"{first} to {last}"

    @property
    def name(self) -> str:
        """Title and the digest's beginning."""
        return f"{self.title} ({self.study[:12]})" if self.title else f"study {self.study[:12]}"


@dataclass(frozen=True)
class Point:
    """The hospital's figure just after one charge (from 1): of everything, and of the study that was charged."""

    charge: int
    at: str
    study: str
    lifetime: float
    of_study: float


@dataclass(frozen=True)
class Summary:
    """Everything that is shown.

    Attributes:
        site: the hospital.
        synthetic: whether its people are made by a computer.
        budget: its limits, delta and accountant.
        epsilon: of the worst person, over all studies.
        worst_people: how many have spent that much.
        people: how many were charged anything.
        in_doubt: how many may be somebody else under another name.
        studies: in the order of their first charge.
        changes: what became of the tables and of doubts, each in a sentence.
        head: of the ledger.
        points: the figure over time.
    """

    site: str
    synthetic: bool
    budget: BudgetConfig
    epsilon: float
    worst_people: int
    people: int
    in_doubt: int
    studies: tuple[StudySpent, ...]
    changes: tuple[str, ...]
    head: str
    points: tuple[Point, ...]


def summary(
    ledger: Ledger,
    budget: BudgetConfig,
    site: str = "",
    titles: Mapping[str, str] | None = None,
    *,
    over_time: bool = True,
) -> Summary:
    """Read a ledger by the hospital's own delta and accountant; the figure over time takes longest, and is optional."""
    rows = [row for row, _charges in ledger.replay()]
    charges = ledger.charges
    groups = [(g.people, worst(g.histories(), budget.delta, budget.accountant)) for g in charges.groups()]
    most = max((cost for _people, cost in groups), default=0.0)
    return Summary(
        site=site,
        synthetic=False,
        budget=budget,
        epsilon=most,
        worst_people=sum(people for people, cost in groups if cost == most and most > 0),
        people=charges.people_charged(),
        in_doubt=charges.people_in_doubt,
        studies=tuple(_studies(rows, charges, budget, titles or {})),
        changes=tuple(_changes(rows)),
        head=ledger.head,
        points=tuple(_points(ledger, rows, budget)) if over_time else (),
    )


def _studies(
    rows: Sequence[Row], charges: Charges, budget: BudgetConfig, titles: Mapping[str, str]
) -> Iterator[StudySpent]:
    for study in dict.fromkeys(row.study for row in rows if row.kind == SPEND):
        own = [row for row in rows if row.kind == SPEND and row.study == study]
        yield StudySpent(
            study=study,
            title=titles.get(study, ""),
            began=own[0].at,
            ended=own[-1].at,
            people=len(frozenset[bytes]().union(*(charges.sets[row.people] for row in own))),
            epsilon=_of_study(charges, study, budget),
            parts=tuple(_parts(own)),
        )


def _parts(rows: Iterable[Row]) -> Iterator[Part]:
    """Neighbouring charges of one task and one spend; a part of rounds ends where the next does not follow."""
    for (task, spend, in_rounds), found in groupby(rows, key=lambda row: (row.task, row.spend, row.task == "Train")):
        same = list(found)
        numbers = [row.round for row in same] if in_rounds else [0]
        yield Part(task, min(numbers), max(numbers), len(same), spend)


def _of_study(charges: Charges, study: str, budget: BudgetConfig) -> float:
    own = [group.own for group in charges.groups()]
    return worst(own, budget.delta, budget.accountant, study)


def _points(ledger: Ledger, rows: Sequence[Row], budget: BudgetConfig) -> Iterator[Point]:
    """The figure after some of the charges, the first and the last among them."""
    spends = [row.n for row in rows if row.kind == SPEND]
    shown = {spends[k * (len(spends) - 1) // (_POINTS - 1)] for k in range(_POINTS)} if spends else set()
    for row, charges in ledger.replay():
        if row.n in shown:
            everything = [history for group in charges.groups() for history in group.histories()]
            lifetime = worst(everything, budget.delta, budget.accountant)
            of_study = _of_study(charges, row.study, budget)
            yield Point(spends.index(row.n) + 1, row.at, row.study, lifetime, of_study)


def _changes(rows: Iterable[Row]) -> Iterator[str]:
    """What the rows say of people and tables, in words; the first table is no change."""
    tables: list[str] = []
    for row in rows:
        note = json.loads(row.note)
        if row.kind == ACKNOWLEDGED:
            yield f"{row.at[:10]}: {note['by']} wrote down that {counted(note['new'], 'participant')} in doubt are new"
        if row.kind != PEOPLE or note["tables"] in tables:
            continue
        if tables:
            new = note["in_tables"] - note["known"]
            doubt = f", {note['in_doubt']:,} of them in doubt" if note["in_doubt"] else ""
            people = counted(note["in_tables"], "participant")
            yield (
                f"{row.at[:10]}: participants.csv is another file than before: {people}, {note['known']:,} known by "
                f"their identifiers, {new:,} not{doubt}; an identifier must go on meaning the same person"
            )
        tables.append(note["tables"])


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and what it is of, in the right form."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
