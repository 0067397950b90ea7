"""Shapes are those that were drawn, and a score is frozen where few people above it were found badly."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarco_models.accepted import accepted_from, good_and_bad, scored_people
from sarco_models.cohort import HeldOut, open_cohort, split
from sarco_models.drawn_shapes import drawn_shapes
from sarco_models.errors import UndefinedMetric
from sarco_models.histograms import MergedHistogram
from sarco_models.segmentation_reader import SegmentationReader
from tests.muscle_sites import MM_PER_PIXEL, arm_of, muscle_site, muscle_study, thigh_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_site(tmp_path_factory.mktemp("accepted") / "alpha", 12)


def parts(site: Path, **changes: object) -> tuple[SegmentationReader, HeldOut, HeldOut]:
    """A reader, and validation and test participants."""
    study = muscle_study(split={"train": 0.5, "validation": 0.25}, **changes)
    people = split(open_cohort(site, study, site.with_name("cache")), study.split, 1)
    return SegmentationReader(study), people.validation, people.test


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_shapes_are_those_of_the_ellipses_that_were_drawn(site: Path) -> None:
    reader, people, _ = parts(site, image={"size": 96})
    sums = drawn_shapes(reader, people)
    assert set(sums) == {"biceps", "triceps", "rectus_femoris"}
    numbers = [int(person[1:]) for person in people.ids]
    half_axes = [thigh_of(i)[2:] for i in numbers]
    areas = [np.pi * h * w * MM_PER_PIXEL**2 / 100 for h, w in half_axes]
    found = sums["rectus_femoris"]
    assert found.count.tolist() == [len(people)] * 3
    assert found.total[0] == pytest.approx(np.log(areas).sum(), abs=0.05 * len(people))
    assert found.total[1] == pytest.approx(sum(np.log(w / h) for h, w in half_axes), abs=0.1 * len(people))


def test_a_muscle_that_the_square_cuts_off_while_the_frame_goes_on_tells_nothing(site: Path) -> None:
    reader, people, _ = parts(site, image={"size": 32, "window_mm": 12.0, "framing": "physical"})
    wide = [2 * MM_PER_PIXEL * arm_of(int(person[1:]))[2][3] for person in people.ids]
    assert min(wide) > 12
    assert drawn_shapes(reader, people)["triceps"].count.tolist() == [0, 0, 0]


def test_one_class_has_one_name(site: Path) -> None:
    reader, people, _ = parts(site, segmentation={"classes": "one"})
    assert set(drawn_shapes(reader, people)) == {"muscle"}


# ---- scores ----------------------------------------------------------------------------------------------------------


class Answers(torch.nn.Module):
    """Says the same whatever it sees: the targets of people's images, at random where it is not sure."""

    def __init__(self, targets: NDArray[np.uint8], sure: float) -> None:
        super().__init__()
        self.targets, self.sure, self.asked = torch.from_numpy(targets.astype(np.int64)), sure, 0

    def forward(self, images: Tensor, _asked: Tensor | None) -> Tensor:
        """First the straight images, then the mirrored ones."""
        targets = self.targets if self.asked % 2 == 0 else self.targets.flip(-1)
        self.asked += 1
        return torch.nn.functional.one_hot(targets.clamp(max=3), 4).movedim(-1, 1) * self.sure


def test_who_is_found_as_drawn_has_a_dice_of_one_and_a_high_score(site: Path) -> None:
    reader, people, _ = parts(site)
    targets = people.cohort.targets[people.images]
    scores, dices = scored_people(Answers(targets, 40.0), reader, people)
    assert len(scores) == len(people)
    np.testing.assert_array_equal(dices, 1)
    assert scores.min() > 0.5
    unsure, _ = scored_people(Answers(targets, 2.0), reader, people)
    assert (unsure < scores).all()


def test_where_training_mirrors_nothing_no_mirrored_image_is_scored(site: Path) -> None:
    """To look at one would turn what is found as drawn into something between two muscles."""
    reader, people, _ = parts(site, augmentation={"horizontal_flip": 0.0})
    targets = people.cohort.targets[people.images]

    class Sided(Answers):
        def forward(self, images: Tensor, asked: Tensor | None) -> Tensor:
            self.asked = 0  # the same, straight or mirrored
            return super().forward(images, asked)

    scores, dices = scored_people(Sided(targets, 40.0), reader, people)
    np.testing.assert_array_equal(dices, 1)
    assert scores.min() > 0.5


def people_at(scores: Sequence[float], dices: Sequence[float], min_cell: int = 1) -> MergedHistogram:
    return good_and_bad(np.array(scores), np.array(dices), num_bins=100, min_cell=min_cell)


def test_the_score_is_frozen_where_few_above_it_are_bad() -> None:
    good = people_at(np.linspace(0.5, 0.95, 40).tolist(), [0.9] * 40)
    bad = people_at(np.linspace(0.05, 0.45, 20).tolist(), [0.3] * 20)
    found = accepted_from([good, bad])
    assert 0.4 < found < 0.45, "two bad ones of 42 are under a twentieth, three of 43 are not"


def test_where_all_are_good_or_too_many_are_bad_no_score_is_frozen() -> None:
    with pytest.raises(UndefinedMetric, match="found well"):
        accepted_from([people_at([0.4, 0.9], [0.9, 0.9])])
    with pytest.raises(UndefinedMetric, match="at every score more than 5%"):
        accepted_from([people_at([0.4, 0.5, 0.9, 0.95], [0.9, 0.9, 0.1, 0.1])])


def test_few_people_of_a_kind_are_not_counted_for_others_to_see() -> None:
    with pytest.raises(UndefinedMetric, match="fewer than 5"):
        people_at([0.1, 0.2, 0.7, 0.8, 0.9, 0.95, 0.97], [0.1, 0.2, *[0.9] * 5], min_cell=5)
