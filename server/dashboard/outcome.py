"""The released model: what it is, what hospitals say of it, and whether it passes the study's gate of release.

The gate is that of ``sarco-coordinator release`` (server/release_gate.py), so that page and command never differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sarco_models.errors import RunError
from server.dashboard.files import RunFiles, number, said, table
from server.failures import in_words
from server.leakage import read_leakage
from server.release_gate import Gate

_MEASURES = ("dice", "hd95_mm", "thickness_error_mm", "area_error_cm2")


@dataclass(frozen=True)
class Assessed:
    """What a hospital found on its own test participants; a number is None where the hospital did not tell it."""

    site: str
    participants: float | None
    auc: float | None
    sensitivity: float | None
    specificity: float | None
    why_not: str = ""


@dataclass(frozen=True)
class MuscleFound:
    """How well a muscle was found on a hospital's own test participants; None where the hospital did not tell it."""

    muscle: str
    site: str
    participants: float | None
    dice: float | None
    hd95_mm: float | None
    thickness_error_mm: float | None
    area_error_cm2: float | None


@dataclass(frozen=True)
class Verdict:
    """Of the gate.

    Attributes:
        passed: whether nothing keeps the model from being handed out, as far as leakage goes.
        measured: a sentence for each hospital.
        faults: what is against it.
    """

    passed: bool
    measured: tuple[str, ...]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """The released model.

    Attributes:
        threshold: of the probability; None where there is none.
        no_threshold: why.
        prevalence: of all training participants.
        assessed: by hospital; empty before the hospitals were asked.
        verdict: of the gate; None before the hospitals have measured leakage.
        finds_muscles: whether it draws muscles, and diagnoses nobody; the threshold is then of the quality score.
        muscles: by muscle and hospital, in a study that finds them.
        drawn: titles of the muscles of which test participants were told of, by hospital.
    """

    threshold: float | None
    no_threshold: str
    prevalence: float | None
    assessed: tuple[Assessed, ...]
    verdict: Verdict | None
    finds_muscles: bool = False
    muscles: tuple[MuscleFound, ...] = ()
    drawn: Mapping[str, str] = field(default_factory=dict)


def outcome_of(run: RunFiles) -> Outcome | None:
    """What became of a run's model; None before it is released."""
    about = table(run.json("model.json"))
    if not about:
        return None
    muscles = _muscles(run)
    return Outcome(
        threshold=number(about.get("threshold")),
        no_threshold=said(about.get("no_threshold", "")),
        prevalence=number(about.get("prevalence")),
        assessed=_assessed(run),
        verdict=_verdict(run),
        finds_muscles=bool(run.study and run.study.segments),
        muscles=muscles,
        drawn=_drawn(muscles),
    )


def _muscles(run: RunFiles) -> tuple[MuscleFound, ...]:
    """What measured.json says, muscle by muscle in the study's order; what is damaged in it is left out."""
    cfg = run.study.segmentation if run.study else None
    told = {name: table(about) for name, about in sorted(table(run.json("measured.json")).items())}
    found = []
    for muscle in cfg.muscles if cfg else ():
        for site, about in told.items():
            if number(about.get(f"{muscle.name}.dice.mean")) is None:
                continue
            own = {m: number(about.get(f"{muscle.name}.{m}.mean")) for m in _MEASURES}
            people = number(about.get(f"{muscle.name}.dice.n"))
            found.append(MuscleFound(said(muscle.title), said(site), people, **own))
    return tuple(found)


def _drawn(muscles: Sequence[MuscleFound]) -> dict[str, str]:
    """Hospital -> the muscles that it tells of."""
    sites = dict.fromkeys(row.site for row in muscles)
    return {site: ", ".join(row.muscle for row in muscles if row.site == site) for site in sites}


def _verdict(run: RunFiles) -> Verdict | None:
    study = run.study
    if run.json("leakage.json") is None or study is None:
        return None
    try:
        leakage = read_leakage(run.folder)
    except RunError as error:
        return Verdict(False, (), (said(error),))
    if leakage is None:
        return None
    gate = Gate(study.release, leakage, rounded=study.privacy is not None)
    faults = tuple(said(fault) for fault in gate.faults())
    return Verdict(not faults, tuple(said(line) for line in gate.words()), faults)


def _assessed(run: RunFiles) -> tuple[Assessed, ...]:
    found = [_of_site(name, table(told)) for name, told in sorted(table(run.json("assessments.json")).items())]
    failures = table(table(run.json("assessing.json")).get("failures"))
    silent = [
        Assessed(said(name), None, None, None, None, in_words(said(why))) for name, why in sorted(failures.items())
    ]
    return (*found, *silent)


def _of_site(name: str, told: dict[str, Any]) -> Assessed:
    return Assessed(
        site=said(name),
        participants=number(told.get("participants")),
        auc=number(told.get("auc")),
        sensitivity=_share(table(told.get("found"))),
        specificity=_share(table(told.get("spared"))),
    )


def _share(calls: dict[str, Any]) -> float | None:
    right, wrong = number(calls.get("right")), number(calls.get("wrong"))
    return None if right is None or wrong is None or right + wrong <= 0 else right / (right + wrong)
