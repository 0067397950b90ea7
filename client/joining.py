"""A hospital's three programs, and what becomes of them: the worker, Flower's SuperNode, and Flower's SuperExec.

The worker is the hospital's own and sees the data. The other two run what the coordinator ships: where they have an
account of their own (``relay_user``, as root) they see no data, else a warning says so. All connections go outwards.
What cannot be helped by starting a program again ends the whole, with the reason and the way out.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from client.accounts import closed_to_relay, end_relay, give, made_anew, own, owner_of, relay_groups, relay_of
from client.contact import REMEDIES, SAYS, End, plain, read_contact
from client.kit import Kit, other_study
from client.private_files import write_private
from client.site_folder import SiteFolder
from client.suitability import insist
from sarco_models.chain import Chain
from sarco_models.errors import ConfigError, ProcessError
from sarco_models.processes import Program, quiet_environment, states, supervisor_of

WORKER, SUPERNODE, SUPEREXEC = "worker", "supernode", "superexec"

SMALL_PIECES = 900_000
"""Bytes of a piece of an update behind a proxy that refuses 1 MB; Flower's own pieces have 5 MB."""

PIECES = "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE"
"""Variable that Flower reads the size of its pieces from."""

_POLL_S = "0.2"
_PORTS = range(20_000, 32_768)
_STARTS = 3
_FORGOTTEN_S = 3600.0
_LAST_LINES = 6

WORKER_PATIENCE_S = 900.0
"""How long a worker that was asked to end may take: a round that was charged is finished and kept, not paid twice."""

_WORKER_WORDS = {
    2: "the worker does not start: site.toml, the study or the socket is wrong",
    3: "the worker does not start: the data cannot be used",
    4: "the worker does not start: another worker of this hospital is running",
    5: "the worker does not start: the audit log or the ledger was changed",
}
_LATER = frozenset({End.STOPPED, End.LOST, End.FROZEN})
HOPELESS = tuple(end for end in End if end not in _LATER and end is not End.WILL_NOT_START)
"""Ends of a SuperNode that need somebody; a proxy's limit only where the pieces were small already."""


@dataclass
class Verdicts:
    """Whether a program that has ended can be helped by starting it again; remembers what happened before.

    Attributes:
        folder: of the hospital.
        small_pieces: called when a proxy refuses pieces; says whether they were large until then.
        clock: seconds.
    """

    folder: SiteFolder
    small_pieces: Callable[[], bool] = lambda: True
    clock: Callable[[], float] = time.monotonic
    _failed_starts: tuple[float, ...] = ()

    def worker(self, code: int, said: str) -> str:
        """Of the worker: its codes 2 to 5 need somebody to mend the cause."""
        words = _WORKER_WORDS.get(code, "")
        return f"{words}\n{_last(said)}\nIts log: {self.folder.logs / 'worker.log'}" if words else ""

    def supernode(self, code: int, said: str) -> str:
        """Of the SuperNode: see :class:`client.contact.End`."""
        try:
            end = End(code)
        except ValueError:
            end = End.LOST
        if end in _LATER or (end is End.PROXY_LIMIT and self.small_pieces()):
            return ""
        if end is End.WILL_NOT_START:
            now = self.clock()
            self._failed_starts = (*(then for then in self._failed_starts if now - then < _FORGOTTEN_S), now)
            if len(self._failed_starts) < _STARTS:
                return ""
        contact = read_contact(self.folder.contact)
        why = str(contact.get("said") or "") if contact.get("code") == end else ""
        last = f"\n{_last(said)}" if end is End.WILL_NOT_START else ""
        return f"{why or SAYS[end]}\nWhat to do: {REMEDIES[end]}{last}"


def _last(said: str) -> str:
    return "\n".join(f"  | {plain(line)}" for line in said.splitlines()[-_LAST_LINES:])


@dataclass(frozen=True)
class Joining:
    """What is needed to join.

    Attributes:
        folder: of the hospital.
        kit: that was approved.
        port: free one, for Flower's programs to find each other on 127.0.0.1.
        executor: environment of the SuperExec; when a proxy asks for small pieces it grows, for the next start.
    """

    folder: SiteFolder
    kit: Kit
    port: int
    executor: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def prepare(folder: SiteFolder, kit: Kit) -> Joining:
        """Check what can be checked without the coordinator, and lay out Flower's folder.

        Raises:
            ConfigError: the study is not approved, or the data do not suit it; a key is not private; the relay's
                account cannot be used or can read the data.
        """
        _check(folder, kit)
        insist(folder, kit.study)
        closed_to_relay(folder)
        try:
            _lay_out(folder)
        except OSError as error:
            raise ConfigError(
                f"{error.filename or folder.path}: {error.strerror}: this folder must be writable for the account that "
                "joins, on a disk with room; nothing was started"
            ) from None
        executor = quiet_environment(folder.flower, FLWR_SUPEREXEC_TASK_POLL_INTERVAL=_POLL_S)
        if _small_pieces_mark(folder).exists():
            executor[PIECES] = str(SMALL_PIECES)
        return Joining(folder, kit, free_port(), executor)

    def programs(self) -> tuple[Program, ...]:
        """The three, in the order in which they start."""
        folder = self.folder
        quiet = quiet_environment(folder.flower)
        verdicts = Verdicts(folder, small_pieces=self._use_small_pieces)
        plain = quiet_environment(folder.run)
        return (
            Program(
                WORKER, self._worker(), plain, folder.logs / "worker.log", folder.path,
                user=owner_of(folder), groups=relay_groups(folder),
                ready=lambda: accepts(folder.socket), hopeless=verdicts.worker, patience_s=WORKER_PATIENCE_S,
            ),
            Program(
                SUPERNODE, self._supernode(), quiet, folder.logs / "supernode.log", folder.flower,
                user=relay_of(folder), ready=lambda: listens(self.port), hopeless=verdicts.supernode,
            ),
            Program(
                SUPEREXEC, self._superexec(), self.executor, folder.logs / "superexec.log", folder.flower,
                user=relay_of(folder),
            ),
        )  # fmt: skip

    def _worker(self) -> tuple[str, ...]:
        command = (sys.executable, "-m", "client.worker", str(self.folder.site_file), "--socket")
        group = [word for number in relay_groups(self.folder) for word in ("--socket-group", str(number))]
        return (*command, str(self.folder.socket), *group)

    def _supernode(self) -> tuple[str, ...]:
        flower = self.folder.flower
        certificate = flower / "client.pem"
        shown = ("--client-certificate", str(certificate), "--node-key", str(flower / "node.pem"))
        return (
            *(sys.executable, "-m", "client.supernode", "--contact", str(self.folder.contact)),
            *(shown if certificate.exists() else ()),
            *("--", "--superlink", self.kit.address, "--root-certificates", str(flower / "ca.pem")),
            *("--auth-supernode-private-key", str(flower / "node.pem"), "--isolation", "process"),
            *("--superexec-auth-secret-file", str(flower / "superexec.secret")),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--node-config", f'worker="{self.folder.socket}"'),
        )

    def _superexec(self) -> tuple[str, ...]:
        secret = str(self.folder.flower / "superexec.secret")
        address = f"127.0.0.1:{self.port}"
        command = (sys.executable, "-m", "client.superexec", "--runtime-api-address", address, "--insecure")
        return (*command, "--superexec-auth-secret-file", secret)

    def _use_small_pieces(self) -> bool:
        """From now on, and at every later join: the proxy stays. Returns whether that is news."""
        if PIECES in self.executor:
            return False
        self.executor[PIECES] = str(SMALL_PIECES)
        with suppress(OSError):
            write_private(_small_pieces_mark(self.folder), "")
        pid = int(states(self.folder.state_file).get(SUPEREXEC, {}).get("pid", 0))
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGTERM)
        return True


def _small_pieces_mark(folder: SiteFolder) -> Path:
    return folder.run / "small-pieces"


def _check(folder: SiteFolder, kit: Kit) -> None:
    """What every request would be refused for, and keys that are absent or not private."""
    from client.approval import FILE, Approvals

    lacking = Approvals(folder.path / FILE).lacking(kit.digest)
    if lacking and kit.digest not in folder.settings.get("policy", {}).get("approved_studies", []):
        raise ConfigError(
            f"{folder.path}: study {kit.digest[:12]} has no valid approval: {lacking}: every request would be "
            f"refused; sarco-site approve {folder.kit} --site {folder.site_file}"
        )
    other = other_study(folder, kit)
    if other:
        raise ConfigError(f"{other}: every request would be refused; set study to the file that you have approved")
    if '"' in str(folder.path):
        raise ConfigError(f'{folder.path}: a folder with " in its name cannot be given to Flower: rename it')
    for key in (folder.node_key, folder.state / "identity.pem"):
        if not key.exists():
            raise ConfigError(
                f"{key}: this hospital's key is not there: restore it from a backup; or make a new folder with "
                "sarco-site init, and send its NAME.pub to the coordinator"
            )
        if key.stat().st_mode & 0o077:
            raise ConfigError(f"{key}: others on this machine can read it: chmod 600 {key}")


def _lay_out(folder: SiteFolder) -> None:
    """What Flower's programs may see: copies that belong to their account, and a fresh secret between the two."""
    flower = folder.flower
    end_relay(folder)
    made_anew(folder)
    for place in (folder.run, folder.logs):
        place.mkdir(exist_ok=True, mode=0o700)
    for place in (folder.logs, folder.cache):
        if place.is_dir():
            place.chmod(0o700)  # preprocessed pixels lie in the cache
    write_private(flower / "superexec.secret", secrets.token_hex(32))
    for source, name in ((folder.node_key, "node.pem"), (folder.authority, "ca.pem")):
        write_private(flower / name, source.read_text(encoding="utf-8"))
    if folder.client_certificate.exists():
        write_private(flower / "client.pem", folder.client_certificate.read_text(encoding="utf-8"))
    _hand_over(folder)


def _hand_over(folder: SiteFolder) -> None:
    """What root has written goes to the two accounts."""
    relay = relay_of(folder)
    if relay:
        give(folder, relay)
    if owner_of(folder):
        for name in (WORKER, SUPERNODE, SUPEREXEC):  # made by the supervisor they would be root's
            os.close(os.open(folder.logs / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        own(folder)


def accepts(path: Path) -> bool:
    """Whether somebody listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1.0)
        line.connect(str(path))
    return True


def listens(port: int) -> bool:
    """Whether somebody listens at a port of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, below those that the system gives away by itself.

    Raises:
        OSError: none of twenty can be opened.
    """
    ports = [_PORTS.start + secrets.randbelow(len(_PORTS)) for _ in range(20)]
    for port in ports[:-1]:
        with suppress(OSError):
            return _opened(port)
    return _opened(ports[-1])


def _opened(port: int) -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", port))
        return port


def leave(folder: SiteFolder) -> Iterator[str]:
    """Ask the processes to end, and say what stays.

    Raises:
        ProcessError: they do not end.
    """
    from client.approval import login

    pid = supervisor_of(folder.state_file)
    if pid:
        connected = read_contact(folder.contact).get("phase") == "connected"
        try:
            os.kill(pid, signal.SIGTERM)
        except PermissionError:
            raise ProcessError(
                f"process {pid} belongs to another account: give sarco-site leave {folder.path} as the one that has "
                "joined, or as root"
            ) from None
        except ProcessLookupError:
            pass  # it ends by itself just now
        yield f"process {pid} was asked to end; a round that is paid for is finished first, which may take minutes"
        until = time.monotonic() + WORKER_PATIENCE_S + 45.0
        while supervisor_of(folder.state_file) and time.monotonic() < until:
            time.sleep(0.1)
        if supervisor_of(folder.state_file):
            raise ProcessError(f"process {pid} does not end: look at {folder.logs}; kill -9 {pid} ends all of it")
        Chain(folder.audit).append("left", {"by": login()})
        if owner_of(folder):
            own(folder)
        told = connected and read_contact(folder.contact).get("code") == End.STOPPED
        knows = "knows" if told else "could not be told: it notices within a minute"
        yield f"{folder.name} has left: its processes have ended, and the coordinator {knows}"
    else:
        yield f"{folder.name} is not joined: no process runs. A service ends with systemctl: sarco-{folder.name}.target"
    yield f"What stays here: the data, {folder.state} (audit log, ledger, key), the approvals, and the kit."
    yield (
        f"What stays there: the coordinator may still admit your key. To take back the approval: sarco-site approve "
        f"{folder.path / 'study.json'} --site {folder.site_file} --withdraw; to be struck off, ask for a revoke."
    )
