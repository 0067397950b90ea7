"""What can be seen of one image without its mask: is it a whole, upright, grey still at a believable scale?

Limits were set on SYNTHETIC images of four devices (seeds 21 to 25) and on thirteen real panoramic ones.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from client.quality.identity import shown_name
from sarco_models.config import ImageConfig
from sarco_models.errors import Finding, Severity
from sarco_models.frames import Frame
from sarco_models.preprocess import PLAUSIBLE_MM_PER_PIXEL
from sarco_models.schema import ImageRow

LEAST_RANGE = 24
"""Grey levels between the darkest and the brightest hundredth; a muscle has 150, an empty screen none."""

MOST_WHITE, MOST_BLACK = 0.03, 0.6
"""Largest share of the tissue region at 255, and at 0; of SYNTHETIC images .002 and .08 are the largest."""

COLOURED, MARKED = 0.01, 0.0005
"""Share of coloured pixels that a Doppler or elastogram box has, and that callipers have."""

UPSIDE_DOWN, SIDEWAYS = -0.4, 1.0
"""Near-field score below which an image stands on its head (upright ones: .48 and more, SYNTHETIC 1.05), and how much
more the score across must be than the one along the beam for an image to lie on its side (upright ones: .6 at most)."""

TYPICAL_MM_PER_PIXEL = (0.02, 0.4)
"""Of a linear probe on any screen; SCIENCE 3.2 has .06 to .16, panoramas and small exports more."""

TYPICAL_DEPTH_MM = (15.0, 150.0)
"""Of the tissue region; muscle is looked at in 35 to 60 mm."""

LEAST_REGION = 0.5
"""Share of the stored frame below which a tissue region is worth a look."""

COARSEST = 1.25
"""Steps of lossy compression, relative to those of JPEG quality 50, beyond which speckle is smoothed: quality 40."""

LEFT_OUT = "; the image is left out until then"
"""What a remedy ends with when a training run would do without the image."""

_SQUARE = 0.02  # pixels are square when their sides differ by less
_SIDE, _DEPTHS, _STRIP = 64, 32, 4
_TABLES, _QUALITY_50 = 0xDB, 3688  # marker of quantisation tables; sum of T.81's example table K.1


@dataclass(frozen=True, eq=False)
class Picture:
    """One image as the checks see it.

    Attributes:
        frame: the tissue region.
        grey: (256,) pixels at each level.
        small: (rows, columns) a reduced copy.
        coarseness: of the compression, see :func:`jpeg_coarseness`.
    """

    frame: Frame
    grey: NDArray[np.int64]
    small: NDArray[np.uint8]
    coarseness: float = 0.0

    @property
    def share(self) -> NDArray[np.float64]:
        """(256,) share of the pixels at each level."""
        share: NDArray[np.float64] = self.grey / self.grey.sum()
        return share


def appearance_findings(picture: Picture, row: ImageRow, cfg: ImageConfig) -> list[Finding]:
    """Everything that one image shows of itself; nothing here asks whether it can be read."""
    found = [*_light(picture), *_kind(picture, row), *_region(picture.frame, cfg), *_scale(picture.frame, cfg)]
    return [
        Finding(severity, rule, shown_name(row), seen, expected, remedy, row.row, field)
        for severity, rule, seen, expected, remedy, field in found
    ]


Found = tuple[Severity, str, str, str, str, str]
"""Severity, rule, seen, expected, remedy, field."""


def _light(picture: Picture) -> list[Found]:
    """Blank, saturated or dark images, and images that do not stand upright."""
    share = picture.share
    dark, bright = np.searchsorted(np.cumsum(share), (0.01, 0.99))
    if bright - dark < LEAST_RANGE:
        seen, expected = f"{bright - dark} grey levels in use", f"at least {LEAST_RANGE}"
        remedy = "export the frame again, or take it out of images.csv"
        return [("error", "empty-image", seen, expected, remedy, "image")]
    found: list[Found] = []
    for level, most, name in ((255, MOST_WHITE, "white"), (0, MOST_BLACK, "black")):
        if share[level] > most:
            remedy = "scan or export with less gain" if level else "give the tissue region in calibration.csv"
            seen, expected = f"{share[level]:.0%} of the region is {name}", f"at most {most:.0%}"
            found.append(("warning", "saturated", seen, expected, f"{remedy}, or look at the image", "image"))
    turned = _turned(picture.small)
    if turned:
        remedy = "export it with the skin at the top"
        found.append(("warning", "orientation", turned, "the skin at the top", remedy, "image"))
    return found


def _turned(small: NDArray[np.uint8]) -> str:
    """How an image is turned, told by where the bright near field lies; "" when it stands upright."""
    square = np.asarray(cv2.resize(small, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)
    along, across = near_field(square), near_field(np.ascontiguousarray(square.T))
    if abs(across) > abs(along) + SIDEWAYS:
        return "the bright near field is at the side"
    return "the bright near field is at the bottom" if along < UPSIDE_DOWN else ""


def near_field(square: NDArray[np.float32]) -> float:
    """How much brighter the upper eighth of the tissue is than the lower, in mean and at its brightest depth.

    Args:
        square: (64, 64) grey; in each column tissue reaches from the first to the last pixel that is not black.
    """
    lit = square > 8
    first, last = lit.argmax(axis=0), _SIDE - 1 - lit[::-1].argmax(axis=0)
    columns = np.flatnonzero(lit.any(axis=0) & (last - first >= _SIDE // 4))
    if len(columns) < _SIDE // 8:
        return 0.0
    rows = np.rint(first[columns] + (last - first)[columns] * np.linspace(0, 1, _DEPTHS)[:, None]).astype(int)
    depth = square[rows, columns].mean(axis=1)
    near, far = depth[:_STRIP], depth[-_STRIP:]
    return float((near.mean() + near.max() - far.mean() - far.max()) / (depth.mean() + 1))


def _kind(picture: Picture, row: ImageRow) -> list[Found]:
    """Colour, cines, Secondary Captures and strong compression."""
    facts, found = picture.frame.facts, list[Found]()
    if facts.colour_share > MARKED:
        overlay = facts.colour_share > COLOURED
        seen = f"{facts.colour_share:.2%} of the region is coloured"
        remedy = "use the frame without colour Doppler, elastography or callipers"
        severity: Severity = "warning" if overlay else "note"
        found.append((severity, "colour" if overlay else "coloured-marks", seen, "a grey image", remedy, "image"))
    if facts.frames > 1:
        seen = f"frame {row.frame} of {facts.frames}"
        found.append(
            ("note", "cine", seen, "a still", "check that the chosen frame is the one that was drawn on", "frame")
        )
    if "Secondary Capture" in facts.kind:
        remedy = "export the original ultrasound image if you can: it knows its region and spacing"
        found.append(("note", "secondary-capture", "a Secondary Capture", "an ultrasound image", remedy, "image"))
    if facts.lossy and picture.coarseness > COARSEST:
        seen = f"JPEG steps {picture.coarseness:.1f} times those of quality 50"
        remedy = "export with a higher quality, or as DICOM"
        found.append(("note", "compression", seen, f"at most {COARSEST:g} times", remedy, "image"))
    return found


def jpeg_coarseness(head: bytes) -> float:
    """Mean step of the first quantisation table of a JPEG stream (T.81 B.2.4.1), relative to that of quality 50.

    Args:
        head: the first bytes of a file; 0 where no such stream is in them, alone or as a DICOM fragment.
    """
    at = head.find(b"\xff\xd8\xff") + 2
    while at >= 2 and head[at : at + 1] == b"\xff" and at + 4 <= len(head):
        length = int.from_bytes(head[at + 2 : at + 4])
        table = head[at + 5 : at + 69]
        if head[at + 1] == _TABLES and head[at + 4] >> 4 == 0 and len(table) == 64:
            return sum(table) / _QUALITY_50
        at += 2 + length
    return 0.0


def _region(frame: Frame, cfg: ImageConfig) -> list[Found]:
    """How much of the stored frame is read, and who said so."""
    (height, width), (rows, columns) = frame.pixels.shape, frame.stored_shape
    share, found = height * width / (rows * columns), list[Found]()
    guessed = frame.facts.region_from == "found"
    remedy = "look at the thumbnail; give the region in calibration.csv or in a template if it is wrong"
    if share < LEAST_REGION:
        seen, expected = f"{share:.0%} of the stored frame", f"at least {LEAST_REGION:.0%}"
        found.append(("warning" if guessed else "note", "region-small", seen, expected, remedy, "image"))
    elif guessed:
        seen, expected = "a tissue region found in the pixels", "a region that the file or the hospital gives"
        found.append(("note", "region-found", seen, expected, remedy, "image"))
    if min(height, width) < min(cfg.size / 2, 96):
        seen, expected = f"{height} x {width} pixels of tissue", f"at least {min(cfg.size / 2, 96):.0f} on a side"
        found.append(("warning", "region-tiny", seen, expected, "export the frame at the scanner's own size", "image"))
    return found


def _scale(frame: Frame, cfg: ImageConfig) -> list[Found]:
    """Unknown, impossible and untypical millimetres per pixel."""
    if frame.mm_per_pixel is None:
        return [_no_spacing(cfg)]
    (down, across), found = frame.mm_per_pixel, list[Found]()
    depth, remedy = frame.pixels.shape[0] * down, "check the spacing, its unit, and the tissue region"
    seen = f"{down:.3g} x {across:.3g} mm per pixel"
    if not _within(PLAUSIBLE_MM_PER_PIXEL, down, across):
        expected, remedy = "{:g} to {:g} mm".format(*PLAUSIBLE_MM_PER_PIXEL), f"{remedy}{LEFT_OUT}"
        return [("warning", "spacing", seen, expected, remedy, "image")]
    if not _within(TYPICAL_MM_PER_PIXEL, down, across):
        expected = "{:g} to {:g} mm".format(*TYPICAL_MM_PER_PIXEL)
        found.append(("warning", "spacing-untypical", seen, expected, remedy, "image"))
    elif not _within(TYPICAL_DEPTH_MM, depth):
        expected = "{:g} to {:g} mm".format(*TYPICAL_DEPTH_MM)
        found.append(("warning", "depth-untypical", f"a depth of {depth:.0f} mm", expected, remedy, "image"))
    if abs(down / across - 1) > _SQUARE:
        remedy = "nothing to do: the view is made to scale"
        if cfg.framing != "physical":
            remedy = "export the frame with square pixels: this study's view keeps the distortion"
        severity: Severity = "note" if cfg.framing == "physical" else "warning"
        found.append((severity, "anisotropic", seen, "square pixels", remedy, "image"))
    return found


def _no_spacing(cfg: ImageConfig) -> Found:
    """Where the view is made to scale the image is left out; elsewhere only sizes are missing."""
    remedy = "add mm_per_pixel_row and mm_per_pixel_column to calibration.csv, or give the device a template"
    if cfg.framing == "physical":
        return "warning", "no-spacing", "unknown mm per pixel", "a known spacing", f"{remedy}{LEFT_OUT}", "image"
    return "note", "no-spacing", "unknown mm per pixel", "a known spacing, for sizes", remedy, "image"


def _within(limits: tuple[float, float], *values: float) -> bool:
    return all(limits[0] <= value <= limits[1] for value in values)
