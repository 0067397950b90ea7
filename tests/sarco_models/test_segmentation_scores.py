"""What a hospital tells of its muscles: nothing of few people, sums that add up, and no size of half a muscle."""

from dataclasses import asdict
from functools import reduce
from operator import add

import numpy as np
import pytest

from sarco_models.agreement import PairSums, agreement
from sarco_models.segmentation_scores import (
    MEASURES,
    SIZES,
    ImageScores,
    Scored,
    one_whole_muscle,
    pairs,
    told,
    without_sizes,
)


def seen(people: int = 5, images: int = 3, seed: int = 1) -> Scored:
    """So many people with so many images of one muscle each, found a little too thick."""
    rng = np.random.default_rng(seed)
    count = people * images
    owner = np.repeat(np.arange(people), images)
    drawn = 20 + np.repeat(rng.normal(0, 3, people), images) + rng.normal(0, 0.5, count)
    sizes = np.full((count, 1, 2, len(SIZES)), 50.0)
    sizes[:, 0, 1, :2] = np.stack([drawn, drawn / 4], axis=1)
    sizes[:, 0, 0, :2] = sizes[:, 0, 1, :2] + rng.normal(0.2, 0.4, (count, 2))
    values = np.full((count, 1, len(MEASURES)), 0.9)
    by_image = ImageScores(np.arange(count), owner, values, sizes, np.ones((count, 1, 2), dtype=np.bool_))
    return Scored(("biceps",), np.full((people, 1, len(MEASURES)), 0.9), np.ones(people), by_image)


def test_sums_of_hospitals_are_the_sums_of_all_their_people() -> None:
    """Added up, they give the limits and the ICC that one place would have computed from participants' means."""
    hospitals = [seen(people, seed=people) for people in (4, 5, 7)]
    together = reduce(add, [sums for h in hospitals if (sums := pairs(h, 0, "thickness_mm"))])
    found, drawn, ids = [], [], []
    for k, h in enumerate(hospitals):
        assert h.by_image is not None
        for person in range(len(h.values)):
            own = h.by_image.sizes[h.by_image.owner == person, 0, :, 0].mean(axis=0)
            found.append(own[0])
            drawn.append(own[1])
            ids.append(f"{k}-{person}")
    pooled = agreement(found, drawn, ids)
    assert together.n == 16
    assert together.icc().value == pytest.approx(pooled.icc.value, rel=1e-9)
    assert together.icc().low == pytest.approx(pooled.icc.low, rel=1e-9)
    bias, lower, upper = together.limits()
    assert bias.value == pytest.approx(pooled.limits.bias.value)
    assert (lower.value, upper.value) == pytest.approx((pooled.limits.lower.value, pooled.limits.upper.value))


def test_more_images_of_a_person_are_no_more_people() -> None:
    once, thrice = seen(images=1), seen(images=1)
    assert once.by_image is not None
    rows = np.tile(np.arange(5), 3)
    many = ImageScores(
        rows, once.by_image.owner[rows], once.by_image.values[rows], once.by_image.sizes[rows], once.by_image.seen[rows]
    )
    thrice = Scored(once.muscles, once.values, once.losses, many)
    one, three = pairs(once, 0, "csa_cm2"), pairs(thrice, 0, "csa_cm2")
    assert one is not None
    assert three is not None
    assert one.n == three.n == 5
    assert asdict(one) == pytest.approx(asdict(three))


def test_nothing_is_told_of_fewer_people_than_the_smallest_cell() -> None:
    assert "biceps.thickness_mm.n" in told(seen(5), min_cell=5)
    assert not told(seen(5), min_cell=6)
    assert not [
        name for name in told(seen(2), min_cell=1) if "thickness_mm.n" in name
    ]  # fewer than any agreement needs


def test_a_hospital_that_lets_no_sums_out_tells_no_sums() -> None:
    found = told(seen(), min_cell=3, sums=False)
    assert {name.split(".")[1] for name in found} == set(MEASURES)


def test_echo_intensity_stays_at_the_hospital() -> None:
    assert not [name for name in told(seen(), min_cell=1) if "echo" in name]


def test_images_of_two_muscles_say_nothing_of_sizes() -> None:
    scored = seen(people=4, images=2)
    left = without_sizes(scored, np.array([True, False] * 4))
    assert left.by_image is not None
    assert np.isnan(left.by_image.sizes[::2]).all()
    assert np.isfinite(left.by_image.sizes[1::2]).all()
    errors = [list(MEASURES).index(name) for name in ("thickness_error_mm", "area_error_cm2")]
    others = [k for k in range(len(MEASURES)) if k not in errors]
    assert np.isnan(left.by_image.values[::2][:, :, errors]).all()
    np.testing.assert_array_equal(left.by_image.values[:, :, others], 0.9)
    nothing = without_sizes(scored, np.ones(8, dtype=np.bool_))
    assert np.isnan(nothing.values[:, :, errors]).all()
    assert pairs(nothing, 0, "thickness_mm") is None
    assert isinstance(pairs(left, 0, "thickness_mm"), PairSums)


def test_a_muscle_is_whole_where_it_is_drawn_alone_and_in_one_piece() -> None:
    drawn = np.zeros((20, 20), dtype=np.uint8)
    assert not one_whole_muscle(drawn)
    drawn[5:10, 2:9] = 3
    assert one_whole_muscle(drawn)
    drawn[:2] = 255  # beyond the frame
    assert one_whole_muscle(drawn)
    drawn[15, 2] = 3  # a slip of the hand
    assert one_whole_muscle(drawn)
    drawn[5:10, 12:18] = 3  # the other half
    assert not one_whole_muscle(drawn)
    drawn[5:10, 12:18] = 1  # the muscle beside it
    assert not one_whole_muscle(drawn)
