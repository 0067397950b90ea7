"""The page of a data check: a verdict, every finding once, and nobody's name."""

import base64
import hashlib
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from client.quality import groups
from client.quality.page import page
from client.quality.pictures import Album
from client.quality.records import ImageRecord, MaskMeasures, QualityReport
from sarco_models.errors import Finding
from tests.client.quality import example_report as example

VOID = {"meta", "img", "input", "br", "path", "circle"}


class Reader(HTMLParser):
    """Elements with their attributes, and faults of nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.stack: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.stack, f"not closed: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.stack, tag
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.stack):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def faulty() -> QualityReport:
    return example.faulty()


@pytest.fixture(scope="module")
def written(faulty: QualityReport) -> str:
    return page(faulty)


@pytest.fixture(scope="module")
def read(written: str) -> Reader:
    return Reader(written)


def with_findings(*findings: Finding) -> QualityReport:
    return replace(example.clean(), findings=findings)


# ---- the verdict -----------------------------------------------------------------------------------------------------


def test_the_verdict_counts_things_to_mend_and_their_places(read: Reader, faulty: QualityReport) -> None:
    errors = [f for f in faulty.findings if f.severity == "error"]
    things = len({f.rule for f in errors})
    assert f"{things} things must be mended first" in read.text
    assert f"Found in {len(errors)} places" in read.text


def test_a_hospital_in_order_may_join() -> None:
    read = Reader(page(example.clean()))
    assert "This hospital may join" in read.text
    assert "Nothing was found." in read.text
    assert not read.all("script"), "nothing to filter"


def test_warnings_alone_do_not_keep_a_hospital_out_and_are_said() -> None:
    warning = Finding("warning", "no-mask", "images.csv", "no mask", "a mask", "draw one", 2)
    text = Reader(page(with_findings(warning))).text
    assert "This hospital may join" in text
    assert "1 kind of warning says" in text
    assert "go through the warnings" in text


def test_one_error_is_one_thing() -> None:
    error = Finding("error", "label", "participants.csv", "empty", "0 or 1", "fill it in", 2, "sarcopenia")
    assert "1 thing must be mended first" in Reader(page(with_findings(error))).text


def test_data_that_could_not_be_read_draw_nothing_and_say_what_to_do() -> None:
    read = Reader(page(example.cannot_check()))
    assert "The data could not be checked" in read.text
    assert "Save it as 'CSV UTF-8'." in read.text
    assert "Values, against what is plausible" not in read.text
    assert {a["href"] for a in read.all("a")} == {"#findings", "#about"}


def test_synthetic_data_say_so_first_and_real_data_do_not(written: str) -> None:
    assert "SYNTHETIC" in written[: written.index("<h1")]
    assert "SYNTHETIC" not in page(example.clean())


# ---- findings --------------------------------------------------------------------------------------------------------


def test_ten_places_stand_open_and_the_rest_are_folded(read: Reader) -> None:
    text = read.text
    start = text.index("What to do: Convert the column")
    first = text.index("7 more places", start)
    assert len(re.findall(r"albumin_g_per_l|height_m|total_chol", text[start:first])) == 10


def test_severity_is_said_in_words(written: str) -> None:
    summaries = re.findall(r'<details class="group (\w+)".*?<summary>(.*?)</summary>', written, re.S)
    assert len(summaries) > 10
    for severity, words in summaries:
        assert severity.capitalize() in Reader(words).text


def test_thousands_of_places_are_cut_and_counted() -> None:
    found = [Finding("error", "range", "participants.csv", f"{k}", "0 to 1", "mend", k) for k in range(2, 3002)]
    (group,) = groups.groups(with_findings(*found), Album(0))
    assert len(group.parts[0].rows) + group.parts[0].left_out == group.places == 3000
    assert f"{group.parts[0].left_out:,} further places not listed here" in Reader(page(with_findings(*found))).text


# ---- what the site has -----------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_report(read: Reader, faulty: QualityReport) -> None:
    usable = sum(r.usable for r in faulty.records)
    assert f"images usable {usable} of {len(faulty.records)}" in read.text
    assert f"participants {faulty.participants} " in read.text
    positive, negative = ((faulty.labels == k).sum() for k in (1, 0))
    assert f"{positive} positive · {negative} negative 1 without a label" in read.text


def test_tables_only_show_no_images() -> None:
    report = replace(example.clean(), records=(), owner=np.zeros(0, dtype=np.int64))
    text = Reader(page(report)).text
    assert "Contact sheet" not in text
    assert "images usable" not in text
    assert "usable image" not in text


def test_a_site_of_few_people_is_shown_without_histograms() -> None:
    text = page(example.clean(people=6))
    assert 'class="dist"' not in text
    assert "6 values: too few to draw" in text


def test_a_table_without_labels_is_shown_as_one_group() -> None:
    report = replace(example.clean(), labels=np.full(40, -1, dtype=np.int8))
    text = Reader(page(report)).text
    assert "everybody: 40 values" in text
    assert "40 without a label" in text


# ---- what the page never holds ---------------------------------------------------------------------------------------


def betrayed(k: int, record: ImageRecord) -> ImageRecord:
    """The record with a person's name wherever a string can stand."""
    name = f"Canary_Maria_{k}_1940-03-12"
    row = replace(record.row, image=f"images/{name}.dcm", participant_id=name, mask=f"masks/{name}.nii.gz")
    files = [f"images/{name}.dcm", f"{name}.dcm", f"masks/{name}.nii.gz", f"{name}.nii.gz"]
    return replace(
        record,
        row=row,
        findings=tuple(replace(f, file=files[k % 4]) for f in record.findings),
        file_digest=name,
        content=name,
        header_id=name,
        mask_content=name,
        measures=MaskMeasures(name, 4.0, 15.0, 80.0, 1),
        facts=replace(record.facts, kind=name, burned_in=name) if record.facts else None,
    )


def test_no_identifier_is_on_the_page(faulty: QualityReport) -> None:
    records = tuple(betrayed(k, r) for k, r in enumerate(faulty.records))
    own = tuple(f for r in records for f in r.findings)
    lost = Finding("warning", "file", "Canary_Maria_1940-03-12.dcm", "not listed", "a row", "list it")
    together = replace(lost, rule="duplicate", file="images.csv", row=records[0].row.row)
    text = page(replace(faulty, records=records, findings=(*own, lost, together)))
    assert "anary" not in text
    assert "1940" not in text
    assert "<b>images.csv</b>" in text
    assert "a file of the site" in text


def test_markup_in_the_data_is_text() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    found = Finding("error", evil, "participants.csv", evil, evil, evil, 2, evil)
    report = with_findings(found, replace(found, row=3))
    records = tuple(replace(r, device=evil) for r in report.records)
    features = tuple(replace(f, name=evil, unit=evil) for f in report.features)
    checked = {evil: True}
    text = page(replace(report, site=evil, title=evil, records=records, features=features, checked=checked))
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert Reader(text).text.count("<script>alert(1)") > 10


def test_the_page_asks_nothing_of_anybody(written: str, read: Reader) -> None:
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", written).replace("http-equiv", "")
    assert not {"link", "iframe", "object", "base", "use"} & {tag for tag, _ in read.elements}
    assert all(i["src"].startswith("data:image/jpeg;base64,") for i in read.all("img"))
    assert all(a["href"].startswith("#") for a in read.all("a"))
    assert not any(name.startswith("on") or name == "style" for _, a in read.elements for name in a)


def test_the_browsers_policy_allows_exactly_the_style_and_script_of_the_page(written: str, read: Reader) -> None:
    policy = next(m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", written, re.S)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


# ---- reading, keeping ------------------------------------------------------------------------------------------------


def test_equal_reports_give_equal_pages(written: str) -> None:
    assert page(example.faulty()) == written


def test_pictures_have_words_headings_skip_no_level_and_links_lead_somewhere(read: Reader) -> None:
    assert all(i.get("alt") for i in read.all("img"))
    assert all(s.get("role") == "img" and s.get("aria-label") for s in read.all("svg") if "aria-hidden" not in s)
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = [a["id"] for _, a in read.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {a["href"][1:] for a in read.all("a")} <= set(ids)


def test_a_small_site_gives_a_small_page() -> None:
    assert len(page(example.faulty(people=40)).encode()) < 2_000_000


@pytest.mark.slow
def test_a_large_site_gives_a_page_in_seconds_that_a_browser_opens() -> None:
    report = example.large(images=4000)
    start = time.perf_counter()
    text = page(report)
    assert time.perf_counter() - start < 5
    assert len(text.encode()) < 15_000_000
