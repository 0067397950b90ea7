"""The drawings of a preview: the histogram as it leaves, and the budget before and after. Plain SVG, no script."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from sarco_models.histograms import MergedHistogram

_WIDTH, _BLUE, _GREY = 720, "#0072B2", "#868e96"


def histogram(shown: MergedHistogram, axis: str = "predicted probability") -> Markup:
    """Merged bins by what the axis says: positives above the line, negatives below; area is people."""
    starts, ends = shown.starts / shown.num_bins, shown.ends / shown.num_bins
    widths = ends - starts
    most = max(float((c / widths).max()) for c in (shown.positives, shown.negatives)) or 1.0
    middle, tall = 95.0, 80.0
    bars = []
    for start, width, up, down in zip(starts, widths, shown.positives, shown.negatives, strict=True):
        x, w = 10 + 700 * float(start), max(700 * float(width) - 0.6, 0.8)
        for people, sign, colour in ((int(up), -1, _BLUE), (int(down), 1, _GREY)):
            if people:
                high = tall * people / float(width) / most
                y = middle - high if sign < 0 else middle
                bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{high:.1f}" fill="{colour}"/>')
                at = middle - high - 4 if sign < 0 else middle + high + 13
                bars.append(f'<text x="{x + w / 2:.1f}" y="{at:.1f}" text-anchor="middle">{people}</text>')
    ticks = "".join(
        f'<text x="{10 + 700 * t:.0f}" y="212" text-anchor="{a}">{words}</text>'
        for t, a, words in ((0, "start", "0"), (0.5, "middle", axis), (1, "end", "1"))
    )
    line = f'<line x1="10" x2="710" y1="{middle}" y2="{middle}" stroke="#1f2328"/>'
    label = f"Histogram by {axis} as it leaves"
    return Markup(  # noqa: S704 - numbers and our own words
        f'<svg class="hist" viewBox="0 -6 {_WIDTH} 224" role="img" aria-label="{label}">{"".join(bars)}{line}{ticks}'
        "</svg>"
    )


@dataclass(frozen=True)
class Ends:
    """Lifetime epsilons: spent, after one round, after the study, and the limit (infinite where there is none)."""

    spent: float
    one_round: float
    study: float
    limit: float


def scale(ends: Ends) -> Markup:
    """The budget as a bar: what is spent, what this study adds, and the limit."""
    finite = [v for v in (ends.spent, ends.one_round, ends.study, ends.limit) if math.isfinite(v)]
    most = max([*finite, 1e-6]) * 1.12

    def x(value: float) -> float:
        return 10 + 690 * min(value, most) / most

    spent, first, last = (x(v) for v in (ends.spent, ends.one_round, ends.study))
    parts = [
        '<rect x="10" y="44" width="690" height="22" fill="#f5f6f7"/>',
        f'<rect x="10" y="44" width="{spent - 10:.1f}" height="22" fill="{_GREY}"/>',
        f'<rect x="{spent:.1f}" y="44" width="{max(last - spent, 0.8):.1f}" height="22" fill="{_BLUE}"/>',
        f'<line x1="{first:.1f}" x2="{first:.1f}" y1="40" y2="70" stroke="#fff" stroke-width="1.5"/>',
        f'<text x="10" y="88">spent {ends.spent:.2f}</text>',
        f'<text x="{max(last, 250):.1f}" y="88" text-anchor="end">after this study {ends.study:.2f}</text>',
    ]
    if math.isfinite(ends.limit):
        at = x(ends.limit)
        anchor = "end" if at > 200 else "start"
        parts += [
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="34" y2="74" stroke="#b3261e" stroke-width="2.5"/>',
            f'<text x="{at:.1f}" y="26" text-anchor="{anchor}">your limit {ends.limit:g}</text>',
        ]
    return Markup(  # noqa: S704 - numbers and our own words
        f'<svg class="scale" viewBox="0 8 {_WIDTH} 88" role="img" aria-label="Epsilon spent and to be spent">'
        f"{''.join(parts)}</svg>"
    )
