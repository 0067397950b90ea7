"""What lies under the probe: from a participant's muscle to the curves of one transverse view, without any acoustics.

Lengths are millimetres. A curve is depth below the probe, (lines,), at the lateral positions of a ``View``. Muscles
differ by the data in ``MUSCLES`` only; every ``Scene`` is drawn alike.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float32]


@dataclass(frozen=True)
class Muscle:
    """One muscle group: where it lies and between which sizes it ranges.

    Attributes:
        bone_radius_mm: of the bone below; None where there is none.
        bone_offset_mm: lateral place of the bone against the muscle's middle.
        tendon: share of views that show a central aponeurosis (the "comma" of the rectus femoris).
        septum: amplitude and slope of an inner septum, (mm per mm of thickness, mm per mm of width); None without.
        sheathed: the muscle lies on a sheath and the peritoneum, with bowel gas below, instead of on other muscle.
        thickness_mm, width_mm, deep_mm: ranges of healthy and wasted adults; deep is what lies between muscle and bone.
    """

    name: str
    bone_radius_mm: float | None
    bone_offset_mm: float
    tendon: float
    septum: tuple[float, float] | None
    sheathed: bool
    thickness_mm: tuple[float, float]
    width_mm: tuple[float, float]
    deep_mm: tuple[float, float]


MUSCLES = {
    m.name: m
    for m in (
        Muscle("rectus_femoris", 13.0, 0.0, 0.8, None, False, (6, 24), (22, 46), (4, 20)),
        Muscle("biceps_brachii", 11.0, 0.0, 0.7, None, False, (12, 30), (28, 44), (3, 12)),
        Muscle("triceps_brachii", 11.0, 0.0, 0.0, (0.22, 0.0), False, (10, 30), (28, 44), (3, 12)),
        Muscle("rectus_abdominis", None, 0.0, 0.0, None, True, (4, 14), (36, 60), (6, 12)),
        Muscle("peroneus_longus_brevis", 7.0, 9.0, 0.0, (0.05, 0.06), False, (8, 22), (22, 36), (5, 14)),
    )
}


@dataclass(frozen=True)
class Subject:
    """A participant's muscle, the same in all views.

    Attributes:
        muscle: a key of ``MUSCLES``.
        fat_mm: subcutaneous fat above the muscle.
        infiltration: fat and fibrous tissue inside the muscle, 0 = none, 1 = all.
        fascia: brightness and thickness of the fasciae, 0 = thin, 1 = fibrotic.
        deep_mm: tissue between the muscle and the bone (vastus intermedius below the rectus femoris).
    """

    muscle: str = "rectus_femoris"
    thickness_mm: float = 14.0
    width_mm: float = 36.0
    fat_mm: float = 7.0
    infiltration: float = 0.25
    fascia: float = 0.3
    deep_mm: float = 12.0


@dataclass(frozen=True)
class Line:
    """A bright interface: depth (lines,), peak echo in dB, standard deviation across it, visible share (lines,)."""

    depth_mm: Curve
    peak_db: float
    thickness_mm: float
    visible: Curve


@dataclass(frozen=True)
class Tendon:
    """A steep strand inside the muscle: from a top point down, bending sideways as (depth share)^curvature."""

    x_mm: float
    top_mm: float
    length_mm: float
    bend_mm: float
    curvature: float
    width_mm: float
    peak_db: float


@dataclass(frozen=True)
class Bone:
    """Surface (lines,), far below the picture where there is no bone, and the share of sound it stops (lines,)."""

    depth_mm: Curve
    visible: Curve


@dataclass(frozen=True)
class Truth:
    """What a perfect reader would measure in this view; ``csa_cm2`` and ``width_mm`` inside the field of view."""

    csa_cm2: float
    thickness_mm: float
    width_mm: float
    fat_mm: float
    infiltration: float
    fascia: float
    deep_mm: float


@dataclass(frozen=True)
class Scene:
    """One view as curves: skin, fat, muscle between ``upper`` and ``lower`` where ``inside``, and what shines."""

    x_mm: Curve
    skin: Curve
    fat: Curve
    upper: Curve
    lower: Curve
    inside: NDArray[np.bool_]
    lines: tuple[Line, ...]
    tendon: Tendon | None
    bone: Bone | None
    gas: Curve | None
    truth: Truth


@dataclass(frozen=True)
class View:
    """Lateral positions of the scan lines (lines,), 0 in the middle, and the chance of one placing of the probe."""

    x_mm: Curve
    rng: np.random.Generator

    def jitter(self, sd: float) -> float:
        """A normal number around 0."""
        return sd * float(self.rng.standard_normal())

    def wander(self, amplitude: float, num_waves: int = 4) -> Curve:
        """A smooth random curve around 0, (lines,); long waves are the strongest."""
        return wander(self.rng, len(self.x_mm), amplitude, num_waves)


def wander(rng: np.random.Generator, num_points: int, amplitude: float, num_waves: int = 4) -> Curve:
    """A smooth random curve (num_points,) around 0: cosines of falling strength and random phase."""
    waves, falloff = _waves(num_points, num_waves)
    strength = amplitude * falloff * rng.standard_normal(num_waves)
    phase = rng.uniform(0, 2 * np.pi, num_waves)
    curve: Curve = np.concatenate([strength * np.cos(phase), strength * np.sin(phase)]).astype(np.float32) @ waves
    return curve


@lru_cache(maxsize=64)
def _waves(num_points: int, num_waves: int) -> tuple[Curve, NDArray[np.float64]]:
    order = np.arange(1, num_waves + 1)
    angle = np.pi * order[:, None] * np.linspace(0, 1, num_points)[None, :]
    return np.concatenate([np.cos(angle), -np.sin(angle)]).astype(np.float32), np.asarray(order**-1.3, dtype=np.float64)


def random_subject(rng: np.random.Generator, muscle: str = "rectus_femoris") -> Subject:
    """A muscle of any size and quality, independent of every cohort: for endless pretraining."""
    kind = MUSCLES[muscle]
    return Subject(
        muscle=muscle,
        thickness_mm=rng.uniform(*kind.thickness_mm),
        width_mm=rng.uniform(*kind.width_mm),
        fat_mm=float(np.exp(rng.uniform(np.log(1.5), np.log(20)))),
        infiltration=rng.uniform(0.02, 0.9),
        fascia=rng.uniform(0, 1),
        deep_mm=rng.uniform(*kind.deep_mm),
    )


@dataclass(frozen=True)
class _Outline:
    """The muscle's edge: ``share`` is the distance from its middle, 1 at its sides; around the level ``axis``."""

    middle_mm: float
    half_width_mm: float
    share: Curve
    axis: Curve
    upper: Curve
    lower: Curve
    inside: NDArray[np.bool_]


def build_scene(subject: Subject, x_mm: Curve, rng: np.random.Generator) -> Scene:
    """One view of the muscle: every call places the probe anew, a few per cent and millimetres differently."""
    view, muscle = View(x_mm, rng), MUSCLES[subject.muscle]
    now = replace(
        subject,
        thickness_mm=subject.thickness_mm * (1 + view.jitter(0.03)),
        width_mm=subject.width_mm * (1 + view.jitter(0.03)),
        fat_mm=subject.fat_mm * (1 + view.jitter(0.05)),
    )
    middle = view.jitter(2.0)
    skin = np.float32(1.6 + view.jitter(0.15)) + view.wander(0.04)
    lean, arch = np.float32(view.jitter(0.04)), np.float32(0.0022)
    fat = skin + np.float32(now.fat_mm) + lean * x_mm + arch * (x_mm - np.float32(middle)) ** 2
    fat = np.maximum(fat + view.wander(0.18 + 0.02 * now.fat_mm), skin + np.float32(0.4))
    outline = _outline(now, fat, middle, view)
    lines = [*_superficial(now, skin, fat, view), *_envelope(now, muscle, outline, view)]
    bone = _bone(now, muscle, outline, view)
    gas = None
    if muscle.sheathed:
        gas = outline.lower + np.float32(2.6) + view.wander(0.4)
        lines += [_line(outline.lower + np.float32(1.0), -10, 0.18), _line(gas, -2, 0.25)]
    return Scene(
        x_mm=x_mm,
        skin=skin,
        fat=fat,
        upper=outline.upper,
        lower=outline.lower,
        inside=outline.inside,
        lines=tuple(lines),
        tendon=_tendon(now, outline, view) if rng.random() < muscle.tendon else None,
        bone=bone,
        gas=gas,
        truth=_truth(now, outline, x_mm),
    )


def _outline(now: Subject, fat: Curve, middle: float, view: View) -> _Outline:
    """A lens, flatter above than below, a little lopsided."""
    half = now.width_mm / 2
    across = (view.x_mm - np.float32(middle)) / np.float32(half)
    share = np.minimum(np.abs(across), 1)
    lens = (1 - share**2.6) ** 0.52
    lopsided = 1 + np.float32(0.18 * view.jitter(1)) * np.tanh(across)
    arch = np.float32(0.0036) * (view.x_mm - np.float32(middle)) ** 2
    gap = np.float32(0.7 + 0.25 * abs(view.jitter(1)))
    axis = fat + gap + np.float32(0.36 * now.thickness_mm) + arch
    upper = axis - np.float32(0.36 * now.thickness_mm) * lens + view.wander(0.08) * lens
    lower = axis + np.float32(0.64 * now.thickness_mm) * lens * lopsided + view.wander(0.22) * lens
    inside = np.abs(across) < 1
    upper, lower = np.where(inside, upper, axis), np.where(inside, np.maximum(lower, upper), axis)
    return _Outline(middle, half, share, axis, upper, lower, inside)


def _line(depth: Curve, peak_db: float, thickness_mm: float, visible: Curve | None = None) -> Line:
    seen = np.ones_like(depth) if visible is None else visible.astype(np.float32)
    return Line(depth.astype(np.float32), peak_db, thickness_mm, seen)


def _superficial(now: Subject, skin: Curve, fat: Curve, view: View) -> list[Line]:
    """Skin, the septa of the fat, and the fascia below it."""
    lines = [_line(np.full_like(skin, 0.45) + view.wander(0.03), -4, 0.28), _line(skin, -10, 0.16)]
    for _ in range(min(int(view.rng.poisson(0.28 * now.fat_mm)), 5)):
        level = np.float32(view.rng.uniform(0.15, 0.9))
        stretch = np.cos((view.x_mm - view.rng.uniform(view.x_mm[0], view.x_mm[-1])) / view.rng.uniform(5, 14))
        depth = np.maximum(skin + level * (fat - skin) + view.wander(0.35), skin)
        lines.append(_line(depth, -16 + 8 * view.rng.random(), 0.13, np.clip(stretch, 0, 1)))
    return [*lines, _line(fat, -5 + 3 * now.fascia, 0.20 + 0.10 * now.fascia)]


def _envelope(now: Subject, muscle: Muscle, outline: _Outline, view: View) -> list[Line]:
    """Epimysium, the fascia below it, inner septum, and the septa that part the muscle from its neighbours."""
    x, inside = view.x_mm, outline.inside.astype(np.float32)
    side = np.clip((1 - outline.share) * 4, 0.12, 1) * inside
    lines = [
        _line(outline.upper, -13 + 6 * now.fascia, 0.16 + 0.14 * now.fascia, side),
        _line(outline.lower, -10 + 6 * now.fascia, 0.18 + 0.16 * now.fascia, side),
    ]
    if muscle.septum is not None:
        height, slope = muscle.septum
        away = x - np.float32(outline.middle_mm)
        depth = outline.axis + np.float32(height * now.thickness_mm) * np.sin(away / 9 + 0.6) + np.float32(slope) * away
        depth = np.clip(depth + np.float32(0.10 * now.thickness_mm), outline.upper, outline.lower)
        lines.append(_line(depth + view.wander(0.2), -13 + 4 * now.fascia, 0.16, (outline.share < 0.85) * inside))
    if not muscle.sheathed:
        below = (
            np.where(outline.inside, outline.lower, outline.axis)
            + np.float32(0.9)
            + np.float32(0.25) * np.cos(x / np.float32(7))
        )
        lines.append(
            _line(
                below,
                -9 + 5 * now.fascia,
                0.20 + 0.12 * now.fascia,
                np.float32(0.35) + np.float32(0.65) * inside * side,
            )
        )
        lines += _flanks(outline, x)
    return lines


def _flanks(outline: _Outline, x: Curve) -> list[Line]:
    """The septa on both sides, sloping away from the muscle's edges (vastus lateralis and medialis in the thigh)."""
    lines = []
    for side in (-1, 1):
        beyond = side * (x - np.float32(outline.middle_mm)) - np.float32(outline.half_width_mm)
        depth = outline.axis + np.float32(0.23) * np.maximum(beyond, 0) + np.float32(0.15) * np.minimum(beyond, 0)
        lines.append(_line(depth, -15, 0.2, np.clip(beyond + 3, 0, 1)))
    return lines


def _tendon(now: Subject, outline: _Outline, view: View) -> Tendon:
    """The central aponeurosis: a comma that starts near the upper edge and bends to one side."""
    rng = view.rng
    x = outline.middle_mm + 0.18 * outline.half_width_mm * float(rng.standard_normal())
    top = float(np.interp(x, view.x_mm, outline.upper)) + 0.14 * now.thickness_mm
    bend = rng.choice([-1, 1]) * (0.12 + 0.35 * rng.random()) * outline.half_width_mm
    return Tendon(
        x_mm=x,
        top_mm=top,
        length_mm=rng.uniform(0.35, 0.70) * now.thickness_mm,
        bend_mm=float(bend),
        curvature=rng.uniform(1.3, 2.4),
        width_mm=rng.uniform(0.30, 0.60),
        peak_db=-23 + 7 * now.fascia + 2.5 * float(rng.standard_normal()),
    )


def _bone(now: Subject, muscle: Muscle, outline: _Outline, view: View) -> Bone | None:
    """A flattened arc; its steep flanks send little back and stop only part of the sound."""
    if muscle.bone_radius_mm is None:
        return None
    radius = np.float32(muscle.bone_radius_mm * (1 + view.jitter(0.06)))
    top = float(np.interp(outline.middle_mm, view.x_mm, outline.lower)) + now.deep_mm + 1.0
    place = np.float32(outline.middle_mm + muscle.bone_offset_mm + view.jitter(3.0))
    rounded = np.maximum(1 - ((view.x_mm - place) / radius) ** 2, 0)
    depth = np.float32(top) + np.float32(0.72) * radius * (1 - np.sqrt(rounded)) + view.wander(0.15)
    visible = np.clip(1.25 * np.sqrt(rounded) - 0.25, 0, 1)
    return Bone(np.where(rounded > 0, depth, np.float32(1e3)), visible.astype(np.float32))


def _truth(now: Subject, outline: _Outline, x_mm: Curve) -> Truth:
    thickness = np.where(outline.inside, outline.lower - outline.upper, 0)
    line_mm = float(x_mm[1] - x_mm[0])
    return Truth(
        csa_cm2=float(thickness.sum()) * line_mm / 100,
        thickness_mm=float(thickness[np.abs(x_mm - outline.middle_mm) < 3].max()),
        width_mm=float(outline.inside.sum()) * line_mm,
        fat_mm=now.fat_mm,
        infiltration=now.infiltration,
        fascia=now.fascia,
        deep_mm=now.deep_mm,
    )
