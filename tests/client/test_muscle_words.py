"""A hospital reads of a study that finds muscles what it does with its outlines, and nothing of labels and cases."""

from pathlib import Path
from typing import Any

import pytest

from client.allowing import lacking, rule_open
from client.policy import Policy
from client.preview.permission import stays, too_few
from client.preview.words import meaning, what
from client.site_folder import Beginning, make
from client.study_words import asked_for, missing, sections
from client.suitability import labels
from client.workspace import open_site
from sarco_models.config import StudyConfig
from sarco_models.messages import Evaluated, Measured
from sarco_models.parameters import Manifest
from sarco_models.payload import parts_of
from sarco_models.uncovered import uncovered
from tests.muscle_sites import muscle_site, muscle_study
from tests.sites import tables_study

MANIFEST = Manifest(("trained.head",), ((4,),))
PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3, "statistics": "withheld"},
    "training": {"local_steps": 1, "optimizer": "sgd", "learning_rate": 0.05},
}
OPEN = Policy.model_validate(
    {
        "tasks": ("Describe", "Setup", "Train", "Evaluate", "Measure", "Probe"),
        "metrics": ("loss", "dice"),
        "statistics": ("sums", "histogram", "assessment", "leakage"),
        "min_cell": 5,
    }
)
OF_LABELS = (" cases:", "AUC on", "label rule", "who has", "score histogram", "tables are scaled", "condition")


def text(study: StudyConfig, policy: Policy = OPEN) -> str:
    return "\n".join(sentence for part in sections(study, MANIFEST, policy) for sentence in part.sentences)


def test_a_hospital_reads_which_muscles_and_what_leaves() -> None:
    said = text(muscle_study())
    for words in ("biceps brachii, triceps and rectus femoris", "rectus femoris (rectus_femoris, RF, 3)", "No mask"):
        assert words in said, words
    assert "Metrics that your policy lets out: loss, dice" in said
    assert "logarithms of area, aspect and convexity, nothing of fewer than 5 people" in said
    assert "Dice, IoU, distances" in said
    for words in OF_LABELS:
        assert words not in said, words


def test_what_the_policy_keeps_is_not_said_to_leave() -> None:
    closed = OPEN.model_copy(update={"metrics": (), "statistics": ()})
    said = text(muscle_study(), closed)
    assert "logarithms" not in said
    assert "Dice of each muscle" not in said
    for statistic in ("sums", "histogram", "assessment", "leakage"):
        assert f"Withheld by your policy: {statistic}." in said


def test_a_private_study_keeps_exact_sums_of_shapes() -> None:
    said = text(muscle_study(**PRIVATE))
    assert "No sums of shapes and no counts by score" in said
    assert "logarithms" not in said
    needs = {m.write for m in missing(muscle_study(**PRIVATE), MANIFEST, Policy()) if m.key == "statistics"}
    assert needs == {"add assessment", "add leakage"}
    exact = muscle_study(**{**PRIVATE, "privacy": {**PRIVATE["privacy"], "statistics": "exact"}})
    assert "WITHOUT noise" in text(exact)


def test_measures_are_asked_for_in_place_of_an_assessment() -> None:
    assert "Measure" in asked_for(muscle_study())
    assert "Assess" not in asked_for(muscle_study())
    whys = " ".join(m.why for m in missing(muscle_study(), MANIFEST, Policy()))
    assert "shapes of your training participants' drawn muscles" in whys
    assert "threshold" not in whys


def test_the_network_is_named_as_it_is() -> None:
    assert "U-Net around convnext_atto" in text(muscle_study())
    plan = {
        "patch": (32, 32), "mm_per_pixel": 1.0, "features": (8, 16), "grey_mean": 80.0, "grey_sd": 30.0,
    }  # fmt: skip
    image = {"framing": "physical", "window_mm": 32.0, "size": 32}
    planned = muscle_study(segmentation={"network": "nnunet", "plan": plan}, image=image)
    assert "nnU-Net, of the study's plan" in text(planned)
    assert "convnext" not in text(planned)
    assert "sees 32 mm along a side, as 32 pixels of 1.00 mm, in 2 stages of 8 and 16 features" in text(planned)
    assert "scaled by 80.0 +- 30.0" in text(planned)
    assert "How its network was planned" in [part.heading for part in sections(planned, MANIFEST, OPEN)]
    assert "How its network was planned" not in [part.heading for part in sections(muscle_study(), MANIFEST, OPEN)]
    assert "What a run begins with: random numbers" in " ".join(uncovered(planned)), (
        "no encoder that was trained before"
    )


def test_dice_is_offered_as_the_metric_that_may_leave() -> None:
    study = muscle_study()
    changes = {c.key: c.value for c in lacking(study, missing(study, MANIFEST, Policy()), {"policy": {}}).changes}
    assert changes["metrics"] == ["dice"]
    assert "label_rule" not in changes


def test_nobody_is_asked_how_labels_were_made(tmp_path: Path) -> None:
    assert not rule_open(muscle_study(), {"label_rule": "not_said_yet"})
    assert rule_open(tables_study(label={"column": "frail", "rule": "invented", "allow_mixed_rules": True}), {})
    data = muscle_site(tmp_path / "data", 12)
    folder = make(tmp_path / "alpha", Beginning("alpha", data))
    (folder.path / "study.json").write_text(muscle_study().model_dump_json())
    assert labels(folder, muscle_study()).level == "ok"
    assert open_site(folder.site_file).label_rule == muscle_study().label.rule


def test_no_epsilon_covers_measures_and_shapes() -> None:
    said = " ".join(uncovered(muscle_study()))
    assert "Sums of the shapes of muscles" in said
    assert "Loss and Dice" in said
    assert "shapes" not in " ".join(uncovered(muscle_study(**PRIVATE)))
    assert "rule behind the labels" not in said


# ---- the preview -----------------------------------------------------------------------------------------------------

EVALUATED = Evaluated("alpha", 2, 12, {"dice": 0.8, "biceps.dice.n": 6.0, "biceps.log_aspect.mean": 1.0}, None)


def kept(reply: Evaluated | Measured, policy: Policy) -> dict[str, str]:
    found = {part.name: stays(part, reply, policy, muscle_study()) for part in parts_of(reply) if part.kind == "metric"}
    return {name: why for name, why in found.items() if why}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"metrics": ("loss",)}, {"metrics.dice", "metrics.biceps.dice.n"}),
        ({"statistics": ("histogram",)}, {"metrics.biceps.log_aspect.mean"}),
    ],
)
def test_every_figure_follows_the_key_of_its_kind(changes: dict[str, Any], names: set[str]) -> None:
    assert set(kept(EVALUATED, OPEN.model_copy(update=changes))) == names


def test_measures_of_an_allowed_assessment_leave_whole() -> None:
    assert kept(Measured("alpha", 6, {"biceps.dice.mean": 0.8}), OPEN.model_copy(update={"metrics": ()})) == {}


def test_what_is_absent_is_said_muscle_by_muscle() -> None:
    lines = too_few(EVALUATED, OPEN, muscle_study())
    assert any(line.startswith("histogram: fewer than min_cell = 5") for line in lines)
    assert {line.split(":")[0] for line in lines} == {
        "histogram", "everything of triceps", "everything of rectus femoris",
    }  # fmt: skip
    private = too_few(EVALUATED, OPEN, muscle_study(**PRIVATE))
    assert "the study is private" in private[0]


@pytest.mark.parametrize(
    ("request_", "piece"),
    [
        ("Describe", "training_positive"),
        ("Evaluate", "metrics.biceps.dice.mean"),
        ("Evaluate", "metrics.biceps.log_area_cm2.sd"),
        ("Evaluate", "histogram.negatives"),
        ("Measure", "metrics.biceps.hd95_mm.mean"),
        ("Measure", "metrics.biceps.csa_cm2.ab"),
        ("Measure", "metrics.biceps.thickness_mm.n"),
        ("Measure", "participants"),
    ],
)
def test_every_piece_has_a_sentence(request_: str, piece: str) -> None:
    words = meaning(request_, piece, muscle_study(), 5)
    assert words.endswith(".")
    assert "{" not in words


def test_requests_are_told_as_they_are_in_this_study() -> None:
    assert "No sums over tables" in what("Describe", muscle_study())
    assert "shapes of the muscles" in what("Evaluate", muscle_study())
    assert "which are exact, stay here" in what("Evaluate", muscle_study(**PRIVATE))
    assert "sums over the tables" in what("Describe", tables_study())
