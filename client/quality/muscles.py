"""Drawn muscles of one image, looked at for a study that finds muscles: readable, whole, of a muscle's size, in place.

What a training run would refuse is found here, in the same words, with the row of images.csv; names of labels are shown
only when they cannot name a person.
"""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.quality.appearance import LEFT_OUT
from client.quality.headers import mask_header_findings, read_mask_header
from client.quality.identity import safe_name, shown_mask
from client.quality.masks import (
    Contour,
    Outlines,
    missing,
    other_image,
    place_findings,
    shape_findings,
    size_findings,
)
from client.quality.records import MaskMeasures
from sarco_models.config import StudyConfig
from sarco_models.drawn import Drawn
from sarco_models.errors import DataError, Finding, MaskError
from sarco_models.frames import Frame
from sarco_models.label_words import muscle_called
from sarco_models.mask_files import colour_of
from sarco_models.mask_origins import Origin
from sarco_models.schema import ImageRow
from sarco_models.segmentation import BACKGROUND, OUTSIDE, SegmentationConfig
from sarco_models.targets import Target, drawn_on, target_of
from sarco_models.views import View, segmentation_view

MOST_BEYOND = 0.02
"""Share of what is drawn that may lie outside the network's window: an edge of a pixel or two."""

_COLOUR = re.compile("#[0-9a-f]{6}")

ColouredContour = tuple[Contour, tuple[int, int, int]]
"""An outline and its colour: blue, green, red."""


@dataclass(frozen=True, eq=False)
class MuscleLook:
    """What a look at the muscles of one image found.

    Attributes:
        findings: of this mask.
        contours: outlines of all muscles.
        measures: of each muscle that is drawn; the label is its name.
        annotated: names of the muscles that were looked for, as the hospital has said; empty = not said.
        content: digest of what is drawn, "" when nothing is.
        view: (size, size) what the network would see; None when the image is left out.
        target: what it would be to find there; None likewise.
        origin: where the mask came from, in a study that finds masks.
    """

    findings: tuple[Finding, ...]
    contours: tuple[ColouredContour, ...] = ()
    measures: tuple[MaskMeasures, ...] = ()
    annotated: tuple[str, ...] = ()
    content: str = ""
    view: NDArray[np.uint8] | None = None
    target: Target | None = None
    origin: Origin | None = None


def look_at_muscles(
    folder: Path, row: ImageRow, frame: Frame, small: NDArray[np.uint8], study: StudyConfig
) -> MuscleLook:
    """Read what is drawn on a row's image, and check every muscle of it; faults of the files are findings.

    Args:
        folder: the site's data.
        row: of images.csv.
        frame: the image that the mask belongs to.
        small: a reduced copy of its pixels.
        study: the muscles, and the network's view.
    """
    segmentation = study.segmentation
    if segmentation is None or not row.mask:
        remedy = "draw it and name it in images.csv; until then nothing is learned of it"
        return MuscleLook((replace(missing(row, needed=False), remedy=remedy),))
    try:
        drawn, findings = drawn_on(folder, row, frame, study, shown_by(segmentation))
    except MaskError as error:
        return MuscleLook(tuple(_at(row, f, left_out=True) for f in error.findings))
    found = [_at(row, f) for f in findings]
    contours: list[ColouredContour] = []
    measures = []
    for name in (n for n in segmentation.names if n in drawn.present):
        mask = drawn.classes == drawn.number_of(name, segmentation)
        outlines = Outlines.of(mask)
        found += _of_muscle(name, outlines, frame, small, row, segmentation)
        red, green, blue = colour(name, segmentation)
        contours += [(contour, (blue, green, red)) for contour in outlines.outer]
        measures.append(replace(outlines.measures(frame), label=name))
    header = read_mask_header(folder / row.mask)
    found += [*other_image(folder, header, row), *mask_header_findings(header, row)]
    view, target = _seen(drawn, row, frame, study, findings)
    if target:
        found += _beyond_view(drawn, target.view, row, study)
    said = tuple(sorted(drawn.annotated)) if row.annotated else ()
    return MuscleLook(tuple(found), tuple(contours), tuple(measures), said, _content(drawn), view, target)


def colour(name: str, segmentation: SegmentationConfig) -> tuple[int, int, int]:
    """Red, green and blue in which a muscle's outline is drawn."""
    return colour_of(segmentation.names.index(name) + 1)


def _of_muscle(  # noqa: PLR0913, PLR0917 - a muscle, its image, and their row
    name: str,
    outlines: Outlines,
    frame: Frame,
    small: NDArray[np.uint8],
    row: ImageRow,
    segmentation: SegmentationConfig,
) -> list[Finding]:
    """What is wrong with the shape, size and place of one muscle, in its name."""
    own = replace(row, muscle=name)
    found = [
        *shape_findings(outlines, own),
        *size_findings(outlines, frame, own),
        *place_findings(outlines, frame, small, own),
    ]
    title = next(m.title for m in segmentation.muscles if m.name == name)
    return [replace(f, seen=f"{title}: {f.seen}") for f in found]


def _seen(
    drawn: Drawn, row: ImageRow, frame: Frame, study: StudyConfig, findings: tuple[Finding, ...]
) -> tuple[NDArray[np.uint8] | None, Target | None]:
    """What a network would see and have to find; nothing of an image without spacing where that is needed."""
    with suppress(DataError):  # it is a finding of its own
        view, place = segmentation_view(frame, study.image)
        return view, target_of(drawn, place, row, study, findings)
    return None, None


def _beyond_view(drawn: Drawn, view: View, row: ImageRow, study: StudyConfig) -> list[Finding]:
    """Muscle that the network's window cuts off: it is neither learned nor found."""
    muscle = (drawn.classes != BACKGROUND) & (drawn.classes != OUTSIDE)
    beyond = 1 - int(muscle[view.reach()].sum()) / max(int(muscle.sum()), 1)
    if not muscle.any() or beyond <= MOST_BEYOND:
        return []
    seen = f"{beyond:.0%} of what is drawn lies beyond the {study.image.window_mm:g} mm that the network sees"
    remedy = "nothing to mend here; ask the coordinator for a wider image.window_mm if it is so in many images"
    return [
        Finding("warning", "beyond-view", shown_mask(row), seen, f"at most {MOST_BEYOND:.0%}", remedy, row.row, "mask")
    ]


def _content(drawn: Drawn) -> str:
    if not drawn.present:
        return ""
    shape = f"{drawn.classes.shape}".encode()
    return hashlib.blake2b(shape + drawn.classes.tobytes(), digest_size=16).hexdigest()


def _at(row: ImageRow, finding: Finding, *, left_out: bool = False) -> Finding:
    """With its row; what a training run would do without is a warning, as for every image."""
    field = "" if finding.field == "mask" else finding.field
    return replace(
        finding,
        severity="warning" if left_out else finding.severity,
        file=shown_mask(row),
        row=row.row,
        field=field or "mask",
        remedy=finding.remedy + (LEFT_OUT if left_out else ""),
    )


def shown_by(segmentation: SegmentationConfig) -> Callable[[str], str]:
    """A label as a finding may write it: of the study, or plainly no name of a person."""

    def shown(label: str) -> str:
        plain = safe_name(label) or _COLOUR.fullmatch(label) or muscle_called(label, segmentation) is not None
        return label if plain else f"of {len(label)} characters"

    return shown
