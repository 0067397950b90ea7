"""A hospital's folder is made once, is private, and is never overwritten."""

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from typer.testing import CliRunner

from client.cli import app
from client.identity import identity_of, public_of
from client.node_key import make_node_key
from client.policy import Policy
from client.private_files import write_private
from client.site_folder import Beginning, SiteFolder, fingerprint, make
from client.workspace import SiteConfig
from sarco_models.config import load_config
from sarco_models.errors import ConfigError
from server.enrolment import key_fingerprint, read_public_half
from tests.client.federated import a_folder
from tests.sites import tables_site

FOLDERS = ("state", "keys", "kit", "run", "logs", "flower", "cache")


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def said(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_keys_and_folders_are_the_hospitals_alone(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    assert rights(folder.path) == 0o700
    assert {rights(folder.path / name) for name in FOLDERS} == {0o700}
    assert rights(folder.node_key) == rights(folder.state / "identity.pem") == rights(folder.site_file) == 0o600
    key = load_ssh_private_key(folder.node_key.read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    assert isinstance(key.curve, SECP384R1)


def test_the_coordinator_reads_what_is_sent_and_sees_the_same_fingerprint(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    half = read_public_half(folder.path / "alpha.pub")
    assert (half.name, half.identity) == ("alpha", public_of(identity_of(folder.state)))
    assert key_fingerprint(half.node_key, half.identity) == fingerprint(folder)
    assert load_ssh_public_key(half.node_key.encode())
    sent = (folder.path / "alpha.pub").read_text()
    assert "PRIVATE" not in sent
    assert str(tmp_path) not in sent


def test_a_new_hospital_allows_nothing(tmp_path: Path) -> None:
    config = load_config(a_folder(tmp_path).site_file, SiteConfig)
    assert (config.policy.tasks, config.policy.metrics, config.policy.statistics) == ((), (), ())
    assert (config.policy.parameters, config.policy.max_parameter_bytes) == ((), 0)
    assert not config.policy.unprotected_training
    assert not config.policy.plain_updates
    assert (config.budget.lifetime, config.budget.one_study) == (0, 0)
    assert set(config.policy.model_fields_set) == set(Policy.model_fields) - {"approved_studies"}


def test_a_second_init_replaces_neither_keys_nor_site_toml(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    folder.site_file.write_text(folder.site_file.read_text() + "# ours\n")
    before = [path.read_bytes() for path in (folder.node_key, folder.state / "identity.pem", folder.site_file)]
    (folder.path / "alpha.pub").unlink()
    again = a_folder(tmp_path)
    assert [path.read_bytes() for path in (again.node_key, again.state / "identity.pem", again.site_file)] == before
    assert (folder.path / "alpha.pub").exists()


def test_a_key_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed while it is written gives the command again."""
    path = tmp_path / "node.pem"
    with monkeypatch.context() as killed:
        killed.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_node_key(path, "alpha")
    assert not path.exists()
    make_node_key(path, "alpha")
    assert path.stat().st_nlink == 1
    before = path.read_bytes()
    make_node_key(path, "alpha")
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_root_writes_stays_its_owners(tmp_path: Path) -> None:
    os.chown(tmp_path, 2001, 2002)
    write_private(tmp_path / "site.toml", "new")
    assert ((tmp_path / "site.toml").stat().st_uid, (tmp_path / "site.toml").stat().st_gid) == (2001, 2002)
    os.chown(tmp_path / "site.toml", 2003, 2004)
    write_private(tmp_path / "site.toml", "again")
    assert ((tmp_path / "site.toml").stat().st_uid, rights(tmp_path / "site.toml")) == (2003, 0o600)


def test_the_data_are_not_touched(tmp_path: Path) -> None:
    data = tables_site(tmp_path / "data")
    before = {path: (path.stat().st_mtime_ns, rights(path)) for path in [data, *data.rglob("*")]}
    a_folder(tmp_path)
    assert {path: (path.stat().st_mtime_ns, rights(path)) for path in [data, *data.rglob("*")]} == before


@pytest.mark.parametrize("name", ["Alpha", "1st", "a-b", "", "a b", "ä"])
def test_a_name_that_the_protocol_does_not_know_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="small letters, digits and _"):
        a_folder(tmp_path, name)
    assert not (tmp_path / "h").exists()


def test_what_cannot_be_a_hospitals_folder_is_refused(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    with pytest.raises(ConfigError, match="is of alpha, and --name is beta"):
        a_folder(tmp_path, "beta")
    with pytest.raises(ConfigError, match="there is no such folder"):
        make(tmp_path / "other", Beginning("beta", tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="holds the data"):
        make(tmp_path / "data", Beginning("beta", tmp_path / "data"))
    with pytest.raises(ConfigError, match="the limit of this system is 107"):
        make(tmp_path / ("x" * 100), Beginning("beta", tmp_path / "data"))
    with pytest.raises(ConfigError, match="is not a hospital's folder"):
        SiteFolder.open(tmp_path)
    assert SiteFolder.open(folder.site_file) == SiteFolder.open(folder.path) == folder


def test_the_command_says_what_to_send_and_what_comes_next(tmp_path: Path) -> None:
    data = tables_site(tmp_path / "data")
    code, text = said("init", tmp_path / "h", "--name", "alpha", "--data", data)
    assert code == 0, text
    folder = SiteFolder.open(tmp_path / "h")
    assert str(folder.path / "alpha.pub") in text
    assert fingerprint(folder) in text
    assert f"sarco-site join {folder.path}" in text
    code, text = said("init", tmp_path / "h", "--name", "beta", "--data", data)
    assert (code, "error:" in text) == (1, True)


def test_the_label_rule_comes_from_the_study_where_one_is_given(tmp_path: Path) -> None:
    from tests.client.federated import a_study

    (tmp_path / "study.json").write_text(a_study().model_dump_json())
    data = tables_site(tmp_path / "data")
    said("init", tmp_path / "h", "--name", "alpha", "--data", data, "--study", tmp_path / "study.json")
    assert SiteFolder.open(tmp_path / "h").settings["label_rule"] == "invented2026"


def test_names_of_folders_with_quotes_and_spaces_stand_in_site_toml(tmp_path: Path) -> None:
    data = tables_site(tmp_path / 'our "best" data')
    folder = make(tmp_path / "h", Beginning("alpha", data))
    assert folder.data == data
    assert json.loads((folder.path / "alpha.pub").read_text())["name"] == "alpha"
