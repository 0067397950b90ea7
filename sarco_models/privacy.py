"""Training with differential privacy for every participant of a hospital (Abadi et al. 2016, DP-SGD).

What is promised: of two hospitals whose training participants differ by one, with all of that person's images and
values, the models that leave after training can be told apart no better than the study's epsilon and delta allow,
together with everything else the study does under noise (:mod:`sarco_models.accounting`). For that

* one vector per participant enters: the gradient of the mean loss over a bag of that person's rows, clipped;
* every participant takes part in a step by a throw of its own (Poisson), in none of which labels or the others matter;
* Gaussian noise, tied to the clipping norm, is added to the sum of all trained parameters' gradients, also when nobody
  was drawn, and the sum is divided by the *expected* number of people;
* noise, throws, drawn images, augmentation and dropout come from a :class:`~sarco_models.secret.Secret`: with a study's
  public seed, one person's absence would shift what is drawn for the others, and noise could be subtracted.

What is not: the number of the hospital's training participants counts as known to everybody (it divides, and it leaves
in replies); so does that the hospital takes part. A person who joins the hospital may move one other over the border of
the split. Losses of private steps are not told.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sarco_models.accounting import plan
from sarco_models.clipping import AdaptiveOptimizer, ClipState, ParticipantOptimizer
from sarco_models.cohort import TrainingPeople
from sarco_models.config import PrivacyConfig, StudyConfig
from sarco_models.devices import device_of
from sarco_models.errors import ConfigError
from sarco_models.fusion import Model
from sarco_models.per_participant import gradients_of, trained_parameters
from sarco_models.secret import Secret
from sarco_models.training import AnyBatch, AnyReader, Training

Privatize = Callable[[Training], Training]
"""Turns the training of a round into its private form."""


def no_privacy(training: Training) -> Training:
    """The training as it is: a study without ``[privacy]``."""
    return training


def dp_sgd(
    study: StudyConfig, reader: AnyReader, people: TrainingPeople, secret: Secret, clip: ClipState | None = None
) -> Privatize:
    """Training of a study with ``[privacy]``: its noise follows from epsilon and from the whole study.

    Args:
        study: the whole study.
        reader: of the model that trains.
        people: the hospital's training participants.
        secret: where chance comes from.
        clip: adaptive clipping: where the hospital's norm was after its last round; None: at ``max_grad_norm``.

    Raises:
        ConfigError: something would make the noise a claim without substance.
    """
    noise = plan(study).training.noise_multiplier
    return noised(study, reader, people, secret, noise_multiplier=noise, clip=clip)


def noised(  # noqa: PLR0913 - the noise is the plan's, but for tests
    study: StudyConfig,
    reader: AnyReader,
    people: TrainingPeople,
    secret: Secret,
    *,
    noise_multiplier: float,
    clip: ClipState | None = None,
) -> Privatize:
    """:func:`dp_sgd` with noise that another has calibrated: its standard deviation is this times the clipping norm."""
    model = reader.model
    if model is None:
        raise TypeError("a reader without its model: nothing can be said of what would train")
    privacy = _checked(study, model, people)
    draws, noise = secret.numpy(), secret.torch(model.device)

    def privatize(training: Training) -> Training:
        _check_optimizer(training)
        settings: dict[str, Any] = {
            "noise_multiplier": noise_multiplier,
            "max_grad_norm": clip.norm if clip and privacy.adaptive_clipping else privacy.max_grad_norm,
            "expected_batch_size": privacy.sample_rate * len(people),
            "generator": noise,
            "secure_mode": True,  # no digit of a float tells what the noise was added to (Holohan and Braghin 2021)
        }
        optimizer = (
            AdaptiveOptimizer(training.optimizer, quantile=privacy.clipping_quantile, **settings)
            if privacy.adaptive_clipping
            else ParticipantOptimizer(training.optimizer, **settings)
        )
        batches = poisson(reader, people, privacy, draws)
        return replace(training, optimizer=optimizer, batches=batches, step=_private_step(training, secret))

    return privatize


def clip_after(training: Training) -> ClipState:
    """What adaptive clipping has come to in a private training, for the hospital to keep until the next round."""
    if not isinstance(training.optimizer, ParticipantOptimizer):
        raise TypeError("a training without privacy clips nothing")
    return training.optimizer.state_of_clip


def poisson(
    reader: AnyReader, people: TrainingPeople, privacy: PrivacyConfig, rng: np.random.Generator
) -> Iterator[AnyBatch]:
    """One batch for each step of the round; everybody is in it with the study's sample rate, or nobody is."""
    draw = reader.drawn(people, rng, privacy.augmentations)
    for _ in range(reader.study.training.local_steps):
        yield draw(thrown(len(people), privacy.sample_rate, rng))


def thrown(people: int, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of those who take part: everybody by a throw of its own; with rate 1 all."""
    return np.flatnonzero(rng.random(people) < rate)


def _private_step(of: Training, secret: Secret) -> Callable[[Training, AnyBatch], float]:
    """One step with privacy; the loss is of private data without noise, so that it is nan."""
    net, parameters, gradients = of.net, trained_parameters(of.net), gradients_of(of.net, of.loss)

    def step(training: Training, batch: AnyBatch) -> float:
        optimizer = training.optimizer
        if not isinstance(optimizer, ParticipantOptimizer) or (training.net, training.loss) != (net, of.loss):
            raise TypeError("a private training was changed: make it private last")
        secret.reseed(device_of(net))
        before = _buffers(net)
        optimizer.gather(parameters, gradients(batch))
        changed = [name for name, version in _buffers(net).items() if before.get(name) != version]
        if changed:
            raise ConfigError(
                f"model: training changes {changed[0]}, which is no parameter and gets no noise, so that it would keep "
                "what single participants look like: take a network without running statistics"
            )
        optimizer.release(_pull(training, optimizer.params))
        return math.nan

    return step


def _pull(training: Training, parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    penalty = training.penalty(training.net)
    if not isinstance(penalty, Tensor):
        return ()
    return torch.autograd.grad(penalty, parameters, allow_unused=True, materialize_grads=True)


# ---- what would make the noise a claim without substance -------------------------------------------------------------


def _checked(study: StudyConfig, model: Model, people: TrainingPeople) -> PrivacyConfig:
    privacy = study.privacy
    if privacy is None:
        raise ConfigError("privacy: the study has no [privacy], so nothing says how much may be learned of anybody")
    if not isinstance(people, TrainingPeople):
        raise TypeError("training is on TrainingPeople only: nothing is fitted on people who are held out")
    if study.training.balance_classes:
        raise ConfigError(
            "training.balance_classes = true picks participants by their label, and epsilon holds for Poisson sampling "
            "only: write balance_classes = false"
        )
    if not study.training.local_steps:
        raise ConfigError("training.local_steps = 0: the noise follows from the number of steps: write it")
    if study.uses_images and study.intensity.standardize != "none":
        raise ConfigError(
            f'intensity.standardize = "{study.intensity.standardize}" measures grey levels on all training people, '
            "without noise, and changes everybody's images by them: one person's absence would change all gradients; "
            'write standardize = "none"'
        )
    if privacy.delta * len(people) >= 1:
        raise ConfigError(
            f"privacy.delta = {privacy.delta:g}: a hospital of {len(people)} training participants could hand one of "
            f"them out in the clear and keep to it: write a delta below 1/{len(people)} = {1 / len(people):.2g}, or "
            "let this hospital stay out"
        )
    check_private_model(model)
    return privacy


def check_private_model(model: Model) -> None:
    """Refuse batch norms that live: their statistics are of many participants, and get no noise (STYLE 7.1).

    By type, for timm has types of its own that Opacus' validator does not know. What trains is put into train mode by
    training; what is frozen must not be in it. Layer norms that stay at their hospital are fine: they are parameters
    like all others, clipped and noised with them, whether they leave or not.

    Raises:
        ConfigError: there is one.
    """
    parts: Mapping[str, nn.Module | None] = {"the trained part": model.net, "the frozen part": model.frozen}
    for words, part in parts.items():
        for name, module in part.named_modules() if part else ():
            if isinstance(module, _BatchNorm) and (part is model.net or module.training):
                raise ConfigError(
                    f"model.norm: {name} in {words} normalises by batches, whose statistics are of private images and "
                    'get no noise: write norm = "frozen" or "group"'
                )


def _check_optimizer(training: Training) -> None:
    if isinstance(training.optimizer, ParticipantOptimizer):
        raise TypeError("this training is private already: noise is added once")
    held = [p for group in training.optimizer.param_groups for p in group["params"]]
    trained = trained_parameters(training.net)
    if sorted(map(id, held)) != sorted(map(id, trained)):
        raise TypeError(
            f"the optimizer holds {len(held)} parameters and the network trains {len(trained)}: what is clipped and "
            "noised must be all that changes"
        )


def _buffers(net: nn.Module) -> dict[str, tuple[int, int]]:
    """Which tensor every buffer is, and how often it was written to."""
    return {name: (id(buffer), buffer._version) for name, buffer in net.named_buffers()}
