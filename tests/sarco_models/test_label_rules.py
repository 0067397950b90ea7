"""A reference standard says positive, negative, or nothing: at its cut-offs, and as soon as the parts suffice."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sarco_models.label_rules import BIA, DXA, RULES, apply, device_code
from simulation.centers import PRESETS, SHANGHAI, SICHUAN, ZHONGSHAN, Center, PerClass
from simulation.tables import draw_people

NAN = float("nan")
SHORT = {
    "asmi": "asmi_kg_per_m2", "device": "asmi_device", "grip": "grip_kg", "gait": "gait_speed_m_per_s",
    "chair": "chair_stand_s", "smi": "l3_smi_cm2_per_m2", "male": "male", "age": "age_years",
}  # fmt: skip


def decision(rule: str, **parts: float) -> int:
    """What a rule says of one person."""
    return int(apply(RULES[rule], {SHORT[k]: np.array([v]) for k, v in parts.items()})[0])


# ---- cut-offs: rule, parts that decide all the rest, column, a positive value, the next negative one -----------------

WEAK, STRONG = {"grip": 5.0}, {"grip": 60.0, "gait": 2.0, "chair": 5.0}
LOW = {"asmi": 4.0, "smi": 20.0}
CUT_OFFS = {
    "2019 mass, men, DXA": ("awgs2019", {"male": 1, "device": DXA, "gait": 2, **WEAK}, "asmi", 6.99, 7.0),
    "2019 mass, men, BIA": ("awgs2019", {"male": 1, "device": BIA, "gait": 2, **WEAK}, "asmi", 6.99, 7.0),
    "2019 mass, women, DXA": ("awgs2019", {"male": 0, "device": DXA, "gait": 2, **WEAK}, "asmi", 5.39, 5.4),
    "2019 mass, women, BIA": ("awgs2019", {"male": 0, "device": BIA, "gait": 2, **WEAK}, "asmi", 5.69, 5.7),
    "2019 grip, men": ("awgs2019", {"male": 1, **LOW, "gait": 2, "chair": 5}, "grip", 27.9, 28.0),
    "2019 grip, women": ("awgs2019", {"male": 0, **LOW, "gait": 2, "chair": 5}, "grip", 17.9, 18.0),
    "2019 gait": ("awgs2019", {"male": 1, **LOW, "grip": 60, "chair": 5}, "gait", 0.99, 1.0),
    "2019 chair": ("awgs2019", {"male": 0, **LOW, "grip": 60, "gait": 2}, "chair", 12.0, 11.99),
    "2025 mass, men, 50, DXA": ("awgs2025", {"male": 1, "age": 50, "device": DXA, **WEAK}, "asmi", 7.19, 7.2),
    "2025 mass, men, 64, BIA": ("awgs2025", {"male": 1, "age": 64, "device": BIA, **WEAK}, "asmi", 7.59, 7.6),
    "2025 mass, women, 64, DXA": ("awgs2025", {"male": 0, "age": 64, "device": DXA, **WEAK}, "asmi", 5.49, 5.5),
    "2025 mass, women, 64, BIA": ("awgs2025", {"male": 0, "age": 64, "device": BIA, **WEAK}, "asmi", 5.69, 5.7),
    "2025 mass, men, 65": ("awgs2025", {"male": 1, "age": 65, **WEAK}, "asmi", 6.99, 7.0),
    "2025 mass, women, 65, DXA": ("awgs2025", {"male": 0, "age": 65, "device": DXA, **WEAK}, "asmi", 5.39, 5.4),
    "2025 mass, women, 65, BIA": ("awgs2025", {"male": 0, "age": 65, "device": BIA, **WEAK}, "asmi", 5.69, 5.7),
    "2025 grip, men, 64": ("awgs2025", {"male": 1, "age": 64, **LOW}, "grip", 33.9, 34.0),
    "2025 grip, women, 64": ("awgs2025", {"male": 0, "age": 64, **LOW}, "grip", 19.9, 20.0),
    "2025 grip, men, 65": ("awgs2025", {"male": 1, "age": 65, **LOW}, "grip", 27.9, 28.0),
    "2025 grip, women, 65": ("awgs2025", {"male": 0, "age": 65, **LOW}, "grip", 17.9, 18.0),
    "EWGSOP2 mass, men": ("ewgsop2", {"male": 1, **WEAK}, "asmi", 6.99, 7.0),
    "EWGSOP2 mass, women": ("ewgsop2", {"male": 0, **WEAK}, "asmi", 5.49, 5.5),
    "EWGSOP2 grip, men": ("ewgsop2", {"male": 1, **LOW, "chair": 5}, "grip", 26.9, 27.0),
    "EWGSOP2 grip, women": ("ewgsop2", {"male": 0, **LOW, "chair": 5}, "grip", 15.9, 16.0),
    "EWGSOP2 chair": ("ewgsop2", {"male": 0, **LOW, "grip": 60}, "chair", 15.01, 15.0),
    "CT, men": ("ct_l3_smi", {"male": 1}, "smi", 44.76, 44.77),
    "CT, women": ("ct_l3_smi", {"male": 0}, "smi", 32.49, 32.50),
}


@pytest.mark.parametrize(("rule", "parts", "column", "positive", "negative"), CUT_OFFS.values(), ids=CUT_OFFS)
def test_each_cut_off_divides_where_the_consensus_says(
    rule: str, parts: dict[str, float], column: str, positive: float, negative: float
) -> None:
    assert decision(rule, **parts | {column: positive}) == 1
    assert decision(rule, **parts | {column: negative}) == 0


def test_gait_speed_is_no_part_of_ewgsop2s_diagnosis() -> None:
    """It grades severity only; and AWGS 2025 dropped performance (SCIENCE 1.6, I28)."""
    for rule in ("ewgsop2", "awgs2025"):
        assert decision(rule, male=1, age=70, asmi=6.0, grip=60, gait=0.3) == 0


# ---- missing parts ---------------------------------------------------------------------------------------------------

MISSING = {
    "normal mass suffices": ("awgs2019", {"male": 1, "asmi": 7.5, "grip": NAN, "gait": NAN, "chair": NAN}, 0),
    "normal mass suffices, 2025": ("awgs2025", {"male": 1, "age": 70, "asmi": 7.5, "grip": NAN}, 0),
    "good function suffices": ("awgs2019", {"male": 1, "asmi": NAN, **STRONG}, 0),
    "one low test suffices": ("awgs2019", {"male": 1, "asmi": 6.0, "grip": NAN, "gait": 0.7, "chair": NAN}, 1),
    "a test that may be low": ("awgs2019", {"male": 1, "asmi": 6.0, "grip": 40, "gait": NAN, "chair": 5}, -1),
    "a test nobody uses is not waited for": ("awgs2019", {"male": 1, "asmi": 6.0, "grip": 40, "chair": 5}, 0),
    "no performance at all": ("awgs2019", {"male": 1, "asmi": 6.0, "grip": 40}, -1),
    "no performance, but weak": ("awgs2019", {"male": 1, "asmi": 6.0, "grip": 20}, 1),
    "no strength at all": ("awgs2019", {"male": 1, "asmi": 6.0, "gait": 2.0}, -1),
    "weak, mass unknown": ("awgs2019", {"male": 1, "asmi": NAN, "grip": 20, "gait": 2.0}, -1),
    "no mass column": ("awgs2019", {"male": 1, "grip": 20, "gait": 2.0}, -1),
    "device unknown, between its cut-offs": ("awgs2019", {"male": 0, "asmi": 5.5, "grip": 10, "gait": 1}, -1),
    "device unknown, below both": ("awgs2019", {"male": 0, "asmi": 5.3, "grip": 10, "gait": 1}, 1),
    "device unknown, at the larger": ("awgs2019", {"male": 0, "asmi": 5.7, "grip": 10, "gait": 1}, 0),
    "a man's device does not matter": ("awgs2019", {"male": 1, "asmi": 6.9, "grip": 10, "gait": 1}, 1),
    "sex unknown, low for both": ("ewgsop2", {"male": NAN, "asmi": 5.4, "grip": 15.9}, 1),
    "sex unknown, normal for both": ("ewgsop2", {"male": NAN, "asmi": 7.0, "grip": 10}, 0),
    "sex unknown, between": ("ct_l3_smi", {"male": NAN, "smi": 40}, -1),
    "no sex column": ("ct_l3_smi", {"smi": 30}, 1),
    "age unknown, weak at any": ("awgs2025", {"male": 1, "age": NAN, "asmi": 6.0, "grip": 27}, 1),
    "age unknown, weak only if middle-aged": ("awgs2025", {"male": 1, "age": NAN, "asmi": 6.0, "grip": 30}, -1),
    "younger than the consensus": ("awgs2025", {"male": 1, "age": 49, "asmi": 5.0, "grip": 10}, -1),
    "nothing at all": ("ct_l3_smi", {"male": 1, "smi": NAN}, -1),
}  # fmt: skip


@pytest.mark.parametrize(("rule", "parts", "expected"), MISSING.values(), ids=MISSING)
def test_a_rule_decides_as_soon_as_the_parts_suffice(rule: str, parts: dict[str, float], expected: int) -> None:
    assert decision(rule, **parts) == expected


@pytest.mark.parametrize("rule", RULES)
def test_what_becomes_known_never_turns_a_decision(rule: str) -> None:
    """A decision made with a part missing holds for every value that the part may turn out to have."""
    grid = {
        "male": (0, 1), "device": (DXA, BIA), "age": (55, 70), "asmi": (5.3, 5.45, 5.6, 6.5, 7.1, 7.5, 8),
        "grip": (10, 17, 19, 27.5, 30, 50), "gait": (0.7, 1.2), "chair": (8, 13, 16), "smi": (30, 40, 50),
    }  # fmt: skip
    used = [k for k in grid if SHORT[k] in RULES[rule].parts]
    known = np.array(list(product(*(grid[k] for k in used))), dtype=float)
    full = apply(RULES[rule], {SHORT[k]: known[:, i] for i, k in enumerate(used)})
    assert set(full.tolist()) == {0, 1}, "with every part known, everybody is decided"
    for hidden in range(len(used)):
        parts = {SHORT[k]: np.where(i == hidden, NAN, known[:, i]) for i, k in enumerate(used)}
        less = apply(RULES[rule], parts)
        np.testing.assert_array_equal(less[less >= 0], full[less >= 0], err_msg=used[hidden])


def test_a_person_is_decided_alone() -> None:
    """Nobody's label depends on who else is in the table."""
    rng = np.random.default_rng(1)
    parts = {
        "male": rng.integers(0, 2, 200).astype(float), "asmi_kg_per_m2": rng.normal(6, 1, 200),
        "grip_kg": rng.normal(24, 8, 200), "chair_stand_s": rng.normal(12, 3, 200),
        "gait_speed_m_per_s": np.where(rng.random(200) < 0.4, NAN, rng.normal(1, 0.2, 200)),
    }  # fmt: skip
    together = apply(RULES["awgs2019"], parts)
    alone = [apply(RULES["awgs2019"], {k: v[i : i + 1] for k, v in parts.items()})[0] for i in range(200)]
    np.testing.assert_array_equal(together, alone)
    assert set(together.tolist()) == {-1, 0, 1}


# ---- the synthetic hospitals, whose labels follow their rule ---------------------------------------------------------


@pytest.mark.parametrize("center", [SHANGHAI, SICHUAN, ZHONGSHAN], ids=lambda c: c.name)
def test_the_synthetic_hospitals_labels_are_those_of_their_rule(center: Center, tmp_path: Path) -> None:
    people = draw_people(center, PerClass(40, 20), PRESETS["paper_matched"], np.random.default_rng(11)).table
    rule = RULES[center.label_rule]
    parts = {c: people[c].to_numpy(float) for c in rule.parts if c in people and c != "asmi_device"}
    if "asmi_device" in people:
        parts["asmi_device"] = np.array([device_code(text) for text in people["asmi_device"]])
    np.testing.assert_array_equal(apply(rule, parts), people["sarcopenia"])


@pytest.mark.parametrize(("text", "code"), [("DXA", DXA), (" dexa ", DXA), ("BIA", BIA), ("bia", BIA), ("CT", NAN)])
def test_devices_are_known_by_the_words_in_use(text: str, code: float) -> None:
    assert device_code(text) == pytest.approx(code, nan_ok=True)
