"""Which replies of sites may be used: what is wrong with one is said in a sentence, and recorded under the site's name.

A reply is held against what the site said of itself when the run began, and against what was asked. An empty sentence
means that nothing is wrong.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from sarco_models.config import StudyConfig
from sarco_models.fingerprint_facts import summed_columns
from sarco_models.parameters import Manifest
from sarco_models.summaries import Moments
from sarco_models.wire import Assess, Assessed, Described, Evaluated, Train, Trained
from server.members import Member

METRICS = ("train_loss", "loss", "auc", "dice")
"""All that a reply to train may measure; a hospital's policy may keep some of them."""

_BLOCK = 1 << 18
"""Numbers looked at at once: 2 MB in float64."""


def description_fault(described: Described, study: StudyConfig, names: Sequence[str]) -> str:
    """Why a site cannot take part; ``names`` are those of all sites, this one's among them."""
    columns = len(summed_columns(study))
    if not study.label.allow_mixed_rules and described.label_rule != study.label.rule:
        return f"label rule {described.label_rule}; the study asks for {study.label.rule}"
    if names.count(described.site) > 1:
        return "another node has the same name"
    positive, training = described.training_positive, described.training
    fits = study.segments or 0 < positive < training
    if not (fits and 0 < training <= described.participants):
        return "its counts of participants contradict each other"
    if any(len(getattr(described.moments, f.name)) != columns for f in dataclasses.fields(Moments)):
        return f"its sums are not of the study's {columns} columns"
    inside = (described.moments.count >= 0) & (described.moments.count <= described.training)
    return "" if bool(inside.all()) else "its sums count more people than it has"


def length_of_update(reply: Trained, request: Train) -> float:
    """Euclidean length of what the site has changed; not finite where one of its numbers is not, nan for another model.

    In float64 and block by block: neither a sum of squares beyond float32 nor a copy of the model.
    """
    after, before = reply.parameters.vector, request.parameters.vector
    if after.shape != before.shape:
        return math.nan
    total = 0.0
    for start in range(0, len(after), _BLOCK):
        here = slice(start, start + _BLOCK)
        change = np.subtract(after[here], before[here], dtype=np.float64)
        total += float(np.dot(change, change))
    return math.sqrt(total)


def training_fault(
    reply: Trained, site: Member, request: Train, length: float, metrics: frozenset[str] | None = None
) -> str:
    """What is wrong with a round's reply.

    Args:
        reply: as parameters.
        site: as it described itself.
        request: what was asked.
        length: that of :func:`length_of_update`.
        metrics: names of those that the site sent in its first round; None where this is it.
    """
    fault = _other_question(reply, site, request)
    if fault:
        return fault
    if reply.parameters.manifest != request.parameters.manifest:
        return f"parameters of another model: {_difference(reply.parameters.manifest, request.parameters.manifest)}"
    if not math.isfinite(length):
        return "parameters are not finite"
    if reply.participants != site.training:
        return f"weight of {reply.participants} participants; described itself with {site.training}"
    return metrics_fault(reply.metrics, metrics)


def _other_question(reply: Trained, site: Member, request: Train) -> str:
    """Of another site, study or round."""
    if reply.site != site.site:
        return f"answers in the name of {reply.site[:80]}"
    if reply.study != request.study:
        return f"answers for study {str(reply.study)[:12]} instead of {request.study[:12]}"
    return "" if reply.round == request.round else f"answers for round {reply.round} instead of {request.round}"


def too_long(lengths: Mapping[str, float], ratio: float, before: Mapping[str, float]) -> dict[str, str]:
    """Sites whose update is longer than ``ratio`` times the median of the other sites', and the sentence that says so.

    Needs three sites: of two, nobody can say which is the strange one. An update that is no longer than one of the same
    site that counted is none: where the others have learnt all they can, theirs become as short as you like.

    Args:
        lengths: of each site's update.
        ratio: the study's max_update_ratio.
        before: site -> the longest of its updates that counted in earlier rounds, of three sites or more.
    """
    if len(lengths) < 3:
        return {}
    found = {}
    for site, length in lengths.items():
        usual = float(np.median([other for name, other in lengths.items() if name != site]))
        if length > ratio * usual and length > before.get(site, 0.0):
            times = f"{length / usual:.3g}" if usual else "infinitely many"
            found[site] = (
                f"its update is {times} times as long as the other sites' (median), and longer than any of its own "
                f"that counted; max_update_ratio = {ratio:g}"
            )
    return found


def metrics_fault(metrics: Mapping[str, float], before: frozenset[str] | None = None) -> str:
    """What is wrong with the metrics of a round: one that nobody asked for, one that is missing, one that is no number.

    Args:
        metrics: by name.
        before: names of those that the site sent in its first round; None where this is it.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        return f"metric {unknown[0][:40]} is none of {', '.join(METRICS)}"
    missing = sorted((before or frozenset()) - set(metrics))
    if missing:
        return (
            f"metric {missing[0]} is missing, which it sent before: does site.toml still allow it? Allow it again, or "
            "start another run"
        )
    return not_finite(metrics)


def _difference(got: Manifest, expected: Manifest) -> str:
    """The first name or shape that differs."""
    absent, extra = set(expected.names) - set(got.names), set(got.names) - set(expected.names)
    if absent or extra:
        lacks = f"{min(absent)} is missing" if absent else "none is missing"
        return f"{lacks}, {min(extra)[:80]} is not one of them" if extra else lacks
    if got.names != expected.names:
        return "they come in another order"
    pairs = zip(got.names, got.shapes, expected.shapes, strict=True)
    name, shape, needed = next((name, a, b) for name, a, b in pairs if a != b)
    return f"{name} has shape {shape} instead of {needed}"


def evaluation_fault(reply: Evaluated, site: Member, bins: int) -> str:
    """What is wrong with a final evaluation."""
    if reply.site != site.site or reply.participants != site.training:
        return "answers for other people than it described"
    shown = reply.histogram
    if shown and not (shown.well_formed and shown.num_bins == bins):
        return "its histogram is not the study's"
    described = [site.training_positive, site.training - site.training_positive]
    if shown and [int(shown.positives.sum()), int(shown.negatives.sum())] != described:
        return "its histogram counts other people than it described"
    return not_finite(reply.metrics)


def assessment_fault(reply: Assessed, site: Member, request: Assess, bins: int) -> str:
    """What is wrong with a site's assessment of the released model."""
    if reply.site != site.site:
        return f"answers in the name of {reply.site[:80]}"
    found, held_out = reply.evaluation, site.participants - site.training
    fault = found.contradiction()
    if fault:
        return f"its assessment contradicts itself: {fault}"
    if found.threshold != request.threshold:
        return f"assessed at a threshold of {found.threshold:g} instead of {request.threshold:g}"
    if found.participants > held_out:
        return f"assessed on {found.participants} people; it described itself with {held_out} beside those in training"
    return "its histogram is not the study's" if found.histogram and found.histogram.num_bins != bins else ""


def not_finite(metrics: Mapping[str, float]) -> str:
    """Which of these is no number."""
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    return f"metric {bad[0]} is not finite" if bad else ""
