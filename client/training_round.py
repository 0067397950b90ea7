"""One round of training at a hospital: what came down is evaluated, trained for the study's steps, and sent up.

A round with differential privacy is charged in full before its first gradient, and its update is kept: asked again, the
same update leaves again, so that a coordinator that was killed costs nobody privacy.
"""

from dataclasses import replace
from itertools import count, islice

import numpy as np

from client.kept import Kept
from client.policy import Refusal
from client.scoring import allowed, reader_of, validation_metrics
from client.spending import charge, fingerprint
from client.workspace import Site
from sarco_models.accounting import UNPROTECTED, plan
from sarco_models.errors import ConfigError
from sarco_models.parameters import Parameters
from sarco_models.privacy import Privatize, clip_after, dp_sgd, no_privacy
from sarco_models.training import (
    Penalty,
    Reader,
    Training,
    build_optimizer,
    chained,
    fit,
    no_penalty,
    participant_loss,
    proximal,
    steps_per_epoch,
    warmup_cosine,
)
from sarco_models.wire import Code, Train, Trained


def train(site: Site, request: Train) -> Trained:
    """Evaluate the model that came down, train it, and send it up; a round that was trained before is sent again.

    Raises:
        BudgetExceeded: the round would spend more privacy than the hospital has left; nothing was trained.
    """
    reader = reader_of(site, request.setup)
    kept = Kept(site.state, fingerprint(site))
    before = kept.get(request, Trained) if _kept(site) else None
    if before:  # the policy of today holds for an answer of yesterday
        return replace(before, metrics=allowed(site, before.metrics))
    site.receive(request)
    metrics = validation_metrics(site, reader)
    work = privatize(site, reader)(training(site, reader, request))
    charge(site, request, plan(site.study).training if site.study.privacy else UNPROTECTED)
    losses = fit(work, seed=seed_of(site, request.round))
    site.keep_norms(request)
    if site.study.privacy is None:
        metrics["train_loss"] = float(np.mean(losses))
    elif site.study.privacy.adaptive_clipping:
        site.keep_clip(clip_after(work))
    trained = Trained(
        site=site.name,
        round=request.round,
        participants=len(site.split.train),
        parameters=Parameters.pack(site.tensors),
        metrics=allowed(site, metrics),
    )
    if _kept(site):
        kept.put(request, trained)
    return trained


def _kept(site: Site) -> bool:
    """What is trained under noise, or sent under masks, is trained once; all else comes out the same again."""
    return site.study.privacy is not None or site.study.federation.secure_aggregation


def privatize(site: Site, reader: Reader) -> Privatize:
    """The study's privacy, as a step that changes the training; the only place that asks whether there is any.

    Raises:
        Refusal: something at this site would make the noise a claim without substance.
    """
    if site.study.privacy is None:
        return no_privacy
    try:
        return dp_sgd(site.study, reader, site.split.train, site.secret, site.clip)
    except ConfigError as error:
        raise Refusal(Code.NOT_PRIVATE_ENOUGH, str(error)) from None


def training(site: Site, reader: Reader, request: Train) -> Training:
    """Put one round's training together from the study."""
    study, people, net = site.study, site.split.train, site.model.net
    cfg = study.training
    rng = np.random.default_rng([seed_of(site, request.round), 1])
    steps = cfg.local_steps or cfg.local_epochs * steps_per_epoch(people, cfg)
    penalty: Penalty = no_penalty
    if study.federation.proximal_mu:
        anchor = {name: p.detach().clone() for name, p in site.tensors.items()}
        penalty = proximal(anchor, study.federation.proximal_mu)
    return Training(
        net=net,
        optimizer=build_optimizer(net, cfg),
        batches=islice(chained(reader.batches(people, rng) for _ in count()), steps),
        loss=participant_loss,
        penalty=penalty,
        rates=warmup_cosine(
            round_=request.round, rounds=study.federation.rounds, warmup_rounds=cfg.warmup_rounds, steps=steps
        ),
    )


def seed_of(site: Site, round_: int) -> int:
    """Depends on study, site and round alone, so that a round can be repeated and be the same round."""
    words = [site.study.training.seed, round_, *site.name.encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
