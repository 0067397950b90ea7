"""The tables of what the ways of training reached: where all meet, hospital by hospital, fold by fold, seed by seed."""

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean, stdev

from sarco_models.errors import UndefinedMetric
from sarco_models.metrics import Comparison, compare_family, holm
from server.arms import CENTRAL, NESTED, ArmName, place_name
from server.results import OverSeeds, Results, Row
from server.tables import (
    ABSENT,
    CALIBRATION,
    METRICS,
    RANKING_AND_CALLS,
    Cell,
    Table,
    TableRow,
    interval,
    number,
    p_range,
    summary,
    texts,
)

HEADINGS = {
    "federated": "Together, each hospital keeping its data",
    "pooled": "All data in one place",
    "local": "Each hospital alone",
    "without": "Together, one hospital left out",
    "pooled_without": "All data but one hospital's in one place",
    "tuned": "Together, then trained further by one hospital",
    "cv": "Candidates of the cross-validation",
}
CONTROLS_HEADING = "Negative controls: simple guesses that a useful model must beat"
MANY_ARMS = 10
MOST_HOSPITALS = 8
FEW_ARMS = 6
FOLD_METRICS = ("auc", "sensitivity", "specificity", "accuracy", "f1_positive", "f1_macro")
EXTERNAL_METRICS = ("auc", "sensitivity", "specificity", "positive_rate")


# --- where all arms meet ----------------------------------------------------------------------------------------------


def ranking(results: Results) -> Table:
    """How every arm ranks people, and how it calls them at its frozen threshold."""
    caption = f"Ranking and calls: {people_words(results)} for every way of training."
    return _compared(results, RANKING_AND_CALLS, caption)


def calibration(results: Results) -> Table:
    """How far every arm's probabilities can be taken at their word."""
    return _compared(results, CALIBRATION, "Probabilities: the same people.")


def comparison(results: Results) -> Table:
    """Both in one, for a file."""
    return _compared(results, tuple(METRICS), "")


def people_words(results: Results) -> str:
    """Whom the arms are compared on."""
    found = next((f for arm in results.compared if (f := results.over_seeds(arm, "auc", results.home))), None)
    people = f" ({found.n} participants, {found.n_positive} with {results.condition})" if found and found.n else ""
    if results.home == CENTRAL:
        return f"the same central test people{people}"
    return f"everybody of {place_name(results.home)}{people}, scored by models that did not see them,"


def _compared(results: Results, metrics: tuple[str, ...], caption: str) -> Table:
    rows: list[TableRow] = []
    for arm in results.arms:
        cells = [summary(results.over_seeds(arm, metric, results.home), METRICS[metric][1]) for metric in metrics]
        if not all(cell.main == ABSENT for cell in cells):
            rows += _heading(results, arm, rows)
            rows.append(TableRow((Cell(results.arm_name(arm)), *cells), lead=arm == results.lead))
    return Table(caption, (_first_heading(results), *(METRICS[metric][0] for metric in metrics)), tuple(rows))


def _first_heading(results: Results) -> str:
    return "Candidate" if results.cross_validated else "Way of training"


def _heading(results: Results, arm: str, above: list[TableRow]) -> list[TableRow]:
    """A heading before the first control, and in a long table before each kind."""
    kind = ArmName.parse(arm).kind
    heading = CONTROLS_HEADING if kind == "control" else HEADINGS.get(kind, "")
    wanted = kind == "control" or len(results.arms) > MANY_ARMS
    if not wanted or not heading or any(row.divider == heading for row in above):
        return []
    return [TableRow(divider=heading)]


# --- against each other -----------------------------------------------------------------------------------------------


def family(results: Results) -> dict[str, dict[int, Comparison]]:
    """Paired DeLong of the lead against every other trained arm, by arm and seed, adjusted as one family (Holm).

    Read from everybody's scores where the run has them, else from the P values that it stored. An arm that scored
    other people than the lead is in no pair.
    """
    others = [a for a in results.compared if a != results.lead and not ArmName.parse(a).control]
    found: dict[str, dict[int, Comparison]] = {}
    for seed in results.seeds:
        of_seed = _from_scores(results, others, seed) or _from_rows(results, others, seed)
        for arm, compared in of_seed.items():
            found.setdefault(arm, {})[seed] = compared
    return {arm: found[arm] for arm in others if arm in found}


def _from_scores(results: Results, others: list[str], seed: int) -> dict[str, Comparison]:
    scores = {arm: held for arm in others if (held := results.scores.get((arm, seed, results.home)))}
    lead = results.scores.get((results.lead, seed, results.home))
    if lead is None:
        return {}
    usable = {}
    for arm, held in scores.items():
        try:
            compare_family(lead.people, {arm: held.people})
        except UndefinedMetric:  # other people, one class only, or two scores that never err
            continue
        usable[arm] = held.people
    return compare_family(lead.people, usable)


def _from_rows(results: Results, others: list[str], seed: int) -> dict[str, Comparison]:
    found: dict[str, Comparison] = {}
    for arm in others:
        difference = results.difference_of_seed(results.lead, arm, seed)
        p = results.p_values(results.lead, arm).get(seed)
        if difference is not None and p is not None:
            found[arm] = Comparison(difference, p)
    adjusted = holm([c.p for c in found.values()])
    return {arm: replace(found[arm], p_holm=p) for arm, p in zip(found, adjusted, strict=True)}


def differences(results: Results) -> Table:
    """The family of the lead: difference in AUC, P before and after Holm."""
    rows = []
    for arm, by_seed in family(results).items():
        values = [c.difference for c in by_seed.values()]
        mean, low, high = (fmean(getattr(v, end) for v in values) for end in ("value", "low", "high"))
        sd = stdev(v.value for v in values) if len(values) > 1 else None
        numbers = number(mean, 3, signed=True), _limits(low, high), number(sd, 3)
        p = p_range(c.p for c in by_seed.values())
        adjusted = p_range(c.p_holm for c in by_seed.values() if c.p_holm is not None)
        rows.append(TableRow(texts(results.arm_name(arm), *numbers, p, adjusted)))
    head = ("Against", "Difference in AUC", "95 % interval", "SD over seeds", "P (DeLong)", "P (Holm)")
    caption = f"{results.arm_name(results.lead)} against every other way of training, on the same people."
    return Table(caption, head, tuple(rows))


def further_differences(results: Results) -> Table:
    """Pairs outside the family, P not adjusted: the lead against the controls, and few arms against each other."""
    rows = []
    for first, second in _further_pairs(results):
        found = results.difference(first, second)
        if found is not None:
            numbers = number(found.mean, 3, signed=True), interval(found, 3, signed=True) or ABSENT, number(found.sd, 3)
            p = p_range(results.p_values(first, second).values())
            rows.append(TableRow(texts(_against(results, first, second), *numbers, p)))
    head = ("Comparison", "Difference in AUC", "95 % interval", "SD over seeds", "P (DeLong)")
    return Table("Further comparisons on the same people, P not adjusted.", head, tuple(rows))


def _further_pairs(results: Results) -> Iterator[tuple[str, str]]:
    trained = [arm for arm in results.compared if not ArmName.parse(arm).control]
    controls = [arm for arm in results.compared if ArmName.parse(arm).control]
    yield from ((results.lead, control) for control in controls)
    for index, first in enumerate(trained):
        for second in trained[index + 1 :]:
            one, other = ArmName.parse(first), ArmName.parse(second)
            alike = (one.variant == other.variant) != (one.kind == other.kind and one.site == other.site)
            if results.lead not in (first, second) and (len(trained) <= FEW_ARMS or alike):
                yield first, second


def _against(results: Results, first: str, second: str) -> str:
    return f"{results.arm_name(first)} against {results.arm_name(second)}"


def _limits(low: float, high: float) -> str:
    return f"{number(low, 3, signed=True)} to {number(high, 3, signed=True)}"


# --- hospital by hospital ---------------------------------------------------------------------------------------------


def by_hospital(results: Results) -> Table:
    """AUC of every arm on each hospital's held-out people; a personal arm has its own hospital only."""
    sites = [s for s in results.sites if any(results.over_seeds(a, "auc", s) for a in results.arms)]
    shown = [s for s in sites if s != results.home][:MOST_HOSPITALS]
    rows: list[TableRow] = []
    for arm in results.arms:
        cells = [_at_hospital(results, arm, site) for site in shown]
        if not all(cell.main == ABSENT for cell in cells):
            rows += _heading(results, arm, rows)
            rows.append(TableRow((Cell(results.arm_name(arm)), *cells), lead=arm == results.lead))
    head = ("Way of training", *(_hospital_heading(results, site) for site in shown))
    rest = f" The first {len(shown)} of {len(sites)} hospitals; the others are in results.csv." * (
        len(sites) > MOST_HOSPITALS
    )
    return Table(f"AUC on each hospital's own held-out people.{rest}", head, tuple(rows))


def _at_hospital(results: Results, arm: str, site: str) -> Cell:
    found = results.over_seeds(arm, "auc", site)
    cell = summary(found, 3)
    parts = ArmName.parse(arm)
    if found and parts.kind in ("without", "pooled_without") and parts.site == site:
        cell = replace(cell, below=(*cell.below, "took no part"))
    usual = _first_at(results, site)
    if found and usual and found.n != usual.n:
        cell = replace(cell, below=(*cell.below, f"{found.n_positive} of {found.n}"))
    return cell


def _first_at(results: Results, site: str) -> OverSeeds | None:
    return next((f for arm in results.arms if (f := results.over_seeds(arm, "auc", site))), None)


def _hospital_heading(results: Results, site: str) -> str:
    found = _first_at(results, site)
    people = f", {found.n_positive} of {found.n} positive" if found and found.n is not None else ""
    return place_name(site) + people


# --- cross-validation -------------------------------------------------------------------------------------------------


def folds(results: Results) -> Table:
    """Every candidate: pooled out-of-fold AUC, and mean and standard deviation of the folds."""
    rows = []
    for arm in results.arms:
        if ArmName.parse(arm).kind != "cv" or not results.over_seeds(arm, "fold_auc:0", results.home):
            continue
        cells = [_over_folds(results, arm, metric) for metric in FOLD_METRICS]
        pooled = summary(results.over_seeds(arm, "auc", results.home), 3)
        times = _times_selected(results, arm)
        rows.append(TableRow((Cell(results.arm_name(arm)), pooled, *cells, Cell(times)), lead=arm == results.lead))
    names = (f"{METRICS[metric][0]}, folds" for metric in FOLD_METRICS)
    caption = "Pooled out-of-fold AUC, and mean (SD) of the folds. The SD describes the folds; it is no error."
    return Table(caption, ("Candidate", "AUC, pooled", *names, "Chosen"), tuple(rows))


def _over_folds(results: Results, arm: str, metric: str) -> Cell:
    prefix = f"fold_{metric}:"
    by_seed: dict[int, list[float]] = {}
    for row in results.rows:
        if row.arm == arm and row.metric.startswith(prefix) and row.site == results.home and row.value is not None:
            by_seed.setdefault(row.seed, []).append(row.value)
    values = list(by_seed.values())
    if not values:
        return Cell(ABSENT)
    spread = [stdev(of) for of in values if len(of) > 1]
    below = (f"({fmean(spread):.2f})",) if spread else ()
    return Cell(number(fmean(fmean(of) for of in values), 3 if metric == "auc" else 2), below)


def _times_selected(results: Results, arm: str) -> str:
    variant, selected = ArmName.parse(arm).variant, list(results.meta.protocol.selected.values())
    if variant == NESTED or not selected:
        return ABSENT
    return f"{selected.count(variant)} of {len(selected)}"


def external(results: Results) -> Table:
    """The frozen ensembles at the other hospitals, at the threshold frozen on out-of-fold scores."""
    rows = []
    for site in results.sites:
        if site == results.home:
            continue
        arms = [a for a in results.arms if ArmName.parse(a).kind == "cv" and results.over_seeds(a, "auc", site)]
        if arms:
            rows.append(TableRow(divider=_hospital_heading(results, site)))
        for arm in arms:
            cells = [summary(results.over_seeds(arm, m, site), 3 if m == "auc" else 2) for m in EXTERNAL_METRICS]
            rows.append(TableRow((Cell(results.arm_name(arm)), *cells), lead=arm == results.lead))
    head = ("Candidate", "AUC", METRICS["sensitivity"][0], METRICS["specificity"][0], "Called positive")
    return Table("Frozen ensembles and thresholds in hospitals that took no part.", head, tuple(rows))


# --- seed by seed -----------------------------------------------------------------------------------------------------


def each_seed(results: Results) -> Table:
    """Every seed's own numbers with its own intervals."""
    rows = []
    for arm in results.arms:
        for row in results.final(arm, "auc", results.home):
            at = next((r for r in results.final(arm, "threshold", results.home) if r.seed == row.seed), None)
            cells = [_own(results, arm, metric, row.seed) for metric in ("auc", "sensitivity", "specificity", "brier")]
            threshold = number(at.value if at else None, 3)
            rows.append(TableRow((*texts(results.arm_name(arm), str(row.seed)), *cells, *texts(threshold))))
    head = (_first_heading(results), "Seed", "AUC", "Sensitivity", "Specificity", "Brier", "Frozen threshold")
    return Table("Seed by seed, each with its own 95 % interval.", head, tuple(rows))


def _own(results: Results, arm: str, metric: str, seed: int) -> Cell:
    row: Row | None = next((r for r in results.final(arm, metric, results.home) if r.seed == seed), None)
    if row is None:
        return Cell(ABSENT)
    known = row.ci_low is not None and row.ci_high is not None and row.ci_low < row.ci_high
    limits = f" ({number(row.ci_low, 3)} to {number(row.ci_high, 3)})" if known else ""
    return Cell(number(row.value, 3) + limits)
