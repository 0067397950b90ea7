"""A trained segmentation network on whole frames: which muscle lies where, and how sure the network is.

A frame goes in as it was read; classes and probabilities come out on the frame's own pixels. Where the study shows the
network a window of so many millimetres, and a frame is larger (a panorama), windows that overlap by half are laid over
the whole frame and their probabilities averaged, near a window's edge with less weight, as nnU-Net does (Isensee et al.
2021). Where the machine has recorded nothing, beyond the outline of a panorama or a fan, nothing is found. The same
frames in the same order give the same bits on the processor.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.frames import Frame
from sarco_models.overlap import dice
from sarco_models.segmentation import BACKGROUND, SegmentationConfig
from sarco_models.views import View, segmentation_view

Probabilities = NDArray[np.float32]

_LEAST_WEIGHT = 0.02
_LEAST_BLANK = 0.005  # of the frame's pixels
_SPARE = 1.02  # a frame that is larger than the window by less than this is one window


@dataclass(frozen=True, eq=False)
class Found:
    """What a network has found on one frame.

    Attributes:
        classes: (height, width) of the frame: 0 background, k the k-th muscle of the study (1 where it has one class).
        probabilities: (classes, height, width); they sum to 1 everywhere.
        view: where the network's square lies on the frame; of several windows the middle one.
        windows: that the frame was seen through.
        agreement: for each class but the background, the Dice of what was found with what was found on the mirrored
            frame; None where neither found any, and where nothing was mirrored.
        blank: (height, width) where the machine recorded nothing, and nothing is found; None = nowhere.
    """

    classes: NDArray[np.uint8]
    probabilities: Probabilities
    view: View
    windows: int = 1
    agreement: tuple[float | None, ...] = ()
    blank: NDArray[np.bool_] | None = None

    @cached_property
    def entropy(self) -> NDArray[np.float32]:
        """(height, width) of the probabilities, 0 sure to 1 all classes alike."""
        p = np.maximum(self.probabilities, 1e-7)
        return np.asarray(-(p * np.log(p)).sum(axis=0) / math.log(len(p)), dtype=np.float32)

    def mask(self, number: int) -> NDArray[np.bool_]:
        """(height, width) pixels of one class, from 1."""
        return np.asarray(self.classes == number)


@dataclass(frozen=True)
class _Window:
    """A part of a frame, and what the network sees of it."""

    rows: slice
    columns: slice
    pixels: NDArray[np.uint8]
    view: View


class Segmenter:
    """A network of a study that segments, ready for frames."""

    def __init__(
        self,
        study: StudyConfig,
        net: nn.Module,
        device: torch.device | str = "cpu",
        *,
        mirror: bool = False,
        rows: int = 8,
    ) -> None:
        """Put the network on its device, to be asked only.

        Args:
            study: with a section [segmentation].
            net: as :func:`sarco_models.unet.build_segmenter` makes it, trained.
            device: where it computes.
            mirror: look at every frame mirrored, too, and average; it costs twice the time, and tells how far the two
                agree. Not where the study's training mirrors nothing: the side of the screen may tell muscles apart.
            rows: images that go through the network at a time.

        Raises:
            ConfigError: the study diagnoses.
        """
        if study.segmentation is None:
            raise ConfigError(f"study {study.name} has no section [segmentation]: its model finds no muscles")
        self.study, self.device, self.rows = study, torch.device(device), rows
        self.mirror = mirror and study.augmentation.mirrors
        self.net = net.to(self.device).eval()
        self.asked: int | None = 0 if len(study.segmentation.muscles) == 1 else None

    def asking(self, muscle: str) -> "Segmenter":
        """The same network, asked for one muscle.

        Args:
            muscle: one of the study's, by any of its names.

        Raises:
            ConfigError: it is none of them, or the network is not asked for any.
        """
        name, names = self.segmentation.find(muscle), self.segmentation.names
        if self.segmentation.classes != "asked":
            raise ConfigError(f"{muscle!r}: this model is not asked for a muscle: do not name one")
        if name is None:
            raise ConfigError(f"{muscle!r} is none of the muscles that this model finds: {', '.join(names)}")
        other = copy(self)
        other.asked = names.index(name)
        return other

    @property
    def segmentation(self) -> SegmentationConfig:
        """Which muscles, as the study has them."""
        assert self.study.segmentation is not None  # noqa: S101 - checked when this was made
        return self.study.segmentation

    @property
    def muscles(self) -> tuple[str, ...]:
        """Name of class 1, 2, ...; "muscle" where the network tells none apart; of many to ask for, the asked one."""
        if self.segmentation.classes == "one":
            return ("muscle",)
        names = self.segmentation.names
        return names if self.segmentation.classes == "muscles" or self.asked is None else (names[self.asked],)

    def find(self, frame: Frame, file: str = "") -> Found:
        """The muscles on one frame.

        Args:
            frame: the 2-D tissue region.
            file: name of the image, for the error's text.

        Raises:
            MissingSpacing: the study's window is in millimetres, and the frame's spacing is unknown.
            ConfigError: the network has to be asked for a muscle; see :meth:`asking`.
        """
        return next(self.find_all([(frame, file)]))

    def find_all(self, frames: Iterable[tuple[Frame, str]]) -> Iterator[Found]:
        """The muscles on frames with their names, in order; see :meth:`find`."""
        waiting = iter(frames)
        while chunk := list(islice(waiting, self.rows)):
            windows = [self._windows(frame, file) for frame, file in chunk]
            squares = [w.pixels for of_frame in windows for w in of_frame]
            plain = self._asked(squares)
            mirrored = self._asked([s[:, ::-1] for s in squares])[..., ::-1] if self.mirror else None
            first = 0
            for (frame, _), of_frame in zip(chunk, windows, strict=True):
                these = slice(first, first + len(of_frame))
                first = these.stop
                yield _found(frame, of_frame, plain[these], None if mirrored is None else mirrored[these])

    def _windows(self, frame: Frame, file: str) -> list[_Window]:
        cfg = self.study.image
        pixels, view = segmentation_view(frame, cfg, file)
        height, width = frame.pixels.shape
        if cfg.framing != "physical":
            return [_Window(slice(0, height), slice(0, width), pixels, view)]
        rows, columns = (
            _placed(side, edges[1] - edges[0])
            for side, edges in zip((height, width), (view.rows, view.columns), strict=True)
        )
        if len(rows) == len(columns) == 1:
            return [_Window(rows[0], columns[0], pixels, view)]
        return [_Window(r, c, *segmentation_view(_part(frame, r, c), cfg, file)) for r in rows for c in columns]

    def _asked(self, squares: Sequence[NDArray[np.uint8]]) -> Probabilities:
        """(images, classes, size, size) probabilities."""
        answers = []
        for start in range(0, len(squares), self.rows):
            batch = torch.from_numpy(np.stack(squares[start : start + self.rows]).astype(np.float32) / 255)
            with torch.inference_mode():
                logits = self.net(batch[:, None].to(self.device), self._question(len(batch)))
                answers.append(logits.softmax(dim=1).to("cpu", torch.float32).numpy())
        return np.concatenate(answers)

    def _question(self, rows: int) -> torch.Tensor | None:
        if self.segmentation.classes != "asked":
            return None
        if self.asked is None:
            raise ConfigError(
                f"this model finds the muscle that it is asked for: say which, of {', '.join(self.segmentation.names)}"
            )
        return torch.full((rows,), self.asked, device=self.device)


def _placed(side: int, window: float) -> list[slice]:
    """Windows that overlap by half or more, from one end of a side to the other; one where it is hardly longer."""
    if side <= window * _SPARE:
        return [slice(0, side)]
    count, long = math.ceil(2 * side / window - 1), round(window)
    starts = np.rint(np.linspace(0, side - long, max(count, 2))).astype(int).tolist()
    return [slice(start, start + long) for start in starts]


def _part(frame: Frame, rows: slice, columns: slice) -> Frame:
    origin = (frame.origin[0] + rows.start, frame.origin[1] + columns.start)
    return replace(frame, pixels=np.ascontiguousarray(frame.pixels[rows, columns]), origin=origin)


def _found(frame: Frame, windows: list[_Window], plain: Probabilities, mirrored: Probabilities | None) -> Found:
    agreement: tuple[float | None, ...] = ()
    probabilities = plain if mirrored is None else np.asarray((plain + mirrored) / 2, dtype=np.float32)
    blank = _blank(frame.pixels)
    joined = _joined(frame, windows, probabilities, blank)
    if mirrored is not None:
        one, other = (_joined(frame, windows, p, blank).argmax(axis=0) for p in (plain, mirrored))
        agreement = tuple(dice(one == k, other == k) for k in range(1, plain.shape[1]))
    classes = joined.argmax(axis=0).astype(np.uint8)
    return Found(classes, joined, windows[len(windows) // 2].view, len(windows), agreement, blank)


def _joined(
    frame: Frame, windows: list[_Window], probabilities: Probabilities, blank: NDArray[np.bool_] | None
) -> Probabilities:
    """(classes, height, width) probabilities of all windows, averaged where they overlap; background where blank."""
    if len(windows) == 1:
        total = windows[0].view.on_frame(probabilities[0])
    else:
        total = np.zeros((probabilities.shape[1], *frame.pixels.shape), dtype=np.float32)
        weights = np.zeros(frame.pixels.shape, dtype=np.float32)
        for window, seen in zip(windows, probabilities, strict=True):
            weight = np.outer(_weight(window.rows), _weight(window.columns))
            total[:, window.rows, window.columns] += window.view.on_frame(seen) * weight
            weights[window.rows, window.columns] += weight
        total /= weights
    if blank is not None:
        total[:, blank] = 0
        total[BACKGROUND, blank] = 1
    return total


def _blank(pixels: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Large black areas at the border of a frame: what lies around a panorama or a fan; None where there are none."""
    black = (pixels == 0).astype(np.uint8)
    if black.mean() < _LEAST_BLANK:
        return None
    solid = np.asarray(cv2.morphologyEx(black, cv2.MORPH_OPEN, np.ones((7, 7), dtype=np.uint8)))
    _, areas, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
    rim = np.unique(np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]]))
    large = [n for n in rim.tolist() if n and stats[n, cv2.CC_STAT_AREA] >= _LEAST_BLANK * pixels.size]
    return np.asarray(np.isin(areas, large)) if large else None


def _weight(side: slice) -> Probabilities:
    """Falls from the middle of a window to its ends."""
    away = np.abs(np.linspace(-1, 1, side.stop - side.start + 2)[1:-1])
    return np.asarray(np.maximum(1 - away, _LEAST_WEIGHT), dtype=np.float32)
