"""The run directory: everything that a run needs to be repeated, resumed or read by a stranger.

    study.json            the study as it was run, with its digest in run.json
    run.json              digest, versions, seed
    coordinator.toml      where the central cohort and the cache are
    start.safetensors     trained parameters before round 1; frozen.safetensors: what rounds do not carry
    rounds/0001.json      one record per complete round, and beside it the packed parameters (the last two are kept)
    model.safetensors     the released model, with model.json: threshold, prevalence, digests

Every file is written to a temporary name and renamed, the model before its record: a round is complete when its record
is there, and a run that was killed goes on after its last complete round.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sarco_models.config import Config, StudyConfig, load_config
from sarco_models.errors import RunError
from sarco_models.fusion import Model, build_model, fixed_tensors
from sarco_models.parameters import Manifest, Parameters, trained_tensors

_KEPT_MODELS = 2
PACKAGES = (
    "flwr",
    "torch",
    "timm",
    "opacus",
    "albumentations",
    "pydicom",
    "scikit-learn",
    "numpy",
    "scipy",
    "sarco-fl",
)


class CoordinatorConfig(Config):
    """coordinator.toml: the coordinator's own choices; no study names them. Paths are relative to the file."""

    central: str = ""
    cache: str = "cache"
    wait_for_sites_s: float = 600.0
    poll_s: float = 0.5


@dataclass(frozen=True)
class Run:
    """One run of a study in its directory."""

    folder: Path
    study: StudyConfig

    @staticmethod
    def create(folder: Path, study: StudyConfig, coordinator: CoordinatorConfig | None = None) -> Run:
        """Make a run directory, or open the one that is there when it is of the same study.

        Raises:
            RunError: the directory holds a run of another study.
            WeightsError: the study's starting weights are absent.
        """
        if (folder / "run.json").exists():
            run = Run.open(folder)
            if run.study.digest != study.digest:
                raise RunError(
                    f"{folder}: holds a run of study {run.study.digest[:12]}; this study is {study.digest[:12]}: "
                    "name another folder, or remove this one"
                )
            return run
        (folder / "rounds").mkdir(parents=True, exist_ok=True)
        model = start_model(study)
        write_text(folder / "study.json", study.model_dump_json(indent=2))
        cfg = coordinator or CoordinatorConfig()
        lines = [f"{key} = {json.dumps(value)}" for key, value in cfg.model_dump().items()]
        write_text(folder / "coordinator.toml", "\n".join(lines) + "\n")
        Parameters.pack(trained_tensors(model.net)).save(folder / "start.safetensors")
        Parameters.pack(fixed_tensors(model)).save(folder / "frozen.safetensors")
        write_json(folder / "run.json", {"study": study.digest, "seed": study.training.seed, "versions": versions()})
        return Run(folder, study)

    @staticmethod
    def open(folder: Path) -> Run:
        """Open an existing run.

        Raises:
            RunError: the folder is no run, or its study file was changed.
        """
        about = folder / "run.json"
        if not about.is_file():
            raise RunError(f"{folder}: is not a run directory (run.json is absent): name one, or start a run")
        study = load_config(folder / "study.json", StudyConfig)
        digest = json.loads(about.read_text(encoding="utf-8"))["study"]
        if digest != study.digest:
            raise RunError(f"{folder}/study.json was changed after the run began: restore it, or start another run")
        return Run(folder, study)

    @cached_property
    def coordinator(self) -> CoordinatorConfig:
        """The coordinator's own choices."""
        return load_config(self.folder / "coordinator.toml", CoordinatorConfig)

    @cached_property
    def model(self) -> Model:
        """The study's network with what the run never trains; trained layers are as built.

        Where every hospital keeps its own batch norms, those in this network are the run's starting ones.
        """
        model = build_model(self.study, weights="none")
        tensors = fixed_tensors(model)
        Parameters.load(self.folder / "frozen.safetensors", Manifest.of(tensors)).load_into(tensors)
        return model

    @cached_property
    def manifest(self) -> Manifest:
        """Names and shapes of what travels every round."""
        return Manifest.of(trained_tensors(self.model.net))

    @cached_property
    def frozen(self) -> Parameters:
        """What rounds do not carry; it travels once."""
        return Parameters.load(self.folder / "frozen.safetensors", Manifest.of(fixed_tensors(self.model)))

    @property
    def norms(self) -> dict[str, Any]:
        """Whose batch norms the metrics belong to; empty where everybody has the same model.

        Hospitals that keep their own score with them; the coordinator never sees these, and scores its central cohort
        with those of the starting weights.
        """
        return {"norms": {"sites": "own", "central": "start"}} if self.study.model.local_norms else {}

    def sweep(self) -> None:
        """Remove what a run that was killed left half written; a run directory belongs to one process at a time."""
        for place in (self.folder, self.folder / "rounds"):
            for partial in place.glob("*.partial"):
                partial.unlink(missing_ok=True)

    def records(self) -> list[dict[str, Any]]:
        """Records of the complete rounds, in order; round 0 is the start."""
        records: list[dict[str, Any]] = []
        while (path := self._record_file(len(records))).is_file():
            records.append(json.loads(path.read_text(encoding="utf-8")))
        return records

    def parameters_after(self, round_: int) -> Parameters:
        """Trained parameters after a complete round; those of the start after round 0."""
        if round_ == 0:
            return Parameters.load(self.folder / "start.safetensors", self.manifest)
        try:
            return Parameters(self.manifest, np.load(self._model_file(round_), allow_pickle=False))
        except (OSError, ValueError) as error:
            raise RunError(
                f"{self._model_file(round_)}: the model after round {round_} cannot be read: {error}"
            ) from None

    def record(self, round_: int, record: Mapping[str, Any], parameters: Parameters | None) -> None:
        """Write a complete round: first its model, then its record, then drop models that nobody resumes from."""
        if parameters is not None:
            _write_vector(self._model_file(round_), parameters.vector)
        write_json(self._record_file(round_), {"round": round_, **self.norms, **record})
        self._model_file(round_ - _KEPT_MODELS).unlink(missing_ok=True)

    def release(self, parameters: Parameters, about: Mapping[str, Any]) -> None:
        """Write the released model; model.json last, so that it stands for a complete release."""
        parameters.save(self.folder / "model.safetensors")
        write_json(self.folder / "model.json", {"study": self.study.digest, **self.norms, **about})

    @property
    def released(self) -> dict[str, Any] | None:
        """What model.json says; None while the run is not complete."""
        path = self.folder / "model.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def _record_file(self, round_: int) -> Path:
        return self.folder / "rounds" / f"{round_:04d}.json"

    def _model_file(self, round_: int) -> Path:
        return self.folder / "rounds" / f"{round_:04d}.npy"


def start_model(study: StudyConfig) -> Model:
    """The study's network with its starting weights; the random ones depend on the study's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.training.seed)
        return build_model(study)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _write_vector(path: Path, vector: NDArray[np.float32]) -> None:
    """Write the packed parameters of a round, whole or not at all; names and shapes are those of the study."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.save(file, vector, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that the file is whole or absent; a number that is not finite is refused."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole or absent, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
