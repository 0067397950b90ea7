"""The run directory: everything that a run needs to be repeated, resumed or read by a stranger.

    study.json            the study as it was run, with its digest in run.json
    run.json              digest, versions, seed, and the released model that it begins with, if any
    coordinator.toml      where the central cohort and the cache are
    start.safetensors     trained parameters before round 1; frozen.safetensors: what rounds do not carry
    agreed.npz            the sums over all sites' training participants that the tables' scaling follows from
    rounds/0001.json      one record per complete round, and beside it the packed parameters and what an adaptive
                          strategy remembers, 0001.state.npz (of the last two rounds)
    model.safetensors     the released model, with model.json: threshold, prevalence, digests
    assessments.json      what each site says of the released model on its own test participants; assessing.json: what
                          became of the others, and the traffic

Every file is written to a temporary name and renamed, the model before its record: a round is complete when its record
is there, and a run that was killed goes on after its last complete round.
"""

from __future__ import annotations

import contextlib
import errno
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sarco_models.config import StudyConfig, load_config
from sarco_models.devices import choose
from sarco_models.errors import RunError
from sarco_models.federating import ADAPTIVE
from sarco_models.fusion import Model, build_model, fixed_tensors
from sarco_models.parameters import Manifest, Parameters, trained_tensors
from sarco_models.site_evaluation import SiteEvaluation
from sarco_models.summaries import Moments
from server.beginnings import check_continues
from server.home import CoordinatorConfig as CoordinatorConfig
from server.versions import versions as versions
from server.whole_files import write_array
from server.whole_files import write_json as write_json
from server.whole_files import write_text as write_text

_KEPT_MODELS = 2
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_REMEMBER = (*ADAPTIVE, "fedavgm")
"""Strategies that remember more than the model from round to round."""


@dataclass(frozen=True)
class Run:
    """One run of a study in its directory."""

    folder: Path
    study: StudyConfig

    @staticmethod
    def create(
        folder: Path, study: StudyConfig, coordinator: CoordinatorConfig | None = None, *, begin: Path | None = None
    ) -> Run:
        """Make a run directory, or open the one that is there when it is of the same study.

        Args:
            folder: made if need be.
            study: as every hospital has it.
            coordinator: the coordinator's own choices.
            begin: directory of a run of the same network that has released its model. That model is what the first
                round begins with; its frozen part stays, and so does the scaling that its sites had agreed on, whoever
                takes part now. What an adaptive strategy remembered is not taken over.

        Raises:
            RunError: the directory holds a run of another study or beginning; or ``begin`` has released no model, or
                one of another network.
            WeightsError: the study's starting weights are absent.
        """
        begun = _released_run(begin, study) if begin else None
        about = begun.identity if begun else None
        if (folder / "run.json").exists():
            return _same_run(Run.open(folder), study, about)
        (folder / "rounds").mkdir(parents=True, exist_ok=True)
        write_text(folder / "study.json", study.model_dump_json(indent=2))
        cfg = coordinator or CoordinatorConfig()
        lines = [f"{key} = {json.dumps(value)}" for key, value in cfg.model_dump().items()]
        write_text(folder / "coordinator.toml", "\n".join(lines) + "\n")
        if not study.unplanned:  # nobody knows its network yet
            model = begun.released_model() if begun else start_model(study)
            Parameters.pack(trained_tensors(model.net)).save(folder / "start.safetensors")
            Parameters.pack(fixed_tensors(model)).save(folder / "frozen.safetensors")
        run = Run(folder, study)
        if begun:
            run.agree(begun.agreed)
        facts = {"study": study.digest, "seed": study.training.seed, "versions": versions()}
        write_json(folder / "run.json", {**facts, "begin": about} if about else facts)
        return run

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

        Where every hospital keeps its own norms, those in this network are the run's starting ones.
        """
        model = build_model(self.study, weights="none").to(choose(self.coordinator.device))
        tensors = fixed_tensors(model)
        Parameters.load(self.folder / "frozen.safetensors", Manifest.of(tensors)).load_into(tensors)
        return model

    @cached_property
    def begun(self) -> dict[str, str] | None:
        """Study and parameters of the released model that this run begins with; None where it has its own start."""
        found: dict[str, str] | None = json.loads((self.folder / "run.json").read_text(encoding="utf-8")).get("begin")
        return found

    @property
    def identity(self) -> dict[str, str]:
        """Names a released model: digests of its study and of its parameters."""
        return {"study": self.study.digest, "parameters": self.final.digest}

    @property
    def final(self) -> Parameters:
        """The released parameters."""
        return Parameters.load(self.folder / "model.safetensors", self.manifest)

    def released_model(self) -> Model:
        """The network with the released parameters, trained and frozen."""
        self.final.load_into(trained_tensors(self.model.net))
        return self.model

    def agree(self, moments: Moments) -> None:
        """Store the sums that the scaling follows from."""
        write_array(self.folder / "agreed.npz", **{f.name: getattr(moments, f.name) for f in fields(Moments)})

    @property
    def agreed(self) -> Moments:
        """The sums that the scaling follows from.

        Raises:
            RunError: they are absent or damaged.
        """
        try:
            with np.load(self.folder / "agreed.npz", allow_pickle=False) as stored:
                return Moments(**stored)
        except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{self.folder / 'agreed.npz'}: the sums that the sites agreed on cannot be read: {error}: restore the "
                "file; earlier versions did not write it, and their runs must be run again"
            ) from None

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
        """Whose norms the metrics belong to; empty where everybody has the same model.

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

    def state_after(self, round_: int) -> dict[str, NDArray[np.float32]]:
        """What an adaptive strategy remembered after a complete round; nothing at the start, and of plain averages.

        Raises:
            RunError: it is absent or damaged: going on without it would be another run.
        """
        cfg = self.study.federation
        without_momentum = cfg.strategy == "fedavgm" and cfg.server_momentum == 0
        if round_ == 0 or cfg.strategy not in _REMEMBER or without_momentum:
            return {}
        path = self._state_file(round_)
        try:
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path}: what {cfg.strategy} remembered after round {round_} cannot be read: "
                f"{error}: restore the file, or start another run"
            ) from None

    def record(
        self,
        round_: int,
        record: Mapping[str, Any],
        parameters: Parameters | None,
        state: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        """Write a complete round: first its model and state, then its record, then drop those nobody resumes from."""
        if parameters is not None:
            write_array(self._model_file(round_), parameters.vector)
        if state:
            write_array(self._state_file(round_), **state)
        write_json(self._record_file(round_), {"round": round_, **self.norms, **record})
        for file in (self._model_file, self._state_file):
            file(round_ - _KEPT_MODELS).unlink(missing_ok=True)

    def release(self, parameters: Parameters, about: Mapping[str, Any]) -> None:
        """Write the released model; model.json last, so that it stands for a complete release."""
        parameters.save(self.folder / "model.safetensors")
        write_json(self.folder / "model.json", {"study": self.study.digest, **self.norms, **about})

    @property
    def released(self) -> dict[str, Any] | None:
        """What model.json says; None while the run is not complete."""
        path = self.folder / "model.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def assess(self, evaluations: Mapping[str, SiteEvaluation], about: Mapping[str, Any]) -> None:
        """Write the sites' assessments, and beside them what became of the other sites."""
        write_json(self.folder / "assessing.json", about)
        stored = {site: evaluation.to_dict() for site, evaluation in evaluations.items()}
        write_json(self.folder / "assessments.json", stored)

    @property
    def assessments(self) -> dict[str, SiteEvaluation] | None:
        """What the sites said of the released model, by name; None as long as they were not asked."""
        path = self.folder / "assessments.json"
        if not path.is_file():
            return None
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {site: SiteEvaluation.from_dict(evaluation) for site, evaluation in stored.items()}

    @property
    def assessing(self) -> dict[str, Any]:
        """What became of the sites that :attr:`assessments` does not hold, and the traffic; empty before."""
        path = self.folder / "assessing.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def _record_file(self, round_: int) -> Path:
        return self.folder / "rounds" / f"{round_:04d}.json"

    def _model_file(self, round_: int) -> Path:
        return self.folder / "rounds" / f"{round_:04d}.npy"

    def _state_file(self, round_: int) -> Path:
        return self.folder / "rounds" / f"{round_:04d}.state.npz"


@contextlib.contextmanager
def cannot_write(folder: Path) -> Iterator[None]:
    """Say of a disk that takes nothing which directory it is, and that the run goes on afterwards.

    Raises:
        RunError: in place of the OSError of a full or read-only disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        raise RunError(
            f"{error.filename or folder}: {error.strerror}: make room on the disk, or mend its rights, and run the "
            "same command again; it goes on from the last complete round"
        ) from error


def _released_run(folder: Path, study: StudyConfig) -> Run:
    """The run whose released model a study begins with."""
    run = Run.open(folder)
    if run.released is None:
        raise RunError(f"begin = {folder}: has released no model yet: complete that run first")
    try:
        check_continues(study, run.study)
    except ValueError as error:
        raise RunError(f"begin = {folder}: {error}") from None
    return run


def _same_run(run: Run, study: StudyConfig, begun: Mapping[str, str] | None) -> Run:
    """The run, if it is of this study and began with this model."""
    if run.study.digest != study.digest:
        raise RunError(
            f"{run.folder}: holds a run of study {run.study.digest[:12]}; this study is {study.digest[:12]}: "
            "name another folder, or remove this one"
        )
    if run.begun != begun:
        names = [f"the released model {b['parameters'][:12]}" if b else "its own start" for b in (run.begun, begun)]
        raise RunError(
            f"{run.folder}: holds a run that began with {names[0]}, not with {names[1]}: name the same begin, or "
            "another folder"
        )
    return run


def start_model(study: StudyConfig) -> Model:
    """The study's network with its starting weights; the random ones depend on the study's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(study.training.seed)
        return build_model(study)
