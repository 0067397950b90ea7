"""Whether anybody still waits for what a hospital works on, so that work for a round that is over is given up.

A message has a life (the round's deadline). A hospital that was slow, or stood still for an hour, must not work on for
a round that nobody counts any more: it would be late for the next one as well. So work is given up between two batches,
before anything is charged and before anything leaves. What was charged under noise already is finished and kept
(:mod:`client.kept`): given up, the same round would be paid for twice.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class TooLate(Exception):
    """Nobody waits for this any more."""


def _never() -> bool:
    return False


@dataclass
class Wanted:
    """One request's standing, asked between two batches.

    Attributes:
        over: whether its life has ended, or whoever asked has gone.
        stopping: whether this process is asked to end.
        paid: whether privacy was spent on it; from then on it is finished.
    """

    over: Callable[[], bool] = _never
    stopping: Callable[[], bool] = _never
    paid: bool = False

    def check(self) -> None:
        """Raise :class:`TooLate` where the work is to be given up."""
        if not self.paid and (self.over() or self.stopping()):
            raise TooLate

    def check_sending(self) -> None:
        """Raise :class:`TooLate` where the answer, paid for or not, would reach nobody."""
        if self.over():
            raise TooLate

    def each(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, for as long as somebody waits."""
        for batch in batches:
            self.check()
            yield batch
