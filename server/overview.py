"""One look at a coordinator's home: processes, hospitals, runs, whom the gate refused, what will expire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sarco_models.errors import RunError
from sarco_models.processes import states, supervisor_of
from server import submissions
from server.certificates import fingerprint
from server.control import Control, Node
from server.failures import left, revoked
from server.following import phase_in_words
from server.home import Home
from server.live import held_by, read_live
from server.plan_file import asks_for_plan, is_planned
from server.refusals import Refusal, read_refusals
from server.renewal import expiry_warnings

_RUNS, _REFUSALS = 5, 8
_PLANNED = "the hospitals have agreed on a plan; nothing was trained"


@dataclass(frozen=True)
class Hospital:
    """An enrolled hospital as the coordinator sees it.

    Attributes:
        name: as enrolled.
        state: online, offline, left (by itself), never (connected), revoked, or unknown while the SuperLink does not
            answer.
        last_seen: of its last heartbeat, of its leave or of its revocation, ISO 8601; may be empty.
    """

    name: str
    state: str
    last_seen: str

    @property
    def words(self) -> str:
        """The state for a person: of who was shut out or has left, when."""
        when = self.last_seen
        return revoked(when) if self.state == "revoked" else left(when) if self.state == "left" else self.state


@dataclass(frozen=True)
class Work:
    """A run.

    Attributes:
        name: of its directory.
        state: at work, starting, complete, stopped, failed, or waits for up.
        words: what it does at this moment, or why it does not.
        rounds: complete ones.
        sites: what became of each hospital in the present phase, by name: state, why, seconds.
        plans: whether it asks for sums that a network is planned from, and has no rounds.
    """

    name: str
    state: str
    words: str
    rounds: int
    sites: dict[str, Any]
    plans: bool = False


@dataclass(frozen=True)
class Overview:
    """What ``status`` shows.

    Attributes:
        up: number of the process that looks after everything; 0: not up.
        processes: by name, as their supervisor wrote them.
        authority: fingerprint of the authority's certificate.
        hospitals: in the order of their names.
        runs: the last few, the latest first.
        refusals: the last few at the gate.
        warnings: certificates that end soon, and what does not answer.
    """

    up: int
    processes: dict[str, dict[str, Any]]
    authority: str
    hospitals: tuple[Hospital, ...]
    runs: tuple[Work, ...]
    refusals: tuple[Refusal, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def look(home: Home) -> Overview:
    """Look at everything; what does not answer is a warning."""
    up = supervisor_of(home.state_file)
    warnings = [*expiry_warnings((home.ca, home.certificate, home.loopback_certificate))]
    nodes: tuple[Node, ...] | None = None
    if up:
        try:
            with Control(home, timeout_s=5.0) as control:
                nodes = control.nodes()
        except RunError as error:
            warnings.append(str(error))
    runs = tuple(work(folder, up=bool(up)) for folder in submissions.run_folders(home)[:_RUNS])
    return Overview(
        up,
        states(home.state_file) if up else {},
        fingerprint(home.ca.read_bytes()),
        hospitals(home, nodes),
        runs,
        read_refusals(home, _REFUSALS),
        tuple(warnings),
    )


def hospitals(home: Home, nodes: Sequence[Node] | None) -> tuple[Hospital, ...]:
    """Every hospital that was ever enrolled; ``nodes`` as the SuperLink knows them, None where it does not answer."""
    known = {node.name: node for node in nodes or ()}
    newest = {site.name: site for site in sorted(home.sites(), key=lambda site: site.enrolled)}
    rows = []
    for name, site in sorted(newest.items()):
        node = known.get(name)
        if site.revoked:
            rows.append(Hospital(name, "revoked", site.revoked))
        elif nodes is None:
            rows.append(Hospital(name, "unknown", ""))
        elif node is None or not node.last_seen:
            rows.append(Hospital(name, "never", ""))
        else:
            state = "online" if node.online else "left" if node.left else "offline"
            rows.append(Hospital(name, state, node.last_seen))
    return tuple(rows)


def work(folder: Path, *, up: bool) -> Work:
    """What a run does at this moment; ``up``: whether something looks after it."""
    found = _work(folder, up=up)
    if not asks_for_plan(folder):
        return found
    return replace(found, plans=True, words=_PLANNED if is_planned(folder) else found.words)


def _work(folder: Path, *, up: bool) -> Work:
    mark, live = submissions.read(folder), read_live(folder)
    rounds, sites = submissions.complete_rounds(folder), (live or {}).get("sites") or {}
    if held_by(folder) is not None:
        return Work(folder.name, "at work", phase_in_words(live), rounds, sites)
    if mark is None:
        return Work(folder.name, "never begun", "was never submitted to Flower", rounds, {})
    if mark.wanted and (said := submissions.ended(folder, mark)) is not None:
        return _ended(folder, said, rounds)
    if mark.wanted:
        state = "starting" if up else "waits for up"
        words = "" if up else "it goes on as soon as the coordinator is up"
        return Work(folder.name, state, words, rounds, {})
    return _ended(folder, mark.why, rounds)


def _ended(folder: Path, why: str, rounds: int) -> Work:
    if why == "done":
        return Work(folder.name, "complete", "", rounds, {})
    if why == submissions.STOPPED:
        return Work(folder.name, "stopped", "", rounds, {})
    return Work(folder.name, "failed", why, rounds, {})
