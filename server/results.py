"""What a run left behind: results.json and scores.csv, read once into types, and summarised over seeds.

Every part but results.json itself may be absent, because a run can be interrupted or hold a single arm.
"""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from sarco_models.errors import RunError
from sarco_models.metrics import Labels, Scores, require_one_score_each

CENTRAL = "central"


class _Tolerant(BaseModel):
    """A part of results.json; keys that the report does not know are left alone."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Row(_Tolerant):
    """One number: of an arm, seed, round (None = final), site, model and metric."""

    arm: str
    seed: int = 0
    round: int | None = None
    site: str = CENTRAL
    model: str = ""
    metric: str
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    n_positive: int | None = None

    @field_validator("value", "ci_low", "ci_high")
    @classmethod
    def _finite_or_absent(cls, number: float | None) -> float | None:
        """A number that is not finite is no number: it is left out of every table, figure and file."""
        return number if number is not None and math.isfinite(number) else None


class SiteFacts(_Tolerant):
    """Who a hospital's participants are."""

    participants: int | None = None
    positives: int | None = None
    images: int | None = None
    devices: tuple[str, ...] = ()
    label_rule: str | None = None
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    missing: Any = None


class ArmFacts(_Tolerant):
    """What one arm did with one seed; bytes are those of all sites and rounds."""

    trained_on: tuple[str, ...] = ()
    participants: int | None = None
    images: int | None = None
    rounds: int | None = None
    seconds: float | None = None
    bytes_down: int | None = None
    bytes_up: int | None = None
    threshold: float | None = None
    training_prevalence: float | None = None


class Meta(_Tolerant):
    """Where the numbers come from. ``synthetic`` is None when the run did not say."""

    title: str = "Untitled run"
    synthetic: bool | None = None
    preset: str | None = None
    scale: str | None = None
    engine: str | None = None
    created: str | None = None
    command: str | None = None
    seeds: tuple[int, ...] = ()
    study: dict[str, Any] = {}
    study_digest: str | None = None
    versions: dict[str, str] = {}
    sites: dict[str, SiteFacts] = {}
    central: SiteFacts | None = None
    arms: dict[str, dict[str, ArmFacts]] = {}
    seconds: float | None = None
    peak_memory_bytes: int | None = None


class _File(_Tolerant):
    meta: Meta = Meta()
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class OverSeeds:
    """One number of an arm over its seeds.

    Attributes:
        mean: over seeds.
        low, high: mean of the seeds' 95 % limits. This is at least as wide as the interval of the mean itself, because
            a standard deviation of a mean never exceeds the mean of the standard deviations.
        sd: between seeds; None with one seed.
        least, most: over seeds.
        seeds: how many.
        n, n_positive: participants, of the first seed.
    """

    mean: float
    low: float | None
    high: float | None
    sd: float | None
    least: float
    most: float
    seeds: int
    n: int | None
    n_positive: int | None


@dataclass(frozen=True)
class ScoreSet:
    """Held-out people of one arm, seed and site: probability and label. Participant ids are checked, then dropped."""

    probability: Scores
    labels: Labels


@dataclass(frozen=True)
class Results:
    """A run, ready to be shown."""

    meta: Meta
    rows: tuple[Row, ...]
    scores: dict[tuple[str, int, str], ScoreSet] = field(default_factory=dict)

    @property
    def sites(self) -> list[str]:
        """Hospitals, in the order of the run."""
        seen = [*self.meta.sites, *(row.site for row in self.rows if row.site not in (CENTRAL, "all"))]
        return list(dict.fromkeys(seen))

    @property
    def arms(self) -> list[str]:
        """Arms with final numbers: federated, pooled, each hospital alone, then the negative controls."""
        ranks = {"federated": 0, "pooled": 1, "local": 2, "control": 4}
        seen = dict.fromkeys(row.arm for row in self.rows if row.round is None)
        return sorted(seen, key=lambda arm: ranks.get(arm.split(":")[0], 3))

    @property
    def seeds(self) -> list[int]:
        """Seeds with any number."""
        return sorted({row.seed for row in self.rows})

    def final(self, arm: str, metric: str, site: str = CENTRAL) -> list[Row]:
        """Final rows of one number, one per seed."""
        return [row for row in self._index.get((arm, metric, site), []) if row.round is None]

    def curve(self, arm: str, metric: str, site: str) -> dict[int, OverSeeds]:
        """A number after each round."""
        by_round: dict[int, list[Row]] = {}
        for row in self._index.get((arm, metric, site), []):
            if row.round is not None:
                by_round.setdefault(row.round, []).append(row)
        return {at: _over_seeds(rows) for at, rows in sorted(by_round.items())}

    def over_seeds(self, arm: str, metric: str, site: str = CENTRAL) -> OverSeeds | None:
        """One final number of an arm; None when the run does not hold it."""
        rows = self.final(arm, metric, site)
        return _over_seeds(rows) if rows else None

    def difference(self, first: str, second: str) -> OverSeeds | None:
        """AUC of ``first`` minus AUC of ``second`` on the central test people, however the run stored it."""
        rows = self.final(first, f"auc_difference:{second}")
        rows = rows or [_mirrored(row) for row in self.final(second, f"auc_difference:{first}")]
        return _over_seeds(rows) if rows else None

    def p_values(self, first: str, second: str) -> dict[int, float]:
        """Paired DeLong p of two arms for each seed."""
        rows = self.final(first, f"delong_p:{second}") or self.final(second, f"delong_p:{first}")
        return {row.seed: row.value for row in rows if row.value is not None}

    def score_sets(self, arm: str, site: str = CENTRAL) -> list[ScoreSet]:
        """Held-out scores of an arm, one set per seed."""
        return [
            held for (of, _, at), held in sorted(self.scores.items(), key=lambda i: i[0][1]) if (of, at) == (arm, site)
        ]

    def arm_facts(self, arm: str) -> list[ArmFacts]:
        """What the arm did, one entry per seed."""
        return list(self.meta.arms.get(arm, {}).values())

    @cached_property
    def _index(self) -> dict[tuple[str, str, str], list[Row]]:
        """Rows that hold a finite value, by arm, metric and site."""
        index: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            if row.value is not None:
                index.setdefault((row.arm, row.metric, row.site), []).append(row)
        return index


def _mirrored(row: Row) -> Row:
    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    changed = {"value": minus(row.value), "ci_low": minus(row.ci_high), "ci_high": minus(row.ci_low)}
    return row.model_copy(update=changed)


def _over_seeds(rows: list[Row]) -> OverSeeds:
    values = [row.value for row in rows if row.value is not None]
    lows = [row.ci_low for row in rows if row.ci_low is not None]
    highs = [row.ci_high for row in rows if row.ci_high is not None]
    return OverSeeds(
        mean=fmean(values),
        low=fmean(lows) if len(lows) == len(values) else None,
        high=fmean(highs) if len(highs) == len(values) else None,
        sd=stdev(values) if len(values) > 1 else None,
        least=min(values),
        most=max(values),
        seeds=len(values),
        n=rows[0].n,
        n_positive=rows[0].n_positive,
    )


def read_results(directory: Path) -> Results:
    """Read a run directory.

    Raises:
        RunError: there is no results.json, or it or scores.csv does not have the form of a run.
    """
    path = directory / "results.json"
    try:
        file = _File.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(
            f"{directory}: no results.json, so this is not a finished run: name a folder written by "
            "'sarco-lab demo' or 'sarco-lab run', or run that command again to complete it"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, ValidationError) as error:
        raise RunError(f"{path}: not the results of a run: {error}; run the command that wrote it again") from None
    rows = _name_models(file.rows, file.meta.study)
    return Results(file.meta, rows, _read_scores(directory / "scores.csv"))


def _name_models(rows: tuple[Row, ...], study: dict[str, Any]) -> tuple[Row, ...]:
    """Give an arm's further models arms of their own, ``federated [image]``, so that no two are averaged."""
    modalities = (study.get("model") or {}).get("modalities") or ()
    main = "+".join(modalities)
    models: dict[str, list[str]] = {}
    for row in rows:
        known = models.setdefault(row.arm, [])
        if row.model not in known:
            known.append(row.model)
    first = {arm: main if main in known else known[0] for arm, known in models.items()}
    return tuple(
        row if row.model == first[row.arm] else row.model_copy(update={"arm": f"{row.arm} [{row.model}]"})
        for row in rows
    )


def _read_scores(path: Path) -> dict[tuple[str, int, str], ScoreSet]:
    if not path.exists():
        return {}
    groups: dict[tuple[str, int, str], list[tuple[str, bool, float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        try:
            for line in csv.DictReader(file):
                key = (line["arm"], int(line["seed"]), line["site"])
                person = (line["participant_id"], _is_positive(line["label"]), float(line["probability"]))
                groups.setdefault(key, []).append(person)
        except (KeyError, ValueError, TypeError) as error:
            raise RunError(
                f"{path}: {error}: expected the columns arm, seed, site, participant_id, label, probability; "
                "run the command that wrote it again"
            ) from None
    return {key: _score_set(people) for key, people in groups.items()}


def _is_positive(text: str) -> bool:
    return text.strip().lower() in ("1", "1.0", "true")


def _score_set(people: Iterable[tuple[str, bool, float]]) -> ScoreSet:
    known = [person for person in people if math.isfinite(person[2])]
    require_one_score_each(person[0] for person in known)
    return ScoreSet(np.array([p[2] for p in known], dtype=np.float64), np.array([p[1] for p in known], dtype=np.bool_))
