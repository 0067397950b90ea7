"""A model that finds muscles is handed out whole, finds what the run's own does, and says what is known of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from client.cli import app as site_app
from sarco_models.messages import Probed
from sarco_models.released_segmenter import open_segmenter
from server.cli import app
from server.leakage import write_leakage
from server.measured import read_measured
from server.muscle_table import HEADINGS, lines, untold
from server.release import release
from server.runs import Run
from simulation.harness import Arm, SiteFolder, run_arm
from tests.muscle_sites import MM_PER_PIXEL, muscle_site, muscle_study

slow = pytest.mark.slow
PEOPLE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two hospitals that is complete; its hospitals measured a small leakage."""
    root = tmp_path_factory.mktemp("muscles")
    for seed, name in enumerate(("alpha", "beta")):
        muscle_site(root / name, PEOPLE, seed)
        (root / name / "manifest.json").write_text('{"synthetic": true}')
    study = muscle_study(
        split={"train": 0.5, "validation": 0.25},
        training={"batch_participants": 6, "learning_rate": 0.003},
        federation={"rounds": 1, "min_participants": 2},
    )
    sites = tuple(SiteFolder(name, root / name, "none") for name in ("alpha", "beta"))
    run_arm(Arm("federated", study, sites, None, root / "cache", root / "run"))
    write_leakage(root / "run", {name: Probed(name, 12, 6, 0.5, 0.0) for name in ("alpha", "beta")}, {})
    return root / "run"


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    """A copy that a test may damage, with hospitals that say they are synthetic beside it."""
    for name in ("alpha", "beta"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text('{"synthetic": true}')
    shutil.copytree(folder, tmp_path / "run")
    return Run.open(tmp_path / "run")


def found_in(images: Path, model: Path, out: Path) -> dict[str, Any]:
    """Masks that the hospital's command writes, by name."""
    words = ["segment", str(images), "--model", str(model), "--out", str(out), "--formats", "nifti"]
    result = CliRunner().invoke(site_app, [*words, "--mm-per-pixel", str(MM_PER_PIXEL)])
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output
    masks = sorted((out / "masks").glob("*.nii.gz"))
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in masks}


@slow
def test_a_released_model_finds_the_same_masks_as_the_runs_own(run: Run, folder: Path, tmp_path: Path) -> None:
    out = release(run, tmp_path / "out").folder
    own, handed_out = open_segmenter(run.folder), open_segmenter(out)
    assert own.digest == handed_out.digest
    assert own.about == handed_out.about
    images = tmp_path / "images"
    images.mkdir()
    for picture in sorted((folder.parent / "alpha" / "images").iterdir())[:3]:
        shutil.copy(picture, images)
    first, second = (found_in(images, model, tmp_path / f"found-{model.name}") for model in (run.folder, out))
    assert len(first) == 3
    assert all(np.array_equal(first[name], second[name]) for name in first)


@slow
def test_model_json_says_what_is_known_beside_the_weights(run: Run) -> None:
    about = open_segmenter(run.folder).about
    assert about.synthetic is True
    assert set(about.shapes) == {"biceps", "triceps", "rectus_femoris"}
    released = run.released or {}
    assert {m["participants"] for m in released["validation"].values()} == {12}
    assert released["threshold"] is None or 0 <= released["threshold"] <= 1
    assert not [name for site in released["sites"].values() for name in site if "log_" in name]


@slow
def test_the_card_says_what_it_is_and_on_whom_it_was_measured(run: Run, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["release", str(run.folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "README.txt").read_text()
    for words in ("SYNTHETIC", "NOT A MEDICAL DEVICE", "biceps brachii", "sarco-site segment", "all together"):
        assert words in " ".join(text.split()), words
    assert "alpha 12 of 24" in text
    assert max(map(len, text.splitlines())) <= 120
    for word in ("None", "prevalence", "AUC of", "cases", "called"):
        assert word not in text, word
    named = json.loads((tmp_path / "out" / "manifest.json").read_text())["files"]
    assert "measured.json" in named


@slow
def test_who_measured_nothing_is_said_on_the_card_and_shown(run: Run, tmp_path: Path) -> None:
    told = read_measured(run.folder)
    only = {site: {k: v for k, v in of.items() if not k.startswith("triceps")} for site, of in told.items()}
    (run.folder / "measured.json").write_text(json.dumps(only))
    text = (release(run, tmp_path / "out").folder / "README.txt").read_text()
    assert "NOT MEASURED, by any hospital: triceps." in text
    (run.folder / "measured.json").unlink()
    text = (release(run, tmp_path / "none").folder / "README.txt").read_text()
    assert "nobody knows how well it finds muscles" in text


@slow
def test_show_speaks_of_dice_and_muscles(run: Run) -> None:
    result = CliRunner().invoke(app, ["show", str(run.folder)])
    assert result.exit_code == 0, result.output
    for word in ("Dice", "rectus femoris", "all together", "ranges of drawn shapes"):
        assert word in result.output, word
    assert "AUC" not in result.output
    (run.folder / "model.json").write_text('{"threshold": null}')
    assert CliRunner().invoke(app, ["show", str(run.folder)]).exit_code == 0, "of a version that said less"


def test_a_table_of_hospitals_joins_their_people() -> None:
    told = {
        "north": {"participants": 5.0, "biceps.dice.n": 5.0, "biceps.dice.mean": 0.8, "biceps.dice.sd": 0.0},
        "south": {"participants": 15.0, "biceps.dice.n": 15.0, "biceps.dice.mean": 0.9, "biceps.dice.sd": 0.0},
    }
    heading, title, north, _, together = lines(told, muscle_study())
    assert title == "biceps brachii"
    assert heading.split()[0] == HEADINGS[1]
    assert north.split()[:3] == ["north", "5", "0.800"]
    assert together.split()[2:4] == ["20", "0.875"]
    assert untold(told, muscle_study()) == ["triceps", "rectus femoris"]
    assert lines({}, muscle_study()) == []
