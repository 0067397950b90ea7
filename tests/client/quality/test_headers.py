"""A header's fields about people are named; what stands in them is not, and damage says nothing."""

import gzip
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset, dcmread

from client.quality.headers import (
    Header,
    MaskHeader,
    header_findings,
    mask_header_findings,
    read_header,
    read_mask_header,
)
from client.quality.identity import header_digest
from tests.client.quality.looks import SALT, row, write_dicom, write_labelme

PIXELS = np.zeros((20, 30), dtype=np.uint8)
SECRETS = ("Muster", "Anna", "Klinik", "19500131", "H7731")


def header(path: Path, participant: str = "P0001") -> Header:
    with path.open("rb") as file:
        found = read_header(file, participant, SALT)
    assert not any(secret in repr(found) for secret in SECRETS)
    return found


def dicom(folder: Path, **elements: Any) -> Path:
    return write_dicom(folder / "a.dcm", PIXELS, **elements)


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def test_names_of_persons_are_a_warning_that_names_the_fields(tmp_path: Path) -> None:
    path = dicom(
        tmp_path, PatientName="Muster^Anna", PatientID="H7731", PatientBirthDate="19500131", InstitutionName="Klinik"
    )
    found = header(path)
    assert found.person == ("PatientBirthDate", "PatientID", "PatientName")
    assert found.around == ("InstitutionName", "UIDs")
    assert found.header_id == header_digest("H7731", SALT)
    (finding,) = header_findings(found, row())
    assert (finding.rule, finding.severity, finding.row) == ("identity-header", "warning", 2)
    assert finding.seen == "PatientBirthDate, PatientID, PatientName, InstitutionName, UIDs"


@pytest.mark.parametrize(
    "keyword", ["OtherPatientIDs", "PatientAddress", "PatientMotherBirthName", "ResponsiblePerson"]
)
def test_any_field_of_a_person_is_enough(tmp_path: Path, keyword: str) -> None:
    (finding,) = header_findings(header(dicom(tmp_path, **{keyword: "Muster"})), row())
    assert finding.severity == "warning"
    assert keyword in finding.seen


def test_staff_place_and_day_are_a_note(tmp_path: Path) -> None:
    found = header(dicom(tmp_path, OperatorsName="Muster", StudyDate="20230131", StudyDescription="Anna", StudyID="7"))
    assert found.person == ()
    assert set(found.around) == {"OperatorsName", "StudyDate", "StudyDescription", "StudyID", "UIDs"}
    (finding,) = header_findings(found, row())
    assert finding.severity == "note"


def test_fields_inside_sequences_and_private_elements_count(tmp_path: Path) -> None:
    other = Dataset()
    other.PatientID = "H7731"
    nested = dicom(tmp_path, ReferencedPatientSequence=[other], PatientID="P0001")
    assert header(nested).person == ("PatientID",)
    assert header(dicom(tmp_path, OtherPatientIDsSequence=[other])).person == ("OtherPatientIDsSequence",)
    data = dcmread(dicom(tmp_path))
    data.private_block(0x0009, "Klinik", create=True).add_new(0x01, "LO", "Muster")
    data.save_as(tmp_path / "a.dcm")
    found = header(tmp_path / "a.dcm")
    assert found.private == 2
    assert "2 private elements" in header_findings(found, row())[0].seen


def test_a_pseudonymised_file_is_a_note_and_a_clean_one_nothing(tmp_path: Path) -> None:
    said = {"PatientIdentityRemoved": "YES", "PatientName": "SYN^0001", "PatientID": "P0001"}
    (finding,) = header_findings(header(dicom(tmp_path, **said)), row())
    assert finding.severity == "note"
    assert "identity is removed" in finding.seen
    clean = said | {"PatientName": "P^0001"}
    assert header_findings(header(dicom(tmp_path, **clean)), row()) == ()
    lying = said | {"PatientID": "H7731"}
    (finding,) = header_findings(header(dicom(tmp_path, **lying)), row())
    assert finding.severity == "warning", "another id than the pseudonym"


@pytest.mark.parametrize("name", ["ANONYMOUS", "Anon^", "unknown", " ", ""])
def test_nobodys_name_is_no_name(tmp_path: Path, name: str) -> None:
    assert header(dicom(tmp_path, PatientName=name, PatientIdentityRemoved="YES")).person == ()


@pytest.mark.parametrize("keep", [0, 3, 131, 140, 300, 500])
def test_damaged_files_say_nothing(tmp_path: Path, keep: int) -> None:
    path = dicom(tmp_path, PatientName="Muster^Anna")
    damaged = bytearray(path.read_bytes()[:keep]) + bytes(range(256)) * (keep % 2)
    found = read_header(BytesIO(bytes(damaged)), "P0001", SALT)
    assert not any(secret in repr(found) for secret in SECRETS)


# ---- pictures --------------------------------------------------------------------------------------------------------


def picture(path: Path, **options: Any) -> Path:
    Pillow.fromarray(PIXELS).save(path, **options)
    return path


def test_pictures_without_texts_say_nothing(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "tif", "bmp"):
        assert header(picture(tmp_path / f"a.{suffix}")) == Header()


def test_texts_of_pictures_are_named(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x013B], exif[0x010E], exif[0x0131] = "Anna Muster", "Klinik", "GIMP"
    assert header(picture(tmp_path / "a.jpg", exif=exif)).around == ("Artist", "ImageDescription")
    assert header(picture(tmp_path / "b.jpg", comment=b"Anna Muster")).around == ("Comment",)
    assert header(picture(tmp_path / "a.tif", tiffinfo={270: "Anna Muster"})).around == ("ImageDescription",)
    texts = PngInfo()
    texts.add_text("Author", "Anna Muster")
    texts.add_text("Software", "GIMP")
    texts.add_text("Anna", "Muster", zip=True)
    assert header(picture(tmp_path / "a.png", pnginfo=texts)).around == ("Author", "a text")
    (finding,) = header_findings(header(tmp_path / "a.png"), row())
    assert finding.severity == "note"


def test_a_text_behind_the_pixels_of_a_png_is_found(tmp_path: Path) -> None:
    plain = picture(tmp_path / "a.png").read_bytes()
    chunk = b"Comment\0Anna Muster"
    text = len(chunk).to_bytes(4) + b"tEXt" + chunk + b"\0\0\0\0"
    (tmp_path / "a.png").write_bytes(plain[:-12] + text + plain[-12:])
    assert header(tmp_path / "a.png").around == ("Comment",)


# ---- masks -----------------------------------------------------------------------------------------------------------


def volume(path: Path, **texts: str) -> Path:
    image: Any = sitk.GetImageFromArray(PIXELS[None])
    for key, text in texts.items():
        image.SetMetaData(key, text)
    sitk.WriteImage(image, str(path))
    return path


def signs(path: Path) -> dict[str, str]:
    header = read_mask_header(path)
    assert not any(secret in repr(header) for secret in SECRETS)
    return {f.severity: f.seen for f in mask_header_findings(header, row())}


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha", "gipl", "png"])
def test_plain_masks_say_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    assert signs(picture(path) if suffix == "png" else volume(path)) == {}


@pytest.mark.parametrize(("place", "size"), [(14, 18), (148, 80), (228, 24)])
def test_texts_of_a_nifti_header_are_found(tmp_path: Path, place: int, size: int) -> None:
    content = bytearray(volume(tmp_path / "m.nii").read_bytes())
    content[place : place + size] = b"Anna Muster".ljust(size, b"\0")
    (tmp_path / "m.nii").write_bytes(content)
    assert signs(tmp_path / "m.nii")["warning"] == "a word of 4 letters"
    (tmp_path / "m.nii.gz").write_bytes(gzip.compress(bytes(content)))
    assert signs(tmp_path / "m.nii.gz").keys() == {"warning"}


def test_texts_of_nrrd_and_metaimage_headers_are_found(tmp_path: Path) -> None:
    assert signs(volume(tmp_path / "m.nrrd", owner="Anna Muster")).keys() == {"warning"}
    assert signs(volume(tmp_path / "m.nrrd", Segment0_Name="Anna")) == {}, "a segment's name, as Slicer writes it"
    plain = volume(tmp_path / "m.mha").read_bytes()
    (tmp_path / "m.mha").write_bytes(plain.replace(b"ObjectType", b"Comment = Anna Muster\nObjectType", 1))
    assert signs(tmp_path / "m.mha").keys() == {"warning"}


def test_labelme_names_its_image_and_may_hold_a_copy(tmp_path: Path) -> None:
    size = (20, 30)
    path = tmp_path / "m.json"
    write_labelme(path, [[1, 1], [5, 1], [5, 5]], size, "C:\\export\\rf_0001.jpg", None)
    assert read_mask_header(path) == MaskHeader(("rf_0001.jpg",), False, "C:\\export\\rf_0001.jpg")
    assert signs(path) == {}
    write_labelme(path, [[1, 1], [5, 1], [5, 5]], size, "rf_0001.jpg", "iVBORw0KGgo=")
    assert signs(path) == {"note": "a copy of the whole picture"}
    write_labelme(path, [[1, 1], [5, 1], [5, 5]], size, "Muster_Anna.jpg", None)
    assert signs(path).keys() == {"warning"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"imagePath": 3}', b"\x1f\x8b\x08broken", b"NRRD", b"\x89PNG"])
def test_damaged_masks_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    assert read_mask_header(tmp_path / "m.json") == MaskHeader(("",) if content.startswith(b"{") else ())
    assert mask_header_findings(read_mask_header(tmp_path / "m.json"), row()) == ()
    assert read_mask_header(tmp_path / "absent.nii") == MaskHeader()
