"""Muscle masks as people draw them, laid on their frame's tissue region.

ITK-SNAP and 3D Slicer write NIfTI, NRRD, MHA and GIPL; other tools PNG; LabelMe JSON outlines. A mask is drawn on the
stored frame or on the tissue region alone: its size says which, and any other size is refused. Every failure is a
``MaskError``.
"""

import gzip
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from sarco_models.errors import Finding, MaskError
from sarco_models.images import MAX_PIXELS, Frame

MAX_LABELS = 64
"""More labels than any anatomist draws: the file is a picture, or a mask with smoothed edges."""

SPACING_TOLERANCE = 0.05
"""Largest relative difference between the mask's and the frame's millimetres per pixel."""

OUTSIDE_TOLERANCE = 0.05
"""Largest share of a mask's pixels outside the tissue region: a hand slips over an edge, but not further."""


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What a file holds before it is laid on a frame.

    Attributes:
        labels: for each label, by the name its tool shows, what draws its (rows, columns) mask.
        mm_per_pixel: (row, column); None when the format has none or holds the default of 1.
    """

    labels: dict[str, Callable[[], NDArray[np.bool_]]]
    mm_per_pixel: tuple[float, float] | None = None


def read_mask(path: Path, frame: Frame, *, label: str | int | None = None) -> NDArray[np.bool_]:
    """One label's mask, with the shape of ``frame.pixels``.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha, .gipl, .png or LabelMe .json file.
        frame: the frame that the mask was drawn on.
        label: which label, needed when there are several: a number, a LabelMe name, or a PNG colour such as "#ff0000".

    Raises:
        MaskError: with one finding that names the file.
    """
    try:
        drawing = _read_drawing(path)
        _check_spacing(drawing, frame)
        return _laid_on(_chosen(drawing, label), frame)
    except MaskError as refusal:
        raise MaskError(replace(f, file=path.name) for f in refusal.findings) from None
    except OSError as fault:
        seen = fault.strerror or "an incomplete or unknown image"
        finding = Finding(
            "error", "mask-file", path.name, seen, "a readable mask", "correct images.csv, or save it again"
        )
        raise MaskError([finding]) from None
    except Exception as fault:  # readers raise anything on damaged bytes
        seen = f"reading stopped ({type(fault).__name__})"
        remedy = "save it again, with the suffix of its format"
        raise MaskError([Finding("error", "mask-file", path.name, seen, _FORMATS, remedy)]) from None


_FORMATS = "NIfTI, NRRD, MHA, GIPL, PNG or LabelMe JSON"


def _refusal(rule: str, seen: str, expected: str, remedy: str) -> MaskError:
    """An error whose file name ``read_mask`` fills in."""
    return MaskError([Finding("error", rule, "", seen=seen, expected=expected, remedy=remedy)])


def _read_drawing(path: Path) -> _Drawing:
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"\x89PNG"):
        return _read_png(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return _read_labelme(path)
    return _read_volume(path)


# ---- choosing and placing --------------------------------------------------------------------------------------------


def _chosen(drawing: _Drawing, label: str | int | None) -> NDArray[np.bool_]:
    """Pixels of the wanted label, or of the only one."""
    present = "labels " + ", ".join(drawing.labels)
    if not drawing.labels:
        raise _refusal("empty-mask", "no labelled pixel", "a drawn muscle", "draw it, or leave the cell empty")
    if label is None and len(drawing.labels) > 1:
        raise _refusal("several-labels", present, "one label", "say which of them is the muscle")
    wanted = next(iter(drawing.labels)) if label is None else str(label)
    if wanted not in drawing.labels:
        raise _refusal("label", present, f"label {wanted}", "correct the label, or draw it")
    return drawing.labels[wanted]()


def _laid_on(mask: NDArray[np.bool_], frame: Frame) -> NDArray[np.bool_]:
    """A mask of the region as it is, a mask of the stored frame cut to the region."""
    if mask.shape == frame.pixels.shape:
        return _not_empty(mask)
    if mask.shape != frame.stored_shape:
        raise _misfit(mask.shape, frame)
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    inside = _not_empty(mask)[top : top + height, left : left + width]
    total, kept = int(mask.sum()), int(inside.sum())
    if total - kept > OUTSIDE_TOLERANCE * total:
        expected = f"at most {OUTSIDE_TOLERANCE:.0%} outside the tissue region"
        remedy = "check that the mask belongs to this image, and the region in calibration.csv"
        raise _refusal("mask-outside", f"{total - kept} of {total} pixels outside", expected, remedy)
    return np.ascontiguousarray(inside)


def _not_empty(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not mask.any():
        raise _refusal("empty-mask", "no pixel inside", "a drawn muscle", "draw it, or leave the cell empty")
    return mask


def _misfit(shape: tuple[int, ...], frame: Frame) -> MaskError:
    fits = {frame.pixels.shape, frame.stored_shape}
    sizes = " or ".join(f"{rows} x {columns}" for rows, columns in sorted(fits))
    remedy = "draw it on this image"
    if shape[::-1] in fits:
        remedy = "it fits with rows and columns exchanged: write it as (column, row), as ITK-SNAP does"
    return _refusal("mask-size", f"{shape[0]} x {shape[1]} pixels (rows x columns)", sizes, remedy)


def _check_spacing(drawing: _Drawing, frame: Frame) -> None:
    """A mask in other millimetres was drawn on another image, or on a resampled one."""
    if drawing.mm_per_pixel is None or frame.mm_per_pixel is None:
        return
    pairs = list(zip(drawing.mm_per_pixel, frame.mm_per_pixel, strict=True))
    if any(abs(mask_mm - frame_mm) > SPACING_TOLERANCE * frame_mm for mask_mm, frame_mm in pairs):
        (row, frame_row), (column, frame_column) = pairs
        seen = f"{row:.4g} x {column:.4g} mm per pixel"
        expected = f"{frame_row:.4g} x {frame_column:.4g} as in the image, within {SPACING_TOLERANCE:.0%}"
        raise _refusal("mask-spacing", seen, expected, "draw it on this image, or correct the spacing")


# ---- NIfTI, NRRD, MHA, GIPL ------------------------------------------------------------------------------------------


def _read_volume(path: Path) -> _Drawing:
    """One slice of labels through ITK, whose first axis runs along the row: index (column, row)."""
    reader: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]  # SimpleITK 2.5 carries no types
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = reader.GetSize()
    if len(size) > 3 or math.prod(size[2:]) != 1:
        remedy = "save the one slice that belongs to the image"
        raise _refusal("mask-slices", f"a volume of {' x '.join(map(str, size))}", "one slice", remedy)
    if math.prod(size) > MAX_PIXELS or reader.GetNumberOfComponents() != 1:
        raise _refusal("mask-size", f"{size[0]} x {size[1]} pixels", "one label image", "save the labels alone")
    spacing = reader.GetSpacing()
    values = sitk.GetArrayFromImage(reader.Execute()).reshape(size[1], size[0])
    _check_complete(path, reader, values)
    mm_per_pixel = None if spacing[0] == spacing[1] == 1 else (spacing[1], spacing[0])
    return _Drawing(_labels(_whole(values)), mm_per_pixel)


def _check_complete(path: Path, reader: Any, values: NDArray[Any]) -> None:
    """ITK (5.4) fills what a cut-off NIfTI or GIPL file lacks with whatever the memory held, and says nothing."""
    if reader.HasMetaDataKey("bitpix"):  # NIfTI, whose header may ask for scaling: stored bits are not those in memory
        needed = int(float(reader.GetMetaData("vox_offset"))) + values.size * int(reader.GetMetaData("bitpix")) // 8
    elif ".gipl" in path.name.lower():
        needed = 256 + values.nbytes
    else:
        return  # NRRD and MetaImage check themselves
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as content:
        found = len(content.read(needed + 1))
    if found < needed:
        raise _refusal("mask-file", f"{found} bytes", f"{needed} bytes as its header says", "copy or save it again")


def _whole(values: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Label values as whole numbers; probabilities and resampled masks are refused, never rounded."""
    if np.issubdtype(values.dtype, np.integer):
        return values
    odd = values[values != np.rint(values)]  # NaN differs from itself
    if odd.size:
        seen = f"{odd.size} fractional values such as {odd[0]:.4g}"
        raise _refusal(
            "float-mask", seen, "whole label numbers", "save the label map, not a probability or a resampled one"
        )
    return values.astype(np.int64)


def _labels(values: NDArray[Any], name: Callable[[int], str] = str) -> dict[str, Callable[[], NDArray[np.bool_]]]:
    """Labels other than the background 0, in order."""
    found: list[int] = np.unique(values[values != 0]).tolist()
    if len(found) > MAX_LABELS:
        raise _picture(f"{len(found)} different values")
    return {name(value): partial(np.equal, values, value) for value in found}


def _picture(seen: str) -> MaskError:
    remedy = "give the mask's file, not the image's, saved without smoothed edges"
    return _refusal("not-a-mask", seen, f"at most {MAX_LABELS} labels", remedy)


# ---- PNG -------------------------------------------------------------------------------------------------------------


def _read_png(path: Path) -> _Drawing:
    """Grey levels and palette indices are labels; so is each colour. Black, index 0 and full transparency are not.

    A palette whose first colour is not black was ordered by some program, so its indices mean nothing: colours count.
    """
    with Image.open(path, formats=("PNG",)) as picture:
        if math.prod(picture.size) > MAX_PIXELS:
            raise _picture(f"{picture.size[0]} x {picture.size[1]} pixels")
        indexed = picture.mode == "P" and (picture.getpalette() or [])[:3] == [0, 0, 0]
        if indexed or picture.mode in ("1", "L") or picture.mode.startswith("I"):
            return _Drawing(_labels(np.asarray(picture).astype(np.int32)))
        return _coloured(picture.convert("RGBA"))


def _coloured(picture: Image.Image) -> _Drawing:
    if picture.getcolors(4 * MAX_LABELS) is None:  # fully transparent pixels may hide a few more colours
        raise _picture(f"more than {4 * MAX_LABELS} colours")
    red, green, blue, alpha = np.moveaxis(np.asarray(picture).astype(np.int32), -1, 0)
    values = np.where(alpha > 0, red << 16 | green << 8 | blue, 0)
    return _Drawing(_labels(values, name=lambda value: f"#{value:06x}"))


# ---- LabelMe ---------------------------------------------------------------------------------------------------------

_OUTLINES = ("polygon", "rectangle", "circle")
_LINES = ("line", "linestrip", "point", "points")


def _read_labelme(path: Path) -> _Drawing:
    """Outlines of LabelMe 5; lines and points have no area and are left out. Outlines of one label are one mask."""
    page = json.loads(path.read_text(encoding="utf-8-sig"))
    shapes, height, width = page.get("shapes"), page.get("imageHeight"), page.get("imageWidth")
    if not (isinstance(shapes, list) and isinstance(height, int) and isinstance(width, int)):
        expected = "shapes, imageHeight and imageWidth"
        raise _refusal("labelme", "JSON without them", expected, "save the annotation with LabelMe 5")
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise _refusal("labelme", f"{height} x {width} pixels", f"at most {MAX_PIXELS:,}", "save it with LabelMe 5")
    outlines: dict[str, list[dict[str, Any]]] = {}
    for shape in shapes:
        if shape.get("shape_type", "polygon") not in _LINES:
            outlines.setdefault(str(shape["label"]), []).append(shape)
    return _Drawing({name: partial(_union, outlines[name], (height, width)) for name in outlines})


def _union(shapes: list[dict[str, Any]], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, dtype=np.bool_)
    for shape in shapes:
        mask |= _inside(shape, size)
    return mask


def _inside(shape: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside one outline."""
    kind = shape.get("shape_type", "polygon")
    if kind not in _OUTLINES:
        raise _refusal("labelme", f"a shape of type {kind}", ", ".join(_OUTLINES), "draw it as a polygon")
    points = np.array(shape.get("points"), dtype=float)
    least = 3 if kind == "polygon" else 2
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < least or not np.isfinite(points).all():
        expected = f"at least {least} points of x and y in pixels"
        raise _refusal("labelme", f"a {kind} without them", expected, "draw the outline again")
    if kind == "circle":
        return _inside_circle(points[0], points[1], size)
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return _inside_polygon(points, size)


def _inside_circle(centre: NDArray[np.float64], edge: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """LabelMe keeps a circle as its centre and one point of its edge."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    squared = (columns + 0.5 - centre[0]) ** 2 + (rows + 0.5 - centre[1]) ** 2
    mask: NDArray[np.bool_] = squared <= float(((edge - centre) ** 2).sum())
    return mask


def _inside_polygon(points: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Even-odd rule at pixel centres.

    LabelMe's origin is the top left corner of the first pixel, so pixel (row, column) has its centre at
    x = column + .5, y = row + .5. Pillow's and LabelMe's own filling add the outline's pixels: 5 % too much area on a
    muscle of 30 x 90 pixels, and none here.

    Args:
        points: (n, 2) x, y in pixels; the last point is joined to the first.
        size: rows and columns.
    """
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.bool_)
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = sorted((start, end), key=lambda point: float(point[1]))
        first, last = np.clip(np.ceil((y0 - 0.5, y1 - 0.5)), 0, height).astype(int)
        if first == last:
            continue
        rows = np.arange(first, last)
        x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= True
    mask: NDArray[np.bool_] = np.logical_xor.accumulate(crossings, axis=1)[:, :width]
    return mask
