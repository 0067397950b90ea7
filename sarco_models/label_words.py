"""Texts that mean a muscle of a study: labels of masks, cells of images.csv, and what a finding may write of them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from sarco_models.segmentation import SegmentationConfig

_SIDES = {"left", "right", "lt", "rt", "l", "r", "左", "右"}


def muscles_called(texts: Collection[str], segmentation: SegmentationConfig) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names of the study's muscles that these texts mean, and the texts that mean none."""
    found = {text: muscle_called(text, segmentation) for text in texts}
    return frozenset(name for name in found.values() if name), tuple(text for text in texts if not found[text])


def muscle_called(text: str, segmentation: SegmentationConfig) -> str | None:
    """Name of the muscle that a label means, its side left out of account; None where it means none of the study's."""
    found = segmentation.find(text)
    if found:
        return found
    words = [word for word in re.split(r"[^\w#+]|_", text.casefold()) if word]
    bare = [word for word in words if word not in _SIDES]
    return segmentation.find(" ".join(bare)) if bare and len(bare) < len(words) else None


def said_of_labels(label: str | Mapping[str, str]) -> dict[str, str]:
    """What each label is, from a cell of the column ``mask_label``: ``1 = biceps; 2 = triceps``.

    Parts without "=", or without a label before it, are left out.
    """
    if not isinstance(label, str):
        return dict(label)
    pairs = (part.rpartition("=") for part in label.split(";"))
    return {name.strip(): muscle.strip() for name, equals, muscle in pairs if equals and name.strip()}


def listed(labels: Sequence[str], shown: Callable[[str], str]) -> str:
    """Labels as a finding writes them.

    Args:
        labels: of a file.
        shown: how each may be written; what must not be seen begins with "of", as in "of 7 characters".
    """
    seen = [text for label in labels if not (text := shown(label)).startswith("of ")]
    hidden = [shown(label) for label in labels if shown(label).startswith("of ")]
    words = [f"label{'s' if len(seen) > 1 else ''} {', '.join(seen)}"] if seen else []
    if len(hidden) == 1:
        words.append(f"{'one' if seen else 'label'} {hidden[0]}")
    elif hidden:
        words.append(f"{len(hidden)}{'' if seen else ' labels'} whose names are not shown")
    return " and ".join(words)
