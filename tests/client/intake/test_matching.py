"""Images, people and masks find each other by name and place; where it is not clear, they do not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from client.intake.matching import Listed, match, named_masks
from client.intake.path_words import id_key, said_by, word_in
from client.intake.survey import Survey, patterns, survey
from client.mapping import MASK_NAMES, MUSCLE_WORDS, SIDE_WORDS, ImageRules, MaskRules


def named(images: list[str], masks: list[str], ids: dict[str, str] | None = None) -> dict[str, str]:
    return named_masks(images, masks, MASK_NAMES, ids or {})


@pytest.mark.parametrize(
    ("way", "path", "id_"),
    [
        ("{id}/**", "P1/s/IM1", "P1"),
        ("*/{id}_*/**", "us/0012_WANG LI/2023/1/IM1", "0012"),
        ("**/{id}_*", "a/b/77_L_1.jpg", "77"),
        ("**/{id}_*", "77.jpg", ""),
        ("**/{id}.*", "x/77.jpg", "77"),
        ("{id}/**", "IM1", ""),
        ("a.b/{id}/*", "axb/1/2", ""),
    ],
)
def test_a_pattern_reads_an_id_from_a_path(way: str, path: str, id_: str) -> None:
    assert said_by(way, path).get("id", "") == id_


@pytest.mark.parametrize(
    ("one", "other", "strict", "loose"),
    [("007", "007", True, True), ("007", "7", False, True), ("Ab 1", "AB1", False, True), ("12.0", "12", False, True),
     ("１２", "12", True, True), ("1", "2", False, False), ("0", "00", False, True)],
)  # fmt: skip
def test_ids_are_compared_strictly_or_loosely(one: str, other: str, strict: bool, loose: bool) -> None:
    assert (id_key(one, loose=False) == id_key(other, loose=False)) == strict
    assert (id_key(one, loose=True) == id_key(other, loose=True)) == loose


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("p/IM1.dcm", "p/IM1.nii.gz"),
        ("p/IM1.dcm", "p/IM1_mask.png"),
        ("p/IM1", "p/im1_label.nrrd"),
        ("images/p/1.png", "masks/p/1.png"),
        ("1.2.840.7", "1.2.840.7.nii.gz"),
        ("p/a.jpg", "p/a.jpg.nii"),
        ("us/IM_1", "masks/us_IM_1.png"),
    ],
)
def test_a_mask_is_named_after_its_image(image: str, mask: str) -> None:
    assert named([image], [mask]) == {image: mask}


def test_of_several_masks_with_one_name_the_nearest_counts() -> None:
    images, masks = ["us/P1/a.dcm", "us/P2/a.dcm"], ["seg/P1/a.png", "seg/P2/a.png"]
    assert named(images, masks) == dict(zip(images, masks, strict=True))


def test_the_persons_id_leads_from_an_image_to_its_mask() -> None:
    images, masks = ["us/7_WANG/a", "us/8_LI/a"], ["seg/7/a.nii.gz", "seg/8/a.nii.gz"]
    assert named(images, masks, {"us/7_WANG/a": "7", "us/8_LI/a": "8"}) == dict(zip(images, masks, strict=True))


def test_zeros_that_an_id_has_lost_do_not_part_a_mask_from_its_image() -> None:
    assert named(["us/A/IM_01"], ["seg/007_IM_01.png"], {"us/A/IM_01": "7"}) == {"us/A/IM_01": "seg/007_IM_01.png"}
    assert named(["us/IM_01", "us/IM_1"], ["us/IM_1.nii"]) == {"us/IM_1": "us/IM_1.nii"}, "of numbers they do"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["P1/a.dcm", "P2/a.dcm"], ["seg/a.png"]),  # one mask, two images as near
        (["P1/a.dcm"], ["seg1/a.png", "seg2/a.png"]),  # two masks as near
        (["P1/a.dcm"], ["P1/b.png"]),
    ],
)
def test_where_it_is_not_clear_nothing_is_matched(images: list[str], masks: list[str]) -> None:
    assert named(images, masks) == {}


def test_a_mask_has_one_image() -> None:
    images = ["p/a.dcm", "p/a_1.dcm"]
    assert named(images, ["p/a.png", "p/a_1.png"]) == {"p/a.dcm": "p/a.png", "p/a_1.dcm": "p/a_1.png"}


def test_thousands_of_images_with_the_same_names_are_matched_in_time() -> None:
    images = [f"us/{k:04d}/IM_{n}" for k in range(150) for n in range(4)]
    masks = [f"seg/{k:04d}/IM_{n}.nii.gz" for k in range(150) for n in range(4)]
    assert named(images, masks) == dict(zip(images, masks, strict=True))


def test_a_labelme_file_says_which_image_it_was_drawn_on(tmp_path: Path) -> None:
    (tmp_path / "export7.json").write_text(json.dumps({"imagePath": "C:\\work\\photo.jpg", "shapes": []}))
    found = Survey(images=("photo.jpg", "other.jpg"), masks=("export7.json",))
    result = match(found, lambda path: "P1", (ImageRules(), MaskRules()), {}, tmp_path)
    assert {owned.path: owned.mask for owned in result.images} == {"photo.jpg": "export7.json", "other.jpg": ""}


def test_a_list_of_images_comes_before_names(tmp_path: Path) -> None:
    listed = {"a.png": (Listed("P1", mask="m/b.png"),)}
    found = Survey(images=("a.png", "b.png"), masks=("m/a.png", "m/b.png"))
    result = match(found, lambda path: "P1", (ImageRules(), MaskRules()), listed, tmp_path)
    assert {owned.path: owned.mask for owned in result.images} == {"a.png": "m/b.png", "b.png": ""}


def test_each_listed_frame_of_a_cine_is_an_image_with_its_own_mask(tmp_path: Path) -> None:
    listed = {"c.dcm": (Listed("P1", frame="3", mask="a.png"), Listed("P1", frame="9"))}
    found = Survey(images=("c.dcm",), masks=("a.png", "c.png"))
    result = match(found, lambda path: "P1", (ImageRules(), MaskRules()), listed, tmp_path)
    assert [(o.path, o.listed.frame, o.mask) for o in result.images] == [("c.dcm", "3", "a.png"), ("c.dcm", "9", "")]
    assert len({o.key for o in result.images}) == 2


@pytest.mark.parametrize(
    ("path", "muscle", "side"),
    [
        ("7_RF_L_1.jpg", "rectus_femoris", "left"),
        ("7/rectus femoris/right/1", "rectus_femoris", "right"),
        ("7/股直肌左侧/1", "rectus_femoris", "left"),
        ("7/L_R/1", "", ""),
        ("LRF7.jpg", "", ""),
        ("SMALL/RFID/1", "", ""),
    ],
)
def test_words_in_a_path_say_muscle_and_side(path: str, muscle: str, side: str) -> None:
    assert (word_in(path, MUSCLE_WORDS), word_in(path, SIDE_WORDS)) == (muscle, side)


# ---- the survey ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("IM_0001", bytes(128) + b"DICM", "images"),
        ("old", b"\x08\x00\x05\x00CS", "images"),
        ("photo.dat", b"\xff\xd8\xff\xe0", "images"),
        ("x.nii.gz", b"\x1f\x8b", "masks"),
        ("x.json", b'{"shapes": []}', "masks"),
        ("settings.json", b'{"a": 1}', "not_understood"),
        ("masks/x.png", b"\x89PNG\r\n\x1a\n", "masks"),
        ("x_MASK.png", b"\x89PNG\r\n\x1a\n", "masks"),
        ("x.png", b"\x89PNG\r\n\x1a\n", "images"),
        ("t.xlsx", b"PK", "tables"),
        ("Thumbs.db", b"x", "left_behind"),
        (".hidden/IM_0001", bytes(128) + b"DICM", "left_behind"),
        ("~$t.xlsx", b"x", "left_behind"),
        ("DIR", bytes(128) + b"DICM\x02\x00" + b"1.2.840.10008.1.3.10", "left_behind"),
        ("report.pdf", b"%PDF", "not_understood"),
        ("empty", b"", "not_understood"),
    ],
)
def test_files_are_judged_by_their_content(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    found = survey(tmp_path, MaskRules().files)
    assert [field for field in vars(found) if getattr(found, field)] == [kind]


def test_paths_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (1, 2, 10, 9):
        (tmp_path / f"IM{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert survey(tmp_path).images == ("IM1.png", "IM2.png", "IM9.png", "IM10.png")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "link").symlink_to(tmp_path / "outside")
    assert survey(tmp_path / "source").images == ()


def test_skipped_paths_are_as_if_they_were_not_there() -> None:
    is_skipped: Callable[[str], bool] = patterns(["old/**", "*.bak"])
    assert [p for p in ("old/a/b", "x.BAK", "a/x.bak", "new/a") if is_skipped(p)] == ["old/a/b", "x.BAK"]
