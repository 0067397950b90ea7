"""The segmentation model that an experiment trains itself, for its studies with ``image.roi = "auto"``.

Its hospitals are made by the same rules as the experiment's own, from another seed: nobody of the experiment, neither
of its training nor of its tests, has taught it. It is trained as everything is, by a federation in this process, and
lies as a receiver would get it.

    SHARED/segmenter/             weights, study, what is known of it (:mod:`sarco_models.released_segmenter`)
    SHARED/segmenter-training/    its hospitals, their images, its run
"""

import csv
import json
import shutil
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sarco_models.config import StudyConfig, load_config, merged
from sarco_models.errors import ConfigError, RunError, UndefinedMetric
from sarco_models.overlap import participant_mean
from sarco_models.release_files import ABOUT, STUDY
from sarco_models.released_segmenter import open_segmenter, store_segmenter
from sarco_models.segmenter_files import segmenter_digest
from sarco_models.workers import pool as worker_pool
from simulation.arms import CENTRAL, Arm, SiteFolder
from simulation.centers import CENTERS
from simulation.harness import MUSCLE_SCORES, finished, run_arm
from simulation.mask_experiment import SegmenterConfig
from simulation.segmenter_place import FOLDER
from simulation.status import Status, Watch, training_status
from simulation.synthetic import make_cohort

TRAINING = "segmenter-training"
STAGE = "training the segmenter"


def segmenter_study(cfg: SegmenterConfig, base: Path) -> StudyConfig:
    """What is trained.

    Raises:
        ConfigError: the study is wrong, or diagnoses.
    """
    changes = merged(cfg.overrides, {"training": {"seed": cfg.seed}, "federation": {"min_sites": len(CENTERS)}})
    study = load_config(base / cfg.study, StudyConfig, changes)
    if not study.segments:
        raise ConfigError(f"segmenter.study = {cfg.study!r}: diagnoses; name a study with [segmentation]")
    return study


def make_segmenter(cfg: SegmenterConfig, base: Path, shared: Path, watch: Watch, workers: int) -> Path:
    """Train the model, unless it is there; goes on where it was interrupted.

    Args:
        cfg: see there.
        base: folder of the experiment's file.
        shared: see the module.
        watch: is told how far it is.
        workers: processes that draw images.

    Returns:
        The model's folder.

    Raises:
        ConfigError: see :func:`segmenter_study`.
        RunError: the folder holds the model of another study.
    """
    study, place = segmenter_study(cfg, base), shared / FOLDER
    if (place / ABOUT).is_file():
        _require_same(place, study)
        return place
    make_cohort(
        shared / TRAINING / "hospitals",
        seed=cfg.seed,
        scale=cfg.scale,
        central_participants=cfg.central_participants,
        device_shift=cfg.device_shift,
        workers=workers,
        progress=lambda done, total: watch(Status("making the segmenter's hospitals", done, total)),
    )
    arm = _arm(study, shared)
    _train(arm, watch)
    released = open_segmenter(arm.folder)
    shutil.rmtree(place, ignore_errors=True)  # of a run that was killed before the last of its files
    store_segmenter(place, released.study, released.net, replace(released.about, synthetic=True))
    return place


def _train(arm: Arm, watch: Watch) -> None:
    """Run the arm in a process of its own, while this one tells how far it is."""
    with worker_pool(1) as pool:
        under_way = pool.submit(run_arm, arm)
        while not under_way.done():
            watch(replace(training_status([arm], 0), stage=STAGE))
            wait([under_way], timeout=0.5)
        under_way.result()
    watch(replace(training_status([arm], 1), stage=STAGE))


def _require_same(place: Path, study: StudyConfig) -> None:
    stored = json.loads((place / STUDY).read_text(encoding="utf-8"))
    if stored != json.loads(study.model_dump_json()):
        raise RunError(
            f"{place}: was trained by another study than the experiment's [segmenter] now says: give another --out, or "
            f"remove it and {place.with_name(TRAINING)}"
        )


def _arm(study: StudyConfig, shared: Path) -> Arm:
    hospitals, run = shared / TRAINING / "hospitals", shared / TRAINING / "run"
    sites = tuple(SiteFolder(name, hospitals / name, study.label.rule) for name in sorted(CENTERS))
    return Arm("federated", study, sites, hospitals / CENTRAL, shared / "cache", run)


def segmenter_facts(cfg: SegmenterConfig, base: Path, shared: Path) -> dict[str, Any]:
    """How the model was made, and how well it finds the muscle of people who are neither its own nor the experiment's.

    Returns:
        ``seed``, ``scale``, ``participants``, ``images``, ``rounds``, ``seconds``, ``threshold``, ``sha256``, and
        ``dice`` by muscle: ``n``, ``value``, ``low``, ``high`` over the participants of its central cohort, in the
        network's square.
    """
    arm = _arm(segmenter_study(cfg, base), shared)
    about = finished(arm)
    if about is None:
        raise RunError(f"{arm.folder}: the segmenter is not complete: run the same command again")
    known = {name: about[name] for name in ("participants", "images", "rounds", "seconds")}
    known |= {"seed": cfg.seed, "scale": cfg.scale, "sha256": segmenter_digest(shared / FOLDER)}
    known["threshold"] = open_segmenter(shared / FOLDER).about.threshold
    return {**known, "dice": _dice(arm.folder / MUSCLE_SCORES, np.random.default_rng([cfg.seed, 109]))}


def _dice(path: Path, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["site"] == CENTRAL and row["dice"]]
    found = {}
    for muscle in dict.fromkeys(row["muscle"] for row in rows):
        own = [row for row in rows if row["muscle"] == muscle]
        try:
            mean = participant_mean([float(row["dice"]) for row in own], [row["participant_id"] for row in own], rng)
        except UndefinedMetric:
            continue
        found[muscle] = {"n": len(own), "value": mean.value, "low": mean.low, "high": mean.high}
    return found
