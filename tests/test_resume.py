"""Killed at any moment, as often as you like, a run ends with the model that it would have had: bit for bit.

A run dies here at one of its steps: a file about to be on the disk (of the coordinator, mostly of a hospital, too), a
message about to go out or to come in. Then everything is opened anew from the disk, as new processes do.
"""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context

from client.inside import make_app
from client.workspace import Site
from sarco_models.errors import RunError
from sarco_models.secret import Secret
from server import heads
from server.live import read_live
from server.rounds import run_study
from server.runs import Run
from simulation.harness import Arm, SiteFolder, open_sites, prepare
from tests.sites import tables_site, tables_study
from tests.unsteady_grid import UnsteadyGrid

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 4.0, "delta": 1e-4, "statistics_share": 0.2},
    "training": {"local_steps": 2, "balance_classes": False, "optimizer": "sgd", "learning_rate": 0.1},
    "tabular": {"scaling": "clinical_range"},
}
STUDIES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {"federation": {"strategy": "fedadam"}},
    "fedavgm": {"federation": {"strategy": "fedavgm"}},
    "krum": {"federation": {"strategy": "krum", "malicious_sites": 0}},
    "private": PRIVATE,
    "secure": {"federation": {"secure_aggregation": True}},
    "int8": {"federation": {"encoding": "int8"}},
}


class Killed(BaseException):
    """As kill -9: nothing catches it."""


class Mortal:
    """Counts the steps of a run, and ends it at one of them; whoever is dead does nothing more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.born()
        fsync = os.fsync

        def told(descriptor: int) -> None:
            if self.sites_too or not self.at_a_site:
                self.step()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", told)

    def born(self, dies_at: int = 0, *, sites_too: bool = False) -> None:
        self.steps, self.dies_at, self.at_a_site, self.sites_too = 0, dies_at, 0, sites_too
        self.marks: dict[str, list[int]] = {}

    def step(self) -> None:
        self.steps += 1
        if self.dies_at and self.steps >= self.dies_at:
            raise Killed


class MortalGrid(UnsteadyGrid):
    """Every sending and collecting is a step, and what sites do in between is theirs."""

    mortal: Mortal

    def push_messages(self, messages: Any) -> Any:
        self.mortal.step()
        return super().push_messages(messages)

    def pull_messages(self, message_ids: Any) -> Any:
        self.mortal.step()
        return super().pull_messages(message_ids)

    def _deliver(self, message: Any) -> str:
        self.mortal.at_a_site += 1
        try:
            return super()._deliver(message)
        finally:
            self.mortal.at_a_site -= 1


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Mortal:
    return Mortal(monkeypatch)


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., Arm]:
    def make(folder: str, study: str = "fedavg", **federation: Any) -> Arm:
        changes = dict(STUDIES[study])
        settings = {"rounds": 3, "min_sites": 3, "min_participants": 6, "round_attempts": 1, **federation}
        changes["federation"] = {**settings, **changes.get("federation", {})}
        people = 160 if study == "private" else 24
        places = []
        for k in range(3):
            place = tmp_path / "data" / f"site{k}"
            if not place.exists():
                tables_site(place, n=people, seed=k)
            places.append(SiteFolder(place.name, place, "invented2026"))
        return Arm("federated", tables_study(**changes), tuple(places), None, tmp_path / "cache", tmp_path / folder)

    return make


def lives(arm: Arm, mortal: Mortal) -> Run:
    """Everything from the disk, as new processes find it; runs until it is done or dies."""
    heads._SEEN.clear()
    run = prepare(arm)
    sites = open_sites(arm)

    def site_of(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"])]

    grid = MortalGrid(make_app(site_of), nodes=len(sites))
    grid.mortal = mortal

    def noise_of(node: int, request: Any) -> None:
        """What a hospital draws is its own; here it follows from the question, so that two runs can be compared."""
        mortal.marks.setdefault(type(request).__name__, []).append(mortal.steps)
        words = f"{node} {type(request).__name__} {getattr(request, 'round', 0)}".encode()
        sites[node - 1].secret = Secret(int.from_bytes(hashlib.sha256(words).digest()[:16], "little"))

    grid.fate = noise_of
    run_study(grid, run)
    return run


def results(run: Run) -> dict[str, Any]:
    """All that must not depend on interruptions."""
    released = {k: v for k, v in (run.released or {}).items() if not k.startswith("bytes")}
    rounds = [{k: r[k] for k in ("round", "sites", "central", "failures")} for r in run.records()]
    told = {site: e.to_dict() for site, e in (run.assessments or {}).items()}
    return json.loads(json.dumps({"released": released, "rounds": rounds, "assessments": told}))  # type: ignore[no-any-return]


def same(a: Run, b: Run) -> None:
    assert np.array_equal(a.final.vector, b.final.vector)
    assert results(a) == results(b)
    assert not list(b.folder.glob("**/*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_a_run_that_was_killed_five_times_ends_with_the_same_model(
    arm: Callable[..., Arm], mortal: Mortal, study: str
) -> None:
    sites_too = study != "private"  # a hospital that dies after it has paid, before it has kept, pays again
    mortal.born(sites_too=sites_too)
    whole = lives(arm("whole", study), mortal)
    steps = mortal.steps
    assert steps > 40
    for seed in (1, 2):
        chance, broken, deaths = random.Random(seed), arm(f"broken{seed}", study), 0  # noqa: S311 - no secret
        while deaths < 5:
            mortal.born(chance.randint(1, steps // 2), sites_too=sites_too)
            try:
                lives(broken, mortal)
            except Killed:
                deaths += 1
            else:
                break
        assert deaths >= 3
        mortal.born(sites_too=sites_too)
        same(whole, lives(broken, mortal))


@pytest.mark.slow
def test_a_run_may_be_killed_at_each_step_of_its_rounds(arm: Callable[..., Arm], mortal: Mortal) -> None:
    mortal.born()
    whole = lives(arm("whole", "fedadam", rounds=2), mortal)
    first, last = mortal.marks["Train"][0], mortal.marks["Evaluate"][0]
    assert last - first > 12
    for at in range(first, last + 1):
        broken = arm("broken", "fedadam", rounds=2)
        shutil.rmtree(broken.folder, ignore_errors=True)
        mortal.born(at)
        with pytest.raises(Killed):
            lives(broken, mortal)
        mortal.born()
        same(whole, lives(broken, mortal))


SCRIPT = """
import os, signal, sys, pathlib
sys.path.insert(0, {root!r})
from tests.test_resume import again
again(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
"""


def again(folder: Path, dies_at: int) -> None:
    """In a process of its own: go on with the run in ``folder``, and be killed by the kernel at a step."""
    sites = [SiteFolder(p.name, p, "invented2026") for p in sorted((folder.parent / "data").glob("site*"))]
    run = Run.open(folder)
    arm = Arm("federated", run.study, tuple(sites), None, folder.parent / "cache", folder)
    mortal = Mortal(pytest.MonkeyPatch())
    mortal.born(dies_at, sites_too=True)

    def dies() -> None:
        mortal.steps += 1
        if mortal.steps == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    mortal.step = dies  # type: ignore[method-assign]
    lives(arm, mortal)


@pytest.mark.slow
def test_a_process_that_was_killed_by_the_kernel_leaves_a_run_that_goes_on(
    arm: Callable[..., Arm], mortal: Mortal
) -> None:
    whole = lives(arm("whole", "fedavgm"), mortal)
    broken = arm("broken", "fedavgm")
    prepare(broken)
    root = str(Path(__file__).parents[1])
    for dies_at in (25, 31, 0):
        command = [sys.executable, "-c", SCRIPT.format(root=root), str(broken.folder), str(dies_at)]
        ended = subprocess.run(command, cwd=root, timeout=120, check=False, capture_output=True)  # noqa: S603
        assert ended.returncode == (-signal.SIGKILL if dies_at else 0), ended.stderr.decode()[-2000:]
    heads._SEEN.clear()
    same(whole, Run.open(broken.folder))


# ---- disks ---------------------------------------------------------------------------------------------------------


FULL, READ_ONLY = (
    (errno.ENOSPC, "No space left on device: make room on the disk"),
    (errno.EROFS, "Read-only file system"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "at"),
    [(FULL, "0002.npy"), (FULL, "0002.json"), (FULL, "heads.jsonl"), (FULL, "model.json"), (READ_ONLY, "0002.npy")],
)
def test_a_disk_that_takes_nothing_is_named_and_the_run_goes_on_afterwards(
    arm: Callable[..., Arm], mortal: Mortal, monkeypatch: pytest.MonkeyPatch, fault: tuple[int, str], at: str
) -> None:
    number, words = fault
    whole = lives(arm("whole"), mortal)
    broken = arm("broken")
    fsync = os.fsync

    def full(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        written = len(list((broken.folder / "rounds").glob("*.json")))
        ours = name.is_relative_to(broken.folder) and "sites" not in name.parts
        if ours and name.name.startswith(at) and (at != "heads.jsonl" or written > 2):
            raise OSError(number, os.strerror(number), str(name))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=words) as raised:
            lives(broken, mortal)
    assert str(broken.folder) in str(raised.value)
    assert "run the same command again; it goes on from the last complete round" in str(raised.value)
    live = read_live(broken.folder) or {}
    assert live["phase"] == "failed"
    assert words in live["failure"]
    same(whole, lives(broken, mortal))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 700 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root mounts a small disk")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(place)], check=False)  # noqa: S603
    if done.returncode:
        pytest.skip("this machine mounts nothing")
    yield place
    subprocess.run([shutil.which("umount") or "umount", str(place)], check=True)  # noqa: S603


@pytest.mark.slow
def test_a_disk_that_is_really_full_corrupts_nothing(
    arm: Callable[..., Arm], mortal: Mortal, small_disk: Path, tmp_path: Path
) -> None:
    whole = lives(arm("whole"), mortal)
    broken = arm("disk/run")
    prepare(broken)
    theirs = tmp_path / "elsewhere" / "sites"  # the hospitals' disks are their own
    shutil.move(str(broken.folder / "sites"), theirs)
    shutil.copy(broken.folder / "study.json", theirs.parent)
    (broken.folder / "sites").symlink_to(theirs)
    free = os.statvfs(small_disk)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 16384))
    with pytest.raises(RunError, match="No space left on device: make room on the disk"):
        lives(broken, mortal)
    ballast.unlink()
    run = lives(broken, mortal)
    same(whole, run)
