"""The privacy section of a report: one line for each way of training, and no column with epsilons of two units."""

import json
from pathlib import Path
from typing import Any

import pytest
from example_run import write_run

from server import people_tables, privacy_tables, run_tables, statements
from server.guarantees import Guarantee, Mechanism
from server.leakage import STEPS
from server.methods import methods, privacy
from server.report import write_report
from server.results import Results, read_results

ARMS = ("federated", "federated@fedprox", "federated@group", "pooled")


def guarantee(epsilon: float, unit: str = "participant") -> dict[str, Any]:
    noise = Mechanism("noised gradients", 3.5, 1.0, 1.0, 1, 12, epsilon)
    return Guarantee(unit, epsilon, 1e-5, "prv", epsilon, (noise,), 12).to_dict()  # type: ignore[arg-type]


def with_privacy(directory: Path, **of_arm: list[dict[str, Any]]) -> Path:
    """The run with these guarantees; arms that are not named were not private."""
    path = directory / "results.json"
    tree = json.loads(path.read_text())
    for arm, seeds in tree["meta"]["arms"].items():
        for seed, facts in seeds.items():
            given = of_arm.get(arm.partition("@")[2] or arm, [])
            # The first seed spent most.
            given = [g | {"epsilon": g["epsilon"] * (1.0 if seed == "1" else 0.9)} for g in given]
            facts["privacy"] = {"guarantees": given, "uncovered": ["That a hospital took part.", f"Of {arm}."]}
            facts["leakage"] = {
                site: {"members": 40, "others": 20, "auc": area, "auc_low": area - 0.1, "auc_high": area + 0.1,
                       "tpr": 0.1, "tpr_low": 0.02, "tpr_high": 0.2, "fpr": 1 / 21}
                for site, area in (("shanghai", 0.52), ("sichuan", 0.61))
            }  # fmt: skip
    path.write_text(json.dumps(tree))
    return directory


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four ways of training: two protect participants, one a hospital, one nobody."""
    written = write_run(tmp_path_factory.mktemp("private"), arms=ARMS, seeds=[1, 2])
    return with_privacy(
        written, federated=[guarantee(3.11)], fedprox=[guarantee(8.22)], group=[guarantee(0.77, "hospital")]
    )


def test_every_way_of_training_has_its_line_and_its_own_epsilon(private: Path) -> None:
    first, second = privacy_tables.protection(read_results(private))
    lines = {row.cells[0].main: row.cells[2].main for row in first.rows}
    assert lines == {"Federated": "3.11", "Pooled": "unlimited", "Federated, FedProx, mu 0.1": "8.22"}
    assert [row.cells[2].main for row in second.rows] == ["0.77"]


def test_two_units_never_share_a_column_of_the_page(private: Path) -> None:
    page = write_report(private).read_text()
    tables = [block[block.rindex("<table") :] for block in page.split("</table>")[:-1]]
    blocks = [table for table in tables if ">Epsilon<" in table]
    assert len(blocks) == 2
    assert [[value in block for value in ("3.11", "8.22", "0.77")] for block in blocks] == [
        [True, True, False], [False, False, True],
    ]  # fmt: skip
    assert "never to be compared with a participant&#39;s" in page
    assert "What no epsilon covers" in page
    assert page.count("That a hospital took part.") == 1


def test_the_words_name_each_epsilon_with_its_delta(private: Path) -> None:
    lines = privacy(read_results(private))
    text = " ".join(lines)
    assert "Federated with epsilon 3.11 at delta 1e-05" in text
    assert [("3.11" in line, "0.77" in line) for line in lines if "Differentially private for each" in line] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert "There was no differential privacy" not in text


def test_measured_leakage_is_that_of_the_worst_hospital_with_its_interval(private: Path) -> None:
    table = privacy_tables.leakage(read_results(private))
    cells = {row.cells[0].main: [c.main for c in row.cells[1:]] for row in table.rows}
    assert cells["Federated"] == ["Sichuan", "0.610", "10 %", "4.8 %", "40 / 20", "4"]
    assert table.rows[0].cells[2].below == ("0.510 to 0.710",)


def test_a_run_without_privacy_says_so_in_words_and_table(tmp_path: Path) -> None:
    results = read_results(with_privacy(write_run(tmp_path, arms=("federated", "pooled"), seeds=[1])))
    assert "There was no differential privacy in this run" in " ".join(privacy(results))
    (table,) = privacy_tables.protection(results)
    assert {row.cells[1].main for row in table.rows} == {privacy_tables.UNPROTECTED}


def test_a_run_that_wrote_nothing_down_shows_no_table(run: Path) -> None:
    results = read_results(run)
    assert privacy_tables.protection(results) == []
    assert privacy_tables.uncovered(results) == []
    assert not privacy_tables.leakage(results).rows


def test_numbers_in_steps_are_said_to_be_where_an_arm_is_private(private: Path, tmp_path: Path) -> None:
    assert STEPS in privacy_tables.leakage(read_results(private)).caption
    open_ = read_results(with_privacy(write_run(tmp_path, arms=("federated", "pooled"), seeds=[1])))
    assert STEPS not in privacy_tables.leakage(open_).caption


def test_a_study_without_images_is_told_without_images(private: Path) -> None:
    results = read_results(private)
    study = results.meta.study | {"model": {"modalities": ["clinical", "lab"]}}
    sites = {name: s.model_copy(update={"images": 0, "devices": ()}) for name, s in results.meta.sites.items()}
    arms = {
        arm: {seed: f.model_copy(update={"images": 0}) for seed, f in seeds.items()}
        for arm, seeds in results.meta.arms.items()
    }
    meta = results.meta.model_copy(update={"study": study, "sites": sites, "arms": arms, "central": None})
    tables = Results(meta, results.rows, results.scores, results.tables)

    shown = [people_tables.sites(tables), run_tables.arms(tables)]
    words = [*privacy(tables), methods(tables), *statements.finding(tables), statements.comparison_note(tables)]
    assert not [line for line in words if "image" in line.lower()]
    for table in shown:
        assert "image" not in " ".join((table.caption, *table.head)).lower()
        assert {len(row.cells) for row in table.rows} == {len(table.head)}
    assert "Images" in people_tables.sites(results).head
