"""Who is in the hospitals of the muscle study, and which views are scanned: all that is known before anything is drawn.

Each person is scanned at all five muscles, on one side or both, once or twice. Some views show two muscles: ``arm`` the
biceps beside the triceps, ``midline`` the right and the left rectus abdominis, two outlines of one label. All other
views are ``single``. By convention the front of the arm is on the left of the screen, of both arms, and so is the right
side of the belly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Literal

import numpy as np

from sarco_models.errors import ConfigError
from simulation.anatomy import MUSCLES, Pair, Subject
from simulation.devices import DEVICES, Device, shifted
from simulation.label_formats import SUFFIX, Outlined
from simulation.muscle_people import GROUP_SIZES, Persons, Sign, draw_muscles, draw_persons
from simulation.muscle_sites import Hospital, hospitals
from simulation.plan import BURNED_IN_SHARE, GREY_BAR_REGION_SHARE, MAX_SHIFT, MIN_WIDTH_PX

VERSION = 1  # of the bytes written for given parameters
CENTRAL = "central"
KIND = "muscles"
_STREAM = 700  # of seeds, so that no stream is one of the first study's

ViewName = Literal["single", "arm", "midline"]


@dataclass(frozen=True)
class Scale:
    """Size of a study: people of each age group, how often each muscle is scanned, and views of two muscles.

    Attributes:
        central: people of the test cohort by default.
        sides: scanned of each person.
        second_view: chance that a muscle is scanned twice on a side.
        pairs: chance of a view of two muscles, for each arm and for the belly.
    """

    people: Mapping[str, int]
    central: int
    sides: int
    second_view: float
    pairs: float


SCALES = {
    "full": Scale(GROUP_SIZES, 48, 2, 0.5, 0.5),
    "small": Scale({"young": 11, "middle": 11, "elderly": 25}, 24, 2, 0.0, 0.5),
    "tiny": Scale({"young": 4, "middle": 4, "elderly": 10}, 6, 1, 0.0, 0.5),
}


@dataclass(frozen=True)
class Parameters:
    """All that the bytes of a cohort depend on; ``annotates`` is (hospital, muscles) for those that were asked for."""

    scale: str
    seed: int
    sites: int
    central_participants: int
    width_px: int
    device_shift: float = 1.0
    peroneus: Sign = "physiological"
    annotates: tuple[tuple[str, tuple[str, ...]], ...] = ()
    kind: str = KIND
    version: int = VERSION


@dataclass(frozen=True)
class MuscleExam:
    """One person's visit: one day, one device, one file format, at a hospital or as one hospital would do it."""

    participant_id: str
    male: bool
    age_years: int
    hospital: Hospital
    annotates: tuple[str, ...]
    day: date
    device: str
    jpg: bool
    rgb: bool


@dataclass(frozen=True)
class PlannedView:
    """One image to draw and write.

    Attributes:
        number: within the exam, from 1.
        scanned: the muscle, or two side by side.
        side: "left", "right", or "" on the midline.
        seeds: of the image's own generator; the last one is ``number``.
    """

    exam: MuscleExam
    number: int
    scanned: Subject | Pair
    side: str
    burned_in: bool
    grey_bar_region: bool
    seeds: tuple[int, ...]
    width_px: int
    device_shift: float

    @property
    def participant_id(self) -> str:
        """Whose image it is."""
        return self.exam.participant_id

    @property
    def machine(self) -> Device:
        """What it is scanned with."""
        return shifted(DEVICES[self.exam.device], self.device_shift)

    @property
    def muscles(self) -> tuple[str, ...]:
        """In the picture, from left to right."""
        if isinstance(self.scanned, Subject):
            return (self.scanned.muscle,)
        return (self.scanned.left.muscle, self.scanned.right.muscle)

    @property
    def view(self) -> ViewName:
        """What kind of view it is."""
        if len(self.muscles) == 1:
            return "single"
        return "arm" if len(set(self.muscles)) == 2 else "midline"

    @property
    def drawn(self) -> tuple[str, ...]:
        """Muscles in the picture that are annotated, from left to right."""
        return tuple(m for m in self.muscles if m in self.exam.annotates)

    @property
    def muscle(self) -> str:
        """What images.csv calls the image: the first muscle that is annotated, else the first."""
        return (self.drawn or self.muscles)[0]

    @property
    def image(self) -> str:
        """Path inside the site's folder."""
        return f"images/{self.participant_id}_{self.number:02d}{'.jpg' if self.exam.jpg else '.dcm'}"

    @property
    def mask(self) -> str:
        """Path inside the site's folder; "" where nothing is drawn."""
        if not self.drawn:
            return ""
        return f"masks/{self.participant_id}_{self.number:02d}{SUFFIX[self.exam.hospital.mask_format]}"

    def outlines(self, masks: Sequence[Outlined]) -> list[Outlined]:
        """Of the masks of ``muscles``, those that are annotated."""
        return [(muscle, mask) for muscle, mask in masks if muscle in self.exam.annotates]


@dataclass(frozen=True)
class MuscleSite:
    """One folder: its people and views; of ``central``, ``hospital`` is None."""

    name: str
    hospital: Hospital | None
    ids: tuple[str, ...]
    people: Persons
    muscles: tuple[dict[tuple[str, str], Subject], ...] = field(repr=False)
    views: tuple[PlannedView, ...] = field(repr=False)


def plan_muscles(parameters: Parameters) -> list[MuscleSite]:
    """Every person and view of the hospitals and of ``central``, drawn but not rendered.

    Raises:
        ConfigError: a parameter is out of range.
    """
    _check(parameters)
    scale = SCALES[parameters.scale]
    sites = hospitals(parameters.sites, dict(parameters.annotates))
    if sum(scale.people.values()) < len(sites):
        raise ConfigError(f"sites: {parameters.sites}; the {sum(scale.people.values())} people are too few for them")
    plans = [
        _plan_site(site.name, [site], sizes, parameters, stream)
        for stream, (site, sizes) in enumerate(zip(sites, _dealt(scale.people, len(sites)), strict=True), start=1)
    ]
    if parameters.central_participants:
        central = _proportional(scale.people, parameters.central_participants)
        plans.append(_plan_site(CENTRAL, sites, central, parameters, len(sites) + 1))
    return plans


def _check(parameters: Parameters) -> None:
    limits = {
        "seed": (parameters.seed >= 0, "it must be 0 or more"),
        "width_px": (parameters.width_px >= MIN_WIDTH_PX, f"at least {MIN_WIDTH_PX} is needed"),
        "central_participants": (parameters.central_participants >= 0, "it must be 0 (no such cohort) or more"),
        "device_shift": (0 <= parameters.device_shift <= MAX_SHIFT, f"between 0 and {MAX_SHIFT:g} is needed"),
        "scale": (parameters.scale in SCALES, f"expected one of {', '.join(SCALES)}"),
        "peroneus": (parameters.peroneus in ("physiological", "as_printed"), "expected physiological or as_printed"),
    }
    for name, (holds, expected) in limits.items():
        if not holds:
            raise ConfigError(f"{name}: {getattr(parameters, name)!r}; {expected}")


def _dealt(people: Mapping[str, int], number: int) -> list[dict[str, int]]:
    """Each age group over the hospitals, one person after the other, going on where the group before ended."""
    sizes: list[dict[str, int]] = [dict.fromkeys(people, 0) for _ in range(number)]
    turn = 0
    for group, count in people.items():
        for _ in range(count):
            sizes[turn % number][group] += 1
            turn += 1
    return sizes


def _proportional(people: Mapping[str, int], number: int) -> dict[str, int]:
    """So many people, in the groups' shares; what rounding leaves goes to the last group."""
    total = sum(people.values())
    sizes = {group: number * count // total for group, count in people.items()}
    sizes[list(sizes)[-1]] += number - sum(sizes.values())
    return sizes


def _plan_site(
    name: str, mixture: Sequence[Hospital], sizes: Mapping[str, int], parameters: Parameters, stream: int
) -> MuscleSite:
    """A site's people, each scanned and drawn as at one hospital of the mixture."""
    rng = np.random.default_rng([parameters.seed, _STREAM + stream])
    people = draw_persons(dict(sizes), rng)
    muscles = draw_muscles(people, parameters.peroneus, rng)
    code = "MCT" if name == CENTRAL else mixture[0].code
    ids = tuple(f"SYN-{code}-{k + 1:04d}" for k in range(len(people)))
    views: list[PlannedView] = []
    for k, id_ in enumerate(ids):  # numpy pads seeds with zeros, so none may end in one
        rng = np.random.default_rng([parameters.seed, _STREAM + stream, k + 1])
        hospital = mixture[k % len(mixture)]
        annotates = tuple(MUSCLES) if name == CENTRAL else hospital.annotates
        exam = _plan_exam(id_, people, k, hospital, annotates=annotates, rng=rng)
        scans = _scans(muscles[k], SCALES[parameters.scale], rng)
        views += [
            PlannedView(
                exam,
                number,
                scanned,
                side,
                burned_in=bool(rng.random() < BURNED_IN_SHARE),
                grey_bar_region=bool(rng.random() < GREY_BAR_REGION_SHARE),
                seeds=(parameters.seed, _STREAM + stream, k + 1, number),
                width_px=parameters.width_px,
                device_shift=parameters.device_shift,
            )
            for number, (scanned, side) in enumerate(scans, start=1)
        ]
    return MuscleSite(name, None if name == CENTRAL else mixture[0], ids, people, tuple(muscles), tuple(views))


def _plan_exam(  # noqa: PLR0913 - a visit is all of these
    id_: str, people: Persons, k: int, hospital: Hospital, *, annotates: tuple[str, ...], rng: np.random.Generator
) -> MuscleExam:
    first, last = hospital.period
    devices, shares = zip(*hospital.devices, strict=True)
    return MuscleExam(
        participant_id=id_,
        male=bool(people.male[k]),
        age_years=int(people.age_years[k]),
        hospital=hospital,
        annotates=annotates,
        day=first + timedelta(days=int(rng.integers((last - first).days + 1))),
        device=str(rng.choice(devices, p=shares)),
        jpg=bool(rng.random() < hospital.jpg_share),
        rgb=bool(rng.random() < hospital.rgb_share),
    )


def _scans(
    mine: Mapping[tuple[str, str], Subject], scale: Scale, rng: np.random.Generator
) -> list[tuple[Subject | Pair, str]]:
    """One person's views with their sides, muscle by muscle."""
    sides = ["right", "left"] if scale.sides == 2 else [str(rng.choice(["right", "left"]))]
    scans: list[tuple[Subject | Pair, str]] = []
    for muscle in MUSCLES:
        for side in sides:
            scans += [(mine[muscle, side], side)] * (1 + int(rng.random() < scale.second_view))
    for side in sides:
        if rng.random() < scale.pairs:
            arm = (mine["biceps_brachii", side], mine["triceps_brachii", side])
            scans.append((Pair(*arm, float(rng.uniform(1.2, 2.5))), side))
    if rng.random() < scale.pairs:  # seen from the feet, as in all cross-sections: the right side is on the left
        halves = (mine["rectus_abdominis", "right"], mine["rectus_abdominis", "left"])
        scans.append((Pair(*halves, float(rng.uniform(4, 14))), ""))
    return scans
