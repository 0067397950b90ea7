"""What a study would cost this hospital's participants in privacy, on top of what its ledger holds, which is only read.

The ledger is copied and the copy is asked: nothing is written to the hospital's own, not even that somebody looked.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from client.ledger import FILE, BudgetConfig, Charge, Ledger
from client.preview.one_round import Round
from sarco_models.accounting import UNPROTECTED, Spend, epsilon, plan
from sarco_models.config import StudyConfig


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

    @property
    def left(self) -> float:
        """Of the lifetime limit, after the whole study; below 0 where it does not fit."""
        return self.budget.lifetime - self.after if math.isfinite(self.after) else -math.inf

    @property
    def above(self) -> dict[str, float]:
        """Limits of site.toml that the study would pass, and what they would have to be."""
        needs = {
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
    first, last = _projected(run, (one, whole), budget)
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
    )


def spends(study: StudyConfig) -> tuple[tuple[Spend, ...], tuple[Spend, ...]]:
    """Of one round, and of the whole study."""
    if study.privacy is None:
        return (UNPROTECTED,), (UNPROTECTED,)
    planned = plan(study)
    return (planned.training,), planned.spends()


def _projected(run: Round, each: Sequence[Sequence[Spend]], budget: BudgetConfig) -> list[Charge]:
    state = run.root / run.config.state
    with TemporaryDirectory(prefix="sarco-preview-") as folder:
        copy = Path(folder)
        for name in (FILE, f"{FILE}-wal", Path(FILE).with_suffix(".key").name):
            if (state / name).is_file():
                shutil.copy(state / name, copy / name)  # with its rights: the key is for the owner alone
        ledger = Ledger.open(copy / FILE)
        try:
            return [
                ledger.project(study=run.study.digest, people=run.site.persons, spends=s, budget=budget) for s in each
            ]
        finally:
            ledger.close()
