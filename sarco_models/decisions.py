"""Positive or negative: the threshold that is frozen on training participants, and the calls it makes.

A participant is called positive when the probability is at or above the threshold. Histograms and two-by-two tables
add up across sites, so that a coordinator needs no individual score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import Estimate, Labels, RocCurve, Scores, WeightedStatistic, Weights, proportion

ThresholdRule = Literal["youden", "sensitivity"]


def choose_threshold(roc: RocCurve, rule: ThresholdRule = "youden", *, min_sensitivity: float = 0.80) -> float:
    """Threshold to freeze; give it training participants' out-of-fold or validation scores, never the test set's.

    Args:
        roc: operating points on training participants.
        rule: ``youden`` maximises sensitivity + specificity - 1 (Youden 1950); ``sensitivity`` takes the highest
            threshold that finds at least ``min_sensitivity`` of the positives.
        min_sensitivity: in (0, 1]; used by the rule ``sensitivity`` only.

    Raises:
        UndefinedMetric: all participants have the same score, so no threshold divides them.
    """
    if roc.thresholds.size < 3:
        raise UndefinedMetric("all participants have the same score: no threshold divides them")
    if rule == "sensitivity":
        return float(roc.thresholds[np.flatnonzero(roc.sensitivity >= min_sensitivity)[0]])
    youden = (roc.sensitivity + roc.specificity)[1:-1]
    return float(roc.thresholds[1 + int(np.argmax(youden))])


@dataclass(frozen=True)
class ScoreHistogram:
    """How many participants of each class fall into equal bins of the probability; it adds up across sites.

    The coordinator draws the ROC curve and freezes a threshold from the sum without seeing anybody's score. A count of
    one in a fine histogram still describes one person: the site's policy decides on bins and suppression.

    Attributes:
        positives: (bins,) counts of participants with sarcopenia.
        negatives: (bins,) counts of participants without.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]

    @classmethod
    def of(cls, probability: Scores, labels: Labels, *, num_bins: int = 100) -> Self:
        """Count one site's participants."""
        inside = np.minimum((np.asarray(probability) * num_bins).astype(np.intp), num_bins - 1)
        return cls(
            positives=np.bincount(inside[labels], minlength=num_bins).astype(np.int64),
            negatives=np.bincount(inside[~labels], minlength=num_bins).astype(np.int64),
        )

    def __add__(self, other: Self) -> Self:
        """Both sites' participants together."""
        if self.positives.size != other.positives.size:
            raise UndefinedMetric(
                f"histograms of {self.positives.size} and {other.positives.size} bins do not add up: "
                "every site must use the study's number of bins"
            )
        return type(self)(self.positives + other.positives, self.negatives + other.negatives)

    def participants(self) -> tuple[Scores, Labels]:
        """Everybody at the middle of their bin: scores and labels for every statistic of this module."""
        num_bins = self.positives.size
        middle = (np.arange(num_bins) + 0.5) / num_bins
        scores = np.concatenate([np.repeat(middle, self.positives), np.repeat(middle, self.negatives)])
        return scores, np.arange(scores.size) < self.positives.sum()


@dataclass(frozen=True)
class Confusion:
    """The two-by-two table, or as many of them as there are bootstrap draws: () or (draws,) counts. It adds up."""

    true_positives: Weights
    false_positives: Weights
    false_negatives: Weights
    true_negatives: Weights

    def __add__(self, other: Self) -> Self:
        """Both sites' participants together."""
        return type(self)(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.true_negatives + other.true_negatives,
        )


def confusion(probability: Scores, labels: Labels, threshold: float, weights: Weights | None = None) -> Confusion:
    """Count calls against labels; ``weights`` (..., n) says how often each participant counts."""
    called = probability >= threshold
    cells = np.stack([called & labels, called & ~labels, ~called & labels, ~called & ~labels], axis=1)
    counts = (np.ones(labels.size) if weights is None else weights) @ cells.astype(np.float64)
    return Confusion(*np.moveaxis(counts, -1, 0))


def proportions(table: Confusion) -> dict[str, Estimate]:
    """Sensitivity, specificity, accuracy, ppv, npv of one table; those without participants are left out."""
    tp, fp, fn, tn = (
        int(cell) for cell in (table.true_positives, table.false_positives, table.false_negatives, table.true_negatives)
    )
    shares = {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "accuracy": (tp + tn, tp + fp + fn + tn),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
    }
    return {name: proportion(hits, n) for name, (hits, n) in shares.items() if n > 0}


# --- figures of merit of one or many tables ---------------------------------------------------------------------------


def _divide(numerator: Weights, denominator: Weights) -> Scores:
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def f1_positive(table: Confusion) -> Scores:
    """F1 of the class with sarcopenia; 0 when nobody is called positive (SCIENCE I10: not the macro F1)."""
    twice = 2.0 * table.true_positives
    return _divide(twice, twice + table.false_positives + table.false_negatives)


def f1_macro(table: Confusion) -> Scores:
    """Mean of the F1 of both classes."""
    twice = 2.0 * table.true_negatives
    return (f1_positive(table) + _divide(twice, twice + table.false_positives + table.false_negatives)) / 2.0


def balanced_accuracy(table: Confusion) -> Scores:
    """Mean of sensitivity and specificity; .5 for a coin."""
    sensitivity = _divide(table.true_positives, table.true_positives + table.false_negatives)
    specificity = _divide(table.true_negatives, table.true_negatives + table.false_positives)
    return (sensitivity + specificity) / 2.0


def matthews(table: Confusion) -> Scores:
    """Matthews' correlation of calls and labels, -1 to 1; 0 when all calls or all labels are the same."""
    tp, fp, fn, tn = table.true_positives, table.false_positives, table.false_negatives, table.true_negatives
    return _divide(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


FIGURES_OF_MERIT: dict[str, Callable[[Confusion], Scores]] = {
    "f1_positive": f1_positive,
    "f1_macro": f1_macro,
    "balanced_accuracy": balanced_accuracy,
    "mcc": matthews,
}


def figures_of_merit(probability: Scores, labels: Labels, threshold: float) -> dict[str, WeightedStatistic]:
    """f1_positive, f1_macro, balanced_accuracy and mcc, ready for ``metrics.bootstrap``.

    Raises:
        UndefinedMetric: only one class is present.
    """
    if labels.all() or not labels.any():
        raise UndefinedMetric(f"all {labels.size} participants have the same label: report F1 and MCC as absent")

    def of(figure: Callable[[Confusion], Scores]) -> WeightedStatistic:
        return lambda weights: figure(confusion(probability, labels, threshold, weights))

    return {name: of(figure) for name, figure in FIGURES_OF_MERIT.items()}
