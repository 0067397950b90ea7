"""True masks agree with their images, moved ones say where they belong; rates on SYNTHETIC seeds that set no limit."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from client.quality.agreement import Agreement, agreement
from simulation.anatomy import MUSCLES
from simulation.devices import DEVICES
from simulation.phantom import Image, random_subject, render

HAND_MM = 0.4  # standard deviation of a hand's place


def fit(image: Image, mask: NDArray[Any]) -> Agreement | None:
    mm = image.mm_per_pixel
    columns = np.flatnonzero(mask.any(axis=0))
    first, below = mask.argmax(axis=0)[columns], len(mask) - mask[::-1].argmax(axis=0)[columns]
    size = (mask.shape[0] * mm, mask.shape[1] * mm)
    return agreement(image.pixels, size, ((columns + 0.5) * mm, first * mm, below * mm))


def moved(image: Image, down_mm: float, right_mm: float) -> NDArray[np.uint8]:
    place = np.array([[1, 0, right_mm / image.mm_per_pixel], [0, 1, down_mm / image.mm_per_pixel]])
    return np.asarray(cv2.warpAffine(image.mask.astype(np.uint8), place, image.mask.shape[::-1]))


def images(seeds: range, each: int) -> Iterator[Image]:
    """Every device and muscle, people of all sizes."""
    for seed in seeds:
        rng = np.random.default_rng([seed, 224])
        for device in DEVICES:
            for muscle in MUSCLES:
                yield from (render(random_subject(rng, muscle), rng, device=device) for _ in range(each))


def rate(drawn: Iterator[Image], down_mm: float, right_mm: float = 0.0, seed: int = 0) -> float:
    """Share of masks, moved by this and by a hand's error, that are called wrong; what leaves the image is no case."""
    rng = np.random.default_rng(seed)
    called = []
    for image in drawn:
        mask = moved(image, down_mm + HAND_MM * rng.standard_normal(), right_mm + HAND_MM * rng.standard_normal())
        if mask.sum() > 0.5 * image.mask.sum():
            found = fit(image, mask)
            called.append(found is not None and (found.shifted or found.poor))
    return float(np.mean(called))


def test_a_true_mask_is_in_its_place_and_a_moved_one_knows_the_way_back() -> None:
    image = next(images(range(26, 27), 1))
    here = fit(image, image.mask)
    assert here is not None
    assert not here.shifted
    assert not here.poor
    away = fit(image, moved(image, 4.0, 0.0))
    assert away is not None
    assert away.shifted
    assert away.shift_mm == pytest.approx((-4.0, 0.0), abs=1.2)


def test_few_columns_and_absurd_sizes_are_not_judged() -> None:
    image = next(images(range(26, 27), 1))
    dot = np.zeros_like(image.mask)
    dot[50:60, 50:55] = True
    assert fit(image, dot) is None
    huge = (2000.0, 2000.0)
    assert agreement(image.pixels, huge, (np.arange(50.0), np.full(50, 10.0), np.full(50, 30.0))) is None


@pytest.mark.slow
def test_true_masks_are_hardly_ever_called_wrong() -> None:
    """Measured: .005 of 800."""
    assert rate(images(range(26, 31), 4), 0.0) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("down", "right", "least"),
    [(-3, 0, 0.90), (3, 0, 0.84), (-5, 0, 0.84), (5, 0, 0.92), (-8, 0, 0.60), (8, 0, 0.87), (0, 5, 0.5), (0, 8, 0.5)],
)
def test_most_shifted_masks_are_found(down: float, right: float, least: float) -> None:
    """Up, a muscle soon leaves the image; sideways, an outline slides along its own fascia."""
    assert rate(images(range(26, 31), 2), down, right) > least
