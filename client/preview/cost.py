"""What a study would cost this hospital's participants in privacy, on top of what its ledger holds, which is only read.

The ledger is copied and the copy is asked: nothing is written to the hospital's own, not even that somebody looked.
"""

from __future__ import annotations

import math
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from client.ledger import FILE, BudgetConfig, Charge, Ledger
from client.preview.one_round import Round
from client.site_config import SiteConfig
from sarco_models.accounting import UNPROTECTED, Spend, epsilon, plan
from sarco_models.config import StudyConfig

_Project = Callable[[Sequence[Spend]], Charge]


@dataclass(frozen=True)
class Cost:
    """Epsilons at the hospital's own delta, by its own accountant; infinite where a round is without protection.

    Attributes:
        budget: the hospital's limits.
        policy_limit: the policy's greatest epsilon of one study.
        one_round: of one round of this study alone.
        whole: of the whole study alone, its statistics included.
        spent: by the worst of the training participants so far, in all studies.
        after_round: the same after one round of this study.
        after: the same after the whole study.
        people: who would be charged.
        in_doubt: how many of them may be somebody known under another name.
        refused: what the ledger would refuse today, by request: how often it is answered before, and the reason.
    """

    budget: BudgetConfig
    policy_limit: float
    one_round: float
    whole: float
    spent: float
    after_round: float
    after: float
    people: int
    in_doubt: int
    refused: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Of the lifetime limit, after the whole study; below 0 where it does not fit."""
        return self.budget.lifetime - self.after if math.isfinite(self.after) else -math.inf

    @property
    def above(self) -> dict[str, float]:
        """Limits of site.toml that the study would pass, and what they would have to be.

        A study without privacy has no epsilon to hold against the policy's: it needs ``unprotected_training``.
        """
        needs = {
            "max_epsilon": (self.whole if math.isfinite(self.whole) else 0.0, self.policy_limit),
            "budget.lifetime_epsilon": (self.after, self.budget.lifetime),
            "budget.study_epsilon": (self.whole, self.budget.one_study),
        }
        return {key: cost for key, (cost, most) in needs.items() if cost > most}


def cost(run: Round) -> Cost:
    """Project this study on the hospital's ledger.

    Raises:
        ChainBroken: the ledger was tampered with, or its key is missing.
    """
    study, budget = run.study, run.config.budget
    one, whole = spends(study)
    with _copied(run) as ledger:

        def project(spends: Sequence[Spend]) -> Charge:
            return ledger.project(study=study.digest, people=run.site.persons, spends=spends, budget=budget)

        first, last = project(one), project(whole)
        refused = _refused(study, run.config, project)
    return Cost(
        budget=budget,
        policy_limit=run.config.policy.max_epsilon,
        one_round=epsilon(one, budget.delta, budget.accountant),
        whole=epsilon(whole, budget.delta, budget.accountant),
        spent=last.before,
        after_round=first.after,
        after=last.after,
        people=last.people,
        in_doubt=last.in_doubt,
        refused=refused,
    )


def spends(study: StudyConfig) -> tuple[tuple[Spend, ...], tuple[Spend, ...]]:
    """Of one round, and of the whole study."""
    if study.privacy is None:
        return (UNPROTECTED,), (UNPROTECTED,)
    planned = plan(study)
    return (planned.training,), planned.spends()


def _refused(study: StudyConfig, config: SiteConfig, project: _Project) -> dict[str, tuple[int, str]]:
    """Charge the study's requests one by one, in a run's order, on a copy of the ledger; see :class:`Cost`."""

    def reason(*spends: Spend) -> str:
        return _above(project(spends), config, private=study.privacy is not None)

    if study.privacy is None:
        why = reason(UNPROTECTED)
        return dict.fromkeys(("Describe", "Train", "Evaluate", "Probe"), (0, why)) if why else {}
    planned, rounds = plan(study), study.federation.rounds
    sums = (planned.statistics,) if planned.statistics else ()
    scores = sums if planned.releases > 1 else ()
    if sums and (why := reason(*sums)):
        return dict.fromkeys(("Describe", "Train", *(("Evaluate",) if scores else ())), (0, why))

    def first(number: int) -> tuple[Spend, ...]:
        """Everything up to this round."""
        return (*sums, replace(planned.training, steps=planned.training.steps * number)) if number else sums

    # How many rounds fit: epsilon only grows with them.
    fit = bisect_left(range(1, rounds + 1), True, key=lambda number: bool(reason(*first(number))))
    found = {"Train": (fit, reason(*first(fit + 1)))} if fit < rounds else {}
    if scores and (why := reason(*first(fit), *scores)):
        found["Evaluate"] = (0, why)
    return found


def _above(charge: Charge, config: SiteConfig, *, private: bool) -> str:
    """Which limits a charge would pass, in words; empty where none."""
    budget = config.budget
    limits = {
        "max_epsilon": (charge.study_after, config.policy.max_epsilon if private else math.inf),
        "budget.study_epsilon": (charge.study_after, budget.one_study),
        "budget.lifetime_epsilon": (charge.after, budget.lifetime),
    }
    return "; ".join(
        f"{key} is {most:g}, and "
        + (f"{cost:.2f} would be spent" if math.isfinite(cost) else "without noise no epsilon is large enough")
        for key, (cost, most) in limits.items()
        if cost > most
    )


@contextmanager
def _copied(run: Round) -> Iterator[Ledger]:
    """The hospital's ledger as a copy that is thrown away."""
    state = run.root / run.config.state
    with TemporaryDirectory(prefix="sarco-preview-") as folder:
        copy = Path(folder)
        for name in (FILE, f"{FILE}-wal", Path(FILE).with_suffix(".key").name):
            if (state / name).is_file():
                shutil.copy(state / name, copy / name)  # with its rights: the key is for the owner alone
        ledger = Ledger.open(copy / FILE)
        try:
            yield ledger
        finally:
            ledger.close()
