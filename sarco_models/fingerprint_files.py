"""The fingerprint of a hospital's images, measured on its files: only for a study whose network has no plan yet.

It is measured on whole frames at their own resolution, as nnU-Net does, and not on what a network would see: how large
that is to be is the question. The numbers of each image lie beside its pixels in the cache, so that every file is
measured once.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import StudyConfig
from sarco_models.fingerprint_facts import FINGERPRINT, image_facts, person_facts
from sarco_models.image_cache import CALIBRATION_FILE, ImageCache
from sarco_models.image_list import ImageRow
from sarco_models.images import Template, read_calibrations, read_image
from sarco_models.targets import drawn_on

FILE = "fingerprint.npy"


def measured(
    folder: Path, study: StudyConfig, rows: Sequence[ImageRow], images: ImageCache, templates: tuple[Template, ...]
) -> NDArray[np.float64]:
    """Numbers of these images, measured now or read again.

    Args:
        folder: the site's data.
        study: without a plan.
        rows: of images.csv.
        images: those of them that can be read and have a mask; the name of its folder says what all there depends on.
        templates: screens of the site's devices.

    Returns:
        (images, columns) as :func:`sarco_models.fingerprint_facts.image_facts`.
    """
    path = images.folder / FILE
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False))
    calibrated = folder / CALIBRATION_FILE
    calibrations = read_calibrations(calibrated) if calibrated.exists() else {}
    found = np.full((len(images.rows), len(FINGERPRINT)), np.nan)
    for k, row in enumerate(rows[r] for r in images.rows):
        frame = read_image(folder / row.image, calibrations.get(row.image), row.frame, templates=templates)
        found[k] = image_facts(frame, drawn_on(folder, row, frame, study)[0].classes)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, found)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    return found


def by_person(images: NDArray[np.float64], owner: NDArray[np.int64], people: int) -> NDArray[np.float64]:
    """(people, columns) of everybody, NaN where a person has no image that says anything.

    Args:
        images: (images, columns) of :func:`measured`.
        owner: (images,) participant of each.
        people: how many there are.
    """
    return np.array([person_facts(images[owner == k]) for k in range(people)]).reshape(-1, len(FINGERPRINT))
