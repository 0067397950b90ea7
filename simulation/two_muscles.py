"""Two muscles side by side under one probe: the medial upper arm, and the midline of the belly.

On the inner side of the upper arm the biceps lies in front and the triceps behind, with the medial intermuscular septum
between them, which goes down to the humerus, and the brachial vessels beside it. On the midline of the belly the linea
alba parts the two recti. The probe is narrower than the two together, so that each is cut by an edge of the picture:
areas of such views are those of the visible parts, and are no measurement of the muscle.
"""

from dataclasses import replace

import numpy as np

from simulation.anatomy import MUSCLES, Bone, Curve, Line, Pair, Scene, Subject, Tendon, Vessel, View
from simulation.scenes import Outline, arc, bright, epimysium, outline_of, superficial, truth_of, walls


def build_pair(pair: Pair, x_mm: Curve, rng: np.random.Generator) -> Scene:
    """One view of two muscles: every call places the probe anew, as ``build_scene`` does."""
    view, muscles = View(x_mm, rng), (MUSCLES[pair.left.muscle], MUSCLES[pair.right.muscle])
    now = [_as_placed(subject, pair, view) for subject in (pair.left, pair.right)]
    border = view.jitter(2.5)
    skin = np.float32(1.6 + view.jitter(0.15)) + view.wander(0.04)
    lean, arch = np.float32(view.jitter(0.04)), np.float32(0.0022)
    fat = (
        skin + np.float32(pair.fat_mm * (1 + view.jitter(0.05))) + lean * x_mm + arch * (x_mm - np.float32(border)) ** 2
    )
    fat = np.maximum(fat + view.wander(0.18 + 0.02 * pair.fat_mm), skin + np.float32(0.4))
    apart = [side * (pair.gap_mm + subject.width_mm) / 2 for side, subject in zip((-1, 1), now, strict=True)]
    left, right = (outline_of(subject, fat, border + away, view) for subject, away in zip(now, apart, strict=True))
    lines = superficial(now[0], skin, fat, view)
    for subject, muscle, outline in zip(now, muscles, (left, right), strict=True):
        lines += epimysium(subject, muscle, outline, view)
    seam = _seam(left, right, fat)
    gas = None
    if muscles[0].sheathed:
        gas = _smooth(_joined(left.lower, right.lower, seam, (left, right))) + np.float32(2.6) + view.wander(0.4)
        lines += [*_linea_alba(left, right, seam), bright(gas - np.float32(1.6), -10, 0.18), bright(gas, -2, 0.25)]
    bone = _bone(pair, left, right, view)
    lower = _joined(left.lower, right.lower, seam, (left, right))
    vessels = () if muscles[0].sheathed else _bundle(pair, border, lower, view)
    lines += [wall for vessel in vessels for wall in walls(vessel, x_mm)]
    return Scene(
        x_mm=x_mm,
        skin=skin,
        fat=fat,
        upper=_joined(left.upper, right.upper, seam, (left, right)),
        lower=lower,
        inside=left.inside | right.inside,
        lines=tuple(lines),
        tendon=None if muscles[0].sheathed else _septum(pair, border, fat, view),
        bone=bone,
        gas=gas,
        truth=truth_of(now[0], left, x_mm),
        second=truth_of(now[1], right, x_mm),
        border_mm=border,
        vessels=vessels,
    )


def _as_placed(subject: Subject, pair: Pair, view: View) -> Subject:
    return replace(
        subject,
        thickness_mm=subject.thickness_mm * (1 + view.jitter(0.03)),
        width_mm=subject.width_mm * (1 + view.jitter(0.03)),
        fat_mm=pair.fat_mm,
    )


def _seam(left: Outline, right: Outline, fat: Curve) -> Curve:
    """(lines,) the level at which the two meet."""
    level: Curve = np.maximum((left.axis + right.axis) / 2, fat + np.float32(0.5))
    return level


def _joined(left: Curve, right: Curve, seam: Curve, outlines: tuple[Outline, Outline]) -> Curve:
    """Each curve where its muscle lies, the seam elsewhere."""
    curve: Curve = np.where(outlines[0].inside, left, np.where(outlines[1].inside, right, seam))
    return curve


def _smooth(curve: Curve, reach: int = 9) -> Curve:
    """The mean over neighbouring lines: a sheath bridges the notch between the muscles."""
    padded = np.pad(curve, reach, mode="edge")
    mean: Curve = np.convolve(padded, np.full(2 * reach + 1, 1 / (2 * reach + 1)), mode="valid").astype(np.float32)
    return mean


def _linea_alba(left: Outline, right: Outline, seam: Curve) -> list[Line]:
    """The sheaths of both sides meet between the muscles: two bright layers, that lie upon each other."""
    between = ~(left.inside | right.inside)
    visible = np.convolve(between, np.hanning(17) / np.hanning(17).sum(), mode="same")
    return [bright(seam - np.float32(0.30), -9, 0.26, visible), bright(seam + np.float32(0.40), -11, 0.26, visible)]


def _septum(pair: Pair, border: float, fat: Curve, view: View) -> Tendon:
    """The intermuscular septum: steep, from the fascia of the arm to the humerus."""
    rng, middle = view.rng, len(fat) // 2
    return Tendon(
        x_mm=border,
        top_mm=float(fat[middle]) + 0.8,
        length_mm=(0.75 + 0.2 * rng.random()) * (pair.thickness_mm + pair.deep_mm / 2),
        bend_mm=3.0 * float(rng.standard_normal()),
        curvature=rng.uniform(1.2, 2.0),
        width_mm=rng.uniform(0.22, 0.38),
        peak_db=-22 + 5 * pair.left.fascia + 2 * float(rng.standard_normal()),
    )


def _bundle(pair: Pair, border: float, lower: Curve, view: View) -> tuple[Vessel, ...]:
    """Brachial artery and vein, one below the other, beside the septum and under the edge of the biceps."""
    side = -1.0 if pair.left.muscle == "biceps_brachii" else 1.0
    radius = float(view.rng.uniform(1.5, 2.0))
    vein, x = 0.8 * radius, border + side * (radius + 0.8)
    covered = np.abs(view.x_mm - np.float32(x)) < radius + 0.5
    depth = float(lower[covered].max()) + radius + 0.8
    return Vessel(x, depth, radius), Vessel(x + 0.4 * side, depth + radius + vein + 0.5, vein)


def _bone(pair: Pair, left: Outline, right: Outline, view: View) -> Bone | None:
    """The humerus lies below the septum; none under the belly."""
    radius = MUSCLES[pair.left.muscle].bone_radius_mm
    if radius is None:
        return None
    top = float(max(left.lower.max(), right.lower.max())) + 0.4 * pair.deep_mm
    return arc(radius, top, (left.middle_mm + left.half_width_mm + right.middle_mm - right.half_width_mm) / 2, view)
