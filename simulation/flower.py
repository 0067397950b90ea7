"""An arm on Flower's own simulation engine: the same apps, started by ``flwr run``, their sites in Ray's processes.

Nothing is shared with another run: a SuperLink of our own on a free port of this machine, its settings and its log in
the arm's folder, its working directory empty (Ray puts that directory before the app: code lying there would run
instead), every call home switched off, and every process gone at the end, however it ends. The same by hand:
docs/how-to/run-with-flower.md.
"""

import contextlib
import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sarco_models.errors import RunError
from server.plan_file import require_planned
from server.runs import Run, write_text
from simulation.harness import Arm, finish, finished, prepare, run_arm

log = logging.getLogger(__name__)

NO_CALLS_HOME: Mapping[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
RUN_LOG = "run.log"
_CONNECTION = "arm"
_START_S, _CALL_S, _STOP_S = 120.0, 180.0, 5.0
_LOG_LINES = 15
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Linux tells the SuperLink when we die, also by SIGKILL; everything that it started watches it in turn.
_DIES_WITH_US = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def run_arm_on_flower(arm: Arm) -> dict[str, Any]:
    """Train an arm on Flower's engine, score and describe it; a local or pooled one is no federation.

    Returns:
        As :func:`simulation.harness.run_arm`.

    Raises:
        RunError: the code is no checkout, Ray is absent, or the run failed on Flower; the message ends with its log.
        ConfigError: the network of its study has no plan yet.
    """
    if arm.kind not in ("federated", "without", "cv") or finished(arm):
        return run_arm(arm)
    require_planned(arm.study, arm.folder / "study.json")
    torch.set_num_threads(1)
    started = time.monotonic()
    run = prepare(arm)
    if not run.released:
        train_on_flower(run, len(arm.trained_on))
    return finish(arm, run, time.monotonic() - started)


def train_on_flower(run: Run, num_sites: int) -> None:
    """Run a prepared run directory, whose ``sites`` are ``num_sites``, to its released model."""
    project = checkout()
    if importlib.util.find_spec("ray") is None:
        raise RunError("Flower's simulation engine needs Ray: pip install 'sarco-fl[flower-simulation]'")
    home = run.folder.resolve() / "flower"
    with superlink(home) as flower:
        write_text(home / "run-config.toml", f"run-dir = {json.dumps(str(run.folder.resolve()), ensure_ascii=False)}\n")
        actors = min(num_sites, os.cpu_count() or 1)
        federation = f"num-supernodes={num_sites} client-resources-num-cpus=1 init-args-num-cpus={actors}"
        config = ["--run-config", str(home / "run-config.toml"), "--federation-config", federation]
        started = flower.call("run", str(project), _CONNECTION, *config)
        _wait(flower, run, str(started["run-id"]))


def checkout() -> Path:
    """The folder that Flower packs the apps from.

    Raises:
        RunError: the package is installed without it.
    """
    root = Path(__file__).resolve().parent.parent
    missing = [name for name in ("pyproject.toml", "README.md", "LICENSE", "configs") if not (root / name).exists()]
    if missing:
        raise RunError(
            f"{root}: {missing[0]} is absent, and Flower packs the apps from a checkout: run from a checkout of "
            "SARCO-FL (pip install -e .), or use the engine inprocess"
        )
    return root


@dataclass(frozen=True)
class Flower:
    """A SuperLink of our own, and Flower's command line beside it.

    Attributes:
        home: its settings, its log, and the apps as it unpacked them.
        env: environment of every process of Flower and Ray.
        process: the SuperLink.
    """

    home: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes]

    def call(self, *words: str) -> dict[str, Any]:
        """Run ``flwr WORDS --format json``.

        Raises:
            RunError: Flower says why not.
        """
        said = self.text(*words, "--format", "json")
        try:
            answer: dict[str, Any] = json.loads(said)
        except json.JSONDecodeError:
            answer = {"error-message": said}
        if not answer.get("success"):
            raise RunError(f"flwr {words[0]}: {answer.get('error-message', said)}\n{self.log()}")
        return answer

    def text(self, *words: str) -> str:
        """What ``flwr WORDS`` prints, without colours."""
        command = [_program("flwr"), *words]
        try:
            done = subprocess.run(  # noqa: S603  our own words
                command, env=self.env, cwd=self.home / "empty", capture_output=True, timeout=_CALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise RunError(f"flwr {words[0]}: no answer within {_CALL_S:g} s\n{self.log()}") from None
        return _COLOUR.sub("", (done.stdout or done.stderr).decode(errors="replace"))

    def log(self) -> str:
        """The last lines of the SuperLink's log."""
        return _last_lines((self.home / "superlink.log").read_text(encoding="utf-8", errors="replace"))


@contextlib.contextmanager
def superlink(home: Path) -> Iterator[Flower]:
    """A SuperLink for one run in a fresh ``home``; it and all that it started are gone afterwards.

    Raises:
        RunError: it does not start.
    """
    shutil.rmtree(home, ignore_errors=True)  # Flower reuses unpacked apps without looking into them
    (home / "empty").mkdir(parents=True)
    port = _free_port()
    address = f"127.0.0.1:{port}"
    write_text(home / "config.toml", f'[superlink.{_CONNECTION}]\naddress = "{address}"\ninsecure = true\n')
    command = [_program("flower-superlink"), "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    # Ray's sockets stand in its folder, and the path of a socket has at most 107 bytes: hence /tmp.
    with tempfile.TemporaryDirectory(prefix="sarco-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        env = _environment(home, Path(ray))
        with (home / "superlink.log").open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  our own words
                [sys.executable, "-c", _DIES_WITH_US, *command],
                env=env, cwd=home / "empty", stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        groups = {process.pid}
        try:
            flower = Flower(home, env, process)
            _wait_for_port(flower, port)
            groups |= _groups_below(process.pid)
            yield flower
        finally:
            _stop(process, groups)


def _environment(home: Path, ray: Path) -> dict[str, str]:
    """This process's environment with a place of their own for Flower and Ray, one thread each, and no calls home."""
    own = {
        "FLWR_HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "RAY_TMPDIR": str(ray),
        "RAY_ADDRESS": "local",  # never somebody else's Ray cluster
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    return {**os.environ, **NO_CALLS_HOME, **own}


def _program(name: str) -> str:
    """A command of Flower, of the environment that this Python belongs to."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_port(flower: Flower, port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and flower.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RunError(f"Flower's SuperLink did not start within {_START_S:g} s:\n{flower.log()}")


def _wait(flower: Flower, run: Run, number: str) -> None:
    """Until the run directory holds the released model.

    The directory is looked at often, and Flower asked seldom: one question costs a second of a processor.
    """
    cfg = run.study.federation
    patience = 3 * cfg.round_deadline_s + run.coordinator.wait_for_sites_s + 600  # describe, setup and a round
    started = asked = moved = time.monotonic()
    rounds = -1
    while not run.released:
        now = time.monotonic()
        if (found := len(list((run.folder / "rounds").glob("*.json")))) != rounds:
            rounds, moved = found, now
        if flower.process.poll() is not None:
            raise RunError(f"{run.folder}: Flower's SuperLink ended in the middle of the run:\n{flower.log()}")
        if now - moved > patience:
            raise RunError(f"{run.folder}: no round for {patience:g} s on Flower's engine:\n{_run_log(flower, number)}")
        if now - asked > min(30.0, max(10.0, (now - started) / 10)):
            _require_alive(flower, run, number)
            asked = time.monotonic()
        time.sleep(0.2)


def _require_alive(flower: Flower, run: Run, number: str) -> None:
    state = flower.call("ls", _CONNECTION, "--run-id", number)["runs"][0]
    if str(state["status"]).startswith("finished") and not run.released:
        ended = f"{state['status']} ({state['status-details']})"
        raise RunError(
            f"{run.folder}: the run ended on Flower's engine as {ended}: mend what {flower.home / RUN_LOG} says and "
            f"run the same command again. Its last lines:\n{_run_log(flower, number)}"
        )


def _run_log(flower: Flower, number: str) -> str:
    text = flower.text("log", number, _CONNECTION, "--show")
    write_text(flower.home / RUN_LOG, text)
    return _last_lines(text)


def _last_lines(text: str) -> str:
    lines = [line.rstrip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    return "\n".join(lines[-_LOG_LINES:])


def _stop(process: subprocess.Popen[bytes], groups: set[int]) -> None:
    """Ask the SuperLink to end, which ends what it started; what is left after a while is killed by process group."""
    groups = groups | _groups_below(process.pid)
    process.terminate()
    try:
        _wait_for_end(process, groups)
    finally:  # also when Ctrl-C is pressed again
        for group in groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        _wait_for_end(process, groups)


def _wait_for_end(process: subprocess.Popen[bytes], groups: set[int]) -> None:
    deadline = time.monotonic() + _STOP_S
    while time.monotonic() < deadline and (process.poll() is None or _living(groups)):
        time.sleep(0.1)


def _groups_below(pid: int) -> set[int]:
    """Process groups of all descendants; empty where there is no /proc, and Flower's own watching must do."""
    table = _processes()
    below, groups = {pid}, set()
    while more := {p for p, (parent, _) in table.items() if parent in below} - below:
        below |= more
        groups |= {table[p][1] for p in more}
    return groups


def _living(groups: set[int]) -> bool:
    return any(group in groups for _, group in _processes().values())


def _processes() -> dict[int, tuple[int, int]]:
    """Process -> parent and group, of all that are not zombies."""
    table = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (name) state parent group ...; the name may hold spaces and brackets
            state, parent, group = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:3]
            if state != "Z":
                table[int(path.parent.name)] = (int(parent), int(group))
    return table
