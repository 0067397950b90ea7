"""Muscles follow the class, the centre and the factors of the tables."""

from dataclasses import replace

import numpy as np

from simulation.centers import PRESETS, SHANGHAI, ZHONGSHAN, Center, PerClass
from simulation.subjects import draw_subjects
from simulation.tables import draw_people

PAPER = PRESETS["paper_matched"]


def test_sarcopenia_thins_and_infiltrates_the_muscle_less_at_zhongshan() -> None:
    def contrast(center: Center) -> float:
        rng = np.random.default_rng(1)
        people = draw_people(center, PerClass(3000, 3000), PAPER, rng)
        thickness = np.array([s.thickness_mm for s in draw_subjects(people, center, PAPER, rng)])
        thickness -= 2.1 * people.table["male"].to_numpy()
        sarcopenia = people.table["sarcopenia"].to_numpy() == 1
        return float(thickness[~sarcopenia].mean() - thickness[sarcopenia].mean())

    assert contrast(SHANGHAI) > contrast(ZHONGSHAN) + 0.3 > 1.0


def test_coupling_ties_muscle_thickness_to_muscle_mass() -> None:
    def correlation(coupling: float) -> float:
        preset, rng = replace(PAPER, coupling=coupling), np.random.default_rng(2)
        people = draw_people(SHANGHAI, PerClass(3000, 1), preset, rng)
        thickness = [s.thickness_mm for s in draw_subjects(people, SHANGHAI, preset, rng)]
        women = people.table["male"].to_numpy() == 0
        return float(np.corrcoef(np.array(thickness)[women], people.table["asmi_kg_per_m2"].to_numpy()[women])[0, 1])

    assert abs(correlation(0.0)) < 0.08
    assert correlation(0.85) > 0.25
