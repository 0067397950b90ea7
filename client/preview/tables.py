"""What a table of a preview is, and how numbers are written in it."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """Cells of a line; ``stays`` sets it apart."""

    cells: tuple[Any, ...]
    stays: bool = False


@dataclass(frozen=True)
class Table:
    """Headings with their kind, and lines."""

    head: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    kind: str = ""


def size(num_bytes: float) -> str:
    """Bytes in the unit that a person would choose (powers of 1000)."""
    for unit in ("bytes", "kB", "MB"):
        if abs(num_bytes) < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def epsilon_words(value: float) -> str:
    """An epsilon; without limit is said in a word."""
    return "unlimited" if math.isinf(value) else f"{value:.2f}"


def sentence(words: str) -> str:
    """With a capital and a full stop."""
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")
