"""What feeds a network that finds muscles: participants become batches of images with what is to be found on them.

A sample is a participant: a batch holds people, each with some of their images. An image and its target are changed at
random together; what is shifted into view from beyond is OUTSIDE, so that nothing is learned of it.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarco_models.cohort import People, TrainingPeople
from sarco_models.config import StudyConfig
from sarco_models.fusion import Model
from sarco_models.image_cache import Stack
from sarco_models.preprocess import joint_augmentation
from sarco_models.segmentation import SegmentationConfig

PREDICTION_IMAGES = 32
"""Images of several people at once where nobody learns; one person's stay together, however many there are."""

Images = NDArray[np.int64]
Spacing = tuple[float, float] | None


@dataclass(frozen=True)
class SegmentationBatch:
    """Some participants' images, those of one participant together.

    Attributes:
        images: (rows, 1, size, size) grey in [0, 1].
        targets: (rows, size, size) classes, OUTSIDE where nothing is known.
        annotated: (rows, outputs - 1) whether somebody looked for a muscle.
        owner: (rows,) participant of each row, counted within the batch.
        participants: people in the batch, those without an image as well.
        mm_per_pixel: of each row's square (row, column), None = unknown; () where images are changed at random.
        asked: (rows,) which muscle the network is asked for, its position in the study's names; None where for all.
    """

    images: Tensor
    targets: Tensor
    annotated: Tensor
    owner: Tensor
    participants: int
    mm_per_pixel: tuple[Spacing, ...] = ()
    asked: Tensor | None = None

    def to(self, device: torch.device) -> "SegmentationBatch":
        """The same where a network computes."""
        moved = {name: getattr(self, name).to(device) for name in ("images", "targets", "annotated", "owner")}
        return replace(self, **moved, asked=None if self.asked is None else self.asked.to(device))

    def bags(self) -> Iterator["SegmentationBatch"]:
        """The batch cut into batches of one participant each."""
        start = 0
        for count in torch.bincount(self.owner, minlength=self.participants).tolist():
            rows = slice(start, start + count)
            yield SegmentationBatch(
                self.images[rows],
                self.targets[rows],
                self.annotated[rows],
                torch.zeros_like(self.owner[rows]),
                1,
                self.mm_per_pixel[rows],
                None if self.asked is None else self.asked[rows],
            )
            start += count


@dataclass(frozen=True)
class SegmentationReader:
    """Turns people into the rows that a network reads.

    Attributes:
        study: augmentation, and how many people and images a batch has.
        device: where the network computes.
        model: the study's network, where it is at hand.
    """

    study: StudyConfig
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    model: Model | None = None

    @staticmethod
    def of(model: Model, study: StudyConfig) -> "SegmentationReader":
        """A reader for this model, wherever it computes."""
        return SegmentationReader(study, model.device, model)

    @property
    def segmentation(self) -> SegmentationConfig:
        """Which muscles are found."""
        if self.study.segmentation is None:
            raise ValueError("a study without [segmentation] has no targets")
        return self.study.segmentation

    def prepare(self, people: People) -> None:
        """Nothing is kept of the frozen layers: what trains reads the images themselves."""

    def batches(self, people: TrainingPeople, rng: np.random.Generator) -> Iterator[SegmentationBatch]:
        """One epoch: participants shuffled, images drawn of each, changed at random."""
        draw = self.drawn(people, rng, views=1)
        order = rng.permutation(len(people))
        # Batches of nearly equal size: a ragged last one would give its few people a whole step of their own.
        for chosen in np.array_split(order, max(1, math.ceil(len(order) / self.study.training.batch_participants))):
            if len(chosen):
                yield draw(chosen)

    def drawn(
        self, people: TrainingPeople, rng: np.random.Generator, views: int
    ) -> Callable[[Images], SegmentationBatch]:
        """Makes a batch of the people at given positions, be they none: images drawn of each, in several views.

        In a private study what is drawn of a person, and how it is changed, depends on that person's images and on the
        batch's own throw alone: with one participant more or less, all others stay as they are.
        """
        if not isinstance(people, TrainingPeople):
            raise TypeError("training is on TrainingPeople only: nothing is fitted on people who are held out")
        change = joint_augmentation(self.study.augmentation)

        def batch(chosen: Images) -> SegmentationBatch:
            throw = int(rng.integers(2**63)) if self.study.privacy is not None else None
            images, rows, most = [np.zeros(0, dtype=np.int64)], [], self.study.training.images_per_participant
            for person in chosen:
                own = _images_of(people, int(person))
                chance = rng if throw is None else _own_chance(people, own, throw)
                drawn = np.repeat(chance.permutation(own)[:most], views)
                pixels, targets = people.cohort.pixels[drawn], people.cohort.targets[drawn]
                rows += [change(p, t, chance) for p, t in zip(pixels, targets, strict=True)]
                images.append(drawn)
            return self._batch(people, np.concatenate(images), [len(drawn) for drawn in images[1:]], rows)

        return batch

    def whole(self, people: People) -> Iterator[SegmentationBatch]:
        """Everybody once, with all images, unchanged."""
        of_person = [_images_of(people, i) for i in range(len(people))]
        for group in _groups([len(own) for own in of_person]):
            images = np.concatenate([np.zeros(0, dtype=np.int64), *(of_person[i] for i in group)])
            pixels, targets = people.cohort.pixels[images], people.cohort.targets[images]
            counts = [len(of_person[i]) for i in group]
            batch = self._batch(people, images, counts, list(zip(pixels, targets, strict=True)))
            views = people.cohort.views
            yield replace(batch, mm_per_pixel=tuple(views[int(image)].mm_per_pixel for image in images))

    def muscles_of(self, people: People, image: int) -> list[int]:
        """Which muscle of the study each class of an image's target is, from class 1; positions in its names.

        Args:
            people: of the cohort that the image belongs to.
            image: position in the cohort.
        """
        if self.segmentation.single:
            return [int(self._own_muscles(people, np.array([image]))[0])]
        return list(range(len(self.segmentation.names)))

    def _own_muscles(self, people: People, images: Images) -> NDArray[np.int8]:
        """(images,) the muscle that each is of, -1 where nobody has said it."""
        return np.asarray(Stack(tuple(c.targets.muscles for c in people.cohort.caches if c.targets))[images])

    def _batch(
        self,
        people: People,
        images: Images,
        counts: Sequence[int],
        rows: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    ) -> SegmentationBatch:
        side = self.study.image.size
        pixels = np.array([p for p, _ in rows], dtype=np.uint8).reshape(-1, 1, side, side)
        targets = np.array([t for _, t in rows], dtype=np.int64).reshape(-1, side, side)
        annotated = people.cohort.annotated[images].reshape(-1, self.segmentation.outputs - 1)
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))
        return SegmentationBatch(
            torch.from_numpy(pixels).float() / 255,
            torch.from_numpy(targets),
            torch.from_numpy(np.array(annotated, dtype=np.bool_)),
            owner,
            len(counts),
            asked=self.asked_for(people, images),
        ).to(self.device)

    def asked_for(self, people: People, images: Images) -> Tensor | None:
        """(images,) which muscle the network is asked for on each; None where it is asked for all."""
        if self.segmentation.classes != "asked":
            return None
        # Of an image whose muscle nobody has said, nothing was looked for: whatever is asked counts nowhere.
        own = self._own_muscles(people, images) if len(images) else np.zeros(0, dtype=np.int8)
        return torch.from_numpy(np.maximum(own, 0).astype(np.int64))


def _images_of(people: People, i: int) -> Images:
    owner = people.cohort.owner
    first, last = np.searchsorted(owner, [people.members[i], people.members[i] + 1])
    return np.arange(first, last)


def _own_chance(people: People, own: Images, throw: int) -> np.random.Generator:
    """Chance that depends on a batch's throw and on what a person's images show, not on their place among others'."""
    digest = hashlib.blake2b(people.cohort.pixels[own].tobytes(), digest_size=16)
    digest.update(people.cohort.targets[own].tobytes())
    return np.random.default_rng([throw, int.from_bytes(digest.digest())])


def _groups(counts: Sequence[int]) -> Iterator[list[int]]:
    """Neighbouring people with at most :data:`PREDICTION_IMAGES` images together, or one person with more."""
    group: list[int] = []
    for person, count in enumerate(counts):
        if group and sum(counts[k] for k in group) + count > PREDICTION_IMAGES:
            yield group
            group = []
        group.append(person)
    if group:
        yield group
