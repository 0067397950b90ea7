"""What a study trains for: its loss, what is told of people who are held out, and how sure a model is of a person.

Whoever trains, scores or probes asks :func:`aim_of` and needs not know whether people are diagnosed or muscles found.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from sarco_models.cohort import People
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, UndefinedMetric
from sarco_models.fusion import Model
from sarco_models.membership import Confidence, confidence
from sarco_models.metrics import auc
from sarco_models.reader import Reader
from sarco_models.segmentation_loss import segmentation_loss
from sarco_models.segmentation_reader import SegmentationBatch, SegmentationReader
from sarco_models.segmentation_scores import in_a_round, score
from sarco_models.summaries import TableScaling
from sarco_models.training import AnyReader, Each, Loss, participant_loss, predict


class Told(Protocol):
    """Metrics of people who are held out; one that they are too few for is absent."""

    def __call__(self, net: nn.Module, reader: AnyReader, people: People, *, each: Each = iter) -> dict[str, float]:
        """By name; ``each`` hands on the batches, and may raise to give up."""


class Sure(Protocol):
    """How sure the model is of what is true of each person: what membership inference looks at."""

    def __call__(self, net: nn.Module, reader: AnyReader, people: People, *, each: Each = iter) -> Confidence:
        """(participants,) larger is surer."""


@dataclass(frozen=True)
class Aim:
    """One kind of study.

    Attributes:
        loss: of a batch: the mean over participants.
        reader: what turns people into batches: of a model, the tables' agreed scaling and the study.
        told: of people who are held out.
        sure: see there.
    """

    loss: Loss
    reader: Callable[[Model, TableScaling, StudyConfig], AnyReader]
    told: Told
    sure: Sure


def aim_of(study: StudyConfig) -> Aim:
    """What this study trains for."""
    return SEGMENTATION if study.segments else DIAGNOSIS


def diagnosing(reader: AnyReader) -> Reader:
    """The reader of a study that diagnoses.

    Raises:
        ConfigError: the study finds muscles.
    """
    if not isinstance(reader, Reader):
        raise ConfigError("the study finds muscles and diagnoses nobody: it has no probabilities of persons")
    return reader


def finding(reader: AnyReader) -> SegmentationReader:
    """The reader of a study that finds muscles.

    Raises:
        ConfigError: the study diagnoses.
    """
    if not isinstance(reader, SegmentationReader):
        raise ConfigError("the study diagnoses and finds no muscles: there is nothing to measure")
    return reader


def _diagnosed(net: nn.Module, reader: AnyReader, people: People, *, each: Each = iter) -> dict[str, float]:
    logits, labels = predict(net, diagnosing(reader), people, each=each), people.labels == 1
    found = {"loss": float(np.mean(np.logaddexp(0.0, np.where(labels, -logits, logits))))}
    with contextlib.suppress(UndefinedMetric):
        found["auc"] = auc(logits, labels)
    return found


def _sure_of_label(net: nn.Module, reader: AnyReader, people: People, *, each: Each = iter) -> Confidence:
    return np.asarray(confidence(predict(net, diagnosing(reader), people, each=each), people.labels == 1))


def _muscles_loss(net: nn.Module, batch: SegmentationBatch) -> Tensor:
    logits = net(batch.images, batch.asked)
    return segmentation_loss(logits, batch.targets, batch.annotated, batch.owner, batch.participants).mean()


def _found(net: nn.Module, reader: AnyReader, people: People, *, each: Each = iter) -> dict[str, float]:
    return in_a_round(score(net, finding(reader), people, each=each, sizes=False))


def _sure_of_muscles(net: nn.Module, reader: AnyReader, people: People, *, each: Each = iter) -> Confidence:
    """The less it errs on somebody's images, the surer it is."""
    return -score(net, finding(reader), people, each=each, sizes=False).losses


DIAGNOSIS = Aim(participant_loss, Reader.of, _diagnosed, _sure_of_label)
"""People are positive or negative."""

SEGMENTATION = Aim(
    _muscles_loss, lambda model, _scaling, study: SegmentationReader.of(model, study), _found, _sure_of_muscles
)
"""Every pixel is of a muscle or of none."""
