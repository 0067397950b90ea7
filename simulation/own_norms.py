"""Which batch norms a cohort is scored with, in a study that keeps them at the hospitals (FedBN)."""

from pathlib import Path

from client.workspace import norms_file
from server.runs import Run
from simulation.arms import Arm

POOLED = "pooled"
"""Name of the single site that holds everybody."""


def own_norms(arm: Arm, run: Run, name: str) -> Path | None:
    """File of the batch norms that a cohort is scored with, in a study that keeps them local (FedBN).

    A hospital that trained has its own; where only one did, its norms are the model's; everybody else is scored with
    those of the starting weights (None).
    """
    trained = (POOLED,) if arm.pooled else arm.trained_on
    owner = name if name in trained else trained[0] if len(trained) == 1 else ""
    if not owner or not arm.study.model.local_norms:
        return None
    return norms_file(arm.folder / "sites" / owner / "state", run.records()[0]["setup"], arm.study.federation.rounds)
