"""What a person sees while an experiment runs: one line for the stage, one for each arm."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from simulation.status import ArmStatus, Status, Watch

_LINE_EVERY_S = 5.0
_MOST_LINES = 8


@contextmanager
def shown(console: Console) -> Iterator[Watch]:
    """Show progress: redrawn in place on a terminal, a line now and then in a log."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    started = time.monotonic()
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        clock = _Clock()
        yield lambda status: live.update(_picture(status, time.monotonic() - started, clock))


class _Clock:
    """Time left of a stage, from the share that is done."""

    def __init__(self) -> None:
        self._stage, self._since = "", 0.0

    def left(self, status: Status) -> float | None:
        if status.stage != self._stage:
            self._stage, self._since = status.stage, time.monotonic()
        share = _share(status)
        return (time.monotonic() - self._since) * (1 - share) / share if share > 0.02 else None


class _Lines:
    """Progress for a log file or CI: one line when the stage changes, and every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console, self._clock = console, _Clock()
        self._stage, self._told, self._started = "", 0.0, time.monotonic()

    def __call__(self, status: Status) -> None:
        now = time.monotonic()
        done = status.done == status.total
        if status.stage == self._stage and now - self._told < _LINE_EVERY_S and not done:
            return
        if done and status.stage == self._stage and not self._told:
            return
        arms = "  ".join(_words(a) for a in _shown(status))
        self._console.print(f"{now - self._started:6.0f} s  {_title(status)}  {arms}", highlight=False, soft_wrap=True)
        self._stage, self._told = status.stage, 0.0 if done else now


def _shown(status: Status) -> list[ArmStatus]:
    """All arms where they fit on a screen, else those that are being trained."""
    if len(status.arms) <= _MOST_LINES:
        return list(status.arms)
    return [arm for arm in status.arms if arm.round and not arm.done][:_MOST_LINES]


def _share(status: Status) -> float:
    if status.arms:
        return sum(1.0 if a.done else a.round / (a.rounds + 1) for a in status.arms) / len(status.arms)
    return status.done / status.total if status.total else 0.0


def _title(status: Status) -> str:
    units = {
        "making hospitals": "images",
        "making the segmenter's hospitals": "images",
        "planning networks": "networks",
        "reading images": "cohorts",
    }
    unit = units.get(status.stage, "arms" if status.stage in ("training", "training the segmenter") else "steps")
    return f"{status.stage}: {status.done} of {status.total} {unit}"


def _words(arm: ArmStatus) -> str:
    auc = f"AUC {arm.auc:.3f}" if arm.auc is not None else f"Dice {arm.dice:.3f}" if arm.dice is not None else ""
    return f"[{arm.name} round {arm.round}/{arm.rounds} {auc}]".replace("[", "(").replace("]", ")")


def _picture(status: Status, seconds: float, clock: _Clock) -> Group:
    left = clock.left(status)
    clocks = f"{seconds:4.0f} s" + (f", about {left:.0f} s left" if left is not None and left >= 1 else "")
    line = Table.grid(padding=(0, 2))
    line.add_row(Text(_title(status), style="bold"), ProgressBar(total=1.0, completed=_share(status), width=30), clocks)
    if not status.arms:
        return Group(line)
    shown = _shown(status)
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for heading, right in (
        ("arm", False),
        ("seed", True),
        ("round", True),
        ("central loss", True),
        ("central Dice" if any(arm.dice is not None for arm in status.arms) else "central AUC", True),
    ):
        table.add_column(heading, justify="right" if right else "left")
    for arm in shown:
        loss, auc = (f"{v:.3f}" if v is not None else "" for v in (arm.loss, arm.dice if arm.auc is None else arm.auc))
        name = Text(arm.name, style="green" if arm.done else "")
        table.add_row(name, str(arm.seed), f"{arm.round}/{arm.rounds}", loss, auc)
    return Group(line, table)
