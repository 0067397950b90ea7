"""What went wrong, in plain words, and what to do about it: for a coordinator who has never read this code.

Codes that a hospital answers with, and Flower's errors, are said in the words of server/failures.py; what was wrong
with an answer, in those below. A reason that neither knows is shown as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from server.dashboard.files import said
from server.failures import REFUSED, in_words, not_there

Weight = Literal["stop", "site", "note"]

_LATER = "nothing now; if it comes again, call the hospital"
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"^no answer before the deadline",
        "it did not answer before the deadline: slow, switched off or cut off",
        "nothing, if it is back by the next round; else call the hospital: sarco-site status",
    ),
    (
        r"^(away$|not connected)",
        "it is not connected",
        "nothing, if it comes back by itself; else the hospital runs sarco-site join",
    ),
    (
        r"^connected after the run had begun",
        "it came after the run had begun without it, and all agree on one scaling at the start",
        "nothing: it takes part in the next run",
    ),
    (
        r"not finite",
        "its answer held numbers that are none (NaN or infinite); it was left out",
        "let the hospital look at its data; if it stays so, revoke it and look at its software",
    ),
    (
        r"times as long as",
        "its update was far larger than those of the others; it was left out",
        "let the hospital look at its data and settings; a modified site looks like this, too",
    ),
    (
        r"of another model|sums are not of|histogram is not the study's",
        "it answered with the numbers of another model or study; it was left out",
        "compare the versions and the studies of both sides",
    ),
    (
        r"answers for (round|study)|answered \w+ instead|assessed at a threshold",
        "an answer to another question than the one that was asked; it was left out",
        "nothing, if it does not come again; else compare the versions of both sides",
    ),
    (
        r"in the name of|same name|another name",
        "it answered under another hospital's name; it was left out",
        "find out who it is before you go on: compare keys and names with both hospitals; revoke one of them",
    ),
    (
        r"audit log",
        "its audit log does not go on from where it was: restored from a copy, or an old answer came again",
        "let the hospital run: sarco-site audit verify --heads",
    ),
    (
        r"^label rule",
        "its diagnoses follow another rule than the study's",
        "agree on one rule, or allow mixed rules in the study",
    ),
    (
        r"weight of|contradict|other people|more people|^(assessed on|probed) \d",
        "its counts of people contradict what it said before; the answer was left out",
        "let the hospital look whether its tables changed while the run was going on",
    ),
    (
        r"^metric|both are from 0 to 1",
        "a metric was missing, unknown or no number; the answer was left out",
        "ask the hospital whether it changed its site.toml; compare the versions of both sides",
    ),
    (
        r"^its key is none",
        "what it sent as its key for secure aggregation is none; it was left out",
        "compare the versions of both sides; if it stays so, revoke it and look at its software",
    ),
    (
        r"could not be sent",
        "what it was to be asked could not be sent: too large for a proxy on the way, or the SuperLink was away",
        "nothing, if the next round goes through; else look at the gate's and the proxy's limits of size",
    ),
    (
        r"^unreadable reply",
        "it answered with something that cannot be read",
        "compare the versions of both sides; if it stays so, revoke it and look at its software",
    ),
)
"""What replies are found to be wrong in (server/replies.py) -> in plain words, what to do."""


@dataclass(frozen=True)
class Trouble:
    """Something that went wrong.

    Attributes:
        weight: ``stop``: the run does not go on; ``site``: an answer is missing; ``note``: mended by itself.
        who: hospital, or part of the coordinator.
        when: in words, such as "round 7".
        what: in plain words.
        remedy: what to do.
        written: the reason as it was recorded.
        times: how often in a row.
    """

    weight: Weight
    who: str
    when: str
    what: str
    remedy: str
    written: str
    times: int = 1


def explain(reason: str) -> tuple[str, str]:
    """What a recorded reason means, and what to do; the reason itself where it is not known here."""
    for pattern, what, remedy in _REASONS:
        if re.search(pattern, reason):
            return what, remedy
    what, _, remedy = said(in_words(reason)).removeprefix(REFUSED).partition(": ")
    remedy = re.sub(r"^it ", "the hospital ", remedy)
    refused = "it refused: " if reason.startswith(REFUSED) else ""
    return refused + (what or "no reason was given"), remedy or _LATER


def of_rounds(failures: Iterable[tuple[int, Mapping[str, str]]], *, last: int, current: bool) -> list[Trouble]:
    """Troubles of hospitals in complete rounds, the latest first; the same in several rounds is one.

    Args:
        failures: round and what became of hospitals in it, in order.
        last: the last complete round.
        current: whether ``last`` is the newest there is, so that what failed in it is not over.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for round_, reasons in failures:
        for who, reason in reasons.items():
            rounds = found.setdefault((who, reason), [])
            if round_ not in rounds[-1:]:
                rounds.append(round_)
    troubles = []
    for (who, reason), rounds in sorted(found.items(), key=lambda item: (-item[1][-1], item[0])):
        what, remedy = explain(reason)
        weight: Weight = "site" if current and rounds[-1] == last else "note"
        troubles.append(Trouble(weight, said(who), _rounds(rounds), what, remedy, said(reason), len(rounds)))
    return troubles


def over(trouble: Trouble, state: str) -> bool:
    """Whether a trouble of an earlier round is: its hospital has answered since, or was not there and is at work now.

    Args:
        trouble: of a complete round.
        state: of the hospital in the round under way, see :class:`server.dashboard.progress.SiteNow`.
    """
    return state == "answered" or (state == "asked" and not_there(trouble.written))


def _rounds(rounds: list[int]) -> str:
    """Such as "round 3", "rounds 3 to 7" or "4 rounds, last in 9"."""
    named = ["at the start" if k == 0 else f"round {k}" for k in rounds]
    if len(rounds) == 1:
        return named[0]
    if rounds[-1] - rounds[0] == len(rounds) - 1 and rounds[0] > 0:
        return f"rounds {rounds[0]} to {rounds[-1]}"
    return f"{len(rounds)} rounds, last in {named[-1]}"


RESUME = "sarco-coordinator resume --home HOME"
_ENDINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"may still take part",
        "A hospital was revoked, and those that are left are too few.",
        f"enrol it again with a new key and the same people, then: {RESUME}; or begin a run with fewer min_sites",
    ),
    (
        r"min_sites|quorum|sites (are connected|answered)",
        "Too few hospitals answered.",
        f"call those that are missing; when they are back: {RESUME}",
    ),
    (
        r"No space|disk|ENOSPC",
        "The coordinator's disk is full.",
        f"make room; nothing is damaged. Then: {RESUME}",
    ),
    (
        r"describe themselves otherwise|other people|same sites",
        "The hospitals, or their people, are others than when the run began.",
        f"bring back the same hospitals with the same tables, then: {RESUME}; or start another run",
    ),
    (
        r"locked|read-only|Permission denied",
        "A file of the coordinator cannot be written.",
        f"free it or give the rights back; then: {RESUME}",
    ),
)


def of_ending(failure: str) -> Trouble:
    """Why a run stopped by itself."""
    for pattern, what, remedy in _ENDINGS:
        if re.search(pattern, failure, re.IGNORECASE):
            return Trouble("stop", "the run", "now", what, remedy, said(failure))
    remedy = f"mend what it says, then: {RESUME}"
    return Trouble("stop", "the run", "now", "The run has stopped.", remedy, said(failure))


def of_lost_run(*, wanted: bool | None, up: bool) -> Trouble:
    """The process that works on a run is gone without a word.

    Args:
        wanted: whether the coordinator wants the run to go on (server/submissions.py); None where nobody said.
        up: whether the coordinator's processes run.
    """
    what = "The process of the run is gone without a word. Complete rounds are safe."
    if wanted and up:
        return Trouble("site", "the run", "now", what, "nothing: it is started again by itself", "")
    remedy = "sarco-coordinator up HOME: it goes on by itself then" if wanted else RESUME
    return Trouble("stop", "the run", "now", what, remedy, "")


def of_stopped_run() -> Trouble:
    """The coordinator has stopped it (``sarco-coordinator stop``)."""
    return Trouble("site", "the run", "now", "The run was stopped by the coordinator.", f"to go on: {RESUME}", "")


def of_lost_processes(lost: Sequence[str], *, all_of_them: bool) -> list[Trouble]:
    """The coordinator's processes that should be there, and are not."""
    if all_of_them:
        what = "The coordinator is not up: no hospital can connect."
        return [Trouble("stop", "the coordinator", "now", what, "sarco-coordinator up HOME", "")]
    remedy = "nothing, if it is started again by itself; else sarco-coordinator logs --home HOME"
    what = "is not running: hospitals may not be served"
    return [Trouble("stop", name, "now", f"{name} {what}", remedy, "") for name in lost]


def of_restart(name: str, restarts: float, words: str) -> Trouble:
    """One of the coordinator's processes has ended and is about to be started again."""
    what = f"{name} has ended {restarts:.0f} {'time' if restarts == 1 else 'times'} and is started again by itself"
    return Trouble("site", name, "now", what, "nothing, if it stays up; else mend what it says", words)
