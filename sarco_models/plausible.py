"""How far a found muscle is to be believed: a score from 0 to 1, in words, without knowing the truth.

Four things count, and the score is their product: what the network itself expects of its Dice; how far it agrees with
itself on the mirrored frame, where its study's training mirrors; how sure it is along the edge; and whether the shape
is one that people draw. A score is worth what it has been measured to be worth: :class:`ScoreCheck` holds scores
against true Dice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.segmenter import Found
from sarco_models.shapes import Mask, Shape, ShapeRange, bellies_of, pieces_of

THRESHOLD = 0.6
"""Score from which a muscle is accepted, where no other was measured."""

BAND_MM, BAND_SHARE = 1.5, 0.02
"""Width of the band on both sides of an edge: in millimetres, or as a share of the frame's shorter side."""

SURE = 0.6
"""Bits of entropy per pixel in that band from which on doubt counts: some are at every edge, for edges are a matter of
opinion."""
_LONGEST_RIM = 0.02  # of an outline, along the end of the picture


# ---- the score -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quality:
    """How far one found muscle is to be believed.

    Attributes:
        score: 0 to 1.
        accepted: the score reaches the threshold.
        reasons: what speaks against it, in words, the heaviest first.
        expected_dice: what the network's probabilities say of it.
        edge_entropy: mean bits per pixel in the band around the edge.
        agreement: Dice with what was found on the mirrored frame; None where nothing was mirrored.
    """

    score: float
    accepted: bool
    reasons: tuple[str, ...]
    expected_dice: float = 0.0
    edge_entropy: float = 1.0
    agreement: float | None = None


NOTHING = Quality(0.0, accepted=False, reasons=("no muscle was found",))


def judge(
    found: Found,
    number: int,
    mm_per_pixel: tuple[float, float] | None,
    *,
    drawn: ShapeRange | None = None,
    threshold: float = THRESHOLD,
) -> Quality:
    """How far a found muscle is to be believed.

    Args:
        found: on one frame.
        number: of the class, from 1.
        mm_per_pixel: of the frame (row, column); None = unknown.
        drawn: range of drawn masks of this muscle.
        threshold: score from which it is accepted.
    """
    mask = found.mask(number)
    if not mask.any():
        return NOTHING
    p = found.probabilities[number]
    expected = 2 * float(p[mask].sum()) / float(p.sum() + mask.sum())
    entropy = edge_entropy(p, mask, mm_per_pixel, found.blank)
    agreement = found.agreement[number - 1] if found.agreement else None
    faults = [
        (expected, f"the network itself expects a Dice of {expected:.2f}"),
        (1.0 if agreement is None else agreement, f"mirrored, it finds another outline (Dice {agreement or 0:.2f})"),
        (
            min(1.0, (1 - entropy) / (1 - SURE)),
            f"the network is not sure where the edge is ({entropy:.2f}; 0 is sure, 1 a guess)",
        ),
        *_faults_of_shape(Shape.of(mask, mm_per_pixel), drawn),
        *_faults_of_place(mask, found.blank),
    ]
    score = math.prod(weight for weight, _ in faults)
    reasons = tuple(words for weight, words in sorted(faults) if weight < 0.9)
    return Quality(score, score >= threshold, reasons, expected, entropy, agreement)


def edge_entropy(
    p: NDArray[np.float32], mask: Mask, mm_per_pixel: tuple[float, float] | None, blank: Mask | None = None
) -> float:
    """Mean entropy of "this muscle or not" in the band around a mask's edge, in bits per pixel, 0 to 1.

    Where nothing was recorded (``blank``) nobody doubts: that is left out.
    """
    rows, columns = (
        (round(BAND_MM / mm) for mm in mm_per_pixel) if mm_per_pixel else [round(BAND_SHARE * min(p.shape))] * 2
    )
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, columns) + 1, 2 * max(1, rows) + 1))
    pixels = mask.astype(np.uint8)
    band = cv2.dilate(pixels, kernel) > cv2.erode(pixels, kernel, borderValue=1)
    if blank is not None:
        band &= ~blank
    q = np.clip(p[band].astype(np.float64), 1e-7, 1 - 1e-7)
    return float(np.mean(-(q * np.log2(q) + (1 - q) * np.log2(1 - q)))) if q.size else 0.0


def _faults_of_shape(shape: Shape, drawn: ShapeRange | None) -> Iterator[tuple[float, str]]:
    """Weight, 0 to 1, and words of everything about a shape."""
    if shape.fragments:
        share, noun = shape.fragments_share, "piece" if shape.fragments == 1 else "pieces"
        yield max(0.0, 1 - 2.5 * share), f"{shape.fragments} further {noun}, {share:.0%} of it"
    yield 1 - shape.holes_share, f"holes, {shape.holes_share:.0%} of it"
    deep = [side for side in shape.sides if side in ("top", "bottom")]
    if deep:
        yield 0.7, f"reaches the {' and the '.join(deep)} of the frame"
    if len(shape.sides) > len(deep):
        wide = [side for side in shape.sides if side not in deep]
        where = f"{' and '.join(wide)} {'side' if len(wide) == 1 else 'sides'}"
        seen = "width and area are of what is seen"
        if shape.bellies == 2:
            seen = "of two bellies; thickness and width are of the larger one, as far as it is seen, area of both"
        yield 0.89, f"cut off at the frame's {where}: {seen}"
    for ratio, words in drawn.beyond(shape) if drawn else ():
        yield 1 / ratio, words


def _faults_of_place(mask: Mask, blank: Mask | None) -> Iterator[tuple[float, str]]:
    """An outline along the edge of a panorama or a fan is where the picture ends, and not the muscle."""
    if blank is None:
        return
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), dtype=np.uint8))
    near = cv2.dilate(blank.astype(np.uint8), np.ones((7, 7), dtype=np.uint8))
    share = float((near > 0)[mask & (inner == 0)].mean())
    if share > _LONGEST_RIM:
        yield 0.7, f"{share:.0%} of its outline is where the picture ends"


# ---- cleaning --------------------------------------------------------------------------------------------------------

TRACE = 0.02
"""A muscle smaller than this share of the largest one found is a trace of doubt, not a muscle."""


@dataclass(frozen=True)
class Cleaned:
    """Classes of which only the largest piece of each (and its other belly) is left, and of traces nothing.

    Attributes:
        classes: (height, width).
        removed: class -> pieces and pixels that were taken away.
        traces: class -> pixels, where nothing is left of it.
    """

    classes: NDArray[np.uint8]
    removed: dict[int, tuple[int, int]]
    traces: dict[int, int]

    def words(self, names: Sequence[str]) -> tuple[str, ...]:
        """What was removed, for people."""
        pieces = (
            f"{pieces} smaller {'piece' if pieces == 1 else 'pieces'} of {names[number - 1]} removed ({pixels} pixels)"
            for number, (pieces, pixels) in self.removed.items()
        )
        traces = (f"a trace of {names[number - 1]} removed ({pixels} pixels)" for number, pixels in self.traces.items())
        return (*pieces, *traces)


def largest_pieces(classes: NDArray[np.uint8]) -> Cleaned:
    """Keep the largest piece of each class and its other belly; pieces that touch by a corner are two."""
    kept, removed, traces = classes.copy(), {}, {}
    present: list[int] = np.unique(classes[classes > 0]).tolist()
    pieces = {number: pieces_of(classes == number) for number in present}
    largest = max((int(areas.max()) for _, areas in pieces.values()), default=0)
    for number, (labels, areas) in pieces.items():
        bellies = bellies_of(labels, areas)
        own, everything = sum(int(areas[k - 1]) for k in bellies), int(areas.sum())
        if own < TRACE * largest:
            kept[labels > 0] = 0
            traces[number] = everything
        elif len(areas) > len(bellies):
            kept[(labels > 0) & ~np.isin(labels, bellies)] = 0
            removed[number] = (len(areas) - len(bellies), everything - own)
    return Cleaned(kept, removed, traces)
