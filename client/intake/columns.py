"""The part of a proposed mapping.toml that explains the table: columns, units, words, dates, with a reason for each.

A column is proposed where its header is a known name and no other one is. A unit is proposed where the header says it
and the numbers agree, or where the numbers leave no other. Everything else is written as a comment: a person takes away
the # of the line that is right.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.intake.headers import Header, Match, fold, match
from client.intake.people import is_binary, measured
from client.mapping import DateOrder, study_columns
from sarco_models.cells import word_reader
from sarco_models.config import Feature, StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.label_rules import device_code
from sarco_models.numerals import number
from sarco_models.sheets import Sheet
from sarco_models.units import Conversion, canonical, conversion, units_of
from sarco_models.words import day_first, missing, plain

MOST_WORDS = 12
"""Different texts in a column that are listed for a person to explain; more are no words."""

_FITTING = 0.9  # share of the numbers inside the study's limits, for a unit to be possible
_FEWEST = 5  # numbers, for them to say anything of a unit
_MALE_NAMES = frozenset(map(fold, ("male", "是否男性", "männlich", "male sex")))


@dataclass(frozen=True)
class Found:
    """A table beside the study.

    Attributes:
        sheet: the table.
        study: what is asked for.
        matches: what the table has for each column of the study, and for the id and the dates.
    """

    sheet: Sheet
    study: StudyConfig
    matches: Mapping[str, Match]

    def texts(self, header: str) -> list[str]:
        """Cells of a column that are not empty and do not say missing."""
        return [cells[header] for _, cells in self.sheet.rows if not missing(cells[header])]


def find(sheet: Sheet, study: StudyConfig) -> Found:
    """Lay the headers of a table beside the study."""
    wanted = ("participant_id", *study_columns(study), "birth_date", "exam_date")
    return Found(sheet, study, match(wanted, sheet.header))


def recognised(found: Found) -> int:
    """Columns of the study that the table has for sure; the table of participants has the most."""
    return sum(bool(found.matches[name].sure) for name in ("participant_id", *study_columns(found.study)))


def column_lines(found: Found) -> Iterator[str]:
    """The tables ``[columns.*]`` of a mapping, one for each column of the study."""
    features = {f.name: f for f in found.study.features}
    for name, unit in study_columns(found.study).items():
        feature = features.get(name)
        yield ""
        yield f"[columns.{name}]" + _about(name, unit, feature, found.study)
        yield from _column(name, unit, feature, found)


def date_order(found: Found) -> DateOrder:
    """How the dates of the table are written: "day first", "month first", "" where it cannot be told."""
    headers = [h.text for name in ("birth_date", "exam_date") for h in found.matches[name].sure]
    told = day_first(text for header in headers for text in found.texts(header))
    return "" if told is None else "day first" if told else "month first"


def quoted(text: str) -> str:
    """A TOML string: JSON's, but for one character that TOML does not allow."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _about(name: str, unit: str, feature: Feature | None, study: StudyConfig) -> str:
    if name == study.label.column:
        return f"  # the label by {study.label.rule}: 1 or 0"
    if feature is None:
        return f"  # defines the label{', ' + unit if unit else ''}: for checking, never an input"
    if feature.kind == "continuous":
        return f"  # {unit + ', ' if unit else ''}plausible from {feature.low:g} to {feature.high:g}"
    return "  # 1 or 0" if feature.kind == "binary" else f"  # {', '.join(feature.categories)}"


def _column(name: str, unit: str, feature: Feature | None, found: Found) -> Iterator[str]:
    matched = found.matches[name]
    if len(matched.sure) != 1:
        yield from _undecided(matched)
        yield from _derivable(name, found)
        return
    header = matched.sure[0]
    yield f"column = {quoted(header.text)}"
    if unit:
        yield from _unit(name, unit, feature, header, found)
    else:
        yield from _words(name, feature, header, found)


def _undecided(matched: Match) -> Iterator[str]:
    candidates = matched.sure or matched.candidates
    if not candidates:
        yield '# column = ""  # nothing like it was found in the table'
        return
    yield f"# {'several columns have its name' if matched.sure else 'not sure'}; take away the # of the right line:"
    yield from (f"# column = {quoted(header.text)}" for header in candidates)


def _derivable(name: str, found: Found) -> Iterator[str]:
    """Suggestions for what can be computed; a person says that it may."""
    parts = [measured(part, found.study) for part in ("height", "weight")]
    if name.startswith("bmi") and all(part and found.matches[part].sure for part in parts):
        yield f'# derive = "bmi"  # from {parts[0]} and {parts[1]}'
    dates = [found.matches[date].sure for date in ("birth_date", "exam_date")]
    if name.startswith("age") and all(dates):
        yield '# derive = "age"  # completed years between two columns:'
        yield f"# dates = [{', '.join(quoted(sure[0].text) for sure in dates)}]"


# ---- units -----------------------------------------------------------------------------------------------------------


def _unit(name: str, unit: str, feature: Feature | None, header: Header, found: Found) -> Iterator[str]:
    values = numbers(found, header.text)
    fitting = [other for other in _units(name, unit, header) if _fits(values, name, other, unit, feature)]
    says = _line(name, header.unit, unit) if header.unit else None
    if says and (_fits(values, name, header.unit, unit, feature) or len(values) < _FEWEST):
        turned = "" if header.unit == canonical(unit) else f"; converted to {unit}"
        yield f"unit = {quoted(header.unit)}  # as in the header{turned}"
        return
    if not header.unit and fitting == [_spelled(unit)] and len(values) >= _FEWEST:
        yield f"unit = {quoted(unit)}  # not in the header; the numbers fit no other unit"
        return
    why = "the header says a unit that the numbers do not fit" if header.unit else "the header says no unit"
    yield f"# {why}; take away the # of the right line:"
    for other in fitting or _units(name, unit, header):
        yield f"# unit = {quoted(other)}{_median(values, name, other, unit)}"


def _units(name: str, unit: str, header: Header) -> list[str]:
    """Units that the column could be in, the study's first; of those that mean the same only one."""
    known = [_spelled(unit), *([header.unit] if header.unit else []), *units_of(name)]
    lines = {other: _line(name, other, unit) for other in dict.fromkeys(known)}
    return [o for k, (o, line) in enumerate(lines.items()) if line and line not in list(lines.values())[:k]]


def _spelled(unit: str) -> str:
    return canonical(unit) or unit


def _line(name: str, source: str, target: str) -> Conversion | None:
    try:
        return conversion(name, source, target)
    except ConfigError:
        return None


def _fits(values: NDArray[np.float64], name: str, source: str, target: str, feature: Feature | None) -> bool:
    """Whether the numbers, read in this unit, lie inside the study's limits; true where it has none."""
    if feature is None or not values.size:
        return True
    turned = conversion(name, source, target)(values)
    return float(((turned >= feature.low) & (turned <= feature.high)).mean()) >= _FITTING


def _median(values: NDArray[np.float64], name: str, source: str, target: str) -> str:
    if not values.size:
        return ""
    middle = float(np.median(values))
    turned = "" if source == _spelled(target) else f" would be {conversion(name, source, target)(middle):.3g} {target}"
    return f"  # the median {middle:.3g}{turned}"


def numbers(found: Found, header: str) -> NDArray[np.float64]:
    """Numbers of a column; what is none is left out."""
    decimal = found.sheet.decimal_of(header)
    values = (_number(text, decimal) for text in found.texts(header))
    return np.array([value for value in values if not math.isnan(value)], dtype=np.float64)


def _number(text: str, decimal: str) -> float:
    try:
        return number(text, decimal)
    except ValueError:
        return math.nan


# ---- words -----------------------------------------------------------------------------------------------------------


def _words(name: str, feature: Feature | None, header: Header, found: Found) -> Iterator[str]:
    texts = found.texts(header.text)
    different = sorted(set(texts), key=lambda text: (-texts.count(text), text))
    if name == "male" and set(different) <= {"0", "1"} and header.names & _MALE_NAMES:
        yield 'words = { "0" = 0, "1" = 1 }'
        return
    unknown = _unknown(name, feature, different, found.study)
    if not unknown:
        return
    if len(unknown) > MOST_WORDS:
        yield f"# {len(unknown)} different texts are not understood: is it the right column?"
        return
    meaning = quoted(" or ".join(feature.categories if feature and feature.categories else ("1", "0")))
    yield "# not understood; say what each means, and take away the #:"
    yield f"# words = {{ {', '.join(f'{quoted(text)} = {meaning}' for text in unknown)} }}"


def _unknown(name: str, feature: Feature | None, texts: Sequence[str], study: StudyConfig) -> list[str]:
    if is_binary(name, study):
        meaning = word_reader(name, list(texts))
        return [text for text in texts if meaning(text) is None]
    if feature is None:
        return [text for text in texts if math.isnan(device_code(text)) and math.isnan(_number(text, "."))]
    return [text for text in texts if plain(text) not in set(map(plain, feature.categories))]


def listed(headers: Iterable[str], width: int = 116) -> Iterator[str]:
    """Headers as comment lines."""
    line = "#"
    for header in headers:
        word = f" {quoted(header)}"
        if len(line) + len(word) > width and line != "#":
            yield line
            line = "#"
        line += word
    yield line
