"""Whether a saliency map deserves to be believed: numbers for maps of any origin, as functions of arrays.

    where it lies          energy inside a region (Wang et al. 2020), beside what a map without any content would have
    what it costs          deletion curve (Petsiuk et al. 2018), beside orders that know nothing of image or model
    what it depends on     likeness to the maps of the same network with its weights destroyed (Adebayo et al. 2018)

Maps are (images, rows, columns), 0 or more; regions are bool of the same shape. A map that is zero everywhere has no
value (NaN): count them with :func:`is_empty` and say how many. The participant is the unit of every interval: see
:func:`over_people`.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.stats import rankdata

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import REPEATS, Estimate, bootstrap
from sarco_models.preprocess import Pixels
from sarco_models.scores import Scores

Maps = NDArray[np.float32]
"""(images, rows, columns), 0 or more; the scale is the image's own."""

Regions = NDArray[np.bool_]
Score = Callable[[Pixels], Scores]

ADVICE = "Do not read a map that fails as what the model goes by."
"""What every picture and report says of maps that do not pass their checks."""

SSIM_SIGMA = 1.5  # pixels, and the two constants: Wang et al. (2004), section III-C
SSIM_CONSTANTS = (0.01**2, 0.03**2)


def is_empty(maps: Maps) -> Regions:
    """(images,) True where a map is zero everywhere: nothing in the image speaks for the class."""
    return np.asarray(maps.reshape(len(maps), -1).max(axis=1) <= 0)


# --- where it lies ----------------------------------------------------------------------------------------------------


def energy_inside(maps: Maps, regions: Regions) -> Scores:
    """(images,) share of each map that lies in its region, 0 to 1; NaN of an empty map."""
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * regions).sum(axis=(1, 2), dtype=np.float64)
    return _quotient(inside, total)


def energy_lift(maps: Maps, regions: Regions, within: Regions) -> Scores:
    """(images,) energy per area in the region, over energy per area in all of ``within``; the region is a part of it.

    1 is what a constant map gets, whatever the sizes; below 1 the map avoids the region. NaN of a map without energy
    in ``within``, or where the region is empty.
    """
    regions = regions & within
    energy = energy_inside(np.where(within, maps, 0), regions)
    area = regions.sum(axis=(1, 2)) / np.maximum(within.sum(axis=(1, 2)), 1)
    return _quotient(energy, area)


def _quotient(above: Scores, below: Scores) -> Scores:
    found: Scores = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found


def outline_band(masks: Regions, width_px: float) -> Regions:
    """Band of this width along each mask's outline, half inside and half outside: where a muscle's fascia lies."""
    return np.array([_from_outline(mask) <= width_px / 2 for mask in masks]).reshape(masks.shape)


def _from_outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each pixel's centre from the outline, which runs between pixels."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf)
    distance = np.where(mask, distance_transform_edt(mask), distance_transform_edt(~mask)) - 0.5
    return np.asarray(distance, dtype=np.float64)


# --- what it costs ----------------------------------------------------------------------------------------------------


def deletion_curve(  # noqa: PLR0913 - two of them are options
    score: Score,
    pixels: Pixels,
    maps: Maps,
    visible: Regions,
    rng: np.random.Generator,
    *,
    fill: Pixels | None = None,
    steps: int = 10,
) -> Scores:
    """Score of each image while its pixels are taken away, those first where its map is largest.

    Only pixels of ``visible`` are taken, in equal steps: what is black already has nothing to lose, and would flatter a
    map that does not look there.

    Args:
        score: (n, size, size) grey values -> (n,).
        pixels: (images, size, size).
        maps: (images, size, size) that order the pixels.
        visible: (images, size, size) what there is to take away.
        rng: orders pixels whose map is equal; a constant map deletes at random.
        fill: (images, size, size) what stands in the place of what was taken; black if not given.
        steps: to the last pixel.

    Returns:
        (images, steps + 1); first the whole image, last the fill alone.
    """
    orders = [_order(m[v], rng) for m, v in zip(maps, visible, strict=True)]
    curve = [score(pixels)]
    for step in range(1, steps + 1):
        left = pixels.copy()
        for k, order in enumerate(orders):
            places = np.flatnonzero(visible[k])[order[: round(step / steps * len(order))]]
            left[k].flat[places] = 0 if fill is None else fill[k].flat[places]
        curve.append(score(left))
    return np.stack(curve, axis=1)


def _order(values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.intp]:
    """Places of the values from the largest to the smallest, equal ones in random order."""
    return np.lexsort((rng.random(values.size), -values))


def mean_drop(curves: Scores) -> Scores:
    """(images, steps + 1) deletion curves -> (images,) mean fall below the whole image's score (trapezoid rule).

    Large when what was taken first is what the score rests on. It is read beside that of another order: the fall as
    such depends on the model and the fill.
    """
    below = curves[:, :1] - curves
    return np.asarray((below[:, 1:] + below[:, :-1]).mean(axis=1) / 2)


def blurred(pixels: Pixels, visible: Regions, sigma_px: float) -> Pixels:
    """What an image looks like without its detail: the mean of the visible pixels nearby (Gaussian), black elsewhere.

    As a fill it leaves brightness and outline alone, and takes texture and fascia away.
    """
    made = np.zeros_like(pixels)
    for k, (image, seen) in enumerate(zip(pixels, visible, strict=True)):
        weight = gaussian_filter(seen.astype(np.float64), sigma_px)
        smooth = gaussian_filter(np.where(seen, image, 0).astype(np.float64), sigma_px) / np.maximum(weight, 1e-9)
        made[k] = np.where(seen, smooth.round().clip(0, 255), 0)
    return made


# --- maps, and maps that know nothing ---------------------------------------------------------------------------------


def enlarged(maps: Maps, size: int) -> Maps:
    """Maps on a coarse grid -> (images, size, size), linear between the cells' centres."""
    made = [cv2.resize(m, (size, size), interpolation=cv2.INTER_LINEAR) for m in maps]
    return np.array(made, dtype=np.float32).reshape(-1, size, size)


def centre_maps(visible: Regions) -> Maps:
    """A hill around the middle of what is visible: what a map must beat to have seen anything in this image."""
    made = np.zeros(visible.shape, dtype=np.float32)
    rows, columns = np.mgrid[: visible.shape[1], : visible.shape[2]]
    for k, seen in enumerate(visible):
        if not seen.any():
            continue
        place = np.argwhere(seen)
        middle, spread = place.mean(axis=0), place.std(axis=0) + 1
        away = ((rows - middle[0]) / spread[0]) ** 2 + ((columns - middle[1]) / spread[1]) ** 2
        made[k] = np.exp(-away / 2)
    return made


def random_maps(images: int, grid: int, size: int, rng: np.random.Generator) -> Maps:
    """Noise as coarse as the model's grid, enlarged like its maps: random deletion in patches of the same size."""
    return enlarged(rng.random((images, grid, grid), dtype=np.float32), size)


# --- what it depends on -----------------------------------------------------------------------------------------------


def rank_likeness(first: Maps, second: Maps) -> Scores:
    """(images,) Spearman's correlation of two maps over their places; NaN where a map is constant."""
    return np.array([_correlation(rankdata(a), rankdata(b)) for a, b in zip(first, second, strict=True)])


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / spread) if spread > 0 else float("nan")


def structural_likeness(first: Maps, second: Maps) -> Scores:
    """(images,) SSIM of two maps, each scaled to 0..1 (Wang et al. 2004; Gaussian window); NaN where one is empty."""
    made = []
    for a, b in zip(first, second, strict=True):
        made.append(_ssim(a / a.max(), b / b.max()) if a.max() > 0 and b.max() > 0 else float("nan"))
    return np.array(made)


def _ssim(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    def smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), SSIM_SIGMA, borderType=cv2.BORDER_REFLECT_101))

    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = smooth(x), smooth(y)
    spread_x, spread_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    both = smooth(x * y) - mean_x * mean_y
    c1, c2 = SSIM_CONSTANTS
    local = (2 * mean_x * mean_y + c1) * (2 * both + c2)
    return float((local / ((mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2))).mean())


# --- people -----------------------------------------------------------------------------------------------------------


def over_people(
    values: Scores, owner: NDArray[np.int64], rng: np.random.Generator, *, repeats: int = REPEATS
) -> Estimate:
    """Mean over participants of the mean over each one's images, with an interval from resampled participants.

    Args:
        values: (images,); NaN is left out.
        owner: (images,) participant of each image.
        rng: of the resamples.
        repeats: number of resamples.

    Raises:
        UndefinedMetric: no image has a value.
    """
    known = ~np.isnan(values)
    if not known.any():
        raise UndefinedMetric(f"none of {len(values)} images has a value here; report it as absent")
    _, place = np.unique(owner[known], return_inverse=True)
    means = np.bincount(place, weights=values[known]) / np.bincount(place)
    everybody = np.zeros(len(means))
    statistic = {"mean": lambda weights: weights @ means / weights.sum(axis=1)}
    return bootstrap(statistic, everybody, rng, repeats=repeats)["mean"]
