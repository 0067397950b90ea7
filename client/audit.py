"""What this hospital was asked, what it decided, and what left it: one line each, written before anything leaves.

Kinds of lines: ``request`` (what came), ``decision`` (allowed, or refused with a code), ``spend`` (privacy: the head of
the ledger afterwards), ``reply`` (what leaves: digest, bytes, names; never a value), ``approval``, ``joined`` and
``left`` (the federation), ``torn`` (a crash).
How lines are chained is told in :mod:`sarco_models.chain`. The head goes with every reply to the coordinator, who keeps
it: from then on the hospital cannot change what is before it, nor the coordinator what was answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco_models.chain import TORN, Chain, Entry, Fact, check_heads, read
from sarco_models.errors import ChainBroken, ConfigError
from sarco_models.messages import Code, Reply, Request, task_of
from sarco_models.payload import Part, digest_of_parts, parts_of

FILE = "audit.jsonl"

ALLOWED, REFUSED = "allowed", "refused"
UNREADABLE, NO_DIGEST = "unreadable", "no digest"

_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEAD = re.compile(r"[1-9][0-9]{0,11}:[0-9a-f]{64}")


class Audit:
    """The hospital's log of requests, decisions and outgoing payloads."""

    def __init__(self, chain: Chain) -> None:
        """Use :meth:`open`."""
        self._chain = chain

    @staticmethod
    def open(path: Path) -> Audit:
        """Open the log at ``path``, which need not exist yet.

        Raises:
            ChainBroken: it was edited, cut or reordered; nothing can be answered until the hospital knows why.
        """
        return Audit(Chain(path))

    @property
    def head(self) -> str:
        """``entries:hash`` of the last line; empty while there is none."""
        return self._chain.head

    @property
    def entries(self) -> int:
        """Lines so far."""
        return self._chain.entries

    def append(self, kind: str, *, durable: bool = True, **facts: Fact) -> str:
        """Add a line, see :meth:`sarco_models.chain.Chain.append`; returns the new head."""
        return self._chain.append(kind, facts, durable=durable)

    def asked(self, request: Request) -> None:
        """Write down what came; it is made durable with the decision."""
        facts = {**_about(request), **_payload(request, parts_of(request))}
        self._chain.append("request", facts, durable=False)

    def unreadable(self) -> None:
        """Write down that something came which is no request, and that a code leaves."""
        self._chain.append("request", {"task": UNREADABLE}, durable=False)
        self._chain.append("reply", {"task": UNREADABLE, "reply": "Refused"})

    def allowed(self, request: Request) -> None:
        """Write down that the policy allows it, before any work begins."""
        self._chain.append("decision", {**_about(request), "decision": ALLOWED})

    def refused(self, request: Request, code: Code) -> None:
        """Write down a refusal or a failure; it is made durable with the reply."""
        facts = {**_about(request), "decision": REFUSED, "code": str(code)}
        self._chain.append("decision", facts, durable=False)

    def spent(self, request: Request, ledger: str) -> None:
        """Write down that privacy was spent; ``ledger`` is the head of the ledger afterwards."""
        self._chain.append("spend", {**_about(request), "ledger": ledger}, durable=False)

    def approval(self, recorded: Entry) -> None:
        """Write down that a study was approved, or an approval withdrawn."""
        facts = {key: recorded.facts[key] for key in ("study", "code", "by", "login")}
        self._chain.append("approval", {**facts, "action": recorded.kind})

    def answered(self, request: Request, reply: Reply) -> None:
        """Write down what leaves, before it leaves."""
        parts = parts_of(reply)
        names = [part.name for part in parts]
        facts = {**_about(request), "reply": type(reply).__name__, **_payload(reply, parts), "names": names}
        self._chain.append("reply", facts)


def _about(request: Request) -> dict[str, Fact]:
    """Which request a line is of; round 0 is before the first. A text of the coordinator's own choice is not kept."""
    study = request.study if _DIGEST.fullmatch(request.study) else NO_DIGEST
    return {"study": study, "task": task_of(request), "round": int(getattr(request, "round", 0))}


def _payload(message: Request | Reply, parts: Sequence[Part]) -> dict[str, Fact]:
    digest = digest_of_parts(type(message).__name__, parts)
    return {"payload": digest, "bytes": sum(part.bytes for part in parts)}


@dataclass(frozen=True)
class Verified:
    """What an intact log shows.

    Attributes:
        entries: all of them.
        heads: how many heads of the coordinator were found in it.
        unknown: replies of the same study of which the coordinator's file has no head: lost on the way, of another run
            of the study, or left out.
    """

    entries: tuple[Entry, ...]
    heads: int
    unknown: tuple[Entry, ...]

    @property
    def torn(self) -> int:
        """Lines that a crash has torn."""
        return sum(entry.kind == TORN for entry in self.entries)


def verify(path: Path, *, site: str = "", heads: Path | None = None) -> Verified:
    """Check every line of a log, and that every head which the coordinator has kept of ``site`` is in it.

    Args:
        path: of the log.
        site: this hospital's name.
        heads: what ``sarco-coordinator heads RUN --out heads.json`` has written.

    Raises:
        ChainBroken: names the line, or the head that is missing.
        ConfigError: the file of heads cannot be read, or holds none of this hospital.
    """
    entries = read(path)
    if heads is None:
        return Verified(tuple(entries), 0, ())
    study, own, everybodys = _heads_of(heads, site)
    check_heads(path, entries, own)
    # Before a hospital has described itself the coordinator knows it by a number only: its head is in the list all the
    # same, and is nobody else's.
    unknown = [e for e in entries if e.kind == "reply" and e.facts.get("study") == study and e.head not in everybodys]
    return Verified(tuple(entries), len(own), tuple(unknown))


def _heads_of(path: Path, site: str) -> tuple[str, list[str], set[str]]:
    """Digest of the study, the heads of one hospital, and those of all, from a coordinator's file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        heads = [(str(row["site"]), str(row["head"])) for row in content["heads"]]
        study = str(content["study"])
        if not all(_HEAD.fullmatch(head) for _, head in heads):
            raise ValueError("a head is a number and a SHA-256")
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{path}: is no file of heads: ask the coordinator for what sarco-coordinator heads RUN --out writes"
        ) from None
    own = [head for name, head in heads if name == site]
    if not own:
        raise ConfigError(f"{path}: holds no head of {site}: is it of a run in which this hospital took part?")
    return study, own, {head for _, head in heads}


COLUMNS = ("entry", "time (UTC)", "what", "study", "task", "round", "says", "bytes", "sha256")


def rows(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """A readable line for each entry, in the order of :data:`COLUMNS`."""
    return [_row(entry) for entry in entries]


def _row(entry: Entry) -> tuple[str, ...]:
    facts = entry.facts
    says = {
        "decision": f"{facts.get('decision', '')} {facts.get('code', '')}".strip(),
        "reply": str(facts.get("reply", "")),
        "spend": f"ledger {str(facts.get('ledger', ''))[-12:]}",
        "approval": f"{facts.get('action', '')} by {facts.get('by', '')}",
        "joined": str(facts.get("coordinator", "")),
        "left": f"by {facts.get('by', '')}",
        TORN: "a line that a crash has torn",
    }.get(entry.kind, "")
    round_ = str(facts["round"]) if facts.get("round") else ""
    size = f"{facts['bytes']:,}" if "bytes" in facts else ""
    digest = str(facts.get("payload", ""))[:12]
    time = entry.time.partition("+")[0].partition(".")[0].replace("T", " ")
    study, task = str(facts.get("study", ""))[:12], str(facts.get("task", ""))
    return (str(entry.n), time, entry.kind, study, task, round_, says, size, digest)


def broken(path: Path, error: ChainBroken) -> str:
    """What a hospital should do about a log that does not verify."""
    return (
        f"{error}\nNothing is answered while {path.name} is broken. Keep the file as it is, find out who changed it, "
        "and tell the coordinator; to begin anew, move it away and say so."
    )


def disagreement(error: ChainBroken) -> str:
    """What a hospital should do about a log that is in order and does not hold what the coordinator has kept."""
    return (
        f"{error}\nThe log is in order of itself, and is not the one that the coordinator has seen. Approve nothing "
        "further, keep both files as they are, and find out which of the two was changed: an older backup of the log "
        "that verifies with these heads shows that it was the log."
    )
