"""The sites of a run, and the one way to ask them something: all at once, until a deadline, and every failure named.

One loop over Flower's Grid sends and collects. A message lives as long as the deadline of the turn that it belongs to,
so that no site works on a round that is over; a site that has not answered is sent nothing else before its message has
expired; an answer that comes later is noted and not used. What Flower reports as lost is lost at once, not at the
deadline; a reply that is stuck on its way holds up no other (:mod:`server.fetching`). Sites that connect in the middle
of a turn are greeted and asked, too.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.serverapp import Grid

from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost, SarcoError
from sarco_models.messages import task_of
from sarco_models.wire import Describe, Described, Refused, Reply, Request
from server.departures import Absences
from server.failures import LOST, NO_ANSWER, flower_error, in_words, refused, state_of, when_asked
from server.fetching import Fetching, of_the_line
from server.heads import UNNAMED, named, note
from server.live import Live
from server.looking import Looking
from server.members import Member, Membership, Node
from server.runs import Run
from server.turns import Asking, Failed, Meeting, R, Turn

log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""Between two looks at who is connected."""
_SLOWEST_POLL_S = 1.0
_UNREADABLE = (SarcoError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What comes from outside may be anything: none of it ends a run."""
_KEPT_S = 60.0
"""After its deadline, a message is asked for that long: its answer may come late."""


@dataclass
class _Sent:
    """A message on its way."""

    turn: Turn
    node: Node
    request: Request
    until: float
    site: str = field(init=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        """Whom the node speaks for when it is asked; it may be forgotten before it answers."""
        self.site, self.label = self.node.site, self.node.label


@dataclass
class Federation:
    """The sites of a run, as they described themselves.

    Attributes:
        grid: Flower's, or one in this process.
        run: where everything is recorded.
        membership: who takes part, and who is connected.
        live: what is told of the present.
        absent: connected sites that take no part, and why.
        late: site -> that it answered when nobody waited any more, since the last record.
        traffic: bytes down and up since the last record.
    """

    grid: Grid
    run: Run
    membership: Membership = field(default_factory=Membership)
    live: Live = field(init=False)
    absent: dict[str, str] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=lambda: {"bytes_down": 0, "bytes_up": 0})
    _out: dict[str, _Sent] = field(default_factory=dict)
    _looked: float = -_LOOK_S
    _fetching: Fetching = field(init=False)
    _looking: Looking = field(init=False)

    def __post_init__(self) -> None:
        """Nothing was told yet, and nothing sent."""
        self._fetching = Fetching(lambda ids: self.grid.pull_messages(ids))
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
                f"{seconds:g} s, and {needed} more are needed (min_sites = {self.study.federation.min_sites}): start "
                "the missing sites and run the same command again; it goes on from the last complete round"
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
        taken = dict(self.traffic)
        self.traffic.update(bytes_down=0, bytes_up=0)
        return taken

    def latecomers(self) -> dict[str, str]:
        """Sites that answered when nobody waited any more, since it was last asked for."""
        late, self.late = self.late, {}
        return late

    # ---- the loop over the grid --------------------------------------------------------------------------------------

    def _converse(self, turn: Turn) -> list[_Sent]:
        """Send and collect until nobody has anything left to say, or the deadline; returns what was never answered."""
        began = time.monotonic()
        deadline = began + self.study.federation.round_deadline_s
        self._look(at_once=True)
        while True:
            self._look()
            self._drop_revoked(turn)
            self._send(turn, deadline)
            took = self._collect(turn, deadline)
            self.live.flush()
            waiting = [sent for sent in self._out.values() if sent.turn is turn]
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

    def _drop_revoked(self, turn: Turn) -> None:
        """Wait no longer for a hospital that was shut out: what it was about to send does not come any more."""
        for id_, sent in list(self._out.items()):
            why = self.membership.revoked.get(sent.site or sent.node.name)
            if why and sent.turn is turn:
                del self._out[id_]
                outcome = Failed(when_asked(why))
                turn.take(sent.node, sent.request, outcome)
                self._tell(sent, outcome)

    def _send(self, turn: Turn, deadline: float) -> None:
        """Send every node that is free what it gets next; one content for all who get the same."""
        now = time.monotonic()
        busy = {sent.node.id for sent in self._out.values() if sent.until > now}
        batch: list[tuple[Message, _Sent]] = []
        contents: dict[int, Message] = {}
        for node in list(self.membership.nodes.values()):
            request = turn.next(node) if node.id not in busy and deadline > now else None
            if request is None:
                continue
            first = contents.setdefault(id(request), wire.ask(request, node.id, seconds=deadline - now))
            message = Message(first.content, node.id, first.metadata.message_type, ttl=deadline - now)
            batch.append((message, _Sent(turn, node, request, deadline)))
            self.live.site(node.label, "asked")
        if batch:
            self._push(turn, batch)

    def _push(self, turn: Turn, batch: list[tuple[Message, _Sent]]) -> None:
        self.traffic["bytes_down"] += sum(wire.payload_bytes(message.content) for message, _ in batch)
        why = "a proxy's limit of size?"
        try:
            ids: list[str | None] = list(self.grid.push_messages([message for message, _ in batch]))
        except Exception as error:
            if not of_the_line(error):
                raise
            ids, why = [], type(error).__name__
        ids += [None] * (len(batch) - len(ids))  # Flower answers with nothing where a proxy finds it all too large
        for id_, (_, sent) in zip(ids, batch, strict=True):
            if id_ is None:
                turn.take(sent.node, sent.request, Failed(f"the message could not be sent: {why}"))
            else:
                self._out[id_] = sent

    def _collect(self, turn: Turn, deadline: float) -> bool:
        """Take what has come; returns whether anything has."""
        expired = time.monotonic() - _KEPT_S
        self._out = {id_: sent for id_, sent in self._out.items() if sent.turn is turn or sent.until > expired}
        messages = self._fetching.take(self._out, deadline - time.monotonic()) if self._out else []
        for message in messages:
            sent = self._out.pop(message.metadata.reply_to_message_id, None)
            if sent is None or sent.turn is not turn:
                self._too_late(sent, message)
                continue
            outcome = self._outcome(sent, message)
            turn.take(sent.node, sent.request, outcome)
            self._tell(sent, outcome)
            if isinstance(turn, Asking) and isinstance(sent.request, Describe) and sent.node.site:
                named(self.run.folder, sent.node.id, sent.node.site)
        return bool(messages)

    def _tell(self, sent: _Sent, outcome: Reply | Failed) -> None:
        """Let whoever looks on see what came."""
        label = sent.site or sent.node.label
        if label != sent.label:  # a node has said its name
            self.live.drop(sent.label)
        if not isinstance(outcome, Failed):
            self.live.site(label, "answered")
        else:
            self.live.site(label, state_of(outcome.reason), in_words(outcome.reason))

    def _too_late(self, sent: _Sent | None, message: Message) -> None:
        if sent is not None and not message.has_error():
            self.late[sent.site or sent.node.label] = "answered after the deadline; its answer was not used"

    def _outcome(self, sent: _Sent, message: Message) -> Reply | Failed:
        """The reply, or why there is none; the head of the hospital's audit log that came beside it is kept.

        Before a node has described itself it is known by its number: it could give another's name.
        """
        if message.has_error():
            return Failed(flower_error(message.error.code), lost=message.error.code in LOST)
        name = f"{UNNAMED}{sent.node.id}" if isinstance(sent.request, Describe) else sent.site
        try:
            self.traffic["bytes_up"] += wire.payload_bytes(message.content)
            reply: Reply = wire.decode(message.content)
            head = wire.head_of(message.content)
        except _UNREADABLE as error:
            return Failed(f"unreadable reply: {str(error)[:300]}")
        # A model that was refused as a difference comes whole next: only that one is a round which was answered.
        task = type(sent.request).__name__ if isinstance(reply, Refused) else task_of(sent.request)
        fault = note(self.run.folder, name, task, getattr(sent.request, "round", 0), head)
        if isinstance(reply, Refused):
            return Failed(refused(reply.code))
        return Failed(fault) if fault else reply
