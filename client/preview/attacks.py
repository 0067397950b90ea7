"""Two attacks on what a round would send, run by the hospital on itself before anybody else can.

Membership inference asks of each participant whether the round fitted this very person: how much surer of the right
answer the model is after it than before (the loss calibrated by a reference model: Watson et al. 2022; Yeom et al.
2018). Gradient inversion (Geiping et al. 2020) looks for the image whose gradient is the update.

Each is made on the update without the study's protections, on the update as it would leave the network, and under
secure aggregation on what the coordinator gets to see. One round is attacked, not a study: what a released model
betrays after all rounds is measured by the leakage probe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.preview.one_round import Round, scratch_site
from client.tasks import handle
from client.workspace import Site
from sarco_models.aims import aim_of
from sarco_models.cohort import People
from sarco_models.errors import UndefinedMetric
from sarco_models.membership import Confidence, Leakage, measure
from sarco_models.messages import Setup, Train, Trained, Updated, expanded
from sarco_models.parameters import Parameters
from sarco_models.training import AnyReader

PLAIN = "without the study's protections"
INSIDE = "before the masks of secure aggregation"
LEAVES = "as it would leave"


@dataclass(frozen=True)
class Membership:
    """Membership inference on one form of the update; ``found`` is None where too few people are there to measure."""

    of: str
    found: Leakage | None


def unprotected(run: Round, scratch: Path) -> Parameters:
    """The same round's parameters, trained without noise, clipping and masks.

    Args:
        run: the round that was run.
        scratch: an empty folder for a second hospital.
    """
    study = run.study
    update: dict[str, Any] = {"privacy": None}
    if study.federation.secure_aggregation:
        update["federation"] = study.federation.model_copy(update={"secure_aggregation": False})
    bare = study.model_copy(update=update)
    site = scratch_site(run.config, bare, run.root, scratch)
    setup = Setup(bare.digest, run.setup.frozen, run.setup.moments)
    handle(site, setup)
    reply = handle(site, Train(bare.digest, setup.digest, 1, run.start))
    if not isinstance(reply, Trained | Updated):
        raise UndefinedMetric(f"the round without protections could not be trained here ({reply})")
    return expanded(reply, run.start).parameters


def membership(run: Round, forms: Iterable[tuple[str, Parameters]]) -> tuple[Membership, ...]:
    """How well each form of the update tells training participants from test participants of this hospital."""
    site = run.site
    reader = site.reader(run.setup.digest)
    if reader is None:
        raise UndefinedMetric("the round left no setup: nothing can be scored")
    groups = (site.split.train, site.split.test)
    before = [_confidence(site, reader, people, run.start) for people in groups]
    found = []
    for of, parameters in forms:
        gains = [_confidence(site, reader, p, parameters) - b for p, b in zip(groups, before, strict=True)]
        found.append(Membership(of, _measured(*gains)))
    return tuple(found)


def _confidence(site: Site, reader: AnyReader, people: People, parameters: Parameters) -> Confidence:
    parameters.load_into(site.tensors)
    return aim_of(site.study).sure(site.model.net, reader, people)


def _measured(members: Confidence, others: Confidence) -> Leakage | None:
    try:
        return measure(members, others)
    except UndefinedMetric:
        return None
