"""What an ultrasound machine makes of tissue too fine to resolve: speckle, and the textures of muscle and fat.

Filtering noise is slow, so each device filters a few fields once, larger than any picture. A picture then takes two of
them, shifted and mirrored at random, and mixes them as cos(t) A + sin(t) B: still exactly circular-Gaussian speckle
with the device's point-spread function, never the same twice, and no filter runs while drawing.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from simulation.devices import Device

Field = NDArray[np.float32]

NUM_FIELDS = 4
_WIDENINGS = (1.0, 1.25, 1.55, 1.95)  # lateral blur far from the focus, as multiples of that at the focus


@dataclass(frozen=True)
class BeamGrid:
    """Sampling of the picture before display: ``num_lines`` scan lines, ``num_samples`` echoes down each of them."""

    num_lines: int
    num_samples: int
    line_mm: float
    sample_mm: float


@dataclass(frozen=True)
class Textures:
    """Unit-free random fields (samples, lines), larger than a picture.

    ``nets`` are ridge networks in [0, 1], fine to coarse: connective tissue between muscle bundles. ``septa`` is the
    same between fat lobules. ``grain`` and ``clutter`` are smooth, of unit variance, with scales of about 1 and 4 mm.
    """

    nets: tuple[Field, Field, Field]
    septa: Field
    grain: Field
    clutter: Field


@dataclass(frozen=True)
class SpeckleBank:
    """Filtered noise of one device at one sampling.

    Attributes:
        fields: (NUM_FIELDS, 2, samples, lines + spare) real and imaginary echo, mean power 1 at every depth.
        textures: tissue textures on the same sampling, with spare samples and lines.
    """

    grid: BeamGrid
    fields: Field
    textures: Textures

    def power(self, rng: np.random.Generator, num_samples: int) -> Field:
        """One look at the speckle: (num_samples, lines) echo power, exponential with mean 1 (envelope: Rayleigh)."""
        first, second = rng.permutation(NUM_FIELDS)[:2]
        mix = np.float32(rng.uniform(0.5, 1.07))
        a, b = self._window(self.fields[first], rng), self._window(self.fields[second], rng)
        echo = np.cos(mix) * a[:, :num_samples] + np.sin(mix) * b[:, :num_samples]
        echo *= echo
        power: Field = echo[0] + echo[1]
        return power

    def texture(self, field: Field, rng: np.random.Generator, num_samples: int) -> Field:
        """A random window (num_samples, lines) of one of the ``textures``, mirrored at random."""
        top = int(rng.integers(0, field.shape[0] - num_samples + 1))
        window = field[top : top + num_samples]
        return self._window(window[::-1] if rng.random() < 0.5 else window, rng)

    def _window(self, field: Field, rng: np.random.Generator) -> Field:
        """Scan lines of a field: a random stretch, mirrored at random. Depth stays: blur depends on it."""
        left = int(rng.integers(0, field.shape[-1] - self.grid.num_lines + 1))
        window = field[..., left : left + self.grid.num_lines]
        return window[..., ::-1] if rng.random() < 0.5 else window


@lru_cache(maxsize=16)
def speckle_bank(device: Device, grid: BeamGrid) -> SpeckleBank:
    """The device's bank at a sampling; always the same one, so that pictures depend on their generator only."""
    rng = np.random.default_rng([len(device.key), *device.key.encode()])
    fields = np.stack([_speckle_field(device, grid, rng) for _ in range(NUM_FIELDS)])
    return SpeckleBank(grid, fields, _textures(grid, rng))


def _speckle_field(device: Device, grid: BeamGrid, rng: np.random.Generator) -> Field:
    """Complex Gaussian noise blurred along and across the beam, as (2, samples, lines + half of them spare)."""
    shape = (2, grid.num_samples, grid.num_lines * 3 // 2)
    echo = gaussian_filter1d(
        rng.standard_normal(shape, dtype=np.float32), device.axial_psf_mm / grid.sample_mm, axis=1, mode="wrap"
    )
    blurred = [
        _unit_power(gaussian_filter1d(echo, device.lateral_psf_mm * w / grid.line_mm, axis=2, mode="wrap"))
        for w in _WIDENINGS
    ]
    level = np.interp(_widening(device, grid), _WIDENINGS, range(len(_WIDENINGS)))
    lower = np.minimum(level.astype(int), len(_WIDENINGS) - 2)
    share = (level - lower).astype(np.float32)[None, :, None]
    stack, rows = np.stack(blurred), np.arange(grid.num_samples)
    near = stack[lower, :, rows].transpose(1, 0, 2)
    far = stack[lower + 1, :, rows].transpose(1, 0, 2)
    return _unit_power((1 - share) * near + share * far)


def _widening(device: Device, grid: BeamGrid) -> NDArray[np.float64]:
    """Blur across the beam at each sample, relative to the focus: dynamic receive focusing, limited by the aperture."""
    depth_mm = np.arange(grid.num_samples) * grid.sample_mm
    off_focus = (depth_mm - device.focus_mm) / (1.5 * device.focus_mm)
    return np.asarray(np.minimum(np.sqrt(1 + off_focus**2), 1.9), dtype=np.float64)


def _unit_power(echo: Field) -> Field:
    """Scale every depth to mean power 1, real and imaginary part together."""
    scaled: Field = echo / np.sqrt((echo**2).sum(axis=0).mean(axis=-1))[None, :, None]
    return scaled


def _textures(grid: BeamGrid, rng: np.random.Generator) -> Textures:
    shape = (grid.num_samples * 5 // 4, grid.num_lines * 3 // 2)

    def noise(axial_mm: float, lateral_mm: float) -> Field:
        field = gaussian_filter1d(
            rng.standard_normal(shape, dtype=np.float32), axial_mm / grid.sample_mm, axis=0, mode="wrap"
        )
        field = gaussian_filter1d(field, lateral_mm / grid.line_mm, axis=1, mode="wrap")
        return np.asarray(field / field.std(), dtype=np.float32)

    def net(axial_mm: float, lateral_mm: float, thickness: float) -> Field:
        """Zero crossings of flat noise, brightest where they lie across the beam, seen in patches."""
        field = noise(axial_mm, lateral_mm)
        down = np.abs(np.gradient(field, grid.sample_mm, axis=0)) * axial_mm
        across = np.abs(np.gradient(field, grid.line_mm, axis=1)) * axial_mm
        facing = (down**2 / (down**2 + 6 * across**2 + 1e-6)) ** 2
        seen = 1 / (1 + np.exp(-2.2 * (noise(1.2, 2.2) - 0.15)))
        return np.asarray(np.exp(-((field / thickness) ** 2)) * (0.25 + 0.75 * facing) * seen, dtype=np.float32)

    septa = np.exp(-((noise(1.1, 5.0) / 0.13) ** 2)) / (1 + np.exp(-2 * (noise(2, 6) - 0.1)))
    return Textures(
        nets=(net(0.45, 1.0, 0.16), net(0.62, 1.6, 0.15), net(0.95, 2.6, 0.13)),
        septa=septa.astype(np.float32),
        grain=noise(0.8, 1.6),
        clutter=noise(3.0, 5.0),
    )
