"""What each participant was charged, from the rows of a ledger alone: composition by person.

Nothing is stored per person but in which sets a token is. All rows of all sets that hold a person are composed; people
in the same sets have the same history, and are one :class:`Group`. The hospital's figure is that of its worst person.

Somebody who is not known is **in doubt** when the ledger already holds spending and the tables are not the ones that
were charged before: a file that was replaced, or identifiers that were made anew, would otherwise begin at nothing. A
person in doubt may be anybody who was known by then under another name, and is charged with what each of them had been
charged, on top of everything of their own; the worst case counts. Doubt ends when the hospital acknowledges that the
people are new (``sarco-site budget SITE.toml --new-participants``), which is a row of the ledger.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from client.person_sets import Token, Tokens
from sarco_models.accounting import Accountant, Spend, epsilon, merged

BEGIN, PEOPLE, SPEND, ACKNOWLEDGED = "begin", "people", "spend", "acknowledged"

History = Mapping[tuple[str, float, float], int]
"""(study, noise multiplier, sample rate) -> steps."""


@dataclass(frozen=True)
class Row:
    """One row of a ledger.

    Attributes:
        n: its number, from 1.
        kind: ``begin``, ``people``, ``spend`` or ``acknowledged``.
        at: UTC, ISO 8601, to the second.
        study: digest; of a spend.
        round: of a spend; 0 where there is none.
        task: of a spend: what was asked.
        people: fingerprint of the set that is charged, or recorded.
        noise_multiplier: of a spend; 0 is without protection.
        sample_rate: of a spend.
        steps: of a spend; 0 in other rows.
        note: JSON; what else the kind of row says.
        previous: hash of the row before.
        hash: of everything above.
    """

    n: int
    kind: str
    at: str
    study: str = ""
    round: int = 0
    task: str = ""
    people: str = ""
    noise_multiplier: float = 0.0
    sample_rate: float = 0.0
    steps: int = 0
    note: str = "{}"
    previous: str = ""
    hash: str = ""

    @property
    def spend(self) -> Spend:
        """What it says was done."""
        return Spend(self.noise_multiplier, self.sample_rate, self.steps)


@dataclass(frozen=True)
class Group:
    """People with one history.

    Attributes:
        people: how many.
        own: what they were charged under their own names.
        other_names: histories that they may have under another name; one of nothing where they are not in doubt.
    """

    people: int
    own: History
    other_names: tuple[History, ...] = ({},)

    def histories(self) -> tuple[History, ...]:
        """Every history that these people may have; the worst one counts."""
        return tuple(_sum([self.own, other]) for other in self.other_names)

    @property
    def in_doubt(self) -> bool:
        """Whether they may be somebody else under another name."""
        return self.other_names != ({},)


def spends_of(history: History, study: str = "") -> tuple[Spend, ...]:
    """The facts of a history, of one study or of all, merged as accountants want them."""
    return merged(Spend(noise, rate, n) for (of, noise, rate), n in history.items() if study in ("", of))


def added(history: History, study: str, spends: Iterable[Spend]) -> History:
    """The history with these spends of a study."""
    return _sum([history, *({(study, s.noise_multiplier, s.sample_rate): s.steps} for s in spends)])


def worst(histories: Iterable[History], delta: float, accountant: Accountant, study: str = "") -> float:
    """Greatest epsilon of these histories; of one study, or of all.

    Renyi epsilons take no time and are never below those of the other accountant: who is below the worst found so far
    by them need not be computed.
    """
    distinct = {spends_of(history, study) for history in histories}
    greatest = 0.0
    for bound, spends in sorted(((epsilon(s, delta, "rdp"), s) for s in distinct), key=lambda pair: -pair[0]):
        if bound > greatest:
            greatest = max(greatest, epsilon(spends, delta, accountant))
    return greatest


@dataclass
class Charges:
    """Everything that the rows say about who was charged what; rows are applied in their order."""

    sets: dict[str, frozenset[Token]] = field(default_factory=dict)
    _by_set: dict[str, Counter[tuple[str, float, float]]] = field(default_factory=dict)
    _known: set[Token] = field(default_factory=set)
    _doubt: dict[Token, int] = field(default_factory=dict)
    _names_by_then: dict[int, tuple[History, ...]] = field(default_factory=dict)
    _recorded: set[tuple[str, str, str]] = field(default_factory=set)
    _tables: set[str] = field(default_factory=set)
    _grouped: dict[str, dict[tuple[tuple[str, ...], int], int]] = field(default_factory=dict)

    def copy(self) -> Charges:
        """The same, to be charged further on trial."""
        return replace(
            self,
            sets=dict(self.sets),
            _by_set={name: Counter(rows) for name, rows in self._by_set.items()},
            _known=set(self._known),
            _doubt=dict(self._doubt),
            _names_by_then=dict(self._names_by_then),
            _recorded=set(self._recorded),
            _tables=set(self._tables),
            _grouped=dict(self._grouped),
        )

    def apply(self, row: Row, members: Mapping[str, frozenset[Token]]) -> None:
        """Take one row in; ``members`` are the tokens of the sets that a row of people names."""
        if row.kind == PEOPLE:
            self._apply_people(row, members)
        elif row.kind == SPEND:
            key = (row.study, row.noise_multiplier, row.sample_rate)
            self._by_set.setdefault(row.people, Counter())[key] += row.steps
        elif row.kind == ACKNOWLEDGED:
            self._doubt.clear()
            self._grouped.clear()

    def recorded(self, charged: str, listed: str, tables: str) -> bool:
        """Whether a row of people says exactly this."""
        return (charged, listed, tables) in self._recorded

    def strangers(self, listed: Tokens, tables: str) -> frozenset[Token]:
        """Who would be in doubt: not known, while something was spent and these tables were not seen before."""
        if not self._by_set or (tables and tables in self._tables):
            return frozenset()
        return listed.members - self._known

    def known(self, listed: Tokens) -> int:
        """How many of these people the ledger has seen."""
        return len(listed.members & self._known)

    @property
    def people_in_doubt(self) -> int:
        """How many people may be somebody else under another name."""
        return len(self._doubt)

    def people_charged(self) -> int:
        """How many people were charged anything."""
        return len(frozenset[Token]().union(*(self.sets[name] for name in self._by_set)))

    def groups(self, of: str = "") -> tuple[Group, ...]:
        """People by history: of the set with this fingerprint, or everybody who was charged anything."""
        if of not in self._grouped:
            self._grouped[of] = self._group(self.sets[of] if of else self._everybody())
        return tuple(
            Group(
                people,
                _sum(self._by_set[name] for name in names if name in self._by_set),
                self._names_by_then[since] if since else ({},),
            )
            for (names, since), people in self._grouped[of].items()
        )

    def _everybody(self) -> frozenset[Token]:
        return frozenset[Token]().union(*self.sets.values()) if self.sets else frozenset()

    def _group(self, tokens: frozenset[Token]) -> dict[tuple[tuple[str, ...], int], int]:
        """Sets that a person is in, and the row since which the person is in doubt -> how many people."""
        names: dict[Token, list[str]] = {token: [] for token in tokens}
        for name in sorted(self.sets):
            for token in self.sets[name] & tokens:
                names[token].append(name)
        return Counter((tuple(found), self._doubt.get(token, 0)) for token, found in names.items())

    def _apply_people(self, row: Row, members: Mapping[str, frozenset[Token]]) -> None:
        note = json.loads(row.note)
        listed = Tokens(members[note["listed"]], note["listed"])
        strange = self.strangers(listed, note["tables"])
        if strange:
            self._names_by_then[row.n] = _undominated(h for group in self.groups() for h in group.histories())
            self._doubt.update(dict.fromkeys(strange, row.n))
        self.sets[row.people] = members[row.people]
        self._known |= listed.members
        self._tables |= {note["tables"]} - {""}
        self._recorded.add((row.people, note["listed"], note["tables"]))
        self._grouped.clear()


def _sum(histories: Iterable[History]) -> History:
    total: Counter[tuple[str, float, float]] = Counter()
    for history in histories:
        total.update(history)
    return total


def _undominated(histories: Iterable[History]) -> tuple[History, ...]:
    """Those that are not part of another one: no other can be the worst case."""
    kept: list[History] = []
    for history in sorted(histories, key=lambda h: -sum(h.values())):
        if not any(all(other.get(key, 0) >= n for key, n in history.items()) for other in kept):
            kept.append(history)
    return tuple(kept)
