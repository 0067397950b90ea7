"""A frame with what was found on it: outlines, thickness lines, values, a scale, and SYNTHETIC where it applies.

For people to look through. Nothing but the picture's own pixels, the muscles and their values is drawn: no name, no
date. What was not accepted has a dashed outline, so that it is seen without reading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sarco_models.frames import Frame
from sarco_models.mask_files import colour_of, outlines
from sarco_models.outline_tracing import Points

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont

SMALLEST_WIDTH, LARGEST_WIDTH = 640, 1280
SYNTHETIC = "SYNTHETIC: model trained on computer-made people"
_INK, _PAPER, _WARN = (31, 35, 40), (255, 255, 255), (179, 38, 30)
_SCALES_MM = (50, 20, 10, 5, 2, 1)
_DASH = 9.0  # pixels of the picture that is drawn
_MARK = 26  # pixels


@dataclass(frozen=True)
class Drawn:
    """One muscle on a frame.

    Attributes:
        title: as people say it.
        number: its class, from 1, which is its colour.
        mask: (height, width) of the frame.
        line: superficial and deep end of the thickness, (row, column) where whole numbers are centres of pixels; None
            where it was not measured.
        words: its values, in one line.
        accepted: whether it may be used as it is.
    """

    title: str
    number: int
    mask: NDArray[np.bool_]
    line: tuple[tuple[float, float], tuple[float, float]] | None
    words: str
    accepted: bool = True


def overlay(frame: Frame, muscles: Sequence[Drawn], *, synthetic: bool = False, note: str = "") -> Image.Image:
    """The frame, between 640 and 1280 pixels wide, with a caption below it.

    Args:
        frame: grey pixels and their size.
        muscles: drawn in this order.
        synthetic: the model was trained on computer-made people.
        note: a further line of the caption.
    """
    picture, scale = _sized(frame)
    draw = ImageDraw.Draw(picture)
    for muscle in muscles:
        colour = colour_of(muscle.number)
        for outline in outlines(muscle.mask):
            outlined(draw, outline * scale, colour, dash=None if muscle.accepted else _DASH)
        if muscle.line:
            ends = [((column + 0.5) * scale[0], (row + 0.5) * scale[1]) for row, column in muscle.line]
            _measured(draw, ends, colour)
    if frame.mm_per_pixel:
        _scale_bar(draw, picture.size, frame.mm_per_pixel[1] / scale[0])
    return _captioned(picture, muscles, SYNTHETIC if synthetic else "", note)


def picture_size(frame: Frame, *, synthetic: bool = False) -> tuple[int, int]:
    """Width and height of what is above the caption of :func:`overlay`, the mark included."""
    height, width = frame.pixels.shape
    row, column = frame.mm_per_pixel or (1.0, 1.0)
    wide = int(np.clip(width, SMALLEST_WIDTH, LARGEST_WIDTH))
    return wide, max(1, round(height * (row / column) * wide / width)) + (_MARK if synthetic else 0)


def _sized(frame: Frame) -> tuple[Image.Image, NDArray[np.float64]]:
    """The frame in colour with pixels as high as wide, and how much larger it is along x and y."""
    height, width = frame.pixels.shape
    wide, high = picture_size(frame)
    method = cv2.INTER_AREA if wide < width else cv2.INTER_CUBIC
    pixels = cv2.resize(frame.pixels, (wide, high), interpolation=method)
    return Image.fromarray(np.asarray(pixels, dtype=np.uint8)).convert("RGB"), np.array([wide / width, high / height])


# ---- marks on the picture --------------------------------------------------------------------------------------------


def outlined(draw: ImageDraw.ImageDraw, outline: Points, colour: Colour, *, dash: float | None = None) -> None:
    """Draw a closed outline.

    Args:
        draw: the picture.
        outline: (n, 2) x, y in its pixels.
        colour: of the line.
        dash: length of a dash, and of the gap after it; None = a solid line.
    """
    closed = np.concatenate([outline, outline[:1]])
    if dash is None:
        draw.line([tuple(p) for p in closed.tolist()], fill=colour, width=2, joint="curve")
        return
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    for start in np.arange(0, along[-1], 2 * dash):
        places = np.linspace(start, min(start + dash, along[-1]), 5)
        points = zip(np.interp(places, along, closed[:, 0]), np.interp(places, along, closed[:, 1]), strict=True)
        draw.line([(float(x), float(y)) for x, y in points], fill=colour, width=2)


def _measured(draw: ImageDraw.ImageDraw, ends: list[tuple[float, float]], colour: Colour) -> None:
    """A line with a tick across each end, on a dark edge so that it is seen on bright tissue."""
    (x0, y0), (x1, y1) = ends
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
    across = (-(y1 - y0) / length * 6, (x1 - x0) / length * 6)
    lines = [ends, *([(x - across[0], y - across[1]), (x + across[0], y + across[1])] for x, y in ends)]
    for shade, width in ((_INK, 4), (colour, 2)):
        for line in lines:
            draw.line(line, fill=shade, width=width)


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], mm_per_pixel: float) -> None:
    """The longest round length that takes up to a quarter of the width."""
    length = next((mm for mm in _SCALES_MM if mm / mm_per_pixel <= size[0] / 4), _SCALES_MM[-1])
    long = length / mm_per_pixel
    x, y = size[0] - 14, size[1] - 12
    for shade, grown in (((0, 0, 0), 2), (_PAPER, 0)):
        draw.rectangle((x - long - grown, y - 3 - grown, x + grown, y + grown), fill=shade)
    draw.text(
        (x, y - 8), f"{length} mm", fill=_PAPER, font=_font(13), anchor="rs", stroke_width=2, stroke_fill=(0, 0, 0)
    )


# ---- the caption -----------------------------------------------------------------------------------------------------


def _captioned(picture: Image.Image, muscles: Sequence[Drawn], mark: str, note: str) -> Image.Image:
    """The picture on paper, with a line for each muscle, and the mark above everything."""
    font, small = _font(15), _font(12)
    lines: list[tuple[str, Colour, Font, int | None]] = []
    for muscle in muscles:
        head = muscle.title + ("" if muscle.accepted else " (not accepted: look at it)")
        lines += [(head, _INK if muscle.accepted else _WARN, font, muscle.number)]
        lines += [(line, _INK, small, None) for line in _wrapped(muscle.words, small, picture.width - 44)]
    if not muscles:
        lines.append(("No muscle was found.", _WARN, font, None))
    lines += [(line, _INK, small, None) for line in _wrapped(note, small, picture.width - 44)]
    top, heights = _MARK if mark else 0, [24 if font_ is font else 19 for _, _, font_, _ in lines]
    page = Image.new("RGB", (picture.width, top + picture.height + 14 + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(page)
    if mark:
        draw.rectangle((0, 0, page.width, top), fill=_WARN)
        draw.text((page.width / 2, top / 2), mark, fill=_PAPER, font=small, anchor="mm")
    page.paste(picture, (0, top))
    y = top + picture.height + 6
    for (text, colour, font_, number), height in zip(lines, heights, strict=True):
        if number is not None:
            draw.rectangle((10, y + 6, 22, y + 18), fill=colour_of(number), outline=_INK)
        draw.text((32, y + height / 2), text, fill=colour, font=font_, anchor="lm")
        y += height
    return page


@cache
def _font(size: int) -> Font:
    """Pillow's own has no superscript two."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Lines of whole words that fit."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
