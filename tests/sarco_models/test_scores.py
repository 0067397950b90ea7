"""Every score has one owner, and every owner one score."""

import numpy as np
import pytest

from sarco_models.errors import UndefinedMetric
from sarco_models.scores import ParticipantScores, aggregate_by_participant, require_one_score_each

THREE = ParticipantScores(("SH-1", "SH-2", "SH-3"), np.array([0.1, 0.2, 0.9]), np.array([False, False, True]))


def test_two_scores_for_one_participant_are_refused_without_naming_anybody() -> None:
    with pytest.raises(UndefinedMetric, match="3 scores for 2 participants") as refused:
        require_one_score_each(["SH-0001", "SH-0002", "SH-0001"])
    assert "SH-" not in str(refused.value)
    require_one_score_each(["SH-0001", "SH-0002"])


def test_scores_of_a_participant_who_comes_twice_cannot_be_made() -> None:
    with pytest.raises(UndefinedMetric, match="2 scores for 1 participants"):
        ParticipantScores(("SH-1", "SH-1"), np.zeros(2), np.array([True, False]))


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (np.zeros(2), np.zeros(3, dtype=bool), "3 participants, 2 scores, 3 labels"),
        (np.array([0.1, np.nan, np.inf]), np.zeros(3, dtype=bool), "2 of 3 scores are not finite"),
        (np.zeros(3), np.zeros(3, dtype=int), "expected bool"),
    ],
    ids=["lengths", "not finite", "labels 0 and 1"],
)
def test_what_no_statistic_can_use_is_refused_at_the_border(scores: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(UndefinedMetric, match=words):
        ParticipantScores(("a", "b", "c"), scores, labels)


def test_a_participant_scores_the_mean_of_the_images_whatever_their_number() -> None:
    people, logits = aggregate_by_participant(np.array([1.0, 5.0, 3.0, 3.0]), ["a", "b", "a", "b"])
    assert people == ["a", "b"]
    assert logits.tolist() == [2.0, 4.0]
    scored = ParticipantScores.of_images(np.array([1.0, 5.0, 3.0]), ["a", "b", "a"], {"a": True, "b": False})
    assert (scored.ids, scored.scores.tolist(), scored.labels.tolist()) == (("a", "b"), [2.0, 5.0], [True, False])


def test_identifiers_are_not_shown() -> None:
    assert "SH-" not in repr(THREE)


def test_groups_that_share_somebody_are_not_joined() -> None:
    assert len(ParticipantScores.joined([THREE.only(THREE.labels), THREE.only(~THREE.labels)])) == 3
    with pytest.raises(UndefinedMetric, match="4 scores for 3 participants"):
        ParticipantScores.joined([THREE, THREE.only(THREE.labels)])


def test_a_second_score_follows_the_order_of_the_first() -> None:
    other = ParticipantScores(("SH-3", "SH-1", "SH-2"), np.array([3.0, 1.0, 2.0]), np.array([True, False, False]))
    assert THREE.same_people(other).scores.tolist() == [1.0, 2.0, 3.0]
    assert THREE.same_people(other).ids == THREE.ids
    assert THREE.same_people(other).labels.tolist() == [False, False, True]


def test_scores_of_other_people_or_under_another_label_rule_are_no_pair() -> None:
    with pytest.raises(UndefinedMetric, match="1 participants have only one of two scores") as refused:
        THREE.same_people(THREE.only(THREE.scores < 0.5))
    assert "SH-" not in str(refused.value)
    relabelled = ParticipantScores(THREE.ids, THREE.scores, ~THREE.labels)
    with pytest.raises(UndefinedMetric, match="3 participants have two different labels"):
        THREE.same_people(relabelled)


def test_another_scale_keeps_people_and_labels() -> None:
    doubled = THREE.mapped(lambda scores: 2 * scores)
    assert doubled.scores.tolist() == [0.2, 0.4, 1.8]
    assert (doubled.ids, doubled.positives) == (THREE.ids, 1)
