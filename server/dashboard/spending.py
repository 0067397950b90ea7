"""Epsilon of each hospital's participants so far, from the study's plan and the rounds in which the hospital took part.

It is an upper bound of what the coordinator can know. A round counts for a hospital when its answer counted, and also
when the answer was late or could not be used: the hospital may have trained. A refusal costs nothing where it comes
before anything is computed; the same question asked again is answered with what was kept. What a hospital has
really spent, over all studies, stands in its own ledger and nowhere else.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sarco_models.accounting import Spend, epsilon, plan
from sarco_models.config import StudyConfig
from sarco_models.errors import SarcoError
from sarco_models.messages import Code
from sarco_models.uncovered import uncovered
from server.dashboard.aside import Aside
from server.dashboard.files import Record
from server.dashboard.history import LATE
from server.failures import REFUSED, not_there, refused

_AFTERWARDS = frozenset({refused(Code.TOO_LATE), refused(Code.WORKER_DOWN), refused(Code.INTERNAL)})
"""Refusals that may come after the work has begun, and was charged."""


@dataclass(frozen=True)
class Privacy:
    """What a study promises; ``epsilon`` is None where it promises nothing."""

    epsilon: float | None
    delta: float | None
    secure_aggregation: bool
    uncovered: tuple[str, ...]


@dataclass(frozen=True)
class Spent:
    """What the study has cost the participants of one hospital at most.

    Attributes:
        rounds: in which they may have been trained on.
        epsilon: of these rounds and the statistics so far; None while it is being computed, or where that failed.
        computing: whether it is under way.
    """

    rounds: int
    epsilon: float | None
    computing: bool


def promised(study: StudyConfig | None) -> Privacy:
    """What a study promises, and what it leaves open; nothing where its file cannot be read."""
    if study is None:
        return Privacy(None, None, False, ())
    try:
        lines = uncovered(study)
    except SarcoError:
        lines = ()
    cfg = study.privacy
    secure = study.federation.secure_aggregation
    return Privacy(cfg.epsilon if cfg else None, cfg.delta if cfg else None, secure, lines)


def rounds_at_most(records: Sequence[Record], asked_now: Mapping[str, str]) -> Counter[str]:
    """Rounds in which each hospital may have trained.

    Args:
        records: complete rounds, the start among them.
        asked_now: state of each hospital in the round under way (server/live.py); empty between rounds.
    """
    rounds: Counter[str] = Counter()
    for record in records[1:]:
        trained = {*record.sites, *(name for attempt in record.attempts for name in attempt.sites)}
        for failures in (record.failures, *(attempt.failures for attempt in record.attempts)):
            trained |= {name for name, why in failures.items() if not _cost_nothing(why)}
        rounds.update(trained)
    rounds.update(name for name, state in asked_now.items() if state not in ("refused", "away"))
    return rounds


def _cost_nothing(why: str) -> bool:
    """Whether a hospital certainly computed nothing: it refused, or was not there."""
    if why in _AFTERWARDS:
        return False
    return why.startswith(REFUSED) or not_there(why) or why == LATE


def spent_after(study: StudyConfig, rounds: int, releases: int) -> float:
    """Epsilon after so many rounds and releases of statistics, by the study's own accountant; 0 after nothing.

    Args:
        study: with [privacy].
        rounds: beyond those of the plan a hospital's ledger refuses.
        releases: of statistics; no more count than the plan has.

    Raises:
        ConfigError: no noise fits the study, or it has no [privacy].
    """
    planned, cfg = plan(study), study.privacy
    if cfg is None:
        return math.inf
    times, told = min(rounds, planned.rounds), min(releases, planned.releases)
    spends = []
    if times:
        one = planned.training
        spends.append(Spend(one.noise_multiplier, one.sample_rate, one.steps * times))
    if planned.statistics and told:
        one = planned.statistics
        spends.append(Spend(one.noise_multiplier, one.sample_rate, one.steps * told))
    return epsilon(spends, cfg.delta, cfg.accountant)


class Spending:
    """Epsilons of runs, computed aside."""

    def __init__(self) -> None:
        """Nothing is computed yet."""
        self._aside = Aside[float]()

    def of(self, study: StudyConfig, rounds: int, releases: int) -> Spent:
        """What so many rounds and releases cost, as soon as it is known."""
        key = (study.digest, rounds, releases)
        known, found = self._aside.get(key, lambda: spent_after(study, rounds, releases))
        return Spent(rounds, found if found is not None and math.isfinite(found) else None, not known)

    def close(self) -> None:
        """Stop computing."""
        self._aside.close()
