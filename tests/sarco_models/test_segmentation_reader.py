"""Images and their targets move together, people are what is drawn, and one more changes nothing for the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sarco_models.cohort import Cohort, TrainingPeople, everyone, open_cohort, split
from sarco_models.config import AugmentationConfig, StudyConfig, merged
from sarco_models.preprocess import another_device, augmentation, joint_augmentation
from sarco_models.segmentation import OUTSIDE
from sarco_models.segmentation_reader import PREDICTION_IMAGES, SegmentationReader, _groups
from tests.muscle_sites import muscle_site, muscle_study
from tests.sites import read_csv, write_rows

STILL: dict[str, Any] = dict.fromkeys(
    ["horizontal_flip", "vertical_flip", "shift", "scale", "rotate_degrees", "brightness", "contrast"], 0.0
)
PRIVATE: dict[str, Any] = {"privacy": {"epsilon": 3.0, "delta": 1e-5}, "training": {"local_steps": 2}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_site(tmp_path_factory.mktemp("muscles") / "alpha", 8, without=2)


def reader(**changes: Any) -> SegmentationReader:
    return SegmentationReader(muscle_study(**changes))


def cohort_of(site: Path, study: StudyConfig) -> Cohort:
    return open_cohort(site, study, site.with_name("cache"))


def train(site: Path, study: StudyConfig) -> TrainingPeople:
    return split(cohort_of(site, study), study.split, 1).train


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_an_epoch_holds_everybody_once_in_batches_of_nearly_equal_size(site: Path) -> None:
    read = reader(training={"batch_participants": 4})
    people = train(site, read.study)
    batches = list(read.batches(people, rng()))
    assert [b.participants for b in batches] == [3, 3]
    assert sum(len(b.images) for b in batches) == len(people.images)
    for batch in batches:
        rows = len(batch.images)
        assert batch.images.shape == (rows, 1, 32, 32)
        assert batch.images.dtype == torch.float32
        assert 0 <= float(batch.images.min()) < float(batch.images.max()) <= 1
        assert batch.targets.shape == (rows, 32, 32)
        assert batch.targets.dtype == torch.int64
        assert set(batch.targets.unique().tolist()) <= {0, 1, 2, 3, OUTSIDE}
        assert batch.annotated.shape == (rows, 3)
        assert batch.annotated.all()
        assert batch.owner.tolist() == sorted(batch.owner.tolist())
        assert batch.mm_per_pixel == ()


def test_the_same_chance_gives_the_same_batches(site: Path) -> None:
    read = reader()
    people = train(site, read.study)
    first, second, other = (list(read.batches(people, rng(seed))) for seed in (1, 1, 2))
    assert all(
        torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )
    assert not all(torch.equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_so_many_images_of_each_are_drawn(site: Path) -> None:
    read = reader(training={"images_per_participant": 1})
    people = train(site, read.study)
    draw = read.drawn(people, rng(), views=3)
    batch = draw(np.array([0, 2, 3]))
    assert torch.bincount(batch.owner).tolist() == [3, 3, 3]
    assert not torch.equal(batch.images[0], batch.images[1]), "three views of one image"
    nobody = draw(np.zeros(0, dtype=np.int64))
    assert (nobody.participants, nobody.images.shape, nobody.targets.shape) == (0, (0, 1, 32, 32), (0, 32, 32))
    assert nobody.annotated.shape == (0, 3)


def test_unchanged_people_are_read_as_they_lie_in_the_cache(site: Path) -> None:
    read = reader()
    people = everyone(cohort_of(site, read.study))
    (batch,) = read.whole(people)
    assert batch.participants == len(people) == 8
    np.testing.assert_array_equal(batch.targets.numpy(), people.cohort.targets[people.images])
    np.testing.assert_array_equal((batch.images[:, 0] * 255).round().numpy(), people.cohort.pixels[people.images])
    assert batch.owner.tolist() == people.cohort.owner.tolist()
    assert batch.mm_per_pixel == ((35 / 32, 35 / 32),) * 14
    bags = list(batch.bags())
    assert [len(b.images) for b in bags] == [2] * 6 + [1] * 2
    assert torch.equal(torch.cat([b.targets for b in bags]), batch.targets)
    assert {b.participants for b in bags} == {1}


def test_people_are_scored_in_groups_that_memory_can_hold() -> None:
    groups = list(_groups([10, 20, 5, 70, 1, 0, 31]))
    assert groups == [[0, 1], [2], [3], [4, 5, 6]]
    assert PREDICTION_IMAGES == 32
    assert list(_groups([])) == []


def test_whom_nobody_may_learn_from_is_not_trained_on(site: Path) -> None:
    read = reader()
    with pytest.raises(TypeError, match="TrainingPeople only"):
        next(read.batches(everyone(cohort_of(site, read.study)), rng()))  # type: ignore[arg-type]


def test_of_one_class_the_muscle_is_that_of_the_row(site: Path) -> None:
    read = reader(segmentation={"classes": "one"})
    people = everyone(cohort_of(site, read.study))
    assert [read.muscles_of(people, k) for k in range(3)] == [[0], [2], [0]]
    assert next(read.whole(people)).annotated.shape == (14, 1)
    read = reader()
    assert read.muscles_of(everyone(cohort_of(site, read.study)), 0) == [0, 1, 2]


# ---- privacy ---------------------------------------------------------------------------------------------------------


def test_in_a_private_study_one_person_less_changes_nothing_for_the_others(site: Path, tmp_path: Path) -> None:
    """Places in the cohort and in the batch shift; what is drawn of each, and how it is changed, stays."""
    study = muscle_study(**merged(PRIVATE, {"training": {"images_per_participant": 1}}))
    read, people = SegmentationReader(study), train(site, study)
    whole = read.drawn(people, rng(), views=2)(np.arange(len(people)))
    fewer = TrainingPeople(people.cohort, people.members[1:])
    without = read.drawn(fewer, rng(), views=2)(np.arange(len(fewer)))
    assert torch.equal(whole.images[2:], without.images)
    assert torch.equal(whole.targets[2:], without.targets)
    again = read.drawn(people, rng(2), views=2)(np.arange(len(people)))
    assert not torch.equal(whole.images, again.images), "another throw"
    # Gone from the hospital, too, so that all places in the cache are others.
    gone = people.cohort.ids[people.members[0]]
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("images", "masks", "calibration.csv"):
        (copy / name).symlink_to(site / name)
    for table in ("participants.csv", "images.csv"):
        write_rows(copy / table, [r for r in read_csv(site / table) if r["participant_id"] != gone])
    cohort = cohort_of(copy, study)
    left = [cohort.ids.index(people.cohort.ids[m]) for m in people.members[1:]]
    after = read.drawn(TrainingPeople(cohort, np.array(left)), rng(), views=2)(np.arange(len(left)))
    assert torch.equal(after.images, without.images)


# ---- changes ---------------------------------------------------------------------------------------------------------


def two_halves() -> tuple[Any, Any]:
    """A picture that is its own map of classes: 40 times the class."""
    classes = np.ones((48, 48), dtype=np.uint8)
    classes[10:20, 5:30], classes[25:40, 20:44] = 3, 5
    return classes * np.uint8(40), classes


def test_classes_move_with_their_pixels_and_never_mix() -> None:
    still = AugmentationConfig(**STILL | {"horizontal_flip": 0.5, "vertical_flip": 0.5})
    moved = AugmentationConfig(**STILL | {"shift": 0.2, "scale": 0.2, "rotate_degrees": 20.0})
    pixels, classes = two_halves()
    for cfg, tolerance in ((still, 0.0), (moved, 0.06)):
        change, chance = joint_augmentation(cfg), rng()
        for _ in range(10):
            shown, target = change(pixels, classes, chance)
            assert set(np.unique(target)) <= {1, 3, 5, OUTSIDE}
            differ = (target != OUTSIDE) & (np.abs(shown.astype(int) - 40 * target.astype(int)) > 20)
            assert differ.mean() <= tolerance, "but for edges, which pixels mix and classes do not"


def test_what_is_shifted_in_from_beyond_is_outside() -> None:
    change, chance = joint_augmentation(AugmentationConfig(**STILL | {"shift": 0.4})), rng()
    pixels, classes = two_halves()
    shares = []
    for _ in range(20):
        shown, target = change(pixels, classes, chance)
        beyond = target == OUTSIDE
        assert not shown[beyond].any()
        shares.append(beyond.mean())
    assert max(shares) > 0.2


def test_an_image_is_changed_alike_with_and_without_its_classes() -> None:
    cfg = AugmentationConfig(gamma=0.3, gain=0.2, blur_pixels=1.0)
    pixels, classes = two_halves()
    alone, together = augmentation(cfg), joint_augmentation(cfg)
    for seed in range(5):
        np.testing.assert_array_equal(alone(pixels, rng(seed)), together(pixels, classes, rng(seed))[0])


def test_without_another_device_images_and_chance_stay_as_they_were() -> None:
    pixels, _ = two_halves()
    chance = rng()
    assert another_device(pixels, AugmentationConfig(), chance) is pixels
    assert chance.random() == rng().random()


def test_another_device_shows_the_same_muscle_otherwise() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    seen = [another_device(levels, AugmentationConfig(gamma=0.5, gain=0.3), rng(k)) for k in range(30)]
    assert all((np.diff(s.ravel().astype(int)) >= 0).all() and s[0, 0] == 0 for s in seen), (
        "never falling, black is black"
    )
    middles = [int(s[8, 0]) for s in seen]
    assert min(middles) < 100
    assert max(middles) > 155
    speckle = rng().rayleigh(40, (64, 64)).clip(0, 255).astype(np.uint8)
    blurred = [another_device(speckle, AugmentationConfig(blur_pixels=2.0), rng(k)).std() for k in range(10)]
    assert min(blurred) < 0.5 * speckle.std()
    assert max(blurred) <= speckle.std()


def test_settings_that_came_later_leave_studies_as_hospitals_approved_them() -> None:
    assert not {"gamma", "gain", "blur_pixels"} & set(AugmentationConfig().model_dump())
    assert muscle_study(augmentation={"gamma": 0.2}).digest != muscle_study().digest
