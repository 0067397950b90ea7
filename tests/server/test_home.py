"""A coordinator's home: what init makes, who may read it, what a damaged one says."""

import stat
from pathlib import Path

import pytest

from sarco_models.errors import ConfigError, RunError
from server.certificates import Authority, fingerprint
from server.founding import found
from server.home import Home
from tests.server.a_home import a_home, study_file


def test_init_makes_a_home_whose_secrets_only_its_owner_reads(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    assert home.config.address.startswith("localhost:")
    assert home.study.name == "tiny"
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700
    for path in (home.folder / "ca.key", home.key, home.loopback_key, home.superexec_secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert len(home.superexec_secret.read_text()) == 64


def test_the_fingerprint_that_init_says_is_that_of_the_authority(tmp_path: Path) -> None:
    said = found(tmp_path / "home", "h.example:8443", study_file(tmp_path))
    assert said == fingerprint(Authority(tmp_path / "home" / "ca.pem", tmp_path / "home" / "ca.key").pem)


def test_a_home_is_never_made_over_another(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="is a coordinator's home already"):
        found(home.folder, "other:1", study_file(tmp_path))
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == before


def test_an_init_that_was_killed_is_completed_with_the_same_authority(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    authority = home.ca.read_bytes()
    (home.folder / "coordinator.toml").unlink()
    found(home.folder, "localhost:8443", study_file(tmp_path))
    assert home.ca.read_bytes() == authority


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "https://host:1", "host:0", "host:70000", "::1:80"])
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        found(tmp_path / "home", address, study_file(tmp_path))
    assert not (tmp_path / "home").exists()


def test_a_wrong_study_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = 1")
    with pytest.raises(ConfigError, match="name"):
        found(tmp_path / "home", "h:1", tmp_path / "bad.toml")
    assert not (tmp_path / "home").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        found(tmp_path / "file" / "home", "h:1", study_file(tmp_path))


def test_a_folder_that_is_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sarco-coordinator init"):
        Home.open(tmp_path)


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    path = home.folder / "coordinator.toml"
    path.write_text(path.read_text().replace("max_body_mb = 16", "max_body_mb = 1"))
    with pytest.raises(ConfigError, match=r"gate\.max_body_mb"):
        Home.open(home.folder)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 9, "sites": []}', '{"version": 1, "sites": [{"name": "a"}]}'])
def test_a_damaged_list_of_sites_is_no_empty_one(tmp_path: Path, text: str) -> None:
    home = a_home(tmp_path)
    home.sites_file.write_text(text)
    with pytest.raises(ConfigError, match="restore it from a backup"):
        home.sites()
