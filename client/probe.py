"""What a released model betrays of whom it was trained on, measured where these people are known: at the hospital.

The hospital scores its own training and test participants with the released model and answers with two numbers, the AUC
and the share of members found at few false positives, and the two numbers of people. No score of a person leaves.

The two numbers are computed from the participants themselves and carry no noise: with differential privacy they are
outside epsilon, and unlike an assessment they are of people who were trained on. A coordinator that sends a model made
for the purpose, which treats one person unlike all others, could read from an exact number whether that person was in
training. So they are given for one model in a study, never for a second, of ``min_cell`` people of each kind at least,
and in a private study in steps of a twentieth, which one person of twenty or more does not move from chance. That is
a hindrance and no proof: who wants none of it leaves ``"leakage"`` out of ``statistics``.
"""

from pathlib import Path

from client.once import first_asked
from client.policy import Refusal
from client.spending import charge_unprotected
from client.workspace import Site
from sarco_models.aims import aim_of
from sarco_models.cohort import People
from sarco_models.disclosure import small
from sarco_models.membership import Confidence, area, members_found
from sarco_models.training import AnyReader
from sarco_models.wire import Code, Probe, Probed

STEPS = 20
"""In a private study both numbers are told in steps of one divided by this."""

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
    charge_unprotected(site, request)
    site.receive(request)
    inside, outside = (_confidence(site, reader, people) for people in (members, others))
    found, _ = members_found(inside, outside)
    found = _shown(found, len(members), site.policy.min_cell)
    auc, tpr = area(inside, outside), found / len(members)
    if site.study.privacy:
        auc, tpr = (round(value * STEPS) / STEPS for value in (auc, tpr))
    return Probed(site.name, len(members), len(others), auc, tpr)


def first_probe(state: Path, request: Probe) -> bool:
    """Whether this is the first probe of the study here, or the same one again, as after a crash."""
    about: list[object] = [request.setup, request.round, request.parameters.digest]
    return first_asked(state, "probed", request.study, about)


def _confidence(site: Site, reader: AnyReader, people: People) -> Confidence:
    return aim_of(site.study).sure(site.model.net, reader, people, each=site.wanted.each)


def _shown(found: int, members: int, min_cell: int) -> int:
    """The members found, as they may be told: a handful of people is told as ``min_cell``, or as everybody.

    Rounded up, so that the leak is never told smaller than it is.
    """
    if small([found], min_cell)[0]:
        return min(min_cell, members)
    return members if small([members - found], min_cell)[0] else found
