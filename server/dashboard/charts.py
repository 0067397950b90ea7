"""Curves and bars as SVG that a page can hold: no library, no script, readable at the width of a telephone.

Lines are told apart by dashes and by their names at their ends as well as by colour (Okabe & Ito 2008). Colours come
from the style sheet, so that a dark screen has its own. Behind each picture stands a table; the picture itself says in
words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from server.arms import CENTRAL
from server.dashboard.history import Curve, Moved
from server.tables import size

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 96, 14, 34
MOST_LINES = 6
"""Beside the central test; the others are in the table."""
MOST_BARS = 30

_DASHES = ("7 3", "2 2.5", "8 3 2 3", "10 3 2 3 2 3", "4 2", "1.5 1.5")
_NAME_LETTERS = 13
_LINE_HEIGHT = 14


def scale(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high`` or a little beyond, at most so many steps; ascending, two or more."""
    span = high - low or abs(high) or 1.0
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def names_shown(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """The curves that are drawn: the first hospitals, and the central test."""
    hospitals = [curve for curve in curves if curve.name != CENTRAL][:MOST_LINES]
    return (*hospitals, *(curve for curve in curves if curve.name == CENTRAL))


def line_chart(curves: Sequence[Curve], rounds: int, *, what: str, coin: float | None = None) -> Markup:
    """One metric over rounds.

    Args:
        curves: at least one, with at least one point each.
        rounds: of the study: where the axis ends.
        what: name of the metric.
        coin: the value of a model that knows nothing, drawn as a rule.
    """
    shown = names_shown(curves)
    values = [value for curve in shown for _, value in curve.points] + ([coin] if coin is not None else [])
    steps = scale(min(values), max(values))
    last = max(1, rounds, *(round_ for curve in shown for round_, _ in curve.points))
    x, y = _place(0, last, LEFT, WIDTH - RIGHT), _place(steps[0], steps[-1], HEIGHT - BOTTOM, TOP)
    parts = [_axes(steps, y, [k for k in scale(0, last) if k <= last], x)]
    if coin is not None:
        parts.append(f'<path class="coin" d="M{LEFT} {y(coin):.1f}H{WIDTH - RIGHT}"/>')
    ends = _apart([y(curve.points[-1][1]) for curve in shown])
    for k, (curve, at) in enumerate(zip(shown, ends, strict=True)):
        parts.append(_line(curve, k, x, y, at))
    return _svg(parts, f"{what} by round", _in_words(shown, what))


def _line(curve: Curve, k: int, x: Callable[[float], float], y: Callable[[float], float], at: float) -> str:
    central = curve.name == CENTRAL
    kind = "central" if central else f"h{k % MOST_LINES}"
    dashes = "" if central else f' stroke-dasharray="{_DASHES[k % len(_DASHES)]}"'
    points = " ".join(f"{x(round_):.1f},{y(value):.1f}" for round_, value in curve.points)
    end_x, end_y = x(curve.points[-1][0]), y(curve.points[-1][1])
    label = "central test" if central else curve.name
    name = label if len(label) <= _NAME_LETTERS else label[: _NAME_LETTERS - 1] + "…"
    return (
        f'<polyline class="line {kind}" points="{points}"{dashes}/>'
        f'<circle class="dot {kind}" cx="{end_x:.1f}" cy="{end_y:.1f}" r="2.6"/>'
        f'<path class="lead" d="M{end_x + 4:.1f} {end_y:.1f}L{WIDTH - RIGHT + 5:.1f} {at:.1f}"/>'
        f'<text class="name {kind}" x="{WIDTH - RIGHT + 8}" y="{at + 4:.1f}">{escape(name)}</text>'
    )


def bar_chart(rows: Sequence[Moved]) -> Markup:
    """Bytes of each round: to the hospitals (full), from them (hollow); the last :data:`MOST_BARS` rounds.

    Args:
        rows: at least one.
    """
    shown = rows[-MOST_BARS:]
    most = max(max(row.down or 0, row.up or 0) for row in shown) or 1
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if most >= u), (1.0, "bytes"))
    steps = scale(0, most / unit, 4)
    right = WIDTH - 12
    y = _place(steps[0], steps[-1], HEIGHT - BOTTOM, TOP + 14)
    slot = (right - LEFT) / len(shown)
    wide = min(slot * 0.38, 16.0)
    every = -(-len(shown) // 10)
    parts = [_axes(steps, y, [], lambda _: 0.0, right=right, unit=name)]
    for k, row in enumerate(shown):
        middle = LEFT + slot * (k + 0.5)
        for kind, value, start in (("down", row.down, middle - wide - 0.5), ("up", row.up, middle + 0.5)):
            top = y((value or 0) / unit)
            parts.append(
                f'<rect class="bar {kind}" x="{start:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}"/>'
            )
        if k % every == 0 or len(shown) <= 10:
            parts.append(_tick(middle, row.round or "start"))
    parts.append(
        f'<rect class="bar down" x="{LEFT + 34}" y="4" width="10" height="10"/>'
        f'<text class="tick" x="{LEFT + 48}" y="13">to the hospitals</text>'
        f'<rect class="bar up" x="{LEFT + 152}" y="4" width="10" height="10"/>'
        f'<text class="tick" x="{LEFT + 166}" y="13">from them</text>'
    )
    last = shown[-1]
    words = f"Bytes by round. In round {last.round}: {size(last.down)} to the hospitals, {size(last.up)} from them."
    return _svg(parts, "Bytes by round", words)


def _axes(  # noqa: PLR0913 - two axes
    steps: Sequence[float],
    y: Callable[[float], float],
    ticks: Sequence[float],
    x: Callable[[float], float],
    *,
    right: float = WIDTH - RIGHT,
    unit: str = "",
) -> str:
    digits = max(0, *(_digits(step) for step in steps))
    parts = []
    for step in steps:
        at, shown = y(step), f"{step:.{digits}f}".replace("-", "−")
        parts.append(f'<path class="rule" d="M{LEFT} {at:.1f}H{right:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="{at + 4:.1f}">{shown}</text>')
    if unit:
        parts.append(f'<text class="tick end" x="{LEFT - 6}" y="13">{escape(unit)}</text>')
    parts += [_tick(x(k), f"{k:g}") for k in ticks if k % 1 == 0]
    middle = (LEFT + right) / 2
    parts.append(f'<text class="tick mid" x="{middle:.1f}" y="{HEIGHT - 4}">round</text>')
    return "".join(parts)


def _tick(middle: float, text: object) -> str:
    return f'<text class="tick mid" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 16}">{escape(text)}</text>'


def _digits(step: float) -> int:
    """Decimals that show a number of :func:`scale` exactly."""
    return next((k for k in range(7) if math.isclose(round(step, k), step, abs_tol=1e-12)), 7)


def _place(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From numbers to pixels."""
    return lambda value: start + (value - low) / (high - low or 1.0) * (end - start)


def _apart(wanted: Sequence[float]) -> list[float]:
    """Heights of names near the wanted ones, far enough from each other to be read, inside the picture."""
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    found = [0.0] * len(wanted)
    least = TOP + 2.0
    for k in order:
        found[k] = least = max(wanted[k], least)
        least += _LINE_HEIGHT
    most = float(HEIGHT - BOTTOM - 4)  # above the numbers of the axis
    for k in reversed(order):
        found[k] = most = min(found[k], most)
        most -= _LINE_HEIGHT
    return found


def _in_words(curves: Sequence[Curve], what: str) -> str:
    ends = [
        f"{'central test' if c.name == CENTRAL else c.name} {c.points[0][1]:.3f} to {c.points[-1][1]:.3f}"
        for c in curves
    ]
    return f"{what}, first to last: {'; '.join(ends)}."


def _svg(parts: Sequence[str], title: str, words: str) -> Markup:
    """Every part is made here, of numbers and of escaped texts."""
    inner = "".join(parts)
    label = escape(f"{title}. {words}")
    return Markup(  # noqa: S704 - see above
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" focusable="false">{inner}</svg>'
    )
