"""A stored segmentation model is the one that comes back, or it is refused with a way out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sarco_models.errors import ConfigError, RunError, WeightsError
from sarco_models.parameters import Parameters, all_tensors
from sarco_models.release_files import sha256_of
from sarco_models.released_segmenter import About, open_segmenter, store_segmenter
from sarco_models.segmentation_net import SegmentationNet
from sarco_models.shapes import ShapeRange
from sarco_models.unet import build_segmenter
from tests.sarco_models.test_segmenter import muscle, segmentation_study
from tests.sites import study

ABOUT = About(True, 0.7, {"biceps": ShapeRange((1.0, 2.0, 0.9), (9.0, 6.0, 1.0))})


@pytest.fixture(scope="module")
def net() -> SegmentationNet:
    torch.manual_seed(3)
    return build_segmenter(segmentation_study(), weights="none")


@pytest.fixture
def folder(tmp_path: Path, net: SegmentationNet) -> Path:
    store_segmenter(tmp_path / "model", segmentation_study(), net, ABOUT)
    return tmp_path / "model"


def test_a_model_finds_the_same_after_it_was_stored(folder: Path, net: SegmentationNet) -> None:
    opened = open_segmenter(folder)
    frame = muscle((60, 80))[0]
    assert opened.study == segmentation_study()
    assert opened.about == ABOUT
    assert opened.digest == Parameters.pack(all_tensors(net)).digest
    with torch.inference_mode():
        images = torch.from_numpy(frame.pixels[:60, :60].astype(np.float32) / 255)[None, None]
        images = torch.nn.functional.interpolate(images, (64, 64))
        torch.testing.assert_close(opened.net.eval()(images), net.eval()(images), rtol=0, atol=0)
    assert opened.segmenter().mirror


def test_one_file_with_its_study_beside_it_is_enough(folder: Path) -> None:
    (folder / "model.json").unlink()
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    opened = open_segmenter(folder / "best.safetensors")
    assert opened.about == About()
    assert opened.about.synthetic is None, "nobody knows"


@pytest.mark.parametrize("as_a_run", [False, True])
def test_frozen_layers_may_lie_in_a_file_of_their_own(folder: Path, net: SegmentationNet, as_a_run: bool) -> None:
    """As a run stores them: what rounds carried, and what they did not, by names of the parts or of the whole."""
    digest = open_segmenter(folder).digest
    tensors = all_tensors(net)
    split = sum(name.startswith("frozen.") for name in tensors) or 5
    frozen, trained = dict(list(tensors.items())[:split]), dict(list(tensors.items())[split:])
    if as_a_run:
        frozen = {name.replace("frozen.", "", 1).replace("trained.", "net.", 1): t for name, t in frozen.items()}
        trained = {name.removeprefix("trained."): t for name, t in trained.items()}
    Parameters.pack(trained).save(folder / "model.safetensors")
    Parameters.pack(frozen).save(folder / "frozen.safetensors")
    assert open_segmenter(folder).digest == digest


def test_a_model_of_another_network_is_refused(folder: Path) -> None:
    Parameters.pack({"a": torch.zeros(3)}).save(folder / "model.safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        open_segmenter(folder)


def test_an_empty_file_and_a_missing_one_are_told_apart(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        open_segmenter(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no such model"):
        open_segmenter(folder)


def test_an_experiment_holds_models_and_is_none(folder: Path, tmp_path: Path) -> None:
    trained = tmp_path / "run" / "arms" / "1" / "federated"
    trained.parent.mkdir(parents=True)
    folder.rename(trained)
    with pytest.raises(RunError, match=r"here is one of 1: .*arms/1/federated"):
        open_segmenter(tmp_path / "run")
    assert open_segmenter(trained).study.segmentation is not None


def test_a_model_without_its_study_says_what_it_needs(folder: Path) -> None:
    (folder / "study.json").unlink()
    with pytest.raises(RunError, match="put the study's file beside"):
        open_segmenter(folder)


def test_a_model_that_diagnoses_is_refused(folder: Path) -> None:
    (folder / "study.json").write_text(study().model_dump_json())
    with pytest.raises(ConfigError, match="which diagnoses"):
        open_segmenter(folder)


def test_a_study_that_was_exchanged_is_seen(folder: Path) -> None:
    other = segmentation_study(framing="paper")
    (folder / "study.json").write_text(other.model_dump_json())
    with pytest.raises(RunError, match="another study"):
        open_segmenter(folder)


def test_a_damaged_description_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text(json.dumps({"shapes": {"biceps": [1]}}))
    with pytest.raises(RunError, match="cannot be read"):
        open_segmenter(folder)


def test_a_model_is_never_written_over_another(folder: Path, net: SegmentationNet) -> None:
    with pytest.raises(RunError, match="already"):
        store_segmenter(folder, segmentation_study(), net, ABOUT)


def test_a_release_is_held_against_its_manifest(folder: Path) -> None:
    files = {p.name: {"sha256": sha256_of(p)} for p in folder.iterdir()}
    manifest = {"study": segmentation_study().digest, "synthetic": False, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert open_segmenter(folder).about.synthetic is False, "the release knows better than model.json"
    (folder / "model.json").write_text(json.dumps({"threshold": 0.01}))
    with pytest.raises(RunError, match="was changed after the release"):
        open_segmenter(folder)
