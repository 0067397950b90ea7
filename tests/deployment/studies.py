"""The studies of the deployment tests, and what an uninterrupted run of them in one process comes to."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from sarco_models.config import StudyConfig
from server.runs import Run
from simulation.arms import Arm, SiteFolder
from simulation.harness import open_sites, prepare, train_in_process
from tests.deployment.federation import Federation
from tests.sites import tables_study

NAMES = ("alpha", "beta", "gamma")


LONG = 60
"""Rounds of a run that a test hurts as long as it likes, and does not wait for the end of."""


_ALL: dict[str, Any] = {"min_sites": 3, "round_deadline_s": 60.0, "round_attempts": 20}


def all_needed(rounds: int = LONG, **changes: Any) -> StudyConfig:
    """A round counts with all three hospitals and is repeated until they are there: nobody's work can be lost."""
    return a_study({**_ALL, "rounds": rounds}, **changes)


def two_enough(rounds: int, deadline_s: float, **changes: Any) -> StudyConfig:
    """A round counts with any two of three hospitals once its deadline has passed."""
    return a_study({"rounds": rounds, "min_sites": 2, "round_deadline_s": deadline_s, "round_attempts": 20}, **changes)


def a_study(federation: dict[str, Any], **changes: Any) -> StudyConfig:
    return tables_study(federation={"min_participants": 5, **federation}, **changes)


def wide(rounds: int = LONG) -> StudyConfig:
    """As :func:`all_needed`, with a model of 1.7 MB: its updates do not pass a proxy that takes 1 MB."""
    # a hundred columns of noise are soon known by heart: honest updates then differ by more than ten times
    federation = {**_ALL, "rounds": rounds, "max_update_ratio": 1e6}
    features = [{"name": f"marker_{k}", "group": "lab", "low": 0.0, "high": 1.0} for k in range(100)]
    model = {"modalities": ["lab"], "hidden_units": 4096}
    return a_study(federation, features=features, model=model, label={"column": "frail", "rule": "invented2026"})


def in_one_process(made: Federation, folder: Path) -> dict[int, bytes]:
    """Round -> the global model after it, of the same study at the same hospitals in this process, uninterrupted."""
    sites = tuple(SiteFolder(h.name, h.data, made.study.label.rule) for h in made.hospitals.values())
    arm = Arm("federated", made.study, sites, None, folder / "cache", folder)
    torch.set_num_threads(1)
    after: dict[int, bytes] = {}
    record = Run.record

    def noted(run: Run, round_: int, facts: Any, parameters: Any, *rest: Any) -> None:
        record(run, round_, facts, parameters, *rest)
        if parameters is not None:
            after[round_] = parameters.vector.tobytes()

    with patch.object(Run, "record", noted):
        train_in_process(prepare(arm), open_sites(arm))
    return after
