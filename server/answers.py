"""What a coordinator can draw from what hospitals may send, beside the truth that only a simulation knows.

No score of a person left a hospital for these pictures: an AUC with its variance, counts of calls, a histogram whose
small counts are merged. In a simulation the scores are known too, so that the report shows how close the two come.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sarco_models.calibration import CalibrationBin, calibration_bins
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import AucRange
from sarco_models.metrics import PooledAuc, auc, roc_curve
from sarco_models.scores import Labels, Scores
from sarco_models.site_evaluation import (
    Calls,
    SiteEvaluation,
    forest,
    pooled_auc_range,
    pooled_calibration,
    pooled_calls,
    pooled_roc,
)
from server.arms import place_name
from server.drawing import INK, LEAD, MUTED, PALE, WIDTH
from server.results import Results
from server.tables import ABSENT, Cell, Table, TableRow, count, number

WITHHELD = "withheld"
MOST_SITES = 12
SITES_TO_POOL = 3


@dataclass(frozen=True)
class Answers:
    """What the hospitals answered about one arm's model with one seed; every hospital's by its name."""

    results: Results
    arm: str
    seed: int
    by_site: dict[str, SiteEvaluation]

    @property
    def evaluations(self) -> list[SiteEvaluation]:
        """Without the names."""
        return list(self.by_site.values())

    @cached_property
    def auc_range(self) -> AucRange | None:
        """AUC from the histograms, and where the exact one lies for certain; None where nobody shows a histogram."""
        try:
            return pooled_auc_range(self.evaluations)
        except UndefinedMetric:
            return None

    @cached_property
    def pooled(self) -> PooledAuc | None:
        """The hospitals' own AUCs pooled; None with fewer than three."""
        shown = [site for site in self.evaluations if site.auc is not None]
        try:
            return forest(shown) if len(shown) >= SITES_TO_POOL else None
        except UndefinedMetric:
            return None

    @cached_property
    def exact(self) -> tuple[Scores, Labels] | None:
        """Scores and labels of everybody in the histograms; None where the run does not hold just these people."""
        sets = {
            site: self.results.scores.get((self.arm, self.seed, site))
            for site, found in self.by_site.items()
            if found.histogram
        }
        known = [held for held in sets.values() if held]
        counts = {site: held.labels.size for site, held in sets.items() if held}
        if not known or any(counts.get(site) != self.by_site[site].participants for site in sets):
            return None
        return np.concatenate([h.probability for h in known]), np.concatenate([h.labels for h in known])


def read_answers(results: Results) -> list[Answers]:
    """The answers about the lead's model (or the first arm's that has any), by seed."""
    of_arm = results.tables.get("assessments") or {}
    arm = results.lead if results.lead in of_arm else next(iter(of_arm), "")
    return [
        Answers(results, arm, int(seed), {site: SiteEvaluation.from_dict(found) for site, found in by_site.items()})
        for seed, by_site in sorted((of_arm.get(arm) or {}).items(), key=lambda item: int(item[0]))
        if by_site
    ]


# --- words ------------------------------------------------------------------------------------------------------------


def answers_words(results: Results) -> list[str]:
    """How close the coordinator's picture comes to the truth, and what the hospitals withheld."""
    every = read_answers(results)
    if not every:
        return []
    first = every[0]
    withheld = [f"{place_name(s)} ({', '.join(what)})" for s, e in first.by_site.items() if (what := _withheld(e))]
    lines = [_closeness(every)]
    silent = [place_name(site) for site in results.sites if site not in first.by_site]
    if silent:
        lines.append(f"Sent nothing, for want of people or by refusal: {', '.join(silent)}.")
    if withheld:
        fewer = first.auc_range is not None and any(e.histogram is None for e in first.by_site.values())
        lines.append(
            f"Withheld, because it would have shown too few people: {'; '.join(withheld)}."
            + " The curves speak for the people of the other hospitals only." * fewer
        )
    return lines


def _closeness(every: list[Answers]) -> str:
    found = every[0].auc_range
    if found is None:
        return "No hospital shows a histogram: their people are too few, so the coordinator can draw no curve."
    text = (
        f"From the histograms the coordinator draws an AUC of {number(found.value, 3)} and knows for certain, whatever "
        f"the single scores are, that the exact one lies between {number(found.low, 3)} and {number(found.high, 3)}."
    )
    off = [abs(a.auc_range.value - auc(*a.exact)) for a in every if a.exact is not None and a.auc_range is not None]
    if every[0].exact is None or not off:
        return text
    seeds = f" (at most {number(max(off), 4)} over {len(off)} seeds)" if len(off) > 1 else ""
    return (
        f"{text} The exact one, which only a simulation can know, is {number(auc(*every[0].exact), 3)}: the histograms "
        f"are off by {number(off[0], 4)}{seeds}."
    )


def _withheld(site: SiteEvaluation) -> list[str]:
    parts = {
        "its number of positives": site.positives,
        "AUC": site.auc,
        "calls of positives": site.found,
        "calls of negatives": site.spared,
        "histogram": site.histogram,
    }
    return [name for name, value in parts.items() if value is None]


def answers_table(results: Results) -> Table:
    """Every hospital's answer, and all of them together; of the first seed."""
    every = read_answers(results)
    head = ("Hospital", "Partici­pants", f"With {results.condition}", "AUC (DeLong)", "Found", "Cleared", "Histogram")
    caption = "What each hospital sent about the released model on its own held-out people"
    if not every:
        return Table(f"{caption}.", head, ())
    first = every[0]
    seed = f", seed {first.seed}" if len(every) > 1 else ""
    rows = [_site_row(site, found) for site, found in _countable(first.by_site).items()]
    return Table(f"{caption} ({results.arm_name(first.arm)}{seed}).", head, (*rows, _together(first)))


_WITHOUT: dict[str, Callable[[SiteEvaluation], SiteEvaluation]] = {
    # The denominators of calls are the numbers of both classes.
    "positives": lambda site: replace(site, positives=None, found=None, spared=None),
    "found": lambda site: replace(site, found=None),
    "spared": lambda site: replace(site, spared=None),
}


def _countable(by_site: Mapping[str, SiteEvaluation]) -> dict[str, SiteEvaluation]:
    """The answers with a second hospital's counts withheld where only one hospital's are.

    A single count that is absent is the total less the others, and totals are known elsewhere: from another table of
    the same report, or from the number of people of each class that took part. The second is the one with the fewest.
    """
    shown = dict(by_site)
    for name in _WITHOUT:
        known = {site: e for site, e in shown.items() if getattr(e, name) is not None}
        if len(known) != len(shown) - 1 or not known:
            continue
        fewest = min(known, key=lambda site: (known[site].positives or 0, site))
        shown[fewest] = _WITHOUT[name](shown[fewest])
    return shown


def _site_row(name: str, site: SiteEvaluation) -> TableRow:
    estimate = site.auc_interval()
    limits = (f"{number(estimate.low, 3)} to {number(estimate.high, 3)}",) if estimate else ()
    cells = (
        Cell(place_name(name)),
        Cell(count(site.participants)),
        Cell(WITHHELD if site.positives is None else count(site.positives)),
        Cell(WITHHELD if site.auc is None else number(site.auc, 3), limits),
        Cell(_calls(site.found)),
        Cell(_calls(site.spared)),
        Cell(f"{site.histogram.ends.size} runs of bins" if site.histogram else WITHHELD),
    )
    return TableRow(cells)


def _calls(calls: Calls | None) -> str:
    return WITHHELD if calls is None else f"{calls.right} of {calls.right + calls.wrong}"


def _together(answers: Answers) -> TableRow:
    found = answers.auc_range
    sure = (f"certainly {number(found.low, 3)} to {number(found.high, 3)}",) if found else ()
    shared = pooled_calls(answers.evaluations)
    shares = []
    for name in ("sensitivity", "specificity"):
        calls = shared.get(name)
        below = (f"{number(calls.share.low, 2)} to {number(calls.share.high, 2)}",) if calls else ()
        shares.append(Cell(number(calls.share.value, 2) if calls else ABSENT, below))
    people = sum(site.participants for site in answers.evaluations)
    known = [site.positives for site in _countable(answers.by_site).values() if site.positives is not None]
    positives = count(sum(known)) if len(known) == len(answers.by_site) else WITHHELD
    middle = Cell(number(found.value, 3) if found else ABSENT, sure)
    drawn = sum(site.histogram is not None for site in answers.evaluations)
    last = Cell(f"of {drawn} hospitals")
    return TableRow((Cell("Together"), Cell(count(people)), Cell(positives), middle, *shares, last), lead=True)


# --- figure -----------------------------------------------------------------------------------------------------------


def answers_figure(results: Results) -> Figure | None:
    """ROC curve, forest plot and calibration, from what the hospitals sent; of the first seed."""
    every = read_answers(results)
    if not every or all(site.auc is None for site in every[0].evaluations):
        return None
    figure = Figure(figsize=(WIDTH, 3.5), layout="constrained")
    roc, hospitals, calibration = figure.subplots(1, 3, width_ratios=(1.0, 1.05, 1.0))
    _roc_panel(roc, every[0])
    _hospitals_panel(hospitals, every[0])
    _calibration_panel(calibration, every[0], results.condition)
    return figure


def _roc_panel(axes: Axes, answers: Answers) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    if answers.exact is not None:
        exact = roc_curve(*answers.exact)
        axes.plot(1 - exact.specificity, exact.sensitivity, color=INK, linewidth=0.9, label="exact scores")
    if answers.auc_range is not None:
        binned = pooled_roc(answers.evaluations)
        x, y = 1 - binned.specificity, binned.sensitivity
        axes.plot(x, y, color=LEAD, linewidth=1.8, alpha=0.85, label="histograms")
        axes.legend(loc="lower right")
    else:
        axes.text(0.5, 0.5, WITHHELD, ha="center", color=MUTED)
    axes.set(title="ROC", xlabel="1 − specificity", ylabel="Sensitivity", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal", anchor="N")


def _hospitals_panel(axes: Axes, answers: Answers) -> None:
    sites = list(answers.by_site.items())[:MOST_SITES]
    lowest = 0.5
    for y, (_, site) in enumerate(sites):
        estimate = site.auc_interval()
        if estimate is None:
            axes.text(0.75, -y, WITHHELD, ha="center", va="center", color=MUTED)
            continue
        axes.plot([estimate.low, estimate.high], [-y, -y], color=LEAD, linewidth=1.4)
        axes.plot([estimate.value], [-y], "s", color=LEAD, markersize=3.5 + min(5.0, site.participants**0.5 / 3))
        lowest = min(lowest, estimate.low)
    names = [place_name(name) for name, _ in sites]
    if answers.pooled:
        y, e = -len(sites), answers.pooled.random
        axes.fill([e.low, e.value, e.high, e.value], [y, y + 0.18, y, y - 0.18], color=LEAD)
        names.append("Pooled")
        lowest = min(lowest, e.low)
    axes.axvline(0.5, color=PALE, linewidth=1.0, zorder=0)
    axes.set_yticks([-k for k in range(len(names))], names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(title="Hospitals' own AUCs", xlabel="AUC", xlim=(lowest - 0.03, 1.01), ylim=(-len(names) + 0.4, 0.6))


def _calibration_panel(axes: Axes, answers: Answers, condition: str) -> None:
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.0)
    if answers.exact is not None:
        _groups(axes, calibration_bins(*answers.exact), INK, 0.9, "exact scores")
    if answers.auc_range is not None:
        _groups(axes, pooled_calibration(answers.evaluations), LEAD, 1.8, "histograms")
        axes.legend(loc="upper left")
    else:
        axes.text(0.5, 0.5, WITHHELD, ha="center", color=MUTED)
    axes.set(title="Calibration", xlabel="Predicted probability", ylabel=f"Share that has {condition}")
    axes.set(xlim=(0, 1), ylim=(0, 1.01))
    axes.set_aspect("equal", anchor="N")


def _groups(axes: Axes, groups: list[CalibrationBin], colour: str, width: float, label: str) -> None:
    x, y = [g.predicted for g in groups], [g.observed.value for g in groups]
    axes.plot(x, y, "o-", color=colour, linewidth=width, markersize=3, alpha=0.85, label=label)
