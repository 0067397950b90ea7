"""A study from its last complete round to its end: agree, train round by round, release, assess, probe.

A round counts with a quorum of sound replies. One that falls short is repeated as often as the study says, after a wait
for sites to come back; who has answered is not asked again, and every attempt that failed stands in the round's record.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flwr.serverapp import Grid

from sarco_models.errors import ProtocolError, QuorumLost, SarcoError, ShutOut
from sarco_models.parameters import Parameters
from sarco_models.wire import Train, Trained, Updated, expanded
from server.agreement import agree
from server.evaluation import Central
from server.federation import Federation as Federation
from server.finishing import assess, probe, release
from server.leakage import read_leakage
from server.live import Live, alone, read_live
from server.members import Member
from server.plan_file import is_planned
from server.planning import agree_plan
from server.replies import METRICS, length_of_update, too_long, training_fault
from server.runs import Run, cannot_write
from server.secure_sum import secure_round
from server.strategies import aggregate, build_strategy, restore, state_of

log = logging.getLogger(__name__)


def run_study(grid: Grid, run: Run) -> None:
    """Run a study from its last complete round to the released model, its assessment and its probing by the sites.

    A run that has all three is left as it is. Of a study whose network has no plan yet, the plan is all there is to do.

    Raises:
        QuorumLost: too few sites answered; the same command goes on from the last complete round.
        RunError: another process works on this run; its directory cannot be written; or the sites are others, or have
            other people, than when the run began.
    """
    with alone(run.folder):
        if is_planned(run.folder) or (run.released and run.assessments is not None and read_leakage(run.folder)):
            _told_done(run)
            return
        federation = Federation(grid, run)
        try:
            with cannot_write(run.folder):
                run.sweep()
                _run(federation)
        except SarcoError as error:
            federation.live.ended(str(error))
            raise
        except Exception as error:  # not SystemExit: a process that is ended is a death, and is started again
            federation.live.ended(f"the run broke off: {type(error).__name__}")
            raise
        federation.live.ended()


def _told_done(run: Run) -> None:
    """Say that a run is complete, where its process died just before its last word."""
    if (read_live(run.folder) or {}).get("phase") != "done":
        cfg = run.study.federation
        Live(run.folder, rounds=cfg.rounds, needed=cfg.min_sites).phase("done", round_=cfg.rounds)


def _run(federation: Federation) -> None:
    run = federation.run
    if run.study.unplanned:
        agree_plan(federation)
        return
    central = None if run.released else Central.open(run)
    scaling, setup = agree(federation, central)
    if not run.released:
        parameters = _train(federation, central, setup.digest)
        release(federation, setup, scaling, parameters)
    if run.assessments is None:
        assess(federation, setup.digest)
    probe(federation, setup.digest)


def _train(federation: Federation, central: Central | None, setup_digest: str) -> Parameters:
    """All rounds that are not complete yet; returns the parameters after the last."""
    run, strategy = federation.run, build_strategy(federation.study)
    records = run.records()
    done, metrics, longest = len(records) - 1, metrics_sent(records), longest_updates(records)
    parameters = run.parameters_after(done)
    restore(strategy, run.state_after(done))
    # Round k is written while the sites train round k + 1: a checkpoint costs the run nothing, and a crash one round.
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for round_ in range(done + 1, run.study.federation.rounds + 1):
            started = time.monotonic()
            work = Round(federation, Train(run.study.digest, setup_digest, round_, parameters), metrics, longest)
            good = work.answers()
            if written:
                written.result()
            parameters = aggregate(strategy, round_, good, parameters)
            record = {
                "sites": work.told,
                "update_lengths": work.lengths,
                "central": central.metrics(parameters) if central else {},
                "failures": work.failures,
                "attempts": work.attempts,
                "late": federation.latecomers(),
                **federation.taken(),
                "seconds": time.monotonic() - started,
            }
            longest = longest_updates([{"update_lengths": longest}, record])
            written = writer.submit(run.record, round_, record, parameters, state_of(strategy))
            log.info("round %d of %d: %d sites", round_, run.study.federation.rounds, len(work.told))
        if written:
            written.result()
    return parameters


def metrics_sent(records: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Site -> names of the metrics that it sent in the first of these rounds that it counted in."""
    found: dict[str, frozenset[str]] = {}
    for record in records:
        for site, told in record["sites"].items() if record.get("round") != 0 else ():
            found.setdefault(site, frozenset(told) - {"participants"})
    return found


def longest_updates(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Site -> length of the longest of its updates that counted in these rounds.

    Rounds of fewer than three sites say nothing: nobody was held against anybody there (:func:`too_long`).
    """
    found: dict[str, float] = {}
    for record in records:
        lengths = record.get("update_lengths", {})
        for site, length in lengths.items() if len(lengths) >= 3 else ():
            found[site] = max(length, found.get(site, 0.0))
    return found


@dataclass
class Round:
    """One round of training, over its attempts.

    Attributes:
        federation: whose members are asked.
        request: of the round.
        metrics: site -> names of the metrics in the first reply of it that could be read; shared by all rounds.
        longest: site -> length of the longest of its updates that counted in earlier rounds of three sites or more.
        lengths: site -> length of its update, in plain sight.
        told: site -> participants and metrics, of those that count.
        failures: site -> why it does not count.
        attempts: those that fell short: which sites had answered, and what became of the others.
    """

    federation: Federation
    request: Train
    metrics: dict[str, frozenset[str]] = field(default_factory=dict)
    longest: Mapping[str, float] = field(default_factory=dict)
    lengths: dict[str, float] = field(default_factory=dict)
    told: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    _good: dict[str, Trained] = field(default_factory=dict)

    def answers(self) -> list[Trained]:
        """What the strategy joins, in the order of the sites' names.

        Raises:
            QuorumLost: the last attempt fell short, too; or so many were revoked that no attempt can do better.
        """
        cfg = self.federation.study.federation
        for attempt in range(1, cfg.round_attempts + 1):
            try:
                return self._attempt(attempt)
            except QuorumLost as lost:
                if attempt == cfg.round_attempts or isinstance(lost, ShutOut):
                    raise
                log.warning("attempt %d of %d: %s", attempt, cfg.round_attempts, lost)
                self.attempts.append({"sites": sorted(self._good), "failures": self.failures or {"sum": str(lost)}})
                self.federation.pause()
        raise AssertionError("round_attempts is 1 or more")

    def _attempt(self, attempt: int) -> list[Trained]:
        federation, round_ = self.federation, self.request.round
        cfg = federation.study.federation
        self.failures = {}
        federation.live.phase("round", round_=round_, attempt=attempt, seconds=cfg.round_deadline_s)
        left = set(federation.members) - set(self._good)
        if federation.gather(round_, attempt, cfg.min_sites - len(self._good), left):
            federation.live.phase("round", round_=round_, attempt=attempt, seconds=cfg.round_deadline_s)
        if cfg.secure_aggregation:
            good, self.told, self.failures = secure_round(federation, self.request)
        else:
            good = self._in_plain_sight()
        federation.require_quorum(len(self.told), self.failures, f"round {round_}")
        return good

    def _in_plain_sight(self) -> list[Trained]:
        """Every site's own parameters; who answered in an earlier attempt is not asked again."""
        asked = [site for site in self.federation.members if site not in self._good]
        kind: type[Trained | Updated] = Updated if self.federation.study.federation.encoded else Trained
        for site in self._good:
            self.federation.live.site(site, "answered")
        needed = self.federation.study.federation.min_sites - len(self._good)
        requests = dict.fromkeys(asked, self.request)
        _, self.failures = self.federation.ask(requests, kind, self._fault, needed)
        ratio = self.federation.study.federation.max_update_ratio
        for site, fault in too_long(self.lengths, ratio, self.longest).items():
            self.failures[site] = fault
            del self._good[site], self.lengths[site]
        good = [self._good[site] for site in sorted(self._good)]
        self.told = {r.site: {"participants": r.participants, **r.metrics} for r in good}
        return good

    def _fault(self, reply: Trained | Updated, member: Member) -> str:
        """What is wrong with a reply; one that is sound is kept, as parameters."""
        encoding = self.federation.study.federation.encoding
        if isinstance(reply, Updated) and reply.update.encoding != encoding:
            return f"an update in {reply.update.encoding}; the study's is {encoding}"
        try:
            trained = expanded(reply, self.request.parameters)
        except ProtocolError as error:
            return f"unreadable update: {error}"
        length = length_of_update(trained, self.request)
        before = self.metrics.setdefault(member.site, frozenset(trained.metrics) & frozenset(METRICS))
        fault = training_fault(trained, member, self.request, length, before)
        if not fault:
            self._good[member.site], self.lengths[member.site] = trained, length
        return fault
