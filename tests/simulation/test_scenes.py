"""What lies around a muscle tells which one it is, and lies where anatomy says."""

from collections.abc import Callable

import numpy as np
import pytest

from simulation.anatomy import MUSCLES, Pair, Scene, random_subject
from simulation.devices import DEVICES
from simulation.phantom import render
from simulation.scenes import build_scene
from simulation.two_muscles import build_pair

X = ((np.arange(128) + 0.5) * 0.3 - 19.2).astype(np.float32)


def scene_of(muscle: str, seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    return build_scene(random_subject(rng, muscle), X, rng)


def arm(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    biceps, triceps = random_subject(rng, "biceps_brachii"), random_subject(rng, "triceps_brachii")
    return build_pair(Pair(biceps, triceps, 1.5), X, rng)


@pytest.mark.parametrize("build", [lambda seed: scene_of("biceps_brachii", seed), arm], ids=["biceps", "arm"])
def test_vessels_lie_below_the_muscle(build: Callable[[int], Scene]) -> None:
    for seed in range(20):
        scene = build(seed)
        assert len(scene.vessels) == 2
        for vessel in scene.vessels:
            covered = np.abs(X - vessel.x_mm) < 0.3
            assert (vessel.depth_mm - vessel.radius_mm > scene.lower[covered]).all()


def test_only_the_arm_has_vessels_and_only_the_belly_gas() -> None:
    for muscle in MUSCLES:
        scene = scene_of(muscle, 1)
        assert bool(scene.vessels) == (muscle == "biceps_brachii")
        assert (scene.gas is not None) == (muscle == "rectus_abdominis") == (scene.bone is None)


def test_vessels_are_black() -> None:
    inside, beside = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        subject = random_subject(rng, "biceps_brachii")
        image = render(subject, np.random.default_rng(seed), width_px=224)
        grid = ((np.arange(128) + 0.5) * DEVICES["aixplorer"].width_mm / 128 - 19.2).astype(np.float32)
        artery = build_scene(subject, grid, np.random.default_rng(seed)).vessels[0]
        row = round(artery.depth_mm / image.mm_per_pixel)
        column = round((artery.x_mm + 19.2) / image.mm_per_pixel)
        if not (12 < column < 212 and row < len(image.pixels) - 4):
            continue
        inside.append(image.pixels[row - 3 : row + 3, column - 3 : column + 3].mean())
        beside.append(np.delete(image.pixels[row - 3 : row + 3], np.s_[column - 20 : column + 20], axis=1).mean())
    assert len(inside) > 4
    assert np.mean(inside) < 0.4 * np.mean(beside)


def test_the_triceps_has_a_bright_tendon_near_its_upper_edge() -> None:
    def brightest_row(muscle: str) -> float:
        found = []
        for seed in range(12):
            image = render(random_subject(np.random.default_rng(seed), muscle), np.random.default_rng(seed))
            rows, columns = np.flatnonzero(image.mask.any(axis=1)), np.flatnonzero(image.mask.any(axis=0))
            top, height = rows[0], len(rows)
            middle = int(columns.mean())
            upper = image.pixels[top + height // 8 : top + height // 3, middle - 15 : middle + 15]
            found.append(upper.mean(axis=1).max() / image.echo_intensity)
        return float(np.mean(found))

    assert brightest_row("triceps_brachii") > brightest_row("biceps_brachii") + 0.3
