"""What a study that finds muscles does with a hospital's participants and what leaves, in plain words.

The sentences that differ from those of a study that diagnoses; see :mod:`client.study_words`. Nobody has a label here:
what is learned from are outlines that people of the hospital have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

from client.policy import Policy
from sarco_models.config import StudyConfig
from sarco_models.segmentation import SegmentationConfig

METRICS = ("train_loss", "loss", "dice")
"""All that a reply of a round may name."""

TASKS = {
    "Describe": "the number of your participants and images",
    "Setup": "your keeping the frozen layers",
    "Evaluate": "scores of the final model on your validation participants, and shapes of drawn muscles",
}
"""What the study asks for by each request, where it is other than in a study that diagnoses."""

STATISTICS = {
    "sums": "sums of the shapes of your training participants' drawn muscles: without them the ranges against which a "
    "found muscle is held rest on other hospitals",
    "histogram": "counts of your validation participants found well and badly, by quality score: without them the "
    "score from which a muscle is accepted rests on other hospitals",
    "assessment": "the measures on your test participants: without them the release does not speak of them",
    "leakage": "the leakage probe: without it others must measure what the model betrays",
}
"""What the study asks for by each statistic that site.toml may allow."""


def exact(study: StudyConfig) -> bool:
    """Whether exact sums and counts leave: they do unless the study is private and does not say so itself."""
    return study.privacy is None or study.privacy.statistics == "exact"


def asks_for(study: StudyConfig, statistic: str) -> bool:
    """Whether the study asks for this statistic."""
    return statistic in ("assessment", "leakage") or exact(study)


def purpose(study: StudyConfig) -> Iterator[str]:
    """What it is for."""
    cfg = _muscles(study)
    muscles = _listed([m.title for m in cfg.muscles])
    yield f"{study.title}. Hospitals train one model together that draws muscles on ultrasound images: {muscles}."
    if cfg.single:
        yield "It finds the muscle that an image is of, and images.csv says which that is."
    yield "It learns from outlines that your people have drawn. Nobody is diagnosed, and no label is read."
    yield "The model is for research. It is no medical device."


def inputs(study: StudyConfig) -> Iterator[str]:
    """What is read beside the images: masks, by the names that they may give to muscles."""
    cfg = _muscles(study)
    named = [f"{m.title} ({', '.join(dict.fromkeys((m.name, *m.labels)))})" for m in cfg.muscles]
    yield f"The masks that images.csv names, whose labels mean: {'; '.join(named)}. No mask and no outline leaves."
    yield "You need not have drawn all of them: where nobody looked for a muscle, nothing of it is learned."


def network(study: StudyConfig, layers: str) -> str:
    """Which network, in a sentence; ``layers``: what of a U-Net's encoder is trained, in words."""
    if _muscles(study).network == "nnunet":
        return "Network nnU-Net, of the study's plan: all layers are trained."
    return f"Network U-Net around {study.model.backbone}: of that {layers}, and all of the decoder."


def planned(study: StudyConfig) -> Iterator[str]:
    """What the plan of the network is, from what it was made, and what approving it means; nothing without a plan."""
    plan = _muscles(study).plan
    if plan is None:
        return
    side, stages = plan.patch[0], len(plan.features)
    yield (
        "Hospitals agreed on it before anything is trained, in a study of its own: each that took part told sums of "
        "its training participants' image sizes and grey levels, and the plan follows from the sums by fixed rules."
    )
    yield (
        f"The network sees {side * plan.mm_per_pixel:.0f} mm along a side, as {side} pixels of {plan.mm_per_pixel:.2f} "
        f"mm, in {stages} stages of {_listed([str(n) for n in plan.features])} features; brightness is scaled by "
        f"{plan.grey_mean:.1f} +- {plan.grey_sd:.1f}, that of the pixels inside drawn muscles."
    )
    yield (
        "What lies beyond the window is cut off, and images without mm per pixel are left out: sarco-site check-data "
        "says how many of yours the plan does not fit. Look before you approve."
    )
    yield (
        "These numbers are a part of the study: who approves it agrees to them, and with others it would be another "
        "study. Nothing here shows whose sums they rest on; the coordinator's plan.json names the hospitals."
    )


def before(study: StudyConfig) -> Iterator[str]:
    """What leaves before the first round."""
    yield "Your name, and how many participants, training participants and images with a mask you have: exactly."
    yield "The place for a number of cases holds 0: nobody has a label. No sums over tables."


def metrics_words(policy: Policy, study: StudyConfig) -> str:
    """What a reply of a round measures."""
    sent = [name for name in METRICS if name in policy.metrics and (name != "train_loss" or study.privacy is None)]
    return f"Metrics that your policy lets out: {', '.join(sent) or 'none'} (loss and dice are of validation people)."


def after(study: StudyConfig, policy: Policy, probe: str) -> Iterator[str]:
    """What leaves after the last round; ``probe``: the sentence of the leakage probe."""
    few = f"nothing of fewer than {policy.min_cell} people"
    names = [name for name in ("loss", "dice") if name in policy.metrics]
    dice = f" Dice of each muscle as number of people, mean and standard deviation, {few}." * ("dice" in names)
    yield (
        f"Metrics of your validation participants: {', '.join(names) or 'none'}.{dice} This evaluation is of one model "
        "in a study, never of a second: two would tell who is between."
    )
    words = {
        "sums": "Of each muscle that was drawn on your training participants: number of people, mean and standard "
        f"deviation of the logarithms of area, aspect and convexity, {few}.",
        "histogram": "How many of your validation participants' muscles were found well, and how many badly, by "
        f"quality score; no count of 1 to {policy.min_cell - 1} people.",
        "assessment": "Once, of each muscle on your test participants: Dice, IoU, distances between outlines, errors "
        "of thickness and area, as number of people, mean and standard deviation; and sums of thickness and area, "
        f"found and drawn, from which their agreement follows; {few}.",
        "leakage": probe,
    }
    if not exact(study):
        yield "No sums of shapes and no counts by score: they are exact, and the study is private."
    for statistic, sentence in words.items():
        if asks_for(study, statistic):
            yield sentence if statistic in policy.statistics else f"Withheld by your policy: {statistic}."


def statistics_words(study: StudyConfig) -> str:
    """What of a private study's statistics has noise."""
    if exact(study):
        return "Sums of shapes and counts by score leave WITHOUT noise and are OUTSIDE epsilon."
    return "Sums of shapes and counts by score stay here."


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _muscles(study: StudyConfig) -> SegmentationConfig:
    if study.segmentation is None:
        raise ValueError("a study without [segmentation] finds no muscles")
    return study.segmentation
