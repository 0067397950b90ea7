"""A site's participants, the splits that can only be made of them, and the cache that decodes every file once.

The participant is the unit of everything: a split holds people, and all of a person's images go with them. What may be
fitted on (:class:`TrainingPeople`) and what may only be scored (:class:`HeldOut`) are different types, and only
:func:`split` and :func:`pool` make them: moments and training refuse people who are held out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import IMAGE, IntensityConfig, SplitConfig, StudyConfig
from sarco_models.errors import ConfigError, Finding
from sarco_models.fingerprint_files import by_person, measured
from sarco_models.image_cache import Compute, ImageCache, Progress, Stack, kept_part, open_images
from sarco_models.images import Template
from sarco_models.intensity import calibration_people, grey_tables
from sarco_models.schema import (
    IMAGES_FILE,
    PARTICIPANTS_FILE,
    ParticipantTable,
    people_without_images,
    read_images,
    read_participants,
)
from sarco_models.views import Views


@dataclass(frozen=True, eq=False)
class Cohort:
    """All participants of a site (or of several, when a researcher pools them).

    Attributes:
        sites: name of each participant's site.
        ids: identifiers; they never leave the site.
        labels: (participants,) 1 = positive.
        table: (participants, columns) in the study's units, NaN where missing; without a plan yet, the fingerprint.
        owner: (images,) participant of each image, ascending.
        devices: device of each image.
        caches: one per site.
        findings: warnings and notes.
        intensity: the study's: what becomes of the grey levels of each device, once it is known who may be measured.
        calibration: the study's share of participants who are measured, where nobody is trained on.
    """

    sites: tuple[str, ...]
    ids: tuple[str, ...]
    labels: NDArray[np.int8]
    table: NDArray[np.float64]
    owner: NDArray[np.int64]
    devices: tuple[str, ...]
    caches: tuple[ImageCache, ...]
    findings: tuple[Finding, ...]
    intensity: IntensityConfig = field(default_factory=IntensityConfig)
    calibration: float = 0.0

    def __len__(self) -> int:
        """Number of participants."""
        return len(self.ids)

    @property
    def pixels(self) -> Stack:
        """(images, size, size) uint8, through the grey tables of their devices: what everybody looks at."""
        return Stack(tuple(c.pixels for c in self.caches), tuple(c.tables for c in self.caches))

    @property
    def targets(self) -> Stack:
        """(images, size, size) uint8 classes to be found, OUTSIDE where nobody knows; empty in other studies."""
        return Stack(tuple(c.targets.classes for c in self.caches if c.targets))

    @property
    def annotated(self) -> Stack:
        """(images, muscles) whether somebody looked for a muscle on an image; empty in other studies."""
        return Stack(tuple(c.targets.annotated for c in self.caches if c.targets))

    @property
    def views(self) -> Views:
        """Where each image's square lies on its frame; empty in other studies."""
        return Views.of([(c.targets.views, c.pixels.shape[1]) for c in self.caches if c.targets])

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
            parts.append(kept_part(cache, f"{key}-{which}", here, compute))
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

    may_be_fitted_on: ClassVar[Literal[True]] = True


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
    and a person who is added moves nobody but those at the border. With ``cfg.use`` a smaller group of training
    participants is part of every larger one; who lacks a feature leaves ``cfg.complete_cases`` after the split. Grey
    levels of devices are measured on the training participants.

    Raises:
        ConfigError: fewer participants of a class at a site than folds.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for site in dict.fromkeys(cohort.sites):
        for label in (0,) if cohort.targets.parts else (0, 1):
            people = [i for i in range(len(cohort)) if cohort.sites[i] == site and cohort.labels[i] == label]
            people.sort(key=lambda i: _order(f"{seed}|{site}|{cohort.ids[i]}"))
            if len(people) < cfg.folds:
                way_out = f"write folds = {len(people)} or fewer" if len(people) > 1 else "leave this site out"
                raise ConfigError(
                    f"split.folds = {cfg.folds}: {site} has {len(people)} participants"
                    + ("" if cohort.targets.parts else f" {('without', 'with')[label]} the condition")
                    + f", and every fold needs one: {way_out}"
                )
            words = f"{seed}|{site}"
            train, validation, test = _fold(people, cohort, cfg, words) if cfg.folds else _shares(people, cfg)
            train = train[: max(1, round(cfg.use * len(train)))]
            for part, chosen in zip(parts, (train, validation, test), strict=True):
                part.extend(chosen)
    if cfg.complete_cases:
        complete = set(np.flatnonzero(~np.isnan(cohort.table).any(axis=1)))
        parts = tuple([i for i in part if i in complete] for part in parts)  # type: ignore[assignment]
    train_, validation_, test_ = (np.array(sorted(p), dtype=np.int64) for p in parts)
    cohort = _alike(cohort, cohort.images_of(train_))
    return Split(TrainingPeople(cohort, train_), HeldOut(cohort, validation_), HeldOut(cohort, test_))


_Parts = tuple[list[int], list[int], list[int]]


def _order(words: str) -> bytes:
    return hashlib.sha256(words.encode()).digest()


def _shares(people: list[int], cfg: SplitConfig) -> _Parts:
    train, validation = round(cfg.train * len(people)), round(cfg.validation * len(people))
    return people[:train], people[train : train + validation], people[train + validation :]


def _fold(people: list[int], cohort: Cohort, cfg: SplitConfig, words: str) -> _Parts:
    """One fold is held out; who validates is drawn anew for each, so that no few people are the scale of all folds."""
    test = people[cfg.fold :: cfg.folds]
    others = sorted(set(people) - set(test), key=lambda i: _order(f"{words}|{cfg.fold}|{cohort.ids[i]}"))
    inner = max(round(cfg.validation * len(others)), 1)  # without anybody a fold would have no scale
    return others[inner:], others[:inner], test


def everyone(cohort: Cohort) -> HeldOut:
    """People who may only be scored: a central or external test cohort, without its calibration share.

    Grey levels of devices are measured on that share. It is left out whether they are measured or not, so that scores
    with and without are of the same people.

    Raises:
        ConfigError: grey levels are to be measured, and nobody is there to measure them on.
    """
    measured = calibration_people(cohort.sites, cohort.ids, cohort.calibration)
    if cohort.intensity.standardize == "device" and cohort.caches and not len(measured):
        raise ConfigError(
            f"split.calibration = {cohort.calibration:g}: intensity.standardize = 'device' measures the grey levels of "
            f"a cohort that is only scored ({len(cohort)} participants of {cohort.sites[0]}) on people who are not: "
            "write split.calibration = 0.2, or standardize = 'none'"
        )
    return HeldOut(_alike(cohort, cohort.images_of(measured)), np.setdiff1d(np.arange(len(cohort)), measured))


def _alike(cohort: Cohort, measured: NDArray[np.int64]) -> Cohort:
    """The cohort as it looks once each site's devices are measured on these images, where the study asks for it."""
    if cohort.intensity.standardize == "none":
        return cohort
    caches, notes, start = [], list(cohort.findings), 0
    for cache in cohort.caches:
        end = start + len(cache.pixels)
        here = measured[(measured >= start) & (measured < end)] - start
        tables, told = grey_tables(cache, cohort.owner[start:end], here, cohort.intensity)
        caches.append(replace(cache, tables=tables))
        notes, start = [*notes, *told], end
    return replace(cohort, caches=tuple(caches), findings=tuple(notes))


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
        intensity=cohorts[0].intensity,
        calibration=cohorts[0].calibration,
    )

    def joint(part: Literal["train", "validation", "test"]) -> NDArray[np.int64]:
        return np.concatenate([getattr(s, part).members + k for s, k in zip(splits, starts[:-1], strict=True)])

    return Split(
        TrainingPeople(joined, joint("train")), HeldOut(joined, joint("validation")), HeldOut(joined, joint("test"))
    )


def open_cohort(  # noqa: PLR0913 - two of them are options
    folder: Path,
    study: StudyConfig,
    cache: Path,
    progress: Progress | None = None,
    *,
    name: str = "",
    templates: tuple[Template, ...] = (),
) -> Cohort:
    """Read a site's folder against the study; images are decoded only where the cache does not hold them.

    Args:
        folder: the site's data: the two tables, and the images and masks that they name.
        study: which columns and which view of the images are wanted.
        cache: folder for preprocessed images; safe to delete.
        progress: called with (images done, images in all) while files are decoded.
        name: of the site; splits depend on it, so that it is the folder's name only where nobody says another.
        templates: screens of the site's devices; see :func:`sarco_models.images.read_image`.

    Raises:
        DataError: every error of the two tables; a person's unreadable images only leave those images out.
    """
    name = name or folder.resolve().name
    table = read_participants(folder / PARTICIPANTS_FILE, study)
    if not study.uses_images:
        return _assemble(name, table, np.zeros(0, dtype=np.int64), None, study)
    rows, findings = read_images(folder / IMAGES_FILE, table.ids)
    position = {participant_id: i for i, participant_id in enumerate(table.ids)}
    findings += people_without_images(table, rows)
    rows = tuple(sorted(rows, key=lambda row: (position[row.participant_id], row.image, row.frame or 0)))
    images = open_images(folder, study, rows, cache, progress, templates=templates)
    owner = np.array([position[rows[r].participant_id] for r in images.rows], dtype=np.int64)
    if study.unplanned:
        table = replace(
            table, values=by_person(measured(folder, study, rows, images, templates), owner, len(table.ids))
        )
    cohort = _assemble(name, replace(table, findings=table.findings + findings), owner, images, study)
    return _without_unseen(cohort) if set(study.model.modalities) == {IMAGE} else cohort


def _assemble(
    name: str, table: ParticipantTable, owner: NDArray[np.int64], images: ImageCache | None, study: StudyConfig
) -> Cohort:
    return Cohort(
        sites=(name,) * len(table.ids),
        ids=table.ids,
        labels=table.labels,
        table=table.values,
        owner=owner,
        devices=images.devices if images else (),
        caches=(images,) if images else (),
        findings=table.findings + (images.findings if images else ()),
        intensity=study.intensity,
        calibration=study.split.calibration,
    )


def _without_unseen(cohort: Cohort) -> Cohort:
    """Leave out people without any image from a study that has nothing else to look at."""
    seen = np.unique(cohort.owner)
    if len(seen) == len(cohort):
        return cohort
    absent = f"{len(cohort) - len(seen)} without a readable image"
    rest = ("an image each", "they are left out of this study; add their images")
    left_out = Finding("warning", "no-image", PARTICIPANTS_FILE, absent, *rest)
    return replace(
        cohort,
        sites=tuple(cohort.sites[i] for i in seen),
        ids=tuple(cohort.ids[i] for i in seen),
        labels=cohort.labels[seen],
        table=cohort.table[seen],
        owner=np.searchsorted(seen, cohort.owner),
        findings=(*cohort.findings, left_out),
    )
