"""Two muscles share a border where they overlap by a thin band of little area; everything else contradicts itself."""

import numpy as np
import pytest

from sarco_models.frames import Frame
from sarco_models.shared_pixels import overlapping

SHAPE = (80, 100)


@pytest.mark.parametrize(
    ("mm", "wide", "smaller", "border"),
    [
        (None, 3, 1000, True),
        (None, 5, 1000, False),
        (0.2, 5, 1000, True),  # a millimetre is five pixels
        (0.2, 7, 1000, False),
        (0.5, 3, 1000, True),  # three pixels are forgiven, however large
        (0.2, 5, 60, False),  # of a muscle that hardly has more
    ],
)
def test_a_border_is_thin_in_millimetres_and_in_pixels_and_small(
    mm: float | None, wide: int, smaller: int, border: bool
) -> None:
    both = np.zeros(SHAPE, dtype=bool)
    both[10 : 10 + wide, 20:36] = True
    frame = Frame(np.zeros(SHAPE, np.uint8), (mm, mm) if mm else None, "", (0, 0), SHAPE)
    seen, expected, thin = overlapping(("biceps", "triceps"), both, smaller, frame)
    assert thin == border
    assert seen == f"biceps and triceps overlap by {wide * 16} pixels, at most {wide} wide"
    assert expected.endswith("10% of the smaller one")
