"""Every check has a value, a limit and a remedy, and finds what it is for."""

import json
import os
import socket
import tempfile
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client import coordinator_line, doctor
from client.cli import app
from client.coordinator_line import Check, clock, look, parts_of, proxy_for, shown
from client.site_folder import SiteFolder
from tests.client.federated import a_folder, a_study, with_kit
from tests.client.stand_in_coordinator import stand_in


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteFolder:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return a_folder(tmp_path)


def levels(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.level for check in checks}


KNOWN = (400, b'{"code": 2003, "message": "Invalid heartbeat interval."}', {"content-type": "application/json"})


def knows_us(path: str, _times: int) -> tuple[int, bytes, dict[str, str]] | None:
    """A coordinator where this hospital is enrolled."""
    return KNOWN if path == "activate-node" else None


def test_the_way_to_the_coordinator_is_in_order(tmp_path: Path, folder: SiteFolder) -> None:
    with stand_in(tmp_path / "authority", knows_us) as coordinator:
        kit = with_kit(tmp_path, folder, address=coordinator.address)
        names = ("name", "port", "certificate", "clock", "admission")
        assert levels(list(look(folder, kit))) == dict.fromkeys(names, "ok")


def test_a_hospital_that_was_revoked_is_told_so(tmp_path: Path, folder: SiteFolder) -> None:
    told = b'{"detail": "alpha was revoked on 2026-11-20T12:00:00+00:00: ask the coordinator", "code": 9003}'
    with stand_in(tmp_path / "authority", lambda path, _n: (412, told, {}) if path == "activate-node" else None) as far:
        kit = with_kit(tmp_path, folder, address=far.address)
        found = list(look(folder, kit))[-1]
        result = CliRunner().invoke(app, ["doctor", str(folder.path)])
        assert [check.name for check in doctor.causes(folder, kit)] == [], "join has said it already"
    assert (found.name, found.level) == ("admission", "fault")
    assert found.value.startswith("the coordinator has revoked this hospital's key (it says: alpha was revoked on 2026")
    assert "Coming back" in found.remedy
    assert result.exit_code == 1
    assert "the coordinator has revoked this hospital's key" in result.output


def test_a_line_that_is_cut_at_the_question_is_a_warning(tmp_path: Path, folder: SiteFolder) -> None:
    with stand_in(tmp_path / "authority", lambda path, _n: (0, b"", {}) if path == "activate-node" else None) as far:
        found = list(look(folder, with_kit(tmp_path, folder, address=far.address)))[-1]
    assert (found.name, found.level) == ("admission", "warning")
    assert "firewall" in found.remedy


def test_who_cannot_be_let_in_for_the_clock_is_told_of_the_clock_alone(tmp_path: Path, folder: SiteFolder) -> None:
    hour = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True).encode()
    with stand_in(tmp_path / "authority", lambda path, _n: (200, hour, {}) if path == "date" else None) as coordinator:
        found = list(look(folder, with_kit(tmp_path, folder, address=coordinator.address)))
        assert coordinator.asked == [""]
    assert (found[-1].name, found[-1].level) == ("clock", "fault")


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, "ok"), (3, "warning"), (10, "fault"), (-200, "warning"), (-300, "fault")]
)
def test_a_clock_that_is_off_is_measured_by_the_coordinators_date(
    tmp_path: Path, folder: SiteFolder, seconds: int, level: str
) -> None:
    def hour() -> bytes:  # as late as it is asked for: a busy machine loses no second
        return format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True).encode()

    with stand_in(
        tmp_path / "authority", lambda path, _n: (200, hour(), {}) if path == "date" else None
    ) as coordinator:
        kit = with_kit(tmp_path, folder, address=coordinator.address)
        found = next(check for check in look(folder, kit) if check.name == "clock")
    assert found.level == level, found
    assert found.limit == "at most 4 s ahead, 290 s behind"
    assert level == "ok" or "timedatectl" in found.remedy


def test_a_coordinator_without_a_clock_is_a_warning() -> None:
    assert clock(None).level == "warning"


def test_another_authority_and_another_name_are_faults(tmp_path: Path, folder: SiteFolder) -> None:
    with stand_in(tmp_path / "elsewhere") as coordinator:
        kit = with_kit(tmp_path, folder, address=coordinator.address)
        last = list(look(folder, kit))[-1]
    assert (last.name, last.level) == ("certificate", "fault")
    assert "not of the authority in your kit" in last.value
    with stand_in(tmp_path / "authority", names=("c.example",)) as coordinator:
        kit = with_kit(tmp_path, folder, address=coordinator.address)
        last = list(look(folder, kit))[-1]
    assert "for another name" in last.value


def test_a_closed_port_and_an_unknown_name_are_faults(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        kit = with_kit(tmp_path, folder, address=f"127.0.0.1:{closed.getsockname()[1]}")
        last = list(look(folder, kit))[-1]
    assert (last.name, last.level) == ("port", "fault")
    assert "connection refused" in last.value
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: (_ for _ in ()).throw(socket.gaierror(-2, "unknown")))
    last = list(look(folder, with_kit(tmp_path, folder, address="c.example:443")))[-1]
    assert (last.name, last.level, last.value) == ("name", "fault", "c.example is not known")


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    soon = (datetime.now(UTC) + timedelta(days=10)).strftime("%b %d %H:%M:%S %Y GMT")
    assert coordinator_line._certificate(soon).level == "warning"


def test_a_proxy_is_used_and_its_password_not_shown(folder: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    assert proxy_for("127.0.0.1") == ""
    assert shown(proxy_for("c.example")) == "proxy.example:3128"
    assert shown("me:secret@proxy.example:3128") == "proxy.example:3128", "as Flower's programs read it"
    assert parts_of("me:secret@proxy.example:3128").username == "me"


@pytest.mark.parametrize("proxy", ["http://h:abc", "http://me:secret@h:99999", "http://:3128", "://", "[::1"])
def test_a_proxy_that_is_no_address_is_a_fault_that_shows_no_password(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (found,) = look(folder, with_kit(tmp_path, folder))
    assert (found.name, found.level) == ("proxy", "fault")
    assert "secret" not in found.value


def test_a_client_certificate_that_is_not_of_this_key_is_a_fault(tmp_path: Path, folder: SiteFolder) -> None:
    with stand_in(tmp_path / "authority") as coordinator:
        kit = with_kit(tmp_path, folder, address=coordinator.address)
        folder.client_certificate.write_text(kit.ca)
        found = list(look(folder, kit))[-1]
        assert (found.name, found.level, "cannot be used with" in found.value) == ("certificate", "fault", True)
        folder.node_key.write_text("no key")
        assert list(look(folder, kit))[-1].level == "fault"


def test_rights_and_absent_keys_are_faults(folder: SiteFolder) -> None:
    assert levels(list(doctor.private(folder))) == {"rights": "ok"}
    folder.node_key.chmod(0o644)
    folder.state.chmod(0o755)
    folder.cache.mkdir(exist_ok=True)
    folder.cache.chmod(0o750)
    (found,) = doctor.private(folder)
    assert (found.level, found.name) == ("fault", "rights")
    assert found.remedy == f"chmod 600 {folder.node_key}; chmod 700 {folder.state}; chmod 700 {folder.cache}"
    folder.node_key.unlink()
    (found,) = doctor.private(folder)
    assert (found.level, found.name) == ("fault", "keys")


def test_too_little_room_is_a_fault(folder: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    for free, level in ((1.0, "fault"), (5.0, "warning"), (50.0, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _p, free=free: usage(0, 0, int(free * 2**30)))
        assert doctor.disk_of(folder)().level == level
    assert doctor.memory().value.endswith("GiB available")


def test_another_flower_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.flower().level == "ok"
    monkeypatch.setattr(doctor, "version", lambda _name: "1.42.0")
    assert (doctor.flower().level, doctor.flower().limit) == ("fault", "1.41.0")


def test_nothing_calls_home(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.calls_home().level == "ok"
    monkeypatch.setattr(doctor, "quiet_environment", lambda _home: {"FLWR_TELEMETRY_ENABLED": "1"})
    assert doctor.calls_home().level == "fault"


def test_data_that_everybody_can_read_are_a_warning() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed
        Path(name).chmod(0o755)
        folder = a_folder(Path(name))
        table = folder.data / "participants.csv"
        folder.data.chmod(0o755)
        table.chmod(0o644)
        found = doctor.data(folder)
        assert (found.level, str(table) in found.value) == ("warning", True)
        table.chmod(0o640)
        assert doctor.data(folder).level == "ok"
        (folder.data / "p1.png").touch(0o644)
        (folder.data / "p1.png").chmod(0o644)
        assert doctor.data(folder).level == "warning"
        folder.data.chmod(0o700)
        assert doctor.data(folder).level == "ok"
        table.unlink()
        assert doctor.data(folder).level == "fault"


def test_a_study_without_approval_is_a_fault(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    assert doctor.approved(folder, kit).level == "ok"
    (folder.path / "study.json").write_text(a_study(training={"local_steps": 3}).model_dump_json())
    assert "and the kit's is" in doctor.approved(folder, kit).value
    (folder.path / "study.json").unlink()
    assert doctor.approved(folder, kit).level == "fault"
    kit = with_kit(tmp_path, folder)
    (folder.path / "approvals.jsonl").unlink()
    assert doctor.approved(folder, kit).level == "fault"
    folder.site_file.write_text(
        folder.site_file.read_text().replace("[policy]", f'[policy]\napproved_studies = ["{kit.digest}"]')
    )
    assert doctor.approved(folder, kit).level == "ok"


def test_a_site_toml_that_is_wrong_is_a_fault(folder: SiteFolder) -> None:
    assert doctor.settings(folder).level == "ok"
    folder.site_file.write_text(folder.site_file.read_text().replace("min_cell = 5", "min_cel = 5"))
    found = doctor.settings(folder)
    assert (found.level, "did you mean min_cell?" in found.value) == ("fault", True)


def test_accounts(folder: SiteFolder) -> None:
    assert doctor.accounts(folder).level == "warning"
    folder.site_file.write_text(folder.site_file.read_text().replace('relay_user = ""', 'relay_user = "no-such"'))
    assert doctor.accounts(folder).level == "fault"


def test_the_command_ends_with_0_only_without_faults(tmp_path: Path, folder: SiteFolder) -> None:
    with stand_in(tmp_path / "authority", knows_us) as coordinator:
        with_kit(tmp_path, folder, address=coordinator.address)
        result = CliRunner().invoke(app, ["doctor", str(folder.path)])
        assert result.exit_code == 0, result.output
        assert "ready to join" in result.output
        asked = CliRunner().invoke(app, ["doctor", str(folder.path), "--json"])
        found = json.loads(asked.output)
        assert {check["name"] for check in found} >= {
            "flower",
            "disk",
            "memory",
            "rights",
            "certificate",
            "clock",
            "worker",
        }
    result = CliRunner().invoke(app, ["doctor", str(folder.path)])
    assert result.exit_code == 1
    assert "1 fault, " in result.output
    assert os.linesep + "                      -> if the coordinator is up" in result.output
