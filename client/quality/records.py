"""What one look at a site's data found, as values that a report, a JSON file and a test can read.

Nothing here names a person: a place is a file of the site and a row, never the text of a cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sarco_models.errors import Finding
from sarco_models.images import Box, Facts
from sarco_models.mask_origins import Origin
from sarco_models.schema import ImageRow
from sarco_models.targets import Target

Verdict = Literal["may join", "errors", "cannot check"]


@dataclass(frozen=True, eq=False)
class MaskMeasures:
    """Size and brightness of a muscle inside its mask.

    Attributes:
        label: of the mask, "" where the file has only one.
        area_cm2: NaN where the spacing is unknown.
        thickness_mm: largest extent along the beam; NaN where the spacing is unknown.
        echo_intensity: mean grey level inside, 0 to 255.
        pieces: connected parts.
    """

    label: str
    area_cm2: float
    thickness_mm: float
    echo_intensity: float
    pieces: int


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """What one look at an image and its mask found; made in a worker process and kept until the site is done.

    Attributes:
        row: of images.csv.
        findings: of this image and its mask alone.
        facts: what the file says; None when it could not be read.
        device: manufacturer and model, "" when unknown.
        shape: rows and columns of the tissue region; (0, 0) when it could not be read.
        stored_shape: rows and columns of the stored frame.
        mm_per_pixel: along (row, column); None = unknown.
        file_digest: of the file's bytes, hexadecimal, "" when there is no file.
        content: digest of the tissue pixels, hexadecimal, "" when it could not be read.
        phash: 64-bit perceptual hash of the tissue pixels.
        header_id: keyed digest of the DICOM patient id, "" when the file has none; equal for equal ids within a site.
        grey: (256,) number of tissue pixels at each grey level.
        mask_content: digest of the mask's pixels, "" without a mask.
        measures: of the muscle, in a study of muscles of the first one; None without a readable mask.
        text: boxes of suspected burned-in text in the tissue region.
        thumbnail: JPEG, at most 192 pixels wide, text blacked out, mask outlined; b"" when it could not be read.
        left_out: a training run would do without this image.
        view: (size, size) what the network would see; None when it is left out, or has been put into the cache.
        target: what it would be to find there, in a study of muscles; None likewise.
        drawn: sizes of the muscles that are drawn, in a study of muscles; the label is the muscle's name.
        annotated: names of the muscles that were looked for, as the hospital has said; empty = not said.
        origin: where the mask came from, in a study that finds masks.
    """

    row: ImageRow
    findings: tuple[Finding, ...]
    facts: Facts | None = None
    device: str = ""
    shape: tuple[int, int] = (0, 0)
    stored_shape: tuple[int, int] = (0, 0)
    mm_per_pixel: tuple[float, float] | None = None
    file_digest: str = ""
    content: str = ""
    phash: int = 0
    header_id: str = ""
    grey: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, dtype=np.int64))
    mask_content: str = ""
    measures: MaskMeasures | None = None
    text: tuple[Box, ...] = ()
    thumbnail: bytes = b""
    left_out: bool = False
    view: NDArray[np.uint8] | None = None
    target: Target | None = None
    drawn: tuple[MaskMeasures, ...] = ()
    annotated: tuple[str, ...] = ()
    origin: Origin | None = None

    @property
    def usable(self) -> bool:
        """A training run would see this image: it was read, and nothing that the study needs of it is missing."""
        return self.content != "" and not self.left_out


@dataclass(frozen=True, eq=False)
class FeatureSummary:
    """One feature of the study as this site has it.

    Attributes:
        name: of the feature; for a category, name=category.
        unit: of the study.
        low: smallest plausible value.
        high: largest plausible value.
        kind: of the feature.
        values: (participants,) in the study's unit, NaN where missing.
    """

    name: str
    unit: str
    low: float
    high: float
    kind: str
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """One muscle of the study as a hospital has drawn it.

    Attributes:
        name: as the study has it.
        title: in words.
        colour: of its outlines, as CSS writes it.
        drawn: images on which it is.
        looked_for: usable images on which somebody looked for it, whether or not it is there.
        people: of whom it is drawn.
    """

    name: str
    title: str
    colour: str
    drawn: int
    looked_for: int
    people: int


@dataclass(frozen=True, eq=False)
class QualityReport:
    """Everything that is known of a site's data after one pass.

    Attributes:
        title: of the study.
        study_digest: of the study file.
        site: name of the site.
        synthetic: the data say of themselves that they are synthetic.
        findings: errors first, then warnings, then notes.
        participants: people in participants.csv.
        labels: (participants,) 1 = positive; empty when the table could not be read.
        rows: line in participants.csv of each participant.
        features: in the order of the study.
        records: one per row of images.csv.
        owner: for each record the position of its participant, -1 when unknown.
        usable: people by class (negative, positive) whom a training run would see.
        label_rules: for each rule whose parts are present, (agreeing, compared) participants.
        checked: checks that ran, by name; False where something needed was absent.
        muscles: what is drawn of each muscle of the study; empty in a study that finds none.
    """

    title: str
    study_digest: str
    site: str
    synthetic: bool
    findings: tuple[Finding, ...]
    participants: int
    labels: NDArray[np.int8]
    rows: tuple[int, ...]
    features: tuple[FeatureSummary, ...]
    records: tuple[ImageRecord, ...]
    owner: NDArray[np.int64]
    usable: tuple[int, int]
    label_rules: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    checked: Mapping[str, bool] = field(default_factory=dict)
    muscles: tuple[Coverage, ...] = ()

    @property
    def finds_masks(self) -> bool:
        """Whether a mask was found on an image where nobody had drawn one."""
        return any(record.origin and record.origin.source == "found" for record in self.records)

    @property
    def verdict(self) -> Verdict:
        """``may join`` without errors."""
        if any(f.rule == "cannot-check" for f in self.findings):
            return "cannot check"
        return "errors" if any(f.severity == "error" for f in self.findings) else "may join"
