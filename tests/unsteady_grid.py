"""A grid in this process whose lines and sites fail as a script says: silent, late, gone, back again."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo

from sarco_models import wire
from simulation.grid import InProcessGrid

Fate = int | float | str | None
"""Of a message: an error code of Flower's; seconds until its answer comes; "never"; or None, answered at once."""


@dataclass(frozen=True)
class Sent:
    """What went out: to which site, of which kind, in which round and when."""

    node: int
    kind: str
    round: int
    at: float
    seconds: float


class UnsteadyGrid(InProcessGrid):
    """Every site is online and answers at once, until the test says otherwise.

    Attributes:
        online: nodes that are connected.
        names: node -> name that it was enrolled with; empty where nobody was.
        since: node -> when it connected.
        fate: of a message, by node and request.
        change: what the network or a liar makes of a reply.
        before: called before each look at who is connected.
        sent: everything that went out.
    """

    def __init__(self, client_app: ClientApp, nodes: int, names: dict[int, str] | None = None) -> None:
        super().__init__(client_app, nodes)
        self.online = set(range(1, nodes + 1))
        self.names = names or {}
        self.since: dict[int, str] = {}
        self.fate: Callable[[int, Any], Fate] = lambda node, request: None
        self.change: Callable[[int, Any], Any] = lambda node, reply: reply
        self.before: Callable[[], None] = lambda: None
        self.sent: list[Sent] = []
        self._due: dict[str, float] = {}

    def get_nodes(self) -> Iterable[NodeInfo]:
        self.before()
        return [
            NodeInfo(node_id=n, name=self.names.get(n, ""), last_activated_at=self.since.get(n, ""))
            for n in sorted(self.online)
        ]

    def get_node_ids(self) -> Iterable[int]:
        return [node.node_id for node in self.get_nodes()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._pushed(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        now = time.monotonic()
        return super().pull_messages([i for i in message_ids if self._due.get(i, 0.0) <= now])

    def of(self, kind: str) -> list[tuple[int, int]]:
        """Node and round of everything of a kind that went out."""
        return [(s.node, s.round) for s in self.sent if s.kind == kind]

    def _pushed(self, message: Message) -> str:
        request: Any = wire.decode(message.content)
        node = message.metadata.dst_node_id
        made = message.metadata.created_at  # not now: in this grid others have answered since
        self.sent.append(Sent(node, type(request).__name__, getattr(request, "round", 0), made, message.metadata.ttl))
        fate = self.fate(node, request)
        if isinstance(fate, int):
            message_id = f"lost-{len(self.sent)}"
            message.metadata.__dict__["_message_id"] = message_id
            self._replies[message_id] = Message(Error(fate, "said by Flower"), reply_to=message)
            return message_id
        message_id = self._deliver(message)
        reply = self._replies[message_id]
        if not reply.has_error():
            self._replies[message_id] = self._changed(node, message, reply)
        self._due[message_id] = time.monotonic() + (fate or 0.0) if fate != "never" else float("inf")  # type: ignore[operator]
        return message_id

    def _changed(self, node: int, message: Message, reply: Message) -> Message:
        before: Any = wire.decode(reply.content)
        after = self.change(node, before)
        return reply if after is before else wire.answer(after, message, wire.head_of(reply.content))
