"""The real apps in one process: a Flower Grid without network, processes or Ray.

Uses one private name of Flower (``TaskIdentity``, which Flower's own runtimes set for a process); Flower is pinned, and
a slow test runs the same study through ``flwr run``.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_APP_RAISED = 2  # Flower's error code for an exception in a ClientApp


def as_coordinator() -> None:
    """Let this process make Flower's messages in the coordinator's name."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


class InProcessGrid(Grid):
    """Hands every message to the ClientApp at once, in the calling thread."""

    def __init__(self, client_app: ClientApp, nodes: int) -> None:
        """``nodes`` are numbered from 1; a site finds itself by its node id or by ``partition-id`` = node - 1."""
        self._app = client_app
        self._contexts = {node: _context(node) for node in range(1, nodes + 1)}
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        as_coordinator()

    def set_run(self, run: Run) -> None:
        """Runs exist in Flower's own runtimes only."""

    @property
    def run(self) -> Run:
        """Raises: there is no Flower run here."""
        raise RuntimeError("an in-process grid has no Flower run")

    def get_node_ids(self) -> Iterable[int]:
        """Every node is always connected."""
        return list(self._contexts)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message as the apps make it themselves."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver each message and keep its reply."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies to these messages, once."""
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver and collect; nothing can be late here."""
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        message_id = f"message-{next(self._numbers)}"
        message.metadata.__dict__["_message_id"] = message_id
        context = self._contexts[message.metadata.dst_node_id]
        try:
            with _as_node(message.metadata.dst_node_id):
                reply = self._app(message, context)
        except Exception as error:  # as Flower's runtimes do: the sender learns of it by an error reply
            reply = Message(Error(code=_APP_RAISED, reason=repr(error)), reply_to=message)
        self._replies[message_id] = reply
        return message_id


@contextlib.contextmanager
def _as_node(node: int) -> Iterator[None]:
    TaskIdentity.node_id = node
    try:
        yield
    finally:
        TaskIdentity.node_id = 0


def _context(node: int, run_config: Mapping[str, str] | None = None) -> Context:
    return Context(
        run_id=1,
        node_id=node,
        node_config={"partition-id": node - 1},
        state=RecordDict(),
        run_config=dict(run_config or {}),
    )
