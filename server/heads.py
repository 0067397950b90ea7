"""The heads of the hospitals' audit logs, as they came with their replies: what the coordinator keeps of them.

A head stands for everything that a hospital has written down so far. Kept here, in a chain of its own
(:mod:`sarco_models.chain`), it binds both sides: a hospital cannot change or cut what it wrote without the next
verification finding it, and the coordinator cannot deny an answer, for its own list of heads is chained, too. A
difference shows that one of the two has rewritten its log; it does not show which.

``sarco-coordinator heads RUN --out heads.json`` gives the list to the hospitals.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sarco_models.chain import Chain, Entry, Fact, read
from sarco_models.errors import ChainBroken, RunError
from server.runs import Run, write_text

FILE = "heads.jsonl"
UNNAMED = "node "
"""Before a hospital has described itself it is known by its node's number, which begins with this."""

NAMED = "named"
"""Kind of the line that says which hospital a node turned out to be."""

_SEEN: dict[Path, tuple[Chain, dict[str, str]]] = {}
"""Of each run of this process: its chain, and the last head of every site."""


def note(run_folder: Path, site: str, task: str, round_: int, head: str) -> str:
    """Keep the head that came with a reply, durably.

    Returns:
        An empty sentence, or what is wrong with the head: it is absent, or does not go on from the one before, as after
        a replayed reply, or a log that was cut or restored from a copy. A wrong head is kept as well.

    Raises:
        ChainBroken: the coordinator's own list was edited.
        OSError: it cannot be written.
    """
    chain, last = _opened(run_folder / FILE)
    fault = _fault(last.get(site, ""), head)
    facts: dict[str, Fact] = {"site": site, "task": task, "round": round_, "head": head}
    chain.append("fault" if fault else "head", facts)
    if not fault:
        last[site] = head
    return fault


def named(run_folder: Path, node: int, site: str) -> None:
    """Write down which hospital a node has described itself as, so that its first head is that hospital's, too.

    Raises:
        ChainBroken: the coordinator's own list was edited.
        OSError: it cannot be written.
    """
    chain, _ = _opened(run_folder / FILE)
    chain.append(NAMED, {"node": f"{UNNAMED}{node}", "site": site})


def _fault(before: str, head: str) -> str:
    if not head:
        return "sends no head of its audit log: does it run an older version?"
    entries, _, digest = head.partition(":")
    if not entries.isdigit() or len(digest) != 64:
        return "sends something else than the head of an audit log"
    seen = int(before.partition(":")[0]) if before else 0
    if int(entries) > seen:
        return ""
    if head == before:
        return f"sends the head of its audit log ({seen} entries) a second time: the reply is a copy of an earlier one"
    return (
        f"its audit log has {entries} entries; it had {seen} before: it was cut, written anew or restored from an "
        "older copy, or the reply is an old one. Let the hospital run sarco-site audit verify --heads"
    )


def _opened(path: Path) -> tuple[Chain, dict[str, str]]:
    """The chain of a run, and where each site's log stood; read once in a process."""
    key = path.resolve()
    if key not in _SEEN or not path.exists():
        last = {e.facts["site"]: str(e.facts["head"]) for e in _heads(path)} if path.exists() else {}
        _SEEN[key] = (Chain(path), last)
    return _SEEN[key]


def _heads(path: Path) -> list[Entry]:
    return [entry for entry in read(path) if entry.kind == "head"]


def _by_hospital(entries: Sequence[Entry]) -> list[tuple[str, Entry]]:
    """Every head with its hospital: a node's own number only where it never said who it is.

    A node may be another hospital when a run goes on, so a name is for the one head before it.
    """
    found, names = [], dict[str, str]()
    for entry in reversed(entries):
        if entry.kind == NAMED:
            names[str(entry.facts["node"])] = str(entry.facts["site"])
        elif entry.kind == "head":
            site = str(entry.facts["site"])
            found.append((names.pop(site, site), entry))
    return found[::-1]


def export(run: Run, out: Path) -> dict[str, int]:
    """Write the heads that were kept of a run, for the hospitals to hold against their logs.

    Returns:
        Heads of each site; of a node that never said which hospital it is, under its number.

    Raises:
        RunError: none were kept, or the coordinator's own list was edited.
    """
    path = run.folder / FILE
    try:
        entries = _by_hospital(read(path))
    except ChainBroken as error:
        raise RunError(f"{error}; heads are kept by runs of this version while they train") from None
    rows: list[dict[str, Any]] = [
        {"entry": e.n, "time": e.time, "site": site, **{key: e.facts[key] for key in ("task", "round", "head")}}
        for site, e in entries
    ]
    write_text(out, json.dumps({"study": run.study.digest, "heads": rows}, indent=1) + "\n")
    sites = dict.fromkeys(row["site"] for row in rows)
    return {site: sum(row["site"] == site for row in rows) for site in sites}
