"""What a person has drawn on one image, as classes of pixels: which muscle is where, and which were looked for.

A mask file holds one label or several, as words, numbers or colours; the study says which muscle each is. Pieces of one
muscle join, whatever their side. What is not clear is refused and never guessed: every fault of a file is an error of
its own, and all are told at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import Finding, MaskError, Severity
from sarco_models.frames import Frame
from sarco_models.label_words import listed, muscle_called, muscles_called, said_of_labels
from sarco_models.masks import LabelFile, open_labels
from sarco_models.segmentation import BACKGROUND, OUTSIDE, SegmentationConfig
from sarco_models.shared_pixels import Mask, overlapping

DRAWN_VERSION = 2
"""Raise it when the same file would give other classes, so that no stale cache is read."""

UNCLEAR = "unclear"
"""What a label may mean beside a muscle: nobody knows what it is, and nothing is learned or measured there."""

_DRAW = "draw it, or name in the column annotated of images.csv what was looked for and is not there"
_NAME_IT = "say in the column mask_label of images.csv which label is the muscle of the column muscle"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a person has drawn on one image.

    Attributes:
        classes: (height, width) of the frame: BACKGROUND, OUTSIDE where nothing may be learned or measured, or the
            number of a muscle; where the study asks for one, 1 is the muscle that the image is of.
        annotated: names of the muscles that were looked for on this image, whether or not they are there; where nobody
            has said it, those that are there.
        present: names of those that are there.
    """

    classes: NDArray[np.uint8]
    annotated: frozenset[str]
    present: frozenset[str]

    def number_of(self, name: str, segmentation: SegmentationConfig) -> int:
        """The class of a muscle in :attr:`classes`."""
        return 1 if segmentation.single else segmentation.names.index(name) + 1


def read_drawn(  # noqa: PLR0913 - a file, its frame, and what images.csv says of it
    path: Path,
    frame: Frame,
    segmentation: SegmentationConfig,
    *,
    muscle: str,
    label: str | Mapping[str, str],
    annotated: Collection[str],
    shown: Callable[[str], str] = str,
) -> tuple[Drawn, tuple[Finding, ...]]:
    """Classes of an image's pixels, and warnings and notes on the file.

    Args:
        path: any file that :func:`sarco_models.masks.read_mask` reads.
        frame: the image that it was drawn on.
        segmentation: the muscles, and the names of their labels.
        muscle: that the image is of, as the hospital calls it; "" = not said. A file with one label, whatever its name,
            is of this muscle.
        label: which label is that muscle; "" = the one that is called so. Or what each label is, as ``1 = biceps;
            2 = triceps; 3 = unclear; 4 =`` or by label: a muscle, :data:`UNCLEAR`, or nothing that matters.
        annotated: muscles that were looked for, as the hospital calls them; empty = not said.
        shown: how a finding may write a label or a name of the hospital's, which may be anything.

    Raises:
        MaskError: with all faults that leave the image out.
    """
    file = open_labels(path, frame)
    own = segmentation.find(muscle) if muscle else None
    reading = _Reading(path.name, segmentation, own, annotated, shown)
    said = label if isinstance(label, str) and "=" not in label else said_of_labels(label)
    named = reading.named(file.names, said)
    # Where nothing is drawn as an area, a line may be what somebody took for the outline.
    reading.of_outlines(file.faults(reading.wanted(named, said) if file.names else lambda _: True))
    masks = reading.masks(file, named)
    unclear = masks.pop(UNCLEAR, None)
    reading.check_present(masks)
    reading.stop()
    drawn = reading.drawn(masks, frame)
    if unclear is not None:
        drawn.classes[unclear] = OUTSIDE
    reading.stop()
    others = reading.others(file, said, named)
    return drawn, (*reading.findings, *beside(drawn, others, frame, segmentation, path.name))


def join_drawn(
    parts: Sequence[Drawn], frame: Frame, segmentation: SegmentationConfig
) -> tuple[Drawn, tuple[Finding, ...]]:
    """One drawing of several files of one image; where two of them overlap, the rules are those of one file.

    Raises:
        MaskError: two muscles overlap by more than their border.
    """
    reading = _Reading("", segmentation, None, (), str)
    masks: dict[str, Mask] = {}
    for part in parts:
        for name in sorted(part.present):
            mask = part.classes == part.number_of(name, segmentation)
            masks[name] = masks[name] | mask if name in masks else mask
    joined = reading.drawn(masks, frame)
    for part in parts:
        joined.classes[part.classes == OUTSIDE] = OUTSIDE
    reading.stop()
    annotated = frozenset[str]().union(*(part.annotated for part in parts))
    return replace(joined, annotated=annotated), tuple(reading.findings)


def beside(
    drawn: Drawn, others: Mapping[str, Mask], frame: Frame, segmentation: SegmentationConfig, file: str = ""
) -> tuple[Finding, ...]:
    """Warnings where the one muscle of a drawing lies over others that are not asked for: one of both is wrong."""
    own, found = next(iter(drawn.present), ""), list[Finding]()
    for name, mask in others.items() if own and segmentation.single else ():
        drawn_own = drawn.classes == 1
        both = drawn_own & mask
        seen, expected, thin = overlapping((own, name), both, min(int(drawn_own.sum()), int(mask.sum())), frame)
        if both.any() and not thin:
            remedy = f"draw where one ends and the other begins; until then {own} is taken as it is drawn"
            found.append(Finding("warning", "overlapping-muscles", file, seen, expected, remedy, field="mask"))
    return tuple(found)


class _Reading:
    """One file; what is wrong with it gathers in ``findings``."""

    def __init__(
        self,
        file: str,
        segmentation: SegmentationConfig,
        own: str | None,
        annotated: Collection[str],
        shown: Callable[[str], str],
    ) -> None:
        self.findings: list[Finding] = []
        self._shown, self._faulty = shown, set[str]()
        self._file, self._segmentation, self._own = file, segmentation, own
        self._one = segmentation.single
        self._in_file: set[str] = set()
        self._unknown: tuple[str, ...] = ()
        self._said, unknown = muscles_called(annotated, segmentation)
        for text in unknown:
            seen, remedy = f"{shown(text)}, which is no muscle of the study", "correct it, or remove it"
            self._add("warning", "annotated", seen, ", ".join(segmentation.names), remedy, "annotated")

    def of_outlines(self, faults: Sequence[Finding]) -> None:
        """Faults of single outlines, each of which names its label."""
        self._faulty |= {fault.field for fault in faults if fault.severity == "error"}
        self.findings += [replace(f, seen=f"label {self._shown(f.field)}, {f.seen}", field="mask") for f in faults]

    def stop(self) -> None:
        """Raise what leaves the image out, if there is anything."""
        errors = [f for f in self.findings if f.severity == "error"]
        if errors:
            raise MaskError(errors)

    def named(self, names: Sequence[str], label: str | dict[str, str]) -> dict[str, str]:
        """Label -> muscle, for the labels of the file that mean one."""
        if self._one and self._own is None:
            seen, remedy = "the muscle that the image is of is not known", "write it into the column muscle"
            self._add("error", "muscle-unknown", seen, " or ".join(self._segmentation.names), remedy, "muscle")
            return {}
        if isinstance(label, dict):
            return self._as_said(names, label)
        found = {name: m for name in names if (m := muscle_called(name, self._segmentation))}
        self._in_file = set(found.values())
        if label:
            return self._with_label(names, label, found)
        if len(names) == 1 and not found and self._own:
            return {names[0]: self._own}
        if self._one:
            found = {name: m for name, m in found.items() if m == self._own}
            if len(names) > 1 and not self._in_file:
                seen = listed(names, self._shown)
                self._add("error", "several-labels", seen, "one of them", _NAME_IT, "mask_label")
            return found
        self._check_unknown([name for name in names if name not in found], found)
        return found

    def _with_label(self, names: Sequence[str], label: str, found: dict[str, str]) -> dict[str, str]:
        """One label is the image's own muscle, because the hospital says so."""
        muscle = self._own or muscle_called(label, self._segmentation)
        if label not in names and names:
            seen = listed(names, self._shown)
            self._add(
                "error", "label", seen, f"label {self._shown(label)}", "correct the label, or draw it", "mask_label"
            )
        elif muscle is None:
            seen = f"label {self._shown(label)}, and a muscle that the study does not know"
            remedy = "write the muscle into the column muscle"
            self._add("error", "unknown-label", seen, ", ".join(self._segmentation.names), remedy, "muscle")
        else:
            # Pieces of one muscle join, unless the hospital's names are not the study's.
            alike = muscle_called(label, self._segmentation) == muscle
            own = {name for name, m in found.items() if alike and m == muscle} | {label}
            others = {} if self._one else {n: m for n, m in found.items() if m != muscle and n != label}
            found = others | dict.fromkeys(own, muscle)
            if self._one:
                self._in_file = {muscle}
            else:
                self._check_unknown([name for name in names if name not in found], found)
        return {name: m for name, m in found.items() if name in names}

    def _as_said(self, names: Sequence[str], said: dict[str, str]) -> dict[str, str]:
        """Labels of which somebody has said what each is; the file need not have them all."""
        found = {name: UNCLEAR for name, text in said.items() if text.casefold() == UNCLEAR}
        found |= {name: m for name, text in said.items() if (m := muscle_called(text, self._segmentation))}
        found = {name: m for name, m in found.items() if name in names}
        self._in_file = set(found.values()) - {UNCLEAR}
        self._check_unknown([n for n in names if n not in found and said.get(n) != ""], found)
        return {n: m for n, m in found.items() if not self._one or m in (self._own, UNCLEAR)}

    def _check_unknown(self, unknown: Sequence[str], known: Mapping[str, str]) -> None:
        """Labels that the study does not know are left out; where nothing is left, so is the image."""
        if not unknown:
            return
        self._unknown = tuple(unknown)
        remedy = "nothing, if the study is not about it; else call it as the study does"
        if not known:
            example = "; ".join(f"{k} = {name}" for k, name in enumerate(self._segmentation.names[:2], start=1))
            remedy = (
                f"call the labels as the study does, or say in the column mask_label what each is: {example}; of a "
            )
            remedy += "file with one label, fill in the column muscle"
        severity: Severity = "warning" if known else "error"
        several = f"{listed(unknown, self._shown)}, unknown to the study"
        self._add(severity, "unknown-label", several, ", ".join(self._segmentation.names), remedy)

    def wanted(self, named: Mapping[str, str], label: str | dict[str, str]) -> "_Wanted":
        """Whose outlines have to be sound: labels of muscles, drawn as an area or not."""
        said = {label} - {""} if isinstance(label, str) else {name for name, muscle in label.items() if muscle}
        ignored = frozenset(label) - said if isinstance(label, dict) else frozenset[str]()
        return _Wanted(self._segmentation, frozenset(named) | said, ignored, self._own, self._one)

    def masks(self, file: LabelFile, named: Mapping[str, str]) -> dict[str, Mask]:
        """Muscle -> what is drawn of it; its pieces joined, and nothing of what cannot be read."""
        masks: dict[str, Mask] = {}
        for name, muscle in named.items():
            if name in self._faulty:
                continue  # told already, shape by shape
            try:
                mask = file.mask(name)
            except MaskError as error:
                told = [self._of_label(f, name) for f in error.findings]
                self.findings += [f for f in told if f not in self.findings]
                continue
            if mask.any():
                masks[muscle] = masks[muscle] | mask if muscle in masks else mask
        return masks

    def check_present(self, masks: Mapping[str, Mask]) -> None:
        """The image's own muscle is drawn, or somebody has looked for it and it is not there."""
        if any(f.severity == "error" for f in self.findings):
            return
        own, others = self._own, sorted((set(masks) | self._in_file) - {self._own or ""})
        if own and own not in masks and others and (not self._said or own in self._said):
            seen = f"an image of {own}, on which {' and '.join(others)} is drawn and {own} is not"
            seen += f"; {listed(self._unknown, self._shown)}, unknown to the study" if self._unknown else ""
            remedy = f"correct the column muscle; or {_NAME_IT}; or leave {own} out of the column annotated"
            self._add("error", "another-muscle", seen, f"a drawn {own}", remedy, "muscle")
        elif not masks and not self._said:
            self._add("error", "empty-mask", "no pixel of a muscle inside", "a drawn muscle", _DRAW)

    def drawn(self, masks: Mapping[str, Mask], frame: Frame) -> Drawn:
        """The classes; where two muscles overlap by no more than their border, nobody knows."""
        present = frozenset(masks)
        annotated = (self._said & {self._own} if self._one else self._said) | present
        classes = np.full(frame.pixels.shape, BACKGROUND, dtype=np.uint8)
        drawn = Drawn(classes, annotated, present)
        for name, mask in masks.items():
            classes[mask] = drawn.number_of(name, self._segmentation)
        for (name, mask), (other, second) in combinations(masks.items(), 2):
            both = mask & second
            if both.any():
                self._overlap(name, other, both, min(int(mask.sum()), int(second.sum())), frame)
                classes[both] = OUTSIDE
        return drawn

    def others(self, file: LabelFile, said: str | dict[str, str], named: Mapping[str, str]) -> dict[str, Mask]:
        """Where the study asks for one muscle: what the file holds of others, as far as it can be read."""
        if not self._one or (isinstance(said, str) and said and self._own != muscle_called(said, self._segmentation)):
            return {}  # the hospital's names are not the study's
        masks: dict[str, Mask] = {}
        for name in [n for n in file.names if n not in named]:
            muscle = muscle_called(name if isinstance(said, str) else said.get(name, ""), self._segmentation)
            try:
                mask = file.mask(name) if muscle not in (None, self._own) else None
            except MaskError:
                continue  # its own faults do not matter here
            if muscle and mask is not None:
                masks[muscle] = masks[muscle] | mask if muscle in masks else mask
        return masks

    def _overlap(self, name: str, other: str, both: Mask, smaller: int, frame: Frame) -> None:
        seen, expected, thin = overlapping((name, other), both, smaller, frame)
        if thin:
            expected, remedy = "muscles side by side", "nothing to do: these pixels are left out of account"
            self._add("note", "overlap-thin", seen, expected, remedy)
            return
        self._add("error", "overlapping-muscles", seen, expected, "draw where one ends and the other begins")

    def _of_label(self, finding: Finding, label: str) -> Finding:
        """What is wrong with one label of a file; its size, which is that of all, is told once."""
        if finding.rule == "mask-size":
            return replace(finding, field="mask")
        return replace(finding, seen=f"label {self._shown(label)}: {finding.seen}", field="mask")

    def _add(  # noqa: PLR0913, PLR0917 - the parts of a finding, in its order
        self, severity: Severity, rule: str, seen: str, expected: str, remedy: str, field: str = "mask"
    ) -> None:
        self.findings.append(Finding(severity, rule, self._file, seen, expected, remedy, field=field))


@dataclass(frozen=True)
class _Wanted:
    """Whether outlines of a label have to be sound."""

    segmentation: SegmentationConfig
    labels: frozenset[str]
    ignored: frozenset[str]
    own: str | None
    one: bool

    def __call__(self, label: str) -> bool:
        if label in self.ignored:
            return False
        muscle = muscle_called(label, self.segmentation)
        return label in self.labels or (muscle is not None and (not self.one or muscle == self.own))
