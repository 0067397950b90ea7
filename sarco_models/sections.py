"""The sections of a study file, each closed and with its defaults; :mod:`sarco_models.config` puts them together."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import Field, PrivateAttr, StringConstraints, ValidationInfo, field_validator, model_validator

from sarco_models.architectures import Norm, Trainable, architecture, check_norm, check_private, check_weights
from sarco_models.config_files import Config

IMAGE = "image"
"""Name of the ultrasound modality; every other modality is a group of features."""

DENIED = (
    "asmi", "asm_", "smi_", "l3smi", "smil3", "appendicular", "lean_mass", "muscle_mass", "muscle_index", "grip",
    "hand_strength", "gait", "walk_speed", "walking_speed", "metre_walk", "m_walk", "chair_stand", "chair_rise",
    "sit_to_stand", "5sts", "sts5", "sppb",
)  # fmt: skip
"""What defines sarcopenia is never an input: a feature whose name holds one of these, with or without underscores, is
refused (SCIENCE 1.6, I18). A study of another disease names its own in ``label.reference_columns``."""

T = TypeVar("T")


def later(default: T, **limits: Any) -> T:
    """A setting that came after the first studies: at its default it leaves their digest as hospitals approved it."""
    return cast(T, Field(default=default, exclude_if=lambda value: value == default, **limits))


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
    words: str = later(
        "",
        pattern=r"^[^\n]{0,60}$",
        description="The condition as people say it after 'with', such as 'knee osteoarthritis'; default: column.",
    )

    @property
    def condition(self) -> str:
        """What a positive participant has, in words for people."""
        return self.words or self.column.replace("_", " ")


class AutoMasksConfig(Config):
    """Where nobody has drawn the muscle, a trained segmentation model finds it; its file lies at every hospital."""

    segmenter: str = Field(
        pattern=r"^[^\n]{1,400}$",
        description="Folder of a run or release of a segmentation study, or a .safetensors file: beside the study "
        "file, or an absolute path. Reading the study leaves the name alone.",
    )
    sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="Of the segmenter, so that every hospital uses the same; reading the study fills it in.",
    )
    masks: Literal["missing", "all"] = Field(
        default="missing",
        description="missing: what people have drawn is used, the rest is found; all: everything is found.",
    )
    muscle: Name | Literal[""] = Field(
        default="",
        description="Class of the segmenter; default: the muscle that images.csv names, or the only one it knows.",
    )
    least_quality: float | None = Field(
        default=None, ge=0, le=1, description="Score from which a mask is used; default: the segmenter's own."
    )
    otherwise: Literal["tissue", "leave_out"] = Field(
        default="tissue",
        description='Of an image without a good mask. tissue: it is shown as with roi = "none"; leave_out: it is not.',
    )
    _place: Path | None = PrivateAttr(default=None)

    @property
    def place(self) -> Path | None:
        """Where the segmenter lies on this machine; None where nobody has said. No part of the study."""
        return self._place

    def at(self, place: Path | None, sha256: str) -> Self:
        """The same section as everybody has it, knowing where the segmenter lies here."""
        found = self.model_copy(update={"segmenter": Path(self.segmenter).name, "sha256": sha256})
        found._place = place
        return found


class ImageConfig(Config):
    """How a frame becomes the square that the image network sees."""

    size: int = Field(default=224, ge=16, le=1024, description="Pixels along each side of the network's input.")
    framing: Literal["physical", "letterbox", "paper"] = Field(
        default="physical",
        description="physical: a window of window_mm around the muscle, the same mm per pixel for every device; "
        "letterbox: the muscle's box, aspect kept; paper: plain resize of the whole region (Chen et al. 2025).",
    )
    window_mm: float = Field(default=48.0, gt=5, le=200, description="Side of the physical window.")
    roi: Literal["mask", "auto", "none"] = Field(
        default="mask",
        description="mask: what lies outside the muscle becomes black; auto: so it does, and where no mask is drawn "
        "one is found, see [image.auto].",
    )
    margin_mm: float = Field(default=2.0, ge=0, le=20, description="Kept around the mask, so that the fascia is seen.")
    margin_fraction: float = Field(default=0.05, ge=0, le=0.5, description="Margin of the letter-boxed crop.")
    words: str = later("ultrasound", description="What the images are, as people say it in a report: 'radiographs'.")
    auto: AutoMasksConfig | None = later(None)

    @model_validator(mode="after")
    def _finds_by_something(self) -> Self:
        if self.roi == "auto" and self.auto is None:
            raise ValueError('roi = "auto" needs [image.auto] with segmenter = "FOLDER": name a segmentation model')
        if self.roi != "auto" and self.auto is not None:
            raise ValueError(f'[image.auto] is of no use with roi = "{self.roi}": remove it, or write roi = "auto"')
        return self


class AugmentationConfig(Config):
    """Random changes of training images (Chen et al. 2025: albumentations' vocabulary); all 0 means none."""

    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    vertical_flip: float = Field(default=0.5, ge=0, le=1)
    shift: float = Field(default=0.1, ge=0, le=0.5, description="Largest shift, as a fraction of the side.")
    scale: float = Field(default=0.1, ge=0, le=0.5)
    rotate_degrees: float = Field(default=10.0, ge=0, le=180)
    brightness: float = Field(default=0.2, ge=0, le=1)
    contrast: float = Field(default=0.2, ge=0, le=1)
    gamma: float = later(
        0.0, ge=0, le=0.9, description="Another grey map: grey levels to the power of 1/(1+g) to 1+g, at random."
    )
    gain: float = later(
        0.0, ge=0, le=0.9, description="Another gain: grey levels times 1/(1+g) to 1+g, black stays black."
    )
    blur_pixels: float = later(
        0.0,
        ge=0,
        le=5,
        description="Another probe: speckle blurred by up to so many pixels (SD) of the network's input.",
    )

    cached_views: int = Field(
        default=4,
        ge=1,
        le=64,
        description="With frozen layers, their output is kept for this many augmented views of each training image, "
        "view 1 being the image itself; the trained layers draw one view at random.",
    )

    @property
    def mirrors(self) -> bool:
        """Whether a network sees mirrored images while it trains; one that sees none is not asked about any."""
        return self.horizontal_flip > 0


class IntensityConfig(Config):
    """Grey levels of different machines made alike, by measurements that never leave the hospital."""

    standardize: Literal["none", "device"] = Field(
        default="none",
        description="device: the grey levels within the muscle get the same mean and standard deviation for every "
        "device of a hospital, measured on its training participants' images without their labels.",
    )
    mean: float = Field(default=63.0, gt=0, lt=255, description="Grey level that a device's mean becomes.")
    sd: float = Field(default=33.0, gt=0, lt=128, description="Grey levels that a device's standard deviation becomes.")


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
        "and He 2018); local: each hospital keeps its own (FedBN: Li et al. 2021), in networks without batch norms its "
        "own layer norms (FedBN-style).",
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
        """Whether every hospital keeps norms of its own, which belong to the model and never travel."""
        return IMAGE in self.modalities and self.norm == "local"

    def check_private(self) -> None:
        """Raise ValueError where this network cannot be trained with differential privacy."""
        if IMAGE in self.modalities:
            check_private(self.backbone, self.norm)


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
    folds: int = later(
        0,
        ge=0,
        le=20,
        description="Cross-validation: the participants of one of so many folds are held out, and of the others "
        "validation is the share that is not trained on (train is then of no matter). 0: the shares above.",
    )
    fold: int = later(0, ge=0, description="The fold that is held out, from 0.")
    use: float = later(1.0, gt=0, le=1, description="Share of the training participants that are trained on.")
    complete_cases: bool = later(False, description="Leave out who lacks a feature; everybody else stays where he is.")
    calibration: float = later(
        0.0,
        ge=0,
        lt=1,
        description="Share of a cohort of test participants only that is never scored: the grey levels of its devices "
        "are measured there.",
    )

    @model_validator(mode="after")
    def _leaves_people_to_test(self) -> Self:
        if self.folds == 1 or self.fold >= max(self.folds, 1):
            raise ValueError(f"fold = {self.fold} of folds = {self.folds}: two folds or more, counted from 0")
        if self.train + self.validation >= 1:
            raise ValueError("train + validation must be below 1, so that participants are left to test on")
        return self


class TrainingConfig(Config):
    """One site's work in one round."""

    local_epochs: int = Field(default=1, ge=1, le=1000)
    local_steps: int = later(
        0,
        ge=0,
        le=100000,
        description="So many steps in a round at every site, instead of local_epochs. Sites of different size then go "
        "equally far; with epochs the large ones pull the average by their steps as well as by their weight (Wang et "
        "al. 2020, section 3).",
    )
    batch_participants: int = Field(default=16, ge=1, le=4096, description="Participants, not images, in a batch.")
    images_per_participant: int = Field(default=3, ge=1, le=64, description="Images drawn of each in one epoch.")
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    backbone_learning_rate: float | None = Field(default=None, gt=0, le=1, description="Default: learning_rate.")
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    optimizer: Literal["adamw", "sgd"] = later(
        "adamw", description="sgd: plain steps, what few noised steps want; adamw divides by what is mostly noise."
    )
    momentum: float = later(0.0, ge=0, lt=1, description="Of sgd, within a round.")
    warmup_rounds: int = Field(default=1, ge=0, description="Linear warm-up, then cosine to zero over the study.")
    balance_classes: bool = Field(
        default=True,
        description="Down-sample the larger class to parity, anew in each epoch, in the training loader only.",
    )
    draws: int = later(
        0,
        ge=0,
        le=20,
        description="Down-sample once for the whole training, instead of anew in each epoch: to one of so many draws "
        "of the larger class, which share nobody as far as there are people enough.",
    )
    draw: int = later(0, ge=0, description="The draw that is trained on, from 0.")
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _draw_exists(self) -> Self:
        if self.draw >= max(self.draws, 1):
            raise ValueError(f"draw = {self.draw} of draws = {self.draws}: draws are counted from 0")
        if self.draws and not self.balance_classes:
            raise ValueError("draws are balanced: write balance_classes = true, or remove draws")
        return self


class EvaluationConfig(Config):
    """How the operating point is chosen; always on training participants, never on test participants."""

    threshold_rule: Literal["youden", "sensitivity", "cost"] = "youden"
    min_sensitivity: float = Field(default=0.8, gt=0, lt=1)
    cost_ratio: float = later(
        1.0, gt=0, le=1000, description="Rule cost: how many false alarms one missed case weighs."
    )
    histogram_bins: int = Field(default=200, ge=10, le=2000, description="Bins of the score histograms sites return.")
