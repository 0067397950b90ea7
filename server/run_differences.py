"""What two runs have in common and what not: settings, arms, and by how much the numbers of the same arms differ.

Paired where the same people were scored, and then with DeLong's paired test; unpaired where not, and every line says
which. A comparison of synthetic with real people is never made without saying so first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

import numpy as np
from scipy.stats import norm

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import Estimate, Z
from sarco_models.metrics import auc as area
from sarco_models.metrics import compare_aucs, delong_variance, holm
from sarco_models.scores import ParticipantScores
from server.arms import in_order
from server.results import Results, Row
from server.run_tables import flat
from server.tables import METRICS

PAIRED, UNPAIRED, STORED = "same people, paired", "other people, unpaired", "no scores, from the stored intervals"


@dataclass(frozen=True)
class Difference:
    """AUC of an arm in the second run minus that in the first, with one pair of seeds.

    Attributes:
        value: with its 95 % interval.
        p: of "no difference".
        how: PAIRED, UNPAIRED or STORED, and of how many people.
        p_holm: adjusted over the arms of this pair of seeds, where all arms meet; None elsewhere.
    """

    value: Estimate
    p: float
    how: str
    p_holm: float | None = None


@dataclass(frozen=True)
class ArmDifference:
    """The same for all pairs of seeds, of one arm at one site; ``first`` and ``second`` are means over these seeds."""

    arm: str
    site: str
    first: float
    second: float
    by_seeds: Mapping[tuple[int, int], Difference]

    @property
    def mean(self) -> Estimate:
        """Mean over pairs of seeds: of the differences, and of their limits."""
        found = [d.value for d in self.by_seeds.values()]
        return Estimate(*(fmean(getattr(e, end) for e in found) for end in ("value", "low", "high")))

    @property
    def sd(self) -> float | None:
        """Between pairs of seeds; None with one."""
        values = [d.value.value for d in self.by_seeds.values()]
        return stdev(values) if len(values) > 1 else None

    @property
    def how(self) -> str:
        """How it was tested; several ways are named one after the other."""
        return "; ".join(dict.fromkeys(d.how for d in self.by_seeds.values()))


@dataclass(frozen=True)
class MetricDifference:
    """Any number of an arm where all arms meet: means over each run's seeds. No test is made of it."""

    arm: str
    metric: str
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """What two runs have in common and what not.

    Attributes:
        first: the first run; differences are the second minus the first.
        second: the other one.
        names: of the two folders, for people.
        warnings: what must be read before any number.
        settings: name -> (first, second) of every setting of study and run that differs.
        shared: arms of both runs; ``only_first`` and ``only_second`` are the others.
        seeds: pairs of seeds that are compared.
        aucs: where all arms meet; one family for each pair of seeds.
        hospitals: at the hospitals; not adjusted.
        metrics: all other numbers where all arms meet.
    """

    first: Results
    second: Results
    names: tuple[str, str]
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()
    seeds: tuple[tuple[int, int], ...] = ()
    aucs: tuple[ArmDifference, ...] = ()
    hospitals: tuple[ArmDifference, ...] = ()
    metrics: tuple[MetricDifference, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether any of the people are computer-made."""
        return bool(self.first.meta.synthetic or self.second.meta.synthetic)

    @property
    def mixed(self) -> bool:
        """Whether the people of one run only are known to be computer-made."""
        return self.synthetic and self.first.meta.synthetic != self.second.meta.synthetic

    def arm_name(self, arm: str) -> str:
        """An arm's name for people, by the titles of the first run, or else of the second."""
        return (self.first if arm in self.first.arms else self.second).arm_name(arm)


def compared(one: Results, other: Results, names: tuple[str, str]) -> Comparison:
    """Compare two runs, arm by arm under the same name."""
    shared = tuple(arm for arm in one.arms if arm in other.arms)
    seeds = pairs_of_seeds(one, other)
    home = one.home if one.home == other.home else ""
    aucs = [found for arm in shared if home and (found := _arm(one, other, (arm, home), seeds))]
    sites = [site for site in one.sites if site in other.sites and site != home]
    return Comparison(
        one,
        other,
        names,
        warnings=tuple(warnings_about(one, other, names, home)),
        settings=settings(one, other),
        shared=shared,
        only_first=tuple(arm for arm in one.arms if arm not in shared),
        only_second=tuple(in_order((a for a in other.arms if a not in shared), other.meta.titles, other.sites)),
        seeds=seeds,
        aucs=tuple(_adjusted(aucs, seeds)),
        hospitals=tuple(found for site in sites for arm in shared if (found := _arm(one, other, (arm, site), seeds))),
        metrics=tuple(_metrics(one, other, shared, home)),
    )


# --- what differs -----------------------------------------------------------------------------------------------------


def warnings_about(one: Results, other: Results, names: tuple[str, str], home: str) -> Iterator[str]:
    """What must be read before any number of two runs; ``home`` is where both compare their arms, or empty."""
    kinds = {True: "SYNTHETIC", False: "REAL", None: "UNKNOWN (synthetic or real, the run does not say)"}
    said = one.meta.synthetic, other.meta.synthetic
    if said[0] != said[1]:
        yield (
            f"{names[0]} holds {kinds[said[0]]} people and {names[1]} {kinds[said[1]]} ones. A difference between them "
            "is no evidence about any method: it compares a simulation with patients."
        )
    rules = [flat(run.meta.study).get("label.rule", "") for run in (one, other)]
    if rules[0] != rules[1]:
        yield f"The labels were made by different rules ({rules[0] or 'unknown'} and {rules[1] or 'unknown'})."
    if not home:
        yield f"{names[0]} compares its arms on {one.home}, {names[1]} on {other.home}: only hospitals can be compared."


def settings(one: Results, other: Results) -> dict[str, tuple[str, str]]:
    """Settings of the study file, then facts of the run."""
    found: dict[str, tuple[str, str]] = {}
    sides = [_facts(run) | flat(run.meta.study) for run in (one, other)]
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        values = sides[0].get(key, "absent"), sides[1].get(key, "absent")
        if values[0] != values[1]:
            found[key] = values
    return found


def _facts(run: Results) -> dict[str, str]:
    meta = run.meta
    sites = {f"participants at {name}": str(facts.participants) for name, facts in meta.sites.items()}
    versions = {f"version of {name}": version for name, version in meta.versions.items()}
    return {
        "protocol": meta.protocol.kind,
        "cohort": " ".join(part for part in (meta.preset, meta.scale) if part),
        "engine": meta.engine or "",
        "seeds": ", ".join(str(seed) for seed in run.seeds),
        **sites,
        **versions,
    }


def pairs_of_seeds(one: Results, other: Results) -> tuple[tuple[int, int], ...]:
    """Which seeds are held against which: each seed with itself; where the runs share none, in their order."""
    shared = [seed for seed in one.seeds if seed in other.seeds]
    return tuple((seed, seed) for seed in shared) or tuple(zip(one.seeds, other.seeds, strict=False))


# --- AUC --------------------------------------------------------------------------------------------------------------


def _arm(
    one: Results, other: Results, place: tuple[str, str], seeds: tuple[tuple[int, int], ...]
) -> ArmDifference | None:
    arm, site = place
    by_seeds = {pair: found for pair in seeds if (found := _difference(one, other, place, pair)) is not None}
    if not by_seeds:
        return None
    first, second = (
        fmean(row.value for pair in by_seeds if (row := _row(run, place, pair[side])) and row.value is not None)
        for side, run in enumerate((one, other))
    )
    return ArmDifference(arm, site, first, second, by_seeds)


def _difference(one: Results, other: Results, place: tuple[str, str], seeds: tuple[int, int]) -> Difference | None:
    arm, site = place
    if _row(one, place, seeds[0]) is None or _row(other, place, seeds[1]) is None:
        return None
    held = one.scores.get((arm, seeds[0], site)), other.scores.get((arm, seeds[1], site))
    if held[0] is None or held[1] is None:
        return _stored(one, other, place, seeds)
    try:
        if may_be_paired(one, other, seeds):
            return _paired(held[0].people, held[1].people)
    except UndefinedMetric:  # other people, or a difference without variance
        pass
    try:
        return _unpaired(held[0].people, held[1].people)
    except UndefinedMetric:
        return None


def may_be_paired(one: Results, other: Results, seeds: tuple[int, int]) -> bool:
    """Synthetic people of another preset, scale or seed may bear the same identifiers, and are others all the same."""
    made_alike = (one.meta.preset, one.meta.scale) == (other.meta.preset, other.meta.scale) and seeds[0] == seeds[1]
    return made_alike if one.meta.synthetic or other.meta.synthetic else True


def _paired(first: ParticipantScores, second: ParticipantScores) -> Difference:
    found = compare_aucs(first.same_people(second).scores, first.scores, first.labels)
    return Difference(found.difference, found.p, f"{PAIRED} (n = {len(first)})")


def _unpaired(first: ParticipantScores, second: ParticipantScores) -> Difference:
    """DeLong's variances add up when the people are others; with people in common this is on the safe side."""
    variance = sum(delong_variance(of.scores, of.labels) for of in (first, second))
    common = len(set(first.ids) & set(second.ids))
    overlap = f", {common} in common" if common and common < max(len(first), len(second)) else ""
    value = area(second.scores, second.labels) - area(first.scores, first.labels)
    how = f"{UNPAIRED} (n = {len(first)} and {len(second)}{overlap})"
    return _normal(value, float(np.sqrt(variance)), how)


def _normal(value: float, error: float, how: str) -> Difference:
    p = float(2.0 * norm.sf(abs(value) / error)) if error > 0.0 else 1.0 if value == 0.0 else 0.0
    return Difference(Estimate(value, value - Z * error, value + Z * error), p, how)


def _stored(one: Results, other: Results, place: tuple[str, str], seeds: tuple[int, int]) -> Difference | None:
    rows = [_row(run, place, seed) for run, seed in zip((one, other), seeds, strict=True)]
    found = [estimate for row in rows if row and (estimate := row.estimate)]
    if len(found) < 2:
        return None
    error = sum(((e.high - e.low) / (2.0 * Z)) ** 2 for e in found) ** 0.5
    return _normal(found[1].value - found[0].value, error, STORED)


def _row(run: Results, place: tuple[str, str], seed: int) -> Row | None:
    arm, site = place
    return next((row for row in run.final(arm, "auc", site) if row.seed == seed), None)


def _adjusted(found: list[ArmDifference], seeds: tuple[tuple[int, int], ...]) -> list[ArmDifference]:
    """With Holm's adjustment over the trained arms of each pair of seeds."""
    family = [arm for arm in found if not arm.arm.startswith("control")]
    adjusted: dict[str, dict[tuple[int, int], Difference]] = {arm.arm: dict(arm.by_seeds) for arm in found}
    for pair in seeds:
        tested = [arm for arm in family if pair in arm.by_seeds]
        for arm, p in zip(tested, holm([arm.by_seeds[pair].p for arm in tested]), strict=True):
            adjusted[arm.arm][pair] = replace(arm.by_seeds[pair], p_holm=p)
    return [replace(arm, by_seeds=adjusted[arm.arm]) for arm in found]


# --- everything else --------------------------------------------------------------------------------------------------


def _metrics(one: Results, other: Results, arms: tuple[str, ...], home: str) -> Iterator[MetricDifference]:
    for arm in arms:
        for metric in METRICS:
            sides = [run.over_seeds(arm, metric, home) for run in (one, other)]
            if home and sides[0] is not None and sides[1] is not None:
                yield MetricDifference(arm, metric, sides[0].mean, sides[1].mean)
