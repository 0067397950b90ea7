"""A drawn mask as another hand might have drawn it: a little larger, a little smaller, or a little beside.

What a score owes to the exact outline is seen when the outline is changed by a known amount and nothing else is. All
amounts are millimetres on the body, also where pixels are no squares. A mask that would be empty is refused.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sarco_models.errors import Finding, MaskError, MissingSpacing

Mask = NDArray[np.bool_]
Direction = Literal["up", "up_right", "right", "down_right", "down", "down_left", "left", "up_left"]
Kind = Literal["dilate", "erode"] | Direction

DIRECTIONS: Mapping[Direction, tuple[float, float]] = {
    name: (round(-float(np.cos(k * np.pi / 4)), 12), round(float(np.sin(k * np.pi / 4)), 12))
    for k, name in enumerate(get_args(Direction))
}
"""Unit vectors (down, right): clockwise from the skin's side of a picture."""

_TOUCH = 1e-6  # mm: what lies exactly at the distance belongs to the disc


def perturb(mask: Mask, mm_per_pixel: tuple[float, float] | None, kind: Kind, mm: float, *, file: str = "") -> Mask:
    """The mask, changed by so many millimetres.

    ``dilate`` adds all pixels whose centre lies within ``mm`` of a pixel of the mask; ``erode`` takes away all within
    ``mm`` of a pixel beside it, so that it dilates the complement. Nobody knows what lies beyond the frame: its edge
    neither grows nor eats a mask. A direction moves the mask by ``mm``, to the nearest pixel along each axis; what
    leaves the frame is cut off.

    Args:
        mask: (height, width), True inside the muscle.
        mm_per_pixel: (row, column).
        kind: what is done.
        mm: how far; 0 leaves the mask as it is.
        file: name of the image, for an error's text.

    Raises:
        MissingSpacing: the spacing is unknown: nobody can tell what a millimetre is.
        MaskError: nothing would be left, or nothing is there.
        ValueError: ``mm`` is below 0 or not finite.
    """
    if not (np.isfinite(mm) and mm >= 0):
        raise ValueError(f"mm = {mm}: must be 0 or more")
    if mm_per_pixel is None:
        remedy = "add a row to calibration.csv"
        raise MissingSpacing(
            [Finding("error", "spacing", file, "unknown mm per pixel", "a known spacing", remedy, field="mm_per_pixel")]
        )
    changed = _changed(mask, mm_per_pixel, kind, mm) if mask.any() and mm else mask.copy()
    if not changed.any():
        seen = f"a mask of {int(mask.sum())} pixels, of which nothing is left ({kind}, {mm:g} mm)"
        remedy = "change it by fewer millimetres, or leave this image as it was drawn and say so"
        raise MaskError([Finding("error", "empty-mask", file, seen, "a muscle that is larger", remedy, field="mask")])
    return changed


def _changed(mask: Mask, mm_per_pixel: tuple[float, float], kind: Kind, mm: float) -> Mask:
    if kind == "dilate":
        return _within(mask, mm_per_pixel, mm)
    if kind == "erode":
        return ~_within(~mask, mm_per_pixel, mm)
    down, right = (round(mm * part / size) for part, size in zip(DIRECTIONS[kind], mm_per_pixel, strict=True))
    moved = np.zeros_like(mask)
    height, width = mask.shape
    if abs(down) < height and abs(right) < width:
        rows, columns = _overlap(down, height), _overlap(right, width)
        moved[rows[1], columns[1]] = mask[rows[0], columns[0]]
    return moved


def _within(mask: Mask, mm_per_pixel: tuple[float, float], mm: float) -> Mask:
    """Pixels whose centre lies within ``mm`` of the centre of a pixel of the mask."""
    if not mask.any():
        return mask.copy()
    distance = distance_transform_edt(~mask, sampling=mm_per_pixel)
    return np.asarray(distance <= mm + _TOUCH)


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Where along an axis pixels come from, and where they go."""
    return slice(max(-by, 0), size - max(by, 0)), slice(max(by, 0), size + min(by, 0))
