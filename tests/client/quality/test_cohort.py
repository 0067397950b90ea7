"""A cohort has enough of each class, everybody once, and images that do not tell the class by being there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.quality.cohort import cohort_findings, muscle_name
from client.quality.persons import twins
from client.quality.records import ImageRecord
from sarco_models.cohort import split
from sarco_models.config import StudyConfig
from sarco_models.errors import Finding
from sarco_models.schema import ImageRow, ParticipantTable, examine_participants
from tests.client.quality.cohorts import STUDY, clean, examined
from tests.sites import opened, tables_site, tables_study

DAY = "2024-03-0{}"


def images(
    read: ParticipantTable, counts: Sequence[int] | int = 2, **changes: Sequence[str]
) -> tuple[list[ImageRow], list[ImageRecord], "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
    """``counts`` images of each person; ``changes`` are values of muscle, side, exam_date or header_id by image."""
    each = [counts] * len(read.ids) if isinstance(counts, int) else counts
    owner = np.repeat(np.arange(len(read.ids)), each)
    rows, records = [], []
    for k, person in enumerate(owner):
        of_row = {name: v[k] for name, v in changes.items() if name != "header_id"}
        told = {"muscle": "rectus_femoris", "side": "right", "exam_date": DAY.format(1 + k % 9)} | of_row
        rows.append(ImageRow(k + 2, f"images/{k}.dcm", read.ids[person], "", **told))  # type: ignore[arg-type]
        header = changes["header_id"][k] if "header_id" in changes else f"digest {person}"
        records.append(ImageRecord(rows[-1], (), content=f"{k:04x}", header_id=header))
    return rows, records, owner


def found(
    folder: Path,
    table: pd.DataFrame,
    counts: Sequence[int] | int = 2,
    study: StudyConfig = STUDY,
    **changes: Sequence[str],
) -> list[Finding]:
    read = examined(folder, table)
    return list(cohort_findings(read, *images(read, counts, **changes), study))


def told(findings: list[Finding], rule: str) -> list[Finding]:
    return [f for f in findings if f.rule == rule]


def only(findings: list[Finding], rule: str) -> Finding:
    (finding,) = told(findings, rule)
    return finding


def study(**parts: dict[str, object]) -> StudyConfig:
    return STUDY.model_copy(
        update={name: getattr(STUDY, name).model_copy(update=change) for name, change in parts.items()}
    )


IMAGES_ONLY = study(model={"modalities": ("image",)})
TABLES_ONLY = study(model={"modalities": ("clinical", "lab")})


@pytest.mark.parametrize("center", ["shanghai", "sichuan", "zhongshan"])
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_clean_cohort_has_nothing_but_notes_and_its_size(tmp_path: Path, center: str, seed: int) -> None:
    findings = found(tmp_path, clean(center, "small", seed))
    assert {f.rule for f in findings} == {"cohort-size", "muscle"}
    assert only(findings, "cohort-size").severity == ("warning" if center == "zhongshan" else "note")


# ---- enough of each class --------------------------------------------------------------------------------------------


def of_classes(positive: int, negative: int) -> pd.DataFrame:
    people = clean(scale="full")
    sick, healthy = people.query("sarcopenia == 1").head(positive), people.query("sarcopenia == 0").head(negative)
    return pd.concat([sick, healthy])


SIZES = {
    "large enough": (30, 60, "note", "training 18 + 36, validation 4 + 9, test 8 + 15"),
    "just enough to train": (16, 60, "note", "training 10 + 36, validation 2 + 9, test 4 + 15"),
    "few to train": (15, 60, "warning", "training 9 + 36, validation 2 + 9, test 4 + 15"),
    "too few people": (4, 11, "error", "training 2 + 7, validation 1 + 2, test 1 + 2"),
    "one class": (0, 40, "error", "training 0 + 24, validation 0 + 6, test 0 + 10"),
}


@pytest.mark.parametrize(("positive", "negative", "severity", "parts"), SIZES.values(), ids=SIZES)
def test_the_split_is_said_before_anybody_is_split(
    tmp_path: Path, positive: int, negative: int, severity: str, parts: str
) -> None:
    finding = only(found(tmp_path, of_classes(positive, negative)), "cohort-size")
    assert finding.severity == severity
    assert finding.seen == f"{positive} positive + {negative} negative: {parts}"


def test_people_without_a_label_are_counted_apart(tmp_path: Path) -> None:
    read = examined(tmp_path, of_classes(30, 60))
    read.labels[:3] = -1
    finding = only(list(cohort_findings(read, *images(read), STUDY)), "cohort-size")
    assert finding.seen.startswith("27 positive + 60 negative: ")
    assert finding.seen.endswith("; 3 without a label")


def test_the_split_that_is_said_is_the_split_that_is_made(tmp_path: Path) -> None:
    for n in (10, 17, 24, 31):
        config = tables_study(federation={"min_participants": 2})
        cohort = opened(tables_site(tmp_path / str(n), n), config)
        made = split(cohort, config.split, 1)
        parts = [
            f"{int(p.labels.sum())} + {int((p.labels == 0).sum())}" for p in (made.train, made.validation, made.test)
        ]
        table = examine_participants(tmp_path / str(n) / "participants.csv", config)
        finding = only(list(cohort_findings(table, [], [], np.zeros(0, np.int64), config)), "cohort-size")
        assert finding.seen.endswith("training {}, validation {}, test {}".format(*parts))


def test_with_images_alone_people_without_one_do_not_count(tmp_path: Path) -> None:
    table = of_classes(30, 60)
    counts = [0] * 20 + [2] * 70
    assert only(found(tmp_path, table, counts), "cohort-size").seen.startswith("30 positive + 60 negative")
    alone = found(tmp_path, table, counts, IMAGES_ONLY)
    assert only(alone, "cohort-size").seen.startswith("10 positive + 60 negative")
    assert only(alone, "no-image").severity == "warning"


def test_a_rare_label_is_doubted(tmp_path: Path) -> None:
    assert only(found(tmp_path, of_classes(10, 240)), "class-balance").seen == "4.0% positive"
    assert not told(found(tmp_path, of_classes(20, 240)), "class-balance")


# ---- images and people -----------------------------------------------------------------------------------------------


def test_people_without_a_usable_image_are_one_note_with_their_rows(tmp_path: Path) -> None:
    finding = only(found(tmp_path, of_classes(30, 60), [2] * 40 + [0] * 3 + [2] * 47), "no-image")
    assert (finding.severity, finding.file) == ("note", "participants.csv")
    assert finding.seen == "no usable image of 3 people of 90: rows 42, 43, 44"
    assert not told(found(tmp_path, of_classes(30, 60), 0, TABLES_ONLY), "no-image")


def test_an_image_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    read = examined(tmp_path, of_classes(30, 60))
    rows, records, owner = images(read, 1)
    records[5] = ImageRecord(rows[5], (), content="00ff", left_out=True)
    records[6] = ImageRecord(rows[6], ())
    assert only(list(cohort_findings(read, rows, records, owner, STUDY)), "no-image").seen.endswith("rows 7, 8")


def test_images_of_one_class_alone_give_the_label_away(tmp_path: Path) -> None:
    finding = only(found(tmp_path, of_classes(30, 60), [2] * 30 + [0] * 40 + [2] * 20), "missing-by-class")
    assert (finding.severity, finding.file) == ("warning", "images.csv")
    assert finding.seen == "no image of 0% of the positive and 67% of the negative people"


def test_the_number_of_images_by_class_is_a_note_and_near_the_label_itself_a_warning(tmp_path: Path) -> None:
    """Chen et al. 2025: 6.0 images of a positive, 8.3 of a negative person (SCIENCE 1.1, C11)."""
    like_the_paper = [*[4, 5, 6, 7, 8] * 6, *[5, 7, 8, 9, 10, 11] * 10]
    finding = only(found(tmp_path, of_classes(30, 60), like_the_paper), "image-count")
    assert (finding.severity, finding.file) == ("note", "images.csv")
    assert finding.seen.startswith("6.0 images of a positive and 8.3 of a negative person")
    assert only(found(tmp_path, of_classes(30, 60), [3] * 30 + [8] * 60), "image-count").severity == "warning"
    assert not told(found(tmp_path, of_classes(30, 60), [4, 5, 6, 7, 8] * 18), "image-count")


# ---- one person, one id ----------------------------------------------------------------------------------------------


def test_a_row_that_stands_twice_under_two_ids_is_an_error(tmp_path: Path) -> None:
    table = clean()
    finding = only(found(tmp_path, pd.concat([table, table.iloc[[7]]])), "same-person")
    assert (finding.severity, finding.row, finding.file) == ("error", 91, "participants.csv")
    assert finding.seen.startswith("the same values as row 9 in ")


def test_a_row_typed_a_second_time_is_found_although_some_values_differ(tmp_path: Path) -> None:
    table = clean()
    again = table.iloc[[7]].copy()
    again["weight_kg"] += 1.5
    again["bmi_kg_per_m2"] += 0.6
    again["albumin_g_per_l"] = np.nan
    again["tsh_miu_per_l"] += 0.3
    finding = only(found(tmp_path, pd.concat([table, again])), "same-person")
    assert (finding.severity, finding.row) == ("warning", 91)


@pytest.mark.parametrize("center", ["shanghai", "sichuan", "zhongshan"])
def test_two_people_are_never_taken_for_one(tmp_path: Path, center: str) -> None:
    for scale, seed in (("small", 11), ("small", 12), ("full", 13)):
        assert twins(examined(tmp_path, clean(center, scale, seed)).values) == []


def test_two_people_of_a_coarse_table_are_not_taken_for_one() -> None:
    """Age in decades and three diagnoses: many people share them all, and that says nothing."""
    rng = np.random.default_rng(2)
    coarse = np.column_stack([rng.integers(6, 9, 200) * 10, *rng.integers(0, 2, (3, 200))]).astype(float)
    assert twins(coarse) == []


def test_the_fewest_values_that_prove_a_person_grow_with_the_cohort() -> None:
    rng = np.random.default_rng(2)
    few, many = rng.integers(0, 60, (30, 4)).astype(float), rng.integers(0, 60, (3000, 4)).astype(float)
    few[-1], many[-1] = few[0], many[0]
    assert [pair[:2] for pair in twins(few)] == [(0, 29)]
    assert twins(many) == []


def test_rows_with_hardly_a_value_are_nobodys_twin() -> None:
    values = np.full((20, 22), np.nan)
    values[:, 0] = 1.0
    assert twins(values) == []


def test_one_header_id_under_two_participants_is_an_error(tmp_path: Path) -> None:
    table = of_classes(30, 60)
    headers = [f"d{k // 2}" for k in range(180)]
    headers[8:10] = ["d0", "d0"]
    finding = only(found(tmp_path, table, 2, header_id=headers), "same-person")
    assert (finding.severity, finding.row) == ("error", 6)
    assert finding.seen == "the id in the headers of its images is that of row 2's images"


def test_a_placeholder_that_all_headers_share_is_one_note(tmp_path: Path) -> None:
    findings = found(tmp_path, of_classes(30, 60), 2, header_id=["ANON"] * 180)
    finding = only(findings, "header-id")
    assert (finding.severity, finding.seen) == ("note", "the same id in the headers of 90 people's images")
    assert not told(findings, "same-person")


def test_another_header_id_among_a_persons_images_is_a_warning_with_the_images_row(tmp_path: Path) -> None:
    headers = [f"d{k // 3}" for k in range(270)]
    headers[31] = "somebody"
    finding = only(found(tmp_path, of_classes(30, 60), 3, header_id=headers), "two-persons")
    assert (finding.severity, finding.file, finding.row) == ("warning", "images.csv", 33)
    assert finding.seen.endswith("other images: row 33")


def test_header_ids_made_anew_for_every_image_are_one_note(tmp_path: Path) -> None:
    findings = found(tmp_path, of_classes(30, 60), 3, header_id=[f"export {k}" for k in range(270)])
    assert only(findings, "header-id").severity == "note"
    assert not told(findings, "two-persons")


def test_images_without_a_header_id_and_of_unknown_people_say_nothing(tmp_path: Path) -> None:
    read = examined(tmp_path, of_classes(30, 60))
    rows, records, owner = images(read, header_id=[""] * 180)
    owner[:4] = -1
    findings = list(cohort_findings(read, rows, records, owner, STUDY))
    assert {f.rule for f in findings} == {"cohort-size", "muscle", "no-image"}


# ---- dates and muscles -----------------------------------------------------------------------------------------------


def dates(*values: str) -> list[str]:
    return [*values, *(DAY.format(1 + k % 9) for k in range(180 - len(values)))]


def test_default_dates_are_told_with_the_images_rows(tmp_path: Path) -> None:
    finding = only(found(tmp_path, of_classes(30, 60), exam_date=dates("1900-01-01", "", "1970-01-01")), "exam-date")
    assert (finding.severity, finding.seen) == ("warning", "a date before 1990: rows 2, 4")


def test_one_date_for_all_is_a_note(tmp_path: Path) -> None:
    finding = only(found(tmp_path, of_classes(30, 60), exam_date=["2024-03-01"] * 180), "exam-date")
    assert (finding.severity, finding.seen) == ("note", "one date for 90 people")
    assert not told(found(tmp_path, of_classes(30, 60), exam_date=[""] * 180), "exam-date")


def test_two_visits_of_one_person_are_told_and_two_legs_on_two_days_are_not(tmp_path: Path) -> None:
    finding = only(found(tmp_path, of_classes(30, 60), exam_date=dates("2023-01-10", "2023-11-20")), "two-visits")
    assert (finding.severity, finding.seen) == ("warning", "images over 180 days apart in 1 person: row 2")
    assert not told(found(tmp_path, of_classes(30, 60), exam_date=dates("2024-03-01", "2024-03-08")), "two-visits")


def test_muscles_and_sides_are_counted(tmp_path: Path) -> None:
    sides = ["left"] * 90 + ["right"] * 80 + [""] * 10
    finding = only(found(tmp_path, of_classes(30, 60), side=sides), "muscle")
    assert finding.seen == "180 of rectus femoris; 90 left, 80 right, 10 no side"


def test_a_stray_muscle_is_told_with_its_rows_and_an_unknown_name_is_never_shown(tmp_path: Path) -> None:
    muscles = ["rectus femoris"] * 177 + ["VI", "VI", "Zhang San"]
    findings = found(tmp_path, of_classes(30, 60), muscle=muscles)
    assert [f.seen for f in told(findings, "muscle") if f.severity == "warning"] == [
        "vastus intermedius in rows 179, 180",
        "a text of 9 characters in row 181",
    ]
    assert not any("Zhang" in str(f) for f in findings)


def test_a_protocol_of_two_muscles_has_no_strays(tmp_path: Path) -> None:
    muscles = ["rectus_femoris", "biceps"] * 90
    assert only(found(tmp_path, of_classes(30, 60), muscle=muscles), "muscle").severity == "note"


def test_one_muscle_written_in_several_ways_is_a_note(tmp_path: Path) -> None:
    muscles = ["RF"] * 90 + ["rectus_femoris"] * 90
    counted, spelt = told(found(tmp_path, of_classes(30, 60), muscle=muscles), "muscle")
    assert counted.seen.startswith("180 of rectus femoris;")
    assert (spelt.severity, spelt.seen) == ("note", "rectus femoris written in 2 ways")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rectus_femoris", "rectus femoris"), ("RF", "rectus femoris"), ("M. Rectus-Femoris", "rectus femoris"),
        ("股直肌", "rectus femoris"), ("PLPB", "peroneus longus + brevis"), ("", ""),
        ("Li Si", "a text of 5 characters"),
    ],
)  # fmt: skip
def test_a_muscle_is_known_by_the_names_that_hospitals_write(text: str, name: str) -> None:
    assert muscle_name(text) == name


def test_findings_name_the_file_that_the_hospital_has(tmp_path: Path) -> None:
    """The table may be a workbook."""
    read = examined(tmp_path, of_classes(4, 4))
    workbook = replace(read, sheet=replace(read.sheet, name="participants.xlsx"))
    files = {f.file for f in cohort_findings(workbook, *images(read, [0] + [2] * 7), STUDY)}
    assert files == {"participants.xlsx", "images.csv"}


def test_a_study_of_tables_alone_has_no_images_to_check(tmp_path: Path) -> None:
    read = examined(tmp_path, of_classes(30, 60))
    findings = cohort_findings(read, [], [], np.zeros(0, dtype=np.int64), TABLES_ONLY)
    assert [f.rule for f in findings] == ["cohort-size"]
