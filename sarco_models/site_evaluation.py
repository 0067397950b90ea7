"""What one site says of a model on its held-out participants, and what a coordinator makes of many such answers.

No score of a person leaves: an AUC with its variance, two-by-two counts at the frozen threshold, and a histogram with
small counts merged. From these the coordinator draws the forest plot, the ROC curve and the calibration curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sarco_models.calibration import CalibrationBin, calibration_bins
from sarco_models.disclosure import small
from sarco_models.errors import UndefinedMetric
from sarco_models.heterogeneity import Method, PooledAuc, pool_sites
from sarco_models.histograms import (
    AucRange,
    MergedHistogram,
    ScoreHistogram,
    auc_range,
    binned_participants,
    binned_roc,
)
from sarco_models.intervals import Estimate, proportion
from sarco_models.metrics import RocCurve, auc, auc_estimate, delong_variance
from sarco_models.scores import ParticipantScores


@dataclass(frozen=True)
class Calls:
    """Participants of one class by their call; both are withheld together, because their sum is known."""

    right: int
    wrong: int


@dataclass(frozen=True, eq=False)
class SiteEvaluation:
    """One site's answer; what is None would show fewer than ``min_cell`` participants.

    Attributes:
        participants: held out and scored.
        positives: of them with sarcopenia.
        auc: exact.
        auc_variance: DeLong's.
        threshold: frozen before; of the probability.
        found: calls of the positives: sensitivity.
        spared: calls of the negatives: specificity.
        histogram: of the probability.
    """

    participants: int
    positives: int | None
    auc: float | None
    auc_variance: float | None
    threshold: float
    found: Calls | None
    spared: Calls | None
    histogram: MergedHistogram | None

    @classmethod
    def of(cls, held_out: ParticipantScores, threshold: float, *, min_cell: int, num_bins: int = 100) -> Self:
        """Evaluate one site's participants.

        Args:
            held_out: one probability each; nobody of training or of the threshold.
            threshold: the frozen one.
            min_cell: the smallest count of people that may leave the site; 1 hides nothing.
            num_bins: of the histogram before merging; the same at every site.

        Raises:
            UndefinedMetric: fewer than ``min_cell`` participants: nothing of them may be said.
        """
        if len(held_out) < min_cell:
            raise UndefinedMetric(
                f"{len(held_out)} held-out participants; the site shows no number of fewer than {min_cell}"
            )
        positives, negatives = held_out.positives, len(held_out) - held_out.positives
        if min(positives, negatives) < max(min_cell, 2):
            # Not even the counts: the few of one class would be known, and with them their calls.
            return cls(len(held_out), None, None, None, threshold, None, None, None)
        low = held_out.only(held_out.scores < threshold)
        everybody, below = (ScoreHistogram.of(p.scores, p.labels, num_bins=num_bins) for p in (held_out, low))
        found = _shown(positives - low.positives, low.positives, min_cell)
        spared = _shown(len(low) - low.positives, negatives - (len(low) - low.positives), min_cell)
        parts = [below.positives, everybody.positives - below.positives] if found else []
        parts += [below.negatives, everybody.negatives - below.negatives] if spared else []
        return cls(
            participants=len(held_out),
            positives=positives,
            auc=auc(held_out.scores, held_out.labels),
            auc_variance=delong_variance(held_out.scores, held_out.labels),
            threshold=threshold,
            found=found,
            spared=spared,
            histogram=MergedHistogram.of(everybody, min_cell, parts=parts),
        )

    def auc_interval(self) -> Estimate | None:
        """The AUC with the interval that the site itself would print; None where it is withheld."""
        if self.auc is None or self.auc_variance is None or self.positives is None:
            return None
        pairs = min(self.positives, self.participants - self.positives)
        return auc_estimate(self.auc, self.auc_variance, pairs=pairs)


def _shown(right: int, wrong: int, min_cell: int) -> Calls | None:
    return None if small([right, wrong], min_cell).any() else Calls(right, wrong)


# --- at the coordinator -----------------------------------------------------------------------------------------------


def forest(evaluations: Sequence[SiteEvaluation], *, method: Method = "dersimonian_laird") -> PooledAuc:
    """AUC over the sites that show one; see :func:`sarco_models.heterogeneity.pool_sites`."""
    shown = [estimate for site in evaluations if (estimate := site.auc_interval())]
    return pool_sites(shown, method=method)


@dataclass(frozen=True)
class SharedCalls:
    """A share over the sites that show their counts: so many sites, so many people."""

    share: Estimate
    sites: int
    participants: int


def pooled_calls(evaluations: Sequence[SiteEvaluation]) -> dict[str, SharedCalls]:
    """Sensitivity and specificity at the frozen threshold, counts of all sites that show theirs added up.

    Raises:
        UndefinedMetric: the sites used different thresholds.
    """
    thresholds = sorted({site.threshold for site in evaluations})
    if len(thresholds) > 1:
        raise UndefinedMetric(f"{len(thresholds)} different thresholds: calls add up at one frozen threshold only")
    shown = {
        "sensitivity": [site.found for site in evaluations if site.found],
        "specificity": [site.spared for site in evaluations if site.spared],
    }
    return {name: _pooled(calls) for name, calls in shown.items() if calls}


def _pooled(calls: Sequence[Calls]) -> SharedCalls:
    right, everybody = sum(c.right for c in calls), sum(c.right + c.wrong for c in calls)
    return SharedCalls(proportion(right, everybody), len(calls), everybody)


def _histograms(evaluations: Sequence[SiteEvaluation]) -> list[MergedHistogram]:
    shown = [site.histogram for site in evaluations if site.histogram]
    if not shown:
        raise UndefinedMetric(f"none of {len(evaluations)} sites shows a histogram: no curve can be drawn")
    return shown


def pooled_roc(evaluations: Sequence[SiteEvaluation]) -> RocCurve:
    """ROC curve of all participants of the sites that show a histogram; see :func:`histograms.binned_roc`."""
    return binned_roc(_histograms(evaluations))


def pooled_auc_range(evaluations: Sequence[SiteEvaluation]) -> AucRange:
    """AUC over the same participants, and the range that holds their exact one; see :func:`histograms.auc_range`."""
    return auc_range(_histograms(evaluations))


def pooled_calibration(evaluations: Sequence[SiteEvaluation], *, num_groups: int = 10) -> list[CalibrationBin]:
    """Calibration of the same participants, in groups of about equal size by predicted probability."""
    return calibration_bins(*binned_participants(_histograms(evaluations)), num_bins=num_groups)
