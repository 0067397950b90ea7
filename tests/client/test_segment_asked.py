"""A model that has to be asked is asked for what images.csv, names of files or the command say; nothing is guessed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from client.segment import Loaded, Options, segment
from client.segment_asked import UNKNOWN, told, with_muscles
from client.segment_inputs import Spacings, inputs
from client.segment_table import Done
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.released_segmenter import About, ReleasedSegmenter, store_segmenter
from sarco_models.segmentation import SegmentationConfig
from sarco_models.segmenter import Segmenter
from sarco_models.unet import build_segmenter
from tests.client.test_segment import SPACING, measures, muscle_picture
from tests.client.test_segment_command import run as command
from tests.sarco_models.test_segmenter import Bright, segmentation_study
from tests.sites import write_csv


def asked_study() -> StudyConfig:
    study = segmentation_study()
    assert study.segmentation is not None
    return study.model_copy(update={"segmentation": study.segmentation.model_copy(update={"classes": "asked"})})


def muscles() -> SegmentationConfig:
    found = asked_study().segmentation
    assert found is not None
    return found


def run(folder: Path, out: Path, options: Options = SPACING, muscle: str = "") -> Done:
    study, net = asked_study(), Bright()
    released = ReleasedSegmenter(study, net, About(threshold=0.3), "a" * 64)  # type: ignore[arg-type]
    images = with_muscles(inputs([folder]), muscles(), muscle)
    return segment(images, Loaded(released, Segmenter(study, net, mirror=True)), out, options, lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two muscles by their names, in two languages, and one image of which nobody says anything."""
    muscle_picture(tmp_path / "in" / "K1_Bizeps_links.png")
    muscle_picture(tmp_path / "in" / "rectus femoris" / "1.png")
    muscle_picture(tmp_path / "in" / "unnamed.png")
    return tmp_path / "in"


def test_names_of_files_and_folders_say_the_muscle(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    rows = measures(tmp_path / "out")
    assert rows["K1_Bizeps_links.png"]["muscle"] == "biceps"
    assert rows["rectus femoris/1.png"]["muscle"] == "rectus_femoris"
    assert rows["unnamed.png"]["reasons"] == UNKNOWN
    assert not list((tmp_path / "out" / "masks").glob("unnamed*")), "nothing is half done"
    (line,) = told(with_muscles(inputs([folder]), muscles()), {"biceps": "biceps", "rectus_femoris": "RF"})
    assert line.endswith("biceps on 1, RF on 1")


def test_a_label_is_the_same_muscle_in_all_files_of_a_folder(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    numbers = {name: set(Image.open(tmp_path / f"out/masks/{name}.png").tobytes()) for name in
               ("K1_Bizeps_links.png", "rectus femoris/1.png")}  # fmt: skip
    assert numbers == {"K1_Bizeps_links.png": {0, 2}, "rectus femoris/1.png": {0, 1}}
    names = (tmp_path / "out" / "itk-snap-labels.txt").read_text()
    assert names.index('"rectus femoris"') < names.index('"biceps"')
    page = json.loads((tmp_path / "out/masks/K1_Bizeps_links.png.json").read_text())
    assert {shape["label"] for shape in page["shapes"]} == {"biceps"}


def test_images_csv_above_an_image_comes_before_its_name(tmp_path: Path) -> None:
    muscle_picture(tmp_path / "site" / "images" / "P1_biceps.png")
    muscle_picture(tmp_path / "site" / "images" / "P2_biceps.png")
    muscle_picture(tmp_path / "site" / "images" / "P3_biceps.png")
    rows = [
        ("images/P1_biceps.png", "P1", "股直肌"),
        ("images/P2_biceps.png", "P2", "vastus lateralis"),
        ("images/P3_biceps.png", "P3", ""),
    ]
    write_csv(tmp_path / "site" / "images.csv", ("image", "participant_id", "muscle"), rows)
    found = with_muscles(inputs([tmp_path / "site" / "images"]), muscles())
    assert [image.muscle for image in found] == ["rectus_femoris", "", "biceps"]


def test_the_command_comes_before_all(folder: Path) -> None:
    assert {image.muscle for image in with_muscles(inputs([folder]), muscles(), "Bizeps")} == {"biceps"}
    with pytest.raises(ConfigError, match="none of the muscles"):
        with_muscles(inputs([folder]), muscles(), "soleus")


def test_nothing_begins_where_no_image_says_its_muscle(tmp_path: Path) -> None:
    muscle_picture(tmp_path / "in" / "biceps and rectus femoris.png")
    with pytest.raises(ConfigError, match="--muscle is missing"):
        run(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_muscle_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("L", (260, 300), 20).save(tmp_path / "in" / "biceps.png")
    run(tmp_path / "in", tmp_path / "out")
    assert measures(tmp_path / "out")["biceps.png"]["reasons"] == "no biceps was found"


def test_a_spacing_given_later_is_for_those_that_lacked_it(tmp_path: Path) -> None:
    """What was done with the file's own spacing stands, corrections and all."""
    muscle_picture(tmp_path / "in" / "biceps.dcm", dicom=True)
    none = Options(spacings=Spacings({}, Path()))
    assert run(tmp_path / "in", tmp_path / "out", none).kept == 0
    (tmp_path / "out/masks/biceps.dcm.json").write_text("corrected")
    muscle_picture(tmp_path / "in" / "biceps 2.png")
    done = run(tmp_path / "in", tmp_path / "out")
    assert done.kept == 1
    assert (tmp_path / "out/masks/biceps.dcm.json").read_text() == "corrected"
    assert measures(tmp_path / "out")["biceps 2.png"]["thickness_mm"] != ""
    assert run(tmp_path / "in", tmp_path / "out").kept == 2
    other = replace(SPACING, spacings=Spacings({}, Path(), (0.3, 0.3)))
    with pytest.raises(ConfigError, match=r"biceps 2\.png.*nothing was changed"):
        run(tmp_path / "in", tmp_path / "out", other)


@pytest.mark.parametrize(
    ("classes", "option", "code", "words"),
    [
        ("asked", (), 0, "asked for, as names or images.csv say: biceps on 1"),
        ("asked", ("--muscle", "rectus femoris"), 0, "1 image: "),
        ("asked", ("--muscle", "soleus"), 2, "none of the muscles"),
        ("one", ("--muscle", "biceps"), 2, "leave --muscle out"),
    ],
)
def test_the_command_says_what_was_asked(
    tmp_path: Path, classes: str, option: tuple[str, ...], code: int, words: str
) -> None:
    study = segmentation_study()
    assert study.segmentation is not None
    study = study.model_copy(update={"segmentation": study.segmentation.model_copy(update={"classes": classes})})
    torch.manual_seed(1)
    store_segmenter(tmp_path / "model", study, build_segmenter(study, "none"), About(synthetic=True))
    muscle_picture(tmp_path / "in" / "biceps.dcm", dicom=True)
    found, said = command(tmp_path / "in", "--model", tmp_path / "model", "--out", tmp_path / "out", *option)
    assert found == code, said
    assert words in said.replace("\n", " ")
    assert (tmp_path / "out").exists() == (code == 0)
