"""Numbers as people write them: decimal comma or point, groups of thousands, full-width digits, limits of an assay.

"66,5" and "66.5" are read alike, for neither can be anything else. "1,234" is a thousand and more, or little more than
one: it is read only where the column or the file proves which sign stands before decimals, and refused otherwise.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NUMBER = re.compile(r"([+-]?)(\d[\d.,'’ ]*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
_GROUPED = re.compile(r"([1-9]\d{0,2}([ '’.,])\d{3}(?:\2\d{3})*)(?:([.,])(\d*))?", re.ASCII)
_SIMPLE = re.compile(r"\d+\.?|\d*([.,])\d+", re.ASCII)
_TWO_WAYS = re.compile(r"[1-9]\d{0,2}([.,])\d{3}", re.ASCII)
_TWO_WAYS_WITH = {  # the decimal sign that is known -> numbers with the other one
    sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}{others}\d{{3}}", re.ASCII)
    for sign, others in {".": ",", ",": r"\.", "": "[.,]"}.items()
}
_LIMIT_SIGNS = "<>≤≥＜＞﹤﹥"
_CENSORED = re.compile(r"[<>≤≥]\s*=?\s*\d[\d.,]*", re.ASCII)
_OTHER = {",": ".", ".": ","}


def number(text: str, decimal: str = ".") -> float:
    """The number that a cell holds.

    Args:
        text: of a cell.
        decimal: what stands before decimals where the text alone does not tell ("1,234"); "" = unknown.

    Raises:
        ValueError: no number, not finite, or one that could be read two ways.
    """
    if decimal == "." and _PLAIN.fullmatch(text):
        return _finite(text)
    match = _NUMBER.fullmatch(_plain(text))
    if not match:
        raise ValueError("no number")
    sign, body, exponent = match.groups()
    two_ways = _TWO_WAYS.fullmatch(body)
    if two_ways and two_ways[1] != decimal:
        raise ValueError("could be read two ways")
    grouped = None if two_ways else _GROUPED.fullmatch(body)
    if grouped and grouped[2] != grouped[3]:
        body = re.sub(r"\D", "", grouped[1]) + f".{grouped[4] or 0}"
    elif not _SIMPLE.fullmatch(body):
        raise ValueError("no number")
    return _finite(f"{sign}{body.replace(',', '.')}{exponent or ''}")


def censored(text: str) -> bool:
    """Whether a cell holds a limit of the assay, such as <0.1 or > 100, and not a value."""
    return text[:1] in _LIMIT_SIGNS and bool(_CENSORED.fullmatch(_plain(text)))


def decimal_signs(columns: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, str]]:
    """The sign before decimals of a file, and of the columns that have another; "" = it cannot be told.

    Args:
        columns: the cells of every column.
    """
    distinct = {column: set(cells) for column, cells in columns.items()}  # values repeat
    if not any("," in cell and _NUMBER.fullmatch(_plain(cell)) for cells in distinct.values() for cell in cells):
        return ".", {}
    proofs, doubts = {}, {}
    for column, cells in distinct.items():
        bodies = [match[2] for cell in cells if (match := _NUMBER.fullmatch(_plain(cell)))]
        proofs[column] = {sign for body in bodies if (sign := _proof(body))}
        doubts[column] = {match[1] for body in bodies if (match := _TWO_WAYS.fullmatch(body))}
    told = set().union(*proofs.values())
    decimal = "," if told == {","} else "."
    signs = {}
    for column, proof in proofs.items():
        if len(proof) == 1:
            signs[column] = next(iter(proof))
        elif proof or (doubts[column] and (doubts[column] != {decimal} or told != {decimal})):
            signs[column] = ""
    return decimal, {column: sign for column, sign in signs.items() if sign != decimal}


def two_ways(cells: Sequence[str], decimal: str) -> list[int]:
    """Positions of the cells that :func:`number` refuses because they could be read two ways."""
    other = _TWO_WAYS_WITH[decimal]
    doubted = {cell for cell in set(cells) if other.fullmatch(_plain(cell))}
    return [k for k, cell in enumerate(cells) if cell in doubted] if doubted else []


def _plain(text: str) -> str:
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFKC", text).strip().replace("−", "-")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("not finite")
    return value


def _proof(body: str) -> str:
    """The decimal sign that a number proves; "" when it proves none."""
    if _TWO_WAYS.fullmatch(body):
        return ""
    grouped = _GROUPED.fullmatch(body)
    if grouped and grouped[2] != grouped[3]:
        return grouped[3] or _OTHER.get(grouped[2], "")
    simple = _SIMPLE.fullmatch(body)
    return (simple[1] or "") if simple else ""
