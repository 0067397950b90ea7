"""Every number of a plan is explained by the statistic that led to it; what is strange is said, and only that."""

import json

import pytest

from sarco_models.config import StudyConfig
from sarco_models.errors import UndefinedMetric
from sarco_models.fingerprint import BUDGETS, FINGERPRINT, plan_of, planned_image
from sarco_models.nnunet import check_plan
from sarco_models.plan_words import planned_study, reasons, statistics, warnings
from sarco_models.summaries import Moments
from tests.muscle_sites import muscle_study
from tests.sarco_models.test_fingerprint import moments_of, people

DRAFT = muscle_study(segmentation={"network": "nnunet"})


def scaled(moments: Moments, rows: list[list[float]], factor: float) -> Moments:
    """The same people with pixels ``factor`` times as large."""
    return moments_of([[h, w, mm * factor, g, sd] for h, w, mm, g, sd in rows])


def test_every_number_of_the_plan_has_its_reason() -> None:
    moments = moments_of(people(60))
    plan = plan_of(moments)
    said = {reason.what: reason for reason in reasons(DRAFT, moments)}
    assert list(said) == [
        "window", "patch", "spacing", "stages", "features", "convolutions", "deep supervision", "grey levels", "batch",
    ]  # fmt: skip
    assert said["patch"].value == "128 x 128 pixels"
    assert "allows 128 along a side" in said["patch"].because
    assert said["window"].value == f"{planned_image(plan, DRAFT.image).window_mm:g} mm"
    mean = moments.mean(FINGERPRINT)
    assert f"{mean[0]:.1f} +- " in said["window"].because
    assert said["spacing"].value == f"{plan.mm_per_pixel:g} mm per pixel"
    assert said["stages"].value == str(len(plan.features))
    assert said["features"].value == ", ".join(map(str, plan.features))
    assert said["deep supervision"].value == f"{len(plan.features) - 2} resolutions"
    assert said["batch"].value == "4 people x 2 images"
    assert all(reason.because for reason in said.values())


def test_a_larger_budget_plans_finer_pixels_and_says_so() -> None:
    moments = moments_of(people(60))
    full = muscle_study(segmentation={"network": "nnunet", "budget": "full"})
    said = {reason.what: reason for reason in reasons(full, moments)}
    assert said["patch"].value == "320 x 320 pixels"
    assert "as fine" in said["patch"].because
    assert plan_of(moments, BUDGETS["full"]).features[0] == 32


def test_a_planned_study_is_another_one_that_can_be_built() -> None:
    planned = planned_study(DRAFT, plan_of(moments_of(people(60))))
    assert DRAFT.unplanned
    assert not planned.unplanned
    assert planned.digest != DRAFT.digest
    assert planned.segmentation is not None
    assert planned.segmentation.plan is not None
    check_plan(planned.segmentation.plan, planned.image)
    assert StudyConfig.model_validate_json(planned.model_dump_json()) == planned
    before, after = (json.loads(study.model_dump_json()) for study in (DRAFT, planned))
    assert {key for key in after if after[key] != before.get(key)} == {"segmentation", "image"}


def test_a_diagnosis_has_no_plan() -> None:
    with pytest.raises(ValueError, match="no plan"):
        planned_study(DRAFT.model_copy(update={"segmentation": None}), plan_of(moments_of(people(3))))


def test_nothing_is_said_of_hospitals_that_are_alike() -> None:
    sites = {f"site{k}": moments_of(people(30, seed=k)) for k in range(3)}
    assert warnings(DRAFT, sites, plan_of(sites["site0"] + sites["site1"] + sites["site2"])) == ()


def test_hospitals_whose_pixels_differ_widely_are_named_with_both_numbers() -> None:
    """A centimetre taken for a millimetre makes one hospital's image ten times as large."""
    rows = people(30)
    fine, coarse = moments_of(rows), scaled(moments_of(rows), rows, 2.5)
    (said,) = warnings(DRAFT, {"alpha": fine, "beta": coarse}, plan_of(fine + coarse))
    assert said.startswith("size of a pixel: 0.447 mm at beta and 0.179 mm at alpha, a factor of 2.5")
    assert "calibration.csv" in said


def test_few_people_and_hospitals_that_told_nothing_are_said() -> None:
    some, nobody = moments_of(people(6)), moments_of([[float("nan")] * 3 + [60.0, 30.0]] * 4)
    silent, few = warnings(DRAFT, {"alpha": some, "beta": nobody}, plan_of(some + nobody))
    assert silent.startswith("beta has told no sizes")
    assert few.startswith("the plan rests on 6 participants")


def test_coarse_pixels_are_said_with_the_way_out() -> None:
    rows = [[120.0, 120.0, 0.1, 60.0, 30.0]] * 25
    (said,) = warnings(DRAFT, {"alpha": moments_of(rows)}, plan_of(moments_of(rows)))
    assert "0.938 mm" in said
    assert 'segmentation.budget = "full"' in said


def test_statistics_are_of_who_told_them() -> None:
    found = statistics(moments_of([[40.0, 40.0, 0.2, float("nan"), float("nan")], [60.0, 40.0, 0.2, 60.0, 30.0]]))
    assert found["region_height_mm"] == {
        "participants": 2,
        "mean": pytest.approx(50, abs=1e-3),
        "sd": pytest.approx(10, abs=1e-3),
    }
    assert found["grey_mean"]["participants"] == 1
    assert "grey_mean" not in statistics(moments_of([[40.0, 40.0, 0.2, float("nan"), float("nan")]]))


def test_reasons_of_sums_that_make_no_plan_are_refused() -> None:
    with pytest.raises(UndefinedMetric, match="no image says its mm per pixel"):
        reasons(DRAFT, moments_of([[float("nan")] * 3 + [60.0, 30.0]]))


def test_noise_that_widens_the_window_is_said_with_how_much() -> None:
    changes = {"privacy": {"epsilon": 8.0, "delta": 1e-3, "statistics": "private"}, "training": {"local_steps": 1}}
    private = muscle_study(segmentation={"network": "nnunet"}, **changes)
    few, many = moments_of(people(30)), moments_of(people(40) * 2500)
    (said,) = warnings(private, {"alpha": few}, plan_of(few))
    assert said.startswith("the sums are under noise, which of 30 participants")
    assert 'privacy.statistics = "exact"' in said
    assert warnings(private, {"alpha": many}, plan_of(many)) == ()
