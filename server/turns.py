"""What is said to whom, message by message: a meeting before the run begins, and questions to its members.

A turn is asked which request a node gets next, and is told what came of it. It knows neither Flower nor time; who
sends, waits and keeps the deadline is :class:`server.federation.Federation`. A member that is new, or came back, is
greeted first: it describes itself, and gets the setup if it may not have it; then comes the question, all within one
deadline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sarco_models.wire import Code, Describe, Described, Ready, Reply, Request, Setup
from server.failures import NO_ANSWER, NOT_AWAITED, flower_error, refused, when_asked
from server.members import AWAY, LATE, Member, Membership, Node

R = TypeVar("R", bound=Reply)
_TRIES = 2
"""How often a message that was lost on the way is sent in one turn."""
_AWAY_AGAIN = frozenset({refused(Code.TOO_LATE), refused(Code.WORKER_DOWN), NO_ANSWER})
"""Reasons after which another process may answer the next time."""
_NOT_THERE = flower_error(5)


@dataclass(frozen=True)
class Failed:
    """No usable reply: a short reason, and whether the message was only lost on the way."""

    reason: str
    lost: bool = False


class Turn(Protocol):
    """What the federation says in one exchange."""

    def next(self, node: Node) -> Request | None:
        """What a node is sent now; None for nothing."""

    def take(self, node: Node, request: Request, outcome: Reply | Failed) -> None:
        """What came of it."""

    def wants(self) -> bool:
        """Whether somebody who is not connected now could still have something to say."""

    def hopeless(self) -> bool:
        """Whether those who may take part are too few for it: who is at work is not waited for."""

    def learned(self) -> Mapping[str, str]:
        """Reasons, by name, that are known better than when they were given; each is told once."""


@dataclass
class Meeting:
    """Everybody who is connected describes themselves once; nobody is a member yet.

    Attributes:
        study: digest.
        described: node -> what it said.
        failures: node -> why it said nothing usable.
    """

    study: str
    described: dict[int, Described] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    _asked: Counter[int] = field(default_factory=Counter)
    _lost: Counter[int] = field(default_factory=Counter)

    def next(self, node: Node) -> Request | None:
        """Describe, once; and once more where that was lost on the way."""
        if self._asked[node.id] > self._lost[node.id] or self._asked[node.id] == _TRIES:
            return None
        self._asked[node.id] += 1
        return Describe(self.study)

    def take(self, node: Node, request: Request, outcome: Reply | Failed) -> None:
        """Keep the description."""
        if isinstance(outcome, Described):
            self.described[node.id] = outcome
            self.failures.pop(node.label, None)
        elif isinstance(outcome, Failed):
            self.failures[node.label] = outcome.reason
            self._lost[node.id] += outcome.lost
        else:
            self.failures[node.label] = _unexpected(outcome, Described)

    def wants(self) -> bool:
        """Nobody is expected by name."""
        return not self.described

    def hopeless(self) -> bool:
        """Others may come before the run has begun."""
        return False

    def learned(self) -> Mapping[str, str]:
        """Who is no member yet is nobody whose reasons are kept."""
        return {}


@dataclass
class Asking(Generic[R]):
    """Every member that is asked answers its question; who is not known as a member any more is greeted first.

    Attributes:
        study: digest.
        membership: who is who; greeted nodes and setups are noted there.
        requests: member -> question.
        kind: of the answers.
        check: says what is wrong with an answer, or an empty sentence.
        needed: so many answers, or it was in vain; 0: any number is of use.
        replies: member -> answer.
        failures: member, or a node that is none -> why there is no answer.
        open: members that may still answer.
    """

    study: str
    membership: Membership
    requests: Mapping[str, Request]
    kind: type[R]
    check: Callable[[R, Member], str]
    needed: int = 0
    replies: dict[str, R] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    _greeted: Counter[int] = field(default_factory=Counter)
    _lost: Counter[str] = field(default_factory=Counter)
    _set_up_again: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Nobody has answered."""
        self.open = set(self.requests)

    def next(self, node: Node) -> Request | None:
        """Describe, then the setup, then the question; nothing to nodes that nobody waits for."""
        if node.name and node.name not in self.membership.members and not node.refused:
            node.refused = self.failures[node.name] = LATE
        if not self.membership.may_speak_for(node) & self.open:
            return None
        if not node.site:
            self._greeted[node.id] += 1
            return Describe(self.study) if self._greeted[node.id] <= _TRIES else None
        request = self.requests[node.site]
        if isinstance(request, Setup) or node.site in self.membership.ready:
            return self.membership.model.lightest(node.site, request)
        return self.membership.setup

    def take(self, node: Node, request: Request, outcome: Reply | Failed) -> None:
        """Note what came: a greeting, a setup that was kept, an answer, or none of them."""
        if isinstance(outcome, Failed):
            self._failed(node, request, outcome)
        elif isinstance(request, Describe):
            self._met(node, outcome)
        elif isinstance(request, Setup):
            self._set_up(node, request, outcome)
        elif node.site in self.open:  # not a second answer, from where a member was connected before
            self._answered(node.site, outcome)

    def left_open(self, waiting: set[str]) -> None:
        """The turn is over: say of everybody who did not answer whether it was ``waiting`` or why it is not there."""
        self.learned()
        for name in sorted(self.open):
            if name in waiting:
                self.failures[name] = NOT_AWAITED if self.hopeless() else NO_ANSWER
            elif name not in self.failures:
                self.failures[name] = self.membership.absence(name)

    def learned(self) -> dict[str, str]:
        """Flower says at once that a connection is gone; a look later it is known whether the hospital has left."""
        found = {}
        for name in self.open:
            why = self.membership.absence(name) if self.failures.get(name) == _NOT_THERE else AWAY
            if why != AWAY:
                found[name] = self.failures[name] = when_asked(why)
        return found

    def wants(self) -> bool:
        """Members that have not answered may come back."""
        return bool(self.open)

    def hopeless(self) -> bool:
        """Whether so many members were revoked that the others, and the answers that came, are too few."""
        return len(self.membership.left_of(self.requests) | set(self.replies)) < self.needed

    def _answered(self, name: str, reply: Reply) -> None:
        if not isinstance(reply, self.kind):
            self._fails(name, _unexpected(reply, self.kind))
            return
        fault = self.check(reply, self.membership.members[name])
        if fault:
            self._fails(name, fault)
            return
        self.replies[name] = reply
        self.membership.model.has(name, self.requests[name])
        self.failures.pop(name, None)
        self.open.discard(name)

    def _met(self, node: Node, outcome: Reply) -> None:
        if not isinstance(outcome, Described):
            self._fails(node.label, _unexpected(outcome, Described))
            return
        fault = self.membership.greet(node, outcome)
        if not fault:
            return
        if fault == LATE:
            node.refused = fault
        known = node.name or (outcome.site if outcome.site in self.membership.members else "")
        self._fails(known or f"{node.label} ({outcome.site[:80]})", fault)

    def _set_up(self, node: Node, request: Setup, outcome: Reply) -> None:
        if not isinstance(outcome, Ready):
            self._fails(node.site, _unexpected(outcome, Ready))
        elif outcome.setup != request.digest:
            self._fails(node.site, "has kept another setup than it was sent")
        else:
            self.membership.ready.add(node.site)
            if isinstance(self.requests[node.site], Setup):
                self._answered(node.site, outcome)

    def _failed(self, node: Node, request: Request, failed: Failed) -> None:
        name = node.label
        if failed.reason == refused(Code.SETUP_NEEDED) and node.site and name not in self._set_up_again:
            self._set_up_again.add(name)
            self.membership.ready.discard(name)
            return
        if failed.reason == refused(Code.MODEL_NEEDED) and self.membership.model.lost(name):
            return  # and gets the whole one next
        if failed.lost or failed.reason in _AWAY_AGAIN:
            self.membership.forget(node.id)
        self._lost[name] += failed.lost
        if failed.lost and self._lost[name] < _TRIES:
            self.failures[name] = failed.reason
        else:
            self._fails(name, failed.reason)

    def _fails(self, name: str, reason: str) -> None:
        self.membership.model.lost(name)
        self.failures[name] = reason
        self.open.discard(name)


def _unexpected(outcome: Reply, kind: type) -> str:
    return f"answered {type(outcome).__name__} instead of {kind.__name__}"
