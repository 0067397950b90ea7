"""The outline of a scanner's picture that is no rectangle: a panorama, a fan, a trapezoid.

Text and rulers stand apart from such a picture, or are too thin to count. What cannot be told apart is not guessed.
"""

import cv2
import numpy as np

from sarco_models.frames import Box
from sarco_models.sides import BLOCK, FAINT, NOISE, STROKE, TEXTURE, Inside, Pixels, Screen, flat_levels

_RING = 32  # pixels around the picture whose level is the screen's
_MAX_STROKE = 12  # pixels; half the height of the largest text that may touch a picture


def outline(screen: Screen, core: Box) -> tuple[Box, Inside] | None:
    """The box around the picture, and which of the box's pixels are picture; None where that is not clear.

    Args:
        screen: the frame; of a lossy one whole blocks are inside or outside, and those at the border are outside.
        core: the box around the picture to some ten pixels.
    """
    away = _away(screen, core)
    if away is None:
        return None
    solid = _solid_blocks(screen, away) if screen.lossy else _solid_pixels(screen, away)
    side = min(core[2] - core[0], core[3] - core[1])
    solid = _largest(_opened(solid, min(_MAX_STROKE, side // 16)))
    x, y, width, height = cv2.boundingRect(solid)
    inside = solid[y : y + height, x : x + width].astype(np.bool_)
    if not 0.3 < inside.mean() < 0.9:  # a full box was no rectangle because something touches it
        return None
    if not screen.lossy and not _stands_alone(away, solid):
        return None
    return (x, y, x + width, y + height), inside


def _away(screen: Screen, core: Box) -> Pixels | None:
    """(rows, columns) distance from the level of the screen around the core, in grey levels."""
    x0, y0, x1, y1 = core
    around = np.s_[max(0, y0 - _RING) : y1 + _RING, max(0, x0 - _RING) : x1 + _RING]
    counts = flat_levels(screen.pixels[around], screen.span[around])
    if not counts.any():
        return None
    level = int(counts.argmax())
    return np.where(screen.pixels > level, screen.pixels - np.uint8(level), np.uint8(level) - screen.pixels)


def _solid_pixels(screen: Screen, away: Pixels) -> Pixels:
    """What is textured and not on the screen's level, with the gaps of dark speckle closed."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    textured = (away > 0) & (screen.span >= TEXTURE)  # a panel of another level is flat
    drawn = cv2.morphologyEx(textured.astype(np.uint8), cv2.MORPH_CLOSE, disc)
    return _filled(_largest(np.asarray(drawn, dtype=np.uint8)))


def _solid_blocks(screen: Screen, away: Pixels) -> Pixels:
    """Blocks of faint texture, or mostly off the screen's level; strokes on the screen's level are neither."""
    rows, columns = screen.pixels.shape
    below, right = -rows % BLOCK, -columns % BLOCK
    off = cv2.copyMakeBorder((away > STROKE // 2).astype(np.float32), 0, below, 0, right, cv2.BORDER_REPLICATE)
    mostly_off = cv2.resize(off, screen.ranges.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    textured = (screen.ranges >= FAINT) & ((screen.ranges < STROKE) | mostly_off)
    solid = _filled(_largest(textured.astype(np.uint8)))
    solid = np.asarray(cv2.erode(solid, np.ones((3, 3), dtype=np.uint8), borderValue=1), dtype=np.uint8)
    return np.ascontiguousarray(solid.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)[:rows, :columns])


def _opened(shape: Pixels, radius: int) -> Pixels:
    """Without what is narrower than two radii; by distances, for a large disc is slow to slide."""
    padded = np.pad(shape, 1, mode="edge")
    far = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > radius
    near = cv2.distanceTransform((~far).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius
    return np.ascontiguousarray(near[1:-1, 1:-1].astype(np.uint8) & shape)


def _filled(shape: Pixels) -> Pixels:
    contours, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(shape), contours, -1, 1, cv2.FILLED), dtype=np.uint8)


def _largest(shape: Pixels) -> Pixels:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(shape, connectivity=4)
    if count < 2:
        return np.zeros_like(shape)
    return np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()), dtype=np.uint8)


def _stands_alone(away: Pixels, solid: Pixels) -> bool:
    """Whether next to nothing is drawn along the outline but the ticks of a ruler."""
    ring = away[cv2.dilate(solid, np.ones((7, 7), dtype=np.uint8)) > solid]
    return ring.size == 0 or bool((ring > 0).mean() < 0.05 and (ring > NOISE).mean() < 0.025)
