"""The sites of a run, and the one way to ask them something: all at once, until a deadline, and every failure named."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import RecordDict
from flwr.serverapp import Grid

from sarco_models import wire
from sarco_models.config import StudyConfig
from sarco_models.errors import QuorumLost, SarcoError
from sarco_models.summaries import Moments
from sarco_models.wire import (
    Assessed,
    Described,
    Evaluated,
    Keyed,
    Masked,
    Probed,
    Ready,
    Refused,
    Reply,
    Request,
    Revealed,
    Setup,
    Trained,
)
from server.heads import note
from server.runs import Run

R = TypeVar("R", Described, Ready, Trained, Masked, Evaluated, Assessed, Probed, Keyed, Revealed)


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
                outcome = self._checked_head(requests[node], message.content, _expected(message.content, kind), node)
                if isinstance(outcome, str):
                    failures[node] = outcome
                else:
                    replies[node] = outcome
                    del failures[node]
            if pending and not answered:
                time.sleep(self.run.coordinator.poll_s)
        return replies, {self._name(node): reason for node, reason in failures.items()}

    def require_quorum(self, count: int, failures: Mapping[str, str], what: str) -> None:
        """Raise QuorumLost where fewer sites answered usably than the study asks for."""
        needed = self.study.federation.min_sites
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

    def _checked_head(self, request: Request, content: RecordDict, outcome: R | str, node: int) -> R | str:
        """The outcome, once the head of the hospital's audit log that came beside it is kept.

        Before a node has described itself it is known by its number: it could give another's name.
        """
        try:
            head = wire.head_of(content)
        except SarcoError as error:
            return str(error)
        fault = note(self.run.folder, self._name(node), type(request).__name__, getattr(request, "round", 0), head)
        return fault if fault and not isinstance(outcome, str) else outcome

    def _name(self, node: int) -> str:
        return self.sites[node].site if node in self.sites else f"node {node}"


def _expected(content: RecordDict, kind: type[R]) -> R | str:
    """The reply, or why there is none."""
    try:
        reply: Reply = wire.decode(content)
    except SarcoError as error:
        return f"unreadable reply: {error}"
    if isinstance(reply, Refused):
        return f"refused: {reply.code}"
    return reply if isinstance(reply, kind) else f"answered {type(reply).__name__} instead of {kind.__name__}"
