"""The mapping.toml that the first run proposes: what could be told from the table and the paths, and the reasons.

It is written once, as text with a comment for every line that a person may want to change, and read back as any other
mapping: nothing is known to ingest that the file does not say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any, Self

from client.intake.columns import Found, column_lines, date_order, find, listed, quoted, recognised
from client.intake.headers import match
from client.intake.muscle_labels import described, labels_below, path_words, proposed
from client.intake.people import TABLE
from client.intake.survey import Survey
from client.intake.ways import Ways, find_ways
from client.mapping import FrameChoice, IdRules, ImageListColumns, ImageRules, MaskRules, TableRules
from sarco_models.config import Config, StudyConfig
from sarco_models.errors import ConfigError, DataError, Finding
from sarco_models.sheets import Sheet, read_sheet

_CONVINCING = 3  # columns of the study in a table of participants
_WIDTH = 110
_MOST_WAYS = 6  # that are shown
_CALIBRATION_COLUMNS = {"image", "x0", "y0", "x1", "y1"}


@dataclass(frozen=True)
class Asked:
    """What the person who starts ingest says on the command line; it shapes the proposal alone.

    Attributes:
        table: which table has the participants; None = look for it.
        sheet: of a workbook; None = the only one.
        frames: of a cine.
    """

    table: Path | None = None
    sheet: str | None = None
    frames: FrameChoice = "middle"

    @classmethod
    def of(cls, table: Path | None, sheet: str | None, frames: str | None) -> Self:
        """From the words of a command line. Raises ConfigError for frames that mean nothing."""
        if frames is None:
            return cls(table, sheet)
        if frames in ("first", "middle", "each") or frames.isdecimal():
            return cls(table, sheet, int(frames) if frames.isdecimal() else frames)  # type: ignore[arg-type]
        raise ConfigError(f"frames = {frames!r}: say first, middle, each, or a number from 0")


@dataclass(frozen=True)
class Tables:
    """The tables below the source folder, by what they are for.

    Attributes:
        people: the table of participants, None without one.
        file: its path, as the mapping writes it.
        sheet: its name in a workbook, "" = the only one.
        images: the list of images: path and headers.
        calibration: path of a calibration.csv, "" without one.
    """

    people: Found | None = None
    file: str = ""
    sheet: str = ""
    images: tuple[str, ImageListColumns] | None = None
    calibration: str = ""


def propose(source: Path, found: Survey, study: StudyConfig, asked: Asked) -> str:
    """The text of a mapping for this folder and this study.

    Raises:
        DataError: the table that was asked for, or the only one there is, cannot be read.
    """
    tables = _tables(source, found, study, asked)
    ways = find_ways(source, found, tables.people) if tables.people else Ways()
    lines = [
        _HEAD,
        f"# Study: {study.title}",
        *_table(tables),
        *_participants(tables, ways),
        *_images(tables, ways, asked, _muscle_words(found, study)),
        *_masks(source, found, study),
    ]
    if tables.people:
        lines += ["", "# Columns of the table:", *listed(tables.people.sheet.header), *column_lines(tables.people)]
    return "\n".join([*lines, _TEMPLATES])


# ---- text ------------------------------------------------------------------------------------------------------------


_HEAD = """\
# What this hospital's table and files mean for the study. Proposed by `sarco-site ingest`: correct it, and run the same
# command again. What stands here counts, and nothing else is guessed. Delete the file to have it proposed anew.
# It names your columns and folders: it stays in the hospital."""

_TEMPLATES = """
# Where the tissue is on a device's screen, for files that do not say it; one [[templates]] for each device and size:
# [[templates]]
# device = "Example U1"
# files = "*.jpg"               # compared from the right with the path
# columns = 1024                # of the whole picture
# rows = 768
# region = [120, 64, 904, 712]  # x0, y0, x1, y1; the last two are the first outside
# mm_per_pixel = [0.07, 0.07]   # row, column; leave it out where the depth changes
"""


def _section(
    name: str, rules: Config, notes: Mapping[str, Sequence[str]] | None = None, without: Iterable[str] = ()
) -> Iterator[str]:
    """A table of the file: each key under what it means, and what was found about it."""
    yield from ("", f"[{name}]")
    for key, about in type(rules).model_fields.items():
        value = getattr(rules, key)
        if isinstance(value, Config) or key in without:
            continue
        if about.description:
            yield from wrap(f"{key}: {about.description}", _WIDTH, initial_indent="# ", subsequent_indent="#   ")
        yield from ((notes or {}).get(key, ()))
        yield f"{key} = {toml(value)}"


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        line = f"[{', '.join(map(toml, value))}]"
        return line if len(line) <= _WIDTH else f"[\n  {f',{chr(10)}  '.join(map(toml, value))},\n]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{quoted(key)} = {toml(inner)}' for key, inner in value.items())} }}" if value else "{}"
    return str(value)


def _table(tables: Tables) -> Iterator[str]:
    rules = TableRules(file=tables.file, sheet=tables.sheet)
    dates = date_order(tables.people) if tables.people else rules.dates
    yield from _section("table", rules.model_copy(update={"dates": dates}))


def _participants(tables: Tables, ways: Ways) -> Iterator[str]:
    notes: list[str] = []
    if not ways.column and tables.people:
        matched = tables.people.matches["participant_id"]
        notes = [f"#   perhaps {quoted(header.text)}" for header in matched.sure or matched.candidates]
    yield from _section("participants", IdRules(column=ways.column, loose=ways.loose), {"column": notes})


def _images(tables: Tables, ways: Ways, asked: Asked, muscle_words: Mapping[str, str] | None) -> Iterator[str]:
    """A list of images comes first: somebody wrote it for the purpose."""
    notes = [f"#   {toml(way)} by itself finds the person of {share:.0%} of the images" for way, share in ways.shares]
    rules: dict[str, Any] = {"id": ways.chosen, "frames": asked.frames, "calibration": tables.calibration}
    if tables.images:
        path, columns = tables.images
        rules |= {"id": ("list", *ways.chosen), "list_file": path, "list_columns": columns}
    if muscle_words is not None:
        rules["muscle_words"] = dict(muscle_words)
    images = ImageRules(**rules)
    yield from _section("images", images, {"id": notes[:_MOST_WAYS]})
    without = () if muscle_words is not None else ("annotated",)
    yield from _section("images.list_columns", images.list_columns, without=without)


def _muscle_words(found: Survey, study: StudyConfig) -> dict[str, str] | None:
    """Of a study of muscles: its own words, and those of other languages that paths hold."""
    return path_words(study.segmentation, [*found.images, *found.masks]) if study.segmentation else None


def _masks(source: Path, found: Survey, study: StudyConfig) -> Iterator[str]:
    """In a study of muscles with the labels of all masks, each with the muscle that it is."""
    if study.segmentation is None:
        yield from _section("masks", MaskRules(), without=("annotated", "muscles"))
        return
    yield from _section("masks", MaskRules(), without=("labels", "muscles"))
    labels, unreadable = labels_below(source, found.masks)
    yield from proposed(labels, unreadable, described(source, found.label_names), study.segmentation)


# ---- tables ----------------------------------------------------------------------------------------------------------


def _tables(source: Path, found: Survey, study: StudyConfig, asked: Asked) -> Tables:
    """Read every table once; the one with the most columns of the study is that of the participants."""
    faults: list[DataError] = []
    sheets: dict[str, Sheet] = {}
    paths = [_relative(asked.table, source)] if asked.table else list(found.tables)
    for path in paths:
        try:
            sheets[path] = read_sheet(source / path, sheet=asked.sheet)
        except DataError as fault:
            faults.append(fault)
    people = {path: find(sheet, study) for path, sheet in sheets.items() if not _is_calibration(sheet)}
    ranks = {path: recognised(table) for path, table in people.items()}
    if len(ranks) > 1:  # a list of images names people, too, but is no table of them
        ranks = {path: rank for path, rank in ranks.items() if not _list_columns(sheets[path])} or ranks
    best = max(ranks, key=lambda path: ranks[path], default="")
    if sum(rank == ranks[best] for rank in ranks.values()) > 1:
        raise _several(list(ranks.values()).count(ranks[best]))
    if faults and (not best or recognised(people[best]) < _CONVINCING):
        raise faults[0]  # the table that is meant is perhaps the one that cannot be read
    if not best:
        return Tables()
    others = {path: sheet for path, sheet in sheets.items() if path != best}
    if asked.table:
        others = _readable(source, [path for path in found.tables if path != best])
    calibration = next((path for path, sheet in others.items() if _is_calibration(sheet)), "")
    lists = ((path, _list_columns(sheet)) for path, sheet in others.items() if path != calibration)
    images = next(((path, columns) for path, columns in lists if columns), None)
    return Tables(people[best], best, asked.sheet or "", images, calibration)


def _several(count: int) -> DataError:
    seen, remedy = f"{count} tables with as many columns of the study", "name the one that is meant with --table"
    return DataError([Finding("error", "table", TABLE, seen, "one table of participants", remedy)])


def _readable(source: Path, paths: Iterable[str]) -> dict[str, Sheet]:
    sheets = {}
    for path in paths:
        try:
            sheets[path] = read_sheet(source / path)
        except DataError:
            continue
    return sheets


def _relative(table: Path, source: Path) -> str:
    """As the mapping writes it: below the source folder, or absolute."""
    if (source / table).exists() and not table.is_absolute():
        return table.as_posix()
    absolute = table.resolve()
    inside = absolute.is_relative_to(source.resolve())
    return (absolute.relative_to(source.resolve()) if inside else absolute).as_posix()


def _is_calibration(sheet: Sheet) -> bool:
    return set(sheet.header) >= _CALIBRATION_COLUMNS


def _list_columns(sheet: Sheet) -> ImageListColumns | None:
    """The columns of a list of images, None where a table is none."""
    fields = {"image": "image", "id": "participant_id", "muscle": "muscle", "side": "side", "mask": "mask",
              "frame": "frame", "exam_date": "exam_date", "annotated": "annotated"}  # fmt: skip
    matches = match(fields.values(), sheet.header)
    sure = {name: matches[known].sure[0].text for name, known in fields.items() if len(matches[known].sure) == 1}
    return ImageListColumns(**sure) if {"image", "id"} <= set(sure) else None
