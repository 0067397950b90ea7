"""What a quality score is worth: scores of found masks held against their true Dice.

"Below a score of t, x % of the masks have a Dice below .8" is a measurement, not a promise: it is made on people whom
the model was not trained on. The participant is the unit: somebody's images share one vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from sarco_models.errors import UndefinedMetric

Floats = NDArray[np.float64]

GOOD_DICE = 0.8
"""From which a mask is good enough to be measured (Zhang et al. report .826 to .920)."""

EDGES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Bin:
    """Masks with scores from ``low`` to below ``high``.

    Attributes:
        masks: how many.
        people: of whom.
        dice: mean, participants weighing alike; None where there is no mask.
        bad: share with a Dice below what is good; None where there is no mask.
    """

    low: float
    high: float
    masks: int
    people: int
    dice: float | None
    bad: float | None


@dataclass(frozen=True, eq=False)
class ScoreCheck:
    """Scores and true Dice of masks.

    Attributes:
        scores: (masks,) 0 to 1.
        dices: (masks,) 0 to 1, on participants who were held out.
        owners: whose mask each is.
        good: Dice from which a mask is good.

    Raises:
        UndefinedMetric: the lengths differ, a number is none, or there is no mask.
    """

    scores: Floats
    dices: Floats
    owners: tuple[str, ...]
    good: float = GOOD_DICE

    def __post_init__(self) -> None:
        """Check what every figure relies on."""
        lengths = {len(self.scores), len(self.dices), len(self.owners)}
        if len(lengths) > 1 or not len(self.scores):
            raise UndefinedMetric(
                f"{len(self.scores)} scores, {len(self.dices)} Dice, {len(self.owners)} owners: one each"
            )
        if not (np.isfinite(self.scores).all() and np.isfinite(self.dices).all()):
            raise UndefinedMetric("a score or a Dice is no number: leave out masks of which nothing is known")

    @property
    def weights(self) -> Floats:
        """(masks,) 1 over the participant's number of masks."""
        _, position, count = np.unique(self.owners, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / count[position])

    def bins(self, edges: Sequence[float] = EDGES) -> tuple[Bin, ...]:
        """Mean Dice and share of bad masks by score; the last bin holds its upper edge."""
        limits = zip(edges[:-1], [*edges[1:-1], np.nextafter(edges[-1], 2)], strict=True)
        return tuple(self._bin(low, high) for low, high in limits)

    def below(self, threshold: float) -> Bin:
        """The masks that would be refused: of them ``bad`` are so rightly."""
        return self._bin(-np.inf, threshold)

    def above(self, threshold: float) -> Bin:
        """The masks that would be accepted."""
        return self._bin(threshold, np.inf)

    def _bin(self, low: float, high: float) -> Bin:
        within = (self.scores >= low) & (self.scores < high)
        if not within.any():
            return Bin(low, high, 0, 0, None, None)
        weights, dices = self.weights[within], self.dices[within]
        people = len({owner for owner, inside in zip(self.owners, within, strict=True) if inside})
        mean = float(np.average(dices, weights=weights))
        bad = float(np.average(dices < self.good, weights=weights))
        return Bin(low, high, int(within.sum()), people, mean, bad)

    @property
    def spearman(self) -> float:
        """Rank correlation of the participants' mean score with their mean Dice.

        Raises:
            UndefinedMetric: fewer than three participants, or all have the same score or Dice.
        """
        _, position = np.unique(self.owners, return_inverse=True)
        means = [np.bincount(position, v) / np.bincount(position) for v in (self.scores, self.dices)]
        if len(means[0]) < 3 or any(np.ptp(mean) == 0 for mean in means):
            raise UndefinedMetric("ranks need three participants or more with different scores and Dice")
        return float(spearmanr(means[0], means[1]).statistic)

    def threshold(self, bad: float = 0.05) -> float:
        """The lowest score from which at most this share of the accepted masks is bad.

        Raises:
            UndefinedMetric: there is none: so many are bad at every score.
        """
        order = np.argsort(-self.scores, kind="stable")
        weights = self.weights[order]
        share = np.cumsum(weights * (self.dices[order] < self.good)) / np.cumsum(weights)
        scores = self.scores[order]
        last_of_its_score = np.append(scores[1:] != scores[:-1], True)
        fits = np.flatnonzero((share <= bad) & last_of_its_score)
        if not fits.size:
            raise UndefinedMetric(
                f"more than {bad:.0%} of the masks are bad at every score: the score tells nothing here"
            )
        return float(scores[fits[-1]])
