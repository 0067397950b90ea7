"""Positive or negative: the threshold that is frozen on training participants, and the calls it makes.

A participant is called positive when the probability is at or above the threshold. Two-by-two tables add up across
sites, so that a coordinator needs no individual score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import ScoreHistogram as ScoreHistogram  # its users find it beside the thresholds
from sarco_models.intervals import Estimate, WeightedStatistic, proportion
from sarco_models.metrics import RocCurve, roc_curve
from sarco_models.scores import Labels, ParticipantScores, Scores, Weights

ThresholdRule = Literal["youden", "sensitivity", "cost"]


def choose_threshold(
    roc: RocCurve,
    rule: ThresholdRule = "youden",
    *,
    min_sensitivity: float = 0.80,
    cost_ratio: float = 1.0,
    prevalence: float | None = None,
) -> float:
    """Threshold to freeze; give it training participants' out-of-fold or validation scores, never the test set's.

    Args:
        roc: operating points on training participants.
        rule: ``youden`` maximises sensitivity + specificity - 1 (Youden 1950); ``sensitivity`` takes the highest
            threshold that finds at least ``min_sensitivity`` of the positives; ``cost`` makes the expected cost of
            errors smallest (Metz 1978).
        min_sensitivity: in (0, 1]; used by the rule ``sensitivity`` only.
        cost_ratio: how many false alarms one missed positive is worth, above 0; used by ``cost`` only.
        prevalence: share of positives where the threshold will be used, in (0, 1); needed by ``cost`` only.

    Raises:
        UndefinedMetric: all participants have the same score, so that no threshold divides them; or ``cost`` without
            a prevalence.
    """
    if roc.thresholds.size < 3:
        raise UndefinedMetric("all participants have the same score: no threshold divides them")
    if rule == "sensitivity":
        return float(roc.thresholds[np.flatnonzero(roc.sensitivity >= min_sensitivity)[0]])
    odds = 1.0
    if rule == "cost":
        if prevalence is None:
            raise UndefinedMetric("the threshold rule 'cost' needs the prevalence where the threshold will be used")
        odds = cost_ratio * prevalence / (1.0 - prevalence)
    value = (odds * roc.sensitivity + roc.specificity)[1:-1]
    return float(roc.thresholds[1 + int(np.argmax(value))])


@dataclass(frozen=True)
class FrozenThreshold:
    """A threshold that knows whom it was chosen on, so that it cannot be tested on them.

    Attributes:
        value: on the scale of the scores.
        participants: how many it was chosen on.
        positives: how many of them have sarcopenia.
    """

    value: float
    participants: int
    positives: int
    _chosen_on: frozenset[str] = field(repr=False)

    @classmethod
    def on(cls, training: ParticipantScores, choose: Callable[[RocCurve], float] = choose_threshold) -> Self:
        """Choose on out-of-fold scores of training participants; ``choose`` is the rule with its numbers filled in."""
        value = choose(roc_curve(training.scores, training.labels))
        return cls(value, len(training), training.positives, frozenset(training.ids))

    def calls(self, held_out: ParticipantScores) -> Confusion:
        """Count calls against labels of people that the threshold has never seen.

        Raises:
            UndefinedMetric: somebody helped to choose the threshold; the message counts and names nobody.
        """
        seen = len(self._chosen_on & set(held_out.ids))
        if seen:
            raise UndefinedMetric(
                f"{seen} of {len(held_out)} participants helped to choose this threshold: their sensitivity and "
                "specificity would flatter it (by .03 to .09, SCIENCE 5); score others"
            )
        return confusion(held_out.scores, held_out.labels, self.value)


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
