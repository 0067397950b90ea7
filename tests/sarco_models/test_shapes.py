"""A shape is what its mask is, in millimetres, and a range holds what people have drawn."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.shapes import LOGARITHMS, Shape, ShapeRange, ShapeSums, shape_sums, told_shapes

SHAPE = (100, 160)
MM = (0.2, 0.2)


def ellipse(
    centre: tuple[float, float] = (50, 80), half: tuple[float, float] = (15, 45), shape: tuple[int, int] = SHAPE
) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside: NDArray[np.bool_] = ((rows - centre[0]) / half[0]) ** 2 + ((columns - centre[1]) / half[1]) ** 2 < 1
    return inside


@pytest.mark.parametrize("mm", [(0.1, 0.1), (0.2, 0.1), (0.05, 0.3)])
def test_area_aspect_and_convexity_of_a_drawn_ellipse(mm: tuple[float, float]) -> None:
    """Half axes of 6 and 18 mm, whatever the pixels are."""
    shape = (round(20 / mm[0]), round(44 / mm[1]))
    mask = ellipse((shape[0] / 2, shape[1] / 2), (6 / mm[0], 18 / mm[1]), shape)
    seen = Shape.of(mask, mm)
    assert seen.area_cm2 == pytest.approx(np.pi * 0.6 * 1.8, rel=0.01)
    assert seen.aspect == pytest.approx(3, rel=0.05)
    assert seen.convexity > 0.97
    assert (seen.fragments, seen.holes_share, seen.sides) == (0, 0, ())


def test_pieces_holes_and_borders_are_seen() -> None:
    mask = ellipse() & ~ellipse(half=(3, 9))
    mask[:8, 4:14] = True
    seen = Shape.of(mask, None)
    assert seen.area_cm2 is None
    assert seen.fragments == 1
    assert seen.fragments_share == pytest.approx(80 / mask.sum())
    assert seen.holes_share == pytest.approx(ellipse(half=(3, 9)).sum() / (ellipse().sum() + 80), rel=0.02)
    assert seen.sides == ("top",)


def test_two_bellies_that_both_go_on_beyond_the_frame_are_one_muscle() -> None:
    """The rectus abdominis seen from the white line between its halves."""
    height, width = SHAPE
    left, right = (ellipse((height / 2, x), (height / 6, width / 4)) for x in (0, width - 1))
    within = ellipse((height / 2, width / 2), (height / 8, width / 8))
    assert Shape.of(left | right, MM).fragments == 0
    assert Shape.of(left | right, MM).fragments_share == 0
    assert Shape.of(left | within, MM).fragments == 1, "one of them lies whole in the frame"
    again = ellipse((height - 4, 0), (3, width / 8))
    assert Shape.of(left | again, MM).fragments == 1, "both are at one side"
    both = Shape.of(left | right | within, MM)
    assert (both.fragments, both.fragments_share) == (1, pytest.approx(within.sum() / (left | right | within).sum()))
    assert [Shape.of(m, MM).bellies for m in (left | right, left | right | within, left | again, left)] == [2, 2, 1, 1]


def test_what_is_no_second_belly_is_a_stray_piece() -> None:
    height, width = SHAPE
    left = ellipse((height / 4, 0), (height / 6, width / 4))
    hook = np.zeros(SHAPE, dtype=bool)
    hook[10:60, -10:] = hook[50:60] = True
    elsewhere = {
        "a speck": ellipse((height / 4, width - 1), (3, 4)),
        "at another depth": ellipse((3 * height / 4, width - 1), (height / 6, width / 4)),
        "cut off at both sides": hook,
    }
    for what, piece in elsewhere.items():
        assert Shape.of(left | piece, MM).fragments >= 1, what
    right = ellipse((height / 4, width - 1), (height / 6, width / 4))
    smaller = ellipse((height / 4, width - 1), (height / 10, width / 5))
    assert Shape.of(left | right, MM).fragments == 0
    assert Shape.of(left | smaller, MM).bellies == 2


def test_an_empty_mask_has_no_shape() -> None:
    with pytest.raises(UndefinedMetric):
        Shape.of(np.zeros(SHAPE, dtype=bool), MM)


def test_a_single_pixel_has_one() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5, 5] = True
    assert Shape.of(mask, MM).fragments == 0


# ---- ranges ----------------------------------------------------------------------------------------------------------


def people(n: int, seed: int = 0) -> tuple[list[Shape], list[str]]:
    rng = np.random.default_rng(seed)
    halves = [(float(h), float(w)) for h, w in zip(rng.normal(15, 2, n), rng.normal(45, 4, n), strict=True)]
    return [Shape.of(ellipse(half=half), MM) for half in halves], [f"{seed}-{k}" for k in range(n)]


def test_sums_of_two_hospitals_are_those_of_all_participants() -> None:
    (a, of_a), (b, of_b) = people(7, 1), people(9, 2)
    pooled, added = ShapeSums.of(a + b, of_a + of_b), ShapeSums.of(a, of_a) + ShapeSums.of(b, of_b)
    np.testing.assert_allclose(added.total, pooled.total)
    np.testing.assert_allclose(added.squares, pooled.squares)
    np.testing.assert_array_equal(added.count, 16)


def test_a_participant_with_many_images_counts_once() -> None:
    shapes, owners = people(6)
    once = ShapeSums.of(shapes, owners)
    often = ShapeSums.of([*shapes, *[shapes[0]] * 9], [*owners, *[owners[0]] * 9])
    np.testing.assert_allclose(often.total, once.total)
    np.testing.assert_array_equal(often.count, 6)


def test_a_range_holds_those_it_was_made_of_and_not_another_muscle() -> None:
    shapes, owners = people(30)
    drawn = ShapeSums.of(shapes, owners).range()
    assert not any(list(drawn.beyond(shape)) for shape in shapes)
    flat, tiny = Shape.of(ellipse(half=(4, 70)), MM), Shape.of(ellipse(half=(5, 15)), MM)
    assert any("width over thickness" in words for _, words in drawn.beyond(flat))
    assert any("area" in words for _, words in drawn.beyond(tiny))
    assert ShapeRange.from_dict(drawn.to_dict()) == drawn


def test_too_few_people_make_no_range() -> None:
    shapes, owners = people(5)
    with pytest.raises(UndefinedMetric, match="5 participants"):
        ShapeSums.of(shapes, owners).range()


def test_sums_of_two_hospitals_come_back_from_what_they_tell() -> None:
    parts = [ShapeSums.of(*people(n, seed)) for seed, n in enumerate((12, 8))]
    told = [told_shapes({"biceps": part}, min_cell=5) for part in parts]
    assert {name.split(".")[1] for name in told[0]} == set(LOGARITHMS)
    back = [shape_sums({**one, "biceps.dice.n": 3.0, "loss": 1.0})["biceps"] for one in told]
    found, direct = (back[0] + back[1]).range(), (parts[0] + parts[1]).range()
    np.testing.assert_allclose((found.low, found.high), (direct.low, direct.high), rtol=1e-9)


def test_shapes_of_few_people_are_not_told() -> None:
    sums = ShapeSums.of(*people(4))
    assert told_shapes({"biceps": sums}, min_cell=5) == {}
    assert told_shapes({"biceps": ShapeSums.of([], [])}, min_cell=0) == {}
    assert told_shapes({"biceps": sums}, min_cell=4)["biceps.log_aspect.n"] == 4
