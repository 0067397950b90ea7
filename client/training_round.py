"""One round of training at a hospital: what came down is evaluated, trained for the study's steps, and sent up.

What goes up is the study's choice: the parameters, or what training has changed of them in fewer bytes; then what its
rounding leaves is kept here and added to the next update (:mod:`sarco_models.encoding`).

A round with differential privacy is charged in full before its first gradient, and its update is kept: asked again, the
same update leaves again, so that a coordinator that was killed costs nobody privacy. Encoding sees the noised update
and what earlier ones have left, and nothing else.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice

import numpy as np

from client.kept import SMALL, Kept
from client.policy import Refusal
from client.scoring import allowed, reader_of, validation_metrics
from client.spending import charge, fingerprint
from client.workspace import Site
from sarco_models.accounting import UNPROTECTED, plan
from sarco_models.aims import aim_of
from sarco_models.encoding import shorten
from sarco_models.errors import ConfigError
from sarco_models.parameters import Parameters
from sarco_models.privacy import Privatize, clip_after, dp_sgd, no_privacy
from sarco_models.training import (
    AnyReader,
    Penalty,
    Training,
    build_optimizer,
    chained,
    fit,
    no_penalty,
    proximal,
    steps_per_epoch,
    warmup_cosine,
)
from sarco_models.wire import Code, Train, Trained, Updated


def train(site: Site, request: Train) -> Trained | Updated:
    """Evaluate the model that came down, train it, and send it up; a round that was trained before is sent again.

    Raises:
        BudgetExceeded: the round would spend more privacy than the hospital has left; nothing was trained.
    """
    reader = reader_of(site, request.setup)
    kept = Kept(site.state, fingerprint(site))
    before = _answered(site, kept, request)
    if before:  # the policy of today holds for an answer of yesterday
        return replace(before, metrics=allowed(site, before.metrics))
    site.receive(request)
    metrics = validation_metrics(site, reader)
    work = privatize(site, reader)(training(site, reader, request))
    if not _kept(site):
        return _trained(site, request, work, metrics)
    answer = request.parameters.vector.nbytes * 65 // 64 + SMALL  # what cannot be compressed becomes a little longer
    beside = (request.parameters.vector.nbytes if site.study.federation.encoded else 0) + SMALL
    beside += sum(t.nbytes for t in site.norms.values())
    with kept.room(request, answer, beside) as make_room:
        reply = _trained(site, request, work, metrics, make_room)
        kept.put(request, reply)
    return reply


def _trained(
    site: Site, request: Train, work: Training, metrics: dict[str, float], make_room: Callable[[], None] = lambda: None
) -> Trained | Updated:
    """Charge, train and put the answer together; ``make_room`` is called before anything is stored."""
    charge(site, request, plan(site.study).training if site.study.privacy else UNPROTECTED)
    losses = fit(work, seed=seed_of(site, request.round))
    make_room()
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
        study=request.study,
    )
    return shortened(site, request, trained) if site.study.federation.encoded else trained


def shortened(site: Site, request: Train, trained: Trained) -> Updated:
    """The round's work in the study's encoding; what rounding leaves is on the disk before anything leaves."""
    cfg, manifest = site.study.federation, request.parameters.manifest
    owed = site.owed(request)
    short = shorten(
        trained.parameters,
        request.parameters,
        owed.vector if owed else None,
        encoding=cfg.encoding,
        compress=cfg.compression == "zstd",
    )
    if short.left is not None:
        site.keep_owed(request, Parameters(manifest, short.left))
    return Updated(trained.site, trained.round, trained.participants, short.update, trained.metrics, trained.study)


def _answered(site: Site, kept: Kept, request: Train) -> Trained | Updated | None:
    """What this very request was answered before, if such answers are kept."""
    if not _kept(site):
        return None
    return kept.get(request, Updated) if site.study.federation.encoded else kept.get(request, Trained)


def _kept(site: Site) -> bool:
    """What is trained under noise, or sent under masks, is trained once; all else comes out the same again."""
    return site.study.privacy is not None or site.study.federation.secure_aggregation


def privatize(site: Site, reader: AnyReader) -> Privatize:
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


def training(site: Site, reader: AnyReader, request: Train) -> Training:
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
        batches=site.wanted.each(islice(chained(reader.batches(people, rng) for _ in count()), steps)),
        loss=aim_of(study).loss,
        penalty=penalty,
        rates=warmup_cosine(
            round_=request.round, rounds=study.federation.rounds, warmup_rounds=cfg.warmup_rounds, steps=steps
        ),
    )


def seed_of(site: Site, round_: int) -> int:
    """Depends on study, site and round alone, so that a round can be repeated and be the same round."""
    words = [site.study.training.seed, round_, *site.name.encode()]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
