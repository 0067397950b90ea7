"""Masks changed by millimetres: the geometry is that of discs on the body, whatever the pixels are."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.errors import MaskError, MissingSpacing
from sarco_models.mask_perturbation import DIRECTIONS, Direction, perturb

SPACINGS = [(0.1, 0.1), (0.25, 0.25), (0.15, 0.3), (0.4, 0.12)]
RADIUS_MM = 8.0


def disc(spacing: tuple[float, float], radius_mm: float = RADIUS_MM, field_mm: float = 26.0) -> NDArray[np.bool_]:
    rows, columns = (int(field_mm / mm) for mm in spacing)
    y = (np.arange(rows)[:, None] - (rows - 1) / 2) * spacing[0]
    x = (np.arange(columns)[None] - (columns - 1) / 2) * spacing[1]
    return np.asarray(y**2 + x**2 <= radius_mm**2)


def area_mm2(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> float:
    return float(mask.sum()) * math.prod(spacing)


def centroid_mm(mask: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    return np.argwhere(mask).mean(axis=0) * np.array(spacing)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("mm", [1.0, 2.0])
def test_a_disc_grows_and_shrinks_as_a_disc_of_millimetres_does(spacing: tuple[float, float], mm: float) -> None:
    mask = disc(spacing)
    for kind, radius in (("dilate", RADIUS_MM + mm), ("erode", RADIUS_MM - mm)):
        found = area_mm2(perturb(mask, spacing, kind, mm), spacing)
        ring = 2 * math.pi * radius * max(spacing)  # the uncertainty of a border of one pixel
        assert abs(found - math.pi * radius**2) < 0.5 * ring


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_dilated_disc_is_as_wide_as_it_is_high(spacing: tuple[float, float]) -> None:
    grown = perturb(disc(spacing, 2.0), spacing, "dilate", 2.0)
    height = float(grown.any(axis=1).sum()) * spacing[0]
    width = float(grown.any(axis=0).sum()) * spacing[1]
    assert abs(height - 8.0) <= spacing[0] + 1e-9
    assert abs(width - 8.0) <= spacing[1] + 1e-9


@pytest.mark.parametrize("spacing", SPACINGS)
def test_to_erode_is_to_dilate_what_lies_beside(spacing: tuple[float, float]) -> None:
    mask = np.random.default_rng(3).random((40, 50)) < 0.97
    eroded = perturb(mask, spacing, "erode", 0.31)
    assert np.array_equal(eroded, ~perturb(~mask, spacing, "dilate", 0.31))
    assert 0 < eroded.sum() < mask.sum()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("direction", list(DIRECTIONS))
def test_a_shift_moves_the_centroid_by_its_millimetres(spacing: tuple[float, float], direction: Direction) -> None:
    mask = disc(spacing, 5.0)
    for mm in (1.0, 2.0):
        moved = perturb(mask, spacing, direction, mm)
        step = centroid_mm(moved, spacing) - centroid_mm(mask, spacing)
        assert (np.abs(step - mm * np.array(DIRECTIONS[direction])) <= np.array(spacing) / 2 + 1e-9).all()
        assert moved.sum() == mask.sum()


def test_directions_are_eight_unit_vectors_and_up_is_towards_the_skin() -> None:
    vectors = np.array(list(DIRECTIONS.values()))
    assert np.allclose(np.hypot(*vectors.T), 1)
    assert len({tuple(v) for v in vectors}) == 8
    assert DIRECTIONS["up"] == (-1, 0)
    assert DIRECTIONS["right"] == (0, 1)
    assert DIRECTIONS["down_left"][0] > 0 > DIRECTIONS["down_left"][1]


def test_a_pixel_at_exactly_the_distance_belongs_to_the_disc() -> None:
    mask = np.zeros((9, 9), dtype=np.bool_)
    mask[4, 4] = True
    grown = perturb(mask, (0.1, 0.1), "dilate", 0.3)
    assert grown[4, 1]
    assert not grown[4, 0]
    assert not grown[2, 1]


def test_the_frames_edge_neither_grows_nor_eats_a_mask() -> None:
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[:10] = True
    eroded = perturb(mask, (1.0, 1.0), "erode", 2.0)
    assert eroded[:8].all()
    assert not eroded[8:].any()
    assert perturb(mask, (1.0, 1.0), "dilate", 2.0).sum() == 12 * 20


def test_what_leaves_the_frame_is_cut_off_and_does_not_come_back() -> None:
    mask = np.zeros((10, 10), dtype=np.bool_)
    mask[0:3, 4:6] = True
    moved = perturb(mask, (1.0, 1.0), "up", 2.0)
    assert moved.sum() == 2
    assert moved[0, 4:6].all()


def test_nothing_is_changed_by_no_millimetres_and_the_drawn_mask_is_never_touched() -> None:
    mask = disc((0.5, 0.5), 3.0)
    before = mask.copy()
    for kind in ("dilate", "erode", "up"):
        same = perturb(mask, (0.5, 0.5), kind, 0.0)
        assert np.array_equal(same, mask)
        same[:] = False
        perturb(mask, (0.5, 0.5), kind, 1.0)[:] = False
        assert np.array_equal(mask, before)


def test_a_mask_is_never_emptied() -> None:
    small = disc((0.5, 0.5), 1.2)
    with pytest.raises(MaskError, match=r"leg\.png.*nothing is left \(erode, 2 mm\)"):
        perturb(small, (0.5, 0.5), "erode", 2.0, file="leg.png")
    for direction in DIRECTIONS:
        with pytest.raises(MaskError, match="nothing is left"):
            perturb(small, (0.5, 0.5), direction, 100.0)
    with pytest.raises(MaskError, match="0 pixels"):
        perturb(np.zeros_like(small), (0.5, 0.5), "dilate", 2.0)


def test_without_spacing_a_millimetre_means_nothing() -> None:
    with pytest.raises(MissingSpacing, match=r"leg\.png.*calibration\.csv"):
        perturb(disc((0.5, 0.5)), None, "dilate", 1.0, file="leg.png")


@pytest.mark.parametrize("mm", [-1.0, math.nan, math.inf])
def test_an_impossible_distance_is_refused(mm: float) -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        perturb(disc((0.5, 0.5)), (0.5, 0.5), "dilate", mm)
