"""How well two masks of one image agree: Dice, IoU, and distances between their edges in millimetres.

The edge of a mask runs along its pixels' sides and corners: in every square of two by two pixels that holds both muscle
and background there is a piece of edge, at the corner that the four pixels share, as long as a straight cut between
them (half a diagonal around one pixel, a pixel's side along two). Distances are from such a corner to the nearest one
of the other mask and count by that length, so that neither oblong pixels nor slanted edges count double (Nikolov et al.
2021). The border of the frame is an edge where a mask reaches it.

Of two empty masks nothing can be said: every number is None. Where one is empty the overlap is 0 and a distance is
None; :class:`Overlap` says which of the two it was, to be counted beside the mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from sarco_models.errors import Finding, MaskError, MissingSpacing, UndefinedMetric
from sarco_models.intervals import Estimate, bootstrap
from sarco_models.preprocess import PLAUSIBLE_MM_PER_PIXEL
from sarco_models.scores import Scores, Weights, aggregate_by_participant

Mask = NDArray[np.bool_]
Spacing = tuple[float, float]
"""Millimetres per pixel along (row, column)."""

PERCENTILE = 0.95


@dataclass(frozen=True)
class Overlap:
    """A found mask against the drawn one.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|); None where both are empty.
        iou: |A and B| / |A or B|; None where both are empty.
        hd95_mm: the larger of the two 95th percentiles of distance between edges; None where a mask is empty.
        assd_mm: mean distance between the edges, both ways; None where a mask is empty.
        missed: drawn and not found.
        invented: found and not drawn.
    """

    dice: float | None
    iou: float | None
    hd95_mm: float | None
    assd_mm: float | None
    missed: bool = False
    invented: bool = False


def overlap(found: Mask, drawn: Mask, mm_per_pixel: Spacing | None) -> Overlap:
    """All measures at once; the distances are None too where the frame's spacing is unknown.

    Args:
        found: (height, width).
        drawn: (height, width) of the same frame.
        mm_per_pixel: along (row, column); None = unknown.

    Raises:
        MaskError: the masks have different sizes.
        MissingSpacing: the spacing is not of millimetres.
    """
    shares = dice(found, drawn), iou(found, drawn)
    distances = _distances(found, drawn, mm_per_pixel) if mm_per_pixel else None
    hd95, assd = (_hd95(distances), _assd(distances)) if distances else (None, None)
    any_found, any_drawn = bool(found.any()), bool(drawn.any())
    return Overlap(*shares, hd95, assd, missed=any_drawn and not any_found, invented=any_found and not any_drawn)


def dice(a: Mask, b: Mask) -> float | None:
    """Twice the common pixels over the sum of both. Dice (1945); None where both are empty, 0 where one is.

    Raises:
        MaskError: the masks have different sizes.
    """
    require_one_size(a, b)
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else None


def iou(a: Mask, b: Mask) -> float | None:
    """Common pixels over the pixels of either. Jaccard (1901); None where both are empty, 0 where one is.

    Raises:
        MaskError: the masks have different sizes.
    """
    require_one_size(a, b)
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else None


def hd95_mm(a: Mask, b: Mask, mm_per_pixel: Spacing | None) -> float | None:
    """Within it lie 95 % of the edge of each mask from the other, mm; None where a mask is empty.

    Raises:
        MaskError: the masks have different sizes.
        MissingSpacing: the spacing is unknown, or not of millimetres.
    """
    return _hd95(_distances(a, b, known_spacing(mm_per_pixel, "a distance between edges")))


def assd_mm(a: Mask, b: Mask, mm_per_pixel: Spacing | None) -> float | None:
    """Average symmetric surface distance: the mean way from either edge to the other, mm; None where a mask is empty.

    Raises:
        MaskError: the masks have different sizes.
        MissingSpacing: the spacing is unknown, or not of millimetres.
    """
    return _assd(_distances(a, b, known_spacing(mm_per_pixel, "a distance between edges")))


def participant_mean(values: Iterable[float | None], ids: Sequence[str], rng: np.random.Generator) -> Estimate:
    """Mean over participants of the mean over each one's images, with the participant bootstrap's interval.

    Args:
        values: of each image; None, such as the distance to an empty mask, is left out and has to be counted beside.
        ids: the participant of each image.
        rng: randomness is an argument.

    Raises:
        UndefinedMetric: fewer than two participants have a value.
    """
    present = [(value, person) for value, person in zip(values, ids, strict=True) if value is not None]
    if len({person for _, person in present}) < 2:
        raise UndefinedMetric("a mean over participants needs two of them with a value; report it as absent")
    people, mean = aggregate_by_participant(np.array([v for v, _ in present]), [person for _, person in present])

    def weighted(weights: Weights) -> Scores:
        averaged: Scores = weights @ mean / weights.sum(axis=1)
        return averaged

    return bootstrap({"mean": weighted}, np.zeros(len(people)), rng)["mean"]


# --- what cannot be measured ------------------------------------------------------------------------------------------


def require_one_size(a: Mask, b: Mask) -> None:
    """Refuse masks of two frames.

    Raises:
        MaskError: the shapes differ.
    """
    if a.shape != b.shape:
        seen, expected = (f"{' x '.join(map(str, mask.shape))} (rows x columns)" for mask in (a, b))
        remedy = "compare masks of one frame: bring the found one back onto the frame first"
        raise MaskError([Finding("error", "mask-size", "", f"a mask of {seen}", f"{expected} like the other", remedy)])


def known_spacing(mm_per_pixel: Spacing | None, wanted: str, file: str = "") -> Spacing:
    """The spacing, if it can be one.

    Args:
        mm_per_pixel: along (row, column).
        wanted: what it is needed for, for the error's text.
        file: name of the image, for the error's text.

    Raises:
        MissingSpacing: it is unknown, or not of millimetres.
    """
    low, high = PLAUSIBLE_MM_PER_PIXEL
    if mm_per_pixel is not None and all(low <= mm <= high for mm in mm_per_pixel):
        return mm_per_pixel
    seen = "unknown mm per pixel" if mm_per_pixel is None else "{:g} x {:g} mm per pixel".format(*mm_per_pixel)
    expected = f"{low:g} to {high:g} mm: {wanted} in mm cannot be told without it, and no spacing is ever assumed"
    remedy = "add a row to calibration.csv (two marks of the frame's ruler give it), or export DICOM with its regions"
    raise MissingSpacing([Finding("error", "spacing", file, seen, expected, remedy, field="mm_per_pixel")])


# --- edges ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Distances:
    """From each piece of one edge to the other edge, mm, and how long the piece is, mm: first there, then back."""

    there: Scores
    there_mm: Scores
    back: Scores
    back_mm: Scores


def _distances(a: Mask, b: Mask, mm_per_pixel: Spacing) -> _Distances | None:
    require_one_size(a, b)
    known_spacing(mm_per_pixel, "a distance between edges")
    if not a.any() or not b.any():
        return None
    rows, columns = (np.flatnonzero((a | b).any(axis=axis)) for axis in (1, 0))
    # Edges lie within this box, and so do the ways between them.
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    edge_a, edge_b = _edge_mm(a[box], mm_per_pixel), _edge_mm(b[box], mm_per_pixel)
    on_a, on_b = edge_a > 0, edge_b > 0
    to_a, to_b = (np.asarray(distance_transform_edt(~on, sampling=mm_per_pixel)) for on in (on_a, on_b))
    return _Distances(to_b[on_a], edge_a[on_a], to_a[on_b], edge_b[on_b])


def _edge_mm(mask: Mask, mm_per_pixel: Spacing) -> Scores:
    """(height + 1, width + 1) length of edge at each corner of pixels, mm."""
    row_mm, column_mm = mm_per_pixel
    padded = np.pad(mask, 1).view(np.uint8)
    squares = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    cut = float(np.hypot(row_mm, column_mm)) / 2
    lengths = np.full(16, cut)  # one pixel, or all but one
    lengths[[0, 15]] = 0.0
    lengths[[3, 12]] = column_mm
    lengths[[5, 10]] = row_mm
    lengths[[6, 9]] = 2 * cut  # two pixels that touch at the corner only
    return np.asarray(lengths[squares])


def _hd95(distances: _Distances | None) -> float | None:
    if distances is None:
        return None
    there = _percentile(distances.there, distances.there_mm)
    return max(there, _percentile(distances.back, distances.back_mm))


def _percentile(distance: Scores, length: Scores) -> float:
    """The smallest distance within which 95 % of the edge lies."""
    order = np.argsort(distance, kind="stable")
    reached = np.cumsum(length[order])
    within = np.searchsorted(reached, PERCENTILE * reached[-1] * (1 - 1e-12))
    return float(distance[order[within]])


def _assd(distances: _Distances | None) -> float | None:
    if distances is None:
        return None
    way = distances.there @ distances.there_mm + distances.back @ distances.back_mm
    return float(way / (distances.there_mm.sum() + distances.back_mm.sum()))
