"""Exact Shapley values of a few players, what share each of them has, and what is lost without it.

A player is a modality (image, clinical, lab) or a feature. A coalition's *worth* is the model's score when only the
coalition's players are the person's own; ``explain`` makes it. Everything here is arithmetic on arrays.

A share says how far a player moves this model's scores, not whether it moves them the right way: a noisy modality can
have a large one. So shares are never shown without :func:`without_each`, which counts in AUC (SCIENCE 4.6, 5: 25).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import REPEATS, Estimate, WeightedStatistic, bootstrap, everybody_alike
from sarco_models.metrics import Comparison, auc_interval, compare_family
from sarco_models.scores import Labels, ParticipantScores, Scores, Weights


def shapley(worth: Scores) -> Scores:
    """Each player's contribution: its mean marginal worth over all orders of joining. Shapley (1953).

    Args:
        worth: (2**players, ...) worth of every coalition; bit j of the row's number says that player j takes part.

    Returns:
        (players, ...); their sum is the worth of all minus the worth of none.

    Raises:
        ValueError: the number of rows is no power of two.
    """
    players = len(worth).bit_length() - 1
    if len(worth) != 2**players:
        raise ValueError(f"{len(worth)} coalitions; k players have 2**k")
    coalitions = np.arange(len(worth))
    contributions = np.empty((players, *worth.shape[1:]))
    for player in range(players):
        without = coalitions[coalitions >> player & 1 == 0]
        weight = np.array([_weight(int(c).bit_count(), players) for c in without])
        contributions[player] = np.tensordot(weight, worth[without | 1 << player] - worth[without], axes=1)
    return contributions


def _weight(earlier: int, players: int) -> float:
    """Share of the orders in which exactly a given coalition of this size comes before a player."""
    return factorial(earlier) * factorial(players - earlier - 1) / factorial(players)


# --- how much of the score -------------------------------------------------------------------------------------------


def magnitudes(
    contributions: Scores, players: Sequence[str], rng: np.random.Generator, *, repeats: int = REPEATS
) -> dict[str, Estimate]:
    """Mean absolute contribution of each player (global mean |SHAP|), on the scale of the score.

    Args:
        contributions: (players, participants).
        players: their names.
        rng: for intervals from resampled participants; the model and the background people stay as they are.
        repeats: number of resamples.

    Raises:
        UndefinedMetric: there are no participants.
    """
    size = _people(contributions)
    return bootstrap(
        {name: _mean(size[j]) for j, name in enumerate(players)}, everybody_alike(size[0]), rng, repeats=repeats
    )


def shares(
    contributions: Scores, players: Sequence[str], rng: np.random.Generator, *, repeats: int = REPEATS
) -> dict[str, Estimate]:
    """Mean absolute contribution of each player as a share of all players'; the shares of all sum to 1.

    Arguments as of :func:`magnitudes`.

    Raises:
        UndefinedMetric: there are no participants, or no player contributes anything.
    """
    size = _people(contributions)
    total = size.sum(axis=0)
    if not total.any():
        raise UndefinedMetric(f"no player moves the score of any of {total.size} participants: shares have no value")
    parts = {name: _ratio(size[j], total) for j, name in enumerate(players)}
    return bootstrap(parts, everybody_alike(total), rng, repeats=repeats)


def shares_by_group(
    contributions: Scores, players: Sequence[str], groups: Mapping[str, Labels], rng: np.random.Generator
) -> dict[str, dict[str, Estimate]]:
    """Shares in each group of participants; a group without a value is left out.

    Args:
        contributions: (players, participants).
        players: their names.
        groups: name -> (participants,) who belongs to it: by true class, by predicted class, or everybody.
        rng: for intervals from resampled participants.
    """
    found = {}
    for name, members in groups.items():
        try:
            found[name] = shares(contributions[:, members], players, rng)
        except UndefinedMetric:
            continue
    return found


def by_class(labels: Labels, names: tuple[str, str] = ("sarcopenia", "non_sarcopenia")) -> dict[str, Labels]:
    """The paper's three groups: those with the disease, those without, all."""
    return {names[0]: labels, names[1]: ~labels, "all": np.ones_like(labels)}


def _people(contributions: Scores) -> Scores:
    if not contributions.size:
        raise UndefinedMetric("no participants: their contributions have no mean; report it as absent")
    return np.abs(contributions)


def _mean(values: Scores) -> WeightedStatistic:
    return lambda weights: weights @ values / weights.sum(axis=1)


def _ratio(part: Scores, whole: Scores) -> WeightedStatistic:
    def of(weights: Weights) -> Scores:
        below = weights @ whole
        return np.divide(weights @ part, below, out=np.full_like(below, np.nan), where=below > 0)

    return of


# --- how much of the AUC ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Without:
    """One model, with all players and with some of them.

    Attributes:
        auc: without the player, or with the player alone.
        loss: AUC with everything minus that AUC; paired DeLong, P adjusted over all players (Holm).
    """

    auc: Estimate
    loss: Comparison


def without_each(worth: Scores, players: Sequence[str], ids: Sequence[str], labels: Labels) -> dict[str, Without]:
    """What the AUC loses when one player's data are those of background people.

    The model is not trained again: a model that was never given the player may make up for it from the others.

    Args:
        worth: (2**players, participants); see :func:`shapley`.
        players: their names.
        ids: of the participants.
        labels: (participants,) True = sarcopenia.

    Raises:
        UndefinedMetric: one class only.
    """
    everything = len(worth) - 1
    return _against_all(worth, {name: everything & ~(1 << j) for j, name in enumerate(players)}, ids, labels)


def each_alone(worth: Scores, players: Sequence[str], ids: Sequence[str], labels: Labels) -> dict[str, Without]:
    """What is left of the AUC when the data of all players but one are those of background people.

    Arguments and errors as of :func:`without_each`.
    """
    return _against_all(worth, {name: 1 << j for j, name in enumerate(players)}, ids, labels)


def _against_all(
    worth: Scores, coalitions: Mapping[str, int], ids: Sequence[str], labels: Labels
) -> dict[str, Without]:
    full = ParticipantScores(tuple(ids), worth[-1], labels)
    others = {name: ParticipantScores(tuple(ids), worth[c], labels) for name, c in coalitions.items()}
    losses = compare_family(full, others)
    return {name: Without(auc_interval(other.scores, labels), losses[name]) for name, other in others.items()}


def ensemble(worths: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Worth of a model that is the mean of several, on the scale of the worths. Shapley values are linear in it."""
    return np.asarray(np.mean(np.stack(worths), axis=0))
