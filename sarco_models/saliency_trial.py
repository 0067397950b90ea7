"""Saliency maps put to the test, all checks of ``saliency_checks`` at once, each with a limit that was set beforehand.

    muscle       energy per area in the muscle, over that of the whole frame         must be above 1
    background   energy on pixels that were blanked and are the same in everybody    must be below .05
    fascia       energy per area in the fascia band, over that of what is visible    must be above 1
    deletion     fall of the logit when pixels go in the map's order, minus that of an order that has not seen the
                 image: patches at random, and the middle first; pixels turn black, or lose their detail: above 0
    weights      likeness to the maps of the same network with destroyed weights     must be below .5

A limit holds where the 95 % interval over participants lies beyond it. Weights are destroyed several times, and each
wreck must pass: one may be a lucky draw. The limits were set on a cohort of their own (docs/how-to/explain.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.fusion import Model
from sarco_models.intervals import Estimate
from sarco_models.preprocess import Pixels
from sarco_models.saliency import ImagePath, forgetting
from sarco_models.saliency_checks import (
    Maps,
    Regions,
    blurred,
    centre_maps,
    deletion_curve,
    energy_inside,
    energy_lift,
    enlarged,
    is_empty,
    mean_drop,
    over_people,
    random_maps,
    rank_likeness,
)
from sarco_models.scores import Labels, Scores
from sarco_models.shapley import by_class

FASCIA_MM = 1.5
"""Width of the fascia band along the muscle's outline (SCIENCE 4.7)."""

BACKGROUND_AT_MOST, LIKENESS_AT_MOST = 0.05, 0.5
WRECKS = 5
FEW = 32
STEPS = 4
BLUR_SHARE = 2.5 / 48
"""Of the image's side: 2.5 mm in a window of 48 mm."""

RIVALS = {"random": "patches at random", "centre": "the middle"}
FILLS = {"black": "to black", "blurred": "to a blur"}
ASKED: Mapping[str, str] = {
    "muscle": "lies in the muscle more than its area would",
    "background": f"leaves the blanked background below {BACKGROUND_AT_MOST:g} of its energy",
    "fascia": f"lies on the fascia band of {FASCIA_MM:g} mm more than its area would",
    **{
        f"deletion_{fill}_{rival}": f"costs the logit more when deleted first, {look}, than {order}"
        for fill, look in FILLS.items()
        for rival, order in RIVALS.items()
    },
    "weights": f"is unlike the maps of destroyed weights (likeness below {LIKENESS_AT_MOST:g})",
}
"""What is asked of a map, by the name of the check."""


@dataclass(frozen=True, eq=False)
class Views:
    """What the network sees of some people, one image each, and where things are in it; regions (people, size, size).

    Attributes:
        pixels: grey values.
        visible: what is not blanked.
        muscle: inside the mask; None in a study without masks.
        fascia: visible band along the mask's outline, empty where the scale is unknown; None in a study without masks.
        labels: (people,) True = sarcopenia.
    """

    pixels: Pixels
    visible: Regions
    muscle: Regions | None
    fascia: Regions | None
    labels: Labels

    def __len__(self) -> int:
        """Number of people."""
        return len(self.pixels)

    def first(self, n: int) -> "Views":
        """The first ``n`` people."""
        return self.only(np.arange(min(n, len(self))))

    def only(self, chosen: NDArray[np.int64]) -> "Views":
        """The people at these positions."""
        muscle, fascia = (None if region is None else region[chosen] for region in (self.muscle, self.fascia))
        return Views(self.pixels[chosen], self.visible[chosen], muscle, fascia, self.labels[chosen])


@dataclass(frozen=True)
class Check:
    """One check: None where no map has a value, which passes nothing."""

    found: Estimate | None
    passed: bool


@dataclass(frozen=True)
class Trial:
    """What became of the maps of one layer.

    Attributes:
        stride: pixels of the image to one cell of the map.
        people: whose maps were looked at; deletion and destroyed weights: of the first few.
        few: how many these are.
        empty: maps that are zero everywhere.
        checks: by the names of :data:`ASKED`.
        wrecks: likeness to the maps of each network with destroyed weights.
        beside: what the checks are read beside: shares of energy, falls of each order, another person's map.
    """

    stride: int
    people: int
    few: int
    empty: int
    checks: Mapping[str, Check]
    wrecks: tuple[Estimate, ...]
    beside: Mapping[str, Estimate]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that the maps do not pass."""
        return tuple(name for name, check in self.checks.items() if not check.passed)

    def verdict(self, cell_mm: float | None = None) -> str:
        """The outcome in a sentence; ``cell_mm`` is the side of one cell of the map."""
        cells = f"cells of {cell_mm:.1f} mm" if cell_mm else f"cells of {self.stride} pixels"
        if not self.failed:
            return f"With {cells} the maps pass all {len(self.checks)} checks."
        missed = ", ".join(self._missed())
        return f"With {cells} the maps fail {len(self.failed)} of {len(self.checks)} checks: {missed}."

    def _missed(self) -> list[str]:
        """What failed, in a word or two each; the orders of deletion together."""
        orders = [name for name in self.checks if name.startswith("deletion")]
        lost = [name for name in self.failed if name in orders]
        words = {"muscle": "muscle", "background": "blanked background", "fascia": "fascia band"}
        found = [said for name, said in words.items() if name in self.failed]
        found += [f"deletion ({len(lost)} of {len(orders)})"] if lost else []
        return found + (["destroyed weights"] if "weights" in self.failed else [])


def put_to_the_test(  # noqa: PLR0913 - two of them are options
    model: Model,
    seen: Views,
    strides: Sequence[int],
    rng: np.random.Generator,
    *,
    few: int = FEW,
    wrecks: int = WRECKS,
) -> tuple[Trial, ...]:
    """Every check of the Grad-CAM maps of some layers.

    Args:
        model: with an image part.
        seen: held-out people.
        strides: of the layers, see :class:`sarco_models.saliency.ImagePath`; 32 is the usual one.
        rng: of intervals, random orders and destroyed weights.
        few: people whose pixels are deleted and whose maps are made with destroyed weights.
        wrecks: how often the weights are destroyed.

    Raises:
        ConfigError: no layer of such a stride.
    """
    size, some = seen.pixels.shape[1], seen.first(few)
    grids = {stride: ImagePath(model, size, stride).maps(seen.pixels) for stride in strides}
    maps = {stride: enlarged(grid, size) for stride, grid in grids.items()}
    falls = _falls(ImagePath(model, size, strides[0]), {s: m[:few] for s, m in maps.items()}, some, rng)
    likeness = _likeness(model, {s: g[:few] for s, g in grids.items()}, some, rng, wrecks)
    trials = []
    for stride in strides:
        checks, beside = _where_it_lies(maps[stride], seen, rng)
        for name, ahead, of_order in _what_it_costs(falls, stride, rng):
            checks[name] = _above(ahead, 0, rng)
            beside |= of_order
        found = tuple(_mean(values, rng) for values in likeness[stride])
        each = tuple(e for e in found if e)
        together = _mean(_over_wrecks(likeness[stride]), rng)
        checks["weights"] = Check(together, len(each) == wrecks and all(e.high < LIKENESS_AT_MOST for e in each))
        beside |= _named("another person's map", _another(grids[stride][:few], rng))
        empty = int(is_empty(maps[stride]).sum())
        trials.append(Trial(stride, len(seen), len(some), empty, checks, each, beside))
    return tuple(trials)


def _mean(values: Scores, rng: np.random.Generator) -> Estimate | None:
    """Over people, one image each; None where nobody has a value."""
    try:
        return over_people(values, np.arange(len(values)), rng)
    except UndefinedMetric:
        return None


def _above(values: Scores, limit: float, rng: np.random.Generator) -> Check:
    found = _mean(values, rng)
    return Check(found, found is not None and found.low > limit)


def _named(name: str, found: Estimate | None) -> dict[str, Estimate]:
    return {name: found} if found else {}


# --- where it lies ----------------------------------------------------------------------------------------------------


def _where_it_lies(maps: Maps, seen: Views, rng: np.random.Generator) -> tuple[dict[str, Check], dict[str, Estimate]]:
    checks: dict[str, Check] = {}
    beside: dict[str, Estimate] = {}
    if seen.muscle is not None:
        checks["muscle"] = _above(energy_lift(maps, seen.muscle, np.ones_like(seen.visible)), 1, rng)
        beside |= _named("energy in the muscle", _mean(energy_inside(maps, seen.muscle), rng))
    blank = _mean(energy_inside(maps, ~seen.visible), rng)
    checks["background"] = Check(blank, blank is not None and blank.high < BACKGROUND_AT_MOST)
    beside |= _named("blanked share of the frame", _mean((~seen.visible).mean(axis=(1, 2)), rng))
    if seen.fascia is not None:
        lift = energy_lift(maps, seen.fascia, seen.visible)
        checks["fascia"] = _above(lift, 1, rng)
        for name, who in by_class(seen.labels).items():
            if name != "all" and who.any():
                beside |= _named(f"fascia, {name}", _mean(lift[who], rng))
    return checks, beside


# --- what it costs ----------------------------------------------------------------------------------------------------

Falls = dict[str, dict[str, Scores]]
"""Fill -> order (the stride of a map, or its rival) -> (people,) mean fall of the logit."""


def _falls(path: ImagePath, maps: Mapping[int, Maps], seen: Views, rng: np.random.Generator) -> Falls:
    size = seen.pixels.shape[1]
    orders = {
        **{str(stride): m for stride, m in maps.items()},
        "random": random_maps(len(seen), size // min(maps), size, rng),
        "centre": centre_maps(seen.visible),
    }
    if seen.fascia is not None:
        orders["fascia"] = seen.fascia.astype(np.float32)
    fills = {"black": None, "blurred": blurred(seen.pixels, seen.visible, BLUR_SHARE * size)}
    return {
        name: {
            order: mean_drop(deletion_curve(path.logits, seen.pixels, m, seen.visible, rng, fill=fill, steps=STEPS))
            for order, m in orders.items()
        }
        for name, fill in fills.items()
    }


def _what_it_costs(
    falls: Falls, stride: int, rng: np.random.Generator
) -> list[tuple[str, Scores, dict[str, Estimate]]]:
    """Name of each check, (people,) fall of the map's order minus that of its rival, and the falls themselves."""
    found = []
    for fill, fall in falls.items():
        for rival in RIVALS:
            shown = {f"fall, {fill}, {order}": fall[order] for order in (rival, "fascia") if order in fall}
            shown[f"fall, {fill}, map"] = fall[str(stride)]
            beside = {name: e for name, values in shown.items() if (e := _mean(values, rng))}
            found.append((f"deletion_{fill}_{rival}", fall[str(stride)] - fall[rival], beside))
    return found


# --- what it depends on -----------------------------------------------------------------------------------------------


def _likeness(
    model: Model, grids: Mapping[int, Maps], seen: Views, rng: np.random.Generator, wrecks: int
) -> dict[int, list[Scores]]:
    """Stride -> for each wreck (people,) Spearman's correlation with the map of the whole model."""
    size = seen.pixels.shape[1]
    found: dict[int, list[Scores]] = {stride: [] for stride in grids}
    for _ in range(wrecks):
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        *_, (_, wreck) = forgetting(model, generator)
        for stride, grid in grids.items():
            found[stride].append(rank_likeness(grid, ImagePath(wreck, size, stride).maps(seen.pixels)))
    return found


def _over_wrecks(likeness: Sequence[Scores]) -> Scores:
    """(people,) mean over the wrecks that have a map of the person."""
    values = np.stack(likeness)
    known = ~np.isnan(values)
    below = known.sum(axis=0).astype(np.float64)
    above: Scores = np.where(known, values, 0).sum(axis=0)
    mean: Scores = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return mean


def _another(grid: Maps, rng: np.random.Generator) -> Estimate | None:
    """Likeness of each person's map and the next one's: how much of the maps is the same in everybody."""
    return _mean(rank_likeness(grid, np.roll(grid, 1, axis=0)), rng)
