"""What is measured on the mask of a muscle in a transverse picture: thickness, area, width, echo intensity.

**Thickness** is the distance between the superficial and the deep edge of the muscle, along a line perpendicular to the
muscle's own axis, at mid-belly: the longest such line within the middle third. In detail:

* of several pieces the largest counts, with its holes filled: a hole is a gap in the drawing, and no edge;
* the axis is the straight line midway between the superficial and the deep edge: fitted through the middles of all
  lines down the picture, and once more through those of all lines perpendicular to the first fit. Not the longest
  diameter: of a muscle as deep as wide, or cut off by the frame, that may lie anywhere;
* the middle third is the one of the area, counted along the axis, so that a thin spur at one side does not move it;
* each line is the mean over a strip 1 mm wide: single pixels of the edge do not decide.

``vertical`` measures down the picture instead, as one does on the screen, and as Zhang et al. may have done, who do not
say (SCIENCE I34). Where the muscle lies tilted under the probe by an angle a, that is longer by about 1 / cos a: 1.5 %
at 10 degrees, 6 % at 20.

**Area** is that of all pieces as they are drawn, without holes. **Width** is along the axis. Where the muscle is wider
than the probe, area and width are of what is seen, and ``cut_off`` says so. Nothing is measured without millimetres per
pixel.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.overlap import Mask, Spacing, known_spacing

Direction = Literal["perpendicular", "vertical"]
Point = tuple[float, float]
"""(row, column) in pixels; whole numbers are the centres of pixels."""

STRIP_MM = 1.0
MIDDLE = (1 / 3, 2 / 3)
FITS, STEEPEST = 2, np.pi / 4
_STEP, _FINEST_MM = 0.5, 0.06  # how finely the muscle is looked at in its own directions: half a pixel, or this

ECHO_INTENSITY_CAVEAT = (
    "Echo intensity is the mean grey level (0 to 255) inside the muscle. It depends on gain, dynamic range, grey map "
    "and depth as much as on the muscle: compare it within one machine and one preset only, never between hospitals, "
    "and not with published cut-offs."
)
"""Stands beside every echo intensity that people read."""


@dataclass(frozen=True)
class MuscleMeasures:
    """Of one muscle in one picture.

    Attributes:
        thickness_mm: superficial to deep edge at mid-belly.
        csa_cm2: cross-sectional area.
        width_mm: along the muscle's axis.
        echo_intensity: mean grey level inside the mask, 0 to 255; None without pixels. See
            :data:`ECHO_INTENSITY_CAVEAT`.
        thickness_line: superficial and deep end of the line that was measured.
        axis_degrees: of the muscle's axis against the probe's face; positive where the right side lies deeper.
        pieces: of the mask that do not touch; thickness and width are of the largest.
        cut_off: the muscle reaches the border of the frame: area and width are of the visible part.
    """

    thickness_mm: float
    csa_cm2: float
    width_mm: float
    echo_intensity: float | None
    thickness_line: tuple[Point, Point]
    axis_degrees: float = 0.0
    pieces: int = 1
    cut_off: bool = False


def measure(
    mask: Mask,
    pixels: NDArray[np.uint8] | None,
    mm_per_pixel: Spacing | None,
    *,
    direction: Direction = "perpendicular",
    file: str = "",
) -> MuscleMeasures:
    """Measure one muscle.

    Args:
        mask: (height, width) of the frame, the probe at the top; True inside the muscle.
        pixels: (height, width) grey levels of the frame; None where only the mask is at hand.
        mm_per_pixel: along (row, column).
        direction: of the thickness; see the module.
        file: name of the image, for the error's text.

    Raises:
        MissingSpacing: millimetres per pixel are unknown or impossible.
        UndefinedMetric: the mask is empty.
    """
    spacing = known_spacing(mm_per_pixel, "a thickness or an area", file)
    if not mask.any():
        named = f"{file}: " if file else ""
        raise UndefinedMetric(f"{named}the mask is empty: nothing to measure; report it as absent, never as 0")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    origin = int(rows[0]), int(columns[0])
    muscle, pieces = largest_piece(mask[origin[0] : rows[-1] + 1, origin[1] : columns[-1] + 1])
    axis = _axis(muscle, spacing)
    along = _turned(muscle, spacing, axis)
    seen = along if direction == "perpendicular" else _turned(muscle, spacing, 0.0)
    place, top, bottom = _mid_belly(seen)
    return MuscleMeasures(
        thickness_mm=(bottom - top) * seen.step,
        csa_cm2=cross_sectional_area_cm2(mask, spacing),
        width_mm=_extent(along),
        echo_intensity=None if pixels is None else float(pixels[mask].mean()),
        thickness_line=(seen.on_frame(place, top, origin), seen.on_frame(place, bottom, origin)),
        axis_degrees=float(np.degrees(axis)),
        pieces=pieces,
        cut_off=bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()),
    )


def cross_sectional_area_cm2(mask: Mask, mm_per_pixel: Spacing) -> float:
    """Area of all pixels of the mask, cm^2."""
    return float(mask.sum() * mm_per_pixel[0] * mm_per_pixel[1] / 100)


def largest_piece(mask: Mask) -> tuple[Mask, int]:
    """The largest piece, its holes filled, and how many there are; pixels that touch at a corner belong together."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outline, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(mask.shape, dtype=np.uint8), outline, -1, 1, cv2.FILLED)
    return np.asarray(filled, dtype=np.bool_), count - 1


def _axis(muscle: Mask, mm: Spacing) -> float:
    """Angle of the muscle's middle line against the probe's face, radians."""
    rows, columns = np.nonzero(muscle)
    y, x = (rows - rows.mean()) * mm[0], (columns - columns.mean()) * mm[1]
    # A pixel has an extent of its own, which decides for a mask of one column.
    moments = np.array([[np.mean(x * x) + mm[1] ** 2 / 12, np.mean(x * y)], [0.0, np.mean(y * y) + mm[0] ** 2 / 12]])
    moments[1, 0] = moments[0, 1]
    angle = 0.0
    for _ in range(FITS):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        (along, both), _ = turn @ moments @ turn.T
        # The slope of depth on place over the area is that of the lines' midpoints, weighted by the lines' lengths.
        angle += float(np.arctan2(both, along))
    return float(np.clip(angle, -STEEPEST, STEEPEST))


# --- the muscle in its own directions ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Turned:
    """The muscle, turned so that its axis lies along the rows.

    Attributes:
        share: (depth, along) how much of each small square of ``step`` mm is muscle, 0 to 1.
        step: mm.
        matrix: (2, 3) from (along, depth) in steps to (column, row) of the muscle's mask.
    """

    share: NDArray[np.float32]
    step: float
    matrix: NDArray[np.float64]

    def on_frame(self, along: float, depth: float, origin: tuple[int, int]) -> Point:
        """(row, column) of the frame of a place in steps; the muscle was cut out of the frame at ``origin``."""
        column, row = self.matrix @ (along, depth, 1.0)
        return float(row) + origin[0], float(column) + origin[1]


def _turned(muscle: Mask, mm: Spacing, angle: float) -> _Turned:
    rows, columns = np.nonzero(muscle)
    y, x = rows * mm[0], columns * mm[1]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    along, depth = x * cos + y * sin, y * cos - x * sin
    step, margin = max(_STEP * min(mm), _FINEST_MM), 2.0 * max(*mm, _FINEST_MM)
    first = float(along.min()) - margin, float(depth.min()) - margin
    size = [int(np.ceil((float(v.max()) + margin - f) / step)) + 1 for v, f in zip((along, depth), first, strict=True)]
    start_x, start_y = first[0] * cos - first[1] * sin, first[0] * sin + first[1] * cos
    matrix = np.array(
        [
            [step * cos / mm[1], -step * sin / mm[1], start_x / mm[1]],
            [step * sin / mm[0], step * cos / mm[0], start_y / mm[0]],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    share = cv2.warpAffine(muscle.astype(np.float32), matrix, (size[0], size[1]), flags=flags)
    return _Turned(np.asarray(share, dtype=np.float32), step, matrix)


def _mid_belly(seen: _Turned) -> tuple[float, float, float]:
    """Of the thickest strip at mid-belly: its place along the axis, its superficial and its deep edge, in steps."""
    filled = np.cumsum(seen.share.sum(axis=0, dtype=np.float64))
    first, last = (int(np.searchsorted(filled, part * filled[-1])) for part in MIDDLE)
    width = 2 * max(0, round((STRIP_MM / seen.step - 1) / 2)) + 1
    strips = cv2.blur(seen.share, (width, 1), borderType=cv2.BORDER_CONSTANT)[:, first : last + 1]
    top, bottom = _edges(np.asarray(strips, dtype=np.float64))
    best = int(np.argmax(bottom - top))
    return float(first + best), float(top[best]), float(bottom[best])


def _edges(strips: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each strip (depth, strips) passes one half for the first and for the last time, in steps.

    A muscle narrower than a strip fills only a part of it; then half of that part counts.
    """
    half = np.minimum(0.5, strips.max(axis=0) / 2)
    inside, each = strips >= half, np.arange(strips.shape[1])
    top, bottom = inside.argmax(axis=0), len(strips) - 1 - inside[::-1].argmax(axis=0)

    def beyond(last_in: NDArray[np.intp], first_out: NDArray[np.intp]) -> NDArray[np.float64]:
        within, outside = strips[last_in, each], strips[first_out, each]
        return np.asarray((within - half) / (within - outside))

    return top - beyond(top, top - 1), bottom + beyond(bottom, bottom + 1)


def _extent(seen: _Turned) -> float:
    """From the first to the last place along the axis where there is muscle, mm."""
    first, last = _edges(seen.share.max(axis=0).astype(np.float64)[:, None])
    return float(last[0] - first[0]) * seen.step
