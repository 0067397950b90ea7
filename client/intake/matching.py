"""Whose image a file is, and which mask was drawn on it.

An id comes from the path, from the DICOM header or from a table that lists the images, as the mapping says. A mask
belongs to the image after which it is named; of several with one name, to the nearest in the folders. Where two are
equally near, nothing is matched: a wrong mask is worse than none.
"""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from client.intake.path_words import muscle_in, said_by_path, word_in
from client.intake.survey import Survey
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
        annotated: muscles that were looked for, as written.
    """

    id: str = ""
    muscle: str = ""
    side: str = ""
    mask: str = ""
    frame: str = ""
    exam_date: str = ""
    annotated: str = ""


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
        parts: path and muscle of each mask, for an image with one mask for each muscle; ``mask`` is the first.
    """

    key: str
    path: str
    person: str
    mask: str = ""
    listed: Listed = Listed()
    muscle: str = ""
    side: str = ""
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Matching:
    """What belongs together, and what is left over; paths below SOURCE.

    Attributes:
        images: with a person.
        without_person: images.
        without_image: masks.
        of_another: masks that are named after one image and say themselves that they were drawn on another.
        twice: masks that lie beside others of the same name, in another format: which of them counts is not clear.
    """

    images: tuple[Owned, ...]
    without_person: tuple[str, ...]
    without_image: tuple[str, ...]
    of_another: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()


def match(  # noqa: PLR0913 - the last is an option by name
    found: Survey,
    person_of: Callable[[str], str],
    rules: tuple[ImageRules, MaskRules],
    listed: ImageList,
    folder: Path,
    *,
    by_muscle: bool = False,
) -> Matching:
    """Lay images, people and masks together.

    Args:
        found: images and masks below SOURCE.
        person_of: the table's id of an image's person, "" where there is none.
        rules: of the mapping.
        listed: what the list of images says, by path.
        folder: SOURCE; LabelMe files say in themselves which image they were drawn on.
        by_muscle: an image may have a mask for each muscle, named after both.
    """
    for_images, for_masks = rules
    people = {path: person_of(path) for path in found.images}
    masks = set(found.masks)
    mask_of = {path: said.mask for path, rows in listed.items() for said in rows if said.mask in masks}
    free = [path for path in found.images if path not in mask_of]
    ids = {path: said_by_path(path, for_images).get("id") or people[path] for path in free}
    named = named_masks(free, sorted(masks - set(mask_of.values())), for_masks.names, ids)
    of_another = _of_another(named, found.images, folder)
    masks -= set(of_another)
    mask_of |= {path: mask for path, mask in named.items() if mask in masks}
    free = [path for path in free if path not in mask_of]
    mask_of |= _drawn_on(free, sorted(masks - set(mask_of.values())), folder, ids)
    parts_of: dict[str, tuple[tuple[str, str], ...]] = {}
    if by_muscle:
        free = [path for path in free if path not in mask_of]
        parts_of = muscle_masks(free, sorted(masks - set(mask_of.values())), rules, folder, ids)
        mask_of |= {path: parts[0][0] for path, parts in parts_of.items()}
    owned = tuple(
        replace(image, parts=parts_of.get(path, ()))
        for path, person in people.items()
        if person
        for image in _owned(path, person, mask_of.get(path, ""), listed.get(path, ()), for_images)
    )
    used = {*mask_of.values(), *(image.mask for image in owned), *(p for ps in parts_of.values() for p, _ in ps)}
    left = [m for m in found.masks if m not in used and m in masks]
    beside = _formats_beside(left)
    twice = tuple(m for m in left if beside(m) > 1)
    without_image = tuple(m for m in left if m not in twice)
    return Matching(owned, tuple(p for p, person in people.items() if not person), without_image, of_another, twice)


def _owned(path: str, person: str, mask: str, listed: Sequence[Listed], rules: ImageRules) -> Iterator[Owned]:
    """The image or, where the list has several rows for it, each of them: a frame with a mask of its own."""
    said = said_by_path(path, rules)
    muscle = word_in(said.get("muscle", "") or path, rules.muscle_words)
    side = word_in(said.get("side", "") or path, rules.side_words)
    for row in listed or (Listed(),):
        own = (path, mask) if len(listed) < 2 else (f"{path}{FRAME_OF}{row.frame}", row.mask)
        yield Owned(own[0], path, person, own[1], row, muscle, side)


def muscle_of_image(owned: Owned, rules: ImageRules) -> str:
    """The muscle by list, path or default, as a word of the mapping: no other is ever written. "" = not said."""
    listed = owned.listed.muscle
    known = listed if listed in rules.muscle_words.values() else word_in(listed, rules.muscle_words)
    return known or owned.muscle or rules.muscle


def with_muscle(owned: Owned, rules: ImageRules) -> Owned:
    """With the muscle that the name of its one mask says, where nothing else does."""
    if owned.muscle or not owned.mask or len(owned.parts) > 1:
        return owned
    return replace(owned, muscle=muscle_in(owned.mask, rules.muscle_words))


# ---- masks -----------------------------------------------------------------------------------------------------------


def named_masks(
    images: Sequence[str],
    masks: Iterable[str],
    names: Sequence[str],
    ids: Mapping[str, str],
    without: Sequence[str] = (),
) -> dict[str, str]:
    """Image -> mask, for masks that are named after an image, these words left out; each mask has one image."""
    stems = {mask: _stem(mask, without) for mask in masks}
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


def muscle_masks(
    images: Sequence[str],
    masks: Sequence[str],
    rules: tuple[ImageRules, MaskRules],
    folder: Path,
    ids: Mapping[str, str],
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Image -> path and muscle of its masks; each is named after the image, and its name or folder says the muscle."""
    words, names = rules[0].muscle_words, rules[1].names
    found: dict[str, list[tuple[str, str]]] = {}
    muscle_of = {mask: muscle_in(mask, words) for mask in masks}
    for muscle in sorted(set(muscle_of.values()) - {""}):
        own = [mask for mask in masks if muscle_of[mask] == muscle]
        called = [word for word, meaning in words.items() if meaning == muscle]
        pairs = named_masks(images, own, names, ids, called)
        left = [mask for mask in own if mask not in pairs.values()]
        pairs |= _drawn_on([path for path in images if path not in pairs], left, folder, ids)
        for path, mask in pairs.items():
            found.setdefault(path, []).append((mask, muscle))
    return {path: tuple(parts) for path, parts in found.items()}


def _stem(mask: str, without: Sequence[str] = ()) -> str:
    """The name of a mask without its suffix, and without these words between separators."""
    stem = _MASK_SUFFIX.sub("", posixpath.basename(mask)).casefold()
    for word in sorted(map(str.casefold, without), key=len, reverse=True):
        parts = r"[\W_]+".join(map(re.escape, _BETWEEN_WORDS.split(word)))
        ends = (r"(?<![^\W_])", r"(?![^\W_])") if word.isascii() else ("", "")
        stem = re.sub(rf"{ends[0]}{parts}{ends[1]}", "", stem)
    return re.sub(r"([\W_])[\W_]+", r"\1", stem).strip("_-. ") if without else stem


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


def _drawn_on(images: Sequence[str], masks: Collection[str], folder: Path, ids: Mapping[str, str]) -> dict[str, str]:
    """Image -> mask, for LabelMe files by the image that they name; of none that lies beside another format."""
    by_name: dict[str, list[str]] = {}
    for path in images:
        by_name.setdefault(posixpath.basename(path).casefold(), []).append(path)
    beside = _formats_beside(masks)
    pairs: dict[str, list[str]] = {}
    for mask in masks:
        if mask.casefold().endswith(".json") and beside(mask) < 2:
            for path in by_name.get(_image_name(folder / mask).casefold(), ()):
                pairs.setdefault(path, []).append(mask)
    return _nearest(pairs, ids)


def _formats_beside(masks: Iterable[str]) -> Callable[[str], int]:
    """How many masks have the same place and name, in whatever format."""
    count = Counter(_MASK_SUFFIX.sub("", mask).casefold() for mask in masks)
    return lambda mask: count[_MASK_SUFFIX.sub("", mask).casefold()]


def _of_another(named: Mapping[str, str], images: Iterable[str], folder: Path) -> tuple[str, ...]:
    """LabelMe files named after one image that name another one of the source: a wrong mask is worse than none."""
    stems = {_SUFFIX.sub("", posixpath.basename(path)).casefold() for path in images}
    found = []
    for path, mask in named.items():
        said = _SUFFIX.sub("", _image_name(folder / mask)).casefold() if mask.casefold().endswith(".json") else ""
        if said in stems and said != _SUFFIX.sub("", posixpath.basename(path)).casefold():
            found.append(mask)
    return tuple(found)


def _image_name(path: Path) -> str:
    try:
        named = json.loads(path.read_text(encoding="utf-8-sig")).get("imagePath")
    except (OSError, ValueError, AttributeError):
        return ""
    return str(named or "").replace("\\", "/").rsplit("/", maxsplit=1)[-1]
