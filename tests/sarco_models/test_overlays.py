"""An overlay shows what was found where it was found, and whether it was accepted, and says nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sarco_models.frames import Frame
from sarco_models.mask_files import colour_of
from sarco_models.overlays import Drawn, overlay

SHAPE = (100, 200)


def frame(mm: tuple[float, float] | None = (0.2, 0.2), shape: tuple[int, int] = SHAPE) -> Frame:
    return Frame(np.full(shape, 60, np.uint8), mm, "", (0, 0), shape)


def muscle(*, accepted: bool = True, line: bool = True, number: int = 1) -> Drawn:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[30:70, 40:160] = True
    ends = ((29.5, 99.5), (69.5, 99.5)) if line else None
    return Drawn("rectus femoris", number, mask, ends, "thickness 8.0 mm", accepted)


def painted(picture: Image.Image, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    pixels = np.asarray(picture)[: SHAPE[0] * 640 // SHAPE[1]]
    same: NDArray[np.bool_] = (np.abs(pixels.astype(int) - colour) < 12).all(axis=2)
    return same


def test_the_outline_lies_on_the_edge_of_the_mask() -> None:
    """640 / 200 = 3.2 pixels of the picture for each of the frame."""
    rows, columns = np.nonzero(painted(overlay(frame(), [muscle(line=False)]), colour_of(1)))
    assert rows.min() == pytest.approx(30 * 3.2, abs=2.5)
    assert rows.max() == pytest.approx(70 * 3.2, abs=2.5)
    assert columns.min() == pytest.approx(40 * 3.2, abs=2.5)
    assert columns.max() == pytest.approx(160 * 3.2, abs=2.5)


def test_the_thickness_line_is_drawn_between_its_ends() -> None:
    with_line, without = (painted(overlay(frame(), [muscle(line=line)]), colour_of(1)) for line in (True, False))
    rows, columns = np.nonzero(with_line & ~without)
    assert columns.mean() == pytest.approx(100 * 3.2, abs=1)
    assert rows.max() - rows.min() == pytest.approx(40 * 3.2, abs=8)


def test_what_was_not_accepted_has_gaps_in_its_outline() -> None:
    whole, dashed = (
        painted(overlay(frame(), [muscle(accepted=a, line=False)]), colour_of(1)).sum() for a in (True, False)
    )
    assert 0.3 < dashed / whole < 0.7


@pytest.mark.parametrize("mm", [(0.2, 0.2), (0.1, 0.3)])
def test_pixels_are_as_high_as_wide(mm: tuple[float, float]) -> None:
    picture = overlay(frame(mm), [])
    high = 640 * (SHAPE[0] * mm[0]) / (SHAPE[1] * mm[1])
    white = np.flatnonzero((np.asarray(picture)[:, 5] == 255).all(axis=1))
    assert white[0] == pytest.approx(high, abs=1)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    """10 mm: a quarter of 40 mm."""
    pixels = np.asarray(overlay(frame(), []))
    bar = pixels[320 - 14, :, 0] == 255
    assert bar.sum() == pytest.approx(10 / 0.2 * 3.2, abs=2)
    assert not (np.asarray(overlay(frame(None), []))[:319] == 255).any(), "without spacing there is none"


def test_small_frames_are_enlarged_and_panoramas_reduced() -> None:
    assert overlay(frame(shape=(50, 100)), []).width == 640
    assert overlay(frame(shape=(400, 2000)), []).width == 1280
    assert overlay(frame(shape=(400, 800)), []).width == 800


def test_a_synthetic_model_is_marked() -> None:
    red = np.array([179, 38, 30])
    for synthetic in (True, False):
        picture = np.asarray(overlay(frame(), [muscle()], synthetic=synthetic))
        assert (picture[2, 2] == red).all() == synthetic


def test_the_caption_grows_with_what_there_is_to_say() -> None:
    long = Drawn("biceps", 2, muscle().mask, None, "reason " * 60, accepted=False)
    heights = [overlay(frame(), m).height for m in ([], [muscle()], [muscle(), long])]
    assert heights[0] < heights[1] < heights[2]
    assert overlay(frame(), [muscle()], note="Nothing was measured.").height > heights[1]
