"""``init``: a coordinator's home, made once: authority, certificates, secrets, coordinator.toml, the study."""

from __future__ import annotations

import socket
from pathlib import Path

from sarco_models.errors import ConfigError, RunError
from sarco_models.portable_study import portable_text
from server.certificates import LOOPBACK, Authority, fingerprint, issue, make_authority
from server.home import HomeConfig
from server.operating import make_secret
from server.whole_files import write_text

_SUPERLINK_PORT = 9092

_TOML = """\
# What this coordinator decides for itself. Hospitals learn the address alone, from their kits.
# After a change: sarco-coordinator down, then up. After a change of address: sarco-coordinator kits too.

address = "{address}"          # HOST:PORT as hospitals reach the gate, from outside
superlink_port = {superlink_port}      # of Flower's SuperLink, on this machine only
dashboard_port = 8050      # of sarco-coordinator dashboard, on this machine only

[gate]                     # the only door from outside
host = "0.0.0.0"           # where it listens; "127.0.0.1" behind a proxy of your own (configs/nginx.conf.example)
port = {port}
max_body_mb = 16           # of one request; Flower sends pieces of 5 MB
requests_per_second = 50.0 # from one address; bursts of five seconds pass
max_mb_per_hour = 20000    # from one hospital: 1000 updates of a model of 5 million weights
client_certificates = false # true: every hospital shows the certificate of its kit (write kits anew, send them)

[runs]                     # of every run; paths are relative to this file
central = ""               # a folder in the site format that every round is scored on; "": none
cache = "cache"            # of the central cohort's images
device = "auto"            # where the central cohort is scored: auto, cpu, cuda
wait_for_sites_s = 600.0   # how long a run waits until enough hospitals are online
grace_s = 30.0             # how long it waits then for the others: who is not there at its start cannot join it later
retry_s = 5.0              # pause before a round without enough answers is repeated
"""


def found(folder: Path, address: str, study: Path) -> str:
    """Make a home. What is there of a home that was not completed is used; keys are never replaced.

    Args:
        folder: made if need be, readable by its owner only.
        address: HOST:PORT as hospitals reach the gate.
        study: the study that the hospitals' kits shall carry.

    Returns:
        The authority's fingerprint, to read out over the telephone.

    Raises:
        ConfigError: the folder is a home already, or the address or the study is wrong.
        RunError: the folder cannot be written.
    """
    if (folder / "coordinator.toml").exists():
        raise ConfigError(
            f"{folder}: is a coordinator's home already: change its coordinator.toml, or name another folder"
        )
    config = checked_address(address)
    if study.suffix != ".toml":
        raise ConfigError(f"--study {study}: expected a TOML file, as hospitals read it")
    text_of_study = portable_text(study)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        write_text(folder / "study.toml", text_of_study)
        authority = make_authority(folder)
        issue_both(authority, config)
        make_secret(folder / "secrets" / "superexec")
        host, _, port = address.rpartition(":")
        text = _TOML.format(address=f"{host}:{port}", superlink_port=config.superlink_port, port=port)
        write_text(folder / "coordinator.toml", text)  # the last: it says that the home is complete
    except OSError as error:
        raise RunError(f"{error.filename or folder}: {error.strerror}: name a folder that can be written") from None
    return fingerprint(authority.pem)


def checked_address(address: str) -> HomeConfig:
    """The settings of a new home at this address.

    Raises:
        ConfigError: it is not HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    if not host or ":" in host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(
            f"--address {address}: expected HOST:PORT as hospitals reach this machine, such as "
            "sarco.example.org:8443, without https://"
        )
    return HomeConfig(address=address, superlink_port=_free_port())


def issue_both(authority: Authority, config: HomeConfig) -> None:
    """Write the certificates of the gate and of the SuperLink."""
    folder = authority.certificate.parent
    issue(authority, folder / "server", [config.address.rpartition(":")[0]])
    issue(authority, folder / "loopback", LOOPBACK)


def _free_port() -> int:
    """The usual port of the SuperLink where it is free now, else any."""
    for port in (_SUPERLINK_PORT, 0):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    return _SUPERLINK_PORT
