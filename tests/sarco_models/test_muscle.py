"""Sizes of drawn shapes are known, whatever the pixels and however the shape lies; and those of phantoms too."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sarco_models.errors import MissingSpacing, UndefinedMetric
from sarco_models.muscle import ECHO_INTENSITY_CAVEAT, MuscleMeasures, largest_piece, measure
from simulation.anatomy import MUSCLES, Subject, random_subject
from simulation.phantom import render

Curve = NDArray[np.float64]
Mask = NDArray[np.bool_]
Shape = Callable[[Curve, Curve], Mask]
"""Whether a place, mm along and across the shape's own axis from its middle, lies inside."""

SPACINGS = [(0.06, 0.06), (0.12, 0.12), (0.1, 0.16), (0.17, 0.08)]
TILTS = [0.0, 10.0, -22.0]


def draw(shape: Shape, mm: tuple[float, float], tilt: float = 0.0, side_mm: tuple[float, float] = (32, 50)) -> Mask:
    """A shape in the middle of a frame; positive tilts bring its right side down."""
    y, x = ((np.arange(round(side / step)) + 0.5) * step - side / 2 for side, step in zip(side_mm, mm, strict=True))
    angle = math.radians(tilt)
    along = x[None] * math.cos(angle) + y[:, None] * math.sin(angle)
    across = y[:, None] * math.cos(angle) - x[None] * math.sin(angle)
    return shape(along, across)


def ellipse(width: float, height: float) -> Shape:
    return lambda x, y: np.asarray((2 * x / width) ** 2 + (2 * y / height) ** 2 < 1)


def rounded_rectangle(width: float, height: float) -> Shape:
    return lambda x, y: np.asarray(np.hypot(np.maximum(np.abs(x) - (width - height) / 2, 0), y) < height / 2)


def banana(radius: float, height: float, half_angle: float) -> Shape:
    """A piece of a ring around a bone below."""

    def inside(x: Curve, y: Curve) -> Mask:
        from_bone = np.hypot(x, radius - y)
        return np.asarray(
            (np.abs(from_bone - radius) < height / 2) & (np.abs(np.arctan2(x, radius - y)) < math.radians(half_angle))
        )

    return inside


def length_mm(found: MuscleMeasures, mm: tuple[float, float]) -> float:
    (r0, c0), (r1, c1) = found.thickness_line
    return math.hypot((r1 - r0) * mm[0], (c1 - c0) * mm[1])


# --- shapes of known size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mm", SPACINGS)
@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize(("width", "height", "off"), [(36, 14, 0.12), (24, 8, 0.12), (22, 20, 0.25)])
def test_an_ellipse_has_its_axes_and_its_area(
    mm: tuple[float, float], tilt: float, width: float, height: float, off: float
) -> None:
    """Of one that is nearly round the axis is not found to the degree; that costs 0.25 mm at most."""
    found = measure(draw(ellipse(width, height), mm, tilt), None, mm)
    assert found.thickness_mm == pytest.approx(height, abs=off)
    assert found.csa_cm2 == pytest.approx(math.pi * width * height / 400, rel=0.003)
    assert found.width_mm == pytest.approx(width, abs=off + 0.08)


@pytest.mark.parametrize("mm", SPACINGS)
@pytest.mark.parametrize("tilt", TILTS)
def test_a_rectangle_with_rounded_ends_is_as_thick_as_it_is_high(mm: tuple[float, float], tilt: float) -> None:
    found = measure(draw(rounded_rectangle(34.0, 11.0), mm, tilt), None, mm)
    row = mm[0] if tilt == 0.0 else 0.1  # a straight edge is drawn to whole rows of pixels
    assert found.thickness_mm == pytest.approx(11.0, abs=row)
    assert found.csa_cm2 == pytest.approx((23 * 11 + math.pi * 5.5**2) / 100, rel=row / 11)
    assert found.axis_degrees == pytest.approx(tilt, abs=0.6)


@pytest.mark.parametrize("mm", SPACINGS)
@pytest.mark.parametrize("tilt", TILTS)
def test_a_banana_is_measured_across_its_middle(mm: tuple[float, float], tilt: float) -> None:
    found = measure(draw(banana(40.0, 9.0, 20.0), mm, tilt, (36, 50)), None, mm)
    assert found.thickness_mm == pytest.approx(9.0, abs=0.17)
    assert found.csa_cm2 == pytest.approx(40 * 9 * math.radians(40) / 100, rel=0.004)


@pytest.mark.parametrize("tilt", [10.0, 20.0, -30.0])
def test_down_the_picture_a_tilted_muscle_is_thicker(tilt: float) -> None:
    """A long strip by 1 / cos of its tilt."""
    mask = draw(rounded_rectangle(44.0, 8.0), (0.1, 0.1), tilt, (40, 50))
    vertical = measure(mask, None, (0.1, 0.1), direction="vertical")
    assert vertical.thickness_mm == pytest.approx(8.0 / math.cos(math.radians(tilt)), abs=0.1)
    assert measure(mask, None, (0.1, 0.1)).thickness_mm == pytest.approx(8.0, abs=0.1)


@pytest.mark.parametrize("direction", ["perpendicular", "vertical"])
def test_of_a_muscle_that_lies_straight_both_thicknesses_are_one(direction: str) -> None:
    found = measure(draw(ellipse(36, 14), (0.1, 0.1)), None, (0.1, 0.1), direction=direction)  # type: ignore[arg-type]
    assert found.thickness_mm == pytest.approx(14.0, abs=0.05)


def test_a_muscle_deeper_than_wide_is_still_measured_from_top_to_bottom() -> None:
    found = measure(draw(ellipse(18.0, 22.0), (0.1, 0.1), 8.0), None, (0.1, 0.1))
    assert found.thickness_mm == pytest.approx(22.0, abs=0.5)
    assert abs(found.axis_degrees) < 10


def test_a_rim_that_sticks_out_at_one_side_does_not_move_the_middle() -> None:
    mask = draw(rounded_rectangle(24.0, 12.0), (0.1, 0.1))
    spur = mask.copy()
    spur[158:162, 370:480] = True
    plain, spurred = (measure(each, None, (0.1, 0.1)) for each in (mask, spur))
    assert spurred.thickness_mm == pytest.approx(plain.thickness_mm, abs=0.1)
    assert spurred.width_mm > plain.width_mm + 8


def test_one_pixel_too_many_at_the_edge_is_no_thickness() -> None:
    mask = draw(ellipse(30.0, 12.0), (0.1, 0.1))
    notched = mask.copy()
    notched[: int(np.flatnonzero(mask[:, 250])[0]), 250] = True
    assert measure(notched, None, (0.1, 0.1)).thickness_mm < 12.2


# --- the line, the pieces, the frame ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mm", SPACINGS)
@pytest.mark.parametrize("direction", ["perpendicular", "vertical"])
def test_the_line_that_is_shown_is_the_one_that_was_measured(mm: tuple[float, float], direction: str) -> None:
    mask = np.roll(draw(ellipse(30, 12), mm, 15.0), (9, -13), axis=(0, 1))
    found = measure(mask, None, mm, direction=direction)  # type: ignore[arg-type]
    (r0, c0), (r1, c1) = found.thickness_line
    assert length_mm(found, mm) == pytest.approx(found.thickness_mm, abs=1e-6)
    assert r0 < r1
    for share in np.linspace(0.1, 0.9, 9):
        assert mask[round(r0 + share * (r1 - r0)), round(c0 + share * (c1 - c0))]
    for share in (-0.1, 1.1):
        assert not mask[round(r0 + share * (r1 - r0)), round(c0 + share * (c1 - c0))]
    if direction == "vertical":
        assert c0 == pytest.approx(c1)


def test_a_hole_takes_area_and_no_thickness() -> None:
    mask = draw(ellipse(36, 14), (0.1, 0.1))
    holed = mask & ~draw(ellipse(4, 4), (0.1, 0.1))
    whole, less = (measure(each, None, (0.1, 0.1)) for each in (mask, holed))
    assert less.thickness_mm == pytest.approx(whole.thickness_mm)
    assert whole.csa_cm2 - less.csa_cm2 == pytest.approx(math.pi * 4 / 100, rel=0.02)
    assert less.pieces == 1


def test_of_two_pieces_the_larger_gives_the_thickness_and_both_the_area() -> None:
    mask = draw(ellipse(30, 12), (0.1, 0.1))
    both = mask.copy()
    both[5:15, 10:60] = True
    one, two = (measure(each, None, (0.1, 0.1)) for each in (mask, both))
    assert (one.pieces, two.pieces) == (1, 2)
    assert two.thickness_mm == pytest.approx(one.thickness_mm, abs=1e-4)
    assert np.array(two.thickness_line) == pytest.approx(np.array(one.thickness_line), abs=1e-3)
    assert two.csa_cm2 == pytest.approx(one.csa_cm2 + 0.05)


def test_a_mask_in_two_halves_is_measured_in_the_larger() -> None:
    mask = draw(rounded_rectangle(34, 10), (0.1, 0.1))
    mask[:, 300:304] = False
    found = measure(mask, None, (0.1, 0.1))
    assert found.pieces == 2
    assert found.thickness_mm == pytest.approx(10, abs=0.1)
    assert found.width_mm < 34 * 0.7


def test_a_muscle_wider_than_the_frame_is_said_to_be_cut() -> None:
    wide = measure(draw(ellipse(60, 14), (0.1, 0.1)), None, (0.1, 0.1))
    assert wide.cut_off
    assert wide.width_mm == pytest.approx(50, abs=0.1)
    assert wide.thickness_mm == pytest.approx(14, abs=0.1)
    assert not measure(draw(ellipse(40, 14), (0.1, 0.1)), None, (0.1, 0.1)).cut_off


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_the_smallest_masks_have_a_size(size: tuple[int, int]) -> None:
    mask = np.zeros((20, 20), dtype=np.bool_)
    mask[5 : 5 + size[0], 7 : 7 + size[1]] = True
    found = measure(mask, None, (0.2, 0.2))
    assert found.thickness_mm == pytest.approx(0.2 * size[0], abs=0.11)
    assert found.width_mm == pytest.approx(0.2 * size[1], abs=0.11)
    assert found.csa_cm2 == pytest.approx(size[0] * size[1] * 0.0004)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_found_has_measures_that_can_be(seed: int) -> None:
    """Specks, strips, several pieces, oblong pixels: no error, no NaN, nothing larger than the frame."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 60, 2)
    smooth = rng.choice([0.0, 1.0, 4.0])
    mask = gaussian_filter(rng.standard_normal((rows, columns)), smooth) > 0.1 * rng.random()
    mask[rng.integers(rows), rng.integers(columns)] = True
    mm = float(rng.uniform(0.03, 0.5)), float(rng.uniform(0.03, 0.5))
    diagonal = math.hypot((rows + 1) * mm[0], (columns + 1) * mm[1])
    for direction in ("perpendicular", "vertical"):
        found = measure(mask, None, mm, direction=direction)
        assert 0 < found.thickness_mm <= diagonal
        assert 0 < found.width_mm <= diagonal
        assert length_mm(found, mm) == pytest.approx(found.thickness_mm, abs=1e-6)
        assert found.csa_cm2 == pytest.approx(mask.sum() * mm[0] * mm[1] / 100)
        assert -45 <= found.axis_degrees <= 45


def test_the_whole_frame_can_be_muscle() -> None:
    found = measure(np.ones((100, 200), dtype=np.bool_), None, (0.1, 0.1))
    assert (found.thickness_mm, found.width_mm, found.csa_cm2) == (pytest.approx(10), pytest.approx(20), 2.0)


def test_lengths_grow_with_the_pixels_and_areas_with_their_square() -> None:
    mask = draw(ellipse(30, 12), (0.1, 0.1), 12.0)
    one, two = measure(mask, None, (0.2, 0.2)), measure(mask, None, (0.4, 0.4))
    assert two.thickness_mm == pytest.approx(2 * one.thickness_mm, rel=0.003)
    assert two.csa_cm2 == pytest.approx(4 * one.csa_cm2)


def test_the_largest_piece_is_whole_and_touches_at_corners() -> None:
    mask = np.array(
        [[1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=np.bool_
    )
    mask = np.pad(mask, ((0, 0), (0, 3)))
    mask[0, 7] = True
    piece, pieces = largest_piece(mask)
    assert pieces == 2
    assert piece[2, 2]
    assert piece[0, 0]
    assert not piece[0, 7]


# --- echo intensity, and what is refused ------------------------------------------------------------------------------


def test_echo_intensity_is_the_mean_inside_the_muscle() -> None:
    image = render(Subject(), np.random.default_rng(2))
    mm = (image.mm_per_pixel, image.mm_per_pixel)
    assert measure(image.mask, image.pixels, mm).echo_intensity == pytest.approx(image.echo_intensity)
    assert measure(image.mask, None, mm).echo_intensity is None


def test_the_caveat_names_what_changes_grey_levels() -> None:
    for word in ("gain", "dynamic range", "grey map", "one machine", "never between hospitals"):
        assert word in ECHO_INTENSITY_CAVEAT


def test_without_spacing_nothing_is_measured() -> None:
    mask = draw(ellipse(30, 12), (0.1, 0.1))
    with pytest.raises(MissingSpacing) as error:
        measure(mask, None, None, file="rf_007.jpg")
    for part in ("rf_007.jpg, field mm_per_pixel: unknown mm per pixel", "calibration.csv", "thickness or an area"):
        assert part in str(error.value)
    with pytest.raises(MissingSpacing, match=r"0 x 0 mm per pixel; expected 0\.005 to 2 mm"):
        measure(mask, None, (0.0, 0.0))
    with pytest.raises(MissingSpacing, match="nan"):
        measure(mask, None, (0.1, math.nan))


def test_an_empty_mask_has_no_measures() -> None:
    with pytest.raises(UndefinedMetric, match=r"rf_007\.jpg: the mask is empty: .* as absent, never as 0"):
        measure(np.zeros((9, 9), dtype=np.bool_), None, (0.1, 0.1), file="rf_007.jpg")


# --- phantoms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("muscle", MUSCLES)
def test_phantoms_measure_what_their_truth_says(muscle: str) -> None:
    """Their truth is the largest vertical distance within 3 mm of the middle: what ``vertical`` looks for."""
    rng = np.random.default_rng(7)
    for _ in range(6):
        image = render(random_subject(rng, muscle), rng, width_px=320)
        found = measure(image.mask, None, (image.mm_per_pixel, image.mm_per_pixel), direction="vertical")
        assert found.thickness_mm == pytest.approx(image.truth.thickness_mm, abs=0.4)
        assert found.csa_cm2 == pytest.approx(image.truth.csa_cm2, abs=0.01)


@pytest.mark.parametrize("muscle", MUSCLES)
def test_perpendicular_is_never_much_thicker_than_down_the_picture(muscle: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(6):
        image = render(random_subject(rng, muscle), rng)
        mm = (image.mm_per_pixel, image.mm_per_pixel)
        ours, down = measure(image.mask, None, mm), measure(image.mask, None, mm, direction="vertical")
        assert 0.9 * down.thickness_mm < ours.thickness_mm < 1.02 * down.thickness_mm
