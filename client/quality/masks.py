"""A drawn muscle, looked at: is it there, whole, of a muscle's size, and on this image?

Sizes are judged by ranges wide enough for a wasted patient and an athlete, so that what falls outside is another
muscle, another unit or a slip of the hand. A finding says what a person should look at; nothing is corrected here.
"""

import hashlib
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from client.quality.agreement import STEP_MM, Agreement, agreement
from client.quality.appearance import LEFT_OUT
from client.quality.headers import MaskHeader, mask_header_findings, read_mask_header
from client.quality.identity import safe_name, shown_mask, shown_name
from client.quality.records import MaskMeasures
from sarco_models.config import ImageConfig
from sarco_models.errors import Finding, MaskError, Severity
from sarco_models.frames import Frame
from sarco_models.masks import read_mask
from sarco_models.schema import ImageRow

Mask = NDArray[np.bool_]
Contour = NDArray[np.int32]

SIDE_CONTACT = 0.25
"""Share of the outline on the left and right border up to which a muscle may simply be wider than the probe; of 420
SYNTHETIC true masks the largest share is .22."""

TOP_CONTACT = 0.01
"""Share of the outline on the upper or lower border; there lie skin and bone, and no muscle."""

SPECK = 0.05
"""Pieces smaller than this share of the largest are slips of the brush."""

HOLE = 0.01
"""Share of the muscle that holes may have before they are worth a word."""

LARGEST_SHARE = 0.8
"""Share of the tissue region beyond which somebody drew the region and not the muscle."""

NOMINAL_WIDTH_MM = 40.0
"""Width of a linear probe's picture, taken for moving an outline over an image that does not say its spacing."""


@dataclass(frozen=True)
class Size:
    """Plausible thickness and cross-section of a muscle, smallest and largest (SCIENCE 3.2, widened two- to threefold).

    Attributes:
        thickness_mm: along the beam.
        area_cm2: of the cross-section, or of what the probe shows of it.
        parts: pieces that may be drawn apart.
    """

    thickness_mm: tuple[float, float]
    area_cm2: tuple[float, float]
    parts: int = 1


ANY_MUSCLE = Size((2, 60), (0.3, 60), parts=2)
SIZES = {
    "rectus femoris": Size((3, 35), (0.5, 15)),
    "biceps brachii": Size((6, 45), (1.5, 25), parts=2),
    "triceps brachii": Size((6, 45), (1.5, 25), parts=3),
    "rectus abdominis": Size((2.5, 22), (0.7, 14), parts=2),
    "peroneus longus and brevis": Size((4, 35), (0.7, 14), parts=2),
    "vastus lateralis": Size((5, 45), (1.5, 45)),
}
_ALSO_CALLED = {
    "rf": "rectus femoris", "股直肌": "rectus femoris", "m rectus femoris": "rectus femoris",
    "bb": "biceps brachii", "biceps": "biceps brachii", "肱二头肌": "biceps brachii",
    "tb": "triceps brachii", "triceps": "triceps brachii", "肱三头肌": "triceps brachii",
    "ra": "rectus abdominis", "腹直肌": "rectus abdominis",
    "plpb": "peroneus longus and brevis", "peroneus longus brevis": "peroneus longus and brevis",
    "peroneus": "peroneus longus and brevis", "腓骨长短肌": "peroneus longus and brevis",
    "vl": "vastus lateralis", "股外侧肌": "vastus lateralis",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class MaskLook:
    """What a look at one mask found.

    Attributes:
        findings: of this mask.
        mask: (height, width) of the tissue region; None when there is none that can be used.
        contours: outlines of its pieces, for drawing.
        measures: None without a mask.
        content: digest of its pixels, "" without a mask.
    """

    findings: tuple[Finding, ...]
    mask: Mask | None = None
    contours: tuple[Contour, ...] = ()
    measures: MaskMeasures | None = None
    content: str = ""


def muscle_size(muscle: str) -> tuple[str, Size]:
    """The muscle's name as it is known here and its plausible size; a generous one for a muscle that is not known."""
    words = " ".join("".join(c if c.isalpha() else " " for c in muscle.casefold()).split())
    name = _ALSO_CALLED.get(words, words)
    return (name, SIZES[name]) if name in SIZES else ("a muscle", ANY_MUSCLE)


def look_at_mask(folder: Path, row: ImageRow, frame: Frame, small: NDArray[np.uint8], cfg: ImageConfig) -> MaskLook:
    """Read a row's mask and check it against its image; faults of the files are findings.

    Args:
        folder: the site's data.
        row: of images.csv.
        frame: the image that the mask belongs to.
        small: a reduced copy of its pixels.
        cfg: whether the study needs masks.
    """
    if not row.mask and cfg.auto:  # it is found
        return MaskLook(())
    needed = cfg.roi == "mask" or bool(cfg.auto and cfg.auto.masks == "missing")
    if not row.mask:
        return MaskLook((missing(row, needed=needed),))
    path = folder / row.mask
    try:
        mask = read_mask(path, frame, label=row.mask_label or None)
    except MaskError as error:
        return MaskLook(tuple(refused(f, row, needed=needed) for f in error.findings))
    header = read_mask_header(path)
    drawn = Outlines.of(mask)
    findings = [
        *shape_findings(drawn, row),
        *size_findings(drawn, frame, row),
        *place_findings(drawn, frame, small, row),
        *other_image(folder, header, row),
        *mask_header_findings(header, row),
    ]
    content = hashlib.blake2b(f"{mask.shape}".encode() + np.packbits(mask).tobytes(), digest_size=16).hexdigest()
    return MaskLook(tuple(findings), mask, drawn.outer, drawn.measures(frame), content)


def missing(row: ImageRow, *, needed: bool) -> Finding:
    """An image without a mask."""
    severity: Severity = "warning" if needed else "note"
    remedy = "draw it and name it in images.csv" + (LEFT_OUT if needed else "")
    return Finding(
        severity, "mask-missing", shown_name(row), "no mask", "a mask of the muscle", remedy, row.row, "mask"
    )


def refused(finding: Finding, row: ImageRow, *, needed: bool) -> Finding:
    """A mask that cannot be used leaves its image out where masks are needed; names of labels may be anything."""
    seen = finding.seen
    if finding.rule in ("several-labels", "label"):
        names = seen.removeprefix("labels ").split(", ")
        shown = all(safe_name(name.lstrip("#")) or name.startswith("#") for name in names)
        seen = seen if shown else f"{len(names)} labels"
    remedy = finding.remedy + (LEFT_OUT if needed else "")
    severity: Severity = "warning" if needed else "note"
    return replace(
        finding, severity=severity, file=shown_mask(row), row=row.row, field="mask", seen=seen, remedy=remedy
    )


def _found(  # noqa: PLR0913 - the parts of a finding, in its order
    rule: str, row: ImageRow, seen: str, expected: str, remedy: str, *, severity: Severity = "warning"
) -> Finding:
    return Finding(severity, rule, shown_mask(row), seen, expected, remedy, row.row, "mask")


# ---- shape and size --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outlines:
    """A mask by its outlines.

    Attributes:
        pixels: (height, width) 0 or 1.
        outer: outlines of the pieces, the largest first.
        areas: pixels inside each, holes included.
        hole_pixels: in all holes.
        columns: that the muscle covers, specks left out, with its first row and the row below its last in each.
    """

    pixels: NDArray[np.uint8]
    outer: tuple[Contour, ...]
    areas: tuple[int, ...]
    hole_pixels: int
    columns: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

    @classmethod
    def of(cls, mask: Mask) -> "Outlines":
        """Of a mask that is not empty."""
        pixels = np.ascontiguousarray(mask).view(np.uint8)
        contours, tree = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        inner = tree[0][:, 3] >= 0  # a hole has a parent
        areas = [_pixels(c, hole=hole) for c, hole in zip(contours, inner, strict=True)]
        outer = sorted((k for k in range(len(contours)) if not inner[k]), key=lambda k: -areas[k])
        large = np.concatenate([contours[k][:, 0] for k in outer if areas[k] >= SPECK * areas[outer[0]]])
        first = np.full(mask.shape[1], mask.shape[0])
        below = np.zeros(mask.shape[1], dtype=np.int64)
        np.minimum.at(first, large[:, 0], large[:, 1])
        np.maximum.at(below, large[:, 0], large[:, 1] + 1)
        columns = np.flatnonzero(below)
        return cls(
            pixels,
            tuple(np.asarray(contours[k], dtype=np.int32) for k in outer),
            tuple(areas[k] for k in outer),
            sum(areas[k] for k in range(len(contours)) if inner[k]),
            (columns, first[columns], below[columns]),
        )

    def measures(self, frame: Frame) -> MaskMeasures:
        """Size in centimetres and millimetres where the spacing is known, and brightness."""
        row_mm, column_mm = frame.mm_per_pixel or (math.nan, math.nan)
        _, first, below = self.columns
        return MaskMeasures(
            label="",
            area_cm2=cv2.countNonZero(self.pixels) * row_mm * column_mm / 100,
            thickness_mm=int((below - first).max()) * row_mm,
            echo_intensity=float(cv2.mean(frame.pixels, self.pixels)[0]),
            pieces=len(self.outer),
        )

    def contact(self) -> tuple[float, float]:
        """Share of the outline on the left or right border of the region, and on the upper or lower."""
        height, width = self.pixels.shape
        x, y = np.concatenate(self.outer)[:, 0].T
        return float(((x == 0) | (x == width - 1)).mean()), float(((y == 0) | (y == height - 1)).mean())


def _pixels(contour: NDArray[Any], *, hole: bool) -> int:
    """Pixels in an outline by Pick's theorem; the outline of a hole runs along the pixels around it, and counts not."""
    edge = len(contour) / 2
    return round(cv2.contourArea(contour) + (1 - edge if hole else 1 + edge))


def shape_findings(drawn: Outlines, row: ImageRow) -> list[Finding]:
    """Whether a muscle is whole: borders, pieces, holes."""
    findings: list[Finding] = []
    sides, ends = drawn.contact()
    if ends > TOP_CONTACT:
        remedy = "check the mask, and the region in calibration.csv"
        seen = f"{ends:.0%} of the outline on the upper or lower border"
        findings.append(_found("mask-border", row, seen, "tissue above and below the muscle", remedy))
    elif sides:
        seen, expected = f"{sides:.0%} of the outline on the left or right border", f"at most {SIDE_CONTACT:.0%}"
        remedy = "the muscle is wider than the image: its area is that of the visible part"
        findings.append(
            _found("mask-border", row, seen, expected, remedy, severity="warning" if sides > SIDE_CONTACT else "note")
        )
    _, size = muscle_size(row.muscle)
    specks = sum(area < SPECK * drawn.areas[0] for area in drawn.areas)
    pieces = len(drawn.areas) - specks
    expected = "one piece" if size.parts == 1 else f"at most {size.parts} pieces"
    if pieces > size.parts:
        findings.append(_found("mask-pieces", row, f"{pieces} pieces", expected, "keep the muscle, erase the others"))
    elif specks:
        seen = f"{specks} pieces below {SPECK:.0%} of the largest" if specks > 1 else f"a piece below {SPECK:.0%}"
        findings.append(_found("mask-pieces", row, seen, expected, "erase what the brush left behind", severity="note"))
    share = drawn.hole_pixels / max(1, drawn.areas[0])
    if share > HOLE:
        findings.append(_found("mask-holes", row, f"holes of {share:.0%}", f"at most {HOLE:.0%}", "fill them"))
    return findings


def size_findings(drawn: Outlines, frame: Frame, row: ImageRow) -> list[Finding]:
    """Whether a muscle has the size of one; of a part where millimetres are not known."""
    share = cv2.countNonZero(drawn.pixels) / drawn.pixels.size
    if share > LARGEST_SHARE:
        remedy = "draw the muscle alone"
        return [_found("mask-size-implausible", row, f"{share:.0%} of the tissue region", "a part of it", remedy)]
    if frame.mm_per_pixel is None:
        return []
    measures, (name, size) = drawn.measures(frame), muscle_size(row.muscle)
    judged = [(measures.thickness_mm, size.thickness_mm, "mm thick"), (measures.area_cm2, size.area_cm2, "cm² of area")]
    remedy = "check the mask, the millimetres per pixel, and the muscle in images.csv"
    return [
        _found("mask-size-implausible", row, f"{value:.3g} {unit}", f"{low:g} to {high:g} for {name}", remedy)
        for value, (low, high), unit in judged
        if not low <= value <= high
    ]


# ---- place -----------------------------------------------------------------------------------------------------------


def place_findings(drawn: Outlines, frame: Frame, small: NDArray[np.uint8], row: ImageRow) -> list[Finding]:
    """Whether the outline runs along bright lines, or would do so elsewhere."""
    row_mm, column_mm = _assumed_spacing(frame)
    (height, width), (columns, first, below) = frame.pixels.shape, drawn.columns
    size_mm = (height * row_mm, width * column_mm)
    pixels = small if size_mm[1] <= STEP_MM * small.shape[1] else frame.pixels
    fit = agreement(pixels, size_mm, ((columns + 0.5) * column_mm, first * row_mm, below * row_mm))
    if fit is None or not (fit.shifted or fit.poor):
        return []
    if fit.shifted:
        remedy = "look at the outline on the image: draw it again, or name the right mask in images.csv"
        return [_found("mask-shifted", row, _offset(fit, frame), "an outline along the muscle's fasciae", remedy)]
    seen = f"agreement {fit.here:.2f} of the outline with bright lines"
    remedy = "look at the outline on the image: it may belong to another one"
    return [_found("mask-elsewhere", row, seen, "an outline along the muscle's fasciae", remedy)]


def _assumed_spacing(frame: Frame) -> tuple[float, float]:
    """Only for moving an outline over an image: nothing is measured with it."""
    nominal = NOMINAL_WIDTH_MM / frame.pixels.shape[1]
    return frame.mm_per_pixel or (nominal, nominal)


def _offset(fit: Agreement, frame: Frame) -> str:
    """Where the outline fits better, in millimetres, or in pixels where they are unknown."""
    down, right = fit.shift_mm
    unit = "mm"
    if frame.mm_per_pixel is None:
        row_mm, column_mm = _assumed_spacing(frame)
        down, right, unit = down / row_mm, right / column_mm, "pixels"
    ways = [(down, "down" if down > 0 else "up"), (right, "right" if right > 0 else "left")]
    moved = " and ".join(f"{abs(length):.0f} {unit} {way}" for length, way in ways if round(abs(length)))
    return f"fits {fit.best / max(fit.here, 1e-3):.1f} times better {moved}"


def other_image(folder: Path, header: MaskHeader, row: ImageRow) -> list[Finding]:
    """LabelMe says which picture an outline was drawn on."""
    source = PurePosixPath(header.image.replace("\\", "/"))
    if not header.image or source.stem.casefold() == PurePosixPath(row.image).stem.casefold():
        return []
    there = False
    with suppress(OSError, ValueError):  # a name too long, or with a zero byte
        other = (folder / row.mask).parent / source
        there = other.is_file() and not other.samefile(folder / row.image)
    expected, remedy = "the image of its row", "check that the mask belongs to this image"
    if there:
        return [_found("mask-of-another-image", row, "drawn on another image of this folder", expected, remedy)]
    return [
        _found("mask-of-another-image", row, "drawn on an image of another name", expected, remedy, severity="note")
    ]
