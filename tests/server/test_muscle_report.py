"""The page of a comparison of muscles says what the numbers say, whose they are, and what they are not."""

import csv
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from sarco_models.agreement import PairSums
from sarco_models.errors import RunError
from sarco_models.wire import Measured
from server import muscle_tables, muscle_words
from server.arms import place_name
from server.compare import compare_runs, terminal
from server.measured import write_measured
from server.muscle_compare import MuscleComparison
from server.muscle_panels import PAINTERS, UNTRAINED
from server.muscle_run import MuscleRun, finds_muscles
from server.report import write_report
from server.results import read_results
from server.runs import CoordinatorConfig, Run
from simulation.summary import summary
from tests.muscle_sites import muscle_study
from tests.server.example_muscles import MUSCLES, muscle_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_run(tmp_path_factory.mktemp("muscles") / "run")


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return muscle_run(tmp_path_factory.mktemp("muscles") / "worse", worse=0.03)


@pytest.fixture(scope="module")
def run(folder: Path) -> MuscleRun:
    return MuscleRun(read_results(folder))


def changed(folder: Path, to: Path, **meta: object) -> Path:
    copytree(folder, to)
    content = json.loads((to / "results.json").read_text())
    content["meta"] |= meta
    (to / "results.json").write_text(json.dumps(content))
    return to


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_the_page_says_what_came_out_and_that_nobody_exists(folder: Path) -> None:
    page = write_report(folder)
    words = text_of(page)
    assert "SYNTHETIC Every participant" in words.replace("\N{NO-BREAK SPACE}", "").replace("&nbsp;", "").replace(
        "  ", " "
    )
    dice = MuscleRun(read_results(folder)).dice("federated")
    assert dice is not None
    assert f"a Dice of {dice.mean:.3f} ({dice.low:.3f} to {dice.high:.3f})" in words
    assert "all people" in words or "nobody trains on them" in words
    assert page.read_text().count("data:image/png") == 3  # no picture of anybody lies beside this run
    assert (folder / "results.csv").is_file()


@pytest.mark.slow
def test_pictures_of_people_are_shown_of_synthetic_ones_only(folder: Path, tmp_path: Path) -> None:
    real = changed(folder, tmp_path / "real", synthetic=False)
    for name in ("examples.png", "contact_hospitals.png"):
        (real / name).write_bytes(b"\x89PNG a person's picture")
    page = write_report(real)
    assert "SYNTHETIC" not in text_of(page)
    assert page.read_text().count("data:image/png") == 3


def test_every_figure_says_synthetic(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: said.append(self.get_suptitle()))
    from server.figures import draw

    draw(read_results(folder), tmp_path, PAINTERS)
    assert said == ["SYNTHETIC DATA"] * len(PAINTERS)


def test_a_muscle_that_a_hospital_never_saw_is_scored_and_marked(run: MuscleRun) -> None:
    table = muscle_tables.dice(run, "central")
    (local,) = [row for row in table.rows if row.cells[0].main == "Hospital A alone"]
    marked = [muscle_tables.NOT_DRAWN in cell.below for cell in local.cells[2:]]
    assert marked == [muscle in ("rectus_abdominis", "peroneus_longus_brevis") for muscle in MUSCLES]
    assert all(cell.main != "–" for cell in local.cells)
    figure = PAINTERS["dice"](run.results)
    assert figure is not None
    assert UNTRAINED in [text.get_text() for text in figure.legends[0].get_texts()]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(summary(run.results))
    assert "nobody whom this arm learned from had the muscle drawn" in capture.get()
    assert all(len(line) <= 80 for line in capture.get().splitlines())


def test_a_hospital_has_a_dash_where_it_drew_nothing(run: MuscleRun) -> None:
    table = muscle_tables.by_hospital(run)
    (own,) = [row for row in table.rows if row.cells[0].main == "Hospital A"]
    assert [cell.main == "–" for cell in own.cells[1:]] == [m in MUSCLES[2::2] for m in MUSCLES]


def test_the_words_about_pooled_training_follow_the_interval(run: MuscleRun, worse: Path) -> None:
    assert any("the whole interval lies within 0.01" in line for line in muscle_words.finding(run))
    lines = muscle_words.finding(MuscleRun(read_results(worse)))
    assert any("worse than all images in one place by more than 0.01" in line for line in lines)


def test_better_than_pooled_is_no_worse(tmp_path: Path) -> None:
    lines = muscle_words.finding(MuscleRun(read_results(muscle_run(tmp_path / "better", worse=-0.02))))
    assert any("no worse than all images in one place: the interval stays above −0.01" in line for line in lines)


def test_what_to_beware_of_is_said(run: MuscleRun) -> None:
    lines = " ".join(muscle_words.beware(run))
    for words in ("SYNTHETIC", "1 seed", "Echo intensity", "one whole muscle", "58 people", "opposite"):
        assert words in lines


def test_correlations_stand_beside_the_papers(run: MuscleRun) -> None:
    table = muscle_tables.correlations(run)
    assert len(table.rows) == 8
    printed = [f"{r} (P < 0.001)" for r in ("0.4223", "0.7849", "0.8212", "0.7480")]
    assert [row.cells[-1].main for row in table.rows[:4]] == printed, "thickness"
    assert [row.cells[-1].main for row in table.rows[4:]] == ["–", *printed[1:]], "the rectus femoris' is of thickness"


def test_several_seeds_are_said_and_what_is_of_one_of_them(run: MuscleRun) -> None:
    again = tuple(row.model_copy(update={"seed": 2}) for row in run.results.rows)
    two = MuscleRun(replace(run.results, rows=(*run.results.rows, *again)))
    assert "in the mean of 2 seeds" in muscle_words.finding(two)[0]
    assert "Only 2 seeds: " in " ".join(muscle_words.beware(two))
    for table in (muscle_tables.dice(two, "central"), muscle_tables.differences(two), muscle_tables.measures(two)):
        assert table.caption.endswith("Mean of 2 seeds; SD: between them.")
    for table in (muscle_tables.agreement(two), muscle_tables.correlations(two)):
        assert "of seed 1" in table.caption
    assert "seed" not in muscle_words.finding(run)[0] + muscle_tables.agreement(run).caption


def test_a_difference_is_called_one_only_where_its_interval_says_so(run: MuscleRun) -> None:
    (line,) = [line for line in muscle_words.finding(run) if "best hospital alone" in line]
    assert line.startswith("Federated minus the best hospital alone")
    assert line.endswith(": better.")


def test_an_interrupted_run_has_dashes_and_no_error(folder: Path, tmp_path: Path) -> None:
    copytree(folder, tmp_path / "half")
    content = json.loads((tmp_path / "half" / "results.json").read_text())
    content["tables"] = {}
    content["rows"] = [row for row in content["rows"] if row["arm"] == "pooled" and row["site"] == "central"]
    (tmp_path / "half" / "results.json").write_text(json.dumps(content))
    half = MuscleRun(read_results(tmp_path / "half"))
    assert half.lead == "pooled"
    assert not muscle_tables.agreement(half).rows
    assert muscle_words.finding(half)[0].startswith("Pooled training finds")


# --- a federation's own run -------------------------------------------------------------------------------------------


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    study = muscle_study()
    run = Run.create(tmp_path / "winter", study, CoordinatorConfig())
    rng = np.random.default_rng(1)
    told = {}
    for site in ("north", "south"):
        drawn = rng.normal(15, 2, 6)
        sums = PairSums.of(drawn + rng.normal(0.2, 0.3, 6), drawn)
        metrics = {"rectus_femoris.dice.n": 6.0, "rectus_femoris.dice.mean": 0.9, "rectus_femoris.dice.sd": 0.02}
        metrics |= {f"rectus_femoris.thickness_mm.{part}": float(v) for part, v in asdict(sums).items()}
        told[site] = Measured(site, 6, metrics)
    write_measured(run.folder, told)
    return run.folder


def test_a_federations_run_has_a_page_of_what_its_hospitals_told(deployed: Path) -> None:
    words = text_of(write_report(deployed))
    assert "2 hospitals have measured" in words
    assert "12 participants of North, South" in words
    assert "North, as it told." in words
    assert "Nobody told of biceps brachii, triceps" in words
    assert "SYNTHETIC" not in words


def test_hospitals_that_told_no_sums_have_no_agreement(deployed: Path) -> None:
    told = json.loads((deployed / "measured.json").read_text())
    for found in told.values():
        for name in [name for name in found if "thickness_mm" in name]:
            del found[name]
    (deployed / "measured.json").write_text(json.dumps(told))
    words = text_of(write_report(deployed))
    assert "No hospital has told sums of sizes" in words
    assert "SD Standard deviation between participants." in words
    assert "between seeds" not in words
    (deployed / "measured.json").write_text("{}")
    words = text_of(write_report(deployed))
    assert "Nothing was sent: " in words
    assert "sent numbers of participants" not in words


def test_a_planned_network_is_told_with_its_reasons(folder: Path, tmp_path: Path) -> None:
    other = copytree(folder, tmp_path / "planned")
    stored = json.loads((other / "results.json").read_text())
    why = {"what": "Pixels", "value": "96 x 96", "because": "half of the images are smaller"}
    made = {"plan": {}, "sites": ["alpha", "beta"], "why": [why], "warnings": ["two devices do not say their scale"]}
    stored["tables"]["muscles"]["plans"] = {"nnunet": {"1": made}}
    stored["meta"]["variants"] = {"nnunet": "nnU-Net"}
    (other / "results.json").write_text(json.dumps(stored))
    page = text_of(write_report(other))
    assert "The planned network" in page
    assert f"nnU-Net, seed 1: from the sums of {place_name('alpha')}, {place_name('beta')}" in page
    assert "Pixels 96 x 96 half of the images are smaller" in page
    assert "two devices do not say their scale" in page
    assert "The planned network" not in text_of(write_report(folder))


def test_a_federations_run_has_nobody_to_compare_by(deployed: Path, folder: Path) -> None:
    with pytest.raises(RunError, match="no person's scores"):
        compare_runs(folder, deployed)


# --- two comparisons --------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_on_the_same_people(folder: Path, worse: Path, tmp_path: Path) -> None:
    found = compare_runs(folder, worse, tmp_path)
    assert isinstance(found, MuscleComparison)
    by = {(one.arm, one.muscle): one for one in found.differences}
    assert by["federated", ""].value.value == pytest.approx(-0.03)
    assert by["federated", ""].people == 12
    same = by["pooled", "biceps_brachii"].value
    assert (same.value, same.low, same.high) == (0, 0, 0)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(terminal(found))
    assert "SYNTHETIC run (first)" in capture.get()
    rows = list(csv.DictReader((tmp_path / "compare.csv").read_text().splitlines()))
    assert len(rows) == 30
    assert "SYNTHETIC" in (tmp_path / "compare.html").read_text()


def test_means_are_of_the_seeds_that_both_runs_have(folder: Path, worse: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    copytree(folder, more)
    stored = json.loads((more / "results.json").read_text())
    stored["rows"] += [{**row, "seed": 2, "value": 0.1} for row in stored["rows"]]
    (more / "results.json").write_text(json.dumps(stored))
    found = compare_runs(more, worse, tmp_path)
    assert isinstance(found, MuscleComparison)
    for one in found.differences:
        assert one.second - one.first == pytest.approx(one.value.value), "what stands in one line adds up"
    assert "Only seed 1: the other run lacks the rest." in text_of(tmp_path / "compare.html")


def test_people_of_another_seed_are_others(folder: Path, tmp_path: Path) -> None:
    found = compare_runs(folder, muscle_run(tmp_path / "other", seed=2))
    assert isinstance(found, MuscleComparison)
    (own,) = [one for one in found.differences if (one.arm, one.muscle) == ("federated", "")]
    assert own.people == 0
    assert own.value.low < own.value.value < own.value.high


def test_who_compares_other_squares_of_the_images_is_warned(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "results.json").read_text())["meta"]["study"]
    wider = {**stored, "image": {**stored["image"], "window_mm": 80.0}}
    found = compare_runs(folder, changed(folder, tmp_path / "wider", study=wider))
    assert isinstance(found, MuscleComparison)
    (said,) = found.warnings
    assert f"window_mm = {stored['image']['window_mm']}; wider: image.window_mm = 80.0" in said
    assert "image.size" not in said
    assert not compare_runs(folder, changed(folder, tmp_path / "same")).warnings


def test_muscles_are_not_compared_with_a_diagnosis(folder: Path, tmp_path: Path) -> None:
    other = changed(folder, tmp_path / "diagnosis", study={"label": {"column": "sarcopenia"}})
    assert not finds_muscles(read_results(other))
    with pytest.raises(RunError, match=r"finds muscles and .* a diagnosis"):
        compare_runs(other, folder)
