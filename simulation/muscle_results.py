"""From finished arms that find muscles to results.json: overlap, sizes and differences of each muscle, and the people.

Rows have the columns of every comparison; ``metric`` is ``dice:MUSCLE``, or ``dice`` for the mean over muscles of the
mean over participants, and so on; ``METRIC_difference:ARM`` is that of the same people by two arms, first minus second.
``all`` as a place is everybody who was held out, of all hospitals and of the central cohort. The participant is the
unit: of images there are means, of participants intervals (bootstrap).
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarco_models.cohort import People
from sarco_models.schema import PARTICIPANTS_FILE
from sarco_models.segmentation_reader import SegmentationReader
from sarco_models.segmentation_scores import MEASURES
from sarco_models.sheets import find_table, number, read_sheet
from server.measured import read_measured
from server.muscle_analysis import GIVEN, PAIRINGS, MuscleAnalysis, Seen, analyse, without_points, write_analysis
from server.muscle_scores import (
    EVERYWHERE,
    IMAGE_COLUMNS,
    IMAGES_FILE,
    OF_ARM,
    PEOPLE_COLUMNS,
    PEOPLE_FILE,
    Key,
    MusclePeople,
    mean_of,
    read_muscle_images,
    read_muscle_people,
    with_everybody,
)
from server.runs import write_text
from simulation.arms import CENTRAL, Arm
from simulation.muscle_pictures import write_examples
from simulation.muscle_scoring import folder_of

HELD_OUT = EVERYWHERE

OVER_MUSCLES = ("dice", "iou", "hd95_mm", "assd_mm")
"""Measures of which a mean over muscles says something; errors of sizes cancel out."""

COMPARED = ("dice", "hd95_mm")
MIN_CELL = 5
"""Of real people no smaller group is described."""

FIGURES = "muscles"
"""Folder of the figures that are drawn from people's sizes."""

OUTCOMES = tuple(dict.fromkeys(pairing.outcome for pairing in PAIRINGS))
Row = dict[str, Any]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class MuscleTables:
    """What a comparison of muscles adds to results.json."""

    rows: list[Row]
    tables: dict[str, Any]


def muscle_tables(  # noqa: PLR0913 - what is read, where to, and who waits
    arms: Sequence[Arm], out: Path, pool: ProcessPoolExecutor, tell: Tell, *, synthetic: bool, calibrated: bool
) -> MuscleTables:
    """All numbers of finished arms; writes the scores, figures and pictures beside them.

    Args:
        arms: all finished.
        out: folder of the experiment.
        pool: where numbers are computed side by side.
        tell: is told how far it is: done, of how many.
        synthetic: nobody exists: people may be drawn as points, and their images shown.
        calibrated: they were made with the paper's correlations.
    """
    _join(arms, out)
    muscles = arms[0].study.segmentation.names if arms[0].study.segmentation else ()
    people = with_everybody(read_muscle_people(out / PEOPLE_FILE, muscles))
    models = {arm.name: "+".join(arm.study.model.modalities) for arm in arms}
    jobs = [pool.submit(final_rows, key, held, models[key[0]]) for key, held in people.items()]
    jobs += [
        pool.submit(difference_rows, key, second, (people[key], people[second, key[1], key[2]]), models[key[0]])
        for key, second in _pairs(arms, people)
    ]
    seen = seen_in(out / IMAGES_FILE)
    columns = {seed: _columns(_of_seed(arms, seed)) for seed in {key[1] for key in people}}
    in_order = {key: sorted(these, key=lambda one: muscles.index(one.muscle)) for key, these in seen.items()}
    further = {key: pool.submit(analysed, these, columns[key[1]], key[1]) for key, these in in_order.items()}
    rows, steps = [], len(jobs) + len(further)
    for done, job in enumerate(jobs):
        tell(done, steps)
        rows += job.result()
    analyses: dict[Key, MuscleAnalysis] = {}
    for done, (key, analysis) in enumerate(further.items(), start=len(jobs)):
        tell(done, steps)
        analyses[key] = analysis.result()
    tell(steps, steps)
    lead = next((arm for arm in arms if arm.kind == "federated"), arms[0])
    own = analyses.get((lead.name, lead.study.training.seed, HELD_OUT))
    if own:
        shown = own if synthetic else without_points(own)
        write_analysis(shown, out / FIGURES, synthetic=synthetic, calibrated=calibrated)
    if synthetic:
        write_examples(lead, out)
    tables = {"analysis": analysis_tables(analyses), "lead": lead.name, **_who(arms, columns, synthetic=synthetic)}
    return MuscleTables(rows, {"muscles": tables})


# --- files ------------------------------------------------------------------------------------------------------------


def _join(arms: Sequence[Arm], out: Path) -> None:
    """The scores of all arms in one file for people and one for images."""
    for name, columns in ((PEOPLE_FILE, PEOPLE_COLUMNS), (IMAGES_FILE, IMAGE_COLUMNS)):
        text = io.StringIO()
        writer = csv.DictWriter(text, (*OF_ARM, *columns), lineterminator="\n")
        writer.writeheader()
        for arm in arms:
            with (arm.folder / name).open(encoding="utf-8", newline="") as file:
                own = {"arm": arm.name, "seed": arm.study.training.seed}
                writer.writerows({**own, **row} for row in csv.DictReader(file))
        write_text(out / name, text.getvalue())


def seen_in(path: Path) -> dict[Key, list[Seen]]:
    """Images by arm, seed and cohort, and all of an arm's together."""
    found: dict[Key, list[Seen]] = {}
    for one in read_muscle_images(path):
        for site in (one.site, HELD_OUT):
            found.setdefault((one.arm, one.seed, site), []).append(one.seen)
    return found


# --- rows -------------------------------------------------------------------------------------------------------------


def final_rows(key: Key, people: MusclePeople, model: str) -> list[Row]:
    """Every measure of every muscle, means over the participants of one cohort with the bootstrap's interval."""
    found = []
    for measure in MEASURES:
        values = people.of(measure)
        names = [(f"{measure}:{muscle}", values[:, [m]]) for m, muscle in enumerate(people.muscles)]
        if measure in OVER_MUSCLES and len(people.muscles) > 1:
            names.insert(0, (measure, values))
        found += [_row(key, model, name, of, key[1]) for name, of in names if np.isfinite(of).any()]
    return found


def difference_rows(key: Key, second: str, both: tuple[MusclePeople, MusclePeople], model: str) -> list[Row]:
    """First minus second arm, the same participants: whoever one of them says nothing of is left out."""
    first, other = both
    ids = [person for person in first.ids if person in set(other.ids)]
    found = []
    for measure in COMPARED:
        apart = first.aligned(ids).of(measure) - other.aligned(ids).of(measure)
        names = [(f"{measure}:{muscle}", apart[:, [m]]) for m, muscle in enumerate(first.muscles)]
        names.insert(0, (measure, apart))
        found += [
            _row(key, model, f"{name}_difference:{second}", of, key[1]) for name, of in names if np.isfinite(of).any()
        ]
    return found


def _row(key: Key, model: str, metric: str, values: NDArray[np.float64], seed: int) -> Row:
    estimate, n = mean_of(values, np.random.default_rng([seed, 97]))
    arm, _, site = key
    low, high = (end if np.isfinite(end) else None for end in (estimate.low, estimate.high))
    place = {"arm": arm, "seed": seed, "round": None, "site": site, "model": model, "metric": metric}
    return {**place, "value": estimate.value, "ci_low": low, "ci_high": high, "n": n, "n_positive": None}


def _pairs(arms: Sequence[Arm], people: Mapping[Key, MusclePeople]) -> Iterator[tuple[Key, str]]:
    """What is compared: federated with every other arm of its variant, and the same arm of two variants in their order.

    The study itself comes before its variants, so that it is the first: what a report tells of every other arm.
    """
    for seed in dict.fromkeys(arm.study.training.seed for arm in arms):
        for first, second in combinations(_of_seed(arms, seed), 2):
            if first.sites[0].data.parent != second.sites[0].data.parent:
                continue  # other people may bear the same number
            here, there = (second, first) if second.kind == "federated" != first.kind else (first, second)
            one_variant = here.variant == there.variant and here.kind == "federated"
            one_way = (here.kind, here.site) == (there.kind, there.site)
            if one_variant or one_way:
                keys = [key for key in people if key[:2] == (here.name, seed)]
                yield from ((key, there.name) for key in keys if (there.name, *key[1:]) in people)


def _of_seed(arms: Sequence[Arm], seed: int) -> list[Arm]:
    return [arm for arm in arms if arm.study.training.seed == seed]


# --- tables -----------------------------------------------------------------------------------------------------------


def analysed(seen: Sequence[Seen], columns: Mapping[str, Mapping[str, float]], seed: int) -> MuscleAnalysis:
    """Agreement and correlations of one cohort's held-out people."""
    return analyse(seen, columns, np.random.default_rng([seed, 109]))


def analysis_tables(analyses: Mapping[Key, MuscleAnalysis]) -> dict[str, Any]:
    """By arm, seed and cohort, rows and what is absent; means of overlap stand among the rows of results.json."""
    found: dict[str, Any] = {}
    for (arm, seed, site), analysis in analyses.items():
        rows = [row for row in analysis.rows if row["about"] != "overlap" or row["statistic"] == "images"]
        content = {"rows": [_as_numbers(row) for row in rows], "absent": list(analysis.absent)}
        found.setdefault(arm, {}).setdefault(str(seed), {})[site] = content
    return found


def _as_numbers(row: Mapping[str, Any]) -> Row:
    numbers = {name: float(row[name]) for name in ("value", "low", "high", "p") if row.get(name)}
    return {**row, **{name: value if np.isfinite(value) else None for name, value in numbers.items()}}


def _columns(arms: Sequence[Arm]) -> dict[str, dict[str, float]]:
    """Of everybody, by cohort and participant: what sizes are correlated with, as far as it is known."""
    found: dict[str, dict[str, float]] = {}
    places = [site.name for site in arms[0].sites] + ([CENTRAL] if arms[0].central else [])
    for name in places:
        sheet = read_sheet(find_table(folder_of(arms[0], name) / PARTICIPANTS_FILE))
        for _, cells in sheet.rows:
            own = {column: _number(cells.get(column, ""), sheet.decimal) for column in (*OUTCOMES, *GIVEN)}
            found[f"{name}/{cells.get('participant_id', '')}"] = own
    return found


def _number(text: str, decimal: str) -> float:
    try:
        return float(number(text, decimal)) if text else np.nan
    except ValueError:
        return np.nan  # a word; nothing is correlated with it


def _who(arms: Sequence[Arm], columns: Mapping[int, Mapping[str, Any]], *, synthetic: bool) -> dict[str, Any]:
    """Which muscles were drawn for training, by hospital and by arm, and who the people are; of the first seed."""
    first = arms[0]
    seed = first.study.training.seed
    drawn = {site.name: drawn_by(first, site.name) for site in first.sites}
    trained = {
        arm.name: {m: sum(drawn[site].get(m, 0) for site in arm.trained_on) for m in _names(arm)}
        for arm in _of_seed(arms, seed)
        if arm.sites[0].data == first.sites[0].data
    }
    people = {}
    for name in [*drawn, *([CENTRAL] if first.central else [])]:
        own = [values for person, values in columns[seed].items() if person.partition("/")[0] == name]
        if synthetic or len(own) >= MIN_CELL:
            people[name] = {column: _spread([one[column] for one in own]) for column in (*GIVEN, *OUTCOMES)}
    return {"drawn": drawn, "trained": trained, "people": people, "measured": _measured(arms)}


def _spread(values: Sequence[float]) -> dict[str, float | int | None]:
    known = np.array([value for value in values if np.isfinite(value)])
    sd = float(known.std(ddof=1)) if known.size > 1 else None
    return {"n": known.size, "mean": float(known.mean()) if known.size else None, "sd": sd}


def _names(arm: Arm) -> tuple[str, ...]:
    return arm.study.segmentation.names if arm.study.segmentation else ()


def _measured(arms: Sequence[Arm]) -> dict[str, dict[str, Any]]:
    """What hospitals told of themselves over the wire, by arm and seed; a site that holds everybody is no hospital."""
    found: dict[str, dict[str, Any]] = {}
    for arm in arms:
        told = read_measured(arm.folder)
        if told and not arm.pooled:
            found.setdefault(arm.name, {})[str(arm.study.training.seed)] = told
    return found


def drawn_by(arm: Arm, name: str) -> dict[str, int]:
    """Training participants of a hospital on whose images each muscle is drawn."""
    people: People = arm.split_of(name).train
    reader = SegmentationReader(arm.study)
    found: dict[str, set[int]] = {muscle: set() for muscle in _names(arm)}
    for image in people.images:
        muscles = reader.muscles_of(people, int(image))
        for number_ in np.unique(people.cohort.targets[np.array([image])]):
            if 0 < number_ <= len(muscles):
                found[_names(arm)[muscles[int(number_) - 1]]].add(int(people.cohort.owner[image]))
    return {muscle: len(persons) for muscle, persons in found.items()}
