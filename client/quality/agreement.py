"""Whether a mask sits on its image: a muscle lies between bright fasciae, so its outline runs along bright lines.

The outline is moved over a picture of bright lines. Where it fits much better some millimetres away than in its place,
the mask was shifted, or drawn on another image. Limits were set on SYNTHETIC images (seeds 21 to 25) so that fewer than
one in a hundred true masks, redrawn with a hand's error of .4 mm, is called wrong; no drawn mask of a patient was seen.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

STEP_MM = 0.4
"""Pixel of the picture in which lines are looked for: finer, speckle looks like a line; coarser, the fascia is lost."""

NEAR_MM = 1.2
"""A mask this far from its best place is in its place: fasciae are that thick, and hands that unsteady."""

FAR_MM = (2.2, 9.5)
"""Where a better place is looked for; farther away other muscles have outlines of their own."""

MUCH_BETTER = 1.4
"""A place is the true one when the outline fits this many times better there than where it was drawn."""

WORST = 0.1
"""Agreement below which a mask belongs to no muscle in this image; 1 in 200 true masks has less than .13."""

_REACH = math.ceil(10 / STEP_MM)
_LINE_MM = 1.2  # a line is brighter than what lies this far above and below it
_AROUND_MM = 8.0  # brightness is judged against the neighbourhood of this size
_BRIGHTEST = 0.35  # more does not count, or a single bright bone would draw every outline to itself
_STEEP = 0.3  # of the greatest thickness; at thinner ends the outline runs along the beam, where no line is seen
_LARGEST = 640  # pixels of STEP_MM: a quarter of a metre; a wrong spacing is found elsewhere


@dataclass(frozen=True)
class Agreement:
    """How well an outline follows bright lines.

    Attributes:
        here: where it was drawn, 0 to about .35.
        best: where it fits best within a centimetre, but not here.
        shift_mm: from here to there, (down, right).
    """

    here: float
    best: float
    shift_mm: tuple[float, float]

    @property
    def poor(self) -> bool:
        """It belongs to no muscle that is seen here."""
        return self.here < WORST

    @property
    def shifted(self) -> bool:
        """It belongs somewhere else in this image."""
        return self.best > MUCH_BETTER * max(self.here, 1e-3) and self.best > WORST


def agreement(
    pixels: NDArray[np.uint8], size_mm: tuple[float, float], outline_mm: tuple[NDArray[np.floating[Any]], ...]
) -> Agreement | None:
    """How well an outline fits the image; None when it is too small to say, or the image too large.

    Args:
        pixels: grey tissue region, at any scale.
        size_mm: height and width of the region.
        outline_mm: columns of the muscle, and in each its upper and lower edge, from the region's upper left corner.
    """
    height, width = (max(1, round(side / STEP_MM)) for side in size_mm)
    if max(height, width) > _LARGEST:
        return None
    drawn = _drawn(outline_mm, (height, width))
    if drawn is None:
        return None
    top, left, template = drawn
    small = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    lines = cv2.copyMakeBorder(_bright_lines(small), _REACH, _REACH, _REACH, _REACH, cv2.BORDER_CONSTANT)
    rows, columns = template.shape
    window = lines[top : top + rows + 2 * _REACH, left : left + columns + 2 * _REACH]
    scores = cv2.matchTemplate(window, template, cv2.TM_CCORR) / template.sum()
    away = np.where(_AWAY, scores, 0)
    best = int(away.argmax())
    down, right = (STEP_MM * (place - _REACH) for place in np.unravel_index(best, scores.shape))
    return Agreement(float(scores[_NEAR].max()), float(away.flat[best]), (float(down), float(right)))


_DISTANCE = STEP_MM * np.hypot(*np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1])
_NEAR = _DISTANCE <= NEAR_MM
_AWAY = np.abs(_DISTANCE - sum(FAR_MM) / 2) <= (FAR_MM[1] - FAR_MM[0]) / 2


def _bright_lines(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How much brighter each pixel is than above and below it, relative to its neighbourhood."""
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 0.5)
    k = round(_LINE_MM / STEP_MM)
    padded = cv2.copyMakeBorder(smooth, k, k, 0, 0, cv2.BORDER_REPLICATE)
    side = round(_AROUND_MM / STEP_MM) | 1
    lines = (smooth - (padded[: -2 * k] + padded[2 * k :]) / 2) / (cv2.blur(smooth, (side, side)) + 10)
    return np.asarray(lines.clip(0, _BRIGHTEST), dtype=np.float32)


def _drawn(
    outline_mm: tuple[NDArray[np.floating[Any]], ...], shape: tuple[int, int]
) -> tuple[int, int, NDArray[np.float32]] | None:
    """Upper and lower edge as pixels of STEP_MM in their box, and the box's place; None for fewer than 8 columns."""
    columns, upper, lower = (side / STEP_MM for side in outline_mm)
    kept = lower - upper > _STEEP * (lower - upper).max(initial=0)
    x, where = np.unique(columns[kept].astype(int), return_index=True)
    if len(x) < 8:
        return None
    y = np.concatenate([edge[kept][where] for edge in (upper, lower)]).astype(int).clip(0, shape[0] - 1)
    x = np.concatenate((x, x)).clip(0, shape[1] - 1)
    template = np.zeros((y.max() - y.min() + 1, x.max() - x.min() + 1), dtype=np.float32)
    np.add.at(template, (y - y.min(), x - x.min()), 1)
    return int(y.min()), int(x.min()), template
