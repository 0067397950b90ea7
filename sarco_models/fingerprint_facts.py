"""What the fingerprint of hospitals' images is made of: five numbers of each training participant, and their limits.

Of a study that has no plan yet these are the columns that hospitals describe themselves with, in place of the tables';
:mod:`sarco_models.fingerprint` makes a plan of their sums, :mod:`sarco_models.fingerprint_files` measures them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import StudyConfig
from sarco_models.frames import Frame
from sarco_models.schema import Column, design_columns
from sarco_models.segmentation import BACKGROUND, OUTSIDE

GROUP = "fingerprint"

FINGERPRINT = (
    Column("region_height_mm", GROUP, 20.0, 120.0, zero_one=False),
    Column("region_width_mm", GROUP, 20.0, 120.0, zero_one=False),
    Column("mm_per_pixel", GROUP, 0.02, 0.5, zero_one=False),
    Column("grey_mean", GROUP, 0.0, 255.0, zero_one=False),
    Column("grey_sd", GROUP, 0.0, 100.0, zero_one=False),
)
"""What is summed over participants: the tissue region's sides, the size of its pixels, grey levels inside the muscles.

The limits are of what is summed: a number beyond them counts as the limit, so that what a person adds is bounded. They
are as narrow as linear probes allow (displays of 35 to 60 mm, .06 to .16 mm per pixel), for noise grows with them.
"""


def image_facts(frame: Frame, classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """One image's numbers, in the order of :data:`FINGERPRINT` but with the variance of grey levels at the end.

    Args:
        frame: the tissue region.
        classes: (height, width) of it, as :attr:`sarco_models.drawn.Drawn.classes`.

    Returns:
        (columns,) NaN where nothing is known: the image does not say its millimetres, no muscle is drawn.
    """
    found = np.full(len(FINGERPRINT), np.nan)
    if frame.mm_per_pixel:
        (height, width), (row_mm, column_mm) = frame.pixels.shape, frame.mm_per_pixel
        found[:3] = height * row_mm, width * column_mm, math.sqrt(row_mm * column_mm)
    inside = frame.pixels[(classes != BACKGROUND) & (classes != OUTSIDE)]
    if inside.size:
        found[3:] = inside.mean(), inside.var()
    return found


def person_facts(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """One participant's numbers: the mean over that person's images, each within its column's limits.

    Args:
        images: (images, columns) of :func:`image_facts`.

    Returns:
        (columns,) in the order of :data:`FINGERPRINT`; NaN where no image says anything.
    """
    sides, grey = (block[~np.isnan(block[:, 0])] for block in (images[:, :3], images[:, 3:]))
    found = np.full(len(FINGERPRINT), np.nan)
    if sides.size:
        found[:3] = sides.mean(axis=0)
    if grey.size:  # the deviation of all images together, each of the same weight
        found[3:] = grey[:, 0].mean(), math.sqrt(grey[:, 1].mean() + grey[:, 0].var())
    low, high = (np.array([getattr(c, side) for c in FINGERPRINT]) for side in ("low", "high"))
    return np.asarray(np.clip(found, low, high), dtype=np.float64)


def summed_columns(study: StudyConfig) -> tuple[Column, ...]:
    """Columns of the sums that hospitals describe themselves with: the fingerprint before there is a plan, then tables.

    A participant's row in a cohort has these columns (:func:`sarco_models.cohort.open_cohort`).
    """
    return FINGERPRINT if study.unplanned else design_columns(study.features)


def summed(study: StudyConfig) -> NDArray[np.bool_]:
    """(columns,) which of :func:`summed_columns` the study uses: its model's inputs, or the whole fingerprint."""
    wanted = (GROUP,) if study.unplanned else study.model.modalities
    return np.array([c.group in wanted for c in summed_columns(study)], dtype=np.bool_)
