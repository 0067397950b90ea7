"""What results.json holds beside rows: who the people are, subgroups, what sites said themselves, explanations.

These are jobs that workers do side by side: ``(place, function, arguments)``, the place being where the result stands
in ``tables``, such as explanation, arm, seed.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sarco_models.cohort import HeldOut, open_cohort
from sarco_models.scores import ParticipantScores
from simulation.arms import CENTRAL, Arm
from simulation.describe import baseline, reference_variables, subgroups
from simulation.experiment_config import ExperimentConfig
from simulation.explanations import explanation
from simulation.harness import Scores
from simulation.other_masks import found_masks, other_masks

MIN_CELL = 5
"""Of real people no smaller count is shown."""

Job = tuple[tuple[str, ...], Any, tuple[Any, ...]]


def jobs(
    config: ExperimentConfig, arms: Sequence[Arm], scores: Sequence[Scores], out: Path, *, synthetic: bool
) -> Iterator[Job]:
    """Everything that is to be computed for ``tables``.

    Args:
        config: which arms are explained.
        arms: all finished.
        scores: of all arms and controls.
        out: the experiment's folder.
        synthetic: whether small counts may be shown.
    """
    for arm in {arm.study.training.seed: arm for arm in reversed(arms)}.values():
        for site in arm.sites:
            place = ("baseline", str(arm.study.training.seed), site.name)
            yield place, _baseline, (arm, site.name, 1 if synthetic else MIN_CELL)
    yield from _of_masks(config, arms, 1 if synthetic else MIN_CELL)
    groups: dict[tuple[str, int], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.name, arm.study.training.seed), []).append(arm)
    for (name, seed), members in groups.items():
        contributions, images = name in config.explain, name in config.explain_images
        if contributions or images:
            yield ("explanation", name, str(seed)), _explained, (members, out / "explanation", contributions, images)
        own = members[0].site if members[0].kind == "cv" else CENTRAL
        found = next((s for s in scores if (s.arm, s.seed, s.site) == (name, seed, own)), None)
        if found and (members[0].kind in ("federated", "pooled", "cv")):
            yield ("subgroups", name, str(seed)), _subgroups, (members[0], own, found.people)


def _of_masks(config: ExperimentConfig, arms: Sequence[Arm], min_cell: int) -> Iterator[Job]:
    """Models on other masks, and what was found where nobody's drawing was looked at."""
    views = {arm.variant: arm.study for arm in arms}
    for arm in arms:
        if config.other_masks and arm.name in config.other_masks.arms:
            place = ("other_masks", arm.name, str(arm.study.training.seed))
            yield (
                place,
                other_masks,
                (arm, config.other_masks, {v: views[v] for v in config.other_masks.views}, min_cell),
            )
    found = {(repr(a.study.image), a.study.training.seed): a for a in reversed(arms) if a.study.image.auto}
    for arm in found.values():
        if arm.central:
            yield ("found_masks", arm.variant, str(arm.study.training.seed)), found_masks, (arm, min_cell)


def assessments(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """What the sites themselves returned over the wire, by arm and seed."""
    found: dict[str, dict[str, Any]] = {}
    for arm in arms:
        path = arm.folder / "assessments.json"
        if path.is_file() and not arm.pooled and arm.kind != "cv":
            said = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(arm.name, {})[str(arm.study.training.seed)] = said
    return found


def _baseline(arm: Arm, site: str, min_cell: int) -> list[dict[str, Any]]:
    folder = next(s.data for s in arm.sites if s.name == site)
    cohort = open_cohort(folder, arm.study, arm.cache, name=site)
    rng, further = np.random.default_rng([arm.study.training.seed, 101]), reference_variables(folder, cohort, arm.study)
    return baseline(cohort, arm.study, rng, min_cell=min_cell, further=list(further))


def _subgroups(arm: Arm, site: str, people: ParticipantScores) -> list[dict[str, Any]]:
    folder = arm.central if site == CENTRAL else next(s.data for s in arm.sites if s.name == site)
    cohort = open_cohort(folder or arm.cache, arm.study, arm.cache, name="" if site == CENTRAL else site)
    everybody = HeldOut(cohort, np.arange(len(cohort), dtype=np.int64))
    return subgroups(everybody, people, arm.study, np.random.default_rng([arm.study.training.seed, 103]))


def _explained(members: Sequence[Arm], folder: Path, contributions: bool, images: bool) -> dict[str, Any]:
    rng = np.random.default_rng([members[0].study.training.seed, 107])
    return explanation(members, folder, rng, contributions=contributions, images=images)
