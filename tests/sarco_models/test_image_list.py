"""images.csv is read row by row; no path leaves the folder, no image counts twice, and no finding names one."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import pytest

from sarco_models.errors import DataError, Finding
from sarco_models.image_list import examine_images, read_images
from tests.sites import write_csv

IMAGE_COLUMNS = ("image", "participant_id", "mask")


def image_table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    return write_csv(path / "images.csv", IMAGE_COLUMNS, rows)


def image_fault(path: Path) -> Finding:
    with pytest.raises(DataError) as error:
        read_images(path, ["P0", "P1"])
    (finding,) = error.value.findings
    return finding


def test_images_are_read_with_their_row_and_an_empty_mask_is_none(tmp_path: Path) -> None:
    rows, findings = read_images(image_table(tmp_path, [("b.dcm", " P1 ", "b.png"), ("a.png", "P0", "")]), ["P0", "P1"])
    assert findings == ()
    assert [(r.row, r.image, r.participant_id, r.mask) for r in rows] == [
        (2, "b.dcm", "P1", "b.png"),
        (3, "a.png", "P0", ""),
    ]


def test_an_image_of_somebody_who_is_in_no_other_table_is_left_out_and_listed(tmp_path: Path) -> None:
    rows, findings = read_images(image_table(tmp_path, [("a.png", "P9", ""), ("b.png", "P1", "")]), ["P0", "P1"])
    assert [r.image for r in rows] == ["b.png"]
    (finding,) = findings
    assert (finding.severity, finding.rule, finding.file) == ("warning", "one-table-only", "images.csv")
    assert (finding.row, finding.field) == (2, "participant_id")
    assert "add the person to participants.csv or correct the id" in finding.remedy


def test_an_image_given_twice_is_refused_with_both_rows(tmp_path: Path) -> None:
    """The same image for two people would stand on both sides of a split."""
    finding = image_fault(image_table(tmp_path, [("a.png", "P0", ""), ("a.png", "P1", "")]))
    assert (finding.rule, finding.row, finding.field) == ("duplicate-image", 3, "image")
    assert finding.seen == "the same image as row 2 of another person"


def test_an_empty_image_cell_is_refused(tmp_path: Path) -> None:
    finding = image_fault(image_table(tmp_path, [("", "P0", "m.png")]))
    assert (finding.rule, finding.row, finding.field, finding.remedy) == ("path", 2, "image", "fill it in")


@pytest.mark.parametrize("column", ["image", "participant_id"])
def test_an_absent_column_of_images_is_refused(tmp_path: Path, column: str) -> None:
    columns = [c for c in IMAGE_COLUMNS if c != column]
    finding = image_fault(write_csv(tmp_path / "images.csv", columns, [("a", "b")]))
    assert (finding.rule, finding.field, finding.seen) == ("column", column, "absent")


def test_spaces_in_the_header_of_images_change_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "images.csv", [" image", "participant_id ", "mask"], [("a.png", "P0", "")])
    assert read_images(path, ["P0"])[0][0].image == "a.png"


# ---- muscle, side, date, frame ---------------------------------------------------------------------------------------

COLUMNS = ("image", "participant_id", "mask", "muscle", "side", "exam_date", "frame")


def table(path: Path, *rows: Sequence[str]) -> Path:
    """images.csv; each row holds what stands after image, id and mask."""
    return write_csv(path / "images.csv", COLUMNS, [(f"{k}.png", "P0", "", *row) for k, row in enumerate(rows)])


def one(path: Path, *row: str) -> Finding:
    rows, findings = examine_images(table(path, row), ["P0"])
    assert len(rows) == 1
    (finding,) = findings
    return finding


def test_everything_that_a_row_says_is_read(tmp_path: Path) -> None:
    rows, findings = read_images(
        table(
            tmp_path,
            ("rectus_femoris", "R", "2024-03-05", "3"),
            ("股直肌", "左", "2024年3月5日", "0.0"),
            ("", "NA", "5.3.2024", "n/a"),
            ("RF", "rechts", "2024-03-05 10:22", ""),
        ),
        ["P0"],
    )
    assert findings == ()
    assert [(r.muscle, r.side, r.exam_date, r.frame) for r in rows] == [
        ("rectus_femoris", "right", "2024-03-05", 3), ("股直肌", "left", "2024-03-05", 0), ("", "", "2024-03-05", None),
        ("RF", "right", "2024-03-05", None),
    ]  # fmt: skip


def test_the_column_says_whether_day_or_month_stands_first(tmp_path: Path) -> None:
    rows, _ = read_images(table(tmp_path, ("", "", "5/3/2024", ""), ("", "", "25/3/2024", "")), ["P0"])
    assert [r.exam_date for r in rows] == ["2024-03-05", "2024-03-25"]
    rows, _ = read_images(table(tmp_path, ("", "", "5/3/2024", ""), ("", "", "3/25/2024", "")), ["P0"])
    assert rows[0].exam_date == "2024-05-03"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("5/3/2024", "a date whose day and month could be either way round"),
        ("5.3.24", "text of 6 characters"),
        ("45356", "'45356'"),
        ("Zhang San", "text of 9 characters"),
        (f"{datetime.date.today() + datetime.timedelta(days=2)}", "a date in the future"),
    ],
)
def test_a_day_that_cannot_be_is_an_error(tmp_path: Path, text: str, seen: str) -> None:
    finding = one(tmp_path, "", "", text, "")
    assert (finding.severity, finding.rule, finding.row, finding.field) == ("error", "date", 2, "exam_date")
    assert finding.seen == seen


def test_a_side_that_is_none_is_an_error(tmp_path: Path) -> None:
    finding = one(tmp_path, "", "both", "", "")
    assert (finding.rule, finding.field, finding.seen) == ("side", "side", "text of 4 characters")


@pytest.mark.parametrize("text", ["-1", "1.5", "first", "1e9"])
def test_a_frame_is_a_whole_number_from_0(tmp_path: Path, text: str) -> None:
    finding = one(tmp_path, "", "", "", text)
    assert (finding.rule, finding.field, finding.expected) == ("frame", "frame", "a whole number from 0")


def frames(path: Path, *rows: tuple[str, str, str]) -> Path:
    return write_csv(path / "images.csv", ("image", "participant_id", "frame"), rows)


def test_frames_of_one_cine_are_images_of_their_own(tmp_path: Path) -> None:
    rows, findings = read_images(frames(tmp_path, ("a.dcm", "P0", "0"), ("./a.dcm", "P0", "7")), ["P0"])
    assert ([(r.image, r.frame) for r in rows], findings) == ([("a.dcm", 0), ("a.dcm", 7)], ())


@pytest.mark.parametrize(
    ("second", "seen"),
    [
        (("a.dcm", "P0", "0"), "the same image as row 2"),
        ((".//a.dcm", "P0", "0"), "the same image as row 2"),
        (("a.dcm", "P1", "1"), "the same image as row 2 of another person"),
    ],
)
def test_the_same_frame_twice_and_one_cine_of_two_people_are_refused(
    tmp_path: Path, second: tuple[str, str, str], seen: str
) -> None:
    rows, findings = examine_images(frames(tmp_path, ("a.dcm", "P0", "0"), second), ["P0", "P1"])
    assert ([r.row for r in rows], [f.seen for f in findings]) == ([2], [seen])


# ---- paths -----------------------------------------------------------------------------------------------------------

PATHS = {
    "/data/Zhang.png": "an absolute path",
    "C:\\Zhang.png": "an absolute path",
    "\\\\server\\Zhang.png": "an absolute path",
    "~/Zhang.png": "an absolute path",
    "../Zhang.png": "a path that leaves the folder",
    "images\\..\\..\\Zhang.png": "a path that leaves the folder",
    "https://pacs/Zhang.png": "a web address",
    "file:///Zhang.png": "a web address",
    "Zhang\n.png": "a path with control characters",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("column", ["image", "mask"])
def test_a_path_that_leaves_the_sites_folder_is_refused(tmp_path: Path, path: str, column: str) -> None:
    row = {"image": "a.png", "participant_id": "P0", "mask": ""} | {column: path}
    file = write_csv(tmp_path / "images.csv", IMAGE_COLUMNS, [row.values()])
    rows, findings = examine_images(file, ["P0"])
    (finding,) = [f for f in findings if f.severity == "error"]
    assert (finding.rule, finding.field, finding.seen) == ("path", column, PATHS[path])
    assert "Zhang" not in str(findings)
    assert [r.mask for r in rows] == ([] if column == "image" else [""])


def test_backslashes_are_read_as_slashes_and_noted_once(tmp_path: Path) -> None:
    file = image_table(tmp_path, [("images\\a.png", "P0", "masks\\a.png"), ("images\\b.png", "P0", "")])
    rows, (finding,) = read_images(file, ["P0"])
    assert [(r.image, r.mask) for r in rows] == [("images/a.png", "masks/a.png"), ("images/b.png", "")]
    assert (finding.severity, finding.rule, finding.row) == ("note", "path", None)


# ---- the whole file --------------------------------------------------------------------------------------------------


def test_examining_keeps_people_who_are_in_no_other_table_and_goes_on_after_errors(tmp_path: Path) -> None:
    file = image_table(tmp_path, [("a.png", "P9", ""), ("", "P0", ""), ("b.png", "P0", ""), ("c.png", "", "")])
    rows, findings = examine_images(file, ["P0"])
    assert [(r.image, r.participant_id) for r in rows] == [("a.png", "P9"), ("b.png", "P0"), ("c.png", "")]
    assert [(f.severity, f.rule, f.row) for f in findings] == [
        ("warning", "one-table-only", 2), ("error", "path", 3), ("error", "id", 5),
    ]  # fmt: skip
    assert "P9" not in str(findings)


def test_an_unknown_column_is_noted_without_its_name(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "images.csv", ("image", "participant_id", "Dr. Li"), [("a.png", "P0", "x")])
    _, (finding,) = read_images(file, ["P0"])
    assert (finding.severity, finding.rule, finding.field) == ("note", "column", "column C")
    assert "Li" not in str(finding)


def test_a_workbook_lists_images_as_well(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (("image", "participant_id", "exam_date", "frame"), ("a.png", "P0", datetime.date(2024, 3, 5), 4)):
        book.active.append(row)
    book.save(tmp_path / "images.xlsx")
    (row,), findings = read_images(tmp_path / "images.csv", ["P0"])
    assert (row.exam_date, row.frame, findings) == ("2024-03-05", 4, ())


def test_muscles_that_were_looked_for_are_separated_by_semicolons(tmp_path: Path) -> None:
    columns = (*IMAGE_COLUMNS, "annotated")
    cells = ["biceps; RA ;", "", "NA", "triceps"]
    file = write_csv(tmp_path / "images.csv", columns, [(f"{k}.png", "P0", "", c) for k, c in enumerate(cells)])
    rows, findings = read_images(file, ["P0"])
    assert findings == ()
    assert [row.annotated for row in rows] == [("biceps", "RA"), (), (), ("triceps",)]
