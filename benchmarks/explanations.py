"""What explains a model, and whether the explanations can be believed: shares, features, and Grad-CAM put to the test.

    python benchmarks/explanations.py                            # one seed, under three minutes
    python benchmarks/explanations.py --seeds 12 13 14           # what docs/how-to/explain.md quotes

SYNTHETIC hospitals of scale `small`; ConvNeXt-atto from the shipped weights, its last stage and the tables trained for
15 epochs on the training people of all three. Explained are people of the central cohort, whom no hospital holds. What
Grad-CAM has to pass was written down on seed 11, where its layers were looked at as well: quote other seeds.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sarco_models.architectures import architecture
from sarco_models.cohort import HeldOut, TrainingPeople, everyone, open_cohort, pool, split
from sarco_models.config import StudyConfig, load_study
from sarco_models.explain import feature_shap, modality_shapley
from sarco_models.images import Frame
from sarco_models.intervals import Estimate
from sarco_models.metrics import auc_interval
from sarco_models.preprocess import model_input
from sarco_models.saliency import ImagePath
from sarco_models.saliency_checks import over_people
from sarco_models.saliency_trial import ASKED, FEW, WRECKS, put_to_the_test
from sarco_models.schema import design_columns
from sarco_models.scores import Scores
from sarco_models.shapley import by_class, magnitudes, shares_by_group, without_each
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
from simulation.anatomy import Subject
from simulation.explained import views
from simulation.phantom import render
from simulation.synthetic import make_cohort

PROJECT = Path(__file__).resolve().parent.parent
SITES = ("shanghai", "sichuan", "zhongshan")
CENTRAL_PARTICIPANTS, SHAP_PARTICIPANTS, PHANTOMS = 99, 40, 40
EPOCHS = 15
STRIDES = (32, 16, 8)
CLASS_DIFFERENCE = {"thickness_mm": -2.3, "width_mm": -1.8, "infiltration": 0.11, "fascia": 0.17}
"""What sarcopenia changes in the phantoms (SCIENCE 2.4)."""


def shown(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


# --- a model ----------------------------------------------------------------------------------------------------------


def fast_study(backbone: str, weights: str, size: int) -> StudyConfig:
    study = load_study(PROJECT / "configs" / "study.toml")
    norm = "frozen" if architecture(backbone).batch_norm else "none"
    model = study.model.model_copy(update={"backbone": backbone, "weights": weights, "norm": norm})
    training = study.training.model_copy(update={"learning_rate": 1e-3, "backbone_learning_rate": 3e-5})
    augmentation = study.augmentation.model_copy(update={"cached_views": 1})
    image = study.image.model_copy(update={"size": size})
    parts = {"model": model, "training": training, "augmentation": augmentation, "image": image}
    return study.model_copy(update=parts)


def trained(study: StudyConfig, people: TrainingPeople, seed: int) -> Reader:
    moments = Moments.of(people, design_columns(study.features), extremes=False)
    model = start_model(study)
    reader = Reader.of(model, agreed_scaling(study, moments), study)
    rng = np.random.default_rng(seed)
    steps = EPOCHS * steps_per_epoch(people, study.training)
    rates = warmup_cosine(round_=1, rounds=1, warmup_rounds=0, steps=steps)
    batches = chained(reader.batches(people, rng) for _ in range(EPOCHS))
    fit(Training(model.net, adamw(model.net, study.training), batches, participant_loss, rates), seed=seed)
    return reader


# --- modalities and features ------------------------------------------------------------------------------------------


def modalities(reader: Reader, people: HeldOut, training: TrainingPeople, seed: int) -> None:
    draws = [modality_shapley(reader, people, training, np.random.default_rng([seed, k])) for k in range(3)]
    found, rng = draws[0], np.random.default_rng(seed)
    error = np.abs(found.start + found.contributions.sum(axis=0) - found.scores).max()
    print(f"\nexact modality Shapley, logits, 64 background people; start + contributions - score: at most {error:.0e}")
    groups = shares_by_group(found.contributions, found.modalities, by_class(found.labels), rng)
    losses = without_each(found.worth, found.modalities, found.ids, found.labels)
    print("modality     " + "".join(f"share, {name}".ljust(28) for name in groups) + "AUC lost without it, P (Holm)")
    for name in found.modalities:
        cells = "".join(shown(shares[name]).ljust(28) for shares in groups.values())
        loss = losses[name].loss
        print(f"{name:12s} {cells}{shown(loss.difference, '+')}, {loss.p_holm:.3f}")
    sizes = np.abs(np.stack([draw.contributions for draw in draws])).mean(axis=2)
    spread = (sizes / sizes.sum(axis=1, keepdims=True)).std(axis=0, ddof=1)
    print("share of all, SD over 3 draws of the background: " + ", ".join(f"{s:.3f}" for s in spread))


def features(reader: Reader, people: HeldOut, training: TrainingPeople, seed: int) -> None:
    some = HeldOut(people.cohort, people.members[:SHAP_PARTICIPANTS])
    begun = time.perf_counter()
    found = feature_shap(reader, some, training, np.random.default_rng(seed))
    took = time.perf_counter() - begun
    error = np.abs(found.start + found.contributions.sum(axis=0) - found.scores).max()
    print(
        f"\nSHAP of {len(found.features)} features, {len(some)} people, {took:.0f} s: start + contributions - logit: "
        f"at most {error:.0e}"
    )
    sizes = magnitudes(found.contributions, found.features, np.random.default_rng(seed))
    largest = sorted(sizes, key=lambda name: -sizes[name].value)[:6]
    print("mean |SHAP|, logits: " + "; ".join(f"{name} {shown(sizes[name])}" for name in largest))


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


def grad_cam_put_to_the_test(reader: Reader, folder: Path, people: HeldOut, seed: int) -> None:
    """One image each of everybody, chosen by a hash; deletion and destroyed weights with the first few."""
    image, seen = reader.study.image, views(folder, people, reader.study, len(people))
    assert seen.fascia is not None, "the study has masks"
    visible, band = seen.visible.mean(), seen.fascia.sum() / seen.visible.sum()
    print(
        f"\nGrad-CAM, n = {len(seen)}, deletion and weights: {FEW}; visible: {visible:.2f} of the frame, fascia band: "
        f"{band:.2f} of that; weights destroyed {WRECKS} times"
    )
    for trial in put_to_the_test(reader.model, seen, STRIDES, np.random.default_rng(seed)):
        print(f"\nstride {trial.stride}: {trial.empty} of {trial.people} maps are empty")
        for name, check in trial.checks.items():
            found = shown(check.found, "+") if check.found else "no map"
            print(f"    {'yes' if check.passed else 'NO ':3s} {ASKED[name]:80s} {found}")
        wrecks = "; ".join(shown(wreck, "+") for wreck in trial.wrecks)
        print(f"    each wreck: {wrecks}")
        print("    " + "; ".join(f"{name} {shown(found)}" for name, found in trial.beside.items()))
        print("    " + trial.verdict(trial.stride * image.window_mm / image.size))


# --- what the model really goes by ------------------------------------------------------------------------------------


def what_moves_the_logit(reader: Reader, seed: int) -> None:
    """One thing changed in a phantom at a time, as much as sarcopenia changes it, all else equal."""
    path, image = ImagePath(reader.model, reader.study.image.size), reader.study.image
    draw = np.random.default_rng(seed)
    plain = Subject()
    subjects = [
        replace(plain, thickness_mm=plain.thickness_mm + 2 * draw.normal(), width_mm=plain.width_mm + 2 * draw.normal())
        for _ in range(PHANTOMS)
    ]

    def logits(people: list[Subject]) -> Scores:
        made = []
        for k, subject in enumerate(people):
            drawn = render(subject, np.random.default_rng([seed, k]))
            frame = Frame(drawn.pixels, (drawn.mm_per_pixel,) * 2, "aixplorer", (0, 0), drawn.pixels.shape)
            made.append(model_input(frame, drawn.mask, image))
        return path.logits(np.array(made))

    before, rng = logits(subjects), np.random.default_rng(seed)
    print(f"\nlogit when a phantom changes in one thing as sarcopenia changes it, n = {PHANTOMS}: ", end="")
    moved = {}
    for name, change in CLASS_DIFFERENCE.items():
        after = logits([replace(subject, **{name: getattr(subject, name) + change}) for subject in subjects])
        moved[f"{name} {change:+g}"] = over_people(after - before, np.arange(PHANTOMS), rng)
    print("; ".join(f"{name}: {shown(m, '+')}" for name, m in moved.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[12])
    parser.add_argument("--backbone", default="convnext_atto")
    parser.add_argument("--weights", default="phantom")
    parser.add_argument("--size", type=int, default=224, help="pixels along the image's side")
    parser.add_argument("--cohort", type=Path, help="keep the hospitals here, COHORT/SEED, and use them again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = fast_study(options.backbone, options.weights, options.size)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            begun, worked = time.perf_counter(), time.process_time()
            root = (options.cohort or Path(scratch)) / str(seed)
            made = make_cohort(root, scale="small", seed=seed, central_participants=CENTRAL_PARTICIPANTS)
            cohorts = {name: open_cohort(folder, study, root / "cache", name=name) for name, folder in made.items()}
            training = pool([split(cohorts[name], study.split, seed) for name in SITES]).train
            people = everyone(cohorts["central"])
            reader = trained(study, training, seed)
            found = auc_interval(predict(reader.model.net, reader, people), people.labels == 1)
            print(
                f"SYNTHETIC, seed {seed}, {options.backbone}, {options.size} pixels, {len(training)} training people; "
                f"central: {len(people)} people, {int(people.labels.sum())} with sarcopenia, AUC {shown(found)}"
            )
            modalities(reader, people, training, seed)
            features(reader, people, training, seed)
            grad_cam_put_to_the_test(reader, made["central"], people, seed)
            what_moves_the_logit(reader, seed)
            took, worked = time.perf_counter() - begun, time.process_time() - worked
            print(f"\n{took:.0f} s, of which {worked:.0f} s of this process's own work\n", flush=True)


if __name__ == "__main__":
    main()
