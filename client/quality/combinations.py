"""Values that cannot stand in one row together, whatever each of them is alone.

A check runs where the study has its features, found by the quantity in their name, in whatever unit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.quality.columns import Values, Written, finding, in_unit, listed, other_units, people, row_list
from sarco_models.errors import Finding
from sarco_models.units import conversion, name_and_unit

QUANTITIES = {
    "height": ("m", ("height", "body_height")),
    "weight": ("kg", ("weight", "body_weight")),
    "bmi": ("kg/m2", ("bmi", "body_mass_index")),
    "calf": ("cm", ("calf_circumference", "calf")),
    "total cholesterol": ("mmol/L", ("total_cholesterol", "cholesterol", "tc")),
    "LDL": ("mmol/L", ("ldl", "ldl_c", "ldl_cholesterol")),
    "HDL": ("mmol/L", ("hdl", "hdl_c", "hdl_cholesterol")),
    "triglycerides": ("mmol/L", ("triglycerides", "triglyceride", "tg")),
    "FT3": ("pmol/L", ("ft3", "free_t3")),
    "FT4": ("pmol/L", ("ft4", "free_t4")),
    "TT3": ("nmol/L", ("tt3", "total_t3")),
    "TT4": ("nmol/L", ("tt4", "total_t4")),
}
"""What it is called here -> the unit of the checks, and the names it has in studies."""

PARTS_OF_A_WHOLE = (("LDL", "total cholesterol"), ("HDL", "total cholesterol"))
FREE_OF_TOTAL = (("FT3", "TT3", 5e-4, 2e-2), ("FT4", "TT4", 2e-5, 2e-3))
"""Free and total hormone and the smallest and largest free share: 0.2-0.5 % of T3 and 0.01-0.03 % of T4 are free, in
disease and with other methods several times less or more."""

CALF_TO_HEIGHT = (0.12, 0.35)
FRIEDEWALD_GAP_MMOL_PER_L = 1.5  # far beyond the formula's error; it holds for triglycerides below 4.5 mmol/L
FRIEDEWALD_TRIGLYCERIDES = 4.5
BMI_SLACK = 1.15  # above the largest error that rounding makes, for values that were rounded twice
UNIT_EXPLAINS = 0.8  # share of the disagreeing rows that one unit must mend to be named


@dataclass(frozen=True, eq=False)
class _Quantity:
    """A feature in the unit of the checks."""

    column: Written
    values: Values
    step: float


def combination_findings(columns: Sequence[Written], rows: Sequence[int]) -> Iterator[Finding]:
    """Rows whose values contradict each other.

    Args:
        columns: as written by the site; only plausible values are looked at, the others are faults of their own.
        rows: line of each participant.
    """
    found = _quantities(columns)
    lines = np.array(rows)
    yield from _bmi(found, lines)
    yield from _parts(found, lines)
    yield from _friedewald(found, lines)
    yield from _free_hormones(found, lines)
    yield from _calf(found, lines)


def _quantities(columns: Sequence[Written]) -> dict[str, _Quantity]:
    found = {}
    for name, (unit, stems) in QUANTITIES.items():
        column = next((c for c in columns if c.feature and name_and_unit(c.name)[0] in stems), None)
        values = in_unit(column, unit) if column else None
        if column and values is not None:
            found[name] = _Quantity(
                column, values, column.step * abs(conversion(column.name, column.unit, unit).factor)
            )
    return found


def _given(found: Mapping[str, _Quantity], *names: str) -> list[_Quantity]:
    """All of these quantities, or none."""
    return [found[name] for name in names] if all(name in found for name in names) else []


# --- body mass index --------------------------------------------------------------------------------------------------


def _bmi(found: Mapping[str, _Quantity], rows: NDArray[np.int64]) -> list[Finding]:
    """BMI against weight / height squared, beyond what rounding of the three can make."""
    if not (given := _given(found, "bmi", "weight", "height")):
        return []
    bmi, weight, height = given
    computed = weight.values / height.values**2
    rounding = computed * (0.5 * weight.step / weight.values + height.step / height.values) + 0.5 * bmi.step
    wrong = np.flatnonzero(np.abs(bmi.values - computed) > BMI_SLACK * rounding)
    if not wrong.size:
        return []
    if hint := _unit_of_weight_or_height(bmi, weight, height, wrong):
        share = f"in {people(len(wrong))}, {row_list(rows[wrong].tolist())}"
        words = (f"another value than weight / height squared {share}", "the same value", hint)
        return [finding("warning", "bmi", bmi.column.name, words)]
    remedy = "correct the one of the three that is wrong"
    return listed(
        [
            finding(
                "warning",
                "bmi",
                bmi.column.name,
                (f"{bmi.values[k]:.1f} kg/m2", f"{computed[k]:.1f} from weight and height", remedy),
                int(rows[k]),
            )
            for k in wrong
        ]
    )


def _unit_of_weight_or_height(bmi: _Quantity, weight: _Quantity, height: _Quantity, wrong: NDArray[np.intp]) -> str:
    """The unit of weight or height that would mend most of the rows; "" when there is none."""
    for quantity, power in ((weight, 1), (height, -2)):
        column = quantity.column
        for unit, convert in other_units(column).items():
            ratio = (convert(column.values[wrong]) / column.values[wrong]) ** power
            mended = ratio * (weight.values / height.values**2)[wrong]
            if len(wrong) > 1 and (np.abs(mended / bmi.values[wrong] - 1) < 0.02).mean() >= UNIT_EXPLAINS:
                return f"{column.name} looks like {unit} in these rows: convert it to {column.unit}"
    return ""


# --- laboratory values ------------------------------------------------------------------------------------------------


def _parts(found: Mapping[str, _Quantity], rows: NDArray[np.int64]) -> Iterator[Finding]:
    """LDL and HDL are parts of total cholesterol and cannot exceed it."""
    for part, whole in PARTS_OF_A_WHOLE:
        if not (given := _given(found, part, whole)):
            continue
        one, all_of_it = given
        above = np.flatnonzero(one.values > all_of_it.values + 0.5 * (one.step + all_of_it.step))
        remedy = f"correct {part} or {whole}; if it is so in many rows, two columns may have been exchanged"
        yield from listed(
            [
                finding(
                    "warning",
                    "part-above-whole",
                    one.column.name,
                    (f"{one.values[k]:.2f} mmol/L", f"at most {whole}, {all_of_it.values[k]:.2f} mmol/L", remedy),
                    int(rows[k]),
                )
                for k in above
            ]
        )


def _friedewald(found: Mapping[str, _Quantity], rows: NDArray[np.int64]) -> list[Finding]:
    """LDL against total cholesterol - HDL - triglycerides / 2.2 (Friedewald et al. 1972): a note, it is an estimate."""
    if not (given := _given(found, "LDL", "total cholesterol", "HDL", "triglycerides")):
        return []
    ldl, total, hdl, triglycerides = given
    gap = ldl.values - (total.values - hdl.values - triglycerides.values / 2.2)
    usable = triglycerides.values < FRIEDEWALD_TRIGLYCERIDES
    far = np.flatnonzero(usable & (np.abs(gap) > FRIEDEWALD_GAP_MMOL_PER_L))
    if not far.size:
        return []
    compared = int((usable & ~np.isnan(gap)).sum())
    seen = f"in {len(far)} of {people(compared)} over {FRIEDEWALD_GAP_MMOL_PER_L:g} mmol/L away: {row_list(rows[far])}"
    expected = "near total cholesterol - HDL - triglycerides / 2.2"
    return [finding("note", "friedewald", ldl.column.name, (seen, expected, "compare the four values with the record"))]


def _free_hormones(found: Mapping[str, _Quantity], rows: NDArray[np.int64]) -> Iterator[Finding]:
    for free, total, low, high in FREE_OF_TOTAL:
        if not (given := _given(found, free, total)):
            continue
        share = given[0].values / (1000 * given[1].values)
        odd = np.flatnonzero((share < low) | (share > high))
        remedy = f"check the units and values of {free} and {total}"
        yield from listed(
            [
                finding(
                    "warning",
                    "free-hormone",
                    given[0].column.name,
                    (f"{100 * share[k]:.2g} % of {total}", f"{100 * low:g} to {100 * high:g} %", remedy),
                    int(rows[k]),
                )
                for k in odd
            ]
        )


def _calf(found: Mapping[str, _Quantity], rows: NDArray[np.int64]) -> list[Finding]:
    if not (given := _given(found, "calf", "height")):
        return []
    calf, height = given
    ratio = calf.values / (100 * height.values)
    low, high = CALF_TO_HEIGHT
    odd = np.flatnonzero((ratio < low) | (ratio > high))
    remedy = "correct the calf circumference or the height"
    return listed(
        [
            finding(
                "warning",
                "calf-height",
                calf.column.name,
                (f"{calf.values[k]:.1f} cm at {height.values[k]:.2f} m", f"{low:g} to {high:g} of the height", remedy),
                int(rows[k]),
            )
            for k in odd
        ]
    )
