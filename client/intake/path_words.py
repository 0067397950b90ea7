"""What a path says: an id in the place of a pattern, and words for a muscle or a side."""

import posixpath
import re
import unicodedata
from collections.abc import Mapping

from client.intake.survey import pattern
from client.mapping import ImageRules

_BETWEEN_WORDS = re.compile(r"[\W_]+")


def id_key(text: str, *, loose: bool) -> str:
    """Two ids with one key are one person's.

    Args:
        text: as written.
        loose: case, blanks, leading zeros and a spreadsheet's ".0" do not count.
    """
    key = unicodedata.normalize("NFKC", text).strip()
    if not loose:
        return key
    key = re.sub(r"\.0$", "", re.sub(r"\s+", "", key.casefold()))
    return key.lstrip("0") or key[-1:]


def said_by(way: str, path: str) -> dict[str, str]:
    """What stands in the places of a pattern: ``id``, perhaps ``muscle`` and ``side``; {} where it does not fit."""
    found = pattern(way).fullmatch(path)
    return found.groupdict() if found else {}


def said_by_path(path: str, rules: ImageRules) -> dict[str, str]:
    """The same for the first pattern of the mapping that fits."""
    return next((said for way in rules.patterns if (said := said_by(way, path))), {})


def word_in(path: str, words: Mapping[str, str]) -> str:
    """What the words in a path mean; "" where there are none, or of several meanings."""
    plain = unicodedata.normalize("NFKC", path).casefold()
    spaced = _spaced(plain)
    # Languages without blanks between words are searched everywhere.
    found = {
        meaning
        for word, meaning in words.items()
        if (_spaced(word.casefold()) in spaced if word.isascii() else word.casefold() in plain)
    }
    return found.pop() if len(found) == 1 else ""


def _spaced(text: str) -> str:
    return f" {_BETWEEN_WORDS.sub(' ', text).strip()} "


def muscle_in(path: str, words: Mapping[str, str]) -> str:
    """The muscle that the name of a file says, or else its folder; "" = neither."""
    parent = posixpath.basename(posixpath.dirname(path))
    return word_in(posixpath.basename(path), words) or word_in(parent, words)
