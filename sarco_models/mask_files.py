"""Found muscles as files that people correct: NIfTI for ITK-SNAP, palette PNG, LabelMe 5 JSON.

Every writer takes a map of classes, 0 = no muscle, on the pixels of the picture that the file will be opened with, and
:func:`sarco_models.masks.read_mask` reads back what was written: NIfTI and PNG to the pixel, LabelMe within half a
pixel of the edge or little more. A file is whole or absent, and an existing one is replaced only where the caller says
so.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from sarco_models.errors import ConfigError
from sarco_models.frames import Frame
from sarco_models.labelme import inside_polygon
from sarco_models.masks import SPACING_TOLERANCE
from sarco_models.outline_tracing import Points, loops, slit

Classes = NDArray[np.uint8]

COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178),
)  # fmt: skip
"""Of class 1, 2, ...: told apart by everybody (Okabe and Ito 2008); after the last they begin again."""

LABELME_VERSION = "5.5.0"

LEAST_DICE = 0.996
"""Of a simplified outline with the mask it was made of; else it is simplified less."""

_STEPS = (0.5, 0.35, 0.2, 0.0)  # pixels that a simplified outline may be away from the smoothed one
_SMOOTHED = 5  # neighbouring points


def colour_of(number: int) -> tuple[int, int, int]:
    """Red, green, blue of a class, from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


def on_stored_frame(classes: Classes, frame: Frame) -> Classes:
    """Classes of the tissue region laid on the stored frame, which other programs open; nothing lies around it.

    Args:
        classes: (height, width) of ``frame.pixels``.
        frame: where the region lies.

    Returns:
        rows and columns of ``frame.stored_shape``.
    """
    if classes.shape != frame.pixels.shape:
        raise ValueError(f"classes of shape {classes.shape} on a region of {frame.pixels.shape}")
    stored = np.zeros(frame.stored_shape, dtype=np.uint8)
    (top, left), (height, width) = frame.origin, classes.shape
    stored[top : top + height, left : left + width] = classes
    return stored


# ---- NIfTI and PNG ---------------------------------------------------------------------------------------------------


def write_nifti(
    path: Path, classes: Classes, mm_per_pixel: tuple[float, float] | None = None, *, overwrite: bool = False
) -> None:
    """A label map of one slice with the geometry that ITK gives the picture itself.

    Args:
        path: .nii or .nii.gz.
        classes: (rows, columns).
        mm_per_pixel: (row, column); None writes 1, which readers take for "unknown".
        overwrite: replace an existing file.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{path}: a NIfTI file ends in .nii or .nii.gz: name one")
    row, column = mm_per_pixel or (1.0, 1.0)
    image: Any = sitk.GetImageFromArray(classes[None])
    image.SetSpacing((column, row, 1.0))
    suffix = path.name[path.name.rindex(".nii") :]  # ITK goes by it
    _written(path, lambda partial: sitk.WriteImage(image, str(partial)), suffix, overwrite=overwrite)


def spacing_for_itk(picture: Path, mm_per_pixel: tuple[float, float] | None) -> tuple[float, float] | None:
    """The spacing that a label map must have to lie on a picture in ITK-SNAP: what ITK itself reads of that file.

    ITK (5.4) knows nothing of the regions in which an ultrasound machine says its spacing, and takes a TIFF's printing
    resolution for one: only where it sees what we know is the spacing written.

    Args:
        picture: DICOM, JPEG, PNG, TIFF or BMP.
        mm_per_pixel: of the frame, (row, column).
    """
    reader: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]  # SimpleITK 2.5 carries no types
    reader.SetFileName(str(picture))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    column, row = reader.GetSpacing()[:2]
    return mm_per_pixel if mm_per_pixel and np.allclose((row, column), mm_per_pixel, rtol=SPACING_TOLERANCE) else None


def write_png(path: Path, classes: Classes, *, overwrite: bool = False) -> None:
    """A picture whose palette index is the class; index 0, no muscle, is black.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    picture = Image.frombytes("P", (classes.shape[1], classes.shape[0]), classes.tobytes())
    picture.putpalette([0, 0, 0, *(level for number in range(1, 256) for level in colour_of(number))])
    _written(path, lambda partial: picture.save(partial, format="PNG"), ".png", overwrite=overwrite)


def label_descriptions(names: Sequence[str]) -> str:
    """The text file by which ITK-SNAP shows names and colours (Segmentation > Import Label Descriptions)."""
    lines = ['    0     0    0    0        0  0  0    "Clear Label"']
    for number, name in enumerate(names, start=1):
        red, green, blue = colour_of(number)
        lines.append(f'{number:5} {red:5}{green:5}{blue:5}        1  1  1    "{name}"')
    return "\n".join(lines) + "\n"


# ---- LabelMe ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pictured:
    """The picture that LabelMe is to open with the outlines.

    Attributes:
        path: of the picture, as the JSON file names it: relative to the JSON file, or absolute.
        flags: marks of the whole picture that LabelMe shows as check boxes, such as {"accepted": False}.
    """

    path: str
    flags: dict[str, bool]


def write_labelme(
    path: Path, classes: Classes, names: Sequence[str], picture: Pictured, *, overwrite: bool = False
) -> None:
    """Closed polygons for correction in LabelMe.

    Each connected piece of a muscle is a polygon of its own; those of one muscle share a group. A hole is joined to its
    piece's outline by a slit of no width, for LabelMe has no holes.

    Args:
        path: .json.
        classes: (rows, columns) of the picture.
        names: of class 1, 2, ...: the polygons' labels.
        picture: what LabelMe opens.
        overwrite: replace an existing file.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    shapes = [
        _shape(name, number, outline)
        for number, name in enumerate(names, start=1)
        for outline in outlines(classes == number)
    ]
    page = {
        "version": LABELME_VERSION,
        "flags": picture.flags,
        "shapes": shapes,
        "imagePath": picture.path,
        "imageData": None,
        "imageHeight": classes.shape[0],
        "imageWidth": classes.shape[1],
    }
    text = json.dumps(page, indent=2)
    _written(path, lambda partial: partial.write_text(text, encoding="utf-8"), ".json", overwrite=overwrite)


def outlines(mask: NDArray[np.bool_]) -> list[Points]:
    """(n, 2) x, y of the outline of each connected piece, in LabelMe's pixels, simplified.

    Filled as :mod:`sarco_models.labelme` fills them, they give the mask back with a Dice of :data:`LEAST_DICE`.
    """
    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [_outline(pieces == number) for number in range(1, count)]


def _outline(piece: NDArray[np.bool_]) -> Points:
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    inside = piece[top : rows[-1] + 1, left : columns[-1] + 1]
    outer, holes = loops(inside)
    for step in _STEPS:
        outline = slit(_simplified(outer, step), [_simplified(hole, step) for hole in holes])
        filled = inside_polygon(outline, (inside.shape[0], inside.shape[1]))
        if 2 * (filled & inside).sum() >= LEAST_DICE * (filled.sum() + inside.sum()):
            break
    moved: Points = outline + np.array([left, top])
    return moved


def _simplified(loop: Points, step: float) -> Points:
    """Fewer points, none of the left-out ones further than ``step`` pixels away (Douglas and Peucker 1973).

    The pixels' staircase is smoothed before, by a third of a pixel at most: it would be two points for each stair.
    """
    if step == 0 or len(loop) < 4 * _SMOOTHED:
        return loop
    smooth = np.mean([np.roll(loop, k - _SMOOTHED // 2, axis=0) for k in range(_SMOOTHED)], axis=0)
    fewer = cv2.approxPolyDP(smooth.astype(np.float32)[:, None], step, closed=True)[:, 0].astype(np.float64)
    return fewer if len(fewer) >= 3 else loop


def _shape(name: str, group: int, outline: Points) -> dict[str, Any]:
    return {
        "label": name,
        "points": np.round(outline, 2).tolist(),
        "group_id": group,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


# ---- whole or absent -------------------------------------------------------------------------------------------------


def _written(path: Path, write: Callable[[Path], object], suffix: str, *, overwrite: bool) -> None:
    """Under a temporary name, synced, renamed; the suffix stays, for some writers go by it."""
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: exists already, and may hold corrections: name another folder, or use --overwrite")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as fault:  # ITK raises the second
        reason = getattr(fault, "strerror", None) or "it cannot be written"
        raise ConfigError(f"{path}: {reason}: name a folder that you may write to, with room on its disk") from None
    finally:
        partial.unlink(missing_ok=True)
