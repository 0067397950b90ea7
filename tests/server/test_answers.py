"""What the coordinator draws from the hospitals' answers holds the truth, and what they withheld is named."""

from pathlib import Path

import pytest

from sarco_models.metrics import auc
from server.answers import answers_figure, answers_table, answers_words, read_answers
from server.results import Results, read_results


def test_the_guaranteed_range_holds_the_exact_auc_in_every_seed(variants: Path) -> None:
    every = read_answers(read_results(variants))
    assert [found.seed for found in every] == [1, 2]
    for found in every:
        assert found.auc_range is not None
        assert found.exact is not None
        assert found.auc_range.low <= auc(*found.exact) <= found.auc_range.high
        assert found.exact[1].size == 118


def test_the_distance_to_the_exact_auc_is_said(variants: Path) -> None:
    results = read_results(variants)
    first = read_answers(results)[0]
    assert first.auc_range is not None
    assert first.exact is not None
    text = " ".join(answers_words(results))
    assert f"off by {abs(first.auc_range.value - auc(*first.exact)):.4f}" in text
    assert "over 2 seeds" in text


def test_what_a_hospital_withholds_is_named_and_not_guessed(variants: Path) -> None:
    results = read_results(variants)
    tables = {"assessments": {"federated": {"1": dict(results.tables["assessments"]["federated"]["1"])}}}
    tables["assessments"]["federated"]["1"]["zhongshan"] |= {
        "positives": None, "auc": None, "auc_variance": None, "found": None, "spared": None, "histogram": None
    }  # fmt: skip
    poorer = Results(results.meta, results.rows, results.scores, tables)
    text = " ".join(answers_words(poorer))
    assert "Zhongshan (its number of positives, AUC, calls of positives, calls of negatives, histogram)" in text
    cells = [[cell.main for cell in row.cells] for row in answers_table(poorer).rows]
    assert cells[2] == ["Zhongshan", "24", "withheld", "withheld", "withheld", "withheld", "withheld"]
    assert cells[-1][2] == "withheld"  # the sum would give it away
    exact = read_answers(poorer)[0].exact
    assert exact is not None
    assert exact[1].size == 94


def test_a_run_with_real_people_has_no_exact_curve_and_says_nothing_of_it(variants: Path) -> None:
    results = read_results(variants)
    unscored = Results(results.meta, results.rows, {}, results.tables)
    assert read_answers(unscored)[0].exact is None
    assert "The exact one" not in " ".join(answers_words(unscored))
    assert answers_figure(unscored) is not None


def test_without_answers_there_is_no_such_section(run: Path) -> None:
    results = read_results(run)
    assert not answers_words(results)
    assert answers_figure(results) is None
    assert not answers_table(results).rows
    assert "From what the hospitals may send" not in (run / "report.html").read_text()


def test_pooled_calls_are_the_sum_of_what_is_shown(variants: Path) -> None:
    results = read_results(variants)
    table = answers_table(results)
    shown = [row.cells[5].main.split(" of ") for row in table.rows[:-1] if row.cells[5].main != "withheld"]
    right, everybody = (sum(int(part[k]) for part in shown) for k in (0, 1))
    assert float(table.rows[-1].cells[5].main) == pytest.approx(right / everybody, abs=0.005)


@pytest.mark.parametrize("withheld", [{"positives", "found", "spared"}, {"found"}, {"spared"}])
def test_what_one_hospital_withholds_cannot_be_had_by_subtraction(variants: Path, withheld: set[str]) -> None:
    """The totals are known from elsewhere, so that a second hospital's counts are withheld with a single one's."""
    results = read_results(variants)
    sent = {}
    for site, found in results.tables["assessments"]["federated"]["1"].items():
        rest = {"found": found["positives"], "spared": found["participants"] - found["positives"]}
        sent[site] = found | {name: {"right": 3, "wrong": people - 3} for name, people in rest.items()}
    more = {"auc", "auc_variance", "histogram"} if "positives" in withheld else set()
    sent["shanghai"] |= dict.fromkeys(withheld | more)
    table = answers_table(Results(results.meta, results.rows, {}, {"assessments": {"federated": {"1": sent}}}))
    columns = {"positives": 2, "found": 4, "spared": 5}
    for name, column in columns.items():
        shown = [row.cells[column].main for row in table.rows[:-1]]
        assert shown.count("withheld") == (2 if name in withheld else 0), name
    fewest = next(row for row in table.rows if row.cells[0].main == "Zhongshan")
    assert [fewest.cells[columns[name]].main for name in sorted(withheld)] == ["withheld"] * len(withheld)
