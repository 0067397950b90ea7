"""The fingerprint of the hospitals' images, as sums that add up, and the network that nnU-Net's rules make of it.

nnU-Net looks at a data set and derives its network by fixed rules (Isensee et al. 2021). No hospital sees the others'
images, so here every training participant is a row of numbers (:data:`FINGERPRINT`), whose sums over hospitals are
:class:`sarco_models.summaries.Moments` and may be noised as those of tables are. The rules, and what differs:

* Patch: nnU-Net takes medians; here it is a square around the whole tissue region of nearly everybody (mean + 2 SD).
  Where that needs more pixels than the budget has, they become larger, as in nnU-Net's low resolution; sliding windows
  are not needed. Pixels are never smaller than those of the images are on average.
* Stages: the patch is halved while 4 pixels are left along its side, 8 stages at most (as there).
* Features: 32, doubled from stage to stage, 512 at most (as there), all times the budget's ``width``: with a quarter
  the network trains on two cores.
* Grey levels: minus the mean, by the standard deviation, over the muscles' pixels of all hospitals, as nnU-Net does
  where they mean the same everywhere; without its clipping of the darkest and brightest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sarco_models.config import ImageConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.frames import Frame
from sarco_models.schema import Column
from sarco_models.segmentation import BACKGROUND, OUTSIDE, PlanConfig
from sarco_models.summaries import Moments

GROUP = "fingerprint"

FINGERPRINT = (
    Column("region_height_mm", GROUP, 10.0, 160.0, zero_one=False),
    Column("region_width_mm", GROUP, 10.0, 160.0, zero_one=False),
    Column("mm_per_pixel", GROUP, 0.01, 0.5, zero_one=False),
    Column("grey_mean", GROUP, 0.0, 255.0, zero_one=False),
    Column("grey_sd", GROUP, 0.0, 127.5, zero_one=False),
)
"""What is summed over participants: the tissue region's sides, the size of its pixels, grey levels inside the muscles.

The limits are of what is summed: a number beyond them counts as the limit, so that what a person adds is bounded.
"""


@dataclass(frozen=True)
class Budget:
    """What a network may cost; nnU-Net asks the memory of the graphics processor.

    Attributes:
        side: pixels along the patch's side, at most.
        width: of the features that nnU-Net has.
    """

    side: int
    width: float


SMALL, FULL = Budget(128, 0.25), Budget(512, 1.0)
"""For two cores; and nnU-Net's own features, for a graphics processor."""

FEATURES, MOST_FEATURES, SMALLEST_MAP, MOST_STAGES = 32, 512, 4, 8
"""nnU-Net's own numbers for 2-D (Isensee et al. 2021, supplementary note 2)."""

GROUP_OF = 8
"""Features come in groups of a group norm."""

_STEP = 32
"""Sides of a patch are multiples of it, so that it can be halved five times."""

_REACH_SD = 2.0

_COARSEST_MM = 2.0
"""Of a pixel: a plan with coarser ones is none, whatever the budget."""


def fingerprint(frames: Sequence[Frame], classes: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """One participant's numbers: the mean over that person's images, each within its column's limits.

    Args:
        frames: the participant's images.
        classes: (height, width) of each, as :attr:`sarco_models.drawn.Drawn.classes`.

    Returns:
        (columns,) in the order of :data:`FINGERPRINT`; NaN where nothing is known: no image says its millimetres, no
        muscle is drawn.
    """
    sides = [
        (
            f.pixels.shape[0] * f.mm_per_pixel[0],
            f.pixels.shape[1] * f.mm_per_pixel[1],
            math.sqrt(math.prod(f.mm_per_pixel)),
        )
        for f in frames
        if f.mm_per_pixel
    ]
    inside = [f.pixels[(c != BACKGROUND) & (c != OUTSIDE)] for f, c in zip(frames, classes, strict=True)]
    grey = np.array([(g.mean(), g.var()) for g in inside if g.size])
    found = np.full(len(FINGERPRINT), np.nan)
    if sides:
        found[:3] = np.mean(sides, axis=0)
    if grey.size:  # the deviation of all images together, each of the same weight
        found[3:] = grey[:, 0].mean(), math.sqrt(grey[:, 1].mean() + grey[:, 0].var())
    limits = np.array([(c.low, c.high) for c in FINGERPRINT])
    return np.asarray(np.clip(found, limits[:, 0], limits[:, 1]), dtype=np.float64)


def plan_of(moments: Moments, budget: Budget = SMALL) -> PlanConfig:
    """The network that nnU-Net's rules make of the merged fingerprint of all hospitals.

    Args:
        moments: of the columns of :data:`FINGERPRINT`, over the training participants of all hospitals.
        budget: what the network may cost.

    Raises:
        UndefinedMetric: nobody's images say their millimetres, or nobody has drawn a muscle.
    """
    if len(moments.count) != len(FINGERPRINT):
        raise ValueError(f"moments of {len(moments.count)} columns; a fingerprint has {len(FINGERPRINT)}")
    for column, count in zip(FINGERPRINT, moments.count, strict=True):
        if not count:
            reason = "no image is drawn on" if column.name.startswith("grey") else "no image says its mm per pixel"
            raise UndefinedMetric(
                f"{column.name} of the training participants: {reason} at any hospital, so nothing can be planned: "
                'give the images spacing and masks, or write network = "unet"'
            )
    mean, deviation = moments.mean(FINGERPRINT), moments.standard_deviation(FINGERPRINT)
    reach = min(math.ceil(float(np.max(mean[:2] + _REACH_SD * deviation[:2]))), FINGERPRINT[0].high)
    side = _side(reach, float(mean[2]), budget)
    # Of all pixels: the variance within people, whose root was summed, and the variance between them.
    grey_sd = math.sqrt(float(mean[4] ** 2 + deviation[4] ** 2 + deviation[3] ** 2))
    return PlanConfig(
        patch=(side, side),
        mm_per_pixel=round(reach / side, 4),
        features=features_of(side, budget.width),
        convolutions=2,
        grey_mean=round(float(mean[3]), 2),
        grey_sd=round(max(grey_sd, 1.0), 2),
    )


def features_of(side: int, width: float = 1.0) -> tuple[int, ...]:
    """Features of every stage of a network whose input is ``side`` pixels wide, finest first.

    Args:
        side: pixels along the patch's side.
        width: of nnU-Net's own number; whole groups of 8 are left.
    """
    stages = 1
    while side % 2**stages == 0 and side // 2**stages >= SMALLEST_MAP and stages < MOST_STAGES:
        stages += 1
    wanted = [min(FEATURES * 2**k, MOST_FEATURES) * width for k in range(stages)]
    return tuple(max(round(number / GROUP_OF), 1) * GROUP_OF for number in wanted)


def planned_image(plan: PlanConfig, image: ImageConfig) -> ImageConfig:
    """The study's section [image] that fits a plan: its framing shows the network the planned millimetres."""
    side = plan.patch[0]
    return image.model_copy(
        update={"size": side, "framing": "physical", "window_mm": round(side * plan.mm_per_pixel, 1), "roi": "none"}
    )


def _side(reach_mm: float, mm_per_pixel: float, budget: Budget) -> int:
    """Pixels along the side: as small as those of the images are, within the budget, in whole steps."""
    wanted, most, least = reach_mm / mm_per_pixel, max(budget.side, 2 * _STEP), reach_mm / _COARSEST_MM
    steps = min(math.ceil(wanted / _STEP), most // _STEP)
    return max(steps, math.ceil(least / _STEP), 2) * _STEP
