"""What a hospital does when it is asked: policy first, then the work, and a coded refusal instead of an error text."""

import logging
import traceback
from collections.abc import Mapping
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from client.policy import Refusal, check, check_people
from client.workspace import Site
from sarco_models.calibration import correct_prior
from sarco_models.cohort import People
from sarco_models.errors import DataError, ProtocolError, UndefinedMetric
from sarco_models.histograms import MergedHistogram, ScoreHistogram
from sarco_models.metrics import auc
from sarco_models.parameters import Parameters
from sarco_models.schema import design_columns
from sarco_models.scores import ParticipantScores
from sarco_models.site_evaluation import SiteEvaluation
from sarco_models.summaries import Moments
from sarco_models.training import (
    Loss,
    Reader,
    Training,
    adamw,
    chained,
    fit,
    participant_loss,
    predict,
    proximal,
    steps_per_epoch,
    warmup_cosine,
)
from sarco_models.wire import (
    Assess,
    Assessed,
    Code,
    Describe,
    Described,
    Evaluate,
    Evaluated,
    Ready,
    Refused,
    Reply,
    Request,
    Setup,
    Train,
    Trained,
)

log = logging.getLogger(__name__)


def handle(site: Site, request: Request) -> Reply:
    """Answer one request. Errors leave as codes; what a hospital's log says of them names no file and no person."""
    try:
        check(request, site.policy, site.study.federation.rounds)
        torch.set_num_threads(site.threads)
        return _work(site, request)
    except Refusal as refusal:
        log.warning("refused: %s", refusal)
        code = refusal.code
    except ProtocolError as error:
        log.warning("bad request: %s", error)
        code = Code.BAD_REQUEST
    except DataError as error:
        rules = ", ".join(sorted({f.rule for f in error.findings}))
        log.error("%d faults in the site's data (%s): run sarco-site check-data", len(error.findings), rules)
        code = Code.DATA_FAULT
    except Exception as error:
        # The edge of the hospital: whatever went wrong, its text must not travel (FLOWER 1.3, PHI leak); it may hold
        # a file name or a value, so the log too gets no more than the kind of error and the line of code.
        log.error("the request failed: %s", place_of(error))
        code = Code.INTERNAL
    return Refused(site.name, code)


def place_of(error: Exception) -> str:
    """The kind of an error and the line of code that raised it, without its text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def _work(site: Site, request: Request) -> Reply:
    people = site.split.train
    check_people(
        training=len(people),
        positive=int(people.labels.sum()),
        policy=site.policy,
        required=site.study.federation.min_participants,
    )
    match request:
        case Describe():
            return describe(site)
        case Setup():
            site.keep(request)
            return Ready(site.name, request.digest)
        case Train():
            return train(site, request)
        case Evaluate():
            return evaluate(site, request)
        case Assess():
            return assess(site, request)


def describe(site: Site) -> Described:
    """Count participants and add up the training participants' tables."""
    people, columns = site.split.train, design_columns(site.study.features)
    used = [c.group in site.study.model.modalities for c in columns]
    moments = Moments.of(people, columns, extremes=site.study.tabular.scaling == "minmax")
    return Described(
        site=site.name,
        label_rule=site.label_rule,
        participants=len(site.split.cohort),
        training=len(people),
        training_positive=int(people.labels.sum()),
        images=len(site.split.cohort.owner),
        moments=moments.of_columns(np.array(used, dtype=np.bool_) & (moments.count >= site.policy.min_cell)),
    )


def train(site: Site, request: Train) -> Trained:
    """Evaluate the model that came down, train it for the study's local epochs, and send it up."""
    reader = _reader(site, request.setup)
    site.receive(request)
    metrics = _validation_metrics(site, reader)
    losses = fit(training(site, reader, request), seed=_seed(site, request.round))
    site.keep_norms(request)
    metrics = {**metrics, "train_loss": float(np.mean(losses))}
    return Trained(
        site=site.name,
        round=request.round,
        participants=len(site.split.train),
        parameters=Parameters.pack(site.tensors),
        metrics=_allowed(site, metrics),
    )


def training(site: Site, reader: Reader, request: Train) -> Training:
    """Put one round's training together from the study."""
    study, people, net = site.study, site.split.train, site.model.net
    cfg = study.training
    rng = np.random.default_rng([_seed(site, request.round), 1])
    steps = cfg.local_steps or cfg.local_epochs * steps_per_epoch(people, cfg)
    loss: Loss = participant_loss
    if study.federation.proximal_mu:
        anchor = {name: p.detach().clone() for name, p in site.tensors.items()}
        loss = proximal(loss, anchor, study.federation.proximal_mu)
    return Training(
        net=net,
        optimizer=adamw(net, cfg),
        batches=islice(chained(reader.batches(people, rng) for _ in count()), steps),
        loss=loss,
        rates=warmup_cosine(
            round_=request.round, rounds=study.federation.rounds, warmup_rounds=cfg.warmup_rounds, steps=steps
        ),
    )


def evaluate(site: Site, request: Evaluate) -> Evaluated:
    """Score the final model: metrics on validation participants, the score histogram of training participants."""
    reader = _reader(site, request.setup)
    site.receive(request)
    people = site.split.train
    probability = _probability(site, reader, people, request.prevalence)
    counts = ScoreHistogram.of(probability, people.labels == 1, num_bins=site.study.evaluation.histogram_bins)
    histogram = None
    try:
        histogram = MergedHistogram.of(counts, site.policy.min_cell)
    except UndefinedMetric as error:
        log.warning("no histogram of training participants leaves: %s", error)
    metrics = _allowed(site, _validation_metrics(site, reader))
    return Evaluated(site.name, request.round, len(people), metrics, histogram)


def assess(site: Site, request: Assess) -> Assessed:
    """Score the released model on the test participants, once in a study: two thresholds would tell who is between."""
    reader = _reader(site, request.setup)
    if not site.first_assessment(request):
        raise Refusal(
            Code.ALREADY_ASSESSED,
            "another model or threshold of this study was assessed here before (state/assessed-*)",
        )
    site.receive(request)
    people = site.split.test
    probability = _probability(site, reader, people, request.prevalence)
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


def _probability(site: Site, reader: Reader, people: People, prevalence: float) -> NDArray[np.float64]:
    logits = predict(site.model.net, reader, people)
    if site.study.training.balance_classes:
        logits = correct_prior(logits, prevalence)
    return np.asarray(1 / (1 + np.exp(-logits)))


def _reader(site: Site, setup: str) -> Reader:
    reader = site.reader(setup)
    if reader is None:
        raise Refusal(Code.SETUP_NEEDED, f"setup {setup[:12]} was never sent to this site")
    return reader


def _validation_metrics(site: Site, reader: Reader) -> dict[str, float]:
    people: People = site.split.validation
    if len(people) < site.policy.min_cell:
        return {}
    logits = predict(site.model.net, reader, people)
    labels = people.labels == 1
    metrics = {"loss": float(np.mean(np.logaddexp(0.0, np.where(labels, -logits, logits))))}
    try:
        metrics["auc"] = auc(logits, labels)
    except UndefinedMetric:
        log.info("the AUC of %d validation participants is undefined: one class only", len(people))
    return metrics


def _allowed(site: Site, metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name in site.policy.metrics}


def _seed(site: Site, round_: int) -> int:
    """Depends on study, site and round alone, so that a round can be repeated and be the same round."""
    words = [site.study.training.seed, round_, *site.name.encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
