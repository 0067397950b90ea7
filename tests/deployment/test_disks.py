"""Disks that are full, folders that cannot be written, a database that somebody else has locked.

What lies on the small disk is mounted for the test, so this needs root. Each time: the error is said in words, nothing
is corrupt, and the run goes on to the model of the uninterrupted one when the cause is gone.
"""

import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.deployment.federation import Federation, federation
from tests.deployment.run_under_way import COORDINATOR, RunUnderWay
from tests.deployment.started import Started, arguments
from tests.deployment.studies import NAMES, all_needed, in_one_process

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk: needs root")]

HELD_S = 10.0
"""How long a database is locked: longer than SQLite's own patience of 5 seconds."""


def mounted(folder: Path, megabytes: int) -> None:
    """Put a disk of this size under a folder, with what is in the folder."""
    aside = folder.with_name(f"{folder.name}-aside")
    rights = oct(folder.stat().st_mode & 0o777)[2:]
    shutil.copytree(folder, aside)
    options = f"size={megabytes}m,mode={rights}"
    command = ["/bin/mount", "-t", "tmpfs", "-o", options, "small", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - mount
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    shutil.copytree(aside, folder, dirs_exist_ok=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing on this disk can be written until the end of the block."""
    command = ["/bin/mount", str(folder), "-o"]
    subprocess.run([*command, "remount,ro"], check=True)  # noqa: S603 - mount
    try:
        yield
    finally:
        subprocess.run([*command, "remount,rw"], check=True)  # noqa: S603 - mount


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """No byte is left on this disk until the end of the block."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another program holds this SQLite database until the end of the block."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _small_disks(made: Federation) -> None:
    mounted(made.home, 300)  # up wants 200 MB
    mounted(made.hospitals["gamma"].folder / "state", 8)


@pytest.fixture(scope="module")
def small() -> Iterator[Federation]:
    """Gamma's state and the coordinator's home lie on small disks of their own."""
    with federation(all_needed(), NAMES, prepare=_small_disks) as made:
        yield made


@pytest.fixture(scope="module")
def run(small: Federation) -> RunUnderWay:
    run = small.start_run()
    run.wait_round(1)
    return run


@pytest.fixture(scope="module")
def reference(small: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    return in_one_process(small, tmp_path_factory.mktemp("reference") / "run")


def goes_on(run: RunUnderWay, reference: dict[int, bytes], *, by_itself: bool = True) -> None:
    run.wait_more(2, by_itself=by_itself)
    round_, model = run.parameters()
    assert model == reference[round_]


def test_a_full_disk_at_a_hospital_stops_its_answers_and_nothing_else(
    small: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    gamma = small.hospitals["gamma"]
    with ExitStack() as is_full, ExitStack() as frozen:
        frozen.enter_context(small.frozen("gamma.worker"))
        run.wait_asked("gamma")
        is_full.enter_context(full(gamma.folder / "state"))
        frozen.close()
        small.wait(lambda: "cannot be written" in gamma.words(), 60, "gamma's log names what cannot be written")
    goes_on(run, reference)
    small.site("audit", "verify", gamma.site_file).well()


def test_a_full_disk_at_the_coordinator_costs_no_complete_round(
    small: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    with ExitStack() as is_full, ExitStack() as frozen:
        frozen.enter_context(small.frozen("gamma.worker"))
        round_ = run.wait_asked("gamma")
        is_full.enter_context(full(small.home))
        frozen.close()
        time.sleep(HELD_S)
        assert run.rounds >= round_ - 1
    goes_on(run, reference, by_itself=False)  # a run that says why it failed waits for a person


def test_a_database_that_is_locked_delays_and_loses_nothing(
    small: Federation, run: RunUnderWay, reference: dict[int, bytes]
) -> None:
    with locked(small.home / "superlink.sqlite"):
        time.sleep(HELD_S)
    goes_on(run, reference)


def test_a_state_that_cannot_be_written_is_named_and_join_goes_on_when_it_can(small: Federation) -> None:
    gamma = small.hospitals["gamma"]
    gamma.joined.stop()
    with read_only(gamma.folder / "state"):
        refused = gamma.join()
        assert refused.ended(60) != 0
        assert "state" in refused.words
        assert "Traceback" not in refused.words
    small.join("gamma")
    small.wait_online("gamma")


def test_a_home_that_cannot_be_written_is_named_and_up_goes_on_when_it_can(small: Federation) -> None:
    assert small.started
    small.started.stop()
    with read_only(small.home):
        words = arguments(COORDINATOR, "up", small.home, "--foreground")
        refused = Started(small.base, small.base / "said" / "up-refused.log", words)
        assert refused.ended(60) != 0
        assert str(small.home) in "".join(refused.words.split("\n"))
        assert "Traceback" not in refused.words
    small.up()
    small.wait_online(*NAMES, seconds=90)
