"""An experiment's own segmentation model: taught by others, whole when it is there, never taken for another one."""

import json
from pathlib import Path

import pytest

from sarco_models.errors import ConfigError, RunError
from sarco_models.released_segmenter import open_segmenter
from simulation.mask_experiment import SegmenterConfig
from simulation.own_segmenter import TRAINING, make_segmenter, segmenter_facts, segmenter_study
from simulation.segmenter_place import FOLDER
from simulation.status import Status

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def asked(seed: int = 1000, **image: float) -> SegmenterConfig:
    """Rectus femoris, in one round of tiny hospitals."""
    return SegmenterConfig(
        study="rectus_femoris.toml",
        seed=seed,
        scale="tiny",
        central_participants=6,
        overrides={
            "image": {"size": 32, **image},
            "training": {"local_steps": 1, "images_per_participant": 1},
            "federation": {"rounds": 1, "min_participants": 4},
        },
    )


def silent(_: Status) -> None:
    """Nobody watches."""


def test_its_seed_is_that_of_its_people_and_of_its_training() -> None:
    study = segmenter_study(asked(1234), CONFIGS)
    assert study.training.seed == 1234
    assert study.segments
    assert study.federation.min_sites == 3


def test_a_study_that_diagnoses_finds_no_muscles() -> None:
    with pytest.raises(ConfigError, match=r"segmenter\.study = 'study\.toml': diagnoses"):
        segmenter_study(SegmenterConfig(study="study.toml"), CONFIGS)


@pytest.mark.slow
def test_it_is_trained_once_and_can_be_opened_by_anybody(tmp_path: Path) -> None:
    told: list[str] = []
    place = make_segmenter(asked(), CONFIGS, tmp_path, lambda status: told.append(status.stage), workers=1)
    assert place == tmp_path / FOLDER
    assert told[-1] == "training the segmenter"
    released = open_segmenter(place)
    assert released.about.synthetic is True
    assert 0 < released.about.threshold <= 1
    assert released.digest == open_segmenter(tmp_path / TRAINING / "run").digest
    facts = segmenter_facts(asked(), CONFIGS, tmp_path)
    assert (facts["seed"], facts["rounds"], facts["dice"]["rectus_femoris"]["n"]) == (1000, 1, 6)
    assert facts["participants"] > 20
    assert json.loads(json.dumps(facts)) == facts

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert make_segmenter(asked(), CONFIGS, tmp_path, silent, workers=1) == place
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    for other in (asked(1001), asked(window_mm=45.0)):
        with pytest.raises(RunError, match=r"was trained by another study .* give another --out, or remove it"):
            make_segmenter(other, CONFIGS, tmp_path, silent, workers=1)

    (place / "model.json").unlink()  # a run that was killed before the last of its files
    make_segmenter(asked(), CONFIGS, tmp_path, silent, workers=1)
    assert open_segmenter(place).digest == released.digest


def test_a_model_that_is_not_complete_has_no_facts(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not complete: run the same command again"):
        segmenter_facts(asked(), CONFIGS, tmp_path)
