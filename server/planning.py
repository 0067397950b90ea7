"""A plan for a network, made of what hospitals tell of their images in sums: the one run that trains nothing.

Hospitals approve a study by its digest, so a network cannot be planned within the run that trains it. A study without a
plan is therefore a study of its own: hospitals approve that it asks for sums, and for nothing else; its run ends with
``plan.json``, and with the plan the study is another one, which they approve, or do not.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, RunError
from sarco_models.fingerprint import BUDGETS, plan_of
from sarco_models.plan_words import Reason, planned_study, reasons, statistics, warnings
from sarco_models.segmentation import PlanConfig
from sarco_models.summaries import Moments
from sarco_models.wire import Described
from server.agreement import descriptions
from server.federation import Federation
from server.runs import Run
from server.whole_files import write_json

log = logging.getLogger(__name__)

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


def agree_plan(federation: Federation) -> None:
    """Ask everybody who is there for the sums, make the plan of them, and write it down.

    Raises:
        QuorumLost: too few sites answered.
        UndefinedMetric: the sums make no plan, as where no image says its millimetres.
    """
    run = federation.run
    described = descriptions(federation)
    federation.admit(described)
    told = sorted(described.values(), key=lambda d: d.site)
    write_json(run.folder / FILE, plan_record(run.study, told, federation.absent) | federation.taken())
    log.info("planned from the sums of %d sites", len(told))


def plan_record(study: StudyConfig, told: Sequence[Described], absent: Mapping[str, str]) -> dict[str, Any]:
    """What plan.json says: the plan, and all that it follows from.

    Args:
        study: without a plan.
        told: what each hospital has said of itself, in the order of their names.
        absent: who was there and said nothing usable, and why.

    Raises:
        UndefinedMetric: the sums make no plan.
    """
    sums = sum((d.moments for d in told[1:]), start=told[0].moments)
    plan = plan_of(sums, BUDGETS[study.segmentation.budget if study.segmentation else "small"])
    planned, why = planned_study(study, plan), reasons(study, sums)
    numbers = {f.name: getattr(sums, f.name).tolist() for f in fields(Moments)}
    sites = {
        d.site: {
            "participants": d.participants,
            "training": d.training,
            "images": d.images,
            "statistics": statistics(d.moments),
        }
        for d in told
    }
    return {
        "draft": study.digest,
        "study": planned.digest,
        "plan": plan.model_dump(mode="json"),
        "image": planned.image.model_dump(mode="json"),
        "why": [asdict(reason) for reason in why],
        "warnings": list(warnings(study, {d.site: d.moments for d in told}, plan)),
        "statistics": statistics(sums),
        "sites": sites,
        "failures": dict(absent),
        "sums": numbers,
        "sums_digest": hashlib.sha256(json.dumps([study.digest, numbers]).encode()).hexdigest(),
    }


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
