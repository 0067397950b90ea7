"""The likelihood-ratio attack on a whole study, with models that are made as the study makes its own.

A study's training participants are cut in halves at random, within hospital and class. On each half the study is run:
the hospitals' own training with the study's privacy, the coordinator's own strategy, all rounds. What a model says of
people inside and outside of its half shows how much it betrays. Each model in turn is the one under attack, and all but
its own counterpart are the shadow models (Carlini et al. 2022); the attacker knows the study, the halves of the shadow
models, and the public seed, and is told nothing else. Everything is per participant.

What is left out of a run here changes no model: messages, policy, ledger, audit, evaluations, secure aggregation.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.policy import Policy
from client.training_round import privatize, seed_of, training
from client.workspace import Site
from sarco_models.accounting import plan
from sarco_models.cohort import HeldOut, People, Split, TrainingPeople
from sarco_models.config import StudyConfig
from sarco_models.devices import choose
from sarco_models.errors import ConfigError
from sarco_models.intervals import Estimate, bootstrap, everybody_alike
from sarco_models.membership import FPR, Confidence, confidence, likelihood_ratio, offline_ratio
from sarco_models.metrics import area_under_roc
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.privacy import clip_after
from sarco_models.private_statistics import private_description
from sarco_models.schema import design_columns
from sarco_models.scores import Labels, Scores, Weights
from sarco_models.secret import Secret
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader, fit, predict
from sarco_models.wire import Train, Trained
from server.runs import start_model
from server.strategies import aggregate, build_strategy
from simulation.grid import as_coordinator

SHADOWS = 32
"""Shadow models of each attack."""

REPEATS = 500
"""Draws of participants for an interval."""

_CHUNK = 25
"""Draws that are computed at once: a matter of memory only."""


@dataclass(frozen=True, eq=False)
class Trials:
    """What every model says of every training participant of the study.

    Attributes:
        confidence: (models, participants) log odds of the true class.
        inside: (models, participants) True where the model was trained on the participant; models 2k and 2k + 1 are
            counterparts: who is inside the one is outside the other.
    """

    confidence: Confidence
    inside: Labels

    @property
    def trained_on(self) -> float:
        """Participants inside a model, on average."""
        return float(self.inside.sum(axis=1).mean())


def trials(
    study: StudyConfig,
    splits: Mapping[str, Split],
    *,
    shadows: int = SHADOWS,
    seed: int = 1,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Trials:
    """Run the study on random halves of its training participants.

    Args:
        study: as it is run; private or not.
        splits: of each hospital, by name; only the training participants are looked at.
        shadows: shadow models of each attack, an even number of 4 or more; two more models are trained.
        seed: of the halves, and of the noise: a simulation may repeat itself, a hospital never does.
        watch: called with models done and models in all.

    Raises:
        ConfigError: the study's models are not one for all, or ``shadows`` is out of range.
    """
    if study.model.local_norms:
        raise ConfigError('model.norm = "local": every hospital has a model of its own here: attack them one by one')
    if shadows < 4 or shadows % 2:
        raise ConfigError(f"shadows = {shadows}: an even number of 4 or more is needed; {SHADOWS} is usual")
    as_coordinator()  # Flower's strategies average messages
    # What the frozen layers make of an image is kept for all halves together (as for all shares of a cohort).
    halved = study.model_copy(update={"split": study.split.model_copy(update={"use": 0.5})})
    inside = halves(splits, shadows + 2, np.random.default_rng([seed, 53]))
    found = []
    for number, chosen in enumerate(inside):
        found.append(_confidence(halved, splits, chosen, Secret(seed=1000 * seed + number)))
        watch(number + 1, len(inside))
    return Trials(np.array(found), inside)


def halves(splits: Mapping[str, Split], models: int, rng: np.random.Generator) -> Labels:
    """(models, participants) who is inside; within each hospital and class a half, the other half in the counterpart.

    Participants follow each other as in ``splits``. Of an odd number the larger part goes to the one and to the other
    model by chance.
    """
    groups, start = [], 0
    for parts in splits.values():
        labels = parts.train.labels
        groups += [start + np.flatnonzero(labels == label) for label in (0, 1)]
        start += len(labels)
    inside = np.zeros((models, start), dtype=np.bool_)
    for first in range(0, models, 2):
        for members in groups:
            order = rng.permutation(members)
            inside[first, order[: (len(order) + int(rng.integers(2))) // 2]] = True
        inside[first + 1] = ~inside[first]
    return inside


# ---- one model -------------------------------------------------------------------------------------------------------


def _confidence(study: StudyConfig, splits: Mapping[str, Split], chosen: Labels, secret: Secret) -> Confidence:
    """(participants,) confidence of one model in everybody."""
    with tempfile.TemporaryDirectory() as folder:
        sites, start = [], 0
        for name, parts in splits.items():
            here = chosen[start : start + len(parts.train)]
            start += len(here)
            people = TrainingPeople(parts.cohort, parts.train.members[here])
            site = Site(name, study, "", Policy(), replace(parts, train=people), Path(folder) / name, secret=secret)
            site.state.mkdir()
            sites.append(site)
        reader = trained(study, [site for site in sites if len(site.split.train)])
    logits = [predict(reader.model.net, reader, _everybody(parts.train)) for parts in splits.values()]
    labels = np.concatenate([parts.train.labels for parts in splits.values()]) == 1
    return confidence(np.concatenate(logits), labels)


def _everybody(people: TrainingPeople) -> People:
    return HeldOut(people.cohort, people.members)


def trained(study: StudyConfig, sites: Sequence[Site]) -> Reader:
    """All rounds of a study; the reader's model is the final one."""
    model = start_model(study).to(choose("auto"))
    tensors = trained_tensors(model.net)
    moments = [_moments(site) for site in sites]
    reader = Reader.of(model, agreed_scaling(study, sum(moments[1:], start=moments[0])), study)
    strategy, current = build_strategy(study), Parameters.pack(tensors)
    for site in sites:
        site.__dict__["model"] = model  # they train one after another, and load what they are sent
    for round_ in range(1, study.federation.rounds + 1):
        replies = []
        for site in sites:
            current.load_into(tensors)
            replies.append(_round(site, reader, Train(study.digest, "", round_, current)))
        current = aggregate(strategy, round_, replies, current)
    current.load_into(tensors)
    return reader


def _round(site: Site, reader: Reader, request: Train) -> Trained:
    """What a hospital does in a round (``client.training_round.train``), but for what it writes down and measures."""
    work = privatize(site, reader)(training(site, reader, request))
    fit(work, seed=seed_of(site, request.round))
    if site.study.privacy and site.study.privacy.adaptive_clipping:
        site.keep_clip(clip_after(work))
    return Trained(site.name, request.round, len(site.split.train), Parameters.pack(site.tensors), {})


def _moments(site: Site) -> Moments:
    """Sums over the tables, as the study has them: exact, with noise, or withheld."""
    study, people, columns = site.study, site.split.train, design_columns(site.study.features)
    shown = study.privacy is None or study.privacy.statistics != "withheld"
    used = np.array([shown and c.group in study.model.modalities for c in columns], dtype=np.bool_)
    spend = plan(study).statistics if study.privacy else None
    if spend is None:
        return Moments.of(people, columns, extremes=study.tabular.scaling == "minmax").of_columns(used)
    rng = site.secret.numpy()
    return private_description(people, columns, used, noise_multiplier=spend.noise_multiplier, rng=rng).moments


# ---- the attacks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Attacked:
    """One attack on all models.

    Attributes:
        auc: mean over the attacked models.
        tpr: share of the members found where 1 % of the others are, models and participants taken together.
        curve: (points, 2) false and true positives.
    """

    auc: Estimate
    tpr: Estimate
    curve: NDArray[np.float64]


def attacks(found: Trials, rng: np.random.Generator) -> dict[str, Attacked]:
    """The loss threshold and both forms of the likelihood-ratio attack, each model attacked in its turn.

    Intervals are from participants drawn with replacement, with all that the models say of them: the models are given.
    """
    scores: dict[str, Scores] = {"loss": found.confidence}
    for name, attack in (("lira", likelihood_ratio), ("lira_offline", offline_ratio)):
        scores[name] = np.array([_against(attack, found, target) for target in range(len(found.inside))])
    return {name: attacked(each, found.inside, rng) for name, each in scores.items()}


def _against(attack: Callable[..., Scores], found: Trials, target: int) -> Scores:
    """(participants,) scores; of the counterpart, which has everybody that the target has not, nothing is known."""
    others = np.arange(len(found.inside)) // 2 != target // 2
    return attack(found.confidence[target], found.confidence[others], found.inside[others])


def attacked(scores: Scores, inside: Labels, rng: np.random.Generator) -> Attacked:
    """AUC and share of members found, with intervals.

    Args:
        scores: (models, participants), larger for suspected members.
        inside: (models, participants).
        rng: of the draws for the intervals.
    """
    of_models = [area_under_roc(s, i) for s, i in zip(scores, inside, strict=True)]

    def mean_area(weights: Weights) -> Scores:
        return np.asarray(np.mean([of(weights) for of in of_models], axis=0))

    statistics = {"auc": mean_area, "tpr": _share_found(scores, inside)}
    values = bootstrap(statistics, everybody_alike(inside[0]), rng, repeats=REPEATS)
    return Attacked(values["auc"], values["tpr"], _curve(scores, inside))


def _share_found(scores: Scores, inside: Labels) -> Callable[[Weights], Scores]:
    """Share of pairs (model, member) above the threshold that at most 1 % of the other pairs pass."""
    order = np.argsort(-scores, axis=None, kind="stable")
    person, member = order % inside.shape[1], inside.reshape(-1)[order]

    def of(weights: Weights) -> Scores:
        return np.concatenate([some(part) for part in _chunks(weights)])

    def some(weights: Weights) -> Scores:
        pairs = weights[:, person]
        found, alarms = (np.cumsum(pairs * kind, axis=1) for kind in (member, ~member))
        allowed = alarms <= FPR * alarms[:, -1:]
        passed = np.where(allowed, found, 0.0).max(axis=1)
        return np.asarray(passed / found[:, -1])

    return of


def _chunks(weights: Weights) -> Iterator[Weights]:
    for start in range(0, len(weights), _CHUNK):
        yield weights[start : start + _CHUNK]


def _curve(scores: Scores, inside: Labels) -> NDArray[np.float64]:
    member = inside.reshape(-1)[np.argsort(-scores, axis=None, kind="stable")]
    both = [np.cumsum(kind) / max(int(kind.sum()), 1) for kind in (~member, member)]
    return np.stack(both, axis=1)
