"""Whether a probability means what it says, and the whole set of numbers that a study reports of one score.

Source: Van Calster et al. (2019), BMC Medicine 17:230. Hosmer-Lemeshow is left out on purpose (SCIENCE 4.2).
"""

import contextlib
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from sarco_models.calibration_curve import integrated_calibration_index
from sarco_models.decisions import confusion, figures_of_merit, proportions
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import (
    Estimate,
    WeightedStatistic,
    Z,
    draws,
    everybody_alike,
    percentile_estimate,
    proportion,
)
from sarco_models.metrics import auc_interval, average_precision
from sarco_models.scores import Labels, Scores, Weights

FURTHEST_LOGIT = 16.0  # probabilities of exactly 0 and 1 have no logit
NEWTON_STEPS = 100


def correct_prior(logits: Scores, prevalence: float, *, trained_at: float = 0.5) -> Scores:
    """Undo down-sampling: logit + ln(pi / (1 - pi)) when trained at parity (SCIENCE 4.4).

    Args:
        logits: any shape.
        prevalence: share of positives in the population that the probabilities shall speak about, in (0, 1).
        trained_at: share of positives that the loss saw, in (0, 1).
    """
    return np.asarray(logits + logit(prevalence) - logit(trained_at), dtype=np.float64)


def brier(probability: Scores, labels: Labels) -> WeightedStatistic:
    """Mean squared error of the probability; 0 is perfect, prevalence x (1 - prevalence) is knowing nothing else.

    Ready for ``intervals.bootstrap``; of ones (1, n) it is the score itself.
    """
    squared = (probability - labels) ** 2
    return lambda weights: weights @ squared / weights.sum(axis=1)


def brier_scaled(probability: Scores, labels: Labels) -> WeightedStatistic:
    """Share of the prevalence's Brier score that is saved: 1 perfect, 0 no better than the prevalence.

    Ready for ``intervals.bootstrap``, as :func:`brier`.
    """
    if labels.all() or not labels.any():
        raise UndefinedMetric(f"all {labels.size} participants have the same label: no scaled Brier score")
    score = brier(probability, labels)

    def of(weights: Weights) -> Scores:
        prevalence = weights @ labels / weights.sum(axis=1)
        knowing_nothing = prevalence * (1.0 - prevalence)
        spoiled = np.divide(
            score(weights), knowing_nothing, out=np.full_like(prevalence, np.nan), where=knowing_nothing > 0
        )
        return np.asarray(1.0 - spoiled, dtype=np.float64)

    return of


@dataclass(frozen=True)
class Calibration:
    """How probabilities compare with what happened.

    Attributes:
        intercept: calibration in the large, slope held at 1; 0 is ideal, above 0 the risk is underestimated.
        slope: 1 is ideal; below 1 the probabilities are too extreme. None when the score is constant or separates.
        expected_over_observed: mean probability over prevalence; 1 is ideal.
    """

    intercept: Estimate
    slope: Estimate | None
    expected_over_observed: Estimate


def calibration(probability: Scores, labels: Labels) -> Calibration:
    """Intercept, slope (logistic recalibration, Wald intervals) and E/O (log scale, Debray et al. 2017).

    Raises:
        UndefinedMetric: only one class is present.
    """
    if labels.all() or not labels.any():
        raise UndefinedMetric(f"all {labels.size} participants have the same label: calibration has no value")
    logits = np.clip(logit(np.asarray(probability, dtype=np.float64)), -FURTHEST_LOGIT, FURTHEST_LOGIT)
    ones = np.ones((labels.size, 1))
    return Calibration(
        intercept=_logistic_fit(ones, labels, offset=logits)[0],
        slope=_slope(logits, labels),
        expected_over_observed=_expected_over_observed(probability, labels),
    )


def _slope(logits: Scores, labels: Labels) -> Estimate | None:
    centered = logits - logits.mean()
    if np.abs(centered).max() < 1e-9:
        return None
    try:
        return _logistic_fit(np.stack([np.ones_like(logits), centered], axis=1), labels, offset=np.zeros_like(logits))[
            1
        ]
    except UndefinedMetric:
        return None


def _expected_over_observed(probability: Scores, labels: Labels) -> Estimate:
    observed = labels.sum()
    ratio = float(probability.sum() / observed)
    factor = float(np.exp(Z * np.sqrt((1.0 - labels.mean()) / observed)))
    return Estimate(ratio, ratio / factor, ratio * factor)


def _logistic_fit(design: Scores, labels: Labels | Scores, *, offset: Scores) -> list[Estimate]:
    """Maximum likelihood by Newton's method with bounded steps; design (n, k), one estimate per column."""
    coefficients = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        fitted = expit(design @ coefficients + offset)
        information = (design.T * (fitted * (1.0 - fitted))) @ design
        if np.linalg.cond(information) > 1e12 or information[0, 0] < 1e-9:
            break
        step = np.linalg.solve(information, design.T @ (labels - fitted))
        coefficients = coefficients + step * min(1.0, 2.0 / np.abs(step).max(initial=1e-300))
        if np.abs(step).max() < 1e-10:
            half = Z * np.sqrt(np.diag(np.linalg.inv(information)))
            return [Estimate(float(c), float(c - h), float(c + h)) for c, h in zip(coefficients, half, strict=True)]
    raise UndefinedMetric("the score separates the classes perfectly: logistic recalibration has no finite value")


@dataclass(frozen=True)
class Recalibration:
    """logit -> probability on another site's or fold's scale; two numbers, all that a site needs to send or receive."""

    intercept: float
    slope: float

    def __call__(self, logits: Scores) -> Scores:
        """(n,) logits -> (n,) probabilities."""
        return np.asarray(expit(self.intercept + self.slope * logits), dtype=np.float64)


def recalibrate(logits: Scores, labels: Labels) -> Recalibration:
    """Logistic recalibration with Platt's smoothed targets, which stay finite when a few people are separated.

    Platt (1999), section 2.2. Fit it on people who are not scored with it afterwards.

    Raises:
        UndefinedMetric: one class only, or everybody has the same logit.
    """
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives or np.ptp(logits) < 1e-9:
        raise UndefinedMetric(
            f"{positives} participants with and {negatives} without the condition, logits {np.ptp(logits):.2g} apart: "
            "recalibration needs both classes and different logits"
        )
    targets = np.where(labels, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    center, spread = float(logits.mean()), float(logits.std())
    design = np.stack([np.ones(logits.size), (logits - center) / spread], axis=1)
    level, rise = (estimate.value for estimate in _logistic_fit(design, targets, offset=np.zeros(logits.size)))
    return Recalibration(intercept=level - rise / spread * center, slope=rise / spread)


@dataclass(frozen=True)
class CalibrationBin:
    """Participants of similar predicted probability: its mean, the share with sarcopenia, how many they are."""

    predicted: float
    observed: Estimate
    count: int


def calibration_bins(probability: Scores, labels: Labels, *, num_bins: int = 10) -> list[CalibrationBin]:
    """Calibration curve from groups of equal size, by ascending probability."""
    order = np.argsort(probability, kind="stable")
    groups = [group for group in np.array_split(order, num_bins) if group.size]
    return [
        CalibrationBin(
            predicted=float(probability[group].mean()),
            observed=proportion(int(labels[group].sum()), group.size),
            count=int(group.size),
        )
        for group in groups
    ]


# --- what a study reports ---------------------------------------------------------------------------------------------


def summarize(probability: Scores, labels: Labels, threshold: float, rng: np.random.Generator) -> dict[str, Estimate]:
    """Every reported number of one score at a frozen threshold; what is undefined here is left out, never guessed.

    Resampled intervals let the number of positives vary, since it does from cohort to cohort; see
    :data:`sarco_models.intervals.Strata`.

    Returns:
        auc, auprc, sensitivity, specificity, accuracy, ppv, npv, f1_positive, f1_macro, balanced_accuracy, mcc, brier,
        brier_scaled, calibration_intercept, calibration_slope, expected_over_observed, ici.
    """
    found = proportions(confusion(probability, labels, threshold))
    resampled = {"brier": brier(probability, labels)}
    with contextlib.suppress(UndefinedMetric):  # one class, or one person of a class
        fit = calibration(probability, labels)
        resampled |= {
            "auprc": average_precision(probability, labels),
            "brier_scaled": brier_scaled(probability, labels),
        }
        resampled |= figures_of_merit(probability, labels, threshold)
        found["calibration_intercept"] = fit.intercept
        found["expected_over_observed"] = fit.expected_over_observed
        if fit.slope is not None:
            found["calibration_slope"] = fit.slope
        found["auc"] = auc_interval(probability, labels)
        resampled["ici"] = integrated_calibration_index(probability, labels)
    drawn = draws(resampled, everybody_alike(labels), rng)
    everybody = np.ones((1, labels.size))
    for name, statistic in resampled.items():
        with contextlib.suppress(UndefinedMetric):
            found[name] = percentile_estimate(float(statistic(everybody)[0]), drawn[name])
    return found
