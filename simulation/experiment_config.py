"""The sections of an experiment file, each closed and with its defaults, and how one file is laid over another."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sarco_models.config import Config, Name, StudyConfig, located, merged, read_toml
from sarco_models.errors import ConfigError
from simulation.centers import CENTERS
from simulation.cross_validation import CrossValidation
from simulation.mask_experiment import OtherMasksConfig, SegmenterConfig
from simulation.muscle_sites import MOST_SITES, hospitals

ArmKind = Literal["local", "federated", "pooled", "tuned", "without", "pooled_without"]


_DIAGNOSED, _DRAWN = ("preset", "prevalence_shift"), ("sites", "peroneus", "annotates")
"""Keys of a cohort that only one kind of hospitals has."""


class CohortConfig(Config):
    """Synthetic hospitals to make: one set for each seed of the experiment."""

    kind: Literal["sarcopenia", "muscles"] = Field(
        default="sarcopenia", description="muscles: hospitals that draw muscles, for a study with [segmentation]."
    )
    scale: Literal["tiny", "small", "full"] = "small"
    preset: Literal["paper_matched", "table1_faithful", "as_printed"] = "paper_matched"
    central_participants: int | None = Field(
        default=None, ge=6, description="300, at scale tiny 24; of muscles 24, at full 48, at tiny 6."
    )
    width_px: int = Field(default=224, ge=32)
    device_shift: float = Field(default=1.0, ge=0, description="How far the machines lie apart; 1 = as assumed.")
    prevalence_shift: float = Field(default=1.0, ge=0, description="How far prevalences lie apart; 1 = the paper's.")
    sites: int = Field(default=3, ge=1, le=MOST_SITES, description="muscles: hospitals.")
    peroneus: Literal["physiological", "as_printed"] = Field(
        default="physiological", description="muscles: sign of r between peroneus and the time to rise five times."
    )
    annotates: dict[Name, tuple[str, ...]] = Field(
        default_factory=dict, description="muscles: which ones a hospital draws, instead of its own choice."
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        foreign = _DIAGNOSED if self.kind == "muscles" else _DRAWN
        wrong = [name for name in foreign if getattr(self, name) != _default(name)]
        if wrong:
            other = "sarcopenia" if self.kind == "muscles" else "muscles"
            raise ValueError(f'{wrong[0]}: kind = "{self.kind}" has none: remove it, or write kind = "{other}"')
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Of the hospitals.

        Raises:
            ConfigError: ``annotates`` names a hospital or a muscle that there is not.
        """
        if self.kind == "muscles":
            return tuple(h.name for h in hospitals(self.sites, self.annotates))
        return tuple(CENTERS)

    @property
    def options(self) -> dict[str, Any]:
        """What the hospitals are made with, by the names of :func:`make_cohort` or :func:`make_muscle_cohort`."""
        return self.model_dump(exclude={"kind", *(_DIAGNOSED if self.kind == "muscles" else _DRAWN)})


def _default(name: str) -> Any:
    return CohortConfig.model_fields[name].get_default(call_default_factory=True)


class Variant(Config):
    """A change of the study, run beside the study itself.

    Attributes:
        title: for people.
        arms: which arms are run with it; those of the experiment where absent.
        overrides: laid over the study, after the experiment's own.
        cohort: laid over the experiment's cohort: other hospitals.
        framed_as: the variant whose planned network's window and pixels this one's images get, so that two networks
            are held against the same outlines.
    """

    title: str
    arms: tuple[ArmKind, ...] | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    cohort: dict[str, Any] = Field(default_factory=dict)
    framed_as: str = ""


class ExperimentConfig(Config):
    """A comparison of arms.

    Attributes:
        extends: another experiment file, beside this one, that this one is laid over; of the two, one's variants are
            run: this one's, if it has any.
        study: path of the study file, relative to this file.
        overrides: laid over the study file.
        seeds: one run of every arm for each; of synthetic hospitals, another set of people as well.
        arms: ``local``, ``tuned``, ``without`` and ``pooled_without`` stand for one arm of each hospital.
        study_itself: run the study as it is, beside its variants.
        variants: changes of the study, in the order in which they are shown; candidates of a cross-validation.
        tuning: laid over the study for ``tuned`` arms.
        external: of a hospital that an arm does not train on, everybody is scored, not its test participants alone.
        cross_validation: the paper's way; there are no other arms then.
        pretrain: image networks without shipped weights, such as a Swin: trained on rendered phantoms before anything
            else, and the start of every study that names them.
        explain: names of arms, without seed, whose modalities' and features' contributions are computed.
        explain_images: names of arms whose image networks' Grad-CAM is drawn and checked.
        segmenter: a model that finds the muscle, trained by the experiment for its studies with ``image.roi = "auto"``.
        other_masks: finished arms that are scored again on other masks.
        controls: name -> ``prevalence``, ``image_count``, ``feature:NAME`` or ``logistic:GROUP``.
        cohort: synthetic hospitals; or else ``sites``, name -> folder, and ``central``, a folder of test participants.
    """

    name: Name
    title: str
    extends: str = ""
    study: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    arms: tuple[ArmKind, ...] = ("federated", "pooled", "local")
    study_itself: bool = True
    variants: dict[Name, Variant] = Field(default_factory=dict)
    tuning: dict[str, Any] = Field(default_factory=lambda: {"federation": {"rounds": 5}})
    external: bool = False
    cross_validation: CrossValidation | None = None
    pretrain: tuple[str, ...] = ()
    explain: tuple[str, ...] = ()
    explain_images: tuple[str, ...] = ()
    segmenter: SegmenterConfig | None = None
    other_masks: OtherMasksConfig | None = None
    controls: dict[str, str] = Field(default_factory=dict)
    cohort: CohortConfig | None = None
    sites: dict[Name, str] = Field(default_factory=dict)
    central: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.cohort is None) == (not self.sites):
            raise ValueError("give either [cohort], to make synthetic hospitals, or [sites], folders of data")
        if self.sites and not (self.central or self.cross_validation):
            raise ValueError("central is missing: name a folder of test participants whom no site holds")
        if not self.study_itself and not self.variants:
            raise ValueError("study_itself = false and no variants: there is nothing to run")
        return self

    @model_validator(mode="after")
    def _others_teach_the_segmenter(self) -> Self:
        if self.segmenter is None:
            return self
        if not self.cohort or self.cohort.kind != "sarcopenia":
            raise ValueError("segmenter: is trained on computer-made people with a diagnosis: that needs [cohort]")
        if self.segmenter.seed in self.seeds:
            raise ValueError(
                f"segmenter.seed = {self.segmenter.seed}: is a seed of the experiment, whose people it must not have "
                "seen: write another"
            )
        return self

    @model_validator(mode="after")
    def _variants_fit(self) -> Self:
        for kinds in (self.arms, *(v.arms for v in self.variants.values() if v.arms)):
            if "tuned" in kinds and "federated" not in kinds:
                raise ValueError('arms: "tuned" begins with the federated model: add "federated"')
        if any(v.cohort for v in self.variants.values()) and not self.cohort:
            raise ValueError("variants change the cohort: that needs [cohort], synthetic hospitals")
        if self.cross_validation and any(v.cohort or v.arms for v in self.variants.values()):
            raise ValueError("candidates of a cross-validation have the same people and arms: remove cohort and arms")
        if self.cross_validation and self.controls:
            raise ValueError("controls are fitted on all hospitals: a cross-validation has none; remove them")
        return self


def with_weights(overrides: Mapping[str, Any], pretrain: Sequence[str], folder: Path) -> dict[str, Any]:
    """The overrides, with the weights of a network that the experiment trains itself."""
    backbone = overrides.get("model", {}).get("backbone")
    made = {"model": {"weights": str((folder / f"{backbone}.safetensors").resolve())}} if backbone in pretrain else {}
    return merged(overrides, made)


def extended(path: Path) -> dict[str, Any]:
    """The file laid over the one that it extends."""
    own = read_toml(path)
    if not own.get("extends"):
        return own
    parent = extended(path.parent / str(own["extends"]))
    if own.get("variants"):
        parent.pop("variants", None)
    return merged(parent, own)


def merged_cohort(cohort: CohortConfig | None, variant: Variant) -> CohortConfig | None:
    """The cohort with a variant's changes.

    Raises:
        ConfigError: a key is unknown or out of its range.
    """
    if cohort is None or not variant.cohort:
        return cohort
    try:
        return CohortConfig.model_validate(merged(cohort.model_dump(), variant.cohort))
    except ValueError as error:
        raise ConfigError(f"cohort: {error}") from None


def merged_study(study: StudyConfig, changes: Mapping[str, Any]) -> StudyConfig:
    """A study with changes laid over it, checked again.

    Raises:
        ConfigError: a key is unknown or out of its range.
    """
    try:
        found = StudyConfig.model_validate(merged(study.model_dump(), changes))
    except ValueError as error:
        raise ConfigError(f"study: {error}") from None
    return located(found, study.image.auto.place if study.image.auto else None)
