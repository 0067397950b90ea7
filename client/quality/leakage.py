"""What gives the label away: a feature that separates the classes, or whose absence does.

Disease does not separate people perfectly by one ordinary measurement; a column that does was made from the label, or
from what defines it. A model trained on it is worth nothing at any other hospital.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from client.quality.columns import Values, finding
from client.quality.completeness import same_pattern
from sarco_models.errors import Finding
from sarco_models.metrics import auc_interval

PERFECT_AUC = 0.98
CERTAIN_AUC = 0.80
"""A feature leaks when its AUC reaches the first and the lower limit of its 95 % interval the second; with perfect
separation that takes 17 people in the smaller class (exact binomial limit). The best single feature of Chen et al.'s
Table 1 that is no part of the label has .723."""

FEWEST_PER_CLASS = 8  # for a warning on separation that is not certain yet
MISSING_GAP = 0.3  # difference between the classes' shares of missing values
MISSING_P = 1e-3


def leakage_findings(features: Mapping[str, Values], labels: NDArray[np.int8]) -> Iterator[Finding]:
    """Features that separate the classes, by value or by being missing.

    Args:
        features: (participants,) values by column of the model's table, NaN where missing.
        labels: (participants,) 1, 0, or -1 where unknown.
    """
    known = labels >= 0
    positive = labels[known] == 1
    if min(positive.sum(), (~positive).sum()) < FEWEST_PER_CLASS:
        return
    for name, values in features.items():
        yield from _separates(name, values[known], positive)
    absent = {name: np.isnan(values[known]) for name, values in features.items()}
    for names, missing in same_pattern(absent):
        yield from _absence_tells(names, missing, positive)


def _separates(name: str, values: Values, positive: NDArray[np.bool_]) -> Iterator[Finding]:
    present = ~np.isnan(values)
    if min((positive & present).sum(), (~positive & present).sum()) < FEWEST_PER_CLASS:
        return
    area = auc_interval(values[present], positive[present])
    if area.value < 0.5:
        area = auc_interval(-values[present], positive[present])
    if area.value < PERFECT_AUC:
        return
    seen = f"separates the classes with an AUC of {area.value:.3f}"
    expected = f"an AUC under {PERFECT_AUC:g}"
    if area.low >= CERTAIN_AUC:
        remedy = "empty the column, or fill it from the record: it was made from the label or from what defines it"
        yield finding("error", "leakage", name, (seen, expected, remedy))
    else:
        remedy = "check how the column was made; with so few people it may be chance"
        yield finding("warning", "leakage", name, (seen, expected, remedy))


def _absence_tells(names: list[str], missing: NDArray[np.bool_], positive: NDArray[np.bool_]) -> Iterator[Finding]:
    shares = float(missing[positive].mean()), float(missing[~positive].mean())
    counts = np.array([[(missing & group).sum(), (~missing & group).sum()] for group in (positive, ~positive)])
    if abs(shares[0] - shares[1]) < MISSING_GAP or float(fisher_exact(counts).pvalue) > MISSING_P:
        return
    also = f" (so are {', '.join(names[1:])})" if len(names) > 1 else ""
    seen = f"missing in {shares[0]:.0%} of the positive and {shares[1]:.0%} of the negative people{also}"
    remedy = "fill it in for both classes alike, or empty it for all: whether it was measured gives the label away"
    yield finding("warning", "missing-by-class", names[0], (seen, "missing alike in both classes", remedy))
