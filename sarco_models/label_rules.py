"""The reference standards of sarcopenia as functions of what was measured: positive, negative, or not to be decided.

A rule is decided as soon as the parts that are present suffice: normal muscle mass is "no sarcopenia" whatever the
grip, and a woman whose index is below the cut-off of both devices has low mass whatever the device. What is unknown
widens the cut-off to a range, and only a value outside that range decides.

Sources. AWGS 2019: Chen et al., J Am Med Dir Assoc 2020;21:300. AWGS 2025: Chen et al., Nature Aging 2025, doi
10.1038/s43587-025-01004-y, whose text is not open; the cut-offs from 65 years are those of 2019 (two independent
programs for KNHANES and of West China Hospital say so), those of 50 to 64 years were found in the latter alone: compare
them with the paper before a study relies on them. EWGSOP2: Cruz-Jentoft et al., Age Ageing 2019;48:16 with its
correction (women 5.5 kg/m2). CT: Zeng et al. 2021, PMC8718091 (cirrhosis). Left out: the SPPB, the absolute muscle mass
of EWGSOP2, and muscle mass by BMI, which AWGS 2025 allows, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Parts = Mapping[str, Values]
"""Column -> (participants,) values, NaN = unknown. A column that is absent is a test that the site does not use: it is
not waited for. ``male`` is 1 or 0; ``asmi_device`` is a code of :func:`device_code`."""

Decisions = NDArray[np.int8]
"""(participants,) 1 = positive, 0 = negative, -1 = cannot be decided."""

ASMI, DEVICE, GRIP = "asmi_kg_per_m2", "asmi_device", "grip_kg"
GAIT, CHAIR, L3_SMI = "gait_speed_m_per_s", "chair_stand_s", "l3_smi_cm2_per_m2"
MALE, AGE = "male", "age_years"

DXA, BIA = 0.0, 1.0


def device_code(text: str) -> float:
    """``DXA`` or ``BIA`` for the words that hospitals write, NaN for any other."""
    word = text.strip().upper()
    return DXA if word in ("DXA", "DEXA") else BIA if word == "BIA" else float("nan")


@dataclass(frozen=True)
class LabelRule:
    """One reference standard.

    Attributes:
        name: as a study or site file has it.
        title: as people say it.
        parts: columns it can read.
        decide: parts -> decisions.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    decide: Callable[[Parts], Decisions]


def apply(rule: LabelRule, parts: Parts) -> Decisions:
    """What a rule says of each participant: 1, 0, or -1 where the parts that are present do not suffice.

    Args:
        rule: one of :data:`RULES`.
        parts: at least one column; all of one length.
    """
    return rule.decide({name: values for name, values in parts.items() if name in rule.parts})


# --- a cut-off that depends on what may be unknown --------------------------------------------------------------------

Cut = tuple[Values, Values]
"""(smallest, largest) cut-off that may hold for each participant; equal where everything it depends on is known."""

_NO_CUT: Cut = (np.array(-np.inf), np.array(np.inf))


def _cut(value: float) -> Cut:
    return np.array(value), np.array(value)


def _by(choice: Values, zero: Cut, one: Cut) -> Cut:
    """``zero`` or ``one`` by a 0/1 column; both may hold where it is unknown."""
    least, most = np.minimum(zero[0], one[0]), np.maximum(zero[1], one[1])
    return (
        np.where(choice == 0, zero[0], np.where(choice == 1, one[0], least)),
        np.where(choice == 0, zero[1], np.where(choice == 1, one[1], most)),
    )


def _column(parts: Parts, name: str) -> Values:
    return parts.get(name, np.full(_length(parts), np.nan))


def _length(parts: Parts) -> int:
    return len(next(iter(parts.values())))


def _by_sex(parts: Parts, women: float | Cut, men: float | Cut) -> Cut:
    women, men = (c if isinstance(c, tuple) else _cut(c) for c in (women, men))
    return _by(_column(parts, MALE), women, men)


def _by_device(parts: Parts, dxa: float, bia: float) -> Cut:
    return _by(_column(parts, DEVICE), _cut(dxa), _cut(bia))


def _by_age(parts: Parts, middle: Cut, older: Cut) -> Cut:
    """AWGS 2025: one cut-off for 50 to 64 years, one from 65; below 50 it has none, so that nothing is decided."""
    age = _column(parts, AGE)
    least, most = _by(np.where(np.isnan(age), np.nan, age >= 65), middle, older)
    young = age < 50
    return np.where(young, _NO_CUT[0], least), np.where(young, _NO_CUT[1], most)


# --- three-valued criteria --------------------------------------------------------------------------------------------


def _below(values: Values, cut: Cut) -> Decisions:
    """Value < cut-off; an unknown value is undecided."""
    return np.select([values < cut[0], values >= cut[1]], [1, 0], default=-1).astype(np.int8)


def _at_least(values: Values, limit: float) -> Decisions:
    return np.select([values >= limit, values < limit], [1, 0], default=-1).astype(np.int8)


def _above(values: Values, limit: float) -> Decisions:
    return np.select([values > limit, values <= limit], [1, 0], default=-1).astype(np.int8)


def _both(one: Decisions, other: Decisions) -> Decisions:
    return np.select([(one == 0) | (other == 0), (one == 1) & (other == 1)], [0, 1], default=-1).astype(np.int8)


def _any(parts: Parts, criteria: Mapping[str, Callable[[Values], Decisions]]) -> Decisions:
    """Positive when one criterion is; negative when all tests that the site uses are; undecided without any test."""
    used = [test(parts[column]) for column, test in criteria.items() if column in parts]
    if not used:
        return np.full(_length(parts), -1, dtype=np.int8)
    found = np.stack(used)
    return np.select([(found == 1).any(axis=0), (found == 0).all(axis=0)], [1, 0], default=-1).astype(np.int8)


# --- the rules --------------------------------------------------------------------------------------------------------


def _awgs2019(parts: Parts) -> Decisions:
    """Low mass, and low strength or low performance; a site that tests only one of these cannot exclude the other."""
    low_mass = _below(_column(parts, ASMI), _by_sex(parts, women=_by_device(parts, 5.4, 5.7), men=7.0))
    weak_or_slow = _any(
        parts,
        {
            GRIP: lambda grip: _below(grip, _by_sex(parts, women=18.0, men=28.0)),
            GAIT: lambda gait: _below(gait, _cut(1.0)),
            CHAIR: lambda chair: _at_least(chair, 12.0),
        },
    )
    if not (GRIP in parts and (GAIT in parts or CHAIR in parts)):
        weak_or_slow = np.where(weak_or_slow == 1, weak_or_slow, np.int8(-1))
    return _both(low_mass, weak_or_slow)


def _awgs2025(parts: Parts) -> Decisions:
    """Low mass and low strength, with cut-offs by age; performance does not count any more."""
    mass = _by_age(
        parts,
        middle=_by_sex(parts, women=_by_device(parts, 5.5, 5.7), men=_by_device(parts, 7.2, 7.6)),
        older=_by_sex(parts, women=_by_device(parts, 5.4, 5.7), men=7.0),
    )
    strength = _by_age(parts, middle=_by_sex(parts, women=20.0, men=34.0), older=_by_sex(parts, women=18.0, men=28.0))
    return _both(_below(_column(parts, ASMI), mass), _below(_column(parts, GRIP), strength))


def _ewgsop2(parts: Parts) -> Decisions:
    """Confirmed sarcopenia: low strength and low mass; gait speed only grades its severity."""
    low_mass = _below(_column(parts, ASMI), _by_sex(parts, women=5.5, men=7.0))
    weak = _any(
        parts,
        {
            GRIP: lambda grip: _below(grip, _by_sex(parts, women=16.0, men=27.0)),
            CHAIR: lambda chair: _above(chair, 15.0),
        },
    )
    return _both(low_mass, weak)


def _ct_l3_smi(parts: Parts) -> Decisions:
    """Muscle area at the third lumbar vertebra over height squared; mass only."""
    return _below(_column(parts, L3_SMI), _by_sex(parts, women=32.50, men=44.77))


RULES: Mapping[str, LabelRule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            LabelRule("awgs2019", "AWGS 2019", (ASMI, MALE, GRIP, GAIT, CHAIR, DEVICE), _awgs2019),
            LabelRule("awgs2025", "AWGS 2025", (ASMI, GRIP, MALE, AGE, DEVICE), _awgs2025),
            LabelRule("ewgsop2", "EWGSOP2", (ASMI, MALE, GRIP, CHAIR), _ewgsop2),
            LabelRule("ct_l3_smi", "CT L3-SMI", (L3_SMI, MALE), _ct_l3_smi),
        )
    }
)
"""By the name that a study or site file gives them."""
