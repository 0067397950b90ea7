"""Numbers that cannot be what their column says: another unit, two units in one column, and values far from all others.

A unit is suspected from where the numbers lie. Outside the study's plausible range that is certain enough to be an
error. Inside it, only a few quantities are told apart: those whose median no cohort of adults reaches, well or ill.
Outliers are listed for a person to look up and correct; nothing here changes a value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.quality.columns import Values, Written, finding, listed, other_units, row_list
from sarco_models.errors import ConfigError, Finding, Severity
from sarco_models.units import Conversion, conversion, name_and_unit

FEWEST_FOR_MEDIAN = 8
FEWEST_FOR_OUTLIERS = 20

OUTLIER_NOTE, OUTLIER_WARNING = 4.5, 6.5
"""Robust z (median and MAD; Iglewicz & Hoaglin 1993 take 3.5) beyond which a value is listed, and beyond which it is
probably wrong. The tails of laboratory values are heavy: at 3.5 a clean cohort is full of "outliers"."""

FEW_PEOPLE = 6.0
"""With n values both limits grow by 6 / n of themselves: a spread taken from few values is often too small."""

FITS = 3.5  # robust z that a value must come down to for another unit to explain it

APART = 3.0  # times that two units must differ for plausible cells in the other one to be told from outliers

USUAL_MEDIAN = {
    "weight": ("kg", 40.0, 100.0),
    "vitd": ("ng/mL", 5.0, 45.0),
    "osteocalcin": ("ng/mL", 5.0, 50.0),
    "ft3": ("pmol/L", 3.3, 8.0),
    "ft4": ("pmol/L", 7.0, 30.0),
    "tt3": ("nmol/L", 1.1, 3.5),
    "tt4": ("nmol/L", 50.0, 180.0),
    "grip": ("kg", 8.0, 48.0),
    "gait_speed": ("m/s", 0.3, 2.0),
    "chair_stand": ("s", 5.0, 40.0),
    "asmi": ("kg/m2", 4.0, 10.0),
    "l3_smi": ("cm2/m2", 25.0, 70.0),
}
"""Where the median of a cohort of adults lies, well or ill, for quantities whose other units fall inside a study's
plausible range, and for those that define the label and have none. General knowledge, wide on purpose."""


def value_findings(columns: Sequence[Written], rows: Sequence[int]) -> Iterator[Finding]:
    """Units and outliers of every column.

    Args:
        columns: as written by the site.
        rows: line of each participant.
    """
    for column in columns:
        whole = _wrong_unit(column)
        yield from [whole] if whole else _odd_values(column, np.array(rows))


# --- a whole column ---------------------------------------------------------------------------------------------------


def _wrong_unit(column: Written) -> Finding | None:
    """The median lies where this quantity's does not, and perhaps another unit would bring it there."""
    present = column.present
    if present.size < FEWEST_FOR_MEDIAN:
        return None
    median = float(np.median(present))
    low, high = _usual(column) or (column.low, column.high)
    if max((present < low).mean(), (present > high).mean()) < 0.5 + 1 / np.sqrt(present.size):
        return None  # the median is inside, or so near that few people may have moved it out: two standard errors
    units = _units_that_fit(column, median, (low, high))
    seen = f"median {_shown(median)} over {present.size} values"
    expected = f"a median of {low:g} to {high:g} {column.unit}".rstrip()
    if not column.low <= median <= column.high:
        # Without a unit that explains it there is nothing to add to the fault of every single cell.
        return finding("error", "units", column.name, (seen, expected, _remedy(column, units))) if units else None
    if units or not column.feature:
        return finding("warning", "units", column.name, (seen, expected, _remedy(column, units)))
    return finding("note", "unusual-median", column.name, (seen, expected, "check that the column is what it says"))


def _usual(column: Written) -> tuple[float, float] | None:
    """Where the median of adults lies, in the column's unit; None when nothing is known of it."""
    quantity = name_and_unit(column.name)[0]
    for name, (unit, low, high) in USUAL_MEDIAN.items():
        if not (quantity == name or quantity.startswith(f"{name}_")):
            continue
        try:
            convert = conversion(column.name, unit, column.unit)
        except ConfigError:
            return None
        limits = convert(low), convert(high)
        # A study with a narrower range is of other people than adults.
        return limits if column.low <= limits[0] and limits[1] <= column.high else None
    return None


def _units_that_fit(column: Written, value: float, limits: tuple[float, float]) -> list[str]:
    """Units in which the value would lie inside the limits."""
    return [unit for unit, convert in other_units(column).items() if limits[0] <= convert(value) <= limits[1]]


def _remedy(column: Written, units: Sequence[str]) -> str:
    if not units:
        return "check the unit of the column: the label rule is checked with it"
    return (
        f"the values look like {' or '.join(units)}: convert the column to {column.unit}, "
        "or name its unit in the mapping file and let sarco-site ingest convert it"
    )


def _shown(value: float) -> str:
    return f"{value:.4g}"


# --- single values ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bulk:
    """Center and spread of most values, on the plain scale and on the logarithm where all are positive."""

    plain: tuple[float, float]
    log: tuple[float, float] | None

    @staticmethod
    def of(values: Values, step: float) -> "Bulk | None":
        """None when the values do not differ.

        Args:
            values: most of which are right.
            step: last decimal in use; values that differ by less are equal.
        """
        center, spread = _center_and_spread(values)
        if not spread:
            return None
        log = _center_and_spread(np.log(values)) if (values > 0).all() else None
        return Bulk((center, max(spread, step)), log if log and log[1] else None)

    def z(self, values: Values) -> Values:
        """Robust z, signed; the smaller of both scales, so that the long tail of a skewed column is no outlier."""
        z, ratio = (values - self.plain[0]) / self.plain[1], self.z_of_ratio(values)
        return np.asarray(np.where(np.abs(ratio) < np.abs(z), ratio, z), dtype=np.float64)

    def z_of_ratio(self, values: Values) -> Values:
        """Robust z on the logarithm, where another unit is a shift; NaN where there is none."""
        center, spread = self.log or (np.nan, np.nan)
        return np.asarray((np.log(np.where(values > 0, values, np.nan)) - center) / spread, dtype=np.float64)


def _center_and_spread(values: Values) -> tuple[float, float]:
    """Median and 1.4826 MAD; where more than half of the values are equal, 1.2533 mean deviations."""
    center = float(np.median(values))
    deviation = np.abs(values - center)
    return center, float(1.4826 * np.median(deviation) or 1.2533 * deviation.mean())


def _odd_values(column: Written, rows: NDArray[np.int64]) -> list[Finding]:
    """Values in another unit than the rest, and outliers that no unit explains."""
    trusted = column.values[column.plausible & _near_usual(column)]
    bulk = Bulk.of(trusted, column.step) if trusted.size >= FEWEST_FOR_OUTLIERS else None
    if bulk is None:
        return []
    z = bulk.z(column.values) / (1 + FEW_PEOPLE / trusted.size)
    odd = ~np.isnan(column.values) & ~(column.plausible & (np.abs(z) < OUTLIER_NOTE))
    units = other_units(column).items()
    fits = {unit: np.abs(bulk.z_of_ratio(convert(column.values))) < FITS for unit, convert in units}
    fits = {unit: fits[unit] & (~column.plausible | _apart(convert)) for unit, convert in units}
    findings = []
    for unit, mask in sorted(fits.items(), key=lambda item: -int((item[1] & odd).sum())):
        here = mask & odd
        if here.sum() >= 2:
            findings.append(_mixed(column, unit, here, rows))
            odd &= ~here
    return findings + _outliers(column, z, odd & column.plausible, rows)


def _apart(convert: Conversion) -> bool:
    """Whether the units differ enough for a mere outlier not to be taken for one."""
    return not 1 / APART < convert.factor < APART


def _near_usual(column: Written) -> NDArray[np.bool_]:
    """Where a usual median is known, only what is within a factor of it says what most values are."""
    usual = _usual(column)
    if usual is None:
        return np.ones(column.values.shape, dtype=np.bool_)
    return (column.values >= usual[0] / 2) & (column.values <= usual[1] * 2)


def _mixed(column: Written, unit: str, here: NDArray[np.bool_], rows: NDArray[np.int64]) -> Finding:
    """Cells in another unit: an error where one of them is implausible as it stands."""
    seen = f"{here.sum()} of {column.present.size} values look like {unit}: {row_list(rows[here].tolist())}"
    remedy = f"convert these cells to {column.unit}; their other columns may be in other units as well"
    severity: Severity = "warning" if column.plausible[here].all() else "error"
    return finding(severity, "units-mixed", column.name, (seen, f"one unit, {column.unit}", remedy))


def _outliers(column: Written, z: Values, odd: NDArray[np.bool_], rows: NDArray[np.int64]) -> list[Finding]:
    """Farthest first within each severity."""
    order = [k for k in np.argsort(-np.abs(z), kind="stable") if odd[k]]
    probable = [k for k in order if abs(z[k]) >= OUTLIER_WARNING]
    possible = [k for k in order if abs(z[k]) < OUTLIER_WARNING]
    middle = float(np.median(column.values[column.plausible]))
    expected = f"near {_shown(middle)} {column.unit}, the median".replace(" ,", ",")
    remedy = "look it up in the record: correct it, or leave it if it is true; nothing is changed for you"

    def told(k: int, severity: Severity) -> Finding:
        side = "above" if z[k] > 0 else "below"
        seen = f"{_shown(float(column.values[k]))}, {abs(z[k]):.1f} robust standard deviations {side}"
        return finding(severity, "outlier", column.name, (seen, expected, remedy), int(rows[k]))

    return [*listed([told(k, "warning") for k in probable]), *listed([told(k, "note") for k in possible])]
