"""Drawn people are those of Table 1, obey their label rule, and share factors between table and muscle."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from simulation.centers import CENTERS, PRESETS, SHANGHAI, SICHUAN, ZHONGSHAN, Center, PerClass, Preset
from simulation.lipids import HDL, LDL, TOTAL, TRIGLYCERIDES
from simulation.table1 import CLINICAL, LAB
from simulation.tables import calibrated_knots, columns_of, draw_people, stored_knots, target_quantiles

FAITHFUL, PAPER = PRESETS["table1_faithful"], PRESETS["paper_matched"]

# Printed by Chen et al. (2025), Table 1: first quartile, median, third quartile; without and with sarcopenia.
PRINTED = {
    "age_years": ((62, 66, 69.75), (66, 72, 80.5)),
    "height_m": ((1.58, 1.64, 1.70), (1.57, 1.63, 1.70)),
    "weight_kg": ((57.85, 66.75, 75.30), (55.45, 62.50, 70.25)),
    "bmi_kg_per_m2": ((22.48, 24.70, 26.89), (21.45, 23.53, 25.25)),
    "total_cholesterol_mmol_per_l": ((3.72, 4.31, 5.01), (3.57, 4.39, 4.95)),
    "triglycerides_mmol_per_l": ((0.96, 1.32, 2.08), (0.91, 1.28, 1.77)),
    "hdl_mmol_per_l": ((0.99, 1.17, 1.40), (1.00, 1.20, 1.50)),
    "ldl_mmol_per_l": ((2.00, 2.50, 3.06), (1.90, 2.60, 3.12)),
    "hba1c_percent": ((6.69, 8.28, 9.91), (6.31, 7.98, 9.64)),
    "albumin_g_per_l": ((38.00, 39.90, 41.98), (35.55, 37.60, 39.75)),
    "haemoglobin_g_per_l": ((122, 132, 145), (115, 124, 133.5)),
    "vitd_25oh_ng_per_ml": ((17.06, 22.06, 33.50), (17.37, 21.10, 29.63)),
    "osteocalcin_ng_per_ml": ((9.73, 11.75, 14.87), (9.89, 12.12, 12.61)),
    "ft3_pmol_per_l": ((4.44, 4.84, 5.16), (4.42, 4.64, 4.97)),
    "ft4_pmol_per_l": ((13.90, 15.27, 16.65), (13.65, 14.99, 16.35)),
    "tt3_nmol_per_l": ((1.32, 1.51, 1.70), (1.32, 1.51, 1.59)),
    "tt4_nmol_per_l": ((86.85, 97.55, 109.55), (90.20, 99.70, 111.35)),
    "tsh_miu_per_l": ((1.19, 1.69, 2.59), (1.40, 2.03, 3.02)),
    "grip_kg": ((22.93, 29.00, 36.55), (17.25, 20.84, 23.30)),
    "gait_speed_m_per_s": ((0.99, 1.16, 1.26), (0.95, 1.03, 1.08)),
    "chair_stand_s": ((8.32, 9.38, 11.02), (11.36, 12.76, 13.20)),
}


def draw(center: Center, people: PerClass[int] | None = None, seed: int = 3) -> pd.DataFrame:
    return draw_people(center, people or center.full.participants, PAPER, np.random.default_rng(seed)).table


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """40,000 people of centre A, as printed."""
    rng = np.random.default_rng(5)
    return draw_people(SHANGHAI, PerClass(20_000, 20_000), FAITHFUL, rng).table


@pytest.mark.parametrize("column", PRINTED)
def test_quantiles_of_table_1_hold_after_rejection(many: pd.DataFrame, column: str) -> None:
    for sarcopenia in (0, 1):
        drawn = np.nanquantile(many.loc[many["sarcopenia"] == sarcopenia, column], [0.25, 0.5, 0.75])
        assert drawn == pytest.approx(np.array(PRINTED[column][sarcopenia]), rel=0.03)


def test_binary_rows_of_table_1_are_exact() -> None:
    table = draw(SHANGHAI)
    counts = table.fillna(0).groupby("sarcopenia")[["male", "diabetes"]].sum()
    assert counts.loc[0].tolist() == [117, 208]
    assert counts.loc[1].tolist() == [53, 72]
    osteoporosis = draw_people(SICHUAN, PerClass(256, 101), PAPER, np.random.default_rng(0)).table
    assert osteoporosis.groupby("sarcopenia")["osteoporosis"].sum().tolist() == [79, 41]


def test_lab_separation_pulls_the_classes_together() -> None:
    printed, pulled = (target_quantiles(SHANGHAI, p, "albumin_g_per_l") for p in (FAITHFUL, PAPER))
    ratio = (pulled.healthy[2] - pulled.sarcopenia[2]) / (printed.healthy[2] - printed.sarcopenia[2])
    assert ratio == pytest.approx(0.70)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
@pytest.mark.parametrize("center", CENTERS.values(), ids=CENTERS)
def test_total_cholesterol_holds_ldl_hdl_and_remnants(center: Center, preset: Preset) -> None:
    table = draw_people(center, PerClass(2000, 2000), preset, np.random.default_rng(1)).table
    table = table.dropna(subset=[TOTAL])
    total, ldl, hdl, triglycerides = table[[TOTAL, LDL, HDL, TRIGLYCERIDES]].to_numpy().T
    remnants = total - ldl - hdl
    assert remnants.min() >= 0.05 - 1e-9  # as a fourth column of its own: below zero in 31 of 100
    friedewald = (remnants - triglycerides / 2.2)[triglycerides <= 4.5]
    assert (np.abs(friedewald) > 1.5).mean() < 0.002  # where a hospital's check begins to ask
    assert np.corrcoef(total, ldl)[0, 1] == pytest.approx(0.83, abs=0.05)


def test_what_total_cholesterol_leaves_over_hardly_tells_the_class() -> None:
    people = draw_people(SHANGHAI, PerClass(5000, 5000), PAPER, np.random.default_rng(2)).table.dropna()
    total, ldl, hdl, triglycerides = people[[TOTAL, LDL, HDL, TRIGLYCERIDES]].to_numpy().T
    gap = total - ldl - hdl - triglycerides.clip(max=4.5) / 2.2
    assert roc_auc_score(people["sarcopenia"], gap) == pytest.approx(0.5, abs=0.07)


def is_sarcopenia_by_awgs2019(person: pd.Series) -> bool:  # type: ignore[type-arg]
    """Written out again from Chen et al. (2020), Table 3, one person at a time."""
    if person["male"]:
        low_mass, weak = person["asmi_kg_per_m2"] < 7.0, person["grip_kg"] < 28
    else:
        low_mass = person["asmi_kg_per_m2"] < (5.4 if person["asmi_device"] == "DXA" else 5.7)
        weak = person["grip_kg"] < 18
    slow = person["gait_speed_m_per_s"] < 1.0 or person["chair_stand_s"] >= 12
    return bool(low_mass and (weak or slow))


@pytest.mark.parametrize("center", [SHANGHAI, SICHUAN])
def test_every_person_obeys_awgs_2019(center: Center) -> None:
    table = draw(center)
    assert table.apply(is_sarcopenia_by_awgs2019, axis=1).tolist() == (table["sarcopenia"] == 1).tolist()


def test_every_person_at_zhongshan_obeys_the_ct_cut_offs() -> None:
    table = draw(ZHONGSHAN, PerClass(2000, 2000))
    cut = np.where(table["male"] == 1, 44.77, 32.50)
    assert ((table["l3_smi_cm2_per_m2"] < cut) == (table["sarcopenia"] == 1)).all()


def test_each_centre_has_only_the_columns_of_its_label_rule() -> None:
    awgs = {"asmi_kg_per_m2", "asmi_device", "grip_kg", "gait_speed_m_per_s", "chair_stand_s"}
    for center in (SHANGHAI, SICHUAN):
        assert set(columns_of(center)) - set(CLINICAL) - set(LAB) == awgs
    assert set(columns_of(ZHONGSHAN)) - set(CLINICAL) - set(LAB) == {"l3_smi_cm2_per_m2"}
    assert (len(CLINICAL), len(LAB)) == (8, 14)


def test_86_of_357_have_missing_values_and_never_a_label() -> None:
    table = draw(SHANGHAI)
    assert table.isna().any(axis=1).sum() == 86
    assert not table[["sarcopenia", "age_years", "male", "asmi_kg_per_m2", "grip_kg"]].isna().any().any()
    thyroid = table[["ft3_pmol_per_l", "ft4_pmol_per_l", "tt3_nmol_per_l", "tt4_nmol_per_l", "tsh_miu_per_l"]].isna()
    assert (thyroid.any(axis=1) == thyroid.all(axis=1)).all()
    for center in (SICHUAN, ZHONGSHAN):
        assert not draw(center).isna().any().any()


def test_weight_is_bmi_times_height_squared() -> None:
    for center in CENTERS.values():
        table = draw(center)
        weight = table["bmi_kg_per_m2"] * table["height_m"] ** 2
        assert (weight - table["weight_kg"]).abs().max() < 0.005 * 1.88**2 + 1e-9


def test_same_generator_same_people() -> None:
    pd.testing.assert_frame_equal(draw(SICHUAN, seed=8), draw(SICHUAN, seed=8))
    assert not draw(SICHUAN, seed=8).equals(draw(SICHUAN, seed=9))


@pytest.mark.slow
def test_stored_knots_are_what_calibration_finds() -> None:
    for sarcopenia in (False, True):
        stored = stored_knots(SHANGHAI, sarcopenia)
        again = calibrated_knots(SHANGHAI, sarcopenia, num_people=20_000)
        for column, knots in stored.items():
            assert again[column][1:4] == pytest.approx(knots[1:4], abs=0.06)
