"""The picture as pieces of a page: each is replaced by itself when it changes, and nothing else moves.

Times are written as seconds in ``data-`` attributes beside a text in UTC; the browser's own clock makes "4 min" of
them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from server.arms import CENTRAL
from server.dashboard.charts import MOST_LINES, bar_chart, line_chart, names_shown
from server.dashboard.history import GRID_ROUNDS, Curve
from server.dashboard.state import Picture, RunView
from server.tables import ABSENT, number, size

FOLDER = Path(__file__).parent
TABLE_ROUNDS = 50
"""Rounds in the table behind a chart."""

SECTIONS = ("progress", "troubles", "outcome", "hospitals", "learning", "parts", "traffic", "privacy", "gate",
            "processes", "unreadable")  # fmt: skip
"""In their order on the page, below the head of it."""

PIECES = ("banner", "runs", "head", *SECTIONS)
"""Each is a macro of that name in pieces.html, and an element of that id in page.html."""

METRIC_NAMES = {"auc": "AUC", "dice": "Dice", "loss": "Loss", "train_loss": "Loss in training"}
METRIC_WORDS = {
    "auc": "On each hospital's own validation people and on the central test people: .5 is a coin, 1 is never wrong.",
    "dice": "Overlap of found with drawn muscles, on each hospital's own validation people and on the central test "
    "people; mean over muscles and people. 0 is nowhere, 1 is the same outline.",
    "loss": "On the same people; lower is better. Where it rises and the AUC does not fall, the model is too sure.",
    "train_loss": "On the people whom the hospitals train on, during training: it nearly always falls.",
}
LOSS_OF_MUSCLES = "On the same people; lower is better. Where it rises and the Dice does not fall, it is too sure."
COINS = {"auc": 0.5}
STATES = {
    "answered": ("●", "answered"),
    "asked": ("…", "at work"),
    "refused": ("✕", "refused"),
    "failed": ("!", "answer not usable"),
    "away": ("○", "no answer"),
    "none": ("·", "not asked"),
}
"""State of a hospital in a round -> sign, word."""


@cache
def _environment() -> Environment:
    files = FileSystemLoader(FOLDER)
    found = Environment(loader=files, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters.update(clock=clock, past=past, left=left, size=size, decimals=number, count=_count)
    return found


def page(picture: Picture) -> str:
    """The whole page, as it is at first; it works without scripts, too."""
    filled = {name: Markup(text) for name, text in pieces(picture).items()}  # noqa: S704 - escaped there
    template = _environment().get_template("page.html")
    name = picture.run.name if picture.run else ""
    return template.render(title=window_title(picture), pieces=filled, sections=SECTIONS, run=name)


def window_title(picture: Picture) -> str:
    """For the window's title: what to see without opening it."""
    if not picture.run:
        return "No run yet"
    mark = "SYNTHETIC: " if picture.run.synthetic else ""
    return f"{mark}{picture.run.progress.headline} · {picture.run.title}"


def pieces(picture: Picture) -> dict[str, str]:
    """Every piece's content by name; empty where there is nothing to show."""
    template = _environment().get_template("pieces.html")
    about: dict[str, Any] = {
        "p": picture,
        "run": picture.run,
        "links": {line.name: "/?" + urlencode({"run": line.name}) for line in picture.runs},
        "charts": _charts(picture.run) if picture.run else [],
        "moved": bar_chart(picture.run.traffic) if picture.run and picture.run.traffic else "",
        "states": STATES,
        "absent": ABSENT,
        "total": _total(picture.run) if picture.run else (0.0, 0.0),
        "table_rounds": TABLE_ROUNDS,
        "grid_rounds": GRID_ROUNDS,
        "most_lines": MOST_LINES,
    }
    module = template.make_module(about)
    return {name: str(getattr(module, name)()).strip() for name in PIECES}


def as_json(picture: Picture) -> str:
    """The pieces as the page fetches them: the same picture gives the same text."""
    content = {"title": window_title(picture), "say": announcement(picture), "pieces": pieces(picture)}
    return json.dumps(content, separators=(",", ":"), sort_keys=True)


def announcement(picture: Picture) -> str:
    """One sentence for those who hear the page; it changes with the phase, the round and the number of troubles."""
    if not picture.run:
        return "There is no run yet."
    troubles = sum(t.weight != "note" for t in picture.troubles)
    more = f" {troubles} {'thing needs' if troubles == 1 else 'things need'} attention." if troubles else ""
    return f"{picture.run.progress.headline}.{more}"


def _total(run: RunView) -> tuple[float, float]:
    """Bytes to and from all hospitals so far."""
    return sum(row.down or 0 for row in run.traffic), sum(row.up or 0 for row in run.traffic)


def _charts(run: RunView) -> list[dict[str, Any]]:
    found = []
    for metric, curves in run.curves.items():
        drawn = [curve for curve in curves if curve.points]
        if drawn:
            found.append(
                {
                    "name": METRIC_NAMES[metric],
                    "words": LOSS_OF_MUSCLES if metric == "loss" and run.curves.get("dice") else METRIC_WORDS[metric],
                    "svg": line_chart(drawn, run.progress.rounds, what=METRIC_NAMES[metric], coin=COINS.get(metric)),
                    "hidden": len(drawn) - len(names_shown(drawn)),
                    "head": ["central test" if c.name == CENTRAL else c.name for c in drawn],
                    "rows": _rows(drawn),
                }
            )
    return found


def _rows(curves: Sequence[Curve]) -> list[tuple[str, list[str]]]:
    """The last rounds first: round, and a number for each curve."""
    by_round: dict[int, dict[int, float]] = {}
    for k, curve in enumerate(curves):
        for round_, value in curve.points:
            by_round.setdefault(round_, {})[k] = value
    latest = sorted(by_round, reverse=True)[:TABLE_ROUNDS]
    return [(str(r) if r else "start", [number(by_round[r].get(k), 3) for k in range(len(curves))]) for r in latest]


# --- times ------------------------------------------------------------------------------------------------------------


def clock(seconds: float | None) -> Markup:
    """A moment; the browser writes it in its own time zone."""
    return _time(seconds, "at")


def past(seconds: float | None) -> Markup:
    """How long ago a moment is."""
    return _time(seconds, "since")


def left(seconds: float | None) -> Markup:
    """How long it is until a moment."""
    return _time(seconds, "until")


def _time(seconds: float | None, kind: str) -> Markup:
    if seconds is None:
        return escape(ABSENT)
    try:
        shown = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return escape(ABSENT)
    return Markup('<time data-{}="{:.0f}">{}</time>').format(Markup(kind), seconds, shown)  # noqa: S704 - a word of ours


def _count(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
