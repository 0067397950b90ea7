"""Drawings say what the arrays say, in words too, and hide no lone value."""

import math
import re

import numpy as np
import pytest

from client.quality import pictures
from client.quality.pictures import FEWEST, Album, by_class, distribution, missing_order, missing_strip

RNG = np.random.default_rng(1)
LABELS = np.array([1] * 12 + [0] * 30, dtype=np.int8)
VALUES = RNG.normal(40.0, 4.0, len(LABELS))


def drawn(values: np.ndarray = VALUES, labels: np.ndarray = LABELS, low: float = 10.0, high: float = 60.0) -> str:
    return str(distribution(by_class(values, labels), low, high, name="albumin_g_per_l", unit="g/L"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(131.4, "131"), (41.23, "41.2"), (4.305, "4.3"), (0.005, "0.005"), (0.0, "0"), (-2.5, "-2.5"), (61440, "61,440"),
     (math.nan, "–")],
)  # fmt: skip
def test_numbers_have_about_three_figures_and_no_powers_of_ten(value: float, text: str) -> None:
    assert pictures.written(value) == text


def test_nearly_nothing_is_not_nothing_and_nearly_all_is_not_all() -> None:
    shares = [pictures.percent(part, 1000) for part in (0, 1, 250, 999, 1000)]
    assert shares == ["0 %", "< 1 %", "25 %", "> 99 %", "100 %"]
    assert pictures.percent(0, 0) == "–"


def test_classes_hold_every_labelled_value_that_is_present_once() -> None:
    values, labels = np.append(VALUES, [np.nan, np.nan, 7.0]), np.append(LABELS, [1, 0, -1]).astype(np.int8)
    groups = by_class(values, labels)
    assert list(groups) == ["positive", "negative"]
    assert np.array_equal(np.concatenate(list(groups.values())), VALUES)


def test_a_class_that_is_too_small_is_shown_together_with_all_others() -> None:
    """Else a slip of the pen in the smaller class would never be seen."""
    labels = np.array([1] * (FEWEST - 1) + [0] * 32 + [-1], dtype=np.int8)
    (everybody,) = by_class(VALUES, labels).values()
    assert np.array_equal(everybody, VALUES)
    assert f"everybody: {len(VALUES)} values" in drawn(labels=labels)
    assert by_class(VALUES, labels[:0]).keys() == {"everybody"}


def test_a_distribution_says_its_counts_and_medians_in_words() -> None:
    svg = drawn()
    assert "positive: 12 values" in svg
    assert "negative: 30 values" in svg
    assert f"median {np.median(VALUES[:12]):.1f}" in svg
    assert 'role="img"' in svg


def test_nothing_is_drawn_of_few_values() -> None:
    assert drawn(VALUES[: FEWEST - 1], LABELS[:0]) == ""
    assert drawn(VALUES[:FEWEST], LABELS[:0]) != ""
    assert pictures.share_bar(3, FEWEST - 1, "positive") == ""


def test_a_lone_value_far_off_is_seen() -> None:
    far = VALUES.copy()
    far[-1] = 400.0
    bars = re.findall(r'd="((?:M[\d.]+ [\d.]+v-[\d.]+h[\d.]+V[\d.]+z)+)"', drawn(far, high=500.0))[-1]
    *_, x, height = re.findall(r"M([\d.]+) [\d.]+v-([\d.]+)h", bars)[-1]
    assert float(x) > 200
    assert float(height) >= 1.5


@pytest.mark.parametrize("values", [np.arange(40.0), np.full(40, 7.0), np.zeros(40), RNG.exponential(1e-3, 40)])
def test_every_value_falls_into_one_bin(values: np.ndarray) -> None:
    axis = pictures._axis(values)
    assert axis.counts(values).sum() == len(values)
    assert axis.start <= values.min() <= values.max() < axis.end
    assert axis.bins <= 40


def test_whole_numbers_fall_into_bins_of_a_whole_width() -> None:
    """A bin of 1.5 would hold one or two whole numbers in turn: a comb that is not in the data."""
    assert pictures._axis(np.arange(18.0, 95.0)).step in (1, 2, 5, 10)


def test_values_outside_the_plausible_range_are_said_and_the_range_is_written() -> None:
    assert "values outside the range" in drawn(low=10.0, high=40.0)
    inside = drawn()
    assert "plausible range" in inside
    assert ">10</text>" in inside
    assert ">60</text>" in inside
    assert "plausible range" not in drawn(low=math.nan, high=math.nan)


def test_names_are_escaped() -> None:
    svg = distribution(by_class(VALUES, LABELS), 0, 1, name='"><script>', unit="<b>")
    assert "<script>" not in svg
    assert "<b>" not in svg


def test_those_who_miss_most_come_first_and_equal_patterns_stand_together() -> None:
    missing = np.array([[0, 1, 0, 1, 1], [0, 1, 1, 0, 1], [0, 1, 0, 0, 0]], dtype=bool)
    order = missing_order(missing)
    assert order.tolist() == [1, 4, 3, 2, 0]


@pytest.mark.parametrize("people", [1, 40, pictures.MAP_COLUMNS, 5000])
def test_a_map_has_a_bounded_number_of_columns_and_covers_all_that_is_missing(people: int) -> None:
    missing = np.arange(people) % 3 == 0
    svg = str(missing_strip(missing, "tsh"))
    columns = int(re.findall(r'viewBox="0 0 (\d+) 1"', svg)[0])
    assert columns == min(people, pictures.MAP_COLUMNS)
    if people <= columns:
        assert sum(map(int, re.findall(r"0h(\d+)v1", svg))) == missing.sum()
    assert f"tsh: {pictures.percent(int(missing.sum()), people)} missing" in svg


def test_the_median_grey_is_that_of_the_pixels() -> None:
    pixels = RNG.integers(0, 256, 1001)
    assert pictures.median_grey(np.bincount(pixels, minlength=256)) == np.median(pixels)
    assert math.isnan(pictures.median_grey(np.zeros(256, dtype=np.int64)))


def test_black_that_is_no_tissue_does_not_flatten_the_grey_levels() -> None:
    grey = np.bincount(RNG.normal(80, 20, 5000).astype(int).clip(1, 255), minlength=256)
    padded = grey + np.eye(1, 256, dtype=np.int64)[0] * 100_000
    heights = [re.findall(r"V([\d.]+)h2.5", str(pictures.grey_curve(g, "Aixplorer")))[1:] for g in (grey, padded)]
    assert heights[0] == heights[1]
    assert pictures.grey_curve(np.zeros(256, dtype=np.int64), "none") == ""


def test_an_album_takes_what_it_has_room_for_and_no_more_than_asked() -> None:
    jpegs = [b"x" * 300, b"", b"y" * 300, b"z" * 300]
    assert [bool(a) for a in Album(10_000).take(jpegs, 2)] == [True, False, True, False]
    album = Album(900)
    taken = album.take(jpegs, 4)
    assert sum(map(len, taken)) <= 900
    assert [bool(a) for a in taken] == [True, False, True, False]
    assert album.take(jpegs, 4) == ["", "", "", ""]
