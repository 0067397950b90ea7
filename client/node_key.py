"""The key by which the coordinator knows a hospital: P-384, as ssh keeps it, for Flower's SuperNode signs with it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from client.private_files import write_private
from sarco_models.errors import ConfigError


def make_node_key(path: Path, name: str) -> None:
    """A P-384 key as Flower reads it; one that is there stays."""
    if not path.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        whole = path.with_name(f"{path.name}.{os.getpid()}.new")
        write_private(whole, secret.decode())
        with suppress(FileExistsError):  # another init was faster
            path.hardlink_to(whole)
        whole.unlink()
    write_private(path.with_suffix(".pub"), f"{node_line(path)} {name}\n", 0o644)


def node_line(path: Path) -> str:
    """The public half of a node key, as a line of ssh without a comment.

    Raises:
        ConfigError: it is no such key.
    """
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ConfigError(
            f"{path}: is no P-384 key as ssh keeps it: restore it from your backup, or make a new folder with "
            "sarco-site init and send its NAME.pub to the coordinator"
        )
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def certificate_chain(certificate: Path, node_key: Path, folder: Path) -> tuple[Path, Path]:
    """The kit's client certificate and the node key as OpenSSL reads them; the key's copy has rights 600.

    Args:
        certificate: PEM.
        node_key: as ssh keeps it, for Flower.
        folder: of this process alone.
    """
    key: Any = load_ssh_private_key(node_key.read_bytes(), None)
    descriptor, copy = tempfile.mkstemp(dir=folder, suffix=".pem")
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, Path(copy)
