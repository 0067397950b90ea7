"""Messages on their way: what is sent to whom and until when, what comes back, and what is waited for no longer.

A message belongs to one turn and lives until that turn's deadline. Flower's errors, replies that cannot be read and
replies with a wrong head of the audit log all come out as a reason in few words; nothing that comes ends a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid

from sarco_models import wire
from sarco_models.errors import SarcoError
from sarco_models.messages import task_of
from sarco_models.wire import Describe, Refused, Reply, Request
from server.failures import LOST, flower_error, refused
from server.fetching import Fetching, of_the_line, replies_of
from server.heads import UNNAMED, note
from server.members import Node
from server.turns import Failed, Turn

_UNREADABLE = (SarcoError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""What comes from outside may be anything: none of it ends a run."""
_KEPT_S = 60.0
"""After its deadline, a message is asked for that long: its answer may come late."""


@dataclass
class Errand:
    """A message on its way; ``until`` on the monotonic clock.

    Attributes:
        site, label: whom the node spoke for when it was asked; it may be forgotten before it answers.
    """

    turn: Turn
    node: Node
    request: Request
    until: float
    site: str = field(init=False)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        """The node as it is now."""
        self.site, self.label = self.node.site, self.node.label

    @property
    def name(self) -> str:
        """The hospital's, as described or else as enrolled; empty where neither is known."""
        return self.site or self.node.name


@dataclass
class Errands:
    """Everything that one run has on its way.

    Attributes:
        grid: Flower's, or one in this process.
        folder: of the run; heads of audit logs are kept there.
        late: site -> that it answered when nobody waited any more.
        traffic: bytes down and up.
    """

    grid: Grid
    folder: Path
    late: dict[str, str] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=lambda: {"bytes_down": 0, "bytes_up": 0})
    _out: dict[str, Errand] = field(default_factory=dict)
    _fetching: Fetching = field(init=False)

    def __post_init__(self) -> None:
        """Nothing was sent."""
        self._fetching = Fetching(replies_of(self.grid))

    def busy(self) -> set[int]:
        """Numbers of the nodes whose message has not expired: they are sent no other."""
        now = time.monotonic()
        return {sent.node.id for sent in self._out.values() if sent.until > now}

    def waiting(self, turn: Turn) -> list[Errand]:
        """What this turn has sent and nobody has answered."""
        return [sent for sent in self._out.values() if sent.turn is turn]

    def send(self, turn: Turn, questions: Iterable[tuple[Node, Request]], deadline: float) -> list[Errand]:
        """Send each node its question, one content for all who get the same; what could not be sent, the turn is told.

        Returns:
            What is on its way.
        """
        now = time.monotonic()
        batch: list[tuple[Message, Errand]] = []
        contents: dict[int, Message] = {}
        for node, request in questions:
            first = contents.setdefault(id(request), wire.ask(request, node.id, seconds=deadline - now))
            message = Message(first.content, node.id, first.metadata.message_type, ttl=deadline - now)
            batch.append((message, Errand(turn, node, request, deadline)))
        return self._pushed(batch) if batch else []

    def _pushed(self, batch: list[tuple[Message, Errand]]) -> list[Errand]:
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
                sent.turn.take(sent.node, sent.request, Failed(f"the message could not be sent: {why}"))
            else:
                self._out[id_] = sent
        return [sent for id_, (_, sent) in zip(ids, batch, strict=True) if id_ is not None]

    def collect(self, turn: Turn, deadline: float) -> tuple[list[tuple[Errand, Reply | Failed]], bool]:
        """What has come of this turn's messages; and whether anything has come at all, late answers to others too."""
        expired = time.monotonic() - _KEPT_S
        self._out = {id_: sent for id_, sent in self._out.items() if sent.turn is turn or sent.until > expired}
        messages = self._fetching.take(self._out, deadline - time.monotonic()) if self._out else []
        found = []
        for message in messages:
            sent = self._out.pop(message.metadata.reply_to_message_id, None)
            if sent is not None and sent.turn is turn:
                found.append((sent, self._outcome(sent, message)))
            elif sent is not None and not message.has_error():
                self.late[sent.site or sent.node.label] = "answered after the deadline; its answer was not used"
        return found, bool(messages)

    def give_up(self, turn: Turn, why: Callable[[Errand], str]) -> list[tuple[Errand, str]]:
        """Wait no longer for those messages of this turn that nobody will answer, and say why."""
        found = [(id_, sent, reason) for id_, sent in self._out.items() if sent.turn is turn and (reason := why(sent))]
        for id_, _, _ in found:
            del self._out[id_]
        return [(sent, reason) for _, sent, reason in found]

    def _outcome(self, sent: Errand, message: Message) -> Reply | Failed:
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
        fault = note(self.folder, name, task, getattr(sent.request, "round", 0), head)
        if isinstance(reply, Refused):
            return Failed(refused(reply.code))
        return Failed(fault) if fault else reply
