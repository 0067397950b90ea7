"""Who runs what at a hospital: the worker as whose folder it is, Flower's programs as an account that sees no data.

Accounts can be changed by root only. Without one of their own Flower's programs run as whoever joins, and a warning
says what they could then read.
"""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from client.site_folder import SiteFolder
from sarco_models.errors import ConfigError

FOR_FLOWER = ("node.pem", "ca.pem", "client.pem", "superexec.secret")
"""Files that Flower's programs need, in their own folder."""

_PEOPLE = 1000
"""Numbers of accounts from here on are people's, and nobody's."""

_MOST_FILES = 20_000


def relay_of(folder: SiteFolder) -> str:
    """Account for Flower's programs; empty where this process cannot change accounts, or none was named."""
    return folder.relay_user if os.geteuid() == 0 else ""


def owner_of(folder: SiteFolder) -> str:
    """Account of the worker: whose folder it is; empty where that is this process's own, or cannot be changed."""
    owner = folder.path.stat().st_uid
    return str(owner) if os.geteuid() == 0 and owner != 0 else ""


def relay_groups(folder: SiteFolder) -> tuple[int, ...]:
    """Groups that the worker needs besides its own, to open its socket to the relay."""
    relay = relay_of(folder)
    return (pwd.getpwnam(relay).pw_gid,) if relay else ()


def warnings(folder: SiteFolder) -> Iterator[str]:
    """What a hospital should know before it joins."""
    if not relay_of(folder):
        yield (
            "warning: Flower's programs run code that the coordinator ships, here as an account that can read the "
            'data. Give them their own: useradd --system sarco-relay; relay_user = "sarco-relay" in site.toml; join as '
            "root, or as a service (--install-service)"
        )
        return
    if account_of(folder, relay_of(folder)).pw_uid >= _PEOPLE:
        yield (
            f"warning: {relay_of(folder)} is no system account, so what the coordinator's code leaves running as it is "
            "not ended: useradd --system sarco-relay"
        )


def closed_to_relay(folder: SiteFolder) -> None:
    """An account of their own is of no use to anybody where it can read the data.

    Raises:
        ConfigError: Flower's programs would run as it, and it can.
    """
    found = open_to_others(folder) if relay_of(folder) else None
    if found:
        raise ConfigError(
            f"{found}: can be read by {folder.relay_user}, and so by the code that the coordinator ships: "
            f"chmod -R go-rwx {folder.data}, and its owner must be another account; nothing was started"
        )


def open_to_others(folder: SiteFolder) -> Path | None:
    """A file of the data that the relay's account may read, as owner, by a group, or as anybody; None: there is none.

    Names can be guessed, so a folder that may be passed counts as one that may be listed.
    """
    may, data = _rights_of(folder.relay_user), folder.data.resolve()
    looked = 0
    for place, folders, files in os.walk(data) if all(may(parent, 1) for parent in data.parents) else ():
        if not may(Path(place), 1):
            folders.clear()
            continue
        for name in sorted(files):
            if may(Path(place, name), 4):
                return Path(place, name)
        looked += len(files)
        if looked > _MOST_FILES:
            break
    return None


def _rights_of(account: str) -> Callable[[Path, int], bool]:
    """Whether an account has a right (4 to read, 1 to pass) to a path; of none, or an unknown one: whether all have."""
    user, groups = -1, list[int]()
    with suppress(KeyError):
        entry = pwd.getpwnam(account)
        user, groups = entry.pw_uid, os.getgrouplist(account, entry.pw_gid)

    def may(path: Path, right: int) -> bool:
        try:
            found = path.stat()
        except FileNotFoundError:  # a link to nowhere
            return False
        shift = 6 if found.st_uid == user else 3 if found.st_gid in groups else 0
        return bool(found.st_mode >> shift & right)

    return may


def own(folder: SiteFolder) -> None:
    """What a command of root's has left in the folder belongs to whose folder it is.

    But for Flower's folder and the data, which may lie inside. No link is followed, also where one is put in between.
    """
    owner, data = folder.path.stat().st_uid, folder.data.resolve()
    for place, folders, files, descriptor in os.fwalk(folder.path):
        here = Path(place)
        top = here == folder.path  # where Flower's folder lies, and what could not be removed of older ones
        folders[:] = [n for n in folders if here / n != data and not (top and n.startswith(folder.flower.name))]
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                os.chown(name, owner, -1, dir_fd=descriptor, follow_symlinks=False)


def account_of(folder: SiteFolder, relay: str) -> pwd.struct_passwd:
    """The relay's account; raises ConfigError where there is none."""
    try:
        return pwd.getpwnam(relay)
    except KeyError:
        raise ConfigError(
            f"{folder.site_file}: relay_user = {relay!r}: there is no such account: useradd --system {relay}"
        ) from None


def give(folder: SiteFolder, relay: str) -> None:
    """Flower's folder belongs to the relay, which may pass through the hospital's folder and not look around in it."""
    entry = account_of(folder, relay)
    if entry.pw_uid in (0, folder.path.stat().st_uid):
        raise ConfigError(
            f"{folder.site_file}: relay_user = {relay!r}: it owns this folder, or is root: it must be another account"
        )
    folder.path.chmod(0o711)
    # The folder last: until then the relay can put no link into it that root would give away.
    for path in (*(folder.flower / name for name in FOR_FLOWER), folder.flower):
        if path.is_symlink() or path.exists():
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    reachable(Path(sys.executable), entry)


def made_anew(folder: SiteFolder) -> None:
    """Flower's folder is made anew, empty: what the coordinator's code has left there must not meet the next join.

    Raises:
        OSError: the hospital's folder cannot be written.
    """
    if os.path.lexists(folder.flower):
        folder.flower.rename(folder.path / f"{folder.flower.name}.{secrets.token_hex(4)}.old")
    folder.flower.mkdir(mode=0o700)
    old = [str(path) for path in folder.path.glob(f"{folder.flower.name}.*.old")]
    if old:  # rm goes down as deep as a tree may be, and follows no link
        subprocess.run(["/bin/rm", "-rf", "--", *old], capture_output=True, check=False)  # noqa: S603 - our own paths


def end_relay(folder: SiteFolder) -> None:
    """Kill what runs as the relay's account: code that the coordinator shipped may have left its session and its group.

    Only a system account is taken for the relay's alone; nothing is done where this process is not root.
    """
    relay = relay_of(folder)
    if relay and 0 < account_of(folder, relay).pw_uid < _PEOPLE:
        end_all_of(account_of(folder, relay).pw_uid)


def end_all_of(user: int) -> None:
    """Kill every process of an account; one that starts others on and on gets no peace for two seconds."""
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        found = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _runs_as(entry, user)]
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _runs_as(process: Path, user: int) -> bool:
    with suppress(OSError):
        text = (process / "status").read_text(encoding="utf-8", errors="replace")
        numbers = next((line for line in text.splitlines() if line.startswith("Uid:")), "").split()[1:]
        return str(user) in numbers and "\nState:\tZ" not in text
    return False


def reachable(path: Path, entry: pwd.struct_passwd) -> None:
    """Flower's programs are Python programs: their account must be able to run this Python.

    Raises:
        ConfigError: names the folder that the account may not pass.
    """
    for place in (path.resolve(), *path.resolve().parents, *path.parents):
        found = place.stat()
        shift = 6 if found.st_uid == entry.pw_uid else 3 if found.st_gid == entry.pw_gid else 0
        if not found.st_mode >> shift & 1:
            raise ConfigError(
                f"{place}: account {entry.pw_name} may not pass, and {path} lies behind it: install SARCO-FL and its "
                "Python where every account can run it, such as /opt/sarco"
            )
