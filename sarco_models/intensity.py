"""Grey levels of different machines made alike: each device of a site gets a look-up table, which stays at the site.

Two machines show the same muscle at other grey levels (Zaidman 2012), and a network takes the machine for the muscle
(SCIENCE, pitfalls 11 and 12). Here the grey levels of each device get the mean and standard deviation that the study
names. They are measured on participants who are trained on, or on a declared calibration share of a cohort that is only
scored, and never on whom is scored; labels are not looked at. Two hospitals whose prevalence differs therefore come out
a little too much alike: where half are sarcopenic instead of a quarter, by 2 to 3 grey levels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import Finding
from sarco_models.schema import IMAGES_FILE
from sarco_models.sections import IntensityConfig

LEAST_PARTICIPANTS = 5
"""The mean grey level of a muscle differs by 7 to 13 between people (SD): fewer would be measured, not the device."""

Pixels = NDArray[np.uint8]
Images = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GreyTables:
    """What the grey levels of each image become.

    Attributes:
        tables: (tables, 256) uint8, never falling; 0 stays 0 and nothing else becomes 0.
        which: (images,) table of each image of the site.
    """

    tables: NDArray[np.uint8]
    which: Images

    def __call__(self, pixels: Pixels, images: Images) -> Pixels:
        """The pixels (n, size, size) of these images (n,), each through its table."""
        shown = np.empty_like(pixels)
        for table in np.unique(self.which[images]):
            here = self.which[images] == table
            shown[here] = self.tables[table][pixels[here]]
        return shown

    @cached_property
    def digest(self) -> str:
        """Names the tables and who has which: what is computed from the pixels depends on it."""
        content = self.tables.tobytes() + self.which.astype("<i8").tobytes()
        return hashlib.blake2b(content, digest_size=8).hexdigest()


class Exams(Protocol):
    """Images of a site, as :class:`sarco_models.image_cache.ImageCache` holds them."""

    @property
    def pixels(self) -> Pixels:
        """(images, size, size), black where the study does not look."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Device of each image; empty where nobody knows."""


def grey_tables(
    exams: Exams, owner: Images, measured: Images, cfg: IntensityConfig
) -> tuple[GreyTables, tuple[Finding, ...]]:
    """Measure each device of a site, and make its table.

    The grey levels are those of all pixels above 0. With ``roi = "mask"`` these are the muscle and its margin; with
    ``roi = "none"`` the whole picture, of which fat and bone are a part: then the tables also depend on how much of
    them the pictures show. Every participant weighs the same, however many images there are.

    Args:
        exams: all images of the site.
        owner: (images,) participant of each.
        measured: images to measure on; their participants may be learnt from, or are declared for this alone.
        cfg: the mean and standard deviation that grey levels get.

    Returns:
        The tables, and a note for each device that too few participants were measured on: it gets the table of all
        devices together, and so do images of no known device.
    """
    seen = np.array([i for i in measured if exams.pixels[i].any()], dtype=np.int64)
    density = np.array([_density(exams.pixels[i]) for i in seen]).reshape(-1, 256)
    device = np.array(exams.devices, dtype=np.str_)
    tables = [_table(_balanced(density, owner[seen]), cfg)]
    which = np.zeros(len(device), dtype=np.int64)
    notes = [] if len(seen) else [_note("the site's devices", 0, "their grey levels stay as they are")]
    for name in np.unique(device):
        here = device[seen] == name
        people = len(np.unique(owner[seen[here]]))
        if name and people >= LEAST_PARTICIPANTS:
            which[device == name] = len(tables)
            tables.append(_table(_balanced(density[here], owner[seen[here]]), cfg))
        elif name and len(seen):
            notes.append(_note(str(name), people, "its images get the table of all devices of the site together"))
    return GreyTables(np.stack(tables), which), tuple(notes)


def _density(pixels: Pixels) -> NDArray[np.float64]:
    """(256,) share of each grey level among the pixels that are not black."""
    counts = np.bincount(pixels.ravel(), minlength=256).astype(np.float64)
    counts[0] = 0
    density: NDArray[np.float64] = counts / counts.sum()
    return density


def _balanced(density: NDArray[np.float64], owner: Images) -> NDArray[np.float64]:
    """(256,) mean over participants of the mean over each one's images; empty without any."""
    people = [density[owner == person].mean(axis=0) for person in np.unique(owner)]
    return np.mean(people, axis=0) if people else np.zeros(0)


def _table(density: NDArray[np.float64], cfg: IntensityConfig) -> NDArray[np.uint8]:
    """(256,) to the study's mean and standard deviation; without measurements, every level to itself."""
    level = np.arange(256)
    if not len(density):
        return level.astype(np.uint8)
    mean = float(density @ level)
    sd = max(float(np.sqrt(density @ (level - mean) ** 2)), 1.0)  # one grey level only: nothing to stretch
    table: NDArray[np.uint8] = np.rint((level - mean) / sd * cfg.sd + cfg.mean).clip(1, 255).astype(np.uint8)
    table[0] = 0
    return table


def _note(device: str, people: int, remedy: str) -> Finding:
    seen = f"{people} participants to measure the grey levels of {device} on"
    return Finding("note", "grey-levels", IMAGES_FILE, seen, f"{LEAST_PARTICIPANTS} or more", remedy, field="device")


def calibration_people(sites: Sequence[str], ids: Sequence[str], share: float) -> NDArray[np.int64]:
    """Positions of the participants of a cohort that is only scored on whom devices are measured; never scored.

    They are the first of each site by a hash of site and identifier, whatever the study's seed: the same people in
    every run, so that no mean over seeds holds anybody's score.

    Args:
        sites: site of each participant.
        ids: identifier of each.
        share: of each site's participants; where it is above 0, at least one, and never everybody.
    """
    chosen: list[int] = []
    for site in dict.fromkeys(sites):
        people = [i for i in range(len(ids)) if sites[i] == site]
        people.sort(key=lambda i: hashlib.sha256(f"calibration|{site}|{ids[i]}".encode()).digest())
        chosen += people[: min(max(1, round(share * len(people))), len(people) - 1) if share else 0]
    return np.array(sorted(chosen), dtype=np.int64)
