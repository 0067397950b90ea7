"""A model is handed out whole, with its statement and its audit, or not at all; every way around the gate is closed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from sarco_models.cohort import everyone
from sarco_models.errors import RunError
from sarco_models.messages import Probed
from sarco_models.protection import ReleaseConfig
from sarco_models.release_files import sha256_of
from sarco_models.released import open_release
from server import release as releasing
from server.cli import app
from server.evaluation import released_probabilities
from server.leakage import LEAKAGE, STEPS, Leakage, SiteLeakage, read_leakage, write_leakage
from server.release import COPIED, Gate, release
from server.runs import Run
from simulation.harness import Arm, SiteFolder, run_arm
from tests.sites import opened, tables_site, tables_study

PEOPLE = {"alpha": 60, "beta": 80}
PROBED = Probed("alpha", 36, 15, 0.55, 1 / 36)


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """A run that is complete; what it probed itself is put aside, so that each test has its own."""
    folder = tmp_path_factory.mktemp("released")
    for seed, (name, people) in enumerate(PEOPLE.items()):
        tables_site(folder / name, people, seed)
        (folder / name / "manifest.json").write_text('{"synthetic": true}')
    tables_site(folder / "central", 20, 9)
    sites = tuple(SiteFolder(name, folder / name, "invented2026") for name in PEOPLE)
    made = Arm("federated", tables_study(), sites, folder / "central", folder / "cache", folder / "run")
    run_arm(made)
    (made.folder / LEAKAGE).unlink(missing_ok=True)
    return made


@pytest.fixture
def run(arm: Arm, tmp_path: Path) -> Run:
    """A copy that a test may damage; alpha and beta have measured a small leakage."""
    for name in PEOPLE:
        shutil.copytree(arm.folder.parent / name, tmp_path / name)
    shutil.copytree(arm.folder, tmp_path / "run")
    found = Run.open(tmp_path / "run")
    write_leakage(found.folder, {"alpha": PROBED, "beta": Probed("beta", 48, 20, 0.5, 0.0)}, {})
    return found


def refusal(run: Run, attack: Path | None = None) -> str:
    """What is said; nothing may have been written."""
    out = run.folder.parent / "out"
    before = sorted(p.name for p in run.folder.parent.iterdir())
    with pytest.raises(RunError) as error:
        release(run, out, attack)
    assert sorted(p.name for p in run.folder.parent.iterdir()) == before
    return str(error.value)


# ---- what is handed out ----------------------------------------------------------------------------------------------


def test_a_released_folder_loads_and_predicts_what_the_run_does(run: Run, arm: Arm, tmp_path: Path) -> None:
    done = release(run, tmp_path / "out")
    people = everyone(opened(arm.folder.parent / "central", run.study))
    released = open_release(done.folder)
    assert np.array_equal(released.probabilities(people), released_probabilities(run, people))
    assert released.threshold == (run.released or {})["threshold"]
    assert released.study == run.study


def test_the_manifest_names_every_file_with_its_hash_and_the_origin(run: Run, tmp_path: Path) -> None:
    release(run, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())
    there = {p.name for p in (tmp_path / "out").iterdir()}
    assert set(about["files"]) == there - {"manifest.json"}
    assert {*COPIED, "privacy.md", "privacy.html", "README.txt"} <= there
    assert all(facts["sha256"] == sha256_of(tmp_path / "out" / name) for name, facts in about["files"].items())
    assert (about["study"], about["synthetic"]) == (run.study.digest, True)
    assert about["trained_with"]["torch"]
    assert about["needs"] == {}, "no other model"
    assert "It needs another model" not in (tmp_path / "out" / "README.txt").read_text()
    assert (
        '    released = open_release(Path("this folder"))              # checks'
        in (tmp_path / "out" / "README.txt").read_text()
    )
    for name in ("README.txt", "privacy.md", "privacy.html"):
        assert "SYNTHETIC" in (tmp_path / "out" / name).read_text(), name
    assert "NOT A\nMEDICAL DEVICE" in (tmp_path / "out" / "README.txt").read_text()


def test_a_released_file_that_was_changed_added_or_removed_is_found(run: Run, tmp_path: Path) -> None:
    out = release(run, tmp_path / "out").folder
    threshold = json.loads((out / "model.json").read_text())
    damages: dict[str, Callable[[Path], object]] = {
        "model.json": lambda p: p.write_text(json.dumps({**threshold, "threshold": 0.01})),
        "privacy.md": lambda p: p.write_text("all is well"),
        "more.txt": lambda p: p.write_text(""),
        "leakage.json": lambda p: p.unlink(),
    }
    for name, damage in damages.items():
        copy = tmp_path / f"copy-{name}"
        shutil.copytree(out, copy)
        open_release(copy)
        damage(copy / name)
        with pytest.raises(RunError, match=name):
            open_release(copy)


def test_a_folder_in_use_is_not_written_over(run: Run, tmp_path: Path) -> None:
    release(run, tmp_path / "out")
    with pytest.raises(RunError, match="is not empty"):
        release(run, tmp_path / "out")


def test_a_release_that_dies_while_it_is_written_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(releasing, "write_json", dies)
    with pytest.raises(OSError, match="No space"):
        release(run, tmp_path / "out")
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_run_that_is_not_complete_is_refused(run: Run) -> None:
    (run.folder / "model.json").unlink()
    assert "has released no model by its rounds (model.json is absent): run the study to its end" in refusal(run)


def test_a_run_without_a_privacy_statement_is_refused(run: Run) -> None:
    shutil.rmtree(run.folder / "rounds")
    assert "there is no privacy statement" in refusal(run)


def test_a_run_that_nobody_probed_is_refused(run: Run) -> None:
    (run.folder / LEAKAGE).unlink()
    text = refusal(run)
    assert "no hospital has measured how much the model betrays" in text
    assert "run the study's command again" in text


def test_a_damaged_leakage_file_is_refused(run: Run) -> None:
    (run.folder / LEAKAGE).write_text('{"sites": {"alpha": {"auc": 0.5}}, "failures": {}}')
    assert "cannot be read" in refusal(run)


def test_everything_that_is_missing_is_said_at_once(run: Run) -> None:
    (run.folder / "model.json").unlink()
    (run.folder / LEAKAGE).unlink()
    assert refusal(run).count("\n  - ") == 2


def test_a_model_that_betrays_its_people_is_refused_with_site_value_and_limit(run: Run) -> None:
    write_leakage(run.folder, {"alpha": PROBED, "beta": Probed("beta", 48, 20, 0.81, 12 / 48)}, {})
    text = refusal(run)
    assert "at beta membership inference has an AUC of 0.810 (" in text
    assert "release.max_membership_auc = 0.6" in text
    assert "at beta 0.250 of the members (" in text
    assert "release.max_membership_tpr = 0.1" in text
    assert "alpha" not in text


def test_too_few_probed_hospitals_are_refused_with_their_reasons(run: Run) -> None:
    write_leakage(run.folder, {}, {"alpha": "refused: task_not_allowed"})
    text = refusal(run)
    assert "0 hospitals measured the leakage, release.min_probed_sites = 1; alpha: refused: task_not_allowed" in text


def attacked(path: Path, study: str, auc: float = 0.55, tpr: float = 0.05) -> Path:
    """What sarco-lab attack writes, shortened."""
    rows = [{"study": study, "attack": name, "auc": auc, "tpr": tpr} for name in ("loss", "lira")]
    path.write_text(json.dumps({"synthetic": True, "rows": rows}))
    return path


def test_an_attack_on_another_model_or_a_damaged_one_is_refused(run: Run, tmp_path: Path) -> None:
    assert "holds no attack on study" in refusal(run, attacked(tmp_path / "attack.json", "0" * 64))
    for content in ("{", "[]", '{"rows": [{"auc": 0.5}]}'):
        (tmp_path / "attack.json").write_text(content)
        assert "cannot be read" in refusal(run, tmp_path / "attack.json")


@pytest.mark.parametrize(("auc", "tpr", "passes"), [(0.6, 0.1, True), (0.601, 0.1, False), (0.6, 0.101, False)])
def test_an_attack_that_is_handed_out_must_pass_the_gate_too(
    run: Run, tmp_path: Path, auc: float, tpr: float, passes: bool
) -> None:
    file = attacked(tmp_path / "attack.json", run.study.digest, auc, tpr)
    if not passes:
        assert "attack lira has an AUC of" in refusal(run, file)
        return
    out = release(run, tmp_path / "out", file).folder
    assert (out / "attack.json").read_bytes() == file.read_bytes()
    assert "attack.json" in json.loads((out / "manifest.json").read_text())["files"]


def test_there_is_no_way_around_the_gate(run: Run, tmp_path: Path) -> None:
    """No option forces a release; the command exits 1 and writes nothing."""
    write_leakage(run.folder, {"alpha": Probed("alpha", 36, 15, 0.9, 0.0)}, {})
    command = ["release", str(run.folder), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, command).exit_code == 1
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 2
    assert not (tmp_path / "out").exists()
    write_leakage(run.folder, {"alpha": PROBED}, {})
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "There was NO differential privacy" in done.output
    assert "UPPER LIMIT ABOVE THE GATE" in done.output


# ---- the gate at its boundaries --------------------------------------------------------------------------------------


def measured(**changes: float) -> SiteLeakage:
    found = {"members": 40, "others": 20, "auc": 0.5, "auc_low": 0.4, "auc_high": 0.55, "tpr": 0.0, "tpr_low": 0.0,
             "tpr_high": 0.05, "fpr": 0.05}  # fmt: skip
    return SiteLeakage(**{**found, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"auc": 0.6}, True),
        ({"auc": np.nextafter(0.6, 1)}, False),
        ({"tpr": 0.1, "fpr": 0.01}, True),
        ({"tpr": np.nextafter(0.1, 1), "fpr": 0.01}, False),
        ({"tpr": 0.14, "fpr": 0.05}, True),  # of 19 others nobody can say who is found at 1 %
        ({"tpr": 0.15, "fpr": 0.05}, False),
        ({"auc_high": 0.99, "tpr_high": 0.99}, True),  # the limit is of the estimate; the upper limit is printed
    ],
)
def test_each_gate_at_its_boundary(changes: dict[str, float], passes: bool) -> None:
    gate = Gate(ReleaseConfig(), Leakage({"alpha": measured(), "beta": measured(**changes)}, {}))
    assert (list(gate.faults()) == []) is passes


@pytest.mark.parametrize(("probed", "passes"), [(1, False), (2, True), (3, True)])
def test_the_number_of_probed_hospitals_at_its_boundary(probed: int, passes: bool) -> None:
    found = Leakage({f"site{k}": measured() for k in range(probed)}, {})
    assert (list(Gate(ReleaseConfig(min_probed_sites=2), found).faults()) == []) is passes


def test_an_upper_limit_above_the_gate_is_said(run: Run) -> None:
    words = list(Gate(ReleaseConfig(), Leakage({"a": measured(), "b": measured(auc_high=0.61)}, {"c": "late"})).words())
    assert ["UPPER LIMIT" in line for line in words] == [False, True, False]
    assert words[2] == "c: did not measure it (late)."


def test_a_gate_that_is_wider_for_few_others_says_why(run: Run) -> None:
    def words(fpr: float, others: int) -> str:
        found = Leakage({"a": measured(fpr=fpr, others=others, tpr=0.3)}, {})
        gate = Gate(ReleaseConfig(), found)
        return " ".join((*gate.words(), *gate.faults()))

    few = words(1 / 21, 20)
    assert few.count("at 1 %, wider by 4.8 % - 1 %, for 20 others can show no fewer false positives than 4.8 %") == 2
    assert "gate 13.8: 10 at 1 %" in few
    assert "where 0.138 may be" in few
    many = words(0.01, 200)
    assert "wider" not in many
    assert "gate 10)" in many


def test_numbers_in_steps_are_said_to_be(run: Run) -> None:
    found = Leakage({"a": measured()}, {})
    assert [STEPS in list(Gate(ReleaseConfig(), found, rounded=r).words()) for r in (True, False)] == [True, False]


def test_a_release_ends_with_how_many_hospitals_did_not_measure(run: Run, tmp_path: Path) -> None:
    """Those count, too, whom nobody asked: they have taken part."""
    for k, (found, words) in enumerate(((["alpha"], ", though 1 of 2 hospitals did not measure"), (list(PEOPLE), ""))):
        write_leakage(run.folder, {name: Probed(name, 36, 15, 0.5, 0.0) for name in found}, {})
        out = tmp_path / f"out{k}"
        result = CliRunner().invoke(app, ["release", str(run.folder), "--out", str(out)])
        assert result.output.endswith(f"released{words}: {out}\n"), result.output


def test_the_readme_of_a_model_without_threshold_can_be_run_as_far_as_it_goes(run: Run, tmp_path: Path) -> None:
    with_one = (release(run, tmp_path / "with").folder / "README.txt").read_text()
    assert "called = probability >= released.threshold" in with_one
    about = json.loads((run.folder / "model.json").read_text())
    none = {**about, "threshold": None, "no_threshold": "the study withholds histograms (privacy.statistics)"}
    (run.folder / "model.json").write_text(json.dumps(none))
    text = (release(Run.open(run.folder), tmp_path / "without").folder / "README.txt").read_text()
    assert "    # no threshold was frozen: choose your own on people of your own\n" in text
    assert "    # Why: the study withholds histograms (privacy.statistics).\n" in text
    assert "released.threshold" not in text
    assert "None" not in text


def test_intervals_come_from_the_counts_and_hold_the_estimate(tmp_path: Path) -> None:
    write_leakage(tmp_path, {"a": Probed("a", 40, 20, 0.6, 0.1), "b": Probed("b", 400, 200, 0.6, 0.1)}, {}, bytes_up=3)
    found = read_leakage(tmp_path)
    assert found is not None
    small, large = found.sites["a"], found.sites["b"]
    for site in (small, large):
        assert site.auc_low < site.auc < site.auc_high
        assert site.tpr_low < site.tpr < site.tpr_high
    assert large.auc_high - large.auc_low < (small.auc_high - small.auc_low) / 2
    assert small.fpr == pytest.approx(1 / 21)
    assert large.fpr <= 0.01
