"""How far a run is: what it does at this moment, by when, and about when it will be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sarco_models.config import StudyConfig
from server.dashboard.files import Record, RunFiles, moment, number, said, table
from server.dashboard.roster import alive
from server.plan_file import FILE as PLAN

LOOKED_BACK = 5
"""Rounds that the time of the next is estimated from."""

_HEADLINES = {
    "starting": "Is being started",
    "waiting": "Waiting for hospitals",
    "plan": "Hospitals tell the sums that the network is planned from",
    "describe": "Hospitals count their participants",
    "setup": "Hospitals receive what no round carries again",
    "evaluate": "The threshold is frozen",
    "assess": "Hospitals assess the released model",
    "probe": "Hospitals measure what the model betrays",
    "done": "Done",
}
_DOING = {
    "waiting": ("is waited for", "is ready"),
    "plan": ("measures its images", "has told its sums"),
    "describe": ("counts its participants", "has counted its participants"),
    "setup": ("receives the start", "has the start"),
    "round": ("works on round {round}", "has answered round {round}"),
    "evaluate": ("scores the final model", "has scored the final model"),
    "assess": ("assesses the released model", "has assessed the released model"),
    "probe": ("measures what the model betrays", "has measured what the model betrays"),
}
_OF_MUSCLES = {
    "evaluate": "Hospitals score the final model",
    "assess": "Hospitals measure the muscles that the released model finds",
}
_DOING_OF_MUSCLES = {
    "describe": ("counts its participants and images", "has counted its participants and images"),
    "assess": ("measures the muscles that the released model finds", "has measured the muscles that it finds"),
}
"""In a study that finds muscles, where it is other than in one that diagnoses."""

_OF_A_PLAN = {
    "done": "Planned: nothing was trained",
    "failed": "Stopped before there was a plan",
    "interrupted": "Interrupted before there was a plan",
}
"""In a study whose network is planned first."""

PHASES = (*_HEADLINES, "round", "failed")


@dataclass(frozen=True)
class SiteNow:
    """What a hospital does in the present phase: ``asked``, ``answered``, ``refused``, ``failed`` or ``away``."""

    state: str
    why: str
    seconds: float | None
    doing: str


@dataclass(frozen=True)
class Progress:
    """A run at this moment; times are seconds since 1970.

    Attributes:
        phase: one of :data:`PHASES`, of which ``starting`` is submitted and silent so far; ``interrupted`` where its
            process is gone, ``unknown`` where it says nothing.
        headline: in a few words.
        round: under way, or the last complete one between rounds.
        rounds: of the study; 0 where it is not known.
        done: complete rounds.
        attempt: at this round, from 1.
        started: when this phase began.
        deadline: when its time is over.
        ends: about when the last round will be complete.
        needed: hospitals that must answer.
        asked, answered: hospitals in this phase.
        running: whether the run's process is there; None where that cannot be said.
        changed: when the run last said anything.
        failure: why it stopped, as it was written.
        sites: what each hospital does.
    """

    phase: str
    headline: str
    round: int
    rounds: int
    done: int
    attempt: int
    started: float | None
    deadline: float | None
    ends: float | None
    needed: int
    asked: int
    answered: int
    running: bool | None
    changed: float | None
    failure: str
    sites: Mapping[str, SiteNow]


def progress_of(run: RunFiles, records: Sequence[Record], now: float) -> Progress:
    """What live.json says, held against the records and against whether the process is there."""
    live, study = run.live, run.study
    done = max(len(records) - 1, 0)
    rounds = int(number(live.get("rounds")) or 0) or (study.federation.rounds if study else 0)
    rounds = 0 if study and study.unplanned else rounds
    others = _other_headlines(study)
    phase, running = _phase(run, live)
    told = int(number(live.get("round")) or 0)
    round_ = told if phase == "round" else done
    started = moment(live.get("started"))
    at_work = running is not False
    muscles = bool(study and study.segments)
    sites = _sites(live, phase, round_, muscles=muscles) if at_work else {}
    attempt = int(number(live.get("attempt")) or 1)
    return Progress(
        phase=phase,
        headline=others.get(phase) or _headline(phase, told if phase == "waiting" else round_, rounds),
        round=round_,
        rounds=rounds,
        done=done,
        attempt=attempt,
        started=started,
        deadline=moment(live.get("deadline")) if at_work else None,
        ends=_ends(records, started, rounds - done, now) if phase == "round" else None,
        needed=int(number(live.get("needed")) or 0) or (study.federation.min_sites if study else 0),
        asked=len(sites),
        answered=sum(site.state == "answered" for site in sites.values()),
        running=running,
        changed=moment(live.get("time")) or run.written("run.json"),
        failure=said(live.get("failure", "")) if phase == "failed" else "",
        sites=sites,
    )


def _other_headlines(study: StudyConfig | None) -> Mapping[str, str]:
    """Where a study is other than one that diagnoses."""
    if study is None or not study.segments:
        return {}
    return _OF_A_PLAN if study.unplanned else _OF_MUSCLES


def _phase(run: RunFiles, live: Mapping[str, Any]) -> tuple[str, bool | None]:
    """The phase, and whether the process that has to do with it is there."""
    told = str(live.get("phase", ""))
    if told in ("done", "failed"):
        return told, False
    if told not in PHASES:
        if run.written("leakage.json") is not None or run.written(PLAN) is not None:
            return "done", None
        wanted = table(run.json("submitted.json")).get("wanted")
        return ("starting" if wanted else "unknown"), None
    running = alive(live.get("pid"), moment(live.get("time")))
    return ("interrupted" if running is False else told), running


def _headline(phase: str, round_: int, rounds: int) -> str:
    of = f" of {rounds}" if rounds else ""
    if phase == "round":
        return f"Round {round_}{of}"
    if phase in ("failed", "interrupted", "unknown"):
        word = {"failed": "Stopped", "interrupted": "Interrupted", "unknown": "Not at work"}[phase]
        first = "Not begun yet" if phase == "unknown" else f"{word} before the first round was complete"
        return f"{word}, after round {round_}{of}" if round_ else first
    if phase == "waiting" and round_:
        return f"Round {round_}{of}: waiting for hospitals"
    return _HEADLINES[phase]


def _sites(live: Mapping[str, Any], phase: str, round_: int, *, muscles: bool) -> dict[str, SiteNow]:
    found = {}
    for name, told in table(live.get("sites")).items():
        about = table(told)
        state = str(about.get("state", ""))
        doing = _doing(state, phase, round_, _DOING | _DOING_OF_MUSCLES if muscles else _DOING)
        found[name] = SiteNow(state, said(about.get("why", "")), number(about.get("seconds")), doing)
    return found


def _doing(state: str, phase: str, round_: int, at: Mapping[str, tuple[str, str]]) -> str:
    working, finished = (words.format(round=round_) for words in at.get(phase, ("", "")))
    words = {
        "asked": working,
        "answered": finished,
        "refused": "has refused",
        "failed": "its answer could not be used",
        "away": "is not connected" if phase == "waiting" else "has not answered in time",
    }
    return words.get(state, "")


def _ends(records: Sequence[Record], started: float | None, left: int, now: float) -> float | None:
    """When the last round will be complete if the next ones take as long as the last ones did."""
    took = [record.seconds for record in records[1:][-LOOKED_BACK:] if record.seconds]
    if started is None or left < 1 or not took:
        return None
    one = median(took)
    # Overdue: it may end at any moment; in steps, so that the picture does not change at every look.
    return max(started + one, now - now % 10 + 10) + one * (left - 1)
