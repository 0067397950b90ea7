"""Two hospitals learn which images both hold, and nothing else: no count, no row, nothing that could be guessed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from client.quality.overlap import (
    FEWEST_PRINTS,
    Fingerprints,
    Shown,
    fingerprints,
    overlap_findings,
    read_fingerprints,
    write_fingerprints,
)
from client.quality.records import ImageRecord
from sarco_models.errors import ConfigError, DataError
from sarco_models.schema import ImageRow
from tests.sites import write_csv

STUDY, SALT, PRIVATE = "a" * 64, bytes(range(32)), b"the hospital's own secret, never shown"
TOKENS = (
    "6f9619ff-8b86-4d11-b42d-00c04fc964ff",
    "0f8fad5bd9cb469fa16570867728950e",
    "dGhpcyBpcyBub3QgcmFuZG9tIGF0IGFsbDE=",
)


def record(row: int, content: str, grey: object = None) -> ImageRecord:
    levels = np.full(256, 100, dtype=np.int64) if grey is None else np.asarray(grey, dtype=np.int64)
    return ImageRecord(ImageRow(row, f"{row}.dcm", f"P{row}", ""), (), content=content, grey=levels)


def prints(*contents: str, salt: bytes = SALT, study: str = STUDY) -> Fingerprints:
    return fingerprints([record(k, c) for k, c in enumerate(contents, start=2)], study, salt)


def shown(folder: Path, theirs: Fingerprints, mine: Fingerprints) -> Shown:
    write_fingerprints(folder / "theirs.json", theirs, PRIVATE)
    return read_fingerprints(folder / "theirs.json", mine)


def test_images_that_two_hospitals_hold_are_found_and_only_rows_of_this_one_are_named(tmp_path: Path) -> None:
    mine, theirs = prints("aa", "bb", "cc", "bb"), prints("dd", "bb", "aa")
    (finding,) = overlap_findings(mine, [shown(tmp_path, prints("ee"), mine), shown(tmp_path, theirs, mine)])
    assert (finding.severity, finding.rule, finding.file) == ("warning", "overlap", "images.csv")
    assert finding.seen == "3 images that hospital 2 has, too: rows 2, 3, 5"
    assert overlap_findings(mine, [shown(tmp_path, prints("dd", "ee"), mine)]) == ()


def test_a_file_says_neither_rows_nor_numbers_of_images(tmp_path: Path) -> None:
    for count in (1, 17, 255, 256):
        write_fingerprints(tmp_path / "f.json", prints(*map(str, range(count))), PRIVATE)
        content = json.loads((tmp_path / "f.json").read_text())
        assert set(content) == {"format", "study", "salt_id", "images", "people"}
        assert len(content["images"]) == FEWEST_PRINTS == len(set(content["images"]))
        assert content["images"] == sorted(content["images"])
    write_fingerprints(tmp_path / "f.json", prints(*map(str, range(257))), PRIVATE)
    assert len(json.loads((tmp_path / "f.json").read_text())["images"]) == 512


def test_two_files_of_one_hospital_do_not_show_which_prints_are_decoys(tmp_path: Path) -> None:
    """With decoys drawn anew, what stands in both files would be the true prints."""
    contents = []
    for images in (("aa", "bb"), ("aa", "bb", "cc")):
        write_fingerprints(tmp_path / "f.json", prints(*images), PRIVATE)
        contents.append(set(json.loads((tmp_path / "f.json").read_text())["images"]))
    assert len(contents[0] & contents[1]) == FEWEST_PRINTS - 1
    write_fingerprints(tmp_path / "f.json", prints("aa", "bb"), b"another hospital")
    assert len(contents[0] & set(json.loads((tmp_path / "f.json").read_text())["images"])) == 2


def test_the_same_pixels_are_another_print_under_another_salt_or_study() -> None:
    marks = [set(p.images) for p in (prints("aa"), prints("aa", salt=bytes(32)), prints("aa", study="b" * 64))]
    assert not marks[0] & marks[1]
    assert not marks[0] & marks[2]
    assert marks[0] == set(prints("aa").images)
    with pytest.raises(ConfigError, match="15 bytes; take 16 or more"):
        prints("aa", salt=bytes(15))


def test_blank_frames_and_unread_images_have_no_print() -> None:
    """All black frames are equal in every hospital."""
    black, two_levels = np.zeros(256), np.zeros(256)
    black[0] = two_levels[:2] = 5000
    records = [record(2, "aa", black), record(3, "bb", two_levels), record(4, ""), record(5, "dd")]
    assert list(fingerprints(records, STUDY, SALT).images.values()) == [(5,)]


OTHERS = {
    "another salt": ({"salt_id": "0" * 32}, "another salt"),
    "another study": ({"study": "b" * 64}, "another study"),
    "another format": ({"format": "x"}, "another format"),
    "no prints": ({"images": ["Li Wei, 1950-01-01"]}, "images that are no fingerprints"),
    "no list": ({"people": None}, "people that are no fingerprints"),
}


@pytest.mark.parametrize(("change", "seen"), OTHERS.values(), ids=OTHERS)
def test_a_file_that_cannot_be_compared_is_refused(tmp_path: Path, change: dict[str, object], seen: str) -> None:
    path = tmp_path / "f.json"
    write_fingerprints(path, prints("aa"), PRIVATE)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError) as error:
        read_fingerprints(path, prints("aa"))
    (finding,) = error.value.findings
    assert (finding.rule, finding.seen) == ("fingerprints", seen)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(DataError):
        read_fingerprints(tmp_path / "f.json", prints("aa"))


# ---- linkage keys ----------------------------------------------------------------------------------------------------


def linkage(folder: Path, *keys: str) -> Path:
    return write_csv(folder / "linkage.csv", ("participant_id", "key"), [(f"P{k}", key) for k, key in enumerate(keys)])


def test_people_are_compared_by_tokens_of_a_trust_centre(tmp_path: Path) -> None:
    mine = fingerprints([], STUDY, SALT, linkage(tmp_path, TOKENS[0], "", TOKENS[1]))
    (tmp_path / "b").mkdir()
    theirs = fingerprints([], STUDY, SALT, linkage(tmp_path / "b", TOKENS[2], TOKENS[1]))
    (finding,) = overlap_findings(mine, [shown(tmp_path, theirs, mine)])
    assert (finding.file, finding.seen) == ("linkage.csv", "1 key that hospital 1 has, too: row 4")


GUESSABLE = ("Wang Wei 1950-03-02", "310104195003021234", "+86 138 0013 8000", "1950-03-02", "a" * 40, "1234567890" * 3)


@pytest.mark.parametrize("key", GUESSABLE)
def test_a_key_that_could_be_guessed_is_refused_and_never_shown(tmp_path: Path, key: str) -> None:
    """Whoever has the salt can try every identity number; no slow hash changes that."""
    with pytest.raises(DataError) as error:
        fingerprints([], STUDY, SALT, linkage(tmp_path, TOKENS[0], key))
    (finding,) = error.value.findings
    assert (finding.rule, finding.row, finding.seen) == ("guessable-key", 3, f"a key of {len(key)} characters")
    assert key not in str(error.value)


def test_a_random_token_is_a_key(tmp_path: Path) -> None:
    keys = [os.urandom(16).hex() for _ in range(5)]
    assert len(fingerprints([], STUDY, SALT, linkage(tmp_path, *keys)).people) == 5


def test_a_linkage_table_without_keys_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "linkage.csv", ("participant_id", "token"), [("P1", TOKENS[0])])
    with pytest.raises(DataError, match="a column key"):
        fingerprints([], STUDY, SALT, path)
