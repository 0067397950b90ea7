"""What is started, what may be tried again, and what ends a hospital's part with a reason."""

import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from client import join_run, joined, joining
from client.alone import hold
from client.approval import FILE, Approvals
from client.contact import REMEDIES, SAYS, Answer, Contact, End
from client.join_run import run, shortened, worth_a_line
from client.joined import CONNECTING, WAITING, Answers, Moment, moment, screen
from client.joining import SUPEREXEC, SUPERNODE, WORKER, WORKER_PATIENCE_S, Joining, Verdicts, leave
from client.site_folder import SiteFolder
from sarco_models.errors import ConfigError, ProcessError
from tests.client.federated import a_folder, a_study, with_kit


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return a_folder(tmp_path)


# ---- what is started -------------------------------------------------------------------------------------------------


def test_three_programs_of_which_only_the_worker_is_told_where_the_data_are(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    worker, supernode, superexec = Joining.prepare(folder, kit).programs()
    assert [p.name for p in (worker, supernode, superexec)] == [WORKER, SUPERNODE, SUPEREXEC]
    assert str(folder.site_file) in worker.command
    for program in (supernode, superexec):
        told = " ".join([*program.command, *program.env.values()])
        assert str(folder.data) not in told
        assert str(folder.site_file) not in told
        assert str(folder.state) not in told
        assert str(folder.node_key.parent) not in told
    assert supernode.command[supernode.command.index("--superlink") + 1] == kit.address
    assert supernode.command[supernode.command.index("--isolation") + 1] == "process"
    assert supernode.command[supernode.command.index("--host") + 1] == "127.0.0.1"
    assert "--client-certificate" in supernode.command
    assert float(superexec.env["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"]) < 1
    assert {p.env["FLWR_TELEMETRY_ENABLED"] for p in (worker, supernode, superexec)} == {"0"}


def test_the_two_programs_of_flower_share_a_secret_that_is_new_each_time(tmp_path: Path, folder: SiteFolder) -> None:
    kit, secret = with_kit(tmp_path, folder), folder.flower / "superexec.secret"
    Joining.prepare(folder, kit)
    first = secret.read_text()
    Joining.prepare(folder, kit)
    assert len(first) == 64
    assert secret.read_text() != first
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.flower.iterdir()} == {0o600}


def test_without_an_approval_of_this_code_nobody_joins(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    Approvals(folder.path / FILE).record(kit.study, by="Dr. Wu", withdrawn=True)
    with pytest.raises(ConfigError, match=r"has no valid approval: withdrawn by Dr\. Wu.*sarco-site approve"):
        Joining.prepare(folder, kit)


def test_with_a_key_that_others_can_read_nobody_joins(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    folder.node_key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Joining.prepare(folder, kit)


def test_without_its_key_nobody_joins(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    folder.node_key.unlink()
    with pytest.raises(ConfigError, match=r"node\.pem: this hospital's key is not there: restore it from a backup"):
        Joining.prepare(folder, kit)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    shutil.rmtree(folder.logs)
    folder.logs.touch()
    with pytest.raises(ConfigError, match="nothing was started"):
        Joining.prepare(folder, kit)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_an_account_that_is_not_there_is_named(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    folder.site_file.write_text(folder.site_file.read_text().replace('relay_user = ""', 'relay_user = "no-such"'))
    with pytest.raises(ConfigError, match="useradd --system no-such"):
        Joining.prepare(folder, kit)


# ---- what may be tried again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [End.LOST, End.FROZEN, End.STOPPED, End.PROXY_LIMIT, -9, 1, 0, 127])
def test_a_connection_that_was_lost_is_made_again(folder: SiteFolder, code: int) -> None:
    assert Verdicts(folder).supernode(code, "") == ""


@pytest.mark.parametrize(
    "end",
    [*{*REMEDIES} - {End.WILL_NOT_START, End.PROXY_LIMIT}],
)
def test_a_refusal_that_asking_again_cannot_mend_ends_it_with_the_way_out(folder: SiteFolder, end: End) -> None:
    why = Verdicts(folder).supernode(end, "")
    assert SAYS[end] in why
    assert REMEDIES[end] in why


def test_the_coordinators_own_words_are_passed_on(folder: SiteFolder) -> None:
    contact = Contact(folder.contact)
    contact.heard(Answer("activate-node", 412, '{"detail": "the clock of this machine is 10 s ahead"}'))
    contact.ended(End.CLOCK)
    assert "is 10 s ahead" in Verdicts(folder).supernode(End.CLOCK, "")


def test_the_relays_words_cannot_steer_the_terminal_of_whoever_joined(folder: SiteFolder) -> None:
    folder.contact.write_text(
        json.dumps({"code": int(End.REVOKED), "said": "x\x1b]52;c;ZXZpbA==\x07\x1b[2J\nall is well"})
    )
    why = Verdicts(folder).supernode(End.REVOKED, "")
    assert "\x1b" not in why
    assert why.splitlines()[1].startswith("What to do: "), "nor add lines of their own"
    last = Verdicts(folder, clock=lambda: 0.0)
    said = [last.supernode(End.WILL_NOT_START, "no\x1b[2J") for _ in range(3)][-1]
    assert said.endswith("  | no [2J")
    (folder.run / "ended.json").write_text(json.dumps({"time": "now", "why": "a\x1b[2J\nb"}))
    assert "\x1b" not in "\n".join(screen(folder))


def test_a_supernode_that_never_starts_is_given_up(folder: SiteFolder) -> None:
    now = [0.0]
    verdicts = Verdicts(folder, clock=lambda: now[0])
    assert [bool(verdicts.supernode(End.WILL_NOT_START, "no such option")) for _ in range(3)] == [False, False, True]
    now[0] = 30 * 86400.0
    assert verdicts.supernode(End.WILL_NOT_START, "") == "", "what was a month ago does not count"
    now[0] += 60.0
    assert [bool(verdicts.supernode(End.WILL_NOT_START, "no such option")) for _ in range(2)] == [False, True]
    assert "  | no such option" in verdicts.supernode(End.WILL_NOT_START, "no such option")


def test_a_proxy_that_refuses_large_pieces_gets_small_ones_from_then_on(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    _worker, supernode, superexec = Joining.prepare(folder, kit).programs()
    name = "FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE"
    assert name not in superexec.env
    assert supernode.hopeless(End.PROXY_LIMIT, "") == ""
    assert int({**superexec.env}[name]) < 1_000_000
    assert REMEDIES[End.PROXY_LIMIT] in supernode.hopeless(End.PROXY_LIMIT, ""), "it refuses the small ones, too"
    assert name in Joining.prepare(folder, kit).programs()[2].env


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_a_worker_that_needs_somebody_ends_it_with_its_last_words(folder: SiteFolder, code: int) -> None:
    why = Verdicts(folder).worker(code, "a\nsite.toml: data: no such folder")
    assert "site.toml: data: no such folder" in why
    assert str(folder.logs / "worker.log") in why


@pytest.mark.parametrize("code", [75, 1, -9, -11, 0])
def test_a_worker_that_crashed_is_started_again(folder: SiteFolder, code: int) -> None:
    assert Verdicts(folder).worker(code, "") == ""


# ---- what is shown ---------------------------------------------------------------------------------------------------


def running(folder: SiteFolder, ready: bool = True, said: str = "") -> None:
    folder.state_file.write_text(
        json.dumps({WORKER: {"ready": ready, "said": said, "state": "running", "since": "now"}})
    )


def test_a_moment_in_one_sentence(folder: SiteFolder) -> None:
    assert moment(folder) == Moment("opening the data")
    running(folder)
    assert moment(folder) == Moment("connecting to the coordinator")
    contact = Contact(folder.contact)
    contact.heard(Answer("pull-messages", 200))
    assert moment(folder, dict) == Moment(WAITING)
    working = {"phase": "working", "task": "Train", "round": 3}
    assert moment(folder, lambda: working) == Moment("round 3: training", at_work=True)
    contact.heard(Answer("push-object", 200))
    assert moment(folder, lambda: {"round": 3}) == Moment("round 3: sending the answer", at_work=True)
    contact.heard(Answer("pull-object", 200))
    assert moment(folder, dict) == Moment("receiving", at_work=True)
    contact.failed(ConnectionError("refused"))
    assert moment(folder, dict).trouble
    running(folder, ready=False, said="killed")
    assert moment(folder, dict) == Moment("the worker starts again: killed", trouble=True)


def test_who_may_not_look_into_flowers_folder_is_told_so(folder: SiteFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    running(folder)
    monkeypatch.setattr(joined.os, "access", lambda *_: False)
    assert "give this command as root" in moment(folder).sentence


def test_work_gets_a_line_when_it_is_done_and_trouble_at_once() -> None:
    waiting, training = Moment(WAITING), Moment("round 1: training", at_work=True)
    away = Moment("the coordinator cannot be reached", trouble=True)
    assert worth_a_line(Moment(""), waiting)
    assert not worth_a_line(waiting, training)
    assert not worth_a_line(waiting, waiting)
    assert worth_a_line(waiting, away)
    assert worth_a_line(away, waiting)
    assert worth_a_line(Moment(""), Moment(CONNECTING))
    assert not worth_a_line(away, Moment(CONNECTING)), "it is tried again and again"


def test_why_a_supernode_has_ended_is_said_once() -> None:
    text = "supernode ended (exit 32): SuperNode ended: connected already: look; whether; started again in 4 s"
    assert shortened(text) == "supernode ended (exit 32); started again in 4 s"
    other = "worker ended (exit 1): no room; started again in 1 s"
    assert shortened(other) == other


def test_answers_are_told_from_the_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"kind": "reply", "task": "Train", "round": 1, "reply": "Trained", "bytes": 9}\n')
    answers = Answers(path)
    assert answers.new() == [], "what stood there before is not news"
    with path.open("a") as file:
        file.write('{"kind": "decision", "task": "Train", "round": 2, "decision": "allowed"}\n')
        file.write('{"kind": "reply", "task": "Train", "round": 2, "reply": "Trained", "bytes": 4096}\n')
        file.write('{"kind": "decision", "task": "Probe", "round": 2, "decision": "refused", "code": "too-late"}\n')
        file.write("torn by a crash\n")
        file.write('{"kind": "reply", "task": "Pro')
    assert answers.new() == [
        ("round 2: trained; 4,096 bytes leave", False),
        ("round 2: Probe was refused here: too-late; logs/worker.log says why", True),
    ]
    with path.open("a") as file:
        file.write('be", "round": 2, "reply": "Probed", "bytes": 8}\n')
    assert answers.new() == [("round 2: the released model was probed; 8 bytes leave", False)]


def test_one_screen_says_how_a_hospital_stands(tmp_path: Path, folder: SiteFolder) -> None:
    text = "\n".join(screen(folder))
    assert "holds no kit yet" in text
    kit = with_kit(tmp_path, folder)
    text = "\n".join(screen(folder))
    assert f"with      {kit.address}" in text
    assert f"{kit.digest[:12]}: approved" in text
    assert "not joined: no process runs" in text
    assert "nothing: there is no ledger yet" in text
    assert "nothing was asked here yet" in text


def test_what_the_relay_writes_cannot_steer_a_terminal(folder: SiteFolder) -> None:
    running(folder)
    folder.contact.write_text(json.dumps({"phase": "away", "said": "\x1b[2Jall is well"}))
    assert "\x1b" not in moment(folder, dict).sentence


def test_leaving_without_having_joined_says_so(folder: SiteFolder) -> None:
    lines = list(leave(folder))
    assert lines[0].startswith("alpha is not joined: no process runs")
    assert "--withdraw" in lines[-1]


@pytest.mark.parametrize(
    ("phase", "code", "words"),
    [("connected", 0, "coordinator knows"), ("away", 0, "could not be told"), ("connected", 20, "could not be told")],
)
def test_leaving_says_whether_the_coordinator_was_told(
    folder: SiteFolder, monkeypatch: pytest.MonkeyPatch, phase: str, code: int, words: str
) -> None:
    asked = iter([7, 7, 0, 0])
    monkeypatch.setattr(joining, "supervisor_of", lambda _file: next(asked))

    def kill(_pid: int, _number: int) -> None:
        folder.contact.write_text(json.dumps({"phase": "ended", "code": code}))

    monkeypatch.setattr(joining.os, "kill", kill)
    folder.contact.write_text(json.dumps({"phase": phase, "code": None}))
    assert words in "\n".join(leave(folder))


def test_leaving_what_another_account_has_joined_names_the_way_out(
    folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "supervisor_of", lambda _file: 7)
    monkeypatch.setattr(joining.os, "kill", lambda _pid, _number: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(ProcessError, match=r"process 7 belongs to another account.*or as root"):
        list(leave(folder))


def test_who_joins_second_replaces_nothing_of_the_first(
    tmp_path: Path, folder: SiteFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = with_kit(tmp_path, folder)
    with ExitStack() as first:
        hold(first, folder.run / "join.lock")  # it has begun, and nothing of it runs yet
        with pytest.raises(ProcessError, match="alpha has joined already"):
            run(folder, kit, Console(), quiet=True)
    assert not (folder.flower / "superexec.secret").exists()
    monkeypatch.setattr(join_run, "active", lambda _folder: ["sarco-alpha-worker.service"])
    with pytest.raises(ProcessError, match=r"as a service.*systemctl stop sarco-alpha\.target"):
        run(folder, kit, Console(), quiet=True)
    assert not (folder.flower / "superexec.secret").exists()


def test_a_worker_gets_the_time_to_finish_what_was_charged(tmp_path: Path, folder: SiteFolder) -> None:
    worker, supernode, _superexec = Joining.prepare(folder, with_kit(tmp_path, folder)).programs()
    assert worker.patience_s == WORKER_PATIENCE_S >= 600
    assert supernode.patience_s < 60


def test_with_another_study_than_the_kits_nobody_joins(tmp_path: Path, folder: SiteFolder) -> None:
    kit = with_kit(tmp_path, folder)
    other = a_study(training={"local_steps": 3})
    (folder.path / "study.json").write_text(other.model_dump_json())
    with pytest.raises(ConfigError, match=f"which is study {other.digest[:12]}, and the kit's is {kit.digest[:12]}"):
        Joining.prepare(folder, kit)


def test_none_of_it_waits_for_torch() -> None:
    code = "import sys, client.join_run, client.doctor; print(sorted({'torch', 'flwr', 'scipy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "[]"
