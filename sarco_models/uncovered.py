"""What an epsilon means to a person, and what it does not cover: the sentences that stand beside every epsilon.

One place for both sides: a hospital's pages and a coordinator's statement say the same. Numbers of which a mathematical
promise holds are in :mod:`sarco_models.accounting`; this is about the rest.
"""

import math

from sarco_models.config import StudyConfig
from sarco_models.protection import PrivacyConfig

MOST = 1e6
"""From here on a factor is only called more than a million: it limits nothing."""


def odds(epsilon: float, delta: float, who: str = "one person") -> str:
    """How much anybody can learn about ``who`` taking part, in a sentence.

    (epsilon, delta)-differential privacy bounds the ratio of posterior to prior odds by e**epsilon, but for a chance of
    delta (Dwork and Roth 2014, section 2.3; Kasiviswanathan and Smith 2014).
    """
    factor = math.exp(min(epsilon, 50.0))
    size = "more than a million" if factor > MOST else f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    return (
        "Somebody who sees everything that epsilon covers, and knows everybody else's data, may bet on whether "
        f"{who} was among those trained on. All that was seen moves the odds of that bet by a factor of {size} at "
        f"most, but for a chance of 1 in {1 / delta:,.0f}."
    )


def uncovered(study: StudyConfig) -> tuple[str, ...]:
    """What leaves a hospital in this study without being covered by any epsilon, each in a sentence."""
    cfg = study.privacy
    if study.unplanned:
        return _of_a_plan(cfg)
    muscles = study.segments
    lines = [
        _TAKING_PART,
        "How many participants a hospital has, how many it trains on, and how many images: exact counts."
        + _BY_CLASS * (not muscles),
        _REFUSAL,
        f"Loss and {'Dice' if muscles else 'AUC'} on validation participants in every round, where the hospital's "
        "policy lets them out.",
        _measures() if muscles else _assessment(cfg),
        _probe(cfg),
    ]
    if cfg is None or cfg.statistics == "exact":
        said = " The study says so: privacy.statistics = exact." if cfg else ""
        lines.append((_SHAPES if muscles else _TABLES) + said)
    if not muscles:
        lines.append(f"The rule behind the labels ({study.label.rule}), and whatever a label itself tells.")
    lines.append(_beginning(study))
    if cfg:
        lines.append(_several(cfg))
    else:
        lines.append("The update of every round itself: parameters without clipping and noise.")
    return tuple(lines)


def _of_a_plan(cfg: PrivacyConfig | None) -> tuple[str, ...]:
    """Of a study that asks for sums over images, once, and trains nothing."""
    counts = "How many participants a hospital has, how many are in training, and how many images: exact counts."
    sums = "Sums over the sizes and grey levels of training participants' images: without noise."
    return (_TAKING_PART, counts, _REFUSAL, *((sums,) if cfg is None or cfg.statistics == "exact" else ()))


_TAKING_PART = "That a hospital took part, its name, and with it that its participants may have: sent as it is."
_REFUSAL = "A refusal for want of budget: it tells that people of the hospital were in earlier studies."
_BY_CLASS = (
    " People are split class by class, and the number of training participants follows from it, so that with the total "
    "it tells the number of cases modulo a few."
)
_TABLES = "Sums over the tables, numbers of cases, score histograms of training participants: without noise."
_SHAPES = (
    "Sums of the shapes of muscles drawn on training participants, counts of validation participants by quality score: "
    "without noise."
)


def _measures() -> str:
    return (
        "The measures on validation and test participants: Dice, distances, thickness and area of each muscle, as sums "
        "or means over no fewer people than the hospital's smallest count. Validation and test participants are "
        "protected by no epsilon at all."
    )


def _assessment(cfg: PrivacyConfig | None) -> str:
    unprotected = "Validation and test participants are protected by no epsilon at all."
    if cfg and cfg.statistics == "withheld":
        return f"{unprotected} There is no assessment on test participants: a study that withholds has no threshold."
    return (
        "The assessment on test participants: AUC, its variance, calls at the threshold, a histogram with small counts "
        f"merged. {unprotected}"
    )


def _probe(cfg: PrivacyConfig | None) -> str:
    steps = "in steps of .05" if cfg else "as they are"
    return (
        "The leakage probe: two numbers and two counts, of the losses of training and of test participants, the "
        f"numbers {steps}. They are of people who were trained on: a coordinator that sends a model made for the "
        "purpose may learn one person's membership from them. A hospital that wants none of it leaves leakage out of "
        "statistics in its site.toml."
    )


def _several(cfg: PrivacyConfig) -> str:
    factor = math.exp(min(cfg.epsilon, 50.0))
    pair = min(1.0, cfg.delta * (1 + factor))
    return (
        "Several people at once, as a family: epsilon is of one person. For k people it is up to k times as large, and "
        f"delta grows as well: for two, epsilon is {2 * cfg.epsilon:g} and delta {pair:.2g}. A person who is in two "
        "hospitals pays in both, and neither knows."
    )


def _beginning(study: StudyConfig) -> str:
    alone = study.segmentation is not None and study.segmentation.network == "nnunet"
    if not study.uses_images or study.model.weights == "none" or alone:
        return "What a run begins with: random numbers, or a model released before, which has a statement of its own."
    if study.model.weights == "phantom":
        return "The starting weights; they were trained on drawn phantoms, on no person."
    return f"The starting weights ({study.model.weights}): of the people behind them nothing is promised here."
