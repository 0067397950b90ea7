"""The sites of a run, and the one way to ask them something: all at once, until a deadline, and every failure named.

One loop over Flower's Grid sends and collects (:mod:`server.errands`). A message lives as long as the deadline of the
turn that it belongs to, so that no site works on a round that is over; a site that has not answered is sent nothing
else before its message has expired; an answer that comes later is noted and not used. What Flower reports as lost is
lost at once, not at the deadline, and so is what was asked of a site that was revoked or has left; a reply that is
stuck on its way holds up no other (:mod:`server.fetching`). Sites that connect in the middle of a turn are greeted and
asked, too.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flwr.serverapp import Grid

from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost
from sarco_models.wire import Describe, Described, Reply, Request
from server.departures import Absences
from server.errands import Errand, Errands
from server.failures import NO_ANSWER, in_words, state_of, when_asked
from server.heads import named
from server.live import Live
from server.looking import Looking
from server.members import Member, Membership
from server.runs import Run
from server.turns import Asking, Failed, Meeting, R, Turn

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Between two looks at who is connected."""
_SLOWEST_POLL_S = 1.0


@dataclass
class Federation:
    """The sites of a run, as they described themselves.

    Attributes:
        grid: Flower's, or one in this process.
        run: where everything is recorded.
        membership: who takes part, and who is connected.
        live: what is told of the present.
        absent: connected sites that take no part, and why.
        errands: what is on its way; late answers and traffic since the last record.
    """

    grid: Grid
    run: Run
    membership: Membership = field(default_factory=Membership)
    live: Live = field(init=False)
    absent: dict[str, str] = field(default_factory=dict)
    errands: Errands = field(init=False)
    _looked: float = -_LOOK_S
    _looking: Looking = field(init=False)

    def __post_init__(self) -> None:
        """Nothing was told yet, and nothing sent."""
        self.errands = Errands(self.grid, self.run.folder)
        cfg = self.study.federation
        self.live = Live(self.run.folder, rounds=cfg.rounds, needed=cfg.min_sites)
        absences = Absences.of_run(self.run.folder)
        self._looking = Looking(
            lambda: self.grid.get_nodes(), self.membership, absences, self.live, cfg.round_deadline_s
        )
        self.membership.model.on = cfg.compression == "zstd"

    @property
    def study(self) -> StudyConfig:
        """The study of the run."""
        return self.run.study

    @property
    def members(self) -> Mapping[str, Member]:
        """Who takes part, by name and in the order of the names."""
        return self.membership.members

    @property
    def prevalence(self) -> float:
        """Share of positives among all members' training participants; a half where muscles are found."""
        return 0.5 if self.study.segments else self.membership.prevalence

    def meet(self) -> tuple[dict[int, Described], dict[str, str]]:
        """Let everybody who is connected describe themselves: by node, and why the others did not."""
        meeting = Meeting(self.study.digest)
        for sent in self._converse(meeting):
            meeting.failures[sent.node.label] = NO_ANSWER
        return meeting.described, meeting.failures

    def admit(self, described: Mapping[int, Described]) -> None:
        """Begin the run with these sites."""
        self.membership.admit(described)
        for node, description in sorted(described.items()):
            named(self.run.folder, node, description.site)

    def ask(
        self,
        requests: Mapping[str, Request],
        kind: type[R],
        check: Callable[[R, Member], str] = lambda reply, member: "",
        needed: int = 0,
    ) -> tuple[dict[str, R], dict[str, str]]:
        """Ask members, and wait until all that are connected have answered or the deadline has passed.

        Args:
            requests: member -> question.
            kind: of the answers; another is refused.
            check: says what is wrong with an answer, or an empty sentence.
            needed: so many answers; nobody is waited for where so many were revoked that they cannot come.

        Returns:
            Sound answers by member, and for every other member, and connected stranger, what became of it.
        """
        asking = Asking(self.study.digest, self.membership, requests, kind, check, needed)
        waiting = self._converse(asking)
        for sent in waiting:
            self.membership.forget(sent.node.id)
        asking.left_open({sent.site or sent.node.name for sent in waiting})
        for name, reason in asking.failures.items():
            self.live.site(name, state_of(reason), in_words(reason))
        self.live.flush(at_once=True)
        return dict(sorted(asking.replies.items())), asking.failures

    def wait_until(
        self, enough: Callable[[Membership], bool], seconds: float, impossible: Callable[[], None] = lambda: None
    ) -> bool:
        """Wait for sites to connect, no longer than so many seconds; returns whether there are enough.

        ``impossible`` raises where they cannot come; it is called at each look that finds too few.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._look(at_once=True)
            if enough(self.membership):
                return True
            impossible()
            if time.monotonic() > deadline:
                return False
            self.live.flush()
            time.sleep(self.run.coordinator.poll_s)

    def gather(self, round_: int, attempt: int, needed: int, sites: set[str]) -> bool:
        """Wait until this many of these members are connected; returns whether there was any waiting.

        Raises:
            QuorumLost: they are not, after as long as the coordinator waits.
            ShutOut: so many were revoked that they cannot come.
        """
        if needed <= 0 or self._reachable(sites) >= needed:
            return False

        def impossible() -> None:
            if len(self.membership.left_of(sites)) < needed:
                raise self.membership.too_few(f"round {round_}", self.study.federation.min_sites)
            self._looking.tell_absent(sites)

        seconds = self.run.coordinator.wait_for_sites_s
        self.live.phase("waiting", round_=round_, attempt=attempt, seconds=seconds)
        self._looking.tell_absent(sites, anew=True)
        if not self.wait_until(lambda membership: membership.reachable(sites) >= needed, seconds, impossible):
            raise QuorumLost(
                f"round {round_}: {self._reachable(sites)} of {', '.join(sorted(sites))} are connected after "
                f"{seconds:g} s{self._looking.who_left(sites)}; {needed} of them must answer (min_sites = "
                f"{self.study.federation.min_sites}): start the missing sites and run the same command again; it goes "
                "on from the last complete round"
            )
        return True

    def _reachable(self, sites: set[str]) -> int:
        self._look(at_once=True)
        return self.membership.reachable(sites)

    def pause(self) -> None:
        """Before something is tried again."""
        time.sleep(self.run.coordinator.retry_s)

    def require_quorum(self, count: int, failures: Mapping[str, str], what: str) -> None:
        """Raise QuorumLost where fewer sites answered usably than the study asks for; ShutOut where no more can."""
        needed = self.study.federation.min_sites
        if count < needed and self.members and len(self.membership.left_of(self.members)) < needed:
            raise self.membership.too_few(what, needed)
        if count < needed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items()) or "no site answered"
            raise QuorumLost(
                f"{what}: {count} sites answered usably, min_sites = {needed} ({reasons}): mend these sites and run "
                "the same command again; it goes on from the last complete round"
            )

    def taken(self) -> dict[str, int]:
        """Traffic since it was last asked for."""
        taken = dict(self.errands.traffic)
        self.errands.traffic.update(bytes_down=0, bytes_up=0)
        return taken

    def latecomers(self) -> dict[str, str]:
        """Sites that answered when nobody waited any more, since it was last asked for."""
        late, self.errands.late = self.errands.late, {}
        return late

    # ---- the loop over the grid --------------------------------------------------------------------------------------

    def _converse(self, turn: Turn) -> list[Errand]:
        """Send and collect until nobody has anything left to say, or the deadline; returns what was never answered."""
        began = time.monotonic()
        deadline = began + self.study.federation.round_deadline_s
        self._look(at_once=True)
        while True:
            self._look()
            self._give_up(turn)
            self._send(turn, deadline)
            took = self._collect(turn, deadline)
            self.live.flush()
            waiting = self.errands.waiting(turn)
            now = time.monotonic()
            more = waiting or took or (self._looking.blind and turn.wants())
            if now >= deadline or turn.hopeless() or not more:
                return waiting
            if not took:
                # The longer it takes, the less a late look matters: two hundredths of the time, at most a second.
                pause = max(self.run.coordinator.poll_s, min(_SLOWEST_POLL_S, (now - began) / 50))
                time.sleep(min(pause, deadline - now))

    def _look(self, *, at_once: bool = False) -> None:
        """Who is connected, if the last look is some time ago; a SuperLink that has failed is given that time, too."""
        if (at_once and not self._looking.blind) or time.monotonic() - self._looked >= _LOOK_S:
            self._looking.look()
            self._looked = time.monotonic()

    def _give_up(self, turn: Turn) -> None:
        """Wait no longer for what will not come: of a hospital that was shut out, or that has left."""
        for sent, why in self.errands.give_up(turn, lambda sent: self.membership.silent(sent.node, sent.name)):
            outcome = Failed(when_asked(why), lost=sent.name not in self.membership.revoked)
            turn.take(sent.node, sent.request, outcome)
            self._tell(sent, outcome)
        for name, why in turn.learned().items():
            self.live.site(name, state_of(why), in_words(why))

    def _send(self, turn: Turn, deadline: float) -> None:
        """Send every node that is free what it gets next."""
        if time.monotonic() >= deadline:
            return
        busy = self.errands.busy()
        free = [node for node in self.membership.nodes.values() if node.id not in busy]
        questions = [(node, request) for node in free if (request := turn.next(node)) is not None]
        for sent in self.errands.send(turn, questions, deadline):
            self.live.site(sent.label, "asked")

    def _collect(self, turn: Turn, deadline: float) -> bool:
        """Take what has come; returns whether anything has."""
        found, took = self.errands.collect(turn, deadline)
        for sent, outcome in found:
            turn.take(sent.node, sent.request, outcome)
            self._tell(sent, outcome)
            if isinstance(turn, Asking) and isinstance(sent.request, Describe) and sent.node.site:
                named(self.run.folder, sent.node.id, sent.node.site)
        return took

    def _tell(self, sent: Errand, outcome: Reply | Failed) -> None:
        """Let whoever looks on see what came."""
        label = sent.site or sent.node.label
        if label != sent.label:  # a node has said its name
            self.live.drop(sent.label)
        if not isinstance(outcome, Failed):
            self.live.site(label, "answered")
        else:
            self.live.site(label, state_of(outcome.reason), in_words(outcome.reason))
