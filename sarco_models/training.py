"""The one training loop, and what feeds it. A hospital, the pooled baseline and the tests all run this code.

A sample is a participant: a batch holds people, each with some of their images, and every person weighs the same
however many images there are.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sarco_models.cohort import People, TrainingPeople
from sarco_models.config import IMAGE, StudyConfig, TrainingConfig
from sarco_models.devices import device_of, seeded
from sarco_models.fusion import FusionNet, Inputs, Model
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


Loss = Callable[[FusionNet, Batch], Tensor]


@dataclass(frozen=True)
class Training:
    """Everything that ``fit`` needs. Methods change it by composition: ``Training -> Training``.

    Attributes:
        net: the trained part of the model.
        optimizer: over the net's parameters.
        batches: all batches of all epochs, in order; may be an iterator.
        loss: of one batch.
        rates: factor on each group's learning rate, before each step.
    """

    net: FusionNet
    optimizer: torch.optim.Optimizer
    batches: Iterable[Batch]
    loss: Loss
    rates: Callable[[int], float]


def fit(training: Training, seed: int) -> list[float]:
    """Train, and return the loss of every step.

    Args:
        training: see there.
        seed: of dropout and hidden modalities; the caller's random state is left as it was.
    """
    losses = []
    first_rates = [group["lr"] for group in training.optimizer.param_groups]
    training.net.train()
    with seeded(seed, device_of(training.net)):
        for step, batch in enumerate(training.batches):
            for group, rate in zip(training.optimizer.param_groups, first_rates, strict=True):
                group["lr"] = rate * training.rates(step)
            training.optimizer.zero_grad(set_to_none=True)
            loss = training.loss(training.net, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            training.optimizer.step()
            losses.append(float(loss.detach()))
    return losses


def participant_loss(net: FusionNet, batch: Batch) -> Tensor:
    """Binary cross-entropy; the mean over a participant's rows, then over participants."""
    rows = binary_cross_entropy_with_logits(net(batch.inputs), batch.labels[batch.owner], reduction="none")
    return _mean_per_participant(rows, batch.owner, len(batch.labels)).mean()


def proximal(loss: Loss, anchor: Mapping[str, Tensor], mu: float) -> Loss:
    """Add mu/2 times the squared distance to the round's global model (FedProx: Li et al. 2020, equation 2)."""

    def with_distance(net: FusionNet, batch: Batch) -> Tensor:
        distances = [((p - anchor[name]) ** 2).sum() for name, p in net.named_parameters() if name in anchor]
        return loss(net, batch) + 0.5 * mu * torch.stack(distances).sum()

    return with_distance


def adamw(net: FusionNet, cfg: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; the image branch may have a learning rate of its own."""
    image = [p for n, p in net.named_parameters() if n.startswith(f"branches.{IMAGE}.") and p.requires_grad]
    rest = [p for n, p in net.named_parameters() if not n.startswith(f"branches.{IMAGE}.") and p.requires_grad]
    groups = [
        {"params": image, "lr": cfg.backbone_learning_rate or cfg.learning_rate},
        {"params": rest, "lr": cfg.learning_rate},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=cfg.weight_decay)


def warmup_cosine(*, round_: int, rounds: int, warmup_rounds: int, steps: int) -> Callable[[int], float]:
    """Factor on the learning rate: linear warm-up, then cosine to zero, over the steps of the whole study.

    It depends on the round alone, so that a round can be repeated or resumed and be the same round.
    """

    def factor(step: int) -> float:
        done = round_ - 1 + (step + 1) / max(steps, 1)
        if done <= warmup_rounds:
            return done / warmup_rounds
        # The last step still moves: the cosine reaches zero one step after the end.
        share = (done - warmup_rounds - 1 / max(steps, 1)) / max(rounds - warmup_rounds, 1)
        return 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))

    return factor


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
            images = [
                rng.permutation(own)[: cfg.images_per_participant]
                if (own := self._images_of(people, int(i))).size
                else own
                for i in chosen
            ]
            yield self._batch(people, chosen, images, table, read)

    def whole(self, people: People) -> Iterator[Batch]:
        """Everybody once, with all images, unchanged."""
        table, read = self._table(people), self._plain(people)
        for start in range(0, len(people), PREDICTION_PARTICIPANTS):
            chosen = np.arange(start, min(start + PREDICTION_PARTICIPANTS, len(people)))
            images = [self._images_of(people, int(i)) for i in chosen]
            yield self._batch(people, chosen, images, table, read)

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
        counts = [max(1, len(own)) for own in images]  # a participant without images still has one row
        owner = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor(counts))
        seen = torch.repeat_interleave(torch.tensor([len(own) > 0 for own in images]), torch.tensor(counts))
        values, given = (t[torch.from_numpy(chosen)][owner] for t in table)
        tables, present = {}, {}
        for name, columns in self.model.table_columns.items():
            tables[name] = values[:, list(columns)]
            present[name] = given[:, list(columns)].any(dim=1)
        image = None
        if self.study.uses_images:
            present[IMAGE] = seen
            image = _spread(read(np.concatenate(images)), seen)
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
        words = f"{self.study.augmentation}|{self.study.training.seed}"
        return f"views-{self.frozen_digest[:24]}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"

    def _compute_plain(self, pixels: NDArray[np.uint8], _images: NDArray[np.int64]) -> NDArray[np.float16]:
        return self._frozen(pixels).cpu().numpy().astype(np.float16)

    def _compute_views(self, pixels: NDArray[np.uint8], images: NDArray[np.int64]) -> NDArray[np.float16]:
        cfg = self.study.augmentation
        augment = augmentation(cfg)
        views = []
        for view in range(1, cfg.cached_views):
            rngs = [np.random.default_rng([self.study.training.seed, view, int(i)]) for i in images]
            changed = np.array([augment(p, rng) for p, rng in zip(pixels, rngs, strict=True)], dtype=np.uint8)
            views.append(self._frozen(changed).cpu().numpy().astype(np.float16))
        return np.stack(views, axis=1)

    def _frozen(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(images, size, size) grey values -> what the trained part reads, where the network computes."""
        if self.model.frozen is None:
            raise ValueError("a study without images has no image part")
        with torch.inference_mode():
            side = self.study.image.size  # without any image there is no shape to go by
            images = torch.from_numpy(pixels.reshape(-1, 1, side, side)).to(self.model.device)
            out: Tensor = self.model.frozen(images.float() / 255)
        return out.clone()


def predict(net: FusionNet, reader: Reader, people: People) -> NDArray[np.float64]:
    """(participants,) logit of each person: the mean over that person's images (SCIENCE 4.3)."""
    net.eval()
    logits = []
    with torch.no_grad():
        for batch in reader.whole(people):
            logits.append(_mean_per_participant(net(batch.inputs), batch.owner, len(batch.labels)).cpu())
    return torch.cat(logits).double().numpy() if logits else np.zeros(0)


def _mean_per_participant(rows: Tensor, owner: Tensor, participants: int) -> Tensor:
    counts = torch.bincount(owner, minlength=participants)
    return rows.new_zeros(participants).index_add(0, owner, rows) / counts


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


def count_parameters(net: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def steps_per_epoch(people: TrainingPeople, cfg: TrainingConfig) -> int:
    """Batches in one epoch of these people."""
    counts = np.bincount(people.labels, minlength=2)
    chosen = 2 * counts.min() if cfg.balance_classes and counts.min() else counts.sum()
    return math.ceil(int(chosen) / cfg.batch_participants)


def chained(epochs: Iterable[Iterable[Batch]]) -> Iterator[Batch]:
    """Batches of several epochs, one after another."""
    for epoch in epochs:
        yield from epoch
