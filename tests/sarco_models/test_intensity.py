"""Machines become alike by what is measured on people who are not scored, and labels have no part in it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sarco_models.cohort import Cohort, HeldOut, Split, everyone, pool, split
from sarco_models.config import ImageConfig, IntensityConfig, SplitConfig, StudyConfig
from sarco_models.errors import ConfigError
from sarco_models.fusion import build_model
from sarco_models.images import Frame
from sarco_models.intensity import LEAST_PARTICIPANTS, GreyTables, calibration_people, grey_tables
from sarco_models.preprocess import model_input
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments, agreed_scaling
from sarco_models.training import Reader
from simulation.devices import DEVICES, shifted
from simulation.phantom import random_subject, render
from tests.sites import image_site, image_study, opened, read_csv, tables_site, tables_study, write_rows

CFG = IntensityConfig(standardize="device", mean=63.0, sd=33.0)
ALIKE = {"intensity": {"standardize": "device", "mean": 63.0, "sd": 33.0}}
SHARE = {"split": {"calibration": 0.3}}


@dataclass(frozen=True, eq=False)
class Seen:
    """Exams in memory."""

    pixels: NDArray[np.uint8]
    devices: tuple[str, ...]

    def __call__(self, tables: GreyTables) -> NDArray[np.uint8]:
        return tables(self.pixels, np.arange(len(self.pixels)))


def muscles(device: str, people: int, shift: float = 1.0) -> NDArray[np.uint8]:
    """The same people's muscles as one machine shows them, (people, 48, 48)."""
    cfg, drawn = ImageConfig(size=48), []
    for k in range(people):
        rng = np.random.default_rng(k)
        image = render(random_subject(rng), rng, device=shifted(DEVICES[device], shift), width_px=96)
        frame = Frame(image.pixels, (image.mm_per_pixel, image.mm_per_pixel), device, (0, 0), image.pixels.shape)
        drawn.append(model_input(frame, image.mask, cfg))
    return np.array(drawn)


def moments(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of the grey levels in the muscle, every image weighing the same."""
    means = [(p[p > 0].mean(), (p[p > 0].astype(float) ** 2).mean()) for p in pixels]
    mean, square = np.mean(means, axis=0)
    return float(mean), float(np.sqrt(square - mean**2))


@pytest.fixture(scope="module")
def two_machines() -> Seen:
    """16 people on each of two machines, one after the other."""
    pixels = np.concatenate([muscles(device, 16, 2.0) for device in ("aixplorer", "mindray_mx7")])
    return Seen(pixels, ("A",) * 16 + ("B",) * 16)


def tables_of(seen: Seen, measured: NDArray[np.int64], owner: NDArray[np.int64] | None = None) -> GreyTables:
    return grey_tables(seen, np.arange(len(seen.devices)) if owner is None else owner, measured, CFG)[0]


# ---- what a table does -----------------------------------------------------------------------------------------------


def test_the_same_people_on_two_machines_become_alike(two_machines: Seen) -> None:
    """Measured on half of the people, looked at in the others."""
    measured = np.array([*range(8), *range(16, 24)])
    after = two_machines(tables_of(two_machines, measured))

    def gap(pixels: NDArray[np.uint8]) -> float:
        return abs(moments(pixels[8:16])[0] - moments(pixels[24:])[0])

    assert gap(two_machines.pixels) > 8
    assert gap(after) < gap(two_machines.pixels) / 3


def test_what_was_measured_has_the_studys_mean_and_standard_deviation(two_machines: Seen) -> None:
    after = two_machines(tables_of(two_machines, np.arange(32)))
    for machine in (after[:16], after[16:]):
        mean, sd = moments(machine)
        assert mean == pytest.approx(63, abs=1.5)  # what would be darker than black or lighter than white is not
        assert sd == pytest.approx(33, abs=2.0)


def test_a_machine_as_the_study_describes_it_keeps_its_grey_levels() -> None:
    level = np.tile(np.array([30, 96], np.uint8), (6, 4, 2))
    tables = tables_of(Seen(level, ("A",) * 6), np.arange(6))
    assert tables.tables[1].tolist() == [0, *range(1, 256)]


def test_tables_never_fall_and_black_stays_black_and_alone(two_machines: Seen) -> None:
    tables = tables_of(two_machines, np.arange(32)).tables
    assert (np.diff(tables.astype(int), axis=1) >= 0).all()
    assert (tables[:, 0] == 0).all()
    assert (tables[:, 1:] > 0).all()
    after = two_machines(tables_of(two_machines, np.arange(32)))
    assert np.array_equal(after == 0, two_machines.pixels == 0)


def test_a_picture_of_one_grey_level_gets_the_mean() -> None:
    flat = Seen(np.full((6, 4, 4), 200, np.uint8), ("A",) * 6)
    assert set(np.unique(flat(tables_of(flat, np.arange(6))))) == {63}


# ---- whom it is measured on ------------------------------------------------------------------------------------------


def test_every_participant_weighs_the_same_however_many_images(two_machines: Seen) -> None:
    once = tables_of(two_machines, np.arange(32))
    copies = np.array([0] * 9 + list(range(32)))
    many = Seen(two_machines.pixels[copies], tuple(two_machines.devices[i] for i in copies))
    again = tables_of(many, np.arange(len(copies)), copies)
    assert np.array_equal(again.tables, once.tables)


def test_a_device_of_few_people_and_an_unknown_one_get_the_table_of_all(two_machines: Seen) -> None:
    few = LEAST_PARTICIPANTS - 1
    devices = ("A",) * 16 + ("B",) * few + ("",) * (16 - few)
    owner = np.arange(32)
    tables, notes = grey_tables(Seen(two_machines.pixels, devices), owner, owner, CFG)
    assert tables.which.tolist() == [1] * 16 + [0] * 16
    assert [(n.severity, n.rule, n.field) for n in notes] == [("note", "grey-levels", "device")]
    assert str(notes[0]).startswith("images.csv, field device: 4 participants to measure the grey levels of B on; exp")
    together = tables_of(Seen(two_machines.pixels, ("one",) * 32), owner)
    assert np.array_equal(tables.tables[0], together.tables[1])


def test_without_anybody_to_measure_on_grey_levels_stay(two_machines: Seen) -> None:
    owner = np.arange(32)
    tables, notes = grey_tables(two_machines, owner, owner[:0], CFG)
    assert np.array_equal(two_machines(tables), two_machines.pixels)
    assert [n.seen for n in notes] == ["0 participants to measure the grey levels of the site's devices on"]


def test_black_images_are_not_measured(two_machines: Seen) -> None:
    pixels = np.concatenate([two_machines.pixels, np.zeros_like(two_machines.pixels[:3])])
    devices = (*two_machines.devices, "A", "A", "B")
    some, all_ = tables_of(Seen(pixels, devices), np.arange(32)), tables_of(Seen(pixels, devices), np.arange(35))
    assert np.array_equal(some.tables, all_.tables)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.99])
def test_the_calibration_share_is_of_each_site_and_leaves_somebody(share: float) -> None:
    sites, ids = ("a",) * 40 + ("b",) * 10, tuple(f"p{k % 40}" for k in range(50))
    chosen = calibration_people(sites, ids, share)
    counts = [(chosen < 40).sum(), (chosen >= 40).sum()]
    expected = {0.0: [0, 0], 0.01: [1, 1], 0.2: [8, 2], 0.99: [39, 9]}
    assert counts == expected[share]
    shuffled = np.random.default_rng(0).permutation(50)
    again = calibration_people([sites[i] for i in shuffled], [ids[i] for i in shuffled], share)
    assert set(shuffled[again]) == set(chosen)


# ---- cohorts ---------------------------------------------------------------------------------------------------------


def parts_of(folder: Path, study: StudyConfig, seed: int = 1) -> Split:
    return split(opened(folder, study), study.split, seed)


def greys(cohort: Cohort) -> list[list[int]]:
    return [table.tolist() for cache in cohort.caches if cache.tables for table in cache.tables.tables]


@pytest.fixture
def folder(image_folder: Path, tmp_path: Path) -> Path:
    """An image site that a test may change."""
    return Path(shutil.copytree(image_folder, tmp_path / "beta"))


def darken(folder: Path, ids: set[str]) -> int:
    """Masks of these people that cover more than their muscle, which is brighter: their mean grey level falls."""
    changed = 0
    for row in read_csv(folder / "images.csv"):
        if row["participant_id"] in ids:
            mask = np.asarray(Image.open(folder / row["mask"])).copy()
            mask[40:] = 255
            Image.fromarray(mask).save(folder / row["mask"])
            changed += 1
    return changed


def test_tables_depend_on_training_participants_alone(folder: Path) -> None:
    study = image_study(**ALIKE)
    before = parts_of(folder, study)
    assert darken(folder, {*before.test.ids, *before.validation.ids})
    held_out = parts_of(folder, study)
    assert greys(held_out.cohort) == greys(before.cohort) != []
    assert darken(folder, {before.train.ids[0]})
    assert greys(parts_of(folder, study).cohort) != greys(before.cohort)


def test_tables_of_a_cohort_that_is_only_scored_depend_on_its_calibration_share_alone(folder: Path) -> None:
    study = image_study(**ALIKE, **SHARE)
    before = everyone(opened(folder, study))
    chosen = set(opened(folder, study).ids) - set(before.ids)
    assert len(chosen) == round(0.3 * 12)
    assert darken(folder, set(before.ids))
    assert greys(everyone(opened(folder, study)).cohort) == greys(before.cohort)
    rows = read_csv(folder / "participants.csv")
    write_rows(folder / "participants.csv", [r | {"frail": str(1 - int(r["frail"]))} for r in rows])
    turned = everyone(opened(folder, study))
    assert greys(turned.cohort) == greys(before.cohort)
    assert turned.ids == before.ids
    assert darken(folder, chosen)
    assert greys(everyone(opened(folder, study)).cohort) != greys(before.cohort)


def test_labels_move_people_between_sides_and_nothing_else(image_folder: Path) -> None:
    """The same training people with any labels give the same tables."""
    parts = parts_of(image_folder, image_study(**ALIKE))
    cache, images = parts.cohort.caches[0], parts.train.images
    by_hand, _ = grey_tables(cache, parts.cohort.owner, images, CFG)
    assert by_hand.tables.tolist() == greys(parts.cohort)


def test_nobody_of_the_calibration_share_is_scored_with_or_without(image_folder: Path) -> None:
    plain, alike = (everyone(opened(image_folder, image_study(**SHARE, **more))) for more in ({}, ALIKE))
    assert plain.ids == alike.ids
    assert len(plain) == 12 - round(0.3 * 12)
    assert all(cache.tables is None for cache in plain.cohort.caches)
    assert len(everyone(opened(image_folder, image_study()))) == 12


def test_tables_only_studies_leave_the_same_people_out(tmp_path: Path) -> None:
    people = everyone(opened(tables_site(tmp_path / "alpha", 20), tables_study(**SHARE, **ALIKE)))
    assert len(people) == 14


def test_grey_levels_of_a_cohort_without_calibration_share_are_refused(image_folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"split\.calibration = 0: .*12 participants.*write split\.calibration = 0\.2"
    ):
        everyone(opened(image_folder, image_study(**ALIKE)))


def test_pooled_sites_keep_the_tables_of_each(tmp_path: Path) -> None:
    study = image_study(**ALIKE)
    parts = [parts_of(image_site(tmp_path / name, n, n), study) for name, n in (("a", 9), ("b", 12))]
    together = pool(parts)
    assert greys(together.cohort) == [table for p in parts for table in greys(p.cohort)]
    first = np.arange(len(parts[0].cohort.owner))
    assert np.array_equal(together.cohort.pixels[first], parts[0].cohort.pixels[first])
    assert split(together.cohort, study.split, 1).cohort.intensity == study.intensity


# ---- what the network reads ------------------------------------------------------------------------------------------


def reader_of(parts: Split, study: StudyConfig) -> Reader:
    summed = Moments.of(parts.train, design_columns(study.features), extremes=False)
    return Reader.of(build_model(study), agreed_scaling(study, summed), study)


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_the_network_reads_pixels_through_the_tables(folder: Path, trainable: str) -> None:
    """With the same files, and with what the frozen layers made of them before they were standardised."""
    model = {"model": {"trainable": trainable}}
    study, plain = image_study(**ALIKE, **model), image_study(**model)
    before, after = parts_of(folder, plain), parts_of(folder, study)
    reader = reader_of(after, study)
    raw = next(iter(reader.whole(before.test))).inputs.image
    alike = next(iter(reader.whole(after.test))).inputs.image
    assert raw is not None
    assert alike is not None
    assert not np.allclose(raw.numpy(), alike.numpy(), atol=1e-3)
    images = after.test.images
    tables = after.cohort.caches[0].tables
    assert tables is not None
    assert np.array_equal(after.cohort.pixels[images], tables(before.cohort.pixels[images], images))


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_augmentation_comes_after_the_tables(folder: Path, monkeypatch: pytest.MonkeyPatch, trainable: str) -> None:
    changed: list[NDArray[np.uint8]] = []

    def keep(pixels: NDArray[np.uint8], _rng: np.random.Generator) -> NDArray[np.uint8]:
        changed.append(pixels)
        return pixels

    monkeypatch.setattr("sarco_models.reader.augmentation", lambda _cfg: keep)
    study = image_study(**ALIKE, model={"trainable": trainable})
    parts = parts_of(folder, study)
    list(reader_of(parts, study).batches(parts.train, np.random.default_rng(0)))
    shown = {p.tobytes() for p in parts.cohort.pixels[parts.train.images]}
    assert changed
    assert {p.tobytes() for p in changed} <= shown


def test_a_fold_with_other_training_people_reads_no_stale_features(folder: Path) -> None:
    study = image_study(**ALIKE, split={"folds": 2})
    folds = [split(opened(folder, study), SplitConfig(folds=2, fold=k), 1) for k in (0, 1)]
    assert greys(folds[0].cohort) != greys(folds[1].cohort)
    reader = reader_of(folds[0], study)
    first, second = (next(iter(reader.whole(everybody(f)))).inputs.image for f in folds)
    assert first is not None
    assert second is not None
    assert not np.allclose(first.numpy(), second.numpy(), atol=1e-4)


def everybody(parts: Split) -> HeldOut:
    return HeldOut(parts.cohort, np.arange(len(parts.cohort)))


def test_a_study_without_it_has_the_digest_that_hospitals_approved() -> None:
    assert image_study(intensity={"standardize": "none"}).digest == image_study().digest
    assert image_study(**ALIKE).digest != image_study().digest
