"""The coordinator's own certification authority: who a hospital's software speaks to, and who speaks to the gate.

    ca.pem, ca.key          the authority: EC P-384, ten years; signs leaves only (path length 0)
    NAME.pem, NAME.key      a server's certificate for the names and addresses it is reached by; two years
    client certificates     for a hospital's node key, made from its public half alone: the secret half never leaves it

Keys are files with rights 600, written whole, and are never replaced by a file of the same name: a renewed certificate
keeps its key, so that nothing else has to change. What is issued passes OpenSSL's strict rules (RFC 5280).
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sarco_models.errors import ConfigError

AUTHORITY_DAYS = 3650
LEAF_DAYS = 730
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_GROUP_AND_OTHERS = 0o077
_SKEW = timedelta(hours=1)
"""Certificates begin in the past: a hospital's slow clock shall be named, and not end in a strange error of TLS."""


@dataclass(frozen=True)
class Authority:
    """Where the coordinator's authority is kept: its certificate, for everybody, and its key, for nobody else."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> str:
        """The certificate, as a hospital gets it in its kit."""
        return self.certificate.read_text(encoding="ascii")


def make_authority(folder: Path, names: Sequence[str] = ()) -> Authority:
    """Make ``ca.pem`` and ``ca.key``, or take those that are there.

    Args:
        folder: made if need be.
        names: where given, the authority can speak for these names and addresses alone (name constraints), whoever
            steals its key. Leave it out where the coordinator's address may still change.

    Raises:
        ConfigError: one of the two files is there without the other, or they cannot be used.
    """
    authority = Authority(folder / "ca.pem", folder / "ca.key")
    if authority.key.exists():
        _opened(authority)
        return authority
    if authority.certificate.exists():
        raise ConfigError(
            f"{authority.certificate}: its key {authority.key.name} is gone: restore it from your backup; a new "
            "authority (remove ca.pem) means a new kit for every hospital"
        )
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SARCO-FL coordinator")])
    builder = (
        _begun(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names:
        permitted = [_constraint(found) for found in _general_names(names)]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    # the key last: it says that the authority is complete
    _write(authority.certificate, _pem(builder.sign(key, hashes.SHA384())))
    _write(authority.key, _key_pem(key))
    return authority


def issue(authority: Authority, stem: Path, names: Sequence[str], *, days: int = LEAF_DAYS) -> Path:
    """Write ``STEM.pem``, a server's certificate for these names, with the key ``STEM.key`` (made where there is none).

    Args:
        authority: signs.
        stem: path without an ending.
        names: host names and IP addresses that the server is reached by; at least one.
        days: how long it holds; never longer than the authority does.

    Returns:
        The path of the certificate.

    Raises:
        ConfigError: a name is none, or the authority or a key that is there cannot be used.
    """
    key_path, path = stem.with_name(f"{stem.name}.key"), stem.with_name(f"{stem.name}.pem")
    alternatives = _general_names(names)
    if not key_path.exists():
        _write(key_path, _key_pem(ec.generate_private_key(ec.SECP384R1())))
    public = _private_key(key_path).public_key()
    # the name of a long host does not fit into a common name (64), and clients read the alternative names alone
    use = ExtendedKeyUsageOID.SERVER_AUTH
    certificate = _leaf(authority, public, names[0][:64], use=use, days=days, alternatives=alternatives)
    _write(path, _pem(certificate))
    return path


def client_certificate(authority: Authority, node_key: str, name: str, *, days: int = LEAF_DAYS) -> str:
    """A certificate (PEM) by which a hospital shows the gate who it is; it works only with the hospital's own node key.

    ``node_key`` is the public half of the node key, a line of OpenSSH; ``name`` the hospital's enrolled name.

    Raises:
        ConfigError: the line is no elliptic-curve key, or the authority cannot be used.
    """
    public = node_public_key(node_key, name)
    return _pem(_leaf(authority, public, name, use=ExtendedKeyUsageOID.CLIENT_AUTH, days=days)).decode()


def node_public_key(node_key: str, name: str) -> ec.EllipticCurvePublicKey:
    """The public key of an OpenSSH line (``ecdsa-sha2-nistp384 AAAA... comment``); ConfigError where it is none."""
    try:
        public = load_ssh_public_key(node_key.encode())
    except ValueError:
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ConfigError(
            f"{name}: its node key {node_key[:24]!r}... is no line of an elliptic-curve key (ecdsa-sha2-nistp384): ask "
            "for the .pub file that sarco-site init wrote"
        )
    return public


def fingerprint(pem: str | bytes) -> str:
    """Twenty hexadecimal digits of a certificate's SHA-256 in groups of four, to read out over the telephone.

    Who wants to make another certificate with the same digits needs 2**80 trials.

    Raises:
        ConfigError: it is no certificate.
    """
    digits = hashlib.sha256(_parsed(pem, "certificate").public_bytes(Encoding.DER)).hexdigest()
    return " ".join(digits[k : k + 4] for k in range(0, 20, 4))


def days_left(certificate: x509.Certificate, now: datetime | None = None) -> float:
    """Days until a certificate ends; negative when it has ended."""
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))).total_seconds() / 86400


def read_certificate(path: Path) -> x509.Certificate:
    """Read one certificate.

    Raises:
        ConfigError: the file is absent or no certificate.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): restore it, or issue it again") from None
    return _parsed(content, str(path))


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Host names and addresses that a server's certificate speaks for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


# ---- how it is done --------------------------------------------------------------------------------------------------


def _opened(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, key = read_certificate(authority.certificate), _private_key(authority.key)
    if certificate.public_key() != key.public_key():
        raise ConfigError(
            f"{authority.key}: is not the key of {authority.certificate.name}: restore both files from the same backup"
        )
    return certificate, key


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the key cannot be read ({error.strerror}): restore it from your backup") from None
    if mode & _GROUP_AND_OTHERS:
        raise ConfigError(
            f"{path}: has rights {mode & 0o777:o}, and its limit is 600: others on this machine may have read the key; "
            f"if nobody has, chmod 600 {path}; else remove it and have it made again"
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path}: is no elliptic-curve key without a password: restore it from your backup")
    return key


def _leaf(  # noqa: PLR0913 - what a certificate says
    authority: Authority,
    public: ec.EllipticCurvePublicKey,
    name: str,
    *,
    use: x509.ObjectIdentifier,
    days: int,
    alternatives: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    above, key = _opened(authority)
    left = int(days_left(above))
    if left < 1:
        raise ConfigError(f"{authority.certificate}: the authority has ended: make another, and new kits for everybody")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _begun(subject, above.subject, public, min(days, left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA384())


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """In the order of RFC 5280: signatures alone, of handshakes or of certificates and their revocation."""
    one, other = not signs_certificates, signs_certificates
    return x509.KeyUsage(one, False, False, False, False, other, other, False, False)


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    if not names:
        raise ConfigError("a server's certificate needs at least one host name or address that it is reached by")
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name.strip("[]"))))
            continue
        except ValueError:
            pass
        try:
            ascii_name = name.encode("idna").decode()
        except UnicodeError:
            ascii_name = ""
        letters = ascii_name.replace("-", "").replace(".", "").replace("_", "")
        if not letters.isalnum() or len(ascii_name) > 253:
            raise ConfigError(f"{name!r} is neither a host name nor an IP address: write it without https:// and port")
        found.append(x509.DNSName(ascii_name))
    return found


def _constraint(name: x509.GeneralName) -> x509.GeneralName:
    """A name constraint holds an address as a network."""
    return x509.IPAddress(ipaddress.ip_network(name.value)) if isinstance(name, x509.IPAddress) else name


def _parsed(pem: str | bytes, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode() if isinstance(pem, str) else pem)
    except ValueError:
        raise ConfigError(f"{where}: is no certificate (PEM): restore it, or issue it again") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Whole or absent, with rights 600 from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
