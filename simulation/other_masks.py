"""A finished model on other masks: larger, smaller, moved, found by a model, or none. Nothing else is changed.

Weights, threshold, scaling and people are those of the arm; only what lies beyond the outline differs. So the change of
a score is the outline's, and what a hospital may expect when its hand, or its software, draws otherwise.

    CACHE/KEY-masks-DIGEST/     pixels that the network sees with changed masks, and what became of the masks
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.auto_masks import Finder
from sarco_models.cohort import HeldOut
from sarco_models.config import StudyConfig
from sarco_models.disclosure import hidden, hidden_groups, small
from sarco_models.errors import DataError, UndefinedMetric
from sarco_models.image_cache import CALIBRATION_FILE, ImageCache
from sarco_models.images import Calibration, read_calibrations, read_image
from sarco_models.intervals import Estimate
from sarco_models.mask_perturbation import DIRECTIONS, Direction, Kind, perturb
from sarco_models.masks import read_mask
from sarco_models.metrics import auc_interval, compare_aucs
from sarco_models.overlap import dice, participant_mean
from sarco_models.preprocess import PREPROCESSING_VERSION, model_input
from sarco_models.schema import ImageRow
from sarco_models.scores import ParticipantScores
from server.evaluation import released_probabilities
from server.runs import Run
from simulation.arms import Arm
from simulation.explained import TEST, chosen_people, cohort_folder, image_rows
from simulation.harness import own_norms
from simulation.mask_experiment import Change, OtherMasksConfig

VERSION = 1
"""Raise it when the same change would give other pixels, so that no stale ones are read."""

CHECKED = 100
"""People on one image of each of whom found masks are held against drawn ones: a network looks at each again."""

_DIRECTIONS: tuple[Direction, ...] = tuple(DIRECTIONS)


@dataclass(frozen=True)
class Drawn:
    """What became of the masks of a cohort's images under one change.

    Attributes:
        images: in all.
        as_drawn: left as they were drawn, because nothing would have been left of them or nobody knows their spacing.
        dice: of changed and drawn masks, the mean over images.
    """

    images: int
    as_drawn: int
    dice: float


def other_masks(arm: Arm, cfg: OtherMasksConfig, views: Mapping[str, StudyConfig], min_cell: int = 1) -> dict[str, Any]:
    """One entry of ``tables.other_masks``, an arm with one seed.

    Args:
        arm: finished; its study has ``roi = "mask"``.
        cfg: which other masks.
        views: variant -> its study, for ``cfg.views``.
        min_cell: the smallest count of people that may be shown; 1 hides nothing.

    Returns:
        cohort, n, n_positive, threshold, auc (as drawn), and ``rows``: for each change ``change`` and ``mm``, for each
        view ``view`` and its ``roi``; with ``auc``, ``difference`` and ``p`` (paired DeLong against the drawn masks;
        absent where they have no value), ``moved`` (mean absolute change of the probability), ``called_otherwise``
        (share of participants on the other side of the frozen threshold), ``n``, and what is known of the masks. A
        count that would tell of fewer than ``min_cell`` people, by itself or by subtraction, is None, and such a share
        absent.

    Raises:
        RunError: no model was released.
    """
    place, people = chosen_people(arm, TEST)
    run = Run.open(arm.folder)
    threshold = (run.released or {}).get("threshold")

    def scores_of(whose: HeldOut) -> ParticipantScores:
        return ParticipantScores(
            whose.ids, released_probabilities(run, whose, own_norms(arm, run, place)), whose.labels == 1
        )

    drawn = scores_of(people)
    rows = []
    for change, mm in cfg.each:
        changed, masks = changed_people(arm, place, people, change, mm)
        as_drawn = None if small(masks.as_drawn, min_cell) else masks.as_drawn
        told = {**asdict(masks), "as_drawn": as_drawn}
        rows.append({"change": change, "mm": mm, **told, **_against(drawn, scores_of(changed), threshold, min_cell)})
    for name in cfg.views:
        seen = replace(arm, study=arm.study.model_copy(update={"image": views[name].image}))
        _, others = chosen_people(seen, TEST)
        named = {"view": name, "roi": seen.study.image.roi}
        counts = _origins(others, min_cell)
        if small(_people_with_fewer_images(people, others), min_cell):  # what a study leaves out, by subtraction
            counts = dict.fromkeys(counts)
        rows.append({**named, **counts, **_against(drawn, scores_of(others), threshold, min_cell)})
    about = {"cohort": place, "n": len(drawn), "n_positive": drawn.positives, "threshold": threshold}
    return {**about, "auc": _plain(auc_interval(drawn.scores, drawn.labels)), "rows": rows}


def _people_with_fewer_images(people: HeldOut, others: HeldOut) -> int:
    """How many of these people have fewer images, or none, among the others."""
    before, after = (Counter(x.cohort.ids[x.cohort.owner[image]] for image in x.images) for x in (people, others))
    return sum(after[person] < count for person, count in before.items())


def _against(
    drawn: ParticipantScores, other: ParticipantScores, threshold: float | None, min_cell: int
) -> dict[str, Any]:
    """The numbers of other masks beside those of the drawn ones, of the people who have both."""
    both = set(drawn.ids) & set(other.ids)
    before, after = (s.only(np.array([person in both for person in s.ids], dtype=np.bool_)) for s in (drawn, other))
    after = before.same_people(after)
    few = small([len(before), len(drawn) - len(before)], min_cell).any()
    found: dict[str, Any] = {"n": None if few else len(before)}
    found["moved"] = float(np.abs(after.scores - before.scores).mean())
    if threshold is not None:
        otherwise = (after.scores >= threshold) != (before.scores >= threshold)
        if not hidden(np.array([otherwise.sum(), (~otherwise).sum()]), min_cell).any():
            found["called_otherwise"] = float(otherwise.mean())
    with suppress(UndefinedMetric):  # of so few people it has no value, and is absent
        found["auc"] = _plain(auc_interval(after.scores, after.labels))
        compared = compare_aucs(after.scores, before.scores, before.labels)
        found |= {"difference": _plain(compared.difference), "p": compared.p}
    return found


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def found_masks(arm: Arm, min_cell: int = 1) -> dict[str, Any]:
    """One entry of ``tables.found_masks``: what a study with ``roi = "auto"`` has found on its held-out people.

    Args:
        arm: of such a study.
        min_cell: the smallest count of people that may be shown; 1 hides nothing.

    Returns:
        cohort, ``images`` and how many of them are ``images_drawn``, ``images_found``, ``images_tissue`` (nothing good
        was found, the whole region is shown); of one image each of up to :data:`CHECKED` people, whose drawn mask the
        study did not look at: ``checked``, ``checked_tissue``, ``dice`` of found and drawn masks, ``area_ratio`` of
        found over drawn area (each with ``value``, ``low``, ``high``; absent where too few were found). A count that
        would tell of fewer than ``min_cell`` people, by itself or by subtraction, is None.
    """
    place, people = chosen_people(arm, TEST)
    folder, finder = cohort_folder(arm, place), Finder.of(arm.study)
    rows = image_rows(folder, people.cohort, arm.study)
    calibrations = _calibrations(folder)
    overlaps, ratios, owners, tissue = [], [], [], 0
    for row in (rows[image] for image in _one_image_each(people, CHECKED) if rows[image].mask):
        frame = read_image(folder / row.image, calibrations.get(row.image), row.frame)
        drawn = read_mask(folder / row.mask, frame, label=row.mask_label or None)
        mask, origin = finder.look(frame, row)
        if mask is None or origin.source != "found":
            tissue += 1
            continue
        overlaps.append(dice(mask, drawn))
        ratios.append(float(mask.sum() / drawn.sum()))
        owners.append(row.participant_id)
    checked: dict[str, int | None] = {"checked": len(owners) + tissue, "checked_tissue": tissue}
    if hidden(np.array([len(owners), tissue]), min_cell).any():
        few = small(len(owners) + tissue, min_cell)
        checked = {"checked": None if few else checked["checked"], "checked_tissue": None}
    found: dict[str, Any] = {"cohort": place, **_origins(people, min_cell), **checked}
    rng = np.random.default_rng([arm.study.training.seed, 113])
    for name, values in (("dice", overlaps), ("area_ratio", ratios)) if len(owners) >= min_cell else ():
        with suppress(UndefinedMetric):
            found[name] = _plain(participant_mean(values, owners, rng))
    return found


def _one_image_each(people: HeldOut, count: int) -> list[int]:
    """Positions of one image of each of up to ``count`` people who have any, all chosen by a hash."""
    images = {m: people.cohort.images_of(np.array([m])) for m in people.members.tolist()}
    words = {m: hashlib.sha256(f"checked|{people.cohort.ids[m]}".encode()).digest() for m in images if len(images[m])}
    chosen = sorted(words, key=lambda m: words[m])[:count]
    return [int(images[m][words[m][0] % len(images[m])]) for m in chosen]


def _origins(people: HeldOut, min_cell: int) -> dict[str, int | None]:
    """How many of these people's images were outlined by whom, and how many there are; None: of too few people.

    A study that finds no masks itself says only how many images there are.
    """
    images, start = set(people.images.tolist()), 0
    owners: dict[str, list[int]] = {}
    for cache in people.cohort.caches:
        for k, origin in enumerate(cache.origins):
            if start + k in images:
                owners.setdefault(origin.source, []).append(int(people.cohort.owner[start + k]))
        start += len(cache.pixels)
    sources = sorted(owners)
    withheld = hidden_groups([set(owners[source]) for source in sources], min_cell)
    told = {
        f"images_{source}": None if hide else len(owners[source])
        for source, hide in zip(sources, withheld, strict=True)
    }
    few = small(len({int(people.cohort.owner[image]) for image in images}), min_cell)
    return {**told, "images": None if few else len(images)}


# --- changed pixels ---------------------------------------------------------------------------------------------------


def changed_people(arm: Arm, place: str, people: HeldOut, change: Change, mm: float) -> tuple[HeldOut, Drawn]:
    """The same people, their images seen with changed masks; what is there already is only read."""
    (cache,) = people.cohort.caches
    folder = _folder(cache, change, mm)
    if not (folder / "index.json").is_file():
        draw_changed(arm, place, people, [(change, mm)])
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    seen = replace(cache, folder=folder, pixels=pixels)
    about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return HeldOut(replace(people.cohort, caches=(seen,)), people.members), Drawn(**about)


def draw_for(arm: Arm, cfg: OtherMasksConfig) -> None:
    """Read every image of the arm's held-out cohort once, and keep what the network sees with each changed mask."""
    place, people = chosen_people(arm, TEST)
    (cache,) = people.cohort.caches
    absent = [each for each in cfg.each if not (_folder(cache, *each) / "index.json").is_file()]
    if absent:
        draw_changed(arm, place, people, absent)


def draw_changed(arm: Arm, place: str, people: HeldOut, changes: Sequence[tuple[Change, float]]) -> None:
    """Write the pixels of all images of a cohort under these changes, each folder whole or absent."""
    (cache,) = people.cohort.caches
    rows, size = image_rows(cohort_folder(arm, place), people.cohort, arm.study), arm.study.image.size
    partials, arrays = [], []
    for change, mm in changes:
        folder = _folder(cache, change, mm)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700, parents=True)
        partials.append((partial, folder))
        arrays.append(
            np.lib.format.open_memmap(partial / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(rows), size, size))
        )
    kept, agreed = np.zeros(len(changes), dtype=np.int64), np.zeros(len(changes))
    for k, seen in enumerate(_each_image(cohort_folder(arm, place), rows, arm.study, changes)):
        for c, (pixels, overlap) in enumerate(seen):
            arrays[c][k] = pixels
            kept[c] += overlap is None
            agreed[c] += 1.0 if overlap is None else overlap
    for c, (partial, folder) in enumerate(partials):
        arrays[c].flush()
        about = Drawn(len(rows), int(kept[c]), float(agreed[c] / max(len(rows), 1)))
        (partial / "index.json").write_text(json.dumps(asdict(about)), encoding="utf-8")
        _name(partial, folder)


def _name(partial: Path, folder: Path) -> None:
    """Give a complete folder its name, unless another process was faster: its pixels are the same."""
    try:
        partial.rename(folder)
    except OSError:
        if not (folder / "index.json").is_file():
            raise
        shutil.rmtree(partial)


def _each_image(
    folder: Path, rows: Sequence[ImageRow], study: StudyConfig, changes: Sequence[tuple[Change, float]]
) -> Iterator[list[tuple[NDArray[np.uint8], float | None]]]:
    """For each image and change, what the network sees and the Dice with the drawn mask; None = left as drawn."""
    calibrations = _calibrations(folder)
    for row in rows:
        frame = read_image(folder / row.image, calibrations.get(row.image), row.frame)
        mask = read_mask(folder / row.mask, frame, label=row.mask_label or None)
        seen = []
        for change, mm in changes:
            try:
                changed = perturb(mask, frame.mm_per_pixel, _kind(change, row), mm, file=row.image)
                overlap = dice(changed, mask)
            except DataError:
                changed, overlap = mask, None
            seen.append((model_input(frame, changed, study.image, row.image), overlap))
        yield seen


def _calibrations(folder: Path) -> dict[str, Calibration]:
    path = folder / CALIBRATION_FILE
    return read_calibrations(path) if path.exists() else {}


def _kind(change: Change, row: ImageRow) -> Kind:
    """What is done to an image; the direction of a shift is the image's own, whatever the distance."""
    if change != "shift":
        return change
    words = f"{row.participant_id}|{row.image}|{row.frame}".encode()
    return _DIRECTIONS[hashlib.sha256(words).digest()[0] % len(_DIRECTIONS)]


def _folder(cache: ImageCache, change: Change, mm: float) -> Path:
    words = f"{VERSION}|{PREPROCESSING_VERSION}|{change}|{mm!r}"
    return cache.folder.with_name(f"{cache.folder.name}-masks-{hashlib.sha256(words.encode()).hexdigest()[:16]}")
