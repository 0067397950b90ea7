"""The heads that a coordinator keeps: they only grow, a copy is noticed, and the list itself is chained."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sarco_models.chain import Chain, read
from sarco_models.errors import ChainBroken, RunError
from server import heads
from server.cli import app
from server.heads import export, named, note
from server.runs import CoordinatorConfig, Run
from tests.sites import tables_study


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", tables_study(), CoordinatorConfig(cache="cache"))


@pytest.fixture
def hospital(tmp_path: Path) -> list[str]:
    """Heads of a log that grows."""
    chain = Chain(tmp_path / "audit.jsonl")
    return [chain.append("reply", {"round": k}) for k in range(6)]


def kept(run: Run) -> list[tuple[str, str]]:
    return [(entry.kind, entry.facts["head"]) for entry in read(run.folder / "heads.jsonl")]


def test_every_head_is_kept_with_its_site_task_and_round(run: Run, hospital: list[str]) -> None:
    for k, head in enumerate(hospital[2::2]):
        assert note(run.folder, "alpha", "Train", k, head) == ""
    assert kept(run) == [("head", hospital[2]), ("head", hospital[4])]
    (first, _) = read(run.folder / "heads.jsonl")
    assert (first.facts["site"], first.facts["task"], first.facts["round"]) == ("alpha", "Train", 0)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("", "sends no head of its audit log"),
        ("x:y", "something else than the head"),
        ("f" * 64, "something else than the head"),
    ],
)
def test_a_reply_without_a_head_is_at_fault(run: Run, head: str, words: str) -> None:
    assert words in note(run.folder, "alpha", "Train", 1, head)
    assert kept(run) == [("fault", head)]


def test_a_replayed_reply_is_noticed(run: Run, hospital: list[str]) -> None:
    assert note(run.folder, "alpha", "Train", 1, hospital[3]) == ""
    assert "a second time: the reply is a copy" in note(run.folder, "alpha", "Train", 2, hospital[3])
    assert "has 2 entries; it had 4 before" in note(run.folder, "alpha", "Train", 2, hospital[1])
    assert note(run.folder, "alpha", "Train", 2, hospital[4]) == ""


def test_a_log_that_was_cut_or_written_anew_is_noticed(run: Run, hospital: list[str]) -> None:
    note(run.folder, "alpha", "Train", 1, hospital[5])
    shorter = f"3:{'a' * 64}"
    assert "it was cut, written anew or restored" in note(run.folder, "alpha", "Train", 2, shorter)
    same_length = f"6:{'b' * 64}"
    assert "it was cut, written anew or restored" in note(run.folder, "alpha", "Train", 2, same_length)


def test_hospitals_do_not_stand_in_each_others_way(run: Run, hospital: list[str]) -> None:
    assert note(run.folder, "alpha", "Train", 1, hospital[5]) == ""
    assert note(run.folder, "beta", "Train", 1, hospital[0]) == ""


def test_a_run_that_goes_on_in_another_process_remembers(run: Run, hospital: list[str]) -> None:
    note(run.folder, "alpha", "Train", 1, hospital[3])
    heads._SEEN.clear()
    assert "a second time" in note(run.folder, "alpha", "Train", 2, hospital[3])
    heads._SEEN.clear()
    assert note(run.folder, "alpha", "Train", 2, hospital[4]) == ""
    assert [kind for kind, _ in kept(run)] == ["head", "fault", "head"]


def test_a_list_that_was_edited_is_not_gone_on_with(run: Run, hospital: list[str]) -> None:
    for head in hospital[:4]:
        note(run.folder, "alpha", "Train", 1, head)
    path = run.folder / "heads.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ChainBroken, match="was cut"):
        note(run.folder, "alpha", "Train", 2, hospital[4])
    path.write_text(path.read_text().replace('"alpha"', '"gamma"', 1))
    heads._SEEN.clear()
    with pytest.raises(ChainBroken, match="line 1: was edited"):
        note(run.folder, "alpha", "Train", 2, hospital[4])
    with pytest.raises(RunError, match="line 1: was edited"):
        export(run, run.folder / "heads.json")


def test_the_export_holds_what_was_good_and_names_the_study(run: Run, hospital: list[str]) -> None:
    note(run.folder, "node 1", "Describe", 0, hospital[0])
    note(run.folder, "alpha", "Train", 1, hospital[2])
    note(run.folder, "alpha", "Train", 2, hospital[2])
    result = CliRunner().invoke(app, ["heads", str(run.folder), "--out", str(run.folder / "heads.json")])
    assert result.exit_code == 0, result.output
    assert "alpha: 1 head\n" in result.output
    assert "node 1: 1 head, from before it gave its name\n" in result.output
    listed = json.loads((run.folder / "heads.json").read_text())
    assert listed["study"] == run.study.digest
    assert [(row["site"], row["head"]) for row in listed["heads"]] == [("node 1", hospital[0]), ("alpha", hospital[2])]


def test_a_nodes_first_head_is_that_of_the_hospital_that_it_called_itself(run: Run) -> None:
    """A run that goes on may find another hospital at the same node, or one that never says who it is."""
    logs = {name: Chain(run.folder / f"{name}.jsonl") for name in ("alpha", "beta", "gamma")}
    first: dict[str, str] = {}
    for node, name, known in ((1, "alpha", True), (2, "beta", True), (1, "gamma", False), (1, "beta", True)):
        head = logs[name].append("reply", {"task": "Describe"})
        heads._SEEN.clear()
        _, last = heads._opened(run.folder / "heads.jsonl")
        last.pop(f"node {node}", None)  # a later run has nodes of other numbers, or begins anew
        assert note(run.folder, f"node {node}", "Describe", 0, head) == ""
        first.setdefault(name, head)
        if known:
            named(run.folder, node, name)
    assert export(run, run.folder / "heads.json") == {"alpha": 1, "beta": 2, "node 1": 1}
    listed = json.loads((run.folder / "heads.json").read_text())["heads"]
    assert [row["site"] for row in listed] == ["alpha", "beta", "node 1", "beta"]
    assert [row["head"] for row in listed][:3] == list(first.values())


def test_a_run_without_heads_says_so(run: Run) -> None:
    result = CliRunner().invoke(app, ["heads", str(run.folder), "--out", str(run.folder / "heads.json")])
    assert result.exit_code == 1
    assert "heads are kept by runs of this version" in result.output
