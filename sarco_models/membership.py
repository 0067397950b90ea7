"""Was this participant trained on? Two attacks, how they are measured, and how well any attack can do under privacy.

The loss-threshold attack (Yeom et al. 2018) says "member" where the loss is small. The likelihood-ratio attack (LiRA,
Carlini et al. 2022) asks of each participant how confident models are that were, and that were not, trained on that
very person. Both work on the *confidence*, log(p / (1 - p)) of the true class: of it the loss is a falling function.

Here ``scores`` are numbers that grow with the suspicion of membership, one per participant. An AUC of 0.5 is chance.
Of participant-level (epsilon, delta) no attack can pass :func:`bound`, whatever it knows (Kairouz et al. 2015).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import norm

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate, clopper_pearson
from sarco_models.metrics import auc, auc_estimate, auc_interval
from sarco_models.scores import Labels, Scores

FPR = 0.01
"""False positives at which an attack is judged: what it can do without accusing everybody (Carlini et al. 2022)."""

FEW_SHADOWS = 32
"""With fewer models with, or without, each participant, one variance serves all of them.

Carlini et al. (2022) take 64 models in all as the limit, half of which know the participant.
"""

Confidence = NDArray[np.float64]


@dataclass(frozen=True)
class Leakage:
    """How well members are told from others.

    Attributes:
        members: participants who were trained on.
        others: participants who were not.
        auc: with DeLong's interval.
        tpr: share of the members found at ``fpr``, with its exact interval; the threshold is taken as given, so that
            the interval is of these members, not of another choice of others.
        fpr: false positives that are expected at that threshold; more than asked for where others are too few.
        balanced_accuracy: greatest mean of the shares called rightly among members and others; the threshold is chosen
            on the same people, so that even a useless attack has a little more than one half.
    """

    members: int
    others: int
    auc: Estimate
    tpr: Estimate
    fpr: float
    balanced_accuracy: float


def confidence(logits: Scores, labels: Labels) -> Confidence:
    """Log odds of the true class, from the logits of the positive one; any shape whose last axis is participants."""
    return np.where(labels, logits, -logits)


def measure(members: Scores, others: Scores, fpr: float = FPR) -> Leakage:
    """How well a score tells members from others.

    Args:
        members: (members,) one score per participant who was trained on.
        others: (others,) likewise of participants who were not.
        fpr: false-positive rate at which members are to be found.

    Raises:
        UndefinedMetric: fewer than two of either, or a score that is not a number.
    """
    scores, labels = _joined(members, others)
    found, expected = members_found(members, others, fpr)
    return Leakage(
        members=len(members),
        others=len(others),
        auc=auc_interval(scores, labels),
        tpr=clopper_pearson(found, len(members)),
        fpr=expected,
        balanced_accuracy=_balanced_accuracy(members, others),
    )


def area(members: Scores, others: Scores) -> float:
    """AUC of telling members from others."""
    return auc(*_joined(members, others))


def members_found(members: Scores, others: Scores, fpr: float = FPR) -> tuple[int, float]:
    """Members whose score is above all but the fewest others, and the false-positive rate that this means.

    The threshold is the k-th greatest score of the others, and k - 1 of n others lie above it. One more person who was
    not trained on lies above it with probability k / (n + 1): with 99 others the greatest score of all is the threshold
    of 1 %, with 20 it is that of 4.8 %, and nothing smaller can be measured. Because k / (n + 1) is what a useless
    attack finds of the members on average too, this is the number to hold a share of found members against.

    Returns:
        Number of members above the threshold, and k / (n + 1).
    """
    rank = _rank(len(others), fpr)
    threshold = np.sort(others)[-rank]
    return int((members > threshold).sum()), rank / (len(others) + 1)


def usable_fpr(others: int, fpr: float = FPR) -> float:
    """The false-positive rate at which so many others let members be found; see :func:`members_found`."""
    return _rank(others, fpr) / (others + 1)


def counted(area_: float, found: int, members: int, others: int) -> tuple[Estimate, Estimate]:
    """Intervals where the scores stay at a hospital: of the AUC (Hanley and McNeil 1982), and of the share found.

    Hanley and McNeil's variance needs the AUC and the two numbers of people only; it is that of scores which are
    exponentially distributed in both groups.
    """
    first, second = area_ / (2 - area_), 2 * area_**2 / (1 + area_)
    spread = area_ * (1 - area_) + (members - 1) * (first - area_**2) + (others - 1) * (second - area_**2)
    shown = auc_estimate(area_, spread / (members * others), pairs=min(members, others))
    return shown, clopper_pearson(found, members)


def _rank(others: int, fpr: float) -> int:
    # A thousandth of a person is a float's rounding, not a person.
    return max(1, int(fpr * (others + 1) + 1e-3))


def _joined(members: Scores, others: Scores) -> tuple[Scores, Labels]:
    if min(len(members), len(others)) < 2:
        raise UndefinedMetric(
            f"{len(members)} members and {len(others)} others: an attack is measured on two of each at least"
        )
    scores = np.concatenate([members, others])
    if np.isnan(scores).any():
        raise UndefinedMetric(f"{int(np.isnan(scores).sum())} of {len(scores)} scores of an attack are not numbers")
    return scores, np.arange(len(scores)) < len(members)


def _balanced_accuracy(members: Scores, others: Scores) -> float:
    thresholds = np.unique(np.concatenate([members, others]))
    found = 1 - np.searchsorted(np.sort(members), thresholds, side="left") / len(members)
    spared = np.searchsorted(np.sort(others), thresholds, side="left") / len(others)
    return float(max(0.5, (0.5 * (found + spared)).max()))


# --- the likelihood-ratio attack --------------------------------------------------------------------------------------


def likelihood_ratio(
    target: Confidence, shadows: Confidence, inside: Labels, variance: Literal["auto", "person", "global"] = "auto"
) -> Scores:
    """LiRA with models on both sides of each participant (Carlini et al. 2022, "online").

    Args:
        target: (participants,) confidence of the attacked model.
        shadows: (models, participants) confidence of models made in the same way.
        inside: (models, participants) True where the model was trained on the participant.
        variance: of each participant, or one for all of them; ``auto`` takes the second where some participant has
            fewer than ``FEW_SHADOWS`` models on one side.

    Returns:
        (participants,) log likelihood ratio of "trained on" against "not trained on".

    Raises:
        UndefinedMetric: a participant has fewer than two models on one side, where no variance can be told.
    """
    with_, without = _fitted(shadows, inside, variance), _fitted(shadows, ~inside, variance)
    return np.asarray(norm.logpdf(target, *with_) - norm.logpdf(target, *without))


def offline_ratio(
    target: Confidence, shadows: Confidence, inside: Labels, variance: Literal["auto", "person", "global"] = "auto"
) -> Scores:
    """LiRA that knows only models without the participant (Carlini et al. 2022, "offline").

    Arguments as in :func:`likelihood_ratio`; models with the participant are not looked at.

    Returns:
        (participants,) minus the log probability that a model without the participant is that confident.
    """
    mean, deviation = _fitted(shadows, ~inside, variance)
    return np.asarray(-log_ndtr(-(target - mean) / deviation))


def _fitted(shadows: Confidence, chosen: Labels, variance: str) -> tuple[Scores, Scores]:
    """(participants,) mean and standard deviation over the chosen models."""
    counts = chosen.sum(axis=0)
    if counts.min() < 2:
        raise UndefinedMetric(
            f"a participant has {int(counts.min())} shadow models on one side; LiRA needs two, better {FEW_SHADOWS}: "
            "train more shadow models"
        )
    mean = np.where(chosen, shadows, 0.0).sum(axis=0) / counts
    squares = (np.where(chosen, shadows - mean, 0.0) ** 2).sum(axis=0)
    if variance == "person" or (variance == "auto" and counts.min() >= FEW_SHADOWS):
        spread = squares / (counts - 1)
    else:
        spread = np.full_like(mean, squares.sum() / (counts - 1).sum())
    # Models that all agree to the last bit would make the ratio infinite.
    return mean, np.sqrt(np.maximum(spread, 1e-18))


# --- what differential privacy allows ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """The best that any attack on one participant can do."""

    auc: float
    tpr: float


def bound(epsilon: float, delta: float, fpr: float = FPR) -> Bound:
    """Greatest AUC and greatest share of members found under (epsilon, delta).

    For every attack TPR <= e^epsilon FPR + delta, and the same of the two kinds of error exchanged (Kairouz et al.
    2015). The smaller of the two is a concave curve of two straight lines that meet where TPR = 1 - FPR; with delta = 0
    the area under it is e^epsilon / (1 + e^epsilon). An infinite epsilon bounds nothing.
    """
    rest = 1 - delta
    steep = 1 / (1 + np.exp(-epsilon))  # e^epsilon / (1 + e^epsilon), finite for any epsilon
    meet, length = rest * (1 - steep), rest * steep
    # From the left: up to where the lines meet, from there to where the curve reaches 1, and the rest.
    rising = meet * length / 2 + delta * meet
    falling = length - meet * length / 2
    return Bound(float(rising + falling + delta), float(_curve(epsilon, delta, fpr)))


def _curve(epsilon: float, delta: float, fpr: float) -> float:
    first = fpr * float(np.exp(min(epsilon, 700.0))) + delta
    second = 1 - float(np.exp(-epsilon)) * (1 - delta - fpr)
    return min(1.0, first, second)


def gaussian_bound(epsilon: float, delta: float, fpr: float = FPR) -> Bound:
    """The same where all that was released is noise of a Gaussian: everybody takes part in each step.

    Steps of Gaussian noise on everybody's gradients are together one Gaussian mechanism, whose whole curve is known:
    TPR = Phi(Phi^-1(FPR) + mu) (Dong et al. 2022, section 2.2). ``mu`` is the one whose epsilon at this delta is the
    given one. It is far below :func:`bound`, which knows a single point of that curve. With ``sample_rate`` below 1 it
    is an approximation (their central limit theorem).
    """
    mu = _mu(epsilon, delta)
    return Bound(float(norm.cdf(mu / np.sqrt(2))), float(norm.cdf(norm.ppf(fpr) + mu)))


def _mu(epsilon: float, delta: float) -> float:
    """Inverse of the epsilon of a Gaussian mechanism (Dong et al. 2022, corollary 2.13); infinite for infinite."""
    if not np.isfinite(epsilon):
        return float("inf")

    def excess(mu: float) -> float:
        spent = norm.cdf(-epsilon / mu + mu / 2) - np.exp(epsilon + norm.logcdf(-epsilon / mu - mu / 2))
        return float(spent - delta)

    return float(brentq(excess, 1e-12, 2 * np.sqrt(epsilon + 1) + 20, xtol=1e-12))
