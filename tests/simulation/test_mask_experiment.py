"""The experiment of drawn, found and no masks: what its file may say, and how its studies come to know their model."""

import json
from pathlib import Path
from typing import Any

import pytest

from sarco_models.config import load_study
from sarco_models.errors import ConfigError
from sarco_models.release_files import ABOUT, MODEL
from sarco_models.segmenter_files import segmenter_digest
from simulation.experiments import Experiment
from simulation.mask_experiment import OtherMasksConfig, SegmenterConfig
from simulation.segmenter_place import FOLDER, NOT_YET, knowing, with_segmenter

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MASKS = CONFIGS / "experiments" / "masks.toml"
SEGMENTER = SegmenterConfig(study="../rectus_femoris.toml")
AUTO = {"image": {"roi": "auto", "auto": {"masks": "all"}}}


def load(tmp_path: Path, **changes: Any) -> Experiment:
    return Experiment.load(MASKS, tmp_path / "out", changes=changes)


def some_model(shared: Path, words: str = "weights") -> Path:
    """Files that have a hash; no model."""
    place = shared / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    (place / MODEL).write_text(words)
    (place / ABOUT).write_text(json.dumps({"study": "a" * 64, "threshold": 0.6}))
    return place


def test_the_shipped_experiment_compares_drawn_found_and_no_masks(tmp_path: Path) -> None:
    experiment = load(tmp_path)
    ways = {name: experiment.studies[name].image.roi for name in experiment.config.variants}
    assert ways == {
        "drawn_image": "mask", "found_image": "auto", "none_image": "none",
        "drawn": "mask", "found": "auto", "none": "none",
    }  # fmt: skip
    for name in ("found_image", "found"):
        auto = experiment.studies[name].image.auto
        assert auto is not None
        assert (auto.masks, auto.sha256, auto.segmenter) == ("all", NOT_YET, FOLDER)
    bare = {n: experiment.studies[n].model_copy(update={"image": experiment.studies["drawn"].image}) for n in ways}
    assert bare["drawn"] == bare["found"] == bare["none"]
    assert bare["drawn_image"] == bare["found_image"] == bare["none_image"]
    cfg = experiment.config.other_masks
    assert cfg is not None
    assert cfg.each == tuple((change, mm) for change in ("dilate", "erode", "shift") for mm in (1.0, 2.0))


def test_the_segmenter_is_taught_by_people_of_another_seed(tmp_path: Path) -> None:
    experiment = load(tmp_path)
    assert experiment.config.segmenter
    assert experiment.config.segmenter.seed not in experiment.config.seeds
    with pytest.raises(ConfigError, match=r"segmenter\.seed = 1: is a seed of the experiment, whose people"):
        load(tmp_path, segmenter={"seed": 1})


def test_a_study_knows_its_model_as_soon_as_it_is_there(tmp_path: Path) -> None:
    experiment = load(tmp_path)
    place = some_model(experiment.shared)
    known = experiment.knowing_its_segmenter()
    for name in ("found_image", "found"):
        auto = known.studies[name].image.auto
        assert auto is not None
        assert (auto.sha256, auto.place, auto.segmenter) == (segmenter_digest(place), place.resolve(), FOLDER)
        assert known.studies[name].digest != experiment.studies[name].digest
    for name in ("drawn", "none", "drawn_image", "none_image"):
        assert known.studies[name] is experiment.studies[name]
    again = load(tmp_path)  # the model is there: the file is read as if it had named it
    assert {n: s.digest for n, s in again.studies.items()} == {n: s.digest for n, s in known.studies.items()}


def test_another_model_is_another_study(tmp_path: Path) -> None:
    some_model(tmp_path / "out")
    first = load(tmp_path).studies["found"].digest
    some_model(tmp_path / "out", "other weights")
    assert load(tmp_path).studies["found"].digest != first


def test_a_study_that_names_a_model_keeps_it(tmp_path: Path) -> None:
    named: dict[str, Any] = {"image": {"roi": "auto", "auto": {"segmenter": "theirs"}}}
    for overrides in (named, {"image": {"roi": "none"}}, {}):
        assert with_segmenter(overrides, SEGMENTER, tmp_path) == overrides
    assert with_segmenter(AUTO, None, tmp_path) == AUTO
    found = with_segmenter(AUTO, SEGMENTER, tmp_path)["image"]["auto"]
    assert found == {"masks": "all", "segmenter": str((tmp_path / FOLDER).resolve()), "sha256": NOT_YET}


def test_a_study_without_a_model_to_come_is_left_alone(tmp_path: Path) -> None:
    study = load_study(CONFIGS / "study.toml")
    assert knowing(study, tmp_path) is study


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"other_masks": {"arms": ["federated@blurred"]}},
            r"other_masks\.arms: 'federated@blurred' is none of the arms",
        ),
        ({"other_masks": {"arms": ["federated@none"]}}, r"federated@none looks at no drawn masks"),
        ({"other_masks": {"arms": ["federated@found"]}}, r"federated@found looks at no drawn masks"),
        ({"other_masks": {"views": ["blurred"]}}, r"other_masks\.views: 'blurred' is no variant"),
        ({"other_masks": {"mm": [0.0]}}, "more than 0, at most 20"),
        ({"other_masks": {"mm": [1.0, 1.0]}}, "listed twice"),
        ({"other_masks": {"changes": ["rotate"]}}, "changes"),
        ({"other_masks": {"mm": []}}, "says how far masks are changed"),
        ({"variants": {"none_image": {"overrides": {"image": {"size": 64}}}}}, "none_image looks at 64 pixels"),
        ({"cohort": {"kind": "muscles", "preset": "paper_matched"}}, "segmenter"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, **changes)
    assert not (tmp_path / "out").exists()


def test_a_cross_validation_cannot_be_asked_for_other_masks(tmp_path: Path) -> None:
    file = tmp_path / "cv.toml"
    file.write_text(
        f'extends = "{CONFIGS}/experiments/paper.toml"\nstudy = "{CONFIGS}/study.toml"\n'
        'explain = []\nexplain_images = []\nother_masks.arms = ["cv:shanghai@image"]\n'
    )
    with pytest.raises(ConfigError, match=r"'cv:shanghai@image' is none of the arms of a comparison"):
        Experiment.load(file, tmp_path / "out")


def test_every_change_is_made_over_every_distance() -> None:
    cfg = OtherMasksConfig(arms=("federated",), changes=("up", "dilate"), mm=(0.5, 3.0))
    assert cfg.each == (("up", 0.5), ("up", 3.0), ("dilate", 0.5), ("dilate", 3.0))
    assert OtherMasksConfig(arms=("federated",), changes=(), mm=()).each == ()


def test_the_digest_of_the_default_study_is_as_it_was() -> None:
    study = load_study(CONFIGS / "study.toml")
    assert study.digest.startswith("822e5cdc")
