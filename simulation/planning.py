"""A plan agreed by hospitals on this machine: the coordinator's and the hospitals' own code, in one process."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError, RunError
from sarco_models.schema import IMAGES_FILE, PARTICIPANTS_FILE
from server.plan_file import Planned, is_planned, read_plan, require_unplanned
from server.runs import Run, write_text
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
    planned = plan_by(Arm("federated", study, _hospitals(sites, study), None, out / "cache", out / RUN))
    write_planned(draft, planned, out / STUDY)
    return planned


def plan_by(arm: Arm) -> Planned:
    """The plan that an arm's hospitals agree on; one that is there already is only read.

    Args:
        arm: of all hospitals, with a study that has no plan; its folder becomes the run directory.

    Raises:
        RunError: the folder holds the plan of another study or of other hospitals.
        QuorumLost: fewer hospitals than the study's min_sites.
        UndefinedMetric: the sums make no plan.
    """
    logging.getLogger("flwr").setLevel(logging.WARNING)
    _same_data(arm)
    run = prepare(arm)
    if not is_planned(run.folder):
        torch.set_num_threads(1)
        train_in_process(run, open_sites(arm))
    return read_plan(run)


def planned_networks(folders: Mapping[tuple[str, int], Path]) -> dict[str, Any]:
    """What hospitals have planned for an experiment, for results.json.

    Args:
        folders: variant and seed -> run directory of its plan.

    Returns:
        Variant -> seed -> ``plan``, ``sites`` whose sums it is made of, ``why`` and ``warnings``.
    """
    found: dict[str, Any] = {}
    for (variant, seed), folder in folders.items():
        planned = read_plan(Run.open(folder))
        about = {"why": [asdict(reason) for reason in planned.reasons], "warnings": list(planned.warnings)}
        made = {"plan": planned.plan.model_dump(mode="json"), "sites": sorted(planned.sites)}
        found.setdefault(variant, {})[str(seed)] = {**made, **about}
    return found


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
