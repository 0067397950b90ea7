"""People stand on one side of a split with all their images, and every file is decoded once."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from sarco_models.cohort import Cohort, HeldOut, Split, TrainingPeople, everyone, open_cohort, pool, split
from sarco_models.config import SplitConfig, StudyConfig
from sarco_models.errors import ConfigError, DataError
from sarco_models.fusion import build_model
from sarco_models.image_cache import Stack
from sarco_models.images import Frame, Template, read_image
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader, Training, adamw, fit, participant_loss
from tests.sites import (
    BANNER_ROWS,
    FRAME,
    image_site,
    image_study,
    opened,
    read_csv,
    tables_site,
    tables_study,
    ultrasound,
    write_dicom,
    write_rows,
)

CFG = SplitConfig(train=0.6, validation=0.15)
STUDY = image_study()


@pytest.fixture
def tables(tmp_path: Path) -> Cohort:
    return opened(tables_site(tmp_path / "alpha", 60), tables_study())


@pytest.fixture
def folder(image_folder: Path, tmp_path: Path) -> Path:
    """An image site that a test may change."""
    return Path(shutil.copytree(image_folder, tmp_path / "beta"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the image files that are decoded from here on."""
    names: list[str] = []

    def counting(path: Path, *hints: Any, **options: Any) -> Frame:
        names.append(path.name)
        return read_image(path, *hints, **options)

    monkeypatch.setattr("sarco_models.image_cache.read_image", counting)
    return names


def sides(parts: Split) -> dict[tuple[str, str], str]:
    """(site, id) -> side."""
    people = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return {(p.cohort.sites[m], p.cohort.ids[m]): side for side, p in people.items() for m in p.members}


def by_person(cohort: Cohort) -> dict[str, list[NDArray[np.uint8]]]:
    pixels = cohort.pixels[np.arange(len(cohort.owner))]
    return {name: list(pixels[cohort.owner == i]) for i, name in enumerate(cohort.ids)}


def same_images(a: Cohort, b: Cohort) -> bool:
    left, right = by_person(a), by_person(b)
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


# ---- the split -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [1, 2, 3, 10, 60])
def test_a_split_is_disjoint_and_complete(tmp_path: Path, n: int, seed: int) -> None:
    cohort = opened(tables_site(tmp_path / "alpha", n), tables_study())
    parts = split(cohort, CFG, seed)
    members = np.concatenate([parts.train.members, parts.validation.members, parts.test.members])
    np.testing.assert_array_equal(np.sort(members), np.arange(n))
    assert len(everyone(cohort)) == n


def test_a_split_keeps_the_prevalence(tables: Cohort) -> None:
    """Stratified: 20 positive and 40 negative people give 12 and 24 to train, 3 and 6 to validate."""
    parts = split(tables, CFG, 1)
    for people, positive, negative in ((parts.train, 12, 24), (parts.validation, 3, 6), (parts.test, 5, 10)):
        assert (people.labels.sum(), (people.labels == 0).sum()) == (positive, negative)


def test_a_split_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    folder = tables_site(tmp_path / "alpha", 40)
    before = sides(split(opened(folder, tables_study()), CFG, 1))
    rows = read_csv(folder / "participants.csv")
    write_rows(folder / "participants.csv", [rows[i] for i in np.random.default_rng(0).permutation(40)])
    assert sides(split(opened(folder, tables_study()), CFG, 1)) == before


def test_a_person_who_is_added_moves_at_most_one_person_across_each_border(tmp_path: Path) -> None:
    folder = tables_site(tmp_path / "alpha", 40)
    before = sides(split(opened(folder, tables_study()), CFG, 1))
    rows = read_csv(folder / "participants.csv")
    for name in ("X1", "X2", "X3"):
        write_rows(folder / "participants.csv", [*rows, rows[0] | {"participant_id": name}])
        after = sides(split(opened(folder, tables_study()), CFG, 1))
        moved = [person for person in before if before[person] != after[person]]
        assert len(moved) <= 2
        assert {before[p] for p in moved} | {after[p] for p in moved} != {"train", "test"}


def test_a_label_that_is_corrected_moves_no_more(tmp_path: Path) -> None:
    folder = tables_site(tmp_path / "alpha", 40)
    before = sides(split(opened(folder, tables_study()), CFG, 1))
    rows = read_csv(folder / "participants.csv")
    write_rows(folder / "participants.csv", [rows[0] | {"frail": "0"}, *rows[1:]])
    after = sides(split(opened(folder, tables_study()), CFG, 1))
    assert sum(before[p] != after[p] for p in before if p != ("alpha", "P000")) <= 4


def test_seed_and_site_draw_other_people(tables: Cohort, tmp_path: Path) -> None:
    """The site's name is in the hash: the same numbers P001, P002 ... at two hospitals are not split alike."""
    other = opened(tables_site(tmp_path / "gamma", 60), tables_study())
    one = set(split(tables, CFG, 1).train.ids)
    assert one != set(split(tables, CFG, 2).train.ids)
    assert one != set(split(other, CFG, 1).train.ids)
    assert one == set(split(tables, CFG, 1).train.ids)


def test_pooled_sites_keep_everybody_on_their_side(tmp_path: Path) -> None:
    """The pooled baseline is tested on nobody whom a hospital trained on."""
    study = tables_study()
    parts = [split(opened(tables_site(tmp_path / name, n, n), study), CFG, 1) for name, n in (("a", 20), ("b", 31))]
    pooled = pool(parts)
    assert sides(pooled) == sides(parts[0]) | sides(parts[1])
    assert len(pooled.cohort) == 51
    np.testing.assert_array_equal(pooled.train.table, np.concatenate([p.train.table for p in parts]))
    np.testing.assert_array_equal(pooled.test.labels, np.concatenate([p.test.labels for p in parts]))
    assert pooled.train.ids == parts[0].train.ids + parts[1].train.ids


def test_splitting_pooled_sites_splits_each_of_them(tmp_path: Path) -> None:
    study = tables_study()
    parts = [split(opened(tables_site(tmp_path / name, n, n), study), CFG, 1) for name, n in (("a", 20), ("b", 31))]
    pooled = pool(parts)
    assert sides(split(pooled.cohort, CFG, 1)) == sides(pooled)


@pytest.mark.parametrize(
    ("n", "folds", "words"),
    [
        (12, 5, "split.folds = 5: few has 4 participants with the condition, .*: write folds = 4 or fewer"),
        (1, 2, "split.folds = 2: few has 0 participants without the condition, .* leave this site out"),
    ],
)
def test_folds_need_a_person_of_each_class_each(tmp_path: Path, n: int, folds: int, words: str) -> None:
    """Five folds with four positives: one fold would be tested on nobody who has the condition."""
    cohort = opened(tables_site(tmp_path / "few", n=n), tables_study())
    with pytest.raises(ConfigError, match=words):
        split(cohort, SplitConfig(folds=folds), seed=1)
    if n > 4:
        assert all(split(cohort, SplitConfig(folds=4, fold=k), seed=1).test.labels.sum() == 1 for k in range(4))


def test_all_images_of_a_person_are_on_one_side(folder: Path) -> None:
    """SCIENCE section 5, pitfall 1: a split of images lets a network recognise people."""
    parts = split(opened(folder, STUDY), CFG, 1)
    images = [parts.train.images, parts.validation.images, parts.test.images]
    np.testing.assert_array_equal(np.sort(np.concatenate(images)), np.arange(len(parts.cohort.owner)))
    owners = [set(parts.cohort.owner[i]) for i in images]
    assert not owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]


def test_pooled_images_stay_with_their_people(tmp_path: Path) -> None:
    cohorts = [opened(image_site(tmp_path / name, n, n), STUDY) for name, n in (("a", 5), ("b", 6))]
    pooled = pool([split(c, CFG, 1) for c in cohorts]).cohort
    expected = [images for c in cohorts for images in by_person(c).values()]
    pixels = pooled.pixels
    for i, images in enumerate(expected):
        np.testing.assert_array_equal(pixels[pooled.images_of(np.array([i]))], np.array(images))


def test_held_out_and_training_people_are_different_types(tables: Cohort) -> None:
    parts = split(tables, CFG, 1)
    assert isinstance(parts.train, TrainingPeople)
    assert not isinstance(everyone(tables), TrainingPeople)
    assert all(isinstance(p, HeldOut) and not isinstance(p, TrainingPeople) for p in (parts.validation, parts.test))


def test_a_stack_reads_like_one_array() -> None:
    parts = (np.arange(6).reshape(3, 2), np.zeros((0, 2), dtype=np.int64), np.arange(6, 14).reshape(4, 2))
    whole = np.concatenate(parts)
    index = np.array([6, 0, 3, 3, 2, 5])
    np.testing.assert_array_equal(Stack(parts)[index], whole[index])
    np.testing.assert_array_equal(Stack(parts)[index[:0]], whole[:0])
    assert len(Stack(parts)) == 7


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_no_file_is_decoded_twice(folder: Path, decoded: list[str]) -> None:
    first = opened(folder, STUDY)
    assert sorted(decoded) == sorted(Path(row["image"]).name for row in read_csv(folder / "images.csv"))
    decoded.clear()
    second = opened(folder, STUDY)
    assert decoded == []
    assert same_images(first, second)
    assert (first.devices, first.findings) == (second.devices, second.findings)


def _image(folder: Path) -> None:
    frame, _ = ultrasound(np.random.default_rng(99), half_height=9)
    Image.fromarray(frame).save(next((folder / "images").glob("*.png")))


def _mask(folder: Path) -> None:
    path = next((folder / "masks").glob("*.png"))
    Image.fromarray(np.roll(np.asarray(Image.open(path)), 2, axis=1)).save(path)


def _calibration(folder: Path) -> None:
    rows = read_csv(folder / "calibration.csv")
    write_rows(folder / "calibration.csv", [row | {"mm_per_pixel_row": "0.25"} for row in rows])


@pytest.mark.parametrize("change", [_image, _mask, _calibration])
def test_a_changed_file_is_read_again(folder: Path, decoded: list[str], change: Callable[[Path], None]) -> None:
    before = opened(folder, STUDY)
    decoded.clear()
    change(folder)
    after = opened(folder, STUDY)
    assert decoded
    assert before.caches[0].folder != after.caches[0].folder
    assert not same_images(before, after)


@pytest.mark.parametrize("change", [{"size": 40}, {"framing": "letterbox"}, {"window_mm": 10.0}, {"roi": "none"}])
def test_another_view_of_the_images_has_a_cache_of_its_own(folder: Path, change: dict[str, object]) -> None:
    """Going back to the first study finds its images as they were."""
    first, other = opened(folder, STUDY), opened(folder, image_study(image=change))
    assert first.caches[0].folder != other.caches[0].folder
    assert same_images(first, opened(folder, STUDY))


def test_what_the_pixels_do_not_depend_on_leaves_the_cache_alone(folder: Path, decoded: list[str]) -> None:
    opened(folder, STUDY)
    decoded.clear()
    opened(folder, image_study(training={"seed": 9}, model={"trainable": "head"}))
    assert decoded == []


def test_images_csv_in_any_order_of_rows_is_the_same_cohort(folder: Path, decoded: list[str]) -> None:
    before = opened(folder, STUDY)
    decoded.clear()
    rows = read_csv(folder / "images.csv")
    write_rows(folder / "images.csv", [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    after = opened(folder, STUDY)
    assert decoded == []
    assert same_images(before, after)
    np.testing.assert_array_equal(before.owner, after.owner)
    assert before.devices == after.devices


def test_images_follow_their_people_when_participants_are_reordered(folder: Path) -> None:
    before = opened(folder, STUDY)
    rows = read_csv(folder / "participants.csv")
    write_rows(folder / "participants.csv", rows[::-1])
    after = opened(folder, STUDY)
    assert after.ids == before.ids[::-1]
    assert (np.diff(after.owner) >= 0).all()
    assert same_images(before, after)


@pytest.mark.parametrize("before", ["absent", "of another use", "of an earlier release"])
def test_no_other_account_can_read_the_pixels(folder: Path, before: str) -> None:
    cache, usual = folder.parent / "cache", os.umask(0o022)
    try:
        if before == "of another use":
            cache.mkdir()
        opened_once = open_cohort(folder, STUDY, cache)
        if before == "of an earlier release":
            for place in cache.iterdir():
                place.chmod(0o755)
            open_cohort(folder, STUDY, cache)
    finally:
        os.umask(usual)
    assert len(opened_once.owner)
    assert {stat.S_IMODE(place.stat().st_mode) for place in cache.iterdir()} == {0o700}
    rights = stat.S_IMODE(cache.stat().st_mode)
    assert rights == (0o755 if before == "of another use" else 0o700), "a folder that is there keeps its own"


def test_a_cache_that_was_cut_off_is_made_again(folder: Path, decoded: list[str]) -> None:
    """kill -9 while filling leaves a folder under another name; it is never taken for the cache."""
    count = len(read_csv(folder / "images.csv"))

    class Killed(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise Killed

    cache = folder.parent / "cache"
    with pytest.raises(Killed):
        open_cohort(folder, STUDY, cache, stop)
    (left,) = cache.iterdir()
    assert left.name.endswith(f".{os.getpid()}.partial")
    left.rename(cache / f"{left.name.split('.')[0]}.1.partial")  # of a process with another number
    (cache / f"{left.name.split('.')[0]}.2.partial").mkdir()
    decoded.clear()
    seen: list[tuple[int, int]] = []
    cohort = open_cohort(folder, STUDY, cache, lambda done, total: seen.append((done, total)))
    assert len(decoded) == count
    assert seen == [(i + 1, count) for i in range(count)]
    assert same_images(cohort, opened(folder, STUDY))


def test_the_cache_may_be_deleted(folder: Path) -> None:
    before = by_person(opened(folder, STUDY))
    shutil.rmtree(folder.with_name("beta-cache"))
    after = by_person(opened(folder, STUDY))
    assert all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("trainable", ["last_stage", "all"])
def test_epochs_after_the_first_read_no_image_file(folder: Path, decoded: list[str], trainable: str) -> None:
    """Proved by removing the files: what trains afterwards has read arrays only."""
    study = image_study(model={"trainable": trainable})
    people = split(opened(folder, study), CFG, 1).train
    shutil.rmtree(folder / "images")
    shutil.rmtree(folder / "masks")
    decoded.clear()
    columns = design_columns(study.features)
    torch.manual_seed(0)
    model = build_model(study)
    reader = Reader.of(model, agreed_scaling(study, Moments.of(people, columns, extremes=False)), study)
    for epoch in range(2):
        batches = reader.batches(people, np.random.default_rng(epoch))
        training = Training(model.net, adamw(model.net, study.training), batches, participant_loss, lambda _: 1.0)
        assert np.isfinite(fit(training, seed=epoch)).all()
    assert decoded == []


def test_kept_output_is_computed_once_for_the_same_images_and_again_for_others(folder: Path) -> None:
    """A corrected label moves people between the sides: their images must not be found empty."""
    cohort = opened(folder, STUDY)
    calls: list[int] = []

    def double(pixels: NDArray[np.uint8], images: NDArray[np.int64]) -> NDArray[np.float16]:
        calls.extend(images.tolist())
        return (2.0 * pixels[:, 0]).astype(np.float16)

    everything = np.arange(len(cohort.owner))
    expected = 2.0 * cohort.pixels[everything][:, 0]
    for images in (everything[:3], everything[:3], everything[2:6]):
        np.testing.assert_array_equal(cohort.kept("twice", images, double)[images], expected[images])
    assert calls == [0, 1, 2, 2, 3, 4, 5]


def test_kept_output_of_pooled_sites_is_that_of_each(tmp_path: Path) -> None:
    cohorts = [opened(image_site(tmp_path / name, n, n), STUDY) for name, n in (("a", 5), ("b", 6))]
    pooled = pool([split(c, CFG, 1) for c in cohorts]).cohort
    images = np.array([1, 2, len(cohorts[0].owner), len(pooled.owner) - 1])

    def first_row(pixels: NDArray[np.uint8], _: NDArray[np.int64]) -> NDArray[np.float16]:
        return pixels[:, 16].astype(np.float16)

    np.testing.assert_array_equal(pooled.kept("row", images, first_row)[images], pooled.pixels[images][:, 16])


# ---- what is left out ------------------------------------------------------------------------------------------------


def left_out(folder: Path, study: StudyConfig = STUDY) -> tuple[Cohort, list[tuple[str, int | None, str]]]:
    """The cohort, and (rule, row, file) of its warnings."""
    cohort = opened(folder, study)
    return cohort, [(f.rule, f.row, f.file) for f in cohort.findings if f.severity == "warning"]


def test_an_unreadable_image_is_left_out_and_the_others_stay(folder: Path) -> None:
    rows = read_csv(folder / "images.csv")
    before = opened(folder, STUDY)
    (folder / rows[4]["image"]).write_bytes(b"not an image")
    (folder / rows[2]["image"]).unlink()
    after, warnings = left_out(folder)
    names = [Path(rows[i]["image"]).name for i in (2, 4)]
    assert warnings == [("file", 4, names[0]), ("format", 6, names[1])]
    assert all(f.remedy.endswith("(the image is left out)") for f in after.findings if f.severity == "warning")
    kept = np.delete(np.arange(len(rows)), [2, 4])
    np.testing.assert_array_equal(after.owner, before.owner[kept])
    np.testing.assert_array_equal(after.pixels[np.arange(len(kept))], before.pixels[kept])


def test_findings_name_the_row_as_the_file_is_now(folder: Path) -> None:
    """The cache remembers the fault of an image, not the line where it once stood."""
    rows = read_csv(folder / "images.csv")
    (folder / rows[4]["image"]).write_bytes(b"not an image")
    assert left_out(folder)[1][0][1] == 6
    write_rows(folder / "images.csv", rows[::-1])
    assert left_out(folder)[1][0][1] == 1 + len(rows) - 4


def test_a_missing_mask_leaves_the_image_out(folder: Path) -> None:
    rows = read_csv(folder / "images.csv")
    write_rows(folder / "images.csv", [rows[0] | {"mask": ""}, rows[1] | {"mask": "masks/nowhere.png"}, *rows[2:]])
    cohort, warnings = left_out(folder)
    assert warnings == [("mask", 2, "images.csv"), ("mask-file", 3, "nowhere.png")]
    assert len(cohort.owner) == len(rows) - 2
    whole, warnings = left_out(folder, image_study(image={"roi": "none"}))
    assert (len(whole.owner), warnings) == (len(rows), [])


def test_a_missing_spacing_leaves_the_image_out_of_a_study_in_millimetres(folder: Path) -> None:
    rows = read_csv(folder / "images.csv")
    pictures = [(i, row["image"]) for i, row in enumerate(rows, start=2) if row["image"].endswith("png")]
    calibration = read_csv(folder / "calibration.csv")
    nothing = {"mm_per_pixel_row": "", "mm_per_pixel_column": ""}
    write_rows(folder / "calibration.csv", [row | nothing for row in calibration])
    cohort, warnings = left_out(folder)
    assert warnings == [("spacing", row, name) for row, name in pictures]
    assert len(cohort.owner) == len(rows) - len(pictures)
    whole, warnings = left_out(folder, image_study(image={"framing": "letterbox"}))
    assert (len(whole.owner), warnings) == (len(rows), [])


def test_a_person_whose_images_are_all_left_out_stays_with_the_tables(folder: Path) -> None:
    rows = read_csv(folder / "images.csv")
    (folder / rows[0]["image"]).write_bytes(b"")
    assert [row["participant_id"] for row in rows].count("P000") == 1
    cohort = opened(folder, STUDY)
    assert "P000" in cohort.ids
    assert not len(cohort.images_of(np.array([cohort.ids.index("P000")])))


def test_a_study_of_images_alone_leaves_out_people_without_one_and_says_so(folder: Path) -> None:
    study = image_study(model={"modalities": ["image"]})
    both, alone = opened(folder, STUDY), opened(folder, study)
    assert (len(both), len(alone)) == (12, 11)
    assert alone.ids == both.ids[:-1]
    (finding,) = [f for f in alone.findings if f.rule == "no-image"]
    assert (finding.severity, finding.seen) == ("warning", "1 without a readable image")
    assert "left out" in finding.remedy
    np.testing.assert_array_equal(alone.labels, both.labels[:-1])
    assert same_images(alone, alone)


def test_people_who_are_left_out_do_not_take_others_images_with_them(folder: Path) -> None:
    rows = read_csv(folder / "images.csv")
    write_rows(folder / "images.csv", [row for row in rows if row["participant_id"] != "P003"])
    alone = opened(folder, image_study(model={"modalities": ["image"]}))
    both = by_person(opened(folder, STUDY))
    assert "P003" not in alone.ids
    assert all(np.array_equal(images, both[name]) for name, images in by_person(alone).items())


def test_a_site_whose_images_are_all_unreadable_still_opens(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    cohort = opened(folder, STUDY)
    assert (len(cohort), len(cohort.owner), cohort.devices) == (12, 0, ())
    assert len(opened(folder, image_study(model={"modalities": ["image"]}))) == 0


def test_every_person_without_an_image_is_noted(folder: Path) -> None:
    (note,) = [f for f in opened(folder, STUDY).findings if f.severity == "note"]
    assert (note.rule, note.row, note.file) == ("one-table-only", 13, "participants.csv")


def test_faults_of_the_tables_stop_the_site(folder: Path) -> None:
    rows = read_csv(folder / "participants.csv")
    write_rows(folder / "participants.csv", [rows[0] | {"frail": "?"}, *rows[1:]])
    with pytest.raises(DataError, match=r"participants\.csv, row 2, field frail"):
        opened(folder, STUDY)
    assert not folder.with_name("beta-cache").exists()


def test_a_study_of_tables_opens_no_image(folder: Path, decoded: list[str]) -> None:
    (folder / "images.csv").unlink()
    cohort = opened(folder, tables_study())
    assert (decoded, cohort.caches, len(cohort)) == ([], (), 12)


# ---- pixels ----------------------------------------------------------------------------------------------------------


def test_what_a_scanner_burns_in_never_reaches_the_cache(tmp_path: Path) -> None:
    """Names stand in the banner above the tissue region; other text there changes no pixel of the cache."""
    folder = image_site(tmp_path / "beta", 4)
    study = image_study(image={"roi": "none"})
    before = opened(folder, study)
    rng = np.random.default_rng([1, 1])
    for i, k in ((0, 0), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)):
        frame, _ = ultrasound(rng, half_height=7 if i % 3 == 0 else 11)
        frame[:BANNER_ROWS] = 255 - frame[:BANNER_ROWS]
        path = folder / f"images/{i:03d}_{k}"
        if (i + k) % 2:
            write_dicom(path.with_suffix(".dcm"), frame)
        else:
            Image.fromarray(frame).save(path.with_suffix(".png"))
    after = opened(folder, study)
    assert before.caches[0].folder != after.caches[0].folder
    assert same_images(before, after)


def test_devices_are_the_scanners_own_names(folder: Path) -> None:
    cohort = opened(folder, STUDY)
    images = read_csv(folder / "images.csv")
    assert cohort.devices == tuple("Tiny U1" if row["image"].endswith("dcm") else "" for row in images)


def test_two_frames_of_one_cine_are_two_images(folder: Path) -> None:
    """Each with the frame that its row names, whatever the order of the rows."""
    row = next(r for r in read_csv(folder / "images.csv") if r["image"].endswith(".dcm"))
    header = pydicom.dcmread(folder / row["image"])
    first = header.pixel_array
    header.SOPClassUID, header.NumberOfFrames = uid.UltrasoundMultiFrameImageStorage, 2
    header.PixelData = first.tobytes() + (255 - first).tobytes()
    header.save_as(folder / row["image"])
    study = image_study(image={"roi": "none"})
    views = []
    for order in ("0", "1"), ("1", "0"), ("1", "1"):
        write_rows(folder / "images.csv", [row | {"frame": frame} for frame in order[: 1 + (order[0] != order[1])]])
        views.append(by_person(opened(folder, study))[row["participant_id"]])
    stills, again, (other,) = views
    assert len(stills) == 2
    assert not np.array_equal(*stills)
    np.testing.assert_array_equal(stills, again)
    np.testing.assert_array_equal(other, stills[1])


def test_a_template_of_the_site_is_used_and_part_of_the_key(folder: Path) -> None:
    """Without calibration.csv the PNG frames have a template of the device instead."""
    before = opened(folder, STUDY)
    (folder / "calibration.csv").unlink()
    region = (0, BANNER_ROWS, FRAME[1], FRAME[0])
    template = Template(
        device="Tiny U2", files="*.png", columns=FRAME[1], rows=FRAME[0], region=region, mm_per_pixel=(0.2, 0.2)
    )
    cache = folder.with_name("templates")
    after = open_cohort(folder, STUDY, cache, templates=(template,))
    assert same_images(before, after)
    assert set(after.devices) == {"Tiny U1", "Tiny U2"}
    moved = template.model_copy(update={"region": (8, BANNER_ROWS, FRAME[1], FRAME[0])})
    assert open_cohort(folder, STUDY, cache, templates=(moved,)).caches[0].folder != after.caches[0].folder


def split_of(tmp_path: Path, **settings: object) -> Split:
    folder = tables_site(tmp_path / "site", 47) if not (tmp_path / "site").exists() else tmp_path / "site"
    config = tables_study(split=settings)
    return split(opened(folder, config), config.split, 1)


def test_every_participant_is_held_out_in_exactly_one_fold(tmp_path: Path) -> None:
    folds = [split_of(tmp_path, folds=5, fold=k, validation=0.2) for k in range(5)]
    assert sorted(i for part in folds for i in part.test.members) == list(range(47))
    for part in folds:
        assert sorted(np.concatenate([part.train.members, part.validation.members, part.test.members])) == list(
            range(47)
        )
        assert part.test.labels.sum() in (3, 4)  # 16 positive participants in five folds
    inner = [set(part.validation.members) for part in folds]
    assert len(set.union(*inner)) > 2 * len(inner[0])  # not the same few people in every fold


def test_complete_cases_stay_in_the_fold_where_everybody_has_them(tmp_path: Path) -> None:
    for k in range(3):
        everybody = split_of(tmp_path, folds=3, fold=k, validation=0.2)
        complete = split_of(tmp_path, folds=3, fold=k, validation=0.2, complete_cases=True)
        for part in ("train", "validation", "test"):
            whole, kept = getattr(everybody, part), getattr(complete, part)
            assert set(kept.members) == set(whole.members[~np.isnan(whole.table).any(axis=1)])
        assert len(complete.train) < len(everybody.train)


def test_fewer_participants_are_part_of_more_and_leave_the_test_alone(tmp_path: Path) -> None:
    parts = [split_of(tmp_path, use=share) for share in (0.25, 0.5, 1.0)]
    members = [set(part.train.members) for part in parts]
    assert members[0] < members[1] < members[2]
    assert all((part.test.members == parts[0].test.members).all() for part in parts)
    assert all(0 < part.train.labels.sum() < len(part.train) for part in parts)
