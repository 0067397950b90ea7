"""An experiment: arms times seeds on synthetic centres or on any site folders, resumed after a kill, to results.json.

OUT/cohort-SEED/       synthetic hospitals, where the experiment makes them
OUT/cache/             preprocessed images, shared by all arms; safe to delete
OUT/arms/SEED/ARM/     one run directory each, with the scores of everybody who was held out
OUT/results.json       {meta, rows}; scores.csv, contact sheets, figures and report.html stand beside it
"""

import json
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from sarco_models.config import Config, Name, StudyConfig, load_config
from sarco_models.errors import ConfigError
from sarco_models.workers import pool as worker_pool
from server.runs import write_json
from simulation.flower import run_arm_on_flower
from simulation.harness import CENTRAL, Arm, SiteFolder, compute_frozen, prepare, run_arm
from simulation.results import collect
from simulation.synthetic import make_cohort

Engine = Literal["inprocess", "flower"]
WORKERS = 2
MANIFEST = "manifest.json"


class CohortConfig(Config):
    """Synthetic hospitals to make: one set for each seed of the experiment."""

    scale: Literal["tiny", "small", "full"] = "small"
    preset: Literal["paper_matched", "table1_faithful", "as_printed"] = "paper_matched"
    central_participants: int | None = Field(default=None, ge=6, description="300; at scale tiny 24.")
    width_px: int = Field(default=224, ge=32)


class ExperimentConfig(Config):
    """A comparison of arms.

    Attributes:
        study: path of the study file, relative to this file.
        overrides: laid over the study file.
        seeds: one run of every arm for each; of synthetic hospitals, another set of people as well.
        arms: ``local`` stands for one arm of each hospital.
        controls: name -> ``prevalence``, ``image_count``, ``feature:NAME`` or ``logistic:GROUP``.
        cohort: synthetic hospitals; or else ``sites``, name -> folder, and ``central``, a folder of test participants.
    """

    name: Name
    title: str
    study: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    arms: tuple[Literal["local", "federated", "pooled"], ...] = ("federated", "pooled", "local")
    controls: dict[str, str] = Field(default_factory=dict)
    cohort: CohortConfig | None = None
    sites: dict[Name, str] = Field(default_factory=dict)
    central: str = ""


@dataclass(frozen=True)
class ArmStatus:
    """How far one arm is, as its run directory tells."""

    name: str
    seed: int
    round: int
    rounds: int
    loss: float | None
    auc: float | None
    done: bool


@dataclass(frozen=True)
class Status:
    """How far an experiment is: ``done`` of ``total`` steps of the stage."""

    stage: str
    done: int
    total: int
    arms: tuple[ArmStatus, ...] = ()


Watch = Callable[[Status], None]


@dataclass(frozen=True)
class Experiment:
    """An experiment in its folder."""

    config: ExperimentConfig
    study: StudyConfig
    base: Path
    out: Path
    engine: Engine

    @staticmethod
    def load(
        path: Path, out: Path, engine: Engine = "inprocess", changes: Mapping[str, Any] | None = None
    ) -> "Experiment":
        """Read an experiment file; ``changes`` are laid over it (scale and seeds of the command line).

        Raises:
            ConfigError: the experiment or its study is wrong.
        """
        config = load_config(path, ExperimentConfig, changes)
        if (config.cohort is None) == (not config.sites):
            raise ConfigError(f"{path}: give either [cohort], to make synthetic hospitals, or [sites], folders of data")
        if config.sites and not config.central:
            raise ConfigError(f"{path}: central is missing: name a folder of test participants whom no site holds")
        study = load_config(path.parent / config.study, StudyConfig, config.overrides)
        return Experiment(config, study, path.parent, out, engine)

    def data(self, seed: int) -> Path:
        """Folder of the hospitals' folders of a seed."""
        return self.out / f"cohort-{seed}"

    def sites(self, seed: int) -> tuple[SiteFolder, ...]:
        """The hospitals, in the order of their names."""
        if self.config.cohort:
            folders = {p.name: p for p in self.data(seed).iterdir() if p.is_dir() and p.name not in (CENTRAL, "truth")}
        else:
            folders = {name: self.base / folder for name, folder in self.config.sites.items()}
        return tuple(SiteFolder(name, folders[name], self._label_rule(folders[name])) for name in sorted(folders))

    def central(self, seed: int) -> Path:
        """Folder of the central test cohort."""
        return self.data(seed) / CENTRAL if self.config.cohort else self.base / self.config.central

    def arms(self, seed: int) -> list[Arm]:
        """All arms of a seed, those with the most work first."""
        sites = self.sites(seed)
        names = [str(n) for n in ("federated", "pooled") if n in self.config.arms]
        if "local" in self.config.arms:
            names += [f"local:{s.name}" for s in sites]
        return [self._arm(name, seed, sites) for name in names]

    def _arm(self, name: str, seed: int, sites: tuple[SiteFolder, ...]) -> Arm:
        # A comparison needs every hospital in every round. A federation of one site is a local or pooled arm: the same
        # study, but without the proximal term, which is there to hold different sites together.
        alone = {"min_sites": 1, "strategy": "fedavg", "proximal_mu": 0.0}
        changes = {"min_sites": len(sites)} if name == "federated" else alone
        federation = self.study.federation.model_copy(update=changes)
        training = self.study.training.model_copy(update={"seed": seed})
        study = self.study.model_copy(update={"training": training, "federation": federation})
        folder = self.out / "arms" / str(seed) / name.replace(":", "-")
        return Arm(name, study, sites, self.central(seed), self.out / "cache", folder)

    def _label_rule(self, folder: Path) -> str:
        manifest = folder / MANIFEST
        stated = json.loads(manifest.read_text(encoding="utf-8")).get("label_rule") if manifest.is_file() else None
        return str(stated or self.study.label.rule)


def run_experiment(experiment: Experiment, watch: Watch, command: str = "") -> Path:
    """Run every arm with every seed, and write results.json; what is complete already is only read.

    Returns:
        Path of results.json.
    """
    started = time.monotonic()
    seeds = experiment.config.seeds
    for seed in seeds:
        _make_hospitals(experiment, seed, watch)
    arms = [arm for seed in seeds for arm in experiment.arms(seed)]
    with worker_pool(WORKERS) as workers:
        cohorts = [(arm, name) for seed in seeds for arm in experiment.arms(seed)[:1] for name in _cohorts(arm)]
        _each(workers, compute_frozen, cohorts, lambda done: watch(Status("reading images", done, len(cohorts))))
        run = run_arm if experiment.engine == "inprocess" else run_arm_on_flower
        _each(workers, run, [(arm,) for arm in arms], lambda done: watch(_training_status(arms, done)))
    watch(Status("statistics", 0, 1))
    results = collect(experiment.config.title, experiment.config.controls, arms, experiment.out)
    results["meta"] |= {
        "engine": experiment.engine,
        "command": command,
        "scale": experiment.config.cohort.scale if experiment.config.cohort else None,
        "preset": experiment.config.cohort.preset if experiment.config.cohort else None,
        "seconds": time.monotonic() - started,
        "peak_memory_bytes": _peak_memory(),
    }
    write_json(experiment.out / "results.json", results)
    watch(Status("statistics", 1, 1))
    return experiment.out / "results.json"


def prepare_federated(experiment: Experiment, watch: Watch) -> Path:
    """Make the hospitals and the run directory of the federated arm with the first seed; returns the directory."""
    seed = experiment.config.seeds[0]
    _make_hospitals(experiment, seed, watch)
    arm = next((a for a in experiment.arms(seed) if a.name == "federated"), None)
    if arm is None:
        raise ConfigError(f"{experiment.config.name}: arms = {experiment.config.arms} has no federated arm: add it")
    return prepare(arm).folder


def _make_hospitals(experiment: Experiment, seed: int, watch: Watch) -> None:
    cfg = experiment.config.cohort
    if cfg is None:
        return
    make_cohort(
        experiment.data(seed),
        scale=cfg.scale,
        seed=seed,
        preset=cfg.preset,
        central_participants=cfg.central_participants,
        width_px=cfg.width_px,
        workers=WORKERS,
        progress=lambda done, total: watch(Status("making hospitals", done, total)),
    )


def _cohorts(arm: Arm) -> list[str]:
    """The central cohort first: it is the largest."""
    return [CENTRAL, *(s.name for s in arm.sites)]


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
        tell(len(jobs))
    except BaseException:
        workers.shutdown(wait=False, cancel_futures=True)
        raise


def _training_status(arms: Sequence[Arm], done: int) -> Status:
    return Status("training", done, len(arms), tuple(_arm_status(arm) for arm in arms))


def _arm_status(arm: Arm) -> ArmStatus:
    rounds = sorted((arm.folder / "rounds").glob("*.json"))
    nothing: dict[str, Any] = {"round": 0, "central": {}}
    latest = json.loads(rounds[-1].read_text(encoding="utf-8")) if rounds else nothing
    central = latest["central"]
    return ArmStatus(
        name=arm.name,
        seed=arm.study.training.seed,
        round=latest["round"],
        rounds=arm.study.federation.rounds,
        loss=central.get("loss"),
        auc=central.get("auc"),
        done=(arm.folder / "arm.json").exists(),
    )


def _peak_memory() -> int:
    """Bytes, an upper bound: the largest resident memory of this process, and the largest worker's for each of them."""
    own, worker = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return int(own + WORKERS * worker) * 1024


def with_scale(scale: str | None, seeds: Sequence[int]) -> dict[str, Any]:
    """What the command line lays over an experiment file."""
    changes: dict[str, Any] = {"cohort": {"scale": scale}} if scale else {}
    return changes | ({"seeds": list(seeds)} if seeds else {})
