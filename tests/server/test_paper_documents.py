"""Markdown, CSV and LaTeX of the tables: traceable, well formed, and never without SYNTHETIC where it is due."""

import csv
import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from server.paper.baseline import table_1
from server.paper.documents import CSV_COLUMNS, as_csv, as_latex, as_markdown, latex_text
from server.paper.entries import PaperTable
from server.paper.finished import SELECTED, Finished, read_runs
from server.paper.performance import table_2, table_3
from server.paper.validation import table_4

sys.path.insert(0, str(Path(__file__).parent))
from example_paper import write_cross_validation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = write_cross_validation(tmp_path_factory.mktemp("paper"))
    return read_runs({"paper": folder})["paper"]


def test_every_number_of_a_csv_is_traceable(run: Finished) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(table_4(run)))))
    assert tuple(lines[0]) == CSV_COLUMNS
    assert all(line["data"] == "SYNTHETIC; CALIBRATED" for line in lines)
    auc = next(line for line in lines if line["group"].startswith("C, ") and line["measure"] == "AUC")
    own = run.chosen.over_seeds(SELECTED, "auc", "zhongshan")
    assert own is not None
    assert float(auc["ours"]) == own.mean
    assert auc["paper"] == "0.757"
    assert auc["paper_source"] == "proof of concept, n = 82: SARCO, AUC"
    assert float(auc["difference"]) == pytest.approx(own.mean - 0.757)
    assert (auc["n"], auc["n_positive"], auc["seeds"]) == ("82", "19", "3")
    threshold = next(line for line in lines if line["measure"] == "Frozen threshold")
    assert threshold["paper"] == threshold["difference"] == threshold["paper_inside"] == ""


def test_several_p_values_have_no_mean_in_a_csv(run: Finished) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(table_2(run)))))
    p = next(line for line in lines if line["measure"] == "P")
    assert p["ours"] == ""
    assert float(p["least"]) < float(p["most"])


@pytest.mark.parametrize("make", [table_1, table_2, table_3, table_4])
def test_latex_is_well_formed(run: Finished, make: Callable[[Finished | None], PaperTable]) -> None:
    for of in (run, None):
        check_latex(as_latex(make(of)))


def check_latex(text: str) -> None:
    """What would stop LaTeX: characters, braces, environments, columns."""
    assert text.isascii()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#_]", body.replace(r"\\", "")), "a character that LaTeX takes for a command"
    plain = re.sub(r"\\[{}]", "", body)
    assert plain.count("{") == plain.count("}")
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        opened.append(name) if kind == "begin" else None
        assert kind == "begin" or opened.pop() == name
    assert not opened
    for columns, grid in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", body, flags=re.DOTALL):
        lines = [line for line in grid.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 3
        for line in lines:
            spanned = re.search(r"\\multicolumn\{(\d+)\}", line)
            count = int(spanned[1]) if spanned else len(re.findall(r"(?<!\\)&", line)) + 1
            assert count == len(columns), line


def test_latex_prints_what_stands_there() -> None:
    assert latex_text("50 % of a_b & c ± −1 <0.001 {x}") == r"50 \% of a\_b \& c $\pm$ $-$1 $<$0.001 \{x\}"
    assert latex_text("肌") == "?"


@pytest.mark.parametrize("make", [table_1, table_2, table_4])
def test_synthetic_and_calibrated_are_said_in_every_form(
    run: Finished, make: Callable[[Finished | None], PaperTable]
) -> None:
    table = make(run)
    for text in (as_markdown(table), as_latex(table), as_csv(table)):
        assert "SYNTHETIC" in text
        assert "CALIBRATED" in text
    for environment in as_latex(table).split(r"\begin{table}")[1:]:
        assert r"\caption{\textbf{SYNTHETIC.} \textbf{CALIBRATED.}" in environment


def told(run: Finished, **meta: object) -> str:
    changed = run.results.meta.model_copy(update=meta)
    return as_csv(table_2(replace(run, results=replace(run.results, meta=changed))))


def test_only_a_calibrated_cohort_is_called_calibrated(run: Finished) -> None:
    text = told(run, preset="table1_faithful")
    assert "SYNTHETIC" in text
    assert "CALIBRATED" not in text


def test_real_people_are_not_called_synthetic(run: Finished) -> None:
    assert "SYNTHETIC" not in told(run, synthetic=False, preset=None)
    assert "UNKNOWN ORIGIN" in told(run, synthetic=None, preset=None)
