"""A site's participants, the splits that can only be made of them, and the cache that decodes every file once.

The participant is the unit of everything: a split holds people, and all of a person's images go with them. What may be
fitted on (:class:`TrainingPeople`) and what may only be scored (:class:`HeldOut`) are different types, and only
:func:`split` makes them: nothing can be fitted on people who are held out.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import IMAGE, SplitConfig, StudyConfig
from sarco_models.errors import DataError, Finding
from sarco_models.images import Calibration, read_calibrations, read_image
from sarco_models.masks import read_mask
from sarco_models.preprocess import PREPROCESSING_VERSION, model_input
from sarco_models.schema import (
    IMAGES_FILE,
    PARTICIPANTS_FILE,
    ImageRow,
    ParticipantTable,
    people_without_images,
    read_images,
    read_participants,
)

CALIBRATION_FILE = "calibration.csv"
Progress = Callable[[int, int], None]
Compute = Callable[[NDArray[Any], NDArray[np.int64]], NDArray[np.float16]]


@dataclass(frozen=True, eq=False)
class ImageCache:
    """The preprocessed images of one site on disk, keyed by the content of its files and the preprocessing.

    Attributes:
        folder: where the arrays lie; the folder's name is the key.
        pixels: (images, size, size) uint8, memory-mapped.
        rows: position of each image among the readable rows, ordered by participant.
        devices: device of each image, as the scanner names itself.
        findings: what was left out, and why.
    """

    folder: Path
    pixels: NDArray[np.uint8]
    rows: tuple[int, ...]
    devices: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Stack:
    """Arrays on disk that read as one along their first axis."""

    parts: tuple[NDArray[Any], ...]

    def __len__(self) -> int:
        """Number of rows over all parts."""
        return sum(len(p) for p in self.parts)

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Rows at ``index``, in that order."""
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][index])
        starts = np.cumsum([0, *(len(p) for p in self.parts)])
        which = np.searchsorted(starts, index, side="right") - 1
        result = np.empty((len(index), *self.parts[0].shape[1:]), dtype=self.parts[0].dtype)
        for k, part in enumerate(self.parts):
            here = which == k
            result[here] = part[index[here] - starts[k]]
        return result


@dataclass(frozen=True, eq=False)
class Cohort:
    """All participants of a site (or of several, when a researcher pools them).

    Attributes:
        sites: name of each participant's site.
        ids: identifiers; they never leave the site.
        labels: (participants,) 1 = positive.
        table: (participants, columns) in the study's units, NaN where missing.
        owner: (images,) participant of each image, ascending.
        devices: device of each image.
        caches: one per site.
        findings: warnings and notes.
    """

    sites: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int8]
    table: NDArray[np.float64]
    owner: NDArray[np.int64]
    devices: tuple[str, ...]
    caches: tuple[ImageCache, ...]
    findings: tuple[Finding, ...]

    def __len__(self) -> int:
        """Number of participants."""
        return len(self.ids)

    @property
    def pixels(self) -> Stack:
        """(images, size, size) uint8."""
        return Stack(tuple(c.pixels for c in self.caches))

    def images_of(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """Images of these participants, ascending."""
        return np.flatnonzero(np.isin(self.owner, members))

    def kept(self, key: str, images: NDArray[np.int64], compute: Compute) -> Stack:
        """What ``compute`` makes of these images, computed once and kept on disk beside the pixels.

        Args:
            key: names the computation and everything it depends on but the pixels.
            images: the images that are wanted; rows of the others stay empty.
            compute: (n, size, size) pixels and (n,) positions in their cache -> (n, ...) float16.
        """
        starts = np.cumsum([0, *(len(c.pixels) for c in self.caches)])
        parts = []
        for k, cache in enumerate(self.caches):
            here = images[(images >= starts[k]) & (images < starts[k + 1])] - starts[k]
            which = hashlib.blake2b(here.tobytes(), digest_size=8).hexdigest()
            parts.append(_kept_part(cache, f"{key}-{which}", here, compute))
        return Stack(tuple(parts))


@dataclass(frozen=True, eq=False)
class People:
    """Some participants of a cohort; ``members`` are ascending positions in it."""

    cohort: Cohort
    members: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of participants."""
        return len(self.members)

    @property
    def labels(self) -> NDArray[np.int8]:
        """(participants,) 1 = positive."""
        return self.cohort.labels[self.members]

    @property
    def table(self) -> NDArray[np.float64]:
        """(participants, columns), NaN where missing."""
        return self.cohort.table[self.members]

    @property
    def ids(self) -> tuple[str, ...]:
        """Identifiers, in order."""
        return tuple(self.cohort.ids[m] for m in self.members)

    @property
    def images(self) -> NDArray[np.int64]:
        """Positions of these people's images in the cohort."""
        return self.cohort.images_of(self.members)


class TrainingPeople(People):
    """Participants that models, scalers, imputation and thresholds may be fitted on."""


class HeldOut(People):
    """Participants that may only be scored."""


@dataclass(frozen=True, eq=False)
class Split:
    """Training, validation and test participants: disjoint, and together everybody."""

    train: TrainingPeople
    validation: HeldOut
    test: HeldOut

    @property
    def cohort(self) -> Cohort:
        """The cohort that was split."""
        return self.train.cohort


def split(cohort: Cohort, cfg: SplitConfig, seed: int) -> Split:
    """Split participants per site and class.

    People are ordered by a hash of seed, site and identifier, so that a split does not depend on the order of the file
    and a person who is added moves nobody but those at the border.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for site in dict.fromkeys(cohort.sites):
        for label in (0, 1):
            people = [i for i in range(len(cohort)) if cohort.sites[i] == site and cohort.labels[i] == label]
            people.sort(key=lambda i: hashlib.sha256(f"{seed}|{site}|{cohort.ids[i]}".encode()).digest())
            first = round(cfg.train * len(people))
            second = first + round(cfg.validation * len(people))
            for part, chosen in zip(parts, (people[:first], people[first:second], people[second:]), strict=True):
                part.extend(chosen)
    train, validation, test = (np.array(sorted(p), dtype=np.int64) for p in parts)
    return Split(TrainingPeople(cohort, train), HeldOut(cohort, validation), HeldOut(cohort, test))


def everyone(cohort: Cohort) -> HeldOut:
    """All participants as people who may only be scored: a central or external test cohort."""
    return HeldOut(cohort, np.arange(len(cohort), dtype=np.int64))


def pool(splits: Sequence[Split]) -> Split:
    """Several sites as one, everybody staying on the side of the split where they are. For research only."""
    cohorts = [s.cohort for s in splits]
    starts = np.cumsum([0, *(len(c) for c in cohorts)])
    joined = Cohort(
        sites=sum((c.sites for c in cohorts), ()),
        ids=sum((c.ids for c in cohorts), ()),
        labels=np.concatenate([c.labels for c in cohorts]),
        table=np.concatenate([c.table for c in cohorts]),
        owner=np.concatenate([c.owner + start for c, start in zip(cohorts, starts[:-1], strict=True)]),
        devices=sum((c.devices for c in cohorts), ()),
        caches=sum((c.caches for c in cohorts), ()),
        findings=sum((c.findings for c in cohorts), ()),
    )

    def joint(part: Literal["train", "validation", "test"]) -> NDArray[np.int64]:
        people = [getattr(s, part).members + start for s, start in zip(splits, starts[:-1], strict=True)]
        return np.concatenate(people)

    return Split(
        TrainingPeople(joined, joint("train")), HeldOut(joined, joint("validation")), HeldOut(joined, joint("test"))
    )


def open_cohort(folder: Path, study: StudyConfig, cache: Path, progress: Progress | None = None) -> Cohort:
    """Read a site's folder against the study; images are decoded only where the cache does not hold them.

    Args:
        folder: the site's data, as DESIGN section 4 lays it out; its name is the site's name.
        study: which columns and which view of the images are wanted.
        cache: folder for preprocessed images; safe to delete.
        progress: called with (images done, images in all) while files are decoded.

    Raises:
        DataError: every error of the two tables; a person's unreadable images only leave those images out.
    """
    table = read_participants(folder / PARTICIPANTS_FILE, study)
    if not study.uses_images:
        return _assemble(folder.name, table, np.zeros(0, dtype=np.int64), None)
    rows, findings = read_images(folder / IMAGES_FILE, table.ids)
    position = {participant_id: i for i, participant_id in enumerate(table.ids)}
    findings += people_without_images(table, rows)
    rows = tuple(sorted(rows, key=lambda row: (position[row.participant_id], row.image)))
    images = _open_images(folder, study, rows, cache, progress)
    owner = np.array([position[rows[r].participant_id] for r in images.rows], dtype=np.int64)
    cohort = _assemble(folder.name, replace(table, findings=table.findings + findings), owner, images)
    return _without_unseen(cohort) if set(study.model.modalities) == {IMAGE} else cohort


def _assemble(name: str, table: ParticipantTable, owner: NDArray[np.int64], images: ImageCache | None) -> Cohort:
    return Cohort(
        sites=(name,) * len(table.ids),
        ids=table.ids,
        labels=table.labels,
        table=table.values,
        owner=owner,
        devices=images.devices if images else (),
        caches=(images,) if images else (),
        findings=table.findings + (images.findings if images else ()),
    )


def _without_unseen(cohort: Cohort) -> Cohort:
    """Leave out people without any image from a study that has nothing else to look at."""
    seen = np.unique(cohort.owner)
    if len(seen) == len(cohort):
        return cohort
    count = len(cohort) - len(seen)
    left_out = Finding(
        "warning", "no-image", PARTICIPANTS_FILE, f"{count} without a readable image", "an image each",
        "they are left out of this study; add their images",
    )  # fmt: skip
    return replace(
        cohort,
        sites=tuple(cohort.sites[i] for i in seen),
        ids=tuple(cohort.ids[i] for i in seen),
        labels=cohort.labels[seen],
        table=cohort.table[seen],
        owner=np.searchsorted(seen, cohort.owner),
        findings=(*cohort.findings, left_out),
    )


def _open_images(
    folder: Path, study: StudyConfig, rows: Sequence[ImageRow], cache: Path, progress: Progress | None
) -> ImageCache:
    calibration_file = folder / CALIBRATION_FILE
    calibrations = read_calibrations(calibration_file) if calibration_file.exists() else {}
    key = _content_key(folder, study, rows, calibrations)
    place = cache / key
    if not (place / "index.json").exists():

        def read(row: ImageRow) -> tuple[NDArray[np.uint8], str]:
            return _read_one(folder, study, row, calibrations.get(row.image))

        _fill_cache(place, rows, read, study.image.size, progress)
    index = json.loads((place / "index.json").read_text(encoding="utf-8"))
    return ImageCache(
        folder=place,
        pixels=np.load(place / "pixels.npy", mmap_mode="r"),
        rows=tuple(index["rows"]),
        devices=tuple(index["devices"]),
        findings=tuple(_left_out(Finding(**f), rows[position]) for position, f in index["findings"]),
    )


def _content_key(
    folder: Path, study: StudyConfig, rows: Iterable[ImageRow], calibrations: dict[str, Calibration]
) -> str:
    """Digest of everything the cached pixels depend on: files' content, rows, calibrations, preprocessing."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{PREPROCESSING_VERSION}|{study.image.model_dump_json()}".encode())
    for row in rows:
        digest.update(f"|{row.image}|{row.participant_id}|{row.mask}|{calibrations.get(row.image)}".encode())
        for name in (row.image, row.mask):
            path = folder / name
            digest.update(hashlib.blake2b(path.read_bytes()).digest() if name and path.is_file() else b"absent")
    return digest.hexdigest()


def _fill_cache(
    place: Path,
    rows: Sequence[ImageRow],
    read: Callable[[ImageRow], tuple[NDArray[np.uint8], str]],
    side: int,
    progress: Progress | None,
) -> None:
    """Decode every image once into a folder that gets its name only when it is complete."""
    partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    kept: list[int] = []
    devices: list[str] = []
    findings: list[tuple[int, Finding]] = []
    pixels: list[NDArray[np.uint8]] = []
    for position, row in enumerate(rows):
        try:
            image, device = read(row)
        except DataError as error:
            findings += [(position, f) for f in error.findings]
        else:
            kept.append(position)
            devices.append(device)
            pixels.append(image)
        if progress:
            progress(position + 1, len(rows))
    np.save(partial / "pixels.npy", np.array(pixels, dtype=np.uint8).reshape(-1, side, side))
    index = {"rows": kept, "devices": devices, "findings": [(position, asdict(f)) for position, f in findings]}
    (partial / "index.json").write_text(json.dumps(index), encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)


def _left_out(finding: Finding, row: ImageRow) -> Finding:
    """A fault of one image leaves that image out; it does not stop the site."""
    return replace(finding, severity="warning", row=row.row, remedy=f"{finding.remedy} (the image is left out)")


def _read_one(
    folder: Path, study: StudyConfig, row: ImageRow, calibration: Calibration | None
) -> tuple[NDArray[np.uint8], str]:
    frame = read_image(folder / row.image, calibration)
    mask = None
    if study.image.roi == "mask":
        if not row.mask:
            remedy = 'draw one, name it in images.csv, or use a study with roi = "none"'
            raise DataError(
                [Finding("error", "mask", IMAGES_FILE, "no mask", "a mask of the muscle", remedy, field="mask")]
            )
        mask = read_mask(folder / row.mask, frame)
    return model_input(frame, mask, study.image, row.image), frame.device


def _kept_part(cache: ImageCache, key: str, images: NDArray[np.int64], compute: Compute) -> NDArray[np.float16]:
    path = cache.folder / f"{key}.npy"
    if path.exists():
        return np.asarray(np.load(path, mmap_mode="r"))
    partial = path.with_suffix(f".{os.getpid()}.partial")
    result = None
    for start in range(0, max(len(images), 1), 64):  # once without images as well, for the shape
        chunk = images[start : start + 64]
        block = compute(cache.pixels[chunk], chunk)
        if result is None:
            shape = (len(cache.pixels), *block.shape[1:])
            result = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        result[chunk] = block
    partial.rename(path)
    return np.asarray(np.load(path, mmap_mode="r"))
