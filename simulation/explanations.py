"""The explanation stage of an experiment: what each finished model owes to each kind of data, and where it looks.

    explanation.npz     in an arm's run directory: a participant a column, no identifiers; it is a score file and stays
    explanation/        in the experiment's folder: pictures, of synthetic people only

What is computed is kept, so that a run that was killed goes on. An explanation belongs to one model: another one in the
same directory is explained anew.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from sarco_models.calibration import correct_prior
from sarco_models.cohort import HeldOut
from sarco_models.composites import background_people
from sarco_models.config import IMAGE
from sarco_models.errors import RunError, UndefinedMetric
from sarco_models.explain import BACKGROUND, feature_shap, modality_shapley
from sarco_models.intervals import Estimate
from sarco_models.metrics import auc_interval
from sarco_models.scores import Labels, Scores
from sarco_models.shapley import (
    Without,
    by_class,
    each_alone,
    ensemble,
    magnitudes,
    shapley,
    shares_by_group,
    without_each,
)
from simulation.arms import Arm
from simulation.explained import TEST, Explained, training_people
from simulation.heat_maps import explain_images as explain_images

VERSION = 1
"""Raise it when the same model would be explained otherwise, so that nothing stale is read."""

FEATURE_PEOPLE = 40
"""Participants whose features are explained: a random subset, for time."""

FEWEST = 5
"""Participants in a group that has shares of its own: those of one or two would be those of persons."""

NOTE = (
    "A share says how far a kind of data moves the model's scores, not whether it moves them the right way: it is not "
    "importance for the AUC, which the AUC without that kind of data shows."
)


@dataclass(frozen=True, eq=False)
class Members:
    """What one model says of its held-out participants.

    Attributes:
        modalities: as the study names them.
        worth: (2**modalities, participants) logits; see :mod:`sarco_models.shapley`.
        present: (modalities, participants) who has what.
        labels: (participants,) True = sarcopenia.
        margin: (participants,) logit above the frozen threshold's; NaN where there is none.
        features: of the tables.
        contributions: (features, some participants) SHAP values in logits.
        about: what explain_arm returns.
    """

    modalities: tuple[str, ...]
    worth: Scores
    present: NDArray[np.bool_]
    labels: Labels
    margin: Scores
    features: tuple[str, ...]
    contributions: Scores
    about: dict[str, Any]


def explanation(
    arms: Sequence[Arm], folder: Path, rng: np.random.Generator, *, contributions: bool = True, images: bool = True
) -> dict[str, Any]:
    """One entry of ``tables.explanation``, an arm with one seed.

    Args:
        arms: its members: all folds and draws of a cross-validation, else a single one.
        folder: ``explanation`` in the experiment's folder.
        rng: of intervals.
        contributions: what :func:`pooled_explanation` finds.
        images: what :func:`explain_images` finds of the first member, under ``images``; of a study of tables nothing.

    Raises:
        UndefinedMetric: no training participant has every modality, so that nobody can stand in for another.
    """
    found = pooled_explanation(arms, rng) if contributions else {}
    seen = images and arms[0].study.uses_images
    return found | ({"images": explain_images(arms[0], folder)} if seen else {})


# --- one arm ----------------------------------------------------------------------------------------------------------


def explain_arm(arm: Arm, people: str = TEST) -> dict[str, Any]:
    """Explain a finished arm and keep it in the arm's folder; what is there is only read.

    Args:
        arm: whose run has released its model.
        people: ``test``, or the name of a cohort that the arm is scored on; see :mod:`simulation.explained`.

    Returns:
        cohort, n, n_positive, modalities, features, n_features_explained, background, scale.

    Raises:
        ConfigError: the arm is not scored on such a cohort.
        RunError: no model was released.
        UndefinedMetric: no training participant has every modality.
    """
    return members(arm, people).about


def members(arm: Arm, people: str = TEST) -> Members:
    """As :func:`explain_arm`, with the numbers of every participant."""
    path = arm.folder / ("explanation.npz" if people == TEST else f"explanation_{people}.npz")
    model = _model_digest(arm)
    found = _read(path, model)
    if found is None:
        torch.set_num_threads(1)
        _write(path, _explained(arm, people), model)
        found = _read(path, model)
    if found is None:
        raise RunError(f"{path}: was changed while it was written: is another process at work in this directory?")
    return found


def _explained(arm: Arm, people: str) -> Members:
    which = Explained.of(arm, people)
    training, released = training_people(arm), which.run.released or {}
    seed, fold, draw = arm.study.training.seed, arm.study.split.fold, arm.study.training.draw
    rng = np.random.default_rng([seed, fold, draw, 46])
    found = modality_shapley(which.reader, which.people, training, rng)
    worth = correct_prior(found.worth, released["prevalence"]) if arm.study.training.balance_classes else found.worth
    some = _some(which.people, arm.study.split.folds, np.random.default_rng([seed, fold, 47]))
    features: tuple[str, ...] = ()
    contributions = np.zeros((0, len(some)))
    if set(found.modalities) != {IMAGE}:
        of_features = feature_shap(which.reader, some, training, rng)
        features, contributions = of_features.features, of_features.contributions
    threshold = released["threshold"]
    margin = np.full(len(which.people), np.nan) if threshold is None else worth[-1] - _logit(threshold)
    about = {
        "cohort": which.place,
        "n": len(which.people),
        "n_positive": int(found.labels.sum()),
        "modalities": list(found.modalities),
        "features": list(features),
        "n_features_explained": len(some) if features else 0,
        "background": len(background_people(arm.study, training, BACKGROUND, rng)),
        "scale": found.scale,
    }
    return Members(found.modalities, worth, found.present, found.labels, margin, features, contributions, about)


def _some(people: HeldOut, folds: int, rng: np.random.Generator) -> HeldOut:
    """A random subset, the same for all draws of a fold, so that folds together have ``FEATURE_PEOPLE``."""
    count = -(-FEATURE_PEOPLE // max(folds, 1))
    return HeldOut(people.cohort, np.sort(rng.permutation(people.members)[:count]))


def _logit(threshold: float) -> float:
    return float(logit(np.clip(threshold, 1e-12, 1 - 1e-12)))


def _model_digest(arm: Arm) -> str:
    path = arm.folder / "model.safetensors"
    if not path.is_file():
        raise RunError(f"{arm.folder}: has released no model yet; run the same command again to complete it")
    return hashlib.sha256(f"{VERSION}|{arm.study.digest}|".encode() + path.read_bytes()).hexdigest()


def _write(path: Path, found: Members, model: str) -> None:
    """Whole or not at all; nothing in it names anybody."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            model=np.array(model),
            about=np.array(json.dumps(found.about)),
            modalities=np.array(found.modalities),
            worth=found.worth,
            contributions=shapley(found.worth),
            present=found.present,
            labels=found.labels,
            margin=found.margin,
            features=np.array(found.features, dtype=np.str_),
            feature_contributions=found.contributions,
        )
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _read(path: Path, model: str) -> Members | None:
    """What is there; None where nothing is, or where it explains another model."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        if str(kept["model"]) != model:
            return None
        return Members(
            tuple(str(name) for name in kept["modalities"]),
            kept["worth"],
            kept["present"],
            kept["labels"],
            kept["margin"],
            tuple(str(name) for name in kept["features"]),
            kept["feature_contributions"],
            json.loads(str(kept["about"])),
        )


# --- members together -------------------------------------------------------------------------------------------------


def pooled_explanation(arms: Sequence[Arm], seed_rng: np.random.Generator) -> dict[str, Any]:
    """Shares, drop-one AUC and features of an arm: of all folds of a cross-validation together, else of the one model.

    A fold's people are explained by the fold's model; draws of one fold are averaged in logits. Drop-one and alone are
    the worths of coalitions of the same Shapley table, so that no model is trained again; in a cross-validation they
    are exact on the out-of-fold logits as these are, each fold's on its own model's scale.

    Args:
        arms: members of one arm with one seed.
        seed_rng: of intervals.

    Returns:
        shares, drop_one_auc, alone_auc, full_auc, features, n, n_positive, n_features_explained, background, scale,
        cohort, note. Without one of the classes there is no AUC: full_auc is None, and the two tables are empty.

    Raises:
        RunError: members of several arms or seeds, or one that has released no model.
        UndefinedMetric: no training participant has every modality.
    """
    named = {(arm.name, arm.study.training.seed) for arm in arms}
    if len(named) != 1:
        raise RunError(f"{len(arms)} members of {len(named)} arms and seeds: their people differ; give those of one")
    of_fold: dict[int, list[Members]] = {}
    for arm in arms:
        of_fold.setdefault(arm.study.split.fold, []).append(members(arm))
    folds = [_averaged(of_fold[fold]) for fold in sorted(of_fold)]
    worth, labels, margin = (np.concatenate([getattr(f, part) for f in folds], axis=-1) for part in _PARTS)
    players, features = folds[0].modalities, folds[0].features
    groups = by_class(labels)
    if not np.isnan(margin).any():
        groups |= {"called_positive": margin >= 0, "called_negative": margin < 0}
    groups = {name: who for name, who in groups.items() if who.sum() >= FEWEST}
    shap = np.concatenate([fold.contributions for fold in folds], axis=1)
    sizes = magnitudes(shap, features, seed_rng) if features and shap.size else {}
    return {
        "shares": {
            group: _as_dicts(found)
            for group, found in shares_by_group(shapley(worth), players, groups, seed_rng).items()
        },
        **_aucs(worth, players, labels),
        "features": _as_dicts(sizes),
        "n": len(labels),
        "n_positive": int(labels.sum()),
        "n_features_explained": shap.shape[1] if features else 0,
        "background": min(fold.about["background"] for fold in folds),
        "scale": "logit",
        "cohort": folds[0].about["cohort"],
        "folds": len(folds),
        "draws": max(len(draws) for draws in of_fold.values()),
        "note": NOTE,
    }


_PARTS = ("worth", "labels", "margin")


def _averaged(draws: Sequence[Members]) -> Members:
    """One model that is the mean of several, in logits."""
    first = draws[0]
    return Members(
        first.modalities,
        ensemble([d.worth for d in draws]),
        first.present,
        first.labels,
        ensemble([d.margin for d in draws]),
        first.features,
        ensemble([d.contributions for d in draws]),
        first.about,
    )


def _aucs(worth: Scores, players: Sequence[str], labels: Labels) -> dict[str, Any]:
    nobody = [str(k) for k in range(len(labels))]  # the coalitions' columns are the same people by construction
    try:
        without, alone = (of(worth, players, nobody, labels) for of in (without_each, each_alone))
        full = asdict(auc_interval(worth[-1], labels))
    except UndefinedMetric:
        return {"full_auc": None, "drop_one_auc": {}, "alone_auc": {}}
    return {"full_auc": full, "drop_one_auc": _compared(without), "alone_auc": _compared(alone)}


def _compared(found: Mapping[str, Without]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            **asdict(w.auc),
            "difference": asdict(w.loss.difference),
            "p": w.loss.p,
            "p_holm": w.loss.p_holm,
        }
        for name, w in found.items()
    }


def _as_dicts(found: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: asdict(estimate) for name, estimate in found.items()}
