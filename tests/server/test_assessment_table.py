"""What a coordinator reads of the sites' own assessments: their numbers, with n, and nothing that they withhold."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import server.cli
from sarco_models.metrics import auc_interval
from sarco_models.scores import ParticipantScores
from sarco_models.site_evaluation import SiteEvaluation
from server.assessment_table import HEADINGS, rows, sentences
from server.runs import Run
from simulation.harness import Arm, SiteFolder, run_arm
from tests.people import named, true_probabilities
from tests.sites import tables_site, tables_study


@pytest.fixture
def people() -> dict[str, ParticipantScores]:
    rng = np.random.default_rng(5)
    sizes = {"alpha": (30, 70), "beta": (25, 30), "gamma": (2, 40)}
    return {name: named(true_probabilities(*n, 0.8, rng)) for name, n in sizes.items()}


def test_a_row_holds_the_sites_own_numbers(people: dict[str, ParticipantScores]) -> None:
    found = {name: SiteEvaluation.of(p, 0.3, min_cell=3) for name, p in people.items()}
    alpha, beta, gamma = (dict(zip(HEADINGS, row, strict=True)) for row in rows(found))
    exact = auc_interval(people["beta"].scores, people["beta"].labels)
    assert beta["AUC"] == f"{exact.value:.3f}\n{exact.low:.3f} to {exact.high:.3f}"
    assert (alpha["people"], alpha["cases"]) == ("100", "30")
    calls = people["alpha"].scores[people["alpha"].labels] >= 0.3
    assert alpha["sensitivity"].startswith(f"{calls.sum()}/30 = ")
    assert [gamma[heading] for heading in HEADINGS] == ["gamma", "42", *4 * ["withheld"]]


def test_the_sites_together_are_said_with_their_limits_and_their_number(people: dict[str, ParticipantScores]) -> None:
    found = {name: SiteEvaluation.of(p, 0.3, min_cell=3) for name, p in people.items()}
    said = sentences(found, 0.3)
    assert "AUC over 2 sites, random effects (Hartung-Knapp): " in said[1]
    assert any("does not mean that the sites agree" in sentence for sentence in said)
    shown = [f.found for f in found.values() if f.found]
    expected = f"n = {sum(calls.right + calls.wrong for calls in shown)}"
    assert any(s.startswith(f"sensitivity over {len(shown)} site") and s.endswith(expected) for s in said), said
    assert "AUC of all 155 people together" in said[-1]


def test_sites_that_withhold_everything_are_said_to(people: dict[str, ParticipantScores]) -> None:
    said = sentences({"gamma": SiteEvaluation.of(people["gamma"], 0.3, min_cell=3)}, 0.3)
    assert any(sentence.startswith("no AUC over sites") for sentence in said)
    assert said[-1].startswith("no AUC of all people together")


def test_show_prints_the_sites_assessments_and_who_gave_none(tmp_path: Path) -> None:
    for seed, name in enumerate(("alpha", "beta")):
        tables_site(tmp_path / name, 80, seed)
    sites = tuple(SiteFolder(name, tmp_path / name, "invented2026") for name in ("alpha", "beta"))
    study = tables_study(training={"learning_rate": 0.02})
    arm = Arm("federated", study, sites, None, tmp_path / "cache", tmp_path / "run")
    run_arm(arm)
    told = CliRunner().invoke(server.cli.app, ["show", str(arm.folder)]).stdout
    run = Run.open(arm.folder)
    assert run.assessments is not None
    for row in rows(run.assessments):
        assert all(line in told for cell in row for line in cell.split("\n")), told
    assert "the threshold rests on alpha, beta: 96 training participants, 32 of them cases" in told
    run.assess({}, {"failures": {"beta": "refused: task_not_allowed"}})
    told = CliRunner().invoke(server.cli.app, ["show", str(arm.folder)]).stdout
    assert "not assessed by beta: refused: the hospital's policy does not allow this task" in told
    (arm.folder / "assessments.json").unlink()
    told = CliRunner().invoke(server.cli.app, ["show", str(arm.folder)]).stdout
    assert "the sites have not assessed it yet: run the same command again" in told
