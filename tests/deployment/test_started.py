"""What a test starts dies with it, and nothing of it is left."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deployment.started import NotYet, Started, alive, children, end_all, processes_of, wait_until

SLEEPS = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "


def test_what_does_not_happen_is_told_with_what_was_seen() -> None:
    with pytest.raises(NotYet, match=r"not in 0\.1 s: a miracle\nonly this"):
        wait_until(lambda: False, 0.1, "a miracle", lambda: "only this")


def test_everything_of_a_folder_is_ended(tmp_path: Path) -> None:
    """Also a child that has left the group."""
    code = SLEEPS.replace("])", "], start_new_session=True)") + "time.sleep(60)"
    started = Started(tmp_path, tmp_path / "log", [sys.executable, "-c", code])
    wait_until(lambda: children(started.pid), 10, "its child")
    (child,) = children(started.pid)
    started.kill()
    assert alive(child)
    wait_until(lambda: child in [pid for pid, _ in processes_of(tmp_path)], 5, "its child is found by the folder")
    assert end_all(tmp_path)
    assert not alive(child)


def test_a_command_dies_with_the_test_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, time; from tests.deployment.started import _DIES_WITH_US, Started; import sys; "
        f"s = Started(pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(tmp_path / 'log')!r}), "
        "[sys.executable, '-c', _DIES_WITH_US + 'print(7, flush=True); import time; time.sleep(60)']); "
        "print(s.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as test:  # noqa: S603
        assert test.stdout is not None
        pid = int(test.stdout.readline())
        wait_until(lambda: "7" in (tmp_path / "log").read_text(), 10, "the command runs")
        test.kill()
    until = time.monotonic() + 5
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(pid)
