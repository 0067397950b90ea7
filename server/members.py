"""Who takes part in a run, and which connection speaks for whom.

Who takes part is settled when the run begins, for everybody's tables are scaled by the sums of exactly these sites; the
record of round 0 says who, with a digest of what each site said of itself. From then on a site may go away and come
back, on another machine or under another number: it is the same member when it describes itself word for word as then.

A connected site is a *node* of Flower's, known by its number; an enrolled one by its name too. It speaks for a member
once it has described itself as that member, and no longer than it stays connected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sarco_models.errors import RunError, ShutOut
from sarco_models.wire import Described, Setup, digest_of
from server.failures import AWAY as AWAY
from server.failures import LEFT
from server.model_down import ModelDown

LATE = "connected after the run had begun without it, whose scaling all sites share: it takes part in the next run"

LAST_WORDS_S = 5.0
"""So long, after a hospital is known to have left, what it sent before may be fetched: its pieces are looked for every
two seconds (server/fetching.py), and its SuperNode ends at most so long after its good-bye (client/supernode.py)."""


@dataclass(frozen=True)
class Member:
    """A site as it described itself when the run began.

    Attributes:
        site: its name.
        participants, training, training_positive, images: how many, as in :class:`sarco_models.messages.Described`.
        digest: of the whole description, sums included.
    """

    site: str
    participants: int
    training: int
    training_positive: int
    images: int
    digest: str

    @staticmethod
    def of(described: Described) -> Member:
        """The member that a site is by its own words."""
        counts = (described.participants, described.training, described.training_positive, described.images)
        return Member(described.site, *counts, digest_of(described))


@dataclass
class Node:
    """One connected site.

    Attributes:
        id: Flower's number.
        name: that it was enrolled with; empty where the grid knows no names.
        since: when it connected, in the grid's words.
        site: the member that it speaks for, once it has described itself.
        refused: why it takes no part as long as it stays connected; empty while it may.
        left: when it was first known that its hospital had ended this connection, and why; None while it is not.
    """

    id: int
    name: str = ""
    since: str = ""
    site: str = ""
    refused: str = ""
    left: tuple[float, str] | None = None

    @property
    def label(self) -> str:
        """The best name that is known."""
        return self.site or self.name or f"node {self.id}"


@dataclass
class Membership:
    """Members, nodes, and who has which setup.

    Attributes:
        members: name -> member, in the order of the names; empty before the run has begun.
        nodes: number -> connected node.
        setup: frozen layers and sums of the run, once agreed.
        ready: members that have kept the setup.
        model: which of them hold which model.
        revoked: hospitals that may not take part any more, and why.
        absence: says why a hospital is not connected.
    """

    members: dict[str, Member] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)
    setup: Setup | None = None
    ready: set[str] = field(default_factory=set)
    model: ModelDown = field(default_factory=ModelDown)
    revoked: Mapping[str, str] = field(default_factory=dict)
    absence: Callable[[str], str] = lambda _name: AWAY

    @property
    def prevalence(self) -> float:
        """Share of positives among all members' training participants."""
        return sum(m.training_positive for m in self.members.values()) / sum(m.training for m in self.members.values())

    def admit(self, described: Mapping[int, Described]) -> None:
        """The run begins with these sites, and each of these nodes speaks for its own."""
        found = [Member.of(d) for d in described.values()]
        self.members = {m.site: m for m in sorted(found, key=lambda m: m.site)}
        for node, description in described.items():
            if node in self.nodes:
                self.nodes[node].site = description.site

    def see(self, online: Iterable[tuple[int, str, str]]) -> None:
        """Who is connected now: number, name, since when. Who went away, or came anew, must describe itself again."""
        seen = {id_: (name, since) for id_, name, since in online}
        for id_, node in list(self.nodes.items()):
            if seen.get(id_) != (node.name, node.since):
                del self.nodes[id_]
        for id_, (name, since) in sorted(seen.items()):
            self.nodes.setdefault(id_, Node(id_, name, since))
        for node in self.nodes.values():  # Flower may be told later than we are
            node.refused = self.revoked.get(node.site or node.name, node.refused)

    def left_of(self, sites: Iterable[str]) -> set[str]:
        """Those of these members that may take part, connected or not."""
        return set(sites) - set(self.revoked)

    def too_few(self, what: str, needed: int) -> ShutOut:
        """Why nothing is gained by waiting for so many answers, and the way out."""
        revoked = "; ".join(f"{site} was {why}" for site, why in self.revoked.items() if site in self.members)
        left = ", ".join(sorted(self.left_of(self.members))) or "nobody"
        return ShutOut(
            f"{what}: {revoked}; {left} may still take part, and min_sites = {needed}: enrol the hospital again with a "
            "new key and the same people, then resume this run, which goes on from its last complete round; or begin "
            "another run, of a study with fewer min_sites"
        )

    def silent(self, node: Node, name: str) -> str:
        """Why a node will not answer any more what it was asked; empty while it may.

        A hospital that was revoked is cut off at once. One that has left sent its good-bye last, so what it has
        answered is there, and is given a moment to be fetched. Whoever is only not connected may answer yet. A hospital
        that is back is another node: what this one was asked ended with the process that it was asked of.

        Args:
            node: that was asked, connected or not.
            name: of its hospital; empty where that is not known.
        """
        if name in self.revoked:
            return self.revoked[name]
        if node.left is None and self.nodes.get(node.id) is not node:
            why = self.absence(name)
            node.left = (time.monotonic(), why) if why.startswith(LEFT) else None
        if node.left is None or time.monotonic() < node.left[0] + LAST_WORDS_S:
            return ""
        return node.left[1]

    def node_of(self, site: str) -> Node | None:
        """Who speaks for a member; None while nobody does."""
        return next((node for node in self.nodes.values() if node.site == site), None)

    def may_speak_for(self, node: Node) -> set[str]:
        """Members that a node is, or may turn out to be."""
        if node.refused:
            return set()
        if node.site or node.name:
            return {node.site or node.name} & set(self.members)
        return {site for site in self.left_of(self.members) if self.node_of(site) is None}

    def reachable(self, sites: Iterable[str]) -> int:
        """How many of these members are connected, as far as one can tell before they have described themselves."""
        wanted = set(sites)
        spoken = {node.site or node.name for node in self.nodes.values() if not node.refused} & wanted
        unknown = sum(not (n.site or n.name or n.refused) for n in self.nodes.values())
        return min(len(wanted), len(spoken) + unknown)

    def greet(self, node: Node, described: Described) -> str:
        """Let a node speak for the member that it describes itself as; returns why it may not, or nothing."""
        fault = misnamed(node, described) or self._stranger(node, described)
        if not fault:
            node.site = described.site
        return fault

    def _stranger(self, node: Node, described: Described) -> str:
        member, other = self.members.get(described.site), self.node_of(described.site)
        if member is None:
            return LATE
        if other is not None and other.id != node.id:
            return "another node has the same name"
        if Member.of(described).digest != member.digest:
            return (
                "comes back with other people or tables than it began with: bring back those of then, or start "
                "another run"
            )
        return ""

    def forget(self, node_id: int) -> None:
        """Let a node describe itself again before it is asked anything else: it may be a new process."""
        if node_id in self.nodes:
            self.nodes[node_id].site = ""

    def to_record(self) -> dict[str, dict[str, Any]]:
        """The members, for the record of round 0."""
        return {name: {k: v for k, v in asdict(m).items() if k != "site"} for name, m in self.members.items()}

    def restore(self, record: Mapping[str, Mapping[str, Any]], where: str) -> None:
        """Inverse of :meth:`to_record`.

        Args:
            record: of round 0.
            where: named in the error.

        Raises:
            RunError: it was damaged.
        """
        try:
            self.members = {name: Member(name, **record[name]) for name in sorted(record)}
        except TypeError:
            raise RunError(f"{where}: its members are damaged: restore the file, or start another run") from None


def misnamed(node: Node, described: Described) -> str:
    """What is wrong with the name that an enrolled node gives itself."""
    if node.name and described.site != node.name:
        return (
            f"is enrolled as {node.name} and calls itself {described.site[:80]}: its site.toml must say "
            f'name = "{node.name}", or the coordinator enrols it anew'
        )
    return ""
