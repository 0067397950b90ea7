"""The loop over the Grid: ask, check every reply, quorum, deadline, aggregate, record, checkpoint."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import RecordDict
from flwr.serverapp import Grid

from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost, RunError, SarcoError
from sarco_models.parameters import Parameters
from sarco_models.summaries import Moments, TableScaling, agreed_scaling
from sarco_models.wire import (
    Assess,
    Assessed,
    Describe,
    Described,
    Evaluate,
    Evaluated,
    Ready,
    Refused,
    Reply,
    Request,
    Setup,
    Train,
    Trained,
)
from server.evaluation import Central
from server.replies import assessment_fault, description_fault, evaluation_fault, training_fault
from server.runs import Run
from server.strategies import aggregate, build_strategy, restore, state_of
from server.threshold import frozen_threshold

log = logging.getLogger(__name__)
R = TypeVar("R", Described, Ready, Trained, Evaluated, Assessed)


@dataclass
class Federation:
    """The sites of a run, as they described themselves.

    Attributes:
        grid: Flower's, or one in this process.
        run: where everything is recorded.
        sites: node -> what the site said of itself.
        absent: connected sites that take no part, and why.
        traffic: bytes down and up since the last record.
    """

    grid: Grid
    run: Run
    sites: dict[int, Described] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=lambda: {"bytes_down": 0, "bytes_up": 0})

    @property
    def study(self) -> StudyConfig:
        """The study of the run."""
        return self.run.study

    @property
    def moments(self) -> Moments:
        """Sums over all sites."""
        first, *others = (d.moments for d in self.sites.values())
        return sum(others, start=first)

    @property
    def described(self) -> str:
        """Digest of the sums over all sites: other people, another digest."""
        return Setup(self.study.digest, self.run.frozen, self.moments).digest

    @property
    def prevalence(self) -> float:
        """Share of positives among all sites' training participants."""
        return sum(d.training_positive for d in self.sites.values()) / sum(d.training for d in self.sites.values())

    def ask(self, requests: Mapping[int, Request], kind: type[R]) -> tuple[dict[int, R], dict[str, str]]:
        """Ask sites, and wait until all have answered or the deadline has passed.

        Returns:
            Replies of the expected kind by node, and for every other site its name and what became of it.
        """
        seconds = self.study.federation.round_deadline_s
        messages = [wire.ask(request, node, seconds=seconds) for node, request in requests.items()]
        self.traffic["bytes_down"] += sum(wire.payload_bytes(m.content) for m in messages)
        pending = dict(zip(self.grid.push_messages(messages), requests, strict=True))
        replies: dict[int, R] = {}
        failures = {node: "no answer before the deadline" for node in requests}
        deadline = time.monotonic() + seconds
        while pending and time.monotonic() < deadline:
            answered = list(self.grid.pull_messages(list(pending)))
            for message in answered:
                node = pending.pop(message.metadata.reply_to_message_id)
                if message.has_error():
                    failures[node] = f"Flower error {message.error.code}"
                    continue
                self.traffic["bytes_up"] += wire.payload_bytes(message.content)
                outcome = _expected(message.content, kind)
                if isinstance(outcome, str):
                    failures[node] = outcome
                else:
                    replies[node] = outcome
                    del failures[node]
            if pending and not answered:
                time.sleep(self.run.coordinator.poll_s)
        return replies, {self._name(node): reason for node, reason in failures.items()}

    def _name(self, node: int) -> str:
        return self.sites[node].site if node in self.sites else f"node {node}"


def run_study(grid: Grid, run: Run) -> None:
    """Run a study from its last complete round to the released model and its assessment by the sites.

    A run that is released and assessed is left as it is.

    Raises:
        QuorumLost: too few sites answered; the same command goes on from the last complete round.
        RunError: the sites are others, or have other people, than when the run began.
    """
    if run.released and run.assessments is not None:
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
        _release(federation, setup, scaling, parameters)
    _assess(federation, setup.digest)


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
            requests = {node: Train(run.study.digest, setup_digest, round_, parameters) for node in federation.sites}
            replies, failures = federation.ask(requests, Trained)
            good = _checked(federation, replies, round_, failures)
            if written:
                written.result()
            _require_quorum(federation, len(good), failures, f"round {round_}")
            parameters = aggregate(strategy, round_, good, parameters)
            record = {
                "sites": {r.site: {"participants": r.participants, **r.metrics} for r in good},
                "central": central.metrics(parameters) if central else {},
                "failures": failures,
                **_taken(federation),
                "seconds": time.monotonic() - started,
            }
            written = writer.submit(run.record, round_, record, parameters, state_of(strategy))
            log.info("round %d of %d: %d sites", round_, run.study.federation.rounds, len(good))
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
        **_taken(federation),
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
    _require_quorum(federation, len(described), failures, "describe")
    federation.absent |= failures
    moments = run.agreed if run.begun else federation.moments
    setup = Setup(study.digest, run.frozen, moments)
    ready, failures = federation.ask(dict.fromkeys(federation.sites, setup), Ready)
    federation.sites = {n: d for n, d in federation.sites.items() if n in ready and ready[n].setup == setup.digest}
    _require_quorum(federation, len(federation.sites), failures, "setup")
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


def _expected(content: RecordDict, kind: type[R]) -> R | str:
    """The reply, or why there is none."""
    try:
        reply: Reply = wire.decode(content)
    except SarcoError as error:
        return f"unreadable reply: {error}"
    if isinstance(reply, Refused):
        return f"refused: {reply.code}"
    return reply if isinstance(reply, kind) else f"answered {type(reply).__name__} instead of {kind.__name__}"


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


def _require_quorum(federation: Federation, count: int, failures: Mapping[str, str], what: str) -> None:
    needed = federation.study.federation.min_sites
    if count < needed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items()) or "no site answered"
        raise QuorumLost(
            f"{what}: {count} sites answered usably, min_sites = {needed} ({reasons}): mend these sites and run the "
            "same command again; it goes on from the last complete round"
        )


def _taken(federation: Federation) -> dict[str, int]:
    """Traffic since it was last asked for."""
    taken = dict(federation.traffic)
    federation.traffic.update(bytes_down=0, bytes_up=0)
    return taken


def _release(federation: Federation, setup: Setup, scaling: TableScaling, parameters: Parameters) -> None:
    """Freeze the threshold on the sites' training participants and write the released model."""
    run, prevalence = federation.run, federation.prevalence
    request = Evaluate(run.study.digest, setup.digest, run.study.federation.rounds, prevalence, parameters)
    replies, failures = federation.ask(dict.fromkeys(federation.sites, request), Evaluated)
    for node, reply in list(replies.items()):
        fault = evaluation_fault(reply, federation.sites[node], run.study.evaluation.histogram_bins)
        if fault:
            failures[federation.sites[node].site] = fault
            del replies[node]
    _require_quorum(federation, len(replies), failures, "final evaluation")
    ordered = sorted(replies.values(), key=lambda r: r.site)
    about: dict[str, Any] = {
        **frozen_threshold(ordered, run.study, prevalence),
        "prevalence": prevalence,
        "scaling": {"fill": scaling.fill.tolist(), "low": scaling.low.tolist(), "high": scaling.high.tolist()},
        "sites": {r.site: {"participants": r.participants, **r.metrics} for r in ordered},
        "failures": failures,
        **_taken(federation),
    }
    run.release(parameters, about)


def _assess(federation: Federation, setup_digest: str) -> None:
    """Let every site assess the released model on its test participants; who does not costs the run nothing."""
    run, released = federation.run, federation.run.released or {}
    if released["threshold"] is None:
        run.assess({}, {"failures": {"every site": "there is no threshold to assess at"}, **_taken(federation)})
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
    run.assess(dict(sorted(good.items())), {"failures": failures, **_taken(federation)})
