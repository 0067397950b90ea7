"""Pictures without text that a search for text may take for some, and what an archive does to any picture.

Callipers, rulers, colour, shadows; tissue that is rougher than a phantom's. All chance comes from ``rng``.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from simulation.anatomy import MUSCLES
from simulation.devices import DEVICES
from simulation.lettering import Line, Written, around
from simulation.phantom import random_subject, render

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rng = np.random.Generator

WIDTHS = (224, 320, 480, 640, 800)


def tissue(rng: Rng, width_px: int | None = None) -> Pixels:
    """A phantom of any muscle on any machine, (height, width); three in ten fibrotic, with strong fasciae."""
    subject = random_subject(rng, str(rng.choice(list(MUSCLES))))
    if rng.random() < 0.3:
        subject = replace(subject, fascia=1.0, infiltration=float(rng.uniform(0, 1)))
    width = width_px or int(rng.choice(WIDTHS))
    return render(subject, rng, device=str(rng.choice(list(DEVICES))), width_px=width).pixels


def exported(rng: Rng, pixels: Pixels, lines: tuple[Line, ...] = ()) -> Written:
    """As an archive hands it on: half of the pictures resampled by .7 to 1.5, half as JPEG of quality 75 to 95."""
    if rng.random() < 0.5:
        scale = float(rng.uniform(0.7, 1.5))
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        how = int(rng.choice([cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC, cv2.INTER_LINEAR]))
        lines = tuple(_resampled(line, pixels.shape, size) for line in lines)
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=how), dtype=np.uint8)
    if rng.random() < 0.5:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 96))])
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)
    return Written(pixels, lines)


def _resampled(line: Line, shape: tuple[int, ...], size: tuple[int, int]) -> Line:
    full = np.zeros(shape, np.uint8)
    x0, y0, x1, y1 = line.box
    full[y0:y1, x0:x1] = line.ink * np.uint8(255)
    ink = cv2.resize(full, size, interpolation=cv2.INTER_LINEAR if size[0] > shape[1] else cv2.INTER_AREA) > 90
    box = around(ink)
    return replace(line, cap_px=line.cap_px * size[0] / shape[1], box=box, ink=ink[box[1] : box[3], box[0] : box[2]])


# ---- graphics --------------------------------------------------------------------------------------------------------


def callipers(rng: Rng, pixels: Pixels) -> Pixels:
    """One to three measurements: crosses or rings at both ends, most with a dotted line between them; no numbers."""
    drawn, level, thick = pixels.copy(), int(rng.integers(int(rng.choice([150, 255])), 256)), int(rng.integers(1, 3))
    height, width = pixels.shape
    for _ in range(int(rng.integers(1, 4))):
        ends = rng.integers(8, [width - 8, height - 8], (2, 2))
        if rng.random() < 0.5:
            axis = int(rng.integers(2))
            ends[1, axis] = ends[0, axis]
        kind, radius = int(rng.integers(3)), int(rng.integers(3, 9))
        for x, y in ends.tolist():
            if kind == 2:
                cv2.circle(drawn, (x, y), radius, level, thick, cv2.LINE_AA)
            else:
                marker = (cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS)[kind]
                cv2.drawMarker(drawn, (x, y), level, marker, 2 * radius, thick)
        if rng.random() < 0.7:
            _dots(drawn, ends.astype(np.float64), float(rng.uniform(4, 12)), thick, level)
    return drawn


def _dots(drawn: Pixels, ends: NDArray[np.float64], step: float, thick: int, level: int) -> None:
    count = int(np.hypot(*(ends[1] - ends[0])) / step) + 1
    for x, y in np.rint(np.linspace(ends[0], ends[1], count)).astype(int):
        drawn[y : y + thick, x : x + thick] = level


def ruler(rng: Rng, pixels: Pixels) -> Pixels:
    """Ticks along one side of the picture, every fifth one twice as long."""
    drawn, level, length, step = (
        pixels.copy(), int(rng.integers(150, 256)), int(rng.integers(2, 8)), float(rng.uniform(5, 30))
    )  # fmt: skip
    side = drawn if rng.random() < 0.5 else drawn.T
    side = side if rng.random() < 0.5 else side[:, ::-1]
    for k in range(int(len(side) / step)):
        side[int(k * step), : length if k % 5 else 2 * length] = level
    return drawn


def doppler(rng: Rng, pixels: Pixels) -> Pixels:
    """Patches of flow as grey shows them, mottled, with hard edges; half of them with the frame of the colour box."""
    height, width = pixels.shape
    patch = _noise(rng, pixels.shape, float(rng.uniform(0.02, 0.06)) * width)
    mottle = _noise(rng, pixels.shape, float(rng.uniform(1.5, 6)))
    block = int(rng.integers(1, 4))
    rows, columns = np.arange(height) // block * block, np.arange(width) // block * block
    flow = (patch > float(rng.uniform(1.0, 2.0)))[np.ix_(rows, columns)]
    level = np.clip(float(rng.uniform(40, 150)) + float(rng.uniform(8, 35)) * mottle, 0, 255)
    drawn = np.where(flow, level, pixels).astype(np.uint8)
    if rng.random() < 0.5:
        start, size = rng.uniform(0, 0.5, 2), rng.uniform(0.25, 0.5, 2)
        corners = (np.array([start, start + size]) * [width, height]).astype(int).tolist()
        cv2.rectangle(drawn, corners[0], corners[1], 226, 1)
    return drawn


def shadow(rng: Rng, pixels: Pixels) -> Pixels:
    """One to three dark stripes along the beam, from some depth on."""
    height, width = pixels.shape
    light = np.ones(pixels.shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        away = np.abs(np.arange(width) - rng.uniform(0, width)) - rng.uniform(0.01, 0.1) * width
        depth = int(rng.uniform(0, 0.7) * height)
        light[depth:] *= 1 - rng.uniform(0.5, 1) / (1 + np.exp(np.clip(away / rng.uniform(1, 10), -50, 50)))
    return np.asarray(pixels * light, dtype=np.uint8)


# ---- rough tissue ----------------------------------------------------------------------------------------------------


def rough(rng: Rng) -> Pixels:
    """Tissue harder than any phantom: finer speckle, hard short streaks, turned or bent as a panorama, sharpened."""
    width = int(rng.choice(WIDTHS))
    pixels = tissue(rng, 800 if width <= 480 and rng.random() < 0.5 else width)
    if pixels.shape[1] > width:
        size = (width, round(len(pixels) * width / pixels.shape[1]))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if rng.random() < 0.6:
        pixels = _streaked(rng, pixels)
    if rng.random() < 0.5:
        pixels = _bent(rng, pixels)
    return _sharpened(rng, pixels) if rng.random() < 0.5 else pixels


def _streaked(rng: Rng, pixels: Pixels) -> Pixels:
    """Up to 260 short bright lines, along one direction or all, speckled."""
    height, width = pixels.shape
    canvas = np.zeros(pixels.shape, np.uint8)
    direction = float(rng.uniform(-np.pi / 2, np.pi / 2) if rng.random() < 0.5 else rng.normal(0, 0.25))
    scatter, length = float(rng.choice([0.15, 0.4, 1.2])), float(rng.uniform(0.01, 0.08)) * width
    for _ in range(int(rng.integers(10, 260))):
        angle, half = direction + rng.normal(0, scatter), length * rng.lognormal(0, 0.5) / 2
        middle, reach = rng.uniform(0, [width, height]), half * np.array([np.cos(angle), np.sin(angle)])
        start, end = (np.rint(8 * (middle + side * reach)).astype(int).tolist() for side in (-1, 1))
        cv2.line(canvas, start, end, int(rng.integers(60, 256)), int(rng.integers(1, 4)), cv2.LINE_AA, 3)
    lines = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), float(rng.uniform(0.6, 1.6)))
    speckle = np.clip(1 + 0.5 * _noise(rng, pixels.shape, float(rng.uniform(0.8, 2))), 0, 2)
    lit = np.clip(pixels + float(rng.uniform(0.3, 1.1)) * lines * speckle, 0, 255)
    return np.asarray(lit, dtype=np.uint8)


def _bent(rng: Rng, pixels: Pixels) -> Pixels:
    """Turned by up to 70 degrees, or laid around a circle as a panorama; black outside."""
    height, width = pixels.shape
    if rng.random() < 0.5:
        turn = cv2.getRotationMatrix2D(
            (width / 2, height / 2), float(rng.uniform(-70, 70)), float(rng.uniform(0.9, 1.4))
        )
        return np.asarray(cv2.warpAffine(pixels, turn, (width, height)), dtype=np.uint8)
    radius = float(rng.uniform(0.6, 2)) * width
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = radius + np.float32(rng.uniform(0, 0.2) * height) - y, x - np.float32(width / 2)
    along, depth = np.arctan2(x, y) * radius + width / 2, radius - np.hypot(x, y)
    bent = cv2.remap(pixels, along.astype(np.float32), depth.astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(bent, dtype=np.uint8)


def _sharpened(rng: Rng, pixels: Pixels) -> Pixels:
    """Unsharp mask, then gain and gamma."""
    grey = pixels.astype(np.float32)
    grey += float(rng.uniform(0.3, 2)) * (grey - cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.7, 2))))
    level = np.clip(grey * np.float32(rng.uniform(0.8, 1.6)), 0, 255) / 255
    return np.asarray(255 * level ** float(rng.uniform(0.7, 1.5)), dtype=np.uint8)


def _noise(rng: Rng, shape: tuple[int, ...], sigma: float) -> Floats:
    """Smooth noise of mean about 0 and standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), sigma)
    return np.asarray(noise / noise.std(), dtype=np.float32)
