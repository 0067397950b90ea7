"""One hospital, assembled once: its configuration, its cohort and split, and the model that it was sent."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from client.policy import Policy
from sarco_models.cohort import Split, open_cohort, split
from sarco_models.config import Config, Name, StudyConfig, load_config, load_study
from sarco_models.errors import ConfigError
from sarco_models.fusion import Model, build_model
from sarco_models.image_cache import Progress
from sarco_models.parameters import Manifest, Parameters, all_tensors, trained_tensors
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader
from sarco_models.wire import Setup


class SiteConfig(Config):
    """site.toml: it stays in the hospital. Paths are absolute, or relative to the file."""

    name: Name
    data: str
    study: str
    cache: str = "cache"
    state: str = "state"
    label_rule: Name
    threads: int = 1
    policy: Policy = Policy()


@dataclass
class Site:
    """A hospital that answers requests.

    Attributes:
        name: as the coordinator knows it.
        study: the study file that the hospital has read.
        label_rule: how this hospital's labels were made.
        policy: what is allowed.
        split: training, validation and test participants.
        state: folder for what must outlive a process.
        threads: processor threads of one training.
    """

    name: str
    study: StudyConfig
    label_rule: str
    policy: Policy
    split: Split
    state: Path
    threads: int = 1
    _ready: tuple[str, Reader] | None = None

    @cached_property
    def model(self) -> Model:
        """The study's network; its weights always come from the coordinator."""
        return build_model(self.study, weights="none")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """What training changes, by name."""
        return trained_tensors(self.model.net)

    def keep(self, setup: Setup) -> None:
        """Store a setup, so that this process and any later one can use it."""
        self.state.mkdir(parents=True, exist_ok=True)
        for left in self.state.glob("*.partial"):
            left.unlink(missing_ok=True)
        partial = self.state / f"setup.{os.getpid()}.partial"
        sums = {f.name: getattr(setup.moments, f.name) for f in fields(Moments)}
        with partial.open("wb") as file:
            manifest = np.array(json.dumps([setup.study, setup.frozen.manifest.to_json()]))
            np.savez(file, manifest=manifest, frozen=setup.frozen.vector, **sums)
        for older in sorted(self.state.glob("setup-*.npz"), key=lambda path: path.stat().st_mtime_ns)[:-1]:
            older.unlink(missing_ok=True)
        partial.rename(self._setup_file(setup.digest))
        self._use(setup)

    def reader(self, setup_digest: str) -> Reader | None:
        """What turns people into the network's rows under this setup; None if the setup was never sent here."""
        if self._ready is None or self._ready[0] != setup_digest:
            path = self._setup_file(setup_digest)
            if not path.is_file():
                return None
            with np.load(path, allow_pickle=False) as stored:
                study, manifest = json.loads(str(stored["manifest"]))
                moments = Moments(**{f.name: stored[f.name] for f in fields(Moments)})
                self._use(Setup(study, Parameters(Manifest.from_json(manifest), stored["frozen"]), moments))
        return self._ready[1] if self._ready else None

    def _setup_file(self, digest: str) -> Path:
        return self.state / f"setup-{digest}.npz"

    def _use(self, setup: Setup) -> None:
        if self.model.frozen is not None:
            setup.frozen.load_into(all_tensors(self.model.frozen))
        scaling = agreed_scaling(self.study, setup.moments)
        self._ready = (setup.digest, Reader.of(self.model, scaling, self.study))


def open_site(path: Path, progress: Progress | None = None) -> Site:
    """Open the hospital that a site.toml describes.

    Raises:
        ConfigError: the file is wrong, or its label rule is not the study's where the study insists on one.
        DataError: see :func:`sarco_models.cohort.open_cohort`.
    """
    config = load_config(path, SiteConfig)
    study = load_study(path.parent / config.study)
    if config.label_rule != study.label.rule and not study.label.allow_mixed_rules:
        raise ConfigError(
            f"{path}: label_rule = {config.label_rule!r}; the study asks for {study.label.rule!r} and does not allow "
            "mixed rules: label your participants by the study's rule, or ask the coordinator for allow_mixed_rules"
        )
    place, cache = path.parent / config.data, path.parent / config.cache
    cohort = open_cohort(place, study, cache, progress, name=config.name)
    return Site(
        name=config.name,
        study=study,
        label_rule=config.label_rule,
        policy=config.policy,
        split=split(cohort, study.split, study.training.seed),
        state=path.parent / config.state,
        threads=config.threads,
    )
