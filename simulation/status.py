"""How far an experiment is, as its run directories tell."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simulation.arms import Arm


@dataclass(frozen=True)
class ArmStatus:
    """How far the arms of one name and seed are: one arm, or all folds and draws of a cross-validation.

    Attributes:
        round, rounds: of all of them together.
        loss, auc, dice: central, of the last one that has any; of a diagnosis there is no Dice, of muscles no AUC.
    """

    name: str
    seed: int
    round: int
    rounds: int
    loss: float | None
    auc: float | None
    done: bool
    dice: float | None = None


@dataclass(frozen=True)
class Status:
    """How far an experiment is: ``done`` of ``total`` steps of the stage."""

    stage: str
    done: int
    total: int
    arms: tuple[ArmStatus, ...] = ()


Watch = Callable[[Status], None]


def training_status(arms: Sequence[Arm], done: int) -> Status:
    """The training of all arms, one line for each name and seed."""
    groups: dict[tuple[str, int], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.name, arm.study.training.seed), []).append(arm)
    return Status("training", done, len(arms), tuple(_together(group) for group in groups.values()))


def _together(arms: Sequence[Arm]) -> ArmStatus:
    each = [_one(arm) for arm in arms]
    known = [status for status in each if status.auc is not None or status.dice is not None]
    latest = known[-1] if known else each[-1]
    return ArmStatus(
        name=latest.name,
        seed=latest.seed,
        round=sum(status.rounds if status.done else status.round for status in each),
        rounds=sum(status.rounds for status in each),
        loss=latest.loss,
        auc=latest.auc,
        dice=latest.dice,
        done=all(status.done for status in each),
    )


def _one(arm: Arm) -> ArmStatus:
    rounds = sorted((arm.folder / "rounds").glob("*.json"))
    nothing: dict[str, Any] = {"round": 0, "central": {}}
    latest = json.loads(rounds[-1].read_text(encoding="utf-8")) if rounds else nothing
    central = latest["central"]
    return ArmStatus(
        name=arm.name,
        seed=arm.study.training.seed,
        round=latest["round"],
        rounds=arm.study.federation.rounds,
        loss=central.get("loss"),
        auc=central.get("auc"),
        dice=central.get("dice"),
        done=(arm.folder / "arm.json").exists(),
    )
