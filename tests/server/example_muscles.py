"""A finished comparison of five muscles as the lab leaves it, without training: scores are drawn at random.

Federated and pooled find muscles about as well, a hospital alone worse, and hardly those that it did not draw.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sarco_models.config import load_study
from sarco_models.segmentation_scores import MEASURES, SIZES
from server.muscle_scores import (
    IMAGE_COLUMNS,
    IMAGES_FILE,
    OF_ARM,
    PEOPLE_COLUMNS,
    PEOPLE_FILE,
    SIDES,
    read_muscle_people,
    with_everybody,
)
from simulation.muscle_results import analysed, analysis_tables, difference_rows, final_rows, seen_in

STUDY = Path(__file__).resolve().parents[2] / "configs" / "muscles.toml"
SITES = {"hospital_a": 6, "hospital_b": 5, "hospital_c": 5}
ARMS = ("federated", "pooled", *(f"local:{site}" for site in SITES))
DRAWN = {
    "hospital_a": ("biceps_brachii", "triceps_brachii", "rectus_femoris"),
    "hospital_b": ("biceps_brachii", "rectus_abdominis", "rectus_femoris", "peroneus_longus_brevis"),
    "hospital_c": ("triceps_brachii", "rectus_abdominis", "peroneus_longus_brevis"),
}
MUSCLES = ("biceps_brachii", "triceps_brachii", "rectus_abdominis", "rectus_femoris", "peroneus_longus_brevis")
THICKNESS = dict(zip(MUSCLES, (22.0, 24.0, 9.0, 17.0, 15.0), strict=True))
Line = dict[str, Any]


def muscle_run(folder: Path, *, seed: int = 1, worse: float = 0.0, synthetic: bool = True, central: int = 12) -> Path:
    """Write scores and results.json of a comparison; ``worse`` is taken off every Dice of the federated arm."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 5])
    people = _people(rng, central)
    images = [line for person in people for line in _images(person, people[person], seed, rng, worse)]
    _write(folder / IMAGES_FILE, (*OF_ARM, *IMAGE_COLUMNS), images)
    _write(folder / PEOPLE_FILE, (*OF_ARM, *PEOPLE_COLUMNS), _means(images))
    write_results(folder, people, synthetic=synthetic)
    return folder


def write_results(folder: Path, people: Mapping[tuple[str, str], Mapping[str, float]], *, synthetic: bool) -> None:
    """Compute results.json from the two files of scores, by the lab's own functions."""
    scores = with_everybody(read_muscle_people(folder / PEOPLE_FILE, MUSCLES))
    rows = [row for key, held in scores.items() for row in final_rows(key, held, "image")]
    for key, held in scores.items():
        if key[0] == "federated":
            for other in ARMS[1:]:
                rows += difference_rows(key, other, (held, scores[other, *key[1:]]), "image")
    seed = next(iter(scores))[1]
    place = {"seed": seed, "model": "image", "ci_low": None, "ci_high": None, "n": None, "n_positive": None}
    for arm in ARMS:
        for at in range(1, 6):
            for metric, value in (("dice", 0.9 - 0.8 * 0.5**at), ("loss", 2.0 * 0.7**at)):
                rows.append({**place, "arm": arm, "round": at, "site": "central", "metric": metric, "value": value})
    columns = {f"{site}/{person}": values for (site, person), values in people.items()}
    analyses = {
        key: analysed(seen, columns, seed)
        for key, seen in seen_in(folder / IMAGES_FILE).items()
        if key[0] == "federated" and key[2] in ("all", "central")
    }
    trained = {a: {m: sum(8 * (m in DRAWN[s]) for s in _sites(a)) for m in MUSCLES} for a in ARMS}
    who = {
        "lead": "federated",
        "drawn": {site: {m: 8 * (m in DRAWN[site]) for m in MUSCLES} for site in SITES},
        "trained": trained,
        "people": {site: {"age_years": {"n": 12, "mean": 55.0, "sd": 20.0}} for site in (*SITES, "central")},
        "measured": {},
    }
    content = {
        "meta": _meta(seed, synthetic=synthetic),
        "rows": rows,
        "tables": {"muscles": {**who, "analysis": analysis_tables(analyses)}},
    }
    (folder / "results.json").write_text(json.dumps(content), encoding="utf-8")


def _meta(seed: int, *, synthetic: bool) -> Line:
    study = load_study(STUDY)
    facts = {"participants": 16, "images": 90, "train": 11, "validation": 2, "test": 3, "devices": ["Aixplorer"]}
    arm = {"participants": 33, "images": 200, "rounds": 5, "seconds": 60.0, "bytes_down": 10**8, "bytes_up": 10**8}
    return {
        "title": "Five muscles, three hospitals",
        "synthetic": synthetic,
        "created": "2026-11-21T06:00:00+00:00",
        "scale": "small",
        "preset": "muscles",
        "seeds": [seed],
        "study": json.loads(study.model_dump_json()),
        "study_digest": study.digest,
        "sites": {site: {**facts, "participants": n} for site, n in SITES.items()},
        "central": {"participants": 12, "images": 70},
        "arms": {name: {str(seed): {**arm, "trained_on": _sites(name)}} for name in ARMS},
        "engine": "inprocess",
        "protocol": {"kind": "comparison"},
    }


def _sites(arm: str) -> list[str]:
    return [arm.partition(":")[2]] if ":" in arm else list(SITES)


def _people(rng: np.random.Generator, central: int) -> dict[tuple[str, str], dict[str, float]]:
    found = {}
    for site, count in {"central": central, **SITES}.items():
        for k in range(count):
            size = float(rng.normal())
            found[site, f"P{k:03d}"] = {
                "size": size,
                "fat_free_mass_kg": 45 + 6 * (0.6 * size + 0.8 * rng.normal()),
                "muscle_mass_kg": 42 + 6 * (0.8 * size + 0.6 * rng.normal()),
                "sit_to_stand_s": 9 - 2 * (0.7 * size + 0.7 * rng.normal()),
                "age_years": float(rng.uniform(20, 85)),
                "male": float(rng.integers(2)),
            }
    return found


def _images(
    person: tuple[str, str], about: Mapping[str, float], seed: int, rng: np.random.Generator, worse: float
) -> list[Line]:
    site, name = person
    lines = []
    for muscle in MUSCLES:
        if muscle not in DRAWN.get(site, MUSCLES):
            continue
        for k in range(2):
            thickness = THICKNESS[muscle] * (1 + 0.15 * about["size"]) + rng.normal(0, 0.3)
            luck = rng.normal()
            for arm in ARMS:
                knows = arm in ("federated", "pooled") or muscle in DRAWN[_sites(arm)[0]]
                dice = np.clip((0.91 if "local" not in arm else 0.8 if knows else 0.04) + 0.02 * luck, 0.01, 0.99)
                dice = max(0.01, dice + rng.normal(0, 0.004) - (worse if arm == "federated" else 0.0))
                place = {"arm": arm, "seed": seed, "site": site, "participant_id": name, "muscle": muscle}
                lines.append(
                    place | {"image": f"{name}_{muscle}_{k}.dcm"} | _measured(float(dice), float(thickness), rng)
                )
    return lines


def _measured(dice: float, thickness: float, rng: np.random.Generator) -> Line:
    off = float(rng.normal(0.1, 0.3 + 3 * (1 - dice)))
    values = (dice, dice / (2 - dice), 12 * (1 - dice), 3 * (1 - dice), off, off / 6)
    sizes = (thickness + off, thickness, (thickness + off) / 4, thickness / 4, 61.0 + off, 61.0)
    named = [f"{size}_{side}" for size in SIZES for side in SIDES]
    marks = {"whole": 1, "found": 1, "drawn": 1}
    return marks | dict(zip(MEASURES, values, strict=True)) | dict(zip(named, sizes, strict=True))


def _means(images: list[Line]) -> list[Line]:
    """Of each arm, person and muscle over the images."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in images:
        key = tuple(line[name] for name in ("arm", "seed", "site", "participant_id", "muscle"))
        groups.setdefault(key, []).append(line)
    return [
        {**dict(zip((*OF_ARM, *PEOPLE_COLUMNS[:3]), key, strict=True))}
        | {name: float(np.mean([line[name] for line in lines])) for name in MEASURES}
        for key, lines in groups.items()
    ]


def _write(path: Path, columns: tuple[str, ...], lines: list[Line]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
