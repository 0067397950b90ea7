"""Two muscles in one picture lie side by side, and the truth of each is what its mask shows."""

import numpy as np
import pytest

from simulation.anatomy import Pair, Subject
from simulation.devices import DEVICES
from simulation.phantom import Image, preview, render

BICEPS = Subject("biceps_brachii", 21, 36, 5, 0.25, 0.3, 7)
TRICEPS = Subject("triceps_brachii", 20, 36, 5, 0.25, 0.3, 7)
RECTUS = Subject("rectus_abdominis", 8, 48, 12, 0.25, 0.3, 8)
ARM, MIDLINE = Pair(BICEPS, TRICEPS, 1.8), Pair(RECTUS, RECTUS, 8.0)


def draw(pair: Pair, seed: int = 0, device: str = "aixplorer", width_px: int = 224) -> Image:
    return render(pair, np.random.default_rng(seed), device=device, width_px=width_px)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pair", [ARM, MIDLINE], ids=["arm", "midline"])
def test_the_masks_lie_side_by_side_and_have_the_true_areas(pair: Pair, device: str) -> None:
    for seed in range(3):
        image = draw(pair, seed, device)
        left, right = image.mask, image.second_mask
        assert right is not None
        assert image.second is not None
        assert np.flatnonzero(left.any(axis=0)).max() < np.flatnonzero(right.any(axis=0)).min()
        for mask, truth in ((left, image.truth), (right, image.second)):
            assert mask.sum() * image.mm_per_pixel**2 / 100 == pytest.approx(truth.csa_cm2, rel=0.02)


def test_neither_muscle_of_the_arm_is_seen_whole() -> None:
    for seed in range(6):
        image = draw(ARM, seed)
        assert image.mask[:, 0].any()
        assert image.second_mask is not None
        assert image.second_mask[:, -1].any()
        assert image.truth.width_mm < 0.75 * BICEPS.width_mm


def test_the_gap_between_the_recti_is_as_wide_as_said() -> None:
    gaps = []
    for seed in range(8):
        image = draw(MIDLINE, seed)
        assert image.second_mask is not None
        covered = (image.mask | image.second_mask).any(axis=0)
        inner = np.flatnonzero(covered)
        gaps.append((~covered[inner[0] : inner[-1]]).sum() * image.mm_per_pixel)
    assert np.mean(gaps) == pytest.approx(8.0, abs=0.8)


def test_preview_tells_the_truth_of_a_pair() -> None:
    image = draw(ARM, 3)
    assert preview(ARM, np.random.default_rng(3)) == image.preview
    assert image.preview.second == image.second != image.truth


def test_the_septum_is_brighter_than_the_muscles_beside_it() -> None:
    """Between the muscles runs a bright line from the fascia down; its place is known only from the masks."""
    between, beside = [], []
    for seed in range(12):
        image = draw(ARM, seed)
        assert image.second_mask is not None
        left, right = (np.flatnonzero(m.any(axis=0)) for m in (image.mask, image.second_mask))
        rows = np.flatnonzero(image.mask.any(axis=1))
        belly = slice(int(np.quantile(rows, 0.25)), int(np.quantile(rows, 0.55)))
        middle = (left.max() + right.min()) // 2
        between.append(image.pixels[belly, middle - 6 : middle + 7].max(axis=1).mean())
        beside.append(image.pixels[belly, left.max() - 40 : left.max() - 27].max(axis=1).mean())
    assert np.mean(between) > np.mean(beside) + 8


def test_a_single_muscle_has_no_second() -> None:
    image = render(BICEPS, np.random.default_rng(0), width_px=64)
    assert image.second is None
    assert image.second_mask is None
