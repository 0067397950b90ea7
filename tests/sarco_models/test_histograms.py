"""What bins keep of a ROC curve, what merging small counts costs, and that both are said with a certain range."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from sarco_models.decisions import choose_threshold, confusion
from sarco_models.disclosure import small
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import MergedHistogram, ScoreHistogram, auc_range, binned_participants, binned_roc
from sarco_models.metrics import auc, roc_curve
from tests.people import Sample, binormal, true_probabilities

PAPERS_SITES = ((101, 256, 0.827), (68, 77, 0.801), (19, 63, 0.757))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def sample(rng: np.random.Generator) -> Sample:
    """A hundred people, probabilities rounded so that many are tied and lie on the borders of bins."""
    scores, labels = binormal(35, 65, 0.8, rng)
    return np.round(expit(scores - 1.0), 2), labels


def merged(sample: Sample, min_cell: int, num_bins: int = 100) -> MergedHistogram:
    return MergedHistogram.of(ScoreHistogram.of(*sample, num_bins=num_bins), min_cell)


# --- plain histograms -------------------------------------------------------------------------------------------------


def test_merged_histograms_are_the_histogram_of_the_pooled_people(sample: Sample) -> None:
    probability, labels = sample
    both = ScoreHistogram.of(probability[:40], labels[:40]) + ScoreHistogram.of(probability[40:], labels[40:])
    pooled = ScoreHistogram.of(probability, labels)
    assert np.array_equal(both.positives, pooled.positives)
    assert np.array_equal(both.negatives, pooled.negatives)
    assert pooled.participants()[1].sum() == labels.sum()


def test_a_threshold_frozen_from_the_histogram_divides_the_real_scores_alike(rng: np.random.Generator) -> None:
    scores, labels = binormal(60, 140, 0.8, rng)
    probability = expit(scores - 1)
    binned = ScoreHistogram.of(probability, labels).participants()
    threshold = choose_threshold(roc_curve(*binned))
    assert confusion(probability, labels, threshold) == confusion(*binned, threshold)


def test_histograms_of_different_bins_do_not_add(sample: Sample) -> None:
    coarse, fine = (ScoreHistogram.of(*sample, num_bins=bins) for bins in (20, 50))
    with pytest.raises(UndefinedMetric, match="20 and 50 bins"):
        coarse + fine
    with pytest.raises(UndefinedMetric, match="20, 50"):
        binned_participants([MergedHistogram.of(coarse, 1), MergedHistogram.of(fine, 1)])


def test_a_probability_of_one_falls_into_the_last_bin_and_a_border_into_the_upper() -> None:
    histogram = ScoreHistogram.of(np.array([0.0, 1.0, 0.3]), np.array([False, True, True]), num_bins=10)
    assert (histogram.positives[-1], histogram.negatives[0], histogram.positives[3]) == (1, 1, 1)


@pytest.mark.parametrize(("num_bins", "tolerance"), [(20, 0.01), (100, 0.002), (200, 0.001)])
def test_the_auc_of_bins_is_near_the_exact_one_and_its_range_holds_it(
    rng: np.random.Generator, num_bins: int, tolerance: float
) -> None:
    for _ in range(20):
        people = true_probabilities(101, 256, 0.82, rng)
        histogram = ScoreHistogram.of(*people, num_bins=num_bins)
        found = auc_range([MergedHistogram.of(histogram, 1)])
        within_bins = (histogram.positives * histogram.negatives).sum() / (101 * 256)
        assert found.low <= auc(*people) <= found.high
        assert found.high - found.low == pytest.approx(within_bins)
        assert abs(found.value - auc(*people)) <= tolerance


# --- small counts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("min_cell", [1, 3, 5, 10])
def test_no_count_of_a_merged_histogram_is_small_and_nobody_is_lost(sample: Sample, min_cell: int) -> None:
    histogram = merged(sample, min_cell)
    assert not small([histogram.positives, histogram.negatives], min_cell).any()
    assert (histogram.positives.sum(), histogram.negatives.sum()) == (35, 65)
    assert histogram.num_bins == 100
    assert (np.diff(histogram.ends) > 0).all()


def test_merging_leaves_the_fewest_pairs_in_one_run_of_all_ways_there_are(rng: np.random.Generator) -> None:
    for _ in range(10):
        positives, negatives = rng.integers(0, 4, size=8), rng.integers(0, 4, size=8)
        best = None
        for borders in itertools.product((False, True), repeat=7):
            starts = np.flatnonzero([True, *borders])
            p, n = np.add.reduceat(positives, starts), np.add.reduceat(negatives, starts)
            if not small([p, n], 3).any():
                best = min(best, (p * n).sum()) if best is not None else (p * n).sum()
        if best is None:
            continue
        found = MergedHistogram.of(ScoreHistogram(positives, negatives), 3)
        assert (found.positives * found.negatives).sum() == best


def test_a_class_too_small_for_one_bin_leaves_no_histogram() -> None:
    few = np.linspace(0, 1, 20), np.arange(20) < 4
    with pytest.raises(UndefinedMetric, match="fewer than 5 participants"):
        merged(few, 5)
    nobody = np.linspace(0, 1, 20), np.zeros(20, dtype=bool)
    assert merged(nobody, 5).negatives.sum() == 20


@pytest.mark.parametrize("min_cell", [1, 3, 5])
def test_one_sites_roc_is_exact_at_every_border_of_its_runs(sample: Sample, min_cell: int) -> None:
    probability, labels = sample
    roc = binned_roc([merged(sample, min_cell)])
    for threshold, sensitivity, specificity in zip(roc.thresholds, roc.sensitivity, roc.specificity, strict=True):
        assert (probability[labels] >= threshold).mean() == pytest.approx(sensitivity)
        assert (probability[~labels] < threshold).mean() == pytest.approx(specificity)
    assert (roc.sensitivity[-1], roc.specificity[-1]) == (1.0, 0.0)
    frozen = choose_threshold(roc)
    assert confusion(probability, labels, frozen).true_positives == round(
        35 * float(roc.sensitivity[roc.thresholds == frozen][0])
    )


def test_one_sites_binned_auc_is_the_area_under_its_binned_roc(sample: Sample) -> None:
    roc = binned_roc([merged(sample, 5)])
    area = np.trapezoid(roc.sensitivity, 1 - roc.specificity)
    assert auc_range([merged(sample, 5)]).value == pytest.approx(area)


@pytest.mark.parametrize("min_cell", [1, 3, 5, 10])
def test_the_range_holds_the_exact_auc_of_all_sites_together(rng: np.random.Generator, min_cell: int) -> None:
    for _ in range(10):
        sites = [true_probabilities(*site, rng) for site in PAPERS_SITES]
        found = auc_range([merged(site, min_cell, 200) for site in sites])
        exact = auc(np.concatenate([p for p, _ in sites]), np.concatenate([y for _, y in sites]))
        assert found.low <= exact <= found.high


def test_merging_costs_little_where_leaving_out_small_counts_bends_the_curve(rng: np.random.Generator) -> None:
    """Measured in benchmarks/inference.py; here its order of magnitude at 101 / 256 participants and 50 bins."""
    by_merging, by_omission = [], []
    for _ in range(30):
        people = true_probabilities(101, 256, 0.827, rng)
        histogram = ScoreHistogram.of(*people, num_bins=50)
        kept = [np.where(small(counts, 3), 0, counts) for counts in (histogram.positives, histogram.negatives)]
        by_merging.append(abs(auc_range([MergedHistogram.of(histogram, 3)]).value - auc(*people)))
        by_omission.append(abs(auc(*ScoreHistogram(*kept).participants()) - auc(*people)))
    assert np.mean(by_merging) < 0.004
    assert np.mean(by_omission) > 10 * np.mean(by_merging)
