"""What a trained model owes to each modality, and to each feature of its tables, person by person.

Something is taken from a person by putting that of background people in its place: training participants who have it.
The worth of a coalition S of parts is

    v(S) = mean over background people b of score(the person's parts in S, all others of b)

(Lundberg & Lee 2017; the interventional expectation of Janzing et al. 2020). What a person lacks is no part: it stays
absent in every coalition and contributes exactly 0.

Means are taken of logits, or on request of probabilities. Logits are the default because late fusion adds there: a
contribution does not depend on how sure the model already is. A person's logit is the mean over the person's images.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sarco_models.cohort import People, TrainingPeople
from sarco_models.composites import Composites, background_people, feature_columns, modality_columns
from sarco_models.config import IMAGE
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Labels, Scores
from sarco_models.shapley import shapley
from sarco_models.training import Reader

BACKGROUND = 64
"""Background people (SCIENCE 4.6)."""

EXACT_FEATURES = 10
"""Up to this many features all coalitions are tried; with more, orders of joining are drawn."""

ORDERS = 10
"""Orders that are drawn, each used forwards and backwards."""

Scale = Literal["logit", "probability"]


@dataclass(frozen=True, eq=False)
class ModalityShapley:
    """Worth of every coalition of modalities for every participant.

    Attributes:
        modalities: as the study names them.
        worth: (2**modalities, participants); bit m of the row's number: modality m is the person's own.
        present: (modalities, participants) who has what.
        ids: identifiers; they never leave the site.
        labels: (participants,) True = sarcopenia.
        scale: of the worths.
    """

    modalities: tuple[str, ...]
    worth: Scores
    present: NDArray[np.bool_]
    ids: tuple[str, ...] = field(repr=False)
    labels: Labels = field(repr=False)
    scale: Scale

    @property
    def contributions(self) -> Scores:
        """(modalities, participants) exact Shapley values."""
        return shapley(self.worth)

    @property
    def start(self) -> Scores:
        """(participants,) score when nothing is known of a person but what is absent."""
        return np.asarray(self.worth[0])

    @property
    def scores(self) -> Scores:
        """(participants,) the model's own score: ``start`` and all contributions together."""
        return np.asarray(self.worth[-1])


@dataclass(frozen=True, eq=False)
class FeatureShap:
    """SHAP values of the features of the tables; the image is the person's own throughout.

    Attributes:
        features: as the study names them.
        contributions: (features, participants) in logits.
        start: (participants,) logit of the person's image with the background's tables.
        scores: (participants,) the model's own logit: ``start`` and all contributions together.
    """

    features: tuple[str, ...]
    contributions: Scores
    start: Scores
    scores: Scores


def modality_shapley(  # noqa: PLR0913 - two of them are options
    reader: Reader,
    people: People,
    training: TrainingPeople,
    rng: np.random.Generator,
    *,
    background: int = BACKGROUND,
    scale: Scale = "logit",
) -> ModalityShapley:
    """Exact Shapley values of the study's modalities over all of their coalitions: eight of three (SCIENCE 4.6).

    Args:
        reader: of the trained model; ``reader.model.net`` is explained.
        people: who is explained.
        training: whom background people are drawn from; only those who have every modality.
        rng: draws them.
        background: how many; all, where there are fewer.
        scale: of the score whose mean is taken.

    Raises:
        UndefinedMetric: no training participant has every modality.
    """
    modalities = reader.study.model.modalities
    standing_in = background_people(reader.study, training, background, rng)
    parts = Composites.of(reader, [people, standing_in], modality_columns(reader.study))
    own, others = np.arange(len(people)), np.arange(len(people), len(parts))
    worth = np.empty((2 ** len(modalities), len(people)))
    for coalition in range(len(worth)):
        source = {}
        for bit, name in enumerate(modalities):
            taken = parts.has(name)[own] & (coalition >> bit & 1 == 0)
            source[name] = np.where(taken[:, None], others, own[:, None]).ravel()
        scores = parts.logits(source).reshape(len(people), len(others))
        worth[coalition] = (expit(scores) if scale == "probability" else scores).mean(axis=1)
    present = np.stack([parts.has(name)[own] for name in modalities])
    return ModalityShapley(modalities, worth, present, people.ids, people.labels == 1, scale)


def feature_shap(  # noqa: PLR0913 - two of them are options
    reader: Reader,
    people: People,
    training: TrainingPeople,
    rng: np.random.Generator,
    *,
    background: int = BACKGROUND,
    orders: int = ORDERS,
) -> FeatureShap:
    """SHAP values (``shap``) of the features that the model reads from its tables, in logits.

    A categorical feature is one feature, however many columns it has. Up to ``EXACT_FEATURES`` features shap tries all
    coalitions; with more it draws orders of joining, which is exact but for interactions of three and more features,
    and always adds up. Its explainers of networks do not know GELU and LayerNorm (SCIENCE I24).

    Args:
        reader: of the trained model; ``reader.model.net`` is explained.
        people: who is explained.
        training: whom background people are drawn from; only those who have every modality.
        rng: draws them, and the orders.
        background: how many; all, where there are fewer.
        orders: drawn for each person.

    Raises:
        UndefinedMetric: the model reads no table, or no training participant has every modality.
    """
    import shap  # two seconds

    columns = feature_columns(reader.study)
    features = tuple(name for name in columns if name != IMAGE)
    if not features:
        raise UndefinedMetric("the model reads images only: there is no feature to explain; see saliency.grad_cam")
    standing_in = background_people(reader.study, training, background, rng)
    parts = Composites.of(reader, [people, standing_in], columns)
    contributions, start = np.empty((len(features), len(people))), np.empty(len(people))
    with _global_seed_kept():
        for person in range(len(people)):
            logits, gaps = _one_persons_game(parts, features, person, len(people))
            masker = shap.maskers.Independent(gaps, max_samples=len(gaps))
            if len(features) <= EXACT_FEATURES:
                explainer = shap.explainers.Exact(logits, masker)
                effort = 2 ** len(features)
            else:
                explainer = shap.explainers.Permutation(logits, masker, seed=int(rng.integers(2**32)))
                effort = orders * (2 * len(features) + 1)
            found = explainer(np.zeros((1, len(features))), max_evals=effort, silent=True)
            contributions[:, person], start[person] = found.values[0], float(found.base_values[0])
    own = np.arange(len(people))
    return FeatureShap(features, contributions, start, parts.logits(dict.fromkeys(columns, own)))


def _one_persons_game(
    parts: Composites, features: tuple[str, ...], person: int, people: int
) -> tuple[Callable[[NDArray[np.float64]], Scores], NDArray[np.float64]]:
    """What shap is given in the place of values: whose value it is, 0 the person's own, k that of background person k.

    So missing values, several columns and scaling are the network's affair alone.

    Returns:
        (n, features) -> (n,) logits, and the (background, features) that fill what is taken; 0 where nothing is.
    """
    background = len(parts) - people
    whose = np.concatenate([[person], np.arange(people, len(parts))])
    has = np.array([parts.has(name)[person] for name in features])
    gaps = np.arange(1, background + 1)[:, None] * has

    def logits(cells: NDArray[np.float64]) -> Scores:
        persons = whose[cells.astype(np.int64)]
        return parts.logits({**dict(zip(features, persons.T, strict=True)), IMAGE: np.full(len(cells), person)})

    return logits, gaps.astype(np.float64)


@contextmanager
def _global_seed_kept() -> Iterator[None]:
    """Shap draws from, and seeds, numpy's global generator; the caller's is put back."""
    state = np.random.get_state()  # noqa: NPY002 - it is shap that uses it
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
