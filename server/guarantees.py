"""What a guarantee of differential privacy is, and the only table that may show its epsilon.

A guarantee says whom it protects: a participant, or a whole hospital. The two are different promises with numbers of
different meaning, so that a table holds guarantees of one unit only: :func:`tables` splits them by unit, and
:class:`UnitTable` refuses the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

Unit = Literal["participant", "hospital"]
UNIT_WORDS: dict[Unit, str] = {
    "participant": "Protection of each participant: of all that a study does with one person",
    "hospital": "Protection of each hospital as a whole: another promise, never to be compared with a participant's",
}
ABSENT = "–"


@dataclass(frozen=True)
class Mechanism:
    """One kind of noised release.

    Attributes:
        name: in words.
        noise_multiplier: standard deviation of the noise, in units of ``clip``.
        clip: greatest contribution of one unit; None where each sum has its own.
        sample_rate: chance of a unit to take part in one release.
        steps: releases in a round.
        rounds: in which it was used.
        epsilon: of this mechanism alone; those of several do not add up to that of all.
    """

    name: str
    noise_multiplier: float
    clip: float | None
    sample_rate: float
    steps: int
    rounds: int
    epsilon: float

    def _cells(self) -> list[str]:
        clip = "of each sum" if self.clip is None else f"{self.clip:g}"
        return [number(self.noise_multiplier), clip, f"{self.sample_rate:g}", str(self.steps)]


@dataclass(frozen=True)
class Guarantee:
    """Differential privacy of one unit over a whole run.

    Attributes:
        unit: who is protected.
        epsilon: of all mechanisms together, recomputed.
        delta: at which epsilon holds.
        accountant: how it was composed.
        promised: the study's own epsilon.
        mechanisms: what was noised.
        rounds: complete rounds of the run.
        spare_rounds: rounds beyond these that the noise allows for.
        repeated_rounds: rounds that a hospital answered again, as far as the coordinator saw.
    """

    unit: Unit
    epsilon: float
    delta: float
    accountant: str
    promised: float
    mechanisms: tuple[Mechanism, ...]
    rounds: int
    spare_rounds: int = 0
    repeated_rounds: int = 0

    @property
    def kept(self) -> bool:
        """Whether the run stayed within what its study had promised, to the accountant's precision."""
        return self.epsilon <= self.promised * (1 + 1e-6)

    @property
    def rounds_words(self) -> str:
        """Rounds, with those that were repeated and those that were spare."""
        more = {"answered again": self.repeated_rounds, "spare": self.spare_rounds}
        named = [f"{count} {what}" for what, count in more.items() if count]
        return str(self.rounds) + (f" ({', '.join(named)})" if named else "")

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; an epsilon without limit is None."""
        found = asdict(self)
        for entry in (found, *found["mechanisms"]):
            entry["epsilon"] = entry["epsilon"] if math.isfinite(entry["epsilon"]) else None
        return found

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        mechanisms = tuple(Mechanism(**_whole(entry)) for entry in stored["mechanisms"])
        return cls(**{**_whole(stored), "mechanisms": mechanisms})


@dataclass(frozen=True)
class UnitTable:
    """Guarantees of one unit, each with a name.

    Raises:
        ValueError: guarantees of two units were put together.
    """

    unit: Unit
    rows: tuple[tuple[str, Guarantee], ...]

    HEAD = (
        "Way of training", "Mechanism", "Epsilon", "Delta", "Accountant", "Noise multiplier", "Clip", "Sample rate",
        "Steps a round", "Rounds",
    )  # fmt: skip
    """Names of the columns of :meth:`cells`."""

    def __post_init__(self) -> None:
        """A number that protects a hospital never stands under one that protects a person."""
        if any(g.unit != self.unit for _, g in self.rows):
            raise ValueError(f"a table of epsilons for each {self.unit} cannot hold those of another unit")

    def cells(self) -> list[list[str]]:
        """Lines of text under :data:`HEAD`: each guarantee, beneath it what it is made of."""
        lines = []
        for name, g in self.rows:
            about = [number(g.epsilon), f"{g.delta:g}", g.accountant]
            if len(g.mechanisms) == 1:
                only = g.mechanisms[0]
                lines.append([name, only.name, *about, *only._cells(), g.rounds_words])
                continue
            lines.append([name, "all together", *about, *[ABSENT] * 4, g.rounds_words])
            for m in g.mechanisms:
                lines.append(["", m.name, f"({number(m.epsilon)} alone)", *about[1:], *m._cells(), str(m.rounds)])
        return lines


def tables(named: Iterable[tuple[str, Guarantee]]) -> tuple[UnitTable, ...]:
    """One table for each unit that occurs, participants first."""
    everything = tuple(named)
    found = {unit: tuple(row for row in everything if row[1].unit == unit) for unit in UNIT_WORDS}
    return tuple(UnitTable(unit, rows) for unit, rows in found.items() if rows)


def number(value: float) -> str:
    """An epsilon or a noise multiplier: three digits that matter; without limit is said in a word."""
    return "unlimited" if math.isinf(value) else f"{value:.3g}"


def _whole(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {**stored, "epsilon": math.inf if stored["epsilon"] is None else stored["epsilon"]}
