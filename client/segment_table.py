"""What ``sarco-site segment`` has done, as a table and in words."""

import csv
import io
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

from client.segment_journal import Record, Row


@dataclass(frozen=True)
class Done:
    """What a command has done.

    Attributes:
        records: of all images in the folder, earlier ones too, by name.
        kept: images that had been done before, and were left.
        asked: names of the images that the command was given.
        model: digest of the model.
        synthetic: the model was trained on computer-made people.
    """

    records: Mapping[str, Record]
    kept: int
    asked: tuple[str, ...]
    model: str
    synthetic: bool

    @property
    def failed(self) -> tuple[Record, ...]:
        """Of the images that the command was given, those that have no result."""
        return tuple(self.records[name] for name in self.asked if self.records[name].fault)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All lines of measures.csv, by image."""
        return tuple(row for name in sorted(self.records) for row in self.records[name].rows)


def table(done: Done) -> str:
    """measures.csv."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f.name for f in fields(Row)] + ["model"])
    for row in done.rows:
        cells = [_cell(value) for value in astuple(row)]
        writer.writerow([*cells, done.records[row.image].model[:12]])
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "; ".join(value) if isinstance(value, tuple) else str(value if value is not None else "")


def summary(done: Done) -> tuple[str, ...]:
    """What was done, for the terminal."""
    rows = [row for name in done.asked for row in done.records[name].rows if row.muscle]
    accepted = sum(row.accepted for row in rows)
    empty = sum(not any(row.muscle for row in done.records[n].rows) for n in done.asked) - len(done.failed)
    doubtful = len(rows) - accepted
    found = f"{_counted(len(done.asked), 'image')}: {_counted(len(rows), 'muscle')} found"
    lines = [f"{found}, {accepted} accepted, {doubtful} to be looked at"]
    if empty:
        lines.append(f"{empty} without a muscle")
    if done.kept:
        lines.append(f"{done.kept} had been done before")
    lines += [f"not done: {record.image}: {record.fault}" for record in done.failed]
    return tuple(lines)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
