"""One cell of participants.csv against its feature, and what may be said of a cell that is wrong.

A cell may hold anything, a name too. So a finding shows only numbers of a few digits and words that this project knows;
of every other text it says what it looks like.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from sarco_models import words
from sarco_models.config import Feature
from sarco_models.numerals import censored, number

Reader = Callable[[str], int | None]

_SHOWN_BELOW = 1e5  # a telephone number, a date of birth and an identity card have more digits
_SHOWN_CHARACTERS = 10
_CODES_FOR_MISSING = (-1, -9, -99, -999, 9, 99, 999, 9999)
_CORRECT = "correct it, or leave the cell empty"
_CONVERT = "convert the column to this unit, correct the value, or leave the cell empty"
_CODED = "leave the cell empty if this stands for a missing value; otherwise correct it"
_LIMIT = "decide with the study what such a value counts as: write that number, or leave the cell empty"
_DAY = "a date"
_NOT_A_DAY = (
    "Excel makes days of numbers such as 3.5: format the column as text, enter it again, or leave the cell empty"
)
_UNCLEAR = "write it without separators for thousands"


class Fault(NamedTuple):
    """Why a cell cannot be read: fields of ``errors.Finding``."""

    rule: str
    seen: str
    expected: str
    remedy: str


def described(text: str) -> str:
    """A cell's text where it can be nobody's: short numbers and known words; of all else only what it looks like."""
    if not text:
        return "empty"
    if _known(text) or censored(text):
        return repr(text) if len(text) <= _SHOWN_CHARACTERS else "a limit of the assay"
    if words.date(text, day_first=True) or words.date(text, day_first=False):
        return _DAY
    try:
        small = abs(number(text, ",")) < _SHOWN_BELOW
    except ValueError:
        return f"text of {len(text)} characters" if len(text) > 1 else "text of 1 character"
    if small:
        return repr(text) if len(text) <= _SHOWN_CHARACTERS else "a number of many decimals"
    return f"a number of {sum(map(str.isdigit, text))} digits"


def _known(text: str) -> bool:
    return words.yes_no(text) is not None or words.male(text) is not None or words.missing(text)


def word_reader(name: str, cells: list[str]) -> Reader:
    """How words of a yes/no column become 1 and 0; columns called male or female hold words for the sexes.

    Args:
        name: of the feature.
        cells: the whole column, for single letters explain each other.
    """
    if name not in ("male", "female"):
        return words.yes_no
    male = words.sexes(cells)
    if name == "male":
        return male
    return lambda text: None if (sex := male(text)) is None else 1 - sex


def read_cell(text: str, feature: Feature, decimal: str, word: Reader) -> tuple[list[float], Fault | None]:
    """Values of one cell (one, or one per category; NaN where there is none), and what is wrong with it.

    Args:
        text: of the cell, stripped.
        feature: of the study.
        decimal: see :func:`numerals.number`.
        word: what a word of a yes/no column means.
    """
    if not text:
        return [math.nan] * (len(feature.categories) or 1), None
    if feature.kind == "categorical":
        return _category(text, feature)
    value, fault = _zero_one(text, decimal, word) if feature.kind == "binary" else _measured(text, feature, decimal)
    return [value], fault


def read_label(text: str, decimal: str) -> tuple[int, Fault | None]:
    """1, 0, or -1 where the label cannot be read."""
    value, fault = _zero_one(text, decimal, words.yes_no)
    if fault or math.isnan(value):
        return -1, Fault("label", described(text), "0 or 1", "correct it, or remove the participant")
    return int(value), None


def _category(text: str, feature: Feature) -> tuple[list[float], Fault | None]:
    plain = words.plain(text)
    given = [words.plain(category) == plain for category in feature.categories]
    if any(given):
        return [float(same) for same in given], None
    missing = [math.nan] * len(given)
    if words.missing(text):
        return missing, None
    return missing, Fault("range", described(text), f"one of {', '.join(feature.categories)}", _CORRECT)


def _zero_one(text: str, decimal: str, word: Reader) -> tuple[float, Fault | None]:
    told = word(text)
    if told is not None:
        return float(told), None
    try:
        value = number(text, decimal)
    except ValueError:
        if words.missing(text):
            return math.nan, None
        return math.nan, Fault("range", described(text), "0 or 1, or a word for them", _CORRECT)
    if value in (0.0, 1.0):
        return value, None
    return math.nan, Fault("range", described(text), "0 or 1", _CORRECT)


def _measured(text: str, feature: Feature, decimal: str) -> tuple[float, Fault | None]:
    try:
        value = number(text, decimal)
    except ValueError as error:
        return _no_number(text, str(error))
    if feature.low <= value <= feature.high:
        return value, None
    limits = f"{feature.low:g} to {feature.high:g} {feature.unit}".rstrip()
    remedy = _CODED if value in _CODES_FOR_MISSING else _CONVERT
    return math.nan, Fault("range", described(text), limits, remedy)


def _no_number(text: str, why: str) -> tuple[float, Fault | None]:
    if words.missing(text):
        return math.nan, None
    if censored(text):
        return math.nan, Fault("censored", described(text), "a number", _LIMIT)
    if "two ways" in why:
        return math.nan, Fault("decimal", f"{described(text)}, which could be read two ways", "a number", _UNCLEAR)
    seen = described(text)
    return math.nan, Fault("range", seen, "a number", _NOT_A_DAY if seen == _DAY else _CORRECT)
