"""The Flower ServerApp: open the run directory that the run config names, and run its study."""

import logging
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from sarco_models.errors import RunError
from server.fetching import look_sooner
from server.rounds import run_study
from server.runs import Run

log = logging.getLogger(__name__)
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run, or go on with, the study of ``run-dir``."""
    folder = str(context.run_config.get("run-dir", ""))
    if not folder:
        raise RunError(
            "run-dir is empty: make a run directory with `sarco-lab prepare CONFIG --out DIR` and start with "
            "`flwr run . --run-config 'run-dir=\"DIR\"'`"
        )
    run = Run.open(Path(folder))
    look_sooner(run.study.federation.round_deadline_s)
    run_study(grid, run)
