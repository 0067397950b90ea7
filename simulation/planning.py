"""A plan agreed by hospitals on this machine: the coordinator's and the hospitals' own code, in one process."""

from __future__ import annotations

import logging
from pathlib import Path

from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError, RunError
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE
from server.planning import Planned, read_plan, require_unplanned
from server.runs import write_text
from server.study_text import write_planned
from simulation.harness import CENTRAL, Arm, SiteFolder, data_digest, open_sites, prepare, train_in_process

STUDY = "study.toml"
RUN = "run"
_DATA = "data.txt"
"""Digest of the tables that a plan was made of."""


def plan_study(draft: Path, sites: Path, out: Path) -> Planned:
    """Let hospitals tell their sums, make the plan of them, and write the study with it.

    Args:
        draft: a study file with ``network = "nnunet"`` and no plan (TOML).
        sites: a folder with one folder for each hospital, as ``sarco-lab muscles`` makes it; ``central`` is none.
        out: gets the study with its plan (``study.toml``) and the run directory (``run``, with ``plan.json``).

    Raises:
        ConfigError: the study needs no plan or has one; there is no hospital; ``out`` holds another study.
        RunError: ``out`` holds the plan of another study or of other hospitals.
        QuorumLost: fewer hospitals than the study's min_sites.
        UndefinedMetric: the sums make no plan.
    """
    study = load_study(draft)
    require_unplanned(study, draft)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    arm = Arm("federated", study, _hospitals(sites, study), None, out / "cache", out / RUN)
    _same_data(arm)
    run = prepare(arm)
    train_in_process(run, open_sites(arm))
    planned = read_plan(run)
    write_planned(draft, planned, out / STUDY)
    return planned


def _hospitals(folder: Path, study: StudyConfig) -> tuple[SiteFolder, ...]:
    """Every folder with both tables, but the central cohort: it is tested on, and nothing is fitted to it."""
    found = sorted(
        place
        for place in (folder.iterdir() if folder.is_dir() else ())
        if place.name != CENTRAL and (place / PARTICIPANTS_FILE).is_file() and (place / IMAGES_FILE).is_file()
    )
    if not found:
        raise ConfigError(
            f"--sites {folder}: holds no hospital, a folder with {PARTICIPANTS_FILE} and {IMAGES_FILE}: make some with "
            f"`sarco-lab muscles {folder}`, or name the folder above the hospitals' own"
        )
    return tuple(SiteFolder(place.name, place, study.label.rule) for place in found)


def _same_data(arm: Arm) -> None:
    """A plan that is there already is read and not made again: it must be of these hospitals."""
    path, digest = arm.folder / _DATA, data_digest(arm)
    if path.is_file() and path.read_text(encoding="utf-8") != digest:
        raise RunError(
            f"{arm.folder}: holds a plan of other hospitals or other tables than {', '.join(arm.trained_on)}: give "
            "another --out, or remove the folder"
        )
    write_text(path, digest)
