"""sarco-site segment as a person runs it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from client.cli import app
from sarco_models.released_segmenter import About, store_segmenter
from sarco_models.unet import build_segmenter
from tests.client.test_segment import measures, muscle_picture
from tests.sarco_models.test_segmenter import segmentation_study

SITE = """
name = "alpha"
data = "site-data"
study = "study.json"
label_rule = "none"
device = "cpu"
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was never trained: it finds nonsense, and commands do not care."""
    folder = tmp_path_factory.mktemp("released") / "model"
    torch.manual_seed(1)
    store_segmenter(folder, segmentation_study(), build_segmenter(segmentation_study(), "none"), About(synthetic=True))
    return folder


def run(*arguments: object) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["segment", *(str(a) for a in arguments)])
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


def test_images_become_masks_measures_and_a_page(tmp_path: Path, model: Path) -> None:
    muscle_picture(tmp_path / "in" / "a.dcm", dicom=True)
    code, said = run(tmp_path / "in", "--model", model, "--out", tmp_path / "out")
    assert code == 0
    assert said.startswith("SYNTHETIC")
    assert "1 image: " in said
    assert (tmp_path / "out" / "index.html").stat().st_mode & 0o777 == 0o600
    code, said = run(tmp_path / "in", "--model", model / "model.safetensors", "--out", tmp_path / "out")
    assert code == 0
    assert "1 had been done before" in said, "the same weights are the same model, however they are named"


def test_a_bad_file_makes_the_status_1_and_the_others_are_done(tmp_path: Path, model: Path) -> None:
    muscle_picture(tmp_path / "in" / "a.dcm", dicom=True)
    (tmp_path / "in" / "b.jpg").write_text("no picture")
    code, said = run(tmp_path / "in", "--model", model, "--out", tmp_path / "out", "--formats", "png")
    assert code == 1
    assert "not done: b.jpg" in said
    assert (tmp_path / "out" / "masks" / "a.dcm.png").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--model", "absent"), "no such model"),
        (("--formats", "bmp"), "expected some of nifti,png,labelme"),
        (("--mm-per-pixel", "-1"), "above 0"),
        (("--calibration", "absent.csv"), "absent.csv"),
        (("--site", "absent.toml"), "absent.toml"),
    ],
)
def test_what_cannot_be_begun_is_said_and_the_status_is_2(
    tmp_path: Path, model: Path, change: tuple[str, str], words: str
) -> None:
    muscle_picture(tmp_path / "a.dcm", dicom=True)
    code, said = run(tmp_path / "a.dcm", "--model", model, "--out", tmp_path / "out", *change)
    assert code == 2
    assert words in said.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_site_toml_says_where_calibration_csv_is(tmp_path: Path, model: Path) -> None:
    muscle_picture(tmp_path / "site-data" / "images" / "b.png")
    (tmp_path / "site.toml").write_text(SITE)
    (tmp_path / "site-data" / "calibration.csv").write_text(
        "image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column\nimages/b.png,,,,,0.1,0.3\n"
    )
    images = tmp_path / "site-data" / "images"
    run(images, "--model", model, "--out", tmp_path / "out", "--site", tmp_path / "site.toml", "--formats", "png")
    assert measures(tmp_path / "out")["b.png"]["mm_per_pixel_column"] == "0.3"


def test_calibration_csv_beside_the_images_is_found_and_told(tmp_path: Path, model: Path) -> None:
    muscle_picture(tmp_path / "site-data" / "images" / "b.png")
    table = tmp_path / "site-data" / "calibration.csv"
    table.write_text("image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column\nimages/b.png,,,,,0.1,0.3\n")
    images = tmp_path / "site-data" / "images"
    _, said = run(images, "--model", model, "--out", tmp_path / "out", "--formats", "png")
    assert f"millimetres: of files, and of {table.resolve()}" in said.replace("\n", "")
    assert measures(tmp_path / "out")["b.png"]["mm_per_pixel_column"] == "0.3"
    muscle_picture(tmp_path / "other" / "c.png")
    (tmp_path / "other" / "calibration.csv").write_text(table.read_text())
    _, said = run(images, tmp_path / "other", "--model", model, "--out", tmp_path / "two", "--formats", "png")
    assert "millimetres: " not in said, "of two tables none is guessed"


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, client.cli; sys.exit('torch' in sys.modules or 'flwr' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0  # noqa: S603
    assert CliRunner().invoke(app, ["segment", "--help"]).exit_code == 0
