"""Small counts are hidden, and so is what would give them away."""

import itertools

import numpy as np
import pytest

from sarco_models.disclosure import hidden, hidden_groups, small


def test_a_small_count_is_of_somebody_but_of_few() -> None:
    assert small([0, 1, 4, 5, 6], 5).tolist() == [False, True, True, False, False]
    assert not small([1, 2], 1).any()


@pytest.mark.parametrize(
    ("counts", "mask"),
    [
        ([20, 30, 40], [0, 0, 0]),
        ([2, 20, 30], [1, 1, 0]),
        ([2, 0, 30], [1, 0, 1]),
        ([1, 1, 30], [1, 1, 1]),
        ([3, 4, 30], [1, 1, 0]),
        ([3], [1]),
        ([], []),
    ],
    ids=["none", "one and its neighbour", "nobody is no cover", "two of one", "two that cover each other", "one", "no"],
)
def test_a_hidden_count_never_stands_alone(counts: list[int], mask: list[int]) -> None:
    assert hidden(np.array(counts, dtype=np.int64), 5).astype(int).tolist() == mask


def test_no_small_count_follows_from_the_total_and_what_is_shown() -> None:
    for counts in itertools.product(range(8), repeat=3):
        cells = np.array(counts)
        mask = hidden(cells, 3)
        assert not small(cells[~mask], 3).any()
        covered = cells[mask]
        # More than one person's group is hidden, unless everybody else is nobody.
        assert not mask.any() or (mask.sum() > 1 and covered.sum() >= 3) or (cells[~mask] == 0).all()


def shown_groups(*owners: str, min_cell: int = 5) -> list[bool]:
    return (~hidden_groups([set(group) for group in owners], min_cell)).tolist()


def test_many_things_of_few_people_are_counted_as_few_people() -> None:
    assert shown_groups("abcdefgh", "ijklm") == [True, True]
    assert shown_groups("abcdefgh", "ij", "klmnop") == [True, False, False], "the total would give the second away"
    assert shown_groups("abcdefgh", "") == [True, True], "nobody's"
    assert shown_groups("abcdefgh", "ij", min_cell=1) == [True, True]


def test_small_groups_that_are_many_people_together_hide_each_other_and_nobody_else() -> None:
    assert shown_groups("abcdefgh", "ijk", "lmn") == [True, False, False]


def test_small_groups_of_the_same_people_do_not_hide_each_other() -> None:
    assert shown_groups("abcdefgh", "ijk", "ijk") == [False, False, False]
