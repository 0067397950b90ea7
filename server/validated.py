"""What hospitals say after the last round of a study that finds muscles: checked, and added up for model.json.

The Dice of each muscle on validation participants, the shapes of muscles that people have drawn, and from which quality
score on a found muscle is accepted. Nobody's test participants are asked for any of it. An empty sentence means that
nothing is wrong; see :mod:`server.replies`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sarco_models.accepted import accepted_from
from sarco_models.config import StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.plausible import THRESHOLD
from sarco_models.shapes import LOGARITHMS, ShapeSums, shape_sums
from sarco_models.wire import Evaluated
from server.members import Member
from server.muscle_table import joined
from server.replies import not_finite

log = logging.getLogger(__name__)

_PARTS = ("n", "mean", "sd")
_LIMITS = {"dice": (0.0, 1.0), **LOGARITHMS}
_IN_A_ROUND = ("loss", "dice")


def muscles_fault(reply: Evaluated, site: Member, study: StudyConfig) -> str:
    """What is wrong with a final evaluation in a study that finds muscles."""
    held_out, bins = site.participants - site.training, study.evaluation.histogram_bins
    if reply.site != site.site or reply.participants != site.training:
        return "answers for other people than it described"
    shown = reply.histogram
    if shown and not (shown.well_formed and shown.num_bins == bins):
        return "its histogram is not the study's"
    if shown and int(shown.positives.sum() + shown.negatives.sum()) > held_out:
        return f"its histogram counts more than the {held_out} people that it does not train on"
    stems = {name.rpartition(".")[0] for name in reply.metrics if name not in _IN_A_ROUND}
    fault = not_finite(reply.metrics)
    faults = (_stem_fault(stem, reply.metrics, site, study) for stem in sorted(stems))
    fault = fault or next((found for found in faults if found), "")
    extra = set(reply.metrics) - {f"{stem}.{part}" for stem in stems for part in _PARTS} - set(_IN_A_ROUND)
    return fault or (f"metric {min(extra)[:60]} is none of the study's" if extra else "")


def _stem_fault(stem: str, metrics: Mapping[str, float], site: Member, study: StudyConfig) -> str:
    """What is wrong with one measure of one muscle."""
    muscle, _, measure = stem.partition(".")
    if muscle not in _network_names(study, measure) or measure not in _LIMITS:
        return f"metric {stem[:60]} is none of the study's"
    if any(f"{stem}.{part}" not in metrics for part in _PARTS):
        return f"{stem} comes without its n, mean or sd"
    n, mean, sd = (metrics[f"{stem}.{part}"] for part in _PARTS)
    people = site.training if measure in LOGARITHMS else site.participants - site.training
    low, high = _LIMITS[measure]
    if not (float(n).is_integer() and 1 <= n <= people and 0 <= sd <= 2 * (high - low) and low <= mean <= high):
        return f"{stem}: {n:g} people, mean {mean:g}, SD {sd:g}: no such numbers are possible"
    return ""


def _network_names(study: StudyConfig, measure: str) -> tuple[str, ...]:
    """Of the muscles that a measure is told of: shapes are of what the network tells apart."""
    cfg = study.segmentation
    if cfg is None:
        return ()
    return ("muscle",) if cfg.classes == "one" and measure in LOGARITHMS else cfg.names


def known_of_model(replies: Sequence[Evaluated], study: StudyConfig) -> dict[str, Any]:
    """What model.json keeps of the final evaluations: threshold, shapes, Dice of validation participants.

    Returns:
        ``threshold`` of the quality score, None where none could be frozen, and then ``no_threshold``: why;
        ``threshold_from``: who told of it; ``shapes`` of each muscle, and ``no_shapes``: why there are none of others;
        ``validation``: of each muscle, how many people, mean and standard deviation of their Dice, hospitals.
    """
    return {**_threshold(replies), **_shapes(replies, study), "validation": dict(_validation(replies, study))}


def site_figures(reply: Evaluated) -> dict[str, float]:
    """Of one hospital, for model.json: without the sums of shapes, which count in the sum of all only."""
    own = {name: v for name, v in reply.metrics.items() if name.split(".")[1:2] == [] or name.split(".")[1] == "dice"}
    return {"participants": reply.participants, **own}


def accepted_in_words(about: Mapping[str, Any]) -> Iterator[str]:
    """From which score on a found muscle is accepted, and on whom that rests; of model.json."""
    threshold = about.get("threshold")
    if threshold is None:
        yield f"no quality score was frozen ({about.get('no_threshold', 'this run is of an earlier version')})"
        return
    origin = about["threshold_from"]
    yield (
        f"a muscle is accepted from a quality score of {threshold:.2f}: frozen on {origin['participants']} validation "
        f"participants of {', '.join(origin['sites'])}, {origin['found_well']} of them found well"
    )


def shapes_in_words(about: Mapping[str, Any]) -> Iterator[str]:
    """Of which muscles the range of drawn shapes is known, against which a found one is held; of model.json."""
    known, none = about.get("shapes") or {}, about.get("no_shapes") or {}
    if known:
        yield f"ranges of drawn shapes: {', '.join(known)}"
    for muscle, why in none.items():
        yield f"no range of shapes for {muscle}: {why}"


def _threshold(replies: Sequence[Evaluated]) -> dict[str, Any]:
    shown = {r.site: r.histogram for r in replies if r.histogram}
    good, bad = (sum(int(getattr(h, part).sum()) for h in shown.values()) for part in ("positives", "negatives"))
    origin = {
        "sites": list(shown),
        "participants": good + bad,
        "found_well": good,
        "withheld": [r.site for r in replies if not r.histogram],
    }
    try:
        if not shown:
            raise UndefinedMetric("no hospital tells of enough validation participants")
        return {"threshold": accepted_from(list(shown.values())), "threshold_from": origin}
    except UndefinedMetric as error:
        log.warning("no threshold of the quality score is frozen: %s", error)
        why = f"{error}; muscles are accepted from the usual score of {THRESHOLD:g}"
        return {"threshold": None, "no_threshold": why, "threshold_from": origin}


def _shapes(replies: Sequence[Evaluated], study: StudyConfig) -> dict[str, Any]:
    sums: dict[str, ShapeSums] = {}
    for reply in replies:
        for muscle, own in shape_sums(reply.metrics).items():
            sums[muscle] = sums[muscle] + own if muscle in sums else own
    ranges, none = {}, {}
    for muscle in _network_names(study, next(iter(LOGARITHMS))):
        try:
            if muscle not in sums:
                raise UndefinedMetric("no hospital tells of it")
            ranges[muscle] = sums[muscle].range().to_dict()
        except UndefinedMetric as error:
            none[muscle] = str(error)
    return {"shapes": ranges, **({"no_shapes": none} if none else {})}


def _validation(replies: Sequence[Evaluated], study: StudyConfig) -> Iterator[tuple[str, dict[str, float]]]:
    """All hospitals' validation participants together, muscle by muscle, where any is told of."""
    for muscle in study.segmentation.names if study.segmentation else ():
        found = joined([r.metrics for r in replies], f"{muscle}.dice")
        if found:
            sites = sum(f"{muscle}.dice.n" in r.metrics for r in replies)
            yield muscle, {"participants": found.n, "dice": found.mean, "sd": found.sd, "sites": sites}
