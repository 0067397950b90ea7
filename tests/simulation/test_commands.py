"""The commands as a person types them: what they write, what they say when something is wrong, and a power cut."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import client.cli
import server.cli
import simulation.cli
from tests.sites import image_site

PROJECT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
name = "tiny"
title = "Three tiny hospitals"
study = "STUDY"
seeds = [1]
arms = ["federated", "pooled", "local"]
[cohort]
scale = "tiny"
width_px = 96
central_participants = 12
[controls]
prevalence = "prevalence"
age = "feature:age_years"
[overrides.image]
size = 32
[overrides.model]
weights = "none"
[overrides.augmentation]
cached_views = 1
[overrides.federation]
rounds = 4
min_participants = 4
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(EXPERIMENT.replace("STUDY", str(PROJECT / "configs" / "study.toml")))
    return path


def lab(*words: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "simulation.cli", *map(str, words)]


def run_lab(*words: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    return subprocess.run(lab(*words), capture_output=True, text=True, env=env, timeout=600, check=False)  # noqa: S603


def rows_of(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "results.json").read_text())["rows"]
    return found


@pytest.mark.slow
def test_an_experiment_killed_again_and_again_ends_with_the_same_results(experiment: Path, tmp_path: Path) -> None:
    """kill -9 while hospitals are made and while models are trained; the same command completes it."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    told = run_lab("run", experiment, "--out", whole)
    assert told.returncode == 0, told.stderr
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    for mark in ("cohort-1/sichuan/images/*", "arms/1/pooled/rounds/0002.json"):
        process = subprocess.Popen(  # noqa: S603
            lab("run", experiment, "--out", broken), env=env, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while not any(broken.glob(mark)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)  # the command alone: its workers must notice and end by themselves
        process.wait()
        deadline = time.monotonic() + 30
        while processes_of_session(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not processes_of_session(process.pid)
        assert not (broken / "results.json").exists()
    told = run_lab("run", experiment, "--out", broken)
    assert told.returncode == 0, told.stderr
    assert rows_of(broken) == rows_of(whole)
    assert (broken / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()
    assert not list(broken.glob("arms/**/*.partial"))
    check_what_a_person_finds(whole, told.stdout)


def processes_of_session(session: int) -> list[str]:
    """Process ids of a session; a session is what ``start_new_session`` began."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended between the listing and the reading
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def check_what_a_person_finds(out: Path, said: str) -> None:
    assert "SYNTHETIC central test cohort, 12 people" in said
    assert f"report: {(out.parent / 'broken' / 'report.html').resolve()}" in said.replace("\n", "")
    page = (out / "report.html").read_text()
    assert "SYNTHETIC" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="data:image/png;base64,' in page
    ids = {r["participant_id"] for r in csv.DictReader((out / "scores.csv").read_text().splitlines())}
    assert ids
    assert not [i for i in ids if i in page]
    rows = rows_of(out)
    arms = {r["arm"] for r in rows}
    local = {"local:shanghai", "local:sichuan", "local:zhongshan"}
    assert arms == {"federated", "pooled", *local, "control:prevalence", "control:age"}
    keys = {"arm", "seed", "round", "site", "model", "metric", "value", "ci_low", "ci_high", "n", "n_positive"}
    assert all(set(r) == keys for r in rows)
    final = [r for r in rows if r["arm"] == "federated" and r["round"] is None and r["site"] == "central"]
    assert {"auc", "sensitivity", "specificity", "accuracy", "f1_positive", "f1_macro", "brier"} <= {
        r["metric"] for r in final
    }
    assert {"auc_difference:pooled", "delong_p:local:sichuan"} <= {r["metric"] for r in final}
    assert all(np.isfinite(float(str(r["value"]))) for r in rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seeds = [1]", "seeds = [1.5]"), ["tiny.toml: seeds.0 = 1.5", "valid integer"]),
        (("arms =", "arm ="), ["tiny.toml: arm: unknown key; did you mean arms?"]),
        (('scale = "tiny"', 'scale = "huge"'), ["cohort.scale = 'huge'", "'tiny', 'small' or 'full'"]),
        (("[cohort]", "[sites]\na = 'x'\n[cohort]"), ["give either [cohort]", "or [sites]"]),
        (("size = 32", "size = 8"), ["study.toml: image.size = 8", "greater than or equal to 16"]),
    ],
)
def test_a_wrong_experiment_is_told_in_words_with_exit_status_1(
    experiment: Path, tmp_path: Path, change: tuple[str, str], words: list[str]
) -> None:
    experiment.write_text(experiment.read_text().replace(*change))
    told = CliRunner().invoke(simulation.cli.app, ["run", str(experiment), "--out", str(tmp_path / "out")])
    assert told.exit_code == 1
    assert isinstance(told.exception, SystemExit)
    said = told.stderr.replace("\n", " ")
    assert not [w for w in words if w not in said], said
    assert not (tmp_path / "out").exists()


def test_sites_of_an_experiment_may_be_any_folders(experiment: Path, tmp_path: Path) -> None:
    from simulation.experiments import Experiment

    head = EXPERIMENT.replace("STUDY", str(PROJECT / "configs" / "study.toml"))
    text = head[: head.index("[cohort]")] + 'central = "test"\n[sites]\nnorth = "n"\nsouth = "s"\n'
    experiment.write_text(text)
    for name in ("n", "s", "test"):
        image_site(tmp_path / name)
    arms = Experiment.load(experiment, tmp_path / "out").arms(1)
    assert [a.name for a in arms] == ["federated", "pooled", "local:north", "local:south"]
    assert [s.data for s in arms[0].sites] == [tmp_path / "n", tmp_path / "s"]
    assert arms[0].central == tmp_path / "test"


def test_check_data_lists_every_fault_with_place_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "participants.csv").write_text(
        "participant_id,sarcopenia,age_years,albumin_g_per_l\na,1,66,398\na,2,30000,40\n"
    )
    told = CliRunner().invoke(client.cli.app, ["check-data", str(tmp_path)])
    assert told.exit_code == 1
    for words in (
        "row 2",
        "albumin_g_per_l",
        "398",
        "10 to 60 g/L",
        "row 3",
        "the same id as row 2",
        "0 or 1",
        "errors",
    ):
        assert words in told.stdout, told.stdout
    assert "Traceback" not in told.output


def test_a_folder_that_is_no_run_is_told_in_words(tmp_path: Path) -> None:
    told = CliRunner().invoke(server.cli.app, ["show", str(tmp_path)])
    assert told.exit_code == 1
    assert "is not a run directory" in told.stderr.replace("\n", " ")


def test_a_report_without_results_is_told_in_words(tmp_path: Path) -> None:
    told = CliRunner().invoke(simulation.cli.app, ["report", str(tmp_path)])
    assert told.exit_code == 1
    assert "results.json" in told.stderr


STUDY_OF_ITS_OWN = """
name = "falls"
title = "Falls, from tables alone"
[label]
column = "fell"
rule = "self_report"
[[features]]
name = "fear_score"
group = "questionnaire"
high = 40.0
[[features]]
name = "step_length_cm"
group = "walking"
unit = "cm"
high = 150.0
[model]
modalities = ["questionnaire", "walking"]
hidden_units = 8
[federation]
rounds = 2
"""


@pytest.mark.slow
def test_another_disease_on_four_folders_of_data_is_two_files_and_no_code(tmp_path: Path) -> None:
    """[sites] with a schema of its own, tables only: from the folders to the report, through the command."""
    rng = np.random.default_rng(0)
    for site in ("a", "b", "c", "d", "test"):
        (tmp_path / site).mkdir()
        lines = [f"p{i},{i % 2},{rng.uniform(0, 40):.1f},{rng.normal(60 + 20 * (i % 2), 9):.1f}" for i in range(40)]
        table = "\n".join(["participant_id,fell,fear_score,step_length_cm", *lines])
        (tmp_path / site / "participants.csv").write_text(table + "\n")
    (tmp_path / "study.toml").write_text(STUDY_OF_ITS_OWN)
    sites = "\n".join(f'{s} = "{s}"' for s in "abcd")
    head = 'name = "falls"\ntitle = "Falls"\nstudy = "study.toml"\ncentral = "test"\n'
    controls = '[controls]\nfear = "feature:fear_score"\n'
    (tmp_path / "falls.toml").write_text(f"{head}[sites]\n{sites}\n{controls}")
    told = run_lab("run", tmp_path / "falls.toml", "--out", tmp_path / "out")
    assert told.returncode == 0, told.stderr
    assert "SYNTHETIC" not in told.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "SYNTHETIC" not in page
    assert not list((tmp_path / "out").glob("contact_*"))
    auc = [
        r for r in rows_of(tmp_path / "out") if r["metric"] == "auc" and r["round"] is None and r["site"] == "central"
    ]
    assert {r["arm"] for r in auc} == {
        "federated",
        "pooled",
        "local:a",
        "local:b",
        "local:c",
        "local:d",
        "control:fear",
    }


PAPER_IN_SMALL = """
name = "paper"
title = "The paper's way, in small"
study = "STUDY"
study_itself = false
[cohort]
scale = "tiny"
width_px = 96
central_participants = 12
[cross_validation]
site = "shanghai"
folds = 2
draws = 0
[overrides.split]
validation = 0.35
[overrides.federation]
rounds = 2
min_participants = 4
[variants.clinical]
title = "Clinical"
overrides.model.modalities = ["clinical"]
[variants.lab]
title = "Laboratory"
overrides.model.modalities = ["lab"]
"""
COMPLETE_CASES = 'extends = "paper.toml"\nname = "complete_cases"\ntitle = "Complete cases"\n'


@pytest.mark.slow
def test_the_paper_is_reproduced_and_two_protocols_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, out = tmp_path / "experiments", tmp_path / "out"
    files.mkdir()
    (files / "paper.toml").write_text(PAPER_IN_SMALL.replace("STUDY", str(PROJECT / "configs" / "study.toml")))
    (files / "complete_cases.toml").write_text(
        COMPLETE_CASES + "[overrides.split]\ncomplete_cases = true\nvalidation = 0.35\n"
    )
    monkeypatch.setattr(simulation.cli, "EXPERIMENTS", files)
    words = ["reproduce", "--out", str(out), "--scale", "tiny", "--only", "paper", "--only", "complete_cases"]
    told = CliRunner().invoke(simulation.cli.app, [*words, "--workers", "1"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    page = (out / "paper-tables" / "paper.html").read_text(encoding="utf-8")
    assert "SYNTHETIC" in page
    assert {f"table{k}.tex" for k in (1, 2, 3, 4)} <= {p.name for p in (out / "paper-tables").iterdir()}
    assert not list((out / "paper").glob("cohort-*"))  # both protocols have the same hospitals
    everybody, complete = (
        json.loads((out / name / "results.json").read_text()) for name in ("paper", "complete_cases")
    )
    counts = [next(r["n"] for r in run["rows"] if r["site"] == "shanghai") for run in (everybody, complete)]
    assert counts[0] == 24 > counts[1]

    told = CliRunner().invoke(
        simulation.cli.app, ["compare", str(out / "paper"), str(out / "complete_cases"), "--out", str(tmp_path / "two")]
    )
    assert told.exit_code == 0, told.output
    assert "split.complete_cases" in told.stdout
    assert (tmp_path / "two" / "compare.html").is_file()


def test_a_protocol_that_does_not_exist_is_told_in_words(tmp_path: Path) -> None:
    told = CliRunner().invoke(simulation.cli.app, ["reproduce", "--out", str(tmp_path / "out"), "--only", "papers"])
    assert told.exit_code == 1
    assert "no such protocol; known are paper, complete_cases" in told.stderr.replace("\n", " ")
