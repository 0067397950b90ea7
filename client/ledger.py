"""The hospital's ledger of privacy: what was spent on whom, and the limits that no study can raise.

Rows hold facts (when, study, round, task, which people, noise multiplier, sample rate, steps); epsilon is computed from
all rows of a person whenever it is asked for, at the hospital's own delta and by its own accountant. Order is law:
:meth:`Ledger.charge` projects the cost, refuses or appends and waits for the disk, and only then may anything be
trained or sent. A crash may waste budget, it never hides spending: what is trained again is charged again.

Rows are only ever added, each in the transaction in which the limits were checked: two processes cannot both pass one.
Each row holds the hash of the one before, so that an edited, dropped, moved or inserted row is found and named. A tail
that was cut off, or a ledger written anew from some row on, is found by whoever keeps a later :attr:`Ledger.head`: the
audit log does, with each spend.

Training without differential privacy is a row as well, of noise 0. Epsilon is then without limit, and any limit that is
a number refuses it, and everything after it.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from client.charges import ACKNOWLEDGED, PEOPLE, SPEND, Charges, History, Row, added, worst
from client.ledger_rows import NOTHING, LedgerRows, head, heads_of
from client.person_sets import PersonSet, Tokens
from sarco_models.accounting import Accountant, Spend
from sarco_models.chain import read
from sarco_models.config import Config, PrivacyConfig
from sarco_models.errors import BudgetExceeded, ChainBroken

FILE = "ledger.sqlite"
"""Name of the ledger in a hospital's state folder."""

Limit = Annotated[float, Field(ge=0)] | Literal["unlimited"]


class BudgetConfig(Config):
    """site.toml [budget]: how much privacy this hospital spends on any of its participants. Absent means nothing."""

    lifetime_epsilon: Limit = Field(
        default=0.0, description='Of all studies ever, for each participant; "unlimited" must be said.'
    )
    study_epsilon: Limit = Field(default=0.0, description='Of any one study; "unlimited" must be said.')
    delta: float = Field(default=1e-5, gt=0, lt=1e-2, description="Below one divided by the number of participants.")
    accountant: Accountant = Field(default="prv", description="How this hospital computes; see a study's [privacy].")

    @property
    def lifetime(self) -> float:
        """The lifetime limit as a number."""
        return math.inf if self.lifetime_epsilon == "unlimited" else self.lifetime_epsilon

    @property
    def one_study(self) -> float:
        """The limit of any one study as a number."""
        return math.inf if self.study_epsilon == "unlimited" else self.study_epsilon


@dataclass(frozen=True)
class Charge:
    """What a spend does to the people it is of; the worst of them counts. Epsilons are computed when they are read.

    Attributes:
        head: of the ledger, with the spend in it; empty of a projection.
        people: how many are charged.
        in_doubt: how many of them may be somebody else under another name; see :mod:`client.charges`.
        study: its digest.
        budget: by which epsilons are computed.
        histories: what these people were charged, before and after; each distinct one once.
    """

    head: str
    people: int
    in_doubt: int
    study: str
    budget: BudgetConfig
    histories: tuple[tuple[History, ...], tuple[History, ...]]

    @cached_property
    def before(self) -> float:
        """Lifetime epsilon of the worst of these people before."""
        return self._worst(0)

    @cached_property
    def after(self) -> float:
        """Lifetime epsilon of the worst of these people with this spend; never less than before."""
        return max(self.before, self._worst(1))

    @cached_property
    def study_before(self) -> float:
        """Of this study alone, before."""
        return self._worst(0, self.study)

    @cached_property
    def study_after(self) -> float:
        """Of this study alone, with this spend."""
        return max(self.study_before, self._worst(1, self.study))

    def _worst(self, side: int, study: str = "") -> float:
        return worst(self.histories[side], self.budget.delta, self.budget.accountant, study)


@dataclass(frozen=True)
class _Limited:
    """One of the limits that a charge is held against."""

    what: str
    most: float
    delta: float
    accountant: Accountant
    study: str = ""
    way_out: str = ""

    def hold(self, charge: Charge) -> None:
        """Raise BudgetExceeded where the worst history is above the limit.

        Renyi accounting takes no time and is never below what decides; where it is within the limit, so is the other.
        """
        before, after = charge.histories
        if math.isinf(self.most) or worst(after, self.delta, "rdp", self.study) <= self.most:
            return
        cost = worst(after, self.delta, self.accountant, self.study)
        if cost > self.most:
            now = worst(before, self.delta, self.accountant, self.study)
            raise BudgetExceeded(now=now, after=cost, limit=self.most, what=self.what, way_out=self.way_out)


def _limits(study: str, budget: BudgetConfig, policy: float, promise: PrivacyConfig | None) -> Iterator[_Limited]:
    own = budget.delta, budget.accountant
    yield _Limited("lifetime_epsilon", budget.lifetime, *own)
    yield _Limited("study_epsilon", budget.one_study, *own, study)
    yield _Limited("max_epsilon", policy, *own, study, "raise it in site.toml [policy], or leave the study")
    if promise:
        what = f"the study itself (privacy.epsilon at delta {promise.delta:g})"
        spent = "the study has spent what it promised; its next edition may plan spare_rounds"
        yield _Limited(what, promise.epsilon, promise.delta, promise.accountant, study, spent)


class Ledger:
    """One hospital's ledger, open; for several threads, and for several processes at once."""

    def __init__(self, rows: LedgerRows) -> None:
        """Use :meth:`open`."""
        self._rows, self._lock = rows, threading.RLock()
        self._charges, self._seen = Charges(), NOTHING
        self._catch_up()

    @staticmethod
    def open(path: Path, heads: Iterable[str] = ()) -> Ledger:
        """Open the ledger of this path, new where there was none; every row is checked.

        Args:
            path: the key of its people stands beside it, with the ending ``.key``.
            heads: kept elsewhere, as by the audit log (:func:`heads_kept`); each must be in it.

        Raises:
            ChainBroken: a row was edited, dropped or moved; the file is damaged; a head is not in it; ledger or key is
                missing while the other, or a head, is there.
        """
        heads = tuple(heads)
        if heads and not path.exists():
            raise ChainBroken(
                f"{path}: is missing, and the audit log has seen {len(heads)} spends; what was spent is not known: "
                "restore the ledger and its key from a backup"
            )
        ledger = Ledger(LedgerRows(path))
        if heads:
            ledger.verify(heads)
        return ledger

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._rows.close()

    @property
    def head(self) -> str:
        """Number and hash of the last row, ``n:hash``: whoever keeps it notices a ledger that was cut or rewritten."""
        with self._lock:
            self._catch_up()
            return head(self._seen)

    @property
    def charges(self) -> Charges:
        """Who was charged what, by now."""
        with self._lock:
            self._catch_up()
            return self._charges

    def charge(  # noqa: PLR0913 - the facts of a row, and the limits
        self,
        *,
        study: str,
        round: int,
        task: str,
        people: PersonSet | Iterable[str],
        spend: Spend,
        budget: BudgetConfig,
        max_study_epsilon: float = math.inf,
        promise: PrivacyConfig | None = None,
    ) -> Charge:
        """Write down a spend, durably, before anything is trained or sent; or refuse, and leave the ledger as it was.

        Args:
            study: digest.
            round: of the study; 0 where the task has none.
            task: what was asked.
            people: whose data are touched.
            spend: what will be done with them.
            budget: this hospital's limits, and its delta and accountant.
            max_study_epsilon: of the hospital's policy for one study, at the budget's delta; the smaller limit counts.
            promise: the study's own [privacy]: its epsilon at its delta, by its accountant, must hold here as well,
                whatever was repeated.

        Raises:
            BudgetExceeded: somebody would be above a limit.
            SarcoError: the disk does not take it, or another process left rows that do not follow.
            ValueError: nobody is charged: data without people are a mistake of the caller.
        """
        with self._lock:
            with self._rows.writing():
                self._catch_up()
                trial, charged = self._with(people)
                if not charged.members:
                    raise ValueError("a charge of nobody: name the participants whose data are touched")
                row = self._rows.append(
                    SPEND,
                    study=study,
                    round=round,
                    task=task,
                    people=charged.fingerprint,
                    noise_multiplier=float(spend.noise_multiplier),
                    sample_rate=float(spend.sample_rate),
                    steps=int(spend.steps),
                )
                done = _charge(trial, charged, study, budget, (spend,), head(row))
                for limit in _limits(study, budget, max_study_epsilon, promise):
                    limit.hold(done)
            self._catch_up()
        return done

    def project(
        self, *, study: str, people: PersonSet | Iterable[str], spends: Iterable[Spend], budget: BudgetConfig
    ) -> Charge:
        """What these spends would do, with nothing written and no limit held: for previews and approvals."""
        with self._lock, self._rows.writing(keep=False):
            self._catch_up()
            trial, charged = self._with(people)
            return _charge(trial, charged, study, budget, tuple(spends))

    def acknowledge(self, people: PersonSet, by: str) -> int:
        """Write down that whoever is in doubt is new: nobody of them was charged before under another name.

        Args:
            people: who is in the tables now.
            by: who says so.

        Returns:
            How many people were in doubt.
        """
        with self._lock:
            with self._rows.writing():
                self._catch_up()
                trial, _charged = self._with(people)
                count = trial.people_in_doubt
                if count:
                    self._rows.append(ACKNOWLEDGED, note=json.dumps({"by": by, "new": count}))
            self._catch_up()
        return count

    def replay(self) -> Iterator[tuple[Row, Charges]]:
        """Every row with the charges as they were once it was written: one object, further on each time."""
        charges = Charges()
        with self._lock:
            rows = [(row, self._rows.members_of(row)) for row in self._rows.after()]
        for row, members in rows:
            charges.apply(row, members)
            yield row, charges

    def verify(self, heads: Iterable[str] = ()) -> int:
        """Check every row, every set of people and the guards of the file; and that each head kept elsewhere is in it.

        Returns:
            The number of rows.

        Raises:
            ChainBroken: names the row.
        """
        rows = [row for row, _charges in self.replay()]
        with self._lock:
            self._rows.check_guards()
        known = heads_of(rows)
        for kept in heads:
            if kept not in known:
                raise ChainBroken(
                    f"{self._rows.path}: row {kept.partition(':')[0]} is not the one that was kept elsewhere (it ends "
                    f"in {kept[-12:]}): rows were cut off, or written anew; restore the ledger from a backup"
                )
        return len(rows)

    def _catch_up(self) -> None:
        """Check and take in the rows that are new, by whichever process they are."""
        for row in self._rows.after(self._seen):
            self._charges.apply(row, self._rows.members_of(row))
            self._seen = row

    def _with(self, people: PersonSet | Iterable[str]) -> tuple[Charges, Tokens]:
        """The charges with this set recorded: a copy where it is new, for the transaction may yet be undone."""
        who = people if isinstance(people, PersonSet) else PersonSet.of(people)
        charged, listed = self._rows.key.tokens(who.ids), self._rows.key.tokens(who.listed)
        if self._charges.recorded(charged.fingerprint, listed.fingerprint, who.tables):
            return self._charges, charged
        self._rows.remember(charged)
        self._rows.remember(listed)
        note = {
            "listed": listed.fingerprint,
            "tables": who.tables,
            "in_tables": len(listed.members),
            "known": self._charges.known(listed),
            "in_doubt": len(self._charges.strangers(listed, who.tables)),
        }
        row = self._rows.append(PEOPLE, people=charged.fingerprint, note=json.dumps(note, sort_keys=True))
        trial = self._charges.copy()
        trial.apply(row, {charged.fingerprint: charged.members, listed.fingerprint: listed.members})
        return trial, charged


def heads_kept(audit: Path) -> tuple[str, ...]:
    """Heads of the ledger that a hospital's audit log has seen; none where there is no log.

    Raises:
        ChainBroken: the log was edited, cut or reordered.
    """
    return tuple(str(e.facts["ledger"]) for e in read(audit) if e.kind == "spend") if audit.exists() else ()


def _charge(  # noqa: PLR0913, PLR0917 - what a charge is made of
    charges: Charges, who: Tokens, study: str, budget: BudgetConfig, spends: tuple[Spend, ...], written: str = ""
) -> Charge:
    groups = charges.groups(who.fingerprint)
    before = tuple(history for group in groups for history in group.histories())
    after = tuple(added(history, study, spends) for history in before)
    in_doubt = sum(group.people for group in groups if group.in_doubt)
    return Charge(written, len(who.members), in_doubt, study, budget, (before, after))
