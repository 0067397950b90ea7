"""Federated statistics of tables: sums that add up across sites exactly, and the scaling that they agree on.

Values are counted in fixed point, 2**-20 of the study's plausible range, so that sums are integers: merged over any
number of sites, in any order, they equal the sums over the pooled rows bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import ProtocolError

if TYPE_CHECKING:  # what travels must be known without what reads images and tables (tests/client/test_app.py)
    from sarco_models.config import StudyConfig
    from sarco_models.schema import Column

Integers = NDArray[np.int64]
Scaling = Literal["standard", "clinical_range", "minmax"]

_STEPS = 1 << 20
"""Resolution: a feature's plausible range is divided into this many steps (one millionth of the range)."""

_EMPTY_LOW, _EMPTY_HIGH = _STEPS + 1, -1


class FittedOn(Protocol):
    """People on whom something may be fitted: :class:`sarco_models.cohort.TrainingPeople`, and nobody else."""

    may_be_fitted_on: ClassVar[Literal[True]]

    @property
    def table(self) -> NDArray[np.float64]:
        """(participants, columns), NaN where missing."""
        ...


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the training participants of one or more sites; every array is (columns,), integers in fixed point.

    Attributes:
        count: participants with a value.
        total: sum of the values.
        squares: sum of the squared values.
        smallest: smallest value; above the range when nobody has one. Sent only where the study scales by min-max.
        largest: largest value; below the range when nobody has one.
    """

    count: Integers
    total: Integers
    squares: Integers
    smallest: Integers
    largest: Integers

    @staticmethod
    def of(people: FittedOn, columns: Sequence[Column], *, extremes: bool) -> Moments:
        """Moments of training participants; with ``extremes`` their smallest and largest values as well."""
        if not getattr(people, "may_be_fitted_on", False):
            raise TypeError("moments are made of TrainingPeople only: nothing is fitted on people who are held out")
        low, high = _limits(columns)
        values = (people.table - low) / (high - low) * _STEPS
        present = ~np.isnan(values)
        fixed = np.where(present, np.rint(values), 0).astype(np.int64)
        nobody = np.full(len(columns), _EMPTY_LOW, dtype=np.int64)
        smallest = np.where(present, fixed, _EMPTY_LOW).min(axis=0, initial=_EMPTY_LOW) if extremes else nobody
        largest = np.where(present, fixed, _EMPTY_HIGH).max(axis=0, initial=_EMPTY_HIGH) if extremes else nobody * 0 - 1
        return Moments(present.sum(axis=0), fixed.sum(axis=0), (fixed**2).sum(axis=0), smallest, largest)

    def of_columns(self, kept: NDArray[np.bool_]) -> Moments:
        """The same sums for the columns where ``kept`` is True; the others say that nobody has a value."""
        return Moments(
            np.where(kept, self.count, 0),
            np.where(kept, self.total, 0),
            np.where(kept, self.squares, 0),
            np.where(kept, self.smallest, _EMPTY_LOW),
            np.where(kept, self.largest, _EMPTY_HIGH),
        )

    def __add__(self, other: Moments) -> Moments:
        """Moments of both groups of people together."""
        if len(self.count) != len(other.count):
            raise ProtocolError(f"moments of {len(other.count)} columns; expected {len(self.count)}: another study?")
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
        )

    def mean(self, columns: Sequence[Column]) -> NDArray[np.float64]:
        """(columns,) means in the study's units; the middle of the range where nobody has a value."""
        low, high = _limits(columns)
        fraction = np.where(self.count > 0, self.total / np.maximum(self.count, 1) / _STEPS, 0.5)
        return np.asarray(low + fraction * (high - low), dtype=np.float64)

    def standard_deviation(self, columns: Sequence[Column]) -> NDArray[np.float64]:
        """(columns,) standard deviations in the study's units, over count; 0 where nobody has a value."""
        low, high = _limits(columns)
        sums = zip(self.count.tolist(), self.total.tolist(), self.squares.tolist(), strict=True)
        # In whole numbers of any size, so that a column without spread has a deviation of exactly 0.
        variance = [(n * squares - total**2) / max(n, 1) ** 2 for n, total, squares in sums]
        return np.asarray(np.sqrt(variance) / _STEPS * (high - low), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class TableScaling:
    """How a table becomes the network's numbers: mean imputation, then scaling. Fitted on training people only.

    Attributes:
        fill: (columns,) value for a missing cell, in the study's units.
        low: (columns,) value that becomes 0.
        high: (columns,) value that becomes 1.
    """

    fill: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @staticmethod
    def agreed(moments: Moments, columns: Sequence[Column], scaling: Scaling) -> TableScaling:
        """Scaling from the merged moments of all sites.

        Args:
            moments: over the training participants of every site.
            columns: of the study.
            scaling: what becomes 0 and what becomes 1; see :class:`sarco_models.config.TabularConfig`. 0/1 columns and
                columns without any spread keep the study's range.
        """
        low, high = _limits(columns)
        mean, deviation, span = moments.mean(columns), moments.standard_deviation(columns), high - low
        graded = np.array([not c.zero_one for c in columns], dtype=np.bool_)
        if scaling == "standard":
            usable = graded & (deviation > 0)
            low, high = np.where(usable, mean, low), np.where(usable, mean + deviation, high)
        if scaling == "minmax":
            usable = graded & (moments.largest > moments.smallest)
            smallest, largest = low + moments.smallest / _STEPS * span, low + moments.largest / _STEPS * span
            low, high = np.where(usable, smallest, low), np.where(usable, largest, high)
        return TableScaling(mean, low, high)

    def __call__(self, table: NDArray[np.float64]) -> NDArray[np.float32]:
        """(participants, columns) in the study's units, NaN where missing -> scaled and complete."""
        filled = np.where(np.isnan(table), self.fill, table)
        return ((filled - self.low) / (self.high - self.low)).astype(np.float32)


def agreed_scaling(study: StudyConfig, moments: Moments) -> TableScaling:
    """The scaling that follows from a study and the moments of all its sites; the same on both sides of the wire."""
    from sarco_models.schema import design_columns

    return TableScaling.agreed(moments, design_columns(study.features), study.tabular.scaling)


def _limits(columns: Sequence[Column]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low = np.array([c.low for c in columns], dtype=np.float64)
    high = np.array([c.high for c in columns], dtype=np.float64)
    return low, high
