"""What lies under the probe: muscles and the tissues around them, as data, without any acoustics.

Lengths are millimetres. A curve is depth below the probe, (lines,), at the lateral positions of a ``View``. Muscles
differ by the data in ``MUSCLES`` only; ``scenes`` places them under a probe.
"""

from dataclasses import dataclass
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
        vessels: brachial artery and vein lie below one of its edges.
        plate: a flat tendon lies in the middle of its upper third (triceps).
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
    vessels: bool = False
    plate: bool = False


MUSCLES = {
    m.name: m
    for m in (
        Muscle("rectus_femoris", 13.0, 0.0, 0.8, None, False, (6, 24), (22, 46), (4, 20)),
        Muscle("biceps_brachii", 11.0, 0.0, 0.7, None, False, (12, 30), (28, 44), (3, 12), vessels=True),
        Muscle("triceps_brachii", 11.0, 0.0, 0.0, (0.22, 0.0), False, (10, 30), (28, 44), (3, 12), plate=True),
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
class Pair:
    """Two muscles side by side in one view, both cut by the picture's edges; in the middle of it they part.

    Attributes:
        gap_mm: between them; a steep septum runs down there, or the linea alba between sheathed muscles.
    """

    left: Subject
    right: Subject
    gap_mm: float

    @property
    def muscle(self) -> str:
        """Of the left one."""
        return self.left.muscle

    @property
    def fat_mm(self) -> float:
        """Subcutaneous fat above the two."""
        return (self.left.fat_mm + self.right.fat_mm) / 2

    @property
    def thickness_mm(self) -> float:
        """Of the thicker one."""
        return max(self.left.thickness_mm, self.right.thickness_mm)

    @property
    def deep_mm(self) -> float:
        """Tissue between the muscles and the bone."""
        return max(self.left.deep_mm, self.right.deep_mm)


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
class Vessel:
    """A blood vessel across the picture: black inside."""

    x_mm: float
    depth_mm: float
    radius_mm: float


@dataclass(frozen=True)
class Truth:
    """What a perfect reader would measure in this view; ``csa_cm2`` and ``width_mm`` inside the field of view.

    ``thickness_mm`` is that of the mid-belly, or where it lies beyond the picture of the thickest part that is seen.
    """

    csa_cm2: float
    thickness_mm: float
    width_mm: float
    fat_mm: float
    infiltration: float
    fascia: float
    deep_mm: float


@dataclass(frozen=True)
class Scene:
    """One view as curves: skin, fat, muscle between ``upper`` and ``lower`` where ``inside``, and what shines.

    Attributes:
        truth: of the first muscle.
        second: the truth of a second muscle; it lies right of ``border_mm``, the first one left of it.
    """

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
    second: Truth | None = None
    border_mm: float = 0.0
    vessels: tuple[Vessel, ...] = ()


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
