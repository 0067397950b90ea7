"""The two sections of an experiment file that ask what masks are worth: who finds them, and what else is drawn.

[segmenter]       a model that finds the muscle, trained by the experiment itself on people of its own
[other_masks]     finished models scored again on other masks, with nothing else changed
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sarco_models.config import Config, Name, StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.mask_perturbation import Direction

Change = Literal["dilate", "erode", "shift"] | Direction


class SegmenterConfig(Config):
    """A segmentation model that an experiment trains before anything else.

    Its people are computer-made by the same rules as those of [cohort], and none of them is in the experiment: another
    seed, other people. Every study of the experiment with ``image.roi = "auto"`` is given it.
    """

    study: str = Field(description="A study with [segmentation], relative to the experiment's file.")
    overrides: dict[str, Any] = Field(default_factory=dict, description="Laid over that study.")
    seed: int = Field(default=1000, ge=0, description="Of its people and its training; none of the experiment's seeds.")
    scale: Literal["tiny", "small", "full"] = "small"
    central_participants: int = Field(default=48, ge=6, description="On whom it is tested.")
    device_shift: float = Field(default=1.0, ge=0, description="As in [cohort].")


class OtherMasksConfig(Config):
    """Which finished models are scored again on other masks; their weights and thresholds stay as they are."""

    arms: tuple[str, ...] = Field(min_length=1, description="Names of arms, without seed, whose study has roi = mask.")
    changes: tuple[Change, ...] = Field(
        default=("dilate", "erode", "shift"),
        description="shift: each image in one of eight directions of its own; or one of these, for all images.",
    )
    mm: tuple[float, ...] = Field(default=(1.0, 2.0), description="How far.")
    views: tuple[Name, ...] = Field(
        default=(), description="Variants whose way of looking at images is tried in place of the drawn masks."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.changes and not self.mm:
            raise ValueError("mm: says how far masks are changed: write mm = [1.0, 2.0], or changes = []")
        for mm in self.mm:
            if not 0 < mm <= 20:
                raise ValueError(f"mm: {mm:g}: more than 0, at most 20 millimetres")
        for name in ("arms", "changes", "mm", "views"):
            values = getattr(self, name)
            twice = next((v for v in values if values.count(v) > 1), None)
            if twice is not None:
                raise ValueError(f"{name}: {twice!r} is listed twice: remove one")
        return self

    @property
    def each(self) -> tuple[tuple[Change, float], ...]:
        """Every change with every distance."""
        return tuple((change, mm) for change in self.changes for mm in self.mm)


def check_masks(
    path: Path, cfg: OtherMasksConfig | None, studies: Mapping[str, StudyConfig], arms: Sequence[str]
) -> None:
    """Refuse models and views that cannot be scored on other masks.

    Args:
        path: of the experiment's file, for the error's text.
        cfg: None = none is asked for.
        studies: variant -> study.
        arms: names of all arms.

    Raises:
        ConfigError: names the file, the field and the way out.
    """
    if cfg is None:
        return
    for name in cfg.arms:
        if name not in arms or name.startswith("cv:"):
            known = ", ".join(arm for arm in arms if not arm.startswith("cv:"))
            raise ConfigError(f"{path}: other_masks.arms: {name!r} is none of the arms {known or 'of a comparison'}")
        study = studies[name.partition("@")[2]]
        if not study.uses_images or study.segments or study.image.roi != "mask":
            raise ConfigError(
                f"{path}: other_masks.arms: {name} looks at no drawn masks: name an arm that diagnoses, with "
                'image.roi = "mask"'
            )
        for view in cfg.views:
            if view not in studies or not studies[view].uses_images:
                raise ConfigError(f"{path}: other_masks.views: {view!r} is no variant that looks at images")
            if studies[view].image.size != study.image.size:
                raise ConfigError(
                    f"{path}: other_masks.views: {view} looks at {studies[view].image.size} pixels, and {name} at "
                    f"{study.image.size}: give both the same image.size"
                )
