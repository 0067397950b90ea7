"""What a hospital calls the muscles in its masks, and which of the study's each is.

The first run looks into every mask, counts the labels, and proposes a muscle for those that are a name of one: the
study's, ITK-SNAP's in a file of label descriptions, or one of ``muscle_names.toml``. A person decides about the others.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from client.intake.columns import quoted
from client.intake.headers import fold
from client.intake.path_words import word_in
from client.mapping import MUSCLE_WORDS, MaskRules
from sarco_models.drawn import UNCLEAR
from sarco_models.errors import MaskError
from sarco_models.label_words import muscle_called
from sarco_models.masks import mask_labels
from sarco_models.segmentation import SegmentationConfig

NAMES = Path(__file__).with_name("muscle_names.toml")
_DESCRIPTION = re.compile(r'^\s*(\d+)(?:\s+\d+){3}\s+[\d.]+\s+[01]\s+[01]\s+"(.*)"\s*$')
_SMALL = 100_000  # bytes of a file of label descriptions


@dataclass(frozen=True)
class FoundLabel:
    """A label of a hospital's masks.

    Attributes:
        name: as its tool shows it: a word, a number or a colour.
        masks: that hold it.
        alone: masks that hold nothing else.
    """

    name: str
    masks: int
    alone: int

    @property
    def is_word(self) -> bool:
        """No number and no colour: it means something by itself."""
        return is_word(self.name)


def is_word(label: str) -> bool:
    """Whether a label is neither a number nor a colour."""
    return not (label.isdecimal() or label.startswith("#"))


def counted(files: Iterable[Sequence[str]]) -> tuple[FoundLabel, ...]:
    """Labels of masks, the most frequent first."""
    there = list(files)
    masks = Counter(name for names in there for name in names)
    alone = Counter(names[0] for names in there if len(names) == 1)
    order = sorted(masks, key=lambda name: (-masks[name], name))
    return tuple(FoundLabel(name, masks[name], alone[name]) for name in order)


def labels_below(source: Path, masks: Iterable[str]) -> tuple[tuple[FoundLabel, ...], int]:
    """Labels of all masks below a folder, and how many masks cannot be read."""
    found: list[Sequence[str]] = []
    unreadable = 0
    for path in masks:
        try:
            found.append(mask_labels(source / path))
        except MaskError:
            unreadable += 1
    return counted(found), unreadable


def described(source: Path, files: Iterable[str]) -> dict[str, str]:
    """Names of numbers in ITK-SNAP's files of label descriptions; a number with two names is left out."""
    names: dict[str, set[str]] = {}
    for path in files:
        for number, name in descriptions_in(source / path):
            names.setdefault(number, set()).add(name)
    return {number: found.pop() for number, found in names.items() if len(found) == 1 and number != "0"}


def descriptions_in(path: Path) -> tuple[tuple[str, str], ...]:
    """Number and name of each line that ITK-SNAP has written; nothing of any other file."""
    try:
        if path.stat().st_size > _SMALL:
            return ()
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    said = [line for line in lines if line.strip() and not line.startswith("#")]
    found = [match for line in said if (match := _DESCRIPTION.match(line))]
    return tuple((match[1], match[2]) for match in found) if said and len(found) == len(said) else ()


# ---- meanings --------------------------------------------------------------------------------------------------------


def muscle_of(text: str, segmentation: SegmentationConfig) -> str:
    """Name of the study's muscle that a text means in any of our languages; "" where it means none, or two."""
    own = muscle_called(text, segmentation)
    if own or not text:
        return own or ""
    plain = fold(word_without_side(text))
    found = {muscle for muscle, names in _study_names(segmentation).items() if plain in names}
    return found.pop() if len(found) == 1 else ""


def names_another(text: str, own: str, segmentation: SegmentationConfig) -> bool:
    """Whether a text is a name, in any of our languages, of another muscle, whether the study has it or not."""
    if not is_word(text):
        return False
    found, plain = muscle_of(text, segmentation), fold(word_without_side(text))
    return (
        found != own if found else any(plain in {fold(entry), *map(fold, names)} for entry, names in _names().items())
    )


def word_without_side(text: str) -> str:
    """A label without the words for left and right."""
    sides = {
        "left",
        "right",
        "links",
        "rechts",
        "li",
        "re",
        "gauche",
        "droite",
        "izquierdo",
        "derecho",
        "l",
        "r",
        "lt",
        "rt",
    }
    words = re.split(r"[\W_]+", re.sub("[左右]|왼쪽|오른쪽", " ", text))
    kept = [word for word in words if word and word.casefold() not in sides]
    return " ".join(kept) if kept else text


def path_words(segmentation: SegmentationConfig, texts: Iterable[str]) -> dict[str, str]:
    """Word -> muscle, for the study's own words and for those of our languages that these texts hold."""
    own = {
        text: muscle.name
        for muscle in segmentation.muscles
        for text in (muscle.name.replace("_", " "), *muscle.labels)
        if len(text) > 1 and is_word(text)
    }
    held = list(texts)
    others = {
        word: muscle
        for muscle, words in _study_words(segmentation).items()
        for word in words
        if word not in own and len(word) > 1 and any(word_in(text, {word: muscle}) for text in held)
    }
    known = {word: name for word, usual in MUSCLE_WORDS.items() if (name := segmentation.find(usual))}
    return known | own | others


@cache
def _names() -> dict[str, tuple[str, ...]]:
    """Muscle -> its names in all languages, from ``muscle_names.toml``."""
    tree = tomllib.loads(NAMES.read_text(encoding="utf-8"))
    return {muscle: tuple(n for names in page.values() for n in names) for muscle, page in tree.items()}


def _study_words(segmentation: SegmentationConfig) -> dict[str, tuple[str, ...]]:
    """For each muscle of the study the names of the entry that it belongs to."""
    found: dict[str, tuple[str, ...]] = {}
    for muscle in segmentation.muscles:
        own = {fold(text) for text in (muscle.name, *muscle.labels) if is_word(text)}
        fits = [names for entry, names in _names().items() if own & {fold(entry), *map(fold, names)}]
        found[muscle.name] = fits[0] if len(fits) == 1 else ()
    return found


def _study_names(segmentation: SegmentationConfig) -> dict[str, frozenset[str]]:
    return {muscle: frozenset(map(fold, words)) for muscle, words in _study_words(segmentation).items()}


# ---- the mapping -----------------------------------------------------------------------------------------------------


def resolved(labels: Sequence[str], own: str, rules: MaskRules, segmentation: SegmentationConfig) -> dict[str, str]:
    """What each label of one mask is: a muscle, UNCLEAR, "" = nothing that matters; absent = nobody has said it.

    Args:
        labels: of the file.
        own: the study's muscle that the file, or else its image, is of; "" = not known.
        rules: of the mapping; what they say comes first. A single label that is no muscle's name is then the file's
            own muscle.
        segmentation: the study's own names come last.
    """
    if rules.label:
        wanted = rules.muscles.get(rules.label, own) or muscle_called(rules.label, segmentation) or ""
        return {name: "" for name in labels} | ({rules.label: wanted} if wanted else {})
    found: dict[str, str] = {}
    for name in labels:
        known = muscle_called(name, segmentation)
        if name in rules.muscles:
            said = rules.muscles[name]
            found[name] = said if said in ("", UNCLEAR) else segmentation.find(said) or ""
        elif len(labels) == 1 and own and (not is_word(name) or known is None):
            if not names_another(name, own, segmentation):
                found[name] = own
        elif known:
            found[name] = known
    return found


def proposed(
    found: Sequence[FoundLabel], unreadable: int, names: Mapping[str, str], segmentation: SegmentationConfig
) -> Iterator[str]:
    """The table ``masks.muscles`` of a mapping, with what was found.

    Args:
        found: labels of all masks.
        unreadable: masks that could not be read.
        names: what ITK-SNAP's label descriptions call a number.
        segmentation: the study's muscles.
    """
    yield from ("", "[masks.muscles]")
    yield '# Which muscle of the study each label of your masks is. "unclear": nobody knows what is there, and nothing'
    yield '#   is learned of it. "": it does not matter. A mask with a label that is neither here nor a name of the'
    yield "#   study is left out until you have said what it is; alone in its mask it is the image's muscle, unless it"
    yield "#   is a name of another one."
    yield f"# Muscles of the study: {', '.join(segmentation.names)}"
    if unreadable:
        yield f"# {unreadable} mask{'s' if unreadable > 1 else ''} could not be read"
    for label in found:
        yield _line(label, names.get(label.name, ""), segmentation)


def _line(label: FoundLabel, called: str, segmentation: SegmentationConfig) -> str:
    count = f"in {label.masks} mask{'s' if label.masks > 1 else ''}"
    if called:
        count += f"; ITK-SNAP's label descriptions call it {quoted(called)}"
    muscle = muscle_of(called, segmentation) if called else muscle_of(label.name, segmentation)
    if not muscle and names_another(called or label.name, "", segmentation):
        # What a label description says is said; a word may still be meant otherwise.
        return f'{"" if called else "# "}{quoted(label.name)} = ""  # {count}: a muscle that the study does not ask for'
    if label.alone == label.masks and not called and not (label.is_word and muscle):
        return f"# {quoted(label.name)}: {count}, alone in each: taken for the muscle that the image is of"
    if not muscle:
        return f'# {quoted(label.name)} = ""  # {count}: take the first # away, and say which muscle it is'
    return f"{quoted(label.name)} = {quoted(muscle)}  # {count}"
