"""An experiment is run: hospitals are made, images read, arms trained side by side, results written.

Everything that is complete is only read, so that the same command goes on after a kill.
"""

import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from sarco_models.errors import ConfigError
from sarco_models.workers import pool as worker_pool
from server.plan_file import read_plan
from server.runs import Run, write_json
from simulation.arms import CENTRAL, Arm
from simulation.experiments import Experiment
from simulation.explanations import explain_arm
from simulation.flower import run_arm_on_flower
from simulation.harness import compute_frozen, prepare, run_arm
from simulation.mask_experiment import OtherMasksConfig
from simulation.muscle_cohort import make_muscle_cohort
from simulation.other_masks import draw_for
from simulation.own_segmenter import make_segmenter
from simulation.planning import plan_by
from simulation.pretrain import Pretraining, pretrain
from simulation.results import collect
from simulation.status import Status, Watch, training_status
from simulation.synthetic import make_cohort


def run_experiment(experiment: Experiment, watch: Watch, command: str = "", *, workers: int | None = None) -> Path:
    """Run every arm with every seed, and write results.json; what is complete already is only read.

    Args:
        experiment: in its folder.
        watch: is told how far it is.
        command: that was given, for the report.
        workers: processes side by side; one for each processor core where absent.

    Returns:
        Path of results.json.
    """
    started = time.monotonic()
    workers = workers or _cores()
    _make_hospitals(experiment, experiment.config.seeds, watch, workers)
    _make_weights(experiment, watch, workers)
    experiment = _make_segmenter(experiment, watch, workers)
    run = run_arm if experiment.engine == "inprocess" else run_arm_on_flower
    with worker_pool(workers) as pool:
        experiment = _plan_networks(experiment, experiment.config.seeds, watch, pool)
        arms = [arm for seed in experiment.config.seeds for arm in experiment.arms(seed)]
        cohorts = _to_read(arms)
        _each(pool, compute_frozen, cohorts, lambda done: watch(Status("reading images", done, len(cohorts))))
        _require_scales(arms)
        first = [arm for arm in arms if arm.begin is None]
        later = [arm for arm in arms if arm.begin is not None]
        _each(pool, run, [(arm,) for arm in first], lambda done: watch(training_status(arms, done)))
        _each(pool, run, [(arm,) for arm in later], lambda done: watch(training_status(arms, len(first) + done)))
        explained = [(arm,) for arm in arms if arm.name in experiment.config.explain]
        _each(pool, explain_arm, explained, lambda done: watch(Status("explaining", done, len(explained))))
        redrawn = _to_redraw(arms, experiment.config.other_masks)
        _each(pool, draw_for, redrawn, lambda done: watch(Status("drawing other masks", done, len(redrawn))))
        results = collect(experiment, arms, pool, watch)
    results["meta"] |= {
        "engine": experiment.engine,
        "command": command,
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": _peak_memory(workers),
    }
    write_json(experiment.out / "results.json", results)
    return experiment.out / "results.json"


def prepare_federated(experiment: Experiment, watch: Watch) -> Path:
    """Make the hospitals and the run directory of the federated arm with the first seed; returns the directory."""
    names, seed = experiment.arm_names(), experiment.config.seeds[0]
    if "federated" not in names:
        raise ConfigError(
            f"{experiment.config.name}: trains {', '.join(names)}; what is prepared is the federated arm of the study "
            'itself: write "federated" under arms, and study_itself = true'
        )
    _make_hospitals(experiment, [seed], watch, _cores())
    experiment = _make_segmenter(experiment, watch, _cores())
    with worker_pool(1) as pool:
        experiment = _plan_networks(experiment, [seed], watch, pool)
    return prepare(next(arm for arm in experiment.arms(seed) if arm.name == "federated")).folder


def _make_hospitals(experiment: Experiment, seeds: Sequence[int], watch: Watch, workers: int) -> None:
    # Variants that change nothing of the hospitals share them.
    wanted = {experiment.data(seed, v): (seed, experiment.cohort(v)) for seed in seeds for v in experiment.variants}
    for folder, (seed, cfg) in wanted.items():
        if cfg:
            make = make_muscle_cohort if cfg.kind == "muscles" else make_cohort
            make(
                folder,
                seed=seed,
                workers=workers,
                progress=lambda done, total: watch(Status("making hospitals", done, total)),
                **cfg.options,
            )


def _make_weights(experiment: Experiment, watch: Watch, workers: int) -> None:
    """Train on phantoms what is not there yet: minutes for each network."""
    for backbone in experiment.config.pretrain:
        path = experiment.weights(backbone)
        if not path.is_file():
            watch(Status(f"training {backbone} on phantoms", 0, 1))
            pretrain(Pretraining(backbone=backbone), path, workers, lambda _line: None)


def _make_segmenter(experiment: Experiment, watch: Watch, workers: int) -> Experiment:
    """Train the segmentation model that the experiment asks for; its studies are known once it is there."""
    cfg = experiment.config.segmenter
    if cfg is None:
        return experiment
    make_segmenter(cfg, experiment.base, experiment.shared, watch, workers)
    return experiment.knowing_its_segmenter()


def _plan_networks(experiment: Experiment, seeds: Sequence[int], watch: Watch, pool: ProcessPoolExecutor) -> Experiment:
    """Let the hospitals plan the networks that have no plan; the studies are known once they have."""
    drafts = {key: arm for seed in seeds for key, arm in experiment.drafts(seed).items()}
    jobs = [(arm,) for arm in drafts.values()]
    _each(pool, plan_by, jobs, lambda done: watch(Status("planning networks", done, len(jobs))))
    return replace(experiment, plans={key: read_plan(Run.open(arm.folder)).plan for key, arm in drafts.items()})


def _to_redraw(arms: Sequence[Arm], cfg: OtherMasksConfig | None) -> list[tuple[Arm, OtherMasksConfig]]:
    """One arm for each cohort and way of looking at images: the others see the same pixels."""
    chosen = [arm for arm in arms if cfg and arm.name in cfg.arms]
    found = {(repr(arm.study.image), arm.study.training.seed, arm.central, arm.site): arm for arm in chosen}
    return [(arm, cfg) for arm in found.values() if cfg]


def _to_read(arms: Sequence[Arm]) -> list[tuple[Arm, str]]:
    """Cohorts whose images have to be read, once for each way of reading them; the largest first."""
    found: dict[tuple[str, ...], tuple[Arm, str]] = {}
    for arm in arms:
        study = arm.study
        whole = study.model_copy(update={"split": study.split.model_copy(update={"fold": 0})})
        parts = (whole.image, whole.intensity, whole.augmentation, whole.split, whole.uses_images, whole.segmentation)
        network = (whole.model.backbone, whole.model.weights, whole.model.trainable, whole.model.norm)
        for name in [CENTRAL, *(s.name for s in arm.sites)]:
            if name == CENTRAL and (arm.central is None or arm.kind == "cv"):
                continue
            folder = arm.central if name == CENTRAL else next(s.data for s in arm.sites if s.name == name)
            found.setdefault((repr(parts), repr(network), str(whole.training.seed), str(folder)), (arm, name))
    return list(found.values())


def _require_scales(arms: Sequence[Arm]) -> None:
    """Refuse a cross-validation whose folds have nobody of a class to be put on a common scale by, before it trains."""
    firsts = {(a.study.training.seed, a.study.split.fold): a for a in reversed(arms) if a.kind == "cv"}
    for (seed, fold), arm in sorted(firsts.items()):
        inner = arm.split_of(arm.site).validation
        positives = int(inner.labels.sum())
        if not 0 < positives < len(inner):
            raise ConfigError(
                f"cross_validation: fold {fold} of seed {seed} has {positives} inner validation participants with the "
                f"condition and {len(inner) - positives} without at {arm.site}; both are needed: raise "
                f"split.validation = {arm.study.split.validation:g}, or take fewer folds"
            )


def _each(
    workers: ProcessPoolExecutor, work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], tell: Callable[[int], None]
) -> None:
    """Do all jobs on the workers; the first error stops the rest."""
    pending: set[Future[Any]] = {workers.submit(work, *job) for job in jobs}
    try:
        while pending:
            tell(len(jobs) - len(pending))
            finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
        if jobs:
            tell(len(jobs))
    except BaseException:
        workers.shutdown(wait=False, cancel_futures=True)
        raise


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _peak_memory(workers: int) -> int:
    """Bytes, an upper bound: the largest resident memory of this process, and the largest worker's for each of them."""
    own, worker = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(own + workers * worker) * 1024
