"""What is wrong with an experiment, said before anything of it runs: hours of training end in no error of a name."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE
from sarco_models.sheets import find_table
from simulation.arms import CENTRAL
from simulation.experiment_config import ExperimentConfig, Variant

RESERVED = (CENTRAL, "pooled", "all", "truth")
"""Names that results give to others than a hospital."""

OF_DIAGNOSES = {
    "controls": "they guess a diagnosis",
    "explain": "contributions are of modalities and features to a diagnosis",
    "explain_images": "heat maps are of a diagnosis; its outlines are what the network has seen",
    "cross_validation": "its folds are put together by the probabilities of a diagnosis; give several seeds instead",
}
"""Settings of an experiment that say nothing of a study with [segmentation], and why."""

_LEFT_OUT = ("without", "pooled_without")

_TWICE = {
    True: "so that models would be tested on whom they were trained: name a folder of people whom no site holds",
    False: "so that its people would count twice: remove one",
}


def check_experiment(  # noqa: PLR0913 - what an experiment consists of
    path: Path,
    studies: Sequence[StudyConfig],
    *,
    sites: Sequence[str],
    folders: Mapping[str, Path],
    controls: Mapping[str, str],
    seeds: Sequence[int],
    together: bool = True,
    scored_only: bool = False,
    kind: str = "",
    diagnosing: Sequence[str] = (),
) -> None:
    """Refuse an experiment that cannot be run as it is written.

    Args:
        path: the experiment's file, for the words.
        studies: all that will be run, the study itself first; they have the same features.
        sites: names of the hospitals.
        folders: of those that are not made by the experiment, and of the central cohort, under its own name.
        controls: name -> kind; see :func:`simulation.controls.control_scores`.
        seeds: of the experiment.
        together: whether any arm joins hospitals.
        scored_only: whether anybody belongs to a cohort that no arm trains on.
        kind: of the synthetic hospitals; empty where there are none.
        diagnosing: settings of :data:`OF_DIAGNOSES` that the experiment makes.

    Raises:
        ConfigError: names the file, the field, the value and the way out, for every fault at once.
    """
    faults = [
        *_aim_faults(studies, kind, diagnosing),
        *_seed_faults(seeds),
        *_name_faults(sites),
        *_folder_faults(folders, images=any(study.uses_images for study in studies)),
        *(_quorum_faults(sites, studies) if together else ()),
        *(() if "controls" in diagnosing and studies[0].segments else _control_faults(controls, studies)),
        *(_intensity_faults(studies) if scored_only else ()),
    ]
    if faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults))


def _aim_faults(studies: Sequence[StudyConfig], kind: str, diagnosing: Sequence[str]) -> Iterator[str]:
    """What does not go together with what the study looks for: muscles, or a diagnosis."""
    segments = studies[0].segments
    if any(study.segments != segments for study in studies):
        yield "variants: some find muscles and some a diagnosis: make two experiments of them"
    if kind and segments != (kind == "muscles"):
        other, looks = ("muscles", "finds muscles") if segments else ("sarcopenia", "looks for a diagnosis")
        yield f'cohort.kind = "{kind}": the study {looks}: write kind = "{other}", or name another study'
    if segments:
        for name in diagnosing:
            yield f"{name}: the study finds muscles, and {OF_DIAGNOSES[name]}: remove it"


def _seed_faults(seeds: Sequence[int]) -> Iterator[str]:
    for seed in dict.fromkeys(seed for seed in seeds if seeds.count(seed) > 1):
        yield f"seeds: {seed} is listed twice, and the same seed is the same run: remove one"


def _name_faults(sites: Iterable[str]) -> Iterator[str]:
    for name in sites:
        if name in RESERVED:
            yield f"sites.{name}: results use this name for others than a hospital: give the hospital another"


def _folder_faults(folders: Mapping[str, Path], *, images: bool) -> Iterator[str]:
    whose: dict[Path, str] = {}
    for name, folder in folders.items():
        field = name if name == CENTRAL else f"sites.{name}"
        twin = whose.setdefault(folder.resolve(), field)
        if not folder.is_dir():
            yield f"{field} = {str(folder)!r}: there is no such folder: name one that holds {PARTICIPANTS_FILE}"
        elif twin != field:
            yield f"{field} = {str(folder)!r}: is {twin} as well, {_TWICE[field == CENTRAL]}"
        else:
            needed = (PARTICIPANTS_FILE, *([IMAGES_FILE] if images else []))
            for table in (t for t in needed if not find_table(folder / t).is_file()):
                yield f"{field} = {str(folder)!r}: holds no {table}: let `sarco-site ingest` write it, or name another"


def _quorum_faults(sites: Sequence[str], studies: Sequence[StudyConfig]) -> Iterator[str]:
    wanted = max(study.federation.min_sites for study in studies)
    if wanted > len(sites):
        yield (
            f"the study's federation.min_sites = {wanted}, and there are {len(sites)} sites: lower it in the study or "
            "under [overrides.federation], or add sites"
        )


def _intensity_faults(studies: Sequence[StudyConfig]) -> Iterator[str]:
    for study in studies:
        if study.intensity.standardize != "none" and not study.split.calibration:
            yield (
                f"intensity.standardize = {study.intensity.standardize!r} and split.calibration = 0: where a cohort is "
                "only scored, its machines need people to be measured on: write calibration = 0.2"
            )
            return


def _control_faults(controls: Mapping[str, str], studies: Sequence[StudyConfig]) -> Iterator[str]:
    for name, kind in controls.items():
        fault = _about(kind, studies[0])
        if kind == "image_count" and not any(study.uses_images for study in studies):
            fault = "the study looks at no images: remove it"
        if fault:
            yield f"controls.{name} = {kind!r}: {fault}"


def _about(kind: str, study: StudyConfig) -> str:
    """What is wrong with a control; empty when nothing is."""
    if kind in ("prevalence", "image_count"):
        return ""
    what, _, name = kind.partition(":")
    known = {"feature": [f.name for f in study.features], "logistic": list(study.groups)}.get(what)
    if known is None:
        return "no such control: write prevalence, image_count, feature:NAME or logistic:GROUP"
    if name in known:
        return ""
    noun = {"feature": "feature", "logistic": "group of features"}[what]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {what}:{near[0]}?" if near else f"known here: {', '.join(known) or 'none'}"
    return f"the study has no {noun} {name}; {hint}"


def check_plans(path: Path, cfg: ExperimentConfig, studies: Mapping[str, StudyConfig]) -> None:
    """Refuse what an experiment cannot plan.

    Args:
        path: the experiment's file, for the words.
        cfg: what it says.
        studies: variant -> study; the study itself under the empty name.

    Raises:
        ConfigError: names the file, the field, the value and the way out, for every fault at once.
    """
    itself = {"": Variant(title="")} if cfg.study_itself else {}
    faults = []
    for name, variant in {**itself, **cfg.variants}.items():
        place = f"variants.{name}" if name else "the study"
        if studies[name].unplanned:
            faults += [f"{place}: {fault}" for fault in _unplannable(studies[name], variant.arms or cfg.arms)]
        if variant.framed_as:
            faults += [f"{place}.framed_as = {variant.framed_as!r}: {f}" for f in _unframed(name, cfg, studies)]
    if faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults))


def _unplannable(study: StudyConfig, arms: tuple[str, ...]) -> Iterator[str]:
    """Why the hospitals of an experiment do not plan a network."""
    way_out = "make the plan with `sarco-lab plan`, and name the study that it writes"
    if study.privacy is not None:
        yield f"[privacy], and a network without a plan: its sums would be spent apart from the training: {way_out}"
    for arm in (arm for arm in arms if arm in _LEFT_OUT):
        yield f'arms: "{arm}", and a network without a plan: the hospital that is left out would plan it too: {way_out}'


def _unframed(name: str, cfg: ExperimentConfig, studies: Mapping[str, StudyConfig]) -> Iterator[str]:
    """Why a variant's images cannot be framed as the plan of another."""
    variant = cfg.variants[name]
    other = cfg.variants.get(variant.framed_as)
    if studies[name].unplanned:
        yield "its own network is planned, and its images follow from that: remove it"
    elif other is None:
        yield f"is none of the variants {', '.join(cfg.variants)}"
    elif not studies[variant.framed_as].unplanned:
        yield "this variant's network is not planned here: write its size and window_mm under overrides.image"
    elif other.cohort != variant.cohort:
        yield "this variant has other hospitals, which would plan for other images: give both the same cohort"
