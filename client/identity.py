"""Who this hospital is to the other hospitals: a key that stays here, and a public line that they put into site.toml.

Secure aggregation needs to know that a key comes from a hospital and not from the coordinator that carries it. So the
public lines go from hospital to hospital by another way than through the coordinator, and their fingerprints are read
out over the telephone.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import Field

from sarco_models.config import Config, Name
from sarco_models.errors import ConfigError

FILE = "identity.pem"
_GROUP_AND_OTHERS = 0o077


TEST_VECTORS = (
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
)
"""Public keys of the first two test vectors of RFC 8032 (7.1): everybody can read their secret halves there."""


class Peer(Config):
    """A hospital that this one trains with: a table ``[[peers]]`` of site.toml."""

    name: Name
    key: str = Field(pattern=r"^[0-9a-f]{64}$", description="Its public key, as sarco-site key shows it there.")


def by_name(peers: Iterable[Peer]) -> dict[str, str]:
    """Public key of each enrolled hospital.

    Raises:
        ConfigError: a name or a key comes twice: one hospital could then count as two; or a key is a published one,
            of which anybody has the secret half.
    """
    found: dict[str, str] = {}
    for k, peer in enumerate(peers):
        if peer.key in TEST_VECTORS:
            raise ConfigError(
                f"site.toml, [[peers]] number {k + 1}, {peer.name}: key {peer.key[:8]}... is a published test vector, "
                "of which anybody has the secret half: remove the table, or put in the line that sarco-site key shows "
                "at that hospital"
            )
        if peer.name in found or peer.key in found.values():
            raise ConfigError(
                f"site.toml, [[peers]] number {k + 1}, {peer.name}: its name or its key is another peer's too: each "
                "hospital has one line, with the key that its own sarco-site key shows"
            )
        found[peer.name] = peer.key
    return found


def identity_of(state: Path) -> Ed25519PrivateKey:
    """The hospital's own key.

    Raises:
        ConfigError: there is none, it is damaged, or others on this machine can read it.
    """
    path = state / FILE
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError:
        raise ConfigError(f"{path}: there is no key of this hospital: make one with sarco-site key SITE.toml") from None
    if mode & _GROUP_AND_OTHERS:
        raise ConfigError(
            f"{path}: has rights {mode & 0o777:o}, and its limit is 600: others on this machine may have read the key; "
            f"if nobody has, chmod 600 {path}; else remove it, make another, and tell the other hospitals"
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{path}: is no Ed25519 key: restore it from your own backup, or remove it and run sarco-site key SITE.toml"
        )
    return key


def make_identity(state: Path) -> Ed25519PrivateKey:
    """The hospital's own key, made first where there is none; a key that is there is never replaced."""
    path = state / FILE
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    return identity_of(state)


def public_of(identity: Ed25519PrivateKey) -> str:
    """The public half, in hexadecimal digits."""
    return identity.public_key().public_bytes_raw().hex()


def peer_lines(peers: Mapping[str, str]) -> str:
    """The tables of site.toml that enrol these hospitals."""
    return "".join(f'\n[[peers]]\nname = "{name}"\nkey = "{key}"\n' for name, key in peers.items())


def fingerprint(public: str) -> str:
    """Twenty digits to read out loud; who could make another key with the same ones needs 2**80 trials."""
    digits = hashlib.sha256(bytes.fromhex(public)).hexdigest()[:20]
    return " ".join(digits[k : k + 4] for k in range(0, 20, 4))


def enrolment(name: str, state: Path) -> str:
    """What ``sarco-site key`` shows: the lines for the other hospitals, and what to do with them.

    Raises:
        ConfigError: the key that is there cannot be used.
    """
    public = public_of(make_identity(state))
    return (
        "Send these lines to each hospital that you train with, not through the coordinator; they add them to their "
        "site.toml:\n"
        f"{peer_lines({name: public})}\n"
        f"Let them read this to you over the telephone: {fingerprint(public)}\n"
        f"The key itself is {state / FILE}: it never leaves this machine, and whoever has it can speak for you."
    )
