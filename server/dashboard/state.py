"""The picture of a home and one of its runs at a moment: all that the page shows, as it stands in /state.json.

Whoever wants the numbers for something else reads that address; ``VERSION`` grows when a field changes its meaning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from server.dashboard.files import HomeFiles, Record, RunFiles, moment, number, said, table
from server.dashboard.history import Curve, Moved, Part, curves, parts, traffic
from server.dashboard.outcome import Outcome, outcome_of
from server.dashboard.plan import Plan, plan_of
from server.dashboard.progress import Progress, SiteNow, progress_of
from server.dashboard.roster import Roster, Seen, alive
from server.dashboard.spending import Privacy, Spending, Spent, promised, rounds_at_most
from server.dashboard.troubles import (
    Trouble,
    explain,
    of_ending,
    of_lost_processes,
    of_lost_run,
    of_restart,
    of_rounds,
    of_stopped_run,
)
from server.dashboard.troubles import over as over_since

VERSION = 1
METRICS = ("auc", "dice", "loss", "train_loss")
MOST_REFUSALS = 12
MOST_TROUBLES = 20
STOPPED = "stopped by the coordinator"
"""As in server/submissions.py, which the dashboard does not need for anything else."""


@dataclass(frozen=True)
class RunLine:
    """A run in the list of runs."""

    name: str
    title: str
    headline: str
    changed: float | None


@dataclass(frozen=True)
class Hospital:
    """A hospital at this moment; times are seconds since 1970.

    Attributes:
        name: as it was enrolled.
        online: whether it is connected; None where nobody knows.
        last_seen: when Flower last heard of it.
        left: whether it went by itself then.
        doing: in words; empty where it was asked nothing.
        state: of its answer, see :class:`server.dashboard.progress.SiteNow`; empty where it was asked nothing.
        why: what stands behind a state that is not good, in plain words.
        participants, training: as it described itself; None before.
        revoked: when, ISO 8601; empty where it is not.
        spent: epsilon so far; None where the study is not private.
    """

    name: str
    online: bool | None
    last_seen: float | None
    doing: str
    state: str
    why: str
    participants: float | None
    training: float | None
    revoked: str
    spent: Spent | None
    left: bool = False


@dataclass(frozen=True)
class RunView:
    """A run; ``plan`` is None where its study is trained, and is not only planned."""

    name: str
    title: str
    digest: str
    strategy: str
    synthetic: bool | None
    progress: Progress
    curves: Mapping[str, tuple[Curve, ...]]
    parts: tuple[Part, ...]
    traffic: tuple[Moved, ...]
    privacy: Privacy
    outcome: Outcome | None
    plan: Plan | None


@dataclass(frozen=True)
class Refusal:
    """What the gate refused, the same together; ``last`` is when, seconds since 1970."""

    who: str
    reason: str
    fix: str
    times: int
    last: float | None


@dataclass(frozen=True)
class Process:
    """One of the coordinator's processes; ``state``: ``running``, ``waiting``, ``ended`` or ``gone``."""

    name: str
    state: str
    restarts: float
    since: float | None
    said: str


@dataclass(frozen=True)
class Picture:
    """Everything at one moment; ``home`` is whether there are hospitals, gate and processes beside the run."""

    version: int
    home: bool
    address: str
    runs: tuple[RunLine, ...]
    run: RunView | None
    hospitals: tuple[Hospital, ...]
    troubles: tuple[Trouble, ...]
    refusals: tuple[Refusal, ...]
    processes: tuple[Process, ...]
    asked_flower: bool
    unreadable: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


class Watcher:
    """Looks at a home again and again; belongs to one thread at a time."""

    def __init__(self, home: HomeFiles, roster: Roster, clock: Callable[[], float] = time.time) -> None:
        """Nothing is read yet."""
        self._home, self._roster, self._clock = home, roster, clock
        self._spending = Spending()

    def look(self, name: str = "") -> Picture:
        """The picture with the run of this name, or with the newest where there is none of it."""
        runs, now = self._home.runs, self._clock()
        run = self._home.run(name) or (runs[0] if runs else None)
        view, records = self._run(run, now) if run else (None, [])
        processes = self._processes()
        return Picture(
            version=VERSION,
            home=self._home.is_home,
            address=said(self._home.toml("coordinator.toml").get("address", "")) if self._home.is_home else "",
            runs=tuple(self._line(each, view, now) for each in runs),
            run=view,
            hospitals=self._hospitals(run, view, records),
            troubles=_troubles(view, records, processes, run, at_home=self._home.is_home)[:MOST_TROUBLES],
            refusals=_refusals(self._home.lines("refusals.jsonl")),
            processes=processes,
            asked_flower=self._home.is_home and self._roster.known() is not None,
            unreadable={**self._home.faults, **(run.faults if run else {})},
        )

    def close(self) -> None:
        """Stop what is computed aside."""
        self._spending.close()

    def _run(self, run: RunFiles, now: float) -> tuple[RunView, list[Record]]:
        records, study = run.records(), run.study
        progress = progress_of(run, records, now)
        released = table(run.json("model.json"))
        names = sorted({name for record in records for name in record.sites} | set(progress.sites))
        under_way = progress.round if progress.phase == "round" else 0
        view = RunView(
            name=run.name,
            title=said(study.title) if study else run.name,
            digest=study.digest if study else str(table(run.json("run.json")).get("study", "")),
            strategy=study.federation.strategy if study and not study.unplanned else "",
            synthetic=run.synthetic,
            progress=progress,
            curves={metric: curves(records, released, metric) for metric in METRICS},
            parts=parts(records, names, progress.sites, under_way),
            traffic=traffic(records),
            privacy=promised(study),
            outcome=outcome_of(run),
            plan=plan_of(run),
        )
        return view, records

    def _line(self, run: RunFiles, view: RunView | None, now: float) -> RunLine:
        shown = view if view and view.name == run.name else None
        progress = shown.progress if shown else progress_of(run, run.records(), now)
        title = run.study.title if run.study else run.name
        return RunLine(run.name, said(title), progress.headline, progress.changed)

    def _hospitals(self, run: RunFiles | None, view: RunView | None, records: Sequence[Record]) -> tuple[Hospital, ...]:
        enrolled = {str(row["name"]): row for row in self._home.enrolled()}
        seen = self._roster.known() if self._home.is_home else None
        now = view.progress.sites if view else {}
        told = {name for record in records for name in record.sites}
        spent = self._spent(run, view, records)
        start = records[0].sites if records else view.plan.people if view and view.plan else {}
        found = []
        for name in sorted({*enrolled, *told, *now}):
            site, flower, people = now.get(name), (seen or {}).get(name), start.get(name, {})
            online = _online(flower, site.state if site else "", seen is not None and name in enrolled)
            found.append(
                Hospital(
                    name=name,
                    online=online,
                    last_seen=flower.last_seen if flower else None,
                    doing=_doing(site, online),
                    state=site.state if site else "",
                    why=explain(site.why)[0] if site and site.why else "",
                    participants=people.get("participants"),
                    training=people.get("training"),
                    revoked=said(enrolled.get(name, {}).get("revoked", "")),
                    spent=spent.get(name),
                    left=bool(flower and flower.left),
                )
            )
        return tuple(sorted(found, key=lambda h: (bool(h.revoked), h.name)))

    def _spent(self, run: RunFiles | None, view: RunView | None, records: Sequence[Record]) -> dict[str, Spent]:
        """Of every hospital that has described itself, in a private study."""
        study = run.study if run else None
        if study is None or view is None or study.privacy is None or not records:
            return {}
        now = view.progress.sites if view.progress.phase == "round" else {}
        rounds = rounds_at_most(records, {name: site.state for name, site in now.items()})
        releases = 1 + (view.outcome is not None)
        names = {name for record in records for name in record.sites}
        return {name: self._spending.of(study, rounds[name], releases) for name in sorted(names)}

    def _processes(self) -> tuple[Process, ...]:
        written = self._home.written("run/state.json")
        found = []
        for name, told in table(self._home.json("run/state.json")).items():
            about = table(told)
            if not about:
                continue
            state = str(about.get("state", ""))
            if state == "running" and alive(about.get("pid"), written) is False:
                state = "gone"
            restarts, since = number(about.get("restarts")) or 0, moment(about.get("since"))
            found.append(Process(said(name), state, restarts, since, said(about.get("said", ""))))
        return tuple(found)


def _doing(site: SiteNow | None, online: bool | None) -> str:
    """Who is asked and cannot be reached does nothing."""
    if site is None:
        return ""
    return "is waited for" if online is False and site.state == "asked" else site.doing


def _online(flower: Seen | None, state: str, known: bool) -> bool | None:
    """Flower's word, else what the run says; None where nobody knows."""
    if flower is not None:
        return flower.online
    if known:
        return False  # enrolled, and Flower has never seen it
    return {"away": False, "asked": True, "answered": True, "refused": True, "failed": True}.get(state)


def _troubles(
    view: RunView | None,
    records: Sequence[Record],
    processes: Sequence[Process],
    run: RunFiles | None,
    *,
    at_home: bool,
) -> tuple[Trouble, ...]:
    lost = [p.name for p in processes if p.state in ("gone", "ended")]
    up = bool(processes) and len(lost) < len(processes)
    found = of_lost_processes(lost, all_of_them=not up) if lost or (at_home and not processes) else []
    found += [of_restart(p.name, p.restarts, p.said) for p in processes if p.state == "waiting" and p.restarts]
    if view is None or run is None:
        return tuple(found)
    progress = view.progress
    found += _of_the_run(progress, table(run.json("submitted.json")), up=up)
    if progress.running and (lacking := said(run.live.get("trouble", ""))):
        remedy = "nothing, if it passes; else sarco-coordinator logs superlink --home HOME"
        found.append(Trouble("site", "the coordinator", "now", lacking, remedy, ""))
    for name, site in progress.sites.items():
        if site.state in ("refused", "failed", "away"):
            what, remedy = explain(site.why or site.state)
            found.append(Trouble("site", name, "now", what, remedy, site.why))
    told_now = {trouble.who for trouble in found}
    over = progress.phase == "done" or progress.round > progress.done + 1
    of_records = [(record.round, record.failures) for record in records]
    earlier = of_rounds(of_records, last=progress.done, current=not over)
    short = [(record.round, attempt.failures) for record in records for attempt in record.attempts]
    earlier += [t for t in of_rounds(short, last=progress.done, current=False) if t not in earlier]
    now = {name: site.state for name, site in progress.sites.items()}
    past = [t.who in told_now or over_since(t, now.get(t.who, "")) for t in earlier]
    return (*found, *(replace(t, weight="note") if is_past else t for t, is_past in zip(earlier, past, strict=True)))


def _of_the_run(progress: Progress, submitted: Mapping[str, Any], *, up: bool) -> list[Trouble]:
    """Why the run does not go on; ``submitted`` is what server/submissions.py keeps of it."""
    if progress.phase not in ("failed", "interrupted"):
        return []
    wanted = submitted.get("wanted")
    if wanted is False and submitted.get("why") == STOPPED:
        return [of_stopped_run()]
    if progress.phase == "failed":
        return [of_ending(progress.failure)]
    return [of_lost_run(wanted=bool(wanted) if wanted is not None else None, up=up)]


def _refusals(entries: Sequence[Mapping[str, Any]]) -> tuple[Refusal, ...]:
    """The same refusals together (server/refusals.py), the latest first."""
    found: dict[tuple[str, str], Refusal] = {}
    for entry in entries:
        who = said(entry.get("site") or entry.get("address") or "somebody")
        reason, last = said(entry.get("reason", "")), moment(entry.get("last", entry.get("time")))
        before = found.get((who, reason))
        times = int(number(entry.get("count")) or 1) + (before.times if before else 0)
        latest = max(last or 0.0, (before.last or 0.0) if before else 0.0) or None
        found[who, reason] = Refusal(who, reason, said(entry.get("fix", "")), times, latest)
    return tuple(sorted(found.values(), key=lambda row: -(row.last or 0.0)))[:MOST_REFUSALS]
