"""Table 1: who the participants are, those with sarcopenia beside those without, and how surprising a difference is.

One rule for every variable, stated and kept (the paper mixes two chi-square tests in one column, SCIENCE I27):

    measured    both groups pass Shapiro-Wilk (P >= .05)    mean (SD)       Welch's t
                otherwise                                   median (IQR)    Mann-Whitney
    counted     Cochran's rule for expected counts holds    n (%)           Pearson's chi-square, uncorrected
                otherwise                                   n (%)           Fisher's exact (simulated beyond 2 x 2)

P values of a baseline table describe this sample. They choose no feature, and nothing is adjusted for their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import MonteCarloMethod, chi2_contingency, fisher_exact, mannwhitneyu, normaltest, shapiro, ttest_ind
from scipy.stats.contingency import expected_freq

from sarco_models.disclosure import hidden
from sarco_models.errors import UndefinedMetric
from sarco_models.scores import Labels, Scores

ALPHA = 0.05
MOST_FOR_SHAPIRO = 5000  # its P is not accurate beyond (Royston 1995); D'Agostino & Pearson's test takes over
FEWEST_FOR_SHAPIRO = 3
SIMULATIONS = 99_999  # of Fisher's test beyond 2 x 2: P is known to .0032 or better

Test = Literal["t", "mann_whitney", "chi_square", "fisher"]


@dataclass(frozen=True)
class MeanSd:
    """Of a value that looks normal in both groups."""

    mean: float
    sd: float


@dataclass(frozen=True)
class MedianIqr:
    """Of any other value: median, first and third quartile."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class Share:
    """Participants at one level; None where the count is too small to be shown, or would give another one away."""

    count: int | None
    known: int


Summary = MeanSd | MedianIqr | Share


@dataclass(frozen=True)
class BaselineRow:
    """One line of Table 1.

    Attributes:
        variable: its name.
        level: of a counted variable; empty for a measured one.
        positive: participants with sarcopenia; None where too few have a value.
        negative: participants without; None as above.
        missing: participants without a value: (with sarcopenia, without).
        test: the test, at a variable's first line only.
        p: two-sided, at a variable's first line only; None as well where a group has no values to show.
    """

    variable: str
    level: str
    positive: Summary | None
    negative: Summary | None
    missing: tuple[int, int]
    test: Test | None
    p: float | None


@dataclass(frozen=True)
class Measured:
    """A measured variable: (participants,) values, NaN where missing."""

    name: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Counted:
    """A variable in words.

    Attributes:
        name: of the variable.
        words: (participants,) level of each; empty where missing.
        shown: the levels to show, in order; all are tested. ("yes",) is enough for a yes or no.
    """

    name: str
    words: Sequence[str]
    shown: tuple[str, ...]


def baseline_table(
    variables: Sequence[Measured | Counted], labels: Labels, rng: np.random.Generator, *, min_cell: int = 1
) -> tuple[BaselineRow, ...]:
    """Table 1 of these participants.

    Args:
        variables: one value per participant each.
        labels: (participants,) True = sarcopenia.
        rng: for Fisher's test beyond 2 x 2.
        min_cell: what describes fewer people is hidden, and counts that would give such a count away.

    Raises:
        UndefinedMetric: one class only, or a variable is not of these participants.
    """
    if labels.all() or not labels.any():
        raise UndefinedMetric(f"all {labels.size} participants have the same label: there is nothing to compare")
    rows: list[BaselineRow] = []
    for variable in variables:
        size = len(variable.values if isinstance(variable, Measured) else variable.words)
        if size != labels.size:
            raise UndefinedMetric(f"{variable.name}: {size} values for {labels.size} participants; one each")
        if isinstance(variable, Measured):
            rows.append(_measured(variable, labels, max(min_cell, 1)))
        else:
            rows += _counted(variable, labels, rng, max(min_cell, 1))
    return tuple(rows)


# --- measured ---------------------------------------------------------------------------------------------------------


def looks_normal(values: Scores) -> bool:
    """Whether Shapiro & Wilk (1965) do not reject normality at .05; never of fewer than three, or of equal, values."""
    if values.size < FEWEST_FOR_SHAPIRO or np.ptp(values) == 0.0:
        return False
    found = shapiro(values) if values.size <= MOST_FOR_SHAPIRO else normaltest(values)
    return bool(found.pvalue >= ALPHA)


def compare_measured(first: Scores, second: Scores) -> tuple[Test, float]:
    """Two-sided P of two groups of values, and the test that the rule of this module gives them.

    Raises:
        UndefinedMetric: a group has no values.
    """
    if not first.size or not second.size:
        raise UndefinedMetric(f"groups of {first.size} and {second.size} values: nothing to compare")
    if looks_normal(first) and looks_normal(second):
        return "t", float(ttest_ind(first, second, equal_var=False).pvalue)
    return "mann_whitney", float(mannwhitneyu(first, second).pvalue)


def _measured(variable: Measured, labels: Labels, min_cell: int) -> BaselineRow:
    known = ~np.isnan(variable.values)
    groups = [variable.values[known & of] for of in (labels, ~labels)]
    missing = int((labels & ~known).sum()), int((~labels & ~known).sum())
    positive, negative = groups
    if min(positive.size, negative.size) < min_cell:
        return BaselineRow(variable.name, "", None, None, missing, None, None)
    test, p = compare_measured(positive, negative)
    describe = _mean_sd if test == "t" else _median_iqr
    return BaselineRow(variable.name, "", describe(positive), describe(negative), missing, test, p)


def _mean_sd(values: Scores) -> MeanSd:
    return MeanSd(float(values.mean()), float(values.std(ddof=1)))


def _median_iqr(values: Scores) -> MedianIqr:
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return MedianIqr(float(median), float(q1), float(q3))


# --- counted ----------------------------------------------------------------------------------------------------------


def compare_counts(table: NDArray[np.int64], rng: np.random.Generator) -> tuple[Test, float]:
    """Two-sided P of a (levels, 2) table of counts, and the test that the rule of this module gives it.

    Cochran (1954): chi-square needs every expected count to be at least 1, and at most a fifth of them below 5 (in a
    two-by-two table: none).

    Raises:
        UndefinedMetric: fewer than two levels or groups with anybody in them.
    """
    table = table[table.sum(axis=1) > 0]
    if table.shape[0] < 2 or not (table.sum(axis=0) > 0).all():
        raise UndefinedMetric(f"{table.shape[0]} levels in two groups of {table.sum(axis=0)}: nothing to compare")
    expected = expected_freq(table)
    if expected.min() >= 1.0 and (expected < 5.0).mean() <= 0.2:
        return "chi_square", float(chi2_contingency(table, correction=False).pvalue)
    if table.shape[0] == 2:
        return "fisher", float(fisher_exact(table).pvalue)
    simulated = MonteCarloMethod(n_resamples=SIMULATIONS, rng=rng)
    return "fisher", float(fisher_exact(table, method=simulated).pvalue)


def _counted(variable: Counted, labels: Labels, rng: np.random.Generator, min_cell: int) -> list[BaselineRow]:
    words = np.array(variable.words, dtype=np.str_)
    levels = [*variable.shown, *sorted(set(variable.words) - {"", *variable.shown})]
    table = np.array([[(words[of] == level).sum() for of in (labels, ~labels)] for level in levels], dtype=np.int64)
    missing = int((words[labels] == "").sum()), int((words[~labels] == "").sum())
    try:
        test, p = compare_counts(table, rng)
    except UndefinedMetric:
        test, p = None, None
    mask = np.stack([hidden(column, min_cell) for column in table.T], axis=1)
    rows = []
    for position, level in enumerate(variable.shown):
        positive, negative = (
            Share(None if mask[position, of] else int(table[position, of]), int(table[:, of].sum())) for of in (0, 1)
        )
        first = position == 0 and not mask.any()
        rows.append(
            BaselineRow(
                variable.name, level, positive, negative, missing, test if first else None, p if first else None
            )
        )
    return rows
