"""What one site says of a model on its held-out participants, and what a coordinator makes of many such answers.

No score of a person leaves: an AUC with its variance, two-by-two counts at the frozen threshold, and a histogram with
small counts merged. From these the coordinator draws the forest plot, the ROC curve and the calibration curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sarco_models.disclosure import small
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import (
    AucRange,
    MergedHistogram,
    ScoreHistogram,
    auc_range,
    binned_participants,
    binned_roc,
)
from sarco_models.scores import ParticipantScores

if TYPE_CHECKING:  # what travels must be known without SciPy: a relay imports this module for every message
    from sarco_models.calibration import CalibrationBin
    from sarco_models.heterogeneity import Method, PooledAuc
    from sarco_models.intervals import Estimate
    from sarco_models.metrics import RocCurve


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
        from sarco_models.metrics import auc, delong_variance

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

    def contradiction(self) -> str:
        """Which of its numbers cannot be true together; empty when all can.

        Looks at what is shown only: that something is withheld contradicts nothing.
        """
        return next((fault for check in (_sizes, _area, _calls, _curve) if (fault := check(self))), "")

    def auc_interval(self) -> Estimate | None:
        """The AUC with the interval that the site itself would print; None where it is withheld."""
        if self.auc is None or self.auc_variance is None or self.positives is None:
            return None
        from sarco_models.metrics import auc_estimate

        pairs = min(self.positives, self.participants - self.positives)
        return auc_estimate(self.auc, self.auc_variance, pairs=pairs)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; None where something is withheld."""
        curve = self.histogram
        return {
            "participants": self.participants,
            "positives": self.positives,
            "auc": self.auc,
            "auc_variance": self.auc_variance,
            "threshold": self.threshold,
            "found": asdict(self.found) if self.found else None,
            "spared": asdict(self.spared) if self.spared else None,
            "histogram": {f.name: getattr(curve, f.name).tolist() for f in fields(curve)} if curve else None,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`.

        Raises:
            UndefinedMetric: something else was stored.
        """
        try:
            found, spared = (Calls(**stored[name]) if stored[name] else None for name in ("found", "spared"))
            counts = stored["histogram"] and {k: np.array(v, dtype=np.int64) for k, v in stored["histogram"].items()}
            curve = MergedHistogram(**counts) if counts else None
            return cls(**{**stored, "found": found, "spared": spared, "histogram": curve})
        except (KeyError, TypeError, ValueError) as error:
            raise UndefinedMetric(
                f"a site's stored evaluation is damaged ({error!r}): let the site be asked again"
            ) from None


def _sizes(site: SiteEvaluation) -> str:
    numbers = [v for v in (site.threshold, site.auc, site.auc_variance) if v is not None]
    if not all(math.isfinite(v) for v in numbers):
        return "a number is not finite"
    if site.participants < 1 or not 0.0 <= site.threshold <= 1.0:
        return f"{site.participants} participants at a threshold of {site.threshold:g}"
    if site.positives is None:
        rest = (site.auc, site.auc_variance, site.found, site.spared, site.histogram)
        return "" if all(v is None for v in rest) else "numbers of classes whose sizes are withheld"
    inside = 0 < site.positives < site.participants
    return "" if inside else f"{site.positives} of {site.participants} participants with sarcopenia"


def _classes(site: SiteEvaluation) -> tuple[int, int]:
    positives = site.positives or 0
    return positives, site.participants - positives


def _area(site: SiteEvaluation) -> str:
    if site.auc is None or site.auc_variance is None:
        return "" if site.auc is site.auc_variance else "an AUC and its variance belong together"
    possible = 0.0 <= site.auc <= 1.0 and 0.0 <= site.auc_variance <= 1.0
    return "" if possible else f"an AUC of {site.auc:g} with a variance of {site.auc_variance:g}"


def _calls(site: SiteEvaluation) -> str:
    for calls, people in zip((site.found, site.spared), _classes(site), strict=True):
        if calls and (min(calls.right, calls.wrong) < 0 or calls.right + calls.wrong != people):
            return f"{calls.right} right and {calls.wrong} wrong calls of {people} participants"
    return ""


def _curve(site: SiteEvaluation) -> str:
    """How the histogram contradicts the other numbers; a float's rounding is no contradiction."""
    curve = site.histogram
    if curve is None:
        return ""
    if not curve.well_formed:
        return "a histogram whose runs or counts are none"
    if (int(curve.positives.sum()), int(curve.negatives.sum())) != _classes(site):
        return "a histogram of other people"
    certain = auc_range([curve])
    if site.auc is not None and not certain.low - 1e-9 <= site.auc <= certain.high + 1e-9:
        return f"an AUC of {site.auc:g}; its histogram allows {certain.low:g} to {certain.high:g}"
    # Runs that are surely at or above the threshold, and those that may be in part; a probability of 1 is in the last.
    above = curve.starts / curve.num_bins >= site.threshold
    reach = (curve.ends / curve.num_bins > site.threshold) | (curve.ends == curve.num_bins)
    called = [(site.found.right, curve.positives)] if site.found else []
    called += [(site.spared.wrong, curve.negatives)] if site.spared else []
    possible = [int(counts[above].sum()) <= number <= int(counts[reach].sum()) for number, counts in called]
    return "" if all(possible) else "calls at the threshold that its histogram does not allow"


def _shown(right: int, wrong: int, min_cell: int) -> Calls | None:
    return None if small([right, wrong], min_cell).any() else Calls(right, wrong)


# --- at the coordinator -----------------------------------------------------------------------------------------------


def forest(evaluations: Sequence[SiteEvaluation], *, method: Method = "dersimonian_laird") -> PooledAuc:
    """AUC over the sites that show one; see :func:`sarco_models.heterogeneity.pool_sites`."""
    from sarco_models.heterogeneity import pool_sites

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
    from sarco_models.intervals import proportion

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
    from sarco_models.calibration import calibration_bins

    return calibration_bins(*binned_participants(_histograms(evaluations)), num_bins=num_groups)
