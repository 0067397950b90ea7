"""The coordinator's authority: what it issues passes OpenSSL's strict rules, and nothing that it did not issue does."""

import os
import socket
import ssl
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sarco_models.errors import ConfigError
from server.certificates import (
    LOOPBACK,
    Authority,
    client_certificate,
    fingerprint,
    issue,
    make_authority,
    read_certificate,
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def node_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def ssh_line(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() + " hospital_a"


def strict_client(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, object] | None:
    """What the server knows of the client's certificate; raises what the client sees."""
    here, there = socket.socketpair()
    seen: list[dict[str, object] | None] = []

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as tls:
                tls.recv(1)
                seen.append(tls.getpeercert())
                tls.send(b".")
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(here, server_hostname=name) as tls:
            tls.send(b".")
            tls.recv(1)
    finally:
        here.close()
        thread.join()
    return seen[0] if seen else None


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


@pytest.mark.parametrize("name", ["fl.example.org", "192.0.2.7", "2001:db8::7"])
def test_strict_openssl_accepts_each_name_of_a_certificate(authority: Authority, tmp_path: Path, name: str) -> None:
    server = server_context(issue(authority, tmp_path / "server", ["fl.example.org", "192.0.2.7", "[2001:db8::7]"]))
    shake_hands(server, strict_client(authority), name)


def test_another_name_is_refused(authority: Authority, tmp_path: Path) -> None:
    server = server_context(issue(authority, tmp_path / "loopback", LOOPBACK))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, strict_client(authority), "fl.example.org")


def test_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    server = server_context(issue(make_authority(tmp_path / "other"), tmp_path / "server", ["localhost"]))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        shake_hands(server, strict_client(authority), "localhost")


def test_an_expired_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    # an hour is taken off the beginning, so that minus one day would begin after its end
    server = server_context(issue(authority, tmp_path / "server", ["localhost"], days=0))
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        shake_hands(server, strict_client(authority), "localhost")


def test_openssl_itself_accepts_the_chain(authority: Authority, tmp_path: Path) -> None:
    leaf = issue(authority, tmp_path / "server", ["localhost"])
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority.certificate, leaf]
    assert "OK" in subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed


def test_an_authority_with_names_cannot_speak_for_others(tmp_path: Path) -> None:
    bound = make_authority(tmp_path, ["fl.example.org", "127.0.0.1"])
    mine = server_context(issue(bound, tmp_path / "mine", ["fl.example.org", "127.0.0.1"]))
    stolen = server_context(issue(bound, tmp_path / "stolen", ["bank.example.com"]))
    shake_hands(mine, strict_client(bound), "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(stolen, strict_client(bound), "bank.example.com")


def test_an_authority_signs_no_other_authority(authority: Authority) -> None:
    limits = read_certificate(authority.certificate).extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert (limits.value.ca, limits.value.path_length) == (True, 0)


def test_a_hospital_shows_itself_by_its_node_key(
    authority: Authority, node_key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    """Made from the public half alone; with the secret half, which never left the hospital, the server knows it."""
    (tmp_path / "site.pem").write_text(client_certificate(authority, ssh_line(node_key), "hospital_a"))
    secret = node_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "site.key").write_bytes(secret)
    server = server_context(issue(authority, tmp_path / "server", ["localhost"]))
    server.load_verify_locations(authority.certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    client = strict_client(authority)
    client.load_cert_chain(tmp_path / "site.pem", tmp_path / "site.key")
    shown = shake_hands(server, client, "localhost")
    assert shown is not None
    assert shown["subject"] == ((("commonName", "hospital_a"),),)
    with pytest.raises((ssl.SSLError, ConnectionError), match=r"certificate.required|reset|EOF"):
        shake_hands(server, strict_client(authority), "localhost")


def test_a_client_certificate_is_none_of_a_server(
    authority: Authority, node_key: ec.EllipticCurvePrivateKey, tmp_path: Path
) -> None:
    (tmp_path / "site.pem").write_text(client_certificate(authority, ssh_line(node_key), "localhost"))
    secret = node_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "site.key").write_bytes(secret)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unsuitable certificate purpose|unsupported certificate"):
        shake_hands(server_context(tmp_path / "site.pem"), strict_client(authority), "localhost")


@pytest.mark.parametrize("line", ["", "ssh-ed25519 AAAA", "ecdsa-sha2-nistp384 rubbish", "é"])
def test_what_is_no_node_key_is_refused_with_the_name(authority: Authority, line: str) -> None:
    with pytest.raises(ConfigError, match=r"hospital_b: its node key .* sarco-site init"):
        client_certificate(authority, line, "hospital_b")


def test_keys_are_for_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        issue(authority, tmp_path / "server", ["localhost"])
    finally:
        os.umask(before)
    for path in (authority.key, tmp_path / "server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(tmp_path.glob("*.partial"))


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first = make_authority(tmp_path).pem
    assert make_authority(tmp_path).pem == first


def test_a_lost_key_is_named_and_no_other_authority_is_made(tmp_path: Path) -> None:
    made = make_authority(tmp_path)
    made.key.unlink()
    with pytest.raises(ConfigError, match=r"its key ca\.key is gone: restore it"):
        make_authority(tmp_path)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    made = make_authority(tmp_path)
    made.key.chmod(0o640)
    with pytest.raises(ConfigError, match=r"ca\.key: has rights 640, and its limit is 600"):
        issue(made, tmp_path / "server", ["localhost"])


def test_a_key_of_another_authority_is_noticed(authority: Authority, tmp_path: Path) -> None:
    made = make_authority(tmp_path)
    made.key.write_bytes(authority.key.read_bytes())
    with pytest.raises(ConfigError, match=r"is not the key of ca\.pem"):
        issue(made, tmp_path / "server", ["localhost"])


def test_no_certificate_outlives_its_authority(authority: Authority, tmp_path: Path) -> None:
    path = issue(authority, tmp_path / "server", ["localhost"], days=99_999)
    assert read_certificate(path).not_valid_after_utc <= read_certificate(authority.certificate).not_valid_after_utc
    assert read_certificate(path).not_valid_before_utc < datetime.now(UTC) - timedelta(minutes=59)


def test_a_fingerprint_is_five_groups_to_read_out(authority: Authority) -> None:
    said = fingerprint(authority.pem)
    command = ["openssl", "x509", "-in", authority.certificate, "-noout", "-fingerprint", "-sha256"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - fixed
    assert [len(group) for group in said.split()] == [4] * 5
    assert told.split("=")[1].replace(":", "").lower().startswith(said.replace(" ", ""))


@pytest.mark.parametrize("name", ["https://fl.example.org", "fl.example.org:8443", "", "a b"])
def test_what_is_no_name_is_refused(authority: Authority, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="neither a host name nor an IP address"):
        issue(authority, tmp_path / "server", [name])
    assert not list(tmp_path.iterdir())
