"""Invented runs of three hospitals, complete and self-consistent, for looking at.

``write_run`` is the plain comparison; ``VARIANTS`` are arms to give it for a comparison of many ways of training;
``write_cross_validation`` is another protocol.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import expit, logit

from sarco_models.calibration import summarize
from sarco_models.comparisons import Counted, Measured, baseline_table
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import compare_aucs
from sarco_models.scores import Labels, ParticipantScores, Scores
from sarco_models.site_evaluation import SiteEvaluation
from sarco_models.subgroups import by_subgroup, cut
from server.arms import ArmName

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
VARIANTS = {
    **{arm: skill for arm, skill in SKILL.items() if not arm.startswith("control")},
    "federated@fedprox": 1.26,
    "federated@fedadam": 1.1,
    "federated@fedyogi": 1.14,
    "federated@local_norms": 1.3,
    "federated@group": 1.22,
    "pooled@group": 1.31,
    "local:shanghai@group": 1.0,
    "without:shanghai": 0.9,
    "without:sichuan": 1.12,
    "without:zhongshan": 1.2,
    "tuned:shanghai": 1.3,
    "tuned:sichuan": 1.2,
    "tuned:zhongshan": 1.1,
    "control:age": 0.6,
    "control:prevalence": 0.0,
}
TITLES = {"fedprox": "FedProx, mu 0.1", "fedadam": "FedAdam", "fedyogi": "FedYogi", "local_norms": "local norms"}
TITLES |= {"group": "group norms"}
CANDIDATES = {
    "image": ("Ultrasound", 1.2, ["image"]),
    "clinical": ("Clinical", 1.0, ["clinical"]),
    "lab": ("Laboratory", 0.5, ["lab"]),
    "us_clinical": ("Ultrasound + clinical", 1.32, ["image", "clinical"]),
    "us_lab": ("Ultrasound + laboratory", 1.22, ["image", "lab"]),
    "all": ("All three", 1.33, ["image", "clinical", "lab"]),
}
FOLDS = 5
PERSONAL = ("tuned", "federated@local_norms")
ROUNDS = 12
SEEDS = (1, 2, 3)
THRESHOLD = 0.3
BASE = {"arm": "", "seed": 1, "round": None, "site": "central", "model": MODEL}
NAMES = ("metric", "value", "ci_low", "ci_high", "n", "n_positive")


def write_run(directory: Path, *, arms: Iterable[str] = tuple(SKILL), seeds: Iterable[int] = SEEDS) -> Path:
    """Write results.json, scores.csv and three contact sheets."""
    arms, seeds = list(arms), list(seeds)
    people: list[list[Any]] = []
    rows = [row for seed in seeds for row in _one_seed(arms, seed, people)]
    return _written(directory, _meta(arms, seeds), rows, people)


def write_cross_validation(directory: Path, seeds: Iterable[int] = SEEDS) -> Path:
    """Six candidates at one centre, their frozen ensembles at the other two, and the choice made anew in each fold."""
    seeds, site = list(seeds), "shanghai"
    skill = {f"cv:{site}@{name}": found[1] for name, found in CANDIDATES.items()} | {f"cv:{site}@nested": 1.25}
    people: list[list[Any]] = []
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for place, n, positive in ((site, 89, 25), ("sichuan", 36, 17), ("zhongshan", 21, 5)):
            arms = [arm for arm in skill if place == site or not arm.endswith("@nested")]
            scores = _score_everybody({arm: skill[arm] for arm in arms}, (seed, place, n, positive), people, rng)
            labels = np.arange(n) < positive
            rows += [row for arm in arms for row in _final(arm, (seed, place), scores[arm], labels, rng)]
            rows += _comparisons(scores, labels, (seed, place))
        rows += [
            _row(arm, seed, site, (f"fold_{metric}:{k}", 0.5 + 0.2 * of + 0.06 * rng.normal(), None, None, 18, 5))
            for arm, of in skill.items()
            for metric in ("auc", "sensitivity", "specificity", "accuracy", "f1_positive", "f1_macro")
            for k in range(FOLDS)
        ]
    meta = _meta(list(skill), seeds) | {
        "title": "Six kinds of data at one centre",
        "protocol": {
            "kind": "cross_validation",
            "site": site,
            "folds": FOLDS,
            "draws": 3,
            "complete_cases": False,
            "candidates": {
                name: {"title": title, "modalities": kinds, "backbone": "convnext_atto"}
                for name, (title, _, kinds) in CANDIDATES.items()
            },
            "selection": {"metric": "auc", "tolerance": 0.02, "rule": "the fewest kinds of data within .02 AUC"},
            "selected": {str(seed): "us_clinical" if seed < 3 else "all" for seed in seeds},
        },
    }
    return _written(directory, meta, rows, people)


def add_tables(directory: Path) -> Path:
    """Add what the hospitals sent, Table 1 and the subgroups to a written run."""
    tree = json.loads((directory / "results.json").read_text())
    rng = np.random.default_rng(7)
    with (directory / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    tree["tables"] = {"assessments": {}, "baseline": {}, "subgroups": {}}
    for seed in map(str, tree["meta"]["seeds"]):
        of_seed = [line for line in lines if line["arm"] == "federated" and line["seed"] == seed]
        held = {site: _participants([line for line in of_seed if line["site"] == site]) for site in ("central", *SITES)}
        sent = {site: SiteEvaluation.of(held[site], THRESHOLD, min_cell=3, num_bins=200).to_dict() for site in SITES}
        tree["tables"]["assessments"].setdefault("federated", {})[seed] = sent
        tree["tables"]["baseline"][seed] = {site: _baseline(*SITES[site][:2], rng) for site in SITES}
        age, sex = rng.normal(72, 8, 300), ["men" if k % 2 else "women" for k in range(300)]
        groupings = {"male": sex, "age_years": cut(age, 70), "device": [f"Device {k % 5 % 3}" for k in range(300)]}
        found = by_subgroup(held["central"], groupings, rng, repeats=200)
        tree["tables"]["subgroups"].setdefault("federated", {})[seed] = [asdict(f) for f in found]
    (directory / "results.json").write_text(json.dumps(tree))
    return directory


def _participants(lines: list[dict[str, str]]) -> ParticipantScores:
    return ParticipantScores(
        tuple(line["participant_id"] for line in lines),
        np.array([float(line["probability"]) for line in lines]),
        np.array([line["label"] == "1" for line in lines]),
    )


def _baseline(n: int, positive: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    labels = np.arange(n) < positive
    lab = np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2.0, 1.0, n))
    variables: list[Measured | Counted] = [
        Measured("age_years", rng.normal(70, 7, n) + 4 * labels),
        Counted("diabetes", ["yes" if k % 3 else "no" for k in range(n)], ("yes",)),
        Measured("tsh_miu_per_l", lab),
        Counted("device", ["A" if k % 4 else "B" for k in range(n)], ("A", "B")),
    ]
    return [asdict(row) for row in baseline_table(variables, labels, rng, min_cell=3)]


def _written(directory: Path, meta: dict[str, Any], rows: list[dict[str, Any]], people: list[list[Any]]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps({"meta": meta, "rows": rows}))
    with (directory / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["arm", "seed", "site", "participant_id", "label", "probability"], *people])
    for site in SITES:
        _contact_sheet(directory / f"contact_{site}.png")
    return directory


def _personal(arm: str) -> bool:
    return arm.startswith(PERSONAL)


def _one_seed(arms: list[str], seed: int, people: list[list[Any]]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for site, n, positive in (("central", 300, 94), ("shanghai", 60, 17), ("sichuan", 34, 15), ("zhongshan", 24, 6)):
        own = ("", site)
        here = [arm for arm in arms if not _personal(arm) or (site != "central" and ArmName.parse(arm).site in own)]
        skill = {arm: {**SKILL, **VARIANTS}[arm] for arm in here}
        scores = _score_everybody(skill, (seed, site, n, positive), people, rng)
        labels = np.arange(n) < positive
        rows += [row for arm in here for row in _final(arm, (seed, site), scores[arm], labels, rng)]
        if site == "central":
            rows += _comparisons(scores, labels, (seed, site))
    trained = [arm for arm in arms if not arm.startswith("control") and not _personal(arm)]
    return rows + [row for arm in trained for row in _rounds(arm, seed, rng)]


def _score_everybody(
    skill: Mapping[str, float], who: tuple[int, str, int, int], people: list[list[Any]], rng: np.random.Generator
) -> dict[str, Scores]:
    """Probabilities of each arm, which are also added to ``people``."""
    seed, site, n, positive = who
    labels = np.arange(n) < positive
    shared = np.random.default_rng(99).normal(size=n) * 0.9
    scores = {arm: _probability(of, labels, shared + 0.45 * rng.normal(size=n)) for arm, of in skill.items()}
    for arm, probability in scores.items():
        people += [
            [arm, seed, site, f"SECRET-{site}-{k:03d}", int(y), f"{s:.6f}"]
            for k, (y, s) in enumerate(zip(labels, probability, strict=True))
        ]
    return scores


def _final(
    arm: str, where: tuple[int, str], probability: Scores, labels: Labels, rng: np.random.Generator
) -> list[dict[str, Any]]:
    seed, site = where
    counts = (labels.size, int(labels.sum()))
    found = summarize(probability, labels, THRESHOLD, rng)
    rows = [_row(arm, seed, site, (m, e.value, e.low, e.high, *counts)) for m, e in found.items()]
    called = float((probability >= THRESHOLD).mean())
    rows.append(_row(arm, seed, site, ("positive_rate", called, max(0, called - 0.1), min(1, called + 0.1), *counts)))
    return [*rows, _row(arm, seed, site, ("threshold", THRESHOLD, None, None, *counts))]


def _probability(skill: float, labels: Labels, noise: Scores) -> Scores:
    if skill == 0:
        return np.full(labels.size, 0.31)
    evidence = skill * (noise + skill * labels - skill / 2)
    return expit(1.1 * evidence + logit(0.31))


def _row(arm: str, seed: int, site: str, numbers: tuple[Any, ...], at: int | None = None) -> dict[str, Any]:
    place = BASE | {"arm": arm, "seed": seed, "site": site, "round": at}
    return place | dict(zip(NAMES, numbers, strict=True))


def _comparisons(scores: dict[str, Scores], labels: Labels, where: tuple[int, str]) -> list[dict[str, Any]]:
    rows = []
    arms = list(scores)
    for index, first in enumerate(arms):
        for second in arms[index + 1 :]:
            try:
                c = compare_aucs(scores[first], scores[second], labels)
            except UndefinedMetric:
                continue
            d, counts = c.difference, (labels.size, int(labels.sum()))
            rows.append(_row(first, *where, (f"auc_difference:{second}", d.value, d.low, d.high, *counts)))
            rows.append(_row(first, *where, (f"delong_p:{second}", c.p, None, None, *counts)))
    return rows


def _rounds(arm: str, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    sites = _trained_on(arm)
    skill = {**SKILL, **VARIANTS}[arm]
    best = 0.5 + 0.27 * skill / 1.32
    for site in (*sites, "central"):
        shift = {"shanghai": 0.03, "sichuan": -0.02, "zhongshan": -0.05}.get(site, 0.0)
        for at in range(ROUNDS + 1):
            grown = 1 - np.exp(-at / 3)
            auc = min(0.99, 0.5 + (best + shift - 0.5) * 1.15 * grown + 0.015 * rng.normal())
            loss = 0.71 - 0.16 * grown * skill + 0.01 * rng.normal()
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
        "variants": {name: title for name, title in TITLES.items() if any(arm.endswith(f"@{name}") for arm in arms)},
        "seconds": 148.0,
        "peak_memory_bytes": 2_400_000_000,
    }


def _trained_on(arm: str) -> list[str]:
    parts = ArmName.parse(arm)
    if parts.kind in ("local", "cv"):
        return [parts.site]
    return [site for site in SITES if parts.kind != "without" or site != parts.site]


def _arm_facts(arm: str) -> dict[str, Any]:
    sites = _trained_on(arm)
    moved = 41_300_000 if arm.startswith("federated") else 0
    return {
        "trained_on": sites,
        "participants": sum(int(0.6 * SITES[site][0]) for site in sites),
        "images": sum(int(0.6 * SITES[site][2]) for site in sites),
        "rounds": ROUNDS,
        "seconds": 18.4 * len(sites),
        "bytes_down": moved * 3,
        "bytes_up": moved * 3,
        "update_form": "float32",
        "round_down": moved / ROUNDS,
        "round_up": moved / ROUNDS,
        "threshold": THRESHOLD,
        "training_prevalence": 0.31,
        "personal": _personal(arm),
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
