"""What this hospital allows. Whatever is not in the policy is refused; nothing here reads a file."""

from typing import Literal

from sarco_models.config import Config
from sarco_models.errors import PolicyViolation
from sarco_models.wire import Assess, Code, Evaluate, Request, Train

Task = Literal["Describe", "Setup", "Train", "Evaluate", "Assess"]


class Policy(Config):
    """Decided by the hospital, in site.toml; no study and no coordinator can change it.

    Attributes:
        approved_studies: digests of the study files that the hospital has read and approved.
        tasks: requests that are answered at all.
        min_training_participants: with fewer people in training, nothing leaves.
        metrics: names of the metrics that may leave with a reply.
        min_cell: sums, metrics and counts of fewer people than this stay here.
        share_assessment: whether test participants' AUC, calls and merged histogram may leave at all.
    """

    approved_studies: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ("Describe", "Setup", "Train", "Evaluate", "Assess")
    min_training_participants: int = 10
    metrics: tuple[str, ...] = ("train_loss", "loss", "auc")
    min_cell: int = 3
    share_assessment: bool = True


class Refusal(PolicyViolation):
    """A request that the policy does not allow; ``code`` is all that leaves the hospital."""

    def __init__(self, code: Code, reason: str) -> None:
        """``reason`` is for the hospital's own log."""
        self.code = code
        super().__init__(f"{code}: {reason}")


def check(request: Request, policy: Policy, rounds: int) -> None:
    """Raise :class:`Refusal` unless the hospital allows this request.

    Args:
        request: as it came.
        policy: of the hospital.
        rounds: of the study; there is no training outside them, and one evaluation, after the last.
    """
    if request.study not in policy.approved_studies:
        known = ", ".join(d[:12] for d in policy.approved_studies) or "none"
        raise Refusal(Code.STUDY_NOT_APPROVED, f"study {request.study[:12]} is not approved here (approved: {known})")
    if type(request).__name__ not in policy.tasks:
        raise Refusal(Code.TASK_NOT_ALLOWED, f"{type(request).__name__} is not among the allowed tasks {policy.tasks}")
    if isinstance(request, Train) and not 1 <= request.round <= rounds:
        raise Refusal(Code.BAD_REQUEST, f"round {request.round} is not one of the study's {rounds}")
    if isinstance(request, Evaluate | Assess) and request.round != rounds:
        raise Refusal(Code.BAD_REQUEST, f"evaluation belongs after round {rounds}, not {request.round}")
    if isinstance(request, Assess):
        _check_assessment(request, policy)


def _check_assessment(request: Assess, policy: Policy) -> None:
    if not policy.share_assessment:
        raise Refusal(Code.TASK_NOT_ALLOWED, "share_assessment = false: nothing of the test participants leaves")
    if not 0.0 <= request.threshold <= 1.0:
        raise Refusal(Code.BAD_REQUEST, f"a threshold of {request.threshold}; it is of a probability, 0 to 1")


def check_people(*, training: int, positive: int, policy: Policy, required: int) -> None:
    """Raise :class:`Refusal` where a cohort is too small, or has one class only, to take part.

    Args:
        training: participants in training.
        positive: those of them with a positive label.
        policy: of the hospital.
        required: what the study asks for.
    """
    limit = max(policy.min_training_participants, required)
    if training < limit:
        raise Refusal(Code.TOO_FEW_PARTICIPANTS, f"{training} training participants; at least {limit} are needed")
    if positive in (0, training):
        raise Refusal(Code.ONE_CLASS_ONLY, "all training participants have the same label; both classes are needed")
