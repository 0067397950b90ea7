"""What a hospital that has joined is doing: in one sentence as it happens, and on one screen when somebody asks.

Read from what the processes write and say of themselves; no data are read, and no torch is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.contact import End, plain, read_contact
from client.joining import WORKER
from client.kit import authority_fingerprint, stored
from client.site_folder import SiteFolder
from sarco_models.errors import ChainBroken, ConfigError, SarcoError
from sarco_models.processes import states, supervisor_of

_TASKS = {
    "Describe": "describing the participants in sums",
    "Setup": "setting up",
    "Train": "training",
    "Evaluate": "evaluating the final model",
    "Assess": "assessing the released model",
    "Measure": "measuring what the released model finds",
    "Probe": "probing the released model",
    "Keys": "agreeing on masks",
    "Reveal": "opening the sum",
}
_DONE = {
    "Describe": "the participants were described in sums",
    "Setup": "set up",
    "Train": "trained",
    "Evaluate": "the final model was evaluated",
    "Assess": "the released model was assessed",
    "Measure": "what the released model finds was measured",
    "Probe": "the released model was probed",
    "Keys": "masks were agreed on",
    "Reveal": "the sum was opened",
}
CONNECTING = "connecting to the coordinator"
WAITING = "connected, waiting for work"
_LAST_ENTRIES = 5

Asks = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Moment:
    """What is done now.

    Attributes:
        sentence: for people.
        trouble: whether somebody should look.
        at_work: whether it will be over in a while.
    """

    sentence: str
    trouble: bool = False
    at_work: bool = False


def ask_worker(folder: SiteFolder) -> dict[str, Any]:
    """What the worker says of itself; empty where it does not answer."""
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # gRPC warns when a process that uses it starts another
    from client.worker_line import Line, WorkerAway

    try:
        return Line(folder.socket).status()
    except WorkerAway:
        return {}


def moment(folder: SiteFolder, asks: Asks | None = None, *, ready: bool = False) -> Moment:
    """What is done now.

    Args:
        folder: of the hospital.
        asks: the worker; None: at its socket.
        ready: take the worker for ready: where it is a service, no supervisor of ours says so.
    """
    running = states(folder.state_file)
    if not ready and not running.get(WORKER, {}).get("ready"):
        said = str(running.get(WORKER, {}).get("said", ""))
        return Moment(f"the worker starts again: {plain(said)}" if said else "opening the data", trouble=bool(said))
    contact = read_contact(folder.contact)
    phase, said = str(contact.get("phase", "")), str(contact.get("said", ""))
    if not contact and not os.access(folder.flower, os.X_OK):
        return Moment("how the connection stands, only root can see here: give this command as root")
    if phase in ("refused", "away"):
        again = " (tried again by itself)" if contact.get("code") in (End.NOT_ADMITTED, End.TWICE) else ""
        return Moment(said + again, trouble=True)
    if phase != "connected":
        return Moment(CONNECTING)
    return _at_work((asks or (lambda: ask_worker(folder)))(), str(contact.get("doing", "")))


def _at_work(worker: dict[str, Any], doing: str) -> Moment:
    where = f"round {worker['round']}: " if worker.get("round") else ""
    if worker.get("phase") == "working":
        return Moment(where + _TASKS.get(str(worker.get("task")), "working"), at_work=True)
    if doing == "receiving":
        return Moment("receiving", at_work=True)
    if doing == "sending":
        return Moment(f"{where}sending the answer", at_work=True)
    return Moment(WAITING)


class Answers:
    """What was answered since it was last asked: read from the audit log, as far as it was read before."""

    def __init__(self, path: Path) -> None:
        """``path`` of the audit log; what stands in it now is not new."""
        self._path = path
        self._read = path.stat().st_size if path.exists() else 0

    def new(self) -> list[tuple[str, bool]]:
        """Sentences, and whether somebody should look."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                lines = file.read().splitlines(keepends=True)
        except OSError:
            return []
        found = []
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            with suppress(ValueError, KeyError):  # a line that a crash has torn
                found += _answer(json.loads(line))
        return found


def _answer(entry: dict[str, Any]) -> list[tuple[str, bool]]:
    where = f"round {entry['round']}: " if entry.get("round") else ""
    if entry["kind"] == "decision" and entry.get("decision") == "refused":
        return [(f"{where}{entry['task']} was refused here: {entry['code']}; logs/worker.log says why", True)]
    if entry["kind"] == "reply" and entry["reply"] != "Refused":
        task = _DONE.get(entry["task"], entry["task"])
        return [(f"{where}{task}; {entry['bytes']:,} bytes leave", False)]
    return []


def screen(folder: SiteFolder) -> Iterator[str]:
    """Everything that somebody who asks should know, on one screen."""
    yield f"{folder.name}: {folder.path}"
    yield from _agreement(folder)
    yield ""
    yield from _processes(folder)
    yield ""
    yield "spent"
    yield from (f"  {line}" for line in _budget(folder))
    yield ""
    yield f"the last entries of the audit log ({folder.audit})"
    yield from (f"  {line}" for line in _audit(folder))


def _agreement(folder: SiteFolder) -> Iterator[str]:
    from client.approval import FILE, Approvals

    try:
        kit = stored(folder)
    except ConfigError as error:
        yield f"  kit       {error}"
        return
    try:
        lacking = Approvals(folder.path / FILE).lacking(kit.digest)
    except ChainBroken as error:
        lacking = str(error)
    yield f"  with      {kit.address}, authority {authority_fingerprint(kit.ca)}"
    yield f"  study     {kit.study.name}, {kit.digest[:12]}: {f'NOT approved: {lacking}' if lacking else 'approved'}"


def _processes(folder: SiteFolder) -> Iterator[str]:
    from client.service import running

    pid, services = supervisor_of(folder.state_file), list(running(folder))
    if services:
        yield f"as services: {moment(folder, ready=True).sentence}"
        yield from services
        return
    if not pid:
        yield f"not joined: no process runs (sarco-site join {folder.path})"
        yield from _ended_because(folder)
        return
    now = moment(folder)
    yield f"joined (process {pid}): {now.sentence}"
    contact = read_contact(folder.contact)
    if contact.get("skew_s") is not None:
        skew = float(contact["skew_s"])
        yield f"  clock     {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's"
    for name, entry in states(folder.state_file).items():
        restarts = int(entry.get("restarts", 0))
        again = f", started again {restarts} times; before that: {plain(str(entry['said']))}" if restarts else ""
        waits = "waits for those above it" if not entry["since"] else f"{entry['state']} since {entry['since']}"
        yield f"  {name:<9} {waits}{again}"


def _ended_because(folder: SiteFolder) -> Iterator[str]:
    with suppress(OSError, ValueError):
        last = json.loads((folder.run / "ended.json").read_text(encoding="utf-8"))
        yield from (f"  {plain(line)}" for line in f"it ended {last['time']}: {last['why']}".split("\n"))


def _budget(folder: SiteFolder) -> Iterator[str]:
    from client.budget_figures import summary
    from client.budget_words import figures
    from client.ledger import FILE, BudgetConfig, Ledger

    path = folder.state / FILE
    if not path.exists():
        yield "nothing: there is no ledger yet"
        return
    try:
        budget = BudgetConfig.model_validate(folder.settings.get("budget", {}))
        ledger = Ledger.open(path)
        try:
            found = figures(summary(ledger, budget, over_time=False))
        finally:
            ledger.close()
    except (SarcoError, ValueError) as error:
        yield str(error)
        return
    yield from (f"{label:8}{words}" if label else words for label, words in found[:3])


def _audit(folder: SiteFolder) -> Iterator[str]:
    from client.audit import rows
    from sarco_models.chain import read

    try:
        entries = read(folder.audit) if folder.audit.exists() else []
    except ChainBroken as error:
        yield f"BROKEN: {error}"
        return
    if not entries:
        yield "nothing was asked here yet"
    for row in rows(entries[-_LAST_ENTRIES:]):
        _n, time, kind, _study, task, round_, says, size, _digest = row
        left = f"{size} bytes" if size and kind == "reply" else ""
        yield "  ".join(part for part in (time, kind, task, f"round {round_}" if round_ else "", says, left) if part)
