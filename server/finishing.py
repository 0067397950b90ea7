"""After the last round: the threshold is frozen, the model released, assessed by every site, and probed for leakage."""

from typing import Any

from sarco_models.parameters import Parameters
from sarco_models.summaries import TableScaling
from sarco_models.wire import Assess, Assessed, Evaluate, Evaluated, Probe, Probed, Setup
from server.federation import Federation
from server.leakage import write_leakage
from server.probing import probe_fault
from server.replies import assessment_fault, evaluation_fault
from server.threshold import frozen_threshold


def release(federation: Federation, setup: Setup, scaling: TableScaling, parameters: Parameters) -> None:
    """Freeze the threshold on the sites' training participants and write the released model."""
    run, prevalence = federation.run, federation.prevalence
    request = Evaluate(run.study.digest, setup.digest, run.study.federation.rounds, prevalence, parameters)
    replies, failures = federation.ask(dict.fromkeys(federation.sites, request), Evaluated)
    for node, reply in list(replies.items()):
        fault = evaluation_fault(reply, federation.sites[node], run.study.evaluation.histogram_bins)
        if fault:
            failures[federation.sites[node].site] = fault
            del replies[node]
    federation.require_quorum(len(replies), failures, "final evaluation")
    ordered = sorted(replies.values(), key=lambda r: r.site)
    about: dict[str, Any] = {
        **frozen_threshold(ordered, run.study, prevalence),
        "prevalence": prevalence,
        "scaling": {"fill": scaling.fill.tolist(), "low": scaling.low.tolist(), "high": scaling.high.tolist()},
        "sites": {r.site: {"participants": r.participants, **r.metrics} for r in ordered},
        "failures": failures,
        **federation.taken(),
    }
    run.release(parameters, about)


def assess(federation: Federation, setup_digest: str) -> None:
    """Let every site assess the released model on its test participants; who does not costs the run nothing."""
    run, released = federation.run, federation.run.released or {}
    if released["threshold"] is None:
        run.assess({}, {"failures": {"every site": "there is no threshold to assess at"}, **federation.taken()})
        return
    rounds, bins = run.study.federation.rounds, run.study.evaluation.histogram_bins
    request = Assess(run.study.digest, setup_digest, rounds, released["prevalence"], released["threshold"], run.final)
    replies, failures = federation.ask(dict.fromkeys(federation.sites, request), Assessed)
    good = {}
    for node, reply in replies.items():
        name = federation.sites[node].site
        fault = assessment_fault(reply, federation.sites[node], request, bins)
        if fault:
            failures[name] = fault
        else:
            good[name] = reply.evaluation
    run.assess(dict(sorted(good.items())), {"failures": failures, **federation.taken()})


def probe(federation: Federation, setup_digest: str) -> None:
    """Let every site measure how well the released model betrays whom it was trained on; nothing else depends on it."""
    run = federation.run
    request = Probe(run.study.digest, setup_digest, run.study.federation.rounds, run.final)
    replies, failures = federation.ask(dict.fromkeys(federation.sites, request), Probed)
    good = {}
    for node, reply in replies.items():
        name = federation.sites[node].site
        fault = probe_fault(reply, federation.sites[node], rounded=run.study.privacy is not None)
        if fault:
            failures[name] = fault
        else:
            good[name] = reply
    write_leakage(run.folder, good, failures, **federation.taken())
