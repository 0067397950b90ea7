"""One look at one row of images.csv: the image is read once, and everything that can be said of it is said.

A look finds faults, measures, and keeps what later steps need: digests for finding copies, a thumbnail for the page and
the network's view for the cache of training. It never raises on bad data, and none of what it says names a person.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from client.quality import found_masks
from client.quality.appearance import LEFT_OUT, Picture, appearance_findings, jpeg_coarseness
from client.quality.devices import device_findings, shown_device
from client.quality.duplicates import duplicate_findings, perceptual_hash
from client.quality.headers import Header, header_findings, read_header
from client.quality.identity import name_findings, shown_name
from client.quality.masks import MaskLook, look_at_mask
from client.quality.muscles import ColouredContour, MuscleLook, look_at_muscles
from client.quality.records import ImageRecord
from sarco_models.burned_in import find_text
from sarco_models.config import StudyConfig
from sarco_models.errors import DataError, Finding, MissingSpacing
from sarco_models.frames import Box, Frame
from sarco_models.images import Calibration, Template, read_image
from sarco_models.mask_origins import origins_told
from sarco_models.preprocess import model_input
from sarco_models.schema import ImageRow

THUMBNAIL = (192, 256)
"""Largest width and height of a thumbnail, in pixels."""

_JPEG_QUALITY = 80
_OUTLINE = (60, 200, 255)  # blue, green, red: amber on grey tissue
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Look:
    """Everything that one look needs; it can be sent to another process.

    Attributes:
        folder: the site's data.
        study: what the data are for.
        row: of images.csv.
        calibration: what the hospital says of this image.
        templates: what it says of its devices.
        salt: secret of the site, for digests of patient ids.
    """

    folder: Path
    study: StudyConfig
    row: ImageRow
    calibration: Calibration | None = None
    templates: tuple[Template, ...] = ()
    salt: bytes = b""


def examine(look: Look) -> ImageRecord:
    """Read, check and measure one image and its mask; every fault is a finding of the record."""
    try:
        return _examined(look)
    except Exception as fault:  # a check that fails on one image must not stop the other thousands
        seen, remedy = f"a check stopped ({type(fault).__name__})", "tell the makers of SARCO-FL; the image is left out"
        finding = Finding("warning", "check-failed", shown_name(look.row), seen, "a finished check", remedy)
        return ImageRecord(look.row, (replace(finding, row=look.row.row, field="image"),), left_out=True)


def compare(records: Sequence[ImageRecord], study: StudyConfig) -> tuple[Finding, ...]:
    """What shows only when all images are seen together: copies, shared masks, devices, names, where masks come from.

    Args:
        records: of all rows of images.csv.
        study: what the data are for; without images in it there is nothing to compare.
    """
    if not study.uses_images:
        return ()
    return (
        *duplicate_findings(records),
        *device_findings(records),
        *name_findings([record.row for record in records]),
        *origins_told([record.origin for record in records if record.origin], study),
    )


def _examined(look: Look) -> ImageRecord:
    row, path = look.row, look.folder / look.row.image
    try:
        frame = read_image(path, look.calibration, row.frame, templates=look.templates, colour=True)
    except DataError as error:
        return ImageRecord(row, _left_out(error, row), left_out=True)
    digest, coarseness, header = _file_facts(path, look, lossy=frame.facts.lossy)
    small = _small(frame.pixels)
    drawn = _drawn(look, frame, small)
    text = find_text(frame.pixels)
    grey = cv2.calcHist([frame.pixels], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    picture = Picture(frame, grey, small, coarseness)
    findings = (
        *appearance_findings(picture, row, look.study.image),
        *_text_findings(text, frame, row),
        *header_findings(header, row),
        *drawn.findings,
    )
    return ImageRecord(
        row,
        findings,
        facts=replace(frame.facts, transducer=shown_device(frame.facts.transducer)),
        device=shown_device(frame.device),
        shape=(frame.pixels.shape[0], frame.pixels.shape[1]),
        stored_shape=frame.stored_shape,
        mm_per_pixel=frame.mm_per_pixel,
        file_digest=digest,
        content=_content(frame.pixels),
        phash=perceptual_hash(small),
        header_id=header.header_id,
        grey=grey,
        mask_content=drawn.content,
        measures=drawn.measures[0] if drawn.measures else None,
        text=text,
        thumbnail=_thumbnail(small, frame.pixels.shape, text, drawn.contours),
        left_out=drawn.view is None,
        view=drawn.view,
        target=drawn.target,
        drawn=drawn.measures if look.study.segments else (),
        annotated=drawn.annotated,
        origin=drawn.origin,
    )


def _drawn(look: Look, frame: Frame, small: NDArray[np.uint8]) -> MuscleLook:
    """What is drawn on the image: the muscles of a study that finds them, else the one that is looked at."""
    if look.study.segments:
        return look_at_muscles(look.folder, look.row, frame, small, look.study)
    drawn = look_at_mask(look.folder, look.row, frame, small, look.study.image)
    outlines = tuple((contour, _OUTLINE) for contour in drawn.contours)
    measures = (drawn.measures,) if drawn.measures else ()
    if not look.study.image.auto:
        view = _view(frame, drawn, look)
        return MuscleLook(drawn.findings, outlines, measures, content=drawn.content, view=view)
    view, origin, found, said = found_masks.looked(drawn, frame, look.row, look.study)
    outlines = (*outlines, *((contour, found_masks.COLOUR) for contour in found))
    said = (*drawn.findings, *said)
    return MuscleLook(said, outlines, measures, content=drawn.content, view=view, origin=origin)


def _left_out(error: DataError, row: ImageRow) -> tuple[Finding, ...]:
    """A fault of one image leaves that image out; it does not stop the site."""
    return tuple(
        replace(
            finding,
            severity="warning",
            file=shown_name(row),
            row=row.row,
            field=finding.field or "image",
            remedy=f"{finding.remedy}{LEFT_OUT}",
        )
        for finding in error.findings
    )


def _file_facts(path: Path, look: Look, *, lossy: bool) -> tuple[str, float, Header]:
    """Digest of the file, how coarsely its pixels are compressed, and what its header says of people."""
    digest = hashlib.blake2b()
    with path.open("rb") as file:
        header = read_header(file, look.row.participant_id, look.salt)
        file.seek(0)
        chunk = file.read(_CHUNK)  # a cine may be larger than the memory
        coarseness = jpeg_coarseness(chunk) if lossy else 0.0
        while chunk:
            digest.update(chunk)
            chunk = file.read(_CHUNK)
    return digest.hexdigest(), coarseness, header


def _view(frame: Frame, drawn: MaskLook, look: Look) -> NDArray[np.uint8] | None:
    """What the network would see, as :mod:`sarco_models.image_cache` makes it; None when it would be left out."""
    cfg = look.study.image
    if cfg.roi == "mask" and drawn.mask is None:
        return None
    with suppress(MissingSpacing):  # it is a finding of its own
        return model_input(frame, drawn.mask if cfg.roi == "mask" else None, cfg)
    return None


def _text_findings(text: tuple[Box, ...], frame: Frame, row: ImageRow) -> list[Finding]:
    """Writing where the network would read it; around the region nothing is ever read."""
    said = frame.facts.burned_in
    if not text:
        if said != "YES":
            return []
        seen = "the file says that it is annotated; no text was found in the tissue region"
        expected, remedy = "no annotation", "look at the thumbnail; what lies around the region is never read"
        return [Finding("note", "burned-in-outside", shown_name(row), seen, expected, remedy, row.row, "image")]
    x0, y0, x1, y1 = max(text, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    places = "a place" if len(text) == 1 else f"{len(text)} places"
    seen = f"{places} like text, the largest {x1 - x0} x {y1 - y0} pixels at x {x0}, y {y0} of the tissue region"
    seen += ", though the file says it has none" if said == "NO" else ""
    remedy = "give the tissue region without it in calibration.csv or a template, or blacken it, or use another frame"
    expected = "tissue without writing, for a training run would read it"
    return [Finding("error", "burned-in-text", shown_name(row), seen, expected, remedy, row.row, "image")]


def _content(pixels: NDArray[np.uint8]) -> str:
    """Digest of the tissue pixels and of their shape."""
    digest = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=16)
    digest.update(pixels.data)
    return digest.hexdigest()


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy that fits a thumbnail."""
    height, width = pixels.shape
    scale = min(THUMBNAIL[0] / width, THUMBNAIL[1] / height, 1.0)
    if scale == 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale <= 0.5:  # the mean of 2 x 2 pixels costs a tenth of what any other scale does
        halved = pixels[: height // 2 * 2, : width // 2 * 2]
        pixels = np.asarray(cv2.resize(halved, (width // 2, height // 2), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _thumbnail(
    small: NDArray[np.uint8], shape: tuple[int, ...], text: tuple[Box, ...], contours: tuple[ColouredContour, ...]
) -> bytes:
    """JPEG of the reduced image, suspected text blacked out, everything that is drawn outlined."""
    scale = (small.shape[1] / shape[1], small.shape[0] / shape[0])
    picture = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    for x0, y0, x1, y1 in text:
        first = (int(x0 * scale[0]) - 1, int(y0 * scale[1]) - 1)
        cv2.rectangle(picture, first, (int(x1 * scale[0]) + 1, int(y1 * scale[1]) + 1), (0, 0, 0), cv2.FILLED)
    for contour, colour in contours:
        cv2.polylines(picture, [np.rint(contour * scale).astype(np.int32)], isClosed=True, color=colour)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])
