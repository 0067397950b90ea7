"""Pooled over folds on one scale, and as mean of folds: the same people, nobody tested twice."""

import numpy as np
import pytest

from sarco_models.calibration import calibration
from sarco_models.cross_validation import Fold, over_folds, pooled
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import auc
from sarco_models.scores import ParticipantScores
from tests.people import binormal, named


def study(rng: np.random.Generator, shift: float) -> tuple[ParticipantScores, list[Fold]]:
    """357 people and five folds whose models each speak another scale."""
    people = named(binormal(101, 256, 0.827, rng))
    fold_of = rng.permutation(357) % 5
    folds = []
    for k in range(5):
        level, stretch = rng.normal(0.0, shift), np.exp(rng.normal(0.0, 0.3))
        spoken = people.mapped(lambda s, a=level, b=stretch: a + b * s)
        folds.append(Fold(spoken.only(fold_of == k), reference=spoken.only(fold_of == (k + 1) % 5)))
    return people, folds


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_folds_on_a_common_scale_keep_the_auc_that_raw_scores_lose(rng: np.random.Generator) -> None:
    raw, common = [], []
    for _ in range(20):
        people, folds = study(rng, shift=1.5)
        true = auc(people.scores, people.labels)
        joined = ParticipantScores.joined([fold.test for fold in folds])
        raw.append(auc(joined.scores, joined.labels) - true)
        found = pooled(folds)
        common.append(auc(found.scores, found.labels) - true)
    assert np.mean(raw) < -0.05
    assert abs(np.mean(common)) < 0.006


def test_pooled_scores_are_everybodys_calibrated_probability(rng: np.random.Generator) -> None:
    people, folds = study(rng, shift=1.0)
    found = pooled(folds)
    assert sorted(found.ids) == sorted(people.ids)
    fit = calibration(found.scores, found.labels)
    assert fit.slope is not None
    assert fit.slope.low < 1.0 < fit.slope.high
    assert fit.expected_over_observed.value == pytest.approx(1.0, abs=0.05)


def test_no_label_changes_a_rank_across_folds(rng: np.random.Generator) -> None:
    _, folds = study(rng, shift=1.0)
    flipped = [
        Fold(f.test, ParticipantScores(f.reference.ids, f.reference.scores, rng.permutation(f.reference.labels)))
        for f in folds
    ]
    first, second = pooled(folds).scores, pooled(flipped).scores
    same = np.array_equal(np.argsort(first), np.argsort(second))
    assert same or np.array_equal(np.argsort(first), np.argsort(-second))


def test_whoever_gives_a_fold_its_scale_is_not_tested_in_it(rng: np.random.Generator) -> None:
    people = named(binormal(20, 20, 0.8, rng))
    with pytest.raises(UndefinedMetric, match="40 participants are both reference and test") as refused:
        Fold(people, reference=people)
    assert "p1" not in str(refused.value)


def test_nobody_is_tested_in_two_folds(rng: np.random.Generator) -> None:
    people, folds = study(rng, shift=0.0)
    with pytest.raises(UndefinedMetric, match="scores for 357 participants"):
        pooled([*folds, Fold(folds[0].test, folds[1].reference.only(folds[1].reference.labels | True))])
    with pytest.raises(UndefinedMetric, match="scores for"):
        over_folds([people, folds[0].test], auc)


def test_mean_and_sd_over_folds_are_those_of_the_folds_own_values(rng: np.random.Generator) -> None:
    _, folds = study(rng, shift=2.0)
    found = over_folds([fold.test for fold in folds], auc)
    own = [auc(fold.test.scores, fold.test.labels) for fold in folds]
    assert found.values == pytest.approx(own)
    assert (found.mean, found.sd) == pytest.approx((np.mean(own), np.std(own, ddof=1)))


def test_one_fold_or_a_reference_without_spread_is_refused(rng: np.random.Generator) -> None:
    people = named(binormal(20, 20, 0.8, rng))
    with pytest.raises(UndefinedMetric, match="1 folds"):
        over_folds([people], auc)
    with pytest.raises(UndefinedMetric, match="no scale"):
        Fold(people, reference=named((np.zeros(9), np.arange(9) < 4), "r"))
