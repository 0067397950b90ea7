"""Before the first round, and whenever a run goes on: who takes part, and the scaling that all sites share.

The first time everybody who is connected describes themselves, and the sums of the sound descriptions give the scaling;
the record of round 0 says who they were. Later these sites are asked to describe themselves as they did then, and a
quorum of them is enough to go on.
"""

from typing import Any

from sarco_models.errors import QuorumLost, RunError
from sarco_models.summaries import Moments, TableScaling, agreed_scaling
from sarco_models.wire import Described, Ready, Setup
from server.evaluation import Central
from server.failures import in_words
from server.federation import Federation
from server.members import Membership, misnamed
from server.replies import description_fault


def agree(federation: Federation, central: Central | None) -> tuple[TableScaling, Setup]:
    """Bring the members together, and give each the setup.

    A run that begins with a released model keeps the scaling that the model was trained with.

    Returns:
        How tables are scaled, and the setup of all sites.

    Raises:
        QuorumLost: too few sites are there.
        RunError: the run directory was changed, or holds a run of an earlier version whose sites are others now.
    """
    run, membership = federation.run, federation.membership
    first = next(iter(run.records()), None)
    if first and "members" in first:
        membership.restore(first["members"], f"{run.folder / 'rounds'}")
        moments = run.agreed
    else:
        described = descriptions(federation)
        moments = run.agreed if run.begun else _sum(described)
        if first:
            _require_same_people(federation, first, described)
        federation.admit(described)
    setup = membership.setup = Setup(run.study.digest, run.frozen, moments)
    if first and first["setup"] != setup.digest:
        raise RunError(
            f"{run.folder}: agreed.npz or frozen.safetensors is not what the run began with: restore it, or start "
            "another run"
        )
    scaling = agreed_scaling(run.study, moments)
    if central:
        central.agree(scaling)
    federation.gather(0, 1, federation.study.federation.min_sites, set(federation.members))
    if first and "members" in first:
        membership.ready = set(membership.members)  # who has lost it since says so, and is given it again
    else:
        failures = _set_up(federation, setup)
        if first is None:
            federation.absent |= failures
            _record_start(federation, central, setup)
    return scaling, setup


def descriptions(federation: Federation) -> dict[int, Described]:
    """Sound descriptions, by node; the others are noted as absent.

    Raises:
        QuorumLost: too few sites are there, or too few describe themselves soundly.
    """
    _wait(federation)
    phase = "plan" if federation.study.unplanned else "describe"
    federation.live.phase(phase, seconds=federation.study.federation.round_deadline_s)
    described, failures = federation.meet()
    names, nodes = [d.site for d in described.values()], federation.membership.nodes
    for node in set(nodes) - set(described):
        nodes[node].refused = failures.get(nodes[node].label, "")
    for node, description in list(described.items()):
        fault = description_fault(description, federation.study, names)
        if node in nodes:
            fault = misnamed(nodes[node], description) or fault
        if fault:
            name = ""
            if node in nodes:
                name, nodes[node].refused = nodes[node].name, fault
            failures[name or f"node {node} ({description.site[:80]})"] = fault
            del described[node]
    federation.require_quorum(len(described), failures, phase)
    federation.absent |= failures
    return described


def _set_up(federation: Federation, setup: Setup) -> dict[str, str]:
    """Give every member that is there the setup; returns what became of the others, who are given it when they come."""
    federation.live.phase("setup", seconds=federation.study.federation.round_deadline_s)
    ready, failures = federation.ask(dict.fromkeys(federation.members, setup), Ready, _named_rightly)
    federation.require_quorum(len(ready), failures, "setup")
    return failures


def _named_rightly(reply: Ready, member: Any) -> str:
    return "" if reply.site == member.site else f"answers in the name of {reply.site[:80]}"


def _wait(federation: Federation) -> None:
    """Until there are enough nodes, and a little longer for those that the coordinator expects by name."""
    cfg, needed = federation.run.coordinator, federation.study.federation.min_sites
    federation.live.phase("waiting", seconds=cfg.wait_for_sites_s)
    if not federation.wait_until(lambda membership: len(membership.nodes) >= needed, cfg.wait_for_sites_s):
        raise QuorumLost(
            f"{len(federation.membership.nodes)} sites are connected after {cfg.wait_for_sites_s:g} s; min_sites = "
            f"{needed}: start the missing sites and run the same command again"
        )

    def missing(membership: Membership) -> set[str]:
        return membership.left_of(cfg.expected) - {node.name for node in membership.nodes.values()}

    if missing(federation.membership):
        federation.live.phase("waiting", seconds=cfg.grace_s)
        for site in sorted(missing(federation.membership)):
            federation.live.site(site, "away", in_words(federation.membership.absence(site)))
        federation.wait_until(lambda membership: not missing(membership), cfg.grace_s)
    absent = set(cfg.expected) - {node.name for node in federation.membership.nodes.values()}
    federation.absent |= {site: federation.membership.absence(site) for site in sorted(absent)}


def _sum(described: dict[int, Described]) -> Moments:
    ordered = sorted(described.values(), key=lambda d: d.site)
    return sum((d.moments for d in ordered[1:]), start=ordered[0].moments)


def _require_same_people(federation: Federation, first: dict[str, Any], described: dict[int, Described]) -> None:
    """Runs of an earlier version know the sum over all sites only, so that all must be there."""
    run = federation.run
    if first.get("described", first["setup"]) != Setup(run.study.digest, run.frozen, _sum(described)).digest:
        raise RunError(
            f"{run.folder}: the sites describe themselves otherwise than when the run began "
            f"(then: {', '.join(first['sites'])}; now: {', '.join(sorted(d.site for d in described.values()))}): "
            "bring back the same sites with the same tables, or start another run"
        )


def _record_start(federation: Federation, central: Central | None, setup: Setup) -> None:
    """Round 0: who takes part, and how good the starting weights are."""
    run, members = federation.run, federation.members
    record = {
        "sites": {m.site: {"participants": m.participants, "training": m.training} for m in members.values()},
        "members": federation.membership.to_record(),
        "central": central.metrics(run.parameters_after(0)) if central else {},
        "prevalence": federation.prevalence,
        "setup": setup.digest,
        "failures": federation.absent,
        **federation.taken(),
        "seconds": 0.0,
    }
    run.agree(setup.moments)
    run.record(0, record, None)
