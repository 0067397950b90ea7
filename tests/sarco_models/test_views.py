"""The network's square on a frame: there and back without losing a millimetre."""

import numpy as np
import pytest

from sarco_models.config import ImageConfig
from sarco_models.errors import MissingSpacing
from sarco_models.frames import Frame
from sarco_models.preprocess import model_input
from sarco_models.segmentation import BACKGROUND, OUTSIDE
from sarco_models.views import View, segmentation_view

FRAMINGS = ("physical", "letterbox", "paper")
SHAPES = [(300, 400), (40, 52), (64, 64), (500, 60)]


def frame_of(shape, mm=(0.1, 0.1), rng=None):
    pixels = (rng or np.random.default_rng(1)).integers(1, 256, shape).astype(np.uint8)
    return Frame(pixels, mm, "", (0, 0), shape)


def config(framing="physical", size=64, window_mm=30.0, **more):
    return ImageConfig(size=size, framing=framing, window_mm=window_mm, roi="none", **more)


def ellipse(shape, centre=(0.5, 0.5), half=(0.3, 0.35)):
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = ((rows / shape[0] - centre[0]) / half[0]) ** 2 + ((columns / shape[1] - centre[1]) / half[1]) ** 2 < 1
    return inside.astype(np.uint8)


def one_hot(square, classes=2):
    known = np.where(square == OUTSIDE, BACKGROUND, square)
    return (known == np.arange(classes)[:, None, None]).astype(np.float32)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mm", [(0.1, 0.1), (0.14, 0.07)])
def test_the_square_is_what_every_other_network_sees(framing, shape, mm):
    frame, cfg = frame_of(shape, mm), config(framing)
    pixels, _ = segmentation_view(frame, cfg)
    np.testing.assert_array_equal(pixels, model_input(frame, None, cfg))


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mm", [(0.1, 0.1), (0.14, 0.07)])
def test_classes_lie_where_the_pixels_lie(framing, shape, mm):
    """A bright shape on black and its map of classes give the same square, but for the pixels of its edge."""
    shown = ellipse(shape)
    frame = Frame(shown * np.uint8(255), mm, "", (0, 0), shape)
    pixels, view = segmentation_view(frame, config(framing))
    square = view.square(shown)
    differ = ((pixels > 127) != (square == 1)) & (square != OUTSIDE)
    assert differ.mean() < 0.01
    moments = [np.argwhere(m).mean(axis=0) for m in (pixels > 127, square == 1)]
    np.testing.assert_allclose(moments[0], moments[1], atol=0.3)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mm", [(0.1, 0.1), (0.14, 0.07)])
def test_there_and_back_is_the_same_shape(framing, shape, mm):
    shown = ellipse(shape)
    _, view = segmentation_view(frame_of(shape, mm), config(framing, size=96))
    back = view.on_frame(one_hot(view.square(shown))).argmax(axis=0).astype(np.uint8)
    reached = np.zeros(shape, dtype=bool)
    reached[
        max(0, round(view.rows[0])) : round(view.rows[1]), max(0, round(view.columns[0])) : round(view.columns[1])
    ] = True
    both = (back == 1) & (shown == 1)
    dice = 2 * both.sum() / ((back == 1).sum() + (shown[reached] == 1).sum())
    assert dice > 0.95
    np.testing.assert_allclose(
        np.argwhere(back == 1).mean(axis=0), np.argwhere((shown == 1) & reached).mean(axis=0), atol=max(shape) / 96
    )


def test_a_square_of_the_frames_own_pixels_changes_nothing():
    classes = np.random.default_rng(3).integers(0, 5, (64, 64)).astype(np.uint8)
    _, view = segmentation_view(frame_of((64, 64)), config(window_mm=6.4))
    np.testing.assert_array_equal(view.square(classes), classes)
    np.testing.assert_array_equal(view.on_frame(one_hot(classes, 5)).argmax(axis=0), classes)
    assert view.inside().all()


def test_millimetres_are_exact():
    """A muscle's width in the square, times the square's mm, is its width on the frame."""
    frame = frame_of((200, 320), (0.2, 0.1))
    classes = np.zeros((200, 320), dtype=np.uint8)
    classes[50:150, 100:220] = 1  # 20 mm high, 12 mm wide
    for framing in FRAMINGS:
        _, view = segmentation_view(frame, config(framing, size=320, window_mm=40.0))
        rows, columns = (np.flatnonzero((view.square(classes) == 1).any(axis=a)).size for a in (1, 0))
        assert rows * view.mm_per_pixel[0] == pytest.approx(20, abs=view.mm_per_pixel[0])
        assert columns * view.mm_per_pixel[1] == pytest.approx(12, abs=view.mm_per_pixel[1])
    _, view = segmentation_view(frame, config("physical", size=320, window_mm=40.0))
    assert view.mm_per_pixel == pytest.approx((0.125, 0.125), rel=1e-12)  # 40 mm over 320 pixels, both ways
    assert view.rows == (0.0, 200.0)
    assert view.columns == (-40.0, 360.0)


def test_the_window_is_as_wide_as_it_says_where_pixels_do_not_divide_it():
    _, view = segmentation_view(frame_of((300, 400), (0.13, 0.07)), config(window_mm=30.0, size=64))
    assert view.rows[1] - view.rows[0] == round(30 / 0.13)
    assert view.mm_per_pixel[0] == pytest.approx(round(30 / 0.13) * 0.13 / 64)
    assert view.mm_per_pixel[1] == pytest.approx(round(30 / 0.07) * 0.07 / 64)


def test_beyond_the_frame_nothing_is_known():
    """A frame of 10 x 20 mm in a window of 30: a third and two thirds of the square."""
    frame = frame_of((100, 200))
    pixels, view = segmentation_view(frame, config(window_mm=30.0, size=60))
    square = view.square(np.ones((100, 200), dtype=np.uint8))
    assert set(np.unique(square)) == {1, OUTSIDE}
    np.testing.assert_array_equal(square == 1, view.inside())
    assert view.reach() == (slice(0, 100), slice(0, 200))
    assert view.inside().any(axis=1).sum() == 20
    assert view.inside().any(axis=0).sum() == 40
    assert not pixels[~view.inside()].any()


def test_where_the_square_does_not_reach_there_is_background():
    _, view = segmentation_view(frame_of((400, 400)), config(window_mm=20.0, size=64))
    found = view.on_frame(np.stack([np.zeros((64, 64)), np.ones((64, 64))]).astype(np.float32))
    assert view.reach() == (slice(100, 300), slice(100, 300))
    assert found[1, 100:300, 100:300].min() == 1
    assert found[1].sum() == 200 * 200
    np.testing.assert_array_equal(found.sum(axis=0), 1)


@pytest.mark.parametrize("shape", [(37, 90), (250, 300)])
def test_probabilities_stay_probabilities(shape):
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(4, 64, 64)).astype(np.float32)
    given = np.exp(logits) / np.exp(logits).sum(axis=0)
    _, view = segmentation_view(frame_of(shape), config())
    found = view.on_frame(given)
    assert found.dtype == np.float32
    assert found.shape == (4, *shape)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert found.min() >= 0


def test_what_lies_beyond_the_frame_does_not_reach_into_it():
    """In the letter-box's black bars a network says background; the muscle at the frame's edge keeps its own."""
    _, view = segmentation_view(frame_of((50, 100)), config("letterbox", size=64))
    square = np.where(view.inside(), 1, OUTSIDE).astype(np.uint8)
    found = view.on_frame(one_hot(square))
    assert found[1].min() == 1


def test_a_view_is_told_in_numbers():
    for mm in ((0.1, 0.2), None):
        _, view = segmentation_view(frame_of((50, 100), mm), config("letterbox"))
        assert View.of_numbers(view.numbers(), 64) == view


def test_without_spacing_there_is_no_physical_window():
    with pytest.raises(MissingSpacing, match=r"rf\.png: unknown mm per pixel"):
        segmentation_view(frame_of((50, 100), None), config(), "rf.png")
    _, view = segmentation_view(frame_of((50, 100), None), config("letterbox"))
    assert view.mm_per_pixel is None


def test_maps_of_another_shape_are_refused():
    _, view = segmentation_view(frame_of((50, 100)), config())
    with pytest.raises(ValueError, match="on a frame of"):
        view.square(np.zeros((100, 50), dtype=np.uint8))
    with pytest.raises(ValueError, match="a square of 64 pixels"):
        view.on_frame(np.zeros((2, 32, 32), dtype=np.float32))
