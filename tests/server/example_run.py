"""An invented run of three hospitals, three seeds and twelve rounds, complete and self-consistent, for looking at."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit, logit

from sarco_models.calibration import summarize
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import Labels, Scores, compare_aucs

SITES = {"shanghai": (89, 25, 684), "sichuan": (36, 17, 88), "zhongshan": (21, 5, 204)}
MODEL = "image+clinical+lab"
SKILL = {
    "federated": 1.25,
    "pooled": 1.32,
    "local:shanghai": 1.05,
    "local:sichuan": 0.8,
    "local:zhongshan": 0.45,
    "control:clinical_logistic": 1.0,
    "control:age": 0.6,
    "control:image_count": 0.15,
    "control:prevalence": 0.0,
}
ROUNDS = 12
SEEDS = (1, 2, 3)
THRESHOLD = 0.3
BASE = {"arm": "", "seed": 1, "round": None, "site": "central", "model": MODEL}
NAMES = ("metric", "value", "ci_low", "ci_high", "n", "n_positive")


def write_run(directory: Path, *, arms: Iterable[str] = tuple(SKILL), seeds: Iterable[int] = SEEDS) -> Path:
    """Write results.json, scores.csv and three contact sheets."""
    directory.mkdir(parents=True, exist_ok=True)
    arms, seeds = list(arms), list(seeds)
    rows: list[dict[str, Any]] = []
    people: list[list[Any]] = []
    for seed in seeds:
        rows += _one_seed(arms, seed, people)
    (directory / "results.json").write_text(json.dumps({"meta": _meta(arms, seeds), "rows": rows}))
    with (directory / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["arm", "seed", "site", "participant_id", "label", "probability"], *people])
    for site in SITES:
        _contact_sheet(directory / f"contact_{site}.png")
    return directory


def _one_seed(arms: list[str], seed: int, people: list[list[Any]]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for site, n, positive in (("central", 300, 94), ("shanghai", 60, 17), ("sichuan", 34, 15), ("zhongshan", 24, 6)):
        labels = np.arange(n) < positive
        shared = np.random.default_rng(99).normal(size=n) * 0.9
        scores = {arm: _probability(arm, labels, shared + 0.45 * rng.normal(size=n)) for arm in arms}
        for arm, probability in scores.items():
            ids = [f"SECRET-{site}-{i:03d}" for i in range(n)]
            people += [
                [arm, seed, site, p, int(y), f"{s:.6f}"] for p, y, s in zip(ids, labels, probability, strict=True)
            ]
            found = summarize(probability, labels, THRESHOLD, rng)
            counts = (n, positive)
            rows += [_row(arm, seed, site, (m, e.value, e.low, e.high, *counts)) for m, e in found.items()]
            rows.append(_row(arm, seed, site, ("threshold", THRESHOLD, None, None, *counts)))
        if site == "central":
            rows += _comparisons(scores, labels, seed)
    trained = [arm for arm in arms if not arm.startswith("control")]
    return rows + [row for arm in trained for row in _rounds(arm, seed, rng)]


def _probability(arm: str, labels: Labels, noise: Scores) -> Scores:
    skill = SKILL[arm]
    if skill == 0:
        return np.full(labels.size, 0.31)
    evidence = skill * (noise + skill * labels - skill / 2)
    return expit(1.1 * evidence + logit(0.31))


def _row(arm: str, seed: int, site: str, numbers: tuple[Any, ...], at: int | None = None) -> dict[str, Any]:
    place = BASE | {"arm": arm, "seed": seed, "site": site, "round": at}
    return place | dict(zip(NAMES, numbers, strict=True))


def _comparisons(scores: dict[str, Scores], labels: Labels, seed: int) -> list[dict[str, Any]]:
    rows = []
    arms = list(scores)
    for index, first in enumerate(arms):
        for second in arms[index + 1 :]:
            try:
                c = compare_aucs(scores[first], scores[second], labels)
            except UndefinedMetric:
                continue
            d, counts = c.difference, (labels.size, int(labels.sum()))
            rows.append(_row(first, seed, "central", (f"auc_difference:{second}", d.value, d.low, d.high, *counts)))
            rows.append(_row(first, seed, "central", (f"delong_p:{second}", c.p, None, None, *counts)))
    return rows


def _rounds(arm: str, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    sites = [arm.partition(":")[2]] if arm.startswith("local:") else list(SITES)
    best = 0.5 + 0.27 * SKILL[arm] / 1.32
    for site in (*sites, "central"):
        shift = {"shanghai": 0.03, "sichuan": -0.02, "zhongshan": -0.05}.get(site, 0.0)
        for at in range(ROUNDS + 1):
            grown = 1 - np.exp(-at / 3)
            auc = min(0.99, 0.5 + (best + shift - 0.5) * 1.15 * grown + 0.015 * rng.normal())
            loss = 0.71 - 0.16 * grown * SKILL[arm] + 0.01 * rng.normal()
            rows += [_row(arm, seed, site, (m, v, None, None, 40, 12), at) for m, v in (("auc", auc), ("loss", loss))]
            rows.append(_row(arm, seed, site, ("train_loss", loss - 0.03 * grown, None, None, 80, 40), at))
    return rows


def _meta(arms: list[str], seeds: list[int]) -> dict[str, Any]:
    devices = {"shanghai": ["Aixplorer SL10-2"], "sichuan": ["Aixplorer SL10-2", "Mindray M9", "Mindray MX7"]}
    sites = {
        name: {
            "participants": n,
            "positives": positive,
            "images": images,
            "devices": devices.get(name, ["Samsung RS85 Prestige"]),
            "label_rule": "ct_l3_smi" if name == "zhongshan" else "awgs2019",
            "train": int(0.6 * n),
            "validation": int(0.15 * n),
            "test": n - int(0.6 * n) - int(0.15 * n),
            "missing": 61 if name == "shanghai" else 0,
        }
        for name, (n, positive, images) in SITES.items()
    }
    return {
        "title": "Three hospitals learn to see sarcopenia together",
        "synthetic": True,
        "preset": "paper_matched",
        "scale": "small",
        "engine": "inprocess",
        "created": "2026-11-20 11:20 UTC",
        "command": "sarco-lab demo --out runs/demo --scale small --seed 1",
        "seeds": seeds,
        "study": _study(),
        "study_digest": "9f2c" * 16,
        "versions": {"sarco-fl": "0.1.0", "torch": "2.14.1", "flwr": "1.41.0", "timm": "1.0.31", "numpy": "2.4.6"},
        "sites": sites,
        "central": {"participants": 300, "positives": 94, "images": 1902},
        "arms": {arm: {str(seed): _arm_facts(arm) for seed in seeds} for arm in arms if not arm.startswith("control")},
        "seconds": 148.0,
        "peak_memory_bytes": 2_400_000_000,
    }


def _arm_facts(arm: str) -> dict[str, Any]:
    sites = [arm.partition(":")[2]] if arm.startswith("local:") else list(SITES)
    moved = 41_300_000 if arm == "federated" else 0
    return {
        "trained_on": sites,
        "participants": sum(int(0.6 * SITES[site][0]) for site in sites),
        "images": sum(int(0.6 * SITES[site][2]) for site in sites),
        "rounds": ROUNDS,
        "seconds": 18.4 * len(sites),
        "bytes_down": moved * 3,
        "bytes_up": moved * 3,
        "threshold": THRESHOLD,
        "training_prevalence": 0.31,
    }


def _study() -> dict[str, Any]:
    clinical = ["diabetes", "osteoporosis", "age", "gender", "height", "weight", "bmi", "calf"]
    lab = ["tc", "tg", "hdl", "ldl", "hba1c", "alb", "hb", "vitd", "oc", "ft3", "ft4", "tt3", "tt4", "tsh"]
    features = [{"name": n, "group": "clinical"} for n in clinical] + [{"name": n, "group": "lab"} for n in lab]
    return {
        "name": "sarco",
        "title": "Sarcopenia from thigh ultrasound",
        "label": {"column": "sarcopenia", "rule": "awgs2019", "reference_columns": ["asmi", "grip"]},
        "features": features,
        "image": {"size": 96, "framing": "physical", "window_mm": 48.0},
        "model": {"modalities": ["image", "clinical", "lab"], "backbone": "convnext_atto", "weights": "phantom"}
        | {"trainable": "last_stage"},
        "training": {"local_epochs": 1, "batch_participants": 16, "learning_rate": 3e-4, "balance_classes": True},
        "federation": {"strategy": "fedavg", "rounds": ROUNDS},
        "evaluation": {"threshold_rule": "youden", "min_sensitivity": 0.8},
    }


def _contact_sheet(path: Path) -> None:
    figure = Figure(figsize=(9, 2.4))
    rng = np.random.default_rng(3)
    for panel in figure.subplots(1, 6):
        panel.imshow(rng.gamma(2.0, size=(64, 64)), cmap="gray")
        panel.set_axis_off()
    figure.savefig(path, dpi=80)
