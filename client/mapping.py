"""mapping.toml: what a hospital's own table and files mean for the study. It stays in the hospital.

The first ``sarco-site ingest`` proposes it, a person corrects it, and from then on it is law: what it does not say is
not guessed. A column that is left out is not read, and numbers without a unit are not converted.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from sarco_models.config import Config, Name, SegmentationConfig, StudyConfig, load_config
from sarco_models.drawn import UNCLEAR
from sarco_models.errors import ConfigError
from sarco_models.images import Template
from sarco_models.units import conversion, name_and_unit

MAPPING_FILE = "mapping.toml"
FrameChoice = Literal["first", "middle", "each"] | Annotated[int, Field(ge=0)]
DateOrder = Literal["", "day first", "month first"]
DateRule = Literal["none", "month", "shifted", "day"]
Side = Literal["left", "right"]
Label = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, StringConstraints(max_length=1000)]

_PLACES = re.compile(r"\{([^{}]*)\}")
OTHER_WAYS = ("dicom", "list")
IN_PATH = ("id", "muscle", "side")
IN_MASK_NAME = ("stem", "name", "id", "folder")

SIDE_WORDS: dict[str, Side] = {
    **dict.fromkeys(["L", "left", "links", "gauche", "izquierda", "sinistra", "esquerda", "左", "왼쪽"], "left"),
    **dict.fromkeys(["R", "right", "rechts", "droite", "derecha", "destra", "direita", "右", "오른쪽"], "right"),
}
MUSCLE_WORDS = {
    "RF": "rectus_femoris",
    "rectus femoris": "rectus_femoris",
    "股直肌": "rectus_femoris",
    "biceps": "biceps",
    "肱二头肌": "biceps",
    "triceps": "triceps",
    "肱三头肌": "triceps",
    "RA": "rectus_abdominis",
    "rectus abdominis": "rectus_abdominis",
    "腹直肌": "rectus_abdominis",
}
MASK_FILES = (
    "**/mask/**", "**/masks/**", "**/seg/**", "**/segmentation/**", "**/segmentations/**", "**/label/**",
    "**/labels/**", "**/annotations/**", "**/分割/**", "**/标注/**", "**/*_mask.*", "**/*-mask.*", "**/mask_*.*",
    "**/*_seg.*", "**/*_label.*",
)  # fmt: skip
MASK_NAMES = (
    "{stem}", "{name}", "{stem}_mask", "{stem}-mask", "mask_{stem}", "{stem}_seg", "{stem}_segmentation",
    "{stem}_label", "{id}_{stem}", "{folder}_{stem}",
)  # fmt: skip


class TableRules(Config):
    """The table of participants."""

    file: Text = Field(default="", description="Path below SOURCE, or absolute; empty = no table was found.")
    sheet: Text = Field(default="", description="Of a workbook; empty = the only one.")
    dates: DateOrder = Field(
        default="", description="How 5/3/2024 is meant; 2024-03-05 and 5 March need no answer. Empty = cannot be told."
    )
    missing: tuple[Text, ...] = Field(default=(), description="Further texts that mean: not measured.")


class IdRules(Config):
    """Who is who."""

    column: Text = Field(default="", description="Of the table: one different text for each person.")
    pseudonyms: bool = Field(default=True, description="P0001, P0002, ... instead of the table's ids.")
    loose: bool = Field(default=False, description="Case, blanks and leading zeros of ids do not count.")


class ColumnRules(Config):
    """One column of the study: where it comes from, and how it is written there."""

    column: Text = Field(default="", description="Of the table; empty = the hospital does not have it.")
    unit: Text = Field(default="", description="Of the numbers in the table; empty = not known, and not read.")
    words: dict[Text, int | Text] = Field(default={}, description="What the table's texts mean, such as 有 = 1.")
    derive: Literal["", "bmi", "age"] = Field(
        default="", description="Computed: bmi from height and weight, age from the two dates of ``dates``."
    )
    dates: tuple[Text, ...] = Field(default=(), description="Columns: date of birth, date of exam.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.column and self.derive:
            raise ValueError("column and derive exclude each other: empty one of them")
        if (self.derive == "age") != (len(self.dates) == 2):
            raise ValueError('dates are two columns, date of birth and date of exam, and belong to derive = "age"')
        return self


class ImageListColumns(Config):
    """Columns of a table that lists the images."""

    image: Text = Field(default="", description="Path below SOURCE, or the file's name where that is unique.")
    id: Text = ""
    muscle: Text = ""
    side: Text = ""
    mask: Text = ""
    frame: Text = Field(default="", description="Which frame of a cine, counted from 0.")
    exam_date: Text = ""
    annotated: Text = Field(default="", description="Muscles that were looked for on the image, between semicolons.")


class ImageRules(Config):
    """Whose an image is, what it shows, and what of it is copied."""

    id: tuple[Text, ...] = Field(
        default=(),
        description="Ways to the person's id; the first that names somebody of the table counts. A pattern of the path "
        'below SOURCE with {id}, where * ends at a / and ** does not; "dicom": the header; "list": see below.',
    )
    skip: tuple[Text, ...] = Field(default=(), description="Patterns of paths that are not looked at.")
    muscle: Name | Literal[""] = Field(default="", description="Where nothing else says it.")
    side: Literal["", "left", "right"] = Field(default="", description="Where nothing else says it.")
    muscle_words: dict[Text, Name] = Field(default=MUSCLE_WORDS, description="Words in a path.")
    side_words: dict[Text, Side] = Field(default=SIDE_WORDS, description="Words in a path.")
    frames: FrameChoice = Field(default="middle", description="Of a cine: first, middle, each, or a number from 0.")
    exam_date: DateRule = Field(
        default="shifted",
        description="none; month: its first day; shifted: all of a person's days earlier by one secret number of them, "
        "1 to 365, so that only the time between exams is kept; day: as it is.",
    )
    text_in_region: Literal["refuse", "keep"] = Field(
        default="refuse", description="Images with suspected text inside the tissue region."
    )
    colour_in_region: Literal["refuse", "keep"] = Field(
        default="refuse", description="Images with coloured pixels, such as Doppler; kept, they become grey."
    )
    checked: tuple[Text, ...] = Field(
        default=(), description="Patterns of paths whose images a person has looked at: no text and no colour matters."
    )
    calibration: Text = Field(default="", description="A calibration.csv below SOURCE that names paths below SOURCE.")
    list_file: Text = Field(default="", description="A table that lists the images, below SOURCE.")
    list_sheet: Text = ""
    list_columns: ImageListColumns = ImageListColumns()

    @field_validator("id")
    @classmethod
    def _ways(cls, ways: tuple[str, ...]) -> tuple[str, ...]:
        for way in ways:
            if way in OTHER_WAYS:
                continue
            check_places(way, IN_PATH)
            if way.count("{id}") != 1:
                raise ValueError(f'{way!r} is neither "dicom" nor "list", nor a pattern with one {{id}}')
        return ways

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if "list" in self.id and not (self.list_file and self.list_columns.image and self.list_columns.id):
            raise ValueError('"list" in id needs list_file, and image and id in list_columns')
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """Ways that are patterns of the path, in order."""
        return tuple(way for way in self.id if way not in OTHER_WAYS)


class MaskRules(Config):
    """Which files are masks, and whose."""

    files: tuple[Text, ...] = Field(
        default=MASK_FILES,
        description="Patterns of pictures that are masks; NIfTI, NRRD, MHA, GIPL and LabelMe always are.",
    )
    names: tuple[Text, ...] = Field(
        default=MASK_NAMES,
        description="A mask's name without suffix; {stem} {name} {folder} {id} are its image's. The first that fits.",
    )
    label: Text = Field(default="", description="The one label that is copied; empty = the only one, or all of labels.")
    labels: dict[Text, Label] = Field(default={}, description="Number of each label that is copied, by name or colour.")
    annotated: tuple[Text, ...] = Field(
        default=(),
        description="Muscles that you always look for, drawn or not; empty = every one that any of your masks holds.",
    )
    muscles: dict[Text, Text] = Field(
        default={}, description="Of a study of muscles: which muscle each label is, by name, number or colour."
    )

    @field_validator("names")
    @classmethod
    def _known_places(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_places(name, IN_MASK_NAME)
        return names


class Mapping(Config):
    """All of mapping.toml."""

    table: TableRules = TableRules()
    participants: IdRules = IdRules()
    columns: dict[Name, ColumnRules] = Field(default={})
    images: ImageRules = ImageRules()
    masks: MaskRules = MaskRules()
    templates: tuple[Template, ...] = Field(
        default=(), description="Where the tissue is on a device's screen; as in site.toml, files below SOURCE."
    )


def check_places(text: str, known: Iterable[str]) -> None:
    """Raise ValueError for a {place} that means nothing."""
    unknown = [place for place in _PLACES.findall(text) if place not in known]
    if unknown or "{" in _PLACES.sub("", text) or "}" in _PLACES.sub("", text):
        raise ValueError("known in braces: " + ", ".join(f"{{{place}}}" for place in known))


def study_columns(study: StudyConfig) -> dict[str, str]:
    """Every column of participants.csv but the id, with its unit; "" = none. Who finds muscles needs no label."""
    reference = {column: name_and_unit(column)[1] for column in study.label.reference_columns}
    label = {} if study.segments else {study.label.column: ""}
    return {**label, **reference, **{f.name: f.unit for f in study.features}}


def load_mapping(path: Path, study: StudyConfig) -> Mapping:
    """Read a mapping for a study.

    Raises:
        ConfigError: names every wrong field, and the way out.
    """
    mapping = load_config(path, Mapping)
    faults = [f"{path}: {fault}" for fault in _faults(mapping, study)]
    if faults:
        raise ConfigError("\n".join(faults))
    return mapping


def _faults(mapping: Mapping, study: StudyConfig) -> Iterable[str]:
    known = study_columns(study)
    for name, rules in mapping.columns.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "it is no column of the study"
            yield f"columns.{name}: unknown column; {hint}"
        elif rules.unit:
            yield from _unit_faults(name, rules.unit, known[name])
    if study.segmentation:
        yield from _muscle_faults(mapping.masks, study.segmentation)
    elif mapping.masks.muscles or mapping.masks.annotated:
        yield "masks.muscles and masks.annotated: the study finds no muscles; remove them"


def _muscle_faults(masks: MaskRules, segmentation: SegmentationConfig) -> Iterable[str]:
    known = f"known: {', '.join(segmentation.names)}"
    if masks.labels:
        yield "masks.labels: a study of muscles wants to know which muscle a label is: write that into masks.muscles"
    for label, muscle in masks.muscles.items():
        if muscle not in ("", UNCLEAR) and segmentation.find(muscle) is None:
            yield f'masks.muscles: {label!r} = {muscle!r} is no muscle of the study; {known}, "{UNCLEAR}", or ""'
    for muscle in masks.annotated:
        if segmentation.find(muscle) is None:
            yield f"masks.annotated: {muscle!r} is no muscle of the study; {known}"


def _unit_faults(name: str, unit: str, target: str) -> Iterable[str]:
    """A unit that is written as the study's needs no conversion, whatever it is."""
    if unit == target:
        return
    if not target:
        yield f"columns.{name}.unit: this column has no unit in the study; remove the line"
        return
    try:
        conversion(name, unit, target)
    except ConfigError as error:
        yield f"columns.{name}.unit: {error}"


def check_headers(mapping: Mapping, header: Iterable[str], path: Path) -> None:
    """Raise ConfigError for every column of the mapping that the table does not have; no header is quoted."""
    there = set(header)
    named = [("participants.column", mapping.participants.column)]
    named += [(f"columns.{name}.column", rules.column) for name, rules in mapping.columns.items()]
    named += [(f"columns.{name}.dates", date) for name, rules in mapping.columns.items() for date in rules.dates]
    _refuse_absent(named, there, path, "the table of participants")


def check_list_headers(columns: ImageListColumns, header: Iterable[str], path: Path) -> None:
    """The same for the table that lists the images."""
    named = [(f"images.list_columns.{name}", column) for name, column in columns.model_dump().items()]
    _refuse_absent(named, set(header), path, "the list of images")


def _refuse_absent(named: Iterable[tuple[str, str]], there: set[str], path: Path, table: str) -> None:
    absent = [
        f"{path}: {field}: {table} has no such column (text of {len(column)} characters); the file's comments list them"
        for field, column in named
        if column and column not in there
    ]
    if absent:
        raise ConfigError("\n".join(absent))
