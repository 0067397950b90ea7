"""How exact the measures of a muscle are, and how often the intervals of agreement and correlation hold the truth.

    python benchmarks/muscle_measures.py [--cohorts 1500] [--picture docs/pictures/thickness.png]

Shapes of known size at several spacings and tilts, SYNTHETIC phantoms with their truth, and drawn cohorts. The picture
shows the definitions on a phantom.
"""

import argparse
import time
from collections.abc import Callable
from math import asin, pi, sqrt
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.stats import t

from sarco_models.agreement import bland_altman, icc_2_1
from sarco_models.correlation import bootstrap_correlation, pearson, spearman
from sarco_models.muscle import measure
from sarco_models.overlap import Mask, Spacing, overlap
from sarco_models.scores import Scores
from server.drawing import LEAD, STYLE, WARNING
from simulation.anatomy import MUSCLES, Subject
from simulation.devices import DEVICES
from simulation.phantom import Image, random_subject, render

SPACINGS: tuple[Spacing, ...] = ((0.06, 0.06), (0.1, 0.1), (0.17, 0.17), (0.1, 0.15), (0.2, 0.08))
Shape = Callable[[Scores, Scores], Mask]


# --- shapes of known size ---------------------------------------------------------------------------------------------


def drawn(shape: Shape, mm: Spacing, tilt: float, shift: Scores) -> Mask:
    y, x = ((np.arange(round(side / step)) + 0.5) * step - side / 2 for side, step in zip((36, 60), mm, strict=True))
    y, x, angle = y[:, None] - shift[0], x[None] - shift[1], np.radians(tilt)
    return shape(x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle))


def ellipse(width: float, height: float) -> tuple[Shape, float]:
    return lambda x, y: (2 * x / width) ** 2 + (2 * y / height) ** 2 < 1, pi * width * height / 400


def rounded(width: float, height: float) -> tuple[Shape, float]:
    area = ((width - height) * height + pi * height**2 / 4) / 100
    return lambda x, y: np.hypot(np.maximum(np.abs(x) - (width - height) / 2, 0), y) < height / 2, area


def banana(width: float, height: float) -> tuple[Shape, float]:
    radius = 1.3 * width
    half = width / 2 / radius

    def inside(x: Scores, y: Scores) -> Mask:
        ring = np.abs(np.hypot(x, radius - y) - radius) < height / 2
        return ring & (np.abs(np.arctan2(x, radius - y)) < half)

    return inside, radius * height * 2 * half / 100


def shapes(rng: np.random.Generator) -> None:
    print("Shapes of known size, tilted by -25 to 25 degrees, 60 of each: error (largest)")
    print(f"  {'shape':10s} {'mm per pixel':>14s} {'thickness, mm':>18s} {'area, %':>16s}")
    for name, make in (("ellipse", ellipse), ("rounded", rounded), ("banana", banana)):
        for mm in SPACINGS:
            errors = []
            for _ in range(60):
                width, height = rng.uniform(24, 44), rng.uniform(6, 18)
                shape, area = make(width, height)
                found = measure(drawn(shape, mm, rng.uniform(-25, 25), rng.uniform(-0.5, 0.5, 2)), None, mm)
                errors.append((found.thickness_mm - height, 100 * (found.csa_cm2 / area - 1)))
            mean, most = np.mean(errors, axis=0), np.abs(errors).max(axis=0)
            spacing = f"{mm[0]:g} x {mm[1]:g}"
            print(f"  {name:10s} {spacing:>14s} {mean[0]:+10.3f} ({most[0]:.3f}) {mean[1]:+9.2f} ({most[1]:.2f})")


def phantoms(rng: np.random.Generator, each: int = 40) -> None:
    print(f"\nPhantoms (SYNTHETIC), {each} of each muscle, all machines, 320 px: mean error +- SD (largest)")
    print(f"  {'muscle':24s} {'vertical, mm':>22s} {'area, cm2':>22s} {'perpendicular / vertical':>26s} {'ms':>5s}")
    for muscle in MUSCLES:
        rows, spent = [], 0.0
        for k in range(each):
            image = render(random_subject(rng, muscle), rng, device=list(DEVICES)[k % len(DEVICES)], width_px=320)
            mm = (image.mm_per_pixel, image.mm_per_pixel)
            start = time.perf_counter()
            ours = measure(image.mask, image.pixels, mm)
            spent += time.perf_counter() - start
            down = measure(image.mask, None, mm, direction="vertical").thickness_mm
            truth = image.truth
            rows.append((down - truth.thickness_mm, ours.csa_cm2 - truth.csa_cm2, ours.thickness_mm / down))
        (bias, area, share), (sd, area_sd, share_sd) = np.mean(rows, axis=0), np.std(rows, axis=0)
        most = np.abs(rows).max(axis=0)
        print(
            f"  {muscle:24s} {bias:+7.3f} +- {sd:.3f} ({most[0]:.2f}) {area:+7.4f} +- {area_sd:.4f} ({most[1]:.3f}) "
            f"{share:14.3f} +- {share_sd:.3f} {1000 * spent / each:9.1f}"
        )


def edges(rng: np.random.Generator) -> None:
    image = render(Subject(), rng, width_px=320)
    mm = (image.mm_per_pixel, image.mm_per_pixel)
    print("\nA phantom's mask moved by whole pixels down: the distances between edges")
    for pixels in (1, 3, 8):
        start = time.perf_counter()
        found = overlap(np.roll(image.mask, pixels, axis=0), image.mask, mm)
        spent = 1000 * (time.perf_counter() - start)
        words = f"Dice {found.dice:.3f}, HD95 {found.hd95_mm:.2f} mm, ASSD {found.assd_mm:.2f} mm"
        print(f"  by {pixels * mm[0]:.2f} mm: {words} ({spent:.1f} ms)")


# --- coverage ---------------------------------------------------------------------------------------------------------


def coverage(cohorts: int, rng: np.random.Generator) -> None:
    print(f"\nHow often 95 % intervals hold the truth, {cohorts} cohorts each")
    truth, held = 1.96 * sqrt(1.0 + 0.7**2), []
    for _ in range(cohorts):
        counts = rng.integers(1, 8, 19)
        ids = [str(k) for k in np.repeat(np.arange(19), counts)]
        base = rng.normal(14, 3, counts.sum())
        a = base + np.repeat(rng.normal(0, 1.0, 19), counts) + rng.normal(0, 0.7, counts.sum())
        people, images = bland_altman(a, base, ids), bland_altman(a, base)
        held.append(
            [
                people.bias.low <= 0 <= people.bias.high,
                people.upper.low <= truth <= people.upper.high,
                images.bias.low <= 0 <= images.bias.high,
                images.upper.low <= truth <= images.upper.high,
            ]
        )
    bias, limit, wrong_bias, wrong_limit = np.mean(held, axis=0)
    print(f"  19 people, 1 to 7 images: bias {bias:.3f}, limit {limit:.3f}; ", end="")
    print(f"images counted as people: {wrong_bias:.3f}, {wrong_limit:.3f}")
    print(f"  19 people, 1 image: limit, Zou {_single(cohorts, 19, rng)[0]:.3f}, ", end="")
    print(f"Bland and Altman 1999 {_single(cohorts, 19, rng)[1]:.3f}")
    hits = []
    for _ in range(cohorts):
        table = rng.normal(0, sqrt(0.9), (19, 1)) + rng.normal(0, sqrt(0.1), (19, 2))
        found = icc_2_1(table)
        hits.append(found.low <= 0.9 <= found.high)
    print(f"  ICC(2,1) of .9, 19 people: {np.mean(hits):.3f}")
    for rho in (0.4223, 0.8):
        print(f"  r = {rho:g}, 19 people: " + ", ".join(_correlations(cohorts, rho, rng)))


def _single(cohorts: int, n: int, rng: np.random.Generator) -> Scores:
    held = []
    for _ in range(cohorts):
        base, off = rng.normal(14, 3, n), rng.standard_normal(n)
        zou = bland_altman(base + off, base).upper
        limit = off.mean() + 1.96 * off.std(ddof=1)
        half = t.ppf(0.975, n - 1) * off.std(ddof=1) * sqrt(1 / n + 1.96**2 / (2 * (n - 1)))
        held.append((zou.low <= 1.96 <= zou.high, limit - half <= 1.96 <= limit + half))
    return np.asarray(np.mean(held, axis=0))


def _correlations(cohorts: int, rho: float, rng: np.random.Generator) -> list[str]:
    held = []
    for _ in range(cohorts):
        x = rng.standard_normal(19)
        y = rho * x + sqrt(1 - rho * rho) * rng.standard_normal(19)
        drawn_r = bootstrap_correlation(x, y, rng, repeats=500)
        of = pearson(x, y).r, spearman(x, y).r, drawn_r
        truth = rho, 6 / pi * asin(rho / 2), rho
        held.append([e.low <= v <= e.high for e, v in zip(of, truth, strict=True)])
    names = "Fisher", "Spearman (Bonett and Wright)", "bootstrap"
    return [f"{name} {share:.3f}" for name, share in zip(names, np.mean(held, axis=0), strict=True)]


# --- the picture ------------------------------------------------------------------------------------------------------


def picture(path: Path) -> None:
    """A phantom that lies straight, and one that lies tilted."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.35), layout="constrained")
        for axes, (title, image) in zip(figure.subplots(1, 2), _views(), strict=True):
            _defined(axes, image, title)
        figure.suptitle("SYNTHETIC DATA", x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
        figure.savefig(path, dpi=90, facecolor="white", pil_kwargs={"optimize": True})


def _views() -> list[tuple[str, Image]]:
    """The straightest and the most tilted of some views of one muscle, none cut off."""
    subject = Subject(thickness_mm=17, width_mm=30, fat_mm=6)
    images = [render(subject, np.random.default_rng(seed), width_px=448) for seed in range(40)]
    found = [(measure(i.mask, None, (i.mm_per_pixel, i.mm_per_pixel)), i) for i in images]
    whole = sorted((abs(m.axis_degrees), k) for k, (m, _) in enumerate(found) if not m.cut_off)
    return [("Straight", found[whole[0][1]][1]), ("Tilted", found[whole[-1][1]][1])]


def _defined(axes: Axes, image: Image, title: str) -> None:
    mm = (image.mm_per_pixel, image.mm_per_pixel)
    ours, down = measure(image.mask, image.pixels, mm), measure(image.mask, None, mm, direction="vertical")
    axes.imshow(image.pixels, cmap="gray", vmin=0, vmax=255)
    axes.contour(image.mask, levels=[0.5], colors="#E69F00", linewidths=1.2)
    rows, columns = np.nonzero(image.mask)
    slope = np.tan(np.radians(ours.axis_degrees))
    ends = np.array([columns.min(), columns.max()])
    axes.plot(ends, rows.mean() + slope * (ends - columns.mean()), color="white", linewidth=0.9, linestyle=(0, (5, 3)))
    outline = [withStroke(linewidth=2.6, foreground="black")]
    for found, colour, style in ((down, "#CC79A7", (0, (2, 1.2))), (ours, "#56B4E9", "-")):
        (r0, c0), (r1, c1) = found.thickness_line
        axes.plot([c0, c1], [r0, r1], color=colour, linewidth=2.0, linestyle=style, marker="_", path_effects=outline)
    axes.set_title(f"{title}: axis {abs(ours.axis_degrees):.0f}° from the probe's face", color="black")
    lines = (
        ("#0072B2", f"thickness, perpendicular to the axis: {ours.thickness_mm:.1f} mm"),
        ("#a8487f", f"thickness, down the picture: {down.thickness_mm:.1f} mm"),
        ("#8a5d00", f"area {ours.csa_cm2:.2f} cm², width {ours.width_mm:.1f} mm"),
    )
    for k, (colour, words) in enumerate(lines):
        axes.text(0.0, -0.03 - 0.055 * k, words, transform=axes.transAxes, va="top", color=colour)
    axes.set(xticks=[], yticks=[], ylim=(32 / mm[0], 0))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.spines["bottom"].set_color(LEAD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=1500)
    parser.add_argument("--picture", type=Path)
    chosen = parser.parse_args()
    if chosen.picture:
        picture(chosen.picture)
        return
    rng = np.random.default_rng(0)
    shapes(rng)
    phantoms(rng)
    edges(rng)
    coverage(chosen.cohorts, rng)


if __name__ == "__main__":
    main()
