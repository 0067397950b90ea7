"""The study file: one frozen, closed, typed tree, read from TOML and known by its digest.

A study is public: every hospital reads it before it joins, and every message carries its digest. Another disease, other
features, tables only or images only is another TOML file and no code. Defaults live here and nowhere else. Objects do
not read configs; the builders do.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from sarco_models.errors import ConfigError

IMAGE = "image"
"""Name of the ultrasound modality; every other modality is a group of features."""

DENIED = (
    "asmi",
    "asm_",
    "smi_",
    "l3smi",
    "smil3",
    "appendicular",
    "lean_mass",
    "muscle_mass",
    "muscle_index",
    "grip",
    "hand_strength",
    "gait",
    "walk_speed",
    "walking_speed",
    "metre_walk",
    "m_walk",
    "chair_stand",
    "chair_rise",
    "sit_to_stand",
    "5sts",
    "sts5",
    "sppb",
)
"""What defines sarcopenia is never an input: a feature whose name holds one of these, with or without underscores, is
refused (SCIENCE 1.6, I18). A study of another disease names its own in ``label.reference_columns``."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Base of every configuration: immutable, no coercion, no unknown keys, no infinities."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Feature(Config):
    """One column of participants.csv that may enter a model."""

    name: Name
    group: Name
    kind: Literal["continuous", "binary", "categorical"] = "continuous"
    unit: str = ""
    low: float = Field(default=0.0, description="Smallest plausible value, in the unit; a smaller one is an error.")
    high: float = Field(default=1.0, description="Largest plausible value, in the unit; a larger one is an error.")
    categories: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "categorical" and len(set(self.categories)) < 2:
            raise ValueError("a categorical feature lists at least two different categories")
        if self.kind != "categorical" and self.categories:
            raise ValueError("only a categorical feature has categories")
        if not self.low < self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        for part in DENIED:
            # With an underscore at its end a stem is a word of its own; the others are found however they are joined.
            whole_word = part.endswith("_") and f"_{part}" in f"_{self.name}_"
            if whole_word or (not part.endswith("_") and part.replace("_", "") in self.name.replace("_", "")):
                raise ValueError(f"{self.name} defines the label ({part}) and can never be a model input: remove it")
        return self


class LabelConfig(Config):
    """What is predicted, and the rule that made it."""

    column: Name
    rule: Name = Field(description="Reference standard, such as awgs2019 or ct_l3_smi; travels with every result.")
    reference_columns: tuple[Name, ...] = Field(default=(), description="Columns that define the label; never inputs.")
    allow_mixed_rules: bool = Field(default=False, description="Accept sites whose label was made by another rule.")


class ImageConfig(Config):
    """How a frame becomes the square that the image network sees."""

    size: int = Field(default=224, ge=16, le=1024, description="Pixels along each side of the network's input.")
    framing: Literal["physical", "letterbox", "paper"] = Field(
        default="physical",
        description="physical: a window of window_mm around the muscle, the same mm per pixel for every device; "
        "letterbox: the muscle's box, aspect kept; paper: plain resize of the whole region (Chen et al. 2025).",
    )
    window_mm: float = Field(default=48.0, gt=5, le=200, description="Side of the physical window.")
    roi: Literal["mask", "none"] = Field(
        default="mask", description="mask: what lies outside the muscle becomes black."
    )
    margin_mm: float = Field(default=2.0, ge=0, le=20, description="Kept around the mask, so that the fascia is seen.")
    margin_fraction: float = Field(default=0.05, ge=0, le=0.5, description="Margin of the letter-boxed crop.")


class AugmentationConfig(Config):
    """Random changes of training images (Chen et al. 2025: albumentations' vocabulary); all 0 means none."""

    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    vertical_flip: float = Field(default=0.5, ge=0, le=1)
    shift: float = Field(default=0.1, ge=0, le=0.5, description="Largest shift, as a fraction of the side.")
    scale: float = Field(default=0.1, ge=0, le=0.5)
    rotate_degrees: float = Field(default=10.0, ge=0, le=180)
    brightness: float = Field(default=0.2, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    cached_views: int = Field(
        default=4,
        ge=1,
        le=64,
        description="With frozen layers, their output is kept for this many augmented views of each training image, "
        "view 1 being the image itself; the trained layers draw one view at random.",
    )


class ModelConfig(Config):
    """The network."""

    modalities: tuple[Name, ...] = Field(min_length=1, description="'image' and/or groups of features.")
    backbone: str = Field(default="convnext_tiny", description="Any ConvNeXt of timm, by name.")
    weights: str = Field(default="none", description="none, timm, phantom, or the path of a safetensors file.")
    trainable: Literal["head", "last_stage", "all"] = "all"
    tabular: Literal["joint", "per_group"] = Field(
        default="joint", description="joint: one branch for all tables (Chen et al. 2025); per_group: one for each."
    )
    hidden_units: int = Field(default=128, ge=1, le=4096)
    dropout: Fraction = 0.5
    modality_dropout: Fraction = Field(default=0.1, description="Chance that a present modality is hidden in training.")


class TabularConfig(Config):
    """How tables become numbers: means are agreed by federated sums, never by sharing rows."""

    scaling: Literal["standard", "clinical_range", "minmax"] = Field(
        default="standard",
        description="Of continuous features; binary ones stay 0/1. standard: by the training participants' mean and "
        "standard deviation, agreed by federated sums; clinical_range: the study's low..high to [0, 1]; minmax: the "
        "smallest and largest training value of all sites, values of single persons, to [0, 1] (Chen et al. 2025).",
    )


class SplitConfig(Config):
    """Shares of each site's participants, per class; the rest is held out for testing."""

    train: float = Field(default=0.6, gt=0, lt=1)
    validation: float = Field(default=0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_people_to_test(self) -> Self:
        if self.train + self.validation >= 1:
            raise ValueError("train + validation must be below 1, so that participants are left to test on")
        return self


class TrainingConfig(Config):
    """One site's work in one round."""

    local_epochs: int = Field(default=1, ge=1, le=1000)
    batch_participants: int = Field(default=16, ge=1, le=4096, description="Participants, not images, in a batch.")
    images_per_participant: int = Field(default=3, ge=1, le=64, description="Images drawn of each in one epoch.")
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    backbone_learning_rate: float | None = Field(default=None, gt=0, le=1, description="Default: learning_rate.")
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    warmup_rounds: int = Field(default=1, ge=0, description="Linear warm-up, then cosine to zero over the study.")
    balance_classes: bool = Field(
        default=True,
        description="Down-sample the larger class to parity, anew in each epoch, in the training loader only.",
    )
    seed: int = Field(default=1, ge=0)


class FederationConfig(Config):
    """Who must take part, and how their work is joined."""

    strategy: Literal["fedavg", "fedprox"] = "fedavg"
    proximal_mu: float = Field(default=0.0, ge=0, description="FedProx: weight of the distance to the round's model.")
    rounds: int = Field(default=10, ge=1, le=10000)
    min_sites: int = Field(default=1, ge=1, description="Sites that must answer for a round to count.")
    min_participants: int = Field(default=10, ge=2, description="Training participants a site must have to take part.")
    round_deadline_s: float = Field(default=3600.0, gt=0)


class EvaluationConfig(Config):
    """How the operating point is chosen; always on training participants, never on test participants."""

    threshold_rule: Literal["youden", "sensitivity"] = "youden"
    min_sensitivity: float = Field(default=0.8, gt=0, lt=1)
    histogram_bins: int = Field(default=200, ge=10, le=2000, description="Bins of the score histograms sites return.")


class StudyConfig(Config):
    """Everything that a hospital agrees to when it joins."""

    name: Name
    title: str
    label: LabelConfig
    features: tuple[Feature, ...] = ()
    image: ImageConfig = ImageConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig
    tabular: TabularConfig = TabularConfig()
    split: SplitConfig = SplitConfig()
    training: TrainingConfig = TrainingConfig()
    federation: FederationConfig = FederationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [f.name for f in self.features]
        if "participant_id" in names:
            raise ValueError("a feature cannot be called participant_id: that column names the person")
        if IMAGE in self.groups:
            raise ValueError(f"a group of features cannot be called {IMAGE}: that is the ultrasound")
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise ValueError(f"feature {repeated[0]} is listed twice")
        forbidden = {self.label.column, *self.label.reference_columns} & set(names)
        if forbidden:
            raise ValueError(f"{sorted(forbidden)[0]} defines the label and can never be a model input: remove it")
        unknown = set(self.model.modalities) - {IMAGE, *self.groups}
        if unknown:
            known = ", ".join([IMAGE, *self.groups])
            raise ValueError(f"modality {sorted(unknown)[0]} is not one of: {known}")
        if len(set(self.model.modalities)) != len(self.model.modalities):
            raise ValueError("a modality is listed twice")
        if self.federation.strategy == "fedavg" and self.federation.proximal_mu:
            raise ValueError('proximal_mu needs strategy = "fedprox"')
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of features, in the order of their first feature."""
        return tuple(dict.fromkeys(f.group for f in self.features))

    @property
    def uses_images(self) -> bool:
        """Whether the model looks at ultrasound."""
        return IMAGE in self.model.modalities

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Features whose group is a modality of the model, in the order of the study file."""
        return tuple(f for f in self.features if f.group in self.model.modalities)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the whole study, 64 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


ConfigType = TypeVar("ConfigType", bound=Config)


def load_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises:
        ConfigError: the file is absent, is no TOML, or a field is unknown, missing or out of its range.
    """
    return load_config(path, StudyConfig)


def load_config(path: Path, kind: type[ConfigType], changes: Mapping[str, Any] | None = None) -> ConfigType:
    """Read a TOML file as ``kind``; ``changes`` are laid over it table by table.

    Raises:
        ConfigError: names the file, the field, the value and the way out, for every fault at once.
    """
    tree = merged(read_toml(path), changes or {})
    try:
        # Through JSON, so that strict mode takes TOML's arrays for tuples and still refuses "48" for 48.
        return kind.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(path, kind, tree, fault) for fault in error.errors())) from None
    except TypeError as error:
        raise ConfigError(f"{path}: {error}; write dates and times as text") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or JSON where the suffix says so; raises ConfigError with the file and line."""
    try:
        text = path.read_text(encoding="utf-8")
        return dict(json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; name an existing TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name an existing TOML file") from None
    except (ValueError, TypeError) as error:  # of TOML, of JSON, of UTF-8; JSON that is no table
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with ``changes`` laid over it: tables are merged, everything else is replaced."""
    result = dict(tree)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def _explain(path: Path, kind: type[Config], tree: Mapping[str, Any], fault: Any) -> str:
    """One line for one fault: file, field, value, what was expected, and the nearest known key for a typo."""
    where = ".".join(str(part) for part in fault["loc"]) or kind.__name__
    message = str(fault["msg"]).removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        known = _known_keys(tree, kind, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
        return f"{path}: {where}: unknown key; {hint}"
    if fault["type"] == "missing":
        return f"{path}: {where}: this key is missing; add it"
    value = fault["input"]
    shown = f" = {value!r}" if isinstance(value, str | int | float | bool) else ""
    return f"{path}: {where}{shown}: {message}"


def _known_keys(tree: Mapping[str, Any], kind: type[Config], place: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the config at ``place``."""
    fields: Any = kind
    for part in place:
        if isinstance(part, int):
            continue
        annotation = fields.model_fields[part].annotation
        fields = next(
            (a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")), kind
        )
    return list(fields.model_fields)
