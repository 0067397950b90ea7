"""How much of a picture is coloured, as by colour Doppler or elastography; a tinted grey map is not a colour."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLEAR_CHROMA = 20.0
"""Distance in the plane of Cb and Cr, in levels, that no compression noise reaches in the mean of 4 x 4 pixels."""

_REDUCTION = 4  # a vessel is wider; chroma is stored at half the resolution in most JPEG files
_BINS = 16
_MIN_PIXELS = 20  # of a luma bin, for its tint to be believed
_MAX_STEP = 12.0  # change of a grey map's tint from one bin to the next; the strongest sepia has 9


def colour_share(
    pixels: NDArray[np.uint8], space: Literal["RGB", "YCbCr"], inside: NDArray[np.bool_] | None = None
) -> float:
    """Share of a picture, 0 to 1, whose colour is clearly not that of its grey map.

    A tinted map (sepia, blue) gives each grey level one colour, and neighbouring levels nearly the same one. Colour
    Doppler gives pixels of equal luma different colours.

    Args:
        pixels: (height, width, 3).
        space: what the three channels are.
        inside: (height, width) pixels that count; None = all.
    """
    height, width = pixels.shape[:2]
    small = (max(1, width // _REDUCTION), max(1, height // _REDUCTION))
    reduced = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if space == "RGB":
        reduced = np.asarray(Image.fromarray(reduced).convert("YCbCr"))
    counted = np.ones(reduced.shape[:2], dtype=np.bool_)
    if inside is not None:
        counted = cv2.resize(inside.astype(np.float32), small, interpolation=cv2.INTER_AREA) == 1
    luma = reduced[counted, 0]
    chroma = reduced[counted, 1:].astype(np.float32) - 128
    if np.abs(chroma).max(initial=0) <= CLEAR_CHROMA / 3:
        return 0.0  # any difference of two is below the threshold
    distance = np.linalg.norm(chroma - _tint(luma, chroma)[luma], axis=1)
    return float((distance > CLEAR_CHROMA).mean())


def _tint(luma: NDArray[np.uint8], chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """(256, 2) Cb and Cr of the grey map at each luma.

    Of the pixels of one luma the least coloured are tissue. Where colour covers all of them, the tint of the fullest
    bin leads: a map's tint changes slowly.
    """
    width = 256 // _BINS
    bins = luma // width
    counts = np.bincount(bins, minlength=_BINS)
    fullest = int(counts.argmax())
    tint = np.zeros((_BINS, 2), dtype=np.float32)
    tint[fullest] = _least_coloured(chroma[bins == fullest])
    for step, last in ((1, _BINS), (-1, -1)):
        for k in range(fullest + step, last, step):
            known = tint[k - step]
            seen = _least_coloured(chroma[bins == k]) if counts[k] >= _MIN_PIXELS else known
            tint[k] = known + np.clip(seen - known, -_MAX_STEP, _MAX_STEP)
    centres = (np.arange(_BINS) + 0.5) * width
    levels = np.arange(256)
    return np.stack([np.interp(levels, centres, tint[:, k]) for k in (0, 1)], axis=1).astype(np.float32)


def _least_coloured(chroma: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of the tenth with the least saturation."""
    saturation = np.abs(chroma).sum(axis=1)
    least = chroma[saturation <= np.quantile(saturation, 0.1)]
    return np.asarray(np.median(least, axis=0), dtype=np.float32)
