"""The loop over the Grid: ask, check every reply, quorum, deadline, aggregate, record, checkpoint."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from flwr.serverapp import Grid

from sarco_models.errors import QuorumLost, RunError
from sarco_models.parameters import Parameters
from sarco_models.summaries import TableScaling, agreed_scaling
from sarco_models.wire import Describe, Described, Ready, Setup, Train, Trained
from server.evaluation import Central
from server.federation import Federation as Federation
from server.finishing import assess, probe, release
from server.heads import named
from server.leakage import read_leakage
from server.replies import description_fault, training_fault
from server.runs import Run
from server.secure_sum import Answers, secure_round
from server.strategies import aggregate, build_strategy, restore, state_of

log = logging.getLogger(__name__)


def run_study(grid: Grid, run: Run) -> None:
    """Run a study from its last complete round to the released model, its assessment and its probing by the sites.

    A run that has all three is left as it is.

    Raises:
        QuorumLost: too few sites answered; the same command goes on from the last complete round.
        RunError: the sites are others, or have other people, than when the run began.
    """
    if run.released and run.assessments is not None and read_leakage(run.folder):
        return
    run.sweep()
    federation = Federation(grid, run)
    central = None if run.released else Central.open(run)
    scaling, setup = _agree(federation)
    if central:
        central.agree(scaling)
    if run.records():
        _require_same_people(federation)
    else:
        _record_start(federation, central, setup)
    if not run.released:
        parameters = _train(federation, central, setup.digest)
        release(federation, setup, scaling, parameters)
    if run.assessments is None:
        assess(federation, setup.digest)
    probe(federation, setup.digest)


def _train(federation: Federation, central: Central | None, setup_digest: str) -> Parameters:
    """All rounds that are not complete yet; returns the parameters after the last."""
    run, strategy = federation.run, build_strategy(federation.study)
    done = len(run.records()) - 1
    parameters = run.parameters_after(done)
    restore(strategy, run.state_after(done))
    # Round k is written while the sites train round k + 1: a checkpoint costs the run nothing, and a crash one round.
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for round_ in range(done + 1, run.study.federation.rounds + 1):
            started = time.monotonic()
            request = Train(run.study.digest, setup_digest, round_, parameters)
            ask = secure_round if run.study.federation.secure_aggregation else _plain_round
            good, sites, failures = ask(federation, request)
            if written:
                written.result()
            federation.require_quorum(len(sites), failures, f"round {round_}")
            parameters = aggregate(strategy, round_, good, parameters)
            record = {
                "sites": sites,
                "central": central.metrics(parameters) if central else {},
                "failures": failures,
                **federation.taken(),
                "seconds": time.monotonic() - started,
            }
            written = writer.submit(run.record, round_, record, parameters, state_of(strategy))
            log.info("round %d of %d: %d sites", round_, run.study.federation.rounds, len(sites))
        if written:
            written.result()
    return parameters


def _require_same_people(federation: Federation) -> None:
    run, first = federation.run, federation.run.records()[0]
    if first.get("described", first["setup"]) != federation.described:
        raise RunError(
            f"{run.folder}: the sites describe themselves otherwise than when the run began "
            f"(then: {', '.join(first['sites'])}; now: {', '.join(d.site for d in federation.sites.values())}): "
            "bring back the same sites with the same tables, or start another run"
        )


def _record_start(federation: Federation, central: Central | None, setup: Setup) -> None:
    """Round 0: who takes part, and how good the starting weights are."""
    run = federation.run
    record = {
        "sites": {d.site: {"participants": d.participants, "training": d.training} for d in federation.sites.values()},
        "central": central.metrics(run.parameters_after(0)) if central else {},
        "prevalence": federation.prevalence,
        "setup": setup.digest,
        "described": federation.described,
        "failures": federation.absent,
        **federation.taken(),
        "seconds": 0.0,
    }
    run.agree(setup.moments)
    run.record(0, record, None)


def _agree(federation: Federation) -> tuple[TableScaling, Setup]:
    """Describe rounds: who is there, how many people, and the scaling that all sites use from now on.

    A run that begins with a released model keeps the scaling that the model was trained with.
    """
    nodes = _wait_for_sites(federation)
    study, run = federation.study, federation.run
    described, failures = federation.ask({node: Describe(study.digest) for node in nodes}, Described)
    names = [d.site for d in described.values()]
    for node, description in list(described.items()):
        fault = description_fault(description, study, names)
        if fault:
            failures[f"node {node} ({description.site})"] = fault
            del described[node]
    federation.sites = dict(sorted(described.items(), key=lambda item: item[1].site))
    for node, description in federation.sites.items():
        named(run.folder, node, description.site)
    federation.require_quorum(len(described), failures, "describe")
    federation.absent |= failures
    moments = run.agreed if run.begun else federation.moments
    setup = Setup(study.digest, run.frozen, moments)
    ready, failures = federation.ask(dict.fromkeys(federation.sites, setup), Ready)
    federation.sites = {n: d for n, d in federation.sites.items() if n in ready and ready[n].setup == setup.digest}
    federation.require_quorum(len(federation.sites), failures, "setup")
    federation.absent |= failures
    return agreed_scaling(study, moments), setup


def _wait_for_sites(federation: Federation) -> list[int]:
    """Nodes that are connected, once there are enough of them; the wait is bounded."""
    cfg = federation.run.coordinator
    needed = federation.study.federation.min_sites
    deadline = time.monotonic() + cfg.wait_for_sites_s
    while len(nodes := sorted(federation.grid.get_node_ids())) < needed:
        if time.monotonic() > deadline:
            raise QuorumLost(
                f"{len(nodes)} sites are connected after {cfg.wait_for_sites_s:g} s; min_sites = {needed}: "
                "start the missing sites and run the same command again"
            )
        time.sleep(cfg.poll_s)
    return nodes


def _plain_round(federation: Federation, request: Train) -> Answers:
    """Every site's own parameters."""
    replies, failures = federation.ask(dict.fromkeys(federation.sites, request), Trained)
    good = _checked(federation, replies, request.round, failures)
    return good, {r.site: {"participants": r.participants, **r.metrics} for r in good}, failures


def _checked(
    federation: Federation, replies: Mapping[int, Trained], round_: int, failures: dict[str, str]
) -> list[Trained]:
    """Replies that may enter the average, in the order of the sites; the others are recorded under the site's name."""
    good = []
    for node, reply in replies.items():
        fault = training_fault(reply, federation.sites[node], round_, federation.run.manifest)
        if fault:
            failures[federation.sites[node].site] = fault
        else:
            good.append(reply)
    return sorted(good, key=lambda reply: reply.site)
