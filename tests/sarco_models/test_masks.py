"""A mask is where its author drew it, on the pixels of the frame, or it is refused with the numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from PIL import Image

from sarco_models.errors import MaskError
from sarco_models.images import Frame
from sarco_models.masks import read_mask

STORED = (120, 160)
TOP, LEFT, HEIGHT, WIDTH = 20, 30, 70, 110
VOLUMES = ["nii", "nii.gz", "nrrd", "mha", "gipl"]


@pytest.fixture
def frame() -> Frame:
    return Frame(np.zeros((HEIGHT, WIDTH), np.uint8), (0.1, 0.2), "", (TOP, LEFT), STORED)


@pytest.fixture
def muscle() -> NDArray[np.uint8]:
    """An ellipse of 30 x 90 pixels on the stored frame, inside the region."""
    return ellipse(STORED)


def ellipse(shape: tuple[int, int]) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside: NDArray[np.uint8] = (((rows - 55) / 15) ** 2 + ((columns - 85) / 45) ** 2 < 1).astype(np.uint8)
    return inside


def volume(values: NDArray[Any], path: Path, spacing: tuple[float, ...] = ()) -> Path:
    """Written by ITK as ITK-SNAP does; spacing is (column, row) in mm."""
    image: Any = sitk.GetImageFromArray(values)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def labelme(path: Path, *shapes: dict[str, Any], size: tuple[int, int] = STORED) -> Path:
    page = {"version": "5.5.0", "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1], "imageData": None}
    path.write_text(json.dumps(page))
    return path


def shape(points: Any, kind: str = "polygon", label: str = "RF") -> dict[str, Any]:
    return {"label": label, "points": np.asarray(points).tolist(), "shape_type": kind}


def cut(mask: NDArray[Any]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = mask[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] > 0
    return inside


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def refusal(path: Path, frame: Frame, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(MaskError) as error:
        read_mask(path, frame, **arguments)
    (finding,) = error.value.findings
    assert finding.file == path.name
    assert finding.remedy
    return finding.rule, str(finding)


# ---- where it lies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", VOLUMES)
@pytest.mark.parametrize("slices", [False, True])
def test_a_mask_of_the_stored_frame_is_cut_to_the_region(
    tmp_path: Path, frame: Frame, muscle: Any, suffix: str, slices: bool
) -> None:
    path = volume(muscle[None] if slices else muscle, tmp_path / f"mask.{suffix}")
    mask = read_mask(path, frame)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, cut(muscle))


def test_a_mask_of_the_region_is_taken_as_it_is(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    region = cut(muscle).astype(np.uint8)
    np.testing.assert_array_equal(read_mask(volume(region, tmp_path / "mask.nrrd"), frame), region)


def test_a_mask_marks_the_pixels_it_was_drawn_on(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, STORED, dtype=np.uint8)
    frame = Frame(stored[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].copy(), None, "", (TOP, LEFT), STORED)
    bright = stored * cut_back(stored > 250)
    mask = read_mask(volume((bright > 0).astype(np.uint8), tmp_path / "mask.nii.gz"), frame)
    assert frame.pixels[mask].min() > 250
    assert frame.pixels[~mask].max() <= 250


def cut_back(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same mask with everything outside the region taken away."""
    kept = np.zeros_like(mask)
    kept[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = mask[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
    return kept


def test_a_few_pixels_over_the_edge_are_cut_and_many_refused(tmp_path: Path, frame: Frame) -> None:
    values = np.zeros(STORED, np.uint8)
    values[TOP - 1 : TOP + 29, 60:90] = 1
    assert read_mask(volume(values, tmp_path / "a.nrrd"), frame).sum() == 29 * 30
    values[TOP - 5 : TOP, 60:90] = 1
    rule, text = refusal(volume(values, tmp_path / "b.nrrd"), frame)
    assert rule == "mask-outside"
    assert "150 of 1020 pixels outside" in text


# ---- orientation -----------------------------------------------------------------------------------------------------


def oriented(path: Path, values: NDArray[Any], axes: list[float], origin: tuple[float, float, float]) -> Path:
    """A volume of one slice; axes are ITK's direction matrix."""
    image: Any = sitk.GetImageFromArray(values[None].astype(np.uint16))
    image.SetSpacing((0.2, 0.1, 1.0))
    image.SetDirection(axes)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize(("right", "down"), [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_a_mask_that_was_flipped_in_storing_comes_back_as_drawn(
    tmp_path: Path, frame: Frame, suffix: str, right: int, down: int
) -> None:
    drawn = ellipse(STORED)
    drawn[:50, 60:] = 0  # no symmetry
    far = (0.2 * (STORED[1] - 1) * (right < 0), 0.1 * (STORED[0] - 1) * (down < 0), 0.0)
    axes = [right, 0, 0, 0, down, 0, 0, 0, 1]
    stored = oriented(tmp_path / f"m.{suffix}", drawn[::down, ::right], axes, far)
    assert (read_mask(stored, frame) == cut(drawn)).all()


def test_an_identity_affine_and_another_plane_say_nothing_of_the_image(
    tmp_path: Path, frame: Frame, muscle: Any
) -> None:
    """nibabel's identity has the body's right to left and back to front, which ITK reads as two turned axes."""
    identity = oriented(tmp_path / "m.nii.gz", muscle, [-1, 0, 0, 0, -1, 0, 0, 0, 1], (0.0, 0.0, 0.0))
    sagittal = oriented(tmp_path / "m.nrrd", muscle, [0, 0, 1, 1, 0, 0, 0, -1, 0], (5.0, -3.0, 40.0))
    for path in (identity, sagittal):
        assert (read_mask(path, frame) == cut(muscle)).all()


@pytest.mark.parametrize(
    ("axes", "origin"),
    [([-1, 0, 0, 0, 1, 0, 0, 0, 1], (0.0, 0.0, 0.0)), ([0, 1, 0, 1, 0, 0, 0, 0, -1], (0.0, 0.0, 0.0)),
     ([0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1], (0.0, 0.0, 0.0)), ([-1, 0, 0, 0, -1, 0, 0, 0, 1], (3.0, 2.0, 0.0))],
)  # fmt: skip
def test_a_mask_turned_against_its_image_is_refused_with_its_axes(
    tmp_path: Path, frame: Frame, muscle: Any, axes: list[float], origin: tuple[float, float, float]
) -> None:
    rule, text = refusal(oriented(tmp_path / "m.mha", muscle, axes, origin), frame)
    assert rule == "mask-orientation"
    assert f"{axes[0]:g}, {axes[3]:g}" in text


# ---- labels ----------------------------------------------------------------------------------------------------------


def test_one_of_several_labels_is_chosen_by_name(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    labels = np.where(muscle > 0, 3, 0).astype(np.uint16)
    labels[60:62, 40:50] = 7
    path = volume(labels, tmp_path / "mask.nii.gz")
    assert refusal(path, frame) == (
        "several-labels",
        "mask.nii.gz: labels 3, 7; expected one label; say which of them is the muscle in the "
        "column mask_label of images.csv",
    )
    np.testing.assert_array_equal(read_mask(path, frame, label=7), cut(labels == 7))
    np.testing.assert_array_equal(read_mask(path, frame, label="3"), cut(labels == 3))
    assert refusal(path, frame, label=4)[0] == "label"


def test_whole_numbers_stored_as_floats_are_labels_and_fractions_are_not(
    tmp_path: Path, frame: Frame, muscle: Any
) -> None:
    whole = volume(muscle.astype(np.float32), tmp_path / "whole.nii.gz")
    np.testing.assert_array_equal(read_mask(whole, frame), cut(muscle))
    rule, text = refusal(volume(muscle * np.float32(0.37), tmp_path / "soft.nii.gz"), frame)
    assert rule == "float-mask"
    assert "0.37" in text
    assert refusal(volume(muscle * np.float32("nan"), tmp_path / "nan.nrrd"), frame)[0] == "float-mask"


# ---- PNG -------------------------------------------------------------------------------------------------------------


def indexed(muscle: NDArray[np.uint8], first: tuple[int, int, int], second: tuple[int, int, int]) -> Image.Image:
    picture = Image.fromarray(muscle).convert("P")
    picture.putpalette([*first, *second])
    return picture


@pytest.mark.parametrize(
    "draw",
    [
        lambda m: Image.fromarray(m > 0),
        lambda m: Image.fromarray(m),
        lambda m: Image.fromarray(m * 255),
        lambda m: Image.fromarray(m.astype(np.uint16) * 9),
        lambda m: Image.fromarray(np.stack([m * 200, m * 0, m * 9], axis=-1)),
        lambda m: Image.fromarray(np.stack([m * 0 + 90, m, m, m * 255], axis=-1)),
        lambda m: indexed(m, (0, 0, 0), (0, 0, 0)),
        lambda m: indexed(1 - m, (0, 255, 0), (0, 0, 0)),
    ],
    ids=["1-bit", "0/1", "0/255", "16-bit", "coloured", "transparent", "indexed", "indexed, black second"],
)
def test_any_png_that_is_not_background_is_the_mask(tmp_path: Path, frame: Frame, muscle: Any, draw: Any) -> None:
    draw(muscle).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", frame), cut(muscle))


def test_colours_are_labels(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    colours = np.stack([muscle * 255, muscle * 0, muscle * 0], axis=-1)
    colours[60:62, 60:70] = (0, 0, 255)
    Image.fromarray(colours).save(tmp_path / "mask.png")
    assert "#0000ff, #ff0000" in refusal(tmp_path / "mask.png", frame)[1]
    assert read_mask(tmp_path / "mask.png", frame, label="#0000ff").sum() == 20


@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_itself_is_not_a_mask(tmp_path: Path, frame: Frame, channels: int) -> None:
    speckle = np.random.default_rng(0).integers(0, 256, (*STORED, channels), dtype=np.uint8)
    Image.fromarray(speckle.squeeze()).save(tmp_path / "mask.png")
    assert refusal(tmp_path / "mask.png", frame)[0] == "not-a-mask"


# ---- LabelMe ---------------------------------------------------------------------------------------------------------


def test_a_smooth_outline_has_its_own_area(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    points = np.stack([85 + 45 * np.cos(angle), 55 + 15 * np.sin(angle)], axis=1)
    mask = read_mask(labelme(tmp_path / "mask.json", shape(points)), frame)
    assert dice(mask, cut(muscle)) > 0.995
    assert mask.sum() == pytest.approx(np.pi * 45 * 15, rel=0.01)


def test_filling_agrees_with_matplotlib_on_any_polygon(tmp_path: Path, frame: Frame) -> None:
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[: STORED[0], : STORED[1]] + 0.5
    centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 12)))
        radius = rng.uniform(5, 30, len(angles))
        points = np.stack([85 + radius * np.cos(angles), 55 + radius * np.sin(angles)], axis=1)
        expected = Outline(points).contains_points(centres).reshape(STORED)
        np.testing.assert_array_equal(read_mask(labelme(tmp_path / "m.json", shape(points)), frame), cut(expected))


def test_whole_pixels_have_whole_areas(tmp_path: Path, frame: Frame) -> None:
    corners = [(50, 40), (60, 45)]
    rectangle = read_mask(labelme(tmp_path / "r.json", shape(corners, "rectangle")), frame)
    square = read_mask(labelme(tmp_path / "p.json", shape([(50, 40), (60, 40), (60, 45), (50, 45)])), frame)
    expected = np.zeros(STORED, bool)
    expected[40:45, 50:60] = True
    np.testing.assert_array_equal(rectangle, cut(expected))
    np.testing.assert_array_equal(square, cut(expected))
    circle = read_mask(labelme(tmp_path / "c.json", shape([(85, 55), (85, 75)], "circle")), frame)
    assert circle.sum() == pytest.approx(np.pi * 20**2, rel=0.01)


def test_outlines_of_one_label_join_and_others_do_not_take_from_it(tmp_path: Path, frame: Frame) -> None:
    first, second = shape([(50, 40), (60, 45)], "rectangle"), shape([(55, 40), (70, 45)], "rectangle")
    other = shape([(50, 40), (99, 80)], "rectangle", "VI")
    line = shape([(50, 40), (99, 80)], "line", "thickness")
    assert read_mask(labelme(tmp_path / "m.json", first, second, line), frame).sum() == 20 * 5
    path = labelme(tmp_path / "m.json", first, second, other)
    assert refusal(path, frame)[0] == "several-labels"
    assert read_mask(path, frame, label="RF").sum() == 20 * 5


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"shapes": []}, "labelme"),
        ({"shapes": [], "imageHeight": 10**6, "imageWidth": 10**6}, "labelme"),
        ({"shapes": [], "imageHeight": 120, "imageWidth": 160}, "empty-mask"),
        ({"shapes": [shape([(1, 2)])], "imageHeight": 120, "imageWidth": 160}, "labelme"),
        ({"shapes": [shape([(1, 2), (3, 4), (5, float("nan"))])], "imageHeight": 120, "imageWidth": 160}, "labelme"),
        ({"shapes": [shape([(1, 2)], "mask")], "imageHeight": 120, "imageWidth": 160}, "labelme"),
        ({"shapes": [7], "imageHeight": 120, "imageWidth": 160}, "mask-file"),
    ],
)
def test_labelme_without_an_outline_is_refused(tmp_path: Path, frame: Frame, content: Any, rule: str) -> None:
    path = tmp_path / "mask.json"
    path.write_text(json.dumps(content))
    assert refusal(path, frame)[0] == rule


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_empty_masks_are_refused(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    assert refusal(volume(muscle * 0, tmp_path / "mask.mha"), frame)[0] == "empty-mask"


def test_another_size_is_refused_and_a_transposed_one_explained(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    rule, text = refusal(volume(muscle[:-1], tmp_path / "small.nrrd"), frame)
    assert rule == "mask-size"
    assert "119 x 160 pixels" in text
    assert "70 x 110 or 120 x 160" in text
    assert "exchanged" in refusal(volume(np.ascontiguousarray(muscle.T), tmp_path / "turned.nii"), frame)[1]


def test_several_slices_and_colours_are_refused(tmp_path: Path, frame: Frame, muscle: Any) -> None:
    rule, text = refusal(volume(np.stack([muscle, muscle]), tmp_path / "mask.nii.gz"), frame)
    assert rule == "mask-slices"
    assert "160 x 120 x 2" in text
    image: Any = sitk.GetImageFromArray(np.stack([muscle] * 3, axis=-1), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "rgb.nrrd"))
    assert refusal(tmp_path / "rgb.nrrd", frame)[0] == "mask-size"


@pytest.mark.parametrize("suffix", VOLUMES)
def test_another_spacing_is_refused_and_the_default_says_nothing(
    tmp_path: Path, frame: Frame, muscle: Any, suffix: str
) -> None:
    path = tmp_path / f"mask.{suffix}"
    for spacing in [(1.0, 1.0), (0.2, 0.1), (0.208, 0.096)]:
        assert read_mask(volume(muscle, path, spacing), frame).any()
    rule, text = refusal(volume(muscle, path, (0.1, 0.2)), frame)
    assert rule == "mask-spacing"
    assert "0.2 x 0.1 mm" in text
    unknown = Frame(frame.pixels, None, "", frame.origin, STORED)
    assert read_mask(path, unknown).any()


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.nrrd", "m.mha", "m.gipl", "m.png", "m.json", "m.txt"])
def test_damaged_and_missing_files_are_refused(tmp_path: Path, frame: Frame, muscle: Any, name: str) -> None:
    path = tmp_path / name
    assert refusal(path, frame)[0] == "mask-file"
    path.write_bytes(b"not a mask at all")
    assert refusal(path, frame)[0] == "mask-file"


@pytest.mark.parametrize("suffix", [*VOLUMES, "gipl.gz", "png", "packed nrrd", "packed mha"])
@pytest.mark.parametrize("missing", [40, 0.5])
def test_a_mask_cut_off_anywhere_is_refused(
    tmp_path: Path, frame: Frame, muscle: Any, suffix: str, missing: float
) -> None:
    packed, suffix = suffix.startswith("packed"), suffix.removeprefix("packed ")
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    if suffix == "png":
        Image.fromarray(muscle).save(whole)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(muscle), str(whole), packed)
    content = whole.read_bytes()
    path.write_bytes(content[: -int(missing if missing > 1 else missing * len(content))])
    assert refusal(path, frame)[0] == "mask-file"
