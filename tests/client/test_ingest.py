"""A messy export becomes a site's folder: the same pixels, the same masks, the same values, and nobody's name."""

import csv
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from client.ingest import Ingested, ingest, lines
from client.intake import transfer as transferring
from client.intake.copying import Job, Outcome
from client.intake.private import private_folder
from sarco_models.cohort import Cohort
from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import ConfigError, DataError
from sarco_models.images import Calibration, read_calibrations, read_image
from sarco_models.masks import read_mask
from sarco_models.schema import read_images, read_participants
from tests.exports import MM, REGION, Export, make_export
from tests.sites import image_study, opened

ROOT = Path(__file__).parents[2]
CONFIRMED = {
    '# unit = "mmol/L"  # the median': 'unit = "mmol/L"  # the median',
    '# derive = "age"': 'derive = "age"',
    "# dates = [": "dates = [",
    '# derive = "bmi"': 'derive = "bmi"',
}
"""What a person at the hospital corrects in the proposal."""


@pytest.fixture(scope="module")
def study() -> StudyConfig:
    return load_study(ROOT / "configs" / "study.toml")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, study: StudyConfig) -> tuple[Export, Ingested]:
    """An export, ingested twice: the proposal was corrected in between. Not changed by any test."""
    folder = tmp_path_factory.mktemp("hospital")
    export = make_export(folder / "source")
    ingest(export.folder, folder / "data", study, workers=0)
    correct(private_folder(folder / "data") / "mapping.toml", CONFIRMED)
    return export, ingest(export.folder, folder / "data", study, workers=0)


@pytest.fixture
def hospital(tmp_path: Path, done: tuple[Export, Ingested]) -> tuple[Export, Path]:
    """A copy of the export and of what was made of it, to change."""
    export, result = done
    shutil.copytree(export.folder, tmp_path / "source")
    shutil.copytree(result.data, tmp_path / "data")
    shutil.copytree(result.private, tmp_path / "data-private")
    return replace(export, folder=tmp_path / "source"), tmp_path / "data"


def correct(path: Path, changes: dict[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for before, after in changes.items():
        assert before in text, before
        text = text.replace(before, after, 1)
    path.write_text(text, encoding="utf-8")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key(result: Ingested) -> dict[str, str]:
    return {row["id"]: row["participant_id"] for row in rows(result.private / "key.csv")}


def copies(result: Ingested) -> dict[str, list[tuple[str, str]]]:
    """Path below the source -> copies of the image and its mask."""
    journal = transferring.Journal(result.private)
    return {path: [(c.image, c.mask) for c in record.outcome.copies] for path, record in journal.records.items()}


def contents(folder: Path, *, times: bool = True) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: digest and, if wanted, time of last change."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"",
            path.stat().st_mtime_ns if times else 0,
        )
        for path in sorted(folder.rglob("*"))
    }


# ---- names -----------------------------------------------------------------------------------------------------------


def test_nothing_that_names_somebody_is_in_the_data(done: tuple[Export, Ingested]) -> None:
    """Raw bytes and file names; decoded pictures; every element of every header."""
    export, result = done
    for path in result.data.rglob("*"):
        seen = [str(path.relative_to(result.data)).encode(), path.read_bytes() if path.is_file() else b""]
        if path.suffix == ".dcm":
            seen += [str(element.value).encode() for element in dcmread(path).iterall()]
        if path.suffix == ".png":
            with Image.open(path) as picture:
                seen += [np.asarray(picture).tobytes(), repr(picture.info).encode()]
        found = [word for word in export.identifying if any(word in content for content in seen)]
        assert not found, (path, found)


def test_the_search_for_names_finds_them_in_the_source(done: tuple[Export, Ingested]) -> None:
    """Else the test above could not fail."""
    export, _ = done
    everything = b"".join(
        str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in export.folder.rglob("*")
    )
    assert sum(word in everything for word in export.identifying) > 30


def test_findings_and_summary_name_nobody(done: tuple[Export, Ingested]) -> None:
    export, result = done
    said = "\n".join([*map(str, result.findings), *lines(result)]).encode()
    assert result.findings
    assert not [word for word in export.identifying if word in said]
    assert not [header for header in ("住院号", "白蛋白", "备注") if header.encode() in said]


def test_a_copy_is_a_valid_still_that_says_how_it_was_cleaned(done: tuple[Export, Ingested]) -> None:
    _, result = done
    data = dcmread(next((result.data / "images").glob("*.dcm")))
    assert data.SOPClassUID.name == "Ultrasound Image Storage"
    assert (data.BurnedInAnnotation, data.PatientIdentityRemoved) == ("NO", "YES")
    assert [code.CodeValue for code in data.DeidentificationMethodCodeSequence] == ["113100", "113101"]
    assert data.PatientID in key(result).values()
    assert not [e for e in data.iterall() if e.tag.is_private or (e.VR in ("DA", "TM", "DT") and e.value)]
    assert data.Manufacturer == "Tiny"
    assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


def test_uids_are_new_and_group_what_the_sources_grouped(done: tuple[Export, Ingested]) -> None:
    export, result = done
    made = copies(result)
    pairs = [(dcmread(export.folder / path), dcmread(result.data / made[path][0][0])) for path in made if "IM" in path
             if made[path]]  # fmt: skip
    for tag in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        old, new = [str(source[tag].value) for source, _ in pairs], [str(copy[tag].value) for _, copy in pairs]
        assert not set(old) & set(new)
        assert [old.index(uid) for uid in old] == [new.index(uid) for uid in new]


def test_the_key_is_for_its_owner_alone_and_lies_outside(done: tuple[Export, Ingested]) -> None:
    _, result = done
    assert not result.private.is_relative_to(result.data)
    for name in ("key.csv", "secret", "journal.jsonl", "places.csv", "mapping.toml"):
        assert stat.S_IMODE((result.private / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(result.private.stat().st_mode) == 0o700


def test_a_scanner_name_that_holds_a_persons_word_is_withheld(
    hospital: tuple[Export, Path], study: StudyConfig
) -> None:
    export, data = hospital
    path = next(iter(export.frames))
    source = dcmread(export.folder / path)
    source.ManufacturerModelName = "U1 of Operator"
    source.save_as(export.folder / path)
    result = ingest(export.folder, data, study, workers=0)
    copy = dcmread(data / copies(result)[path][0][0])
    assert (copy.Manufacturer, copy.ManufacturerModelName) == ("Tiny", "")


# ---- pixels and masks ------------------------------------------------------------------------------------------------


def test_the_regions_pixels_are_those_of_the_source_and_the_rest_is_black(done: tuple[Export, Ingested]) -> None:
    export, result = done
    calibrations = read_calibrations(result.data / "calibration.csv")
    x0, y0, x1, y1 = REGION
    said = Calibration(REGION, (MM, MM))
    for path, stored in export.frames.items():
        [(image, _)] = copies(result)[path]
        before = read_image(export.folder / path, said)
        after = read_image(result.data / image, calibrations.get(image), colour=True)
        np.testing.assert_array_equal(after.pixels, before.pixels)
        assert (after.mm_per_pixel, after.origin, after.stored_shape) == ((MM, MM), before.origin, stored.shape)
        assert after.device == before.device
        whole = read_image(result.data / image, Calibration((0, 0, stored.shape[1], stored.shape[0]), None)).pixels
        if image.endswith(".png"):
            assert whole[:y0].max() == whole[y1:].max() == whole[:, :x0].max() == whole[:, x1:].max() == 0
        else:
            pixels = dcmread(result.data / image).pixel_array
            assert pixels[:y0].max() == pixels[:, :x0].max() == 0
    assert len(export.frames) == 15


def test_masks_are_the_same_to_the_pixel(done: tuple[Export, Ingested]) -> None:
    export, result = done
    calibrations = read_calibrations(result.data / "calibration.csv")
    x0, y0, x1, y1 = REGION
    for path, source in export.masks.items():
        [(image, mask)] = copies(result)[path]
        after = read_mask(result.data / mask, read_image(result.data / image, calibrations.get(image)))
        before = read_image(export.folder / path, Calibration(REGION, (MM, MM)))
        np.testing.assert_array_equal(after, read_mask(export.folder / source, before))
        if source.endswith(".nii.gz"):
            np.testing.assert_array_equal(after, export.drawn[path][y0:y1, x0:x1])
    assert len(export.masks) == 10


def test_what_was_made_is_a_site(done: tuple[Export, Ingested], study: StudyConfig) -> None:
    _, result = done
    table = read_participants(result.data / "participants.csv", study)
    images, findings = read_images(result.data / "images.csv", table.ids)
    assert (len(table.ids), len(images), findings) == (6, 15, ())
    photographs = [row for row in images if row.image.endswith(".png")]
    assert {(row.muscle, row.side) for row in photographs} == {("rectus_femoris", "left")}
    assert {row.side for row in images if row.image.endswith(".dcm")} == {"right"}, "from the header"


def test_values_are_in_the_studys_units(done: tuple[Export, Ingested]) -> None:
    export, result = done
    names = key(result)
    table = {row["participant_id"]: row for row in rows(result.data / "participants.csv")}
    for id_, truth in export.truth.items():
        for column, value in truth.items():
            cell = table[names[id_]][column]
            if math.isnan(value):
                assert cell == "", column
            else:
                assert float(cell) == pytest.approx(float(value), rel=1e-3), column


def test_days_are_moved_and_the_time_between_exams_is_kept(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    path, other = list(export.frames)[:2]
    source = dcmread(export.folder / other)
    source.StudyDate = "20240110"  # two months after 2023-11-10
    source.save_as(export.folder / other)
    result = ingest(export.folder, data, study, workers=0)
    days = {row["image"]: np.datetime64(row["exam_date"]) for row in rows(data / "images.csv") if row["exam_date"]}
    first, second = (days[copies(result)[p][0][0]] for p in (path, other))
    assert second - first == np.datetime64("2024-01-10") - np.datetime64("2023-11-10")
    assert first < np.datetime64("2023-11-10")
    correct(result.mapping, {'exam_date = "shifted"': 'exam_date = "month"'})
    ingest(export.folder, data, study, workers=0)
    assert {row["exam_date"] for row in rows(data / "images.csv")} == {"", "2023-11-01", "2024-01-01"}


@pytest.mark.slow
def test_training_sees_the_same_people_in_the_copy(tmp_path: Path, image_folder: Path) -> None:
    """A folder in the site's own format is a source like any other; the cohort is the same but for the names."""
    config = image_study()
    ingest(image_folder, tmp_path / "data", config, workers=0)
    # The tiny site's frames are bare noise, some of which looks like writing.
    correct(
        private_folder(tmp_path / "data") / "mapping.toml", {'text_in_region = "refuse"': 'text_in_region = "keep"'}
    )
    result = ingest(image_folder, tmp_path / "data", config, workers=0)
    before, after = opened(image_folder, config), opened(tmp_path / "data", config)
    names = key(result)
    order = np.argsort([names[id_] for id_ in before.ids])
    np.testing.assert_array_equal(before.labels[order], after.labels)
    np.testing.assert_array_equal(before.table[order], after.table)

    def people(cohort: Cohort) -> list[set[bytes]]:
        pixels = np.asarray(cohort.pixels[np.arange(len(cohort.owner))])
        return [{p.tobytes() for p in pixels[cohort.owner == k]} for k in range(len(cohort))]

    seen = people(before)
    assert [seen[k] for k in order] == people(after)


# ---- what is left out ------------------------------------------------------------------------------------------------


def test_what_does_not_match_is_counted_and_listed_privately(done: tuple[Export, Ingested]) -> None:
    _, result = done
    places = rows(result.private / "places.csv")
    by_rule = {f.rule: f for f in result.findings if f.file == "places.csv"}
    expected = {"no-person": 1, "mask-alone": 1, "decode": 1, "not-understood": 2, "left-behind": 3, "no-mask": 6}
    for rule, count in expected.items():
        listed = [place["path"] for place in places if place["rule"] == rule]
        assert len(listed) == count, rule
        assert by_rule[rule].row is not None
        assert places[by_rule[rule].row - 2]["path"] == listed[0]  # type: ignore[operator]
    assert {
        "people": 6,
        "people with images": 5,
        "images found": 17,
        "images copied": 15,
    }.items() <= result.counts.items()


def test_cells_that_cannot_be_read_are_listed_by_row_and_column(done: tuple[Export, Ingested]) -> None:
    _, result = done
    limits = [(f.row, f.field) for f in result.findings if f.rule == "limit-of-detection"]
    assert limits == [(3, "tsh_miu_per_l")]


def test_an_image_whose_header_names_another_participant_is_left_out(
    hospital: tuple[Export, Path], study: StudyConfig
) -> None:
    export, data = hospital
    paths = list(export.frames)
    shutil.copyfile(export.folder / paths[3], export.folder / paths[0])
    result = ingest(export.folder, data, study, workers=0)
    [finding] = [f for f in result.findings if f.rule == "another-person"]
    assert finding.severity == "error"
    assert paths[0] not in copies(result)
    assert result.counts["images copied"] == 14


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, False),
        ({'text_in_region = "refuse"': 'text_in_region = "keep"'}, True),
        ({"checked = []": 'checked = ["**/IM_*", "照片/*"]'}, True),
    ],
)
def test_suspected_text_is_for_a_person_to_decide(
    hospital: tuple[Export, Path],
    study: StudyConfig,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    kept: bool,
) -> None:
    export, data = hospital
    shutil.rmtree(data / "images")
    shutil.rmtree(data / "masks")
    (private_folder(data) / "journal.jsonl").unlink()
    correct(private_folder(data) / "mapping.toml", change)
    monkeypatch.setattr("client.intake.copying.find_text", lambda pixels: ((1, 1, 9, 9),))
    result = ingest(export.folder, data, study, workers=0)
    assert bool(result.counts["images copied"]) == kept
    texts = [f for f in result.findings if f.rule == "burned-in-text"]
    assert [f.severity for f in texts] == ([] if "checked = []" in change else ["note" if kept else "warning"])
    if kept:
        burned_in = {dcmread(path).BurnedInAnnotation for path in (data / "images").glob("*.dcm")}
        assert burned_in == ({"NO"} if "checked = []" in change else {"YES"})


# ---- again and again -------------------------------------------------------------------------------------------------


def test_the_source_is_not_touched(tmp_path: Path, study: StudyConfig) -> None:
    export = make_export(tmp_path / "source", people=3)
    before = contents(export.folder)
    ingest(export.folder, tmp_path / "data", study, workers=0)
    ingest(export.folder, tmp_path / "data", study, workers=0)
    assert contents(export.folder) == before


def test_a_second_run_writes_nothing(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    ingest(export.folder, data, study, workers=0)  # the copies of the fixture have times of their own
    before = contents(data), contents(private_folder(data))
    result = ingest(export.folder, data, study, workers=0)
    assert (contents(data), contents(private_folder(data))) == before
    assert (result.counts["images new"], result.counts["images changed"]) == (0, 0)


def test_new_changed_touched_and_deleted_files_are_followed(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    before = copies(ingest(export.folder, data, study, workers=0))
    changed, deleted, touched, *_ = export.frames
    source = dcmread(export.folder / changed)
    source.PixelData = (255 - export.frames[changed]).tobytes()
    source.save_as(export.folder / changed)
    (export.folder / deleted).unlink()
    os.utime(export.folder / touched, (1, 1))
    new = changed.replace("IM_0001", "IM_0003")
    shutil.copyfile(export.folder / touched, export.folder / new)
    result = ingest(export.folder, data, study, workers=0)
    after = copies(result)
    assert after[changed] != before[changed], "a file of the data never changes: it gets a new number"
    assert not (data / before[changed][0][0]).exists()
    assert not (data / before[deleted][0][0]).exists()
    assert after[touched] == before[touched]
    listed = {row["image"] for row in rows(data / "images.csv")}
    assert listed == {f"images/{path.name}" for path in (data / "images").iterdir()}
    assert result.counts["images changed"] == 1


def test_an_interrupted_run_ends_with_the_same_data(
    tmp_path: Path, study: StudyConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = make_export(tmp_path / "source", people=4)
    ingest(export.folder, tmp_path / "whole", study, workers=0)
    private_folder(tmp_path / "cut").mkdir()
    shutil.copyfile(private_folder(tmp_path / "whole") / "secret", private_folder(tmp_path / "cut") / "secret")
    monkeypatch.setattr(transferring, "copy", stopping_after(5, transferring.copy))
    with pytest.raises(KeyboardInterrupt):
        ingest(export.folder, tmp_path / "cut", study, workers=0)
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "participants.csv").exists(), "tables come last"
    ingest(export.folder, tmp_path / "cut", study, workers=0)
    assert contents(tmp_path / "cut", times=False) == contents(tmp_path / "whole", times=False)


def stopping_after(count: int, copy: Callable[[Job], Outcome]) -> Callable[[Job], Outcome]:
    seen: list[Job] = []

    def stopping(job: Job) -> Outcome:
        seen.append(job)
        if len(seen) > count:
            raise KeyboardInterrupt
        return copy(job)

    return stopping


@pytest.mark.slow
def test_workers_make_the_same_data(tmp_path: Path, study: StudyConfig) -> None:
    export = make_export(tmp_path / "source", people=4)
    for name in ("one", "two"):
        private_folder(tmp_path / name).mkdir()
        (private_folder(tmp_path / name) / "secret").write_text("ab" * 32)
    ingest(export.folder, tmp_path / "one", study, workers=0)
    ingest(export.folder, tmp_path / "two", study, workers=2)
    assert contents(tmp_path / "one", times=False) == contents(tmp_path / "two", times=False)


def test_a_drive_that_is_not_mounted_empties_nothing(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    before = contents(data / "images")
    shutil.rmtree(export.folder / "超声")
    shutil.rmtree(export.folder / "照片")
    with pytest.raises(DataError, match="15 of 15 images are gone"):
        ingest(export.folder, data, study, workers=0)
    assert contents(data / "images") == before


def test_people_keep_their_pseudonyms_and_new_ones_get_new(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    before = key(ingest(export.folder, data, study, workers=0))
    table = export.folder / "数据" / "患者信息.csv"
    table.write_bytes(
        table.read_bytes() + table.read_bytes().splitlines()[-1].replace(export.ids[-1].encode(), b"008888")
    )
    after = key(ingest(export.folder, data, study, workers=0))
    assert before.items() < after.items()
    assert after["008888"] == "P0007"
    assert sorted(before.values()) == [f"P000{k}" for k in range(1, 7)]


def test_ids_of_the_hospital_can_be_kept_where_they_are_names_of_files(
    hospital: tuple[Export, Path], study: StudyConfig
) -> None:
    export, data = hospital
    correct(private_folder(data) / "mapping.toml", {"pseudonyms = true": "pseudonyms = false"})
    ingest(export.folder, data, study, workers=0)
    assert {row["participant_id"] for row in rows(data / "participants.csv")} == set(export.ids)
    assert {path.name.partition("_")[0] for path in (data / "images").iterdir()} == set(export.ids[:-1])
    table = export.folder / "数据" / "患者信息.csv"
    table.write_bytes(table.read_bytes().replace(export.ids[0].encode(), b"../../etc"))
    with pytest.raises(ConfigError, match="cannot be names of files"):
        ingest(export.folder, data, study, workers=0)


# ---- folders ---------------------------------------------------------------------------------------------------------


def test_folders_that_lie_in_one_another_are_refused(tmp_path: Path, study: StudyConfig) -> None:
    (tmp_path / "source" / "inner").mkdir(parents=True)
    for source, data in [("source", "source/data"), ("source/inner", "source"), ("source", "source")]:
        with pytest.raises(ConfigError, match="lie in one another"):
            ingest(tmp_path / source, tmp_path / data, study)
    assert [path.name for path in (tmp_path / "source").rglob("*")] == ["inner"]


def test_a_folder_that_somebody_made_by_hand_is_never_written_into(tmp_path: Path, study: StudyConfig) -> None:
    export = make_export(tmp_path / "source", people=2)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "participants.csv").write_text("mine")
    with pytest.raises(ConfigError, match="was not made by this command"):
        ingest(export.folder, tmp_path / "data", study)
    assert not private_folder(tmp_path / "data").exists()


def test_the_private_folder_must_be_the_right_one(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    secret = private_folder(data) / "secret"
    secret.write_text("00" * 32)
    with pytest.raises(ConfigError, match="belongs to other data"):
        ingest(export.folder, data, study)
    shutil.rmtree(private_folder(data))
    with pytest.raises(ConfigError, match="is gone"):
        ingest(export.folder, data, study)


def test_the_mapping_is_never_proposed_into_the_source(tmp_path: Path, study: StudyConfig) -> None:
    export = make_export(tmp_path / "source", people=2)
    with pytest.raises(ConfigError, match="only read"):
        ingest(export.folder, tmp_path / "data", study, mapping=export.folder / "mapping.toml")
    assert not (export.folder / "mapping.toml").exists()


def test_options_that_contradict_a_mapping_are_refused(hospital: tuple[Export, Path], study: StudyConfig) -> None:
    export, data = hospital
    with pytest.raises(ConfigError, match="change it there"):
        ingest(export.folder, data, study, frames="each")


def test_without_a_table_it_says_what_to_name(tmp_path: Path, study: StudyConfig) -> None:
    export = make_export(tmp_path / "source", people=2)
    shutil.rmtree(export.folder / "数据")
    with pytest.raises(DataError, match="no table of participants"):
        ingest(export.folder, tmp_path / "data", study)


def test_the_report_is_the_findings_and_counts(done: tuple[Export, Ingested], study: StudyConfig) -> None:
    _, result = done
    page = json.loads((result.data / "ingest-report.json").read_text(encoding="utf-8"))
    assert page["counts"].items() <= result.counts.items()
    assert len(page["findings"]) == len(result.findings)
    assert page["study_digest"] == study.digest
    assert json.loads((result.data / "manifest.json").read_text()) == {"synthetic": True}
