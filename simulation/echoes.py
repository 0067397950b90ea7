"""The echoes of a scene, as an ultrasound machine receives and compresses them, on beam coordinates (samples, lines).

Reflectivity of the tissues in decibels, interfaces added as bright lines; weakened by fat and infiltrated muscle,
shadowed by bone; blurred and multiplied by speckle; drowned in noise with depth; compressed to the dynamic range.
Numbers and their sources: SCIENCE section 3.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import exp10

from simulation.anatomy import Bone, Curve, Line, Scene, Tendon, Vessel, wander
from simulation.devices import Device
from simulation.speckle import Field, SpeckleBank

NEPER_PER_DB = np.float32(np.log(10) / 20)
DB_PER_NEPER = np.float32(20 / np.log(10))
TGC_DB_PER_CM_MHZ = 0.62  # one way; what the machine expects tissue to weaken, and gives back
FAT_DB_PER_CM_MHZ = 0.80
BEAM_WIDTH_MM = 0.8  # of the part of the aperture that looks past the edge of the bone
VESSEL_DB = 22.0  # blood below muscle
HEADROOM_DB = 8.0  # echoes above full scale minus this are white


@dataclass(frozen=True)
class Picture:
    """The work on one picture: device, its speckle, chance, and how deep it goes."""

    machine: Device
    bank: SpeckleBank
    rng: np.random.Generator
    num_samples: int

    @property
    def depth_mm(self) -> Field:
        """(samples, 1) depth of each sample."""
        samples = np.arange(self.num_samples, dtype=np.float32) + np.float32(0.5)
        return (samples * np.float32(self.bank.grid.sample_mm))[:, None]

    def echoes_as_grey(self, scene: Scene) -> Field:
        """(samples, lines) compressed echo in [0, 1], before the grey map."""
        amplitude = self._reflectivity(scene)
        for line in scene.lines:
            self._add_line(amplitude, line)
        if scene.tendon is not None:
            self._add_tendon(amplitude, scene.tendon, scene.x_mm)
        loss_db = self._loss_db(scene)
        if scene.bone is not None:
            self._add_bone(amplitude, scene.bone, loss_db)
        amplitude *= np.exp(loss_db * NEPER_PER_DB)
        amplitude *= self._contact(scene.x_mm)
        echo = self._speckled(self._blurred(amplitude))
        return self._compressed(echo)

    def _reflectivity(self, scene: Scene) -> Field:
        """Echo amplitude of the tissues: dark bundles between bright nets, brighter and blurrier with infiltration."""
        z, fat_share = self.depth_mm, np.float32(scene.truth.infiltration)
        fields = self.bank.textures
        fine, medium, coarse = (self._texture(net) for net in fields.nets)
        grain, clutter = self._texture(fields.grain), self._texture(fields.clutter)
        nets = 0.75 * fine + 0.9 * medium + 0.5 * coarse
        muscle = (44 - 14 * fat_share) * nets + (1.3 + 0.8 * fat_share) * grain
        muscle += (1.2 + 1.6 * fat_share) * clutter + (18 * fat_share - np.float32(36.5))
        around = 14 * fine + 28 * (medium + coarse) + 1.8 * grain + 2 * clutter + (10 * fat_share - np.float32(35))
        level = np.where((z > scene.upper) & (z < scene.lower), muscle, around)
        top = min(int(scene.fat.max() / self.bank.grid.sample_mm) + 1, self.num_samples)
        fat = 1.4 * grain[:top] + 0.8 * clutter[:top] + 20 * self._texture(fields.septa)[:top] - np.float32(31)
        level[:top] = np.where(z[:top] < scene.fat, fat, level[:top])
        level[:top] = np.where(z[:top] < scene.skin, grain[:top] - np.float32(14), level[:top])
        for vessel in scene.vessels:
            level -= np.float32(VESSEL_DB) * self._inside(vessel, scene.x_mm)
        level *= NEPER_PER_DB
        amplitude: Field = np.exp(level, out=level)
        return amplitude

    def _inside(self, vessel: Vessel, x_mm: Curve) -> Field:
        """(samples, lines) 1 in the vessel's middle, 0 outside."""
        away = np.hypot(x_mm - np.float32(vessel.x_mm), self.depth_mm - np.float32(vessel.depth_mm))
        inside: Field = np.clip((np.float32(vessel.radius_mm) - away) / np.float32(0.4), 0, 1)
        return inside

    def _texture(self, field: Field) -> Field:
        return self.bank.texture(field, self.rng, self.num_samples)

    def _add_line(self, amplitude: Field, line: Line) -> None:
        """Add an interface; steep parts send little back, and the rest comes and goes along it."""
        grid = self.bank.grid
        slope = np.gradient(line.depth_mm, np.float32(grid.line_mm))
        facing = (1 + (2 * slope) ** 2) ** np.float32(-1.5)
        strength_db = np.float32(line.peak_db) + wander(self.rng, grid.num_lines, 3.0, 9)
        strength = line.visible * facing * np.exp(strength_db * NEPER_PER_DB)
        reach = 3 * line.thickness_mm
        top = max(int((line.depth_mm.min() - reach) / grid.sample_mm), 0)
        end = min(int((line.depth_mm.max() + reach) / grid.sample_mm) + 2, self.num_samples)
        if top < end:
            off = (self.depth_mm[top:end] - line.depth_mm) * np.float32(1 / line.thickness_mm)
            off *= off
            off *= np.float32(-0.5)
            amplitude[top:end] += strength * np.exp(off, out=off)

    def _add_tendon(self, amplitude: Field, tendon: Tendon, x_mm: Curve) -> None:
        """Add a strand that tapers, bends and breaks up."""
        sample_mm = self.bank.grid.sample_mm
        top = max(int((tendon.top_mm - 1) / sample_mm), 0)
        end = min(int((tendon.top_mm + tendon.length_mm + 1) / sample_mm), self.num_samples)
        if end - top < 2:
            return
        share = (self.depth_mm[top:end] - np.float32(tendon.top_mm)) / np.float32(tendon.length_mm)
        along = np.clip(share, 0, 1)
        path = np.float32(tendon.x_mm) + np.float32(tendon.bend_mm) * along**tendon.curvature
        width = np.float32(tendon.width_mm) * (1.25 - 0.6 * along)
        ends = np.exp(-0.5 * ((share - along) * np.float32(tendon.length_mm / 0.35)) ** 2)
        broken_db = np.float32(tendon.peak_db) + wander(self.rng, end - top, 3.0, 7)[:, None]
        strand = np.exp(-0.5 * ((x_mm - path) / width) ** 2 + broken_db * NEPER_PER_DB)
        amplitude[top:end] += strand * ends

    def _loss_db(self, scene: Scene) -> Field:
        """(samples, lines) gain in dB: what fat and infiltrated muscle take beyond the machine's compensation."""
        z, machine = self.depth_mm, self.machine
        per_mm = 2 * machine.frequency_mhz / 10
        fat_excess = np.float32((FAT_DB_PER_CM_MHZ - TGC_DB_PER_CM_MHZ) * per_mm)
        muscle_excess = np.float32((0.58 + 0.75 * scene.truth.infiltration - TGC_DB_PER_CM_MHZ) * per_mm)
        loss = np.minimum(z, scene.fat) * -fat_excess
        loss -= (np.clip(z, scene.upper, scene.lower) - scene.upper) * muscle_excess
        sliders = self.rng.normal(0, machine.tgc_error_db, 6)
        ramp = np.interp(z[:, 0], np.linspace(0, z[-1, 0], 6), sliders)[:, None]
        focus = 2 * np.exp(-(((z - machine.focus_mm) / 9) ** 2)) - 0.10 * np.maximum(z - 28, 0)
        gain = machine.gain_db + 1.5 * float(self.rng.standard_normal())
        loss += (ramp + focus + gain).astype(np.float32)
        if scene.gas is not None:
            loss -= np.float32(1.2) * np.maximum(z - scene.gas - np.float32(0.4), 0)
        return loss

    def _add_bone(self, amplitude: Field, bone: Bone, loss_db: Field) -> None:
        """A bright surface with a blurred second one below, and a shadow with faint reverberation."""
        picture_end = np.float32(self.depth_mm[-1, 0] + 5)
        surface = np.minimum(bone.depth_mm, picture_end)
        self._add_line(amplitude, Line(surface, 3, 0.34, bone.visible**1.5))
        self._add_line(amplitude, Line(np.minimum(surface + np.float32(0.7), picture_end), -6, 0.5, bone.visible**2))
        top = min(int(surface.min() / self.bank.grid.sample_mm), self.num_samples)
        below = np.maximum(self.depth_mm[top:] - surface, 0)
        shadow = 10 * np.minimum(below, 2) + np.float32(0.35) * below
        penumbra = _blur(np.sqrt(bone.visible), BEAM_WIDTH_MM / self.bank.grid.line_mm)
        loss_db[top:] -= penumbra * shadow

    def _contact(self, x_mm: Curve) -> Curve:
        """(lines,) darker at the ends of the probe, where it loses the skin."""
        from_left, from_right = x_mm - x_mm[0], x_mm[-1] - x_mm
        reach = self.rng.uniform(0.4, 2.2, 2)
        contact = 1 - 0.55 * np.exp(-from_left / reach[0]) - 0.55 * np.exp(-from_right / reach[1])
        return np.asarray(contact, dtype=np.float32)

    def _blurred(self, amplitude: Field) -> Field:
        """The point-spread function on the tissue too, or fasciae look drawn with a pen."""
        grid, machine = self.bank.grid, self.machine
        blurred = _blur(amplitude, 0.8 * machine.axial_psf_mm / grid.sample_mm)
        return _blur(blurred.T, 0.8 * machine.lateral_psf_mm / grid.line_mm).T

    def _speckled(self, amplitude: Field) -> Field:
        """Multiply by compounded speckle and add the noise floor, raised with depth like the signal."""
        machine = self.machine
        looks = [np.sqrt(self.bank.power(self.rng, self.num_samples)) for _ in range(3)]
        shared = np.float32(machine.compounding / 3)
        speckle = (1 - 2 * shared) * looks[0] + shared * (looks[1] + looks[2])
        gain_db = 0.5 * TGC_DB_PER_CM_MHZ * 2 * machine.frequency_mhz / 10 * self.depth_mm
        floor = exp10((gain_db + machine.noise_floor_db - 6) / 20).astype(np.float32)
        echo = amplitude * speckle
        echo *= echo
        echo += floor**2 * self.bank.power(self.rng, self.num_samples)
        result: Field = np.sqrt(echo, out=echo)
        return result

    def _compressed(self, echo: Field) -> Field:
        machine = self.machine
        grey: Field = np.log(echo + np.float32(1e-6))
        grey *= DB_PER_NEPER / np.float32(machine.dynamic_range_db)
        grey += np.float32(1 - HEADROOM_DB / machine.dynamic_range_db)
        np.clip(grey, 0, 1, out=grey)
        if machine.sharpening:
            soft = _blur(grey, 0.32 / self.bank.grid.sample_mm)
            grey += np.float32(machine.sharpening) * (grey - soft)
            np.clip(grey, 0, 1, out=grey)
        return grey


def _blur(field: Field, sigma: float) -> Field:
    """Gaussian of ``sigma`` samples along the first axis, cut at two sigma; the picture's edges stay as they are."""
    reach = int(2 * sigma + 0.5)
    if reach < 1:
        return field
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    weights /= 2 * weights.sum() - weights[0]
    padded = np.concatenate([field[:1]] * reach + [field] + [field[-1:]] * reach)
    blurred: Field = np.float32(weights[0]) * field
    for k in range(1, reach + 1):
        pair = padded[reach - k : reach - k + len(field)] + padded[reach + k : reach + k + len(field)]
        pair *= np.float32(weights[k])
        blurred += pair
    return blurred
