"""People put together from the parts of several: this one's ultrasound, that one's laboratory values.

Explanations ask a model about people who do not exist, hundreds of thousands of them. Every image is encoded once; what
runs for each composite is the small rest of the network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarco_models.cohort import People, TrainingPeople
from sarco_models.config import IMAGE, StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.fusion import FusionNet, Inputs
from sarco_models.schema import design_columns
from sarco_models.scores import Scores
from sarco_models.training import Reader

ROWS_AT_ONCE = 8192

Columns = Mapping[str, Sequence[int]]
"""Part of a person (a modality or a feature) -> its columns in the study's table; ``image`` has none."""

Whose = Mapping[str, NDArray[np.int64]]
"""Part -> (n,) position of the person it is taken from, for n composites."""


def modality_columns(study: StudyConfig) -> Columns:
    """The study's modalities as parts, in its order."""
    places = _places(study)
    return {
        name: [k for f in study.features if f.group == name for k in places[f.name]] for name in study.model.modalities
    }


def feature_columns(study: StudyConfig) -> Columns:
    """Every feature that the model reads as a part, and the image if it reads one.

    A categorical feature is one part with several columns.
    """
    places = _places(study)
    image: Columns = {IMAGE: []} if study.uses_images else {}
    return {**image, **{f.name: places[f.name] for f in study.features if f.group in study.model.modalities}}


def _places(study: StudyConfig) -> dict[str, list[int]]:
    places, start = {}, 0
    for feature in study.features:
        size = len(design_columns([feature]))
        places[feature.name] = list(range(start, start + size))
        start += size
    return places


def background_people(study: StudyConfig, training: TrainingPeople, count: int, rng: np.random.Generator) -> People:
    """Training people who have every modality, drawn at random, each once; all, where there are fewer than ``count``.

    Raises:
        UndefinedMetric: nobody has every modality.
        TypeError: people who are held out.
    """
    if not isinstance(training, TrainingPeople):
        raise TypeError("background people are TrainingPeople: nobody who is held out stands in for another")
    given = ~np.isnan(training.table)
    whole = np.ones(len(training), dtype=np.bool_)
    for name, columns in modality_columns(study).items():
        whole &= (
            np.isin(training.members, training.cohort.owner) if name == IMAGE else given[:, list(columns)].any(axis=1)
        )
    if not whole.any():
        raise UndefinedMetric(
            f"none of {len(training)} training participants has {', '.join(study.model.modalities)}: nobody can stand "
            "in for what a person is denied; explain a model of fewer modalities, or add a site that has all of them"
        )
    drawn = rng.permutation(np.flatnonzero(whole))[:count]
    return People(training.cohort, training.members[np.sort(drawn)])


@dataclass(frozen=True, eq=False)
class Composites:
    """What each of some people brings, and the network that scores any mixture of it.

    Attributes:
        image: (people, width) image features, mean over the person's images, or what stands for none; no columns in a
            study of tables. Kept where the network computes; all else is the processor's.
        seen: (people,) who has an image.
        table: (people, columns) scaled values.
        given: (people, columns) which of them were there.
        columns: the parts; columns of no part are never read.
        branches: branch of the network -> its columns.
        net: the network; its image branch is not run again.
    """

    image: Tensor
    seen: Tensor
    table: Tensor
    given: Tensor
    columns: Columns
    branches: Mapping[str, tuple[int, ...]]
    net: FusionNet

    @staticmethod
    def of(reader: Reader, groups: Sequence[People], columns: Columns) -> "Composites":
        """The people of all groups, one group after another, as ``reader.model`` sees them."""
        encoded = [_encoded(reader, people) for people in groups]
        table = np.concatenate([people.table for people in groups])
        return Composites(
            image=torch.cat([image for image, _ in encoded]),
            seen=torch.cat([seen for _, seen in encoded]),
            table=torch.from_numpy(reader.scaling(table)),
            given=torch.from_numpy(~np.isnan(table)),
            columns=columns,
            branches=reader.model.table_columns,
            net=reader.model.fusion,
        )

    def __len__(self) -> int:
        """Number of people."""
        return len(self.table)

    def has(self, part: str) -> NDArray[np.bool_]:
        """(people,) who has this part: an image, or any value of its columns."""
        there = self.seen if part == IMAGE else self.given[:, list(self.columns[part])].any(dim=1)
        return np.asarray(there.numpy())

    def logits(self, whose: Whose) -> Scores:
        """(n,) logits of n composites; of a person's own parts alone, what ``training.predict`` says.

        Args:
            whose: every part is there.
        """
        size = len(next(iter(whose.values())))
        chunks = [slice(start, start + ROWS_AT_ONCE) for start in range(0, size, ROWS_AT_ONCE)]
        self.net.eval()
        with torch.no_grad():
            found = [
                self._logits({part: torch.from_numpy(who[chunk]) for part, who in whose.items()}) for chunk in chunks
            ]
        return torch.cat(found).cpu().double().numpy()

    def _logits(self, whose: Mapping[str, Tensor]) -> Tensor:
        """The output layer is linear: the mean of a person's image features has the mean of their logits."""
        size = len(next(iter(whose.values())))
        table = torch.zeros(size, self.table.shape[1])
        given = torch.zeros(table.shape, dtype=torch.bool)
        for part, columns in self.columns.items():
            own = list(columns)
            table[:, own], given[:, own] = self.table[whose[part]][:, own], self.given[whose[part]][:, own]
        tables = {branch: table[:, list(columns)] for branch, columns in self.branches.items()}
        present = {branch: given[:, list(columns)].any(dim=1) for branch, columns in self.branches.items()}
        rows = Inputs(None, tables, present).to(self.image.device)
        features = [
            self.image[whose[IMAGE].to(self.image.device)]
            if name == IMAGE
            else self.net.features(name, rows, rows.present[name])
            for name in self.net.branches
        ]
        logits: Tensor = self.net.output(torch.cat(features, dim=1))
        return logits[:, 0]


def _encoded(reader: Reader, people: People) -> tuple[Tensor, Tensor]:
    """(people, width) mean image features, and (people,) who has an image."""
    if not reader.study.uses_images:
        return torch.zeros(len(people), 0, device=reader.model.device), torch.zeros(len(people), dtype=torch.bool)
    net = reader.model.fusion.eval()
    features, seen = [], []
    with torch.no_grad():
        for batch in reader.whole(people):
            present = batch.inputs.present[IMAGE]
            rows = torch.bincount(batch.owner, minlength=len(batch.labels))
            features.append(torch.segment_reduce(net.features(IMAGE, batch.inputs, present), "mean", lengths=rows))
            seen.append(present[rows.cumsum(0) - rows].cpu())  # at each person's first row
    return torch.cat(features), torch.cat(seen)
