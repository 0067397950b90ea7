"""The four sides of a scanner's picture: where whole lines of pixels fall back to the level of the screen around it.

A line of the screen is one grey level but for strokes (text, ticks); in a line of a picture hardly any pixel equals its
neighbour, even where the tissue is dark. A side that is not clear is not guessed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.frames import Box

Pixels = NDArray[np.uint8]
Inside = NDArray[np.bool_]
Levels = NDArray[np.bool_]
_Test = Callable[[Pixels], Inside]

BLOCK = 8
"""Pixels along a block of JPEG (ITU-T T.81 A.1), and along the cells in which texture is looked for."""

TEXTURE = 3
"""Range of grey levels in 9 x 9 pixels from which on they are not flat."""

NOISE = 6
"""Grey levels that lossy compression and resizing leave on a flat screen."""

FAINT, STROKE = 2, 56
"""Least ranges of grey levels in a cell of dark tissue, and in a cell with strokes."""

_BRIGHT = 200  # grey level; saturated skin is as flat as a screen
_BEYOND = 32  # pixels beside the picture whose level is the screen's
_PARTS = 16  # of a line
_CHUNK = 32  # lines looked at in one go


@dataclass(frozen=True, eq=False)
class Screen:
    """A frame in which a picture is looked for.

    Attributes:
        pixels: (rows, columns).
        span: (rows, columns) largest less smallest grey level in the 9 x 9 pixels around each.
        lossy: the screen is not quite flat around strokes and borders.
    """

    pixels: Pixels
    span: Pixels
    lossy: bool

    @classmethod
    def of(cls, pixels: Pixels, *, lossy: bool) -> "Screen":
        """A frame as it was read."""
        kernel = np.ones((BLOCK + 1, BLOCK + 1), dtype=np.uint8)
        span = np.asarray(cv2.dilate(pixels, kernel) - cv2.erode(pixels, kernel), dtype=np.uint8)
        return cls(pixels, span, lossy)

    @property
    def turned(self) -> "Screen":
        """Rows as columns."""
        return replace(self, pixels=_turned(self.pixels), span=_turned(self.span))

    @cached_property
    def ranges(self) -> Pixels:
        """(rows / 8, columns / 8) largest range of grey levels along the rows of each cell of JPEG's grid.

        Lossy compression smears a stroke over its block only: a block without strokes is flat on any screen.
        """
        kernel = np.ones((1, BLOCK), dtype=np.uint8)  # from 4 before to 3 after its anchor
        ranges = (cv2.dilate(self.pixels, kernel) - cv2.erode(self.pixels, kernel))[:, BLOCK // 2 :: BLOCK]
        return np.asarray(np.maximum.reduceat(ranges, np.arange(0, len(ranges), BLOCK), axis=0), dtype=np.uint8)

    def levels(self, along: tuple[int, int], edge: int, step: int) -> Levels:
        """(256,) whether a grey level fills flat areas beyond an edge."""
        first, last = sorted((edge, edge + step * _BEYOND))
        beyond = np.s_[max(0, first) : max(0, last), along[0] : along[1]]
        counts = flat_levels(self.pixels[beyond], self.span[beyond])
        return np.asarray(counts > 0.05 * counts.sum())


def flat_levels(pixels: Pixels, span: Pixels) -> NDArray[np.float32]:
    """(256,) how many pixels of each grey level lie in flat areas."""
    if not pixels.size:
        return np.zeros(256, dtype=np.float32)
    flat = (span < TEXTURE).astype(np.uint8)
    return np.asarray(cv2.calcHist([pixels], [0], flat, [256], [0, 256]), dtype=np.float32).ravel()


def _turned(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.transpose(pixels), dtype=np.uint8)


def rectangle(screen: Screen, core: Box) -> Box | None:
    """The rectangle whose sides are lines of the screen, looked for from inside the core outwards.

    Args:
        screen: the frame.
        core: the box around the picture to some ten pixels; dark parts may be missing, text close by may be in it.
    """
    x0, y0, x1, y1 = core
    turned = screen.turned
    for _ in range(2):  # the second time along the sides as found, no more as guessed
        upper = y0, y0 + int(0.6 * (y1 - y0))  # the deep part may be dark
        left, right = _edge(turned, upper, (x1, x0), -1), _edge(turned, upper, (x0, x1), 1)
        if left is None or right is None or right - left < 2 * BLOCK:
            return None
        x0, x1 = left + 1, right
        above, below = _edge(screen, (x0, x1), (y1, y0), -1), _bottom(screen, (x0, x1), (y0, y1))
        if above is None or below is None or below - above < 2 * BLOCK:
            return None
        y0, y1 = above + 1, below
    written = _is_written(screen, (x0, x1), y0, 1) or _is_written(screen, (x0, x1), y1, -1)
    return None if written else (x0, y0, x1, y1)


def _edge(screen: Screen, along: tuple[int, int], core: tuple[int, int], step: int) -> int | None:
    """The first row of the screen on the way from the core's first to its last row and beyond; None where unclear.

    On a screen that was never compressed or resized, flat lines begin where hazy ones do.
    """
    levels = screen.levels(along, core[1], step)
    for fifths in (4, 3, 2):  # text beside the picture may have widened the core: the way begins inside the picture
        start = core[0] + fifths * (core[1] - core[0]) // 5
        hazy = _first(screen, along, start, step, _hazy(levels))
        if hazy != start:
            break
    else:
        return None
    if screen.lossy:
        return hazy
    flat = _first(screen, along, start, step, _flat(levels))
    return flat if abs(flat - hazy) <= FAINT else None


def _first(screen: Screen, along: tuple[int, int], start: int, step: int, is_screen: _Test) -> int:
    """The first row of the screen, or the first outside the frame."""
    end = len(screen.pixels) if step > 0 else -1
    for first in range(start, end, _CHUNK * step):
        rows = np.arange(first, end, step)[:_CHUNK]
        empty = is_screen(screen.pixels[rows, along[0] : along[1]])
        if empty.any():
            return int(rows[empty.argmax()])
    return end


def _bottom(screen: Screen, along: tuple[int, int], core: tuple[int, int]) -> int | None:
    """As :func:`_edge`, but through dark tissue; None where that may go on."""
    levels, start = screen.levels(along, core[1], 1), sum(core) // 2
    cells = screen.ranges[:, -(-along[0] // BLOCK) : along[1] // BLOCK]
    textured, strokes = (cells >= FAINT).mean(axis=1), (cells >= STROKE).mean(axis=1)
    dark = (textured >= 0.9) & (strokes < 0.5)
    edge = _first(screen, along, start, 1, _hazy(levels))
    if screen.lossy:
        while dark[edge // BLOCK + 1 :][:1].any():  # the next row of cells, out of reach of the haze
            edge = _first(screen, along, (edge // BLOCK + 1) * BLOCK, 1, _hazy(levels))
    else:
        hazy, edge = edge, _first(screen, along, start, 1, _flat(levels))
        if edge - hazy > FAINT and not dark[hazy // BLOCK + 1 : -(-edge // BLOCK)].all():
            return None
    beyond = edge // BLOCK + 1
    unclear = (textured - strokes)[beyond : beyond + 4] > 0.25
    return None if unclear.any() else edge


def _is_written(screen: Screen, along: tuple[int, int], edge: int, inwards: int) -> bool:
    """Whether the outermost lines are text that touches the picture: strokes on the screen's level."""
    cell = BLOCK * (edge // BLOCK + (0 if inwards > 0 and edge % BLOCK == 0 else inwards))
    outermost = (edge, edge + 4) if inwards > 0 else (edge - 4, edge)
    on_screen = screen.levels(along, edge, -inwards)
    right = along[1] - (along[1] - along[0]) % BLOCK
    for first, last in (outermost, (cell, cell + BLOCK)):  # to the pixel, and in whole blocks
        lines = screen.pixels[first:last, along[0] : right]
        strokes = np.ptp(lines.reshape(len(lines), -1, BLOCK), axis=(0, 2)) >= STROKE
        level = int(np.median(lines))
        if strokes.mean() > 0.4 and on_screen[max(0, level - NOISE) : level + NOISE + 1].any():
            return True
    return False


def _level(lines: Pixels) -> Pixels:
    """(n,) median of some 128 pixels of each line; of all of them it is no better, and takes most of the time."""
    return np.asarray(np.median(lines[:, :: max(1, lines.shape[1] // 128)], axis=1).astype(np.uint8))


def _flat(levels: Levels) -> _Test:
    """Whether lines are one grey level but for strokes."""

    def flat(lines: Pixels) -> Inside:
        level = _level(lines)
        width = lines.shape[1] // _PARTS * _PARTS
        away = lines[:, :width] != level[:, None]
        touched = away.reshape(len(lines), _PARTS, -1).any(axis=2).mean(axis=1)
        # A drawn line at the picture's border is as flat as the screen.
        return np.asarray((touched < 0.25) & (levels[level] | (level < _BRIGHT)))

    return flat


def _hazy(levels: Levels) -> _Test:
    """Whether most of each line is close to one grey level: lossy compression smears strokes and borders."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(levels, NOISE), 2 * NOISE + 1)
    near = np.asarray(around.any(axis=1))

    def hazy(lines: Pixels) -> Inside:
        level = _level(lines)
        close = (np.abs(lines - level[:, None].astype(np.int16)) <= NOISE).mean(axis=1)
        return np.asarray((close > np.where(near[level], 0.66, 0.75)) & (near[level] | (level < _BRIGHT)))

    return hazy
