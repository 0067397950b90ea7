"""Overlap is counted and distance is measured: on shapes whose distance is known, and against every pair of corners."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from sarco_models.errors import MaskError, MissingSpacing, UndefinedMetric
from sarco_models.overlap import Overlap, assd_mm, dice, hd95_mm, iou, overlap, participant_mean

Mask = NDArray[np.bool_]
SPACINGS = [(0.1, 0.1), (0.06, 0.15), (0.2, 0.05)]
NOTHING: Mask = np.zeros((40, 50), dtype=np.bool_)


def box(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (40, 50)) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


def disc(radius_mm: float, mm: tuple[float, float], side_mm: float = 30.0) -> Mask:
    rows, columns = (np.arange(round(side_mm / step)) * step for step in mm)
    middle = rows.mean(), columns.mean()
    return np.asarray(np.hypot(rows[:, None] - middle[0], columns[None] - middle[1]) < radius_mm)


def blobs(seed: int, shape: tuple[int, int] = (30, 36)) -> tuple[Mask, Mask]:
    rng = np.random.default_rng(seed)
    first, other = (gaussian_filter(rng.standard_normal(shape), 4) for _ in range(2))
    return first > 0.02, first + 0.6 * other > 0.02


def corners(mask: Mask, mm: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every corner between muscle and background, in mm, and the length of the edge there: said once more, slowly."""
    padded, places, lengths = np.pad(mask, 1), [], []
    for row in range(mask.shape[0] + 1):
        for column in range(mask.shape[1] + 1):
            square = padded[row : row + 2, column : column + 2]
            if square.all() or not square.any():
                continue
            places.append((row * mm[0], column * mm[1]))
            if square.sum() == 2 and (square[0] == square[1]).all():
                lengths.append(mm[0])  # the edge runs down
            elif square.sum() == 2 and (square[0] != square[1]).all() and square[0, 0] == square[0, 1]:
                lengths.append(mm[1])  # it runs across
            else:
                lengths.append(math.hypot(*mm) * (1.0 if square.sum() == 2 else 0.5))
    return np.array(places), np.array(lengths)


def by_hand(a: Mask, b: Mask, mm: tuple[float, float]) -> tuple[float, float]:
    """HD95 and ASSD from the distances of all pairs."""
    (at_a, long_a), (at_b, long_b) = corners(a, mm), corners(b, mm)
    ways = cdist(at_a, at_b)
    percentiles = []
    for distance, length in ((ways.min(axis=1), long_a), (ways.min(axis=0), long_b)):
        within = [length[distance <= limit].sum() >= 0.95 * length.sum() - 1e-12 for limit in np.sort(distance)]
        percentiles.append(np.sort(distance)[within.index(True)])
    total = ways.min(axis=1) @ long_a + ways.min(axis=0) @ long_b
    return max(percentiles), total / (long_a.sum() + long_b.sum())


# --- shares -----------------------------------------------------------------------------------------------------------


def test_half_a_mask_has_the_overlap_of_the_textbook() -> None:
    whole, half = box(4, 4, 20, 20), box(4, 4, 20, 10)
    assert dice(whole, half) == pytest.approx(2 / 3)
    assert iou(whole, half) == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(6))
def test_dice_and_iou_say_the_same_and_do_not_mind_the_order(seed: int) -> None:
    a, b = blobs(seed)
    share, other = dice(a, b), iou(a, b)
    assert share is not None
    assert other is not None
    assert share == pytest.approx(2 * other / (1 + other))
    assert (dice(b, a), iou(b, a)) == (share, other)


def test_equal_masks_are_without_distance() -> None:
    a, _ = blobs(1)
    assert overlap(a, a, (0.1, 0.2)) == Overlap(1.0, 1.0, 0.0, 0.0)


def test_of_two_empty_masks_nothing_is_said() -> None:
    assert overlap(NOTHING, NOTHING, (0.1, 0.1)) == Overlap(None, None, None, None)


def test_a_muscle_that_was_missed_or_invented_has_no_overlap_and_no_distance() -> None:
    muscle = box(4, 4, 20, 20)
    assert overlap(NOTHING, muscle, (0.1, 0.1)) == Overlap(0.0, 0.0, None, None, missed=True)
    assert overlap(muscle, NOTHING, (0.1, 0.1)) == Overlap(0.0, 0.0, None, None, invented=True)
    assert hd95_mm(NOTHING, muscle, (0.1, 0.1)) is None
    assert assd_mm(muscle, NOTHING, (0.1, 0.1)) is None


def test_masks_of_two_frames_are_not_compared() -> None:
    for compare in (dice, iou):
        with pytest.raises(MaskError, match=r"40 x 50 \(rows x columns\); expected 40 x 51 \(rows x columns\) like"):
            compare(NOTHING, np.zeros((40, 51), dtype=np.bool_))
    with pytest.raises(MaskError, match="bring the found one back onto the frame"):
        hd95_mm(NOTHING, np.zeros((4, 4), dtype=np.bool_), (0.1, 0.1))


def test_without_spacing_shares_are_given_and_distances_refused() -> None:
    a, b = blobs(2)
    assert overlap(a, b, None) == Overlap(dice(a, b), iou(a, b), None, None)
    for measure in (hd95_mm, assd_mm):
        with pytest.raises(MissingSpacing, match=r"unknown mm per pixel; expected .* calibration\.csv"):
            measure(a, b, None)
        with pytest.raises(MissingSpacing, match=r"0\.1 x 38 mm per pixel; expected 0\.005 to 2 mm"):
            measure(a, b, (0.1, 38.0))


# --- distances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mm", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_all_pairs_of_corners(seed: int, mm: tuple[float, float]) -> None:
    a, b = blobs(seed)
    hd95, assd = by_hand(a, b, mm)
    assert hd95_mm(a, b, mm) == pytest.approx(hd95, abs=1e-12)
    assert assd_mm(a, b, mm) == pytest.approx(assd, abs=1e-12)


def test_pixels_that_touch_at_a_corner_have_two_pieces_of_edge_there() -> None:
    a, b = np.random.default_rng(0).random((2, 14, 17)) < 0.5
    hd95, assd = by_hand(a, b, (0.1, 0.15))
    assert hd95_mm(a, b, (0.1, 0.15)) == pytest.approx(hd95, abs=1e-12)
    assert assd_mm(a, b, (0.1, 0.15)) == pytest.approx(assd, abs=1e-12)


@pytest.mark.parametrize("mm", SPACINGS)
def test_edges_of_concentric_discs_are_their_radii_apart(mm: tuple[float, float]) -> None:
    inner, outer = disc(8.0, mm), disc(10.0, mm)
    for measure in (hd95_mm, assd_mm):
        assert measure(inner, outer, mm) == pytest.approx(2.0, abs=max(mm))
    assert assd_mm(inner, outer, mm) == pytest.approx(2.0, abs=max(mm) / 2)


@pytest.mark.parametrize("mm", SPACINGS)
def test_a_taller_box_is_away_by_its_extra_rows(mm: tuple[float, float]) -> None:
    """The long sides are 3 rows apart on one side only; a fifth of the edge or more is at that distance."""
    low, tall = box(10, 2, 12, 46), box(10, 2, 15, 46)
    assert hd95_mm(low, tall, mm) == pytest.approx(3 * mm[0])


def test_the_edge_counts_by_its_length_and_not_by_its_pixels() -> None:
    """Two strips, 20 x 2 mm and 4 x 2 mm: all but a fraction of the wide one's edge is far from the narrow one."""
    mm = (0.05, 0.4)
    wide, narrow = box(0, 0, 40, 50), box(0, 20, 40, 10)
    far = 0.5 * (20 * mm[1]) ** 2 * 4  # four triangles of way along the upper and lower edge
    ends = 2 * 40 * mm[0] * 20 * mm[1]
    around = 2 * (50 * mm[1] + 40 * mm[0]) + 2 * (10 * mm[1] + 40 * mm[0])
    back = 2 * 40 * mm[0] * 0.5  # the narrow one's sides to the nearer of the long edges, at most half its height
    expected = (far + ends + back) / around
    assert assd_mm(wide, narrow, mm) == pytest.approx(expected, rel=0.03)


def test_a_speck_far_away_moves_the_mean_and_not_the_percentile() -> None:
    muscle = box(5, 5, 20, 20)
    with_speck = muscle | box(38, 48, 1, 1)
    distance, mean = hd95_mm(with_speck, muscle, (0.1, 0.1)), assd_mm(with_speck, muscle, (0.1, 0.1))
    assert distance == 0.0
    assert mean is not None
    assert mean > 0.0


def test_a_mask_may_reach_the_border_of_the_frame() -> None:
    """What the probe cuts off is an edge: a muscle that ends one column before it is one column away there."""
    full, short = box(10, 0, 20, 50), box(10, 0, 20, 49)
    expected = 20 * 0.1 * 0.1 * 2 / (2 * 2 * (2.0 + 5.0))
    assert assd_mm(full, short, (0.1, 0.1)) == pytest.approx(expected, rel=0.08)


def test_distances_grow_with_the_pixels() -> None:
    a, b = blobs(3)
    one, two = (overlap(a, b, (0.1 * k, 0.15 * k)) for k in (1, 2))
    assert one.hd95_mm is not None
    assert one.assd_mm is not None
    assert (two.dice, two.hd95_mm, two.assd_mm) == (
        one.dice,
        pytest.approx(2 * one.hd95_mm),
        pytest.approx(2 * one.assd_mm),
    )


# --- over participants ------------------------------------------------------------------------------------------------


def test_a_mean_is_over_participants_and_not_over_images() -> None:
    values, ids = [0.9, 0.9, 0.9, 0.7, None, 0.5], ["a", "a", "a", "b", "b", "c"]
    found = participant_mean(values, ids, np.random.default_rng(0))
    assert found.value == pytest.approx((0.9 + 0.7 + 0.5) / 3)
    assert 0.5 <= found.low < found.value < found.high <= 0.9


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.88, 0.04, 60)
    found = participant_mean(values, [str(k) for k in range(60)], np.random.default_rng(0))
    half = 1.96 * values.std(ddof=1) / math.sqrt(60)
    assert (found.value - found.low, found.high - found.value) == pytest.approx((half, half), rel=0.1)


def test_of_one_participant_there_is_no_mean_with_an_interval() -> None:
    with pytest.raises(UndefinedMetric, match="two of them"):
        participant_mean([0.9, 0.8, None], ["a", "a", "b"], np.random.default_rng(0))
