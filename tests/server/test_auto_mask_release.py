"""A released model whose images were seen through found masks: it names who found them, and wants no other."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco_models.cohort import everyone, open_cohort
from sarco_models.errors import ConfigError, RunError
from sarco_models.messages import Probed
from sarco_models.released import open_release
from sarco_models.segmenter_files import segmenter_digest
from server.evaluation import released_probabilities
from server.leakage import LEAKAGE, write_leakage
from server.release import release
from server.runs import Run
from simulation.harness import Arm, SiteFolder, run_arm
from tests.finders import FINDER, auto_study, stored_finder
from tests.sites import image_site

STUDY: dict[str, Any] = {
    "federation": {"rounds": 1, "min_participants": 2},
    "model": {"modalities": ["image"]},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of two hospitals with masks that are drawn on all images but are found by the model all the same."""
    base = tmp_path_factory.mktemp("auto-release")
    finder = stored_finder(base / "models" / FINDER, synthetic=True)
    for k, name in enumerate(("east", "west")):
        image_site(base / name, 14, seed=k)
    sites = tuple(SiteFolder(name, base / name, "invented2026") for name in ("east", "west"))
    study = auto_study(finder, **STUDY)
    run_arm(Arm("federated", study, sites, None, base / "cache", base / "run"))
    (base / "run" / LEAKAGE).unlink(missing_ok=True)
    return base, finder


@pytest.fixture
def released(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """The folder that a receiver gets, with nothing beside it."""
    base, _ = made
    for name in ("east", "west", "run"):
        shutil.copytree(base / name, tmp_path / "coordinator" / name)
    run = Run.open(tmp_path / "coordinator" / "run")
    probed = {m: Probed(m, d["training"], 3, 0.5, 0.0) for m, d in run.records()[0]["members"].items()}
    write_leakage(run.folder, probed, {})
    return release(run, tmp_path / "receiver" / "diagnosis").folder


@pytest.mark.slow
def test_the_manifest_and_the_card_name_the_segmentation_model(released: Path, made: tuple[Path, Path]) -> None:
    digest = segmenter_digest(made[1])
    needs = json.loads((released / "manifest.json").read_text())["needs"]
    assert needs == {"segmenter": {"name": FINDER, "sha256": digest}}
    card = (released / "README.txt").read_text()
    assert f'released = open_release(Path("this folder"), Path("{FINDER}"))  # checks' in card
    assert f"    name       {FINDER}\n    SHA-256    {digest}\n    SYNTHETIC: it was trained on computer-made" in card
    assert "wherever nobody has drawn it" in " ".join(card.split())
    assert max(map(len, card.splitlines())) <= 120


@pytest.mark.slow
def test_it_opens_with_that_model_alone(released: Path, made: tuple[Path, Path], tmp_path: Path) -> None:
    base, finder = made
    with pytest.raises(
        RunError, match=rf"finder: is not there.*masks of segmentation model {FINDER}, SHA-256 \w{{64}}"
    ):
        open_release(released)
    with pytest.raises(RunError, match="nowhere: is not there"):
        open_release(released, tmp_path / "nowhere")
    other = stored_finder(tmp_path / "other" / FINDER, seed=2)
    with pytest.raises(RunError, match=r"was trained on the masks of .* get the release of that model .* unchanged"):
        open_release(released, other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no such segmentation model"):
        open_release(released, tmp_path / "empty")
    opened = open_release(released, finder)
    run = Run.open(base / "run")
    people = everyone(open_cohort(base / "east", opened.study, tmp_path / "cache"))
    assert np.array_equal(opened.probabilities(people), released_probabilities(run, people))
    shutil.copytree(finder, released.parent / FINDER)
    auto = open_release(released).study.image.auto
    assert auto is not None
    assert auto.place == (released.parent / FINDER).resolve(), "it is found beside the release, too"


@pytest.mark.slow
def test_a_manifest_that_names_another_one_is_refused(released: Path, made: tuple[Path, Path]) -> None:
    path = released / "manifest.json"
    for needs in ({"segmenter": {"name": FINDER, "sha256": "0" * 64}}, {}):
        path.write_text(json.dumps({**json.loads(path.read_text()), "needs": needs}))
        with pytest.raises(RunError, match=r"what it 'needs' is not what study\.json says"):
            open_release(released, made[1])
