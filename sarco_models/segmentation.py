"""The section of a study file that asks for muscles instead of a diagnosis: which, by which network.

A study with this section segments: every pixel of an image gets a muscle or none (Zhang et al., Gerontechnology 25(s)).
``model.backbone`` is the encoder of a U-Net; nnU-Net has a network of its own, which follows from ``plan``.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from sarco_models.config_files import Config
from sarco_models.sections import Name, later

BACKGROUND, OUTSIDE = 0, 255
"""Of a pixel: no muscle of the study; beyond the frame, so that nothing may be learned or measured there."""


class MuscleConfig(Config):
    """One muscle, or group of muscles, that is drawn and found."""

    name: Name
    labels: tuple[str, ...] = Field(
        default=(),
        description="Further names of it in masks and in images.csv: LabelMe labels, ITK-SNAP's numbers, colours.",
    )
    words: str = Field(default="", pattern=r"^[^\n]{0,60}$", description="As people say it; default: the name.")

    @property
    def title(self) -> str:
        """In words for people."""
        return self.words or self.name.replace("_", " ")

    def is_called(self, text: str) -> bool:
        """Whether a label in a file, or a cell of images.csv, is this muscle."""
        return _key(text) in {_key(self.name), *map(_key, self.labels)}


def _key(text: str) -> str:
    """Capitals, spaces, hyphens and underscores tell no muscles apart."""
    return "".join(c for c in text.casefold() if c.isalnum() or c in "#+")


class PlanConfig(Config):
    """What nnU-Net configures by itself (Isensee et al. 2021), as all hospitals have agreed on it.

    ``sarco-lab plan`` and ``sarco-coordinator plan`` make it from sums over the hospitals' training participants; it is
    a part of the study, so that everybody approves the network that is trained.
    """

    patch: tuple[int, int] = Field(description="Rows and columns of the network's input.")
    mm_per_pixel: float = Field(gt=0.005, le=2, description="Of the network's input, the same in both directions.")
    features: tuple[int, ...] = Field(min_length=2, max_length=9, description="Channels of each stage, finest first.")
    convolutions: int = Field(default=2, ge=1, le=4, description="In each stage, of the way down and of the way up.")
    grey_mean: float = Field(ge=0, le=255, description="Of the pixels inside the muscles, over all hospitals.")
    grey_sd: float = Field(gt=0, le=255)


class SegmentationConfig(Config):
    """Which muscles, and how they are found."""

    muscles: tuple[MuscleConfig, ...] = Field(min_length=1, max_length=32)
    classes: Literal["muscles", "asked", "one"] = Field(
        default="muscles",
        description="muscles: the network says which muscle each pixel belongs to; asked: it finds the muscle that it "
        "is asked for, and images.csv says which that is; one: the same for all muscles, without being told which.",
    )
    network: Literal["unet", "nnunet"] = "unet"
    plan: PlanConfig | None = Field(default=None, description="nnunet: see there; without it nothing can be trained.")
    budget: Literal["small", "full"] = later("small", description="Of a plan: for two cores; for a graphics processor.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        first: dict[str, str] = {}
        for muscle in self.muscles:
            for text in (muscle.name, *muscle.labels):
                other = first.setdefault(_key(text), muscle.name)
                if other != muscle.name:
                    raise ValueError(f"{text!r} is a name of {other} and of {muscle.name}: leave it to one of them")
                if not _key(text):
                    raise ValueError(f"{text!r} of {muscle.name} has neither a letter nor a digit: write a name")
        if self.budget != "small" and self.network != "nnunet":
            raise ValueError(f'budget: network = "{self.network}" has no plan: remove it, or write network = "nnunet"')
        if self.plan and self.network != "nnunet":
            raise ValueError(f'plan: network = "{self.network}" has none: remove it, or write network = "nnunet"')
        return self

    @property
    def unplanned(self) -> bool:
        """Whether the network's plan is still to be made: hospitals tell the sums for it, and train nothing."""
        return self.network == "nnunet" and self.plan is None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the muscles; the k-th, counted from 1, is class k of a target."""
        return tuple(m.name for m in self.muscles)

    @property
    def single(self) -> bool:
        """Whether a target holds one muscle alone, the one that images.csv says the image is of."""
        return self.classes != "muscles"

    @property
    def outputs(self) -> int:
        """Classes of a target, and what the network gives for each pixel, the background among them."""
        return 2 if self.single else len(self.muscles) + 1

    @property
    def to_ask_for(self) -> int:
        """Muscles of which the network is told one with each image; 0 = it is told none."""
        return len(self.muscles) if self.classes == "asked" else 0

    def find(self, text: str) -> str | None:
        """Name of the muscle that a text means; None where it means none of the study's."""
        return next((m.name for m in self.muscles if m.is_called(text)), None)
