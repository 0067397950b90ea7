"""The released model: what it is, what hospitals say of it, and whether it passes the study's gate of release.

The gate is that of ``sarco-coordinator release`` (server/release_gate.py), so that page and command never differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sarco_models.errors import RunError
from server.dashboard.files import RunFiles, number, said, table
from server.failures import in_words
from server.leakage import read_leakage
from server.release_gate import Gate


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
    """

    threshold: float | None
    no_threshold: str
    prevalence: float | None
    assessed: tuple[Assessed, ...]
    verdict: Verdict | None


def outcome_of(run: RunFiles) -> Outcome | None:
    """What became of a run's model; None before it is released."""
    about = table(run.json("model.json"))
    if not about:
        return None
    return Outcome(
        threshold=number(about.get("threshold")),
        no_threshold=said(about.get("no_threshold", "")),
        prevalence=number(about.get("prevalence")),
        assessed=_assessed(run),
        verdict=_verdict(run),
    )


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
