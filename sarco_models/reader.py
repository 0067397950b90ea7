"""What feeds a network: participants become batches of rows, through frozen layers whose output is kept.

A sample is a participant: a batch holds people, each with some of their images.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarco_models.cohort import People, TrainingPeople
from sarco_models.config import IMAGE, StudyConfig, TrainingConfig
from sarco_models.fusion import Inputs, Model
from sarco_models.image_cache import Stack
from sarco_models.parameters import Parameters, all_tensors
from sarco_models.preprocess import augmentation
from sarco_models.summaries import TableScaling

PREDICTION_PARTICIPANTS = 64
"""Participants scored at once: a matter of memory only."""


@dataclass(frozen=True)
class Batch:
    """Some participants.

    Attributes:
        inputs: rows of the network, those of one participant together.
        owner: (rows,) participant of each row, counted within the batch.
        labels: (participants,) 0 or 1.
    """

    inputs: Inputs
    owner: Tensor
    labels: Tensor

    def bags(self) -> Iterator["Batch"]:
        """The batch cut into batches of one participant each."""
        start = 0
        for person, count in enumerate(torch.bincount(self.owner, minlength=len(self.labels)).tolist()):
            rows = slice(start, start + count)
            inputs = Inputs(
                None if self.inputs.image is None else self.inputs.image[rows],
                {name: table[rows] for name, table in self.inputs.tables.items()},
                {name: present[rows] for name, present in self.inputs.present.items()},
            )
            yield Batch(inputs, torch.zeros_like(self.owner[rows]), self.labels[person : person + 1])
            start += count


@dataclass(frozen=True)
class Reader:
    """Turns people into the rows that the trained part of the network reads.

    Attributes:
        model: the study's network; the output of its frozen layers is kept on disk.
        scaling: agreed by all sites.
        study: augmentation and views.
        frozen_digest: names the frozen layers' weights; empty when no layer is frozen.
    """

    model: Model
    scaling: TableScaling
    study: StudyConfig
    frozen_digest: str

    @staticmethod
    def of(model: Model, scaling: TableScaling, study: StudyConfig) -> "Reader":
        """A reader for this model as it is now; make a new one when frozen weights change."""
        has_weights = model.frozen is not None and bool(all_tensors(model.frozen))
        digest = Parameters.pack(all_tensors(model.frozen)).digest if model.frozen and has_weights else ""
        return Reader(model, scaling, study, digest)

    def prepare(self, people: People) -> None:
        """Compute what the frozen layers make of these people's images now, rather than at first use."""
        if self.frozen_digest and self.study.uses_images:
            self._plain(people)
            if isinstance(people, TrainingPeople):
                self._augmented(people, np.random.default_rng(0))

    def batches(self, people: TrainingPeople, rng: np.random.Generator) -> Iterator[Batch]:
        """One epoch: classes at parity if the study asks for it, participants shuffled, images drawn."""
        if not isinstance(people, TrainingPeople):
            raise TypeError("training is on TrainingPeople only: nothing is fitted on people who are held out")
        cfg = self.study.training
        order = _epoch_order(people, rng, cfg)
        table, read = self._table(people), self._augmented(people, rng)
        # Batches of nearly equal size: a ragged last one would give its few people a whole step of their own.
        for chosen in np.array_split(order, math.ceil(len(order) / cfg.batch_participants)):
            images = [self._draw(people, int(i), rng) for i in chosen]
            yield self._batch(people, chosen, images, table, read)

    def drawn(
        self, people: TrainingPeople, rng: np.random.Generator, views: int
    ) -> Callable[[NDArray[np.int64]], Batch]:
        """Makes a batch of the people at given positions, be they none: images drawn of each, in several views."""
        table, read = self._table(people), self._augmented(people, rng)

        def batch(chosen: NDArray[np.int64]) -> Batch:
            images = [np.repeat(self._draw(people, int(i), rng), views) for i in chosen]
            return self._batch(people, chosen, images, table, read)

        return batch

    def whole(self, people: People) -> Iterator[Batch]:
        """Everybody once, with all images, unchanged."""
        table, read = self._table(people), self._plain(people)
        for start in range(0, len(people), PREDICTION_PARTICIPANTS):
            chosen = np.arange(start, min(start + PREDICTION_PARTICIPANTS, len(people)))
            images = [self._images_of(people, int(i)) for i in chosen]
            yield self._batch(people, chosen, images, table, read)

    def _draw(self, people: People, i: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Some of a participant's images; who has none costs no draw."""
        own = self._images_of(people, i)
        return rng.permutation(own)[: self.study.training.images_per_participant] if own.size else own

    def _images_of(self, people: People, i: int) -> NDArray[np.int64]:
        if not self.study.uses_images:
            return np.zeros(0, dtype=np.int64)
        owner = people.cohort.owner
        first, last = np.searchsorted(owner, [people.members[i], people.members[i] + 1])
        return np.arange(first, last)

    def _table(self, people: People) -> tuple[Tensor, Tensor]:
        values = people.table
        return torch.from_numpy(self.scaling(values)), torch.from_numpy(~np.isnan(values))

    def _batch(
        self,
        people: People,
        chosen: NDArray[np.int64],
        images: list[NDArray[np.int64]],
        table: tuple[Tensor, Tensor],
        read: Callable[[NDArray[np.int64]], Tensor],
    ) -> Batch:
        # A participant without images still has one row; of nobody there are none.
        counts = torch.tensor([max(1, len(own)) for own in images], dtype=torch.long)
        owner = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        seen = torch.repeat_interleave(torch.tensor([len(own) > 0 for own in images], dtype=torch.bool), counts)
        values, given = (t[torch.from_numpy(chosen)][owner] for t in table)
        tables, present = {}, {}
        for name, columns in self.model.table_columns.items():
            tables[name] = values[:, list(columns)]
            present[name] = given[:, list(columns)].any(dim=1)
        image = None
        if self.study.uses_images:
            present[IMAGE] = seen
            image = _spread(read(np.concatenate([np.zeros(0, dtype=np.int64), *images])), seen)
        labels = torch.from_numpy(people.labels[chosen].astype(np.float32))
        device = self.model.device
        return Batch(Inputs(image, tables, present).to(device), owner.to(device), labels.to(device))

    def _plain(self, people: People) -> Callable[[NDArray[np.int64]], Tensor]:
        """Reads images as they are, through the frozen layers."""
        if not self.frozen_digest:
            pixels = people.cohort.pixels
            return lambda images: self._frozen(pixels[images])
        kept = people.cohort.kept(f"plain-{self.frozen_digest[:24]}", _all_images(people), self._compute_plain)
        return lambda images: torch.from_numpy(kept[images].astype(np.float32))

    def _augmented(self, people: TrainingPeople, rng: np.random.Generator) -> Callable[[NDArray[np.int64]], Tensor]:
        """Reads each image changed at random; with frozen layers, one of the views that are kept of it."""
        views = self.study.augmentation.cached_views
        if not self.frozen_digest:
            pixels, augment = people.cohort.pixels, augmentation(self.study.augmentation)
            return lambda images: self._frozen(np.array([augment(p, rng) for p in pixels[images]], dtype=np.uint8))
        plain = self._plain(people)
        if views == 1:
            return plain
        kept = people.cohort.kept(self._views_key(), self._viewed(people), self._compute_views)
        return lambda images: _draw_views(images, plain, kept, views, rng)

    def _viewed(self, people: TrainingPeople) -> NDArray[np.int64]:
        """Images whose views are kept: everybody's where several splits of the same people share them."""
        several = self.study.split.folds or self.study.split.use < 1
        return _all_images(people) if several else people.images

    def _views_key(self) -> str:
        """The kept views depend on augmentation and seed as well; on the split through the images that they are of."""
        words = f"{self.study.augmentation}|{self.study.training.seed}" + "|private" * (self.study.privacy is not None)
        return f"views-{self.frozen_digest[:24]}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"

    def _compute_plain(self, pixels: NDArray[np.uint8], _images: NDArray[np.int64]) -> NDArray[np.float16]:
        return self._frozen(pixels).cpu().numpy().astype(np.float16)

    def _compute_views(self, pixels: NDArray[np.uint8], images: NDArray[np.int64]) -> NDArray[np.float16]:
        cfg = self.study.augmentation
        augment = augmentation(cfg)
        views = []
        for view in range(1, cfg.cached_views):
            rngs = [self._view_rng(view, int(i), p) for i, p in zip(images, pixels, strict=True)]
            changed = np.array([augment(p, rng) for p, rng in zip(pixels, rngs, strict=True)], dtype=np.uint8)
            views.append(self._frozen(changed).cpu().numpy().astype(np.float16))
        return np.stack(views, axis=1)

    def _view_rng(self, view: int, image: int, pixels: NDArray[np.uint8]) -> np.random.Generator:
        """What changes a kept view: by the image's place or, in a private study, by the image itself.

        A place tells how many images come before: with one participant more, others would be augmented otherwise.
        """
        if self.study.privacy is not None:
            image = int.from_bytes(hashlib.blake2b(pixels.tobytes(), digest_size=16).digest())
        return np.random.default_rng([self.study.training.seed, view, image])

    def _frozen(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(images, size, size) grey values -> what the trained part reads, where the network computes."""
        if self.model.frozen is None:
            raise ValueError("a study without images has no image part")
        with torch.inference_mode():
            side = self.study.image.size  # without any image there is no shape to go by
            images = torch.from_numpy(pixels.reshape(-1, 1, side, side)).to(self.model.device)
            out: Tensor = self.model.frozen(images.float() / 255)
        return out.clone()


def _epoch_order(people: TrainingPeople, rng: np.random.Generator, cfg: TrainingConfig) -> NDArray[np.int64]:
    """Positions of this epoch's participants, shuffled; a balanced study down-samples the larger class to parity."""
    classes = [np.flatnonzero(people.labels == label) for label in (0, 1)]
    fewest = min(len(c) for c in classes)
    if cfg.balance_classes and fewest:
        classes = [_drawn(c, fewest, cfg) if cfg.draws else rng.permutation(c)[:fewest] for c in classes]
    return rng.permutation(np.concatenate(classes))


def _drawn(members: NDArray[np.int64], count: int, cfg: TrainingConfig) -> NDArray[np.int64]:
    """The study's own draw of ``count`` members, the same in every epoch; draws follow each other through the class."""
    order = np.random.default_rng([cfg.seed, 211]).permutation(members)
    return np.take(order, np.arange(cfg.draw * count, (cfg.draw + 1) * count), mode="wrap")


def _all_images(people: People) -> NDArray[np.int64]:
    return np.arange(len(people.cohort.owner))


def _spread(images: Tensor, seen: Tensor) -> Tensor:
    """Put images into the rows that have one; the others stay zero and are replaced by the absent vector."""
    if bool(seen.all()):
        return images
    rows = images.new_zeros(len(seen), *images.shape[1:])
    rows[seen.to(images.device)] = images
    return rows


def _draw_views(
    images: NDArray[np.int64],
    plain: Callable[[NDArray[np.int64]], Tensor],
    kept: Stack,
    views: int,
    rng: np.random.Generator,
) -> Tensor:
    """One view of each image at random; view 0 is the image itself."""
    drawn = rng.integers(views, size=len(images))
    changed = torch.from_numpy(kept[images][np.arange(len(images)), np.maximum(drawn - 1, 0)].astype(np.float32))
    keep = torch.from_numpy(drawn == 0).view(-1, *[1] * (changed.dim() - 1))
    return torch.where(keep, plain(images), changed)
