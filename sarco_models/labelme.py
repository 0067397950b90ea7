"""Outlines as LabelMe 5 keeps them in JSON, filled to the pixel.

LabelMe's origin is the top left corner of the first pixel, so pixel (row, column) has its centre at x = column + .5,
y = row + .5, and is inside when its centre is.
"""

import json
from base64 import b64decode
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sarco_models.errors import Finding, MaskError
from sarco_models.frames import MAX_PIXELS

_OUTLINES = ("polygon", "rectangle", "circle", "mask")
_LINES = ("line", "linestrip", "point", "points")

MAX_FILLED = 500_000_000
"""Outlines times pixels of the image: a second's work, and some hundred muscles on a frame."""

MAX_CROSSINGS = 200
"""How often an outline may cross each of the image's rows on average: a muscle's does twice."""


def mask_refusal(rule: str, seen: str, expected: str, remedy: str) -> MaskError:
    """An error whose file name :func:`sarco_models.masks.read_mask` fills in."""
    return MaskError([Finding("error", rule, "", seen=seen, expected=expected, remedy=remedy)])


def read_outlines(path: Path) -> dict[str, Callable[[], NDArray[np.bool_]]]:
    """For each label, by name, what draws its (rows, columns) mask; outlines of one label are one mask.

    Lines and points have no area and are left out.

    Raises:
        MaskError: with one finding without a file.
    """
    try:
        page = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        raise mask_refusal("labelme", "JSON that is damaged or cut short", "a whole file", "save it again") from None
    shapes, height, width = page.get("shapes"), page.get("imageHeight"), page.get("imageWidth")
    if not (isinstance(shapes, list) and isinstance(height, int) and isinstance(width, int)):
        expected = "shapes, imageHeight and imageWidth"
        raise mask_refusal("labelme", "JSON without them", expected, "save the annotation with LabelMe 5")
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise mask_refusal("labelme", f"{height} x {width} pixels", f"at most {MAX_PIXELS:,}", "save it with LabelMe 5")
    outlines: dict[str, list[dict[str, Any]]] = {}
    for shape in shapes:
        if shape.get("shape_type", "polygon") not in _LINES:
            outlines.setdefault(str(shape["label"]), []).append(shape)
    if sum(len(drawn) for drawn in outlines.values()) * height * width > MAX_FILLED:
        seen = f"{sum(len(drawn) for drawn in outlines.values())} outlines on {height} x {width} pixels"
        raise mask_refusal(
            "labelme", seen, f"at most {MAX_FILLED:,} pixels to fill", "leave the muscle's outline alone"
        )
    return {name: partial(_union, outlines[name], (height, width)) for name in outlines}


def _union(shapes: list[dict[str, Any]], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, dtype=np.bool_)
    for shape in shapes:
        mask |= _inside(shape, size)
    return mask


def _inside(shape: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside one outline."""
    kind = shape.get("shape_type", "polygon")
    if kind not in _OUTLINES:
        raise mask_refusal("labelme", f"a shape of type {kind}", ", ".join(_OUTLINES), "draw it as a polygon")
    points = np.array(shape.get("points"), dtype=float)
    least = 3 if kind == "polygon" else 2
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < least or not np.isfinite(points).all():
        expected = f"at least {least} points of x and y in pixels"
        raise mask_refusal("labelme", f"a {kind} without them", expected, "draw the outline again")
    if kind == "circle":
        return _inside_circle(points[0], points[1], size)
    if kind == "mask":
        return _of_picture(shape.get("mask"), points, size)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return inside_polygon(points, size)


def _inside_circle(centre: NDArray[np.float64], edge: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """LabelMe keeps a circle as its centre and one point of its edge."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    squared = (columns + 0.5 - centre[0]) ** 2 + (rows + 0.5 - centre[1]) ** 2
    mask: NDArray[np.bool_] = squared <= float(((edge - centre) ** 2).sum())
    return mask


def _of_picture(text: object, points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """LabelMe's AI tool keeps the pixels between two corners, both included, as a PNG in base64."""
    left, top = (round(float(x)) for x in points.min(axis=0))
    mask = np.zeros(size, dtype=np.bool_)
    expected, remedy = "a PNG that fits between two corners inside the picture", "draw it as a polygon"
    try:
        with Image.open(BytesIO(b64decode(str(text), validate=True)), formats=("PNG",)) as picture:
            place = mask[top : top + picture.height, left : left + picture.width]
            if min(left, top) < 0 or place.shape != (picture.height, picture.width):
                raise mask_refusal("labelme", f"a mask of {picture.height} x {picture.width}", expected, remedy)
            place[:] = np.asarray(picture.convert("L")) > 0
    except (ValueError, OSError):
        raise mask_refusal("labelme", "a mask that is no PNG", expected, remedy) from None
    return mask


def inside_polygon(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd rule at pixel centres.

    LabelMe's origin is the top left corner of the first pixel, so pixel (row, column) has its centre at
    x = column + .5, y = row + .5. Pillow's and LabelMe's own filling add the outline's pixels: 5 % too much area on a
    muscle of 30 x 90 pixels, and none here.

    Args:
        points: (n, 2) x, y in pixels; the last point is joined to the first.
        size: rows and columns.
    """
    height, width = size
    start, end = points, np.roll(points, -1, axis=0)
    downward = (start[:, 1] < end[:, 1])[:, None]
    (x0, y0), (x1, y1) = np.where(downward, start, end).T, np.where(downward, end, start).T
    first, last = (np.clip(np.ceil(y - 0.5), 0, height).astype(int) for y in (y0, y1))
    if (last - first).sum() > MAX_CROSSINGS * height:
        seen = f"an outline of {len(points)} points that crosses itself all over"
        raise mask_refusal("labelme", seen, "the outline of a muscle", "draw it again")
    edge = np.repeat(np.arange(len(points)), last - first)  # once for each row that it crosses
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    x = x0[edge] + (rows + 0.5 - y0[edge]) * ((x1 - x0)[edge] / (y1 - y0)[edge])
    columns = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
    crossings = np.zeros((height, width + 1), dtype=np.bool_)
    np.logical_xor.at(crossings, (rows, columns), True)
    filled = crossings[first.min() : last.max()]  # beyond these rows there is nothing
    np.logical_xor.accumulate(filled, axis=1, out=filled)
    return crossings[:, :width]
