"""An experiment file: which hospitals, which arms, which changes of the study, with which seeds.

OUT/cohort-SEED/           synthetic hospitals, where the experiment makes them
OUT/cache/                 preprocessed images, shared by all arms; safe to delete
OUT/plans/SEED/VARIANT/    where a network has no plan yet: the run in which the hospitals of a seed make it
OUT/arms/SEED/ARM/         one run directory each, with the scores of everybody who was held out
OUT/results.json           {meta, rows, tables}; scores.csv, contact sheets, figures and report.html stand beside it
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sarco_models.config import FederationConfig, StudyConfig, load_config, load_study, merged
from sarco_models.errors import ConfigError
from sarco_models.fingerprint import planned_image
from sarco_models.masking import MIN_SITES
from sarco_models.plan_words import planned_study
from sarco_models.segmentation import PlanConfig
from simulation.admission import OF_DIAGNOSES, check_experiment, check_plans
from simulation.arms import CENTRAL, Arm, SiteFolder
from simulation.cross_validation import CrossValidation
from simulation.experiment_config import (
    CohortConfig,
    ExperimentConfig,
    Variant,
    extended,
    merged_cohort,
    merged_study,
    with_weights,
)
from simulation.mask_experiment import check_masks
from simulation.segmenter_place import knowing, with_segmenter

Engine = Literal["inprocess", "flower"]
MANIFEST = "manifest.json"
STUDY_ITSELF = "study"
"""Folder of the study's own plan, beside those of its variants."""

_ALONE = {"local", "tuned", "pooled", "pooled_without", "cv"}


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
        plans: variant and seed -> what the hospitals of the seed have planned, once they have.
    """

    config: ExperimentConfig
    studies: Mapping[str, StudyConfig]
    base: Path
    out: Path
    engine: Engine
    shared: Path
    plans: Mapping[tuple[str, int], PlanConfig] = field(default_factory=dict)

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
        config = load_config(path, ExperimentConfig, merged(extended(path), changes or {}))
        file = path.parent / config.study
        place = shared or out

        def study(overrides: Mapping[str, Any]) -> StudyConfig:
            found = with_weights(overrides, config.pretrain, place / "weights")
            return load_study(file, with_segmenter(found, config.segmenter, place))

        studies = {"": study(config.overrides)}
        for name, variant in config.variants.items():
            try:
                studies[name] = study(merged(config.overrides, variant.overrides))
                _require_one_kind(config.cohort, merged_cohort(config.cohort, variant))
            except ConfigError as error:
                raise ConfigError(f"{path}: variants.{name}: {error}") from None
        experiment = Experiment(config, studies, path.parent, out, engine, place)
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
            sites=self.site_names,
            folders={name: self.base / folder for name, folder in named.items()},
            controls=cfg.controls,
            seeds=cfg.seeds,
            together=any(name.partition(":")[0] in ("federated", "without") for name in self.arm_names()),
            scored_only=bool(cfg.cohort or cfg.central or cfg.cross_validation or cfg.external),
            kind=cfg.cohort.kind if cfg.cohort else "",
            diagnosing=[name for name in OF_DIAGNOSES if getattr(cfg, name)],
        )
        known = self.arm_names()
        for name in (*cfg.explain, *cfg.explain_images):
            if name not in known:
                raise ConfigError(f"{path}: explain: {name!r} is none of the arms {', '.join(known)}")
        check_masks(path, cfg.other_masks, self.studies, known)
        check_plans(path, cfg, self.studies)
        if cfg.cross_validation and cfg.cross_validation.site not in self.site_names:
            raise ConfigError(f"{path}: cross_validation.site = {cfg.cross_validation.site!r}: is no hospital here")

    def knowing_its_segmenter(self) -> "Experiment":
        """The same experiment once its segmentation model is trained: its studies carry the model's hash."""
        return replace(self, studies={name: knowing(study, self.shared) for name, study in self.studies.items()})

    def study_of(self, variant: str, seed: int) -> StudyConfig:
        """A variant's study for the people of a seed: with the plan that their hospitals have made, once they have."""
        study, framed_as = self.studies[variant], self.config.variants[variant].framed_as if variant else ""
        if plan := self.plans.get((variant, seed)):
            return planned_study(study, plan)
        if framed_as and (plan := self.plans.get((framed_as, seed))):
            return merged_study(study, {"image": planned_image(plan, study.image).model_dump()})
        return study

    def drafts(self, seed: int) -> dict[tuple[str, int], Arm]:
        """Variant and seed -> the arm whose hospitals plan its network, where it has no plan yet."""
        found = {}
        for name in self.variants:
            if self.study_of(name, seed).unplanned:
                sites = self.sites(seed, name)
                study = _seeded(self.studies[name], seed, len(sites))
                found[name, seed] = Arm("federated", study, sites, None, self.cache, self.plan_folder(name, seed))
        return found

    def plan_folder(self, variant: str, seed: int) -> Path:
        """Run directory of the hospitals that plan a variant's network."""
        return self.out / "plans" / str(seed) / (variant or STUDY_ITSELF)

    @property
    def site_names(self) -> list[str]:
        """Names of the hospitals, before there are any folders."""
        return list(self.config.cohort.names if self.config.cohort else self.config.sites)

    def arm_names(self) -> list[str]:
        """Of all arms, before there are any folders."""
        cfg, names = self.config, []
        for name, variant in self.variants.items():
            cohort = self.cohort(name)
            sites = [SiteFolder(site, Path(), "") for site in sorted(cohort.names if cohort else cfg.sites)]
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
        study, kind = self.study_of(variant, seed), name.partition(":")[0]
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

    def weights(self, backbone: str) -> Path:
        """Where the weights of a network are that this experiment trains on phantoms."""
        return self.shared / "weights" / f"{backbone}.safetensors"

    def _folder(self, name: str, seed: int) -> Path:
        return self.out / "arms" / str(seed) / name.replace(":", "-")

    def _label_rule(self, folder: Path) -> str:
        manifest = folder / MANIFEST
        stated = json.loads(manifest.read_text(encoding="utf-8")).get("label_rule") if manifest.is_file() else None
        return str(stated or self.study.label.rule)


def _require_one_kind(own: CohortConfig | None, changed: CohortConfig | None) -> None:
    if own and changed and own.kind != changed.kind:
        raise ConfigError(f"cohort.kind = {changed.kind!r}: the experiment's is {own.kind!r}: remove it here")


def _seeded(study: StudyConfig, seed: int, sites: int) -> StudyConfig:
    """The study with this seed, asking for every hospital in every round.

    A federation of one has nobody to agree with: its strategy is a plain average of one. Two cannot hide in their sum.
    """
    masked = study.federation.secure_aggregation and sites >= MIN_SITES
    federation = study.federation.model_copy(update={"min_sites": sites, "secure_aggregation": masked})
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
