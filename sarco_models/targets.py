"""What a network is to find on each image of a site, as arrays beside the pixels in the cache.

A target is what somebody has drawn, in the network's square. Which muscles were looked for on an image is said by the
hospital; where it says nothing, somebody looked for all muscles that any of the hospital's masks holds.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import StudyConfig
from sarco_models.drawn import DRAWN_VERSION, Drawn, read_drawn
from sarco_models.errors import Finding
from sarco_models.frames import Frame
from sarco_models.image_list import IMAGES_FILE, ImageRow
from sarco_models.segmentation import SegmentationConfig
from sarco_models.views import NUMBERS, View, segmentation_view

_FILES = ("targets", "annotated", "views", "muscles")


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be found on one image.

    Attributes:
        classes: (size, size) of the network's square, OUTSIDE where nothing is known.
        annotated: muscles that were looked for, as the hospital has said; empty = not said.
        present: muscles that are drawn on the frame.
        view: where the square lies on the frame.
        muscle: name of the one that the image is of; "" = not known.
        findings: warnings and notes on the mask.
    """

    classes: NDArray[np.uint8]
    annotated: frozenset[str]
    present: frozenset[str]
    view: View
    muscle: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of all images of a cache, memory-mapped.

    Attributes:
        classes: (images, size, size) uint8.
        annotated: (images, muscles) bool, in the order of the study; one column with ``classes = "one"``.
        views: (images, NUMBERS) see :meth:`sarco_models.views.View.numbers`.
        muscles: (images,) position in the study's names of the muscle that an image is of; -1 = not known.
    """

    classes: NDArray[np.uint8]
    annotated: NDArray[np.bool_]
    views: NDArray[np.float64]
    muscles: NDArray[np.int8]


def read_target(folder: Path, row: ImageRow, frame: Frame, study: StudyConfig) -> tuple[NDArray[np.uint8], Target]:
    """The network's square of a row's image, and what is to be found there.

    Raises:
        DataError: the mask cannot be used, or the square cannot be cut out of the frame.
    """
    pixels, view = segmentation_view(frame, study.image, row.image)
    drawn, findings = drawn_on(folder, row, frame, study)
    return pixels, target_of(drawn, view, row, study, findings)


def drawn_on(
    folder: Path, row: ImageRow, frame: Frame, study: StudyConfig, shown: Callable[[str], str] = str
) -> tuple[Drawn, tuple[Finding, ...]]:
    """What is drawn on a row's image; see :func:`sarco_models.drawn.read_drawn`."""
    return read_drawn(
        folder / row.mask,
        frame,
        _segmentation(study),
        muscle=row.muscle,
        label=row.mask_label,
        annotated=row.annotated,
        shown=shown,
    )


def target_of(
    drawn: Drawn, view: View, row: ImageRow, study: StudyConfig, findings: tuple[Finding, ...] = ()
) -> Target:
    """What is drawn on a row's frame, in the network's square."""
    looked_for = drawn.annotated if row.annotated else frozenset[str]()
    muscle = _segmentation(study).find(row.muscle) if row.muscle else None
    return Target(view.square(drawn.classes), looked_for, drawn.present, view, muscle or "", findings)


def target_words(study: StudyConfig) -> str:
    """What targets depend on beside the files and the rows; "" for a study without targets."""
    if study.segmentation is None:
        return ""
    muscles = ";".join(m.model_dump_json() for m in study.segmentation.muscles)
    return f"|{DRAWN_VERSION}|{study.segmentation.classes}|{muscles}"


def row_words(row: ImageRow, study: StudyConfig) -> str:
    """What a target, or a mask that is found, depends on of its row, beside what the pixels do."""
    if study.image.auto:
        return f"|{row.muscle}"
    return f"|{row.muscle}|{row.annotated}" if study.segments else ""


def drawn_rows(rows: Sequence[ImageRow], study: StudyConfig) -> tuple[tuple[int, ...], tuple[Finding, ...]]:
    """Positions of the rows that can be used, and a note on those that lack a mask in a study of muscles."""
    with_mask = tuple(k for k, row in enumerate(rows) if row.mask or not study.segments)
    without = len(rows) - len(with_mask)
    if not without:
        return with_mask, ()
    seen = f"{without} of {len(rows)} images without a mask"
    remedy = "nothing; draw them if you can: until then they are not trained on"
    return with_mask, (Finding("note", "mask-missing", IMAGES_FILE, seen, "a mask each", remedy, field="mask"),)


def save_targets(folder: Path, targets: Sequence[Target], study: StudyConfig) -> None:
    """Write targets as arrays into a folder that nobody reads yet."""
    segmentation, side = _segmentation(study), study.image.size
    usual = frozenset[str]().union(*(t.present for t in targets))
    arrays: tuple[NDArray[Any], ...] = (
        np.array([t.classes for t in targets], dtype=np.uint8).reshape(-1, side, side),
        np.array([_looked_for(t, usual, segmentation) for t in targets], dtype=np.bool_).reshape(
            -1, segmentation.outputs - 1
        ),
        np.array([t.view.numbers() for t in targets], dtype=np.float64).reshape(-1, NUMBERS),
        np.array([segmentation.names.index(t.muscle) if t.muscle else -1 for t in targets], dtype=np.int8),
    )
    for name, array in zip(_FILES, arrays, strict=True):
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())


def load_targets(folder: Path) -> Targets:
    """Targets that :func:`save_targets` has written, memory-mapped."""
    return Targets(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES))


def _looked_for(target: Target, usual: frozenset[str], segmentation: SegmentationConfig) -> list[bool]:
    """For each muscle of the study whether somebody looked for it; of one class, for the image's own."""
    if segmentation.single:
        return [bool(target.annotated or target.present)]
    looked_for = target.annotated or usual
    return [name in looked_for for name in segmentation.names]


def _segmentation(study: StudyConfig) -> SegmentationConfig:
    if study.segmentation is None:
        raise ValueError("a study without [segmentation] has no targets")
    return study.segmentation
