"""The three hospitals of Chen et al. (2025), as frozen data: whom they saw, how many, with which machine and rule.

Centre A is ``shanghai``, B ``sichuan``, C ``zhongshan``. Counts, ages, prevalence and devices are the paper's; where it
says nothing (device shares, sex and laboratory values at B and C) the value is an assumption, noted in SCIENCE 2.1.
"""

import math
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from sarco_models.errors import ConfigError

LabelRule = Literal["awgs2019", "ct_l3_smi"]
MaskFormat = Literal["nifti", "png", "labelme"]
T = TypeVar("T")


@dataclass(frozen=True)
class PerClass(Generic[T]):
    """One value for participants without and one for participants with sarcopenia."""

    healthy: T
    sarcopenia: T

    def __getitem__(self, sarcopenia: bool) -> T:
        """``value[True]`` is that of sarcopenia."""
        return self.sarcopenia if sarcopenia else self.healthy


@dataclass(frozen=True)
class Counts:
    """Participants and images of one cohort, per class."""

    participants: PerClass[int]
    images: PerClass[int]


Knots = tuple[float, float, float, float, float]  # minimum, first quartile, median, third quartile, maximum


@dataclass(frozen=True)
class Center:
    """One hospital.

    Attributes:
        name: folder and site name.
        code: the middle of its participant ids, ``SYN-SH-0001``.
        full: counts of the paper.
        images_each: fewest and most images of one participant, per class.
        male_share: per class.
        quantiles: columns whose distribution differs from Table 1 of the paper (which is centre A), per class.
        shifts: columns that are Table 1 plus a constant, in the column's unit.
        devices: share of participants scanned with each device of ``devices.DEVICES``.
        period: first and last day of examination.
        mask_format: of the program in which the radiologists drew.
        jpg_share: participants whose images were exported as JPG, without any header.
        rgb_share: participants with DICOM whose images are in colour, as some machines store grey pictures.
        missing_share: participants with at least one empty cell.
        image_effect: size of sarcopenia's effect on the images, relative to centre A.
        edema: fluid retention in everyone (decompensated cirrhosis): more fat depth and echo, less muscle.
    """

    name: str
    code: str
    label_rule: LabelRule
    full: Counts
    images_each: PerClass[tuple[int, int]]
    male_share: PerClass[float]
    quantiles: MappingProxyType[str, PerClass[Knots]]
    shifts: MappingProxyType[str, float]
    devices: MappingProxyType[str, float]
    period: tuple[date, date]
    mask_format: MaskFormat
    jpg_share: float = 0.0
    rgb_share: float = 0.0
    missing_share: float = 0.0
    image_effect: float = 1.0
    edema: bool = False


SHANGHAI = Center(
    name="shanghai",
    code="SH",
    label_rule="awgs2019",
    full=Counts(PerClass(256, 101), PerClass(2127, 608)),
    images_each=PerClass((4, 12), (3, 10)),
    male_share=PerClass(117 / 256, 53 / 101),
    quantiles=MappingProxyType({}),
    shifts=MappingProxyType({}),
    devices=MappingProxyType({"aixplorer": 1.0}),
    period=(date(2021, 10, 1), date(2022, 12, 31)),
    mask_format="nifti",
    missing_share=86 / 357,
)

SICHUAN = Center(
    name="sichuan",
    code="SC",
    label_rule="awgs2019",
    full=Counts(PerClass(77, 68), PerClass(252, 100)),
    images_each=PerClass((2, 5), (1, 3)),
    male_share=PerClass(0.46, 0.53),
    quantiles=MappingProxyType(
        {"age_years": PerClass((60, 65.2, 69.2, 73.8, 92), (60, 69.2, 73.8, 79.6, 95))},
    ),
    shifts=MappingProxyType({}),
    devices=MappingProxyType({"aixplorer": 0.4, "mindray_m9": 0.3, "mindray_mx7": 0.3}),
    period=(date(2023, 5, 1), date(2023, 12, 31)),
    mask_format="png",
    jpg_share=0.5,
    rgb_share=0.4,
)

ZHONGSHAN = Center(  # decompensated cirrhosis; marginals from Zeng et al. (2021), PMC8718091
    name="zhongshan",
    code="ZS",
    label_rule="ct_l3_smi",
    full=Counts(PerClass(63, 19), PerClass(632, 185)),
    images_each=PerClass((6, 12), (6, 12)),
    male_share=PerClass(0.56, 0.79),
    quantiles=MappingProxyType(
        {
            "age_years": PerClass((60, 62.8, 65.6, 70.0, 86), (60, 64.0, 68.4, 73.6, 88)),
            "albumin_g_per_l": PerClass((18, 28.9, 32.9, 36.9, 46), (17, 27.5, 31.5, 35.5, 45)),
            "bmi_kg_per_m2": PerClass((16, 21.8, 24.1, 26.4, 35), (14.5, 19.2, 21.3, 23.3, 30)),
        },
    ),
    shifts=MappingProxyType(
        {
            "haemoglobin_g_per_l": -26.0,
            "ft3_pmol_per_l": -0.9,
            "tt3_nmol_per_l": -0.35,
            "total_cholesterol_mmol_per_l": -0.9,
            "ldl_mmol_per_l": -0.6,
            "hdl_mmol_per_l": -0.25,
            "vitd_25oh_ng_per_ml": -6.0,
        }
    ),
    devices=MappingProxyType({"samsung_r10": 1.0}),
    period=(date(2023, 10, 1), date(2024, 1, 31)),
    mask_format="labelme",
    image_effect=0.65,
    edema=True,
)

CENTERS = {c.name: c for c in (SHANGHAI, SICHUAN, ZHONGSHAN)}


@dataclass(frozen=True)
class Preset:
    """What the paper leaves open or contradicts itself on (SCIENCE 1.6, 2.3, 2.4).

    Attributes:
        correlation: multiplies all loadings on the shared factors; 0 makes columns independent given class and sex.
        calf: ``table`` is the implausibly narrow row of Table 1, ``plausible`` a wider one.
        lab_separation: distance of the two classes' laboratory quantiles, 1 = as printed.
        image_effect: size of sarcopenia's effect on the images; tuned to the paper's AUC, so calibration, not evidence.
        coupling: correlation of image parameters with the factors behind the tables, within a class.
        sichuan_images: overrides centre B's image counts, which the paper gives twice and differently.
    """

    correlation: float = 0.5
    calf: Literal["table", "plausible"] = "table"
    lab_separation: float = 0.70
    image_effect: float = 1.0
    coupling: float = 0.85
    sichuan_images: PerClass[int] | None = None


PRESETS = {
    "paper_matched": Preset(),
    "table1_faithful": Preset(calf="plausible", lab_separation=1.0),
    "as_printed": Preset(sichuan_images=PerClass(252, 70)),
}

TINY = {
    "shanghai": Counts(PerClass(17, 7), PerClass(34, 14)),
    "sichuan": Counts(PerClass(6, 6), PerClass(14, 8)),
    "zhongshan": Counts(PerClass(8, 4), PerClass(16, 8)),
}
SMALL_SHARE = 0.25
LEAST_PER_CLASS = 2


def preset_named(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset: {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def counts_at(center: Center, scale: str, preset: Preset, prevalence_shift: float = 1.0) -> Counts:
    """Participants and images per class of a centre at a scale.

    Args:
        center: whose.
        scale: ``full``, ``small`` or ``tiny``.
        preset: may override centre B's images.
        prevalence_shift: how many times as far as in the paper a centre's prevalence lies from that of the three
            centres together, on the logit scale; participants in all and images of each stay as they are.

    Raises:
        ConfigError: there is no such scale, or a class would have fewer than ``LEAST_PER_CLASS`` participants.
    """
    counts = _counts_as_printed(center, scale, preset)
    people = counts.participants
    total = people.healthy + people.sarcopenia
    together = [sum(c.full.participants[k] for c in CENTERS.values()) for k in (True, False)]
    middle, own = math.log(together[0] / together[1]), math.log(people.sarcopenia / people.healthy)
    odds = math.exp(middle + prevalence_shift * (own - middle))
    sarcopenia = round(total * odds / (1 + odds))
    if not LEAST_PER_CLASS <= sarcopenia <= total - LEAST_PER_CLASS:
        raise ConfigError(
            f"prevalence_shift: {prevalence_shift:g} leaves {min(sarcopenia, total - sarcopenia)} of the {total} at "
            f"{center.name} in one class; at least {LEAST_PER_CLASS} are needed: lower it, or take a larger scale"
        )
    return _with_classes(counts, PerClass(total - sarcopenia, sarcopenia))


def _counts_as_printed(center: Center, scale: str, preset: Preset) -> Counts:
    full = center.full
    if center is SICHUAN and preset.sichuan_images is not None:
        full = replace(full, images=preset.sichuan_images)
    match scale:
        case "full":
            return full
        case "small":
            return Counts(_share(full.participants, SMALL_SHARE), _share(full.images, SMALL_SHARE))
        case "tiny":
            return TINY[center.name]
    raise ConfigError(f"scale: {scale!r}; expected one of full, small, tiny")


def counts_of_sample(counts: Counts, num_participants: int) -> Counts:
    """Counts of a cohort of another size, with the class shares and the images per participant of ``counts``."""
    people = counts.participants
    total = people.healthy + people.sarcopenia
    sarcopenia = min(max(round(num_participants * people.sarcopenia / total), 1), num_participants - 1)
    return _with_classes(counts, PerClass(num_participants - sarcopenia, sarcopenia))


def _with_classes(counts: Counts, drawn: PerClass[int]) -> Counts:
    """So many people per class, with the images per participant of ``counts``."""
    people, images = counts.participants, counts.images
    return Counts(
        drawn,
        PerClass(
            round(images.healthy / people.healthy * drawn.healthy),
            round(images.sarcopenia / people.sarcopenia * drawn.sarcopenia),
        ),
    )


def _share(counts: PerClass[int], share: float) -> PerClass[int]:
    return PerClass(round(counts.healthy * share), round(counts.sarcopenia * share))
