"""Whether a score works alike in all kinds of people: AUC of each subgroup, and the differences between them.

A subgroup with fewer than ten participants of either class is suppressed: its AUC would say nothing and might point at
people. Where the others of the same variable would give its size away, their sizes are hidden as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import REPEATS, Estimate, WeightedStatistic, draws, percentile_estimate, two_sided_p
from sarco_models.metrics import Comparison, area_under_roc, auc_interval, holm
from sarco_models.scores import Labels, ParticipantScores

FEWEST_EVENTS = 10
Grouping = Sequence[str]
"""(participants,) the subgroup of each, in words; empty where unknown."""


@dataclass(frozen=True)
class Subgroup:
    """One kind of people.

    Attributes:
        level: such as ``>= 70``.
        participants: None where hidden.
        events: of them with sarcopenia; None where hidden.
        auc: None where suppressed.
    """

    level: str
    participants: int | None
    events: int | None
    auc: Estimate | None


@dataclass(frozen=True)
class Subgroups:
    """All kinds of people by one variable.

    Attributes:
        variable: such as ``age_years``.
        levels: in the order of the words.
        unknown: participants in no subgroup.
        interactions: AUC of a level minus that of the reference, by level; of those that are not suppressed.
        reference: the level with most participants of its smaller class; empty where all are suppressed.
    """

    variable: str
    levels: tuple[Subgroup, ...]
    unknown: int
    interactions: Mapping[str, Comparison]
    reference: str


def cut(values: NDArray[np.float64], at: float) -> tuple[str, ...]:
    """Two subgroups of a measured value: below, and at or above; empty where the value is missing (NaN)."""
    return tuple("" if np.isnan(v) else f">= {at:g}" if v >= at else f"< {at:g}" for v in values)


def by_subgroup(
    people: ParticipantScores,
    groupings: Mapping[str, Grouping],
    rng: np.random.Generator,
    *,
    fewest: int = FEWEST_EVENTS,
    repeats: int = REPEATS,
) -> tuple[Subgroups, ...]:
    """AUC with DeLong interval of each subgroup, and each variable's bootstrap differences from its largest subgroup.

    Participants are drawn within subgroup and class, so that a difference is of the subgroups as they are. All
    differences are one family for Holm.

    Args:
        people: one score each.
        groupings: by variable, such as sex, age (see :func:`cut`), device, site; each one word per participant.
        rng: randomness is an argument.
        fewest: participants of the smaller class that a subgroup needs; at least 2.
        repeats: bootstrap draws.

    Raises:
        UndefinedMetric: a grouping is not of these participants.
    """
    found = [_one(people, name, grouping, max(fewest, 2)) for name, grouping in groupings.items()]
    members = [{level: np.array(groupings[f.variable]) == level for level in _compared(f)} for f in found]
    tested = [_differences(people, masks, rng, repeats) for masks in members]
    adjusted = iter(holm([comparison.p for family in tested for comparison in family.values()]))
    return tuple(
        replace(f, interactions={level: replace(c, p_holm=next(adjusted)) for level, c in family.items()})
        for f, family in zip(found, tested, strict=True)
    )


def _one(people: ParticipantScores, variable: str, grouping: Grouping, fewest: int) -> Subgroups:
    if len(grouping) != len(people):
        raise UndefinedMetric(f"{variable}: {len(grouping)} subgroup names for {len(people)} participants; one each")
    words = np.array(grouping, dtype=np.str_)
    members = {level: people.only(words == level) for level in sorted(set(grouping) - {""})}
    smaller = {level: min(of.positives, len(of) - of.positives) for level, of in members.items()}
    shown = {level for level in members if smaller[level] >= fewest}
    sized = shown - _giving_away(members, shown)
    return Subgroups(
        variable=variable,
        levels=tuple(
            Subgroup(
                level,
                participants=len(of) if level in sized else None,
                events=of.positives if level in sized else None,
                auc=auc_interval(of.scores, of.labels) if level in shown else None,
            )
            for level, of in members.items()
        ),
        unknown=int((words == "").sum()),
        interactions={},
        reference=max(sorted(shown), key=lambda level: smaller[level], default=""),
    )


def _giving_away(members: Mapping[str, ParticipantScores], shown: set[str]) -> set[str]:
    """The smallest subgroup that is shown, when one alone is not: the total less the others would be its size."""
    if len(members) - len(shown) != 1 or not shown:
        return set()
    return {min(sorted(shown), key=lambda level: len(members[level]))}


def _compared(found: Subgroups) -> list[str]:
    """The reference first, then the other levels that have an AUC."""
    others = [level.level for level in found.levels if level.auc and level.level != found.reference]
    return [found.reference, *others] if others else []


def _differences(
    people: ParticipantScores, members: Mapping[str, Labels], rng: np.random.Generator, repeats: int
) -> dict[str, Comparison]:
    if not members:
        return {}
    statistics = {level: _within(people, mask) for level, mask in members.items()}
    strata = 2 * sum((k + 1) * mask.astype(np.int64) for k, mask in enumerate(members.values())) + people.labels
    drawn = draws(statistics, strata, rng, repeats=repeats)
    values = {level: float(of(np.ones((1, len(people))))[0]) for level, of in statistics.items()}
    reference, *others = members
    return {
        level: Comparison(
            percentile_estimate(values[level] - values[reference], drawn[level] - drawn[reference]),
            two_sided_p(drawn[level] - drawn[reference]),
        )
        for level in others
    }


def _within(people: ParticipantScores, mask: Labels) -> WeightedStatistic:
    area = area_under_roc(people.scores[mask], people.labels[mask])
    return lambda weights: area(weights[:, mask])
