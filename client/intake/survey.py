"""What lies in the folder that a hospital hands over: every file below it, by kind. Nothing is opened but to read.

A file is judged by its first bytes, never by its suffix, but for masks, whose readers go by it. What programs and
operating systems leave behind (DICOMDIR, Thumbs.db, hidden files) is counted and passed over.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["image", "mask", "table", "left behind", "not understood", "not readable", "label names"]

_LEFT_BEHIND = {
    "dicomdir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "lockfile", "__macosx", "@eadir", "#recycle",
    "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip
TISSUE = ".tissue.png"
"""Of a picture that ``sarco-site segment`` puts beside the outlines of a DICOM file, to draw on."""

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha", ".gipl", ".gipl.gz")
_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_LARGEST_JSON = 100_000_000  # bytes; LabelMe keeps the image inside
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*", b"BM")
_BARE_DICOM = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # PS3.10 7.1 without its preamble
_ITK_SNAP = b"################################################\n# ITK-SnAP Label Description File"
_LABEL_NAMES = re.compile(rb'\d+(\s+\d+){3}\s+[\d.]+\s+[01]\s+[01]\s+"')  # ITK-SNAP's label descriptions
_DIRECTORY = b"1.2.840.10008.1.3.10"  # media storage directory, under whatever name


@dataclass(frozen=True)
class Survey:
    """Paths below the folder, with slashes, in an order that people expect (2 before 10)."""

    images: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()
    not_readable: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


def survey(folder: Path, masks: Sequence[str] = (), skip: Sequence[str] = ()) -> Survey:
    """Every file below a folder.

    Args:
        folder: is not changed; links to folders are not followed.
        masks: patterns of pictures that are masks.
        skip: patterns of files that are passed over as if they were not there.
    """
    is_mask, is_skipped = patterns(masks), patterns(skip)
    closed: list[OSError] = []
    found: dict[Kind, list[str]] = {}
    for path in sorted(_files(folder, closed), key=_by_number):
        if is_skipped(path):
            continue
        kind = _kind(folder / path)
        found.setdefault("mask" if kind == "image" and is_mask(path) else kind, []).append(path)
    found.setdefault("not readable", []).extend(Path(e.filename).relative_to(folder).as_posix() for e in closed)
    return Survey(*(tuple(found.get(kind, ())) for kind in _KINDS))


_KINDS: tuple[Kind, ...] = (
    "image", "mask", "table", "left behind", "not understood", "not readable", "label names",
)  # fmt: skip


def _files(folder: Path, closed: list[OSError]) -> Iterator[str]:
    """Paths below the folder; whole folders that a program left behind count as one. ``closed`` gets the others."""
    for root, folders, names in os.walk(folder, onerror=closed.append):
        here = Path(root).relative_to(folder)
        left = [name for name in folders if _is_left_behind(name)]
        folders[:] = [name for name in folders if name not in left]
        yield from ((here / name).as_posix() for name in [*left, *names])


def _is_left_behind(name: str) -> bool:
    return name.startswith((".", "~$")) or name.casefold() in _LEFT_BEHIND


def _by_number(path: str) -> list[Any]:
    """Sorting key: digits count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path) if part]


def _kind(path: Path) -> Kind:
    if _is_left_behind(path.name):
        return "left behind"
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return "not readable"
    return _by_name(path, head) or _by_content(head)


def _by_name(path: Path, head: bytes) -> Kind | None:
    name = path.name.casefold()
    if name.endswith(TISSUE) and path.with_name(path.name[: -len(TISSUE)] + ".json").is_file():
        return "left behind"
    if name.endswith((".txt", ".label")) and (_LABEL_NAMES.match(head.lstrip()) or head.startswith(_ITK_SNAP)):
        return "label names"
    if name.endswith(_VOLUMES):
        return "mask"
    if name.endswith(".json"):
        return "mask" if _is_labelme(path) else "not understood"
    return "table" if name.endswith(_TABLES) else None


def _by_content(head: bytes) -> Kind:
    if _DIRECTORY in head:
        return "left behind"
    is_dicom = head[128:132] == b"DICM" or head[:2] in _BARE_DICOM
    return "image" if is_dicom or head.startswith(_PICTURES) else "not understood"


def _is_labelme(path: Path) -> bool:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            return False
        page = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(page, dict) and "shapes" in page


def patterns(texts: Sequence[str]) -> Callable[[str], bool]:
    """A test whether a path is one of these patterns; case does not matter."""
    compiled = [pattern(text) for text in texts]
    return lambda path: any(p.fullmatch(path) for p in compiled)


_PARTS = re.compile(r"(\*\*/|\*\*|\*|\{[a-z]+\})")


@lru_cache(maxsize=1024)
def pattern(text: str) -> re.Pattern[str]:
    """A pattern of paths: ``*`` ends at a slash, ``**`` does not, ``{id}`` is the shortest text that fits."""
    return re.compile("".join(map(_expression, _PARTS.split(text))), re.IGNORECASE)


def _expression(part: str) -> str:
    if part.startswith("{"):
        return f"(?P<{part[1:-1]}>[^/]+?)"
    return {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*"}.get(part, re.escape(part))
