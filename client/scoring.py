"""A hospital's scores of a model that came down: metrics on validation participants, the assessment on test ones."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from client.policy import Refusal
from client.workspace import Site
from sarco_models.aims import aim_of, diagnosing, finding
from sarco_models.calibration import correct_prior
from sarco_models.cohort import People
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import ParticipantScores
from sarco_models.site_evaluation import SiteEvaluation
from sarco_models.training import AnyReader, predict
from sarco_models.wire import Assess, Assessed, Code, Measure, Measured


def assess(site: Site, request: Assess) -> Assessed:
    """Score the released model on the test participants, once in a study: two thresholds would tell who is between."""
    reader = reader_of(site, request.setup)
    if not site.first_assessment(request):
        raise Refusal(
            Code.ALREADY_ASSESSED,
            "another model or threshold of this study was assessed here before (state/assessed-*)",
        )
    site.receive(request)
    people = site.split.test
    probability = probability_of(site, reader, people, request.prevalence)
    # Members, not identifiers: hospitals that are pooled may both have a participant 7.
    scores = ParticipantScores(tuple(str(m) for m in people.members), probability, people.labels == 1)
    try:
        evaluation = SiteEvaluation.of(
            scores,
            request.threshold,
            min_cell=site.policy.min_cell,
            num_bins=site.study.evaluation.histogram_bins,
        )
    except UndefinedMetric as error:
        raise Refusal(Code.TOO_FEW_PARTICIPANTS, str(error)) from None
    return Assessed(site.name, evaluation)


def measure(site: Site, request: Measure) -> Measured:
    """Hold the muscles that the released model finds on test participants against the drawn ones, once in a study."""
    from sarco_models.segmentation_scores import score, told

    reader = reader_of(site, request.setup)
    people, min_cell = site.split.test, site.policy.min_cell
    if len(people) < min_cell:
        raise Refusal(Code.TOO_FEW_PARTICIPANTS, f"{len(people)} test participants; min_cell is {min_cell}")
    if not site.first_assessment(request):
        raise Refusal(Code.ALREADY_ASSESSED, "another model of this study was measured here before (state/assessed-*)")
    site.receive(request)
    found = score(site.model.net, finding(reader), people, each=site.wanted.each)
    return Measured(site.name, len(people), told(found, min_cell, sums="sums" in site.policy.statistics))


def probability_of(site: Site, reader: AnyReader, people: People, prevalence: float) -> NDArray[np.float64]:
    """(participants,) probability of the positive class by the model that the site has received."""
    logits = predict(site.model.net, diagnosing(reader), people, each=site.wanted.each)
    if site.study.training.balance_classes:
        logits = correct_prior(logits, prevalence)
    return np.asarray(expit(logits))


def reader_of(site: Site, setup: str) -> AnyReader:
    """What turns people into the network's rows; raises Refusal where the setup was never sent here."""
    reader = site.reader(setup)
    if reader is None:
        raise Refusal(Code.SETUP_NEEDED, f"setup {setup[:12]} was never sent to this site")
    return reader


def validation_metrics(site: Site, reader: AnyReader) -> dict[str, float]:
    """What the study tells of validation participants; nothing where they are fewer than the policy's smallest cell."""
    people: People = site.split.validation
    if len(people) < site.policy.min_cell:
        return {}
    return aim_of(site.study).told(site.model.net, reader, people, each=site.wanted.each)


def allowed(site: Site, metrics: Mapping[str, float]) -> dict[str, float]:
    """Those of the metrics that the policy lets out; ``dice`` lets out ``MUSCLE.dice.mean`` as well."""
    return {name: value for name, value in metrics.items() if {name, *name.split(".")[1:2]} & {*site.policy.metrics}}
