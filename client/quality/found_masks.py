"""A mask that nobody has drawn, found on the way of a look: what the network would see of the image, and why.

The same model, the same frame and the same rules as in training, so that what is found here lies in its cache.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from client.quality.appearance import LEFT_OUT
from client.quality.identity import shown_name
from sarco_models.errors import DataError, Finding, MissingSpacing
from sarco_models.mask_origins import Origin, model_told
from sarco_models.preprocess import model_input

if TYPE_CHECKING:
    from client.quality.masks import Contour, Mask, MaskLook
    from sarco_models.config import StudyConfig
    from sarco_models.frames import Frame
    from sarco_models.schema import ImageRow

COLOUR = (235, 175, 60)
"""Of its outline: blue, green, red; one that a person has drawn has another."""


def about_model(study: StudyConfig, folder: Path) -> tuple[Finding, ...]:
    """Open the model once, before any image, so that what is wrong with it is said once; and what is told of it.

    Args:
        study: with image.roi = "auto".
        folder: of the hospital's data.

    Raises:
        ConfigError: it is not here, is another one than the study's, or does not know the study's muscle.
        RunError, WeightsError: it cannot be opened.
    """
    from sarco_models.auto_masks import Finder

    Finder.of(study)
    return model_told(study, folder)


def looked(
    drawn: MaskLook, frame: Frame, row: ImageRow, study: StudyConfig
) -> tuple[NDArray[np.uint8] | None, Origin | None, tuple[Contour, ...], tuple[Finding, ...]]:
    """What the network would see, where its mask came from, outlines of what was found, and what is said of it.

    Args:
        drawn: what a person has drawn there, looked at.
        frame: the image.
        row: of images.csv.
        study: with image.roi = "auto", knowing where its model lies.

    Returns:
        Without a view and an origin where a training run would leave the image out.
    """
    from sarco_models.auto_masks import Finder  # with torch, which other checks do without

    finder, mask = Finder.of(study), drawn.mask
    outlines: tuple[Contour, ...] = ()
    if finder.reads(row):
        if mask is None:
            return None, None, (), ()
        origin = Origin("drawn")
    else:
        try:
            mask, origin = finder.look(frame, row)
        except DataError as error:
            return None, None, (), tuple(_left_out(finding, row) for finding in error.findings)
        outlines = _outlines(mask)
    try:
        return model_input(frame, mask, study.image), origin, outlines, ()
    except MissingSpacing:  # it is a finding of its own
        return None, None, outlines, ()


def _left_out(finding: Finding, row: ImageRow) -> Finding:
    remedy = f"{finding.remedy}{LEFT_OUT}"
    return replace(finding, severity="warning", file=shown_name(row), row=row.row, remedy=remedy)


def _outlines(mask: Mask | None) -> tuple[Contour, ...]:
    if mask is None:
        return ()
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return tuple(np.asarray(outline, dtype=np.int32) for outline in found)
