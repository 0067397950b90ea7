"""Pictures obey the physics they are drawn by, and their truth is what is seen in them."""

import numpy as np
import pytest

from simulation.anatomy import MUSCLES
from simulation.devices import DEVICES
from simulation.phantom import Image, Subject, preview, random_subject, render
from simulation.speckle import BeamGrid, speckle_bank

SMALL = 96  # pixels; quick to draw


def draw(subject: Subject, seed: int = 0, device: str = "aixplorer", width_px: int = 224) -> Image:
    return render(subject, np.random.default_rng(seed), device=device, width_px=width_px)


def mean_echo_intensity(subject: Subject, device: str = "aixplorer") -> float:
    return float(np.mean([draw(subject, seed, device, SMALL).echo_intensity for seed in range(24)]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("muscle", MUSCLES)
def test_pictures_have_square_pixels_and_a_muscle(device: str, muscle: str) -> None:
    image = draw(random_subject(np.random.default_rng(4), muscle), 4, device)
    height, width = image.pixels.shape
    assert image.mask.shape == image.pixels.shape
    assert (image.pixels.dtype, image.mask.dtype, width) == (np.uint8, np.bool_, 224)
    assert image.mm_per_pixel * width == pytest.approx(DEVICES[device].width_mm)
    assert image.mm_per_pixel * height == pytest.approx(image.depth_mm, abs=image.mm_per_pixel)
    assert image.mask.any()
    assert not image.mask.all()


def test_equal_generators_give_equal_pictures_and_others_do_not() -> None:
    subject = Subject()
    assert np.array_equal(draw(subject, 1).pixels, draw(subject, 1).pixels)
    assert not np.array_equal(draw(subject, 1).pixels, draw(subject, 2).pixels)


def test_pictures_do_not_depend_on_those_drawn_before() -> None:
    first = draw(Subject(), 5)
    draw(Subject(thickness_mm=9), 6, "samsung_r10")
    assert np.array_equal(draw(Subject(), 5).pixels, first.pixels)


def test_preview_tells_the_truth_of_the_picture() -> None:
    for seed, device in enumerate(DEVICES):
        image = draw(Subject(), seed, device)
        assert preview(Subject(), np.random.default_rng(seed), device=device) == image.preview


def test_speckle_is_rayleigh_before_compounding() -> None:
    """Signal to noise of a Rayleigh envelope is sqrt(pi / (4 - pi)) = 1.91 (Burckhardt 1978)."""
    bank, rng = speckle_bank(DEVICES["aixplorer"], BeamGrid(96, 240, 0.4, 0.12)), np.random.default_rng(0)
    envelope = np.sqrt(np.stack([bank.power(rng, 240) for _ in range(24)]))
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)


@pytest.mark.parametrize("device", DEVICES)
def test_mask_area_is_the_cross_section(device: str) -> None:
    for seed in range(8):
        image = draw(random_subject(np.random.default_rng(seed)), seed, device)
        assert image.mask.sum() * image.mm_per_pixel**2 / 100 == pytest.approx(image.truth.csa_cm2, rel=0.01)


def test_thickest_column_of_the_mask_is_the_thickness() -> None:
    for seed in range(8):
        image = draw(Subject(thickness_mm=15), seed)
        thickest = image.mask.sum(axis=0).max() * image.mm_per_pixel
        assert thickest == pytest.approx(image.truth.thickness_mm, abs=1.0)


def test_infiltration_raises_echo_intensity() -> None:
    levels = [mean_echo_intensity(Subject(infiltration=share)) for share in (0.1, 0.4, 0.7)]
    assert levels[0] + 5 < levels[1] < levels[2] - 5


def test_thicker_fat_lowers_echo_intensity() -> None:
    assert mean_echo_intensity(Subject(fat_mm=18)) < mean_echo_intensity(Subject(fat_mm=3)) - 4


def test_the_same_tissue_looks_different_on_another_device() -> None:
    assert mean_echo_intensity(Subject(), "mindray_mx7") > mean_echo_intensity(Subject(), "aixplorer") + 5


def test_bone_casts_a_shadow() -> None:
    """Below the middle of the femur it is darker than beside it at the same depth."""
    under, beside = [], []
    for seed in range(12):
        image = draw(Subject(deep_mm=8, fat_mm=4), seed)
        rows = image.pixels[-12:].mean(axis=0)
        under.append(np.sort(rows)[:30].mean())
        beside.append(np.median(np.concatenate([rows[8:30], rows[-30:-8]])))
    assert np.mean(under) < 0.5 * np.mean(beside)


@pytest.mark.parametrize("width_px", [48, 96, 224, 512])
def test_any_width_shows_the_same_anatomy(width_px: int) -> None:
    image = draw(Subject(), 3, width_px=width_px)
    assert image.mask.sum() * image.mm_per_pixel**2 / 100 == pytest.approx(image.truth.csa_cm2, rel=0.03)
    assert image.pixels.shape[1] == width_px


def test_random_subjects_span_the_range_of_the_muscle() -> None:
    rng = np.random.default_rng(0)
    thickness = [random_subject(rng).thickness_mm for _ in range(400)]
    low, high = MUSCLES["rectus_femoris"].thickness_mm
    assert low < min(thickness) < low + 1
    assert high - 1 < max(thickness) < high
