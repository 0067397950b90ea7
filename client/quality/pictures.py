"""Small drawings of a data check as inline SVG: arrays in, markup out; every drawing says in words what it shows.

No plotting library: a page holds dozens of drawings and must be written in seconds. The classes differ in place
and in words, never in colour alone. Nothing is drawn of fewer than ``FEWEST`` values.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

FEWEST = 10
"""Smallest number of values of which a histogram or a share is shown."""

CLASSES = {"positive": 1, "negative": 0}
"""Names of the classes and their labels, in the order in which they are shown."""

MAP_COLUMNS = 240
"""Most columns of a missingness map; more participants than this share columns."""

Floats = NDArray[np.float64]

_ADDRESS = "data:image/jpeg;base64,"
_WIDTH, _MARGIN = 280, 8
_LABEL, _BARS, _GAP = 14, 30, 7  # of one class: its words, its tallest bar, and what lies beneath
_MOST_BINS = 24
_INK, _GREY, _SOFT, _RED = "#1f2328", "#737c85", "#eef0f2", "#b3261e"
_FILL = {"positive": "#0072B2", "negative": "#737c85", "everybody": "#4a5560"}


def written(value: float) -> str:
    """Three figures or so, never in powers of ten: 212, 41.2, 4.31, 0.005."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(part: float, whole: float) -> str:
    """A whole percentage; what is nearly nothing or nearly all is never rounded to it."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 1:
        return "< 1 %"
    return "> 99 %" if 99 < share < 100 else f"{share:.0f} %"


def by_class(values: Floats, labels: NDArray[np.int8]) -> dict[str, Floats]:
    """Values that are present, under the names of their classes; together when a class is too small to be shown."""
    present = np.isfinite(values)
    if len(labels) != len(values) or min(int((present & (labels == k)).sum()) for k in CLASSES.values()) < FEWEST:
        return {"everybody": values[present]}
    return {name: values[present & (labels == k)] for name, k in CLASSES.items()}


# ---- distributions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """Equal bins of a round width, wide enough for all values; x in pixels."""

    start: float
    step: float
    bins: int

    @property
    def end(self) -> float:
        return self.start + self.step * self.bins

    def x(self, value: float) -> float:
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * (value - self.start) / (self.end - self.start)

    def counts(self, values: Floats) -> NDArray[np.int64]:
        places = np.floor((values - self.start) / self.step + 1e-9).astype(np.int64)
        return np.bincount(places.clip(0, self.bins - 1), minlength=self.bins)

    def ticks(self) -> list[float]:
        step = _round_step((self.end - self.start) / 4)
        first = math.ceil(self.start / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.end / step + 1e-9) + 1)]


def _round_step(about: float) -> float:
    """Of 1, 2 and 5 times a power of ten the one that is nearest by ratio."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return min((m * power for m in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / about)))


def _bins(values: Floats) -> float:
    """About how many bins. Freedman & Diaconis (1981), who let a lone value far off not widen the others' bins."""
    quarter, three_quarters = np.quantile(values, [0.25, 0.75])
    width = 2 * float(three_quarters - quarter) / len(values) ** (1 / 3)
    return min(_MOST_BINS, max(8, np.ptp(values) / width)) if width else _MOST_BINS


def _axis(values: Floats) -> _Axis:
    low, high = float(values.min()), float(values.max())
    bins = _bins(values)
    if high - low < 1e-9 * max(abs(high), 1e-3):
        wide = abs(high) * 0.05 or 0.5
        low, high = low - wide, high + wide
    step = _round_step((high - low) / bins)
    first = math.floor(low / step + 1e-9)
    return _Axis(first * step, step, math.floor((high - first * step) / step + 1e-9) + 1)


def distribution(groups: Mapping[str, Floats], low: float, high: float, *, name: str, unit: str) -> Markup:
    """Histograms of the classes above each other, then the plausible range with the part that they magnify.

    Args:
        groups: of :func:`by_class`.
        low: smallest plausible value; NaN = no range is drawn.
        high: largest plausible value.
        name: said to those who cannot see.
        unit: likewise.

    Returns:
        An ``svg`` element; nothing when a group has fewer than ``FEWEST`` values.
    """
    if min(map(len, groups.values())) < FEWEST:
        return Markup("")
    values = np.concatenate(list(groups.values()))
    seen, axis = (float(values.min()), float(values.max())), _axis(values)
    shares = {label: axis.counts(own) / len(own) for label, own in groups.items()}
    tallest = max(float(s.max()) for s in shares.values())
    parts: list[Markup] = []
    floor = 0
    for label, own in groups.items():
        median, bottom = float(np.median(own)), floor + _LABEL + _BARS
        parts.append(_words(0, floor + 10, f"{label}: {len(own)} values", "start"))
        parts.append(_words(_WIDTH, floor + 10, f"median {written(median)}", "end"))
        parts.append(_bars(axis, shares[label] / tallest, bottom, _FILL[label]))
        parts.append(_tick(axis.x(median), bottom - _BARS, bottom))
        parts.append(_line(bottom))
        floor = bottom + _GAP
    floor -= _GAP
    parts.append(_scale(axis, floor))
    ruler = math.isfinite(low) and math.isfinite(high)
    if ruler:
        parts.append(_ruler(axis, seen, (low, high), floor + 14))
    medians = [f"{k}: {len(v)} values, median {written(float(np.median(v)))}" for k, v in groups.items()]
    words = f"{name} {unit}. {'; '.join(medians)}. Seen {written(seen[0])} to {written(seen[1])}"
    return Markup('<svg class="dist" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, floor + (54 if ruler else 17), words, Markup("").join(parts)
    )


def _bars(axis: _Axis, heights: Floats, bottom: float, fill: str) -> Markup:
    """One path; a bin that is not empty is always seen, so that a lone value far off is."""
    wide = (_WIDTH - 2 * _MARGIN) / axis.bins
    path = "".join(
        f"M{_MARGIN + i * wide:.1f} {bottom}v-{max(h * _BARS, 1.5):.1f}h{max(wide - 0.8, 0.8):.1f}V{bottom}z"
        for i, h in enumerate(heights)
        if h > 0
    )
    return Markup('<path d="{}" fill="{}"/>').format(path, fill)


def _tick(x: float, top: float, bottom: float) -> Markup:
    """A median: a line in ink with a white edge, so that it stands out of the bars."""
    line = Markup('<path d="M{x:.1f} {a}V{b}" stroke="#fff" stroke-width="3"/>').format(x=x, a=top, b=bottom)
    return line + Markup('<path d="M{x:.1f} {a}V{b}" stroke="{c}" stroke-width="1.5"/>').format(
        x=x, a=top, b=bottom, c=_INK
    )


def _words(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _line(y: float) -> Markup:
    return Markup('<path d="M{} {:.1f}H{}" stroke="{}"/>').format(_MARGIN, y + 0.5, _WIDTH - _MARGIN, _GREY)


def _scale(axis: _Axis, floor: float) -> Markup:
    marks = [
        Markup('<path d="M{x:.1f} {a}v3" stroke="{c}"/>').format(x=axis.x(t), a=floor, c=_GREY)
        + _words(min(max(axis.x(t), 10), _WIDTH - 10), floor + 12.5, written(t), "middle")
        for t in axis.ticks()
    ]
    return _line(floor) + Markup("").join(marks)


def _ruler(axis: _Axis, seen: tuple[float, float], plausible: tuple[float, float], top: float) -> Markup:
    """The plausible range as a line; on it, thick, the part that the histogram magnifies."""
    low, high = plausible
    # Bins are round: their outer edges may lie outside a range that no value leaves.
    start = axis.start if seen[0] < low else max(axis.start, low)
    end = axis.end if seen[1] > high else min(axis.end, high)
    first, last = min(low, start), max(high, end)

    def x(value: float) -> float:
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * (value - first) / (last - first)

    y = top + 20
    lens = Markup('<path d="M{} {t}H{}L{:.1f} {y}H{:.1f}z" fill="{c}"/>').format(
        _MARGIN, _WIDTH - _MARGIN, x(end), x(start), t=top + 3, y=y, c=_SOFT
    )
    line = Markup(
        '<path d="M{a:.1f} {y}H{b:.1f}M{a:.1f} {t}v8M{b:.1f} {t}v8" stroke="{c}" stroke-width="1.5"/>'
    ).format(a=x(low), b=x(high), y=y, t=y - 4, c=_GREY)
    out = seen[0] < low or seen[1] > high
    thick = Markup('<path d="M{:.1f} {y}H{:.1f}" stroke="{}" stroke-width="5"/>').format(
        x(start), max(x(end), x(start) + 2), _RED if out else _INK, y=y
    )
    ends = _words(max(x(low), 0), y + 14, written(low), "start" if x(low) < 30 else "middle")
    ends += _words(min(x(high), _WIDTH), y + 14, written(high), "end" if x(high) > _WIDTH - 30 else "middle")
    middle = _words(_WIDTH / 2, y + 14, "values outside the range" if out else "plausible range", "middle")
    return lens + line + thick + ends + middle


def share_bar(yes: int, values: int, label: str) -> Markup:
    """A horizontal bar for a share; nothing below ``FEWEST`` values."""
    if values < FEWEST:
        return Markup("")
    words = f"{percent(yes, values)} of {label}"
    return Markup(
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path d="M0 0H100V10H0z" fill="{}"/><path d="M0 0H{:.1f}V10H0z" fill="{}"/></svg>'
    ).format(words, _SOFT, 100 * yes / values, _FILL.get(label, _INK))


# ---- missing values and grey levels ----------------------------------------------------------------------------------


def missing_order(missing: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Order of the participants in a map: those who miss most first, equal patterns side by side.

    Args:
        missing: (features, participants).
    """
    return np.lexsort((*(~missing)[::-1], -missing.sum(axis=0)))


def missing_strip(missing: NDArray[np.bool_], name: str) -> Markup:
    """One feature of the map: a dark column where the value is missing; at most ``MAP_COLUMNS`` columns.

    Args:
        missing: (participants,) in the order of the map.
        name: of the feature.
    """
    if not len(missing):
        return Markup("")
    cuts = np.array_split(missing, min(len(missing), MAP_COLUMNS))
    levels = np.array([math.ceil(4 * float(part.mean())) for part in cuts])
    parts = [
        Markup('<path d="{}" fill="{}" fill-opacity="{}"/>').format(_runs(levels == level), _INK, level / 4)
        for level in (1, 2, 3, 4)
        if (levels == level).any()
    ]
    words = f"{name}: {percent(int(missing.sum()), len(missing))} missing"
    return Markup(
        '<svg class="strip" viewBox="0 0 {} 1" preserveAspectRatio="none" shape-rendering="crispEdges" role="img" '
        'aria-label="{}"><path d="M0 0H{w}V1H0z" fill="{}"/>{}</svg>'
    ).format(len(cuts), words, "#dfe9f1", Markup("").join(parts), w=len(cuts))


def _runs(on: NDArray[np.bool_]) -> str:
    """A path over each run of neighbouring columns."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], on, [False])).astype(np.int8)))
    return "".join(f"M{a} 0h{b - a}v1h-{b - a}z" for a, b in zip(edges[::2], edges[1::2], strict=True))


def median_grey(counts: NDArray[np.int64]) -> float:
    """Median grey level of (256,) pixel counts; NaN without a pixel."""
    total = int(counts.sum())
    return float(np.searchsorted(np.cumsum(counts), (total + 1) // 2)) if total else math.nan


def grey_curve(counts: NDArray[np.int64], name: str) -> Markup:
    """How often each grey level occurs, black to white; pure black, which is mostly no tissue, sets no height.

    Args:
        counts: (256,) pixels at each grey level.
        name: of the device.
    """
    bins = counts.reshape(64, 4).sum(axis=1).astype(np.float64)
    highest = float(bins[1:].max())
    if not highest:
        return Markup("")
    heights = (bins / highest).clip(0, 1) * 34
    path = "M0 36" + "".join(f"V{36 - h:.1f}h2.5" for h in heights) + "V36z"
    middle = median_grey(counts)
    return Markup(
        '<svg class="grey" viewBox="0 0 160 44" role="img" aria-label="Grey levels of {}: median {:.0f} of 255">'
        '<path d="{}" fill="{}"/>{}<path d="M0 36.5H160" stroke="{}"/>'
        '<path d="M0 38h40v5H0z" fill="#111"/><path d="M40 38h40v5H40z" fill="#555"/>'
        '<path d="M80 38h40v5H80z" fill="#999"/><path d="M120 38h40v5h-40z" fill="#ddd"/></svg>'
    ).format(name, middle, path, _GREY, _tick(2.5 * middle / 4, 2, 36), _GREY)


# ---- thumbnails ------------------------------------------------------------------------------------------------------


class Album:
    """Thumbnails for a page, until their bytes are spent: a page stays small however large the site is."""

    def __init__(self, limit: int) -> None:
        """Hold at most ``limit`` characters of pictures."""
        self._left = limit

    def take(self, thumbnails: Sequence[bytes], most: int) -> list[str]:
        """Data addresses of the first ``most`` pictures that are there; "" for each that is not, or has no room."""
        taken = [""] * len(thumbnails)
        for k, jpeg in enumerate(thumbnails):
            length = len(_ADDRESS) + 4 * math.ceil(len(jpeg) / 3)
            if most and jpeg and length <= self._left:
                taken[k] = _ADDRESS + base64.b64encode(jpeg).decode("ascii")
                self._left -= length
                most -= 1
        return taken
