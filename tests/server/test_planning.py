"""A plan is read as it was written or not at all; the study file says it, and everything else that it said before."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError, RunError
from sarco_models.wire import Described
from server.cli import app
from server.plan_file import FILE, is_planned, read_plan, require_planned, require_unplanned
from server.planning import plan_record
from server.runs import Run, write_json
from server.study_text import with_plan, write_planned
from tests.sarco_models.test_fingerprint import moments_of, people

DRAFT = """\
# Three muscles.
name = "tiny_muscles"
title = "A tiny study"

[segmentation]
network = "nnunet"                   # its plan is agreed by sums

[[segmentation.muscles]]
name = "biceps"
labels = ["#ff0000", "1"]            # a colour is no comment

[image]
size = 32                            # of the draft
roi = "none"
words = "ultrasound # of arms"

[split]
train = 0.7
validation = 0.1

[training]
balance_classes = false
"""
WHERE = Path("study.toml")


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "draft.toml"
    path.write_text(DRAFT, encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path, draft: Path) -> Run:
    """A run that has planned."""
    study = load_study(draft)
    made = Run.create(tmp_path / "run", study)
    told = [described(f"site{k}", 12 + k, seed=k) for k in range(3)]
    write_json(made.folder / FILE, plan_record(study, told, {"site9": "refused: task_not_allowed"}))
    return made


def described(site: str, training: int, seed: int = 0) -> Described:
    return Described(site, "none", training + 5, training, 0, 40, moments_of(people(training, seed)))


def changed(run: Run, **values: Any) -> None:
    path = run.folder / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# ---- the record ------------------------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(run: Run) -> None:
    planned = read_plan(run)
    assert is_planned(run.folder)
    assert planned.study.segmentation is not None
    assert planned.study.segmentation.plan == planned.plan
    assert set(planned.sites) == {"site0", "site1", "site2"}
    assert planned.sites["site1"]["training"] == 13
    assert planned.failures == {"site9": "refused: task_not_allowed"}
    assert planned.reasons[0].what == "window"


def test_the_record_names_what_was_agreed(run: Run) -> None:
    found = json.loads((run.folder / FILE).read_text())
    assert found["draft"] == run.study.digest
    assert found["study"] == read_plan(run).study.digest
    assert len(found["sums_digest"]) == 64
    assert found["sums"]["count"] == [12 + 13 + 14] * 5
    assert found["statistics"]["mm_per_pixel"]["participants"] == 39


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: changed(run, study="0" * 64),
        lambda run: changed(run, plan={"patch": [64, 64]}),
        lambda run: changed(run, draft="0" * 64),
        lambda run: (run.folder / FILE).write_text("{"),
        lambda run: (run.folder / FILE).unlink(),
    ],
    ids=["another study", "another plan", "another draft", "cut", "absent"],
)
def test_a_plan_that_was_changed_is_none(run: Run, damage: Callable[[Run], object]) -> None:
    damage(run)
    with pytest.raises(RunError, match=r"plan\.json: no plan can be read: .*start another run"):
        read_plan(run)


def test_a_run_without_a_plan_holds_no_network(run: Run) -> None:
    assert not (run.folder / "start.safetensors").exists()
    assert Run.create(run.folder, run.study).study == run.study


# ---- which study -----------------------------------------------------------------------------------------------------


def test_only_a_study_without_a_plan_is_planned(draft: Path, run: Run) -> None:
    study = load_study(draft)
    require_unplanned(study, WHERE)
    with pytest.raises(ConfigError, match=r"study\.toml: has a plan already"):
        require_unplanned(read_plan(run).study, WHERE)
    assert study.segmentation is not None
    plain = study.model_copy(update={"segmentation": study.segmentation.model_copy(update={"network": "unet"})})
    with pytest.raises(ConfigError, match='network = "unet": it follows from no plan'):
        require_unplanned(plain, WHERE)
    with pytest.raises(ConfigError, match="finds no muscles"):
        require_unplanned(study.model_copy(update={"segmentation": None}), WHERE)


def test_only_a_study_with_its_plan_is_trained(draft: Path, run: Run) -> None:
    require_planned(read_plan(run).study, WHERE)
    with pytest.raises(ConfigError, match=r"nothing can be trained yet: make the plan with `sarco-coordinator plan`"):
        require_planned(load_study(draft), WHERE)


# ---- the study file --------------------------------------------------------------------------------------------------


def test_the_study_file_gets_its_plan_and_keeps_its_comments(draft: Path, run: Run, tmp_path: Path) -> None:
    planned, out = read_plan(run), tmp_path / "study.toml"
    write_planned(draft, planned, out)
    assert load_study(out) == planned.study
    lines = out.read_text().splitlines()
    assert "# Three muscles." in lines
    assert "size = 128                           # of the plan; in the draft 32" in lines, "its comment was of 32"
    assert 'roi = "none"' in lines
    assert 'labels = ["#ff0000", "1"]            # a colour is no comment' in lines
    assert 'words = "ultrasound # of arms"' in lines
    write_planned(draft, planned, out)  # the same command again


def test_a_study_without_an_image_section_gets_one(draft: Path, run: Run) -> None:
    before, _, rest = DRAFT.partition("[image]")
    text = before + rest[rest.index("[split]") :]
    study = StudyConfig.model_validate_json(json.dumps(tomllib.loads(with_plan(text, read_plan(run)))))
    assert study.image.size == read_plan(run).study.image.size


def test_another_file_is_never_overwritten(draft: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "study.toml"
    out.write_text("somebody's own")
    with pytest.raises(ConfigError, match="is there already and says something else"):
        write_planned(draft, read_plan(run), out)
    assert out.read_text() == "somebody's own"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("train = 0.7", "train = 0.6"),
        lambda text: text.replace("[image]\n", "[training2]\n"),
        lambda text: text.partition("[image]")[0].replace("title =", 'image = { size = 32, roi = "none" }\ntitle ='),
    ],
    ids=["another study", "no study", "written inline"],
)
def test_a_draft_that_cannot_be_extended_is_refused(
    draft: Path, run: Run, tmp_path: Path, change: Callable[[str], str]
) -> None:
    draft.write_text(change(DRAFT))
    with pytest.raises(ConfigError, match=r"draft\.toml: is written in a way that this command cannot extend"):
        write_planned(draft, read_plan(run), tmp_path / "study.toml")
    assert not (tmp_path / "study.toml").exists()


# ---- commands --------------------------------------------------------------------------------------------------------


def test_show_tells_the_plan_of_a_run_that_trained_nothing(run: Run) -> None:
    shown = CliRunner().invoke(app, ["show", str(run.folder)])
    assert shown.exit_code == 0, shown.output
    for word in ("A tiny study: a plan, no training", "site2", "128 x 128 pixels", "mm per pixel", "site9"):
        assert word in shown.output


def test_a_study_that_needs_no_plan_is_refused_with_the_way_out(tmp_path: Path, draft: Path) -> None:
    draft.write_text(DRAFT.replace('"nnunet"', '"unet"'))
    done = CliRunner().invoke(app, ["plan", str(draft), "--out", str(tmp_path / "out.toml")])
    assert done.exit_code == 1
    assert "it follows from no plan" in done.output


def test_a_study_without_a_plan_is_not_run(tmp_path: Path, draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.operating_cli.opened", lambda home: None)
    done = CliRunner().invoke(app, ["run", str(draft)])
    assert done.exit_code == 1
    assert "nothing can be trained yet" in done.output
