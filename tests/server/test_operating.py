"""What keeps a coordinator running: refused by name where it cannot work, and up again after every kill."""

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sarco_models.errors import ConfigError, ProcessError, RunError
from sarco_models.processes import Supervisor, states, supervisor_of
from server.certificates import names_of, read_certificate
from server.cli import app
from server.control import Control
from server.enrolment import enrol, revoke
from server.home import Home
from server.operating import _our_code, is_ready, pack, prepare, programs, start_up, take_down
from tests.server.a_home import a_home, a_pub, study_file


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return a_home(tmp_path)


def command(*words: object) -> tuple[int, str]:
    """Exit code and everything that a command says."""
    told = CliRunner().invoke(app, [str(word) for word in words])
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


# ---- before anything is started -------------------------------------------------------------------------------------


def test_only_the_gate_listens_outside(home: Home) -> None:
    superlink, gate, superexec = programs(home)
    words = " ".join(superlink.command)
    for needed in (
        "--host 127.0.0.1",
        "--isolation process",
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        f"--superexec-auth-secret-file {home.superexec_secret}",
    ):
        assert needed in words, needed
    assert "--insecure" not in words
    assert "--insecure" not in superexec.command
    assert gate.command[-2:] == ("server.gate", str(home.folder))
    for each in (superlink, gate, superexec):
        assert each.env["FLWR_TELEMETRY_ENABLED"] == "0"
        assert home.superexec_secret.read_text() not in " ".join((*each.command, *each.env.values()))


def test_a_gate_that_cannot_start_is_not_started_for_ever(home: Home, tmp_path: Path) -> None:
    gate = programs(home)[1]
    (home.folder / "coordinator.toml").write_text("nonsense = [")
    started = replace(gate, log=tmp_path / "gate.log", cwd=tmp_path, ready=None, env={**gate.env, **_our_code()})
    supervisor = Supervisor([started], tmp_path / "state.json")
    supervisor.start()
    stop = threading.Event()
    late = threading.Timer(20, stop.set)
    late.start()
    try:
        assert "coordinator.toml" in supervisor.watch(stop, lambda _: None)
    finally:
        late.cancel()
        supervisor.stop()


@pytest.mark.parametrize("setting", ["superlink_port", "gate.port"])
def test_a_port_that_is_taken_is_named(home: Home, setting: str) -> None:
    port = home.config.superlink_port if setting == "superlink_port" else home.config.gate.port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(ProcessError, match=rf"port {port} .*\({setting} in coordinator\.toml\): Address already"):
            prepare(home)


def test_a_home_that_cannot_be_written_is_named(home: Home) -> None:
    (home.folder / "run").write_text("no folder")
    with pytest.raises(RunError, match="run: File exists"):
        prepare(home)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_home_is_named(home: Home) -> None:
    home.folder.chmod(0o500)
    with pytest.raises(RunError, match="Permission denied: the home must be on a disk that can be written"):
        prepare(home)


def test_a_full_disk_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.operating.shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(RunError, match="0 MB are free on its disk, 200 are needed"):
        prepare(home)


def test_a_locked_database_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(sqlite3.connect(home.database)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN IMMEDIATE")
        connect = sqlite3.connect
        quick = partial(connect, timeout=0.05, isolation_level=None)
        monkeypatch.setattr("server.operating.sqlite3.connect", lambda path, **_: quick(path))
        with pytest.raises(RunError, match="database is locked: end the program that holds it open"):
            prepare(home)
    pack(home)


def test_a_damaged_database_says_that_nothing_depends_on_it(home: Home) -> None:
    home.database.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=r"move the file .* registered anew from sites\.json"):
        prepare(home)


def test_free_pages_of_the_database_go_back_to_the_disk(home: Home) -> None:
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (x BLOB)")
        database.executemany("INSERT INTO t VALUES (?)", [(os.urandom(2**20),) for _ in range(20)])
        database.execute("INSERT INTO t VALUES ('kept')")
        database.execute("DELETE FROM t WHERE x != 'kept'")
    assert home.database.stat().st_size > 15 * 2**20
    pack(home)
    assert home.database.stat().st_size < 2**20
    with contextlib.closing(sqlite3.connect(home.database)) as database:
        assert database.execute("SELECT x FROM t").fetchall() == [("kept",)]


def test_certificates_and_secret_that_were_removed_are_made_again(home: Home) -> None:
    authority = home.ca.read_bytes()
    for path in (home.certificate, home.loopback_certificate, home.superexec_secret):
        path.unlink()
    prepare(home)
    assert home.certificate.exists()
    assert home.loopback_certificate.exists()
    assert home.superexec_secret.stat().st_mode & 0o777 == 0o600
    assert home.ca.read_bytes() == authority


def test_another_address_gets_a_certificate_of_its_own(home: Home) -> None:
    key, path = home.key.read_bytes(), home.folder / "coordinator.toml"
    prepare(home)
    before = home.certificate.read_bytes()
    prepare(home)
    assert home.certificate.read_bytes() == before
    path.write_text(path.read_text().replace("localhost:", "sarco.example.org:"))
    prepare(Home.open(home.folder))
    assert names_of(read_certificate(home.certificate)) == ("sarco.example.org",)
    assert home.key.read_bytes() == key


# ---- commands -------------------------------------------------------------------------------------------------------


def test_commands_lead_from_one_to_the_next(tmp_path: Path) -> None:
    folder, study = tmp_path / "home", study_file(tmp_path)
    code, said = command("init", folder, "--address", "localhost:8443", "--study", study)
    assert code == 0, said
    assert f"sarco-coordinator enrol SITE.pub --home {folder}" in said
    code, said = command("enrol", a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta"), "--home", folder)
    assert code == 0, said
    assert f"kit to send: {folder / 'kits' / 'alpha.kit'}" in said
    assert f"sarco-coordinator up {folder}" in said
    code, said = command("run", study, "--home", folder)
    assert (code, "is not up: sarco-coordinator up" in said) == (1, True), said
    code, said = command("status", folder)
    assert code == 0, said
    assert "not up: sarco-coordinator up" in said
    assert "alpha" in said
    code, said = command("revoke", "alpha", "--home", folder)
    assert (code, "its key is refused from now on" in said) == (0, True), said
    assert command("down", folder) == (0, "it was not up\n")
    assert command("logs", "--home", folder) == (0, "nothing has been logged yet\n")
    assert command("logs", "absent", "--home", folder)[0] == 1


def test_new_kits_carry_a_new_study(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "alpha")])
    before, other = home.study.digest, tmp_path / "other.toml"
    other.write_text(study_file(tmp_path).read_text().replace("A tiny study", "Another study"))
    code, said = command("kits", home.folder, "--study", other)
    assert (code, "alpha.kit" in said) == (0, True), said
    assert home.study.digest != before
    assert home.study.digest in (home.kits / "alpha.kit").read_text()


def test_errors_are_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    for words in (("status", tmp_path), ("up", tmp_path), ("revoke", "alpha", "--home", tmp_path)):
        code, said = command(*words)
        assert code == 1
        assert said.startswith("error: ")
        assert "Traceback" not in said


# ---- real processes --------------------------------------------------------------------------------------------------


@pytest.fixture
def up(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    start_up(home)
    try:
        yield home
    finally:
        take_down(home)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


@pytest.mark.slow
def test_hospitals_come_and_go_while_it_is_up(up: Home, tmp_path: Path) -> None:
    def known() -> list[str]:
        with Control(up) as control:
            return [node.name for node in control.nodes()]

    assert enrol(up, [a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta")]).known_to_flower
    assert known() == ["alpha", "beta"]
    assert revoke(up, "beta")
    assert known() == ["alpha"]
    with pytest.raises(ProcessError, match="is up already"):
        start_up(up)
    assert take_down(up)
    up.database.unlink()  # what is in it can be lost
    for rest in up.folder.glob("superlink.sqlite-*"):
        rest.unlink()
    start_up(up)
    until(lambda: known() == ["alpha"])


@pytest.mark.slow
def test_everything_comes_back_after_a_kill_and_ends_with_its_supervisor(up: Home) -> None:
    first = states(up.state_file)
    assert all(process["pid"] > 1 for process in first.values())
    for name in ("superlink", "superexec", "gate"):
        os.kill(first[name]["pid"], signal.SIGKILL)

    def back() -> bool:
        now = states(up.state_file)
        return all(now[n]["ready"] and now[n]["pid"] not in (0, first[n]["pid"]) for n in first)

    until(back)
    assert is_ready(up)
    pids = [process["pid"] for process in states(up.state_file).values()]
    os.kill(supervisor_of(up.state_file), signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and alive(pid) for pid in pids))
    start_up(up)
    assert is_ready(up)


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.slow
def test_the_database_is_packed_under_a_superlink_at_work(up: Home, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(up.database, isolation_level=None)) as database:
        database.execute("CREATE TABLE junk (x BLOB)")
        database.executemany("INSERT INTO junk VALUES (?)", [(os.urandom(2**20),) for _ in range(20)])
        database.execute("DROP TABLE junk")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert up.database.stat().st_size > 15 * 2**20
    pack(up)
    assert up.database.stat().st_size < 2**20
    assert enrol(up, [a_pub(tmp_path, "alpha")]).known_to_flower, "the SuperLink goes on with the packed file"
    with Control(up) as control:
        assert [node.name for node in control.nodes()] == ["alpha"]


@pytest.mark.slow
def test_what_does_not_come_up_says_why(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.loopback_key.write_bytes(home.key.read_bytes())  # of another certificate
    monkeypatch.setattr("server.operating._READY_S", 10.0)
    with pytest.raises(ProcessError, match=r"(?s)does not come up within 10 s.*superlink ended.*KEY_VALUES_MISMATCH"):
        start_up(home)
    until(lambda: not supervisor_of(home.state_file))


def test_a_damaged_certificate_is_named_before_anything_starts(home: Home) -> None:
    home.loopback_certificate.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"loopback\.pem: is no certificate"):
        prepare(home)
