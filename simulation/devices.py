"""The four ultrasound machines of the three centres, as data: what makes one hospital's images differ from another's.

``shifted`` moves a machine away from that of centre A, or towards it: the site shift of a study, turned up or down.

Names of machines and probes are those printed by Chen et al. (2025); every acoustic number is an assumption, chosen so
that the same tissue comes out at clearly different grey levels and contrasts, as Zaidman (2012) measured on real ones.
"""

from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True)
class Device:
    """One machine with its probe and its muscle preset.

    Attributes:
        key: name in code and tables.
        width_mm: length of the linear probe, which is the width of the picture.
        axial_psf_mm: standard deviation of the echo along the beam.
        lateral_psf_mm: standard deviation across the beam at the focus.
        depth_mm: smallest and largest depth that an operator sets for muscle; steps of ``DEPTH_STEP_MM``.
        dynamic_range_db: echo range between black and white.
        gamma: exponent of the grey map, relative to the renderer's own; larger is darker.
        compounding: 0 = one look, 1 = the mean of three looks at the speckle.
        noise_floor_db: electronic noise below full scale, at the skin.
        tgc_error_db: standard deviation of the operator's six depth-gain sliders around their best place.
        toe: share of the grey scale cut off at black.
        sharpening: strength of the axial edge enhancement.
    """

    key: str
    manufacturer: str
    model: str
    transducer: str
    width_mm: float
    frequency_mhz: float
    axial_psf_mm: float
    lateral_psf_mm: float
    focus_mm: float
    depth_mm: tuple[int, int]
    dynamic_range_db: float
    gamma: float
    gain_db: float
    compounding: float
    noise_floor_db: float
    tgc_error_db: float
    toe: float
    sharpening: float


DEPTH_STEP_MM = 5

_AIXPLORER = Device(
    key="aixplorer",
    manufacturer="SuperSonic Imagine",
    model="Aixplorer",
    transducer="SL10-2",
    width_mm=38.4,
    frequency_mhz=6.5,
    axial_psf_mm=0.17,
    lateral_psf_mm=0.30,
    focus_mm=20,
    depth_mm=(40, 55),
    dynamic_range_db=64,
    gamma=1.05,
    gain_db=0,
    compounding=0.60,
    noise_floor_db=-62,
    tgc_error_db=2.0,
    toe=0.0,
    sharpening=0.0,
)

_MINDRAY_M9 = Device(
    key="mindray_m9",
    manufacturer="Mindray",
    model="M9",
    transducer="SL10-3",
    width_mm=38.0,
    frequency_mhz=6.5,
    axial_psf_mm=0.20,
    lateral_psf_mm=0.36,
    focus_mm=22,
    depth_mm=(35, 50),
    dynamic_range_db=66,
    gamma=1.05,
    gain_db=2,
    compounding=0.75,
    noise_floor_db=-56,
    tgc_error_db=3.0,
    toe=0.03,
    sharpening=0.0,
)

_MINDRAY_MX7 = Device(
    key="mindray_mx7",
    manufacturer="Mindray",
    model="MX7",
    transducer="SL13-3",
    width_mm=38.0,
    frequency_mhz=8.0,
    axial_psf_mm=0.15,
    lateral_psf_mm=0.28,
    focus_mm=18,
    depth_mm=(35, 50),
    dynamic_range_db=70,
    gamma=1.12,
    gain_db=2,
    compounding=0.80,
    noise_floor_db=-58,
    tgc_error_db=2.5,
    toe=0.02,
    sharpening=0.5,
)

_SAMSUNG = Device(
    key="samsung_r10",
    manufacturer="Samsung Medison",
    model="R10 Prestige",
    transducer="SL12-3",
    width_mm=44.0,
    frequency_mhz=7.5,
    axial_psf_mm=0.15,
    lateral_psf_mm=0.27,
    focus_mm=22,
    depth_mm=(40, 60),
    dynamic_range_db=62,
    gamma=0.95,
    gain_db=0,
    compounding=0.65,
    noise_floor_db=-66,
    tgc_error_db=1.5,
    toe=0.0,
    sharpening=0.3,
)

DEVICES = {d.key: d for d in (_AIXPLORER, _MINDRAY_M9, _MINDRAY_MX7, _SAMSUNG)}

SHIFTED = {
    "frequency_mhz": (3.0, 15.0),
    "axial_psf_mm": (0.08, 0.40),
    "lateral_psf_mm": (0.15, 0.80),
    "focus_mm": (10.0, 40.0),
    "dynamic_range_db": (40.0, 100.0),
    "gamma": (0.5, 2.0),
    "gain_db": (-12.0, 12.0),
    "compounding": (0.0, 1.0),
    "noise_floor_db": (-80.0, -40.0),
    "tgc_error_db": (0.0, 6.0),
    "toe": (0.0, 0.2),
    "sharpening": (0.0, 2.0),
}
"""What a shift moves, and how far: the smallest and largest value that a machine for muscles has."""


@lru_cache(maxsize=64)
def shifted(device: Device, shift: float) -> Device:
    """The machine, ``shift`` times as far from centre A's in everything of ``SHIFTED``; name and field of view stay.

    Args:
        device: one of ``DEVICES``.
        shift: 0 = scans as centre A's machine does, 1 = the device itself, 2 = twice as different.
    """
    if shift == 1:
        return device
    moved = {}
    for name, (low, high) in SHIFTED.items():
        here, there = getattr(_AIXPLORER, name), getattr(device, name)
        moved[name] = min(max(here + shift * (there - here), low), high)
    return replace(device, **moved)


def machine_of(device: str | Device) -> Device:
    """The machine of that key, or the machine itself."""
    return DEVICES[device] if isinstance(device, str) else device
