"""Young, middle-aged and elderly adults with their body composition, and the five muscles that go with it.

A person is age, sex and five numbers around 0: size, lean mass for the height, fatness, fitness, and muscularity beyond
what the scales see. Table and muscles come from the same numbers. The thickness of a muscle is tied to a column of the
table so that Pearson's r over all people is the one that Zhang et al. (Gerontechnology 25(s)) print; that is
CALIBRATION, not evidence. They do not say what exactly was correlated, nor give any distribution: means and spreads
are assumptions for Chinese adults; SCIENCE 3.2 has the sources of the muscles' sizes.

Of peroneus longus and brevis they print r = +.748 with the time to rise five times: more muscle, slower (SCIENCE 1.6,
I33). The default is the physiological sign; ``as_printed`` takes theirs.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulation.anatomy import MUSCLES, Subject

Array = NDArray[np.float64]
Sign = Literal["physiological", "as_printed"]

GROUPS = {"young": (27.0, 4.0, 20, 39), "middle": (50.0, 5.5, 40, 59), "elderly": (70.0, 6.0, 60, 89)}
"""Mean, standard deviation, youngest and oldest of each age group, in years."""

GROUP_SIZES = {"young": 22, "middle": 22, "elderly": 50}
"""People in the paper."""

PRINTED_R = {
    "rectus_femoris": ("fat_free_mass_kg", 0.4223),
    "triceps_brachii": ("muscle_mass_kg", 0.7849),
    "biceps_brachii": ("muscle_mass_kg", 0.8212),
    "peroneus_longus_brevis": ("sit_to_stand_s", 0.7480),
}
"""What the paper correlates each muscle with, and its r."""

POPULATION = {
    "age_years": (55.33, 18.36),
    "fat_free_mass_kg": (45.22, 8.46),
    "muscle_mass_kg": (42.73, 8.00),
    "sit_to_stand_s": (9.26, 2.31),
}
"""Mean and standard deviation in endless cohorts of the paper's age groups, half of them men; a test draws them."""

MIXED_R = {
    ("fat_free_mass_kg", "age_years"): -0.182,
    ("muscle_mass_kg", "age_years"): -0.182,
    ("sit_to_stand_s", "muscle_mass_kg"): -0.204,
}
"""Pearson's r between columns there."""

DECIMALS = {
    "height_m": 3, "weight_kg": 1, "fat_free_mass_kg": 1, "muscle_mass_kg": 1, "sit_to_stand_s": 2,
}  # fmt: skip
"""How a hospital's export prints them."""

ASYMMETRY = 0.025  # standard deviation between the sides, as a share of the size


@dataclass(frozen=True)
class Persons:
    """Columns of the table and the numbers behind them, each (people,)."""

    age_group: tuple[str, ...]
    age_years: Array
    male: Array
    height_m: Array
    weight_kg: Array
    fat_free_mass_kg: Array
    muscle_mass_kg: Array
    sit_to_stand_s: Array
    size: Array
    lean: Array
    fatness: Array
    fitness: Array
    muscularity: Array

    def __len__(self) -> int:
        """How many people."""
        return len(self.age_group)

    def standardized(self, column: str) -> Array:
        """A column as standard deviations from the mean of ``POPULATION``."""
        mean, sd = POPULATION[column]
        values: Array = getattr(self, column)
        return (values - mean) / sd

    @property
    def latents(self) -> dict[str, Array]:
        """The numbers around 0."""
        names = [f.name for f in fields(self)][-5:]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class _Build:
    """How a muscle's thickness and width are spread over adults, in mm, and what they go with.

    Attributes:
        driver: column that thickness is tied to by ``r``.
        also: a second column, and its weight beside the first.
        fat_mm: median of subcutaneous fat above it, of women and men.
    """

    thickness: tuple[float, float]
    width: tuple[float, float]
    driver: str
    r: float
    also: tuple[str, float]
    fat_mm: tuple[float, float]

    def shares(self, sign: float) -> tuple[float, float, float]:
        """Weights of the driver, of the second column and of chance, whose sum has variance 1 and the wanted r."""
        column, second = self.also
        mixed = MIXED_R[self.driver, column]
        first = sign * self.r - second * mixed
        return first, second, float(np.sqrt(1 - first**2 - second**2 - 2 * first * second * mixed))


_BUILDS = {
    "biceps_brachii": _Build((21.0, 3.4), (36.0, 2.6), *PRINTED_R["biceps_brachii"], ("age_years", -0.10), (5.0, 3.0)),
    "triceps_brachii": _Build(
        (20.0, 3.6), (36.0, 2.6), *PRINTED_R["triceps_brachii"], ("age_years", -0.15), (8.5, 5.0)
    ),
    "rectus_abdominis": _Build((8.5, 1.7), (48.0, 4.0), "fat_free_mass_kg", 0.40, ("age_years", -0.40), (15.0, 12.0)),
    "rectus_femoris": _Build((14.2, 3.0), (34.0, 3.2), *PRINTED_R["rectus_femoris"], ("age_years", -0.40), (8.8, 4.6)),
    "peroneus_longus_brevis": _Build(
        (14.5, 2.2), (29.0, 2.4), *PRINTED_R["peroneus_longus_brevis"], ("muscle_mass_kg", 0.15), (6.0, 3.5)
    ),
}


def draw_persons(sizes: dict[str, int], rng: np.random.Generator) -> Persons:
    """People of the given age groups, half of each men; shuffled, so that no order tells the group.

    Args:
        sizes: how many of each of ``GROUPS``.
        rng: all the chance.
    """
    groups, ages, male = [], [], []
    for name, number in sizes.items():
        mean, sd, youngest, oldest = GROUPS[name]
        groups += [name] * number
        ages.append(np.clip(np.rint(rng.normal(mean, sd, number)), youngest, oldest))
        male.append(rng.permutation(np.arange(number) % 2))
    order = rng.permutation(len(groups))
    age, men = np.concatenate(ages)[order], np.concatenate(male)[order].astype(float)
    size, lean, fatness, fitness, muscularity = rng.standard_normal((5, len(groups)))
    height = 1.615 + 0.125 * men - 0.0009 * (age - 25) + 0.055 * size
    lean_index = 15.4 + 2.7 * men - 0.020 * np.maximum(age - 45, 0) + (1.0 + 0.25 * men) * lean
    fat_free = lean_index * height**2
    bone = 0.055 + 0.004 * rng.standard_normal(len(groups)).clip(-3, 3)
    fat_share = 0.31 - 0.08 * men + 0.001 * (age - 45) + 0.05 * fatness
    pace = 0.0115 * (age - 26) - 0.11 * fitness - 0.04 * lean + 0.09 * rng.standard_normal(len(groups))
    return Persons(
        age_group=tuple(groups[k] for k in order),
        age_years=age,
        male=men,
        height_m=height,
        weight_kg=fat_free / (1 - fat_share.clip(0.06, 0.5)),
        fat_free_mass_kg=fat_free,
        muscle_mass_kg=fat_free * (1 - bone),
        sit_to_stand_s=6.4 * np.exp(pace),
        size=size,
        lean=lean,
        fatness=fatness,
        fitness=fitness,
        muscularity=muscularity,
    )


def draw_muscles(people: Persons, sign: Sign, rng: np.random.Generator) -> list[dict[tuple[str, str], Subject]]:
    """Of each person, the muscle for each (name, side); the sides differ by a few per cent.

    Args:
        people: whose.
        sign: of r between peroneus and the time to rise.
        rng: all the chance.
    """
    quality = 0.20 - 0.04 * people.male + 0.0035 * (people.age_years - 26)
    quality = quality + 0.06 * people.fatness - 0.04 * people.fitness + 0.06 * rng.standard_normal(len(people))
    fascia = 0.30 + 0.004 * (people.age_years - 45) + 0.15 * rng.standard_normal(len(people))
    found: list[dict[tuple[str, str], Subject]] = [{} for _ in range(len(people))]
    for name, build in _BUILDS.items():
        thickness, width = _sizes(people, name, build, sign, rng)
        kind = MUSCLES[name]
        deep = np.mean(kind.deep_mm) + 0.22 * np.ptp(kind.deep_mm) * rng.standard_normal(len(people)).clip(-2, 2)
        fat = np.where(people.male == 1, build.fat_mm[1], build.fat_mm[0]) * np.exp(0.35 * people.fatness)
        for side in ("right", "left"):
            unlike = 1 + ASYMMETRY * rng.standard_normal((2, len(people)))
            numbers = np.stack(
                [
                    (thickness * unlike[0]).clip(*kind.thickness_mm),
                    (width * unlike[1]).clip(*kind.width_mm),
                    fat.clip(1.5, 22),
                    quality.clip(0.02, 0.95),
                    fascia.clip(0, 1),
                    deep,
                ]
            )
            for mine, row in zip(found, numbers.T.tolist(), strict=True):
                mine[name, side] = Subject(name, *row)
    return found


def _sizes(people: Persons, name: str, build: _Build, sign: Sign, rng: np.random.Generator) -> tuple[Array, Array]:
    """Thickness and width in mm, before the sides part."""
    inverse = name == "peroneus_longus_brevis" and sign == "physiological"
    first, second, chance = build.shares(-1.0 if inverse else 1.0)
    own = np.sqrt(0.5) * (people.muscularity + rng.standard_normal(len(people)))
    score = first * people.standardized(build.driver) + second * people.standardized(build.also[0]) + chance * own
    broad = 0.6 * score + 0.8 * rng.standard_normal(len(people))
    return build.thickness[0] + build.thickness[1] * score, build.width[0] + build.width[1] * broad
