"""One score and one label for each participant: the form in which scores reach a statistic.

The statistics themselves are functions of arrays and cannot see whom a score belongs to. Here, at the border, every
score has an owner, and a participant who comes twice is refused: images counted as people make intervals too narrow by
1.7 to 2.6 (SCIENCE 4.3). Identifiers are used for that, and to pair two scores; they are never shown and never sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]
Weights = NDArray[np.float64]


def require_one_score_each(participant_ids: Iterable[str]) -> None:
    """Refuse repeated participants.

    Raises:
        UndefinedMetric: a participant occurs more than once; the message counts them and names nobody.
    """
    ids = list(participant_ids)
    people = len(set(ids))
    if people < len(ids):
        raise UndefinedMetric(
            f"{len(ids)} scores for {people} participants: a statistic takes one score per participant; "
            "average the images' logits with aggregate_by_participant first"
        )


def aggregate_by_participant(logits: Scores, participant_ids: Sequence[str]) -> tuple[list[str], Scores]:
    """Mean of each participant's image logits with equal weights, so that the number of images cannot vote.

    Returns:
        The participants in order of first appearance, and their logits.
    """
    people = list(dict.fromkeys(participant_ids))
    position = {person: index for index, person in enumerate(people)}
    owner = np.array([position[person] for person in participant_ids], dtype=np.intp)
    total = np.bincount(owner, weights=logits, minlength=len(people))
    return people, total / np.bincount(owner, minlength=len(people))


@dataclass(frozen=True, eq=False)
class ParticipantScores:
    """Participants with one finite score and one label each; anything else cannot be made.

    Attributes:
        ids: identifiers, all different.
        scores: (participants,) logits, probabilities, or any number that grows with the suspicion of disease.
        labels: (participants,) bool, True = sarcopenia.

    Raises:
        UndefinedMetric: a participant occurs twice, the lengths differ, or a score is not finite.
    """

    ids: tuple[str, ...] = field(repr=False)
    scores: Scores = field(repr=False)
    labels: Labels = field(repr=False)

    def __post_init__(self) -> None:
        """Check what every statistic relies on, so that none of them has to."""
        lengths = len(self.ids), len(self.scores), len(self.labels)
        if len(set(lengths)) > 1:
            raise UndefinedMetric(f"{lengths[0]} participants, {lengths[1]} scores, {lengths[2]} labels: one each")
        if self.labels.dtype != np.bool_:
            raise UndefinedMetric(f"labels of type {self.labels.dtype}; expected bool: write labels == 1")
        require_one_score_each(self.ids)
        absent = int((~np.isfinite(self.scores)).sum())
        if absent:
            raise UndefinedMetric(f"{absent} of {lengths[0]} scores are not finite: leave those participants out")

    @classmethod
    def of_images(cls, logits: Scores, owners: Sequence[str], label_of: Mapping[str, bool]) -> Self:
        """Average each participant's image logits (SCIENCE 4.3).

        Args:
            logits: (images,).
            owners: participant of each image.
            label_of: label of each participant.
        """
        people, mean = aggregate_by_participant(logits, owners)
        return cls(tuple(people), mean, np.array([label_of[person] for person in people], dtype=np.bool_))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Everybody of several groups that share nobody; refused when somebody is in two of them."""
        return cls(
            tuple(person for part in parts for person in part.ids),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    def __len__(self) -> int:
        """Number of participants."""
        return len(self.ids)

    @property
    def positives(self) -> int:
        """Participants with sarcopenia."""
        return int(self.labels.sum())

    def only(self, chosen: Labels) -> Self:
        """The participants for whom ``chosen`` (participants,) is True."""
        ids = tuple(person for person, wanted in zip(self.ids, chosen, strict=True) if wanted)
        return replace(self, ids=ids, scores=self.scores[chosen], labels=self.labels[chosen])

    def mapped(self, rule: Callable[[Scores], Scores]) -> Self:
        """The same participants with ``rule`` of their scores: another scale."""
        return replace(self, scores=rule(self.scores))

    def same_people(self, other: Self) -> Self:
        """The other scores of exactly these participants, in this order.

        Raises:
            UndefinedMetric: others were scored, or somebody's label differs; the message counts and names nobody.
        """
        apart = set(self.ids) ^ set(other.ids)
        if apart:
            raise UndefinedMetric(
                f"{len(apart)} participants have only one of two scores: compare scores of the same people"
            )
        position = {person: index for index, person in enumerate(other.ids)}
        order = np.array([position[person] for person in self.ids], dtype=np.intp)
        changed = int((self.labels != other.labels[order]).sum())
        if changed:
            raise UndefinedMetric(f"{changed} participants have two different labels: compare under one label rule")
        return replace(other, ids=self.ids, scores=other.scores[order], labels=self.labels)
