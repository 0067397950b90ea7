"""Subgroups: their AUCs are DeLong's, their differences those of independent groups, and the small ones are silent."""

import numpy as np
import pytest
from scipy.stats import norm

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import auc_interval, delong_variance, holm
from sarco_models.scores import ParticipantScores
from sarco_models.subgroups import by_subgroup, cut
from tests.people import binormal, named


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def two_kinds(rng: np.random.Generator, areas: tuple[float, float]) -> tuple[ParticipantScores, list[str]]:
    """60 / 120 men and 40 / 100 women with these AUCs."""
    men, women = named(binormal(60, 120, areas[0], rng), "m"), named(binormal(40, 100, areas[1], rng), "w")
    return ParticipantScores.joined([men, women]), ["male"] * 180 + ["female"] * 140


def test_each_level_has_the_interval_of_its_own_people(rng: np.random.Generator) -> None:
    people, sex = two_kinds(rng, (0.8, 0.7))
    (found,) = by_subgroup(people, {"sex": sex}, rng, repeats=50)
    women, men = found.levels
    assert (men.level, men.participants, men.events, found.reference) == ("male", 180, 60, "male")
    assert women.auc == auc_interval(people.scores[180:], people.labels[180:])


def test_an_interaction_is_the_difference_of_two_independent_aucs(rng: np.random.Generator) -> None:
    people, sex = two_kinds(rng, (0.88, 0.68))
    (found,) = by_subgroup(people, {"sex": sex}, rng)
    difference = found.interactions["female"].difference
    parts = [(people.scores[part], people.labels[part]) for part in (slice(180, None), slice(0, 180))]
    error = np.sqrt(sum(delong_variance(*part) for part in parts))
    assert difference.high - difference.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert difference.value == pytest.approx(found.levels[0].auc.value - found.levels[1].auc.value)
    assert found.interactions["female"].p == pytest.approx(2 * norm.sf(abs(difference.value) / error), abs=0.01)


def test_differences_of_all_variables_are_one_family(rng: np.random.Generator) -> None:
    people, sex = two_kinds(rng, (0.85, 0.7))
    thirds = [("a", "b", "c")[i % 3] for i in range(320)]
    found = by_subgroup(people, {"sex": sex, "ward": thirds}, rng, repeats=300)
    tested = [c for group in found for c in group.interactions.values()]
    assert len(tested) == 3
    assert [c.p_holm for c in tested] == holm([c.p for c in tested])


def test_fewer_than_ten_events_are_suppressed_and_their_number_cannot_be_subtracted(rng: np.random.Generator) -> None:
    people = named(binormal(60, 140, 0.8, rng))
    device = np.full(200, "Aixplorer", dtype=object)
    device[60:120], device[:30] = "M9", "M9"
    device[[30, 31, *range(190, 200)]] = "MX7"
    (found,) = by_subgroup(people, {"device": list(device)}, rng, repeats=50)
    levels = {level.level: level for level in found.levels}
    assert (levels["MX7"].auc, levels["MX7"].participants, levels["MX7"].events) == (None, None, None)
    assert levels["M9"].auc is not None
    assert [levels[name].participants is None for name in ("Aixplorer", "M9")] == [False, True]
    assert set(found.interactions) == {"Aixplorer", "M9"} - {found.reference}


def test_nothing_is_compared_where_less_than_two_levels_are_shown(rng: np.random.Generator) -> None:
    people = named(binormal(12, 60, 0.8, rng))
    (found,) = by_subgroup(people, {"half": ["a", "b"] * 36}, rng, repeats=50)
    assert (found.reference, dict(found.interactions)) == ("", {})
    assert all(level.auc is None and level.participants is None for level in found.levels)


def test_age_is_cut_at_seventy_and_a_missing_value_is_in_no_subgroup(rng: np.random.Generator) -> None:
    ages = np.array([69.9, 70.0, np.nan, 81.0])
    assert cut(ages, 70.0) == ("< 70", ">= 70", "", ">= 70")
    people = named(binormal(60, 120, 0.8, rng))
    values = np.where(np.arange(180) % 9 == 0, np.nan, np.arange(180) % 2)
    (found,) = by_subgroup(people, {"odd": cut(values, 1.0)}, rng, repeats=50)
    assert found.unknown == 20
    assert sum(level.participants or 0 for level in found.levels) == 160


def test_a_grouping_of_other_people_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(UndefinedMetric, match="sex: 3 subgroup names for 20 participants"):
        by_subgroup(named(binormal(10, 10, 0.8, rng)), {"sex": ["a", "b", "a"]}, rng)
