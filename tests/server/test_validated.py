"""What hospitals say of muscles after the last round: impossible things are refused, possible ones are added up."""

import json
from typing import Any

import numpy as np
import pytest

from sarco_models.accepted import good_and_bad
from sarco_models.histograms import MergedHistogram
from sarco_models.released_segmenter import About
from sarco_models.wire import Evaluated
from server.members import Member
from server.validated import accepted_in_words, known_of_model, muscles_fault, shapes_in_words, site_figures
from tests.muscle_sites import muscle_study

STUDY = muscle_study(split={"train": 0.5, "validation": 0.25})
MEMBER = Member("north", participants=40, training=20, training_positive=0, images=80, digest="")
TOLD = {
    "loss": 0.4,
    "dice": 0.8,
    **{"biceps.dice.n": 10.0, "biceps.dice.mean": 0.8, "biceps.dice.sd": 0.1},
    **{"biceps.log_area_cm2.n": 20.0, "biceps.log_area_cm2.mean": 1.2, "biceps.log_area_cm2.sd": 0.2},
    **{"biceps.log_aspect.n": 20.0, "biceps.log_aspect.mean": 1.0, "biceps.log_aspect.sd": 0.1},
    **{"biceps.log_convexity.n": 20.0, "biceps.log_convexity.mean": -0.05, "biceps.log_convexity.sd": 0.02},
}


def counted(scores: Any, dices: Any) -> MergedHistogram:
    return good_and_bad(np.array(scores), np.array(dices), num_bins=STUDY.evaluation.histogram_bins, min_cell=1)


def told(site: str = "north", histogram: MergedHistogram | None = None, **changes: float) -> Evaluated:
    return Evaluated(site, 2, 20, {**TOLD, **{k.replace("__", "."): v for k, v in changes.items()}}, histogram)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"biceps.dice.mean": 1.2}, "no such numbers"),
        ({"biceps.dice.n": 21.0}, "no such numbers"),
        ({"biceps.log_area_cm2.n": 21.0}, "no such numbers"),
        ({"biceps.log_area_cm2.mean": 40.0}, "no such numbers"),
        ({"biceps.log_aspect.sd": -0.1}, "no such numbers"),
        ({"biceps.log_aspect.mean": float("nan")}, "not finite"),
        ({"biceps.hd95_mm.mean": 1.0}, "none of the study's"),
        ({"deltoid.dice.mean": 0.5}, "none of the study's"),
        ({"age": 70.0}, "none of the study's"),
        ({"biceps.dice.median": 0.8}, "none of the study's"),
        ({"triceps.dice.mean": 0.8}, "without its n"),
    ],
)
def test_what_cannot_be_is_refused_in_words(changes: dict[str, float], said: str) -> None:
    fault = muscles_fault(told(**changes), MEMBER, STUDY)
    assert said in fault if said else fault == ""


def test_answers_of_others_and_of_too_many_are_refused() -> None:
    assert "other people" in muscles_fault(told("south"), MEMBER, STUDY)
    assert muscles_fault(told(histogram=counted([0.9] * 20, [0.9] * 20)), MEMBER, STUDY) == ""
    assert "more than the 20" in muscles_fault(told(histogram=counted([0.9] * 21, [0.9] * 21)), MEMBER, STUDY)
    other = MergedHistogram(np.array([7]), np.array([3]), np.array([0]))
    assert "not the study's" in muscles_fault(told(histogram=other), MEMBER, STUDY)


def test_what_the_model_is_known_for_is_what_a_segmenter_reads() -> None:
    histogram = counted([*np.linspace(0.5, 0.9, 20), *np.linspace(0.1, 0.3, 8)], [0.9] * 20 + [0.2] * 8)
    about = known_of_model([told(histogram=histogram), told("south", biceps__dice__mean=0.9)], STUDY)
    read = About.from_dict(json.loads(json.dumps(about)))
    assert 0.27 < read.threshold <= 0.52
    assert set(read.shapes) == {"biceps"}
    low, high = read.shapes["biceps"].low, read.shapes["biceps"].high
    assert low[0] < np.exp(1.2) < high[0]
    assert about["no_shapes"] == dict.fromkeys(("triceps", "rectus_femoris"), "no hospital tells of it")
    assert about["validation"]["biceps"]["dice"] == pytest.approx(0.85)
    assert about["validation"]["biceps"]["participants"] == 20
    assert about["threshold_from"]["withheld"] == ["south"]
    (sentence,) = accepted_in_words(about)
    assert "frozen on 28 validation participants of north, 20 of them found well" in sentence
    assert "biceps" in next(iter(shapes_in_words(about)))


def test_the_spread_of_two_hospitals_together_is_that_of_their_people() -> None:
    rng = np.random.default_rng(1)
    groups = [rng.uniform(0.5, 1.0, n) for n in (6, 13)]
    replies = [
        Evaluated(
            name,
            2,
            20,
            {"biceps.dice.n": float(len(g)), "biceps.dice.mean": g.mean(), "biceps.dice.sd": g.std(ddof=1)},
            None,
        )
        for name, g in zip(("north", "south"), groups, strict=True)
    ]
    found = known_of_model(replies, STUDY)["validation"]["biceps"]
    everybody = np.concatenate(groups)
    assert found["dice"] == pytest.approx(everybody.mean())
    assert found["sd"] == pytest.approx(everybody.std(ddof=1))


def test_without_counts_the_usual_score_stands_and_the_reason_is_given() -> None:
    about = known_of_model([told(), told("south")], STUDY)
    assert about["threshold"] is None
    assert About.from_dict(about).threshold == 0.6
    (sentence,) = accepted_in_words(about)
    assert sentence.startswith("no quality score was frozen (no hospital tells of enough validation participants;")


def test_one_hospitals_sums_of_shapes_are_not_kept_by_its_name() -> None:
    own = site_figures(told())
    assert set(own) == {"participants", "loss", "dice", "biceps.dice.n", "biceps.dice.mean", "biceps.dice.sd"}
