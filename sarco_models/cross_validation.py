"""Cross-validation reported twice: over all participants at once, and as mean and spread of the folds (SCIENCE I11).

Each fold has its own model, and models of different folds do not speak the same scale: a person at .6 of one may be
suspected less than a person at .5 of another. Pooled as they are, their scores rank people across folds by the folds.
:func:`pooled` puts them on a common scale first.

The folds' values are no independent sample (every two share most of their training people): no t test of five AUCs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sarco_models.calibration import recalibrate
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Labels, ParticipantScores, Scores


@dataclass(frozen=True)
class Fold:
    """One fold's model on people it was not trained on; scores are logits.

    Attributes:
        test: the fold's own participants.
        reference: other participants, whom the model was not trained on either: its inner validation people.

    Raises:
        UndefinedMetric: somebody is in both, or all of the reference have the same logit.
    """

    test: ParticipantScores
    reference: ParticipantScores

    def __post_init__(self) -> None:
        """Nobody may shape the scale that the person is tested on."""
        both = len(set(self.test.ids) & set(self.reference.ids))
        if both:
            raise UndefinedMetric(
                f"{both} participants are both reference and test of a fold: take its inner validation people"
            )
        if len(self.reference) < 2 or np.ptp(self.reference.scores) < 1e-9:
            raise UndefinedMetric(f"{len(self.reference)} reference participants with one logit give a fold no scale")

    def standardized(self, logits: Scores) -> Scores:
        """Logits of this fold's model in standard deviations from the mean of its reference."""
        return np.asarray((logits - self.reference.scores.mean()) / self.reference.scores.std(), dtype=np.float64)


@dataclass(frozen=True)
class FoldSummary:
    """Mean and standard deviation of a statistic over folds. Describes the folds; it is no standard error."""

    mean: float
    sd: float
    values: tuple[float, ...]


def pooled(folds: Sequence[Fold]) -> ParticipantScores:
    """Everybody's out-of-fold probability on a common scale: the primary result.

    Each fold's logits are standardised by its reference people, without their labels; then one logistic recalibration,
    the same for all folds, makes probabilities of them. So no label can change a rank across folds. Calibrating each
    fold by itself would let the noise of five small fits into the ranks: with 57 reference people each it costs .014
    AUC where this costs .002 (benchmarks/inference.py). In return the pooled probabilities are calibrated by
    construction: judge calibration on people of no fold.

    Raises:
        UndefinedMetric: somebody is tested in two folds, or the reference people are all of one class.
    """
    rule = common_scale(folds)
    return ParticipantScores.joined([fold.test.mapped(fold.standardized).mapped(rule) for fold in folds])


def common_scale(folds: Sequence[Fold]) -> Callable[[Scores], Scores]:
    """The one logistic recalibration of all folds: standardised logits to probabilities. Raises as :func:`pooled`."""
    reference = np.concatenate([fold.standardized(fold.reference.scores) for fold in folds])
    return recalibrate(reference, np.concatenate([fold.reference.labels for fold in folds]))


def ensemble(folds: Sequence[Fold], others: Sequence[ParticipantScores]) -> ParticipantScores:
    """The frozen model of a cross-validation: people of no fold, scored by every fold's model on the common scale.

    Args:
        folds: all of them.
        others: the same people for each fold, with the logits of its model.

    Returns:
        The mean of the folds' probabilities.

    Raises:
        UndefinedMetric: as :func:`pooled`, or the folds scored different people.
    """
    rule = common_scale(folds)
    first = others[0]
    scored = [
        first.same_people(each).mapped(fold.standardized).mapped(rule) for fold, each in zip(folds, others, strict=True)
    ]
    return replace(first, scores=np.mean([each.scores for each in scored], axis=0))


def over_folds(folds: Sequence[ParticipantScores], statistic: Callable[[Scores, Labels], float]) -> FoldSummary:
    """Mean and SD of a statistic over folds: the secondary result.

    Args:
        folds: tested participants of each; nobody twice.
        statistic: (scores, labels) -> value, such as ``metrics.auc``.

    Raises:
        UndefinedMetric: fewer than two folds, somebody is tested in two, or a fold has no value.
    """
    if len(folds) < 2:
        raise UndefinedMetric(f"{len(folds)} folds: a spread needs two or more")
    ParticipantScores.joined(folds)  # refuses somebody who is tested twice
    values = np.array([statistic(fold.scores, fold.labels) for fold in folds])
    return FoldSummary(float(values.mean()), float(values.std(ddof=1)), tuple(float(value) for value in values))
