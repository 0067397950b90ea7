"""What a hospital says about its frames: calibration.csv for one image, a template for a device's screen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from client.workspace import SiteConfig
from sarco_models.config import load_config
from sarco_models.errors import ConfigError, DataError, UnreadableImage
from sarco_models.images import Calibration, Template, read_calibrations, read_image
from tests.sites import write_dicom

ROWS, COLUMNS = 64, 80
REGION = (16, 8, 72, 56)
TEMPLATE = Template(device="Tiny U1", columns=COLUMNS, rows=ROWS, region=REGION, mm_per_pixel=(0.2, 0.1))

# ---- calibration.csv -------------------------------------------------------------------------------------------------

HEADER = "image,x0,y0,x1,y1,mm_per_pixel_row,mm_per_pixel_column\n"


def test_calibrations_may_be_partly_empty_and_written_in_german(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    path.write_text(HEADER + "a.png,1,2,30,40,.1,.2\nb.png,,,,,.1,.1\nc.png,0,0,9,9,,\n", encoding="utf-8-sig")
    assert read_calibrations(path) == {
        "a.png": Calibration((1, 2, 30, 40), (0.1, 0.2)),
        "b.png": Calibration(None, (0.1, 0.1)),
        "c.png": Calibration((0, 0, 9, 9), None),
    }
    path.write_text(HEADER.replace(",", ";") + "a.png;;;;;0,1;0,2\n")
    assert read_calibrations(path) == {"a.png": Calibration(None, (0.1, 0.2))}


def test_every_faulty_calibration_is_found_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    rows = [
        "a,5,0,5,9,,",
        "b,,,,,nan,1",
        "c,,,,,0,1",
        "d,1,2,3,,,",
        "e,.5,0,3,3,,",
        "f,,,,,1,1",
        "f,,,,,1,1",
        ",,,,,,",
        "g",
    ]
    path.write_text(HEADER + "\n".join(rows))
    with pytest.raises(DataError) as refusal:
        read_calibrations(path)
    assert [f.row for f in refusal.value.findings] == [2, 3, 4, 5, 6, 8, 9]
    path.write_text("image,x0\n")
    with pytest.raises(DataError, match="no column y0"):
        read_calibrations(path)
    with pytest.raises(DataError, match="not readable"):
        read_calibrations(tmp_path / "none.csv")


def test_a_device_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    path.write_text(HEADER.strip() + ",device\na.png,,,,,.1,.1, Tiny   U1 \nb.png,,,,,.1,.1\n")
    assert read_calibrations(path) == {
        "a.png": Calibration(None, (0.1, 0.1), "Tiny U1"),
        "b.png": Calibration(None, (0.1, 0.1)),
    }
    path.write_text(HEADER.strip() + ",device\na.png,,,,,.1,.1," + 65 * "U")
    with pytest.raises(DataError, match="row 2, field device: text of 65 characters"):
        read_calibrations(path)


def test_findings_describe_texts_and_show_numbers(tmp_path: Path) -> None:
    path = tmp_path / "calibration.csv"
    path.write_text(HEADER + "a,1,2,DOE JOHN,4,,\nDOE JOHN.png,,,,,1,1\nDOE JOHN.png,,,,,1,1\nb,9,0,5,9,,\n")
    with pytest.raises(DataError) as refusal:
        read_calibrations(path)
    assert "DOE" not in str(refusal.value)
    assert "text of 8 characters" in str(refusal.value)
    assert "9, 0, 5, 9" in str(refusal.value)


@pytest.mark.parametrize("content", [b"image,x0\0\n\0", b'image,x0\n"' + b"a" * 200_000, b"\xff\xfe\x00", b""])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calibration.csv"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_calibrations(path)


# ---- templates -------------------------------------------------------------------------------------------------------


def picture(folder: Path, name: str = "images/a.png", size: tuple[int, int] = (ROWS, COLUMNS)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(7).integers(0, 256, size, dtype=np.uint8)).save(path)
    return path


def test_a_template_gives_region_spacing_and_device(tmp_path: Path) -> None:
    frame = read_image(path := picture(tmp_path), templates=(TEMPLATE,))
    x0, y0, x1, y1 = REGION
    np.testing.assert_array_equal(frame.pixels, np.asarray(Image.open(path))[y0:y1, x0:x1])
    assert (frame.mm_per_pixel, frame.device, frame.origin) == ((0.2, 0.1), "Tiny U1", (y0, x0))
    assert (frame.facts.region_from, frame.facts.spacing_from) == ("template", "template")


def test_calibration_comes_before_the_template_and_the_file_before_both(tmp_path: Path) -> None:
    calibration = Calibration((0, 0, 9, 9), (3.0, 3.0), "Other")
    told = read_image(picture(tmp_path), calibration, templates=(TEMPLATE,))
    assert (told.pixels.shape, told.mm_per_pixel, told.device) == ((9, 9), (3.0, 3.0), "Other")
    values = np.zeros((ROWS, COLUMNS), dtype=np.uint8)
    own = read_image(write_dicom(tmp_path / "a.dcm", values, 0.5), calibration, templates=(TEMPLATE,))
    assert (own.facts.region_from, own.mm_per_pixel, own.device) == ("file", (0.5, 0.5), "Tiny U1")


def test_what_calibration_leaves_open_the_template_says(tmp_path: Path) -> None:
    frame = read_image(picture(tmp_path), Calibration(None, (3.0, 3.0)), templates=(TEMPLATE,))
    assert (frame.facts.region_from, frame.facts.spacing_from) == ("template", "calibration")
    assert frame.device == "Tiny U1"


@pytest.mark.parametrize(
    ("files", "size", "is_for"),
    [
        ("*", (ROWS, COLUMNS), True),
        ("*.png", (ROWS, COLUMNS), True),
        ("images/*.png", (ROWS, COLUMNS), True),
        ("images/*", (ROWS, COLUMNS), True),
        ("ward/*.png", (ROWS, COLUMNS), False),
        ("*.jpg", (ROWS, COLUMNS), False),
        ("*", (ROWS, COLUMNS + 1), False),
    ],
)
def test_a_template_is_for_its_files_and_its_size(
    tmp_path: Path, files: str, size: tuple[int, int], is_for: bool
) -> None:
    template = TEMPLATE.model_copy(update={"files": files})
    frame = read_image(picture(tmp_path, size=size), templates=(template,))
    assert frame.facts.region_from == ("template" if is_for else "whole")


def test_in_a_jpeg_a_template_keeps_whole_blocks(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.open(picture(tmp_path)).save(path, quality=90)
    template = TEMPLATE.model_copy(update={"region": (9, 9, COLUMNS, 50)})
    frame = read_image(path, templates=(template,))
    assert (frame.origin, frame.pixels.shape) == ((16, 16), (32, COLUMNS - 16))
    with pytest.raises(UnreadableImage, match="whole JPEG blocks"):
        read_image(path, templates=(TEMPLATE.model_copy(update={"region": (9, 9, 15, 15)}),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region": (0, 0, 81, 9)}, "columns"),
        ({"region": (9, 0, 9, 9)}, "x0 < x1"),
        ({"mm_per_pixel": (0.1, 0.0)}, "two positive numbers"),
        ({"files": "/data/*.png"}, "relative"),
        ({"files": "../*"}, "without"),
        ({"files": "images/**"}, "without"),
        ({"device": ""}, "at least 1"),
        ({"rows": 0}, "greater than"),
    ],
)
def test_impossible_templates_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Template(**{**TEMPLATE.model_dump(), **change})


SITE = """
name = "alpha"
data = "data"
study = "study.toml"
label_rule = "awgs2019"
"""
TABLE = f"""
[[templates]]
device = "Tiny U1"
columns = {COLUMNS}
rows = {ROWS}
region = {list(REGION)}
"""


def test_site_toml_holds_templates_and_not_the_same_twice(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(SITE + TABLE + "mm_per_pixel = [0.2, 0.1]")
    assert load_config(path, SiteConfig).templates == (TEMPLATE,)
    path.write_text(SITE + TABLE + TABLE)
    with pytest.raises(ConfigError, match=r"templates 0 and 1 .* are both for files = '\*' of 80 x 64 pixels"):
        load_config(path, SiteConfig)
    path.write_text(SITE + TABLE.replace("columns", "colums"))
    with pytest.raises(ConfigError, match="did you mean columns"):
        load_config(path, SiteConfig)
