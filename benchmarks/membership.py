"""Membership inference against models of the default study: plain, over-trained on purpose, and private.

    python benchmarks/membership.py --cohort FOLDER --cache CACHE --scale full --shadows 16 --only head head_8

Three SYNTHETIC hospitals (made in ``--cohort`` where they are not there yet), their training participants cut in halves
at random, a federation trained on each half by the project's own code (``simulation/shadows.py``), every model attacked
with all the others as shadow models. ``head`` is the image network with its last layer trained; ``heart`` is a table
network that is trained until it knows its people by heart: there the attacks must find something. Private models are
trained at epsilon 8, 3 and 1 for the whole study (delta 1e-5), as ``configs/experiments/private.toml`` trains them.
95 % intervals are over participants. "No attack" is what Gaussian noise on everybody allows at that epsilon.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sarco_models.cohort import Split, open_cohort, split
from sarco_models.config import StudyConfig, load_study, merged
from sarco_models.intervals import Estimate
from simulation.attacks import TITLES, limits
from simulation.centers import CENTERS
from simulation.shadows import Trials, attacks, trials
from simulation.synthetic import make_cohort

STUDY = Path(__file__).resolve().parent.parent / "configs" / "study.toml"
IMAGE = {"modalities": ["image"], "trainable": "head"}
PLAIN = {"balance_classes": False, "learning_rate": 1e-3, "local_steps": 12}
STEPS = {"balance_classes": False, "local_steps": 1, "images_per_participant": 12, "optimizer": "sgd"}
STEPS |= {"weight_decay": 0.0, "warmup_rounds": 0}
HEART = {"balance_classes": False, "learning_rate": 1e-2, "local_steps": 20, "weight_decay": 0.0, "warmup_rounds": 0}
RATES = {8: 1.0, 3: 0.5, 1: 0.05}
"""Learning rate at each epsilon."""


def studies(seed: int) -> dict[str, StudyConfig]:
    """Everything that is attacked, by name."""
    found: dict[str, dict[str, Any]] = {
        "head": {"model": IMAGE, "training": PLAIN, "federation": {"rounds": 40}},
        "heart": {
            "model": {"modalities": ["clinical", "lab"], "dropout": 0.0, "modality_dropout": 0.0},
            "training": HEART,
            "federation": {"rounds": 20},
        },
    }
    for epsilon, rate in RATES.items():
        privacy = {"epsilon": float(epsilon), "delta": 1e-5, "max_grad_norm": 0.5}
        own = {"privacy": privacy, "training": {**STEPS, "learning_rate": rate}, "evaluation": {"histogram_bins": 20}}
        found[f"head_{epsilon}"] = {"model": IMAGE, "federation": {"rounds": 60}, **own}
        tables = {"modalities": ["clinical", "lab"], "dropout": 0.0, "modality_dropout": 0.0}
        found[f"tables_{epsilon}"] = {"model": tables, "federation": {"rounds": 60}, **own}
    base = json.loads(load_study(STUDY).model_dump_json(exclude_none=True))
    shared = {"image": {"size": 96}, "training": {"seed": seed}}
    return {n: StudyConfig.model_validate_json(json.dumps(merged(merged(base, shared), c))) for n, c in found.items()}


def splits(study: StudyConfig, cohort: Path, cache: Path) -> dict[str, Split]:
    """Of each hospital."""
    return {
        name: split(open_cohort(cohort / name, study, cache, name=name), study.split, study.training.seed)
        for name in CENTERS
    }


def told(value: Estimate) -> str:
    """Such as "0.53 (0.50 to 0.56)"."""
    return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def rows(name: str, study: StudyConfig, made: Trials, seconds: float, seed: int) -> list[str]:
    """Lines of the table for one study."""
    allowed = "-"
    if study.privacy:
        general, gaussian = limits(study.privacy)
        best = gaussian or general
        allowed = f"{best.auc:.3f}, {best.tpr:.3f}"
    epsilon = f"{study.privacy.epsilon:g}" if study.privacy else "none"
    people = f"{made.inside.shape[1]} ({made.trained_on:.0f})"
    found = attacks(made, np.random.default_rng([seed, 59]))
    return [
        f"| {name} | {epsilon} | {people} | {TITLES[key]} | {told(a.auc)} | {told(a.tpr)} | {allowed} | {seconds:.0f} |"
        for key, a in found.items()
    ]


def main() -> None:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, default=Path("membership/cohort"))
    parser.add_argument("--cache", type=Path, default=Path("membership/cache"))
    parser.add_argument("--scale", default="small")
    parser.add_argument("--shadows", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not (args.cohort / "plan.json").is_file():
        make_cohort(args.cohort, scale=args.scale, seed=args.seed)
    wanted: Mapping[str, StudyConfig] = {k: v for k, v in studies(args.seed).items() if not args.only or k in args.only}
    print(f"SYNTHETIC. {args.shadows} shadow models an attack, seed {args.seed}\n")
    print("| study | epsilon | participants (inside) | attack | AUC | found at 1 % | no attack (AUC, found) | s |")
    print("|" + "---|" * 8)
    for name, study in wanted.items():
        started = time.monotonic()
        made = trials(study, splits(study, args.cohort, args.cache), shadows=args.shadows, seed=args.seed)
        print("\n".join(rows(name, study, made, time.monotonic() - started, args.seed)), flush=True)


if __name__ == "__main__":
    main()
