"""Names of persons, dates and long numbers are found in ids and file names, and never shown."""

import pytest

from client.quality.identity import (
    header_digest,
    id_findings,
    name_findings,
    safe_name,
    shown_mask,
    shown_name,
    text_is_plain,
    text_sign,
)
from sarco_models.schema import ImageRow

TELLING = [
    "Li_Wei_RF.jpg", "Zhang San.png", "images/MuellerHans_1.dcm", "张伟_1.png", "Ковалёв.dcm", "José_Nuñez.png",
    "rf_19500131.dcm", "rf_1950-01-31_1.png", "31.01.1950_rf.png", "scan_310104195001310027.png",
    "images/13800138000.jpg", "rf_77315501.dcm", "anna@clinic.org.png", "Muster^Anna.dcm",
]  # fmt: skip
HARMLESS = [
    "images/rf_0001.dcm", "images/P0012_RF_L_02.png", "IMG_0042.JPG", "scan (3).png", "images/000_0.png",
    "left/rectus_femoris/0001.tif", "participants.csv", "Book1.xlsx", "image of row 12", "mask of row 7",
    "images/00000123.dcm", "frame_07.nii.gz", "k1/k2/k3.png",
]  # fmt: skip


def image(number: int, name: str, participant: str = "", mask: str = "") -> ImageRow:
    return ImageRow(number, name, participant or f"P{number:04d}", mask)


# ---- what may be shown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_names_are_shown(name: str) -> None:
    assert safe_name(name)
    assert text_sign(name) == ""


@pytest.mark.parametrize("name", TELLING)
def test_telling_names_are_not_shown_and_are_described_without_being_quoted(name: str) -> None:
    assert not safe_name(name)
    sign = text_sign(name)
    assert sign
    assert not any(part in sign for part in name.replace("_", " ").replace(".", " ").split() if len(part) > 2)


@pytest.mark.parametrize("name", ["sh_0001.dcm", "Wei.png", "xq.png", "a\nb.png"])
def test_what_is_not_known_to_be_harmless_is_not_shown(name: str) -> None:
    assert not safe_name(name)


def test_a_file_name_that_holds_the_pseudonym_is_not_shown() -> None:
    assert shown_name(image(4, "images/rf_0001.dcm", "Q17")) == "images/rf_0001.dcm"
    assert shown_name(image(4, "images/P0012-1.dcm", "P0012")) == "image of row 4"
    assert shown_name(image(4, "images/p_0012_1.dcm", "P-0012")) == "image of row 4"
    assert shown_name(image(4, "12_1.dcm", "12")) == "image of row 4"
    assert shown_name(image(4, "112_1.dcm", "12")) == "112_1.dcm"
    assert shown_name(image(4, "Anna.dcm", "Q17")) == "image of row 4"
    assert shown_mask(image(4, "", "Q17", "masks/mask_0001.png")) == "masks/mask_0001.png"
    assert shown_mask(image(4, "", "Q17", "Anna.png")) == "mask of row 4"


@pytest.mark.parametrize(("text", "plain"), [("Aixplorer SL10-2", True), ("2023-01-31", False), ("张伟", False)])
def test_plain_texts_are_told(text: str, plain: bool) -> None:
    assert text_is_plain(text) == plain


# ---- all names of a site ---------------------------------------------------------------------------------------------


def test_what_the_participants_share_is_the_sites_vocabulary() -> None:
    rows = [image(n, f"shanghai/tongji_{n}.dcm") for n in range(2, 12)]
    assert name_findings(rows) == ()
    odd = image(12, "shanghai/tongji_wangfang.dcm")
    (found,) = name_findings([*rows, odd])
    assert (found.rule, found.severity, found.file, found.row, found.field) == (
        "identity-name", "warning", "images.csv", 12, "image",
    )  # fmt: skip
    assert "wang" not in str(found)


def test_a_family_name_that_some_share_is_still_a_name() -> None:
    rows = [image(n, f"{'Wang' if n % 10 == 0 else 'rf'}_{n}.dcm") for n in range(2, 102)]
    assert {f.row for f in name_findings(rows)} == set(range(10, 102, 10))


def test_masks_are_named_too_and_pseudonyms_are_not() -> None:
    rows = [image(n, f"tango{n}_1.dcm", f"tango{n}", f"tango{n}_1.png") for n in (2, 3)]
    assert name_findings(rows) == ()
    (found,) = name_findings([image(2, "rf_1.dcm", "P2", "Anna Muster.png")])
    assert found.field == "mask"


@pytest.mark.parametrize(
    ("participant", "sign"),
    [("Anna Muster", "a word"), ("Li Wei", "two words"), ("张伟", "another script"), ("19500131", "a date"),
     ("310104195001310027", "national identity number"), ("77315501", "8 digits"), ("zhangwei01", "a word")],
)  # fmt: skip
def test_ids_that_look_like_a_person_are_named_by_their_row(participant: str, sign: str) -> None:
    ids = [*(f"SYN-SH-{k:04d}" for k in range(20)), participant]
    (found,) = id_findings(ids, range(2, 23))
    assert (found.rule, found.severity, found.file, found.row) == ("identity-id", "warning", "participants.csv", 22)
    assert sign in found.seen
    assert participant not in str(found)


@pytest.mark.parametrize("pattern", ["P{:03d}", "SARC-{:04d}", "{}", "patient {}", "KX{}Q", "tongji-{:05d}", "00000{}"])
def test_pseudonyms_are_in_order(pattern: str) -> None:
    assert id_findings([pattern.format(k) for k in range(40)], range(2, 42)) == ()


# ---- digests ---------------------------------------------------------------------------------------------------------


def test_a_patient_id_is_known_again_whatever_its_blanks_and_case() -> None:
    salt = b"salt of this site"
    assert header_digest("H 7731a", salt) == header_digest("h7731A ", salt)
    assert header_digest("H7731a", salt) != header_digest("H7731b", salt)
    assert header_digest("H7731a", salt) != header_digest("H7731a", b"another salt")
    assert header_digest("  ", salt) == ""
    assert len(header_digest("H7731a", salt)) == 32
