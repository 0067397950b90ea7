"""Size in millimetres survives, what lies outside the muscle does not, and chance is an argument."""

import json
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.config import AugmentationConfig, ImageConfig
from sarco_models.errors import MissingSpacing
from sarco_models.images import Frame
from sarco_models.preprocess import augmentation, dilated, model_input

SIZE = 96
NOTHING: dict[str, Any] = {
    "horizontal_flip": 0, "vertical_flip": 0, "shift": 0, "scale": 0, "rotate_degrees": 0,
    "brightness": 0, "contrast": 0,
}  # fmt: skip


def config(**changes: Any) -> ImageConfig:
    return ImageConfig.model_validate_json(json.dumps({"size": SIZE, "window_mm": 48.0, "margin_mm": 0.0} | changes))


def changes(**some: Any) -> AugmentationConfig:
    return AugmentationConfig.model_validate_json(json.dumps(NOTHING | some))


def frame_of(pixels: NDArray[np.uint8], mm_per_pixel: tuple[float, float] | None) -> Frame:
    return Frame(pixels, mm_per_pixel, "", (0, 0), (pixels.shape[0], pixels.shape[1]))


def drawn(
    mm: tuple[float, float], *, height_mm: float = 12.0, width_mm: float = 30.0
) -> tuple[Frame, NDArray[np.bool_]]:
    """A bright rectangle of known millimetres on a frame of 60 x 80 mm, and its mask."""
    (down, across), (rows, columns) = mm, (round(60 / mm[0]), round(80 / mm[1]))
    mask = np.zeros((rows, columns), dtype=np.bool_)
    top, left = round(20 / down), round(25 / across)
    mask[top : top + round(height_mm / down), left : left + round(width_mm / across)] = True
    return frame_of(np.where(mask, np.uint8(200), np.uint8(40)), mm), mask


def extent(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """(rows, columns) of what is bright."""
    bright = pixels > 100
    return int(bright.any(axis=1).sum()), int(bright.any(axis=0).sum())


# ---- the physical window ---------------------------------------------------------------------------------------------

SPACINGS = [(0.05, 0.05), (0.1, 0.1), (0.173, 0.173), (0.3, 0.3), (0.5, 0.5), (0.6, 0.6), (0.1, 0.2), (0.25, 0.08)]


@pytest.mark.parametrize("mm", SPACINGS)
def test_a_rectangle_of_known_size_has_that_size_whatever_the_device(mm: tuple[float, float]) -> None:
    """48 mm on 96 pixels: 12 x 30 mm are 24 x 60 pixels, at every depth setting and with anisotropic pixels."""
    frame, mask = drawn(mm)
    rows, columns = extent(model_input(frame, mask, config()))
    # The drawing itself is only true to half a stored pixel on either side.
    assert abs(rows - 24) <= 1 + mm[0] / 0.5
    assert abs(columns - 60) <= 1 + mm[1] / 0.5


@pytest.mark.parametrize("mm", [(0.1, 0.1), (0.25, 0.25), (0.1, 0.25)])
def test_two_settings_of_one_scanner_give_the_same_picture(mm: tuple[float, float]) -> None:
    one, other = drawn((0.125, 0.125)), drawn(mm)
    a, b = model_input(*one, config()).astype(int), model_input(*other, config()).astype(int)
    inside = (a > 100) & (b > 100)
    assert inside.sum() >= 0.95 * max((a > 100).sum(), (b > 100).sum())


@pytest.mark.parametrize("framing", ["letterbox", "paper"])
def test_other_framings_lose_the_size(framing: str) -> None:
    """SCIENCE section 5, pitfall 20: why the physical window is the default."""
    frame, mask = drawn((0.2, 0.2), height_mm=12, width_mm=30)
    twice = frame_of(frame.pixels, (0.4, 0.4))  # the same stored pixels of a muscle twice as large
    view = config(framing=framing)
    np.testing.assert_array_equal(model_input(frame, mask, view), model_input(twice, mask, view))
    assert [extent(model_input(f, mask, config())) for f in (frame, twice)] == [(24, 60), (48, 96)]


def test_the_muscle_lies_in_the_middle_wherever_it_was_in_the_frame() -> None:
    """Also where the window reaches over the frame's border: beyond it, it is black."""
    views = []
    for top, left in ((0, 0), (40, 60), (80, 130)):
        mask = np.zeros((100, 160), dtype=np.bool_)
        mask[top : top + 20, left : left + 30] = True
        views.append(model_input(frame_of(np.where(mask, np.uint8(200), np.uint8(40)), (0.5, 0.5)), mask, config()))
    for view in views:
        np.testing.assert_array_equal(view, views[0])
    rows, columns = np.nonzero(views[0])
    assert abs(rows.mean() - (SIZE - 1) / 2) <= 1
    assert abs(columns.mean() - (SIZE - 1) / 2) <= 1


def test_without_a_mask_the_window_is_around_the_whole_region() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (96, 96), dtype=np.uint8)
    np.testing.assert_array_equal(model_input(frame_of(pixels, (0.5, 0.5)), None, config(roi="none")), pixels)


def test_a_frame_of_unknown_spacing_is_refused_and_nothing_assumed() -> None:
    mask = np.ones((20, 20), dtype=np.bool_)
    with pytest.raises(MissingSpacing) as error:
        model_input(frame_of(np.zeros((20, 20), np.uint8), None), mask, config(), "images/a.png")
    (finding,) = error.value.findings
    assert finding.file == "images/a.png"
    assert "calibration.csv" in finding.remedy


@pytest.mark.parametrize("mm", [(0.00001, 0.00001), (0.1, 75.0)])
@pytest.mark.parametrize("framing", ["physical", "letterbox", "paper"])
def test_a_spacing_in_another_unit_is_refused_with_its_value(mm: tuple[float, float], framing: str) -> None:
    """Metres instead of millimetres would ask for a window of terabytes."""
    mask = np.ones((20, 20), dtype=np.bool_)
    with pytest.raises(MissingSpacing, match=f"{mm[0]:g} x {mm[1]:g} mm per pixel; expected 0.005 to 2 mm"):
        model_input(frame_of(np.zeros((20, 20), np.uint8), mm), mask, config(framing=framing), "a.png")


# ---- the other framings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height_mm", "width_mm"), [(10.0, 30.0), (30.0, 10.0), (20.0, 20.0)])
def test_letterbox_keeps_the_aspect_and_fills_the_longer_side(height_mm: float, width_mm: float) -> None:
    frame, mask = drawn((0.25, 0.25), height_mm=height_mm, width_mm=width_mm)
    rows, columns = extent(model_input(frame, mask, config(framing="letterbox", margin_fraction=0.0)))
    assert max(rows, columns) == SIZE
    assert abs(rows / columns - height_mm / width_mm) <= 2 / SIZE


def test_letterbox_leaves_its_margin_around_the_muscle() -> None:
    frame, mask = drawn((0.25, 0.25), height_mm=20, width_mm=20)
    view = model_input(frame, mask, config(framing="letterbox", margin_fraction=0.25, roi="none"))
    rows, columns = extent(view)
    assert abs(rows - SIZE / 1.5) <= 2
    assert abs(columns - SIZE / 1.5) <= 2
    assert view.min() == 40


def test_paper_framing_is_a_plain_resize_of_the_region() -> None:
    """Chen et al. 2025: everything to one square, whatever the aspect; twice as tall is averaged by two."""
    pixels = np.random.default_rng(0).integers(0, 256, (2 * SIZE, SIZE), dtype=np.uint8)
    view = model_input(frame_of(pixels, None), None, config(framing="paper", roi="none"))
    pairs = pixels.reshape(SIZE, 2, SIZE).mean(axis=1)
    assert np.abs(view - pairs).max() <= 0.5


@pytest.mark.parametrize("framing", ["physical", "letterbox", "paper"])
@pytest.mark.parametrize("roi", ["mask", "none"])
def test_the_view_is_a_square_of_grey_values(framing: str, roi: str) -> None:
    frame, mask = drawn((0.3, 0.2))
    view = model_input(frame, mask, config(framing=framing, roi=roi))
    assert (view.shape, view.dtype) == ((SIZE, SIZE), np.dtype(np.uint8))
    assert view.max() == 200  # a resize neither brightens nor overshoots


@pytest.mark.parametrize("framing", ["physical", "letterbox", "paper"])
def test_a_frame_of_one_grey_value_keeps_it(framing: str) -> None:
    """Values are grey levels, not rescaled per image: echo intensity stays comparable."""
    mask = np.ones((200, 200), dtype=np.bool_)
    view = model_input(frame_of(np.full((200, 200), 77, np.uint8), (0.3, 0.3)), mask, config(framing=framing))
    assert np.unique(view).tolist() == [77]


# ---- the mask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["physical", "letterbox", "paper"])
def test_what_lies_outside_the_muscle_and_its_margin_never_changes_the_view(framing: str) -> None:
    """SCIENCE section 5, pitfall 20: a banner or ruler beside the muscle is not seen."""
    frame, mask = drawn((0.25, 0.25))
    margin = round(2 / 0.25)
    rows, columns = np.nonzero(mask)
    far = np.ones_like(mask)
    far[rows.min() - margin : rows.max() + margin + 1, columns.min() - margin : columns.max() + margin + 1] = False
    noise = np.random.default_rng(0).integers(0, 256, mask.shape, dtype=np.uint8)
    banner = frame_of(np.where(far, noise, frame.pixels), frame.mm_per_pixel)
    view = config(framing=framing, margin_mm=2.0)
    np.testing.assert_array_equal(model_input(banner, mask, view), model_input(frame, mask, view))


def test_the_margin_is_in_millimetres_along_both_axes() -> None:
    """The fascia around the muscle is seen: 2 mm are 4 pixels of the view on each side, also of anisotropic pixels."""
    frame, mask = drawn((0.25, 0.125))
    bright = frame_of(np.full(mask.shape, 200, np.uint8), frame.mm_per_pixel)
    rows, columns = extent(model_input(bright, mask, config(margin_mm=2.0)))
    assert abs(rows - (24 + 8)) <= 1
    assert abs(columns - (60 + 8)) <= 1


@pytest.mark.parametrize("share", [0.01, 0.3, 0.95])
@pytest.mark.parametrize("reach", [(1, 1), (5, 5), (2, 9), (12, 3), (40, 60)])
def test_dilation_is_that_of_opencv_to_the_pixel(share: float, reach: tuple[int, int]) -> None:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach[1] + 1, 2 * reach[0] + 1))
    rng = np.random.default_rng(1)
    for shape in ((40, 60), (1, 50), (50, 1)):
        mask = rng.random(shape) < share
        mask.flat[0] = True
        assert (dilated(mask, reach) == cv2.dilate(mask.astype(np.uint8), kernel).astype(np.bool_)).all()


def test_the_margin_ends_at_the_border_and_leaves_no_trace_beyond() -> None:
    """A muscle in the corner: what lies outside the frame is neither read nor wrapped around."""
    mask = np.zeros((120, 160), dtype=np.bool_)
    mask[:20, -30:] = True
    bright = Frame(np.full(mask.shape, 200, np.uint8), (0.25, 0.25), "", (0, 0), mask.shape)
    view = model_input(bright, mask, config(margin_mm=2.0, framing="paper", size=160)) > 100
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17))
    expected = cv2.dilate(mask.astype(np.uint8), kernel).sum() * 160 / 120
    assert view.sum() == pytest.approx(expected, rel=0.02)
    assert not view[:, :110].any()


def test_without_spacing_the_margin_is_a_fraction_of_the_muscle() -> None:
    mask = np.zeros((100, 200), dtype=np.bool_)
    mask[40:60, 50:150] = True
    view = config(framing="paper", margin_mm=2.0, margin_fraction=0.1, size=100)
    seen = model_input(frame_of(np.full(mask.shape, 200, np.uint8), None), mask, view)
    assert abs((seen > 100).any(axis=1).sum() - 24) <= 1
    assert abs((seen > 100).any(axis=0).sum() - 60) <= 1


def test_the_frame_is_not_changed() -> None:
    frame, mask = drawn((0.25, 0.25))
    pixels, before = frame.pixels.copy(), mask.copy()
    model_input(frame, mask, config(margin_mm=2.0))
    np.testing.assert_array_equal(frame.pixels, pixels)
    np.testing.assert_array_equal(mask, before)


# ---- augmentation ----------------------------------------------------------------------------------------------------


@pytest.fixture
def view() -> NDArray[np.uint8]:
    pixels = np.random.default_rng(5).integers(30, 200, (64, 64), dtype=np.uint8)
    pixels[10:20, 30:60] = 220
    return pixels


def test_the_same_state_of_the_generator_gives_the_same_image(view: NDArray[np.uint8]) -> None:
    augment, again = augmentation(AugmentationConfig()), augmentation(AugmentationConfig())
    one = [augment(view, rng) for rng in [np.random.default_rng(7)] for _ in range(4)]
    two = [again(view, rng) for rng in [np.random.default_rng(7)] for _ in range(4)]
    np.testing.assert_array_equal(one, two)
    assert len({image.tobytes() for image in one}) == 4


def test_augmentation_leaves_global_random_states_alone(view: NDArray[np.uint8]) -> None:
    state = np.random.get_state()  # noqa: NPY002 - it is the global one that is looked at
    augmentation(AugmentationConfig())(view, np.random.default_rng(7))
    assert str(np.random.get_state()) == str(state)  # noqa: NPY002


def test_augmentation_of_nothing_is_the_identity(view: NDArray[np.uint8]) -> None:
    augment, rng = augmentation(changes()), np.random.default_rng(0)
    assert all(np.array_equal(augment(view, rng), view) for _ in range(5))


def test_a_sure_flip_is_the_mirror_image(view: NDArray[np.uint8]) -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(augmentation(changes(horizontal_flip=1))(view, rng), view[:, ::-1])
    np.testing.assert_array_equal(augmentation(changes(vertical_flip=1))(view, rng), view[::-1])


def test_half_of_the_images_are_flipped(view: NDArray[np.uint8]) -> None:
    augment, rng = augmentation(changes(horizontal_flip=0.5)), np.random.default_rng(0)
    flipped = [not np.array_equal(augment(view, rng), view) for _ in range(200)]
    assert 70 <= sum(flipped) <= 130


@pytest.mark.parametrize(
    "some", [{"shift": 0.1}, {"scale": 0.1}, {"rotate_degrees": 10.0}, {"brightness": 0.2}, {"contrast": 0.2}]
)
def test_each_kind_of_change_changes_the_image_and_keeps_its_form(
    view: NDArray[np.uint8], some: dict[str, Any]
) -> None:
    image = augmentation(changes(**some))(view, np.random.default_rng(1))
    assert not np.array_equal(image, view)
    assert (image.shape, image.dtype) == (view.shape, view.dtype)


def test_shift_and_scale_stay_within_their_limits() -> None:
    """A block of 20 x 20 in the middle of 100 x 100: at most 10 pixels away, 10 % larger or smaller."""
    block = np.zeros((100, 100), np.uint8)
    block[40:60, 40:60] = 200
    move, zoom = augmentation(changes(shift=0.1)), augmentation(changes(scale=0.1))
    rng = np.random.default_rng(3)
    for _ in range(50):
        rows, columns = np.nonzero(move(block, rng) > 100)
        assert abs(rows.mean() - 49.5) <= 10.5
        assert abs(columns.mean() - 49.5) <= 10.5
        assert all(18 <= side <= 22 for side in extent(zoom(block, rng)))


def test_scaling_keeps_the_aspect() -> None:
    """Thickness against width is what the eye goes by: the muscle is never squeezed along one axis alone."""
    block = np.zeros((200, 200), np.uint8)
    block[20:180, 20:180] = 200
    zoom, rng = augmentation(changes(scale=0.1)), np.random.default_rng(3)
    sides = [extent(zoom(block, rng)) for _ in range(40)]
    assert max(abs(rows - columns) for rows, columns in sides) <= 1
    assert max(rows for rows, _ in sides) - min(rows for rows, _ in sides) >= 15
