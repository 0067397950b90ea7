"""The study file: one frozen, closed, typed tree, read from TOML and known by its digest.

A study is public: every hospital reads it before it joins, and every message carries its digest. Another disease, other
features, tables only or images only is another TOML file and no code. Defaults live here and nowhere else. Objects do
not read configs; the builders do.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from sarco_models.architectures import check_image_size
from sarco_models.config_files import Config as Config
from sarco_models.config_files import load_config as load_config
from sarco_models.config_files import merged as merged
from sarco_models.config_files import read_toml as read_toml
from sarco_models.federating import FederationConfig as FederationConfig
from sarco_models.protection import PrivacyConfig as PrivacyConfig
from sarco_models.protection import ReleaseConfig as ReleaseConfig
from sarco_models.sections import DENIED as DENIED
from sarco_models.sections import IMAGE as IMAGE
from sarco_models.sections import AugmentationConfig as AugmentationConfig
from sarco_models.sections import AutoMasksConfig as AutoMasksConfig
from sarco_models.sections import EvaluationConfig as EvaluationConfig
from sarco_models.sections import Feature as Feature
from sarco_models.sections import Fraction as Fraction
from sarco_models.sections import ImageConfig as ImageConfig
from sarco_models.sections import IntensityConfig as IntensityConfig
from sarco_models.sections import LabelConfig as LabelConfig
from sarco_models.sections import ModelConfig as ModelConfig
from sarco_models.sections import Name as Name
from sarco_models.sections import SplitConfig as SplitConfig
from sarco_models.sections import TabularConfig as TabularConfig
from sarco_models.sections import TrainingConfig as TrainingConfig
from sarco_models.sections import later
from sarco_models.segmentation import SegmentationConfig as SegmentationConfig
from sarco_models.segmenter_files import segmenter_digest

NO_LABEL = LabelConfig(column="no_label", rule="none", allow_mixed_rules=True)
"""Of a study that segments: nobody is positive or negative there."""


class StudyConfig(Config):
    """Everything that a hospital agrees to when it joins."""

    name: Name
    title: str
    label: LabelConfig = later(NO_LABEL)
    segmentation: SegmentationConfig | None = later(None)
    features: tuple[Feature, ...] = ()
    image: ImageConfig = ImageConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    intensity: IntensityConfig = later(IntensityConfig())
    model: ModelConfig = later(ModelConfig(modalities=(IMAGE,)))
    tabular: TabularConfig = TabularConfig()
    split: SplitConfig = SplitConfig()
    training: TrainingConfig = TrainingConfig()
    federation: FederationConfig = FederationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    privacy: PrivacyConfig | None = later(None)
    release: ReleaseConfig = later(ReleaseConfig())

    @model_validator(mode="after")
    def _diagnoses_or_segments(self) -> Self:
        given = self.model_fields_set
        if self.segmentation is None:
            for section in ("label", "model"):
                if section not in given:
                    raise ValueError(f"[{section}] is missing: a study has [label] and [model], or [segmentation]")
            return self
        if "label" in given and self.label != NO_LABEL:
            raise ValueError("[label] and [segmentation] are two studies: remove one of them")
        if self.model.modalities != (IMAGE,):
            raise ValueError('segmentation looks at images alone: write model.modalities = ["image"], or remove it')
        if self.training.balance_classes:
            raise ValueError("segmentation has no classes of participants: write training.balance_classes = false")
        if self.image.roi != "none":
            raise ValueError(
                f'image.roi = "{self.image.roi}" would show the network what it is to find: write roi = "none"'
            )
        return self

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

    @model_validator(mode="after")
    def _private_as_a_whole(self) -> Self:
        """Everything that would make the noise a claim without substance."""
        if self.privacy is None:
            return self
        self.model.check_private()
        cfg = self.training
        if cfg.balance_classes:
            raise ValueError(
                "privacy: training.balance_classes = true picks participants by their label, and epsilon holds for "
                "Poisson sampling only: write balance_classes = false"
            )
        if not cfg.local_steps:
            raise ValueError(
                "privacy: the steps of a round must be known to everybody, for the noise follows from them: write "
                "training.local_steps"
            )
        if self.uses_images and self.intensity.standardize != "none":
            raise ValueError(
                f'privacy: intensity.standardize = "{self.intensity.standardize}" measures the grey levels of all '
                "training participants without noise, and changes everybody's images by them: write "
                '"none"'
            )
        if self.tabular.scaling == "minmax" and self.privacy.statistics != "exact":
            raise ValueError(
                'privacy: tabular.scaling = "minmax" needs values of single persons: write "standard" or '
                '"clinical_range", or privacy.statistics = "exact"'
            )
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
    def segments(self) -> bool:
        """Whether muscles are found, and nobody is diagnosed."""
        return self.segmentation is not None

    @property
    def unplanned(self) -> bool:
        """Whether hospitals are asked for what a plan is made of, and nothing can be trained yet."""
        return self.segmentation is not None and self.segmentation.unplanned

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Features whose group is a modality of the model, in the order of the study file."""
        return tuple(f for f in self.features if f.group in self.model.modalities)

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the whole study, 64 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_study(path: Path, changes: Mapping[str, Any] | None = None) -> StudyConfig:
    """Read a study file; ``changes`` are laid over it.

    A segmentation model that it names is looked for beside it, and its hash becomes a part of the study.

    Raises:
        ConfigError: the file is absent, is no TOML, or a field is unknown, missing or out of its range; or the
            segmentation model that it names is nowhere and its hash is not given.
    """
    return beside(load_config(path, StudyConfig, changes), path)


def beside(study: StudyConfig, file: Path) -> StudyConfig:
    """The study as everybody has it, knowing its segmentation model where that lies beside the study's file.

    Raises:
        ConfigError: neither the model is there nor its hash is given.
    """
    if study.image.auto is None:
        return study
    place = (file.parent / study.image.auto.segmenter).resolve()
    return _knowing(study, place, there=place.exists())


def located(study: StudyConfig, place: Path | None) -> StudyConfig:
    """The study, knowing where its segmentation model lies here; of a study that names none, the study itself.

    A model that is another one is refused when it is needed, by :func:`sarco_models.segmenter_files.agreed_place`.
    """
    return study if place is None else _knowing(study, place.resolve(), there=True)


def _knowing(study: StudyConfig, place: Path, *, there: bool) -> StudyConfig:
    auto = study.image.auto
    if auto is None:
        return study
    auto = auto.at(place if there else None, auto.sha256 or segmenter_digest(place))
    return study.model_copy(update={"image": study.image.model_copy(update={"auto": auto})})
