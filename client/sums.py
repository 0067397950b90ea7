"""What a hospital tells of its training participants in sums: before the first round, and after the last.

A study says which of three it is (``privacy.statistics``): exact sums, as a study without privacy has them; sums under
noise, which are charged like a round and drawn once, so that asking again brings no second draw; or none.
"""

import logging
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal

import numpy as np

from client.kept import Kept
from client.muscles_told import evaluated_muscles
from client.once import first_asked
from client.policy import Refusal
from client.scoring import allowed, probability_of, reader_of, validation_metrics
from client.spending import charge, charge_unprotected, fingerprint
from client.workspace import Site
from sarco_models.accounting import Spend, plan
from sarco_models.errors import UndefinedMetric
from sarco_models.fingerprint_facts import summed, summed_columns
from sarco_models.histograms import MergedHistogram, ScoreHistogram
from sarco_models.private_statistics import private_description, private_histogram
from sarco_models.summaries import Moments
from sarco_models.wire import Code, Describe, Described, Evaluate, Evaluated

log = logging.getLogger(__name__)


def describe(site: Site, request: Describe) -> Described:
    """Count participants and add up the training participants' tables.

    Raises:
        BudgetExceeded: sums under noise would spend more privacy than the hospital has left.
    """
    kept, spend = Kept(site.state, fingerprint(site)), _noise(site)
    shown = "sums" in site.policy.statistics and _mode(site) != "withheld"
    before = kept.get(request, Described) if spend else None
    if before:  # the policy of today holds for an answer of yesterday
        return before if shown else replace(before, moments=_no_columns(before.moments))
    with kept.room(request) if spend else nullcontext():
        described = _described(site, request, spend, shown=shown)
        if spend:
            kept.put(request, described)
    return described


def _described(site: Site, request: Describe, spend: Spend | None, *, shown: bool) -> Described:
    people, columns = site.split.train, summed_columns(site.study)
    used = summed(site.study) & shown
    if spend:
        charge(site, request, spend)
        noised = private_description(
            people, columns, used, noise_multiplier=spend.noise_multiplier, rng=site.secret.numpy()
        )
        moments, positive = noised.moments, noised.positives
    else:
        charge_unprotected(site, request)
        moments = Moments.of(people, columns, extremes=site.study.tabular.scaling == "minmax")
        positive = int(people.labels.sum())
    return Described(
        site=site.name,
        label_rule=site.label_rule,
        participants=len(site.split.cohort),
        training=len(people),
        training_positive=positive,
        images=len(site.split.cohort.owner),
        moments=moments.of_columns(used & (moments.count >= site.policy.min_cell)),
    )


def evaluate(site: Site, request: Evaluate) -> Evaluated:
    """Score the final model: metrics on validation participants, the score histogram of training participants.

    Raises:
        BudgetExceeded: a histogram under noise would spend more privacy than the hospital has left.
    """
    kept, spend = Kept(site.state, fingerprint(site)), _noise(site)
    shown = "histogram" in site.policy.statistics and _mode(site) != "withheld"
    before = kept.get(request, Evaluated) if spend else None
    if before:
        histogram = before.histogram if shown else None
        return replace(before, metrics=allowed(site, before.metrics), histogram=histogram)
    reader_of(site, request.setup)  # what cannot be answered is not noted as asked
    if not first_asked(site.state, "evaluated", request.study, [request.setup, request.parameters.digest]):
        raise Refusal(
            Code.ALREADY_ASSESSED,
            "another model of this study was evaluated here before (state/evaluated-*): metrics of two models tell "
            "more of single people than those of one; a study that begins anew needs a name or a seed of its own",
        )
    with kept.room(request) if spend else nullcontext():
        evaluated = _evaluated(site, request, spend, shown=shown)
        if spend:
            kept.put(request, evaluated)
    return evaluated


def _evaluated(site: Site, request: Evaluate, spend: Spend | None, *, shown: bool) -> Evaluated:
    if spend is None:
        charge_unprotected(site, request)
    site.receive(request)
    if site.study.segments:
        return evaluated_muscles(site, request)
    metrics = allowed(site, validation_metrics(site, reader_of(site, request.setup)))
    histogram, min_cell = None, site.policy.min_cell
    if shown:
        try:
            histogram = _noised(site, request, spend) if spend else MergedHistogram.of(_counts(site, request), min_cell)
        except UndefinedMetric as error:
            log.warning("%s: no histogram of training participants leaves: %s", site.name, error)
    return Evaluated(site.name, request.round, len(site.split.train), metrics, histogram)


def _counts(site: Site, request: Evaluate) -> ScoreHistogram:
    people = site.split.train
    probability = probability_of(site, reader_of(site, request.setup), people, request.prevalence)
    if site.study.privacy:  # weights can be made that give one person no number: nothing may be told by a failure
        probability = np.clip(np.nan_to_num(probability, nan=0.5), 0.0, 1.0)
    return ScoreHistogram.of(probability, people.labels == 1, num_bins=site.study.evaluation.histogram_bins)


def _noised(site: Site, request: Evaluate, spend: Spend) -> MergedHistogram:
    """The histogram under noise; its classes add up to what was described, as it was kept."""
    positives, people = describe(site, Describe(request.study)).training_positive, len(site.split.train)
    min_cell = site.policy.min_cell
    if min(positives, people - positives) < min_cell:
        raise UndefinedMetric(f"{positives} of {people} were described as cases; each class needs {min_cell}")
    charge(site, request, spend)
    return private_histogram(
        _counts(site, request),
        positives,
        noise_multiplier=spend.noise_multiplier,
        min_cell=min_cell,
        rng=site.secret.numpy(),
    )


def _no_columns(moments: Moments) -> Moments:
    return moments.of_columns(np.zeros(len(moments.count), dtype=np.bool_))


def _mode(site: Site) -> Literal["private", "withheld", "exact"]:
    return site.study.privacy.statistics if site.study.privacy else "exact"


def _noise(site: Site) -> Spend | None:
    """What one release of sums under noise costs; None where sums have none."""
    return plan(site.study).statistics if site.study.privacy else None
