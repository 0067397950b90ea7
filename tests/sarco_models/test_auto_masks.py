"""A mask that is found is used like one that is drawn, or not at all; and nobody's drawing is replaced."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sarco_models import image_cache
from sarco_models.auto_masks import Finder
from sarco_models.cohort import Cohort, open_cohort
from sarco_models.config import StudyConfig
from sarco_models.errors import ConfigError, DataError, RunError, WeightsError
from sarco_models.mask_origins import Origin, model_told, origins_told
from sarco_models.schema import ImageRow
from tests.finders import auto_study, drawn_masks, finds, frames_of, stored_finder
from tests.sites import image_site, image_study, opened, read_csv, write_rows

Masks = dict[str, NDArray[np.bool_]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return image_site(tmp_path / "site", n=6)


@pytest.fixture
def finder(tmp_path: Path) -> Path:
    return stored_finder(tmp_path / "models" / "finder")


@pytest.fixture
def masks(folder: Path) -> Masks:
    return drawn_masks(folder, frames_of(folder))


def pixels(cohort: Cohort) -> NDArray[np.uint8]:
    return np.asarray(cohort.pixels[np.arange(len(cohort.owner))])


def sources(cohort: Cohort) -> list[str]:
    return [origin.source for origin in cohort.caches[0].origins]


def without_masks(folder: Path, rows: slice) -> list[dict[str, str]]:
    found = read_csv(folder / "images.csv")
    for row in found[rows]:
        row["mask"] = ""
    write_rows(folder / "images.csv", found)
    return found


# ---- what the network sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["physical", "letterbox", "paper"])
def test_with_a_perfect_model_found_equals_drawn_bit_for_bit(
    folder: Path, finder: Path, masks: Masks, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = opened(folder, image_study(image={"framing": framing}))
    finds(monkeypatch, masks)
    found = opened(folder, auto_study(finder, auto={"masks": "all"}, image={"framing": framing}))
    np.testing.assert_array_equal(pixels(found), pixels(by_hand))
    np.testing.assert_array_equal(found.owner, by_hand.owner)
    assert set(sources(found)) == {"found"}
    assert all(0.9 < (o.score or 0) <= 1 for o in found.caches[0].origins)


def test_what_people_have_drawn_is_not_touched_and_the_rest_falls_back_as_without_masks(
    folder: Path, finder: Path, masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand, whole = opened(folder, image_study()), opened(folder, image_study(image={"roi": "none"}))
    without_masks(folder, slice(0, 3))
    finds(monkeypatch, {name: np.zeros_like(mask) for name, mask in masks.items()})
    found = opened(folder, auto_study(finder))
    assert sources(found) == ["tissue"] * 3 + ["drawn"] * (len(masks) - 3)
    np.testing.assert_array_equal(pixels(found)[3:], pixels(by_hand)[3:])
    np.testing.assert_array_equal(pixels(found)[:3], pixels(whole)[:3])
    assert (pixels(whole)[:3] != pixels(by_hand)[:3]).any(), "the two do differ"


def test_a_mask_of_low_score_is_not_used(
    folder: Path, finder: Path, masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened(folder, image_study(image={"roi": "none"}))
    finds(monkeypatch, masks, sure=0.6)
    doubted = opened(folder, auto_study(finder, auto={"masks": "all"}))
    np.testing.assert_array_equal(pixels(doubted), pixels(whole))
    origin = doubted.caches[0].origins[0]
    assert origin.source == "tissue"
    assert 0 < (origin.score or 0) < 0.6
    assert "expects a Dice" in " ".join(origin.reasons)
    used = opened(folder, auto_study(finder, auto={"masks": "all", "least_quality": 0.0}))
    assert set(sources(used)) == {"found"}


def test_an_image_without_a_good_mask_can_be_left_out(
    folder: Path, finder: Path, masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_masks(folder, slice(1, 2))
    finds(monkeypatch, {name: np.zeros_like(mask) for name, mask in masks.items()})
    cohort = opened(folder, auto_study(finder, auto={"otherwise": "leave_out"}))
    assert len(cohort.owner) == len(masks) - 1
    (told,) = [f for f in cohort.findings if f.rule == "mask-not-found"]
    assert (told.severity, told.row) == ("warning", 3)
    assert "no muscle was found" in told.seen
    assert told.remedy.endswith("(the image is left out)")


def test_of_several_pieces_the_largest_is_the_mask(
    folder: Path, finder: Path, masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = opened(folder, image_study())
    for mask in masks.values():
        assert not mask[:3, :3].any()
        mask[:2, :2] = True
    finds(monkeypatch, masks)
    found = opened(folder, auto_study(finder, auto={"masks": "all", "least_quality": 0.1}))
    np.testing.assert_array_equal(pixels(found), pixels(by_hand))


def test_a_drawn_mask_that_cannot_be_used_is_not_replaced_unseen(folder: Path, finder: Path) -> None:
    rows = read_csv(folder / "images.csv")
    (folder / rows[0]["mask"]).write_bytes(b"no mask")
    cohort = opened(folder, auto_study(finder))
    assert len(cohort.owner) == len(rows) - 1
    assert [f.row for f in cohort.findings if f.severity == "warning"] == [2]
    everything = opened(folder, auto_study(finder, auto={"masks": "all"}))
    assert len(everything.owner) == len(rows), "nobody looked at it"


# ---- which muscle ----------------------------------------------------------------------------------------------------


def test_the_muscle_is_that_of_images_csv_or_the_study_s(folder: Path, finder: Path) -> None:
    (name, frame), *_ = frames_of(folder).items()
    row = ImageRow(2, name, "P000", "", muscle="m. soleus")
    _, origin = Finder.of(auto_study(finder)).look(frame, row)
    assert origin == Origin("tissue", None, origin.reasons)
    assert "'m. soleus'" in origin.reasons[0]
    assert "biceps, triceps, rectus_femoris" in origin.reasons[0]
    assert Finder.of(auto_study(finder, auto={"muscle": "biceps"})).look(frame, row)[1].score is not None
    with pytest.raises(ConfigError, match=r"image\.auto\.muscle = 'soleus': .* finds biceps, triceps, rectus_femoris"):
        Finder.of(auto_study(finder, auto={"muscle": "soleus"}))


def test_a_model_of_one_class_finds_the_muscle_that_the_image_is_of(folder: Path, tmp_path: Path) -> None:
    place = stored_finder(tmp_path / "models" / "one", segmentation={"classes": "one"})
    (name, frame), *_ = frames_of(folder).items()
    finder = Finder.of(auto_study(place))
    for muscle, looked in (("RF", True), ("biceps", True), ("", True), ("soleus", False)):
        _, origin = finder.look(frame, ImageRow(2, name, "P000", "", muscle=muscle))
        assert (origin.score is not None) == looked
    assert (
        Finder.of(auto_study(place, auto={"muscle": "biceps"}))
        .look(frame, ImageRow(2, name, "P000", "", muscle="soleus"))[1]
        .score
        is not None
    ), "the study says which"


def test_a_model_in_millimetres_finds_nothing_on_a_frame_without_them(folder: Path, tmp_path: Path) -> None:
    place = stored_finder(tmp_path / "models" / "mm", image={"framing": "physical"})
    rows = read_csv(folder / "calibration.csv")
    write_rows(folder / "calibration.csv", [r | {"mm_per_pixel_row": "", "mm_per_pixel_column": ""} for r in rows])
    without_masks(folder, slice(None))
    cohort = opened(folder, auto_study(place, image={"framing": "letterbox"}))
    cut = [o for o in cohort.caches[0].origins if o.score is None]
    assert len(cut) == len(rows)
    assert "millimetres per pixel are not known" in cut[0].reasons[0]


# ---- the same everywhere ---------------------------------------------------------------------------------------------


def test_the_same_masks_in_any_order_company_and_number_of_threads(folder: Path, finder: Path) -> None:
    study = auto_study(finder, auto={"masks": "all", "least_quality": 0.0})
    every = Finder.of(study)
    before = torch.get_num_threads()
    frames = list(frames_of(folder).items())
    rows = [ImageRow(2, name, "P000", "", muscle="rectus_femoris") for name, _ in frames]
    first = [every.look(frame, row) for (_, frame), row in zip(frames, rows, strict=True)]
    try:
        torch.set_num_threads(2)
        again = [every.look(frame, row) for (_, frame), row in zip(frames[::-1], rows[::-1], strict=True)][::-1]
        assert torch.get_num_threads() == 2, "as it was"
    finally:
        torch.set_num_threads(before)
    assert any(mask is not None for mask, _ in first)
    for (mask, origin), (other, same) in zip(first, again, strict=True):
        assert origin == same
        assert (mask is None) == (other is None)
        if mask is not None and other is not None:
            np.testing.assert_array_equal(mask, other)


def test_masks_are_found_once_and_anew_by_other_weights_or_for_another_muscle(
    folder: Path, finder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    look = Finder.look

    def counted(self: Finder, frame: Any, row: ImageRow) -> Any:
        looks.append(row.image)
        return look(self, frame, row)

    monkeypatch.setattr(Finder, "look", counted)
    study = auto_study(finder, auto={"masks": "all"})
    first, images = opened(folder, study), len(read_csv(folder / "images.csv"))
    assert len(looks) == images
    again = opened(folder, study)
    assert (len(looks), again.caches[0].folder) == (images, first.caches[0].folder)
    assert again.caches[0].origins == first.caches[0].origins
    other = stored_finder(tmp_path / "other" / "finder", seed=2)
    assert opened(folder, auto_study(other, auto={"masks": "all"})).caches[0].folder != first.caches[0].folder
    assert len(looks) == 2 * images
    rows = read_csv(folder / "images.csv")
    write_rows(folder / "images.csv", [row | {"muscle": "biceps"} for row in rows])
    opened(folder, study)
    assert len(looks) == 3 * images


def test_the_model_is_not_opened_where_all_is_in_the_cache(
    folder: Path, finder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = auto_study(finder)
    opened(folder, study)
    monkeypatch.setattr(image_cache, "_finder", lambda study: pytest.fail("opened"))
    opened(folder, study)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_other_weights_than_the_study_s_are_refused_before_any_image(folder: Path, finder: Path) -> None:
    study = auto_study(finder)
    weights = bytearray((finder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (finder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError, match=r"is segmentation model \w{12}, and the study's is finder, SHA-256 \w{12}"):
        opened(folder, study)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("weights", (WeightsError, "not a safetensors file")),
        ("study", (RunError, "is of another study than study.json")),
        ("diagnoses", (ConfigError, "which diagnoses: name one that finds muscles")),
    ],
)
def test_a_model_that_cannot_be_opened_is_said_once_and_not_of_every_image(
    folder: Path, finder: Path, fault: str, expected: tuple[type[Exception], str]
) -> None:
    if fault == "weights":
        (finder / "model.safetensors").write_bytes(b"nothing")
    elif fault == "study":
        text = json.loads((finder / "study.json").read_text())
        (finder / "study.json").write_text(json.dumps({**text, "title": "Another"}))
    else:
        (finder / "study.json").write_text(image_study().model_dump_json())
    with pytest.raises(expected[0], match=expected[1]):
        opened(folder, auto_study(finder))


def test_a_study_without_the_section_finds_no_masks() -> None:
    with pytest.raises(ConfigError, match=r"write image\.roi"):
        Finder.of(image_study())


def test_a_perfect_score_is_asked_for_and_the_refusal_says_so(folder: Path, finder: Path) -> None:
    every = Finder.of(auto_study(finder, auto={"masks": "all", "least_quality": 1.0, "otherwise": "leave_out"}))
    (name, frame), *_ = frames_of(folder).items()
    with pytest.raises(DataError) as refused:
        every.look(frame, ImageRow(2, name, "P000", "", muscle="rectus femoris"))
    (told,) = refused.value.findings
    assert (told.field, told.expected) == ("mask", "a score of 1.00 or more")


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_one_finding_tells_of_all_images_together(tmp_path: Path, finder: Path) -> None:
    study = auto_study(finder)
    few = [Origin("drawn")] * 5 + [Origin("found", 0.9)] * 4 + [Origin("tissue", 0.1, ("no muscle was found",))]
    (told,) = origins_told(few, study)
    assert told.seen == "10 images: 5 with a drawn mask, 4 with one found, 1 without a good one"
    assert told.severity == "note"
    (told,) = origins_told([*few, Origin("tissue")], study)
    assert told.severity == "warning"
    assert "finder may not be made for images like yours" in told.remedy
    assert origins_told(few, image_study()) == ()
    assert origins_told([], study) == ()


@pytest.mark.parametrize(("model", "people", "warned"), [(True, False, 1), (True, True, 0), (None, False, 0)])
def test_a_model_of_computer_made_people_is_told_loudly_where_people_are_real(
    folder: Path, tmp_path: Path, model: bool | None, people: bool, warned: int
) -> None:
    place = stored_finder(tmp_path / "models" / "invented", synthetic=model)
    if people:
        (folder / "manifest.json").write_text('{"synthetic": true}')
    study = auto_study(place)
    assert len(model_told(study, folder)) == warned
    told = [f for f in opened(folder, study).findings if f.rule == "synthetic-model"]
    assert [f.severity for f in told] == ["warning"] * warned


def test_origins_are_kept_as_they_were(folder: Path) -> None:
    origin = Origin("tissue", 0.25, ("the edge is blurred",))
    assert Origin.from_json({"source": "tissue", "score": 0.25, "reasons": ["the edge is blurred"]}) == origin
    with pytest.raises(ValueError, match="expected one of drawn, found, tissue"):
        Origin.from_json({"source": "guessed", "score": 1, "reasons": []})


def test_grey_levels_are_made_alike_within_found_masks(
    folder: Path, finder: Path, masks: Masks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sarco_models.cohort import split

    def levels(study: StudyConfig) -> NDArray[np.uint8]:
        cohort = open_cohort(folder, study, folder.parent / "cache")
        return pixels(split(cohort, study.split, 1).cohort)

    same: dict[str, Any] = {"intensity": {"standardize": "device"}, "split": {"train": 0.8, "validation": 0.0}}
    by_hand = levels(image_study(**same))
    finds(monkeypatch, masks)
    np.testing.assert_array_equal(levels(auto_study(finder, auto={"masks": "all"}, **same)), by_hand)


def test_a_mask_drawn_by_hand_is_a_picture_like_any_other(folder: Path, masks: Masks) -> None:
    """What the truths above rest on: each image has a mask of its own, somewhere in the middle."""
    assert len({mask.tobytes() for mask in masks.values()}) > 1
    assert all(0 < mask.mean() < 0.8 for mask in masks.values())
