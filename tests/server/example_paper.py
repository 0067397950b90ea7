"""Invented runs of the paper's protocol: three seeds, six candidates, two other hospitals, self-consistent."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit, logit

from sarco_models.decisions import confusion, f1_macro, f1_positive, proportions
from sarco_models.intervals import Estimate, proportion
from sarco_models.metrics import auc, auc_interval, compare_aucs
from sarco_models.scores import Labels, Scores

MODALITIES = {
    "image": ("image",),
    "clinical": ("clinical",),
    "lab": ("lab",),
    "image_clinical": ("image", "clinical"),
    "image_lab": ("image", "lab"),
    "all": ("image", "clinical", "lab"),
}
SKILL = {"image": 1.33, "clinical": 1.12, "lab": 0.53, "image_clinical": 1.34, "image_lab": 1.37, "all": 1.46}
PEOPLE = {"shanghai": (357, 101), "sichuan": (145, 68), "zhongshan": (82, 19)}
SEEDS = (1, 2, 3)
SELECTED = {1: "image", 2: "all", 3: "image"}
FOLDS = 5
THRESHOLD = 0.29


@dataclass(frozen=True)
class Made:
    """What is left out of, or changed in, an invented run."""

    seeds: Sequence[int] = SEEDS
    complete_cases: bool = False
    candidates: Sequence[str] = tuple(MODALITIES)
    preset: str | None = "paper_matched"
    synthetic: bool | None = True
    baseline: bool = True
    explanation: bool = True


def write_cross_validation(folder: Path, made: Made | None = None) -> Path:
    """Write results.json, scores.csv and a picture of heat maps."""
    made = made or Made()
    (folder / "explanation").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    people: list[list[Any]] = []
    for seed in made.seeds:
        rows += _one_seed(made, seed, people)
    tables: dict[str, Any] = {}
    if made.baseline:
        tables["baseline"] = {str(seed): {"shanghai": _baseline(seed)} for seed in made.seeds}
    if made.explanation:
        tables["explanation"] = _explanation(made.seeds)
        _picture(folder / "explanation" / "gradcam_cv-shanghai-image.png")
    (folder / "results.json").write_text(json.dumps({"meta": _meta(made), "rows": rows, "tables": tables}))
    with (folder / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["arm", "seed", "site", "participant_id", "label", "probability"], *people])
    return folder


def _sizes(made: Made) -> dict[str, tuple[int, int]]:
    return PEOPLE | ({"shanghai": (271, 75)} if made.complete_cases else {})


def _one_seed(made: Made, seed: int, people: list[list[Any]]) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng([seed, made.complete_cases])
    for site, (n, positive) in _sizes(made).items():
        labels = np.arange(n) < positive
        shared = rng.normal(size=n)
        scores = {f"cv:shanghai@{name}": _probability(name, labels, shared, rng) for name in made.candidates}
        if site == "shanghai" and scores:
            scores["cv:shanghai@nested"] = next(iter(scores.values())) * 0.9 + 0.1 * rng.random(n)
        for arm, probability in scores.items():
            place = {"arm": arm, "seed": seed, "round": None, "site": site, "model": arm.partition("@")[2]}
            counts = {"n": n, "n_positive": positive}
            for metric, found in _numbers(probability, labels, at_home=site == "shanghai"):
                low, high = (None if np.isnan(end) else end for end in (found.low, found.high))
                yield place | counts | {"metric": metric, "value": found.value, "ci_low": low, "ci_high": high}
            named = zip(labels, probability, strict=True)
            people += [[arm, seed, site, f"SECRET-{i:03d}", int(y), p] for i, (y, p) in enumerate(named)]
        if site == "shanghai":
            yield from _comparisons(scores, labels, seed)


def _probability(name: str, labels: Labels, shared: Scores, rng: np.random.Generator) -> Scores:
    noise = 0.9 * shared + 0.44 * rng.normal(size=labels.size)
    return expit(1.2 * SKILL[name] * (noise + SKILL[name] * (labels - 0.5)) + logit(0.29))


def _numbers(probability: Scores, labels: Labels, *, at_home: bool) -> Iterator[tuple[str, Estimate]]:
    yield from _at_threshold(probability, labels)
    if not at_home:
        yield "positive_rate", proportion(int((probability >= THRESHOLD).sum()), labels.size)
        yield "threshold", Estimate(THRESHOLD, np.nan, np.nan)
        return
    for fold in range(FOLDS):
        mine = np.arange(labels.size) % FOLDS == fold
        table = confusion(probability[mine], labels[mine], THRESHOLD)
        values = {
            "auc": auc(probability[mine], labels[mine]),
            "sensitivity": table.true_positives / labels[mine].sum(),
            "specificity": table.true_negatives / (~labels[mine]).sum(),
            "accuracy": (table.true_positives + table.true_negatives) / mine.sum(),
            "f1_positive": f1_positive(table),
            "f1_macro": f1_macro(table),
        }
        for metric, value in values.items():
            yield f"fold_{metric}:{fold}", Estimate(float(value), np.nan, np.nan)


def _at_threshold(probability: Scores, labels: Labels) -> Iterator[tuple[str, Estimate]]:
    """What the paper prints; the intervals of F1 are invented, since a bootstrap would take long."""
    yield "auc", auc_interval(probability, labels)
    table = confusion(probability, labels, THRESHOLD)
    found = proportions(table)
    for metric in ("sensitivity", "specificity", "accuracy"):
        yield metric, found[metric]
    for metric, of in (("f1_positive", f1_positive), ("f1_macro", f1_macro)):
        yield metric, Estimate(float(of(table)), float(of(table)) - 0.05, float(of(table)) + 0.05)


def _comparisons(scores: dict[str, Scores], labels: Labels, seed: int) -> Iterator[dict[str, Any]]:
    arms = [arm for arm in scores if not arm.endswith("nested")]
    for first in arms:
        for second in arms:
            if first == second:
                continue
            found = compare_aucs(scores[first], scores[second], labels)
            place = {"arm": first, "seed": seed, "round": None, "site": "shanghai", "model": first.partition("@")[2]}
            counts = {"n": labels.size, "n_positive": int(labels.sum())}
            gap = found.difference
            numbers = {"value": gap.value, "ci_low": gap.low, "ci_high": gap.high}
            yield place | counts | numbers | {"metric": f"auc_difference:{second}"}
            yield place | counts | {"metric": f"delong_p:{second}", "value": found.p, "ci_low": None, "ci_high": None}


def _baseline(seed: int) -> list[dict[str, Any]]:
    shift = 0.5 * (seed - 2)
    age = {"variable": "age_years", "level": "", "missing": [0, 0], "test": "mann_whitney", "p": 1e-5 * seed}
    age |= {"positive": {"median": 72 + shift, "q1": 66, "q3": 80}, "negative": {"median": 66.0, "q1": 62, "q3": 70}}
    male = {"variable": "male", "level": "yes", "missing": [0, 0], "test": "chi_square", "p": 0.2 + seed / 100}
    male |= {"positive": {"count": 53, "known": 101}, "negative": {"count": 117, "known": 256}}
    height = {"variable": "height_m", "level": "", "missing": [0, 0], "test": "t", "p": 0.41}
    height |= {"positive": {"mean": 1.63, "sd": 0.08}, "negative": {"mean": 1.64, "sd": 0.09}}
    hidden = {"variable": "diabetes", "level": "yes", "missing": [0, 0], "test": None, "p": None}
    hidden |= {"positive": {"count": None, "known": 101}, "negative": {"count": 208, "known": 256}}
    kinds = {"median": "MedianIqr", "mean": "MeanSd", "count": "Share"}
    for row in (age, male, height, hidden):
        for of in ("positive", "negative"):
            row[of]["kind"] = kinds[next(iter(row[of]))]  # type: ignore[index,call-overload]
    return [age, male, height, hidden]


def _explanation(seeds: Iterable[int]) -> dict[str, Any]:
    def estimate(value: float, half: float = 0.04) -> dict[str, float]:
        return {"value": value, "low": value - half, "high": value + half}

    def of_all(seed: int) -> dict[str, Any]:
        image = 0.76 + 0.02 * seed
        shares = {"image": estimate(image), "clinical": estimate(0.7 * (1 - image)), "lab": estimate(0.3 * (1 - image))}
        lost = {
            kind: estimate(0.845 - by) | {"difference": estimate(by, 0.02), "p": 0.01, "p_holm": 0.03}
            for kind, by in {"image": 0.06, "clinical": 0.02, "lab": 0.005}.items()
        }
        groups = dict.fromkeys(("sarcopenia", "non_sarcopenia", "all"), shares)
        return {"shares": groups, "drop_one_auc": lost, "full_auc": estimate(0.845)}

    checks = {
        "muscle": {"asked": "lies in the muscle more than its area would", **estimate(1.4), "passed": True},
        "weights": {"asked": "is unlike the maps of destroyed weights", **estimate(0.62), "passed": False},
    }
    images = {
        "picture": "gradcam_cv-shanghai-image.png",
        "n": 48,
        "layers": {"32": {"checks": checks, "verdict": "fails: the weights hardly matter."}},
    }
    return {
        "cv:shanghai@all": {str(seed): of_all(seed) for seed in seeds},
        "cv:shanghai@image": {str(seed): {"images": images} for seed in seeds},
    }


def _picture(path: Path) -> None:
    figure = Figure(figsize=(8, 3))
    for panel in figure.subplots(2, 6).ravel():
        panel.imshow(np.random.default_rng(3).gamma(2.0, size=(48, 48)), cmap="inferno")
        panel.set_axis_off()
    figure.text(0.02, 0.94, "SYNTHETIC: no such persons exist", color="#b3261e")
    figure.savefig(path, dpi=100)


def _meta(made: Made) -> dict[str, Any]:
    sizes = _sizes(made)
    titles = {name: " + ".join(kinds) for name, kinds in MODALITIES.items()}
    candidates = {
        name: {"title": titles[name], "modalities": list(MODALITIES[name])}
        | {"backbone": "convnext_atto" if "image" in MODALITIES[name] else None}
        for name in made.candidates
    }
    rule = "the first listed of those whose auc is within 0.02 of the highest"
    return {
        "title": "The paper's protocol",
        "synthetic": made.synthetic,
        "preset": made.preset,
        "scale": "full",
        "engine": "inprocess",
        "created": "2026-11-20T17:20:00+00:00",
        "command": "sarco-lab run configs/experiments/paper.toml",
        "seeds": list(made.seeds),
        "study": {"model": {"modalities": ["image"], "backbone": "convnext_atto"}},
        "study_digest": "9f2c" * 16,
        "sites": {name: {"participants": n, "positives": positive} for name, (n, positive) in sizes.items()},
        "protocol": {
            "kind": "cross_validation",
            "site": "shanghai",
            "folds": FOLDS,
            "draws": 3,
            "complete_cases": made.complete_cases,
            "candidates": candidates,
            "selection": {"metric": "auc", "tolerance": 0.02, "rule": rule},
            "selected": {str(seed): SELECTED.get(seed, "image") for seed in made.seeds},
        },
    }
