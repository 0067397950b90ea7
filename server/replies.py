"""Which replies of sites may be used: what is wrong with one is said in a sentence, and recorded under the site's name.

A reply is held against what the site said of itself when the run began, and against what was asked. An empty sentence
means that nothing is wrong.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from sarco_models.config import StudyConfig
from sarco_models.parameters import Manifest
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments
from sarco_models.wire import Assess, Assessed, Described, Evaluated, Trained


def description_fault(described: Described, study: StudyConfig, names: Sequence[str]) -> str:
    """Why a site cannot take part; ``names`` are those of all sites, this one's among them."""
    columns = len(design_columns(study.features))
    if not study.label.allow_mixed_rules and described.label_rule != study.label.rule:
        return f"label rule {described.label_rule}; the study asks for {study.label.rule}"
    if names.count(described.site) > 1:
        return "another node has the same name"
    if not 0 < described.training_positive < described.training <= described.participants:
        return "its counts of participants contradict each other"
    if any(len(getattr(described.moments, f.name)) != columns for f in dataclasses.fields(Moments)):
        return f"its sums are not of the study's {columns} columns"
    inside = (described.moments.count >= 0) & (described.moments.count <= described.training)
    return "" if bool(inside.all()) else "its sums count more people than it has"


def training_fault(reply: Trained, site: Described, round_: int, manifest: Manifest) -> str:
    """What is wrong with a round's reply."""
    if reply.site != site.site:
        return f"answers in the name of {reply.site}"
    if reply.round != round_:
        return f"answers for round {reply.round} instead of {round_}"
    if reply.parameters.manifest != manifest:
        return "parameters of another model"
    # One pass over the vector: a NaN or an infinity anywhere makes the sum of squares not finite.
    if not math.isfinite(float(np.dot(reply.parameters.vector, reply.parameters.vector))):
        return "parameters are not finite"
    if reply.participants != site.training:
        return f"weight of {reply.participants} participants; described itself with {site.training}"
    return _not_finite(reply.metrics)


def evaluation_fault(reply: Evaluated, site: Described, bins: int) -> str:
    """What is wrong with a final evaluation."""
    if reply.site != site.site or reply.participants != site.training:
        return "answers for other people than it described"
    shown = reply.histogram
    if shown and not (shown.well_formed and shown.num_bins == bins):
        return "its histogram is not the study's"
    described = [site.training_positive, site.training - site.training_positive]
    if shown and [int(shown.positives.sum()), int(shown.negatives.sum())] != described:
        return "its histogram counts other people than it described"
    return _not_finite(reply.metrics)


def assessment_fault(reply: Assessed, site: Described, request: Assess, bins: int) -> str:
    """What is wrong with a site's assessment of the released model."""
    if reply.site != site.site:
        return f"answers in the name of {reply.site}"
    found, held_out = reply.evaluation, site.participants - site.training
    fault = found.contradiction()
    if fault:
        return f"its assessment contradicts itself: {fault}"
    if found.threshold != request.threshold:
        return f"assessed at a threshold of {found.threshold:g} instead of {request.threshold:g}"
    if found.participants > held_out:
        return f"assessed on {found.participants} people; it described itself with {held_out} beside those in training"
    return "its histogram is not the study's" if found.histogram and found.histogram.num_bins != bins else ""


def _not_finite(metrics: Mapping[str, float]) -> str:
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    return f"metric {bad[0]} is not finite" if bad else ""
