"""What a report says of masks: every number of the run beside its interval, and what the comparison cannot tell."""

import copy
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from server.explanations import Section
from server.other_masks import TITLE, masks_name, other_masks_figure, section
from server.report import write_report
from server.results import Meta, Results
from server.tables import Table
from tests.server.example_run import write_run


def about(value: float, width: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def row(loss: float, **what: Any) -> dict[str, Any]:
    known = {"images": 1500, "as_drawn": 0, "dice": 0.91} if "change" in what else {"images": 1500}
    return {
        **what, **known, "n": 300, "moved": 0.021, "called_otherwise": 0.063,
        "auc": about(0.8 - loss), "difference": about(-loss, 0.01), "p": 0.004,
    }  # fmt: skip


def tried(loss: float = 0.03) -> dict[str, Any]:
    """One seed of one arm."""
    rows = [
        row(0.01, change="dilate", mm=1.0),
        row(loss, change="erode", mm=2.0),
        row(0.002, change="shift", mm=1.5),
        row(-0.001, view="found_image", roi="auto"),
        row(0.02, view="none_image", roi="none"),
    ]
    return {"cohort": "central", "n": 300, "n_positive": 97, "threshold": 0.3, "auc": about(0.8), "rows": rows}


FOUND = {
    "cohort": "central", "images": 1500, "images_found": 1440, "images_tissue": 60, "checked": 100, "checked_tissue": 4,
    "dice": about(0.9, 0.02), "area_ratio": about(1.03, 0.02),
}  # fmt: skip
SEGMENTER = {
    "seed": 1000, "scale": "small", "participants": 101, "images": 690, "rounds": 20, "seconds": 150.0,
    "threshold": 0.7, "sha256": "ab" * 32, "dice": {"rectus_femoris": {"n": 48, **about(0.88, 0.02)}},
}  # fmt: skip
TABLES: dict[str, Any] = {
    "other_masks": {"federated@drawn_image": {"1": tried(0.03), "2": tried(0.05)}},
    "found_masks": {"found_image": {"1": FOUND, "2": FOUND}},
    "segmenter": SEGMENTER,
}
VARIANTS = {"drawn_image": "drawn masks, images alone", "found_image": "found masks, images alone"}


def run(tables: dict[str, Any] = TABLES, *, synthetic: bool = True) -> Results:
    return Results(Meta(synthetic=synthetic, variants=VARIANTS), (), {}, copy.deepcopy(tables))


def shown(results: Results) -> Section:
    made = section(results)
    assert made is not None
    return made


def line(table: Table, first: str) -> list[str]:
    cells = next(r.cells for r in table.rows if r.cells and r.cells[0].main == first)
    return ["; ".join((c.main, *c.below)) for c in cells[1:]]


def test_a_run_that_asks_nothing_of_masks_has_no_such_section() -> None:
    assert section(run({})) is None
    assert other_masks_figure(run({})) is None


def test_a_line_for_each_kind_of_masks_with_means_over_seeds() -> None:
    table = shown(run()).tables[0]
    assert table.rows[0].divider == "Federated, drawn masks, images alone: 300 participants, 97 positive"
    assert line(table, "As drawn")[:2] == ["1.00", "0.800; 0.750 to 0.850; SD 0.000"]
    assert line(table, "2 mm smaller all round") == [
        "0.91", "0.760; 0.710 to 0.810; SD 0.014", "−0.040; −0.050 to −0.030; SD 0.014", "0.004", "0.021", "6.3 %",
    ]  # fmt: skip
    names = [r.cells[0].main for r in table.rows if r.cells]
    assert names == [
        "As drawn", "1 mm larger all round", "2 mm smaller all round", "Moved by 1.5 mm, each image its own way",
        "Found by a model", "None: the whole picture",
    ]  # fmt: skip
    assert all(len(r.cells) == len(table.head) for r in table.rows if r.cells)


def test_directions_are_words() -> None:
    assert masks_name({"change": "up_left", "mm": 0.5}) == "Moved by 0.5 mm up and left"


def test_images_that_were_left_as_drawn_are_counted() -> None:
    tables = copy.deepcopy(TABLES)
    tables["other_masks"]["federated@drawn_image"]["2"]["rows"][1]["as_drawn"] = 7
    table = shown(run(tables)).tables[0]
    cell = next(r.cells[0] for r in table.rows if r.cells and r.cells[0].main.startswith("2 mm smaller"))
    assert cell.below == ("7 images left as drawn",)


def test_found_masks_stand_beside_the_drawn_ones() -> None:
    table = shown(run()).tables[1]
    cells = line(table, "Found masks, images alone")
    assert cells[0].replace("\N{NARROW NO-BREAK SPACE}", "") == "3000"
    assert cells[3].endswith("(4 %)")
    assert cells[5:] == ["0.900; 0.880 to 0.920; SD 0.000", "1.03; 1.01 to 1.05; SD 0.00"]


def test_the_words_name_the_worst_masks_the_teacher_of_the_model_and_the_limits() -> None:
    text = " ".join(shown(run()).paragraphs)
    assert "largest change of the AUC is −0.040 (−0.050 to −0.030), with masks 2 mm smaller all round" in text
    assert "6 % of the people are called otherwise" in text
    assert "computer-made people of seed 1000, none of whom is in this comparison" in text
    assert "rectus femoris Dice 0.880 (0.860 to 0.900) on 48 people" in text
    assert "What this cannot tell" in text
    assert "What this cannot tell" not in " ".join(shown(run(synthetic=False)).paragraphs)


def test_weights_that_have_learned_with_masks_are_no_fair_start_without() -> None:
    made = Results(Meta(study={"model": {"weights": "phantom"}}), (), {}, copy.deepcopy(TABLES))
    assert "weights that were learned on phantoms cut to their masks" in " ".join(shown(made).paragraphs)
    assert "phantoms" not in " ".join(shown(run()).paragraphs)


def test_a_sentence_about_no_masks_says_so() -> None:
    tables = copy.deepcopy(TABLES)
    tables["other_masks"]["federated@drawn_image"] = {"1": {**tried(), "rows": [row(0.09, view="x", roi="none")]}}
    assert "−0.090 (−0.100 to −0.080), without masks; 6 %" in " ".join(shown(run(tables)).paragraphs)


def test_too_few_people_for_an_auc_is_said_and_nothing_breaks() -> None:
    tables = copy.deepcopy(TABLES)
    for seed in tables["other_masks"]["federated@drawn_image"].values():
        for each in seed["rows"]:
            for name in ("auc", "difference", "p"):
                del each[name]
    made = shown(run(tables))
    assert "too few people for a difference of AUC" in " ".join(made.paragraphs)
    assert line(made.tables[0], "2 mm smaller all round")[1:4] == ["–", "–", "–"]
    assert not made.figures


@pytest.mark.slow  # two reports
def test_the_report_has_the_section_in_its_contents_and_without_it_neither(tmp_path: Path) -> None:
    write_run(tmp_path, arms=("federated",), seeds=(1,))
    assert 'id="masks"' not in (page := write_report(tmp_path).read_text(encoding="utf-8"))
    assert TITLE not in page
    tree = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    tree["tables"] = {**tree.get("tables", {}), **TABLES}
    (tmp_path / "results.json").write_text(json.dumps(tree), encoding="utf-8")
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert f'<a href="#masks">{TITLE}</a>' in page
    assert f'<h2 id="masks">{TITLE}</h2>' in page
    assert "Moved by 1.5 mm, each image its own way" in page


@pytest.mark.parametrize("arms", [1, 2, 6])
def test_the_figure_has_a_panel_for_each_arm_and_never_more_than_four(arms: int) -> None:
    tables = {"other_masks": {f"federated@{k}": {"1": tried()} for k in range(arms)}}
    drawn = other_masks_figure(run(tables))
    assert drawn is not None
    with Image.open(BytesIO(drawn)) as picture:
        assert picture.width > 1600


def test_a_count_of_a_few_people_is_hidden_and_said_to_be() -> None:
    few = {**FOUND, "images_found": None, "images_tissue": None, "checked_tissue": None}
    table = next(t for t in shown(run({"found_masks": {"found_image": {"1": few, "2": FOUND}}})).tables)
    title = "Found masks, images alone"
    assert line(table, title)[:5] == ["3\u202f000", "0 (0 %)", "hidden", "hidden", "200"]
    assert "Hidden: it would tell of a few people." in table.caption
    rows = [{**row(0.01, change="erode", mm=1.0), "as_drawn": None, "n": None}]
    made = shown(run({"other_masks": {"federated@drawn_image": {"1": {**tried(), "rows": rows}}}}))
    cell = next(r.cells[0] for r in made.tables[0].rows if r.cells and r.cells[0].main.startswith("1 mm smaller"))
    assert cell.below == ("few images left as drawn",)


def test_only_found_masks_need_no_other_table() -> None:
    made = shown(run({"found_masks": TABLES["found_masks"]}))
    assert (made.title, len(made.tables), dict(made.figures)) == (TITLE, 1, {})
