"""What an epsilon means to a person, and what it does not cover: the sentences that stand beside every epsilon.

One place for both sides: a hospital's pages and a coordinator's statement say the same. Numbers of which a mathematical
promise holds are in :mod:`sarco_models.accounting`; this is about the rest.
"""

import math

from sarco_models.config import StudyConfig

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
        f"Whoever sees everything that epsilon covers, and knows everybody else's data, can change their odds on "
        f"whether {who} was among those trained on by a factor of {size} at most, but for a chance of 1 in "
        f"{1 / delta:,.0f}."
    )


def uncovered(study: StudyConfig) -> tuple[str, ...]:
    """What leaves a hospital in this study without being covered by any epsilon, each in a sentence."""
    cfg = study.privacy
    lines = [
        "That a hospital took part, its name, and with it that its participants may have: sent as it is.",
        "How many participants a hospital has, how many it trains on, and how many images: exact counts.",
        "Loss and AUC on validation participants in every round, where the hospital's policy lets them out.",
        "The assessment on test participants: AUC, its variance, calls at the threshold, a histogram with small counts "
        "merged. Validation and test participants are protected by no epsilon at all.",
        "The leakage probe: two numbers and two counts, of the losses of training and of test participants.",
    ]
    if cfg is None or cfg.statistics == "exact":
        said = " The study says so: privacy.statistics = exact." if cfg else ""
        lines.append(
            f"Sums over the tables, numbers of cases, score histograms of training participants: without noise.{said}"
        )
    lines.append(f"The rule behind the labels ({study.label.rule}), and whatever a label itself tells.")
    lines.append(_beginning(study))
    if cfg is None:
        lines.append("The update of every round itself: parameters without clipping and noise.")
    return tuple(lines)


def _beginning(study: StudyConfig) -> str:
    if not study.uses_images or study.model.weights == "none":
        return "What a run begins with: random numbers, or a model released before, which has a statement of its own."
    if study.model.weights == "phantom":
        return "The starting weights; they were trained on drawn phantoms, on no person."
    return f"The starting weights ({study.model.weights}): of the people behind them nothing is promised here."
