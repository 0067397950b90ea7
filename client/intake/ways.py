"""Ways from an image to its person, tried on the paths and headers of the source: which one finds the most people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.intake.columns import Found
from client.intake.dicom_header import read_header
from client.intake.path_words import id_key, said_by
from client.intake.survey import Survey

ENOUGH = 0.05
"""Share of the images whose person a way must find beyond the ways before it, to be proposed."""

_AGREEING = 0.98  # of the people whom a way finds in images that had a person before
_SAMPLE = 400  # images whose paths and headers are tried
_DEEPEST = 6  # folders


@dataclass(frozen=True)
class Ways:
    """How to find the person of an image.

    Attributes:
        column: of the table, with the ids; "" where it cannot be told.
        chosen: patterns of the path, or "dicom", in the order in which they are tried.
        loose: case, blanks and leading zeros of ids do not count.
        shares: of the images whose person each way finds by itself, the best first.
    """

    column: str = ""
    chosen: tuple[str, ...] = ()
    loose: bool = False
    shares: tuple[tuple[str, float], ...] = ()

    @property
    def reach(self) -> float:
        """Share of the images whose person the best way finds."""
        return self.shares[0][1] if self.shares else 0.0


def find_ways(source: Path, found: Survey, people: Found) -> Ways:
    """The table's column of ids, and the ways from an image to one of them.

    Of several columns that could hold the ids it is the one that the images know.
    """
    columns = [header.text for header in people.matches["participant_id"].sure]
    paths = found.images[:: max(1, len(found.images) // _SAMPLE)]
    texts = {way: {path: said_by(way, path).get("id", "") for path in paths} for way in _patterns(paths)}
    texts["dicom"] = {path: header.person for path in paths if (header := read_header(source / path))}
    tried = [_tried(column, people.texts(column), texts, len(paths)) for column in columns]
    known = tried if len(tried) == 1 else [ways for ways in tried if ways.reach]
    best = max(known, key=lambda ways: ways.reach, default=Ways())
    return best if len(known) == 1 or sum(ways.reach == best.reach for ways in known) == 1 else Ways()


def _tried(column: str, ids: Sequence[str], texts: Mapping[str, Mapping[str, str]], total: int) -> Ways:
    """All ways with the ids of one column, strictly; loosely only where that finds more people."""
    strict, loose = (_chosen(column, ids, texts, total, loose=loose) for loose in (False, True))
    return loose if loose.reach > strict.reach else strict


def _chosen(
    column: str, ids: Sequence[str], texts: Mapping[str, Mapping[str, str]], total: int, *, loose: bool
) -> Ways:
    """Ways that find the most people, one after the other, as long as they add some and contradict none before."""
    known = {id_key(id_, loose=loose) for id_ in ids}
    hits = {way: _hits(said, known, loose=loose) for way, said in texts.items()}
    order = sorted((way for way in hits if hits[way]), key=lambda way: -len(hits[way]))
    owner: dict[str, str] = {}
    chosen = []
    while order and total:
        way = max(order, key=lambda way: len(hits[way].keys() - owner.keys()))
        added = len(hits[way].keys() - owner.keys())
        order.remove(way)
        if added < ENOUGH * total:
            break
        if _agrees(hits[way], owner):
            chosen.append(way)
            owner = {**hits[way], **owner}
    best = sorted(((way, len(found) / total) for way, found in hits.items() if found), key=lambda pair: -pair[1])
    return Ways(column, tuple(chosen), loose, tuple(best))


def _hits(said: Mapping[str, str], known: set[str], *, loose: bool) -> dict[str, str]:
    """Path -> key of the person, for images whose text is an id of the table."""
    keys = {path: id_key(text, loose=loose) for path, text in said.items() if text}
    return {path: key for path, key in keys.items() if key in known}


def _agrees(found: Mapping[str, str], owner: Mapping[str, str]) -> bool:
    both = [path for path in found if path in owner]
    return sum(found[path] == owner[path] for path in both) >= _AGREEING * len(both)


def _patterns(paths: Sequence[str]) -> list[str]:
    """Patterns worth trying: a folder, the file's name, or a part of one of them between separators."""
    depth = min(max((path.count("/") for path in paths), default=0), _DEEPEST)
    places = [("*/" * k, "/**") for k in range(depth)]
    texts = [f"{before}{{id}}{after}" for before, after in places] + ["**/{id}.*", "**/{id}"]
    for separator in "_-. ":
        parts = (f"{{id}}{separator}*", f"*{separator}{{id}}", f"*{separator}{{id}}{separator}*")
        texts += [f"{before}{part}{after}" for before, after in places for part in parts]
        texts += [f"**/{{id}}{separator}*", f"**/*{separator}{{id}}.*", f"**/*{separator}{{id}}{separator}*"]
    return list(dict.fromkeys(texts))
