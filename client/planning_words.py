"""What a study without a plan asks of a hospital, in plain words: sums over its images, and no training.

Hospitals approve it as any other study; with the plan it becomes another one, which they approve, or do not.
"""

from __future__ import annotations

from collections.abc import Iterator

from client.policy import Policy
from sarco_models.accounting import plan
from sarco_models.config import StudyConfig

WORDS = {
    "region_height_mm": "the height of the tissue in your images",
    "region_width_mm": "its width",
    "mm_per_pixel": "the size of a pixel",
    "grey_mean": "how bright muscles are",
    "grey_sd": "how much that brightness varies within them",
}
"""Of the columns of the fingerprint (:data:`sarco_models.fingerprint_facts.FINGERPRINT`)."""

STATISTICS = {
    "sums": "sums over your images' sizes and grey levels: without them the plan is made of other hospitals' images"
}
"""What a plan asks for by the statistics that site.toml may allow."""


def planning(study: StudyConfig, policy: Policy) -> list[tuple[str, tuple[str, ...]]]:
    """Headings and the sentences below them.

    Args:
        study: without a plan yet.
        policy: of the hospital; what it withholds is not said to leave.
    """
    return [
        ("What it is for", tuple(_purpose(study))),
        ("What is read here", tuple(_inputs(study))),
        ("What is done here", ("Images are measured, once. Nothing is trained, and no model comes or goes.",)),
        ("What leaves, once", tuple(_leaves(study, policy))),
        ("How each participant is protected", tuple(_protection(study))),
        ("What the coordinator sees of you alone", ("Your counts and your sums: they are always seen as yours.",)),
        (
            "What comes after",
            (
                "With the plan the study is another one, with another digest: you are asked to approve that one, too, "
                "and nothing is trained before you do.",
            ),
        ),
    ]


def _purpose(study: StudyConfig) -> Iterator[str]:
    muscles = ", ".join(m.title for m in study.segmentation.muscles) if study.segmentation else ""
    yield f"{study.title}. Hospitals want to train one model that finds these muscles: {muscles}."
    yield "Before that they agree on its network: how large an area it looks at, how finely, and how deep it is."


def _inputs(study: StudyConfig) -> Iterator[str]:
    parts = study.split
    yield "Images with a mask, and their masks. No pixel leaves, and no number of a single image."
    yield f"Of your participants {parts.train:.0%} are in training: they alone are measured."
    yield f"With fewer than {study.federation.min_participants} training participants you cannot take part."


def _leaves(study: StudyConfig, policy: Policy) -> Iterator[str]:
    yield "Your name, and how many participants, training participants and images with a mask you have: exactly."
    private = study.privacy
    if "sums" not in policy.statistics:
        yield "Withheld by your policy: sums. The plan is then made of other hospitals' images."
    elif private and private.statistics == "withheld":
        yield 'No sums: the study says statistics = "withheld". It cannot be planned.'
    else:
        noise = "with noise, inside epsilon" if private and private.statistics == "private" else "exact"
        yield (
            f"Of {len(WORDS)} numbers of each training participant, as means over that person's images, where at least "
            f"{policy.min_cell} people have them: count, sum and sum of squares over your participants ({noise})."
        )
        yield f"These are {', '.join(WORDS.values())}."


def _protection(study: StudyConfig) -> Iterator[str]:
    cfg = study.privacy
    spend = plan(study).statistics if cfg else None
    if cfg is None or spend is None:
        yield "By being one of many in a sum, and by limits to what one person can add to it. The sums have no noise."
        yield "Your ledger counts the answer as unprotected, for good: a budget that is a number refuses it."
    elif cfg.statistics == "withheld":
        yield "No sum leaves."
    else:
        yield (
            f"The sums get noise of {spend.noise_multiplier:.1f} times what one participant can change them by, and "
            f"your ledger charges it. The study that is trained later is charged by itself, up to epsilon = "
            f"{cfg.epsilon:g} at delta = {cfg.delta:g}."
        )
