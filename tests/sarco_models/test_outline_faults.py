"""Crossings of an outline are counted as they are, and their area is what it is."""

import numpy as np
import pytest

from sarco_models.outline_faults import doubtful_share, self_crossings


def test_round_and_jagged_outlines_do_not_cross_themselves():
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    for radius in (np.full(400, 30.0), 30 + 5 * np.cos(9 * angle), 20 + 10 * np.random.default_rng(1).random(400)):
        points = np.stack([50 + radius * np.cos(angle), 50 + radius * np.sin(angle)], axis=1)
        assert self_crossings(points) == 0
        assert doubtful_share(points) < 1e-3


def test_a_star_crosses_itself_five_times():
    angle = np.arange(5) * 4 * np.pi / 5
    points = np.stack([50 + 40 * np.cos(angle), 50 + 40 * np.sin(angle)], axis=1)
    assert self_crossings(points) == 5
    assert doubtful_share(points) > 0.3  # its middle is gone round twice


def test_what_touches_does_not_cross():
    """A hole joined to the outer edge by a slit that is run along twice, as tools without holes write it."""
    ring = np.array(
        [[0, 0], [40, 0], [40, 40], [0, 40], [0, 0], [10, 10], [10, 30], [30, 30], [30, 10], [10, 10]], float
    )
    assert self_crossings(ring) == 0
    assert doubtful_share(ring) < 1e-3


def test_a_point_set_twice_changes_nothing():
    points = np.array([[10, 10], [10, 10], [60, 40], [60, 10], [60, 10], [10, 40]], float)
    assert self_crossings(points) == 1


@pytest.mark.parametrize("n", [700, 1500])
def test_crossings_are_the_same_however_many_points_there_are(n):
    """A figure of eight, whose loops cross once whatever its points."""
    t = np.linspace(0.01, 2 * np.pi + 0.01, n, endpoint=False)
    eight = np.stack([np.sin(t), np.sin(2 * t)], axis=1) * 40 + 50
    assert self_crossings(eight) == 1
    assert doubtful_share(eight) == pytest.approx(1, abs=1e-3)
