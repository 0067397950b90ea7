"""A run that plans a network and trains none: the plan, why each number is what it is, and whose sums it rests on.

``plan.json`` is read so that what is damaged in it costs its own line and no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.dashboard.files import RunFiles, number, said, table
from server.failures import in_words
from server.plan_file import FILE


@dataclass(frozen=True)
class Number:
    """One number of the plan, and the statistic and rule that led to it."""

    what: str
    value: str
    because: str


@dataclass(frozen=True)
class Plan:
    """Of a study that asks for sums; everything is empty before the plan is made.

    Attributes:
        made: whether there is a plan.
        numbers: of the network, in the order in which one follows from the other.
        warnings: what people should look at before they approve it.
        people: hospital -> participants, training, images of those whose sums it rests on; None where damaged.
        missing: hospital -> why it is not in it.
        study: digest of the study with the plan.
    """

    made: bool = False
    numbers: tuple[Number, ...] = ()
    warnings: tuple[str, ...] = ()
    people: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    study: str = ""


def plan_of(run: RunFiles) -> Plan | None:
    """What a run has planned; None where its study is one that is trained."""
    if run.study is None or not run.study.unplanned:
        return None
    found = table(run.json(FILE))
    if not found:
        return Plan()
    why = [table(row) for row in _rows(found.get("why"))]
    keys = ("participants", "training", "images")
    return Plan(
        made=True,
        numbers=tuple(Number(said(r.get("what")), said(r.get("value")), said(r.get("because"))) for r in why if r),
        warnings=tuple(said(row) for row in _rows(found.get("warnings"))),
        people={
            said(site): {key: number(table(about).get(key)) for key in keys}
            for site, about in sorted(table(found.get("sites")).items())
        },
        missing={said(s): in_words(said(why)) for s, why in sorted(table(found.get("failures")).items())},
        study=said(found.get("study", "")),
    )


def _rows(value: object) -> list[object]:
    return value if isinstance(value, list) else []
