"""Which file each image of a cohort is: a cohort knows pixels and owners, and no name."""

from pathlib import Path

from sarco_models.cohort import Cohort
from sarco_models.config import StudyConfig
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, ImageRow, read_images, read_participants


def image_rows(folder: Path, cohort: Cohort, study: StudyConfig) -> tuple[ImageRow, ...]:
    """The row of each image of a cohort of one hospital; ordered like ``open_cohort``, whose cache counts them."""
    ids = read_participants(folder / PARTICIPANTS_FILE, study).ids
    position = {participant_id: i for i, participant_id in enumerate(ids)}
    listed, _ = read_images(folder / IMAGES_FILE, ids)
    rows = sorted(listed, key=lambda row: (position[row.participant_id], row.image, row.frame or 0))
    (cache,) = cohort.caches
    return tuple(rows[r] for r in cache.rows)
