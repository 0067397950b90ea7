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
from pydantic import Field, ValidationError, field_validator

from sarco_models.errors import RunError
from sarco_models.intervals import Estimate
from sarco_models.scores import Labels, ParticipantScores, Scores
from server.arms import CENTRAL as CENTRAL
from server.arms import NESTED, ArmName, arm_name, in_order
from server.run_facts import CROSS_VALIDATION, Tolerant
from server.run_facts import ArmFacts as ArmFacts
from server.run_facts import Meta as Meta
from server.run_facts import SiteFacts as SiteFacts


class Row(Tolerant):
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

    @property
    def estimate(self) -> Estimate | None:
        """Value and limits; None where one of them is absent."""
        if self.value is None or self.ci_low is None or self.ci_high is None:
            return None
        return Estimate(self.value, self.ci_low, self.ci_high)

    @field_validator("value", "ci_low", "ci_high")
    @classmethod
    def _finite_or_absent(cls, number: float | None) -> float | None:
        """A number that is not finite is no number: it is left out of every table, figure and file."""
        return number if number is not None and math.isfinite(number) else None


class _File(Tolerant):
    meta: Meta = Meta()
    rows: tuple[Row, ...] = ()
    tables: dict[str, Any] = Field(default_factory=dict)


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
    """Held-out people of one arm, seed and site. Who they are serves to pair two scores; it is never shown or written.

    Attributes:
        people: one probability and one label each.
        seed: of the arm.
    """

    people: ParticipantScores = field(repr=False)
    seed: int = 0

    @property
    def probability(self) -> Scores:
        """(participants,)."""
        return self.people.scores

    @property
    def labels(self) -> Labels:
        """(participants,) True = positive."""
        return self.people.labels


@dataclass(frozen=True)
class Results:
    """A run, ready to be shown.

    Attributes:
        meta: where the numbers come from.
        rows: all numbers.
        scores: by arm, seed and site.
        tables: what is no tidy row: baseline, subgroups, assessments, explanation; as JSON.
    """

    meta: Meta
    rows: tuple[Row, ...]
    scores: dict[tuple[str, int, str], ScoreSet] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)

    @property
    def sites(self) -> list[str]:
        """Hospitals, in the order of the run."""
        seen = [*self.meta.sites, *(row.site for row in self.rows if row.site not in (CENTRAL, "all"))]
        return list(dict.fromkeys(seen))

    @cached_property
    def arms(self) -> list[str]:
        """Arms with final numbers: by kind, variant and hospital; the negative controls last."""
        return in_order((row.arm for row in self.rows if row.round is None), self.meta.titles, self.sites)

    @property
    def home(self) -> str:
        """Where all arms meet: the central test people, or the hospital of a cross-validation."""
        return (self.meta.protocol.site or CENTRAL) if self.cross_validated else CENTRAL

    @cached_property
    def compared(self) -> list[str]:
        """Arms with an AUC on the people of ``home``; personal arms have none there."""
        return [arm for arm in self.arms if self.over_seeds(arm, "auc", self.home)]

    @cached_property
    def lead(self) -> str:
        """The arm that the run asks about: federated, or what the cross-validation chose most often; else the first."""
        chosen = list(self.meta.protocol.selected.values())
        wanted = [self.meta.protocol.arm(name) for name in sorted(set(chosen), key=chosen.count)[::-1]]
        trained = [arm for arm in self.compared if ArmName.parse(arm).variant != NESTED]
        return next((arm for arm in ["federated", *wanted, *trained] if arm in self.compared), "federated")

    @property
    def condition(self) -> str:
        """What the study looks for, in its own words."""
        label = self.meta.study.get("label")
        column = (label.get("words") or label.get("column")) if isinstance(label, dict) else None
        return str(column or "sarcopenia").replace("_", " ")

    @property
    def images(self) -> str:
        """What the study's images are, in its own words; empty where it looks at none."""
        image, model = (self.meta.study.get(part) for part in ("image", "model"))
        if isinstance(model, dict) and "image" not in model.get("modalities", ("image",)):
            return ""
        return str((isinstance(image, dict) and image.get("words")) or "ultrasound")

    @property
    def cross_validated(self) -> bool:
        """Whether the arms are candidates of a cross-validation."""
        return self.meta.protocol.kind == CROSS_VALIDATION

    def arm_name(self, arm: str) -> str:
        """An arm's name for people, by this run's variants; where all are candidates of one site, their title alone."""
        name = arm_name(arm, self.meta.titles)
        title = name.removeprefix("Cross-validation, ") if self.cross_validated else name
        return title[:1].upper() + title[1:]

    def personal(self, arm: str) -> bool:
        """Whether an arm belongs to a hospital and is scored there only."""
        return ArmName.parse(arm).kind == "tuned" or any(facts.personal for facts in self.arm_facts(arm))

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
        """AUC of ``first`` minus AUC of ``second`` where all arms meet, however the run stored it."""
        rows = self.final(first, f"auc_difference:{second}", self.home)
        rows = rows or [_mirrored(row) for row in self.final(second, f"auc_difference:{first}", self.home)]
        return _over_seeds(rows) if rows else None

    def difference_of_seed(self, first: str, second: str, seed: int) -> Estimate | None:
        """As :meth:`difference`, of one seed; None where it has no interval."""
        rows = self.final(first, f"auc_difference:{second}", self.home)
        return next((row.estimate for row in rows if row.seed == seed), None)

    def p_values(self, first: str, second: str) -> dict[int, float]:
        """Paired DeLong p of two arms for each seed."""
        rows = self.final(first, f"delong_p:{second}", self.home)
        rows = rows or self.final(second, f"delong_p:{first}", self.home)
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
    return Results(file.meta, rows, _read_scores(directory / "scores.csv"), file.tables)


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
    # Chosen anew in each fold, it is many models, and all of its numbers belong together.
    nested = {arm for arm in models if ArmName.parse(arm).variant == NESTED}
    return tuple(
        row
        if row.model == first[row.arm] or row.arm in nested
        else row.model_copy(update={"arm": f"{row.arm} [{row.model}]"})
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
    return {key: ScoreSet(_with_a_score(people), seed=key[1]) for key, people in groups.items()}


def _is_positive(text: str) -> bool:
    return text.strip().lower() in ("1", "1.0", "true")


def _with_a_score(people: Iterable[tuple[str, bool, float]]) -> ParticipantScores:
    known = [person for person in people if math.isfinite(person[2])]
    return ParticipantScores(
        ids=tuple(person[0] for person in known),
        scores=np.array([person[2] for person in known], dtype=np.float64),
        labels=np.array([person[1] for person in known], dtype=np.bool_),
    )
