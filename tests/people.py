"""Made-up people with scores: of a known AUC, and sixty fixed ones for whom other programs gave their numbers."""

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from sarco_models.scores import Labels, ParticipantScores, Scores

Sample = tuple[Scores, Labels]

LADDER: Sample = (
    (np.arange(60) + 0.5) / 60,
    np.array([sign == "1" for sign in "100001000010010100101001011010010100101101011010110111101111"]),
)
"""Probabilities 1/120, 3/120 ... and labels that rise with them."""


def binormal(num_positive: int, num_negative: int, area: float, rng: np.random.Generator) -> Sample:
    """Scores whose true AUC is ``area``; the positives come first."""
    labels = np.arange(num_positive + num_negative) < num_positive
    return rng.normal(size=labels.size) + labels * np.sqrt(2.0) * norm.ppf(area), labels


def true_probabilities(num_positive: int, num_negative: int, area: float, rng: np.random.Generator) -> Sample:
    """The same people with the probability that really follows from their score."""
    scores, labels = binormal(num_positive, num_negative, area, rng)
    apart = np.sqrt(2.0) * norm.ppf(area)
    return expit(apart * (scores - apart / 2.0) + np.log(num_positive / num_negative)), labels


def named(sample: Sample, prefix: str = "p") -> ParticipantScores:
    """The same people with identifiers."""
    scores, labels = sample
    return ParticipantScores(tuple(f"{prefix}{i}" for i in range(labels.size)), scores, labels)
