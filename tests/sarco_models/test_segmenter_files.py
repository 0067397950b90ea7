"""A study names its segmentation model by a hash that is the same everywhere, and knows where it lies nowhere else."""

import json
import pickle
import shutil
from pathlib import Path

import pytest

from sarco_models.config import StudyConfig, beside, load_config, load_study, located
from sarco_models.errors import ConfigError
from sarco_models.segmenter_files import agreed_place, says_synthetic, segmenter_digest
from simulation.experiment_config import merged_study
from tests.finders import FINDER, auto_study, stored_finder
from tests.muscle_sites import muscle_study
from tests.sites import image_study, tables_study


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return stored_finder(tmp_path / "home" / FINDER)


def study_file(folder: Path, segmenter: str, sha256: str = "") -> Path:
    tree = json.loads(image_study().model_dump_json())
    tree["image"] |= {"roi": "auto", "auto": {"segmenter": segmenter, "sha256": sha256}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(tree))
    return folder / "study.json"


def place_of(study: StudyConfig) -> Path | None:
    assert study.image.auto is not None
    return study.image.auto.place


def test_reading_a_study_fills_the_hash_in_and_remembers_the_place(tmp_path: Path, finder: Path) -> None:
    study = load_study(study_file(tmp_path / "studies", f"../home/{FINDER}"))
    assert study.image.auto is not None
    assert (study.image.auto.segmenter, study.image.auto.sha256) == (FINDER, segmenter_digest(finder))
    assert place_of(study) == finder
    assert agreed_place(study.image.auto) == finder


def test_the_digest_knows_the_weights_and_no_place(tmp_path: Path, finder: Path) -> None:
    shutil.copytree(finder, tmp_path / "elsewhere" / FINDER)
    here = load_study(study_file(tmp_path / "one", str(finder)))
    there = load_study(study_file(tmp_path / "elsewhere", FINDER))
    assert here.digest == there.digest
    assert str(tmp_path) not in here.model_dump_json()
    again = StudyConfig.model_validate_json(here.model_dump_json())
    assert again.digest == here.digest
    assert place_of(again) is None
    other = stored_finder(tmp_path / "third" / FINDER, seed=2)
    assert load_study(study_file(tmp_path / "third", FINDER)).digest != here.digest
    assert segmenter_digest(other) != segmenter_digest(finder)


def test_what_was_read_again_finds_a_model_beside_it_or_where_one_says(tmp_path: Path, finder: Path) -> None:
    study = load_study(study_file(tmp_path / "studies", str(finder)))
    resolved = tmp_path / "hospital" / "study.json"
    resolved.parent.mkdir()
    resolved.write_text(study.model_dump_json())
    nowhere = load_study(resolved)
    assert place_of(nowhere) is None
    assert nowhere.digest == study.digest
    assert place_of(located(nowhere, finder)) == finder
    shutil.copytree(finder, resolved.parent / FINDER)
    assert place_of(load_study(resolved)) == resolved.parent / FINDER
    assert place_of(located(load_study(resolved), finder)) == finder, "who says it is heard"


def test_copies_and_other_processes_know_the_place(finder: Path) -> None:
    study = auto_study(finder)
    assert place_of(pickle.loads(pickle.dumps(study))) == finder  # noqa: S301 - our own
    assert place_of(merged_study(study, {"training": {"seed": 7}})) == finder
    assert merged_study(image_study(), {"training": {"seed": 7}}).image.auto is None


def test_a_model_that_is_nowhere_is_said_with_the_way_out(tmp_path: Path, finder: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere: no such segmentation model: name the folder of a run"):
        load_study(study_file(tmp_path / "studies", "nowhere"))
    study = load_study(study_file(tmp_path / "studies", "nowhere", segmenter_digest(finder)))
    assert study.image.auto is not None
    with pytest.raises(ConfigError, match=r"(?s)nowhere, SHA-256 \w{12}, .*get its folder from the coordinator.*site"):
        agreed_place(study.image.auto)
    unread = load_config(study_file(tmp_path / "studies", "nowhere"), StudyConfig)
    assert unread.image.auto is not None
    with pytest.raises(ConfigError, match="nowhere, SHA-256 unknown"):
        agreed_place(unread.image.auto)
    assert located(image_study(), finder) == beside(image_study(), tmp_path / "x") == image_study()


def test_another_model_is_refused_by_both_names(tmp_path: Path, finder: Path) -> None:
    other = stored_finder(tmp_path / "other", seed=2)
    study = located(auto_study(finder), other)
    assert study.image.auto is not None
    with pytest.raises(ConfigError) as refused:
        agreed_place(study.image.auto)
    for digest in (segmenter_digest(finder), segmenter_digest(other)):
        assert digest[:12] in str(refused.value)
    assert "ask the coordinator" in str(refused.value)


@pytest.mark.parametrize("change", ["threshold", "shapes", "synthetic"])
def test_what_is_known_of_a_model_is_a_part_of_it(finder: Path, change: str) -> None:
    """A threshold decides which masks are used."""
    before = segmenter_digest(finder)
    about = json.loads((finder / "model.json").read_text())
    (finder / "model.json").write_text(json.dumps({**about, "figures": 1}))
    assert segmenter_digest(finder) == before, "what decides nothing may differ"
    (finder / "model.json").write_text(json.dumps({**about, change: {"x": 1} if change == "shapes" else True}))
    assert segmenter_digest(finder) != before


def test_one_file_with_its_study_beside_it_has_a_hash(finder: Path) -> None:
    (finder / "model.json").unlink()
    weights = (finder / "model.safetensors").rename(finder / "best.safetensors")
    first = segmenter_digest(weights)
    (finder / "study.json").write_text((finder / "study.json").read_text() + "\n")
    assert segmenter_digest(weights) != first
    (finder / "model.json").write_text("{")
    with pytest.raises(ConfigError, match=r"model\.json: cannot be read: get the segmentation model again"):
        segmenter_digest(weights)


def test_who_says_nothing_of_himself_is_taken_for_real(tmp_path: Path) -> None:
    assert says_synthetic(stored_finder(tmp_path / "a", synthetic=True))
    assert not says_synthetic(stored_finder(tmp_path / "b"))
    assert not says_synthetic(tmp_path / "absent")


def test_a_study_says_auto_and_by_what_or_neither() -> None:
    auto = {"segmenter": "finder"}
    for image, words in (
        ({"roi": "auto"}, 'roi = "auto" needs \\[image.auto\\]'),
        ({"auto": auto}, 'is of no use with roi = "mask"'),
        ({"roi": "auto", "auto": {**auto, "sha256": "12"}}, "sha256"),
        ({"roi": "auto", "auto": {**auto, "otherwise": "drop"}}, "'tissue' or 'leave_out'"),
        ({"roi": "auto", "auto": {**auto, "place": "/x"}}, "place"),
    ):
        with pytest.raises(ValueError, match=words):
            image_study(image=image)
    tree = json.loads(muscle_study().model_dump_json()) | {"image": {"roi": "auto", "auto": auto}}
    with pytest.raises(ValueError, match=r'image\.roi = "auto" would show the network what it is to find'):
        StudyConfig.model_validate_json(json.dumps(tree))
    assert tables_study().digest == tables_study(image={"roi": "mask"}).digest
