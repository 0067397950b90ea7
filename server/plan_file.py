"""Which studies are planned first, and what a run without training leaves: ``plan.json``, read whole or not at all.

No torch: whoever follows a run for days, or only looks at a home, reads it as well as whoever writes the planned study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, RunError
from sarco_models.plan_words import Reason, planned_study
from sarco_models.segmentation import PlanConfig

if TYPE_CHECKING:
    from server.runs import Run

FILE = "plan.json"


@dataclass(frozen=True)
class Planned:
    """What a run without training has come to.

    Attributes:
        plan: the network's.
        study: the draft with the plan and images framed as it asks.
        reasons: why each number of the plan is what it is.
        warnings: what should be looked at before anybody approves it.
        sites: name -> participants, training, images, and what it told of them in statistics.
        failures: who was there and is not in it, and why.
    """

    plan: PlanConfig
    study: StudyConfig
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...]
    sites: Mapping[str, Mapping[str, Any]]
    failures: Mapping[str, str]


def require_unplanned(study: StudyConfig, where: Path) -> None:
    """Raise ConfigError unless a study asks for a plan and has none yet."""
    if study.segmentation is None:
        raise ConfigError(f"{where}: finds no muscles, and so has no network that is planned: name a study that does")
    if study.segmentation.network != "nnunet":
        raise ConfigError(
            f'{where}: segmentation.network = "{study.segmentation.network}": it follows from no plan: write network = '
            '"nnunet", or run the study as it is'
        )
    if not study.unplanned:
        raise ConfigError(
            f"{where}: has a plan already, in [segmentation.plan]: run it; or remove that section to plan anew"
        )


def require_planned(study: StudyConfig, where: Path) -> None:
    """Raise ConfigError where a study cannot be trained yet, for its network has no plan."""
    if study.unplanned:
        raise ConfigError(
            f'{where}: network = "nnunet" and no [segmentation.plan]: nothing can be trained yet: make the plan with '
            "`sarco-coordinator plan` (with `sarco-lab plan` of hospitals on this machine), and let the hospitals "
            "approve the study that it writes"
        )


def asks_for_plan(folder: Path) -> bool:
    """Whether a run directory is of a study without a plan: it asks for sums, and trains nothing."""
    try:
        return StudyConfig.model_validate_json((folder / "study.json").read_text(encoding="utf-8")).unplanned
    except (OSError, ValueError):
        return False


def is_planned(folder: Path) -> bool:
    """Whether a run directory holds a plan, and so has nothing left to do."""
    return (folder / FILE).is_file()


def read_plan(run: Run) -> Planned:
    """What the run has planned.

    Raises:
        RunError: it has not, or plan.json is damaged or of another study.
    """
    path = run.folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        plan = PlanConfig.model_validate_json(json.dumps(found["plan"]))
        study = planned_study(run.study, plan)
        if found["draft"] != run.study.digest or found["study"] != study.digest:
            raise ValueError("it is of another study than study.json, or was changed")
        why = tuple(Reason(**reason) for reason in found["why"])
        return Planned(plan, study, why, tuple(found["warnings"]), found["sites"], found["failures"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = "its plan is none of this version" if isinstance(error, ValidationError) else str(error)
        raise RunError(
            f"{path}: no plan can be read: {what}: resume the run, or restore the file; start another run to ask again"
        ) from None
