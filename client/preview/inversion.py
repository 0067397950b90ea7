"""The image and the table row of one training participant, computed back from an update, to be shown side by side.

First the worst case, an update of this one person with one image and one step, without any protection; then the update
of the round, as it would leave and as the coordinator would see it. In all of them the attacker is given the network,
the label and everything else but the image (Geiping et al. 2020), so that what fails here fails for anybody weaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from client.preview.one_round import Round
from sarco_models.cohort import TrainingPeople
from sarco_models.config import IMAGE, StudyConfig
from sarco_models.inversion import Picture, from_update, gradient, invert, ssim, table_rows
from sarco_models.parameters import Parameters
from sarco_models.reader import Reader
from sarco_models.schema import design_columns
from sarco_models.summaries import TableScaling
from sarco_models.training import warmup_cosine

ALONE = "an unprotected update of this person alone"
SECONDS = 20.0
"""For one search: as many candidates as fit, within the limits below."""

MOST_STEPS, LEAST_STEPS = 300, 20
_TRIAL = 6


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an attacker gets from one form of the update.

    Attributes:
        of: which form.
        image: (height, width) in [0, 1]; None in a study without images.
        likeness: SSIM with the truth (Wang et al. 2004); None without an image.
        correlation: of its grey values with the truth's; None without an image.
        row: (columns,) of the table in the study's units; NaN where nothing stands in the update.
        off: median distance of the row's known values from the truth, in standard deviations of the hospital's training
            participants; None without a row.
    """

    of: str
    image: Picture | None
    likeness: float | None
    correlation: float | None
    row: NDArray[np.float64]
    off: float | None


@dataclass(frozen=True, eq=False)
class Inverted:
    """One participant, and what was computed back.

    Attributes:
        truth: the person's image as the network reads it; None in a study without images.
        row: (columns,) the person's table values in the study's units, NaN where missing.
        columns: names of these columns.
        found: by form of the update.
        steps: candidates that each search for an image tried.
    """

    truth: Picture | None
    row: NDArray[np.float64]
    columns: tuple[str, ...]
    found: tuple[Reconstruction, ...]
    steps: int


@dataclass(frozen=True, eq=False)
class _Person:
    """Whom the attack is after."""

    image: Picture | None
    label: float
    row: NDArray[np.float64]
    scaled: Mapping[str, NDArray[np.float64]]
    spread: NDArray[np.float64]


def inverted(run: Round, forms: Iterable[tuple[str, Parameters]], *, seconds: float = SECONDS) -> Inverted | None:
    """Attack one training participant; None where the study has nothing that could be computed back.

    Args:
        run: the round; its site's model is set back to the start of the round.
        forms: of the whole round's update, by name: the parameters after it.
        seconds: for one search.
    """
    site, study = run.site, run.study
    reader = site.reader(run.setup.digest)
    people = site.split.train
    if not isinstance(reader, Reader) or (study.uses_images and not len(people.images)):
        return None
    run.start.load_into(site.tensors)
    person = _first(people, reader.scaling, site.model.table_columns, study)
    blank = np.zeros((2, 2))
    alone = gradient(site.model, blank if person.image is None else person.image, person.label, person.scaled)
    observed = [(ALONE, alone), *((of, _observed(run, after)) for of, after in forms)]
    steps = _steps(run, person, alone, seconds) if person.image is not None else 0
    found = tuple(
        _reconstruct(run, person, of, observed=seen, scaling=reader.scaling, steps=steps) for of, seen in observed
    )
    used = [c for columns in site.model.table_columns.values() for c in columns]
    names = tuple(c.name for c in design_columns(study.features))
    row = np.full(len(names), np.nan)
    row[used] = person.row[used]
    return Inverted(person.image, row, names, found, steps)


def _first(
    people: TrainingPeople, scaling: TableScaling, columns: Mapping[str, tuple[int, ...]], study: StudyConfig
) -> _Person:
    """The first training participant, of those with an image where the study looks at images."""
    image, i = None, 0
    if study.uses_images:
        first = people.images[0]
        image = people.cohort.pixels[np.array([first])][0].astype(np.float64) / 255
        i = int(np.searchsorted(people.members, people.cohort.owner[first]))
    scaled = scaling(people.table)[i]
    given = ~np.isnan(people.table[i])
    rows = {name: scaled[list(own)].astype(np.float64) for name, own in columns.items() if given[list(own)].any()}
    spread = np.array([np.nanstd(c) if np.isfinite(c).any() else np.nan for c in people.table.T])
    return _Person(image, float(people.labels[i]), people.table[i], rows, np.where(spread > 0, spread, np.nan))


def _observed(run: Round, after: Parameters) -> dict[str, Tensor]:
    """The gradient that an attacker would take a whole round's update for."""
    study, tensors = run.study, run.site.tensors
    cfg = study.training
    run.start.load_into(tensors)
    before = {name: t.detach().clone() for name, t in tensors.items()}
    after.load_into(tensors)
    moved = {name: t.detach().clone() for name, t in tensors.items()}
    run.start.load_into(tensors)
    factor = warmup_cosine(
        round_=1, rounds=study.federation.rounds, warmup_rounds=cfg.warmup_rounds, steps=max(cfg.local_steps, 1)
    )(0)
    image_rate = cfg.backbone_learning_rate or cfg.learning_rate
    rates = {n: factor * (image_rate if n.startswith(f"branches.{IMAGE}.") else cfg.learning_rate) for n in before}
    single = cfg.local_steps == 1
    return from_update(
        before,
        moved,
        rates,
        decay=cfg.weight_decay if single else 0.0,
        adamw=single and cfg.optimizer == "adamw",
    )


def _steps(run: Round, person: _Person, observed: Mapping[str, Tensor], seconds: float) -> int:
    """As many candidates as one search has time for on this machine."""
    shape = cast(tuple[int, int], cast(Picture, person.image).shape)
    trial = invert(run.site.model, observed, person.label, shape, steps=_TRIAL)
    return int(np.clip(seconds / max(trial.seconds / _TRIAL, 1e-6), LEAST_STEPS, MOST_STEPS))


def _reconstruct(  # noqa: PLR0913 - one attack, with all that it needs
    run: Round, person: _Person, of: str, *, observed: Mapping[str, Tensor], scaling: TableScaling, steps: int
) -> Reconstruction:
    model = run.site.model
    if person.image is None:
        rows = {name: r.double().cpu().numpy() for name, r in table_rows(model, observed).items()}
        image = likeness = correlation = None
    else:
        shape = cast(tuple[int, int], person.image.shape)
        got = invert(model, observed, person.label, shape, steps=steps)
        rows, image = dict(got.rows), got.image
        likeness, correlation = ssim(image, person.image), _correlation(image, person.image)
    row = np.full(len(person.row), np.nan)
    for name, values in rows.items():
        columns = list(model.table_columns[name])
        row[columns] = scaling.low[columns] + values * (scaling.high - scaling.low)[columns]
    off = np.abs(row - person.row) / person.spread
    known = off[np.isfinite(off)]
    return Reconstruction(of, image, likeness, correlation, row, float(np.median(known)) if known.size else None)


def _correlation(first: Picture, second: Picture) -> float:
    """Pearson's, over pixels; 0 where one of them is a single grey, which resembles nothing."""
    if not first.std() or not second.std():
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])
