"""What hospitals sum before there is a plan is measured on the files, once, and on training participants only."""

from pathlib import Path

import numpy as np
import pytest

import sarco_models.fingerprint_files
from sarco_models.cohort import Cohort, open_cohort, split
from sarco_models.config import StudyConfig
from sarco_models.fingerprint_facts import FINGERPRINT, summed_columns
from sarco_models.fingerprint_files import FILE
from sarco_models.images import read_image
from sarco_models.summaries import Moments
from tests.muscle_sites import FRAME, MM_PER_PIXEL, label_map, muscle_site, muscle_study, thigh_of

DRAFT = muscle_study(segmentation={"network": "nnunet"})
ANY_SIZE = {"image": {"framing": "letterbox"}}


def opened(tmp_path: Path, study: StudyConfig = DRAFT, name: str = "site") -> Cohort:
    return open_cohort(tmp_path / name, study, tmp_path / "cache")


def test_a_person_is_measured_on_whole_frames_at_their_own_resolution(tmp_path: Path) -> None:
    muscle_site(tmp_path / "site", 4, without=4)  # arms only
    found = opened(tmp_path).table
    assert found.shape == (4, len(FINGERPRINT))
    np.testing.assert_allclose(found[:, :3], [[FRAME[0] * MM_PER_PIXEL, FRAME[1] * MM_PER_PIXEL, MM_PER_PIXEL]] * 4)
    muscle_site(tmp_path / "site", 4)
    both = opened(tmp_path).table
    pixels = read_image(tmp_path / "site/images/000_thigh.png").pixels[label_map({1: thigh_of(0)}) > 0]
    assert pixels.mean() == pytest.approx(2 * both[0, 3] - found[0, 3], rel=0.01), "each image weighs the same"


def test_every_file_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    muscle_site(tmp_path / "site", 3)
    first = opened(tmp_path)
    assert (first.caches[0].folder / FILE).is_file()
    monkeypatch.setattr(sarco_models.fingerprint_files, "read_image", lambda *_, **__: pytest.fail("read again"))
    np.testing.assert_array_equal(opened(tmp_path).table, first.table)


def test_other_files_are_measured_anew(tmp_path: Path) -> None:
    muscle_site(tmp_path / "site", 3, seed=1)
    first = opened(tmp_path).table
    muscle_site(tmp_path / "site", 3, seed=2)
    assert (opened(tmp_path).table[:, 3] != first[:, 3]).all()


def test_an_image_without_spacing_tells_its_grey_levels_only(tmp_path: Path) -> None:
    muscle_site(tmp_path / "site", 3)
    (tmp_path / "site/calibration.csv").unlink()
    study = muscle_study(segmentation={"network": "nnunet"}, **ANY_SIZE)
    found = opened(tmp_path, study).table
    np.testing.assert_array_equal(np.isnan(found), [[True, True, True, False, False]] * 3)
    with_all = muscle_study(segmentation={"network": "nnunet"})
    assert len(opened(tmp_path, with_all)) == 0, "in physical framing nothing of it can be trained on"


def test_the_study_with_a_plan_has_tables_again(tmp_path: Path) -> None:
    muscle_site(tmp_path / "site", 3)
    assert opened(tmp_path, muscle_study()).table.shape == (3, 0)


def test_sums_of_hospitals_are_those_of_all_their_people(tmp_path: Path) -> None:
    """Bit for bit, and of nobody who is held out."""
    merged, rows = None, []
    for k in range(3):
        muscle_site(tmp_path / f"site{k}", 5 + k, seed=k)
        people = split(opened(tmp_path, name=f"site{k}"), DRAFT.split, 1).train
        moments = Moments.of(people, summed_columns(DRAFT), extremes=False)
        merged = moments if merged is None else merged + moments
        rows.append(people.table)
    table = np.concatenate(rows)
    assert merged is not None
    assert merged.count.tolist() == [len(table)] * len(FINGERPRINT)
    np.testing.assert_allclose(merged.mean(FINGERPRINT), table.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(merged.standard_deviation(FINGERPRINT), table.std(axis=0), atol=1e-3)
