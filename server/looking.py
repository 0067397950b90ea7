"""Looks at who is connected, which outlive a SuperLink that fails for a while.

What it said last counts until it answers again. That it does not is told (server/live.py), and it is asked again for
as long as a round may take; then the run ends with a sentence, and goes on from its last complete round when resumed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from sarco_models.errors import RunError
from server.departures import Absences
from server.failures import LEFT, in_words
from server.fetching import passes
from server.live import Live
from server.members import Membership

log = logging.getLogger(__name__)


class Online(Protocol):
    """One who is connected, as Flower's grid tells it."""

    node_id: int
    name: str
    last_activated_at: str


@dataclass
class Looking:
    """Keeps a membership true.

    Attributes:
        online: asks the SuperLink.
        membership: is told who is connected, and who may not take part any more.
        absences: why hospitals are not there.
        live: is told while the SuperLink does not answer.
        patience_s: so long it may fail.
        blind: whether it failed at the last look: what is known may be old.
    """

    online: Callable[[], Iterable[Online]]
    membership: Membership
    absences: Absences
    live: Live
    patience_s: float
    blind: bool = False
    _since: float = 0.0
    _told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Whoever is away has a reason from now on."""
        self.membership.absence = self.absences.why

    def look(self) -> None:
        """See who is connected.

        Raises:
            RunError: the SuperLink has failed for as long as a round may take.
            Exception: it refuses to say, for instance because the run was stopped.
        """
        self.membership.revoked = self.absences.revoked()
        try:
            found = [(node.node_id, node.name, node.last_activated_at) for node in self.online()]
        except Exception as error:
            if not passes(error):
                raise
            self._failed(error)
            found = [(node.id, node.name, node.since) for node in self.membership.nodes.values()]
        else:
            if self.blind:
                log.info("the SuperLink says again who is connected")
                self.live.trouble("")
            self.blind = False
        self.membership.see(found)

    def tell_absent(self, sites: Iterable[str], *, anew: bool = False) -> None:
        """Say of everybody who is waited for why it is not there, where that is news; ``anew``: of everybody."""
        here = {node.site or node.name for node in self.membership.nodes.values() if not node.refused}
        told = {} if anew else self._told
        self._told = {site: self.membership.absence(site) for site in sites if site not in here}
        for site, why in sorted(self._told.items()):
            if told.get(site) != why:
                self.live.site(site, "away", in_words(why))

    def who_left(self, sites: Iterable[str]) -> str:
        """Who of these is not there because it has left, in brackets after a space; empty: nobody that is known."""
        reasons = {site: self.membership.absence(site) for site in sorted(sites)}
        left = [f"{site} {why}" for site, why in reasons.items() if why.startswith(LEFT)]
        return f" ({', '.join(left)})" if left else ""

    def _failed(self, error: Exception) -> None:
        what = f"HTTP {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else "no connection"
        now = time.monotonic()
        if not self.blind:
            self.blind, self._since = True, now
            words = f"the SuperLink does not say who is connected ({what}); it is asked again and again"
            log.warning("%s", words)
            self.live.trouble(words)
        if now - self._since > self.patience_s:
            raise RunError(
                f"the SuperLink has not said for {now - self._since:.0f} s who is connected ({what}), and a round may "
                f"take {self.patience_s:g} s: see sarco-coordinator logs superlink, mend it, and run the same command "
                "again; it goes on from the last complete round"
            ) from None
