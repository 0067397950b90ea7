"""The dashboard beside a real run, while it is at work: what the run writes is what the page reads."""

import json
import threading
import time
from pathlib import Path

import pytest

from server.dashboard.files import HomeFiles
from server.dashboard.roster import Roster
from server.dashboard.state import Picture, Watcher
from simulation.harness import Arm, run_arm
from tests.test_federation import study, write_site

ORDER = ("describe", "setup", "round", "evaluate", "assess", "probe", "done")
ROUNDS = 4


def looked_at(folder: Path, stop: threading.Event, found: list[Picture]) -> None:
    """Pictures of a run directory as fast as they come, each different from the one before."""
    watcher = Watcher(HomeFiles(folder), Roster(None))
    while not stop.is_set():
        picture = watcher.look()
        if picture.run and (not found or found[-1].run != picture.run):
            found.append(picture)
        time.sleep(0.002)
    found.append(watcher.look())
    watcher.close()


@pytest.mark.slow
def test_a_run_is_followed_from_its_beginning_to_its_release(tmp_path: Path) -> None:
    hospitals = tuple(write_site(tmp_path / "data" / f"site{k}", 40, seed=k) for k in range(3))
    write_site(tmp_path / "data" / "central", 60, seed=99)
    cfg = study(federation={"min_sites": 3, "rounds": ROUNDS})
    arm = Arm("federated", cfg, hospitals, tmp_path / "data" / "central", tmp_path / "cache", tmp_path / "run")
    stop, found = threading.Event(), list[Picture]()
    looker = threading.Thread(target=looked_at, args=(arm.folder, stop, found))
    looker.start()
    try:
        run_arm(arm)
    finally:
        stop.set()
        looker.join()
    views = [picture.run for picture in found if picture.run]
    phases = [view.progress.phase for view in views]
    told = [phase for phase in phases if phase != "unknown"]
    assert [p for k, p in enumerate(told) if k == 0 or told[k - 1] != p] == [p for p in ORDER if p in told]
    assert {"round", "done"} <= set(told)
    assert not any(picture.unreadable or picture.troubles for picture in found), "nothing half written is ever read"
    done = [view.progress.done for view in views]
    assert done == sorted(done)
    at_work = [view.progress for view in views if view.progress.phase == "round" and view.progress.sites]
    assert all(set(progress.sites) <= {"site0", "site1", "site2"} and progress.running for progress in at_work)
    last = views[-1]
    assert (last.progress.done, last.progress.rounds) == (ROUNDS, ROUNDS)
    assert {part.name: part.answered for part in last.parts} == dict.fromkeys(("site0", "site1", "site2"), ROUNDS)
    record = json.loads((arm.folder / "rounds" / "0003.json").read_text())
    central = next(curve for curve in last.curves["auc"] if curve.name == "central")
    assert dict(central.points)[3] == record["central"]["auc"]
    assert last.outcome is not None
    assert last.outcome.verdict is not None
    assert {a.site for a in last.outcome.assessed} == {"site0", "site1", "site2"}
