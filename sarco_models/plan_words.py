"""A plan in words: what was planned, which statistic led to it, and what should make people look twice.

nnU-Net writes a plan that only its authors can read. Here every number stands beside the sentence that explains it, for
hospitals approve the study that the plan becomes a part of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import StudyConfig
from sarco_models.fingerprint import (
    BUDGETS,
    FEATURES,
    FINGERPRINT,
    MOST_STAGES,
    REACH_SD,
    SMALLEST_MAP,
    plan_of,
    planned_image,
    reach_of,
)
from sarco_models.segmentation import PlanConfig
from sarco_models.summaries import Moments

FEWEST_PEOPLE = 20
"""With fewer participants a deviation is off by a sixth of itself or more (SD): a plan may be another one tomorrow."""

WIDEST_RATIO = 2.0
"""Between hospitals, of the mean size of a pixel or of a region: scanners lie closer, a wrong unit does not."""

COARSE_RATIO = 3.0
"""Of the pixels of a plan to those of the images: beyond it the network sees clearly less than who drew."""

MOST_WIDER_MM = 5.0
"""By which noise may let the window grow: a tenth of what most scanners show."""

_NAMES = tuple(c.name for c in FINGERPRINT)
_SIZES = ("height of the tissue", "width of the tissue", "size of a pixel")


@dataclass(frozen=True)
class Reason:
    """One number of a plan.

    Attributes:
        what: the number's name, for people.
        value: as people write it.
        because: the statistic and the rule that led to it.
    """

    what: str
    value: str
    because: str


def planned_study(study: StudyConfig, plan: PlanConfig) -> StudyConfig:
    """The study with its plan, and images framed as it asks: another study, with another digest to be approved."""
    if study.segmentation is None:
        raise ValueError("a study without [segmentation] has no plan")
    segmentation = study.segmentation.model_copy(update={"plan": plan})
    image = planned_image(plan, study.image)
    changed = study.model_copy(update={"segmentation": segmentation, "image": image})
    return StudyConfig.model_validate_json(changed.model_dump_json())  # checked as a study file is


def reasons(study: StudyConfig, moments: Moments) -> tuple[Reason, ...]:
    """Every number of the plan that these sums make, in the order in which one follows from the other.

    Args:
        study: without a plan yet.
        moments: of all hospitals together.

    Raises:
        UndefinedMetric: nothing can be planned (:func:`sarco_models.fingerprint.plan_of`).
    """
    name = study.segmentation.budget if study.segmentation else "small"
    budget = BUDGETS[name]
    plan, found = plan_of(moments, budget), _statistics(moments)
    side, reach, stages = plan.patch[0], reach_of(moments), len(plan.features)
    own_mm, training = found["mm_per_pixel"][0], study.training
    finest = "the network's are as fine" if plan.mm_per_pixel <= own_mm * 1.005 else "the network's become larger"
    deepest = f"while {SMALLEST_MAP} pixels or more are left" if stages < MOST_STAGES else "no deeper network is built"
    shares = f"{FEATURES} at full resolution, doubled from stage to stage, 512 at most"
    return (
        Reason(
            "window",
            f"{reach:g} mm",
            f"tissue regions are {_told(found, 'region_height_mm')} mm high and {_told(found, 'region_width_mm')} mm "
            f"wide: mean + {REACH_SD:g} SD of the longer side shows nearly everybody's whole",
        ),
        Reason(
            "patch",
            f"{side} x {side} pixels",
            f"pixels of the images have {own_mm:.3f} mm on average; {finest}, for the budget {name!r} allows "
            f"{budget.side} along a side",
        ),
        Reason(
            "spacing",
            f"{plan.mm_per_pixel:g} mm per pixel",
            "the window divided by the patch, the same in both directions",
        ),
        Reason("stages", str(stages), f"{side} pixels halved {stages - 1} times: {deepest}"),
        Reason("features", ", ".join(map(str, plan.features)), f"{shares}, times {budget.width:g} of the budget"),
        Reason("convolutions", f"{plan.convolutions} in each stage", "as in every plan of nnU-Net's"),
        Reason(
            "deep supervision",
            f"{max(stages - 2, 1)} resolutions",
            "Dice and cross-entropy at all resolutions of the way up but the lowest; each weighs half of the one above",
        ),
        Reason(
            "grey levels",
            f"{plan.grey_mean:g} +- {plan.grey_sd:g}",
            f"pixels inside the muscles: mean {_told(found, 'grey_mean')} between people, SD "
            f"{_told(found, 'grey_sd')} within them",
        ),
        Reason(
            "batch",
            f"{training.batch_participants} people x {training.images_per_participant} images",
            "the study's own: nnU-Net fills a graphics processor's memory, and hospitals have different machines",
        ),
    )


def warnings(study: StudyConfig, sites: Mapping[str, Moments], plan: PlanConfig) -> tuple[str, ...]:
    """What should make people look twice before they approve a plan.

    Args:
        study: whether its sums are under noise.
        sites: what each hospital has told.
        plan: that was made of all of it.
    """
    found = []
    for site, moments in sites.items():
        if not moments.count[:3].any():
            found.append(
                f"{site} has told no sizes: none of its training images says its mm per pixel, or those of fewer than "
                "min_cell people do, or its policy keeps sums: the plan is made without it, and images without spacing "
                "are left out of the training: give them one in calibration.csv"
            )
    for k in range(len(_SIZES)):
        found += _apart({site: m for site, m in sites.items() if m.count[k]}, k)
    everybody = sum(list(sites.values())[1:], start=next(iter(sites.values())))
    people = int(everybody.count[:3].max())
    if people < FEWEST_PEOPLE:
        found.append(
            f"the plan rests on {people} participants, and their spread is a guess with fewer than {FEWEST_PEOPLE}: "
            "plan again when there are more"
        )
    found += _noised(study, len(sites), max(people, 1))
    own_mm = float(everybody.mean(FINGERPRINT)[2])
    if plan.mm_per_pixel > COARSE_RATIO * own_mm:
        found.append(
            f"the network's pixels have {plan.mm_per_pixel:.3f} mm, the images' {own_mm:.3f} mm on average: "
            'outlines are found more coarsely: write segmentation.budget = "full" if hospitals have graphics processors'
        )
    return tuple(found)


def _noised(study: StudyConfig, sites: int, people: int) -> Sequence[str]:
    """A sentence where the sums are under noise that moves the window."""
    if study.privacy is None:
        return ()
    from sarco_models.accounting import plan as noise_plan
    from sarco_models.private_statistics import description_sensitivity

    spend = noise_plan(study).statistics
    if spend is None:
        return ()
    sensitivity = description_sensitivity(FINGERPRINT, np.ones(len(FINGERPRINT), dtype=np.bool_))
    share = math.sqrt(sites) * spend.noise_multiplier * sensitivity / people
    span = FINGERPRINT[0].high - FINGERPRINT[0].low
    # A variance that noise could hide is taken for that large (private_statistics): the window grows, never shrinks.
    wider = REACH_SD * math.sqrt(min(share, 1 / 36)) * span
    if wider < MOST_WIDER_MM:
        return ()
    return (
        f"the sums are under noise, which of {people} participants lets the window grow by up to {wider:.0f} mm beyond "
        'what the images need: plan with more participants, or with privacy.statistics = "exact"',
    )


def _apart(sites: Mapping[str, Moments], column: int) -> Sequence[str]:
    """A sentence where hospitals' means of a column lie widely apart."""
    means = {site: float(m.mean(FINGERPRINT)[column]) for site, m in sites.items()}
    if not means:
        return ()
    low, high = min(means, key=lambda s: means[s]), max(means, key=lambda s: means[s])
    if means[high] <= WIDEST_RATIO * means[low]:
        return ()
    return (
        f"{_SIZES[column]}: {means[high]:.3g} mm at {high} and {means[low]:.3g} mm at {low}, a factor of "
        f"{means[high] / means[low]:.1f}; scanners lie within {WIDEST_RATIO:g}: let both look at the spacing that "
        "sarco-site check-data shows, and at the unit of calibration.csv",
    )


def _statistics(moments: Moments) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every column."""
    mean, deviation = moments.mean(FINGERPRINT), moments.standard_deviation(FINGERPRINT)
    return {name: (float(mean[k]), float(deviation[k])) for k, name in enumerate(_NAMES)}


def _told(found: Mapping[str, tuple[float, float]], name: str) -> str:
    mean, deviation = found[name]
    return f"{mean:.1f} +- {deviation:.1f}"


def statistics(moments: Moments) -> dict[str, dict[str, float]]:
    """Count, mean and standard deviation of every column, for records; a column that nobody has is absent."""
    counts: NDArray[np.int64] = moments.count
    return {
        name: {"participants": int(counts[k]), "mean": round(mean, 6), "sd": round(deviation, 6)}
        for k, (name, (mean, deviation)) in enumerate(_statistics(moments).items())
        if counts[k]
    }
