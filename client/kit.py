"""The coordinator's kit, one file: where to connect, whose certificate to trust, which study. It holds no secret.

A kit can be changed on its way like any letter. So the fingerprint of its authority is read out over the telephone, and
the digest of its study is computed here and not believed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, ValidationError

from client.identity import Peer, fingerprint
from client.private_files import write_private
from client.site_folder import SiteFolder
from sarco_models.config import Config, Name, StudyConfig, load_study
from sarco_models.errors import ConfigError

SUFFIX, KEPT = ".kit", "kit.json"
VERSION = 1
_LARGEST = 2_000_000
_ADDRESS = re.compile(r"[A-Za-z0-9._\-\[\]]+:[0-9]{1,5}")


class Kit(Config):
    """A kit as it came, checked field by field."""

    version: int
    site: Name = Field(description="Of the hospital that it is for.")
    address: str = Field(description="HOST:PORT of the coordinator's gate.")
    ca: str = Field(description="Certificate of the coordinator's authority, PEM.")
    study: StudyConfig
    digest: str = Field(description="Of the study, as the coordinator computes it.")
    peers: tuple[Peer, ...] = ()
    client_certificate: str | None = None
    issued: str = ""

    @property
    def host(self) -> str:
        """Of the coordinator."""
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        """Of the coordinator's gate."""
        return int(self.address.rpartition(":")[2])


def is_kit(path: Path) -> bool:
    """Whether a command was given a kit, as it came or as it is kept, and not a study file."""
    return path.suffix == SUFFIX or path.name == KEPT


def read_kit(path: Path, name: str = "") -> Kit:
    """Read a kit and check it; ``name`` of the hospital that it must be for, where it is known.

    Raises:
        ConfigError: it is no kit, is for another hospital, or does not hold what it says.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path}: has more than {_LARGEST} bytes: that is no kit")
        content = path.read_text(encoding="utf-8")
        version = json.loads(content).get("version")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}: name the file that the coordinator sent"
        ) from None
    except (ValueError, AttributeError):
        raise ConfigError(f"{path}: is no kit: ask the coordinator for the file NAME.kit again") from None
    if version != VERSION:
        raise ConfigError(f"{path}: version = {version!r}, this program knows {VERSION}: one of you has to update")
    try:
        kit = Kit.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(f"{path}: {where}: {fault['msg']}: ask the coordinator for the kit again") from None
    _check(path, kit, name)
    client = kit.client_certificate
    return kit.model_copy(
        update={"ca": _pem(kit.ca, "ca"), "client_certificate": client and _pem(client, "client_certificate")}
    )


def _check(path: Path, kit: Kit, name: str) -> None:
    if name and kit.site != name:
        raise ConfigError(
            f"{path}: is for {kit.site}, and this folder is of {name}: ask the coordinator for {name}.kit"
        )
    if kit.study.digest != kit.digest:
        raise ConfigError(
            f"{path}: says that its study has digest {kit.digest[:12]}, and it has {kit.study.digest[:12]}: the file "
            "was changed, or the coordinator's version is another one; ask for it again, and compare versions"
        )
    try:
        datetime.fromisoformat(kit.issued or "2026-01-01")
    except ValueError:
        raise ConfigError(f"{path}: issued = {kit.issued!r}; expected a time: ask for the kit again") from None
    if not _ADDRESS.fullmatch(kit.address) or not 0 < kit.port < 65536:
        raise ConfigError(f"{path}: address = {kit.address!r}; expected HOST:PORT: ask the coordinator for it again")
    for pem, words in ((kit.ca, "ca"), (kit.client_certificate, "client_certificate")):
        if pem is not None:
            certificate(pem, f"{path}: {words}")


def certificate(pem: str, where: str) -> x509.Certificate:
    """A certificate from its PEM, and the only one in it: a second one would be trusted and not be shown.

    Raises:
        ConfigError: it is none, or it is several. ``where`` names it.
    """
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise ConfigError(f"{where}: is no certificate: ask the coordinator for the kit again") from None
    if len(found) != 1:
        raise ConfigError(
            f"{where}: holds {len(found)} certificates, expected 1: do not use this kit; tell the coordinator by "
            "telephone, for it may have been changed on its way"
        )
    return found[0]


def _pem(pem: str, where: str) -> str:
    """The certificate that was read, and nothing else that stood in its text."""
    return certificate(pem, where).public_bytes(Encoding.PEM).decode()


def authority_fingerprint(pem: str) -> str:
    """Twenty digits of an authority's certificate, as the coordinator's commands show them."""
    digits = hashlib.sha256(certificate(pem, "ca").public_bytes(Encoding.DER)).hexdigest()
    return " ".join(digits[k : k + 4] for k in range(0, 20, 4))


def lines(kit: Kit) -> Iterator[str]:
    """What a person must see of a kit before it is accepted."""
    yield f"kit for {kit.site}, issued {kit.issued or 'at an unknown time'}"
    yield f"coordinator {kit.address}"
    ends = certificate(kit.ca, "ca").not_valid_after_utc
    yield f"its authority, valid until {ends.date()}: {authority_fingerprint(kit.ca)}"
    yield "Let the coordinator read these digits to you over the telephone. Where they differ, do not go on."
    if ends < datetime.now(UTC):
        yield f"The authority has expired on {ends.date()} by this machine's clock: nothing will connect."
    if kit.peers:
        yield "Other hospitals, with their fingerprints for secure aggregation (let each read its own to you):"
        for peer in kit.peers:
            yield f"  {peer.name}  {fingerprint(peer.key)}"
    yield ""


def store(kit: Kit, folder: SiteFolder) -> None:
    """Keep a kit that was accepted; the study goes beside site.toml.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.kit.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(folder.path / "study.json", kit.study.model_dump_json(indent=1) + "\n")
        write_private(folder.authority, kit.ca)
        if kit.client_certificate:
            write_private(folder.client_certificate, kit.client_certificate)
        else:
            folder.client_certificate.unlink(missing_ok=True)
        write_private(folder.kit, kit.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise ConfigError(
            f"{folder.path}: {error.strerror}: the kit was not stored; mend that and approve again"
        ) from None


def other_study(folder: SiteFolder, kit: Kit) -> str:
    """Why the worker would refuse all that this kit's coordinator asks: site.toml reads another study; empty: it is it.

    Raises:
        ConfigError: the study cannot be read.
    """
    path = folder.path / str(folder.settings.get("study", "study.json"))
    digest = load_study(path).digest
    if digest == kit.digest:
        return ""
    return f"{folder.site_file}: study = {path.name}, which is study {digest[:12]}, and the kit's is {kit.digest[:12]}"


def stored(folder: SiteFolder) -> Kit:
    """The kit that this folder holds.

    Raises:
        ConfigError: there is none, or it was damaged.
    """
    if not folder.kit.exists():
        raise ConfigError(
            f"{folder.path}: holds no kit yet: send {folder.name}.pub to the coordinator, and give the kit that comes "
            f"back to sarco-site approve {folder.name}.kit --site {folder.site_file}"
        )
    return read_kit(folder.kit, folder.name)
