"""Two muscles over each other in what a person has drawn: a border that both share, or a contradiction."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.frames import Frame

THIN_MM, THIN_PIXELS = 1.0, 3
"""Two muscles that overlap by a band of this width share an outline that was drawn twice; more is a contradiction."""

THIN_SHARE = 0.1
"""Of the smaller of two muscles: where more of it is covered, it is not its border."""

Mask = NDArray[np.bool_]


def overlapping(names: tuple[str, str], both: Mask, smaller: int, frame: Frame) -> tuple[str, str, bool]:
    """What is seen, what is expected, and whether it is no more than a border that both share."""
    pixels, width = int(both.sum()), _width(both)
    wide = max(float(THIN_PIXELS), THIN_MM / min(frame.mm_per_pixel)) if frame.mm_per_pixel else float(THIN_PIXELS)
    seen = f"{names[0]} and {names[1]} overlap by {pixels} pixels, at most {width:.0f} wide"
    expected = f"at most {wide:.0f} pixels wide, and {THIN_SHARE:.0%} of the smaller one"
    return seen, expected, width <= wide and pixels <= THIN_SHARE * smaller


def _width(mask: Mask) -> float:
    """Pixels across a mask at its widest place."""
    padded = np.pad(mask.view(np.uint8), 1)
    return 2 * float(cv2.distanceTransform(padded, cv2.DIST_C, 3).max()) - 1
