"""Everybody who was held out by an arm that finds muscles, scored: two files in its run directory.

Only simulation may write such files (SCIENCE, pitfall 27): their lines are people's. Where the synthetic truth lies
beside a hospital's folder, it says which images show one whole muscle; elsewhere the drawn mask does.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models.aims import finding
from sarco_models.cohort import HeldOut
from sarco_models.segmentation_scores import Scored, score, without_sizes
from server.evaluation import released_reader
from server.muscle_scores import IMAGE_COLUMNS, IMAGES_FILE, PEOPLE_COLUMNS, PEOPLE_FILE
from server.runs import Run, write_text
from simulation.arms import CENTRAL, Arm
from simulation.image_rows import image_rows
from simulation.own_norms import own_norms


def write_muscle_scores(arm: Arm, run: Run) -> None:
    """Score the released model on everybody who was held out; a cell is empty where there is nothing to say."""
    people, images = io.StringIO(), io.StringIO()
    of_people, of_images = (csv.writer(text, lineterminator="\n") for text in (people, images))
    of_people.writerow(PEOPLE_COLUMNS)
    of_images.writerow(IMAGE_COLUMNS)
    for name, held_out in arm.held_out().items():
        reader = finding(released_reader(run, own_norms(arm, run, name)))
        files = [row.image for row in image_rows(folder_of(arm, name), held_out.cohort, arm.study)]
        partly = of_two_muscles(folder_of(arm, name))
        scored = score(run.model.net, reader, held_out)
        scored = without_sizes(scored, np.array([files[k] in partly for k in held_out.images], dtype=np.bool_))
        of_people.writerows(_people(name, held_out, scored))
        of_images.writerows(_images(name, held_out, scored, files))
    write_text(arm.folder / IMAGES_FILE, images.getvalue())
    write_text(arm.folder / PEOPLE_FILE, people.getvalue())


def folder_of(arm: Arm, name: str) -> Path:
    """Of the hospital, or of the central cohort."""
    if name == CENTRAL and arm.central:
        return arm.central
    return next(site.data for site in arm.sites if site.name == name)


def _people(name: str, people: HeldOut, scored: Scored) -> Iterator[list[str]]:
    for person, participant_id in enumerate(people.ids):
        for m, muscle in enumerate(scored.muscles):
            values = scored.values[person, m]
            if np.isfinite(values).any():
                yield [name, participant_id, muscle, *_cells(values)]


def _images(name: str, people: HeldOut, scored: Scored, files: Sequence[str]) -> Iterator[list[str]]:
    found = scored.by_image
    if found is None:
        return
    for k, image in enumerate(found.images):
        for m, muscle in enumerate(scored.muscles):
            values = found.values[k, m]
            if np.isfinite(values).any():
                sizes = found.sizes[k, m].T.ravel()
                marks = [str(int(mark)) for mark in (np.isfinite(sizes).any(), *found.seen[k, m])]
                person = people.ids[found.owner[k]]
                yield [name, person, files[int(image)], muscle, *marks, *_cells(values), *_cells(sizes)]


def of_two_muscles(folder: Path) -> set[str]:
    """Images of which the truth says that they show two muscles, whoever drew them; empty where nobody knows."""
    truth = folder.parent / "truth" / f"{folder.name}.csv"
    if not truth.is_file():
        return set()
    with truth.open(encoding="utf-8", newline="") as file:
        return {row["image"] for row in csv.DictReader(file) if row.get("whole") == "0"}


def _cells(values: NDArray[np.float64]) -> list[str]:
    return ["" if np.isnan(value) else repr(float(value)) for value in values]
