"""Colour Doppler is a colour; a sepia or blue map of grey levels, and the noise of a JPEG, are not."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sarco_models.colour import colour_share
from simulation.phantom import random_subject, render

Rgb = NDArray[np.uint8]


@pytest.fixture(scope="module")
def grey() -> NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    return render(random_subject(rng), rng, depth_mm=50).pixels


def tinted(grey: NDArray[np.uint8], white: tuple[int, int, int], gamma: tuple[float, float, float]) -> Rgb:
    """Each grey level shown in one colour: ``white`` where it is 255."""
    curve = [w * (grey / 255) ** g for w, g in zip(white, gamma, strict=True)]
    return np.rint(np.stack(curve, axis=-1)).astype(np.uint8)


def sepia(grey: NDArray[np.uint8]) -> Rgb:
    return tinted(grey, (255, 225, 170), (0.8, 1.0, 1.3))


def blue(grey: NDArray[np.uint8]) -> Rgb:
    """As a Siemens screen shows it: bluish in the middle, nearly white at the top."""
    return tinted(grey, (240, 245, 255), (1.15, 1.05, 0.85))


def neutral(grey: NDArray[np.uint8]) -> Rgb:
    return np.stack([grey] * 3, axis=-1)


MAPS = [neutral, sepia, blue]


def jpeg(rgb: Rgb, quality: int) -> Rgb:
    stream = BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


@pytest.mark.parametrize("shown", MAPS)
def test_a_map_of_grey_levels_is_no_colour(grey: NDArray[np.uint8], shown: Callable[..., Rgb]) -> None:
    for rgb in (shown(grey), jpeg(shown(grey), 92), jpeg(shown(grey), 60)):
        assert colour_share(rgb, "RGB") < 0.005


def flow(rgb: Rgb, share: float, rng: np.random.Generator) -> Rgb:
    """Red above and blue below in the middle columns, brighter where it is faster, over this share of the picture."""
    rgb = rgb.copy()
    height, width = rgb.shape[:2]
    side = np.sqrt(share)
    top, left = int(height * (1 - side) / 2), int(width * (1 - side) / 2)
    box = rgb[top : height - top, left : width - left]
    speed = rng.uniform(0.4, 1, box.shape[:2])[..., None]
    half = len(box) // 2
    box[:half] = (speed * (255, 60, 0))[:half]
    box[half:] = (speed * (0, 90, 255))[half:]
    return rgb


@pytest.mark.parametrize("shown", MAPS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.7])
def test_flow_is_measured_on_any_map(grey: NDArray[np.uint8], shown: Callable[..., Rgb], share: float) -> None:
    rgb = flow(shown(grey), share, np.random.default_rng(2))
    for stored in (rgb, jpeg(rgb, 85)):
        assert colour_share(stored, "RGB") == pytest.approx(share, rel=0.2, abs=0.01)


def test_both_colour_spaces_say_the_same(grey: NDArray[np.uint8]) -> None:
    rgb = flow(neutral(grey), 0.1, np.random.default_rng(2))
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    assert colour_share(ycc, "YCbCr") == pytest.approx(colour_share(rgb, "RGB"), abs=0.005)


def test_what_lies_outside_the_picture_does_not_count(grey: NDArray[np.uint8]) -> None:
    rgb = neutral(grey)
    rgb[:60] = (255, 255, 0)
    inside = np.ones(grey.shape, dtype=np.bool_)
    inside[:60] = False
    assert colour_share(rgb, "RGB") > 0.1
    assert colour_share(rgb, "RGB", inside) == 0


def test_a_few_pixels_are_enough_to_ask() -> None:
    assert colour_share(np.zeros((1, 3, 3), dtype=np.uint8), "RGB") == 0
