"""One transverse view of a muscle as curves: where skin, fat, muscle, fasciae and bone lie under the probe.

Every view places the probe anew. ``two_muscles`` puts two muscles side by side from the same parts.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simulation.anatomy import MUSCLES, Bone, Curve, Line, Muscle, Scene, Subject, Tendon, Truth, Vessel, View


@dataclass(frozen=True)
class Outline:
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
    outline = outline_of(now, fat, middle, view)
    lines = [*superficial(now, skin, fat, view), *envelope(now, muscle, outline, view)]
    bone = bone_of(now, muscle, outline, view)
    gas = None
    if muscle.sheathed:
        gas = outline.lower + np.float32(2.6) + view.wander(0.4)
        lines += [bright(outline.lower + np.float32(1.0), -10, 0.18), bright(gas, -2, 0.25)]
    tendon = tendon_of(now, outline, view) if rng.random() < muscle.tendon else None
    vessels = _vessels_below(outline, view) if muscle.vessels else ()
    lines += [wall for vessel in vessels for wall in walls(vessel, x_mm)]
    lines += _plate(now, outline, view) if muscle.plate else []
    return Scene(
        x_mm=x_mm,
        skin=skin,
        fat=fat,
        upper=outline.upper,
        lower=outline.lower,
        inside=outline.inside,
        lines=tuple(lines),
        tendon=tendon,
        bone=bone,
        gas=gas,
        truth=truth_of(now, outline, x_mm),
        vessels=vessels,
    )


def outline_of(now: Subject, fat: Curve, middle: float, view: View) -> Outline:
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
    return Outline(middle, half, share, axis, upper, lower, inside)


def bright(depth: Curve, peak_db: float, thickness_mm: float, visible: Curve | None = None) -> Line:
    """A line along ``depth``, seen everywhere or by the share ``visible``."""
    seen = np.ones_like(depth) if visible is None else visible.astype(np.float32)
    return Line(depth.astype(np.float32), peak_db, thickness_mm, seen)


def superficial(now: Subject, skin: Curve, fat: Curve, view: View) -> list[Line]:
    """Skin, the septa of the fat, and the fascia below it."""
    lines = [bright(np.full_like(skin, 0.45) + view.wander(0.03), -4, 0.28), bright(skin, -10, 0.16)]
    for _ in range(min(int(view.rng.poisson(0.28 * now.fat_mm)), 5)):
        level = np.float32(view.rng.uniform(0.15, 0.9))
        stretch = np.cos((view.x_mm - view.rng.uniform(view.x_mm[0], view.x_mm[-1])) / view.rng.uniform(5, 14))
        depth = np.maximum(skin + level * (fat - skin) + view.wander(0.35), skin)
        lines.append(bright(depth, -16 + 8 * view.rng.random(), 0.13, np.clip(stretch, 0, 1)))
    return [*lines, bright(fat, -5 + 3 * now.fascia, 0.20 + 0.10 * now.fascia)]


def envelope(now: Subject, muscle: Muscle, outline: Outline, view: View) -> list[Line]:
    """Epimysium, inner septum, the fascia below, and the septa that part the muscle from its neighbours."""
    lines = epimysium(now, muscle, outline, view)
    if muscle.sheathed:
        return lines
    x, inside = view.x_mm, outline.inside.astype(np.float32)
    side = _towards_the_sides(outline)
    below = np.where(outline.inside, outline.lower, outline.axis) + np.float32(0.9)
    below = below + np.float32(0.25) * np.cos(x / np.float32(7))
    visible = np.float32(0.35) + np.float32(0.65) * inside * side
    return [*lines, bright(below, -9 + 5 * now.fascia, 0.20 + 0.12 * now.fascia, visible), *_flanks(outline, x)]


def epimysium(now: Subject, muscle: Muscle, outline: Outline, view: View) -> list[Line]:
    """The muscle's own fascia above and below, and its inner septum."""
    x, inside = view.x_mm, outline.inside.astype(np.float32)
    side = _towards_the_sides(outline)
    lines = [
        bright(outline.upper, -13 + 6 * now.fascia, 0.16 + 0.14 * now.fascia, side),
        bright(outline.lower, -10 + 6 * now.fascia, 0.18 + 0.16 * now.fascia, side),
    ]
    if muscle.septum is not None:
        height, slope = muscle.septum
        away = x - np.float32(outline.middle_mm)
        depth = outline.axis + np.float32(height * now.thickness_mm) * np.sin(away / 9 + 0.6) + np.float32(slope) * away
        depth = np.clip(depth + np.float32(0.10 * now.thickness_mm), outline.upper, outline.lower)
        lines.append(bright(depth + view.wander(0.2), -13 + 4 * now.fascia, 0.16, (outline.share < 0.85) * inside))
    return lines


def _towards_the_sides(outline: Outline) -> Curve:
    """(lines,) what of the fascia is seen: towards the muscle's sides it fades."""
    fading: Curve = np.clip((1 - outline.share) * 4, 0.12, 1) * outline.inside.astype(np.float32)
    return fading


def _flanks(outline: Outline, x: Curve) -> list[Line]:
    """The septa on both sides, sloping away from the muscle's edges (vastus lateralis and medialis in the thigh)."""
    lines = []
    for side in (-1, 1):
        beyond = side * (x - np.float32(outline.middle_mm)) - np.float32(outline.half_width_mm)
        depth = outline.axis + np.float32(0.23) * np.maximum(beyond, 0) + np.float32(0.15) * np.minimum(beyond, 0)
        lines.append(bright(depth, -15, 0.2, np.clip(beyond + 3, 0, 1)))
    return lines


def tendon_of(now: Subject, outline: Outline, view: View) -> Tendon:
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


def _plate(now: Subject, outline: Outline, view: View) -> list[Line]:
    """A flat tendon in the upper third of the muscle's middle."""
    level = 0.16 + 0.10 * view.rng.random()
    reach = (0.3 + 0.25 * view.rng.random()) * outline.half_width_mm
    middle = outline.middle_mm + view.jitter(1.5)
    visible = np.clip(1 - ((view.x_mm - np.float32(middle)) / np.float32(reach)) ** 2, 0, 1)
    depth = outline.upper + np.float32(level) * (outline.lower - outline.upper) + view.wander(0.25)
    return [bright(depth, -8 + 4 * now.fascia, 0.32, visible * outline.inside)]


def _vessels_below(outline: Outline, view: View) -> tuple[Vessel, ...]:
    """An artery and the vein beside it, below one of the muscle's edges."""
    side = float(view.rng.choice([-1, 1]))
    radius = float(view.rng.uniform(1.5, 2.1))
    x = outline.middle_mm + side * view.rng.uniform(0.62, 0.82) * outline.half_width_mm
    x = float(np.clip(x, view.x_mm[0] + 5, view.x_mm[-1] - 5))  # the probe is placed so that they are seen
    depth = float(np.interp(x, view.x_mm, outline.lower)) + radius + view.rng.uniform(1.2, 2.2)
    return _side_by_side(x, depth, radius, side)


def _side_by_side(x_mm: float, depth_mm: float, radius_mm: float, side: float) -> tuple[Vessel, ...]:
    """An artery there, and a smaller vein on its ``side``, a little higher."""
    vein = 0.8 * radius_mm
    apart = radius_mm + vein + 0.5
    return Vessel(x_mm, depth_mm, radius_mm), Vessel(x_mm + 0.9 * side * apart, depth_mm - 0.44 * apart, vein)


def walls(vessel: Vessel, x_mm: Curve) -> list[Line]:
    """The parts of a vessel's wall that face the probe."""
    away = np.clip(np.abs(x_mm - np.float32(vessel.x_mm)) / np.float32(vessel.radius_mm), 0, 1)
    height = np.float32(vessel.radius_mm) * np.sqrt(1 - away**2)
    visible = np.clip((1 - away) * 4, 0, 1)
    depth = np.float32(vessel.depth_mm)
    return [bright(depth - height, -14, 0.18, visible), bright(depth + height, -12, 0.18, visible)]


def bone_of(now: Subject, muscle: Muscle, outline: Outline, view: View) -> Bone | None:
    """A flattened arc; its steep flanks send little back and stop only part of the sound."""
    if muscle.bone_radius_mm is None:
        return None
    top = float(np.interp(outline.middle_mm, view.x_mm, outline.lower)) + now.deep_mm + 1.0
    return arc(muscle.bone_radius_mm, top, outline.middle_mm + muscle.bone_offset_mm, view)


def arc(radius_mm: float, top_mm: float, place_mm: float, view: View) -> Bone:
    """A bone about ``place_mm`` wide of the middle, whose highest point lies ``top_mm`` deep."""
    radius = np.float32(radius_mm * (1 + view.jitter(0.06)))
    place = np.float32(place_mm + view.jitter(3.0))
    rounded = np.maximum(1 - ((view.x_mm - place) / radius) ** 2, 0)
    depth = np.float32(top_mm) + np.float32(0.72) * radius * (1 - np.sqrt(rounded)) + view.wander(0.15)
    visible = np.clip(1.25 * np.sqrt(rounded) - 0.25, 0, 1)
    return Bone(np.where(rounded > 0, depth, np.float32(1e3)), visible.astype(np.float32))


def truth_of(now: Subject, outline: Outline, x_mm: Curve) -> Truth:
    """Measured on the curves, within the scan lines."""
    thickness = np.where(outline.inside, outline.lower - outline.upper, 0)
    belly = np.abs(x_mm - outline.middle_mm) < 3
    line_mm = float(x_mm[1] - x_mm[0])
    return Truth(
        csa_cm2=float(thickness.sum()) * line_mm / 100,
        thickness_mm=float(thickness[belly].max() if belly.any() else thickness.max()),
        width_mm=float(outline.inside.sum()) * line_mm,
        fat_mm=now.fat_mm,
        infiltration=now.infiltration,
        fascia=now.fascia,
        deep_mm=now.deep_mm,
    )
