"""Negative controls: what a model has to beat. They are fitted on all hospitals' training participants together."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from sarco_models.cohort import People, TrainingPeople, pool
from sarco_models.config import StudyConfig
from sarco_models.decisions import choose_threshold
from sarco_models.errors import ConfigError, UndefinedMetric
from sarco_models.metrics import roc_curve
from sarco_models.schema import design_columns
from sarco_models.scores import ParticipantScores
from sarco_models.summaries import Moments, TableScaling
from simulation.arms import Arm
from simulation.harness import Scores

Inputs = Callable[[People], NDArray[np.floating]]


def control_scores(controls: Mapping[str, str], arm: Arm) -> Iterator[Scores]:
    """Score every held-out cohort by every control.

    Args:
        controls: name -> ``prevalence`` (everybody alike), ``image_count``, ``feature:NAME`` or ``logistic:GROUP``.
        arm: any arm of the seed; its study and folders are used.

    Yields:
        scores whose ``arm`` is the control's name; thresholds are frozen on training participants.
    """
    train = pool([arm.split_of(site.name) for site in arm.sites]).train
    cohorts = arm.held_out()
    for name, kind in controls.items():
        inputs = _inputs(kind, train, arm.study)
        model = LogisticRegression(max_iter=2000).fit(inputs(train), train.labels)
        threshold = _threshold(model, inputs(train), train)
        for site, people in cohorts.items():
            scored = ParticipantScores(people.ids, model.predict_proba(inputs(people))[:, 1], people.labels == 1)
            yield Scores(name, arm.study.training.seed, site, scored, threshold)


class _Inputs:
    """Columns that a control looks at, scaled and completed with the training participants' means."""

    def __init__(self, columns: list[int], scaling: TableScaling) -> None:
        self._columns, self._scaling = columns, scaling

    def __call__(self, people: People) -> NDArray[np.float32]:
        return self._scaling(people.table)[:, self._columns]


def _image_count(people: People) -> NDArray[np.float64]:
    return np.array([[float((people.cohort.owner == member).sum())] for member in people.members])


def _nothing(people: People) -> NDArray[np.float64]:
    return np.zeros((len(people), 1))


def _inputs(kind: str, train: TrainingPeople, study: StudyConfig) -> Inputs:
    if kind == "prevalence":
        return _nothing
    if kind == "image_count":
        return _image_count
    columns = design_columns(study.features)
    what, _, name = kind.partition(":")
    # A categorical feature has one column for each category, NAME=CATEGORY.
    chosen = [
        i for i, c in enumerate(columns) if name == {"feature": c.name.partition("=")[0], "logistic": c.group}.get(what)
    ]
    if not chosen:
        raise ConfigError(f"control {kind!r}: use prevalence, image_count, feature:NAME or logistic:GROUP of the study")
    return _Inputs(chosen, TableScaling.agreed(Moments.of(train, columns, extremes=False), columns, "standard"))


def _threshold(model: LogisticRegression, inputs: NDArray[np.floating], train: TrainingPeople) -> float | None:
    try:
        return choose_threshold(roc_curve(model.predict_proba(inputs)[:, 1], train.labels == 1))
    except UndefinedMetric:
        return None
