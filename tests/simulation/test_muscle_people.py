"""The people of the muscle study: plausible bodies, and muscles tied to them as strongly as is said."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from simulation.anatomy import MUSCLES, Subject
from simulation.muscle_people import (
    GROUP_SIZES,
    GROUPS,
    MIXED_R,
    POPULATION,
    PRINTED_R,
    Persons,
    Sign,
    draw_muscles,
    draw_persons,
)

MANY = {"young": 2200, "middle": 2200, "elderly": 5000}


@cache
def many() -> Persons:
    return draw_persons(MANY, np.random.default_rng(1))


@cache
def muscles_of_many(sign: Sign) -> list[dict[tuple[str, str], Subject]]:
    return draw_muscles(many(), sign, np.random.default_rng(2))


@pytest.fixture
def crowd() -> Persons:
    return many()


def thickness(muscle: str, sign: Sign = "physiological") -> NDArray[np.float64]:
    drawn = muscles_of_many(sign)
    return np.array([(mine[muscle, "left"].thickness_mm + mine[muscle, "right"].thickness_mm) / 2 for mine in drawn])


def test_the_paper_has_94_adults_half_of_them_men() -> None:
    people = draw_persons(GROUP_SIZES, np.random.default_rng(0))
    assert len(people) == 94
    assert [people.age_group.count(g) for g in GROUPS] == [22, 22, 50]
    for name, (_, _, youngest, oldest) in GROUPS.items():
        of_group = np.array(people.age_group) == name
        assert people.male[of_group].sum() == of_group.sum() / 2
        assert youngest <= people.age_years[of_group].min() <= people.age_years[of_group].max() <= oldest


def test_the_order_of_people_tells_no_group() -> None:
    groups = draw_persons(GROUP_SIZES, np.random.default_rng(0)).age_group
    assert sum(a != b for a, b in pairwise(groups)) > 30


def test_body_composition_adds_up(crowd: Persons) -> None:
    bone = 1 - crowd.muscle_mass_kg / crowd.fat_free_mass_kg
    assert 0.04 < bone.min() < bone.mean() < bone.max() < 0.07
    fat = 1 - crowd.fat_free_mass_kg / crowd.weight_kg
    assert 0.05 < fat.min() < fat.max() <= 0.5
    assert fat[crowd.male == 0].mean() > fat[crowd.male == 1].mean() + 0.05
    assert 20 < np.median(crowd.weight_kg / crowd.height_m**2) < 25


def test_age_takes_muscle_and_pace(crowd: Persons) -> None:
    groups = np.array(crowd.age_group)
    for sex in (0, 1):
        of = [(groups == g) & (crowd.male == sex) for g in GROUPS]
        mass = [crowd.muscle_mass_kg[m].mean() for m in of]
        pace = [crowd.sit_to_stand_s[m].mean() for m in of]
        assert mass[0] > mass[1] > mass[2]
        assert pace[0] < pace[1] < pace[2]
    elderly = crowd.sit_to_stand_s[groups == "elderly"]
    assert 0.15 < (elderly >= 12).mean() < 0.35  # the AWGS cut-off tells some of them apart


def test_the_population_is_as_written_down(crowd: Persons) -> None:
    """Muscle sizes are tied to these constants; drawn anew they come out the same."""
    for column, (mean, sd) in POPULATION.items():
        values = getattr(crowd, column)
        assert (values.mean(), values.std()) == pytest.approx((mean, sd), rel=0.02)
    for (a, b), r in MIXED_R.items():
        assert np.corrcoef(getattr(crowd, a), getattr(crowd, b))[0, 1] == pytest.approx(r, abs=0.02)


@pytest.mark.parametrize("muscle", PRINTED_R)
def test_thickness_correlates_as_printed(crowd: Persons, muscle: str) -> None:
    column, r = PRINTED_R[muscle]
    wanted = -r if muscle == "peroneus_longus_brevis" else r
    found = np.corrcoef(thickness(muscle), getattr(crowd, column))[0, 1]
    assert found == pytest.approx(wanted, abs=0.02)


def test_the_printed_sign_is_an_option(crowd: Persons) -> None:
    muscle = "peroneus_longus_brevis"
    found = np.corrcoef(thickness(muscle, "as_printed"), crowd.sit_to_stand_s)[0, 1]
    assert found == pytest.approx(0.748, abs=0.02)


def test_sizes_stay_in_the_range_of_the_muscle_and_sides_differ_a_little() -> None:
    few = draw_persons({"young": 50, "middle": 50, "elderly": 50}, np.random.default_rng(3))
    for mine in draw_muscles(few, "physiological", np.random.default_rng(4)):
        for name, kind in MUSCLES.items():
            left, right = mine[name, "left"], mine[name, "right"]
            assert kind.thickness_mm[0] <= left.thickness_mm <= kind.thickness_mm[1]
            assert kind.width_mm[0] <= left.width_mm <= kind.width_mm[1]
            assert left != right
            assert left.thickness_mm == pytest.approx(right.thickness_mm, rel=0.2)


def test_the_rectus_femoris_thins_with_age_as_published(crowd: Persons) -> None:
    """1.64 cm in young, 1.33 cm in older adults (SCIENCE 3.2)."""
    groups, mm = np.array(crowd.age_group), thickness("rectus_femoris")
    assert mm[groups == "young"].mean() == pytest.approx(16.4, abs=1.0)
    assert mm[groups == "elderly"].mean() == pytest.approx(13.3, abs=1.0)
