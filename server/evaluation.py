"""The central test cohort: people of no hospital's training, scored by the coordinator after every round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from sarco_models.aims import aim_of, diagnosing
from sarco_models.calibration import correct_prior
from sarco_models.cohort import HeldOut, People, everyone, open_cohort
from sarco_models.config import located
from sarco_models.errors import RunError
from sarco_models.fusion import fixed_tensors
from sarco_models.parameters import Manifest, Parameters, local_tensors, trained_tensors
from sarco_models.summaries import TableScaling
from sarco_models.training import AnyReader, predict
from server.runs import Run


@dataclass
class Central:
    """The coordinator's test cohort, and the scaling that the sites agreed on."""

    run: Run
    people: HeldOut
    _reader: AnyReader | None = None

    @staticmethod
    def open(run: Run) -> Central | None:
        """Open the cohort that coordinator.toml names; None when it names none."""
        cfg = run.coordinator
        if not cfg.central:
            return None
        study = located(run.study, run.folder / cfg.segmenter) if cfg.segmenter else run.study
        cohort = open_cohort(run.folder / cfg.central, study, run.folder / cfg.cache)
        return Central(run, everyone(cohort))

    def agree(self, scaling: TableScaling) -> None:
        """Take over what all sites agreed on."""
        self._reader = aim_of(self.run.study).reader(self.run.model, scaling, self.run.study)

    def logits(self, parameters: Parameters) -> NDArray[np.float64]:
        """(participants,) logit of each person under these parameters."""
        net, reader = self._with(parameters)
        return predict(net, diagnosing(reader), self.people)

    def _with(self, parameters: Parameters) -> tuple[nn.Module, AnyReader]:
        if self._reader is None:
            raise ValueError("agree() comes first: without the sites' sums a table cannot be scaled")
        net = self.run.model.net
        parameters.load_into(trained_tensors(net))
        return net, self._reader

    def metrics(self, parameters: Parameters) -> dict[str, float]:
        """What the study tells of people who are held out, see :mod:`sarco_models.aims`."""
        net, reader = self._with(parameters)
        return aim_of(self.run.study).told(net, reader, self.people)


def released_probabilities(run: Run, people: People, norms: Path | None = None) -> NDArray[np.float64]:
    """(participants,) probability by the run's released model, at its training prevalence.

    Args:
        run: a complete run.
        people: scored; nobody's label is looked at.
        norms: see :func:`released_reader`.

    Raises:
        RunError: the run has released no model.
    """
    reader = diagnosing(released_reader(run, norms))
    logits = predict(reader.model.net, reader, people)
    if run.released and run.study.training.balance_classes:
        logits = correct_prior(logits, run.released["prevalence"])
    return np.asarray(expit(logits))


def released_reader(run: Run, norms: Path | None = None) -> AnyReader:
    """The run's released model, with the scaling of its tables.

    Args:
        run: a complete run.
        norms: a hospital's own norms, in a study that keeps them local; without, those of the starting weights.

    Raises:
        RunError: the run has released no model.
    """
    about = run.released
    if about is None:
        raise RunError(f"{run.folder}: has released no model yet; run the same command again to complete it")
    scaling = TableScaling(**{name: np.array(values) for name, values in about["scaling"].items()})
    parameters = Parameters.load(run.folder / "model.safetensors", run.manifest)
    parameters.load_into(trained_tensors(run.model.net))
    local = local_tensors(run.model.net)
    if local:
        run.frozen.load_into(fixed_tensors(run.model))
        if norms:
            Parameters.load(norms, Manifest.of(local)).load_into(local)
    return aim_of(run.study).reader(run.model, scaling, run.study)
