"""Which column of a hospital's table is which of the study's: by its header, in many languages.

A header belongs to a field where it, or a part of it in brackets, is a known name of that field (``synonyms.toml``).
Whatever only resembles a name is a candidate, and a person decides.
"""

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sarco_models.units import canonical, name_and_unit

SYNONYMS = Path(__file__).with_name("synonyms.toml")

_BRACKETS = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|【([^【】]*)】|\{([^{}]*)\}")
_GLUED = re.compile(r"(.*[^\x00-\x7fμ])([\x21-\x7eμ]+)")  # 白蛋白g/L
_CLOSING = ")]】"
_SEPARATORS = " ,;:_-/" + _CLOSING
_IN = re.compile(r"\s+(in|en|em)$", re.IGNORECASE)  # Größe in cm
_LIKE = 0.85  # difflib's ratio: a letter more or less in a word of seven
_SHORT = 3  # shorter Latin names are found alone only: "op" is in many words


@dataclass(frozen=True)
class Header:
    """One header, taken apart.

    Attributes:
        text: as in the table.
        names: folded texts that may be the name of a field.
        unit: canonical, "" where none is written.
        written: the unit as written, "" where there is none or it is not known.
    """

    text: str
    names: frozenset[str]
    unit: str = ""
    written: str = ""


@dataclass(frozen=True)
class Match:
    """What the table has for one field.

    Attributes:
        sure: headers that are a name of the field; the right one when there is only one.
        candidates: headers that resemble one.
    """

    sure: tuple[Header, ...] = ()
    candidates: tuple[Header, ...] = ()


@cache
def synonyms() -> dict[str, dict[str, tuple[str, ...]]]:
    """Field -> language -> names, from ``synonyms.toml``."""
    tree = tomllib.loads(SYNONYMS.read_text(encoding="utf-8"))
    return {field: {language: tuple(names) for language, names in page.items()} for field, page in tree.items()}


def fold(text: str) -> str:
    """Letters and digits only, without case, accents and width: two texts that mean one name."""
    plain = unicodedata.normalize("NFKD", text.replace("đ", "d").replace("ł", "l")).casefold()
    return unicodedata.normalize("NFC", "".join(c for c in plain if c.isalnum()))


def parse(text: str) -> Header:
    """Take a header apart: its names, and its unit in brackets or at its end."""
    plain = " ".join(unicodedata.normalize("NFKC", text).replace("µ", "μ").split())
    rest, written = _without_unit(plain)
    outside = _BRACKETS.sub(" ", rest)
    inside = ["".join(part for part in found if part) for found in _BRACKETS.findall(rest)]
    texts = [rest, outside, *inside, *re.split(r"[/|;,]", outside)]
    return Header(text, frozenset(fold(t) for t in texts) - {""}, canonical(written), written)


def _without_unit(text: str) -> tuple[str, str]:
    """The header without its unit, and the unit as written."""
    for found in reversed(list(_BRACKETS.finditer(text))):
        written = "".join(part for part in found.groups() if part).strip()
        if canonical(written):
            return text[: found.start()] + text[found.end() :], written
    for at, character in enumerate(text):
        tail = text[at + 1 :].strip()
        unit = next((form for form in (tail, tail.replace("_", "/")) if canonical(form)), "")
        if at and character in _SEPARATORS and unit:
            return _IN.sub("", text[:at] if character not in _CLOSING else text[: at + 1]), unit
    if (glued := _GLUED.fullmatch(text)) and canonical(glued[2]):
        return glued[1], glued[2]
    name, unit = name_and_unit(text.replace(" ", "_"))  # albumin_g_per_dl
    return (name, unit) if unit else (text, "")


def names_of(column: str) -> frozenset[str]:
    """Folded names of a column of the study: its own, and those of the field that its name begins with."""
    name, _ = name_and_unit(column)
    own = {fold(column), fold(name)}
    field = _field(name)
    return frozenset(own | _folded(field)) if field else frozenset(own)


def _field(name: str) -> str:
    """The longest field that a column's name begins with, or whose name it is in another spelling; "" if none."""
    known = [field for field in synonyms() if name == field or name.startswith(f"{field}_")]
    spelled = [field for field in synonyms() if fold(name) in _folded(field)]
    return max(known or spelled, key=len, default="")


@cache
def _folded(field: str) -> frozenset[str]:
    return frozenset(fold(name) for names in synonyms()[field].values() for name in names) | {fold(field)}


def match(columns: Iterable[str], headers: Sequence[str]) -> dict[str, Match]:
    """What the table has for each column of the study, or for a field of ``synonyms.toml``.

    A header that is sure for one column is no candidate for another; one that names two (TC/HDL) is sure for neither.
    """
    names = {column: names_of(column) for column in columns}
    named: dict[str, list[Header]] = {column: [] for column in names}
    free: list[Header] = []
    for header in map(parse, headers):
        hits = [column for column in names if header.names & names[column]]
        if len(hits) == 1:
            named[hits[0]].append(header)
        else:
            free.append(header)
    return {
        column: Match(tuple(named[column]), tuple(h for h in free if _resembles(h, names[column]))) for column in names
    }


def _resembles(header: Header, names: frozenset[str]) -> bool:
    """It or one of its words is a name, a name stands in it, or it is spelled nearly like one."""
    if header.names & names:
        return True
    words = {fold(word) for word in re.split(r"[\W_]+", header.text)}
    if any(len(word) >= _SHORT and word in names for word in words):
        return True
    whole = fold(header.text)
    if any(not name.isascii() and len(name) > 1 and name in whole for name in names):
        return True
    return any(difflib.get_close_matches(name, names, n=1, cutoff=_LIKE) for name in header.names if len(name) > _SHORT)
