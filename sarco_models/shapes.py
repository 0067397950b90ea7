"""What masks look like, and within which range those lie that people have drawn.

A range follows from sums over hospitals (:class:`ShapeSums`), in which every participant counts once. They travel as
number, mean and standard deviation of logarithms (:func:`told_shapes`), and nothing of fewer people than may be shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric

Mask = NDArray[np.bool_]

FEWEST_DRAWN = 10
"""Participants whose drawn muscles a range is made of."""

SPREAD = 3.5
"""Standard deviations of the logarithm on both sides of the mean: nearly everybody."""

MEASURED = ("area_cm2", "aspect", "convexity")
LOGARITHMS = {"log_area_cm2": (-12.0, 9.0), "log_aspect": (-0.01, 9.0), "log_convexity": (-9.0, 0.01)}
"""Names under which the logarithms of :data:`MEASURED` are told, and between which numbers a mean of each lies."""
SMALLER_BELLY = 1 / 3
"""Least area of a muscle's second belly, as a share of the first one's: the frame need not lie in the middle."""

_WORDS = {"area_cm2": "area in cm2", "aspect": "width over thickness", "convexity": "share of its convex hull"}


@dataclass(frozen=True)
class Shape:
    """What a mask looks like.

    Attributes:
        area_cm2: None without spacing.
        aspect: longer over shorter side of the smallest rectangle around the largest piece.
        convexity: area of the largest piece over that of its convex hull.
        fragments: pieces beside the largest and its other belly (:func:`bellies_of`).
        fragments_share: of the area that lies in them.
        holes_share: area of holes over area with holes filled.
        sides: of the frame that the mask touches: top, bottom, left, right.
        bellies: 1, or 2.
    """

    area_cm2: float | None
    aspect: float
    convexity: float
    fragments: int
    fragments_share: float
    holes_share: float
    sides: tuple[str, ...]
    bellies: int = 1

    @staticmethod
    def of(mask: Mask, mm_per_pixel: tuple[float, float] | None) -> Shape:
        """Shape of a mask.

        Args:
            mask: (height, width) of the frame.
            mm_per_pixel: (row, column); None = unknown: the aspect is then of pixels.

        Raises:
            UndefinedMetric: it is empty.
        """
        if not mask.any():
            raise UndefinedMetric("an empty mask has no shape: report that nothing was found")
        pieces, areas = pieces_of(mask)
        bellies = bellies_of(pieces, areas)
        _, outline = _filled(pieces == bellies[0])
        points = outline.astype(np.float32) * np.array((mm_per_pixel or (1.0, 1.0))[::-1], dtype=np.float32)
        hull = float(cv2.contourArea(cv2.convexHull(points)))
        short, long = sorted(cv2.minAreaRect(points)[1])
        everything = _filled(mask)[0]
        return Shape(
            area_cm2=float(mask.sum()) * math.prod(mm_per_pixel) / 100 if mm_per_pixel else None,
            aspect=(long + 1e-6) / (short + 1e-6) if short else math.inf,
            convexity=min(1.0, float(cv2.contourArea(points)) / hull) if hull > 0 else 1.0,
            fragments=len(areas) - len(bellies),
            fragments_share=1 - float(sum(areas[k - 1] for k in bellies) / areas.sum()),
            holes_share=1 - float(mask.sum() / max(everything.sum(), 1)),
            sides=_sides(mask),
            bellies=len(bellies),
        )

    @property
    def logarithms(self) -> NDArray[np.float64]:
        """Of :data:`MEASURED`; NaN for what is unknown."""
        values = [self.area_cm2, self.aspect, self.convexity]
        return np.array([math.log(v) if v and math.isfinite(v) else math.nan for v in values])


def pieces_of(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(height, width) number of each pixel's piece, from 1, and (pieces,) pixels of each; corners join nothing."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return np.asarray(pieces), np.asarray(stats[1:, cv2.CC_STAT_AREA])


def bellies_of(pieces: NDArray[np.int32], areas: NDArray[np.int32]) -> tuple[int, ...]:
    """Number of the largest piece, and of its other belly where it has one, as :func:`pieces_of` counts them.

    The rectus abdominis seen from between its halves: the frame cuts off one at its left and the other at its right;
    they lie at the same depth, and the smaller one has :data:`SMALLER_BELLY` of the larger one's area or more.
    """
    largest = 1 + int(areas.argmax())
    like = [1 + int(k) for k in np.flatnonzero(areas >= SMALLER_BELLY * areas.max()) if 1 + k != largest]
    others = [k for k in like if _face_each_other(pieces == largest, pieces == k)]
    return largest, *sorted(others, key=lambda k: -areas[k - 1])[:1]


def _face_each_other(one: Mask, other: Mask) -> bool:
    beyond = [{name for name in _sides(mask) if name in ("left", "right")} for mask in (one, other)]
    apart = len(beyond[0]) == len(beyond[1]) == 1 and beyond[0] != beyond[1]
    return apart and bool((one.any(axis=1) & other.any(axis=1)).any())


def _filled(mask: Mask) -> tuple[Mask, NDArray[np.int32]]:
    """The mask without holes, and (n, 2) x, y of its longest outline."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(mask.shape, dtype=np.uint8), outlines, -1, 1, cv2.FILLED)
    return np.asarray(filled, dtype=np.bool_), np.asarray(max(outlines, key=len)[:, 0])


def _sides(mask: Mask) -> tuple[str, ...]:
    edges = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
    return tuple(name for name, pixels in edges.items() if pixels.any())


@dataclass(frozen=True, eq=False)
class ShapeSums:
    """Sums over participants of the logarithms of :data:`MEASURED`, for one muscle; they add up across hospitals.

    Attributes:
        count: participants with a value, for each number.
        total: sum of the participants' means.
        squares: sum of their squares.
    """

    count: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @staticmethod
    def of(shapes: Sequence[Shape], owners: Sequence[str]) -> ShapeSums:
        """Of drawn masks and whose they are; the mean over a participant's images counts once."""
        rows = np.array([s.logarithms for s in shapes]).reshape(len(shapes), len(MEASURED))
        sums = ShapeSums(*np.zeros((3, len(MEASURED))))
        for person in dict.fromkeys(owners):
            own = rows[[owner == person for owner in owners]]
            known = np.isfinite(own).any(axis=0)
            mean = np.nansum(own, axis=0) / np.maximum(np.isfinite(own).sum(axis=0), 1)
            sums = sums + ShapeSums(known.astype(np.float64), mean * known, mean**2 * known)
        return sums

    def __add__(self, other: ShapeSums) -> ShapeSums:
        """Of both groups of participants together."""
        return ShapeSums(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def range(self, fewest: int = FEWEST_DRAWN) -> ShapeRange:
        """Within which nearly everybody's muscle lies.

        Raises:
            UndefinedMetric: fewer than ``fewest`` participants.
        """
        if (self.count < fewest).any():
            people = int(self.count.min())
            raise UndefinedMetric(
                f"shapes of {people} participants; a range is made of {fewest} or more: draw more masks"
            )
        mean = self.total / self.count
        sd = np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))
        reach = SPREAD * np.maximum(sd, 0.02)
        return ShapeRange(tuple(np.exp(mean - reach).tolist()), tuple(np.exp(mean + reach).tolist()))


def told_shapes(sums: Mapping[str, ShapeSums], min_cell: int) -> dict[str, float]:
    """``MUSCLE.LOGARITHM.n``, ``.mean`` and ``.sd`` over participants; what fewer than ``min_cell`` show is absent."""
    found: dict[str, float] = {}
    for muscle, of in sums.items():
        for name, n, total, squares in zip(LOGARITHMS, of.count, of.total, of.squares, strict=True):
            if n >= max(min_cell, 1):
                spread = math.sqrt(max(float(squares - total**2 / n), 0.0) / max(n - 1, 1))
                parts = {"n": float(n), "mean": float(total / n), "sd": spread}
                found |= {f"{muscle}.{name}.{part}": value for part, value in parts.items()}
    return found


def shape_sums(told: Mapping[str, float]) -> dict[str, ShapeSums]:
    """The sums that :func:`told_shapes` has told; other names are left alone."""
    found: dict[str, ShapeSums] = {}
    for stem in dict.fromkeys(name.rpartition(".")[0] for name in told):
        muscle, _, logarithm = stem.partition(".")
        if logarithm not in LOGARITHMS:
            continue
        of = found.setdefault(muscle, ShapeSums(*np.zeros((3, len(LOGARITHMS)))))
        k, (n, mean, sd) = list(LOGARITHMS).index(logarithm), (told[f"{stem}.{part}"] for part in ("n", "mean", "sd"))
        of.count[k], of.total[k], of.squares[k] = n, n * mean, (n - 1) * sd**2 + n * mean**2
    return found


@dataclass(frozen=True)
class ShapeRange:
    """Smallest and largest plausible value of each of :data:`MEASURED`."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """For model.json."""
        return {name: [low, high] for name, low, high in zip(MEASURED, self.low, self.high, strict=True)}

    @staticmethod
    def from_dict(stored: Mapping[str, Sequence[float]]) -> ShapeRange:
        """Inverse of :meth:`to_dict`."""
        low, high = zip(*((float(stored[name][0]), float(stored[name][1])) for name in MEASURED), strict=True)
        return ShapeRange(low, high)

    def beyond(self, shape: Shape) -> Iterator[tuple[float, str]]:
        """How far outside (as a ratio above 1) and in which words, for each number outside the range."""
        for name, low, high in zip(MEASURED, self.low, self.high, strict=True):
            value = getattr(shape, name)
            rounder = name == "convexity" and value is not None and value > high  # than anybody draws: no fault
            if value is None or rounder or low <= value <= high:
                continue
            ratio = low / max(value, 1e-9) if value < low else value / high
            yield ratio, f"{_WORDS[name]} {value:.2g}, of drawn ones {low:.2g} to {min(high, 99):.2g}"
