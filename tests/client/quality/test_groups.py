"""Every finding is in one group, at its place, under its remedy, with its own images."""

from dataclasses import replace

from client.quality import groups
from client.quality.pictures import Album
from client.quality.records import QualityReport
from sarco_models.errors import Finding
from tests.client.quality import example_report as example


def with_findings(*findings: Finding) -> QualityReport:
    return replace(example.clean(), findings=findings)


def test_every_finding_is_in_exactly_one_group() -> None:
    faulty = example.faulty()
    found = groups.groups(faulty, Album(10**6))
    assert sum(g.places for g in found) == len(faulty.findings)
    assert len({(g.severity, g.rule) for g in found}) == len(found)
    assert sum(len(part.rows) + part.left_out for g in found for part in g.parts) == len(faulty.findings)
    assert [g.severity for g in found] == sorted((g.severity for g in found), key=["error", "warning", "note"].index)


def test_what_is_the_same_everywhere_is_said_once() -> None:
    found = [Finding("note", "one-table-only", "participants.csv", "no row", "an image", "add it", r) for r in (4, 9)]
    (group,) = groups.groups(with_findings(*found), Album(0))
    (part,) = group.parts
    assert part.lifted == (("File", "participants.csv"), ("Seen", "no row"), ("Expected", "an image"))
    assert part.head == ("Row",)
    assert part.rows == (("4",), ("9",))


def test_a_remedy_is_said_once_for_its_places_and_many_remedies_beside_theirs() -> None:
    def column(name: str, remedy: str) -> Finding:
        return Finding("warning", "column", "participants.csv", "absent", "a column", remedy, None, name)

    few = [column("a", "add it"), column("b", "rename it"), column("c", "add it")]
    (group,) = groups.groups(with_findings(*few), Album(0))
    assert [(p.remedy, len(p.rows)) for p in group.parts] == [("add it", 2), ("rename it", 1)]
    many = [column(name, f"rename it to {name}") for name in "abcde"]
    (group,) = groups.groups(with_findings(*many), Album(0))
    assert [p.remedy for p in group.parts] == [""]
    assert group.parts[0].head[-1] == "What to do"


def test_a_group_shows_its_own_images_and_counts_the_rest() -> None:
    faulty = example.faulty()
    (group,) = (g for g in groups.groups(faulty, Album(10**6)) if g.rule == "burned-in-text")
    concerned = [r for r in faulty.records if any(f.rule == "burned-in-text" for f in r.findings)]
    assert [p.words for p in group.pictures] == [f"row {r.row.row}" for r in concerned[: groups.PICTURES]]
    assert group.more_pictures == len(concerned) - groups.PICTURES


def test_a_finding_about_several_images_is_linked_by_file_and_row() -> None:
    report = example.clean()
    row = report.records[3].row
    twins = Finding("warning", "duplicate", "images.csv", "the same pixels as row 2", "one image once", "look", row.row)
    (group,) = groups.groups(replace(report, findings=(twins,)), Album(10**6))
    assert [p.words for p in group.pictures] == [f"row {row.row}"]
    person = replace(twins, file="participants.csv")
    (group,) = groups.groups(replace(report, findings=(person,)), Album(10**6))
    assert not group.pictures, "row 5 of another table is no image"


def test_an_image_whose_name_may_not_be_shown_is_called_by_its_row_of_images_csv() -> None:
    report = example.clean()
    changed = []
    for record in report.records:
        n = record.row.row
        row = replace(record.row, image=f"images/Maria_{n}.dcm", mask=f"masks/Maria_{n}.png")
        words = ("white", "grey", "less gain", n)
        light = Finding("warning", "saturated", f"image of row {n}", *words, "image")
        shape = Finding("warning", "mask-holes", f"Maria_{n}.png", *words, "mask")
        changed.append(replace(record, row=row, findings=(light, shape)))
    found = tuple(f for r in sorted(changed, key=lambda r: r.row.image) for f in r.findings)
    holes, white = groups.groups(replace(report, records=tuple(changed), findings=found), Album(10**6))
    for group, column in ((white, "image"), (holes, "mask")):
        assert group.where == f"{len(changed)} images"
        assert group.parts[0].lifted[:2] == (("File", "images.csv"), ("Column", column))
        assert group.parts[0].rows == tuple((str(r.row.row),) for r in report.records), "in the order of the table"
        assert group.pictures[0].words == "row 2"


def test_what_is_said_of_further_rows_stands_last() -> None:
    first = Finding("warning", "bmi", "participants.csv", "31", "22", "correct it", 7, "bmi")
    rest = replace(first, row=None, seen="the same in 4 more rows")
    (group,) = groups.groups(with_findings(rest, first), Album(0))
    assert [row[-1] for row in group.parts[0].rows] == ["31", "the same in 4 more rows"]
