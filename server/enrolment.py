"""Who may connect: hospitals are enrolled by a file that they send, get one file back, and can be shut out again.

NAME.pub comes from the hospital (``sarco-site init``): its name and two public keys. NAME.kit goes back: where to
connect, whose certificate to trust, the study, and the other hospitals' keys for secure aggregation. Neither holds a
secret, and both can be changed on their way: so fingerprints are read out over the telephone, in both directions.

``sites.json`` is what counts. Flower's own list follows from it: at once where the SuperLink answers, else within
half a minute of ``up`` (server/watching.py).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from pydantic import Field, ValidationError

from sarco_models.config_files import Config
from sarco_models.errors import ConfigError, RunError, SarcoError
from sarco_models.sections import Name
from server.certificates import Authority, client_certificate, node_public_key
from server.control import Control, pem_of
from server.home import Enrolled, Home
from server.whole_files import write_text

KIT_VERSION = 1
_LARGEST_PUB = 10_000


class PublicHalf(Config):
    """NAME.pub: what a hospital sends to the coordinator."""

    version: int = Field(ge=1, le=1)
    name: Name
    node_key: str = Field(description="Public half of the key that its SuperNode signs with, an ssh line.")
    identity: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="For secure aggregation.")


@dataclass(frozen=True)
class Enrolment:
    """What came of enrolling.

    Attributes:
        sites: the new ones.
        kits: of all hospitals, written anew.
        known_to_flower: whether they can connect now; False: from the next ``up`` on.
    """

    sites: tuple[Enrolled, ...]
    kits: tuple[Path, ...]
    known_to_flower: bool


def read_public_half(path: Path) -> PublicHalf:
    """Read and check a hospital's NAME.pub.

    Raises:
        ConfigError: it is none, or its node key is not of P-384.
    """
    try:
        if path.stat().st_size > _LARGEST_PUB:
            raise ValueError(f"it has more than {_LARGEST_PUB} bytes")
        half = PublicHalf.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}: name the file that the hospital sent") from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise ConfigError(
            f"{path}: {where}: {fault['msg']}: it must be the NAME.pub that sarco-site init wrote at the hospital"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}: it must be the NAME.pub that sarco-site init wrote") from None
    key = node_public_key(half.node_key, half.name)
    if not isinstance(key.curve, SECP384R1):
        raise ConfigError(
            f"{path}: node_key: curve {key.curve.name}, expected secp384r1: the hospital makes one with sarco-site init"
        )
    return half


def key_fingerprint(node_key: str, identity: str = "") -> str:
    """Twenty hexadecimal digits over both public keys, in groups of four, to read out over the telephone.

    Args:
        node_key: an ssh line; its comment does not count.
        identity: the other key, 64 hexadecimal digits, or empty.
    """
    blob = base64.b64decode(node_key.split()[1])
    digits = hashlib.sha256(blob + bytes.fromhex(identity)).hexdigest()
    return " ".join(digits[k : k + 4] for k in range(0, 20, 4))


def enrolled(home: Home) -> tuple[Enrolled, ...]:
    """Hospitals that may connect now."""
    return tuple(site for site in home.sites() if not site.revoked)


def enrol(home: Home, files: Sequence[Path], name: str = "") -> Enrolment:
    """Let hospitals connect, and write all kits: each names the other hospitals.

    Args:
        home: of the coordinator.
        files: NAME.pub of one or more hospitals; all or none of them are enrolled.
        name: of a single one, as the coordinator expects it: the file must say the same.

    Raises:
        ConfigError: a file is none; a name or a key is taken; a key was revoked; the home's study.toml is wrong.
    """
    _ = home.study  # without it there are no kits: refused before anything is written
    halves = [read_public_half(path) for path in files]
    if name and [half.name for half in halves] != [name]:
        found = ", ".join(half.name for half in halves)
        raise ConfigError(
            f"--name {name}: the file is of {found}, and the hospital's worker describes itself by that name: enrol it "
            "as that, or ask the hospital for sarco-site init with the other name"
        )
    with _locked(home):
        sites = home.sites()
        new: list[Enrolled] = []
        for path, half in zip(files, halves, strict=True):
            _check_free(path, half, (*sites, *new))
            new.append(Enrolled(half.name, half.node_key.strip(), half.identity, _now()))
        home.write_sites((*sites, *new))
        kits = write_kits(home)
    return Enrolment(tuple(new), kits, _tell_flower(home))


def revoke(home: Home, name: str) -> bool:
    """Shut a hospital out: its key is refused from now on, also by the gate; a run at work goes on without it.

    Returns:
        Whether Flower knows by now; False where the SuperLink does not answer: ``up`` tells it.

    Raises:
        ConfigError: no hospital of this name is enrolled; or it is shut out, and the others' kits cannot be written.
    """
    with _locked(home):
        sites = home.sites()
        if not any(site.name == name and not site.revoked for site in sites):
            known = ", ".join(site.name for site in sites if not site.revoked) or "none"
            raise ConfigError(f"{name}: no hospital of this name is enrolled in {home.folder}; enrolled: {known}")
        now = _now()
        home.write_sites(
            tuple(replace(site, revoked=site.revoked or now) if site.name == name else site for site in sites)
        )
        flower_knows = _tell_flower(home)
        (home.kits / f"{name}.kit").unlink(missing_ok=True)
        try:
            write_kits(home)
        except SarcoError as error:
            raise ConfigError(
                f"{name} is revoked, and the kits of the others name it still: {error}: mend that, then "
                f"sarco-coordinator kits {home.folder}"
            ) from None
    return flower_knows


def write_kits(home: Home) -> tuple[Path, ...]:
    """Write the kit of every enrolled hospital, in the order of their names."""
    sites, study = enrolled(home), home.study
    authority = Authority(home.ca, home.ca.with_name("ca.key"))
    shared: dict[str, Any] = {
        "version": KIT_VERSION,
        "address": home.config.address,
        "ca": authority.pem,
        "study": json.loads(study.model_dump_json()),
        "digest": study.digest,
        "issued": _now(),
    }
    written = []
    for site in sites:
        certificate = None
        if home.config.gate.client_certificates:
            certificate = client_certificate(authority, site.node_key, site.name)
        peers = [{"name": peer.name, "key": peer.identity} for peer in sites if peer != site and peer.identity]
        kit = {**shared, "site": site.name, "peers": peers, "client_certificate": certificate}
        path = home.kits / f"{site.name}.kit"
        write_text(path, json.dumps(kit, indent=1) + "\n")
        written.append(path)
    return tuple(written)


def synchronize(home: Home, control: Control) -> tuple[str, ...]:
    """Make Flower's list of SuperNodes that of sites.json; returns what was done, in sentences.

    Raises:
        RunError: the SuperLink does not answer, or refuses a key; all the others are done.
    """
    # in this order: whoever is registered by another process meanwhile stands in sites.json before
    there = {(node.name, node.public_key) for node in control.nodes()}
    wanted = {(site.name, pem_of(site.node_key, site.name)): site for site in enrolled(home)}
    done: list[str] = []
    refused: list[str] = []
    for name, key in sorted(there - set(wanted)):
        with _noted(name, refused):
            control.unregister(name, keep=next((k for n, k in wanted if n == name and k != key), b""))
            done.append(f"{name}: refused from now on")
    for entry in sorted(set(wanted) - there):
        with _noted(entry[0], refused):
            control.register(wanted[entry].node_key, entry[0])
            done.append(f"{entry[0]}: may connect from now on")
    # enrol and up may tell Flower at the same moment: what counts is how it ends
    if refused and {(node.name, node.public_key) for node in control.nodes()} != set(wanted):
        raise RunError("; ".join(refused))
    return tuple(done)


@contextlib.contextmanager
def _noted(name: str, refused: list[str]) -> Iterator[None]:
    """One key that Flower refuses costs the others nothing."""
    try:
        yield
    except RunError as error:
        refused.append(f"{name}: {error}")


def _tell_flower(home: Home) -> bool:
    """Whether Flower knows by now; if not, ``up`` tells it."""
    with Control(home, timeout_s=5.0) as control:
        try:
            synchronize(home, control)
        except RunError:
            return False
        return True


def _check_free(path: Path, half: PublicHalf, sites: Sequence[Enrolled]) -> None:
    for site in sites:
        same_key = site.node_key.split()[:2] == half.node_key.split()[:2]
        if same_key and site.revoked:
            raise ConfigError(
                f"{path}: the node key of {half.name} was revoked on {site.revoked[:10]}, and a revoked key stays so: "
                "the hospital makes another one (docs/how-to/join-as-a-hospital.md, Coming back) and sends its NAME.pub"
            )
        if same_key or (half.identity and half.identity == site.identity and site.name != half.name):
            raise ConfigError(f"{path}: its key is enrolled already, as {site.name}: each hospital has its own keys")
        if site.name == half.name and not site.revoked:
            raise ConfigError(
                f"{path}: a hospital called {site.name} is enrolled since {site.enrolled[:10]} with another key: if it "
                f"lost that key, revoke {site.name} first and enrol it again; two hospitals need two names"
            )


@contextlib.contextmanager
def _locked(home: Home) -> Iterator[None]:
    """One change at a time."""
    path = home.sites_file.with_suffix(".lock")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}: nothing was changed") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise RunError(f"{home.folder}: {error.strerror}: nothing more was changed: mend that and repeat") from None
    finally:
        os.close(file)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
