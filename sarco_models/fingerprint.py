"""The fingerprint of the hospitals' images, as sums that add up, and the network that nnU-Net's rules make of it.

nnU-Net looks at a data set and derives its network by fixed rules (Isensee et al. 2021). No hospital sees the others'
images, so here every training participant is a row of numbers (:data:`FINGERPRINT`), whose sums over hospitals are
:class:`sarco_models.summaries.Moments` and may be noised as those of tables are. The rules, and what differs:

* Patch: nnU-Net takes medians; here it is a square around the whole tissue region of nearly everybody (mean + 2 SD).
  Where that needs more pixels than the budget has, they become larger, as in nnU-Net's low resolution; sliding windows
  are not needed. Pixels are never smaller than those of the images are on average.
* Stages: the patch is halved while 4 pixels are left along its side, and padded to a side that can be (as there).
* Features: 32, doubled from stage to stage, 512 at most (as there), all times the budget's ``width``: with a quarter
  the network trains on two cores.
* Grey levels: minus the mean, by the standard deviation, over the muscles' pixels of all hospitals, as nnU-Net does
  where they mean the same everywhere; without its clipping of the darkest and brightest.
"""

import math
from dataclasses import dataclass

import numpy as np

from sarco_models.config import ImageConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.fingerprint_facts import FINGERPRINT as FINGERPRINT
from sarco_models.segmentation import PlanConfig
from sarco_models.summaries import Moments


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

BUDGETS = {"small": SMALL, "full": FULL}
"""By the name that a study gives them."""

FEATURES, MOST_FEATURES, SMALLEST_MAP, MOST_STAGES = 32, 512, 4, 8
"""nnU-Net's own numbers for 2-D (Isensee et al. 2021, supplementary note 2); 8 stages are those of 512 pixels."""

GROUP_OF = 8
"""Features come in groups of a group norm."""

_STEP = 32
"""Sides of a patch are multiples of it, so that it can be halved five times."""

REACH_SD = 2.0
"""Of the sides of people's regions: the window shows that much more than the mean."""

_COARSEST_MM = 2.0
"""Of a pixel: a plan with coarser ones is none, whatever the budget."""


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
                f"{column.name} of the training participants: {reason} at any hospital that tells its sums, so nothing "
                "can be planned: give the images spacing and masks; see that policies let the sums out, and that "
                'min_cell people have them; or write network = "unet"'
            )
    mean, deviation, reach = moments.mean(FINGERPRINT), moments.standard_deviation(FINGERPRINT), reach_of(moments)
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


def reach_of(moments: Moments) -> float:
    """Millimetres along the window's side: the longer side of nearly everybody's region, in whole millimetres."""
    mean, deviation = moments.mean(FINGERPRINT), moments.standard_deviation(FINGERPRINT)
    wanted = float(np.max(mean[:2] + REACH_SD * deviation[:2]))
    return min(math.ceil(wanted - 0.01), FINGERPRINT[0].high)  # what fixed point has rounded up is no millimetre more


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
    steps = max(min(math.ceil(wanted / _STEP), most // _STEP), math.ceil(least / _STEP), 2)
    whole = _halved(steps * _STEP)
    return whole if whole <= most else steps * _STEP


def _halved(side: int) -> int:
    """The next side that can be halved as often as one of this size is, down to 4 pixels: nnU-Net pads its patch so."""
    left, unit = side, 1
    while left >= 2 * SMALLEST_MAP:
        left, unit = math.ceil(left / 2), 2 * unit
    return math.ceil(side / unit) * unit
