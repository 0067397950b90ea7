"""The budget as a curve and as a page for whoever answers for data protection: no request to anywhere, nobody named."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from client.budget_figures import Point, StudySpent, Summary
from client.budget_words import NOT_COVERED, figures, spent_words
from client.quality.style import CSS

INK, MUTED, PALE, WARNING = "#1f2328", "#6b7178", "#d9dce0", "#b3261e"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
"""Okabe and Ito (2008): told apart by everybody; dashes tell them apart in grey."""

DASHES: tuple[tuple[float, ...], ...] = ((1, 0), (6, 2), (2, 1.5), (6, 2, 1.5, 2), (8, 2, 2, 2, 2, 2), (1, 1))
_SHOWN = len(COLOURS)
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def picture(found: Summary) -> bytes:
    """Epsilon from charge to charge as a PNG: everything together, each study, and the limits."""
    with rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(8.6, 4.2), layout="constrained")
        axes = figure.add_subplot()
        _studies(axes, found)
        _together(axes, found)
        _unprotected(axes, found)
        mark = "SYNTHETIC participants. " if found.synthetic else ""
        figure.suptitle(
            f"{mark}{found.site}: privacy spent on the participant who has spent most", x=0.01, ha="left", fontsize=10
        )
        axes.set_ylabel(f"epsilon at delta {found.budget.delta:g}")
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        axes.set_xlim(0, max((p.charge for p in found.points), default=1) * 1.02)
        axes.set_xlabel("charges, in the order of the ledger; days on which a study began or went on")
        if found.points:
            figure.legend(loc="outside lower left", frameon=False, fontsize=8.5, ncols=2)
        target = io.BytesIO()
        FigureCanvasAgg(figure)
        figure.savefig(target, format="png", dpi=150, metadata={"Software": None})
    return target.getvalue()


def _together(axes: Axes, found: Summary) -> None:
    """The black curve, and the limits as lines; in words where they are so far off that the curve would be flat."""
    finite = [p for p in found.points if math.isfinite(p.lifetime)]
    highest = max((p.lifetime for p in finite), default=0.0)
    if finite:
        _curve(axes, finite, [p.lifetime for p in finite], color=INK, lw=2.4, label="all studies together", zorder=1)
    for name, limit, dashes in (
        ("lifetime limit", found.budget.lifetime, (5, 3)),
        ("limit of one study", found.budget.one_study, (1.5, 2)),
    ):
        far = f"{limit:g}, above" if math.isfinite(limit) else "none"
        if math.isfinite(limit) and limit <= 4 * highest:
            axes.axhline(limit, color=WARNING, lw=1.3, dashes=dashes, label=f"{name}: {limit:g}")
        else:
            axes.plot([], [], color=WARNING, lw=1.3, dashes=dashes, label=f"{name}: {far}")


def _studies(axes: Axes, found: Summary) -> None:
    """A curve for each study, and the day on which its charges begin."""
    for k, study in enumerate(found.studies[:_SHOWN]):
        own = [p for p in found.points if p.study == study.study and math.isfinite(p.of_study)]
        if own:
            look = {"color": COLOURS[k], "lw": 1.5, "dashes": DASHES[k], "label": _short(study)}
            _curve(axes, own, [p.of_study for p in own], zorder=2, **look)
    begun = [p for before, p in zip([None, *found.points], found.points, strict=False) if _begins(before, p)]
    axes.set_xticks([p.charge for p in begun], [p.at[:10] for p in begun], ha="left", fontsize=8.5)
    for point in begun[1:]:
        axes.axvline(point.charge - 0.5, color=PALE, lw=0.8, zorder=0)


def _begins(before: Point | None, point: Point) -> bool:
    return before is None or before.study != point.study


def _curve(axes: Axes, points: list[Point], heights: list[float], **look: Any) -> None:
    """From nothing on, and a dot at the end."""
    places = [points[0].charge - 1, *(p.charge for p in points)]
    axes.plot(places, [0.0, *heights], **look)
    axes.plot(places[-1], heights[-1], "o", ms=4, color=look["color"], zorder=3)


def _unprotected(axes: Axes, found: Summary) -> None:
    plain = [p for p in found.points if math.isinf(p.of_study)]
    if plain:
        start = plain[0].charge
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the words above the curve
        axes.axvspan(start - 0.5, found.points[-1].charge * 1.02, color=WARNING, alpha=0.08, lw=0)
        early = start < 0.4 * found.points[-1].charge
        axes.annotate(
            "models trained without protection\nhave left: no epsilon holds",
            (start - 0.5, 0.98), xycoords=("data", "axes fraction"), textcoords="offset points", color=WARNING,
            xytext=(6 if early else -6, 0), va="top", ha="left" if early else "right", fontsize=8.5,
        )  # fmt: skip


def _short(study: StudySpent) -> str:
    title = study.title if len(study.title) <= 44 else f"{study.title[:43].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    return f"{title} ({study.study[:8]})" if title else f"study {study.study[:8]}"


def page(found: Summary) -> str:
    """The summary as one HTML page; equal ledgers give equal pages."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    of = f" of {found.budget.lifetime:g}" if math.isfinite(found.budget.lifetime + found.epsilon) else ""
    return environment.from_string(_HTML).render(
        found=found,
        css=Markup(CSS + _CSS),  # noqa: S704 - our own constants
        spent=f"{spent_words(found.epsilon)}{of}" if found.people else "nothing was spent",
        kind=_kind(found),
        said=figures(found),
        spent_words=spent_words,
        not_covered=NOT_COVERED,
        curve=base64.b64encode(picture(found)).decode(),
    )


def _kind(found: Summary) -> str:
    """Red where no epsilon holds, amber where so little is left that no study fits, else green."""
    if math.isinf(found.epsilon):
        return "errors"
    limit = found.budget.lifetime
    little = math.isfinite(limit) and limit - found.epsilon <= _LITTLE * limit
    return "little-left" if little else "may-join"


_LITTLE = 0.05
"""Of the lifetime limit: what is left below this is hardly a study."""

_CSS = """
.little-left { background: #fdf8ee; border-color: var(--warning); } .little-left .large { color: var(--warning); }
figure { margin: 1.6rem 0; } figure img { width: 100%; height: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem .45rem 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 650; } td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
ul.plain { list-style: disc; padding-left: 1.2rem; max-width: 52rem; } ul.plain li { margin: .35rem 0; }
"""
_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Privacy spent: {{ found.site }}</title>
<style>{{ css }}</style>
</head>
<body>
{% if found.synthetic %}
<div class="banner"><b>SYNTHETIC</b> These participants do not exist.</div>
{% endif %}
<main>
<h1>Privacy spent <span>by the ledger of {{ found.site }}</span></h1>
<div class="verdict {{ kind }}"><div></div><div>
<p class="large">{{ spent | capitalize }}</p>
{% for label, words in said %}
<p>{% if label %}<b>{{ label | capitalize }}:</b> {% endif %}{{ words }}</p>
{% endfor %}
</div></div>
{% if found.points %}
<figure><img alt="Epsilon over time, with the limits" src="data:image/png;base64,{{ curve }}"></figure>
{% endif %}
<h2>By study</h2>
<table>
<tr><th>Study</th><th>Spent on whoever spent most</th><th>Participants</th><th>When</th><th>Charged for</th></tr>
{% for study in found.studies %}
<tr><td>{{ study.title or "not among the studies on record" }}<br><code>{{ study.study[:16] }}</code></td>
<td class="number">{{ spent_words(study.epsilon) }}</td><td class="number">{{ "{:,}".format(study.people) }}</td>
<td>{{ study.when }}</td>
<td>{% for part in study.parts %}{{ part.words }}: {{ part.facts }}<br>{% endfor %}</td></tr>
{% endfor %}
</table>
<p class="meta">Studies on the same people add up, and less than their epsilons added: the ledger keeps facts (noise,
chance to be in a step, steps) and computes epsilon from all of a person's facts together.</p>
{% if found.changes %}
<h2>People and tables</h2>
<ul class="plain">{% for change in found.changes %}<li>{{ change }}</li>{% endfor %}</ul>
{% endif %}
<h2>What this does not cover</h2>
<ul class="plain">{% for sentence in not_covered %}<li>{{ sentence }}</li>{% endfor %}</ul>
<p class="meta">Every row of the ledger was checked. Its head is <code>{{ found.head }}</code>.</p>
</main>
</body>
</html>
"""
