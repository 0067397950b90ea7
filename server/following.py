"""A run at work, told as it goes on: who is there, each round as it is complete, failures by the hospital's name."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarco_models.errors import RunError
from sarco_models.processes import supervisor_of
from server import submissions
from server.control import Control, Node
from server.enrolment import enrolled
from server.failures import in_words, left
from server.home import Home
from server.live import held_by, read_live
from server.plan_file import asks_for_plan
from server.tables import size

Told = Callable[[str], None]

_LOOK_S, _ASK_S = 0.5, 5.0
_PHASES = {
    "waiting": "waits for hospitals",
    "plan": "asks the hospitals for the sums that the network is planned from",
    "describe": "asks the hospitals how many participants they have",
    "setup": "sends the hospitals the model and the tables' scaling",
    "round": "trains",
    "evaluate": "has the final model evaluated",
    "assess": "has the released model assessed",
    "probe": "has the released model probed for leakage",
    "done": "is complete",
    "failed": "has failed",
}


def follow(home: Home, folder: Path, told: Told, stop: threading.Event) -> bool | None:
    """Tell what happens to a run until it has ended, or ``stop`` is set.

    Returns:
        Whether it is complete; None where it was left before it ended.

    Raises:
        RunError: what looks after the run is not up any more.
    """
    progress = _Progress(folder, told)
    asked = 0.0
    with Control(home, timeout_s=5.0) as control:
        while not stop.wait(_LOOK_S):
            mark = submissions.read(folder)
            progress.look()
            if mark is None or not mark.wanted:
                return _end(folder, mark, told)
            if time.monotonic() - asked > _ASK_S:
                asked = time.monotonic()
                if not supervisor_of(home.state_file):
                    raise RunError(
                        f"{home.folder}: is not up any more: start it with sarco-coordinator up {home.folder}; the run "
                        f"goes on then, after round {submissions.complete_rounds(folder)}"
                    )
                progress.people(_presence(home, control))
    return None


def phase_in_words(live: Mapping[str, Any] | None, *, now: float | None = None) -> str:
    """What a run does at this moment, from its live.json: the round, who has answered, time left."""
    if live is None:
        return "is being started"
    words = _PHASES.get(str(live["phase"]), str(live["phase"]))
    if live["phase"] == "round":
        words = f"trains round {live['round']} of {live['rounds']}"
        words += f", attempt {live['attempt']}" if live.get("attempt", 1) > 1 else ""
    sites: Mapping[str, Mapping[str, Any]] = live.get("sites") or {}
    if sites and live["phase"] not in ("done", "failed"):
        answered = sum(site["state"] == "answered" for site in sites.values())
        words += f"; {answered} of {counted(len(sites))} answered so far"
    if live.get("deadline"):
        remains = live["deadline"] - (time.time() if now is None else now)
        words += f"; {duration(remains)} left" if remains > 0 else "; its deadline has passed"
    return words + (f"; {live['trouble']}" if live.get("trouble") else "")


def so_far(folder: Path) -> str:
    """After which round a run is, in words; empty where it plans, and has no rounds."""
    return "" if asks_for_plan(folder) else f"after round {submissions.complete_rounds(folder)}"


def counted(hospitals: int) -> str:
    """So many hospitals."""
    return f"{hospitals} hospital{'' if hospitals == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time as people say it: 40 s, 12 min, 3 h 20 min."""
    whole = max(round(seconds), 0)
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def presence_in_words(home: Home, nodes: Sequence[Node]) -> str:
    """Who is enrolled, online, and not."""
    names = [site.name for site in enrolled(home)]
    if not names:
        return "no hospital is enrolled: sarco-coordinator enrol SITE.pub --name NAME --home " + str(home.folder)
    online = {node.name for node in nodes if node.online}
    gone = {node.name: f"{node.name} ({left(node.left)})" for node in nodes if node.left}
    here, away = [n for n in names if n in online], [gone.get(n, n) for n in names if n not in online]
    words = f"online: {len(here)} of {len(names)} enrolled"
    words += f" ({', '.join(here)})" if here else ""
    return words + (f"; not online: {', '.join(away)}" if away else "")


@dataclass
class _Progress:
    """What was told already."""

    folder: Path
    told: Told
    rounds: int = -1
    phase: str = ""
    present: str = ""
    died: float = 0.0

    def look(self) -> None:
        """Tell the rounds that are complete since the last look, and a new phase."""
        for record in _records_after(self.folder, self.rounds):
            self.rounds = record["round"]
            self._round(record)
        live = read_live(self.folder)
        mark = submissions.read(self.folder)
        if mark is not None and mark.deaths > 0 and mark.time != self.died:
            self.died = mark.time
            self.told(f"its process died; the run goes on by itself {so_far(self.folder)}".rstrip())
        if live is None or mark is None or live.get("time", 0) < mark.time:
            return
        phase = str(live["phase"])
        if phase not in (self.phase, "round", "done", "failed"):
            words = phase_in_words({**live, "sites": {}})
            self.told(f"the run {words}" + (f"; it needs {live.get('needed')}" if phase == "waiting" else ""))
        self.phase = phase

    def people(self, words: str) -> None:
        """Tell who is online where that has changed; in a round only the round counts."""
        if words and words != self.present and self.phase in ("", "waiting"):
            self.told(words)
            self.present = words

    def _round(self, record: Mapping[str, Any]) -> None:
        if record["round"]:
            self.told(_round_in_words(record))
        for site, reason in record.get("failures", {}).items():
            self.told(f"  {site}: {in_words(reason)}")


def _round_in_words(record: Mapping[str, Any]) -> str:
    names = list(record["sites"])
    words = f"round {record['round']}: {counted(len(names))} ({', '.join(names)})"
    central = record.get("central") or {}
    for key, label in (("loss", "loss"), ("auc", "AUC"), ("dice", "Dice")):
        words += f", central {label} {central[key]:.3f}" if key in central else ""
    down, up = (size(record[key]) for key in ("bytes_down", "bytes_up"))
    return f"{words}, {down} down, {up} up, {record['seconds']:.1f} s"


def _records_after(folder: Path, round_: int) -> Iterator[dict[str, Any]]:
    while (path := folder / "rounds" / f"{round_ + 1:04d}.json").is_file():
        round_ += 1
        yield json.loads(path.read_text(encoding="utf-8"))


def _presence(home: Home, control: Control) -> str:
    try:
        return presence_in_words(home, control.nodes())
    except RunError:
        return "the SuperLink does not answer; it is started again by itself"


def _end(folder: Path, mark: submissions.Submission | None, told: Told) -> bool:
    if mark is not None and mark.why == "done":
        return True
    until = time.monotonic() + 5
    while held_by(folder) is not None and time.monotonic() < until:
        time.sleep(0.1)
    told(f"the run has not been completed: {mark.why if mark else 'it was never submitted'}")
    return False
