"""``up``: the SuperLink, the SuperExec and the gate, kept running beside each other; ``down`` ends them.

Promised: nothing but the gate is reached from outside; what ends is started again (sarco_models/processes.py); what
cannot start is named before anything starts; hospitals that were enrolled meanwhile may connect; a run that died goes
on; the database is packed when nothing runs (server/watching.py). The database can be lost: the list of hospitals is
in sites.json, the runs in their directories.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sarco_models.errors import ProcessError, RunError
from sarco_models.processes import Program, Supervisor, end_orphans, program, quiet_environment, states, supervisor_of
from server.certificates import LOOPBACK, Authority, issue, names_of, read_certificate
from server.control import Control
from server.gate import gate_command, gate_hopeless, gate_ready
from server.home import Home
from server.renewal import renew_expiring
from server.watching import watch
from server.whole_files import write_text

Told = Callable[[str], None]

_NEEDED_MB = 200
_LOG_BYTES = 10_000_000
_PACK_MB, _PACK_SHARE = 8, 0.5
_READY_S, _STOP_S, _LEAVE_S = 60.0, 60.0, 2.0
_POLL = "0.2"
"""Seconds between two questions of the SuperExec whether there is work: it starts one process for each run."""


def programs(home: Home) -> tuple[Program, ...]:
    """What runs, in the order of starting."""
    flower, empty = home.flower, home.flower / "empty"
    # the apps start flwr-serverapp by its name, and that imports our packages
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = quiet_environment(flower, PATH=path, **_our_code())
    secret, ca = str(home.superexec_secret), str(home.ca)
    superlink = [sys.executable, "-m", "server.superlink", "--isolation", "process"]
    superlink += ["--superexec-auth-secret-file", secret]
    superlink += ["--database", str(home.database), "--enable-supernode-auth"]
    superlink += ["--disable-runtime-dependency-installation", "--host", "127.0.0.1"]
    superlink += ["--port", str(home.config.superlink_port), "--ssl-ca-certfile", ca]
    superlink += ["--ssl-certfile", str(home.loopback_certificate), "--ssl-keyfile", str(home.loopback_key)]
    superexec = [program("flower-superexec"), "--runtime-api-address", home.superlink, "--root-certificates", ca]
    superexec += ["--superexec-auth-secret-file", secret]
    polling = {**env, "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": _POLL}
    return (
        Program("superlink", tuple(superlink), env, home.logs / "superlink.log", empty, ready=partial(_answers, home)),
        Program(
            "gate",
            gate_command(home.folder),
            env,
            home.logs / "gate.log",
            empty,
            ready=partial(_gate_answers, home),
            hopeless=gate_hopeless,
        ),
        Program("superexec", tuple(superexec), polling, home.logs / "superexec.log", empty),
    )


def prepare(home: Home) -> None:
    """Make what ``up`` needs and is not there, and refuse what cannot work.

    Raises:
        RunError: the home cannot be written, its disk is full, or its database is locked or damaged.
        ProcessError: it is up already, or something else listens on one of its ports.
    """
    if owner := supervisor_of(home.state_file):
        raise ProcessError(f"{home.folder}: is up already, by process {owner}: see sarco-coordinator status")
    try:
        for folder in (home.state_file.parent, home.logs, home.flower / "empty", home.runs_folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_writable(home)
        _issue_absent(home)
    except OSError as error:
        raise RunError(
            f"{error.filename or home.folder}: {error.strerror}: the home must be on a disk that can be written and "
            f"has room, and belong to the account that runs up (this is user {os.getuid()})"
        ) from None
    end_orphans(home.state_file)
    home.state_file.unlink(missing_ok=True)  # of a supervisor that was killed: it says what is no more
    gate = home.config.gate
    _check_port("127.0.0.1", home.config.superlink_port, "superlink_port")
    _check_port(gate.host, gate.port, "gate.port")
    pack(home)


def run_up(home: Home, told: Told) -> str:
    """Keep everything running until SIGTERM or SIGINT.

    Args:
        home: of the coordinator.
        told: hears what happens, in sentences.

    Returns:
        Why it gave up; empty when it was asked to end.

    Raises:
        ProcessError, RunError: as :func:`prepare`.
    """
    prepare(home)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    supervisor = Supervisor(programs(home), home.state_file)
    watcher = threading.Thread(target=watch, args=(home, stop, told, partial(pack, home)), daemon=True)
    supervisor.start()
    try:
        watcher.start()
        return supervisor.watch(stop, told)
    finally:
        stop.set()
        supervisor.stop()
        watcher.join(timeout=_LEAVE_S)
        with contextlib.suppress(RunError):
            pack(home)


def start_up(home: Home) -> None:
    """Start ``up --foreground`` in the background, and wait until everything answers.

    Raises:
        ProcessError: it ended, or does not answer in time; the message ends with what it said.
        RunError: as :func:`prepare`.
    """
    prepare(home)
    log = home.logs / "up.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name("up.log.1"))
    begin = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "server.cli", "up", str(home.folder), "--foreground"]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603  our own words
            command, env={**os.environ, **_our_code()}, cwd=home.folder, stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + _READY_S
    while time.monotonic() < until and process.poll() is None:
        if supervisor_of(home.state_file) == process.pid and is_ready(home):
            process.returncode = 0  # it stays when we end; nobody waits for it
            return
        time.sleep(0.2)
    said = log.read_bytes()[begin:].decode("utf-8", "replace").strip()
    if process.poll() is None:
        process.terminate()
        process.wait()
        said = f"{said}\n{_last_words(home)}".strip()
    raise ProcessError(f"{home.folder}: does not come up within {_READY_S:g} s:\n{said}")


def take_down(home: Home) -> bool:
    """End everything that ``up`` keeps running; a run at work goes on at the next ``up``. Returns whether it was up.

    Raises:
        ProcessError: it does not end.
    """
    owner = supervisor_of(home.state_file)
    if not owner:
        end_orphans(home.state_file)
        return False
    try:
        os.kill(owner, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise ProcessError(f"{home.folder}: process {owner} belongs to another account: run down as that one") from None
    until = time.monotonic() + _STOP_S
    while supervisor_of(home.state_file):
        if time.monotonic() > until:
            raise ProcessError(f"{home.folder}: process {owner} does not end: kill {owner}, and what it started ends")
        time.sleep(0.1)
    return True


def is_ready(home: Home) -> bool:
    """Whether everything runs, and SuperLink and gate answer."""
    found = states(home.state_file)
    return bool(found) and all(process.get("ready") for process in found.values())


def pack(home: Home) -> None:
    """Give the free pages of the database back to the disk; they may also hold what was sent once.

    Raises:
        RunError: the database is locked or damaged.
    """
    if not home.database.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(home.database, timeout=5.0, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            free, pages, size = (
                int(database.execute(f"PRAGMA {what}").fetchone()[0])
                for what in ("freelist_count", "page_count", "page_size")
            )
            database.execute("COMMIT")
            if free * size > _PACK_MB * 2**20 and free > _PACK_SHARE * pages:
                database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        raise RunError(
            f"{home.database}: {error}: end the program that holds it open, make room on its disk, or give it back to "
            "the account that runs up"
        ) from None
    except sqlite3.DatabaseError as error:
        raise RunError(
            f"{home.database}: {error}: move the file and its -wal and -shm away and run up again: the hospitals are "
            "registered anew from sites.json, and runs go on from their directories"
        ) from None


def make_secret(path: Path) -> None:
    """Write 256 random bits, readable by their owner only, where there are none."""
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_text(path, secrets.token_hex(32), mode=0o600)


def _answers(home: Home) -> bool:
    with Control(home, timeout_s=3.0) as control:
        return control.answers()


def _gate_answers(home: Home) -> bool:
    """Whether TLS with our certificate is spoken at the gate's port."""
    gate = home.config.gate
    if gate.client_certificates:  # a handshake without one would stand in the list of refusals
        return gate_ready(home)()
    trusted = ssl.create_default_context(cafile=str(home.ca))
    trusted.check_hostname = False  # it is asked on this machine, under another name
    host = "127.0.0.1" if gate.host in ("0.0.0.0", "::") else gate.host  # noqa: S104 - not bound here
    try:
        with socket.create_connection((host, gate.port), timeout=3) as plain, trusted.wrap_socket(plain):
            return True
    except OSError:
        return False


def _check_writable(home: Home) -> None:
    trial = home.state_file.parent / f"trial.{os.getpid()}.partial"
    trial.write_bytes(bytes(2**16))
    trial.unlink()
    free = shutil.disk_usage(home.folder).free / 2**20
    if free < _NEEDED_MB:
        raise RunError(
            f"{home.folder}: {free:.0f} MB are free on its disk, {_NEEDED_MB} are needed: messages and the models of "
            "rounds are kept there"
        )


def _issue_absent(home: Home) -> None:
    """Certificates that were removed, end soon or are of another address, and the secret."""
    authority = Authority(home.ca, home.ca.with_name("ca.key"))
    host = home.config.address.rpartition(":")[0]
    for path, names in ((home.certificate, (host,)), (home.loopback_certificate, LOOPBACK)):
        there = path.exists() and path.with_suffix(".key").exists()
        if not there or names[0] not in names_of(read_certificate(path)):
            issue(authority, path.with_suffix(""), names)
    renew_expiring(authority, (home.certificate, home.loopback_certificate))
    make_secret(home.superexec_secret)


def _check_port(host: str, port: int, setting: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise ProcessError(
                f"port {port} of {host} ({setting} in coordinator.toml): {error.strerror}: end what listens there "
                f"(ss -ltnp 'sport = :{port}' names it), or write another port"
            ) from None


def _our_code() -> dict[str, str]:
    """Where this code is imported from, for processes that start elsewhere; nothing where it is installed."""
    root = Path(__file__).resolve().parent.parent
    if "site-packages" in root.parts:
        return {}
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(root)]
    return {"PYTHONPATH": os.pathsep.join([str(root), *known])}


def _last_words(home: Home) -> str:
    lines = []
    for name in ("superlink", "gate"):
        path = home.logs / f"{name}.log"
        if path.exists():
            lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    return "\n".join(lines)
