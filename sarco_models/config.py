"""The study file: one frozen, closed, typed tree, read from TOML and known by its digest.

A study is public: every hospital reads it before it joins, and every message carries its digest. Another disease, other
features, tables only or images only is another TOML file and no code. Defaults live here and nowhere else. Objects do
not read configs; the builders do.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from sarco_models.architectures import (
    Norm,
    Trainable,
    architecture,
    check_image_size,
    check_norm,
    check_private,
    check_weights,
)
from sarco_models.config_files import Config as Config
from sarco_models.config_files import load_config as load_config
from sarco_models.config_files import merged as merged
from sarco_models.config_files import read_toml as read_toml

IMAGE = "image"
"""Name of the ultrasound modality; every other modality is a group of features."""

DENIED = (
    "asmi", "asm_", "smi_", "l3smi", "smil3", "appendicular", "lean_mass", "muscle_mass", "muscle_index", "grip",
    "hand_strength", "gait", "walk_speed", "walking_speed", "metre_walk", "m_walk", "chair_stand", "chair_rise",
    "sit_to_stand", "5sts", "sts5", "sppb",
)  # fmt: skip
"""What defines sarcopenia is never an input: a feature whose name holds one of these, with or without underscores, is
refused (SCIENCE 1.6, I18). A study of another disease names its own in ``label.reference_columns``."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Fraction = Annotated[float, Field(ge=0, lt=1)]


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
    backbone: str = Field(default="convnext_tiny", description="A ConvNeXt, EfficientNet or Swin, by timm's name.")
    weights: str = Field(default="none", description="none, timm, phantom, or the path of a safetensors file.")
    trainable: Trainable = "all"
    norm: Norm = Field(
        default="none",
        validate_default=True,
        exclude_if=lambda norm: norm == "none",  # studies without it keep the digest that hospitals have approved
        description="What becomes of the batch norms in the layers that train, so that no statistics of private images "
        "travel. none: there are none; frozen: constants, as in the starting weights; group: group norms instead (Wu "
        "and He 2018); local: each hospital keeps its own (FedBN: Li et al. 2021).",
    )
    tabular: Literal["joint", "per_group"] = Field(
        default="joint", description="joint: one branch for all tables (Chen et al. 2025); per_group: one for each."
    )
    hidden_units: int = Field(default=128, ge=1, le=4096)
    dropout: Fraction = 0.5
    modality_dropout: Fraction = Field(default=0.1, description="Chance that a present modality is hidden in training.")

    @field_validator("backbone")
    @classmethod
    def _known(cls, backbone: str) -> str:
        architecture(backbone)
        return backbone

    @field_validator("weights", "norm")
    @classmethod
    def _fits_backbone(cls, value: str, info: ValidationInfo) -> str:
        """A study without images may name any: nothing comes of it."""
        if "backbone" in info.data and IMAGE in info.data.get("modalities", ()):
            if info.field_name == "weights":
                check_weights(info.data["backbone"], value)
            elif {"trainable", "weights"} <= set(info.data):
                check_norm(info.data["backbone"], cast(Norm, value), info.data["trainable"], info.data["weights"])
        return value

    @property
    def local_norms(self) -> bool:
        """Whether every hospital keeps batch norms of its own, which belong to the model and never travel."""
        return IMAGE in self.modalities and self.norm == "local"

    def check_private(self) -> None:
        """Raise ValueError where this network cannot be trained with differential privacy."""
        if IMAGE in self.modalities:
            check_private(self.backbone, self.norm, self.trainable)


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
        if self.federation.strategy == "fedavg" and self.federation.proximal_mu:
            raise ValueError('proximal_mu needs strategy = "fedprox"')
        return self

    @model_validator(mode="after")
    def _model_has_its_inputs(self) -> Self:
        wanted = self.model.modalities
        for name in wanted:
            if name not in (IMAGE, *self.groups):
                known = ", ".join([IMAGE, *self.groups])
                raise ValueError(
                    f'model.modalities: modality {name} is not one of: {known}: add features with group = "{name}", or '
                    "remove it"
                )
        if len(set(wanted)) != len(wanted):
            raise ValueError("model.modalities: a modality is listed twice")
        if self.uses_images:
            check_image_size(self.model.backbone, self.image.size, self.model.norm)
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


def load_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises:
        ConfigError: the file is absent, is no TOML, or a field is unknown, missing or out of its range.
    """
    return load_config(path, StudyConfig)
