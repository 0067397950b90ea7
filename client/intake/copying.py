"""De-identified copies: the pixels of the tissue region in a new file, and nothing else of the old one.

DICOM becomes a DICOM still with a header written from a short list (PS3.15 E.1: basic profile with clean pixel data);
JPEG, PNG, TIFF and BMP become PNG. Everything outside the tissue region is black. A mask becomes a PNG whose grey
levels are its labels. ``read_image`` and ``read_mask`` find in a copy what they found in the source, to the bit.

Copies are written under a temporary name; who asked for them renames them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from client.intake.dicom_header import HeaderFacts, read_header
from client.intake.dicom_still import Identity, dicom_bytes, stored
from client.intake.muscle_masks import MuscleJob, copied_muscles, labels_of
from client.mapping import FrameChoice
from sarco_models.burned_in import find_text
from sarco_models.errors import DataError, Finding, MaskError, Severity
from sarco_models.images import Box, Calibration, Frame, Template, frame_count, read_image
from sarco_models.masks import mask_labels, read_mask

COPY_VERSION = 1
"""Raise it when the same source would be copied otherwise: everything is copied again then."""

PART = ".part"
COLOURED, MARKED = 0.01, 0.0005
"""Share of coloured pixels in a frame with Doppler or elastography, and with callipers; as check-data has them."""

_PNG_COMPRESSION = 4


@dataclass(frozen=True)
class Job:
    """One image to copy, with its mask.

    Attributes:
        source: the image.
        mask: its mask, None without one.
        folder: the site's data, where ``images`` and ``masks`` are.
        name: of the copies, without suffix.
        person: what the copies call the person.
        path: of the image below the source folder, or what else tells it from all others; only a keyed digest is used.
        secret: of this site; new identifiers are made with it.
        calibration: what the hospital says about this image.
        templates: what the hospital says about its devices.
        frames: which of a cine.
        keep_text: suspected text in the region is no reason to refuse.
        keep_colour: colour in the region is no reason to refuse.
        checked: a person has looked: no text is left.
        label: the one label of the mask that is copied, "" = see ``labels``.
        labels: number of each label; empty = numbers stay, and a single label without a number becomes 1.
        muscles: how the masks of a study of muscles are read, which may be several; None in every other study.
    """

    source: Path
    mask: Path | None
    folder: Path
    name: str
    person: str
    path: str
    secret: bytes
    calibration: Calibration | None = None
    templates: tuple[Template, ...] = ()
    frames: FrameChoice = "middle"
    keep_text: bool = False
    keep_colour: bool = False
    checked: bool = False
    label: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)
    muscles: MuscleJob | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The image and its masks."""
        masks = [path for path, _ in self.muscles.parts] if self.muscles else [self.mask] if self.mask else []
        return (self.source, *masks)


@dataclass(frozen=True)
class Copy:
    """One frame that was copied.

    Attributes:
        image: path below the site's folder.
        mask: path, "" without one.
        calibration: region, spacing and device, for pictures, which do not say it themselves; None for DICOM.
        mask_label: what the mask's grey levels are, in a study of muscles.
        annotated: the muscles that were looked for, where somebody has said it.
    """

    image: str
    mask: str = ""
    calibration: Calibration | None = None
    mask_label: str = ""
    annotated: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one image; nothing in it names a person or a file of the source.

    Attributes:
        copies: written under their names with ``.part`` behind.
        findings: why a frame or a mask was refused; without a file.
        day: of the exam, ISO 8601; "" where the header says none. Only for private records: see ``images.exam_date``.
        side: as the header says it.
        labels: of each of its masks, in a study of muscles. Only for private records: they may be anything.
    """

    copies: tuple[Copy, ...] = ()
    findings: tuple[Finding, ...] = ()
    day: str = ""
    side: str = ""
    labels: tuple[tuple[str, ...], ...] = ()


def copy(job: Job) -> Outcome:
    """Copy an image and its mask; whatever is wrong with them is said in the outcome, never raised."""
    header = read_header(job.source)
    findings: list[Finding] = []
    copies: list[Copy] = []
    try:
        count = frame_count(job.source)
        indices = chosen_frames(job.frames, count)
        findings += _about_cine(job, indices, count)
        if len(indices) > 1:
            job = replace(job, mask=None, muscles=None)
        for index in indices:
            name = job.name if len(indices) == 1 else f"{job.name}_f{index:03d}"
            copied = _copied(job, header, name, index, findings)
            copies += [copied] if copied else []
    except DataError as error:
        findings += [replace(f, severity="warning") for f in error.findings]
    return Outcome(
        tuple(copies),
        tuple(replace(finding, file="") for finding in findings),
        day=header.day.isoformat() if header and header.day else "",
        side=header.side if header else "",
        labels=labels_of(job.muscles) if job.muscles else (),
    )


def _about_cine(job: Job, indices: Sequence[int], count: int) -> Iterator[Finding]:
    """Nobody but a person knows on which frame a mask was drawn."""
    if count == 1 or job.mask is None:
        return
    if len(indices) > 1:
        remedy = "name the frame in a list of images, or choose one in images.frames of the mapping"
        yield Finding("warning", "mask-of-cine", "", f"one mask and {len(indices)} frames", "one of each", remedy)
    elif isinstance(job.frames, str):
        remedy = "check that the mask was drawn on this frame, or name the frame in a list of images"
        yield Finding("note", "cine", "", f"frame {indices[0]} of {count}, with a mask", "a still", remedy)


def chosen_frames(choice: FrameChoice, count: int) -> Sequence[int]:
    """Indices of the frames that are copied, of ``count`` in the file."""
    if choice == "each":
        return range(count)
    if isinstance(choice, int):
        return [choice if count > 1 else 0]
    return [0 if choice == "first" else count // 2]


def _copied(job: Job, header: HeaderFacts | None, name: str, index: int, findings: list[Finding]) -> Copy | None:
    """Write one frame and its mask; None when a person should look at the frame first."""
    frame = read_image(job.source, job.calibration, index, templates=job.templates, colour=True)
    suspected = () if job.checked else find_text(frame.pixels)
    doubts = list(_doubts(job, frame, len(suspected)))
    findings += doubts
    if any(f.severity == "warning" for f in doubts):
        return None
    if frame.facts.format == "DICOM":
        who = Identity(job.person, (job.path, index), job.secret)
        content = dicom_bytes(frame, header or HeaderFacts(names_device=True), who, burned_in=bool(suspected))
        image, calibration = f"images/{name}.dcm", None
    else:
        content = png_bytes(stored(frame))
        image, calibration = f"images/{name}.png", Calibration(_box(frame), frame.mm_per_pixel, frame.device)
    _write(job.folder / image, content)
    if job.muscles:
        return replace(_copied_muscles(job, job.muscles, frame, name, findings), image=image, calibration=calibration)
    return Copy(image, _copied_mask(job, frame, name, findings), calibration)


def _box(frame: Frame) -> Box:
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    return left, top, left + width, top + height


def _doubts(job: Job, frame: Frame, texts: int) -> Iterator[Finding]:
    """What a person should look at: a warning refuses the frame, a note says that the mapping keeps such frames."""
    if texts:
        severity: Severity = "note" if job.keep_text else "warning"
        seen = f"{texts} place{'s' if texts > 1 else ''} like burned-in text in the tissue region"
        remedy = "look at it: if it names nobody, put its path into images.checked of the mapping"
        yield Finding(severity, "burned-in-text", "", seen, "tissue only", remedy)
    share = frame.facts.colour_share
    if share > MARKED and not job.checked:
        overlay = share > COLOURED
        severity = "warning" if overlay and not job.keep_colour else "note"
        remedy = "choose a frame without colour, or put its path into images.checked of the mapping: it becomes grey"
        seen = f"{share:.2%} of the tissue region is coloured"
        yield Finding(severity, "colour" if overlay else "coloured-marks", "", seen, "a grey B-mode frame", remedy)


def png_bytes(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Grey PNG without any text chunk."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_PNG_COMPRESSION)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + PART).write_bytes(content)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _copied_mask(job: Job, frame: Frame, name: str, findings: list[Finding]) -> str:
    """Path of the mask's copy, "" where there is none; the image is copied all the same."""
    if job.mask is None:
        return ""
    try:
        values, kept = mask_values(job.mask, frame, job.label, job.labels)
    except MaskError as error:
        findings += _left_out(error)
        return ""
    if kept > 1:
        remedy = "name in masks.label of the mapping which one the study reads"
        findings.append(Finding("warning", "several-labels", "", f"{kept} labels", "one label", remedy))
    path = f"masks/{name}.png"
    _write(job.folder / path, png_bytes(values.astype(np.uint8) if values.max() < 256 else values))
    return path


def _copied_muscles(job: Job, muscles: MuscleJob, frame: Frame, name: str, findings: list[Finding]) -> Copy:
    """The mask of a study of muscles and what it means; nothing of one that is refused."""
    if not muscles.parts:
        return Copy("")
    try:
        copied = copied_muscles(muscles, frame)
    except MaskError as error:
        findings += _left_out(error)
        return Copy("")
    findings += copied.findings
    path = f"masks/{name}.png"
    _write(job.folder / path, png_bytes(copied.values))
    return Copy("", path, None, copied.mask_label, copied.annotated)


def _left_out(error: MaskError) -> list[Finding]:
    return [replace(f, severity="warning", remedy=f"{_here(f.remedy)} (the mask is left out)") for f in error.findings]


def mask_values(path: Path, frame: Frame, label: str, labels: Mapping[str, int]) -> tuple[NDArray[np.uint16], int]:
    """Label numbers on the stored frame, and how many labels there are.

    Args:
        path: of the mask.
        frame: that it was drawn on; what lies outside its tissue region is lost, as ``read_mask`` never sees it.
        label: the one that is wanted, "" = see ``labels``.
        labels: number of each that is wanted; empty = all, if they are numbers, or the only one.

    Raises:
        MaskError: the mask cannot be read or numbered, or two labels cover one pixel.
    """
    values = np.zeros(frame.stored_shape, dtype=np.uint16)
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    region = values[top : top + height, left : left + width]
    numbers = _numbers(mask_labels(path), label, labels)
    for name, number in numbers.items():
        drawn = read_mask(path, frame, label=name)
        shared = int(np.count_nonzero(region[drawn]))
        if shared:
            seen, remedy = f"{shared} pixels in two labels", "correct it, or name one label in masks.label"
            raise MaskError([Finding("error", "mask-overlap", "", seen, "one label for each pixel", remedy)])
        region[drawn] = number
    return values, len(numbers)


def _numbers(there: Sequence[str], label: str, labels: Mapping[str, int]) -> dict[str, int]:
    """Label -> its number in the copy."""
    if label or labels:
        wanted = [label] if label else [name for name in there if name in labels]
        if not set(wanted) & set(there):
            remedy = "correct masks.label or masks.labels in the mapping, or draw it"
            raise MaskError([Finding("error", "label", "", f"{len(there)} other labels", "the wanted label", remedy)])
        return {name: labels.get(name, _number(name) or 1) for name in wanted}
    if len(there) > 1 and not all(map(_number, there)):
        seen, remedy = f"{len(there)} labels with names or colours", "give each its number in masks.labels"
        raise MaskError([Finding("error", "label", "", seen, "numbers, or one label", remedy)])
    return {name: _number(name) or 1 for name in there}


def _number(name: str) -> int:
    """The label's own number, 0 where it has a name, a colour, or a number that no PNG can hold."""
    return int(name) if name.isdecimal() and int(name) < 65536 else 0


def _here(remedy: str) -> str:
    """A remedy that speaks of images.csv, in words of the mapping that writes it."""
    said = {
        "the column annotated of images.csv": "masks.annotated of the mapping, or annotated of your list of images,",
        "the column mask_label of images.csv": "masks.muscles of the mapping",
    }
    for there, here in said.items():
        remedy = remedy.replace(there, here)
    return remedy
