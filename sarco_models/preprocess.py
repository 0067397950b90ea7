"""From a frame and its mask to the square that the image network sees, and the paper's random changes of it."""

import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sarco_models.config import AugmentationConfig, ImageConfig
from sarco_models.errors import Finding, MissingSpacing
from sarco_models.images import Frame
from sarco_models.segmentation import OUTSIDE

Pixels = NDArray[np.uint8]
Augment = Callable[[Pixels, np.random.Generator], Pixels]
JointAugment = Callable[[Pixels, Pixels, np.random.Generator], tuple[Pixels, Pixels]]

PREPROCESSING_VERSION = 2
"""Raise it when the same frame would give other pixels, so that no stale cache is read."""


PLAUSIBLE_MM_PER_PIXEL = (0.005, 2.0)
"""Beyond these no still of muscle is stored: the spacing was given in another unit."""


def model_input(frame: Frame, mask: NDArray[np.bool_] | None, cfg: ImageConfig, file: str = "") -> Pixels:
    """The network's view of one frame.

    Args:
        frame: the 2-D tissue region.
        mask: (height, width) of the frame, True inside the muscle; None where the study uses none, or none was found.
        cfg: framing and size.
        file: name of the image, for the error's text.

    Returns:
        (size, size) grey values 0..255; divide by 255 for the network's [0, 1].

    Raises:
        MissingSpacing: physical framing of a frame whose mm per pixel are unknown, or known and impossible.
    """
    _check_spacing(frame, file)
    pixels = frame.pixels
    if cfg.framing != "paper" and mask is None:
        mask = np.ones(pixels.shape, dtype=np.bool_)
    if cfg.roi != "none" and mask is not None:
        pixels = np.where(_grown(mask, frame, cfg), pixels, np.uint8(0))
    if cfg.framing == "physical":
        return _physical_window(pixels, mask, frame, cfg, file)  # type: ignore[arg-type]
    if cfg.framing == "letterbox":
        return _letterboxed(pixels, mask, cfg)  # type: ignore[arg-type]
    return _resized(pixels, (cfg.size, cfg.size))


def _check_spacing(frame: Frame, file: str) -> None:
    low, high = PLAUSIBLE_MM_PER_PIXEL
    if frame.mm_per_pixel and not all(low <= mm <= high for mm in frame.mm_per_pixel):
        row, column = frame.mm_per_pixel
        seen, expected = f"{row:g} x {column:g} mm per pixel", f"{low:g} to {high:g} mm"
        remedy = "give the spacing in millimetres in calibration.csv, or export the frame again"
        raise MissingSpacing([Finding("error", "spacing", file, seen, expected, remedy, field="mm_per_pixel")])


def _grown(mask: NDArray[np.bool_], frame: Frame, cfg: ImageConfig) -> NDArray[np.bool_]:
    """The mask with its margin; in millimetres where they are known, else a fraction of the muscle's box."""
    if frame.mm_per_pixel:
        reach = [max(1, round(cfg.margin_mm / mm)) for mm in frame.mm_per_pixel]
    else:
        rows, columns = _box(mask)
        reach = [max(1, round(cfg.margin_fraction * (side.stop - side.start))) for side in (rows, columns)]
    if cfg.margin_mm == 0:
        return mask
    rows, columns = (slice(max(side.start - r, 0), side.stop + r) for side, r in zip(_box(mask), reach, strict=True))
    grown = np.zeros_like(mask)
    grown[rows, columns] = dilated(mask[rows, columns], (reach[0], reach[1]))  # beyond, it could reach nothing
    return grown


def dilated(mask: NDArray[np.bool_], reach: tuple[int, int]) -> NDArray[np.bool_]:
    """``cv2.dilate`` with an ellipse of ``reach`` (rows, columns), to the pixel, at a fifth of its cost.

    An ellipse is a pile of horizontal bars, so each run of pixels in a row of the mask becomes a longer run in each of
    the rows around it; where runs begin and end is counted, and the sum along a row says where it is covered.
    """
    height, width = mask.shape
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach[1] + 1, 2 * reach[0] + 1))
    longer = (ellipse.sum(axis=1, dtype=np.int64)[:, None] - 1) // 2
    edges = np.flatnonzero(np.diff(np.pad(mask.view(np.int8), ((0, 0), (1, 1))).ravel()))  # begins and ends by turns
    row, begin = np.divmod(edges[::2], width + 2)
    end = edges[1::2] - row * (width + 2)
    reached = row + np.arange(-reach[0], reach[0] + 1)[:, None]
    seen, start = (reached >= 0) & (reached < height), reached * (width + 2)
    changes = np.zeros(height * (width + 2), dtype=np.int32)
    np.add.at(changes, (start + np.maximum(begin - longer, 0))[seen], 1)
    np.add.at(changes, (start + np.minimum(end + longer, width))[seen], -1)
    covered: NDArray[np.bool_] = (np.cumsum(changes, dtype=np.int32) > 0).reshape(height, -1)[:, :width]
    return covered


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _physical_window(pixels: Pixels, mask: NDArray[np.bool_], frame: Frame, cfg: ImageConfig, file: str) -> Pixels:
    """A window of ``window_mm`` around the centre of the muscle's box; black beyond the frame."""
    if frame.mm_per_pixel is None:
        remedy = "add a row to calibration.csv, or use another framing in the study"
        raise MissingSpacing([Finding("error", "spacing", file, "unknown mm per pixel", "a known spacing", remedy)])
    rows, columns = _box(mask)
    height, width = (round(cfg.window_mm / mm) for mm in frame.mm_per_pixel)
    top = (rows.start + rows.stop - height) // 2
    left = (columns.start + columns.stop - width) // 2
    window = np.zeros((height, width), dtype=np.uint8)
    r0, c0 = max(top, 0), max(left, 0)
    r1, c1 = min(top + height, pixels.shape[0]), min(left + width, pixels.shape[1])
    window[r0 - top : r1 - top, c0 - left : c1 - left] = pixels[r0:r1, c0:c1]
    return _resized(window, (cfg.size, cfg.size))


def _letterboxed(pixels: Pixels, mask: NDArray[np.bool_], cfg: ImageConfig) -> Pixels:
    """The muscle's box with a margin, aspect kept, centred on black."""
    rows, columns = _box(mask)
    margin = round(cfg.margin_fraction * max(rows.stop - rows.start, columns.stop - columns.start))
    crop = pixels[
        max(rows.start - margin, 0) : rows.stop + margin, max(columns.start - margin, 0) : columns.stop + margin
    ]
    scale = cfg.size / max(crop.shape)
    height, width = (max(1, min(cfg.size, round(side * scale))) for side in crop.shape)
    result = np.zeros((cfg.size, cfg.size), dtype=np.uint8)
    top, left = (cfg.size - height) // 2, (cfg.size - width) // 2
    result[top : top + height, left : left + width] = _resized(np.ascontiguousarray(crop), (height, width))
    return result


def _resized(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    """Area averaging when shrinking, so that speckle does not alias; linear when growing."""
    shrinks = pixels.shape[0] >= shape[0] and pixels.shape[1] >= shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (shape[1], shape[0]), interpolation=method), dtype=np.uint8)


def augmentation(cfg: AugmentationConfig) -> Augment:
    """The paper's random changes: flips, shift, scale, rotation, brightness and contrast (Chen et al. 2025, P4).

    Beyond the paper, where a study asks for it: another grey map, another gain, another probe.

    Returns:
        A function of an image and a generator: the same state of the generator gives the same image.
    """
    pipeline = _pipeline(cfg)

    def augment(pixels: Pixels, rng: np.random.Generator) -> Pixels:
        pipeline.set_random_seed(int(rng.integers(2**31)))
        return another_device(np.asarray(pipeline(image=pixels)["image"], dtype=np.uint8), cfg, rng)

    return augment


def joint_augmentation(cfg: AugmentationConfig) -> JointAugment:
    """:func:`augmentation` of an image and its map of classes together.

    Returns:
        A function of an image, its classes and a generator. Classes move with their pixels, nearest and never mixed;
        what is shifted in from beyond the image is OUTSIDE.
    """
    pipeline = _pipeline(cfg)

    def augment(pixels: Pixels, classes: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        pipeline.set_random_seed(int(rng.integers(2**31)))
        changed = pipeline(image=pixels, mask=classes)
        shown = another_device(np.asarray(changed["image"], dtype=np.uint8), cfg, rng)
        return shown, np.asarray(changed["mask"], dtype=np.uint8)

    return augment


def another_device(pixels: Pixels, cfg: AugmentationConfig, rng: np.random.Generator) -> Pixels:
    """The image as another scanner might show it: its grey map, its gain, the size of its speckle.

    Where a study asks for nothing of it, the generator is left as it is.
    """
    if cfg.gamma or cfg.gain:
        power, factor = (np.exp(rng.uniform(-1, 1) * np.log1p(limit)) for limit in (cfg.gamma, cfg.gain))
        levels = 255 * (np.arange(256) / 255) ** power * factor
        pixels = np.rint(levels).clip(0, 255).astype(np.uint8)[pixels]
    sigma = rng.uniform(0, cfg.blur_pixels) if cfg.blur_pixels else 0.0
    if sigma > 0.1:  # less is no change of a pixel
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), dtype=np.uint8)
    return pixels


def _pipeline(cfg: AugmentationConfig) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # the library asks the internet for its newest version
    import albumentations as A  # two seconds with the torch it brings: workers that only look at images do without

    return A.Compose(
        [
            A.HorizontalFlip(p=cfg.horizontal_flip),
            A.VerticalFlip(p=cfg.vertical_flip),
            A.Affine(
                translate_percent=(-cfg.shift, cfg.shift),
                scale=(1 - cfg.scale, 1 + cfg.scale),
                keep_ratio=True,  # thickness against width is what the eye goes by
                rotate=(-cfg.rotate_degrees, cfg.rotate_degrees),
                fill_mask=OUTSIDE,
                p=float(cfg.shift > 0 or cfg.scale > 0 or cfg.rotate_degrees > 0),
            ),
            A.RandomBrightnessContrast(
                brightness_limit=cfg.brightness,
                contrast_limit=cfg.contrast,
                p=float(cfg.brightness > 0 or cfg.contrast > 0),
            ),
        ]
    )
