"""A hospital's images held against the plan of a study's network, which all hospitals' sums have made.

A plan fits most images of most hospitals. Whose scanner is another one learns it here, before it approves: its muscles
would be cut off, or lie in a corner of a black square, or be enlarged out of few pixels.
"""

from collections.abc import Iterator, Sequence

from client.quality.records import ImageRecord
from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from sarco_models.schema import IMAGES_FILE

MOST_IMAGES = 0.1
"""Share of the images that a plan need not fit; a window is made for the mean and two standard deviations."""

BEYOND, WITHIN, ENLARGED = 1.15, 0.5, 1.5
"""Of the region's longer side to the window, at most and at least; of the image's pixels to the network's, at most."""


def planned_findings(records: Sequence[ImageRecord], study: StudyConfig) -> Iterator[Finding]:
    """What of the images the plan does not fit; nothing for a study without a plan.

    Args:
        records: one per row of images.csv.
        study: that the data are for.
    """
    plan = study.segmentation.plan if study.segmentation else None
    sized = [(r.shape, r.mm_per_pixel) for r in records if r.mm_per_pixel and r.shape[0] and r.row.mask]
    if plan is None or not sized:
        return
    window = plan.patch[0] * plan.mm_per_pixel
    sides = [max(shape[0] * mm[0], shape[1] * mm[1]) for shape, mm in sized]
    pixels = [max(mm) for _, mm in sized]
    yield from _of_images(
        [side for side in sides if side > BEYOND * window],
        len(sized),
        f"mm along the longer side, and the network's window shows {window:.0f} mm: the rest is cut off",
        f"at most {BEYOND * window:.0f} mm",
    )
    yield from _of_images(
        [side for side in sides if side < WITHIN * window],
        len(sized),
        f"mm along the longer side, and the network's window shows {window:.0f} mm: most of it is black",
        f"at least {WITHIN * window:.0f} mm",
    )
    yield from _of_images(
        [mm for mm in pixels if mm > ENLARGED * plan.mm_per_pixel],
        len(sized),
        f"mm per pixel, and the network's pixels have {plan.mm_per_pixel:.2f} mm: outlines stay coarse",
        f"at most {ENLARGED * plan.mm_per_pixel:.2f} mm per pixel",
    )


def _of_images(found: Sequence[float], images: int, words: str, expected: str) -> Iterator[Finding]:
    if len(found) <= MOST_IMAGES * images:
        return
    middle = sorted(found)[len(found) // 2]
    seen = f"{len(found)} of {images} images have {middle:.3g} {words}"
    remedy = (
        "see whether their mm per pixel are right; if they are, tell the coordinator before you approve: the plan was "
        "made of other images than yours"
    )
    yield Finding("warning", "plan-fit", IMAGES_FILE, seen, expected, remedy, field="image")
