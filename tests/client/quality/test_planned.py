"""A hospital whose images the agreed plan does not fit learns it from its own data check."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.quality.check import check_site
from client.quality.planned import planned_findings
from client.quality.records import ImageRecord
from sarco_models.image_list import ImageRow
from tests.muscle_sites import muscle_site, muscle_study

PLAN = {"patch": [64, 64], "mm_per_pixel": 0.75, "features": [8, 16, 32, 64, 64], "grey_mean": 60.0, "grey_sd": 30.0}
IMAGE = {"size": 64, "framing": "physical", "window_mm": 48.0}
PLANNED = muscle_study(segmentation={"network": "nnunet", "plan": PLAN}, image=IMAGE)
FITTING = ImageRecord(ImageRow(2, "a.png", "P1", "a.json"), (), shape=(200, 240), mm_per_pixel=(0.2, 0.2))


def found(count: int, of: int = 20, **changes: Any) -> list[str]:
    records = [replace(FITTING, **changes)] * count + [FITTING] * (of - count)
    return [f.seen for f in planned_findings(records, PLANNED)]


def test_images_that_fit_are_not_spoken_of() -> None:
    assert found(0) == []
    assert list(planned_findings([], PLANNED)) == []
    assert list(planned_findings([replace(FITTING, mm_per_pixel=(9.0, 9.0))], muscle_study())) == []


@pytest.mark.parametrize(
    ("mm", "words"),
    [
        (0.3, "72 mm along the longer side, and the network's window shows 48 mm: the rest is cut off"),
        (0.05, "12 mm along the longer side, and the network's window shows 48 mm: most of it is black"),
    ],
)
def test_regions_much_larger_or_smaller_than_the_window_are_told_with_both_numbers(mm: float, words: str) -> None:
    assert found(3, mm_per_pixel=(mm, mm)) == [f"3 of 20 images have {words}"]


def test_pixels_much_coarser_than_the_networks_are_told() -> None:
    (said,) = found(20, shape=(34, 40), mm_per_pixel=(1.2, 1.2))
    assert said.startswith("20 of 20 images have 1.2 mm per pixel, and the network's pixels have 0.75 mm")


def test_a_few_images_need_not_fit() -> None:
    assert found(2, mm_per_pixel=(0.3, 0.3)) == []


def test_images_without_spacing_or_mask_have_findings_of_their_own() -> None:
    assert found(10, mm_per_pixel=None) == []
    assert found(10, mm_per_pixel=(0.3, 0.3), row=replace(FITTING.row, mask="")) == []


def test_the_data_check_says_it(tmp_path: Path) -> None:
    """The tiny site's images show 40 mm; a plan for 15 mm cuts them."""
    folder = muscle_site(tmp_path / "site", 4)
    plan = PLAN | {"mm_per_pixel": 0.2344}
    study = muscle_study(segmentation={"network": "nnunet", "plan": plan}, image=IMAGE | {"window_mm": 15.0})
    rules = [f.rule for f in check_site(folder, study, tmp_path / "cache").findings]
    assert "plan-fit" in rules
