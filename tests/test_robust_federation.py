"""A federation with one hospital that poisons: robust strategies learn all the same, and the average does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context

from client.inside import make_app
from client.workspace import Site
from sarco_models.parameters import Parameters
from sarco_models.wire import Trained
from server.rounds import run_study
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, prepare
from tests.sites import tables_site, tables_study
from tests.unsteady_grid import UnsteadyGrid

SITES = 5


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[Run, UnsteadyGrid]]:
    """Runs a study of five hospitals; ``poison`` is what the last one sends instead of its update."""

    def go(poison: Callable[[np.ndarray], np.ndarray] | None, folder: str, **federation: Any) -> Any:
        places = [tmp_path / "data" / f"site{k}" for k in range(SITES)]
        for k, place in enumerate(places):
            if not place.exists():
                tables_site(place, n=40, seed=k, missing=0)
        central = tmp_path / "data" / "central"
        if not central.exists():
            tables_site(central, n=80, seed=99, missing=0)
        settings = {"min_sites": SITES, "rounds": 4, "round_deadline_s": 60, **federation}
        study = tables_study(training={"learning_rate": 0.03, "local_epochs": 2}, federation=settings)
        folders = tuple(SiteFolder(place.name, place, "invented2026") for place in places)
        arm = Arm("federated", study, folders, central, tmp_path / "cache", tmp_path / folder)
        run = prepare(arm)
        sites = open_sites(arm)

        def site_of(context: Context) -> Site:
            return sites[int(context.node_config["partition-id"])]

        grid = UnsteadyGrid(make_app(site_of), nodes=SITES)

        def change(node: int, reply: Any) -> Any:
            if poison is None or node != SITES or not isinstance(reply, Trained):
                return reply
            sent = run.parameters_after(reply.round - 1).vector
            poisoned = (sent + poison(reply.parameters.vector - sent)).astype(np.float32)
            return replace(reply, parameters=Parameters(reply.parameters.manifest, poisoned))

        grid.change = change
        run_study(grid, run)
        return run, grid

    return go


def backwards(update: np.ndarray) -> np.ndarray:
    """Nine times as far, the wrong way: within the ten times that the study lets pass."""
    return -9 * update


def loss(run: Run) -> float:
    return float(run.records()[-1]["central"]["loss"])


Go = Callable[..., tuple[Run, UnsteadyGrid]]
ROBUST = ["median", "trimmed_mean", "krum"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ROBUST)
def test_a_poisoning_hospital_is_withstood_by_robust_strategies_only(run: Go, strategy: str) -> None:
    start = float(run(backwards, "average")[0].records()[0]["central"]["loss"])
    average, robust, calm = (
        loss(run(backwards, "average")[0]),
        loss(run(backwards, strategy, strategy=strategy)[0]),
        loss(run(None, "calm")[0]),
    )
    assert calm < 0.9 * start
    assert average > start  # it has learnt to be wrong
    assert robust < 0.95 * start
    assert abs(robust - calm) < 0.3 * (start - calm) + 0.05


@pytest.mark.slow
def test_an_update_far_beyond_the_others_is_refused_under_any_strategy(run: Go) -> None:
    poisoned, _ = run(lambda update: 1e6 * update, "run", min_sites=4, rounds=2)
    for record in poisoned.records()[1:]:
        assert sorted(record["sites"]) == ["site0", "site1", "site2", "site3"]
        assert (
            "times as long as the other sites' (median), and longer than any of its own" in record["failures"]["site4"]
        )
    calm = run(None, "four", min_sites=4, rounds=2)[0]
    assert np.isfinite(poisoned.final.vector).all()
    assert np.abs(poisoned.final.vector).max() < 2 * np.abs(calm.final.vector).max()
