"""Where the mask of an image came from: a person, a model, or nowhere; and how that is told of all images together.

What is said of single images stays in the hospital's cache.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from sarco_models.schema import IMAGES_FILE
from sarco_models.segmenter_files import says_synthetic

Source = Literal["drawn", "found", "tissue"]

FINDING_VERSION = 2
"""Raise it when the same model would give another mask, so that no stale cache is read."""

OF_ALL_MASKS = ("auto-masks", "synthetic-model")
"""Rules of what is told of a hospital's masks as a whole; nothing in it is of single images."""

MANY = 0.25
"""Share of images without a good mask from which a person should look at the model, and not only at the images."""


@dataclass(frozen=True)
class Origin:
    """Where an image's mask came from.

    Attributes:
        source: drawn by a person; found by the model; or the whole tissue region, for want of a good mask.
        score: of what was found, 0 to 1; None where nobody looked, or the model could not.
        reasons: what speaks against it, in words, the heaviest first.
    """

    source: Source
    score: float | None = None
    reasons: tuple[str, ...] = ()

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Origin:
        """Of ``asdict``, as JSON has it.

        Raises:
            ValueError: it says another source.
        """
        if stored["source"] not in get_args(Source):
            raise ValueError(f"source = {stored['source']!r}: expected one of {', '.join(get_args(Source))}")
        return Origin(stored["source"], stored["score"], tuple(stored["reasons"]))


def model_told(study: StudyConfig, folder: Path) -> tuple[Finding, ...]:
    """Whether a model of computer-made people is to find the muscles of real ones.

    Args:
        study: whose segmentation model is here.
        folder: of the hospital's data.
    """
    auto = study.image.auto
    if auto is None or auto.place is None or not says_synthetic(auto.place) or says_synthetic(folder):
        return ()
    seen = f"segmentation model {auto.segmenter} was trained on computer-made people (SYNTHETIC)"
    expected, remedy = "one that has seen people", "do not trust its masks: tell the coordinator, and draw masks"
    return (Finding("warning", "synthetic-model", IMAGES_FILE, seen, expected, remedy, field="mask"),)


def origins_told(origins: Sequence[Origin], study: StudyConfig) -> tuple[Finding, ...]:
    """Where the masks of a hospital's images came from, in one finding; none in a study that finds no masks."""
    if not origins or study.image.auto is None:
        return ()
    count = Counter(origin.source for origin in origins)
    drawn, found, tissue = (count[source] for source in get_args(Source))
    seen = f"{len(origins)} images: {drawn} with a drawn mask, {found} with one found, {tissue} without a good one"
    many = tissue > MANY * (found + tissue)
    remedy = "look at some of those that were found" if found else "nothing: people have drawn all"
    if tissue:
        remedy = "those without are shown whole; draw their masks"
    if many:
        remedy += f"; {study.image.auto.segmenter} may not be made for images like yours: tell the coordinator"
    return (Finding("warning" if many else "note", "auto-masks", IMAGES_FILE, seen, "a mask on each", remedy),)
