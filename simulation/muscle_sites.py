"""The hospitals of the muscle study: three ways of scanning, storing and drawing, and more hospitals that repeat them.

No publication describes them: Zhang et al. (Gerontechnology 25(s)) had one hospital. Machines are those of the first
paper; who draws what is made so that every muscle is drawn at two hospitals and no hospital draws all (partial labels).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType

from sarco_models.errors import ConfigError
from simulation.anatomy import MUSCLES
from simulation.label_formats import WORDS, Format

MOST_SITES = 9


@dataclass(frozen=True)
class Hospital:
    """One hospital.

    Attributes:
        name: folder and site name.
        code: the middle of its participant ids, ``SYN-MA-0001``.
        devices: devices of ``devices.DEVICES``, each with the share of participants that it scans.
        mask_format: of the program in which its physicians draw.
        annotates: the muscles that they draw; on all images that show one.
        short_names: it writes muscles as in its masks in images.csv, else in full.
        jpg_share: participants whose images were exported as JPG, without any header.
        rgb_share: participants with DICOM whose images are in colour.
        period: first and last day of examination.
    """

    name: str
    code: str
    devices: tuple[tuple[str, float], ...]
    mask_format: Format
    annotates: tuple[str, ...]
    short_names: bool = False
    jpg_share: float = 0.0
    rgb_share: float = 0.0
    period: tuple[date, date] = (date(2024, 1, 8), date(2024, 12, 20))

    def called(self, muscle: str) -> str:
        """How images.csv names a muscle here."""
        return WORDS[muscle] if self.short_names else muscle


_PROFILES = (
    Hospital(
        name="",
        code="",
        devices=(("aixplorer", 1.0),),
        mask_format="labelme",
        annotates=("biceps_brachii", "triceps_brachii", "rectus_femoris"),
        short_names=True,
    ),
    Hospital(
        name="",
        code="",
        devices=(
            ("mindray_m9", 0.5),
            ("mindray_mx7", 0.5),
        ),
        mask_format="itksnap",
        annotates=("biceps_brachii", "rectus_abdominis", "rectus_femoris", "peroneus_longus_brevis"),
        rgb_share=0.4,
    ),
    Hospital(
        name="",
        code="",
        devices=(("samsung_r10", 1.0),),
        mask_format="palette",
        annotates=("triceps_brachii", "rectus_abdominis", "peroneus_longus_brevis"),
        jpg_share=1.0,
    ),
)


def hospitals(number: int, annotates: Mapping[str, Sequence[str]] = MappingProxyType({})) -> tuple[Hospital, ...]:
    """So many hospitals, ``hospital_a`` first; from the fourth on they scan and draw as the first three do.

    Args:
        number: 1 to ``MOST_SITES``.
        annotates: muscles that a hospital draws, by its name, instead of its own choice.

    Raises:
        ConfigError: the number is out of range, or a hospital or muscle unknown, or a hospital would draw nothing.
    """
    if not 1 <= number <= MOST_SITES:
        raise ConfigError(f"sites: {number}; from 1 to {MOST_SITES} hospitals can be made")
    made = []
    for k in range(number):
        letter, profile = chr(ord("a") + k), _PROFILES[k % len(_PROFILES)]
        made.append(replace(profile, name=f"hospital_{letter}", code=f"M{letter.upper()}"))
    names = [h.name for h in made]
    for name, muscles in annotates.items():
        if name not in names:
            raise ConfigError(f"annotates: {name!r} is no hospital; there are {', '.join(names)}")
        unknown = sorted(set(muscles) - set(MUSCLES))
        if unknown or not muscles:
            wrong = repr(unknown[0]) if unknown else "no muscle"
            raise ConfigError(f"annotates: {wrong} at {name}; expected one or more of {', '.join(MUSCLES)}")
    return tuple(
        replace(h, annotates=tuple(m for m in MUSCLES if m in annotates[h.name])) if h.name in annotates else h
        for h in made
    )
