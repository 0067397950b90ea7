"""Who a cohort's people are, and whether a score works alike in all kinds of them: two tables of results.json.

Generic over studies: what is described are the study's own features. Nothing here names a participant, and counts of
few people are hidden where the people are real.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.cohort import Cohort, People
from sarco_models.comparisons import Counted, Measured, baseline_table
from sarco_models.config import Feature, StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.intervals import REPEATS
from sarco_models.schema import PARTICIPANTS_FILE, design_columns
from sarco_models.scores import ParticipantScores
from sarco_models.sheets import find_table, number, read_sheet
from sarco_models.subgroups import Grouping, by_subgroup, cut

DEVICE, IMAGES, SITE = "device", "images_per_participant", "site"
"""Names of what is described beside the study's features."""

SEVERAL, NO_IMAGE = "several devices", "no image"
NAMED = ("male", "age_years", "bmi_kg_per_m2", "diabetes")
CUTS = {"age_years": 70.0, "bmi_kg_per_m2": 24.0}
"""Where the study's own subgroups are cut: AWGS's older people, and overweight by the Chinese standard."""

WORDS = {"male": ("women", "men"), "diabetes": ("no diabetes", "diabetes")}
MOST_GROUPINGS = 8


def baseline(
    cohort: Cohort,
    study: StudyConfig,
    rng: np.random.Generator,
    *,
    min_cell: int,
    further: Sequence[Measured | Counted] = (),
) -> list[dict[str, Any]]:
    """Table 1 of one cohort: the study's features, then images and devices, positives beside negatives.

    Args:
        cohort: of one site.
        study: whose features are described, those that no model sees too.
        rng: for Fisher's test beyond 2 x 2.
        min_cell: the smallest count that is shown: 5 for real people, 1 for synthetic ones.
        further: shown after the others; see :func:`reference_variables`.

    Returns:
        :class:`sarco_models.comparisons.BaselineRow` as JSON, one for each measured variable, one for "yes" of each
        binary one, one for each category or device; empty where all participants have the same label.
    """
    try:
        variables = [*_variables(cohort, study), *further]
        rows = baseline_table(variables, cohort.labels == 1, rng, min_cell=min_cell)
    except UndefinedMetric:
        return []
    return [_json(asdict(row)) for row in rows]


def subgroups(
    people: People,
    scores: ParticipantScores,
    study: StudyConfig,
    rng: np.random.Generator,
    *,
    repeats: int = REPEATS,
) -> list[dict[str, Any]]:
    """AUC in each kind of people, and the differences between the kinds, adjusted as one family.

    Kinds are sex, age, body mass index and diabetes where the study has them under these names (``male``,
    ``age_years``, ``bmi_kg_per_m2``, ``diabetes``); of another study every binary feature, and the first continuous
    ones cut at their median. Then device, hospital and images per participant, where these differ; at most eight.

    Args:
        people: whom the scores are of, and perhaps others.
        scores: one each, of nobody else.
        study: names the columns.
        rng: randomness is an argument.
        repeats: bootstrap draws.

    Returns:
        :class:`sarco_models.subgroups.Subgroups` as JSON.

    Raises:
        UndefinedMetric: a score belongs to nobody of these people.
    """
    position = {person: index for index, person in enumerate(people.ids)}
    strangers = sum(person not in position for person in scores.ids)
    if strangers:
        raise UndefinedMetric(f"{strangers} scores of participants who are not in the cohort: pass their own cohort")
    order = [position[person] for person in scores.ids]
    groupings = {name: tuple(words[i] for i in order) for name, words in _groupings(people, study)}
    return [_json(asdict(found)) for found in by_subgroup(scores, groupings, rng, repeats=repeats)]


def _json(value: Any) -> Any:
    """Tuples as lists, numbers that are not finite as null: what JSON can hold."""
    if isinstance(value, Mapping):
        return {key: _json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_json(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def reference_variables(folder: Path, cohort: Cohort, study: StudyConfig) -> Iterator[Measured]:
    """What defines the label, where the site's table holds it as numbers: described, and never an input."""
    sheet = read_sheet(find_table(folder / PARTICIPANTS_FILE))
    cells = {cell.get("participant_id", ""): cell for _, cell in sheet.rows}
    for name in study.label.reference_columns:
        try:
            texts = [cells.get(person, {}).get(name, "") for person in cohort.ids]
            values = np.array([number(text, sheet.decimal) if text else np.nan for text in texts])
        except ValueError:
            continue  # words, such as the name of a device
        if not np.isnan(values).all():
            yield Measured(name, values)


# --- variables of the baseline table ----------------------------------------------------------------------------------


def _variables(cohort: Cohort, study: StudyConfig) -> Iterator[Measured | Counted]:
    """The study's features; one without any value in this cohort is left out."""
    columns = _columns(cohort.table, study)
    for feature in study.features:
        variable = _variable(feature, columns)
        if variable is not None:
            yield variable
    if cohort.owner.size:
        yield Measured(IMAGES, np.bincount(cohort.owner, minlength=len(cohort)).astype(np.float64))
        devices = _devices(cohort)
        if known := sorted(set(devices) - {"", NO_IMAGE}):
            yield Counted(DEVICE, devices, tuple(known))


def _columns(table: NDArray[np.float64], study: StudyConfig) -> dict[str, NDArray[np.float64]]:
    return {column.name: table[:, k] for k, column in enumerate(design_columns(study.features))}


def _variable(feature: Feature, columns: Mapping[str, NDArray[np.float64]]) -> Measured | Counted | None:
    if feature.kind == "categorical":
        one_hot = np.stack([columns[f"{feature.name}={category}"] for category in feature.categories], axis=1)
        words = ["" if np.isnan(row).any() else feature.categories[int(row.argmax())] for row in one_hot]
        return Counted(feature.name, words, feature.categories) if any(words) else None
    values = columns[feature.name]
    if np.isnan(values).all():
        return None
    if feature.kind == "binary":
        return Counted(feature.name, _yes_no(values, "no", "yes"), ("yes",))
    return Measured(feature.name, values)


def _yes_no(values: NDArray[np.float64], no: str, yes: str) -> tuple[str, ...]:
    return tuple("" if np.isnan(v) else yes if v >= 0.5 else no for v in values)


def _devices(cohort: Cohort) -> tuple[str, ...]:
    """Each participant's device; empty where the files do not say."""
    used: list[set[str]] = [set() for _ in range(len(cohort))]
    seen = set(cohort.owner.tolist())
    for owner, device in zip(cohort.owner, cohort.devices, strict=True):
        if device:
            used[owner].add(device)
    return tuple(
        NO_IMAGE if person not in seen else SEVERAL if len(of) > 1 else next(iter(of), "")
        for person, of in enumerate(used)
    )


# --- kinds of people --------------------------------------------------------------------------------------------------


def _groupings(people: People, study: StudyConfig) -> Iterator[tuple[str, Grouping]]:
    """Named groupings, one word for each participant; one that does not divide these people is left out."""
    others = [grouping for grouping in _other_groupings(people) if _divides(grouping[1])]
    ours = [grouping for grouping in _feature_groupings(people, study) if _divides(grouping[1])]
    yield from ours[: MOST_GROUPINGS - len(others)]
    yield from others


def _divides(words: Grouping) -> bool:
    return len(set(words) - {""}) > 1


def _feature_groupings(people: People, study: StudyConfig) -> Iterator[tuple[str, Grouping]]:
    columns = _columns(people.table, study)
    features = sorted((f for f in study.features if f.name in NAMED), key=lambda f: NAMED.index(f.name))
    # Of another study: all that are binary, then the first of the continuous ones.
    for feature in features or sorted(study.features, key=lambda f: f.kind != "binary"):
        if feature.kind == "categorical":
            continue
        values = columns[feature.name]
        if np.isnan(values).all():
            continue
        if feature.kind == "binary":
            yield feature.name, _yes_no(values, *WORDS.get(feature.name, ("no", "yes")))
        else:
            yield feature.name, cut(values, CUTS.get(feature.name, float(np.nanmedian(values))))


def _other_groupings(people: People) -> Iterator[tuple[str, Grouping]]:
    cohort, members = people.cohort, people.members
    yield SITE, tuple(cohort.sites[m] for m in members)
    if not cohort.owner.size:
        return
    devices = _devices(cohort)
    yield DEVICE, tuple(devices[m] for m in members)
    images = Counter(cohort.owner.tolist())
    counts = np.array([images[int(m)] for m in members], dtype=np.float64)
    yield IMAGES, cut(counts, float(np.median(counts)))
