"""Is this hospital fit to take part? Every check says what was found, what it is held against, and what to do.

Nothing is changed, of the data the tables alone are read, to count, and nothing is sent but two requests for nothing to
the coordinator's own address.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from client import coordinator_line
from client.accounts import open_to_others, reachable
from client.budget_figures import counted
from client.coordinator_line import Check
from client.joining import free_port
from client.kit import Kit, other_study, stored
from client.site_folder import SiteFolder
from client.suitability import suits
from sarco_models.errors import SarcoError
from sarco_models.processes import quiet_environment, supervisor_of

FLOWER = "1.41.0"
"""The release whose behaviour this project was built on, down to names that are not public."""

_GIB = 2**30
_DISK_GIB = (2.0, 10.0)
_MEMORY_GIB = (1.5, 4.0)
_SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_REFUSED = "fault"


def examine(folder: SiteFolder) -> Iterator[Check]:
    """Everything, what lies here first, then the way to the coordinator, then what runs."""
    yield from (check() for check in (flower, calls_home, disk_of(folder), memory, local_port))
    yield from private(folder)
    yield data(folder)
    yield settings(folder)
    yield accounts(folder)
    try:
        kit = stored(folder)
    except SarcoError as error:
        yield Check("kit", _REFUSED, str(error), "a kit of the coordinator's", "see there")
        return
    yield Check("kit", "ok", f"for {kit.site}, of {kit.address}, study {kit.study.name} {kit.digest[:12]}")
    yield approved(folder, kit)
    yield from segmenter(folder, kit)
    yield from suits(folder, kit.study)
    yield from coordinator_line.look(folder, kit)
    yield worker(folder)


def causes(folder: SiteFolder, kit: Kit) -> Iterator[Check]:
    """What may be behind a refusal: the quick checks that are not in order; not the refusal itself once more."""
    checks = (*private(folder), approved(folder, kit), *coordinator_line.look(folder, kit))
    return (check for check in checks if check.level != "ok" and check.name != "admission")


def lines(checks: list[Check]) -> Iterator[str]:
    """The checks as a person reads them, faults last, where the eye is."""
    order = {"ok": 0, "warning": 1, "fault": 2}
    for check in sorted(checks, key=lambda found: order[found.level]):
        limit = f" (limit: {check.limit})" if check.limit and check.level != "ok" else ""
        yield f"{check.level:<8} {check.name:<12} {check.value}{limit}"
        if check.remedy and check.level != "ok":
            yield f"{'':8} {'':12} -> {check.remedy}"
    faults, warnings, well = (sum(check.level == level for check in checks) for level in ("fault", "warning", "ok"))
    yield ""
    yield (
        f"{counted(faults, 'fault')}, {counted(warnings, 'warning')}, {well} in order: "
        f"{'mend the faults first' if faults else 'ready to join'}"
    )


def flower() -> Check:
    """Whether the installed Flower is the one that this project knows."""
    found = version("flwr")
    if found == FLOWER:
        return Check("flower", "ok", f"{found}, Python {sys.version_info.major}.{sys.version_info.minor}")
    remedy = f"pip install flwr=={FLOWER}, into {sys.prefix}"
    return Check("flower", "fault", f"{found} is installed", FLOWER, remedy)


def calls_home() -> Check:
    """Whether what join starts is told to call nobody."""
    found = quiet_environment(Path("/"))
    wrong = [name for name, value in _SWITCHES.items() if found.get(name) != value]
    if wrong:
        return Check(
            "calls home", "fault", f"{', '.join(wrong)} are not set", "all off", "report this: it is our fault"
        )
    return Check("calls home", "ok", "telemetry, update check and installs are off in all that join starts")


def disk_of(folder: SiteFolder) -> Callable[[], Check]:
    """Room where the ledger, the logs and the cache grow."""

    def disk() -> Check:
        free = shutil.disk_usage(folder.path).free / _GIB
        return _amount("disk", free, _DISK_GIB, f"free at {folder.path}", "make room, or move the folder")

    return disk


def memory() -> Check:
    """What this machine can still give to a training."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    fields = dict(line.split(":") for line in text.splitlines() if ":" in line)
    free = int(fields["MemAvailable"].split()[0]) * 1024 / _GIB
    return _amount("memory", free, _MEMORY_GIB, "available", "end other programs, or use a larger machine")


def _amount(name: str, found: float, limits: tuple[float, float], what: str, remedy: str) -> Check:
    least, good = limits
    level = "fault" if found < least else "warning" if found < good else "ok"
    return Check(name, level, f"{found:.1f} GiB {what}", f"{good if found >= least else least:g} GiB", remedy)


def local_port() -> Check:
    """Flower's two programs find each other at a port of this machine."""
    try:
        return Check("local port", "ok", f"127.0.0.1 has free ones, such as {free_port()}")
    except OSError as error:
        remedy = "let this account listen on 127.0.0.1"
        return Check("local port", "fault", f"none can be opened: {error.strerror}", "one", remedy)


def private(folder: SiteFolder) -> Iterator[Check]:
    """Rights of keys, state, cache and site.toml: the hospital's own account alone."""
    places = [folder.node_key, folder.state / "identity.pem", folder.state, folder.site_file, folder.node_key.parent]
    places.append(folder.cache)
    open_ = [path for path in places if path.exists() and path.stat().st_mode & 0o077]
    absent = [path for path in places[:2] if not path.exists()]
    if absent:
        remedy = f"restore it from your backup, or sarco-site init {folder.path} --name {folder.name} --data DATA"
        yield Check("keys", "fault", f"{absent[0]} is absent", "there", remedy)
    elif open_:
        wanted = ["700" if path.is_dir() else "600" for path in open_]
        fix = "; ".join(f"chmod {right} {path}" for right, path in zip(wanted, open_, strict=True))
        found = ", ".join(f"{path.name} {stat.S_IMODE(path.stat().st_mode):o}" for path in open_)
        yield Check("rights", "fault", f"others on this machine can read {found}", "600, folders 700", fix)
    else:
        yield Check("rights", "ok", "keys, state, cache and site.toml are for this account alone")


def data(folder: SiteFolder) -> Check:
    """Whether the data are there, and closed to the account that runs the coordinator's code."""
    tables = sorted(folder.data.glob("participants.*"))
    if not tables or not os.access(tables[0], os.R_OK):
        remedy = (
            f"set data in {folder.site_file} to the folder with participants.csv; sarco-site check-data looks at it"
        )
        return Check("data", "fault", f"{folder.data} holds no table that can be read", "participants.csv", remedy)
    found = open_to_others(folder)
    who = f"account {folder.relay_user}" if folder.relay_user else "every account of this machine"
    if found:
        value = f"{who}, too, can read {found}"
        level = "fault" if folder.relay_user else "warning"  # join as root refuses it
        return Check("data", level, value, "this account alone", f"chmod -R go-rwx {folder.data}")
    return Check("data", "ok", f"{folder.data} can be read here, and not by {who}")


def settings(folder: SiteFolder) -> Check:
    """Whether site.toml can be read as the worker reads it."""
    try:
        from client.site_config import SiteConfig
        from sarco_models.config_files import load_config

        config = load_config(folder.site_file, SiteConfig)
    except SarcoError as error:
        return Check("site.toml", "fault", str(error), "readable", "mend the lines that it names")
    return Check("site.toml", "ok", f"is in order; answers {', '.join(config.policy.tasks) or 'nothing yet'}")


def accounts(folder: SiteFolder) -> Check:
    """Whether the coordinator's code runs apart from the data."""
    relay = folder.relay_user
    if not relay:
        value = "Flower's programs, which run the coordinator's code, would run as the account that reads the data"
        remedy = f'useradd --system sarco-relay; relay_user = "sarco-relay" in {folder.site_file}; join as root'
        return Check("accounts", "warning", value, "an account of their own", remedy)
    try:
        entry = pwd.getpwnam(relay)
    except KeyError:
        return Check("accounts", "fault", f"relay_user {relay} is no account", "one", f"useradd --system {relay}")
    if os.geteuid() != 0:
        value = f"{relay} for Flower's programs; only root can start them as it"
        return Check("accounts", "warning", value, "root", "sarco-site join as root, or --install-service")
    try:
        reachable(Path(sys.executable), entry)
    except SarcoError as error:
        return Check("accounts", "fault", str(error), "a Python that every account can run", "see there")
    return Check("accounts", "ok", f"Flower's programs run as {relay}, the worker as its own account")


def approved(folder: SiteFolder, kit: Kit) -> Check:
    """Whether the study is approved for the code that runs."""
    from client.approval import FILE, Approvals

    try:
        lacking = Approvals(folder.path / FILE).lacking(kit.digest)
    except SarcoError as error:
        return Check("approval", "fault", str(error), "an unbroken record", "find out who changed it")
    try:
        other = other_study(folder, kit)
    except SarcoError as error:
        other = str(error)
    if other:
        return Check("approval", "fault", other, "the kit's study", f"mend study in {folder.site_file}")
    if lacking and kit.digest not in folder.settings.get("policy", {}).get("approved_studies", []):
        remedy = f"sarco-site approve {folder.kit} --site {folder.site_file}"
        return Check("approval", "fault", f"study {kit.digest[:12]}: {lacking}", "approved for this code", remedy)
    return Check("approval", "ok", f"study {kit.digest[:12]} is approved for the code that runs")


def segmenter(folder: SiteFolder, kit: Kit) -> Iterator[Check]:
    """Whether the model lies here that finds muscles, where the study needs one; it is not opened."""
    from sarco_models.config import beside, located
    from sarco_models.segmenter_files import agreed_place, says_synthetic

    said, file = folder.settings.get("segmenter"), folder.path / str(folder.settings.get("study", "study.json"))
    auto = located(beside(kit.study, file), folder.path / str(said) if said else None).image.auto
    if auto is None:
        return
    try:
        place = agreed_place(auto)
    except SarcoError as error:
        yield Check("segmenter", "fault", str(error), "the study's", "see there")
        return
    if says_synthetic(place) and not says_synthetic(folder.data):
        value, remedy = f"{place} was trained on computer-made people (SYNTHETIC)", "tell the coordinator; draw masks"
        yield Check("segmenter", "warning", value, "one that has seen people", remedy)
        return
    yield Check("segmenter", "ok", f"{place} is the study's, {auto.sha256[:12]}")


def worker(folder: SiteFolder) -> Check:
    """Whether the worker serves, where the hospital has joined."""
    if not supervisor_of(folder.state_file):
        return Check("worker", "ok", "does not run: this hospital has not joined now")
    from client.worker_line import Line

    if Line(folder.socket).healthy():
        return Check("worker", "ok", "serves (gRPC health)")
    remedy = f"wait until the data are open; else read {folder.logs / 'worker.log'}"
    return Check("worker", "warning", "runs and does not serve", "SERVING", remedy)
