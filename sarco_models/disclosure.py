"""Which counts of people are too small to be shown, and which others would give them away.

A count of 1 to ``min_cell - 1`` is small. Zero is not: it is nobody's. A single hidden count of a known total is that
total minus the rest, so that a second one is hidden with it.
"""

from collections.abc import Hashable, Sequence, Set

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sarco_models.scores import Labels

Counts = NDArray[np.int64]


def small(counts: ArrayLike, min_cell: int) -> Labels:
    """True where a count is of 1 to ``min_cell - 1`` people; any shape."""
    number = np.asarray(counts)
    return np.asarray((number > 0) & (number < min_cell), dtype=np.bool_)


def hidden(counts: Counts, min_cell: int) -> Labels:
    """The counts that may not be shown when the total of all of them is known.

    Args:
        counts: (cells,) that add up to a known total.
        min_cell: the smallest count that may be shown; 1 hides nothing.

    Returns:
        (cells,) True for the small ones. When these hold fewer than ``min_cell`` people together (a single one always
        does), so that subtraction would tell them, the smallest of the others are hidden too.
    """
    mask = small(counts, min_cell)
    if not mask.any():
        return mask
    for cell in np.argsort(counts, kind="stable"):
        if counts[mask].sum() >= min_cell:
            break
        mask[cell] |= counts[cell] > 0
    return mask


def hidden_groups(owners: Sequence[Set[Hashable]], min_cell: int) -> Labels:
    """The counts of things, such as images, that may not be shown when the total of all of them is known.

    A count of things may be large and be of one person. So it is people that are counted: whoever owns any of them.

    Args:
        owners: of each group of things: who owns any of it; a person may be in several groups.
        min_cell: the smallest number of people of whom a count may be shown; 1 hides nothing.

    Returns:
        (groups,) True for those of too few people. When all that is hidden is of fewer than ``min_cell`` people
        together, so that subtraction would tell of them, the groups of the fewest others are hidden too.
    """
    people = np.array([len(group) for group in owners], dtype=np.int64)
    mask = small(people, min_cell)
    if not mask.any():
        return mask
    for group in np.argsort(people, kind="stable"):
        if len(set().union(*(owners[k] for k in np.flatnonzero(mask).tolist()))) >= min_cell:
            break
        mask[group] |= people[group] > 0
    return mask
