"""What the muscles of a site's participants look like, as people have drawn them: sums of shapes over participants.

They are measured in the network's square, from the targets of the cache. A muscle that the square cuts off, while the
frame goes on, is left out: its width would be the square's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sarco_models.cohort import People
from sarco_models.segmentation import OUTSIDE
from sarco_models.segmentation_reader import SegmentationReader
from sarco_models.shapes import Mask, Shape, ShapeSums
from sarco_models.views import View


def drawn_shapes(reader: SegmentationReader, people: People) -> dict[str, ShapeSums]:
    """Sums over participants of the shapes of drawn muscles, by the name that the network has for each.

    Args:
        reader: of the study.
        people: whose masks are measured; participants in training, where a range is agreed from them.
    """
    names = ("muscle",) if reader.segmentation.classes == "one" else reader.segmentation.names
    asked = reader.segmentation.classes == "asked"
    shapes: dict[str, list[Shape]] = {name: [] for name in names}
    owners: dict[str, list[str]] = {name: [] for name in names}
    cohort = people.cohort
    for image in people.images.tolist():
        view, owner = cohort.views[image], str(cohort.owner[image])
        for number, mask in _muscles(cohort.targets[np.array([image])][0]):
            if not _cut_off(mask, view):
                name = names[reader.muscles_of(people, image)[0] if asked else number - 1]
                shapes[name].append(Shape.of(mask, view.mm_per_pixel))
                owners[name].append(owner)
    return {name: ShapeSums.of(shapes[name], owners[name]) for name in names}


def _muscles(target: NDArray[np.uint8]) -> Iterator[tuple[int, Mask]]:
    """Number and mask of each muscle that is drawn, on the part of the square that shows the frame."""
    inside = target != OUTSIDE
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return
    shown = target[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    for number in np.unique(shown).tolist():
        if number not in (0, OUTSIDE):
            yield number, shown == number


def _cut_off(mask: Mask, view: View) -> bool:
    """Whether the muscle reaches a border of the square beyond which the frame goes on."""
    height, width = view.frame_shape
    beyond = {
        "top": view.rows[0] >= 1,
        "bottom": view.rows[1] <= height - 1,
        "left": view.columns[0] >= 1,
        "right": view.columns[1] <= width - 1,
    }
    return any(beyond[side] for side in Shape.of(mask, view.mm_per_pixel).sides)
