"""Whom an explanation is of, by which model, and what that model sees of them.

Nobody who was trained on is explained, and nobody who is held out stands in for another.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models.aims import diagnosing
from sarco_models.auto_masks import Finder
from sarco_models.cohort import Cohort, HeldOut, TrainingPeople, pool
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.image_cache import CALIBRATION_FILE
from sarco_models.images import Calibration, read_calibrations, read_image
from sarco_models.masks import read_mask
from sarco_models.preprocess import model_input
from sarco_models.saliency_checks import Regions, outline_band
from sarco_models.saliency_trial import FASCIA_MM, Views
from sarco_models.schema import ImageRow
from sarco_models.training import Reader
from server.evaluation import released_reader
from server.runs import Run
from simulation.arms import CENTRAL, Arm
from simulation.harness import own_norms
from simulation.image_rows import image_rows as image_rows

MANIFEST = "manifest.json"
TEST = "test"
"""Of an arm of one hospital its held-out people (of a cross-validation the fold's), of any other the central cohort."""


@dataclass(frozen=True, eq=False)
class Explained:
    """An arm's model and the people that it is explained on.

    Attributes:
        place: cohort that they belong to.
        people: held out.
        reader: of the released model.
        run: its directory.
    """

    place: str
    people: HeldOut
    reader: Reader
    run: Run

    @staticmethod
    def of(arm: Arm, people: str = TEST) -> "Explained":
        """Open a finished arm.

        Args:
            arm: whose run has released its model.
            people: ``test``, or the name of a cohort that the arm is scored on.

        Raises:
            ConfigError: the arm is not scored on such a cohort.
            RunError: no model was released.
        """
        place, held = chosen_people(arm, people)
        run = Run.open(arm.folder)
        return Explained(place, held, diagnosing(released_reader(run, own_norms(arm, run, place))), run)


def chosen_people(arm: Arm, people: str) -> tuple[str, HeldOut]:
    """Name of the cohort, and its held-out people; see :meth:`Explained.of`."""
    if people == TEST and arm.kind in ("local", "tuned", "cv"):
        return arm.site, arm.split_of(arm.site).test
    held = arm.held_out()
    usual = CENTRAL if CENTRAL in held else arm.trained_on[0]
    place = usual if people == TEST else people
    if place not in held:
        raise ConfigError(f"{arm.name} is not scored on {place!r}: name one of {', '.join(held)}")
    return place, held[place]


def training_people(arm: Arm) -> TrainingPeople:
    """Everybody that the arm trained on."""
    splits = [arm.split_of(name) for name in arm.trained_on]
    return splits[0].train if len(splits) == 1 else pool(splits).train


def cohort_folder(arm: Arm, place: str) -> Path:
    """Where the data of a cohort are that the arm is scored on."""
    if place == CENTRAL and arm.central:
        return arm.central
    return next(site.data for site in arm.sites if site.name == place)


def is_synthetic(arm: Arm) -> bool:
    """Whether every cohort of the arm says that its people do not exist."""
    folders = [*(site.data for site in arm.sites), *([arm.central] if arm.central else [])]
    return all(_says_synthetic(folder / MANIFEST) for folder in folders)


def _says_synthetic(manifest: Path) -> bool:
    return manifest.is_file() and bool(json.loads(manifest.read_text(encoding="utf-8")).get("synthetic"))


# --- what the network sees --------------------------------------------------------------------------------------------


def views(folder: Path, people: HeldOut, study: StudyConfig, count: int) -> Views:
    """One image each of up to ``count`` people: persons and images in the order of a hash, so that nobody chooses.

    People without a readable image, or without a mask where masks are found, are passed over. Masks go through the
    same framing as their images.

    Args:
        folder: of the people's cohort.
        people: of one cohort.
        study: which view of the images is wanted.
        count: how many.
    """
    cohort = people.cohort
    shown = {m: own for m in people.members if len(own := _with_mask(cohort, cohort.images_of(np.array([m]))))}
    members = np.array(sorted(shown, key=lambda m: _hash(cohort.ids[m]))[:count], dtype=np.int64)
    images = np.array([_one_of(shown[m], cohort.ids[m]) for m in members], dtype=np.int64)
    rows = image_rows(folder, people.cohort, study)
    calibrations = read_calibrations(folder / CALIBRATION_FILE) if (folder / CALIBRATION_FILE).exists() else {}
    found = [_regions(folder, rows[image], calibrations.get(rows[image].image), study) for image in images]
    regions = np.array(found, dtype=np.bool_).reshape(-1, 3, study.image.size, study.image.size)
    visible, muscle, fascia = (regions[:, k] for k in range(3))
    labels = cohort.labels[members] == 1
    if study.image.roi == "none":
        return Views(cohort.pixels[images], visible, None, None, labels)
    return Views(cohort.pixels[images], visible, muscle, fascia & visible, labels)


def _hash(participant_id: str) -> bytes:
    return hashlib.sha256(f"explained|{participant_id}".encode()).digest()


def _with_mask(cohort: Cohort, images: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of one hospital's images that are cut to a mask; all, where no mask has to be found."""
    origins = cohort.caches[0].origins
    return np.array([k for k in images if not origins or origins[k].source != "tissue"], dtype=np.int64)


def _one_of(images: NDArray[np.int64], participant_id: str) -> int:
    return int(images[int.from_bytes(_hash(participant_id)[:4], "big") % len(images)])


def _regions(folder: Path, row: ImageRow, calibration: Calibration | None, study: StudyConfig) -> list[Regions]:
    """(size, size) what is visible, the muscle, the fascia band; the last two are empty in a study without masks."""
    frame, cfg = read_image(folder / row.image, calibration, row.frame), study.image
    mask = None
    if cfg.auto:
        mask, _ = Finder.of(study).mask(frame, row, folder)
    elif cfg.roi == "mask":
        mask = read_mask(folder / row.mask, frame, label=row.mask_label or None)

    def framed(region: Regions, least: int) -> Regions:
        drawn = replace(frame, pixels=region.astype(np.uint8) * np.uint8(255))
        return np.asarray(model_input(drawn, mask, cfg) >= least)

    whole = np.ones(frame.pixels.shape, dtype=np.bool_)
    if mask is None:
        return [framed(whole, 1), framed(~whole, 1), framed(~whole, 1)]
    fascia = (
        outline_band(mask[None], FASCIA_MM / float(np.mean(frame.mm_per_pixel)))[0] if frame.mm_per_pixel else ~whole
    )
    return [framed(whole, 1), framed(mask, 128), framed(fascia, 128)]
