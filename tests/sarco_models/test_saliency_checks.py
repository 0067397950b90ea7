"""Every check on maps that are right, constant, wrong, or blind to the model, where the answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.saliency_checks import (
    blurred,
    centre_maps,
    deletion_curve,
    energy_inside,
    energy_lift,
    enlarged,
    is_empty,
    mean_drop,
    outline_band,
    over_people,
    random_maps,
    rank_likeness,
    structural_likeness,
)

Floats = NDArray[np.float32]
SIDE = 40


def box(rows: slice, columns: slice, images: int = 1) -> NDArray[np.bool_]:
    made = np.zeros((images, SIDE, SIDE), dtype=np.bool_)
    made[:, rows, columns] = True
    return made


MUSCLE = box(slice(10, 30), slice(4, 36))  # 20 x 32 pixels
CONSTANT = np.ones((1, SIDE, SIDE), dtype=np.float32)


# ---- where it lies ---------------------------------------------------------------------------------------------------


def test_a_constant_map_has_the_energy_of_the_area_and_no_lift() -> None:
    everywhere = np.ones_like(MUSCLE)
    assert energy_inside(CONSTANT, MUSCLE)[0] == pytest.approx(640 / 1600)
    assert energy_lift(CONSTANT, MUSCLE, everywhere)[0] == pytest.approx(1)
    assert energy_lift(CONSTANT, outline_band(MUSCLE, 4), MUSCLE)[0] == pytest.approx(1)


def test_a_map_on_the_region_has_all_of_its_energy_there_and_one_beside_it_none() -> None:
    inside, beside = MUSCLE.astype(np.float32), (~MUSCLE).astype(np.float32)
    np.testing.assert_allclose(energy_inside(np.concatenate([inside, beside]), np.repeat(MUSCLE, 2, axis=0)), [1, 0])
    assert energy_lift(7 * inside, MUSCLE, np.ones_like(MUSCLE))[0] == pytest.approx(1600 / 640)
    assert np.isnan(energy_lift(beside, outline_band(MUSCLE, 4), MUSCLE)[0])  # nothing of it is within


def test_an_empty_map_has_no_value_and_is_counted() -> None:
    maps = np.concatenate([CONSTANT, 0 * CONSTANT])
    assert is_empty(maps).tolist() == [False, True]
    assert np.isnan(energy_inside(maps, np.repeat(MUSCLE, 2, axis=0))).tolist() == [False, True]


def test_the_band_along_an_outline_has_its_width() -> None:
    """Two pixels on either side of a rectangle's edges."""
    band = outline_band(MUSCLE, 4)[0]
    assert np.flatnonzero(band[:, 20]).tolist() == [8, 9, 10, 11, 28, 29, 30, 31]
    assert np.flatnonzero(band[20]).tolist() == [2, 3, 4, 5, 34, 35, 36, 37]
    assert not outline_band(np.stack([MUSCLE[0] & False, MUSCLE[0] | True]), 4).any()


# ---- what it costs ---------------------------------------------------------------------------------------------------

EVIDENCE = box(slice(12, 17), slice(6, 18))  # 60 of the muscle's 640 pixels


def brightness_of_evidence(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A model that looks at one place only."""
    return np.asarray(pixels[:, EVIDENCE[0]].mean(axis=1) / 200, dtype=np.float64)


def curve(maps: Floats, seed: int = 0, steps: int = 32) -> NDArray[np.float64]:
    pixels = (MUSCLE * 200).astype(np.uint8)
    return deletion_curve(brightness_of_evidence, pixels, maps, MUSCLE, np.random.default_rng(seed), steps=steps)


def test_deleting_the_evidence_first_costs_the_most_and_last_the_least() -> None:
    """In 32 steps of 20 pixels the evidence is gone after three, or is touched in the last three only."""
    first, last = EVIDENCE.astype(np.float32), MUSCLE - EVIDENCE.astype(np.float32)
    np.testing.assert_allclose(curve(first)[0], [1, 2 / 3, 1 / 3, *[0] * 30], atol=1e-12)
    np.testing.assert_allclose(curve(last)[0], [*[1] * 30, 2 / 3, 1 / 3, 0], atol=1e-12)
    assert mean_drop(curve(first))[0] == pytest.approx(1 - 1.5 / 32)
    assert mean_drop(curve(last))[0] == pytest.approx(1.5 / 32)


def test_a_constant_map_deletes_at_random() -> None:
    """Not from the top left: its fall is a straight line in the mean, as that of any map blind to the evidence."""
    falls = [mean_drop(curve(CONSTANT, seed))[0] for seed in range(40)]
    assert np.mean(falls) == pytest.approx(0.5, abs=0.01)
    assert np.std(falls) > 0
    blind = [mean_drop(curve(random_maps(1, 40, SIDE, np.random.default_rng(seed))))[0] for seed in range(40)]
    assert np.mean(blind) == pytest.approx(0.5, abs=0.02)


def test_every_order_ends_at_the_fill_and_no_pixel_beyond_the_visible_is_touched() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 255, (2, SIDE, SIDE), dtype=np.uint8)
    fill = rng.integers(1, 255, (2, SIDE, SIDE), dtype=np.uint8)
    visible = np.repeat(MUSCLE, 2, axis=0)
    seen: list[NDArray[np.uint8]] = []

    def watched(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        seen.append(images.copy())
        return np.zeros(len(images))

    deletion_curve(watched, pixels, random_maps(2, 5, SIDE, rng), visible, rng, fill=fill, steps=4)
    np.testing.assert_array_equal(seen[0], pixels)
    np.testing.assert_array_equal(seen[-1], np.where(visible, fill, pixels))
    assert [(s != pixels)[~visible].sum() for s in seen] == [0] * 5
    changed = [np.where(visible, s == fill, False).sum() / 1280 for s in seen]
    np.testing.assert_allclose(changed, [0, 0.25, 0.5, 0.75, 1], atol=0.01)


def test_the_mean_drop_is_the_area_above_the_curve() -> None:
    np.testing.assert_allclose(mean_drop(np.array([[3.0, 2.0, 1.0], [3.0, 3.0, 3.0], [3.0, 4.0, 5.0]])), [1, 0, -1])


def test_a_blurred_image_keeps_its_light_and_loses_its_detail() -> None:
    rng = np.random.default_rng(2)
    pixels = np.where(MUSCLE, rng.integers(80, 120, MUSCLE.shape), 0).astype(np.uint8)
    found = blurred(pixels, MUSCLE, 5.0)
    assert not found[~MUSCLE].any()
    assert found[MUSCLE].mean() == pytest.approx(pixels[MUSCLE].mean(), abs=1)
    assert found[MUSCLE].std() < pixels[MUSCLE].std() / 5
    flat = (MUSCLE * 90).astype(np.uint8)
    np.testing.assert_array_equal(blurred(flat, MUSCLE, 5.0), flat)  # black beyond the muscle does not seep in


# ---- maps that know nothing ------------------------------------------------------------------------------------------


def test_the_centre_is_that_of_what_is_visible() -> None:
    low = box(slice(30, 38), slice(20, 39))
    (found,) = centre_maps(low)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (abs(row - 33.5), abs(column - 29)) <= (1, 1)
    assert not centre_maps(low & False).any()


def test_random_maps_are_as_coarse_as_their_grid_and_differ() -> None:
    first, second = random_maps(2, 4, SIDE, np.random.default_rng(0))
    assert first.shape == (SIDE, SIDE)
    assert np.abs(np.diff(first, axis=0)).max() < 0.11  # a cell is ten pixels wide: no step is large
    assert abs(rank_likeness(first[None], second[None])[0]) < 0.9


def test_an_enlarged_map_keeps_its_corners() -> None:
    grid = np.array([[[1, 0], [0, 0]]], dtype=np.float32)
    (found,) = enlarged(grid, 8)
    assert found[:2, :2].min() == 1
    assert not found[6:].any()
    assert not found[:, 6:].any()
    assert enlarged(grid[:0], 8).shape == (0, 8, 8)


# ---- what it depends on ----------------------------------------------------------------------------------------------


def test_ranks_are_all_that_rank_likeness_sees() -> None:
    rng = np.random.default_rng(3)
    first, other = rng.random((2, 3, SIDE, SIDE), dtype=np.float32)
    np.testing.assert_allclose(rank_likeness(first, 5 * first**3), 1)
    np.testing.assert_allclose(rank_likeness(first, 1 - first), -1)
    assert np.abs(rank_likeness(first, other)).max() < 0.1
    assert np.isnan(rank_likeness(first, np.ones_like(first))).all()


def test_a_map_that_ignores_the_model_is_just_like_itself() -> None:
    """However the weights are destroyed, the middle stays the middle: likeness 1 is what the check is there to find."""
    centre = centre_maps(MUSCLE)
    assert rank_likeness(centre, centre)[0] == pytest.approx(1)
    assert structural_likeness(centre, 3 * centre)[0] == pytest.approx(1)


def test_structural_likeness_is_wangs_index() -> None:
    """Against sums over the 11 x 11 window around every pixel, mirrored at the border; both maps reach 1."""
    a, b = np.random.default_rng(4).random((2, 1, 16, 16), dtype=np.float32)
    a[0, 0, 0] = b[0, 15, 15] = 1
    away = np.arange(-5, 6)
    window = np.exp(-(away[:, None] ** 2 + away[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    wide = [np.pad(m[0].astype(np.float64), 5, mode="reflect") for m in (a, b)]
    local = []
    for i in range(16):
        for j in range(16):
            x, y = (m[i : i + 11, j : j + 11] for m in wide)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            both = (window * (x - mx) * (y - my)).sum()
            local.append((2 * mx * my + 1e-4) * (2 * both + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert structural_likeness(a, b)[0] == pytest.approx(np.mean(local), abs=1e-9)
    assert structural_likeness(a, a)[0] == pytest.approx(1)
    assert np.isnan(structural_likeness(a, 0 * a)[0])


# ---- people ----------------------------------------------------------------------------------------------------------


def test_people_count_once_however_many_images_they_have() -> None:
    values, owner = np.array([0.0, 0.0, 0.0, 0.0, 1.0, np.nan]), np.array([3, 3, 3, 3, 8, 9])
    found = over_people(values, owner, np.random.default_rng(0), repeats=200)
    assert found.value == 0.5
    assert (found.low, found.high) == (0, 1)
    with pytest.raises(UndefinedMetric, match="none of 1 images"):
        over_people(values[5:], owner[5:], np.random.default_rng(0))
