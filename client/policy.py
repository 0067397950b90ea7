"""What this hospital allows. Whatever is not in the policy is refused; nothing here reads a file.

A request is refused as a whole where the study or the task is not allowed. Of an answer that is allowed, the parts that
are not (metrics, sums over the tables, the score histogram) are left out: the protocol knows them as withheld.

``check`` is held against every request, not only the first. Every refusal has a code, which leaves, and a reason for
the hospital's own log that names the key of site.toml it follows from.
"""

import json
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field

from sarco_models.config import Config, StudyConfig
from sarco_models.encoding import most_bytes
from sarco_models.errors import PolicyViolation
from sarco_models.messages import Assess, Code, Evaluate, Keys, Masking, Measure, Probe, Request, Reveal, Train
from sarco_models.parameters import Manifest

Task = Literal["Describe", "Setup", "Train", "Evaluate", "Assess", "Measure", "Probe", "Keys", "Reveal"]
Statistic = Literal["sums", "histogram", "assessment", "leakage"]

FEWEST_MASKED = 3
"""Of two sites under masks, each could subtract its own update from the sum."""


class Policy(Config):
    """Decided by the hospital, in site.toml; no study and no coordinator can change it. What is absent is refused.

    Attributes:
        approved_studies: digests of study files approved by hand; ``sarco-site approve`` keeps its own record.
        tasks: requests that are answered at all.
        metrics: names of the metrics that may leave with a reply.
        statistics: sums over the tables or of images' sizes, score histogram of training participants, assessment on
            test participants, and how well training participants can be told from others.
        min_training_participants: with fewer people in training, nothing leaves.
        min_cell: sums, metrics and counts of fewer people than this stay here.
        min_sites: a study must not count a round of fewer hospitals.
        max_epsilon: greatest epsilon of a study; a study without privacy needs ``unprotected_training`` instead.
        unprotected_training: whether models trained without differential privacy may leave.
        plain_updates: whether this hospital's own update may leave without secure aggregation.
        parameters: names of parameters that may leave, as patterns; ``"*"`` is any.
        max_parameter_bytes: of one reply, as it travels; compression is not counted on.
    """

    approved_studies: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    metrics: tuple[str, ...] = ()
    statistics: tuple[Statistic, ...] = ()
    min_training_participants: int = Field(default=10, ge=2)
    min_cell: int = Field(default=3, ge=1)
    min_sites: int = Field(default=3, ge=1)
    max_epsilon: float = Field(default=0.0, ge=0)
    unprotected_training: bool = False
    plain_updates: bool = False
    parameters: tuple[str, ...] = ()
    max_parameter_bytes: int = Field(default=0, ge=0)


class Refusal(PolicyViolation):
    """A request that the policy does not allow; ``code`` is all that leaves the hospital."""

    def __init__(self, code: Code, reason: str) -> None:
        """``reason`` is for the hospital's own log."""
        self.code = code
        super().__init__(f"{code}: {reason}")


def check(request: Request, policy: Policy, study: StudyConfig, no_approval: str = "none on record") -> None:
    """Raise :class:`Refusal` unless the hospital allows this request.

    Args:
        request: as it came.
        policy: of the hospital.
        study: that the hospital has read; a request of another one is refused.
        no_approval: why ``sarco-site approve`` has no valid record of this study; empty where it has one.
    """
    _check_approved(request, policy, study, no_approval)
    task = type(request).__name__
    if task not in policy.tasks:
        raise Refusal(Code.TASK_NOT_ALLOWED, f"tasks: {task} is not among {', '.join(policy.tasks) or 'none'}")
    for code, key, reason in study_violations(policy, study):
        raise Refusal(code, f"{key}: {reason}")
    _check_asked_for(task, study)
    _check_round(request, study.federation.rounds)
    if isinstance(request, Train):
        check_parameters(request.parameters.manifest, policy, study.federation.encoding)
        _check_masking(request.masking, policy, study)
    if isinstance(request, Evaluate | Assess) and not 0 < request.prevalence < 1:
        raise Refusal(Code.BAD_REQUEST, f"a prevalence of {request.prevalence}; it is above 0 and below 1")
    if isinstance(request, Assess | Measure):
        _check_assessment(request, policy, study)
    if isinstance(request, Probe) and "leakage" not in policy.statistics:
        raise Refusal(Code.TASK_NOT_ALLOWED, 'statistics: "leakage" is not among them: the probe stays here')


def _check_asked_for(task: str, study: StudyConfig) -> None:
    """Refuse what a study of this kind never asks."""
    if study.unplanned and task != "Describe":
        raise Refusal(Code.BAD_REQUEST, f"{task}, and the study has no plan of its network yet: it asks for sums only")
    if task in (Keys.__name__, Reveal.__name__) and not study.federation.secure_aggregation:
        raise Refusal(Code.BAD_REQUEST, f"{task}, and the study has no secure aggregation")


def _check_approved(request: Request, policy: Policy, study: StudyConfig, no_approval: str) -> None:
    if request.study != study.digest:
        raise Refusal(
            Code.STUDY_NOT_APPROVED,
            f"the request is of study {request.study[:12]!r}, site.toml's is {study.digest[:12]}",
        )
    if no_approval and study.digest not in policy.approved_studies:
        raise Refusal(
            Code.STUDY_NOT_APPROVED,
            f"approval of study {study.digest[:12]}: {no_approval}; nor is it in approved_studies: read it, then "
            "sarco-site approve",
        )


def study_violations(policy: Policy, study: StudyConfig) -> list[tuple[Code, str, str]]:
    """What of a whole study the policy does not allow: code, key of site.toml, and a sentence; empty where it does.

    They hold for every request: nothing is told to a study that the hospital could not train in.
    """
    found, private, federation = [], study.privacy, study.federation
    if private is None and not policy.unprotected_training:
        does = "lets sums leave without noise" if study.unplanned else "trains without differential privacy"
        found.append((Code.NOT_PRIVATE_ENOUGH, "unprotected_training", f"is false, and the study {does}"))
    if private is not None and private.statistics == "exact" and not policy.unprotected_training:
        words = 'is false, and privacy.statistics = "exact" lets sums leave without noise'
        found.append((Code.NOT_PRIVATE_ENOUGH, "unprotected_training", words))
    if private is not None and private.epsilon > policy.max_epsilon:
        words = f"is {policy.max_epsilon:g}, and the study spends epsilon = {private.epsilon:g}"
        found.append((Code.NOT_PRIVATE_ENOUGH, "max_epsilon", words))
    if federation.min_sites < policy.min_sites:
        does = "is planned with" if study.unplanned else "counts a round of"
        words = f"is {policy.min_sites}, and the study {does} {federation.min_sites}"
        found.append((Code.TOO_FEW_SITES, "min_sites", words))
    if not federation.secure_aggregation and not policy.plain_updates and not study.unplanned:  # no update is made yet
        words = "is false, and the coordinator would see this hospital's own update (no secure aggregation)"
        found.append((Code.NOT_MASKED, "plain_updates", words))
    return found


def check_parameters(manifest: Manifest, policy: Policy, encoding: str = "float32") -> None:
    """Raise :class:`Refusal` where a name or the size of what would leave is not allowed.

    What goes up has the names and shapes of what came down, or the request is refused before it trains; so a request's
    manifest tells what would leave. A masked update has the size of one in float32.
    """
    strange = [n for n in manifest.names if not any(fnmatchcase(n, pattern) for pattern in policy.parameters)]
    if strange:
        raise Refusal(
            Code.TASK_NOT_ALLOWED,
            f"parameters: {strange[0][:80]!r}, one of {len(strange)}, fits none of {list(policy.parameters)}",
        )
    size = most_bytes(manifest, encoding)
    if size > policy.max_parameter_bytes:
        raise Refusal(Code.UPDATE_TOO_LARGE, f"max_parameter_bytes is {policy.max_parameter_bytes}; this is {size}")


def _check_round(request: Request, rounds: int) -> None:
    """There is no training outside a study's rounds, and one evaluation, after the last."""
    if isinstance(request, Train | Keys | Reveal) and not 1 <= request.round <= rounds:
        raise Refusal(Code.BAD_REQUEST, f"round {request.round} is not one of the study's {rounds}")
    if isinstance(request, Evaluate | Assess | Measure | Probe) and request.round != rounds:
        raise Refusal(Code.BAD_REQUEST, f"evaluation belongs after round {rounds}, not {request.round}")


def _check_masking(masking: Masking | None, policy: Policy, study: StudyConfig) -> None:
    if not study.federation.secure_aggregation:
        if masking is not None:
            raise Refusal(Code.BAD_REQUEST, "an update under masks is asked for; the study has no secure aggregation")
        return
    if masking is None:
        raise Refusal(Code.NOT_MASKED, "the study has secure aggregation, and this asks for the update without masks")
    try:
        names = {str(name) for name, _key, _signature in json.loads(masking.keys)}
    except (ValueError, TypeError):
        raise Refusal(Code.BAD_REQUEST, "the sites under the masks cannot be read") from None
    needed = max(FEWEST_MASKED, policy.min_sites)
    if len(names) < needed:
        raise Refusal(Code.TOO_FEW_SITES, f"min_sites: {len(names)} under the masks, at least {needed} are needed")


def _check_assessment(request: Assess | Measure, policy: Policy, study: StudyConfig) -> None:
    if "assessment" not in policy.statistics:
        raise Refusal(
            Code.TASK_NOT_ALLOWED, 'statistics: "assessment" is not among them: nothing of the test participants leaves'
        )
    if study.segments != isinstance(request, Measure):
        asked, other = type(request).__name__, "finds muscles" if study.segments else "diagnoses people"
        raise Refusal(Code.BAD_REQUEST, f"{asked}, and the study {other}")
    if isinstance(request, Assess) and not 0.0 <= request.threshold <= 1.0:
        raise Refusal(Code.BAD_REQUEST, f"a threshold of {request.threshold}; it is of a probability, 0 to 1")


def check_people(*, training: int, positive: int, policy: Policy, study: StudyConfig) -> None:
    """Raise :class:`Refusal` where a cohort is too small, or has one class only, to take part.

    Args:
        training: participants in training.
        positive: those of them with a positive label.
        policy: of the hospital.
        study: has a smallest number of its own; with privacy its delta must be below one in ``training``, or giving
            away one participant whole would count as private.
    """
    limit = max(policy.min_training_participants, study.federation.min_participants)
    if training < limit:
        raise Refusal(
            Code.TOO_FEW_PARTICIPANTS,
            f"{training} training participants; at least {limit} are needed (min_training_participants)",
        )
    # With privacy a refusal would tell, exactly and for nothing, whether a hospital's only case is in training.
    if study.privacy is None and not study.segments and positive in (0, training):
        raise Refusal(Code.ONE_CLASS_ONLY, "all training participants have the same label; both classes are needed")
    if study.privacy is not None and study.privacy.delta * training >= 1:
        raise Refusal(
            Code.NOT_PRIVATE_ENOUGH,
            f"the study's delta = {study.privacy.delta:g} is not below one in {training} training participants",
        )
