"""Two runs that find muscles beside each other: Dice of the same arm, of the same people where they are the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from sarco_models.intervals import Estimate, Z
from server.muscle_run import MuscleRun
from server.muscle_scores import PEOPLE_FILE, Key, MusclePeople, mean_of, read_muscle_people, with_everybody
from server.results import OverSeeds, Results
from server.run_differences import may_be_paired, pairs_of_seeds, settings, warnings_about
from server.tables import Cell, Table, TableRow, number, texts

MOST_SETTINGS = 12
_SQUARE = ("image.size", "image.framing", "image.window_mm")
NOTE = (
    "Second run minus first: above 0 the second finds the muscle better. Same people: participants drawn again, with "
    "replacement, of their own differences. Other people: from the two intervals, as if they were normal. With several "
    "seeds the mean difference and the mean of the limits are shown. No difference found is no proof of equality."
)


@dataclass(frozen=True)
class MuscleDifference:
    """Dice of one arm and muscle in the second run minus that in the first.

    Attributes:
        arm: its name in both runs.
        muscle: "" is the mean over muscles.
        first, second: means over the seeds that are paired.
        value: mean over pairs of seeds of the differences and of their limits.
        people: paired participants of the first pair of seeds; 0 = other people.
    """

    arm: str
    muscle: str
    first: float
    second: float
    value: Estimate
    people: int


@dataclass(frozen=True)
class MuscleComparison:
    """What two runs that find muscles have in common and what not; ``names`` are of the folders."""

    first: MuscleRun
    second: MuscleRun
    names: tuple[str, str]
    warnings: tuple[str, ...]
    settings: Mapping[str, tuple[str, str]]
    differences: tuple[MuscleDifference, ...]

    @property
    def synthetic(self) -> bool | str:
        """Whether people are computer-made: of both runs, of one ("mixed"), of none."""
        said = {bool(run.results.meta.synthetic) for run in (self.first, self.second)}
        return "mixed" if len(said) == 2 else said.pop()

    def title(self, muscle: str) -> str:
        """In words."""
        return self.first.titles.get(muscle, "Mean over muscles")


def compared_muscles(
    folders: tuple[Path, Path], runs: tuple[Results, Results], names: tuple[str, str]
) -> MuscleComparison:
    """Compare two runs, arm by arm and muscle by muscle under the same name, where all arms meet.

    Raises:
        RunError: a file of scores is damaged.
    """
    one, other = _of_paired_seeds(runs)
    muscles = [name for name in one.titles if name in other.titles]
    people = tuple(with_everybody(read_muscle_people(folder / PEOPLE_FILE, muscles)) for folder in folders)
    home = one.home if one.home == other.home else ""
    found = [
        difference
        for arm in one.arms
        if arm in other.arms and home
        for muscle in ([""] if len(muscles) > 1 else []) + muscles
        if (difference := _difference((one, other), (people[0], people[1]), (arm, muscle, home)))
    ]
    differing = settings(*runs)
    warnings = (*warnings_about(*runs, names, home or one.home), *_other_squares(differing, names))
    return MuscleComparison(one, other, names, warnings, differing, tuple(found))


def _other_squares(differing: Mapping[str, tuple[str, str]], names: tuple[str, str]) -> Iterator[str]:
    """Dice and distances are of the pixels that the network reads."""
    unlike = {key: differing[key] for key in _SQUARE if key in differing}
    if unlike:
        said = (
            f"{name}: {', '.join(f'{k} = {v[side]}' for k, v in unlike.items())}" for side, name in enumerate(names)
        )
        yield (
            f"The networks read other squares of the images ({'; '.join(said)}), and muscles are measured on these: "
            "what lies outside counts in one run and not in the other, and a coarser edge errs by more millimetres."
        )


def _of_paired_seeds(runs: tuple[Results, Results]) -> tuple[MuscleRun, MuscleRun]:
    """Both runs without the seeds that the other one lacks, so that means and differences are of the same."""
    pairs = pairs_of_seeds(*runs)
    kept = [{pair[side] for pair in pairs} for side in (0, 1)]
    one, other = (
        MuscleRun(replace(run, rows=tuple(row for row in run.rows if row.seed in seeds)))
        for run, seeds in zip(runs, kept, strict=True)
    )
    return one, other


def _difference(
    runs: tuple[MuscleRun, MuscleRun],
    people: tuple[Mapping[Key, MusclePeople], Mapping[Key, MusclePeople]],
    what: tuple[str, str, str],
) -> MuscleDifference | None:
    arm, muscle, home = what
    sides = [run.dice(arm, muscle, home) for run in runs]
    if sides[0] is None or sides[1] is None:
        return None
    found: list[tuple[Estimate, int]] = []
    for seeds in pairs_of_seeds(runs[0].results, runs[1].results):
        held = [of.get((arm, seed, home)) for of, seed in zip(people, seeds, strict=True)]
        if held[0] and held[1] and may_be_paired(runs[0].results, runs[1].results, seeds):
            found += _paired(held[0], held[1], muscle, seeds[0])
    if not found:
        found = [(_unpaired(sides[0], sides[1]), 0)]
    value = Estimate(*(fmean(getattr(estimate, end) for estimate, _ in found) for end in ("value", "low", "high")))
    return MuscleDifference(arm, muscle, sides[0].mean, sides[1].mean, value, found[0][1])


def _unpaired(first: OverSeeds, second: OverSeeds) -> Estimate:
    """From both intervals, as if they were normal; without one of them there is none."""
    apart, variance = second.mean - first.mean, 0.0
    for side in (first, second):
        known = side.low is not None and side.high is not None
        variance += ((side.high - side.low) / (2 * Z)) ** 2 if known else np.nan  # type: ignore[operator]
    half = Z * variance**0.5
    return Estimate(apart, apart - half, apart + half)


def _paired(first: MusclePeople, second: MusclePeople, muscle: str, seed: int) -> Iterator[tuple[Estimate, int]]:
    """Second minus first of the people in both; nothing where there are not two of them."""
    ids = [person for person in first.ids if person in set(second.ids)]
    apart = second.aligned(ids).of("dice") - first.aligned(ids).of("dice")
    if muscle:
        apart = apart[:, [first.muscles.index(muscle)]]
    if np.isfinite(apart).any(axis=1).sum() > 1:
        yield mean_of(apart, np.random.default_rng([seed, 97]))


# --- shown ------------------------------------------------------------------------------------------------------------


def words(found: MuscleComparison) -> list[str]:
    """What is compared with what, and what came out."""
    if not found.differences:
        return ["The two runs share no way of training with the same muscles: nothing can be compared."]
    arms = list(dict.fromkeys(one.arm for one in found.differences))
    paired = all(one.people for one in found.differences)
    people = "the same people, paired" if paired else "other people in part: from intervals where they are"
    apart = [one for one in found.differences if not one.value.low <= 0 <= one.value.high]
    lines = [f"{len(arms)} ways of training are in both runs; {people}; {len(found.settings)} settings differ."]
    named = "; ".join(f"{found.first.results.arm_name(o.arm)}, {found.title(o.muscle).lower()} "
                      f"{number(o.value.value, 3, signed=True)}" for o in apart[:6])  # fmt: skip
    more = f"; and {len(apart) - 6} more" if len(apart) > 6 else ""
    of = f"{len(apart)} of {len(found.differences)} differences of Dice have an interval without 0"
    lines += _seeds(found)
    return [*lines, f"{of}: {named}{more}." if apart else f"No difference of Dice has an interval without 0, of "
            f"{len(found.differences)}."]  # fmt: skip


def _seeds(found: MuscleComparison) -> list[str]:
    """Which seeds are compared, where that is not all of both runs."""
    both = [", ".join(map(str, run.results.seeds)) for run in (found.first, found.second)]
    word = "seed" if len(found.first.results.seeds) == 1 else "seeds"
    if both[0] != both[1]:
        return [f"The runs share no seed: {word} {both[0]} of the first, {both[1]} of the second, in this order."]
    return [f"Only {word} {both[0]}: the other run lacks the rest."] if "seeds" in found.settings else []


def table(found: MuscleComparison) -> Table:
    """Every arm and muscle."""
    rows: list[TableRow] = []
    for one in found.differences:
        heading = found.first.results.arm_name(one.arm)
        if not any(row.divider == heading for row in rows):
            rows.append(TableRow(divider=heading))
        apart = Cell(number(one.value.value, 3, signed=True), (_limits(one.value),))
        how = f"same people, paired (n = {one.people})" if one.people else "other people, from the intervals"
        numbers = texts(number(one.first, 3), number(one.second, 3))
        rows.append(TableRow((Cell(found.title(one.muscle)), *numbers, apart, *texts(how)), lead=not one.muscle))
    return Table(
        "Dice where all ways of training meet.", ("", *found.names, "Difference", "How"), tuple(rows), text=(4,)
    )


def settings_table(found: MuscleComparison) -> Table:
    """Settings and facts that differ."""
    rows = tuple(TableRow(texts(key, *values)) for key, values in found.settings.items())
    return Table("Settings and facts that differ.", ("Setting", *found.names), rows, text=(0, 1, 2))


def lines(found: MuscleComparison) -> Iterator[list[object]]:
    """For a CSV file."""
    yield ["arm", "muscle", "metric", "first", "second", "difference", "ci_low", "ci_high", "paired_participants"]
    for one in found.differences:
        limits = [value if np.isfinite(value) else "" for value in (one.value.low, one.value.high)]
        yield [one.arm, one.muscle or "mean", "dice", one.first, one.second, one.value.value, *limits, one.people]


def muscle_terminal(found: MuscleComparison) -> RenderableType:
    """The same for a terminal: means over muscles, and muscles whose interval is without 0."""
    parts: list[RenderableType] = [Text(f"READ THIS FIRST  {line}", style="bold red") for line in found.warnings]
    marks = [("SYNTHETIC " if run.results.meta.synthetic else "") + name
             for run, name in zip((found.first, found.second), found.names, strict=True)]  # fmt: skip
    parts.append(Text(f"{marks[0]} (first) and {marks[1]} (second)", style="bold"))
    parts += [Text(line) for line in words(found)]
    grid = Grid(box=None, padding=(0, 1), title="Dice, second minus first", title_justify="left")
    for heading in ("arm", "muscle", "first", "second", "difference"):
        grid.add_column(heading, justify="left" if heading in ("arm", "muscle") else "right", overflow="fold")
    grid.add_column("95 % interval", no_wrap=True)
    for one in found.differences:
        if not one.muscle or not one.value.low <= 0 <= one.value.high or len(found.first.titles) == 1:
            name, muscle = (one.arm, "all") if not one.muscle else ("", found.title(one.muscle).lower())
            apart = number(one.value.value, 3, signed=True)
            grid.add_row(name, muscle, f"{one.first:.3f}", f"{one.second:.3f}", apart, _limits(one.value))
    parts += [grid] if found.differences else []
    shown = list(found.settings.items())[:MOST_SETTINGS]
    parts += [Text(f"  {key}: {one[:60]} -> {other[:60]}") for key, (one, other) in shown]
    more = len(found.settings) - MOST_SETTINGS
    return Group(*parts, *([Text(f"  and {more} more settings, see compare.html")] if more > 0 else []))


def _limits(value: Estimate) -> str:
    if not np.isfinite([value.low, value.high]).all():
        return "no interval"
    return f"{number(value.low, 3, signed=True)} to {number(value.high, 3, signed=True)}"
