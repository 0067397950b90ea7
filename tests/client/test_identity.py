"""A hospital's key: made once, readable by nobody else, never shown; its public line is what others enrol."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from client.cli import app
from client.identity import FILE, Peer, by_name, fingerprint, identity_of, make_identity, peer_lines, public_of
from client.workspace import SiteConfig
from sarco_models.config import load_config
from sarco_models.errors import ConfigError

SITE = 'name = "shanghai"\ndata = "data"\nstudy = "study.toml"\nlabel_rule = "awgs2019"\n'


def test_a_key_is_made_once_and_is_the_same_ever_after(tmp_path: Path) -> None:
    made = public_of(make_identity(tmp_path / "state"))
    assert public_of(make_identity(tmp_path / "state")) == made
    assert public_of(identity_of(tmp_path / "state")) == made
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600
    assert public_of(make_identity(tmp_path / "other")) != made


def test_a_key_that_is_absent_open_to_others_or_none_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make one with sarco-site key"):
        identity_of(tmp_path)
    make_identity(tmp_path)
    path = tmp_path / FILE
    for mode in (0o640, 0o604, 0o644):
        path.chmod(mode)
        with pytest.raises(ConfigError, match=f"has rights {mode:o}, and its limit is 600"):
            make_identity(tmp_path)
    path.chmod(0o600)
    other = generate_private_key(SECP256R1())
    for content in (b"", b"no key", other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="is no Ed25519 key"):
            make_identity(tmp_path)  # and never replaces it


def test_the_lines_shown_are_the_lines_that_site_toml_takes(tmp_path: Path) -> None:
    keys = {name: public_of(make_identity(tmp_path / name)) for name in ("sichuan", "zhongshan")}
    (tmp_path / "site.toml").write_text(SITE + peer_lines(keys))
    assert by_name(load_config(tmp_path / "site.toml", SiteConfig).peers) == keys


@pytest.mark.parametrize("key", ["", "0" * 63, "A" * 64, "z" * 64])
def test_a_peer_whose_key_is_none_is_refused(tmp_path: Path, key: str) -> None:
    (tmp_path / "site.toml").write_text(SITE + peer_lines({"sichuan": key}))
    with pytest.raises(ConfigError, match="key"):
        load_config(tmp_path / "site.toml", SiteConfig)


def test_one_hospital_cannot_be_enrolled_as_two() -> None:
    one, two = "1" * 64, "2" * 64
    assert by_name([Peer(name="a", key=one), Peer(name="b", key=two)]) == {"a": one, "b": two}
    for peers in ([("a", one), ("b", one)], [("a", one), ("a", two)]):
        with pytest.raises(ConfigError, match=r"\[\[peers\]\] number 2"):
            by_name([Peer(name=name, key=key) for name, key in peers])


@pytest.mark.parametrize("seed", [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
])  # fmt: skip
def test_a_key_that_everybody_can_read_in_a_standard_enrols_nobody(seed: str) -> None:
    """Their secret halves stand in RFC 8032, 7.1: whoever carries the messages could sign as that hospital."""
    key = public_of(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))
    with pytest.raises(ConfigError, match=r"number 1, other: key .* is a published test vector.*sarco-site key"):
        by_name([Peer(name="other", key=key)])


def test_a_fingerprint_is_twenty_digits_of_the_key() -> None:
    assert re.fullmatch(r"([0-9a-f]{4} ){4}[0-9a-f]{4}", fingerprint("1" * 64))
    assert fingerprint("1" * 64) != fingerprint("1" * 63 + "2")


def test_the_command_shows_the_public_line_and_never_the_key(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    first = CliRunner().invoke(app, ["key", str(tmp_path / "site.toml")])
    again = CliRunner().invoke(app, ["key", str(tmp_path / "site.toml")])
    assert first.exit_code == 0, first.output
    assert first.output == again.output
    identity = identity_of(tmp_path / "state")
    assert peer_lines({"shanghai": public_of(identity)}) in first.output
    assert fingerprint(public_of(identity)) in first.output
    pem = (tmp_path / "state" / FILE).read_text().splitlines()[1]
    assert pem not in first.output
    assert identity.private_bytes_raw().hex() not in first.output


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    CliRunner().invoke(app, ["key", str(tmp_path / "site.toml")])
    (tmp_path / "state" / FILE).chmod(0o644)
    told = CliRunner().invoke(app, ["key", str(tmp_path / "site.toml")])
    assert told.exit_code == 1
    assert "chmod 600" in told.output
