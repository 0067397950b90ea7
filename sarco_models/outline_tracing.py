"""Outlines of the pixels of a mask: closed loops half way between inside and outside, and slits that join holes.

Coordinates are x, y of pixel edges: the first pixel reaches from 0 to 1, so that a pixel is inside an outline when its
centre is (see :mod:`sarco_models.labelme`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up; (row, column)


def loops(mask: NDArray[np.bool_]) -> tuple[Points, list[Points]]:
    """The outer outline of one connected piece, and the outlines of its holes.

    An outline runs through the middle of each side between a pixel inside and one outside, as marching squares do, so
    that a staircase becomes a slope. It encloses the centres of exactly the pixels of the mask.

    Args:
        mask: (rows, columns), one piece connected by the sides of its pixels.

    Returns:
        (n, 2) x, y of each; the last point is joined to the first.
    """
    found = sorted(_walked(_sides(mask)), key=lambda loop: abs(_area(loop)), reverse=True)
    return found[0], found[1:]


def slit(outer: Points, holes: Sequence[Points]) -> Points:
    """One outline for a piece and its holes: each hole is walked from the nearest point and back again.

    By the even-odd rule the two sides of a slit undo each other, whatever they cross.
    """
    for hole in holes:
        apart = ((outer[:, None] - hole[None]) ** 2).sum(axis=2)
        at, start = np.unravel_index(int(apart.argmin()), apart.shape)
        around = np.concatenate([hole[start:], hole[: start + 1]])
        outer = np.concatenate([outer[: at + 1], around, outer[at:]])
    return outer


def _area(loop: Points) -> float:
    x, y = loop.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _sides(mask: NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """For each direction, the corners where a pixel's side begins that has the mask at its right hand only."""
    m = np.pad(mask, 1)
    inside = m[1:-1, 1:-1]
    shifts = ((0, 0), (0, 1), (1, 1), (1, 0))  # from the pixel's first corner to where its side begins
    beyond = (m[:-2, 1:-1], m[1:-1, 2:], m[2:, 1:-1], m[1:-1, :-2])  # above, right, below, left
    sides = []
    for (down, right), outside in zip(shifts, beyond, strict=True):
        rows, columns = np.nonzero(inside & ~outside)
        sides.append(set(zip((rows + down).tolist(), (columns + right).tolist(), strict=True)))
    return sides


def _walked(sides: list[set[tuple[int, int]]]) -> Iterator[Points]:
    """Sides joined into loops; where two pixels touch by a corner the turn is to the right, so they stay apart."""
    while any(sides):
        direction = next(d for d in range(4) if sides[d])
        corner = next(iter(sides[direction]))
        middles = []
        while corner in sides[direction]:
            sides[direction].remove(corner)
            (row, column), (down, right) = corner, _STEPS[direction]
            middles.append((column + right / 2, row + down / 2))
            corner = (row + down, column + right)
            turns = ((direction + 1) % 4, direction, (direction + 3) % 4)
            direction = next((turn for turn in turns if corner in sides[turn]), direction)
        yield np.array(middles, dtype=np.float64)
