"""What is written around a scanner's picture never reaches a model, wherever it is written."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sarco_models.cohort import split
from sarco_models.config import ImageConfig
from sarco_models.errors import UnreadableImage
from sarco_models.fusion import build_model
from sarco_models.images import Box, read_image
from sarco_models.preprocess import model_input
from sarco_models.schema import design_columns
from sarco_models.screens import Picture, find_picture, whole_blocks
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader, predict
from simulation.frames import SCREENS, framed, region_in_frame
from simulation.phantom import Image as Phantom
from simulation.phantom import random_subject, render
from tests.sites import image_study, opened, read_csv, tables_site, write_csv

Pixels = NDArray[np.uint8]
FONT = ImageFont.load_default_imagefont()
LOSSLESS, ALL = ("PNG", "BMP", "TIFF"), ("PNG", "BMP", "TIFF", "JPEG")
NAME = "DOE JOHN 1950-01-01"


def phantom(device: str = "aixplorer", seed: int = 1, width: int = 224, depth_mm: int | None = 50) -> Phantom:
    rng = np.random.default_rng(seed)
    return render(random_subject(rng), rng, device=device, width_px=width, depth_mm=depth_mm)


def screen(picture: Pixels, at: tuple[int, int] = (180, 90), shape: tuple[int, int] = (600, 800)) -> Pixels:
    """A picture on a black screen, ``at`` column and row."""
    frame = np.zeros(shape, dtype=np.uint8)
    x, y = at
    frame[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return frame


def drawn(frame: Pixels, draw: Callable[[ImageDraw.ImageDraw], None]) -> Pixels:
    image = Image.fromarray(frame)
    draw(ImageDraw.Draw(image))
    return np.array(image)


def stored(path: Path, frame: Pixels, kind: str) -> Path:
    Image.fromarray(frame).save(path, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return path


def box_of(frame: Pixels, *, lossy: bool = False) -> Box:
    """The box of the picture, which is a rectangle; of a JPEG, of its whole blocks."""
    found = find_picture(frame, lossy=lossy)
    found = whole_blocks(found, frame.shape) if found and lossy else found
    assert found is not None
    assert found.inside is None
    return found.box


def as_jpeg(frame: Pixels, quality: int) -> Pixels:
    stream = BytesIO()
    Image.fromarray(frame).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


# ---- rectangles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth_mm", [30, 50])
@pytest.mark.parametrize("device", SCREENS)
def test_every_devices_picture_is_found_to_the_pixel(device: str, depth_mm: int) -> None:
    for seed, width in ((1, 224), (2, 512)):
        image = phantom(device, seed, width, depth_mm)
        frame = framed(image.pixels, device, depth_mm, NAME)
        assert box_of(frame) == region_in_frame(device, *image.pixels.shape[::-1])


@pytest.mark.parametrize("device", SCREENS)
@pytest.mark.parametrize("quality", [75, 92])
def test_in_a_jpeg_it_is_found_to_the_block(device: str, quality: int) -> None:
    image = phantom(device)
    frame = framed(image.pixels, device, image.depth_mm, "")
    true = whole_blocks(Picture(region_in_frame(device, *image.pixels.shape[::-1])), frame.shape)
    assert true is not None
    assert box_of(as_jpeg(frame, quality), lossy=True) == true.box


WRITINGS: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {
    "banner": lambda d: d.text((4, 4), f"{NAME}  GENERAL HOSPITAL  MI 0.9 TIS 0.1", fill=255, font=FONT),
    "name close above": lambda d: d.text((184, 76), NAME, fill=190, font=FONT),
    "menu": lambda d: [d.text((620, 60 + 18 * k), f"Gain {k}0 dB", fill=200, font=FONT) for k in range(20)],
    "ruler": lambda d: [d.line([(407, 90 + 29 * k), (413, 90 + 29 * k)], fill=190) for k in range(11)],
    "logo": lambda d: d.ellipse((20, 20, 90, 70), fill=180),
    "large letters": lambda d: d.text((20, 450), NAME, fill=255, font=ImageFont.load_default(size=40)),
    "grey bar": lambda d: [d.line([(150, 90 + k), (160, 90 + k)], fill=255 - k) for k in range(200)],
    "panel": lambda d: d.rectangle((0, 500, 800, 600), fill=60),
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("writing", WRITINGS)
def test_what_is_written_around_the_picture_changes_no_bit(tmp_path: Path, kind: str, writing: str) -> None:
    clean = screen(phantom().pixels)
    written = drawn(clean, WRITINGS[writing])
    assert not np.array_equal(clean, written)
    bare, named = (read_image(stored(tmp_path / name, f, kind)) for name, f in (("a", clean), ("b", written)))
    np.testing.assert_array_equal(bare.pixels, named.pixels)
    assert (bare.origin, bare.facts) == (named.origin, named.facts)
    assert named.facts.region_from == "found"
    cfg = ImageConfig(framing="letterbox", roi="none")
    np.testing.assert_array_equal(model_input(bare, None, cfg), model_input(named, None, cfg))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("device", SCREENS)
def test_a_name_in_the_banner_changes_no_bit_of_any_device(tmp_path: Path, device: str, kind: str) -> None:
    image = phantom(device)
    frames = [framed(image.pixels, device, image.depth_mm, name) for name in ("", NAME)]
    bare, named = (read_image(stored(tmp_path / str(k), f, kind)) for k, f in enumerate(frames))
    np.testing.assert_array_equal(bare.pixels, named.pixels)
    assert bare.origin == named.origin
    if kind in LOSSLESS:
        np.testing.assert_array_equal(bare.pixels, image.pixels)


def test_a_mask_drawn_on_the_stored_jpeg_still_fits(tmp_path: Path) -> None:
    image = phantom()
    frame = read_image(stored(tmp_path / "a.jpg", screen(image.pixels, at=(181, 93)), "JPEG"))
    top, left = frame.origin
    assert (top % 8, left % 8) == (0, 0)
    inner = image.pixels[top - 93 :, left - 181 :][: frame.pixels.shape[0], : frame.pixels.shape[1]]
    assert np.abs(frame.pixels.astype(int) - inner).mean() < 5


def test_dark_deep_tissue_does_not_cut_the_region() -> None:
    """Below a bone nothing comes back but the scanner's own noise."""
    rng = np.random.default_rng(3)
    picture = phantom(depth_mm=40).pixels.copy()
    picture[150:] = rng.integers(0, 3, picture[150:].shape)
    height, width = picture.shape
    frame = drawn(screen(picture), lambda d: d.text((190, 92 + height), "D 5.0cm  MI 0.9", fill=120, font=FONT))
    assert box_of(frame) == (180, 90, 180 + width, 90 + height)


@pytest.mark.parametrize("black_rows", [0, 60])
def test_a_picture_that_fills_its_file_is_whole(tmp_path: Path, black_rows: int) -> None:
    pixels = phantom().pixels.copy()
    pixels[len(pixels) - black_rows :] = 0
    for kind in ALL:
        frame = read_image(stored(tmp_path / kind, pixels, kind))
        assert frame.facts.region_from == "whole"
        assert frame.pixels.shape == pixels.shape


def test_an_empty_frame_is_whole() -> None:
    assert box_of(np.zeros((480, 640), dtype=np.uint8)) == (0, 0, 640, 480)


# ---- other shapes ----------------------------------------------------------------------------------------------------


def panorama(rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    """Speckle on an arc, as an extended field of view is shown, and where it is."""
    rows, columns = np.mgrid[:600, :800]
    radius = np.hypot(rows - 800, columns - 400)
    angle = np.abs(np.arctan2(columns - 400, 800 - rows))
    inside = (radius > 420) & (radius < 640) & (angle < 0.55)
    speckle = (20 + rng.rayleigh(30, rows.shape)).clip(0, 255)
    return np.where(inside, speckle, 0).astype(np.uint8), inside


@pytest.mark.parametrize("kind", ALL)
def test_a_panorama_is_followed_along_its_outline_and_the_rest_is_black(tmp_path: Path, kind: str) -> None:
    clean, inside = panorama(np.random.default_rng(4))

    def corners(draw: ImageDraw.ImageDraw) -> None:
        draw.text((90, 175), NAME, fill=255, font=FONT)  # within the box around the arc, above its left end
        draw.text((340, 415), "RECTUS FEMORIS", fill=255, font=FONT)  # below the arc
        draw.line([(780, 200), (780, 500)], fill=200)

    bare, named = (read_image(stored(tmp_path / n, f, kind)) for n, f in (("a", clean), ("b", drawn(clean, corners))))
    np.testing.assert_array_equal(bare.pixels, named.pixels)
    (top, left), (height, width) = bare.origin, bare.pixels.shape
    outside = ~inside[top : top + height, left : left + width]
    assert bare.pixels[outside].max() == 0
    kept = (bare.pixels[~outside] > 0).sum() / inside.sum()
    assert kept > (0.97 if kind in LOSSLESS else 0.8)  # of a JPEG whole blocks at the border go


# ---- what is not clear -----------------------------------------------------------------------------------------------


def two(frame: Pixels) -> Pixels:
    picture = frame[90:390, 180:404]
    return screen(picture, at=(500, 90)) | frame


def touched(frame: Pixels) -> Pixels:
    """Text all along the upper border, without a line of screen between."""
    written = drawn(frame, lambda d: d.text((182, 81), NAME * 2, fill=200, font=FONT))
    written[90:] = frame[90:]
    return written


def only_text(frame: Pixels) -> Pixels:
    return drawn(np.zeros_like(frame), lambda d: d.text((100, 100), NAME, fill=255, font=FONT))


@pytest.mark.parametrize(
    ("unclear", "kind"),
    [(two, "PNG"), (two, "JPEG"), (only_text, "PNG"), (only_text, "JPEG"), (touched, "PNG")],
)
def test_what_is_not_clear_is_refused_with_a_way_out(
    tmp_path: Path, unclear: Callable[[Pixels], Pixels], kind: str
) -> None:
    path = stored(tmp_path / "frame", unclear(screen(phantom().pixels)), kind)
    with pytest.raises(UnreadableImage) as refusal:
        read_image(path)
    (finding,) = refusal.value.findings
    assert finding.rule == "screen"
    assert "calibration.csv" in finding.remedy
    assert "template for 800 x 600" in finding.remedy


# ---- and the score ---------------------------------------------------------------------------------------------------


def hospital(folder: Path, banner: str) -> Path:
    """Six participants with one PNG each, and not a word about where the tissue is."""
    tables_site(folder, 6)
    (folder / "images").mkdir()
    rows = []
    for k, person in enumerate(read_csv(folder / "participants.csv")):
        image = phantom("mindray_m9", seed=k, width=160, depth_mm=40)
        stored(folder / f"images/{k}.png", framed(image.pixels, "mindray_m9", 40, banner), "PNG")
        rows.append((f"images/{k}.png", person["participant_id"]))
    write_csv(folder / "images.csv", ("image", "participant_id"), rows)
    return folder


def test_a_banner_changes_no_score(tmp_path: Path) -> None:
    study = image_study(image={"framing": "letterbox", "roi": "none"})
    torch.manual_seed(0)
    model = build_model(study)
    scores = []
    for name, banner in (("bare", ""), ("named", NAME)):
        cohort = opened(hospital(tmp_path / name / "alpha", banner), study)
        people = split(cohort, study.split, seed=1).train
        moments = Moments.of(people, design_columns(study.features), extremes=False)
        scores.append(predict(model.net, Reader.of(model, agreed_scaling(study, moments), study), people))
    np.testing.assert_array_equal(*scores)
    assert len(np.unique(scores[0])) > 1
