"""Text drawn into a phantom is where it is said to be; what is held out shares nothing with what is learned from."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from simulation.lettering import CAP_PX, SEEN, SEEN_CHINESE, UNSEEN, UNSEEN_CHINESE, Script, stamp, write
from simulation.overlays import callipers, doppler, exported, rough, ruler, shadow, tissue

Pixels = NDArray[np.uint8]


@pytest.mark.parametrize("part", ["given", "family", "screen", "forms"])
@pytest.mark.parametrize(("seen", "held_out"), [(SEEN, UNSEEN), (SEEN_CHINESE, UNSEEN_CHINESE)])
def test_what_is_held_out_shares_no_word(seen: Script, held_out: Script, part: str) -> None:
    assert not set(getattr(seen, part)) & set(getattr(held_out, part))


def test_what_is_held_out_shares_no_face() -> None:
    assert not set(SEEN.faces) & set(UNSEEN.faces)


@pytest.mark.parametrize("face", [*SEEN.faces, *UNSEEN.faces, *UNSEEN_CHINESE.faces])
def test_capitals_have_the_height_that_is_said(face: str) -> None:
    for asked in (8, 14, 30):
        drawn = stamp("HEH", face, asked)
        assert drawn.alpha.shape[0] == pytest.approx(drawn.cap_px, abs=2.5)


def test_ink_is_where_it_is_said_and_nowhere_else() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        before = tissue(rng, 320)
        after, lines = write(rng, before)
        changed = before != after
        for line in lines:
            x0, y0, x1, y1 = line.box
            assert CAP_PX[0] - 1 <= line.cap_px <= CAP_PX[1] + 2
            assert changed[y0:y1, x0:x1][line.ink].mean() > 0.9
            changed[y0:y1, x0:x1] = False
        assert lines[0].style == "plate" or not changed.any()


def test_ink_stands_out_as_far_as_asked() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert all(30 <= line.contrast < 40 for line in write(rng, tissue(rng, 224), contrast=(30, 40)).lines)


def test_resampling_moves_the_ink_with_the_picture() -> None:
    for seed in range(12):
        rng = np.random.default_rng([6, seed])
        black = np.zeros((240, 480), np.uint8)
        pixels, lines = exported(rng, *write(rng, black, contrast=(150, 256)))
        for line in lines:
            x0, y0, x1, y1 = line.box
            assert 0 <= x0 < x1 <= pixels.shape[1]
            assert 0 <= y0 < y1 <= pixels.shape[0]
            part = pixels[y0:y1, x0:x1].astype(float)
            assert abs(part[line.ink].mean() - part[~line.ink].mean()) > 60


@pytest.mark.parametrize("draw", [callipers, ruler, doppler, shadow])
def test_overlays_change_the_picture_and_keep_its_shape(draw: Callable[[np.random.Generator, Pixels], Pixels]) -> None:
    before = tissue(np.random.default_rng(1), 224)
    kept = before.copy()
    after = draw(np.random.default_rng(2), before)
    assert np.array_equal(before, kept)
    assert (after.shape, after.dtype) == (before.shape, np.uint8)
    assert not np.array_equal(after, before)
    assert np.array_equal(after, draw(np.random.default_rng(2), before))


def test_equal_generators_give_equal_pictures() -> None:
    for make in (tissue, rough, lambda rng: write(rng, tissue(rng, 224)).pixels):
        assert np.array_equal(make(np.random.default_rng(4)), make(np.random.default_rng(4)))
