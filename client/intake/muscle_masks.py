"""Masks of a study of muscles, copied: one PNG for each image, whose grey levels the table of images explains.

What is copied is what training would read (:mod:`sarco_models.drawn`), by the same rules and with the same refusals.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.intake.matching import Owned, muscle_of_image
from client.intake.muscle_labels import is_word, resolved
from client.intake.path_words import muscle_in
from client.mapping import Mapping, MaskRules
from client.quality.muscles import shown_by
from sarco_models.drawn import UNCLEAR, Drawn, beside, join_drawn, read_drawn
from sarco_models.errors import Finding, MaskError
from sarco_models.frames import Frame
from sarco_models.label_words import listed
from sarco_models.masks import mask_labels
from sarco_models.segmentation import OUTSIDE, SegmentationConfig


@dataclass(frozen=True)
class MuscleJob:
    """What is needed to copy the masks of one image.

    Attributes:
        parts: each mask and the muscle that its name says, "" = not said.
        muscle: that the image is of, as path or list say; "" = not known.
        annotated: muscles that were looked for, as somebody has said it; empty = not said.
        rules: of the mapping.
        segmentation: the study's muscles.
    """

    parts: tuple[tuple[Path, str], ...]
    muscle: str
    annotated: tuple[str, ...]
    rules: MaskRules
    segmentation: SegmentationConfig

    @property
    def own(self) -> str:
        """The study's muscle that the image is of; "" = not known, or none of the study's."""
        return (self.segmentation.find(self.muscle) or "") if self.muscle else ""


@dataclass(frozen=True, eq=False)
class MuscleCopy:
    """Masks of one image as they are copied.

    Attributes:
        values: (rows, columns) of the stored frame: 0, or a number that ``mask_label`` explains.
        mask_label: cell of images.csv, such as ``1=biceps;2=triceps``.
        annotated: cell of images.csv.
        findings: notes and warnings.
    """

    values: NDArray[np.uint8]
    mask_label: str
    annotated: str
    findings: tuple[Finding, ...] = ()


def muscle_job(
    owned: Owned, mapping: Mapping, segmentation: SegmentationConfig | None, source: Path
) -> MuscleJob | None:
    """How the masks of an image are read; None in a study that finds no muscles."""
    if segmentation is None:
        return None
    words = mapping.images.muscle_words
    masks = owned.parts or (((owned.mask, muscle_in(owned.mask, words)),) if owned.mask else ())
    said = tuple(word for text in owned.listed.annotated.split(";") if (word := text.strip()))
    return MuscleJob(
        tuple((source / path, muscle) for path, muscle in masks),
        muscle_of_image(owned, mapping.images),
        said or mapping.masks.annotated,
        mapping.masks,
        segmentation,
    )


def labels_of(job: MuscleJob) -> tuple[tuple[str, ...], ...]:
    """Labels of each mask; none of one that cannot be read."""

    def of(path: Path) -> tuple[str, ...]:
        try:
            return mask_labels(path)
        except MaskError:
            return ()

    return tuple(of(path) for path, _ in job.parts)


def copied_muscles(job: MuscleJob, frame: Frame) -> MuscleCopy:
    """What is drawn on an image, as numbers on its stored frame.

    Raises:
        MaskError: a label of which nobody has said what it is, or what :func:`sarco_models.drawn.read_drawn` refuses.
    """
    whole, job = job, _of_one_class(job) if job.segmentation.single else job
    several = len(job.parts) > 1
    annotated = job.annotated or tuple(muscle for _, muscle in job.parts if muscle and (several or not job.muscle))
    read = [_read(job, path, muscle, annotated, frame) for path, muscle in job.parts]
    drawn, findings = read[0][0], [f for _, found in read for f in found]
    if several:
        drawn, joined = join_drawn([part for part, _ in read], frame, job.segmentation)
        findings += joined
    if len(whole.parts) > len(job.parts):
        findings += beside(drawn, dict(_others(whole, job, frame)), frame, job.segmentation)
    values, words = _numbered(drawn, job)
    stored = np.zeros(frame.stored_shape, dtype=np.uint8)
    (top, left), (height, width) = frame.origin, frame.pixels.shape
    stored[top : top + height, left : left + width] = values
    names = [name for name in job.segmentation.names if name in drawn.annotated]
    unique = tuple(dict.fromkeys(replace(f, file="") for f in findings))
    return MuscleCopy(stored, ";".join(words), ";".join(names) if annotated else "", unique)


def _of_one_class(job: MuscleJob) -> MuscleJob:
    """With the masks of the image's own muscle alone."""
    if len(job.parts) < 2:
        return job
    own = tuple(part for part in job.parts if job.own and job.segmentation.find(part[1]) == job.own)
    if not own:
        seen, remedy = f"{len(job.parts)} masks of different muscles", "say of which muscle the image is"
        raise MaskError([Finding("warning", "muscle-unknown", "", seen, "one of the image's own muscle", remedy)])
    return replace(job, parts=own)


def _others(whole: MuscleJob, job: MuscleJob, frame: Frame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Masks of other muscles on the image, as far as they can be read; they are not copied."""
    for path, muscle in whole.parts:
        if (path, muscle) not in job.parts:
            try:
                other, _ = _read(whole, path, muscle, (), frame)
            except MaskError:
                continue
            yield from ((name, other.classes == 1) for name in other.present if name != job.own)


def _read(
    job: MuscleJob, path: Path, muscle: str, annotated: Sequence[str], frame: Frame
) -> tuple[Drawn, tuple[Finding, ...]]:
    """One file; its own muscle is what its name says, or else the image's."""
    several = len(job.parts) > 1
    own = (job.segmentation.find(muscle) or "") if muscle and (several or not job.own) else job.own
    labels = mask_labels(path)
    said = resolved(labels, own, job.rules, job.segmentation)
    unknown = [label for label in labels if label not in said]
    if unknown:
        raise MaskError([_unknown(unknown, own, job)])
    return read_drawn(
        path,
        frame,
        job.segmentation,
        muscle=own,
        label=said,
        annotated=annotated,
        shown=shown_by(job.segmentation),
    )


def _unknown(unknown: Sequence[str], own: str, job: MuscleJob) -> Finding:
    """Of a label that may be anything; a single number lacks but the image's muscle."""
    which = "which muscle it is" if len(unknown) == 1 else "which muscles they are"
    seen = f"{listed(unknown, shown_by(job.segmentation))}, of which nobody has said {which}"
    remedy = "say it in masks.muscles of the mapping"
    if len(unknown) == 1 and not is_word(unknown[0]) and not own:
        remedy += ", or say in images.muscle, images.muscle_words or the list of images which muscle the image is of"
    return Finding("warning", "label-unknown", "", seen, ", ".join(job.segmentation.names), remedy)


def _numbered(drawn: Drawn, job: MuscleJob) -> tuple[NDArray[np.uint8], list[str]]:
    """Classes as grey levels, and what each level is."""
    values = drawn.classes.copy()
    words = [f"{drawn.number_of(name, job.segmentation)}={name}" for name in _present(drawn, job)]
    if (values == OUTSIDE).any():
        words.append(f"{OUTSIDE}={UNCLEAR}")
    return values, words


def _present(drawn: Drawn, job: MuscleJob) -> Iterator[str]:
    return (name for name in job.segmentation.names if name in drawn.present)
