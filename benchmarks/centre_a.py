"""Image-only ConvNeXt at the synthetic centre A, full size, five folds of participants: AUC with its interval.

    python benchmarks/centre_a.py --framing physical letterbox paper --size 96
    python benchmarks/centre_a.py --size 224

This is how the phantoms' image effect was tuned to the paper's AUC of .827 (Chen et al. 2025): agreement is
calibration, not evidence. All data are SYNTHETIC.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sarco_models.cohort import Cohort, HeldOut, TrainingPeople, open_cohort
from sarco_models.config import StudyConfig, load_study
from sarco_models.metrics import auc, auc_interval
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import (
    Reader,
    Training,
    adamw,
    chained,
    fit,
    participant_loss,
    predict,
    steps_per_epoch,
    warmup_cosine,
)
from server.runs import start_model
from simulation.synthetic import make_cohort

PROJECT = Path(__file__).resolve().parent.parent
FOLDS = 5


def image_study(size: int, framing: str) -> StudyConfig:
    study = load_study(PROJECT / "configs" / "study.toml")
    return study.model_copy(
        update={
            "image": study.image.model_copy(update={"size": size, "framing": framing}),
            "model": study.model.model_copy(update={"modalities": ("image",)}),
            "augmentation": study.augmentation.model_copy(update={"cached_views": 2}),
            "training": study.training.model_copy(update={"learning_rate": 1e-3, "backbone_learning_rate": 3e-5}),
        }
    )


def folds(cohort: Cohort, rng: np.random.Generator) -> np.ndarray:
    fold = np.empty(len(cohort), dtype=np.int64)
    for label in (0, 1):
        people = rng.permutation(np.flatnonzero(cohort.labels == label))
        fold[people] = np.arange(len(people)) % FOLDS
    return fold


def cross_validated(cohort: Cohort, study: StudyConfig, seed: int, epochs: int) -> tuple[np.ndarray, list[float]]:
    """Out-of-fold probabilities of everybody, and the AUC of each fold."""
    fold = folds(cohort, np.random.default_rng(seed))
    scores, each = np.zeros(len(cohort)), []
    for k in range(FOLDS):
        people = TrainingPeople(cohort, np.flatnonzero(fold != k))
        held_out = HeldOut(cohort, np.flatnonzero(fold == k))
        moments = Moments.of(people, design_columns(study.features), extremes=False)
        model = start_model(study)
        reader = Reader.of(model, agreed_scaling(study, moments), study)
        rng = np.random.default_rng([seed, k])
        steps = epochs * steps_per_epoch(people, study.training)
        rates = warmup_cosine(round_=1, rounds=1, warmup_rounds=0, steps=steps)
        batches = chained(reader.batches(people, rng) for _ in range(epochs))
        fit(Training(model.net, adamw(model.net, study.training), batches, participant_loss, rates), seed=seed)
        scores[held_out.members] = predict(model.net, reader, held_out)
        each.append(auc(scores[held_out.members], held_out.labels == 1))
    return 1 / (1 + np.exp(-scores)), each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framing", nargs="+", default=["physical"])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--cohort", type=Path, help="keep the hospitals here, COHORT/SEED, and use them again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            hospitals = (options.cohort or Path(scratch)) / str(seed)
            made = make_cohort(hospitals, scale="full", seed=seed, central_participants=6)
            for framing in options.framing:
                begun = time.perf_counter()
                study = image_study(options.size, framing)
                cohort = open_cohort(made["shanghai"], study, hospitals / "cache")
                probability, each = cross_validated(cohort, study, seed, options.epochs)
                found = auc_interval(probability, cohort.labels == 1)
                print(
                    f"SYNTHETIC centre A, seed {seed}, {options.size} px, {framing}: {len(cohort)} people, "
                    f"{len(cohort.owner)} images, out-of-fold AUC {found.value:.3f} "
                    f"({found.low:.3f}-{found.high:.3f}), "
                    f"folds {np.mean(each):.3f} +- {np.std(each, ddof=1):.3f}, {time.perf_counter() - begun:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
