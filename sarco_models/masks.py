"""Muscle masks as people draw them, laid on their frame's tissue region.

ITK-SNAP and 3D Slicer write NIfTI, NRRD, MHA and GIPL; other tools PNG; LabelMe JSON outlines. A mask is drawn on the
stored frame or on the tissue region alone: its size says which, and any other size is refused. Every failure is a
``MaskError``.
"""

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from sarco_models.errors import Finding, MaskError
from sarco_models.images import MAX_PIXELS, Frame
from sarco_models.labelme import mask_refusal, read_outlines
from sarco_models.outline_faults import outline_faults
from sarco_models.volume_headers import itk_reader

Read = TypeVar("Read")

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
        outlines: the file holds LabelMe's outlines.
    """

    labels: dict[str, Callable[[], NDArray[np.bool_]]]
    mm_per_pixel: tuple[float, float] | None = None
    outlines: bool = False


def read_mask(path: Path, frame: Frame, *, label: str | int | None = None) -> NDArray[np.bool_]:
    """One label's mask, with the shape of ``frame.pixels``.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha, .gipl, .png or LabelMe .json file.
        frame: the frame that the mask was drawn on.
        label: which label, needed when there are several: a number, a LabelMe name, or a PNG colour such as "#ff0000".

    Raises:
        MaskError: with one finding that names the file.
    """

    def read() -> NDArray[np.bool_]:
        drawing = _read_drawing(path)
        _check_spacing(drawing, frame)
        return _laid_on(_chosen(drawing, label), frame)

    return _reading(path, read)


@dataclass(frozen=True, eq=False)
class LabelFile:
    """All labels of one mask file, which was read once; each is drawn when it is asked for."""

    _path: Path
    _frame: Frame
    _drawing: _Drawing

    @property
    def names(self) -> tuple[str, ...]:
        """Labels that are drawn, by the names that their tool shows."""
        return tuple(self._drawing.labels)

    def mask(self, name: str) -> NDArray[np.bool_]:
        """(height, width) of the frame; empty where the label has no pixel there. Raises MaskError: see read_mask."""
        return _reading(self._path, lambda: _laid_on(self._drawing.labels[name](), self._frame, may_be_empty=True))

    def faults(self, wanted: Callable[[str], bool]) -> list[Finding]:
        """Wanted outlines that bound no clear area; see :func:`sarco_models.outline_faults.outline_faults`."""
        found = _reading(self._path, lambda: outline_faults(self._path, wanted) if self._drawing.outlines else [])
        return [replace(finding, file=self._path.name) for finding in found]


def open_labels(path: Path, frame: Frame) -> LabelFile:
    """All labels of a mask file, for a frame. Raises MaskError as :func:`read_mask` does."""

    def read() -> LabelFile:
        drawing = _read_drawing(path)
        _check_spacing(drawing, frame)
        return LabelFile(path, frame, drawing)

    return _reading(path, read)


def mask_labels(path: Path) -> tuple[str, ...]:
    """Labels that are drawn in a mask file, by the names that :func:`read_mask` takes. Raises MaskError as it does."""
    return _reading(path, lambda: tuple(_read_drawing(path).labels))


def _reading(path: Path, read: Callable[[], Read]) -> Read:
    """What ``read`` makes of the file; every failure becomes one finding that names it."""
    try:
        return read()
    except MaskError as refusal:
        raise MaskError(replace(f, file=path.name) for f in refusal.findings) from None
    except OSError as fault:
        seen = fault.strerror or "an incomplete or unknown image"
        finding = Finding(
            "error", "mask-file", path.name, seen, "a readable mask", "correct images.csv, or save it again"
        )
        raise MaskError([finding]) from None
    except Exception as fault:  # readers raise anything on damaged bytes
        seen = "cut off" if isinstance(fault, EOFError) else f"reading stopped ({type(fault).__name__})"
        remedy = "save it again, with the suffix of its format"
        raise MaskError([Finding("error", "mask-file", path.name, seen, _FORMATS, remedy)]) from None


_FORMATS = "NIfTI, NRRD, MHA, GIPL, PNG or LabelMe JSON"


def _read_drawing(path: Path) -> _Drawing:
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"\x89PNG"):
        return _read_png(path)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        outlines = read_outlines(path)
        if len(outlines) > MAX_LABELS:
            raise _picture(f"{len(outlines)} labels")
        return _Drawing(outlines, outlines=True)
    return _read_volume(path)


# ---- choosing and placing --------------------------------------------------------------------------------------------


def _chosen(drawing: _Drawing, label: str | int | None) -> NDArray[np.bool_]:
    """Pixels of the wanted label, or of the only one."""
    present = "labels " + ", ".join(drawing.labels)
    if not drawing.labels:
        raise mask_refusal("empty-mask", "no labelled pixel", "a drawn muscle", "draw it, or leave the cell empty")
    if label is None and len(drawing.labels) > 1:
        raise mask_refusal(
            "several-labels",
            present,
            "one label",
            "say which of them is the muscle in the column mask_label of images.csv",
        )
    wanted = next(iter(drawing.labels)) if label is None else str(label)
    if wanted not in drawing.labels:
        raise mask_refusal("label", present, f"label {wanted}", "correct the label, or draw it")
    return drawing.labels[wanted]()


def _laid_on(mask: NDArray[np.bool_], frame: Frame, *, may_be_empty: bool = False) -> NDArray[np.bool_]:
    """A mask of the region as it is, a mask of the stored frame cut to the region."""
    if mask.shape not in (frame.pixels.shape, frame.stored_shape):
        raise _misfit(mask.shape, frame)
    mask = mask if may_be_empty else _not_empty(mask)
    if mask.shape == frame.pixels.shape:
        return mask
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    inside = mask[top : top + height, left : left + width]
    total, kept = int(mask.sum()), int(inside.sum())
    if total - kept > OUTSIDE_TOLERANCE * total:
        expected = f"at most {OUTSIDE_TOLERANCE:.0%} outside the tissue region"
        remedy = "check that the mask belongs to this image, and the region in calibration.csv"
        raise mask_refusal("mask-outside", f"{total - kept} of {total} pixels outside", expected, remedy)
    return np.ascontiguousarray(inside)


def _not_empty(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if not mask.any():
        raise mask_refusal("empty-mask", "no pixel inside", "a drawn muscle", "draw it, or leave the cell empty")
    return mask


def _misfit(shape: tuple[int, ...], frame: Frame) -> MaskError:
    fits = {frame.pixels.shape, frame.stored_shape}
    sizes = " or ".join(f"{rows} x {columns}" for rows, columns in sorted(fits))
    remedy = "draw it on this image"
    if shape[::-1] in fits:
        remedy = "it fits with rows and columns exchanged: write it as (column, row), as ITK-SNAP does"
    return mask_refusal("mask-size", f"{shape[0]} x {shape[1]} pixels (rows x columns)", sizes, remedy)


def _check_spacing(drawing: _Drawing, frame: Frame) -> None:
    """A mask in other millimetres was drawn on another image, or on a resampled one."""
    if drawing.mm_per_pixel is None or frame.mm_per_pixel is None:
        return
    pairs = list(zip(drawing.mm_per_pixel, frame.mm_per_pixel, strict=True))
    if any(abs(mask_mm - frame_mm) > SPACING_TOLERANCE * frame_mm for mask_mm, frame_mm in pairs):
        (row, frame_row), (column, frame_column) = pairs
        seen = f"{row:.4g} x {column:.4g} mm per pixel"
        expected = f"{frame_row:.4g} x {frame_column:.4g} as in the image, within {SPACING_TOLERANCE:.0%}"
        raise mask_refusal("mask-spacing", seen, expected, "draw it on this image, or correct the spacing")


# ---- NIfTI, NRRD, MHA, GIPL ------------------------------------------------------------------------------------------


def _read_volume(path: Path) -> _Drawing:
    """One slice of labels through ITK, whose first axis runs along the row: index (column, row)."""
    reader: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]  # SimpleITK 2.5 carries no types
    reader.SetImageIO(itk_reader(path))
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = reader.GetSize()
    if len(size) > 3 or math.prod(size[2:]) != 1:
        remedy = "save the one slice that belongs to the image"
        if sum(n > 1 for n in size) < 3:
            remedy = "turn it, so that the slice's two axes come first and the axis of length 1 last"
        raise mask_refusal("mask-slices", f"a volume of {' x '.join(map(str, size))}", "one slice", remedy)
    if math.prod(size) > MAX_PIXELS or reader.GetNumberOfComponents() != 1:
        raise mask_refusal("mask-size", f"{size[0]} x {size[1]} pixels", "one label image", "save the labels alone")
    spacing = reader.GetSpacing()
    values = sitk.GetArrayFromImage(reader.Execute()).reshape(size[1], size[0])
    _check_complete(path, reader, values)
    mm_per_pixel = None if spacing[0] == spacing[1] == 1 else (spacing[1], spacing[0])
    return _Drawing(_labels(_whole(_turned(values, reader))), mm_per_pixel)


def _turned(values: NDArray[Any], reader: Any) -> NDArray[Any]:
    """The slice with its axes along those of the image, whose first pixel is the origin.

    A program that stores a flipped mask puts its first pixel at the far end of the axis. Both axes turned around the
    origin itself are nibabel's identity affine in ITK's coordinates: stored as drawn. Axes that leave the plane place
    the image in a body.
    """
    axes = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:2, :2]
    if np.allclose(axes, np.eye(2), atol=0.01) or abs(np.linalg.det(axes)) < 0.5:
        return values
    spacing, origin = np.array(reader.GetSpacing()[:2]), np.array(reader.GetOrigin()[:2])
    flipped = np.diag(axes) < 0
    first = np.where(flipped, (np.array(values.shape[::-1]) - 1) * spacing, 0)
    if np.allclose(np.abs(axes), np.eye(2), atol=0.01):
        if (np.abs(origin - first) <= spacing / 2).all():
            return values[:: -1 if flipped[1] else 1, :: -1 if flipped[0] else 1]
        if flipped.all() and (np.abs(origin) <= spacing / 2).all():
            return values
    seen = "axes {:.3g}, {:.3g} and {:.3g}, {:.3g} from {:.4g}, {:.4g} mm".format(*axes.T.ravel(), *origin)
    remedy = "save it with the orientation of the image, or as PNG"
    raise mask_refusal("mask-orientation", seen, "axes 1, 0 and 0, 1 as in the image", remedy)


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
        file.seek(-4, 2)
        if packed and int.from_bytes(file.read(4), "little") == needed:
            return  # the size that gzip closes a file with (RFC 1952, ISIZE)
    with gzip.open(path) if packed else path.open("rb") as content:
        found = len(content.read(needed + 1))
    if found < needed:
        raise mask_refusal("mask-file", f"{found} bytes", f"{needed} bytes as its header says", "copy or save it again")


def _whole(values: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """Label values as whole numbers; probabilities and resampled masks are refused, never rounded."""
    if np.issubdtype(values.dtype, np.integer):
        return values
    odd = values[values != np.rint(values)]  # NaN differs from itself
    if odd.size:
        seen = f"{odd.size} fractional values such as {odd[0]:.4g}"
        raise mask_refusal(
            "float-mask", seen, "whole label numbers", "save the label map, not a probability or a resampled one"
        )
    return values.astype(np.int64)


def _labels(values: NDArray[Any]) -> dict[str, Callable[[], NDArray[np.bool_]]]:
    """Labels other than the background 0, in order."""
    found = [int(values.max(initial=0))]
    if np.count_nonzero(values) != np.count_nonzero(values == found[0]):  # else a single label, without sorting pixels
        found = np.unique(values[values != 0]).tolist()
    if len(found) > MAX_LABELS:
        raise _picture(f"{len(found)} different values")
    return {str(value): partial(np.equal, values, value) for value in found}


def _picture(seen: str) -> MaskError:
    remedy = "give the mask's file, not the image's, saved without smoothed edges"
    return mask_refusal("not-a-mask", seen, f"at most {MAX_LABELS} labels", remedy)


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
            values = np.asarray(picture)
            return _Drawing(_labels(values.view(np.uint8) if picture.mode == "1" else values))
        return _coloured(picture.convert("RGBA"))


def _coloured(picture: Image.Image) -> _Drawing:
    colours = picture.getcolors(4 * MAX_LABELS)  # fully transparent pixels may hide a few more
    if colours is None:
        raise _picture(f"more than {4 * MAX_LABELS} colours")
    codes: dict[str, list[int]] = {}
    for red, green, blue, alpha in sorted(colour for _, colour in colours):  # type: ignore[misc]  # four channels
        if alpha and (red or green or blue):
            codes.setdefault(f"#{red:02x}{green:02x}{blue:02x}", []).append(red | green << 8 | blue << 16 | alpha << 24)
    if len(codes) > MAX_LABELS:
        raise _picture(f"{len(codes)} colours")
    pixels = np.asarray(picture).view("<u4")[..., 0]
    return _Drawing({name: partial(np.isin, pixels, values) for name, values in codes.items()})
