"""A coordinator and hospitals as separate processes on the loopback, made and run by the commands that people type.

Everything lies in one short folder: Unix sockets have short names, and every process of the federation can be found by
it. At the end of the block nothing of it is left running, whatever happened.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sarco_models.config import StudyConfig
from sarco_models.errors import SarcoError
from tests.deployment.faulty_line import FaultyLine
from tests.deployment.hospital import SITE, Hospital, pids, tail
from tests.deployment.run_under_way import COORDINATOR, RunUnderWay
from tests.deployment.started import (
    Said,
    Started,
    alive,
    arguments,
    end_all,
    processes_of,
    say,
    wait_until,
)
from tests.sites import site_of


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class Federation:
    """A coordinator's home, its hospitals, and the ways to hurt them."""

    base: Path
    study: StudyConfig
    hospitals: dict[str, Hospital] = field(default_factory=dict)
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    started: Started | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    runs: int = 0

    # ---- how it is made ----------------------------------------------------------------------------------------------

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def address(self) -> str:
        """Of the gate."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def study_file(self) -> Path:
        return self.base / "study.toml"

    def coordinator(self, *words: str | Path, timeout: float = 120) -> Said:
        """Run a command of the coordinator to its end."""
        return say(self.base, COORDINATOR, *words, timeout=timeout)

    def site(self, *words: str | Path, timeout: float = 120) -> Said:
        """Run a command of a hospital to its end."""
        return say(self.base, SITE, *words, timeout=timeout)

    def found_home(self) -> None:
        """``sarco-coordinator init``, on ports of its own."""
        self.study_file.write_text(_toml(self.study))
        words = ("init", self.home, "--address", self.address, "--study", self.study_file)
        self.coordinator(*words).well()
        path = self.home / "coordinator.toml"
        path.write_text(_with_ports(path.read_text(), *self.ports))

    def found_hospital(self, name: str, people: int = 30, relay_user: str = "") -> Hospital:
        """``sarco-site init``: its keys and what it will send to the coordinator."""
        hospital = self.hospitals[name] = Hospital(name, self.base)
        site_of(hospital.data, self.study, people, seed=10 + len(self.hospitals))
        relay = ("--relay-user", relay_user) if relay_user else ()
        self.site("init", hospital.folder, "--name", name, "--data", hospital.data, *relay).well()
        return hospital

    def enrol(self, *names: str) -> None:
        """``sarco-coordinator enrol``."""
        files = [self.hospitals[name].folder / f"{name}.pub" for name in names]
        self.coordinator("enrol", *files, "--home", self.home).well()

    def approve(self, name: str, *, lined: bool = False) -> None:
        """``sarco-site approve``: the kit as the coordinator wrote it, but for the address where there is a line."""
        hospital, kit = self.hospitals[name], self.home / "kits" / f"{name}.kit"
        if lined:
            hospital.lined = self.stack.enter_context(self.new_line().open())
            said = json.loads(kit.read_text()) | {"address": f"127.0.0.1:{hospital.line.port}"}
            kit = self.base / f"{name}.kit"
            kit.write_text(json.dumps(said))
        self.site("approve", kit, "--site", hospital.site_file, "--yes").well()

    def new_line(self) -> FaultyLine:
        """A line to the gate, with the gate's own certificate."""
        ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        ours.load_cert_chain(self.home / "server.pem", self.home / "server.key")
        theirs = ssl.create_default_context(cafile=str(self.home / "ca.pem"))
        return FaultyLine(("127.0.0.1", self.ports[0]), ours, theirs)

    # ---- how it is run -----------------------------------------------------------------------------------------------

    def up(self) -> Started:
        """``sarco-coordinator up``, in the foreground of a process that dies with the test."""
        self.begin_up()
        return self.wait_up()

    def begin_up(self) -> None:
        """Of the main thread only: what another thread starts dies with that thread."""
        words = arguments(COORDINATOR, "up", self.home, "--foreground")
        self.started = Started(self.base, self.base / "said" / "up.log", words)

    def wait_up(self) -> Started:
        """Until the SuperLink, the SuperExec and the gate answer."""
        assert self.started
        self.wait(lambda: len(self.coordinator_pids()) >= 3 and _listens(self.ports[0]), 60, "the coordinator is up")
        return self.started

    def coordinator_pids(self) -> dict[str, int]:
        """superlink, superexec, gate."""
        return pids(self.home / "run" / "state.json")

    def coordinator_processes(self) -> list[int]:
        """What ``up`` keeps running, and what that has started."""
        marks = ("flower-", "flwr-", "server.gate")
        return [pid for pid, line in processes_of(self.home) if alive(pid) and any(mark in line for mark in marks)]

    def pid(self, role: str) -> int:
        """A process of the coordinator, or of a hospital as ``alpha.worker``."""
        site, _, part = role.rpartition(".")
        if site:
            return self.hospitals[site].pid(part)
        if role == "serverapp":
            return next(pid for pid, line in processes_of(self.home) if "flwr-serverapp" in line and alive(pid))
        return self.coordinator_pids()[role]

    def join(self, *names: str) -> None:
        """``sarco-site join`` at these hospitals; waits until their processes run."""
        for name in names:
            self.hospitals[name].join()
        for name in names:
            self.wait_joined(name)

    def forget_models(self) -> None:
        """Let this study be run again; neither side allows it: hospitals answer for one model (client/once.py)."""
        for done in (self.home / "runs").glob("*/model.json"):
            done.parent.rename(self.base / f"done-{done.parent.name}")
        for hospital in self.hospitals.values():
            for note in hospital.folder.glob("state/*ed-*.txt"):
                note.unlink()

    def wait_joined(self, name: str, seconds: float = 90) -> None:
        hospital = self.hospitals[name]
        self.wait(lambda: len(pids(hospital.folder / "run" / "state.json")) >= 3, seconds, f"{name} has joined")

    def wait_online(self, *names: str, seconds: float = 60) -> None:
        """Until the SuperLink says that these hospitals are online."""
        from server.control import Control
        from server.home import Home

        def online() -> bool:
            with suppress(SarcoError), Control(Home.open(self.home)) as control:
                return set(names) <= {node.name for node in control.nodes() if node.online}
            return False

        self.wait(online, seconds, f"{names} are online")

    def start_run(self, name: str = "") -> RunUnderWay:
        """``sarco-coordinator run``, followed; returns at once."""
        self.runs += 1
        name = name or f"run{self.runs}"
        words = arguments(COORDINATOR, "run", self.study_file, "--home", self.home, "--name", name)
        return RunUnderWay(self, name, Started(self.base, self.base / "said" / f"{name}.log", words))

    # ---- how it is hurt ----------------------------------------------------------------------------------------------

    def signal(self, role: str, number: signal.Signals) -> int:
        """Send a signal to one process, by its number; returns that."""
        pid = self.pid(role)
        os.kill(pid, number)
        return pid

    def kill(self, role: str) -> int:
        """SIGKILL."""
        return self.signal(role, signal.SIGKILL)

    @contextmanager
    def frozen(self, *roles: str) -> Iterator[None]:
        """Stop processes (SIGSTOP) for the time of the block; what died meanwhile is left alone."""
        stopped = [self.signal(role, signal.SIGSTOP) for role in roles]
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    # ---- what is seen ------------------------------------------------------------------------------------------------

    def wait(self, happened: Any, seconds: float, what: str) -> None:
        """Wait for a condition; every log is in the failure."""
        wait_until(happened, seconds, what, self.words)

    def words(self) -> str:
        """The ends of every log of this federation."""
        logs = [*sorted(self.home.glob("logs/*.log")), *sorted((self.base / "said").glob("*.log"))]
        parts = [f"--- {log.name}\n{tail(log)}" for log in logs]
        parts += [hospital.words() for hospital in self.hospitals.values()]
        return "\n".join([*parts, "--- processes", *(line for _, line in processes_of(self.base))])

    def close(self) -> list[str]:
        """End everything; returns what only a SIGKILL ended after the supervisors had stopped."""
        for started in [*(h.started for h in self.hospitals.values()), self.started]:
            if started:
                with suppress(ProcessLookupError):
                    started.process.send_signal(signal.SIGCONT)
                    started.process.terminate()
        for started in [*(h.started for h in self.hospitals.values()), self.started]:
            if started:
                started.stop()
        self.stack.close()
        return end_all(self.base)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _with_ports(text: str, gate: int, superlink: int, dashboard: int) -> str:
    """The coordinator.toml of a machine on which other federations run."""
    wanted = {"superlink_port": superlink, "dashboard_port": dashboard, "port": gate, "host": '"127.0.0.1"'}
    lines = []
    for line in text.splitlines():
        key = line.split("=")[0].strip().lstrip("# ")
        lines.append(f"{key} = {wanted[key]}" if "=" in line and key in wanted else line)
    return "\n".join(lines) + "\n"


def _toml(study: StudyConfig) -> str:
    """The study as hospitals read it."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {written(v)}" for key, v in value.items() if v is not None) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(written, value)) + "]"
        return json.dumps(value)

    tree = study.model_dump(mode="json")
    return "".join(f"{key} = {written(value)}\n" for key, value in tree.items() if value is not None)


@contextmanager
def federation(  # noqa: PLR0913 - what a test may want otherwise
    study: StudyConfig,
    names: tuple[str, ...],
    *,
    lined: tuple[str, ...] = (),
    join: tuple[str, ...] | None = None,
    relay_user: str = "",
    prepare: Callable[[Federation], None] = lambda _: None,
) -> Iterator[Federation]:
    """A coordinator that is up and hospitals that have joined; nothing of them is left at the end.

    Args:
        study: that all approve.
        names: of the hospitals.
        lined: those that reach the gate through a line of their own.
        join: those that join; default: all.
        relay_user: account of the hospitals' Flower programs; empty: none of their own.
        prepare: done when home and hospitals have their folders and nothing runs yet.
    """
    base = Path(tempfile.mkdtemp(prefix="fed-", dir="/tmp"))
    made = Federation(base, study)
    try:
        with ThreadPoolExecutor(2) as pool:
            made.found_home()
            list(pool.map(lambda name: made.found_hospital(name, relay_user=relay_user), names))
            prepare(made)
            made.enrol(*names)
            made.begin_up()
            list(pool.map(lambda name: made.approve(name, lined=name in lined), names))
            made.wait_up()
        made.join(*(names if join is None else join))
        yield made
    finally:
        made.close()
        _unmount(base)
        if not os.environ.get("KEEP_FEDERATIONS"):
            shutil.rmtree(base, ignore_errors=True)


def _unmount(base: Path) -> None:
    """Take away small disks that a test has put under folders."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in places:
        if place.startswith(f"{base}/"):
            subprocess.run(["/bin/umount", "--lazy", place], check=False)  # noqa: S603 - a mount of ours
