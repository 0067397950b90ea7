"""A hospital's part as systemd services: started with the machine, walled in, each with no more than it needs.

    sarco-NAME-worker       sees the data, read-only, and no network at all; its own account
    sarco-NAME-supernode    reaches the coordinator, and sees no data; the relay's account
    sarco-NAME-superexec    runs the coordinator's code: reaches nobody outside, and sees no data; the relay's account
    sarco-NAME.target       the three together

systemd is the supervisor here: it starts again what ends. Nothing is started by writing the files.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.accounts import own
from client.approval import FILE as APPROVALS
from client.coordinator_line import parts_of, proxy_for
from client.joining import HOPELESS, PIECES, SMALL_PIECES, SUPEREXEC, SUPERNODE, WORKER, WORKER_PATIENCE_S, Joining
from client.kit import Kit
from client.private_files import write_private
from client.site_folder import SiteFolder
from sarco_models.errors import ConfigError, ProcessError
from sarco_models.processes import Program, supervisor_of

UNITS = Path("/etc/systemd/system")
_RESOLVER = Path("/etc/resolv.conf")

_WALLS = """\
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices={devices}
ProtectSystem=strict
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077
"""

_UNIT = """\
# Written by sarco-site join {folder} --install-service; written again by it, so change it with systemctl edit.
[Unit]
Description=SARCO-FL, {name}: {what}
After=network-online.target time-sync.target{after}
Wants=network-online.target time-sync.target
PartOf=sarco-{name}.target
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
Group={group}
WorkingDirectory={cwd}
{environment}ExecStart={command}
Restart=always
RestartSec={pause}
{limits}{walls}
[Install]
WantedBy=sarco-{name}.target
"""

_TARGET = """\
# Written by sarco-site join {folder} --install-service.
[Unit]
Description=SARCO-FL, {name}: this hospital's part in a federation
Wants={units}

[Install]
WantedBy=multi-user.target
"""

_PREVENTED = "RestartPreventExitStatus=2 3 5\n"
"""Of the worker: a wrong site.toml, unusable data, a log that was changed; they need somebody."""

_REFUSED = f"RestartPreventExitStatus={' '.join(str(int(end)) for end in HOPELESS)}\n"
"""Of the SuperNode: what asking again cannot mend; the small pieces that a proxy wants are made from the start."""


@dataclass(frozen=True)
class Accounts:
    """Who runs what.

    Attributes:
        worker: owns the folder, and reads the data.
        relay: runs Flower's programs.
    """

    worker: pwd.struct_passwd
    relay: pwd.struct_passwd

    @staticmethod
    def of(folder: SiteFolder) -> Accounts:
        """Both accounts, which must be two, and neither root.

        Raises:
            ConfigError: one is missing, or they are the same.
        """
        owner, name = pwd.getpwuid(folder.path.stat().st_uid), folder.relay_user
        if owner.pw_uid == 0:
            raise ConfigError(
                f"{folder.path}: belongs to root: give it, and the data, to an account of their own: "
                f"useradd --system sarco-site; chown -R sarco-site {folder.path} {folder.data}"
            )
        try:
            relay = pwd.getpwnam(name) if name else None
        except KeyError:
            relay = None
        if relay is None or relay.pw_uid in (0, owner.pw_uid):
            raise ConfigError(
                f"{folder.site_file}: relay_user = {name!r}; expected another account than root and {owner.pw_name}: "
                'useradd --system sarco-relay, and relay_user = "sarco-relay"'
            )
        return Accounts(owner, relay)


def install(folder: SiteFolder, kit: Kit, place: Path = UNITS, *, memory_gb: int = 8) -> Iterator[str]:
    """Write the units, and say how to start them.

    Args:
        folder: of the hospital.
        kit: that was approved.
        place: where systemd looks for units.
        memory_gb: the most that the worker may take.

    Raises:
        ConfigError: an account is missing, the coordinator's name is not known, or the files cannot be written.
        ProcessError: it has joined without services: what runs would lose its files.
    """
    accounts = Accounts.of(folder)
    pid = supervisor_of(folder.state_file)
    if pid:
        raise ProcessError(f"{folder.name} has joined (process {pid}): sarco-site leave {folder.path} first")
    reached(kit)  # fails before anything that runs has lost its files
    joining = Joining.prepare(folder, kit)
    joining.executor[PIECES] = str(SMALL_PIECES)  # no supervisor is there to do it when a proxy asks
    programs = {each.name: each for each in joining.programs()}
    found = units(folder, kit, programs, accounts, memory_gb=memory_gb)
    try:
        if os.geteuid() == 0:
            own(folder)
        for name, text in found.items():
            write_private(place / name, text)  # a proxy's password may stand in it
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror}: run this as root, or name a folder with --units") from None
    for name in found:
        yield f"written: {place / name}"
    if place == UNITS:
        target = _target(folder)
        yield (
            "Start it, now and with the machine (what runs already, starts again with its new secret): "
            f"systemctl daemon-reload && systemctl enable {target} && systemctl restart {target}"
        )
    yield f"Look at it: sarco-site status {folder.path}; journalctl -u 'sarco-{folder.name}-*'"
    yield (
        f"Take it away again: systemctl disable --now {_target(folder)}; rm {place}/sarco-{folder.name}*; "
        "systemctl daemon-reload"
    )
    if not _is_address(kit.host):
        yield f"Only today's addresses of {kit.host} may be reached: when they change, give this command again."


def units(
    folder: SiteFolder, kit: Kit, programs: Mapping[str, Program], accounts: Accounts, *, memory_gb: int
) -> dict[str, str]:
    """Text of each unit by its file's name."""
    names = {each: f"sarco-{folder.name}-{each}.service" for each in (WORKER, SUPERNODE, SUPEREXEC)}
    settings = folder.settings
    writes = [folder.state, folder.run, folder.logs, folder.cache]
    closed = [folder.data, folder.state, folder.node_key.parent, folder.kit.parent, folder.site_file]
    closed += [folder.cache, folder.logs, folder.path / APPROVALS]
    gpu = str(settings.get("device", "auto")) not in ("cpu",)
    read_only = f"ReadOnlyPaths={_paths([folder.path, folder.data])}\nReadWritePaths={_paths(writes, absent=True)}\n"
    own = (
        f"SupplementaryGroups={accounts.relay.pw_gid}\nPrivateNetwork=yes\nIPAddressDeny=any\n"
        f"RestrictAddressFamilies=AF_UNIX\nProtectHome=read-only\n{read_only}MemoryMax={memory_gb}G\n{_PREVENTED}"
        f"TimeoutStopSec={WORKER_PATIENCE_S:.0f}\n"
    )
    theirs = (
        f"InaccessiblePaths={_paths(closed, absent=True)}\nReadWritePaths={_paths([folder.flower])}\n"
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\nIPAddressDeny=any\n"
    )
    outside = " ".join(["localhost", *reached(kit)])
    walls = {
        WORKER: own + _WALLS.format(devices="no" if gpu else "yes"),
        SUPERNODE: theirs + f"IPAddressAllow={outside}\nMemoryMax=4G\n" + _REFUSED + _WALLS.format(devices="yes"),
        SUPEREXEC: theirs + "IPAddressAllow=localhost\nMemoryMax=4G\n" + _WALLS.format(devices="yes"),
    }
    what = {WORKER: "the worker, which alone sees the data", SUPERNODE: "the line to the coordinator"}
    found = {}
    for each, file in names.items():
        account = accounts.worker if each == WORKER else accounts.relay
        found[file] = _UNIT.format(
            folder=folder.path, name=folder.name, what=what.get(each, "what the coordinator ships, walled in"),
            after="" if each == WORKER else f" {names[WORKER]}", user=account.pw_name, group=_group(account),
            cwd=programs[each].cwd, environment=_environment(programs[each].env), limits=walls[each], walls="",
            command=_command(_with_group(programs[each].command, each, accounts)), pause=5 if each == WORKER else 10,
        )  # fmt: skip
    found[_target(folder)] = _TARGET.format(folder=folder.path, name=folder.name, units=" ".join(names.values()))
    return found


def _with_group(command: Sequence[str], name: str, accounts: Accounts) -> Sequence[str]:
    """The worker opens its socket to the relay's group, of which its own account must be a member."""
    if name != WORKER or "--socket-group" in command:
        return command
    return (*command, "--socket-group", str(accounts.relay.pw_gid))


def reached(kit: Kit) -> list[str]:
    """Addresses that may be reached: the coordinator's or the proxy's, and the name servers'.

    Raises:
        ConfigError: the name is not known here.
    """
    proxy = proxy_for(kit.host)
    host = (parts_of(proxy).hostname or kit.host) if proxy else kit.host
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        raise ConfigError(f"{host}: the name is not known here: sarco-site doctor says more") from None
    return sorted(found | ({*_name_servers()} if not _is_address(host) else set()))


def _name_servers() -> Iterator[str]:
    text = _RESOLVER.read_text(encoding="utf-8") if _RESOLVER.exists() else ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            yield words[1].partition("%")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _target(folder: SiteFolder) -> str:
    return f"sarco-{folder.name}.target"


def _group(account: pwd.struct_passwd) -> str:
    return str(account.pw_gid)


def _quoted(word: str) -> str:
    """A word as systemd reads it: nothing in it is expanded."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _command(words: Sequence[str]) -> str:
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _environment(env: Mapping[str, str]) -> str:
    return "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in sorted(env.items()))


def _paths(places: Sequence[Path], *, absent: bool = False) -> str:
    return " ".join(("-" if absent else "") + str(place).replace("%", "%%").replace(" ", "\\x20") for place in places)


def running(folder: SiteFolder) -> Iterator[str]:
    """How the services stand, where they are installed."""
    yield from (f"  service {unit}: {state}" for unit, state in _states(folder))


def active(folder: SiteFolder) -> list[str]:
    """The services that run, or are about to."""
    return [unit for unit, state in _states(folder) if state in ("active", "activating", "reloading")]


def _states(folder: SiteFolder) -> Iterator[tuple[str, str]]:
    systemctl = shutil.which("systemctl")
    if not (UNITS / _target(folder)).exists() or systemctl is None:
        return
    for name in (WORKER, SUPERNODE, SUPEREXEC):
        unit = f"sarco-{folder.name}-{name}.service"
        found = subprocess.run([systemctl, "is-active", unit], capture_output=True, text=True, check=False)  # noqa: S603
        yield unit, found.stdout.strip() or found.stderr.strip()
