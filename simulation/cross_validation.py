"""A cross-validation at one hospital put together: candidates, the choice between them, and the frozen model elsewhere.

Of each candidate every fold has one model for each draw; their probabilities are averaged (EasyEnsemble: Liu et al.
2009), then the folds are put on a common scale by their inner validation people (:mod:`sarco_models.cross_validation`).
Nobody is called positive by a threshold that was chosen on him: at the hospital itself a fold's threshold comes from
the other folds, elsewhere from all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import logit

from sarco_models.config import Config, EvaluationConfig, Name
from sarco_models.cross_validation import Fold, ensemble, pooled
from sarco_models.decisions import choose_threshold, confusion, f1_macro, f1_positive
from sarco_models.intervals import Estimate
from sarco_models.metrics import auc, roc_curve
from sarco_models.scores import ParticipantScores
from simulation.arms import Arm
from simulation.harness import REFERENCE, SCORES, Scores, read_people

NESTED = "nested"
_CERTAIN = 1e-12  # a probability of exactly 0 or 1 has no logit


class Selection(Config):
    """How one candidate is chosen for the other hospitals: fixed before anything is trained."""

    metric: Literal["auc", "f1_macro", "f1_positive"] = "auc"
    tolerance: float = Field(
        default=0.0, ge=0, le=0.5, description="Of those within it of the best, the candidate that is listed first."
    )

    @property
    def rule(self) -> str:
        """In words."""
        if not self.tolerance:
            return f"the highest {self.metric} over all out-of-fold participants"
        return f"the first listed of those whose {self.metric} is within {self.tolerance:g} of the highest"

    def choose(self, values: Mapping[str, float]) -> str:
        """Name of the chosen candidate; ``values`` in the order of the list."""
        best = max(values.values())
        return next(name for name, value in values.items() if value >= best - self.tolerance)


class CrossValidation(Config):
    """The paper's way: one hospital trains, in folds of participants; the others only test."""

    site: Name
    folds: int = Field(default=5, ge=2, le=20)
    draws: int = Field(
        default=3, ge=0, le=20, description="Balanced draws of each fold, averaged; 0: one model a fold."
    )
    selection: Selection = Selection()


@dataclass(frozen=True)
class Candidate:
    """One candidate's models of one seed.

    Attributes:
        name: of its arms, ``cv:SITE@CANDIDATE``.
        seed: of the experiment.
        folds: each fold's averaged model on its own people, as logits, and on its inner validation people.
        elsewhere: other hospitals -> their people's logits under each fold's averaged model.
        evaluation: the study's threshold rule.
    """

    name: str
    seed: int
    folds: tuple[Fold, ...]
    elsewhere: Mapping[str, tuple[ParticipantScores, ...]]
    evaluation: EvaluationConfig

    @staticmethod
    def of(members: Sequence[Arm]) -> "Candidate":
        """Read the finished arms of all folds and draws."""
        first = members[0]
        by_fold: dict[int, list[Arm]] = {}
        for arm in members:
            by_fold.setdefault(arm.study.split.fold, []).append(arm)
        read = [(_averaged(arms, SCORES), _averaged(arms, REFERENCE)) for _, arms in sorted(by_fold.items())]
        others = [s.name for s in first.sites if s.name != first.site]
        return Candidate(
            name=first.name,
            seed=first.study.training.seed,
            folds=tuple(Fold(scores[first.site], reference[first.site]) for scores, reference in read),
            elsewhere={name: tuple(scores[name] for scores, _ in read) for name in others},
            evaluation=first.study.evaluation,
        )

    @cached_property
    def out_of_fold(self) -> ParticipantScores:
        """Everybody's probability by a model that never saw him."""
        return pooled(self.folds)

    @cached_property
    def by_fold(self) -> tuple[ParticipantScores, ...]:
        """The same, fold by fold."""
        position = {person: k for k, person in enumerate(self.out_of_fold.ids)}
        masks = [np.zeros(len(position), dtype=np.bool_) for _ in self.folds]
        for mask, fold in zip(masks, self.folds, strict=True):
            mask[[position[person] for person in fold.test.ids]] = True
        return tuple(self.out_of_fold.only(mask) for mask in masks)

    def threshold(self, people: ParticipantScores) -> float:
        """The study's rule on these people."""
        cfg, roc = self.evaluation, roc_curve(people.scores, people.labels)
        share = people.positives / len(people)
        return choose_threshold(
            roc, cfg.threshold_rule, min_sensitivity=cfg.min_sensitivity, cost_ratio=cfg.cost_ratio, prevalence=share
        )

    @cached_property
    def calls(self) -> NDArray[np.bool_]:
        """(participants,) who is called positive at the hospital itself, by the other folds' threshold."""
        thresholds = [
            self.threshold(ParticipantScores.joined([p for other, p in enumerate(self.by_fold) if other != k]))
            for k in range(len(self.folds))
        ]
        called = {
            person: bool(score >= threshold)
            for people, threshold in zip(self.by_fold, thresholds, strict=True)
            for person, score in zip(people.ids, people.scores, strict=True)
        }
        return np.array([called[person] for person in self.out_of_fold.ids])

    def scores(self, site: str) -> Iterator[Scores]:
        """Out-of-fold at the hospital itself, and by the frozen ensemble at the others."""
        frozen = self.threshold(self.out_of_fold)
        yield Scores(self.name, self.seed, site, self.out_of_fold, frozen, self.calls)
        for name, logits in self.elsewhere.items():
            yield Scores(self.name, self.seed, name, ensemble(self.folds, logits), frozen)

    def fold_values(self) -> Iterator[tuple[str, Estimate]]:
        """Each fold's own numbers, as ``fold_METRIC:FOLD``; they describe the folds and have no interval."""
        called = dict(zip(self.out_of_fold.ids, self.calls, strict=True))
        for k, people in enumerate(self.by_fold):
            table = confusion(np.array([called[i] for i in people.ids], dtype=np.float64), people.labels, 0.5)
            positives, negatives = people.positives, len(people) - people.positives
            found = {
                "auc": auc(people.scores, people.labels),
                "sensitivity": float(table.true_positives / positives),
                "specificity": float(table.true_negatives / negatives),
                "accuracy": float((table.true_positives + table.true_negatives) / len(people)),
                "f1_positive": float(f1_positive(table)),
                "f1_macro": float(f1_macro(table)),
            }
            for metric, value in found.items():
                yield f"fold_{metric}:{k}", Estimate(value, np.nan, np.nan)

    def value(self, metric: str) -> float:
        """What candidates are compared by, over all out-of-fold participants."""
        if metric == "auc":
            return auc(self.out_of_fold.scores, self.out_of_fold.labels)
        table = confusion(self.calls.astype(np.float64), self.out_of_fold.labels, 0.5)
        return float((f1_macro if metric == "f1_macro" else f1_positive)(table))

    def inner_value(self, fold: int, metric: str) -> float:
        """The same on a fold's inner validation people, whose own best threshold is taken for an F1."""
        people = self.folds[fold].reference
        if metric == "auc":
            return auc(people.scores, people.labels)
        table = confusion(people.scores, people.labels, self.threshold(people))
        return float((f1_macro if metric == "f1_macro" else f1_positive)(table))


def nested(candidates: Sequence[Candidate], selection: Selection, name: str) -> tuple[Candidate, list[str]]:
    """The candidate chosen anew in every fold on its inner validation people: what the choosing itself costs.

    Returns:
        It, without other hospitals, and the name that each fold chose.
    """
    folds, chosen = [], []
    for k in range(len(candidates[0].folds)):
        values = {c.name: c.inner_value(k, selection.metric) for c in candidates}
        chosen.append(selection.choose(values))
        folds.append(next(c.folds[k] for c in candidates if c.name == chosen[-1]))
    return replace(candidates[0], name=name, folds=tuple(folds), elsewhere={}), chosen


def _averaged(draws: Sequence[Arm], file: str) -> dict[str, ParticipantScores]:
    """Logit of the mean probability of a fold's draws, by cohort."""
    read = [read_people(arm.folder / file) for arm in draws]
    found = {}
    for site, first in read[0].items():
        together = [first.same_people(each[site]).scores for each in read]
        mean = np.clip(np.mean(together, axis=0), _CERTAIN, 1 - _CERTAIN)
        found[site] = replace(first, scores=logit(mean))
    return found
