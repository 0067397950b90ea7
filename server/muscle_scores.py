"""Everybody's muscles in a comparison: two files beside results.json, by participant and by image.

``muscle_scores.csv`` has a line for each held-out participant and muscle, ``muscle_images.csv`` one for each image and
muscle. A run directory of one arm has both without the columns arm and seed. Who people are serves to pair two arms; it
is never shown. Only whoever holds people's rows writes such files.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import RunError, UndefinedMetric
from sarco_models.intervals import Estimate, bootstrap
from sarco_models.muscle import MuscleMeasures
from sarco_models.overlap import Overlap
from sarco_models.scores import Scores, Weights
from sarco_models.segmentation_scores import MEASURES, SIZES
from server.muscle_analysis import Seen

PEOPLE_FILE, IMAGES_FILE = "muscle_scores.csv", "muscle_images.csv"
SIDES = ("found", "drawn")
OF_ARM = ("arm", "seed")
PEOPLE_COLUMNS = ("site", "participant_id", "muscle", *MEASURES)
IMAGE_COLUMNS = (
    "site", "participant_id", "image", "muscle", "whole", *SIDES,
    *MEASURES, *(f"{size}_{side}" for size in SIZES for side in SIDES),
)  # fmt: skip

EVERYWHERE = "all"
"""Place of everybody who was held out: the hospitals' test participants and the central cohort."""

Key = tuple[str, int, str]
"""Arm, seed and cohort."""


@dataclass(frozen=True, eq=False)
class MusclePeople:
    """One arm's held-out participants of one cohort.

    Attributes:
        ids: with the cohort's name before, where several are together.
        muscles: names.
        values: (participants, muscles, measures) in the order of MEASURES; NaN = nothing to say.
    """

    ids: tuple[str, ...] = field(repr=False)
    muscles: tuple[str, ...]
    values: NDArray[np.float64] = field(repr=False)

    def of(self, measure: str, muscle: str = "") -> NDArray[np.float64]:
        """(participants,) of one muscle, or (participants, muscles) of all."""
        found = self.values[:, :, list(MEASURES).index(measure)]
        return found[:, self.muscles.index(muscle)] if muscle else found

    def aligned(self, ids: Sequence[str]) -> "MusclePeople":
        """The same for these participants, in this order; NaN for whoever is not among them."""
        position = {person: k for k, person in enumerate(self.ids)}
        values = np.full((len(ids), *self.values.shape[1:]), np.nan)
        for k, person in enumerate(ids):
            if person in position:
                values[k] = self.values[position[person]]
        return MusclePeople(tuple(ids), self.muscles, values)

    def and_(self, others: Iterable["MusclePeople"]) -> "MusclePeople":
        """These and other people together."""
        parts = [self, *others]
        return MusclePeople(
            tuple(person for part in parts for person in part.ids),
            self.muscles,
            np.concatenate([part.values for part in parts]),
        )


def read_muscle_people(path: Path, muscles: Sequence[str]) -> dict[Key, MusclePeople]:
    """A file of people, by arm, seed and cohort; empty where there is none.

    Args:
        path: ``muscle_scores.csv`` of a comparison.
        muscles: of the study, in its order.

    Raises:
        RunError: a column is missing, or a cell is no number.
    """
    groups: dict[Key, dict[str, NDArray[np.float64]]] = {}
    for row in _rows(path, (*OF_ARM, *PEOPLE_COLUMNS)):
        if row["muscle"] not in muscles:
            continue
        group = groups.setdefault(_key(row, path), {})
        person = f"{row['site']}/{row['participant_id']}"
        values = group.setdefault(person, np.full((len(muscles), len(MEASURES)), np.nan))
        values[list(muscles).index(row["muscle"])] = [_number(row, name, path) for name in MEASURES]
    return {
        key: MusclePeople(tuple(found), tuple(muscles), np.array(list(found.values()))) for key, found in groups.items()
    }


def with_everybody(people: Mapping[Key, MusclePeople]) -> dict[Key, MusclePeople]:
    """The same, and each arm's cohorts together."""
    found = dict(people)
    for arm, seed in dict.fromkeys((arm, seed) for arm, seed, _ in people):
        first, *others = (held for key, held in people.items() if key[:2] == (arm, seed))
        found[arm, seed, EVERYWHERE] = first.and_(others)
    return found


def mean_of(values: NDArray[np.float64], rng: np.random.Generator) -> tuple[Estimate, int]:
    """Mean over muscles of the mean over participants, and of how many participants.

    Args:
        values: (participants, muscles), NaN where there is nothing to say; not all of them.
        rng: randomness is an argument.

    Returns:
        The estimate, without limits where there are too few participants for them.
    """
    values = values[np.isfinite(values).any(axis=1)]
    values = values[:, np.isfinite(values).any(axis=0)]
    there = np.isfinite(values).astype(np.float64)
    filled = np.where(there > 0, values, 0.0)

    def weighted(weights: Weights) -> Scores:
        counts = weights @ there
        means = np.divide(weights @ filled, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        return np.asarray(means.mean(axis=1))

    plain = float(weighted(np.ones((1, len(values))))[0])
    if len(values) < 2:
        return Estimate(plain, np.nan, np.nan), len(values)
    try:
        return bootstrap({"mean": weighted}, np.zeros(len(values)), rng)["mean"], len(values)
    except UndefinedMetric:
        return Estimate(plain, np.nan, np.nan), len(values)


@dataclass(frozen=True, eq=False)
class SeenImage:
    """One muscle of one image by one arm; ``seen`` has no sizes where the image does not show one whole muscle."""

    arm: str
    seed: int
    site: str
    image: str
    seen: Seen


def read_muscle_images(path: Path) -> Iterator[SeenImage]:
    """A file of images, line by line.

    Raises:
        RunError: a column is missing, or a cell is no number.
    """
    for row in _rows(path, (*OF_ARM, *IMAGE_COLUMNS)):
        yield SeenImage(*_key(row, path), row["image"], _seen(row, path))


def _seen(row: Mapping[str, str], path: Path) -> Seen:
    found, drawn = row["found"] == "1", row["drawn"] == "1"
    numbers = {name: _number(row, name, path) for name in ("dice", "iou", "hd95_mm", "assd_mm")}
    known = {name: None if np.isnan(value) else value for name, value in numbers.items()}
    sides = [_sizes(row, side, path) if row["whole"] == "1" else None for side in SIDES]
    agreed = Overlap(**known, missed=drawn and not found, invented=found and not drawn)
    return Seen(f"{row['site']}/{row['participant_id']}", row["muscle"], agreed, sides[0], sides[1])


def _sizes(row: Mapping[str, str], side: str, path: Path) -> MuscleMeasures | None:
    thickness, area, echo = (_number(row, f"{size}_{side}", path) for size in SIZES)
    if np.isnan(thickness):
        return None
    nowhere = ((np.nan, np.nan), (np.nan, np.nan))
    return MuscleMeasures(thickness, area, np.nan, None if np.isnan(echo) else echo, nowhere)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise RunError(f"{path}: has no column {missing[0]}: run the command that wrote it again")
        yield from reader


def _key(row: Mapping[str, str], path: Path) -> Key:
    try:
        return row["arm"], int(row["seed"]), row["site"]
    except ValueError:
        again = "run the command that wrote it again"
        raise RunError(f"{path}: seed: {row['seed']!r} is no whole number: {again}") from None


def _number(row: Mapping[str, str], name: str, path: Path) -> float:
    """NaN where the cell is empty."""
    try:
        return float(row[name]) if row[name] else np.nan
    except ValueError:
        raise RunError(f"{path}: {name}: {row[name]!r} is no number: run the command that wrote it again") from None
