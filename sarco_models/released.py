"""A released model as its receiver gets it: a folder whose every file is named, with its hash, in manifest.json.

``sarco-coordinator release`` writes it; a hospital or a stranger opens it with :func:`open_release` and scores people
of the study's kind. Nothing of it is code, and nothing is unpickled. A model that has seen images through masks which a
segmentation model found (``image.roi = "auto"``) is opened beside that very segmentation model, or not at all: through
the masks of another one its probabilities would be others.
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
from sarco_models.config import StudyConfig, load_config, located
from sarco_models.errors import RunError
from sarco_models.fusion import Model, build_model, fixed_tensors
from sarco_models.parameters import Manifest, Parameters, trained_tensors
from sarco_models.release_files import ABOUT, FROZEN, MANIFEST, MODEL, README, STUDY, needs, verified
from sarco_models.segmenter_files import segmenter_digest
from sarco_models.summaries import TableScaling
from sarco_models.training import Reader, predict


@dataclass(frozen=True)
class Released:
    """A released model, ready to score.

    Attributes:
        study: as it was run; it knows where the segmentation model lies that it needs.
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


def open_release(folder: Path, segmenter: Path | None = None) -> Released:
    """Check every file against the manifest, and put the model together.

    Args:
        folder: of the release.
        segmenter: the segmentation model that the manifest names under ``needs``, where it names one: folder of its
            release or of its run, or a .safetensors file; default: what lies beside ``folder`` under that name.

    Raises:
        RunError: the folder is no release; a file is absent, changed or not named; or the segmentation model that it
            needs is not here, or is another one.
        ConfigError: the segmentation model cannot be read.
    """
    about = verified(folder)
    study = load_config(folder / STUDY, StudyConfig)
    if study.digest != about["study"]:
        raise RunError(f"{folder / STUDY}: is another study than {MANIFEST} names: get the release again")
    if about.get("needs", {}) != needs(study.image.auto):
        raise RunError(f"{folder / MANIFEST}: what it 'needs' is not what {STUDY} says: get the release again")
    study = _with_segmenter(study, folder, segmenter)
    model = build_model(study, weights="none")
    for name, tensors in ((FROZEN, fixed_tensors(model)), (MODEL, trained_tensors(model.net))):
        Parameters.load(folder / name, Manifest.of(tensors)).load_into(tensors)
    found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    scaling = TableScaling(**{name: np.array(values) for name, values in found["scaling"].items()})
    return Released(study, model, scaling, found["threshold"], found["prevalence"], about["synthetic"])


def _with_segmenter(study: StudyConfig, folder: Path, given: Path | None) -> StudyConfig:
    """The study, knowing where the segmentation model lies that it was run with; of a study that needs none, itself."""
    auto = study.image.auto
    if auto is None:
        return study
    place = given or folder.resolve().parent / auto.segmenter
    wanted = f"segmentation model {auto.segmenter}, SHA-256 {auto.sha256}"
    remedy = f"get the release of that model from who gave you this one, and name its folder, as {README} shows"
    if not place.exists():
        raise RunError(
            f"{place}: is not there. The model in {folder} sees images through the masks of {wanted}, which is no part "
            f"of this release: {remedy}, or put it beside this one as {auto.segmenter}"
        )
    found = segmenter_digest(place)
    if found != auto.sha256:
        raise RunError(
            f"{place}: is segmentation model {found[:12]}, and the model in {folder} was trained on the masks of "
            f"{wanted}: {remedy}, unchanged"
        )
    return located(study, place)
