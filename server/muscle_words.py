"""The sentences of a report on muscles: what was found, how it was done, and what to beware of."""

from collections.abc import Mapping
from typing import Any

from sarco_models.muscle import ECHO_INTENSITY_CAVEAT
from server.arms import ArmName, place_name
from server.methods import privacy
from server.muscle_panels import AIM
from server.muscle_run import MuscleRun
from server.muscle_table import joined
from server.paper.published_muscles import NOTES, REFERENCE
from server.results import OverSeeds
from server.sent import what_was_sent
from server.tables import interval, number

GUIDE = {
    "Dice": "Twice the area that found and drawn outline share, over the sum of both areas: 1 is the same outline, 0 "
    "nothing in common. Of an image where a muscle was found that nobody drew there, or the other way round, it is 0.",
    "IoU": "The shared area over the area of both together; always below Dice.",
    "HD95": "Within so many millimetres lie 95 % of either edge from the other: how far out the outline is at worst.",
    "ASSD": "The mean distance between the two edges.",
    "Bias, limits of agreement": "The mean difference, and the limits within which 95 % of the differences of single "
    "images lie (Bland and Altman).",
    "ICC(2,1)": "How much of what differs between people is more than the difference between found and drawn; 1 is "
    "perfect, .9 is usually asked for.",
    "Interval": "95 %. Of means: participants drawn again at random, with replacement. A participant with many images "
    "counts once. Of several seeds the mean of their limits.",
    "Seed, SD": "A seed is one set of people and one training of each way. A number is the mean over seeds; SD is the "
    "standard deviation between them. Numbers of single people (agreement, correlations, pictures) are of the first.",
}

TOLD_GUIDE = {word: meaning for word, meaning in GUIDE.items() if word not in ("Interval", "Seed, SD")} | {
    "SD": "Standard deviation between participants.",
    "Interval": "95 %, of bias, limits and ICC.",
}
"""Of a page that knows sums and means only."""

CAPTIONS = {
    "dice": (
        "How well each muscle is found.",
        f"Mean over held-out participants with its 95 % interval. Shaded: the range that {REFERENCE} printed for its "
        "muscles, of real people. Hollow: a hospital alone that has never seen this muscle drawn. An arrow stands for "
        "a Dice that lies further to the left.",
    ),
    "differences": (
        "What one way of training gives over another.",
        "Dice of the first minus that of the other way of training, the same participants. Right of 0: the first "
        "finds the muscle better.",
    ),
    "learning": ("Learning, round by round.", "Mean Dice over muscles above, loss below; validation groups are small."),
    "agreement": (
        "Thickness and area, found against drawn.",
        "Each point is an image of a held-out participant; images of two muscles are left out.",
    ),
    "correlations": (
        "Thickness and the body.",
        "Thickness in found outlines against body composition and five chair stands, the paper's coefficient beside.",
    ),
    "examples": (
        "The worst, the median and the best.",
        "Orange: drawn. Blue, dashed: found. Of images of held-out people that show one whole muscle; nobody chose.",
    ),
}


def finding(run: MuscleRun) -> list[str]:
    """What came out, in the order in which it matters."""
    lead = run.dice(run.lead, "", run.home)
    if lead is None:
        return ["No arm of this run has been scored yet."]
    of = f"{lead.n} participants" if lead.n else "participants"
    where = "of the central test cohort" if run.home == "central" else "held out by the hospitals"
    name = run.results.arm_name(run.lead)
    seeds = f", in the mean of {lead.seeds} seeds," if lead.seeds > 1 else ""
    lines = [f"{name} training finds the muscles of {of} {where}{seeds} with a Dice of {_with(lead)}{_extremes(run)}."]
    return lines + _pooled(run) + _alone(run) + _variants(run) + _sizes(run)


def _with(found: OverSeeds, digits: int = 3, *, signed: bool = False) -> str:
    value = number(found.mean, digits, signed=signed)
    if found.low is None or found.high is None:
        return f"{value} (no interval: too few participants)"
    return f"{value} ({number(found.low, digits, signed=signed)} to {number(found.high, digits, signed=signed)})"


def _extremes(run: MuscleRun) -> str:
    each = [(f.mean, title) for m, title in run.titles.items() if (f := run.dice(run.lead, m, run.home))]
    if len(each) < 2:
        return ""
    (low, worst), (high, best) = min(each), max(each)
    return f", from {number(low, 3)} ({worst.lower()}) to {number(high, 3)} ({best.lower()})"


def _pooled(run: MuscleRun) -> list[str]:
    pooled = next((arm for arm in run.others() if ArmName.parse(arm).kind == "pooled"), None)
    found = run.difference(run.lead, pooled, site=run.home) if pooled else None
    if found is None or found.low is None or found.high is None:
        return []
    if found.low > -AIM and found.high < AIM:
        verdict = f"the whole interval lies within {AIM:g} of what all images in one place give"
    elif found.low > -AIM:
        verdict = f"no worse than all images in one place: the interval stays above {number(-AIM, 2)}"
    elif abs(found.mean) <= AIM:
        verdict = f"within {AIM:g} in the mean, and the interval reaches further"
    else:
        verdict = f"{'better' if found.mean > 0 else 'worse'} than all images in one place by more than {AIM:g}"
    minus = f"{run.results.arm_name(run.lead)} minus pooled training"
    return [f"{minus}, mean over muscles: {_with(found, signed=True)}: {verdict}."]


def _alone(run: MuscleRun) -> list[str]:
    alone = [arm for arm in run.others() if ArmName.parse(arm).kind == "local" and not ArmName.parse(arm).variant]
    known = [(f.mean, arm) for arm in alone if (f := run.dice(arm, "", run.home))]
    if not known:
        return []
    _, best = max(known)
    apart = run.difference(run.lead, best, site=run.home)
    lines = []
    if apart:
        minus = f"{run.results.arm_name(run.lead)} minus the best hospital alone"
        lines.append(
            f"{minus} ({place_name(ArmName.parse(best).site)}): {_with(apart, signed=True)}: {_verdict(apart)}."
        )
    if any(run.untrained(arm, muscle) for arm in alone for muscle in run.titles):
        lines.append(
            "Not every hospital draws every muscle. What a hospital alone has never seen drawn is scored all the same, "
            "and marked."
        )
    return lines


def _verdict(apart: OverSeeds) -> str:
    """What an interval says of a difference, and no more."""
    if apart.low is None or apart.high is None:
        return "too few participants to say more"
    if apart.low <= 0 <= apart.high:
        return "no difference can be told"
    return "better" if apart.low > 0 else "worse"


def _variants(run: MuscleRun) -> list[str]:
    own = ArmName.parse(run.lead)
    alike = [a for a in run.others() if (n := ArmName.parse(a)).kind == own.kind and n.variant != own.variant]
    both = [(run.results.arm_name(arm), run.difference(run.lead, arm, site=run.home)) for arm in alike]
    minus = f"{run.results.arm_name(run.lead)} minus"
    said = [(f"{minus} {name}, mean over muscles", found) for name, found in both if found]
    return [f"{words}: {_with(found, signed=True)}: {_verdict(found)}." for words, found in said]


def _sizes(run: MuscleRun) -> list[str]:
    rows = [r for r in run.analysis()[0] if r["about"] == "agreement" and r["statistic"] == "ICC(2,1)"]
    said = []
    for size, word in (("thickness_mm", "thickness"), ("csa_cm2", "area")):
        values = [row["value"] for row in rows if row["measure"] == size and row["value"] is not None]
        if values:
            said.append(f"{word} {number(min(values), 3)} to {number(max(values), 3)}")
    return [f"Agreement of found with drawn sizes, ICC(2,1): {' and '.join(said)}, by muscle."] if said else []


def told_finding(measured: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> list[str]:
    """The same of a federation's own run, from what its hospitals told."""
    each = {title: joined(list(measured.values()), f"{muscle}.dice") for muscle, title in titles.items()}
    known = [(found.mean, title) for title, found in each.items() if found]
    if not known:
        return ["No hospital has told how well the released model finds the muscles of its test participants."]
    (low, worst), (high, best) = min(known), max(known)
    which = "1 hospital has" if len(measured) == 1 else f"{len(measured)} hospitals have"
    lines = [
        f"{which} measured the released model on test participants of their own: mean Dice from {number(low, 3)} "
        f"({worst.lower()}) to {number(high, 3)} ({best.lower()})."
    ]
    silent = [title.lower() for title, found in each.items() if not found]
    return lines + ([f"Nobody told of {', '.join(silent)}: too few test participants had it drawn."] if silent else [])


def beware_of_told(*, synthetic: bool) -> list[str]:
    """What a reader of a federation's own report may not conclude."""
    lines = beware_synthetic() if synthetic else []
    return [
        *lines,
        "A hospital tells of the muscles that it drew, and of no fewer people than its own smallest number: means over "
        "hospitals are of those who told.",
        "Standard deviations are between participants; no interval of a difference follows from them.",
        _WHOLE,
    ]


def beware_synthetic() -> list[str]:
    """Of computer-made people."""
    return [
        "SYNTHETIC: these people and images are computer-made. Their muscles are smoother and rounder than real ones, "
        "so that Dice is higher than it would be in a hospital. The paper's range is of real people.",
        "Body composition was drawn with the paper's correlations: that ours are like them is no evidence.",
    ]


_WHOLE = (
    "Thickness and area are of images on which one whole muscle is drawn. Of two muscles side by side neither "
    "mid-belly need be in the picture; where only one of the two was drawn, no mask tells of it."
)


def absent(run: MuscleRun) -> list[str]:
    """What is missing and why, in the words of whoever could not compute it."""
    return run.analysis()[1]


def asked(study: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """What the network is to find, and how it was trained."""
    section, image, model = (_part(study, name) for name in ("segmentation", "image", "model"))
    training, federation = _part(study, "training"), _part(study, "federation")
    network = "nnU-Net" if section.get("network") == "nnunet" else f"a U-Net ({model.get('backbone', 'unknown')})"
    one = section.get("classes") in ("asked", "one")
    asked_ = "where the muscle is that the image is of" if one else "which muscle each pixel belongs to"
    window = f"a window of {image['window_mm']:g} mm, " if image.get("window_mm") else ""
    rounds, epochs = (_many(of, word) for of, word in (
        (federation.get("rounds"), "round"), (training.get("local_epochs"), "local epoch"),
    ))  # fmt: skip
    steps = training.get("local_steps")
    work = f"{_many(steps, 'step')} at each hospital" if steps else epochs
    return (
        f"Asked: {asked_}; {', '.join(title.lower() for title in titles.values())}. Network: {network}, {window}"
        f"{image.get('size', '?')} pixels. {rounds[:1].upper()}{rounds[1:]} ({federation.get('strategy', '?')}), "
        f"{work}, batches of {training.get('batch_participants', '?')} participants. What a hospital did not draw does "
        "not count against the network there. Participants, not images, are split."
    )


def _many(number_: object, word: str) -> str:
    return f"{number_ or '?'} {word}{'' if number_ == 1 else 's'}"


def beware(run: MuscleRun) -> list[str]:
    """What a reader may not conclude."""
    lines = []
    if run.results.meta.synthetic:
        lines += beware_synthetic()
    if len(run.results.seeds) < 3:
        only = _many(len(run.results.seeds), "seed")
        lines.append(f"Only {only}: intervals hold chance among participants, not among trainings.")
    return [
        *lines,
        "A hospital's own Dice is of the muscles that it drew. Means over muscles of two hospitals are of different "
        "muscles; compare muscle by muscle.",
        _WHOLE,
        ECHO_INTENSITY_CAVEAT,
        *NOTES.values(),
    ]


def sent(run: MuscleRun) -> list[str]:
    """What left each hospital."""
    rest = privacy(run.results)[len(what_was_sent(run.results)) :]
    if _part(run.results.meta.study, "federation").get("secure_aggregation"):
        weights = "its weights under masks that cancel in the sum over all hospitals"
    else:
        weights = "the weights of what is trained, after each round"
    return [
        f"In federated training each hospital sent: {weights}; how many participants and images it has; loss and Dice "
        "on its validation participants; how large and how round drawn muscles are, in sums; and once, of the released "
        "model on its test participants, numbers, means, standard deviations and sums of what was measured. It sent no "
        "image, no mask, no table, no participant number and no file name.",
        *rest,
    ]


def headline(run: MuscleRun) -> list[dict[str, str]]:
    """The numbers that stand above everything."""
    wanted = (
        ("federated", "dice", "Dice, federated", 3),
        ("pooled", "dice", "Dice, all images in one place", 3),
        (run.lead, "hd95_mm", f"mm HD95, {run.results.arm_name(run.lead).replace('Fed', 'fed', 1)}", 1),
    )
    facts = []
    for arm, measure, words, digits in wanted:
        found = run.value(arm, measure, "", run.home)
        if found:
            between = interval(found, digits)
            facts.append({"number": number(found.mean, digits), "words": f"{words}; {between}" if between else words})
    return facts


def _part(study: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = study.get(name)
    return found if isinstance(found, dict) else {}
