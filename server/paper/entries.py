"""One number of the paper beside ours: the only form in which numbers reach a table, a figure or a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from sarco_models.intervals import Estimate
from server.paper.published import Printed
from server.results import OverSeeds, Results
from server.tables import ABSENT, Table, number

MOST_FOLDS = 20
CALIBRATED = (
    "CALIBRATED: the synthetic cohort was tuned to the paper's Table 1 and AUCs. "
    "Agreement is calibration, not evidence."
)


@dataclass(frozen=True)
class FoldMean:
    """The secondary summary of a cross-validation: mean and SD over folds, each a mean over seeds. No interval."""

    mean: float
    sd: float | None
    folds: int


@dataclass(frozen=True)
class Entry:
    """A cell of the paper and what we measured.

    Attributes:
        group: the model, hospital or variable that it is of.
        measure: what is measured.
        definition: how ours is defined: level, pooling, kind of F1, interval.
        brief: of whom, for small print.
        paper: None where the paper prints nothing.
        ours: over seeds; None where the run holds nothing.
        folds: None outside a cross-validation.
        interval_of_paper: of the paper's own counts, computed by us, since it prints none.
        digits: to show.
        p_value: whether it is a P value, of which neither a mean nor a difference means anything.
    """

    group: str
    measure: str
    definition: str
    brief: str = ""
    paper: Printed | None = None
    ours: OverSeeds | None = None
    folds: FoldMean | None = None
    interval_of_paper: Estimate | None = None
    digits: int = 3
    p_value: bool = False

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None where one is absent, and of a P value."""
        if self.paper is None or self.p_value or self.ours is None:
            return None
        return self.ours.mean - self.paper.value

    @property
    def inside(self) -> bool | None:
        """Whether the paper's value lies within our 95 % interval; None where one is absent."""
        if self.paper is None or self.ours is None or self.ours.low is None or self.ours.high is None:
            return None
        if self.ours.low == self.ours.high:  # a resampled number that never varied has no interval
            return None
        return self.ours.low <= self.paper.value <= self.ours.high


@dataclass(frozen=True)
class Part:
    """One grid of a table, as shown, and the entries that it shows."""

    shown: Table
    entries: tuple[Entry, ...]
    note: str = ""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, with ours beside it.

    Attributes:
        key: name of its files.
        title: with its number.
        sources: which run, whose people, how many seeds; one sentence each.
        warnings: SYNTHETIC, CALIBRATED; they stand in every form that it is written in.
        parts: empty where the run is missing.
        notes: the paper's contradictions.
    """

    key: str
    title: str
    sources: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def entries(self) -> list[Entry]:
        """Of all parts."""
        return [entry for part in self.parts for entry in part.entries]


# --- words ------------------------------------------------------------------------------------------------------------


def warnings_of(results: Results) -> tuple[str, ...]:
    """What has to stand beside every number of this run."""
    meta = results.meta
    if meta.synthetic is None:
        return ("UNKNOWN ORIGIN: the run does not say whether its people are real.",)
    if not meta.synthetic:
        return ()
    synthetic = "SYNTHETIC: our participants, images and values are computer-made. Not evidence about patients."
    return (synthetic, CALIBRATED) if meta.preset == "paper_matched" else (synthetic,)


def paper_text(entry: Entry) -> str:
    """The printed value; a dash where there is none."""
    if entry.paper is None:
        return ABSENT
    return ("<" if entry.paper.below else "") + number(entry.paper.value, entry.digits)


def ours_text(entry: Entry) -> str:
    """Our mean over seeds; a dash where there is none."""
    return number(entry.ours.mean if entry.ours else None, entry.digits)


def limits_text(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    """The 95 % limits; a dash where there are none, or where they have no width."""
    if low is None or high is None or low == high:
        return ABSENT
    return f"{number(low, digits, signed=signed)} to {number(high, digits, signed=signed)}"


def inside_text(entry: Entry) -> str:
    """Whether the paper's value lies within our interval."""
    return {True: "yes", False: "no", None: ABSENT}[entry.inside]


def folds_text(entry: Entry) -> str:
    """Mean and SD of the folds."""
    if entry.folds is None:
        return ABSENT
    spread = "" if entry.folds.sd is None else f" ± {number(entry.folds.sd, entry.digits)}"
    return number(entry.folds.mean, entry.digits) + spread


def p_text(value: float) -> str:
    """A P value to three decimals."""
    return "<0.001" if value < 0.001 else number(value, 3)


def p_range(values: Iterable[float]) -> str:
    """P values of all seeds: the lowest and the highest."""
    shown = sorted(values)
    if not shown:
        return ABSENT
    least, most = p_text(shown[0]), p_text(shown[-1])
    return least if least == most else f"{least} to {most}"


def seeds_text(results: Results) -> str:
    """How many, and which."""
    seeds = results.meta.seeds or tuple(results.seeds)
    return f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'} ({', '.join(str(seed) for seed in seeds)})"


def people_text(participants: int | None, positives: int | None) -> str:
    """How many, and how many of them have sarcopenia."""
    if participants is None:
        return "number of participants not recorded"
    cases = "how many with sarcopenia not given" if positives is None else f"{positives} with sarcopenia"
    return f"n = {participants} ({cases})"


# --- numbers ----------------------------------------------------------------------------------------------------------


def fold_mean(results: Results, arm: str, metric: str, site: str) -> FoldMean | None:
    """Mean and SD over folds in each seed, averaged over seeds; None when the run holds no folds."""
    by_seed: dict[int, list[float]] = {}
    for fold in range(results.meta.protocol.folds or MOST_FOLDS):
        for row in results.final(arm, f"fold_{metric}:{fold}", site):
            if row.value is not None:
                by_seed.setdefault(row.seed, []).append(row.value)
    if not by_seed:
        return None
    spreads = [stdev(values) for values in by_seed.values() if len(values) > 1]
    return FoldMean(
        mean=fmean(fmean(values) for values in by_seed.values()),
        sd=fmean(spreads) if spreads else None,
        folds=max(len(values) for values in by_seed.values()),
    )


def scaled(found: OverSeeds, by: float) -> OverSeeds:
    """The same number in another unit."""
    low, high, sd = (None if value is None else value * by for value in (found.low, found.high, found.sd))
    mean, least, most = (value * by for value in (found.mean, found.least, found.most))
    return replace(found, mean=mean, low=low, high=high, sd=sd, least=least, most=most)


def over_seeds(values: Mapping[str, float], *, n: int | None = None, n_positive: int | None = None) -> OverSeeds | None:
    """Numbers by seed that have no interval of their own; None without any."""
    found = list(values.values())
    if not found:
        return None
    return OverSeeds(
        mean=fmean(found),
        low=None,
        high=None,
        sd=stdev(found) if len(found) > 1 else None,
        least=min(found),
        most=max(found),
        seeds=len(found),
        n=n,
        n_positive=n_positive,
    )
