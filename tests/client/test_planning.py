"""A hospital sees what it would tell for a plan before anything leaves; the page holds its numbers and nothing else."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from client.allowing import lacking
from client.cli import app
from client.ledger import BudgetConfig
from client.policy import Policy, Refusal, check
from client.preview.planning import planning_page
from client.study_words import missing
from client.suitability import count
from client.worker_desk import Desk
from sarco_models.errors import ConfigError
from sarco_models.parameters import Manifest, Parameters
from sarco_models.summaries import Moments
from sarco_models.uncovered import uncovered
from sarco_models.wire import Describe, Setup
from tests.muscle_sites import muscle_site, muscle_study

SITE = """\
name = "alpha"
data = "data"
study = "draft.json"
cache = "cache"
label_rule = "none"
[policy]
approved_studies = ["{digest}"]
tasks = {tasks}
statistics = {statistics}
min_training_participants = 2
min_sites = 1
unprotected_training = true
plain_updates = true
[budget]
lifetime_epsilon = "unlimited"
study_epsilon = "unlimited"
"""
DRAFT = muscle_study(segmentation={"network": "nnunet"})
NOTHING = Moments(*(np.zeros(0, dtype=kind) for kind in (np.int64, np.float64, np.float64, np.float64, np.float64)))


def hospital(folder: Path, tasks: str = '["Describe"]', statistics: str = '["sums"]') -> tuple[Path, Path]:
    """A study file and a site.toml."""
    muscle_site(folder / "data", 8)
    (folder / "draft.json").write_text(DRAFT.model_dump_json(), encoding="utf-8")
    text = SITE.format(digest=DRAFT.digest, tasks=tasks, statistics=statistics)
    (folder / "site.toml").write_text(text, encoding="utf-8")
    return folder / "draft.json", folder / "site.toml"


def test_the_page_shows_every_piece_and_what_can_be_computed_from_it(tmp_path: Path) -> None:
    shown = planning_page(*hospital(tmp_path))
    assert "would leave, once" in shown
    assert "Your site.toml allows every request of this study." in shown
    for piece in ("moments.count", "moments.total", "moments.squares", "participants", "training"):
        assert piece in shown
    assert ">grey_sd</th>" in shown
    assert "M000" not in shown, "nobody's name"
    assert not (tmp_path / "state").exists(), "the hospital's own state is not touched"


def test_what_the_policy_keeps_is_said_to_stay(tmp_path: Path) -> None:
    shown = planning_page(*hospital(tmp_path, statistics="[]"))
    assert "STAYS (statistics: &#34;sums&#34; is not among them" in shown
    assert "Nothing: no sum leaves." in shown
    assert "add sums" in shown


def test_a_refusal_of_today_is_the_first_thing_said(tmp_path: Path) -> None:
    shown = planning_page(*hospital(tmp_path, tasks='["Train"]'))
    assert "Nothing of this study would leave today" in shown
    assert "add Describe" in shown


def test_the_command_writes_the_page_for_the_hospital_alone(tmp_path: Path) -> None:
    study, site = hospital(tmp_path)
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["preview", str(study), "--site", str(site), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.stat().st_mode & 0o077 == 0
    assert "for the plan of: A tiny study of muscles" in out.read_text()


def test_a_hospital_without_people_to_train_on_is_told_why(tmp_path: Path) -> None:
    study, site = hospital(tmp_path)
    (tmp_path / "data/calibration.csv").unlink()  # no spacing: in physical framing nothing can be trained on
    with pytest.raises(ConfigError, match=r"cannot answer Describe of tiny_muscles, whatever it allows: .*at least 2"):
        planning_page(study, site)


def test_people_are_counted_for_a_study_without_a_plan_as_for_any(tmp_path: Path) -> None:
    _, site = hospital(tmp_path)
    assert count(str(site), DRAFT.model_dump_json())["training"] == 6


# ---- what it asks a hospital to allow --------------------------------------------------------------------------------


def test_a_plan_asks_for_sums_and_for_nothing_that_training_needs() -> None:
    needs = missing(DRAFT, Manifest.of({}), Policy(), BudgetConfig())
    assert [need.key for need in needs] == [
        "tasks", "statistics", "unprotected_training", "min_sites", "budget.study_epsilon", "budget.lifetime_epsilon",
    ]  # fmt: skip
    whys = " ".join(need.why for need in needs)
    assert "the study lets sums leave without noise" in whys
    assert "the study is planned with 1" in whys
    assert "own update" not in whys, "no update is made"
    assert "trains" not in whys
    keys = {change.key for change in lacking(DRAFT, needs, {"policy": {}}).changes}
    assert not keys & {"metrics", "plain_updates", "parameters"}


def test_what_a_policy_lets_out_for_a_plan_is_no_update() -> None:
    allowing = Policy.model_validate(
        {
            "approved_studies": (DRAFT.digest,),
            "tasks": ("Describe", "Setup"),
            "min_sites": 1,
            "unprotected_training": True,
            "plain_updates": False,
        }
    )
    check(Describe(DRAFT.digest), allowing, DRAFT)
    with pytest.raises(Refusal, match="unprotected_training: is false, and the study lets sums leave"):
        check(Describe(DRAFT.digest), allowing.model_copy(update={"unprotected_training": False}), DRAFT)
    with pytest.raises(Refusal, match="it asks for sums only"):
        check(Setup(DRAFT.digest, Parameters.pack({}), NOTHING), allowing, DRAFT)


def test_no_epsilon_covers_the_counts_and_exact_sums_of_a_plan() -> None:
    said = " ".join(uncovered(DRAFT))
    assert "Sums over the sizes and grey levels" in said
    for word in ("Dice", "update", "probe", "weights"):
        assert word not in said, "nothing is trained"


def test_a_worker_opens_a_study_without_a_plan(tmp_path: Path) -> None:
    """There is no network that it could make ready."""
    _, site = hospital(tmp_path)
    with ExitStack() as locks:
        desk = Desk(site, locks, lambda done, total: None)
        assert desk.status()["study"] == DRAFT.digest
        assert desk.limit > 0
