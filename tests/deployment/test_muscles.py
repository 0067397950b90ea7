"""Hospitals that drew different muscles, over real processes: from the coordinator's folder to masks on a new image."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from sarco_models.config import StudyConfig
from sarco_models.hints import Calibration
from sarco_models.images import read_image
from sarco_models.released_segmenter import open_segmenter
from tests.deployment.federation import Federation, federation
from tests.deployment.run_under_way import RunUnderWay
from tests.muscle_sites import MM_PER_PIXEL, muscle_site, muscle_study
from tests.sites import read_csv, write_rows

pytestmark = pytest.mark.slow

ROUNDS, PEOPLE = 2, 24
ARMS_AND_THIGHS, THIGHS = "alpha", "beta"


def study() -> StudyConfig:
    """Tiny, and with a gate of release that two rounds on few people pass."""
    return muscle_study(
        split={"train": 0.5, "validation": 0.25},
        federation={"rounds": ROUNDS, "min_participants": 5, "min_sites": 2, "round_deadline_s": 60.0},
        training={"batch_participants": 6, "images_per_participant": 2},
        release={"max_membership_auc": 0.95, "max_membership_tpr": 0.95},
    )


def draw(made: Federation) -> None:
    """Hospitals with masks: beta has drawn thighs, and nothing of the arm."""
    for seed, (name, hospital) in enumerate(made.hospitals.items()):
        shutil.rmtree(hospital.data)
        muscle_site(hospital.data, PEOPLE, seed)
        (hospital.data / "manifest.json").write_text('{"synthetic": true}')
        if name == THIGHS:
            path = hospital.data / "images.csv"
            write_rows(path, [row for row in read_csv(path) if row["muscle"] == "RF"])


def test_from_the_coordinators_folder_to_masks_on_a_new_image() -> None:
    """One test: processes of hospitals are dear, and pytest-xdist builds a fixture for each of its workers."""
    with federation(study(), (ARMS_AND_THIGHS, THIGHS), prepare=draw) as made:
        run = made.start_run().wait_done()
        hospitals_train_and_measure_the_muscles_that_they_have_drawn(made, run)
        every_answer_stands_in_the_hospitals_audit_log(made)
        the_released_model_finds_muscles_on_a_hospitals_own_images(made, run)


def hospitals_train_and_measure_the_muscles_that_they_have_drawn(made: Federation, run: RunUnderWay) -> None:
    assert all(set(run.record(k)["sites"]) == {ARMS_AND_THIGHS, THIGHS} for k in range(1, ROUNDS + 1))
    measured = json.loads((run.folder / "measured.json").read_text())
    told = {site: {name.split(".")[0] for name in of if "." in name} for site, of in measured.items()}
    assert told == {ARMS_AND_THIGHS: {"biceps", "triceps", "rectus_femoris"}, THIGHS: {"rectus_femoris"}}
    about = json.loads((run.folder / "model.json").read_text())
    assert {"biceps", "rectus_femoris"} <= set(about["shapes"]), "of 12 and of 24 people; some triceps are cut off"
    assert about["validation"]["rectus_femoris"]["sites"] == 2
    assert about["validation"]["biceps"]["sites"] == 1
    shown = made.coordinator("show", run.folder).well().out
    assert "rectus femoris" in shown
    assert "all together" in shown
    assert "AUC" not in shown


def every_answer_stands_in_the_hospitals_audit_log(made: Federation) -> None:
    """What was asked is what the study asks for, and no more."""
    log = (made.hospitals[THIGHS].folder / "state" / "audit.jsonl").read_text()
    assert {task for task in ("Describe", "Setup", "Train", "Evaluate", "Measure", "Probe") if f'"{task}"' in log} == {
        "Describe", "Setup", "Train", "Evaluate", "Measure", "Probe",
    }  # fmt: skip
    assert '"Assess"' not in log
    made.site("audit", "verify", made.hospitals[THIGHS].site_file).well()


def the_released_model_finds_muscles_on_a_hospitals_own_images(made: Federation, run: RunUnderWay) -> None:
    out, images = made.base / "model", made.base / "new"
    released = made.coordinator("release", run.folder, "--out", out).well().out
    assert "released" in released
    images.mkdir()
    for picture in sorted((made.hospitals[ARMS_AND_THIGHS].data / "images").iterdir())[:2]:
        shutil.copy(picture, images)
    words = ("segment", images, "--model", out, "--out", made.base / "found", "--mm-per-pixel", str(MM_PER_PIXEL))
    made.site(*words, "--formats", "nifti").well()
    masks = sorted((made.base / "found" / "masks").glob("*.nii.gz"))
    assert len(masks) == 2
    own = open_segmenter(run.folder).segmenter()
    for path in masks:
        (picture,) = images.glob(f"{path.name.removesuffix('.nii.gz').removesuffix('.png')}.*")
        frame = read_image(picture, Calibration(None, (MM_PER_PIXEL, MM_PER_PIXEL)))
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
        np.testing.assert_array_equal(mask, own.find(frame).classes)
