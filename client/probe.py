"""What a released model betrays of whom it was trained on, measured where these people are known: at the hospital.

The hospital scores its own training and test participants with the released model and answers with two numbers, the AUC
and the share of members found at few false positives, and the two numbers of people. No score of a person leaves.

The two numbers are computed from the participants themselves and carry no noise: with differential privacy they are
outside epsilon, as every metric of an evaluation is. Of two cohorts that differ by one person they differ a little. So
they are given for one model in a study, never for a second one, and of ``min_cell`` people of each kind at least.
"""

import contextlib
import json
import os
from pathlib import Path

import numpy as np

from client.policy import Refusal
from client.workspace import Site
from sarco_models.cohort import People
from sarco_models.disclosure import small
from sarco_models.membership import Confidence, area, confidence, members_found
from sarco_models.training import Reader, predict
from sarco_models.wire import Code, Probe, Probed

LEAST = 2
"""People of each kind that an interval needs; ``min_cell`` may ask for more."""


def probe(site: Site, request: Probe) -> Probed:
    """Loss-threshold membership inference (Yeom et al. 2018) on the site's own participants.

    Which people are compared: those whom this site trains on, and those whom it holds out for testing. Both come from
    the same hospital and the same split, so that nothing but the training tells them apart.

    Raises:
        Refusal: the setup was never sent here; too few people of one kind; another model of this study was probed.
    """
    members, others = site.split.train, site.split.test
    least = max(site.policy.min_cell, LEAST)
    if min(len(members), len(others)) < least:
        raise Refusal(
            Code.TOO_FEW_PARTICIPANTS,
            f"{len(members)} training and {len(others)} test participants; the probe needs {least} of each",
        )
    reader = site.reader(request.setup)
    if reader is None:
        raise Refusal(Code.SETUP_NEEDED, f"setup {request.setup[:12]} was never sent to this site")
    if not first_probe(site.state, request):
        raise Refusal(Code.ALREADY_ASSESSED, "another model of this study was probed here before (state/probed-*)")
    site.receive(request)
    inside, outside = (_confidence(site, reader, people) for people in (members, others))
    found, _ = members_found(inside, outside)
    found = _shown(found, len(members), site.policy.min_cell)
    return Probed(site.name, len(members), len(others), area(inside, outside), found / len(members))


def first_probe(state: Path, request: Probe) -> bool:
    """Whether this is the first probe of the study here, or the same one again, as after a crash.

    The note is on the disk before anything is computed, whole, and never written over: of two processes that are asked
    at once, one is first.
    """
    words = json.dumps([request.setup, request.round, request.parameters.digest])
    path = state / f"probed-{request.study}.txt"
    if not path.is_file():
        partial = state / f"probed-{os.getpid()}.partial"
        with partial.open("w", encoding="utf-8") as file:
            file.write(words)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first; what it has noted counts
            path.hardlink_to(partial)
        partial.unlink()
    return path.read_text(encoding="utf-8") == words


def _confidence(site: Site, reader: Reader, people: People) -> Confidence:
    return np.asarray(confidence(predict(site.model.net, reader, people), people.labels == 1))


def _shown(found: int, members: int, min_cell: int) -> int:
    """The members found, as they may be told: a handful of people is told as ``min_cell``, or as everybody.

    Rounded up, so that the leak is never told smaller than it is.
    """
    if small([found], min_cell)[0]:
        return min(min_cell, members)
    return members if small([members - found], min_cell)[0] else found
