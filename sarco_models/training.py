"""The one training loop. A hospital, the pooled baseline and the tests all run this code.

A sample is a participant, who weighs the same however many images there are. What is done with one batch is a part of
the training (``step``): the loop is the same with differential privacy (:mod:`sarco_models.privacy`) and without.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sarco_models.cohort import People, TrainingPeople
from sarco_models.config import IMAGE, TrainingConfig
from sarco_models.devices import device_of, seeded
from sarco_models.reader import Batch as Batch
from sarco_models.reader import Reader as Reader
from sarco_models.segmentation_reader import SegmentationBatch, SegmentationReader

AnyBatch = Batch | SegmentationBatch
AnyReader = Reader | SegmentationReader
Loss = Callable[[nn.Module, Any], Tensor]
"""Of the network and a batch of its kind: the mean over participants."""

Penalty = Callable[[nn.Module], Tensor | float]
"""What is added to the loss and depends on the parameters alone: privacy neither clips nor hides it."""

B = TypeVar("B")


class Each(Protocol):
    """Hands on batches as they are."""

    def __call__(self, batches: Iterable[B], /) -> Iterator[B]:
        """The same, one after another."""


def no_penalty(_: nn.Module) -> float:
    """The loss alone."""
    return 0.0


def plain_step(training: "Training", batch: AnyBatch) -> float:
    """One step of ordinary training; returns the loss."""
    training.optimizer.zero_grad(set_to_none=True)
    loss = training.loss(training.net, batch) + training.penalty(training.net)
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    return float(loss.detach())


@dataclass(frozen=True)
class Training:
    """Everything that ``fit`` needs. Methods change it by composition: ``Training -> Training``.

    Attributes:
        net: the trained part of the model.
        optimizer: over the net's parameters.
        batches: all batches of all epochs, in order; may be an iterator.
        loss: of one batch.
        rates: factor on each group's learning rate, before each step.
        penalty: see :data:`Penalty`.
        step: what is done with one batch; it returns a loss that may be told, or nan.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Iterable[AnyBatch]
    loss: Loss
    rates: Callable[[int], float]
    penalty: Penalty = no_penalty
    step: Callable[["Training", AnyBatch], float] = plain_step


def fit(training: Training, seed: int) -> list[float]:
    """Train, and return what every step says of its loss.

    Args:
        training: see there.
        seed: of dropout and hidden modalities; the caller's random state is left as it was.
    """
    losses = []
    first_rates = [group["lr"] for group in training.optimizer.param_groups]
    training.net.train()
    with seeded(seed, device_of(training.net)):
        for done, batch in enumerate(training.batches):
            for group, rate in zip(training.optimizer.param_groups, first_rates, strict=True):
                group["lr"] = rate * training.rates(done)
            losses.append(training.step(training, batch))
    return losses


def participant_loss(net: nn.Module, batch: Batch) -> Tensor:
    """Binary cross-entropy; the mean over a participant's rows, then over participants."""
    rows = binary_cross_entropy_with_logits(net(batch.inputs), batch.labels[batch.owner], reduction="none")
    return _mean_per_participant(rows, batch.owner, len(batch.labels)).mean()


def proximal(anchor: Mapping[str, Tensor], mu: float) -> Penalty:
    """mu/2 times the squared distance to the round's global model (FedProx: Li et al. 2020, equation 2)."""

    def distance(net: nn.Module) -> Tensor:
        distances = [((p - anchor[name]) ** 2).sum() for name, p in net.named_parameters() if name in anchor]
        return 0.5 * mu * torch.stack(distances).sum()

    return distance


def build_optimizer(net: nn.Module, cfg: TrainingConfig) -> torch.optim.Optimizer:
    """The study's optimizer; the image branch may have a learning rate of its own."""
    return sgd(net, cfg) if cfg.optimizer == "sgd" else adamw(net, cfg)


def adamw(net: nn.Module, cfg: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019)."""
    return torch.optim.AdamW(_groups(net, cfg), weight_decay=cfg.weight_decay)


def sgd(net: nn.Module, cfg: TrainingConfig) -> torch.optim.SGD:
    """Plain steps, with the study's momentum; it begins anew in every round."""
    return torch.optim.SGD(_groups(net, cfg), momentum=cfg.momentum, weight_decay=cfg.weight_decay)


def _groups(net: nn.Module, cfg: TrainingConfig) -> list[dict[str, Any]]:
    image = [p for n, p in net.named_parameters() if n.startswith(f"branches.{IMAGE}.") and p.requires_grad]
    rest = [p for n, p in net.named_parameters() if not n.startswith(f"branches.{IMAGE}.") and p.requires_grad]
    groups = [
        {"params": image, "lr": cfg.backbone_learning_rate or cfg.learning_rate},
        {"params": rest, "lr": cfg.learning_rate},
    ]
    return [g for g in groups if g["params"]]


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


def predict(net: nn.Module, reader: Reader, people: People, *, each: Each = iter) -> NDArray[np.float64]:
    """(participants,) logit of each person: the mean over that person's images (SCIENCE 4.3).

    ``each`` hands on the batches, and may raise to give up.
    """
    net.eval()
    logits = []
    with torch.no_grad():
        for batch in each(reader.whole(people)):
            logits.append(_mean_per_participant(net(batch.inputs), batch.owner, len(batch.labels)).cpu())
    return torch.cat(logits).double().numpy() if logits else np.zeros(0)


def _mean_per_participant(rows: Tensor, owner: Tensor, participants: int) -> Tensor:
    counts = torch.bincount(owner, minlength=participants)
    return rows.new_zeros(participants).index_add(0, owner, rows) / counts


def count_parameters(net: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def steps_per_epoch(people: TrainingPeople, cfg: TrainingConfig) -> int:
    """Batches in one epoch of these people."""
    counts = np.bincount(people.labels, minlength=2)
    chosen = 2 * counts.min() if cfg.balance_classes and counts.min() else counts.sum()
    return math.ceil(int(chosen) / cfg.batch_participants)


def chained(epochs: Iterable[Iterable[B]]) -> Iterator[B]:
    """Batches of several epochs, one after another."""
    for epoch in epochs:
        yield from epoch
