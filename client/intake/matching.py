"""Whose image a file is, and which mask was drawn on it.

An id comes from the path, from the DICOM header or from a table that lists the images, as the mapping says. A mask
belongs to the image after which it is named; of several with one name, to the nearest in the folders. Where two are
equally near, nothing is matched: a wrong mask is worse than none.
"""

import json
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.intake.survey import Survey, pattern
from client.mapping import ImageRules, MaskRules

_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")  # a DICOM file may be called 1.2.840.7
_MASK_SUFFIX = re.compile(r"(\.nii\.gz|\.gipl\.gz|\.[^.]+)$", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[\W_]+")
FRAME_OF = "\0"
"""Between a path and a frame: no path holds it."""

_SAME_FOLDER, _NAMED = 2000, 1000  # nearer than any number of shared folder names


@dataclass(frozen=True)
class Listed:
    """What a table that lists the images says of one.

    Attributes:
        id: of the person, as written.
        muscle: as written, "" when it is not said.
        side: as written.
        mask: path below SOURCE.
        frame: of a cine, counted from 0.
        exam_date: as written.
    """

    id: str = ""
    muscle: str = ""
    side: str = ""
    mask: str = ""
    frame: str = ""
    exam_date: str = ""


ImageList = Mapping[str, tuple[Listed, ...]]
"""Rows of a list of images, by path below SOURCE; several for a cine of which several frames are listed."""


@dataclass(frozen=True)
class Owned:
    """An image whose person is known; paths are below SOURCE.

    Attributes:
        key: the path or, where the list names several frames of one file, the path and the frame.
        path: of the image.
        person: id as the table of participants writes it.
        mask: path, "" without one.
        listed: what the list of images says, empty where there is none.
        muscle: "" = not said by the path.
        side: "left", "right", "" = not said by the path.
    """

    key: str
    path: str
    person: str
    mask: str = ""
    listed: Listed = Listed()
    muscle: str = ""
    side: str = ""


@dataclass(frozen=True)
class Matching:
    """What belongs together, and what is left over; paths below SOURCE."""

    images: tuple[Owned, ...]
    without_person: tuple[str, ...]
    without_image: tuple[str, ...]


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


def match(
    found: Survey,
    person_of: Callable[[str], str],
    rules: tuple[ImageRules, MaskRules],
    listed: ImageList,
    folder: Path,
) -> Matching:
    """Lay images, people and masks together.

    Args:
        found: images and masks below SOURCE.
        person_of: the table's id of an image's person, "" where there is none.
        rules: of the mapping.
        listed: what the list of images says, by path.
        folder: SOURCE; LabelMe files say in themselves which image they were drawn on.
    """
    for_images, for_masks = rules
    people = {path: person_of(path) for path in found.images}
    masks = set(found.masks)
    mask_of = {path: said.mask for path, rows in listed.items() for said in rows if said.mask in masks}
    free = [path for path in found.images if path not in mask_of]
    ids = {path: said_by_path(path, for_images).get("id") or people[path] for path in free}
    mask_of |= named_masks(free, sorted(masks - set(mask_of.values())), for_masks.names, ids)
    free = [path for path in free if path not in mask_of]
    mask_of |= _drawn_on(free, sorted(masks - set(mask_of.values())), folder, ids)
    owned = tuple(
        image
        for path, person in people.items()
        if person
        for image in _owned(path, person, mask_of.get(path, ""), listed.get(path, ()), for_images)
    )
    used = {*mask_of.values(), *(image.mask for image in owned)}
    return Matching(
        owned, tuple(p for p, person in people.items() if not person), tuple(m for m in found.masks if m not in used)
    )


def _owned(path: str, person: str, mask: str, listed: Sequence[Listed], rules: ImageRules) -> Iterator[Owned]:
    """The image or, where the list has several rows for it, each of them: a frame with a mask of its own."""
    said = said_by_path(path, rules)
    muscle = word_in(said.get("muscle", "") or path, rules.muscle_words)
    side = word_in(said.get("side", "") or path, rules.side_words)
    for row in listed or (Listed(),):
        own = (path, mask) if len(listed) < 2 else (f"{path}{FRAME_OF}{row.frame}", row.mask)
        yield Owned(own[0], path, person, own[1], row, muscle, side)


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


# ---- masks -----------------------------------------------------------------------------------------------------------


def named_masks(
    images: Sequence[str], masks: Iterable[str], names: Sequence[str], ids: Mapping[str, str]
) -> dict[str, str]:
    """Image -> mask, for masks that are named after an image; each mask has one image."""
    stems = {mask: _MASK_SUFFIX.sub("", posixpath.basename(mask)).casefold() for mask in masks}
    exact, loose = _by_stem(stems), _by_stem({mask: _without_zeros(stem) for mask, stem in stems.items()})
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        pairs: dict[str, list[str]] = {}
        for path in (path for path in images if path not in found):
            wanted = _filled(name, path, ids.get(path, ""))
            there = loose.get(_without_zeros(wanted), ()) if "{id}" in name else exact.get(wanted, ())
            pairs[path] = [mask for mask in there if mask not in taken]
        chosen = _nearest(pairs, ids)
        found |= chosen
        taken |= set(chosen.values())
    return found


def _by_stem(stems: Mapping[str, str]) -> dict[str, list[str]]:
    by_stem: dict[str, list[str]] = {}
    for mask, stem in stems.items():
        by_stem.setdefault(stem, []).append(mask)
    return by_stem


def _without_zeros(stem: str) -> str:
    """Spreadsheets take the leading zeros off an id, file names keep them."""
    return re.sub(r"(?<![^\W_])0+(?=\d)", "", stem)


def _filled(name: str, path: str, id_: str) -> str:
    folder, file = posixpath.split(path)
    if "{id}" in name and not id_:
        return "\0"  # the name of no file
    stem = _SUFFIX.sub("", file)
    return name.format(stem=stem, name=file, id=id_, folder=posixpath.basename(folder)).casefold()


def _nearest(pairs: Mapping[str, Sequence[str]], ids: Mapping[str, str]) -> dict[str, str]:
    """Pairs in which each is the other's one nearest."""
    near = [(_nearness(path, mask, ids.get(path, "")), path, mask) for path, masks in pairs.items() for mask in masks]
    of_image = _one_nearest((here, path, mask) for here, path, mask in near)
    of_mask = _one_nearest((here, mask, path) for here, path, mask in near)
    return {path: mask for path, mask in of_image.items() if of_mask.get(mask) == path}


def _one_nearest(near: Iterable[tuple[int, str, str]]) -> dict[str, str]:
    """For each of the first the nearest of the second, where no other is as near."""
    best: dict[str, tuple[int, str]] = {}
    for here, one, other in near:
        nearest, _ = best.get(one, (-1, ""))
        if here >= nearest:
            best[one] = (here, other if here > nearest else "")
    return {one: other for one, (_, other) in best.items() if other}


def _nearness(path: str, mask: str, id_: str) -> int:
    """In one folder; else with the person's id in the mask's path; else with most folder names in common."""
    here, there = posixpath.dirname(path), posixpath.dirname(mask)
    if here == there:
        return _SAME_FOLDER
    named = _NAMED if id_ and id_.casefold() in _words(mask) else 0
    return named + len(_folders(here) & _folders(there))


@lru_cache(maxsize=65536)
def _words(path: str) -> frozenset[str]:
    return frozenset(_BETWEEN_WORDS.split(path.casefold()))


@lru_cache(maxsize=65536)
def _folders(path: str) -> frozenset[str]:
    return frozenset(path.casefold().split("/")) - {""}


def _drawn_on(images: Sequence[str], masks: Iterable[str], folder: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """Image -> mask, for LabelMe files by the image that they name."""
    by_name: dict[str, list[str]] = {}
    for path in images:
        by_name.setdefault(posixpath.basename(path).casefold(), []).append(path)
    pairs: dict[str, list[str]] = {}
    for mask in masks:
        if mask.casefold().endswith(".json"):
            for path in by_name.get(_image_name(folder / mask).casefold(), ()):
                pairs.setdefault(path, []).append(mask)
    return _nearest(pairs, ids)


def _image_name(path: Path) -> str:
    try:
        named = json.loads(path.read_text(encoding="utf-8-sig")).get("imagePath")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(named or "").replace("\\", "/").rsplit("/", maxsplit=1)[-1]
