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
from dataclasses import asdict, fields
from typing import Any

from sarco_models.config import StudyConfig
from sarco_models.fingerprint import BUDGETS, plan_of
from sarco_models.plan_words import planned_study, reasons, statistics, warnings
from sarco_models.summaries import Moments
from sarco_models.wire import Described
from server.agreement import descriptions
from server.federation import Federation
from server.plan_file import FILE
from server.whole_files import write_json

log = logging.getLogger(__name__)


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
