"""Who is in the synthetic hospitals, and which images they get: all that is known of a cohort before it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from sarco_models.errors import ConfigError
from simulation.anatomy import Subject
from simulation.centers import CENTERS, Center, Counts, MaskFormat, PerClass, counts_at, counts_of_sample, preset_named
from simulation.devices import DEVICES, Device, shifted
from simulation.subjects import draw_subjects
from simulation.tables import People, draw_people

VERSION = 2  # of the bytes written for given parameters
CENTRAL = "central"
CENTRAL_PARTICIPANTS, CENTRAL_PARTICIPANTS_TINY = 300, 24
BURNED_IN_SHARE = 0.10
GREY_BAR_REGION_SHARE = 0.3
MIN_WIDTH_PX = 32
MAX_SHIFT = 4.0
MASK_SUFFIX: dict[MaskFormat, str] = {"nifti": ".nii.gz", "png": ".png", "labelme": ".json"}


@dataclass(frozen=True)
class Parameters:
    """All that the bytes of a cohort depend on."""

    scale: str
    seed: int
    preset: str
    central_participants: int
    width_px: int
    device_shift: float = 1.0
    prevalence_shift: float = 1.0
    version: int = VERSION


@dataclass(frozen=True)
class PlannedExam:
    """One participant's visit: one day, one device, one file format."""

    participant_id: str
    male: bool
    age_years: int
    subject: Subject
    center: str
    day: date
    device: str
    jpg: bool
    rgb: bool


@dataclass(frozen=True)
class PlannedImage:
    """One image to draw and write.

    Attributes:
        number: within the exam, from 1.
        burned_in: the banner shows an invented name.
        grey_bar_region: DICOM lists the grey bar as a region before the tissue, as some machines do.
        seeds: of the image's own generator.
        device_shift: see :func:`simulation.devices.shifted`.
    """

    exam: PlannedExam
    number: int
    burned_in: bool
    grey_bar_region: bool
    seeds: tuple[int, ...]
    width_px: int
    device_shift: float

    @property
    def participant_id(self) -> str:
        """Whose image it is."""
        return self.exam.participant_id

    @property
    def machine(self) -> Device:
        """What it is scanned with."""
        return shifted(DEVICES[self.exam.device], self.device_shift)

    @property
    def image(self) -> str:
        """Path inside the site's folder."""
        return f"images/{self.participant_id}_{self.number:02d}{'.jpg' if self.exam.jpg else '.dcm'}"

    @property
    def mask(self) -> str:
        """Path inside the site's folder."""
        return f"masks/{self.participant_id}_{self.number:02d}{MASK_SUFFIX[CENTERS[self.exam.center].mask_format]}"

    @property
    def side(self) -> str:
        """Legs alternate."""
        return "right" if self.number % 2 else "left"


@dataclass(frozen=True)
class PlannedSite:
    """One folder: its table with ``participant_id``, and its images in the table's order."""

    name: str
    table: pd.DataFrame
    images: tuple[PlannedImage, ...]


def plan_sites(parameters: Parameters) -> list[PlannedSite]:
    """Every participant and image of the three sites and ``central``, drawn but not rendered.

    Raises:
        ConfigError: a parameter is out of range.
    """
    preset = preset_named(parameters.preset)
    if parameters.width_px < MIN_WIDTH_PX:
        raise ConfigError(f"width_px: {parameters.width_px}; at least {MIN_WIDTH_PX} is needed")
    if parameters.seed < 0:
        raise ConfigError(f"seed: {parameters.seed}; it must be 0 or more")
    least = 2 * len(CENTERS)
    if parameters.central_participants < least:
        raise ConfigError(
            f"central_participants: {parameters.central_participants}; at least {least}, two of each centre, are needed"
        )
    _check_shifts(parameters)
    counts = [counts_at(c, parameters.scale, preset, parameters.prevalence_shift) for c in CENTERS.values()]
    centers = list(zip(CENTERS.values(), counts, strict=True))
    sites = [
        _plan_site(center.name, [(center, count)], parameters, stream)
        for stream, (center, count) in enumerate(centers, start=1)
    ]
    shares = np.array_split(np.arange(parameters.central_participants), len(CENTERS))
    mixture = [
        (center, counts_of_sample(count, len(share))) for (center, count), share in zip(centers, shares, strict=True)
    ]
    return [*sites, _plan_site(CENTRAL, mixture, parameters, len(CENTERS) + 1)]


def _check_shifts(parameters: Parameters) -> None:
    for name in ("device_shift", "prevalence_shift"):
        shift = getattr(parameters, name)
        if not 0 <= shift <= MAX_SHIFT:  # also refuses NaN
            raise ConfigError(f"{name}: {shift:g}; between 0 (no shift) and {MAX_SHIFT:g} is needed, 1 is the paper's")


def _plan_site(name: str, mixture: Sequence[tuple[Center, Counts]], parameters: Parameters, stream: int) -> PlannedSite:
    """A site's people, from one centre or several, in random order."""
    preset = preset_named(parameters.preset)
    rng = np.random.default_rng([parameters.seed, stream])
    tables, subjects, images_each = [], [], []
    centers: list[Center] = []
    for center, counts in mixture:
        people = draw_people(center, counts.participants, preset, rng)
        tables.append(people.table)
        subjects += draw_subjects(people, center, preset, rng)
        images_each += _images_each(people, center, counts.images, rng)
        centers += [center] * len(people.table)
    order = rng.permutation(len(subjects)) if len(mixture) > 1 else np.arange(len(subjects))
    table = pd.concat(tables, ignore_index=True).iloc[order].reset_index(drop=True)
    code = "CT" if name == CENTRAL else mixture[0][0].code
    table.insert(0, "participant_id", [f"SYN-{code}-{k + 1:04d}" for k in range(len(table))])
    images: list[PlannedImage] = []
    for k, source in enumerate(order, start=1):  # numpy pads seeds with zeros, so none may end in one
        rng = np.random.default_rng([parameters.seed, stream, k])
        exam = _plan_exam(table.iloc[k - 1], subjects[source], centers[source], rng)
        images += [
            PlannedImage(
                exam,
                number,
                burned_in=bool(rng.random() < BURNED_IN_SHARE),
                grey_bar_region=bool(rng.random() < GREY_BAR_REGION_SHARE),
                seeds=(parameters.seed, stream, k, number),
                width_px=parameters.width_px,
                device_shift=parameters.device_shift,
            )
            for number in range(1, images_each[source] + 1)
        ]
    return PlannedSite(name, table, tuple(images))


def _plan_exam(person: "pd.Series[Any]", subject: Subject, center: Center, rng: np.random.Generator) -> PlannedExam:
    first, last = center.period
    return PlannedExam(
        participant_id=str(person["participant_id"]),
        male=bool(person["male"]),
        age_years=int(person["age_years"]),
        subject=subject,
        center=center.name,
        day=first + timedelta(days=int(rng.integers((last - first).days + 1))),
        device=str(rng.choice(list(center.devices), p=list(center.devices.values()))),
        jpg=bool(rng.random() < center.jpg_share),
        rgb=bool(rng.random() < center.rgb_share),
    )


def _images_each(people: People, center: Center, images: PerClass[int], rng: np.random.Generator) -> list[int]:
    """Images of each participant: exact sum per class, spread by moving single images between people."""
    each = np.zeros(len(people.table), int)
    for sarcopenia in (False, True):
        rows = np.flatnonzero(people.table["sarcopenia"].to_numpy() == sarcopenia)
        number = np.full(len(rows), images[sarcopenia] // len(rows))
        number[: images[sarcopenia] % len(rows)] += 1
        fewest, most = center.images_each[sarcopenia]
        for giver, taker in rng.integers(0, len(rows), (4 * len(rows), 2)):
            if number[giver] > fewest and number[taker] < most:
                number[giver] -= 1
                number[taker] += 1
        each[rows] = rng.permutation(number)
    return [int(n) for n in each]
