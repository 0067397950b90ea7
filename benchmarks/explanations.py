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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sarco_models.architectures import architecture
from sarco_models.cohort import Cohort, HeldOut, TrainingPeople, everyone, open_cohort, pool, split
from sarco_models.config import StudyConfig, load_study
from sarco_models.explain import feature_shap, modality_shapley
from sarco_models.image_cache import CALIBRATION_FILE
from sarco_models.images import Frame, read_calibrations, read_image
from sarco_models.intervals import Estimate
from sarco_models.masks import read_mask
from sarco_models.metrics import auc_interval
from sarco_models.preprocess import Pixels, model_input
from sarco_models.saliency import ImagePath, forgetting, grad_cam
from sarco_models.saliency_checks import (
    Maps,
    Regions,
    blurred,
    centre_maps,
    deletion_curve,
    energy_inside,
    energy_lift,
    enlarged,
    is_empty,
    mean_drop,
    outline_band,
    over_people,
    random_maps,
    rank_likeness,
    structural_likeness,
)
from sarco_models.schema import IMAGES_FILE, design_columns, read_images
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
from simulation.phantom import render
from simulation.synthetic import make_cohort

PROJECT = Path(__file__).resolve().parent.parent
SITES = ("shanghai", "sichuan", "zhongshan")
CENTRAL_PARTICIPANTS, DELETED_PARTICIPANTS, SHAP_PARTICIPANTS, PHANTOMS = 99, 32, 40, 40
EPOCHS, STEPS = 15, 4
BAND_MM, BLUR_MM = 1.5, 2.5
STRIDES, RIVALS = (32, 16, 8), ("random", "centre")
BACKGROUND_AT_MOST, LIKENESS_AT_MOST = 0.05, 0.5
ASKED = (
    "muscle above its area", "blanked background below .05", "fascia above its area",
    "deletion beats random and centre", "likeness to wrecks below .5",
)  # fmt: skip
CLASS_DIFFERENCE = {"thickness_mm": -2.3, "width_mm": -1.8, "infiltration": 0.11, "fascia": 0.17}
"""What sarcopenia changes in the phantoms (SCIENCE 2.4)."""


def shown(found: Estimate, sign: str = "") -> str:
    return f"{found.value:{sign}.3f} ({found.low:{sign}.3f} to {found.high:{sign}.3f})"


# --- a model ----------------------------------------------------------------------------------------------------------


def fast_study(backbone: str, weights: str) -> StudyConfig:
    study = load_study(PROJECT / "configs" / "study.toml")
    norm = "frozen" if architecture(backbone).batch_norm else "none"
    model = study.model.model_copy(update={"backbone": backbone, "weights": weights, "norm": norm})
    training = study.training.model_copy(update={"learning_rate": 1e-3, "backbone_learning_rate": 3e-5})
    augmentation = study.augmentation.model_copy(update={"cached_views": 1})
    return study.model_copy(update={"model": model, "training": training, "augmentation": augmentation})


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


@dataclass(frozen=True)
class Views:
    """What the network sees of each person's first image, and where things are in it; (people, size, size)."""

    pixels: Pixels
    muscle: Regions
    visible: Regions
    fascia: Regions
    labels: NDArray[np.bool_]

    def first(self, n: int) -> "Views":
        return Views(self.pixels[:n], self.muscle[:n], self.visible[:n], self.fascia[:n], self.labels[:n])

    def __len__(self) -> int:
        return len(self.pixels)


def views(folder: Path, cohort: Cohort, study: StudyConfig) -> Views:
    """Masks go through the same framing as their images."""
    rows, _ = read_images(folder / IMAGES_FILE, cohort.ids)
    calibrations = read_calibrations(folder / CALIBRATION_FILE) if (folder / CALIBRATION_FILE).exists() else {}
    first = {row.participant_id: row for row in sorted(rows, key=lambda row: row.image, reverse=True)}
    muscle, visible = [], []
    for person in cohort.ids:
        row = first[person]
        frame = read_image(folder / row.image, calibrations.get(row.image), row.frame)
        mask = read_mask(folder / row.mask, frame)
        inside, white = (mask * 255).astype(np.uint8), np.full(mask.shape, 255, dtype=np.uint8)
        muscle.append(model_input(replace(frame, pixels=inside), mask, study.image) >= 128)
        visible.append(model_input(replace(frame, pixels=white), mask, study.image) > 0)
    pixels = cohort.pixels[np.searchsorted(cohort.owner, np.arange(len(cohort)))]
    seen, masks = np.array(visible), np.array(muscle)
    assert not pixels[~seen].any(), "the background is blank"
    band = outline_band(masks, BAND_MM * study.image.size / study.image.window_mm) & seen
    return Views(pixels, masks, seen, band, cohort.labels == 1)


def energy(name: str, maps: Maps, seen: Views, rng: np.random.Generator) -> list[bool]:
    """Where the maps lie, and whether that is where they should."""
    people, frame = np.arange(len(seen)), np.ones_like(seen.visible)
    muscle = over_people(energy_inside(maps, seen.muscle), people, rng)
    background = over_people(energy_inside(maps, ~seen.visible), people, rng)
    lift = over_people(energy_lift(maps, seen.muscle, frame), people, rng)
    fascia = {
        group: over_people(energy_lift(maps, seen.fascia, seen.visible)[who], people[who], rng)
        for group, who in by_class(seen.labels).items()
    }
    lifts = ", ".join(f"{group} {shown(found)}" for group, found in fascia.items())
    print(
        f"{name:9s} {int(is_empty(maps).sum())} empty; in the muscle {shown(muscle)}, lift {shown(lift)}; in the "
        f"blanked background {shown(background)};\n          lift of the fascia band among what is visible: {lifts}"
    )
    return [lift.low > 1, background.high < BACKGROUND_AT_MOST, fascia["all"].low > 1]


Falls = dict[str, dict[str, Scores]]
"""Fill -> order -> (people,) mean fall of the logit."""


def deletion(path: ImagePath, orders: dict[str, Maps], seen: Views, blur_px: float, rng: np.random.Generator) -> Falls:
    people, falls = np.arange(len(seen)), {}
    for name, fill in {"black": None, "blurred": blurred(seen.pixels, seen.visible, blur_px)}.items():
        curves = {
            order: deletion_curve(path.logits, seen.pixels, maps, seen.visible, rng, fill=fill, steps=STEPS)
            for order, maps in orders.items()
        }
        falls[name] = {order: mean_drop(curve) for order, curve in curves.items()}
        means = "; ".join(f"{order} {shown(over_people(fall, people, rng))}" for order, fall in falls[name].items())
        print(f"{name:9s} {means}")
    return falls


def beats(falls: Falls, name: str, rng: np.random.Generator) -> bool:
    """Whether deletion by the map costs more than by every order that has not seen it, with either fill."""
    everywhere = True
    for fill, fall in falls.items():
        people = np.arange(len(fall[name]))
        ahead = {rival: over_people(fall[name] - fall[rival], people, rng) for rival in RIVALS}
        print(f"{name:9s} minus, {fill}: " + "; ".join(f"{rival} {shown(a, '+')}" for rival, a in ahead.items()))
        everywhere &= all(a.low > 0 for a in ahead.values())
    return everywhere


def destroyed(reader: Reader, seen: Views, stride: int, rng: np.random.Generator) -> bool:
    """Likeness of maps of the model and of its wrecks, layer by layer."""
    size, people = seen.pixels.shape[1], np.arange(len(seen))
    learned = ImagePath(reader.model, size, stride).maps(seen.pixels)
    others = over_people(rank_likeness(learned, np.roll(learned, 1, axis=0)), people, rng)
    line, maps = [], learned
    for layers, wreck in forgetting(reader.model, torch.Generator().manual_seed(0)):
        maps = ImagePath(wreck, size, stride).maps(seen.pixels)
        values = rank_likeness(learned, maps)
        line.append(f"{layers}: {np.nanmean(values):+.2f}" if np.isfinite(values).any() else f"{layers}: no map")
    likeness = over_people(rank_likeness(learned, maps), people, rng)
    ssim = over_people(structural_likeness(enlarged(learned, size), enlarged(maps, size)), people, rng)
    print(
        f"stride {stride:2d} Spearman after destroying layers {', '.join(line)}; all: {shown(likeness, '+')}, "
        f"SSIM {shown(ssim)}; with another person's map {shown(others, '+')}"
    )
    return likeness.high < LIKENESS_AT_MOST


def grad_cam_put_to_the_test(reader: Reader, folder: Path, cohort: Cohort, seed: int) -> None:
    rng, image = np.random.default_rng(seed), reader.study.image
    seen, size = views(folder, cohort, reader.study), image.size
    few = seen.first(DELETED_PARTICIPANTS)
    maps = {f"stride {stride:2d}": grad_cam(reader.model, seen.pixels, stride) for stride in STRIDES}
    visible, band = seen.visible.mean(), seen.fascia.sum() / seen.visible.sum()
    cells = ", ".join(f"{stride * image.window_mm / size:.1f}" for stride in STRIDES)
    print(
        f"\nGrad-CAM, n = {len(seen)}, one image a person, cells of {cells} mm; "
        f"visible: {visible:.2f} of the frame, fascia band: {band:.2f} of that"
    )
    passed = {name: energy(name, m, seen, rng) for name, m in maps.items()}
    finest = {name: m[: len(few)] for name, m in maps.items()}
    rivals = {
        "random": random_maps(len(few), size // STRIDES[-1], size, rng),
        "centre": centre_maps(few.visible),
        "fascia first": few.fascia.astype(np.float32),
    }
    print(f"\ndeletion, n = {len(few)}: mean fall of the logit while pixels go in each order, replaced by the fill")
    falls = deletion(ImagePath(reader.model, size), {**finest, **rivals}, few, BLUR_MM * size / image.window_mm, rng)
    for name in maps:
        passed[name].append(beats(falls, name, rng))
    print(f"\ndestroyed weights, n = {len(few)}")
    for name, stride in zip(maps, STRIDES, strict=True):
        passed[name].append(destroyed(reader, few, stride, rng))
    print()
    for name, answers in passed.items():
        said = "; ".join(f"{asked}: {'yes' if p else 'NO'}" for asked, p in zip(ASKED, answers, strict=True))
        print(f"{name:9s} {said}")


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
    parser.add_argument("--cohort", type=Path, help="keep the hospitals here, COHORT/SEED, and use them again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = fast_study(options.backbone, options.weights)
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
                f"SYNTHETIC, seed {seed}, {options.backbone}, {len(training)} training people; central: {len(people)} "
                f"people, {int(people.labels.sum())} with sarcopenia, AUC {shown(found)}"
            )
            modalities(reader, people, training, seed)
            features(reader, people, training, seed)
            grad_cam_put_to_the_test(reader, made["central"], cohorts["central"], seed)
            what_moves_the_logit(reader, seed)
            took, worked = time.perf_counter() - begun, time.process_time() - worked
            print(f"\n{took:.0f} s, of which {worked:.0f} s of this process's own work\n", flush=True)


if __name__ == "__main__":
    main()
