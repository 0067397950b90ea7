"""Where the network's square lies on a frame, and the way back: from the square's classes to the frame's pixels.

The square shows the whole tissue region, for no mask is known beforehand. Its pixels are those of
:func:`sarco_models.preprocess.model_input`. Coordinates are of pixel edges: pixel 0 reaches from 0 to 1, its centre is
at .5, on the frame as in the square.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import ImageConfig
from sarco_models.frames import Frame
from sarco_models.preprocess import model_input
from sarco_models.segmentation import BACKGROUND, OUTSIDE

NUMBERS = 8
"""How many numbers tell a view, beside its size; see :meth:`View.numbers`."""


@dataclass(frozen=True)
class View:
    """Where the network's square lies on a frame.

    Attributes:
        frame_shape: rows and columns of the frame.
        size: pixels along each side of the square.
        rows: the square's first and last edge in the frame's coordinates; they may lie beyond the frame.
        columns: likewise.
        mm_per_pixel: of the square's pixels (row, column); None = unknown.
    """

    frame_shape: tuple[int, int]
    size: int
    rows: tuple[float, float]
    columns: tuple[float, float]
    mm_per_pixel: tuple[float, float] | None

    def inside(self) -> NDArray[np.bool_]:
        """(size, size) pixels of the square whose centre lies on the frame."""
        row, column = self._on_frame(self.rows, 0), self._on_frame(self.columns, 1)
        on_it: NDArray[np.bool_] = (row >= 0)[:, None] & (column >= 0)
        return on_it

    def reach(self) -> tuple[slice, slice]:
        """Rows and columns of the frame whose centre the square covers."""
        return self._in_square(self.rows, 0)[0], self._in_square(self.columns, 1)[0]

    def square(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What the square shows of a map of classes: each pixel has the class of its centre.

        Args:
            classes: (height, width) of the frame.

        Returns:
            (size, size), OUTSIDE beyond the frame.
        """
        if classes.shape != self.frame_shape:
            raise ValueError(f"classes of shape {classes.shape} on a frame of {self.frame_shape}")
        row, column = self._on_frame(self.rows, 0), self._on_frame(self.columns, 1)
        return np.where(self.inside(), classes[row[:, None], column], np.uint8(OUTSIDE))

    def on_frame(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities at the frame's pixels, linear between the square's.

        Args:
            probabilities: (classes, size, size).

        Returns:
            (classes, height, width); where the square does not reach, the background is 1.
        """
        if probabilities.shape[1:] != (self.size, self.size):
            raise ValueError(f"probabilities of shape {probabilities.shape} of a square of {self.size} pixels")
        found = np.zeros((len(probabilities), *self.frame_shape), dtype=np.float32)
        found[BACKGROUND] = 1
        rows, row_pairs = self._in_square(self.rows, 0)
        columns, column_pairs = self._in_square(self.columns, 1)
        # Columns first: the second pass, over all pixels of the frame, then copies whole rows.
        wide = _between(np.ascontiguousarray(probabilities, dtype=np.float32), column_pairs, axis=2)
        found[:, rows, columns] = _between(wide, row_pairs, axis=1)
        return found

    def numbers(self) -> NDArray[np.float64]:
        """All but the size, for an array on disk; :meth:`of_numbers` reads them."""
        return np.array([*self.frame_shape, *self.rows, *self.columns, *(self.mm_per_pixel or (math.nan, math.nan))])

    @staticmethod
    def of_numbers(numbers: Sequence[float] | NDArray[np.float64], size: int) -> "View":
        """Inverse of :meth:`numbers`."""
        height, width, top, bottom, left, right, row_mm, column_mm = (float(n) for n in numbers)
        mm = None if math.isnan(row_mm) else (row_mm, column_mm)
        return View((int(height), int(width)), size, (top, bottom), (left, right), mm)

    def _on_frame(self, edges: tuple[float, float], axis: int) -> NDArray[np.int64]:
        """(size,) pixel of the frame at the centre of each pixel of the square, -1 beyond the frame."""
        centres = edges[0] + (np.arange(self.size) + 0.5) * ((edges[1] - edges[0]) / self.size)
        pixels = np.floor(centres).astype(np.int64)
        return np.where((pixels >= 0) & (pixels < self.frame_shape[axis]), pixels, -1)

    def _in_square(self, edges: tuple[float, float], axis: int) -> tuple[slice, "_Pairs"]:
        """Pixels of the frame whose centre the square covers, and between which pixels of the square each lies.

        Pixels of the square beyond the frame take no part: there is nothing to be seen in them.
        """
        side = self.frame_shape[axis]
        first = max(0, math.ceil(edges[0] - 0.5))
        last = max(first, min(side, math.ceil(edges[1] - 0.5)))
        shown = np.flatnonzero(self._on_frame(edges, axis) >= 0)
        if not shown.size:
            return slice(0, 0), _Pairs.none()
        scale = self.size / (edges[1] - edges[0])
        place = (np.arange(first, last) + 0.5 - edges[0]) * scale - 0.5
        place = place.clip(shown[0], shown[-1])
        lower = np.minimum(np.floor(place).astype(np.int64), max(shown[-1] - 1, 0))
        upper = np.minimum(lower + 1, shown[-1])
        return slice(first, last), _Pairs(lower, upper, (place - lower).astype(np.float32))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Of each pixel the two neighbours that it lies between, and the share of the second."""

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    share: NDArray[np.float32]

    @staticmethod
    def none() -> "_Pairs":
        return _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def _between(values: NDArray[np.float32], pairs: _Pairs, axis: int) -> NDArray[np.float32]:
    share = pairs.share.reshape(-1, *[1] * (values.ndim - 1 - axis))
    result = np.take(values, pairs.lower, axis=axis)
    result *= 1 - share
    upper = np.take(values, pairs.upper, axis=axis)
    upper *= share
    result += upper
    return result


@dataclass(frozen=True, eq=False)
class Views(Sequence[View]):
    """Views of many images, made of numbers on disk when they are asked for.

    Attributes:
        parts: (images, NUMBERS) of each site.
        size: pixels along each side of the square.
    """

    parts: tuple[NDArray[np.float64], ...]
    size: int

    @staticmethod
    def of(parts: Sequence[tuple[NDArray[np.float64], int]]) -> "Views":
        """Of sites whose squares have the same size."""
        return Views(tuple(numbers for numbers, _ in parts), parts[0][1] if parts else 0)

    def __len__(self) -> int:
        """Number of images over all parts."""
        return sum(len(part) for part in self.parts)

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[View]: ...
    def __getitem__(self, index: int | slice) -> View | Sequence[View]:
        """Of one image, counted over all parts; or of several."""
        if isinstance(index, slice):
            return [self[k] for k in range(len(self))[index]]
        place = range(len(self))[index]
        for part in self.parts:
            if place < len(part):
                return View.of_numbers(part[place], self.size)
            place -= len(part)
        raise IndexError(index)


def segmentation_view(frame: Frame, cfg: ImageConfig, file: str = "") -> tuple[NDArray[np.uint8], View]:
    """The network's square of a whole frame, and where it lies.

    Args:
        frame: the 2-D tissue region.
        cfg: framing and size; the physical window lies around the middle of the region.
        file: name of the image, for the error's text.

    Returns:
        (size, size) grey values 0..255, black beyond the frame; and the view.

    Raises:
        MissingSpacing: physical framing of a frame whose mm per pixel are unknown, or known and impossible.
    """
    pixels = model_input(frame, None, cfg.model_copy(update={"roi": "none"}), file)
    if cfg.framing == "physical":
        rows, columns = (
            _window(side, mm, cfg) for side, mm in zip(frame.pixels.shape, frame.mm_per_pixel or (), strict=True)
        )
    elif cfg.framing == "letterbox":
        longest = max(frame.pixels.shape)
        rows, columns = (_boxed(side, longest, cfg.size) for side in frame.pixels.shape)
    else:
        rows, columns = ((0.0, float(side)) for side in frame.pixels.shape)
    mm_per_pixel = None
    if frame.mm_per_pixel:
        steps = [(edges[1] - edges[0]) / cfg.size for edges in (rows, columns)]
        mm_per_pixel = (frame.mm_per_pixel[0] * steps[0], frame.mm_per_pixel[1] * steps[1])
    shape = (frame.pixels.shape[0], frame.pixels.shape[1])
    return pixels, View(shape, cfg.size, rows, columns, mm_per_pixel)


def _window(side: int, mm: float, cfg: ImageConfig) -> tuple[float, float]:
    """Edges of the physical window, whole pixels of the frame, as ``model_input`` cuts it."""
    wide = round(cfg.window_mm / mm)
    first = (side - wide) // 2
    return float(first), float(first + wide)


def _boxed(side: int, longest: int, size: int) -> tuple[float, float]:
    """Edges of the letter-box: the frame fills whole pixels of the square, as ``model_input`` places it."""
    filled = max(1, min(size, round(side * (size / longest))))
    before = (size - filled) // 2
    step = side / filled
    return -before * step, (size - before) * step
