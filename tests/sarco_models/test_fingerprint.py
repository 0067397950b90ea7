"""Hospitals' sums make the plan that all their images together make; the plan follows nnU-Net's rules."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sarco_models.config import ImageConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.fingerprint import (
    FINGERPRINT,
    FULL,
    SMALL,
    Budget,
    features_of,
    plan_of,
    planned_image,
)
from sarco_models.fingerprint_facts import image_facts, person_facts, summed, summed_columns
from sarco_models.frames import Frame
from sarco_models.schema import design_columns
from sarco_models.segmentation import OUTSIDE
from sarco_models.summaries import Moments
from tests.muscle_sites import muscle_study
from tests.sites import tables_study

_STEPS = 1 << 20
LOW, HIGH = (np.array([getattr(c, side) for c in FINGERPRINT]) for side in ("low", "high"))


def frame(pixels: NDArray[np.uint8], mm: tuple[float, float] | None = (0.2, 0.2)) -> Frame:
    return Frame(pixels, mm, "device", (0, 0), (pixels.shape[0], pixels.shape[1]))


def fingerprint(frames: list[Frame], classes: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """One participant's numbers."""
    return person_facts(np.array([image_facts(f, c) for f, c in zip(frames, classes, strict=True)]))


def moments_of(rows: list[list[float]]) -> Moments:
    """Sums of fingerprints, as a hospital's tables are summed."""
    values = (np.array(rows, dtype=np.float64) - LOW) / (HIGH - LOW) * _STEPS
    there = ~np.isnan(values)
    fixed = np.where(there, np.rint(values), 0).astype(np.int64)
    nobody = np.full(len(FINGERPRINT), _STEPS + 1)
    return Moments(there.sum(0), fixed.sum(0), (fixed**2).sum(0), nobody, nobody * 0 - 1)


def people(count: int, seed: int = 0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    return [
        [rng.normal(46, 5), rng.normal(40, 2), rng.uniform(0.15, 0.2), rng.normal(60, 8), rng.normal(30, 3)]
        for _ in range(count)
    ]


# ---- fingerprint -----------------------------------------------------------------------------------------------------


def test_a_person_is_the_mean_over_images_of_sides_pixel_size_and_grey_levels_in_muscles() -> None:
    bright, dark = np.full((100, 200), 90, np.uint8), np.full((60, 80), 50, np.uint8)
    bright[:10] = 255
    classes = [np.zeros((100, 200), np.uint8), np.ones((60, 80), np.uint8)]
    classes[0][20:40] = 2
    classes[0][:10] = OUTSIDE
    found = fingerprint([frame(bright, (0.2, 0.2)), frame(dark, (0.5, 0.125))], classes)
    np.testing.assert_allclose(found, [(20 + 30) / 2, (40 + 10) / 2, (0.2 + 0.25) / 2, 70, 20])


def test_the_deviation_is_of_all_pixels_of_muscles_together() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 40), dtype=np.uint8) for _ in range(3)]
    found = fingerprint([frame(p) for p in pictures], [np.ones((40, 40), np.uint8)] * 3)
    assert found[3] == pytest.approx(np.mean(pictures))
    assert found[4] == pytest.approx(np.std(pictures))


def test_what_nobody_knows_is_missing_and_not_zero() -> None:
    empty = [np.zeros((50, 50), np.uint8)]
    np.testing.assert_array_equal(
        np.isnan(fingerprint([frame(np.zeros((50, 50), np.uint8), None)], empty)), [True] * len(FINGERPRINT)
    )
    half = fingerprint([frame(np.zeros((50, 50), np.uint8))], empty)
    np.testing.assert_array_equal(np.isnan(half), [False, False, False, True, True])


def test_a_number_beyond_the_limits_counts_as_the_limit() -> None:
    """What one participant adds to a sum is bounded, whatever a header says."""
    found = fingerprint([frame(np.zeros((100, 100), np.uint8), (9.0, 0.001))], [np.ones((100, 100), np.uint8)])
    assert found[0] == FINGERPRINT[0].high
    assert found[1] == FINGERPRINT[1].low


# ---- plan ------------------------------------------------------------------------------------------------------------


def test_hospitals_sums_make_the_plan_of_all_their_people() -> None:
    everybody = people(90)
    sites = [moments_of(everybody[:20]), moments_of(everybody[20:25]), moments_of(everybody[25:])]
    assert plan_of(sites[2] + sites[0] + sites[1]) == plan_of(moments_of(everybody))


def test_the_patch_shows_the_whole_region_of_nearly_everybody() -> None:
    everybody = np.array(people(2000))
    plan = plan_of(moments_of(everybody.tolist()))
    side_mm = plan.patch[0] * plan.mm_per_pixel
    assert 0.97 < np.mean(everybody[:, :2].max(axis=1) <= side_mm) < 1
    assert plan.patch == (128, 128)


def test_grey_levels_are_of_all_pixels_of_all_hospitals() -> None:
    """Two people of 40 and 80 with 30 in each: the deviation of all is the root of 30 squared and 20 squared."""
    rows = [[46.0, 40.0, 0.2, mean, 30.0] for mean in (40.0, 80.0)]
    plan = plan_of(moments_of(rows))
    assert plan.grey_mean == pytest.approx(60, abs=0.01)
    assert plan.grey_sd == pytest.approx(np.hypot(30, 20), abs=0.01)


def test_pixels_are_those_of_the_images_where_the_budget_allows() -> None:
    moments = moments_of(people(500))
    small, large = plan_of(moments, SMALL), plan_of(moments, FULL)
    assert small.patch[0] * small.mm_per_pixel == pytest.approx(large.patch[0] * large.mm_per_pixel, abs=0.05)
    assert large.patch == (320, 320)  # 56 mm at 0.175 in the middle, in whole steps of 32
    assert large.mm_per_pixel == pytest.approx(0.175, rel=0.1)


@pytest.mark.parametrize(("wanted", "side", "stages"), [(280, 320, 7), (250, 256, 7), (450, 512, 8), (90, 96, 5)])
def test_the_patch_is_padded_so_that_it_can_be_halved_as_in_nnunet(wanted: int, side: int, stages: int) -> None:
    """network_topology.get_pool_and_conv_props of nnU-Net 2: 280 pixels are halved six times, so they become 320."""
    mm = 45 / wanted
    plan = plan_of(moments_of([[45.0, 40.0, mm, 60.0, 30.0]] * 3), FULL)
    assert plan.patch == (side, side)
    assert len(plan.features) == stages


def test_plans_of_few_or_noised_sums_are_plans() -> None:
    """A variance that noise has made 0, or as large as the range allows."""
    one = moments_of([[30.0, 30.0, 0.5, 3.0, 0.0]])
    assert plan_of(one).grey_sd == 1
    widest = moments_of([list(LOW), list(HIGH)])
    coarsest = plan_of(widest, Budget(32, 0.1))
    assert coarsest.patch == (64, 64)
    assert coarsest.mm_per_pixel <= 2
    assert planned_image(coarsest, ImageConfig()).window_mm == pytest.approx(120, abs=0.1)


def test_nothing_can_be_planned_where_nobody_knows_millimetres_or_muscles() -> None:
    with pytest.raises(
        UndefinedMetric, match=r"region_height_mm .*no image says its mm per pixel at any hospital that tells"
    ):
        plan_of(moments_of([[np.nan, np.nan, np.nan, 60.0, 30.0]]))
    with pytest.raises(
        UndefinedMetric, match=r"grey_mean .*no image is drawn on at any hospital that tells.*give the images"
    ):
        plan_of(moments_of([[40.0, 40.0, 0.2, np.nan, np.nan]]))


def test_a_person_without_images_says_nothing() -> None:
    assert np.isnan(person_facts(np.empty((0, len(FINGERPRINT))))).all()


def test_sums_are_of_the_fingerprint_until_there_is_a_plan_and_of_the_tables_after() -> None:
    draft = muscle_study(segmentation={"network": "nnunet"})
    assert summed_columns(draft) == FINGERPRINT
    assert summed(draft).all()
    assert summed_columns(muscle_study()) == ()
    assert [c.name for c, used in zip(summed_columns(tables_study()), summed(tables_study()), strict=True) if used] == [
        c.name for c in design_columns(tables_study().inputs)
    ]


def test_sums_of_something_else_are_no_fingerprint() -> None:
    of_two = np.ones(2, dtype=np.int64)
    with pytest.raises(ValueError, match="moments of 2 columns; a fingerprint has 5"):
        plan_of(Moments(of_two, of_two, of_two, of_two, of_two))


@pytest.mark.parametrize(
    ("side", "width", "features"),
    [
        (256, 1.0, (32, 64, 128, 256, 512, 512, 512)),  # as nnU-Net plans for 256 x 256
        (512, 1.0, (32, 64, 128, 256, 512, 512, 512, 512)),
        (128, 0.25, (8, 16, 32, 64, 128, 128)),
        (96, 0.25, (8, 16, 32, 64, 128)),
        (64, 0.1, (8, 8, 16, 24, 48)),
    ],
)
def test_features_double_while_the_patch_can_be_halved(side: int, width: float, features: tuple[int, ...]) -> None:
    assert features_of(side, width) == features


def test_the_study_shows_the_network_what_was_planned() -> None:
    plan = plan_of(moments_of(people(50)))
    image = planned_image(plan, ImageConfig(framing="paper", size=224))
    assert (image.size, image.framing, image.roi) == (plan.patch[0], "physical", "none")
    assert image.window_mm / image.size == pytest.approx(plan.mm_per_pixel, abs=0.001)
