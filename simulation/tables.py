"""Participants' tables: a Gaussian copula that keeps Table 1's quantiles exactly, whatever its columns' correlations.

Within a class and sex each column has a score ``e = loadings . factors + own noise``, standard normal. Men and women
differ by ``male_shift``; the mixture of the two is brought back to a standard normal ``z`` by its own distribution
function, and ``z`` to the column's unit through the class's quantiles (monotone cubic interpolation). A person whose
values contradict the label rule is drawn again, which bends the quantiles; ``knots.json`` holds, for every column, the
``z`` at which the accepted people reach each quantile. ``python -m simulation.tables`` makes that file anew.
Total cholesterol has no factors of its own: its ``z`` is that of the sum of its parts (``lipids.py``).

Method, numbers and sources: SCIENCE section 2.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtr, ndtri

from simulation.centers import CENTERS, PRESETS, Center, Knots, PerClass, Preset
from simulation.lipids import HDL, LDL, TOTAL, TRIGLYCERIDES, at_least_its_parts, score_among, sum_of_parts
from simulation.table1 import (
    ASMI_LOADINGS,
    AWGS_COLUMNS,
    CLINICAL,
    CT_COLUMNS,
    DIABETES,
    FACTORS,
    LAB,
    MISSING_BLOCKS,
    NUM_HEALTHY,
    NUM_SARCOPENIA,
    OSTEOPOROSIS,
    PERFORMANCE,
    PLAUSIBLE_CALF,
    ROWS,
)

Array = NDArray[np.float64]
ZKnots = Mapping[str, tuple[float, ...]]  # column -> z of minimum, quartiles and maximum

KNOTS_FILE = Path(__file__).with_name("knots.json")
NUM_REFERENCE = 20_000  # people whose sums of lipids rank those who are drawn
Z_KNOTS = (-2.6, float(ndtri(0.25)), 0.0, float(ndtri(0.75)), 2.6)
DECIMALS = {name: row.decimals for name, row in ROWS.items()} | {
    "weight_kg": 1,
    "asmi_kg_per_m2": 2,
    "l3_smi_cm2_per_m2": 2,
    "male": 0,
    "diabetes": 0,
    "osteoporosis": 0,
    "sarcopenia": 0,
}

# AWGS 2019 (Chen et al. 2020): low muscle mass and (low strength or low performance).
ASMI_CUT_MEN, ASMI_CUT_WOMEN_DXA, ASMI_CUT_WOMEN_BIA = 7.0, 5.4, 5.7
GRIP_CUT_MEN, GRIP_CUT_WOMEN = 28.0, 18.0
GAIT_CUT_M_PER_S, CHAIR_CUT_S = 1.0, 12.0
# Zeng et al. (2021): CT skeletal muscle index at L3 in cirrhosis.
L3_CUT_MEN, L3_CUT_WOMEN = 44.77, 32.50


@dataclass(frozen=True)
class People:
    """Participants of one centre, row by row.

    Attributes:
        table: ``sarcopenia`` and the centre's columns; NaN = missing.
        factors: (n, 7) latent ``FACTORS``, shared by table and images.
    """

    table: pd.DataFrame
    factors: Array

    def reordered(self, rows: NDArray[np.intp]) -> "People":
        """The same people in another order, or some of them."""
        return People(self.table.iloc[rows].reset_index(drop=True), self.factors[rows])


def draw_people(center: Center, participants: PerClass[int], preset: Preset, rng: np.random.Generator) -> People:
    """Draw a cohort with exact numbers per class, sex, diabetes and osteoporosis, in random order.

    Every person fulfils the centre's label rule; ``round(missing_share * n)`` of them have empty cells.
    """
    parts = [_draw_class(center, sarcopenia, participants[sarcopenia], preset, rng) for sarcopenia in (False, True)]
    people = People(
        pd.concat([p.table for p in parts], ignore_index=True), np.concatenate([p.factors for p in parts])
    ).reordered(rng.permutation(participants.healthy + participants.sarcopenia))
    table = with_missing(people.table, round(center.missing_share * len(people.table)), rng)
    return People(table[["sarcopenia", *columns_of(center)]], people.factors)


def columns_of(center: Center) -> tuple[str, ...]:
    """Columns of a centre's table after ``sarcopenia``: clinical, laboratory, then what defines its label."""
    return (*CLINICAL, *LAB, *(AWGS_COLUMNS if center.label_rule == "awgs2019" else CT_COLUMNS))


def meets_awgs2019(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Sarcopenia by AWGS 2019, per row of a table with ``AWGS_COLUMNS`` and ``male``."""
    men = table["male"].to_numpy() == 1
    women_cut = np.where(table["asmi_device"].to_numpy() == "DXA", ASMI_CUT_WOMEN_DXA, ASMI_CUT_WOMEN_BIA)
    low_mass = table["asmi_kg_per_m2"].to_numpy() < np.where(men, ASMI_CUT_MEN, women_cut)
    weak = table["grip_kg"].to_numpy() < np.where(men, GRIP_CUT_MEN, GRIP_CUT_WOMEN)
    slow = (table["gait_speed_m_per_s"].to_numpy() < GAIT_CUT_M_PER_S) | (
        table["chair_stand_s"].to_numpy() >= CHAIR_CUT_S
    )
    met: NDArray[np.bool_] = low_mass & (weak | slow)
    return met


def target_quantiles(center: Center, preset: Preset, column: str) -> PerClass[Knots]:
    """The quantiles that a centre's column is drawn from, under a preset."""
    knots = center.quantiles.get(column, ROWS[column].quantiles)
    healthy, sarcopenia = np.array(knots.healthy, float), np.array(knots.sarcopenia, float)
    if column == "calf_circumference_cm" and preset.calf == "plausible":
        sarcopenia = np.array(PLAUSIBLE_CALF)
    if column in LAB:
        middle = (healthy * NUM_HEALTHY + sarcopenia * NUM_SARCOPENIA) / (NUM_HEALTHY + NUM_SARCOPENIA)
        healthy = middle + (healthy - middle) * preset.lab_separation
        sarcopenia = middle + (sarcopenia - middle) * preset.lab_separation
    shift = center.shifts.get(column, 0.0)
    # A shift lowers the whole column, but no analyser reports values near zero: the minimum falls to 40 % at most.
    return PerClass(*(_knots(np.maximum(q + shift, 0.4 * q[0])) for q in (healthy, sarcopenia)))


def with_missing(table: pd.DataFrame, num_participants: int, rng: np.random.Generator) -> pd.DataFrame:
    """Empty some blocks of cells of exactly ``num_participants`` rows, older people slightly more often."""
    if num_participants == 0:
        return table
    table = table.astype({c: float for block, _ in MISSING_BLOCKS for c in block})
    age = table["age_years"].to_numpy(float)
    weight = np.exp(0.25 * (age - age.mean()) / max(age.std(), 1e-9))
    chance = np.array([p for _, p in MISSING_BLOCKS]) * 0.8
    rows = rng.choice(len(table), num_participants, replace=False, p=weight / weight.sum())
    lost = rng.random((num_participants, len(chance))) < chance
    while (none := ~lost.any(axis=1)).any():
        lost[none] = rng.random((int(none.sum()), len(chance))) < chance
    for k, (block, _) in enumerate(MISSING_BLOCKS):
        table.loc[rows[lost[:, k]], list(block)] = np.nan
    return table


def stored_knots(center: Center, sarcopenia: bool) -> ZKnots:
    """The calibrated ``z`` of each column's quantiles; a centre whose rule rejects nobody needs none."""
    return _read_knots().get(center.name, {}).get("sarcopenia" if sarcopenia else "healthy", {})


@lru_cache(maxsize=1)
def _read_knots() -> dict[str, dict[str, dict[str, tuple[float, ...]]]]:
    stored: dict[str, dict[str, dict[str, tuple[float, ...]]]] = json.loads(KNOTS_FILE.read_text(encoding="utf-8"))
    return stored


def calibrated_knots(center: Center, sarcopenia: bool, num_people: int = 60_000, rounds: int = 8) -> ZKnots:
    """Fixed point of: draw, reject, move each column's knots to the accepted people's quantiles of ``z``.

    Columns of the label rule move the rejection itself, so they go only part of the way each round.
    """
    share = (float(ndtr(Z_KNOTS[0])), 0.25, 0.5, 0.75, float(ndtr(Z_KNOTS[-1])))
    knots: dict[str, tuple[float, ...]] = dict.fromkeys(ROWS, Z_KNOTS)
    for _ in range(rounds):
        rng = np.random.default_rng([7, sarcopenia])
        lots = _accepted_by_sex(_lot(center, sarcopenia, PRESETS["table1_faithful"], knots), num_people, rng)
        scores = np.concatenate([lot.z for lot in lots])
        for column, z in zip(ROWS, scores.T, strict=True):
            old, new = np.array(knots[column]), np.quantile(z, share)
            moved = old + (0.7 if column in PERFORMANCE else 1.0) * (new - old)
            knots[column] = tuple(round(float(v), 4) for v in moved)
    return knots


def write_knots(path: Path = KNOTS_FILE) -> None:
    """Calibrate both AWGS 2019 centres (about 10 s) and store the knots."""
    stored = {
        c.name: {"healthy": calibrated_knots(c, False), "sarcopenia": calibrated_knots(c, True)}
        for c in CENTERS.values()
        if c.label_rule == "awgs2019"
    }
    text = json.dumps(stored, indent=1).replace("\n    ", " ").replace("\n   ]", "]")
    path.write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Lot:
    """What a class of people is drawn from; ``sums`` are sorted sums of lipids of its people."""

    center: Center
    sarcopenia: bool
    preset: Preset
    knots: ZKnots
    sums: Array


@dataclass(frozen=True)
class _Drawn:
    """People of one class and sex: table, factors (n, 7) and the columns' scores ``z`` (n, columns)."""

    table: pd.DataFrame
    factors: Array
    z: Array


def _draw_class(center: Center, sarcopenia: bool, num_people: int, preset: Preset, rng: np.random.Generator) -> People:
    """Accepted people of one class, with its exact number of men, diabetes and osteoporosis."""
    lot = _lot(center, sarcopenia, preset, stored_knots(center, sarcopenia))
    lots = _accepted_by_sex(lot, num_people, rng)
    table = pd.concat([d.table for d in lots], ignore_index=True)
    factors = np.concatenate([d.factors for d in lots])
    shared = factors * preset.correlation
    tied = preset.correlation**2 * (0.35**2 + 0.20**2)
    diabetes = shared[:, 6] * 0.35 + shared[:, 1] * 0.20 + np.sqrt(1 - tied) * rng.standard_normal(num_people)
    porous = 0.25 * (shared[:, 0] - shared[:, 1]) - 0.9 * table["male"] + 0.9 * rng.standard_normal(num_people)
    table["diabetes"] = _highest(diabetes, round(DIABETES[sarcopenia] * num_people))
    table["osteoporosis"] = _highest(porous.to_numpy(), round(OSTEOPOROSIS[sarcopenia] * num_people))
    table["sarcopenia"] = int(sarcopenia)
    return People(table, factors)


def _accepted_by_sex(lot: _Lot, num_people: int, rng: np.random.Generator) -> list[_Drawn]:
    """Women, then men, in the class's share, all of whom fulfil the label rule."""
    men = round(lot.center.male_share[lot.sarcopenia] * num_people)
    lots: list[_Drawn] = []
    for male, need in ((0, num_people - men), (1, men)):
        while need > 0:
            drawn = _draw(lot, male, max(int(1.5 * need), 64), rng)
            rows = np.flatnonzero(_fits_label(drawn.table, lot))[:need]
            lots.append(_Drawn(drawn.table.iloc[rows], drawn.factors[rows], drawn.z[rows]))
            need -= len(rows)
    return lots


def _fits_label(table: pd.DataFrame, lot: _Lot) -> NDArray[np.bool_]:
    if lot.center.label_rule == "ct_l3_smi":  # drawn on its own side of the cut-off
        return np.ones(len(table), bool)
    fits: NDArray[np.bool_] = meets_awgs2019(table) == lot.sarcopenia
    return fits


def _lot(center: Center, sarcopenia: bool, preset: Preset, knots: ZKnots) -> _Lot:
    """The class, with the sums of lipids of people who are drawn for nothing else, always the same."""
    lot = _Lot(center, sarcopenia, preset, knots, np.zeros(0))
    men = round(center.male_share[sarcopenia] * NUM_REFERENCE)
    rng = np.random.default_rng([11, sarcopenia])
    z = np.concatenate([_scores(lot, male, n, rng)[2] for male, n in ((0, NUM_REFERENCE - men), (1, men))])
    return replace(lot, sums=np.sort(_sums(z, lot)))


def _draw(lot: _Lot, male: int, num_people: int, rng: np.random.Generator) -> _Drawn:
    """People of one class and sex, before the label rule; values as printed, so that rounding cannot break it."""
    factors, within_sex, z = _scores(lot, male, num_people, rng)
    z[:, list(ROWS).index(TOTAL)] = score_among(_sums(z, lot), lot.sums)
    columns = {c: _value(z[:, k], c, lot) for k, c in enumerate(ROWS)}
    columns[TOTAL] = at_least_its_parts(columns[TOTAL], columns[LDL] + columns[HDL])
    table = pd.DataFrame(columns | {"male": male})
    table["weight_kg"] = (table["bmi_kg_per_m2"] * table["height_m"] ** 2).round(1)
    table["bmi_kg_per_m2"] = (table["weight_kg"] / table["height_m"] ** 2).round(2)
    _add_muscle_mass(table, within_sex[:, -1], lot, rng)
    return _Drawn(table, factors, z)


def _scores(lot: _Lot, male: int, num_people: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Factors, each column's score within the sex (the last is muscle mass), and ``z`` within the class."""
    share, strength = lot.center.male_share[lot.sarcopenia], lot.preset.correlation
    loadings = np.array([r.loadings for r in ROWS.values()] + [ASMI_LOADINGS]) * strength
    own = np.sqrt(1 - (loadings**2).sum(axis=1))
    factors = rng.standard_normal((num_people, len(FACTORS)))
    within_sex = factors @ loadings.T + own * rng.standard_normal((num_people, len(loadings)))
    shift = np.array([r.male_shift for r in ROWS.values()])
    level = within_sex[:, :-1] + shift * (male - share)
    mixture = share * ndtr(level - shift * (1 - share)) + (1 - share) * ndtr(level + shift * share)
    return factors, within_sex, ndtri(mixture.clip(1e-6, 1 - 1e-6))


def _sums(z: Array, lot: _Lot) -> Array:
    """Sum of each person's lipids, mmol/L; the score that total cholesterol has so far is that of the remnants."""
    ldl, hdl, fat = (_value(z[:, list(ROWS).index(c)], c, lot) for c in (LDL, HDL, TRIGLYCERIDES))
    return sum_of_parts(ldl, hdl, fat, z[:, list(ROWS).index(TOTAL)])


def _value(z: Array, column: str, lot: _Lot) -> Array:
    """From scores to the column's unit, rounded as printed."""
    row = ROWS[column]
    quantiles = np.array(target_quantiles(lot.center, lot.preset, column)[lot.sarcopenia])
    knots = np.maximum.accumulate(np.array(lot.knots.get(column, Z_KNOTS)) + np.arange(5) * 1e-6)
    curve = PchipInterpolator(knots, np.log(quantiles) if row.logarithmic else quantiles)
    value = curve(z.clip(knots[0], knots[-1]))
    return np.asarray(np.round(np.exp(value) if row.logarithmic else value, row.decimals))


def _add_muscle_mass(table: pd.DataFrame, score: Array, lot: _Lot, rng: np.random.Generator) -> None:
    """ASMI on the physiological scale (SCIENCE 1.6, I8), or CT L3-SMI truncated at its cut-off; the same score."""
    men = table["male"].to_numpy() == 1
    if lot.center.label_rule == "awgs2019":
        mean, sd = ((5.05, 6.45), (0.33, 0.42)) if lot.sarcopenia else ((6.15, 7.55), (0.62, 0.75))
        table["asmi_kg_per_m2"] = np.round(np.where(men, mean[1] + sd[1] * score, mean[0] + sd[0] * score), 2)
        table["asmi_device"] = np.where(rng.random(len(table)) < 0.5, "DXA", "BIA")
        return
    mean, sd = ((29.5, 40.5), (2.2, 3.2)) if lot.sarcopenia else ((40.0, 51.0), (4.5, 5.0))
    mu, sigma, cut = (
        np.where(men, mean[1], mean[0]),
        np.where(men, sd[1], sd[0]),
        np.where(men, L3_CUT_MEN, L3_CUT_WOMEN),
    )
    below = ndtr((cut - mu) / sigma)
    rank = ndtr(score) * below if lot.sarcopenia else below + ndtr(score) * (1 - below)
    smi = np.round(mu + sigma * ndtri(rank.clip(1e-6, 1 - 1e-6)), 2)
    table["l3_smi_cm2_per_m2"] = np.minimum(smi, cut - 0.01) if lot.sarcopenia else np.maximum(smi, cut)


def _highest(score: Array, count: int) -> NDArray[np.int64]:
    """1 for the ``count`` highest scores, else 0."""
    flags = np.zeros(len(score), np.int64)
    flags[np.argsort(-score, kind="stable")[:count]] = 1
    return flags


def _knots(values: Array) -> Knots:
    low, q1, median, q3, high = (max(float(v), 0.05) for v in values)
    return low, q1, median, q3, high


if __name__ == "__main__":
    write_knots()
