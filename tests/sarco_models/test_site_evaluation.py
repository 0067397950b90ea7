"""What a site's answer shows and hides, and that the coordinator's numbers are those of the pooled people."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sarco_models.decisions import confusion, proportions
from sarco_models.disclosure import small
from sarco_models.errors import UndefinedMetric
from sarco_models.heterogeneity import pool_sites
from sarco_models.histograms import MergedHistogram
from sarco_models.metrics import auc, auc_interval
from sarco_models.scores import ParticipantScores
from sarco_models.site_evaluation import (
    Calls,
    SiteEvaluation,
    forest,
    pooled_auc_range,
    pooled_calibration,
    pooled_calls,
    pooled_roc,
)
from tests.people import named, true_probabilities

PAPERS_SITES = ((101, 256, 0.827), (68, 77, 0.801), (19, 63, 0.757))
THRESHOLD = 0.3


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def hospitals(rng: np.random.Generator) -> list[ParticipantScores]:
    """Three hospitals of the paper's sizes."""
    return [named(true_probabilities(*site, rng), prefix=f"h{k}-") for k, site in enumerate(PAPERS_SITES)]


def evaluations(hospitals: list[ParticipantScores], min_cell: int, num_bins: int = 200) -> list[SiteEvaluation]:
    return [SiteEvaluation.of(h, THRESHOLD, min_cell=min_cell, num_bins=num_bins) for h in hospitals]


# --- at the site ------------------------------------------------------------------------------------------------------


def test_a_site_returns_its_exact_auc_and_interval_and_no_score(hospitals: list[ParticipantScores]) -> None:
    site = SiteEvaluation.of(hospitals[0], THRESHOLD, min_cell=3)
    assert site.auc_interval() == auc_interval(hospitals[0].scores, hospitals[0].labels)
    assert site.histogram is not None
    sent = [site.histogram.ends, site.histogram.positives, site.histogram.negatives]
    assert all(array.dtype == np.int64 for array in sent)
    assert (site.participants, site.positives) == (357, 101)


def test_calls_are_the_two_by_two_table_at_the_frozen_threshold(hospitals: list[ParticipantScores]) -> None:
    site = SiteEvaluation.of(hospitals[1], THRESHOLD, min_cell=1)
    table = confusion(hospitals[1].scores, hospitals[1].labels, THRESHOLD)
    assert site.found is not None
    assert site.spared is not None
    assert (site.found.right, site.found.wrong) == (table.true_positives, table.false_negatives)
    assert (site.spared.right, site.spared.wrong) == (table.true_negatives, table.false_positives)


@pytest.mark.parametrize("min_cell", [1, 3, 5, 10])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.3137, 0.62])
def test_neither_counts_nor_curve_nor_both_together_show_a_small_group(
    hospitals: list[ParticipantScores], threshold: float, min_cell: int
) -> None:
    for hospital in hospitals:
        site = SiteEvaluation.of(hospital, threshold, min_cell=min_cell)
        assert site.histogram is not None
        assert not small([site.histogram.positives, site.histogram.negatives], min_cell).any()
        borders = np.concatenate([site.histogram.ends / site.histogram.num_bins, [threshold]])
        for calls, scores in (
            (site.found, hospital.scores[hospital.labels]),
            (site.spared, hospital.scores[~hospital.labels]),
        ):
            known = np.sort(borders if calls else borders[:-1])
            between = np.diff([0, *np.searchsorted(np.sort(scores), known[known < 1.0]), scores.size])
            assert not small(between, min_cell).any()


def test_a_few_wrong_calls_are_withheld_with_the_right_ones(rng: np.random.Generator) -> None:
    probability, labels = true_probabilities(40, 60, 0.8, rng)
    probability[labels] = np.sort(probability[labels])
    only_two_missed = float(np.sort(probability[labels])[2])
    site = SiteEvaluation.of(named((probability, labels)), only_two_missed, min_cell=3)
    assert site.found is None
    assert site.spared is not None


def test_a_site_with_few_of_a_class_says_how_many_it_scored_and_no_more(rng: np.random.Generator) -> None:
    site = SiteEvaluation.of(named(true_probabilities(4, 60, 0.8, rng)), THRESHOLD, min_cell=5)
    assert (site.participants, site.positives, site.auc, site.histogram) == (64, None, None, None)
    assert site.auc_interval() is None
    with pytest.raises(UndefinedMetric, match="4 held-out participants"):
        SiteEvaluation.of(named(true_probabilities(2, 2, 0.8, rng)), THRESHOLD, min_cell=5)


def test_logits_are_not_taken_for_probabilities(hospitals: list[ParticipantScores]) -> None:
    with pytest.raises(UndefinedMetric, match="takes probabilities"):
        SiteEvaluation.of(hospitals[0].mapped(lambda p: 8 * p - 4), THRESHOLD, min_cell=1)


@pytest.mark.parametrize("min_cell", [1, 5, 70])
def test_an_evaluation_is_stored_and_read_again(hospitals: list[ParticipantScores], min_cell: int) -> None:
    for site in evaluations(hospitals, min_cell):
        stored = json.loads(json.dumps(site.to_dict(), allow_nan=False))
        assert SiteEvaluation.from_dict(stored).to_dict() == site.to_dict()
    assert evaluations(hospitals, 70)[2].to_dict()["histogram"] is None
    with pytest.raises(UndefinedMetric, match="stored evaluation is damaged"):
        SiteEvaluation.from_dict({**evaluations(hospitals, 1)[0].to_dict(), "found": {"left": 3}})


@pytest.mark.parametrize("min_cell", [1, 2, 3, 5, 10, 20])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.3137, 0.62, 1.0])
def test_what_a_site_says_does_not_contradict_itself(
    hospitals: list[ParticipantScores], threshold: float, min_cell: int
) -> None:
    for hospital in hospitals:
        site = SiteEvaluation.of(hospital, threshold, min_cell=min_cell)
        assert site.contradiction() == ""


CONTRADICTIONS: dict[str, tuple[Callable[[SiteEvaluation], dict[str, Any]], str]] = {
    "not a number": (lambda s: {"auc": math.nan}, "not finite"),
    "infinite variance": (lambda s: {"auc_variance": math.inf}, "not finite"),
    "threshold": (lambda s: {"threshold": 1.5}, "at a threshold of 1.5"),
    "nobody": (lambda s: {"participants": 0}, "0 participants"),
    "one class": (lambda s: {"positives": s.participants}, "357 of 357 participants with sarcopenia"),
    "classes withheld": (lambda s: {"positives": None}, "whose sizes are withheld"),
    "half an AUC": (lambda s: {"auc_variance": None}, "belong together"),
    "AUC": (lambda s: {"auc": 1.2}, "an AUC of 1.2"),
    "calls": (lambda s: {"found": Calls(s.found.right + 1, s.found.wrong)}, "calls of 101 participants"),  # type: ignore[union-attr]
    "negative calls": (lambda s: {"spared": Calls(-1, 257)}, "-1 right and 257 wrong calls of 256"),
    "runs": (lambda s: {"histogram": changed(s, ends=lambda e: e[::-1].copy())}, "runs or counts are none"),
    "negative counts": (lambda s: {"histogram": changed(s, negatives=lambda n: n - 99)}, "runs or counts are none"),
    "other people": (lambda s: {"histogram": changed(s, positives=lambda p: p + 1)}, "histogram of other people"),
    "other AUC": (lambda s: {"auc": 1 - s.auc}, "its histogram allows"),  # type: ignore[operator]
    "other curve": (
        lambda s: {"auc": None, "auc_variance": None, "histogram": changed(s, positives=np.flip)},
        "calls at",
    ),
}


def changed(site: SiteEvaluation, **parts: Callable[[Any], Any]) -> MergedHistogram:
    assert site.histogram is not None
    return replace(site.histogram, **{name: change(getattr(site.histogram, name)) for name, change in parts.items()})


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_numbers_that_cannot_be_true_together_are_found(hospitals: list[ParticipantScores], what: str) -> None:
    changes, words = CONTRADICTIONS[what]
    site = SiteEvaluation.of(hospitals[0], THRESHOLD, min_cell=3)
    assert words in replace(site, **changes(site)).contradiction()


# --- at the coordinator -----------------------------------------------------------------------------------------------


def test_the_forest_is_that_of_the_sites_own_intervals(hospitals: list[ParticipantScores]) -> None:
    own = [auc_interval(h.scores, h.labels) for h in hospitals]
    assert forest(evaluations(hospitals, 5)) == pool_sites(own)


def test_pooled_calls_are_the_calls_of_the_pooled_people(hospitals: list[ParticipantScores]) -> None:
    everybody = ParticipantScores.joined(hospitals)
    exact = proportions(confusion(everybody.scores, everybody.labels, THRESHOLD))
    found = pooled_calls(evaluations(hospitals, 1))
    assert found["sensitivity"].share == exact["sensitivity"]
    assert found["specificity"].share == exact["specificity"]
    assert (found["sensitivity"].sites, found["sensitivity"].participants) == (3, 188)
    assert pooled_calls(evaluations(hospitals, 20))["sensitivity"].sites < 3


def test_calls_at_different_thresholds_do_not_add_up(hospitals: list[ParticipantScores]) -> None:
    mixed = [SiteEvaluation.of(h, t, min_cell=1) for h, t in zip(hospitals, (0.3, 0.3, 0.4), strict=True)]
    with pytest.raises(UndefinedMetric, match="2 different thresholds"):
        pooled_calls(mixed)


@pytest.mark.parametrize(("min_cell", "distance"), [(1, 0.02), (3, 0.05), (5, 0.08)])
def test_the_pooled_curve_is_near_that_of_the_pooled_people(
    hospitals: list[ParticipantScores], min_cell: int, distance: float
) -> None:
    everybody = ParticipantScores.joined(hospitals)
    found = pooled_auc_range(evaluations(hospitals, min_cell))
    assert found.low <= auc(everybody.scores, everybody.labels) <= found.high
    roc = pooled_roc(evaluations(hospitals, min_cell))
    for threshold, sensitivity, specificity in zip(roc.thresholds, roc.sensitivity, roc.specificity, strict=True):
        assert (everybody.scores[everybody.labels] >= threshold).mean() == pytest.approx(sensitivity, abs=distance)
        assert (everybody.scores[~everybody.labels] < threshold).mean() == pytest.approx(specificity, abs=distance)


CLOSENESS = {1: (0.0002, 0.001, 0.02), 3: (0.003, 0.01, 0.05), 5: (0.008, 0.02, 0.08), 10: (0.05, 0.09, 0.2)}
"""Smallest count -> limits of the AUC's mean and largest error, and of the worst point of the ROC curve."""


@pytest.mark.parametrize("min_cell", CLOSENESS)
def test_how_close_the_binned_roc_is_to_the_exact_one(min_cell: int) -> None:
    """Three hospitals of the paper's sizes, twenty times; every run of bins really holds nobody or min_cell people."""
    errors, points = closeness(min_cell, cohorts=20)
    mean, largest, point = CLOSENESS[min_cell]
    assert np.mean(np.abs(errors)) < mean
    assert np.max(np.abs(errors)) < largest
    assert np.max(points) < point


def closeness(min_cell: int, cohorts: int) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(11)
    errors, points = [], []
    for _ in range(cohorts):
        people = [named(true_probabilities(*site, rng), prefix=f"h{k}-") for k, site in enumerate(PAPERS_SITES)]
        sites = evaluations(people, min_cell)
        shown = [s.histogram for s in sites if s.histogram]
        assert len(shown) == 3
        assert not any(small([h.positives, h.negatives], min_cell).any() for h in shown)
        everybody = ParticipantScores.joined(people)
        exact, found, roc = auc(everybody.scores, everybody.labels), pooled_auc_range(sites), pooled_roc(sites)
        assert found.low <= exact <= found.high
        errors.append(found.value - exact)
        for threshold, sensitivity, specificity in zip(roc.thresholds, roc.sensitivity, roc.specificity, strict=True):
            true = (everybody.scores[everybody.labels] >= threshold).mean()
            false = (everybody.scores[~everybody.labels] < threshold).mean()
            points.append(max(abs(true - sensitivity), abs(false - specificity)))
    return errors, points


def test_pooled_calibration_counts_everybody_and_finds_true_probabilities_true(rng: np.random.Generator) -> None:
    hospitals = [named(true_probabilities(200, 500, 0.8, rng), prefix=f"h{k}-") for k in range(3)]
    groups = pooled_calibration(evaluations(hospitals, 5))
    assert sum(group.count for group in groups) == 2100
    predicted = sum(group.predicted * group.count for group in groups)
    assert predicted / 600 == pytest.approx(1.0, abs=0.05)
    assert np.mean([group.observed.low <= group.predicted <= group.observed.high for group in groups]) >= 0.7


def test_sites_that_show_nothing_give_no_curve(rng: np.random.Generator) -> None:
    silent = [SiteEvaluation.of(named(true_probabilities(4, 60, 0.8, rng)), THRESHOLD, min_cell=5)]
    with pytest.raises(UndefinedMetric, match="none of 1 sites"):
        pooled_roc(silent)
    assert pooled_calls(silent) == {}
