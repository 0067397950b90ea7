"""The services of a hospital: each walled in, and none with more than it needs."""

import configparser
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from client import accounts, service
from client.contact import End
from client.joining import PIECES, SMALL_PIECES, WORKER_PATIENCE_S, Joining
from client.service import Accounts, active, install, reached, running, units
from client.site_folder import SiteFolder
from sarco_models.errors import ConfigError, ProcessError
from tests.client.federated import a_folder, with_kit


def account(name: str, number: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", number, number, "", "/", "/usr/sbin/nologin"))


WORKER, RELAY = account("sarco-site", 2001), account("sarco-relay", 2002)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteFolder:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return a_folder(tmp_path)


def written(tmp_path: Path, folder: SiteFolder, address: str = "127.0.0.1:8443") -> dict[str, str]:
    kit = with_kit(tmp_path, folder, address=address)
    programs = {each.name: each for each in Joining.prepare(folder, kit).programs()}
    return units(folder, kit, programs, Accounts(WORKER, RELAY), memory_gb=8)


def settings(text: str) -> dict[str, str]:
    """The [Service] section; of keys that come twice the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return dict(parser["Service"])


def test_the_worker_reads_the_data_and_has_no_network(tmp_path: Path, folder: SiteFolder) -> None:
    found = settings(written(tmp_path, folder)["sarco-alpha-worker.service"])
    assert (found["User"], found["SupplementaryGroups"]) == ("sarco-site", "2002")
    assert found["ReadOnlyPaths"] == f"{folder.path} {folder.data}"
    assert str(folder.data) not in found["ReadWritePaths"]
    assert (found["PrivateNetwork"], found["RestrictAddressFamilies"], found["IPAddressDeny"]) == (
        "yes",
        "AF_UNIX",
        "any",
    )
    assert found["MemoryMax"] == "8G"
    assert found["ExecStart"].endswith('"--socket-group" "2002"')
    assert found["RestartPreventExitStatus"] == "2 3 5"
    assert float(found["TimeoutStopSec"]) == WORKER_PATIENCE_S, "a round that was charged is finished"


def test_a_supernode_that_is_refused_does_not_knock_for_ever(tmp_path: Path, folder: SiteFolder) -> None:
    found = settings(written(tmp_path, folder)["sarco-alpha-supernode.service"])
    codes = {End(int(code)) for code in found["RestartPreventExitStatus"].split()}
    assert codes >= {End.REVOKED, End.CLOCK, End.WRONG_AUTHORITY, End.NOT_ENROLLED, End.TWICE, End.PROXY_LIMIT}
    assert not codes & {End.STOPPED, End.LOST, End.FROZEN, End.WILL_NOT_START}


@pytest.mark.parametrize("name", ["supernode", "superexec"])
def test_flowers_programs_see_no_data_and_write_in_their_own_folder(
    tmp_path: Path, folder: SiteFolder, name: str
) -> None:
    found = settings(written(tmp_path, folder)[f"sarco-alpha-{name}.service"])
    assert found["User"] == "sarco-relay"
    closed = found["InaccessiblePaths"].split()
    assert set(closed) == {
        f"-{place}"
        for place in (
            *(folder.data, folder.state, folder.path / "keys", folder.path / "kit", folder.site_file),
            *(folder.cache, folder.logs, folder.path / "approvals.jsonl"),
        )
    }
    assert found["ReadWritePaths"] == str(folder.flower)
    assert found["IPAddressDeny"] == "any"
    assert not any(str(folder.data) in value for key, value in found.items() if key != "InaccessiblePaths")


def test_only_the_supernode_gets_out_and_only_to_the_coordinator(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_RESOLVER", tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text("search x\nnameserver 192.0.2.53\n")
    found = written(tmp_path, folder, "198.51.100.7:8443")
    assert settings(found["sarco-alpha-supernode.service"])["IPAddressAllow"] == "localhost 198.51.100.7"
    assert settings(found["sarco-alpha-superexec.service"])["IPAddressAllow"] == "localhost"
    answers = [(2, 1, 6, "", ("198.51.100.8", 0))]
    monkeypatch.setattr(service.socket, "getaddrinfo", lambda *_a, **_k: answers)
    assert reached(with_kit(tmp_path, folder, address="c.example:443")) == ["192.0.2.53", "198.51.100.8"]
    monkeypatch.setenv("https_proxy", "http://192.0.2.9:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    answers[0] = (2, 1, 6, "", ("192.0.2.9", 0))
    assert "192.0.2.9" in reached(with_kit(tmp_path, folder, address="c.example:443"))


def test_all_three_are_walled_in_and_come_back(tmp_path: Path, folder: SiteFolder) -> None:
    found = written(tmp_path, folder)
    services = {name: settings(text) for name, text in found.items() if name.endswith(".service")}
    assert len(services) == 3
    for kept in services.values():
        assert kept["Restart"] == "always"
        assert {kept[key] for key in ("NoNewPrivileges", "PrivateTmp", "RestrictSUIDSGID")} == {"yes"}
        assert (kept["ProtectSystem"], kept["CapabilityBoundingSet"]) == ("strict", "")
        assert kept["UMask"] == "0077"
    assert set(found["sarco-alpha.target"].split("Wants=")[1].splitlines()[0].split()) == set(services)


def test_names_with_percent_signs_and_spaces_are_not_expanded(tmp_path: Path) -> None:
    place = tmp_path / "100% ours"
    place.mkdir()
    folder = a_folder(place)
    text = written(place, folder)["sarco-alpha-worker.service"]
    assert f'"{str(folder.site_file).replace("%", "%%")}"' in text
    assert "100%%\\x20ours" in settings(text)["ReadOnlyPaths"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_command_writes_them_and_says_how_to_start(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "reachable", lambda path, entry: None)
    kit = with_kit(tmp_path, folder)
    with pytest.raises(ConfigError, match="belongs to root"):
        list(install(folder, kit, tmp_path / "units"))
    owner = pwd.getpwnam("daemon")
    for path in (folder.path, *folder.path.rglob("*")):
        shutil.chown(path, owner.pw_uid, owner.pw_gid)
    with pytest.raises(ConfigError, match="expected another account than root and daemon"):
        list(install(folder, kit, tmp_path / "units"))
    folder.site_file.write_text(folder.site_file.read_text().replace('relay_user = ""', 'relay_user = "nobody"'))
    text = "\n".join(install(folder, kit, tmp_path / "units"))
    assert "systemctl disable --now sarco-alpha.target" in text
    unit = (tmp_path / "units" / "sarco-alpha-superexec.service").read_text()
    assert f"{PIECES}={SMALL_PIECES}" in unit, "no supervisor is there that could do it later"
    monkeypatch.setattr(service, "UNITS", tmp_path / "units")
    again = "\n".join(install(folder, kit, tmp_path / "units"))
    assert "systemctl enable sarco-alpha.target && systemctl restart sarco-alpha.target" in again
    assert {(folder.logs / f"{name}.log").stat().st_uid for name in ("worker", "supernode")} == {owner.pw_uid}
    secret = (folder.flower / "superexec.secret").read_text()
    with monkeypatch.context() as nobody_knows:
        nobody_knows.setattr(service.socket, "getaddrinfo", lambda *_a, **_k: (_ for _ in ()).throw(OSError()))
        with pytest.raises(ConfigError, match="the name is not known here"):
            list(install(folder, kit, tmp_path / "units"))
    assert (folder.flower / "superexec.secret").read_text() == secret
    monkeypatch.setattr(service, "supervisor_of", lambda _file: 7)
    with pytest.raises(ProcessError, match="alpha has joined"):
        list(install(folder, kit, tmp_path / "units"))
    assert len(list((tmp_path / "units").glob("sarco-alpha*"))) == 4
    assert {path.stat().st_uid for path in folder.run.iterdir()} <= {owner.pw_uid}
    assert (folder.flower / "node.pem").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_whether_services_run_is_asked_of_systemd(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UNITS", tmp_path)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text('#!/bin/sh\n[ "$2" = sarco-alpha-supernode.service ] && echo activating || echo inactive\n')
    systemctl.chmod(0o755)
    monkeypatch.setattr(service.shutil, "which", lambda _name: str(systemctl))
    assert active(folder) == list(running(folder)) == []
    (tmp_path / "sarco-alpha.target").touch()
    assert active(folder) == ["sarco-alpha-supernode.service"]
    assert "  service sarco-alpha-worker.service: inactive" in list(running(folder))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_understands_every_line(tmp_path: Path, folder: SiteFolder) -> None:
    place = tmp_path / "units"
    place.mkdir()
    for name, text in written(tmp_path, folder).items():
        (place / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(place.iterdir()))]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    ours = [line for line in (found.stdout + found.stderr).splitlines() if "sarco-" in line]
    assert ours == []
