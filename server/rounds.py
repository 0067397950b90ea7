"""The loop over the Grid: ask, check every reply, quorum, deadline, aggregate, record, checkpoint."""

import dataclasses
import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.decisions import ScoreHistogram, choose_threshold
from sarco_models.errors import QuorumLost, RunError, SarcoError, UndefinedMetric
from sarco_models.metrics import roc_curve
from sarco_models.parameters import Parameters
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, TableScaling, agreed_scaling
from sarco_models.wire import (
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
from server.runs import Run
from server.strategies import aggregate, build_strategy

log = logging.getLogger(__name__)
R = TypeVar("R", Described, Ready, Trained, Evaluated)


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
    """Run a study from its last complete round to the released model; a released run is left as it is.

    Raises:
        QuorumLost: too few sites answered; the same command goes on from the last complete round.
    """
    if run.released:
        return
    run.sweep()
    federation = Federation(grid, run)
    central = Central.open(run)
    scaling, setup = _agree(federation)
    if central:
        central.agree(scaling)
    strategy, setup_digest = build_strategy(run.study), setup.digest
    records = run.records()
    if not records:
        _record_start(federation, central, setup_digest)
    elif records[0]["setup"] != setup_digest:
        raise RunError(
            f"{run.folder}: the sites describe themselves otherwise than when the run began "
            f"(then: {', '.join(records[0]['sites'])}; now: {', '.join(d.site for d in federation.sites.values())}): "
            "bring back the same sites with the same tables, or start another run"
        )
    done = len(run.records()) - 1
    parameters = run.parameters_after(done)
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
            parameters = aggregate(strategy, round_, good)
            record = {
                "sites": {r.site: {"participants": r.participants, **r.metrics} for r in good},
                "central": central.metrics(parameters) if central else {},
                "failures": failures,
                **_taken(federation),
                "seconds": time.monotonic() - started,
            }
            written = writer.submit(run.record, round_, record, parameters)
            log.info("round %d of %d: %d sites", round_, run.study.federation.rounds, len(good))
        if written:
            written.result()
    _release(federation, setup, scaling, parameters)


def _record_start(federation: Federation, central: Central | None, setup_digest: str) -> None:
    """Round 0: who takes part, and how good the starting weights are."""
    run = federation.run
    record = {
        "sites": {d.site: {"participants": d.participants, "training": d.training} for d in federation.sites.values()},
        "central": central.metrics(run.parameters_after(0)) if central else {},
        "prevalence": federation.prevalence,
        "setup": setup_digest,
        "failures": federation.absent,
        **_taken(federation),
        "seconds": 0.0,
    }
    run.record(0, record, None)


def _agree(federation: Federation) -> tuple[TableScaling, Setup]:
    """Describe rounds: who is there, how many people, and the scaling that all sites use from now on."""
    nodes = _wait_for_sites(federation)
    study, run = federation.study, federation.run
    described, failures = federation.ask({node: Describe(study.digest) for node in nodes}, Described)
    names = [d.site for d in described.values()]
    for node, description in list(described.items()):
        fault = _description_fault(description, study, names)
        if fault:
            failures[f"node {node} ({description.site})"] = fault
            del described[node]
    federation.sites = dict(sorted(described.items(), key=lambda item: item[1].site))
    _require_quorum(federation, len(described), failures, "describe")
    federation.absent |= failures
    setup = Setup(study.digest, run.frozen, federation.moments)
    ready, failures = federation.ask(dict.fromkeys(federation.sites, setup), Ready)
    federation.sites = {n: d for n, d in federation.sites.items() if n in ready and ready[n].setup == setup.digest}
    _require_quorum(federation, len(federation.sites), failures, "setup")
    federation.absent |= failures
    return agreed_scaling(study, federation.moments), setup


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


def _description_fault(described: Described, study: StudyConfig, names: Sequence[str]) -> str:
    """Why a site cannot take part; empty when it can."""
    columns = len(design_columns(study.features))
    if not study.label.allow_mixed_rules and described.label_rule != study.label.rule:
        return f"label rule {described.label_rule}; the study asks for {study.label.rule}"
    if names.count(described.site) > 1:
        return "another node has the same name"
    if not 0 < described.training_positive < described.training <= described.participants:
        return "its counts of participants contradict each other"
    if any(len(getattr(described.moments, f.name)) != columns for f in dataclasses.fields(Moments)):
        return f"its sums are not of the study's {columns} columns"
    inside = (described.moments.count >= 0) & (described.moments.count <= described.training)
    return "" if bool(inside.all()) else "its sums count more people than it has"


def _evaluation_fault(reply: Evaluated, site: Described, bins: int) -> str:
    """What is wrong with a final evaluation; empty when nothing is."""
    counts = (reply.histogram.positives, reply.histogram.negatives)
    if reply.site != site.site or reply.participants != site.training:
        return "answers for other people than it described"
    if any(len(c) != bins or int(c.min(initial=0)) < 0 for c in counts):
        return "its histogram is not the study's"
    if [int(c.sum()) for c in counts] != [site.training_positive, site.training - site.training_positive]:
        return "its histogram counts other people than it described"
    bad = [name for name, value in reply.metrics.items() if not math.isfinite(value)]
    return f"metric {bad[0]} is not finite" if bad else ""


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
        fault = _fault(federation.sites[node], reply, round_, federation.run)
        if fault:
            failures[federation.sites[node].site] = fault
        else:
            good.append(reply)
    return sorted(good, key=lambda reply: reply.site)


def _fault(site: Described, reply: Trained, round_: int, run: Run) -> str:
    """What is wrong with a reply; empty when nothing is."""
    if reply.site != site.site:
        return f"answers in the name of {reply.site}"
    if reply.round != round_:
        return f"answers for round {reply.round} instead of {round_}"
    if reply.parameters.manifest != run.manifest:
        return "parameters of another model"
    # One pass over the vector: a NaN or an infinity anywhere makes the sum of squares not finite.
    if not math.isfinite(float(np.dot(reply.parameters.vector, reply.parameters.vector))):
        return "parameters are not finite"
    if reply.participants != site.training:
        return f"weight of {reply.participants} participants; described itself with {site.training}"
    bad = [name for name, value in reply.metrics.items() if not math.isfinite(value)]
    return f"metric {bad[0]} is not finite" if bad else ""


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
        fault = _evaluation_fault(reply, federation.sites[node], run.study.evaluation.histogram_bins)
        if fault:
            failures[federation.sites[node].site] = fault
            del replies[node]
    _require_quorum(federation, len(replies), failures, "final evaluation")
    ordered = sorted(replies.values(), key=lambda r: r.site)
    about: dict[str, Any] = {
        "threshold": freeze_threshold([r.histogram for r in ordered], run.study),
        "prevalence": prevalence,
        "scaling": {"fill": scaling.fill.tolist(), "low": scaling.low.tolist(), "high": scaling.high.tolist()},
        "sites": {r.site: {"participants": r.participants, **r.metrics} for r in ordered},
        "failures": failures,
        **_taken(federation),
    }
    run.release(parameters, about)


def freeze_threshold(histograms: Sequence[ScoreHistogram], study: StudyConfig) -> float | None:
    """Threshold on the probability, by the study's rule, from the sites' histograms; None where none divides them."""
    first, *others = histograms
    try:
        probability, labels = sum(others, start=first).participants()
        cfg = study.evaluation
        return choose_threshold(roc_curve(probability, labels), cfg.threshold_rule, min_sensitivity=cfg.min_sensitivity)
    except UndefinedMetric as error:
        log.warning("no threshold: %s", error)
        return None
