"""Outlines that bound no clear area: open ones, lines, and those that cross themselves.

Where a network learns from an outline, and where areas are measured, nobody may guess what its author meant.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import Finding, Severity

MOST_POINTS = 3000
"""Of one outline: a hand sets some ten, and an outline that follows every pixel of a muscle has a thousand."""

MOST_POINTS_IN_ALL = 12_000
"""Of all outlines of a file: a second's work, and ten muscles with a point on every pixel of their edge."""

MOST_FAULTS = 20
"""Faults of one file that are told; it has to be drawn again whatever else there is."""

DOUBTFUL = 0.01
"""Share of an outline's area that may be inside or outside, by how crossings are read, before it must be drawn again:
a slip of the hand at the last point makes a loop of a few pixels."""

BEYOND = 0.02
"""Share of the picture's longer side by which a corner may lie beyond it: a hand slips over an edge, not further."""

Outline = NDArray[np.float64]
"""(n, 2) x, y of corners."""

_CHUNK = 512
_LEAST = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}  # points
_LINES = ("line", "linestrip", "point", "points")
_Fault = tuple[Severity, str, str, str, str]  # severity, rule, seen, expected, remedy


def outline_faults(path: Path, wanted: Callable[[str], bool]) -> list[Finding]:
    """What is wrong with the wanted outlines of a LabelMe file; findings without a file, whose field is the label.

    Args:
        path: LabelMe JSON.
        wanted: whether outlines of this label count; the others may look as they like.

    Returns:
        An error for each outline that bounds no clear area; a note for each that crosses itself by next to nothing.
    """
    found: list[Finding] = []
    points = 0
    page = json.loads(path.read_text(encoding="utf-8-sig"))
    before: dict[str, list[_Drawn]] = {}
    for number, shape in enumerate(page["shapes"], start=1):
        label = str(shape["label"])
        points += len(shape.get("points") or []) if wanted(label) else 0
        fault = _too_many(points)
        if not fault and wanted(label):
            fault = _fault(shape) or _misplaced(number, shape, page, before.setdefault(label, []))
        if fault:
            severity, rule, seen, expected, remedy = fault
            found.append(Finding(severity, rule, "", f"shape {number}: {seen}", expected, remedy, field=label))
        if points > MOST_POINTS_IN_ALL or len(found) >= MOST_FAULTS:
            break
    return found


def _too_many(points: int) -> _Fault | None:
    if points <= MOST_POINTS_IN_ALL:
        return None
    seen, expected = f"{points} points so far", f"at most {MOST_POINTS_IN_ALL} in all outlines of a file"
    return "error", "labelme", seen, expected, "draw them with fewer points"


def _fault(shape: dict[str, Any]) -> _Fault | None:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points") or []
    close = "close the outline of the muscle, or remove the shape"
    if kind in _LINES:
        return "error", "open-outline", f"a {kind}, which bounds no area", "a closed outline", close
    if kind not in _LEAST:
        return None  # whoever fills it says so
    odd = next((k for k, point in enumerate(points, start=1) if not _is_point(point)), 0)
    if odd:
        remedy = "save the file with LabelMe, or draw the outline again"
        return "error", "labelme", f"point {odd} of {len(points)} is no x and y", "two numbers in pixels", remedy
    if len(points) < (least := _LEAST[kind]):
        seen = f"a {kind} of {len(points)} point{'' if len(points) == 1 else 's'}"
        return "error", "open-outline", seen, f"at least {least} points", close
    return _of_polygon(points) if kind == "polygon" else None


def _of_polygon(points: list[Any]) -> _Fault | None:
    if len(points) > MOST_POINTS:
        remedy = "draw it with fewer points"
        return "error", "labelme", f"an outline of {len(points)} points", f"at most {MOST_POINTS}", remedy
    return _crossing(np.array(points, dtype=np.float64))


def _is_point(point: object) -> bool:
    """Two finite numbers."""
    if not isinstance(point, list) or len(point) != 2:
        return False
    return all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in point)


def _misplaced(number: int, shape: dict[str, Any], page: dict[str, Any], before: "list[_Drawn]") -> _Fault | None:
    """Beyond the picture, or within another outline of the label; an AI mask need not fill its box."""
    kind = shape.get("shape_type", "polygon")
    if kind not in _LEAST:
        return None
    return _beyond(shape, page) or (None if kind == "mask" else _inside(number, shape, before))


def _beyond(shape: dict[str, Any], page: dict[str, Any]) -> _Fault | None:
    """An outline whose corner lies clearly beyond the picture was drawn on another one, or moved."""
    if shape.get("shape_type", "polygon") == "circle":
        return None  # its second point may lie anywhere on its edge
    points, size = np.array(shape["points"], dtype=np.float64), np.array([page["imageWidth"], page["imageHeight"]])
    away = np.maximum(-points, points - size).max(axis=1)
    most, limit = float(away.max()), BEYOND * float(size.max())
    if most <= limit:
        return None
    x, y = points[int(away.argmax())]
    seen = f"a corner at x {x:.0f}, y {y:.0f}, {most:.0f} pixels beyond the picture, {size[0]} wide and {size[1]} high"
    return "error", "outline-beyond", seen, f"at most {limit:.0f} pixels", "check that it was drawn on this picture"


class _Drawn(NamedTuple):
    """An outline that was looked at: the number of its shape, its corners, and the box around them."""

    number: int
    outline: Outline
    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, number: int, outline: Outline) -> "_Drawn":
        """With its box."""
        (x0, y0), (x1, y1) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
        return cls(number, outline, (x0, y0, x1, y1))


def _inside(number: int, shape: dict[str, Any], before: list[_Drawn]) -> _Fault | None:
    """One outline within another of the same label may be a hole, or drawn twice: LabelMe knows no holes."""
    own = _Drawn.of(number, _corners(shape))
    found = None
    for other in before:
        for inner, outer in ((own, other), (other, own)):
            if found is None and _lies_in(inner, outer):
                share = _area(inner.outline) / max(_area(outer.outline), 1e-9)
                found = other.number, share, inner is own
    before.append(own)
    if found is None:
        return None
    shape_number, share, is_inner = found
    seen = f"it lies inside shape {shape_number} of the same label, and has {share:.0%} of its area"
    if not is_inner:
        seen = f"it lies around shape {shape_number} of the same label, which has {share:.0%} of its area"
    expected = "one outline for each piece; pieces of one label are joined, and a hole would be filled"
    if share <= DOUBTFUL:
        return "note", "outline-inside", seen, expected, "nothing to do"
    remedy = "remove the one that is too many; join a hole to the outline by a slit"
    return "error", "outline-inside", seen, expected, remedy


def _corners(shape: dict[str, Any]) -> Outline:
    """Corners of an outline, as (n, 2) x, y; of a circle, 64 points of its edge."""
    kind = shape.get("shape_type", "polygon")
    points: Outline = np.array(shape["points"], dtype=np.float64)
    if kind == "circle":
        turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        edge: Outline = float(np.hypot(*(points[1] - points[0]))) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        edge += points[0]
        return edge
    if kind != "polygon":
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)
    return points


def _lies_in(inner: _Drawn, outer: _Drawn) -> bool:
    """Whether every corner of one outline lies within the other, not on it."""
    (x0, y0, x1, y1), (left, top, right, bottom) = inner.box, outer.box
    if x0 < left or y0 < top or x1 > right or y1 > bottom:
        return False
    contour = outer.outline.astype(np.float32)[:, None]
    return all(cv2.pointPolygonTest(contour, (float(x), float(y)), measureDist=False) > 0 for x, y in inner.outline)


def _area(points: Outline) -> float:
    x, y = points.T
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2)


def _crossing(points: NDArray[np.float64]) -> _Fault | None:
    crossings = self_crossings(points)
    if not crossings:
        return None
    times = "once" if crossings == 1 else f"{crossings} times"
    share, expected = doubtful_share(points), "an outline that does not cross itself"
    if share <= DOUBTFUL:
        return "note", "crossed-outline", f"the outline crosses itself {times}, by a hair", expected, "nothing to do"
    seen = f"the outline crosses itself {times}; {share:.0%} of its area may be inside or outside"
    return "error", "crossed-outline", seen, expected, "move the points that are out of order, or draw it again"


def self_crossings(points: NDArray[np.float64]) -> int:
    """How often a closed outline crosses itself; edges that only touch, or run along each other, do not cross.

    Args:
        points: (n, 2) x, y; the last point is joined to the first.
    """
    start = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]  # a double click sets a point twice
    end, n = np.roll(start, -1, axis=0), len(start)
    count = 0
    for first in range(0, n, _CHUNK):
        a, b = start[first : first + _CHUNK, None], end[first : first + _CHUNK, None]
        across = (_side(a, b, start[None]) * _side(a, b, end[None]) < 0) & (
            _side(start[None], end[None], a) * _side(start[None], end[None], b) < 0
        )
        later = np.arange(n) > np.arange(first, min(first + _CHUNK, n))[:, None]
        count += int((across & later).sum())
    return count


def _side(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    """On which side of the line from a to b the point c lies: 1, -1, or 0 on it."""
    (ax, ay), (bx, by), (cx, cy) = (np.moveaxis(p, -1, 0) for p in (a, b, c))
    side: NDArray[np.float64] = np.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    return side


def doubtful_share(points: NDArray[np.float64]) -> float:
    """Share of the area within an outline on which readings of its crossings differ, 0 to 1.

    The even-odd rule fills what the outline goes round an odd number of times; the area by Gauss' formula counts each
    part as often as the outline goes round it, with its sign. They differ where an outline crosses itself, and there
    alone.
    """
    x, y = points.T
    signed = abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2)
    filled = _even_odd_area(points)
    return abs(filled - signed) / max(filled, signed, 1e-9)


def _even_odd_area(points: NDArray[np.float64]) -> float:
    """Area by the even-odd rule, from where the outline crosses 1,000 lines across it."""
    start, end = points, np.roll(points, -1, axis=0)
    low, high = float(points[:, 1].min()), float(points[:, 1].max())
    step = (high - low) / 1000
    total = 0.0
    for level in low + step * (np.arange(1000) + 0.5):
        cut = (start[:, 1] <= level) != (end[:, 1] <= level)
        (x0, y0), (x1, y1) = start[cut].T, end[cut].T
        x = np.sort(x0 + (level - y0) * (x1 - x0) / (y1 - y0))
        total += float((x[1::2] - x[::2]).sum()) * step
    return total
