"""The directory of a run, made from text: a process that ends does it (sarco_models/apart.py), for it needs torch."""

from __future__ import annotations

from pathlib import Path

from sarco_models.config import StudyConfig
from server.runs import CoordinatorConfig, Run


def create(folder: str, study: str, coordinator: str) -> None:
    """Make the directory, or leave the one that is there where it is of the same study.

    Args:
        folder: of the run.
        study: as every hospital has it, JSON.
        coordinator: the coordinator's own choices, JSON.

    Raises:
        RunError: the directory holds a run of another study.
        WeightsError: the study's starting weights are absent.
    """
    own = CoordinatorConfig.model_validate_json(coordinator)
    Run.create(Path(folder), StudyConfig.model_validate_json(study), own)
