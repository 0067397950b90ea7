"""From finished arms to results.json: tidy rows with intervals, comparisons, negative controls, and what was run."""

import csv
import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sarco_models.calibration import summarize
from sarco_models.cohort import Split, everyone, open_cohort
from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import Estimate, compare_aucs
from server.runs import versions, write_text
from simulation.contact import write_contact_sheet
from simulation.controls import control_scores
from simulation.harness import CENTRAL, POOLED, Arm, Scores, read_scores, site_split

SCORE_COLUMNS = ("arm", "seed", "site", "participant_id", "label", "probability")
EVERYBODY = "all"
"""How results.json calls the single site of the pooled arm."""

NEEDS_NO_THRESHOLD = (
    "auc",
    "auprc",
    "brier",
    "calibration_intercept",
    "calibration_slope",
    "expected_over_observed",
)
Row = dict[str, Any]


def collect(title: str, controls: Mapping[str, str], arms: Sequence[Arm], out: Path) -> dict[str, Any]:
    """Read every arm, compute all numbers, write scores.csv and the contact sheets.

    Args:
        title: of the report.
        controls: name -> kind; see :func:`simulation.controls.control_scores`.
        arms: all finished.
        out: the experiment's folder.

    Returns:
        The content of results.json, ``meta`` and ``rows``.
    """
    scores = [s for arm in arms for s in read_scores(arm)]
    seeds = sorted({arm.study.training.seed for arm in arms})
    for seed in seeds:
        first = next(arm for arm in arms if arm.study.training.seed == seed)
        scores += [replace(s, arm=f"control:{s.arm}") for s in control_scores(controls, first)]
    write_text(out / "scores.csv", _scores_csv(scores))
    first = arms[0]
    for site in first.sites:
        # Pixels of real people never enter a report.
        if first.study.uses_images and is_synthetic(site.data):
            write_contact_sheet(site.data, out / f"contact_{site.name}.png", first.study.label.column)
    rows = [row for arm in arms for row in _round_rows(arm)]
    model = "+".join(first.study.model.modalities)
    rows += [row for s in scores for row in _final_rows(s, model)]
    rows += [row for seed in seeds for row in _comparison_rows([s for s in scores if s.seed == seed], model)]
    return {"meta": _meta(title, arms, seeds), "rows": rows}


def is_synthetic(folder: Path) -> bool:
    """Whether a site's folder says that its people do not exist."""
    manifest = folder / "manifest.json"
    return manifest.is_file() and bool(json.loads(manifest.read_text(encoding="utf-8")).get("synthetic"))


def _scores_csv(scores: Sequence[Scores]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SCORE_COLUMNS)
    for s in scores:
        for participant_id, label, value in zip(s.ids, s.labels, s.probability, strict=True):
            writer.writerow([s.arm, s.seed, s.site, participant_id, int(label), f"{value:.6g}"])
    return text.getvalue()


def _row(scores: Scores, model: str, metric: str, estimate: Estimate) -> Row:
    # An interval that is not defined (perfect separation, no events) is absent, not infinite.
    low, high = (v if np.isfinite(v) else None for v in (estimate.low, estimate.high))
    counts = {"n": len(scores.labels), "n_positive": int(scores.labels.sum())}
    place = {"arm": scores.arm, "seed": scores.seed, "round": None, "site": scores.site, "model": model}
    return {**place, "metric": metric, "value": estimate.value, "ci_low": low, "ci_high": high, **counts}


def _final_rows(scores: Scores, model: str) -> Iterator[Row]:
    """Every metric of one score at its frozen threshold; without a threshold only those that need none."""
    rng = np.random.default_rng([scores.seed, 97])
    found = summarize(scores.probability, scores.labels, 0.5 if scores.threshold is None else scores.threshold, rng)
    for metric, estimate in found.items():
        if np.isfinite(estimate.value) and (scores.threshold is not None or metric in NEEDS_NO_THRESHOLD):
            yield _row(scores, model, metric, estimate)
    if scores.threshold is not None:
        yield _row(scores, model, "threshold", Estimate(scores.threshold, np.nan, np.nan))


def _comparison_rows(scores: Sequence[Scores], model: str) -> Iterator[Row]:
    """Paired DeLong of every arm against every other, on the same people."""
    for first in scores:
        for second in scores:
            if first is second or first.site != second.site or first.arm.startswith("control:"):
                continue
            if first.ids != second.ids:
                raise UndefinedMetric(f"{first.arm} and {second.arm} scored other people at {first.site}")
            try:
                found = compare_aucs(first.probability, second.probability, first.labels)
            except UndefinedMetric:
                continue
            yield _row(first, model, f"auc_difference:{second.arm}", found.difference)
            yield _row(first, model, f"delong_p:{second.arm}", Estimate(found.p, np.nan, np.nan))


def _round_rows(arm: Arm) -> Iterator[Row]:
    """Learning curves, as the run directory recorded them."""
    model = "+".join(arm.study.model.modalities)
    place = {"arm": arm.name, "seed": arm.study.training.seed, "model": model, "ci_low": None, "ci_high": None}
    for record in _records(arm.folder):
        for name, found in {CENTRAL: record["central"], **record["sites"]}.items():
            site = EVERYBODY if name == POOLED else name
            for metric in ("train_loss", "loss", "auc"):
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


def _meta(title: str, arms: Sequence[Arm], seeds: Sequence[int]) -> dict[str, Any]:
    first = arms[0]
    central = everyone(open_cohort(first.central, first.study, first.cache))
    abouts: dict[str, dict[str, Any]] = {}
    for arm in arms:
        about = json.loads((arm.folder / "arm.json").read_text(encoding="utf-8"))
        abouts.setdefault(arm.name, {})[str(arm.study.training.seed)] = about
    return {
        "title": title,
        "synthetic": all(is_synthetic(folder) for folder in (first.central, *(s.data for s in first.sites))),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seeds": list(seeds),
        "study": json.loads(first.study.model_dump_json()),
        "study_digest": first.study.digest,
        "versions": versions(),
        "sites": {s.name: _site_facts(site_split(first, s), s.label_rule) for s in first.sites},
        "central": {
            "participants": len(central),
            "positives": int(central.labels.sum()),
            "images": len(central.cohort.owner),
        },
        "arms": abouts,
    }


def _site_facts(split: Split, label_rule: str) -> dict[str, Any]:
    cohort = split.cohort
    return {
        "participants": len(cohort),
        "positives": int(cohort.labels.sum()),
        "images": len(cohort.owner),
        "devices": sorted({d for d in cohort.devices if d}),
        "label_rule": label_rule,
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
        "missing": int(np.isnan(cohort.table).any(axis=1).sum()),
        "findings": [f.rule for f in cohort.findings],
    }
