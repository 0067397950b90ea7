"""What hospitals measured of how a released model betrays whom it was trained on: leakage.json of a run directory.

    {"sites": {name: {"members", "others", "auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high", "fpr"}},
     "failures": {name: reason}}

A hospital answers with two numbers and two counts; the intervals follow from the counts. The attack is the simplest one
(Yeom et al. 2018: who is fitted better was trained on), so that passing it proves little, and failing it much.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from sarco_models.errors import RunError
from sarco_models.membership import counted, usable_fpr
from sarco_models.messages import Probed
from server.whole_files import write_json

LEAKAGE = "leakage.json"
STEPS = (
    "Private studies: the hospitals tell both numbers in steps of .05, so that each can be off by .025; the intervals "
    "are of the numbers as told."
)
"""Stands beside numbers of a private study; see client/probe.py."""


@dataclass(frozen=True)
class SiteLeakage:
    """Membership inference at one hospital, on its own people; limits are of 95 % intervals.

    Attributes:
        members: training participants scored.
        others: test participants scored.
        auc: of telling them apart; 0.5 is chance. Interval: Hanley and McNeil (1982), on the logit scale.
        tpr: share of members found at ``fpr``. Interval: Clopper and Pearson (1934).
        fpr: 1 %, or more where so few others can show no less; see :func:`sarco_models.membership.usable_fpr`.
    """

    members: int
    others: int
    auc: float
    auc_low: float
    auc_high: float
    tpr: float
    tpr_low: float
    tpr_high: float
    fpr: float

    @classmethod
    def of(cls, reply: Probed) -> Self:
        """What a hospital answered, with intervals."""
        found = round(reply.tpr * reply.members)
        area, share = counted(reply.auc, found, reply.members, reply.others)
        return cls(
            members=reply.members,
            others=reply.others,
            auc=reply.auc,
            auc_low=area.low,
            auc_high=area.high,
            tpr=reply.tpr,
            tpr_low=share.low,
            tpr_high=share.high,
            fpr=usable_fpr(reply.others),
        )


@dataclass(frozen=True)
class Leakage:
    """All hospitals that measured it, and why the others did not."""

    sites: Mapping[str, SiteLeakage]
    failures: Mapping[str, str]


def write_leakage(folder: Path, replies: Mapping[str, Probed], failures: Mapping[str, str], **about: Any) -> None:
    """Write leakage.json of a run.

    Args:
        folder: the run's.
        replies: by hospital; checked already.
        failures: what became of the other hospitals.
        about: further facts, such as the traffic.
    """
    sites = {name: asdict(SiteLeakage.of(reply)) for name, reply in sorted(replies.items())}
    write_json(folder / LEAKAGE, {"sites": sites, "failures": dict(failures), **about})


def read_leakage(folder: Path) -> Leakage | None:
    """What leakage.json of a run says; None where no hospital was asked.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / LEAKAGE
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        sites = {name: SiteLeakage(**found) for name, found in stored["sites"].items()}
        if any(not math.isfinite(v) for s in sites.values() for v in asdict(s).values()):
            raise ValueError("a number is not finite")
        return Leakage(sites, stored["failures"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path}: what the hospitals measured cannot be read ({error!r}): remove the file and run the study's "
            "command again; it asks them anew"
        ) from None
