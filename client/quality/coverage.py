"""Which muscles of a study a hospital has drawn, on how many images and of how many people: partial labels, counted."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from client.quality.columns import finding, people, row_list
from client.quality.muscles import colour
from client.quality.records import Coverage, ImageRecord
from sarco_models.config import SegmentationConfig, StudyConfig
from sarco_models.errors import Finding, Severity
from sarco_models.schema import IMAGES_FILE, ParticipantTable


def coverage(records: Sequence[ImageRecord], owner: NDArray[np.int64], study: StudyConfig) -> tuple[Coverage, ...]:
    """Every muscle of the study, in its order; nothing for a study that finds none."""
    segmentation = study.segmentation
    if segmentation is None:
        return ()
    used = [(k, r) for k, r in enumerate(records) if r.usable and owner[k] >= 0]
    present = {k: {m.label for m in r.drawn} for k, r in used}
    usual = set[str]().union(*present.values())
    looked_for = {k: _looked_for(r, present[k], usual, segmentation) for k, r in used}
    return tuple(
        Coverage(
            muscle.name,
            muscle.title,
            "#{:02x}{:02x}{:02x}".format(*colour(muscle.name, segmentation)),
            sum(muscle.name in present[k] for k, _ in used),
            sum(muscle.name in looked_for[k] for k, _ in used),
            len({int(owner[k]) for k, _ in used if muscle.name in present[k]}),
        )
        for muscle in segmentation.muscles
    )


def _looked_for(record: ImageRecord, present: set[str], usual: set[str], segmentation: SegmentationConfig) -> set[str]:
    """As :mod:`sarco_models.targets` takes it."""
    if segmentation.single:
        return set(record.annotated) | present
    return set(record.annotated) or usual


def coverage_findings(
    table: ParticipantTable, records: Sequence[ImageRecord], owner: NDArray[np.int64], study: StudyConfig
) -> Iterator[Finding]:
    """Enough people of whom something is drawn, and what is drawn of each muscle.

    Args:
        table: participants.
        records: one per row of images.csv.
        owner: for each record the position of its participant, -1 when unknown.
        study: of muscles.
    """
    found = coverage(records, owner, study)
    if not any(muscle.drawn for muscle in found):
        expected, remedy = "drawn muscles of the study", "draw them, or let this site stay out of the study"
        yield _of_images("error", "muscle-coverage", "mask", ("no muscle of the study is drawn", expected, remedy))
    else:
        for muscle in found:
            yield _of_images("note", "muscle-coverage", "mask", _words(muscle))
    yield from _people(table, records, owner, study)
    yield from _unknown_muscles(records, study)


def _words(muscle: Coverage) -> tuple[str, str, str]:
    if not muscle.drawn:
        absent = f"{muscle.title}: nowhere drawn"
        return absent, "drawn muscles", "nothing, if it is so: other hospitals teach the network this one"
    images = f"{muscle.drawn} of {muscle.looked_for} image{'' if muscle.looked_for == 1 else 's'}"
    seen = f"{muscle.title}: drawn on {images} on which it was looked for, of {people(muscle.people)}"
    return seen, "drawn muscles", "nothing; say in the column annotated where somebody looked for fewer muscles"


def _people(
    table: ParticipantTable, records: Sequence[ImageRecord], owner: NDArray[np.int64], study: StudyConfig
) -> Iterator[Finding]:
    """People whom a training run would see, as the study's split would divide them."""
    total = len({int(owner[k]) for k, r in enumerate(records) if r.usable and owner[k] >= 0})
    train, validation = round(study.split.train * total), round(study.split.validation * total)
    test, required = total - train - validation, study.federation.min_participants
    seen = f"{people(total)} of {len(table.ids)} with a usable mask: training {train}, validation {validation}, "
    seen += f"test {test}"
    expected = f"{required} or more in training"
    if train < required:
        remedy = "draw muscles of more people; the study does not let a smaller site take part"
        yield finding("error", "people-drawn", "participant_id", (seen, expected, remedy))
    elif not (validation and test):
        expected = "people in every part of the split"
        remedy = "draw muscles of more people: without them this site cannot be scored"
        yield finding("warning", "people-drawn", "participant_id", (seen, expected, remedy))
    else:
        yield finding("note", "people-drawn", "participant_id", (seen, expected, "nothing to do"))


def _unknown_muscles(records: Sequence[ImageRecord], study: StudyConfig) -> Iterator[Finding]:
    """Cells of the column muscle that name none of the study's; they are not shown, for they may be anything."""
    segmentation = study.segmentation
    rows = [r.row.row for r in records if segmentation and r.row.muscle and not segmentation.find(r.row.muscle)]
    if rows and segmentation:
        seen = f"a muscle that the study does not know, in {row_list(rows)}"
        remedy = "call it as the study does, if it is one of these; a mask with one label then needs no other word"
        yield _of_images("note", "muscle", "muscle", (seen, ", ".join(segmentation.names), remedy))


def _of_images(severity: Severity, rule: str, field: str, words: tuple[str, str, str]) -> Finding:
    return Finding(severity, rule, IMAGES_FILE, *words, field=field)
