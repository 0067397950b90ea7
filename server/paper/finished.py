"""The finished runs that stand beside the paper: read, checked for the protocol that they claim, asked for numbers."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sarco_models.errors import RunError
from server.paper.published import COMBINATIONS, VALIDATIONS, Combination, Validation
from server.results import OverSeeds, Results, Row, read_results
from server.run_facts import CROSS_VALIDATION

PROTOCOLS = {
    "paper": "cross-validation at A and validation at B and C",
    "complete_cases": "the same with participants without a missing value",
    "architectures": "image networks compared",
    "federated": "training across the hospitals",
}
"""What a run may be given as."""

BEYOND = {
    "intensity": "grey levels standardised and augmented, or not",
    "leave_one_site_out": "each hospital left out in turn",
    "modalities": "kinds of data, trained across the hospitals",
    "data_size": "fewer participants",
    "site_shift": "hospitals that differ more",
}
"""Further experiments, of which the paper has nothing; each gets a table of its AUCs."""

SELECTED = "selected"
"""Arm that holds, seed by seed, the rows of the candidate that was selected."""

NOT_RUN = {key: f'Not run: no run was given for "{key}" ({words}).' for key, words in PROTOCOLS.items()}


@dataclass(frozen=True)
class Finished:
    """A run and the protocol that it was given as."""

    protocol: str
    folder: Path
    results: Results
    digest: str

    @property
    def site(self) -> str:
        """Where a cross-validation took place."""
        return self.results.meta.protocol.site

    @property
    def cross_validated(self) -> bool:
        """Whether its arms are candidates."""
        return self.results.meta.protocol.kind == CROSS_VALIDATION

    def arm(self, combination: Combination) -> str | None:
        """The candidate that sees these data; of several, the one with the study's own image network."""
        own = (self.results.meta.study.get("model") or {}).get("backbone")
        candidates = self.results.meta.protocol.candidates
        fitting = [name for name, found in candidates.items() if frozenset(found.modalities) == combination.modalities]
        fitting.sort(key=lambda name: candidates[name].backbone not in (None, own))
        named = (f"cv:{self.site}@{name}" for name in fitting)
        return next((arm for arm in named if arm in self.results.arms), None)

    def network(self, combination: Combination) -> str:
        """The candidate's image network, or an empty text."""
        name = (self.arm(combination) or "").partition("@")[2]
        found = self.results.meta.protocol.candidates.get(name)
        return (found.backbone if found else None) or ""

    def combination(self, candidate: str) -> Combination | None:
        """What data a candidate sees; None when it is none of the paper's six models."""
        found = self.results.meta.protocol.candidates.get(candidate)
        return next((c for c in COMBINATIONS if found and frozenset(found.modalities) == c.modalities), None)

    def title(self, candidate: str) -> str:
        """A candidate's name for people."""
        known, found = self.combination(candidate), self.results.meta.protocol.candidates.get(candidate)
        return known.title if known else (found.title if found and found.title else candidate)

    @cached_property
    def chosen(self) -> Results:
        """The results with one arm more, :data:`SELECTED`, for the other hospitals."""
        by_seed = {int(seed): f"cv:{self.site}@{name}" for seed, name in self.results.meta.protocol.selected.items()}
        rows = [r.model_copy(update={"arm": SELECTED}) for r in self.results.rows if by_seed.get(r.seed) == r.arm]
        scores = {
            (SELECTED, seed, site): held
            for (arm, seed, site), held in self.results.scores.items()
            if by_seed.get(seed) == arm
        }
        return replace(self.results, rows=(*self.results.rows, *rows), scores=self.results.scores | scores)

    def elsewhere(self) -> Iterator[tuple[Validation, str | None]]:
        """The paper's two other hospitals and which of ours stands for each: by name, else in the run's order."""
        others = [site for site in self.results.sites if site != self.site]
        named = {validation.site for validation in VALIDATIONS}
        free = iter([site for site in others if site not in named])
        for validation in VALIDATIONS:
            yield validation, validation.site if validation.site in others else next(free, None)

    def selections(self) -> Counter[str]:
        """How many seeds selected each candidate."""
        return Counter(self.results.meta.protocol.selected.values())

    def difference(self, first: str, second: str) -> OverSeeds | None:
        """Paired difference of two arms' AUC at the cross-validation's hospital, however the run stored it."""
        direct = [r for r in self._home if (r.arm, r.metric) == (first, f"auc_difference:{second}")]
        turned = [_turned(r) for r in self._home if (r.arm, r.metric) == (second, f"auc_difference:{first}")]
        rows = tuple(row.model_copy(update={"arm": first, "metric": "d"}) for row in direct or turned)
        return Results(self.results.meta, rows).over_seeds(first, "d", self.site)

    def p_values(self, first: str, second: str) -> dict[int, float]:
        """DeLong's P of the two in each seed, not adjusted."""
        wanted = {(first, f"delong_p:{second}"), (second, f"delong_p:{first}")}
        return {r.seed: r.value for r in self._home if (r.arm, r.metric) in wanted and r.value is not None}

    @cached_property
    def _home(self) -> list[Row]:
        kinds = ("auc_difference:", "delong_p:")
        return [r for r in self.results.rows if r.site == self.site and r.metric.startswith(kinds) and r.round is None]


def _turned(row: Row) -> Row:
    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    return row.model_copy(
        update={"value": minus(row.value), "ci_low": minus(row.ci_high), "ci_high": minus(row.ci_low)}
    )


def read_runs(runs: Mapping[str, Path]) -> dict[str, Finished]:
    """Read the runs, by the protocol that each is given as.

    Raises:
        RunError: an unknown name, no run at all, a folder that holds no results, or the results of another protocol.
    """
    if not runs:
        raise RunError(f"no run was given: give at least one of {', '.join(PROTOCOLS)} with its folder")
    known = PROTOCOLS | BEYOND
    if unknown := sorted(set(runs) - set(known)):
        raise RunError(f"{unknown[0]!r} is no protocol of the paper's study: give runs as {', '.join(known)}")
    return {name: _read(name, runs[name]) for name in known if name in runs}


def _read(name: str, folder: Path) -> Finished:
    results = read_results(folder)
    protocol = results.meta.protocol
    if name in ("paper", "complete_cases"):
        if protocol.kind != CROSS_VALIDATION or not protocol.site:
            raise RunError(
                f"{folder}: given as {name!r}, but its protocol is {protocol.kind!r} and not a cross-validation: "
                f"give the folder that 'sarco-lab run configs/experiments/{name}.toml' wrote"
            )
        if protocol.complete_cases != (name == "complete_cases"):
            raise RunError(
                f"{folder}: given as {name!r}, but its protocol says complete_cases = {protocol.complete_cases}: "
                "exchange the two folders"
            )
    digest = hashlib.sha256((folder / "results.json").read_bytes()).hexdigest()
    return Finished(name, folder, results, digest)
