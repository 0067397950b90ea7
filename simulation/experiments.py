"""An experiment file: which hospitals, which arms, which changes of the study, with which seeds.

OUT/cohort-SEED/           synthetic hospitals, where the experiment makes them
OUT/cache/                 preprocessed images, shared by all arms; safe to delete
OUT/arms/SEED/ARM/         one run directory each, with the scores of everybody who was held out
OUT/results.json           {meta, rows, tables}; scores.csv, contact sheets, figures and report.html stand beside it
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from sarco_models.config import Config, FederationConfig, Name, StudyConfig, load_config, merged, read_toml
from sarco_models.errors import ConfigError
from simulation.admission import check_experiment
from simulation.arms import CENTRAL, Arm, SiteFolder
from simulation.centers import CENTERS
from simulation.cross_validation import CrossValidation

Engine = Literal["inprocess", "flower"]
ArmKind = Literal["local", "federated", "pooled", "tuned", "without", "pooled_without"]
MANIFEST = "manifest.json"
_ALONE = {"local", "tuned", "pooled", "pooled_without", "cv"}


class CohortConfig(Config):
    """Synthetic hospitals to make: one set for each seed of the experiment."""

    scale: Literal["tiny", "small", "full"] = "small"
    preset: Literal["paper_matched", "table1_faithful", "as_printed"] = "paper_matched"
    central_participants: int | None = Field(default=None, ge=6, description="300; at scale tiny 24.")
    width_px: int = Field(default=224, ge=32)
    device_shift: float = Field(default=1.0, ge=0, description="How far the machines lie apart; 1 = as assumed.")
    prevalence_shift: float = Field(default=1.0, ge=0, description="How far prevalences lie apart; 1 = the paper's.")


class Variant(Config):
    """A change of the study, run beside the study itself.

    Attributes:
        title: for people.
        arms: which arms are run with it; those of the experiment where absent.
        overrides: laid over the study, after the experiment's own.
        cohort: laid over the experiment's cohort: other hospitals.
    """

    title: str
    arms: tuple[ArmKind, ...] | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    cohort: dict[str, Any] = Field(default_factory=dict)


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
        explain: names of arms, without seed, whose modalities' and features' contributions are computed.
        explain_images: names of arms whose image networks' Grad-CAM is drawn and checked.
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
    explain: tuple[str, ...] = ()
    explain_images: tuple[str, ...] = ()
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


@dataclass(frozen=True)
class Experiment:
    """An experiment in its folder.

    Attributes:
        config: the file, with the command line's changes.
        studies: variant -> study; the study itself under the empty name, also where it is not run.
        base: folder of the file.
        out: where everything goes.
        engine: what carries the messages.
        shared: where hospitals and preprocessed images are kept; several experiments may share them.
    """

    config: ExperimentConfig
    studies: Mapping[str, StudyConfig]
    base: Path
    out: Path
    engine: Engine
    shared: Path

    @staticmethod
    def load(
        path: Path,
        out: Path,
        engine: Engine = "inprocess",
        changes: Mapping[str, Any] | None = None,
        *,
        shared: Path | None = None,
    ) -> "Experiment":
        """Read an experiment file; ``changes`` are laid over it (scale and seeds of the command line).

        Raises:
            ConfigError: the experiment, its study or a variant of it is wrong.
        """
        config = load_config(path, ExperimentConfig, merged(_extended(path), changes or {}))
        file = path.parent / config.study
        studies = {"": load_config(file, StudyConfig, config.overrides)}
        for name, variant in config.variants.items():
            try:
                studies[name] = load_config(file, StudyConfig, merged(config.overrides, variant.overrides))
                merged_cohort(config.cohort, variant)
            except ConfigError as error:
                raise ConfigError(f"{path}: variants.{name}: {error}") from None
        experiment = Experiment(config, studies, path.parent, out, engine, shared or out)
        experiment.check(path)
        return experiment

    @property
    def study(self) -> StudyConfig:
        """The study itself."""
        return self.studies[""]

    @property
    def variants(self) -> dict[str, Variant]:
        """All that is run, in order; the study itself under the empty name."""
        own = {"": Variant(title="")} if self.config.study_itself else {}
        return {**own, **self.config.variants}

    def check(self, path: Path) -> None:
        """Refuse what would fail only after hours; see :func:`simulation.admission.check_experiment`."""
        cfg = self.config
        named = {**cfg.sites, **({CENTRAL: cfg.central} if cfg.central else {})}
        check_experiment(
            path,
            [self.studies[name] for name in ("", *self.config.variants)],
            sites=list(cfg.sites) or list(CENTERS),
            folders={name: self.base / folder for name, folder in named.items()},
            controls=cfg.controls,
            seeds=cfg.seeds,
            together=any(name.partition(":")[0] in ("federated", "without") for name in self._arm_names()),
            scored_only=bool(cfg.cohort or cfg.central or cfg.cross_validation or cfg.external),
        )
        known = self._arm_names()
        for name in (*cfg.explain, *cfg.explain_images):
            if name not in known:
                raise ConfigError(f"{path}: explain: {name!r} is none of the arms {', '.join(known)}")
        if cfg.cross_validation and cfg.cross_validation.site not in (list(cfg.sites) or list(CENTERS)):
            raise ConfigError(f"{path}: cross_validation.site = {cfg.cross_validation.site!r}: is no hospital here")

    def _arm_names(self) -> list[str]:
        """Names of all arms, before there are any folders."""
        cfg, names = self.config, []
        sites = [SiteFolder(name, Path(), "") for name in sorted(cfg.sites or CENTERS)]
        for name, variant in self.variants.items():
            plain = (
                [f"cv:{cfg.cross_validation.site}"] if cfg.cross_validation else _names(variant.arms or cfg.arms, sites)
            )
            names += [f"{arm}@{name}" if name else arm for arm in plain]
        return names

    def cohort(self, variant: str) -> CohortConfig | None:
        """The synthetic hospitals of a variant."""
        return merged_cohort(self.config.cohort, self.variants[variant]) if variant else self.config.cohort

    def data(self, seed: int, variant: str = "") -> Path:
        """Folder of the hospitals' folders of a seed; variants that change nothing of them share them."""
        own = f"-{variant}" if variant and self.config.variants[variant].cohort else ""
        return self.shared / f"cohort-{seed}{own}"

    def sites(self, seed: int, variant: str = "") -> tuple[SiteFolder, ...]:
        """The hospitals, in the order of their names."""
        if self.config.cohort:
            there = self.data(seed, variant)
            folders = {p.name: p for p in there.iterdir() if p.is_dir() and p.name not in (CENTRAL, "truth")}
        else:
            folders = {name: self.base / folder for name, folder in self.config.sites.items()}
        return tuple(SiteFolder(name, folders[name], self._label_rule(folders[name])) for name in sorted(folders))

    def central(self, seed: int, variant: str = "") -> Path | None:
        """Folder of the central test cohort; None where there is none."""
        if self.config.cohort:
            return self.data(seed, variant) / CENTRAL
        return self.base / self.config.central if self.config.central else None

    def arms(self, seed: int) -> list[Arm]:
        """All arms of a seed; one that begins with another comes after it."""
        found = []
        for name, variant in self.variants.items():
            sites = self.sites(seed, name)
            if self.config.cross_validation:
                found += list(self._folds(self.config.cross_validation, name, seed, sites))
            else:
                found += [self._arm(arm, name, seed, sites) for arm in _names(variant.arms or self.config.arms, sites)]
        return sorted(found, key=lambda arm: arm.begin is not None)

    def _arm(self, name: str, variant: str, seed: int, sites: tuple[SiteFolder, ...]) -> Arm:
        study, kind = self.studies[variant], name.partition(":")[0]
        full = f"{name}@{variant}" if variant else name
        begin = None
        if kind == "tuned":
            study = merged_study(study, self.config.tuning)
            begin = self._folder(f"federated@{variant}" if variant else "federated", seed)
        others = 1 if kind in _ALONE else len(sites) - (kind == "without")
        study = _seeded(study, seed, others)
        if kind.startswith("pooled") and study.training.local_steps:
            # The one site makes as many steps as the hospitals that it stands for make together.
            steps = study.training.local_steps * (len(sites) - (kind == "pooled_without"))
            study = merged_study(study, {"training": {"local_steps": steps}})
        central = self.central(seed, variant)
        return Arm(full, study, sites, central, self.cache, self._folder(full, seed), begin, self.config.external)

    def _folds(self, cfg: CrossValidation, variant: str, seed: int, sites: tuple[SiteFolder, ...]) -> Iterator[Arm]:
        name = f"cv:{cfg.site}@{variant}" if variant else f"cv:{cfg.site}"
        for fold in range(cfg.folds):
            for draw in range(max(cfg.draws, 1)):
                changes = {"split": {"folds": cfg.folds, "fold": fold}, "training": {"draws": cfg.draws, "draw": draw}}
                study = _seeded(merged_study(self.studies[variant], changes), seed, 1)
                folder = self._folder(name, seed) / f"fold{fold}-draw{draw}"
                yield Arm(name, study, sites, None, self.cache, folder, external=True)

    @property
    def cache(self) -> Path:
        """Preprocessed images."""
        return self.shared / "cache"

    def _folder(self, name: str, seed: int) -> Path:
        return self.out / "arms" / str(seed) / name.replace(":", "-")

    def _label_rule(self, folder: Path) -> str:
        manifest = folder / MANIFEST
        stated = json.loads(manifest.read_text(encoding="utf-8")).get("label_rule") if manifest.is_file() else None
        return str(stated or self.study.label.rule)


def _extended(path: Path) -> dict[str, Any]:
    """The file laid over the one that it extends."""
    own = read_toml(path)
    if not own.get("extends"):
        return own
    parent = _extended(path.parent / str(own["extends"]))
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
        return StudyConfig.model_validate(merged(study.model_dump(), changes))
    except ValueError as error:
        raise ConfigError(f"study: {error}") from None


def _seeded(study: StudyConfig, seed: int, sites: int) -> StudyConfig:
    """The study with this seed, asking for every hospital in every round.

    A federation of one has nobody to agree with: its strategy is a plain average of one.
    """
    federation = study.federation.model_copy(update={"min_sites": sites})
    if sites == 1:
        kept = {name: getattr(federation, name) for name in ("rounds", "min_participants", "round_deadline_s")}
        federation = FederationConfig(min_sites=1, **kept)
    training = study.training.model_copy(update={"seed": seed})
    return study.model_copy(update={"training": training, "federation": federation})


def _names(kinds: Sequence[str], sites: Sequence[SiteFolder]) -> list[str]:
    """Names of the arms, those with the most work first."""
    together = [kind for kind in ("federated", "pooled") if kind in kinds]
    each = [kind for kind in ("without", "pooled_without", "local", "tuned") if kind in kinds]
    return together + [f"{kind}:{site.name}" for kind in each for site in sites]


def with_scale(scale: str | None, seeds: Sequence[int]) -> dict[str, Any]:
    """What the command line lays over an experiment file."""
    changes: dict[str, Any] = {"cohort": {"scale": scale}} if scale else {}
    return changes | ({"seeds": list(seeds)} if seeds else {})
