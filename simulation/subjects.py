"""The muscles of drawn people: sizes and tissue that share the latent factors of their tables.

Numbers and sources: SCIENCE 2.4.
"""

import numpy as np

from simulation.anatomy import Subject
from simulation.centers import Center, Preset
from simulation.tables import Array, People


def draw_subjects(people: People, center: Center, preset: Preset, rng: np.random.Generator) -> list[Subject]:
    """Each participant's rectus femoris, tied to the same factors as the table by ``preset.coupling``.

    Sarcopenia thins and narrows the muscle, infiltrates it and thickens its fasciae.
    """
    effect = preset.image_effect * center.image_effect * people.table["sarcopenia"].to_numpy(float)
    male = people.table["male"].to_numpy(float)
    noise = rng.standard_normal((len(male), 5))

    def tied(loadings: tuple[float, ...], own: Array) -> Array:
        direction = np.array(loadings) / np.linalg.norm(loadings)
        score: Array = preset.coupling * people.factors @ direction + np.sqrt(1 - preset.coupling**2) * own
        return score

    size = tied((-0.25, 0, 0.45, 0.12, 0, 0, 0), noise[:, 0])
    quality = tied((0.30, 0.25, -0.20, 0, 0, 0, 0), noise[:, 1])
    fatness = tied((0, 1, 0, 0, 0, 0, 0), noise[:, 2])
    edema = float(center.edema)
    thickness = 13.2 + 2.1 * male + 2.3 * size - 2.3 * effect - 0.8 * edema
    width = 33.5 + 2.6 * male + 2.4 * (0.6 * size + 0.8 * noise[:, 3]) - 1.8 * effect
    infiltration = 0.30 - 0.03 * male + 0.12 * quality + 0.11 * effect + 0.05 * edema
    fascia = 0.35 + 0.18 * (0.5 * quality + 0.87 * noise[:, 4]) + 0.17 * effect
    deep = 11.5 + 1.5 * male + 2.4 * (0.7 * size + 0.7 * noise[:, 3]) - 2.2 * effect
    fat = np.where(male == 1, 4.6, 8.8) * np.exp(0.38 * fatness) * (1 + 0.15 * edema)
    return [
        Subject("rectus_femoris", *(float(v) for v in row))
        for row in zip(
            thickness.clip(5, 24),
            width.clip(22, 46),
            fat.clip(1.5, 22),
            infiltration.clip(0.02, 0.95),
            fascia.clip(0, 1),
            deep.clip(4, 20),
            strict=True,
        )
    ]
