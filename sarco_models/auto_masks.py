"""The muscle on an image where nobody has drawn it: found by a trained segmentation model, judged, and used or not.

A study with ``image.roi = "auto"`` names the model; every hospital has its file. A frame is looked at alone and on one
thread of the processor, so that the same frame gives the same mask in whatever order, company and process it comes.
Of what was found the largest piece is the mask. A mask whose score is too low is not used: the image is shown as a
study without masks would show it, or left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from sarco_models.config import AutoMasksConfig, StudyConfig
from sarco_models.errors import ConfigError, DataError, Finding, MissingSpacing
from sarco_models.frames import Frame
from sarco_models.mask_origins import Origin as Origin
from sarco_models.masks import read_mask
from sarco_models.plausible import Quality, judge
from sarco_models.schema import IMAGES_FILE, ImageRow
from sarco_models.segmenter import Segmenter
from sarco_models.segmenter_files import agreed_place
from sarco_models.shapes import Mask, bellies_of, pieces_of

if TYPE_CHECKING:
    from sarco_models.released_segmenter import ReleasedSegmenter

_REASONS = 2  # of an image that is left out; the cache has them all
_NO_SPACING = "its millimetres per pixel are not known, and the model needs them"


@dataclass(frozen=True, eq=False)
class Finder:
    """The segmentation model of a study, and what it is to find.

    Attributes:
        auto: how masks are found.
        released: the model.
        segmenter: its network, on the processor.
    """

    auto: AutoMasksConfig
    released: ReleasedSegmenter
    segmenter: Segmenter

    @staticmethod
    def of(study: StudyConfig) -> Finder:
        """The finder of a study; the model is opened once in a process.

        Raises:
            ConfigError: the model is not here, is another one, or does not know the study's muscle.
            RunError, WeightsError: it cannot be opened.
        """
        auto = _section(study)
        released, segmenter = _opened(agreed_place(auto), auto.sha256)
        known = segmenter.segmentation.names
        if auto.muscle and auto.muscle not in known:
            raise ConfigError(
                f"image.auto.muscle = {auto.muscle!r}: segmentation model {auto.segmenter} finds {', '.join(known)}: "
                "write one of these"
            )
        return Finder(auto, released, segmenter)

    @property
    def synthetic(self) -> bool:
        """Whether the model is known to be trained on computer-made people."""
        return self.released.about.synthetic is True

    @property
    def threshold(self) -> float:
        """Score from which a mask is used."""
        least = self.auto.least_quality
        return self.released.about.threshold if least is None else least

    def reads(self, row: ImageRow) -> bool:
        """Whether what a person has drawn on this image is used."""
        return bool(row.mask) and self.auto.masks == "missing"

    def mask(self, frame: Frame, row: ImageRow, folder: Path) -> tuple[Mask | None, Origin]:
        """The mask of one image: the drawn one where there is one and the study wants it, else what is found.

        Args:
            frame: the image.
            row: of images.csv.
            folder: of the hospital's data.

        Returns:
            (height, width) of the frame, None where the whole tissue region is shown; and where it came from.

        Raises:
            MaskError: a drawn mask that cannot be used: somebody has to look at it, and nothing replaces it unseen.
            DataError: nothing good was found, and the study leaves such images out.
        """
        if self.reads(row):
            return read_mask(folder / row.mask, frame, label=row.mask_label or None), Origin("drawn")
        return self.look(frame, row)

    def look(self, frame: Frame, row: ImageRow) -> tuple[Mask | None, Origin]:
        """What the model finds on one image, whether or not anybody has drawn there; see :meth:`mask`."""
        mask, origin = self._found(frame, row)
        if mask is None and self.auto.otherwise == "leave_out":
            score = "no score" if origin.score is None else f"a score of {origin.score:.2f}"
            seen = f"no good mask ({score}: {'; '.join(origin.reasons[:_REASONS])})"
            remedy = "draw it, and name the mask in images.csv"
            expected = f"a score of {self.threshold:.2f} or more"
            raise DataError([Finding("error", "mask-not-found", IMAGES_FILE, seen, expected, remedy, field="mask")])
        return mask, origin

    def _found(self, frame: Frame, row: ImageRow) -> tuple[Mask | None, Origin]:
        asked = self._muscle(row)
        if asked is None:
            known = ", ".join(self.segmenter.segmentation.names)
            said = f"muscle {row.muscle!r} of images.csv" if row.muscle else "an image whose muscle is not said"
            return None, Origin("tissue", None, (f"{said} is none that the model finds ({known})",))
        number, name = asked
        try:
            with _one_thread():
                found = self._asking(name).find(frame, row.image)
        except MissingSpacing:
            return None, Origin("tissue", None, (_NO_SPACING,))
        found = replace(found, classes=_largest(found.classes, number))
        drawn = self.released.about.shapes.get(name)
        quality = judge(found, number, frame.mm_per_pixel, drawn=drawn, threshold=self.threshold)
        if not quality.accepted or not found.mask(number).any():  # a threshold of 0 accepts anything but nothing
            return None, Origin("tissue", quality.score, _against(quality, self.threshold))
        return found.mask(number), Origin("found", quality.score, quality.reasons)

    def _muscle(self, row: ImageRow) -> tuple[int, str] | None:
        """Number of the class that is looked for, and the muscle's name; None where the model has none for this image.

        A model of one class finds the muscle that an image is of, whichever of those it has learned that is.
        """
        classes = self.segmenter.muscles
        name = self.auto.muscle or (self.segmenter.segmentation.find(row.muscle) if row.muscle else "")
        if name is None or (not name and len(classes) > 1):
            return None
        return (1 if len(classes) == 1 or self._is_asked else 1 + classes.index(name)), name

    @property
    def _is_asked(self) -> bool:
        return self.segmenter.segmentation.classes == "asked"

    def _asking(self, name: str) -> Segmenter:
        return self.segmenter.asking(name) if self._is_asked and name else self.segmenter


def _section(study: StudyConfig) -> AutoMasksConfig:
    if study.image.auto is None:
        raise ConfigError(f'study {study.name} finds no masks: write image.roi = "auto" and [image.auto]')
    return study.image.auto


@functools.lru_cache(maxsize=2)
def _opened(place: Path, _sha256: str) -> tuple[ReleasedSegmenter, Segmenter]:
    from sarco_models.released_segmenter import open_segmenter  # it knows cohorts, whose images need masks

    released = open_segmenter(place)
    return released, released.segmenter("cpu")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are added in the same order on every machine, and processes that look at images leave each other room."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _largest(classes: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Of one class only the largest piece is left, and its other belly."""
    pieces, areas = pieces_of(classes == number)
    if len(areas) < 2:
        return classes
    return np.where((pieces > 0) & ~np.isin(pieces, bellies_of(pieces, areas)), np.uint8(0), classes)


def _against(quality: Quality, threshold: float) -> tuple[str, ...]:
    return quality.reasons or (f"the score {quality.score:.2f} is below {threshold:.2f}",)
