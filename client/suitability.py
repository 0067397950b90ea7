"""Whether a hospital's own data suit a study: how its labels were made, and how many participants it has to train on.

Every request is refused where they do not, so it is said before anything is sent: by ``doctor`` and by ``join``. Of the
data the tables are read, in a process that ends, as the worker's account; what comes back is counts. The worker
holds the same limits against every request (:func:`client.policy.check_people`), whatever is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.accounts import owner_of
from client.coordinator_line import Check
from client.site_folder import UNKNOWN_RULE, SiteFolder
from sarco_models.apart import apart
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, ProcessError, SarcoError
from sarco_models.label_rules import RULES
from sarco_models.messages import Code

if TYPE_CHECKING:
    from sarco_models.cohort import Cohort


def insist(folder: SiteFolder, study: StudyConfig) -> None:
    """Nobody joins whom every request would be refused to.

    Raises:
        ConfigError: the labels' rule was not said or is not the study's, or there are too few participants.
    """
    for check in suits(folder, study):
        if check.level == "fault":
            raise ConfigError(
                f"{check.value} (limit: {check.limit}). Nothing was started or sent. What to do: {check.remedy}"
            )


def suits(folder: SiteFolder, study: StudyConfig) -> Iterator[Check]:
    """Both checks, the quick one first."""
    yield labels(folder, study)
    yield people(folder, study)


def labels(folder: SiteFolder, study: StudyConfig) -> Check:
    """Whether it was said how the labels were made, and whether the study takes labels made so."""
    rule, asked = folder.settings.get("label_rule"), study.label.rule
    if study.segments:
        return Check("labels", "ok", "the study finds muscles: it reads no label")
    if rule in (None, UNKNOWN_RULE):
        value = f"{folder.site_file} does not say how your labels were made (label_rule = {UNKNOWN_RULE!r})"
        return Check("labels", "fault", value, "the name of a rule", f"write into it: {line_for(study)}")
    if rule != asked and not study.label.allow_mixed_rules:
        remedy = (
            f"make the labels anew by {asked} and change label_rule; or ask the coordinator for a study with "
            "label.allow_mixed_rules = true"
        )
        return Check("labels", "fault", f"your labels are made by {rule} ({folder.site_file})", asked, remedy)
    other = "" if rule == asked else f"; the study's are by {asked}, and it takes others"
    return Check("labels", "ok", f"made by {rule}{other}")


def line_for(study: StudyConfig) -> str:
    """The line of site.toml that is to be written, and what it depends on."""
    line = f'label_rule = "{study.label.rule}"'
    if not study.label.allow_mixed_rules:
        return f"{line}, which is the study's, if yours are made by it; it takes no other"
    return f"{line} if yours are made as the study's are; else the name of your rule ({', '.join(RULES)}, ...)"


def people(folder: SiteFolder, study: StudyConfig) -> Check:
    """Whether enough participants would train, for the study and for the hospital's own policy."""
    facts = {"site": str(folder.site_file), "study": study.model_dump_json()}
    try:
        found = apart("client.suitability:count", facts, user=owner_of(folder))
    except ProcessError as error:  # the worker will say so, too
        return Check("participants", "warning", f"cannot be counted: {error}", "a count", "see there")
    except SarcoError as error:
        return Check("participants", "fault", str(error), "participants that can be counted", "see there")
    if "faults" in found:
        value = f"the data cannot be used: {found['faults']} faults in the tables ({', '.join(found['rules'])})"
        remedy = f"sarco-site check-data {folder.data} --site {folder.site_file} lists them with their places"
        return Check("participants", "fault", value, "no faults", remedy)
    return _judged(folder, study, found)


def _judged(folder: SiteFolder, study: StudyConfig, found: dict[str, Any]) -> Check:
    train, own, asked = int(found["training"]), int(found["own"]), study.federation.min_participants
    most = "at most " if found["images"] else ""
    value = f"{most}{train} of your {found['all']} participants would train; the others validate and test"
    table = folder.data / "participants.csv"
    if found["code"] == Code.TOO_FEW_PARTICIPANTS:
        limit = f"at least {max(asked, own)}: {_whose(asked, own, folder)}"
        return Check("participants", "fault", value, limit, f"add participants to {table}{_else(train, asked, own)}")
    if found["code"] == Code.ONE_CLASS_ONLY:
        value = f"all {train} participants who train have the same label"
        remedy = (
            f"add participants of the other class to {table}, or see whether its column {study.label.column} is right"
        )
        return Check("participants", "fault", value, "of both classes", remedy)
    if found["code"]:
        delta = study.privacy.delta if study.privacy else 0.0
        value = f"the study's delta = {delta:g} is not below one in {train}, and {train} of your participants train"
        remedy = f"ask the coordinator for a study with privacy.delta below {1 / train:.1g}"
        return Check("participants", "fault", value, "below one in the participants who train", remedy)
    masks = f"; {_drawn(found['masks'])}" if study.segments else ""
    return Check("participants", "ok", f"{value} (the study asks for {asked}, site.toml for {own}){masks}")


def _drawn(masks: Mapping[str, int]) -> str:
    """How many images have a mask, by the muscle that images.csv names."""
    each = ", ".join(f"{count} of {muscle}" for muscle, count in masks.items())
    return f"{sum(masks.values())} images with a mask ({each}); sarco-site check-data counts the outlines in them"


def _whose(asked: int, own: int, folder: SiteFolder) -> str:
    """Who has set the greater limit."""
    study, site = "the study's min_participants", f"min_training_participants in {folder.site_file}"
    return f"{study} and {site}" if asked == own else study if asked > own else site


def _else(train: int, asked: int, own: int) -> str:
    """The way out beside more participants."""
    ways = []
    if 2 <= train < own:  # no policy may say less
        ways.append(f"lower min_training_participants in site.toml to {train}, if you can answer for it")
    if train < asked:
        ways.append(f"ask the coordinator for a study whose min_participants is {train} or less")
    return f"; or {', and '.join(ways)}" if ways else ""


def count(site: str, study: str) -> dict[str, Any]:
    """The work itself, in its own process: how many participants would train, and the code of a refusal.

    Args:
        site: path of site.toml.
        study: as JSON.

    Returns:
        ``training``, ``all``: participants; ``own``: the policy's limit; ``code``: of a refusal, or empty; ``images``:
        whether people whose images cannot be read will be left out, too; ``masks``: images with one, by muscle. Or
        ``faults`` and ``rules`` of the tables: no value of them.

    Raises:
        ConfigError: site.toml is wrong, or there are fewer participants of a class than folds.
    """
    from client.policy import Refusal, check_people
    from client.site_config import SiteConfig
    from sarco_models.cohort import split
    from sarco_models.config import IMAGE, load_config
    from sarco_models.errors import DataError

    config, agreed = load_config(Path(site), SiteConfig), StudyConfig.model_validate_json(study)
    try:
        cohort = _of_tables(Path(site).parent / config.data, agreed, config.name)
    except DataError as error:
        return {"faults": len(error.findings), "rules": sorted({f.rule for f in error.findings})}
    train, code = split(cohort, agreed.split, agreed.training.seed).train, ""
    try:
        check_people(training=len(train), positive=int(train.labels.sum()), policy=config.policy, study=agreed)
    except Refusal as refused:
        code = str(refused.code)
    own, only = config.policy.min_training_participants, set(agreed.model.modalities) == {IMAGE}
    masks = _masks(Path(site).parent / config.data, agreed, cohort.ids)
    return {"training": len(train), "all": len(cohort), "own": own, "code": code, "images": only, "masks": masks}


def _masks(data: Path, study: StudyConfig, ids: tuple[str, ...]) -> dict[str, int]:
    """Muscle that images.csv names -> images with a mask; empty in a study that finds none. No mask is opened."""
    from sarco_models.schema import IMAGES_FILE, read_images

    cfg = study.segmentation
    if cfg is None:
        return {}
    titles = {muscle.name: muscle.title for muscle in cfg.muscles}
    rows, _ = read_images(data / IMAGES_FILE, ids)
    named = (titles.get(cfg.find(row.muscle) or "", "no muscle that images.csv names") for row in rows if row.mask)
    return dict(Counter(named))


def _of_tables(data: Path, study: StudyConfig, name: str) -> Cohort:
    """The cohort without a look at its images: the split does not depend on them, but for who has none at all."""
    import numpy as np

    from sarco_models.cohort import Cohort
    from sarco_models.config import IMAGE
    from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE, read_images, read_participants

    table = read_participants(data / PARTICIPANTS_FILE, study)
    kept = list(range(len(table.ids)))
    if study.uses_images:
        rows, _ = read_images(data / IMAGES_FILE, table.ids)
        if set(study.model.modalities) == {IMAGE}:
            shown = {row.participant_id for row in rows if row.mask or not study.segments}
            kept = [k for k in kept if table.ids[k] in shown]
    chosen = np.array(kept, dtype=np.int64)
    ids = tuple(table.ids[k] for k in chosen)
    nobody = np.zeros(0, dtype=np.int64)
    return Cohort((name,) * len(ids), ids, table.labels[chosen], table.values[chosen], nobody, (), (), ())
