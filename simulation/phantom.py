"""Transverse B-mode pictures of a muscle, drawn as an ultrasound machine makes them, with mask and measures for free.

``anatomy`` says where the tissues lie, ``echoes`` what the machine receives from them; here echoes become square
pixels. All chance comes from ``rng``: equal generators give equal pixels.

    image = render(random_subject(rng), rng, device="samsung_r10")
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulation.anatomy import MUSCLES, Curve, Pair, Scene, Subject, Truth
from simulation.anatomy import random_subject as random_subject
from simulation.devices import DEPTH_STEP_MM, Device, machine_of
from simulation.echoes import Picture
from simulation.scenes import build_scene
from simulation.speckle import BeamGrid, Field, speckle_bank
from simulation.two_muscles import build_pair

MAX_SAMPLE_MM = 0.12  # coarser sampling along the beam loses the fasciae
GREY_EXPONENT = 1.55  # of the common grey map; devices multiply it by their gamma


@dataclass(frozen=True)
class Preview:
    """What is known of a picture before it is drawn; ``second`` is the truth of a pair's right muscle."""

    mm_per_pixel: float
    height_px: int
    depth_mm: int
    truth: Truth
    second: Truth | None = None


@dataclass(frozen=True)
class Image:
    """One picture with its truth.

    Attributes:
        pixels: (height, width) uint8.
        mask: (height, width) bool, the muscle; of a pair the left one.
        mm_per_pixel: of the square pixels.
        device: key of the device.
        second: truth of a pair's right muscle.
        second_mask: (height, width) bool, a pair's right muscle.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    mm_per_pixel: float
    device: str
    depth_mm: int
    truth: Truth
    second: Truth | None = None
    second_mask: NDArray[np.bool_] | None = None

    @property
    def preview(self) -> Preview:
        """The same picture without its pixels."""
        return Preview(self.mm_per_pixel, len(self.pixels), self.depth_mm, self.truth, self.second)

    @property
    def echo_intensity(self) -> float:
        """Mean grey level inside the muscle, 0 to 255."""
        return float(self.pixels[self.mask].mean())


@dataclass(frozen=True)
class _Geometry:
    """From beam coordinates to display: ``oversample`` samples, and ``merge`` columns, become one pixel."""

    grid: BeamGrid
    mm_per_pixel: float
    width_px: int
    oversample: int
    merge: int
    x_mm: Curve
    column_mm: Curve
    left_line: NDArray[np.intp]
    right_share: Curve


def render(
    subject: Subject | Pair,
    rng: np.random.Generator,
    *,
    device: str | Device = "aixplorer",
    width_px: int = 224,
    depth_mm: int | None = None,
) -> Image:
    """Draw one view of a muscle; each call places the probe anew.

    Args:
        subject: the muscle, or two side by side.
        rng: all the chance of this picture; equal generators give equal pixels.
        device: a key of ``DEVICES``, or a machine.
        width_px: picture width; the height follows from the depth, with square pixels.
        depth_mm: depth setting; None chooses the smallest step that shows the bone, as an operator would.
    """
    machine = machine_of(device)
    geometry = _geometry(machine, width_px)
    scene, depth = _view(subject, rng, machine, geometry)
    depth = depth_mm or depth
    height = round(depth / geometry.mm_per_pixel)
    bank = speckle_bank(machine, geometry.grid)
    picture = Picture(machine, bank, rng, height * geometry.oversample)
    grey = _to_display(picture.echoes_as_grey(scene), geometry)
    pixels = _grey_map(machine).take((grey * np.float32(1023)).astype(np.int16))
    mask, second = _masks(scene, geometry, height)
    return Image(pixels, mask, geometry.mm_per_pixel, machine.key, depth, scene.truth, scene.second, second)


def preview(
    subject: Subject | Pair, rng: np.random.Generator, *, device: str | Device = "aixplorer", width_px: int = 224
) -> Preview:
    """Size and truth of the picture that ``render`` would draw from an equal generator, at a tenth of its cost."""
    machine = machine_of(device)
    geometry = _geometry(machine, width_px)
    scene, depth = _view(subject, rng, machine, geometry)
    return Preview(geometry.mm_per_pixel, round(depth / geometry.mm_per_pixel), depth, scene.truth, scene.second)


def _view(subject: Subject | Pair, rng: np.random.Generator, machine: Device, geometry: _Geometry) -> tuple[Scene, int]:
    """The scene, and the depth in mm that the operator sets for it."""
    if isinstance(subject, Pair):
        scene = build_pair(subject, geometry.x_mm, rng)
    else:
        scene = build_scene(subject, geometry.x_mm, rng)
    below = subject.deep_mm + 9 if MUSCLES[subject.muscle].bone_radius_mm else 14
    need = 2 + subject.fat_mm + subject.thickness_mm + below + 2 * float(rng.standard_normal())
    steps = round(need / DEPTH_STEP_MM)
    return scene, int(np.clip(steps * DEPTH_STEP_MM, *machine.depth_mm))


@lru_cache(maxsize=64)
def _geometry(machine: Device, width_px: int) -> _Geometry:
    mm_per_pixel = machine.width_mm / width_px
    oversample = max(1, int(np.ceil(mm_per_pixel / MAX_SAMPLE_MM)))
    num_lines = 128 if width_px < 320 else 192
    num_samples = (round(machine.depth_mm[1] / mm_per_pixel) + 1) * oversample
    grid = BeamGrid(num_lines, num_samples, machine.width_mm / num_lines, mm_per_pixel / oversample)
    merge = max(1, round(112 / width_px))
    columns = width_px * merge
    place = np.clip((np.arange(columns) + 0.5) * num_lines / columns - 0.5, 0, num_lines - 1)
    left = np.minimum(place.astype(np.intp), num_lines - 2)
    return _Geometry(
        grid=grid,
        mm_per_pixel=mm_per_pixel,
        width_px=width_px,
        oversample=oversample,
        merge=merge,
        x_mm=((np.arange(num_lines) + 0.5) * grid.line_mm - machine.width_mm / 2).astype(np.float32),
        column_mm=((np.arange(width_px) + 0.5) * mm_per_pixel - machine.width_mm / 2).astype(np.float32),
        left_line=left,
        right_share=(place - left).astype(np.float32),
    )


@lru_cache(maxsize=16)
def _grey_map(machine: Device) -> NDArray[np.uint8]:
    """Grey level of 1024 steps of compressed echo."""
    level = np.clip((np.linspace(0, 1, 1024) - machine.toe) / (1 - machine.toe), 0, 1)
    return np.asarray(level ** (GREY_EXPONENT * machine.gamma) * 255 + 0.5, dtype=np.uint8)


def _to_display(grey: Field, geometry: _Geometry) -> Field:
    """(samples, lines) to (height, width): between scan lines linear, then the mean over each pixel."""
    left = grey.take(geometry.left_line, axis=1)
    shown = grey.take(geometry.left_line + 1, axis=1)
    shown -= left
    shown *= geometry.right_share
    shown += left
    rows = shown[:: geometry.oversample].copy()
    for k in range(1, geometry.oversample):
        rows += shown[k :: geometry.oversample]
    rows *= np.float32(1 / geometry.oversample)
    if geometry.merge > 1:
        rows = rows.reshape(len(rows), geometry.width_px, geometry.merge).mean(axis=2)
    return rows


def _masks(scene: Scene, geometry: _Geometry, height: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Pixels whose centre lies inside the muscle; of a pair, those on each side of the border."""
    depth = ((np.arange(height) + 0.5) * geometry.mm_per_pixel)[:, None]
    upper = np.interp(geometry.column_mm, scene.x_mm, scene.upper)
    lower = np.interp(geometry.column_mm, scene.x_mm, scene.lower)
    mask: NDArray[np.bool_] = (depth > upper) & (depth < lower)
    if scene.second is None:
        return mask, None
    left = geometry.column_mm < scene.border_mm
    return mask & left, mask & ~left
