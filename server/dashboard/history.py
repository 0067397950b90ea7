"""What the complete rounds tell: learning curves, who took part, and what travelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server import failures
from server.arms import CENTRAL
from server.dashboard.files import Record, number, table
from server.dashboard.progress import SiteNow
from server.failures import AWAY as AWAY
from server.failures import NO_ANSWER, REFUSED, flower_error, in_words

MOST_POINTS = 200
"""Of a curve; of a longer run every second, third ... round is drawn, and the last."""
GRID_ROUNDS = 30
"""Rounds that the grid of who took part shows."""

LATE = "connected after the run had begun without it, whose scaling all sites share: it takes part in the next run"
"""As in server/members.py, which imports Flower."""

BEFORE_TRAINING = "train_loss"
"""The one metric of a site that belongs to its own round; the others are of the model that came down."""


@dataclass(frozen=True)
class Curve:
    """One metric of one hospital, or of the central test; points are (round, value)."""

    name: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Cell:
    """What became of a hospital in a round: ``answered``, ``refused``, ``failed``, ``away``, ``asked`` or ``none``."""

    round: int
    state: str
    why: str = ""


@dataclass(frozen=True)
class Part:
    """A hospital's part in the run.

    Attributes:
        name: of the hospital.
        answered: complete rounds in which its answer counted.
        of: complete rounds.
        cells: the last :data:`GRID_ROUNDS` rounds, with the one under way.
    """

    name: str
    answered: int
    of: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Moved:
    """Bytes of a round: to the hospitals and from them."""

    round: int
    down: float | None
    up: float | None
    seconds: float | None


def curves(records: Sequence[Record], released: Mapping[str, object], metric: str) -> tuple[Curve, ...]:
    """A metric by hospital and, last, of the central test.

    A hospital's answer to round k evaluates the model that came down, that of round k - 1; the released model's
    evaluation closes its curve.

    Args:
        records: complete rounds.
        released: model.json; empty before the release.
        metric: ``loss``, ``auc``, ``dice`` or ``train_loss``.
    """
    found: dict[str, dict[int, float]] = {}
    for record in records[1:]:
        of_round = record.round - (metric != BEFORE_TRAINING)
        for site, numbers in record.sites.items():
            if metric in numbers:
                found.setdefault(site, {})[of_round] = numbers[metric]
    for site, told in table(released.get("sites")).items():
        last = number(table(told).get(metric))
        if last is not None and metric != BEFORE_TRAINING:
            found.setdefault(site, {})[records[-1].round if records else 0] = last
    central = {record.round: record.central[metric] for record in records if metric in record.central}
    lines = [Curve(name, _thinned(points)) for name, points in sorted(found.items())]
    return (*lines, *([Curve(CENTRAL, _thinned(central))] if central else []))


def _thinned(points: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    ordered = sorted(points.items())
    step = -(-len(ordered) // MOST_POINTS)
    return tuple(ordered[::-1][::step][::-1]) if step > 1 else tuple(ordered)


def parts(
    records: Sequence[Record], names: Sequence[str], now: Mapping[str, SiteNow], under_way: int
) -> tuple[Part, ...]:
    """Who took part in what.

    Args:
        records: complete rounds.
        names: of the hospitals.
        now: what they do in the round under way.
        under_way: its number; 0 between rounds.
    """
    complete = records[1:]
    shown = complete[-GRID_ROUNDS + bool(under_way) :]
    found = []
    for name in names:
        cells = [_cell(record, name) for record in shown]
        if under_way:
            site = now.get(name)
            cells.append(Cell(under_way, site.state if site else "none", site.why if site else ""))
        answered = sum(name in record.sites for record in complete)
        found.append(Part(name, answered, len(complete), tuple(cells)))
    return tuple(found)


def _cell(record: Record, name: str) -> Cell:
    if name in record.sites:
        return Cell(record.round, "answered")
    why = record.failures.get(name)
    if why is None:
        return Cell(record.round, "none")
    state = "refused" if why.startswith(REFUSED) else "away" if gone(why) else "failed"
    return Cell(record.round, state, in_words(why))


def gone(why: str) -> bool:
    """Whether a hospital was not there, or not in time, as its failure is recorded."""
    return failures.gone(why) or why in (AWAY, NO_ANSWER, LATE, flower_error(5))


def traffic(records: Sequence[Record]) -> tuple[Moved, ...]:
    """Bytes of each complete round, the start among them."""
    return tuple(Moved(r.round, r.down, r.up, r.seconds) for r in records if r.down is not None or r.up is not None)
