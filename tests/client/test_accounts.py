"""Flower's programs run as an account that sees no data, in a folder where nothing stays from one join to the next."""

import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import accounts, doctor
from client.accounts import open_to_others, reachable, warnings
from client.joining import Joining
from client.site_folder import SiteFolder
from sarco_models.errors import ConfigError
from tests.client.federated import a_folder, with_kit


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return a_folder(tmp_path)


def test_without_an_account_of_their_own_a_warning_says_what_flowers_programs_could_read(folder: SiteFolder) -> None:
    (line,) = warnings(folder)
    assert "code that the coordinator ships, here as an account that can read the data" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_flowers_folder_belongs_to_its_own_account(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "reachable", lambda path, entry: None)  # this Python may lie where nobody passes
    kit = with_kit(tmp_path, folder)
    folder.site_file.write_text(folder.site_file.read_text().replace('relay_user = ""', 'relay_user = "nobody"'))
    worker, supernode, superexec = Joining.prepare(folder, kit).programs()
    nobody = pwd.getpwnam("nobody")
    assert (worker.user, supernode.user, superexec.user) == ("", "nobody", "nobody")
    assert {path.stat().st_uid for path in (folder.flower, *folder.flower.iterdir())} == {nobody.pw_uid}
    assert {path.stat().st_uid for path in (folder.state, folder.node_key, folder.site_file)} == {0}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o711
    assert worker.command[-2:] == ("--socket-group", str(nobody.pw_gid))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_with_data_that_the_relay_can_read_nobody_joins(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "reachable", lambda path, entry: None)
    folder = a_folder(open_place, relay_user="nobody")
    kit = with_kit(open_place, folder)
    folder.data.chmod(0o755)
    (folder.data / "participants.csv").chmod(0o644)
    with pytest.raises(ConfigError, match=f"can be read by nobody.*chmod -R go-rwx {folder.data}"):
        Joining.prepare(folder, kit)
    assert list(folder.flower.iterdir()) == []
    assert doctor.data(folder).level == "fault"
    (folder.data / "participants.csv").chmod(0o600)
    Joining.prepare(folder, kit)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Where every account may pass; pytest's own folders are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def rights(folder: SiteFolder, data: int, table: int, images: int = 0o700, image: int = 0o600) -> Path | None:
    """What the relay may read with these rights; the table as ``participants.csv``, one image below it."""
    place = folder.data / "images"
    place.mkdir(exist_ok=True)
    (place / "p1.png").touch()
    for path in (*folder.data.iterdir(), *place.iterdir()):
        path.chmod(0o600 if path.is_file() else 0o700)
    for path, mode in ((folder.data, data), (folder.data / "participants.csv", table)):
        path.chmod(mode)
    place.chmod(images)
    (place / "p1.png").chmod(image)
    return open_to_others(folder)


def test_whether_every_account_can_read_the_data(open_place: Path) -> None:
    folder = a_folder(open_place)
    table, image = folder.data / "participants.csv", folder.data / "images" / "p1.png"
    assert rights(folder, 0o755, 0o644) == table
    assert rights(folder, 0o755, 0o640) is None
    assert rights(folder, 0o750, 0o644) is None
    assert rights(folder, 0o711, 0o644) == table, "its name can be guessed"
    assert rights(folder, 0o755, 0o640, 0o755, 0o644) == image
    assert rights(folder, 0o755, 0o600, 0o750, 0o644) is None
    open_place.chmod(0o700)
    assert rights(folder, 0o755, 0o644, 0o755, 0o644) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_whether_the_relays_own_groups_can_read_the_data(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_folder(open_place, relay_user="nobody")
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(os, "getgrouplist", lambda _name, group: [group, 4242])
    for path in (folder.data, *folder.data.iterdir()):
        os.chown(path, 0, 4242)
    table = folder.data / "participants.csv"
    assert rights(folder, 0o750, 0o640) == table
    assert rights(folder, 0o750, 0o604) is None, "a group's rights count before those of all"
    os.chown(table, nobody.pw_uid, 0)
    assert rights(folder, 0o750, 0o600) == table


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_link_in_flowers_folder_gives_nothing_of_the_hospitals_away(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's code owns that folder, and root lays out keys in it at the next join."""
    monkeypatch.setattr(accounts, "reachable", lambda path, entry: None)
    kit = with_kit(tmp_path, folder)
    folder.site_file.write_text(folder.site_file.read_text().replace('relay_user = ""', 'relay_user = "nobody"'))
    Joining.prepare(folder, kit)
    secret = folder.state / "identity.pem"
    before = secret.read_bytes()
    for name in ("node.pem", "ca.pem", "client.pem", "superexec.secret", "other", "contact.json"):
        (folder.flower / name).unlink(missing_ok=True)
        (folder.flower / name).symlink_to(secret)
    (folder.flower / "folder").symlink_to(folder.state)
    Joining.prepare(folder, kit)
    assert (secret.stat().st_uid, stat.S_IMODE(secret.stat().st_mode), secret.read_bytes()) == (0, 0o600, before)
    assert folder.state.stat().st_uid == 0
    assert {path.name for path in folder.flower.iterdir()} == {"node.pem", "ca.pem", "client.pem", "superexec.secret"}
    assert not any(path.is_symlink() for path in folder.flower.iterdir())


@pytest.mark.parametrize("name", ["contact.json", "node.pem", "superexec.secret", "argparse.py"])
def test_nothing_that_was_left_in_flowers_folder_meets_the_next_join(
    tmp_path: Path, folder: SiteFolder, name: str
) -> None:
    kit = with_kit(tmp_path, folder)
    (folder.flower / name / "deeper").mkdir(parents=True)
    Joining.prepare(folder, kit)
    assert not (folder.flower / name).is_dir()
    assert [path.name for path in folder.path.iterdir() if path.name.startswith("flower")] == ["flower"]


def test_a_tree_deeper_than_a_program_can_follow_does_not_stop_the_next_join(
    tmp_path: Path, folder: SiteFolder
) -> None:
    kit = with_kit(tmp_path, folder)
    code = "import os\nfor _ in range(1500): os.mkdir('a'); os.chdir('a')"
    subprocess.run([sys.executable, "-c", code], cwd=folder.flower, check=True)  # noqa: S603
    accounts.own(folder)
    Joining.prepare(folder, kit)
    assert not (folder.flower / "a").exists()
    assert [path.name for path in folder.path.iterdir() if path.name.startswith("flower")] == ["flower"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_has_left_becomes_the_owners_but_for_the_data_and_what_links_point_to(
    tmp_path: Path, folder: SiteFolder
) -> None:
    data, outside = folder.path / "data", tmp_path / "outside"
    folder.data.rename(data)
    outside.touch()
    folder.site_file.write_text(folder.site_file.read_text().replace(str(folder.data), str(data)))
    assert folder.data == data
    (folder.logs / "link").symlink_to(outside)
    os.chown(folder.path, 2001, 2001)
    accounts.own(folder)
    assert {place.stat().st_uid for place in (folder.site_file, folder.node_key, folder.state, folder.logs)} == {2001}
    assert {place.stat().st_uid for place in (data, *data.rglob("*"), folder.flower, outside)} == {0}
    assert (folder.logs / "link").lstat().st_uid == 2001


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")
def test_what_runs_as_the_relay_is_ended_also_where_it_has_left_its_session_and_its_environment() -> None:
    user = 1_234_567  # of no account
    command = ["/bin/sh", "-c", "setsid env -i sleep 300 & exec setsid env -i sleep 300"]
    process = subprocess.Popen(command, user=user, group=user, extra_groups=[])  # noqa: S603
    try:
        until = time.monotonic() + 5.0
        while len(running_as(user)) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(running_as(user)) == 2
        accounts.end_all_of(user)
        assert process.wait(5) == -signal.SIGKILL
        assert running_as(user) == []
    finally:
        process.kill()


def running_as(user: int) -> list[Path]:
    return [entry for entry in Path("/proc").glob("[0-9]*") if accounts._runs_as(entry, user)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_the_relays_account_is_ended_before_its_folder_is_laid_out_and_a_persons_is_not(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[tuple[int, bool]] = []
    monkeypatch.setattr(accounts, "reachable", lambda path, entry: None)
    monkeypatch.setattr(accounts, "end_all_of", lambda user: ended.append((user, (folder.flower / "old").exists())))
    kit = with_kit(tmp_path, folder)
    (folder.flower / "old").touch()
    text = folder.site_file.read_text()
    folder.site_file.write_text(text.replace('relay_user = ""', 'relay_user = "nobody"'))
    Joining.prepare(folder, kit)
    assert ended == []
    assert "nobody is no system account" in "\n".join(warnings(folder))
    (folder.flower / "old").touch()
    folder.site_file.write_text(text.replace('relay_user = ""', 'relay_user = "daemon"'))
    Joining.prepare(folder, kit)
    assert ended == [(pwd.getpwnam("daemon").pw_uid, True)]


def test_an_account_that_cannot_run_this_python_is_told_where_it_stops(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "python"
    program.touch(0o755)
    with pytest.raises(ConfigError, match=f"{closed}: account nobody may not pass.*such as /opt/sarco"):
        reachable(program, pwd.getpwnam("nobody"))
