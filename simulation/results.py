"""From finished arms to results.json: tidy rows with intervals, comparisons, negative controls, and what was run."""

import csv
import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.calibration import summarize
from sarco_models.cohort import everyone, open_cohort
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import proportion
from sarco_models.metrics import Estimate, compare_aucs
from server.runs import versions, write_text
from simulation.arms import CENTRAL, Arm, SiteFolder
from simulation.contact import write_contact_sheet
from simulation.controls import control_scores
from simulation.cross_validation import NESTED, Candidate, CrossValidation, nested
from simulation.experiments import Experiment
from simulation.further_tables import assessments, jobs
from simulation.harness import POOLED, Scores, read_scores
from simulation.muscle_contact import write_muscle_sheet
from simulation.muscle_results import muscle_tables
from simulation.own_segmenter import segmenter_facts
from simulation.planning import planned_networks
from simulation.status import Status, Watch

SCORE_COLUMNS = ("arm", "seed", "site", "participant_id", "label", "probability")
CONTACT_OF_MUSCLES = "contact_hospitals.png"
EVERYBODY = "all"
"""How results.json calls the single site of the pooled arm."""

NEEDS_NO_THRESHOLD = (
    "auc",
    "auprc",
    "brier",
    "brier_scaled",
    "calibration_intercept",
    "calibration_slope",
    "expected_over_observed",
    "ici",
)
Row = dict[str, Any]


def collect(experiment: Experiment, arms: Sequence[Arm], pool: ProcessPoolExecutor, watch: Watch) -> dict[str, Any]:
    """Read every arm, compute all numbers, write scores.csv and the contact sheets.

    Args:
        experiment: what was run.
        arms: all finished.
        pool: where the numbers are computed side by side.
        watch: is told how far it is.

    Returns:
        The content of results.json: ``meta``, ``rows`` and ``tables``.
    """
    if experiment.study.segments:
        return _collect_muscles(experiment, arms, pool, watch)
    scores, extra, protocol = _scores(experiment, arms)
    write_text(experiment.out / "scores.csv", _scores_csv(scores))
    first = arms[0]
    for site in first.sites:
        # Pixels of real people never enter a report.
        if first.study.uses_images and is_synthetic(site.data):
            write_contact_sheet(site.data, experiment.out / f"contact_{site.name}.png", first.study.label.column)
    models = {arm.name: "+".join(arm.study.model.modalities) for arm in arms}
    rows = [row for arm in arms if arm.kind != "cv" for row in _round_rows(arm)] + extra
    meta = _meta(experiment, arms) | {"protocol": protocol}
    further = [
        (place, pool.submit(work, *details))
        for place, work, details in jobs(experiment.config, arms, scores, experiment.out, synthetic=meta["synthetic"])
    ]
    final = [pool.submit(_final_rows, s, _model_of(models, s.arm, arms)) for s in scores]
    steps, tables = len(further) + len(final), {"assessments": assessments(arms)}
    if experiment.config.segmenter:
        tables["segmenter"] = segmenter_facts(experiment.config.segmenter, experiment.base, experiment.shared)
    for done, future in enumerate(final):
        watch(Status("statistics", done, steps))
        rows += future.result()
    for done, (place, result) in enumerate(further, start=len(final)):
        watch(Status("statistics", done, steps))
        _put(tables, place, result.result())
    watch(Status("statistics", steps, steps))
    rows += _comparison_rows(scores, models, arms)
    return {"meta": meta, "rows": rows, "tables": tables}


def _collect_muscles(
    experiment: Experiment, arms: Sequence[Arm], pool: ProcessPoolExecutor, watch: Watch
) -> dict[str, Any]:
    """The same of arms that find muscles."""
    meta = _meta(experiment, arms) | {"protocol": {"kind": "comparison"}}
    made = experiment.config.cohort is not None
    segmentation = arms[0].study.segmentation
    if made and segmentation:
        write_muscle_sheet(arms[0].sites[0].data.parent, segmentation, experiment.out / CONTACT_OF_MUSCLES)
    found = muscle_tables(
        arms,
        experiment.out,
        pool,
        lambda done, steps: watch(Status("statistics", done, steps)),
        synthetic=meta["synthetic"],
        calibrated=made,
    )
    rows = [row for arm in arms for row in _round_rows(arm)]
    folders = {key: experiment.plan_folder(*key) for key in experiment.plans}
    found.tables["muscles"]["plans"] = planned_networks(folders)
    return {"meta": meta, "rows": rows + found.rows, "tables": found.tables}


def _put(tree: dict[str, Any], place: Sequence[str], value: Any) -> None:
    """Put a value into a tree of dictionaries."""
    for key in place[:-1]:
        tree = tree.setdefault(key, {})
    tree[place[-1]] = value


def _model_of(models: Mapping[str, str], name: str, arms: Sequence[Arm]) -> str:
    return models.get(name, "+".join(arms[0].study.model.modalities))


def _scores(experiment: Experiment, arms: Sequence[Arm]) -> tuple[list[Scores], list[Row], dict[str, Any]]:
    """Everybody's scores by every arm and control, further rows, and what kind of comparison it is."""
    cfg = experiment.config
    seeds = sorted({arm.study.training.seed for arm in arms})
    if cfg.cross_validation:
        return _cross_validated(experiment, cfg.cross_validation, arms, seeds)
    scores = [s for arm in arms for s in read_scores(arm)]
    for seed in seeds:
        plain = next(arm for arm in arms if arm.study.training.seed == seed)
        scores += [replace(s, arm=f"control:{s.arm}") for s in control_scores(cfg.controls, plain)]
    return scores, [], {"kind": "comparison"}


def _cross_validated(
    experiment: Experiment, cfg: CrossValidation, arms: Sequence[Arm], seeds: Sequence[int]
) -> tuple[list[Scores], list[Row], dict[str, Any]]:
    scores: list[Scores] = []
    rows: list[Row] = []
    selected: dict[str, str] = {}
    chosen: dict[str, list[str]] = {}
    for seed in seeds:
        members: dict[str, list[Arm]] = {}
        for arm in arms:
            if arm.study.training.seed == seed:
                members.setdefault(arm.name, []).append(arm)
        candidates = [Candidate.of(of_name) for of_name in members.values()]
        selected[str(seed)] = _variant(
            cfg.selection.choose({c.name: c.value(cfg.selection.metric) for c in candidates})
        )
        best_of_each, names = nested(candidates, cfg.selection, f"cv:{cfg.site}@{NESTED}")
        chosen[str(seed)] = [_variant(name) for name in names]
        for candidate in [*candidates, best_of_each] if len(candidates) > 1 else candidates:
            found = list(candidate.scores(cfg.site))
            scores += found
            model = "+".join(members[candidate.name][0].study.model.modalities) if candidate.name in members else NESTED
            rows += [_row(found[0], model, metric, value) for metric, value in candidate.fold_values()]
    return scores, rows, _protocol(experiment, cfg) | {"selected": selected, "nested": chosen}


def _variant(name: str) -> str:
    return name.partition("@")[2]


def _protocol(experiment: Experiment, cfg: CrossValidation) -> dict[str, Any]:
    candidates = {
        name: {
            "title": variant.title or "The study itself",
            "modalities": list(experiment.studies[name].model.modalities),
            "backbone": experiment.studies[name].model.backbone if experiment.studies[name].uses_images else None,
        }
        for name, variant in experiment.variants.items()
    }
    return {
        "kind": "cross_validation",
        "site": cfg.site,
        "folds": cfg.folds,
        "draws": cfg.draws,
        "complete_cases": experiment.study.split.complete_cases,
        "candidates": candidates,
        "selection": {**cfg.selection.model_dump(), "rule": cfg.selection.rule},
    }


def is_synthetic(folder: Path) -> bool:
    """Whether a site's folder says that its people do not exist."""
    manifest = folder / "manifest.json"
    return manifest.is_file() and bool(json.loads(manifest.read_text(encoding="utf-8")).get("synthetic"))


def _scores_csv(scores: Sequence[Scores]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCORE_COLUMNS)
    for s in scores:
        for participant_id, label, value in zip(s.people.ids, s.people.labels, s.people.scores, strict=True):
            writer.writerow([s.arm, s.seed, s.site, participant_id, int(label), f"{value:.6g}"])
    return text.getvalue()


def _row(scores: Scores, model: str, metric: str, estimate: Estimate) -> Row:
    # An interval that is not defined (perfect separation, no events) is absent, not infinite.
    low, high = (v if np.isfinite(v) else None for v in (estimate.low, estimate.high))
    counts = {"n": len(scores.people), "n_positive": scores.people.positives}
    place = {"arm": scores.arm, "seed": scores.seed, "round": None, "site": scores.site, "model": model}
    return {**place, "metric": metric, "value": estimate.value, "ci_low": low, "ci_high": high, **counts}


def _final_rows(scores: Scores, model: str) -> list[Row]:
    """Every metric of one score at its frozen threshold; without a threshold only those that need none."""
    rng = np.random.default_rng([scores.seed, 97])
    people, threshold = scores.people, scores.threshold
    found = summarize(people.scores, people.labels, 0.5 if threshold is None else threshold, rng)
    if scores.calls is not None:
        # Thresholds differ from fold to fold: what depends on calls is computed from the calls themselves.
        called = summarize(scores.calls.astype(np.float64), people.labels, 0.5, rng)
        found |= {metric: value for metric, value in called.items() if metric not in NEEDS_NO_THRESHOLD}
    if threshold is None:
        found = {metric: value for metric, value in found.items() if metric in NEEDS_NO_THRESHOLD}
    else:
        calls = scores.calls if scores.calls is not None else people.scores >= threshold
        found["positive_rate"] = proportion(int(calls.sum()), len(people))
        found["threshold"] = Estimate(threshold, np.nan, np.nan)
    return [_row(scores, model, metric, value) for metric, value in found.items() if np.isfinite(value.value)]


def _comparison_rows(scores: Sequence[Scores], models: Mapping[str, str], arms: Sequence[Arm]) -> list[Row]:
    """Paired DeLong of every arm against every other that scored exactly the same people."""
    rows = []
    # Hospitals that differ from variant to variant may give other people the same number; controls are of the first.
    cohorts: dict[tuple[str, int], Path] = {}
    for arm in arms:
        cohorts[arm.name, arm.study.training.seed] = arm.sites[0].data.parent
        cohorts.setdefault(("control", arm.study.training.seed), arm.sites[0].data.parent)
    groups: dict[tuple[int, str, Path | None, frozenset[str]], list[Scores]] = {}
    for s in scores:
        of = "control" if s.arm.startswith("control:") else s.arm
        groups.setdefault((s.seed, s.site, cohorts.get((of, s.seed)), frozenset(s.people.ids)), []).append(s)
    for group in groups.values():
        for first, second in permutations(group, 2):
            if first.arm.startswith("control:"):
                continue
            try:
                same = first.people.same_people(second.people)
                found = compare_aucs(first.people.scores, same.scores, first.people.labels)
            except UndefinedMetric:
                continue
            model = _model_of(models, first.arm, arms)
            rows.append(_row(first, model, f"auc_difference:{second.arm}", found.difference))
            rows.append(_row(first, model, f"delong_p:{second.arm}", Estimate(found.p, np.nan, np.nan)))
    return rows


def _round_rows(arm: Arm) -> Iterator[Row]:
    """Learning curves, as the run directory recorded them."""
    model = "+".join(arm.study.model.modalities)
    place = {"arm": arm.name, "seed": arm.study.training.seed, "model": model, "ci_low": None, "ci_high": None}
    for record in _records(arm.folder):
        central = {} if arm.personal else record["central"]
        for name, found in {CENTRAL: central, **record["sites"]}.items():
            site = EVERYBODY if name == POOLED else name
            for metric in ("train_loss", "loss", "auc", "dice"):
                if metric in found:
                    # A site's reply evaluates the model that came down: that of the round before.
                    of_round = record["round"] - (site != CENTRAL and metric != "train_loss")
                    counts = {"n": found.get("participants") if metric == "train_loss" else None, "n_positive": None}
                    yield {**place, "round": of_round, "site": site, "metric": metric, "value": found[metric], **counts}


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """The rounds, and the sites' evaluation of the released model as if it were that of a round more."""
    last = -1
    for path in sorted((folder / "rounds").glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        last = record["round"]
        yield record
    released = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    yield {"round": last + 1, "central": {}, "sites": released["sites"]}


def _meta(experiment: Experiment, arms: Sequence[Arm]) -> dict[str, Any]:
    first, cfg = arms[0], experiment.config
    folders = [s.data for s in first.sites] + ([first.central] if first.central else [])
    abouts: dict[str, dict[str, Any]] = {}
    for arm in arms:
        if arm.kind != "cv":
            about = json.loads((arm.folder / "arm.json").read_text(encoding="utf-8"))
            abouts.setdefault(arm.name, {})[str(arm.study.training.seed)] = about
    meta = {
        "title": cfg.title,
        "synthetic": all(is_synthetic(folder) for folder in folders),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "scale": cfg.cohort.scale if cfg.cohort else None,
        "preset": (cfg.cohort.kind if first.study.segments else cfg.cohort.preset) if cfg.cohort else None,
        "seeds": sorted({arm.study.training.seed for arm in arms}),
        "study": json.loads(first.study.model_dump_json()),
        "study_digest": first.study.digest,
        "versions": versions(),
        "variants": {name: variant.title for name, variant in cfg.variants.items()},
        "sites": {s.name: _site_facts(first, s) for s in first.sites},
        "arms": abouts,
    }
    if first.central:
        central = everyone(open_cohort(first.central, first.study, first.cache))
        images = len(central.images)
        meta["central"] = {
            "participants": len(central),
            "positives": _positives(first, central.labels),
            "images": images,
        }
    return meta


def _positives(arm: Arm, labels: NDArray[np.int8]) -> int | None:
    """None where nobody is diagnosed."""
    return None if arm.study.segments else int(labels.sum())


def _site_facts(arm: Arm, site: SiteFolder) -> dict[str, Any]:
    """Who a hospital's people are; where one trains in folds, the numbers of its first fold."""
    cohort = open_cohort(site.data, arm.study, arm.cache, name=site.name)
    facts = {
        "participants": len(cohort),
        "positives": _positives(arm, cohort.labels),
        "images": len(cohort.owner),
        "devices": sorted({d for d in cohort.devices if d}),
        "label_rule": site.label_rule,
        "missing": int(np.isnan(cohort.table).any(axis=1).sum()),
        "findings": [f.rule for f in cohort.findings],
    }
    if arm.external and site.name not in arm.trained_on:
        return facts | {"train": 0, "validation": 0, "test": len(cohort)}
    parts = arm.split_of(site.name)
    return facts | {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}
