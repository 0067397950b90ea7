"""A released model as its receiver gets it: a folder whose every file is named, with its hash, in manifest.json.

``sarco-coordinator release`` writes it; a hospital or a stranger opens it with :func:`open_release` and scores people
of the study's kind. Nothing of it is code, and nothing is unpickled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sarco_models.calibration import correct_prior
from sarco_models.cohort import People
from sarco_models.config import StudyConfig, load_config
from sarco_models.errors import RunError
from sarco_models.fusion import Model, build_model, fixed_tensors
from sarco_models.parameters import Manifest, Parameters, trained_tensors
from sarco_models.release_files import ABOUT, FROZEN, MANIFEST, MODEL, STUDY, verified
from sarco_models.summaries import TableScaling
from sarco_models.training import Reader, predict


@dataclass(frozen=True)
class Released:
    """A released model, ready to score.

    Attributes:
        study: as it was run.
        model: with the released weights.
        scaling: of the tables, as the hospitals agreed on it.
        threshold: of the probability, frozen on training participants; None where there was none.
        prevalence: among training participants; probabilities speak of it.
        synthetic: whether it was trained on computer-made people; None where nobody knows.
    """

    study: StudyConfig
    model: Model
    scaling: TableScaling
    threshold: float | None
    prevalence: float
    synthetic: bool | None

    def probabilities(self, people: People) -> NDArray[np.float64]:
        """(participants,) probability of each person, at the prevalence of the training participants."""
        logits = predict(self.model.net, Reader.of(self.model, self.scaling, self.study), people)
        if self.study.training.balance_classes:
            logits = correct_prior(logits, self.prevalence)
        return np.asarray(expit(logits))


def open_release(folder: Path) -> Released:
    """Check every file against the manifest, and put the model together.

    Raises:
        RunError: the folder is no release, or a file is absent, changed or not named.
    """
    about = verified(folder)
    study = load_config(folder / STUDY, StudyConfig)
    if study.digest != about["study"]:
        raise RunError(f"{folder / STUDY}: is another study than {MANIFEST} names: get the release again")
    model = build_model(study, weights="none")
    for name, tensors in ((FROZEN, fixed_tensors(model)), (MODEL, trained_tensors(model.net))):
        Parameters.load(folder / name, Manifest.of(tensors)).load_into(tensors)
    found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    scaling = TableScaling(**{name: np.array(values) for name, values in found["scaling"].items()})
    return Released(study, model, scaling, found["threshold"], found["prevalence"], about["synthetic"])
