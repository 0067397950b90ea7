"""What is promised of programs that run for weeks, on small programs that live for a moment."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sarco_models import one_process
from sarco_models.errors import ProcessError
from sarco_models.processes import (
    Pace,
    Program,
    Supervisor,
    end_orphans,
    printable,
    program,
    quiet_environment,
    states,
    supervisor_of,
)

QUICK = Pace(first_s=0.05, longest_s=0.2, healthy_s=30)
SLEEPS = "import time; time.sleep(60)"


def python(folder: Path, code: str, name: str = "it", **more: object) -> Program:
    return Program(
        name=name,
        command=(sys.executable, "-I", "-S", "-c", code),
        env={"PATH": os.environ["PATH"]},
        log=folder / "logs" / f"{name}.log",
        cwd=folder,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    """Makes supervisors with the state file STATE, and stops them."""
    made: list[Supervisor] = []

    def make(*programs: Program, **more: object) -> Supervisor:
        supervisor = Supervisor(programs, tmp_path / "state.json", **{"pace": QUICK, **more})  # type: ignore[arg-type]
        made.append(supervisor)
        return supervisor

    yield make
    for supervisor in made:
        supervisor.stop()


def watched(supervisor: Supervisor, until: Callable[[], bool], limit_s: float = 8) -> tuple[str, list[str]]:
    """Start and watch until this is true; what the supervisor returned and told."""
    stop, told = threading.Event(), []
    begun = time.monotonic()

    def look() -> None:
        while not stop.is_set() and not until() and time.monotonic() - begun < limit_s:
            time.sleep(0.02)
        stop.set()

    looker = threading.Thread(target=look)
    supervisor.start()
    looker.start()
    why = supervisor.watch(stop, told.append)
    stop.set()
    assert why or until(), f"not within {limit_s} s: {told}"
    return why, told


def entry(folder: Path, name: str = "it") -> dict[str, object]:
    return states(folder / "state.json").get(name, {})


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gone(pid: int, within_s: float = 5) -> bool:
    until = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_a_program_that_ends_is_started_again(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    code = "import sys; print('no room'); sys.exit(3)"
    why, told = watched(supervise(python(tmp_path, code)), lambda: int(str(entry(tmp_path).get("restarts", 0))) >= 3)
    assert why == ""
    assert told[0] == "it ended (exit 3): no room; started again in 0.05 s"
    assert [text.rpartition(" in ")[2] for text in told[:4]][:3] == ["0.05 s", "0.1 s", "0.2 s"]
    assert entry(tmp_path)["said"] == "no room"


def test_after_a_long_healthy_time_the_wait_is_short_again(tmp_path: Path) -> None:
    now = [0.0]
    one = one_process.OneProcess(python(tmp_path, SLEEPS), Pace(1, 60, 300), lambda: now[0], "mark")
    waits = []
    for ran in (1, 1, 1, 1, 1, 1, 1, 1, 299, 300, 1):
        one._begun = now[0]
        now[0] += ran
        one._later("ended", lambda _text: None)
        waits.append(one._wait_s)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60, 1, 2]


def test_after_a_signal_nothing_is_said_of_the_log(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    """And colours of a terminal do not get into a sentence."""
    killed = "import os; print('\\x1b[92mINFO\\x1b[0m all is well', flush=True); os.kill(os.getpid(), 9)"
    _, told = watched(supervise(python(tmp_path, killed)), lambda: bool(entry(tmp_path).get("restarts")))
    assert told[0] == "it ended (SIGKILL); started again in 0.05 s"
    coloured = python(tmp_path, "print('\\x1b[92mINFO\\x1b[0m no room'); raise SystemExit(3)", "two")
    one = one_process.OneProcess(coloured, QUICK, time.monotonic, "mark")
    while not told[1:]:
        one.advance(told.append)
    assert told[1] == "two ended (exit 3): INFO no room; started again in 0.05 s"


def test_what_cannot_be_helped_is_not_tried_again(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    def hopeless(code: int, said: str) -> str:
        return f"the key is not known ({said})" if code == 7 else ""

    refused = python(tmp_path, "print('E 2004'); raise SystemExit(7)", hopeless=hopeless)
    why, told = watched(supervise(refused), lambda: False, limit_s=2)
    assert why == "the key is not known (E 2004)"
    assert told == []
    assert entry(tmp_path)["state"] == "ended"
    assert entry(tmp_path)["restarts"] == 0


def test_the_next_starts_when_those_before_it_are_ready(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    open_ = tmp_path / "open"
    opens = f"import time; time.sleep(.3); open({str(open_)!r}, 'w'); {SLEEPS}"
    looks = f"import os; print('found', os.path.exists({str(open_)!r}), flush=True); {SLEEPS}"
    first, second = python(tmp_path, opens, "first", ready=open_.exists), python(tmp_path, looks, "second")
    supervisor = supervise(first, second)
    log = tmp_path / "logs" / "second.log"
    watched(supervisor, lambda: supervisor.ready and "found" in log.read_text())
    assert log.read_text() == "found True\n"


def test_stop_ends_the_last_first_and_all_that_they_have_started(
    tmp_path: Path, supervise: Callable[..., Supervisor]
) -> None:
    order = tmp_path / "order"
    said = f"""
import signal, subprocess, sys, time
def leave(*_):
    with open({str(order)!r}, "a") as file:
        file.write(sys.argv[1] + "\\n")
    raise SystemExit
signal.signal(signal.SIGTERM, leave)
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
    programs = []
    for name in ("first", "second"):
        plain = python(tmp_path, said, name)
        programs.append(Program(**{**vars(plain), "command": (*plain.command, name)}))
    supervisor = supervise(*programs)
    logs = [tmp_path / "logs" / f"{name}.log" for name in ("first", "second")]
    watched(supervisor, lambda: all(log.exists() and log.read_text().strip() for log in logs))
    children = [int(log.read_text()) for log in logs]
    assert all(alive(pid) for pid in children)
    supervisor.stop()
    assert order.read_text().split() == ["second", "first"]
    assert all(gone(pid) for pid in children)
    assert {found["state"] for found in states(tmp_path / "state.json").values()} == {"ended"}


def leaving(seconds: float, mark: Path) -> str:
    """A program that takes this long to end when it is asked, and then leaves its mark."""
    return (
        f"import signal, time\ndef end(*_):\n    time.sleep({seconds}); open({str(mark)!r}, 'w'); raise SystemExit\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(60)"
    )


def up(folder: Path) -> Callable[[], bool]:
    log = folder / "logs" / "it.log"
    return lambda: log.exists() and "up" in log.read_text()


def test_who_does_not_end_when_asked_is_killed(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    mark = tmp_path / "mark"
    supervisor = supervise(python(tmp_path, leaving(5, mark), patience_s=0.2))
    watched(supervisor, up(tmp_path))
    pid = int(str(entry(tmp_path)["pid"]))
    supervisor.stop()
    assert gone(pid)
    assert not mark.exists()


def test_who_has_been_paid_for_is_waited_for_and_that_is_said(
    tmp_path: Path, supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_process, "TELL_AFTER_S", 0.2)
    mark, told = tmp_path / "mark", list[str]()
    supervisor = supervise(python(tmp_path, leaving(0.6, mark), patience_s=900))
    watched(supervisor, up(tmp_path))
    supervisor.stop(told.append)
    assert mark.exists()
    assert told == ["it has not ended yet: it may take up to 15 min to finish its work; ask again to cut it short"]


def test_who_asks_again_does_not_wait(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    mark, hurry = tmp_path / "mark", threading.Event()
    supervisor = supervise(python(tmp_path, leaving(30, mark), patience_s=900))
    watched(supervisor, up(tmp_path))
    pid = int(str(entry(tmp_path)["pid"]))
    threading.Timer(0.2, hurry.set).start()
    began = time.monotonic()
    supervisor.stop(hurry=hurry)
    assert time.monotonic() - began < 5
    assert gone(pid)
    assert not mark.exists()


SUPERVISES = """
import sys, threading
from pathlib import Path
from sarco_models.processes import Program, Supervisor
folder = Path(sys.argv[1])
def named(name, code):
    python = (sys.executable, "-I", "-S", "-c", code)
    return Program(name, python, {"PATH": "/usr/bin:/bin"}, folder / (name + ".log"), folder)
both = Supervisor([named("one", "import time; time.sleep(60)"), named("two", sys.argv[2])], folder / "state.json")
both.start()
both.watch(threading.Event(), print)
"""


def test_the_programs_of_a_killed_supervisor_die_with_it(tmp_path: Path) -> None:
    """And what they had started without it is found by its mark, and ended by the next one."""
    grandchild = (
        "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; "
        "time.sleep(60)'], start_new_session=True); print(p.pid, flush=True); time.sleep(60)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISES, str(tmp_path), grandchild])  # noqa: S603
    try:
        log, state = tmp_path / "two.log", tmp_path / "state.json"
        until = time.monotonic() + 10
        while not (log.exists() and log.read_text().strip()) and time.monotonic() < until:
            time.sleep(0.05)
        while not states(state).get("two", {}).get("pid") and time.monotonic() < until:
            time.sleep(0.05)
        pids = [int(found["pid"]) for found in states(state).values()]
        orphan = int(log.read_text())
        assert len(pids) == 2
        assert supervisor_of(state) == supervisor.pid
    finally:
        supervisor.kill()
        supervisor.wait()
    assert all(gone(pid) for pid in pids)
    assert supervisor_of(state) == 0
    assert alive(orphan)
    end_orphans(state)
    assert gone(orphan, 1)


def test_one_supervisor_at_a_time(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    first = supervise(python(tmp_path, SLEEPS))
    first.start()
    assert supervisor_of(tmp_path / "state.json") == os.getpid()
    refused = supervise(python(tmp_path, SLEEPS))
    with pytest.raises(ProcessError, match=f"process {os.getpid()} supervises these programs already"):
        refused.start()
    refused.stop()
    pid = int(str(entry(tmp_path)["pid"]))
    assert alive(pid), "who was refused neither ends it nor writes over what is known of it"
    first.stop()
    assert supervisor_of(tmp_path / "state.json") == 0


def test_the_state_file_says_what_runs(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    supervise(python(tmp_path, SLEEPS)).start()
    found = entry(tmp_path)
    assert set(found) == {"pid", "state", "ready", "restarts", "since", "said"}
    assert found["state"] == "running"
    assert alive(int(str(found["pid"])))
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_or_absent_state_file_says_nothing(tmp_path: Path) -> None:
    assert states(tmp_path / "state.json") == {}
    (tmp_path / "state.json").write_text('{"it": ')
    assert states(tmp_path / "state.json") == {}
    assert supervisor_of(tmp_path / "state.json") == 0


def test_logs_stay_small_and_private(
    tmp_path: Path, supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_process, "_LOG_BYTES", 20_000)
    chatty = "import time\nfor k in range(60):\n    print(f'{k:>999}', flush=True)\n    time.sleep(.02)\ntime.sleep(60)"
    log = tmp_path / "logs" / "it.log"
    older = tmp_path / "logs" / "it.log.1"
    watched(supervise(python(tmp_path, chatty)), lambda: log.exists() and log.read_text().endswith("59\n"))
    assert older.stat().st_size == 20_000
    assert older.read_text().splitlines()[-1].strip().isdigit()
    assert log.stat().st_size < 40_000
    assert {stat.S_IMODE(path.stat().st_mode) for path in (log, older)} == {0o600}


def test_a_log_that_was_made_long_by_its_program_stalls_nobody_and_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a program has started holds the log open, too, and may be anybody's code: a hole costs it nothing."""
    monkeypatch.setattr(one_process, "_LOG_BYTES", 20_000)
    hollow = f"import os; os.ftruncate(1, 1 << 30); print('the end', flush=True); {SLEEPS}"
    one = one_process.OneProcess(python(tmp_path, hollow), QUICK, time.monotonic, "mark")
    log, older, target = tmp_path / "logs/it.log", tmp_path / "logs/it.log.1", tmp_path / "of-somebody"
    target.write_text("theirs")
    log.parent.mkdir()
    older.symlink_to(target)
    one.advance(print)
    try:
        until = time.monotonic() + 5
        while log.stat().st_size <= 1 << 30 and time.monotonic() < until:
            time.sleep(0.02)
        one.advance(print)
    finally:
        one.end()
    assert (older.stat().st_size, log.stat().st_size) == (20_000, 0)
    assert older.read_bytes().endswith(b"the end\n")
    assert target.read_text() == "theirs", "no link is followed"


def test_what_a_program_says_commands_no_terminal() -> None:
    said = "\x1b[1;92mINFO\x1b[0m a\x1b]52;c;b3duZWQ=\x07b\x1b]0;owned\x1b\\c\x1bPq#1\x1b\\d\r\n"
    said += "\x9b31m\u202eend\x00\tof\x1b[3"
    assert printable(said) == "INFO abcd\nend of"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_what_runs_is_told_to_the_folders_owner_alone(
    tmp_path: Path, supervise: Callable[..., Supervisor], mask: int
) -> None:
    """The last line of a log may hold a value of the data, and others may pass through the folder."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, -1)
    before = os.umask(mask)
    try:
        supervise(python(tmp_path, SLEEPS)).start()
    finally:
        os.umask(before)
    for name in ("state.json", "state.json.lock"):
        found = (tmp_path / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, tmp_path.stat().st_uid), name


def test_a_program_that_is_not_there_says_so(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    absent = Program("it", ("/no/such/program",), {}, tmp_path / "it.log", tmp_path)
    _, told = watched(supervise(absent), lambda: int(str(entry(tmp_path).get("restarts", 0))) >= 1)
    assert told[0].startswith("it ended (exit 127): /no/such/program: No such file or directory;")


def test_a_quiet_environment_holds_no_secret_and_calls_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_SECRET", "s")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "intranet")
    found = quiet_environment(tmp_path, FLWR_SUPEREXEC_TASK_POLL_INTERVAL="0.1")
    assert "MY_SECRET" not in found
    assert found["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert found["HTTPS_PROXY"] == "http://proxy:3128"
    assert found["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert found["FLWR_HOME"] == found["HOME"] == str(tmp_path)
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] == "0.1"


def test_no_code_is_taken_from_a_folder_that_what_the_coordinator_ships_can_write(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("print('planted')")
    for words in (("-m", "colorsys"), ("-c", "import colorsys")):
        command = [sys.executable, *words]
        found = subprocess.run(command, cwd=tmp_path, env=quiet_environment(tmp_path), capture_output=True, check=True)  # noqa: S603
        assert found.stdout == b""
    command = [sys.executable, "-c", "import site; print(site.ENABLE_USER_SITE)"]
    found = subprocess.run(command, env=quiet_environment(tmp_path), capture_output=True, check=True)  # noqa: S603
    assert found.stdout.strip() == b"False"


def test_the_commands_beside_this_python_are_found() -> None:
    assert Path(program("flower-supernode")).exists()
    with pytest.raises(ProcessError, match="there is no such command"):
        program("flower-nothing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a program as another account")
def test_a_program_runs_as_the_account_that_it_was_given(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    said = "import os; print(os.getuid(), os.getgroups(), flush=True); import time; time.sleep(60)"
    code = python(tmp_path, said, user="65534", groups=(4321,))
    other = Program(**{**vars(code), "command": ("/bin/sh", "-c", "id -u; id -G; sleep 60"), "cwd": Path("/")})
    log = tmp_path / "logs" / "it.log"
    watched(supervise(other), lambda: log.exists() and len(log.read_text().split()) >= 2)
    assert log.read_text().split()[0] == "65534"
    assert "4321" in log.read_text().split()[1:]
    assert "0" not in log.read_text().split()[1:]


def test_a_log_that_cannot_be_written_is_tried_again(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    """As on a full disk: the supervisor lives on, and the program runs when the cause is gone."""
    place = tmp_path / "logs"
    place.write_text("in the way")
    supervisor = supervise(python(tmp_path, SLEEPS))
    _, told = watched(supervisor, lambda: int(str(entry(tmp_path).get("restarts", 0))) >= 2)
    assert told[0].startswith(f"it cannot be started: {place}: ")
    place.unlink()
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    supervisor.watch(stop, told.append)
    assert supervisor.ready


def test_an_account_that_is_not_there_is_named(tmp_path: Path, supervise: Callable[..., Supervisor]) -> None:
    with pytest.raises(ProcessError, match="there is no account nobody-of-this-name"):
        supervise(python(tmp_path, SLEEPS, user="nobody-of-this-name")).start()
    assert supervisor_of(tmp_path / "state.json") == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ProcessError, match="must lie in a folder that this account may write to"):
        Supervisor([python(tmp_path, SLEEPS)], tmp_path / "run" / "state.json").start()


def test_signals_have_names() -> None:
    assert one_process._ending(-signal.SIGKILL) == "SIGKILL"
    assert one_process._ending(2) == "exit 2"
    assert json.dumps(one_process._ending(-70)) == '"signal 70"'
