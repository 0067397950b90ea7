"""The hospital's log: every request, decision and payload before it leaves, no value; and when it fails."""

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from typer.testing import CliRunner

import client.flower_app
import client.tasks
from client.audit import Audit, verify
from client.cli import app
from client.inside import make_app
from client.workspace import Site
from sarco_models import wire
from sarco_models.chain import read
from sarco_models.errors import ChainBroken, ConfigError, RunError
from sarco_models.wire import Code, Describe, Ready, Refused, Trained
from server.heads import export
from server.runs import Run
from simulation.grid import InProcessGrid
from simulation.harness import Arm, SiteFolder, open_sites, prepare, run_arm
from tests.client.hospitals import answer, hospital, requests
from tests.sites import tables_site, tables_study


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return hospital(tmp_path)


def log_of(site: Site) -> Path:
    return site.state / "audit.jsonl"


def kinds(site: Site) -> list[str]:
    return [entry.kind for entry in read(log_of(site))]


def run_all(site: Site) -> dict[str, Any]:
    asked = requests(site)
    return {task: answer(site, asked[task]) for task in ("Describe", "Setup", "Train", "Evaluate", "Assess", "Probe")}


# ---- what is written down --------------------------------------------------------------------------------------------


def test_request_decision_and_reply_are_written_in_this_order(site: Site) -> None:
    replies = run_all(site)
    lines = read(log_of(site))
    by_task = {task: [e.kind for e in lines if e.facts["task"] == task] for task in replies}
    assert by_task["Train"] == ["request", "decision", "spend", "reply"]
    assert by_task["Setup"] == by_task["Assess"] == ["request", "decision", "reply"]
    for task in ("Describe", "Evaluate", "Probe"):  # of training participants, and the study has no privacy
        assert by_task[task] == by_task["Train"]
    assert all(e.facts["decision"] == "allowed" for e in lines if e.kind == "decision")
    assert [e.facts["reply"] for e in lines if e.kind == "reply"] == [type(r).__name__ for r in replies.values()]


def test_the_digest_in_the_log_is_that_of_the_reply_as_anybody_computes_it(site: Site) -> None:
    replies = run_all(site)
    for task, reply in replies.items():
        (line,) = [e for e in read(log_of(site)) if e.kind == "reply" and e.facts["task"] == task]
        assert line.facts["payload"] == wire.digest_of(reply)
        assert line.facts["payload"] == wire.digest_of(wire.decode(wire.encode(reply)))
        assert line.facts["bytes"] == sum(part.bytes for part in wire.parts_of(reply))
        assert line.facts["names"] == [part.name for part in wire.parts_of(reply)]


def test_another_value_is_another_digest(site: Site) -> None:
    trained = run_all(site)["Train"]
    assert isinstance(trained, Trained)
    changed = trained.parameters.vector.copy()
    changed[3] = np.nextafter(changed[3], np.float32(9))
    other = replace(trained, parameters=replace(trained.parameters, vector=changed))
    assert wire.digest_of(other) != wire.digest_of(trained)


def test_the_log_holds_no_value(site: Site) -> None:
    """No number of a reply but its round: neither a metric, nor a count, nor a sum, nor a parameter; and no person."""
    replies = run_all(site)
    text = log_of(site).read_text()
    said = [e.facts for e in read(log_of(site))]
    allowed = {"study", "task", "round", "payload", "bytes", "names", "reply", "decision", "code", "ledger"}
    assert set().union(*said) <= allowed
    values = [repr(v) for v in replies["Train"].metrics.values()]
    values += [repr(float(v)) for v in replies["Train"].parameters.vector if v]
    values += [str(int(v)) for v in replies["Describe"].moments.total if v > 1000]
    assert not [v for v in values if v in text]
    assert not [i for i in site.split.cohort.ids if re.search(rf"\b{i}\b", text)]


def test_the_reply_is_on_the_disk_before_it_leaves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(file: int) -> None:
        fsync(file)
        synced.append(len(read(log_of(site))) if log_of(site).exists() else 0)

    site.audit.append("start")
    monkeypatch.setattr(os, "fsync", counted)
    answer(site, Describe(site.study.digest))
    assert synced[-1] == len(read(log_of(site)))
    # The decision before any work, then the ledger's own rows, and spend and reply before the reply leaves.
    assert list(dict.fromkeys(synced)) == [3, 5]


def test_a_refusal_is_recorded_with_its_code(site: Site) -> None:
    assert answer(site, Describe("0" * 64)) == Refused("alpha", Code.STUDY_NOT_APPROVED)
    request, decision, reply = read(log_of(site))
    assert (decision.facts["decision"], decision.facts["code"]) == ("refused", "study_not_approved")
    assert (request.facts["study"], reply.facts["reply"]) == ("0" * 64, "Refused")


def test_no_text_of_the_coordinators_choice_gets_into_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """It could steer the terminal of whoever reads the log, or fill the disk."""
    answer(site, Describe("\x1b[8m\nentry" + "x" * 100_000))
    assert log_of(site).stat().st_size < 3_000
    assert read(log_of(site))[0].facts["study"] == "no digest"
    assert "\x1b" not in caplog.text


def test_a_failure_of_the_work_is_recorded_after_the_policys_leave(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("participant P001 has a value of 3.7")

    monkeypatch.setattr(client.tasks, "describe", fails)
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.INTERNAL)
    assert [e.facts.get("decision") for e in read(log_of(site))] == [None, "allowed", "refused", None]
    assert "P001" not in log_of(site).read_text()


# ---- when it cannot be written ---------------------------------------------------------------------------------------


def full_disk(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("room", [0, 1, 2])
def test_on_a_full_disk_nothing_leaves_but_a_code(site: Site, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Full from the request's line on, from the decision's, or from the reply's."""
    write, left = os.write, [True] * room

    def fills(file: int, content: bytes) -> int:
        return write(file, content) if left and left.pop() else full_disk()

    monkeypatch.setattr(os, "write", fills)
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.INTERNAL)
    monkeypatch.undo()
    assert answer(site, Describe(site.study.digest)).participants == 60


def test_without_leave_on_the_disk_no_work_begins(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[Any] = []
    monkeypatch.setattr(client.tasks, "describe", lambda *a: worked.append(a))
    monkeypatch.setattr(os, "fsync", full_disk)
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.INTERNAL)
    assert worked == []


@pytest.mark.parametrize("attack", ["edited", "cut while in use", "removed while in use"])
def test_a_log_that_was_tampered_with_stops_every_answer(
    site: Site, attack: str, caplog: pytest.LogCaptureFixture
) -> None:
    run_all(site)
    whole = log_of(site).read_bytes()
    if attack == "edited":
        log_of(site).write_bytes(whole.replace(b'"allowed"', b'"refused"', 1))
        site = replace(site)  # as a new process opens it
    elif attack == "cut while in use":
        log_of(site).write_bytes(whole[: len(whole) // 2])
    else:
        log_of(site).unlink()
    assert answer(site, Describe(site.study.digest)) == Refused("alpha", Code.INTERNAL)
    assert "nothing leaves" in caplog.text


def test_a_log_that_a_crash_has_torn_goes_on(site: Site) -> None:
    run_all(site)
    whole = log_of(site).read_bytes()
    log_of(site).write_bytes(whole[:-40])
    assert answer(replace(site), Describe(site.study.digest)).participants == 60
    assert kinds(site)[-5:] == ["torn", "request", "decision", "spend", "reply"]
    assert verify(log_of(site)).torn == 1


# ---- through Flower --------------------------------------------------------------------------------------------------


def delivered(site: Site, content: RecordDict, kind: str = "query.describe") -> Message:
    grid = InProcessGrid(make_app(lambda _: site), nodes=1)
    (reply,) = grid.send_and_receive([Message(content, 1, kind, ttl=60.0)])
    return reply


def test_the_head_travels_with_every_reply(site: Site) -> None:
    for request, kind in ((Describe(site.study.digest), "query.describe"), (Describe("0" * 64), "query.describe")):
        reply = delivered(site, wire.encode(request), kind)
        assert wire.head_of(reply.content) == site.audit.head == read(log_of(site))[-1].head


def test_what_is_no_request_is_written_down_too(site: Site) -> None:
    reply = delivered(site, RecordDict({"fields": ConfigRecord({"kind": "Everything"})}))
    assert wire.decode(reply.content) == Refused("alpha", Code.BAD_REQUEST)
    assert [(e.kind, e.facts["task"]) for e in read(log_of(site))] == [
        ("request", "unreadable"),
        ("reply", "unreadable"),
    ]
    assert wire.head_of(reply.content) == site.audit.head


def test_a_site_whose_log_is_broken_sends_a_code_and_no_head(site: Site) -> None:
    run_all(site)
    log_of(site).write_bytes(b"{}\n" + log_of(site).read_bytes())
    reply = delivered(replace(site), wire.encode(Describe(site.study.digest)))
    assert wire.decode(reply.content, Refused).code == Code.INTERNAL
    assert wire.head_of(reply.content) == ""


# ---- neither side can rewrite alone ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three hospitals, and the coordinator's heads of it."""
    folder = tmp_path_factory.mktemp("run")
    for seed, name in enumerate(("alpha", "beta", "gamma")):
        tables_site(folder / "data" / name, 60, seed)
    sites = tuple(SiteFolder(n, folder / "data" / n, "invented2026") for n in ("alpha", "beta", "gamma"))
    run_arm(Arm("federated", tables_study(), sites, None, folder / "cache", folder / "run"))
    export(Run.open(folder / "run"), folder / "heads.json")
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def held(run: Path, name: str = "alpha") -> Any:
    log = run / "run" / "sites" / name / "state" / "audit.jsonl"
    return verify(log, site=name, heads=run / "heads.json")


def alphas(run: Path) -> Path:
    return run / "run" / "sites" / "alpha" / "state" / "audit.jsonl"


def test_both_sides_agree_after_a_run(run: Path) -> None:
    for name in ("alpha", "beta", "gamma"):
        found = held(run, name)
        assert found.heads >= 6
        assert found.unknown == ()


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """The hospital writes its log anew, with hashes that fit."""
    entries = change([{"kind": e.kind, **e.facts} for e in read(path)])
    path.unlink()
    audit = Audit.open(path)
    for entry in entries:
        audit.append(entry["kind"], **{key: value for key, value in entry.items() if key != "kind"})


HOSPITAL: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "writes another digest": lambda es: [{**e, "payload": "f" * 64} if e["kind"] == "reply" else e for e in es],
    "writes the same anew": lambda es: es,
    "leaves a request out": lambda es: [e for e in es if e.get("task") != "Probe"],
    "cuts the end": lambda es: es[:-3],
    "puts one in": lambda es: [*es[:5], es[4], *es[5:]],
}


@pytest.mark.parametrize("attack", HOSPITAL)
def test_a_hospital_that_rewrites_its_log_is_found_by_the_coordinators_heads(run: Path, attack: str) -> None:
    rewritten(alphas(run), HOSPITAL[attack])
    assert verify(alphas(run)).entries  # of itself it is in order
    with pytest.raises(ChainBroken, match=r"one of the two was rewritten|its end was cut off"):
        held(run)


def test_a_coordinator_that_changes_a_head_is_found_by_the_hospital(run: Path) -> None:
    listed = json.loads((run / "heads.json").read_text())
    row = next(r for r in listed["heads"] if r["site"] == "alpha")
    number, _, digest = row["head"].partition(":")
    row["head"] = f"{number}:{digest[::-1]}"
    (run / "heads.json").write_text(json.dumps(listed))
    with pytest.raises(ChainBroken, match="one of the two was rewritten"):
        held(run)


def test_a_coordinator_that_leaves_an_answer_out_is_told_of(run: Path) -> None:
    listed = json.loads((run / "heads.json").read_text())
    listed["heads"] = [r for r in listed["heads"] if not (r["site"] == "alpha" and r["task"] == "Train")]
    (run / "heads.json").write_text(json.dumps(listed))
    assert [entry.facts["task"] for entry in held(run).unknown] == ["Train", "Train"]


def test_a_coordinator_cannot_edit_its_own_list(run: Path) -> None:
    path = run / "run" / "heads.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"beta"' not in line))
    with pytest.raises(RunError, match="a line was dropped or moved"):
        export(Run.open(run / "run"), run / "again.json")


@pytest.mark.parametrize(("head", "words"), [("old", "a second time: the reply is a copy"), ("", "sends no head")])
def test_a_reply_with_an_old_head_or_none_costs_that_hospital_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, words: str
) -> None:
    names, first = ("alpha", "beta", "gamma"), {}
    for seed, name in enumerate(names):
        tables_site(tmp_path / name, 40, seed)
    answered = wire.answer

    def replayed(reply: wire.Reply, message: Message, sent: str) -> Message:
        if reply.site == "beta" and isinstance(reply, Trained):
            sent = first.setdefault("beta", sent) if head else ""
        return answered(reply, message, sent)

    monkeypatch.setattr(client.flower_app.wire, "answer", replayed)
    sites = tuple(SiteFolder(n, tmp_path / n, "invented2026") for n in names)
    run_arm(Arm("federated", tables_study(), sites, None, tmp_path / "cache", tmp_path / "run"))
    last = Run.open(tmp_path / "run").records()[-1]
    assert set(last["sites"]) == {"alpha", "gamma"}
    assert words in last["failures"]["beta"]


def test_heads_of_others_or_of_nothing_are_no_proof(run: Path) -> None:
    with pytest.raises(ConfigError, match="holds no head of delta"):
        verify(alphas(run), site="delta", heads=run / "heads.json")
    (run / "heads.json").write_text("[]")
    with pytest.raises(ConfigError, match="is no file of heads"):
        held(run)
    forged = {"study": "0" * 64, "heads": [{"site": "alpha", "head": "\x1b[8m:f"}]}
    (run / "heads.json").write_text(json.dumps(forged))
    with pytest.raises(ConfigError, match="is no file of heads"):
        held(run)


# ---- commands --------------------------------------------------------------------------------------------------------


def said(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, result.output


def test_verify_and_show_say_what_is_there(run: Path) -> None:
    toml = run / "run" / "sites" / "alpha" / "site.toml"
    code, text = said("audit", "verify", toml, "--heads", run / "heads.json")
    assert code == 0
    assert "each follows from the one before" in text
    assert "heads that the coordinator has kept of alpha are in it" in text
    assert "spends that the log has seen are in it" in text
    code, text = said("audit", "show", toml, "--last", 4)
    assert code == 0
    assert len(text.splitlines()) == 5
    assert "Probed" in text


def test_where_nothing_was_asked_yet_that_is_no_alarm_unless_there_is_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "alpha"\ndata = "d"\nstudy = "s"\nlabel_rule = "x"\n')
    for command in ("verify", "show"):
        code, text = said("audit", command, tmp_path / "site.toml")
        assert code == 0, text
        assert "nothing was asked here yet" in text
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.sqlite").touch()
    for command in ("verify", "show"):
        code, text = said("audit", command, tmp_path / "site.toml")
        assert code == 1
        assert "nothing was asked here yet" not in text


def test_verify_fails_loudly_and_says_what_to_do(run: Path) -> None:
    toml = run / "run" / "sites" / "alpha" / "site.toml"
    alphas(run).write_bytes(alphas(run).read_bytes().replace(b'"allowed"', b'"refused"', 1))
    for command in ("verify", "show"):
        code, text = said("audit", command, toml)
        assert code == 1
        assert "line 2: was edited" in text
    assert "Nothing is answered while audit.jsonl is broken" in said("audit", "verify", toml)[1]


def test_a_log_that_the_coordinator_has_seen_otherwise_is_told_apart_from_a_broken_one(run: Path) -> None:
    toml = run / "run" / "sites" / "alpha" / "site.toml"
    alphas(run).write_bytes(b"".join(alphas(run).read_bytes().splitlines(keepends=True)[:-3]))
    code, text = said("audit", "verify", toml, "--heads", run / "heads.json")
    assert code == 1
    assert "its end was cut off" in text
    assert "is not the one that the coordinator has seen" in text
    assert "Nothing is answered" not in text


def test_a_ledger_that_was_taken_away_or_cut_is_found_by_the_log(run: Path) -> None:
    toml = run / "run" / "sites" / "alpha" / "site.toml"
    for path in toml.parent.glob("state/ledger*"):
        path.unlink()
    code, text = said("audit", "verify", toml)
    assert code == 1
    assert "is missing, and the audit log has seen 5 spends" in text


# ---- speed -----------------------------------------------------------------------------------------------------------


def test_writing_down_a_request_takes_little_time(site: Site) -> None:
    """Below 3 ms with both fsyncs here; ten times that is allowed to a slow disk."""
    asked, reply = requests(site)["Train"], Ready("alpha", "x")
    spent = []
    for _ in range(40):
        started = time.perf_counter()
        site.audit.asked(asked)
        site.audit.allowed(asked)
        site.audit.answered(asked, reply)
        spent.append(time.perf_counter() - started)
    assert sorted(spent)[20] < 0.030


def test_in_simulation_every_hospital_keeps_its_own_log(tmp_path: Path) -> None:
    for seed, name in enumerate(("alpha", "beta")):
        tables_site(tmp_path / name, 40, seed)
    sites = tuple(SiteFolder(n, tmp_path / n, "invented2026") for n in ("alpha", "beta"))
    arm = Arm("pooled", tables_study(), sites, None, tmp_path / "cache", tmp_path / "run")
    prepare(arm)
    (together,) = open_sites(arm)
    answer(together, Describe(arm.study.digest))
    assert read(together.state / "audit.jsonl")[-1].facts["reply"] == "Described"
