"""After the last round: the threshold is frozen, the model released, assessed by every site, and probed for leakage."""

from typing import Any

from sarco_models.parameters import Parameters
from sarco_models.summaries import TableScaling
from sarco_models.wire import Assess, Assessed, Evaluate, Evaluated, Measure, Measured, Probe, Probed, Setup
from server.federation import Federation
from server.leakage import write_leakage
from server.measured import measured_fault, write_measured
from server.members import Member
from server.probing import probe_fault
from server.replies import assessment_fault, evaluation_fault
from server.synthetic import is_synthetic
from server.threshold import frozen_threshold
from server.validated import known_of_model, muscles_fault, site_figures


def release(federation: Federation, setup: Setup, scaling: TableScaling, parameters: Parameters) -> None:
    """Freeze the threshold on the sites' training participants and write the released model."""
    run, prevalence = federation.run, federation.prevalence
    request = Evaluate(run.study.digest, setup.digest, run.study.federation.rounds, prevalence, parameters)
    replies, failures = _evaluated(federation, request)
    ordered = [replies[site] for site in sorted(replies)]
    muscles = run.study.segments
    about: dict[str, Any] = {
        **(known_of_model(ordered, run.study) if muscles else frozen_threshold(ordered, run.study, prevalence)),
        "prevalence": prevalence,
        "scaling": {"fill": scaling.fill.tolist(), "low": scaling.low.tolist(), "high": scaling.high.tolist()},
        "sites": {r.site: _figures(r, muscles=muscles) for r in ordered},
        **({"synthetic": is_synthetic(run)} if muscles else {}),
        "failures": failures,
        **federation.taken(),
    }
    run.release(parameters, about)


def _figures(reply: Evaluated, *, muscles: bool) -> dict[str, float]:
    return site_figures(reply) if muscles else {"participants": reply.participants, **reply.metrics}


def _evaluated(federation: Federation, request: Evaluate) -> tuple[dict[str, Evaluated], dict[str, str]]:
    """Evaluations of a quorum, which is waited for and asked again as in a round."""
    cfg, study = federation.study.federation, federation.study

    def fault(reply: Evaluated, member: Member) -> str:
        if study.segments:
            return muscles_fault(reply, member, study)
        return evaluation_fault(reply, member, study.evaluation.histogram_bins)

    good: dict[str, Evaluated] = {}
    failures: dict[str, str] = {}
    for attempt in range(1, cfg.round_attempts + 1):
        left = [site for site in federation.members if site not in good]
        needed = cfg.min_sites - len(good)
        federation.gather(cfg.rounds, attempt, needed, set(left))
        federation.live.phase("evaluate", round_=cfg.rounds, attempt=attempt, seconds=cfg.round_deadline_s)
        found, failures = federation.ask(dict.fromkeys(left, request), Evaluated, fault, needed)
        good |= found
        if len(good) >= cfg.min_sites:
            break
        if attempt < cfg.round_attempts:
            federation.pause()
    federation.require_quorum(len(good), failures, "final evaluation")
    return good, failures


def assess(federation: Federation, setup_digest: str) -> None:
    """Let every site assess the released model on its test participants; who does not costs the run nothing."""
    run, released = federation.run, federation.run.released or {}
    if run.study.segments:
        _measure(federation, setup_digest)
        return
    if released["threshold"] is None:
        run.assess({}, {"failures": {"every site": "there is no threshold to assess at"}, **federation.taken()})
        return
    rounds, bins = run.study.federation.rounds, run.study.evaluation.histogram_bins
    request = Assess(run.study.digest, setup_digest, rounds, released["prevalence"], released["threshold"], run.final)
    federation.live.phase("assess", round_=rounds, seconds=run.study.federation.round_deadline_s)
    replies, failures = federation.ask(
        dict.fromkeys(federation.members, request),
        Assessed,
        lambda reply, member: assessment_fault(reply, member, request, bins),
    )
    good = {site: reply.evaluation for site, reply in replies.items()}
    run.assess(good, {"failures": failures, **federation.taken()})


def _measure(federation: Federation, setup_digest: str) -> None:
    """Let every site measure what the released model finds on its test participants."""
    run = federation.run
    request = Measure(run.study.digest, setup_digest, run.study.federation.rounds, run.final)
    federation.live.phase("assess", round_=run.study.federation.rounds, seconds=run.study.federation.round_deadline_s)
    replies, failures = federation.ask(
        dict.fromkeys(federation.members, request),
        Measured,
        lambda reply, member: measured_fault(reply, member, run.study),
    )
    write_measured(run.folder, replies)
    run.assess({}, {"failures": failures, **federation.taken()})


def probe(federation: Federation, setup_digest: str) -> None:
    """Let every site measure how well the released model betrays whom it was trained on; nothing else depends on it."""
    run = federation.run
    request = Probe(run.study.digest, setup_digest, run.study.federation.rounds, run.final)
    federation.live.phase("probe", round_=run.study.federation.rounds, seconds=run.study.federation.round_deadline_s)
    good, failures = federation.ask(
        dict.fromkeys(federation.members, request),
        Probed,
        lambda reply, member: probe_fault(reply, member, rounded=run.study.privacy is not None),
    )
    write_leakage(run.folder, good, failures, **federation.taken())
