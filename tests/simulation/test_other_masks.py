"""A finished model on other masks: what does not change its masks changes nothing, and nothing of the model changes."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sarco_models.cohort import everyone
from sarco_models.config import StudyConfig, located
from sarco_models.image_cache import CALIBRATION_FILE
from sarco_models.images import read_calibrations, read_image
from sarco_models.mask_perturbation import DIRECTIONS, perturb
from sarco_models.masks import read_mask
from sarco_models.metrics import auc_interval
from sarco_models.preprocess import model_input
from sarco_models.released_segmenter import About, store_segmenter
from sarco_models.unet import build_segmenter
from server.evaluation import released_probabilities
from server.runs import Run
from simulation.explained import TEST, chosen_people, image_rows
from simulation.harness import Arm, SiteFolder, read_scores, run_arm
from simulation.mask_experiment import OtherMasksConfig
from simulation.other_masks import changed_people, draw_for, found_masks, other_masks
from tests.muscle_sites import muscle_study
from tests.sites import image_site, image_study, opened

pytestmark = pytest.mark.slow  # an arm is trained


def study_of(roi: str = "mask", **auto: Any) -> StudyConfig:
    """Images alone; ``auto`` is its section [image.auto]."""
    image: dict[str, Any] = {"size": 32, "roi": roi, "window_mm": 16.0, "margin_mm": 0.2}
    if auto:
        image["auto"] = auto
    return image_study(image=image, model={"modalities": ["image"], "trainable": "last_stage", "weights": "phantom"})


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """A finished model of two sites that draw masks, with a central cohort of 24 people and 36 images."""
    folder = tmp_path_factory.mktemp("masks")
    for name, people, seed in (("alpha", 24, 1), ("beta", 24, 2), ("central", 24, 3)):
        image_site(folder / name, people, seed)
    sites = tuple(SiteFolder(name, folder / name, "invented2026") for name in ("alpha", "beta"))
    made = Arm("federated", study_of(), sites, folder / "central", folder / "cache", folder / "run")
    run_arm(made)
    return made


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmentation model that has learned nothing: no mask of it is good."""
    muscle = {"name": "rectus_femoris", "labels": ["1"]}
    study = muscle_study(segmentation={"muscles": [muscle]}, image={"size": 32, "window_mm": 20.0})
    place = tmp_path_factory.mktemp("finder") / "model"
    store_segmenter(place, study, build_segmenter(study, "none"), About(synthetic=True, threshold=0.99))
    return place


def asked(**changes: Any) -> OtherMasksConfig:
    return OtherMasksConfig.model_validate({"arms": ("federated",), "mm": (1.0,), **changes})


def row_of(found: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    return next(row for row in found["rows"] if all(row.get(k) == v for k, v in wanted.items()))


def central_scores(arm: Arm) -> np.ndarray:
    return next(s.people.scores for s in read_scores(arm) if s.site == "central")


def test_the_drawn_masks_give_the_auc_that_the_arm_has(arm: Arm) -> None:
    found = other_masks(arm, asked(), {})
    people = next(s.people for s in read_scores(arm) if s.site == "central")
    estimate = auc_interval(people.scores, people.labels)
    assert found["auc"] == {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    assert (found["cohort"], found["n"], found["n_positive"]) == ("central", 24, 8)


def test_masks_that_are_the_same_change_nothing(arm: Arm) -> None:
    found = other_masks(arm, asked(changes=("dilate", "erode", "shift"), mm=(0.05,)), {})  # a quarter of a pixel
    for row in found["rows"]:
        assert row["dice"] == 1.0
        assert (row["moved"], row["called_otherwise"], row["as_drawn"]) == (0.0, 0.0, 0)
        assert (row["difference"]["value"], row["p"]) == (0.0, 1.0)


def test_a_mask_that_would_vanish_stays_as_drawn_and_is_counted(arm: Arm) -> None:
    row = row_of(other_masks(arm, asked(changes=("erode",), mm=(15.0,)), {}), change="erode")
    assert (row["images"], row["as_drawn"], row["moved"]) == (36, 36, 0.0)


def test_other_masks_move_the_scores_and_nothing_of_the_model(arm: Arm) -> None:
    kept = {path.name: path.read_bytes() for path in arm.folder.iterdir() if path.is_file()}
    pixels = np.array(opened_central(arm).caches[0].pixels)
    found = other_masks(arm, asked(changes=("dilate", "erode", "shift", "left")), {})
    for row in found["rows"]:
        assert row["moved"] > 0
        assert 0 < row["dice"] < 1
        assert row["n"] == 24
        assert row["difference"]["value"] == pytest.approx(row["auc"]["value"] - found["auc"]["value"])
    assert {path.name: path.read_bytes() for path in arm.folder.iterdir() if path.is_file()} == kept
    assert np.array_equal(opened_central(arm).caches[0].pixels, pixels)


def opened_central(arm: Arm) -> Any:
    return chosen_people(arm, TEST)[1].cohort


def test_what_the_network_sees_is_the_frame_within_the_changed_mask(arm: Arm) -> None:
    place, people = chosen_people(arm, TEST)
    changed, _ = changed_people(arm, place, people, "dilate", 1.0)
    assert arm.central
    rows = image_rows(arm.central, people.cohort, arm.study)
    calibrations = read_calibrations(arm.central / CALIBRATION_FILE)
    for image in (0, 7, 35):
        row = rows[image]
        frame = read_image(arm.central / row.image, calibrations.get(row.image), row.frame)
        mask = perturb(read_mask(arm.central / row.mask, frame), frame.mm_per_pixel, "dilate", 1.0)
        seen = changed.cohort.pixels[np.array([image])][0]
        assert np.array_equal(seen, model_input(frame, mask, arm.study.image))
        assert not np.array_equal(seen, people.cohort.pixels[np.array([image])][0])


def test_each_image_is_shifted_its_own_way_and_twice_as_far_the_same_way(arm: Arm) -> None:
    place, people = chosen_people(arm, TEST)
    near, far = (changed_people(arm, place, people, "shift", mm)[0].cohort.pixels for mm in (1.0, 2.0))
    ways = {d: [changed_people(arm, place, people, d, mm)[0].cohort.pixels for mm in (1.0, 2.0)] for d in DIRECTIONS}
    taken = set()
    for image in range(36):
        at = np.array([image])
        own = [d for d in DIRECTIONS if np.array_equal(ways[d][0][at], near[at])]
        assert len(own) == 1
        assert np.array_equal(ways[own[0]][1][at], far[at])
        taken |= set(own)
    assert len(taken) > 5


def test_pixels_are_drawn_once(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = asked(changes=("dilate",), mm=(0.7,))
    draw_for(arm, cfg)
    before = {path: path.stat().st_mtime_ns for path in arm.cache.rglob("*masks*/pixels.npy")}
    monkeypatch.setattr("simulation.other_masks.read_image", refused)
    draw_for(arm, cfg)
    other_masks(arm, cfg, {})
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not list(arm.cache.rglob("*.partial"))


def refused(*_: object) -> None:
    raise AssertionError("an image was read again")


def test_a_run_that_was_killed_leaves_nothing_that_counts(arm: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = asked(changes=("dilate",), mm=(0.9,))
    with monkeypatch.context() as patch:
        patch.setattr("simulation.other_masks.read_image", refused)
        with pytest.raises(AssertionError, match="read again"):
            draw_for(arm, cfg)
    row = row_of(other_masks(arm, cfg, {}), change="dilate")
    assert (row["images"], row["as_drawn"]) == (36, 0)
    assert row["moved"] > 0


def test_another_view_is_that_of_its_own_study(arm: Arm) -> None:
    none = study_of("none")
    row = row_of(other_masks(arm, asked(changes=(), views=("none",)), {"none": none}), view="none")
    seen = everyone(opened(arm.central or Path(), none))
    scores = released_probabilities(Run.open(arm.folder), seen)
    assert row["moved"] == float(np.abs(scores - central_scores(arm)).mean()) > 0
    assert (row["roi"], row["images"]) == ("none", 36)


def test_found_masks_that_nobody_needed_are_the_drawn_ones(arm: Arm, finder: Path) -> None:
    auto = located(study_of("auto", segmenter="model", masks="missing"), finder)
    row = row_of(other_masks(arm, asked(changes=(), views=("auto",)), {"auto": auto}), view="auto")
    assert (row["moved"], row["images_drawn"], row["images"]) == (0.0, 36, 36)


def test_where_nothing_good_is_found_it_is_as_without_masks(arm: Arm, finder: Path) -> None:
    auto = located(study_of("auto", segmenter="model", masks="all"), finder)
    cfg = asked(changes=(), views=("auto", "none"))
    found = other_masks(arm, cfg, {"auto": auto, "none": study_of("none")})
    auto_row, none_row = row_of(found, view="auto"), row_of(found, view="none")
    assert auto_row["images_tissue"] == 36
    assert (auto_row["moved"], auto_row["auc"]) == (none_row["moved"], none_row["auc"])
    held_against = found_masks(replace(arm, study=auto))
    assert (held_against["images"], held_against["images_tissue"]) == (36, 36)
    assert (held_against["checked"], held_against["checked_tissue"]) == (24, 24)
    assert "dice" not in held_against


def test_a_model_that_finds_what_was_drawn_agrees_with_it(
    arm: Arm, finder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sarco_models.auto_masks import Finder, Origin

    assert arm.central

    def looks(_self: Finder, frame: Any, row: Any) -> Any:
        if hashlib.sha256(row.image.encode()).digest()[0] < 64:
            return None, Origin("tissue", 0.1, ("small",))
        return read_mask((arm.central or Path()) / row.mask, frame), Origin("found", 0.9)

    monkeypatch.setattr(Finder, "look", looks)
    found = found_masks(replace(arm, study=located(study_of("auto", segmenter="model", masks="missing"), finder)))
    assert 0 < found["checked_tissue"] < found["checked"] == 24
    assert found["dice"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found["area_ratio"]["value"] == 1.0


@pytest.mark.parametrize("few", [0, 1, 3])
def test_of_real_people_no_few_are_told_of_nor_found_by_subtraction(
    arm: Arm, finder: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """24 people; on all images of some of them nothing good is found."""
    from sarco_models.auto_masks import Finder, Origin

    assert arm.central
    _, people = chosen_people(arm, TEST)
    rows = image_rows(arm.central, people.cohort, arm.study)
    without = set(sorted({row.participant_id for row in rows})[:few])

    def looks(_self: Finder, frame: Any, row: Any) -> Any:
        if row.participant_id in without:
            return None, Origin("tissue", 0.1, ("small",))
        return read_mask((arm.central or Path()) / row.mask, frame), Origin("found", 0.9)

    monkeypatch.setattr(Finder, "look", looks)
    auto = located(study_of("auto", segmenter="model", masks="all"), finder)
    made = replace(arm, study=auto, cache=arm.cache / f"few-{few}")
    assert found_masks(made)["images_found"] < 36 or not few
    told = found_masks(made, 5)
    assert (told["images"], told["checked"]) == (36, 24)
    withheld = None if few else 36
    assert told["images_found"] == withheld
    assert told.get("images_tissue") is None
    assert told["checked_tissue"] == (None if few else 0)
    assert "dice" in told, "of many people"
    assert found_masks(made, 25) == {"cohort": "central", "images": None, "images_found": None} | dict.fromkeys(
        ["images_tissue"] if few else []
    ) | {"checked": None, "checked_tissue": None}


def test_people_whom_a_study_leaves_out_are_not_counted_where_they_are_few(arm: Arm) -> None:
    rows = other_masks(arm, asked(changes=("erode",)), {}, 25)["rows"]
    assert rows[0]["n"] is None
    assert "called_otherwise" not in rows[0]


@pytest.mark.parametrize("kind", ["pooled", "local:alpha"])
def test_arms_of_any_kind_can_be_asked(arm: Arm, tmp_path: Path, kind: str) -> None:
    made = replace(arm, name=kind, folder=tmp_path / "run")
    run_arm(made)
    found = other_masks(made, asked(changes=("dilate",)), {})
    assert found["cohort"] == ("alpha" if kind.startswith("local") else "central")
    assert found["rows"][0]["moved"] > 0
