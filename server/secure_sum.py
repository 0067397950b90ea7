"""A round whose single updates the coordinator never sees: keys, masked updates, seeds, and then their exact sum.

An attempt at a round: every site makes a key; the sites that did are named to all of them, and send their updates under
masks; once all of these are in, they tell the seeds of their own masks, and the sum can be read. Sites that drop out
before the seeds are asked for are left out of the round, which is attempted again among the rest under new keys: three
sites, or the study's ``min_sites``, must be left. Once seeds were asked for, a round belongs to its sites: none of them
will open another sum (:mod:`client.masked` says why), so one that stays away stops the run until it is back.

Which attempt it is, and whether seeds were asked for, is written to ``secure/0001.json`` of the run directory first, so
that a run that was killed asks the sites for what they have given already, and for nothing that they must refuse.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sarco_models.errors import ProtocolError, QuorumLost
from sarco_models.masking import MIN_SITES, SignedKey, keys_text, moved, read_keys, sum_of
from sarco_models.parameters import Parameters
from sarco_models.wire import Code, Keyed, Keys, Masked, Masking, Reveal, Revealed, Train, Trained
from server.federation import Federation
from server.members import Member
from server.replies import metrics_fault
from server.whole_files import write_json

log = logging.getLogger(__name__)

_ATTEMPTS = 16
"""At one round, before it is given up."""

_SEED = re.compile(r"[0-9a-f]{64}")
_USED_UP = f"refused: {Code.ALREADY_REVEALED}"

R = TypeVar("R", Keyed, Masked, Revealed)
Answers = tuple[list[Trained], dict[str, dict[str, float]], dict[str, str]]
"""What the strategy joins; participants and metrics of each site; what became of the other sites."""


def secure_round(federation: Federation, request: Train) -> Answers:
    """Ask for a round's update, of which only the sum over the sites is ever read.

    Args:
        federation: its sites are asked.
        request: of the round, without ``masking``.

    Returns:
        One reply in the name of all: the weighted mean of their parameters, to half a step of the fixed point for each
        site, with the participants of all.

    Raises:
        QuorumLost: too few sites are left, or the round waits for a site that has not told its seed.
    """
    work = _Round(federation, request)
    first, sites = work.noted()
    if sites:
        return work.joined(work.again(first, sites))
    for attempt in range(first, first + _ATTEMPTS):
        masked = work.attempt(attempt)
        if masked:
            return work.joined(masked)
    raise QuorumLost(
        f"round {request.round}: no attempt of {_ATTEMPTS} was completed ({work.reasons()}): these sites have opened a "
        "sum of this round over other sites, and open no second one: go on in the run directory that it belongs to, "
        "or start the study under another seed, which every hospital approves anew"
    )


@dataclass
class _Round:
    """One round, over its attempts.

    Attributes:
        federation, request: as given.
        left: members that have not dropped out.
        failures: site -> what became of it.
    """

    federation: Federation
    request: Train
    left: tuple[str, ...] = ()
    failures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """All members of the run are asked first."""
        self.left = tuple(self.federation.members)

    def attempt(self, attempt: int) -> dict[str, Masked]:
        """The masked updates of all sites that could make a key; empty where another attempt is needed."""
        self._note(attempt, ())
        keyed = self._keyed(attempt)
        self._require_quorum()
        if len(keyed) < len(self.left):  # some have used this attempt up; they take part in the next
            return {}
        masked = self._masked(attempt, keyed)
        return masked if len(masked) == len(keyed) else {}

    def again(self, attempt: int, sites: tuple[str, ...]) -> dict[str, Masked]:
        """The masked updates of an attempt whose seeds were asked for by a run that was killed: the very same ones."""
        self.left = tuple(site for site in self.federation.members if site in sites)
        self._require_all(sites, self.left)
        keyed = self._keyed(attempt)
        self._require_all(sites, keyed)
        masked = self._masked(attempt, keyed)
        self._require_all(sites, masked)
        return masked

    def joined(self, masked: Mapping[str, Masked]) -> Answers:
        """Let the sites tell their seeds, and read the sum."""
        request, sites = self.request, sorted(masked)
        attempt = masked[sites[0]].attempt
        self._note(attempt, tuple(sites))
        seeds = self._seeds(attempt, tuple(sites))
        try:
            steps = sum_of([masked[site].update.vector for site in sites], seeds)
        except ProtocolError as error:
            raise QuorumLost(f"round {request.round}: {error}: let all sites run the same version") from None
        sent, update_range = request.parameters, self.federation.study.federation.update_range
        mean = Parameters(sent.manifest, moved(sent.vector, steps, update_range))
        total = sum(masked[site].participants for site in sites)
        told = {site: {"participants": masked[site].participants, **masked[site].metrics} for site in sites}
        failures = {name: reason for name, reason in self.failures.items() if name not in told}
        return [Trained(f"sum of {len(sites)} sites", request.round, total, mean, {})], told, failures

    def reasons(self) -> str:
        """Failures as one sentence."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.failures.items()) or "no site answered"

    def _keyed(self, attempt: int) -> dict[str, Keyed]:
        request = Keys(self.request.study, self.request.setup, self.request.round, attempt)
        keyed, failures = self.federation.ask(dict.fromkeys(self.left, request), Keyed)
        return self._sound(keyed, failures, attempt)

    def _masked(self, attempt: int, keyed: Mapping[str, Keyed]) -> dict[str, Masked]:
        total = sum(self.federation.members[site].training for site in keyed)
        text = keys_text(SignedKey(k.site, k.public, k.signature) for k in keyed.values())
        request = dataclasses.replace(self.request, masking=Masking(attempt, total, text))
        masked, failures = self.federation.ask(dict.fromkeys(keyed, request), Masked)
        return self._sound(masked, failures, attempt)

    def _seeds(self, attempt: int, sites: tuple[str, ...]) -> list[bytes]:
        """Of every site, or the round waits: a seed is asked for twice."""
        request = Reveal(self.request.study, self.request.setup, self.request.round, attempt)
        found: dict[str, Revealed] = {}
        for _ in range(2):
            missing = [site for site in sites if site not in found]
            revealed, failures = self.federation.ask(dict.fromkeys(missing, request), Revealed) if missing else ({}, {})
            found |= self._sound(revealed, failures, attempt)
        self._require_all(sites, found)
        return [bytes.fromhex(found[site].seed) for site in sites]

    def _sound(self, replies: dict[str, R], failures: dict[str, str], attempt: int) -> dict[str, R]:
        """Replies that may be used; of the others, who has only used up this attempt is asked again in the next."""
        for site, reply in list(replies.items()):
            fault = self._fault(site, reply, attempt)
            if fault:
                failures[site] = fault
                del replies[site]
        self.failures |= failures
        self.left = tuple(site for site in self.left if failures.get(site, _USED_UP) == _USED_UP)
        return replies

    def _fault(self, site: str, reply: Keyed | Masked | Revealed, attempt: int) -> str:
        described, round_ = self.federation.members[site], self.request.round
        if reply.site != site:
            return f"answers in the name of {reply.site[:80]}"
        if (reply.round, reply.attempt) != (round_, attempt):
            return f"answers for round {reply.round}, attempt {reply.attempt} instead of {round_}, {attempt}"
        if isinstance(reply, Keyed):
            return _key_fault(reply)
        if isinstance(reply, Revealed):
            return "" if _SEED.fullmatch(reply.seed) else "its seed is none"
        return _update_fault(reply, described, self.request.parameters, self.request.study)

    def _require_quorum(self) -> None:
        needed = max(MIN_SITES, self.federation.study.federation.min_sites)
        if len(self.left) < needed:
            raise QuorumLost(
                f"round {self.request.round}: {len(self.left)} sites are left, and a sum needs {needed} "
                f"({self.reasons()}): mend these sites and run the same command again; it goes on from the last "
                "complete round"
            )

    def _require_all(self, sites: Iterable[str], found: Iterable[str]) -> None:
        """Raise QuorumLost unless all sites of a sum whose seeds were asked for have answered."""
        missing = sorted(set(sites) - set(found))
        if missing:
            raise QuorumLost(
                f"round {self.request.round} waits for {', '.join(missing)} ({self.reasons()}): the seeds of this sum "
                "were asked for, and a sum without that site would show its update: bring it back and run the same "
                "command again; if it never comes back, start the study under another seed, which every hospital "
                "approves anew"
            )

    @property
    def _journal(self) -> Path:
        return self.federation.run.folder / "secure" / f"{self.request.round:04d}.json"

    def noted(self) -> tuple[int, tuple[str, ...]]:
        """The attempt to begin with, and its sites where their seeds were asked for before."""
        if not self._journal.is_file():
            return 1, ()
        told = json.loads(self._journal.read_text(encoding="utf-8"))
        sites = tuple(told["sites"])
        return told["attempt"] + (not sites), sites

    def _note(self, attempt: int, sites: tuple[str, ...]) -> None:
        write_json(self._journal, {"attempt": attempt, "sites": sites})


def _key_fault(reply: Keyed) -> str:
    try:
        read_keys(keys_text([SignedKey(reply.site, reply.public, reply.signature)]))
    except ProtocolError:
        return "its key is none"
    return ""


def _update_fault(reply: Masked, described: Member, sent: Parameters, study: str) -> str:
    """All that can be said of a masked update: not what is in it."""
    if reply.study != study:
        return f"answers for study {str(reply.study)[:12]} instead of {study[:12]}"
    if reply.update.vector.shape != sent.vector.shape:
        return "a masked update of another model"
    if reply.participants != described.training:
        return f"weight of {reply.participants} participants; described itself with {described.training}"
    return metrics_fault(reply.metrics)
