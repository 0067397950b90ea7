"""What is to be found on each image lies beside its pixels, decoded once, and is what somebody has drawn."""

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from sarco_models.cohort import Cohort, everyone, open_cohort, pool, split
from sarco_models.config import SplitConfig, StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.image_cache import _content_key
from sarco_models.images import read_image
from sarco_models.schema import ImageRow
from sarco_models.segmentation import OUTSIDE
from tests.muscle_sites import (
    MM_PER_PIXEL,
    arm_of,
    label_map,
    muscle_site,
    muscle_study,
    polygon,
    write_labelme,
    write_labels,
)
from tests.sites import image_study, read_csv, write_rows

STUDY = muscle_study()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_site(tmp_path_factory.mktemp("muscles") / "alpha")


@pytest.fixture
def folder(untouched: Path, tmp_path: Path) -> Path:
    """A site that a test may change."""
    return Path(shutil.copytree(untouched, tmp_path / "alpha"))


def opened(folder: Path, study: StudyConfig = STUDY) -> Cohort:
    return open_cohort(folder, study, folder.with_name("cache"))


def change(folder: Path, number: int, **cells: str) -> None:
    rows = read_csv(folder / "images.csv")
    rows[number] |= cells
    write_rows(folder / "images.csv", rows)


def rules(cohort: Cohort) -> set[str]:
    return {f.rule for f in cohort.findings if f.rule != "column"}


def test_a_site_of_muscles_opens_without_a_label(untouched: Path) -> None:
    cohort = opened(untouched)
    assert len(cohort) == 8
    assert not cohort.labels.any()
    assert len(cohort.targets) == len(cohort.annotated) == len(cohort.views) == len(cohort.pixels) == 16
    assert rules(cohort) == set()
    assert {f.severity for f in cohort.findings} == {"note"}  # columns that the study does not name


def test_targets_are_the_drawn_muscles_where_the_pixels_show_them(untouched: Path) -> None:
    cohort = opened(untouched)
    everybody = np.arange(16)
    targets, pixels = cohort.targets[everybody], cohort.pixels[everybody]
    assert targets.dtype == np.uint8
    assert set(np.unique(targets)) == {0, 1, 2, 3, OUTSIDE}
    for target, shown, view in zip(targets, pixels, cohort.views, strict=True):
        assert view.frame_shape == (64, 80)
        assert view.mm_per_pixel == pytest.approx((35 / 32, 35 / 32))
        np.testing.assert_array_equal(target == OUTSIDE, ~view.inside())
        known = target[target != OUTSIDE] > 0
        assert shown[target != OUTSIDE][known].mean() > shown[target != OUTSIDE][~known].mean() + 20
    arm = label_map(arm_of(0))
    np.testing.assert_array_equal(targets[0], cohort.views[0].square(arm))


def test_without_a_word_of_it_all_muscles_of_the_site_were_looked_for(folder: Path) -> None:
    assert opened(folder).annotated[np.arange(16)].all()
    for k in range(0, 16, 2):
        change(folder, k, mask="")
    assert opened(folder).annotated[np.arange(8)].tolist() == [[False, False, True]] * 8


def test_what_was_looked_for_is_what_the_hospital_says(folder: Path) -> None:
    change(folder, 0, annotated="BB;triceps")
    change(folder, 1, annotated="RF")
    found = opened(folder).annotated[np.arange(3)].tolist()
    assert found == [[True, True, False], [False, False, True], [True, True, True]]


def test_one_class_is_the_muscle_of_the_row(untouched: Path) -> None:
    study = muscle_study(segmentation={"classes": "one"})
    cohort = opened(untouched, study)
    targets = cohort.targets[np.arange(16)]
    assert set(np.unique(targets)) == {0, 1, OUTSIDE}
    assert cohort.annotated[np.arange(16)].tolist() == [[True]] * 16
    both = opened(untouched).targets[np.arange(16)]
    np.testing.assert_array_equal(targets[::2] == 1, both[::2] == 1)
    np.testing.assert_array_equal(targets[1::2] == 1, both[1::2] == 3)


def test_images_without_a_mask_are_left_out_and_counted(folder: Path) -> None:
    change(folder, 1, mask="")
    change(folder, 3, mask="")
    cohort = opened(folder)
    assert len(cohort.pixels) == len(cohort.targets) == 14
    (note,) = [f for f in cohort.findings if f.rule == "mask-missing"]
    assert (note.severity, note.seen) == ("note", "2 of 16 images without a mask")
    assert len(cohort) == 8
    for k in (0, 1):
        change(folder, k, mask="")
    assert len(opened(folder)) == 7  # of whom nothing is drawn, who is not trained on


def test_a_faulty_mask_leaves_its_image_out_with_its_row(folder: Path) -> None:
    write_labelme(folder / "masks/000_thigh.json", {"RF": [[[5, 5], [50, 40], [50, 5], [5, 40]]]})
    write_labels(folder / "masks/001_arm.nii.gz", label_map({1: (30.0, 40.0, 12.0, 24.0)})[:32])
    write_labelme(
        folder / "masks/002_thigh.json", {"RF": [polygon((30, 40, 10, 20))], "femur": [polygon((55, 40, 5, 8))]}
    )
    cohort = opened(folder)
    assert len(cohort.pixels) == len(cohort.targets) == 14
    told = {f.rule: f for f in cohort.findings if f.rule != "column"}
    assert set(told) == {"crossed-outline", "mask-size", "unknown-label"}
    assert (told["crossed-outline"].row, told["crossed-outline"].severity) == (3, "warning")
    assert told["crossed-outline"].remedy.endswith("(the image is left out)")
    assert told["mask-size"].row == 4
    assert (told["unknown-label"].row, told["unknown-label"].severity) == (7, "warning")
    assert "left out)" not in told["unknown-label"].remedy
    assert told.keys() == {f.rule for f in opened(folder).findings if f.rule != "column"}, "from the cache as well"


def test_images_without_spacing_train_where_the_study_needs_none(folder: Path) -> None:
    (folder / "calibration.csv").unlink()
    cohort = opened(folder)
    assert len(cohort) == 0
    assert {f.rule for f in cohort.findings if f.severity == "warning"} >= {"spacing", "no-image"}
    cohort = opened(folder, muscle_study(image={"framing": "letterbox"}))
    assert len(cohort.targets) == 16
    assert all(view.mm_per_pixel is None for view in cohort.views)


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_nothing_is_read_twice_and_nobody_else_can_look(folder: Path) -> None:
    before = opened(folder)
    shutil.rmtree(folder.parent / "elsewhere", ignore_errors=True)
    (place,) = folder.with_name("cache").iterdir()
    assert {f.name for f in place.iterdir()} == {
        "pixels.npy", "targets.npy", "annotated.npy", "views.npy", "muscles.npy", "index.json",
    }  # fmt: skip
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    after = opened(folder)
    assert isinstance(after.caches[0].targets.classes, np.memmap)  # type: ignore[union-attr]
    np.testing.assert_array_equal(before.targets[np.arange(16)], after.targets[np.arange(16)])
    assert list(before.views) == list(after.views)


@pytest.mark.parametrize(
    "changed",
    [
        {"muscle": "triceps", "mask_label": "1"},
        {"annotated": "biceps"},
        {"mask": "masks/001_arm.nii.gz"},
    ],
)
def test_the_key_follows_what_targets_depend_on(folder: Path, changed: dict[str, str]) -> None:
    before = opened(folder).caches[0].folder
    change(folder, 0, **changed)
    assert opened(folder).caches[0].folder != before


def test_the_key_follows_the_studys_muscles_and_not_its_network(untouched: Path) -> None:
    place = opened(untouched).caches[0].folder
    muscles = [{"name": "biceps", "labels": ["1", "2"]}, {"name": "rectus_femoris", "labels": ["RF"]}]
    assert opened(untouched, muscle_study(segmentation={"muscles": muscles})).caches[0].folder != place
    assert opened(untouched, muscle_study(segmentation={"classes": "one"})).caches[0].folder != place
    assert opened(untouched, muscle_study(segmentation={"network": "nnunet"})).caches[0].folder == place


KEY_OF_THE_FIRST_RELEASE = "6745dc7448d81ee91e9734f912706547"


def test_other_studies_keep_the_keys_of_their_caches(tmp_path: Path) -> None:
    """No site that diagnoses decodes its images anew because muscles can be found."""
    (tmp_path / "fixed.png").write_bytes(b"a file")
    rows = [ImageRow(k, "fixed.png", "M000", "", muscle="RF", annotated=("RF",)) for k in (2, 3)]
    study = image_study(image={"size": 64, "window_mm": 20.0, "margin_mm": 1.0})
    assert _content_key(tmp_path, study, rows, {}, (), {}) == KEY_OF_THE_FIRST_RELEASE


def test_a_cache_without_anybody_opens(folder: Path) -> None:
    for k in range(16):
        change(folder, k, mask="")
    cohort = opened(folder)
    assert len(cohort) == len(cohort.targets) == len(cohort.views) == 0
    assert cohort.targets[np.zeros(0, dtype=np.int64)].shape == (0, 32, 32)


# ---- people ----------------------------------------------------------------------------------------------------------


def test_people_are_split_as_the_study_says(tmp_path: Path) -> None:
    cohort = opened(muscle_site(tmp_path / "beta", 20))
    parts = split(cohort, STUDY.split, 1)
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [14, 2, 4]
    folds = split(cohort, SplitConfig(folds=5, fold=2, validation=0.1), 1)
    assert len(folds.test) == 4
    with pytest.raises(ConfigError, match="gamma has 4 participants, and every fold"):
        split(opened(muscle_site(tmp_path / "gamma", 4)), SplitConfig(folds=5), 1)


def test_pooled_sites_keep_their_targets(tmp_path: Path) -> None:
    sites = [muscle_site(tmp_path / name, n, seed) for name, n, seed in (("a", 6, 1), ("b", 5, 2))]
    cohorts = [open_cohort(site, STUDY, tmp_path / "cache") for site in sites]
    pooled = pool([split(c, STUDY.split, 1) for c in cohorts]).cohort
    assert len(pooled.targets) == len(pooled.views) == 22
    chosen = np.array([3, 15, 21])
    np.testing.assert_array_equal(pooled.targets[chosen[1:]], cohorts[1].targets[chosen[1:] - 12])
    assert pooled.views[15] == cohorts[1].views[3]
    assert pooled.views[-1] == cohorts[1].views[9]
    assert len(everyone(pooled).images) == 22


def test_a_study_of_diagnoses_has_no_targets(image_folder: Path, tmp_path: Path) -> None:
    cohort = open_cohort(image_folder, image_study(), tmp_path / "cache")
    assert len(cohort.targets) == len(cohort.annotated) == len(cohort.views) == 0


def test_frames_and_targets_are_of_the_same_row(untouched: Path) -> None:
    """A target laid back on its frame is the mask, to half a pixel of the square."""
    cohort = opened(untouched)
    frame = read_image(untouched / "images/002_arm.png")
    target, view = cohort.targets[np.array([4])][0], cohort.views[4]
    known = np.where(target == OUTSIDE, 0, target)
    found = view.on_frame((known == np.arange(3)[:, None, None]).astype(np.float32)).argmax(axis=0)
    true = label_map(arm_of(2))
    assert found.shape == frame.pixels.shape
    for muscle in (1, 2):
        both = ((found == muscle) & (true == muscle)).sum()
        assert 2 * both / ((found == muscle).sum() + (true == muscle).sum()) > 0.9
    assert view.mm_per_pixel == pytest.approx((MM_PER_PIXEL * 70 / 32,) * 2)
    assert json.loads((cohort.caches[0].folder / "index.json").read_text())["said"] == []
